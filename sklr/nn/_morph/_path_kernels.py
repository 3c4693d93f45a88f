"""Short paths through points: nearest neighbours, then exchanges of two edges, moves of parts."""

import numpy as np

from sklr.utils._compile import njit


def nearest_path(D, start, path):
    """Write the path that goes to the nearest point left, from a start; return its length."""
    return _nearest(D, start, path, np.ones(len(D), np.bool_))


@njit
def _nearest(D, start, path, left):
    n = len(left)
    path[0] = start
    left[start] = False
    length = 0.0
    for k in range(1, n):
        row = D[path[k - 1]]
        best = -1
        for j in range(n):
            if left[j] and (best < 0 or row[j] < row[best]):
                best = j
        length += row[best]
        path[k] = best
        left[best] = False
    return length


@njit
def _edge(D, path, a, b):
    """Length of the edge between places `a` and `b`; beyond the ends it is nothing."""
    if a < 0 or b >= len(path):
        return 0.0
    return D[path[a], path[b]]


@njit
def _reverse(path, i, j):
    while i < j:
        kept = path[i]
        path[i] = path[j]
        path[j] = kept
        i += 1
        j -= 1


@njit
def _exchange(D, path, tiny):
    """Reverse every part whose reversal shortens the path (2-opt); return what was gained."""
    n = len(path)
    gained = 0.0
    for i in range(n - 1):
        for j in range(i + 1, n):
            before = _edge(D, path, i - 1, i) + _edge(D, path, j, j + 1)
            after = 0.0
            if i > 0:
                after += D[path[i - 1], path[j]]
            if j < n - 1:
                after += D[path[i], path[j + 1]]
            if before - after > tiny:
                _reverse(path, i, j)
                gained += before - after
    return gained


@njit
def _move(D, path, tiny):
    """Put parts of one to three points elsewhere, either way round (Or-opt); return the gain."""
    n = len(path)
    gained = 0.0
    for size in range(1, min(3, n - 1) + 1):
        for i in range(n - size + 1):
            j = i + size - 1
            joined = 0.0
            if i > 0 and j < n - 1:
                joined = D[path[i - 1], path[j + 1]]
            out = _edge(D, path, i - 1, i) + _edge(D, path, j, j + 1) - joined
            best = tiny
            place = -1
            turned = False
            for k in range(-1, n):  # between k and k + 1
                if i - 1 <= k <= j:
                    continue
                edge = _edge(D, path, k, k + 1)
                plain = 0.0
                other = 0.0
                if k >= 0:
                    plain += D[path[k], path[i]]
                    other += D[path[k], path[j]]
                if k < n - 1:
                    plain += D[path[j], path[k + 1]]
                    other += D[path[i], path[k + 1]]
                if out - (plain - edge) > best:
                    best = out - (plain - edge)
                    place, turned = k + 1, False
                if out - (other - edge) > best:
                    best = out - (other - edge)
                    place, turned = k + 1, True
            if place >= 0:
                gained += best
                # Three reversals turn the part past what stands between.
                if place <= i:
                    _reverse(path, place, i - 1)
                    _reverse(path, i, j)
                    _reverse(path, place, j)
                    if turned:
                        _reverse(path, place, place + size - 1)
                else:
                    _reverse(path, i, j)
                    _reverse(path, j + 1, place - 1)
                    _reverse(path, i, place - 1)
                    if turned:
                        _reverse(path, place - size, place - 1)
    return gained


@njit
def shorten(D, path, n_sweeps, tiny):
    """Shorten a path in place until nothing helps, or the sweeps are over."""
    for _ in range(n_sweeps):
        gained = _exchange(D, path, tiny)
        gained += _move(D, path, tiny)
        if gained <= tiny:
            return True
    return False


def _warm_up():
    D = np.abs(np.arange(4.0)[:, None] - np.arange(4.0))
    path = np.empty(4, np.int64)
    nearest_path(D, 1, path)
    shorten(D, path, 2, 1e-12)
