"""What FastRP and its tuner take: a graph, or a table whose neighbours make one."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions

from sklr.utils._base import BaseEstimator
from sklr.utils._graph import check_adjacency, graph_as_matrix
from sklr.utils._table_graph import table_graph
from sklr.utils._validation import validate_data


class GraphInput(TransformerMixin, BaseEstimator):
    """Estimators with the parameters `affinity`, `n_neighbors`, `symmetrize` and `n_jobs`."""

    _parameter_constraints: dict = {
        "affinity": [StrOptions({"nearest_neighbors", "precomputed"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "symmetrize": ["boolean"],
        "n_jobs": [Integral, None],
    }

    def _graph(self, X):
        """Return the checked adjacency, and the attributes that its making leaves.

        A graph of networkx or igraph is a graph whatever `affinity` says.
        """
        X, is_graph = graph_as_matrix(X, precomputed=self.affinity == "precomputed")
        if is_graph:
            # What is sparse is looked through once, below.
            look = not sparse.issparse(X)
            X = validate_data(self, X, accept_sparse=("csr", "csc", "coo"), ensure_all_finite=look)
            adjacency = check_adjacency(X, name="X", dtype=None)
            if self.symmetrize:
                adjacency = check_adjacency(adjacency + adjacency.T, dtype=None)
            return adjacency, {}
        X = validate_data(self, X, accept_sparse=("csr",), ensure_min_samples=2)
        graph, neighbors = table_graph(X, self.n_neighbors, self.n_jobs)
        adjacency = check_adjacency(graph.maximum(graph.T))
        kept = {
            "adjacency_": adjacency,
            "n_neighbors_": neighbors.n_neighbors,
            "_neighbors": neighbors,
        }
        return adjacency, kept

    def _new_edges(self, X):
        """Return the checked edges from new nodes to the fitted ones."""
        X, _ = graph_as_matrix(X, precomputed=False)
        X = validate_data(self, X, reset=False, accept_sparse=("csr", "csc", "coo"))
        return self._edges_of(X)

    def _edges_of(self, X):
        """Return the edges of what was validated."""
        if hasattr(self, "_neighbors"):
            return self._edges_to_fitted(X)
        return check_adjacency(X, name="X", dtype=None, square=False)

    def _edges_to_fitted(self, X):
        """Return the edges of new samples; a sample that was fitted has those that it had."""
        fitted = self._neighbors._fit_X
        n_new, n_fitted = X.shape[0], fitted.shape[0]
        near = self._neighbors.kneighbors(X, return_distance=False)
        known = np.full(n_new, n_fitted)
        for candidate in near.T:
            if sparse.issparse(X):
                same = (sparse.csr_array(X) != sparse.csr_array(fitted)[candidate]).sum(axis=1) == 0
            else:
                same = (X == fitted[candidate]).all(axis=1)
            known[same] = np.minimum(known[same], candidate[same])
        indptr = np.arange(n_new + 1) * near.shape[1]
        edges = sparse.csr_array(
            (np.ones(near.size), near.ravel(), indptr), shape=(n_new, n_fitted)
        )
        is_known = known < n_fitted
        # New samples first, then those that were fitted, then back in order.
        stacked = sparse.vstack([edges[~is_known], self.adjacency_[known[is_known]]], format="csr")
        order = np.argsort(np.r_[np.flatnonzero(~is_known), np.flatnonzero(is_known)])
        return check_adjacency(stacked[order], square=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = self.affinity == "precomputed"
        tags.input_tags.positive_only = self.affinity == "precomputed"
        tags.transformer_tags.preserves_dtype = []  # the parameter dtype says what comes out
        return tags
