"""Ways between the ends of an edge, at most so many edges long (Numba)."""

import numpy as np

from sklr.utils._compile import njit


@njit
def far_apart(indptr, indices, first, second, n_hops, seen, queue, out):
    """Say of each pair of vertices whether no way of fewer than `n_hops` edges joins them.

    Parameters
    ----------
    indptr, indices : ndarray of int32
        The graph, as in a CSR matrix.
    first, second : ndarray of shape (n_pairs,)
        The pairs.
    n_hops : int
        Number of edges.
    seen, queue : ndarray of shape (n_vertices,)
        Scratch of integers; all entries of `seen` are -1.
    out : ndarray of shape (n_pairs,)
        Result.
    """
    for pair in range(len(first)):
        seen[first[pair]] = pair
        queue[0] = first[pair]
        begin, end, found = 0, 1, False
        for _ in range(n_hops - 1):
            last = end
            for at in range(begin, last):
                for p in range(indptr[queue[at]], indptr[queue[at] + 1]):
                    j = indices[p]
                    if seen[j] != pair:
                        seen[j] = pair
                        queue[end] = j
                        end += 1
            begin = last
            found = seen[second[pair]] == pair
            if found or begin == end:
                break
        out[pair] = not found


def _warm_up():
    indptr, indices = np.array([0, 1, 2], dtype=np.int32), np.array([1, 0], dtype=np.int32)
    pair = np.array([0]), np.array([1])
    far_apart(
        indptr, indices, *pair, 3, np.full(2, -1), np.empty(2, dtype=np.int64), np.empty(1, bool)
    )
