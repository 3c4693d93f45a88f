"""Plans: known answers, invariances, agreement with POT, hard cases, refusals."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from sklr.transport import (
    TransportResult,
    pairwise_transport_distances,
    sinkhorn,
    sinkhorn_newton,
)
from sklr.transport._cost import DenseCost, SparseCost
from sklr.transport._tiles import TileCost


def random_assignment(n, seed=0, m=None):
    return np.random.default_rng(seed).random((n, m or n))


def point_clouds(n, seed=0):
    rng = np.random.default_rng(seed)
    C = cdist(rng.random((n, 2)), rng.random((n, 2)), "sqeuclidean")
    return C / C.max()


def weights(n, seed):
    w = np.random.default_rng(seed).random(n) + 0.1
    return w / w.sum()


def marginal_error(plan, a, b):
    return np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum()


def reference_plan(a, b, C, reg, n_iter=20000):
    """Sinkhorn in the log domain, in three lines."""
    from scipy.special import logsumexp

    y = np.zeros(len(b))
    for _ in range(n_iter):
        x = reg * (np.log(a) - logsumexp((y - C) / reg, axis=1))
        y_new = reg * (np.log(b) - logsumexp((x[:, None] - C) / reg, axis=0))
        if np.abs(y_new - y).max() < 1e-14:
            break
        y = y_new
    return np.exp((x[:, None] + y - C) / reg)


# Known answers.


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
@pytest.mark.parametrize("n, m", [(40, 40), (30, 55), (1, 7), (7, 1), (1, 1), (2, 2)])
def test_agrees_with_plain_log_domain_sinkhorn(solver, n, m):
    a, b, C = weights(n, 1), weights(m, 2), random_assignment(n, m=m)
    result = solver(a, b, C, 0.05)
    assert isinstance(result, TransportResult) and result.converged
    assert np.abs(result.plan - reference_plan(a, b, C, 0.05)).sum() < 1e-8
    assert marginal_error(result.plan, a, b) < 1e-9


@pytest.mark.parametrize("kind", [random_assignment, point_clouds])
@pytest.mark.parametrize("reg", [0.05, 0.01])
def test_agrees_with_pot(kind, reg):
    ot = pytest.importorskip("ot")
    n = 80
    a, b, C = weights(n, 1), weights(n, 2), kind(n)
    wanted = ot.sinkhorn(a, b, C, reg, method="sinkhorn_log", numItermax=50_000, stopThr=1e-12)
    for solver in (sinkhorn_newton, sinkhorn):
        result = solver(a, b, C, reg, tol=1e-11)
        assert np.abs(result.plan - wanted).sum() < 1e-8


def test_two_atoms_have_a_closed_form():
    """Uniform weights, C = [[0, 1], [1, 0]]: the plan is [[p, q], [q, p]], p / q = exp(1 / reg)."""
    for reg in (10.0, 0.3, 0.02):
        plan = sinkhorn_newton(None, None, [[0, 1], [1, 0]], reg, tol=1e-14).plan
        p = 0.5 / (1 + np.exp(-1 / reg))
        assert_allclose(plan, [[p, 0.5 - p], [0.5 - p, p]], rtol=1e-12, atol=1e-15)


def test_gaussians_have_a_closed_form():
    """Entropic transport between Gaussians is Gaussian; its value is known (Mallasto et al. 2022).

    In one dimension, cost (x - y)^2 and entropy relative to the product of the marginals:
    (m1 - m2)^2 + s1^2 + s2^2 - reg / 2 * (k - 1 - log(k + 1) + log 2) with
    k = sqrt(1 + 16 s1^2 s2^2 / reg^2).
    """
    grid = np.linspace(-6, 6, 401)
    m1, s1, m2, s2, reg = -0.5, 0.6, 0.7, 1.0, 0.5
    a = np.exp(-0.5 * ((grid - m1) / s1) ** 2)
    b = np.exp(-0.5 * ((grid - m2) / s2) ** 2)
    a, b = a / a.sum(), b / b.sum()
    C = (grid[:, None] - grid) ** 2
    result = sinkhorn_newton(a, b, C, reg)
    P = result.plan
    relative = result.cost + reg * (P * np.log(np.maximum(P, 1e-300) / np.outer(a, b))).sum()
    k = np.sqrt(1 + 16 * s1**2 * s2**2 / reg**2)
    value = (m1 - m2) ** 2 + s1**2 + s2**2 - reg / 2 * (k - 1 - np.log(k + 1) + np.log(2))
    assert_allclose(relative, value, rtol=1e-6)
    # The plan's covariance between x and y.
    mean = grid @ P @ grid - (grid @ a) * (grid @ b)
    assert_allclose(mean, (np.sqrt(16 * s1**2 * s2**2 + reg**2) - reg) / 4, rtol=1e-6)


@pytest.mark.parametrize("reg", [1e-2, 1e-3, 1e-4])
def test_small_reg_approaches_the_assignment(reg):
    n = 60
    C = random_assignment(n)
    rows, columns = linear_sum_assignment(C)
    exact = C[rows, columns].mean()
    result = sinkhorn_newton(None, None, C, reg)
    assert -1e-9 <= result.cost - exact <= reg * np.log(n)


def test_large_reg_gives_the_product_of_the_weights():
    a, b, C = weights(20, 1), weights(30, 2), random_assignment(20, m=30)
    for solver in (sinkhorn_newton, sinkhorn):
        assert_allclose(solver(a, b, C, 1e6).plan, np.outer(a, b), rtol=1e-5)


# The paper's claims.


@pytest.mark.parametrize("seed", range(5))
def test_newton_steps_of_the_random_assignment_of_the_paper(seed):
    """n = 500, eta = 1200: the paper reports 20 sweeps and 9 Newton steps."""
    result = sinkhorn_newton(
        None, None, random_assignment(500, seed), 1 / 1200, n_warmup=20, annealing=None, tol=1e-10
    )
    assert result.converged and result.n_warmup == 20
    assert result.n_newton <= 10


def test_annealing_of_the_same_takes_no_more_steps():
    result = sinkhorn_newton(None, None, random_assignment(500), 1 / 1200, tol=1e-10)
    assert result.converged and result.n_newton <= 10 and result.n_warmup <= 20


@pytest.mark.parametrize("kind", [random_assignment, point_clouds])
def test_error_falls_superlinearly_at_the_end(kind):
    result = sinkhorn_newton(None, None, kind(300), 1e-3, n_warmup=20, annealing=None, tol=1e-12)
    errors = result.history[:, 1]
    assert result.converged
    assert (errors[-2:] < 0.1 * errors[-3:-1]).all()


@pytest.mark.parametrize("kind", [random_assignment, point_clouds])
@pytest.mark.parametrize("reg", [1e-2, 1e-3, 1e-4])
def test_dual_value_never_decreases_within_a_stage(kind, reg):
    result = sinkhorn_newton(None, None, kind(150), reg)
    assert result.converged
    regs, _, values = result.history.T
    for stage in np.unique(regs):
        steps = np.diff(values[regs == stage])
        assert (steps >= -1e-12).all()


def test_topk_rule_of_the_paper():
    n = 200
    C = random_assignment(n)
    adaptive = sinkhorn_newton(None, None, C, 2e-3)
    few = sinkhorn_newton(None, None, C, 2e-3, sparsify="topk", density=2 / n, annealing=None)
    more = sinkhorn_newton(None, None, C, 2e-3, sparsify="topk", density=15 / n, annealing=None)
    assert few.converged and more.converged
    assert_allclose(few.plan, adaptive.plan, atol=1e-9)
    # Twice n entries are what the paper's threshold leaves; Newton is then only linear.
    assert more.n_newton < few.n_newton


# Properties at the optimum.


@pytest.mark.parametrize("reg", [0.1, 1e-2, 1e-3])
def test_duality_gap_closes(reg):
    a, b, C = weights(50, 1), weights(70, 2), random_assignment(50, m=70)
    result = sinkhorn_newton(a, b, C, reg, tol=1e-11)
    P = result.plan
    x, y = result.potentials
    primal = (C * P).sum() + reg * (P * (np.log(P) - 1)).sum()
    dual = a @ x + b @ y - reg * P.sum()
    assert_allclose(primal, dual, rtol=1e-8)
    assert_allclose(result.objective, primal, rtol=1e-8)
    assert_allclose(result.cost, (C * P).sum(), rtol=1e-12)
    assert_allclose(P, np.exp((x[:, None] + y - C) / reg), rtol=1e-9, atol=1e-300)
    assert_allclose(a @ x, b @ y, rtol=1e-9)


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    a, b, C, reg = weights(6, 1), weights(7, 2), random_assignment(6, m=7), 0.05
    result = sinkhorn_newton(a, b, C, reg, tol=1e-13)

    def value(a, b, C):
        return sinkhorn_newton(a, b, C, reg, tol=1e-13).objective

    h = 1e-5
    dC, da, db = rng.standard_normal(C.shape), rng.standard_normal(6), rng.standard_normal(7)
    da, db = da - da.mean(), db - db.mean()  # the masses stay equal
    slope = (value(a, b, C + h * dC) - value(a, b, C - h * dC)) / (2 * h)
    assert_allclose((result.grad_C * dC).sum(), slope, rtol=1e-7)
    slope = (value(a + h * da, b, C) - value(a - h * da, b, C)) / (2 * h)
    assert_allclose(result.grad_a @ da, slope, rtol=1e-6)
    slope = (value(a, b + h * db, C) - value(a, b - h * db, C)) / (2 * h)
    assert_allclose(result.grad_b @ db, slope, rtol=1e-6)


def test_warm_start_at_the_solution_takes_no_step():
    a, b, C = weights(40, 1), weights(50, 2), random_assignment(40, m=50)
    for solver in (sinkhorn_newton, sinkhorn):
        first = solver(a, b, C, 5e-3)
        again = solver(a, b, C, 5e-3, init=first.potentials, tol=2e-9)
        assert again.n_newton == 0 and again.n_warmup == 0
        assert_allclose(again.plan, first.plan, atol=1e-9)


def test_mass_other_than_one():
    a, b, C = 7 * weights(20, 1), 7 * weights(30, 2), random_assignment(20, m=30)
    result = sinkhorn_newton(a, b, C, 0.02)
    x, y = result.potentials
    assert marginal_error(result.plan, a, b) < 7e-9
    assert_allclose(result.plan, np.exp((x[:, None] + y - C) / 0.02), rtol=1e-9)
    primal = result.cost + 0.02 * (result.plan * (np.log(result.plan) - 1)).sum()
    assert_allclose(result.objective, primal, rtol=1e-8)
    assert sinkhorn_newton(a, b, C, 0.02, init=result.potentials, tol=2e-9).n_warmup == 0
    assert_allclose(sinkhorn_newton(a, None, C, 0.02).plan.sum(), 7.0)


# Invariances.


def test_symmetries():
    a, b, C, reg = weights(30, 1), weights(40, 2), random_assignment(30, m=40), 3e-3
    plan = sinkhorn_newton(a, b, C, reg, tol=1e-12).plan
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(30), rng.permutation(40)
    s, t = rng.standard_normal(30), rng.standard_normal(40)
    same = [
        sinkhorn_newton(b, a, C.T, reg, tol=1e-12).plan.T,
        sinkhorn_newton(a, b, C + s[:, None] + t, reg, tol=1e-12).plan,
        sinkhorn_newton(a, b, 12 * C, 12 * reg, tol=1e-12).plan,
        sinkhorn_newton(a, b, C, reg / np.ptp(C), relative=True, tol=1e-12).plan,
    ]
    for other in same:
        assert_allclose(other, plan, atol=1e-9)
    other = sinkhorn_newton(a[rows], b[columns], C[np.ix_(rows, columns)], reg, tol=1e-12).plan
    assert_allclose(other, plan[np.ix_(rows, columns)], atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
def test_scale_of_the_costs_does_not_matter(scale, solver):
    C = random_assignment(40)
    plan = solver(None, None, C, 0.05).plan
    assert_allclose(solver(None, None, C * scale, 0.05 * scale).plan, plan, atol=1e-9)


def test_float32_input_is_solved_in_float64():
    a, b, C = weights(30, 1), weights(40, 2), random_assignment(30, m=40).astype(np.float32)
    result = sinkhorn_newton(a.astype(np.float32), b.astype(np.float32), C, 1e-3)
    assert result.converged and result.plan.dtype == np.float64
    wanted = sinkhorn_newton(
        a.astype(np.float32).astype(float),
        b.astype(np.float32).astype(float),
        C.astype(float),
        1e-3,
    )
    assert_array_equal(result.plan, wanted.plan)


@pytest.mark.parametrize("kind", [random_assignment, point_clouds])
def test_results_do_not_depend_on_threads(kind):
    one, two = (sinkhorn_newton(None, None, kind(700), 1e-3, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert_array_equal(one.plan, two.plan)
    assert one.n_cg == two.n_cg


def test_input_is_not_written_to():
    a, b, C = weights(20, 1), weights(20, 2), random_assignment(20)
    before = a.copy(), b.copy(), C.copy()
    for array in (a, b, C):
        array.setflags(write=False)
    sinkhorn_newton(a, b, C, 1e-2)
    sinkhorn(a, b, np.asfortranarray(C), 1e-2)
    for array, old in zip((a, b, C), before, strict=True):
        assert_array_equal(array, old)


# Hard cases: converged, and never NaN.


@pytest.mark.parametrize("kind", [random_assignment, point_clouds])
@pytest.mark.parametrize("reg", [1e-3, 1e-4, 1e-5])
def test_small_regularisation_converges(kind, reg):
    n = 120
    result = sinkhorn_newton(None, None, kind(n), reg)
    assert result.converged and np.isfinite(result.plan).all()
    assert marginal_error(result.plan, 1 / n, 1 / n) < 2e-9


def test_costs_with_ties():
    """L1 costs on a grid, whose linear program has many solutions: the paper's hard case."""
    side = np.arange(12.0)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    C = cdist(grid, grid, "cityblock") / 22
    result = sinkhorn_newton(weights(144, 1), weights(144, 2), C, 1 / 1200)
    assert result.converged


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
@pytest.mark.parametrize("reg", [1.0, 1e-2])
def test_equal_costs_give_the_product(solver, reg):
    a, b = weights(5, 1), weights(9, 2)
    for C in (np.zeros((5, 9)), np.full((5, 9), 3.0)):
        assert_allclose(solver(a, b, C, reg).plan, np.outer(a, b), atol=1e-12)
        assert_allclose(solver(a, b, C, reg, relative=True).plan, np.outer(a, b), atol=1e-12)


def test_duplicated_points_share_what_one_had():
    a, b, C = weights(10, 1), weights(12, 2), random_assignment(10, m=12)
    plan = sinkhorn_newton(a, b, C, 1e-2).plan
    twice = sinkhorn_newton(np.repeat(a, 2) / 2, b, np.repeat(C, 2, axis=0), 1e-2).plan
    assert_allclose(twice, np.repeat(plan, 2, axis=0) / 2, atol=1e-9)


def test_points_at_few_places_keep_all_that_carries_mass():
    """A third of a million entries is needed here: none of them is dropped for its number."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(5, 2))[rng.integers(5, size=1100)]
    Y = rng.normal(size=(6, 2))[rng.integers(6, size=1000)]
    for cost in ((X, Y), ((X[:, None] - Y) ** 2).sum(axis=-1)):
        result = sinkhorn_newton(None, None, cost, 1e-3)
        assert result.converged and result.n_newton < 40


def test_weights_over_eight_orders_of_magnitude():
    n = 60
    a = np.logspace(-8, 0, n)
    b = np.random.default_rng(0).permutation(a)
    a, b = a / a.sum(), b / b.sum()
    for reg in (1e-1, 1e-2, 1e-3):
        result = sinkhorn_newton(a, b, random_assignment(n), reg)
        assert result.converged and np.isfinite(result.plan).all()
        assert marginal_error(result.plan, a, b) < 2e-9


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
def test_atoms_without_mass_carry_nothing(solver):
    a, b, C = weights(20, 1), weights(25, 2), random_assignment(20, m=25)
    a[3] = a[7] = b[0] = 0.0
    b *= a.sum() / b.sum()
    result = solver(a, b, C, 1e-2)
    assert result.converged
    assert (result.plan[[3, 7]] == 0).all() and (result.plan[:, 0] == 0).all()
    kept = np.ix_(a > 0, b > 0)
    without = solver(a[a > 0], b[b > 0], C[kept], 1e-2)
    assert_allclose(result.plan[kept], without.plan, atol=1e-12)
    assert (np.flatnonzero(~np.isfinite(result.potentials[0])) == [3, 7]).all()
    assert solver(a, b, C, 1e-2, init=result.potentials, tol=2e-9).n_warmup == 0


def test_huge_costs_act_as_forbidden_pairs():
    C = random_assignment(30)
    forbidden = np.random.default_rng(1).random((30, 30)) < 0.5
    np.fill_diagonal(forbidden, False)
    reg = 1e-2
    result = sinkhorn_newton(None, None, np.where(forbidden, 1e6 * reg, C), reg)
    assert result.converged and np.isfinite(result.plan).all()
    assert result.plan[forbidden].max() < 1e-100


def test_history_counts_each_pass():
    result = sinkhorn_newton(None, None, random_assignment(50), 1e-3)
    assert result.history.shape[1] == 3
    assert len(result.history) >= result.n_newton + result.n_warmup
    assert_allclose(result.history[-1, 1], result.marginal_error, atol=1e-15)  # of the plan
    assert result.reg == result.history[-1, 0] == 1e-3


# Ways to give the cost, and to take the plan.


def test_points_in_blocks_are_the_matrix():
    rng = np.random.default_rng(0)
    X, Y = rng.random((60, 2)), rng.random((80, 2))
    C = cdist(X, Y, "sqeuclidean")
    stored = sinkhorn_newton(None, None, C, 1e-3)
    blocks = sinkhorn_newton(None, None, (X, Y), 1e-3, max_dense=0)
    points = sinkhorn_newton(None, None, (X, Y), 1e-3)
    assert isinstance(points.plan, np.ndarray) and isinstance(blocks.plan, csr_array)
    assert_allclose(points.plan, stored.plan, atol=1e-9)
    assert_allclose(blocks.plan.toarray(), stored.plan, atol=1e-9)
    assert_allclose(blocks.cost, stored.cost, rtol=1e-8)
    assert blocks.dropped_mass < 1e-10
    plain = sinkhorn(None, None, (X, Y), 0.05, max_dense=0)
    assert_allclose(plain.plan.toarray(), sinkhorn(None, None, C, 0.05).plan, atol=1e-9)


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
def test_a_sparse_support_with_all_pairs_is_the_matrix(solver):
    a, b, C = weights(30, 1), weights(20, 2), random_assignment(30, m=20)
    C[0, 0] = 0.0  # a stored zero is a pair that costs nothing
    full = csr_array((C.ravel(), np.tile(np.arange(20), 30), np.arange(0, 601, 20)), C.shape)
    result = solver(a, b, full, 1e-2)
    assert isinstance(result.plan, csr_array) and result.dropped_mass == 0
    assert_allclose(result.plan.toarray(), solver(a, b, C, 1e-2).plan, atol=1e-9)
    if solver is sinkhorn_newton:
        few = solver(a, b, full, 1e-2, sparsify="topk", density=0.1, n_warmup=5)
        assert_allclose(few.plan.toarray(), result.plan.toarray(), atol=1e-8)


def test_a_support_of_grid_neighbours_equals_large_costs_elsewhere():
    n = 60
    position = np.arange(n)
    C = np.abs(position[:, None] - position) / 4.0
    C[C > 1] = np.inf
    rows, columns = np.nonzero(np.isfinite(C))
    support = csr_array((C[rows, columns], (rows, columns)), shape=C.shape)
    a = 1 + 0.3 * np.sin(position / 4)
    b = 1 + 0.3 * np.cos(position / 4)
    a, b = a / a.sum(), b / b.sum()
    sparse = sinkhorn_newton(a, b, support, 0.01)
    dense = sinkhorn_newton(a, b, np.where(np.isfinite(C), C, 50.0), 0.01)
    assert sparse.converged
    assert_allclose(sparse.plan.toarray(), dense.plan, atol=1e-8)
    # Atoms without mass leave the support too.
    a[5] = b[9] = 0.0
    left = sinkhorn_newton(a / a.sum(), b / b.sum(), support, 0.01)
    assert left.converged and left.plan.toarray()[5].sum() == 0


def test_sparse_plan_drops_next_to_nothing():
    C = point_clouds(100)
    dense = sinkhorn_newton(None, None, C, 1e-3)
    sparse = sinkhorn_newton(None, None, C, 1e-3, return_sparse=True)
    assert isinstance(sparse.plan, csr_array)
    assert sparse.plan.nnz < 0.5 * C.size
    assert_allclose(sparse.plan.toarray(), dense.plan, atol=1e-15)
    assert 0 <= sparse.dropped_mass < 1e-12


def test_verbose_prints_a_line_a_stage(capsys):
    sinkhorn_newton(None, None, random_assignment(30), 1e-3, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1 and all("marginal error" in line for line in lines)
    sinkhorn(None, None, random_assignment(30), 0.1, verbose=1)
    assert "sweeps" in capsys.readouterr().out


# Refusals.


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
@pytest.mark.parametrize(
    "change, kind, message",
    [
        ({"reg": 0.0}, ValueError, "reg must be a positive finite number, got 0.0"),
        ({"reg": -1.0}, ValueError, "reg must be a positive"),
        ({"reg": np.inf}, ValueError, "reg must be a positive finite"),
        ({"reg": np.nan}, ValueError, "reg must be a positive finite"),
        ({"reg": "small"}, TypeError, "reg must be a positive number"),
        ({"a": [0.5, 0.6, -0.1]}, ValueError, "a must not be negative; its smallest entry is -0.1"),
        ({"a": [0.5, 0.5]}, ValueError, r"a must have shape \(3,\)"),
        ({"b": [0.5, np.nan]}, ValueError, "NaN"),
        ({"b": [0.0, 0.0]}, ValueError, "b must have a positive sum"),
        ({"a": [0.2, 0.2, 0.2], "b": [0.5, 0.5]}, ValueError, "sums 0.6 and 1"),
        ({"C": [[np.nan, 0], [0, 1], [1, 1]]}, ValueError, "C contains NaN"),
        ({"C": [[np.inf, 0], [0, 1], [1, 1]]}, ValueError, "C contains infinity"),
        ({"C": np.zeros((0, 2))}, ValueError, "0 sample"),
        ({"C": np.zeros(3)}, ValueError, "2D"),
        ({"C": (np.zeros((3, 2)), np.zeros((2, 3)))}, ValueError, "2 and 3 coordinates"),
        ({"C": (np.zeros((3, 2)),)}, ValueError, "two sets of points"),
        (
            {"C": (np.zeros((3, 2)), np.zeros((2, 2))), "metric": "nearness"},
            ValueError,
            "metric must be a callable or one of .*got 'nearness'",
        ),
        ({"init": (np.zeros(3), np.zeros(3))}, ValueError, r"init\[1\] must have shape \(2,\)"),
        ({"tol": 0}, ValueError, "tol must be a positive"),
        ({"max_iter": -1}, ValueError, "max_iter must be an integer >= 0"),
        ({"max_iter": 1.5}, TypeError, "max_iter must be an integer"),
        ({"max_dense": -1}, ValueError, "max_dense"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(solver, change, kind, message):
    arguments = {"a": None, "b": None, "C": [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]], "reg": 0.1}
    arguments |= change
    with pytest.raises(kind, match=message):
        solver(arguments.pop("a"), arguments.pop("b"), **arguments)


@pytest.mark.parametrize(
    "change, kind, message",
    [
        ({"n_warmup": "some"}, ValueError, "n_warmup must be 'auto' or an integer"),
        ({"n_warmup": -1}, ValueError, "n_warmup"),
        ({"annealing": 1.0}, ValueError, "annealing must be 'auto', None or a factor above 1"),
        ({"annealing": "slow"}, ValueError, "annealing must be"),
        ({"sparsify": "random"}, ValueError, "sparsify must be 'adaptive' or 'topk'"),
        ({"sparsify": "topk"}, ValueError, "needs density"),
        ({"sparsify": "topk", "density": 2.0}, ValueError, r"density must be in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        sinkhorn_newton(None, None, np.eye(3), 0.1, **change)


def test_a_support_without_partners_is_refused():
    support = csr_array(([1.0, 1.0], ([0, 1], [0, 0])), shape=(2, 2))
    with pytest.raises(ValueError, match="no entry in 1 columns that have mass"):
        sinkhorn_newton(None, None, support, 0.1)


def test_nearly_equal_sums_are_evened_out():
    a = np.full(4, 0.25)
    result = sinkhorn_newton(a, a * (1 + 5e-7), random_assignment(4), 0.05, tol=1e-12)
    assert result.converged


@pytest.mark.parametrize("solver", [sinkhorn_newton, sinkhorn])
def test_not_converged_is_said_with_the_error(solver):
    with pytest.warns(ConvergenceWarning, match=r"marginal error is \d.*above tol=1e-09") as caught:
        result = solver(None, None, random_assignment(50), 1e-3, max_iter=1)
    assert not result.converged and np.isfinite(result.plan).all()
    assert f"{result.marginal_error:.3g}" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_rounding_is_named_where_it_is_the_reason():
    with pytest.warns(ConvergenceWarning, match="to rounding alone"):
        C = random_assignment(20, m=30)
        result = sinkhorn_newton(weights(20, 1), weights(30, 2), C, 1e-9, tol=1e-13)
    assert np.isfinite(result.plan).all()


def test_a_support_that_cannot_carry_the_mass_is_named():
    support = csr_array(([1.0, 1.0, 1.0], ([0, 1, 1], [0, 0, 1])), shape=(2, 2))
    with pytest.warns(ConvergenceWarning, match="support"):
        result = sinkhorn_newton([0.5, 0.5], [0.2, 0.8], support, 0.1)
    assert not result.converged and np.isfinite(result.plan.data).all()


def test_no_warning_of_numpy_escapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reg in (1.0, 1e-4):
            sinkhorn_newton(None, None, random_assignment(60), reg)
        sinkhorn(None, None, random_assignment(60), 0.02)


# What a plan is said to be, it is.


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 2), (30, 47)])
@pytest.mark.parametrize("offset", [0.0, -5.0, 1e3])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_error_is_that_of_the_plan_also_beside_large_costs(shape, offset, sparse):
    """Exponents that are differences of numbers like 1e9 miss the rows by 1e-7; the plan not."""
    rng = np.random.default_rng(0)
    a, b, C = weights(shape[0], 1), weights(shape[1], 2), offset + rng.random(shape)
    for reg in (1e-2, 1e-5, 1e-7, 1e-9):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = sinkhorn_newton(a, b, C, reg, return_sparse=sparse)
        error = marginal_error(result.plan, a, b)
        assert_allclose(result.marginal_error, error, rtol=1e-3, atol=1e-15)
        assert result.converged == (result.marginal_error < 1e-9)
        if offset == 0.0 and reg >= 1e-7:
            assert result.converged


@pytest.mark.parametrize("shape", [(1, 9), (2, 2), (30, 47), (47, 30)])
@pytest.mark.parametrize("reg", [1e-3, 1e-4])
def test_weights_over_twelve_orders_at_small_reg(shape, reg):
    """Columns that no row reaches at first, and atoms that matter less than the tolerance."""
    rng = np.random.default_rng(3)
    a, b = (10 ** rng.uniform(-12, 0, k) for k in shape)
    a, b, C = a / a.sum(), b / b.sum(), rng.random(shape)
    result = sinkhorn_newton(a, b, C, reg)
    assert result.converged
    assert marginal_error(result.plan, a, b) < 1e-9


@pytest.mark.parametrize("kind", ["dense", "sparse", "points"])
def test_columns_out_of_reach_are_set_exactly(kind):
    rng = np.random.default_rng(0)
    X, Y = rng.random((40, 2)), rng.random((30, 2))
    Y[:3] += 50.0
    C = cdist(X, Y, "sqeuclidean")
    given = {"dense": C, "sparse": csr_array(C), "points": (X, Y)}[kind]
    result = sinkhorn_newton(None, None, given, 0.05, n_warmup=3, annealing=None, max_dense=0)
    assert result.converged
    plan = result.plan if kind == "dense" else result.plan.toarray()
    assert_allclose(plan, sinkhorn_newton(None, None, C, 0.05).plan, atol=1e-9)


def test_a_start_from_potentials_meets_the_same_tolerance():
    for n in (30, 100, 300):
        for reg in (0.05, 1e-3, 1e-4):
            C = random_assignment(n)
            first = sinkhorn_newton(None, None, C, reg)
            again = sinkhorn_newton(None, None, C, reg, init=first.potentials)
            assert (again.n_warmup, again.n_newton) == (0, 0) and again.converged


def test_weights_next_to_nothing_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = sinkhorn_newton([1e-310, 1.0, 1.0], None, random_assignment(3), 0.1)
    assert result.converged and (result.plan[0] == 0).all()


def test_momentum_saves_sweeps_and_loses_no_value():
    C = random_assignment(400)
    plain = sinkhorn(None, None, C, 7e-3)
    result = sinkhorn_newton(None, None, C, 7e-3)
    assert result.converged and result.n_newton == 0
    assert result.n_warmup <= 0.75 * plain.n_warmup
    values = result.history[result.history[:, 0] == 7e-3, 2]
    assert (np.diff(values) >= -1e-15).all()
    assert_allclose(result.plan, plain.plan, atol=1e-9)


@pytest.mark.parametrize("reg", [1.0, 1e-3, 1e-7])
def test_an_error_of_exactly_zero_is_no_division_by_it(reg):
    result = sinkhorn_newton([0.25, 0.75], [1.0], [[0.3], [0.9]], reg)
    assert result.converged
    result = sinkhorn_newton(None, None, [[0.5, 0.25], [0.5, 0.25]], reg)
    assert_allclose(result.plan, 0.25, rtol=1e-7)


@pytest.mark.parametrize("seed, reg", [(0, 1e-3), (0, 1e-4), (3, 1e-3)])
def test_sweeps_that_gain_are_no_standstill(seed, reg):
    """Columns with next to no mass spoil Newton's steps; sweeps, which then help, need a while."""
    b = np.r_[1e-299, 1e-290, 1e-200, 1e-100, np.full(26, 1.0)]
    C = np.random.default_rng(seed).random((40, 30))
    # It gave up at an error of 2e-2.
    assert sinkhorn_newton(None, b / b.sum(), C, reg).marginal_error < 1e-6


def test_costs_whose_range_overflows_are_refused():
    C = np.diag([-1.7e308, 1.7e308])
    with pytest.raises(ValueError, match=r"costs range from -1.7e\+308 to 1.7e\+308"):
        sinkhorn_newton(None, None, C, 1e300)
    with pytest.raises(ValueError, match=r"costs range from"):
        pairwise_transport_distances(np.eye(2), C=C, reg=1e300)


def smooth_densities(seed, n=100):
    """Peaks on a common grid, with long tails or a small background."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, n)
    weights = []
    for _ in range(2):
        centres, widths = rng.uniform(0.05, 0.95, (2, 1)), 10 ** rng.uniform(-2.2, -0.9, (2, 1))
        peaks = rng.uniform(0.3, 1.0, 2) @ np.exp(-0.5 * ((x - centres) / widths) ** 2)
        weights.append(peaks + [0.0, 1e-6, 1e-10][seed % 3])
    return *(w / w.sum() for w in weights), np.abs(x[:, None] - x)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_smooth_densities_on_a_common_grid_take_few_steps(seed, power):
    """Rows of little mass are in the Newton system, and follow from stage to stage."""
    a, b, distances = smooth_densities(seed)
    result = sinkhorn_newton(a, b, distances**power, 1e-4, relative=True)
    assert result.converged and result.n_newton <= 60


def test_sums_of_small_columns_follow_on_the_way():
    """Potentials where there is hardly any mass are right to the last stage's accuracy."""
    a, b, distances = smooth_densities(1)
    result = sinkhorn_newton(a, b, distances, 1e-3, relative=True, tol=1e-12)
    x, y = result.potentials
    plan = np.exp((x[:, None] + y - distances) / result.reg)
    assert_allclose(plan.sum(axis=0), b, rtol=1e-3)


def test_bounds_of_entries_are_those_of_row_or_column():
    rng = np.random.default_rng(0)
    C, u, v = rng.random((7, 9)), rng.standard_normal(7), rng.standard_normal(9)
    low = rng.uniform(-12.0, -2.0, 7), rng.uniform(-12.0, -2.0, 9)
    logarithms = u[:, None] + v - 9.0 * C
    kept = logarithms >= np.minimum(low[0][:, None], low[1])
    assert 0 < kept.sum() < kept.size
    sparse = SparseCost(csr_array(C + 1e-300))
    points = rng.random((7, 2)), rng.random((9, 2))
    for cost, wanted in ((DenseCost(C), kept), (sparse, kept)):
        indptr, indices, values = cost.entries(9.0, u, v, low)
        found = csr_array((values, indices, indptr), shape=(7, 9)).toarray()
        assert_allclose(found, np.where(wanted, np.exp(logarithms), 0.0), rtol=1e-12)
    tiles = TileCost(*points, "sqeuclidean")
    logarithms = u[:, None] + v - 9.0 * cdist(*points, "sqeuclidean")
    indptr, indices, values = tiles.entries(9.0, u, v, low)
    found = csr_array((values, indices, indptr), shape=(7, 9)).toarray()
    kept = logarithms >= np.minimum(low[0][:, None], low[1])
    assert_allclose(found, np.where(kept, np.exp(logarithms), 0.0), rtol=1e-9)


def test_a_result_prints_one_short_line():
    text = repr(sinkhorn_newton(None, None, random_assignment(200), 0.01))
    assert text.startswith("TransportResult(200 x 200 plan, cost=") and len(text) < 120
