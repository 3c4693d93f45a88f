"""Entropy, coherence and information of latents: known values, invariances, slow versions."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.nn import (  # noqa: E402
    effective_dimension,
    gaussian_latent_mutual_information,
    temporal_infonce,
    von_neumann_entropy,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def rotation(d):
    return torch.linalg.qr(normal(d, d, seed=9))[0]


def test_entropy_of_a_round_cloud_and_of_a_line():
    assert abs(von_neumann_entropy(normal(100_000, 5)) - math.log(5)) < 1e-3
    assert abs(effective_dimension(normal(100_000, 5)) - 5) < 5e-3
    line = normal(200, 1) * normal(1, 5, seed=1)
    assert 0 <= von_neumann_entropy(line) < 1e-9
    assert von_neumann_entropy(torch.ones(8, 3)) == 0 and effective_dimension(torch.ones(8, 3)) == 1


def test_entropy_depends_on_neither_rotation_shift_nor_scale():
    z = normal(60, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    wanted = von_neumann_entropy(z)
    for same in (z @ rotation(4), z + 1e6, 1e30 * z, 1e-30 * z, z.reshape(6, 10, 4)):
        torch.testing.assert_close(von_neumann_entropy(same), wanted, rtol=1e-8, atol=0)
    large = von_neumann_entropy((1e30 * z).float())  # single precision
    torch.testing.assert_close(large.double(), wanted, rtol=1e-5, atol=0)


def test_entropy_has_a_right_gradient_at_repeated_eigenvalues():
    square = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    square.requires_grad_()
    (gradient,) = torch.autograd.grad(von_neumann_entropy(square), square)
    assert float(gradient.abs().max()) < 1e-12  # the largest entropy there is
    z = normal(7, 3).requires_grad_()
    assert torch.autograd.gradcheck(von_neumann_entropy, z)
    flat = torch.ones(5, 3, requires_grad=True)
    assert bool(torch.autograd.grad(von_neumann_entropy(flat), flat)[0].isfinite().all())


def infonce_by_loop(z, k, temperature):
    losses = []
    for window in z:
        unit = window / window.norm(dim=1, keepdim=True)
        for n in range(k, len(window) - k):
            scores = {j: torch.exp(unit[n] @ unit[j] / temperature) for j in range(len(window))}
            near = sum(scores[j] for j in scores if 0 < abs(j - n) <= k)
            losses.append(torch.log(sum(scores[j] for j in scores if j != n) / near))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (3, 0.5), (2, 0.04)])
def test_temporal_infonce_is_the_loop(k, temperature):
    z = normal(4, 9, 3)
    found = temporal_infonce(z, k, temperature)
    torch.testing.assert_close(found, infonce_by_loop(z, k, temperature), rtol=1e-10, atol=0)
    assert found >= 0


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 1e38])
def test_temporal_infonce_is_finite_at_any_temperature_and_size(size):
    for temperature in (1e-3, 0.049, 0.051, 0.07):
        z = normal(2, 9, 3, dtype=torch.float32).clamp(-3, 3) * size
        z = z.requires_grad_()
        loss = temporal_infonce(z, 2, temperature)
        loss.backward()
        assert loss.isfinite() and loss > 0
        assert z.grad.isfinite().all() or size < 1e-38  # its gradient goes as one over the size


def test_temporal_infonce_sees_directions_only():
    z = normal(4, 9, 3)
    lengths = normal(4, 9, 1, seed=2).exp()
    for same in (z @ rotation(3), lengths * z):
        torch.testing.assert_close(temporal_infonce(same), temporal_infonce(z), rtol=1e-9, atol=0)
    still = temporal_infonce(torch.ones(2, 17, 4, dtype=torch.float64), n_neighbors=3)
    assert float(still) == pytest.approx(math.log(16 / 6), abs=1e-6)


def test_gaussian_information_is_that_of_the_joint_distribution():
    K, root, noise_root = 0.4 * normal(3, 3), normal(3, 3, seed=1), normal(3, 3, seed=2)
    C, noise = root @ root.mT, noise_root @ noise_root.mT + 0.1 * torch.eye(3)
    values = []
    for n in (1, 2, 5):
        power = torch.linalg.matrix_power(K, n)
        added = sum(
            torch.linalg.matrix_power(K, i) @ noise @ torch.linalg.matrix_power(K, i).mT
            for i in range(n)
        )
        later = power @ C @ power.mT + added
        joint = torch.cat([torch.cat([C, C @ power.mT], 1), torch.cat([power @ C, later], 1)])
        wanted = (C.logdet() + later.logdet() - joint.logdet()) / 2
        values.append(gaussian_latent_mutual_information(K, C, noise, n))
        torch.testing.assert_close(values[-1], wanted, rtol=1e-8, atol=1e-10)
    assert values[0] > values[1] > values[2] > 0


def test_what_the_functions_refuse():
    with pytest.raises(ValueError, match="more than 2 . n_neighbors states.*windows of 6"):
        temporal_infonce(normal(2, 6, 3), 3)
    with pytest.raises(ValueError, match="temperature=0"):
        temporal_infonce(normal(2, 9, 3), 3, 0)
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        gaussian_latent_mutual_information(torch.eye(2), torch.eye(2), torch.eye(2), 0)
    with pytest.raises(ValueError, match="positive definite"):
        gaussian_latent_mutual_information(torch.eye(2), torch.eye(2), torch.zeros(2, 2))
