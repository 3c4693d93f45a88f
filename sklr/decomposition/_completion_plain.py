"""The half-sweeps of alternating minimisation in NumPy, for small problems.

They need no compilation, which takes seconds in the first call, and for a few thousand entries they
are as fast. They also say in few lines what the kernels do.
"""

import numpy as np
from scipy.sparse import csr_array

# Pairs that are predicted at a time: their factors stay in the cache.
_PAIRS = 16_384


def row_numbers(half):
    """Return the row of each entry."""
    return np.repeat(np.arange(half.n), np.diff(half.indptr))


def residuals(half, mean, bias, offset, X, F):
    """Return the residual of each entry."""
    rows = row_numbers(half)
    fitted = np.einsum("ek,ek->e", X[rows], F[half.indices])
    return half.values - mean - bias[rows] - offset[half.indices] - fitted


def _times(half, data, B):
    """Multiply the matrix of `data` at the entries by dense `B`."""
    return csr_array((data, half.indices, half.indptr), shape=(half.n, len(B))) @ B


def residual_product(half, mean, bias, offset, low, high, scale, B):
    """Multiply the clipped residuals of the biases, zero where unobserved, by dense `B`."""
    rows = row_numbers(half)
    r = np.clip(half.values - mean - bias[rows] - offset[half.indices], low, high) * scale[rows]
    return _times(half, r * half.weights if len(half.weights) else r, B)


def _weighed(half, r, robust, delta, cut):
    """Return the loss of each entry, and its weight in the quadratic above the loss."""
    given = half.weights if len(half.weights) else np.ones_like(r)
    if not robust:
        return given * r**2, given
    size = np.minimum(np.abs(r), cut)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rho = np.where(size <= delta, r**2, delta * (2 * size - delta))
        weight = np.where(size <= delta, 1, delta / size)
    return given * rho, given * np.where(np.abs(r) > cut, 0, weight).astype(r.dtype)


def _normal_matrices(half, w, A, ridge):
    """Return each row's normal equations, with a trace of ridge where they are singular."""
    size = A.shape[1]
    a, b = np.triu_indices(size)
    H = np.empty((half.n, size, size), A.dtype)
    H[:, a, b] = H[:, b, a] = _times(half, w, A[:, a] * A[:, b])
    diagonal = np.arange(size)
    H[:, diagonal, diagonal] += ridge
    trial = np.trace(H, axis1=1, axis2=2) / size * (1e-10 if A.dtype == np.float64 else 1e-6)
    few = (np.diff(half.indptr) < size) & (ridge.min(axis=1) <= 0)
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


def _ridges(mass, alpha, bias_alpha, power, has_bias, more, k):
    ridge = np.repeat((alpha * mass**power)[:, None], k, axis=1)
    if len(more):
        ridge = ridge + more
    return np.c_[ridge, bias_alpha * mass**power] if has_bias else ridge


def solve_rows(
    half, mean, offset, F, alpha, bias_alpha, power, has_bias, robust, delta, cut, more, n_steps,
    tol, X, bias, out,
):  # fmt: skip
    """Do what the kernel `cholesky_rows` does, for all rows."""
    rows, k, dtype = row_numbers(half), F.shape[1], F.dtype
    A = np.c_[F, np.ones(len(F), dtype)] if has_bias else F
    going = np.diff(half.indptr) > 0
    X[~going], bias[~going], out[:] = 0, 0, 0
    for step in range(n_steps):
        r = residuals(half, mean, bias, offset, X, F)
        loss, w = _weighed(half, r, robust, delta, cut)
        total = np.bincount(rows, loss, half.n)
        mass = np.bincount(rows, w, half.n).astype(dtype)
        if step == 0:
            out[:, 0] = total
        dead = going & (mass <= 0)
        X[dead], bias[dead] = 0, 0
        going &= ~dead
        ridge = _ridges(mass, alpha, bias_alpha, power, has_bias, more, k)
        x = np.c_[X, bias] if has_bias else X
        g = _times(half, w * r, A) - ridge * x
        change = np.linalg.solve(_normal_matrices(half, w, A, ridge), g[..., None])[..., 0]
        change[~going] = 0
        fell = np.einsum("ik,ik->i", g, change)
        X += change[:, :k]
        if has_bias:
            bias += change[:, k]
        out[:, 1] += fell
        going &= fell > tol * total
        if not going.any():
            break


def leave_one_out_rows(
    half, mean, offset, F, alpha, bias_alpha, power, has_bias, robust, delta, cut, more, X, bias,
    out,
):  # fmt: skip
    """Do what the kernel of this name does, for all rows."""
    rows, k = row_numbers(half), F.shape[1]
    A = np.c_[F, np.ones(len(F), F.dtype)] if has_bias else F
    r = residuals(half, mean, bias, offset, X, F)
    _, w = _weighed(half, r, robust, delta, cut)
    mass = np.bincount(rows, w, half.n)
    ridge = _ridges(mass, alpha, bias_alpha, power, has_bias, more, k)
    inverse = np.linalg.inv(_normal_matrices(half, w, A, ridge))
    at = A[half.indices]
    leverage = w * np.einsum("ea,eab,eb->e", at, inverse[rows], at, optimize=True)
    r = r / np.maximum(1 - leverage, 1e-9)
    out[:, 0] = np.bincount(rows, r**2, half.n)
    out[:, 1] = np.bincount(rows, np.abs(r), half.n)


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
