"""Costs between many points of few coordinates: neighbours in tiles, far tiles left out.

Points are sorted so that neighbours in space are neighbours in memory. A pass walks over tiles of
the second points, and leaves out those whose box is so far off that nothing in them reaches what
rounding would keep; the smaller the regularisation, the fewer remain. Groups of neighbours also
make the coarse problem whose potentials the full one starts from.
"""

import numpy as np
from scipy.sparse import csr_array

from sklr.transport._cost import Cost, PointCost, both_bounds, chunks_of

#: Points of a tile, and of a group that is one atom of the coarse problem.
WIDTH, GROUP = 64, 8
# Problems with more atoms on a side are begun on a coarser one.
_COARSE = 1000
# Entries this many logarithms below a row's sum, and each of m of them, are below rounding.
_ROUNDING = -41.5
# Share of a plan's entries below which they are sorted after they were found.
_FEW = 0.03
_NUMBERS = {"sqeuclidean": 0, "euclidean": 1, "cityblock": 2}


def spatial_order(X: np.ndarray) -> np.ndarray:
    """Return the order of points in which every run of `GROUP` is one box of a k-d tree."""
    out = np.empty(len(X), dtype=np.int64)
    todo = [(np.arange(len(X)), 0)]
    while todo:
        rows, start = todo.pop()
        if len(rows) <= GROUP:
            out[start : start + len(rows)] = rows
            continue
        Z = X[rows]
        rows = rows[np.argsort(Z[:, np.argmax(np.ptp(Z, axis=0))], kind="stable")]
        # The largest boxes have whole tiles, so that tiles are boxes as well.
        unit = WIDTH if len(rows) > WIDTH else GROUP
        middle = -(-len(rows) // unit) // 2 * unit
        todo += [(rows[:middle], start), (rows[middle:], start + middle)]
    return out


def _padded(values, fill):
    """Return values in rows of `WIDTH`."""
    n_tiles = -(-len(values) // WIDTH)
    out = np.full((n_tiles * WIDTH, *values.shape[1:]), fill)
    out[: len(values)] = values
    return out.reshape(n_tiles, WIDTH, *values.shape[1:])


def _grouped(X, weights):
    """Return the means of groups of neighbours, and their weights."""
    starts = np.arange(0, len(X), GROUP)
    masses = np.add.reduceat(weights, starts)
    return np.add.reduceat(X * weights[:, None], starts) / masses[:, None], masses


class TileCost(PointCost):
    """Costs between points in the order of `spatial_order`; see :meth:`sort`."""

    def __init__(self, X, Y, metric, run=map, dense_plan=False):
        Cost.__init__(self, (len(X), len(Y)), 2**19 // len(Y), run)
        self.X, self.Y, self.metric, self._few = X, Y, metric, True
        self.dense_plan = dense_plan
        self._Yt = np.ascontiguousarray(Y.T)
        self.rows, self.columns = np.arange(len(X)), np.arange(len(Y))
        # Chunks of the passes over tiles; enough of them for threads, each with column sums.
        self.slices = chunks_of(len(X), max(WIDTH, -(-len(X) // 32)))
        starts = np.arange(0, len(Y), WIDTH)
        self._tiles = np.ascontiguousarray(_padded(Y, 0.0).transpose(0, 2, 1))
        boxes = np.minimum.reduceat(Y, starts), np.maximum.reduceat(Y, starts)
        self._boxes = tuple(np.ascontiguousarray(corners.T) for corners in boxes)
        self._geometry = self._tiles, *self._boxes, _NUMBERS[metric]

    @classmethod
    def sort(cls, cost: PointCost):
        """Return the costs of the same points in order; `rows` and `columns` say which is which."""
        rows, columns = spatial_order(cost.X), spatial_order(cost.Y)
        out = cls(cost.X[rows], cost.Y[columns], cost.metric, cost.run, cost.dense_plan)
        out.rows, out.columns = rows, columns
        return out

    def subset(self, rows, columns):
        """Return the cost between some rows and columns only."""
        return TileCost(self.X[rows], self.Y[columns], self.metric, self.run)

    def _potentials(self, v):
        v = _padded(v, -1e300)
        return v, v.max(axis=1)

    def row_update(self, inv_reg, v, a, u):
        """Return the `u` that makes row sums equal `a`, and the column sums that follow."""
        m = self.shape[1]
        found = self._row_update(inv_reg, v, a, u, _ROUNDING - np.log(m))
        # What was left out of a column is at most 1e-18 / m.
        if not found[1].min() > 1e-10 / m:
            found = self._row_update(inv_reg, v, a, u, -np.inf)
        return found

    def _row_update(self, inv_reg, v, a, u, floor):
        from sklr.transport import _transport_kernels as kernels

        u = u.copy()
        v, v_max = self._potentials(v)
        total = np.zeros(v.shape)

        def work(rows):
            sums = np.zeros(v.shape)
            row, kept = np.empty((len(v) + 1, WIDTH)), np.empty(len(v), dtype=np.int64)
            kernels.tile_row_update(
                self.X[rows], *self._geometry, inv_reg, v, v_max, a[rows], u[rows], floor, sums,
                row, kept, np.empty(len(v)),
            )  # fmt: skip
            return sums

        for sums in self.run(work, self.slices):
            total += sums
        return u, total.ravel()[: self.shape[1]]

    def count(self, inv_reg, u, v, lowest):
        """Count the entries of each row of the plan that :meth:`entries` would return."""
        return self._count(self.X, inv_reg, u, v, lowest)

    def _count(self, X, inv_reg, u, v, lowest):
        counts = np.empty(len(X), dtype=np.int64)
        nothing = np.empty(0, dtype=np.int32), np.empty(0)
        self._entries(X, inv_reg, u, v, lowest, counts, False, *nothing)
        return counts

    def _entries(self, X, inv_reg, u, v, lowest, places, fill, indices, values):
        from sklr.transport import _transport_kernels as kernels

        v, v_max = self._potentials(v)
        low_row, low_column = both_bounds(lowest, self.shape)
        low_column = _padded(low_column, np.inf)
        low_tile = low_column.min(axis=1)

        def work(rows):
            kernels.tile_entries(
                X[rows], *self._geometry, inv_reg, u[rows], v, v_max, low_row[rows], low_column,
                low_tile, places[rows], fill, np.empty(WIDTH), np.empty(len(v)),
                np.empty(WIDTH + 1, np.int32), np.empty(WIDTH + 1), indices, values,
            )  # fmt: skip

        for _ in self.run(work, self.slices):
            pass

    def entries(self, inv_reg, u, v, lowest, most=None):
        """Return the entries of the plan whose logarithm is at least `lowest`, by rows."""
        return self._collect(self.X, inv_reg, u, v, lowest, most)

    def _collect(self, X, inv_reg, u, v, lowest, most=None):
        counts = self._count(X, inv_reg, u, v, lowest)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        if most is not None and indptr[-1] > most:
            return None
        indices = np.empty(indptr[-1], dtype=np.int32)
        values = np.empty(indptr[-1])
        self._entries(X, inv_reg, u, v, lowest, indptr[:-1], True, indices, values)
        return indptr, indices, values

    def sparse_plan(self, inv_reg, u, v, a, smallest):
        """Return the same without entries below `smallest`."""
        lowest = np.log(smallest)
        back_x, back_y = np.argsort(self.rows), np.argsort(self.columns)
        few = self.n_entries(inv_reg, u, v, lowest) < _FEW * self.shape[0] * self.shape[1]
        # Many entries are found in order faster than they are put in order.
        cost = self if few else TileCost(self.X, self.Y[back_y], self.metric, self.run)
        indptr, indices, values = cost._collect(
            self.X[back_x], inv_reg, u[back_x], v if few else v[back_y], lowest
        )
        if few:
            indices = self.columns.astype(np.int32)[indices]
        plan = csr_array((values, indices, indptr), shape=self.shape)
        if few:
            plan.sort_indices()
        return self._scaled(plan, a[back_x], smallest)

    def first_plan(self, inv_reg, u, v, a):
        """Return the plan in the order in which atoms were given."""
        back_x, back_y = np.argsort(self.rows), np.argsort(self.columns)
        cost = PointCost(self.X[back_x], self.Y[back_y], self.metric, self.run)
        return cost.plan(inv_reg, u[back_x], v[back_y], a[back_x])

    def transport_cost(self, inv_reg, u, v, a):
        """Return the cost of the whole plan."""
        from sklr.transport import _transport_kernels as kernels

        out = np.empty(self.shape[0])
        lowest = _ROUNDING - np.log(float(self.shape[0]) * self.shape[1])
        v, v_max = self._potentials(v)

        def work(rows):
            kernels.tile_plan_costs(
                self.X[rows], *self._geometry, inv_reg, u[rows], v, v_max, lowest, out[rows],
                np.empty(WIDTH), np.empty(WIDTH), np.empty(len(v)),
            )  # fmt: skip

        for _ in self.run(work, self.slices):
            pass
        return float(a @ out)

    def is_large(self) -> bool:
        """Return whether a coarser problem is worth solving first."""
        return max(self.shape) > _COARSE

    def coarser(self, a, b):
        """Return the cost between groups of neighbours, their weights, and how far groups reach.

        The last is the mean cost between a point and the mean of its group, of both sides.
        """
        X, masses_x = _grouped(self.X, a)
        Y, masses_y = _grouped(self.Y, b)
        reach = 0.0
        for points, means, weights in ((self.X, X, a), (self.Y, Y, b)):
            gaps = np.abs(points - np.repeat(means, GROUP, axis=0)[: len(points)])
            costs = gaps.sum(axis=1) if self.metric == "cityblock" else (gaps**2).sum(axis=1)
            reach += float(weights @ (np.sqrt(costs) if self.metric == "euclidean" else costs))
        return TileCost(X, Y, self.metric, self.run), masses_x, masses_y, reach

    def refine(self, coarse, inv_reg, a, b, masses, u, v):
        """Return potentials of all points: exact updates against the other side's groups."""
        out = []
        for points, others, weights, group_mass, own, theirs in (
            (self.X, coarse.Y, a, masses[0], u, v),
            (self.Y, coarse.X, b, masses[1], v, u),
        ):
            guess = np.repeat(own - np.log(group_mass), GROUP)[: len(points)] + np.log(weights)
            cross = TileCost(points, others, self.metric, self.run)
            out.append(cross.row_update(inv_reg, theirs, weights, guess)[0])
        return out
