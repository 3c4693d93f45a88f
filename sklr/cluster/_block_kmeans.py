"""K-means of vertices together with their attributes' coordinates."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.metrics._modularity import modularity_of_codes
from sklr.utils._progress import progress
from sklr.utils._threads import thread_map
from sklr.utils._warnings import warn_user


class BlockData:
    """Samples as blocks: a vertex's own row, and one row for each of its attribute values.

    Parameters
    ----------
    rows : ndarray of shape (n, h)
        Own coordinates.
    codes : ndarray of shape (n, p)
        Which row of `values` each sample has, for each attribute.
    values : ndarray of shape (n_values, h)
        Coordinates of values, attribute by attribute.
    owner : ndarray of shape (n_values,)
        The attribute that each value belongs to.
    """

    def __init__(self, rows, codes, values, owner):
        self.rows = np.ascontiguousarray(rows)
        self.codes = np.ascontiguousarray(codes, dtype=np.int64)
        self.values = np.ascontiguousarray(values)
        self.owner = np.ascontiguousarray(owner, dtype=np.int64)

    @property
    def arrays(self):
        """What the kernels take."""
        return self.rows, self.codes, self.values, self.owner

    def centers_of(self, samples):
        """Return samples as centres, of shape (k, p + 1, h)."""
        return np.concatenate(
            [self.rows[samples][:, None], self.values[self.codes[samples]]], axis=1
        )


def block_kmeans(
    data, n_clusters, *, init, n_init, max_iter, selection, adjacency, rng, n_jobs, verbose
):
    """Return labels, inertia and iterations of the best of several restarts.

    Seeds are drawn before the restarts run, so that the number of threads changes nothing.
    """
    from sklr.cluster._block_kmeans_kernels import lloyd, plus_plus

    n = len(data.rows)
    n_trials = 2 + int(np.log(n_clusters))
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_init)

    def restart(seed):
        own = np.random.default_rng(seed)
        if init == "random":
            samples = own.integers(n, size=n_clusters)  # with replacement, as the paper's code
        else:
            draws = own.random((n_clusters - 1, n_trials))
            samples = plus_plus(*data.arrays[:3], int(own.integers(n)), draws)
        labels, inertia, n_iter = lloyd(*data.arrays, data.centers_of(samples), max_iter)
        score = modularity_of_codes(adjacency, labels) if selection == "modularity" else -inertia
        return score, labels, inertia, n_iter

    best = None
    chunk = max(1, min(n_init, 8))
    starts = range(0, n_init, chunk)
    for start in progress(starts, total=len(starts), description="k-means", verbose=verbose):
        for found in thread_map(restart, list(seeds[start : start + chunk]), n_jobs):
            if best is None or found[0] > best[0]:
                best = found
    _, labels, inertia, n_iter = best
    return labels, float(inertia), int(n_iter)


def contiguous(labels, n_clusters):
    """Number the clusters that occur from 0, warning when they are fewer than asked for."""
    found, labels = np.unique(labels, return_inverse=True)
    if len(found) < n_clusters:
        warn_user(
            f"Found {len(found)} distinct clusters, fewer than n_clusters={n_clusters}: "
            "too many vertices have the same coordinates.",
            ConvergenceWarning,
        )
    return labels
