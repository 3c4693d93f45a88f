"""Distances between two laws, each known by a weighted sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse, stats
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from sklr.transport import sinkhorn_newton
from sklr.utils._validation import check_array

# Entries of a block of distances.
_BLOCK = 2**22
# Samples of equal size and weights are matched by assignment up to this size; it is exact, and
# takes some seconds there.
_MOST_ASSIGNED = 2000
# Pairs up to which one linear program takes them all.
_ALL_PAIRS = 2**13
# The plan that says where an exact one can have mass: its regularisation as a share of the
# largest distance, and how many of them an entry may be above the potentials.
_REG, _NEAR = 1e-3, 8.0
# Rounds of entries that were missing, and what counts as one, as a share of the largest distance.
_MOST_ROUNDS, _SLACK = 50, 1e-9


def energy_distance(X: Any, Y: Any, *, a: Any = None, b: Any = None) -> float:
    r"""Energy distance between two samples.

    :math:`\sqrt{2 E|x - y| - E|x - x'| - E|y - y'|}` for Euclidean distances: zero only between
    equal laws. In one dimension it is :func:`scipy.stats.energy_distance`.

    Parameters
    ----------
    X : array-like of shape (n, n_features) or (n,)
        First sample.
    Y : array-like of shape (m, n_features) or (m,)
        Second sample.
    a : array-like of shape (n,), default=None
        Weights of `X`, not negative; their sum does not matter. None is uniform.
    b : array-like of shape (m,), default=None
        Weights of `Y`.

    Returns
    -------
    distance : float
        Energy distance, in the square root of the unit of the samples.

    Raises
    ------
    ValueError
        Samples of different widths, or that are not finite; weights that are negative, all zero or
        of the wrong shape.

    See Also
    --------
    wasserstein_distance_nd : How far mass has to be moved.
    scipy.stats.energy_distance : Of numbers.

    Notes
    -----
    Costs O((n + m)^2 n_features) and the memory of a block of distances.

    References
    ----------
    .. [1] G. J. Szekely and M. L. Rizzo, "Energy statistics: a class of statistics based on
       distances", J. Stat. Plan. Inference 143 (2013), doi:10.1016/j.jspi.2013.03.018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import energy_distance
    >>> X = np.random.default_rng(0).standard_normal((200, 3))
    >>> energy_distance(X, X)
    0.0
    >>> energy_distance(X, X + 2) > energy_distance(X, X + 1)
    True
    """
    X, Y, a, b = _samples(X, Y, a, b)
    unit = _unit(X, Y)
    X, Y = X / unit, Y / unit
    between, first, second = _mean(X, Y, a, b), _mean(X, X, a, a), _mean(Y, Y, b, b)
    squared = 2 * between - first - second
    # Rounding of the three sums.
    if squared <= 1e-14 * (between + first + second):
        return 0.0
    return float(np.sqrt(squared * unit))


def wasserstein_distance_nd(X: Any, Y: Any, *, a: Any = None, b: Any = None) -> float:
    r"""Wasserstein-1 distance between two samples, exactly.

    The least mean Euclidean distance over which mass has to be moved to make one sample of the
    other: :math:`\min_P \sum_{ij} P_{ij} |x_i - y_j|` over plans with the weights as sums.

    Parameters
    ----------
    X : array-like of shape (n, n_features) or (n,)
        First sample.
    Y : array-like of shape (m, n_features) or (m,)
        Second sample.
    a : array-like of shape (n,), default=None
        Weights of `X`, not negative; their sum does not matter. None is uniform.
    b : array-like of shape (m,), default=None
        Weights of `Y`.

    Returns
    -------
    distance : float
        Wasserstein-1 distance, in the unit of the samples.

    Raises
    ------
    ValueError
        Samples of different widths, or that are not finite; weights that are negative, all zero or
        of the wrong shape.
    RuntimeError
        The linear program was not solved.

    See Also
    --------
    energy_distance : Quicker.
    sklr.transport.transport_distance : With entropy, for large samples.
    scipy.stats.wasserstein_distance_nd : The same by one linear program over all pairs.

    Notes
    -----
    One feature is sorted. Uniform samples of one size up to 2000 are matched by assignment,
    O(n^3). Others begin with an entropic plan (:func:`sklr.transport.sinkhorn_newton`), which says
    which pairs can have mass; a linear program over these is solved, and pairs that its prices show
    to be missing are added until there are none, so that the value is that of all pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import wasserstein_distance_nd
    >>> X = np.random.default_rng(0).standard_normal((50, 2))
    >>> round(wasserstein_distance_nd(X, X + [3.0, 4.0]), 6)
    5.0
    >>> wasserstein_distance_nd([[0.0], [1.0]], [[0.0]], a=[3.0, 1.0])
    0.25
    """
    X, Y, a, b = _samples(X, Y, a, b)
    if X.shape[1] == 1:
        return float(stats.wasserstein_distance(X[:, 0], Y[:, 0], a, b))
    unit = _unit(X, Y)
    C = cdist(X / unit, Y / unit)
    if len(a) == len(b) <= _MOST_ASSIGNED and np.ptp(a) == 0 and np.ptp(b) == 0:
        return float(C[linear_sum_assignment(C)].mean() * unit)
    if len(a) == 1 or len(b) == 1:
        return float(a @ C @ b * unit)
    return _transported(C, a, b) * unit


def _transported(C: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return the cost of the cheapest plan, by a linear program over the pairs that matter."""
    largest = float(C.max())
    if largest == 0:
        return 0.0
    if C.size <= _ALL_PAIRS:
        chosen = np.ones(C.shape, dtype=bool)
    else:
        x, y = sinkhorn_newton(a, b, C, reg=_REG, relative=True, tol=1e-6).potentials
        chosen = C - x[:, None] - y <= _NEAR * _REG * largest
        # A plan that fills row by row has pairs enough for any weights.
        chosen[_north_west(a, b)] = True
    for _ in range(_MOST_ROUNDS):
        rows, columns = np.nonzero(chosen)
        value, x, y = _program(C[rows, columns], rows, columns, a, b)
        missing = C - x[:, None] - y < -_SLACK * largest
        if not (missing & ~chosen).any():
            return value
        chosen |= missing
    raise RuntimeError(f"pairs were still missing after {_MOST_ROUNDS} linear programs")


def _north_west(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of the plan that fills rows and columns in their order."""
    ends = np.union1d(np.cumsum(a), np.cumsum(b))
    starts = np.r_[0.0, ends[:-1]]
    middle = 0.5 * (starts + ends)
    rows = np.searchsorted(np.cumsum(a), middle).clip(max=len(a) - 1)
    columns = np.searchsorted(np.cumsum(b), middle).clip(max=len(b) - 1)
    return rows, columns


def _program(
    costs: np.ndarray, rows: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the least cost over plans on some pairs, and the prices of rows and columns."""
    n, k = len(a), np.arange(len(costs))
    ones = np.ones(2 * len(costs))
    sums = sparse.csr_array((ones, (np.r_[rows, n + columns], np.r_[k, k])))
    # One of the sums follows from the others; a rounding there would make it infeasible.
    found = linprog(costs, A_eq=sums[:-1], b_eq=np.r_[a, b][:-1], method="highs")
    if found.status != 0:
        raise RuntimeError(f"the linear program of the transport was not solved: {found.message}")
    prices = np.r_[found.eqlin.marginals, 0.0]
    return float(found.fun), prices[:n], prices[n:]


def _samples(X: Any, Y: Any, a: Any, b: Any) -> tuple[np.ndarray, ...]:
    """Return both samples as tables, and their weights, of sum one, without those that are zero."""
    X, Y = _table(X, "X"), _table(Y, "Y")
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X and Y must have the same number of features, got {X.shape[1]} and {Y.shape[1]}"
        )
    a, b = _weights(a, len(X), "a"), _weights(b, len(Y), "b")
    return X[a > 0], Y[b > 0], a[a > 0], b[b > 0]


def _table(X: Any, name: str) -> np.ndarray:
    if np.ndim(X) == 1:
        X = np.asarray(X).reshape(-1, 1)
    return check_array(X, dtype=np.float64, input_name=name)


def _weights(weights: Any, n: int, name: str) -> np.ndarray:
    if weights is None:
        return np.full(n, 1 / n)
    weights = check_array(weights, dtype=np.float64, ensure_2d=False, input_name=name)
    if weights.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one weight a sample, got {weights.shape}")
    if weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            f"{name} must not be negative nor all zero, got values from {weights.min():.6g} to "
            f"{weights.max():.6g}"
        )
    weights = weights / weights.max()
    return weights / weights.sum()


def _unit(X: np.ndarray, Y: np.ndarray) -> float:
    """Return the size of the samples: squares of it would leave the numbers."""
    largest = float(max(np.abs(X).max(), np.abs(Y).max()))
    return largest if largest > 0 else 1.0


def _mean(X: np.ndarray, Y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean distance between two samples, a block of rows after the other."""
    size = max(1, _BLOCK // len(Y))
    rows = [slice(first, first + size) for first in range(0, len(X), size)]
    return float(sum(a[part] @ (cdist(X[part], Y) @ b) for part in rows))
