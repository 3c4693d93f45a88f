"""One step on a product of Grassmann manifolds, class by class, in the cache.

Bases are copied to rows of length D, so that inner loops run along the long axis.
"""

import math

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True, fastmath={"contract", "reassoc"})
def _gram(A, B, out, symmetric):
    """Write the products of the rows of `A` and `B`; two at a time, summed lane by lane."""
    k, D = A.shape
    for i in range(k):
        for j in range(i if symmetric else 0, k, 2):
            other = min(j + 1, k - 1)
            first = A.dtype.type(0)
            second = A.dtype.type(0)
            for d in range(D):
                first += A[i, d] * B[j, d]
                second += A[i, d] * B[other, d]
            out[i, j] = first
            out[i, other] = second
            if symmetric:
                out[j, i] = first
                out[other, i] = second


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
def _cos_sinc(A, C, N, work, eps):
    """Write cos(sqrt(A)) and sin(sqrt(A)) / sqrt(A) of a positive semidefinite matrix.

    Taylor series in A, whose norm is halved until they converge in a few terms, and formulas of
    the double angle. Terms below `eps` are left out. `A` is overwritten.
    """
    k = A.shape[0]
    square = 0.0
    for i in range(k):
        for j in range(k):
            square += A[i, j] * A[i, j]
    halvings = 0
    norm = math.sqrt(square)
    if not math.isfinite(norm):  # halving it would never end
        C[:] = math.nan
        N[:] = math.nan
        return
    while norm > 0.25:
        norm *= 0.25
        halvings += 1
    shrink = 0.25**halvings
    for i in range(k):
        for j in range(k):
            A[i, j] *= shrink
    terms = 1
    term = 1.0  # norm ** m / (2 m)!
    while term > eps and terms < 12:
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


@nb.njit(cache=True, nogil=True, fastmath={"contract"})
def _combine(St, P, Mt, Q, out):
    """Write P^T St - Q^T Mt, row by row along the long axis, two rows of each at a time."""
    k, D = St.shape
    for j in range(k):
        for d in range(D):
            out[j, d] = 0
        for i in range(0, k, 2):
            other = min(i + 1, k - 1)
            twice = St.dtype.type(0 if other == i else 1)
            p, q = St.dtype.type(P[i, j]), St.dtype.type(Q[i, j])
            p2, q2 = twice * St.dtype.type(P[other, j]), twice * St.dtype.type(Q[other, j])
            for d in range(D):
                out[j, d] += (p * St[i, d] - q * Mt[i, d]) + (p2 * St[other, d] - q2 * Mt[other, d])


@nb.njit(cache=True, nogil=True)
def step_classes(S, M, lr, reorthonormalise):
    """Move each basis of `S` (C, D, k), in place, along minus the horizontal part of `M`.

    That part, H = M - S G with G = S^T M, is never formed: its Gram matrix is M^T M - G^T G, and
    S cos - lr H sinc = S (cos + lr G sinc) - lr M sinc.
    """
    n_classes, D, k = S.shape
    eps = 1e-17 if S.itemsize == 8 else 1e-9
    # Rows of a multiple of 256 would fall on each other in the cache: some zeros behind them.
    length = D if D % 256 else D + 16
    St = np.zeros((k, length), S.dtype)
    Mt = np.zeros((k, length), S.dtype)
    R = np.zeros((k, length), S.dtype)
    G = np.empty((k, k))
    A = np.empty((k, k))
    P = np.empty((k, k))
    Q = np.empty((k, k))
    work = np.empty((k, k))
    for c in range(n_classes):
        for d in range(D):
            for j in range(k):
                St[j, d] = S[c, d, j]
                Mt[j, d] = M[c, d, j]
        _gram(St, Mt, G, False)
        _gram(Mt, Mt, A, True)
        for i in range(k):
            for j in range(k):
                total = A[i, j]
                for m in range(k):
                    total -= G[m, i] * G[m, j]
                work[i, j] = lr * lr * total
        for i in range(k):
            for j in range(k):
                A[i, j] = work[i, j]
        _cos_sinc(A, P, Q, work, eps)
        _product(G, Q, work)
        for i in range(k):
            for j in range(k):
                P[i, j] += lr * work[i, j]
                Q[i, j] *= lr
        _combine(St, P, Mt, Q, R)
        if reorthonormalise:
            # One Newton step towards the nearest orthonormal basis, of the same span.
            _gram(R, R, G, True)
            for i in range(k):
                for j in range(k):
                    P[i, j] = 1.5 if i == j else 0.0
                    Q[i, j] = 0.5 * G[i, j]
            _combine(R, P, R, Q, St)
            for d in range(D):
                for j in range(k):
                    S[c, d, j] = St[j, d]
        else:
            for d in range(D):
                for j in range(k):
                    S[c, d, j] = R[j, d]


def _warm_up():
    for dtype in (np.float32, np.float64):
        S = np.linalg.qr(np.ones((1, 4, 1)))[0].astype(dtype)
        step_classes(S, np.ones_like(S), 0.1, True)
