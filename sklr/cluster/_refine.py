"""Block model with degrees: refinement of clusters, and how well it foretells edges."""

import numpy as np
from scipy import sparse

# Weight of the given labels at the start; pseudo-count of edges between blocks, as a share of the
# mean.
_TRUST = 0.9
_PRIOR_EDGES = 0.01


def block_density(adjacency, soft):
    """Return weights to clusters, densities between clusters, and degrees of clusters."""
    to_clusters = adjacency @ soft
    between = soft.T @ to_clusters
    volume = adjacency.sum(axis=1) @ soft
    density = between + _PRIOR_EDGES * between.mean()
    density /= np.maximum(np.outer(volume, volume), 1e-300)
    return to_clusters, density, volume


def refine_labels(adjacency, terms, labels, n_clusters, *, strengths=None, max_iter=30, tol=1e-4):
    """Improve labels by mean-field steps of a block model with degrees and attributes.

    An edge between i and j has a Poisson weight of mean ``d_i d_j B[k_i, k_j]``, an attribute of i
    a distribution of its own in each cluster. Soft assignments and parameters are updated in turn,
    in time linear in edges.

    Parameters
    ----------
    adjacency : csr_array of shape (n, n)
        Symmetric, without attribute vertices.
    terms : list of callable
        Each takes soft assignments and returns the log likelihood of what is known of each vertex
        in each cluster; see ``_node_terms``.
    labels : ndarray of shape (n,)
        Where to start.
    n_clusters : int
        Number of clusters.
    strengths : sequence of float, default=None
        What each term is multiplied by; by default 1.
    max_iter : int, default=30
        Steps at most.
    tol : float, default=1e-4
        Stop when assignments change by less than this, on average.

    Returns
    -------
    labels : ndarray of shape (n,)
        No cluster is lost: a step that would empty one is not taken.
    """
    n = adjacency.shape[0]
    strengths = np.ones(len(terms)) if strengths is None else strengths
    mean = adjacency.data.mean() if adjacency.nnz else 1.0
    adjacency = adjacency / mean  # the unit of weights must not matter
    degree = adjacency.sum(axis=1)
    soft = trusted(labels, n_clusters)
    for _ in range(max_iter):
        log_odds = np.tile(np.log((soft.sum(axis=0) + 1.0) / (n + n_clusters)), (n, 1))
        if adjacency.nnz:
            to_clusters, density, volume = block_density(adjacency, soft)
            log_odds += to_clusters @ np.log(density).T
            log_odds -= np.outer(degree, density @ volume)
        for term, strength in zip(terms, strengths):
            if strength > 0:
                log_odds += strength * term(soft)
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


def trusted(labels, n_clusters):
    """Return labels as soft assignments to begin with."""
    soft = np.full((len(labels), n_clusters), (1.0 - _TRUST) / n_clusters)
    soft[np.arange(len(labels)), labels] += _TRUST
    return soft


def foretold(adjacency, labels, n_clusters, edges):
    """Return how much likelier the block model makes edges than degrees alone (logarithms).

    The model is that of `adjacency` and `labels`; edges that are not in it are judged honestly.
    """
    one_hot = np.eye(n_clusters)[labels]
    between = one_hot.T @ (adjacency @ one_hot)
    # Half an edge more between any two clusters, in the mean weight of edges.
    between = between / (adjacency.data.mean() if adjacency.nnz else 1.0) + 0.5
    volume = between.sum(axis=1)
    logs = np.log(between * volume.sum() / np.outer(volume, volume))
    return logs[labels[edges[0]], labels[edges[1]]]


def leave_edges_out(adjacency, share, rng):
    """Return the graph without a share of its edges (both directions), and these edges."""
    upper = sparse.triu(adjacency, 1).tocoo()
    out = rng.permutation(upper.nnz)[: int(np.ceil(share * upper.nnz))]
    kept = np.ones(upper.nnz, dtype=bool)
    kept[out] = False
    rows, columns = upper.coords
    half = sparse.coo_array(
        (upper.data[kept], (rows[kept], columns[kept])), shape=adjacency.shape
    ).tocsr()
    rest = sparse.csr_array(half + half.T)
    rest.sort_indices()
    return rest, (rows[out], columns[out])


def edge_likelihood(adjacency, labels):
    """Return the log likelihood of the edges given clusters and degrees, over degrees alone."""
    one_hot = np.eye(int(labels.max()) + 1)[labels]
    mean = adjacency.data.mean() if adjacency.nnz else 1.0
    between = one_hot.T @ (adjacency @ one_hot) / mean
    volume = between.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gains = between * np.log(between * volume.sum() / np.outer(volume, volume))
    return 0.5 * float(np.nansum(gains))


def description_score(adjacency, labels):
    """Return log likelihood of the edges less the price of labels and parameters (ICL).

    What numbers of clusters are compared by.
    """
    sizes = np.bincount(labels)
    k, mean = len(sizes), adjacency.data.mean() if adjacency.nnz else 1.0
    edges = max(adjacency.sum() / (2 * mean), 2.0)
    sizes = sizes[sizes > 0]
    return (
        edge_likelihood(adjacency, labels)
        + float((sizes * np.log(sizes / len(labels))).sum())
        - k * (k + 1) / 4 * float(np.log(edges))
    )
