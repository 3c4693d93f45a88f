"""Nearest prototypes in a block of squared distances, and averages around them (Numba)."""

import numpy as np

from sklr.utils._compile import njit


def smallest_of_rows(products, half_norms, indices):
    """Write the columns of the k smallest entries of half_norms - products of each row.

    Parameters
    ----------
    products : ndarray of shape (n, m)
        Inner products of points and prototypes.
    half_norms : ndarray of shape (m,)
        Half the squared norms of the prototypes.
    indices : ndarray of shape (n, k)
        Result, nearest first.
    """
    _smallest_of_rows(products, half_norms, indices, np.empty(indices.shape[1], products.dtype))


@njit
def _smallest_of_rows(products, half_norms, indices, best):
    """Do what `smallest_of_rows` does; `best` (k,) is room."""
    n, m = products.shape
    k = indices.shape[1]
    for i in range(n):
        for a in range(k):
            best[a] = np.inf
            indices[i, a] = 0
        worst = best[k - 1]
        for j in range(m):
            value = half_norms[j] - products[i, j]
            if value < worst:
                a = k - 1
                while a > 0 and best[a - 1] > value:
                    best[a] = best[a - 1]
                    indices[i, a] = indices[i, a - 1]
                    a -= 1
                best[a] = value
                indices[i, a] = j
                worst = best[k - 1]


@njit
def average_by_label(X, labels, sums, counts):
    """Add the rows of `X` to the sum of their label."""
    n, p = X.shape
    for i in range(n):
        label = labels[i]
        counts[label] += 1
        for c in range(p):
            sums[label, c] += X[i, c]


def interpolate(X, prototypes, positions, indices, ridge, out):
    """Place points by barycentric weights of their nearest prototypes.

    The weights sum to one and minimise |x - sum w_j p_j|^2 + ridge * sum w_j^2 r_j^2 with r_j
    the distance to the prototype: a point on a prototype gets its position, and far ones count
    for little.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        The points.
    prototypes : ndarray of shape (m, p)
        The prototypes.
    positions : ndarray of shape (m, n_components)
        Where they are in the embedding.
    indices : ndarray of shape (n, k)
        Nearest prototypes of each point, nearest first.
    ridge : float
        Strength of the penalty.
    out : ndarray of shape (n, n_components)
        Result.
    """
    k, p = indices.shape[1], X.shape[1]
    room = np.empty((k, p)), np.empty((k, k)), np.empty(k)
    _interpolate(X, prototypes, positions, indices, ridge, out, *room)


@njit
def _interpolate(X, prototypes, positions, indices, ridge, out, gaps, G, w):
    """Do what `interpolate` does; behind `out` is room."""
    n, k = indices.shape
    p = X.shape[1]
    dim = positions.shape[1]
    for i in range(n):
        nearest = np.inf
        hit = 0
        for a in range(k):
            square = 0.0
            for c in range(p):
                gap = prototypes[indices[i, a], c] - X[i, c]
                gaps[a, c] = gap
                square += gap * gap
            G[a, a] = square
            if square < nearest:
                nearest = square
                hit = a
        if nearest <= 1e-300 or k == 1:
            for c in range(dim):
                out[i, c] = positions[indices[i, hit], c]
            continue
        for a in range(k):
            for b in range(a):
                total = 0.0
                for c in range(p):
                    total += gaps[a, c] * gaps[b, c]
                G[a, b] = total
        for a in range(k):
            G[a, a] *= 1.0 + ridge
        # Cholesky, lower, in place; then two triangular solves for a right side of ones.
        for a in range(k):
            for b in range(a + 1):
                total = G[a, b]
                for c in range(b):
                    total -= G[a, c] * G[b, c]
                if a == b:
                    G[a, a] = np.sqrt(total if total > 1e-300 else 1e-300)
                else:
                    G[a, b] = total / G[b, b]
        for a in range(k):
            total = 1.0
            for b in range(a):
                total -= G[a, b] * w[b]
            w[a] = total / G[a, a]
        for a in range(k - 1, -1, -1):
            total = w[a]
            for b in range(a + 1, k):
                total -= G[b, a] * w[b]
            w[a] = total / G[a, a]
        size = 0.0
        for a in range(k):
            size += w[a]
        for c in range(dim):
            total = 0.0
            for a in range(k):
                total += w[a] * positions[indices[i, a], c]
            out[i, c] = total / size


def _warm_up():
    X = np.arange(6.0).reshape(3, 2) ** 2
    indices = np.empty((3, 2), dtype=np.int64)
    X32 = X.astype(np.float32)
    smallest_of_rows(X32 @ X32.T, 0.5 * (X32**2).sum(axis=1), indices)
    average_by_label(X32, indices[:, 0].copy(), np.zeros((3, 2)), np.zeros(3, dtype=np.int64))
    interpolate(X + 0.5, X, X.copy(), indices, 0.1, np.empty((3, 2)))
