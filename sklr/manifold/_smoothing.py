"""Smoothing of a noisy point cloud towards the local planes of its neighbourhoods."""

import numpy as np

from sklr.geometry import nearest_neighbors


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
