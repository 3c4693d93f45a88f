"""Sums, products and minima of functions in the Chebyshev-Tucker format: core and coefficients."""

from itertools import product

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.optimize import minimize

from sklr.decomposition._chebyshev import cheb_points, cheb_values_to_coefficients, pad_rows
from sklr.decomposition._chebyshev_tucker_build import random_points
from sklr.decomposition._tucker import MAX_CORE

# Points that starts of a minimisation are chosen from, and coordinates up to which corners are too.
_N_SAMPLED, _MOST_CORNERS = 2000, 10


def direct_sum(first, second):
    """Return core and factors of the sum of two functions."""
    (core, V), (core2, V2) = first, second
    ranks = np.add(core.shape, core2.shape)
    if np.prod(ranks, dtype=float) > MAX_CORE:
        raise ValueError(
            f"the sum has a core of {np.prod(ranks, dtype=float):.0f} entries, more than "
            f"{MAX_CORE}: round the functions first."
        )
    both = np.zeros(ranks)
    both[tuple(slice(r) for r in core.shape)] = core
    both[tuple(slice(r, None) for r in core.shape)] = core2
    factors = []
    for A, B in zip(V, V2, strict=True):
        m = max(len(A), len(B))
        factors.append(np.hstack([pad_rows(A, m), pad_rows(B, m)]))
    return both, factors


def product_format(first, second):
    """Return core and factors of the product of two functions: degrees add, ranks multiply."""
    (core, V), (core2, V2) = first, second
    ranks = np.multiply(core.shape, core2.shape)
    if np.prod(ranks, dtype=float) > MAX_CORE:
        raise ValueError(
            f"the product has a core of {np.prod(ranks, dtype=float):.0f} entries, more than "
            f"{MAX_CORE}: round the functions first."
        )
    factors = []
    for A, B in zip(V, V2, strict=True):
        m = len(A) + len(B) - 1
        nodes = cheb_points(m, (-1.0, 1.0))
        values = [chebvander(nodes, len(C) - 1) @ C for C in (A, B)]
        pairs = (values[0][:, :, None] * values[1][:, None]).reshape(m, -1)
        factors.append(cheb_values_to_coefficients(pairs))
    both = np.multiply.outer(core, core2)
    d = core.ndim
    order = [axis for k in range(d) for axis in (k, d + k)]
    both = both.transpose(order).reshape(ranks)
    return both, factors


def smallest_value(function, slopes, box, n_starts):
    """Return the smallest value that is found in a box, and where.

    Parameters
    ----------
    function, slopes : callable, list of ChebyshevTucker
        Values at points (n, d), and partial derivatives.
    box : ndarray of shape (d, 2)
        The box.
    n_starts : int
        Best points of a sample from which is descended.
    """
    points = random_points(box, _N_SAMPLED, np.random.default_rng(1))
    if len(box) <= _MOST_CORNERS:
        points = np.concatenate([points, np.array(list(product(*box)))])
    points = np.clip(points, *box.T)

    def value(x):
        return float(function(np.clip(x, *box.T)[None])[0])

    def gradient(x):
        x = np.clip(x, *box.T)[None]
        return np.array([float(slope.predict(x)[0]) for slope in slopes])

    best = points[np.argsort(function(points), kind="stable")[:n_starts]]
    ends = [minimize(value, x, jac=gradient, bounds=box, method="L-BFGS-B") for x in best]
    winner = min(ends, key=lambda end: end.fun)
    return float(winner.fun), np.clip(winner.x, *box.T)
