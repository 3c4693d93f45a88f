"""Refinement of clusters by the likelihood of edges and attributes."""

import numpy as np
from scipy.special import gammaln

# Weight of the given labels at the start; pseudo-count of edges between blocks, as a share of the
# mean; pseudo-counts of values, of which each attribute takes the likeliest.
_TRUST = 0.9
_PRIOR_EDGES = 0.01
_PSEUDO_COUNTS = (0.01, 0.1, 1.0, 10.0)


def _evidence(counts, pseudo):
    """Log likelihood of counts (n_values, n_clusters) under a symmetric Dirichlet prior."""
    m = len(counts)
    return (
        (gammaln(counts + pseudo) - gammaln(pseudo)).sum()
        + (gammaln(m * pseudo) - gammaln(counts.sum(axis=0) + m * pseudo)).sum()
    )  # fmt: skip


def refine_labels(adjacency, codes, n_values, labels, n_clusters, *, max_iter=30, tol=1e-4):
    """Improve labels by mean-field steps of a block model with degrees and attributes.

    An edge between i and j has a Poisson weight of mean ``d_i d_j B[k_i, k_j]``, an attribute of i
    a distribution of its own in each cluster. Soft assignments and parameters are updated in turn,
    in time linear in edges. How much each attribute tells is learnt on the way.

    Parameters
    ----------
    adjacency : csr_array of shape (n, n)
        Symmetric, without attribute vertices.
    codes : ndarray of shape (n, p)
        Attributes, each from 0.
    n_values : list of int
        Number of values of each attribute.
    labels : ndarray of shape (n,)
        Where to start.
    n_clusters : int
        Number of clusters.
    max_iter : int, default=30
        Steps at most.
    tol : float, default=1e-4
        Stop when assignments change by less than this, on average.

    Returns
    -------
    labels : ndarray of shape (n,)
        No cluster is lost: a step that would empty one is not taken.
    """
    n, p = codes.shape
    mean = adjacency.data.mean() if adjacency.nnz else 1.0
    adjacency = adjacency / mean  # the unit of weights must not matter
    degree = adjacency.sum(axis=1)
    soft = np.full((n, n_clusters), (1.0 - _TRUST) / n_clusters)
    soft[np.arange(n), labels] += _TRUST
    for _ in range(max_iter):
        log_odds = np.tile(np.log((soft.sum(axis=0) + 1.0) / (n + n_clusters)), (n, 1))
        if adjacency.nnz:
            to_clusters = adjacency @ soft
            between = soft.T @ to_clusters
            volume = degree @ soft
            density = between + _PRIOR_EDGES * between.mean()
            density /= np.maximum(np.outer(volume, volume), 1e-300)
            log_odds += to_clusters @ np.log(density).T
            log_odds -= np.outer(degree, density @ volume)
        for j in range(p):
            counts = np.empty((n_values[j], n_clusters))
            for k in range(n_clusters):
                counts[:, k] = np.bincount(codes[:, j], weights=soft[:, k], minlength=n_values[j])
            counts += max(_PSEUDO_COUNTS, key=lambda a: _evidence(counts, a))
            # Without the vertex itself, which would vote for its own value.
            own, total = counts[codes[:, j]] - soft, counts.sum(axis=0) - soft
            log_odds += np.log(own / total)
        log_odds -= log_odds.max(axis=1, keepdims=True)
        new = np.exp(log_odds)
        new /= new.sum(axis=1, keepdims=True)
        candidate = new.argmax(axis=1)
        if len(np.unique(candidate)) < len(np.unique(labels)):
            break
        labels = candidate
        change = np.abs(new - soft).mean()
        soft = new
        if change < tol:
            break
    return labels
