"""Which start of a clustering, and how much its attributes count, by edges that were left out."""

import numpy as np

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


def choose_number(adjacency, rows, terms, cluster):
    """Return a number of clusters by the likelihood of edges less the price of parameters.

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

    Returns
    -------
    n_clusters : int
        1 where no clusters pay.
    """
    best, number = 0.0, 1
    for k in _NUMBERS:
        if k > min(rows.shape[1], len(rows) // 2):
            break
        labels = cluster(rows[:, :k], k)
        labels = refine_labels(adjacency, terms, labels, k, strengths=[_MODERATE] * len(terms))
        labels = np.unique(labels, return_inverse=True)[1]
        soft = np.eye(labels.max() + 1)[labels]
        told = sum(term.tells(soft) for term in terms if hasattr(term, "tells"))
        score = description_score(adjacency, labels) + _MODERATE * told
        if score > best:
            best, number = score, k
    return number


def most_clusters(n_samples):
    """Return how many coordinates `choose_number` can use."""
    return max(k for k in _NUMBERS if k == 2 or k <= n_samples // 2)
