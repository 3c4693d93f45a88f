"""The baseline: what it keeps, how layers are chosen and ranks are found, what data are."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._calibration import Moments  # noqa: E402
from sklr._torch._layers import find_layers, input_rows, matrix_of, resolve_rank  # noqa: E402
from sklr.nn._module_checks._cases import LAYER_ZOO, MODULE_CASES, call, case_of  # noqa: E402
from sklr.nn.compression import LowRankConv, LowRankLinear, WeightSVD  # noqa: E402


def perceptron():
    case = case_of("perceptron")
    return case.make(torch.float64), case.data(200)


def test_weights_are_the_truncated_svd():
    network, _ = perceptron()
    svd = WeightSVD(rank=3).fit(network)
    made = svd.transform(network)
    assert isinstance(made[0], LowRankLinear) and isinstance(made[4], nn.Linear)
    for name in ("0", "2"):
        W = network.get_submodule(name).weight.detach().numpy()
        U, s, Vh = np.linalg.svd(W, full_matrices=False)
        got = made.get_submodule(name).weight.detach().numpy()
        assert_allclose(got, (U[:, :3] * s[:3]) @ Vh[:3], atol=1e-12)
        assert_allclose(svd.spectra_[name], s, rtol=1e-12)
        row = next(row for row in svd.report_ if row["name"] == name)
        error = np.linalg.norm(W - got) / np.linalg.norm(W)
        assert_allclose(row["relative_error"], error, rtol=1e-10)
        assert torch.equal(made.get_submodule(name).bias, network.get_submodule(name).bias)


def one_layer(scaling, kind, rank=2, **params):
    """Return the report's error and the measured one for a network of one layer."""
    torch.manual_seed(0)
    if kind == "Linear":
        layer, X = nn.Linear(9, 6, bias=True), torch.randn(300, 9) @ torch.randn(9, 9) + 1
    elif kind == "wide":
        layer, X = nn.Linear(5, 12), torch.randn(300, 5) @ torch.randn(5, 5) + 1
    elif kind == "Embedding":
        layer, X = nn.Embedding(20, 6), torch.randint(0, 9, (300,)) ** 2 % 20
    else:
        layer, X = nn.Conv2d(3, 6, 3, padding=1, dilation=2, stride=2), torch.randn(30, 3, 9, 9) + 1
    layer = layer.double()
    X = X.double() if X.is_floating_point() else X
    svd = WeightSVD(rank, scaling=scaling, **params).fit(layer, X)
    with torch.no_grad():
        wanted, got = layer(X), svd.transform(layer)(X)
        bias = getattr(layer, "bias", None)
        shape = (-1, 1, 1) if kind == "Conv2d" else (-1,)
        size = wanted if bias is None else wanted - bias.reshape(shape)
    return svd.report_[0]["relative_error"], float((wanted - got).norm() / size.norm())


@pytest.mark.parametrize("kind", ["Linear", "wide", "Conv2d", "Embedding"])
def test_whitening_reports_the_error_of_the_outputs_and_no_scaling_is_better(kind):
    reported, measured = one_layer("whitening", kind)
    assert_allclose(reported, measured, rtol=1e-9)
    assert measured < one_layer(None, kind)[1]
    # Inputs of an embedding are never two at once: there both scale by how often a row is used.
    assert measured <= one_layer("activation", kind)[1] * (1 + 1e-12)


def test_what_inputs_do_not_reach_is_extrapolated_not_dropped():
    """With fewer rows than inputs the directions come from the data, the weights stay whole."""
    torch.manual_seed(0)
    layer = nn.Linear(12, 6).double()
    X = torch.randn(8, 12, dtype=torch.float64)
    made = WeightSVD(rank=3, scaling="whitening").fit(layer, X).transform(layer)
    null = torch.linalg.svd(X)[2][8:]
    assert (made(null) - layer.bias).norm() > 0.1 * (layer(null) - layer.bias).norm()


def test_too_few_rows_give_a_warning_with_numbers():
    network, X = perceptron()
    svd = WeightSVD(scaling="whitening")
    with pytest.warns(UserWarning, match=r"0 \(4 rows, 6 directions\)"):
        svd.fit(network, X[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svd.fit(network, X)


def test_ranks_by_number_share_energy_and_name():
    network, _ = perceptron()  # 6 -> 16 -> 12 -> 3
    assert WeightSVD(2).fit(network).ranks_ == {"0": 2, "2": 2}
    shares = WeightSVD(0.6).fit(network).ranks_
    assert shares == {"0": int(0.6 * 96 / 22), "2": int(0.6 * 192 / 28)}
    by_name = WeightSVD({"2": 0.3}).fit(network)
    assert by_name.ranks_ == {"2": int(0.3 * 192 / 28)}
    assert (
        next(r for r in by_name.report_ if r["name"] == "0")["reason"] == "no rank is given for it"
    )
    svd = WeightSVD("energy", energy=0.7).fit(network)
    for name, rank in svd.ranks_.items():
        kept = np.cumsum(svd.spectra_[name] ** 2) / (svd.spectra_[name] ** 2).sum()
        assert kept[rank - 1] >= 0.7 > (kept[rank - 2] if rank > 1 else 0)
    # A rank that saves nothing leaves the layer as it is.
    svd = WeightSVD(7, targets="all").fit(network)
    assert svd.ranks_ == {} or all(r * (16 + 12) < 16 * 12 for r in svd.ranks_.values())
    assert "save nothing" in svd.report_[0]["reason"]


def test_energy_of_a_matrix_that_is_of_low_rank_is_that_rank():
    layer = nn.Linear(10, 8, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(8, 2).double() @ torch.randn(2, 10).double())
    assert WeightSVD("energy", energy=1.0).fit(layer).ranks_ == {"": 2}


def test_ranks_are_rounded_to_multiples():
    layer = find_layers(nn.Linear(64, 64))[0]
    assert resolve_rank(0.8, layer, np.ones(64), multiple_of=8) == 24
    assert resolve_rank(3, layer, np.ones(64), multiple_of=8) == 8


@pytest.mark.parametrize(
    "targets, wanted",
    [
        (None, ["inner", "embedding", "outer"]),
        ("all", ["inner", "embedding", "outer", "classes"]),
        ("all-linear", ["inner", "outer"]),
        ("outer", ["outer"]),
        (["outer", "classes"], ["outer", "classes"]),
        ("re:.*er", ["inner", "outer"]),
        (lambda name, layer: layer.kind == "Embedding", ["embedding"]),
    ],
)
def test_targets(targets, wanted):
    network = case_of("named inputs").make()
    svd = WeightSVD(2, targets=targets).fit(network)
    looked_at = [row["name"] for row in svd.report_ if "targets" not in row["reason"]]
    assert sorted(looked_at) == sorted(wanted)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"targets": ["nothing"]}, "'nothing' matches no layer; there are '0', '2'"),
        ({"targets": []}, "targets must be"),
        ({"rank": {"9": 2}}, "'9' matches no layer"),
        ({"rank": {"0": 0}}, r"rank\['0'\] must be"),
        ({"rank": 0}, "rank"),
        ({"rank": 1.5}, "rank"),
        ({"scaling": "whitening"}, "with scaling='whitening' needs X"),
    ],
)
def test_parameters_that_cannot_be_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        WeightSVD(**params).fit(perceptron()[0])


def test_layers_that_are_asked_for_and_cannot_be_replaced_say_why():
    for case in LAYER_ZOO:
        for name, reason in case.left.items():
            with pytest.raises(ValueError, match=reason):
                WeightSVD(2, targets=[name]).fit(case.make())
    with pytest.raises(ValueError, match="no layer"):
        WeightSVD().fit(nn.ReLU())


def test_a_layer_that_data_do_not_reach_is_kept_and_said_so():
    network = nn.ModuleDict({"used": nn.Linear(6, 6), "idle": nn.Linear(6, 6)})
    network.forward = network["used"].forward
    with pytest.raises(ValueError, match="no input of X reaches the layers"):
        WeightSVD(scaling="whitening").fit(network, np.ones((3, 6)))

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.used(x))

    X = np.random.default_rng(0).standard_normal((50, 6))
    svd = WeightSVD(1, scaling="whitening").fit(Half(), X)
    assert {row["name"]: row["status"] for row in svd.report_}["idle"] == "kept"
    assert svd.ranks_ == {"used": 1}


@pytest.mark.parametrize("name", ["convolution", "Conv1d", "Conv3d"])
def test_windows_times_matrix_is_the_convolution(name):
    case = case_of(name)
    network = case.make(torch.float64).eval()
    seen = []
    for part in network:
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            part.register_forward_hook(lambda *args: seen.append(args))
    call(network, case.data(3))
    assert seen
    for part, (x,), y in seen:
        kind = type(part).__name__
        product = input_rows(part, kind, x) @ matrix_of(part, kind).T + part.bias
        assert_allclose(product.detach(), y.movedim(1, -1).reshape(len(product), -1), atol=1e-12)


def test_convolutions_become_two():
    case = case_of("convolution")
    network = case.make(torch.float64)
    made = WeightSVD(8, targets="all").fit(network).transform(network)
    assert isinstance(made[3], LowRankConv) or made[3].weight.shape == network[3].weight.shape
    made = WeightSVD({"3": 3}).fit(network).transform(network)
    assert made[3].down.weight.shape == (3, 8, 3, 3) and made[3].up.weight.shape == (8, 3, 1, 1)


def test_moments_keep_their_digits_far_from_zero():
    rows = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near, far = Moments(), Moments()
    for some in rows.split(37):
        near.add(some)
        far.add(some + 1e6)
    assert_allclose(far.covariance(), near.covariance(), rtol=1e-7, atol=1e-8)
    assert_allclose(near.covariance(), np.cov(rows.T, bias=True), atol=1e-12)
    assert_allclose(near.second_moment(), rows.T @ rows / 500, atol=1e-12)
    assert_allclose(far.mean - 1e6, rows.mean(dim=0), atol=1e-8)


def test_a_fresh_network_takes_the_structure_and_then_the_state():
    network, X = perceptron()
    svd = WeightSVD(2).fit(network)
    fresh = svd.transform(case_of("perceptron").make(torch.float64, seed=5))
    fresh.load_state_dict(svd.transform(network).state_dict())
    assert torch.equal(call(fresh, X), call(svd.transform(network), X))


def test_a_network_of_integers_is_left():
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2))
    network[0].weight = nn.Parameter(torch.ones(6, 6, dtype=torch.int8), requires_grad=False)
    svd = WeightSVD(1).fit(network)
    assert "int8" in svd.report_[0]["reason"] and svd.ranks_ == {"1": 1}


def test_frozen_layers_stay_frozen_and_hooks_of_the_user_stay():
    network, X = perceptron()
    network[0].requires_grad_(False)
    calls = []
    network[2].register_forward_hook(lambda *_: calls.append(1))
    made = WeightSVD(2).fit(network).transform(network)
    assert not any(p.requires_grad for p in made[0].parameters())
    assert all(p.requires_grad for p in made[2].parameters())
    call(made, X)
    assert calls == [1]


def test_progress_reaches_the_end(capsys):
    network, _ = perceptron()
    WeightSVD(2, verbose=1).fit(network)
    assert "2/2" in capsys.readouterr().err


def test_cases_of_a_compiled_and_an_exported_result():
    for case in MODULE_CASES[:1]:
        network, X = case.make(), case.data()
        made = WeightSVD(2).fit(network).transform(network).eval()
        x = torch.from_numpy(X).float()
        with torch.no_grad():
            wanted = made(x)
            assert_allclose(torch.export.export(made, (x,)).module()(x), wanted, atol=1e-6)
            assert_allclose(torch.compile(made, backend="aot_eager")(x), wanted, atol=1e-6)


def test_a_spectral_norm_in_training_mode_is_not_stepped():
    def make():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 5))
        torch.nn.utils.parametrizations.spectral_norm(network[0])
        return network.train()

    network = make()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fitted = WeightSVD(2, targets=["1"]).fit(network)
    fitted.transform(network)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert [row["shape"] for row in fitted.report_] == [(9, 6), (5, 9)]
