"""Passes over costs and plans: exponentials, marginals, kept entries, scalings (Numba).

Everything is in scaled potentials: entry (i, j) of the plan is ``exp(u_i + v_j - C_ij / reg)``.
Kernels are serial and release the GIL; threads take chunks of rows. Sparse costs have kernels of
their own, over the stored entries of each row.
"""

import math

import numba as nb
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from sklr.utils._compile import inner, njit

# Outside these exponents the result is that of the nearest one: 3e-308 and 8e307.
_LOWEST, _HIGHEST = -708.0, 709.0
# Adding and subtracting 1.5 * 2 ** 52 rounds to the nearest integer, and leaves it in the low bits.
_ROUNDER = 6755399441055744.0

if nb.config.DISABLE_JIT:

    def _exp(x):
        """Exponential of one number."""
        return np.exp(min(max(x, _LOWEST), _HIGHEST))

else:

    @intrinsic
    def _as_float(context, bits):
        """Read 64 bits as a float."""

        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], ir.DoubleType())

        return nb.float64(nb.int64), generate

    @intrinsic
    def _as_bits(context, value):
        """Read a float as 64 bits."""

        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], ir.IntType(64))

        return nb.int64(nb.float64), generate

    @inner(fastmath={"contract"})
    def _exp(x):
        """Exponential of one number, without a branch or a call, so that loops of it vectorise.

        Error below two units in the last place; the C library's is called once a number, which
        takes five times as long.
        """
        x = x if x > _LOWEST else _LOWEST
        x = x if x < _HIGHEST else _HIGHEST
        shifted = x * 1.4426950408889634 + _ROUNDER
        power = shifted - _ROUNDER
        # The logarithm of two in two parts, so that the remainder is exact.
        x = x - power * 0.6931471803691238
        x = x - power * 1.9082149292705877e-10
        y = 2.08767569878681e-09
        y = y * x + 2.505210838544172e-08
        y = y * x + 2.755731922398589e-07
        y = y * x + 2.7557319223985893e-06
        y = y * x + 2.48015873015873e-05
        y = y * x + 0.0001984126984126984
        y = y * x + 0.001388888888888889
        y = y * x + 0.008333333333333333
        y = y * x + 0.041666666666666664
        y = y * x + 0.16666666666666666
        y = y * x + 0.5
        y = y * x + 1.0
        y = y * x + 1.0
        return _as_float(_as_bits(y) + (_as_bits(shifted) << 52))


@njit(fastmath={"contract"})
def _exp_row(costs, inv_reg, v, shift, row):
    for j in range(row.shape[0]):
        row[j] = _exp(v[j] - costs[j] * inv_reg + shift)


@inner(fastmath={"reassoc"})
def _sum_row(row):
    """Sum in lanes that the compiler chooses, by the row's length alone: a fixed order."""
    total = 0.0
    for j in range(row.shape[0]):
        total += row[j]
    return total


@inner(fastmath={"contract"})
def _add_row(row, factor, out):
    for j in range(row.shape[0]):
        out[j] += row[j] * factor


@inner(fastmath={"contract"})
def _multiply_rows(left, right, out):
    for j in range(out.shape[0]):
        out[j] = left[j] * right[j]


@inner(fastmath={"contract"})
def _highest(costs, inv_reg, v):
    best = -np.inf
    for j in range(v.shape[0]):
        x = v[j] - costs[j] * inv_reg
        best = x if x > best else best
    return best


if nb.config.DISABLE_JIT:  # the same rows in NumPy: scalar loops of Python would take minutes

    def _exp_row(costs, inv_reg, v, shift, row):  # noqa: F811
        np.exp(np.clip(v - costs * inv_reg + shift, _LOWEST, _HIGHEST), out=row)

    def _sum_row(row):  # noqa: F811
        return row.sum()

    def _add_row(row, factor, out):  # noqa: F811
        out += row * factor

    def _multiply_rows(left, right, out):  # noqa: F811
        np.multiply(left, right, out=out)

    def _highest(costs, inv_reg, v):  # noqa: F811
        return (v - costs * inv_reg).max()


@njit(fastmath={"contract"})
def row_update(C, inv_reg, v, a, u, column_sums, rows, keep):
    """Set each `u` so that its row of the plan sums to `a`; add the rows to `column_sums`.

    `u` holds guesses. Where a guess is so far off that a row's sum leaves the safe range, the row
    is done again from its largest exponent.

    Parameters
    ----------
    C : ndarray of shape (n, m)
        Costs.
    inv_reg : float
        One over the regularisation.
    v : ndarray of shape (m,)
        Scaled potentials of the columns.
    a : ndarray of shape (n,)
        Wanted row sums.
    u : ndarray of shape (n,)
        Guesses, overwritten.
    column_sums : ndarray of shape (m,)
        Added to.
    rows : ndarray of shape (n, m) or (1, m)
        Room for one row, or for all of them. (What allocates compiles a tenth of a second longer.)
    keep : bool
        Whether there is room for all rows. They have the right proportions, but are not scaled to
        their sums.
    """
    for i in range(C.shape[0]):
        row = rows[i if keep else 0]
        shift, total = u[i], 0.0
        for trial in range(2):
            if trial == 1:
                shift = -_highest(C[i], inv_reg, v)
            _exp_row(C[i], inv_reg, v, shift, row)
            total = _sum_row(row)
            if 1e-200 < total < 1e200:
                break
        factor = a[i] / total
        u[i] = shift + math.log(factor)
        _add_row(row, factor, column_sums)


@njit(fastmath={"contract"})
def plan_entries(
    C, inv_reg, u, v, low_row, low_column, places, fill, columns, exponents, indices, values
):  # fmt: skip
    """Count the entries of each row whose logarithm is large enough, or write them.

    At least the lower one of its row's and its column's bound. Counts go to `places`, which has the
    first place of each row when entries are written. `columns` and `exponents` have room for a row
    and one entry more.
    """
    for i in range(C.shape[0]):
        n_kept, place, low = 0, places[i], low_row[i]
        if not fill:
            for j in range(C.shape[1]):
                x = v[j] - C[i, j] * inv_reg + u[i]
                n_kept += (x >= low) | (x >= low_column[j])
            places[i] = n_kept
            continue
        # Every entry is written, and the place moves on behind those that are kept: no branch.
        for j in range(C.shape[1]):
            x = v[j] - C[i, j] * inv_reg + u[i]
            columns[n_kept] = j
            exponents[n_kept] = x
            n_kept += (x >= low) | (x >= low_column[j])
        for k in range(n_kept):
            indices[place + k] = columns[k]
        for k in range(n_kept):
            values[place + k] = _exp(exponents[k])


@njit(fastmath={"contract"})
def scale_rows(G, t, a, s, column_sums, row):
    """One Sinkhorn update of the row scalings `s`, and the column sums that it leads to."""
    for i in range(G.shape[0]):
        _multiply_rows(G[i], t, row)
        s[i] = a[i] / _sum_row(row)
        _add_row(G[i], s[i], column_sums)


@inner(fastmath={"contract"})
def _gather(start, costs, inv_reg, indices, v, row):
    for k in range(row.shape[0]):
        row[k] = v[indices[start + k]] - costs[start + k] * inv_reg


@inner(fastmath={"contract"})
def _exp_all(shift, row):
    for k in range(row.shape[0]):
        row[k] = _exp(row[k] + shift)


@njit(fastmath={"contract"})
def sparse_row_update(indptr, indices, costs, inv_reg, v, a, u, column_sums, buffer):
    """Do what `row_update` does for costs that are stored by rows; each row has an entry.

    `buffer` is room for the longest row.
    """
    for i in range(a.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        row = buffer[: stop - start]
        shift, total = u[i], 0.0
        for trial in range(2):
            _gather(start, costs, inv_reg, indices, v, row)
            if trial == 1:
                best = -np.inf
                for k in range(row.shape[0]):
                    best = row[k] if row[k] > best else best
                shift = -best
            _exp_all(shift, row)
            total = _sum_row(row)
            if 1e-200 < total < 1e200:
                break
        factor = a[i] / total
        u[i] = shift + math.log(factor)
        for k in range(start, stop):
            column_sums[indices[k]] += row[k - start] * factor


@njit(fastmath={"contract"})
def sparse_plan(indptr, indices, costs, inv_reg, u, v, out):
    """Write the plan's entries on the support of the costs."""
    for i in range(u.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        row = out[start:stop]
        _gather(start, costs, inv_reg, indices, v, row)
        _exp_all(u[i], row)


# Points in tiles: `tiles` (n_tiles, d, width) has the coordinates of the second points, sorted so
# that those of a tile are neighbours, `low` and `high` (d, n_tiles) the box around them. The last
# tile is filled up with points of potential -1e300, which carry nothing.


@inner(fastmath={"contract"})
def _bounds(x, low, high, metric, inv_reg, v_max, out):
    """Write the largest exponent that each tile can have at `x`: that of its box."""
    for t in range(out.shape[0]):
        out[t] = 0.0
    for k in range(x.shape[0]):
        x0 = x[k]
        for t in range(out.shape[0]):
            left, right = low[k, t] - x0, x0 - high[k, t]
            gap = left if left > right else right
            gap = gap if gap > 0.0 else 0.0
            out[t] += gap if metric == 2 else gap * gap
    for t in range(out.shape[0]):
        out[t] = v_max[t] - (math.sqrt(out[t]) if metric == 1 else out[t]) * inv_reg


@inner(fastmath={"contract"})
def _tile_costs(x, tile, metric, row):
    """Write costs from `x` to the points of a tile."""
    x0, y = x[0], tile[0]
    for j in range(row.shape[0]):
        gap = x0 - y[j]
        row[j] = abs(gap) if metric == 2 else gap * gap
    for k in range(1, x.shape[0]):
        x0, y = x[k], tile[k]
        for j in range(row.shape[0]):
            gap = x0 - y[j]
            row[j] += abs(gap) if metric == 2 else gap * gap
    if metric == 1:
        for j in range(row.shape[0]):
            row[j] = math.sqrt(row[j])


@njit(fastmath={"contract"})
def tile_row_update(
    X, tiles, low, high, metric, inv_reg, v, v_max, a, u, floor, column_sums, row, kept, bounds
):  # fmt: skip
    """Do what `row_update` does for costs between points, leaving out tiles that are far off.

    A tile is left out where no entry's logarithm can be above that of the row's sum plus `floor`.
    Where the guess of a row is off by more than a factor of 1000, it is done again from its
    largest exponent. `row` has room for all tiles and one more.
    """
    n_tiles = tiles.shape[0]
    costs = row[n_tiles]
    for i in range(X.shape[0]):
        _bounds(X[i], low, high, metric, inv_reg, v_max, bounds)
        shift, cut, total, n_kept = u[i], math.log(a[i]) + floor, 0.0, 0
        for trial in range(2):
            if trial == 1:
                best = -np.inf
                for t in range(n_tiles):
                    if bounds[t] > best:
                        _tile_costs(X[i], tiles[t], metric, costs)
                        highest = _highest(costs, inv_reg, v[t])
                        best = highest if highest > best else best
                shift, cut = -best, floor
            total, n_kept = 0.0, 0
            for t in range(n_tiles):
                if bounds[t] + shift >= cut:
                    kept[n_kept] = t
                    _tile_costs(X[i], tiles[t], metric, costs)
                    _exp_row(costs, inv_reg, v[t], shift, row[n_kept])
                    total += _sum_row(row[n_kept])
                    n_kept += 1
            if 1e-3 * a[i] < total < 1e200:
                break
        factor = a[i] / total
        u[i] = shift + math.log(factor)
        for k in range(n_kept):
            _add_row(row[k], factor, column_sums[kept[k]])


@njit(fastmath={"contract"})
def tile_entries(
    X, tiles, low, high, metric, inv_reg, u, v, v_max, low_row, low_column, low_tile, places,
    fill, row, bounds, columns, exponents, indices, values,
):  # fmt: skip
    """Do what `plan_entries` does for costs between points."""
    n_tiles, _, width = tiles.shape
    for i in range(X.shape[0]):
        _bounds(X[i], low, high, metric, inv_reg, v_max, bounds)
        n_kept, place, least = 0, places[i], low_row[i]
        for t in range(n_tiles):
            if bounds[t] + u[i] < least and bounds[t] + u[i] < low_tile[t]:
                continue
            _tile_costs(X[i], tiles[t], metric, row)
            if fill:
                # As in `plan_entries`: all are written, the place moves on behind those kept.
                n_kept = 0
                for j in range(width):
                    x = v[t, j] - row[j] * inv_reg + u[i]
                    exponents[n_kept] = x
                    columns[n_kept] = t * width + j
                    n_kept += (x >= least) | (x >= low_column[t, j])
                for k in range(n_kept):
                    indices[place + k] = columns[k]
                for k in range(n_kept):
                    values[place + k] = _exp(exponents[k])
                place += n_kept
            else:
                for j in range(width):
                    x = v[t, j] - row[j] * inv_reg + u[i]
                    n_kept += (x >= least) | (x >= low_column[t, j])
        if not fill:
            places[i] = n_kept


@njit(fastmath={"contract"})
def tile_plan_costs(
    X, tiles, low, high, metric, inv_reg, u, v, v_max, lowest, out, costs, row, bounds
):
    """Write each row's transport cost per unit mass, without tiles all below `lowest`."""
    n_tiles, _, width = tiles.shape
    for i in range(X.shape[0]):
        _bounds(X[i], low, high, metric, inv_reg, v_max, bounds)
        out[i] = total = 0.0
        for t in range(n_tiles):
            if bounds[t] + u[i] >= lowest:
                _tile_costs(X[i], tiles[t], metric, costs)
                _exp_row(costs, inv_reg, v[t], u[i], row)
                total += _sum_row(row)
                for j in range(width):
                    row[j] *= costs[j]
                out[i] += _sum_row(row)
        if total > 0.0:
            out[i] /= total


def _warm_up():
    C = np.arange(12.0).reshape(3, 4)
    a, u = np.full(3, 1 / 3), np.zeros(3)
    v, sums = np.zeros(4), np.zeros(4)
    row_update(C, 1.0, v, a, u, sums, np.empty((1, 4)), False)
    room = np.empty(5, np.int32), np.empty(5), np.empty(12, np.int32), np.empty(12)
    low_row, low_column = np.full(3, -5.0), np.full(4, -5.0)
    plan_entries(C, 1.0, u, v, low_row, low_column, np.zeros(3, np.int64), False, *room)
    scale_rows(np.exp(-C), np.ones(4), a, np.ones(3), sums, np.empty(4))
    indptr, indices = np.arange(0, 13, 4), np.tile(np.arange(4, dtype=np.int32), 3)
    sparse_row_update(indptr, indices, C.ravel(), 1.0, v, a, u, sums, np.empty(4))
    sparse_plan(indptr, indices, C.ravel(), 1.0, u, v, np.empty(12))
    X, tiles, box = np.zeros((3, 2)), np.zeros((1, 2, 4)), (np.zeros((2, 1)), np.zeros((2, 1)))
    v, v_max, places = np.zeros((1, 4)), np.zeros(1), np.zeros(3, dtype=np.int64)
    row, bounds, kept = np.empty((2, 4)), np.empty(1), np.empty(1, dtype=np.int64)
    tile_row_update(
        X, tiles, *box, 0, 1.0, v, v_max, a, u, -50.0, np.zeros((1, 4)), row, kept, bounds
    )
    arguments = X, tiles, *box, 0, 1.0, u, v, v_max
    low = low_row, low_column.reshape(1, 4), np.zeros(1)
    tile_entries(*arguments, *low, places, False, row[0], bounds, *room)
    tile_plan_costs(*arguments, 0.0, np.empty(3), row[0], row[1], bounds)
