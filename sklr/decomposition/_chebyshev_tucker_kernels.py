"""What evaluates a Chebyshev-Tucker function at a block of points, beside matrix products (Numba).

The points of a block are the last axis of every array. Loops over single entries compile in a
fifth of the time that slices and array assignments take.
"""

import numpy as np

from sklr.utils._compile import njit


@njit(fastmath={"contract"})
def polynomials(X, starts, T):
    """Write the Chebyshev polynomials of each column of `X` (block, d) into rows of `T`.

    Those of column k, of degree 0 and up, go to the rows from starts[k] to starts[k + 1].
    """
    block, d = X.shape
    for k in range(d):
        first, last = starts[k], starts[k + 1]
        for p in range(block):
            T[first, p] = 1.0
            if last > first + 1:
                T[first + 1, p] = X[p, k]
        for j in range(first + 2, last):
            for p in range(block):
                T[j, p] = 2.0 * T[first + 1, p] * T[j - 1, p] - T[j - 2, p]


@njit(fastmath={"contract"})
def contract(W, F, offsets, ranks, index, sums):
    """Add the next rows `W` (rows, block) of the core, multiplied along its last axis.

    sums[k] collects the sum over the ranks of axis k and those after it. `index` says where on
    the other axes the next row is, and goes on as an odometer does, sums being carried up.
    """
    rows, block = W.shape
    last = len(ranks) - 1
    for row in range(rows):
        if last == 0:
            for p in range(block):
                sums[0, p] = W[row, p]
            continue
        k = last - 1
        f = offsets[k] + index[k]
        for p in range(block):
            sums[k, p] += F[f, p] * W[row, p]
        index[k] += 1
        while index[k] == ranks[k] and k > 0:
            index[k] = 0
            k -= 1
            f = offsets[k] + index[k]
            for p in range(block):
                sums[k, p] += F[f, p] * sums[k + 1, p]
                sums[k + 1, p] = 0.0
            index[k] += 1


def _warm_up():
    polynomials(np.zeros((2, 1)), np.array([0, 3]), np.empty((3, 2)))
    offsets, ranks, index = np.array([0, 1]), np.array([1, 2]), np.zeros(2, dtype=np.int64)
    contract(np.ones((1, 2)), np.ones((3, 2)), offsets, ranks, index, np.zeros((2, 2)))
