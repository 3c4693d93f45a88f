"""Point clouds with known geodesics."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from sklr.datasets import make_geodesic_swiss_roll, make_random_walk_tree


def test_short_distances_on_the_roll_are_those_in_space():
    X, flat = make_geodesic_swiss_roll(3000, random_state=0)
    D, G = cdist(X, X), cdist(flat, flat)
    near = (G > 0) & (G < 0.7)
    assert (D[near] <= G[near] + 1e-12).all()
    # The chord of an arc of length 0.7 and radius 4.8 or more.
    assert (D[near] / G[near]).min() > 0.999


def test_more_features_are_a_rotation_and_noise_has_its_size():
    X, _ = make_geodesic_swiss_roll(200, random_state=0)
    Z, _ = make_geodesic_swiss_roll(200, n_features=20, random_state=0)
    assert_allclose(cdist(Z, Z), cdist(X, X), atol=1e-10)
    noisy, _ = make_geodesic_swiss_roll(200, noise=0.5, n_features=20, random_state=0)
    assert_allclose((noisy - Z).std(), 0.5, rtol=0.05)


def test_tree_distances_are_shortest_paths():
    X, branch, D = make_random_walk_tree(4, 30, noise=0.0, random_state=1)
    assert_allclose(D, D.T)
    assert not D.diagonal().any()
    assert (D >= cdist(X, X) - 1e-9).all()
    assert_allclose(np.bincount(branch), 30)
    # A tree: of the three sums of a quadruple the two largest are equal.
    rng = np.random.default_rng(0)
    for a, b, c, d in rng.integers(0, 120, size=(200, 4)):
        sums = sorted([D[a, b] + D[c, d], D[a, c] + D[b, d], D[a, d] + D[b, c]])
        assert_allclose(sums[1], sums[2], atol=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: make_geodesic_swiss_roll(0), "n_samples"),
        (lambda: make_geodesic_swiss_roll(10, noise=-1), "noise"),
        (lambda: make_geodesic_swiss_roll(10, n_features=2), "n_features"),
        (lambda: make_random_walk_tree(0), "n_branches"),
        (lambda: make_random_walk_tree(2, 1), "branch_length"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()
