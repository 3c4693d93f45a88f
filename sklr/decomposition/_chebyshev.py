"""Chebyshev series along one axis: points, coefficients, derivatives, integrals."""

from numbers import Integral

import numpy as np
from numpy.polynomial import chebyshev
from scipy.fft import dct

from sklr.utils._validation import check_positive_int


def check_interval(bounds, name="bounds"):
    """Return (a, b) as floats, or say why they are no interval."""
    pair = np.asarray(bounds, dtype=np.float64)
    if pair.shape != (2,) or not np.isfinite(pair).all() or not pair[0] < pair[1]:
        raise ValueError(f"{name} must be two finite numbers a < b, got {bounds!r}.")
    return float(pair[0]), float(pair[1])


def cheb_points(m, bounds=(-1.0, 1.0)):
    r"""Chebyshev points of the second kind, ascending.

    The points :math:`-\cos(\pi j / (m - 1))`, carried to an interval. Those of m points are
    among those of 2 m - 1.

    Parameters
    ----------
    m : int
        Number of points; one point is the middle.
    bounds : pair of float, default=(-1.0, 1.0)
        The interval; with two points or more its ends are among them.

    Returns
    -------
    points : ndarray of shape (m,)
        The points.

    See Also
    --------
    cheb_values_to_coefficients : Coefficients of the polynomial through values there.

    Examples
    --------
    >>> from sklr.decomposition import cheb_points
    >>> cheb_points(3, (0, 2))
    array([0., 1., 2.])
    """
    m = check_positive_int(m, "m")
    low, high = check_interval(bounds)
    if m == 1:
        return np.array([0.5 * (low + high)])
    # The sine is odd to the last bit: symmetric points, and zero in the middle.
    unit = np.sin(np.pi * np.arange(1 - m, m, 2) / (2 * (m - 1)))
    points = np.clip(0.5 * (low + high) + 0.5 * (high - low) * unit, low, high)
    points[[0, -1]] = low, high
    return points


def cheb_values_to_coefficients(V, axis=0):
    """Chebyshev coefficients of the polynomials through values at Chebyshev points.

    Parameters
    ----------
    V : array-like
        Values at ``cheb_points(m)`` along one axis, m the length of the axis.
    axis : int, default=0
        The axis.

    Returns
    -------
    coefficients : ndarray of the shape of V
        Coefficients of the Chebyshev polynomials of the first kind of degree 0 to m - 1.

    See Also
    --------
    cheb_points : The points.
    numpy.polynomial.chebyshev.chebinterpolate : The same for a function of one variable, at
        points of the first kind.

    Examples
    --------
    >>> from sklr.decomposition import cheb_points, cheb_values_to_coefficients
    >>> cheb_values_to_coefficients(4 * cheb_points(5) ** 3).round(12) + 0.0
    array([0., 3., 0., 1., 0.])
    """
    V = np.asarray(V)
    if V.dtype.kind not in "fc":
        V = V.astype(np.float64)
    if isinstance(axis, bool) or not isinstance(axis, Integral) or not -V.ndim <= axis < V.ndim:
        raise ValueError(f"axis must be an axis of V, which has {V.ndim}, got {axis!r}.")
    m = V.shape[axis]
    if m == 0:
        raise ValueError(f"V has no values along axis {axis}, shape {V.shape}.")
    if m == 1:
        return V.copy()
    # The transform wants cos(pi j / (m - 1)), descending points.
    C = dct(np.flip(V, axis), type=1, axis=axis, norm=None)
    C /= m - 1
    ends = np.moveaxis(C, axis, 0)
    ends[0] *= 0.5
    ends[-1] *= 0.5
    return C


def all_coefficients(V):
    """Return coefficients along all axes of values on a tensor grid."""
    for axis in range(V.ndim):
        V = cheb_values_to_coefficients(V, axis)
    return V


def series(points, coefficients, bounds):
    """Values (n, r) at points of an interval of the series in the columns (m, r)."""
    low, high = bounds
    unit = (2.0 * points - (low + high)) / (high - low)
    return np.ascontiguousarray(chebyshev.chebval(unit, coefficients, tensor=True).T)


def tail(coefficients):
    """Return the largest coefficient (absolute) of the last tenth of the first axis, at least two.

    Even and odd functions have every second one zero: the last alone says nothing.
    """
    m = len(coefficients)
    last = max(2, m // 10)
    if m <= 2:  # too short to have a tail: all of it
        last = m
    return float(np.abs(coefficients[m - last :]).max(initial=0.0))


def differentiate(coefficients, bounds):
    """Return the coefficients of the derivative of the series in the columns, one row fewer."""
    if len(coefficients) == 1:
        return np.zeros_like(coefficients)
    return chebyshev.chebder(coefficients, axis=0) * (2.0 / (bounds[1] - bounds[0]))


def integrals(coefficients, bounds):
    """Return the integrals over the interval of the series in the columns."""
    j = np.arange(0, len(coefficients), 2)
    return 0.5 * (bounds[1] - bounds[0]) * ((2.0 / (1.0 - j**2.0)) @ coefficients[::2])


def pad_rows(coefficients, m):
    """Return the columns as series of m coefficients."""
    out = np.zeros((m, coefficients.shape[1]))
    out[: len(coefficients)] = coefficients
    return out
