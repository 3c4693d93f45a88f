"""The graph of a table: each row and its nearest neighbours."""

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from sklr.utils._graph import clipped_neighbors
from sklr.utils._warnings import warn_user


def table_graph(X, n_neighbors, n_jobs=None):
    """Return the graph of nearest neighbours of a checked table, and the search that made it.

    Where a row is there so often that its neighbours are all copies of it, the copies would make a
    component of their own. If there are more than `n_neighbors` positions, these rows get the next
    copy and the nearest other positions instead.

    Returns
    -------
    graph : csr_array of shape (n_samples, n_samples)
        Ones from each row to its neighbours.
    neighbors : NearestNeighbors
        Fitted, with as many neighbours as there can be.
    """
    _warn_of_adjacency(X)
    k = clipped_neighbors(n_neighbors, X.shape[0])
    neighbors = NearestNeighbors(n_neighbors=k, n_jobs=n_jobs).fit(X)
    graph = sparse.csr_array(neighbors.kneighbors_graph(mode="connectivity"))
    if sparse.issparse(X):
        return graph, neighbors
    rows, place, size = np.unique(X, axis=0, return_inverse=True, return_counts=True)
    place = place.ravel()
    heaped = np.flatnonzero(size[place] > k)
    if not len(heaped) or len(rows) <= k:  # few positions are the clusters
        return graph, neighbors
    order = np.argsort(place, kind="stable")
    start = np.cumsum(size) - size
    number = np.empty(len(X), dtype=np.int64)  # of a copy among its copies
    number[order] = np.arange(len(X)) - start[place[order]]
    others = max(1, min(k - 1, len(rows) - 1))
    search = NearestNeighbors(n_neighbors=others, n_jobs=n_jobs).fit(rows)
    near = search.kneighbors(return_distance=False)[place[heaped]]
    near = np.column_stack([place[heaped], near])
    turn = number[heaped][:, None] + 1 + np.arange(near.shape[1])
    ends = order[start[near] + turn % size[near]]
    source = np.repeat(heaped, near.shape[1])
    new = sparse.csr_array((np.ones(ends.size), (source, ends.ravel())), shape=graph.shape)
    keep = np.ones(len(X))
    keep[heaped] = 0.0
    graph = sparse.csr_array(sparse.diags_array(keep) @ graph + new)
    graph.eliminate_zeros()
    return graph, neighbors


def _warn_of_adjacency(X):
    """Say that a symmetric matrix without negative entries is taken as a table."""
    n, p = X.shape
    if n != p or n < 3 or (X != X.T).sum() > 0 or X.min() < 0:
        return
    kind = "sparse symmetric" if sparse.issparse(X) else "symmetric"
    warn_user(
        f"X is a {kind} matrix of shape {X.shape}: an adjacency? It is taken as a table of "
        'features; pass affinity="precomputed" for a graph.',
    )
