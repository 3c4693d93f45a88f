"""How much of a difference is taken for rounding: one place, by the precision of the numbers."""

import numpy as np

from sklr.utils._graph import rounding_tolerance


def rounding_of(values):
    """Return the largest difference between numbers that is taken for rounding.

    Parameters
    ----------
    values : ndarray
        The numbers. Doubles that are all single-precision numbers are taken for such.

    Returns
    -------
    tolerance : float
        A share of the largest of them in absolute value.
    """
    if not values.size:
        return 0.0
    largest = float(np.abs(values).max())
    dtype = values.dtype
    if dtype == np.float64 and largest < np.finfo(np.float32).max:
        with np.errstate(under="ignore"):
            if (values.astype(np.float32) == values).all():
                dtype = np.dtype(np.float32)
    return rounding_tolerance(dtype) * largest
