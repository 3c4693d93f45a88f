"""Heat-geodesic dissimilarities: from a graph and a diffusion time to distances."""

from numbers import Real

import numpy as np
import scipy.sparse as sp

from sklr.geometry import graph_laplacian, heat_kernel, join_components, neighbors_graph
from sklr.geometry._diffusion import check_affinity, hop_diameter
from sklr.utils._rounding import rounding_of
from sklr.utils._warnings import warn_user

#: Affinities of the estimator -> kernels of neighbors_graph.
AFFINITIES = {"adaptive": "adaptive", "alpha": "alpha", "gaussian": "gaussian", "knn": "binary"}

_TINY = np.finfo(float).tiny
# A heat kernel whose entries differ by less than this share gets a warning.
_EVEN = 1e-7
# Columns from which the entropy is estimated when there are many.
_ENTROPY_COLUMNS = 32


def build_graph(
    X, *, n_neighbors=10, affinity="alpha", decay=40.0, anisotropy=0.0, metric="euclidean",
    metric_params=None, algorithm="exact", random_state=None, n_jobs=None, what="graph",
):  # fmt: skip
    """Build the connected affinity graph of points, distances or an affinity.

    Returns
    -------
    W : csr_array of shape (n_samples, n_samples)
        Connected: components are joined, with a warning.
    labels : ndarray of shape (n_samples,)
        Connected component of each point before that.
    """
    points, point_metric = X, metric
    if affinity == "precomputed":
        W = check_affinity(X, "X")
        points = None
    else:
        if affinity == "precomputed_distance":
            if sp.issparse(X):
                return _joined(_graph_of_lists(X, n_neighbors, decay, anisotropy), None, what)
            X = check_distances(X)
            points, point_metric, metric_params, affinity = X, "precomputed", None, "alpha"
        kernel = AFFINITIES["knn" if affinity == "alpha" and decay is None else affinity]
        W = neighbors_graph(
            X, n_neighbors, kernel=kernel, decay=40.0 if decay is None else decay,
            anisotropy=anisotropy,
            metric=point_metric, metric_params=metric_params, algorithm=algorithm,
            random_state=random_state, n_jobs=n_jobs,
        )  # fmt: skip
    return _joined(W, points, what, metric=point_metric, metric_params=metric_params)


def _joined(W, points, what, **metric):
    """Join the components of a graph, with a warning where there are several."""
    joined, labels = join_components(W, points, **metric)
    n_components = int(labels.max()) + 1 if len(labels) else 0
    if n_components > 1:
        sizes = np.sort(np.bincount(labels))[::-1]
        how = (
            "joined by their shortest bridges, longer ones weaker"
            if points is not None
            else "joined at their vertices of largest degree, since an affinity says nothing of "
            "where they lie"
        )
        warn_user(
            f"The {what} has {n_components} connected components, of {_some(sizes)} points; they "
            f"were {how}. Distances between components say little. A larger n_neighbors may "
            "connect them."
        )
    return joined, labels


def _some(sizes):
    shown = ", ".join(str(size) for size in sizes[:5])
    return shown if len(sizes) <= 5 else f"{shown}, ..."


def _graph_of_lists(D, n_neighbors, decay, anisotropy):
    """Affinity of a sparse matrix whose rows hold distances to the nearest neighbours."""
    D = sp.csr_array(D, dtype=np.float64, copy=True)
    D.sum_duplicates()
    if D.nnz and not np.isfinite(D.data).all():
        raise ValueError("X contains NaN or infinity.")
    if D.nnz and D.data.min() < 0:
        raise ValueError(f"Distances must be non-negative, the smallest is {D.data.min():.3g}.")
    n = D.shape[0]
    i, j = np.repeat(np.arange(n), np.diff(D.indptr)), D.indices
    off = i != j
    i, j, r = i[off], j[off], D.data[off]
    counts = np.bincount(i, minlength=n)
    if counts.min() < n_neighbors:
        raise ValueError(
            f"X holds {counts.min()} distances in row {counts.argmin()}, fewer than "
            f"n_neighbors={n_neighbors}. A sparse matrix of distances, such as that of "
            "KNeighborsTransformer, needs n_neighbors in each row."
        )
    order = np.lexsort((j, r, i))
    first = np.cumsum(counts) - counts
    rank = np.arange(len(i)) - np.repeat(first, counts)
    kept = rank < counts.min()
    i, j, r = i[order], j[order], r[order]
    shape = (n, int(counts.min()))
    lists = r[kept].reshape(shape), j[kept].reshape(shape)
    kernel = "binary" if decay is None else "alpha"
    return neighbors_graph(
        None, n_neighbors, kernel=kernel, decay=40.0 if decay is None else decay,
        anisotropy=anisotropy, neighbors=lists,
    )  # fmt: skip


def check_distances(D):
    """Return a symmetric matrix of distances as an array, or complain."""
    D = np.asarray(D)
    if D.ndim != 2 or D.shape[0] != D.shape[1]:
        raise ValueError(f"X must be a square matrix of distances, got shape {D.shape}.")
    if not np.isfinite(D).all():
        raise ValueError("X contains NaN or infinity.")
    rounding = rounding_of(D)
    D = np.array(D, dtype=np.float64)
    if D.min(initial=0.0) < -rounding:
        raise ValueError(f"Distances must be non-negative, the smallest is {D.min():.3g}.")
    gap = np.abs(D - D.T).max(initial=0.0)
    if gap > rounding:
        raise ValueError(f"Distances must be symmetric, X differs from X.T by up to {gap:.3g}.")
    D = np.maximum(0.5 * (D + D.T), 0.0)
    np.fill_diagonal(D, 0.0)
    return D


def time_grid(laplacian, n_times=24):
    """Return a geometric grid of times: 0.5 to 200 steps of a typical vertex, more if it is long.

    Far distances come out too short as long as heat has had no time to get there: the grid
    reaches six times the number of edges between the farthest vertices.
    """
    rate = float(laplacian.diagonal().mean())
    last = max(200.0, 6.0 * hop_diameter(laplacian))
    return np.geomspace(0.5, last, n_times) / (rate if rate > 0 else 1.0)


def heat_entropy(heat, laplacian, times, columns):
    """Von Neumann entropy of heat kernels, in nats, from some of their columns.

    It is the entropy of exp(-t lambda) / Z, with lambda the eigenvalues of the Laplacian and Z
    the sum that makes it one: log Z + t tr(L H) / Z. It falls from log(n) to 0 and counts the
    directions that heat still tells apart.

    Parameters
    ----------
    heat : ndarray of shape (n_times, n, n_columns)
        Columns of the heat kernels.
    laplacian : csr_array of shape (n, n)
        The Laplacian.
    times : ndarray of shape (n_times,)
        Diffusion times.
    columns : ndarray of shape (n_columns,)
        Which columns they are; both traces are taken as n times the mean over them.

    Returns
    -------
    entropy : ndarray of shape (n_times,)
        The entropies.
    """
    n, own = laplacian.shape[0], np.arange(len(columns))
    Z = n * heat[:, columns, own].mean(axis=1)
    rows = laplacian[columns]
    energy = n * np.array([(rows @ each)[own, own].mean() for each in heat])
    return np.log(np.maximum(Z, _TINY)) + times * energy / np.maximum(Z, _TINY)


def choose_time(laplacian, *, method="auto", order=None, columns=None, rng=None, n_jobs=None):
    """Choose the diffusion time at the knee of the von Neumann entropy of the heat kernel.

    Both axes are scaled to [0, 1]; the knee is where the curve is farthest below the diagonal.
    The entropy of the kernel's columns has its knee at the same times on clean data, but is
    soon even where noise makes the graph mix at once, long before heat has left the noise.

    Returns
    -------
    t : float
        The time.
    grid : ndarray of shape (n_times,)
        Times that were tried.
    entropy : ndarray of shape (n_times,)
        The entropy at each.
    """
    n = laplacian.shape[0]
    grid = time_grid(laplacian)
    if columns is None:
        columns = np.arange(n)
    if len(columns) > _ENTROPY_COLUMNS:
        columns = np.sort(rng.choice(columns, _ENTROPY_COLUMNS, replace=False))
    method = "uniformization" if method == "squaring" else method
    B = indicator_columns(n, columns)
    heat = heat_kernel(laplacian, grid, B, method=method, order=order, n_jobs=n_jobs)
    entropy = heat_entropy(heat, laplacian, grid, columns)
    fall = entropy[0] - entropy[-1]
    if not fall > 1e-6 * max(1.0, abs(entropy[0])):
        return _middle(grid, "does not fall"), grid, entropy
    below = (entropy[0] - entropy) / fall - (grid - grid[0]) / (grid[-1] - grid[0])
    knee = int(below.argmax())
    if knee in (0, len(grid) - 1):
        return _middle(grid, "has its knee at an end of the grid"), grid, entropy
    return float(grid[knee]), grid, entropy


def _middle(grid, why):
    t = float(grid[len(grid) // 2])
    warn_user(
        f"t='auto': the entropy of the heat kernel {why}; t={t:.4g}, the middle of the grid from "
        f"{grid[0]:.4g} to {grid[-1]:.4g}, was taken. Give t to choose it yourself.",
    )
    return t


def indicator_columns(n, columns):
    """Return the columns of the identity with the given numbers."""
    B = np.zeros((n, len(columns)))
    B[columns, np.arange(len(columns))] = 1.0
    return B


def heat_dissimilarity(heat, t, columns, *, harnack=1.0, power=1.0, denoise=0.0):
    """Turn columns of the heat kernel into dissimilarities.

    Parameters
    ----------
    heat : ndarray of shape (n_points, n_columns)
        Columns of the heat kernel.
    t : float
        The diffusion time.
    columns : ndarray of shape (n_columns,)
        Which points the columns belong to.
    harnack : float, default=1.0
        Strength of the volume correction.
    power : float, default=1.0
        Exponent of the dissimilarities.
    denoise : float, default=0.0
        Share of the triplet distance.

    Returns
    -------
    D : ndarray of shape (n_points, n_columns)
        Non-negative; rows `columns` are symmetric with zero diagonal.
    """
    floor = np.maximum(heat, _TINY)
    S = np.log(floor)
    own = np.zeros(len(columns))
    own[:] = heat[columns, np.arange(len(columns))]
    if harnack:
        # The diagonal of points that are no column: what heat carries there from the columns.
        share = floor / floor.sum(axis=1, keepdims=True)
        diagonal = np.exp(share @ np.log(np.maximum(own, _TINY)))
        diagonal[columns] = own
        S -= harnack * np.log(0.5 * (diagonal[:, None] + own))
    spread = float(S.max() - S.min())
    if spread < _EVEN:
        warn_user(
            f"At t={t:.4g} heat is even to {spread:.1g} of itself: what is left of the distances "
            "is rounding. Take a shorter t.",
        )
    S *= -4.0 * t
    D = np.sqrt(np.maximum(S, 0.0))
    if power != 1.0:
        D **= power
    D[columns] = _symmetric(D[columns])
    if denoise:
        T = _triplet(D, columns)
        off = D.sum()
        scale = off / T.sum() if T.sum() > 0 else 1.0
        D = (1.0 - denoise) * D + denoise * scale * T
        D[columns] = _symmetric(D[columns])
    return D


def _symmetric(D):
    D = 0.5 * (D + D.T)
    np.fill_diagonal(D, 0.0)
    return D


def _triplet(D, columns):
    """Distances between the rows of dissimilarities: of each point to each column's point."""
    from scipy.spatial.distance import cdist

    return cdist(D, D[columns])


def check_time(t):
    """Return whether `t` is to be chosen, after complaining about any other text or number."""
    if isinstance(t, str):
        if t != "auto":
            raise ValueError(f"t must be a positive number or 'auto', got {t!r}.")
        return True
    if isinstance(t, bool) or not isinstance(t, Real) or not np.isfinite(t) or t <= 0:
        raise ValueError(f"t must be a positive number or 'auto', got {t!r}.")
    return False


def _check_landmarks(landmarks, n):
    """Row numbers as an array, or a complaint."""
    rows = np.asarray(landmarks)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not len(rows):
        raise ValueError(
            f"landmarks must be a list of row numbers, got {landmarks!r} (of a mask take "
            "np.flatnonzero)."
        )
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(
            f"landmarks must be row numbers from 0 to {n - 1}, got from {rows.min()} to "
            f"{rows.max()}."
        )
    if len(np.unique(rows)) < len(rows):
        raise ValueError("landmarks holds a row number twice.")
    return rows


def heat_geodesic_distances(
    X, t="auto", *, n_neighbors=10, affinity="alpha", decay=40.0, anisotropy=0.0,
    laplacian="combinatorial", method="auto", order=None, harnack=1.0, denoise=0.0,
    scale_factor=1.0, landmarks=None, metric="euclidean", metric_params=None, random_state=None,
    n_jobs=None,
):  # fmt: skip
    """Compute heat-geodesic dissimilarities between points.

    d(x, y)^2 = -4 t log H_t(x, y), with the heat kernel H_t of a neighbour graph, corrected by
    ``harnack`` times 4 t log((H_t(x, x) + H_t(y, y)) / 2). Up to a common factor it comes near
    the geodesic distance.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, n_samples)
        Points, or what `affinity` says.
    t : float or "auto", default="auto"
        Diffusion time, in units of one over the weights; "auto" takes the knee of the entropy.
    n_neighbors : int, default=10
        Neighbours of each point in the graph.
    affinity : str, default="alpha"
        "alpha", "knn", "gaussian", "adaptive", "precomputed" or "precomputed_distance".
    decay : float or None, default=40.0
        Exponent of the "alpha" kernel; None makes weights of one.
    anisotropy : float, default=0.0
        How much of the density is taken out of the affinity, from 0 to 1.
    laplacian : {"combinatorial", "normalized"}, default="combinatorial"
        Kind of Laplacian.
    method : str, default="auto"
        How the heat kernel is computed, see :func:`sklr.geometry.heat_kernel`.
    order : int, default=None
        Its number of terms.
    harnack : float, default=1.0
        Strength of the volume correction; 0 is plain Varadhan.
    denoise : float, default=0.0
        Share of the triplet distance, from 0 to 1.
    scale_factor : float, default=1.0
        Exponent of the dissimilarities.
    landmarks : array-like of shape (n_landmarks,), default=None
        Row numbers of the points to which distances are wanted; all by default, which takes
        n_samples ** 2 numbers.
    metric : str or callable, default="euclidean"
        Metric of the points.
    metric_params : dict, default=None
        Parameters of the metric.
    random_state : int, RandomState instance or None, default=None
        Which columns the entropy is estimated from.
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    distances : ndarray of shape (n_samples, n_samples) or (n_samples, n_landmarks)
        Symmetric with zero diagonal, in the rows of the landmarks.

    See Also
    --------
    HeatGeodesicEmbedding : A layout of these distances.
    sklearn.manifold.Isomap : Shortest paths instead of heat.

    References
    ----------
    .. [1] G. Huguet et al., "A Heat Diffusion Perspective on Geodesic Preserving
       Dimensionality Reduction", NeurIPS 2023. https://arxiv.org/abs/2305.19043

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.manifold import heat_geodesic_distances
    >>> angle = np.linspace(0, np.pi, 60)
    >>> half_circle = np.c_[np.cos(angle), np.sin(angle)]
    >>> d = heat_geodesic_distances(half_circle, t=100.0, n_neighbors=2)
    >>> bool(abs(d[0, 40] / d[0, 20] - 2) < 0.1)
    True
    """
    from sklearn.utils import check_random_state

    automatic = check_time(t)
    if affinity not in {*AFFINITIES, "precomputed", "precomputed_distance"}:
        raise ValueError(
            f"affinity must be one of {[*AFFINITIES, 'precomputed', 'precomputed_distance']}, "
            f"got {affinity!r}."
        )
    if laplacian not in ("combinatorial", "normalized"):
        raise ValueError(f"laplacian must be 'combinatorial' or 'normalized', got {laplacian!r}.")
    for name, value, low, high in (
        ("harnack", harnack, 0.0, np.inf),
        ("denoise", denoise, 0.0, 1.0),
        ("scale_factor", scale_factor, _TINY, np.inf),
    ):
        if not isinstance(value, Real) or not low <= value <= high or not np.isfinite(value):
            allowed = {"harnack": "0 or above", "denoise": "between 0 and 1"}.get(name, "above 0")
            raise ValueError(f"{name} must be a number {allowed}, got {value!r}.")
    if not sp.issparse(X):
        X = np.asarray(X)
    if landmarks is not None:
        landmarks = _check_landmarks(landmarks, X.shape[0])
    rng = check_random_state(random_state)
    W, _ = build_graph(
        X, n_neighbors=n_neighbors, affinity=affinity, decay=decay, anisotropy=anisotropy,
        metric=metric, metric_params=metric_params, n_jobs=n_jobs,
    )  # fmt: skip
    L = graph_laplacian(W, laplacian)
    n = L.shape[0]
    columns = np.arange(n) if landmarks is None else landmarks
    if automatic:
        t, _, _ = choose_time(
            L, method=method, order=order, columns=columns, rng=rng, n_jobs=n_jobs
        )  # fmt: skip
    B = None if landmarks is None else indicator_columns(n, columns)
    if B is not None and method == "squaring":
        method = "uniformization"
    heat = heat_kernel(L, t, B, method=method, order=order, n_jobs=n_jobs)
    return heat_dissimilarity(
        heat, t, columns, harnack=harnack, power=scale_factor, denoise=denoise
    )
