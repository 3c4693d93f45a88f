"""Support vectors on the average of the tangent-space kernels of several embeddings."""

from collections.abc import Callable, Iterable
from numbers import Integral, Real

import numpy as np
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import _ovr_decision_function
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._bands import band_pass, check_band
from sklr.covariance._delays import (
    ESTIMATORS,
    WINDOWS,
    iterate_cells,
    lag_in_samples,
    rate_of,
    warn_of_unlike_units,
)
from sklr.covariance._recentering import GroupRecentering
from sklr.covariance._tangent import check_for_metric, reference_matrix, tangent_vectors
from sklr.covariance._training import check_signals, check_training, possible_cells
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._progress import progress
from sklr.utils._validation import check_array, check_positive_int, check_trials
from sklr.utils._warnings import warn_user

#: Orders and lags that cover one to twenty-seven samples at 160 Hz with few of them.
CELLS = ((1, 1), (2, 2), (3, 2), (4, 2), (6, 2), (2, 5), (3, 5), (4, 5), (2, 9), (3, 9))

#: What "auto" tries beside C = 1.
STEEPER = (3.0, 10.0, 30.0, 100.0)
#: Below so many trials it does not try: differences are within their error.
FEW = 60


class AugmentedCovarianceAverageSVC(ClassifierMixin, BaseEstimator):
    """Support vector classifier on the average of many augmented covariances' kernels.

    Instead of choosing order and lag, all of a few are used: the linear kernel of the tangent
    vectors of each embedding, divided by its mean diagonal, and one classifier on the average of
    the kernels. Nothing is selected, so no trials are spent on selecting.

    Parameters
    ----------
    cells : iterable of (order, lag), default=((1, 1), (2, 2), (3, 2), (4, 2), (6, 2), (2, 5), \
(3, 5), (4, 5), (2, 9), (3, 9))
        The embeddings. An integer lag is in samples, a float in seconds (with `sfreq`, or the
        rate of Epochs). Those that the trials are too short for are left out, with a warning.
    C : float or "auto", default="auto"
        Inverse regularisation of :class:`sklearn.svm.SVC`; the mean diagonal of the kernel is 1.
        "auto" is 1 unless one of 3, 10, 30, 100 is better in five folds of the training trials by
        more than twice the standard error of the difference, trial by trial. Fewer than 60 trials
        cannot tell, and keep 1.
    bands : iterable of (low, high), default=None
        Frequency bands in Hz. Each cell is then taken in each band, which are thirty kernels for
        ten cells and three bands; two or three cells do. None within the bands is the signal as
        it is. Needs `sfreq`, or Epochs. For steady-state responses in broad-band signals, with
        ``cells=((4, 4), (5, 3))``.
    recentring : GroupRecentering, default=None
        Moves the matrices of each embedding before the tangent space, for trials of other
        sessions or subjects than those of `fit`. Weights are without effect in its means.
    reference : {"euclid", "riemann"}, default="euclid"
        Where tangent spaces touch: at the arithmetic mean, or at the affine-invariant one, which
        takes three times the time for scores that were the same. Vectors are centred.
    estimator : str or callable, default="oas"
        Covariance estimator, see :class:`AugmentedCovariance`.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy, see :class:`AugmentedCovariance`.
    standardize : bool, default=False
        Whether the estimator sees channels of unit variance, and their units are put back after
        it, see :class:`AugmentedCovariance`.
    class_weight : dict or "balanced", default=None
        As in :class:`sklearn.svm.SVC`.
    sfreq : float, default=None
        Samples a second, for bands and lags in seconds; of Epochs it is known.
    tol : float, default=1e-6
        Gradient norm at which the iteration of the mean stops, for `reference="riemann"`.
    n_jobs : int, default=None
        Threads over trials. Results do not depend on it.
    verbose : int, default=0
        1 shows the progress over the embeddings.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    cells_ : list of (int, int)
        Order and lag, in samples, of the cells in use.
    bands_ : list of (float, float) or None
        Bands in use. Embeddings go through the cells of the first band, then of the next.
    C_ : float
        Inverse regularisation in use.
    references_ : list of ndarray of shape (order * n_channels, order * n_channels)
        Mean of the training matrices of each embedding, recentred if they are.
    scales_ : ndarray of shape (n_embeddings,)
        Mean squared length of the centred training vectors of each, by which its kernel is
        divided.
    coefs_ : list of ndarray of shape (n_pairs, n * (n + 1) / 2)
        Weights of each embedding's tangent vectors, a row for each pair of classes.
    intercept_ : ndarray of shape (n_pairs,)
        Constants of the decision functions of pairs, for vectors that are not centred.
    n_features_in_ : int
        Number of channels.

    See Also
    --------
    AugmentedCovarianceSVC : One embedding.
    AugmentedCovarianceSVCCV : The best of many, by cross-validation.
    sklearn.calibration.CalibratedClassifierCV : Probabilities from the decision function.

    Notes
    -----
    `fit` takes O(n_trials n^3) for each embedding of n = order * n_channels rows; the lagged
    products behind the covariances are shared. What is kept is a weight for each entry of a
    tangent vector, no trials.

    With two classes the decision function is the sum of one linear function on each tangent
    space, fitted together. Weights by kernel alignment in the place of the plain average were
    tried: scores were the same.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508
    .. [2] M. Gonen, E. Alpaydin, "Multiple kernel learning algorithms", J. Mach. Learn. Res. 12,
       2011. https://jmlr.org/papers/v12/gonen11a.html

    Examples
    --------
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklr.covariance import AugmentedCovarianceAverageSVC
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(random_state=0)
    >>> cells = [(1, 1), (2, 1), (3, 2)]
    >>> cross_val_score(AugmentedCovarianceAverageSVC(cells), X, y).mean().round(1)
    np.float64(1.0)
    """

    _parameter_constraints: dict = {
        "cells": [Iterable],
        "bands": [Iterable, None],
        "recentring": [GroupRecentering, None],
        "C": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "reference": [StrOptions({"euclid", "riemann"})],
        "estimator": [StrOptions(set(ESTIMATORS)), Callable],
        "window": [StrOptions(set(WINDOWS))],
        "standardize": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "sfreq": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        cells=CELLS,
        *,
        C="auto",
        bands=None,
        recentring=None,
        reference="euclid",
        estimator="oas",
        window="paper",
        standardize=False,
        class_weight=None,
        sfreq=None,
        tol=1e-6,
        n_jobs=None,
        verbose=0,
    ):
        self.cells = cells
        self.C = C
        self.bands = bands
        self.recentring = recentring
        self.reference = reference
        self.estimator = estimator
        self.window = window
        self.standardize = standardize
        self.class_weight = class_weight
        self.sfreq = sfreq
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit the means and the classifier.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials; of Epochs the good data channels.
        y : array-like of shape (n_trials,)
            Class labels.
        sample_weight : array-like of shape (n_trials,), default=None
            Non-negative weights of the trials in the means and in the SVC; None weighs all alike.
            Trials of weight zero are left out, whatever they are.
        groups : array-like of shape (n_trials,), default=None
            Session or subject of each trial, for `recentring`.

        Returns
        -------
        self : AugmentedCovarianceAverageSVC
            The fitted classifier.

        Raises
        ------
        ValueError
            Bad trials, cells or bands, a single class, a class without weight, matrices that are
            not positive definite, or trials too short for every cell.

        Warns
        -----
        UserWarning
            Some cells are not possible with these trials.
        """
        X, y, classes, weights, kept = check_training(self, X, y, sample_weight)
        check_signals(self, X, kept)
        groups = self._checked_groups(groups)
        if groups is not None and kept is not None:
            groups = groups[kept]
        # Kernels do not depend on the unit, but squares of 1e200 overflow.
        self._unit = np.abs(X).max()
        if self._unit == 0.0:
            raise ValueError("X is zero in all trials and channels: there is nothing to learn.")
        X = X / self._unit
        if not self.standardize:
            warn_of_unlike_units(X, self.estimator)
        cells = self._possible(self._resolved(), *X.shape[1:])
        self.classes_, self.cells_, self.bands_ = classes, cells, self._checked_bands()
        n_embeddings = len(cells) * len(self.bands_)
        kernel = np.zeros((len(X), len(X)))
        vectors, centres, references, scales = [], [], [], []
        self._movers = []
        for _, _, matrices in self._progress(self._matrices(X)):
            check_for_metric(matrices, "riemann", np.finfo(np.float64).eps, kept)
            if self.recentring is not None:
                self._movers.append(clone(self.recentring))
                matrices = self._movers[-1].fit_transform(matrices, groups=groups)
            reference = reference_matrix(matrices, self.reference, self.tol, self.n_jobs, weights)
            Z = tangent_vectors(matrices, reference, "riemann", self.n_jobs)
            centre = np.average(Z, axis=0, weights=weights)
            Z -= centre
            scale = np.average(np.einsum("ij,ij->i", Z, Z), weights=weights)
            if scale > 0:
                kernel += Z @ Z.T / scale
            vectors.append(Z)
            centres.append(centre)
            scales.append(scale)
            references.append(reference)
        self.scales_, self._references = np.array(scales), references
        scale = 1.0 if self.recentring is not None else self._unit**2
        self.references_ = [scale * reference for reference in references]
        kernel /= n_embeddings
        self.C_ = self._chosen_C(kernel, y, weights) if self.C == "auto" else float(self.C)
        svc = self._svc(self.C_).fit(kernel, y, sample_weight=weights)
        pairs = _of_pairs(svc)
        self.coefs_ = [
            pairs @ Z[svc.support_] / (n_embeddings * scale if scale > 0 else 1.0)
            for Z, scale in zip(vectors, scales)
        ]
        self.intercept_ = svc.intercept_ - sum(
            coef @ centre for coef, centre in zip(self.coefs_, centres)
        )
        return self

    def _svc(self, C):
        # With a seed of its own the SVC does not draw one from NumPy's global generator; it uses
        # none here.
        return SVC(
            C=C,
            kernel="precomputed",
            class_weight=self.class_weight,
            tol=1e-9,  # so that the order of trials, or repeats for weights, change no digit
            cache_size=100,
            random_state=0,
        )

    def _chosen_C(self, kernel, y, weights):
        """Return 1, or what is better than it beyond doubt, in folds of the training trials."""
        _, counts = np.unique(y, return_counts=True)
        n_folds = min(5, counts.min())
        if n_folds < 2 or len(y) < FEW:
            return 1.0
        of_trials = np.ones(len(y)) if weights is None else weights
        if self.class_weight is not None:
            of_trials = of_trials * compute_sample_weight(self.class_weight, y)
        of_trials = of_trials / of_trials.sum()
        right = np.zeros((1 + len(STEEPER), len(y)))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for train, test in folds.split(kernel, y):
                K, others = kernel[np.ix_(train, train)], kernel[np.ix_(test, train)]
                part = None if weights is None else weights[train]
                for row, C in enumerate((1.0, *STEEPER)):
                    svc = self._svc(C).fit(K, y[train], sample_weight=part)
                    right[row, test] = svc.predict(others) == y[test]
        gains = (right[1:] - right[0]) @ of_trials
        best = int(np.argmax(gains))
        spread = right[1 + best] - right[0] - gains[best]
        error = np.sqrt(np.sum((of_trials * spread) ** 2))
        return STEEPER[best] if gains[best] > 2 * error else 1.0

    def _resolved(self):
        """Return the cells with their lags in samples, each once."""
        cells = []
        for cell in self.cells:
            try:
                order, lag = cell
            except (TypeError, ValueError):
                raise ValueError(f"cells must be pairs (order, lag), got {cell!r}.") from None
            order = check_positive_int(order, "the order of a cell")
            lag = lag_in_samples(lag, rate_of(self), "the lag of a cell")
            cells.append((order, lag if order > 1 else 1))
        if not cells:
            raise ValueError("cells must not be empty: give pairs (order, lag).")
        return list(dict.fromkeys(cells))

    def _possible(self, cells, n_channels, n_times):
        """Return the cells that fit into the trials; warn of others."""
        left = possible_cells(self, cells, n_channels, n_times)
        if len(left) < len(cells):
            warn_user(
                f"{len(cells) - len(left)} of {len(cells)} cells (order, lag) are left out, since "
                f"trials of {n_times} samples and {n_channels} channels are too short for them: "
                f"{sorted(set(cells) - set(left))}.",
            )
        return left

    def _checked_bands(self):
        """Return the bands, each once, or the one that is no band."""
        if self.bands is None:
            return [None]
        rate = rate_of(self)
        if rate is None:
            raise ValueError("bands are in Hz: give sfreq, the samples a second, or mne.Epochs.")
        bands = [check_band(band, rate, "bands") for band in self.bands]
        if not bands:
            raise ValueError("bands must not be empty: give pairs (low, high) in Hz, or None.")
        return list(dict.fromkeys(bands))

    def _progress(self, cells):
        total = len(self.cells_) * len(self.bands_)
        return progress(cells, total=total, description="order, lag", verbose=self.verbose)

    def _matrices(self, X):
        for band in self.bands_:
            yield from iterate_cells(
                X if band is None else band_pass(X, band, rate_of(self)),
                self.cells_,
                self.estimator,
                self.window,
                "sample",
                self.standardize,
            )

    def _checked_groups(self, groups):
        if groups is None:
            return None
        if self.recentring is None:
            raise ValueError("groups are for recentring: give recentring=GroupRecentering().")
        return check_array(groups, ensure_2d=False, dtype=None, input_name="groups")

    def _pair_scores(self, X, groups):
        check_is_fitted(self)
        X = check_trials(self, X, reset=False)
        groups = self._checked_groups(groups)
        check_signals(self, X, together=False)
        X = X / self._unit
        scores = np.tile(self.intercept_, (len(X), 1))
        eps = np.finfo(np.float64).eps
        movers = self._movers or [None] * len(self.coefs_)
        for (_, _, matrices), mover, reference, coef in zip(
            self._matrices(X), movers, self._references, self.coefs_, strict=True
        ):
            if mover is not None:
                matrices = mover.transform(matrices, groups=groups)
            Z = tangent_vectors(matrices, reference, "riemann", self.n_jobs, eps)
            scores += Z @ coef.T
        return scores

    def decision_function(self, X, groups=None):
        """Return the classifier's decision values.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.
        groups : array-like of shape (n_trials,), default=None
            Session or subject of each trial, for `recentring`; None is what its `ungrouped` says.

        Returns
        -------
        scores : ndarray of shape (n_trials,) or (n_trials, n_classes)
            One column for two classes, positive for ``classes_[1]``; for more, votes of the pairs
            of classes with their sums as tie-breakers, as in :class:`sklearn.svm.SVC`.
        """
        pairs = self._pair_scores(X, groups)
        if len(self.classes_) == 2:
            return pairs[:, 0]
        return _ovr_decision_function(pairs < 0, -pairs, len(self.classes_))

    def predict(self, X, groups=None):
        """Predict class labels: the largest decision value.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.
        groups : array-like of shape (n_trials,), default=None
            Session or subject of each trial, for `recentring`; None is what its `ungrouped` says.

        Returns
        -------
        y : ndarray of shape (n_trials,)
            Labels.
        """
        scores = self.decision_function(X, groups)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _of_pairs(svc):
    """Weights of the support vectors in the decision function of each pair of classes.

    Returns an array of shape (n_pairs, n_support); libsvm keeps them class by class, with the
    row of the pair (i, j) that belongs to the other class.
    """
    n_classes = len(svc.classes_)
    if n_classes == 2:
        return svc.dual_coef_
    ends = np.cumsum(svc.n_support_)
    of_class = [slice(end - count, end) for end, count in zip(ends, svc.n_support_)]
    pairs = []
    for i in range(n_classes):
        for j in range(i + 1, n_classes):
            row = np.zeros(ends[-1])
            row[of_class[i]] = svc.dual_coef_[j - 1, of_class[i]]
            row[of_class[j]] = svc.dual_coef_[i, of_class[j]]
            pairs.append(row)
    return np.array(pairs)
