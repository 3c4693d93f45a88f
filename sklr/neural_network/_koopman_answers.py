"""What a fitted Koopman estimator answers: latents, states, forecasts, a score."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from sklr.neural_network._koopman_forecast import errors_by_step
from sklr.neural_network._koopman_network import TrainedForm
from sklr.neural_network._koopman_trajectories import forecast_starts, read_trajectories
from sklr.utils._warnings import warn_user


class KoopmanAnswers(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TrainedForm):
    """Methods of the fitted estimator that take states."""

    horizon: int
    n_components_: int

    def transform(self, X: Any) -> Any:
        """Return the latents of states.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features), or a stack or list of such
            States.

        Returns
        -------
        Z : ndarray of shape (n_steps, n_components_), or a stack or list of such
            Latents.
        """
        check_is_fitted(self)
        read = read_trajectories(self, X, reset=False)
        container = _get_output_config("transform", self)["dense"]
        if read.layout != "table" and container != "default":
            raise ValueError(
                f"set_output(transform={container!r}) is for one table, and X is a {read.layout} "
                "of trajectories: set it to 'default', or transform each trajectory"
            )
        return read.laid_out(self._dynamics.lift(self._scaling.scaled(read.states)))

    def inverse_transform(self, Z: Any) -> Any:
        """Return the states of latents.

        Parameters
        ----------
        Z : array-like of shape (n_steps, n_components_), or a stack or list of such
            Latents.

        Returns
        -------
        X : ndarray of shape (n_steps, n_features), or a stack or list of such
            States, in their own units.
        """
        check_is_fitted(self)
        read = read_trajectories(self, Z, reset=False, checked=False)
        if read.states.shape[1] != self.n_components_:
            raise ValueError(
                f"Z has {read.states.shape[1]} columns, and there are {self.n_components_} latents"
            )
        return read.laid_out(self._scaling.unscaled(self._dynamics.states_of(read.states)))

    def predict(self, X: Any, n_steps: int = 1) -> Any:
        """Forecast from every state; the state so many steps later is returned.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features), or a stack or list of such
            States.
        n_steps : int, default=1
            Steps.

        Returns
        -------
        X_later : ndarray of shape (n_states, n_features), or a stack or list of such
            States, in their own units.
        """
        check_is_fitted(self)
        _check_steps(n_steps)
        read = read_trajectories(self, X, reset=False)
        S = self._scaling.scaled(read.states)
        for states in self._dynamics.run(S, n_steps, self.relift_):
            last = states
        self._warn_of_lost(last, n_steps)
        return read.laid_out(self._scaling.unscaled(last))

    def forecast(self, X: Any, n_steps: int, relift: bool | None = None) -> np.ndarray:
        """Forecast from initial states; all states on the way are returned.

        Parameters
        ----------
        X : array-like of shape (n_initial, n_features)
            Initial states.
        n_steps : int
            Steps.
        relift : bool, default=None
            Whether to go through the states at each step; None is `relift_`.

        Returns
        -------
        trajectories : ndarray of shape (n_initial, n_steps, n_features)
            States, in their own units; the first is one step after the initial one.
        """
        check_is_fitted(self)
        _check_steps(n_steps)
        read = read_trajectories(self, X, reset=False)
        if read.layout != "table":
            raise ValueError(
                "forecast takes initial states, (n_initial, n_features), not trajectories"
            )
        if not (relift is None or isinstance(relift, (bool, np.bool_))):
            raise ValueError(f"relift must be True, False or None, got {relift!r}")
        S = self._scaling.scaled(read.states)
        through = self.relift_ if relift is None else bool(relift)
        out = np.empty((len(S), n_steps, read.states.shape[1]))
        for step, states in enumerate(self._dynamics.run(S, n_steps, through)):
            out[:, step] = self._scaling.unscaled(states)
        self._warn_of_lost(out[:, -1], n_steps)
        return out

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the error of forecasts, mean over `horizon` steps.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_features), or a stack or list of such
            Trajectories; forecasts start at up to 100 of their states.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Minus the root mean squared error in standard deviations of the training states, mean
            over the steps; -1000 at least.
        """
        check_is_fitted(self)
        read = read_trajectories(self, X, reset=False, shortest=2)
        S = self._scaling.scaled(read.states)
        rows, ahead = forecast_starts(read.bounds, self.horizon)
        at = range(1, int(ahead.max()) + 1)
        variance = self._variance
        return -float(
            errors_by_step(self._dynamics, S, rows, ahead, self.relift_, at, variance).mean()
        )

    def _warn_of_lost(self, states: np.ndarray, n_steps: int) -> None:
        lost = int(np.isnan(states).any(axis=1).sum())
        if lost:
            largest = float(np.abs(self.koopman_eigenvalues_).max())
            warn_user(
                f"{lost} of {len(states)} forecasts left the floating point numbers within "
                f"{n_steps} steps and are NaN from there (largest eigenvalue {largest:.3g}); "
                "forecast fewer steps, or fit with spectral_radius=1, a larger ridge or another "
                "relift",
                RuntimeWarning,
            )


def _check_steps(n_steps: Any) -> None:
    if isinstance(n_steps, bool) or not isinstance(n_steps, Integral) or n_steps < 1:
        raise ValueError(f"n_steps must be an integer of at least 1, got {n_steps!r}")
