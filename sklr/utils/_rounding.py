"""How much of a difference is taken for rounding: one place, by the precision of the numbers."""

import numpy as np

#: Share of the largest entry, by precision.
_DOUBLE = 1e-8
_SINGLE = 1e-5


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
    single = values.dtype.kind == "f" and values.dtype.itemsize < 8
    if not single and values.dtype.kind == "f" and largest < np.finfo(np.float32).max:
        with np.errstate(under="ignore"):
            single = bool((values.astype(np.float32) == values).all())
    return (_SINGLE if single else _DOUBLE) * largest
