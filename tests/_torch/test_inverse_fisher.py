"""The inverse of the damped Fisher matrix: dense, by Cholesky, and by the paper's recursions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr._torch._inverse_fisher import GradientWindow, InverseFisher  # noqa: E402


def gradients(m=32, d=300, seed=0, dtype=np.float64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((m, d)).astype(dtype))


def dense(G, damping):
    G = G.double().numpy()
    return damping * np.eye(G.shape[1]) + G.T @ G / len(G)


def static_recursion(G, damping, x):
    """The paper's first algorithm; returns F^-1 x, the diagonal and the log determinant."""
    G, x = G.double().numpy(), x.numpy()
    m, d = G.shape
    v, q = np.empty_like(G), np.empty(m)
    for i, g in enumerate(G):
        v[i] = g / damping - v[:i].T @ ((v[:i] @ g) / q[:i])
        q[i] = m + g @ v[i]
    logdet = d * np.log(damping) + np.log(q / m).sum()
    return x / damping - v.T @ ((v @ x) / q), 1 / damping - (v**2 / q[:, None]).sum(0), logdet


def dynamic_recursion(G, damping, x):
    """The paper's second algorithm: an elimination without pivots."""
    G, x = G.double().numpy(), x.numpy()
    m = len(G)
    D = G @ G.T / damping
    for i in range(m - 1):
        D[i + 1 :, i + 1 :] -= np.outer(D[i, i + 1 :], D[i, i + 1 :]) / (m + D[i, i])
    D = np.triu(D)
    q = m + np.diag(D)
    B = np.eye(m) / damping
    for k in range(1, m):
        B[k, :k] = -(D[:k, k] / q[:k]) @ B[:k, :k]
    p = G @ x / damping
    for i in range(m):
        p[i + 1 :] -= D[i, i + 1 :] * p[i] / q[i]
    return x / damping - (p / q) @ B @ G


@pytest.mark.parametrize("damping, tol", [(1e-1, 1e-13), (1e-3, 1e-11), (1e-5, 2e-9)])
def test_dense_static_dynamic_and_cholesky_agree(damping, tol):
    """M-FAC: four ways to one inverse; what the least damping loses is F's condition."""
    G, x = gradients(), gradients(1, 300, seed=1)[0]
    F = dense(G, damping)
    inverse = InverseFisher(G, damping)
    window = GradientWindow(32, 300, damping=damping, dtype=torch.float64)
    for g in G:
        window.push(g)
    wanted = np.linalg.solve(F, x.numpy())
    scale = np.abs(wanted).max()
    static, diagonal, logdet = static_recursion(G, damping, x)
    for got in (inverse.solve(x), window.solve(x), static, dynamic_recursion(G, damping, x)):
        assert np.abs(np.asarray(got) - wanted).max() <= tol * scale
    of_dense = np.diag(np.linalg.inv(F))
    for got in (inverse.diagonal().numpy(), diagonal):
        assert np.abs(got - of_dense).max() <= tol * of_dense.max()
    for got in (inverse.logdet(), logdet):
        assert got == pytest.approx(np.linalg.slogdet(F)[1], rel=1e-11)
    rows, columns = torch.tensor([3, 7, 200]), torch.tensor([7, 8])
    assert_allclose(
        inverse.block(rows, columns),
        np.linalg.inv(F)[np.ix_(rows, columns)],
        atol=tol / damping,
    )


def test_float32_gradients_are_summed_in_float64():
    G, x = gradients(dtype=np.float32), gradients(1, 300, seed=1)[0]
    got = InverseFisher(G, 1e-3).solve(x)
    wanted = np.linalg.solve(dense(G, 1e-3), x.numpy())
    assert np.abs(got.numpy() - wanted).max() <= 5e-7 * np.abs(wanted).max()


def test_it_is_an_inverse_symmetric_positive_and_one_over_the_damping_beside_the_gradients():
    G = gradients()
    inverse = InverseFisher(G, 0.01)
    x, z = gradients(2, 300, seed=2)
    assert_allclose(inverse.matvec(inverse.solve(x)), x, atol=1e-10)
    assert float(x @ inverse.solve(z)) == pytest.approx(float(z @ inverse.solve(x)), rel=1e-10)
    assert float(x @ inverse.solve(x)) > 0
    both = torch.stack([x, z], dim=1)
    assert_allclose(inverse.solve(both)[:, 1], inverse.solve(z), rtol=1e-11)
    beside = x - torch.linalg.lstsq(G.T, x[:, None]).solution[:, 0] @ G
    assert_allclose(inverse.solve(beside), beside / 0.01, rtol=1e-7, atol=1e-8)
    diagonal = inverse.diagonal()
    assert (diagonal > 0).all() and (diagonal <= 100).all()


def test_closed_forms():
    g, x = gradients(2, 50)
    lam = 0.3
    one = InverseFisher(g[None], lam)
    assert_allclose(one.solve(x), x / lam - g * (g @ x) / (lam * (lam + g @ g)), rtol=1e-12)
    scalar = InverseFisher(torch.tensor([[2.0], [4.0]], dtype=torch.float64), 1.0)
    assert_allclose(scalar.solve(torch.tensor([11.0], dtype=torch.float64)), [1.0])
    far = InverseFisher(gradients(), 1e12).solve(gradients(1, 300)[0])
    assert_allclose(far * 1e12, gradients(1, 300)[0], atol=1e-9)


def test_order_and_repetition_change_nothing():
    G, x = gradients(), gradients(1, 300, seed=3)[0]
    wanted = InverseFisher(G, 0.1).solve(x)
    for other in (G.flip(0), torch.cat([G, G])):
        assert_allclose(InverseFisher(other, 0.1).solve(x), wanted, rtol=1e-9, atol=1e-11)


def test_window_is_the_last_gradients():
    stream, x = gradients(32 + 7), gradients(1, 300, seed=4)[0]
    window = GradientWindow(32, 300, damping=0.01, dtype=torch.float64)
    with pytest.raises(ValueError, match="no gradients"):
        window.solve(x)
    for g in stream:
        window.push(g)
    assert_allclose(window.solve(x), InverseFisher(stream[7:], 0.01).solve(x), rtol=1e-9, atol=1e-9)
    wanted = InverseFisher(stream[7:], 0.01).solve(stream[-1])
    assert_allclose(window.solve_last(), wanted, atol=1e-9 * float(wanted.abs().max()) + 1e-12)
    other = GradientWindow(32, 300, damping=0.01, dtype=torch.float64)
    other.load_state_dict(window.state_dict())
    for one in (window, other):
        one.push(x)
    assert torch.equal(window.solve_last(), other.solve_last())
    with pytest.raises(ValueError, match=r"the state holds \(32, 300\) for G"):
        GradientWindow(31, 300, damping=1.0).load_state_dict(window.state_dict())


@pytest.mark.parametrize("warmup, divisor", [("exact", 3), ("official", 8)])
def test_window_that_is_not_full(warmup, divisor):
    G, x = gradients(3, 20), gradients(1, 20, seed=1)[0]
    window = GradientWindow(8, 20, damping=0.5, warmup=warmup, dtype=torch.float64)
    for g in G:
        window.push(g)
    F = 0.5 * np.eye(20) + (G.T @ G).numpy() / divisor
    assert_allclose(window.solve(x), np.linalg.solve(F, x.numpy()), rtol=1e-10)


def test_window_of_one_is_the_formula_of_sherman_and_morrison():
    g = gradients(1, 40)[0]
    window = GradientWindow(1, 40, damping=0.2, dtype=torch.float64)
    window.push(g * 3)
    window.push(g)
    assert_allclose(window.solve_last(), g / (0.2 + g @ g), rtol=1e-12)


def test_damping_below_rounding_is_refused():
    G = gradients(1, 300).repeat(4, 1) * 1e3
    with pytest.raises(ValueError, match="damping=1e-30 is too small"):
        InverseFisher(G, 1e-30)
