"""Affine-invariant mean and tangent vectors of symmetric positive definite (SPD) matrices."""

import numpy as np

from sklr.geometry._spd_frame import Frame
from sklr.geometry._spd_mean import newton_mean
from sklr.utils._spd_checks import check_matrices, check_stack, check_weights, require_definite
from sklr.utils._threads import single_blas_thread


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
            X[index], weights, start=start, tol=tol, max_iter=max_iter, n_jobs=n_jobs
        )
    return means


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
    with single_blas_thread():
        if reference.ndim == 2:
            frame = Frame(reference, eps=eps_reference)
            vectors = frame.vectors(X.reshape(-1, *X.shape[-2:]), n_jobs, eps)
            return vectors.reshape(*X.shape[:-2], -1)
        require_definite(reference, "reference", eps=eps_reference)
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
            flat = part.reshape(-1, *shape[-2:])
            vectors = Frame(aligned[index]).vectors(flat, n_jobs, eps)
            out[where] = vectors.reshape(*part.shape[:-2], -1)
        return out


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
