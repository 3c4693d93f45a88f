"""Tangent space of SPD matrices as a transformer, on the fast Riemannian mean."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.geometry._spd_frame import Frame, unvectorize
from sklr.geometry._spd_mean import newton_mean
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._spd_checks import require_definite, require_semidefinite, rounding
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_array, check_sample_weight, check_spd_stack

METRICS = ("riemann", "logeuclid", "logchol", "euclid", "wasserstein")
#: Metrics that take the logarithm of the matrices.
_LOGARITHMIC = ("riemann", "logeuclid", "logchol")


def check_for_metric(X, metric, eps, numbers=None):
    """Refuse what the metric cannot take: singular matrices, or indefinite ones."""
    if metric in _LOGARITHMIC:
        require_definite(X, eps=eps, numbers=numbers)
    else:
        require_semidefinite(X, eps=eps, numbers=numbers)


def checked_weights(sample_weight, X):
    """Weights of the matrices that have one, and the places of these; None for all alike."""
    if sample_weight is None:
        return None, None
    weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    kept = np.flatnonzero(weights)
    return weights[kept], kept


def reference_matrix(X, metric, tol, n_jobs, sample_weight=None):
    """Mean of checked matrices: our own for the affine-invariant metric, else pyRiemann's."""
    if metric == "riemann":
        weights = np.ones(len(X)) if sample_weight is None else sample_weight
        return newton_mean(X, weights / weights.sum(), tol=tol, n_jobs=n_jobs)
    from pyriemann.geometry.mean import gmean

    return gmean(X, metric=metric, sample_weight=sample_weight)


def tangent_vectors(X, reference, metric, n_jobs, eps=None, frame=None):
    """Tangent vectors: our own for the affine-invariant metric.

    With `eps`, the rounding of the numbers that came in, matrices that the metric cannot take
    are refused; else they were checked before. `frame` may be at hand.
    """
    if metric == "riemann":
        with single_blas_thread():
            return (frame or Frame(reference)).vectors(X, n_jobs, eps)
    if eps is not None:
        check_for_metric(X, metric, eps)
    from pyriemann.geometry.tangentspace import tangent_space as pyriemann_tangent_space

    return pyriemann_tangent_space(X, reference, metric=metric)


class TangentSpace(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Map SPD matrices to tangent vectors at their mean.

    The same vectors as pyRiemann's transformer of this name; for the affine-invariant metric the
    mean takes about half the time and the map the same. It passes scikit-learn's
    checks, and has `set_output` and feature names.

    Parameters
    ----------
    metric : {"riemann", "logeuclid", "logchol", "euclid", "wasserstein"}, default="riemann"
        Metric of the mean and of the map. "riemann" (affine-invariant) is computed here, the
        others by pyRiemann.
    tol : float, default=1e-8
        Gradient norm at which the mean's iteration stops (metric "riemann").
    n_jobs : int, default=None
        Threads over matrices. Results do not depend on it.

    Attributes
    ----------
    reference_ : ndarray of shape (n, n)
        Mean of the matrices seen in `fit`.
    n_features_in_ : int
        Rows of each matrix.

    See Also
    --------
    AugmentedCovariance : Makes SPD matrices of trials.
    pyriemann.tangentspace.TangentSpace : The transformer that this one follows.

    Notes
    -----
    O(n_matrices n^3) a step of the mean, with four or five steps, and once more for the map.

    References
    ----------
    .. [1] A. Barachant, S. Bonnet, M. Congedo, C. Jutten, "Multiclass brain-computer interface
       classification by Riemannian geometry", IEEE Trans. Biomed. Eng. 59(4), 2012.
       https://doi.org/10.1109/TBME.2011.2172210

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.covariance import TangentSpace
    >>> X = np.array([np.diag([1.0, 4.0]), np.diag([4.0, 1.0])])
    >>> TangentSpace().fit_transform(X).round(3) + 0.0
    array([[-0.693,  0.   ,  0.693],
           [ 0.693,  0.   , -0.693]])
    """

    # How the public estimator checks lift a table: to SPD matrices.
    _takes_spd = True

    _parameter_constraints: dict = {
        "metric": [StrOptions(set(METRICS))],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
    }

    def __init__(self, metric="riemann", *, tol=1e-8, n_jobs=None):
        self.metric = metric
        self.tol = tol
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Compute the reference matrix.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_matrices,), default=None
            Non-negative weights of the mean; None weighs all alike. Matrices of weight zero
            are left out, whatever they are.

        Returns
        -------
        self : TangentSpace
            The fitted transformer.

        Raises
        ------
        ValueError
            Wrong shape, NaN or infinity, complex, not symmetric or not positive definite (after
            scaling to unit diagonal: units of channels may differ).
        """
        eps = rounding(X)
        X = check_spd_stack(self, X)
        weights, kept = checked_weights(sample_weight, X)
        seen = X if kept is None else X[kept]
        check_for_metric(seen, self.metric, eps, kept)
        self.reference_ = reference_matrix(seen, self.metric, self.tol, self.n_jobs, weights)
        # Kept with the matrix that it is of: one trial's transform takes half as long.
        self._frame = (
            (self.reference_, Frame(self.reference_)) if self.metric == "riemann" else None
        )
        self._n_features_out = X.shape[1] * (X.shape[1] + 1) // 2
        return self

    def _vectors(self, X, eps):
        """Tangent vectors of matrices that were validated but for definiteness."""
        frame = None
        if self._frame is not None and self._frame[0] is self.reference_:
            frame = self._frame[1]
        return np.asarray(tangent_vectors(X, self.reference_, self.metric, self.n_jobs, eps, frame))

    def transform(self, X):
        """Map matrices to tangent vectors at the reference.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.

        Returns
        -------
        vectors : ndarray of shape (n_matrices, n * (n + 1) / 2)
            Tangent vectors.
        """
        check_is_fitted(self)
        eps = rounding(X)
        X = check_spd_stack(self, X, reset=False)
        return self._vectors(X, eps)

    def inverse_transform(self, X):
        """Map tangent vectors back to matrices.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n * (n + 1) / 2)
            Tangent vectors at the reference, such as `transform` makes or the coefficients of a
            linear model on them.

        Returns
        -------
        matrices : ndarray of shape (n_matrices, n, n)
            SPD matrices.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=np.float64, input_name="X")
        if X.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {X.shape[1]} features, but TangentSpace makes {self._n_features_out} of "
                f"matrices with {self.n_features_in_} rows."
            )
        if self.metric == "riemann":
            with single_blas_thread():
                matrices = Frame(self.reference_).exps(unvectorize(X), self.n_jobs)
            if not np.isfinite(matrices).all():
                raise ValueError("The exponential of a tangent vector overflows: X is too large.")
            return matrices
        from pyriemann.geometry.tangentspace import untangent_space

        return np.asarray(untangent_space(X, self.reference_, metric=self.metric))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
