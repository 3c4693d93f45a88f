"""Networks made of scikit-learn's models say what these say, and their losses are at a minimum."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr._torch._curvature import Objective  # noqa: E402
from sklr._torch._from_sklearn import converted, is_convertible  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)) * [1, 2, 3, 4] + 1
NUMBERS = X @ RNG.standard_normal((4, 2)) + RNG.standard_normal((60, 2))
CLASSES = np.array(["a", "b", "c"])[(X[:, 0] > 1).astype(int) + (X[:, 1] > 2)]
TIGHT = {"tol": 1e-10, "max_iter": 5000}
MODELS = {
    "classes": (LogisticRegression(C=0.3, **TIGHT), CLASSES),
    "two classes": (LogisticRegression(**TIGHT), CLASSES == "a"),
    "no intercept": (LogisticRegression(fit_intercept=False, **TIGHT), CLASSES == "a"),
    "ridge": (Ridge(3.0), NUMBERS),
    "least squares": (LinearRegression(), NUMBERS[:, 0]),
    "perceptron": (MLPClassifier((3,), "tanh", solver="lbfgs", random_state=0, **TIGHT), CLASSES),
    "two": (
        MLPClassifier((3,), "logistic", solver="lbfgs", random_state=0, **TIGHT),
        CLASSES == "a",
    ),
    "labels": (
        MLPClassifier((3, 2), "tanh", solver="lbfgs", random_state=0, alpha=0.1, **TIGHT),
        np.c_[CLASSES == "a", CLASSES == "b"].astype(int),
    ),
    "regressor": (
        MLPRegressor(
            hidden_layer_sizes=(3,),
            activation="tanh",
            solver="lbfgs",
            random_state=0,
            alpha=1,
            **TIGHT,
        ),
        NUMBERS[:, 0],
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MODELS)
def test_network_says_what_the_model_says_and_is_at_a_minimum(name):
    model, y = MODELS[name]
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    assert is_convertible(pipeline) and is_convertible(model)
    found = converted(pipeline, X, y, name="Test")
    with torch.no_grad():
        output = found.module(torch.from_numpy(found.X))
    if not hasattr(model, "predict_proba"):
        assert_allclose(output.reshape(np.shape(y)), pipeline.predict(X), rtol=1e-12)
    elif output.shape[1] == 1:
        assert_allclose(torch.sigmoid(output)[:, 0], pipeline.predict_proba(X)[:, 1], rtol=1e-9)
    elif name == "labels":
        assert_allclose(torch.sigmoid(output), pipeline.predict_proba(X), rtol=1e-9)
    else:
        assert_allclose(torch.softmax(output, 1), pipeline.predict_proba(X), rtol=1e-9)
    objective = Objective(found.module, found.X, found.y, loss=found.loss, name="Test")
    gradient = objective.gradient()
    for key, penalty in found.penalties.items():
        at = objective.slices[key]
        gradient[at] += penalty / len(X) * objective.vector()[at]
    # The solvers' own accuracy; a wrong factor of loss or penalty would leave .01 and more.
    assert gradient.abs().max() < 2e-4


def test_what_cannot_be_converted_is_refused():
    model = LogisticRegression().fit(X, CLASSES)
    with pytest.raises(NotFittedError):
        converted(MLPClassifier(), name="Test")
    for given, message in (
        ((X[:, :3], CLASSES), "X has 3 features, LogisticRegression was fitted with 4"),
        ((X, np.where(CLASSES == "c", "d", CLASSES)), r"y has \['d'\], which are none"),
        ((X, CLASSES[:-1]), "60 samples and y has 59"),
        ((np.full_like(X, np.nan), CLASSES), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            converted(model, *given, name="Test")
    assert not is_convertible(StandardScaler())
    assert converted(model, name="Test").module[0].weight.dtype == torch.float64
