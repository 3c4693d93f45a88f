"""Assemble augmented covariances from lagged products (Numba)."""

import numpy as np

from sklr.utils._compile import njit


@njit
def assemble(signals, sums, lagged, order, lag, n_window, spare, out):
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
    out : ndarray of shape (n_trials, order * n_channels, order * n_channels)
        Result: sums, not divided.
    """
    n_trials, n_times, n_channels = signals.shape
    edge = np.empty((n_channels, n_channels))
    for trial in range(n_trials):
        x = signals[trial]
        total = sums[trial]
        for k in range(order):
            h = k * lag
            # Block (a, a + k) lacks the terms before its window ...
            edge[:] = 0.0
            for a in range(order - k):
                if a > 0:
                    for t in range((a - 1) * lag, a * lag):
                        for i in range(n_channels):
                            value = x[t, i]
                            for j in range(n_channels):
                                edge[i, j] += value * x[t + h, j]
                row, column = a * n_channels, (a + k) * n_channels
                for i in range(n_channels):
                    for j in range(n_channels):
                        out[trial, row + i, column + j] = lagged[k, trial, i, j] - edge[i, j]
            # ... and those after it, which are most for the first block.
            edge[:] = 0.0
            n_cut = 0
            for a in range(order - k - 1, -1, -1):
                wanted = (order - k - a - 1 + spare) * lag
                for t in range(n_times - h - wanted, n_times - h - n_cut):
                    for i in range(n_channels):
                        value = x[t, i]
                        for j in range(n_channels):
                            edge[i, j] += value * x[t + h, j]
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
    assemble(signals, sums, lagged, 2, 1, 6, 1, np.empty((1, 4, 4)))
