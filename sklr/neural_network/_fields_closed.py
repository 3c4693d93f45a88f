"""Fields to fields in closed form: where a network begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import lapack
from sklearn.metrics.pairwise import euclidean_distances

# Samples that the kernel is made of, at most: it costs their cube.
_MOST_SAMPLES = 2000
FEWEST_SAMPLES = 20
# What is tried: principal components of the input, widths of the kernel in root mean squared
# distances, penalties; judged on so many directions of the targets.
_COMPONENTS, _WIDTHS = (10, 30, 100, 300), (0.3, 1.0, 3.0, 10.0)
_PENALTIES = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
_DIRECTIONS = 64
# Squared distance, in mean squared ones, below which a sample is one of the training.
SAME = 1e-10


@dataclass
class KernelFields:
    """Kernel ridge regression on principal components, whose answers are held out where seen.

    A network that learns what these answers leave must see in training what it will see later:
    the answer for a training sample is therefore that of the regression without this sample, in
    training and in ``predict``.

    Attributes
    ----------
    x_mean, y_mean : ndarray
        Means of the input and of the targets.
    axes : ndarray of shape (n_features, n_components)
        Principal axes of the input.
    scores : ndarray of shape (n, n_components)
        Training samples on these axes.
    weights : ndarray of shape (n, n_targets)
        Weights of the training samples.
    held_out : ndarray of shape (n, n_targets)
        What each training sample has from the others.
    gamma : float
        Of the kernel exp(-gamma * squared distance).
    penalty : float
        On the diagonal of the kernel's matrix.
    nearest : float
        Squared distance below which a sample is one of the training.
    shape : tuple of int
        Of the targets of a sample.
    """

    x_mean: np.ndarray
    y_mean: np.ndarray
    axes: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    gamma: float
    penalty: float
    nearest: float
    shape: tuple[int, ...]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return targets (n, ...) of fields; those of a training sample are held out."""
        X = X.reshape(len(X), -1)
        distances = euclidean_distances((X - self.x_mean) @ self.axes, self.scores, squared=True)
        same = distances.argmin(axis=1)
        seen = distances[np.arange(len(X)), same] <= self.nearest
        made = np.exp(-self.gamma * distances) @ self.weights + self.y_mean
        made[seen] = self.held_out[same[seen]]
        return made.reshape(len(X), *self.shape)


def fit_closed_form(X: np.ndarray, y: np.ndarray, seed: int) -> KernelFields | None:
    """Return the closed form of `X` to `y` (n, ...), or None where there is none.

    Components, width and penalty are those of the least squared error of samples left out one by
    one, which the inverse of the kernel's matrix gives without another fit. Samples that are there
    several times are left out together.
    """
    shape = y.shape[1:]
    X, y = (part.reshape(len(part), -1) for part in (X, y))
    X, copies = np.unique(X, axis=0, return_inverse=True)
    if len(X) < len(y):
        sums = np.zeros((len(X), y.shape[1]))
        np.add.at(sums, copies, y)
        y = sums / np.bincount(copies)[:, None]
    else:
        y = y[np.argsort(copies)]
    if len(X) > _MOST_SAMPLES:
        kept = np.random.default_rng(seed).choice(len(X), _MOST_SAMPLES, replace=False)
        X, y = X[kept], y[kept]
    x_mean, y_mean = X.mean(axis=0), y.mean(axis=0)
    X, y = X - x_mean, y - y_mean
    spread, axes = _leading(X, _COMPONENTS[-1])
    few_spread, few = _leading(y, _DIRECTIONS)
    if not (len(X) >= FEWEST_SAMPLES and len(spread) and len(few_spread)):
        return None
    few = few * few_spread
    best, chosen = np.inf, None
    for i, n_components in enumerate(_COMPONENTS):
        if n_components > max(len(X) // 2, _COMPONENTS[0]):
            break
        if i and _COMPONENTS[i - 1] >= len(spread):  # no more are there
            break
        scores = (axes * spread)[:, :n_components]
        distances = euclidean_distances(scores, squared=True)
        usual = distances.mean()
        for width, penalty in product(_WIDTHS, _PENALTIES):
            gamma = float(0.5 / (width**2 * usual))
            inverse = _inverse(np.exp(-gamma * distances), penalty)
            if inverse is None:
                continue
            error = float(((inverse @ few / inverse.diagonal()[:, None]) ** 2).sum())
            if error < best:
                best, chosen = error, (n_components, gamma, penalty, SAME * float(usual))
    if chosen is None:
        return None
    n_components, gamma, penalty, nearest = chosen
    axes, spread = axes[:, :n_components], spread[:n_components]
    scores = axes * spread
    inverse = _inverse(np.exp(-gamma * euclidean_distances(scores, squared=True)), penalty)
    assert inverse is not None
    weights = inverse @ y
    return KernelFields(
        x_mean,
        y_mean,
        X.T @ (axes / spread),
        scores,
        weights,
        y - weights / inverse.diagonal()[:, None] + y_mean,
        gamma,
        penalty,
        nearest,
        shape,
    )


def averaged(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples without copies, means of the targets of copies, and which samples they are."""
    rows = X.reshape(len(X), -1)
    _, first, copies = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(X):
        return X, y, np.arange(len(X))
    sums = np.zeros((len(first), *y.shape[1:]))
    np.add.at(sums, copies.ravel(), y)
    order = np.argsort(first)
    counts = np.bincount(copies.ravel()).reshape(-1, *[1] * (y.ndim - 1))
    return X[first[order]], (sums / counts)[order], first[order]


def _leading(rows: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest singular values of rows and their left vectors, without those near 0."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, vectors = values[::-1][:n], vectors[:, ::-1][:, :n]
    kept = values > 1e-12 * max(float(values[0]), np.finfo(np.float64).tiny)
    return np.sqrt(values[kept]), vectors[:, kept]


def _inverse(kernel: np.ndarray, penalty: float) -> np.ndarray | None:
    """Return the inverse of a kernel's matrix with a penalty, or None where rounding forbids."""
    factor, failed = lapack.dpotrf(kernel + penalty * np.eye(len(kernel)), lower=1)
    if not failed:
        lower, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        return None
    return np.tril(lower) + np.tril(lower, -1).T
