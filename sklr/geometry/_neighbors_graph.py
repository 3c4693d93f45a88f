"""Neighbour graphs of point clouds: nearest neighbours, affinities on them, joined components."""

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from sklr.utils._graph import clipped_neighbors
from sklr.utils._imports import import_optional
from sklr.utils._threads import openmp_after_fork

# Entries beyond it, or below one over it, have squares that are no good numbers.
_LARGEST = 1e140
KERNELS = ("adaptive", "alpha", "binary", "gaussian")


def check_extent(X, name="X"):
    """Complain where squares would overflow, or vanish, and mislead."""
    if not X.size:
        return
    largest = max(float(X.max()), -float(X.min()))
    if largest > _LARGEST:
        raise ValueError(
            f"{name} is too large, squares overflow: the largest entry is {largest:.3g}. Scale it."
        )
    if 0 < largest < 1 / _LARGEST:
        raise ValueError(
            f"{name} is too small, squares vanish: the largest entry is {largest:.3g}. Scale it."
        )


def nearest_neighbors(
    X, n_neighbors, *, queries=None, metric="euclidean", metric_params=None, algorithm="exact",
    random_state=None, n_jobs=None,
):  # fmt: skip
    """Find the nearest neighbours of each point, the point itself not counted.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The points; for ``metric="precomputed"`` their distances (n_samples, n_samples).
    n_neighbors : int
        Neighbours wanted, at most ``n_samples - 1`` (``n_samples`` with `queries`).
    queries : ndarray of shape (n_queries, n_features), default=None
        Points whose neighbours among `X` are wanted; by default the points of `X` themselves.
    metric : str or callable, default="euclidean"
        Any metric of scikit-learn's ``NearestNeighbors``.
    metric_params : dict, default=None
        Parameters of the metric.
    algorithm : {"exact", "approximate"}, default="exact"
        scikit-learn's search, or PyNNDescent's (extra ``neighbors``), which is faster for many
        points of many features and misses some percent of the neighbours.
    random_state : int, RandomState instance or None, default=None
        Seed of the approximate search.
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors)
        Increasing along each row.
    indices : ndarray of shape (n_queries, n_neighbors)
        Row numbers in `X`.

    Examples
    --------
    >>> from sklr.geometry import nearest_neighbors
    >>> distances, indices = nearest_neighbors([[0.0], [1.0], [3.0]], 1)
    >>> indices.ravel()
    array([1, 0, 1])
    """
    X = np.asarray(X)
    limit = len(X) - (queries is None)
    if not 1 <= n_neighbors <= limit:
        raise ValueError(f"n_neighbors must be between 1 and {limit}, got {n_neighbors}.")
    if algorithm not in ("exact", "approximate"):
        raise ValueError(f"algorithm must be 'exact' or 'approximate', got {algorithm!r}.")
    if metric == "euclidean":
        check_extent(X)
        if queries is not None:
            queries = np.asarray(queries)
            check_extent(queries)
    if algorithm == "approximate":
        distances, indices = _approximate(
            X, n_neighbors, queries, metric, metric_params, random_state, n_jobs
        )
    else:
        from sklearn.neighbors import NearestNeighbors

        search = NearestNeighbors(
            n_neighbors=n_neighbors, metric=metric, metric_params=metric_params, n_jobs=n_jobs
        ).fit(X)
        with openmp_after_fork():
            distances, indices = search.kneighbors(queries)
        order = np.argsort(distances, axis=1, kind="stable")
        distances = np.take_along_axis(distances, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    if metric == "euclidean":
        # Brute force expands the square, which leaves 1e-8 of the largest norm in each distance.
        distances = _exact_distances(X, X if queries is None else np.asarray(queries), indices)
    return distances, indices


def _approximate(X, n_neighbors, queries, metric, metric_params, random_state, n_jobs):
    from joblib import effective_n_jobs
    from sklearn.utils import check_random_state

    pynndescent = import_optional(
        "pynndescent", extra="neighbors", feature="algorithm='approximate'"
    )
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    index = pynndescent.NNDescent(
        X.astype(np.float32, copy=False),
        metric=metric,
        metric_kwds=metric_params,
        n_neighbors=max(n_neighbors + 1, 15),
        random_state=np.random.RandomState(seed),  # noqa: NPY002 (its interface)
        n_jobs=effective_n_jobs(n_jobs),
    )
    if queries is not None:
        indices, distances = index.query(queries.astype(np.float32, copy=False), k=n_neighbors)
        return distances.astype(np.float64), indices
    indices, distances = index.neighbor_graph
    # Its rows hold the point itself, first or among its duplicates, or not at all.
    own = indices == np.arange(len(X))[:, None]
    own[~own.any(axis=1), -1] = True
    keep = ~own
    indices = indices[keep].reshape(len(X), -1)[:, :n_neighbors]
    distances = distances[keep].reshape(len(X), -1)[:, :n_neighbors]
    if (indices < 0).any():
        raise ValueError(
            "PyNNDescent found too few neighbours of some points; use algorithm='exact'."
        )
    return distances.astype(np.float64), indices


def _exact_distances(X, queries, indices, block=1 << 22):
    out = np.empty(indices.shape)
    step = max(1, block // max(1, indices.shape[1] * X.shape[1]))
    for start in range(0, len(indices), step):
        part = slice(start, start + step)
        gap = X[indices[part]].astype(np.float64)
        gap -= queries[part, None]
        out[part] = np.sqrt(np.einsum("ikp,ikp->ik", gap, gap))
    return out


def neighbors_graph(
    X, n_neighbors=10, *, kernel="alpha", decay=40.0, bandwidth=None, anisotropy=0.0,
    threshold=1e-4, metric="euclidean", metric_params=None, algorithm="exact", random_state=None,
    n_jobs=None, neighbors=None,
):  # fmt: skip
    """Build a symmetric affinity matrix on the nearest neighbours of a point cloud.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features) or None
        The points; for ``metric="precomputed"`` their distances (n_samples, n_samples). None
        with `neighbors`, of which nothing further is searched then.
    n_neighbors : int, default=10
        Neighbours of each point, itself not counted; all others, with a warning, when there are
        not so many.
    kernel : {"alpha", "binary", "gaussian", "adaptive"}, default="alpha"
        "alpha": exp(-(r / e_i) ** decay) with e_i the distance to the `n_neighbors`-th
        neighbour, averaged with its transpose; entries below `threshold` are dropped.
        "binary": one where either point is among the other's neighbours.
        "gaussian": exp(-r ** 2 / (2 bandwidth ** 2)) on the same pairs as "binary".
        "adaptive": exp(-r ** 2 / (e_i e_j)) on the same pairs as "binary".
    decay : float, default=40.0
        Exponent of the "alpha" kernel; 40 is nearly a ball with a hard rim.
    bandwidth : float, default=None
        Of the "gaussian" kernel; by default the median of the e_i.
    anisotropy : float, default=0.0
        Exponent a in W_ij / (q_i q_j) ** a with q the row sums; 1 takes the density of the
        points out, 0 leaves it in.
    threshold : float, default=1e-4
        Smallest entry kept by the "alpha" kernel, before the matrix is made symmetric.
    metric : str or callable, default="euclidean"
        Any metric of scikit-learn's ``NearestNeighbors``.
    metric_params : dict, default=None
        Parameters of the metric.
    algorithm : {"exact", "approximate"}, default="exact"
        As in :func:`nearest_neighbors`.
    random_state : int, RandomState instance or None, default=None
        Seed of the approximate search.
    n_jobs : int, default=None
        Threads.
    neighbors : tuple of ndarray (distances, indices), default=None
        What :func:`nearest_neighbors` returned for `X`, so that it is not searched again; for
        the "alpha" kernel it should hold more than `n_neighbors` columns (twice will do).

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        Symmetric, non-negative, zero diagonal, sorted indices. It may be disconnected: see
        :func:`join_components`.

    Notes
    -----
    Where the `n_neighbors` nearest neighbours are all duplicates of a point, its e_i is zero: the
    duplicates are its neighbours, with affinity one, and nothing else is. That is the limit of
    points that come together, in whatever unit they are given.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import neighbors_graph
    >>> W = neighbors_graph(np.arange(4.0)[:, None], 1, kernel="binary")
    >>> W.toarray().astype(int)
    array([[0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 1, 0, 1],
           [0, 0, 1, 0]])
    """
    if X is None and neighbors is None:
        raise ValueError("X may be None only when neighbors are given.")
    X = None if X is None else np.asarray(X)
    n = len(neighbors[0] if X is None else X)
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, Integral):
        raise TypeError(f"n_neighbors must be an integer, got {n_neighbors!r}.")
    if n_neighbors < 1 or n < 2:
        raise ValueError(
            f"n_neighbors must be at least 1, and there must be 2 samples; got {n_neighbors} "
            f"neighbours of {n} samples."
        )
    n_neighbors = clipped_neighbors(n_neighbors, n)
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {list(KERNELS)}, got {kernel!r}.")
    if not isinstance(decay, Real) or not decay > 0:
        raise ValueError(f"decay must be a positive number, got {decay!r}.")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be between 0 and 1, got {threshold!r}.")
    if bandwidth is not None and not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth!r}.")
    options = {
        "metric": metric, "metric_params": metric_params, "algorithm": algorithm,
        "random_state": random_state, "n_jobs": n_jobs,
    }  # fmt: skip
    if neighbors is None:
        wanted = min(n - 1, 2 * n_neighbors if kernel == "alpha" else n_neighbors)
        neighbors = nearest_neighbors(X, wanted, **options)
    distances, indices = neighbors
    if distances.shape[1] < n_neighbors:
        raise ValueError(
            f"neighbors has {distances.shape[1]} columns, fewer than n_neighbors={n_neighbors}."
        )
    radius = distances[:, n_neighbors - 1].copy()
    if kernel == "alpha":
        W = _alpha_affinity(X, distances, indices, radius, decay, threshold, options)
    else:
        W = _pair_affinity(
            distances[:, :n_neighbors], indices[:, :n_neighbors], radius, kernel, bandwidth
        )
    return anisotropic_affinity(W, anisotropy)


def _alpha_affinity(X, distances, indices, radius, decay, threshold, options):
    n = len(distances)
    reach = radius * (-np.log(threshold)) ** (1.0 / decay)
    rows = np.arange(n)
    found = []
    while True:
        # Rows whose last neighbour is still within reach need a longer list.
        short = distances[:, -1] <= reach[rows]
        if distances.shape[1] >= n - 1 or X is None:
            short[:] = False
        done = ~short
        inside = distances[done] <= reach[rows[done], None]
        i = np.broadcast_to(rows[done, None], inside.shape)[inside]
        found.append((i, indices[done][inside], distances[done][inside]))
        if not short.any():
            break
        rows = rows[short]
        wanted = min(n - 1, 2 * distances.shape[1])
        if options["metric"] == "precomputed" or wanted == n - 1 or len(rows) > n // 2:
            distances, indices = nearest_neighbors(X, wanted, **options)
            distances, indices = distances[rows], indices[rows]
        else:
            distances, indices = nearest_neighbors(X, wanted + 1, queries=X[rows], **options)
            distances, indices = _without_self(distances, indices, rows)
    i, j, r = (np.concatenate(part) for part in zip(*found))
    K = sp.csr_array((np.exp(-(_ratio(r, radius[i]) ** decay)), (i, j)), shape=(n, n))
    return _tidy(0.5 * (K + K.T))


def _without_self(distances, indices, rows):
    own = indices == rows[:, None]
    own[~own.any(axis=1), -1] = True  # the point hid among its duplicates
    shape = (len(rows), indices.shape[1] - 1)
    return distances[~own].reshape(shape), indices[~own].reshape(shape)


def _pair_affinity(distances, indices, radius, kernel, bandwidth):
    n, k = indices.shape
    i, j, r = np.repeat(np.arange(n), k), indices.ravel(), distances.ravel()
    if kernel == "binary":
        values = np.ones(n * k)
    elif kernel == "gaussian":
        if bandwidth is None:
            positive = radius[radius > 0]
            bandwidth = float(np.median(positive)) if len(positive) else 0.0
        values = np.exp(-0.5 * _ratio(r, bandwidth) ** 2)
    else:
        values = np.exp(-_ratio(r, radius[i]) * _ratio(r, radius[j]))
    K = sp.csr_array((values, (i, j)), shape=(n, n))
    return _tidy(K.maximum(K.T))


def _ratio(r, scale):
    """R / scale; zero over zero is zero, anything else over zero infinite."""
    scale = np.broadcast_to(scale, r.shape)
    beyond = np.where(r > 0, np.inf, 0.0)
    return np.divide(r, scale, out=beyond, where=scale > 0)


def _tidy(W):
    W = sp.csr_array(W)
    W.setdiag(0.0)
    W.eliminate_zeros()
    W.sort_indices()
    return W


def anisotropic_affinity(affinity, anisotropy):
    """Divide the affinity by a power of the densities at both ends of each edge.

    Parameters
    ----------
    affinity : csr_array or ndarray of shape (n_samples, n_samples)
        Symmetric and non-negative.
    anisotropy : float
        Exponent a in W_ij / (q_i q_j) ** a with q the row sums, between 0 and 1.

    Returns
    -------
    affinity : csr_array or ndarray of shape (n_samples, n_samples)
        The normalised affinity; rows that sum to zero stay zero.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import anisotropic_affinity
    >>> anisotropic_affinity(np.array([[0.0, 2.0], [2.0, 0.0]]), 1.0)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    if not 0 <= anisotropy <= 1:
        raise ValueError(f"anisotropy must be between 0 and 1, got {anisotropy!r}.")
    if anisotropy == 0:
        return affinity
    return scale_both_sides(affinity, _power(_row_sums(affinity), -anisotropy))


def _row_sums(W):
    return np.asarray(W.sum(axis=1), dtype=np.float64).ravel()


def _power(values, exponent):
    out = np.zeros_like(values)
    np.power(values, exponent, out=out, where=values > 0)
    return out


def scale_both_sides(W, s):
    """Return diag(s) W diag(s), sparse or dense like `W`, exactly symmetric if `W` is."""
    if sp.issparse(W):
        W = sp.csr_array(W, copy=True)
        W.data = W.data * (np.repeat(s, np.diff(W.indptr)) * s[W.indices])
        return W
    return W * (s[:, None] * s)


def join_components(affinity, X=None, *, metric="euclidean", metric_params=None):
    """Join the connected components of a graph by their shortest bridges.

    Each component but the largest is tied, the smallest first, to the nearest point outside
    it. The weight of a bridge of length r is the median weight of all edges times (s / r) ** 2,
    s the median length of the edges at its two ends, at most the median weight.

    Parameters
    ----------
    affinity : csr_array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    X : ndarray of shape (n_samples, n_features), default=None
        The points, or their distances for ``metric="precomputed"``. Without them nothing says
        which pair is near: the vertices of the largest degree are joined, with the median
        weight.
    metric : str or callable, default="euclidean"
        Metric of the points.
    metric_params : dict, default=None
        Parameters of the metric.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        The connected graph; the input itself when it was connected.
    labels : ndarray of shape (n_samples,)
        Component of each point before.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import join_components, neighbors_graph
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> W, labels = join_components(neighbors_graph(X, 1, kernel="binary"), X)
    >>> labels, W[1, 2].round(4)
    (array([0, 0, 1, 1], dtype=int32), np.float64(0.0123))
    """
    n_components, labels = connected_components(affinity, directed=False)
    if n_components == 1:
        return affinity, labels
    data = affinity.data[affinity.data > 0]
    typical = float(np.median(data)) if data.size else 1.0
    degree = _row_sums(affinity)
    current = labels.copy()
    bridges = []
    sizes = {c: int(s) for c, s in enumerate(np.bincount(labels))}
    while len(sizes) > 1:
        smallest = min(sizes, key=lambda c: (sizes[c], c))
        inside = np.flatnonzero(current == smallest)
        if X is None:
            largest = max(sizes, key=lambda c: (sizes[c], -c))
            outside = np.flatnonzero(current == largest)
            i, j = inside[degree[inside].argmax()], outside[degree[outside].argmax()]
            weight = typical
        else:
            outside = np.flatnonzero(current != smallest)
            i, j, r = _nearest_pair(X, inside, outside, metric, metric_params)
            s = _edge_length(affinity, X, (i, j), metric, metric_params)
            weight = typical * min(1.0, (s / r) ** 2) if r > 0 and s > 0 else typical
        bridges.append((i, j, weight))
        other = current[j]
        current[inside] = other
        sizes[other] += sizes.pop(smallest)
    i, j, w = (np.array(part) for part in zip(*bridges))
    extra = sp.csr_array((w, (i, j)), shape=affinity.shape)
    return _tidy(affinity + extra + extra.T), labels


def _nearest_pair(X, inside, outside, metric, params):
    if metric == "precomputed":
        block = X[np.ix_(inside, outside)]
        a, b = np.unravel_index(block.argmin(), block.shape)
        return inside[a], outside[b], float(block[a, b])
    distances, indices = nearest_neighbors(
        X[outside], 1, queries=X[inside], metric=metric, metric_params=params
    )
    a = int(distances[:, 0].argmin())
    return inside[a], outside[indices[a, 0]], float(distances[a, 0])


def _edge_length(affinity, X, ends, metric, params):
    """Median length of the edges at two vertices; zero when they have none."""
    from sklearn.metrics import pairwise_distances

    lengths = []
    for i in ends:
        j = affinity.indices[affinity.indptr[i] : affinity.indptr[i + 1]]
        if len(j):
            if metric == "precomputed":
                found = X[[i]][:, j]
            else:
                found = pairwise_distances(X[[i]], X[j], metric=metric, **(params or {}))
            lengths.append(found.ravel())
    return float(np.median(np.concatenate(lengths))) if lengths else 0.0
