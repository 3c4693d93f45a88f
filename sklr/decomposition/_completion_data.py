"""What matrix completion works on: observed entries, settings, and the model of them.

`ObservedEntries` decides by size whether NumPy or compiled kernels do the work.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import csr_array

from sklr.decomposition import _completion_numpy as reference
from sklr.utils._threads import thread_map

# Up to here the normal equations of a row, made by BLAS, cost less than three steps of CG.
_CHOLESKY_UP_TO = 16
# Multiply-adds of the normal equations below which NumPy does a half-sweep, and nothing has to be
# compiled.
_SMALL = 4_000_000
# Multiply-adds below which a half-sweep is not worth the start of a thread.
_WORTH_A_THREAD = 2_000_000


@dataclass
class Settings:
    """What one run of alternating minimisation needs to know."""

    rank: int
    alpha: float = 0.0
    bias_alpha: float = 0.0
    power: float = 0.0
    loss: str = "squared"
    solver: str = "auto"
    n_inner: int = 3
    fit_bias: bool = False
    uncertainty: bool = False
    max_iter: int = 50
    tol: float = 1e-5
    n_jobs: int | None = None
    follow_noise: bool = False  # whether the ridge is lowered where hardly any noise is left

    @property
    def resolved_solver(self):
        """The solver that "auto" stands for."""
        if self.solver == "auto" and not self.uncertainty:
            return "cholesky" if self.rank <= _CHOLESKY_UP_TO else "cg"
        return "cg" if self.solver == "auto" else self.solver

    @property
    def entry_weight(self):
        """What the weight of an entry is about in the loss."""
        return 0.1 if self.loss == "absolute" else 1.0

    def compiles(self, entries):
        """Whether kernels do the work, or NumPy, which is as fast where there are few entries."""
        few = len(entries.values) * (self.rank + 1) ** 2 <= _SMALL
        return not (few and self.solver == "auto")


@dataclass
class Model:
    """Factors, biases and the scales that came with them.

    `delta` and `cut` are the residuals where a robust loss turns from square to absolute value,
    and where it ends. `noise_share` is the noise's part of the variance `scale` ** 2, and
    `col_variances` the posterior variances of V, both with uncertainty only. `ridge_share` is what
    ridges were lowered to, and `last_gain` the part of the objective that the last sweep took off
    it.
    """

    mean: float
    scale: float
    U: np.ndarray
    V: np.ndarray
    row_bias: np.ndarray
    col_bias: np.ndarray
    delta: float = np.inf
    cut: float = np.inf
    noise_share: float = 1.0
    col_variances: np.ndarray | None = None
    history: list = field(default_factory=list)
    converged: bool = False
    ridge_share: float = 1.0
    last_gain: float = 1.0

    @property
    def dtype(self):
        """Precision of the whole run."""
        return self.V.dtype

    def orthogonalise(self):
        """Rotate the factors so that components are orthogonal, largest first, of fixed sign.

        A rotation of both changes neither the product nor the ridge.
        """
        _, Q = np.linalg.eigh(self.V.T.astype(np.float64) @ self.V.astype(np.float64))
        Q = Q[:, ::-1]
        V = self.V @ Q
        largest = V[np.abs(V).argmax(axis=0), np.arange(V.shape[1])]
        Q = (Q * np.where(largest < 0, -1.0, 1.0)).astype(self.dtype)
        self.U = np.ascontiguousarray(self.U @ Q)
        self.V = np.ascontiguousarray(self.V @ Q)
        if self.col_variances is not None:
            self.col_variances = self.col_variances @ Q**2

    def spread(self, rows, columns):
        """Return the model of a larger matrix: these are its rows and columns, others have zeros.

        There may be fewer of these than components: the last components are zero then.
        """
        variances = self.col_variances
        return replace(
            self,
            U=with_zeros(self.U, rows),
            V=with_zeros(self.V, columns),
            row_bias=with_zeros(self.row_bias, rows),
            col_bias=with_zeros(self.col_bias, columns),
            col_variances=None if variances is None else with_zeros(variances, columns),
        )

    def number(self, value):
        """Return a number in the model's precision."""
        return self.dtype.type(value)


class RowRegressions(NamedTuple):
    """What the regressions of all rows on the factors `F` of the other side have in common.

    Kernels take its fields one by one, in this order.
    """

    mean: np.floating
    offset: np.ndarray
    F: np.ndarray
    alpha: np.floating
    bias_alpha: np.floating
    power: float
    fit_bias: bool
    robust: bool
    delta: np.floating
    cut: np.floating
    extra_ridge: np.ndarray  # (n_rows, k), or without rows where there is none


class ObservedEntries(NamedTuple):
    """CSR view of the observed entries, or CSC view where the rows are columns of the matrix.

    `weights` is empty where all count alike. Kernels take it as it is.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    @property
    def n(self):
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def row_numbers(self):
        """The row of each entry."""
        return np.repeat(np.arange(self.n), np.diff(self.indptr))

    def seen(self):
        """Which rows have an entry."""
        return np.diff(self.indptr) > 0

    def without_empty(self, rows, columns):
        """Return the entries without the rows and columns that are False (None for all columns).

        They must be without entries.
        """
        indptr = self.indptr[np.concatenate([rows, [True]])]
        if columns is None or columns.all():
            return self._replace(indptr=indptr)
        number = np.cumsum(columns, dtype=np.int32) - 1
        return self._replace(indptr=indptr, indices=number[self.indices].astype(np.int32))

    def weight_sums(self):
        """Sum of the weights of each row."""
        if len(self.weights) == 0:
            return np.diff(self.indptr).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.diff(total[self.indptr])

    def weight_matrix(self, n_columns):
        """Sparse matrix of the weights, ones where all count alike."""
        weights = self.weights if len(self.weights) else np.ones_like(self.values)
        return csr_array((weights, self.indices, self.indptr), shape=(self.n, n_columns))

    def ranges(self, n_parts):
        """Cut the rows into ranges of about as many entries each."""
        if n_parts == 1:
            return [(0, self.n)]
        # A row costs something without entries too.
        work = self.indptr + 8 * np.arange(self.n + 1)
        cuts = np.searchsorted(work, np.linspace(0, work[-1], n_parts + 1))
        cuts[0], cuts[-1] = 0, self.n
        return [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]

    def row_means(self, mean, offset, ridge, out):
        """Write each row's ridge mean of its values without mean and column offsets."""
        mass = self.weight_sums() + ridge
        for a, b in self.ranges(max(1, len(self.values) >> 20)):  # a million entries at a time
            entries = slice(self.indptr[a], self.indptr[b])
            rows = np.repeat(np.arange(b - a), np.diff(self.indptr[a : b + 1]))
            r = self.values[entries] - mean - offset[self.indices[entries]]
            if len(self.weights):
                r *= self.weights[entries]
            total = np.bincount(rows, weights=r, minlength=b - a)
            out[a:b] = np.divide(total, mass[a:b], out=np.zeros(b - a), where=mass[a:b] > 0)

    def solve(self, regressions, X, bias, settings, *, n_steps, tol):
        """Solve every row's regression by its normal equations, from `X` and `bias` on.

        Returns the loss before, and what the rows' objectives fell by, both (n_rows, 2).
        """
        out = np.empty((self.n, 2))
        if not settings.compiles(self):
            reference.solve_rows(self, regressions, n_steps, tol, X, bias, out)
            return out
        from sklr.decomposition._completion_kernels import cholesky_rows

        work = regressions.F.shape[1] ** 2
        thread_ranges(
            cholesky_rows, self, work, settings.n_jobs, regressions, n_steps, tol, X, bias, out
        )  # fmt: skip
        return out

    def descend(self, regressions, gram, X, bias, settings, *, n_steps, tol):
        """Take a few steps of conjugate gradients for every row; returns what `solve` does.

        `gram` is the diagonal Gram matrix of the factors, and their mean, both by weight.
        """
        from sklr.decomposition._completion_kernels import cg_rows

        out = np.empty((self.n, 2))
        work = 4 * regressions.F.shape[1] * (n_steps + 1)
        thread_ranges(
            cg_rows, self, work, settings.n_jobs, regressions, *gram, n_steps, tol, X, bias, out
        )  # fmt: skip
        return out

    def leave_one_out(self, regressions, X, bias, settings):
        """Sums of squared and of absolute residuals of entries left out of their regression."""
        out = np.empty((self.n, 2))
        if not settings.compiles(self):
            reference.leave_one_out_rows(self, regressions, X, bias, out)
        else:
            from sklr.decomposition._completion_kernels import leave_one_out_rows

            work = settings.rank**2
            thread_ranges(
                leave_one_out_rows, self, work, settings.n_jobs, regressions, X, bias, out
            )
        return tuple(float(total) for total in out.sum(axis=0))

    def residual_product(self, mean, bias, offset, clip, scale, B, settings):
        """Multiply the clipped residuals of the biases, zero where unobserved, by dense `B`."""
        if not settings.compiles(self):
            return reference.residual_product(self, mean, bias, offset, *clip, scale, B)
        from sklr.decomposition._completion_kernels import residual_product

        out = np.empty((self.n, B.shape[1]), dtype=B.dtype)
        B = np.ascontiguousarray(B)
        thread_ranges(
            residual_product, self, B.shape[1], settings.n_jobs, mean, bias, offset, *clip, scale,
            B, out,
        )  # fmt: skip
        return out

    def residuals(self, model, settings, step=1):
        """Residuals of every `step`-th entry; the rows must be those of the model."""
        args = model.number(model.mean), model.row_bias, model.col_bias, model.U, model.V
        if not settings.compiles(self):
            return reference.residuals(self, *args)[::step]
        from sklr.decomposition._completion_kernels import entry_residuals

        out = np.empty(-(-len(self.values) // step), dtype=model.dtype)
        entry_residuals(self, *args, step, out)
        return out

    def squared_loss(self, model, settings):
        """Weighted sum of squared residuals; the rows must be those of the model."""
        if not settings.compiles(self):
            r = self.residuals(model, settings).astype(np.float64)
            return float(r**2 @ self.weights if len(self.weights) else r @ r)
        from sklr.decomposition._completion_kernels import row_losses

        out = np.empty(self.n)
        thread_ranges(
            row_losses, self, settings.rank, settings.n_jobs, model.number(model.mean),
            model.row_bias, model.col_bias, model.U, model.V, out,
        )  # fmt: skip
        return float(out.sum())


def with_zeros(array, rows):
    """Return an array with a row of zeros wherever `rows` is False."""
    out = np.zeros((len(rows), *array.shape[1:]), array.dtype)
    out[rows] = array
    return out


def thread_ranges(kernel, entries, per_entry, n_jobs, *args):
    """Run a kernel over all rows, on threads where it pays."""
    worth = len(entries.values) * per_entry > _WORTH_A_THREAD
    n_parts = 4 * effective_n_jobs(n_jobs) if worth and effective_n_jobs(n_jobs) > 1 else 1
    thread_map(lambda cut: kernel(*cut, entries, *args), entries.ranges(n_parts), n_jobs)


def _transpose(data, indices, indptr, n_columns):
    """Return index pointer, row numbers and data of the same entries by columns, in row order."""
    out = csr_array((data, indices, indptr), shape=(len(indptr) - 1, n_columns)).tocsc()
    return out.indptr.astype(np.int64), out.indices.astype(np.int32, copy=False), out.data


def transposed(entries, n_columns):
    """Return the entries grouped by their other index."""
    by_column = _transpose(entries.values, entries.indices, entries.indptr, n_columns)
    weights = entries.weights
    if len(weights):
        weights = _transpose(weights, entries.indices, entries.indptr, n_columns)[2]
    return ObservedEntries(*by_column, weights)


def grouped(rows, cols, values, weights, shape):
    """Return entries by row and by column; repeated pairs stay repeated."""
    # A matrix with one entry in a row: its columns are the groups.
    indptr, order, values = _transpose(values, cols, np.arange(len(values) + 1), shape[1])
    by_column = ObservedEntries(
        indptr,
        rows[order].astype(np.int32, copy=False),
        values,
        weights[order] if len(weights) else weights,
    )
    return transposed(by_column, shape[0]), by_column
