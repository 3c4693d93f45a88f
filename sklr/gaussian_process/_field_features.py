"""Features of points: eigenvectors of the Laplacian, lifted to the ambient space."""

import numpy as np

from sklr.geometry._frames import orthogonal_part, principal_axes
from sklr.geometry._neighbors_graph import nearest_neighbors

# Features of points are made in batches of about this many numbers.
_BATCH = 4_000_000
# Share of the slopes' mean square that is added to each in a local fit, for neighbours that do
# not span the tangent space.
_RIDGE = 1e-3


def _local_linear_weights(offsets, frames):
    """Weights of neighbours in a local linear fit at the origin, shape (n, k), sums one.

    Least squares weighted by one over the squared distance: at a neighbour the fit is its
    value, so that what is predicted is continuous there.
    """
    squared = (offsets**2).sum(axis=2)
    trust = squared.min(axis=1, keepdims=True) / squared
    slopes = (
        np.einsum("ndm,nkd->nkm", frames, offsets) / np.sqrt(squared.max(axis=1))[:, None, None]
    )
    ones = np.ones((*slopes.shape[:2], 1))
    basis = np.concatenate([ones, slopes], axis=2)
    normal = np.einsum("nka,nk,nkb->nab", basis, trust, basis)
    m = slopes.shape[2]
    ridge = _RIDGE * np.trace(normal, axis1=1, axis2=2) / (m + 1)
    normal[:, range(1, m + 1), range(1, m + 1)] += ridge[:, None]
    value = np.zeros((len(normal), m + 1, 1))
    value[:, 0] = 1.0
    at_origin = np.linalg.solve(normal, value)[:, :, 0]
    return np.einsum("nka,na,nk->nk", basis, at_origin, trust)


class FieldFeatures:
    """Part of VectorFieldGPRegressor: features at nodes, and at points between them."""

    def _n_span(self, n_nodes):
        """Neighbours that span a tangent space."""
        return min(int(np.ceil(1.5 * self.n_neighbors_)), n_nodes - 1)

    def _batches(self, rows):
        width = len(self.eigenvalues_) * (1 if self._scalar else self.nodes_.shape[1])
        step = max(1, _BATCH // width)
        return [rows[start : start + step] for start in range(0, len(rows), step)]

    def _node_features(self, nodes):
        """Features at training nodes, shape (len(nodes), n_outputs, r)."""
        n, m = len(self.nodes_), 1 if self._scalar else self.intrinsic_dim_
        U = self.eigenvectors_.reshape(n, m, -1)[nodes] * np.sqrt(n * m)
        return U if self._scalar else np.matmul(self.frames_[nodes], U)

    def _new_features(self, X, neighbors):
        """Features at other points: a linear fit to the neighbours', in a frame of the point."""
        n, m = len(self.nodes_), self.intrinsic_dim_
        near = neighbors[:, : self.n_neighbors_]
        members = np.concatenate([X[:, None], self.nodes_[neighbors]], axis=1)
        frames = principal_axes(members)[0][:, :, :m]
        weights = _local_linear_weights(self.nodes_[near] - X[:, None], frames)
        if self._scalar:
            U = self.eigenvectors_ * np.sqrt(n)
            return np.einsum("nk,nkr->nr", weights, U[near])[:, None]
        U = self.eigenvectors_.reshape(n, m, -1) * np.sqrt(n * m)
        products = np.matmul(frames[:, None].transpose(0, 1, 3, 2), self.frames_[near])
        R = weights[:, :, None, None] * orthogonal_part(products)
        carried = np.zeros((len(X), m, U.shape[2]))
        for neighbour in range(near.shape[1]):
            carried += np.matmul(R[:, neighbour], U[near[:, neighbour]])
        return np.matmul(frames, carried)

    def _features(self, X):
        """Features at any points, training nodes recognised by their position."""
        neighbors = nearest_neighbors(
            self.nodes_, self._n_span(len(self.nodes_)), queries=X, n_jobs=self.n_jobs
        )[1]
        equal = (self.nodes_[neighbors] == X[:, None]).all(axis=2)
        known = equal.any(axis=1)
        at = neighbors[np.arange(len(X)), equal.argmax(axis=1)]
        n_outputs = 1 if self._scalar else X.shape[1]
        Phi = np.empty((len(X), n_outputs, len(self.eigenvalues_)))
        Phi[known] = self._node_features(at[known])
        if not known.all():
            Phi[~known] = self._new_features(X[~known], neighbors[~known])
        return Phi
