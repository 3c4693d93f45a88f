"""K-means of vertices together with their attributes' coordinates.

A sample is its row of `U` followed by one row of `V` for each attribute, found by `codes`. Rows of
`V` repeat over samples, so that products with centres are computed once for each value.
"""

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from sklr.metrics._modularity import modularity_of_codes
from sklr.utils._progress import progress
from sklr.utils._threads import thread_map
from sklr.utils._warnings import warn_user

# Distances, samples times centres, that restarts which run together may hold.
_TOGETHER = 200_000


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
    n = len(data.rows)
    n_trials = 2 + int(np.log(n_clusters))
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_init)

    def restarts(seeds):
        starts = []
        for seed in seeds:
            own = np.random.default_rng(seed)
            if init == "random":
                samples = own.integers(n, size=n_clusters)  # with replacement: the paper's code
            else:
                draws = own.random((n_clusters - 1, n_trials))
                samples = plus_plus(*data.arrays[:3], int(own.integers(n)), draws)
            starts.append(data.centers_of(samples))
        labels, inertia, n_iter = lloyd(*data.arrays, np.stack(starts), max_iter)
        if selection == "modularity":
            scores = [modularity_of_codes(adjacency, own) for own in labels]
        else:
            scores = -inertia
        at = int(np.argmax(scores))
        return scores[at], labels[at], inertia[at], n_iter[at]

    best = None
    # Small ones together: each step of NumPy is one for all of them.
    together = max(1, min(n_init, _TOGETHER // (n * n_clusters)))
    groups = [seeds[k : k + together] for k in range(0, n_init, together)]
    chunks = range(0, len(groups), 8)
    for k in progress(chunks, total=len(chunks), description="k-means", verbose=verbose):
        for found in thread_map(restarts, groups[k : k + 8], n_jobs):
            if best is None or found[0] > best[0]:
                best = found
    _, labels, inertia, n_iter = best
    return labels, float(inertia), int(n_iter)


def lloyd(U, codes, V, owner, centers, max_iter):
    """Run Lloyd's iterations from several sets of first centres at once, and move these.

    Parameters
    ----------
    U, codes, V, owner : ndarray
        The samples, see `BlockData`.
    centers : ndarray of shape (n_sets, k, p + 1, h)
        First centres, and the last.
    max_iter : int
        Updates at most.

    Returns
    -------
    labels : ndarray of shape (n_sets, n)
        Nearest centres.
    inertia : ndarray of shape (n_sets,)
        Sums of squared distances to them.
    n_iter : ndarray of shape (n_sets,)
        Updates done.
    """
    n_sets, n = len(centers), len(U)
    labels, n_iter = np.full((n_sets, n), -1), np.zeros(n_sets, dtype=int)
    moving = np.arange(n_sets)
    # The last assignment is to the last centres, hence one more than updates.
    for iteration in range(max_iter + 1):
        found = _nearest(U, codes, V, centers[moving])
        changed = (found != labels[moving]).any(axis=1)
        labels[moving] = found
        moving = moving[changed]
        if iteration == max_iter or not len(moving):
            break
        for s in moving:
            _fill_empty(U, codes, V, owner, labels[s], centers[s])
        centers[moving] = _means(U, codes, V, labels[moving], centers[moving])
        n_iter[moving] += 1
    own = [_to_own(U, codes, V, owner, *pair).sum() for pair in zip(labels, centers)]
    return labels, np.array(own), n_iter


def _nearest(U, codes, V, centers):
    """Nearest centre of each sample: that of the largest product less half its square."""
    n_sets, k = centers.shape[:2]
    flat = centers.reshape(n_sets * k, *centers.shape[2:])
    closeness = U @ flat[:, 0].T
    for j, column in enumerate(codes.T):
        closeness += (V @ flat[:, 1 + j].T)[column]
    closeness -= 0.5 * np.einsum("kjd,kjd->k", flat, flat)
    return closeness.reshape(len(U), n_sets, k).argmax(axis=2).T


def _to_own(U, codes, V, owner, labels, centers):
    """Squared distances to the centres that the labels name."""
    gaps = U - centers[labels, 0]
    total = np.einsum("ij,ij->i", gaps, gaps)
    gaps = V[:, None] - centers[:, 1:].transpose(1, 0, 2)[owner]
    of_values = np.einsum("vkd,vkd->vk", gaps, gaps)
    for column in codes.T:
        total += of_values[column, labels]
    return total


def _fill_empty(U, codes, V, owner, labels, centers):
    """Give each centre without samples the one farthest from its own, unless that is on it."""
    sizes = np.bincount(labels, minlength=len(centers))
    if sizes.all():
        return
    far_off = _to_own(U, codes, V, owner, labels, centers)
    for k in np.flatnonzero(sizes == 0):
        far = np.where(sizes[labels] > 1, far_off, 0.0).argmax()
        if sizes[labels[far]] == 1 or far_off[far] <= 0.0:
            break  # fewer distinct samples than centres
        sizes[labels[far]] -= 1
        labels[far], sizes[k], far_off[far] = k, 1, 0.0


def _means(U, codes, V, labels, centers):
    """Means of the samples of each set's labels; a centre without samples stays."""
    n_sets, n = labels.shape
    k = centers.shape[1]
    places = labels + k * np.arange(n_sets)[:, None]
    sizes = np.bincount(places.ravel(), minlength=n_sets * k)
    members = sparse.csr_array(
        (np.ones(n_sets * n), places.T.ravel(), np.arange(0, n_sets * n + 1, n_sets)),
        shape=(n, n_sets * k),
    )
    sums = np.empty((n_sets * k, *centers.shape[2:]))
    sums[:, 0] = members.T @ U
    for j, column in enumerate(codes.T):
        pairs = (places * len(V) + column).ravel()
        counts = np.bincount(pairs, minlength=n_sets * k * len(V))
        sums[:, 1 + j] = counts.reshape(-1, len(V)) @ V
    sums /= np.maximum(sizes, 1)[:, None, None]
    means = sums.reshape(centers.shape)
    return np.where((sizes > 0).reshape(n_sets, k, 1, 1), means, centers)


def _gaps(U, codes, V, sample):
    """Squared distances of all samples to one: NumPy's, each value's distance taken once."""
    gaps = U - U[sample]
    total = np.einsum("ij,ij->i", gaps, gaps)
    for column, own in zip(codes.T, codes[sample]):
        gaps = V - V[own]
        total += np.einsum("ij,ij->i", gaps, gaps)[column]
    return total


def plus_plus(U, codes, V, first, draws):
    """Return samples for first centres by greedy k-means++.

    `draws` holds uniform numbers in [0, 1), a row for each further centre. Each of a row picks a
    sample with probability proportional to its squared distance to the centres so far; the one
    that leaves the least sum of distances is taken.
    """
    chosen = [first]
    nearest = _gaps(U, codes, V, first)
    for row in draws:
        running = np.cumsum(nearest)
        places = np.searchsorted(running, row * running[-1], side="right")
        best_sum, pick, best = np.inf, -1, nearest
        for at in np.minimum(places, len(U) - 1):
            trial = np.minimum(nearest, _gaps(U, codes, V, at))
            left = trial.sum()
            if left < best_sum:
                best_sum, pick, best = left, at, trial
        chosen.append(pick)
        nearest = best
    return np.array(chosen)


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
