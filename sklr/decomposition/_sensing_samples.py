"""Samples of matrix sensing: their shape, their units, and which of the targets are outliers."""

import numpy as np
from scipy import sparse

from sklr.decomposition._sensing_solvers import LOWER_QUARTILE, MEDIAN
from sklr.utils._validation import as_trials_array
from sklr.utils._warnings import warn_user

OUTLIER = 3.5
# Residuals below this part of the targets' scale are never outliers, however small the others.
_EXACT = 1e-6
# Rows or columns whose entries differ by more than this in size have units of their own.
_UNITS = 10.0
# Entries that are by this larger or smaller than units of rows and columns explain.
_UNEXPLAINED = 100.0
# A mean of the samples with this many times the variance of an entry makes descent slow.
_OFFSET = 10.0


def flatten(estimator, X):
    """Return `X` with a row for each sample, and the shape of the samples if it was not flat."""
    X = as_trials_array(X)
    if sparse.issparse(X) or hasattr(X, "columns"):
        return X, None
    X = np.asarray(X)
    if X.ndim > 3:
        raise ValueError(
            f"{type(estimator).__name__} expects samples of shape (n_samples, n_rows, n_columns) "
            f"or (n_samples, n_features), got {X.ndim} dimensions, shape {X.shape}."
        )
    if X.ndim < 3:
        return X, None
    if 0 in X.shape[1:]:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
        )
    return X.reshape(len(X), -1), X.shape[1:]


def outliers(residual, scale):
    """Mark residuals beyond 3.5 robust standard deviations, and beyond what rounding leaves."""
    distance = np.abs(residual - np.median(residual))
    return distance > max(OUTLIER * robust_deviation(residual), _EXACT * scale)


def robust_deviation(residual):
    """Standard deviation of residuals that are normal but for outliers, even if most are those."""
    distance = np.abs(residual - np.median(residual))
    by_median = np.median(distance) / MEDIAN
    by_quarter = np.quantile(np.abs(residual), 0.25) / LOWER_QUARTILE
    return by_quarter if 3 * by_quarter < by_median else by_median


def in_units(X, shape, symmetric, centred, weights=None):
    """Return samples in units of their own, and these: of rows and columns, or None.

    Where entries of the samples have the size r_i c_j, samples divided by that measure the matrix
    times that, which has the same rank. Warns of other differences in size, and of a large mean.
    """
    m = X.shape[0]
    share = np.full(m, 1.0 / m) if weights is None else weights / weights.sum()
    mean = X.T @ share
    if sparse.issparse(X):
        square = X.multiply(X).T @ share
    else:
        square = np.einsum("ij,ij,i->j", X, X, share, dtype=float)
    if centred:
        left = square - mean**2
        square = np.where(left > 1e-12 * square, left, 0.0)
    square = square.reshape(shape)
    if symmetric:
        square = (square + square.T) / 2
    known = square > 0
    if not known.any():
        return X, None
    size = np.where(known, np.log(np.where(known, square, 1.0)) / 2, 0.0)
    rows, columns = np.zeros(shape[0]), np.zeros(shape[1])
    for _ in range(20):
        rows = _means(size - columns, known, axis=1)
        columns = _means(size - rows[:, None], known, axis=0)
    if symmetric:
        rows = columns = (rows + columns) / 2
    left = (size - rows[:, None] - columns)[known]
    if np.ptp(left) > np.log(_UNEXPLAINED**2):
        warn_user(
            f"Columns of X differ in size by a factor of {np.exp(np.ptp(size[known])):.2g}, which "
            "units of the rows and columns of the matrix do not explain: descent hardly sees the "
            "small ones. Divide the columns by their standard deviations if the matrix that "
            "belongs to these has low rank.",
        )
    alike = max(np.ptp(rows), np.ptp(columns)) <= np.log(_UNITS)
    if not centred:
        unit = 1.0 if alike else np.exp(np.add.outer(rows, columns)).ravel()
        _warn_of_offset(mean / unit, square.ravel() / unit**2, m)
    if alike:
        return X, None
    units = np.exp(rows - rows.mean()), np.exp(columns - columns.mean())
    if symmetric:
        units = units[0], units[0]
    inverse = (1.0 / np.multiply.outer(*units)).ravel().astype(X.dtype)
    if sparse.issparse(X):
        return sparse.csr_array(X @ sparse.diags_array(inverse)), units
    return X * inverse, units


def _means(values, known, axis):
    count = known.sum(axis=axis)
    return np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1)


def _warn_of_offset(mean, square, n_samples):
    """Warn where the samples have a mean that is large beside their spread."""
    of_mean = float(mean @ mean)
    spread = max(float(square.sum()) - of_mean, 0.0) / len(mean)
    if of_mean > (_OFFSET + 3 * len(mean) / n_samples) * spread > 0:
        warn_user(
            f"The samples have a mean matrix whose norm is {np.sqrt(of_mean / spread):.3g} times "
            "the standard deviation of their entries: descent is slow along it and may end early. "
            "Set fit_intercept=True, which takes the mean off, or centre X and y.",
        )
