"""Polynomials of a sparse matrix times a block of columns (Numba): the action of heat."""

import numpy as np

from sklr.utils._compile import njit


@njit(fastmath={"contract"})
def _multiply(indptr, indices, data, scale, X, Y):
    """Write scale * A X - Y into Y."""
    n, width = X.shape
    row = np.empty(width)
    for i in range(n):
        row[:] = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            value = data[p]
            source = X[indices[p]]
            for c in range(width):
                row[c] += value * source[c]
        target = Y[i]
        for c in range(width):
            target[c] = scale * row[c] - target[c]


@njit(fastmath={"contract"})
def chebyshev(indptr, indices, data, coefficients, B, first, last, out):
    """Add sum_k c_k(t) T_k(A) B to `out` for each time, for some of the columns.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR of A, symmetric, with spectrum in [-1, 1].
    coefficients : ndarray of shape (n_times, n_terms)
        Chebyshev coefficients; zeros are passed over.
    B : ndarray of shape (n, m)
        Columns to act on.
    first, last : int
        The columns of this call; others are left alone, for other threads.
    out : ndarray of shape (n_times, n, m)
        Zero at the start.
    """
    n = B.shape[0]
    n_times, n_terms = coefficients.shape
    current = B[:, first:last].copy()
    other = np.zeros_like(current)
    for k in range(n_terms):
        if k == 1:
            # other becomes A B, then the roles change.
            _multiply(indptr, indices, data, 1.0, current, other)
            current, other = other, current
        elif k > 1:
            _multiply(indptr, indices, data, 2.0, current, other)
            current, other = other, current
        for time in range(n_times):
            c = coefficients[time, k]
            if c != 0.0:
                for i in range(n):
                    target = out[time, i]
                    source = current[i]
                    for j in range(last - first):
                        target[first + j] += c * source[j]


@njit(fastmath={"contract"})
def powers(indptr, indices, data, weights, B, first, last, out):
    """Add sum_k w_k A^k B to `out`; with A, w and B non-negative nothing cancels.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR of A.
    weights : ndarray of shape (n_terms,)
        The weights w.
    B : ndarray of shape (n, m)
        Columns to act on.
    first, last : int
        The columns of this call.
    out : ndarray of shape (n, m)
        Zero at the start.
    """
    n = B.shape[0]
    current = B[:, first:last].copy()
    other = np.zeros_like(current)
    for k in range(len(weights)):
        if k > 0:
            other[:] = 0.0
            _multiply(indptr, indices, data, 1.0, current, other)
            current, other = other, current
        w = weights[k]
        if w != 0.0:
            for i in range(n):
                target = out[i]
                source = current[i]
                for j in range(last - first):
                    target[first + j] += w * source[j]


@njit
def hop_depth(indptr, indices, source, depth, queue):
    """Breadth-first search; returns the last vertex reached and the number of levels.

    `depth` and `queue` are work space of n integers.
    """
    depth[:] = -1
    depth[source] = 0
    queue[0] = source
    head, tail = 0, 1
    while head < tail:
        i = queue[head]
        head += 1
        for p in range(indptr[i], indptr[i + 1]):
            j = indices[p]
            if depth[j] < 0:
                depth[j] = depth[i] + 1
                queue[tail] = j
                tail += 1
    last = queue[tail - 1]
    return last, depth[last]


def _warm_up():
    indptr = np.array([0, 1, 2], dtype=np.int32)
    indices = np.array([1, 0], dtype=np.int32)
    data = np.ones(2)
    B = np.eye(2)
    chebyshev(indptr, indices, data, np.ones((1, 3)), B, 0, 2, np.zeros((1, 2, 2)))
    powers(indptr, indices, data, np.ones(3), B, 0, 2, np.zeros((2, 2)))
    hop_depth(indptr, indices, 0, np.empty(2, dtype=np.int64), np.empty(2, dtype=np.int64))
