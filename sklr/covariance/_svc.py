"""Augmented covariance, tangent space and support vectors as one classifier."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._augmented import AugmentedCovariance
from sklr.covariance._delays import ESTIMATORS, WINDOWS, lag_in_samples, rate_of
from sklr.covariance._tangent import METRICS, TangentSpace
from sklr.covariance._training import check_signals, check_training
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_trials

RULES = ("mdop", "afnn")


class AugmentedCovarianceSVC(ClassifierMixin, BaseEstimator):
    """Support vector classifier on tangent vectors of augmented covariances.

    The paper's "ACM+TGSP+SVM" with (order, lag) given, or chosen from the training signals
    alone by a rule of dynamical systems.

    Parameters
    ----------
    order : int or {"mdop", "afnn"}, default=3
        Number of delayed copies, or the rule of :func:`select_embedding` that chooses order and
        lag in `fit`, without labels.
    lag : int or float, default=2
        Samples between copies; a float is in seconds. Without effect when `order` is 1 or names
        a rule.
    C : float, default=1.0
        Inverse regularisation of :class:`sklearn.svm.SVC`.
    kernel : {"linear", "rbf"}, default="linear"
        Kernel on the tangent vectors; gamma of "rbf" is scikit-learn's "scale".
    metric : {"riemann", "logeuclid", "logchol", "euclid", "wasserstein"}, default="riemann"
        Metric of the mean and of the tangent space.
    estimator : str or callable, default="cov"
        Covariance estimator, see :class:`AugmentedCovariance`.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy, see :class:`AugmentedCovariance`.
    standardize : bool, default=False
        For "oas" and "lwf" on channels of unlike units, see :class:`AugmentedCovariance`.
    class_weight : dict or "balanced", default=None
        Weights of the classes in the SVC, as in :class:`sklearn.svm.SVC`.
    sfreq : float, default=None
        Samples a second, for a lag in seconds. Not needed with ``mne.Epochs``.
    tol : float, default=1e-8
        Gradient norm at which the mean's iteration stops.
    n_jobs : int, default=None
        Threads over trials. Results do not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    order_, lag_ : int
        Embedding in use.
    reference_ : ndarray of shape (n, n)
        Mean of the training matrices.
    svc_ : SVC
        Classifier on the tangent vectors.
    n_features_in_ : int
        Number of channels.
    feature_names_in_ : ndarray of shape (n_channels,)
        Names of the channels; only where `fit` saw ``mne.Epochs``. Others are refused later.
    sfreq_in_ : float
        Samples a second; only with ``mne.Epochs``. Another rate is refused later.

    See Also
    --------
    AugmentedCovarianceSVCCV : Order, lag, C and kernel searched by cross-validation.
    select_embedding : The rules.

    Notes
    -----
    `fit` takes O(n_trials n^3) for matrices of n = order * n_channels rows, most of it in the
    mean. The defaults (3, 2) are one fixed setting that was tried on motor imagery at 160 Hz, not
    the winner of a comparison; lags scale with the sampling rate. The rules choose long lags,
    which cost short trials much of their length, and need trials of 120 samples or more.

    Probabilities come from scikit-learn's calibration:
    ``CalibratedClassifierCV(AugmentedCovarianceSVC(), ensemble=False)``.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklr.covariance import AugmentedCovarianceSVC
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(random_state=0)
    >>> cross_val_score(AugmentedCovarianceSVC(order=2, lag=1), X, y).mean().round(1)
    np.float64(1.0)
    """

    _parameter_constraints: dict = {
        "order": [Interval(Integral, 1, None, closed="left"), StrOptions(set(RULES))],
        "lag": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, None, closed="neither"),
        ],
        "C": [Interval(Real, 0, None, closed="neither")],
        "kernel": [StrOptions({"linear", "rbf"})],
        "metric": [StrOptions(set(METRICS))],
        "estimator": [StrOptions(set(ESTIMATORS)), Callable],
        "window": [StrOptions(set(WINDOWS))],
        "standardize": ["boolean"],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "sfreq": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        order=3,
        lag=2,
        *,
        C=1.0,
        kernel="linear",
        metric="riemann",
        estimator="cov",
        window="paper",
        standardize=False,
        class_weight=None,
        sfreq=None,
        tol=1e-8,
        n_jobs=None,
    ):
        self.order = order
        self.lag = lag
        self.C = C
        self.kernel = kernel
        self.metric = metric
        self.estimator = estimator
        self.window = window
        self.standardize = standardize
        self.class_weight = class_weight
        self.sfreq = sfreq
        self.tol = tol
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the mean and the classifier.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials; of Epochs the good data channels.
        y : array-like of shape (n_trials,)
            Class labels.
        sample_weight : array-like of shape (n_trials,), default=None
            Non-negative weights of the trials in the mean and in the SVC; None weighs all alike.
            Trials of weight zero are left out, whatever they are.

        Returns
        -------
        self : AugmentedCovarianceSVC
            The fitted classifier.

        Raises
        ------
        ValueError
            Bad trials (see :class:`AugmentedCovariance`), a single class, a class without weight,
            matrices that are not positive definite, or trials too short for the rule.
        """
        X, y, classes, weights, kept = check_training(self, X, y, sample_weight)
        check_signals(self, X, kept)
        order, lag = self.order, self.lag
        if isinstance(order, str):
            from sklr.covariance._embedding import select_embedding

            order, lag = select_embedding(X, method=order, n_jobs=self.n_jobs)
        else:
            lag = lag_in_samples(lag, rate_of(self))
        augment = AugmentedCovariance(
            order,
            lag,
            estimator=self.estimator,
            window=self.window,
            standardize=self.standardize,
            n_jobs=self.n_jobs,
        ).fit(X)
        if hasattr(self, "feature_names_in_"):  # for its messages
            augment.feature_names_in_ = self.feature_names_in_
        tangent = TangentSpace(self.metric, tol=self.tol, n_jobs=self.n_jobs)
        covariances = augment.transform(X)
        vectors = tangent.fit(covariances, sample_weight=weights).transform(covariances)
        # With a seed of its own the SVC does not draw one from NumPy's global generator; it uses
        # none here.
        svc = SVC(C=self.C, kernel=self.kernel, class_weight=self.class_weight, random_state=0)
        svc.fit(vectors, y, sample_weight=weights)
        self.classes_ = classes
        self.order_, self.lag_ = int(order), int(lag)
        self._augment, self._tangent, self.svc_ = augment, tangent, svc
        self.reference_ = tangent.reference_
        return self

    def _vectors(self, X):
        check_is_fitted(self)
        X = check_trials(self, X, reset=False)
        with single_blas_thread():
            return self._tangent._vectors(self._augment._matrices(X), np.finfo(np.float64).eps)

    def decision_function(self, X):
        """Return the classifier's decision values.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.

        Returns
        -------
        scores : ndarray of shape (n_trials,) or (n_trials, n_classes)
            One column for two classes, positive for ``classes_[1]``.
        """
        vectors = self._vectors(X)
        return self.svc_.decision_function(vectors)

    def predict(self, X):
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.

        Returns
        -------
        y : ndarray of shape (n_trials,)
            Labels.
        """
        vectors = self._vectors(X)
        return self.svc_.predict(vectors)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
