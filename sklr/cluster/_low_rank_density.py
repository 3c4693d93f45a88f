"""What follows in closed form from a fitted mixture of low-rank Gaussians."""

from numbers import Integral, Real

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from sklr.cluster._low_rank_mixture import LowRankMixture
from sklr.utils._validation import validate_data


class LowRankDensity:
    """Densities, denoiser and samples of a fitted mixture; the other half is its fit."""

    def predict_proba(self, X, sigma=None):
        """Return the probability of each cluster given noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one.
        """
        X = self._checked(X)
        return self._mixture().posterior(X, self._noise_of(sigma, len(X)))

    def denoise(self, X, sigma=None):
        """Return the mean of the clean samples given noisy ones.

        Samples that are scaled and noisy, ``s x + g e``, are denoised by
        ``denoise(X / s, g / s)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        clean : ndarray of shape (n_samples, n_features)
            Posterior means: nearest projections for small `sigma`, the overall mean for large.
        """
        X = self._checked(X)
        return self.mean_ + self._mixture().denoise(X, self._noise_of(sigma, len(X)))

    def score_samples(self, X, sigma=None):
        """Return the log-density of noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Natural logarithms.
        """
        X = self._checked(X)
        return logsumexp(self._mixture().log_joint(X, self._noise_of(sigma, len(X))), axis=1)

    def score(self, X, y=None):
        """Return the mean log-density at the noise found in `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        y : None
            Ignored.

        Returns
        -------
        score : float
            Mean over samples.
        """
        return float(self.score_samples(X).mean())

    def bic(self, X):
        """Return the Bayesian information criterion: the lower, the better the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        bic : float
            Minus twice the log-likelihood, plus the logarithm of `n_samples` for each parameter.
        """
        likelihood = self.score_samples(X)
        return float(self._n_parameters() * np.log(len(likelihood)) - 2.0 * likelihood.sum())

    def aic(self, X):
        """Return the Akaike information criterion: the lower, the better the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        aic : float
            Minus twice the log-likelihood, plus two for each parameter.
        """
        return float(2.0 * self._n_parameters() - 2.0 * self.score_samples(X).sum())

    def _n_parameters(self):
        """Count free numbers: subspaces, spectra, weights, noise, and means where there are."""
        dims, p = self.n_components_, self.n_features_in_
        subspaces = int((dims * (p - dims)).sum())
        if self.spectrum == "full":  # axes inside the subspaces, and variances along them
            subspaces += int((dims * (dims - 1) // 2 + dims).sum())
        fixed = self.noise_variance != "auto"
        n_means = {False: 0, True: 1}.get(self.center_, len(dims))
        return subspaces + len(dims) - 1 + (not fixed) + p * n_means

    def sample(self, n_samples=1, method="exact", *, n_steps=40, sigma_min=0.002, sigma_max=80.0):
        """Draw new samples.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        method : {"exact", "diffusion"}, default="exact"
            Draw from the mixture, or run the deterministic diffusion sampler (EDM: Heun's
            method) from pure noise with the closed-form denoiser. Both have one distribution.
        n_steps : int, default=40
            Noise levels of the diffusion sampler. With EDM's 18 the variances come out 9 % too
            large, with 40 they are right to 2 %.
        sigma_min : float, default=0.002
            Its smallest noise level, in units of the largest signal's standard deviation.
        sigma_max : float, default=80.0
            Its largest, in the same units.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Samples, with the noise found in `fit`.
        y : ndarray of shape (n_samples,)
            Their clusters.
        """
        check_is_fitted(self)
        self._check_sampler(n_samples, method, n_steps, sigma_min, sigma_max)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        rng, mixture = np.random.default_rng(seed), self._mixture()
        if method == "exact":
            X, labels = mixture.draw(n_samples, self.noise_variance_, rng)
        else:
            unit = float(np.sqrt(mixture.spectrum.max())) or 1.0
            if self._means is not None:  # noise must cover the distances of means too
                apart = self._means - mixture.weights @ self._means
                sigma_max *= max(1.0, float(np.sqrt((apart**2).sum(axis=1).max())) / unit)
            X, labels = mixture.draw_by_diffusion(
                n_samples,
                self.noise_variance_,
                rng,
                n_steps=n_steps,
                sigma_min=sigma_min * unit,
                sigma_max=sigma_max * unit,
            )
        return self.mean_ + X, labels

    def jacobian_rank(self, X, sigma=None, *, energy=0.99):
        """Return the numerical rank of the denoiser's Jacobian at noisy samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.
        energy : float, default=0.99
            The rank is the number of leading singular values whose root sum of squares reaches
            this share of all.

        Returns
        -------
        rank : ndarray of shape (n_samples,)
            At most the sum of the dimensions; the dimension of one subspace where a sample
            clearly belongs to it.
        """
        if not 0 < energy <= 1:
            raise ValueError(f"energy must be in (0, 1], got {energy!r}.")
        X = self._checked(X)
        _, J = self._mixture().jacobian(X, self._noise_of(sigma, len(X)))
        power = np.cumsum(np.linalg.eigvalsh(J)[:, ::-1] ** 2, axis=1)
        reached = power >= (energy**2 - 1e-12) * power[:, -1:]
        return reached.argmax(axis=1) + 1

    def semantic_directions(self, X, sigma=None, *, n_directions=1):
        """Return the directions in which the denoised sample moves most with the noisy one.

        They are singular vectors of the denoiser's Jacobian; ``denoise(x) + alpha * direction``
        edits a sample and stays near its subspace.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples.
        sigma : float or array-like of shape (n_samples,), default=None
            Standard deviation of their noise; by default the one found in `fit`.
        n_directions : int, default=1
            How many.

        Returns
        -------
        directions : ndarray of shape (n_samples, n_directions, n_features)
            Unit vectors, the largest singular value first.
        values : ndarray of shape (n_samples, n_directions)
            Singular values.
        """
        X = self._checked(X)
        common, J = self._mixture().jacobian(X, self._noise_of(sigma, len(X)))
        if not 1 <= n_directions <= len(common):
            raise ValueError(
                f"n_directions must be from 1 to {len(common)}, the dimension of all subspaces "
                f"together, got {n_directions!r}."
            )
        values, vectors = np.linalg.eigh(J)
        values = values[:, ::-1][:, :n_directions]
        return np.swapaxes(vectors[:, :, ::-1][:, :, :n_directions], 1, 2) @ common, values

    def _checked(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        return X - self.mean_

    def _noise_of(self, sigma, n_samples):
        """Return the noise variance for a standard deviation, not below rounding."""
        if sigma is None:
            return self.noise_variance_
        sigma = np.asarray(sigma, dtype=np.float64)
        if sigma.shape not in ((), (n_samples,)) or not (sigma >= 0).all():
            raise ValueError(
                "sigma must be a number >= 0 or one for each of the "
                f"n_samples={n_samples}, got {sigma if sigma.ndim == 0 else sigma.shape}."
            )
        if not np.isfinite(sigma).all():
            raise ValueError("sigma must be finite.")
        return np.maximum(sigma**2, 1e-4 * self._floor)

    def _mixture(self):
        return LowRankMixture(
            list(self.components_), self.signal_variances_, self.weights_, self._means
        )

    @staticmethod
    @validate_params(
        {
            "n_samples": [Interval(Integral, 1, None, closed="left")],
            "method": [StrOptions({"exact", "diffusion"})],
            "n_steps": [Interval(Integral, 1, None, closed="left")],
            "sigma_min": [Interval(Real, 0, None, closed="neither")],
            "sigma_max": [Interval(Real, 0, None, closed="neither")],
        },
        prefer_skip_nested_validation=True,
    )
    def _check_sampler(n_samples, method, n_steps, sigma_min, sigma_max):
        if sigma_min >= sigma_max:
            raise ValueError(f"sigma_min={sigma_min:g} must be below sigma_max={sigma_max:g}.")
