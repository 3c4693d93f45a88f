"""FastRP: node embeddings by very sparse random projection."""

import copy
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sklr.manifold import _fastrp_core as core
from sklr.manifold._fastrp_blocks import fastrp_blocks
from sklr.manifold._fastrp_checks import (
    EMBEDDING_CONSTRAINTS,
    check_centring,
    check_projection,
    check_weights,
    warn_of_dangling,
)
from sklr.manifold._fastrp_graph import GraphInput
from sklr.manifold._fastrp_subspace import leading_subspace
from sklr.utils._base import fit_context
from sklr.utils._progress import progress
from sklr.utils._threads import ChunkThreads


class FastRP(ClassNamePrefixFeaturesOutMixin, GraphInput):
    """Embed the nodes of a graph by very sparse random projection.

    A random matrix with few non-zero entries is multiplied by the transition matrix of the graph
    a few times; the powers are normalised and summed. There is no training and there are no
    random walks: a million nodes take seconds. The result depends on `random_state` alone, not
    on `n_jobs`, and is the same to the bit as that of :func:`fastrp_blocks`.

    Parameters
    ----------
    n_components : int, default=128
        Dimension of the embedding. 128 is quick, 512 more accurate.
    weights : array-like of shape (q,), default=(0.0, 0.0, 1.0, 6.0)
        Weights of the powers 1 .. q of the transition matrix. Some implementations begin with
        power 0, which is `self_weight` here.
    degree_exponent : float, default=0.0
        Exponent of the degrees that neighbours are weighted by; below zero hubs count less. The
        paper's values are in [-1, 0].
    affinity : {"nearest_neighbors", "precomputed"}, default="nearest_neighbors"
        "precomputed": `X` is the adjacency of a graph, or a graph of networkx or igraph.
        "nearest_neighbors": `X` is a table, and the graph is that of its nearest neighbours.
    n_neighbors : int, default=10
        Number of neighbours of each sample with ``affinity="nearest_neighbors"``.
    symmetrize : bool, default=False
        Use the edges of a directed graph both ways (A + A.T). Otherwise a node is described by
        the nodes that its edges lead to.
    input_matrix : {"transition", "adjacency"}, default="transition"
        Average over neighbours, or sum.
    projection : {"sparse", "gaussian"} or array-like of shape (n_nodes, n_components), \
default="sparse"
        The random matrix.
    density : float or "auto", default="auto"
        Share of non-zero entries with ``projection="sparse"``; "auto" is one over the square root
        of the number of nodes.
    normalize_powers : bool, default=True
        Divide the rows of each power by their norm before the sum.
    center_powers : bool, default=False
        Subtract from power 0 the mean of its rows, weighted by degrees: what walks of any node
        tend to, whatever the node. Classifiers gain by it, links by cosine lose. With
        ``input_matrix="transition"`` only.
    n_subspace_iter : int, default=0
        Products with the graph before power 0, whose columns are made orthonormal on the way: so
        many steps of subspace iteration, from the random matrix towards the graph's leading
        eigenvectors. With 24, ``center_powers=True`` and ``weights=(1.0,)`` nodes get what
        spectral embeddings have, in some times the default's time: better where few dimensions
        have to hold a dense graph.
    standardize : bool, default=True
        Give the columns of the result mean 0 and variance 1.
    self_weight : float, default=0.0
        Weight of a node's own row of the random matrix, which tells nodes with equal
        neighbourhoods apart.
    isolated : {"keep", "zero"}, default="keep"
        What nodes without edges get: the value that zero has after standardisation, or zeros.
    store_powers : bool, default=True
        Keep the powers, which `transform` and `remerge` need: q + 1 tables beside the embedding.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Precision of the powers and the embedding. Degrees are always in double precision.
    random_state : int, RandomState instance or None, default=None
        Seed of the random matrix.
    n_jobs : int, default=None
        Number of threads. It does not change the result.
    verbose : int, default=0
        1 shows the progress over powers.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_nodes, n_components)
        The embedding.
    projection_ : csr_array or ndarray of shape (n_nodes, n_components)
        The random matrix, before degrees come in.
    degrees_ : ndarray of shape (n_nodes,)
        Sum of the weights of each node's edges.
    weights_ : ndarray of shape (q,)
        Weights of the powers.
    powers_ : list of length q + 1
        Powers 0 .. q, not normalised: arrays, or csr_array where they are sparse. Only with
        `store_powers`.
    mean_ : ndarray of shape (n_components,)
        Mean of the columns before standardisation. Only with `standardize`.
    scale_ : ndarray of shape (n_components,)
        Standard deviation of the columns before standardisation. Only with `standardize`.
    adjacency_ : csr_array of shape (n_samples, n_samples)
        The graph of neighbours. Only with ``affinity="nearest_neighbors"``.
    n_neighbors_ : int
        Number of neighbours used, at most the number of samples less one. Only with
        ``affinity="nearest_neighbors"``.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of `X`, when it has names that are strings.

    See Also
    --------
    fast_random_projection : The embedding as a function.
    fastrp_blocks : The same beyond memory, and on a cluster.
    sklearn.manifold.SpectralEmbedding : More accurate for the same dimension, and much slower.

    Notes
    -----
    Embed the whole graph once and split the nodes afterwards: cutting rows and columns out of an
    adjacency inside a cross-validation changes the graph. Labels are not used, so nothing leaks.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and Accurate Network
       Embeddings via Very Sparse Random Projection", CIKM 2019, arXiv:1908.11512.
       https://doi.org/10.1145/3357384.3357879

    Examples
    --------
    >>> from scipy import sparse
    >>> from sklr.manifold import FastRP
    >>> ring = sparse.diags_array([1.0, 1.0], offsets=[1, -1], shape=(6, 6)).tolil()
    >>> ring[0, 5] = ring[5, 0] = 1
    >>> rp = FastRP(4, affinity="precomputed", random_state=0)
    >>> rp.fit_transform(ring.tocsr()).shape
    (6, 4)

    Another weighting of the same powers, without new products:

    >>> rp.remerge((1.0, 1.0)).embedding_.shape
    (6, 4)
    """

    _parameter_constraints: dict = {
        **EMBEDDING_CONSTRAINTS,
        **GraphInput._parameter_constraints,
        "n_subspace_iter": [Interval(Integral, 0, None, closed="left")],
        "store_powers": ["boolean"],
    }

    def __init__(
        self,
        n_components=128,
        *,
        weights=(0.0, 0.0, 1.0, 6.0),
        degree_exponent=0.0,
        affinity="nearest_neighbors",
        n_neighbors=10,
        symmetrize=False,
        input_matrix="transition",
        projection="sparse",
        density="auto",
        normalize_powers=True,
        center_powers=False,
        n_subspace_iter=0,
        standardize=True,
        self_weight=0.0,
        isolated="keep",
        store_powers=True,
        dtype=np.float32,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.weights = weights
        self.degree_exponent = degree_exponent
        self.affinity = affinity
        self.n_neighbors = n_neighbors
        self.symmetrize = symmetrize
        self.input_matrix = input_matrix
        self.projection = projection
        self.density = density
        self.normalize_powers = normalize_powers
        self.center_powers = center_powers
        self.n_subspace_iter = n_subspace_iter
        self.standardize = standardize
        self.self_weight = self_weight
        self.isolated = isolated
        self.store_powers = store_powers
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Embed the nodes of a graph.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_nodes, n_nodes), networkx or igraph graph, \
or array-like of shape (n_samples, n_features)
            The graph, or a table with ``affinity="nearest_neighbors"``.
        y : None
            Not used.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._embed(X)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Embed the nodes of a graph and return the embedding.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_nodes, n_nodes), networkx or igraph graph, \
or array-like of shape (n_samples, n_features)
            The graph, or a table with ``affinity="nearest_neighbors"``.
        y : None
            Not used.

        Returns
        -------
        embedding : ndarray of shape (n_nodes, n_components)
            The embedding.
        """
        self._embed(X)
        return self.embedding_

    def transform(self, X):
        """Embed nodes by their edges to the fitted ones.

        Exact for new nodes that no fitted node has an edge to. A row that repeats the edges of a
        fitted node (or, with ``affinity="nearest_neighbors"``, its features) gets that node's
        embedding, but for `self_weight`: new nodes have no row of their own in the random matrix.

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
        self._check_stored("transform")
        return self._embed_edges(self._new_edges(X))

    def _embed_edges(self, edges):
        """Embed new nodes by their checked edges."""
        operator = self._operator(edges)
        with ChunkThreads(self.n_jobs) as threads:
            total = core.sum_of_new_rows(
                operator,
                [_rows_of(power) for power in self.powers_[:-1]],
                self.weights_,
                normalize=self.normalize_powers,
                threads=threads,
            )
            core.check_range(total, total.dtype)
            if self.standardize:
                core.standardize_in_place(total, self.mean_, self.scale_, threads)
        if self.isolated == "zero":
            total[operator.degrees == 0] = 0
        return total

    def remerge(self, weights, *, self_weight=None):
        """Sum the stored powers with other weights; no product with the graph is computed.

        Parameters
        ----------
        weights : array-like of shape (q_new,)
            New weights of the powers 1 .. q_new, where q_new is at most the q of `fit`.
        self_weight : float, default=None
            New weight of a node's own row of the random matrix; by default as it was.

        Returns
        -------
        remerged : FastRP
            A fitted estimator with these parameters, equal to a new fit with the same random
            matrix. It shares the powers with this one.
        """
        check_is_fitted(self)
        self._check_stored("remerge")
        checked = check_weights(weights)
        if len(checked) >= len(self.powers_):
            raise ValueError(
                f"weights has {len(checked)} powers, but {len(self.powers_) - 1} were computed: "
                "fit with as many weights (zeros will do) as will be tried."
            )
        other = copy.copy(self)
        other.weights = weights
        other.self_weight = self.self_weight if self_weight is None else float(self_weight)
        other.weights_ = checked
        other.powers_ = self.powers_[: len(checked) + 1]
        with ChunkThreads(self.n_jobs) as threads:
            total, started = None, False
            terms = [(self.projection_, other.self_weight), *zip(other.powers_[1:], checked)]
            for power, weight in terms:
                if weight != 0:
                    args = (power, float(weight), self.normalize_powers, started, threads)
                    total = core.merge_into(total, *args)
                    started = True
            other._finish(total, self.degrees_, threads)
        return other

    def fit_transform_blocks(self, graph, out, *, column_block=16, overwrite=False):
        """Embed a graph that is in a folder, in blocks of columns; see :func:`fastrp_blocks`.

        Parameters
        ----------
        graph : path-like
            Folder that :func:`sklr.utils.save_graph` wrote.
        out : path-like
            File for the embedding, ``.npy``.
        column_block : int, default=16
            Columns of one task.
        overwrite : bool, default=False
            Whether `out` may be replaced.

        Returns
        -------
        embedding : memmap of shape (n_nodes, n_components)
            The embedding, mapped from `out`.
        """
        if self.n_subspace_iter:
            raise ValueError(
                f"n_subspace_iter={self.n_subspace_iter} needs all columns at once and is not "
                "possible in blocks: use fit_transform, or n_subspace_iter=0."
            )
        settings = {name: getattr(self, name) for name in EMBEDDING_CONSTRAINTS}
        return fastrp_blocks(
            graph,
            out,
            column_block=column_block,
            overwrite=overwrite,
            **settings,
        )

    def _check_stored(self, method):
        if not hasattr(self, "powers_"):
            raise AttributeError(
                f"{type(self).__name__}.{method} needs the powers, which were not kept: "
                "fit with store_powers=True."
            )

    def _operator(self, edges):
        return core.make_operator(
            edges.indptr,
            edges.indices,
            edges.data,
            edges.shape[1],
            transition=self.input_matrix == "transition",
            dtype=np.dtype(self.dtype),
        )

    def _embed(self, X):
        adjacency, made = self._graph(X)
        if made:
            self.adjacency_, self.n_neighbors_ = made["adjacency_"], made["n_neighbors_"]
            self._neighbors = made["_neighbors"]
        self._embed_graph(adjacency)

    def _embed_graph(self, adjacency):
        weights = check_weights(self.weights)
        check_centring(self.center_powers, self.input_matrix)
        dtype = np.dtype(self.dtype)
        n_nodes = adjacency.shape[0]
        density = core.resolve_density(self.density, n_nodes)
        projection = self._projection(n_nodes, density, dtype)
        operator = self._operator(adjacency)
        if not hasattr(self, "_neighbors") and not self.symmetrize:
            warn_of_dangling(operator.degrees, operator.indices)
        factors = core.node_factors(operator.degrees, operator.degrees.sum(), self.degree_exponent)
        start = core.start_power(projection, factors, self.n_components)
        if self.center_powers:
            start = core.centred(start, operator.degrees)
        sparse_first = sparse.issparse(projection) and core.keeps_first_power_sparse(
            projection.nnz
            if not isinstance(self.projection, str)
            else density * n_nodes * self.n_components,
            n_nodes,
            self.n_components,
            operator.n_edges,
        )
        with ChunkThreads(self.n_jobs) as threads:
            if self.n_subspace_iter:
                start = leading_subspace(
                    operator,
                    start,
                    self.n_subspace_iter,
                    transition=self.input_matrix == "transition",
                    threads=threads,
                )
            total, powers = core.powers_and_sum(
                operator,
                start,
                weights,
                projection=projection,
                self_weight=self.self_weight,
                normalize=self.normalize_powers,
                sparse_first=sparse_first,
                store=self.store_powers,
                threads=threads,
                progress=self._progress,
            )
            self._finish(total, operator.degrees, threads)
        self.projection_ = projection
        self.degrees_ = operator.degrees
        self.weights_ = weights
        if powers is not None:
            self.powers_ = [
                power.tocsr() if isinstance(power, core.SparseRows) else power for power in powers
            ]
        self._n_features_out = self.n_components

    def _projection(self, n_nodes, density, dtype):
        """Return the random matrix, drawn or given."""
        if not isinstance(self.projection, str):
            return check_projection(self.projection, n_nodes, self.n_components, dtype)
        key = core.draw_key(self.random_state)
        return core.draw_projection(
            self.projection, key, n_nodes, self.n_components, density, dtype
        )

    def _progress(self, powers):
        return progress(
            powers, total=len(powers), description="powers of the graph", verbose=self.verbose
        )

    def _finish(self, total, degrees, threads):
        """Set the attributes that come of the sum of the powers, which is written to."""
        if self.standardize:
            self.mean_, self.scale_ = core.column_moments(total, threads)
            core.standardize_in_place(total, self.mean_, self.scale_, threads)
        else:
            core.check_range(total, total.dtype)
        if self.isolated == "zero":
            total[degrees == 0] = 0
        self.embedding_ = total


def _rows_of(power):
    return core.SparseRows.of(power) if sparse.issparse(power) else power


def fast_random_projection(
    adjacency,
    n_components=128,
    *,
    weights=(0.0, 0.0, 1.0, 6.0),
    degree_exponent=0.0,
    symmetrize=False,
    input_matrix="transition",
    projection="sparse",
    density="auto",
    normalize_powers=True,
    center_powers=False,
    n_subspace_iter=0,
    standardize=True,
    self_weight=0.0,
    isolated="keep",
    dtype=np.float32,
    random_state=None,
    n_jobs=None,
    verbose=0,
):
    """Embed the nodes of a graph by very sparse random projection.

    The function behind :class:`FastRP`, for one embedding that is not used on new nodes: it keeps
    no powers, and needs two tables of the size of the result (three for some `weights`).

    Parameters
    ----------
    adjacency : array-like or sparse matrix of shape (n_nodes, n_nodes), networkx or igraph graph
        The graph; :func:`sklr.utils.to_adjacency` makes one of an edge list.
    n_components : int, default=128
        Dimension of the embedding.
    weights : array-like of shape (q,), default=(0.0, 0.0, 1.0, 6.0)
        Weights of the powers 1 .. q of the transition matrix.
    degree_exponent : float, default=0.0
        Exponent of the degrees that neighbours are weighted by; below zero hubs count less.
    symmetrize : bool, default=False
        Use the edges of a directed graph both ways (A + A.T).
    input_matrix : {"transition", "adjacency"}, default="transition"
        Average over neighbours, or sum.
    projection : {"sparse", "gaussian"} or array-like of shape (n_nodes, n_components), \
default="sparse"
        The random matrix.
    density : float or "auto", default="auto"
        Share of non-zero entries with ``projection="sparse"``.
    normalize_powers : bool, default=True
        Divide the rows of each power by their norm before the sum.
    center_powers : bool, default=False
        Subtract from power 0 the mean of its rows, weighted by degrees: what walks of any node
        tend to, whatever the node. Classifiers gain by it, links by cosine lose. With
        ``input_matrix="transition"`` only.
    n_subspace_iter : int, default=0
        Products with the graph before power 0, whose columns are made orthonormal on the way: so
        many steps of subspace iteration, from the random matrix towards the graph's leading
        eigenvectors. With 24, ``center_powers=True`` and ``weights=(1.0,)`` nodes get what
        spectral embeddings have, in some times the default's time: better where few dimensions
        have to hold a dense graph.
    standardize : bool, default=True
        Give the columns of the result mean 0 and variance 1.
    self_weight : float, default=0.0
        Weight of a node's own row of the random matrix.
    isolated : {"keep", "zero"}, default="keep"
        What nodes without edges get: the value that zero has after standardisation, or zeros.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Precision of the powers and the embedding.
    random_state : int, RandomState instance or None, default=None
        Seed of the random matrix.
    n_jobs : int, default=None
        Number of threads. It does not change the result.
    verbose : int, default=0
        1 shows the progress over powers.

    Returns
    -------
    embedding : ndarray of shape (n_nodes, n_components)
        The embedding.

    See Also
    --------
    FastRP : The estimator, with `transform` for new nodes and `remerge` for other weights.
    fastrp_blocks : The same beyond memory, and on a cluster.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and Accurate Network
       Embeddings via Very Sparse Random Projection", CIKM 2019, arXiv:1908.11512.
       https://doi.org/10.1145/3357384.3357879

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.manifold import fast_random_projection
    >>> star = np.zeros((5, 5))
    >>> star[0, 1:] = star[1:, 0] = 1
    >>> embedding = fast_random_projection(star, 3, random_state=0)
    >>> bool((embedding[1] == embedding[4]).all())
    True
    """
    settings = {name: value for name, value in locals().items() if name != "adjacency"}
    estimator = FastRP(affinity="precomputed", store_powers=False, **settings)
    return estimator.fit_transform(adjacency)
