"""Graphs as people have them in, a checked CSR adjacency out."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import minimum_spanning_tree

from sklr.utils._node_ids import (
    as_ids,
    check_unique,
    has_missing,
    locate,
    node_ids,
    sorted_ids,
)
from sklr.utils._warnings import warn_user

# The largest number that an int32 index holds. A name of the module, so that a test can lower it:
# nobody tests with 2**31 edges.
_INT32_MAX = np.iinfo(np.int32).max


# What a table of two or three columns probably is.
_AN_EDGE_LIST = (
    " If its rows are edges, pass its columns as a tuple: "
    "sklr.utils.to_adjacency((edges[:, 0], edges[:, 1]))."
)


def spanning_tree(cost: sparse.csr_array) -> sparse.csr_array:
    """Return the tree of least cost; older versions of SciPy take indices of 32 bits only."""
    indices, indptr = (array.astype(np.int32, copy=False) for array in (cost.indices, cost.indptr))
    narrow = sparse.csr_array((cost.data, indices, indptr), shape=cost.shape)
    return sparse.csr_array(minimum_spanning_tree(narrow))


def index_dtype(*sizes: int) -> type:
    """Return int32 where indices into all of `sizes` fit, else int64."""
    return np.int64 if max(sizes, default=0) > _INT32_MAX else np.int32


def check_adjacency(
    adjacency: Any,
    *,
    name: str = "adjacency",
    dtype: Any = np.float64,
    symmetric: bool = False,
    square: bool = True,
) -> sparse.csr_array:
    """Return an adjacency as a canonical CSR array: sorted, no duplicates, no stored zeros.

    Parameters
    ----------
    adjacency : sparse array or matrix, or array-like of shape (n_nodes, n_nodes)
        Entry (i, j) is the weight of the edge from i to j. It is never written to.
    name : str, default="adjacency"
        What messages call it.
    dtype : dtype or None, default=numpy.float64
        Type of the weights; None keeps the type of the input, and spares a copy.
    symmetric : bool, default=False
        Refuse a matrix that differs from its transpose by more than rounding.
    square : bool, default=True
        Refuse a matrix that is not square.

    Returns
    -------
    adjacency : csr_array
        Finite, non-negative weights. Indices are int32 where they fit. Shares memory with the
        input where that is CSR already and needs no change.

    Raises
    ------
    ValueError
        Wrong shape, type, NaN, infinite or negative weights, or asymmetric where that matters.
    """
    if not sparse.issparse(adjacency):
        adjacency = np.asarray(adjacency)
        if adjacency.ndim != 2:
            raise ValueError(
                f"{name} must be a matrix of shape (n_nodes, n_nodes), "
                f"got {adjacency.ndim} dimensions, shape {adjacency.shape}."
            )
    if len(adjacency.shape) != 2 or (square and adjacency.shape[0] != adjacency.shape[1]):
        edges = len(adjacency.shape) == 2 and adjacency.shape[1] in (2, 3)
        raise ValueError(
            f"{name} must be a square matrix of shape (n_nodes, n_nodes), "
            f"got shape {adjacency.shape}." + (_AN_EDGE_LIST if edges else "")
        )
    if adjacency.dtype == np.float16:  # which SciPy's matrices do not have
        adjacency = adjacency.astype(np.float32)
    if adjacency.dtype.kind not in "biuf":
        try:
            if adjacency.dtype.kind == "c":
                raise TypeError
            adjacency = adjacency.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} must have real, numeric weights, got dtype {adjacency.dtype}. "
                "Complex data not supported."
            ) from None
    # A new object, so that flags (sorted, canonical) are not set on the caller's.
    csr = sparse.csr_array(adjacency, copy=False)
    if not csr.has_canonical_format:
        if sparse.issparse(adjacency) and adjacency.format == "csr":
            csr = csr.copy()  # what is sorted below is the caller's memory otherwise
        csr.sum_duplicates()
    if csr.nnz:
        low, high = csr.data.min(), csr.data.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            row, column, value = _first_entry(csr, ~np.isfinite(csr.data))
            raise ValueError(
                f"{name} has {value} as the weight of edge ({row}, {column}); "
                "weights must be finite: remove NaN and infinity."
            )
        rounding = rounding_tolerance(adjacency.dtype) * float(high)
        if -rounding <= low < 0:  # as 1 - cosine may be
            csr.data = np.maximum(csr.data, 0)
            low = 0
        if low < 0:
            row, column, value = _first_entry(csr, csr.data < 0)
            raise ValueError(
                f"Negative values in data: {name} has the negative weight {value} on edge "
                f"({row}, {column}); "
                "weights must be >= 0. Take absolute values, or leave such edges out."
            )
        if low == 0:
            kept = csr.data != 0
            indptr = np.concatenate(([0], np.cumsum(kept)))[csr.indptr]
            csr = sparse.csr_array((csr.data[kept], csr.indices[kept], indptr), shape=csr.shape)
    wanted = index_dtype(csr.nnz, *csr.shape)
    if csr.indices.dtype != wanted or csr.indptr.dtype != wanted:
        csr = sparse.csr_array(
            (csr.data, csr.indices.astype(wanted), csr.indptr.astype(wanted)), shape=csr.shape
        )
    if dtype is not None and csr.data.dtype != dtype:
        csr = csr.astype(dtype)
    csr.has_sorted_indices = csr.has_canonical_format = True
    if symmetric:
        check_symmetric(csr, name=name, tolerance=rounding_tolerance(adjacency.dtype))
    return csr


def clipped_neighbors(n_neighbors: int, n_samples: int) -> int:
    """Return the number of neighbours that there can be; warn where it is below the wanted one."""
    if n_neighbors < n_samples:
        return n_neighbors
    warn_user(
        f"n_neighbors={n_neighbors} is not less than the number of distinct points, n_samples = "
        f"{n_samples}; all {n_samples - 1} others are taken as neighbours."
    )
    return n_samples - 1


def rounding_tolerance(dtype: Any) -> float:
    """Return up to which share of the largest entry a difference is taken for rounding.

    Matrices come from sums of some length in their own precision: a few digits are lost.
    """
    return {"float16": 1e-2, "float32": 1e-5}.get(np.dtype(dtype).name, 1e-8)


def check_symmetric(
    adjacency: sparse.csr_array, *, name: str = "adjacency", tolerance: float = 1e-8
) -> None:
    """Raise ValueError, with an edge that shows it, when a canonical CSR is not symmetric."""
    other = adjacency.T.tocsr()
    same = np.array_equal(other.indptr, adjacency.indptr) and np.array_equal(
        other.indices, adjacency.indices
    )
    if same:
        scale = float(adjacency.data.max(initial=0.0))
        gap = np.abs(other.data.astype(np.float64) - adjacency.data)
        if float(gap.max(initial=0.0)) <= tolerance * scale:
            return
    difference = sparse.coo_array(abs(adjacency.astype(np.float64) - other))
    if float(difference.data.max(initial=0.0)) <= tolerance * float(adjacency.data.max(initial=0)):
        return  # entries that rounding made zero on one side only
    worst = int(np.argmax(difference.data))
    i, j = int(difference.coords[0][worst]), int(difference.coords[1][worst])
    raise ValueError(
        f"{name} is not symmetric: edge ({i}, {j}) has weight {float(adjacency[i, j]):.6g} and "
        f"edge ({j}, {i}) has {float(adjacency[j, i]):.6g}. An undirected graph is needed here: "
        "take (A + A.T) / 2, or A.maximum(A.T)."
    )


def _first_entry(csr: sparse.csr_array, mask: np.ndarray) -> tuple[int, int, Any]:
    position = int(np.argmax(mask))
    row = int(np.searchsorted(csr.indptr, position, side="right")) - 1
    return row, int(csr.indices[position]), csr.data[position]


def to_adjacency(
    graph,
    *,
    source=None,
    target=None,
    weight="weight",
    nodes=None,
    directed=None,
    return_nodes=False,
):
    """Convert a graph to a sparse adjacency matrix.

    Takes what graphs are kept in: sparse and dense matrices, graphs of networkx and igraph, and
    edge lists in a pandas, polars or pyarrow table, in plain arrays or as a list of tuples. None of
    these libraries is needed unless the graph comes from it.

    Parameters
    ----------
    graph : sparse or dense matrix, networkx or igraph graph, data frame, tuple of arrays, or \
list of tuples
        The graph. A data frame (pandas, polars, pyarrow) has one edge a row. A tuple
        ``(source, target)`` or ``(source, target, weight)`` of arrays of equal length is an edge
        list too, and so is a list of tuples ``(source, target)`` or ``(source, target, weight)``,
        one an edge. A list of lists is a matrix.
    source, target : str, default=None
        Columns of a data frame with the ids of the nodes that edges leave and reach. By default
        the two columns that the frame has beside `weight`.
    weight : str or None, default="weight"
        Column, or edge attribute, of the weights. Where there is none of the default name, and
        with None, every edge weighs 1.
    nodes : array-like of shape (n_nodes,) or int, default=None
        Ids of the nodes, in the order of the rows of the result; a number n stands for the ids
        0 .. n - 1. Name all nodes here to keep those without edges, or to put rows in the order
        of another table. By default the order of a networkx or igraph graph, and the sorted
        ids that occur in an edge list.
    directed : bool, default=None
        Whether edges go one way. False puts each edge of an edge list in both places and makes
        a matrix that is not symmetric an error. By default a networkx or igraph graph knows, an
        edge list is undirected, and a matrix is taken as it is.
    return_nodes : bool, default=False
        Also return the ids in the order of the rows.

    Returns
    -------
    adjacency : csr_array of shape (n_nodes, n_nodes)
        Entry (i, j) is the weight of the edge from i to j, float64. Duplicate edges are summed,
        self-loops are on the diagonal, once.
    nodes : ndarray of shape (n_nodes,)
        Ids of the rows. Only with `return_nodes`.

    Raises
    ------
    ValueError
        Unknown or missing ids, columns that are not there, negative or infinite weights, or a
        matrix that is not square.

    See Also
    --------
    save_graph : Keep an adjacency in a folder that is read without loading it.
    sklr.manifold.FastRP : Node embeddings of an adjacency.

    Notes
    -----
    An undirected edge list that has each edge in both directions gives weights of 2: pass
    ``directed=True`` for it.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklr.utils import to_adjacency
    >>> edges = pd.DataFrame({"from": ["a", "b"], "to": ["b", "c"], "weight": [1.0, 2.0]})
    >>> adjacency, nodes = to_adjacency(edges, return_nodes=True)
    >>> nodes.tolist()
    ['a', 'b', 'c']
    >>> adjacency.toarray()
    array([[0., 1., 0.],
           [1., 0., 2.],
           [0., 2., 0.]])
    """
    refuse_annotated(graph, "graph")
    if nodes is not None:
        nodes = node_ids(nodes)
    if is_edge_list(graph):
        ends_of_edges, values = _arrays_of_edges(graph)
        adjacency, nodes = _from_edges(*ends_of_edges, values, nodes, bool(directed))
    elif _is_networkx(graph):
        adjacency, nodes = _from_networkx(graph, weight, nodes, directed)
    elif hasattr(graph, "get_edgelist") and hasattr(graph, "vcount"):
        adjacency, nodes = _from_igraph(graph, weight, nodes, directed, return_nodes)
    elif isinstance(graph, tuple) or hasattr(graph, "columns"):
        if isinstance(graph, tuple):
            ends, values = _arrays_of_tuple(graph)
        else:
            ends, values = _arrays_of_frame(graph, source, target, weight)
        adjacency, nodes = _from_edges(*ends, values, nodes, bool(directed))
    else:
        adjacency = check_adjacency(graph, name="graph", symmetric=directed is False)
        n_nodes = adjacency.shape[0]
        if nodes is None:
            nodes = np.arange(n_nodes)
        elif len(nodes) != n_nodes:
            raise ValueError(f"nodes has {len(nodes)} ids for a matrix of {n_nodes} nodes.")
    return (adjacency, nodes) if return_nodes else adjacency


def graph_as_matrix(X: Any, *, precomputed: bool) -> tuple[Any, bool]:
    """Return what an estimator is given, graphs as an adjacency, and whether it is a graph.

    Graphs of networkx and igraph are graphs whatever an estimator expects; a list of tuples is one
    (an edge list) only where a graph is expected.
    """
    refuse_annotated(X, "X")
    if is_graph_object(X) or (precomputed and is_edge_list(X)):
        return to_adjacency(X), True
    return X, precomputed


def is_edge_list(graph: Any) -> bool:
    """Return whether something is a list of tuples of two or three: edges, not rows of a matrix."""
    return (
        isinstance(graph, list)
        and len(graph) > 0
        and all(type(edge) is tuple for edge in graph)
        and {len(edge) for edge in graph} <= {2, 3}
    )


def refuse_annotated(graph: Any, name: str) -> None:
    """Say which parts of an AnnData object (of scanpy) are graphs and tables."""
    if all(hasattr(graph, part) for part in ("obsm", "obsp", "obs")):
        raise ValueError(
            f"{name} is an annotated object, not a matrix: pass a part of it. Graphs are in .obsp "
            f"(here {sorted(graph.obsp)}), for example {name}.obsp['connectivities']; tables are "
            f"{name}.X and those in .obsm (here {sorted(graph.obsm)})."
        )


def is_graph_object(graph: Any) -> bool:
    """Return whether something is a graph of networkx or igraph: no matrix, but convertible."""
    return _is_networkx(graph) or (hasattr(graph, "get_edgelist") and hasattr(graph, "vcount"))


def _is_networkx(graph: Any) -> bool:
    return all(hasattr(graph, name) for name in ("is_directed", "adjacency", "edges", "nodes"))


def _from_edges(source, target, values, nodes, directed):
    """Return adjacency and ids of an edge list given as arrays."""
    for ids, what in ((source, "source"), (target, "target")):
        missing = has_missing(ids)
        if missing is None:
            continue
        if missing.any():
            raise ValueError(
                f"{int(missing.sum())} edges have no {what} (first in row "
                f"{int(np.argmax(missing))}); remove them or give them an id."
            )
    if nodes is None:
        nodes = sorted_ids(source, target)
    else:
        check_unique(nodes)
    rows, columns = locate(source, nodes, "source"), locate(target, nodes, "target")
    values = np.ones(len(rows)) if values is None else values
    wrong = ~(values >= 0) | np.isinf(values)
    if wrong.any():
        first = int(np.argmax(wrong))
        what = "negative" if values[first] < 0 else "not a finite number"
        raise ValueError(
            f"{int(wrong.sum())} edges have weights that are negative, infinite or missing; the "
            f"first, from {_plain(source[first])!r} to {_plain(target[first])!r}, weighs "
            f"{values[first]} ({what}). Weights must be finite and >= 0."
        )
    if not directed:
        both = rows != columns  # a self-loop is its own reverse
        rows, columns = np.r_[rows, columns[both]], np.r_[columns, rows[both]]
        values = np.r_[values, values[both]]
    n_nodes = len(nodes)
    index = index_dtype(n_nodes, len(rows))
    coo = sparse.coo_array(
        (values, (rows.astype(index), columns.astype(index))), shape=(n_nodes, n_nodes)
    )
    return check_adjacency(coo, name="graph"), nodes


def _weights(values: Any) -> np.ndarray:
    array = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if array.dtype.kind not in "biuf":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"weights must be numbers, got dtype {array.dtype}.") from None
    return array.astype(np.float64, copy=False)


def _arrays_of_tuple(graph):
    if len(graph) not in (2, 3):
        raise ValueError(
            f"A tuple is an edge list of 2 or 3 arrays (source, target, weight), got {len(graph)}."
        )
    ends = [as_ids(ids) for ids in graph[:2]]
    values = _weights(graph[2]) if len(graph) == 3 else None
    lengths = [len(part) for part in (*ends, *([] if values is None else [values]))]
    if len(set(lengths)) != 1:
        raise ValueError(f"The arrays of an edge list must be equally long, got {lengths}.")
    return ends, values


def _arrays_of_edges(edges):
    """Return ends and weights of a list of tuples; edges of two weigh 1 beside those of three."""
    ends = [as_ids([edge[side] for edge in edges]) for side in (0, 1)]
    if all(len(edge) == 2 for edge in edges):
        return ends, None
    return ends, _weights([edge[2] if len(edge) == 3 else 1.0 for edge in edges])


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _arrays_of_frame(frame, source, target, weight):
    # A table of pyarrow has its columns, not their names, under `columns`.
    columns = list(getattr(frame, "column_names", frame.columns))
    for what, name in (("source", source), ("target", target)):
        if name is not None and name not in columns:
            raise ValueError(f"{what}={name!r} is not a column; the frame has {columns}.")
    if weight is not None and weight not in columns:
        if weight != "weight":
            raise ValueError(f"weight={weight!r} is not a column; the frame has {columns}.")
        weight = None
    if source is None or target is None:
        others = [name for name in columns if name not in (source, target, weight)]
        if len(others) != (source is None) + (target is None):
            raise ValueError(
                f"Which columns are the ends of edges? The frame has {columns}: "
                "name them with source= and target= (and weight=)."
            )
        source = others.pop(0) if source is None else source
        target = others.pop(0) if target is None else target
    ends = [as_ids(frame[name].to_numpy()) for name in (source, target)]
    return ends, None if weight is None else _weights(frame[weight])


def _from_networkx(graph, weight, nodes, directed):
    listed = list(graph.nodes) if nodes is None else nodes.tolist()
    index = {node: position for position, node in enumerate(listed)}
    if len(index) != len(listed):
        check_unique(nodes)
    one_way = graph.is_directed() if directed is None else directed
    rows, columns, values = [], [], []
    for one, other, value in graph.edges(data=weight, default=1):
        if one not in index or other not in index:
            unknown = one if one not in index else other
            raise ValueError(
                f"An edge has the node {unknown!r}, which is not in nodes. "
                "Name every node of the graph in nodes, or pass a subgraph."
            )
        rows.append(index[one])
        columns.append(index[other])
        values.append(1.0 if weight is None or value is None else value)
    return _from_positions(rows, columns, values, listed, nodes, one_way)


def _from_igraph(graph, weight, nodes, directed, return_nodes):
    n_nodes = graph.vcount()
    names = graph.vs["name"] if "name" in graph.vs.attributes() else range(n_nodes)
    edges = np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    if weight is not None and weight in graph.es.attributes():
        values = graph.es[weight]
    elif weight in (None, "weight"):
        values = np.ones(len(edges))
    else:
        raise ValueError(
            f"weight={weight!r} is not an edge attribute; there are {graph.es.attributes()}."
        )
    one_way = graph.is_directed() if directed is None else directed
    listed = list(names)
    if nodes is None and return_nodes:
        check_unique(as_ids(listed))
    if nodes is not None:
        check_unique(nodes)
        used = np.unique(edges)
        place = np.full(n_nodes, -1)
        place[used] = locate(as_ids([listed[v] for v in used]), nodes, "node")
        edges = place[edges]
    return _from_positions(edges[:, 0], edges[:, 1], values, listed, nodes, one_way)


def _from_positions(rows, columns, values, listed, nodes, directed):
    """Build the adjacency of edges given by positions: those of `listed`, or of `nodes`."""
    nodes = as_ids(listed) if nodes is None else nodes
    numbers = np.arange(len(nodes))
    adjacency, _ = _from_edges(
        np.asarray(rows, dtype=np.int64),
        np.asarray(columns, dtype=np.int64),
        _weights(values),
        numbers,
        directed,
    )
    return adjacency, nodes
