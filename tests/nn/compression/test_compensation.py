"""Paths of low rank beside compressed layers: the best, exact where they can be."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from sklr.nn._module_checks._cases import Conv1D, call, case_of  # noqa: E402
from sklr.nn.compression import (  # noqa: E402
    CompensatedConv,
    CompensatedLinear,
    EigenspaceCompensation,
    WeightSVD,
    eora_factors,
)


def problem(m=12, n=16, n_rows=400, seed=0):
    """An error of a matrix, and anisotropic inputs with a mean."""
    rng = np.random.default_rng(seed)
    D = rng.standard_normal((m, n))
    mixed = rng.standard_normal((n, n)) * np.geomspace(3, 0.01, n)[:, None]
    return D, rng.standard_normal((n_rows, n)) @ mixed + rng.standard_normal(n)


def one_layer(n_in=24, n_out=20, *, n_dims=None, n=300, bias=True):
    D, X = problem(n_out, n_in, n)
    if n_dims is not None:
        X = X[:, :n_dims] @ np.random.default_rng(1).standard_normal((n_dims, n_in))
    torch.manual_seed(0)
    layer = nn.Linear(n_in, n_out, bias=bias).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(D))
    return layer, torch.from_numpy(X)


def outputs(module, X):
    with torch.no_grad():
        return module(X)


def error(D, A, B, X):
    return (((D - B.numpy() @ A.numpy()) @ X.T) ** 2).sum() / len(X)


@pytest.mark.parametrize("rank", [1, 4, 11])
def test_error_is_the_dropped_spectrum_and_the_least(rank):
    D, X = problem()
    C = X.T @ X / len(X)
    A, B, s = eora_factors(D, C, rank)
    best = error(D, A, B, X)
    assert_allclose(best, (s[rank:] ** 2).sum(), rtol=1e-10)
    U, values, Vh = np.linalg.svd(D)
    plain = (torch.from_numpy(values[:rank, None] * Vh[:rank]), torch.from_numpy(U[:, :rank]))
    assert best < error(D, *plain, X)
    rng = np.random.default_rng(0)
    for _ in range(10):
        noise = 1e-3 * torch.from_numpy(rng.standard_normal(A.shape))
        assert best <= error(D, A + noise, B, X)
    # Both factors carry the same: their Grams are the singular values.
    assert_allclose(B.T @ B, np.diag(s[:rank]), atol=1e-9 * s[0])
    assert_allclose(A @ C @ A.T, np.diag(s[:rank]), atol=1e-9 * s[0])


def test_white_inputs_give_the_svd_and_few_inputs_finite_factors():
    D, X = problem()
    A, B, s = eora_factors(D, np.eye(16), 3)
    U, values, Vh = np.linalg.svd(D)
    assert_allclose(B @ A, (U[:, :3] * values[:3]) @ Vh[:3], atol=1e-12)
    few = X[:5]
    C = few.T @ few / 5
    A, B, s = eora_factors(D, C, 3)
    assert_allclose(error(D, A, B, few), (s[3:] ** 2).sum(), rtol=1e-8)
    null = np.linalg.svd(few)[2][5:]
    assert_allclose(A.numpy() @ null.T, 0, atol=1e-9 * float(A.abs().max()))
    # More than there is: capped, and exact on these inputs.
    A, B, _ = eora_factors(D, C, 12)
    assert len(A) == 5
    assert_allclose(B.numpy() @ A.numpy() @ few.T, D @ few.T, atol=1e-9)
    A, B, _ = eora_factors(np.zeros((4, 16)), C, 2)
    assert not A.any() and not B.any()


@pytest.mark.parametrize("compressor", ["rtn", "n:m", "magnitude"])
@pytest.mark.parametrize("scaling", ["whitening", "activation", None])
def test_errors_are_those_of_the_outputs(compressor, scaling):
    layer, X = one_layer()
    eora = EigenspaceCompensation(4, compressor=compressor, scaling=scaling).fit(layer, X)
    made = eora.transform(layer)
    assert isinstance(made, CompensatedLinear) and made.rank == 4
    assert torch.equal(made.bias, layer.bias)
    if scaling != "whitening":
        best = EigenspaceCompensation(4, compressor=compressor).fit(layer, X).transform(layer)
        assert error_of(best, layer, X) < error_of(made, layer, X)
        return
    row = eora.report_[0]
    found = error_of(made, layer, X)
    assert_allclose(found, eora.error_[""], rtol=1e-10)
    size = float((X @ layer.weight.detach().T).square().sum(dim=1).mean())
    assert_allclose(row["relative_error"] ** 2, found / size, rtol=1e-10)
    with torch.no_grad():
        made.up.weight.zero_()
    assert_allclose(error_of(made, layer, X), eora.error_before_[""], rtol=1e-10)
    assert_allclose(row["relative_error_before"] ** 2, eora.error_before_[""] / size, rtol=1e-10)


def error_of(made, layer, X):
    return float((outputs(made, X) - outputs(layer, X)).square().sum(dim=1).mean())


def test_weights_keep_their_pattern_beside_the_path():
    layer, X = one_layer(n_in=26)
    W = layer.weight.detach().numpy()

    def base(**params):
        made = EigenspaceCompensation(2, **params).fit(layer, X).transform(layer)
        return made.base.weight.detach().numpy()

    three = base(bits=3)
    assert max(len(np.unique(row)) for row in three) <= 8
    step = (W.max(axis=1) - W.min(axis=1)) / 7
    assert (np.abs(three - W) <= step[:, None] * (0.5 + 1e-9)).all()
    grouped = base(bits=3, group_size=8)
    assert max(len(np.unique(row[:8])) for row in grouped) <= 8
    assert np.square(grouped - W).sum() < np.square(three - W).sum()
    half = base(compressor="n:m", n_m=(1, 4))
    kept = half != 0
    assert (kept[:, :24].reshape(-1, 4).sum(axis=1) == 1).all() and (kept[:, 24:].sum(1) == 1).all()
    assert_allclose(half[kept], W[kept])
    largest = [np.abs(V[:, :24]).reshape(20, 6, 4).max(axis=2) for V in (W, half)]
    assert_allclose(*largest)
    few = base(compressor="magnitude", sparsity=0.75)
    assert (few == 0).sum() == int(0.75 * W.size)
    assert np.abs(W[few == 0]).max() <= np.abs(W[few != 0]).min()


def test_without_a_compressed_weight_it_is_the_whitened_svd():
    layer, X = one_layer()
    eora = EigenspaceCompensation(3, compressor=torch.zeros_like).fit(layer, X)
    other = WeightSVD(3, scaling="whitening").fit(layer, X).transform(layer)
    assert_allclose(eora.transform(layer).weight.detach(), other.weight.detach(), atol=1e-10)


def test_nothing_lost_is_nothing_changed_and_all_of_it_is_exact():
    layer, X = one_layer()
    eora = EigenspaceCompensation(3, compressor="magnitude", sparsity=0.0).fit(layer, X)
    assert eora.report_[0]["status"] == "kept" and "same outputs" in eora.report_[0]["reason"]
    assert isinstance(eora.transform(layer), nn.Linear)
    layer, X = one_layer(n_dims=5)
    eora = EigenspaceCompensation(9, bits=1).fit(layer, X)
    assert eora.ranks_ == {"": 5}
    wanted = outputs(layer, X)
    assert_allclose(outputs(eora.transform(layer), X), wanted, atol=1e-9)
    assert_allclose(eora.error_[""], 0, atol=1e-18 * float(wanted.square().sum()))
    # A path that would be as large as the layer is none.
    eora = EigenspaceCompensation(20).fit(*one_layer())
    assert "as large as the layer" in eora.report_[0]["reason"]


@pytest.mark.parametrize("bias", [True, False])
def test_centred_paths_put_the_mean_right(bias):
    layer, X = one_layer(bias=bias)
    plain = EigenspaceCompensation(3, bits=2).fit(layer, X)
    eora = EigenspaceCompensation(3, bits=2, center=True).fit(layer, X)
    made = eora.transform(layer)
    assert_allclose(outputs(made, X).mean(dim=0), outputs(layer, X).mean(dim=0), atol=1e-10)
    assert_allclose(error_of(made, layer, X), eora.error_[""], rtol=1e-9)
    assert eora.error_[""] < plain.error_[""]


class Packed(nn.Module):
    """A layer whose weight is computed by a method."""

    def __init__(self, layer):
        super().__init__()
        self.values = layer.weight.detach().mul(4).round()

    def weight(self):
        return self.values / 4


def test_what_the_user_compressed_is_taken_as_it_is():
    network, X = case_of("perceptron").make(torch.float64), case_of("perceptron").data()
    compressed = case_of("perceptron").make(torch.float64)
    for name in ("0", "4"):
        prune.random_unstructured(compressed[int(name)], "weight", 0.5)
    eora = EigenspaceCompensation(1, compressor=compressed).fit(network, X)
    # Those that differ, also the head; what does not differ stays.
    assert list(eora.ranks_) == ["0", "4"]
    made = eora.transform(network)
    assert torch.equal(made[0].base.weight, compressed[0].weight)
    assert error_of(made, network, torch.from_numpy(X)) < error_of(
        compressed, network, torch.from_numpy(X)
    )
    state = {name: compressed[int(name)].weight.detach() for name in ("0", "4")}
    from_dict = EigenspaceCompensation(1, compressor=state).fit(network, X).transform(network)
    assert torch.equal(call(from_dict, X), call(made, X))
    # Quantised layers of torch have a method `weight`.
    quantised = case_of("perceptron").make()
    for name in ("0", "2", "4"):
        quantised[int(name)] = Packed(quantised[int(name)])
    single = case_of("perceptron").make()
    eora = EigenspaceCompensation(1, compressor=quantised).fit(single, X)
    assert set(eora.ranks_) == {"0", "2", "4"}
    assert all(row["relative_error"] < row["relative_error_before"] for row in eora.report_)


def test_stored_weights_are_read_as_their_layers_hold_them():
    torch.manual_seed(0)
    layer = Conv1D(16, 16).double()  # square, so that a shape says nothing
    X = torch.randn(200, 16).double()
    given = {"": layer.weight.detach().round(decimals=0)}
    made = EigenspaceCompensation(2, compressor=given).fit(layer, X).transform(layer)
    assert torch.equal(made.base.weight, given[""].T)
    assert error_of(made, layer, X) < float(
        (X @ (given[""] - layer.weight.detach())).square().sum(dim=1).mean()
    )


def test_convolutions():
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 10, 3, stride=2, padding=1, padding_mode="circular").double()
    X = torch.randn(30, 6, 7, 7).double()
    eora = EigenspaceCompensation(3, bits=2).fit(layer, X)
    made = eora.transform(layer)
    lost = (outputs(made, X) - outputs(layer, X)).square().sum(dim=1).mean()
    assert_allclose(lost, eora.error_[""], rtol=1e-10)
    assert isinstance(made, CompensatedConv) and made.rank == 3
    whole = nn.functional.conv2d(
        nn.functional.pad(X, (1, 1, 1, 1), "circular"), made.weight, made.bias, stride=2
    )
    assert_allclose(whole.detach(), outputs(made, X), atol=1e-10)
    assert_allclose(made.bias.detach(), layer.bias.detach())


def test_compensated_linear_starts_as_its_base_merges_and_trains():
    torch.manual_seed(0)
    layer = CompensatedLinear(7, 5, 2).double()
    X = torch.randn(9, 7).double()
    assert torch.equal(outputs(layer, X), outputs(layer.base, X))
    nn.init.normal_(layer.up.weight)
    merged = layer.merge()
    assert type(merged) is nn.Linear
    assert_allclose(outputs(merged, X), outputs(layer, X), atol=1e-12)
    layer(X).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_m": (3, 2)}, "n_m must be n of m"),
        ({"n_m": (2,)}, "two integers"),
        ({"center": True, "scaling": None}, "center=True goes with"),
        ({"compressor": {"nope": torch.zeros(2)}}, "'nope'"),
        ({"compressor": {"0": torch.zeros(3, 3)}}, "'0' has shape (3, 3)"),
        ({"compressor": {"0": torch.full((16, 6), torch.nan)}}, "NaN"),
        ({"compressor": {"0": torch.zeros(16, 6)}, "targets": ["2"]}, "no weight of layer '2'"),
        ({"compressor": lambda W: W[1:]}, "'0' has shape (15, 6)"),
        ({"compressor": nn.Sequential(nn.Linear(6, 16))}, "no layer '2'"),
        ({"bits": 0}, "bits"),
        ({"compressor": "gptq"}, "compressor"),
    ],
)
def test_refusals(params, message):
    network, X = case_of("perceptron").make(torch.float64), case_of("perceptron").data()
    with pytest.raises(ValueError) as caught:
        EigenspaceCompensation(2, **params).fit(network, X)
    assert message in str(caught.value)


def test_a_network_that_was_not_compressed_is_refused():
    network, X = case_of("perceptron").make(torch.float64), case_of("perceptron").data()
    with pytest.raises(ValueError, match="no weight of compressor differs"):
        EigenspaceCompensation(2, compressor=network).fit(network, X)


@pytest.mark.parametrize(
    "args, message",
    [
        ((np.ones((3, 4)), np.eye(3), 1), r"second_moment must have shape \(4, 4\)"),
        ((np.ones((3, 4)), -np.eye(4), 1), "second_moment must be positive semidefinite"),
        ((np.ones((3, 4)), np.full((4, 4), np.nan), 1), "second_moment has NaN"),
        ((np.ones(3), np.eye(3), 1), "D must have 2 axes"),
        ((np.ones((3, 4)), np.eye(4), 0), "rank"),
    ],
)
def test_refusals_of_factors(args, message):
    with pytest.raises(ValueError, match=message):
        eora_factors(*args)
