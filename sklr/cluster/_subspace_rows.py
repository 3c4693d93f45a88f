"""Rows before subspaces are sought: copies, weights, gross errors, offsets."""

import numpy as np

# Fewer rows say nothing of an offset.
_MANY = 20


def distinct(X, weights, enough):
    """Return rows of positive weight, their weights, and the row of each sample (-1: none).

    Samples that are equal become one row of so much more weight, in an order of their own, so that
    weights do what repetitions do. Where there are neither weights nor copies nothing is changed,
    and no index returned. Fewer than `enough` distinct rows stay as they are.
    """
    if weights is None:
        if any(len(np.unique(column)) == len(X) for column in X.T[:3]):
            return X, None, None
        positive, given = np.arange(len(X)), np.ones(len(X))
    else:
        positive, given = np.flatnonzero(weights > 0), weights[weights > 0]
    rows, of_row = np.unique(X[positive], axis=0, return_inverse=True)
    of_row = of_row.ravel()
    if len(rows) < enough or (weights is None and len(rows) == len(X)):
        if weights is None:
            return X, None, None
        rows, of_row = X[positive], np.arange(len(positive))
    index = np.full(len(X), -1)
    index[positive] = of_row
    return rows, np.bincount(of_row, given), index


def _median(values, weights):
    """Return the median; with weights, that of so many repetitions."""
    if weights is None:
        return float(np.median(values))
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    middle = np.searchsorted(reached, [0.5 - 1e-12, 0.5 + 1e-12])
    return float(values[order][np.minimum(middle, len(values) - 1)].mean())


def bounded(X, max_norm, weights=None):
    """Return rows of which none is longer than `max_norm` times the median; others are that long.

    Squared energies would let a few gross errors decide over the subspaces. Where a row is nearest
    does not depend on its length.
    """
    if max_norm is None:
        return X
    with np.errstate(over="ignore", under="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", X, X))
    if not (norms.min() > 1e-150 and norms.max() < np.inf):  # squares of all, or none
        largest = np.abs(X).max(axis=1)
        norms = largest * np.sqrt(((X / largest[:, None]) ** 2).sum(axis=1))
    median = _median(norms, weights)
    long = norms > max_norm * median
    if not long.any():
        return X
    X = X.copy()
    X[long] *= (median / norms[long])[:, None]
    return X


def offset_share(X):
    """Return the share of the mean in the energy of the rows."""
    if len(X) < _MANY:
        return 0.0
    energy, mean = float(np.vdot(X, X)), X.mean(axis=0)
    return len(X) * float(mean @ mean) / energy if 1e-290 < energy < np.inf else 0.0
