"""Polynomials of a sparse matrix times a block of columns (Numba): the action of heat."""

import numpy as np

from sklr.utils._compile import inner, njit


@inner(fastmath={"contract"})
def _multiply(indptr, indices, data, scale, X, Y, row):
    """Write scale * A X - Y into Y."""
    n, width = X.shape
    for i in range(n):
        for c in range(width):
            row[c] = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            value, j = data[p], indices[p]
            for c in range(width):
                row[c] += value * X[j, c]
        for c in range(width):
            Y[i, c] = scale * row[c] - Y[i, c]


@njit(fastmath={"contract"})
def chebyshev(indptr, indices, data, coefficients, current, other, row, first, out):
    """Add sum_k c_k(t) T_k(A) B to `out` for each time, for some of the columns of B.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR of A, symmetric, with spectrum in [-1, 1].
    coefficients : ndarray of shape (n_times, n_terms)
        Chebyshev coefficients; zeros are passed over.
    current : ndarray of shape (n, width)
        The columns of this call; overwritten. Others are left alone, for other threads.
    other : ndarray of shape (n, width)
        Zeros; overwritten.
    row : ndarray of shape (width,)
        Room.
    first : int
        Number of the first of these columns in `out`.
    out : ndarray of shape (n_times, n, m)
        Zero at the start.
    """
    n, width = current.shape
    n_times, n_terms = coefficients.shape
    for k in range(n_terms):
        if k > 0:
            # At first other becomes A B; then the roles change.
            _multiply(indptr, indices, data, 1.0 if k == 1 else 2.0, current, other, row)
            current, other = other, current
        for time in range(n_times):
            c = coefficients[time, k]
            if c != 0.0:
                for i in range(n):
                    for j in range(width):
                        out[time, i, first + j] += c * current[i, j]


@njit(fastmath={"contract"})
def powers(indptr, indices, data, weights, current, other, row, first, out):
    """Add sum_k w_k A^k B to `out`; with A, w and B non-negative nothing cancels.

    Parameters
    ----------
    indptr, indices, data : ndarray
        CSR of A.
    weights : ndarray of shape (n_terms,)
        The weights w.
    current, other, row, first
        As those of `chebyshev`.
    out : ndarray of shape (n, m)
        Zero at the start.
    """
    n, width = current.shape
    for k in range(len(weights)):
        if k > 0:
            for i in range(n):
                for j in range(width):
                    other[i, j] = 0.0
            _multiply(indptr, indices, data, 1.0, current, other, row)
            current, other = other, current
        w = weights[k]
        if w != 0.0:
            for i in range(n):
                for j in range(width):
                    out[i, first + j] += w * current[i, j]


@njit
def hop_depth(indptr, indices, source, depth, queue):
    """Breadth-first search; returns the last vertex reached and the number of levels.

    `depth` and `queue` are work space of n integers.
    """
    for i in range(len(depth)):
        depth[i] = -1
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
    room = np.eye(2), np.zeros((2, 2)), np.empty(2)
    chebyshev(indptr, indices, data, np.ones((1, 3)), *room, 0, np.zeros((1, 2, 2)))
    powers(indptr, indices, data, np.ones(3), *room, 0, np.zeros((2, 2)))
    hop_depth(indptr, indices, 0, np.empty(2, dtype=np.int64), np.empty(2, dtype=np.int64))
