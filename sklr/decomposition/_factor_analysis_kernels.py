"""Many small symmetric matrices inverted at once, by Numba: for tables where it pays to compile."""

import numpy as np

from sklr.utils._compile import njit


def invert_in_place(A, log_det):
    """Invert positive definite matrices (k, k, n) by symmetric sweeps, n last: SIMD over them.

    Half of the entries are worked on, in the lower triangle; log determinants are written too.
    """
    _invert(A, log_det, np.empty(A.shape[1:]), np.empty(A.shape[2]))


@njit
def _invert(A, log_det, column, inverse):
    k, n = column.shape
    for i in range(n):
        log_det[i] = 0.0
    for j in range(k):
        for i in range(n):
            log_det[i] += np.log(A[j, j, i])
            inverse[i] = 1.0 / A[j, j, i]
        for a in range(k):
            for i in range(n):
                column[a, i] = A[max(a, j), min(a, j), i]
        for a in range(k):
            if a == j:
                continue
            for b in range(a + 1):
                if b == j:
                    continue
                for i in range(n):
                    A[a, b, i] -= column[a, i] * inverse[i] * column[b, i]
        for a in range(k):
            if a != j:
                for i in range(n):
                    A[max(a, j), min(a, j), i] = column[a, i] * inverse[i]
        for i in range(n):
            A[j, j, i] = -inverse[i]
    for a in range(k):
        for b in range(a + 1):
            for i in range(n):
                A[a, b, i] = -A[a, b, i]
                if a != b:
                    A[b, a, i] = A[a, b, i]


def _warm_up():
    invert_in_place(np.ones((1, 1, 1)), np.empty(1))
