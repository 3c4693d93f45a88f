"""What the model itself gets wrong: errors of estimated frames, and details that were cut off.

Residuals are noise and model error together. Noise is independent from point to point, the
model's error changes little between neighbours: the covariance of residuals at neighbours is
that of the model error, and its limit at distance zero is the variance that is wanted.
"""

import numpy as np

from sklr.geometry._neighbors_graph import nearest_neighbors

# Neighbours of a point whose residuals are compared with its own, and points that are used.
_NEIGHBORS = 16
_POINTS = 2000
# Standard deviation of the logarithm of a field's model error about what `usual_share` finds, and
# the least that this is: on a plane nothing of a constant is cut off, of others there is.
_USUAL_SPREAD = 1.2
_LEAST_SHARE = 1e-3


def usual_share(smooth, eigenvectors):
    """Share of smooth fields that frames and cut spectrum lose, whatever was observed.

    Parameters
    ----------
    smooth : ndarray of shape (n, p)
        Smooth fields in the coordinates of the eigenvectors: constant vectors of the ambient space
        in the frames, or positions for a scalar function.
    eigenvectors : ndarray of shape (n, r)
        Orthonormal.

    Returns
    -------
    share : float
        Of the fields' squares; some errors of frames come with it, which make fields rough.
    """
    whole = float((smooth**2).sum())
    if not whole > 0:
        return _LEAST_SHARE
    return max(_LEAST_SHARE, 1.0 - float(((eigenvectors.T @ smooth) ** 2).sum()) / whole)


def model_error(X, residuals, posterior, n_dims, mean_square, usual, *, n_jobs=None):
    """Variance of the model error in a direction, from residuals at neighbours.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Distinct positions with observations.
    residuals : ndarray of shape (n, d)
        Mean residual at each; NaN where a component was not observed.
    posterior : callable
        ``posterior(rows)`` returns factors of shape (len(rows), d, r): the posterior covariance
        of the field at two points is that of one times the transposed other.
    n_dims : int
        Directions, of the d, in which there is anything.
    mean_square : float
        Of the field in such a direction.
    usual : float
        Share of it that is expected to be model error; decides where noise hides the residuals'
        own.
    n_jobs : int, default=None
        Threads of the neighbour search.

    Returns
    -------
    variance : float
        Not negative.
    """
    n, d = residuals.shape
    if n < 5:
        return 0.0
    centres = np.arange(n)
    if n > _POINTS:
        centres = np.linspace(0, n - 1, _POINTS).astype(int)
    k = min(_NEIGHBORS, n - 1)
    distances, near = nearest_neighbors(X, k + 1, queries=X[centres], n_jobs=n_jobs)
    own = near == centres[:, None]
    own[~own.any(axis=1), -1] = True
    distances, near = distances[~own].reshape(-1, k), near[~own].reshape(-1, k)
    total, count, own_draw = np.zeros(k), np.zeros(k), 0.0
    known, filled = ~np.isnan(residuals), np.nan_to_num(residuals)
    for start in range(0, len(centres), 256):
        rows, others = centres[start : start + 256], near[start : start + 256]
        here = posterior(rows)
        own_draw += float((here**2).sum())
        for order, j in enumerate(others.T):
            both = known[rows] & known[j]
            # A fit that follows the noise of a point draws its neighbours along: their residuals
            # have minus the posterior covariance in common.
            drawn = (here * posterior(j)).sum(axis=2)
            total[order] += (filled[rows] * filled[j] + np.where(both, drawn, 0.0)).sum()
            count[order] += both.sum()
    count *= n_dims / d
    covariance = total / np.maximum(count, 1.0)
    spread = float((filled**2).sum()) / max(1.0, known.sum() * n_dims / d)
    error = spread**2 / np.maximum(count, 1.0)
    found = _at_zero(distances.mean(axis=0), covariance, error, mean_square, usual)
    # It cannot be more than all that is left.
    return min(found, spread + own_draw / (len(centres) * n_dims))


def _at_zero(lengths, covariance, error, mean_square, usual):
    """Covariance at distance zero: posterior mean of its height.

    Falling functions exp(-(h / L)^1.5) of all lengths are taken alike. Where noise hides the
    height, what is known beforehand decides: the share `usual` of the field.
    """
    if lengths[0] <= 0 or not error.max() > 0 or not mean_square > 0:
        return max(float(covariance[0]), 0.0)
    decay = np.geomspace(0.7 * lengths[0], 20.0 * lengths[-1], 30)
    shape = np.exp(-((lengths / decay[:, None]) ** 1.5))
    log_height = np.linspace(-14.0, 2.0, 200)
    height = mean_square * np.exp(log_height)
    gap = covariance - height[:, None, None] * shape
    log_posterior = -0.5 * (gap**2 @ (1.0 / error))
    log_posterior -= 0.5 * ((log_height - np.log(usual)) / _USUAL_SPREAD)[:, None] ** 2
    posterior = np.exp(log_posterior - log_posterior.max()).sum(axis=1)
    return float(posterior @ height / posterior.sum())
