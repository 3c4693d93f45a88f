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
            r = values[e] - mean - bias[i] - offset[j]
            r = low if r < low else r
            r = high if r > high else r
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
    size = abs(r)
    size = size if size < cut else cut
    return r * r if size <= delta else delta * (size + size - delta)


@inner()
def _row_ridge(i, alpha, bias_alpha, extra, scale, k, ridge):
    """Write the ridges of row i's factors; return the common ones of its factors and its bias."""
    lam = alpha * scale
    for c in range(k):
        ridge[c] = lam + extra[i, c] if len(extra) > 0 else lam
    return lam, bias_alpha * scale


@inner(fastmath=_FAST)
def _pass(
    first, last, indices, F, x, xb, fresh, w, g, values, shift, offset, weights, robust, delta, cut
):  # fmt: skip
    """Add the product of a row's weighted Gram matrix with `x` and `xb` (the bias) to g.

    Where `fresh`, the gradient at `x` in place of it, and the entries' weights are written to w.
    Returns the loss, the sum of the weights (both where fresh), and what belongs to the bias.
    """
    k = F.shape[1]
    zero, one = F.dtype.type(0), F.dtype.type(1)
    total, mass, gb = 0.0, 0.0, 0.0
    # Four entries at a time: one pass over x and one over g serve them all.
    full = last - (last - first & 3)
    for e in range(first, full, 4):
        o = e - first
        j0, j1, j2, j3 = indices[e], indices[e + 1], indices[e + 2], indices[e + 3]
        t0, t1, t2, t3 = zero, zero, zero, zero
        for c in range(k):
            xc = x[c]
            t0 += F[j0, c] * xc
            t1 += F[j1, c] * xc
            t2 += F[j2, c] * xc
            t3 += F[j3, c] * xc
        if fresh:
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
        else:
            w0, w1, w2, w3 = w[o], w[o + 1], w[o + 2], w[o + 3]
            t0 += xb
            t1 += xb
            t2 += xb
            t3 += xb
        t0 *= w0
        t1 *= w1
        t2 *= w2
        t3 *= w3
        gb += (t0 + t1) + (t2 + t3)
        for c in range(k):
            g[c] += (t0 * F[j0, c] + t1 * F[j1, c]) + (t2 * F[j2, c] + t3 * F[j3, c])
    for e in range(full, last):
        j = indices[e]
        t = zero
        for c in range(k):
            t += F[j, c] * x[c]
        if fresh:
            t = values[e] - shift - offset[j] - t
            we = weights[e] if len(weights) > 0 else one
            total += we * (_rho(t, delta, cut) if robust else t * t)
            if robust:
                we *= _weight(t, delta, cut, one)
            w[e - first] = we
            mass += we
        else:
            we = w[e - first]
            t += xb
        t *= we
        gb += t
        for c in range(k):
            g[c] += t * F[j, c]
    return total, mass, gb


def _longest(start, stop, entries):
    """Largest number of entries of a row."""
    return int(np.diff(entries.indptr[start : stop + 1]).max(initial=0))


def cg_rows(start, stop, entries, problem, spectrum, means, n_steps, tol, X, bias, out):
    """Few steps of conjugate gradients for each row, from where it stands.

    F is rotated so that its (entry-weighted, per entry) Gram is the diagonal `spectrum`; `means`
    are its weighted column means. These make one preconditioner for all rows, exact for a row
    that sees every column as often as the data do: diagonal, with an arrow for the bias.

    `out` (n_rows, 2) gets the loss before, and by how much the row's objective fell.
    """
    F = problem.F
    w, room = np.empty(_longest(start, stop, entries), F.dtype), np.zeros((7, F.shape[1]), F.dtype)
    _cg_rows(start, stop, *entries, *problem, spectrum, means, n_steps, tol, X, bias, out, w, *room)


@njit(fastmath=_FAST)
def _cg_rows(
    start, stop, indptr, indices, values, weights, mean, offset, F, alpha, bias_alpha, power,
    fit_bias, robust, delta, cut, extra, spectrum, means, n_steps, tol, X, bias, out,
    w, x, g, z, p, q, inverse, ridge,
):  # fmt: skip
    """Do what `cg_rows` does; behind `out` is room. `p` comes as zeros."""
    k = F.shape[1]
    zero = F.dtype.type(0)
    tiny = F.dtype.type(1e-30)
    # Variables: for constants `_pass` would be compiled once more for each.
    yes, no = fit_bias | True, fit_bias & False
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        out[i, 0] = 0.0
        out[i, 1] = 0.0
        xb = bias[i]
        for c in range(k):
            x[c] = X[i, c]
            g[c] = zero
        total, mass, gb0 = _pass(
            first, last, indices, F, x, zero, yes, w, g, values, mean + xb, offset, weights,
            robust, delta, cut,
        )  # fmt: skip
        out[i, 0] = total
        if mass <= 0:
            for c in range(k):
                X[i, c] = zero
            bias[i] = zero
            continue
        lam, lam_b = _row_ridge(i, alpha, bias_alpha, extra, mass**power, k, ridge)
        floor = mass * spectrum[k - 1] * 1e-7 + lam
        floor = floor if floor > tiny else tiny
        schur = mass + lam_b
        for c in range(k):
            g[c] -= ridge[c] * x[c]
            diagonal = mass * spectrum[c] + ridge[c]
            inverse[c] = 1.0 / (diagonal if diagonal > floor else floor)
            schur -= (mass * means[c]) ** 2 * inverse[c]
        least = 1e-7 * (mass + lam_b)
        schur = schur if schur > least else least
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
            pb = zb + ratio * pb
            rz_before = rz
            # q = (sum_e w_e f_e f_e' + ridge) p, matrix-free.
            for c in range(k):
                p[c] = z[c] + ratio * p[c]
                q[c] = ridge[c] * p[c]
            _, _, qb = _pass(
                first, last, indices, F, p, pb, no, w, q, values, zero, offset, weights,
                robust, delta, cut,
            )  # fmt: skip
            qb += lam_b * pb
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
def _substitute(L, b, fully):
    """Solve L L' x = b in place, or L x = b where not `fully`."""
    n = L.shape[0]
    for a in range(n):
        t = b[a]
        for c in range(a):
            t -= L[a, c] * b[c]
        b[a] = t / L[a, a]
    if not fully:
        return
    for a in range(n - 1, -1, -1):
        b[a] /= L[a, a]
        t = b[a]
        for c in range(a):
            b[c] -= L[a, c] * t


@inner(_nrt=True)  # of the views that np.dot takes
def _factor_normal_matrix(n, weighted, w, A, B, ridge, H, L):
    """Factor a row's normal matrix, with weights w and its ridge, into L.

    With a trace of ridge where it is singular; False where that does not help.
    """
    k = H.shape[0]
    if weighted:
        for e in range(n):
            for c in range(k):
                B[e, c] = w[e] * A[e, c]
    np.dot(A[:n].T, (B if weighted else A)[:n], H)
    trace = 0.0
    least = ridge[0]
    for c in range(k):
        H[c, c] += ridge[c]
        trace += H[c, c]
        least = ridge[c] if ridge[c] < least else least
    trial = trace / k * (1e-10 if H.itemsize == 8 else 1e-6)
    extra = trial if n < k and least <= 0 else 0.0
    for _ in range(8):
        for a in range(k):
            for b in range(a + 1):
                L[a, b] = H[a, b]
            L[a, a] += extra
        if _factor(L):
            return True
        extra = 10 * extra if 10 * extra > trial else trial
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


def _room(start, stop, entries, problem):
    """Return room for the weights, twice the regressors, two square matrices and four vectors."""
    dtype, size = problem.F.dtype, problem.F.shape[1] + bool(problem.fit_bias)
    n = _longest(start, stop, entries)
    tables, squares = np.empty((2, n, size), dtype), np.empty((2, size, size), dtype)
    weighted = bool(problem.robust or len(entries.weights) > 0)
    return weighted, np.empty(n, dtype), *tables, *squares, *np.empty((4, size), dtype)


def cholesky_rows(start, stop, entries, problem, n_steps, tol, X, bias, out):
    """Exact solution of each row's (re-weighted) normal equations, as a correction to X.

    More than one step re-weights again, until the objective falls by less than `tol` of it.
    """
    room = _room(start, stop, entries, problem)
    _cholesky_rows(start, stop, *entries, *problem, False, n_steps, tol, X, bias, out, *room)


@njit(fastmath=_FAST, _nrt=True)
def _cholesky_rows(
    start, stop, indptr, indices, values, weights, mean, offset, F, alpha, bias_alpha, power,
    fit_bias, robust, delta, cut, extra, score, n_steps, tol, X, bias, out,
    weighted, w, A, B, H, L, x, g, change, ridge,
):  # fmt: skip
    """Do what `cholesky_rows` does, or `leave_one_out_rows` (`score`); behind `out` is room."""
    k = F.shape[1]
    # Variables: for constants what is called would be compiled once more for each.
    zero, yes, improve = F.dtype.type(0), fit_bias | True, not score
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        n = last - first
        out[i, 0] = 0.0
        out[i, 1] = 0.0
        if score and n == 0:
            continue
        _regressors(first, last, indices, F, fit_bias, A)
        for c in range(k):
            x[c] = X[i, c]
        for step in range(n_steps):
            for c in range(k):
                g[c] = zero
            total, mass, gb = _pass(
                first, last, indices, F, x, zero, yes, w, g, values, mean + bias[i], offset,
                weights, robust, delta, cut,
            )  # fmt: skip
            if step == 0 and not score:
                out[i, 0] = total
            if mass <= 0 and not score:
                for c in range(k):
                    x[c] = zero
                bias[i] = zero
                break
            _, lam_b = _row_ridge(i, alpha, bias_alpha, extra, mass**power, k, ridge)
            if fit_bias:
                ridge[k] = lam_b
            solved = _factor_normal_matrix(n, weighted, w, A, B, ridge, H, L)
            if score:
                for e in range(n):
                    r = values[first + e] - mean - bias[i] - offset[indices[first + e]]
                    for c in range(k):
                        r -= x[c] * A[e, c]
                    if solved:
                        for c in range(len(change)):
                            change[c] = A[e, c]
                        _substitute(L, change, improve)
                        leverage = 0.0
                        for c in range(len(change)):
                            leverage += change[c] * change[c]
                        left = 1.0 - w[e] * leverage
                        r /= left if left > 1e-9 else 1e-9
                    out[i, 0] += r * r
                    out[i, 1] += abs(r)
            if score or not solved:
                break
            for c in range(k):
                g[c] -= ridge[c] * x[c]
                change[c] = g[c]
            if fit_bias:
                gb -= ridge[k] * bias[i]
                change[k] = gb
            _substitute(L, change, improve)
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


def leave_one_out_rows(start, stop, entries, problem, X, bias, out):
    """Sum over each row's entries of squared and absolute leave-one-out residuals, at X, bias."""
    room = _room(start, stop, entries, problem)
    _cholesky_rows(start, stop, *entries, *problem, True, 1, 0.0, X, bias, out, *room)


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
