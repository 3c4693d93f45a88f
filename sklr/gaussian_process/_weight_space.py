"""Gaussian process in weight space: few features, many observations.

With y = Phi diag(sqrt(d)) w + noise and w standard normal, everything about y enters through
G = Phi^T Phi, b = Phi^T y and y^T y. These are taken once, and what follows, likelihood, its
gradient and the posterior, costs O(r^3) for r features whatever the number of observations.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from sklr.utils._warnings import warn_user

# Bounds of the optimiser, in units of the diameter and of the mean square of y. The smallest
# noise leaves the likelihood's differences eight digits.
_LENGTHS = (1e-3, 1e2)
_VARIANCES = (1e-6, 1e6)
_NOISES = (1e-8, 1e2)
_NUS = (0.25, 10.0)
# Starting grid: everywhere the likelihood may have its hills.
_GRID_LENGTHS = np.geomspace(0.01, 3.0, 10)
_GRID_RATIOS = np.geomspace(1e-6, 10.0, 8)


class Moments(NamedTuple):
    """What the observations say, by :func:`moments_of`.

    `G` = Phi^T Phi = root^T root, `b` = Phi^T y = root^T seen, and `unseen` = y^T y - seen^T seen:
    with them the misfit of small noise is a sum of squares and not a difference of large numbers.
    """

    G: np.ndarray
    b: np.ndarray
    root: np.ndarray
    seen: np.ndarray
    unseen: float
    yy: float
    n: int


def moments_of(G, b, yy, n):
    """Prepare Phi^T Phi, Phi^T y, y^T y and the number of observations."""
    values, vectors = np.linalg.eigh(G)
    some = values > max(values[-1], 0.0) * len(G) * np.finfo(float).eps
    root = np.sqrt(values[some])[:, None] * vectors[:, some].T
    seen = (vectors[:, some].T @ b) / np.sqrt(values[some])
    return Moments(G, b, root, seen, max(yy - float(seen @ seen), 0.0), yy, n)


def spectral_weights(eigenvalues, kernel, length_scale, nu):
    """Prior variances of the features, summing to one, and the logarithms' derivatives.

    Returns
    -------
    weights : ndarray of shape (r,)
        Matern ``(2 nu / length_scale^2 + eigenvalue)^-nu`` or squared exponential
        ``exp(-length_scale^2 eigenvalue / 2)``, divided by their sum.
    by_length, by_nu : ndarray of shape (r,)
        Derivatives of log(weights) by log(length_scale) and log(nu).
    """
    # Further out nothing changes, and the square would not be a number.
    length_scale = min(max(length_scale, 1e-140), 1e140)
    if kernel == "matern":
        q = 2.0 * nu / length_scale**2 + eigenvalues
        log_s = -nu * np.log(q)
        by_length = 4.0 * nu**2 / length_scale**2 / q
        by_nu = log_s - 2.0 * nu**2 / length_scale**2 / q
    else:
        log_s = -0.5 * length_scale**2 * eigenvalues
        by_length = 2.0 * log_s
        by_nu = np.zeros_like(log_s)
    weights = np.exp(log_s - log_s.max())
    weights /= weights.sum()
    # The sum in the denominator moves too.
    return weights, by_length - weights @ by_length, by_nu - weights @ by_nu


def factor(moments, d, noise):
    """Cholesky factor (lower) of sqrt(d) G sqrt(d) + noise, and posterior mean weights."""
    root = np.sqrt(d)
    A = root[:, None] * moments.G * root
    jitter = 0.0
    while True:
        A.flat[:: len(A) + 1] += noise if jitter == 0.0 else 9.0 * jitter
        try:
            L = cholesky(A, lower=True, check_finite=False)
            break
        except LinAlgError:
            # A noise below rounding of the largest entry: what is added is still below it.
            jitter = max(10.0 * jitter, 1e-15 * np.trace(A))
            if jitter > 1e-6 * np.trace(A):
                raise
    return L, cho_solve((L, True), root * moments.b, check_finite=False)


def residual(moments, d, w):
    """Squared residual of posterior mean weights."""
    gap = moments.seen - moments.root @ (np.sqrt(d) * w)
    return moments.unseen + float(gap @ gap)


def log_likelihood(moments, d, noise):
    """Log marginal likelihood, its derivatives by log(d) and by log(noise)."""
    L, w = factor(moments, d, noise)
    n, r = moments.n, len(d)
    left = residual(moments, d, w)
    misfit = left + noise * (w @ w)
    log_det = 2.0 * np.log(np.diag(L)).sum() + (n - r) * np.log(noise)
    value = -0.5 * (misfit / noise + log_det + n * np.log(2.0 * np.pi))
    half = np.linalg.inv(L)
    inverse = noise * (half * half).sum(axis=0)  # diagonal of noise * A^-1
    by_d = 0.5 * (w * w - (1.0 - inverse))
    by_noise = 0.5 * (left / noise - (n - r + inverse.sum()))
    return value, by_d, by_noise


def best_variance(moments, weights, ratio):
    """The variance that maximises the likelihood for a given noise-to-variance ratio."""
    _, w = factor(moments, weights, ratio)
    return (residual(moments, weights, w) / ratio + w @ w) / moments.n


def optimise(moments, eigenvalues, *, kernel, nu, diameter, n_restarts):
    """Maximise the marginal likelihood over length scale, variance, noise (and nu).

    L-BFGS-B in logarithms with the exact gradient, from the best points of a grid in which the
    variance is the best one for its length scale and ratio of noise.

    Returns
    -------
    length_scale, nu, variance, noise, value : float
        Where the best run ended, and the log marginal likelihood there.
    """
    scale = moments.yy / moments.n
    free_nu = nu == "auto" and kernel == "matern"
    first_nu = 1.5 if nu == "auto" else float(nu)

    def negative(theta):
        length, variance, noise = np.exp(theta[:3])
        this_nu = np.exp(theta[3]) if free_nu else first_nu
        weights, by_length, by_nu = spectral_weights(eigenvalues, kernel, length, this_nu)
        # A weight may underflow; its derivative is zero then, its logarithm is not asked for.
        value, by_d, by_noise = log_likelihood(moments, variance * weights, noise)
        gradient = [by_d @ by_length, by_d.sum(), by_noise]
        if free_nu:
            gradient.append(by_d @ by_nu)
        return -value, -np.array(gradient)

    starts = []
    for length in diameter * _GRID_LENGTHS:
        weights = spectral_weights(eigenvalues, kernel, length, first_nu)[0]
        for ratio in _GRID_RATIOS:
            variance = best_variance(moments, weights, ratio)
            variance = np.clip(variance, 1e-5 * scale, 1e5 * scale)
            noise = np.clip(ratio * variance, 2e-8 * scale, 50 * scale)
            theta = np.log([length, variance, noise] + ([first_nu] if free_nu else []))
            starts.append((negative(theta)[0], theta))
    starts.sort(key=lambda start: start[0])
    bounds = np.log(
        [
            (diameter * _LENGTHS[0], diameter * _LENGTHS[1]),
            (scale * _VARIANCES[0], scale * _VARIANCES[1]),
            (scale * _NOISES[0], scale * _NOISES[1]),
        ]
        + ([_NUS] if free_nu else [])
    )
    best = None
    for _, theta in starts[: n_restarts + 1]:
        found = minimize(
            negative,
            theta,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6},
        )
        if best is None or found.fun < best.fun:
            best = found
    # At a bound only the slope that points inside counts. What n observations leave is small
    # where it is small beside n; the last digits of a line search are rounding.
    inside = np.clip(best.x - best.jac, bounds[:, 0], bounds[:, 1]) - best.x
    if not best.success and np.abs(inside).max() > 1e-5 * moments.n:
        warn_user(
            f"The marginal likelihood's maximum was not reached in {best.nit} L-BFGS-B steps "
            f"({best.message}): log likelihood {-best.fun:.6g}, largest slope "
            f"{np.abs(inside).max():.2g}.",
            ConvergenceWarning,
        )
    length, variance, noise = np.exp(best.x[:3])
    return length, np.exp(best.x[3]) if free_nu else first_nu, variance, noise, -best.fun
