"""Steps through the inverse Fisher matrix of the last gradients."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.nn.optim import MFAC  # noqa: E402


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_one_gradient_is_sherman_and_morrisons_formula():
    p = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = MFAC([p], lr=0.3, damping=0.7, n_gradients=1)
    at = torch.zeros(5).double()
    for t in range(3):
        g = normal(5, seed=t)
        p.grad = g.clone()
        optimizer.step()
        at -= 0.3 * g / (0.7 + g @ g)
        torch.testing.assert_close(p.detach(), at, rtol=0, atol=1e-12)


@pytest.mark.parametrize("warmup", ["exact", "official"])
def test_steps_are_those_of_the_dense_inverse_of_a_sliding_window(warmup):
    lam, m, mu, decay = 0.1, 4, 0.6, 0.2
    a, b = nn.Parameter(normal(2, 3)), nn.Parameter(normal(4, seed=1))
    w, v = torch.cat([a.detach().reshape(-1), b.detach()]), torch.zeros(10).double()
    optimizer = MFAC(
        [a, b], lr=0.05, damping=lam, n_gradients=m, momentum=mu, weight_decay=decay, warmup=warmup
    )
    seen = []
    for t in range(m + 7):
        g = normal(10, seed=10 + t)
        a.grad, b.grad = g[:6].reshape(2, 3), g[6:]
        optimizer.step()
        g = g + decay * w
        seen = [*seen, g][-m:]
        G = torch.stack(seen)
        n = len(seen) if warmup == "exact" else m
        u = torch.linalg.solve(lam * torch.eye(10).double() + G.T @ G / n, g)
        v = mu * v + (1 - mu) * u
        w = w - 0.05 * v
        found = torch.cat([a.detach().reshape(-1), b.detach()])
        torch.testing.assert_close(found, w, rtol=0, atol=1e-10)


def test_large_damping_is_gradient_descent():
    p = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = MFAC([p], lr=1e9, damping=1e9, n_gradients=3)
    total = torch.zeros(6).double()
    for t in range(5):
        p.grad = normal(6, seed=t)
        total += p.grad
        optimizer.step()
    torch.testing.assert_close(-p.detach(), total, rtol=1e-7, atol=1e-7)


def test_steps_are_clipped_over_all_groups():
    a, b = nn.Parameter(torch.zeros(3).double()), nn.Parameter(torch.zeros(2).double())
    optimizer = MFAC(
        [{"params": [a]}, {"params": [b], "clip": None}], lr=1.0, damping=1e-3, clip=0.5
    )
    a.grad, b.grad = torch.full((3,), 1e-3).double(), torch.full((2,), 1e-3).double()
    optimizer.step()
    u = 1e-3 / (1e-3 + 5e-6)  # of each parameter
    norm = u * 5**0.5
    torch.testing.assert_close(a.detach(), torch.full((3,), -u * 0.5 / norm).double())
    torch.testing.assert_close(b.detach(), torch.full((2,), -u).double())


def test_a_later_group_counts_as_if_it_had_been_frozen():
    found = []
    for late in (False, True):
        a = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        b = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = MFAC([a], lr=0.1, damping=0.1, n_gradients=3)
        if not late:
            optimizer.add_param_group({"params": [b]})
        for t in range(4):
            if late and t == 2:
                optimizer.add_param_group({"params": [b]})
            a.grad, b.grad = normal(3, seed=t), normal(2, seed=20 + t) if t >= 2 else None
            optimizer.step()
        found.append(torch.cat([a.detach(), b.detach()]))
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)
    assert found[0][3:].all()


def test_the_window_is_one_for_all_groups():
    a, b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match=r"damping is one for all groups: 1e-05 in the first, 0.1"):
        MFAC([{"params": [a]}, {"params": [b], "damping": 0.1}])
    with pytest.raises(ValueError, match="takes .* GiB.*n_gradients"):
        big = MFAC([nn.Parameter(torch.empty(2**20, 2**10, device="meta"))], n_gradients=10**6)
        big._window()
