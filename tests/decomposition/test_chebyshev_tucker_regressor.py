"""Chebyshev-Tucker regression: exact recovery, descent, invariances, searches, bad input."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.decomposition import ChebyshevTuckerRegressor, FunctionalTuckerRegressor
from sklr.decomposition._chebyshev_tucker_als import Descent, RidgeSolver, row_products
from sklr.decomposition._chebyshev_tucker_choice import Candidate, HeldOut, choose, folds_of
from sklr.decomposition._chebyshev_tucker_prior import choose_ridge, prior_covariance


def uniform(n, d, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, d))


def relative(model, func, X):
    truth = func(X)
    return np.sqrt(np.mean((model.predict(X) - truth) ** 2) / np.mean(truth**2))


@pytest.mark.parametrize(
    "func, d, degree, rank",
    [
        (lambda X: X[:, 0] * X[:, 1] * X[:, 2] + X[:, 0] ** 2, 3, 4, 2),
        (lambda X: 3 + 2 * X[:, 0] - X[:, 1] ** 3, 2, 5, 2),
        (lambda X: X[:, 0] ** 4 - X[:, 0], 1, 5, 3),
    ],
)
def test_low_rank_polynomials_are_recovered(func, d, degree, rank):
    X = uniform(600, d)
    model = ChebyshevTuckerRegressor(
        degree, rank, alpha=1e-14, bounds=[(-1, 1)] * d, random_state=0
    )
    model.fit(X, func(X))
    assert relative(model, func, uniform(500, d, 1)) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_cosine_of_a_sum_is_found_without_centring(seed):
    """Rank 2; with the mean taken off it would stay at an error of 0.07."""

    def func(X):
        return np.cos(2 * X.sum(axis=1))

    X = uniform(2000, 4)
    model = ChebyshevTuckerRegressor(11, 2, random_state=seed).fit(X, func(X))
    # The degree's own error is 5e-8; rows beyond the sample's box are clipped.
    assert relative(model, func, 0.98 * uniform(1000, 4, 1)) < 1e-6


def test_constant_target_gives_the_constant():
    X = uniform(50, 2)
    for value in (2.5, 0.0, -1e-9, 1e12):
        model = ChebyshevTuckerRegressor(random_state=0).fit(X, np.full(50, value))
        assert_allclose(model.predict(0.9 * X), value, rtol=1e-6)


def test_every_sweep_lowers_the_error():
    X = uniform(400, 3)
    y = np.sin(3 * X[:, 0] * X[:, 1]) + X[:, 2] ** 2 * X[:, 0]
    y /= np.sqrt(np.mean(y**2))
    for alpha in (0.0, 1e-2):
        run = Descent(X, y, None, alpha)
        run.grow((5, 5, 5), (2, 2, 2), np.random.default_rng(0))
        values = [run.penalized()]
        for _ in range(15):
            run.sweep()
            values.append(run.penalized())
        # The bound is rounding, relative to y.
        assert (np.diff(values) <= 1e-12).all()
        assert values[-1] < values[0]


def test_penalty_is_that_of_all_coefficients():
    """What stands for the ridge in the Tucker format is the ridge of the whole function."""
    X = uniform(100, 3)
    run = Descent(X, np.ones(100), None, 0.5)
    run.grow((5, 4, 3), (2, 2, 2), np.random.default_rng(0))
    run.core = np.random.default_rng(1).standard_normal(run.core.shape)
    C = np.einsum("abc,ia,jb,kc->ijk", run.core, *run.V)
    weights = [run.degree_weights(m) for m in C.shape]
    wanted = np.einsum("ijk,i,j,k->", C**2, *weights)
    assert_allclose(run.core_penalty() @ run.core.ravel() ** 2, wanted, rtol=1e-12)


def test_ridge_is_the_same_in_parts_and_with_few_samples(monkeypatch):
    import sklr.decomposition._chebyshev_tucker_als as module

    rng = np.random.default_rng(0)
    for n, p in ((700, 20), (15, 20)):
        D, y, w = rng.standard_normal((n, p)), rng.standard_normal(n), rng.uniform(0.5, 2, n)
        penalty = rng.uniform(1, 5, p)
        A = (D * w[:, None]).T @ (D * w[:, None]) + 0.3 * np.diag(penalty)
        wanted = np.linalg.solve(A, (D * w[:, None]).T @ (w * y))
        for chunk in (10, 2_000_000):
            monkeypatch.setattr(module, "_CHUNK", chunk)
            got = RidgeSolver(n, D.__getitem__, y, w, penalty).solve(0.3)
            assert_allclose(got, wanted, rtol=1e-8)


def test_row_products():
    rng = np.random.default_rng(0)
    A, B, C = rng.standard_normal((3, 4, 2))
    wanted = [np.kron(np.kron(a, b), c) for a, b, c in zip(A, B, C)]
    assert_allclose(row_products([A, B, C]), wanted)


def test_scale_and_shift_of_the_columns_and_scale_of_y_change_nothing():
    X = uniform(500, 2)
    y = np.exp(X[:, 0] * X[:, 1])
    wanted = ChebyshevTuckerRegressor(random_state=0).fit(X, y).predict(X)
    moved = X * [10.0, 0.01] + [3.0, -7.0]
    got = ChebyshevTuckerRegressor(random_state=0).fit(moved, 1e6 * y).predict(moved)
    assert_allclose(got / 1e6, wanted, rtol=1e-6)


def test_weights_are_repetitions_and_zeros_are_absences():
    X = uniform(120, 2)
    y = np.sin(2 * X[:, 0]) * X[:, 1] + 0.1 * np.random.default_rng(1).standard_normal(120)
    weights = np.random.default_rng(2).integers(0, 3, 120)
    params = {"degree": 5, "rank": 2, "random_state": 0}
    one = ChebyshevTuckerRegressor(**params).fit(X, y, sample_weight=weights)
    two = ChebyshevTuckerRegressor(**params).fit(np.repeat(X, weights, 0), np.repeat(y, weights))
    assert_allclose(one.predict(0.5 * X), two.predict(0.5 * X), rtol=1e-6)
    assert_allclose(one.bounds_, two.bounds_)
    with pytest.raises(ValueError, match="non-zero"):
        ChebyshevTuckerRegressor().fit(X, y, sample_weight=np.zeros(120))


def test_columns_of_y_are_fitted_one_by_one():
    X = uniform(300, 2)
    Y = np.column_stack([X[:, 0] * X[:, 1], np.cos(X[:, 0])])
    model = ChebyshevTuckerRegressor(random_state=0).fit(X, Y)
    for t in range(2):
        single = ChebyshevTuckerRegressor(random_state=0).fit(X, Y[:, t])
        assert_allclose(model.predict(X)[:, t], single.predict(X), rtol=1e-9, atol=1e-12)
    assert len(model.core_) == len(model.function_) == len(model.derivative(0)) == 2


def test_constant_columns_have_no_say():
    X = uniform(300, 3)
    X[:, 1] = 7.0
    y = X[:, 0] * X[:, 2]
    model = ChebyshevTuckerRegressor(random_state=0).fit(X, y)
    assert model.degree_[1] == 1 and model.rank_[1] == 1
    assert model.score(X, y) > 1 - 1e-10


def test_more_coefficients_than_samples():
    X = uniform(20, 3)
    model = ChebyshevTuckerRegressor(9, 3, alpha=1e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert np.isfinite(model.fit(X, X.sum(axis=1)).predict(X)).all()
    one = ChebyshevTuckerRegressor().fit([[1.0, 2.0]], [3.0])
    assert_allclose(one.predict([[1.0, 2.0]]), 3.0, rtol=1e-6)


def test_derivative_and_grid():
    X = uniform(800, 2)
    model = ChebyshevTuckerRegressor(9, 2, random_state=0).fit(X, np.sin(X[:, 0]) * np.exp(X[:, 1]))
    inner = 0.9 * uniform(50, 2, 1)
    wanted = np.cos(inner[:, 0]) * np.exp(inner[:, 1])
    # Differentiation makes the fit's error of about 1e-8 some hundred times larger.
    assert_allclose(model.derivative(0)(inner), wanted, atol=1e-4)
    x = np.linspace(-0.9, 0.9, 5)
    core, (A, B) = model.to_tucker(x, x)
    grid = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    assert_allclose(A @ core @ B.T, model.predict(grid.reshape(-1, 2)).reshape(5, 5), atol=1e-10)
    assert_allclose(A.T @ A, np.eye(2), atol=1e-12)


def test_grid_search_finds_degree_and_rank_in_a_pipeline():
    X = uniform(600, 3)
    y = np.cos(2 * X.sum(axis=1)) + 0.01 * np.random.default_rng(0).standard_normal(600)
    pipe = make_pipeline(StandardScaler(), ChebyshevTuckerRegressor(random_state=0))
    name = "chebyshevtuckerregressor__"
    search = GridSearchCV(pipe, {name + "degree": [3, 9], name + "rank": [1, 2]}, cv=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # folds beyond the box, starts of rank 1
        search.fit(X, y)
    assert search.best_params_ == {name + "degree": 9, name + "rank": 2}
    assert search.best_score_ > 0.99


def test_more_starts_do_no_worse():
    X = uniform(300, 3)
    y = 1 / (1.3 + X[:, 0] + 0.2 * X[:, 1] * X[:, 2])
    losses = [
        ChebyshevTuckerRegressor(5, 2, n_init=n, random_state=0).fit(X, y).loss_curve_[-1]
        for n in (1, 4)
    ]
    assert losses[1] <= losses[0] * (1 + 1e-6)


def test_rows_outside_the_box():
    X = uniform(300, 2)
    y = X[:, 0] + X[:, 1]
    far = np.array([[0.0, 0.0], [5.0, 0.0]])

    def fit(mode):
        model = ChebyshevTuckerRegressor(
            3, 2, extrapolate=mode, bounds=[(-1, 1)] * 2, random_state=0
        )
        return model.fit(X, y)

    with pytest.warns(UserWarning, match=r"1 of 2 rows are outside.*row 1"):
        assert_allclose(fit("clip").predict(far), [0.0, 1.0], atol=1e-6)
    with pytest.raises(ValueError, match=r"X\[1, 0\] = 5 is not in \[-1, 1\]"):
        fit("error").predict(far)
    assert_allclose(fit("polynomial").predict(far), [0.0, 5.0], atol=1e-5)
    assert np.isnan(fit("nan").predict(far)[1])


@pytest.mark.parametrize(
    "params, message",
    [
        ({"degree": 3, "rank": 4}, "rank must be at most degree: column 0 has rank 4, degree 3"),
        ({"degree": (3, 4)}, "n_features=3"),
        ({"rank": (1, 2, 0)}, "rank"),
        ({"rank": 20, "degree": 20}, "core of 8000 entries.*more than 5000"),
        ({"bounds": [(-1, 1)] * 2}, "bounds has 2 rows, X has 3 features"),
        ({"bounds": [(-1, 1), (-1, 1), (1, -1)]}, r"bounds\[2\]"),
        ({"bounds": [(-1, 1), (-1, 1), (0, 1)]}, "points are outside the box"),
    ],
)
def test_what_does_not_fit_is_refused(params, message):
    X = uniform(50, 3)
    with pytest.raises(ValueError, match=message):
        ChebyshevTuckerRegressor(**params).fit(X, X[:, 0])


def test_no_settling_is_said_with_numbers():
    X = uniform(400, 3)
    y = 1 / (1 + 5 * (X**2).sum(axis=1))
    with pytest.warns(ConvergenceWarning, match=r"max_iter=1 sweeps.*relative residual"):
        model = ChebyshevTuckerRegressor(7, 3, max_iter=1, random_state=0).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200])
def test_targets_whose_squares_are_no_numbers(scale):
    X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    y = np.cos(X.sum(axis=1))
    model = ChebyshevTuckerRegressor(rank=2, random_state=0)
    wanted = model.fit(X, y).predict(X)
    assert_allclose(model.fit(X, y * scale).predict(X) / scale, wanted, atol=1e-6)


def noisy(n, noise, seed=0):
    rng = np.random.default_rng(seed)
    X, fresh = rng.uniform(-1, 1, (n, 3)), rng.uniform(-1, 1, (1000, 3))

    def func(X):
        return 0.5 * np.sin(X[:, 0] + X[:, 1] * X[:, 2])

    return X, func(X) + noise * rng.standard_normal(n), fresh, func(fresh)


@pytest.mark.filterwarnings("ignore:.*outside the box")
@pytest.mark.parametrize("n, noise, least", [(40, 0.3, 0.3), (200, 0.3, 0.85), (60, 0.05, 0.95)])
def test_defaults_do_not_follow_noise(n, noise, least):
    """More coefficients than samples: the ridge is that of the evidence."""
    X, y, fresh, truth = noisy(n, noise)
    assert ChebyshevTuckerRegressor(random_state=0).fit(X, y).score(fresh, truth) > least


@pytest.mark.filterwarnings("ignore:.*outside the box")
@pytest.mark.parametrize("offset", [1e7, -1e9, 1.6e9])
def test_large_offsets_of_the_target_lose_only_their_own_digits(offset):
    X, y, fresh, truth = noisy(300, 0.0)
    for params in ({}, {"rank": 2, "alpha": 1e-8, "center": True}):
        plain = ChebyshevTuckerRegressor(random_state=0, **params).fit(X, y)
        moved = ChebyshevTuckerRegressor(random_state=0, **params).fit(X, y + offset)
        # What is left of the targets' digits is 1e-16 times the offset.
        assert_allclose(moved.predict(fresh) - offset, plain.predict(fresh), atol=1e-5)
        x = 0.5 * np.ones(3)
        assert_allclose(moved.function_(x) - offset, plain.function_(x), atol=1e-5)
        assert_allclose(moved.derivative(1)(x), plain.derivative(1)(x), atol=1e-4)


def test_the_ridge_is_where_the_evidence_of_the_gaussian_process_is_largest():
    rng = np.random.default_rng(0)
    points, weights = uniform(25, 2), rng.integers(1, 4, 25).astype(float)
    y = points[:, 0] + 0.3 * rng.standard_normal(25)
    alpha, penalty = choose_ridge(points, y, weights, (4, 3))
    rows = np.repeat(np.arange(25), weights.astype(int))
    assert choose_ridge(points[rows], y[rows], np.ones(len(rows)), (4, 3)) == (alpha, penalty)

    def evidence(alpha, penalty):  # the weight of a row is its precision
        K = prior_covariance(points, (4, 3), penalty) + alpha * np.diag(1 / weights)
        size = y @ np.linalg.solve(K, y) / len(y)
        return multivariate_normal(np.zeros(len(y)), size * K).logpdf(y)

    best = evidence(alpha, penalty)
    assert all(evidence(alpha * c, penalty) <= best for c in (0.3, 3.0))
    assert all(evidence(alpha, other) <= best for other in (1.6, 3.0, 6.0, 16.0, 64.0))


def test_copies_of_rows_are_no_proof_that_there_is_no_noise():
    X, y, fresh, truth = noisy(100, 0.5)
    once = ChebyshevTuckerRegressor(5, random_state=0).fit(X, y)
    again = ChebyshevTuckerRegressor(5, random_state=0).fit(np.repeat(X, 4, 0), np.repeat(y, 4))
    weighted = ChebyshevTuckerRegressor(5, random_state=0).fit(X, y, np.full(100, 4.0))
    for model in (again, weighted):
        assert model.alpha_ == pytest.approx(4 * once.alpha_)
        assert_allclose(model.predict(fresh), once.predict(fresh), atol=1e-6)


@pytest.mark.parametrize("jitter", [1e-12, 1e-9, 1e-5])
def test_near_copies_of_rows_are_no_proof_that_there_is_no_noise(jitter):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 3))
    y = np.cos(X.sum(axis=1)) + 0.3 * rng.standard_normal(200)
    new = rng.uniform(-0.95, 0.95, (300, 3))
    wanted = np.cos(new.sum(axis=1))
    alone = ChebyshevTuckerRegressor(random_state=0).fit(X, y)
    model = ChebyshevTuckerRegressor(random_state=0).fit(
        np.concatenate([X, X + jitter * rng.standard_normal(X.shape)]),
        np.concatenate([y, y + jitter * rng.standard_normal(200)]),
    )
    assert model.score(new, wanted) > alone.score(new, wanted) - 0.02
    # Twice as many rows count twice beside the ridge.
    assert_allclose(model.alpha_, 2 * alone.alpha_)


def test_near_points_of_an_exact_function_stay_exact():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    X = np.concatenate([X, X + 1e-7 * rng.standard_normal(X.shape)])
    y = np.cos(X[:, 0] + 2 * X[:, 1])
    new = rng.uniform(-0.95, 0.95, (100, 2))
    model = ChebyshevTuckerRegressor(degree=13, random_state=0).fit(X, y)
    assert_allclose(model.predict(new), np.cos(new[:, 0] + 2 * new[:, 1]), atol=1e-5)


@pytest.mark.parametrize("regressor", [ChebyshevTuckerRegressor, FunctionalTuckerRegressor])
def test_a_gross_error_in_a_column_does_not_squeeze_the_box(regressor):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (80, 2))
    y = np.cos(X.sum(axis=1)) + 0.1 * rng.standard_normal(80)
    new = rng.uniform(-0.9, 0.9, (200, 2))
    wanted = np.cos(new.sum(axis=1))
    clean = regressor(random_state=0).fit(X, y).score(new, wanted)
    X[0, 1] = 1e6
    with pytest.warns(UserWarning, match=r"column 1 of X has 1 of 80 values far .* as 1e\+06"):
        model = regressor(random_state=0).fit(X, y)
    assert model.score(new, wanted) > clean - 0.05
    pd = pytest.importorskip("pandas", reason="needs the extra test")
    with pytest.warns(UserWarning, match="column 'b'"):
        regressor(random_state=0).fit(pd.DataFrame(X, columns=list("ab")), y)


def test_long_tails_and_rare_values_are_no_gross_errors():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.lognormal(size=300), rng.random(300) < 0.02, rng.standard_cauchy(300)])
    X[:, 2] = np.clip(X[:, 2], -50, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ChebyshevTuckerRegressor(rank=2, alpha=1.0).fit(X, np.log(X[:, 0]))
    assert (model.bounds_[:, 1] > X.max(axis=0)).all()


@pytest.mark.parametrize("n, p", [(23, 3), (19, 2), (28, 4)])
def test_weights_are_repetitions_at_the_smallest_ridge(n, p):
    """Fewer rows than coefficients with weights, more without: two ways to one solution."""
    rng = np.random.default_rng(n)
    X = rng.uniform(-1, 1, (n, p))
    y = np.cos(X.sum(axis=1))
    counts = rng.integers(1, 4, n)
    model = ChebyshevTuckerRegressor(
        degree=3, rank=3, alpha=2e-12, degree_penalty=16.0, center=True
    )
    weighted = clone(model).fit(X, y, sample_weight=counts)
    repeated = clone(model).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    new = rng.uniform(-0.9, 0.9, (50, p))
    # Rounding of 1e-16 beside a ridge of 2e-12, twice; normal equations alone leave ten times that.
    assert_allclose(weighted.predict(new), repeated.predict(new), atol=5e-9)


def test_repeated_measurements_still_say_how_noisy_they_are():
    points = np.repeat(uniform(30, 2), 4, axis=0)
    y = points[:, 0] + 0.5 * np.random.default_rng(1).standard_normal(120)
    repeated, _ = choose_ridge(points, y, np.ones(120), (4, 3))
    exact, _ = choose_ridge(points, points[:, 0], np.ones(120), (4, 3))
    assert repeated > 1e-3 > exact


def test_full_rank_is_the_posterior_mean_of_the_gaussian_process():
    X, y, fresh, _ = noisy(60, 0.1)
    model = ChebyshevTuckerRegressor(5, 5, bounds=[(-1, 1)] * 3).fit(X, y)
    K = prior_covariance(np.concatenate([X, fresh]), (5, 5, 5), model.degree_penalty_)
    inverse = np.linalg.inv(K[:60, :60] + model.alpha_ * np.eye(60))
    mean = y.mean() + K[60:, :60] @ inverse @ (y - y.mean())
    assert_allclose(model.predict(fresh), mean, atol=1e-8)


def test_many_columns_are_cut_to_those_that_explain_y():
    X = uniform(150, 16)
    y = X[:, 3] + X[:, 7] ** 2 + 0.1 * X[:, 3] * X[:, 7]
    with pytest.warns(UserWarning, match="4 of them are left out"):
        model = ChebyshevTuckerRegressor(3, random_state=0).fit(X, y)
    assert model.degree_[3] == model.degree_[7] == 3 and model.degree_.count(1) == 4
    # With a core of 2048 entries the rows are fitted to 1e-8, and fresh ones have a score of -9.
    fresh = 0.95 * uniform(500, 16, 1)
    assert (
        model.score(fresh, fresh[:, 3] + fresh[:, 7] ** 2 + 0.1 * fresh[:, 3] * fresh[:, 7]) > 0.8
    )


@pytest.mark.parametrize("n, d", [(600, 4), (100, 3), (100, 4)])
def test_a_core_of_as_many_entries_as_rows_is_not_taken(n, d):
    """Five functions of four columns fit 600 rows, and are worse than the mean elsewhere."""
    X, fresh = uniform(n, d), 0.9 * uniform(500, d, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows outside the box, sweeps of 100 rows
        model = ChebyshevTuckerRegressor(random_state=0).fit(X, np.cos(2 * X.sum(axis=1)))
        error = model.predict(fresh) - np.cos(2 * fresh.sum(axis=1))
    assert model.rank_ == (2,) * d
    assert np.sqrt(np.mean(error**2)) < 1e-4


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_effects_that_add_up_are_found_from_fewer_rows_than_entries(noise):
    """A sum over eight columns has ranks of two, a core of 256 entries, and little else in it."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((260, 8))
    y = X @ np.arange(1.0, 9.0)
    y += noise * y.std() * rng.standard_normal(len(y))
    model = ChebyshevTuckerRegressor(degree=3, random_state=0).fit(X[:160], y[:160])
    linear = LinearRegression().fit(X[:160], y[:160])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows outside the box
        inside = ((model.bounds_[:, 0] <= X[160:]) & (X[160:] <= model.bounds_[:, 1])).all(axis=1)
        score = model.score(X[160:][inside], y[160:][inside])
    assert score > linear.score(X[160:][inside], y[160:][inside]) - 0.02


def test_noise_in_as_many_rows_as_entries_is_not_fitted():
    """The evidence of functions of any rank says that these data are exact."""
    rng = np.random.default_rng(0)
    X, fresh = uniform(150, 4), 0.9 * uniform(500, 4, 1)
    y = np.cos(2 * X.sum(axis=1)) + 0.1 * rng.standard_normal(150)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows outside the box
        model = ChebyshevTuckerRegressor(random_state=0).fit(X, y)
        assert model.score(fresh, np.cos(2 * fresh.sum(axis=1))) > 0.9


def test_held_out_rows_keep_near_rows_together_and_know_no_order():
    points = uniform(60, 2)
    points = np.concatenate([points, points + 1e-6])
    y = np.sin(3 * points[:, 0]) + points[:, 1]
    fold = folds_of(points, y, 5)
    assert (fold[:60] == fold[60:]).all()
    assert np.bincount(fold).tolist() == [24] * 5
    held = [
        HeldOut(points[order], y[order], np.ones(120), (5, 5), 1.6, 1e-9)
        for order in (np.arange(120), np.random.default_rng(0).permutation(120))
    ]
    candidate = Candidate((2, 2), 1e-6)
    assert held[0].error(candidate) == held[1].error(candidate)


def test_what_is_worse_than_the_mean_is_said_and_not_taken():
    held = HeldOut(uniform(30, 2), uniform(30, 1)[:, 0], np.ones(30), (5, 5), 1.6, 1e-9)
    only = Candidate((3, 3), 1e-12)
    held.errors = lambda candidate: np.full(30, 50.0)
    best, error, worse = choose(held, (3, 3), only.alpha, lambda alpha, ranks: [0.0], False)
    assert worse and error == pytest.approx(np.sqrt(50.0))
    held.errors = lambda candidate: np.full(30, 0.01)
    assert not choose(held, (3, 3), only.alpha, lambda alpha, ranks: [0.0], False)[2]
