"""Embedding whose distances approximate geodesics, by the heat kernel of a neighbour graph."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklr.geometry import (
    graph_laplacian,
    heat_kernel,
    join_components,
    nearest_neighbors,
)
from sklr.geometry._neighbors_graph import check_extent
from sklr.manifold._heat_distances import (
    AFFINITIES,
    build_graph,
    check_distances,
    check_time,
    choose_time,
    heat_dissimilarity,
    indicator_columns,
)
from sklr.manifold._mds import (
    SOLVERS,
    classic_mds,
    fix_signs,
    normalised_stress,
    place_points,
    stress_mds,
    triangulate,
)
from sklr.manifold._prototypes import (
    N_INTERPOLATION,
    interpolate_positions,
    kmeans_prototypes,
)
from sklr.manifold._short_cuts import drop_short_cuts
from sklr.manifold._smoothing import prune_short_cuts, smooth_points
from sklr.manifold._vertices import (
    FEW_STEPS,
    are_few,
    distinct_rows,
    far_from_all,
    few_points_affinity,
    usable_neighbors,
    warn_of_far,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._graph import refuse_annotated
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

# Up to here every pair is used; above, distances to landmarks.
_ALL_PAIRS = 1000
_LANDMARKS = 300
# Entries up to which sparse points are made dense.
_DENSE = 50_000_000
_PAIRWISE = ("precomputed", "precomputed_distance")


def _has_points(estimator):
    if estimator.affinity in _PAIRWISE:
        raise AttributeError(
            f"transform needs points; with affinity={estimator.affinity!r} there are none. Use "
            "fit_transform."
        )
    return True


class HeatGeodesicEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Heat-geodesic embedding: distances in the picture approximate distances along the manifold.

    Heat flows for a time `t` on a neighbour graph; by Varadhan's formula
    d(x, y)^2 = -4 t log H_t(x, y) approximates the squared geodesic distance, up to a common
    factor. Heat goes all ways at once, so a single wrong edge weighs less than in a shortest
    path. The layout keeps these distances in the sense of stress, in any dimension.

    Parameters
    ----------
    n_components : int, default=2
        Dimension of the embedding.
    n_neighbors : int, default=10
        Neighbours of each point in the graph; at most a third of the distinct points are taken,
        with a warning, since a graph that joins everything has no distances. Where that is
        fewer than `n_neighbors` and there are at most 100 points, the "alpha" kernel is replaced
        by a Gaussian affinity of all pairs, and ``t="auto"`` is a short time.
    t : float or "auto", default="auto"
        Diffusion time, in units of one over the weights of the graph. "auto" takes the knee of
        the von Neumann entropy of the heat kernel. Short-cut edges ask for longer times.
    decay : float or None, default=40.0
        Exponent of the "alpha" kernel; 40 is nearly a ball with a hard rim. None makes weights
        of one, as ``affinity="knn"`` does.
    anisotropy : float, default=0.0
        How much of the density is taken out of the affinity, from 0 to 1.
    affinity : {"alpha", "knn", "gaussian", "adaptive", "precomputed", "precomputed_distance"}, \
            default="alpha"
        Kernel of the graph, see :func:`sklr.geometry.neighbors_graph`. With "precomputed" `X`
        is a symmetric non-negative affinity (dense or sparse), with "precomputed_distance" a
        dense matrix of distances, or a sparse one whose rows hold those to the nearest
        neighbours, as scikit-learn's ``KNeighborsTransformer`` makes it.
    laplacian : {"combinatorial", "normalized"}, default="combinatorial"
        Kind of Laplacian.
    method : {"auto", "chebyshev", "uniformization", "squaring", "euler", "exact"}, default="auto"
        How the heat kernel is computed, see :func:`sklr.geometry.heat_kernel`.
    order : int, default=None
        Its number of terms; chosen by default.
    harnack : float, default=1.0
        Strength of the volume correction 4 t log((H_ii + H_jj) / 2); 0 is plain Varadhan.
    denoise : float, default=0.0
        Share of the triplet distance, the distance between two points' rows of
        dissimilarities, from 0 to 1.
    mds : {"sgd", "classic", "smacof", "nonmetric"}, default="sgd"
        Layout: stress by stochastic descent and some steps of majorisation, classic scaling,
        majorisation alone, or majorisation of the best increasing function.
    mds_weights : {"heat", "inverse", "gaussian"} or None, default=None
        Weights of the stress: the heat kernel, 1 / d^2, or exp(-(d / max d)^2).
    scale_factor : float, default=1.0
        Exponent of the dissimilarities; 2 for layouts like PHATE's and SNE's.
    n_landmarks : int, None or "auto", default="auto"
        Points to which dissimilarities are computed. None takes all; "auto" takes all up to
        1000 points and 300 above.
    n_prototypes : int or None, default=4000
        Above so many points the graph is built on so many k-means centres, and the points are
        placed among them as `transform` does. None never does that.
    n_pca : int, default=None
        Principal components (of sparse `X` the singular vectors) that stand for the features.
    smoothing : int, default=0
        Steps by which points are moved towards the local plane of their neighbours before the
        graph is built: against noise across the manifold.
    pruning : float or "auto", default="auto"
        Against short-cuts between parts of the data that noise brings near one another. "auto"
        drops edges that by all signs are short-cuts (walks from their ends part, the way round
        is long, they go across the cloud of points, and dropping them changes distances much),
        and none where there are no such edges. A number drops all edges whose ends share less
        than this part of their neighbours; 0 drops none. With ``affinity="precomputed"`` "auto"
        drops none.
    metric : str or callable, default="euclidean"
        Metric of the points, as in scikit-learn's ``NearestNeighbors``.
    metric_params : dict, default=None
        Parameters of the metric, such as ``{"VI": inverse}`` for "mahalanobis".
    neighbors_algorithm : {"exact", "approximate"}, default="exact"
        Search of the graph's neighbours; "approximate" is PyNNDescent (extra ``neighbors``).
    random_state : int, RandomState instance or None, default=None
        Chooses landmarks, prototypes, the order of the descent.
    n_jobs : int, default=None
        Threads; results do not depend on it.
    verbose : int, default=0
        Whether progress is shown.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_components)
        Positions of the training points, centred.
    t_ : float
        Diffusion time that was used.
    t_grid_ : ndarray of shape (n_times,)
        Times that were tried; only with ``t="auto"``.
    entropy_ : ndarray of shape (n_times,)
        Von Neumann entropy of the heat kernel at each, in nats; only with ``t="auto"``.
    affinity_matrix_ : csr_array of shape (n_graph, n_graph)
        The graph; its vertices are the distinct training points but for far outliers, or the
        prototypes.
    n_neighbors_ : int
        Neighbours that were used; 0 with ``affinity="precomputed"``.
    outliers_ : ndarray of shape (n_samples,)
        Whether a training point is far from all others, but for a few beside it: ten times as far
        from its neighbours as the size of these ones' own neighbourhoods. Points are then placed
        by their nearest vertices, and a warning is given.
    component_labels_ : ndarray of shape (n_graph,)
        Connected component of each vertex before components were joined.
    dissimilarity_ : ndarray of shape (n_graph, n_landmarks)
        Heat-geodesic dissimilarities to the landmarks; to all vertices without landmarks.
    graph_embedding_ : ndarray of shape (n_graph, n_components)
        Positions of the graph's vertices.
    landmark_indices_ : ndarray of shape (n_landmarks,)
        Vertices of the graph that are landmarks.
    prototypes_ : ndarray of shape (n_graph, n_features)
        Points at the vertices of the graph, after the reduction by `n_pca`; not there for
        precomputed affinities, so only with points.
    pca_ : estimator
        The fitted reduction; only with `n_pca`.
    stress_ : float
        ``sqrt(sum w (d - |y - y'|)^2 / sum w d^2)`` over vertices and landmarks.
    n_iter_ : int
        Passes over the pairs in the layout.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when `X` has names that are all strings.

    See Also
    --------
    heat_geodesic_distances : The dissimilarities alone.
    sklearn.manifold.Isomap : Shortest paths; as good or better without noise.
    sklearn.manifold.TSNE : Neighbourhoods instead of distances.

    Notes
    -----
    The graph takes a neighbour search; the heat kernel sqrt(t * degree) products of the sparse
    graph with n_landmarks columns; the layout O(n_graph * n_landmarks) per step. Beyond
    `n_prototypes` points only the search of the nearest prototypes grows with the data.
    `transform` of a training point gives its position in `embedding_` as long as the metric is
    Euclidean. Equal points are one vertex of the graph, and have one position.

    References
    ----------
    .. [1] G. Huguet, A. Tong, E. De Brouwer, Y. Zhang, G. Wolf, I. Adelstein, S. Krishnaswamy,
       "A Heat Diffusion Perspective on Geodesic Preserving Dimensionality Reduction",
       NeurIPS 2023. https://arxiv.org/abs/2305.19043

    Examples
    --------
    >>> from sklearn.datasets import make_swiss_roll
    >>> from sklr.manifold import HeatGeodesicEmbedding
    >>> X, position = make_swiss_roll(400, random_state=0)
    >>> embedding = HeatGeodesicEmbedding(random_state=0).fit_transform(X)
    >>> embedding.shape
    (400, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "t": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "decay": [Interval(Real, 0, None, closed="neither"), None],
        "anisotropy": [Interval(Real, 0, 1, closed="both")],
        "affinity": [StrOptions({*AFFINITIES, *_PAIRWISE})],
        "laplacian": [StrOptions({"combinatorial", "normalized"})],
        "method": [
            StrOptions({"auto", "chebyshev", "euler", "exact", "squaring", "uniformization"})
        ],
        "order": [Interval(Integral, 1, None, closed="left"), None],
        "harnack": [Interval(Real, 0, None, closed="left")],
        "denoise": [Interval(Real, 0, 1, closed="both")],
        "mds": [StrOptions(set(SOLVERS))],
        "mds_weights": [StrOptions({"heat", "inverse", "gaussian"}), None],
        "scale_factor": [Interval(Real, 0, None, closed="neither")],
        "n_landmarks": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left"), None],
        "n_prototypes": [Interval(Integral, 2, None, closed="left"), None],
        "n_pca": [Interval(Integral, 1, None, closed="left"), None],
        "smoothing": [Interval(Integral, 0, None, closed="left")],
        "pruning": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "metric": [str, Callable],
        "metric_params": [dict, None],
        "neighbors_algorithm": [StrOptions({"exact", "approximate"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=2,
        *,
        n_neighbors=10,
        t="auto",
        decay=40.0,
        anisotropy=0.0,
        affinity="alpha",
        laplacian="combinatorial",
        method="auto",
        order=None,
        harnack=1.0,
        denoise=0.0,
        mds="sgd",
        mds_weights=None,
        scale_factor=1.0,
        n_landmarks="auto",
        n_prototypes=4000,
        n_pca=None,
        smoothing=0,
        pruning="auto",
        metric="euclidean",
        metric_params=None,
        neighbors_algorithm="exact",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.t = t
        self.decay = decay
        self.anisotropy = anisotropy
        self.affinity = affinity
        self.laplacian = laplacian
        self.method = method
        self.order = order
        self.harnack = harnack
        self.denoise = denoise
        self.mds = mds
        self.mds_weights = mds_weights
        self.scale_factor = scale_factor
        self.n_landmarks = n_landmarks
        self.n_prototypes = n_prototypes
        self.n_pca = n_pca
        self.smoothing = smoothing
        self.pruning = pruning
        self.metric = metric
        self.metric_params = metric_params
        self.neighbors_algorithm = neighbors_algorithm
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Embed the points.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
                (n_samples, n_samples)
            Points (many sparse ones with `n_pca` only), or what `affinity` says.
        y : None
            Ignored.

        Returns
        -------
        self : HeatGeodesicEmbedding
            The fitted estimator.
        """
        self._fit(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Embed the points and return their positions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or \
                (n_samples, n_samples)
            Points (many sparse ones with `n_pca` only), or what `affinity` says.
        y : None
            Ignored.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_components)
            Positions.
        """
        self._fit(X)
        return self.embedding_

    @available_if(_has_points)
    def transform(self, X):
        """Place points among those of the graph, which stay where they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Points, training points or new ones.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_components)
            Barycentric combinations of the positions of the nearest vertices of the graph.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        dtype = X.dtype
        X = self._reduce(X, fit=False)
        far = np.flatnonzero(self._far_from_vertices(X))
        if len(far):
            warn_user(
                f"{len(far)} of {len(X)} points (row {far[0]} is the first) are far from all that "
                "was fitted; they are placed among the nearest of it, however far they are."
            )
        return self._place(X).astype(dtype, copy=False)

    def _validate(self, X, *, reset):
        pairwise = self.affinity in _PAIRWISE
        refuse_annotated(X, "X")
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_min_samples=2 if reset else 1,
        )
        if pairwise and X.shape[0] != X.shape[1]:
            raise ValueError(
                f"X must be a square matrix for affinity={self.affinity!r}, got shape {X.shape}."
            )
        if not pairwise and self.metric == "euclidean":
            check_extent(X)
        return X

    def _fit(self, X):
        check_time(self.t)
        X = self._validate(X, reset=True)
        self._check_sizes(*X.shape)
        dtype = X.dtype if X.dtype == np.float32 and self.affinity not in _PAIRWISE else np.float64
        rng = check_random_state(self.random_state)
        self.outliers_ = np.zeros(X.shape[0], dtype=bool)
        if self.affinity == "precomputed":
            self.n_neighbors_ = 0
            W = self._graph(X, rng)
            self._embed_graph(W, rng)
            embedding = self.graph_embedding_
        elif self.affinity == "precomputed_distance" and sp.issparse(X):
            self.n_neighbors_ = self.n_neighbors
            W = self._graph(X, rng)
            self._embed_graph(W, rng)
            embedding = self.graph_embedding_
        elif self.affinity == "precomputed_distance":
            D = check_distances(X)
            first, vertex = distinct_rows(D)
            if len(first) == 1:  # one point many times: nothing to tell apart
                first = vertex = np.arange(len(D))
            D = D[np.ix_(first, first)]
            self.n_neighbors_ = usable_neighbors(self.n_neighbors, len(D))
            self._mark_far_distances(D, vertex)
            W = self._graph(D, rng)
            self._embed_graph(W, rng)
            embedding = self.graph_embedding_[vertex]
        else:
            points = self._reduce(X, fit=True)
            vertices, vertex = self._choose_vertices(points, rng)
            self.n_neighbors_ = usable_neighbors(self.n_neighbors, len(vertices))
            vertices, vertex = self._leave_out_far(vertices, vertex)
            self.prototypes_ = vertices
            W = self._graph(self._smooth(vertices), rng)
            self._embed_graph(W, rng)
            if vertex is None:
                embedding = self._place(points)
                self.outliers_ = self._far_from_vertices(points)
            else:
                embedding = self.graph_embedding_[vertex]
                self.outliers_ = vertex < 0
                if self.outliers_.any():
                    embedding[self.outliers_] = self._place(points[self.outliers_])
        self.affinity_matrix_ = W
        centre = embedding.mean(axis=0)
        self.graph_embedding_ = self.graph_embedding_ - centre
        self.embedding_ = (embedding - centre).astype(dtype, copy=False)
        self._n_features_out = self.n_components

    def _graph(self, vertices, rng):
        """Connected graph of points, distances or an affinity, without short-cuts."""
        self._few = self.affinity in ("alpha", "precomputed_distance") and (
            not sp.issparse(vertices) and are_few(self.n_neighbors_, vertices)
        )
        if self._few:
            everything = np.arange(len(vertices))
            points, metric = vertices, self.metric
            if self.affinity == "precomputed_distance":
                metric = "precomputed"
            W = few_points_affinity(self._distances_of(points)(everything, everything))
            W, self.component_labels_ = join_components(
                W, points, metric=metric, metric_params=self.metric_params
            )
            return W
        what = "graph"
        if self.n_prototypes == vertices.shape[0] and self.affinity not in _PAIRWISE:
            what = "graph of the prototypes"
        W, self.component_labels_ = build_graph(
            vertices,
            n_neighbors=self.n_neighbors_,
            affinity=self.affinity,
            decay=self.decay,
            anisotropy=self.anisotropy,
            metric=self.metric,
            metric_params=self.metric_params,
            algorithm=self.neighbors_algorithm,
            random_state=rng,
            n_jobs=self.n_jobs,
            what=what,
        )
        if self.pruning == "auto":
            if self.affinity == "precomputed" or sp.issparse(vertices):
                return W
            return drop_short_cuts(W, self._distances_of(vertices), rng)
        return prune_short_cuts(W, self.pruning) if self.pruning else W

    def _distances_of(self, vertices):
        if self.affinity == "precomputed_distance":
            return lambda rows, columns: vertices[np.ix_(rows, columns)]
        from sklearn.metrics import pairwise_distances

        params = self.metric_params or {}
        return lambda rows, columns: pairwise_distances(
            vertices[rows], vertices[columns], metric=self.metric, **params
        )

    def _search(self, X, k, queries=None):
        return nearest_neighbors(
            X, k, queries=queries, metric=self.metric, metric_params=self.metric_params,
            n_jobs=self.n_jobs,
        )  # fmt: skip

    def _leave_out_far(self, vertices, vertex):
        """Take far outliers out of the vertices, and keep the size of each neighbourhood."""
        k = self.n_neighbors_
        distances, indices = self._search(vertices, k)
        far, ratio = far_from_all(distances, indices, k)
        self._size = distances[:, k - 1]
        n_far = np.count_nonzero(far)
        if not 0 < n_far <= max(1, len(vertices) // 20) or len(vertices) - n_far <= k:
            return vertices, vertex
        kept = np.flatnonzero(~far)
        self._size = self._size[kept]
        if vertex is None:
            rows = np.flatnonzero(far)
        else:
            rows = np.flatnonzero(far[vertex])
            place = np.full(len(vertices), -1)
            place[kept] = np.arange(len(kept))
            vertex = place[vertex]
        what = "They stand" if len(rows) > 1 else "It stands"
        warn_of_far(
            rows, ratio, f"{what} among the nearest points of the picture, which does not show "
            "how far; see outliers_."
        )  # fmt: skip
        return vertices[kept], vertex

    def _mark_far_distances(self, D, vertex):
        k = self.n_neighbors_
        distances, indices = nearest_neighbors(D, k, metric="precomputed")
        far, ratio = far_from_all(distances, indices, k)
        self.outliers_ = far[vertex]
        if far.any():
            warn_of_far(
                np.flatnonzero(self.outliers_), ratio, "An edge of the graph does not say how "
                "long it is, so that the picture does not show how far; see outliers_."
            )  # fmt: skip

    def _far_from_vertices(self, X):
        distances, indices = self._search(self.prototypes_, 1, queries=X)
        size = self._size[indices[:, 0]]
        return (distances[:, 0] > 10.0 * size) & (size > 0)

    def _check_sizes(self, n, p):
        if self.n_components > n - 1:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_samples - 1, with "
                f"n_samples={n}."
            )
        if isinstance(self.n_landmarks, Integral) and self.n_landmarks > n:
            raise ValueError(
                f"n_landmarks={self.n_landmarks} must be at most the number of points, "
                f"n_samples={n}."
            )
        if self.n_pca is not None and self.affinity not in _PAIRWISE and self.n_pca > min(n, p):
            raise ValueError(
                f"n_pca={self.n_pca} must be at most min(n_samples, n_features)={min(n, p)}."
            )

    def _reduce(self, X, *, fit):
        """Replace features by principal components, where that is asked for."""
        if self.n_pca is None:
            if not sp.issparse(X):
                return X
            if X.shape[0] * X.shape[1] > _DENSE:
                raise ValueError(
                    f"Sparse X of shape {X.shape} is too large to be made dense; give n_pca, 50 "
                    "for instance, for that many singular vectors in the place of the features."
                )
            return X.toarray()
        if fit:
            from sklearn.decomposition import PCA, TruncatedSVD

            seed = check_random_state(self.random_state).randint(2**31 - 1)
            if sp.issparse(X):
                if self.n_pca >= X.shape[1]:
                    raise ValueError(
                        f"n_pca={self.n_pca} must be less than n_features={X.shape[1]} for "
                        "sparse X."
                    )
                self.pca_ = TruncatedSVD(self.n_pca, random_state=seed)
            else:
                self.pca_ = PCA(self.n_pca, random_state=seed)
            return self.pca_.fit_transform(X)
        return self.pca_.transform(X)

    def _choose_vertices(self, X, rng):
        """Return the vertices of the graph, and which one each point is, if it is one."""
        if self.n_prototypes is None or len(X) <= self.n_prototypes:
            first, vertex = distinct_rows(X)
            if len(first) == 1:  # one point many times: nothing to tell apart
                first = vertex = np.arange(len(X))
            return X[first], vertex
        if self.n_neighbors >= self.n_prototypes:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} must be less than "
                f"n_prototypes={self.n_prototypes}."
            )
        if self.n_components >= self.n_prototypes:
            raise ValueError(
                f"n_components={self.n_components} must be less than "
                f"n_prototypes={self.n_prototypes}."
            )
        if self.metric != "euclidean":
            rows = np.sort(rng.choice(len(X), self.n_prototypes, replace=False))
            return X[rows], None
        return kmeans_prototypes(X, self.n_prototypes, rng, n_jobs=self.n_jobs), None

    def _smooth(self, X):
        if not self.smoothing or self.affinity in _PAIRWISE:
            return X
        return smooth_points(
            X, 2 * self.n_neighbors_, self.n_components, self.smoothing, n_jobs=self.n_jobs
        )

    def _place(self, X):
        indices = None
        if self.metric != "euclidean":
            k = min(N_INTERPOLATION, len(self.prototypes_))
            indices = self._search(self.prototypes_, k, queries=X)[1]
        return interpolate_positions(
            X, self.prototypes_, self.graph_embedding_, indices=indices, n_jobs=self.n_jobs
        )

    def _choose_landmarks(self, n, rng):
        wanted = self.n_landmarks
        if wanted == "auto":
            wanted = None if n <= _ALL_PAIRS else _LANDMARKS
        if wanted is None or wanted >= n:
            return np.arange(n)
        # With fewer landmarks than dimensions there is nothing to triangulate from.
        wanted = max(wanted, min(n, self.n_components + 2))
        return np.sort(rng.choice(n, wanted, replace=False))

    def _embed_graph(self, W, rng):
        n = W.shape[0]
        L = graph_laplacian(W, self.laplacian)
        columns = self.landmark_indices_ = self._choose_landmarks(n, rng)
        method, order = self.method, self.order
        all_pairs = len(columns) == n
        if self.t == "auto":
            self.t_, self.t_grid_, self.entropy_ = choose_time(
                L, method=method, order=order, columns=columns, rng=rng, n_jobs=self.n_jobs
            )
            if self._few:
                self.t_ = FEW_STEPS / float(L.diagonal().mean())
        else:
            self.t_ = float(self.t)
        if method == "squaring" and not all_pairs:
            method = "uniformization"
        B = None if all_pairs else indicator_columns(n, columns)
        heat = heat_kernel(L, self.t_, B, method=method, order=order, n_jobs=self.n_jobs)
        D = heat_dissimilarity(
            heat,
            self.t_,
            columns,
            harnack=self.harnack,
            power=self.scale_factor,
            denoise=self.denoise,
        )
        self.dissimilarity_ = D
        weights = self._weights(heat, D, columns)
        self.graph_embedding_ = self._lay_out(D, weights, columns, rng)
        self.stress_ = normalised_stress(
            D, self.graph_embedding_, self.graph_embedding_[columns], weights
        )

    def _weights(self, heat, D, columns):
        if self.mds_weights is None:
            return None
        if self.mds_weights == "heat":
            w = np.maximum(heat, 0.0) + 1e-5
        elif self.mds_weights == "inverse":
            # Heat clips some short dissimilarities to zero: their weight has to end somewhere.
            floor = 0.1 * float(D.mean()) or 1.0
            w = np.maximum(D, floor) ** -2.0
        else:
            w = np.exp(-((D / max(D.max(), np.finfo(float).tiny)) ** 2))
        w[columns] = 0.5 * (w[columns] + w[columns].T)
        return w

    def _lay_out(self, D, weights, columns, rng):
        between = D[columns]
        n_dims = min(self.n_components, len(between))
        start = np.zeros((len(between), self.n_components))
        start[:, :n_dims] = classic_mds(between, n_dims)
        all_pairs = len(columns) == len(D)
        self.n_iter_ = 1
        wanted, anchors = between, start
        if self.mds != "classic":
            anchors, wanted, self.n_iter_ = stress_mds(
                between,
                start,
                weights=None if weights is None else weights[columns],
                solver=self.mds,
                rng=rng,
                verbose=self.verbose,
            )
        if all_pairs:
            Y = anchors
        else:
            Y = triangulate(D, between, start)
            if self.mds != "classic":
                if self.mds == "nonmetric":
                    D = _increasing_map(between, wanted, D)
                Y = self._follow(D, Y, start, anchors, weights)
            Y[columns] = anchors
        return fix_signs(Y - Y.mean(axis=0))

    def _follow(self, D, Y, start, anchors, weights):
        """Take the points along from the landmarks' classic layout to their final one."""
        from sklearn.neighbors import NearestNeighbors

        k = min(5, len(start))
        _, near = NearestNeighbors(n_neighbors=k).fit(start).kneighbors(Y)
        Y = Y + (anchors - start)[near].mean(axis=1)
        return place_points(D, anchors, Y, weights=weights, n_jobs=self.n_jobs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.affinity in _PAIRWISE
        tags.input_tags.positive_only = self.affinity in _PAIRWISE
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _increasing_map(known, wanted, D):
    """Carry the increasing function that a non-metric layout found over to further distances."""
    from sklearn.isotonic import IsotonicRegression

    upper = np.triu_indices(len(known), 1)
    curve = IsotonicRegression(out_of_bounds="clip").fit(known[upper], wanted[upper])
    return curve.predict(D.ravel()).reshape(D.shape)
