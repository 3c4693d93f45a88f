"""Distances between samples and between histograms."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier

from sklr.transport import (
    _distances,
    pairwise_transport_distances,
    sinkhorn_divergence,
    sinkhorn_newton,
    transport_distance,
)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return rng.random((40, 2)), rng.random((50, 2)) + 0.5


def histograms(n, n_bins, seed, zeros=True):
    rng = np.random.default_rng(seed)
    H = rng.random((n, n_bins)) * (rng.random((n, n_bins)) < 0.6 if zeros else 1.0)
    H[:, 0] += 0.1
    return H / H.sum(axis=1, keepdims=True)


def line_cost(n_bins):
    bins = np.linspace(0, 1, n_bins)
    return (bins[:, None] - bins) ** 2


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("solver", ["auto", "sinkhorn-newton", "sinkhorn"])
def test_distance_is_the_cost_of_the_plan(samples, metric, solver):
    X, Y = samples
    C = cdist(X, Y, metric)
    wanted = sinkhorn_newton(None, None, C, 0.1).cost
    got = transport_distance(X, Y, metric=metric, reg=0.1, relative=False, solver=solver)
    assert isinstance(got, float)
    assert_allclose(got, wanted, rtol=1e-8)
    got = transport_distance(X, Y, metric=metric, reg=0.1 / np.ptp(C), max_dense=0)
    assert_allclose(got, wanted, rtol=1e-8)


def test_translation_costs_its_square(samples):
    X, _ = samples
    assert_allclose(transport_distance(X, X + [3.0, 4.0], reg=1e-5), 25.0, rtol=1e-4)
    assert_allclose(sinkhorn_divergence(X, X + [3.0, 4.0]), 25.0, rtol=1e-9)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_divergence_is_positive_symmetric_and_zero_for_equal_samples(samples, metric):
    X, Y = samples
    forth = sinkhorn_divergence(X, Y, metric=metric, reg=0.05)
    assert forth > 0
    assert_allclose(sinkhorn_divergence(Y, X, metric=metric, reg=0.05), forth, rtol=1e-8)
    assert sinkhorn_divergence(X, X, metric=metric) == 0.0
    assert sinkhorn_divergence(X, X[::-1], metric=metric) < 1e-9
    weights = np.full(40, 2.0)
    assert_allclose(
        sinkhorn_divergence(X, Y, a=weights, b=np.full(50, 1.6), metric=metric, reg=0.05),
        80 * forth,
        rtol=1e-8,
    )


def test_divergence_agrees_with_pot(samples):
    ot = pytest.importorskip("ot")
    X, Y = samples
    wanted = ot.bregman.empirical_sinkhorn_divergence(X, Y, 0.2, stopThr=1e-13, numIterMax=10**5)
    # POT's is the difference of the plans' costs plus entropies; for equal numbers of steps only.
    C = [cdist(P, Q, "sqeuclidean") for P, Q in ((X, Y), (X, X), (Y, Y))]
    plans = [sinkhorn_newton(None, None, c, 0.2) for c in C]
    ours = plans[0].cost - 0.5 * (plans[1].cost + plans[2].cost)
    regularised = plans[0].objective - 0.5 * (plans[1].objective + plans[2].objective)
    assert_allclose(sinkhorn_divergence(X, Y, reg=0.2, relative=False), regularised, rtol=1e-7)
    assert np.isclose(wanted, ours, rtol=1e-5) or np.isclose(wanted, regularised, rtol=1e-5)


@pytest.mark.parametrize("bad", ["solver", "metric"])
def test_bad_arguments(samples, bad):
    with pytest.raises(ValueError, match=f"{bad} must be"):
        transport_distance(*samples, **{bad: "other"})
    with pytest.raises(ValueError, match="reg must be"):
        sinkhorn_divergence(*samples, reg=0)


@pytest.mark.parametrize("reg", [0.3, 0.01, 1e-3])
@pytest.mark.parametrize("divergence", [False, True])
def test_pairs_are_those_of_one_by_one(reg, divergence):
    """Large reg goes by batches, small reg by Newton steps: both are the pair's own solution."""
    H1, H2, C = histograms(5, 20, 1), histograms(7, 20, 2), line_cost(20)

    def own(a, b):
        result = sinkhorn_newton(a, b, C, reg)
        return result.objective if divergence else result.cost

    wanted = np.array([[own(a, b) for b in H2] for a in H1])
    if divergence:
        wanted -= 0.5 * np.array([[own(a, a)] for a in H1])
        wanted -= 0.5 * np.array([own(b, b) for b in H2])
    for n_jobs in (1, 2):
        got = pairwise_transport_distances(
            H1, H2, C=C, reg=reg, divergence=divergence, n_jobs=n_jobs
        )
        assert_allclose(got, wanted, rtol=1e-6, atol=1e-9)
    assert_array_equal(
        got, pairwise_transport_distances(H1, H2, C=C, reg=reg, divergence=divergence)
    )
    got = pairwise_transport_distances(3 * H1, 3 * H2, C=C, reg=reg, divergence=divergence)
    assert_allclose(got, 3 * wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("divergence", [False, True])
def test_one_set_of_histograms_gives_a_symmetric_matrix(divergence):
    H, C = histograms(9, 15, 3), line_cost(15)
    D = pairwise_transport_distances(H, C=C, reg=0.02, relative=True, divergence=divergence)
    assert_array_equal(D, D.T)
    assert (np.diag(D) == 0).all() == divergence
    other = pairwise_transport_distances(H, H, C=C, reg=0.02 * np.ptp(C), divergence=divergence)
    assert_allclose(D, other, atol=1e-9)


def test_more_pairs_than_a_batch(monkeypatch):
    H, C = histograms(6, 10, 1), line_cost(10)
    whole = pairwise_transport_distances(H, C=C, reg=0.05)
    monkeypatch.setattr(_distances, "_BATCH", 4)
    assert_allclose(pairwise_transport_distances(H, C=C, reg=0.05), whole, rtol=1e-8)


def test_cost_that_is_not_square_or_is_shifted():
    H1, H2 = histograms(3, 8, 1), histograms(4, 12, 2)
    C = np.random.default_rng(0).random((8, 12)) + 100.0
    got = pairwise_transport_distances(H1, H2, C=C, reg=0.05)
    wanted = [[sinkhorn_newton(a, b, C, 0.05).cost for b in H2] for a in H1]
    assert_allclose(got, wanted, rtol=1e-9)


def test_neighbours_take_the_distances():
    H = np.zeros((20, 16))
    y = np.arange(20) % 2
    H[np.arange(20), y * 8 + np.arange(20) % 5] = 1.0
    D = pairwise_transport_distances(H, C=line_cost(16), reg=1e-2, divergence=True)
    knn = KNeighborsClassifier(3, metric="precomputed").fit(D[::2][:, ::2], y[::2])
    assert knn.n_features_in_ == 10
    assert (D >= 0).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"C": np.zeros((4, 4))}, r"C must have shape \(5, 5\)"),
        ({"C": np.triu(np.ones((5, 5)))}, "C must be symmetric"),
        ({"H1": -np.eye(5)}, "must not be negative; the smallest entry is -1"),
        ({"H1": np.diag(np.arange(1.0, 6))}, "same positive sum, got sums from 1 to 5"),
        ({"H1": np.zeros((2, 5))}, "same positive sum"),
        ({"reg": -1.0}, "reg must be a positive"),
        ({"H1": np.full((1, 5), np.nan)}, "H1 contains NaN"),
    ],
)
def test_bad_histograms(change, message):
    arguments = {"H1": np.eye(5), "C": line_cost(5), "reg": 0.1} | change
    with pytest.raises(ValueError, match=message):
        pairwise_transport_distances(**arguments)


def test_pairs_that_do_not_converge_are_counted():
    with pytest.warns(ConvergenceWarning, match="pairs have a marginal error above"):
        D = pairwise_transport_distances(
            histograms(3, 20, 1, zeros=False), C=line_cost(20), reg=1e-4, max_iter=1
        )
    assert np.isfinite(D).all()


def test_progress_is_shown(capsys):
    pairwise_transport_distances(np.eye(3), C=line_cost(3), reg=0.1, verbose=1)
    assert "pairs" in capsys.readouterr().err


@pytest.mark.parametrize("n", [2, 3, 60])
def test_auto_goes_on_with_newton_steps_where_sweeps_are_slow(n):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((n, 2)), rng.standard_normal((n, 2)) + 1
    for call in (transport_distance, sinkhorn_divergence):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = call(X, Y, reg=0.05)
            assert_allclose(found, call(X, Y, reg=0.05, solver="sinkhorn-newton"), rtol=1e-7)


def test_plain_sweeps_are_a_hundred_times_max_iter():
    X = np.random.default_rng(1).standard_normal((3, 2))
    with pytest.warns(ConvergenceWarning, match="after 700 sweeps and 0 Newton steps"):
        transport_distance(X, X[::-1] + 1, reg=1e-3, solver="sinkhorn", max_iter=7)
