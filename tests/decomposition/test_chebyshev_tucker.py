"""Chebyshev-Tucker functions: closed forms, error bounds, arithmetic, the paper's claim."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from numpy.testing import assert_allclose
from scipy.interpolate import CubicSpline
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklr.decomposition import (
    ChebyshevTucker,
    cheb_points,
    cheb_values_to_coefficients,
    hosvd,
    newton_kernel_cp,
    rhosvd,
)
from sklr.decomposition._tucker import multiply, singular

CUBE = [(-1, 1)] * 3


def points_in(bounds, n=300, seed=0):
    low, high = np.asarray(bounds, dtype=float).T
    return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))


def relative_error(f, func, bounds, n=500):
    X = points_in(bounds, n)
    truth = func(*X.T)
    return np.abs(f(X) - truth).max() / np.abs(truth).max()


def random_tensor(shape, rank, seed=0):
    """A Tucker tensor with some noise below."""
    rng = np.random.default_rng(seed)
    core = rng.standard_normal((rank,) * len(shape))
    C = multiply(core, [np.linalg.qr(rng.standard_normal((m, rank)))[0] for m in shape])
    return C + 1e-4 * rng.standard_normal(shape)


# Series along one axis.


@pytest.mark.parametrize("m", [1, 2, 3, 8, 17])
def test_coefficients_are_those_of_numpy(m):
    def f(x):
        return np.exp(x) * np.sin(3 * x)

    got = cheb_values_to_coefficients(f(cheb_points(m)))
    wanted = chebyshev.chebfit(cheb_points(m), f(cheb_points(m)), m - 1)
    assert_allclose(got, wanted, atol=1e-13)


def test_coefficients_of_several_axes_are_those_of_numpy_composed():
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal((5, 4, 3))
    values = chebyshev.chebgrid3d(cheb_points(5), cheb_points(4), cheb_points(3), coefficients)
    got = values
    for axis in range(3):
        got = cheb_values_to_coefficients(got, axis)
    assert_allclose(got, coefficients, atol=1e-13)


def test_points_are_nested_ascending_and_symmetric():
    assert_allclose(cheb_points(17)[::2], cheb_points(9), atol=1e-16)
    points = cheb_points(12, (-3, 5))
    assert (np.diff(points) > 0).all() and points[0] == -3 and points[-1] == 5
    np.testing.assert_array_equal(cheb_points(9), -cheb_points(9)[::-1])
    assert cheb_points(1, (0, 4)) == [2.0]


@pytest.mark.parametrize("args", [(0,), (2.0,), (3, (1, 1)), (3, (2, 1)), (3, (0, np.inf))])
def test_bad_points_are_refused(args):
    with pytest.raises((ValueError, TypeError), match="m must|bounds must"):
        cheb_points(*args)


# Decompositions of arrays.


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-12])
@pytest.mark.parametrize("shape", [(9,), (8, 11), (12, 9, 10), (5, 6, 4, 7)])
def test_hosvd_keeps_its_tolerance(shape, tol):
    C = random_tensor(shape, 2)
    core, factors = hosvd(C, tol)
    assert np.linalg.norm(multiply(core, factors) - C) <= tol * np.linalg.norm(C) * (1 + 1e-9)
    for V in factors:
        assert_allclose(V.T @ V, np.eye(V.shape[1]), atol=1e-12)


def test_sweeps_do_not_raise_the_error_which_is_near_the_best():
    C = random_tensor((14, 12, 13), 6)

    def error(n_iter):
        core, factors = hosvd(C, ranks=3, n_iter=n_iter)
        return np.linalg.norm(multiply(core, factors) - C)

    errors = [error(n) for n in (0, 1, 2, 30)]
    assert errors[1] <= errors[0] * (1 + 1e-12) and errors[2] <= errors[1] * (1 + 1e-12)
    # No decomposition of these ranks is below the largest tail of an unfolding.
    tails = [
        np.linalg.norm(singular(np.moveaxis(C, k, 0).reshape(C.shape[k], -1))[1][3:])
        for k in range(3)
    ]
    assert max(tails) <= errors[-1] and errors[0] <= np.sqrt(3) * errors[-1]


def test_singular_values_keep_all_digits():
    """Through a Gram matrix the small ones would be lost."""
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    V, _ = np.linalg.qr(rng.standard_normal((700, 6)))
    s = 10.0 ** -np.arange(0, 12, 2)
    assert_allclose(singular(U * s @ V.T)[1], s, rtol=1e-4)  # 1e-10 with 16 digits


def test_rank_does_not_fall_as_the_tolerance_does():
    C = random_tensor((10, 10, 10), 3)
    ranks = [np.array(hosvd(C, tol)[0].shape) for tol in (1e-1, 1e-2, 1e-4, 1e-8)]
    assert all((a <= b).all() for a, b in zip(ranks, ranks[1:]))


@pytest.mark.parametrize("cancel", [False, True])
def test_rhosvd_keeps_its_tolerance_whatever_the_weights(cancel):
    """Also where terms cancel each other and the sum is far smaller than they are."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((15, 8)) for _ in range(3)]
    weights = 10.0 ** np.linspace(3, -6, 8)
    if cancel:
        factors = [np.hstack([U, U]) for U in factors]
        factors[0][:, 8:] += 1e-5 * rng.standard_normal((15, 8))
        weights = np.concatenate([weights, -weights])
    C = multiply_cp(weights, factors)
    for tol in (1e-3, 1e-7):
        core, V = rhosvd(weights, factors, tol)
        assert np.linalg.norm(multiply(core, V) - C) <= tol * np.linalg.norm(C)
        if not cancel:
            # Half of the tolerance is spent before the core is cut.
            best = np.array(hosvd(C, tol)[0].shape)
            assert (best <= core.shape).all() and (core.shape <= best + 1).all()


def multiply_cp(weights, factors):
    return np.einsum("r,ir,jr,kr->ijk", weights, *factors)


def test_rhosvd_does_not_depend_on_where_the_scale_is():
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((12, 5)) for _ in range(3)]
    weights = np.array([1.0, -1e-2, 1e-4, 1e-6, 1e-8])
    wanted = multiply(*rhosvd(weights, factors, 1e-6))
    scale = 10.0 ** rng.uniform(-5, 5, 5)
    moved = [factors[0] * scale, factors[1] / scale**2, factors[2]]
    core, V = rhosvd(1e7 * weights * scale, moved, 1e-6)
    assert core.shape == rhosvd(weights, factors, 1e-6)[0].shape
    assert_allclose(multiply(core, V) / 1e7, wanted, atol=1e-10)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: hosvd(np.zeros((0, 2))), "entries"),
        (lambda: hosvd([[1.0, np.nan]]), r"C\[0, 1\] is nan"),
        (lambda: hosvd(np.eye(3), ranks=4), "axis 0 must be from 1 to its length 3, got 4"),
        (lambda: hosvd(np.eye(3), ranks=(1, 2, 3)), "each of the 2 axes"),
        (lambda: hosvd(np.eye(3), tol=-1), "tol must be"),
        (lambda: rhosvd([1.0, 2.0], [np.ones((3, 2)), np.ones((3, 3))]), r"factors\[1\] must be"),
        (lambda: rhosvd([1.0], [np.array([[1.0], [np.inf]])]), r"factors\[0\]\[1, 0\] is inf"),
        (lambda: cheb_values_to_coefficients(np.ones(3), axis=1), "axis must be"),
    ],
)
def test_bad_arrays_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Functions: closed forms.


def test_polynomials_are_exact_with_the_right_rank():
    f = ChebyshevTucker().fit_function(lambda x, y, z: x * y * z + x**2, CUBE)
    assert f.rank_ == (2, 2, 2) and f.degree_ == (3, 2, 2)
    assert relative_error(f, lambda x, y, z: x * y * z + x**2, CUBE) < 1e-13


@pytest.mark.parametrize("degree", ["auto", 33, (30, 40, 35)])
@pytest.mark.parametrize(
    "func, rank",
    [
        (lambda x, y, z: np.exp(-(x**2) - y**2 - z**2), (1, 1, 1)),
        (lambda x, y, z: np.exp(x) * np.sin(y) * np.cos(z), (1, 1, 1)),
        (lambda x, y, z: np.cos(5 * (x + y + z)), (2, 2, 2)),
    ],
)
def test_ranks_of_known_functions(func, rank, degree):
    f = ChebyshevTucker(degree, tol=1e-10).fit_function(func, CUBE)
    assert f.rank_ == rank
    assert degree == "auto" or f.degree_ == tuple(np.broadcast_to(degree, 3))
    assert relative_error(f, func, CUBE) < 1e-9 and f.error_estimate_ < 1e-9


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("method", ["auto", "cross"])
def test_any_dimension(d, method):
    def func(*x):
        return 1 / (sum(x) + 3)

    box = [(0, 1)] * d
    f = ChebyshevTucker(tol=1e-7, method=method).fit_function(func, box)
    # Coefficients are cut in the Frobenius norm; values are sums of many of them.
    assert relative_error(f, func, box) < 1e-6
    assert len(f.rank_) == len(f.factors_) == d
    if d > 3:
        assert f.n_evaluations_ < 40_000  # the grid alone has 17^4 points, or 17^5


def test_nodes_give_the_values_back():
    rng = np.random.default_rng(0)
    grid = [cheb_points(m, (0, 2)) for m in (7, 5, 6)]
    values = rng.standard_normal((7, 5, 6))
    f = ChebyshevTucker(tol=1e-14).fit_grid(values, grid)
    assert_allclose(f.to_grid(*grid), values, atol=1e-12)


def test_axes_may_be_permuted_and_the_box_moved():
    def func(x, y, z):
        return np.exp(x * y) + np.sin(z + 2 * x)

    f = ChebyshevTucker().fit_function(func, CUBE)
    g = ChebyshevTucker().fit_function(lambda z, x, y: func(x, y, z), CUBE)
    assert g.rank_ == tuple(f.rank_[k] for k in (2, 0, 1))
    X = points_in(CUBE)
    assert_allclose(g(X[:, [2, 0, 1]]), f(X), atol=1e-7)
    moved = [(10, 14), (-1, 0), (0, 1e-3)]
    low, high = np.array(moved, dtype=float).T

    def elsewhere(*x):
        return func(*(2 * (c - a) / (b - a) - 1 for c, a, b in zip(x, low, high)))

    h = ChebyshevTucker().fit_function(elsewhere, moved)
    assert h.rank_ == f.rank_ and h.degree_ == f.degree_
    assert_allclose(h(low + (high - low) * (X + 1) / 2), f(X), atol=1e-10)


def test_values_once_computed_are_used_again():
    seen = []

    def func(x, y):
        seen.append(np.column_stack([x, y]))
        return np.cos(20 * x) * y

    f = ChebyshevTucker().fit_function(func, [(-1, 1)] * 2)
    asked = np.vstack(seen)
    assert len(asked) == f.n_evaluations_
    assert len(np.unique(asked.round(12), axis=0)) == len(asked)


def test_single_points_and_constants():
    f = ChebyshevTucker().fit_function(lambda x, y: 3.0, [(0, 1)] * 2)
    assert f.degree_ == (1, 1) and f([0.2, 0.3]) == pytest.approx(3.0, rel=1e-14)
    g = ChebyshevTucker(9).fit_function(
        lambda x, y: float(x) * y if isinstance(x, float) else 1 / 0, [(0, 1)] * 2, vectorized=False
    )
    assert g([0.5, 0.5]) == pytest.approx(0.25, rel=1e-13)
    zero = ChebyshevTucker().fit_function(lambda x: 0.0 * x, [(0, 1)])
    assert zero([0.5]) == 0.0 and zero.integrate() == 0.0


def test_evaluation_is_that_of_numpy():
    """The compiled blocks against NumPy's polynomial sums, also across blocks of points."""
    f = ChebyshevTucker(tol=1e-6).fit_function(lambda x, y, z: 1 / (1 + x**2 + y * z / 2), CUBE)
    X = points_in(CUBE, 300)
    C = multiply(f.core_, f.factors_)
    wanted = chebyshev.chebval3d(*X.T, C)
    assert_allclose(f(X), wanted, atol=1e-12)
    assert_allclose(f(X[:1]), wanted[:1], atol=1e-12)
    assert f(X.reshape(3, 100, 3)).shape == (3, 100)
    assert f(np.empty((0, 3))).shape == (0,)
    axes = (X[:4, 0], X[:5, 1], X[:6, 2])
    assert_allclose(f.to_grid(*axes), chebyshev.chebgrid3d(*axes, C), atol=1e-12)


def test_tucker_of_a_grid_is_orthogonal_only_when_asked():
    f = ChebyshevTucker().fit_function(lambda x, y: np.cos(3 * x * y), [(-1, 1)] * 2)
    x = np.linspace(-1, 1, 50)
    core, factors = f.to_tucker(x, x)
    for V in factors:
        assert_allclose(V.T @ V, np.eye(V.shape[1]), atol=1e-12)
    assert_allclose(multiply(core, factors), f.to_grid(x, x), atol=1e-12)
    _, plain = f.to_tucker(x, x, orthogonal=False)
    assert np.abs(plain[0].T @ plain[0] - np.eye(plain[0].shape[1])).max() > 0.1


# Calculus and arithmetic.


def test_derivative_is_the_fit_of_the_derivative():
    f = ChebyshevTucker(tol=1e-13).fit_function(
        lambda x, y, z: np.exp(x * y) * np.sin(z), [(0, 2), (-1, 1), (1, 4)]
    )
    g = f.derivative(-2)
    X = points_in(f.bounds_)
    x, y, z = X.T
    assert_allclose(g(X), x * np.exp(x * y) * np.sin(z), atol=1e-9)
    assert g.degree_[1] == f.degree_[1] - 1
    assert np.isnan(g.error_estimate_)
    constant = f.integrate((0, 2))
    assert constant.bounds_.tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("method", ["full", "cross"])
def test_integral_is_the_closed_form(method):
    f = ChebyshevTucker(tol=1e-14, method=method).fit_function(
        lambda x, y, z: np.exp(x) * np.sin(y) * np.cos(z), [(0, 1), (0, 2), (-1, 1)]
    )
    wanted = (np.e - 1) * (1 - np.cos(2)) * 2 * np.sin(1)
    assert f.integrate() == pytest.approx(wanted, rel=1e-13)
    part = f.integrate([0, 2])
    assert part([1.0]) == pytest.approx((np.e - 1) * np.sin(1) * 2 * np.sin(1), rel=1e-12)


def test_sums_multiples_and_rounding():
    f = ChebyshevTucker(tol=1e-12).fit_function(lambda x, y: np.cos(x + y), [(0, 1), (0, 2)])
    g = ChebyshevTucker(tol=1e-12).fit_function(lambda x, y: x * y**5, [(0, 1), (0, 2)])
    X = points_in(f.bounds_)
    F, G = f(X), g(X)
    for got, wanted in [
        (f + g, F + G),
        (f - g, F - G),
        (3 * f, 3 * F),
        (np.float64(3) * f - np.float32(1), 3 * F - 1),
        (f / 4, F / 4),
        (-f, -F),
        (f + 2, F + 2),
        (1 - f, 1 - F),
        (f + f - f, F),
    ]:
        assert_allclose(got(X), wanted, atol=1e-12)
        for V in got.factors_:
            assert_allclose(V.T @ V, np.eye(V.shape[1]), atol=1e-12)
    assert (f + f).rank_ == (4, 4)
    small = (f + f).round(1e-10)
    assert small.rank_ == (2, 2)
    assert_allclose(small(X), 2 * F, atol=1e-9)
    assert (f + g).round(0.5).degree_ < (f + g).degree_
    with pytest.raises(ValueError, match="one box"):
        f + ChebyshevTucker(3).fit_function(lambda x, y: x, [(0, 1), (0, 1)])
    with pytest.raises(TypeError):
        f + "g"
    with pytest.raises(ValueError, match="finite number"):
        f * np.nan


def test_rounding_keeps_its_tolerance():
    f = ChebyshevTucker(tol=1e-12).fit_function(lambda x, y: 1 / (1.2 + x * y), [(-1, 1)] * 2)
    wanted = multiply(f.core_, f.factors_)
    for tol in (1e-2, 1e-5):
        g = f.round(tol)
        C = np.zeros_like(wanted)
        C[tuple(slice(m) for m in g.degree_)] = multiply(g.core_, g.factors_)
        assert np.linalg.norm(C - wanted) <= 1.2 * tol * np.linalg.norm(wanted)
        assert max(g.rank_) < max(f.rank_) and max(g.degree_) < max(f.degree_)


# Sums of products, grids.


def test_sum_of_products_equals_the_function():
    shifts, weights = np.array([0.1, -0.4, 0.6]), np.array([2.0, -1.0, 0.5])

    def func(x, y, z):
        return sum(
            w * np.exp(-2 * ((x - s) ** 2 + (y + s) ** 2 + z**2)) for w, s in zip(weights, shifts)
        )

    factors = [
        lambda x: np.exp(-2 * (x[:, None] - shifts) ** 2),
        [lambda y, s=s: np.exp(-2 * (y + s) ** 2) for s in shifts],
        cheb_values_to_coefficients(
            np.repeat(np.exp(-2 * cheb_points(40) ** 2)[:, None], 3, axis=1), 0
        ),
    ]
    f = ChebyshevTucker(tol=1e-10).fit_cp(weights, factors, CUBE)
    assert relative_error(f, func, CUBE) < 1e-9
    assert f.rank_ == (3, 3, 1)
    assert f.error_estimate_ < 1e-9
    direct = ChebyshevTucker(tol=1e-10).fit_function(func, CUBE)
    assert direct.rank_ == f.rank_
    X = points_in(CUBE)
    assert_allclose(f(X), direct(X), atol=1e-8)


def test_sum_of_products_in_many_dimensions():
    d = 12
    f = ChebyshevTucker(tol=1e-9).fit_cp(
        [1.0, 1.0], [lambda x: np.column_stack([np.cos(x), np.sin(x)])] * d, [(-1, 1)] * d
    )
    assert f.rank_ == (2,) * d
    X = points_in([(-1, 1)] * d)
    assert_allclose(f(X), np.cos(X).prod(axis=1) + np.sin(X).prod(axis=1), atol=1e-7)


def test_core_of_a_sum_of_products_that_is_too_large_is_refused():
    factors = [np.random.default_rng(k).standard_normal((12, 12)) for k in range(9)]
    with pytest.raises(ValueError, match=r"core of 5.16e\+09 entries, more than 20000000"):
        rhosvd(np.ones(12), factors)


@pytest.mark.parametrize("max_degree", [65, 40, 10])
def test_caps_that_are_no_power_of_two(max_degree):
    def func(x, y):
        return np.cos(12 * x) + y * np.exp(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if max_degree == 10 else "error")
        f = ChebyshevTucker(max_degree=max_degree).fit_function(func, [(-1, 1)] * 2)
        g = ChebyshevTucker(max_degree=max_degree, method="cross").fit_function(func, [(-1, 1)] * 2)
    assert max(f.degree_) <= max_degree and max(g.degree_) <= max_degree
    assert (relative_error(f, func, [(-1, 1)] * 2) < 1e-7) == (max_degree > 10)
    assert (relative_error(g, func, [(-1, 1)] * 2) < 1e-7) == (max_degree > 10)


def test_uniform_grid_is_limited_by_its_splines():
    def func(x, y):
        return np.exp(-2 * x**2 - y**2)

    errors = []
    for n in (20, 40, 80):
        x, y = np.linspace(-1, 1, n), np.linspace(0, 1, n)
        f = ChebyshevTucker(tol=1e-5).fit_grid(func(x[:, None], y), [x, y])
        f = ChebyshevTucker(33, tol=1e-5).fit_grid(func(x[:, None], y), [x, y])
        errors.append(relative_error(f, func, [(-1, 1), (0, 1)]))
    assert errors[0] > 4 * errors[1] and errors[2] < 1e-5
    cells = -1 + (np.arange(40) + 0.5) / 20
    f = ChebyshevTucker(25, tol=1e-5).fit_grid(
        func(cells[:, None], cells), [cells, cells], bounds=[(-1, 1)] * 2
    )
    assert relative_error(f, func, [(-1, 1)] * 2) < 1e-4


def test_short_axes_of_a_grid():
    x, y = np.linspace(0, 1, 3), np.array([0.0])
    f = ChebyshevTucker().fit_grid(x[:, None] ** 2 + y, [x, y], bounds=[(0, 1), (-1, 1)])
    assert f([0.3, 0.5]) == pytest.approx(0.09, abs=1e-12)


# The paper: range separation of the Newton kernel.


@pytest.mark.parametrize(
    "h, n_terms, error",
    [(0.5, 17, 4.8e-4), (0.4, 21, 4.0e-5), (0.3, 28, 7.3e-7), (0.25, 33, 2.7e-8), (0.2, 41, 2e-10)],
)
def test_sinc_quadrature_has_the_error_of_the_sheet(h, n_terms, error):
    weights, exponents = newton_kernel_cp(h, 1 / 256, np.sqrt(3))
    r = np.geomspace(1 / 256, np.sqrt(3), 3000)
    got = np.abs(r * (np.exp(-np.outer(r**2, exponents)) @ weights) - 1).max()
    assert len(weights) == n_terms and 0.5 * error < got < 2 * error


def test_quadrature_for_a_tolerance_and_another_scale():
    weights, exponents = newton_kernel_cp(r_min=1e-2, r_max=50.0, tol=1e-6)
    r = np.geomspace(1e-2, 50, 3000)
    assert np.abs(r * (np.exp(-np.outer(r**2, exponents)) @ weights) - 1).max() < 1.1e-6
    assert (np.diff(exponents) > 0).all()
    for bad in ({"h": 0.0}, {"h": 0.3, "tol": 0.1}, {"r_min": 2.0}, {"tol": 0.0}, {"r_min": -1}):
        with pytest.raises(ValueError, match="h|tol|r_m"):
            newton_kernel_cp(**bad)


def potential(charges, places, tol=1e-7):
    """Long-range part of a collective Newton potential: a sum of many wide Gaussians."""
    weights, exponents = (part[:9] for part in newton_kernel_cp(0.3))

    def along(k):
        def values(x):
            distance = x[:, None, None] - places[:, k, None]
            return np.exp(-exponents * distance**2).reshape(len(x), -1)

        return values

    return ChebyshevTucker(65, tol=tol).fit_cp(
        np.outer(charges, weights).ravel(), [along(k) for k in range(3)], CUBE
    )


def test_rank_of_the_long_range_does_not_grow_with_the_number_of_particles():
    """The paper's claim; a sum of 50 or 400 Gaussians in three scales has rank 24 or 25."""
    ranks = []
    for n in (50, 400):
        places = np.random.default_rng(n).uniform(-0.7, 0.7, (n, 3))
        f = potential(np.ones(n), places)
        assert f.error_estimate_ < 1.5e-7
        ranks.append(max(f.rank_))
    assert max(ranks) <= 26 and ranks[1] <= ranks[0] + 1


def test_potential_is_linear_in_the_charges():
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.7, 0.7, (20, 3))
    a, b = rng.standard_normal((2, 20))
    X = points_in(CUBE)
    both = (potential(a, places) + 2 * potential(b, places))(X)
    assert_allclose(potential(a + 2 * b, places)(X), both, atol=1e-5 * np.abs(both).max())


@pytest.mark.parametrize("n, wanted, rank", [(256, 8.4e-8, 9), (512, 5.2e-8, 11)])
def test_long_range_of_the_canonical_kernel(data_folder, n, wanted, rank):
    """The sheet's table at m = 129: error within a factor of 1.5, ranks not above."""
    U = np.load(data_folder / "functional" / f"newton_cp_{n}.npz")["U"]
    n_long = -(-U.shape[1] // 2) - 3
    U = U[:, :n_long] * (n / 2)
    x = -1 + (np.arange(n) + 0.5) * 2 / n
    f = ChebyshevTucker(129, tol=1e-7).fit_cp(np.ones(n_long), [CubicSpline(x, U)] * 3, CUBE)
    middle = np.einsum("ir,jr,r->ij", U, U, U[n // 2])
    error = np.abs(f.to_grid(x, x, x[n // 2 : n // 2 + 1])[:, :, 0] - middle).max()
    assert error < 1.5 * wanted * np.abs(middle).max()
    assert max(f.rank_) <= rank


# What is asked for in error, and what is said.


def test_kink_is_reported_with_the_error_reached():
    with pytest.warns(ConvergenceWarning, match=r"tol=1e-08 was not reached.*raise max_degree|.*"):
        f = ChebyshevTucker(max_degree=65).fit_function(lambda x: np.abs(x - 0.1), [(-1, 1)])
    assert f.degree_ == (65,) and 1e-4 < f.error_estimate_ < 1e-1
    with pytest.warns(ConvergenceWarning) as record:
        ChebyshevTucker(9).fit_function(lambda x, y: np.cos(9 * x), [(-1, 1)] * 2)
    text = str(record[0].message)
    assert "tol=1e-08" in text and "Raise degree" in text and record[0].filename == __file__


def test_given_ranks_are_no_failure_and_are_kept():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = ChebyshevTucker(17, rank=(1, 2, 2)).fit_function(
            lambda x, y, z: np.cos(x + y + z), CUBE
        )
        g = ChebyshevTucker(rank=1, method="cross").fit_function(
            lambda x, y, z: np.cos(x + y + z), CUBE
        )
    assert f.rank_ == (1, 2, 2) and g.rank_ == (1, 1, 1)
    assert f.error_estimate_ > 1e-3


def test_sweeps_of_least_squares_do_not_raise_the_error():
    def func(x, y, z):
        return 1 / (2.5 + x + 0.3 * y * z + 0.2 * z)

    errors = []
    grid = [cheb_points(17)] * 3
    values = func(*np.meshgrid(*grid, indexing="ij"))
    for n in (0, 3):
        f = ChebyshevTucker(17, 2, hooi_iter=n).fit_function(func, CUBE)
        C = values
        for axis in range(3):
            C = cheb_values_to_coefficients(C, axis)
        errors.append(np.linalg.norm(C - multiply(f.core_, f.factors_)))
    assert errors[1] <= errors[0] * (1 + 1e-12)


@pytest.mark.parametrize("method", ["full", "cross"])
def test_place_of_a_value_that_is_not_finite_is_named(method):
    def func(x, y):
        with np.errstate(invalid="ignore"):
            return np.sqrt(x - 0.2) + y

    with pytest.raises(
        ValueError, match=r"func is nan at \(0\.\d+, \d.*must be finite on the whole"
    ):
        ChebyshevTucker(method=method).fit_function(func, [(0, 1)] * 2)


@pytest.mark.parametrize(
    "bounds, message",
    [
        ([(0, 1), (1, 1)], r"bounds\[1\] must be finite numbers a < b, got \(1.0, 1.0\)"),
        ([(0, 1), (2, 1)], r"bounds\[1\]"),
        ([(0, np.inf), (0, 1)], r"bounds\[0\]"),
        ([(0, np.nan), (0, 1)], r"bounds\[0\]"),
        ((0, 1), "one pair"),
        ([], "one pair"),
        ("ab", "one pair"),
        ([(0, 1), (0, 1, 2)], "one pair"),
        ([(0, 1)] * 3, "cannot be called with 3 coordinates"),
    ],
)
def test_wrong_boxes_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        ChebyshevTucker().fit_function(lambda x, y: x * y, bounds)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"degree": 0}, "degree"),
        ({"degree": (3, 4)}, "one for each of 3"),
        ({"degree": "some"}, "degree"),
        ({"degree": 5, "rank": 6}, "rank of axis 0 must be from 1 to its length 5"),
        ({"tol": -1.0}, "tol"),
        ({"tol": 2.0}, "tol"),
        ({"method": "all"}, "method"),
        ({"extrapolate": "yes"}, "extrapolate"),
        ({"max_degree": 2}, "max_degree"),
        ({"dtype": np.int32}, "dtype must be float64 or float32"),
        ({"degree": 400, "method": "full"}, "degree=271 would fit"),
    ],
)
def test_wrong_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        ChebyshevTucker(**params).fit_function(lambda x, y, z: x, CUBE)


@pytest.mark.parametrize(
    "func, message",
    [
        (lambda x: np.ones(3), "shape of its coordinates"),
        (lambda x: x + 1j, "real numbers"),
        (lambda x: "one", "real numbers"),
    ],
)
def test_what_functions_return_is_looked_at(func, message):
    with pytest.raises(ValueError, match=message):
        ChebyshevTucker().fit_function(func, [(0, 1)])
    with pytest.raises(TypeError, match="callable"):
        ChebyshevTucker().fit_function(3, [(0, 1)])


def test_function_of_single_points_is_told_how_to_be_passed():
    with pytest.raises(TypeError) as info:
        ChebyshevTucker().fit_function(lambda x, y: math.sin(x * y), [(0, 1)] * 2)
    assert "Pass vectorized=False" in info.value.__notes__[0]


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("method", ["full", "cross"])
def test_values_whose_squares_are_no_numbers(size, method):
    """Units are the user's choice."""
    f = ChebyshevTucker(tol=1e-8, method=method).fit_function(
        lambda x, y: size * np.cos(x + y), [(-1, 1)] * 2
    )
    assert f.rank_ == (2, 2)
    assert_allclose(f([0.3, 0.4]) / size, np.cos(0.7), rtol=1e-7)
    assert_allclose((f + f).round(1e-6)([0.3, 0.4]) / size, 2 * np.cos(0.7), rtol=1e-5)
    grid = ChebyshevTucker(tol=1e-8).fit_grid(
        f.to_grid(*[cheb_points(17)] * 2), [cheb_points(17)] * 2
    )
    assert grid.rank_ == (2, 2)
    terms = ChebyshevTucker(tol=1e-8).fit_cp([size], [[np.cos], [np.exp]], [(-1, 1)] * 2)
    assert_allclose(terms([0.3, 0.4]) / size, np.cos(0.3) * np.exp(0.4), rtol=1e-7)


def test_only_finite_numbers_are_added():
    f = ChebyshevTucker().fit_function(np.sin, [(0, 1)])
    for number in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite number"):
            f + number


def test_points_outside_the_box():
    def fit(mode):
        return ChebyshevTucker(3, extrapolate=mode).fit_function(
            lambda x, y: x**2 + y, [(0, 1)] * 2
        )

    X = np.array([[0.5, 0.5], [2.0, 0.5]])
    with pytest.raises(ValueError, match=r"1 of 2 points.*X\[1, 0\] = 2 is not in \[0, 1\]"):
        fit("error")(X)
    assert_allclose(fit("clip")(X), [0.75, 1.5], atol=1e-12)
    assert_allclose(fit("polynomial")(X), [0.75, 4.5], atol=1e-12)
    got = fit("nan")(X)
    assert got[0] == pytest.approx(0.75) and np.isnan(got[1])
    grid = fit("nan").to_grid([0.5, 2.0], [0.5])
    assert np.isnan(grid[1, 0]) and np.isfinite(grid[0, 0])
    with pytest.raises(ValueError, match="orthogonal=False"):
        fit("nan").to_tucker([0.5, 2.0], [0.5])
    # Rounding of the ends is nobody's fault.
    assert fit("error")([1 + 1e-15, 0.0]) == pytest.approx(1.0)


def test_wrong_points_axes_and_grids_are_refused():
    f = ChebyshevTucker(3).fit_function(lambda x, y: x * y, [(0, 1)] * 2)
    for call, message in [
        (lambda: f(np.zeros(3)), r"shape \(3,\)"),
        (lambda: f(0.5), "points of 2 coordinates"),
        (lambda: f.predict(np.zeros(2)), r"\(n_points, 2\)"),
        (lambda: f([[0.0, np.nan]]), r"X\[0, 1\] is nan"),
        (lambda: f.to_grid([0.0]), "2 axes, got 1"),
        (lambda: f.to_grid([0.0], [[0.0]]), "axis 1"),
        (lambda: f.derivative(2), "axis must be"),
        (lambda: f.integrate(0.5), "axis must be"),
        (lambda: f.round(2.0), "tol must be"),
        (lambda: f.fit_grid(np.ones((3, 2)), [[0, 1, 2]]), "grid 1 arrays"),
        (lambda: f.fit_grid(np.ones(3), [[0, 2, 1]]), r"grid\[0\] must be finite and ascending"),
        (lambda: f.fit_grid([1.0, np.nan], [[0, 1]]), r"values\[1\] is nan at \(1.0,\)"),
        (lambda: f.fit_cp([1.0], [np.ones((3, 1))], [(0, 1)] * 2), "factors 1 entries"),
        (lambda: f.fit_cp([1.0], [lambda x: x], [(0, 1)]), r"shape \(17, 1\)|shape \(3, 1\)"),
        (lambda: f.fit_cp([1.0], [lambda x: np.log(x[:, None])], [(0, 1)]), "term 0 at 0.0"),
    ]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(ValueError, match=message):
                call()
    assert f([0.5, 0.5]) == pytest.approx(0.25)  # what failed changed nothing
    with pytest.raises(NotFittedError, match="fit_function"):
        ChebyshevTucker()([0.0])


def test_interrupted_fit_leaves_the_former_one():
    f = ChebyshevTucker(3).fit_function(lambda x: x, [(0, 1)])

    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        f.fit_function(interrupted, [(0, 1)])
    assert f([0.5]) == pytest.approx(0.5)
    assert f.fit_function(lambda x: 2 * x, [(0, 1)])([0.5]) == pytest.approx(1.0)


def test_single_precision_copies_and_words():
    f = ChebyshevTucker(tol=1e-5, dtype=np.float32).fit_function(
        lambda x, y: np.cos(x * y), CUBE[:2]
    )
    assert f.core_.dtype == f.factors_[0].dtype == np.float32
    assert f([0.5, 0.5]) == pytest.approx(np.cos(0.25), abs=1e-5)
    assert (f + 1).core_.dtype == np.float32
    for other in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f)):
        assert other([0.3, 0.2]) == f([0.3, 0.2])
    assert "rank (" in repr(f) and repr(ChebyshevTucker()) == "ChebyshevTucker(tol=1e-08)"


def test_cross_approximation_of_a_large_rank_is_refused():
    with pytest.raises(ValueError, match="core of|fit_cp"):
        ChebyshevTucker(tol=1e-10, method="cross", max_degree=65).fit_function(
            lambda *x: np.cos(40 * np.sqrt(sum((c + 0.1) ** 2 for c in x))), [(-1, 1)] * 6
        )


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_scale_may_be_moved_between_weights_and_functions_of_a_term(scale):
    bounds = [(0, 1), (-1, 2)]
    terms = [
        [lambda x: np.cos(40 * x), lambda x: x],
        [lambda y: y / scale, lambda y: np.ones_like(y)],
    ]
    f = ChebyshevTucker().fit_cp([scale, 1.0], terms, bounds)
    assert relative_error(f, lambda x, y: np.cos(40 * x) * y + x, bounds) < 1e-8


@pytest.mark.parametrize("degree", [30, 15, (12, 25)])
def test_values_at_chebyshev_points_go_to_any_degree_without_splines(degree):
    bounds = [(0, 1), (-1, 2)]
    axes = [cheb_points(20, b) for b in bounds]
    values = np.exp(axes[0])[:, None] * np.sin(axes[1])
    f = ChebyshevTucker(degree=degree, tol=1e-12).fit_grid(values, axes)
    assert f.degree_ == tuple(np.broadcast_to(degree, 2))
    assert relative_error(f, lambda x, y: np.exp(x) * np.sin(y), bounds) < 1e-10


def test_products_are_products():
    box = [(-1, 2), (0, 1), (-3, -1)]
    f = ChebyshevTucker().fit_function(lambda x, y, z: np.cos(x + y * z), box)
    g = ChebyshevTucker().fit_function(lambda x, y, z: 1 + x * z, box)
    points = np.random.default_rng(0).uniform(*np.array(box).T, (200, 3))
    # Both are within the tolerance of 1e-8 of their size.
    assert_allclose((f * g)(points), f(points) * g(points), atol=1e-6)
    assert (g * g).degree_[0] == 3 and max((g * g).rank_) <= 3
    with pytest.raises(ValueError, match="on one box"):
        f * ChebyshevTucker().fit_function(lambda x, y, z: x, [(0, 1)] * 3)


def test_minimum_inside_and_at_the_sides():
    f = ChebyshevTucker().fit_function(
        lambda x, y: (x - 0.3) ** 2 + (y + 2) ** 2 + 0.1 * np.cos(9 * x), [(-1, 1), (-1, 1)]
    )
    value, where = f.minimum()
    x = np.linspace(-1, 1, 4001)
    wanted = ((x - 0.3) ** 2 + 1 + 0.1 * np.cos(9 * x)).min()
    assert_allclose(value, wanted, atol=1e-6)  # of the grid that it is compared with
    assert_allclose(where[1], -1.0)
    assert_allclose(f(where), value)
    with pytest.raises(ValueError, match="n_starts"):
        f.minimum(n_starts=0)


def test_coordinates_may_come_as_a_tuple_of_arrays():
    f = ChebyshevTucker().fit_function(lambda x, y: np.exp(x) * y, [(-1, 1), (0, 2)])
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 2, 4)
    assert_allclose(f((x[:, None], y)), f.to_grid(x, y), atol=1e-12)
    assert_allclose(f((x, 1.0)), np.exp(x), atol=1e-7)
    assert isinstance(f((0.5, 1.0)), float)
    with pytest.raises(ValueError, match="points of 2 coordinates"):
        f((x, x, x))


def test_axes_of_a_grid_may_descend():
    x, y = np.linspace(1, -1, 30), np.linspace(0, 1, 20)
    values = np.sin(x)[:, None] * y
    f = ChebyshevTucker(tol=1e-5).fit_grid(values, [x, y])
    g = ChebyshevTucker(tol=1e-5).fit_grid(values[::-1], [x[::-1], y])
    assert_allclose(f.core_, g.core_)
    assert_allclose(f([0.3, 0.5]), np.sin(0.3) * 0.5, atol=1e-4)


def test_a_function_in_place_of_the_degree_is_refused_at_once():
    with pytest.raises(TypeError, match=r"fit_function\(func, bounds\)"):
        ChebyshevTucker(lambda x: x, [(0, 1)])


def test_several_outputs_are_compressed_one_by_one():
    box = [(0, 1), (0, 1)]

    def func(x, y):
        return np.stack([x * y, x + y, x - y], axis=-1)

    with pytest.raises(ValueError, match=r"each output by itself.*for j in range\(3\)"):
        ChebyshevTucker().fit_function(func, box)
    each = [ChebyshevTucker().fit_function(lambda *x, j=j: func(*x)[:, j], box) for j in range(3)]
    assert_allclose([f([0.25, 0.5]) for f in each], [0.125, 0.75, -0.25])
    with pytest.raises(ValueError, match="got an array of shape"):
        ChebyshevTucker().fit_function(lambda x, y: [x, y], box, vectorized=False)
    x = np.linspace(0, 1, 20)
    with pytest.raises(ValueError, match="one output at a time"):
        ChebyshevTucker().fit_grid(np.ones((20, 20, 3)), [x, x])
