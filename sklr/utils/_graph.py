"""Graphs as people have them in, a checked CSR adjacency out."""

import operator
from typing import Any

import numpy as np
from scipy import sparse

# The largest number that an int32 index holds. A name of the module, so that a test can lower it:
# nobody tests with 2**31 edges.
_INT32_MAX = np.iinfo(np.int32).max


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
        raise ValueError(
            f"{name} must be a square matrix of shape (n_nodes, n_nodes), "
            f"got shape {adjacency.shape}."
        )
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
        check_symmetric(csr, name=name)
    return csr


def check_symmetric(adjacency: sparse.csr_array, *, name: str = "adjacency") -> None:
    """Raise ValueError, with an edge that shows it, when a canonical CSR is not symmetric."""
    other = adjacency.T.tocsr()
    same = np.array_equal(other.indptr, adjacency.indptr) and np.array_equal(
        other.indices, adjacency.indices
    )
    if same:
        scale = float(adjacency.data.max(initial=0.0))
        gap = np.abs(other.data.astype(np.float64) - adjacency.data)
        if float(gap.max(initial=0.0)) <= 1e-8 * scale:
            return
    difference = sparse.coo_array(abs(adjacency.astype(np.float64) - other))
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
    edge lists in a pandas or polars data frame or in plain arrays. None of these libraries is
    needed unless the graph comes from it.

    Parameters
    ----------
    graph : sparse or dense matrix, networkx or igraph graph, data frame, or tuple of arrays
        The graph. A data frame has one edge a row. A tuple ``(source, target)`` or
        ``(source, target, weight)`` of arrays of equal length is an edge list too.
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
    if nodes is not None:
        nodes = _node_ids(nodes)
    if _is_networkx(graph):
        adjacency, nodes = _from_networkx(graph, weight, nodes, directed)
    elif hasattr(graph, "get_edgelist") and hasattr(graph, "vcount"):
        adjacency, nodes = _from_igraph(graph, weight, nodes, directed)
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


def is_graph_object(graph: Any) -> bool:
    """Return whether something is a graph of networkx or igraph: no matrix, but convertible."""
    return _is_networkx(graph) or (hasattr(graph, "get_edgelist") and hasattr(graph, "vcount"))


def _is_networkx(graph: Any) -> bool:
    return all(hasattr(graph, name) for name in ("is_directed", "adjacency", "edges", "nodes"))


def _node_ids(nodes: Any) -> np.ndarray:
    if isinstance(nodes, bool):
        raise ValueError(f"nodes must be ids or their number, got {nodes!r}.")
    try:
        return np.arange(operator.index(nodes))
    except TypeError:
        pass
    nodes = list(nodes) if not hasattr(nodes, "to_numpy") else nodes.to_numpy()
    return _one_d(nodes)


def _one_d(values: Any) -> np.ndarray:
    """Return values as a 1-D array; ids that are tuples stay single objects."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None:
        try:
            array = np.asarray(values)
        except ValueError:
            array = None
    # A list of mixed ids would turn into strings, one of tuples into a matrix.
    mixed = array is not None and array.dtype.kind in "US" and not isinstance(values, np.ndarray)
    if array is None or array.ndim != 1 or (mixed and not all(isinstance(v, str) for v in values)):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array.astype(object) if array.dtype.kind in "US" else array


def _locate(ids: np.ndarray, nodes: np.ndarray, what: str) -> np.ndarray:
    """Return the position of each id in `nodes`."""
    if len(nodes) and ids.dtype.kind in "biuf" and nodes.dtype.kind in "biuf":
        order = np.argsort(nodes, kind="stable")
        found = np.searchsorted(nodes, ids, sorter=order)
        positions = order[np.minimum(found, len(nodes) - 1)]
        unknown = nodes[positions] != ids
    else:
        table = {node: position for position, node in enumerate(nodes.tolist())}
        listed = ids.tolist()
        positions = np.fromiter((table.get(v, -1) for v in listed), np.int64, len(listed))
        unknown = positions < 0
    if unknown.any():
        examples = list(dict.fromkeys(ids[unknown].tolist()))
        some = ", ".join(repr(v) for v in examples[:3]) + (", ..." if len(examples) > 3 else "")
        raise ValueError(
            f"{int(unknown.sum())} of {len(ids)} edges have a {what} that is not in nodes: {some}. "
            "Name every id in nodes, or remove these edges."
        )
    return positions


def _check_unique(nodes: np.ndarray) -> None:
    listed = nodes.tolist()
    if len(set(listed)) != len(listed):
        seen: set = set()
        double = next(v for v in listed if v in seen or seen.add(v))  # type: ignore[func-returns-value]
        raise ValueError(f"nodes has {double!r} more than once; ids must be unique.")


def _from_edges(source, target, values, nodes, directed):
    """Return adjacency and ids of an edge list given as arrays."""
    for ids, what in ((source, "source"), (target, "target")):
        if ids.dtype.kind == "f":
            missing = np.isnan(ids)
        elif ids.dtype.kind == "O":
            # Missing values are not equal to themselves (NaN) or do not know (pandas.NA).
            missing = np.fromiter(
                (v is None or (not isinstance(v, str) and not _equals_itself(v)) for v in ids),
                bool,
                len(ids),
            )
        else:
            continue
        if missing.any():
            raise ValueError(
                f"{int(missing.sum())} edges have no {what} (first in row "
                f"{int(np.argmax(missing))}); remove them or give them an id."
            )
    if nodes is None:
        nodes = _sorted_ids(source, target)
    else:
        _check_unique(nodes)
    rows, columns = _locate(source, nodes, "source"), _locate(target, nodes, "target")
    if values is None:
        values = np.ones(len(rows))
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


def _equals_itself(value: Any) -> bool:
    try:
        return bool(value == value)
    except (TypeError, ValueError):
        return False


def _sorted_ids(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    if source.dtype.kind in "biuf" and target.dtype.kind in "biuf":
        return np.unique(np.r_[source, target])
    found = list(dict.fromkeys([*source.tolist(), *target.tolist()]))
    try:
        found.sort()
    except TypeError:
        pass  # ids of several types have no order but that of their appearance
    return _one_d(found)


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
    ends = [_one_d(ids) for ids in graph[:2]]
    values = _weights(graph[2]) if len(graph) == 3 else None
    lengths = [len(part) for part in (*ends, *([] if values is None else [values]))]
    if len(set(lengths)) != 1:
        raise ValueError(f"The arrays of an edge list must be equally long, got {lengths}.")
    return ends, values


def _arrays_of_frame(frame, source, target, weight):
    columns = list(frame.columns)
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
    ends = [_one_d(frame[name].to_numpy()) for name in (source, target)]
    return ends, None if weight is None else _weights(frame[weight])


def _from_networkx(graph, weight, nodes, directed):
    listed = list(graph.nodes) if nodes is None else nodes.tolist()
    index = {node: position for position, node in enumerate(listed)}
    if len(index) != len(listed):
        _check_unique(nodes)
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


def _from_igraph(graph, weight, nodes, directed):
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
    if nodes is not None:
        _check_unique(nodes)
        used = np.unique(edges)
        place = np.full(n_nodes, -1)
        place[used] = _locate(_one_d([listed[v] for v in used]), nodes, "node")
        edges = place[edges]
    return _from_positions(edges[:, 0], edges[:, 1], values, listed, nodes, one_way)


def _from_positions(rows, columns, values, listed, nodes, directed):
    """Build the adjacency of edges given by positions: those of `listed`, or of `nodes`."""
    nodes = _one_d(listed) if nodes is None else nodes
    numbers = np.arange(len(nodes))
    adjacency, _ = _from_edges(
        np.asarray(rows, dtype=np.int64),
        np.asarray(columns, dtype=np.int64),
        _weights(values),
        numbers,
        directed,
    )
    return adjacency, nodes
