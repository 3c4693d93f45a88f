"""Newton iteration for the affine-invariant mean, of one set of matrices or of many folds.

The mean is the point where the logarithms of the whitened matrices sum to zero. All logarithms
come from eigendecompositions, which cost about thirteen matrix products each, so what matters is
how many of them are taken: a Newton step, whose linear system is solved by conjugate gradients
with matrix products only, makes four or five do where a damped gradient step takes nine or more.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.geometry._spd_frame import congruence, eigenlogs, inverse_lower, rebuild, sandwich
from sklr.utils._spd_checks import NOT_SPD, check_weights, definite_tolerance, unit_diagonal
from sklr.utils._threads import single_blas_thread
from sklr.utils._warnings import warn_user


def newton_mean(X, weights, *, start=None, tol=1e-8, max_iter=50, n_jobs=None):
    """Return the mean of one checked stack, with weights that sum to one."""
    with single_blas_thread():
        if start is None:
            factor, Y = prewhiten(X, _weighted_sum(weights, X))
            first, inverse = _near_mean(Y, weights)
        else:
            factor, Y = prewhiten(X, start)
            first = inverse = np.eye(len(start))
        root, grad = _newton(Y, weights, first, inverse, tol, max_iter, n_jobs)
        half = factor @ root
    if grad > tol:
        warn_user(
            f"The Riemannian mean stopped after {max_iter} steps at a gradient norm of "
            f"{grad:.3g}, above tol={tol:.3g}. Ill-conditioned matrices can cause this; "
            "shrinkage ('oas', 'lwf') or a larger tol helps.",
            ConvergenceWarning,
        )
    return half @ half.T


def class_means(X, members, weights=None, *, tol=1e-8, n_jobs=None):
    """Means of several subsets of checked matrices, (n_subsets, n, n)."""
    means = []
    for rows in members:
        own = np.ones(len(rows)) if weights is None else weights[rows]
        means.append(newton_mean(X[rows], own / own.sum(), tol=tol, n_jobs=n_jobs))
    return np.stack(means)


def logs_at_fold_means(
    X: np.ndarray,
    folds: Sequence[np.ndarray],
    *,
    sample_weight: np.ndarray | None = None,
    tol: float = 1e-8,
    max_iter: int = 50,
) -> Iterator[tuple[np.ndarray, float]]:
    """Logarithms of all matrices at the mean of each of several subsets.

    What cross-validation needs: one subset per fold (its training matrices), and the tangent
    matrices of training and test matrices at that subset's mean. The folds share the whitening
    and one set of eigendecompositions near the common mean, from which the first Newton step of
    every fold is taken; the last step's logarithms are corrected to first order (an error of
    the order of `tol`) and not decomposed again.

    Parameters
    ----------
    X : ndarray of shape (n_matrices, n, n)
        SPD matrices, float64.
    folds : sequence of ndarray of int
        Indices of each subset.
    sample_weight : ndarray of shape (n_matrices,), default=None
        Positive weights in the means.
    tol : float, default=1e-8
        Accuracy of each mean: gradient norm, as in :func:`mean_riemann`.
    max_iter : int, default=50
        Largest number of Newton steps of a fold.

    Yields
    ------
    logs : ndarray of shape (n_matrices, n, n)
        The logarithms, in coordinates that differ from the symmetric root's by one common
        rotation: inner products are those of :func:`tangent_space`, entries are not.
    grad : float
        Estimated gradient norm that was reached; above `tol` means not converged.
    """
    n, d, _ = X.shape
    weights = check_weights(sample_weight, n)
    with single_blas_thread():
        _, Y = prewhiten(X, _weighted_sum(weights, X))
        # The folds differ by more than this point from the common mean.
        common, inverse = _near_mean(Y, weights)
        logs, V = eigenlogs(sandwich(inverse, Y), None)
        for fold in folds:
            yield _fold_logs(Y, logs, V, common, fold, weights, tol, max_iter)


def _fold_logs(Y, logs, V, root, fold, all_weights, tol, max_iter):
    n = len(Y)
    weights = np.zeros(n)
    weights[fold] = all_weights[fold] / all_weights[fold].sum()
    point = _Point(logs[fold], V[fold], weights[fold])
    everything = False  # whether the logs of all matrices, not only the fold's, are at hand
    for _ in range(max_iter):
        grad = point.grad_norm
        last = _predicted(grad) <= tol
        if last and everything:
            break
        step = point.newton_step(_forcing(grad, tol))
        half, _ = _exp_half(step)
        root = root @ half
        inverse = np.linalg.inv(root)
        # The next evaluation is the last one when a step from it is predicted to reach tol.
        everything = _predicted(_predicted(grad)) <= tol
        members = np.arange(n) if everything else fold
        logs, V = eigenlogs(sandwich(inverse, Y[members]), None)
        inside = fold if everything else slice(None)
        point = _Point(logs[inside], V[inside], weights[fold])
        if not point.grad_norm < grad:  # far from quadratic: the damped iteration on its own
            eye = np.eye(Y.shape[1])
            root, grad = _newton(Y[fold], weights[fold], eye, eye, tol, max_iter, None)
            logs, V = eigenlogs(sandwich(np.linalg.inv(root), Y), None)
            return rebuild(logs, V), grad
    if not everything:
        inverse = np.linalg.inv(root)
        logs, V = eigenlogs(sandwich(inverse, Y), None)
        return rebuild(logs, V), point.grad_norm
    step = point.newton_step(_forcing(grad, tol))
    whole = _Point(logs, V, weights)
    return rebuild(logs, V) - whole.derivative(step), _predicted(grad)


def prewhiten(X, start):
    """Return a factor F of `start` (F F^T) and the matrices F^-1 X F^-T."""
    # Judged after scaling to unit diagonal: units of channels may differ by any factor.
    scaled, scale = unit_diagonal(start)
    if not scale.all():
        channel = int(np.argmin(scale))
        raise ValueError(
            NOT_SPD.format(what=f"Channel {channel} is constant: the mean of the matrices")
        )
    smallest = np.linalg.eigvalsh(scaled)[0]
    if smallest < definite_tolerance(len(start)):
        raise ValueError(
            NOT_SPD.format(
                what="The mean of the matrices (smallest eigenvalue "
                f"{smallest:.3g} after scaling to unit diagonal)"
            )
        )
    factor = np.linalg.cholesky(start)
    return factor, congruence(inverse_lower(factor), X)


def _weighted_sum(weights, X):
    return (weights @ X.reshape(len(X), -1)).reshape(X.shape[1:])


def _near_mean(Y, weights):
    """Root of a point near the mean, and its inverse: the matrices' mean is the identity.

    The geometric mean of arithmetic and harmonic mean: what their logarithms are off is opposite
    to second order. Inverses cost a fifth of eigendecompositions.
    """
    eye = np.eye(Y.shape[1])
    try:
        inverse = _weighted_sum(weights, np.linalg.inv(Y))
        values, vectors = np.linalg.eigh(0.5 * (inverse + inverse.T))
    except np.linalg.LinAlgError:
        return eye, eye
    # Between 1 and the condition number of the worst matrix; anything else is rounding.
    if not (0.5 < values[0] and values[-1] < 1e8):
        return eye, eye
    quarter = values**0.25
    return (vectors / quarter) @ vectors.T, (vectors * quarter) @ vectors.T


def _exp_half(step):
    """exp(step / 2) and exp(-step / 2) of a symmetric matrix."""
    values, vectors = np.linalg.eigh(step)
    half = np.exp(0.5 * values)
    return (vectors * half) @ vectors.T, (vectors / half) @ vectors.T


def _predicted(grad):
    """Gradient norm after a Newton step: quadratic, with a constant seen below one."""
    return grad * grad


def _forcing(grad, tol):
    """Relative accuracy of the linear solve: a product costs a tenth of a decomposition."""
    if grad == 0.0:  # there already, as matrices of one row are after one step
        return 0.1
    wanted = 0.1 * tol / grad if _predicted(grad) <= tol else 0.003 * grad
    return float(np.clip(wanted, 1e-6, 0.1))


def _newton(Y, weights, root, inverse, tol, max_iter, n_jobs):
    """Newton iteration from root root^T; returns a factor of the mean and the gradient norm."""
    logs, V = eigenlogs(sandwich(inverse, Y), n_jobs)
    point = _Point(logs, V, weights)
    grad, damping = point.grad_norm, 1.0
    for _ in range(max_iter):
        if grad <= tol:
            break
        step = damping * point.newton_step(_forcing(grad, tol))
        half, _ = _exp_half(step)
        trial_root = root @ half
        if damping == 1.0 and _predicted(grad) <= tol:
            return trial_root, _predicted(grad)
        logs, V = eigenlogs(sandwich(np.linalg.inv(trial_root), Y), n_jobs)
        trial = _Point(logs, V, weights)
        if trial.grad_norm < grad:
            root, point, grad = trial_root, trial, trial.grad_norm
            damping = min(1.0, 2.0 * damping)
        elif damping > 1e-3:
            damping *= 0.5
        else:  # rounding holds the gradient up
            break
    return root, grad


class _Point:
    """Gradient and Hessian of half the mean squared distance, at one point of the manifold.

    Parameters
    ----------
    logs : ndarray of shape (n_matrices, n)
        Logarithms of the eigenvalues of the matrices whitened at the point.
    V : ndarray of shape (n_matrices, n, n)
        Their eigenvectors.
    weights : ndarray of shape (n_matrices,)
        Weights that sum to one.
    """

    def __init__(self, logs, V, weights):
        n, d = logs.shape
        self.logs, self.V, self.weights = logs, V, weights
        # All eigenvectors side by side: sums over matrices become one large product.
        self._wide = np.ascontiguousarray(V.transpose(1, 0, 2)).reshape(d, n * d)
        self.gradient = (self._wide * (weights[:, None] * logs).ravel()) @ self._wide.T
        self.grad_norm = float(np.linalg.norm(self.gradient))

    def _prepare(self):
        # Single precision does for the products of the linear solve: its error only has to be
        # small beside the step, and the next gradient, in double, sees what is left.
        if not hasattr(self, "_phi"):
            self._V32 = self.V.astype(np.float32)
            self._wide32 = self._wide.astype(np.float32)
            self._phi = _loewner(self.logs.astype(np.float32))
            self._phi_weighted = self._phi * self.weights.astype(np.float32)[:, None, None]

    def _products(self, D, phi):
        d = len(D)
        turned = (D.astype(np.float32) @ self._wide32).reshape(d, -1, d).transpose(1, 0, 2)
        inner = self._V32.transpose(0, 2, 1) @ turned
        inner *= phi
        return self._V32 @ inner

    def hessian(self, D):
        """Apply the Hessian to a symmetric matrix."""
        d = len(D)
        left = self._products(D, self._phi_weighted)
        out = left.transpose(1, 0, 2).reshape(d, -1) @ self._wide32.T
        return 0.5 * (out + out.T).astype(np.float64)

    def derivative(self, D):
        """Change of each logarithm, to first order, when the point moves along -D."""
        self._prepare()
        out = self._products(D, self._phi) @ self._V32.transpose(0, 2, 1)
        return 0.5 * (out + out.transpose(0, 2, 1)).astype(np.float64)

    def newton_step(self, rtol, max_iter=30):
        """Solve Hessian(step) = gradient by conjugate gradients to a relative residual."""
        self._prepare()
        step = np.zeros_like(self.gradient)
        residual = self.gradient.copy()
        direction = residual.copy()
        size = first = float(np.vdot(residual, residual))
        for _ in range(max_iter):
            if size <= rtol * rtol * first:
                break
            image = self.hessian(direction)
            curvature = float(np.vdot(direction, image))
            if not curvature > 0:
                break
            alpha = size / curvature
            step += alpha * direction
            residual -= alpha * image
            previous, size = size, float(np.vdot(residual, residual))
            direction = residual + (size / previous) * direction
        return step


def _loewner(logs):
    """H / tanh(h) for h half the difference of each pair of logarithms."""
    h = np.abs(logs[:, :, None] - logs[:, None, :])
    h *= 0.5
    h += np.finfo(h.dtype).tiny  # where both are equal the quotient is 1
    h /= np.tanh(h)
    return h
