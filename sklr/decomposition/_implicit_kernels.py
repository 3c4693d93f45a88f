"""Half-sweeps of implicit feedback (Numba, no threads of their own).

For each row i of a range, minimise over x the quadratic ``sum_j (F_j x)^2 + ridge_i |x|^2``, whose
Gram matrix all rows share, plus ``sum_e (1 + w_e) (1 - F_j x)^2 - (F_j x)^2`` over the row's
entries. Rows are independent of each other: a caller may hand ranges to several threads.
"""

import numpy as np

from sklr.utils._compile import njit

_FAST = {"reassoc", "contract"}


def implicit_rows(start, stop, entries, F, spectrum, ridge, n_steps, tol, X, out):
    """Few steps of conjugate gradients for each row, from where it stands.

    F is rotated so that its Gram matrix is the diagonal `spectrum`: the cells without an entry cost
    k multiplications then, and the diagonal of a row's own matrix is the preconditioner. `out`
    (n_rows, 2) gets the objective before, and what it fell by.
    """
    # Arrays made inside, and a tuple, would compile some tenths of a second longer.
    room = np.empty((6, F.shape[1]), F.dtype)
    _implicit_rows(
        start, stop, *entries[:3], F, spectrum, ridge, n_steps, tol, X, out, *room
    )  # fmt: skip


@njit(fastmath=_FAST)
def _implicit_rows(
    start, stop, indptr, indices, weights, F, spectrum, ridge, n_steps, tol, X, out,
    x, g, p, q, inverse, diagonal,
):  # fmt: skip
    """Do what `implicit_rows` does; behind `out` is room."""
    k, zero, one = F.shape[1], F.dtype.type(0), F.dtype.type(1)
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        objective, fell = 0.0, 0.0
        for c in range(k):
            x[c] = X[i, c] if last > first else zero
            diagonal[c] = spectrum[c] + ridge[i]
            inverse[c] = diagonal[c]
            g[c] = -diagonal[c] * x[c]
            objective -= g[c] * x[c]
        for e in range(first, last):
            j, w, t = indices[e], weights[e], zero
            for c in range(k):
                t += F[j, c] * x[c]
            objective += (one + w) * (one - t) ** 2 - t * t
            t = one + w * (one - t)
            for c in range(k):
                g[c] += t * F[j, c]
                inverse[c] += w * F[j, c] ** 2
        for c in range(k):
            inverse[c] = one / inverse[c]
        before, rz_first = 1.0, 0.0
        for step in range(n_steps):
            rz = 0.0
            for c in range(k):
                rz += g[c] * g[c] * inverse[c]
            if step == 0:
                rz_first = rz
            if not rz > tol * rz_first or not rz > 1e-300:
                break
            ratio = F.dtype.type(rz / before) if step > 0 else zero
            before = rz
            for c in range(k):
                p[c] = g[c] * inverse[c] + (ratio * p[c] if step > 0 else zero)
                q[c] = diagonal[c] * p[c]
            # Four entries at a time: one pass over p and one over q serve them all.
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
                t0 *= weights[e]
                t1 *= weights[e + 1]
                t2 *= weights[e + 2]
                t3 *= weights[e + 3]
                for c in range(k):
                    q[c] += (t0 * F[j0, c] + t1 * F[j1, c]) + (t2 * F[j2, c] + t3 * F[j3, c])
            for e in range(full, last):
                j, t = indices[e], zero
                for c in range(k):
                    t += F[j, c] * p[c]
                t *= weights[e]
                for c in range(k):
                    q[c] += t * F[j, c]
            curvature = 0.0
            for c in range(k):
                curvature += p[c] * q[c]
            if not curvature > 1e-300:
                break
            length = F.dtype.type(rz / curvature)
            fell += length * rz
            for c in range(k):
                x[c] += length * p[c]
                g[c] -= length * q[c]
        for c in range(k):
            X[i, c] = x[c]
        out[i, 0] = objective
        out[i, 1] = fell


def _warm_up(dtypes=(np.float64,)):
    from sklr.decomposition._completion_data import ObservedEntries

    indptr, cols = np.array([0, 2, 4, 5]), np.array([0, 1, 0, 1, 1], dtype=np.int32)
    for dtype in dtypes:
        entries = ObservedEntries(indptr, cols, np.ones(5, dtype), np.empty(0, dtype))
        F, X, ridge = np.ones((2, 2), dtype), np.ones((3, 2), dtype), np.ones(3, dtype)
        implicit_rows(0, 3, entries, F, F[0], ridge, 1, 0.0, X, np.empty((3, 2)))
