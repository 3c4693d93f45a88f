"""Short-cut edges: made by noise between parts of a manifold that are far along it."""

import numpy as np
import scipy.sparse as sp
from numpy.polynomial import chebyshev
from scipy.sparse.csgraph import dijkstra

from sklr.geometry._diffusion import polynomial
from sklr.utils._graph import spanning_tree

# Steps of the random walks that are compared, and above how many vertices they are compared
# by so many random projections of theirs.
_STEPS = 6
_EXACT = 1000
_PROJECTIONS = 512
# Shares of the edges that are suspected, one after the other.
_SHARES = (0.05, 0.1, 0.15)
# A way round of so many edges is long: beside an edge of a manifold there are ways of two to five.
_LONG = 8
# An edge whose direction has more than this share of the largest variance of the points around
# an end goes along the manifold there, not across it: the median of all.
_ALONG_ALL = 0.62
_PATCH = 4
# What is dropped has to matter: growth of the mean number of edges between vertices, its
# logarithm at least so many times the share of the edges that are dropped.
_GAIN = 10.0
_ROUNDS = 12


def drop_short_cuts(affinity, distances, rng):
    """Drop edges that short-cut a manifold, as far as the data themselves say which.

    Edges are dropped when (1) random walks from their ends part, more so than those of most
    edges; (2) without the suspected edges there is a way from end to end, but a long one; (3)
    most of those so found do not go along the cloud of points around their ends; and (4) all
    together they shorten the ways through the graph by much more than their share. Without
    edges of this kind the graph stays what it was.

    Parameters
    ----------
    affinity : csr_array of shape (n, n)
        Symmetric and non-negative, zero diagonal, connected.
    distances : callable
        ``distances(rows, columns)`` returns the distances of points by their numbers.
    rng : RandomState
        Draws the projections and the vertices from which ways are counted.

    Returns
    -------
    affinity : csr_array of shape (n, n)
        With fewer edges, or the input itself; as connected as before.
    """
    n = affinity.shape[0]
    sources = rng.choice(n, min(n, 64), replace=False)
    projection = None
    if n > _EXACT:
        projection = rng.choice([-1.0, 1.0], size=(n, _PROJECTIONS))
    return _best_of_path(affinity, distances, sources, projection)


def _best_of_path(affinity, distances, sources, projection):
    """Drop what is found, again and again, and return the graph of the way that gained most.

    While one bridge between two sheets is left, ways go over it, and dropping the others gains
    little: a step that does not pay by itself may be what the next one needs. So the whole way
    is gone, and then judged: the growth of the logarithm of the mean number of edges between
    vertices, less its price for each edge that is dropped.
    """
    n_edges = 0.5 * affinity.nnz
    W, best = affinity, affinity
    start, most = _mean_hops(affinity, sources), 0.0
    step, alike = 0, None
    for _ in range(_ROUNDS):
        if alike is None:
            alike = _walks_alike(W, projection)
        i, j = _find(W, alike, _SHARES[step], distances)
        if len(i):
            W, alike = _without(W, i, j), None
            dropped = 1.0 - 0.5 * W.nnz / n_edges
            gained = np.log(_mean_hops(W, sources) / start) - _GAIN * dropped
            if gained > most:
                best, most = W, gained
            step = 0
        elif step < len(_SHARES) - 1:
            step += 1
        else:
            break
    return best


def _edges(W):
    return sp.coo_array(sp.triu(W, 1)).coords


def _find(W, alike, share, distances):
    """Edges that are short-cuts, given how alike their ends are and which share is suspected."""
    i, j = _edges(W)
    n_suspects = int(share * len(i))
    order = np.argsort(alike, kind="stable")
    suspect = np.zeros(len(i), dtype=bool)
    suspect[order[:n_suspects]] = True
    # The tree of the edges that are most alike keeps the rest together.
    cost = sp.csr_array((2.0 - alike, (i, j)), shape=W.shape)
    tree = spanning_tree(cost)
    suspect &= np.asarray(tree[i, j]).ravel() == 0
    ones = np.ones(np.count_nonzero(~suspect))
    rest = sp.csr_array((ones, (i[~suspect], j[~suspect])), shape=W.shape)
    rest = sp.csr_array(rest + rest.T)
    i, j = i[suspect], j[suspect]
    far = _far_apart(rest, i, j)
    i, j = i[far], j[far]
    if not len(i):
        return i, j
    along = _along(rest, i, j, distances)
    if np.median(along) > _ALONG_ALL:
        # Edges of the manifold that are the only ones of their place are among them: those stay.
        across = along <= _ALONG_ALL
        return i[across], j[across]
    return i, j


def _walks_alike(W, projection):
    """Cosine between the distributions of random walks from the two ends of each edge."""
    n = W.shape[0]
    step = sp.csr_array(W, copy=True)
    step.data = np.ones_like(step.data)
    step = sp.csr_array(step + sp.eye_array(n))
    step = sp.csr_array(sp.diags_array(1.0 / step.sum(axis=1)) @ step)
    walks = polynomial(step, chebyshev.poly2cheb([0.0] * _STEPS + [1.0])[None], projection)[0]
    walks /= np.linalg.norm(walks, axis=1, keepdims=True)
    i, j = _edges(W)
    out = np.empty(len(i))
    block = max(1, (1 << 16) // walks.shape[1])
    for start in range(0, len(i), block):
        part = slice(start, start + block)
        out[part] = np.einsum("ij,ij->i", walks[i[part]], walks[j[part]])
    return out


def _far_apart(graph, i, j):
    from sklr.manifold._short_cuts_kernels import far_apart

    n = graph.shape[0]
    out = np.empty(len(i), dtype=bool)
    indptr, indices = graph.indptr.astype(np.int32), graph.indices.astype(np.int32)
    scratch = np.full(n, -1, dtype=np.int64), np.empty(n, dtype=np.int64)
    far_apart(indptr, indices, i.astype(np.int64), j.astype(np.int64), _LONG, *scratch, out)
    return out


def _along(graph, i, j, distances):
    """Variance of the points around the ends in the edge's direction, over their largest.

    Distances alone say it: the place of a point along an edge of length r is half the
    difference of its squared distances to the two ends, over r.
    """
    edge_of, first, second = np.tile(np.arange(len(i)), 2), np.r_[i, j], np.r_[j, i]
    ends = np.unique(first)
    near = dijkstra(graph, directed=False, unweighted=True, indices=ends, limit=_PATCH)
    out = np.zeros(len(i))
    for end, row in zip(ends, near):
        patch, at = np.flatnonzero(np.isfinite(row)), np.flatnonzero(first == end)
        # One call for the whole patch: to the metrics of scikit-learn, a call is the cost.
        square = distances(patch, np.r_[patch, second[at]]) ** 2
        square, to_other = square[:, : len(patch)], square[:, len(patch) :]
        gram = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
        largest = float(np.linalg.eigvalsh(gram)[-1])
        own = int(np.searchsorted(patch, end))
        place = square[:, own, None] - to_other
        spread = ((place - place.mean(axis=0)) ** 2).sum(axis=0)
        size = 4.0 * to_other[own] * largest
        share = np.divide(spread, size, out=np.zeros_like(spread), where=size > 0)
        out[edge_of[at]] = np.maximum(out[edge_of[at]], share)
    return out


def _without(W, i, j):
    gone = sp.csr_array((np.ones(len(i)), (i, j)), shape=W.shape)
    W = sp.csr_array(W - W.multiply(gone + gone.T))
    W.eliminate_zeros()
    W.sort_indices()
    return W


def _mean_hops(W, sources):
    from sklr.geometry._diffusion_kernels import hop_depth

    n = W.shape[0]
    depth, queue = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    indptr, indices = W.indptr.astype(np.int32), W.indices.astype(np.int32)
    total, count = 0, 0
    for source in sources:
        hop_depth(indptr, indices, source, depth, queue)
        total += int(depth[depth > 0].sum())
        count += int((depth > 0).sum())
    return total / max(1, count)
