"""Ordered layers: what they compute, what they recover, how ranks die, what comes out plain."""

import copy
import io

import numpy as np
import pytest
from scipy.linalg import subspace_angles

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn import (  # noqa: E402
    OrderedConv2d,
    OrderedLinear,
    RankSampler,
    decompose,
    hierarchical_group_lasso,
    shrink_,
)
from sklr.nn._ordered._lasso import proximal_step_  # noqa: E402
from sklr.nn._ordered._sizes import Sizes, size_of  # noqa: E402
from sklr.nn.compression import WeightSVD, recompose  # noqa: E402


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def linear(n, m, seed=0):
    layer = nn.Linear(n, m, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(normal(m, n, seed=seed) / n**0.5)
        layer.bias.copy_(normal(m, seed=seed + 1))
    return layer


def network():
    return nn.Sequential(linear(8, 12), nn.ReLU(), linear(12, 5, seed=3))


DENSE = {
    "linear": (lambda: linear(7, 4), (3, 7)),
    "no bias": (lambda: nn.Linear(4, 6, bias=False, dtype=torch.float64), (2, 5, 4)),
    "convolution": (
        lambda: nn.Conv2d(
            3, 8, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2), dtype=torch.float64
        ),
        (2, 3, 9, 8),
    ),
    "circular": (
        lambda: nn.Conv2d(2, 30, 3, padding=1, padding_mode="circular", dtype=torch.float64),
        (2, 2, 6, 6),
    ),
    "same": (lambda: nn.Conv2d(2, 4, 3, padding="same", dtype=torch.float64), (2, 2, 6, 6)),
}


@pytest.mark.parametrize("name", DENSE)
def test_layers_compute_what_they_are_made_from(name):
    make, shape = DENSE[name]
    layer, x = make(), normal(*shape)
    ordered = decompose(layer)
    assert type(ordered).__name__.startswith("Ordered")
    torch.testing.assert_close(ordered(x), layer(x))
    torch.testing.assert_close(ordered.weight, layer.weight)
    # Equal shares of each singular value, falling.
    values = torch.linalg.svdvals(layer.weight.flatten(1))
    torch.testing.assert_close(ordered.importances, values)
    whole, none = ordered.truncated(ordered.rank), ordered.truncated(0)
    torch.testing.assert_close(whole(x), layer(x))
    bias = torch.zeros_like(layer(x)) if layer.bias is None else None
    if bias is None:
        axes = (-1, *[1] * (len(layer.weight.shape) - 2))
        bias = layer.bias.reshape(axes).expand(layer(x).shape) if len(axes) > 1 else layer.bias
    torch.testing.assert_close(none(x), torch.broadcast_to(bias, layer(x).shape))
    two = ordered.truncated(2)
    U, s, Vh = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    best = ((U[:, :2] * s[:2]) @ Vh[:2]).reshape(layer.weight.shape)
    torch.testing.assert_close(two.weight, best)
    torch.testing.assert_close(two(x), recompose(ordered, {"": 2})(x))
    with pytest.raises(ValueError, match=f"integer from 0 to {ordered.rank}, got 99"):
        ordered.truncated(99)


def descend(layer, loss, n_steps, lr, sampled=True):
    sampler = RankSampler(layer, random_state=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    for _ in range(n_steps):
        optimizer.zero_grad()
        if sampled:
            with sampler:
                value = loss(layer)
        else:
            value = loss(layer)
        value.backward()
        optimizer.step()


def singular_map():
    """A 9 x 6 matrix of rank 3 with the singular values 9.546, 6.924, 3.665."""
    U, V = (torch.linalg.qr(normal(n, 3, seed=n)).Q for n in (9, 6))
    return (U * torch.tensor([9.546, 6.924, 3.665], dtype=torch.float64)) @ V.T


def distances(layer, C):
    """Squared distances of the first k columns to the best matrices of rank k."""
    U, s, Vh = torch.linalg.svd(C, full_matrices=False)
    return [
        float(((layer.truncated(k).weight.detach() - (U[:, :k] * s[:k]) @ Vh[:k]) ** 2).sum())
        for k in range(1, 7)
    ]


def test_a_linear_map_is_recovered_as_its_singular_value_decomposition():
    """The paper's theorem: each column becomes a singular triplet. Without draws it does not."""
    C = singular_map()
    eye = torch.eye(6, dtype=torch.float64)
    torch.manual_seed(0)

    def loss(layer):
        return (layer(eye).T - C).square().mean()

    layer = OrderedLinear(6, 9, bias=False, dtype=torch.float64)
    twin = copy.deepcopy(layer)
    descend(layer, loss, 2000, 0.5)
    assert max(distances(layer, C)) < 0.02
    found = layer.importances.detach().numpy()
    np.testing.assert_allclose(found[:3], [9.546, 6.924, 3.665], rtol=0.02)
    assert found[3:].max() < 0.2
    descend(twin, loss, 600, 0.5, sampled=False)
    assert float((twin.weight.detach() - C).square().sum()) < 0.02  # the map, but not its order
    assert max(distances(twin, C)) > 1


def test_a_linear_autoencoder_becomes_principal_components():
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    X = rng.standard_normal((400, 6)) * [3, 2.2, 1.6, 1.1, 0.7, 0.4] @ turned
    X -= X.mean(axis=0)
    data = torch.tensor(X)
    torch.manual_seed(1)
    layer = OrderedLinear(6, 6, bias=False, dtype=torch.float64)
    descend(layer, lambda f: (f(data) - data).square().mean(), 3000, 0.1)
    components = np.linalg.svd(X, full_matrices=False)[2]
    total = (X**2).sum()
    for k in range(1, 6):
        small = layer.truncated(k)
        angle = subspace_angles(small.up.weight.detach().numpy(), components[:k].T).max()
        assert np.degrees(angle) < 5, k
        left = ((X - small(data).detach().numpy()) ** 2).sum()
        best = (X**2).sum() - ((X @ components[:k].T) ** 2).sum()
        assert (left - best) / total < 0.01, k


def test_each_pair_is_drawn_once_a_cycle():
    module = decompose(network())  # ranks 8 and 5
    sampler, found = RankSampler(module, random_state=0), []
    for _ in range(13):
        with sampler:
            found.append(next(iter(sampler.widths_.items())))
            assert sum(part._width is not None for part in (module[0], module[2])) == 1
    assert sorted(found) == [("0", b) for b in range(1, 9)] + [("2", b) for b in range(1, 6)]
    assert module[0]._width is None and module[2]._width is None
    again = RankSampler(module, random_state=0)
    with again:
        assert next(iter(again.widths_.items())) == found[0]


def test_draws_of_all_layers_and_of_given_sizes():
    module = decompose(network())
    x = normal(4, 8)
    with RankSampler(module, sampling="all", random_state=0) as sampler:
        widths = sampler.widths_
        small = module(x)
    assert widths.keys() == {"0", "2"}
    torch.testing.assert_close(small, recompose(module, widths)(x))
    with RankSampler(module, sampling=[{"2": 1}]):
        small = module(x)
    torch.testing.assert_close(small, recompose(module, {"2": 1})(x))
    with pytest.raises(RuntimeError, match="cannot be nested"):
        with RankSampler(module), RankSampler(module):
            pass
    assert module[0]._width is None and module[2]._width is None
    for wrong, message in [
        ("pair", 'must be "pairs", "all"'), ([], "empty list"),
        ([{"1": 2}], "'1' is no ordered layer"), ([{"0": -1}], "at least 0, got -1"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            RankSampler(module, sampling=wrong)
    with pytest.raises(ValueError, match="no ordered layer; decompose"):
        RankSampler(network())


def lasso_by_loops(module):
    total = 0.0
    for layer in (module[0], module[2]):
        down, up = layer.down.weight, layer.up.weight
        for b in range(layer.rank):
            total = total + down[b : layer.rank].norm() + up[:, b : layer.rank].norm()
    return total


def test_the_lasso_is_the_formula_and_its_gradient_finite_at_zero():
    module = decompose(network())
    found, wanted = hierarchical_group_lasso(module), lasso_by_loops(module)
    torch.testing.assert_close(found, wanted)
    grads = torch.autograd.grad(found, list(module.parameters()), allow_unused=True)
    others = torch.autograd.grad(wanted, list(module.parameters()), allow_unused=True)
    for a, b in zip(grads, others):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)
    with torch.no_grad():
        module[0].down.weight[3:] = 0
    hierarchical_group_lasso(module).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_the_proximal_step_minimises_what_it_says():
    """No other point near the result has a smaller value: the definition of the operator."""
    module, step = decompose(network()), 0.05
    before = copy.deepcopy(module)
    proximal_step_(module, step)

    def value(other):
        with torch.no_grad():
            moved = sum(
                (p - q).square().sum() for p, q in zip(other.parameters(), before.parameters())
            )
            return float(moved / 2 + step * lasso_by_loops(other))

    best = value(module)
    assert best < value(before)
    for seed in range(40):
        other = copy.deepcopy(module)
        with torch.no_grad():
            for layer in (other[0], other[2]):
                for p in (layer.down.weight, layer.up.weight):
                    p += 1e-3 * normal(*p.shape, seed=seed)
        assert value(other) > best


def test_ranks_die_from_the_end_and_never_come_back():
    module, x = decompose(network()), normal(4, 8)
    assert shrink_(module, 0.0) == {"0": 8, "2": 5}
    proximal_step_(module, 0.8)
    ranks = shrink_(module)
    assert 0 < ranks["0"] < 8 and 0 < ranks["2"] < 5
    small = module(x)
    # A momentum that goes on moves columns that nobody reads.
    with torch.no_grad():
        module[0].down.weight[ranks["0"] :] += 1
        module[0].up.weight[:, ranks["0"] :] += 1
    torch.testing.assert_close(module(x), small)
    assert all(a <= b for a, b in zip(shrink_(module).values(), ranks.values()))
    assert shrink_(module, 1e9) == {"0": 0, "2": 0}
    torch.testing.assert_close(module(x), module[2].bias.expand(4, 5))
    torch.testing.assert_close(recompose(module)(x), module(x))
    assert hierarchical_group_lasso(module) == 0
    with pytest.raises(ValueError, match="threshold must be"):
        shrink_(module, float("nan"))


def test_the_rank_is_in_the_state_and_in_copies():
    module, x = decompose(network()), normal(4, 8)
    proximal_step_(module, 0.8)
    shrink_(module)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = decompose(network())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other[0].rank == module[0].rank < 8
    for twin in (other, copy.deepcopy(module)):
        torch.testing.assert_close(twin(x), module(x))
    state = module.state_dict() | {"0._extra_state": torch.tensor([9])}
    with pytest.raises(ValueError, match="between 0 and 8, got 9"):
        other.load_state_dict(state)


def test_plain_networks_hold_what_the_formula_says_and_keep_outputs():
    module, x = decompose(network()), normal(4, 8)
    assert [type(part) for part in recompose(module)] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(recompose(module)(x), network()(x))
    small = recompose(module, {"0": 3, "2": 1})
    biases = 12 + 5
    wanted = size_of(module[0], 3) + size_of(module[2], 1) + biases
    assert sum(p.numel() for p in small.parameters()) == wanted
    images = nn.Sequential(nn.Conv2d(3, 16, 3, dtype=torch.float64), nn.Flatten())
    ordered = decompose(images)
    thin, pixels = recompose(ordered, {"0": 4}), normal(2, 3, 6, 6)
    with RankSampler(ordered, sampling=[{"0": 4}]):
        torch.testing.assert_close(thin(pixels), ordered(pixels))
    torch.testing.assert_close(recompose(ordered)(pixels), images(pixels))
    for wrong, message in [({"9": 1}, "'9' is no ordered layer"), ({"0": 99}, "from 0 to 8")]:
        with pytest.raises(ValueError, match=message):
            recompose(module, wrong)
    with pytest.raises(ValueError, match="no ordered layer"):
        recompose(network())


def test_sizes_are_nested_within_the_budget_and_take_what_counts():
    module = decompose(nn.Sequential(linear(20, 30), nn.ReLU(), linear(30, 25, seed=5)))
    layers = {"0": module[0], "2": module[2]}
    losses = {"0": 2.0 ** -np.arange(21), "2": 10 * 2.0 ** -np.arange(26)}
    sizes = Sizes(layers, losses)
    assert sizes.least == 50 + 55 and sizes.most == 600 + 750
    former = {"0": 0, "2": 0}
    for budget in range(sizes.least, sizes.most + 1, 7):
        ranks = sizes.ranks(budget)
        assert sum(size_of(layers[name], rank) for name, rank in ranks.items()) <= budget
        assert all(ranks[name] >= former[name] for name in ranks)
        former = ranks
    assert sizes.ranks(sizes.most) == {"0": 20, "2": 25}
    # The second layer's losses are ten times as large: three columns more, 10 = 2^3.3.
    middle = sizes.ranks(600)
    assert 3 <= middle["2"] - middle["0"] <= 4


def test_what_cannot_be_ordered_is_refused_by_name():
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Linear(3, 3))
    with pytest.raises(ValueError, match="'0' cannot be replaced: it is a convolution in 2 groups"):
        decompose(grouped, targets=["0"])
    assert isinstance(decompose(grouped)[0], nn.Conv2d)
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    with pytest.raises(ValueError, match="MultiheadAttention reads it as a tensor"):
        decompose(attention, targets=["self_attn.out_proj"])
    tied = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    tied["b"].weight = tied["a"].weight
    with pytest.raises(ValueError, match="tied to another layer's"):
        decompose(tied)
    with pytest.raises(ValueError, match="factorised already"):
        decompose(decompose(network()))
    with pytest.raises(ValueError, match="matches no layer"):
        decompose(network(), targets=["nothing"])
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module first, got ndarray"):
        decompose(np.zeros(3))
    with pytest.raises(ValueError, match="in groups, got 2"):
        OrderedConv2d.from_dense(grouped[0])
    with pytest.raises(TypeError, match="takes a torch.nn.Linear, got Conv2d"):
        OrderedLinear.from_dense(grouped[0])
    with pytest.raises(ValueError, match="NaN or infinity"):
        OrderedLinear.from_dense(nn.Linear(2, 2).requires_grad_(False).to(torch.float64).apply(
            lambda part: part.weight.fill_(float("nan"))
        ))  # fmt: skip


def test_encoder_layers_answer_alike_in_training_and_evaluation():
    """In evaluation torch reads attributes of linear layers in place of calling them."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    x = normal(2, 5, 8, dtype=torch.float32)
    ordered = decompose(layer)
    small = recompose(ordered, {"linear1": 3})
    assert type(small.linear1).__name__ == "LowRankLinear"
    for one in (ordered, small):
        trained = one.train()(x)
        with torch.no_grad():
            torch.testing.assert_close(one.eval()(x), trained.detach(), rtol=1e-4, atol=1e-5)


def test_layers_used_twice_stay_shared_and_compressors_leave_ordered_ones():
    shared = linear(6, 6)
    module = nn.Sequential(shared, nn.ReLU(), shared, linear(6, 3, seed=2))
    ordered = decompose(module)
    assert ordered[0] is ordered[2]
    small = recompose(ordered, {"0": 1})
    assert small[0] is small[2] and small[0].rank == 1
    compressor = WeightSVD(targets="all", rank=1)
    with pytest.raises(ValueError, match="factorised already"):
        compressor.fit(ordered)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_and_flags_of_the_layer_are_kept(dtype):
    layer = nn.Linear(5, 4).to(dtype).eval()
    layer.weight.requires_grad_(False)
    ordered = decompose(layer)
    assert ordered.down.weight.dtype == ordered.up.bias.dtype == dtype and not ordered.training
    assert not ordered.up.weight.requires_grad and ordered.up.bias.requires_grad
    assert ordered(torch.ones(2, 5, dtype=dtype)).dtype == dtype


def test_plain_networks_are_exported_and_compiled():
    module, x = recompose(decompose(network()), {"0": 3, "2": 1}), normal(4, 8)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
    torch.testing.assert_close(torch.compile(module, backend="eager")(x), module(x))
