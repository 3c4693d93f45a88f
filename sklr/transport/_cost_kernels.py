"""Costs between points, block by block (Numba)."""

import numpy as np

from sklr.utils._compile import njit


@njit(fastmath={"contract"})
def squared_distances(X, Yt, out):
    """Write squared Euclidean distances; `Yt` (d, m) has the second points by columns."""
    for i in range(X.shape[0]):
        row = out[i]
        for j in range(row.shape[0]):
            row[j] = 0.0
        for k in range(X.shape[1]):
            x, y = X[i, k], Yt[k]
            for j in range(row.shape[0]):
                row[j] += (x - y[j]) * (x - y[j])


@njit(fastmath={"contract"})
def city_block_distances(X, Yt, out):
    """Write sums of absolute differences; `Yt` (d, m) has the second points by columns."""
    for i in range(X.shape[0]):
        row = out[i]
        for j in range(row.shape[0]):
            row[j] = 0.0
        for k in range(X.shape[1]):
            x, y = X[i, k], Yt[k]
            for j in range(row.shape[0]):
                row[j] += abs(x - y[j])


def _warm_up():
    X, Yt, out = np.zeros((2, 2)), np.zeros((2, 3)), np.empty((2, 3))
    squared_distances(X, Yt, out)
    city_block_distances(X, Yt, out)
