"""Ranges of columns without gross errors, which would make nearly all of a range empty."""

import numpy as np

from sklr.utils._warnings import warn_user

# Values beyond so many times the range of the middle of their column are gross errors.
_MIDDLE, _FAR = (0.05, 0.95), 20.0


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
        far = (x < q - _FAR * (r - q)) | (x > r + _FAR * (r - q))
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
