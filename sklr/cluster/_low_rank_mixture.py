"""Closed forms of a mixture of low-rank Gaussians under isotropic noise.

Component k is N(m_k, U_k diag(s_k) U_k^T) with orthonormal rows ``bases[k]`` (d_k, p); noise of
variance g^2 is added in all p directions. Everything here follows from Gaussian conditioning.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass
class LowRankMixture:
    """Bases (d_k, p), variances (d_k,) along their rows, weights and means of the components.

    Means (n_components, p) are all zero where there are none.
    """

    bases: list
    variances: list
    weights: np.ndarray
    means: np.ndarray | None = None

    def __post_init__(self):
        self.dims = np.array([len(basis) for basis in self.bases])
        self.starts = np.concatenate([[0], np.cumsum(self.dims)[:-1]])
        self.stacked = np.concatenate(self.bases)
        self.spectrum = np.concatenate(self.variances)

    def coordinates(self, X):
        """Return the coordinates of each sample in each basis, (n_samples, sum of d_k)."""
        if self.means is None:
            return X @ self.stacked.T
        each = zip(self.bases, self.means, strict=True)
        return np.concatenate([(X - mean) @ basis.T for basis, mean in each], axis=1)

    def _squares(self, X):
        """Return squared distances from the means: a column for each, or one for all."""
        if self.means is None:
            return np.einsum("ij,ij->i", X, X)[:, None]
        return np.stack([((X - mean) ** 2).sum(axis=1) for mean in self.means], axis=1)

    def log_joint(self, X, noise, coordinates=None):
        """Return log(weight_k) + log density of component k, (n_samples, n_components).

        `noise` is the variance of the noise, one number or one a sample.
        """
        A = self.coordinates(X) if coordinates is None else coordinates
        noise = np.broadcast_to(np.asarray(noise, dtype=float), len(X))[:, None]
        gain = self.spectrum / (self.spectrum + noise) / noise
        captured = np.add.reduceat(A**2 * gain, self.starts, axis=1)
        volume = np.add.reduceat(np.log1p(self.spectrum / noise), self.starts, axis=1)
        rest = X.shape[1] * np.log(2 * np.pi * noise) + self._squares(X) / noise
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        return log_weights - 0.5 * (rest + volume - captured)

    def posterior(self, X, noise, coordinates=None):
        """Return the probability of each component given each noisy sample."""
        joint = self.log_joint(X, noise, coordinates)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    def _shrunk(self, X, noise):
        """Return posteriors and each component's posterior mean, in its coordinates."""
        A = self.coordinates(X)
        noise = np.broadcast_to(np.asarray(noise, dtype=float), len(X))
        shrink = self.spectrum / (self.spectrum + noise[:, None])
        return self.posterior(X, noise, A), shrink, shrink * A

    def denoise(self, X, noise):
        """Return the posterior mean of the clean sample."""
        W, _, means = self._shrunk(X, noise)
        clean = (np.repeat(W, self.dims, axis=1) * means) @ self.stacked
        return clean if self.means is None else clean + W @ self.means

    def jacobian(self, X, noise):
        """Return the denoiser's Jacobian: a common basis (m, p) and matrices (n_samples, m, m).

        The Jacobian is the posterior covariance of the clean sample over the noise variance:
        symmetric, and zero outside the span of all bases and differences of means.
        """
        span = self.stacked
        if self.means is not None:
            apart = self.means - self.means.mean(axis=0)
            lengths = np.linalg.norm(apart, axis=1, keepdims=True)
            span = np.concatenate([span, apart / np.where(lengths > 0, lengths, 1.0)])
        _, values, rows = np.linalg.svd(span, full_matrices=False)
        common = rows[values > 1e-10 * values[0]]
        inside = self.stacked @ common.T  # (sum of d_k, m)
        W, shrink, means = self._shrunk(X, noise)
        spread = np.repeat(W, self.dims, axis=1)
        noise = np.broadcast_to(np.asarray(noise, dtype=float), len(X))
        J = np.einsum("ni,ia,ib->nab", spread * shrink, inside, inside, optimize=True)
        centres = np.stack(
            [
                means[:, start : start + dim] @ inside[start : start + dim]
                for start, dim in zip(self.starts, self.dims, strict=True)
            ],
            axis=1,
        )  # (n_samples, n_components, m)
        if self.means is not None:
            centres += apart @ common.T
        centres -= np.einsum("nk,nkm->nm", W, centres)[:, None]
        scaled = centres * np.sqrt(W / noise[:, None])[:, :, None]
        J += np.einsum("nka,nkb->nab", scaled, scaled, optimize=True)
        return common, J

    def draw(self, n_samples, noise, rng):
        """Draw components, then samples of them; returns samples and components."""
        labels = rng.choice(len(self.bases), size=n_samples, p=self.weights)
        X = np.sqrt(noise) * rng.standard_normal((n_samples, self.stacked.shape[1]))
        for k, basis in enumerate(self.bases):
            mine = np.flatnonzero(labels == k)
            if len(mine):
                z = rng.standard_normal((len(mine), len(basis)))
                X[mine] += (z * np.sqrt(self.variances[k])) @ basis
        if self.means is not None:
            X += self.means[labels]
        return X, labels

    def draw_by_diffusion(self, n_samples, noise, rng, *, n_steps, sigma_min, sigma_max):
        """Integrate the probability-flow equation from pure noise, with Heun's method.

        The steps are those of the deterministic EDM sampler, exponent 7. The last one lands on
        the denoiser's output; the noise floor is then added as in `draw`.
        """
        ramp = np.arange(n_steps) / max(n_steps - 1, 1)
        low, high = sigma_min ** (1 / 7), sigma_max ** (1 / 7)
        sigmas = np.append((high + ramp * (low - high)) ** 7, 0.0)
        X = sigma_max * rng.standard_normal((n_samples, self.stacked.shape[1]))
        if self.means is not None:
            X += self.weights @ self.means
        for now, then in zip(sigmas[:-1], sigmas[1:], strict=True):
            slope = (X - self.denoise(X, now**2)) / now
            trial = X + (then - now) * slope
            if then > 0:
                slope = 0.5 * (slope + (trial - self.denoise(trial, then**2)) / then)
                trial = X + (then - now) * slope
            X = trial
        labels = self.posterior(X, sigma_min**2).argmax(axis=1)
        return X + np.sqrt(noise) * rng.standard_normal(X.shape), labels
