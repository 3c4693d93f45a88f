"""The Newton kernel 1/r as a sum of Gaussians, from wide to narrow."""

from numbers import Real

import numpy as np

# Largest distance for which the quadrature below is meant; other ranges are carried to it.
_UNIT = np.sqrt(3.0)


def _terms(h, smallest):
    """Weights and exponents for distances from `smallest` to the square root of three."""
    t = np.sinh(h * np.arange(int(np.ceil(np.arcsinh(5.7 / smallest) / h)) + 1))
    weights = 2.0 * h / np.sqrt(np.pi) * np.sqrt(1.0 + t**2)
    weights[0] *= 0.5
    return weights, t**2


def _error(h, smallest):
    """Return the largest relative error between the two distances."""
    weights, exponents = _terms(h, smallest)
    r = np.geomspace(smallest, _UNIT, 400)
    return float(np.abs(r * (np.exp(-np.outer(r**2, exponents)) @ weights) - 1.0).max())


def newton_kernel_cp(h=None, r_min=1 / 256, r_max=_UNIT, *, tol=None):
    r"""Write 1/r as a sum of Gaussians, which are products over the coordinates.

    The integral :math:`1/r = (2 / \sqrt\pi) \int_0^\infty \exp(-r^2 t^2) dt` with t = sinh(u), by
    the trapezoidal rule with step h: exponentially close, and few terms.

    Parameters
    ----------
    h : float, default=None
        Step of the quadrature; smaller is more exact, the relative error is about
        ``10 * exp(-pi**2 / (2 * h))``. By default found from `tol`.
    r_min : float, default=1/256
        Smallest distance for which the sum holds. Below, it is finite.
    r_max : float, default=sqrt(3)
        Largest distance for which it holds.
    tol : float, default=None
        Largest relative error between the two distances, instead of `h`; 1e-7 when neither is
        given.

    Returns
    -------
    weights : ndarray of shape (n_terms,)
        Weights of the Gaussians.
    exponents : ndarray of shape (n_terms,)
        The sum is ``weights @ exp(-exponents * r**2)``. They rise: the first terms are wide and
        smooth (long range), the last are narrow (short range).

    See Also
    --------
    ChebyshevTucker.fit_cp : Compresses the long-range terms.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import newton_kernel_cp
    >>> weights, exponents = newton_kernel_cp(h=0.3)
    >>> len(weights), bool(abs(weights @ np.exp(-exponents * 0.25) - 2.0) < 1e-6)
    (28, True)
    """
    for name, value in (("r_min", r_min), ("r_max", r_max)):
        if not isinstance(value, Real) or not 0 < value < np.inf:
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}.")
    if not r_min < r_max:
        raise ValueError(f"r_min must be below r_max, got r_min={r_min} and r_max={r_max}.")
    if h is not None and tol is not None:
        raise ValueError(f"give h or tol, not both, got h={h!r} and tol={tol!r}.")
    length = r_max / _UNIT
    smallest = r_min / length
    if h is None:
        tol = 1e-7 if tol is None else tol
        if not isinstance(tol, Real) or not 1e-12 <= tol < 1:
            raise ValueError(f"tol must be a number from 1e-12 to below 1, got {tol!r}.")
        h = np.pi**2 / (2.0 * np.log(10.0 / tol)) * 1.2
        while _error(h, smallest) > tol:
            h *= 0.97
    elif isinstance(h, bool) or not isinstance(h, Real) or not 0.02 <= h <= 2:
        raise ValueError(f"h must be a number from 0.02 to 2, got {h!r}.")
    weights, exponents = _terms(float(h), smallest)
    return weights / length, exponents / length**2
