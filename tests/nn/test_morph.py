"""Orders of hidden units, folded normalisations, and networks drawn from a field."""

import copy
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn import (  # noqa: E402
    WeightField,
    fuse_batchnorm,
    permutation_groups,
    smooth_permutation,
    total_variation,
)
from sklr.nn._morph._field import cells  # noqa: E402
from sklr.nn._morph._smooth import shortest_path  # noqa: E402


def seeded(make, dtype=torch.float64):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().to(dtype)


def perceptron():
    return nn.Sequential(
        nn.Linear(5, 12), nn.Tanh(), nn.Dropout(0.5),
        nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU()), nn.Linear(9, 3), nn.Softmax(1),
    )  # fmt: skip


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 2, bias=False), nn.BatchNorm2d(6), nn.LeakyReLU(), nn.Flatten(),
        nn.Linear(24, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 3),
    )  # fmt: skip


def inputs(kind, dtype=torch.float64):
    shape = (7, 5) if kind is perceptron else (7, 2, 6, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def with_statistics(network, x):
    network.train()
    for part in network.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.weight, generator=torch.Generator().manual_seed(2))
            nn.init.normal_(part.bias, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for _ in range(3):
            network(x)
    return network.eval()


@pytest.mark.parametrize("kind", [perceptron, convolutions])
@pytest.mark.parametrize("dtype, tol", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_smooth_order_computes_the_same_and_varies_less(kind, dtype, tol):
    x = inputs(kind, dtype)
    network = with_statistics(seeded(kind, dtype), x)
    before = copy.deepcopy(network.state_dict())
    smooth, orders = smooth_permutation(network, return_orders=True)
    torch.testing.assert_close(smooth(x), network(x), rtol=tol, atol=tol)
    assert total_variation(smooth) <= total_variation(network)
    groups = permutation_groups(network)
    assert [group.n_units for group in groups] == [len(order) for order in orders]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    again = smooth_permutation(network)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), smooth.parameters()))


def test_a_planted_order_is_found():
    """Units along a curve, shuffled: they come back in their order, or in its reverse."""
    t = torch.linspace(0, 1, 40, dtype=torch.float64)
    network = seeded(lambda: nn.Sequential(nn.Linear(3, 40), nn.ReLU(), nn.Linear(40, 2)))
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network[0].weight.copy_(torch.stack([t, t**2, (3 * t).sin()], dim=1)[shuffled])
        network[0].bias.copy_(t[shuffled])
        network[2].weight.copy_(torch.stack([t.exp(), -t])[:, shuffled])
    _, (order,) = smooth_permutation(network, return_orders=True)
    found = shuffled.numpy()[order].tolist()
    assert found in (list(range(40)), list(range(39, -1, -1)))


def test_short_paths_are_near_the_shortest():
    rng = np.random.default_rng(0)
    for n in range(2, 8):
        for _ in range(4):
            points = rng.random((n, 3))
            D = np.abs(points[:, None] - points).sum(axis=2)

            def length(path, D=D):
                return D[list(path[:-1]), list(path[1:])].sum()

            best = min(map(length, itertools.permutations(range(n))))
            found = shortest_path(D)
            assert sorted(found) == list(range(n))
            assert length(found) <= 1.05 * best + 1e-12


def test_longer_paths_beat_nearest_neighbours_and_equal_points_do_no_harm():
    points = np.random.default_rng(1).random((150, 2))
    D = np.abs(points[:, None] - points).sum(axis=2)
    lengths = []
    for start in range(0, 150, 15):
        path, left = [start], set(range(150)) - {start}
        while left:
            path.append(min(left, key=lambda j: D[path[-1], j]))  # noqa: B023
            left.remove(path[-1])
        lengths.append(D[path[:-1], path[1:]].sum())
    found = shortest_path(D)
    assert D[found[:-1], found[1:]].sum() < 0.97 * min(lengths)
    assert sorted(shortest_path(np.zeros((6, 6)))) == list(range(6))


def test_normalisations_are_folded_exactly():
    x = inputs(convolutions)
    network = with_statistics(seeded(convolutions), x)
    fused = fuse_batchnorm(network)
    torch.testing.assert_close(fused(x), network(x), rtol=1e-12, atol=1e-12)
    kinds = [type(fused[k]) for k in (1, 5, 9)]
    assert kinds == [nn.Identity] * 3 and isinstance(network[1], nn.BatchNorm2d)
    assert fused[4].bias is not None and network[4].bias is None
    assert network.training == fused.training and fused[0].training == network[0].training
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
    assert isinstance(fuse_batchnorm(other)[2], nn.BatchNorm1d)
    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, nn.BatchNorm1d(4), shared)
    assert isinstance(fuse_batchnorm(twice)[1], nn.BatchNorm1d)


def field_of(kind, method="field"):
    x = inputs(kind)
    return WeightField(fuse_batchnorm(with_statistics(seeded(kind), x)), method=method).eval(), x


@pytest.mark.parametrize("kind", [perceptron, convolutions])
@pytest.mark.parametrize("method", ["field", "slimmable"])
def test_drawn_networks_are_what_runs(kind, method):
    field, x = field_of(kind, method)
    assert torch.equal(field(x), field.network(x))
    for width in (1.0, 0.77, 0.5, 0.25, 1e-9):
        small = field.sample(width)
        torch.testing.assert_close(small(x), field(x, width), rtol=1e-12, atol=1e-12)
        assert sum(p.numel() for p in small.parameters()) == field.n_parameters(width)
        assert {k: v.shape for k, v in small.named_parameters()} == {
            k: v.shape for k, v in field.weights(width).items()
        }
        hidden = [p for p in small.modules() if isinstance(p, (nn.Linear, nn.Conv2d))][:-1]
        assert field.units(width) == [len(part.weight) for part in hidden]
        twin = copy.deepcopy(small).train()
        twin(x).sum().backward()
        assert all(p.grad is not None for p in twin.parameters())
        assert all(torch.equal(a, b) for a, b in zip(field.sample(width).parameters(),
                                                     small.parameters()))  # fmt: skip


def test_units_that_do_the_same_become_one():
    """A network whose units come in equal pairs computes the same at half its width."""
    half = fuse_batchnorm(with_statistics(seeded(convolutions), inputs(convolutions)))
    tensors = {name: value.detach() for name, value in half.named_parameters()}
    for group in permutation_groups(half):
        for name, axis, places in group.tensors:
            value = tensors[name]
            shape = (*value.shape[:axis], group.n_units, places, *value.shape[axis + 1 :])
            doubled = value.reshape(shape).repeat_interleave(2, dim=axis) / (1 + axis)
            tensors[name] = doubled.flatten(axis, axis + 1)
    whole = copy.deepcopy(half)
    for name, value in tensors.items():
        above, _, own = name.rpartition(".")
        setattr(whole.get_submodule(above), own, nn.Parameter(value))
    whole[4].in_channels, whole[8].in_features, whole[11].in_features = 16, 48, 20
    x = inputs(convolutions)
    field = WeightField(whole)
    torch.testing.assert_close(field(x, 0.5), half(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(field(x), half(x), rtol=1e-12, atol=1e-12)


def test_cells_share_the_units():
    for n, N in [(1, 5), (3, 8), (7, 7), (12, 17), (1000, 1024)]:
        overlap = cells(n, N)
        assert overlap.shape == (n, N) and (overlap >= 0).all()
        np.testing.assert_allclose(overlap.sum(axis=0), 1, atol=1e-9)
        np.testing.assert_allclose(overlap.sum(axis=1), N / n, atol=1e-9)


def test_weights_change_little_with_the_width():
    """On a smooth network, weights times their fan-in of two widths lie on one curve."""
    t = torch.linspace(0, 1, 200, dtype=torch.float64)
    network = seeded(lambda: nn.Sequential(nn.Linear(1, 200), nn.ReLU(), nn.Linear(200, 1)))
    with torch.no_grad():
        network[0].weight.copy_((4 * t).sin()[:, None])
        network[0].bias.copy_(t.square())
        network[2].weight.copy_((3 * t).cos()[None] / 200)
    field = WeightField(network)
    for name, factor in [("0.weight", False), ("0.bias", False), ("2.weight", True)]:
        curves = []
        for width in (0.5, 0.49, 0.25):
            values = field.weights(width)[name].detach().flatten().numpy()
            values = values * len(values) if factor else values
            places = (np.arange(len(values)) + 0.5) / len(values)
            curves.append(np.interp(np.linspace(0.05, 0.95, 50), places, values))
        np.testing.assert_allclose(curves[1], curves[0], atol=0.01)
        np.testing.assert_allclose(curves[2], curves[0], atol=0.02)


@pytest.mark.parametrize("method", ["field", "slimmable"])
def test_gradients_are_those_of_the_drawn_network_pushed_by_hand(method):
    field, x = field_of(perceptron, method)
    found = torch.autograd.grad(field(x, 0.4).square().sum(), list(field.parameters()))
    small = field.sample(0.4)
    own = torch.autograd.grad(small(x).square().sum(), list(small.parameters()))
    drawn = list(field.weights(0.4).values())
    pushed = torch.autograd.grad(drawn, list(field.parameters()), grad_outputs=own)
    for a, b in zip(found, pushed):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_slimmable_networks_keep_the_first_units():
    field, _ = field_of(convolutions, "slimmable")
    small = field.sample(0.5)
    assert torch.equal(small[4].weight, field.network[4].weight[:3, :4])
    assert torch.equal(small[8].weight, field.network[8].weight[:5, :12])


@pytest.mark.parametrize(
    "network, message",
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)), "'1' is a Lay"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.MaxPool1d(2), nn.Linear(2, 2)), "'1' is a Max"),
        (lambda: nn.Sequential(nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(4, 2, 1)), "in 2 groups"),
        (lambda: nn.Sequential(nn.Conv1d(4, 4, 3), nn.Linear(4, 2)), r"put nn.Flatten\(\)"),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.Conv1d(4, 2, 1)), "do not count the same"),
        (lambda: nn.Transformer(4, 2, 1, 1, 4), "no linear or convolutional layer in an nn.Seq"),
        (
            lambda: nn.Sequential(
                nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)
            ),
            "'0' is a ParametrizedLinear",
        ),
        (lambda: nn.Sequential(*[nn.Linear(4, 4)] * 2), "stands at two places"),
    ],
)
def test_networks_that_are_no_chain_are_refused(network, message):
    network = network()
    for function in (permutation_groups, smooth_permutation, total_variation, WeightField):
        with pytest.raises(NotImplementedError, match=message):
            function(network)


def test_other_wrong_networks_and_widths_are_refused():
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    with pytest.raises(NotImplementedError, match="'2' shares a tensor"):
        permutation_groups(tied)
    with pytest.raises(ValueError, match="'1' takes 5 inputs, and the layer before it makes 4"):
        permutation_groups(nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 2)))
    with pytest.raises(ValueError, match="no hidden layer whose width could change"):
        WeightField(nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(NotImplementedError, match="fold it first"):
        WeightField(seeded(convolutions))
    with pytest.raises(ValueError, match="method must be one of field, slimmable, got 'x'"):
        WeightField(perceptron(), method="x")
    for function in (fuse_batchnorm, smooth_permutation, WeightField, total_variation):
        with pytest.raises(TypeError, match="takes a torch.nn.Module first"):
            function(np.eye(3))
    field = WeightField(perceptron())
    for width in (0, -1, 1.01, np.nan, np.inf, None, "1", True):
        with pytest.raises(ValueError, match="width must be a number above 0 and at most 1"):
            field.sample(width)


def test_nothing_of_the_given_network_changes_under_inference_mode():
    network = seeded(perceptron)
    with torch.inference_mode():
        field = WeightField(smooth_permutation(network))
        small = field.sample(0.5)
    small(inputs(perceptron)).sum().backward()
    assert small[0].weight.grad is not None and network[0].weight.grad is None
    frozen = copy.deepcopy(network)
    frozen[0].requires_grad_(False)
    assert not WeightField(frozen).sample(0.5)[0].weight.requires_grad
