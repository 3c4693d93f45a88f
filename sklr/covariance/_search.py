"""Cross-validated choice of order, lag and classifier, with all that can be shared shared."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import check_scoring, get_scorer_names, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.svm import SVC
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.covariance._delays import (
    ESTIMATORS,
    WINDOWS,
    grid_cells,
    iterate_cells,
    lag_in_samples,
    rate_of,
)
from sklr.covariance._svc import AugmentedCovarianceSVC
from sklr.covariance._tangent import (
    METRICS,
    check_for_metric,
    reference_matrix,
    tangent_vectors,
)
from sklr.covariance._training import check_signals, check_training, possible_cells
from sklr.geometry._spd_mean import logs_at_fold_means
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_array, check_positive_int, check_trials
from sklr.utils._warnings import warn_user


class AugmentedCovarianceSVCCV(ClassifierMixin, BaseEstimator):
    """Augmented-covariance SVM with order, lag, C and kernel chosen by cross-validation.

    The paper's nested search: the same cells, folds and scores as ``GridSearchCV`` over the
    pipeline of augmented covariance, tangent space and SVC, at a small part of its cost,
    because covariances, means and tangent vectors are computed once for all classifier settings.

    Parameters
    ----------
    orders : iterable of int, default=range(1, 11)
        Orders to try. At order 1 the lag is without effect, and computed once.
    lags : iterable of int or float, default=range(1, 11)
        Lags to try; floats are in seconds.
    Cs : iterable of float, default=(0.5, 1, 1.5)
        Inverse regularisations of the SVC.
    kernels : iterable of {"linear", "rbf"}, default=("linear", "rbf")
        Kernels on the tangent vectors.
    metric : {"riemann", "logeuclid", "logchol", "euclid", "wasserstein"}, default="riemann"
        Metric of the mean and of the tangent space. Only "riemann" shares work between folds.
    estimator : str or callable, default="cov"
        Covariance estimator, see :class:`AugmentedCovariance`.
    window : {"paper", "full"}, default="paper"
        Samples kept of each copy, see :class:`AugmentedCovariance`.
    cv : int, splitter or iterable, default=None
        Inner folds. None is ``StratifiedKFold(3, shuffle=True, random_state=random_state)``, as
        in MOABB's inner search; with `groups` in `fit` it is ``StratifiedGroupKFold``.
    scoring : str or callable, default=None
        As in ``GridSearchCV``, one metric; None is accuracy. A callable is called as
        ``scoring(classifier, kernel_matrix, y)``. Metrics of probabilities cannot be used: the
        SVC has none.
    standardize : bool, default=False
        For "oas" and "lwf" on channels of unlike units, see :class:`AugmentedCovariance`.
    class_weight : dict or "balanced", default=None
        Weights of the classes in the SVC, as in :class:`sklearn.svm.SVC`.
    sfreq : float, default=None
        Samples a second, for lags in seconds. Not needed with ``mne.Epochs``.
    tol : float, default=1e-4
        Gradient norm at which the means' iterations stop in the search; the kernel matrices are
        then within about 1e-6 of converged ones. The final fit uses 1e-8.
    n_jobs : int, default=None
        Threads over cells. Results do not depend on it.
    random_state : int, RandomState instance or None, default=None
        Shuffling of the default folds.
    verbose : int, default=0
        1 shows the progress over cells.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As ``GridSearchCV``'s, without times (they are shared by settings): ``params``,
        ``param_lag``, ``param_order``, ``param_C``, ``param_kernel``, ``split0_test_score``, ...,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``. NaN where a cell is not
        possible: too long for the trials, or too large for an unregularised estimator.
    best_index_ : int
        Row of the best setting; the first among equals in the order of ``ParameterGrid``.
    best_params_ : dict
        Its ``order``, ``lag``, ``C`` and ``kernel``.
    best_score_ : float
        Its mean score.
    best_estimator_ : AugmentedCovarianceSVC
        Fitted with the best setting on all trials.
    order_, lag_ : int
        The best order and lag.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_splits_ : int
        Number of inner folds.
    n_features_in_ : int
        Number of channels.
    feature_names_in_ : ndarray of shape (n_channels,)
        Names of the channels; only where `fit` saw ``mne.Epochs``. Others are refused later.
    sfreq_in_ : float
        Samples a second; only with ``mne.Epochs``. Another rate is refused later.

    See Also
    --------
    AugmentedCovarianceSVC : One setting.
    sklearn.model_selection.GridSearchCV : The same search for any pipeline.

    Notes
    -----
    For each (order, lag): covariances of all trials from shared lagged products; the mean of
    each training fold by Newton steps from one common expansion; one Gram matrix of tangent
    vectors per fold, which serves the linear kernel as it is and the rbf kernel by distances.
    About ``n_cells * n_folds * 2`` eigendecompositions a trial, O(n^3) each with
    n = order * n_channels. One cell (per thread) is in memory at a time.

    References
    ----------
    .. [1] I. Carrara, T. Papadopoulo, "Classification of BCI-EEG based on the augmented
       covariance matrix", IEEE Trans. Biomed. Eng., 2024. https://arxiv.org/abs/2302.04508

    Examples
    --------
    >>> from sklr.covariance import AugmentedCovarianceSVCCV
    >>> from sklr.datasets import make_ar2_trials
    >>> X, y = make_ar2_trials(random_state=0)
    >>> search = AugmentedCovarianceSVCCV(orders=[1, 2, 3], lags=[1, 2], random_state=0)
    >>> search.fit(X, y).order_ > 1
    True
    """

    _parameter_constraints: dict = {
        "orders": ["array-like", range],
        "lags": ["array-like", range],
        "Cs": ["array-like"],
        "kernels": ["array-like"],
        "metric": [StrOptions(set(METRICS))],
        "estimator": [StrOptions(set(ESTIMATORS)), Callable],
        "window": [StrOptions(set(WINDOWS))],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), Callable, None],
        "standardize": ["boolean"],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "sfreq": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        orders=range(1, 11),
        lags=range(1, 11),
        Cs=(0.5, 1, 1.5),
        kernels=("linear", "rbf"),
        *,
        metric="riemann",
        estimator="cov",
        window="paper",
        cv=None,
        scoring=None,
        standardize=False,
        class_weight=None,
        sfreq=None,
        tol=1e-4,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.orders = orders
        self.lags = lags
        self.Cs = Cs
        self.kernels = kernels
        self.metric = metric
        self.estimator = estimator
        self.window = window
        self.cv = cv
        self.scoring = scoring
        self.standardize = standardize
        self.class_weight = class_weight
        self.sfreq = sfreq
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Search, then fit the best setting on all trials.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials; of Epochs the good data channels.
        y : array-like of shape (n_trials,)
            Class labels.
        sample_weight : array-like of shape (n_trials,), default=None
            Non-negative weights of the trials in means and SVCs, not in the scores; None weighs
            all alike. Trials of weight zero are left out, whatever they are.
        groups : array-like of shape (n_trials,), default=None
            Groups (sessions, subjects, blocks) that the inner folds keep together.

        Returns
        -------
        self : AugmentedCovarianceSVCCV
            The fitted search.

        Raises
        ------
        ValueError
            Bad trials or grids, a single class, a class without weight, no possible cell in the
            grid, or a scoring that fails.

        Warns
        -----
        FitFailedWarning
            Some cells of the grid are not possible or failed; their scores are NaN.
        ConvergenceWarning
            Some means did not reach `tol`.
        """
        if groups is not None:
            groups = check_array(groups, ensure_2d=False, dtype=None, input_name="groups")
            check_consistent_length(X, groups)
        X, y, classes, weights, kept = check_training(self, X, y, sample_weight)
        if groups is not None and kept is not None:
            groups = groups[kept]
        grid = self._grid()
        check_signals(self, X, kept)  # before the work: the final fit would refuse them as well
        folds = list(self._splitter(y, groups).split(X, y, groups))
        samples = dict(zip(grid["lag"], self._lags_in_samples(grid["lag"])))
        wanted = list(grid_cells(grid["order"], samples.values()))
        n_channels, n_times = X.shape[1:]
        cells = possible_cells(
            self,
            wanted,
            n_channels,
            n_times,
            f"{len(wanted)} cells of orders={list(grid['order'])} and lags={list(grid['lag'])}",
        )
        scores, failures, unconverged = self._search(X, y, weights, folds, cells, grid)
        impossible = len(wanted) - len(cells)
        if impossible or failures:
            reasons = []
            if impossible:
                reasons.append(
                    f"{impossible} too long for {n_times} samples, or with more rows than an "
                    "unregularised estimator takes"
                )
            if failures:
                reasons.append(f"{len(failures)} failed, the first with {failures[0]}")
            warn_user(
                f"{impossible + len(failures)} of {len(wanted)} cells (order, lag) of the grid "
                f"have no score: {'; '.join(reasons)}",
                FitFailedWarning,
            )
        if unconverged:
            warn_user(
                f"The mean of {len(unconverged)} of {len(cells) * len(folds)} folds stopped above "
                f"tol={self.tol:.3g}, at gradient norms up to {max(unconverged):.3g}.",
                ConvergenceWarning,
            )
        results = self._results(scores, grid, samples, len(folds))
        if np.isnan(results["mean_test_score"]).all():
            if failures:
                raise ValueError(f"Every cell of the grid failed. First failure: {failures[0]}")
            raise ValueError(
                f"scoring={self.scoring!r} is NaN in at least one fold of every cell: it is not "
                "defined there, as the area under the curve of a fold with one class."
            )
        best = int(np.nanargmax(results["mean_test_score"]))
        params = results["params"][best]
        model = AugmentedCovarianceSVC(
            **params,
            metric=self.metric,
            estimator=self.estimator,
            window=self.window,
            standardize=self.standardize,
            class_weight=self.class_weight,
            sfreq=rate_of(self),
            n_jobs=self.n_jobs,
        ).fit(X, y, sample_weight=weights)
        self.classes_ = classes
        self.n_splits_ = len(folds)
        self.cv_results_ = results
        self.best_index_, self.best_params_ = best, dict(params)
        self.best_score_ = float(results["mean_test_score"][best])
        self.best_estimator_ = model
        self.order_, self.lag_ = model.order_, model.lag_
        return self

    def _grid(self):
        grid = {
            "lag": list(self.lags),
            "order": [check_positive_int(value, "orders") for value in self.orders],
            "C": list(self.Cs),
            "kernel": list(self.kernels),
        }
        for name, values in grid.items():
            if not values:
                raise ValueError(f"The grid of {name} is empty.")
        self._lags_in_samples(grid["lag"])
        for C in grid["C"]:
            if not isinstance(C, Real) or not C > 0:
                raise ValueError(f"Cs must be positive numbers, got {C!r}.")
        for kernel in grid["kernel"]:
            if kernel not in ("linear", "rbf"):
                raise ValueError(f"kernels must be 'linear' or 'rbf', got {kernel!r}.")
        return grid

    def _lags_in_samples(self, lags):
        rate = rate_of(self)
        return [lag_in_samples(lag, rate, "lags") for lag in lags]

    def _splitter(self, y, groups):
        if self.cv is None:
            seed = self.random_state
            if seed is not None and not isinstance(seed, Integral):
                seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
            if groups is None:
                return StratifiedKFold(3, shuffle=True, random_state=seed)
            n_groups = len(np.unique(groups))
            if n_groups < 2:
                raise ValueError(f"groups must name at least 2 groups, got {n_groups}.")
            return StratifiedGroupKFold(min(3, n_groups), shuffle=True, random_state=seed)
        return check_cv(self.cv, y, classifier=True)

    def _search(self, X, y, weights, folds, cells, grid):
        """Score all settings of all cells: {(order, lag): (n_settings, n_folds)}."""
        settings = [(C, kernel) for C in grid["C"] for kernel in grid["kernel"]]
        score = _scorer(self.scoring, np.unique(y))
        covariances = iterate_cells(
            X, cells, self.estimator, self.window, "sample", self.standardize
        )

        def one(order, lag, matrices):
            return order, lag, *self._score_cell(matrices, y, weights, folds, settings, score)

        with single_blas_thread():
            n_jobs = effective_n_jobs(self.n_jobs)
            if n_jobs == 1:
                done = (one(*cell) for cell in covariances)
            else:
                # Cells are made as they are taken, so that memory holds a few of them.
                done = Parallel(
                    n_jobs, prefer="threads", pre_dispatch=n_jobs, return_as="generator_unordered"
                )(delayed(one)(*cell) for cell in covariances)
            scores, failures, unconverged = {}, [], []
            steps = progress(done, total=len(cells), description="order, lag", verbose=self.verbose)
            for order, lag, values, failure, grads in _without_scoring_errors(steps):
                scores[order, lag] = values
                if failure is not None:
                    failures.append((order, lag, failure))
                unconverged.extend(grad for grad in grads if grad > self.tol)
        failures = [f"order={o}, lag={lag}: {text}" for o, lag, text in sorted(failures)]
        return scores, failures, unconverged

    def _score_cell(self, matrices, y, weights, folds, settings, score):
        values = np.full((len(settings), len(folds)), np.nan)
        grads = []
        try:
            check_for_metric(matrices, self.metric, np.finfo(np.float64).eps)
            with config_context(assume_finite=True, skip_parameter_validation=True):
                for i, (gram, squares, grad) in enumerate(self._grams(matrices, weights, folds)):
                    grads.append(grad)
                    values[:, i] = self._score_fold(
                        gram, squares, y, weights, *folds[i], settings, score
                    )
        except (ValueError, np.linalg.LinAlgError) as exc:
            values[:] = np.nan
            return values, str(exc), grads
        return values, None, grads

    def _score_fold(self, gram, spread, y, weights, train, test, settings, score):
        """Scores of all classifier settings on one fold."""
        kernels = {}
        out = []
        for C, kernel in settings:
            if kernel not in kernels:
                if kernel == "linear":
                    K = gram
                else:
                    squares = np.diagonal(gram)
                    gamma = 1.0 / spread if spread > 0 else 1.0
                    K = np.exp(-gamma * np.maximum(squares[:, None] + squares - 2 * gram, 0))
                kernels[kernel] = (K[np.ix_(train, train)], K[np.ix_(test, train)])
            K_train, K_test = kernels[kernel]
            svc = SVC(
                C=C, kernel="precomputed", class_weight=self.class_weight, random_state=0
            ).fit(K_train, y[train], sample_weight=None if weights is None else weights[train])
            try:
                out.append(score(svc, K_test, y[test]))
            except Exception as exc:
                raise _ScoringError(self._why_no_score(svc, exc)) from exc
        return out

    def _why_no_score(self, svc, exc):
        """Say that it is the scoring that fails, in its own words."""
        text = f"scoring={self.scoring!r} failed with {type(exc).__name__}: {exc}"
        if "predict_proba" in str(exc):
            text += (
                ". The support vector classifier has no probabilities: score by decision values "
                "or labels ('roc_auc' for two classes, 'accuracy', 'balanced_accuracy', ...), "
                "and calibrate the fitted search by sklearn.calibration.CalibratedClassifierCV."
            )
        elif self.scoring == "roc_auc" and len(svc.classes_) > 2:
            text += (
                f". There are {len(svc.classes_)} classes: use 'accuracy' or 'balanced_accuracy'."
            )
        return text

    def _grams(self, matrices, weights, folds):
        """Yield Gram matrix of all trials, n * var of the training vectors, gradient norm."""
        n = len(matrices)
        if self.metric == "riemann":
            train = [fold[0] for fold in folds]
            means = logs_at_fold_means(matrices, train, sample_weight=weights, tol=self.tol)
            for fold, (logs, grad) in zip(train, means):
                flat = logs.reshape(n, -1)
                gram = flat @ flat.T
                spread = np.mean(np.diagonal(gram)[fold])
                if weights is not None:
                    # The weighted sum of the training vectors is zero at their mean, in any
                    # coordinates; the SVC's own gamma takes the plain one off.
                    spread -= gram[np.ix_(fold, fold)].mean()
                yield gram, spread, grad
            return
        for fold, _ in folds:
            part = None if weights is None else weights[fold]
            reference = reference_matrix(matrices[fold], self.metric, self.tol, None, part)
            Z = tangent_vectors(matrices, reference, self.metric, None)
            yield Z @ Z.T, Z.shape[1] * Z[fold].var(), 0.0

    def _results(self, scores, grid, samples, n_folds):
        # Sorted as ParameterGrid sorts a pipeline's "augmentedcovariance__lag", "..__order",
        # "svc__C", "svc__kernel", so that rows, ranks and ties compare one to one.
        params = [
            {"lag": lag, "order": order, "C": C, "kernel": kernel}
            for lag in grid["lag"]
            for order in grid["order"]
            for C in grid["C"]
            for kernel in grid["kernel"]
        ]
        n_settings = len(grid["C"]) * len(grid["kernel"])
        empty = np.full((n_settings, n_folds), np.nan)
        table = np.concatenate(
            [
                scores.get((order, samples[lag if order > 1 else grid["lag"][0]]), empty)
                for lag in grid["lag"]
                for order in grid["order"]
            ]
        )
        results = {"params": params}
        for name in grid:
            column = np.ma.MaskedArray([p[name] for p in params], mask=False)
            results[f"param_{name}"] = column
        for i in range(n_folds):
            results[f"split{i}_test_score"] = table[:, i]
        mean = np.average(table, axis=1)
        results["mean_test_score"] = mean
        results["std_test_score"] = table.std(axis=1)
        ranks = rankdata(np.where(np.isnan(mean), np.inf, -mean), method="min")
        results["rank_test_score"] = ranks.astype(np.int32)
        return results

    def decision_function(self, X):
        """Return the best classifier's decision values.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.

        Returns
        -------
        scores : ndarray of shape (n_trials,) or (n_trials, n_classes)
            One column for two classes, positive for ``classes_[1]``.
        """
        best, X = self._best(X)
        return best.decision_function(X)

    def predict(self, X):
        """Predict class labels by the best classifier.

        Parameters
        ----------
        X : array-like of shape (n_trials, n_channels, n_times) or mne.Epochs
            The trials.

        Returns
        -------
        y : ndarray of shape (n_trials,)
            Labels.
        """
        best, X = self._best(X)
        return best.predict(X)

    def _best(self, X):
        check_is_fitted(self)
        return self.best_estimator_, check_trials(self, X, reset=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


class _ScoringError(Exception):
    """A metric could not be computed; no fault of the cell."""


def _without_scoring_errors(steps):
    """Pass on the results of cells; what the scoring raises becomes a ValueError that says so."""
    try:
        yield from steps
    except _ScoringError as exc:
        raise ValueError(str(exc)) from exc.__cause__


def _scorer(scoring, classes):
    """Return score(svc, kernel_rows, y); the usual metrics without scikit-learn's overhead."""
    if scoring is None or scoring == "accuracy":
        return lambda svc, rows, y: float(np.mean(svc.predict(rows) == y))
    if scoring == "roc_auc" and len(classes) == 2:
        return _RocAuc(classes[1])
    return check_scoring(SVC(kernel="precomputed"), scoring)


class _RocAuc:
    """scikit-learn's area under the curve, called once for each order of the labels.

    A call takes as long as an SVC on a few dozen trials, and settings that are near each other
    sort the trials in the same way.
    """

    def __init__(self, positive):
        self.positive = positive
        self.known = {}

    def __call__(self, svc, rows, y):
        decision = svc.decision_function(rows)
        order = np.argsort(decision, kind="stable")
        labels = (y == self.positive)[order]
        ranks = np.r_[0, np.cumsum(np.diff(decision[order]) > 0.0)]
        key = labels.tobytes(), ranks.tobytes()
        if key not in self.known:
            self.known[key] = float(roc_auc_score(labels, ranks))
        return self.known[key]
