"""The two descents of matrix sensing: starts, step sizes, and the warnings at their end.

`given` is the estimator: its parameters are read, nothing is written to it.
"""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.decomposition._sensing_rank import grown_descent, iterations_at_most
from sklr.decomposition._sensing_solvers import (
    LOWER_QUARTILE,
    MEDIAN,
    Validation,
    gradient_descent,
    random_factors,
    spectral_factors,
    subgradient_descent,
    weighted_quantile,
)
from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user

# F starts at this many times the scale of G: the difference of their sizes, which the descent
# keeps, is what makes the surplus of the rank vanish.
_START_RATIO = 1 / 3
# Steps shrink slowly enough for so many equal singular values to grow one after the other.
_EXPECTED_RANK = 3
# A matrix whose residuals are larger than the targets themselves explains nothing.
_WORSE_THAN_ZERO = 1.2
# Above this ratio of two estimates of scale, most of the targets are outliers.
_MOST_SPREAD = 2.0
# Then a matrix that leaves more than this of the others is not to be relied on.
_HARDLY = 0.5
# Columns that are added on evidence leave no surplus that had to stay small.
_GROWN_START = 0.1


def _iterations(given, max_iter):
    return progress(
        range(max_iter),
        total=max_iter,
        description="matrix sensing",
        verbose=given.verbose,
    )


def fit_squared(given, operator, y, k, rng, held):
    """Descend the squared loss from a random start; return factors and the course of it."""
    mean = 0.0
    if given.fit_intercept:
        mean = float(np.average(y, weights=operator.weights))
        y = y - mean
    moment = operator.adjoint(y)
    U, S, Vt = np.linalg.svd(moment, full_matrices=False)
    if S[0] == 0:
        return _nothing(operator.shape, k, mean)
    # The best multiple of the leading part tells the size of the matrix, whatever the samples.
    lead = operator.measure(np.outer(U[:, 0], Vt[0]))
    w = operator.weights
    power = float(lead @ lead if w is None else (w * lead) @ lead) / operator.total
    size = float(S[0]) / power
    precompute = operator.gram_pays() if given.precompute == "auto" else given.precompute
    if precompute:
        operator.make_gram(y)
    tied = operator.symmetric and given.solver == "gd" and given.symmetric is True
    scale = (0.5 if given.init_scale is None else given.init_scale) * np.sqrt(size)
    F, G = random_factors(rng, operator.shape, k, scale, _START_RATIO)
    c = 0.25 if given.step_size == "auto" else given.step_size
    max_iter = 2000 if given.max_iter is None else given.max_iter
    validation = None
    if held is not None:
        validation = _validation(given, operator, held, mean)
    out = gradient_descent(
        operator,
        y,
        F,
        G,
        eta=c / float(S[0]),
        max_iter=max_iter,
        tol=given.tol,
        tied=tied,
        accelerate=given.solver == "accelerated",
        adapt=given.step_size == "auto",
        validation=validation,
        iterations=_iterations(given, max_iter),
    )
    if not out.converged:
        warn_user(
            f"Gradient descent ended after {out.n_iter} iterations (max_iter={max_iter}) with "
            f"a relative residual of {out.curve[-1]:.3g} and a relative gradient of "
            f"{out.gradient:.3g} above tol={given.tol:.3g}. Raise max_iter or tol, or use "
            "early_stopping=True.",
            ConvergenceWarning,
        )
    # Normalised measurements are 1 / scale of the real ones.
    root = np.sqrt(operator.scale)
    return {
        "F": out.F / root,
        "G": out.G / root,
        "curve": out.curve,
        "n_iter": out.n_iter,
        "switch": out.switch_iter,
        "shift": mean,
        "tied": tied,
        "size": size / operator.scale,
    }


def _scale(sizes, weights):
    """Return the standard deviation of normal targets among outliers, and that by the median.

    The median is an outlier's where they are half of all; the lower quarter is not. It is zero
    where many samples measure nothing.
    """
    spread = weighted_quantile(sizes, 0.5, weights) / MEDIAN
    low = weighted_quantile(sizes, 0.25, weights) / LOWER_QUARTILE
    return (low if low > 0.0 else spread), spread


def fit_absolute(given, operator, y, k, rng, held):
    """Descend the absolute loss from a tiny spectral start; return factors and the course of it."""
    w = operator.weights
    middle = weighted_quantile(y, 0.5, w) if given.fit_intercept else 0.0
    tau, spread = _scale(np.abs(y - middle), w)
    if tau == 0:
        warn_user(
            f"At least half of y equals {middle:.6g}: the matrix that fits them is zero.",
        )
        return _nothing(operator.shape, k, middle)
    target = y / tau
    growing = given.step == "adaptive" and given.decay == "auto"
    alpha = given.init_scale
    if alpha is None:
        alpha = _GROWN_START if growing else 1e-6
    tied = operator.symmetric and given.symmetric is True
    start = operator.adjoint(np.sign(target - middle / tau))
    eta = given.step_size
    if eta == "auto":
        eta = 0.3
        if given.step == "loss":
            # The start is sqrt(2 / pi) M / |M|_F; stability goes by the spectral norm of M.
            eta = 0.25 * np.sqrt(2 / np.pi) / np.linalg.norm(start, 2)
    decay = given.decay
    if decay == "auto":
        # Not the bound on the rank, which may be far too high: slow steps let noise in.
        rank = min(k, _EXPECTED_RANK)
        decay = 1 - min(0.5, eta / (2.5 * np.sqrt(rank) * np.log(1 / min(alpha, 0.1))))
    max_iter = given.max_iter
    if max_iter is None and growing:
        max_iter = iterations_at_most(k)
    elif max_iter is None:
        wanted = 2000 if given.step == "loss" else np.log(1e-8 / eta) / np.log(decay)
        max_iter = int(np.ceil(wanted))
    validation = None
    if held is not None:
        validation = _validation(given, operator, held, None, tau)
    options = {
        "eta": eta,
        "max_iter": max_iter,
        "tol": max(given.tol, 10 * np.finfo(operator.dtype).eps),
        "tied": tied,
        "intercept": given.fit_intercept,
        "validation": validation,
    }
    iterations = _iterations(given, max_iter)
    if growing:
        out = grown_descent(
            operator, target, k, rng, scale=alpha, middle=middle / tau, bar=iterations, **options
        )
    else:
        F, G = spectral_factors(start, k, alpha, tied)
        out = subgradient_descent(
            operator, target, F, G, step=given.step, decay=decay, iterations=iterations, **options
        )
    grown = np.linalg.norm(out.F @ out.G.T)
    many = spread > _MOST_SPREAD * tau
    if grown < 0.1:
        reason = (
            f"The steps shrink too fast (decay={decay:.6g}) for init_scale={alpha:.3g}, or y does "
            "not depend on X."
            if not many
            else f"The median of |y| says that y is {spread / tau:.3g} times as large as its lower "
            "quarter does: half of y or more are outliers, and the start knows nothing of the rest."
        )
        warn_user(
            f"The matrix never grew out of its start: its size is {grown:.3g} of what the "
            f"targets suggest, after {out.n_iter} iterations. {reason}",
            ConvergenceWarning,
        )
    elif out.gradient > _WORSE_THAN_ZERO:
        warn_user(
            f"The lower quarter of the residuals is {out.gradient:.3g} times as large as that of y:"
            " the matrix explains nothing. More than half of y may be outliers, or there are too "
            "few samples.",
            ConvergenceWarning,
        )
    elif many and out.gradient > _HARDLY:
        warn_user(
            f"Half of y or more are outliers (the median of |y| is {spread / tau:.3g} times what "
            f"its lower quarter suggests), and of that quarter the matrix leaves {out.gradient:.0%}"
            ": it is not to be relied on. More samples are needed, or fewer outliers.",
            ConvergenceWarning,
        )
    elif not out.converged:
        warn_user(
            f"The sub-gradient method ended after {out.n_iter} iterations "
            f"(max_iter={max_iter}) with a relative residual of {out.gradient:.3g} while it "
            "was still moving. Raise max_iter, or lower decay.",
            ConvergenceWarning,
        )
    root = np.sqrt(tau / operator.scale)
    return {
        "F": out.F * root,
        "G": out.G * root,
        "curve": [loss * tau for loss in out.curve],
        "n_iter": out.n_iter,
        "shift": float(out.shift * tau),
        "tied": tied,
        "size": tau / operator.scale,
    }


def _validation(given, operator, held, mean, tau=1.0):
    """Return the loss on the held-out samples, in the units of the descent."""
    X, y, w = held
    factor = tau / operator.scale

    def loss(F, G):
        M = F @ G.T
        if operator.symmetric:
            M = (M + M.T) / 2
        e = y - factor * (X @ M.ravel())
        if mean is not None:
            offset = 0.0
            if operator.mean is not None:
                offset = mean - factor * (operator.mean @ operator.vector(M))
            return float(np.average((e - offset) ** 2, weights=w))
        if given.fit_intercept:
            e = e - weighted_quantile(e, 0.5, w)
        return float(np.average(np.abs(e), weights=w))

    return Validation(loss, given.n_iter_no_change)


def _nothing(shape, k, shift):
    """Return the result of a descent for targets that say nothing of the matrix."""
    F, G = np.zeros((shape[0], k)), np.zeros((shape[1], k))
    return {"F": F, "G": G, "curve": [0.0], "n_iter": 1, "shift": float(shift)}
