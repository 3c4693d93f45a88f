"""Rows before subspaces are sought: copies, weights, gross errors, offsets."""

import numpy as np

# Fewer rows say nothing of an offset.
_MANY = 20


def nonzero(X):
    """Return which rows are not zero."""
    found = X[:, 0] != 0  # mostly all of them
    others = np.flatnonzero(~found)
    found[others] = (X[others] != 0).any(axis=1)
    return found


def _all_differ(X):
    """Whether no two rows are equal, without sorting them."""
    if any(len(np.unique(column)) == len(X) for column in X.T[:3]):
        return True
    if X.shape[1] < 8:  # a row's hash costs more than its place in the order
        return False
    # Rows of equal hashes are looked at by the caller; -0. + 0. is 0.
    return len({hash((row + 0.0).tobytes()) for row in X}) == len(X)


def distinct(X, weights, enough):
    """Return rows of positive weight, their weights, and the row of each sample (-1: none).

    Samples that are equal become one row of so much more weight, in an order of their own, so that
    weights do what repetitions do. Where there are neither weights nor copies nothing is changed,
    and no index returned. Fewer than `enough` distinct rows stay as they are.
    """
    if weights is None:
        if _all_differ(X):
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
    does not depend on its length. Squared lengths come with the rows, or None.
    """
    if max_norm is None:
        return X, None
    with np.errstate(over="ignore", under="ignore"):
        total = np.einsum("ij,ij->i", X, X)
    norms = np.sqrt(total)
    if not (norms.min() > 1e-150 and norms.max() < np.inf):  # squares of all, or none
        largest = np.abs(X).max(axis=1)
        norms, total = largest * np.sqrt(((X / largest[:, None]) ** 2).sum(axis=1)), None
    median = _median(norms, weights)
    long = norms > max_norm * median
    if not long.any():
        return X, total
    X = X.copy()
    X[long] *= (median / norms[long])[:, None]
    return X, None


def offset_share(X, energy=None):
    """Return the share of the mean in the energy of the rows, which may be at hand."""
    if len(X) < _MANY:
        return 0.0
    if energy is None:
        energy = float(np.vdot(X, X))
    mean = X.mean(axis=0)
    return len(X) * float(mean @ mean) / energy if 1e-290 < energy < np.inf else 0.0
