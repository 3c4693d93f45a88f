"""FastRP on arrays: draw the projection, apply the graph, merge the powers, standardise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from sklr.manifold._philox import sparse_entries

# Values of `mode` in the kernels (which must not be imported with this file).
_NOTHING, _START, _ADD, _FOLD = 0, 1, 2, 3
# Below this many multiplications a parallel launch costs more than it brings.
_SMALL = 100_000
_CHUNK = 20_000_000
# The first power is kept sparse when fewer of its entries than this are not zero.
_SPARSE_BELOW = 0.1
# Up to so many entries power 0 is dense: quicker than to compile a kernel more.
_DENSE = 65_536
# Up to so many entries moments are taken by NumPy, a tenth of a millisecond slower.
_FEW_MOMENTS = 32_768
# Rows are asked for ahead of their use when the table is larger than a cache close to a core,
# and rows are short enough that asking does not take longer than reading.
_AHEAD, _CACHE_BYTES, _LONG_ROW = 8, 4_000_000, 1024
# Columns drawn, and entries standardised, at a time in double precision; sparse entries drawn.
_GAUSSIAN_COLUMNS, _STANDARDIZED, _DRAWN = 8, 32_768, 65_536
_NO_FLOATS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}


@dataclass
class Operator:
    """A graph as kernels take it: products with it are ``scale * (unit * data) @ source``."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray  # empty where all weights are equal
    unit: float
    scale: np.ndarray
    degrees: np.ndarray | None
    n_columns: int

    @property
    def n_rows(self):
        return len(self.indptr) - 1

    @property
    def n_edges(self):
        return len(self.indices)


@dataclass
class SparseRows:
    """A sparse matrix whose rows may have gaps between them."""

    starts: np.ndarray
    stops: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    n_columns: int

    @classmethod
    def of(cls, csr):
        indptr = csr.indptr.astype(np.int64)
        columns = csr.indices.astype(np.int32)
        return cls(indptr[:-1], indptr[1:], columns, csr.data, csr.shape[1])

    def tocsr(self):
        """Return the matrix without gaps."""
        sizes = self.stops - self.starts
        indptr = np.concatenate(([0], np.cumsum(sizes)))
        kept = np.repeat(self.starts - indptr[:-1], sizes) + np.arange(indptr[-1])
        return sparse.csr_array(
            (self.values[kept], self.columns[kept], indptr), shape=(len(sizes), self.n_columns)
        )


def make_operator(indptr, indices, data, n_columns, *, transition, dtype):
    """Return the `Operator` of a CSR graph; `data` may be None for weights of 1."""
    indptr = np.asarray(indptr, dtype=np.int64)
    counts = np.diff(indptr)
    unit = 1.0
    if data is None or not len(data) or (data[0] == data[-1] and (data == data[0]).all()):
        high = 1.0 if data is None or not len(data) else data[0]
        data = np.empty(0)
        degrees = counts * float(high)
        # Weights that are all equal cancel in a transition matrix, and are a factor otherwise.
        scale = 1.0 / np.maximum(counts, 1) if transition else np.full(len(counts), float(high))
    else:
        if data.dtype not in (np.float32, np.float64):
            data = data.astype(np.float64)
        graph = sparse.csr_array((data, indices, indptr), shape=(len(counts), n_columns))
        degrees = graph @ np.ones(n_columns)
        # A power of two, so that weights of any size fit in single precision, unrounded.
        unit = 2.0 ** float(-np.frexp(float(data.max()))[1])
        sums = np.where(degrees > 0, degrees * unit, 1.0)
        scale = 1.0 / sums if transition else np.full(len(counts), 1.0 / unit)
    return Operator(indptr, indices, data, unit, scale.astype(dtype), degrees, n_columns)


def draw_key(random_state):
    """Return the 64-bit key that all random entries are made of."""
    words = check_random_state(random_state).randint(0, 2**32, size=2, dtype=np.uint32)
    return (int(words[0]) << 32) | int(words[1])


def resolve_density(density, n_nodes):
    """Return the share of non-zero entries of the sparse projection."""
    return 1.0 / np.sqrt(n_nodes) if density == "auto" else float(density)


def draw_projection(kind, key, n_nodes, n_components, density, dtype, first=0, last=None):
    """Return columns ``first .. last - 1`` of the projection: CSR for "sparse", else dense.

    A column does not depend on which others are drawn with it.
    """
    last = n_components if last is None else last
    key = np.uint64(key)
    if kind == "gaussian":
        from sklr.manifold._fastrp_kernels import fill_gaussian

        out = np.empty((n_nodes, last - first), dtype=dtype)
        for a in range(first, last, _GAUSSIAN_COLUMNS):
            b = min(a + _GAUSSIAN_COLUMNS, last)
            columns = np.empty((n_nodes, b - a))
            fill_gaussian(key, a, 1.0 / np.sqrt(n_components), columns)
            out[:, a - first : b - first] = columns
        return out
    numbers = np.int32 if n_nodes < 2**31 else np.int64
    size = np.dtype(dtype).type(np.sqrt(1.0 / (density * n_components)))
    parts = []
    step = max(1, int(_DRAWN / (density * n_nodes + 1)))
    for a in range(first, last, step):
        rows, signs, counts = sparse_entries(
            key, np.arange(a, min(a + step, last)), n_nodes, density
        )
        parts.append((rows.astype(numbers), np.where(signs, size, -size), counts))
    rows, values, counts = map(np.concatenate, zip(*parts))
    starts = np.concatenate(([0], np.cumsum(counts)))
    return sparse.csc_array((values, rows, starts), shape=(n_nodes, last - first)).tocsr()


def node_factors(degrees, total, exponent):
    """Return the diagonal of L, ``(degree / total) ** exponent`` in double precision.

    A node without out-edges gets 0 (unless the exponent is 0): its power is not defined.
    """
    if exponent == 0:
        return np.ones(len(degrees))
    factors = np.zeros(len(degrees))
    linked = degrees > 0
    with np.errstate(over="ignore"):
        factors[linked] = (degrees[linked] / total) ** exponent
    if not np.isfinite(factors).all() or factors.max(initial=0.0) > 1e30:
        raise ValueError(
            f"degree_exponent={exponent!r} takes the degrees of this graph out of the range of "
            "numbers; values between -1 and 0 are usual."
        )
    return factors


def start_power(projection, factors, n_components):
    """Return ``L R``, the power 0: SparseRows, or a dense array where that is small.

    Small is what all `n_components` columns make, and not those at hand, because the order of sums
    depends on it.
    """
    if sparse.issparse(projection) and len(factors) * n_components <= _DENSE:
        projection = projection.toarray()
    if sparse.issparse(projection):
        rows = SparseRows.of(projection)
        sizes = rows.stops - rows.starts
        values = rows.values * np.repeat(factors, sizes)
        rows.values = values.astype(projection.dtype)
        return rows
    return np.ascontiguousarray((projection * factors[:, None]).astype(projection.dtype))


def centred(start, degrees):
    """Return power 0 without the mean of its rows, weighted by degrees: a dense array.

    Walks keep that mean, so all powers are without it. Each column is summed in the order of its
    rows, whatever other columns there are.
    """
    if isinstance(start, SparseRows):
        start = start.tocsr()
        weights = np.repeat(degrees, np.diff(start.indptr)) * start.data
        mean = np.bincount(start.indices, weights=weights, minlength=start.shape[1])
        start = start.toarray()
    else:
        mean = np.zeros(start.shape[1])
        for first in range(0, len(start), 4096):
            rows = slice(first, first + 4096)
            mean += (start[rows] * degrees[rows, None]).sum(axis=0)
    mean /= max(degrees.sum(), np.finfo(float).tiny)
    return np.ascontiguousarray(start - mean.astype(start.dtype))


def keeps_first_power_sparse(n_entries, n_nodes, n_components, n_edges):
    """Return whether the first power has so few entries that it is kept sparse.

    Decided from the whole problem and not from the columns at hand, because the order of sums
    depends on it.
    """
    share = n_entries / (n_nodes * n_components)
    return share * n_edges / n_nodes < _SPARSE_BELOW


def _chunks(indptr, n_chunks):
    """Return bounds of chunks of rows with equally many edges (a row counts as four more)."""
    n_rows = len(indptr) - 1
    total = int(indptr[-1]) + 4 * n_rows
    bounds = np.zeros(n_chunks + 1, dtype=np.int64)
    bounds[-1] = n_rows
    for chunk in range(1, n_chunks):
        wanted = total * chunk // n_chunks
        low, high = int(bounds[chunk - 1]), n_rows
        while low < high:
            middle = (low + high) // 2
            if indptr[middle] + 4 * middle < wanted:
                low = middle + 1
            else:
                high = middle
        bounds[chunk] = low
    return bounds


def even_bounds(n, threads, work):
    """Return bounds of equally many rows for each call of a kernel."""
    n_chunks = 1 if threads.n_threads == 1 or work < _SMALL else 4 * threads.n_threads
    return [n * chunk // n_chunks for chunk in range(n_chunks + 1)]


class Steps:
    """The products of one graph, on threads; the order of no sum depends on their number."""

    def __init__(self, operator, threads):
        self.operator = operator
        self.threads = threads
        self._bounds = {}

    def _call(self, kernel, work, *args):
        if self.threads.n_threads == 1 or work < _SMALL:
            kernel(0, self.operator.n_rows, *args)
            return
        # Enough chunks that no thread waits long for the last one, few enough to be worth a call.
        n_chunks = self.threads.n_threads * int(min(16, max(2, work // _CHUNK)))
        if n_chunks not in self._bounds:
            self._bounds[n_chunks] = _chunks(self.operator.indptr, n_chunks)
        self.threads.run(kernel, self._bounds[n_chunks], *args)

    def first_sparse(self, source):
        """Return the product with a sparse matrix, as SparseRows."""
        from sklr.manifold import _fastrp_kernels as kernels

        op = self.operator
        sizes = np.empty(op.n_rows, dtype=np.int64)
        self._call(
            kernels.count_product, op.n_edges,
            op.indptr, op.indices, source.starts, source.stops, source.n_columns, sizes,
        )  # fmt: skip
        bounds = np.concatenate(([0], np.cumsum(sizes)))
        out = SparseRows(
            bounds[:-1],
            np.empty_like(bounds[:-1]),
            np.empty(bounds[-1], dtype=np.int32),
            np.empty(bounds[-1], dtype=source.values.dtype),
            source.n_columns,
        )
        self._call(
            kernels.fill_product, op.n_edges,
            op.indptr, op.indices, op.data, op.unit, op.scale,
            source.starts, source.stops, source.columns, source.values, source.n_columns,
            out.starts, out.stops, out.columns, out.values,
        )  # fmt: skip
        return out

    def product(self, source, new, merge):
        """Write the product with `source` into `new` (None: not kept), and merge its rows."""
        from sklr.manifold import _fastrp_kernels as kernels

        op = self.operator
        is_sparse = isinstance(source, SparseRows)
        d = source.n_columns if is_sparse else source.shape[1]
        dtype = source.values.dtype if is_sparse else source.dtype
        empty = np.empty((0, d), dtype=dtype)
        keep = new is not None
        new = new if keep else empty
        total = empty if merge.total is None else merge.total
        work = op.n_edges * d
        graph = (op.indptr, op.indices, op.data, op.unit, op.scale)
        if is_sparse:
            self._call(
                kernels.sparse_rows, work, *graph,
                source.starts, source.stops, source.columns, source.values, new, keep,
                merge.weight, merge.normalize, total, merge.mode,
            )  # fmt: skip
            return
        none = _NO_FLOATS[dtype]
        large = source.nbytes > _CACHE_BYTES and d * dtype.itemsize <= _LONG_ROW
        self._call(
            kernels.dense_rows, work, *graph,
            source, _AHEAD if large else 0, new, keep,
            merge.weight, merge.normalize, total, merge.mode,
            none if merge.source_factor is None else merge.source_factor,
            none if merge.factor is None else merge.factor,
        )  # fmt: skip


@dataclass
class Merge:
    """What a step does with its rows for the sum of powers."""

    weight: float = 0.0
    normalize: bool = True
    total: Any = None
    mode: int = _NOTHING
    source_factor: Any = None
    factor: Any = None


def merge_into(total, source, weight, normalize, started, threads):
    """Add one power that is there, dense or sparse, to the sum of powers; return the sum."""
    from sklr.manifold import _fastrp_kernels as kernels

    if isinstance(source, SparseRows):
        source = source.tocsr()
    if not sparse.issparse(source):
        total = np.empty_like(source) if total is None else total
        bounds = even_bounds(len(source), threads, source.size)
        mode = _ADD if started else _START
        threads.run(kernels.merge_rows, bounds, source, weight, normalize, total, mode)
        return total
    total = np.empty(source.shape, dtype=source.dtype) if total is None else total
    mode = _ADD if started else _START
    for first in range(0, source.shape[0], 4096):
        block = source[first : first + 4096].toarray()
        part = total[first : first + 4096]
        kernels.merge_rows(0, len(block), block, weight, normalize, part, mode)
    return total


def powers_and_sum(
    operator, start, weights, *, projection, self_weight, normalize, sparse_first, store,
    threads, progress=iter,
):  # fmt: skip
    """Apply the graph ``len(weights)`` times; return the merged sum, and the powers if `store`.

    Parameters
    ----------
    operator : Operator
        The graph.
    start : SparseRows or ndarray
        Power 0.
    weights : ndarray of shape (q,)
        Weights of the powers 1 .. q.
    projection : csr_array or ndarray
        The random matrix, for `self_weight`.
    self_weight : float
        Weight of a node's own row of the projection.
    normalize : bool
        Divide rows by their norm before they are summed.
    sparse_first : bool
        Keep power 1 sparse.
    store : bool
        Keep all powers, 0 .. q.
    threads : ChunkThreads
        Where kernels run.
    progress : callable
        Wraps the loop over powers.

    Returns
    -------
    total : ndarray of shape (n, d)
        The sum, neither standardised nor checked.
    powers : list or None
        Powers 0 .. q, SparseRows or arrays.
    """
    steps = Steps(operator, threads)
    d = start.n_columns if isinstance(start, SparseRows) else start.shape[1]
    dtype = start.values.dtype if isinstance(start, SparseRows) else start.dtype
    shape = (operator.n_rows, d)
    total, started = None, False
    if self_weight != 0:
        total = merge_into(None, projection, float(self_weight), normalize, False, threads)
        started = True
    powers, spare = [start], None
    source, source_factor, last = start, None, len(weights)
    for k in progress(range(1, last + 1)):
        weight = float(weights[k - 1])
        keep = store or k < last
        if k == 1 and sparse_first and isinstance(source, SparseRows) and last > 1:
            new = steps.first_sparse(source)
            if weight != 0:
                total = merge_into(total, new, weight, normalize, started, threads)
                started = True
        else:
            new = None
            if keep:
                new = np.empty(shape, dtype=dtype) if spare is None else spare
                spare = None
            merge = Merge(weight, normalize)
            # The last power but one needs no place in the sum before the last one: its rows are
            # still there then. So two tables do where three would be needed.
            late = not started and k == last - 1 and weight != 0 and weights[k] != 0
            if late and not isinstance(source, SparseRows) and not store:
                merge.factor = source_factor = np.empty(operator.n_rows, dtype=dtype)
            elif weight != 0:
                fold = source_factor is not None
                if total is None:
                    total = np.empty(shape, dtype=dtype) if spare is None else spare
                    spare = None
                merge.total = total
                merge.mode = _FOLD if fold else _ADD if started else _START
                merge.source_factor = source_factor
                started = True
            steps.product(source, new, merge)
        if store:
            powers.append(new)
        elif isinstance(source, np.ndarray) and source is not start:
            spare = source
        source = new
    return total, powers if store else None


def sum_of_new_rows(operator, powers, weights, *, normalize, threads):
    """Return the merged sum for rows of edges to nodes whose powers are known."""
    steps = Steps(operator, threads)
    d = powers[0].n_columns if isinstance(powers[0], SparseRows) else powers[0].shape[1]
    dtype = powers[0].values.dtype if isinstance(powers[0], SparseRows) else powers[0].dtype
    total = np.empty((operator.n_rows, d), dtype=dtype)
    mode = _START
    for source, weight in zip(powers, weights):
        if weight != 0:
            steps.product(source, None, Merge(float(weight), normalize, total, mode))
            mode = _ADD
    return total


def moment_chunk(n_rows):
    """Return the size of the chunks that column moments are summed in: a function of `n_rows`."""
    return max(512, -(-n_rows // 2048))


def combine_moments(n_rows, means, squares):
    """Return mean and population standard deviation from those of chunks, in their order.

    A column that is constant up to rounding gets the scale 1.
    """
    count, mean, square = 0, np.zeros(means.shape[1]), np.zeros(means.shape[1])
    chunk = moment_chunk(n_rows)
    for chunk_mean, chunk_square in zip(means, squares):
        size = min(chunk, n_rows - count)
        gap = chunk_mean - mean
        square += chunk_square + gap**2 * (count * size / (count + size))
        count += size
        mean += gap * (size / count)
    variance = square / count
    eps = np.finfo(np.float64).eps
    constant = variance <= count * eps * variance + (count * mean * eps) ** 2
    return mean, np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))


def _few_moments(first, last, size, rows, means, squares):
    """Do what the kernel `chunk_moments` does, to the bit where there are several columns.

    NumPy sums a single one in pairs.
    """
    with np.errstate(all="ignore"):
        for chunk in range(first, last):
            part = rows[chunk * size : (chunk + 1) * size].astype(np.float64)
            np.add.reduce(part, axis=0, out=means[chunk])
            means[chunk] /= len(part)
            part -= means[chunk]
            part *= part
            np.add.reduce(part, axis=0, out=squares[chunk])


def column_moments(rows, threads):
    """Return mean and scale of each column; the same whatever the number of threads."""
    size = moment_chunk(len(rows))
    n_chunks = -(-len(rows) // size)
    means, squares = np.zeros((2, n_chunks, rows.shape[1]))
    bounds = even_bounds(n_chunks, threads, rows.size)
    if rows.size <= _FEW_MOMENTS and rows.shape[1] > 1:
        kernel = _few_moments
    else:
        from sklr.manifold._fastrp_kernels import chunk_moments as kernel
    threads.run(kernel, bounds, size, rows, means, squares)
    check_range(means, rows.dtype)
    return combine_moments(len(rows), means, squares)


def standardize_in_place(rows, mean, scale, threads):
    """Subtract `mean` and divide by `scale`."""
    inverse_scale = 1.0 / scale
    step = max(1, _STANDARDIZED // rows.shape[1])

    def standardize(first, last):
        for a in range(first, last, step):
            part = rows[a : min(a + step, last)]
            numbers = part - mean  # in double precision
            np.multiply(numbers, inverse_scale, out=part, casting="same_kind")

    threads.run(standardize, even_bounds(len(rows), threads, rows.size))


def check_range(numbers, dtype):
    """Refuse numbers that ran out of the range of `dtype`, which nothing before this looks at."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(numbers.sum(dtype=np.float64))
    if not finite:
        raise ValueError(
            f"The embedding overflows {dtype}. Scale the weights of the edges down, or pass "
            "dtype=numpy.float64 (input_matrix='adjacency' grows with the degrees)."
        )
