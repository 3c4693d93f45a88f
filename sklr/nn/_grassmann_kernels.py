"""One step on a product of Grassmann manifolds, class by class, in the cache.

Bases are copied to rows of length D, so that inner loops run along the long axis.
"""

import math

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _dot(a, i, b, j):
    """Product of row `i` of `a` and row `j` of `b`; sums may be taken lane by lane."""
    total = a.dtype.type(0)
    for d in range(a.shape[1]):
        total += a[i, d] * b[j, d]
    return total


@nb.njit(cache=True, nogil=True)
def _product(A, B, out):
    """Product of two small square matrices."""
    k = A.shape[0]
    for i in range(k):
        for j in range(k):
            total = 0.0
            for m in range(k):
                total += A[i, m] * B[m, j]
            out[i, j] = total


@nb.njit(cache=True, nogil=True)
def _cos_sinc(A, C, N, work):
    """Write cos(sqrt(A)) and sin(sqrt(A)) / sqrt(A) of a positive semidefinite matrix.

    Taylor series in A, whose norm is halved until they converge in a few terms, and formulas of
    the double angle. `A` is overwritten.
    """
    k = A.shape[0]
    square = 0.0
    for i in range(k):
        for j in range(k):
            square += A[i, j] * A[i, j]
    halvings = 0
    norm = math.sqrt(square)
    while norm > 0.25:
        norm *= 0.25
        halvings += 1
    shrink = 0.25**halvings
    for i in range(k):
        for j in range(k):
            A[i, j] *= shrink
    # Terms below 1e-17: norm ** m / (2 m)!.
    terms = 1
    term = 1.0
    while term > 1e-17 and terms < 12:
        term *= norm / ((2 * terms - 1) * (2 * terms))
        terms += 1
    for i in range(k):
        for j in range(k):
            C[i, j] = 0.0
            N[i, j] = 0.0
    for m in range(terms - 1, -1, -1):
        # Horner: C <- I c_m + A C, with the common factor of successive coefficients taken out.
        if m < terms - 1:
            _product(A, C, work)
            factor = -1.0 / ((2 * m + 1) * (2 * m + 2))
            for i in range(k):
                for j in range(k):
                    C[i, j] = factor * work[i, j]
            _product(A, N, work)
            factor = -1.0 / ((2 * m + 2) * (2 * m + 3))
            for i in range(k):
                for j in range(k):
                    N[i, j] = factor * work[i, j]
        for i in range(k):
            C[i, i] += 1.0
            N[i, i] += 1.0
    for _ in range(halvings):
        _product(N, C, work)
        _product(C, C, A)
        for i in range(k):
            for j in range(k):
                N[i, j] = work[i, j]
                C[i, j] = 2.0 * A[i, j]
            C[i, i] -= 1.0


@nb.njit(cache=True, nogil=True)
def _combine(St, C, Ht, N, lr, R):
    """Write C^T St - lr N^T Ht, row by row along the long axis."""
    k, D = St.shape
    for j in range(k):
        for d in range(D):
            R[j, d] = 0.0
        for i in range(k):
            along = St.dtype.type(C[i, j])
            across = St.dtype.type(lr * N[i, j])
            for d in range(D):
                R[j, d] += along * St[i, d] - across * Ht[i, d]


@nb.njit(cache=True, nogil=True)
def _gram(A, B, out):
    k = A.shape[0]
    for i in range(k):
        for j in range(k):
            out[i, j] = _dot(A, i, B, j)


@nb.njit(cache=True, nogil=True, fastmath={"contract"})
def step_classes(S, M, lr, reorthonormalise):
    """Move each basis of `S` (C, D, k), in place, along minus the horizontal part of `M`."""
    n_classes, D, k = S.shape
    St = np.empty((k, D), S.dtype)
    Ht = np.empty((k, D), S.dtype)
    R = np.empty((k, D), S.dtype)
    G = np.empty((k, k))
    C = np.empty((k, k))
    N = np.empty((k, k))
    work = np.empty((k, k))
    for c in range(n_classes):
        for d in range(D):
            for j in range(k):
                St[j, d] = S[c, d, j]
                Ht[j, d] = M[c, d, j]
        _gram(St, Ht, G)
        for i in range(k):
            for j in range(k):
                C[i, j] = 1.0 if i == j else 0.0
        _combine(Ht, C, St, G, 1.0, R)  # the horizontal part
        _gram(R, R, G)
        for i in range(k):
            for j in range(k):
                G[i, j] *= lr * lr
        _cos_sinc(G, C, N, work)
        _combine(St, C, R, N, lr, Ht)
        if reorthonormalise:
            # One Newton step towards the nearest orthonormal basis, of the same span.
            _gram(Ht, Ht, G)
            for i in range(k):
                for j in range(k):
                    C[i, j] = 1.5 if i == j else 0.0
                    N[i, j] = 0.5 * G[i, j]
            _combine(Ht, C, Ht, N, 1.0, R)
            for d in range(D):
                for j in range(k):
                    S[c, d, j] = R[j, d]
        else:
            for d in range(D):
                for j in range(k):
                    S[c, d, j] = Ht[j, d]


def _warm_up():
    for dtype in (np.float32, np.float64):
        S = np.linalg.qr(np.ones((1, 4, 1)))[0].astype(dtype)
        step_classes(S, np.ones_like(S), 0.1, True)
