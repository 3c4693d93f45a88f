"""The attacks that the benchmark of the latent filter makes."""

import importlib.util
import pathlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.neural_network import LatentQuantizationFilter  # noqa: E402

FILE = pathlib.Path(__file__).parents[2] / "benchmarks" / "_attacks.py"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="the benchmarks are not here")
X = torch.rand(30, 6, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
W = torch.randn(6, generator=torch.Generator().manual_seed(1))
Y = torch.arange(30) % 2


@pytest.fixture(scope="module")
def attacks():
    spec = importlib.util.spec_from_file_location("_attacks_of_benchmarks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def linear(x):
    score = 3 * (x - 0.5) @ W
    return torch.stack([-score, score], dim=1)


def test_attacks_on_a_linear_model_are_the_worst_ones(attacks):
    """The worst change of a linear model is known: against its weights, feature by feature."""
    worst = X + 0.1 * torch.where(Y[:, None] == 1, -W.sign(), W.sign())
    torch.testing.assert_close(attacks.fgsm(linear, X, Y, 0.1), worst)
    torch.testing.assert_close(attacks.pgd(linear, X, Y, 0.1), worst)
    assert torch.equal(attacks.pgd(linear, X, Y, 0.1), attacks.pgd(linear, X, Y, 0.1))


def test_attacks_stay_in_the_ball_and_in_the_range(attacks):
    for attack in (attacks.fgsm, attacks.pgd):
        found = attack(linear, X, Y, 0.5)
        assert float((found - X).abs().max()) <= 0.5 + 1e-6
        assert 0 <= float(found.min()) and float(found.max()) <= 1


@pytest.mark.parametrize("feature_range", ["auto", "sample"])
def test_the_model_behind_the_filter_is_what_users_get_and_has_a_gradient(attacks, feature_range):
    fitted = LatentQuantizationFilter(
        8, feature_range=feature_range, hidden_layer_sizes=(16,), max_iter=20, random_state=0
    )
    fitted.fit(X.numpy())
    behind = attacks.through_filter(fitted, linear, noise=False)
    wanted = linear(torch.tensor(fitted.transform(X.numpy())))
    np.testing.assert_allclose(behind(X).detach().numpy(), wanted.numpy(), atol=1e-4)
    noisy = attacks.through_filter(fitted, linear)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(noisy(x)[:, 1].sum(), x)
    assert float(gradient.abs().max()) > 0
    rounded = attacks.straight_through(lambda x: (x > 0.5).float(), linear)
    torch.testing.assert_close(rounded(X), linear((X > 0.5).float()))
    (gradient,) = torch.autograd.grad(rounded(x)[:, 1].sum(), x)
    torch.testing.assert_close(gradient, (3 * W).expand(30, 6))
