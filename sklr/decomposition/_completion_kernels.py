"""Half-sweeps of alternating minimisation over observed entries (Numba, no threads of their own).

One half-sweep solves, for each row i of a range, the regression of its entries on the fixed
factors F of the other side, ``min sum_e w_e rho(y_e - mean - offset_j - b - F_j x) + ridge``.
Rows are independent of each other: a caller may hand ranges to several threads. `entries` are an
`ObservedEntries` and `problem` a `RowRegressions`, as `_completion_data` describes them.

Sums are reordered by the compiler ("reassoc") so that it can use vector registers; NaN and
infinity keep their meaning. The order is fixed for one machine and does not depend on the range.
"""

import numpy as np

from sklr.utils._compile import inner, njit

_FAST = {"reassoc", "contract"}


@njit(fastmath=_FAST)
def residual_product(start, stop, entries, mean, bias, offset, low, high, scale, B, out):
    """Multiply the clipped residuals of the biases, zero where unobserved, by dense `B`."""
    indptr, indices, values, weights = entries
    k = B.shape[1]
    zero = B.dtype.type(0)
    for i in range(start, stop):
        for c in range(k):
            out[i, c] = zero
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            r = min(max(values[e] - mean - bias[i] - offset[j], low), high)
            if len(weights) > 0:
                r *= weights[e]
            r *= scale[i]
            for c in range(k):
                out[i, c] += r * B[j, c]


@njit(fastmath=_FAST)
def entry_residuals(entries, mean, bias, offset, X, F, step, out):
    """Write the residual of every `step`-th entry of all rows; return how many there are."""
    indptr, indices, values, _ = entries
    k = F.shape[1]
    n, e = 0, 0
    for i in range(len(indptr) - 1):
        while e < indptr[i + 1]:
            j = indices[e]
            t = F.dtype.type(0)
            for c in range(k):
                t += X[i, c] * F[j, c]
            out[n] = values[e] - mean - bias[i] - offset[j] - t
            n += 1
            e += step
    return n


@njit(fastmath=_FAST)
def row_losses(start, stop, entries, mean, bias, offset, X, F, out):
    """Write the weighted sum of squared residuals of each row."""
    indptr, indices, values, weights = entries
    k = F.shape[1]
    for i in range(start, stop):
        total = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            t = F.dtype.type(0)
            for c in range(k):
                t += X[i, c] * F[j, c]
            r = values[e] - mean - bias[i] - offset[j] - t
            total += r * r * weights[e] if len(weights) > 0 else r * r
        out[i] = total


@inner()
def _weight(r, delta, cut, one):
    """Weight of a residual in the quadratic that lies above the loss and touches it there."""
    size = abs(r)
    if size > cut:
        return one - one
    return one if size <= delta else delta / size


@inner()
def _rho(r, delta, cut):
    """Huber's loss of a residual, r ** 2 up to delta, and constant above cut."""
    size = min(abs(r), cut)
    return r * r if size <= delta else delta * (size + size - delta)


@inner()
def _longest(start, stop, indptr):
    """Largest number of entries of a row."""
    longest = 0
    for i in range(start, stop):
        longest = max(longest, indptr[i + 1] - indptr[i])
    return longest


@inner()
def _row_ridge(i, alpha, bias_alpha, extra, scale, k, ridge):
    """Write the ridges of row i's factors; return the common ones of its factors and its bias."""
    lam = alpha * scale
    for c in range(k):
        ridge[c] = lam + extra[i, c] if len(extra) > 0 else lam
    return lam, bias_alpha * scale


@inner(fastmath=_FAST)
def _evaluate_row(i, entries, problem, bias, x, w, g):
    """Residuals of row i at x and bias: weights into w, gradient into g.

    Returns the loss, the sum of the weights, and the bias's gradient.
    """
    indices, values, weights = entries.indices, entries.values, entries.weights
    start, stop = entries.indptr[i], entries.indptr[i + 1]
    offset, F, robust = problem.offset, problem.F, problem.robust
    delta, cut, shift = problem.delta, problem.cut, problem.mean + bias
    k = F.shape[1]
    zero, one = F.dtype.type(0), F.dtype.type(1)
    total, mass, gb = 0.0, 0.0, 0.0
    for c in range(k):
        g[c] = 0
    # Four entries at a time: one pass over x and one over g serve them all.
    full = stop - (stop - start & 3)
    for e in range(start, full, 4):
        o = e - start
        j0, j1, j2, j3 = indices[e], indices[e + 1], indices[e + 2], indices[e + 3]
        t0, t1, t2, t3 = zero, zero, zero, zero
        for c in range(k):
            xc = x[c]
            t0 += F[j0, c] * xc
            t1 += F[j1, c] * xc
            t2 += F[j2, c] * xc
            t3 += F[j3, c] * xc
        t0 = values[e] - shift - offset[j0] - t0
        t1 = values[e + 1] - shift - offset[j1] - t1
        t2 = values[e + 2] - shift - offset[j2] - t2
        t3 = values[e + 3] - shift - offset[j3] - t3
        w0, w1, w2, w3 = one, one, one, one
        if len(weights) > 0:
            w0, w1, w2, w3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
        if not robust:
            total += (w0 * t0 * t0 + w1 * t1 * t1) + (w2 * t2 * t2 + w3 * t3 * t3)
        else:
            total += w0 * _rho(t0, delta, cut) + w1 * _rho(t1, delta, cut)
            total += w2 * _rho(t2, delta, cut) + w3 * _rho(t3, delta, cut)
            w0 *= _weight(t0, delta, cut, one)
            w1 *= _weight(t1, delta, cut, one)
            w2 *= _weight(t2, delta, cut, one)
            w3 *= _weight(t3, delta, cut, one)
        w[o], w[o + 1], w[o + 2], w[o + 3] = w0, w1, w2, w3
        mass += (w0 + w1) + (w2 + w3)
        t0 *= w0
        t1 *= w1
        t2 *= w2
        t3 *= w3
        gb += (t0 + t1) + (t2 + t3)
        for c in range(k):
            g[c] += (t0 * F[j0, c] + t1 * F[j1, c]) + (t2 * F[j2, c] + t3 * F[j3, c])
    for e in range(full, stop):
        j = indices[e]
        t = zero
        for c in range(k):
            t += F[j, c] * x[c]
        t = values[e] - shift - offset[j] - t
        we = weights[e] if len(weights) > 0 else one
        if not robust:
            total += we * t * t
        else:
            total += we * _rho(t, delta, cut)
            we *= _weight(t, delta, cut, one)
        w[e - start] = we
        mass += we
        t *= we
        gb += t
        for c in range(k):
            g[c] += t * F[j, c]
    return total, mass, gb


@njit(fastmath=_FAST)
def cg_rows(start, stop, entries, problem, spectrum, means, n_steps, tol, X, bias, out):
    """Few steps of conjugate gradients for each row, from where it stands.

    F is rotated so that its (entry-weighted, per entry) Gram is the diagonal `spectrum`; `means`
    are its weighted column means. These make one preconditioner for all rows, exact for a row
    that sees every column as often as the data do: diagonal, with an arrow for the bias.

    `out` (n_rows, 2) gets the loss before, and by how much the row's objective fell.
    """
    indptr, indices, F = entries.indptr, entries.indices, problem.F
    k, fit_bias = F.shape[1], problem.fit_bias
    n_longest = _longest(start, stop, indptr)
    w = np.empty(n_longest, F.dtype)
    x = np.empty(k, F.dtype)
    g = np.empty(k, F.dtype)
    z = np.empty(k, F.dtype)
    p = np.zeros(k, F.dtype)
    q = np.empty(k, F.dtype)
    inverse = np.empty(k, F.dtype)
    ridge = np.empty(k, F.dtype)
    zero = F.dtype.type(0)
    tiny = F.dtype.type(1e-30)
    alpha, bias_alpha, extra = problem.alpha, problem.bias_alpha, problem.extra_ridge
    power = problem.power
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        out[i, 0] = 0.0
        out[i, 1] = 0.0
        if first == last:
            for c in range(k):
                X[i, c] = zero
            bias[i] = zero
            continue
        xb = bias[i]
        for c in range(k):
            x[c] = X[i, c]
        total, mass, gb0 = _evaluate_row(i, entries, problem, xb, x, w, g)
        out[i, 0] = total
        if mass <= 0:
            for c in range(k):
                X[i, c] = zero
            bias[i] = zero
            continue
        lam, lam_b = _row_ridge(i, alpha, bias_alpha, extra, mass**power, k, ridge)
        floor = mass * spectrum[k - 1] * 1e-7 + lam
        schur = mass + lam_b
        for c in range(k):
            g[c] -= ridge[c] * x[c]
            inverse[c] = 1.0 / max(mass * spectrum[c] + ridge[c], floor, tiny)
            schur -= (mass * means[c]) ** 2 * inverse[c]
        schur = max(schur, 1e-7 * (mass + lam_b))
        gb = zero
        if fit_bias:
            gb = F.dtype.type(gb0 - lam_b * xb)
        pb = zero
        rz_before, rz_first, fell = 0.0, 0.0, 0.0
        for step in range(n_steps):
            # z: the gradient through the preconditioner.
            zb = zero
            if fit_bias:
                s = 0.0
                for c in range(k):
                    s += mass * means[c] * inverse[c] * g[c]
                zb = F.dtype.type((gb - s) / schur)
            rz = gb * zb + 0.0
            for c in range(k):
                z[c] = (g[c] - mass * means[c] * zb) * inverse[c]
                rz += g[c] * z[c]
            if step == 0:
                rz_first = rz
            if not rz > tol * rz_first or not rz > 1e-300:
                break
            ratio = F.dtype.type(rz / rz_before) if step > 0 else zero
            for c in range(k):
                p[c] = z[c] + ratio * p[c]
            pb = zb + ratio * pb
            rz_before = rz
            # q = (sum_e w_e f_e f_e' + ridge) p, matrix-free, four entries at a time.
            for c in range(k):
                q[c] = ridge[c] * p[c]
            qb = lam_b * pb
            full = last - (last - first & 3)
            for e in range(first, full, 4):
                j0, j1, j2, j3 = indices[e], indices[e + 1], indices[e + 2], indices[e + 3]
                t0, t1, t2, t3 = zero, zero, zero, zero
                for c in range(k):
                    pc = p[c]
                    t0 += F[j0, c] * pc
                    t1 += F[j1, c] * pc
                    t2 += F[j2, c] * pc
                    t3 += F[j3, c] * pc
                o = e - first
                t0 = w[o] * (t0 + pb)
                t1 = w[o + 1] * (t1 + pb)
                t2 = w[o + 2] * (t2 + pb)
                t3 = w[o + 3] * (t3 + pb)
                qb += (t0 + t1) + (t2 + t3)
                for c in range(k):
                    q[c] += (t0 * F[j0, c] + t1 * F[j1, c]) + (t2 * F[j2, c] + t3 * F[j3, c])
            for e in range(full, last):
                j = indices[e]
                t = zero
                for c in range(k):
                    t += F[j, c] * p[c]
                t = w[e - first] * (t + pb)
                qb += t
                for c in range(k):
                    q[c] += t * F[j, c]
            curvature = pb * qb if fit_bias else 0.0
            for c in range(k):
                curvature += p[c] * q[c]
            if not curvature > 1e-300:
                break
            length = F.dtype.type(rz / curvature)
            fell += length * rz
            for c in range(k):
                x[c] += length * p[c]
                g[c] -= length * q[c]
            if fit_bias:
                xb += length * pb
                gb -= length * qb
        out[i, 1] = fell
        for c in range(k):
            X[i, c] = x[c]
        bias[i] = xb


@inner(fastmath=_FAST)
def _factor(H):
    """Cholesky factor into the lower triangle of H; False where H is not positive definite."""
    n = H.shape[0]
    for a in range(n):
        for b in range(a + 1):
            t = H[a, b]
            s = H.dtype.type(0)
            for c in range(b):
                s += H[a, c] * H[b, c]
            t -= s
            if a == b:
                if not t > 0:
                    return False
                H[a, a] = np.sqrt(t)
            else:
                H[a, b] = t / H[b, b]
    return True


@inner()
def _substitute(L, b):
    """Solve L L' x = b in place."""
    n = L.shape[0]
    for a in range(n):
        t = b[a]
        for c in range(a):
            t -= L[a, c] * b[c]
        b[a] = t / L[a, a]
    for a in range(n - 1, -1, -1):
        b[a] /= L[a, a]
        t = b[a]
        for c in range(a):
            b[c] -= L[a, c] * t


@inner()
def _normal_matrix(A, B, n, ridge, H, L):
    """Factor ``A' B + ridge`` into L, with a trace of ridge where it is singular."""
    k = H.shape[0]
    np.dot(A[:n].T, B[:n], H)
    trace = 0.0
    least = ridge[0]
    for c in range(k):
        H[c, c] += ridge[c]
        trace += H[c, c]
        least = min(least, ridge[c])
    extra = 0.0
    trial = trace / k * (1e-10 if H.itemsize == 8 else 1e-6)
    if n < k and least <= 0:
        extra = trial
    for _ in range(8):
        for a in range(k):
            for b in range(a + 1):
                L[a, b] = H[a, b]
            L[a, a] += extra
        if _factor(L):
            return True
        extra = max(trial, 10 * extra)
    return False


@inner()
def _regressors(first, last, indices, F, fit_bias, A):
    """Write the factors at a row's entries into A, with a column of ones for the bias."""
    k = F.shape[1]
    for e in range(last - first):
        j = indices[first + e]
        for c in range(k):
            A[e, c] = F[j, c]
        if fit_bias:
            A[e, k] = 1


@inner()
def _factor_normal_matrix(n, weighted, w, A, B, ridge, H, L):
    """Factor a row's normal matrix, with weights w and its ridge, into L."""
    size = A.shape[1]
    right = A
    if weighted:
        right = B
        for e in range(n):
            for c in range(size):
                B[e, c] = w[e] * A[e, c]
    return _normal_matrix(A, right, n, ridge, H, L)


@njit(fastmath=_FAST)
def cholesky_rows(start, stop, entries, problem, n_steps, tol, X, bias, out):
    """Exact solution of each row's (re-weighted) normal equations, as a correction to X.

    More than one step re-weights again, until the objective falls by less than `tol` of it.
    """
    dtype, k, fit_bias = problem.F.dtype, problem.F.shape[1], problem.fit_bias
    size = k + 1 if fit_bias else k
    n_longest = _longest(start, stop, entries.indptr)
    w, x, g = np.empty(n_longest, dtype), np.empty(k, dtype), np.empty(k, dtype)
    A, B = np.empty((n_longest, size), dtype), np.empty((n_longest, size), dtype)
    H, L = np.empty((size, size), dtype), np.empty((size, size), dtype)
    change, ridge = np.empty(size, dtype), np.empty(size, dtype)
    weighted = problem.robust or len(entries.weights) > 0
    alpha, bias_alpha, extra = problem.alpha, problem.bias_alpha, problem.extra_ridge
    power, indptr, indices, F = problem.power, entries.indptr, entries.indices, problem.F
    for i in range(start, stop):
        out[i, 0] = 0.0
        out[i, 1] = 0.0
        n = indptr[i + 1] - indptr[i]
        _regressors(indptr[i], indptr[i + 1], indices, F, fit_bias, A)
        if n == 0:
            for c in range(k):
                X[i, c] = 0
            bias[i] = 0
            continue
        for c in range(k):
            x[c] = X[i, c]
        for step in range(n_steps):
            total, mass, gb = _evaluate_row(i, entries, problem, bias[i], x, w, g)
            if step == 0:
                out[i, 0] = total
            if mass <= 0:
                for c in range(k):
                    x[c] = 0
                bias[i] = 0
                break
            _, lam_b = _row_ridge(i, alpha, bias_alpha, extra, mass**power, k, ridge)
            if fit_bias:
                ridge[k] = lam_b
            if not _factor_normal_matrix(n, weighted, w, A, B, ridge, H, L):
                break
            for c in range(k):
                g[c] -= ridge[c] * x[c]
                change[c] = g[c]
            if fit_bias:
                gb -= ridge[k] * bias[i]
                change[k] = gb
            _substitute(L, change)
            fell = 0.0
            for c in range(k):
                fell += g[c] * change[c]
                x[c] += change[c]
            if fit_bias:
                fell += gb * change[k]
                bias[i] += change[k]
            out[i, 1] += fell
            if not fell > tol * total:
                break
        for c in range(k):
            X[i, c] = x[c]


@njit
def leave_one_out_rows(start, stop, entries, problem, X, bias, out):
    """Sum over each row's entries of squared and absolute leave-one-out residuals, at X, bias."""
    dtype, k = problem.F.dtype, problem.F.shape[1]
    size = k + 1 if problem.fit_bias else k
    n_longest = _longest(start, stop, entries.indptr)
    w, g = np.empty(n_longest, dtype), np.empty(k, dtype)
    A, B = np.empty((n_longest, size), dtype), np.empty((n_longest, size), dtype)
    H, L = np.empty((size, size), dtype), np.empty((size, size), dtype)
    v, ridge = np.empty(size, dtype), np.empty(size, dtype)
    weighted = problem.robust or len(entries.weights) > 0
    alpha, bias_alpha, extra = problem.alpha, problem.bias_alpha, problem.extra_ridge
    power, indptr, indices, F = problem.power, entries.indptr, entries.indices, problem.F
    values, offset, mean, fit_bias = entries.values, problem.offset, problem.mean, problem.fit_bias
    for i in range(start, stop):
        out[i, 0] = 0.0
        out[i, 1] = 0.0
        n = indptr[i + 1] - indptr[i]
        _regressors(indptr[i], indptr[i + 1], indices, F, fit_bias, A)
        if n == 0:
            continue
        _, mass, _ = _evaluate_row(i, entries, problem, bias[i], X[i], w, g)
        _, lam_b = _row_ridge(i, alpha, bias_alpha, extra, mass**power, k, ridge)
        if fit_bias:
            ridge[k] = lam_b
        solved = _factor_normal_matrix(n, weighted, w, A, B, ridge, H, L)
        for e in range(n):
            place = indptr[i] + e
            r = values[place] - mean - bias[i]
            r -= offset[indices[place]]
            for c in range(k):
                r -= X[i, c] * A[e, c]
            if solved:
                leverage = 0.0
                for c in range(size):
                    v[c] = A[e, c]
                _substitute(L, v)
                for c in range(size):
                    leverage += v[c] * A[e, c]
                r /= max(1.0 - w[e] * leverage, 1e-9)
            out[i, 0] += r * r
            out[i, 1] += abs(r)


def _warm_up(dtypes=(np.float64,)):
    from sklr.decomposition._completion_data import ObservedEntries, RowRegressions

    for dtype in dtypes:
        number = dtype
        cols = np.array([0, 1, 0, 1, 1], dtype=np.int32)
        values = np.arange(5, dtype=dtype)
        indptr = np.array([0, 2, 4, 5])
        entries = ObservedEntries(indptr, cols, values, np.empty(0, dtype))
        zero, one = number(0), number(1)
        X, F = np.ones((3, 2), dtype), np.ones((2, 2), dtype)
        bias, offset, out = np.zeros(3, dtype), np.zeros(2, dtype), np.zeros((3, 2))
        residual_product(0, 3, entries, zero, bias, offset, -one, one, bias, F, np.empty_like(X))
        entry_residuals(entries, zero, bias, offset, X, F, 1, np.empty(5, dtype))
        row_losses(0, 3, entries, zero, bias, offset, X, F, np.empty(3))
        problem = RowRegressions(
            zero, offset, F, one, one, 0.0, True, False, one, one, np.empty((0, 2), dtype)
        )
        spectrum = np.ones(2, dtype)
        cg_rows(0, 3, entries, problem, spectrum, spectrum, 1, 0.0, X, bias, out)
        cholesky_rows(0, 3, entries, problem, 1, 0.0, X, bias, out)
        if dtype == np.float64:  # scores are taken in double precision
            leave_one_out_rows(0, 3, entries, problem, X, bias, out)
