"""Class subspaces and their optimiser: the head's invariances, the geometry of a step."""

import copy
import io
import math
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn import (  # noqa: E402
    GrassmannLinear,
    RiemannianSGD,
    coding_rate,
    split_manifold_parameters,
)
from sklr.nn._grassmann._linear import resolve_scale  # noqa: E402
from sklr.nn._grassmann._riemannian import geodesic_step, project_horizontal  # noqa: E402

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def bases(C, D, k, seed=0):
    return torch.linalg.qr(draw(C, D, k, seed=seed)).Q


def head(C=3, D=7, k=2, scale=10.0, seed=0):
    layer = GrassmannLinear(D, C, k, scale).double()
    with torch.no_grad():
        layer.weight.copy_(bases(C, D, k, seed))
    return layer


def by_svd(S, H, lr):
    """The step as the paper writes it."""
    U, s, Vh = torch.linalg.svd(H, full_matrices=False)
    V = Vh.mT
    return (S @ V * torch.cos(lr * s).unsqueeze(-2) - U * torch.sin(lr * s).unsqueeze(-2)) @ Vh


def angles(S, T):
    """Principal angles, from the singular values of the sines: exact for small ones."""
    sines = torch.linalg.svdvals(T - S @ (S.mT @ T)).clamp(max=1)
    return torch.asin(sines)


def test_first_bases_are_orthonormal_and_depend_on_the_seed_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        one = GrassmannLinear(9, 4, 3)
        torch.manual_seed(1)
        two = GrassmannLinear(9, 4, 3)
    assert torch.equal(one.weight, two.weight)
    torch.testing.assert_close(one.weight.mT @ one.weight, torch.eye(3).expand(4, 3, 3))


def test_logits_are_lengths_of_projections():
    layer, x = head().requires_grad_(False), draw(5, 7, seed=1)
    for n in range(5):
        for c in range(3):
            unit = x[n] / x[n].norm()
            wanted = 10.0 * (layer.weight[c].T @ unit).norm()
            assert float(layer(x)[n, c]) == pytest.approx(float(wanted), abs=1e-12)
    assert 0 <= float(layer(x).min()) and float(layer(x).max()) <= 10.0 + 1e-12


def test_logits_see_the_subspace_and_the_line_of_the_feature_alone():
    layer, x = head(), draw(20, 7, seed=1)
    logits = layer(x)
    torch.testing.assert_close(layer(-x), logits)
    torch.testing.assert_close(layer(-3.5 * x), logits)
    turned = copy.deepcopy(layer)
    with torch.no_grad():
        turned.weight.copy_(layer.weight @ torch.linalg.qr(draw(3, 2, 2, seed=2)).Q)
    torch.testing.assert_close(turned(x), logits)


def test_pythagoras_when_the_subspaces_span_the_space():
    layer = GrassmannLinear(6, 3, 2, scale=4.0).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.qr(draw(6, 6)).Q.reshape(6, 3, 2).permute(1, 0, 2))
    squares = layer(draw(8, 6, seed=1)).square().sum(dim=1)
    torch.testing.assert_close(squares, torch.full_like(squares, 16.0))


def test_gradients_and_the_feature_orthogonal_to_a_class():
    layer, x = head(), draw(4, 7, seed=1)

    def logits(weight, features):
        return torch.func.functional_call(layer, {"weight": weight}, (features,))

    inputs = (layer.weight.detach().clone().requires_grad_(), x.requires_grad_())
    assert torch.autograd.gradcheck(logits, inputs)
    S = layer.weight.detach()[0]
    zero = (x - x @ S @ S.T).detach().requires_grad_()
    layer(zero).sum().backward()
    layer(torch.zeros(2, 7, dtype=F64)).sum().backward()
    assert bool(zero.grad.isfinite().all()) and bool(layer.weight.grad.isfinite().all())


@pytest.mark.parametrize("k", [7, 8])
def test_as_many_components_as_features_are_refused(k):
    with pytest.raises(ValueError, match=rf"n_components={k} .* 7 features"):
        GrassmannLinear(7, 3, k)


def test_scale():
    assert resolve_scale("auto", 2) == 8.0
    assert resolve_scale("auto", 10) == pytest.approx(2.5 * math.log(9) + 4)
    assert resolve_scale("auto", 1000) == pytest.approx(21.27, abs=0.01)
    for wrong in (0, -1.0, "large"):
        with pytest.raises(ValueError, match="scale must be"):
            GrassmannLinear(7, 3, 2, scale=wrong)
    with pytest.raises(ValueError, match="n_classes"):
        GrassmannLinear(7, 1, 2)


@pytest.mark.parametrize("lr", [0.0, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("C, D, k", [(3, 7, 2), (5, 24, 3), (2, 40, 8), (4, 5, 1)])
def test_step_is_the_geodesic_of_the_paper(C, D, k, lr):
    S = bases(C, D, k)
    H = project_horizontal(S, draw(C, D, k, seed=1))
    moved = geodesic_step(S, H, lr)
    torch.testing.assert_close(moved, by_svd(S, H, lr), rtol=0, atol=1e-12)
    torch.testing.assert_close(moved.mT @ moved, torch.eye(k, dtype=F64).expand(C, k, k))
    assert float((S.mT @ H).abs().max()) < 1e-6 * float(H.abs().max())


def test_distance_of_a_step_is_rate_times_length_and_back_again():
    S = bases(4, 12, 3)
    H = project_horizontal(S, draw(4, 12, 3, seed=1))
    lr = 1.0 / float(torch.linalg.matrix_norm(H, 2).max())  # below pi / 2
    moved = geodesic_step(S, H, lr)
    distance = angles(S, moved).norm(dim=1)
    torch.testing.assert_close(distance, lr * torch.linalg.matrix_norm(H))
    # The direction, carried along the geodesic: its derivative at the end.
    U, s, Vh = torch.linalg.svd(H, full_matrices=False)
    sin, cos = torch.sin(lr * s).unsqueeze(-2), torch.cos(lr * s).unsqueeze(-2)
    carried = (S @ Vh.mT * sin + U * cos) * s.unsqueeze(-2) @ Vh
    torch.testing.assert_close(geodesic_step(moved, -carried, lr), S)


def test_directions_of_deficient_rank_and_none_are_harmless():
    S = bases(2, 9, 3)
    H = project_horizontal(S, draw(2, 9, 1, seed=1) @ draw(2, 1, 3, seed=2))
    torch.testing.assert_close(geodesic_step(S, H, 0.5), by_svd(S, H, 0.5))
    assert torch.equal(geodesic_step(S, torch.zeros_like(S), 0.5), S)


def test_one_component_moves_along_a_great_circle():
    s = bases(1, 5, 1)
    h = project_horizontal(s, draw(1, 5, 1, seed=1))
    length = h.norm()
    wanted = s * torch.cos(0.4 * length) - h / length * torch.sin(0.4 * length)
    torch.testing.assert_close(geodesic_step(s, h, 0.4), wanted)


def loss_of(layer, x, y):
    return nn.functional.cross_entropy(layer(x), y)


def train(layer, optimizer, x, y, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(layer, x, y).backward()
        optimizer.step()


X, Y = draw(30, 7, seed=5), torch.arange(30) % 3


@pytest.mark.parametrize("retraction", ["geodesic", "qr"])
def test_training_lowers_the_loss_and_stays_on_the_manifold(retraction):
    layer = head()
    first = loss_of(layer, X, Y).item()
    optimizer = RiemannianSGD(layer.parameters(), 1e-3, momentum=0, retraction=retraction)
    train(layer, optimizer, X, Y, 1)
    assert loss_of(layer, X, Y).item() <= first
    optimizer = RiemannianSGD(layer.parameters(), 0.1, retraction=retraction)
    train(layer, optimizer, X, Y, 40)
    assert loss_of(layer, X, Y).item() < 0.8 * first
    gram = layer.weight.mT @ layer.weight
    torch.testing.assert_close(gram, torch.eye(2, dtype=F64).expand(3, 2, 2), atol=1e-7, rtol=0)


def test_single_precision_does_not_drift():
    layer = head(D=24, k=4).float()
    x = draw(30, 24, seed=5).float()
    train(layer, RiemannianSGD(layer.parameters(), 0.3), x, Y, 203)
    gram = layer.weight.mT @ layer.weight
    assert (gram - torch.eye(4)).abs().max().item() < 1e-5


def test_retractions_agree_to_second_order():
    S = bases(3, 9, 2)
    H = project_horizontal(S, draw(3, 9, 2, seed=1))
    gaps = []
    for lr in (0.02, 0.01):
        Q = torch.linalg.qr(S - lr * H).Q
        gaps.append(float(angles(geodesic_step(S, H, lr), Q).norm()))
    assert gaps[0] / gaps[1] == pytest.approx(8, rel=0.05)


def test_state_dict_carries_momentum_and_counter():
    one = head()
    first = RiemannianSGD(one.parameters(), 0.1, reorth_every=3)
    train(one, first, X, Y, 4)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    two = copy.deepcopy(one)
    second = RiemannianSGD(two.parameters(), 0.5)
    second.load_state_dict(torch.load(stored, weights_only=True))
    state = second.state[two.weight]
    assert state["step"] == 4 and state["momentum_buffer"].shape == (3, 7, 2)
    assert second.param_groups[0]["reorth_every"] == 3
    train(one, first, X, Y, 5)
    train(two, second, X, Y, 5)
    assert torch.equal(one.weight, two.weight)


def test_two_trainings_at_once_do_not_disturb_each_other():
    """The paper's code keeps counters and options in globals."""

    def fit(reorth_every):
        layer = head()
        train(layer, RiemannianSGD(layer.parameters(), 0.1, reorth_every=reorth_every), X, Y, 30)
        return layer.weight.detach()

    alone = [fit(1), fit(7)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, [1, 7]))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_other_parameters_are_stepped_as_by_sgd():
    one, two = nn.Linear(7, 3).double(), nn.Linear(7, 3).double()
    two.load_state_dict(one.state_dict())
    train(one, RiemannianSGD(one.parameters(), 0.1, 0.9, weight_decay=0.01), X, Y, 10)
    sgd = torch.optim.SGD(two.parameters(), 0.1, 0.9, weight_decay=0.01)
    train(two, sgd, X, Y, 10)
    torch.testing.assert_close(one.weight, two.weight)


def test_parameters_of_any_layout_are_stepped_as_by_sgd():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 7, generator=generator)
    one = [nn.Parameter(values.mT), nn.Parameter(values.clone()[:, ::2]), nn.Parameter(values + 1)]
    two = [nn.Parameter(part.detach().clone()) for part in one]
    ours = RiemannianSGD(one, 0.1, 0.9, weight_decay=0.1)
    sgd = torch.optim.SGD(two, 0.1, 0.9, weight_decay=0.1)
    for _ in range(4):
        for mine, theirs in zip(one, two, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            theirs.grad = mine.grad.clone()
        ours.step()
        sgd.step()
    torch.testing.assert_close(one, two)


def test_bases_have_no_weight_decay():
    one, two = head(), head()
    train(one, RiemannianSGD(one.parameters(), 0.1, weight_decay=0.5), X, Y, 5)
    train(two, RiemannianSGD(two.parameters(), 0.1), X, Y, 5)
    assert torch.equal(one.weight, two.weight)


def test_the_mark_of_the_manifold_survives_copies_and_conversions():
    network = nn.Sequential(nn.Linear(4, 7), GrassmannLinear(7, 3, 2))
    stored = io.BytesIO()
    torch.save(network, stored)
    stored.seek(0)
    for other in (
        network,
        copy.deepcopy(network),
        pickle.loads(pickle.dumps(network)),
        torch.load(stored, weights_only=False),
        copy.deepcopy(network).double(),
        copy.deepcopy(network).to(torch.float64),
    ):
        manifold, euclidean = split_manifold_parameters(other)
        assert [tuple(p.shape) for p in manifold] == [(3, 7, 2)]
        assert len(euclidean) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": -1.0}, "lr must be"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"weight_decay": -1.0}, "weight_decay must be"),
        ({"reorth_every": 0}, "reorth_every must be"),
        ({"retraction": "polar"}, "'polar'"),
    ],
)
def test_bad_options_of_the_optimiser(options, message):
    with pytest.raises(ValueError, match=message):
        RiemannianSGD(head().parameters(), **options)


def test_closure_and_parameters_without_gradient():
    layer = head()
    optimizer = RiemannianSGD([*layer.parameters(), nn.Parameter(torch.zeros(2))], 0.01)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(layer, X, Y)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert float(optimizer.step(closure)) < float(first)
    assert "in_features=7, n_classes=3, n_components=2, scale=10" in repr(layer)


def test_written_gradient_equals_that_of_torch_also_a_second_time():
    from sklr.nn._grassmann._linear import _lengths

    layer, x = head(), draw(6, 7, seed=1).requires_grad_()
    pull = draw(6, 3, seed=2)
    inputs = (x, layer.weight)
    got = torch.autograd.grad(layer(x), inputs, pull)
    wanted = torch.autograd.grad(_lengths(x, layer.weight, 10.0), inputs, pull)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradgradcheck(layer, (x,))
    frozen = head().requires_grad_(False)
    assert torch.autograd.gradgradcheck(frozen, (x,))
    through = torch.func.grad(
        lambda w: (torch.func.functional_call(layer, {"weight": w}, (x.detach(),)) * pull).sum()
    )
    torch.testing.assert_close(through(layer.weight.detach()), wanted[1])


@pytest.mark.parametrize("dtype, tol", [(torch.float32, 2e-6), (F64, 1e-13)])
@pytest.mark.parametrize("C, D, k", [(3, 7, 2), (5, 24, 3), (2, 40, 8), (4, 5, 1)])
@pytest.mark.parametrize("lr", [0.0, 0.01, 0.3, 2.0])
def test_kernel_is_the_geodesic_of_the_paper(C, D, k, lr, dtype, tol):
    from sklr.nn._grassmann._grassmann_kernels import step_classes

    S, M = bases(C, D, k), draw(C, D, k, seed=1)
    wanted = by_svd(S, project_horizontal(S, M), lr)
    for polish in (False, True):
        rows = S.to(dtype).mT.clone(memory_format=torch.contiguous_format)
        step_classes(rows.numpy(), M.to(dtype).mT.contiguous().numpy(), lr, polish)
        torch.testing.assert_close(rows.mT.double(), wanted, rtol=0, atol=tol)


def test_kernel_and_operations_of_torch_train_alike(monkeypatch):
    import sklr.nn._grassmann._riemannian as home

    one, two = head(), head()
    train(one, RiemannianSGD(one.parameters(), 0.1), X, Y, 25)
    monkeypatch.setattr(home, "has_kernel", lambda parameter: False)
    train(two, RiemannianSGD(two.parameters(), 0.1), X, Y, 25)
    torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", [(7, 2), (2, 3, 7, 2)])
def test_stacks_of_other_shapes_and_layouts(shape):
    S = torch.linalg.qr(draw(*shape)).Q
    parameter = nn.Parameter(S.mT.clone(memory_format=torch.contiguous_format).mT)  # not contiguous
    parameter.manifold = "grassmann"
    parameter.grad = draw(*shape, seed=1)
    RiemannianSGD([parameter], 0.1, momentum=0).step()
    wanted = by_svd(S, project_horizontal(S, parameter.grad), 0.1)
    torch.testing.assert_close(parameter.detach(), wanted)


@pytest.mark.parametrize("size", [1e22, math.inf, math.nan])
def test_gradients_that_overflow_end_the_step_with_what_is_no_number(size):
    # In a process of its own, with a limit: halving an infinite norm would never end.
    code = (
        "import torch; from sklr.nn import GrassmannLinear, RiemannianSGD; "
        "head = GrassmannLinear(8, 3, 2); "
        f"head.weight.grad = torch.ones(3, 8, 2) * float('{size}'); "
        "RiemannianSGD(head.parameters(), lr=0.1).step(); "
        "print(bool(head.weight.isfinite().any()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("dtype, tol", [(torch.float32, 1e-6), (F64, 1e-14)])
@pytest.mark.parametrize("pull", [1.0, -2.5])
def test_compiled_loss_is_the_cross_entropy_of_the_logits(dtype, tol, pull):
    layer, x = head().to(dtype), draw(9, 7, seed=1).to(dtype)
    x[3] = 0.0  # neither a length nor a projection
    x.requires_grad_()
    target = torch.arange(9) % 3
    inputs = (x, layer.weight)
    loss = layer.cross_entropy(x, target)
    wanted = nn.functional.cross_entropy(layer(x), target)
    torch.testing.assert_close(loss, wanted, rtol=0, atol=tol)
    for a, b in zip(
        torch.autograd.grad(pull * loss, inputs),
        torch.autograd.grad(pull * wanted, inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=3 * tol * abs(pull))
    with torch.no_grad():
        torch.testing.assert_close(layer.cross_entropy(x, target), wanted, rtol=0, atol=tol)
    spread = torch.full_like(x.detach(), torch.nan)
    assert math.isnan(float(layer.cross_entropy(spread, target).detach()))


def test_compiled_loss_refuses_classes_that_do_not_exist():
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="target must have numbers from 0 to 2"):
            head().cross_entropy(draw(2, 7), torch.tensor([0, wrong]))


def test_training_does_not_depend_on_the_layout_of_the_bases():
    """A layer from an old pickle has its basis vectors across the memory."""
    one, two = head(), head()
    two.weight = nn.Parameter(two.weight.detach().contiguous())
    two.weight.manifold = "grassmann"
    assert one.weight.stride() != two.weight.stride()
    target = torch.arange(len(X)) % 3
    for layer in (one, two):
        optimizer = RiemannianSGD(layer.parameters(), 0.1)
        for _ in range(12):
            optimizer.zero_grad()
            layer.cross_entropy(X, target).backward()
            optimizer.step()
    torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=1e-12)


def test_compiled_loss_is_differentiated_twice():
    """A penalty on its gradient would be lost in silence: of a last loss nothing else tells."""
    layer, x = head(), draw(6, 7, seed=1).requires_grad_()
    target, inputs = torch.arange(6) % 3, (x, layer.weight)

    def torchs(x, target):
        return nn.functional.cross_entropy(layer(x), target)

    found = []
    for function in (layer.cross_entropy, torchs):
        loss = function(x, target)
        gradients = torch.autograd.grad(loss, inputs, create_graph=True)
        total = loss + sum(part.square().sum() for part in gradients)
        found += [torch.autograd.grad(total, inputs)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    hessian = torch.autograd.functional.hessian(lambda z: layer.cross_entropy(z, target), x)
    assert hessian.abs().max() > 1e-3


def test_targets_that_the_compiled_loss_does_not_take_are_torchs():
    layer, x, target = head(), draw(6, 7), torch.arange(6) % 3
    for wrong in (target[:2], target.repeat(2)):  # the kernel would read beyond the end
        with pytest.raises(ValueError, match="batch_size"):
            layer.cross_entropy(x, wrong)
    with pytest.raises(RuntimeError, match="Long"):
        layer.cross_entropy(x, target.to(F64))
    sure = nn.functional.one_hot(target).to(F64)
    torch.testing.assert_close(layer.cross_entropy(x, sure), layer.cross_entropy(x, target))
    assert math.isnan(float(layer.cross_entropy(x[:0], target[:0])))


def test_shapes_are_found_on_the_device_meta():
    x = torch.empty(5, 7, device="meta")
    layer = GrassmannLinear(7, 3, 2).to("meta")
    assert layer(x).shape == (5, 3)
    loss = layer.cross_entropy(x, torch.zeros(5, dtype=torch.long, device="meta"))
    assert loss.shape == () and coding_rate(x).shape == ()
