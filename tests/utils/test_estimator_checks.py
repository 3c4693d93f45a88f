"""The lift and the checks themselves, on guinea pigs; each of our checks must be able to fail."""

import pickle
import re
import warnings
from collections import Counter
from numbers import Real

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklr.utils import _own_checks
from sklr.utils._imports import import_optional
from sklr.utils._own_checks import OWN_CHECKS
from sklr.utils._validation import check_spd_stack, check_trials
from sklr.utils.estimator_checks import (
    as_tabular,
    instance_for_checks,
    lift_to_spd,
    lift_to_trials,
    make_check_data,
    missing_extra,
)


class ThreeD:
    """Tags of an estimator whose input is 3-D."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


class Power(ThreeD, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Trials to the logarithm of each channel's power: a 3-D transformer."""

    _parameter_constraints: dict = {"scale": ["boolean"]}

    def __init__(self, scale=False):
        self.scale = scale

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        X = check_trials(self, X)
        self.mean_ = self._power(X).mean(axis=0) if self.scale else np.zeros(X.shape[1])
        self._n_features_out = X.shape[1]
        return self

    def transform(self, X):
        check_is_fitted(self)
        return self._power(check_trials(self, X, reset=False)) - self.mean_

    @staticmethod
    def _power(X):
        return np.log((X**2).sum(axis=2) + 1)


class PowerClassifier(ThreeD, ClassifierMixin, BaseEstimator):
    """Trials to classes, with a method that depends on a parameter."""

    _parameter_constraints: dict = {
        "probability": ["boolean"],
        "C": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, probability=True, C=1.0):
        self.probability = probability
        self.C = C

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        X, y = check_trials(self, X, y)
        self.model_ = LogisticRegression(C=self.C).fit(self._features(X), y)
        self.classes_ = self.model_.classes_
        self.n_iter_ = int(self.model_.n_iter_.max())
        return self

    @staticmethod
    def _features(X):
        return np.concatenate([X.mean(axis=2), np.log((X**2).mean(axis=2) + 1e-9)], axis=1)

    def _call(self, method, X):
        check_is_fitted(self)
        return getattr(self.model_, method)(self._features(check_trials(self, X, reset=False)))

    def predict(self, X):
        return self._call("predict", X)

    def decision_function(self, X):
        return self._call("decision_function", X)

    @available_if(lambda self: self.probability)
    def predict_proba(self, X):
        return self._call("predict_proba", X)


class SPDRegressor(ThreeD, RegressorMixin, BaseEstimator):
    """SPD matrices to a number."""

    _takes_spd = True
    _parameter_constraints: dict = {"alpha": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        X, y = check_spd_stack(self, X, y)
        self.model_ = Ridge(alpha=self.alpha).fit(self._features(X), y)
        return self

    @staticmethod
    def _features(X):
        rows, columns = np.triu_indices(X.shape[1])
        return X[:, rows, columns]

    def predict(self, X):
        check_is_fitted(self)
        return self.model_.predict(self._features(check_spd_stack(self, X, reset=False)))


class TorchPower(Power):
    """A transformer whose extra is not installed."""

    def fit(self, X, y=None):
        import_optional("sklr_no_such_torch", extra="torch", feature="TorchPower")


GUINEA_PIGS = [Power(), Power(scale=True), PowerClassifier(), SPDRegressor()]


def name_of(item):
    return getattr(item, "__name__", type(item).__name__)


@pytest.mark.parametrize("estimator", GUINEA_PIGS, ids=repr)
def test_sklearn_suite_really_runs(estimator):
    with warnings.catch_warnings():
        # scikit-learn only warns about an estimator that it cannot check.
        warnings.simplefilter("error", category=SkipTestWarning)
        results = check_estimator(as_tabular(estimator), on_skip=None)
    ended = Counter(result["status"] for result in results)
    assert ended["failed"] == 0
    assert ended["passed"] > 45, ended
    assert ended["skipped"] <= 3, [r for r in results if r["status"] == "skipped"]


def test_scikit_learn_skips_three_d_input_without_the_twin():
    """The reason for the twin: the day this fails, scikit-learn checks 3-D input itself."""
    with pytest.warns(UserWarning, match="Can't test estimator"):
        results = check_estimator(Power(), on_skip=None)
    assert len(results) == 1


@pytest.mark.parametrize("estimator", GUINEA_PIGS, ids=repr)
@pytest.mark.parametrize("check", OWN_CHECKS, ids=name_of)
def test_own_checks_pass_on_good_estimators(estimator, check):
    check(estimator)


# Each mistake that our checks are there for, and the check that must find it.


class StoresOther(Power):
    def __init__(self, scale=False):
        self.scale = bool(scale)


class ChangesParameter(Power):
    def fit(self, X, y=None):
        super().fit(X)
        self.scale = not self.scale
        return self


class AddressInRepr(Power):
    def __init__(self, scale=object()):  # noqa: B008
        self.scale = scale

    def fit(self, X, y=None):
        self.mean_ = np.zeros(check_trials(self, X).shape[1])
        return self


class LosesState(Power):
    def __getstate__(self):
        return super().__getstate__() | {"mean_": 1.0}


class WritesIntoInput(Power):
    def transform(self, X):
        X *= 0.5
        return super().transform(X)


class RefusesReadOnly(Power):
    def fit(self, X, y=None):
        X.setflags(write=True)
        return super().fit(X)


class NeedsArray(Power):
    def fit(self, X, y=None):
        return super().fit(X[:, :])


class Random(Power):
    def fit(self, X, y=None):
        super().fit(X)
        self.mean_ = np.random.default_rng().standard_normal(X.shape[1])
        return self


class Remembers(Power):
    def fit(self, X, y=None):
        calls = getattr(self, "calls_", 0) + 1
        super().fit(X)
        self.calls_ = calls
        self.mean_ = self.mean_ + calls
        return self


class SeedsGlobally(Power):
    def fit(self, X, y=None):
        np.random.seed(0)
        return super().fit(X)


class SilencesWarnings(Power):
    def fit(self, X, y=None):
        warnings.simplefilter("ignore", category=EncodingWarning)
        return super().fit(X)


class DependsOnJobs(Power):
    def __init__(self, scale=False, n_jobs=None):
        self.scale, self.n_jobs = scale, n_jobs

    def transform(self, X):
        return super().transform(X) * (self.n_jobs or 1)


class JobsByDefault(DependsOnJobs):
    def __init__(self, scale=False, n_jobs=1):
        self.scale, self.n_jobs = scale, n_jobs


class NoRepr(Power):
    def __repr__(self, *args):
        return "?"


class WorksUnfitted(Power):
    def transform(self, X):
        return self._power(np.asarray(X))


class AttributeErrorUnfitted(Power):
    def transform(self, X):
        return self._power(X) - self.mean_


class AcceptsTables(Power):
    def fit(self, X, y=None):
        X = np.asarray(X)
        return super().fit(X[:, :, None] if X.ndim == 2 else X)


class VagueOnTables(Power):
    def fit(self, X, y=None):
        if np.ndim(X) == 2:
            raise ValueError("bad input")
        return super().fit(X)


class AcceptsNan(Power):
    def fit(self, X, y=None):
        return super().fit(np.nan_to_num(X))


class AcceptsFewerChannels(Power):
    def transform(self, X):
        return self._power(check_trials(clone(self), X))


class Batchwise(Power):
    def transform(self, X):
        Z = super().transform(X)
        return Z - Z.mean(axis=0)


class ForgetsFeatures(Power):
    def fit(self, X, y=None):
        super().fit(X)
        self.n_features_in_ = self.n_features_in_ + 1
        return self


class NoEpochs(Power):
    def fit(self, X, y=None):
        return super().fit(np.asarray(X, dtype=float))


@pytest.mark.parametrize(
    "broken, check, message",
    [
        (StoresOther, "init_only_stores", "does more than store"),
        (ChangesParameter, "params_round_trip", ""),
        (AddressInRepr, "params_round_trip", " at 0x"),
        (LosesState, "pickle_round_trip", ""),
        (WritesIntoInput, "input_unchanged", ""),
        (RefusesReadOnly, "input_unchanged", "WRITEABLE"),
        (NeedsArray, "other_input_types", ""),
        (Random, "deterministic", ""),
        (Remembers, "deterministic", ""),
        (SeedsGlobally, "global_state", "numpy's global generator"),
        (SilencesWarnings, "global_state", "warning filters"),
        (DependsOnJobs, "n_jobs", ""),
        (JobsByDefault, "n_jobs", "not None"),
        (NoRepr, "html_repr", ""),
        (WorksUnfitted, "not_fitted", "works before fit"),
        (AttributeErrorUnfitted, "not_fitted", "mean_"),
        (AcceptsTables, "tags", "accepted"),
        (VagueOnTables, "tags", "bad input"),
        (AcceptsNan, "bad_input", "nan: accepted"),
        (AcceptsFewerChannels, "bad_input", ""),
        (Batchwise, "fitted_state", ""),
        (ForgetsFeatures, "fitted_state", ""),
        (NoEpochs, "epochs", ""),
    ],
    ids=name_of,
)
def test_own_checks_find_mistakes(broken, check, message):
    np.random.seed(1)
    with warnings.catch_warnings():
        with pytest.raises(
            (AssertionError, AttributeError, TypeError, ValueError),
            match=re.escape(message) or None,
        ):
            getattr(_own_checks, f"check_{check}")(broken())


def test_every_own_check_is_known_to_fail_on_something():
    marks = test_own_checks_find_mistakes.pytestmark[0].args[1]
    found = {f"check_{check}" for _, check, _ in marks}
    assert found == {check.__name__ for check in OWN_CHECKS}


@pytest.mark.parametrize("lift", [lift_to_trials, lift_to_spd])
def test_lift_takes_each_sample_alone_and_keeps_samples_apart(lift):
    X = np.random.default_rng(0).standard_normal((6, 4))
    lifted = lift(X)
    assert_array_equal(np.concatenate([lift(row[None]) for row in X]), lifted)
    # A feature that changes sign only is another sample.
    assert np.abs(lift(-X) - lifted).max(axis=(1, 2)).min() > 1e-3
    assert np.isnan(lift(np.full((1, 2), np.nan))).any()


def test_lifted_trials_have_full_rank_also_for_zeros():
    for table in (np.zeros((2, 7)), np.ones((2, 7)), 1e3 * np.eye(7)[:2]):
        trials = lift_to_trials(table)
        assert trials.shape[2] > 2 * trials.shape[1]
        assert (np.linalg.matrix_rank(trials) == 7).all()


def test_lift_to_spd_is_exactly_symmetric_and_positive():
    matrices = lift_to_spd(np.random.default_rng(0).standard_normal((9, 5)))
    assert_array_equal(matrices, matrices.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(matrices).min() > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_lift_keeps_the_dtype(dtype):
    assert lift_to_trials(np.ones((2, 3), dtype=dtype)).dtype == dtype
    assert lift_to_trials(np.ones((2, 3), dtype=np.int32)).dtype == np.float64


def test_twin_is_the_estimator_on_lifted_input():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 4)), np.arange(30) % 3
    twin = as_tabular(PowerClassifier(C=2.0)).fit(X, y)
    plain = PowerClassifier(C=2.0).fit(lift_to_trials(X), y)
    assert_array_equal(twin.predict_proba(X), plain.predict_proba(lift_to_trials(X)))
    assert_array_equal(twin.predict_proba(X), plain.predict_proba(lift_to_trials(X)))
    assert twin.score(X, y) == plain.score(lift_to_trials(X), y)
    # and 3-D input goes through as it is
    assert_array_equal(twin.predict(lift_to_trials(X)), plain.predict(lift_to_trials(X)))


def test_twin_clones_and_pickles_with_its_lift():
    X = np.random.default_rng(0).standard_normal((8, 3))
    twin = as_tabular(Power(scale=True), lift=lift_to_spd).fit(X)
    for other in (pickle.loads(pickle.dumps(twin)), clone(twin).fit(X)):
        assert type(other) is type(twin)
        assert other.get_params() == {"scale": True}
        assert_allclose(other.transform(X), twin.transform(X))
    assert type(twin).__name__ == "Power"
    assert isinstance(twin, Power)


def test_twin_keeps_conditional_methods_conditional():
    twin = as_tabular(PowerClassifier(probability=False))
    assert not hasattr(twin, "predict_proba")
    X, y = np.random.default_rng(0).standard_normal((10, 2)), np.arange(10) % 2
    assert as_tabular(PowerClassifier()).fit(X, y).predict_proba(X).shape == (10, 2)


def test_twin_keeps_feature_names():
    pd = pytest.importorskip("pandas", reason="needs the extra 'test': pip install 'sklr[test]'")
    frame = pd.DataFrame(np.eye(4), columns=list("abcd"), index=list("wxyz"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = as_tabular(Power(scale=True)).fit(frame)
        assert_array_equal(twin.feature_names_in_, list("abcd"))
        out = twin.set_output(transform="pandas").transform(frame)
        assert_array_equal(twin.feature_names_in_, list("abcd"))
    assert list(out.index) == list("wxyz")
    assert list(out.columns) == ["power0", "power1", "power2", "power3"]
    with pytest.raises(ValueError, match="feature names"):
        twin.transform(frame[list("dcba")])
    twin.fit(frame.to_numpy())
    assert not hasattr(twin, "feature_names_in_")


def test_twin_tags_and_refusals():
    twin = as_tabular(PowerClassifier())
    tags = get_tags(twin)
    assert tags.input_tags.two_d_array and not tags.input_tags.three_d_array
    assert not get_tags(PowerClassifier()).input_tags.two_d_array
    with pytest.raises(ValueError, match="takes tables already"):
        as_tabular(StandardScaler())
    with pytest.raises(ValueError, match=r"StandardScaler"):
        as_tabular(StandardScaler())


class Stacks(Power):
    """An estimator with a lift of its own: features become two equal channels."""

    @staticmethod
    def _lift_table(X):
        return np.stack([X, X + 1], axis=1)


def test_a_class_can_bring_its_own_lift():
    X, y = make_check_data(Stacks())
    assert X.shape == (24, 2, 3) and y is None
    assert as_tabular(Stacks()).fit_transform(np.eye(3)).shape == (3, 2)


@pytest.mark.parametrize(
    "estimator, shape, kinds",
    [
        (Power(), (24, 3, 36), None),
        (PowerClassifier(), (24, 3, 36), "i"),
        (SPDRegressor(), (24, 3, 3), "f"),
        (StandardScaler(), (24, 3), None),
        (Ridge(), (24, 3), "f"),
        (LogisticRegression(), (24, 3), "i"),
    ],
    ids=name_of,
)
def test_make_check_data_follows_the_tags(estimator, shape, kinds):
    X, y = make_check_data(estimator)
    assert X.shape == shape
    assert (y is None) if kinds is None else (y.dtype.kind == kinds and y.shape == (24,))
    clone(estimator).fit(X, y)


def test_make_check_data_for_pairs_and_positive_input():
    from sklearn.decomposition import NMF
    from sklearn.svm import SVC

    X, y = make_check_data(SVC(kernel="precomputed"))
    assert X.shape == (24, 24)
    SVC(kernel="precomputed").fit(X, y)
    X, _ = make_check_data(NMF(init="random"))
    assert X.min() >= 0


def test_missing_extra_is_named():
    assert missing_extra(Power()) is None
    assert missing_extra(TorchPower()) == "torch"


def test_networks_are_checked_in_double_precision_where_they_can_be():
    class Inside(BaseEstimator):
        def __init__(self, dtype="auto"):
            self.dtype = dtype

    assert instance_for_checks(Inside).dtype == "auto"
    Inside.__module__ = "sklr.neural_network._inside"
    assert instance_for_checks(Inside).dtype == "float64"


def test_instance_for_checks_seeds():
    from sklearn.cluster import KMeans

    assert instance_for_checks(KMeans).random_state == 0
    assert get_tags(instance_for_checks(Power, tabular=True)).input_tags.two_d_array
    assert not get_tags(instance_for_checks(Power)).input_tags.two_d_array
