"""Fisher-weighted decomposition: its objective, its gradients, its refusals."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._layers import find_layers, matrix_of  # noqa: E402
from sklr.nn._module_checks._cases import Conv1D, case_of, run  # noqa: E402
from sklr.nn.compression import FisherWeightedSVD, WeightSVD  # noqa: E402


def matrix(layer):
    return layer.weight.detach().numpy()


def softmax_model(n=300, n_in=9, n_out=6):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, n_in)) * np.geomspace(0.05, 5, n_in)
    torch.manual_seed(0)
    layer = nn.Linear(n_in, n_out).double()
    return layer, X, rng.integers(0, n_out, n)


def test_fisher_of_a_softmax_model_is_the_analytic_one():
    layer, X, y = softmax_model()
    found = FisherWeightedSVD(2).fit(layer, X, y).fisher_[""]
    with torch.no_grad():
        p = torch.softmax(layer(torch.from_numpy(X)), dim=1).numpy()
    g = p - np.eye(6)[y]
    assert_allclose(found, (g**2).T @ X**2 / len(X), rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["perceptron", "convolution", "Conv1D", "used twice", "attention", "named inputs"]
)
def test_fisher_is_that_of_a_loop_over_samples(name):
    case = case_of(name)
    network, X, y = case.make(torch.float64).eval(), case.data(12), case.labels(12)
    found = FisherWeightedSVD(1, targets="all", batch_size=5).fit(network, X, y).fisher_
    looked_at = [layer for layer in find_layers(network) if layer.name in found]
    assert looked_at
    total = {layer.name: 0.0 for layer in looked_at}
    for i in range(12):
        one = {k: v[i : i + 1] for k, v in X.items()} if isinstance(X, dict) else X[i : i + 1]
        network.zero_grad()
        loss = nn.functional.cross_entropy(
            run(network, one, torch.float64), torch.tensor(y[i : i + 1])
        )
        loss.backward()
        for layer in looked_at:
            part = network.get_submodule(layer.name)
            gradient = type("P", (), {"weight": part.weight.grad})
            total[layer.name] += matrix_of(gradient, layer.kind).numpy() ** 2 / 12
    for layer, value in total.items():
        assert_allclose(found[layer], value, rtol=1e-6, atol=1e-12 * value.max(), err_msg=layer)


def test_weighted_error_is_the_dropped_spectrum_and_below_plain_svds():
    layer, X, y = softmax_model()
    fisher = FisherWeightedSVD(2).fit(layer, X, y)
    W = matrix(layer)
    M = matrix(fisher.transform(layer))
    plain = matrix(WeightSVD(2).fit(layer).transform(layer))
    weights = fisher.fisher_[""].sum(axis=0)
    weights = weights / weights.mean() + 1e-8

    def error(M):
        return (weights * (W - M) ** 2).sum()

    assert_allclose(error(M), fisher.weighted_error_[""], rtol=1e-9)
    assert error(M) < error(plain)
    # The price, as the paper says: the plain error is larger.
    assert ((W - M) ** 2).sum() > ((W - plain) ** 2).sum()


def test_equal_fisher_is_plain_svd_and_its_scale_is_nothing(monkeypatch):
    layer, X, y = softmax_model()
    wanted = matrix(WeightSVD(2).fit(layer).transform(layer))
    from sklr.nn.compression import _fisher

    fisher = torch.ones(6, 9).double()
    for scale in (1.0, 1e-30):
        monkeypatch.setattr(_fisher._Fisher, "mean", property(lambda self, s=scale: fisher * s))
        assert_allclose(
            matrix(FisherWeightedSVD(2).fit(layer, X, y).transform(layer)), wanted, atol=1e-9
        )
    heavy = fisher.clone()
    heavy[:, 3] = 1e14
    monkeypatch.setattr(_fisher._Fisher, "mean", property(lambda self: heavy))
    M = matrix(FisherWeightedSVD(2).fit(layer, X, y).transform(layer))
    assert_allclose(M[:, 3], matrix(layer)[:, 3], atol=1e-6)


def test_weights_are_of_the_inputs_not_of_the_outputs():
    """An input that is never used has no weight; torch stores it as a column."""
    layer, X, y = softmax_model()
    X[:, 4] = 0
    found = FisherWeightedSVD(2).fit(layer, X, y)
    assert_allclose(found.fisher_[""][:, 4], 0)
    torch_side = matrix(found.transform(layer))
    conv = Conv1D(6, 9).double()
    with torch.no_grad():
        conv.weight.copy_(layer.weight.T)
        conv.bias.copy_(layer.bias)
    other = FisherWeightedSVD(2).fit(conv, X, y).transform(conv)
    assert_allclose(matrix(other), torch_side, atol=1e-9)


@pytest.mark.parametrize("side", ["input", "output", "both"])
def test_the_last_rank_is_exact_also_where_fisher_is_tiny(side):
    layer, X, y = softmax_model()
    X[:, 2] *= 1e-6
    found = FisherWeightedSVD(6, side=side).fit(layer, X, y)
    W = torch.from_numpy(matrix(layer))
    solution = found._solve(find_layers(layer)[0], layer, _Given(found.fisher_[""]))
    down, up, _ = solution.factors(6)
    assert_allclose(up @ down, W, atol=1e-9)


class _Given:
    def __init__(self, values):
        self.mean = torch.from_numpy(values)


def test_regression_takes_the_squared_error():
    layer = nn.Linear(5, 4).double()
    X, y = np.random.default_rng(0).standard_normal((2, 50, 5))
    y = y[:, :4]
    found = FisherWeightedSVD(1).fit(layer, X, y).fisher_[""]
    with torch.no_grad():
        g = 2 * (layer(torch.from_numpy(X)).numpy() - y) / 4
    assert_allclose(found, (g**2).T @ X**2 / 50, rtol=1e-9)


def test_a_loss_of_the_users_own():
    layer, X, y = softmax_model()

    def loss(output, target):
        return nn.functional.cross_entropy(output, target, reduction="none")

    one = FisherWeightedSVD(2, loss=loss).fit(layer, X, y).fisher_[""]
    assert_allclose(one, FisherWeightedSVD(2).fit(layer, X, y).fisher_[""])
    with pytest.raises(ValueError, match="each of the 32 samples"):
        FisherWeightedSVD(2, loss=nn.functional.cross_entropy).fit(layer, X, y)


def test_activations_in_place_are_fine():
    network = nn.Sequential(nn.Linear(9, 8), nn.ReLU(inplace=True), nn.Linear(8, 6)).double()
    _, X, y = softmax_model()
    assert FisherWeightedSVD(2).fit(network, X, y).fisher_["0"].any()


def test_what_has_been_learnt_by_heart_gets_plain_svd_and_a_warning():
    layer, X, y = softmax_model()

    def no_loss(output, target):
        return output.sum(dim=1) * 0.0

    with pytest.warns(UserWarning, match="all gradients of layer ''"):
        found = FisherWeightedSVD(2, loss=no_loss).fit(layer, X, y)
    assert_allclose(
        matrix(found.transform(layer)), matrix(WeightSVD(2).fit(layer).transform(layer)), atol=1e-10
    )


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "needs the targets"),
        (np.zeros(7, dtype=int), "300 samples and y has 7"),
        (np.full(300, 9), r"from 9 to 9 are no classes of an output of shape \(32, 6\)"),
    ],
)
def test_labels_that_cannot_be_are_refused(y, message):
    layer, X, _ = softmax_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=message):
            FisherWeightedSVD(2).fit(layer, X, y)
