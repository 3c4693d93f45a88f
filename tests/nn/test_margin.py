"""The margin loss and its choice of negatives, against loops (float64 throughout)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import MarginLoss  # noqa: E402


def nearest(**options):
    return MarginLoss(**options, mining="nearest")


def draw(n, d, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.standard_normal((n, d))), torch.tensor(rng.integers(0, n_classes, n))


def by_loops(z, labels, margin=0.2, beta=1.2, cutoff=0.5):
    z = np.asarray(z) / np.linalg.norm(z, axis=1, keepdims=True)
    n = len(z)
    d = np.sqrt(((z[:, None] - z[None]) ** 2).sum(axis=2) + 1e-8)
    partners = [[j for j in range(n) if j != i and labels[j] == labels[i]] for i in range(n)]
    number = max(1, sum(map(len, partners)) // n)
    terms = []
    for i in range(n):
        terms += [max(0.0, d[i, j] - beta + margin) for j in partners[i]]
        others = [j for j in range(n) if labels[j] != labels[i] and d[i, j] >= cutoff]
        others.sort(key=lambda j: d[i, j])
        terms += [max(0.0, beta + margin - d[i, j]) for j in others[:number]]
    active = sum(term > 0 for term in terms)
    return sum(terms) / max(1, active)


@pytest.mark.parametrize(
    "n, d, n_classes", [(24, 3, 4), (30, 8, 2), (9, 2, 9), (12, 2, 1), (1, 3, 1)]
)
@pytest.mark.parametrize("options", [{}, {"margin": 0.5, "beta": 0.9, "cutoff": 1.0}])
def test_equals_the_loops(n, d, n_classes, options):
    z, labels = draw(n, d, n_classes)
    found = nearest(**options)(z, labels)
    assert float(found) == pytest.approx(by_loops(z, labels.tolist(), **options), abs=1e-9)
    single = nearest(**options)(z.float(), labels)
    assert float(single) == pytest.approx(float(found), abs=1e-5)


def test_zero_where_all_pairs_are_on_their_side():
    """Partners nearer than beta - margin, all others farther than beta + margin."""
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    z = torch.eye(3, dtype=torch.float64)[labels]
    z = z + 0.01 * draw(6, 3, 1)[0]
    for mining in ("nearest", "distance_weighted"):
        assert float(MarginLoss(mining=mining, beta=1.1)(z, labels)) == 0.0
    assert float(nearest(beta=1.1)(z, labels[torch.tensor([0, 2, 1, 3, 4, 5])])) > 0.1


def test_order_lengths_and_rotation_change_nothing():
    z, labels = draw(20, 5, 4)
    wanted = nearest()(z, labels)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nearest()(z[order], labels[order]), wanted)
    lengths = 10.0 ** draw(20, 1, 1, seed=2)[0]
    torch.testing.assert_close(nearest()(lengths * z, labels), wanted)
    rotation = torch.linalg.qr(draw(5, 5, 1, seed=1)[0])[0]
    torch.testing.assert_close(nearest()(z @ rotation, labels), wanted)
    torch.testing.assert_close(nearest()(z, 7 - 3 * labels), wanted)


def test_gradient():
    z, labels = draw(12, 4, 3)
    assert torch.autograd.gradcheck(lambda z: nearest()(z, labels), (z.requires_grad_(),))


def test_samples_that_coincide_have_a_finite_gradient():
    z = torch.ones(6, 3, requires_grad=True)
    nearest(cutoff=0.0)(z, torch.tensor([0, 0, 0, 1, 1, 1])).backward()
    assert bool(z.grad.isfinite().all())
    # Nearer than the cutoff they are left out.
    assert float(nearest()(torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]))) == 0.0


def test_draws_of_negatives_make_distances_as_likely():
    """Of many others at all distances on a circle, the near ones come as often as the far ones."""
    angles = torch.linspace(0.6, 1.4, 400, dtype=torch.float64)
    others = torch.stack([angles.cos(), angles.sin()], dim=1)
    distances = (2 - 2 * angles.cos()).sqrt()
    z = torch.cat([torch.tensor([[1.0, 0.0]] * 41, dtype=torch.float64), others])
    labels = torch.cat([torch.zeros(41), torch.arange(1, 401)]).long()
    loss = MarginLoss(mining="distance_weighted")
    same = labels[:, None] == labels
    everything = (2 - 2 * z @ z.mT).clamp_min(0).sqrt()
    positive = same & ~torch.eye(len(z), dtype=torch.bool)
    torch.manual_seed(0)
    chosen = [loss._chosen(everything, same, positive, 2)[:41, 41:] for _ in range(20)]
    drawn = torch.stack(chosen).float()
    assert set(drawn.sum(dim=2).unique().tolist()) == {float(41 * 40 // 441)}
    counts = drawn.sum(dim=(0, 1))
    middle = float(distances.median())
    # On a circle points are denser where distances are near: each distance has the same weight.
    weight = 1 / (1 / (1 - distances**2 / 4).sqrt())
    share = float(weight[distances < middle].sum() / weight.sum())
    assert float(counts[distances < middle].sum() / counts.sum()) == pytest.approx(share, abs=0.04)


def test_draws_are_among_those_that_cost_and_near_ones_are_as_at_the_cutoff():
    """Each anchor gets as many as there are partners on average, or none at all."""
    z, labels = draw(30, 3, 3, seed=4)
    z = torch.nn.functional.normalize(z, dim=1)
    d = (2 - 2 * z @ z.mT).clamp_min(0).add(1e-8).sqrt()
    same = labels[:, None] == labels
    positive = same & ~torch.eye(30, dtype=torch.bool)
    loss = MarginLoss()
    chosen = loss._chosen(d, same, positive, 3)
    assert not bool(chosen[same | (d >= 1.4)].any())
    some = (~same & (d < 1.4)).any(1)
    assert torch.equal(chosen.sum(1), some * (positive.sum() // 30).double())
    near = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 0]] + 1e-3 * draw(4, 2, 1)[0]
    assert float(loss(near, torch.tensor([0, 0, 1, 1]))) > 1.3  # nothing is left out


def test_half_precision_and_autocast_are_computed_in_float32():
    z, labels = draw(16, 4, 4)
    wanted = nearest()(z.float(), labels)
    assert nearest()(z.half(), labels).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nearest()(z.float(), labels), wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"margin": -0.1}, "margin must be a finite number of at least 0, got -0.1"),
        ({"beta": float("nan")}, "beta must be a finite"),
        ({"cutoff": float("inf")}, "cutoff must be a finite"),
        ({"mining": "hard"}, "mining must be one of distance_weighted, nearest, got 'hard'"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        MarginLoss(**options)


def test_wrong_input():
    z, labels = draw(6, 3, 2)
    with pytest.raises(
        ValueError, match=r"labels of shape \(n_samples,\), got \(6, 3\) and \(5,\)"
    ):
        nearest()(z, labels[:5])
    with pytest.raises(ValueError, match="z must be of shape"):
        nearest()(z[0], labels)
    z[2, 1] = torch.nan
    with pytest.raises(ValueError, match="z has entries that are not finite"):
        nearest()(z, labels)
    assert "mining='distance_weighted'" in repr(MarginLoss())
