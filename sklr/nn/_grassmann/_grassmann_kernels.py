"""One step on a product of Grassmann manifolds, class by class, in the cache; and their loss.

Bases are copied to rows of length D, so that inner loops run along the long axis.
"""

import math

import numpy as np

from sklr.utils._compile import inner, njit


@inner(fastmath={"contract", "reassoc"})
def _gram(A, B, out, symmetric):
    """Write the products of the rows of `A` and `B`; two at a time, summed lane by lane."""
    k, D = A.shape
    for i in range(k):
        for j in range(i if symmetric else 0, k, 2):
            other = j + 1 if j + 1 < k else j
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


@inner(fastmath={"contract"})
def _product(A, B, out):
    """Product of two small square matrices, row by row of the result."""
    k = A.shape[0]
    for i in range(k):
        factor = A[i, 0]
        for j in range(k):
            out[i, j] = factor * B[0, j]
        for m in range(1, k):
            factor = A[i, m]
            for j in range(k):
                out[i, j] += factor * B[m, j]


@inner()
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
        for i in range(k):
            for j in range(k):
                C[i, j] = N[i, j] = math.nan
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
            C[i, j] = N[i, j] = 1.0 if i == j else 0.0
    # One loop for both, N before C, so that the product is compiled in one place.
    for step in range(2 * (terms - 1 + halvings)):
        second = step & 1
        X = C if second else N
        m = terms - 2 - step // 2
        if m >= 0:  # Horner: X <- I + c A X, with what successive coefficients share out
            left, right = A, X
            factor, constant = -1.0 / ((2 * m + 2 - second) * (2 * m + 3 - second)), 1.0
        else:  # double angle
            left, right = X, C
            factor, constant = 1.0 + second, -1.0 * second
        _product(left, right, work)
        for i in range(k):
            for j in range(k):
                X[i, j] = factor * work[i, j]
            X[i, i] += constant


@inner(fastmath={"contract"})
def _combine(St, P, Mt, Q, out):
    """Write P^T St - Q^T Mt, row by row along the long axis, two rows of each at a time."""
    k, D = St.shape
    for j in range(k):
        for d in range(D):
            out[j, d] = 0
        for i in range(0, k, 2):
            other = i + 1 if i + 1 < k else i
            twice = St.dtype.type(0 if other == i else 1)
            p, q = St.dtype.type(P[i, j]), St.dtype.type(Q[i, j])
            p2, q2 = twice * St.dtype.type(P[other, j]), twice * St.dtype.type(Q[other, j])
            for d in range(D):
                out[j, d] += (p * St[i, d] - q * Mt[i, d]) + (p2 * St[other, d] - q2 * Mt[other, d])


def step_classes(S, M, lr, reorthonormalise):
    """Move each basis, rows of `S` (C, k, D), in place, along minus the horizontal part of `M`.

    With columns for rows that part is H = M - S G with G = S^T M. It is never formed: its Gram
    matrix is M^T M - G^T G, and S cos - lr H sinc = S (cos + lr G sinc) - lr M sinc.
    """
    _, k, D = S.shape
    # Rows of a multiple of 256 would fall on each other in the cache: some zeros behind them.
    length = D if D % 256 else D + 16
    rows = np.zeros((3, k, length), S.dtype)
    _step_classes(S, M, lr, reorthonormalise, *rows, *np.empty((5, k, k)))


@njit
def _step_classes(S, M, lr, reorthonormalise, St, Mt, R, G, A, P, Q, work):
    """Do what `step_classes` does. `St`, `Mt` and `R` come as zeros, at least as long as rows."""
    n_classes, k, D = S.shape
    eps = 1e-17 if S.itemsize == 8 else 1e-9
    # Variables: for constants, or bool and number, `_gram` would be compiled again.
    no, yes = reorthonormalise & False, reorthonormalise | True
    for c in range(n_classes):
        for j in range(k):
            for d in range(D):
                St[j, d] = S[c, j, d]
                Mt[j, d] = M[c, j, d]
        _gram(St, Mt, G, no)
        _gram(Mt, Mt, A, yes)
        for i in range(k):
            for j in range(k):
                work[i, j] = 0.0
            for m in range(k):
                factor = G[m, i]
                for j in range(k):
                    work[i, j] += factor * G[m, j]
            for j in range(k):
                A[i, j] = lr * lr * (A[i, j] - work[i, j])
        _cos_sinc(A, P, Q, work, eps)
        _product(G, Q, work)
        for i in range(k):
            for j in range(k):
                P[i, j] += lr * work[i, j]
                Q[i, j] *= lr
        _combine(St, P, Mt, Q, R)
        if reorthonormalise:
            # One Newton step towards the nearest orthonormal basis, of the same span.
            _gram(R, R, G, yes)
            for i in range(k):
                for j in range(k):
                    P[i, j] = 1.5 if i == j else 0.0
                    Q[i, j] = 0.5 * G[i, j]
            _combine(R, P, R, Q, St)
            R, St = St, R
        for j in range(k):
            for d in range(D):
                S[c, j, d] = R[j, d]


@njit(fastmath={"contract", "reassoc"})
def cross_entropy(features, projected, target, scale, k, lengths, logits, out):
    """Compute the mean cross entropy of logits scale |P_c| / |f|, and its gradient.

    `projected` (n, C k) becomes the gradient with respect to itself. What the length of a feature
    adds to the feature's gradient is minus `out` (n + 1) times the feature; behind them is the
    loss. `lengths` and `logits` (C,) are room. Returns whether all classes in `target` exist.
    """
    n, D = features.shape
    n_classes = lengths.shape[0]
    tiny = 1.2e-38 if projected.itemsize == 4 else 2.3e-308
    loss = 0.0
    for i in range(n):
        own = target[i]
        if not 0 <= own < n_classes:
            return False
        square = features.dtype.type(0)
        for d in range(D):
            square += features[i, d] * features[i, d]
        size = math.sqrt(square)
        if size < 1e-12:
            size = 1e-12
        if not math.isfinite(size):
            size = math.nan
        factor = scale / size
        largest = -math.inf
        for c in range(n_classes):
            square = projected.dtype.type(0)
            for j in range(c * k, (c + 1) * k):
                square += projected[i, j] * projected[i, j]
            lengths[c] = math.sqrt(square)
            logits[c] = factor * lengths[c]
            if logits[c] > largest:
                largest = logits[c]
        loss += largest - logits[own]
        total = 0.0
        for c in range(n_classes):
            logits[c] = math.exp(logits[c] - largest)
            total += logits[c]
        loss += math.log(total)
        along = 0.0
        for c in range(n_classes):
            upward = factor * (logits[c] / total - (c == own)) / n
            along += upward * lengths[c]
            share = projected.dtype.type(upward / lengths[c] if lengths[c] > tiny else 0.0)
            for j in range(c * k, (c + 1) * k):
                projected[i, j] *= share
        out[i] = along / (size * size)
    out[n] = loss / n
    return True


def _warm_up(dtypes=(np.float32,)):
    for dtype in dtypes:
        S = np.full((1, 1, 4), 0.5, dtype)
        step_classes(S, np.ones_like(S), 0.1, True)
        room = np.empty(4), np.empty(4), np.empty(2, dtype)
        cross_entropy(S[0], S[0].copy(), np.zeros(1, np.int64), 8.0, 1, *room)
