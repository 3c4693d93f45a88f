"""The Grassmann classifier: what its fits hold, and the claims that show at small scale."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.neural_network import GrassmannClassifier  # noqa: E402

X, Y = load_iris(return_X_y=True)


def union_of_subspaces(n, C=6, D=24, k=3, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    bases = np.linalg.qr(rng.standard_normal((C, D, k)))[0]
    y = rng.integers(C, size=n)
    z = rng.standard_normal((n, k))
    return np.einsum("ndk,nk->nd", bases[y], z) + noise * rng.standard_normal((n, D)), y, bases


def test_union_of_subspaces_that_no_linear_head_separates():
    """Classes that are subspaces: the head alone finds them."""
    data, y, bases = union_of_subspaces(1400)
    classifier = GrassmannClassifier(3, hidden_layer_sizes=(), max_iter=30, random_state=0)
    classifier.fit(data[:600], y[:600])
    assert classifier.score(data[600:], y[600:]) >= 0.97
    linear = LogisticRegression(max_iter=500).fit(data[:600], y[:600])
    assert linear.score(data[600:], y[600:]) <= 0.45
    # Not the generating bases (the loss asks for what tells classes apart), but nearest to them.
    overlap = np.linalg.norm(np.einsum("cdi,edj->ceij", classifier.components_, bases), axis=(2, 3))
    np.testing.assert_array_equal(overlap.argmax(axis=1), np.arange(6))


def test_what_fit_leaves_behind():
    fit = GrassmannClassifier(3, max_iter=12, random_state=0).fit(X, Y)
    S = fit.components_
    assert S.shape == (3, 128, 3)
    assert_allclose(np.einsum("cdi,cdj->cij", S, S), np.tile(np.eye(3), (3, 1, 1)), atol=1e-5)
    logits = fit.decision_function(X)
    assert logits.min() >= 0 and logits.max() <= fit.scale_ + 1e-6
    assert fit.scale_ == 8.0
    features = fit.transform(X)
    assert features.shape == (150, 128)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted = fit.scale_ * np.linalg.norm(np.einsum("nd,cdk->nck", unit, S), axis=2)
    assert_allclose(logits, wanted, atol=1e-9)
    assert fit.get_feature_names_out()[-1] == "grassmannclassifier127"


def test_pure_subspaces_do_not_see_the_sign():
    fit = GrassmannClassifier(1, hidden_layer_sizes=(), max_iter=3, random_state=0).fit(X, Y)
    assert_allclose(fit.decision_function(-2 * X), fit.decision_function(X), atol=1e-12)


def test_principal_angles():
    fit = GrassmannClassifier(2, hidden_layer_sizes=(), max_iter=2, random_state=0).fit(X, Y)
    assert_allclose(fit.principal_angles(1, 1), 0, atol=1e-6)  # the bases are of float32
    assert_allclose(fit.principal_angles(0, 2), fit.principal_angles(2, 0), atol=1e-6)
    S, T = (np.linalg.qr(fit.components_[c])[0] for c in (0, 2))
    wanted = np.sort(np.arccos(np.clip(np.linalg.svd(S.T @ T, compute_uv=False), 0, 1)))
    assert_allclose(fit.principal_angles(0, 2), wanted, atol=1e-6)


@pytest.mark.parametrize("k", [4, 5])
def test_as_many_components_as_features_are_refused(k):
    with pytest.raises(ValueError, match=rf"n_components={k} .* 4 features"):
        GrassmannClassifier(k, hidden_layer_sizes=()).fit(X, Y)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="1 class"):
        GrassmannClassifier().fit(X, np.ones(150))


def test_module_of_a_user_is_copied_and_gives_the_features():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 10), nn.Tanh())
    before = module[1].weight.detach().clone()
    fit = GrassmannClassifier(2, module=module, max_iter=20, random_state=0).fit(X, Y)
    assert torch.equal(module[1].weight, before)
    assert fit.transform(X).shape == (150, 10) and fit.score(X, Y) > 0.8
    double = GrassmannClassifier(2, module=module.double(), max_iter=2).fit(X, Y)
    assert {p.dtype for p in double.module_.parameters()} == {torch.float64}
    with pytest.raises(ValueError, match=r"cannot take samples of shape \(4,\)"):
        GrassmannClassifier(2, module=nn.Linear(5, 10)).fit(X, Y)
    with pytest.raises(ValueError, match=r"returns shape \(2, 1, 4\)"):
        GrassmannClassifier(2, module=nn.Unflatten(1, (1, 4))).fit(X, Y)


def test_images():
    rng = np.random.RandomState(0)
    y = np.arange(40) % 2
    images = rng.standard_normal((40, 1, 6, 6)) + y[:, None, None, None]
    fit = GrassmannClassifier(
        2,
        module=lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU()),
        max_iter=20,
        random_state=0,
    ).fit(images, y)
    assert fit.score(images, y) > 0.9
    with pytest.raises(ValueError, match="dim"):
        GrassmannClassifier().fit(images, y)


def test_adamw_and_grid_search_in_a_pipeline():
    pipe = make_pipeline(
        StandardScaler(),
        GrassmannClassifier(solver="adamw", learning_rate=1e-3, max_iter=10, random_state=0),
    )
    grid = {"grassmannclassifier__n_components": [1, 4], "grassmannclassifier__scale": [8.0]}
    search = GridSearchCV(pipe, grid, cv=2).fit(X, Y)
    assert search.best_score_ > 0.9


def test_suite_of_scikit_learn_with_the_default_precision():
    """test_common runs it in float64; in float32 all but one check hold as well."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils._testing import SkipTest, ignore_warnings
    from sklearn.utils.estimator_checks import estimator_checks_generator

    done = 0
    for estimator, check in estimator_checks_generator(
        GrassmannClassifier(max_iter=15, random_state=0)
    ):
        name = getattr(check, "func", check).__name__
        # Weights and repetitions differ by float32's rounding, the check asks for 1e-7. The
        # second trains for thousands of epochs.
        if name.startswith("check_sample_weight_equivalence") or "class_weight" in name:
            continue
        with ignore_warnings(category=(FutureWarning, ConvergenceWarning, UserWarning)):
            try:
                check(estimator)
            except SkipTest:
                continue
        done += 1
    assert done > 50


class Backbone(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.linear = nn.Linear(n_in, 8)

    def forward(self, x):
        return self.linear(x).relu()


def test_a_class_of_networks_is_a_callable_as_well():
    one = GrassmannClassifier(2, module=Backbone, max_iter=3, random_state=0).fit(X, Y)
    two = GrassmannClassifier(2, module=lambda n: Backbone(n), max_iter=3, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
