"""The Newton mean and tangent vectors, against pyRiemann and closed forms."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import logm
from sklearn.exceptions import ConvergenceWarning

from sklr.geometry import mean_riemann, tangent_space
from sklr.geometry._spd_mean import logs_at_fold_means


def spd(n=12, d=6, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    A = spread * rng.standard_normal((n, d, d))
    values, V = np.linalg.eigh(A + A.transpose(0, 2, 1))
    return (V * np.exp(values)[:, None]) @ V.transpose(0, 2, 1)


def gradient_norm(X, M, weights=None):
    values, V = np.linalg.eigh(M)
    root = (V / np.sqrt(values)) @ V.T
    logs = np.stack([logm(root @ x @ root) for x in X])
    return np.linalg.norm(np.average(logs, axis=0, weights=weights))


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0])
def test_gradient_vanishes_at_the_mean(spread):
    X = spd(spread=spread)
    assert gradient_norm(X, mean_riemann(X)) < 1e-7


def test_equals_pyriemann():
    from pyriemann.geometry.mean import mean_riemann as peer
    from pyriemann.geometry.tangentspace import tangent_space as peer_tangent_space

    X = spd(spread=0.3)
    weights = np.arange(1.0, 13.0)
    for sample_weight in (None, weights):
        expected = peer(X, sample_weight=sample_weight)
        assert_allclose(mean_riemann(X, sample_weight=sample_weight), expected, atol=1e-8)
    M = peer(X)
    assert_allclose(tangent_space(X, M), peer_tangent_space(X, M), atol=1e-11)


def test_two_matrices_give_their_geometric_mean():
    A, B = spd(n=2)
    half, inverse = (np.linalg.cholesky(A), np.linalg.inv(np.linalg.cholesky(A)))
    values, V = np.linalg.eigh(inverse @ B @ inverse.T)
    middle = half @ (V * np.sqrt(values)) @ V.T @ half.T
    assert_allclose(mean_riemann([A, B]), middle, rtol=1e-8, atol=1e-10)


def test_one_matrix_and_equal_matrices():
    A = spd(n=1)
    assert_allclose(mean_riemann(A), A[0], rtol=1e-10)
    assert_allclose(mean_riemann(np.repeat(A, 5, axis=0)), A[0], rtol=1e-10)


def test_invariances():
    X = spd(spread=0.5)
    M = mean_riemann(X)
    W = np.random.default_rng(1).standard_normal((6, 6))
    assert_allclose(mean_riemann(W @ X @ W.T), W @ M @ W.T, rtol=1e-6, atol=1e-8)
    assert_allclose(mean_riemann(np.linalg.inv(X)), np.linalg.inv(M), rtol=1e-6, atol=1e-8)
    assert_allclose(mean_riemann(X[::-1]), M, rtol=1e-7)


def test_weights_two_equal_repeated_rows_and_start_does_not_matter():
    X = spd(spread=0.4)
    weights = np.ones(12)
    weights[:3] = 2
    repeated = np.concatenate([X, X[:3]])
    assert_allclose(mean_riemann(X, sample_weight=weights), mean_riemann(repeated), rtol=1e-7)
    assert_allclose(mean_riemann(X, init=np.eye(6)), mean_riemann(X), rtol=1e-6, atol=1e-9)


def test_ill_conditioned_trials_converge():
    # Augmented covariances of band-passed signals reach condition numbers of 1e10.
    scale = np.logspace(0, -5, 6)
    X = spd(spread=0.4) * np.outer(scale, scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        M = mean_riemann(X)
    expected = mean_riemann(X / np.outer(scale, scale)) * np.outer(scale, scale)
    assert_allclose(M, expected, rtol=1e-6)


def test_not_converged_is_told_with_numbers():
    with pytest.warns(ConvergenceWarning, match=r"after 1 steps.*above tol=1e-12"):
        mean_riemann(spd(spread=1.0), tol=1e-12, max_iter=1)


def test_threads_do_not_change_the_result():
    X = spd(n=40, d=90, spread=0.02)  # large enough to be split
    assert_array_equal(mean_riemann(X, n_jobs=2), mean_riemann(X))
    M = mean_riemann(X)
    assert_array_equal(tangent_space(X, M, n_jobs=2), tangent_space(X, M))


@pytest.mark.parametrize("spread, tol", [(0.1, 1e-8), (0.5, 1e-8), (1.5, 1e-8), (0.3, 1e-4)])
def test_fold_logs_have_the_gram_matrix_of_tangent_vectors(spread, tol):
    X = spd(n=15, spread=spread)
    folds = [np.delete(np.arange(15), slice(i, i + 5)) for i in (0, 5, 10)]
    for fold, (logs, grad) in zip(folds, logs_at_fold_means(X, folds, tol=tol)):
        vectors = tangent_space(X, mean_riemann(X[fold]))
        expected = vectors @ vectors.T
        flat = logs.reshape(15, -1)
        assert grad <= tol
        # An error of tol in each tangent matrix.
        bound = 10 * tol * np.sqrt(np.abs(expected).max()) + 1e-9 * np.abs(expected).max()
        assert np.abs(flat @ flat.T - expected).max() < bound


@pytest.mark.parametrize(
    "X, message",
    [
        (np.ones((3, 3)), r"stack of square matrices, got shape \(3, 3\)"),
        (np.ones((2, 3, 4)), "square"),
        (np.full((2, 2, 2), np.nan), "NaN"),
        (np.ones((2, 2, 2), dtype=complex), "Complex"),
        (np.stack([np.diag([1.0, 1.0, -0.5])] * 2), "positive definite"),
        (np.stack([np.diag([1.0, 1.0, 0.0])] * 2), "constant"),
        (np.stack([np.eye(2), np.diag([1.0, -0.1])]), "Matrix 1.*positive definite"),
    ],
)
def test_bad_matrices(X, message):
    with pytest.raises(ValueError, match=message):
        mean_riemann(X)


def test_average_reference_is_told():
    trials = np.random.default_rng(0).standard_normal((6, 5, 200))
    trials -= trials.mean(axis=1, keepdims=True)
    X = trials @ trials.transpose(0, 2, 1) / 200
    with pytest.raises(ValueError, match="positive definite.*Average-referenced.*'oas'"):
        mean_riemann(X)


@pytest.mark.parametrize("weights", [np.ones(3), -np.ones(12), np.zeros(12), np.full(12, np.nan)])
def test_bad_weights(weights):
    with pytest.raises(ValueError, match="sample_weight"):
        mean_riemann(spd(), sample_weight=weights)


def test_bad_reference_and_init():
    with pytest.raises(ValueError, match=r"reference has shape \(3, 3\), expected \(6, 6\)"):
        tangent_space(spd(), np.eye(3))
    with pytest.raises(ValueError, match="The reference matrix .*not positive definite"):
        tangent_space(spd(), -np.eye(6))
    with pytest.raises(ValueError, match=r"init has shape \(3, 3\)"):
        mean_riemann(spd(), init=np.eye(3))


def test_a_reference_that_is_not_definite_is_refused_whatever_its_units():
    units = np.diag([1.0, 1e-9, 1e6])
    good = units @ np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]]) @ units
    vectors = tangent_space(good[None], good)
    np.testing.assert_allclose(vectors, 0.0, atol=1e-6)
    bad = units @ np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ units
    with np.errstate(all="raise"), pytest.raises(ValueError, match="reference"):
        tangent_space(good[None], bad)
    with np.errstate(all="raise"), pytest.raises(ValueError, match="reference"):
        tangent_space(good[None], -good)
