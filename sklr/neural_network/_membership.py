"""Labels from the membership of codes: spectral clustering, its number, and clusters as codes."""

from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans

from sklr.metrics._coding_rate import coding_length
from sklr.transport import sinkhorn_projection

# More samples than this are not clustered at once: their membership is a dense square.
MOST = 5000
# Below this many samples all eigenvectors are as quick as some.
_DENSE = 300
_ENERGY = 0.95


def membership(codes: np.ndarray, eta: float) -> np.ndarray:
    """Return the converged doubly stochastic matrix of unit codes."""
    scores = np.abs(codes @ codes.T)
    return sinkhorn_projection((scores + scores.T) / 2, eta, tol=1e-7)


def label_by_membership(
    Z: np.ndarray,
    codes: np.ndarray,
    n_clusters: int | None,
    max_clusters: int,
    eta: float,
    eps: float,
    rng: Any,
) -> tuple["Subspaces", np.ndarray, dict[int, float] | None]:
    """Return the clusters, the labels, and the coding length by number of clusters if it is free.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_components)
        Features, unit rows.
    codes : ndarray of shape (n_samples, n_components)
        Codes, unit rows.
    n_clusters : int or None
        Number of clusters; None tries all from 1 to `max_clusters`.
    max_clusters : int
        Largest that is tried.
    eta, eps : float
        Entropy of the membership, squared error of the codes.
    rng : numpy.random.RandomState
        For k-means, and for the choice of samples where there are too many.
    """
    n = len(Z)
    rows = np.arange(n) if n <= MOST else np.sort(rng.permutation(n)[:MOST])
    numbers = [n_clusters] if n_clusters is not None else range(1, min(max_clusters, len(rows)) + 1)
    vectors = _leading_vectors(membership(codes[rows], eta), max(numbers), rng)
    best, lengths = None, {}
    for number in numbers:
        labels = _cut(vectors[:, -number:], number, rng)
        lengths[number] = coding_length(Z[rows], labels, eps)
        if best is None or lengths[number] < lengths[best[0]]:
            best = number, labels
    number, labels = best  # type: ignore[misc]
    clusters = Subspaces(Z[rows], labels, eps)
    if len(rows) < n:
        everybody = clusters.assign(Z)
        everybody[rows] = labels
        labels = everybody
    return clusters, labels, lengths if n_clusters is None else None


def _leading_vectors(share: np.ndarray, number: int, rng: Any) -> np.ndarray:
    """Return eigenvectors of the largest eigenvalues, ascending.

    Rows and columns sum to one, so that this is the normalised graph already.
    """
    n = len(share)
    if n <= _DENSE or number >= n // 2:
        # All of them: asked for some of nearly equal eigenvalues, LAPACK may find none, silently.
        return eigh(share, driver="evd")[1][:, -number:]
    values, vectors = eigsh(share, k=number, which="LA", v0=rng.standard_normal(n))
    return vectors[:, np.argsort(values)]


def _cut(vectors: np.ndarray, number: int, rng: Any) -> np.ndarray:
    if number == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    labels = KMeans(number, n_init=10, random_state=rng).fit_predict(rows)
    # Clusters in the order of their first samples, without numbers that nobody has.
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


class Subspaces:
    """Clusters of unit features, each with its own code."""

    def __init__(self, Z: np.ndarray, labels: np.ndarray, eps: float) -> None:
        d = Z.shape[1]
        self.bases, self._inverses, self._scales, self._sizes = [], [], [], []
        for label in range(labels.max() + 1):
            part = Z[labels == label]
            _, sigma, rows = np.linalg.svd(part, full_matrices=False)
            energy = np.cumsum(sigma**2)
            rank = int(np.searchsorted(energy, _ENERGY * energy[-1])) + 1
            self.bases.append(rows[:rank])
            scale = d / (len(part) * eps)
            factor = cho_factor(np.eye(d) + scale * part.T @ part)
            self._inverses.append(cho_solve(factor, np.eye(d)))
            self._scales.append(scale)
            self._sizes.append(len(part))

    def assign(self, Z: np.ndarray) -> np.ndarray:
        """Return the cluster whose code grows least by each row."""
        grown = np.empty((len(Z), len(self.bases)))
        d, total = Z.shape[1], sum(self._sizes)
        for k, (inverse, scale, size) in enumerate(
            zip(self._inverses, self._scales, self._sizes, strict=True)
        ):
            quadratic = np.einsum("ij,jk,ik->i", Z, inverse, Z)
            grown[:, k] = 0.5 * (size + d) * np.log1p(scale * quadratic) - np.log(size / total)
        return grown.argmin(axis=1)
