"""Stress of a layout: stochastic descent over pairs, and placing of points (Numba)."""

import math

import numpy as np

from sklr.utils._compile import njit


@njit(fastmath={"contract"})
def stress_descent(D, weights, weighted, order, shifts, step, Y, wanted):
    """Go once through pairs and move each towards its distance; `Y` is changed.

    Parameters
    ----------
    D : ndarray of shape (n, n)
        Wanted distances.
    weights : ndarray of shape (n, n)
        Weights of the pairs; not looked at unless `weighted`.
    weighted : bool
        Whether there are weights.
    order : ndarray of shape (n,)
        Permutation of the points.
    shifts : ndarray of shape (n_shifts,)
        Of 1 .. n // 2, in any order; all of them are all pairs: with shift s the points order[i]
        and order[i + s] meet.
    step : float
        Share of the way that a pair of weight one goes, at most all of it.
    Y : ndarray of shape (n, n_components)
        The layout.
    wanted : ndarray of shape (n,)
        Room.
    """
    n, dim = Y.shape
    for s in shifts:
        # The last shift of an even number would meet each pair twice.
        count = n // 2 if 2 * s == n else n
        # Read from all over the table first: moves wait for one another, reads need not.
        for a in range(count):
            wanted[a] = D[order[a], order[a + s if a + s < n else a + s - n]]
        for a in range(count):
            b = a + s
            if b >= n:
                b -= n
            i, j = order[a], order[b]
            mu = step * weights[i, j] if weighted else step
            if mu > 1.0:
                mu = 1.0
            square = 0.0
            for c in range(dim):
                gap = Y[i, c] - Y[j, c]
                square += gap * gap
            length = math.sqrt(square)
            if length < 1e-300:
                continue
            move = 0.5 * mu * (length - wanted[a]) / length
            for c in range(dim):
                part = move * (Y[i, c] - Y[j, c])
                Y[i, c] -= part
                Y[j, c] += part


def place(D, weights, weighted, anchors, max_iter, tol, Y):
    """Move each point to where its distances to the anchors fit best; `Y` is changed.

    Each step goes to the minimum of a majorising parabola, so that the stress never grows.

    Parameters
    ----------
    D : ndarray of shape (n, m)
        Wanted distances to the anchors.
    weights : ndarray of shape (n, m)
        Weights; not looked at unless `weighted`.
    weighted : bool
        Whether there are weights.
    anchors : ndarray of shape (m, n_components)
        Positions of the anchors.
    max_iter : int
        Largest number of steps.
    tol : float
        A point rests when it moves by less than this.
    Y : ndarray of shape (n, n_components)
        Start, and result.
    """
    _place(D, weights, weighted, anchors, max_iter, tol, Y, np.empty(Y.shape[1]))


@njit(fastmath={"contract"})
def _place(D, weights, weighted, anchors, max_iter, tol, Y, new):
    n, dim = Y.shape
    m = len(anchors)
    for i in range(n):
        for _ in range(max_iter):
            for c in range(dim):
                new[c] = 0.0
            total = 0.0
            for j in range(m):
                square = 0.0
                for c in range(dim):
                    gap = Y[i, c] - anchors[j, c]
                    square += gap * gap
                w = weights[i, j] if weighted else 1.0
                ratio = D[i, j] / math.sqrt(square) if square > 1e-300 else 0.0
                for c in range(dim):
                    new[c] += w * (anchors[j, c] + ratio * (Y[i, c] - anchors[j, c]))
                total += w
            if total <= 0.0:
                break
            moved = 0.0
            for c in range(dim):
                value = new[c] / total
                moved += (value - Y[i, c]) ** 2
                Y[i, c] = value
            if moved < tol * tol:
                break


def _warm_up():
    D = np.ones((3, 3))
    Y = np.eye(3)[:, :2].copy()
    order = np.arange(3)
    stress_descent(D, D, False, order, np.array([1]), 0.5, Y, np.empty(3))
    place(D, D, False, Y.copy(), 2, 1e-6, Y)
