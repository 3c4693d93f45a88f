"""Costs as passes over their rows: a matrix, two sets of points, or a sparse support.

The solver knows costs by what it asks of them: exact rows for given column potentials, the large
entries of the plan, its transport cost. Each pass goes over chunks of rows that depend on the
shape alone, and adds the chunks up in order, so that results do not depend on threads.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import PAIRWISE_BOOLEAN_FUNCTIONS

#: Metrics with a kernel here; all others are scikit-learn's.
_KERNEL_METRICS = ("sqeuclidean", "euclidean", "cityblock")
# Points with more coordinates go through a matrix product: one coordinate is a pass of its own.
_MOST_COORDINATES = 16
# With so many coordinates, and more points, tiles are faster than a stored matrix.
_FEW_COORDINATES, _LEAST_SORTED = 3, 1000
# Entries of one block of costs between points: 4 MiB stay in the cache.
_BLOCK = 2**19

Run = Callable[[Callable, Iterable], Iterable]


def _lower_median(values, weights):
    """Return the smallest value that at least half of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, 0.5 * reached[-1] * (1 - 1e-12))]])


def both_bounds(lowest, shape):
    """Return a bound for each row and each column."""
    if isinstance(lowest, tuple):
        return lowest
    return np.full(shape[0], lowest), np.full(shape[1], lowest)


def chunks_of(n_rows: int, rows_each: int) -> list[slice]:
    return [slice(i, min(i + rows_each, n_rows)) for i in range(0, n_rows, rows_each)]


class Cost:
    """What the solver asks of a cost; rows come in blocks from :meth:`block`."""

    shape: tuple[int, int]
    is_sparse = False
    #: Whether a result takes the plan dense where nothing else was asked for.
    dense_plan = True

    def __init__(self, shape: tuple[int, int], rows_each: int, run: Run = map):
        self.shape = shape
        self.run = run
        self.chunks = chunks_of(shape[0], max(1, rows_each))

    def block(self, rows: slice) -> np.ndarray:
        """Return rows of the cost matrix, as a view or in an array of their own."""
        raise NotImplementedError

    def subset(self, rows: np.ndarray, columns: np.ndarray) -> "Cost":
        """Return the cost between some rows and columns only."""
        raise NotImplementedError

    def extent(self) -> tuple[float, float]:
        """Return the smallest and the largest cost."""
        found = list(self.run(self._extent_of, self.chunks))
        return min(low for low, _ in found), max(high for _, high in found)

    def _extent_of(self, rows: slice) -> tuple[float, float]:
        block = self.block(rows)
        return float(block.min()), float(block.max())

    def mean(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the mean cost under weights of rows and columns."""
        found = self.run(lambda rows: float(a[rows] @ (self.block(rows) @ b)), self.chunks)
        return sum(found) / (a.sum() * b.sum())

    def median(self, a: np.ndarray, b: np.ndarray) -> float:
        """Return the median over rows of their median cost; weights count like repetitions."""
        uniform = np.ptp(b) <= 1e-12 * b.max()

        def work(rows):
            block = self.block(rows)
            if uniform:
                return np.partition(block, (block.shape[1] - 1) // 2, axis=1)[
                    :, (block.shape[1] - 1) // 2
                ]
            return np.array([_lower_median(row, b) for row in block])

        return _lower_median(np.concatenate(list(self.run(work, self.chunks))), a)

    def row_update(self, inv_reg, v, a, u):
        """Return the `u` that makes row sums equal `a`, and the column sums that follow."""
        from sklr.transport import _transport_kernels as kernels

        u = u.copy()
        total = np.zeros(self.shape[1])

        def work(rows):
            sums, row = np.zeros(self.shape[1]), np.empty((1, self.shape[1]))
            kernels.row_update(self.block(rows), inv_reg, v, a[rows], u[rows], sums, row, False)
            return sums

        for sums in self.run(work, self.chunks):
            total += sums
        return u, total

    def count(self, inv_reg, u, v, lowest):
        """Count the entries of each row of the plan that :meth:`entries` would return."""
        counts = np.empty(self.shape[0], dtype=np.int64)
        self._entries(inv_reg, u, v, lowest, counts, False, np.empty(0, np.int32), np.empty(0))
        return counts

    def _entries(self, inv_reg, u, v, lowest, places, fill, indices, values):
        from sklr.transport import _transport_kernels as kernels

        room = self.shape[1] + 1 if fill else 0
        low_row, low_column = both_bounds(lowest, self.shape)

        def work(rows):
            kernels.plan_entries(
                self.block(rows), inv_reg, u[rows], v, low_row[rows], low_column, places[rows],
                fill, np.empty(room, np.int32), np.empty(room), indices, values,
            )  # fmt: skip

        for _ in self.run(work, self.chunks):
            pass

    def n_entries(self, inv_reg, u, v, lowest) -> int:
        """Count the entries of the plan whose logarithm is at least `lowest`."""
        return int(self.count(inv_reg, u, v, lowest).sum())

    def entries(self, inv_reg, u, v, lowest, most=None):
        """Return the entries of the plan whose logarithm is at least `lowest`, by rows.

        Parameters
        ----------
        inv_reg : float
            One over the regularisation.
        u, v : ndarray of shape (n,) and (m,)
            Scaled potentials.
        lowest : float or tuple of ndarray
            The bound; or one for each row and one for each column, of which the lower one holds.
        most : int, default=None
            Most entries.

        Returns
        -------
        indptr, indices, values : ndarray
            As in a CSR matrix; None when there would be more than `most`.
        """
        counts = self.count(inv_reg, u, v, lowest)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        if most is not None and indptr[-1] > most:
            return None
        indices = np.empty(indptr[-1], dtype=np.int32)
        values = np.empty(indptr[-1])
        self._entries(inv_reg, u, v, lowest, indptr[:-1], True, indices, values)
        return indptr, indices, values

    def column_update(self, inv_reg, u, b, columns):
        """Return the exact `v` of some columns: those that no row reaches, for one."""
        highest = np.full(len(columns), -np.inf)
        total = np.zeros(len(columns))
        for rows in self.chunks:
            Z = self.block(rows)[:, columns] * -inv_reg
            Z += u[rows, None]
            before, highest = highest, np.maximum(highest, Z.max(axis=0))
            Z -= highest
            total = total * np.exp(before - highest) + np.exp(Z, out=Z).sum(axis=0)
        return np.log(b[columns]) - np.log(total) - highest

    def _write_plan(self, C, inv_reg, u, v, a, out):
        """Write rows of the plan for the rows `C` of the cost.

        Scaled to their sums: exponents alone would miss them by the rounding of costs that are
        large beside the regularisation.
        """
        from sklr.transport import _transport_kernels as kernels

        sums = np.zeros(self.shape[1])
        for rows in self._small_chunks(len(C)):
            part = out[rows]
            kernels.row_update(C[rows], inv_reg, v, a[rows], u[rows].copy(), sums, part, True)
            part *= (a[rows] / part.sum(axis=1))[:, None]

    def _small_chunks(self, n_rows):
        """Return rows few enough for the cache."""
        return chunks_of(n_rows, max(1, _BLOCK // 8 // self.shape[1]))

    def plan(self, inv_reg, u, v, a):
        """Return the plan, dense, with row sums `a`, which `u` gives up to rounding."""
        out = np.empty(self.shape)

        def work(rows):
            self._write_plan(self.block(rows), inv_reg, u[rows], v, a[rows], out[rows])

        for _ in self.run(work, self.chunks):
            pass
        return out

    def first_plan(self, inv_reg, u, v, a):
        """Return the plan in the order in which atoms were given."""
        return self.plan(inv_reg, u, v, a)

    def sparse_plan(self, inv_reg, u, v, a, smallest):
        """Return the same without entries below `smallest`, as a CSR array."""
        indptr, indices, values = self.entries(inv_reg, u, v, np.log(smallest))
        return self._scaled(csr_array((values, indices, indptr), shape=self.shape), a, smallest)

    def _scaled(self, plan, a, smallest):
        """Scale the rows of a sparse plan to their sums, except for what may have been left out."""
        sums = plan.sum(axis=1)
        wanted = np.clip(sums, a - smallest * self.shape[1], a)
        plan.data *= np.repeat(wanted / np.where(sums > 0, sums, 1.0), np.diff(plan.indptr))
        return plan

    def transport_cost(self, inv_reg, u, v, a) -> float:
        """Return the cost of the whole plan."""

        def work(rows):
            C, u_rows, a_rows, total = self.block(rows), u[rows], a[rows], 0.0
            room = np.empty((max(1, _BLOCK // 8 // C.shape[1]), C.shape[1]))
            for part in self._small_chunks(len(C)):
                P = room[: part.stop - part.start]
                self._write_plan(C[part], inv_reg, u_rows[part], v, a_rows[part], P)
                total += float(np.vdot(P, C[part]))
            return total

        return sum(self.run(work, self.chunks))

    def cost_of(self, plan, inv_reg, u, v, a) -> float:
        """Return the cost of the whole plan, of which `plan` may be a cheaper source."""
        return self.transport_cost(inv_reg, u, v, a)


class DenseCost(Cost):
    """A cost matrix in memory: float64 in C order, finite."""

    def __init__(self, C: np.ndarray, run: Run = map):
        # Sixteen chunks at most: enough for threads, and column sums of all of them are little.
        super().__init__(C.shape, max(-(-C.shape[0] // 16), _BLOCK // 16 // C.shape[1]), run)
        self.C = C

    def block(self, rows):
        """Return rows of the matrix, as a view."""
        return self.C[rows]

    def cost_of(self, plan, inv_reg, u, v, a):
        """Return the cost of the whole plan; a dense one has not to be computed again."""
        if not isinstance(plan, np.ndarray):
            return self.transport_cost(inv_reg, u, v, a)
        return sum(self.run(lambda rows: float(np.vdot(plan[rows], self.C[rows])), self.chunks))

    def subset(self, rows, columns):
        """Return the cost between some rows and columns only."""
        return DenseCost(self.C[np.ix_(rows, columns)], self.run)


class PointCost(Cost):
    """Costs between two sets of points, computed block by block in each pass, never stored."""

    def __init__(
        self, X: np.ndarray, Y: np.ndarray, metric: Any, run: Run = map, dense_plan: bool = False
    ):
        super().__init__((len(X), len(Y)), _BLOCK // len(Y), run)
        self.dense_plan = dense_plan
        self.X, self.Y, self.metric = X, Y, metric
        self._few = X.shape[1] <= _MOST_COORDINATES or metric == "cityblock"
        if not callable(metric) and metric in PAIRWISE_BOOLEAN_FUNCTIONS:
            # What scikit-learn makes of them, in each block and with a warning.
            self.X, self.Y = X != 0, Y != 0
        if metric in _KERNEL_METRICS:
            # Squares of small differences between large numbers would be lost in the expansion.
            centre = Y.mean(axis=0)
            self.X, self.Y = np.ascontiguousarray(X - centre), Y - centre
            self._Yt = np.ascontiguousarray(self.Y.T)
            if not self._few:
                self._squares = np.einsum("ij,ij->i", self.Y, self.Y)

    def sorts(self) -> bool:
        """Whether passes over tiles of neighbours are the best there is: see `TileCost`."""
        if self.metric not in _KERNEL_METRICS or self.X.shape[1] > _MOST_COORDINATES:
            return False
        few = self.X.shape[1] <= _FEW_COORDINATES and max(self.shape) > _LEAST_SORTED
        return few or not self.dense_plan

    def block(self, rows):
        """Compute rows of the cost matrix."""
        if self.metric not in _KERNEL_METRICS:
            return np.ascontiguousarray(
                pairwise_distances(self.X[rows], self.Y, metric=self.metric), dtype=np.float64
            )
        from sklr.transport import _cost_kernels as kernels

        X = self.X[rows]
        if self._few:
            out = np.empty((len(X), len(self.Y)))
            if self.metric == "cityblock":
                kernels.city_block_distances(X, self._Yt, out)
                return out
            kernels.squared_distances(X, self._Yt, out)
        else:
            out = X @ self._Yt
            out *= -2.0
            out += np.einsum("ij,ij->i", X, X)[:, None]
            out += self._squares
            np.maximum(out, 0.0, out=out)
        return np.sqrt(out, out=out) if self.metric == "euclidean" else out

    def stored(self) -> DenseCost:
        """Return the same costs as a matrix."""
        C = np.empty(self.shape)

        def work(rows):
            if self.metric in _KERNEL_METRICS and self._few:
                # As quick as a kernel where the rows are kept, and nothing to compile.
                cdist(self.X[rows], self.Y, self.metric, out=C[rows])
            else:
                C[rows] = self.block(rows)

        for _ in self.run(work, self.chunks):
            pass
        return DenseCost(C, self.run)

    def subset(self, rows, columns):
        """Return the cost between some rows and columns only."""
        return PointCost(self.X[rows], self.Y[columns], self.metric, self.run, self.dense_plan)


class SparseCost(Cost):
    """Costs on a support: pairs that are not stored carry nothing. Each row has an entry."""

    is_sparse = True

    def __init__(self, C: csr_array, run: Run = map):
        super().__init__(C.shape, -(-C.shape[0] // 16), run)
        self.C = C
        self.indptr = C.indptr.astype(np.int64)
        self.indices = C.indices.astype(np.int32)
        self.data = C.data

    def _rows(self, rows):
        return self.indptr[rows.start : rows.stop + 1]

    def subset(self, rows, columns):
        """Return the cost between some rows and columns only."""
        return SparseCost(self.C[rows][:, columns], self.run)

    def extent(self):
        """Return the smallest and the largest cost."""
        return float(self.data.min()), float(self.data.max())

    def mean(self, a, b):
        """Return the mean cost on the support under weights of rows and columns."""
        weights = np.repeat(a, np.diff(self.indptr)) * b[self.indices]
        return float(weights @ self.data / weights.sum())

    def row_update(self, inv_reg, v, a, u):
        """Return the `u` that makes row sums equal `a`, and the column sums that follow."""
        from sklr.transport import _transport_kernels as kernels

        u = u.copy()
        total = np.zeros(self.shape[1])

        def work(rows):
            sums, room = np.zeros(self.shape[1]), np.empty(self.shape[1])
            kernels.sparse_row_update(
                self._rows(rows), self.indices, self.data, inv_reg, v, a[rows], u[rows], sums, room
            )
            return sums

        for sums in self.run(work, self.chunks):
            total += sums
        return u, total

    def _values(self, inv_reg, u, v):
        from sklr.transport import _transport_kernels as kernels

        out = np.empty(len(self.data))

        def work(rows):
            kernels.sparse_plan(self._rows(rows), self.indices, self.data, inv_reg, u[rows], v, out)

        for _ in self.run(work, self.chunks):
            pass
        return out

    def _bounds(self, lowest):
        low_row, low_column = both_bounds(lowest, self.shape)
        return np.exp(
            np.minimum(np.repeat(low_row, np.diff(self.indptr)), low_column[self.indices])
        )

    def count(self, inv_reg, u, v, lowest):
        """Count the entries of each row of the plan that :meth:`entries` would return."""
        kept = self._values(inv_reg, u, v) >= self._bounds(lowest)
        return np.diff(np.concatenate([[0], np.cumsum(kept)])[self.indptr])

    def entries(self, inv_reg, u, v, lowest, most=None):
        """Return the entries of the plan whose logarithm is at least `lowest`, by rows."""
        values = self._values(inv_reg, u, v)
        kept = values >= self._bounds(lowest)
        before = np.concatenate([[0], np.cumsum(kept)])
        if most is not None and before[-1] > most:
            return None
        return before[self.indptr], self.indices[kept], values[kept]

    def column_update(self, inv_reg, u, b, columns):
        """Return the exact `v` of some columns."""
        C = self.C[:, columns].tocsc()
        Z = u[C.indices] - C.data * inv_reg
        highest = np.maximum.reduceat(Z, C.indptr[:-1])
        Z = np.exp(Z - np.repeat(highest, np.diff(C.indptr)))
        return np.log(b[columns]) - np.log(np.add.reduceat(Z, C.indptr[:-1])) - highest

    def plan(self, inv_reg, u, v, a):
        """Return the plan on the support, as a CSR array."""
        plan = csr_array((self._values(inv_reg, u, v), self.indices, self.indptr), self.shape)
        return self._scaled(plan, a, 0.0)

    def transport_cost(self, inv_reg, u, v, a):
        """Return the cost of the whole plan."""
        return float(self.plan(inv_reg, u, v, a).data @ self.data)
