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

from sklr.geometry._neighbors_graph import check_extent
from sklr.manifold._heat_distances import AFFINITIES, check_distances, check_time
from sklr.manifold._heat_geodesic_graph import PAIRWISE, GraphOfPoints
from sklr.manifold._heat_geodesic_layout import HeatLayout
from sklr.manifold._mds import SOLVERS
from sklr.manifold._vertices import distinct_rows, usable_neighbors
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._graph import refuse_annotated
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user


def _has_points(estimator):
    if estimator.affinity in PAIRWISE:
        raise AttributeError(
            f"transform needs points; with affinity={estimator.affinity!r} there are none. Use "
            "fit_transform."
        )
    return True


class HeatGeodesicEmbedding(
    GraphOfPoints, HeatLayout, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
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
        "affinity": [StrOptions({*AFFINITIES, *PAIRWISE})],
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
        near = self._near(X)
        far = np.flatnonzero(self._far_from_vertices(X, near))
        if len(far):
            warn_user(
                f"{len(far)} of {len(X)} points (row {far[0]} is the first) are far from all that "
                "was fitted; they are placed among the nearest of it, however far they are."
            )
        return self._place(X, near).astype(dtype, copy=False)

    def _validate(self, X, *, reset):
        pairwise = self.affinity in PAIRWISE
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
        dtype = X.dtype if X.dtype == np.float32 and self.affinity not in PAIRWISE else np.float64
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
                near = self._near(points)
                embedding = self._place(points, near)
                self.outliers_ = self._far_from_vertices(points, near)
            else:
                embedding = self.graph_embedding_[vertex]
                self.outliers_ = vertex < 0
                if self.outliers_.any():
                    far = points[self.outliers_]
                    embedding[self.outliers_] = self._place(far, self._near(far))
        self.affinity_matrix_ = W
        centre = embedding.mean(axis=0)
        self.graph_embedding_ = self.graph_embedding_ - centre
        self.embedding_ = (embedding - centre).astype(dtype, copy=False)
        self._n_features_out = self.n_components

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.affinity in PAIRWISE
        tags.input_tags.positive_only = self.affinity in PAIRWISE
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
