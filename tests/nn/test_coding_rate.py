"""Differentiable coding rates against the NumPy ones; Sinkhorn half steps against convergence."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.metrics import coding_rate as array_coding_rate  # noqa: E402
from sklr.metrics import rate_reduction  # noqa: E402
from sklr.nn import (  # noqa: E402
    ManifoldLinearizingLoss,
    coding_rate,
    compressed_coding_rate,
    doubly_stochastic,
)
from sklr.transport import sinkhorn_projection  # noqa: E402


def unit(n, d, seed=0):
    z = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(z, dim=1)


@pytest.mark.parametrize("n, d", [(20, 5), (5, 20), (1, 4)])
def test_rates_equal_those_of_arrays(n, d):
    z = unit(n, d)
    assert_allclose(float(coding_rate(z, 0.2)), array_coding_rate(z.numpy(), 0.2), rtol=1e-12)
    shares = torch.softmax(3 * unit(n, 4, seed=1), dim=1)
    got = float(coding_rate(z, 0.2) - compressed_coding_rate(z, shares, 0.2))
    assert_allclose(got, rate_reduction(z.numpy(), shares.numpy(), 0.2), rtol=1e-9, atol=1e-12)


def test_sampled_columns_are_unbiased():
    z, shares = unit(12, 3), torch.softmax(4 * unit(12, 6, seed=1), dim=1)
    generator = torch.Generator().manual_seed(0)
    drawn = [
        float(compressed_coding_rate(z, shares, max_columns=2, generator=generator))
        for _ in range(2000)
    ]
    whole = float(compressed_coding_rate(z, shares))
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert 0 < error < 0.05 * whole
    assert abs(np.mean(drawn) - whole) < 4 * error
    assert_allclose(float(compressed_coding_rate(z, shares, max_columns=6)), whole, rtol=1e-14)


def test_half_steps_converge_to_the_projection():
    codes = unit(15, 4)
    scores = (codes @ codes.T).abs().numpy()
    for eta in (0.5, 0.15):
        got = doubly_stochastic(codes, eta, 2001).numpy()
        assert_allclose(got, sinkhorn_projection(scores, eta, tol=1e-12), atol=1e-8)
    for steps in (1, 2, 5):
        assert_allclose(doubly_stochastic(codes, 0.15, steps).sum(dim=1).numpy(), 1, rtol=1e-12)
    assert_allclose(doubly_stochastic(codes, 1e6).numpy(), 1 / 15, rtol=1e-5)
    assert_allclose(doubly_stochastic(codes, 1e-3).numpy(), np.eye(15), atol=1e-6)
    # The sign of a code says nothing: a subspace has both.
    signs = torch.tensor([1.0, -1.0] * 7 + [1.0], dtype=torch.float64)[:, None]
    assert_allclose(doubly_stochastic(signs * codes).numpy(), doubly_stochastic(codes).numpy())


def test_gradients():
    z, codes = unit(8, 3).requires_grad_(), unit(8, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: coding_rate(z, 0.3), (z,))
    shares = torch.softmax(unit(8, 8, seed=2), dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, s: compressed_coding_rate(z, s, 0.3), (z, shares))
    # One half step has no column potential, from which no gradient flows by design.
    loss = ManifoldLinearizingLoss(n_sinkhorn=1)
    assert torch.autograd.gradcheck(lambda z, c: loss(z, c), (z, codes))


def test_loss_is_its_formula_and_draws_columns():
    z, codes = unit(10, 3), unit(10, 4, seed=1)
    loss = ManifoldLinearizingLoss(eps=0.2, eta=0.3, gamma=0.7, mu=0.5)
    share = doubly_stochastic(codes, 0.3, 5)
    wanted = (
        0.7 * compressed_coding_rate(z, share, 0.2)
        - coding_rate(z, 0.2)
        + 0.25 * share.square().sum()
    )
    assert_allclose(float(loss(z, codes)), float(wanted), rtol=1e-12)
    few = ManifoldLinearizingLoss(max_column_samples=3)
    one, same, other = (
        float(few(z, codes, torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
    )
    assert one == same != other


def test_orthogonal_subspaces_beat_one_subspace():
    loss = ManifoldLinearizingLoss(mu=0.0)
    apart = torch.eye(4).repeat(4, 1)[:, [0, 1, 2, 3]]
    labels = torch.tensor([0, 0, 1, 1]).repeat(4)
    codes = torch.eye(2)[labels]
    together = apart.clone()
    together[labels == 1] = together[labels == 1][:, [2, 3, 0, 1]]
    assert loss(apart, codes) < loss(together, codes)


def test_half_precision_is_computed_in_float32():
    z = unit(6, 3).to(torch.bfloat16)
    assert coding_rate(z).dtype == torch.float32
    assert ManifoldLinearizingLoss()(z, z).dtype == torch.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: compressed_coding_rate(unit(4, 2), torch.ones(3, 2)), "each of the 4 rows"),
        (lambda: doubly_stochastic(unit(4, 2), 0.0), "eta=0.0"),
        (lambda: doubly_stochastic(unit(4, 2), 0.1, 0), "n_sinkhorn=0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("mixed", [False, True])
def test_tensors_may_be_given_by_name(mixed):
    z, shares = unit(6, 4).float(), torch.full((6, 2), 0.5)
    wanted = coding_rate(z, 0.2), compressed_coding_rate(z, shares), doubly_stochastic(z)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        found = (
            coding_rate(eps=0.2, z=z),
            compressed_coding_rate(membership=shares, z=z),
            doubly_stochastic(codes=z),
        )
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(TypeError, match="'z'"):
        coding_rate()
