"""What a Koopman estimator says of its operator: eigenfunctions, modes, information."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr.neural_network._koopman_forecast import Dynamics, Scaling
from sklr.neural_network._koopman_trajectories import Trajectories, read_trajectories
from sklr.utils._imports import import_optional


class KoopmanSpectrum:
    """Eigenvalues, modes and eigenfunctions of ``self._dynamics``."""

    dt: float
    _dynamics: Dynamics
    _scaling: Scaling

    def _set_spectrum(self, Z: np.ndarray, S: np.ndarray, pairs: Any) -> None:
        """Set what follows from the operator, latents `Z` of states `S`, and pairs of latents."""
        self._set_eigenvalues()
        K = self.koopman_operator_
        C = self._dynamics.C
        if C is None:
            some = np.hstack([Z, np.ones((len(Z), 1))])
            C = np.linalg.lstsq(some, S, rcond=None)[0][:-1]
        modes = self._vectors.T @ C
        axes = self._scaling.axes
        self.modes_ = (modes if axes is None else modes @ axes.T) * self._scaling.scale
        centred = Z - Z.mean(axis=0)
        self._covariance = centred.T @ centred / len(Z)
        now, later = pairs
        left = later - now @ K.T
        self._noise = left.T @ left / len(left)
        trace = np.trace(self._covariance)
        p = np.linalg.eigvalsh(self._covariance) / (trace if trace > 0 else 1.0)
        p = p[p > 1e-12]
        self.effective_dimension_ = float(np.exp(-(p * np.log(p)).sum()))

    def _set_eigenvalues(self) -> None:
        K = self.koopman_operator_ = self._dynamics.K
        values, vectors = np.linalg.eig(K)
        order = np.argsort(-np.abs(values), kind="stable")
        values = self.koopman_eigenvalues_ = values[order].astype(complex)
        self._vectors = vectors[:, order].astype(complex)
        # By parts: NumPy's complex logarithm of 0 over a number is not a number.
        rates = np.empty_like(values)
        with np.errstate(divide="ignore"):
            rates.real = np.log(np.abs(values)) / self.dt
        rates.imag = np.angle(values) / self.dt
        self.continuous_eigenvalues_ = rates

    def eigenfunctions(self, X: Any) -> Any:
        """Return the values of the Koopman eigenfunctions at states.

        Along a trajectory of the fitted linear system each is multiplied by its eigenvalue in a
        step. The mean state plus the sum of eigenfunctions times `modes_` is what
        ``inverse_transform`` makes of the latents (exactly where the decoder is linear and without
        an offset, as it is for dictionaries): the state, unless `instruments_`.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features), or a stack or list of such
            States.

        Returns
        -------
        values : complex ndarray of shape (n_steps, n_components), or a stack or list of such
            In the order of `koopman_eigenvalues_`.
        """
        check_is_fitted(self)
        read = read_trajectories(self, X, reset=False)
        Z = self._dynamics.lift(self._scaling.scaled(read.states))
        return read.laid_out(Z @ np.linalg.pinv(self._vectors).T)

    def mutual_information(self, n_steps: int = 1) -> float:
        """Return the mutual information of latents and those some steps later, if Gaussian.

        Parameters
        ----------
        n_steps : int, default=1
            Steps between.

        Returns
        -------
        information : float
            Nats. A millionth of the mean variance is added to the noise of a step: without noise
            the information has no bound.
        """
        check_is_fitted(self)
        torch = import_optional("torch", extra="torch", feature="mutual_information")
        from sklr.nn import gaussian_latent_mutual_information

        size = np.trace(self._covariance) / len(self._covariance)
        eye = np.eye(len(self._covariance))
        noise = self._noise + 1e-6 * (size if size > 0 else 1.0) * eye
        arrays = self.koopman_operator_, self._covariance, noise
        given = [torch.tensor(a, dtype=torch.float64) for a in arrays]
        return float(gaussian_latent_mutual_information(*given, n_steps))


def pairs_of(dynamics: Dynamics, S: np.ndarray, rows: np.ndarray) -> Any:
    """Return latents now and a step later, of at most so many rows as a product is quick for."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), 5000)).astype(int)]
    return dynamics.lift(S[some]), dynamics.lift(S[some + 1])


__all__ = ["KoopmanSpectrum", "Trajectories", "pairs_of"]
