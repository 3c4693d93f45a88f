"""Random entries, products with a graph, and merging of powers for FastRP (Numba).

Every sum over neighbours and over columns has one order, whatever the number of threads, the
chunk a row is in, or how many columns are computed together: results are the same to the bit.
That is why no flag allows contraction here.
"""

import math

import numba as nb
import numpy as np
from numba.extending import intrinsic

from sklr.manifold import _philox
from sklr.utils._compile import inner, njit

_MASK, _SHIFT = _philox.MASK, _philox.SHIFT

# What a step does with a finished row: nothing, start the sum of powers, add to it, or start it
# with the row of the power before as well (which then needs no memory of its own).
NOTHING, START, ADD, FOLD = 0, 1, 2, 3


if nb.config.DISABLE_JIT:

    def _prefetch(table, row, column):
        pass
else:

    @intrinsic
    def _prefetch(typingctx, table, row, column):
        """Ask for a cache line that is read some neighbours later."""
        from llvmlite import ir
        from numba.core import cgutils

        def codegen(context, builder, signature, args):
            array_type = signature.args[0]
            array = context.make_array(array_type)(context, builder, args[0])
            pointer = cgutils.get_item_pointer(
                context, builder, array_type, array, [args[1], args[2]], wraparound=False
            )
            number = ir.IntType(32)
            byte = ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            flags = [ir.Constant(number, flag) for flag in (0, 3, 1)]  # read, keep, data
            builder.call(function, [builder.bitcast(pointer, byte), *flags])
            return context.get_dummy_value()

        return nb.types.void(table, row, column), codegen


# Numba's cache does not see changes in another file; there are none to expect in a standard.
philox = inner()(_philox.philox)
_uniform = inner()(_philox.uniform)


@inner()
def _words(key, column, index):
    counter = np.uint64(index)
    return philox(
        counter & _MASK,
        counter >> _SHIFT,
        np.uint64(column),
        np.uint64(0),
        key & _MASK,
        key >> _SHIFT,
    )


@njit
def fill_gaussian(key, first, size, out):
    """Write independent normal entries of standard deviation `size` into `out` (n, columns).

    In double precision, whatever the projection's: it is compiled once.
    """
    n_rows = out.shape[0]
    for c in range(out.shape[1]):
        for pair in range((n_rows + 1) // 2):
            a, b, e, f = _words(key, first + c, pair)
            radius = size * math.sqrt(-2.0 * math.log(_uniform(a, b)))
            angle = 2.0 * math.pi * _uniform(e, f)
            out[2 * pair, c] = radius * math.cos(angle)
            if 2 * pair + 1 < n_rows:
                out[2 * pair + 1, c] = radius * math.sin(angle)


# Rows of a product: shared parts.


@inner(fastmath={"reassoc"})
def _inverse_norm(row):
    """Return 1 / Euclidean norm, summed in double precision; 0 for a zero row.

    The compiler puts the sum into lanes, which ones depends on the row's length alone.
    """
    total = 0.0
    for c in range(row.shape[0]):
        x = 1.0 * row[c]
        total += x * x
    return 1.0 / math.sqrt(total) if total > 0.0 else 0.0


@inner()
def _factor(row, weight, normalize):
    """Return what a row is multiplied by in the sum of powers, in the row's precision."""
    return row.dtype.type(weight * _inverse_norm(row) if normalize else weight)


@inner()
def _merge(row, factor, total, i, fresh):
    if fresh:
        for c in range(row.shape[0]):
            total[i, c] = factor * row[c]
    else:
        for c in range(row.shape[0]):
            total[i, c] += factor * row[c]


# One power from the one before, dense.


def dense_rows(
    first, last, indptr, indices, data, unit, scale, source, ahead, new, keep,
    weight, normalize, total, mode, source_factor, factor,
):  # fmt: skip
    """Write rows ``first .. last - 1`` of the product of a graph with `source`.

    Four neighbours are read and added in pairs at a time: several cache misses are under way
    together, and the row in the making is read and written once for four.

    Parameters
    ----------
    first, last : int
        Rows to make.
    indptr, indices, data : ndarray
        The graph. `data` is empty for one without weights.
    unit : float
        Weights are multiplied by it, in double precision, before they are rounded.
    scale : ndarray of shape (n_rows,)
        What each sum over neighbours is multiplied by.
    source : ndarray of shape (n_columns, d)
        The power before.
    ahead : int
        How many neighbours ahead rows are asked for; 0 never.
    new : ndarray of shape (n_rows, d)
        The product, if `keep`.
    keep : bool
        Whether rows are written to `new`.
    weight, normalize : float, bool
        Weight of this power, and whether rows are divided by their norm before.
    total : ndarray of shape (n_rows, d)
        Sum of powers; what `mode` says is done with it.
    mode : int
        NOTHING, START, ADD, or FOLD.
    source_factor : ndarray of shape (n_rows,)
        With FOLD, what the rows of `source` are multiplied by in the sum.
    factor : ndarray of shape (n_rows,) or (0,)
        If not empty, what the new rows are multiplied by in the sum is kept here.
    """
    _dense_rows(
        first, last, indptr, indices, data, unit, scale, source, ahead, new, keep,
        weight, normalize, total, mode, source_factor, factor, _room(source, not keep),
    )  # fmt: skip


def _room(like, wanted):
    """Return room for a row. What makes arrays in kernels compiles some tenths of a second."""
    return np.zeros(like.shape[-1] if wanted else 0, like.dtype)


@njit
def _dense_rows(
    first, last, indptr, indices, data, unit, scale, source, ahead, new, keep,
    weight, normalize, total, mode, source_factor, factor, spare,
):  # fmt: skip
    """Do what `dense_rows` does."""
    d = source.shape[1]
    weighted = data.shape[0] > 0
    as_source = source.dtype.type
    end = indptr[last]
    line = 64 // source.itemsize
    for i in range(first, last):
        row = new[i] if keep else spare
        for c in range(d):
            row[c] = 0
        k = indptr[i]
        stop = indptr[i + 1]
        while k + 4 <= stop:
            if ahead > 0 and k + ahead + 4 <= end:
                for t in range(k + ahead, k + ahead + 4):
                    for c in range(0, d, line):
                        _prefetch(source, np.int64(indices[t]), c)
            # Unsigned, so that no index is looked at for being negative.
            a = np.uint64(indices[k])
            b = np.uint64(indices[k + 1])
            e = np.uint64(indices[k + 2])
            f = np.uint64(indices[k + 3])
            if weighted:
                p = as_source(data[k] * unit)
                q = as_source(data[k + 1] * unit)
                r = as_source(data[k + 2] * unit)
                s = as_source(data[k + 3] * unit)
                for c in range(d):
                    row[c] += (p * source[a, c] + q * source[b, c]) + (
                        r * source[e, c] + s * source[f, c]
                    )
            else:
                for c in range(d):
                    row[c] += (source[a, c] + source[b, c]) + (source[e, c] + source[f, c])
            k += 4
        while k < stop:
            a = np.uint64(indices[k])
            w = as_source(data[k] * unit if weighted else 1.0)
            for c in range(d):
                row[c] += w * source[a, c]
            k += 1
        multiple = scale[i]
        for c in range(d):
            row[c] *= multiple
        if mode == NOTHING and factor.shape[0] == 0:
            continue
        own = _factor(row, weight, normalize)
        if factor.shape[0] > 0:
            factor[i] = own
        fresh = mode == START
        if mode == FOLD:
            for c in range(d):
                total[i, c] = source_factor[i] * source[i, c]
        if mode != NOTHING:
            _merge(row, own, total, i, fresh)


# One power from a sparse one before: neighbour after neighbour, non-zero entries only.


@inner()
def _scatter(i, indptr, indices, data, unit, starts, stops, columns, values, row):
    """Add the sparse rows of i's neighbours into `row`; whether there was anything to add."""
    weighted = data.shape[0] > 0
    found = 0
    for k in range(indptr[i], indptr[i + 1]):
        j = np.uint64(indices[k])
        start, stop = starts[j], stops[j]
        found += stop - start
        if weighted:
            w = row.dtype.type(data[k] * unit)
            for t in range(start, stop):
                row[columns[t]] += w * values[t]
        else:
            for t in range(start, stop):
                row[columns[t]] += values[t]
    return found > 0


def sparse_rows(first, last, *args):
    """Write rows of the product of a graph with a sparse matrix; see `dense_rows`.

    Arguments are `indptr` to `scale`, the sparse matrix, and `new` to `mode` as there. Row j of the
    sparse matrix has its entries at ``starts[j] .. stops[j] - 1`` of `columns` and `values`.
    """
    new, keep = args[9:11]
    _sparse_rows(first, last, *args, _room(new, not keep))


@njit
def _sparse_rows(
    first, last, indptr, indices, data, unit, scale, starts, stops, columns, values, new, keep,
    weight, normalize, total, mode, spare,
):  # fmt: skip
    """Do what `sparse_rows` does."""
    for i in range(first, last):
        row = new[i] if keep else spare
        for c in range(row.shape[0]):
            row[c] = 0
        if _scatter(i, indptr, indices, data, unit, starts, stops, columns, values, row):
            multiple = scale[i]
            for c in range(row.shape[0]):
                row[c] *= multiple
        if mode != NOTHING:
            _merge(row, _factor(row, weight, normalize), total, i, mode == START)


@njit
def count_product(first, last, indptr, indices, starts, stops, n_columns, sizes):
    """Bound the non-zero entries of each row of the product with a sparse matrix."""
    for i in range(first, last):
        size = 0
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            size += stops[j] - starts[j]
        sizes[i] = size if size < n_columns else n_columns


def fill_product(
    first, last, indptr, indices, data, unit, scale, starts, stops, columns, values, n_columns,
    new_starts, new_stops, new_columns, new_values,
):  # fmt: skip
    """Write rows of the product with a sparse matrix as sparse rows, columns ascending."""
    _fill_product(
        first, last, indptr, indices, data, unit, scale, starts, stops, columns, values,
        new_starts, new_stops, new_columns, new_values, np.zeros(n_columns, new_values.dtype),
    )  # fmt: skip


@njit
def _fill_product(
    first, last, indptr, indices, data, unit, scale, starts, stops, columns, values,
    new_starts, new_stops, new_columns, new_values, row,
):  # fmt: skip
    """Do what `fill_product` does; `row` comes as zeros."""
    for i in range(first, last):
        at = new_starts[i]
        if _scatter(i, indptr, indices, data, unit, starts, stops, columns, values, row):
            multiple = scale[i]
            for c in range(row.shape[0]):
                value = row[c]
                if value != 0:
                    new_columns[at] = c
                    new_values[at] = value * multiple
                    at += 1
                    row[c] = 0
        new_stops[i] = at


# Merging of powers that are there, and standardisation.


@njit
def merge_rows(first, last, source, weight, normalize, total, mode):
    """Add rows of one power to the sum of powers, as the steps above do."""
    for i in range(first, last):
        _merge(source[i], _factor(source[i], weight, normalize), total, i, mode == START)


@njit
def chunk_moments(first, last, size, rows, means, squares):
    """Write mean, and sum of squares about it, of the columns in chunks ``first .. last - 1``.

    Chunk k has the rows from ``k * size``. What is written to comes as zeros.
    """
    d = rows.shape[1]
    for chunk in range(first, last):
        begin = chunk * size
        end = begin + size if begin + size < rows.shape[0] else rows.shape[0]
        for i in range(begin, end):
            for c in range(d):
                means[chunk, c] += rows[i, c]
        for c in range(d):
            means[chunk, c] /= end - begin
        for i in range(begin, end):
            for c in range(d):
                gap = rows[i, c] - means[chunk, c]
                squares[chunk, c] += gap * gap


def _warm_up(dtypes=(np.float32,)):
    key = np.uint64(1)
    indptr, indices = np.array([0, 1, 2]), np.array([1, 0], dtype=np.int32)
    starts, stops = indptr[:-1], indptr[1:]
    fill_gaussian(key, 0, 1.0, np.empty((2, 2)))
    for dtype in dtypes:
        table, none = np.ones((2, 2), dtype), np.empty(0, dtype)
        scale, values, columns = np.ones(2, dtype), np.ones(2, dtype), indices
        graph = (indptr, indices, np.empty(0), 1.0, scale)
        sparse = (starts, stops, columns, values)
        merge = (table, True, 1.0, True, table, ADD)
        dense_rows(0, 2, *graph, table, 0, *merge, none, none)
        sparse_rows(0, 2, *graph, *sparse, *merge)
        count_product(0, 2, indptr, indices, starts, stops, 2, np.empty(2, dtype=np.int64))
        places = (starts, np.empty_like(starts), indices.copy(), np.empty(2, dtype))
        fill_product(0, 2, *graph, *sparse, 2, *places)
        merge_rows(0, 2, table, 1.0, True, table, ADD)
        chunk_moments(0, 1, 2, table, np.zeros((1, 2)), np.zeros((1, 2)))
