"""Clusters of the vertices of an attributed graph, by bootstrap algebraic multigrid."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.cluster._block_kmeans import BlockData, block_kmeans, contiguous
from sklr.cluster._held_out import choose_number, choose_start, most_clusters
from sklr.cluster._node_terms import Categories, feature_term, smoothed_coordinates
from sklr.cluster._refine import block_density, edge_likelihood, refine_labels, trusted
from sklr.manifold._amg._augmented_graph import codes_of_new
from sklr.manifold._bootstrap_amg import _BaseBootstrapAMG
from sklr.metrics._modularity import modularity_of_codes
from sklr.utils._base import fit_context
from sklr.utils._graph import check_adjacency
from sklr.utils._validation import check_array, validate_data

# Restarts of K-means, and coordinates, for what is chosen on the way.
_QUICK_INIT = 3

# What "auto" stands for: the paper's choices with its embedding, what measured best with others.
_PAPER = {"attribute_scale": 1.0, "init": "random", "n_init": 100, "max_iter": 10,
          "selection": "modularity", "refine": False}  # fmt: skip
_OURS = {"attribute_scale": 0.0, "init": "k-means++", "n_init": 10, "max_iter": 50,
         "selection": "inertia", "refine": False}  # fmt: skip
_AUTO = {"svd": _PAPER, "ritz": _OURS, "eigen": _OURS, "regularized": _OURS | {"refine": True}}


def _n_rows(X):
    return X.shape[0] if hasattr(X, "shape") else 10**6


class BootstrapAMGClustering(ClusterMixin, _BaseBootstrapAMG):
    r"""Cluster the vertices of a graph that carry categorical attributes, in linear time.

    Every value of every attribute becomes a vertex of a larger graph, joined to the vertices that
    have it. An algebraic multigrid that adapts itself to that graph's Laplacian finds smooth
    vectors, the vertices get coordinates from them, and K-means groups these. By default the
    coordinates are regularised spectral ones, preconditioned by the multigrid, and the clusters
    are refined by the likelihood of edges and attributes; ``embedding="svd"`` is the paper's
    method [1]_.

    Parameters
    ----------
    n_clusters : int or "auto", default=8
        Clusters wanted. "auto" takes a number up to 48: of a graph that for which the likelihood
        of the edges less the price of labels and parameters is largest; of a table that of the
        largest mean silhouette (of 2000 samples at most), 2 or more, which suits compact clusters.
    affinity : {"nearest_neighbors", "precomputed"}, default="nearest_neighbors"
        Whether X is a table of features, of which a graph of neighbours is made, or the
        adjacency.
    n_neighbors : int, default=10
        Neighbours in the graph made of features.
    attribute_weight : float or array-like of shape (n_attributes,), default=1.0
        Weight of the edges to values of attributes, beside the graph's own weights. Small
        weights do not lead to clusters by structure alone: for these give no attributes.
    attribute_scale : float or "auto", default="auto"
        Scale of the attributes' coordinates beside the vertex's own in K-means. 0 leaves them
        out. "auto" is 1 for "svd" (the paper's distance) and 0 otherwise.
    attributes_missing : {"error", "own_value"}, default="error"
        Whether missing attributes are refused, or are one more value.
    max_categories : int or None, default=64
        A column of floats with more values is warned about.
    max_hierarchies : int, default=None
        Hierarchies at most. None is 40 for "svd" and "ritz" (the paper's), 1 for "eigen" and
        "regularized", where they precondition.
    tol : float, default=1e-6
        Convergence rate at which no further hierarchy is built.
    n_inner_iter : int, default=15
        Cycles from each random start.
    aggregation_sweeps : int, default=2
        Pairwise matchings a level.
    composition : {"multiplicative", "symmetric", "additive"}, default="multiplicative"
        How the cycles of several hierarchies are composed: one after the other, the same and
        back, or their mean.
    embedding : {"regularized", "eigen", "ritz", "svd"}, default="regularized"
        "regularized": lowest eigenvectors of the normalised Laplacian of the augmented graph
        with a constant added to every degree. "eigen": without the constant, what
        :class:`sklearn.cluster.SpectralClustering` uses. "ritz": Ritz vectors of the Laplacian
        in the span of the smooth vectors. "svd": all left singular vectors of the smooth
        vectors.
    n_components : int, default=None
        Coordinates. None is `n_clusters`, and all for "svd".
    regularization : float, default=0.5
        What is added to degrees for "regularized", as a share of the mean degree.
    eigen_tol : float, default=1e-5
        Residual of the eigenvectors.
    init : {"auto", "random", "k-means++"}, default="auto"
        First centres of K-means. "random" draws vertices with replacement. "auto" is "random"
        for "svd" and "k-means++" otherwise.
    n_init : int or "auto", default="auto"
        Restarts of K-means; "auto" is 100 for "svd" and 10 otherwise.
    max_iter : int or "auto", default="auto"
        Iterations of a restart; "auto" is 10 for "svd" and 50 otherwise.
    selection : {"auto", "modularity", "inertia"}, default="auto"
        By what the best restart is chosen: largest modularity in the original graph, or smallest
        inertia. "auto" is "modularity" for "svd" and "inertia" otherwise.
    refine : bool or "auto", default="auto"
        Whether labels are refined by a few mean-field steps of a degree-corrected block model
        in which each cluster has its own distribution of every attribute. "auto" does so for
        "regularized" only.
    random_state : int, RandomState instance or None, default=None
        Seed of start vectors and of K-means.
    n_jobs : int, default=None
        Threads over the restarts of K-means. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each vertex.
    n_clusters_ : int
        Number of clusters.
    attribute_strengths_ : ndarray of shape (n_attributes,)
        What the log likelihood of each attribute was multiplied by in the refinement, learnt from
        the edges; 0 for attributes that tell nothing of the clusters.
    feature_strength_ : float
        The same of the features. Only with `features`.
    modularity_ : float
        Modularity of the labels in the original graph.
    inertia_ : float
        Sum of squared distances to the centres, of the chosen restart before refinement.
    n_iter_ : int
        Iterations of K-means in that restart.
    embedding_ : ndarray of shape (n_samples, n_components)
        Coordinates of the vertices.
    attribute_embedding_ : list of ndarray of shape (n_values, n_components)
        Coordinates of each attribute's values.
    smooth_vectors_ : ndarray of shape (n_samples + n_values, n_hierarchies_ + 1)
        The constant vector and what each composite cycle left behind.
    singular_values_ : ndarray of shape (n_components,)
        Only with ``embedding="svd"``.
    eigenvalues_ : ndarray of shape (n_components,)
        Eigenvalues or Ritz values, ascending; not with "svd".
    n_eigen_iter_ : int
        Iterations of the eigen-solver, not with "svd"; 0 where a dense solver or none ran.
    convergence_rates_ : ndarray of shape (n_hierarchies_,)
        By what the last composite cycle shrank the energy norm, for each hierarchy added.
    n_hierarchies_ : int
        Number of hierarchies built.
    operator_complexity_ : float
        Entries stored on all levels by those of the finest, mean over hierarchies.
    hierarchies_ : sequence of pyamg.multilevel.MultilevelSolver
        The hierarchies, made when asked for; ``hierarchies_[k].aspreconditioner()``.
    categories_ : list of ndarray
        Values of each attribute.
    n_features_in_ : int
        Number of features, or of vertices with ``affinity="precomputed"``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with data frames.

    See Also
    --------
    sklearn.cluster.SpectralClustering : The peer: give it the graph of :func:`augment_graph`.
    sklr.manifold.BootstrapAMGEmbedding : The coordinates alone.
    sklr.metrics.modularity_score : Judges a partition by structure.

    Notes
    -----
    The paper's coordinates are less accurate than spectral clustering of the augmented graph
    wherever both were measured here; the default is therefore a spectral method. The user guide
    has the figures, and says when to use which.

    `attributes` are metadata: in a pipeline or search call
    ``set_fit_request(attributes=True)`` after ``sklearn.set_config(enable_metadata_routing=True)``.
    Cross-validation over vertices cuts edges and so changes the graph.

    References
    ----------
    .. [1] P. D'Ambra, P. S. Vassilevski, L. Cutillo, "Extending bootstrap AMG for clustering of
       attributed graphs", Applied Mathematics and Computation 447, 2023.
       https://arxiv.org/abs/2109.09367
    .. [2] A. A. Amini, A. Chen, P. J. Bickel, E. Levina, "Pseudo-likelihood methods for community
       detection in large sparse networks", Annals of Statistics 41(4), 2013.
       https://doi.org/10.1214/13-AOS1138
    .. [3] A. V. Knyazev, "Toward the optimal preconditioned eigensolver: locally optimal block
       preconditioned conjugate gradient method", SIAM J. Sci. Comput. 23(2), 2001.
       https://doi.org/10.1137/S1064827500366124

    Examples
    --------
    >>> from sklearn.metrics import normalized_mutual_info_score
    >>> from sklr.cluster import BootstrapAMGClustering
    >>> from sklr.datasets import make_attributed_sbm
    >>> adjacency, attributes, truth = make_attributed_sbm(300, mixing=0.3, random_state=0)
    >>> model = BootstrapAMGClustering(5, affinity="precomputed", random_state=0)
    >>> labels = model.fit_predict(adjacency, attributes=attributes)
    >>> bool(normalized_mutual_info_score(truth, labels) > 0.8)
    True
    """

    _parameter_constraints: dict = {
        **_BaseBootstrapAMG._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "attribute_scale": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "init": [StrOptions({"auto", "random", "k-means++"})],
        "n_init": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "selection": [StrOptions({"auto", "modularity", "inertia"})],
        "refine": ["boolean", StrOptions({"auto"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_clusters=8,
        *,
        affinity="nearest_neighbors",
        n_neighbors=10,
        attribute_weight=1.0,
        attribute_scale="auto",
        attributes_missing="error",
        max_categories=64,
        max_hierarchies=None,
        tol=1e-6,
        n_inner_iter=15,
        aggregation_sweeps=2,
        composition="multiplicative",
        embedding="regularized",
        n_components=None,
        regularization=0.5,
        eigen_tol=1e-5,
        init="auto",
        n_init="auto",
        max_iter="auto",
        selection="auto",
        refine="auto",
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_clusters = n_clusters
        self.affinity = affinity
        self.n_neighbors = n_neighbors
        self.attribute_weight = attribute_weight
        self.attribute_scale = attribute_scale
        self.attributes_missing = attributes_missing
        self.max_categories = max_categories
        self.max_hierarchies = max_hierarchies
        self.tol = tol
        self.n_inner_iter = n_inner_iter
        self.aggregation_sweeps = aggregation_sweeps
        self.composition = composition
        self.embedding = embedding
        self.n_components = n_components
        self.regularization = regularization
        self.eigen_tol = eigen_tol
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.selection = selection
        self.refine = refine
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, attributes=None, features=None):
        """Cluster the vertices.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or a graph
            Features, or with ``affinity="precomputed"`` the symmetric adjacency of shape
            (n_samples, n_samples), or a graph of networkx or igraph.
        y : None
            Ignored.
        attributes : array-like of shape (n_samples, n_attributes), default=None
            Categories of each vertex: integers, strings, or a data frame. None clusters by
            structure alone.
        features : array-like or sparse matrix of shape (n_samples, n_columns), default=None
            Numbers that describe each vertex: words (sparse, not negative), or a dense table.

        Returns
        -------
        self : BootstrapAMGClustering
            The fitted estimator.
        """
        rng = check_random_state(self.random_state)
        auto = isinstance(self.n_clusters, str)
        n_components = self.n_components
        if n_components is None and self.embedding != "svd":
            n_components = most_clusters(_n_rows(X)) if auto else self.n_clusters
        adjacency, codes, index, rows, fitted = self._fit_coordinates(
            X, attributes, n_components, rng, n_clusters=None if auto else self.n_clusters
        )
        n = adjacency.shape[0]
        n_values = [len(values) for values in fitted["categories_"]]
        terms = [Categories(column, size) for column, size in zip(codes.T, n_values)]
        features = self._check_features(features, n)
        if features is not None:
            terms.append(feature_term(features))
        k = self.n_clusters
        if auto:
            k = choose_number(
                adjacency, rows[:n], terms, lambda part, k: self._kmeans(part, k, rng),
                points=self._neighbors._fit_X if self._made_graph else None,
            )  # fmt: skip
            if self.n_components is None:
                rows = rows[:, : max(k, 1)]
                fitted["embedding_"] = fitted["embedding_"][:, : max(k, 1)]
                parts = fitted["attribute_embedding_"]
                fitted["attribute_embedding_"] = [part[:, : max(k, 1)] for part in parts]
        scale = self._resolved("attribute_scale")
        used = index - n if scale > 0 else np.empty((n, 0), dtype=np.int64)
        data = BlockData(
            fitted["embedding_"],
            used,
            scale * rows[n:] if scale > 0 else rows[:0],
            np.repeat(np.arange(len(n_values)), n_values) if scale > 0 else np.empty(0),
        )
        labels, inertia, n_iter = block_kmeans(
            data,
            k,
            init=self._resolved("init"),
            n_init=self._resolved("n_init"),
            max_iter=self._resolved("max_iter"),
            selection=self._resolved("selection"),
            adjacency=adjacency,
            rng=rng,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        labels = contiguous(labels, k)
        strengths = np.ones(len(terms))
        if self._resolved("refine") and k > 1:
            if terms:
                labels, strengths = self._learnt_start(
                    adjacency, codes, fitted["categories_"], features, terms, labels, k, rng
                )
            labels = refine_labels(
                adjacency, terms, labels, int(labels.max()) + 1, strengths=strengths
            )
        vars(self).update(fitted)
        self.labels_ = labels
        self.n_clusters_ = int(labels.max()) + 1
        self.inertia_ = inertia
        self.n_iter_ = n_iter
        self.modularity_ = modularity_of_codes(adjacency, labels)
        self.attribute_strengths_ = strengths[: len(n_values)]
        if features is not None:
            self.feature_strength_ = float(strengths[-1])
        self._keep_model(adjacency, terms, strengths)
        return self

    def _kmeans(self, rows, n_clusters, rng):
        """Return labels of K-means on coordinates, for what is chosen on the way."""
        data = BlockData(rows, np.empty((len(rows), 0)), rows[:0], np.empty(0))
        labels, *_ = block_kmeans(
            data, n_clusters, init="k-means++", n_init=_QUICK_INIT, max_iter=50,
            selection="inertia", adjacency=None, rng=rng, n_jobs=self.n_jobs, verbose=0,
        )  # fmt: skip
        return contiguous(labels, n_clusters)

    def _learnt_start(self, adjacency, codes, categories, features, terms, labels, n_clusters, rng):
        """Return labels to refine from and the strength of each term, learnt from the edges.

        An attribute tells something if the clusters of structure alone have distributions of its
        values that are likelier than a common one. Those that do not are left out. How much the
        others count is what foretells edges best that were left out.
        """
        one = np.ones(())

        def spectral(graph, columns):
            kept = [categories[j] for j in columns]
            rows, *_ = self._coordinates(graph, codes[:, columns], kept, one, n_clusters, rng)
            return self._kmeans(rows[: graph.shape[0]], n_clusters, rng)

        alone = spectral(adjacency, [])
        alone = refine_labels(adjacency, [], alone, n_clusters)
        p = codes.shape[1]
        soft = trusted(alone, n_clusters)
        tells = [j for j in range(p) if terms[j].tells(soft) > 0]
        kept = tells or list(range(p))
        starts = {"structure": lambda graph: spectral(graph, [])}
        if kept:
            starts["attributes"] = lambda graph: spectral(graph, kept)
        if features is not None:
            starts["features"] = lambda graph: self._kmeans(
                smoothed_coordinates(graph, features, rng), n_clusters, rng
            )
        used = [terms[j] for j in kept] + terms[p:]
        name, strength = choose_start(adjacency, starts, used, n_clusters, rng)
        strengths = np.zeros(len(terms))
        strengths[[*kept, *range(p, len(terms))]] = strength
        if name == "structure":
            return alone, strengths
        if not (name == "attributes" and len(kept) == p and np.all(self.attribute_weight == one)):
            labels = starts[name](adjacency)
        if strength == 0:
            # Edges alone are fitted, from two starts: what fits them better stays.
            other = refine_labels(adjacency, [], labels, n_clusters)
            labels = max(alone, other, key=lambda found: edge_likelihood(adjacency, found))
        return labels, strengths

    def _check_features(self, features, n):
        """Return a table of numbers with a row a vertex, dense or CSR."""
        if features is None:
            return None
        features = check_array(features, accept_sparse="csr", dtype=np.float64)
        if features.shape[0] != n:
            raise ValueError(
                f"features have {features.shape[0]} rows, the graph has {n} vertices: one row for "
                "each vertex is wanted, in the same order."
            )
        if sparse.issparse(features):
            features = sparse.csr_array(features)
            if features.nnz and features.data.min() < 0:
                raise ValueError(
                    f"Sparse features are counts or weights of words and must not be negative, "
                    f"the smallest is {features.data.min():g}. Pass other numbers as a dense array."
                )
        return features

    def _keep_model(self, adjacency, terms, strengths):
        """Keep what `predict` needs of the block model of the labels."""
        n, k = len(self.labels_), self.n_clusters_
        soft = np.eye(k)[self.labels_]
        mean = adjacency.data.mean() if adjacency.nnz else 1.0
        log_prior = np.log((soft.sum(axis=0) + 1.0) / (n + k))
        logs, expected = np.zeros((k, k)), np.zeros(k)
        if adjacency.nnz:
            _, density, volume = block_density(adjacency / mean, soft)
            logs, expected = np.log(density), density @ volume
        self._model = (mean, log_prior, logs, expected)
        self._terms = [(type(term), term.fitted(soft)) for term in terms]
        self._strengths = strengths

    def predict(self, X, *, attributes=None, features=None):
        """Return the likeliest cluster of new vertices.

        By the block model of the fitted labels: edges to fitted vertices, and attributes and
        features with the strengths that were learnt. A vertex of which nothing is known goes to
        the largest cluster.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_new, n_samples) or (n_new, n_features)
            Weights of the edges from new vertices to the fitted ones, with
            ``affinity="precomputed"`` or where a graph object was fitted; otherwise a table of new
            samples.
        attributes : array-like of shape (n_new, n_attributes), default=None
            Categories of the new vertices; None, and values that were not seen in `fit`, say
            nothing.
        features : array-like or sparse matrix of shape (n_new, n_columns), default=None
            Features of the new vertices.

        Returns
        -------
        labels : ndarray of shape (n_new,)
            Cluster of each vertex.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        if hasattr(self, "_neighbors"):
            edges = self._neighbors.kneighbors_graph(X, mode="connectivity")
        else:
            edges = check_adjacency(X, name="X", square=False)
        edges = sparse.csr_array(edges)
        mean, log_prior, logs, expected = self._model
        soft = np.eye(self.n_clusters_)[self.labels_]
        edges = edges / mean
        odds = log_prior + (edges @ soft) @ logs.T - np.outer(edges.sum(axis=1), expected)
        p = len(self.categories_)
        if attributes is not None:
            codes = codes_of_new(attributes, self.categories_, edges.shape[0])
            for j in range(p):
                kind, fitted = self._terms[j]
                odds += self._strengths[j] * kind.of_new(fitted, codes[:, j])
        if features is not None:
            if len(self._terms) == p:
                raise ValueError("features are given, but the clusters were fitted without any.")
            kind, fitted = self._terms[-1]
            features = self._check_features(features, edges.shape[0])
            odds += self._strengths[-1] * kind.of_new(fitted, features)
        return odds.argmax(axis=1)

    def fit_predict(self, X, y=None, *, attributes=None, features=None):
        """Cluster the vertices and return their labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or a graph
            As for `fit`.
        y : None
            Ignored.
        attributes : array-like of shape (n_samples, n_attributes), default=None
            As for `fit`.
        features : array-like or sparse matrix of shape (n_samples, n_columns), default=None
            As for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Cluster of each vertex.
        """
        return self.fit(X, attributes=attributes, features=features).labels_

    def _resolved(self, name):
        value = getattr(self, name)
        return _AUTO[self.embedding][name] if isinstance(value, str) and value == "auto" else value
