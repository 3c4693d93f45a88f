import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklr.datasets import make_molrg


@pytest.mark.parametrize("orthogonal", [True, False])
def test_samples_lie_in_their_subspaces(orthogonal):
    X, y, bases = make_molrg(50, 20, 3, 4, orthogonal=orthogonal, random_state=0, return_bases=True)
    assert X.shape == (50, 20) and np.ptp(np.bincount(y)) <= 1
    for k, basis in enumerate(bases):
        assert_allclose(basis @ basis.T, np.eye(4), atol=1e-12)
        assert_allclose(X[y == k] @ basis.T @ basis, X[y == k], atol=1e-12)
    cross = bases[0] @ bases[1].T
    assert (np.abs(cross).max() < 1e-12) == orthogonal


def test_coordinates_have_unit_variance_and_noise_its_own():
    X, y, bases = make_molrg(40000, 10, 1, 3, noise=0.5, random_state=1, return_bases=True)
    # A variance from 40000 samples is within 2 % (four standard errors).
    assert_allclose(np.cov(X.T), bases[0].T @ bases[0] + 0.25 * np.eye(10), atol=0.04)


def test_counts_dimensions_and_seed():
    X, y, bases = make_molrg([3, 5], 9, 2, [2, 4], random_state=3, return_bases=True)
    assert np.bincount(y).tolist() == [3, 5]
    assert [len(b) for b in bases] == [2, 4]
    again, y_again = make_molrg([3, 5], 9, 2, [2, 4], random_state=3)
    assert_array_equal(again, X)
    assert_array_equal(y_again, y)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_samples": 0}, "n_samples"),
        ({"n_samples": [3, 4, 5]}, "n_samples"),
        ({"dim": [2]}, "dim"),
        ({"dim": 49, "orthogonal": False}, "n_features=48"),
        ({"dim": 25}, "need n_features >= 50"),
        ({"noise": -1.0}, "noise"),
        ({"noise": float("nan")}, "noise"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        make_molrg(**params)
