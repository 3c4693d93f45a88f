"""Values so far from all others that they are mistakes, or in another unit."""

import numpy as np

from sklr.utils._warnings import warn_user

# How far from the median, beside nine tenths of the deviations that are not zero.
_FAR, _SHARE = 1000.0, 0.9
# Values that quantiles are taken from, and how many make them mean anything.
_SAMPLE, _LEAST = 100_000, 20


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
