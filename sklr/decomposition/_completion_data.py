"""Observed entries by row and by column, the settings and the model of matrix completion."""

from dataclasses import dataclass, field

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import csr_array

from sklr.utils._threads import thread_map

LOSSES = {"squared": 0, "huber": 1, "absolute": 1}
# Up to here the normal equations of a row, made by BLAS, cost less than three steps of CG.
_CHOLESKY_UP_TO = 16
# Multiply-adds of the normal equations below which NumPy does a half-sweep, and nothing has to be
# compiled.
_SMALL = 4_000_000
# Multiply-adds below which a half-sweep is not worth the start of a thread.
_WORTH_A_THREAD = 2_000_000


@dataclass
class Half:
    """Observed entries grouped by row, or by column."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    weights: np.ndarray

    @property
    def n(self):
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def arrays(self):
        """What every kernel takes."""
        return self.indptr, self.indices, self.values, self.weights

    def mass(self):
        """Sum of the weights of each row."""
        if len(self.weights) == 0:
            return np.diff(self.indptr).astype(np.float64)
        total = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.diff(total[self.indptr])

    def ranges(self, n_parts):
        """Cut the rows into ranges of about as many entries each."""
        if n_parts == 1:
            return [(0, self.n)]
        # A row costs something without entries too.
        work = self.indptr + 8 * np.arange(self.n + 1)
        cuts = np.searchsorted(work, np.linspace(0, work[-1], n_parts + 1))
        cuts[0], cuts[-1] = 0, self.n
        return [(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def _turned(data, indices, indptr, n_columns):
    """Return index pointer, row numbers and data of the same entries by columns, in row order."""
    out = csr_array((data, indices, indptr), shape=(len(indptr) - 1, n_columns)).tocsc()
    return out.indptr.astype(np.int64), out.indices.astype(np.int32, copy=False), out.data


def transposed(half, n_columns):
    """Return the entries grouped by their other index."""
    turned = _turned(half.values, half.indices, half.indptr, n_columns)
    weights = half.weights
    if len(weights):
        weights = _turned(weights, half.indices, half.indptr, n_columns)[2]
    return Half(*turned, weights)


def grouped(rows, cols, values, weights, shape):
    """Return entries by row and by column; repeated pairs stay repeated."""
    # A matrix with one entry in a row: its columns are the groups.
    indptr, order, values = _turned(values, cols, np.arange(len(values) + 1), shape[1])
    by_column = Half(
        indptr,
        rows[order].astype(np.int32, copy=False),
        values,
        weights[order] if len(weights) else weights,
    )
    return transposed(by_column, shape[0]), by_column


def _blocks(half):
    """Yield ranges of rows of about a million entries, with their entries and row numbers."""
    for a, b in half.ranges(max(1, len(half.values) >> 20)):
        entries = slice(half.indptr[a], half.indptr[b])
        yield a, b, entries, np.repeat(np.arange(a, b), np.diff(half.indptr[a : b + 1]))


def row_means(half, mean, offset, ridge, out):
    """Write each row's ridge mean of its values without mean and column offsets."""
    mass = half.mass() + ridge
    for a, b, entries, rows in _blocks(half):
        r = half.values[entries] - mean - offset[half.indices[entries]]
        if len(half.weights):
            r *= half.weights[entries]
        total = np.bincount(rows - a, weights=r, minlength=b - a)
        out[a:b] = np.divide(total, mass[a:b], out=np.zeros(b - a), where=mass[a:b] > 0)


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

    @property
    def resolved_solver(self):
        """The solver that "auto" stands for."""
        if self.solver == "auto" and not self.uncertainty:
            return "cholesky" if self.rank <= _CHOLESKY_UP_TO else "cg"
        return "cg" if self.solver == "auto" else self.solver


@dataclass
class Model:
    """Factors, biases and the scales that came with them."""

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

    @property
    def dtype(self):
        """Precision of the whole run."""
        return self.V.dtype


def run(kernel, half, per_entry, n_jobs, *args):
    """Run a kernel over the rows, on threads where it pays."""
    worth = len(half.values) * per_entry > _WORTH_A_THREAD
    n_parts = 4 * effective_n_jobs(n_jobs) if worth and effective_n_jobs(n_jobs) > 1 else 1
    thread_map(lambda cut: kernel(*cut, *half.arrays, *args), half.ranges(n_parts), n_jobs)


def is_small(half, settings):
    """Whether a half-sweep is done by NumPy."""
    return settings.solver == "auto" and len(half.values) * (settings.rank + 1) ** 2 <= _SMALL
