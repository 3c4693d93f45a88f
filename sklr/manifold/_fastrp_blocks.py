"""FastRP beyond memory: blocks of columns over a mapped graph, as plain joblib tasks.

Column c of every power depends on column c of the random matrix alone. So a task makes a few
columns of all powers and writes those that count to files; rows are normalised and summed when
all columns are there, in windows of rows, by the kernels that do it in memory.
"""

import os
import pathlib
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.utils._param_validation import validate_parameter_constraints

from sklr.manifold import _fastrp_core as core
from sklr.manifold._fastrp_checks import (
    EMBEDDING_CONSTRAINTS,
    check_centring,
    check_projection,
    check_weights,
    warn_of_dangling,
)
from sklr.utils._graph_folder import file_mode, open_graph
from sklr.utils._threads import ChunkThreads
from sklr.utils._validation import check_positive_int

# Bytes of a window of rows that a merging task holds, for each power.
_WINDOW_BYTES = 16_000_000


@dataclass(frozen=True)
class _Job:
    """What every task gets; arrays are in files of the folder `parts`."""

    graph: str
    parts: str
    target: str
    offset: int  # bytes before the first row in the target file
    n_nodes: int
    n_components: int
    dtype: str
    weighted: bool
    unit: float
    weights: tuple
    self_weight: float
    projection: str
    key: int
    density: float
    sparse_first: bool
    normalize: bool
    center: bool
    blocks: tuple

    def part(self, name):
        return os.path.join(self.parts, f"{name}.npy")

    def terms(self):
        """Return (power, weight) of what is summed; power 0 is the random matrix itself."""
        every = ((0, self.self_weight), *enumerate(self.weights, start=1))
        return [(k, weight) for k, weight in every if weight != 0]


def _make_columns(job: _Job, first: int, last: int, given: Any) -> None:
    """Write columns ``first .. last - 1`` of the powers that are summed, unnormalised."""
    graph = open_graph(job.graph, check=False)
    scale, factors = (np.load(job.part(name)) for name in ("scale", "factors"))
    data: Any = graph.data if job.weighted else np.empty(0)
    operator = core.Operator(graph.indptr, graph.indices, data, job.unit, scale, None, job.n_nodes)
    dtype = np.dtype(job.dtype)
    if given is None:
        given = core.draw_projection(
            job.projection, job.key, job.n_nodes, job.n_components, job.density, dtype, first, last
        )
    if job.self_weight != 0:
        _save_part(job, 0, first, given)
    source: Any = core.start_power(given, factors, job.n_components)
    del given, factors
    if job.center:
        source = core.centred(source, np.load(job.part("degrees")))
    spare = None
    with ChunkThreads(1) as threads:
        steps = core.Steps(operator, threads)
        for k, weight in enumerate(job.weights, start=1):
            if k == 1 and job.sparse_first and isinstance(source, core.SparseRows):
                new = steps.first_sparse(source)
            else:
                new = np.empty((job.n_nodes, last - first), dtype) if spare is None else spare
                steps.product(source, new, core.Merge())
            if weight != 0:
                _save_part(job, k, first, new)
            spare = source if isinstance(source, np.ndarray) else None
            source = new


def _save_part(job, k, first, power):
    if isinstance(power, core.SparseRows):
        power = power.tocsr()
    shape, dtype = power.shape, power.dtype
    with open(job.part(f"{k}-{first}"), "wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
        )
        for a in range(0, shape[0], 65536):
            rows = power[a : a + 65536]
            np.ascontiguousarray(rows.toarray() if sparse.issparse(rows) else rows).tofile(file)


def _merge_window(job: _Job, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Normalise and sum rows ``first .. last - 1``, write them; return moments of their chunks."""
    from sklr.manifold._fastrp_kernels import chunk_moments

    rows = np.empty((last - first, job.n_components), dtype=job.dtype)
    total = np.empty_like(rows)
    started = False
    with ChunkThreads(1) as threads:
        for k, weight in job.terms():
            for a, b in job.blocks:
                rows[:, a:b] = np.load(job.part(f"{k}-{a}"), mmap_mode="r")[first:last]
            core.merge_into(total, rows, float(weight), job.normalize, started, threads)
            started = True
    _write_rows(job, first, total)
    size = core.moment_chunk(job.n_nodes)
    means, squares = np.zeros((2, -(-len(total) // size), job.n_components))
    chunk_moments(0, len(means), size, total, means, squares)
    return means, squares


def _write_rows(job, first, rows):
    with open(job.target, "r+b") as file:
        file.seek(job.offset + first * job.n_components * rows.itemsize)
        rows.tofile(file)


def _finish_window(job: _Job, first: int, last: int, moments: Any, zero: bool) -> None:
    """Standardise rows ``first .. last - 1`` of the target, in place."""
    count = (last - first) * job.n_components
    dtype = np.dtype(job.dtype)
    place = job.offset + first * job.n_components * dtype.itemsize
    rows = np.fromfile(job.target, dtype, count, offset=place).reshape(-1, job.n_components)
    if moments is not None:
        with ChunkThreads(1) as threads:
            mean, scale = moments
            core.standardize_in_place(rows, mean, scale, threads)
    if zero:
        rows[np.load(job.part("degrees"), mmap_mode="r")[first:last] == 0] = 0
    _write_rows(job, first, rows)


def fastrp_blocks(
    graph,
    out,
    n_components=128,
    *,
    column_block=16,
    overwrite=False,
    weights=(0.0, 0.0, 1.0, 6.0),
    degree_exponent=0.0,
    input_matrix="transition",
    projection="sparse",
    density="auto",
    normalize_powers=True,
    center_powers=False,
    standardize=True,
    self_weight=0.0,
    isolated="keep",
    dtype=np.float32,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Embed a graph that is in a folder, in blocks of columns, into a file.

    The same numbers as :func:`fast_random_projection`, to the bit, with two tables of
    `column_block` columns in memory instead of `n_components`. The blocks are joblib tasks:
    threads by default, and any engine that joblib knows (Dask, Ray, Spark) inside its
    :func:`joblib.parallel_config`, on as many machines as see the files.

    Parameters
    ----------
    graph : path-like
        Folder that :func:`sklr.utils.save_graph` wrote.
    out : path-like
        File for the embedding, ``.npy``. Beside it there must be room for another copy of it for
        each non-zero weight while the function runs.
    n_components : int, default=128
        Dimension of the embedding.
    column_block : int, default=16
        Columns of one task. Each task reads the graph once for each power.
    overwrite : bool, default=False
        Whether `out` may be replaced.
    weights : array-like of shape (q,), default=(0.0, 0.0, 1.0, 6.0)
        Weights of the powers 1 .. q of the transition matrix.
    degree_exponent : float, default=0.0
        Exponent of the degrees that neighbours are weighted by; below zero hubs count less.
    input_matrix : {"transition", "adjacency"}, default="transition"
        Average over neighbours, or sum.
    projection : {"sparse", "gaussian"} or array-like of shape (n_nodes, n_components), \
default="sparse"
        The random matrix.
    density : float or "auto", default="auto"
        Share of non-zero entries with ``projection="sparse"``.
    normalize_powers : bool, default=True
        Divide the rows of each power by their norm before the sum.
    center_powers : bool, default=False
        Subtract from power 0 the mean of its rows, weighted by degrees.
    standardize : bool, default=True
        Give the columns of the result mean 0 and variance 1.
    self_weight : float, default=0.0
        Weight of a node's own row of the random matrix.
    isolated : {"keep", "zero"}, default="keep"
        What nodes without edges get: the value that zero has after standardisation, or zeros.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Precision of the powers and the embedding.
    random_state : int, RandomState instance or None, default=None
        Seed of the random matrix.
    n_jobs : int, default=None
        Number of tasks at a time. It does not change the result.
    verbose : int, default=0
        Verbosity of :class:`joblib.Parallel`.

    Returns
    -------
    embedding : memmap of shape (n_nodes, n_components)
        The embedding, mapped from `out`.

    Raises
    ------
    FileNotFoundError, FileExistsError, ValueError
        A file is missing, in the way, cut off, or does not fit the others. `out` is then as it
        was: it appears, complete, at the very end.

    See Also
    --------
    sklr.utils.save_graph : Write the folder.
    fast_random_projection : The same in memory, and quicker.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and Accurate Network
       Embeddings via Very Sparse Random Projection", CIKM 2019, arXiv:1908.11512.
       https://doi.org/10.1145/3357384.3357879

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklr.manifold import fast_random_projection, fastrp_blocks
    >>> from sklr.utils import save_graph
    >>> ring = np.roll(np.eye(8), 1, axis=1) + np.roll(np.eye(8), -1, axis=1)
    >>> whole = fast_random_projection(ring, 6, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     graph = save_graph(f"{folder}/graph", ring)
    ...     blocks = fastrp_blocks(graph, f"{folder}/out.npy", 6, column_block=2, random_state=0)
    ...     print(bool((blocks == whole).all()))
    True
    """
    settings = {name: value for name, value in locals().items() if name in EMBEDDING_CONSTRAINTS}
    validate_parameter_constraints(EMBEDDING_CONSTRAINTS, settings, caller_name="fastrp_blocks")
    weights = check_weights(weights)
    check_centring(center_powers, input_matrix)
    column_block = check_positive_int(column_block, "column_block")
    out = pathlib.Path(out)
    if out.suffix != ".npy":
        raise ValueError(f"out must name a .npy file, got {str(out)!r}.")
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} is there already; pass overwrite=True to replace it.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {out.parent} for {out.name}.")
    mapped = open_graph(graph)
    n_nodes, dtype = mapped.n_nodes, np.dtype(dtype)
    operator = core.make_operator(
        mapped.indptr,
        mapped.indices,
        mapped.data,
        n_nodes,
        transition=input_matrix == "transition",
        dtype=dtype,
    )
    warn_of_dangling(operator.degrees, operator.indices)
    density = core.resolve_density(density, n_nodes)
    given, n_entries = None, density * n_nodes * n_components
    if not isinstance(projection, str):
        given = check_projection(projection, n_nodes, n_components, dtype)
        n_entries = given.nnz if sparse.issparse(given) else np.inf
        given = given.tocsc() if sparse.issparse(given) else given
    elif projection == "gaussian":
        n_entries = np.inf
    starts = range(0, n_components, column_block)
    blocks = tuple((a, min(a + column_block, n_components)) for a in starts)
    parts = tempfile.mkdtemp(prefix=f"{out.name}.", dir=out.parent)
    try:
        target = os.path.join(parts, "embedding.npy")
        job = _Job(
            graph=os.path.abspath(graph),
            parts=os.path.abspath(parts),
            target=os.path.abspath(target),
            offset=_make_target(target, (n_nodes, n_components), dtype),
            n_nodes=n_nodes,
            n_components=n_components,
            dtype=dtype.name,
            weighted=len(operator.data) > 0,
            unit=operator.unit,
            weights=tuple(weights.tolist()),
            self_weight=float(self_weight),
            projection=projection if isinstance(projection, str) else "given",
            key=core.draw_key(random_state),
            density=density,
            sparse_first=core.keeps_first_power_sparse(
                n_entries, n_nodes, n_components, operator.n_edges
            ),
            normalize=bool(normalize_powers),
            center=bool(center_powers),
            blocks=blocks,
        )
        degrees = operator.degrees
        factors = core.node_factors(degrees, degrees.sum(), degree_exponent)
        for name, array in (("degrees", degrees), ("factors", factors), ("scale", operator.scale)):
            np.save(job.part(name), array)
        del operator, mapped, degrees, factors
        run = Parallel(n_jobs=n_jobs, prefer="threads", verbose=verbose)
        run(delayed(_make_columns)(job, a, b, _columns(given, a, b)) for a, b in blocks)
        _merge_and_finish(job, run, standardize, isolated == "zero")
        os.chmod(target, file_mode(0o666))
        os.replace(target, out)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return np.load(out, mmap_mode="r+")


def _columns(given, first, last):
    if given is None:
        return None
    part = given[:, first:last]
    return part.tocsr() if sparse.issparse(part) else np.ascontiguousarray(part)


def _make_target(path, shape, dtype):
    """Make the file of the embedding, all zeros, and return where its rows begin."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
        )
        offset = file.tell()
        file.truncate(offset + shape[0] * shape[1] * dtype.itemsize)
    return offset


def _merge_and_finish(job, run, standardize, zero):
    chunk = core.moment_chunk(job.n_nodes)
    width = job.n_components * np.dtype(job.dtype).itemsize
    rows = max(1, _WINDOW_BYTES // (chunk * width)) * chunk
    windows = [(a, min(a + rows, job.n_nodes)) for a in range(0, job.n_nodes, rows)]
    found = run(delayed(_merge_window)(job, a, b) for a, b in windows)
    means, squares = (np.concatenate(column) for column in zip(*found))
    core.check_range(means, job.dtype)
    moments = core.combine_moments(job.n_nodes, means, squares) if standardize else None
    if moments is not None or zero:
        run(delayed(_finish_window)(job, a, b, moments, zero) for a, b in windows)
