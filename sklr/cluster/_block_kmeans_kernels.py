"""K-means on blocks: a vertex's own coordinates and those of its attribute values (Numba).

A sample is its row of `U` followed by one row of `V` for each attribute, found by `codes`. Rows of
`V` repeat over samples, so that distances to centres are computed once for each value.
"""

import numpy as np

from sklr.utils._compile import inner, njit


@inner()
def _distances(U, codes, V, owner, centers, table, transposed, out):
    """Write squared distances of all samples to all centres (n, K)."""
    n, h = U.shape
    K = centers.shape[0]
    p = codes.shape[1]
    for k in range(K):
        for d in range(h):
            transposed[d, k] = centers[k, 0, d]
    for v in range(V.shape[0]):
        for k in range(K):
            total = 0.0
            for d in range(h):
                gap = V[v, d] - centers[k, 1 + owner[v], d]
                total += gap * gap
            table[v, k] = total
    for i in range(n):
        for k in range(K):
            out[i, k] = 0.0
        for d in range(h):
            value = U[i, d]
            for k in range(K):  # one sum a centre: no order of summation is changed
                gap = value - transposed[d, k]
                out[i, k] += gap * gap
        for j in range(p):
            for k in range(K):
                out[i, k] += table[codes[i, j], k]


@inner()
def _update(U, codes, V, owner, labels, nearest, centers, sizes, counts):
    """Move centres to the means; a centre without samples goes to the sample farthest off."""
    n, h = U.shape
    K = centers.shape[0]
    p = codes.shape[1]
    for k in range(K):
        sizes[k] = 0
    for i in range(n):
        sizes[labels[i]] += 1
    for k in range(K):
        if sizes[k] == 0:
            far = -1
            for i in range(n):
                if sizes[labels[i]] > 1 and (far < 0 or nearest[i] > nearest[far]):
                    far = i
            if far < 0 or nearest[far] <= 0.0:
                continue  # fewer distinct samples than centres
            sizes[labels[far]] -= 1
            labels[far] = k
            sizes[k] = 1
            nearest[far] = 0.0
    for k in range(K):
        if sizes[k] > 0:
            for j in range(p + 1):
                for d in range(h):
                    centers[k, j, d] = 0.0
    for v in range(V.shape[0]):
        for k in range(K):
            counts[v, k] = 0
    for i in range(n):
        k = labels[i]
        for d in range(h):
            centers[k, 0, d] += U[i, d]
        for j in range(p):
            counts[codes[i, j], k] += 1
    for v in range(V.shape[0]):
        for k in range(K):
            if counts[v, k] > 0:
                for d in range(h):
                    centers[k, 1 + owner[v], d] += counts[v, k] * V[v, d]
    for k in range(K):
        if sizes[k] > 0:
            for j in range(p + 1):
                for d in range(h):
                    centers[k, j, d] /= sizes[k]


@njit
def _lloyd(
    U, codes, V, owner, centers, max_iter, labels, nearest, gaps, table, transposed, sizes, counts
):  # fmt: skip
    """Do what `lloyd` does, with room for everything; return the number of updates."""
    n, K = gaps.shape
    done = 0
    # The last assignment is to the last centres, hence one more than updates.
    for iteration in range(max_iter + 1):
        _distances(U, codes, V, owner, centers, table, transposed, gaps)
        changed = False
        for i in range(n):
            best = 0
            for k in range(1, K):
                if gaps[i, k] < gaps[i, best]:
                    best = k
            changed |= labels[i] != best
            labels[i] = best
            nearest[i] = gaps[i, best]
        if not changed or iteration == max_iter:
            break
        _update(U, codes, V, owner, labels, nearest, centers, sizes, counts)
        done += 1
    return done


def lloyd(U, codes, V, owner, centers, max_iter):
    """Run Lloyd's iterations from given centres, in place; return labels, inertia, iterations."""
    n, h = U.shape
    K, n_values = len(centers), len(V)
    labels, nearest = np.full(n, -1), np.empty(n)
    room = np.empty((n, K)), np.empty((n_values, K)), np.empty((h, K))
    sizes, counts = np.empty(K, np.int64), np.empty((n_values, K), np.int64)
    done = _lloyd(U, codes, V, owner, centers, max_iter, labels, nearest, *room, sizes, counts)
    return labels, nearest.sum(), done


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


def _warm_up():
    """Compile every kernel on a tiny input."""
    U, V = np.arange(8.0).reshape(4, 2), np.arange(4.0).reshape(2, 2)
    codes, owner = np.array([[0], [1], [0], [1]]), np.array([0, 0])
    centers = np.stack([np.stack([U[i], V[codes[i, 0]]]) for i in (0, 3)])
    lloyd(U, codes, V, owner, centers, 2)
