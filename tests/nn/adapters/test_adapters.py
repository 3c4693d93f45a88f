"""Adapters on every kind of layer: start, train, switch, merge, remove; nothing half done."""

import copy
import io
import pickle
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize  # noqa: E402

import sklr.nn.compression  # noqa: E402
from sklr._torch._layers import find_layers  # noqa: E402
from sklr.nn._module_checks._cases import (  # noqa: E402
    LAYER_ZOO,
    MODULE_CASES,
    Mean,
    ModuleCase,
    case_of,
    run,
)
from sklr.nn.adapters import (  # noqa: E402
    BlockLoRA,
    FLoRA,
    LoLDU,
    LoRA,
    SVFit,
    adapter_param_groups,
    adapter_parameters,
    add_adapter,
    disabled_adapter,
    merge_adapter,
    parameter_report,
    remove_adapter,
    set_adapter,
)
from sklr.nn.compression import LowRankConv, LowRankLinear, WeightSVD  # noqa: E402

KINDS = ("lora", "block_lora", "svfit", "loldu", "flora")


def _array(*shape):
    return lambda rng, n: rng.standard_normal((n, *shape)) + 0.5


class OtherWidths(nn.Module):
    """Attention whose keys and values have widths of their own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=True)
        self.classes = nn.Linear(8, 3)

    def forward(self, x, k, v):
        return self.classes(self.attention(x, k, v)[0].mean(dim=1))


MORE = (
    ModuleCase(
        "transposed convolution",
        lambda: nn.Sequential(
            *(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 5, 2)),
            *(Mean(-2, -1), nn.Linear(5, 3)),
        ),
        _array(4, 4, 4),
        {},
    ),
    ModuleCase(
        "attention of other widths",
        OtherWidths,
        lambda rng, n: tuple(rng.standard_normal((n, 4, w)) for w in (8, 6, 5)),
        {},
    ),
)
CASES = {case.name: case for case in (*MODULE_CASES, *LAYER_ZOO, *MORE)}
EVERYTHING = {"tied weights": ["embedding", "inner", "outer"]}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def adapted(case, kind, dtype=torch.float64, network=None, **params):
    """A network with an adapter on everything that can have one, and its inputs."""
    network, X = network or case.make(dtype).eval(), case.data(7)
    targets = EVERYTHING.get(case.name, "all")
    add_adapter(network, kind, targets=targets, random_state=0, **params)
    return network, X, targets


def disturb(network, size=0.3):
    """Move what is trained away from the start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in adapter_parameters(network):
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def answer(network, X, dtype=torch.float64):
    with torch.no_grad():
        return run(network, X, dtype)


def state_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_bitwise(network, state):
    now = network.state_dict()
    assert now.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(now[key], value), key


def kinds_in_turn(*without):
    """One kind for each case, so that each meets several layers, in little time."""
    names = [name for name in CASES if name not in without]
    pairs = [(CASES[name], KINDS[number % len(KINDS)]) for number, name in enumerate(names)]
    return pytest.mark.parametrize("case, kind", pairs, ids=names)


@pytest.mark.parametrize("kind", KINDS)
def test_start_disable_remove_and_merge(case, kind):
    check_start_disable_remove_and_merge(case, kind, torch.float64, 1e-10)


@pytest.mark.parametrize("dtype, tol", [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
# torch's own attention has other kernels for bfloat16 with and without gradients.
@kinds_in_turn("attention", "transformer layer")
def test_start_in_other_precisions(case, kind, dtype, tol):
    check_start_disable_remove_and_merge(case, kind, dtype, tol)


def check_start_disable_remove_and_merge(case, kind, dtype, tol):
    """The start and what is switched off are the given network to the last bit."""
    network, X = case.make(dtype).eval(), case.data(7)
    trainable, state = answer(network, X, dtype), state_of(network)
    # torch multiplies in another order where weights are frozen.
    wanted = answer(copy.deepcopy(network).requires_grad_(False), X, dtype)
    classes = [type(part) for part in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    network, X, _ = adapted(case, kind, dtype, network)
    assert torch.equal(answer(network, X, dtype), wanted)
    disturb(network)
    learnt = answer(network, X, dtype)
    assert not torch.equal(learnt, wanted) and learnt.isfinite().all()
    with disabled_adapter(network):
        assert torch.equal(answer(network, X, dtype), wanted)
    assert torch.equal(answer(network, X, dtype), learnt)

    merged = merge_adapter(copy.deepcopy(network))
    scale = float(learnt.abs().max())
    assert (answer(merged, X, dtype) - learnt).abs().max() <= tol * scale
    assert [type(part) for part in merged.modules()] == classes
    if not any(isinstance(part, LowRankLinear) for part in merged.modules()):
        assert merged.state_dict().keys() == state.keys()

    # The copy was merged; the original still runs, and gives back what it was given.
    assert torch.equal(answer(network, X, dtype), learnt)
    assert remove_adapter(network) is network
    assert_bitwise(network, state)
    assert torch.equal(answer(network, X, dtype), trainable)
    assert [type(part) for part in network.modules()] == classes
    assert [p.requires_grad for p in network.parameters()] == flags
    assert not [key for part in network.modules() for key in vars(part) if "adapter" in key]


@kinds_in_turn()
def test_only_the_adapter_trains_and_every_number_of_it(case, kind):
    network, X, _ = adapted(case, kind)
    state = {key: v for key, v in state_of(network).items() if ".adapters." not in f".{key}"}
    disturb(network, 0.05)
    trained = adapter_parameters(network)
    assert {id(p) for p in network.parameters() if p.requires_grad} == {id(p) for p in trained}
    assert parameter_report(network)["trainable"] == sum(p.numel() for p in trained)
    optimizer = torch.optim.SGD(adapter_param_groups(network, 0.01))
    for mode in (True, False):
        network.train(mode)
        optimizer.zero_grad()
        run(network, X, torch.float64).square().sum().backward()
        for p in trained:
            assert p.grad is not None and p.grad.isfinite().all()
        optimizer.step()
    now = network.state_dict()
    running = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(now[k], v) for k, v in state.items() if not k.endswith(running))


# torch's parametrizations do not pickle.
@kinds_in_turn("parametrized")
def test_pickles_copies_and_states(case, kind):
    network, X, targets = adapted(case, kind)
    disturb(network)
    wanted = answer(network, X)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    for other in (
        pickle.loads(pickle.dumps(network)),
        copy.deepcopy(network),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(answer(other, X), wanted)
        with disabled_adapter(other):
            answer(other, X)
        remove_adapter(other)
    fresh = case.make(torch.float64, seed=1).eval()
    add_adapter(fresh, kind, targets=targets)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(answer(fresh, X), wanted)
    bare = case.make(torch.float64)
    assert not network.load_state_dict(bare.state_dict(), strict=False).unexpected_keys


@kinds_in_turn()
def test_training_and_evaluation_answer_alike(case, kind):
    """The fast path of transformer layers reads the weights as attributes."""
    if not case.same_in_training:
        return
    network, X, _ = adapted(case, kind)
    disturb(network)
    found = [answer(network.train(mode), X) for mode in (True, False)]
    found.append(run(network.eval(), X, torch.float64).detach())
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_both_paths_say_the_same(kind, rows):
    """Few rows go through the narrow path, many ranks through a new weight."""
    for rank in (1, 6):
        layer = nn.Linear(9, 6).double()
        network = nn.Sequential(layer)
        params = {"n_blocks": 1} if kind == "block_lora" else {}
        add_adapter(network, kind, rank=rank, **params)
        disturb(network)
        x = torch.randn(rows, 3, 9, dtype=torch.float64, requires_grad=True)
        stack = layer.adapters["weight"]
        wanted = nn.functional.linear(x, layer.weight, layer.bias)
        path = stack["default"].add_to(
            nn.functional.linear(x, layer._parameters["weight"], layer.bias), x
        )
        torch.testing.assert_close(path, wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-10)
    assert layer(torch.zeros(9, dtype=torch.float64)).shape == (6,)
    assert layer(torch.zeros(0, 9, dtype=torch.float64)).shape == (0, 6)


def test_padding_keeps_its_row(kind):
    network = nn.Sequential(nn.Embedding(15, 4, padding_idx=2)).double()
    add_adapter(network, kind, targets="all")
    disturb(network)
    ids = torch.tensor([2, 3])
    given = network[0]._parameters["weight"]
    for n in (1, 20):  # looked up, or by a new table
        rows = network(ids.repeat(n))
        assert torch.equal(rows[0], given[2]) and not torch.equal(rows[1], given[3])
    merged = merge_adapter(network)
    assert torch.equal(merged[0].weight[2], given[2])


def test_tied_weights_stay_tied(kind):
    case = case_of("tied weights")
    network, X = case.make(torch.float64).eval(), case.data(7)
    assert add_adapter(copy.deepcopy(network), kind) == ["inner", "outer"]
    assert add_adapter(network, kind, targets="head") == ["head"]
    disturb(network)
    assert torch.equal(network.head.weight, network.embedding.weight)
    wanted = answer(network, X)
    merge_adapter(network)
    assert network.head.weight is network.embedding.weight
    torch.testing.assert_close(answer(network, X), wanted)


def test_a_tie_to_something_else_is_not_torn():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network.other = nn.Module()
    network.other.table = network[0].weight
    with pytest.raises(ValueError, match="tied to one that cannot be adapted"):
        add_adapter(network, "lora", targets="0")


# Several adapters.


def test_adapters_by_name_are_switched():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    X, state = np.random.default_rng(0).standard_normal((5, 6)), state_of(network)
    base = answer(network, X)
    said = {}
    for name, kind, targets in (("a", "lora", "0"), ("b", "svfit", ["0", "2"])):
        add_adapter(network, kind, targets=targets, name=name)
        assert torch.equal(answer(network, X), base)  # the other waits
        disturb(network)
        said[name] = answer(network, X)
    assert not torch.equal(said["a"], said["b"])
    set_adapter(network, "a")
    assert torch.equal(answer(network, X), said["a"])
    assert len(adapter_parameters(network)) == 2
    set_adapter(network, ["a", "b"])
    both = answer(network, X)
    set_adapter(network, [])
    assert torch.equal(answer(network, X), base) and not adapter_parameters(network)
    set_adapter(network, "b")
    with disabled_adapter(network):
        assert torch.equal(answer(network, X), base)
    assert torch.equal(answer(network, X), said["b"])
    merged = merge_adapter(copy.deepcopy(network), ["a", "b"])
    torch.testing.assert_close(answer(merged, X), both)
    torch.testing.assert_close(answer(merge_adapter(copy.deepcopy(network)), X), said["b"])
    remove_adapter(network, "b")
    set_adapter(network, "a")
    assert torch.equal(answer(network, X), said["a"])
    remove_adapter(network)
    assert_bitwise(network, state)


def test_a_second_adapter_needs_a_name_or_stack():
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    add_adapter(network, "lora")
    disturb(network)
    first = network(x)
    with pytest.raises(ValueError, match="name=.*stack=True"):
        add_adapter(network, "lora")
    with pytest.raises(ValueError, match="'default' already"):
        add_adapter(network, "lora", name="default")
    add_adapter(network, "lora", stack=True)
    assert torch.equal(network(x), first)
    disturb(network)
    assert {row["adapter"] for row in parameter_report(network)["layers"]} == {"default", "lora"}
    change = sum(adapter.delta() for adapter in network[0].adapters["weight"].values())
    torch.testing.assert_close(network[0].weight, network[0]._parameters["weight"] + change)


def test_other_trained_parameters_belong_to_the_adapter():
    network = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    X, state = np.random.default_rng(0).standard_normal((5, 6)), state_of(network)
    base = answer(network, X)
    add_adapter(network, "lora", targets="0", train=["2", "re:1.weight"])
    expected = {"2.weight", "2.bias", "1.weight"}
    trained = {key for key, p in network.named_parameters() if p.requires_grad}
    assert trained == expected | {"0.adapters.weight.default.A", "0.adapters.weight.default.B"}
    disturb(network)
    said = answer(network, X)
    with disabled_adapter(network):
        assert torch.equal(answer(network, X), base)
    assert torch.equal(answer(network, X), said)
    add_adapter(network, "lora", targets="0", name="other", train="2")
    assert torch.equal(answer(network, X), base)
    disturb(network)
    set_adapter(network, "default")
    assert torch.equal(answer(network, X), said)
    with pytest.raises(ValueError, match="both train '2.weight'"):
        set_adapter(network, ["default", "other"])
    with pytest.raises(ValueError, match="is trained by the adapter 'default' already"):
        add_adapter(network, "lora", targets="0", stack=True, train="2.weight")
    copied = copy.deepcopy(network).float()
    remove_adapter(copied)
    assert torch.equal(copied[2].weight, state["2.weight"].float())
    merged = merge_adapter(copy.deepcopy(network))
    torch.testing.assert_close(answer(merged, X), said)
    assert all(p.requires_grad for p in merged.parameters())
    remove_adapter(network)
    assert_bitwise(network, state)


def test_flags_of_the_caller_come_back():
    network = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    network[0].requires_grad_(False)
    for finish in (remove_adapter, merge_adapter):
        add_adapter(network, "lora", targets="1")
        finish(network)
        assert [p.requires_grad for p in network.parameters()] == [False, False, True, True]


# Inside other things.


def test_a_part_of_a_network_has_its_own_adapter():
    inner = nn.Sequential(nn.Linear(6, 8))
    add_adapter(inner, "svfit")
    network = nn.Sequential(inner, nn.Linear(8, 3))
    assert parameter_report(network)["layers"][0]["name"] == "0.0"
    disturb(network)
    merge_adapter(network)
    assert all(p.requires_grad for p in network.parameters())


def test_as_parametrizations_of_torch(kind):
    """The classes serve without add_adapter, on any tensor."""
    layer = nn.Linear(6, 5).double()
    make = {"lora": LoRA, "block_lora": BlockLoRA, "svfit": SVFit, "loldu": LoLDU, "flora": FLoRA}
    options = {"rank": 2}
    adapter = make[kind](layer.weight, **options)
    given = layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", adapter)
    assert torch.equal(layer.weight, given)
    with torch.no_grad():
        for p in adapter.parameters():
            p += 0.1
    torch.testing.assert_close(layer.weight, given + adapter.delta())
    down, up = adapter.factors()
    torch.testing.assert_close(up @ down, adapter.delta())
    assert torch.linalg.matrix_rank(adapter.delta()) <= adapter.effective_rank() <= 2


@pytest.mark.parametrize("make", ["LowRankLinear", "CompensatedLinear"])
def test_on_factorised_layers(make, kind):
    """As QLoRA does: the compressed layer is frozen, the adapter stands beside it."""
    if not hasattr(sklr.nn.compression, make):
        pytest.skip(f"sklr.nn.compression has no {make}")
    torch.manual_seed(0)
    layer = getattr(sklr.nn.compression, make)(9, 12, 4).double()
    with torch.no_grad():
        layer.up.weight.normal_()
    network = nn.Sequential(layer, nn.Tanh(), nn.Linear(12, 3).double())
    X, state = np.random.default_rng(0).standard_normal((5, 9)), state_of(network)
    base = answer(network, X)
    assert add_adapter(network, kind) == ["0"]
    assert torch.equal(answer(network, X), base)
    disturb(network)
    said = answer(network, X)
    torch.testing.assert_close(
        network[0](torch.eye(9).double()) - network[0].bias, network[0].weight.T
    )
    merged = merge_adapter(copy.deepcopy(network))
    torch.testing.assert_close(answer(merged, X), said)
    assert type(merged[0]) is type(layer) or type(merged[0]).__name__ == make
    if kind == "svfit" and make == "LowRankLinear":  # nothing that the factors do not span
        assert merged[0].rank == 4
    remove_adapter(network)
    assert_bitwise(network, state)


def test_beside_a_base_that_shows_no_weight():
    if not hasattr(sklr.nn.compression, "CompensatedLinear"):
        pytest.skip("sklr.nn.compression has no CompensatedLinear")

    class Packed(nn.Module):
        bias = None

        def forward(self, x):
            return x.sum(dim=-1, keepdim=True).expand(*x.shape[:-1], 4)

    layer = sklr.nn.compression.CompensatedLinear(6, 4, 2, bias=False)
    layer.base = Packed()
    network = nn.Sequential(layer)
    x = torch.randn(3, 6)
    base = network(x).detach()
    add_adapter(network, "lora", rank=2)
    assert torch.equal(network(x), base)
    disturb(network)
    said = network(x).detach()
    torch.testing.assert_close(merge_adapter(network)(x), said)
    with pytest.raises(ValueError, match="decomposes the weight"):
        add_adapter(network, "svfit")


def test_compressors_leave_adapted_layers_and_compressed_networks_are_adapted():
    network = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 22), nn.Linear(22, 3))
    add_adapter(network, "lora", targets="0")
    reasons = {layer.name: layer.reason for layer in find_layers(network)}
    assert "adapter" in reasons["0"] and not reasons["2"]
    assert not any("adapters" in name for name in reasons)
    remove_adapter(network)
    small = WeightSVD(0.5).fit(network).transform(network)
    assert isinstance(small[0], LowRankLinear)
    assert add_adapter(small, "lora") == ["0", "2"]
    convolution = nn.Sequential(
        LowRankConv(nn.Conv1d(4, 2, 3, bias=False), nn.Conv1d(2, 6, 1)), Mean(-1), nn.Linear(6, 2)
    )
    assert add_adapter(convolution, "lora") == ["0.down", "0.up"]


def test_under_the_settings_of_the_caller(kind):
    """no_grad, inference_mode and autocast at the start; parameters train afterwards."""
    for manager in (torch.no_grad, torch.inference_mode):
        network = nn.Sequential(nn.Linear(6, 5))
        with manager():
            add_adapter(network, kind)
        network(torch.ones(2, 6)).sum().backward()
        assert all(not p.is_inference() for p in adapter_parameters(network))
        with manager():
            merge_adapter(network)
        network(torch.ones(2, 6)).sum().backward()
    add_adapter(network, kind)
    disturb(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(torch.ones(2, 6))
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), network(torch.ones(2, 6)), rtol=0.05, atol=0.1)


def test_seeds():
    def first(random_state):
        network = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        add_adapter(network, "lora", targets="all", random_state=random_state)
        return [network[i].adapters["weight"]["default"].A.detach() for i in (0, 1)]

    one, other = first(7), first(7)
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert not torch.equal(one[0][:3, :5], one[1][:, :5])
    network = nn.Sequential(nn.Linear(6, 5))
    before = torch.get_rng_state()
    add_adapter(network, "lora", random_state=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    one = first(None)
    torch.manual_seed(3)
    assert torch.equal(first(None)[0], one[0])


def test_dropout_works_where_inputs_are_seen():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)).double()
    x = torch.randn(5, 3, 6, dtype=torch.float64)
    for kind in ("lora", "block_lora", "flora"):
        add_adapter(network, kind, targets="all", dropout=0.5)
        disturb(network)
        network.eval()
        wanted = network(x)
        assert torch.equal(network(x), wanted)
        network.train()
        assert not torch.equal(network(x), network(x))
        head = network[3]  # linear in its input: the mean is the answer without dropout
        h = torch.randn(1, 20, dtype=torch.float64)
        mean = head(h.expand(20_000, 20)).mean(dim=0)
        network.eval()
        assert (mean - head(h)).abs().max() < 0.05 * head(h).abs().max()
        remove_adapter(network)
    attention = CASES["attention"].make()
    with pytest.raises(ValueError, match="'attention.in_proj_weight'"):
        add_adapter(attention, "lora", dropout=0.1)
    with pytest.raises(TypeError, match="has no parameter 'dropout'"):
        add_adapter(network, "svfit", dropout=0.1)


def test_threads_share_an_attention():
    network, X, _ = adapted(CASES["attention"], "lora")
    disturb(network)
    wanted, found = answer(network, X), []

    def work():
        found.extend(answer(network, X) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60 and all(torch.equal(one, wanted) for one in found)


# Bad input: nothing is changed.


def simple():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


REFUSED = {
    "kind": (dict(kind="adalora"), ValueError, "'lora', 'block_lora'"),
    "parameter": (dict(kind="lora", r=4), TypeError, "has no parameter 'r'; it has rank"),
    "no match": (dict(kind="lora", targets="query"), ValueError, "'query' matches no layer.*'0'"),
    "rank": (dict(kind="lora", rank=7, targets="0"), ValueError, "'0': rank.*1 and 6.*inputs.*7"),
    "rank of svfit": (dict(kind="svfit", rank=9), ValueError, "1 and 6"),
    "rank 0": (dict(kind="lora", rank=0), ValueError, "1 and 6"),
    "bool": (dict(kind="lora", rank=True), ValueError, "rank must be None"),
    "share": (dict(kind="svfit", rank=1.5), ValueError, r"\(0, 1\]"),
    "energy": (dict(kind="loldu", rank="energy"), ValueError, "rank must be None"),
    "energy > 1": (dict(kind="svfit", rank="energy", energy=2), ValueError, "energy must be"),
    "blocks": (dict(kind="block_lora", rank=5, n_blocks=2), ValueError, "multiple of n_blocks"),
    "no blocks": (dict(kind="block_lora", n_blocks=0), ValueError, "n_blocks must be"),
    "tuple": (dict(kind="flora", rank=(2, 2, 2)), ValueError, "3 entries and the weight 2 axes"),
    "mode": (dict(kind="flora", rank=(2, 7)), ValueError, r"rank\[1\] must be at most 6"),
    "dict": (dict(kind="lora", rank={"7": 2}), ValueError, "'7' matches no layer"),
    "empty dict": (dict(kind="lora", rank={}), ValueError, "empty dict"),
    "alpha": (dict(kind="lora", alpha=float("nan")), ValueError, "alpha must be a finite"),
    "dropout": (dict(kind="lora", dropout=1), ValueError, "dropout must be"),
    "init": (dict(kind="loldu", init="qr"), ValueError, "'lu', 'uniform'"),
    "name": (dict(kind="lora", name="a.b"), ValueError, "identifier"),
    "name of a method": (dict(kind="lora", name="keys"), ValueError, "identifier"),
    "train": (dict(kind="lora", train="classifier"), ValueError, "'classifier' matches no param"),
    "both": (dict(kind="lora", train="0"), ValueError, "leave it out of one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_whole(case):
    params, error, message = REFUSED[case]
    network = simple()
    state, classes = state_of(network), [type(part) for part in network.modules()]
    with pytest.raises(error, match=message):
        add_adapter(network, **params)
    assert_bitwise(network, state)
    assert [type(part) for part in network.modules()] == classes
    assert all(p.requires_grad for p in network.parameters())


def test_a_late_layer_that_cannot_be_adapted_leaves_the_first_ones():
    network = simple()
    with torch.no_grad():
        network[2].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer '2': weight has entries that are not finite"):
        add_adapter(network, "svfit", targets="all")
    assert type(network[0]) is nn.Linear and not hasattr(network, "_adapter_record")


def test_an_interruption_leaves_the_network(monkeypatch):
    from sklr.nn.adapters import _functions

    network, calls = simple(), []
    attach = _functions.attach

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        attach(*args)

    monkeypatch.setattr(_functions, "attach", interrupted)
    state = state_of(network)
    with pytest.raises(KeyboardInterrupt):
        add_adapter(network, "lora", targets="all")
    assert_bitwise(network, state)
    assert all(p.requires_grad for p in network.parameters())
    assert type(network[0]) is nn.Linear and not hasattr(network, "_adapter_record")


def test_networks_that_cannot_be_adapted():
    with pytest.raises(TypeError, match=r"torch.nn.Module first, got str"):
        add_adapter("bert", "lora")
    with pytest.raises(ValueError, match="no shape yet"):
        add_adapter(nn.Sequential(nn.LazyLinear(3)), "lora")
    with pytest.raises(ValueError, match="compiled"):
        add_adapter(torch.compile(simple()), "lora")
    compiled = simple()
    compiled[0].compile()
    with pytest.raises(ValueError, match="compiled"):
        add_adapter(compiled, "lora")
    with torch.inference_mode():
        inside = simple()
    with pytest.raises(ValueError, match="inference_mode.*deepcopy"):
        add_adapter(inside, "lora")
    add_adapter(copy.deepcopy(inside), "lora")
    integers = simple()
    integers[0].weight = nn.Parameter(torch.ones(8, 6, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TypeError, match="int8, not real numbers"):
        add_adapter(integers, "lora", targets="0")
    with pytest.raises(TypeError, match="real numbers, got int8"):
        SVFit(integers[0].weight)
    with pytest.raises(ValueError, match="computed from other tensors"):
        add_adapter(parametrizations.weight_norm(nn.Linear(3, 4)), "lora", targets="all")
    with pytest.raises(ValueError, match="no layer to adapt"):
        add_adapter(nn.Sequential(nn.ReLU()), "lora")
    for function in (merge_adapter, remove_adapter, adapter_parameters):
        with pytest.raises(ValueError, match="no adapter; add_adapter"):
            function(simple())
    network = simple()
    add_adapter(network, "lora")
    with pytest.raises(ValueError, match="no adapter 'french'"):
        set_adapter(network, "french")
    with torch.no_grad():
        network[0].adapters["weight"]["default"].B[0, 0] = torch.nan
    with pytest.raises(ValueError, match="not finite: training diverged"):
        merge_adapter(network)
    assert parameter_report(network)["layers"]


@pytest.mark.parametrize("target", ["table", "head"])
@pytest.mark.parametrize("n_ids", [4, 20])  # of a square weight no product says what is wrong
def test_few_ids_of_a_table_that_is_a_head_too(kind, target, n_ids):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(n_ids, 4), nn.Linear(4, n_ids, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    network = Tied().double()
    add_adapter(network, kind, targets=[target])
    disturb(network)
    ids = torch.tensor([3])  # so few are looked up, and go through the narrow path
    with torch.no_grad():
        wanted = network(ids)
        merge_adapter(network)
        torch.testing.assert_close(network(ids), wanted)
