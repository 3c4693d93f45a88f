"""From rows to vertices of a graph: duplicates are one vertex, far outliers are none."""

import numpy as np
import scipy.sparse as sp

from sklr.utils._graph import clipped_neighbors
from sklr.utils._warnings import warn_user

# A point is far when its nearest neighbour is so many times as far as that one's own
# n_neighbors-th neighbour.
_FAR = 10.0
#: Up to so many points a graph of their neighbours is left for one of all pairs, and after so
#: many steps of a typical vertex heat is looked at.
FEW = 100
FEW_STEPS = 5.0


def distinct_rows(X):
    """Return the numbers of the first of each set of equal rows, in order, and each row's set.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        The rows; for a matrix of distances equal rows are points at distance zero.

    Returns
    -------
    first : ndarray of shape (n_distinct,)
        Row numbers.
    vertex : ndarray of shape (n,)
        Position in `first` of each row.
    """
    _, first, vertex = np.unique(X, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return first[order], place[vertex.ravel()]


def usable_neighbors(n_neighbors, n_points):
    """Return how many neighbours make a graph whose edges still say who is near.

    Where everybody is everybody's neighbour all distances are one edge. A third of the points is
    the most that is taken, with a warning; up to 100 points :func:`few_points_affinity` stands
    for such a graph.
    """
    n_neighbors = clipped_neighbors(n_neighbors, n_points)
    most = max(2, (n_points - 1) // 3)
    if n_points <= FEW or n_neighbors <= most:
        return n_neighbors
    if n_neighbors < n_points - 1:
        warn_user(
            f"n_neighbors={n_neighbors} joins most of the {n_points} distinct points, which "
            f"leaves no distances in the graph; {most} are taken."
        )
    return most


def are_few(n_neighbors, points):
    """Return whether a graph of so many neighbours would join most of few, distinct points."""
    n_points = len(points)
    few = 2 < n_points <= FEW and n_neighbors > (n_points - 1) // 3
    return few and not (points == points[0]).all()


def few_points_affinity(D):
    """Gaussian affinity exp(-d^2 / (e_i e_j)) of all pairs, e_i the distance to a near point.

    Near is the fifth neighbour, and from twenty points on the one after a quarter of all.

    Parameters
    ----------
    D : ndarray of shape (n, n)
        Distances of distinct points.

    Returns
    -------
    affinity : csr_array of shape (n, n)
        Its heat after :data:`FEW_STEPS` steps falls with the distance as a Gaussian does.
    """
    size = np.sort(D, axis=1)[:, min(max(5, len(D) // 4), len(D) - 1)]
    W = np.exp(-(D / size) * (D / size[:, None]))
    np.fill_diagonal(W, 0.0)
    return sp.csr_array(W)


def far_from_all(distances, indices, n_neighbors):
    """Return which points are far outliers, by the distances to their nearest neighbours.

    Parameters
    ----------
    distances, indices : ndarray of shape (n, k)
        Nearest neighbours, k at least `n_neighbors`.
    n_neighbors : int
        Whose distance is the scale at a neighbour.

    Returns
    -------
    far : ndarray of bool, shape (n,)
        The outliers: far from their nearest neighbour, or, where a few stand beside each other,
        from all neighbours that are none of these few.
    ratio : float
        By how many sizes of their neighbours' neighbourhoods they are off, at most.
    """
    k = n_neighbors
    size = distances[:, k - 1][indices[:, :k]]
    ratio = np.divide(distances[:, :k], size, out=np.zeros(size.shape), where=size > 0)
    far = ratio[:, 0] > _FAR
    if k >= 3:
        far |= (ratio[:, k // 3 :] > _FAR).all(axis=1)
    return far, float(ratio[far].max(initial=0.0))


def warn_of_far(rows, ratio, placed):
    """Warn of far outliers, given their row numbers and how far the farthest is."""
    shown = ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
    warn_user(
        f"{len(rows)} {'point is' if len(rows) == 1 else 'points are'} far from all others (row "
        f"{shown}; the distance to a neighbour is up to {ratio:.3g} times the size of that one's "
        f"own neighbourhood). {placed}"
    )
