"""Whether clusters are subspaces through one origin, or places with a subspace around each mean."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.cluster import KMeans

from sklr.cluster._subspace_fit import cluster_dims
from sklr.cluster._subspace_rows import offset_share
from sklr.cluster._subspaces import (
    Partition,
    by_subspace,
    leading_rows,
    noise_floor,
    spectra,
    squared_coordinates,
)

# Subspaces are taken as found where labels are so certain on average, and where no two subspaces
# share more than this part of their directions (mean squared cosine).
_CERTAIN, _SHARED = 0.99, 0.7


@dataclass
class Found:
    """A partition of rows, with what the rest of a fit needs to know of it.

    `rows` are what it was made from: relative to `mean`, none too long, none zero where subspaces
    go through the origin. `inside` says which of all rows these are, `means` are those of clusters.
    """

    part: Partition
    rows: np.ndarray
    weights: np.ndarray | None
    inside: np.ndarray
    mean: np.ndarray
    init: str
    penalty: float = 0.0
    means: np.ndarray | None = None

    @cached_property
    def total(self):
        """Squared lengths of the rows, times their weights."""
        total = np.einsum("ij,ij->i", self.rows, self.rows)
        return total if self.weights is None else total * self.weights

    @cached_property
    def offset(self):
        """Share of the mean in the energy of the rows."""
        energy = float(self.total.sum()) if self.weights is None else None
        return offset_share(self.rows, energy)

    def squares(self):
        """Squared coordinates of the rows, times their weights, in the bases of the partition."""
        if self.part.squares is None:
            self.part.squares = squared_coordinates(
                weighted_rows(self.rows, self.weights), self.part.bases
            )
        return self.part.squares

    def labels(self):
        """Return labels of all rows: those that are zero go to the first cluster."""
        labels = np.zeros(len(self.inside), dtype=np.int64)
        labels[self.inside] = self.part.labels
        return labels

    def centred(self):
        """Return the rows relative to what their subspaces go through, times roots of weights."""
        Y = self.rows if self.means is None else self.rows - self.means[self.part.labels]
        return weighted_rows(Y, self.weights)


def weighted_rows(X, weights):
    """Return rows times the roots of their weights: sums of squares count them so many times."""
    return X if weights is None else X * np.sqrt(weights)[:, None]


def nearest_means(X, means):
    """Return the index of each row's nearest mean; both are near the origin."""
    return (X @ means.T - 0.5 * (means**2).sum(axis=1)).argmax(axis=1)


def around_means(X, weights, n_clusters, rule, *, n_init, max_iter, seed):
    """Return k-means' partition, the subspaces around its means, and the means."""
    kmeans = KMeans(n_clusters, n_init=n_init, max_iter=max_iter, tol=1e-6, random_state=seed)
    kmeans.fit(X, sample_weight=weights)
    means = kmeans.cluster_centers_
    labels = nearest_means(X, means)
    dims, order = cluster_dims(
        weighted_rows(X - means[labels], weights), labels, n_clusters, rule
    )  # fmt: skip
    labels, means = order[labels], means[np.argsort(order)]
    Y = weighted_rows(X - means[labels], weights)
    bases = [leading_rows(Y[labels == k], d) for k, d in enumerate(dims)]
    n_empty = int((np.bincount(labels, minlength=n_clusters) == 0).sum())
    history = [-float(kmeans.inertia_)]
    converged = kmeans.n_iter_ < max_iter
    return Partition(labels, bases, history[0], history, converged, n_empty), means


def is_clear(found):
    """Whether subspaces are apart, and labels certain by the noise that is left outside them."""
    bases, weights, p = found.part.bases, found.weights, found.rows.shape[1]
    for k, basis in enumerate(bases):
        for other in bases[:k]:
            shared = float(((basis @ other.T) ** 2).sum())
            if shared > _SHARED * min(len(basis), len(other)):
                return False
    E = by_subspace(found.squares(), bases)
    own = np.take_along_axis(E, found.part.labels[:, None], axis=1)[:, 0]
    if weights is not None:
        E = E / weights[:, None]
    sizes = np.bincount(found.part.labels, weights, minlength=len(bases))
    energy = float(found.total.sum())
    free = float(sizes @ [p - len(basis) for basis in bases])
    floor = noise_floor(found.rows, [len(b) for b in bases], weights, energy=energy)
    noise = max((energy - own.sum()) / free, floor)
    best = np.sort(E, axis=1)[:, -2:]
    certain = 1 / (1 + np.exp(np.clip(best[:, 0] - best[:, 1], -1e300, 0.0) / (2 * noise)))
    return bool(np.average(certain, weights=found.weights) >= _CERTAIN)


def evidence(X, weights, labels, dims, center, floor):
    """Return the evidence (minus half of BIC) of a partition with low-rank Gaussian clusters.

    `center` is False, True or "clusters". Each cluster has a noise variance of its own, drawn
    towards that of all as by one cluster's dimensions and one more sample: the fewest samples fit
    exactly. The likelihood is that of samples and labels.
    """
    n_clusters, p = len(dims), X.shape[1]
    means, size = np.zeros((n_clusters, p)), len(X) if weights is None else weights.sum()
    if center is not False:
        groups = labels if isinstance(center, str) else np.zeros_like(labels)
        for k in range(n_clusters if isinstance(center, str) else 1):
            if (groups == k).any():
                mine = None if weights is None else weights[groups == k]
                means[k] = np.average(X[groups == k], axis=0, weights=mine)
        if not isinstance(center, str):
            means[:] = means[0]
    Y = weighted_rows(X - means[labels], weights)
    bases = [leading_rows(Y[labels == k], d) for k, d in enumerate(dims)]
    inside, outside, sizes = spectra(Y, labels, bases, weights)
    free = p - np.asarray(dims)
    common = max(float(outside.sum() / (sizes @ free)), floor)
    prior = np.asarray(dims) + 1.0
    noise = np.maximum((outside / free + prior * common) / (sizes + prior), floor)
    total = 0.0
    for values, rest, n, m, g in zip(inside, outside, sizes, free, noise, strict=True):
        if n > 0:
            spread = np.maximum(values, g)
            total += n * np.log(n / size) - 0.5 * (
                n * (p * np.log(2 * np.pi) + np.log(spread).sum() + m * np.log(g))
                + n * (values / spread).sum() + rest / g
            )  # fmt: skip
    n_parameters = sum(d * (p - d) + d * (d + 1) // 2 for d in dims) + 2 * n_clusters - 1
    n_parameters += {False: 0, True: p}.get(center, n_clusters * p)
    return float(total - 0.5 * n_parameters * np.log(size))
