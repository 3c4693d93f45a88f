"""Sub-gradient descent whose rank grows as long as the residuals hold more than chance does."""

import numpy as np

from sklr.decomposition._sensing_solvers import Descent, spectral_factors, subgradient_descent

# Steps shrink by this while columns are still added, and in the last descent.
_GROWING, _LAST = 0.97, 0.995
# In the former, steps end where they are this small beside the residuals.
_COARSE = 0.05
# Iterations without a better fit after which steps of the last descent shrink faster.
_PATIENCE = 150
# Draws of random signs, and how far a singular value must be above all of theirs.
_DRAWS, _MARGIN = 8, 1.03
# Iterations that a descent with these decays takes at most, from steps of about 1.
_MOST = {_GROWING: 700, _LAST: 4000}


def iterations_at_most(k):
    """Iterations that `grown_descent` takes at most."""
    return _MOST[_GROWING] * k + _MOST[_LAST]


def grown_descent(
    operator, y, k, rng, *, scale, eta, max_iter, tol, tied, intercept, middle, validation, bar
):
    """Descend the mean of |A(F G') - y| with as many columns as have evidence, `k` at most.

    At a minimum, signs of residuals that hold nothing but noise and outliers are as good as
    random. So singular vectors of the sub-gradient whose value is above what random signs give
    become new columns, and when there are none, steps shrink slowly to the end. Columns in excess
    would fit noise, and among many outliers take the place of the matrix.

    Parameters
    ----------
    operator : SensingOperator
        The measurements.
    y : ndarray of shape (m,)
        Targets, of unit scale.
    k : int
        Most columns.
    rng : RandomState
        Of the random signs.
    scale : float
        Size of new columns.
    eta : float
        First relative step.
    max_iter : int
        Most iterations, all descents together.
    tol : float
        Residual at which the fit counts as exact.
    tied, intercept : bool
        Whether there is one factor only, and whether a constant is fitted.
    middle : float
        First constant.
    validation : Validation or None
        Of the last descent.
    bar : iterable
        Numbers of the iterations.

    Returns
    -------
    out : Descent
        Factors and course.
    """
    chance = _MARGIN * max(
        np.linalg.norm(operator.adjoint(rng.choice([-1.0, 1.0], size=len(y))), 2)
        for _ in range(_DRAWS)
    )
    bar = iter(bar)
    options = {"step": "adaptive", "eta": eta, "max_iter": max_iter, "tol": tol}
    options |= {"tied": tied, "intercept": intercept, "iterations": bar}
    F, G = (np.zeros((n, 0)) for n in operator.shape)
    out = Descent(F, G, direction=-operator.adjoint(np.sign(y - middle)))
    curve = []
    while out.n_iter < max_iter:
        room = k - F.shape[1]
        values = _strengths(-out.direction, tied)
        new = min(room, int((values > chance).sum()))
        if F.shape[1] == 0:
            new = max(new, 1)
        if new == 0 or out.gradient <= tol:
            break
        more = spectral_factors(-out.direction, new, scale, tied)
        F = np.hstack([F, more[0]])
        G = F if tied else np.hstack([G, more[1]])
        out = subgradient_descent(
            operator, y, F, G, decay=_GROWING, negligible=_COARSE, **options
        )  # fmt: skip
        F, G = out.F, out.G
        curve += out.curve
        out.curve = curve
        if out.n_iter >= max_iter:
            out.converged = out.gradient <= tol
    if out.n_iter < max_iter and not out.gradient <= tol:
        out = subgradient_descent(
            operator, y, F, G, decay=_LAST, envelope=eta * min(1.0, out.gradient),
            patience=_PATIENCE, validation=validation, **options,
        )  # fmt: skip
        out.curve = curve + out.curve
    return out


def _strengths(direction, tied):
    if tied:
        return np.linalg.eigvalsh((direction + direction.T) / 2)[::-1]
    return np.linalg.svd(direction, compute_uv=False)
