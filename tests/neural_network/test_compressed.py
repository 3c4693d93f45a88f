"""Classifiers that are made smaller after their training: what is inside, and in pipelines."""

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.neural_network import CompressedClassifier, GrassmannClassifier  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn.compression import (  # noqa: E402
    AtomicFeatureMimicking,
    EigenspaceCompensation,
    FisherWeightedSVD,
    LowRankLinear,
    WeightSVD,
    from_sklearn,
)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X, y = X / 16, np.array(list("abcdefghij"))[y]
    return X[:1000], y[:1000], X[1000:], y[1000:]


@pytest.fixture(scope="module")
def perceptron(digits):
    X, y, *_ = digits
    return MLPClassifier((64, 64), max_iter=20, random_state=0, tol=1e-9).fit(X, y)


def quick(**params):
    return PerceptronClassifier(
        hidden_layer_sizes=(32,), learning_rate=0.01, max_iter=8, random_state=0, **params
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_perceptron_becomes_smaller(digits, perceptron):
    X, y, X_test, y_test = digits
    frozen = FrozenEstimator(perceptron)
    whole = CompressedClassifier(frozen, compressor=WeightSVD(1.0)).fit(X, y)
    assert (whole.predict(X_test) == perceptron.predict(X_test)).all()
    assert_allclose(whole.predict_proba(X_test), perceptron.predict_proba(X_test), atol=1e-9)
    small = CompressedClassifier(frozen, compressor=AtomicFeatureMimicking(12)).fit(X, y)
    assert isinstance(small.module_[0], LowRankLinear) and small.module_[0].rank == 12
    assert small.compressor_.ratio_ < 0.5
    assert small.score(X_test, y_test) > perceptron.score(X_test, y_test) - 0.03
    default = CompressedClassifier(frozen).fit(X, y)
    assert default.compressor_.ratio_ < 1
    assert default.score(X_test, y_test) > perceptron.score(X_test, y_test) - 0.01
    # Frozen: what was given is as it was.
    assert default.estimator_.estimator is perceptron


def test_networks_of_sklr(digits):
    X, y, X_test, y_test = digits
    compressor = AtomicFeatureMimicking(8)
    for estimator in (quick(), GrassmannClassifier(2, hidden_layer_sizes=(32,), max_iter=3)):
        small = CompressedClassifier(estimator, compressor=compressor).fit(X, y)
        direct = clone(compressor).fit(small.estimator_.module_, X)
        wanted = direct.transform(small.estimator_.module_)
        got = small.module_.state_dict()
        assert all(torch.allclose(got[k], v, atol=1e-5) for k, v in wanted.state_dict().items())
        assert small.score(X_test, y_test) > small.estimator_.score(X_test, y_test) - 0.1
        assert list(small.classes_) == list("abcdefghij")
        again = pickle.loads(pickle.dumps(small))
        assert_allclose(again.predict_proba(X_test), small.predict_proba(X_test))


def test_fine_tuning_gives_back_what_was_lost(digits):
    X, y, X_test, y_test = digits
    logistic = LogisticRegression()
    mlp = MLPClassifier((48,), max_iter=60, random_state=0)
    for estimator in (quick(), FrozenEstimator(mlp.fit(X, y))):
        compressor = AtomicFeatureMimicking(3)
        before = CompressedClassifier(estimator, compressor=compressor).fit(X, y)
        after = CompressedClassifier(estimator, compressor=compressor, fine_tune=5).fit(X, y)
        assert after.score(X_test, y_test) > before.score(X_test, y_test) + 0.05
        for small in (after, before):
            first = next(p for p in small.module_.modules() if isinstance(p, LowRankLinear))
            assert first.rank == 3
    # Early stopping of the classifier is for its own fit.
    stopping = quick(early_stopping=True)
    CompressedClassifier(stopping, compressor=compressor, fine_tune=1).fit(X, y)
    assert stopping.early_stopping and logistic.get_params() == LogisticRegression().get_params()


def test_other_compressors(digits, perceptron):
    X, y, X_test, y_test = digits
    for compressor in (FisherWeightedSVD(16), EigenspaceCompensation(8, bits=2)):
        small = CompressedClassifier(FrozenEstimator(perceptron), compressor=compressor).fit(X, y)
        assert small.score(X_test, y_test) > 0.7
        assert not hasattr(compressor, "report_")


def test_pipelines_and_searches(digits):
    X, y, X_test, y_test = digits
    inner = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    assert CompressedClassifier(inner).fit(X[:200] * 16, y[:200]).score(X_test * 16, y_test) > 0.8
    outer = make_pipeline(
        StandardScaler(),
        CompressedClassifier(
            LogisticRegression(max_iter=200), compressor=AtomicFeatureMimicking(targets="all")
        ),
    )
    ranks = {"compressedclassifier__compressor__rank": [1, 7]}
    search = GridSearchCV(outer, ranks, cv=2).fit(X[:300], y[:300])
    assert search.best_params_ == {"compressedclassifier__compressor__rank": 7}
    assert search.best_estimator_[-1].module_[0].rank == 7


def test_two_classes_and_no_probabilities():
    X, y = make_blobs(100, 6, centers=2, cluster_std=5, random_state=0)
    svc = LinearSVC(random_state=0).fit(X, y)
    small = CompressedClassifier(FrozenEstimator(svc), compressor=WeightSVD(1.0)).fit(X, y)
    assert_allclose(small.decision_function(X), svc.decision_function(X), atol=1e-10)
    assert not hasattr(small, "predict_proba")
    assert hasattr(CompressedClassifier(), "predict_proba")


class Recorder(PerceptronClassifier):
    """Keeps what its fit was given."""

    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        self.seen_ = None
        super().fit(X, y, sample_weight=sample_weight, X_val=X_val, y_val=y_val)
        self.seen_ = sample_weight, X_val, y_val
        return self


@pytest.mark.parametrize("routing", [False, True])
def test_weights_and_validation_samples_arrive(digits, routing):
    X, y, X_test, y_test = digits
    weights = np.where(np.arange(1000) % 2, 0.0, 1.0)
    inner = Recorder(hidden_layer_sizes=(8,), max_iter=2, random_state=0)
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            inner.set_fit_request(sample_weight=True, X_val=True, y_val=True)
        small = CompressedClassifier(inner, compressor=AtomicFeatureMimicking(4), fine_tune=1)
        given = {"sample_weight": weights, "X_val": X_test, "y_val": y_test}
        small.fit(X, y, **given)
        got_weights, got_X, got_y = small.estimator_.seen_
        assert got_weights is weights and got_X is X_test and got_y is y_test
        assert len(small.estimator_.validation_scores_) == 2
        # Rows of weight 0 are as if they were not there.
        half = CompressedClassifier(inner, compressor=AtomicFeatureMimicking(4), fine_tune=1)
        half.fit(X[::2], y[::2], X_val=X_test, y_val=y_test)
        assert_allclose(small.predict_proba(X_test), half.predict_proba(X_test), atol=1e-5)
        if routing:
            small.set_score_request(sample_weight=False)
            search = GridSearchCV(small, {"compressor__rank": [2, 3]}, cv=2)
            search.fit(X[:100], y[:100], sample_weight=np.ones(100))
            assert search.best_estimator_.estimator_.seen_[0] is not None
            inner.set_fit_request(sample_weight=None)
            with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
                CompressedClassifier(inner).fit(X, y, sample_weight=weights)


def test_refusals(digits):
    X, y, *_ = digits
    with pytest.raises(TypeError, match="must be a classifier"):
        CompressedClassifier(LinearRegression()).fit(X, y)
    with pytest.raises(TypeError, match="DecisionTreeClassifier"):
        CompressedClassifier(DecisionTreeClassifier(max_depth=2)).fit(X, y)
    with pytest.raises(TypeError, match="compressor must be"):
        CompressedClassifier(compressor=StandardScaler()).fit(X, y)
    with pytest.raises(ValueError, match="one label"):
        CompressedClassifier().fit(X, np.ones((len(X), 2)))
    with pytest.raises(NotFittedError):
        CompressedClassifier().predict(X)
    assert not hasattr(CompressedClassifier(), "module_")
    # The classifier is fitted before a compressor can refuse; nothing of it is left.
    classifier = CompressedClassifier(quick(), compressor=WeightSVD(targets="nope"))
    with pytest.raises(ValueError, match="'nope' matches no layer"):
        classifier.fit(X, y)
    assert not hasattr(classifier, "estimator_")
    network = from_sklearn(LogisticRegression().fit(X, y))
    with pytest.raises(ValueError, match="estimator"):
        CompressedClassifier(network).fit(X, y)


def test_labels_that_a_frozen_classifier_does_not_know():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), np.array(["a", "b", "c"])[np.arange(60) % 3]
    two = LogisticRegression().fit(X[y != "b"], y[y != "b"])
    with pytest.raises(ValueError, match=r"not among the classes .*'a', 'c'.*\['b'\]"):
        CompressedClassifier(FrozenEstimator(two)).fit(X, y)


def test_probabilities_that_are_no_softmax_are_not_offered():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), np.arange(60) % 3
    for model in (SGDClassifier("modified_huber"), SGDClassifier("log_loss")):
        fitted = CompressedClassifier(make_pipeline(StandardScaler(), model)).fit(X, y)
        assert not hasattr(fitted, "predict_proba")
    model = SGDClassifier("log_loss", random_state=0)
    fitted = CompressedClassifier(model, compressor=WeightSVD(1.0)).fit(X, y > 0)
    wanted = clone(model).fit(X, y > 0).predict_proba(X)
    np.testing.assert_allclose(fitted.predict_proba(X), wanted, atol=1e-6)
