"""Values so far from all others that they are mistakes, or in another unit."""

import numpy as np

from sklr.utils._warnings import warn_user

# How far from the median, beside nine tenths of the deviations that are not zero.
_FAR, _SHARE = 1000.0, 0.9
# Values that quantiles are taken from, and how many make them mean anything.
_SAMPLE, _LEAST = 100_000, 20
# A range is made wider by less than that: values beyond so many times the range of the middle of
# their column would leave nearly all of it empty.
_MIDDLE, _BEYOND = (0.05, 0.95), 20.0


def limits(values):
    """Least and largest value that is not gross; infinite for few values, or where most are alike.

    Parameters
    ----------
    values : ndarray of shape (n,)
        What was observed.

    Returns
    -------
    low, high : float
        The limits.
    """
    if len(values) < _LEAST:
        return -np.inf, np.inf
    some = np.asarray(values[:: max(1, len(values) // _SAMPLE)], dtype=float)
    middle = np.median(some)
    with np.errstate(over="ignore"):
        sizes = np.abs(some - middle)
    sizes = sizes[sizes > 0]
    if len(sizes) < _LEAST:
        return -np.inf, np.inf
    width = _FAR * np.quantile(sizes, _SHARE)
    return float(middle - width), float(middle + width)


def limits_of_columns(X, mask):
    """The same for each column of a table, two arrays."""
    found = [limits(X[mask[:, j], j]) for j in range(X.shape[1])]
    return np.array([low for low, _ in found]), np.array([high for _, high in found])


def warn_of_gross(count, example, where, advice):
    """Name gross values.

    Parameters
    ----------
    count : int
        How many there are.
    example : float
        The largest.
    where : str
        Where that is.
    advice : str
        What to do, or what is done.
    """
    many = "One value is" if count == 1 else f"{count} values are"
    largest = "" if count == 1 else "the largest is "
    warn_user(
        f"{many} more than {_FAR:g} times as far from the median as nine tenths of the others: "
        f"{largest}{example:.6g} in {where}. {advice}"
    )


def range_of_most(X, weights, names, consequence, columns=None):
    """Return the range of each column without values far from all others, and warn of those.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Numbers; NaN are left out.
    weights : ndarray of shape (n,)
        How often each row counts; all positive.
    names : sequence of length d
        Names of the columns, for the warning.
    consequence : str
        What is done with such values, for the warning.
    columns : sequence of int or None
        Columns that are looked at; all by default.

    Returns
    -------
    low, high : ndarray of shape (d,)
        The ranges.
    """
    low, high = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    for k in range(X.shape[1]) if columns is None else columns:
        known = ~np.isnan(X[:, k])
        x = X[known, k]
        q, r = np.quantile(x, _MIDDLE, weights=weights[known], method="inverted_cdf")
        far = (x < q - _BEYOND * (r - q)) | (x > r + _BEYOND * (r - q))
        if r == q or not far.any():
            continue
        worst = x[int(np.argmax(np.maximum(x - r, q - x)))]
        warn_user(
            f"column {names[k]!r} of X has {far.sum()} of {len(x)} values far from the others, as "
            f"{worst:.6g} in a column with 90 % in [{q:.6g}, {r:.6g}]: {consequence} Transform the "
            "column, or drop those rows."
        )
        low[k], high[k] = x[~far].min(), x[~far].max()
    return low, high
