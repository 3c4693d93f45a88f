"""Embeddings of attributed graphs by bootstrap algebraic multigrid."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklr.manifold._amg._augmented_graph import (
    as_undirected,
    definite_laplacian,
    encode_attributes,
    join_attributes,
)
from sklr.manifold._amg._embeddings import eigen_coordinates, ritz_coordinates, singular_coordinates
from sklr.manifold._amg._hierarchy import FineMatrix, Hierarchy, as_multilevel_solver, bootstrap
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._graph import check_adjacency, graph_as_matrix, index_dtype
from sklr.utils._table_graph import table_graph
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

# Hierarchies where `max_hierarchies` is None. The paper's number where the smooth vectors are the
# result; where they only help an eigen-solver, further ones cost more than they save.
_DEFAULT_HIERARCHIES = {"svd": 40, "ritz": 40, "eigen": 1, "regularized": 1}


class _Hierarchies(Sequence):
    """The hierarchies of a fit as PyAMG's solvers, each made when it is asked for.

    A hierarchy follows from the matrix and its smooth vector, so that nothing of it need be kept
    or pickled.
    """

    def __init__(self, matrix, vectors, n_sweeps, n_hierarchies):
        self._matrix, self._vectors = matrix, vectors
        self._n_sweeps, self._n_hierarchies = n_sweeps, n_hierarchies

    def __len__(self):
        return self._n_hierarchies

    def __getitem__(self, key):
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(f"hierarchy {key} of {len(self)}")
        fine = FineMatrix(self._matrix)
        vector = np.ascontiguousarray(self._vectors[:, key % len(self)])
        return as_multilevel_solver(self._matrix, Hierarchy(fine, vector, self._n_sweeps))


class _BaseBootstrapAMG(BaseEstimator):
    """What the embedding and the clustering share: input, hierarchies, coordinates."""

    _parameter_constraints: dict = {
        "affinity": [StrOptions({"nearest_neighbors", "precomputed"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "attribute_weight": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "attributes_missing": [StrOptions({"error", "own_value"})],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "max_hierarchies": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "n_inner_iter": [Interval(Integral, 1, None, closed="left")],
        "aggregation_sweeps": [Interval(Integral, 1, None, closed="left")],
        "composition": [StrOptions({"multiplicative", "symmetric", "additive"})],
        "embedding": [StrOptions({"regularized", "eigen", "ritz", "svd"})],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "eigen_tol": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def _check_graph(self, X):
        """Return the checked adjacency, symmetric, without a diagonal."""
        X, is_graph = graph_as_matrix(X, precomputed=self.affinity == "precomputed")
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2
        )
        self._made_graph = not is_graph
        if is_graph:
            return as_undirected(check_adjacency(X, name="X", symmetric=True))
        graph, neighbors = table_graph(X, self.n_neighbors)
        if hasattr(self, "predict"):
            self._neighbors = neighbors
        return as_undirected(check_adjacency(0.5 * (graph + graph.T)))

    def _fit_coordinates(self, X, attributes, n_components, rng, n_clusters=None):
        """Return the graph, the codes, and what fit keeps, under the names it keeps it by."""
        adjacency = self._check_graph(X)
        n = adjacency.shape[0]
        if n_clusters is not None and n_clusters > n:
            raise ValueError(f"n_clusters={n_clusters} is above the number of vertices, {n}.")
        codes, categories = encode_attributes(
            attributes, n, missing=self.attributes_missing, max_categories=self.max_categories
        )
        weights = np.asarray(self.attribute_weight, dtype=np.float64)
        wrong_length = weights.ndim > 1 or (weights.ndim == 1 and len(weights) != len(categories))
        if wrong_length or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"attribute_weight must be a positive number, or one for each of the "
                f"{len(categories)} attributes, got {self.attribute_weight!r}."
            )
        n_vertices = n + sum(len(values) for values in categories)
        n_entries = adjacency.nnz + 2 * codes.size + n_vertices  # with the Laplacian's diagonal
        if index_dtype(n_vertices, n_entries) is not np.int32:
            raise ValueError(
                f"The augmented graph has {n_vertices} vertices and {n_entries} entries in its "
                "matrix; multigrid here, as PyAMG's, indexes with int32, up to 2**31 - 1."
            )
        rows, index, n_found, fitted = self._coordinates(
            adjacency, codes, categories, weights, n_components, rng, self.verbose
        )
        if n_found > 1:
            what = "with its attributes " if categories else ""
            remedy = "Attributes that components share would connect them."
            if self._made_graph:
                remedy = "A larger n_neighbors may connect them."
            warn_user(
                f"The graph {what}has {n_found} connected components, which are clusters of their "
                f"own in a spectral sense. {remedy}",
            )
        return adjacency, codes, index, rows, fitted

    def _coordinates(self, adjacency, codes, categories, weights, n_components, rng, verbose=0):
        """Return rows of all vertices, those of values, the number of components, and the rest."""
        n = adjacency.shape[0]
        augmented, index = join_attributes(adjacency, codes, categories, weights)
        matrix, components = definite_laplacian(augmented)
        fine = FineMatrix(matrix)
        found = bootstrap(
            fine,
            max_hierarchies=self._resolved_hierarchies(),
            tol=self.tol,
            n_inner_iter=self.n_inner_iter,
            n_sweeps=self.aggregation_sweeps,
            composition=self.composition,
            rng=rng,
            verbose=verbose,
        )
        n_components = min(n_components or found.vectors.shape[1], augmented.shape[0])
        if self.embedding == "svd":
            coordinates = singular_coordinates(found.vectors, n_components)
        elif self.embedding == "ritz":
            coordinates = ritz_coordinates(augmented, found.vectors, components, n_components)
        else:
            share = self.regularization if self.embedding == "regularized" else 0.0
            mean_degree = augmented.sum() / augmented.shape[0]
            coordinates = eigen_coordinates(
                augmented, fine, found.hierarchies, found.vectors, components, n_components,
                share * mean_degree, self.eigen_tol, rng,
            )  # fmt: skip
        bounds = n + np.cumsum([0, *(len(values) for values in categories)])
        rows = coordinates.rows
        fitted = {
            "embedding_": np.ascontiguousarray(rows[:n]),
            "attribute_embedding_": [
                np.ascontiguousarray(rows[a:b]) for a, b in zip(bounds[:-1], bounds[1:])
            ],
            "smooth_vectors_": found.vectors,
            "convergence_rates_": found.rates,
            "n_hierarchies_": len(found.rates),
            "operator_complexity_": found.operator_complexity,
            "categories_": categories,
            "_matrix": matrix,
            "_n_sweeps": self.aggregation_sweeps,
        }
        if coordinates.singular_values is not None:
            fitted["singular_values_"] = coordinates.singular_values
        if coordinates.eigenvalues is not None:
            fitted["eigenvalues_"] = coordinates.eigenvalues
            fitted["n_eigen_iter_"] = coordinates.n_iter
        return rows, index, int(components.max()) + 1, fitted

    def _resolved_hierarchies(self):
        if self.max_hierarchies is not None:
            return self.max_hierarchies
        return _DEFAULT_HIERARCHIES[self.embedding]

    @property
    def hierarchies_(self):
        """Sequence of PyAMG's MultilevelSolver, one a hierarchy."""
        if not hasattr(self, "_matrix"):
            raise AttributeError(
                f"{type(self).__name__} is not fitted yet: hierarchies_ comes with fit."
            )
        return _Hierarchies(self._matrix, self.smooth_vectors_, self._n_sweeps, self.n_hierarchies_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.affinity == "precomputed"
        return tags


class BootstrapAMGEmbedding(_BaseBootstrapAMG):
    r"""Embed the vertices of a graph, with or without attributes, in linear time.

    Attributes become further vertices of the graph (:func:`sklr.cluster.augment_graph`). An
    algebraic multigrid that adapts itself to the graph's Laplacian finds its smooth vectors, and
    coordinates are made of them: by default the lowest eigenvectors of the regularised normalised
    Laplacian, with the multigrid as preconditioner.

    Parameters
    ----------
    n_components : int, default=None
        Coordinates. None is 8 for the eigenvectors and Ritz vectors, and all singular vectors
        (one more than hierarchies) for "svd".
    affinity : {"nearest_neighbors", "precomputed"}, default="nearest_neighbors"
        Whether X is a table of features, of which a graph of neighbours is made, or the
        adjacency.
    n_neighbors : int, default=10
        Neighbours in the graph made of features.
    attribute_weight : float or array-like of shape (n_attributes,), default=1.0
        Weight of the edges to values of attributes, beside the graph's own weights.
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
        How the cycles of several hierarchies are composed.
    embedding : {"regularized", "eigen", "ritz", "svd"}, default="regularized"
        "svd": left singular vectors of the smooth vectors (the paper). "ritz": Ritz vectors of
        the Laplacian in their span. "eigen": lowest eigenvectors of the normalised Laplacian.
        "regularized": the same with a constant added to every degree.
    regularization : float, default=0.5
        What is added to degrees for "regularized", as a share of the mean degree.
    eigen_tol : float, default=1e-5
        Residual of the eigenvectors.
    random_state : int, RandomState instance or None, default=None
        Seed of the start vectors.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
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
    sklr.cluster.BootstrapAMGClustering : Clusters in these coordinates.
    sklearn.manifold.SpectralEmbedding : Eigenvectors without attributes.

    Notes
    -----
    "eigen" gives the vectors that :class:`sklearn.manifold.SpectralEmbedding` gives on the
    augmented graph, the constant one included.

    References
    ----------
    .. [1] P. D'Ambra, P. S. Vassilevski, L. Cutillo, "Extending bootstrap AMG for clustering of
       attributed graphs", Applied Mathematics and Computation 447, 2023.
       https://arxiv.org/abs/2109.09367

    Examples
    --------
    >>> from sklr.datasets import make_attributed_sbm
    >>> from sklr.manifold import BootstrapAMGEmbedding
    >>> adjacency, attributes, _ = make_attributed_sbm(300, random_state=0)
    >>> emb = BootstrapAMGEmbedding(4, affinity="precomputed", random_state=0)
    >>> emb.fit_transform(adjacency, attributes=attributes).shape
    (300, 4)
    """

    def __init__(
        self,
        n_components=None,
        *,
        affinity="nearest_neighbors",
        n_neighbors=10,
        attribute_weight=1.0,
        attributes_missing="error",
        max_categories=64,
        max_hierarchies=None,
        tol=1e-6,
        n_inner_iter=15,
        aggregation_sweeps=2,
        composition="multiplicative",
        embedding="regularized",
        regularization=0.5,
        eigen_tol=1e-5,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.affinity = affinity
        self.n_neighbors = n_neighbors
        self.attribute_weight = attribute_weight
        self.attributes_missing = attributes_missing
        self.max_categories = max_categories
        self.max_hierarchies = max_hierarchies
        self.tol = tol
        self.n_inner_iter = n_inner_iter
        self.aggregation_sweeps = aggregation_sweeps
        self.composition = composition
        self.embedding = embedding
        self.regularization = regularization
        self.eigen_tol = eigen_tol
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, attributes=None):
        """Embed the vertices.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or a graph
            Features, or with ``affinity="precomputed"`` the symmetric adjacency of shape
            (n_samples, n_samples), or a graph of networkx or igraph.
        y : None
            Ignored.
        attributes : array-like of shape (n_samples, n_attributes), default=None
            Categories of each vertex: integers, strings, or a data frame.

        Returns
        -------
        self : BootstrapAMGEmbedding
            The fitted estimator.
        """
        wanted = self.n_components
        if wanted is None and self.embedding != "svd":
            wanted = 8
        rng = check_random_state(self.random_state)
        *_, fitted = self._fit_coordinates(X, attributes, wanted, rng)
        vars(self).update(fitted)
        return self

    def fit_transform(self, X, y=None, *, attributes=None):
        """Embed the vertices and return their coordinates.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or a graph
            As for `fit`.
        y : None
            Ignored.
        attributes : array-like of shape (n_samples, n_attributes), default=None
            As for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_samples, n_components)
            The coordinates.
        """
        return self.fit(X, attributes=attributes).embedding_
