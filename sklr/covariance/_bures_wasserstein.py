"""Recentring and rescaling of covariance matrices under the Bures-Wasserstein metric."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._matrix_output import MatrixTransformerMixin
from sklr.geometry._bures_core import (
    Coordinates,
    Point,
    mean_square_distance,
    move,
    plain_mean,
)
from sklr.geometry._bures_wasserstein import _square_distance, warn_unless_converged
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._spd_checks import (
    require_definite,
    require_semidefinite,
    rounding,
    symmetric,
)
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_sample_weight, check_spd_stack
from sklr.utils._warnings import warn_user


class BuresWassersteinScaler(MatrixTransformerMixin, BaseEstimator):
    r"""Centre and scale SPD matrices under the Bures-Wasserstein metric.

    What :class:`sklearn.preprocessing.StandardScaler` does to numbers, done to covariance
    matrices: their barycentre is moved to `bias`, and their Frechet variance becomes
    ``scale ** 2``; :class:`TangentSpace` or a classifier comes after it. Sessions and subjects
    are made comparable by :class:`GroupRecentering`: a scaler for each, with ``metric="mean"``,
    would move each to its own mean.

    Parameters
    ----------
    metric : array-like of shape (n, n), "mean" or None, default=None
        SPD matrix M of the generalised metric,
        :math:`d_M(A, B) = d(M^{-1/2} A M^{-1/2}, M^{-1/2} B M^{-1/2})`. None is the identity: the
        plain metric, in which directions of large variance rule. "mean" takes the arithmetic
        mean of the (powers of the) matrices seen in `fit`, so that no channel's unit matters.
    power : float, default=1.0
        Exponent of the deformation: the geometry of the powers of the matrices. Towards 0 it
        becomes the log-Euclidean one.
    bias : array-like of shape (n, n), default=None
        SPD matrix that the mean is moved to. None is the origin of the metric, ``metric_`` to
        the power ``1 / power``, which is the identity in the plain metric.
    with_scale : bool, default=True
        Whether the variance is scaled. If not, tangent vectors keep their lengths; keep the
        matrices near the size of `bias` then, see Notes.
    scale : float, default=1.0
        Standard deviation (root of the Frechet variance) that the matrices are given.
    max_iter : int, default=50
        Largest number of evaluations of the barycentre, see :func:`sklr.geometry.bw_mean`.
    tol : float, default=1e-10
        Relative norm of the mean logarithm at which the barycentre's iteration stops.
    momentum : float, default=None
        Weight of a new batch in `partial_fit`. None weighs batches by their numbers of matrices,
        so that all count alike.
    n_jobs : int, default=None
        Threads over matrices. Results do not depend on it.

    Attributes
    ----------
    mean_ : ndarray of shape (n, n)
        Barycentre of the matrices.
    var_ : float
        Frechet variance: mean squared distance from the barycentre.
    metric_ : ndarray of shape (n, n)
        The matrix M of the metric.
    bias_ : ndarray of shape (n, n)
        The matrix that the mean is moved to.
    n_iter_ : int
        Evaluations that the barycentre took.
    n_samples_seen_ : int
        Matrices seen by `fit` and `partial_fit`.
    n_features_in_ : int
        Rows of each matrix.

    See Also
    --------
    sklr.nn.SPDBatchNormBW : The same map as a layer of a network.
    TangentSpace : What usually comes next.
    GroupRecentering : Recentring of sessions and subjects.

    Notes
    -----
    With :math:`V_i` the logarithm of a matrix at the mean, transported to the identity, the
    result is the exponential at `bias` of :math:`f V_i`, with f the quotient of the standard
    deviations. This is exact: mean and variance of the result are `bias` and ``scale ** 2``, as
    long as all :math:`f V_i` stay where the exponential can be undone. The manifold has an edge (a
    standard deviation below zero in some direction), and what is pushed over it folds back;
    `transform` warns of that with the number of matrices, and `inverse_transform` does not get
    them back. A smaller `scale` avoids it: with few channels, or one direction that has most of
    the variance, 0.3 is safer than 1.

    Singular matrices are allowed as long as their mean is not singular; their barycentre comes
    slowly, and a `tol` of 1e-3 is in reach.

    `transform` costs one eigendecomposition a matrix (two more with a power), `fit` one for each
    step. Memory is a few stacks like `X`.

    References
    ----------
    .. [1] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.

    Examples
    --------
    Of diagonal matrices the square roots of the entries are standardised:

    >>> import numpy as np
    >>> from sklr.covariance import BuresWassersteinScaler
    >>> X = np.array([np.diag([1.0, 16.0]), np.diag([9.0, 4.0])])
    >>> scaler = BuresWassersteinScaler().fit(X)
    >>> scaler.mean_.round(6), round(scaler.var_, 6)
    (array([[4., 0.],
           [0., 9.]]), 2.0)
    >>> np.sqrt(scaler.transform(X).diagonal(axis1=1, axis2=2)).round(4)
    array([[0.2929, 1.7071],
           [1.7071, 0.2929]])
    """

    # How the public estimator checks lift a table: to SPD matrices.
    _takes_spd = True

    _parameter_constraints: dict = {
        "metric": ["array-like", StrOptions({"mean"}), None],
        "power": [Interval(Real, 0, None, closed="neither")],
        "bias": ["array-like", None],
        "with_scale": ["boolean"],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="right"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        metric=None,
        power=1.0,
        bias=None,
        with_scale=True,
        scale=1.0,
        max_iter=50,
        tol=1e-10,
        momentum=None,
        n_jobs=None,
    ):
        self.metric = metric
        self.power = power
        self.bias = bias
        self.with_scale = with_scale
        self.scale = scale
        self.max_iter = max_iter
        self.tol = tol
        self.momentum = momentum
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Compute mean and variance.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            Symmetric positive semidefinite matrices.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_matrices,), default=None
            Non-negative weights; None weighs all alike.

        Returns
        -------
        self : BuresWassersteinScaler
            The fitted scaler.

        Raises
        ------
        ValueError
            Wrong shape, NaN or infinity, complex, not symmetric, an eigenvalue below zero, a
            singular mean, or matrices that are all the same while their variance is to be scaled.
        """
        X, weights, total, n_seen = self._checked(X, sample_weight, reset=True)
        metric, bias = self._given("metric", X), self._given("bias", X)
        with single_blas_thread():
            if isinstance(metric, str):
                powers = Coordinates(None, self.power).into(X, self.n_jobs)
                metric = np.tensordot(weights, powers, axes=1)
            coordinates = Coordinates(metric, self.power)
            mean, var, steps = self._moments(X, weights, coordinates)
            self._check_variance(var, mean, len(X))
            eye = np.eye(X.shape[1])
            self.bias_ = coordinates.out(eye) if bias is None else bias
            Point(coordinates.into(self.bias_), "bias")
            self.mean_ = coordinates.out(mean)
        self.metric_ = eye if metric is None else metric
        self.var_, self.n_iter_ = var, steps
        self.n_samples_seen_, self._weight_seen = n_seen, total
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Take further matrices into mean and variance.

        The mean goes along the geodesic to that of the new matrices; the variance is the mean of
        both and of what lies between the means. For matrices that commute and ``momentum=None``
        the result is that of one `fit`, for others nearly.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            Symmetric positive semidefinite matrices.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_matrices,), default=None
            Non-negative weights; None weighs all alike.

        Returns
        -------
        self : BuresWassersteinScaler
            The fitted scaler.
        """
        if not hasattr(self, "mean_"):
            return self.fit(X, sample_weight=sample_weight)
        X, weights, total, n_seen = self._checked(X, sample_weight, reset=False)
        seen = self._weight_seen + total
        t = total / seen if self.momentum is None else self.momentum
        with single_blas_thread():
            coordinates = Coordinates(self.metric_, self.power)
            new, new_var, steps = self._moments(X, weights, coordinates)
            old = coordinates.into(self.mean_)
            between = float(_square_distance(old, new)) / self.power**2
            point = Point(old, "mean_")
            mean = point.exp(t * point.lyapunov(point.log(new)))
            var = (1.0 - t) * self.var_ + t * new_var + t * (1.0 - t) * between
            self._check_variance(var, mean, len(X))
            self.mean_ = coordinates.out(mean)
        self.var_, self.n_iter_ = var, steps
        self.n_samples_seen_ += n_seen
        self._weight_seen = seen
        return self

    def transform(self, X):
        """Centre and scale matrices.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            Symmetric positive semidefinite matrices.

        Returns
        -------
        X_scaled : ndarray of shape (n_matrices, n, n)
            The moved matrices.

        Warns
        -----
        UserWarning
            Some matrices were pushed over the edge of the manifold; the message says how many.
        """
        check_is_fitted(self)
        return self._moved(X, self.mean_, self.bias_, self._factor())

    def inverse_transform(self, X):
        """Undo the scaling.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            Matrices that `transform` returned.

        Returns
        -------
        X_original : ndarray of shape (n_matrices, n, n)
            The matrices that they were made of, but for those that `transform` warned of.
        """
        check_is_fitted(self)
        return self._moved(X, self.bias_, self.mean_, 1.0 / self._factor())

    def _moved(self, X, source, target, factor):
        eps = rounding(X)
        X = check_spd_stack(self, X, reset=False)
        if self.power != 1.0:
            require_semidefinite(X, eps=eps)
        with single_blas_thread():
            coordinates = Coordinates(self._metric_or_none(), self.power)
            ends = [Point(coordinates.into(P), "mean_ or bias_") for P in (source, target)]
            moved, folded = move(coordinates.into(X, self.n_jobs), *ends, factor, self.n_jobs, eps)
            moved = coordinates.out(moved, self.n_jobs)
        if folded.any():
            warn_user(
                f"{int(folded.sum())} of {len(X)} matrices were pushed over the edge of the "
                f"Bures-Wasserstein manifold (the first is matrix {int(np.argmax(folded))}) and "
                "folded back, so that the map is not one-to-one there. A scale below "
                f"{self.scale:g}, or without with_scale a bias of the size of the matrices, "
                "avoids it.",
            )
        return moved

    def _metric_or_none(self):
        """Skip the two products with the identity."""
        return None if self.metric is None else self.metric_

    def _factor(self):
        # Vectors in the coordinates are longer by `power` than under the deformed metric.
        return self.scale / np.sqrt(self.var_) if self.with_scale else 1.0

    def _moments(self, X, weights, coordinates):
        Y = coordinates.into(X, self.n_jobs)
        start = np.tensordot(weights, Y, axes=1)
        mean, steps, residual = plain_mean(Y, weights, start, self.tol, self.max_iter, self.n_jobs)
        warn_unless_converged(residual, self.tol, self.max_iter)
        point = Point(mean, "The mean of the matrices")
        var = mean_square_distance(Y, weights, point, self.n_jobs) / self.power**2
        return mean, var, steps

    def _check_variance(self, var, mean, n_samples):
        if self.with_scale and not var > 1e-20 * np.trace(mean) / self.power**2:
            raise ValueError(
                f"All matrices are the same (n_samples={n_samples}, Frechet variance {var:.3g}): "
                "there is no variance to scale. Give more than one matrix, or with_scale=False."
            )

    def _checked(self, X, sample_weight, reset):
        """Matrices that have a weight, the weights over their sum, the sum, and all matrices."""
        eps = rounding(X)
        X = check_spd_stack(self, X, reset=reset)
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        total, n_seen, kept = float(weights.sum()), len(X), np.flatnonzero(weights)
        if len(kept) < n_seen:
            X, weights = X[kept], weights[kept]
        require_semidefinite(X, numbers=kept, eps=eps)
        return X, weights / total, total, n_seen

    def _given(self, name, X):
        value = getattr(self, name)
        if value is None or isinstance(value, str):
            return value
        eps = rounding(value)
        value = np.array(value, dtype=np.float64)
        if value.shape != X.shape[1:]:
            raise ValueError(f"{name} has shape {value.shape}, expected {X.shape[1:]}.")
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be a finite, symmetric matrix.")
        value = symmetric(value, f"{name} must be a finite, symmetric matrix; ", eps)
        try:
            require_definite(value, name, eps=eps)
        except ValueError as exc:
            raise ValueError(f"{name} must be positive definite. {exc}") from None
        return value
