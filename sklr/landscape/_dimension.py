"""The number of random dimensions in which a task can be learnt."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import MetaEstimatorMixin, clone, is_classifier
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted

from sklr.neural_network import SubspaceClassifier
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user


def _has(name: str) -> Any:
    def check(self: Any) -> bool:
        estimator = getattr(self, "best_estimator_", None) or self._inner()
        return hasattr(estimator, name)

    return check


class IntrinsicDimension(MetaEstimatorMixin, BaseEstimator):
    r"""Smallest number of random dimensions in which a network learns a task.

    A network with D parameters is trained along d random directions of them only
    (:class:`~sklr.neural_network.SubspaceClassifier`), for more and more d, until it reaches a
    share of the score that it has with all parameters. That d says how hard the task is for the
    network, mostly whatever its size; and d numbers and a seed are a model of the task [1]_.

    Parameters
    ----------
    estimator : estimator or None, default=None
        An estimator whose parameter `n_components` is the number of dimensions, and None all
        parameters. None is a :class:`~sklr.neural_network.SubspaceClassifier`.
    ratio : float, default=0.9
        Share of the baseline's score that has to be reached.
    baseline : "local" or float, default="local"
        "local" is the score of the estimator with all parameters, of which `baseline_params` are
        set; a number is a score for all networks alike (1.0 for accuracies), so that they can be
        compared.
    baseline_params : dict or None, default=None
        Parameters of the baseline that differ. None is the better of a tenth and a hundredth of
        the learning rate where the estimator is a SubspaceClassifier: all parameters together
        need smaller steps, and a baseline that is badly trained would make tasks look easy.
    dims : "auto" or array-like of int, default="auto"
        "auto" doubles from 10 until the score is reached, and halves the interval by its logarithm
        until it is 5 % wide. Numbers are all tried.
    n_repeats : int, default=2
        Networks of other seeds at each number of dimensions, whose mean score counts.
    test_size : float, default=0.3
        Share of the samples on which scores are taken, by class in a classification.
    scoring : str, callable or None, default=None
        What is scored; the larger the better. None is the estimator's own score.
    max_dim : int or None, default=None
        Largest number of dimensions; None is that of the parameters.
    n_jobs : int or None, default=None
        Processes; it changes no result.
    random_state : int, RandomState instance or None, default=None
        Decides seeds, and the samples that are set aside.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    dimension_ : float
        Where the rising curve of scores over the logarithm of d crosses the threshold; NaN where
        it does not.
    dimension_std_ : float
        Standard deviation of it over resampled repeats; a rough one where there are few.
    reached_ : bool
        Whether the threshold was reached.
    baseline_score_ : float
        Score that is 1: of all parameters, or the given one.
    threshold_ : float
        `ratio` times that score.
    results_ : dict of str to ndarray
        `dims` (n_dims,), `scores` (n_dims, n_repeats), `mean` and `std` (n_dims,), by rising d.
    n_parameters_ : int or None
        D, where the estimator knows it.
    best_estimator_ : estimator
        Fitted on all samples with `dimension_` dimensions, rounded up; with the last tried ones
        where the threshold was not reached.

    See Also
    --------
    sklr.neural_network.SubspaceClassifier : One such network.
    DimensionCurveDisplay : The curve as a figure.

    Notes
    -----
    d numbers of 32 bits and a seed bound the description length of a solution from above. The
    dimension depends on what "reached" means, on the optimiser and on the epochs: compare at equal
    ones. Each number of dimensions costs `n_repeats` fits, "auto" some ten of them.

    References
    ----------
    .. [1] C. Li, H. Farkhoor, R. Liu and J. Yosinski, "Measuring the intrinsic dimension of
       objective landscapes", ICLR 2018, arXiv:1804.08838.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.landscape import IntrinsicDimension
    >>> from sklr.neural_network import SubspaceClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> network = SubspaceClassifier(batch_size=16, max_iter=20)
    >>> found = IntrinsicDimension(network, dims=[2, 20], random_state=0).fit(X, y)
    >>> found.reached_, found.results_["dims"]
    (True, array([ 2, 20]))
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "set_params"]), None],
        "ratio": [Interval(Real, 0, 1, closed="right")],
        "baseline": [StrOptions({"local"}), Real],
        "baseline_params": [dict, None],
        "dims": [StrOptions({"auto"}), "array-like"],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "test_size": [Interval(Real, 0, 1, closed="neither")],
        "scoring": [str, callable, None],
        "max_dim": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        ratio: float = 0.9,
        baseline: Any = "local",
        baseline_params: dict | None = None,
        dims: Any = "auto",
        n_repeats: int = 2,
        test_size: float = 0.3,
        scoring: Any = None,
        max_dim: int | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.ratio = ratio
        self.baseline = baseline
        self.baseline_params = baseline_params
        self.dims = dims
        self.n_repeats = n_repeats
        self.test_size = test_size
        self.scoring = scoring
        self.max_dim = max_dim
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _inner(self) -> Any:
        return SubspaceClassifier() if self.estimator is None else self.estimator

    @property
    def _estimator_type(self) -> Any:
        return getattr(self._inner(), "_estimator_type", None)

    @property
    def classes_(self) -> np.ndarray:
        """The class labels of `best_estimator_`."""
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """The number of features of `best_estimator_`."""
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("n_features_in_ is there after fit")
        return self.best_estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """The names of the features of `best_estimator_`."""
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("feature_names_in_ is there after fit")
        return self.best_estimator_.feature_names_in_

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, **params: Any) -> "IntrinsicDimension":
        """Find the dimension.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, or whatever the estimator takes.
        y : array-like of shape (n_samples,)
            Targets.
        **params : dict
            Metadata for the estimator's fit and the scorer, where routing is enabled.

        Returns
        -------
        self : IntrinsicDimension
            The fitted object.
        """
        inner = self._inner()
        X, y = _checked(X, y, is_classifier(inner))
        if "n_components" not in inner.get_params():
            raise ValueError(
                f"estimator={inner!r} has no parameter n_components, the number of dimensions"
            )
        rng = check_random_state(self.random_state)
        seeds = [int(s) for s in rng.randint(2**31 - 1, size=self.n_repeats + 2)]
        routed = _routed(self, params)
        train, test = self._split(X, y, seeds[-1])
        parts = _Parts(X, y, routed, train, test)
        scorer = check_scoring(inner, self.scoring)
        if not isinstance(self.dims, str):
            tried = np.unique(np.asarray(self.dims))
            if tried.ndim != 1 or not len(tried) or tried.dtype.kind not in "iu" or tried[0] < 1:
                raise ValueError(f"dims must be whole numbers of at least 1, got {self.dims!r}")

        def fits(d: int | None, others: dict[str, Any] | None = None) -> list[Any]:
            changed = {"n_components": d, **(others or {})}
            made = [_with_seed(clone(inner).set_params(**changed), s) for s in seeds[:-2]]
            return Parallel(n_jobs=self.n_jobs)(
                delayed(_score)(estimator, scorer, parts) for estimator in made
            )

        self.baseline_score_ = 1.0
        most = None
        if self.baseline == "local":
            found = [fits(None, others) for others in self._baseline_params(inner)]
            self.baseline_score_ = max(float(np.mean([s for s, _ in one])) for one in found)
            most = found[0][0][1]
        else:
            self.baseline_score_ = float(self.baseline)
        self.threshold_ = self.ratio * self.baseline_score_
        self._search(fits, most)
        d = self.results_["dims"][-1]
        if self.reached_:
            d = int(np.ceil(self.dimension_))
        else:
            warn_user(
                f"IntrinsicDimension: the mean score is at most "
                f"{self.results_['mean'].max():.3g} up to {d} dimensions, below the threshold "
                f"{self.threshold_:.3g}, {self.ratio:g} times the baseline's; raise max_dim or "
                "dims, train for more epochs, or lower ratio"
            )
        self.best_estimator_ = _with_seed(clone(inner).set_params(n_components=int(d)), seeds[-2])
        self.best_estimator_.fit(X, y, **routed.estimator.fit)
        self.n_parameters_ = getattr(self.best_estimator_, "n_parameters_", most)
        return self

    def _split(self, X: Any, y: Any, seed: int) -> Any:
        n = _num_samples(X)
        strata = None
        if is_classifier(self._inner()):
            labels = np.asarray(y)
            if labels.ndim == 1 and labels.dtype.kind in "OUSbiu":
                _, counts = np.unique(labels.astype(str), return_counts=True)
                least = min(self.test_size, 1 - self.test_size) * n
                strata = labels if counts.min() >= 2 and least >= len(counts) else None
        return train_test_split(
            np.arange(n), test_size=self.test_size, random_state=seed, stratify=strata
        )

    def _baseline_params(self, inner: Any) -> list[dict[str, Any]]:
        """Return settings of the baseline, of which the best counts."""
        if self.baseline_params is not None:
            return [dict(self.baseline_params)]
        if isinstance(inner, SubspaceClassifier):
            return [{"learning_rate": inner.learning_rate / share} for share in (10, 100)]
        return [{}]

    def _search(self, fits: Any, most: int | None) -> None:
        scores: dict[int, list[float]] = {}
        most = min(v for v in (most, self.max_dim, 2**31) if v is not None)

        def reaches(d: int) -> bool:
            if d not in scores:
                scores[d] = [score for score, _ in fits(d)]
                next(bar, None)
            return float(np.mean(scores[d])) >= self.threshold_

        auto = isinstance(self.dims, str)
        tried = [] if auto else [int(d) for d in np.unique(np.asarray(self.dims)) if d <= most]
        if not auto and not tried:
            raise ValueError(f"dims={self.dims!r} are all above {most}, the most there can be")
        total = len(tried) if not auto else 2 + max(int(np.log2(most)), 1)
        bar = progress(
            range(total), total=total, description="IntrinsicDimension", verbose=self.verbose
        )
        next(bar, None)
        try:
            for d in tried:
                reaches(d)
            if auto:
                self._bracket(reaches, most)
        finally:
            bar.close()
        dims = np.array(sorted(scores))
        table = np.array([scores[d] for d in dims])
        self.results_ = {
            "dims": dims,
            "scores": table,
            "mean": table.mean(axis=1),
            "std": table.std(axis=1),
        }
        self.dimension_ = _crossing(dims, table.mean(axis=1), self.threshold_)
        self.reached_ = bool(np.isfinite(self.dimension_))
        rng = np.random.RandomState(0)  # the table decides it
        again = []
        for _ in range(100 if self.reached_ and self.n_repeats > 1 else 0):
            picked = rng.randint(self.n_repeats, size=table.shape)
            mean = np.take_along_axis(table, picked, axis=1).mean(axis=1)
            again.append(_crossing(dims, mean, self.threshold_))
        known = [d for d in again if np.isfinite(d)]
        self.dimension_std_ = float(np.std(known)) if known else float("nan")

    @staticmethod
    def _bracket(reaches: Any, most: int) -> None:
        low, high = 0, min(10, most)
        while not reaches(high):
            if high >= most:
                return
            low, high = high, min(2 * high, most)
        while high - low > max(1, 0.05 * low):
            middle = int(round((max(low, 1) * high) ** 0.5))
            middle = min(max(middle, low + 1), high - 1)
            low, high = (low, middle) if reaches(middle) else (middle, high)

    @available_if(_has("predict"))
    def predict(self, X: Any) -> np.ndarray:
        """Return what `best_estimator_` predicts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            One for each sample.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of `best_estimator_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the decision function of `best_estimator_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            One for each sample.
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.decision_function(X)

    @available_if(_has("score"))
    def score(self, X: Any, y: Any, **params: Any) -> float:
        """Return the score of `best_estimator_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Targets.
        **params : dict
            Metadata for the estimator's score, where routing is enabled.

        Returns
        -------
        score : float
            The larger the better.
        """
        check_is_fitted(self, "best_estimator_")
        if params:
            _raise_for_params(params, self, "score")
            params = process_routing(self, "score", **params).estimator.score
        return self.best_estimator_.score(X, y, **params)

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of metadata.

        Returns
        -------
        routing : MetadataRouter
            To the estimator's fit and score.
        """
        mapping = (
            MethodMapping()
            .add(caller="fit", callee="fit")
            .add(caller="fit", callee="score")
            .add(caller="score", callee="score")
        )
        return MetadataRouter(owner=self).add(estimator=self._inner(), method_mapping=mapping)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._inner())
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        return tags


def _checked(X: Any, y: Any, classifies: bool) -> tuple[Any, Any]:
    """Return data that rows can be taken of; all else is the estimator's business."""
    if hasattr(X, "tocsr"):
        raise TypeError("sparse input is not supported; make it dense with X.toarray()")
    if y is None:
        raise ValueError("IntrinsicDimension requires y to be passed, but the target y is None")
    X, y = indexable(X, y)
    if classifies and np.ndim(y) == 2 and np.shape(y)[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y


class _Parts:
    """Training and test samples, with their metadata."""

    def __init__(self, X: Any, y: Any, routed: Any, train: Any, test: Any) -> None:
        from sklearn.utils import _safe_indexing
        from sklearn.utils.validation import _check_method_params

        self.X, self.X_test = _safe_indexing(X, train), _safe_indexing(X, test)
        self.y, self.y_test = _safe_indexing(y, train), _safe_indexing(y, test)
        self.fit_params = _check_method_params(X, routed.estimator.fit, train)
        self.score_params = _check_method_params(X, routed.estimator.score, test)


def _routed(estimator: Any, params: dict[str, Any]) -> Any:
    from sklearn.utils import Bunch

    if not params:
        return Bunch(estimator=Bunch(fit={}, score={}))
    _raise_for_params(params, estimator, "fit")
    return process_routing(estimator, "fit", **params)


def _score(estimator: Any, scorer: Any, parts: _Parts) -> tuple[float, int | None]:
    estimator.fit(parts.X, parts.y, **parts.fit_params)
    score = float(scorer(estimator, parts.X_test, parts.y_test, **parts.score_params))
    if not np.isfinite(score):
        raise ValueError(f"the score of {estimator!r} is {score}")
    return score, getattr(estimator, "n_parameters_", None)


def _with_seed(estimator: Any, seed: int) -> Any:
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=seed)
    return estimator


def _crossing(dims: np.ndarray, mean: np.ndarray, threshold: float) -> float:
    """Return where the rising curve over the logarithm of the dimension reaches the threshold."""
    if mean.max() < threshold:
        return float("nan")
    t = np.log(dims)
    fitted = IsotonicRegression().fit_transform(t, mean) if len(dims) > 1 else mean
    above = np.flatnonzero(fitted >= threshold)
    if not len(above):  # a single high score between lower ones was averaged away
        return float(dims[int(np.argmax(mean >= threshold))])
    first = int(above[0])
    if first == 0:
        return float(dims[0])
    a, b = fitted[first - 1], fitted[first]
    share = (threshold - a) / (b - a)
    return float(np.exp(t[first - 1] + share * (t[first] - t[first - 1])))
