"""Bures-Wasserstein functions, against closed forms, pyRiemann and the formulas as written."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from sklearn.exceptions import ConvergenceWarning

from sklr.geometry import bw_distance, bw_exp, bw_geodesic, bw_log, bw_mean, bw_transport


def spd(n=8, d=5, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, d, 3 * d))
    return A @ A.transpose(0, 2, 1) / (3 * d)


def symmetric(n, d, seed, size=0.1):
    A = np.random.default_rng(seed).standard_normal((n, d, d))
    return size * (A + A.transpose(0, 2, 1))


def root(A):
    return np.real(sqrtm(A))


def log_as_written(Q, P):
    half = root(P)
    C = half @ root(half @ Q @ half) @ np.linalg.inv(half)
    return C + C.T - 2 * P


METRIC, POWER = spd(1, seed=7)[0], 0.6
SETTINGS = [{}, {"metric": METRIC}, {"power": POWER}, {"metric": METRIC, "power": 1.7}]


def inner(V, W, P, metric=None, power=1.0):
    """Inner product of the generalised, deformed metric, from its definition."""
    half = np.eye(len(P)) if metric is None else np.linalg.inv(root(metric))

    def coordinates(X):
        values, vectors = np.linalg.eigh(X)
        return half @ (vectors * values**power) @ vectors.T @ half

    h = 1e-5
    dV, dW = ((coordinates(P + h * D) - coordinates(P - h * D)) / (2 * h) for D in (V, W))
    p, U = np.linalg.eigh(coordinates(P))
    L = U @ ((U.T @ dV @ U) / (p[:, None] + p)) @ U.T
    return 0.5 * np.trace(L @ dW) / power**2


def test_equals_pyriemann():
    from pyriemann.geometry.distance import distance_wasserstein
    from pyriemann.geometry.mean import mean_wasserstein

    X = spd()
    assert_allclose(bw_distance(X, X[0])[1:], distance_wasserstein(X[1:], X[0]), rtol=1e-10)
    weights = np.arange(1.0, 9.0)
    for w in (None, weights):
        peer = mean_wasserstein(X, tol=1e-12, sample_weight=w)
        assert_allclose(bw_mean(X, sample_weight=w), peer, atol=1e-10)


def test_log_and_exp_are_the_formulas():
    X, P = spd(3), spd(1, seed=3)[0]
    V = bw_log(X, P)
    for v, x in zip(V, X):
        assert_allclose(v, log_as_written(x, P), atol=1e-12)
    p, U = np.linalg.eigh(P)
    L = U @ ((U.T @ V[0] @ U) / (p[:, None] + p)) @ U.T
    assert_allclose(bw_exp(V[0], P), P + V[0] + L @ P @ L, atol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_round_trip_and_norm_of_the_log(settings):
    X, P = spd(4), spd(1, seed=3)[0]
    V = bw_log(X, P, **settings)
    assert_allclose(bw_exp(V, P, **settings), X, atol=1e-12)
    for v, x in zip(V, X):
        norm = np.sqrt(inner(v, v, P, **settings))
        assert norm == pytest.approx(float(bw_distance(x, P, **settings)), rel=1e-7)


@pytest.mark.parametrize("settings", SETTINGS)
def test_logs_sum_to_zero_at_the_mean(settings):
    X = spd()
    weights = np.random.default_rng(1).random(8)
    for w in (None, weights):
        G = bw_mean(X, sample_weight=w, **settings)
        total = np.average(bw_log(X, G, **settings), axis=0, weights=w)
        assert np.abs(total).max() < 1e-10


@pytest.mark.parametrize("settings", SETTINGS)
def test_geodesic_has_constant_speed(settings):
    A, B = spd(2, seed=4)
    whole = float(bw_distance(A, B, **settings))
    t = np.array([0.0, 0.3, 0.5, 1.0])
    points = bw_geodesic(A, B, t, **settings)
    assert_allclose(points[0], A, atol=1e-12)
    assert_allclose(points[3], B, atol=1e-12)
    assert_allclose(bw_distance(A, points, **settings), t * whole, atol=1e-10)
    assert_allclose(points[2], bw_mean([A, B], **settings), atol=1e-8)


@pytest.mark.parametrize("settings", SETTINGS)
def test_transport_is_an_isometry_and_has_an_inverse(settings):
    V, W = symmetric(2, 5, 1)
    _, U = np.linalg.eigh(spd(1)[0])
    power = settings.get("power", 1.0)
    half = root(settings.get("metric", np.eye(5)))

    def with_roots(values):
        """A matrix whose image in the coordinates has the eigenbasis U."""
        w, Q = np.linalg.eigh(half @ (U * values) @ U.T @ half)
        return (Q * w ** (1 / power)) @ Q.T

    A, B = with_roots(np.array([0.5, 0.5, 0.5, 2.0, 3.0])), with_roots(np.arange(1.0, 6.0))
    moved = bw_transport(np.stack([V, W]), A, B, **settings)
    wanted = inner(V, W, A, **settings)
    assert inner(*moved, B, **settings) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert_allclose(bw_transport(moved, B, A, **settings), np.stack([V, W]), atol=1e-12)


def test_transport_refuses_points_that_do_not_commute():
    A, B = spd(2)
    with pytest.raises(ValueError, match="must commute"):
        bw_transport(A, A, B)


def test_metric_is_equivariant_under_congruence():
    X, M = spd(3), spd(1, seed=5)[0]
    A = np.random.default_rng(2).standard_normal((5, 5))
    moved = A @ X @ A.T
    assert_allclose(
        bw_distance(moved, moved[0], metric=A @ M @ A.T),
        bw_distance(X, X[0], metric=M),
        rtol=1e-9, atol=1e-12,
    )  # fmt: skip


def test_small_power_is_half_the_log_euclidean_distance():
    A, B = spd(2)
    logs = [(U * np.log(w)) @ U.T for w, U in (np.linalg.eigh(x) for x in (A, B))]
    half = 0.5 * np.linalg.norm(logs[0] - logs[1])
    assert bw_distance(A, B, power=1e-4) == pytest.approx(half, rel=1e-3)
    assert bw_distance(A, B, power=1.0) == bw_distance(A, B)


def test_distance_of_near_and_equal_matrices_is_not_rounding():
    """The difference of traces leaves 1e-8; the logarithm 1e-14."""
    A = spd(1)[0]
    assert bw_distance(A, A) < 1e-14
    assert bw_distance(A, (1 + 2e-9) * A) == pytest.approx(1e-9 * np.sqrt(np.trace(A)), rel=1e-4)


def test_singular_matrices_have_distances_and_a_mean():
    A, B = np.diag([1.0, 0.0]), np.diag([0.0, 4.0])
    assert bw_distance(A, B) == pytest.approx(np.sqrt(5.0))
    assert_allclose(bw_mean([A, B]), np.diag([0.25, 1.0]), atol=1e-12)
    assert_allclose(bw_log(A, np.eye(2)), np.diag([0.0, -2.0]), atol=1e-12)
    with pytest.raises(ValueError, match="singular"):
        bw_log(B, A)
    with pytest.raises(ValueError, match="singular"):
        bw_mean([A, A])


def test_leading_axes_are_broadcast():
    X, P = spd(6).reshape(2, 3, 5, 5), spd(3, seed=9)
    assert bw_distance(X, P).shape == (2, 3)
    for name in (bw_log, bw_geodesic):
        assert_allclose(name(X, P)[1, 2], name(X[1, 2], P[2]), atol=1e-13)
    assert_allclose(bw_exp(0.1 * X, P)[1, 2], bw_exp(0.1 * X[1, 2], P[2]), atol=1e-13)
    assert_allclose(bw_transport(X, P, np.eye(5))[1, 2], bw_transport(X[1, 2], P[2], np.eye(5)))
    assert bw_mean(X).shape == (2, 5, 5)
    assert_allclose(bw_mean(X)[1], bw_mean(X[1]))


def test_mean_of_ill_conditioned_matrices_takes_few_evaluations():
    """Condition 1e6: the fixed point alone would take some eighty."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((30, 12, 12)))[0]
    X = (Q * np.logspace(0, -6, 12)) @ Q.transpose(0, 2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        G = bw_mean(X, max_iter=20)
    reference = X.mean(axis=0)
    for _ in range(150):  # the fixed point as it is written
        half = root(reference)
        inverse = np.linalg.inv(half)
        S = np.mean([root(half @ x @ half) for x in X[:]], axis=0)
        new = inverse @ S @ S @ inverse
        if np.linalg.norm(new - reference) < 1e-11:
            break
        reference = new
    assert_allclose(G, reference, atol=1e-9)


def test_threads_change_nothing(monkeypatch):
    import sklr.geometry._bures_core as core

    monkeypatch.setattr(core, "_PARALLEL_WORK", 0)
    X = spd(40)
    assert (bw_mean(X, n_jobs=2) == bw_mean(X)).all()


def test_early_stop_says_how_far_it_came():
    with pytest.warns(ConvergenceWarning, match="after 1 eval"):
        bw_mean(spd(), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bw_mean(spd())


@pytest.mark.parametrize(
    "X, message",
    [
        (np.ones((2, 3)), r"square matrices .* shape \(2, 3\)"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric; matrix 0"),
        (np.diag([1.0, np.nan]), "NaN"),
        (np.diag([1.0 + 1j, 1.0]), "Complex"),
        (np.diag([1.0, -0.1]), "not positive semidefinite: smallest eigenvalue -0.1"),
        (np.eye(3), "different sizes: 3 and 2"),
    ],
)
def test_bad_matrices_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        bw_distance(X, np.eye(2))


@pytest.mark.parametrize("power", [0, -1.0, np.inf, np.nan, True, "1"])
def test_bad_powers_are_refused(power):
    with pytest.raises(ValueError, match="power"):
        bw_distance(np.eye(2), np.eye(2), power=power)


def test_negative_matrix_is_named():
    X = spd(4)
    X[2] = -X[2]
    with pytest.raises(ValueError, match="Matrix 2 of X"):
        bw_mean(X)
    with pytest.raises(ValueError, match=r"t must be within \[0, 1\]"):
        bw_geodesic(X[0], X[1], 1.5)
    with pytest.raises(ValueError, match="metric has shape"):
        bw_distance(X[0], X[1], metric=np.eye(2))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        bw_mean(X[:2], sample_weight=np.ones(3))
