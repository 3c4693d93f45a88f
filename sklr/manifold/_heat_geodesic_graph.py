"""From points to the graph that heat flows on, and from its vertices back to points."""

from numbers import Integral

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from sklr.geometry import join_components, nearest_neighbors
from sklr.manifold._heat_distances import build_graph
from sklr.manifold._prototypes import (
    N_INTERPOLATION,
    PrototypeSearch,
    interpolate_positions,
    kmeans_prototypes,
)
from sklr.manifold._short_cuts import drop_short_cuts
from sklr.manifold._smoothing import prune_short_cuts, smooth_points
from sklr.manifold._vertices import (
    are_few,
    distinct_rows,
    far_from_all,
    few_points_affinity,
    warn_of_far,
)

# Affinities for which X is square.
PAIRWISE = ("precomputed", "precomputed_distance")
# Entries up to which sparse points are made dense.
_DENSE = 50_000_000


class GraphOfPoints:
    """Part of HeatGeodesicEmbedding: reduction of features, vertices, graph, places of points."""

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
        if self.n_pca is not None and self.affinity not in PAIRWISE and self.n_pca > min(n, p):
            raise ValueError(
                f"n_pca={self.n_pca} must be at most min(n_samples, n_features)={min(n, p)}."
            )

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
        if self.n_prototypes == vertices.shape[0] and self.affinity not in PAIRWISE:
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
        if self.metric == "euclidean" and not sp.issparse(vertices):
            from scipy.spatial.distance import cdist

            return lambda rows, columns: cdist(vertices[rows], vertices[columns])
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

    def _near(self, X):
        """Numbers of the vertices between which each point is placed, nearest first."""
        if self.metric == "euclidean":
            return PrototypeSearch(self.prototypes_).query(X, N_INTERPOLATION, self.n_jobs)
        k = min(N_INTERPOLATION, len(self.prototypes_))
        return self._search(self.prototypes_, k, queries=X)[1]

    def _far_from_vertices(self, X, near):
        """Whether each point is far from all vertices; those that seem so are searched exactly."""
        rows = np.arange(len(X))
        if self.metric == "euclidean":
            far = np.empty(len(X), dtype=bool)
            for start in range(0, len(X), 8192):
                part = slice(start, start + 8192)
                nearest = near[part, 0]
                gaps = np.subtract(X[part], self.prototypes_[nearest], dtype=np.float64)
                with np.errstate(over="ignore"):  # the exact search names numbers too large
                    distances = np.sqrt(np.einsum("ij,ij->i", gaps, gaps))
                far[part] = distances > 10.0 * self._size[nearest]
            rows = np.flatnonzero(far)
        far = np.zeros(len(X), dtype=bool)
        if len(rows):
            distances, indices = self._search(self.prototypes_, 1, queries=X[rows])
            size = self._size[indices[:, 0]]
            far[rows] = (distances[:, 0] > 10.0 * size) & (size > 0)
        return far

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
        if not self.smoothing or self.affinity in PAIRWISE:
            return X
        return smooth_points(
            X, 2 * self.n_neighbors_, self.n_components, self.smoothing, n_jobs=self.n_jobs
        )

    def _place(self, X, near):
        return interpolate_positions(
            X, self.prototypes_, self.graph_embedding_, indices=near, n_jobs=self.n_jobs
        )
