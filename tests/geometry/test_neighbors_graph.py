"""Nearest neighbours, affinities and joined components, against plain NumPy."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from sklr.geometry import (
    anisotropic_affinity,
    join_components,
    nearest_neighbors,
    neighbors_graph,
)


def cloud(n=60, p=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, p))


def plain_alpha(X, k, decay, threshold=1e-4):
    D = cdist(X, X)
    eps = np.sort(D, axis=1)[:, k]
    K = np.exp(-((D / eps[:, None]) ** decay))
    K[K < threshold] = 0
    W = 0.5 * (K + K.T)
    np.fill_diagonal(W, 0)
    return W


def test_nearest_neighbors_equal_sorted_distances():
    X = cloud(p=20)  # many features: scikit-learn's brute force, which expands the square
    D = cdist(X, X)
    distances, indices = nearest_neighbors(X, 5)
    assert_allclose(distances, np.sort(D, axis=1)[:, 1:6], rtol=1e-12)
    assert_array_equal(indices, np.argsort(D, axis=1)[:, 1:6])
    distances, indices = nearest_neighbors(X[10:], 3, queries=X[:10])
    assert_allclose(distances, np.sort(D[:10, 10:], axis=1)[:, :3], rtol=1e-12)
    distances, indices = nearest_neighbors(D, 5, metric="precomputed")
    assert_allclose(distances, np.sort(D, axis=1)[:, 1:6])


@pytest.mark.slow  # pynndescent compiles for more than a minute
def test_approximate_neighbors_are_nearly_the_exact_ones():
    pytest.importorskip("pynndescent", reason="the extra 'neighbors' is not installed")
    X = cloud(400, 5)
    _, exact = nearest_neighbors(X, 10)
    distances, found = nearest_neighbors(X, 10, algorithm="approximate", random_state=0)
    shared = [len(set(a) & set(b)) for a, b in zip(exact, found)]
    assert np.mean(shared) > 9.5
    assert (found != np.arange(400)[:, None]).all()
    assert_allclose(distances, np.linalg.norm(X[found] - X[:, None], axis=2))
    assert_array_equal(
        found, nearest_neighbors(X, 10, algorithm="approximate", random_state=0, n_jobs=2)[1]
    )


@pytest.mark.parametrize("decay", [2.0, 10.0, 40.0])
def test_alpha_kernel_equals_dense_formula(decay):
    X = cloud()
    W = neighbors_graph(X, 6, decay=decay)
    assert_allclose(W.toarray(), plain_alpha(X, 6, decay), atol=1e-12)
    D = cdist(X, X)
    again = neighbors_graph(D, 6, decay=decay, metric="precomputed")
    assert_allclose(again.toarray(), W.toarray(), atol=1e-12)


def test_pair_kernels():
    X = cloud()
    D = cdist(X, X)
    eps = np.sort(D, axis=1)[:, 4]
    near = D <= eps[:, None]
    near = near | near.T
    np.fill_diagonal(near, False)
    expected = {
        "binary": near.astype(float),
        "gaussian": near * np.exp(-0.5 * (D / np.median(eps)) ** 2),
        "adaptive": near * np.exp(-(D**2) / np.outer(eps, eps)),
    }
    for kernel, wanted in expected.items():
        W = neighbors_graph(X, 4, kernel=kernel)
        assert_allclose(W.toarray(), wanted, atol=1e-12, err_msg=kernel)
    W = neighbors_graph(X, 4, kernel="gaussian", bandwidth=0.7)
    assert_allclose(W.toarray(), near * np.exp(-0.5 * (D / 0.7) ** 2), atol=1e-12)


@pytest.mark.parametrize("kernel", ["alpha", "binary", "gaussian", "adaptive"])
def test_invariances(kernel):
    X = cloud()
    W = neighbors_graph(X, 5, kernel=kernel, anisotropy=0.5).toarray()
    assert_array_equal(W, W.T)
    assert (W >= 0).all() and not W.diagonal().any()
    order = np.random.default_rng(1).permutation(60)
    again = neighbors_graph(X[order], 5, kernel=kernel, anisotropy=0.5).toarray()
    assert_allclose(again, W[np.ix_(order, order)], rtol=1e-9, atol=1e-12)
    Q = np.linalg.qr(cloud(3))[0]
    again = neighbors_graph(7 * X @ Q + 3, 5, kernel=kernel, anisotropy=0.5).toarray()
    assert_allclose(again, W, rtol=1e-9, atol=1e-12)


def test_duplicates_have_a_finite_scale():
    X = np.repeat(cloud(10), 8, axis=0)
    for kernel in ("alpha", "adaptive", "gaussian"):
        W = neighbors_graph(X, 5, kernel=kernel)
        assert np.isfinite(W.data).all()
    assert neighbors_graph(np.zeros((6, 2)), 3).sum() > 0


def test_anisotropy_divides_by_densities():
    W = neighbors_graph(cloud(), 5)
    q = W.toarray().sum(axis=1)
    expected = W.toarray() / np.outer(q, q) ** 0.3
    assert_allclose(anisotropic_affinity(W, 0.3).toarray(), expected, atol=1e-14)
    assert_allclose(anisotropic_affinity(W.toarray(), 0.3), expected, atol=1e-14)


def test_components_are_joined_by_the_nearest_pair():
    X = np.concatenate([cloud(20, 2), cloud(15, 2, 1) + 20, cloud(10, 2, 2) + [0, 60]])
    W = neighbors_graph(X, 4)
    joined, labels = join_components(W, X)
    assert len(np.unique(labels)) == 3
    added = sp.coo_array(joined - W)
    assert added.nnz == 4
    assert sp.csgraph.connected_components(joined)[0] == 1
    D = cdist(X, X)
    pairs = {tuple(sorted(pair)) for pair in zip(*added.coords)}
    third, second = np.arange(35, 45), np.arange(20, 35)
    best = np.unravel_index(D[np.ix_(third, np.arange(35))].argmin(), (10, 35))
    assert (best[1], 35 + best[0]) in pairs
    best = np.unravel_index(D[np.ix_(second, np.r_[:20, 35:45])].argmin(), (15, 30))
    assert tuple(sorted((np.r_[:20, 35:45][best[1]], 20 + best[0]))) in pairs
    # The longer a bridge, the weaker it is.
    lengths = D[added.coords]
    assert added.data[lengths.argmax()] < added.data[lengths.argmin()] < np.median(W.data)
    # From distances alone the same pairs are found.
    again, _ = join_components(W, D, metric="precomputed")
    assert_allclose(again.toarray(), joined.toarray())


def test_joining_without_points_and_without_need():
    W = sp.csr_array(sp.block_diag([np.ones((3, 3)) - np.eye(3), [[0, 2], [2, 0]], [[0]]]))
    joined, labels = join_components(W)
    assert sp.csgraph.connected_components(joined)[0] == 1
    assert_array_equal(labels, [0, 0, 0, 1, 1, 2])
    assert join_components(joined)[0] is joined


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"kernel": "cosine"}, "kernel must be one of"),
        ({"decay": 0.0}, "decay"),
        ({"threshold": 0.0}, "threshold"),
        ({"bandwidth": -1.0}, "bandwidth"),
        ({"anisotropy": 2.0}, "anisotropy must be between 0 and 1"),
        ({"algorithm": "fast"}, "algorithm"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        neighbors_graph(cloud(), **options)
    with pytest.raises(TypeError, match="n_neighbors must be an integer"):
        neighbors_graph(cloud(), 2.5)


def test_more_neighbours_than_points_are_clipped_with_a_warning():
    with pytest.warns(UserWarning, match="n_neighbors=60 .* all 59 others"):
        W = neighbors_graph(cloud(), 60, kernel="binary")
    assert W.nnz == 60 * 59
