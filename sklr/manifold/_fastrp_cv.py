"""FastRP whose weights are chosen from the data."""

import itertools
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sklr.manifold import _fastrp_core as core
from sklr.manifold import _fastrp_search as search
from sklr.manifold._fastrp import FastRP
from sklr.manifold._fastrp_checks import EMBEDDING_CONSTRAINTS, check_projection
from sklr.manifold._fastrp_graph import GraphInput
from sklr.manifold._fastrp_subspace import leading_subspace
from sklr.utils._base import fit_context
from sklr.utils._graph import graph_as_matrix
from sklr.utils._progress import progress
from sklr.utils._threads import ChunkThreads
from sklr.utils._validation import validate_data

# Sums over neighbours grow with each power: further ones leave single precision on graphs with
# hubs, and averages do better there.
_MOST_SUMS = 8
_CHOSEN = (
    "weights", "degree_exponent", "input_matrix", "center_powers", "n_subspace_iter", "self_weight",
)  # fmt: skip


def _numbers(name, values, kind, low):
    """Return the values of one axis of the grid, checked."""
    values = np.atleast_1d(values).tolist()
    if not values or not all(
        isinstance(v, kind) and not isinstance(v, bool) and np.isfinite(v) and v >= low
        for v in values
    ):
        what = "whole numbers" if kind is Integral else "numbers"
        bound = f" of at least {low}" if np.isfinite(low) else ""
        raise ValueError(f"{name} must be {what}{bound}, one or several, got {values!r}.")
    return sorted(set(values))


class FastRPCV(ClassNamePrefixFeaturesOutMixin, GraphInput):
    """Embed the nodes of a graph by FastRP with weights chosen from the data.

    Powers of the graph are computed once for each pair of matrix and exponent; for the candidates
    they are only summed, at the few nodes that judge. Where labels of some nodes are given these
    are judged by: the leave-one-out error of a ridge regression, which costs no refits. Without
    labels, edges are left out before the powers are computed, and the embedding has to tell them
    from pairs that are none. :class:`FastRP` with the chosen parameters is then fitted on the
    whole graph.

    Parameters
    ----------
    n_components : int, default=128
        Dimension of the embedding.
    n_powers : int or array-like of int, default=(4, 8, 16, 32)
        Numbers of powers tried.
    growths : float or array-like of float, default=(1.0, 1.5, 2.0)
        What each weight is of the one before; below 1 near nodes count more, above 1 far ones.
    degree_exponents : float or array-like of float, default=(-0.6, 0.0)
        Values of `degree_exponent` tried.
    self_weights : float or array-like of float, default=(0.0,)
        Weights of a node's own random row, relative to the sum of the others.
    try_adjacency : bool, default=True
        Try sums over neighbours too (``input_matrix="adjacency"``), up to 8 powers.
    try_centered : bool, default=True
        Try powers without their mean too (``center_powers=True``).
    n_subspace_iter : int, default=24
        Try also a random matrix that so many steps of subspace iteration bring near the graph's
        leading eigenvectors (with up to the least of `n_powers`); 0 does not.
    affinity : {"nearest_neighbors", "precomputed"}, default="nearest_neighbors"
        "precomputed": `X` is the adjacency of a graph. "nearest_neighbors": `X` is a table, and
        the graph is that of its nearest neighbours. Graphs of networkx and igraph are taken with
        both.
    n_neighbors : int, default=10
        Number of neighbours of each sample with ``affinity="nearest_neighbors"``.
    symmetrize : bool, default=False
        Use the edges of a directed graph both ways (A + A.T).
    projection : {"sparse", "gaussian"} or array-like of shape (n_nodes, n_components), \
default="sparse"
        The random matrix.
    density : float or "auto", default="auto"
        Share of non-zero entries with ``projection="sparse"``.
    standardize : bool, default=True
        Give the columns of the result mean 0 and variance 1.
    isolated : {"keep", "zero"}, default="keep"
        What nodes without edges get.
    store_powers : bool, default=True
        Keep the powers of the chosen parameters, which `transform` needs.
    validation_fraction : float, default=0.1
        Share of edges left out when no labels are given.
    max_validation : int, default=2000
        Most labelled nodes, or edges, that judge; drawn at random where there are more.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Precision of the powers and the embedding.
    random_state : int, RandomState instance or None, default=None
        Seed of the random matrix, and of what is left out.
    n_jobs : int, default=None
        Number of threads. It does not change the result.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_nodes, n_components)
        The embedding.
    best_estimator_ : FastRP
        Fitted on the whole graph with the chosen parameters; `remerge` is its method.
    best_params_ : dict
        `weights`, `degree_exponent`, `input_matrix`, `center_powers`, `n_subspace_iter` and
        `self_weight`.
    best_score_ : float
        Mean score of the chosen candidate.
    best_index_ : int
        Its place in `cv_results_`.
    cv_results_ : dict of lists and arrays
        "params", "mean_test_score" and "std_error_to_best", the standard error of the paired
        difference to the best mean. The first candidate is FastRP's default.
    scoring_ : {"labels", "edges"}
        What was judged by: minus the leave-one-out squared error summed over labels, or the area
        under the ROC curve of edges left out.
    n_validation_ : int
        Number of nodes, or edges, that judged.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of `X`, when it has names that are strings.

    See Also
    --------
    FastRP : The embedding with given weights, at a fraction of the time.
    sklearn.model_selection.GridSearchCV : Any search, with a fit for every candidate and fold.

    Notes
    -----
    **Leakage.** Give labels of training nodes only, -1 for all others: labels of test nodes are
    then not seen, and scores of a classifier on these are honest. The classifier may be trained on
    the nodes that chose. With a table as the first step of a pipeline, cross-validation does so by
    itself.

    The default of :class:`FastRP` is among the candidates, and stays unless another one is better
    by a standard error. Subspace iteration has to be better than the rest by a standard error.

    Time is that of ``max(n_powers)`` products with the graph for each exponent, 8 for the
    adjacency, and those of the fit; memory that of two tables of the embedding's size beside what
    `store_powers` keeps.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and Accurate Network
       Embeddings via Very Sparse Random Projection", CIKM 2019, arXiv:1908.11512.
       https://doi.org/10.1145/3357384.3357879

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.datasets import make_attributed_sbm
    >>> from sklr.manifold import FastRPCV
    >>> adjacency, _, labels = make_attributed_sbm(300, random_state=0)
    >>> known = np.where(np.arange(300) < 60, labels, -1)
    >>> rp = FastRPCV(16, affinity="precomputed", random_state=0).fit(adjacency, known)
    >>> rp.scoring_, len(rp.best_params_["weights"]) >= 4
    ('labels', True)
    """

    _parameter_constraints: dict = {
        **{k: v for k, v in EMBEDDING_CONSTRAINTS.items() if k not in _CHOSEN},
        **GraphInput._parameter_constraints,
        "n_powers": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "growths": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "degree_exponents": [Interval(Real, None, None, closed="neither"), "array-like"],
        "self_weights": [Interval(Real, 0, None, closed="left"), "array-like"],
        "try_adjacency": ["boolean"],
        "try_centered": ["boolean"],
        "n_subspace_iter": [Interval(Integral, 0, None, closed="left")],
        "store_powers": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "max_validation": [Interval(Integral, 10, None, closed="left")],
    }
    del _parameter_constraints["normalize_powers"]

    def __init__(
        self,
        n_components=128,
        *,
        n_powers=(4, 8, 16, 32),
        growths=(1.0, 1.5, 2.0),
        degree_exponents=(-0.6, 0.0),
        self_weights=(0.0,),
        try_adjacency=True,
        try_centered=True,
        n_subspace_iter=24,
        affinity="nearest_neighbors",
        n_neighbors=10,
        symmetrize=False,
        projection="sparse",
        density="auto",
        standardize=True,
        isolated="keep",
        store_powers=True,
        validation_fraction=0.1,
        max_validation=2000,
        dtype=np.float32,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.n_powers = n_powers
        self.growths = growths
        self.degree_exponents = degree_exponents
        self.self_weights = self_weights
        self.try_adjacency = try_adjacency
        self.try_centered = try_centered
        self.n_subspace_iter = n_subspace_iter
        self.affinity = affinity
        self.n_neighbors = n_neighbors
        self.symmetrize = symmetrize
        self.projection = projection
        self.density = density
        self.standardize = standardize
        self.isolated = isolated
        self.store_powers = store_powers
        self.validation_fraction = validation_fraction
        self.max_validation = max_validation
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Choose the weights and embed the nodes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_nodes, n_nodes), networkx or igraph graph, \
or array-like of shape (n_samples, n_features)
            The graph, or a table with ``affinity="nearest_neighbors"``.
        y : array-like or sparse matrix of shape (n_nodes,) or (n_nodes, n_labels), default=None
            Labels of the nodes, or a 0/1 table with several labels a node; -1 (or NaN, or None)
            where they are not known. Without any, edges are left out.

        Returns
        -------
        self : FastRPCV
            The fitted estimator.
        """
        self._choose_and_embed(X, y)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Choose the weights, embed the nodes and return the embedding.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_nodes, n_nodes), networkx or igraph graph, \
or array-like of shape (n_samples, n_features)
            As for `fit`.
        y : array-like or sparse matrix of shape (n_nodes,) or (n_nodes, n_labels), default=None
            As for `fit`.

        Returns
        -------
        embedding : ndarray of shape (n_nodes, n_components)
            The embedding.
        """
        self._choose_and_embed(X, y)
        return self.embedding_

    def transform(self, X):
        """Embed new nodes by their edges to the fitted ones; see :meth:`FastRP.transform`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_new, n_nodes) or (n_new, n_features)
            Weights of the edges from new nodes to the fitted ones; a table of new samples with
            ``affinity="nearest_neighbors"``.

        Returns
        -------
        embedding : ndarray of shape (n_new, n_components)
            The embedding of the new nodes.
        """
        check_is_fitted(self)
        best = self.best_estimator_
        best._check_stored("transform")
        X, _ = graph_as_matrix(X, precomputed=False)
        X = validate_data(self, X, reset=False, accept_sparse=("csr", "csc", "coo"))
        return best._embed_edges(best._edges_of(X))

    def _choose_and_embed(self, X, y):
        grid = self._grid()
        adjacency, kept = self._graph(X)
        judge = None if y is None else search.known_labels(y, adjacency.shape[0])
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        params, scores, self.scoring_ = self._scores(adjacency, judge, grid, seed)
        if scores:
            # Bases of subspaces come last; they have to be better by a standard error, as all
            # others have to than the default.
            n_sums = sum(not found["n_subspace_iter"] for found in params)
            sums, _, _ = search.best_candidate(scores[:n_sums], 0)
            self.best_index_, means, errors = search.best_candidate(scores, sums)
            self.n_validation_ = len(scores[0])
        else:
            self.best_index_, self.n_validation_ = 0, 0
            params, means, errors = params[:1], np.full(1, np.nan), np.full(1, np.nan)
        self.cv_results_ = {
            "params": params,
            "mean_test_score": means,
            "std_error_to_best": errors,
        }
        self.best_params_ = params[self.best_index_]
        self.best_score_ = float(means[self.best_index_])
        best = self._fastrp(seed, **self.best_params_)
        vars(best).update(kept, n_features_in_=self.n_features_in_)
        best._embed_graph(adjacency)
        self.best_estimator_ = best
        self.embedding_ = best.embedding_
        self._n_features_out = self.n_components

    def _fastrp(self, seed, **settings):
        same = set(FastRP._parameter_constraints) & set(type(self)._parameter_constraints)
        same -= set(_CHOSEN)
        return FastRP(**{name: getattr(self, name) for name in same} | {"random_state": seed},
                      **settings)  # fmt: skip

    def _grid(self):
        """Return the checked axes of the grid."""
        return (
            _numbers("n_powers", self.n_powers, Integral, 1),
            _numbers("growths", self.growths, Real, np.finfo(float).tiny),
            _numbers("degree_exponents", self.degree_exponents, Real, -np.inf),
            _numbers("self_weights", self.self_weights, Real, 0),
        )

    def _scores(self, adjacency, judge, grid, seed):
        """Return the parameters of all candidates, their scores, and what was judged by."""
        rng = np.random.default_rng(seed)
        kind = "labels"
        if judge is not None and search.enough_labels(*judge):
            nodes, table = judge
            if len(nodes) > self.max_validation:
                some = np.sort(rng.choice(len(nodes), self.max_validation, replace=False))
                nodes, table = nodes[some], table[some]
            score = search.LabelScore(table)
        else:
            kind = "edges"
            found = search.leave_edges_out(
                adjacency, self.validation_fraction, self.max_validation, rng
            )
            if found is None:
                return [self._default()], [], kind
            adjacency, nodes, score = found
        dtype = np.dtype(self.dtype)
        n_nodes = adjacency.shape[0]
        if isinstance(self.projection, str):
            density = core.resolve_density(self.density, n_nodes)
            projection = core.draw_projection(
                self.projection, core.draw_key(seed), n_nodes, self.n_components, density, dtype
            )
        else:
            projection = check_projection(self.projection, n_nodes, self.n_components, dtype)
        own = projection[nodes]
        own = search.unit_rows((own.toarray() if sparse.issparse(own) else own).astype(np.float64))
        n_powers, growths, exponents, self_weights = grid
        params, scores = [], []
        default = self._default()
        with ChunkThreads(self.n_jobs) as threads:
            cases = [("transition", e, 0) for e in sorted({*exponents, default["degree_exponent"]})]
            cases += [("adjacency", e, 0) for e in exponents[-1:] if self.try_adjacency]
            if self.n_subspace_iter:
                cases.append(("transition", exponents[-1], self.n_subspace_iter))
            for matrix, exponent, n_iter in cases:
                operator = core.make_operator(
                    adjacency.indptr, adjacency.indices, adjacency.data, n_nodes,
                    transition=matrix == "transition", dtype=dtype,
                )  # fmt: skip
                factors = core.node_factors(operator.degrees, operator.degrees.sum(), exponent)
                start = core.start_power(projection, factors, self.n_components)
                constant = 0.0
                if isinstance(start, core.SparseRows):
                    start = start.tocsr().toarray()
                if matrix == "transition":
                    # Centred powers lose no digits; the others are these and a constant row.
                    centred = core.centred(start, operator.degrees)
                    constant = start[:1].astype(np.float64) - centred[:1]
                    start = centred
                most = n_powers[-1] if exponent in exponents else 0
                most = max(most, 4) if matrix == "transition" else min(most, _MOST_SUMS)
                numbers = n_powers
                centring = (False, True) if matrix == "transition" else (False,)
                if n_iter:
                    # A basis has few powers worth adding, and none with a constant in it.
                    numbers, most = sorted({1, n_powers[0]}), n_powers[0]
                    centring = (self.try_centered,)
                    if not self.try_centered:
                        start = start + constant.astype(dtype)
                        constant = 0.0
                    start = leading_subspace(
                        operator, start, n_iter, transition=True, threads=threads
                    )
                powers = search.powers_of_rows(
                    operator, start, most, nodes, threads, self._progress(matrix, exponent)
                )
                with np.errstate(over="ignore", invalid="ignore"):
                    tables = list(powers)
                linked = (operator.degrees[nodes] > 0)[:, None]
                for centre in centring:
                    if centre and not (self.try_centered and exponent in exponents):
                        continue
                    shift = 0.0 if centre else np.where(linked, constant, 0.0)
                    units = [
                        search.unit_rows(rows + shift) if np.isfinite(rows).all() else None
                        for rows in tables
                    ]
                    settings = {
                        "degree_exponent": exponent,
                        "input_matrix": matrix,
                        "center_powers": centre,
                        "n_subspace_iter": n_iter,
                    }
                    if not centre and settings.items() <= default.items():
                        total = sum(w * rows for w, rows in zip(default["weights"], units) if w)
                        params.insert(0, default)
                        scores.insert(0, score(total))
                    if exponent not in exponents:
                        continue
                    for growth, share in itertools.product(growths, self_weights):
                        weights = growth ** np.arange(len(units), dtype=np.float64)
                        total = 0.0
                        for k, rows in enumerate(units, start=1):
                            if rows is None:
                                break
                            total = total + weights[k - 1] * rows
                            if k in numbers:
                                self_weight = share * weights[:k].sum()
                                scores.append(score(total + self_weight * own))
                                params.append(settings | {
                                    "weights": tuple(weights[:k].tolist()),
                                    "self_weight": float(self_weight),
                                })  # fmt: skip
        return params, scores, kind

    def _default(self):
        """Return what FastRP does if nothing is said."""
        return {name: value for name, value in FastRP().get_params().items() if name in _CHOSEN}

    def _progress(self, matrix, exponent):
        return lambda powers: progress(
            powers,
            total=len(powers),
            description=f"powers of the {matrix} matrix, exponent {exponent:g}",
            verbose=self.verbose,
        )
