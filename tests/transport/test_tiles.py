"""Points in tiles: order, passes that leave out what is far off, coarse starts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist

from sklr.transport import _solver, _tiles, sinkhorn, sinkhorn_newton
from sklr.transport._cost import DenseCost, PointCost
from sklr.transport._tiles import GROUP, WIDTH, TileCost, spatial_order
from sklr.utils._threads import ChunkThreads

METRICS = ["sqeuclidean", "euclidean", "cityblock"]


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.random((150, 2)), rng.random((210, 2)) + 0.1


def tiles_and_matrix(points, metric):
    tiles = TileCost.sort(PointCost(*points, metric))
    X, Y = (Z[order] for Z, order in zip(points, (tiles.rows, tiles.columns), strict=True))
    return tiles, DenseCost(cdist(X, Y, metric))


@pytest.mark.parametrize("n", [1, 7, 8, 65, 1000])
def test_runs_of_neighbours_are_boxes(n):
    X = np.random.default_rng(0).random((n, 3))
    order = spatial_order(X)
    assert_array_equal(np.sort(order), np.arange(n))
    assert_array_equal(spatial_order(X), order)
    volumes = [np.ptp(X[order[i : i + WIDTH]], axis=0).prod() for i in range(0, n, WIDTH)]
    assert sum(volumes) < 1.0  # boxes of points that are neighbours do not overlap


def test_equal_points_are_ordered_as_given():
    assert_array_equal(np.sort(spatial_order(np.ones((100, 2)))), np.arange(100))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("inv_reg", [3.0, 300.0, 30000.0])
def test_passes_are_those_of_the_matrix(points, metric, inv_reg):
    tiles, matrix = tiles_and_matrix(points, metric)
    a = np.random.default_rng(1).random(150)
    v = inv_reg * 0.1 * np.sin(np.arange(210.0))
    u, sums = matrix.row_update(inv_reg, v, a, np.zeros(150))
    for guess in (np.zeros(150), u - 0.1, u + 500.0, u - 500.0):
        got = tiles.row_update(inv_reg, v, a, guess)
        assert_allclose(got[0], u, rtol=1e-11, atol=1e-11)
        assert_allclose(got[1], sums, rtol=1e-9, atol=1e-100)  # the matrix loses those
    for lowest in (-5.0, -30.0, -500.0):
        for got, wanted in zip(
            tiles.entries(inv_reg, u, v, lowest), matrix.entries(inv_reg, u, v, lowest), strict=True
        ):
            # Exponents are differences of large numbers.
            assert_allclose(got, wanted, rtol=1e-9)
    assert_allclose(
        tiles.transport_cost(inv_reg, u, v, a), matrix.transport_cost(inv_reg, u, v, a), rtol=1e-11
    )
    assert tiles.entries(inv_reg, u, v, -500.0, most=3) is None


def test_a_column_that_no_near_row_reaches_is_added_up_in_full(points):
    X, Y = points
    Y = np.vstack([Y, [[3.0, 3.0]]])
    tiles, matrix = tiles_and_matrix((X, Y), "sqeuclidean")
    a, v = np.full(150, 1 / 150), np.zeros(211)
    u, sums = matrix.row_update(60.0, v, a, np.zeros(150))
    assert 0.0 < sums.min() < 1e-100
    assert_allclose(tiles.row_update(60.0, v, a, u)[1], sums, rtol=1e-9)


@pytest.mark.parametrize("few", [0.0, 1.0])
def test_plans_come_in_the_order_of_the_points(points, few, monkeypatch):
    monkeypatch.setattr(_tiles, "_FEW", few)
    tiles, matrix = tiles_and_matrix(points, "sqeuclidean")
    a, v = np.full(150, 1 / 150), np.zeros(210)
    u, _ = matrix.row_update(50.0, v, a, np.zeros(150))
    wanted = np.empty((150, 210))
    wanted[np.ix_(tiles.rows, tiles.columns)] = matrix.plan(50.0, u, v, a)
    assert_allclose(tiles.first_plan(50.0, u, v, a), wanted, rtol=1e-11)
    plan = tiles.sparse_plan(50.0, u, v, a, 1e-9)
    assert plan.has_canonical_format
    assert_allclose(plan.toarray(), np.where(wanted >= 1e-9, wanted, 0.0), rtol=1e-11)


def test_many_points_are_begun_coarsely_and_end_at_the_same_plan(monkeypatch, capsys):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((1300, 2)), rng.random((1100, 2))
    a, b = rng.random(1300), rng.random(1100)
    a[::7] = 0.0
    b /= b.sum()
    a /= a.sum()
    coarse = sinkhorn_newton(a, b, (X, Y), 1e-3, relative=True, verbose=1)
    assert "groups of neighbours" in capsys.readouterr().out
    monkeypatch.setattr(_tiles, "_COARSE", 10**6)
    straight = sinkhorn_newton(a, b, (X, Y), 1e-3, relative=True, tol=1e-11)
    assert isinstance(coarse.plan, np.ndarray)
    assert coarse.converged and coarse.n_warmup < straight.n_warmup / 2
    C = cdist(X, Y, "sqeuclidean")
    stored = sinkhorn_newton(a, b, C, 1e-3, relative=True, tol=1e-11)
    for result in (coarse, straight):
        assert np.abs(result.plan - stored.plan).sum() < 1e-7
        assert_allclose(result.cost, stored.cost, rtol=1e-8)
    assert (coarse.plan[::7] == 0).all()
    sparse = sinkhorn_newton(a, b, (X, Y), 1e-3, relative=True, max_dense=0)
    assert isinstance(sparse.plan, csr_array)
    assert np.abs(sparse.plan - stored.plan).sum() < 1e-7


def test_groups_that_reach_too_far_are_not_used(points, monkeypatch):
    monkeypatch.setattr(_tiles, "_COARSE", 100)
    monkeypatch.setattr(_solver, "_REACH", 1e9)
    result = sinkhorn_newton(None, None, points, 1e-3, max_dense=0)
    assert result.converged


def test_groups_have_the_mass_and_the_mean_of_their_points(points):
    tiles, _ = tiles_and_matrix(points, "sqeuclidean")
    a, b = np.full(150, 1 / 150), np.full(210, 1 / 210)
    coarse, masses_x, masses_y, reach = tiles.coarser(a, b)
    assert coarse.shape == (-(-150 // GROUP), -(-210 // GROUP))
    assert_allclose(masses_y @ coarse.Y, b @ tiles.Y, atol=1e-15)
    assert_allclose([masses_x.sum(), masses_y.sum()], [1.0, 1.0])
    assert 0.0 < reach < 0.02


def test_plain_sweeps_over_many_points():
    rng = np.random.default_rng(0)
    X, Y = rng.random((1010, 2)), rng.random((30, 2))
    stored = sinkhorn(None, None, cdist(X, Y, "sqeuclidean"), 0.1)
    assert_allclose(sinkhorn(None, None, (X, Y), 0.1).plan, stored.plan, atol=1e-12)


def test_results_do_not_depend_on_threads(points):
    found = []
    for n_jobs in (1, 2):
        with ChunkThreads(n_jobs) as threads:
            tiles = TileCost.sort(PointCost(*points, "sqeuclidean", threads.map))
            found.append(tiles.row_update(50.0, np.zeros(210), np.ones(150), np.zeros(150)))
    assert_array_equal(found[0][0], found[1][0])
    assert_array_equal(found[0][1], found[1][1])
