"""What each kind of adapter is: closed forms, gradients, equivalences, counts."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.adapters import (  # noqa: E402
    BlockLoRA,
    FLoRA,
    LoLDU,
    LoRA,
    SVFit,
    adapter_param_groups,
    add_adapter,
    merge_adapter,
    parameter_report,
)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def orthogonal(n, seed):
    return torch.linalg.qr(normal(n, n, seed=seed))[0]


def zero_pivot():
    W = normal(5, 5)
    W[:, 0] = 0
    return W


WEIGHTS = {
    "square": normal(6, 6),
    "tall": normal(9, 4),
    "wide": normal(4, 9),
    "singular": normal(7, 2) @ normal(2, 6, seed=1),
    "zero": torch.zeros(5, 4, dtype=torch.float64),
    "permutation": torch.eye(6, dtype=torch.float64)[[3, 0, 5, 1, 4, 2]],
    "zero pivot": zero_pivot(),
    "one row": normal(1, 5),
    "kernel": normal(6, 4, 3, 3),
    "tiny": 1e-12 * normal(5, 5),
    "huge": 1e12 * normal(5, 5),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("kind", [SVFit, LoLDU])
def test_bases_give_the_weight_exactly(kind, name):
    W = WEIGHTS[name]
    adapter = kind(W)
    first = adapter.sigma_0 if kind is SVFit else adapter.z_0
    rebuilt = (adapter.left * first) @ adapter.right
    size = float(W.abs().max()) or 1.0
    assert (rebuilt - W.flatten(1)).abs().max() <= 1e-12 * size
    assert torch.equal(adapter(W), W)
    assert adapter.right.isfinite().all()
    if kind is LoLDU:
        # No pivot that is nothing but rounding is divided by.
        assert adapter.left.abs().max() <= 1 + 1e-12
        P, L, U = torch.linalg.lu(W.flatten(1))
        torch.testing.assert_close(adapter.left, P @ L, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            adapter.z_0[:, None] * adapter.right, U, rtol=0, atol=1e-11 * size
        )


@pytest.mark.parametrize(
    "adapter, count",
    [
        (LoRA(torch.zeros(384, 384), 8), 6144),
        (BlockLoRA(torch.zeros(384, 384), 8, 2), 3072),
        (BlockLoRA(torch.zeros(384, 384), 8, 2, tied=False), 4608),
        (SVFit(torch.eye(768)), 768),
        (SVFit(torch.eye(20), 5), 5),
        (LoLDU(torch.eye(384)), 385),
        (LoLDU(torch.eye(384), 16, train_scale=False), 16),
        (FLoRA(torch.zeros(32, 16, 3, 3), (4, 4, 2, 2)), 268),
        (FLoRA(torch.zeros(384, 384), 8), 6144 + 64),
        (LoRA(torch.zeros(32, 16, 3, 3), 2), 352),
        (SVFit(torch.eye(20), 0.5), 10),
        (LoRA(torch.zeros(30, 20), 1.0), 12 * 50),
        (LoRA(torch.zeros(30, 5)), 5 * 35),
    ],
    ids=repr,
)
def test_counts(adapter, count):
    assert sum(p.numel() for p in adapter.parameters()) == count


def test_sixteen_times_fewer_than_lora():
    lora, svfit = LoRA(torch.eye(768), 8), SVFit(torch.eye(768))
    sizes = [sum(p.numel() for p in adapter.parameters()) for adapter in (lora, svfit)]
    assert sizes[0] == 16 * sizes[1]


# SVFit.


def test_svfit_changes_the_spectrum_and_nothing_else():
    W = normal(8, 6)
    adapter = SVFit(W)
    with torch.no_grad():
        adapter.sigma.copy_(torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0, 4.0]))
    new = adapter(W)
    wanted = adapter.sigma.abs().sort(descending=True)[0]
    torch.testing.assert_close(torch.linalg.svdvals(new), wanted, rtol=0, atol=1e-12)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    inner = U.T @ new @ Vh.T
    torch.testing.assert_close(inner, inner.diagonal().diag(), rtol=0, atol=1e-12)
    torch.testing.assert_close(adapter.shift(), adapter.sigma - adapter.sigma_0)


def test_svfit_one_step_is_the_closed_form():
    """SGD of rate 1 on half the squared distance lands on ``u_i^T T v_i``."""
    W, T = normal(7, 5), normal(7, 5, seed=1)
    adapter = SVFit(W, 3)
    loss = 0.5 * (adapter(W) - T).square().sum()
    loss.backward()
    found = (adapter.sigma - adapter.sigma.grad).detach()
    best = torch.einsum("mi,mn,in->i", adapter.left, T, adapter.right)
    torch.testing.assert_close(found, best)
    with torch.no_grad():
        adapter.sigma.copy_(best)
    rest = W - (adapter.left * adapter.sigma_0) @ adapter.right
    error = (adapter(W) - T).square().sum()
    torch.testing.assert_close(error, (rest - T).square().sum() - best.square().sum())


def test_svfit_by_energy():
    s = torch.tensor([10.0, 5.0, 1.0, 0.1]).double()
    W = (orthogonal(4, 0) * s) @ orthogonal(4, 1)
    for energy in (0.5, 0.9, 0.99, 1.0):
        kept = 1 + int((s.square().cumsum(0) < energy * s.square().sum() * (1 - 1e-9)).sum())
        adapter = SVFit(W, "energy", energy=energy)
        assert len(adapter.sigma) == kept and adapter.energy_kept >= energy - 1e-9
    assert len(SVFit(torch.zeros(3, 3), "energy").sigma) == 1


def test_svfit_positive_values_stay_positive():
    W = normal(5, 5)
    adapter = SVFit(W, positive=True)
    assert torch.equal(adapter(W), W)
    values = nn.functional.softplus(adapter.sigma)
    torch.testing.assert_close(values, torch.linalg.svdvals(W))
    with torch.no_grad():
        adapter.sigma -= 20
    assert torch.linalg.svdvals(adapter(W)).max() < 1e-4


# LoLDU.


def test_loldu_finds_a_target_of_its_family():
    """The change is linear in z: its minimiser solves a system of k equations."""
    W, t = normal(6, 6), normal(6, seed=1)
    adapter = LoLDU(W, train_scale=False)
    L, U = adapter.left, adapter.right
    target = (L * t) @ U
    G = (L.T @ L) * (U @ U.T)
    torch.testing.assert_close(torch.linalg.solve(G, (L.T @ target @ U.T).diagonal()), t)
    optimizer = torch.optim.Adam(adapter.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        (adapter(W) - target).square().sum().backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(adapter.z.detach(), t, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("init", ["uniform", "normal", "constant", "ones", "zeros"])
def test_loldu_other_starts_say_that_they_change_the_network(init):
    W = normal(5, 5)
    with pytest.warns(UserWarning, match="changes the network before"):
        adapter = LoLDU(W, init=init, random_state=0)
    assert not torch.allclose(adapter(W), W)


def test_loldu_scale():
    W = normal(5, 5)
    adapter = LoLDU(W, 4, alpha=2.0)
    assert float(adapter.sigma) == 0.5 and torch.equal(adapter(W), W)
    assert "sigma" in dict(LoLDU(W, train_scale=False).named_buffers())


@pytest.mark.parametrize(
    "make",
    [
        lambda W: SVFit(W, 3),
        lambda W: SVFit(W, 3, positive=True),
        lambda W: LoLDU(W, 3, alpha=2),
        lambda W: LoRA(W, 2, alpha=3, random_state=0),
        lambda W: BlockLoRA(W, 4, 2, tied=False, random_state=0),
        lambda W: FLoRA(W, 2, scale=2.0, random_state=0),
    ],
)
def test_gradients_by_finite_differences(make):
    W, G = normal(5, 4), normal(5, 4, seed=2)
    adapter = make(W)
    with torch.no_grad():
        for p in adapter.parameters():
            p += 0.1 * normal(*p.shape, seed=p.numel())
    (adapter(W) * G).sum().backward()
    for p in adapter.parameters():
        flat, gradient = p.data.reshape(-1), p.grad.reshape(-1)
        for i in range(len(flat)):
            values = []
            for step in (1e-5, -2e-5):
                flat[i] += step
                values.append(float((adapter(W) * G).sum()))
            flat[i] += 1e-5
            assert abs((values[0] - values[1]) / 2e-5 - float(gradient[i])) < 1e-6


# Block-LoRA.


def train(network, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, 10, dtype=torch.float64, generator=generator)
        target = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 3]], dim=1)
        optimizer.zero_grad()
        (network(x) - target).square().mean().backward()
        optimizer.step()


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 3)).double()


OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups),
    "momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups),
    # No weight decay: with it the equivalence is that of the decayed sum.
    "adamw": lambda groups: torch.optim.AdamW(groups),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_block_lora_is_lora_of_the_small_rank_with_a_fast_b(optimizer):
    """To the last bit: the literal blocks, their stored sum, and LoRA(r / n) with n times B's rate.

    The claim of more capacity from blocks that begin at zero does not hold.
    """
    found = {}
    for name, kind, params in (
        ("blocks", "block_lora", dict(rank=8, n_blocks=4, tied=False)),
        ("sum", "block_lora", dict(rank=8, n_blocks=4)),
        ("lora", "lora", dict(rank=2)),
    ):
        network = small()
        add_adapter(network, kind, targets="0", random_state=0, **params)
        ratio = 4.0 if name == "lora" else 1.0
        groups = adapter_param_groups(network, 0.01, lora_plus_ratio=ratio)
        train(network, OPTIMIZERS[optimizer](groups), 60)
        if name == "blocks":
            B = network[0].adapters["weight"]["default"].B
            assert all(torch.equal(block, B[0]) for block in B) and B[0].abs().max() > 0
        change = network[0].adapters["weight"]["default"].delta()
        assert torch.linalg.matrix_rank(change) == 2
        found[name] = merge_adapter(network)[0].weight.detach()
    assert torch.equal(found["sum"], found["lora"])
    assert torch.equal(found["blocks"], found["lora"])


def test_block_lora_of_one_block_is_lora():
    found = []
    for kind, params in (("lora", {}), ("block_lora", {"n_blocks": 1})):
        network = small()
        add_adapter(network, kind, rank=4, alpha=8, random_state=3, **params)
        train(network, torch.optim.Adam(adapter_param_groups(network, 0.01)), 20)
        found.append(merge_adapter(network)[0].weight.detach())
    assert torch.equal(*found)


def test_rates_and_decay():
    network = small()
    add_adapter(network, "block_lora", rank=4, n_blocks=2, train="2")
    groups = adapter_param_groups(network, 0.1, weight_decay=0.5)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in groups] == [
        (0.1, 0.5, 3),
        (0.2, 0.5, 1),
    ]
    add_adapter(network, "svfit", name="other")
    (group,) = adapter_param_groups(network, 0.1, weight_decay=0.5)
    assert group["weight_decay"] == 0
    with pytest.raises(ValueError, match="lr must be positive, got 0"):
        adapter_param_groups(network, 0)


# FLoRA.


def nested(core, factors, scale):
    """The simple version: multiply one axis after the other."""
    found = core
    for axis, U in enumerate(factors):
        found = torch.tensordot(found, U, dims=([0], [1]))  # the new axis goes to the end
        assert found.shape[-1] == len(U), axis
    return scale * found


@pytest.mark.parametrize(
    "shape, rank",
    [((6, 5), (3, 2)), ((6, 5, 3), (2, 3, 2)), ((6, 5, 3, 3), (3, 2, 2, 3)), ((4, 3, 2, 2, 2), 2)],
)
def test_flora_is_the_tucker_product(shape, rank):
    adapter = FLoRA(torch.zeros(shape, dtype=torch.float64), rank, random_state=0)
    with torch.no_grad():
        adapter.core.copy_(normal(*adapter.core.shape))
    factors = [getattr(adapter, f"factor_{axis}") for axis in range(len(shape))]
    change = adapter.delta()
    torch.testing.assert_close(change, nested(adapter.core, factors, adapter.scale))
    assert adapter.scale == (1.0 if len(shape) == 2 else 4.0)
    for axis, r in enumerate(adapter.ranks):
        unfolded = change.movedim(axis, 0).flatten(1)
        assert torch.linalg.matrix_rank(unfolded) <= r
    assert torch.linalg.matrix_rank(change.flatten(1)) <= adapter.effective_rank()
    expected = sum(d * r for d, r in zip(shape, adapter.ranks)) + math.prod(adapter.ranks)
    assert sum(p.numel() for p in adapter.parameters()) == expected
    # Turning a factor and turning the core back changes nothing.
    Q = orthogonal(adapter.ranks[0], 5)
    with torch.no_grad():
        adapter.factor_0.copy_(adapter.factor_0 @ Q)
        adapter.core.copy_(torch.tensordot(Q.T, adapter.core, dims=1))
    torch.testing.assert_close(adapter.delta(), change)


def test_flora_equals_tensorly():
    tensorly = pytest.importorskip("tensorly", reason="compares with tensorly")
    adapter = FLoRA(torch.zeros(6, 5, 3, 3), (3, 2, 2, 3), scale=1.0, random_state=0)
    with torch.no_grad():
        adapter.core.normal_(generator=torch.Generator().manual_seed(0))
    factors = [getattr(adapter, f"factor_{axis}").detach().numpy() for axis in range(4)]
    wanted = tensorly.tucker_to_tensor((adapter.core.detach().numpy(), factors))
    np.testing.assert_allclose(adapter.delta().detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_flora_with_an_identity_in_the_middle_is_lora():
    W = normal(6, 5)
    flora, lora = FLoRA(W, 3, random_state=0), LoRA(W, 3)
    with torch.no_grad():
        flora.core.copy_(torch.eye(3))
        lora.A.copy_(flora.factor_1.T)
        lora.B.copy_(flora.factor_0)
    torch.testing.assert_close(flora(W), lora(W))


def fit_change(adapter, target, steps, lr=0.03):
    optimizer = torch.optim.Adam(adapter.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (adapter.delta() - target).square().mean().backward()
        optimizer.step()
        schedule.step()
    return float((adapter.delta() - target).norm().detach() / target.norm())


@pytest.mark.parametrize("seed", range(2))
def test_flora_finds_a_planted_tucker_change(seed):
    """268 numbers find what 352 of a convolution's LoRA cannot hold: its claim of structure."""
    rank = (4, 4, 2, 2)
    planted = FLoRA(torch.zeros(32, 16, 3, 3, dtype=torch.float64), rank, random_state=100 + seed)
    with torch.no_grad():
        planted.core.copy_(normal(*rank, seed=seed))
    target = planted.delta().detach()
    target = target / target.square().mean().sqrt()
    W = torch.zeros_like(target)
    adapter, lora = FLoRA(W, rank, random_state=seed), LoRA(W, 2, random_state=seed)
    sizes = [sum(p.numel() for p in one.parameters()) for one in (adapter, lora)]
    assert sizes == [268, 352]
    assert fit_change(adapter, target, 1200) < 1e-3
    # LoRA's best is what two singular values leave.
    least = torch.linalg.svdvals(target.flatten(1))[lora.effective_rank() :].norm()
    assert least / target.norm() > 0.35


def test_flora_of_full_rank_holds_every_change():
    target = normal(5, 4, 2)
    adapter = FLoRA(torch.zeros_like(target), (5, 4, 2), random_state=0)
    assert fit_change(adapter, target, 1000) < 1e-3


# Networks.


def test_report():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    names = add_adapter(network, "svfit", targets="all", rank={"0": 2, "2": "energy"})
    assert names == ["0", "2"]
    report = parameter_report(network)
    rows = report["layers"]
    assert [row["name"] for row in rows] == ["0", "2"] and rows[0]["trainable"] == 2
    assert 0 < rows[0]["energy"] < 1 <= rows[1]["rank"] and rows[0]["shift"] == [0, 0]
    assert report["trainable"] == sum(row["trainable"] for row in rows)
    plain = sum(p.numel() for p in nn.Conv2d(3, 8, 3).parameters()) + 8 * 4 + 4
    assert report["total"] == plain + report["trainable"]


def test_shares_and_defaults_fit_every_layer():
    network = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 40), nn.Linear(40, 2))
    add_adapter(network, "lora", targets="all")
    assert [row["rank"] for row in parameter_report(network)["layers"]] == [3, 5, 2]
    add_adapter(network, "block_lora", targets="all", name="b")
    rows = [row for row in parameter_report(network)["layers"] if row["adapter"] == "b"]
    assert [row["rank"] for row in rows] == [1, 2, 1]
    add_adapter(network, "lora", targets="all", name="c", rank=0.5)
    rows = [row for row in parameter_report(network)["layers"] if row["adapter"] == "c"]
    assert [row["rank"] for row in rows] == [1, 2, 1]
