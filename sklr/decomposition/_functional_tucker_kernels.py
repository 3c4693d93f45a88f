"""Kalman filter and smoother of stacked Matern processes (Numba).

The state of a mode is its `rank` latent functions one after the other, each with its `p`
derivatives (p = nu + 1/2). What the data say about the functions at coordinate i comes as
``exp(-u' lam[i] u / 2 + eta[i]' u)``, which may be flat.
"""

import numpy as np

from sklr.utils._compile import inner, njit


def stationary(rate, variance, p):
    """Return the stationary covariance of one function and its derivatives, (p, p)."""
    P = np.zeros((p, p))
    P[0, 0] = variance
    if p == 2:
        P[1, 1] = rate * rate * variance
    elif p == 3:
        k = rate * rate * variance / 3.0
        P[1, 1] = k
        P[0, 2] = P[2, 0] = -k
        P[2, 2] = rate**4 * variance
    return P


def transitions(gaps, rate, p):
    """Return the matrices that carry the state over each gap, (n, p, p)."""
    x = np.minimum(rate * gaps, 750.0)  # beyond, exp(-x) is zero: independent of what was before
    e = np.exp(-x)
    A = np.empty((len(gaps), p, p))
    if p == 1:
        A[:, 0, 0] = e
        return A
    gaps = x / rate
    if p == 2:
        A[:, 0, 0] = e * (1.0 + x)
        A[:, 0, 1] = e * gaps
        A[:, 1, 0] = -e * rate * x
        A[:, 1, 1] = e * (1.0 - x)
        return A
    A[:, 0, 0] = e * (0.5 * x * x + x + 1.0)
    A[:, 0, 1] = e * gaps * (x + 1.0)
    A[:, 0, 2] = e * 0.5 * gaps * gaps
    A[:, 1, 0] = -0.5 * e * rate * x * x
    A[:, 1, 1] = e * (1.0 + x - x * x)
    A[:, 1, 2] = e * 0.5 * gaps * (2.0 - x)
    A[:, 2, 0] = e * rate * rate * x * (0.5 * x - 1.0)
    A[:, 2, 1] = e * rate * x * (x - 3.0)
    A[:, 2, 2] = e * (0.5 * x * x - 2.0 * x + 1.0)
    return A


@inner()
def eliminate(B, X):
    """Solve B Y = X in place of `X`, destroying `B`; returns log |det B|."""
    n, m = B.shape[0], X.shape[1]
    log_det = 0.0
    for j in range(n):
        best = j
        for i in range(j + 1, n):
            if abs(B[i, j]) > abs(B[best, j]):
                best = i
        if best != j:
            for c in range(j, n):
                B[j, c], B[best, c] = B[best, c], B[j, c]
            for c in range(m):
                X[j, c], X[best, c] = X[best, c], X[j, c]
        log_det += np.log(abs(B[j, j]))
        for i in range(j + 1, n):
            f = B[i, j] / B[j, j]
            if f != 0.0:
                for c in range(j + 1, n):
                    B[i, c] -= f * B[j, c]
                for c in range(m):
                    X[i, c] -= f * X[j, c]
    for c in range(m):
        for i in range(n - 1, -1, -1):
            value = X[i, c]
            for j in range(i + 1, n):
                value -= B[i, j] * X[j, c]
            X[i, c] = value / B[i, i]
    return log_det


@inner()
def sandwich(A, X, half):
    """Replace the symmetric `X` by B X B' with B of blocks `A`; `half` is for work."""
    p, size = A.shape[0], X.shape[0]
    for block in range(0, size, p):
        for a in range(p):
            for c in range(size):
                value = 0.0
                for b in range(p):
                    value += A[a, b] * X[block + b, c]
                half[block + a, c] = value
    for block in range(0, size, p):
        for a in range(p):
            for c in range(block + a + 1):
                value = 0.0
                for b in range(p):
                    value += half[c, block + b] * A[a, b]
                X[c, block + a] = value
                X[block + a, c] = value


def kalman(gaps, rate, variance, lam, eta, keep, means, covariances, gains):
    """Filter forwards; returns the log-evidence of the messages.

    Parameters
    ----------
    gaps : ndarray of shape (n,)
        Distance of each coordinate from the one before; the first is not used.
    rate, variance : float
        Of the process: sqrt(2 nu) / length scale, and the variance of each function.
    lam : ndarray of shape (n, rank, rank)
        Precisions of the messages.
    eta : ndarray of shape (n, rank)
        Precisions times means of the messages.
    keep : bool
        Whether the results below are written.
    means : ndarray of shape (n, rank * p)
        Predicted states. Its second axis says what p is.
    covariances : ndarray of shape (n, rank * p, rank * p)
        Predicted covariances.
    gains : ndarray of shape (n, rank, rank + 1)
        J = (I + lam Phi)^-1 lam, and g = (I + lam Phi)^-1 (eta - lam mu) as the last column.
    """
    rank, size = eta.shape[1], means.shape[1]
    p = size // rank
    rest = stationary(rate, variance, p)
    P = np.zeros((size, size))
    for first in range(0, size, p):
        P[first : first + p, first : first + p] = rest
    room = np.empty((size, size)), np.empty((size, rank))
    room += np.empty((rank, rank)), np.empty((rank, rank + 1)), np.empty(p)
    A = transitions(gaps, rate, p)
    return _kalman(A, rest, lam, eta, keep, means, covariances, gains, np.zeros(size), P, *room)


@njit
def _kalman(carry, rest, lam, eta, keep, means, covariances, gains, m, P, half, column, B, X, old):
    """Do what `kalman` does from mean `m` and covariance `P` on, which are overwritten."""
    n, rank = eta.shape
    size, p = m.shape[0], old.shape[0]
    evidence = 0.0
    for i in range(n):
        if i > 0:
            A = carry[i]
            for r in range(rank):
                for a in range(p):
                    old[a] = m[r * p + a]
                for a in range(p):
                    value = 0.0
                    for b in range(p):
                        value += A[a, b] * old[b]
                    m[r * p + a] = value
                for a in range(p):
                    for b in range(p):
                        P[r * p + a, r * p + b] -= rest[a, b]
            sandwich(A, P, half)
            for r in range(rank):
                for a in range(p):
                    for b in range(p):
                        P[r * p + a, r * p + b] += rest[a, b]
        if keep:
            for a in range(size):
                means[i, a] = m[a]
                for b in range(size):
                    covariances[i, a, b] = P[a, b]
        informative = False
        for r in range(rank):
            if lam[i, r, r] != 0.0 or eta[i, r] != 0.0:
                informative = True
        if not informative:
            if keep:
                for r in range(rank):
                    for s in range(rank + 1):
                        gains[i, r, s] = 0.0
            continue
        for r in range(rank):
            push = eta[i, r]
            for s in range(rank):
                push -= lam[i, r, s] * m[s * p]
                X[r, s] = lam[i, r, s]
                value = 1.0 if r == s else 0.0
                for t in range(rank):
                    value += lam[i, r, t] * P[t * p, s * p]
                B[r, s] = value
            X[r, rank] = push
            # eta' mu - mu' lam mu / 2, written with the residual
            evidence += 0.5 * m[r * p] * (eta[i, r] + push)
        # The last term needs the residual, which the elimination overwrites.
        for r in range(rank):
            column[r, 0] = X[r, rank]
        evidence -= 0.5 * eliminate(B, X)
        for r in range(rank):
            for s in range(rank):
                evidence += 0.5 * column[r, 0] * P[r * p, s * p] * X[s, rank]
        if keep:
            for r in range(rank):
                for s in range(rank + 1):
                    gains[i, r, s] = X[r, s]
        for a in range(size):
            for s in range(rank):
                value = 0.0
                for r in range(rank):
                    value += P[a, r * p] * X[r, s]
                column[a, s] = value
        for a in range(size):
            value = m[a]
            for r in range(rank):
                value += P[a, r * p] * X[r, rank]
            m[a] = value
        for a in range(size):
            for b in range(a + 1):
                value = 0.0
                for s in range(rank):
                    value += column[a, s] * P[b, s * p]
                half[a, b] = value
        for a in range(size):
            for b in range(a + 1):
                value = P[a, b] - half[a, b]
                P[a, b] = value
                P[b, a] = value
    return evidence


def smooth(gaps, rate, means, covariances, gains, M, V):
    """Smooth backwards what `kalman` kept: means `M` (n, rank), covariances `V` of each.

    The recursion of Bryson and Frazier carries the gradient and curvature of what is still to
    come, and inverts no covariance: coordinates may be as close as they like.
    """
    rank, size = M.shape[1], means.shape[1]
    p = size // rank
    room = np.zeros(size), np.zeros((size, size)), np.empty((size, size)), np.empty(p)
    room += (*np.empty((2, size, rank)),)
    back = np.ascontiguousarray(transitions(gaps, rate, p).transpose(0, 2, 1))
    _smooth(back, means, covariances, gains, M, V, *room)


@njit
def _smooth(back, means, covariances, gains, M, V, slope, curve, half, old, U, CU):
    """Do what `smooth` does; `slope` and `curve` come as zeros."""
    n, rank = M.shape
    size, p = slope.shape[0], old.shape[0]
    for i in range(n - 1, -1, -1):
        P = covariances[i]
        J = gains[i]
        # C = I - U H with U = P H' J; curve <- H' J H + C' curve C, slope <- H' g + C' slope
        for a in range(size):
            for s in range(rank):
                value = 0.0
                for r in range(rank):
                    value += P[a, r * p] * J[r, s]
                U[a, s] = value
        for a in range(size):
            for s in range(rank):
                value = 0.0
                for b in range(size):
                    value += curve[a, b] * U[b, s]
                CU[a, s] = value
        for s in range(rank):
            value = J[s, rank]
            for a in range(size):
                value -= U[a, s] * slope[a]
            half[0, s] = value
        for s in range(rank):
            slope[s * p] += half[0, s]
        for r in range(rank):
            for s in range(rank):
                value = J[r, s]
                for a in range(size):
                    value += U[a, r] * CU[a, s]
                half[r, s] = value
        for a in range(size):
            for s in range(rank):
                curve[a, s * p] -= CU[a, s]
                curve[s * p, a] -= CU[a, s]
        for r in range(rank):
            for s in range(rank):
                curve[r * p, s * p] += half[r, s]
        for r in range(rank):
            value = means[i, r * p]
            for a in range(size):
                value += P[r * p, a] * slope[a]
            M[i, r] = value
        for r in range(rank):
            for b in range(size):
                value = 0.0
                for a in range(size):
                    value += P[r * p, a] * curve[a, b]
                half[r, b] = value
        for r in range(rank):
            for s in range(r + 1):
                value = P[r * p, s * p]
                for b in range(size):
                    value -= half[r, b] * P[b, s * p]
                V[i, r, s] = value
                V[i, s, r] = value
        if i == 0:
            break
        A = back[i]
        for r in range(rank):
            for a in range(p):
                old[a] = slope[r * p + a]
            for a in range(p):
                value = 0.0
                for b in range(p):
                    value += A[a, b] * old[b]
                slope[r * p + a] = value
        sandwich(A, curve, half)


def draw_prior(gaps, rate, variance, normals, out):
    """Turn standard normals (n, rank, p) into draws of the process, `out` (n, rank)."""
    n, rank, p = normals.shape
    rest = stationary(rate, variance, p)
    A = np.zeros((n, p, p))  # nothing is known before the first
    A[1:] = transitions(gaps[1:], rate, p)
    Q = rest - A @ rest @ A.transpose(0, 2, 1)
    # Cholesky factors in place; directions that are rounding get none.
    for j in range(p):
        pivot = Q[:, j, j] - (Q[:, j, :j] ** 2).sum(axis=1)
        Q[:, j, j] = np.sqrt(np.where(pivot > 1e-15 * rest[j, j], pivot, 0.0))
        for a in range(j + 1, p):
            rows = Q[:, a, j] - (Q[:, a, :j] * Q[:, j, :j]).sum(axis=1)
            known = Q[:, j, j] > 0.0
            Q[:, a, j] = np.divide(rows, Q[:, j, j], out=np.zeros(n), where=known)
    state = np.zeros((rank, p))
    for carry, draw, factor, row in zip(A, normals, np.tril(Q), out, strict=True):
        state = state @ carry.T + draw @ factor.T
        row[:] = state[:, 0]


def _warm_up():
    gaps = np.array([0.0, 0.1, 0.2])
    lam, eta = np.ones((3, 1, 1)), np.ones((3, 1))
    means, covariances, gains = np.empty((3, 1)), np.empty((3, 1, 1)), np.empty((3, 1, 2))
    kalman(gaps, 1.0, 1.0, lam, eta, True, means, covariances, gains)
    smooth(gaps, 1.0, means, covariances, gains, np.empty((3, 1)), np.empty((3, 1, 1)))
    draw_prior(gaps, 1.0, 1.0, np.ones((3, 1, 1)), np.empty((3, 1)))
