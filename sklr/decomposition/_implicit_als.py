"""Alternating least squares for implicit feedback: all cells count, the work is in the entries.

Hu, Koren and Volinsky: every cell has the target 1 where there is an entry and 0 where there is
none, and an entry has a higher confidence. The Gram matrix of the fixed side serves all rows.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from sklr.decomposition._completion_data import thread_ranges, with_zeros
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread

# Multiply-adds of the normal equations below which NumPy solves them and nothing is compiled.
_SMALL = 4_000_000
# Steps of conjugate gradients and the squared relative residual where a row counts as solved.
_LAST_STEPS, _LAST_TOL = 100, 1e-10
# Size of the factors at the start, in the unit of the scores.
_FIRST_SIZE = 0.1


@dataclass
class ImplicitModel:
    """Factors, ridges and the course of a fit. `ridge` is that of a row with one entry."""

    U: np.ndarray
    V: np.ndarray
    ridge: float
    history: list = field(default_factory=list)
    converged: bool = False


def reference_rows(entries, F, ridge, X, out):
    """Solve the normal equations of each row in NumPy: the reference of `implicit_rows`."""
    n, rank = X.shape
    counts = np.diff(entries.indptr)
    rows, w = np.repeat(np.arange(n), counts), entries.values
    shape = (n, len(F))
    extra = csr_array((w, entries.indices, entries.indptr), shape=shape)
    targets = csr_array((1 + w, entries.indices, entries.indptr), shape=shape)
    gram = F.T @ F
    # One sparse product makes the normal equations of all rows.
    pairs = (F[:, :, None] * F[:, None, :]).reshape(len(F), rank**2)
    H = gram + (extra @ pairs).reshape(n, rank, rank)
    H[:, np.arange(rank), np.arange(rank)] += ridge[:, None]
    H[counts == 0] = np.eye(rank)
    X[counts == 0] = 0
    t = np.einsum("er,er->e", F[entries.indices], X[rows])
    g = targets @ F - np.einsum("nrs,ns->nr", H, X)
    change = np.linalg.solve(H, g[:, :, None])[:, :, 0]
    own = np.einsum("nr,nr->n", X @ gram, X) + ridge * np.einsum("nr,nr->n", X, X)
    out[:, 0] = own + np.bincount(rows, (1 + w) * (1 - t) ** 2 - t**2, minlength=n)
    out[:, 1] = np.einsum("nr,nr->n", g, change)
    X += change


def half_sweep(entries, F, X, ridge, *, n_steps, tol=0.0, n_jobs=None):
    """Solve for every row with the other side's factors F fixed.

    `ridge` has one number for each row. Both factors come back rotated alike, with the objective
    before and what it fell by.
    """
    out = np.empty((entries.n, 2))
    if len(entries.values) * F.shape[1] ** 2 <= _SMALL:
        reference_rows(entries, F, ridge, X, out)
    else:
        from sklr.decomposition._implicit_kernels import implicit_rows

        spectrum, Q = np.linalg.eigh((F.T @ F).astype(np.float64))
        Q = Q.astype(F.dtype)
        F, X = F @ Q, X @ Q
        spectrum = np.maximum(spectrum, 0).astype(F.dtype)
        work = 4 * F.shape[1] * (n_steps + 1)
        thread_ranges(
            implicit_rows, entries, work, n_jobs, F, spectrum, ridge, n_steps, tol, X, out
        )  # fmt: skip
    return F, X, out[:, 0].sum(), out[:, 1].sum()


def unit_ridge(entries, n_cols, confidence):
    """Return the ridge that a row of one entry has for ``alpha=1``.

    At the mean number of entries (geometric, of both sides) the ridge is of the size of the
    singular values of noise: a matrix of as many entries at random has about the sum of the roots
    of the mean numbers of entries in a row and in a column, times the confidence.
    """
    n_entries = len(entries.values)
    n_rows = int((np.diff(entries.indptr) > 0).sum())
    noise = (n_entries / n_rows) ** 0.5 + (n_entries / n_cols) ** 0.5
    return (1 + confidence) * noise / (n_entries / (n_rows * n_cols) ** 0.5) ** 0.5


def ridges(entries, ridge, dtype):
    """Ridge of each row: in proportion to the root of its number of entries."""
    counts = np.diff(entries.indptr)
    return (ridge * np.maximum(counts, 1) ** 0.5).astype(dtype)


@single_blas_thread()
def minimise_implicit(
    by_row, by_column, rank, ridge, rng, *, n_inner, max_iter, tol, n_jobs=None, verbose=0
):
    """Alternate between rows and columns until the objective stays; return the model.

    The values of the entries are what their confidence exceeds that of an empty cell by. Rows and
    columns without entries take no part, and have zeros in the model.
    """
    dtype, rows, columns = by_row.values.dtype, by_row.seen(), by_column.seen()
    by_row, by_column = (
        by_row.without_empty(rows, columns), by_column.without_empty(columns, rows)
    )  # fmt: skip
    V = (_FIRST_SIZE / rank**0.5 * rng.standard_normal((by_column.n, rank))).astype(dtype)
    model = ImplicitModel(np.zeros((by_row.n, rank), dtype), V, ridge)
    row_ridges, col_ridges = (ridges(side, ridge, dtype) for side in (by_row, by_column))
    for sweep in progress(range(max_iter), total=max_iter, description="sweeps", verbose=verbose):
        # The first factors are far off: twice the steps.
        options = {"n_steps": n_inner if sweep else 2 * n_inner, "n_jobs": n_jobs}
        V, U, _, _ = half_sweep(by_row, model.V, model.U, row_ridges, **options)
        U, V, before, fell = half_sweep(by_column, U, V, col_ridges, **options)
        model.U, model.V = U, V
        # The objective of the columns has all but the ridge of the rows.
        before += float(row_ridges @ np.einsum("ij,ij->i", U, U, dtype=np.float64))
        model.history.append(before - fell)
        if not np.isfinite(before):
            raise ValueError(
                f"alternating least squares overflowed in sweep {sweep + 1} ({dtype.name}); lower "
                "confidence or raise alpha."
            )
        if sweep and model.history[-2] - model.history[-1] <= tol * model.history[-2]:
            model.converged = True
            break
    solve_rows(by_row, model, n_jobs)
    model.U, model.V = with_zeros(model.U, rows), with_zeros(model.V, columns)
    return model


@single_blas_thread()
def solve_rows(by_row, model, n_jobs=None):
    """Solve the rows to the end: factors of new rows, or of those of the fit."""
    dtype = model.V.dtype
    row_ridges = ridges(by_row, model.ridge, dtype)
    model.V, model.U, _, _ = half_sweep(
        by_row, model.V, model.U, row_ridges, n_steps=_LAST_STEPS,
        tol=max(_LAST_TOL, 100 * np.finfo(dtype).eps ** 2), n_jobs=n_jobs,
    )  # fmt: skip
