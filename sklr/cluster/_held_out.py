"""Which start of a clustering, and how much its attributes count, by edges that were left out."""

import numpy as np
from sklearn.metrics import silhouette_score

from sklr.cluster._refine import description_score, foretold, leave_edges_out, refine_labels

# What log likelihoods of attributes are multiplied by: attributes that repeat each other, and
# words that come together, count for less than one by one.
STRENGTHS = (0.0, 0.1, 0.3, 1.0)
_SHARE = 0.2
# Standard errors by which attributes must foretell edges better: several candidates are tried.
_ERRORS = 3.0
_WANTED_EDGES, _MOST_SPLITS = 1000, 10
# What attributes count beside edges where the number of clusters is chosen.
_MODERATE = 0.3
# Points of a table by whose silhouettes numbers are compared.
_MOST_POINTS = 2000
# Numbers of clusters tried.
_NUMBERS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48)


def choose_start(adjacency, starts, terms, n_clusters, rng):
    """Return the name of a start and the strength of the terms, by how well edges are foretold.

    Parameters
    ----------
    adjacency : csr_array of shape (n, n)
        Symmetric, no diagonal.
    starts : dict of callable
        Take an adjacency and return labels. "structure" is one of them, and uses edges only.
    terms : list of callable
        Log likelihoods of attributes and features.
    n_clusters : int
        Number of clusters.
    rng : RandomState
        For the edges that are left out.

    Returns
    -------
    name : str
        "structure" unless another start foretells edges better by three standard errors; another
        one, with full strength, where edges are foretold by none.
    strength : float
        One of `STRENGTHS`.
    """
    others = [name for name in starts if name != "structure"]
    cases = [("structure", 0.0)] + [(name, s) for name in others for s in STRENGTHS]
    n_edges = adjacency.nnz // 2
    if n_edges < 10:
        return others[0], 1.0
    n_splits = int(np.clip(np.ceil(_WANTED_EDGES / (_SHARE * n_edges)), 1, _MOST_SPLITS))
    scores: list = [[] for _ in cases]
    for _ in range(n_splits):
        rest, out = leave_edges_out(adjacency, _SHARE, rng)
        begun = {name: start(rest) for name, start in starts.items()}
        for found, (name, strength) in zip(scores, cases):
            labels = refine_labels(
                rest, terms, begun[name], n_clusters, strengths=[strength] * len(terms)
            )
            found.append(foretold(rest, labels, n_clusters, out))
    table = np.array([np.concatenate(found) for found in scores])
    error = 1.0 / np.sqrt(min(table.shape[1], n_edges))  # an edge counts once
    best = int(table.mean(axis=1).argmax())
    if table[best].mean() <= table[best].std() * error:
        return others[0], 1.0
    gap = table[best] - table[0]
    return cases[best] if gap.mean() > _ERRORS * gap.std() * error else cases[0]


def choose_number(adjacency, rows, terms, cluster, points=None):
    """Return a number of clusters: by the likelihood of edges less the price of parameters.

    Edges between neighbours of a table are no evidence of one another's independence: a cloud
    without clusters has many groups of near points, and likelihood finds them all. There the
    number is that of the largest mean silhouette in the table's own distances.

    Parameters
    ----------
    adjacency : csr_array of shape (n, n)
        Symmetric, no diagonal.
    rows : ndarray of shape (n, h)
        Spectral coordinates, the smoothest first.
    terms : list of callable
        Log likelihoods of attributes and features.
    cluster : callable
        Takes coordinates and a number, and returns labels.
    points : ndarray or csr_array of shape (n, n_features), default=None
        The table that the graph was made of.

    Returns
    -------
    n_clusters : int
        1 where no clusters pay, or silhouettes are negative.
    """
    best, number = 0.0, 1
    some = np.arange(len(rows))
    if len(rows) > _MOST_POINTS:
        some = np.linspace(0, len(rows) - 1, _MOST_POINTS).astype(int)
    for k in _NUMBERS:
        if k > min(rows.shape[1], len(rows) // 2):
            break
        labels = cluster(rows[:, :k], k)
        labels = refine_labels(adjacency, terms, labels, k, strengths=[_MODERATE] * len(terms))
        labels = np.unique(labels, return_inverse=True)[1]
        if points is not None:
            if 1 < len(np.unique(labels[some])) < len(some):
                score = silhouette_score(points[some], labels[some])
                if score > best + 1e-9:
                    best, number = score, k
            continue
        soft = np.eye(labels.max() + 1)[labels]
        told = sum(term.tells(soft) for term in terms if hasattr(term, "tells"))
        score = description_score(adjacency, labels) + _MODERATE * told
        if score > best:
            best, number = score, k
    return number


def most_clusters(n_samples):
    """Return how many coordinates `choose_number` can use."""
    return max(k for k in _NUMBERS if k == 2 or k <= n_samples // 2)
