"""Curvature products against closed forms and dense derivatives, gradients of single samples."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._curvature import Objective  # noqa: E402
from sklr.nn._module_checks._cases import LAYER_ZOO, MODULE_CASES  # noqa: E402

CASES = [case for case in (*MODULE_CASES, *LAYER_ZOO)]


def network_and_data(n=30, seed=0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    rng = np.random.default_rng(seed)
    return network, rng.standard_normal((n, 5)), rng.integers(0, 3, n)


def objective(network, X, y, **params):
    return Objective(network, X, y, name="Test", **params)


def dense(found, curvature):
    eye = torch.eye(found.n_parameters, dtype=found.dtype)
    return found.product(curvature, eye).numpy()


def dense_hessian(found, X, y):
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def loss(w):
        named = dict(zip(found.names, found.split(w)))
        output = torch.func.functional_call(found.network, named, (X,))
        return nn.functional.cross_entropy(output, y)

    return torch.autograd.functional.hessian(loss, found.vector()).numpy()


def test_products_are_those_of_the_dense_hessian():
    network, X, y = network_and_data()
    found = objective(network, X, y)
    H = dense(found, "hessian")
    assert_allclose(H, dense_hessian(found, X, y), atol=1e-14)
    assert_allclose(H, H.T, atol=1e-15)
    v = torch.linspace(-1, 1, found.n_parameters, dtype=torch.float64)
    assert_allclose(found.product("hessian", v), H @ v.numpy(), atol=1e-14)


def test_hessian_is_gauss_newton_and_residual():
    network, X, y = network_and_data(n=3)
    found = objective(network, X, y)
    G, R = dense(found, "ggn"), dense(found, "residual")
    assert_allclose(G + R, dense(found, "hessian"), atol=1e-14)
    values = np.linalg.eigvalsh(G)
    assert values[0] > -1e-14
    assert (values > 1e-12).sum() == 3 * (3 - 1)  # N (C - 1)


def test_fisher_is_the_mean_of_outer_products():
    network, X, y = network_and_data()
    found = objective(network, X, y)
    G = found.sample_gradients().numpy()
    assert_allclose(dense(found, "fisher"), G.T @ G / len(X), atol=1e-15)
    assert_allclose(G.mean(axis=0), found.gradient(), atol=1e-15)


@pytest.mark.parametrize("dtype, tol", [("float32", 1e-5), ("float64", 1e-13)])
def test_chunks_change_nothing(dtype, tol):
    network, X, y = network_and_data()
    whole = objective(network, X, y, dtype=dtype)
    v = torch.linspace(-1, 1, whole.n_parameters, dtype=whole.dtype)
    torch_X, torch_y = torch.from_numpy(X), torch.from_numpy(y)
    pieces = [(torch_X[a:b], torch_y[a:b]) for a, b in ((0, 1), (1, 18), (18, 30))]
    for other in (
        objective(network, X, y, dtype=dtype, batch_size=7),
        objective(network, pieces, None, dtype=dtype, batch_size=30),
        objective(network, np.r_[X, X], np.r_[y, y], dtype=dtype),
    ):
        for curvature in ("hessian", "ggn", "residual", "fisher"):
            wanted = whole.product(curvature, v)
            assert_allclose(other.product(curvature, v), wanted, atol=tol)
        assert other.mean_loss() == pytest.approx(whole.mean_loss(), rel=tol)
        assert_allclose(other.gradient(), whole.gradient(), atol=tol)


def test_without_kept_graphs_the_products_are_the_same():
    network, X, y = network_and_data()
    kept, fresh = objective(network, X, y), objective(network, X, y, batch_size=9)
    fresh._keep = False
    v = torch.ones(kept.n_parameters, dtype=torch.float64)
    for _ in range(2):
        assert_allclose(fresh.product("ggn", v), kept.product("ggn", v), atol=1e-14)
    assert not fresh._kept and kept._kept
    kept.set_vector(kept.vector() + 1)
    assert not kept._kept


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_of_single_samples_by_every_route(case):
    network, X, y = case.make(torch.float64).eval(), case.data(8), case.labels(8)
    found = objective(network, X, y, batch_size=5)
    loop = found.sample_gradients(route="loop")
    assert_allclose(found.sample_gradients(), loop, atol=1e-13)
    assert_allclose(loop.mean(dim=0), found.gradient(), atol=1e-13)
    v = torch.ones(found.n_parameters, dtype=torch.float64)
    assert torch.isfinite(found.product("hessian", v)).all()


def test_rows_of_gradients_are_what_was_asked_for():
    network, X, y = network_and_data()
    found = objective(network, X, y, batch_size=11)
    each = found.sample_gradients()
    index = torch.tensor([29, 3, 3, 12, 0])
    assert_allclose(found.sample_gradients(index), each[index], atol=1e-16)
    pairs = found.sample_gradients(index, samples_per_gradient=2, dtype=torch.float32)
    wanted = torch.stack([each[[29, 3]].mean(0), each[[3, 12]].mean(0), each[0]])
    assert pairs.dtype == torch.float32
    assert_allclose(pairs, wanted, atol=1e-7)
    some = objective(network, X, y, parameters=["2.weight"])
    assert_allclose(some.sample_gradients(), each[:, found.slices["2.weight"]], atol=1e-16)


def test_losses_by_name_are_torchs():
    torch.manual_seed(0)
    network = nn.Linear(5, 1)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 5)), rng.integers(0, 2, 20)
    with torch.no_grad():
        z = network(torch.from_numpy(X).float()).double()
    t = torch.from_numpy(y).double()[:, None]
    for loss, targets, wanted in (
        ("auto", y, nn.functional.binary_cross_entropy_with_logits(z, t)),
        ("auto", y.astype(float), nn.functional.mse_loss(z, t)),
        ("half_squared_error", y, nn.functional.mse_loss(z, t) / 2),
        (lambda out, target: (out[:, 0] - target).abs(), y, (z - t).abs().mean()),
    ):
        got = objective(network, X, targets, loss=loss).mean_loss()
        assert got == pytest.approx(float(wanted), rel=1e-6)


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 3, dtype=x.dtype)


def test_a_random_loss_is_refused_and_training_mode_is_named():
    _, X, y = network_and_data()
    with pytest.raises(ValueError, match="Test: the network's loss differs"):
        objective(Noisy(5, 3), X, y)
    network = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    with pytest.warns(UserWarning, match=r"1 \(Dropout\), 2 \(BatchNorm1d\) make the loss depend"):
        objective(network, X, y)
    objective(network.eval(), X, y)


def test_what_cannot_be_looked_at_is_refused():
    network, X, y = network_and_data()
    frozen = nn.Linear(5, 3).requires_grad_(False)
    for given, message in (
        ((network, None, None), "needs X"),
        ((network, X, None), "needs the targets"),
        ((network, X, y[:-1]), "30 samples and y has 29"),
        ((network, X, y + 1), r"from 1 to 3 are no classes of an output of shape \(\d+, 3\)"),
        ((network, np.where(X > 2, np.nan, X), y), "the input of layer '0' has NaN"),
        ((frozen, X, y), "no parameter of the network is trainable"),
        ((nn.Flatten(), X, y), "no parameters"),
        ((nn.Linear(5, 3, dtype=torch.complex64), X, y), "complex64, not real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            objective(*given)
