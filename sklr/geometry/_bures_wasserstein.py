"""Bures-Wasserstein geometry of positive (semi)definite matrices, generalised and deformed."""

from numbers import Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.geometry._bures_core import (
    Coordinates,
    Point,
    plain_mean,
    rebuild,
    transpose,
)
from sklr.geometry._spd import weighted_stack
from sklr.utils._spd_checks import (
    check_matrices,
    check_semidefinite,
    check_stack,
    require_semidefinite,
)
from sklr.utils._threads import single_blas_thread
from sklr.utils._warnings import warn_user

# Relative commutator up to which two matrices count as commuting.
_COMMUTING = 1e-10


def bw_distance(A, B, *, metric=None, power=1.0, squared=False):
    r"""Bures-Wasserstein distance between positive semidefinite matrices.

    :math:`d^2(A, B) = \operatorname{tr} A + \operatorname{tr} B
    - 2 \operatorname{tr} (A^{1/2} B A^{1/2})^{1/2}`, the 2-Wasserstein distance between centred
    Gaussians with these covariances.

    Parameters
    ----------
    A, B : array-like of shape (..., n, n)
        Symmetric positive semidefinite matrices; leading axes are broadcast.
    metric : array-like of shape (n, n), default=None
        SPD matrix M of the generalised metric: distances are those of
        :math:`M^{-1/2} A M^{-1/2}` and :math:`M^{-1/2} B M^{-1/2}`. None is the identity.
    power : float, default=1.0
        Exponent :math:`\theta > 0` of the deformation: the distance of the powers
        :math:`A^\theta, B^\theta`, divided by :math:`\theta`. Towards 0 and without `metric` it
        becomes half the log-Euclidean distance.
    squared : bool, default=False
        Whether the square is returned.

    Returns
    -------
    distance : ndarray of shape (...) or float
        The distances.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, or a matrix with an eigenvalue below zero.

    See Also
    --------
    bw_mean : The barycentre under this distance.
    pyriemann.geometry.distance.distance_wasserstein : The same for ``metric=None, power=1``.

    Notes
    -----
    Distances of nearly equal matrices come from the logarithm, so that they are not left with
    the square root of rounding, as the difference of traces is. One eigendecomposition for each
    matrix of `A` and each pair, O(n^3).

    References
    ----------
    .. [1] R. Bhatia, T. Jain, Y. Lim, "On the Bures-Wasserstein distance between positive
       definite matrices", Expositiones Mathematicae 37(2), 2019, arXiv:1712.01504.
    .. [2] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.

    Examples
    --------
    Of commuting matrices it is the distance between their square roots:

    >>> import numpy as np
    >>> from sklr.geometry import bw_distance
    >>> float(bw_distance(np.diag([1.0, 4.0]), np.diag([9.0, 4.0])))
    2.0
    """
    A, B = check_semidefinite(A, "A"), check_semidefinite(B, "B")
    coordinates = _coordinates(metric, power, A.shape[-1], B.shape[-1])
    with single_blas_thread():
        square = _square_distance(coordinates.into(A), coordinates.into(B))
    square = square / coordinates.power**2
    return square if squared else np.sqrt(square)


def _square_distance(A, B):
    values, vectors = np.linalg.eigh(A)
    frame = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
    sandwich, V = np.linalg.eigh(transpose(frame) @ B @ frame)
    roots = np.sqrt(np.maximum(sandwich, 0.0))
    traces = np.trace(A, axis1=-2, axis2=-1) + np.trace(B, axis1=-2, axis2=-1)
    square = np.maximum(traces - 2.0 * roots.sum(axis=-1), 0.0)
    close = square < 1e-4 * traces
    if close.any():
        # |log_A(B)|^2 = |A^-1/2 (R - A)|^2, R the root of the sandwich: no large terms cancel.
        values = np.broadcast_to(values, roots.shape)
        close &= values[..., 0] > 1e-12 * values[..., -1]
        a = values[close]
        step = rebuild(roots[close], V[close]) - a[:, :, None] * np.eye(a.shape[-1])
        square = np.array(square)
        square[close] = (step * step / a[:, :, None]).sum(axis=(1, 2))
    return square[()]


def bw_log(X, reference, *, metric=None, power=1.0):
    r"""Bures-Wasserstein logarithm: the tangent vector at a reference that points to `X`.

    :math:`\log_P(X) = (PX)^{1/2} + (XP)^{1/2} - 2P`.

    Parameters
    ----------
    X : array-like of shape (..., n, n)
        Symmetric positive semidefinite matrices.
    reference : array-like of shape (..., n, n)
        Positive definite base points P; leading axes are broadcast.
    metric : array-like of shape (n, n), default=None
        SPD matrix of the generalised metric, see :func:`bw_distance`.
    power : float, default=1.0
        Exponent of the deformation, see :func:`bw_distance`.

    Returns
    -------
    V : ndarray of shape (..., n, n)
        Symmetric matrices, the tangent vectors.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, an eigenvalue below zero, or a singular reference.

    See Also
    --------
    bw_exp : The inverse.
    bw_mean : Where the logarithms sum to zero.

    Notes
    -----
    With a power the vectors are those of the matrices themselves, not of their powers: the
    derivative of the power is divided out. Where the reference has condition c, rounding is
    amplified by about c in the directions of its small eigenvalues; a `metric` near the
    reference mends that.

    References
    ----------
    .. [1] L. Malago, L. Montrucchio, G. Pistone, "Wasserstein Riemannian geometry of Gaussian
       densities", Information Geometry 1, 2018, arXiv:1801.09269.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import bw_log
    >>> bw_log(np.diag([9.0, 4.0]), np.eye(2)).round(6)
    array([[4., 0.],
           [0., 2.]])
    """
    X, P = check_semidefinite(X, "X"), check_semidefinite(reference, "reference")
    coordinates = _coordinates(metric, power, X.shape[-1], P.shape[-1])
    with single_blas_thread():
        point = Point(coordinates.into(P), "reference")
        return coordinates.pull(point.out(point.log(coordinates.into(X))), P)


def bw_exp(V, reference, *, metric=None, power=1.0):
    r"""Bures-Wasserstein exponential: the end of the geodesic that starts with a vector.

    :math:`\exp_P(V) = P + V + L P L` with :math:`P L + L P = V`.

    Parameters
    ----------
    V : array-like of shape (..., n, n)
        Symmetric matrices, tangent vectors at the reference.
    reference : array-like of shape (..., n, n)
        Positive definite base points P; leading axes are broadcast.
    metric : array-like of shape (n, n), default=None
        SPD matrix of the generalised metric, see :func:`bw_distance`.
    power : float, default=1.0
        Exponent of the deformation, see :func:`bw_distance`.

    Returns
    -------
    X : ndarray of shape (..., n, n)
        Positive semidefinite matrices.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, or a singular reference.

    See Also
    --------
    bw_log : The inverse.

    Notes
    -----
    The manifold is not complete: only where I + L is positive definite is `X` on a geodesic that
    `bw_log` finds again. Beyond, the map folds back; `X` stays positive semidefinite.

    References
    ----------
    .. [1] L. Malago, L. Montrucchio, G. Pistone, "Wasserstein Riemannian geometry of Gaussian
       densities", Information Geometry 1, 2018, arXiv:1801.09269.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import bw_exp
    >>> bw_exp(np.diag([4.0, 2.0]), np.eye(2)).round(6)
    array([[9., 0.],
           [0., 4.]])
    """
    V, P = check_matrices(V, "V", psd=False)[0], check_semidefinite(reference, "reference")
    coordinates = _coordinates(metric, power, V.shape[-1], P.shape[-1])
    with single_blas_thread():
        point = Point(coordinates.into(P), "reference")
        return coordinates.out(point.exp(point.lyapunov(point.into(coordinates.push(V, P)))))


def bw_geodesic(A, B, t=0.5, *, metric=None, power=1.0):
    r"""Point on the Bures-Wasserstein geodesic from `A` to `B`.

    :math:`(1-t)^2 A + t^2 B + t(1-t)\,\bigl((AB)^{1/2} + (BA)^{1/2}\bigr)`.

    Parameters
    ----------
    A : array-like of shape (..., n, n)
        Positive definite matrices, where the geodesic starts.
    B : array-like of shape (..., n, n)
        Positive semidefinite matrices, where it ends; leading axes are broadcast.
    t : float or array-like of shape (...), default=0.5
        Position, 0 at `A` and 1 at `B`.
    metric : array-like of shape (n, n), default=None
        SPD matrix of the generalised metric, see :func:`bw_distance`.
    power : float, default=1.0
        Exponent of the deformation, see :func:`bw_distance`.

    Returns
    -------
    X : ndarray of shape (..., n, n)
        The points.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, an eigenvalue below zero, `t` outside of [0, 1], or a
        singular `A`.

    See Also
    --------
    bw_mean : Mean of many matrices; that of two is the middle of their geodesic.

    References
    ----------
    .. [1] R. Bhatia, T. Jain, Y. Lim, "On the Bures-Wasserstein distance between positive
       definite matrices", Expositiones Mathematicae 37(2), 2019, arXiv:1712.01504.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import bw_geodesic
    >>> bw_geodesic(np.diag([1.0, 4.0]), np.diag([9.0, 4.0])).round(6)
    array([[4., 0.],
           [0., 4.]])
    """
    A, B = check_semidefinite(A, "A"), check_semidefinite(B, "B")
    coordinates = _coordinates(metric, power, A.shape[-1], B.shape[-1])
    t = np.asarray(t, dtype=np.float64)
    if not ((t >= 0.0) & (t <= 1.0)).all():
        raise ValueError(f"t must be within [0, 1], got {t}.")
    with single_blas_thread():
        point = Point(coordinates.into(A), "A")
        log = point.log(coordinates.into(B))
        return coordinates.out(point.exp(point.lyapunov(t[..., None, None] * log)))


def bw_mean(
    X, *, sample_weight=None, metric=None, power=1.0, init=None, tol=1e-10, max_iter=50, n_jobs=None
):
    r"""Bures-Wasserstein barycentre of positive semidefinite matrices.

    The matrix that minimises :math:`\sum_i w_i\, d^2(G, X_i)`; there the weighted logarithms sum
    to zero.

    Parameters
    ----------
    X : array-like of shape (..., n_matrices, n, n)
        Symmetric positive semidefinite matrices; one mean for each of the leading axes.
    sample_weight : array-like of shape (n_matrices,), default=None
        Non-negative weights, scaled to sum to one. None weighs all alike. Matrices of weight
        zero are left out, whatever they are.
    metric : array-like of shape (n, n), default=None
        SPD matrix of the generalised metric, see :func:`bw_distance`.
    power : float, default=1.0
        Exponent of the deformation, see :func:`bw_distance`.
    init : array-like of shape (n, n), default=None
        SPD matrix to start from. None starts from the arithmetic mean of the powers.
    tol : float, default=1e-10
        Stop where the mean logarithm has at most this norm, relative to the root of the trace.
    max_iter : int, default=50
        Largest number of evaluations, each with one eigendecomposition a matrix.
    n_jobs : int, default=None
        Threads for the eigendecompositions. The result does not depend on it.

    Returns
    -------
    G : ndarray of shape (..., n, n)
        The barycentre.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, negative weights, an eigenvalue below zero, or a mean
        that is singular.

    Warns
    -----
    ConvergenceWarning
        `tol` was not reached in `max_iter` steps; the norm that was reached is said.

    See Also
    --------
    mean_riemann : The mean under the affine-invariant metric.
    pyriemann.geometry.mean.mean_wasserstein : The same for ``metric=None, power=1``.

    Notes
    -----
    The fixed point of [1]_, and Newton's method once it is near. The fixed point alone is linear:
    an error falls to about a twentieth a step on Wishart matrices with 3 n degrees of freedom, but
    to .75 where the condition is 1e6. With Newton's steps the first kind takes 4 evaluations
    and the second about 13. Means of singular matrices are an edge of the problem: they come by the
    fixed point, slowly; a `tol` of 1e-3 is what 50 evaluations reach.

    References
    ----------
    .. [1] P. C. Alvarez-Esteban, E. del Barrio, J. A. Cuesta-Albertos, C. Matran, "A fixed-point
       approach to barycenters in Wasserstein space", J. Math. Anal. Appl. 441(2), 2016,
       arXiv:1511.05355.

    Examples
    --------
    The square root of the mean of commuting matrices is the mean of their square roots:

    >>> import numpy as np
    >>> from sklr.geometry import bw_mean
    >>> bw_mean([np.diag([1.0, 4.0]), np.diag([9.0, 4.0])]).round(6)
    array([[4., 0.],
           [0., 4.]])
    """
    X, weights, numbers = weighted_stack(X, sample_weight)
    X, eps = check_stack(X)
    coordinates = _coordinates(metric, power, X.shape[-1], X.shape[-1])
    if max_iter < 1:
        raise ValueError(f"max_iter must be at least 1, got {max_iter}.")
    require_semidefinite(X, numbers=None if X.ndim > 3 else numbers, eps=eps)
    start = None
    if init is not None:
        start = check_semidefinite(init, "init")
        if start.shape != X.shape[-2:]:
            raise ValueError(f"init has shape {start.shape}, expected {X.shape[-2:]}.")
        start = coordinates.into(start)
    means = np.empty(X.shape[:-3] + X.shape[-2:])
    with single_blas_thread():
        for index in np.ndindex(X.shape[:-3]):
            Y = coordinates.into(X[index], n_jobs)
            first = np.tensordot(weights, Y, axes=1) if start is None else start
            G, _, residual = plain_mean(Y, weights, first, tol, max_iter, n_jobs)
            warn_unless_converged(residual, tol, max_iter)
            means[index] = coordinates.out(G)
    return means


def warn_unless_converged(residual, tol, max_iter):
    """Say that the fixed point stopped early, with the numbers."""
    if residual > tol:
        warn_user(
            f"The Bures-Wasserstein mean stopped after {max_iter} evaluations at a relative norm "
            f"of the mean logarithm of {residual:.3g}, above tol={tol:.3g}.",
            ConvergenceWarning,
        )


def bw_transport(V, A, B, *, metric=None, power=1.0):
    r"""Bures-Wasserstein parallel transport between commuting points.

    In the common eigenbasis, entry by entry,
    :math:`V_{ij} \mapsto \sqrt{(b_i + b_j)/(a_i + a_j)}\; V_{ij}`; exact, an isometry.

    Parameters
    ----------
    V : array-like of shape (..., n, n)
        Symmetric matrices, tangent vectors at `A`.
    A, B : array-like of shape (..., n, n)
        Positive definite matrices that commute with each other, such as any matrix and the
        identity; leading axes are broadcast. With a `metric` their images in its coordinates
        must commute: then the origin is `metric` to the power ``1 / power``.
    metric : array-like of shape (n, n), default=None
        SPD matrix of the generalised metric, see :func:`bw_distance`.
    power : float, default=1.0
        Exponent of the deformation, see :func:`bw_distance`.

    Returns
    -------
    W : ndarray of shape (..., n, n)
        Tangent vectors at `B`.

    Raises
    ------
    ValueError
        Wrong shapes, non-finite values, singular points, or points that do not commute: between
        those there is no closed form.

    See Also
    --------
    bw_log : Makes tangent vectors.

    References
    ----------
    .. [1] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import bw_transport
    >>> bw_transport(np.ones((2, 2)), np.eye(2), np.diag([1.0, 7.0])).round(6)
    array([[1.        , 2.        ],
           [2.        , 2.645751]])
    """
    V = check_matrices(V, "V", psd=False)[0]
    A, B = check_semidefinite(A, "A"), check_semidefinite(B, "B")
    coordinates = _coordinates(metric, power, V.shape[-1], A.shape[-1], B.shape[-1])
    with single_blas_thread():
        vectors, a, b = _common_basis(coordinates.into(A), coordinates.into(B))
        inner = transpose(vectors) @ coordinates.push(V, A) @ vectors
        sums = [x[..., :, None] + x[..., None, :] for x in (a, b)]
        moved = vectors @ (inner * np.sqrt(sums[1] / sums[0])) @ transpose(vectors)
        return coordinates.pull(moved, B)


def _common_basis(A, B):
    """Eigenvectors of both, and their eigenvalues there; refuses what does not commute."""
    Point(A, "A"), Point(B, "B")
    A, B = np.broadcast_arrays(A, B)
    size_a, size_b = (np.linalg.norm(X, axis=(-2, -1))[..., None, None] for X in (A, B))
    # A generic combination has no eigenvalue twice unless both have, in the same space.
    _, vectors = np.linalg.eigh(A / size_a + (np.sqrt(5.0) - 1.0) / 2.0 * (B / size_b))
    diagonals = []
    for X, size, name in ((A, size_a, "A"), (B, size_b, "B")):
        inner = transpose(vectors) @ X @ vectors
        diagonal = np.diagonal(inner, axis1=-2, axis2=-1)
        rest = np.abs(inner - diagonal[..., None] * np.eye(X.shape[-1])) / size
        if rest.max(initial=0.0) > _COMMUTING:
            raise ValueError(
                f"A and B must commute, but {name} is off the common eigenbasis by "
                f"{rest.max():.3g} of its norm. Transport in two steps, through the identity."
            )
        diagonals.append(diagonal)
    return vectors, *diagonals


def _coordinates(metric, power, *sizes):
    if len(set(sizes)) > 1:
        raise ValueError(f"Matrices of different sizes: {' and '.join(map(str, sizes))}.")
    if isinstance(power, bool) or not isinstance(power, Real) or not 0 < power < np.inf:
        raise ValueError(f"power must be a finite number above 0, got {power!r}.")
    if metric is not None:
        metric = check_semidefinite(metric, "metric")
        if metric.shape != (sizes[0], sizes[0]):
            raise ValueError(f"metric has shape {metric.shape}, expected {(sizes[0],) * 2}.")
    return Coordinates(metric, power)
