"""The loss on the line between two networks: closed forms, ends, refusals."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.landscape import LossPathDisplay, loss_path  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))


def test_squared_error_is_a_parabola():
    y = X[:, 0] + RNG.standard_normal(60)
    models = [LinearRegression().fit(X[rows], y[rows]) for rows in (slice(30), slice(30, 60))]
    path = loss_path(*models, X, y, n_points=9, curvature=True)
    coefs = [np.r_[m.coef_, m.intercept_] for m in models]
    for t, loss in zip(path.t, path.loss):
        w = (1 - t) * coefs[0] + t * coefs[1]
        assert loss == pytest.approx(((X @ w[:4] + w[4] - y) ** 2).mean(), rel=1e-12)
    assert path.barrier == 0 and path.accuracy is None and path.test_loss is None
    assert path.distance == pytest.approx(np.linalg.norm(coefs[0] - coefs[1]))
    top = np.linalg.eigvalsh(2 / 60 * np.c_[X, np.ones(60)].T @ np.c_[X, np.ones(60)])[-1]
    assert_allclose(path.top_eigenvalue, top, rtol=1e-4)


def test_neurons_in_another_order_are_behind_a_barrier():
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    model = MLPClassifier((16,), solver="lbfgs", random_state=0, max_iter=2000).fit(X, y)
    other = MLPClassifier((16,), solver="lbfgs", random_state=0, max_iter=2000).fit(X, y)
    order = np.r_[8:16, 0:8]
    other.coefs_ = [other.coefs_[0][:, order], other.coefs_[1][order]]
    other.intercepts_ = [other.intercepts_[0][order], other.intercepts_[1]]
    before = [c.copy() for c in model.coefs_]
    path = loss_path(model, other, X, y, X_test=X[:20], y_test=y[:20])
    assert path.loss[0] == pytest.approx(path.loss[-1], rel=1e-9)
    assert path.barrier > 0.05
    assert path.accuracy[0] == path.accuracy[-1] == model.score(X, y)
    assert path.test_accuracy[0] == model.score(X[:20], y[:20])
    assert path.accuracy.min() < 1
    assert all(np.array_equal(a, b) for a, b in zip(before, model.coefs_))


def test_modules_ends_and_buffers():
    y = np.arange(60) % 3
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
        model(torch.randn(50, 4) * 2)
        models.append(model.double().eval())
    path = loss_path(*models, X, y, n_points=2)
    for loss, model in zip(path.loss, models):
        with torch.no_grad():
            wanted = nn.functional.cross_entropy(model(torch.from_numpy(X)), torch.from_numpy(y))
        assert loss == pytest.approx(float(wanted), rel=1e-12)
    with pytest.raises(ValueError, match=r"'0.weight': \(5, 4\) and None"):
        loss_path(models[0], nn.Linear(4, 3), X, y)
    with pytest.raises(ValueError, match="n_points"):
        loss_path(*models, X, y, n_points=1)
    with pytest.raises(ValueError, match="y_test goes with X_test"):
        loss_path(*models, X, y, y_test=y)


def test_display_draws():
    pytest.importorskip("matplotlib")
    torch.manual_seed(0)
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    y = np.arange(60) % 3
    display = LossPathDisplay(loss_path(*models, X, y, n_points=3, X_test=X, y_test=y)).plot()
    assert len(display.lines_) == 4 and display.accuracy_ax_.get_ylabel() == "Accuracy"
    plain = LossPathDisplay(loss_path(*models, X, X[:, :3], n_points=3)).plot()
    assert plain.accuracy_ax_ is None
