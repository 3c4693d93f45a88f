"""The doubly stochastic projection: its definition, its limits, POT's scaling of the kernel."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklr.transport import sinkhorn_projection


def scores(n=30, seed=0, symmetric=True):
    S = np.random.default_rng(seed).random((n, n))
    return (S + S.T) / 2 if symmetric else S


@pytest.mark.parametrize("eta", [1.0, 0.15, 0.03, 0.005])
@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_and_columns_sum_to_one(eta, symmetric):
    G = sinkhorn_projection(scores(symmetric=symmetric), eta)
    assert G.min() >= 0
    assert_allclose(G.sum(axis=0), 1, atol=1e-6)
    assert_allclose(G.sum(axis=1), 1, atol=1e-6)
    if symmetric:
        assert np.array_equal(G, G.T)


@pytest.mark.parametrize("eta", [0.5, 0.1])
def test_equals_pot_on_the_same_kernel(eta):
    ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'sklr[test]'")
    S = scores(symmetric=False)
    weights = np.full(len(S), 1 / len(S))
    wanted = len(S) * ot.sinkhorn(weights, weights, -S, eta, stopThr=1e-13, numItermax=10_000)
    assert_allclose(sinkhorn_projection(S, eta), wanted, atol=1e-8)


def test_large_eta_is_uniform_and_small_eta_an_assignment():
    S = scores()
    assert_allclose(sinkhorn_projection(S, 1e6), 1 / len(S), atol=1e-6)
    S = scores() / 4 + 0.6 * np.eye(30)
    assert_allclose(sinkhorn_projection(S, 0.01), np.eye(30), atol=1e-6)
    order = np.random.default_rng(1).permutation(30)
    assert_allclose(sinkhorn_projection(S[order], 0.01), np.eye(30)[order], atol=1e-6)


def test_constants_of_rows_and_columns_do_not_matter():
    S = scores(symmetric=False)
    rng = np.random.default_rng(2)
    moved = S + rng.random((30, 1)) + rng.random(30)
    assert_allclose(sinkhorn_projection(moved, 0.2), sinkhorn_projection(S, 0.2), atol=1e-7)


@pytest.mark.parametrize(
    "S, eta, message",
    [
        (np.ones((3, 2)), 0.1, "S must be square, got shape"),
        ([[1.0, np.inf], [0, 1]], 0.1, "S contains infinity"),
        (np.eye(3), 0.0, "eta must be a positive"),
        (np.eye(3), -1.0, "eta must be a positive"),
    ],
)
def test_bad_input(S, eta, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_projection(S, eta)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_scores_with_a_clear_assignment_reach_the_tolerance(n):
    # Sweeps alone need more than ten thousand here.
    S = np.random.default_rng(1).standard_normal((n, n))
    G = sinkhorn_projection(S, 0.05 * np.ptp(S))
    assert np.abs(G.sum(axis=0) - 1).sum() + np.abs(G.sum(axis=1) - 1).sum() < 1e-9 * n
