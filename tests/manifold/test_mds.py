"""Layouts of dissimilarities: true distances come back, stress falls, scale is kept."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import ClassicalMDS

from sklr.manifold._mds import (
    classic_mds,
    normalised_stress,
    place_points,
    stress_mds,
    triangulate,
)


def plane(n=60, dim=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)) * [3.0, 1.0, 0.5][:dim]


def rng():
    return np.random.RandomState(0)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_classic_equals_scikit_learn(dim):
    X = np.random.default_rng(0).standard_normal((30, 4))
    D = cdist(X, X)
    peer = ClassicalMDS(n_components=dim, metric="euclidean").fit_transform(X)
    ours = classic_mds(D, dim)
    assert_allclose(np.abs(ours), np.abs(peer), atol=1e-8)
    assert (ours[np.abs(ours).argmax(axis=0), np.arange(dim)] > 0).all()


@pytest.mark.parametrize("solver", ["sgd", "smacof", "nonmetric"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_true_distances_come_back_with_their_scale(solver, dim):
    X = plane(dim=dim)
    D = cdist(X, X)
    start = classic_mds(D, dim) + 0.1 * plane(dim=dim, seed=1)
    with warnings.catch_warnings():
        # The non-metric fit goes on improving for ever, by less and less.
        warnings.simplefilter("ignore", ConvergenceWarning)
        Y, _, n_iter = stress_mds(D, start, solver=solver, max_iter=1000, tol=1e-7, rng=rng())
    # Majorisation converges linearly, and the non-metric fit has freedom of its own.
    assert_allclose(cdist(Y, Y), D, atol=0.3 if solver == "nonmetric" else 0.01)
    assert n_iter >= 1


@pytest.mark.parametrize("solver", ["sgd", "smacof"])
@pytest.mark.parametrize("weighted", [False, True])
def test_stress_is_at_a_minimum(solver, weighted):
    """The gradient of the stress vanishes, for distances that no plane has."""
    D = cdist(plane(40, 3), plane(40, 3)) ** 1.5
    w = 1.0 / (1.0 + D) if weighted else None
    start = classic_mds(D, 2)
    Y, _, _ = stress_mds(D, start, weights=w, solver=solver, max_iter=3000, tol=1e-13, rng=rng())
    assert normalised_stress(D, Y, Y, w) < normalised_stress(D, start, start, w)
    gap = cdist(Y, Y)
    np.fill_diagonal(gap, 1.0)
    pull = (1.0 if w is None else w) * (gap - D) / gap
    np.fill_diagonal(pull, 0.0)
    gradient = pull.sum(axis=1)[:, None] * Y - pull @ Y
    force = np.abs(pull[:, :, None] * (Y[:, None] - Y[None])).sum(axis=1)
    # Thirty steps of majorisation follow the descent; they end near the minimum, not in it.
    assert np.abs(gradient).max() < (2e-2 if solver == "sgd" else 1e-4) * force.max()


def test_triangulation_and_placing_find_points_of_the_plane():
    X = plane(80)
    D = cdist(X, X[:10])
    anchors = classic_mds(D[:10], 2)
    Y = triangulate(D, D[:10], anchors)
    assert_allclose(cdist(Y, anchors), D, atol=1e-9)
    moved = place_points(D, anchors, Y + 0.1 * plane(80, seed=2), max_iter=500)
    assert_allclose(cdist(moved, anchors), D, atol=2e-3)
    w = np.random.default_rng(0).uniform(0.1, 1, D.shape)
    one = place_points(D, anchors, Y + 0.3, weights=w, max_iter=500)
    assert_allclose(cdist(one, anchors), D, atol=2e-3)
    two = place_points(D, anchors, Y + 0.3, weights=w, max_iter=500, n_jobs=2)
    assert_allclose(two, one, rtol=0, atol=0)


def test_nothing_to_lay_out():
    for D in (np.zeros((5, 5)), np.array([[0.0, 2.0], [2.0, 0.0]])):
        start = classic_mds(D, 1)
        Y, _, _ = stress_mds(D, start, rng=rng())
        assert_allclose(cdist(Y, Y), D, atol=1e-12)
    assert normalised_stress(np.zeros((3, 3)), np.zeros((3, 2)), np.zeros((3, 2))) == 0


def test_majorisation_that_does_not_end_says_so():
    D = cdist(plane(40, 3), plane(40, 3)) ** 1.5
    with pytest.warns(ConvergenceWarning, match=r"after 2 steps.*stress 0\.\d+.*decrease"):
        stress_mds(D, classic_mds(D, 2), solver="smacof", max_iter=2, tol=0.0, rng=rng())
