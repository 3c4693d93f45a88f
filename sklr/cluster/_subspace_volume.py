"""Tell partitions apart that all fit exactly: those of few samples, by their volumes."""

import numpy as np

from sklr.cluster._subspace_init import unit_rows

# Added to the Gram matrices of unit rows: those of equal samples are singular.
_RIDGE = 1e-10


def determinant_ratios(P, Q, lengths):
    """Determinants of a group's Gram matrix with one member replaced, beside what it has.

    `P` is the inverse of the Gram matrix (m, m), `Q` the inner products with those who may come
    (m, n), `lengths` their squared lengths. Entry (i, j) is for j in the place of i.
    """
    moved = P @ Q
    free = lengths - np.einsum("ij,ij->j", Q, moved)
    return np.diag(P)[:, None] * free + moved**2


def exchange_descent(gram, labels, n_clusters, max_iter):
    """Exchange pairs of samples, the best pair first, while the clusters' volumes fall.

    Returns labels, and the sum of the logarithms of the Gram matrices' determinants.
    """
    labels = labels.copy()
    groups = [np.flatnonzero(labels == k) for k in range(n_clusters)]
    inverses = [np.linalg.inv(gram[np.ix_(g, g)]) for g in groups]
    best = {}
    stale = {(a, b) for b in range(n_clusters) for a in range(b)}
    for _ in range(max_iter):
        for a, b in stale:
            if not (len(groups[a]) and len(groups[b])):
                continue
            Q = gram[np.ix_(groups[a], groups[b])]
            here = determinant_ratios(inverses[a], Q, np.diag(gram)[groups[b]])
            there = determinant_ratios(inverses[b], Q.T, np.diag(gram)[groups[a]])
            gain = here * there.T
            where = np.unravel_index(gain.argmin(), gain.shape)
            best[a, b] = gain[where], where
        pair = min(best, key=lambda pair: best[pair][0], default=None)
        if pair is None or not best[pair][0] < 1 - 1e-9:
            break
        (a, b), (i, j) = pair, best[pair][1]
        groups[a][i], groups[b][j] = groups[b][j], groups[a][i]
        for k in pair:
            labels[groups[k]] = k
            inverses[k] = np.linalg.inv(gram[np.ix_(groups[k], groups[k])])
        stale = {other for other in best if a in other or b in other}
    volume = sum(np.linalg.slogdet(gram[np.ix_(g, g)])[1] for g in groups)
    return labels, float(volume)


def smallest_volume(X, labels, n_clusters, *, n_random, rng, max_iter):
    """Return labels of the same sizes whose clusters span the smallest volumes.

    d samples are in a subspace of d dimensions however they are chosen, and every such partition
    explains all. But the samples of one subspace share its few dimensions and span a small
    volume, those of several span larger ones: with a spectrum for each cluster, the likelihood
    of a partition is a falling function of the sum of log-determinants. The descent starts
    from the labels, and where it leaves them, from `n_random` permutations of them too.
    """
    Y = unit_rows(X)  # a sample's length is in every partition's volume
    gram = Y @ Y.T + _RIDGE * np.eye(len(Y))
    best, smallest = exchange_descent(gram, labels, n_clusters, max_iter)
    if np.array_equal(best, labels):
        return labels
    for _ in range(n_random):
        found, volume = exchange_descent(gram, rng.permutation(labels), n_clusters, max_iter)
        if volume < smallest - 1e-9:
            best, smallest = found, volume
    return best
