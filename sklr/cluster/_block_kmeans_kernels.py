"""K-means on blocks: a vertex's own coordinates and those of its attribute values (Numba).

A sample is its row of `U` followed by one row of `V` for each attribute, found by `codes`. Rows of
`V` repeat over samples, so that distances to centres are computed once for each value.
"""

import numpy as np

from sklr.utils._compile import njit


@njit
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


@njit
def block_distances(U, codes, V, owner, centers):
    """Return squared distances of samples to centres of shape (K, p + 1, h)."""
    K, h = centers.shape[0], U.shape[1]
    out = np.empty((U.shape[0], K))
    _distances(U, codes, V, owner, centers, np.empty((V.shape[0], K)), np.empty((h, K)), out)
    return out


@njit
def _update(U, codes, V, owner, labels, nearest, centers, sizes, counts):
    """Move centres to the means; a centre without samples goes to the sample farthest off."""
    n, h = U.shape
    K = centers.shape[0]
    p = codes.shape[1]
    sizes[:] = 0
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
    counts[:] = 0
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
def lloyd(U, codes, V, owner, centers, max_iter):
    """Run Lloyd's iterations from given centres, in place; return labels, inertia, iterations."""
    n, h = U.shape
    K = centers.shape[0]
    labels = np.full(n, -1, dtype=np.int64)
    nearest = np.empty(n)
    gaps = np.empty((n, K))
    table, transposed = np.empty((V.shape[0], K)), np.empty((h, K))
    sizes = np.empty(K, dtype=np.int64)
    counts = np.empty((V.shape[0], K), dtype=np.int64)
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
    return labels, nearest.sum(), done


@njit
def _gap(U, codes, V, i, k):
    """Squared distance of two samples."""
    total = 0.0
    for d in range(U.shape[1]):
        gap = U[i, d] - U[k, d]
        total += gap * gap
    for j in range(codes.shape[1]):
        one, other = codes[i, j], codes[k, j]
        if one != other:
            for d in range(U.shape[1]):
                gap = V[one, d] - V[other, d]
                total += gap * gap
    return total


@njit
def plus_plus(U, codes, V, first, draws):
    """Return samples for first centres by greedy k-means++.

    `draws` holds uniform numbers in [0, 1), a row for each further centre. Each of a row picks a
    sample with probability proportional to its squared distance to the centres so far; the one
    that leaves the least sum of distances is taken.
    """
    n = U.shape[0]
    n_trials = draws.shape[1]
    chosen = np.empty(len(draws) + 1, dtype=np.int64)
    chosen[0] = first
    nearest = np.empty(n)
    for i in range(n):
        nearest[i] = _gap(U, codes, V, i, first)
    running = np.empty(n)
    trial, best = np.empty(n), np.empty(n)
    for c in range(len(draws)):
        total = 0.0
        for i in range(n):
            total += nearest[i]
            running[i] = total
        best_sum, pick = np.inf, -1
        for t in range(n_trials):
            at = min(np.searchsorted(running, draws[c, t] * total, side="right"), n - 1)
            left = 0.0
            for i in range(n):
                trial[i] = min(nearest[i], _gap(U, codes, V, i, at))
                left += trial[i]
            if left < best_sum:
                best_sum, pick = left, at
                best[:] = trial
        chosen[c + 1] = pick
        nearest[:] = best
    return chosen


def _warm_up():
    """Compile every kernel on a tiny input."""
    U, V = np.arange(8.0).reshape(4, 2), np.arange(4.0).reshape(2, 2)
    codes, owner = np.array([[0], [1], [0], [1]]), np.array([0, 0])
    chosen = plus_plus(U, codes, V, 0, np.array([[0.5]]))
    centers = np.stack([np.stack([U[i], V[codes[i, 0]]]) for i in chosen])
    block_distances(U, codes, V, owner, centers)
    lloyd(U, codes, V, owner, centers, 2)
