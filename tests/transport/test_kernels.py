"""Kernels against three lines of NumPy, and costs against each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from sklr.transport import _linear
from sklr.transport import _linear_kernels as linear_kernels
from sklr.transport import _transport_kernels as kernels
from sklr.transport._cost import DenseCost, PointCost, SparseCost
from sklr.utils._threads import ChunkThreads


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    C, v = rng.random((37, 53)), rng.standard_normal(53)
    a = rng.random(37)
    return C, v, a / a.sum()


def test_exponential_is_exact_to_two_units_in_the_last_place():
    x = np.concatenate([np.linspace(-708, 709, 20001), np.linspace(-1, 1, 2001), [0.0]])
    row = np.empty_like(x)
    kernels._exp_row(np.zeros_like(x), 1.0, x, 0.0, row)
    assert_allclose(row, np.exp(x), rtol=5e-16)
    assert row[-1] == 1.0


def test_exponential_far_out_is_finite_and_positive():
    x = np.array([-1e9, -1000.0, 1000.0])
    row = np.empty_like(x)
    kernels._exp_row(np.zeros_like(x), 1.0, x, 0.0, row)
    assert np.isfinite(row).all() and (row > 0).all() and row[0] < 1e-300


@pytest.mark.parametrize("guess", [0.0, 900.0, -900.0, 1e6])
def test_row_update_is_a_logsumexp_whatever_the_guess(problem, guess):
    C, v, a = problem
    u, sums = DenseCost(C).row_update(30.0, v, a, np.full(37, guess))
    wanted = np.log(a) - logsumexp(v - 30.0 * C, axis=1)
    assert_allclose(u, wanted, rtol=1e-13)
    assert_allclose(sums, np.exp(wanted[:, None] + v - 30.0 * C).sum(axis=0), rtol=1e-12)


def test_costs_of_all_kinds_agree(problem):
    C, v, a = problem
    rng = np.random.default_rng(1)
    X, Y = rng.random((37, 3)), rng.random((53, 3))
    C = cdist(X, Y, "sqeuclidean")
    full = csr_array(C)
    u = np.zeros(37)
    reference = DenseCost(C)
    wanted_u, wanted_sums = reference.row_update(9.0, v, a, u)
    for cost in (PointCost(X, Y, "sqeuclidean"), SparseCost(full)):
        got_u, got_sums = cost.row_update(9.0, v, a, u)
        assert_allclose(got_u, wanted_u, rtol=1e-12)
        assert_allclose(got_sums, wanted_sums, rtol=1e-12)
        assert_allclose(
            cost.transport_cost(9.0, got_u, v, a),
            reference.transport_cost(9.0, wanted_u, v, a),
            rtol=1e-12,
        )
        assert_allclose(cost.extent(), reference.extent())
        b = np.full(53, 1 / 53)
        assert_allclose(cost.mean(a, b), reference.mean(a, b))
        plan = cost.plan(9.0, got_u, v, a)
        plan = plan if isinstance(plan, np.ndarray) else plan.toarray()
        assert_allclose(plan, np.exp(wanted_u[:, None] + v - 9.0 * C), rtol=1e-12)
        for got, wanted in zip(
            cost.entries(9.0, got_u, v, np.log(1e-3)),
            reference.entries(9.0, wanted_u, v, np.log(1e-3)),
            strict=True,
        ):
            assert_allclose(got, wanted, rtol=1e-12)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock", "cosine"])
@pytest.mark.parametrize("n_features", [2, 40])
def test_costs_between_points_are_scipys(metric, n_features):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, n_features)) + 100, rng.standard_normal((20, n_features)) + 100
    cost = PointCost(X, Y, metric)
    assert_allclose(cost.block(slice(3, 9)), cdist(X[3:9], Y, metric), rtol=1e-9, atol=1e-12)
    assert_allclose(cost.stored().C, cdist(X, Y, metric), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_stored_costs_are_those_of_the_blocks(metric):
    rng = np.random.default_rng(0)
    cost = PointCost(100 + rng.standard_normal((30, 4)), rng.standard_normal((40, 4)), metric)
    assert_allclose(cost.stored().C, cost.block(slice(0, 30)), rtol=1e-13)


def test_a_callable_metric_is_called():
    X = np.arange(6.0).reshape(3, 2)
    cost = PointCost(X, X, lambda x, y: abs(x[0] - y[0]) ** 3)
    assert_allclose(cost.block(slice(0, 3)), abs(X[:, :1] - X[:, 0]) ** 3)


@pytest.mark.parametrize("lowest", [-1.0, -6.0, -60.0, 60.0])
def test_entries_are_those_above_the_threshold(problem, lowest):
    C, v, a = problem
    cost = DenseCost(C)
    u, _ = cost.row_update(30.0, v, a, np.zeros(37))
    P = np.exp(u[:, None] + v - 30.0 * C)
    indptr, indices, values = cost.entries(30.0, u, v, lowest)
    got = csr_array((values, indices, indptr), shape=P.shape).toarray()
    assert_allclose(got, np.where(np.log(P) >= lowest, P, 0.0), rtol=1e-12)
    if 0 < len(values):
        assert cost.entries(30.0, u, v, lowest, most=len(values) - 1) is None


def laplacian_system(links, seed):
    """Return kept entries of a plan with exact diagonal, strong and very weak links."""
    rng = np.random.default_rng(seed)
    n = 60
    P = np.exp(rng.uniform(-links, 0, (n, n))) * (rng.random((n, n)) < 0.08) + np.eye(n)
    P /= P.sum(axis=1, keepdims=True) * n
    d = P.sum(axis=0) * (1 + 1e-9)
    S = csr_array(P)
    entries = S.indptr.astype(np.int64), S.indices.astype(np.int32), S.data
    rhs = rng.standard_normal(n) * d
    return entries, np.full(n, float(n)), d, rhs - rhs.mean(), np.diag(d) - P.T @ P * n


@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("links", [1.0, 12.0])
def test_linear_systems_are_solved(factor, links):
    entries, inv_a, d, rhs, A = laplacian_system(links, 0)
    x, n_iter, _ = _linear.solve(entries, inv_a, d, rhs, 1e-10, map, factor=factor)
    assert n_iter > 0
    assert np.abs(A @ x - rhs).max() < 1e-7 * np.abs(rhs).max()


def test_weak_links_need_few_iterations_with_the_incomplete_factor():
    """Clusters that hang together by 1e-12 stop the diagonal's iteration, not the factor's."""
    entries, inv_a, d, rhs, _ = laplacian_system(25.0, 1)
    _, with_factor, _ = _linear.solve(entries, inv_a, d, rhs, 1e-6, map, factor=True)
    assert with_factor <= 30


def test_chunked_product_is_the_kernels(problem):
    entries, inv_a, d, rhs, A = laplacian_system(3.0, 2)
    for n_jobs in (1, 2):
        with ChunkThreads(n_jobs) as threads:
            product = _linear._product(entries, inv_a, d, threads.map)
            assert_allclose(product(rhs), A @ rhs, rtol=1e-9, atol=1e-14)


def test_incomplete_factor_without_dropping_is_a_factor():
    rng = np.random.default_rng(0)
    n = 12
    W = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.4), 1)
    W = W + W.T
    excess = rng.random(n) * 1e-3
    A = np.diag(W.sum(axis=0) + excess) - W
    lower = csr_array(np.tril(W, -1)).tocsc()
    lower.sort_indices()
    pivots, factor = np.empty(n), (np.zeros(n + 1, np.int64), np.empty(99, np.int32), np.empty(99))
    assert linear_kernels.incomplete_cholesky(
        lower.indptr.astype(np.int64),
        lower.indices,
        lower.data,
        excess.copy(),
        0.0,
        pivots,
        *factor,
        np.empty(n),
        np.empty((5, n), np.int64),
    )
    size = factor[0][-1]
    L = (
        np.eye(n)
        - csr_array((factor[2][:size], factor[1][:size], factor[0]), shape=(n, n)).toarray().T
    )
    assert_allclose(L @ np.diag(pivots) @ L.T, A, rtol=1e-12, atol=1e-15)
    x = rng.standard_normal(n)
    solved = x.copy()
    linear_kernels.factor_solve(*factor, pivots, solved)
    assert_allclose(A @ solved, x, rtol=1e-8, atol=1e-10)


def test_incomplete_factor_says_when_there_is_no_room():
    W = np.ones((4, 4))
    lower = csr_array(np.tril(W, -1)).tocsc()
    factor = np.zeros(5, np.int64), np.empty(2, np.int32), np.empty(2)
    assert not linear_kernels.incomplete_cholesky(
        lower.indptr.astype(np.int64), lower.indices, lower.data, np.ones(4), 0.0, np.ones(4),
        *factor, np.empty(4), np.empty((5, 4), np.int64),
    )  # fmt: skip


def test_sort():
    rows = np.random.default_rng(0).permutation(300)
    linear_kernels._sort(rows, 250)
    assert (np.diff(rows[:250]) > 0).all()


def test_passes_do_not_depend_on_threads(problem):
    C, v, a = problem
    C = np.tile(C, (20, 20))
    v, a = np.tile(v, 20), np.tile(a, 20) / 20
    found = []
    for n_jobs in (1, 2):
        with ChunkThreads(n_jobs) as threads:
            found.append(DenseCost(C, threads.map).row_update(20.0, v, a, np.zeros(len(a))))
    assert_array_equal(found[0][0], found[1][0])
    assert_array_equal(found[0][1], found[1][1])
