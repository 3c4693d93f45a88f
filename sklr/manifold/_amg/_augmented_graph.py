"""Graphs whose vertices carry attributes, as one larger graph; its Laplacian made definite."""

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sklr.utils._graph import check_adjacency, index_dtype
from sklr.utils._warnings import warn_user


def augment_graph(adjacency, attributes, weight=1.0):
    """Add one vertex for each value of each attribute, joined to the vertices that have it.

    Parameters
    ----------
    adjacency : sparse or dense matrix of shape (n_nodes, n_nodes)
        Symmetric, non-negative weights. Entries on the diagonal are left out.
    attributes : array-like of shape (n_nodes, n_attributes) or None
        Categories: integers, strings, booleans, or a data frame of such columns. Every distinct
        value of a column becomes a vertex. None, or no columns, changes nothing.
    weight : float or array-like of shape (n_attributes,), default=1.0
        Weight of the new edges, for each attribute or for all.

    Returns
    -------
    augmented : csr_array of shape (n_nodes + n_values, n_nodes + n_values)
        The original edges and ``n_nodes * n_attributes`` new ones. Vertices of values come after
        the original ones, attribute by attribute, values sorted.
    index : ndarray of shape (n_nodes, n_attributes)
        The vertex of the value that each vertex has.

    Raises
    ------
    ValueError
        An adjacency that is not square, symmetric, non-negative and finite, a number of rows of
        attributes other than of vertices, missing values, or weights that are not positive.

    See Also
    --------
    BootstrapAMGClustering : Clusters the vertices of such a graph.

    References
    ----------
    .. [1] Y. Zhou, H. Cheng, J. X. Yu, "Graph clustering based on structural/attribute
       similarities", Proc. VLDB Endowment 2(1), 2009. https://doi.org/10.14778/1687627.1687709

    Examples
    --------
    >>> from sklr.cluster import augment_graph
    >>> augmented, index = augment_graph([[0, 1], [1, 0]], [["red"], ["blue"]])
    >>> index
    array([[3],
           [2]])
    >>> augmented.toarray()
    array([[0., 1., 0., 1.],
           [1., 0., 1., 0.],
           [0., 1., 0., 0.],
           [1., 0., 0., 0.]])
    """
    adjacency = as_undirected(check_adjacency(adjacency, symmetric=True))
    codes, categories = encode_attributes(attributes, adjacency.shape[0])
    weights = np.asarray(weight, dtype=np.float64)
    if weights.ndim > 1 or (weights.ndim == 1 and len(weights) != len(categories)):
        raise ValueError(
            f"weight must be a number or one for each of the {len(categories)} attributes, "
            f"got shape {weights.shape}."
        )
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(f"weight must be positive and finite, got {weight!r}.")
    return join_attributes(adjacency, codes, categories, weights)


def as_undirected(adjacency):
    """Return a canonical symmetric CSR exactly symmetric, without diagonal, with own memory."""
    n = adjacency.shape[0]
    other = adjacency.T.tocsr()
    data = 0.5 * (adjacency.data + other.data)
    rows = np.repeat(np.arange(n, dtype=adjacency.indices.dtype), np.diff(adjacency.indptr))
    off = rows != adjacency.indices
    if off.all():
        indices, indptr = adjacency.indices.copy(), adjacency.indptr.copy()
    else:
        data, indices = data[off], adjacency.indices[off]
        indptr = np.r_[0, np.cumsum(off)].astype(adjacency.indptr.dtype)[adjacency.indptr]
    out = sparse.csr_array((data, indices, indptr), shape=(n, n))
    out.has_sorted_indices = out.has_canonical_format = True
    return out


def join_attributes(adjacency, codes, categories, weights):
    """Return the augmented CSR and the vertex of each value; everything is checked already."""
    n, p = codes.shape
    if p == 0:
        return adjacency, np.empty((n, 0), dtype=np.int64)
    sizes = np.array([len(values) for values in categories])
    index = codes + n + np.r_[0, np.cumsum(sizes)[:-1]]
    total = n + int(sizes.sum())
    dtype = index_dtype(adjacency.nnz + 2 * n * p, total)
    values = np.tile(np.broadcast_to(weights, (p,)), n)
    right = sparse.csr_array(
        (values, (index - n).ravel().astype(dtype), np.arange(0, n * p + 1, p, dtype=dtype)),
        shape=(n, total - n),
    )
    augmented = sparse.block_array([[adjacency, right], [right.T, None]], format="csr")
    augmented.sort_indices()
    if augmented.indices.dtype != dtype or augmented.indptr.dtype != dtype:
        augmented = sparse.csr_array(
            (augmented.data, augmented.indices.astype(dtype), augmented.indptr.astype(dtype)),
            shape=augmented.shape,
        )
    augmented.has_sorted_indices = augmented.has_canonical_format = True
    return augmented, index


def _columns(attributes):
    """Return the columns of a table, each a 1-D array, and their names or None."""
    if hasattr(attributes, "columns"):
        names = list(attributes.columns)
        return [_plain(attributes[name]) for name in names], names
    table = np.asarray(attributes)
    if table.dtype.kind in "US" and not isinstance(attributes, np.ndarray):
        table = np.asarray(attributes, dtype=object)  # 1 and "1" are not the same value
    if table.ndim != 2:
        raise ValueError(
            "attributes must be a table of shape (n_nodes, n_attributes), got "
            f"{table.ndim} dimensions, shape {table.shape}."
            + (" Reshape one attribute with .reshape(-1, 1)." if table.ndim == 1 else "")
        )
    if table.dtype.kind == "c":
        raise ValueError("attributes are complex numbers; categories are wanted.")
    return [table[:, j] for j in range(table.shape[1])], None


def _plain(series):
    array = series.to_numpy()
    return array if array.dtype.kind in "biufUSO" else np.asarray(array, dtype=object)


def _is_missing(column):
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind != "O":
        return np.zeros(len(column), dtype=bool)
    return np.fromiter((_missing_value(v) for v in column), bool, len(column))


def _missing_value(value):
    if value is None:
        return True
    if isinstance(value, str):
        return False
    try:
        return bool(value != value)  # NaN
    except (TypeError, ValueError):
        return True  # pandas.NA does not know


def encode_attributes(attributes, n_nodes, *, missing="error", max_categories=None):
    """Return codes of shape (n_nodes, n_attributes) and the sorted categories of each column.

    Parameters
    ----------
    attributes : array-like of shape (n_nodes, n_attributes) or None
        The table.
    n_nodes : int
        Rows that it must have.
    missing : {"error", "own_value"}, default="error"
        Whether a missing value is refused, or is one more value of its attribute (the last).
    max_categories : int, default=None
        A column of floats with more values than this is warned about.

    Returns
    -------
    codes : ndarray of shape (n_nodes, n_attributes)
        Numbers of the values.
    categories : list of ndarray
        The values; the missing one is None.
    """
    if attributes is None:
        return np.empty((n_nodes, 0), dtype=np.int64), []
    columns, names = _columns(attributes)
    lengths = {len(column) for column in columns} or {np.shape(attributes)[0]}
    if lengths != {n_nodes}:
        raise ValueError(
            f"attributes have {max(lengths)} rows, the graph has {n_nodes} vertices: "
            "one row for each vertex is wanted, in the same order."
        )
    codes = np.empty((n_nodes, len(columns)), dtype=np.int64)
    categories = []
    for j, column in enumerate(columns):
        what = f"Column {j if names is None else names[j]!r} of attributes"
        gone = _is_missing(column)
        if gone.any() and missing == "error":
            raise ValueError(
                f"{what} has {int(gone.sum())} missing values (first in row "
                f"{int(np.argmax(gone))}). Fill them in, or set attributes_missing='own_value' "
                "to make them one more value."
            )
        if column.dtype.kind == "f" and np.isinf(column[~gone]).any():
            raise ValueError(f"{what} has infinite values.")
        values, inverse = _unique(column[~gone])
        codes[~gone, j] = inverse
        if gone.any():
            codes[gone, j] = len(values)
            with_none = np.empty(len(values) + 1, dtype=object)
            with_none[:-1] = values
            values = with_none
        if max_categories is not None and len(values) > max_categories and _is_real(column):
            warn_user(
                f"{what} is a number with {len(values)} distinct values (max_categories="
                f"{max_categories}): nearly every vertex gets a value of its own, which says "
                "nothing. Bin it, for example with sklearn.preprocessing.KBinsDiscretizer.",
            )
        categories.append(values)
    return codes, categories


def codes_of_new(attributes, categories, n_nodes):
    """Return the number of each value among fitted categories, -1 for one that is not there."""
    columns, _ = _columns(attributes)
    if len(columns) != len(categories) or any(len(column) != n_nodes for column in columns):
        lengths = sorted({len(column) for column in columns})
        raise ValueError(
            f"attributes must have {n_nodes} rows and the {len(categories)} columns of fit, got "
            f"{len(columns)} columns of {lengths} rows."
        )
    codes = np.full((n_nodes, len(categories)), -1)
    for j, (column, values) in enumerate(zip(columns, categories)):
        table = {value: code for code, value in enumerate(values.tolist())}
        gone = _is_missing(column)
        codes[:, j] = [
            table.get(None if missing else value, -1)
            for value, missing in zip(column.tolist(), gone)
        ]
    return codes


def _is_real(column):
    if column.dtype.kind == "O":
        return all(isinstance(v, float | np.floating) for v in column if not _missing_value(v))
    return column.dtype.kind == "f"


def _unique(column):
    """Sorted distinct values and codes; what cannot be sorted keeps its order of appearance."""
    if column.dtype.kind != "O":
        return np.unique(column, return_inverse=True)
    listed = column.tolist()
    try:
        found = list(dict.fromkeys(listed))
    except TypeError:
        raise ValueError(
            "attributes must hold single values (numbers, strings), found something unhashable "
            f"such as {type(listed[0]).__name__}."
        ) from None
    try:
        found.sort()
    except TypeError:
        pass
    table = {value: code for code, value in enumerate(found)}
    values = np.empty(len(found), dtype=object)
    values[:] = found
    return values, np.fromiter((table[v] for v in listed), np.int64, len(listed))


def definite_laplacian(adjacency):
    """Return the graph's Laplacian, made positive definite, and its connected components.

    For each component, the term ``e e^T`` is added, with e the indicator of its first vertex and
    of that one's first neighbour; for an isolated vertex, 1 on the diagonal.

    Parameters
    ----------
    adjacency : csr_array of shape (n, n)
        Canonical, exactly symmetric, zero diagonal.

    Returns
    -------
    matrix : csr_array of shape (n, n)
        Sorted indices, every diagonal entry stored.
    labels : ndarray of shape (n,)
        Component of each vertex.
    """
    n = adjacency.shape[0]
    n_components, labels = connected_components(adjacency, directed=False)
    degree = adjacency.sum(axis=1)
    rows, columns, values = [np.arange(n)], [np.arange(n)], [degree]
    _, first = np.unique(labels, return_index=True)
    counts = np.diff(adjacency.indptr)
    alone = first[counts[first] == 0]
    first = first[counts[first] > 0]
    neighbour = adjacency.indices[adjacency.indptr[first]]
    for one, other in ((first, first), (first, neighbour), (neighbour, first)):
        rows.append(one)
        columns.append(other)
        values.append(np.ones(len(one)))
    rows += [neighbour, alone]
    columns += [neighbour, alone]
    values += [np.ones(len(neighbour)), np.ones(len(alone))]
    dtype = index_dtype(adjacency.nnz + n + 4 * n_components, n)
    extra = sparse.coo_array(
        (
            np.concatenate(values),
            (np.concatenate(rows).astype(dtype), np.concatenate(columns).astype(dtype)),
        ),
        shape=(n, n),
    ).tocsr()
    matrix = sparse.csr_array(extra - adjacency)
    matrix.sort_indices()
    return matrix, labels
