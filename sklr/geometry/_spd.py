"""Affine-invariant mean and tangent vectors of symmetric positive definite (SPD) matrices.

The mean is the point where the logarithms of the whitened matrices sum to zero. All logarithms
come from eigendecompositions, which cost about thirteen matrix products each, so what matters is
how many of them are taken: a Newton step, whose linear system is solved by conjugate gradients
with matrix products only, makes four or five do where a damped gradient step takes nine or more.
"""

import functools
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.utils._spd_checks import (
    NOT_SPD,
    check_matrices,
    check_stack,
    definite_tolerance,
    require_definite,
    unit_diagonal,
)
from sklr.utils._threads import single_blas_thread, thread_map

# Below this many multiplications a batch is not worth a second thread.
_PARALLEL_WORK = 2e7
# Ratio of eigenvalues down to which units of channels cost no digits that matter.
_EVEN = 1e-5
# Ratio of eigenvalues below which a matrix is far from a point: eight digits are left of them.
_FAR = 1e-8
_ROUNDING = np.finfo(np.float64).eps


def mean_riemann(X, *, sample_weight=None, init=None, tol=1e-8, max_iter=50, n_jobs=None):
    r"""Affine-invariant Riemannian mean of SPD matrices, by Newton's method.

    The mean minimises :math:`\sum_i w_i\, d^2(M, X_i)`; it is the SPD matrix with
    :math:`\sum_i w_i \log(M^{-1/2} X_i M^{-1/2}) = 0`.

    Parameters
    ----------
    X : array-like of shape (..., n_matrices, n, n)
        Symmetric positive definite matrices; one mean for each of the leading axes.
    sample_weight : array-like of shape (n_matrices,), default=None
        Non-negative weights, scaled to sum to one. None weighs all alike. Matrices of weight
        zero are left out, whatever they are.
    init : array-like of shape (n, n), default=None
        SPD matrix to start from. None starts from the arithmetic mean.
    tol : float, default=1e-8
        Stop when the Frobenius norm of the weighted sum of logarithms is at most this.
    max_iter : int, default=50
        Largest number of Newton steps.
    n_jobs : int, default=None
        Threads for the eigendecompositions. The result does not depend on it.

    Returns
    -------
    M : ndarray of shape (..., n, n)
        The mean, float64.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, negative weights, or a matrix that is not symmetric or
        not positive definite; the message says which matrix and which channel. Judged after
        scaling to unit diagonal (units of channels may differ) and by the precision of the
        dtype of `X`.

    Warns
    -----
    ConvergenceWarning
        `tol` was not reached in `max_iter` steps; the norm that was reached is said.

    See Also
    --------
    tangent_space : Tangent vectors at a reference matrix.
    pyriemann.geometry.mean.mean_riemann : The same mean by a damped gradient step.

    Notes
    -----
    In coordinates that whiten the current mean, with :math:`W_i = V_i \Lambda_i V_i^T`, the
    Newton step :math:`\delta` solves

    .. math:: \sum_i w_i V_i \bigl(\Phi_i \circ V_i^T \delta V_i\bigr) V_i^T
              = \sum_i w_i \log W_i, \qquad
              \Phi_{ab} = \tfrac{h}{\tanh h},\; h = \tfrac12 \log(\lambda_a / \lambda_b),

    whose operator has its spectrum between 1 and a small number, so that a few conjugate
    gradient iterations solve it. Convergence is quadratic. Each step costs one
    eigendecomposition per matrix, O(n_matrices n^3); memory is five stacks like `X`.
    All steps work on matrices whitened once by the starting point, so that ill-conditioned
    input (augmented covariances at lag 1) costs accuracy once and not at every step.

    References
    ----------
    .. [1] P. T. Fletcher, C. Lu, S. M. Pizer, S. Joshi, "Principal geodesic analysis for the
       study of nonlinear statistics of shape", IEEE Trans. Med. Imaging 23(8), 2004.
       https://doi.org/10.1109/TMI.2004.831793
    .. [2] R. Ferreira, J. Xavier, J. P. Costeira, V. Barroso, "Newton algorithms for Riemannian
       distance related problems on connected locally symmetric manifolds",
       IEEE J. Sel. Top. Signal Process. 7(4), 2013. https://doi.org/10.1109/JSTSP.2013.2261799

    Examples
    --------
    The mean of commuting matrices is their geometric mean:

    >>> import numpy as np
    >>> from sklr.geometry import mean_riemann
    >>> mean_riemann([np.diag([1.0, 4.0]), np.diag([4.0, 1.0])]).round(6)
    array([[2., 0.],
           [0., 2.]])
    """
    X, weights, numbers = weighted_stack(X, sample_weight)
    X, eps = check_stack(X)
    require_definite(X, eps=eps, numbers=None if X.ndim > 3 else numbers)
    if init is None:
        start = None
    else:
        start, eps = check_matrices(init, "init")
        if start.shape != X.shape[-2:]:
            raise ValueError(f"init has shape {start.shape}, expected {X.shape[-2:]}.")
        require_definite(start, "init", eps=eps)
    means = np.empty(X.shape[:-3] + X.shape[-2:])
    for index in np.ndindex(X.shape[:-3]):
        means[index] = newton_mean(
            X[index], weights, start=start, tol=tol, max_iter=max_iter, n_jobs=n_jobs, stacklevel=3
        )
    return means


def newton_mean(X, weights, *, start=None, tol=1e-8, max_iter=50, n_jobs=None, stacklevel=2):
    """Return the mean of one checked stack, with weights that sum to one."""
    with single_blas_thread():
        if start is None:
            start = np.tensordot(weights, X, axes=1)
            factor, Y = prewhiten(X, start)
            first, _ = _near_mean(Y, weights)
        else:
            factor, Y = prewhiten(X, start)
            first = np.eye(len(start))
        root, grad = _newton(Y, weights, first, tol, max_iter, n_jobs)
        half = factor @ root
    if grad > tol:
        warnings.warn(
            f"The Riemannian mean stopped after {max_iter} steps at a gradient norm of "
            f"{grad:.3g}, above tol={tol:.3g}. Ill-conditioned matrices can cause this; "
            "shrinkage ('oas', 'lwf') or a larger tol helps.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    return half @ half.T


def tangent_space(X, reference, *, n_jobs=None):
    """Tangent vectors of SPD matrices at a reference matrix, affine-invariant metric.

    Parameters
    ----------
    X : array-like of shape (..., n, n)
        Symmetric positive definite matrices.
    reference : array-like of shape (..., n, n)
        SPD matrix at which the tangent space is taken; leading axes are broadcast with those
        of `X`.
    n_jobs : int, default=None
        Threads for the eigendecompositions. The result does not depend on it.

    Returns
    -------
    vectors : ndarray of shape (..., n * (n + 1) / 2)
        Upper triangles, row by row, of ``logm(R^-1/2 X R^-1/2)``, entries off the diagonal
        times sqrt(2), so that inner products of vectors are those of the matrices. Equal to
        pyRiemann's.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, or a matrix that is not symmetric or not positive
        definite, as in :func:`mean_riemann`.

    See Also
    --------
    mean_riemann : The usual reference.

    References
    ----------
    .. [1] A. Barachant, S. Bonnet, M. Congedo, C. Jutten, "Multiclass brain-computer interface
       classification by Riemannian geometry", IEEE Trans. Biomed. Eng. 59(4), 2012.
       https://doi.org/10.1109/TBME.2011.2172210

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import tangent_space
    >>> tangent_space([np.diag([1.0, np.e])], np.eye(2)).round(6) + 0.0
    array([[0., 0., 1.]])
    """
    X, eps = check_matrices(X, "X")
    reference, eps_reference = check_matrices(reference, "reference")
    if reference.shape[-2:] != X.shape[-2:]:
        raise ValueError(f"reference has shape {reference.shape}, expected {X.shape[-2:]}.")
    require_definite(reference, "reference", eps=eps_reference)
    with single_blas_thread():
        if reference.ndim == 2:
            logs = Frame(reference).logs(X.reshape(-1, *X.shape[-2:]), n_jobs, eps)
            return vectorize(logs).reshape(*X.shape[:-2], -1)
        shape = np.broadcast_shapes(X.shape, reference.shape)
        X = np.broadcast_to(X, shape)
        out = np.empty((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))
        # One frame for each reference; axes along which it is the same go together.
        aligned = reference.reshape((1,) * (X.ndim - reference.ndim) + reference.shape)
        for index in np.ndindex(aligned.shape[:-2]):
            where = tuple(
                slice(None) if length == 1 else place
                for place, length in zip(index, aligned.shape[:-2])
            )
            part = X[where]
            logs = Frame(aligned[index]).logs(part.reshape(-1, *shape[-2:]), n_jobs, eps)
            out[where] = vectorize(logs).reshape(*part.shape[:-2], -1)
        return out


class Frame:
    """Coordinates in which a reference is the identity.

    Parameters
    ----------
    reference : ndarray of shape (n, n)
        A positive definite matrix, checked.

    Attributes
    ----------
    inverse : ndarray of shape (n, n)
        A with ``A reference A^T = I``.
    factor : ndarray of shape (n, n)
        Its inverse.
    turn : ndarray of shape (n, n) or None
        Rotation Q with ``A = Q reference^-1/2``; None where A is that root.
    smallest : float
        The smallest eigenvalue of the reference scaled to unit diagonal, or less.
    """

    def __init__(self, reference):
        values, vectors = np.linalg.eigh(reference)
        scaled, scale = unit_diagonal(reference)
        self.turn = None
        even = values[0] > _EVEN * values[-1]
        if even:
            self.smallest = values[0] / scale.max() ** 2
        else:
            unit = np.linalg.eigvalsh(scaled)
            self.smallest = unit[0]
            # Ill-conditioned by itself, and not by units.
            even = values[0] > 0.0 and unit[0] * values[-1] < 10 * values[0] * unit[-1]
        if even:
            root = np.sqrt(values)
            self.inverse = (vectors / root) @ vectors.T
            self.factor = (vectors * root) @ vectors.T
            return
        # Units differ: the roots of the unit-diagonal matrix and the units keep all digits,
        # where the root of the product would lose those of the small block.
        values, vectors = np.linalg.eigh(scaled)
        root = np.sqrt(values)
        self.inverse = (vectors / root) @ vectors.T / scale
        self.factor = scale[:, None] * ((vectors * root) @ vectors.T)
        self.turn = _polar_rotation(self.inverse)

    def whiten(self, X):
        """Return ``reference^-1/2 X reference^-1/2`` of each matrix, exactly symmetric."""
        W = _congruence(self.inverse, X)
        if self.turn is None:
            return W
        return _congruence(self.turn.T, W)

    def logs(self, X, n_jobs=None, eps=None):
        """Logarithms of a stack at the reference, by the symmetric root as pyRiemann's.

        With `eps`, the rounding of the numbers that came in, matrices that are not positive
        definite are refused; else they were checked before.
        """
        values, V = _eigh((self.inverse @ X) @ self.inverse.T, n_jobs)
        if eps is not None:
            self.require_definite(X, values, eps)
        values, V = _accurate(values, V, self.inverse, X)
        if self.turn is not None:
            V = self.turn.T @ V
        return _rebuild(np.log(values), V)

    def require_definite(self, X, values, eps):
        """Refuse matrices by the eigenvalues in these coordinates, where those do not suffice.

        Scaled to unit diagonal, the smallest eigenvalue of a matrix is at least that of the
        reference times the quotient of the smallest and the largest one here.
        """
        bound = values[:, 0] * self.smallest
        if not (bound > definite_tolerance(X.shape[-1], eps) * values[:, -1]).all():
            require_definite(X, eps=eps)

    def exps(self, S, n_jobs=None):
        """Matrices whose logarithms at the reference these are: the inverse of `logs`."""
        values, V = _eigh(S, n_jobs)
        half = self.factor @ (V if self.turn is None else self.turn @ V)
        half = half * np.exp(0.5 * values)[:, None, :]
        return half @ half.transpose(0, 2, 1)


def _polar_rotation(A):
    """Orthogonal polar factor of A, whose columns may have any scales.

    By LAPACK's Jacobi method, which finds singular vectors of such matrices to all digits.
    """
    from scipy.linalg.lapack import dgejsv

    # joba=0: columns scaled; jobu, jobv: vectors wanted; no range restriction, no perturbation.
    _, U, V, _, _, info = dgejsv(A, joba=0, jobu=0, jobv=0, jobr=0, jobt=0, jobp=0)
    if info != 0:
        U, _, Vt = np.linalg.svd(A)
        return U @ Vt
    return U @ V.T


@functools.lru_cache(maxsize=16)
def _triangle(n):
    """Places of the upper triangle in a flat matrix, and what its entries are multiplied by."""
    rows, columns = np.triu_indices(n)
    weights = np.where(rows == columns, 1.0, np.sqrt(2.0))
    places = rows * n + columns
    for array in (places, weights):
        array.setflags(write=False)
    return places, weights


def vectorize(S):
    """Upper triangles of symmetric matrices, off-diagonal entries times sqrt(2)."""
    places, weights = _triangle(S.shape[-1])
    return S.reshape(*S.shape[:-2], -1).take(places, axis=-1) * weights


def unvectorize(vectors):
    """Symmetric matrices of upper triangles, the inverse of :func:`vectorize`."""
    n = int((np.sqrt(8 * vectors.shape[-1] + 1) - 1) / 2)
    rows, columns = np.triu_indices(n)
    S = np.empty((*vectors.shape[:-1], n, n))
    S[..., rows, columns] = vectors / np.where(rows == columns, 1.0, np.sqrt(2.0))
    S[..., columns, rows] = S[..., rows, columns]
    return S


def weighted_stack(X, sample_weight):
    """Leave out what has no weight: the stack, weights that sum to one, and its numbers."""
    if not hasattr(X, "dtype") or not hasattr(X, "shape"):
        X = np.asarray(X)
    if sample_weight is None or len(X.shape) < 3:
        n = X.shape[-3] if len(X.shape) >= 3 else 1
        return X, np.full(n, 1.0 / max(n, 1)), None
    weights = check_weights(sample_weight, X.shape[-3])
    kept = np.flatnonzero(weights)
    if len(kept) == len(weights):
        return X, weights, None
    return X[..., kept, :, :], weights[kept], kept


def class_means(X, members, weights=None, *, tol=1e-8, n_jobs=None):
    """Means of several subsets of checked matrices, (n_subsets, n, n)."""
    means = []
    for rows in members:
        own = np.ones(len(rows)) if weights is None else weights[rows]
        means.append(newton_mean(X[rows], own / own.sum(), tol=tol, n_jobs=n_jobs, stacklevel=5))
    return np.stack(means)


def distances_to(X, points, n_jobs=None):
    """Affine-invariant distances of checked matrices to each of some points, (n, n_points)."""
    with single_blas_thread():
        columns = []
        for point in points:
            inverse = _inverse_lower(np.linalg.cholesky(point))
            W = (inverse @ X) @ inverse.T
            values = np.concatenate(_in_chunks(np.linalg.eigvalsh, W, n_jobs))
            values, _ = _accurate(values, None, inverse, X)
            columns.append(np.sqrt((np.log(values) ** 2).sum(axis=1)))
    return np.stack(columns, axis=1)


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
        _, Y = prewhiten(X, np.tensordot(weights, X, axes=1))
        # The folds differ by more than this point from the common mean.
        common, inverse = _near_mean(Y, weights)
        logs, V = _eigenlogs(_congruence(inverse, Y), None)
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
        logs, V = _eigenlogs(_congruence(inverse, Y[members]), None)
        inside = fold if everything else slice(None)
        point = _Point(logs[inside], V[inside], weights[fold])
        if not point.grad_norm < grad:  # far from quadratic: the damped iteration on its own
            root, grad = _newton(Y[fold], weights[fold], np.eye(Y.shape[1]), tol, max_iter, None)
            logs, V = _eigenlogs(_congruence(np.linalg.inv(root), Y), None)
            return _rebuild(logs, V), grad
    if not everything:
        inverse = np.linalg.inv(root)
        logs, V = _eigenlogs(_congruence(inverse, Y), None)
        return _rebuild(logs, V), point.grad_norm
    step = point.newton_step(_forcing(grad, tol))
    whole = _Point(logs, V, weights)
    return _rebuild(logs, V) - whole.derivative(step), _predicted(grad)


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
    return factor, _congruence(_inverse_lower(factor), X)


def _near_mean(Y, weights):
    """Roots of a point near the mean, and their inverses: the matrices' mean is the identity.

    The geometric mean of arithmetic and harmonic mean: what their logarithms are off is opposite
    to second order. Inverses cost a fifth of eigendecompositions.
    """
    eye = np.eye(Y.shape[1])
    try:
        inverse = np.tensordot(weights, np.linalg.inv(Y), axes=1)
        values, vectors = np.linalg.eigh(0.5 * (inverse + inverse.T))
    except np.linalg.LinAlgError:
        return eye, eye
    # Between 1 and the condition number of the worst matrix; anything else is rounding.
    if not (0.5 < values[0] and values[-1] < 1e8):
        return eye, eye
    quarter = values**0.25
    return (vectors / quarter) @ vectors.T, (vectors * quarter) @ vectors.T


def _inverse_lower(L):
    from scipy.linalg import solve_triangular

    return solve_triangular(L, np.eye(len(L)), lower=True, check_finite=False)


def _congruence(A, X):
    """A X A^T for each matrix of the stack, exactly symmetric."""
    Z = (A @ X) @ A.T
    return 0.5 * (Z + Z.transpose(0, 2, 1))


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


def _newton(Y, weights, root, tol, max_iter, n_jobs):
    """Newton iteration from root root^T; returns a factor of the mean and the gradient norm."""
    logs, V = _eigenlogs(_congruence(np.linalg.inv(root), Y), n_jobs)
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
        logs, V = _eigenlogs(_congruence(np.linalg.inv(trial_root), Y), n_jobs)
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
    h = 0.5 * (logs[:, :, None] - logs[:, None, :])
    small = np.abs(h) < 1e-2
    np.copyto(h, 1.0, where=small)
    phi = h / np.tanh(h)
    h = 0.5 * (logs[:, :, None] - logs[:, None, :])
    np.copyto(phi, 1.0 + h * h / 3.0, where=small)
    return phi


def _in_chunks(function, W, n_jobs):
    """Apply a decomposition to a stack, in chunks over threads where that pays."""
    n, d, _ = W.shape
    if n_jobs is None or n * d**3 < _PARALLEL_WORK:
        return [function(W)]
    return thread_map(function, np.array_split(W, min(n, 8)), n_jobs)


def _eigh(W, n_jobs):
    """Eigenvalues and eigenvectors of a stack."""
    parts = _in_chunks(np.linalg.eigh, W, n_jobs)
    return tuple(np.concatenate([part[i] for part in parts]) for i in (0, 1))


def _eigenlogs(W, n_jobs):
    """Logarithms of the eigenvalues, and the eigenvectors, of each matrix of a stack."""
    values, V = _eigh(W, n_jobs)
    _require_positive(values)
    return np.log(values), V


def _require_positive(values):
    """Refuse what rounding may have made of zero, in coordinates that whiten a mean."""
    smallest, largest = values[:, 0], values[:, -1]
    bad = ~(smallest > _ROUNDING * values.shape[1] * largest)
    if bad.any():
        worst = int(np.argmax(bad))
        raise ValueError(
            NOT_SPD.format(
                what=f"Matrix {worst} (eigenvalues from {smallest[worst]:.3g} to "
                f"{largest[worst]:.3g} in coordinates that make the mean the identity)"
            )
        )


def _accurate(values, V, inverse, X):
    """Replace eigenvalues of ``inverse X inverse^T`` that rounding may have spoilt.

    Where a definite matrix is far from the point, as one class from the mean of another, the
    singular values of a root have twice the digits.
    """
    far = ~(values[:, 0] > _FAR * values[:, -1])
    if far.any():
        root = inverse @ np.linalg.cholesky(X[far])
        U, singular, _ = np.linalg.svd(root, full_matrices=False)
        values = values.copy()
        values[far] = singular[:, ::-1] ** 2
        _require_positive(values)
        if V is not None:
            V = V.copy()
            V[far] = U[:, :, ::-1]
    return values, V


def _rebuild(logs, V):
    out = (V * logs[:, None, :]) @ V.transpose(0, 2, 1)
    return 0.5 * (out + out.transpose(0, 2, 1))


def check_weights(sample_weight, n):
    """Weights that sum to one."""
    if sample_weight is None:
        return np.full(n, 1.0 / n)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},).")
    if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise ValueError("sample_weight must be finite, non-negative and not all zero.")
    return weights / weights.sum()
