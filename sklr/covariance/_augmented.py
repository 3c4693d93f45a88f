"""Augmented covariances: covariances of trials stacked with delayed copies of themselves."""

from collections.abc import Callable
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._delays import (
    ESTIMATORS,
    PLAIN,
    STRUCTURES,
    WINDOWS,
    cell_covariances,
    check_embedding,
    check_independent_channels,
    check_no_flat_channel,
    check_options,
    check_rank,
    lag_in_samples,
    rate_of,
    warn_of_unlike_units,
)
from sklr.covariance._matrix_output import MatrixTransformerMixin
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._spd_checks import require_definite
from sklr.utils._validation import check_trials


class AugmentedCovariance(MatrixTransformerMixin, BaseEstimator):
    """Augmented covariance matrices of multichannel trials.

    Stacks `order` copies of each trial, each `lag` samples later, and returns the covariance of
    the stack: an SPD matrix that holds spatial and temporal (autoregressive) information, for
    the Riemannian classifiers that take ordinary covariances. ``order=1`` is the ordinary
    covariance.

    Parameters
    ----------
    order : int, default=1
        Number of copies.
    lag : int or float, default=1
        Samples between one copy and the next; a float is in seconds. Without effect at
        ``order=1``.
    estimator : str or callable, default="cov"
        One of pyRiemann's covariance estimators ("corr", "cov", "hub", "lwf", "mcd", "oas",
        "sch", "scm", "stu", "tyl"), or a callable from a stacked trial (n_rows, n_window) to its
        matrix. Use "oas" or
        "lwf" where ``order * n_channels`` comes near the number of samples.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy: ``n_times - order * lag`` as in the paper's code and in
        MOABB, or all ``n_times - (order - 1) * lag`` that the copies have in common.
    structure : {"sample", "toeplitz"}, default="sample"
        Covariance of the stack, or the exactly block-Toeplitz matrix of biased autocovariances
        (then `window` is without effect and `estimator` must be "cov").
    standardize : bool, default=False
        Whether the estimator gets rows of unit variance, and its matrix is scaled back: "oas" and
        "lwf" then shrink correlations. Use it with them where channels have unlike units,
        such as MEG beside EEG; "cov", "scm", "corr" and "sch" do not depend on units anyway.
    rank_deficient : {"raise", "keep"}, default="raise"
        What becomes of trials whose matrix is singular (fewer samples than rows, an average
        reference, a constant channel). "keep" hands them on, to a step that regularises them or
        takes them as they are.
    sfreq : float, default=None
        Samples a second, for a lag in seconds. Not needed with ``mne.Epochs``.
    n_jobs : int, default=None
        Threads over trials. Results do not depend on it.

    Attributes
    ----------
    lag_ : int
        The lag in samples.
    n_features_in_ : int
        Number of channels.
    feature_names_in_ : ndarray of shape (n_channels,)
        Names of the channels; only where `fit` saw ``mne.Epochs``. Others are refused later.
    sfreq_in_ : float
        Samples a second; only with ``mne.Epochs``. Another rate is refused later.
    n_times_in_ : int
        Samples a trial had in `fit`; trials of other lengths may be transformed.
    n_features_out_ : int
        Rows of each matrix, ``order * n_channels``.

    See Also
    --------
    AugmentedCovarianceSVC : With tangent space and classifier, ready made.
    AugmentedCovarianceSVCCV : The same, with order and lag searched by cross-validation.
    select_embedding : Order and lag from the signals, without labels.
    moabb.pipelines.features.AugmentedDataset : The stacked signals only.

    Notes
    -----
    Transform takes O(n_trials (order C^2 T + order^2 C^2 (1 + lag))) for C channels and T
    samples. The output is 3-D and stays an ndarray whatever `set_output` asks for.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from sklr.covariance import AugmentedCovariance, TangentSpace
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(random_state=0)
    >>> for order in (1, 2):
    ...     pipe = make_pipeline(AugmentedCovariance(order), TangentSpace(), SVC(kernel="linear"))
    ...     print(f"order {order}: accuracy {cross_val_score(pipe, X, y).mean():.1f}")
    order 1: accuracy 0.5
    order 2: accuracy 1.0
    """

    _parameter_constraints: dict = {
        "order": [Interval(Integral, 1, None, closed="left")],
        "lag": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, None, closed="neither"),
        ],
        "estimator": [StrOptions(set(ESTIMATORS)), Callable],
        "window": [StrOptions(set(WINDOWS))],
        "structure": [StrOptions(set(STRUCTURES))],
        "standardize": ["boolean"],
        "rank_deficient": [StrOptions({"raise", "keep"})],
        "sfreq": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        order=1,
        lag=1,
        *,
        estimator="cov",
        window="paper",
        structure="sample",
        standardize=False,
        rank_deficient="raise",
        sfreq=None,
        n_jobs=None,
    ):
        self.order = order
        self.lag = lag
        self.estimator = estimator
        self.window = window
        self.structure = structure
        self.standardize = standardize
        self.rank_deficient = rank_deficient
        self.sfreq = sfreq
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the trials; nothing is learned from them.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials; of Epochs the good data channels.
        y : None
            Ignored.

        Returns
        -------
        self : AugmentedCovariance
            The fitted transformer.

        Raises
        ------
        ValueError
            Wrong shape, NaN or infinity, complex data, too short trials, or an unregularised
            estimator with ``order * n_channels`` above the degrees of freedom, with channels
            that depend on each other (average reference) or with a constant channel in a trial.

        Warns
        -----
        UserWarning
            Channels of unlike units, and an estimator that shrinks without `standardize`.
        """
        X = check_trials(self, X)
        self.lag_ = lag_in_samples(self.lag, rate_of(self))
        self._check_cell(X)
        if self._is_checked():
            check_independent_channels(X, self.estimator)
        if not self.standardize:
            warn_of_unlike_units(X, self.estimator)
        self.n_times_in_ = X.shape[2]
        self.n_features_out_ = self.order * X.shape[1]
        return self

    def transform(self, X):
        """Compute the augmented covariance of each trial.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials, with the channels seen in `fit`.

        Returns
        -------
        covariances : ndarray of shape (n_trials, order * n_channels, order * n_channels)
            Symmetric matrices, float64.

        Raises
        ------
        ValueError
            As in `fit`; a trial whose matrix is singular is named, and the channels that do it.
        """
        check_is_fitted(self)
        return self._matrices(check_trials(self, X, reset=False))

    def _matrices(self, X):
        """Matrices of validated trials."""
        self._check_cell(X)
        matrices = cell_covariances(
            X,
            self.order,
            self.lag_,
            self.estimator,
            self.window,
            self.structure,
            self.n_jobs,
            self.standardize,
        )
        if self._is_checked():
            names = getattr(self, "feature_names_in_", range(self.n_features_in_))
            require_definite(matrices, channels=[str(name) for name in names] * self.order)
        return matrices

    def _is_checked(self):
        """Whether matrices must be definite already here, and not only where a later step says."""
        plain = not callable(self.estimator) and self.estimator in PLAIN
        return self.rank_deficient == "raise" and self.structure == "sample" and plain

    def _check_cell(self, X):
        check_options(self.estimator, self.window, self.structure)
        check_embedding(self.order, self.lag_, X.shape[2], self.window)
        if self.rank_deficient == "raise":
            check_rank(X, self.order, self.lag_, self.estimator, self.window, self.structure)
            if self._is_checked() or self.standardize:
                check_no_flat_channel(X, getattr(self, "feature_names_in_", None))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_times_in_")
