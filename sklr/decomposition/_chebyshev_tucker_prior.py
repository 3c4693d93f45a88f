"""How strong the ridge of a Chebyshev-Tucker regression should be: by the evidence of the data.

The ridge is a Gaussian prior on the coefficients of the whole function, and without a bound on the
rank the function is a Gaussian process: its evidence is known in closed form, whatever the rank of
the fit that follows.
"""

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.linalg import eigh

# Penalties of a degree over that of the degree below: the smallest is for functions that interact
# in all columns, the largest leaves little more than a linear model.
DEGREE_PENALTIES = (1.6, 3.0, 6.0, 16.0, 64.0)
# Ridges beside a prior variance of one, and rows that are looked at.
_ALPHAS = np.logspace(-12, 4, 49)
_MOST_ROWS = 800
# Rows nearer than so much of the distance between neighbours, with targets that differ by less than
# so much of their size, are copies.
NEAR, _SAME = 0.01, 1e-3


def penalties_of_degrees(m, degree_penalty, largest=1e12):
    """Return the penalty of each degree: it grows as smooth functions' coefficients fall."""
    return np.minimum(degree_penalty ** np.arange(m, dtype=float), largest)


def prior_covariance(points, degrees, degree_penalty):
    """Return the covariance of a function's values under the prior, and its mean variance.

    The constant has a variance of its own size: y is centred, or said to be large.
    """
    K = np.ones((len(points), len(points)))
    for k, m in enumerate(degrees):
        B = chebvander(points[:, k], m - 1)
        K *= (B / penalties_of_degrees(m, degree_penalty)) @ B.T
    return K


def _without_copies(points, y, weights):
    """Return distinct rows, weights of mean one, their divisor, and whether points come again.

    A row that is there again, target and all, is a copy and no second measurement, and taken for
    one it would say that there is no noise. Where a point has several targets they are
    measurements, and nothing is changed.
    """
    rows, index = np.unique(np.column_stack([points, y]), axis=0, return_inverse=True)
    if len(np.unique(rows[:, :-1], axis=0)) < len(rows):
        return points, y, weights, 1.0, True
    if len(rows) < len(y):
        points, y, weights = rows[:, :-1], rows[:, -1], np.bincount(index.ravel(), weights)
    size = float(weights.mean())
    return points, y, weights / size, size, False


def _without_near_copies(points, y, weights):
    """Return rows and weights without those that are nearly there already.

    A copy with jitter says as little of noise as a copy does. Near is a hundredth of the distance
    between neighbours among so many points, with nearly the same target. One of each group stays as
    it is, so that exact data are still exact.
    """
    n, spread = len(y), points.max(axis=0) > points.min(axis=0)
    if n < 2 or not spread.any():
        return points, y, weights
    near = NEAR * 2.0 * n ** (-1.0 / spread.sum())
    close = np.abs(y[:, None] - y) <= _SAME
    for column in points[:, spread].T:
        close &= np.abs(column[:, None] - column) <= near
    if close.sum() == n:
        return points, y, weights
    leader = np.full(n, -1)
    for i in range(n):
        if leader[i] < 0:
            leader[close[i] & (leader < 0)] = i
    first, of = np.unique(leader, return_inverse=True)
    return points[first], y[first], np.bincount(of, weights)


def choose_ridge(points, y, weights, degrees, degree_penalties=DEGREE_PENALTIES):
    """Return the ridge and the penalty of degrees under which the data are most likely.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Samples, scaled to [-1, 1].
    y : ndarray of shape (n,)
        Targets of size one.
    weights : ndarray of shape (n,)
        Weights of the samples; they count like repetitions, and copies of a row like a weight.
    degrees : sequence of int
        Numbers of coefficients.
    degree_penalties : sequence of float
        Penalties of a degree over that of the degree below, to choose from.

    Returns
    -------
    alpha, degree_penalty : float
        As the regressor takes them.
    """
    points, y, weights, size, measured_again = _without_copies(points, y, weights)
    order = np.lexsort((*points.T, y))  # the order of the rows has no say
    if len(y) > _MOST_ROWS:  # spread evenly over the targets
        order = order[np.linspace(0, len(y) - 1, _MOST_ROWS).astype(int)]
    points, y, weights = points[order], y[order], weights[order]
    if not measured_again:
        points, y, weights = _without_near_copies(points, y, weights)
        size, weights = size * float(weights.mean()), weights / weights.mean()
    n, total = len(y), float(weights.sum())
    roots = np.sqrt(weights)
    best = -np.inf, 1e-8, degree_penalties[0]
    for degree_penalty in degree_penalties:
        K = prior_covariance(points, degrees, degree_penalty)
        values, vectors = eigh(roots[:, None] * K * roots, check_finite=False, driver="evd")
        values = np.maximum(values, 0.0)
        squares = (vectors.T @ (roots * y)) ** 2
        for alpha in _ALPHAS:
            spread = values + alpha
            quadratic = float((squares / spread).sum())
            evidence = -0.5 * (
                total * np.log(max(quadratic, 1e-300))
                + float(np.log(spread).sum())
                + (total - n) * np.log(alpha)
            )
            if evidence > best[0]:
                best = evidence, float(alpha) * size, degree_penalty
    return best[1:]
