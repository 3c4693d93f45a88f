"""Assemble augmented covariances from lagged products (Numba)."""

import numpy as np

from sklr.utils._compile import inner, njit


@inner()
def _add_products(x, first, last, h, edge):
    """Add the sum of x(t) x(t + h)^T over a range of times to `edge`."""
    for t in range(first, last):
        for i in range(edge.shape[0]):
            value = x[t, i]
            for j in range(edge.shape[0]):
                edge[i, j] += value * x[t + h, j]


@njit
def assemble(signals, sums, lagged, order, lag, n_window, spare, edge, out):
    """Write the augmented scatter matrix of each trial into `out`, rows centred on their window.

    Parameters
    ----------
    signals : ndarray of shape (n_trials, n_times, n_channels)
        Trials, time first.
    sums : ndarray of shape (n_trials, n_times + 1, n_channels)
        Running sums of `signals`, from zero.
    lagged : ndarray of shape (order, n_trials, n_channels, n_channels)
        Sum over t of x(t) x(t + k * lag)^T, k = 0 .. order - 1, over all t.
    order, lag, n_window : int
        The cell, and the length of each block's window.
    spare : int
        1 if the last `lag` samples are not used (window="paper"), else 0.
    edge : ndarray of shape (n_channels, n_channels)
        Room.
    out : ndarray of shape (n_trials, order * n_channels, order * n_channels)
        Result: sums, not divided.
    """
    n_trials, n_times, n_channels = signals.shape
    for trial in range(n_trials):
        x = signals[trial]
        total = sums[trial]
        for k in range(order):
            h = k * lag
            # Block (a, a + k) lacks the terms before its window ...
            for i in range(n_channels):
                for j in range(n_channels):
                    edge[i, j] = 0.0
            for a in range(order - k):
                if a > 0:
                    _add_products(x, (a - 1) * lag, a * lag, h, edge)
                row, column = a * n_channels, (a + k) * n_channels
                for i in range(n_channels):
                    for j in range(n_channels):
                        out[trial, row + i, column + j] = lagged[k, trial, i, j] - edge[i, j]
            # ... and those after it, which are most for the first block.
            for i in range(n_channels):
                for j in range(n_channels):
                    edge[i, j] = 0.0
            n_cut = 0
            for a in range(order - k - 1, -1, -1):
                wanted = (order - k - a - 1 + spare) * lag
                _add_products(x, n_times - h - wanted, n_times - h - n_cut, h, edge)
                n_cut = wanted
                row, column = a * n_channels, (a + k) * n_channels
                for i in range(n_channels):
                    for j in range(n_channels):
                        out[trial, row + i, column + j] -= edge[i, j]
                start = (a + k) * lag
                for i in range(n_channels):
                    left = (total[a * lag + n_window, i] - total[a * lag, i]) / n_window
                    for j in range(n_channels):
                        right = total[start + n_window, j] - total[start, j]
                        out[trial, row + i, column + j] -= left * right
                if k > 0:
                    for i in range(n_channels):
                        for j in range(n_channels):
                            out[trial, column + j, row + i] = out[trial, row + i, column + j]
        # The diagonal blocks' two triangles were summed in different orders.
        for a in range(order):
            row = a * n_channels
            for i in range(n_channels):
                for j in range(i):
                    out[trial, row + i, row + j] = out[trial, row + j, row + i]


def _warm_up():
    signals = np.arange(16.0).reshape(1, 8, 2)
    sums = np.zeros((1, 9, 2))
    lagged = np.zeros((2, 1, 2, 2))
    assemble(signals, sums, lagged, 2, 1, 6, 1, np.empty((2, 2)), np.empty((1, 4, 4)))
