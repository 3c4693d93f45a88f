"""scikit-learn's models as networks: equal predictions, and what cannot be one."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import make_blobs, make_regression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.compression import WeightSVD, from_sklearn  # noqa: E402


def classes(n_classes=3):
    return make_blobs(120, 5, centers=n_classes, cluster_std=4, random_state=0)


def numbers(n_targets=1):
    X, y = make_regression(100, 6, n_targets=n_targets, noise=5, random_state=0)
    return X, y / 50


def fitted(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def said(model, X):
    network = from_sklearn(model)
    assert all(p.requires_grad for p in network.parameters())
    with torch.no_grad():
        return network(torch.from_numpy(X).to(next(network.parameters()).dtype)).numpy()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_perceptrons(activation, n_classes):
    X, y = classes(n_classes)
    labels = np.array(["b", "c", "a"])[y]
    model = MLPClassifier((9, 7), activation=activation, max_iter=20, random_state=0)
    fitted(model, X, labels)
    logits = said(model, X)
    assert logits.shape == (120, n_classes)
    assert (model.classes_[logits.argmax(axis=1)] == model.predict(X)).all()
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert_allclose(p / p.sum(axis=1, keepdims=True), model.predict_proba(X), atol=1e-12)


def test_several_labels():
    X, y = classes()
    Y = np.column_stack([y == 0, y > 0, X[:, 0] > 0]).astype(int)
    model = fitted(MLPClassifier((8,), max_iter=30, random_state=0), X, Y)
    assert ((said(model, X) > 0) == model.predict(X)).all()


@pytest.mark.parametrize("n_targets", [1, 3])
def test_regressions(n_targets):
    X, y = numbers(n_targets)
    for model in (
        MLPRegressor(hidden_layer_sizes=(9,), max_iter=30, random_state=0),
        LinearRegression(),
        LinearRegression(fit_intercept=False),
        Lasso(0.1),
    ):
        fitted(model, X, y)
        wanted = model.predict(X)
        assert_allclose(said(model, X).reshape(wanted.shape), wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "model", [LogisticRegression(), RidgeClassifier(), LinearSVC(), SGDClassifier(random_state=0)]
)
def test_linear_classifiers(model, n_classes):
    X, y = classes(n_classes)
    fitted(model, X, y)
    assert (model.classes_[said(model, X).argmax(axis=1)] == model.predict(X)).all()


def test_sparse_coefficients_and_single_precision():
    X, y = classes()
    model = fitted(SGDClassifier(penalty="l1", random_state=0), X, y).sparsify()
    assert (said(model, X).argmax(axis=1) == model.predict(X)).all()
    single = fitted(MLPClassifier((6,), max_iter=5, random_state=0), X.astype(np.float32), y)
    assert {p.dtype for p in from_sklearn(single).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-1, 3)),
        MaxAbsScaler(),
        RobustScaler(),
        RobustScaler(with_centering=False),
        RobustScaler(with_scaling=False),
        PCA(3),
        PCA(3, whiten=True),
        TruncatedSVD(3, random_state=0),
        "passthrough",
    ],
)
def test_steps_before_go_into_the_first_layer(step):
    X, y = numbers()
    X = X * np.geomspace(0.1, 100, 6) + 7
    model = fitted(
        make_pipeline(step, MaxAbsScaler(), MLPRegressor(hidden_layer_sizes=(5,), max_iter=20)),
        X,
        y,
    )
    network = from_sklearn(model)
    assert [type(part) for part in network] == [nn.Linear, nn.ReLU, nn.Linear]
    assert_allclose(said(model, X)[:, 0], model.predict(X), rtol=1e-9, atol=1e-9)


def test_searches_and_frozen_models():
    X, y = classes()
    model = GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2).fit(X, y)
    assert (said(model, X).argmax(axis=1) == model.predict(X)).all()
    frozen = FrozenEstimator(model.best_estimator_)
    assert (said(frozen, X) == said(model, X)).all()


def test_refusals():
    X, y = classes()
    for model in (DecisionTreeClassifier(), SVC(kernel="linear")):
        with pytest.raises(TypeError, match=type(model).__name__):
            from_sklearn(model.fit(X, y))
    with pytest.raises(TypeError, match="PoissonRegressor"):
        from_sklearn(PoissonRegressor().fit(X, y))
    poisson = MLPRegressor("poisson", hidden_layer_sizes=(4,), max_iter=3)
    with pytest.raises(TypeError, match="exp"):
        from_sklearn(fitted(poisson, X, y + 1.0))
    with pytest.raises(NotFittedError):
        from_sklearn(MLPClassifier())
    with pytest.raises(TypeError, match="clips"):
        from_sklearn(make_pipeline(MinMaxScaler(clip=True), LogisticRegression()).fit(X, y))
    with pytest.raises(TypeError, match="'decisiontreeclassifier'|DecisionTreeClassifier"):
        from_sklearn(make_pipeline(StandardScaler(), DecisionTreeClassifier()).fit(X, y))
    with pytest.raises(TypeError, match="from_sklearn"):
        WeightSVD().fit(LogisticRegression().fit(X, y))


@pytest.mark.parametrize("solver", ["full", "covariance_eigh"])
def test_whitening_of_directions_without_variance(solver):
    X, y = make_blobs(60, 3, centers=3, random_state=0)
    X = np.c_[X, X[:, :1], np.ones(60)]  # rank 3 of 5
    model = make_pipeline(PCA(whiten=True, svd_solver=solver), LogisticRegression()).fit(X, y)
    logits = from_sklearn(model)(torch.from_numpy(X)).detach().numpy()
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) == model.predict(X)).mean() > 0.95
