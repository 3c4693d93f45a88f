"""The classifier and the shared nested search, against GridSearchCV over the plain pipeline."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from sklr.covariance import (
    AugmentedCovariance,
    AugmentedCovarianceSVC,
    AugmentedCovarianceSVCCV,
    TangentSpace,
    delay_embed,
)
from sklr.datasets import make_ar2_trials


@pytest.fixture(scope="module")
def close_classes():
    """Two classes whose spectra differ little: scores between chance and one."""
    return make_ar2_trials(n_trials=36, n_times=120, frequencies=(0.24, 0.26), random_state=3)


class Stack(TransformerMixin, BaseEstimator):
    """What MOABB's AugmentedDataset does."""

    def __init__(self, order=1, lag=1):
        self.order, self.lag = order, lag

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return delay_embed(X, self.order, self.lag)


def peer_search(X, y, orders, lags, *, scoring, cv, estimator="cov", metric="riemann"):
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace as PeerTangentSpace

    pipe = Pipeline(
        [
            ("augment", Stack()),
            ("cov", Covariances(estimator)),
            ("ts", PeerTangentSpace(metric)),
            ("svc", SVC()),
        ]
    )
    grid = {
        "augment__order": list(orders),
        "augment__lag": list(lags),
        "svc__C": [0.5, 1, 1.5],
        "svc__kernel": ["linear", "rbf"],
    }
    return GridSearchCV(pipe, grid, scoring=scoring, cv=cv, refit=False).fit(X, y)


@pytest.mark.parametrize(
    "scoring, estimator, metric",
    [
        ("roc_auc", "cov", "riemann"),
        (None, "oas", "riemann"),
        ("balanced_accuracy", "cov", "riemann"),
        ("roc_auc", "cov", "logeuclid"),
    ],
)
def test_every_cell_equals_grid_search(close_classes, scoring, estimator, metric):
    X, y = close_classes
    cv = StratifiedKFold(3, shuffle=True, random_state=5)
    orders, lags = [1, 2, 4], [1, 3]
    peer = peer_search(
        X, y, orders, lags, scoring=scoring, cv=cv, estimator=estimator, metric=metric
    )
    ours = AugmentedCovarianceSVCCV(
        orders, lags, scoring=scoring, estimator=estimator, metric=metric, tol=1e-8, random_state=5
    ).fit(X, y)
    for i in range(3):
        key = f"split{i}_test_score"
        assert_allclose(ours.cv_results_[key], peer.cv_results_[key], atol=1e-6)
    for key in ("mean_test_score", "std_test_score"):
        assert_allclose(ours.cv_results_[key], peer.cv_results_[key], atol=1e-6)
    assert_array_equal(ours.cv_results_["rank_test_score"], peer.cv_results_["rank_test_score"])
    assert ours.best_index_ == peer.best_index_
    assert ours.best_score_ == pytest.approx(peer.best_score_)
    renamed = [
        {key.rpartition("__")[2]: value for key, value in p.items()}
        for p in peer.cv_results_["params"]
    ]
    assert ours.cv_results_["params"] == renamed


def test_default_tolerance_gives_the_same_scores(close_classes):
    X, y = close_classes
    exact = AugmentedCovarianceSVCCV(
        [1, 2, 4], [1, 2], tol=1e-8, random_state=0, scoring="roc_auc"
    ).fit(X, y)
    loose = AugmentedCovarianceSVCCV([1, 2, 4], [1, 2], random_state=0, scoring="roc_auc").fit(X, y)
    assert_array_equal(loose.cv_results_["mean_test_score"], exact.cv_results_["mean_test_score"])


def test_three_classes():
    X, y = make_ar2_trials(n_trials=45, n_times=120, random_state=0)
    y = np.array(["a", "b", "c"])[np.arange(len(y)) % 3]
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    peer = peer_search(X, y, [1, 2], [1], scoring="accuracy", cv=cv)
    ours = AugmentedCovarianceSVCCV([1, 2], [1], random_state=0, tol=1e-8).fit(X, y)
    assert_allclose(ours.cv_results_["mean_test_score"], peer.cv_results_["mean_test_score"])
    assert set(ours.predict(X)) <= {"a", "b", "c"}


def test_delays_see_what_the_covariance_cannot():
    """The paper's point: equal covariances, different spectra."""
    X, y = make_ar2_trials(random_state=0)
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    accuracy = {
        order: cross_val_score(AugmentedCovarianceSVC(order, 1), X, y, cv=cv).mean()
        for order in (1, 2, 3)
    }
    assert accuracy[1] < 0.7  # chance is .5, measured .58 elsewhere
    assert accuracy[2] > 0.97
    assert accuracy[3] > 0.97


def test_closer_spectra_need_more_delays():
    X, y = make_ar2_trials(frequencies=(0.24, 0.26), random_state=0)
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = [
        cross_val_score(AugmentedCovarianceSVC(order, 1), X, y, cv=cv).mean() for order in (1, 2, 3)
    ]
    assert scores[0] < 0.7
    assert scores[1] > 0.78
    assert scores[2] > scores[1]


def test_classifier_equals_its_pipeline():
    X, y = make_ar2_trials(n_trials=40, n_times=120, random_state=1)
    model = AugmentedCovarianceSVC(3, 2, C=0.7, kernel="rbf").fit(X[:30], y[:30])
    pipe = Pipeline(
        [
            ("a", AugmentedCovariance(3, 2)),
            ("t", TangentSpace()),
            ("s", SVC(C=0.7, kernel="rbf")),
        ]
    ).fit(X[:30], y[:30])
    assert_array_equal(model.decision_function(X[30:]), pipe.decision_function(X[30:]))
    assert_array_equal(model.predict(X[30:]), pipe.predict(X[30:]))


def test_tangent_space_equals_pyriemann():
    from pyriemann.tangentspace import TangentSpace as Peer

    G = AugmentedCovariance(2).fit_transform(make_ar2_trials(n_trials=12, random_state=0)[0])
    for metric in ("riemann", "logeuclid", "euclid"):
        expected = Peer(metric).fit(G[:8]).transform(G)
        assert_allclose(TangentSpace(metric).fit(G[:8]).transform(G), expected, atol=1e-7)


def test_rule_chooses_inside_fit():
    from sklr.covariance import select_embedding

    X, y = make_ar2_trials(n_trials=20, n_times=400, random_state=0)
    model = AugmentedCovarianceSVC("mdop", estimator="oas").fit(X[:12], y[:12])
    assert (model.order_, model.lag_) == select_embedding(X[:12], method="mdop")


def test_results_do_not_depend_on_n_jobs(close_classes):
    X, y = close_classes
    one = AugmentedCovarianceSVCCV([1, 2, 3], [1, 2], random_state=0).fit(X, y)
    two = AugmentedCovarianceSVCCV([1, 2, 3], [1, 2], random_state=0, n_jobs=2).fit(X, y)
    assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    assert_array_equal(one.decision_function(X), two.decision_function(X))


def test_impossible_cells_are_nan_and_told(close_classes):
    X, y = close_classes  # 3 channels, 120 samples
    with pytest.warns(FitFailedWarning, match=r"3 of 5 cells.*120 samples"):
        search = AugmentedCovarianceSVCCV([1, 2, 30], [1, 60], random_state=0).fit(X, y)
    means = search.cv_results_["mean_test_score"]
    possible = {(1, 1), (1, 60), (2, 1)}  # (2, 60) and (30, 60) too long, (30, 1) too many rows
    for params, mean in zip(search.cv_results_["params"], means):
        assert np.isnan(mean) != ((params["order"], params["lag"]) in possible)
    assert not np.isnan(search.best_score_)


def test_interrupted_search_keeps_the_former_fit(close_classes, monkeypatch):
    X, y = close_classes
    search = AugmentedCovarianceSVCCV([1, 2], [1], random_state=0).fit(X, y)
    before = search.decision_function(X)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AugmentedCovarianceSVCCV, "_score_fold", interrupt)
        with pytest.raises(KeyboardInterrupt):
            search.fit(X[:20], y[:20])
    assert_array_equal(search.decision_function(X), before)
    search.fit(X, y)


def test_nested_in_cross_validation_and_repr_is_stable(close_classes):
    X, y = close_classes
    search = AugmentedCovarianceSVCCV([1, 2], [1, 2], random_state=0)
    assert repr(search.get_params()) == repr(
        AugmentedCovarianceSVCCV([1, 2], [1, 2], random_state=0).get_params()
    )
    assert "0x" not in repr(search.get_params())
    assert len(cross_val_score(search, X, y, cv=3, scoring="roc_auc", error_score="raise")) == 3


def test_progress_is_shown(close_classes, capsys):
    X, y = close_classes
    AugmentedCovarianceSVCCV([1, 2], [1], random_state=0, verbose=1).fit(X, y)
    assert "order, lag" in capsys.readouterr().err
    AugmentedCovarianceSVCCV([1, 2], [1], random_state=0).fit(X, y)
    assert capsys.readouterr().err == ""


class TestBadInput:
    @pytest.mark.parametrize("cls", [AugmentedCovarianceSVC, AugmentedCovarianceSVCCV])
    def test_single_class(self, cls, close_classes):
        X, _ = close_classes
        with pytest.raises(ValueError, match="at least two classes, got one class"):
            cls().fit(X, np.zeros(len(X), dtype=int))

    @pytest.mark.parametrize("cls", [AugmentedCovarianceSVC, AugmentedCovarianceSVCCV])
    def test_two_dimensions(self, cls):
        with pytest.raises(ValueError, match=r"\(n_trials, n_channels, n_times\)"):
            cls().fit(np.ones((6, 10)), [0, 1] * 3)

    @pytest.mark.parametrize(
        "cls, options",
        [
            (AugmentedCovarianceSVC, {"order": 2, "lag": 1}),
            (AugmentedCovarianceSVCCV, {"orders": [1, 2], "lags": [1]}),
        ],
    )
    def test_average_reference(self, cls, options, close_classes):
        X, y = close_classes
        X = X - X.mean(axis=1, keepdims=True)
        with pytest.raises(ValueError, match="positive definite.*shrinkage"):
            cls(**options).fit(X, y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cls(**options, estimator="oas").fit(X, y)

    def test_no_possible_cell(self, close_classes):
        X, y = close_classes
        with pytest.raises(ValueError, match=r"None of the 2 cells.*3 channels, 120 samples"):
            AugmentedCovarianceSVCCV([40], [5, 6]).fit(X, y)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"orders": [0]}, "orders must be an integer >= 1, got 0"),
            ({"lags": [1.5]}, "lags.*in seconds.*Got 1.5"),
            ({"orders": []}, "order is empty"),
            ({"Cs": [-1.0]}, "Cs must be positive numbers, got -1.0"),
            ({"kernels": ["poly"]}, "kernels must be 'linear' or 'rbf', got 'poly'"),
            ({"metric": "nope"}, "'metric' parameter"),
            ({"tol": 0}, "'tol' parameter"),
            ({"scoring": "nope"}, "'scoring' parameter"),
        ],
    )
    def test_grids(self, options, message, close_classes):
        X, y = close_classes
        with pytest.raises((ValueError, TypeError), match=message):
            AugmentedCovarianceSVCCV(**options).fit(X, y)

    @pytest.mark.parametrize(
        "options", [{"order": "best"}, {"lag": 0}, {"C": 0}, {"kernel": "poly"}, {"order": 1.5}]
    )
    def test_classifier_options(self, options, close_classes):
        X, y = close_classes
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"'{name}' parameter of AugmentedCovarianceSVC"):
            AugmentedCovarianceSVC(**options).fit(X, y)

    def test_not_symmetric(self):
        X = np.stack([np.eye(3)] * 4)
        X[2, 0, 1] = 0.1
        with pytest.raises(ValueError, match="matrix 2 differs from its transpose"):
            TangentSpace().fit(X)
