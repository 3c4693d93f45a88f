"""The empirical Fisher matrix: dense answers, order, labels drawn from the model."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse.linalg import cg
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.landscape import EmpiricalFisher, HessianOperator  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 5))
Y = np.arange(40) % 3


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def test_all_answers_are_those_of_the_dense_matrix():
    fisher = EmpiricalFisher(0.05).fit(network(), X, Y)
    d = fisher.n_parameters_
    F = HessianOperator(network(), X, Y, curvature="fisher").to_dense() + 0.05 * np.eye(d)
    inverse = np.linalg.inv(F)
    x = RNG.standard_normal((d, 2))
    assert_allclose(fisher.matvec(x), F @ x, atol=1e-12)
    assert_allclose(fisher.solve(x), inverse @ x, atol=1e-11)
    assert_allclose(fisher.solve(x[:, 0]), inverse @ x[:, 0], atol=1e-11)
    assert_allclose(fisher.diagonal(), np.diag(inverse), rtol=1e-11)
    assert_allclose(fisher.entries([0, -1], [3, 4, d - 1]), inverse[np.ix_([0, -1], [3, 4, -1])])
    assert fisher.entries(2, 2).item() == pytest.approx(inverse[2, 2])
    assert fisher.logdet() == pytest.approx(np.linalg.slogdet(F)[1], rel=1e-12)
    operator = fisher.as_linear_operator()
    assert_allclose(operator @ x, inverse @ x, atol=1e-11)
    solved, _ = cg(fisher.as_linear_operator(inverse=False), x[:, 0], rtol=1e-12)
    assert_allclose(solved, operator @ x[:, 0], atol=1e-8)
    K = fisher.gradients_ @ fisher.gradients_.T + 40 * 0.05 * np.eye(40)
    assert_allclose(fisher.cholesky_ @ fisher.cholesky_.T, K, atol=1e-12)


def test_vectors_by_name_of_parameter():
    model = network()
    fisher = EmpiricalFisher(0.05).fit(model, X, Y)
    named = {key: p.detach().float() for key, p in model.named_parameters()}
    found = fisher.solve(named)
    flat = np.concatenate([v.double().numpy().reshape(-1) for v in named.values()])
    got = torch.cat([v.reshape(-1) for v in found.values()]).numpy()
    assert found["0.weight"].shape == (4, 5) and found["0.weight"].dtype == torch.float32
    assert_allclose(got, fisher.solve(flat), rtol=1e-5)
    with pytest.raises(ValueError, match="x must have the parameters"):
        fisher.solve({"0.weight": named["0.weight"]})


def test_given_gradients():
    G = RNG.standard_normal((7, 30))
    before = G.copy()
    fisher = EmpiricalFisher(0.1).fit_gradients(G)
    F = 0.1 * np.eye(30) + G.T @ G / 7
    x = np.ones(30)
    assert_allclose(fisher.solve(x), np.linalg.solve(F, x))
    assert_allclose(fisher.diagonal(), np.diag(np.linalg.inv(F)))
    assert np.array_equal(G, before)
    for other in (G[::-1], np.r_[G, G]):
        assert_allclose(EmpiricalFisher(0.1).fit_gradients(other).solve(x), fisher.solve(x))
    small = EmpiricalFisher(0.1).fit_gradients(G.astype(np.float32))
    assert small.gradients_.dtype == np.float32
    assert_allclose(small.solve(x), fisher.solve(x), rtol=1e-4)


def test_samples_are_drawn_and_averaged():
    one = EmpiricalFisher(n_gradients=10, random_state=0).fit(network(), X, Y)
    two = EmpiricalFisher(n_gradients=10, samples_per_gradient=2, random_state=0)
    two.fit(network(), X, Y)
    assert one.gradients_.shape == two.gradients_.shape == (10, one.n_parameters_)
    assert np.linalg.norm(two.gradients_) < np.linalg.norm(one.gradients_)
    assert EmpiricalFisher(n_gradients=100).fit(network(), X, Y).gradients_.shape[0] == 40
    assert one.loss_ == pytest.approx(HessianOperator(network(), X, Y).loss)


def test_drawn_labels_give_the_gauss_newton_matrix():
    """The true Fisher matrix of a softmax, or of normal errors, is the Gauss-Newton one."""
    many, y = np.repeat(X[:4], 3000, axis=0), np.zeros(12000, dtype=int)
    for model, targets in (
        (LogisticRegression().fit(X, Y), y),
        (LogisticRegression().fit(X, Y > 0), y > 0),
        (
            LinearRegression().fit(X, X[:, :2] + RNG.standard_normal((40, 2))),
            np.zeros((12000, 2)),
        ),
    ):
        fisher = EmpiricalFisher(labels="model", n_gradients=12000, random_state=0)
        F = fisher.fit(model, many, targets)
        F = F.gradients_.T @ F.gradients_ / 12000
        G = HessianOperator(model, X[:4], targets[:4], curvature="ggn").to_dense()
        assert np.linalg.norm(F - G) < 0.06 * np.linalg.norm(G)  # 12,000 draws
    with pytest.raises(ValueError, match="labels='model' needs a loss by name"):
        EmpiricalFisher(labels="model", loss=lambda o, t: o.sum(1)).fit(network(), X, Y)


def test_refusals():
    with pytest.raises(NotFittedError):
        EmpiricalFisher().solve(np.ones(3))
    with pytest.raises(ValueError, match="damping"):
        EmpiricalFisher(damping=0.0).fit(network(), X, Y)
    with pytest.raises(ValueError, match="40 gradients of 39 parameters take .* max_memory=1e-06"):
        EmpiricalFisher(max_memory=1e-6).fit(network(), X, Y)
    fisher = EmpiricalFisher().fit(network(), X, Y)
    with pytest.raises(ValueError, match=r"x has shape \(3,\)"):
        fisher.solve(np.ones(3))
    with pytest.raises(ValueError, match="rows must be from 0 to 38"):
        fisher.entries(39, 0)
    with pytest.raises(ValueError, match="rows must be places"):
        fisher.entries([0.5], 0)
    with pytest.raises(ValueError, match="NaN"):
        EmpiricalFisher().fit_gradients([[np.nan, 1.0]])
