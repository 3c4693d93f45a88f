"""NumPy reference of the kernels of matrix completion, which does the work of small problems.

It needs no compilation, which takes seconds in the first call, and for a few thousand entries it is
as fast.
"""

import numpy as np
from scipy.sparse import csr_array

# Pairs that are predicted at a time: their factors stay in the cache.
_PAIRS = 16_384


def residuals(entries, mean, bias, offset, X, F):
    """Return the residual of each entry."""
    rows = entries.row_numbers
    fitted = np.einsum("ek,ek->e", X[rows], F[entries.indices])
    return entries.values - mean - bias[rows] - offset[entries.indices] - fitted


def _times(entries, data, B):
    """Multiply the matrix of `data` at the entries by dense `B`."""
    return csr_array((data, entries.indices, entries.indptr), shape=(entries.n, len(B))) @ B


def residual_product(entries, mean, bias, offset, low, high, scale, B):
    """Multiply the clipped residuals of the biases, zero where unobserved, by dense `B`."""
    rows = entries.row_numbers
    r = (
        np.clip(entries.values - mean - bias[rows] - offset[entries.indices], low, high)
        * scale[rows]
    )
    return _times(entries, r * entries.weights if len(entries.weights) else r, B)


def _weighted(entries, r, problem):
    """Return the loss of each entry, and its weight in the quadratic above the loss."""
    given = entries.weights if len(entries.weights) else np.ones_like(r)
    if not problem.robust:
        return given * r**2, given
    delta, cut = problem.delta, problem.cut
    size = np.minimum(np.abs(r), cut)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rho = np.where(size <= delta, r**2, delta * (2 * size - delta))
        weight = np.where(size <= delta, 1, delta / size)
    return given * rho, given * np.where(np.abs(r) > cut, 0, weight).astype(r.dtype)


def _normal_matrices(entries, w, A, ridge):
    """Return each row's normal equations, with a trace of ridge where they are singular."""
    size = A.shape[1]
    a, b = np.triu_indices(size)
    H = np.empty((entries.n, size, size), A.dtype)
    H[:, a, b] = H[:, b, a] = _times(entries, w, A[:, a] * A[:, b])
    diagonal = np.arange(size)
    H[:, diagonal, diagonal] += ridge
    trial = np.trace(H, axis1=1, axis2=2) / size * (1e-10 if A.dtype == np.float64 else 1e-6)
    few = (np.diff(entries.indptr) < size) & (ridge.min(axis=1) <= 0)
    extra = np.where(few, trial, 0)
    # Rows without entries have no equations.
    extra[trial == 0] = 1
    for _ in range(8):
        H[:, diagonal, diagonal] += extra[:, None]
        try:
            np.linalg.cholesky(H)
            break
        except np.linalg.LinAlgError:
            extra = np.maximum(trial, 10 * extra)
    return H


def _ridges(mass, problem):
    ridge = np.repeat((problem.alpha * mass**problem.power)[:, None], problem.F.shape[1], axis=1)
    if len(problem.extra_ridge):
        ridge = ridge + problem.extra_ridge
    return np.c_[ridge, problem.bias_alpha * mass**problem.power] if problem.fit_bias else ridge


def _regressors(problem):
    F = problem.F
    return np.c_[F, np.ones(len(F), F.dtype)] if problem.fit_bias else F


def solve_rows(entries, problem, n_steps, tol, X, bias, out):
    """Do what the kernel `cholesky_rows` does, for all rows."""
    rows, A, k, dtype = entries.row_numbers, _regressors(problem), X.shape[1], X.dtype
    going = np.diff(entries.indptr) > 0
    X[~going], bias[~going], out[:] = 0, 0, 0
    for step in range(n_steps):
        r = residuals(entries, problem.mean, bias, problem.offset, X, problem.F)
        loss, w = _weighted(entries, r, problem)
        total = np.bincount(rows, loss, entries.n)
        mass = np.bincount(rows, w, entries.n).astype(dtype)
        if step == 0:
            out[:, 0] = total
        dead = going & (mass <= 0)
        X[dead], bias[dead] = 0, 0
        going &= ~dead
        ridge = _ridges(mass, problem)
        x = np.c_[X, bias] if problem.fit_bias else X
        g = _times(entries, w * r, A) - ridge * x
        change = np.linalg.solve(_normal_matrices(entries, w, A, ridge), g[..., None])[..., 0]
        change[~going] = 0
        fell = np.einsum("ik,ik->i", g, change)
        X += change[:, :k]
        if problem.fit_bias:
            bias += change[:, k]
        out[:, 1] += fell
        going &= fell > tol * total
        if not going.any():
            break


def leave_one_out_rows(entries, problem, X, bias, out):
    """Do what the kernel of this name does, for all rows."""
    rows, A = entries.row_numbers, _regressors(problem)
    r = residuals(entries, problem.mean, bias, problem.offset, X, problem.F)
    _, w = _weighted(entries, r, problem)
    ridge = _ridges(np.bincount(rows, w, entries.n), problem)
    inverse = np.linalg.inv(_normal_matrices(entries, w, A, ridge))
    at = A[entries.indices]
    leverage = w * np.einsum("ea,eab,eb->e", at, inverse[rows], at, optimize=True)
    r = r / np.maximum(1 - leverage, 1e-9)
    out[:, 0] = np.bincount(rows, r**2, entries.n)
    out[:, 1] = np.bincount(rows, np.abs(r), entries.n)


def predict_pairs(rows, cols, mean, bias, offset, X, F):
    """Return the model's value at each (row, column) pair; negative indices have no factor."""
    out = np.full(len(rows), mean, dtype=F.dtype)
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        i, j = rows[part], cols[part]
        known = (i >= 0) & (j >= 0)
        out[part] += np.where(i >= 0, bias[i], 0)
        out[part] += np.where(j >= 0, offset[j], 0)
        out[part] += np.where(known, np.einsum("ek,ek->e", X[i], F[j]), 0)
    return out
