"""The polar chart of plane maps, and samples of their groups."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose, assert_array_equal

from sklr.geometry import polar_exp, polar_log, sample_group

GROUPS = ("so2", "scale_rotation", "sl2", "gl2")


@pytest.fixture(scope="module")
def maps():
    H = np.random.default_rng(0).standard_normal((3000, 2, 2))
    return H[np.linalg.det(H) > 0.05][:1000]


def test_the_chart_is_one_to_one_and_onto(maps):
    A, angle = polar_log(maps)
    assert len(maps) == 1000
    assert_allclose(polar_exp(A, angle), maps, rtol=0, atol=1e-10)
    assert_allclose(np.trace(A, axis1=1, axis2=2), np.log(np.linalg.det(maps)), atol=1e-12)
    assert_array_equal(A, A.mT)
    again, angle_again = polar_log(polar_exp(A, angle))
    assert_allclose(again, A, atol=1e-10)
    assert_allclose(angle_again, angle, atol=1e-10)


def test_the_chart_is_that_of_scipy(maps):
    for H in maps[:50]:
        R, P = scipy.linalg.polar(H, side="left")
        A, angle = polar_log(H)
        assert_allclose(scipy.linalg.expm(A), P, atol=1e-10)
        assert_allclose([np.cos(angle), np.sin(angle)], R[:, 0], atol=1e-10)


def test_conjugation_by_a_rotation_turns_the_stretch_and_leaves_the_angle(maps):
    k = polar_exp(np.zeros((2, 2)), 0.7)
    A, angle = polar_log(maps)
    turned, same = polar_log(k @ maps @ k.T)
    assert_allclose(turned, k @ A @ k.T, atol=1e-10)
    assert_allclose(same, angle, atol=1e-10)


def test_nearly_singular_and_extreme_maps_have_coordinates():
    H = np.array(
        [np.diag([1e8, 1e-8]), np.diag([1e-150, 1e-150]), np.diag([1e100, 1e90]), np.eye(2)]
    )
    A, angle = polar_log(H)
    assert_allclose(A[:, 0, 0], np.log(H[:, 0, 0]), rtol=1e-12)
    assert_array_equal(angle, 0)
    assert_allclose(polar_exp(A[:1], 0.0), H[:1], rtol=1e-7, atol=1e-7)
    with np.errstate(invalid="raise", divide="raise"):
        assert_array_equal(polar_log(np.eye(2))[0], np.zeros((2, 2)))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("n, max_angle", [(8, 180.0), (7, 180.0), (8, 40.0), (1, 0.0)])
def test_samples_are_of_their_group(group, n, max_angle):
    H = sample_group(group, n, max_angle=max_angle, spread=0.3, random_state=1)
    assert H.shape == (n, 2, 2)
    A, angle = polar_log(H)
    assert (np.abs(np.rad2deg(angle)) <= max_angle + 1e-9).all()
    if group in ("so2", "sl2"):
        assert_allclose(np.linalg.det(H), 1, atol=1e-12)
    if group in ("so2", "scale_rotation"):
        # A multiple of the identity.
        assert_allclose(A[:, 0, 1], 0, atol=1e-12)
        assert_allclose(A[:, 0, 0], A[:, 1, 1], atol=1e-12)
    if group != "so2":
        assert np.abs(A).max() > 0.01
    if n > 1:
        gaps = np.diff(np.sort(np.rad2deg(angle)))
        assert_allclose(gaps, 2 * max_angle / n, atol=1e-9)
    assert_array_equal(H, sample_group(group, n, max_angle=max_angle, spread=0.3, random_state=1))


def test_samples_are_whole_orbits_of_quarter_turns():
    H = sample_group("gl2", 8, random_state=0)
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    for first in (0, 4):
        for j in range(3):
            assert_array_equal(H[first + j + 1], quarter @ H[first + j])


def test_the_stretch_has_the_asked_spread():
    A, _ = polar_log(sample_group("gl2", 4000, max_angle=90.0, spread=0.2, random_state=0))
    coordinates = np.stack([A[:, 0, 0], np.sqrt(2) * A[:, 0, 1], A[:, 1, 1]])
    assert_allclose(np.cov(coordinates), 0.04 * np.eye(3), atol=0.004)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: polar_log(np.diag([1.0, -1.0])), "positive determinants, the least is -1"),
        (lambda: polar_log(np.zeros((2, 2))), "positive determinants"),
        (lambda: polar_log(np.full((2, 2), np.nan)), "not finite"),
        (lambda: polar_log(np.eye(3)), r"shape \(..., 2, 2\), got \(3, 3\)"),
        (lambda: polar_exp([[0.0, 1.0], [0.0, 0.0]], 0.0), "symmetric"),
        (lambda: polar_exp(np.eye(2), np.inf), "angle"),
        (lambda: sample_group("o2"), "group must be one of"),
        (lambda: sample_group("gl2", 0), "n_samples"),
        (lambda: sample_group("gl2", 2.5), "n_samples"),
        (lambda: sample_group("gl2", spread=-1), "spread"),
        (lambda: sample_group("gl2", max_angle=270), "max_angle"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
