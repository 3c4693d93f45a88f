"""Regression of a field on the features of its points: hyperparameters, posterior, errors."""

import numpy as np
from scipy.linalg import solve_triangular

from sklr.gaussian_process._model_error import model_error, usual_share
from sklr.gaussian_process._weight_space import (
    factor,
    log_likelihood,
    moments_of,
    optimise,
    spectral_weights,
)
from sklr.geometry._neighbors_graph import nearest_neighbors

_EPS = np.finfo(float).eps


class FieldRegression:
    """Part of VectorFieldGPRegressor: hyperparameters, posterior, and what it does not hold."""

    def _regress(self, node, y):
        """Find hyperparameters and the posterior of the weights."""
        r = len(self.eigenvalues_)
        self.y_mean_ = float(np.nanmean(y)) if self._scalar else 0.0
        y = y - self.y_mean_
        G, b, yy, count = np.zeros((r, r)), np.zeros(r), 0.0, 0
        known = ~np.isnan(y.reshape(len(y), -1))
        labelled = np.flatnonzero(known.any(axis=1))
        for rows in self._batches(labelled):
            Phi = self._node_features(node[rows]).reshape(-1, r)
            some = known[rows].ravel()
            Phi, target = Phi[some], y[rows].ravel()[some]
            G += Phi.T @ Phi
            b += Phi.T @ target
            yy += float(target @ target)
            count += len(target)
        if not self._scalar:
            # Where neither points nor vectors go there is nothing to observe: a cloud in a
            # subspace, or with constant features, gives what it gives without the rest.
            count = max(1, round(count * self._ambient_dim(y) / y.shape[1]))
        moments = moments_of(G, b, yy, count)
        centred = self.nodes_ - self.nodes_.mean(axis=0)
        diameter = 2.0 * float(np.sqrt((centred**2).sum(axis=1).max()))
        nu = 1.5 if self.nu == "auto" else float(self.nu)
        length = 0.2 * diameter if self.length_scale is None else float(self.length_scale)
        variance, noise = float(self.variance), float(self.noise)
        if self.optimizer is not None and yy <= count * (8 * _EPS * self.y_mean_) ** 2:
            # A constant: the likelihood grows without end as variance and noise go to zero.
            self.length_scale_, self.nu_, self.variance_, self.noise_ = length, nu, 0.0, 0.0
            self.log_marginal_likelihood_value_ = np.inf
            self._mean, self._spread = np.zeros(r), np.zeros((r, r))
            self.model_error_, self._far_variance, self._reach = 0.0, 0.0, length
            self._directions = np.eye(1 if self._scalar else y.shape[1])
            return
        if self.optimizer is not None and yy > 0:
            length, nu, variance, noise, _ = optimise(
                moments,
                self.eigenvalues_,
                kernel=self.kernel,
                nu=self.nu,
                diameter=diameter,
                n_restarts=self.n_restarts,
            )
        weights, _, _ = spectral_weights(self.eigenvalues_, self.kernel, length, nu)
        d = variance * weights
        L, w = factor(moments, d, noise)
        self.length_scale_, self.nu_ = float(length), float(nu)
        self.variance_, self.noise_ = float(variance), float(noise)
        self.log_marginal_likelihood_value_ = float(log_likelihood(moments, d, noise)[0])
        # f = features @ (mean + spread @ z) for standard normal z.
        root = np.sqrt(d)
        self._mean = root * w
        half = solve_triangular(L, np.eye(r), lower=True, check_finite=False)
        self._spread = np.sqrt(noise) * root[:, None] * half.T
        self._estimate_errors(node, y, known, diameter, yy / count)

    def _estimate_errors(self, node, y, known, diameter, mean_square):
        """Find what the posterior does not hold: the model error, and the variance far away."""
        y = y.reshape(len(y), -1)
        n, d = len(self.nodes_), y.shape[1]
        total, count = np.zeros((n, d)), np.zeros((n, d))
        for rows in self._batches(np.flatnonzero(known.any(axis=1))):
            gap = y[rows] - self._node_features(node[rows]).reshape(len(rows), d, -1) @ self._mean
            np.add.at(total, node[rows], np.where(known[rows], gap, 0.0))
            np.add.at(count, node[rows], known[rows])
        some = np.flatnonzero(count.any(axis=1))
        residuals = np.divide(total, count, out=np.full((n, d), np.nan), where=count > 0)[some]

        def posterior(rows):
            return self._node_features(some[rows]).reshape(len(rows), d, -1) @ self._spread

        self._far_variance = max(float(self.variance_), mean_square)
        self._reach = min(self.length_scale_, 0.2 * diameter)
        self._directions = np.eye(1)
        if not self._scalar:
            # Where neither points nor vectors go there is nothing to be unsure of.
            seen = y[known.all(axis=1)]
            parts = [self.nodes_ - self.nodes_.mean(axis=0), seen if len(seen) else np.eye(d)]
            sizes = [np.abs(part).max(initial=0.0) for part in parts]
            rows = np.concatenate([part / size for part, size in zip(parts, sizes) if size > 0])
            values, vectors = np.linalg.eigh(rows.T @ rows)
            kept = vectors[:, values > len(rows) * np.finfo(float).eps * values[-1]]
            self._directions = kept @ kept.T
        n_dims = max(1, round(np.trace(self._directions)))
        field = max(mean_square - self.noise_, 0.0)
        if self._scalar:
            smooth = self.nodes_ - self.nodes_.mean(axis=0)
        else:
            smooth = self.frames_.transpose(0, 2, 1).reshape(len(self.eigenvectors_), -1)
        usual = usual_share(smooth, self.eigenvectors_)
        self.model_error_ = model_error(
            self.nodes_[some], residuals, posterior, n_dims, field, usual, n_jobs=self.n_jobs
        )

    def _extra_covariance(self, X):
        """Covariances beyond the posterior's: of the model error, and growing away from nodes."""
        distances, indices = nearest_neighbors(self.nodes_, 1, queries=X, n_jobs=self.n_jobs)
        size = self._sizes[indices[:, 0]]
        beyond = np.maximum(distances[:, 0] - size, 0.0) / max(self._reach, np.finfo(float).tiny)
        share = -np.expm1(-(np.minimum(beyond, 1e3) ** 2))
        variance = self.model_error_ + share * self._far_variance
        return variance[:, None, None] * self._directions

    def _ambient_dim(self, y):
        """Dimension of the subspace in which the points and their vectors lie."""
        unknown = np.isnan(y)
        some = unknown.any(axis=1)
        if (some & ~unknown.all(axis=1)).any():
            return y.shape[1]
        parts = (self.nodes_ - self.nodes_.mean(axis=0), y[~some])
        sizes = [np.abs(part).max(initial=0.0) for part in parts]
        rows = np.concatenate([part / size for part, size in zip(parts, sizes) if size > 0])
        gram = rows.T @ rows if len(rows) > rows.shape[1] else rows @ rows.T
        values = np.linalg.eigvalsh(gram)
        return int(np.count_nonzero(values > len(rows) * np.finfo(float).eps * values[-1]))
