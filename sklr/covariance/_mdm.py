"""Minimum distance to mean: the simplest classifier of SPD matrices, on the fast mean."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._training import check_training
from sklr.geometry._spd_frame import distances_to
from sklr.geometry._spd_mean import class_means
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._spd_checks import require_definite, rounding
from sklr.utils._validation import check_spd_stack


class MDM(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    r"""Classify SPD matrices by the nearest class mean, affine-invariant metric.

    Minimum distance to mean: one mean a class, and each matrix goes to the class whose mean is
    nearest. Nothing has to be chosen, few trials are enough, and channels may have any units.

    Parameters
    ----------
    tol : float, default=1e-8
        Gradient norm at which the means' iterations stop.
    n_jobs : int, default=None
        Threads over matrices. Results do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    means_ : ndarray of shape (n_classes, n, n)
        Mean of each class.
    n_features_in_ : int
        Rows of each matrix.

    See Also
    --------
    TangentSpace : With a linear classifier it usually scores higher.
    pyriemann.classification.MDM : The same under a dozen metrics.

    Notes
    -----
    O(n_matrices n^3) a step of the means, with four or five steps; a prediction takes the
    eigenvalues of one matrix for each class.

    References
    ----------
    .. [1] A. Barachant, S. Bonnet, M. Congedo, C. Jutten, "Multiclass brain-computer interface
       classification by Riemannian geometry", IEEE Trans. Biomed. Eng. 59(4), 2012.
       https://doi.org/10.1109/TBME.2011.2172210

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklr.covariance import MDM, AugmentedCovariance
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(random_state=0)
    >>> pipe = make_pipeline(AugmentedCovariance(2), MDM())
    >>> cross_val_score(pipe, X, y).mean().round(1)
    np.float64(1.0)
    """

    # How the public estimator checks lift a table: to SPD matrices.
    _takes_spd = True

    _parameter_constraints: dict = {
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
    }

    def __init__(self, *, tol=1e-8, n_jobs=None):
        self.tol = tol
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Compute the mean of each class.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.
        y : array-like of shape (n_matrices,)
            Class labels.
        sample_weight : array-like of shape (n_matrices,), default=None
            Non-negative weights in the means; None weighs all alike. Matrices of weight zero are
            left out, whatever they are.

        Returns
        -------
        self : MDM
            The fitted classifier.

        Raises
        ------
        ValueError
            Matrices that are not SPD, a single class, or a class without weight.
        """
        eps = rounding(X)
        X, y, classes, weights, kept = check_training(self, X, y, sample_weight, check_spd_stack)
        require_definite(X, eps=eps, numbers=kept)
        members = [np.flatnonzero(y == label) for label in classes]
        self.means_ = class_means(X, members, weights, tol=self.tol, n_jobs=self.n_jobs)
        self.classes_ = classes
        self._n_features_out = len(classes)
        return self

    def _distances(self, X):
        check_is_fitted(self)
        eps = rounding(X)
        X = check_spd_stack(self, X, reset=False)
        require_definite(X, eps=eps)
        return distances_to(X, self.means_, self.n_jobs)

    def transform(self, X):
        """Compute the distance to each class mean.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.

        Returns
        -------
        distances : ndarray of shape (n_matrices, n_classes)
            The distances.
        """
        return self._distances(X)

    def decision_function(self, X):
        """Return squared distances as scores: the higher, the nearer.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.

        Returns
        -------
        scores : ndarray of shape (n_matrices,) or (n_matrices, n_classes)
            The negative squared distances; for two classes the difference of them, positive for
            ``classes_[1]``.
        """
        scores = -(self._distances(X) ** 2)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.

        Returns
        -------
        y : ndarray of shape (n_matrices,)
            Labels.
        """
        distances = self._distances(X)
        return self.classes_[distances.argmin(axis=1)]

    def predict_proba(self, X):
        """Return the softmax of the negative squared distances, as pyRiemann does.

        They rank classes and are not calibrated: use
        :class:`sklearn.calibration.CalibratedClassifierCV` where the numbers matter.

        Parameters
        ----------
        X : array-like of shape (n_matrices, n, n)
            SPD matrices.

        Returns
        -------
        probabilities : ndarray of shape (n_matrices, n_classes)
            They sum to one.
        """
        from scipy.special import softmax

        return softmax(-(self._distances(X) ** 2), axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
