"""From a graph to positions of its vertices: heat, dissimilarities, layout."""

import numpy as np

from sklr.geometry import graph_laplacian, heat_kernel
from sklr.manifold._heat_distances import choose_time, heat_dissimilarity, indicator_columns
from sklr.manifold._mds import (
    classic_mds,
    fix_signs,
    normalised_stress,
    place_points,
    stress_mds,
    triangulate,
)
from sklr.manifold._vertices import FEW_STEPS

# Up to here every pair is used; above, distances to landmarks.
_ALL_PAIRS = 1000
_LANDMARKS = 300


class HeatLayout:
    """Part of HeatGeodesicEmbedding: landmarks, diffusion time, dissimilarities, positions."""

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


def _increasing_map(known, wanted, D):
    """Carry the increasing function that a non-metric layout found over to further distances."""
    from sklearn.isotonic import IsotonicRegression

    upper = np.triu_indices(len(known), 1)
    curve = IsotonicRegression(out_of_bounds="clip").fit(known[upper], wanted[upper])
    return curve.predict(D.ravel()).reshape(D.shape)
