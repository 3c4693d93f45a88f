"""Distances between laws: oracles of SciPy, brute force, and what must hold."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial.distance import cdist

from sklr.metrics import _laws, energy_distance, wasserstein_distance_nd

BOTH = pytest.mark.parametrize("distance", [energy_distance, wasserstein_distance_nd])


def samples(n, m, n_features, seed=0):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((n, n_features)), rng.standard_normal((m, n_features)) + 0.5
    return X, Y, rng.random(n), rng.random(m)


def test_one_dimension_is_scipys():
    X, Y, a, b = samples(30, 41, 1)
    for weights in ({}, {"a": a, "b": b}):
        given = weights.get("a"), weights.get("b")
        wanted = stats.wasserstein_distance(X[:, 0], Y[:, 0], *given)
        assert_allclose(wasserstein_distance_nd(X, Y, **weights), wanted, rtol=1e-12)
        assert_allclose(wasserstein_distance_nd(X[:, 0], Y[:, 0], **weights), wanted, rtol=1e-12)
        wanted = stats.energy_distance(X[:, 0], Y[:, 0], *given)
        assert_allclose(energy_distance(X, Y, **weights), wanted, rtol=1e-9)


def test_several_dimensions_are_scipys_linear_program():
    X, Y, a, b = samples(12, 15, 3)
    wanted = stats.wasserstein_distance_nd(X, Y, a, b)
    assert_allclose(wasserstein_distance_nd(X, Y, a=a, b=b), wanted, rtol=1e-9)
    assert_allclose(wasserstein_distance_nd(X, Y), stats.wasserstein_distance_nd(X, Y), rtol=1e-9)


def test_few_samples_by_brute_force():
    X, Y, _, _ = samples(6, 6, 2)
    C = cdist(X, Y)
    wanted = min(C[range(6), list(p)].mean() for p in itertools.permutations(range(6)))
    assert_allclose(wasserstein_distance_nd(X, Y), wanted, rtol=1e-12)
    doubled = np.repeat(X, 2, axis=0)  # by the linear program, and the same
    assert_allclose(wasserstein_distance_nd(doubled, Y), wanted, rtol=1e-9)


def test_the_plan_of_few_pairs_is_the_exact_one():
    X, Y, _, _ = samples(150, 150, 2)
    wanted = wasserstein_distance_nd(X, Y)
    same = np.full(150, 1 / 150)
    assert_allclose(_laws._transported(cdist(X, Y), same, same), wanted, rtol=1e-9)
    far = np.r_[X, [[100.0, 0.0]]]
    weights = np.r_[np.ones(150), 1e-9]
    assert_allclose(wasserstein_distance_nd(far, Y, a=weights), wanted, rtol=1e-6)


def test_energy_by_its_definition_in_blocks(monkeypatch):
    X, Y, a, b = samples(30, 20, 3)
    a, b = a / a.sum(), b / b.sum()
    wanted = 2 * a @ cdist(X, Y) @ b - a @ cdist(X, X) @ a - b @ cdist(Y, Y) @ b
    monkeypatch.setattr(_laws, "_BLOCK", 50)
    assert_allclose(energy_distance(X, Y, a=a, b=b) ** 2, wanted, rtol=1e-10)


@BOTH
def test_zero_between_equal_samples_symmetric_and_in_units(distance):
    X, Y, _, _ = samples(25, 25, 3)
    power = 0.5 if distance is energy_distance else 1.0
    assert distance(X, X) == 0
    assert distance(X, X[::-1].copy()) < 1e-7
    found = distance(X, Y)
    assert_allclose(distance(Y, X), found, rtol=1e-12)
    for factor in (1e-6, 1e6, 1e200, 1e-200):
        assert_allclose(distance(factor * X, factor * Y), factor**power * found, rtol=1e-8)
    assert_allclose(distance(X + 1e6, Y + 1e6), found, rtol=1e-5)
    assert isinstance(found, float)


@BOTH
def test_weights_are_repeated_rows_and_zeros_are_left_out(distance):
    X, Y, _, _ = samples(9, 12, 2)
    times = np.arange(9) % 3
    wanted = distance(np.repeat(X, times, axis=0), Y)
    assert_allclose(distance(X, Y, a=times), wanted, rtol=1e-9)


@BOTH
@pytest.mark.parametrize(
    "change, message",
    [
        ({"Y": np.zeros((4, 3))}, "same number of features, got 2 and 3"),
        ({"a": [1.0, 2.0]}, r"a must have shape \(5,\)"),
        ({"b": [1.0, -1.0, 1.0, 1.0]}, "b must not be negative nor all zero, got values from -1"),
        ({"a": np.zeros(5)}, "a must not be negative nor all zero"),
        ({"X": [[np.nan, 0.0]]}, "X contains NaN"),
        ({"X": np.zeros((0, 2))}, "0 sample"),
    ],
)
def test_wrong_input_is_named(distance, change, message):
    given = {"X": np.ones((5, 2)), "Y": np.zeros((4, 2))} | change
    with pytest.raises(ValueError, match=message):
        distance(given.pop("X"), given.pop("Y"), **given)
