"""Kalman filter and smoother of stacked Matern processes, Khatri-Rao products (Numba).

The state of a mode is its `rank` latent functions one after the other, each with its `p`
derivatives (p = nu + 1/2). What the data say about the functions at coordinate i comes as
``exp(-u' lam[i] u / 2 + eta[i]' u)``, which may be flat.
"""

import numpy as np

from sklr.utils._compile import njit


@njit
def stationary(rate, variance, P):
    """Write the stationary covariance of one function and its derivatives into `P` (p, p)."""
    p = P.shape[0]
    for a in range(p):
        for b in range(p):
            P[a, b] = 0.0
    P[0, 0] = variance
    if p == 2:
        P[1, 1] = rate * rate * variance
    elif p == 3:
        k = rate * rate * variance / 3.0
        P[1, 1] = k
        P[0, 2] = -k
        P[2, 0] = -k
        P[2, 2] = rate**4 * variance


@njit
def transition(gap, rate, A):
    """Write the matrix that carries the state over a gap into `A` (p, p)."""
    p = A.shape[0]
    x = rate * gap
    if x > 700.0:  # exp(-x) is zero: independent of what was before
        for a in range(p):
            for b in range(p):
                A[a, b] = 0.0
        return
    e = np.exp(-x)
    if p == 1:
        A[0, 0] = e
    elif p == 2:
        A[0, 0] = e * (1.0 + x)
        A[0, 1] = e * gap
        A[1, 0] = -e * rate * x
        A[1, 1] = e * (1.0 - x)
    else:
        A[0, 0] = e * (0.5 * x * x + x + 1.0)
        A[0, 1] = e * gap * (x + 1.0)
        A[0, 2] = e * 0.5 * gap * gap
        A[1, 0] = -0.5 * e * rate * x * x
        A[1, 1] = e * (1.0 + x - x * x)
        A[1, 2] = e * 0.5 * gap * (2.0 - x)
        A[2, 0] = e * rate * rate * x * (0.5 * x - 1.0)
        A[2, 1] = e * rate * x * (x - 3.0)
        A[2, 2] = e * (0.5 * x * x - 2.0 * x + 1.0)


@njit
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


@njit
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


@njit
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
    n, rank = eta.shape
    size = means.shape[1]
    p = size // rank
    A = np.empty((p, p))
    rest = np.empty((p, p))
    stationary(rate, variance, rest)
    m = np.zeros(size)
    P = np.zeros((size, size))
    for r in range(rank):
        for a in range(p):
            for b in range(p):
                P[r * p + a, r * p + b] = rest[a, b]
    half = np.empty((size, size))
    column = np.empty((size, rank))
    B = np.empty((rank, rank))
    X = np.empty((rank, rank + 1))
    old = np.empty(p)
    evidence = 0.0
    for i in range(n):
        if i > 0:
            transition(gaps[i], rate, A)
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


@njit
def smooth(gaps, rate, means, covariances, gains, M, V):
    """Smooth backwards what `kalman` kept: means `M` (n, rank), covariances `V` of each.

    The recursion of Bryson and Frazier carries the gradient and curvature of what is still to
    come, and inverts no covariance: coordinates may be as close as they like.
    """
    n, rank = M.shape
    size = means.shape[1]
    p = size // rank
    A = np.empty((p, p))
    back = np.empty((p, p))
    slope = np.zeros(size)
    curve = np.zeros((size, size))
    half = np.empty((size, size))
    U = np.empty((size, rank))
    CU = np.empty((size, rank))
    old = np.empty(p)
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
        transition(gaps[i], rate, A)
        for r in range(rank):
            for a in range(p):
                old[a] = slope[r * p + a]
            for a in range(p):
                value = 0.0
                for b in range(p):
                    value += A[b, a] * old[b]
                slope[r * p + a] = value
        for a in range(p):
            for b in range(p):
                back[a, b] = A[b, a]
        sandwich(back, curve, half)


@njit
def draw_prior(gaps, rate, variance, normals, out):
    """Turn standard normals (n, rank, p) into draws of the process, `out` (n, rank)."""
    n, rank, p = normals.shape
    A = np.empty((p, p))
    rest = np.empty((p, p))
    stationary(rate, variance, rest)
    Q = np.empty((p, p))
    state = np.zeros((rank, p))
    new = np.empty(p)
    for i in range(n):
        transition(gaps[i] if i > 0 else np.inf, rate, A)
        for a in range(p):
            for b in range(p):
                value = rest[a, b]
                for c in range(p):
                    for d in range(p):
                        value -= A[a, c] * rest[c, d] * A[b, d]
                Q[a, b] = value
        # Cholesky factor in place; directions that are rounding get none.
        for j in range(p):
            for k in range(j):
                Q[j, j] -= Q[j, k] * Q[j, k]
            Q[j, j] = np.sqrt(Q[j, j]) if Q[j, j] > 1e-15 * rest[j, j] else 0.0
            for a in range(j + 1, p):
                for k in range(j):
                    Q[a, j] -= Q[a, k] * Q[j, k]
                Q[a, j] = Q[a, j] / Q[j, j] if Q[j, j] > 0.0 else 0.0
        for r in range(rank):
            for a in range(p):
                value = 0.0
                for b in range(p):
                    value += A[a, b] * state[r, b]
                for b in range(a + 1):
                    value += Q[a, b] * normals[i, r, b]
                new[a] = value
            for a in range(p):
                state[r, a] = new[a]
            out[i, r] = state[r, 0]


@njit
def khatri_rao(left, table, rows, out):
    """Write the products of each row of `left` with its row of `table` into `out`."""
    width = table.shape[1]
    for i in range(left.shape[0]):
        row = rows[i]
        for a in range(left.shape[1]):
            value = left[i, a]
            for b in range(width):
                out[i, a * width + b] = value * table[row, b]


@njit
def scatter(rows, values, weights, out):
    """Add each row of `values`, times its weight, to a row of `out`."""
    for i in range(values.shape[0]):
        row = rows[i]
        weight = weights[i]
        for a in range(values.shape[1]):
            out[row, a] += weight * values[i, a]


def _warm_up():
    gaps = np.array([0.0, 0.1, 0.2])
    rows = np.array([0, 2])
    for p in (1, 2):
        lam, eta = np.ones((3, 1, 1)), np.ones((3, 1))
        means, covariances = np.empty((3, p)), np.empty((3, p, p))
        gains = np.empty((3, 1, 2))
        kalman(gaps, 1.0, 1.0, lam, eta, True, means, covariances, gains)
        smooth(gaps, 1.0, means, covariances, gains, np.empty((3, 1)), np.empty((3, 1, 1)))
        draw_prior(gaps, 1.0, 1.0, np.ones((3, 1, p)), np.empty((3, 1)))
    khatri_rao(np.ones((2, 1)), np.ones((3, 2)), rows, np.empty((2, 2)))
    scatter(rows, np.ones((2, 2)), np.ones(2), np.zeros((3, 2)))
