"""Augmented covariances: covariances of trials stacked with delayed copies of themselves."""

from collections.abc import Callable
from numbers import Integral

from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._delays import (
    ESTIMATORS,
    STRUCTURES,
    WINDOWS,
    cell_covariances,
    check_embedding,
    check_independent_channels,
    check_options,
    check_rank,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_trials


class AugmentedCovariance(TransformerMixin, BaseEstimator):
    """Augmented covariance matrices of multichannel trials.

    Stacks `order` copies of each trial, each `lag` samples later, and returns the covariance of
    the stack: an SPD matrix that holds spatial and temporal (autoregressive) information, for
    the Riemannian classifiers that take ordinary covariances. ``order=1`` is the ordinary
    covariance.

    Parameters
    ----------
    order : int, default=1
        Number of copies.
    lag : int, default=1
        Samples between one copy and the next. Without effect at ``order=1``.
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
    n_jobs : int, default=None
        Threads over trials. Results do not depend on it.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels.
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
        "lag": [Interval(Integral, 1, None, closed="left")],
        "estimator": [StrOptions(set(ESTIMATORS)), Callable],
        "window": [StrOptions(set(WINDOWS))],
        "structure": [StrOptions(set(STRUCTURES))],
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
        n_jobs=None,
    ):
        self.order = order
        self.lag = lag
        self.estimator = estimator
        self.window = window
        self.structure = structure
        self.n_jobs = n_jobs

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the trials; nothing is learned from them.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.
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
            estimator with ``order * n_channels`` above the degrees of freedom or with channels
            that depend on each other (average reference).
        """
        X = check_trials(self, X)
        self._check_cell(X)
        if self.structure == "sample" and self.estimator in ("cov", "scm", "corr"):
            check_independent_channels(X, self.estimator)
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
        """
        check_is_fitted(self)
        X = check_trials(self, X, reset=False)
        self._check_cell(X)
        return cell_covariances(
            X, self.order, self.lag, self.estimator, self.window, self.structure, self.n_jobs
        )

    def set_output(self, *, transform=None):
        """Accept a container setting, so that a whole Pipeline can be set; without effect here.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            Ignored: matrices do not fit a table.

        Returns
        -------
        self : AugmentedCovariance
            The transformer.
        """
        return self

    def _check_cell(self, X):
        check_options(self.estimator, self.window, self.structure)
        check_embedding(self.order, self.lag, X.shape[2], self.window)
        check_rank(X, self.order, self.lag, self.estimator, self.window, self.structure)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "n_times_in_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
