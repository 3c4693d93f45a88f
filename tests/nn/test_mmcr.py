"""Loss of maximum manifold capacity: bounds, invariances, gradient (float64 throughout)."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import MMCRLoss, mmcr_loss  # noqa: E402


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def close(got, wanted, tol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=got.dtype), rtol=tol, atol=tol)


def test_equals_the_nuclear_norm_of_the_centroids():
    z = draw(24, 5)
    unit = torch.nn.functional.normalize(z, dim=1)
    wanted = -torch.linalg.matrix_norm(unit.reshape(8, 3, 5).mean(1), ord="nuc")
    close(mmcr_loss(z, 3), wanted)
    close(MMCRLoss(3)(z), wanted)
    assert repr(MMCRLoss(3)) == "MMCRLoss(n_views=3, lmbda=0.0)"


@pytest.mark.parametrize("batch, d", [(4, 9), (9, 9), (12, 5), (1, 3)])
def test_bound_holds(batch, d):
    for seed in range(10):
        assert mmcr_loss(draw(batch * 2, d, seed=seed), 2) >= -math.sqrt(batch * min(batch, d))


def test_views_that_coincide_on_a_tight_frame_reach_the_bound():
    basis = torch.linalg.qr(draw(5, 5))[0]
    close(mmcr_loss(basis.repeat_interleave(3, dim=0), 3), -5.0)  # B <= D: minus B
    copies = basis.repeat(4, 1).repeat_interleave(3, dim=0)  # B = 4 D: minus D sqrt(4)
    close(mmcr_loss(copies, 3), -10.0)


def test_collapse_is_far_from_the_bound():
    close(mmcr_loss(torch.ones(8, 4, dtype=torch.float64), 2), -math.sqrt(4), 1e-9)


def test_rotation_order_and_scale_change_nothing():
    z = draw(24, 5)
    wanted = mmcr_loss(z, 4)
    close(mmcr_loss(z @ torch.linalg.qr(draw(5, 5, seed=1))[0], 4), wanted)
    close(mmcr_loss(z * (0.1 + draw(24, 1, seed=2).abs()), 4), wanted)
    stack = z.reshape(6, 4, 5)
    close(mmcr_loss(stack[torch.tensor([3, 0, 5, 1, 4, 2])].reshape(24, 5), 4), wanted)
    order = torch.stack([torch.randperm(4, generator=torch.Generator().manual_seed(k))
                         for k in range(6)])  # fmt: skip
    inside = torch.take_along_dim(stack, order[:, :, None], dim=1)
    close(mmcr_loss(inside.reshape(24, 5), 4), wanted)


def test_views_of_one_sample_are_adjacent():
    z = draw(6, 4)
    unit = torch.nn.functional.normalize(z, dim=1)
    wrong = -torch.linalg.matrix_norm(unit.reshape(2, 3, 4).mean(0), ord="nuc")
    assert abs(float(wrong - mmcr_loss(z, 2))) > 1e-3


def test_antipodal_views_contribute_nothing():
    z = draw(10, 5)
    pair = draw(1, 5, seed=3)
    close(mmcr_loss(torch.cat([z, pair, -pair]), 2), mmcr_loss(z, 2), 1e-9)


@pytest.mark.parametrize("batch, d", [(4, 6), (6, 4)])
def test_gradient(batch, d):
    z = draw(batch * 3, d).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: mmcr_loss(z, 3, 0.3), (z,))
    # The closed form: -U V' / K, projected off each row.
    mmcr_loss(z, 3).backward()
    norms = z.detach().norm(dim=1, keepdim=True)
    unit = z.detach() / norms
    u, _, vh = torch.linalg.svd(unit.reshape(batch, 3, d).mean(1), full_matrices=False)
    raw = -(u @ vh).repeat_interleave(3, dim=0) / 3
    wanted = (raw - (raw * unit).sum(1, keepdim=True) * unit) / norms
    close(z.grad, wanted, 1e-10)


def test_gradient_is_finite_where_all_singular_values_coincide():
    z = torch.eye(5, dtype=torch.float64).repeat_interleave(2, dim=0).requires_grad_()
    mmcr_loss(z, 2).backward()
    close(z.grad, torch.zeros(10, 5))  # it is the optimum


def test_second_term():
    one = torch.ones(4, 7, dtype=torch.float64)
    close(mmcr_loss(one, 4, lmbda=1.0) - mmcr_loss(one, 4), math.sqrt(4), 1e-9)
    orthonormal = torch.eye(4, 7, dtype=torch.float64)
    close(mmcr_loss(orthonormal, 4, lmbda=0.5) - mmcr_loss(orthonormal, 4), 0.5 * 4)
    two = torch.cat([one, orthonormal])
    close(mmcr_loss(two, 4, lmbda=1.0) - mmcr_loss(two, 4), (2 + 4) / 2, 1e-9)


def test_momentum_embeddings_are_averaged_and_have_no_gradient():
    z, slow = draw(6, 4).requires_grad_(), draw(6, 4, seed=1).requires_grad_()
    loss = mmcr_loss(z, 2, momentum_z=slow)
    unit = torch.nn.functional.normalize
    both = (unit(z, dim=1) + unit(slow, dim=1)).reshape(3, 2, 4).mean(1) / 2
    close(loss, -torch.linalg.matrix_norm(both, ord="nuc").detach())
    loss.backward()
    assert slow.grad is None and z.grad.abs().sum() > 0
    close(mmcr_loss(z, 2, momentum_z=z), mmcr_loss(z, 2).detach())
    assert torch.isfinite(MMCRLoss(1)(z, slow))  # one view each and the slow network's


def test_half_precision_is_computed_in_float32():
    z = draw(12, 4).to(torch.bfloat16)
    got = mmcr_loss(z, 3)
    assert got.dtype == torch.float32
    close(got, mmcr_loss(z.float(), 3))


def test_a_decomposition_that_does_not_converge_is_tried_again(monkeypatch):
    z, svdvals, calls = draw(12, 4), torch.linalg.svdvals, []

    def fails_once(matrices):
        calls.append(matrices)
        if len(calls) == 1:
            raise torch.linalg.LinAlgError("did not converge")
        return svdvals(matrices)

    wanted = mmcr_loss(z, 3)
    monkeypatch.setattr(torch.linalg, "svdvals", fails_once)
    close(mmcr_loss(z, 3), wanted, 1e-5)  # the nudge is 1e-6 of a unit row
    assert len(calls) == 2


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="n_views=3"):
        mmcr_loss(torch.ones(8, 4), 3)
    with pytest.raises(ValueError, match=r"got shape \(2, 2, 2\)"):
        mmcr_loss(torch.ones(2, 2, 2), 2)
    with pytest.raises(ValueError, match="momentum_z must have the shape of z"):
        mmcr_loss(torch.ones(4, 2), 2, momentum_z=torch.ones(4, 3))
    bad = torch.ones(4, 2)
    bad[1, 0] = float("nan")
    with pytest.raises(ValueError, match="z has entries that are not finite"):
        mmcr_loss(bad, 2)
    with pytest.raises(ValueError, match="momentum_z has entries that are not finite"):
        mmcr_loss(torch.ones(4, 2), 2, momentum_z=bad)
