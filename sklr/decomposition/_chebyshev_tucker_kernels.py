"""Value of a Chebyshev-Tucker function at many points (Numba).

Points go in blocks that stay in the cache, as the last axis of every array: the polynomials of a
block by their recurrence, times the coefficients, times the core. No array of points by degrees is
there at any time.
"""

import numba as nb
import numpy as np

# Points of a block, and rows of the core that are multiplied with it at a time.
BLOCK = 128
ROWS = 512


@nb.njit(cache=True, nogil=True, fastmath={"contract"})
def polynomials(x, T):
    """Write the Chebyshev polynomials at `x` (block,) into the rows of `T` (m, block)."""
    m, block = T.shape
    T[0] = 1.0
    if m > 1:
        T[1] = x
    for j in range(2, m):
        new, one, two = T[j], T[j - 1], T[j - 2]
        for p in range(block):
            new[p] = 2.0 * x[p] * one[p] - two[p]


@nb.njit(cache=True, nogil=True, fastmath={"contract"})
def evaluate(X, V, starts, degrees, ranks, core, out):
    """Write the value at each row of `X` (n, d), scaled to [-1, 1], into `out` (n,).

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The points.
    V : ndarray of shape (sum of degrees times ranks,)
        Coefficients (r_k, m_k) of each axis, one after the other, from `starts`.
    starts, degrees, ranks : ndarray of shape (d,)
        Where the coefficients of an axis are, and how many.
    core : ndarray of shape (product of ranks but the last, last rank)
        The core.
    out : ndarray of shape (n,)
        Values.
    """
    n, d = X.shape
    block = min(BLOCK, n)
    offsets = np.zeros(d + 1, dtype=np.int64)
    for k in range(d):
        offsets[k + 1] = offsets[k] + ranks[k]
    T = np.empty((degrees.max(), block))
    F = np.empty((offsets[d], block))
    n_rows = core.shape[0]
    W = np.empty((min(ROWS, n_rows), block))
    x = np.zeros(block)
    # sums[k] collects the sum over the ranks of axis k and those after it.
    sums = np.empty((d, block))
    index = np.empty(d, dtype=np.int64)
    for start in range(0, n, block):
        width = min(block, n - start)
        for k in range(d):
            for p in range(width):
                x[p] = X[start + p, k]
            m, r = degrees[k], ranks[k]
            polynomials(x, T[:m])
            coefficients = V[starts[k] : starts[k] + m * r].reshape((r, m))
            np.dot(coefficients, T[:m], F[offsets[k] : offsets[k + 1]])
        sums[:] = 0.0
        index[:] = 0
        for first in range(0, n_rows, ROWS):
            last = min(first + ROWS, n_rows)
            np.dot(core[first:last], F[offsets[d - 1] :], W[: last - first])
            if d == 1:
                sums[0] = W[0]
                continue
            for row in range(last - first):
                # Carry the sum up as an odometer carries its digits.
                k = d - 2
                f, upper, lower = F[offsets[k] + index[k]], sums[k], W[row]
                for p in range(block):
                    upper[p] += f[p] * lower[p]
                index[k] += 1
                while index[k] == ranks[k] and k > 0:
                    index[k] = 0
                    k -= 1
                    f, upper, lower = F[offsets[k] + index[k]], sums[k], sums[k + 1]
                    for p in range(block):
                        upper[p] += f[p] * lower[p]
                        lower[p] = 0.0
                    index[k] += 1
        for p in range(width):
            out[start + p] = sums[0, p]


def _warm_up():
    starts, degrees, ranks = np.array([0, 2]), np.array([2, 3]), np.array([1, 2])
    evaluate(np.zeros((1, 2)), np.ones(8), starts, degrees, ranks, np.ones((1, 2)), np.empty(1))
