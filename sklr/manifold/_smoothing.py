"""Against noise: smoothing of points towards local planes, pruning of short-cut edges."""

import numpy as np
import scipy.sparse as sp

from sklr.geometry import nearest_neighbors
from sklr.utils._graph import spanning_tree


def smooth_points(X, n_neighbors, n_directions, n_steps, *, n_jobs=None):
    """Move points towards the local plane of their neighbours, a few times over.

    One step of manifold blurring: the way to the weighted mean of the neighbours, without its
    part along the `n_directions` main directions of the neighbourhood, along which a move would
    shrink the manifold.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        The points.
    n_neighbors : int
        Neighbours that make the local plane.
    n_directions : int
        Dimension of the plane; with as many as features there is nothing to move along.
    n_steps : int
        How often.
    n_jobs : int, default=None
        Threads of the neighbour search.

    Returns
    -------
    X : ndarray of shape (n, p)
        Moved points, float64.
    """
    X = np.array(X, dtype=np.float64)
    n, p = X.shape
    k = min(n_neighbors, n - 1)
    d = min(n_directions, p, k)
    if d >= p:
        return X
    for _ in range(n_steps):
        distances, indices = nearest_neighbors(X, k, n_jobs=n_jobs)
        scale = np.maximum(distances[:, -1:], np.finfo(float).tiny)
        w = np.exp(-2.0 * (distances / scale) ** 2)
        w = np.c_[np.ones(n), w]
        w /= w.sum(axis=1, keepdims=True)
        moved = np.empty_like(X)
        step = max(1, (1 << 22) // ((k + 1) * p))
        for start in range(0, n, step):
            part = slice(start, start + step)
            patch = np.concatenate([X[part, None], X[indices[part]]], axis=1)
            mean = np.einsum("nk,nkp->np", w[part], patch)
            spread = (patch - mean[:, None]) * np.sqrt(w[part])[:, :, None]
            _, _, V = np.linalg.svd(spread, full_matrices=False)
            V = V[:, :d]
            way = mean - X[part]
            along = np.einsum("ndp,np->nd", V, way)
            moved[part] = X[part] + way - np.einsum("nd,ndp->np", along, V)
        X = moved
    return X


def prune_short_cuts(affinity, min_overlap):
    """Drop edges whose ends have few neighbours in common.

    Two neighbours on one sheet share many neighbours; an edge from sheet to sheet, made by
    noise, has two neighbourhoods that hardly meet. Edges of the maximum spanning tree of the
    overlaps are kept, so that no component falls apart.

    Parameters
    ----------
    affinity : csr_array of shape (n, n)
        Symmetric and non-negative, zero diagonal.
    min_overlap : float
        Smallest share of common neighbours that is kept: |A and B| / |A or B| of the
        neighbourhoods of the two ends, the ends themselves not counted.

    Returns
    -------
    affinity : csr_array of shape (n, n)
        With fewer edges.
    """
    n = affinity.shape[0]
    pattern = sp.csr_array(affinity, copy=True)
    pattern.data = np.ones_like(pattern.data)
    closed = sp.csr_array(pattern + sp.eye_array(n))
    size = np.diff(closed.indptr)
    edges = sp.coo_array(pattern)
    i, j = edges.coords
    common = sp.coo_array((closed @ closed).multiply(pattern)).tocsr()
    both = np.asarray(common[i, j]).ravel()
    others = size[i] + size[j] - both - 2  # the ends lie in both closed neighbourhoods
    overlap = np.divide(both - 2, others, out=np.ones(len(i)), where=others > 0)
    # The tree is of least cost, and costs must not be zero.
    cost = sp.csr_array((2.0 - overlap, (i, j)), shape=(n, n))
    tree = sp.coo_array(spanning_tree(cost))
    kept = sp.csr_array((np.ones(tree.nnz), tree.coords), shape=(n, n))
    kept = kept + kept.T
    good = overlap >= min_overlap
    kept = kept + sp.csr_array((np.ones(good.sum()), (i[good], j[good])), shape=(n, n))
    kept.data[:] = 1.0
    out = sp.csr_array(affinity.multiply(kept))
    out.sort_indices()
    return out
