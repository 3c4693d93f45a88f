"""Laplacians, diffusion operators and the heat kernel, against closed forms."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import expm
from scipy.sparse.linalg import expm_multiply
from scipy.special import factorial, ive

from sklr.geometry import (
    diffusion_operator,
    diffusion_spectrum,
    graph_laplacian,
    heat_kernel,
    neighbors_graph,
)
from sklr.geometry._diffusion import chebyshev_order, check_affinity, hop_diameter

METHODS = ("chebyshev", "uniformization", "squaring", "exact")


def cycle(n):
    i = np.arange(n)
    A = sp.coo_array((np.ones(n), (i, (i + 1) % n)), shape=(n, n))
    return sp.csr_array(A + A.T)


def graph(n=80, seed=0, k=6):
    X = np.random.default_rng(seed).uniform(size=(n, 2))
    return neighbors_graph(X, k, decay=10.0)


@pytest.mark.parametrize("method", ["chebyshev", "uniformization", "squaring"])
@pytest.mark.parametrize("t", [0.5, 5.0, 40.0])
def test_long_cycle_is_a_bessel_function(method, t):
    """On the line H_t(d) = exp(-2t) I_d(2t), to a small relative error also where it is tiny."""
    n = 150
    H = heat_kernel(graph_laplacian(cycle(n)), t, method=method)
    d = np.arange(n // 3)
    expected = ive(d, 2 * t)
    far_around = ive(n - d, 2 * t)
    good = far_around < 1e-13 * expected
    assert good.sum() > 30
    assert_allclose(H[0, d][good], expected[good], rtol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_complete_graph_and_hypercube(method):
    n, t = 7, 0.3
    H = heat_kernel(graph_laplacian(np.ones((n, n))), t, method=method)
    far = (1 - np.exp(-n * t)) / n
    expected = np.full((n, n), far)
    np.fill_diagonal(expected, far + np.exp(-n * t))
    assert_allclose(H, expected, atol=1e-14)
    size = 5
    codes = np.arange(2**size)
    h = np.array([[bin(a ^ b).count("1") for a in codes] for b in codes])
    H = heat_kernel(graph_laplacian((h == 1).astype(float)), t, method=method)
    up, down = 1 + np.exp(-2 * t), 1 - np.exp(-2 * t)
    assert_allclose(H, 2.0**-size * up ** (size - h) * down**h, atol=2e-14)


@pytest.mark.parametrize("kind", ["combinatorial", "normalized"])
@pytest.mark.parametrize("t", [0.1, 3.0])
def test_methods_agree(kind, t):
    L = graph_laplacian(graph(), kind)
    wanted = expm(-t * L.toarray())
    for method in METHODS:
        H = heat_kernel(L, t, method=method)
        assert_allclose(H, wanted, atol=1e-11, err_msg=method)
    B = np.random.default_rng(1).standard_normal((80, 5))
    wanted = expm_multiply(-t * L.tocsc(), B)
    for method in ("chebyshev", "uniformization", "exact"):
        assert_allclose(heat_kernel(L, t, B, method=method), wanted, atol=1e-10, err_msg=method)
    # First order in 1 / n_steps: 400 steps leave half a percent of t L at most.
    euler = heat_kernel(L, t, method="euler", order=400)
    assert np.abs(euler - heat_kernel(L, t)).max() < 0.01


def test_tails_have_a_small_relative_error():
    """Uniformization and squaring agree in every entry, Chebyshev follows, eigh does not."""
    X = np.random.default_rng(0).uniform(size=(200, 1)) * [[40.0]]
    L = graph_laplacian(neighbors_graph(X, 5, decay=20.0))
    for t in (0.2, 2.0):
        slow = heat_kernel(L, t, method="uniformization")
        fast = heat_kernel(L, t, method="squaring")
        seen = slow > 1e-290
        assert slow[seen].min() < 1e-15
        assert_allclose(fast[seen], slow[seen], rtol=1e-12)
        cheb = heat_kernel(L, t)
        assert np.median(np.abs(cheb[seen] / slow[seen] - 1)) < 1e-11
        assert (cheb >= 0).all()
        exact = heat_kernel(L, t, method="exact")
        tiny = seen & (slow < 1e-20)
        assert np.median(np.abs(exact[tiny] / slow[tiny] - 1)) > 1


def test_properties_of_the_heat_kernel():
    L = graph_laplacian(graph())
    H = heat_kernel(L, np.array([0.5, 1.5, 2.0]), n_jobs=2)
    assert H.shape == (3, 80, 80)
    assert_allclose(H.sum(axis=2), 1.0, atol=1e-11)
    assert_allclose(H, H.transpose(0, 2, 1), atol=1e-14)
    assert_allclose(H[0] @ H[1], H[2], atol=1e-11)
    assert (H >= 0).all()
    values = np.linalg.eigvalsh(L.toarray())
    assert_allclose(np.trace(H[2]), np.exp(-2.0 * values).sum(), rtol=1e-10)
    W = graph()
    root = np.sqrt(W.sum(axis=1))
    assert_allclose(heat_kernel(graph_laplacian(W, "normalized"), 2.0) @ root, root, atol=1e-10)
    # Alone, together, and on any number of threads.
    assert_array_equal(H[2], heat_kernel(L, 2.0, order=chebyshev_order_of(L, 2.0)))


def chebyshev_order_of(L, t):
    return chebyshev_order(t * np.abs(L).sum(axis=1).max() / 2, hop_diameter(L))


def test_short_time_counts_hops():
    """H_ij h! / (t^h (W^h)_ij) tends to one: at short times heat sees edges, not lengths."""
    W = graph(40)
    t = 1e-7
    H = heat_kernel(graph_laplacian(W), t, method="uniformization")
    power, seen = np.eye(40), np.eye(40, dtype=bool)
    for h in range(1, 5):
        power = power @ W.toarray()
        at_h = (power > 1e-2) & ~seen
        seen |= power > 0
        assert at_h.any()
        assert_allclose(H[at_h] * factorial(h) / (t**h * power[at_h]), 1.0, rtol=1e-3)


def test_hop_diameter():
    assert hop_diameter(cycle(20)) == 10
    path = sp.csr_array(np.diag(np.ones(9), 1) + np.diag(np.ones(9), -1))
    assert hop_diameter(path) == 9
    two = sp.csr_array(sp.block_diag([path, cycle(6)]))
    assert hop_diameter(two) == 9


@pytest.mark.parametrize("sparse", [True, False])
def test_laplacians_equal_scipy(sparse):
    W = graph(30) if sparse else graph(30).toarray()
    dense = graph(30).toarray()
    degree = dense.sum(axis=1)
    for kind, wanted in {
        "combinatorial": sp.csgraph.laplacian(dense),
        "normalized": sp.csgraph.laplacian(dense, normed=True),
        "random_walk": np.eye(30) - dense / degree[:, None],
    }.items():
        L = graph_laplacian(W, kind)
        assert sp.issparse(L) == sparse
        assert_allclose(L.toarray() if sparse else L, wanted, atol=1e-14)
    with pytest.raises(ValueError, match="kind must be one of"):
        graph_laplacian(W, "signless")


def test_isolated_vertices_stay_where_they_are():
    W = sp.csr_array(sp.block_diag([cycle(5), np.zeros((2, 2))]))
    for kind in ("combinatorial", "normalized", "random_walk"):
        L = graph_laplacian(W, kind).toarray()
        assert not L[5:].any() and np.isfinite(L).all()
    H = heat_kernel(graph_laplacian(W), 1.0)
    assert_allclose(H[5:, 5:], np.eye(2), atol=1e-12)
    assert not H[:5, 5:].any()
    assert np.isfinite(diffusion_operator(W).toarray()).all()


def test_diffusion_operator_and_spectrum():
    W = graph(90)
    W = W + sp.eye_array(90)
    P = diffusion_operator(W, symmetric=False)
    assert_allclose(P.sum(axis=1), 1.0)
    S = diffusion_operator(W)
    wanted = np.sort(np.linalg.eigvals(P.toarray()).real)[::-1]
    assert_allclose(diffusion_spectrum(S), wanted, atol=1e-10)
    assert_allclose(diffusion_spectrum(S.toarray()), wanted, atol=1e-10)
    values, V = diffusion_spectrum(S, 5, return_vectors=True)
    assert_allclose(values, wanted[:5], atol=1e-9)
    assert_allclose(S @ V, V * values, atol=1e-8)
    dense = diffusion_operator(W.toarray(), anisotropy=0.5)
    assert_allclose(dense, diffusion_operator(W, anisotropy=0.5).toarray(), atol=1e-14)
    q = W.toarray().sum(axis=1)
    K = W.toarray() / np.sqrt(np.outer(q, q))
    d = K.sum(axis=1)
    assert_allclose(dense, K / np.sqrt(np.outer(d, d)), atol=1e-14)


def test_bad_input():
    L = graph_laplacian(graph(20))
    for bad in (0.0, -1.0, np.nan, [1.0, -2.0]):
        with pytest.raises(ValueError, match="t must be positive"):
            heat_kernel(L, bad)
    with pytest.raises(ValueError, match=r"B has shape \(3, 2\), expected \(20, n_columns\)"):
        heat_kernel(L, 1.0, np.ones((3, 2)))
    with pytest.raises(ValueError, match="method must be one of"):
        heat_kernel(L, 1.0, method="taylor")
    with pytest.raises(ValueError, match="order"):
        heat_kernel(L, 1.0, order=0)
    with pytest.raises(ValueError, match="takes no B"):
        heat_kernel(L, 1.0, np.ones((20, 1)), method="squaring")
    with pytest.raises(ValueError, match="without positive entries"):
        heat_kernel(np.array([[1.0, 0.5], [0.5, 1.0]]), 1.0, method="uniformization")
    with pytest.raises(ValueError, match="n_eigenvalues"):
        diffusion_spectrum(np.eye(3), 4)


@pytest.mark.parametrize(
    "matrix, message",
    [
        (np.ones((2, 3)), r"square matrix, got shape \(2, 3\)"),
        (np.array([[0.0, -1.0], [-1.0, 0.0]]), "non-negative"),
        (np.array([[0.0, 1.0], [2.0, 0.0]]), "symmetric"),
        (np.array([[0.0, np.nan], [np.nan, 0.0]]), "NaN"),
        (np.ones((2, 2), dtype=complex), "Complex"),
    ],
)
def test_bad_affinities(matrix, message):
    with pytest.raises(ValueError, match=message):
        check_affinity(matrix)
    with pytest.raises(ValueError, match=message):
        check_affinity(sp.csr_array(matrix))


def test_check_affinity_leaves_its_input_alone():
    given = np.array([[3.0, 1.0], [1.0, 2.0]])
    W = check_affinity(given)
    assert_array_equal(W.toarray(), [[0, 1], [1, 0]])
    assert given[0, 0] == 3.0


def test_very_long_times_lose_no_heat():
    W = sp.block_diag([graph(), graph()]).tolil()
    W[0, 80] = W[80, 0] = 1e-8  # a bridge that takes long to cross
    L = graph_laplacian(sp.csr_array(W))
    H = heat_kernel(L, 1e9)
    assert_allclose(H.sum(axis=1), 1.0, atol=2e-7)
    crossed = heat_kernel(L, 1e9, method="exact")
    assert crossed[0, 100] < 0.2 * crossed[0, 20]
    assert_allclose(H, crossed, rtol=1e-3)
