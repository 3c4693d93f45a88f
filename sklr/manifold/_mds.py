"""Layouts of dissimilarities: classic, stress by descent or majorisation, non-metric, landmarks."""

import numpy as np
import scipy.linalg
from sklearn.exceptions import ConvergenceWarning

from sklr.utils._progress import progress
from sklr.utils._threads import thread_map
from sklr.utils._warnings import warn_user

SOLVERS = ("classic", "nonmetric", "sgd", "smacof")

_NO_WEIGHTS = np.ones((1, 1))
# Points that each point meets in a pass of the descent, one way round: with more, the layout after
# the majorisation that follows was the same to four digits of its scores.
_MEETINGS = 256


def fix_signs(Y):
    """Make the entry of largest absolute value of each column positive."""
    largest = Y[np.abs(Y).argmax(axis=0), np.arange(Y.shape[1])]
    return Y * np.where(largest < 0, -1.0, 1.0)


def classic_mds(D, n_components):
    """Classic (Torgerson) scaling of a symmetric matrix of distances.

    Directions with an eigenvalue that is not positive are zero: the distances have fewer
    dimensions than were asked for.
    """
    n = len(D)
    B = -0.5 * D**2
    mean = B.mean(axis=0)
    B -= mean
    B -= mean[:, None]
    B += mean.mean()
    values, V = scipy.linalg.eigh(B, subset_by_index=(n - n_components, n - 1))
    values, V = values[::-1], V[:, ::-1]
    return fix_signs(V * np.sqrt(np.maximum(values, 0.0)))


def triangulate(D, D_anchors, anchors):
    """Place points by their distances to anchors that classic scaling placed.

    Parameters
    ----------
    D : ndarray of shape (n, m)
        Distances of the points to the anchors.
    D_anchors : ndarray of shape (m, m)
        Distances between the anchors.
    anchors : ndarray of shape (m, n_components)
        Positions of the anchors.

    Returns
    -------
    Y : ndarray of shape (n, n_components)
        Positions of the points.
    """
    centre = anchors.mean(axis=0)
    A = anchors - centre
    square = (A**2).sum(axis=0)
    inverse = np.zeros_like(square)
    np.divide(1.0, square, out=inverse, where=square > 1e-12 * max(square.max(), 1e-300))
    return -0.5 * ((D**2 - (D_anchors**2).mean(axis=0)) @ A) * inverse + centre


def stress_mds(D, start, *, weights=None, solver="sgd", max_iter=300, tol=1e-6, rng, verbose=0):
    """Minimise the stress of a layout, sum of w (d - |y_i - y_j|)^2.

    Parameters
    ----------
    D : ndarray of shape (n, n)
        Symmetric dissimilarities.
    start : ndarray of shape (n, n_components)
        Layout to begin with.
    weights : ndarray of shape (n, n), default=None
        Symmetric weights of the pairs.
    solver : {"sgd", "smacof", "nonmetric"}, default="sgd"
        Stochastic descent, then majorisation; majorisation alone; majorisation with
        dissimilarities replaced by the best increasing function of them.
    max_iter : int, default=300
        Largest number of steps of majorisation.
    tol : float, default=1e-6
        Relative decrease of the stress below which majorisation stops.
    rng : RandomState
        Order of the pairs.
    verbose : int, default=0
        Whether progress is shown.

    Returns
    -------
    Y : ndarray of shape (n, n_components)
        The layout.
    disparities : ndarray of shape (n, n)
        What the distances were fitted to; `D` itself but for "nonmetric".
    n_iter : int
        Passes over the pairs.
    """
    n = len(D)
    Y = np.array(start, dtype=np.float64, order="C")
    if n < 3 or not D.any():
        return Y, D, 0
    if weights is not None:
        weights = weights / weights[~np.eye(n, dtype=bool)].mean()
    if not Y.any():  # no direction to move in
        Y = rng.standard_normal(Y.shape) * D.mean()
    n_iter = 0
    if solver == "sgd":
        n_iter = _descend(D, weights, Y, rng, verbose)
        Y, _, more = _majorise(D, weights, Y, 30, tol, warn=False, monotone=False)
        return Y, D, n_iter + more
    Y, disparities, n_iter = _majorise(
        D, weights, Y, max_iter, tol, warn=True, monotone=solver == "nonmetric"
    )
    return Y, disparities, n_iter


def _descend(D, weights, Y, rng, verbose, n_passes=20):
    from sklr.manifold._mds_kernels import stress_descent

    n = len(D)
    # From half the way for an average pair to about a plain gradient step.
    steps = np.geomspace(0.5, min(0.1, 2.0 / n), n_passes)
    given = _NO_WEIGHTS if weights is None else np.ascontiguousarray(weights)
    D, room = np.ascontiguousarray(D), np.empty(n)
    for step in progress(steps, total=n_passes, description="stress descent", verbose=verbose):
        order = rng.permutation(n)
        shifts = 1 + rng.permutation(n // 2)[:_MEETINGS]
        stress_descent(D, given, weights is not None, order, shifts, float(step), Y, room)
    return n_passes


def _distances(Y):
    from scipy.spatial.distance import cdist

    return cdist(Y, Y)


def _majorise(D, weights, Y, max_iter, tol, *, warn, monotone):
    """SMACOF: each step goes to the minimum of a majorising parabola of the stress."""
    n = len(D)
    W = np.ones((n, n)) if weights is None else weights.copy()
    np.fill_diagonal(W, 0.0)
    solver = None
    if weights is not None:
        V = np.diag(W.sum(axis=1)) - W
        solver = np.linalg.inv(V + 1.0 / n) - 1.0 / n
    size = float((W * D**2).sum())
    disparities = D
    previous = decrease = np.inf
    gap = _distances(Y)
    n_iter = 0
    while n_iter < max_iter:
        n_iter += 1
        if monotone:
            disparities = _increasing_fit(D, gap, W, size)
        ratio = np.divide(W * disparities, gap, out=np.zeros_like(gap), where=gap > 1e-300)
        target = ratio.sum(axis=1)[:, None] * Y - ratio @ Y
        Y = target / n if solver is None else solver @ target
        gap = _distances(Y)
        stress = float((W * (disparities - gap) ** 2).sum()) / size
        decrease = previous - stress
        if decrease <= tol * max(stress, 1e-9):
            break
        previous = stress
    else:
        if warn:
            warn_user(
                f"The layout was still improving after {max_iter} steps of majorisation: "
                f"normalised squared stress {stress:.4g}, decrease in the last step "
                f"{decrease:.2g}.",
                ConvergenceWarning,
            )
    return Y, disparities, n_iter


def _increasing_fit(D, gap, W, size):
    from sklearn.isotonic import isotonic_regression

    upper = np.triu_indices(len(D), 1)
    order = np.lexsort((gap[upper], D[upper]))
    fitted = np.empty(len(order))
    fitted[order] = isotonic_regression(
        gap[upper][order], sample_weight=np.maximum(W[upper][order], 1e-12)
    )
    out = np.zeros_like(D)
    out[upper] = fitted
    out += out.T
    scale = float((W * out**2).sum())
    return out * np.sqrt(size / scale) if scale > 0 else out


def place_points(D, anchors, start, *, weights=None, max_iter=100, n_jobs=None):
    """Move points to where their distances to fixed anchors fit best in the sense of stress."""
    from sklr.manifold._mds_kernels import place

    Y = np.array(start, dtype=np.float64, order="C")
    given = _NO_WEIGHTS if weights is None else np.ascontiguousarray(weights)
    tol = 1e-5 * float(np.median(D)) if D.size else 0.0
    D, anchors = np.ascontiguousarray(D), np.ascontiguousarray(anchors)
    weighted = weights is not None

    def one(first):
        part = slice(first, first + 256)
        w = given[part] if weighted else given
        place(D[part], w, weighted, anchors, max_iter, tol, Y[part])

    thread_map(one, range(0, len(Y), 256), n_jobs)
    return Y


def normalised_stress(D, Y_rows, Y_columns, weights=None):
    """Return sqrt(sum w (d - |y - y'|)^2 / sum w d^2) over all pairs of rows and columns."""
    from scipy.spatial.distance import cdist

    residual = (D - cdist(Y_rows, Y_columns)) ** 2
    square = D**2
    if weights is not None:
        residual, square = weights * residual, weights * square
    total = float(square.sum())
    return float(np.sqrt(residual.sum() / total)) if total > 0 else 0.0
