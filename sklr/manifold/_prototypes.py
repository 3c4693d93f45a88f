"""Prototypes of a large point cloud: k-means centres, nearest ones, interpolation from them."""

import numpy as np

from sklr.utils._threads import single_blas_thread, thread_map

# Rows of a block: with 4000 prototypes in single precision 8 MB of products.
_ROWS = 512
#: Neighbours that a point is interpolated from.
N_INTERPOLATION = 8
_RIDGE = 0.1


class PrototypeSearch:
    """Brute-force search of the nearest prototypes, in blocks of single-precision products.

    Single precision only chooses the candidates; what is computed from them afterwards is in
    double precision.

    Parameters
    ----------
    prototypes : ndarray of shape (m, p)
        The prototypes.
    """

    def __init__(self, prototypes):
        # About their mean, so that the products are not large numbers with a small difference,
        # and in a unit of their own, because single precision ends at 1e38.
        self.centre = prototypes.mean(axis=0, dtype=np.float64)
        centred = prototypes - self.centre
        self.unit = float(np.abs(centred).max(initial=0.0)) or 1.0
        self.prototypes = (centred / self.unit).astype(np.float32)
        self.half_norms = 0.5 * np.einsum("ij,ij->i", self.prototypes, self.prototypes)

    def query(self, X, k, n_jobs=None):
        """Return the numbers (n, k) of the nearest prototypes, nearest first."""
        from sklr.manifold._prototypes_kernels import smallest_of_rows

        k = min(k, len(self.prototypes))
        out = np.empty((len(X), k), dtype=np.int64)
        turned = np.ascontiguousarray(self.prototypes.T)

        def one(start):
            block = ((X[start : start + _ROWS] - self.centre) / self.unit).astype(np.float32)
            smallest_of_rows(block @ turned, self.half_norms, out[start : start + len(block)])

        with single_blas_thread():
            thread_map(one, range(0, len(X), _ROWS), n_jobs)
        return out


def kmeans_prototypes(X, n_prototypes, rng, *, n_passes=4, per_prototype=25, n_jobs=None):
    """Choose prototypes by a few passes of k-means over a random subsample.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        The points.
    n_prototypes : int
        How many.
    rng : RandomState
        Chooses the subsample and the start.
    n_passes : int, default=4
        Passes of Lloyd's iteration.
    per_prototype : int, default=25
        Points of the subsample for each prototype.
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    prototypes : ndarray of shape (n_prototypes, p), float64
        Means of the points nearest to each; a prototype that lost all its points stays where
        it was.
    """
    from sklr.manifold._prototypes_kernels import average_by_label

    n_used = min(len(X), per_prototype * n_prototypes)
    rows = rng.choice(len(X), n_used, replace=False)
    prototypes = X[rows[:n_prototypes]].astype(np.float64)
    sample = X if n_used == len(X) else X[np.sort(rows)]
    sample = np.ascontiguousarray(sample, dtype=np.float32)
    for _ in range(n_passes):
        nearest = PrototypeSearch(prototypes).query(sample, 1, n_jobs)[:, 0]
        sums = np.zeros_like(prototypes)
        counts = np.zeros(n_prototypes, dtype=np.int64)
        average_by_label(sample, nearest, sums, counts)
        kept = counts > 0
        prototypes[kept] = sums[kept] / counts[kept, None]
    return prototypes


def interpolate_positions(X, prototypes, positions, *, indices=None, n_jobs=None):
    """Place points in the embedding by barycentric weights of their nearest prototypes."""
    from sklr.manifold._prototypes_kernels import interpolate

    if indices is None:
        indices = PrototypeSearch(prototypes).query(X, N_INTERPOLATION, n_jobs)
    prototypes = np.ascontiguousarray(prototypes, dtype=np.float64)
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    out = np.empty((len(X), positions.shape[1]))

    def one(start):
        part = slice(start, start + 8192)
        block = np.ascontiguousarray(X[part], dtype=np.float64)
        interpolate(block, prototypes, positions, indices[part], _RIDGE, out[part])

    thread_map(one, range(0, len(X), 8192), n_jobs)
    return out
