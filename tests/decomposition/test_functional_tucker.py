"""Functional Tucker: filter against dense algebra, the bound, the sheet's properties, bad input."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from sklr.decomposition import FunctionalTuckerRegressor, LatentFunctionsDisplay
from sklr.decomposition._functional_tucker_fit import (
    CoordinateAscent,
    Mode,
    factored,
    gaps_of,
    log_evidence,
    packing,
    posterior,
)
from sklr.decomposition._functional_tucker_kernels import draw_prior


def fitted(X, y, sample_weight=None, **params):
    settings = {"rank": 2, "n_init": 1, "center": True, "random_state": 0} | params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few sweeps are enough for most
        return FunctionalTuckerRegressor(**settings).fit(X, y, sample_weight=sample_weight)


def wave(X):
    first = np.sin(2 * np.pi * X[:, 0]) * np.cos(2 * np.pi * X[:, 1]) * (1 + X[:, 2])
    return first + np.cos(3 * X[:, 0]) * np.sin(4 * X[:, 1]) * np.cos(np.pi * X[:, 2])


@pytest.fixture(scope="module")
def scattered():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 41, (400, 3)) / 40.0
    return X, wave(X) + 0.05 * rng.standard_normal(400)


@pytest.fixture(scope="module")
def model(scattered):
    return fitted(*scattered, max_iter=40)


def one_mode(n=30, rank=1, nu=1.5, variance=0.7, seed=0):
    rng = np.random.default_rng(seed)
    coordinates = np.sort(rng.uniform(size=n))
    return Mode(coordinates, np.full(n, 1 / n), rank, nu, variance), rng


# State space against dense algebra.


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_filter_and_smoother_equal_dense_regression(nu):
    mode, rng = one_mode(nu=nu)
    y, noise = rng.standard_normal(30), 0.2
    lam, eta = np.full((30, 1, 1), 1 / noise), y[:, None] / noise
    lam[[0, 4, 29]], eta[[0, 4, 29]] = 0.0, 0.0  # without data
    M, V, evidence = posterior(mode, 0.3, factored(lam, eta))
    seen = lam[:, 0, 0] > 0
    K = 0.7 * Matern(0.3, nu=nu)(mode.coordinates[:, None])
    S = K[np.ix_(seen, seen)] + noise * np.eye(seen.sum())
    gain = np.linalg.solve(S, K[seen]).T
    assert_allclose(M[:, 0], gain @ y[seen], atol=1e-10)
    assert_allclose(V[:, 0, 0], np.diag(K - gain @ K[seen]), atol=1e-10)
    # log marginal likelihood less that of the messages' own normalisation
    dense = -0.5 * (np.linalg.slogdet(S / noise)[1] + y[seen] @ np.linalg.solve(S, y[seen]))
    assert_allclose(evidence, dense + 0.5 * (y[seen] ** 2).sum() / noise, atol=1e-10)
    assert_allclose(log_evidence(mode, 0.3, factored(lam, eta)), evidence, atol=1e-12)


def test_coupled_functions_and_close_coordinates_equal_dense_algebra():
    mode, rng = one_mode(n=12, rank=2, nu=2.5)
    mode.coordinates[5] = mode.coordinates[4] + 1e-12  # no covariance is inverted
    mode.gaps = gaps_of(mode.coordinates, False)
    root = rng.standard_normal((12, 2, 2))
    lam, eta = root @ root.transpose(0, 2, 1), rng.standard_normal((12, 2))
    M, V, _ = posterior(mode, 0.4, factored(lam, eta))
    K = np.kron(0.7 * Matern(0.4, nu=2.5)(mode.coordinates[:, None]), np.eye(2))
    L = np.zeros((24, 24))
    for i in range(12):
        L[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = lam[i]
    # (K^-1 + L)^-1 = (I + K L)^-1 K
    S = np.linalg.solve(np.eye(24) + K @ L, K)
    assert_allclose(M.ravel(), S @ eta.ravel(), atol=1e-9)
    for i in range(12):
        assert_allclose(V[i], S[2 * i : 2 * i + 2, 2 * i : 2 * i + 2], atol=1e-9)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_draws_of_the_prior_have_its_covariance(nu):
    mode, rng = one_mode(n=4, nu=nu)
    p, n = int(nu + 0.5), 20000
    out = np.empty((4, n))
    draw_prior(mode.gaps, np.sqrt(2 * nu) / 0.3, 0.7, rng.standard_normal((4, n, p)), out)
    K = 0.7 * Matern(0.3, nu=nu)(mode.coordinates[:, None])
    # Four standard errors of a covariance from 20000 draws.
    assert_allclose(out @ out.T / n, K, atol=0.03)


def test_one_column_is_gaussian_process_regression():
    rng = np.random.default_rng(0)
    X = np.sort(rng.uniform(-1, 3, (60, 1)), axis=0)
    y = np.sin(3 * X[:, 0]) + 0.1 * rng.standard_normal(60)
    model = fitted(X, y, rank=1, core="cp", length_scale=0.3, tol=0.0, max_iter=200)
    span = np.ptp(X)
    peer = GaussianProcessRegressor(
        Matern(0.3 * span, nu=1.5), alpha=1 / model.noise_precision_, optimizer=None
    ).fit(X, (y - model.y_mean_) / model.y_std_)
    at = np.linspace(-2, 5, 50)[:, None]
    mean, std = model.predict(at, return_std=True)
    expected, spread = peer.predict(at, return_std=True)
    assert_allclose((mean - model.y_mean_) / model.y_std_, expected, atol=1e-6)
    with_noise = np.sqrt(spread**2 + 1 / model.noise_precision_)
    assert_allclose(std / model.y_std_, with_noise, atol=1e-6)


# The ascent.


@pytest.mark.parametrize(
    "params",
    [
        {"rank": (1, 2, 3)},
        {"core": "cp", "nu": 0.5},
        {"nu": 2.5, "length_scale": 0.2, "center": False},
        {"categorical_features": [2], "rank": 3},
    ],
)
@pytest.mark.parametrize("holes", [False, True])
def test_bound_never_falls(params, holes, scattered):
    X, y = scattered[0].copy(), scattered[1]
    if holes:
        X[::7, 1] = np.nan
        X[::11, 0] = np.nan
    model = fitted(X, y, max_iter=25, tol=0.0, **params)
    bounds = model.lower_bounds_
    assert len(bounds) == 25
    assert (np.diff(bounds) >= -1e-8 * np.abs(bounds[1:])).all()


def test_messages_equal_brute_force():
    """Packed contractions against sums over all indices of two cores."""
    rng = np.random.default_rng(0)
    ranks, n = (2, 3, 2), 8
    modes = [Mode(np.arange(4.0), np.full(4, 0.25), r, 0.5, 1.0) for r in ranks]
    rows = [rng.integers(0, 4, n) for _ in ranks]
    y, weights = rng.standard_normal(n), rng.uniform(0.5, 2, n)
    run = CoordinateAscent(
        modes, rows, y, weights, [np.arange(n)], core="tucker", noise_prior=(1.0, 1.0),
        scales=[0.3] * 3, learn=False,
    )  # fmt: skip
    run.start([rng.standard_normal((4, r)) for r in ranks], rng.standard_normal(ranks))
    run.V = [np.broadcast_to(0.1 * np.eye(r), (4, r, r)) for r in ranks]
    for k in range(3):
        run._set(run.M[k], run.V[k], k)
    second = (np.outer(run.w, run.w) + run.S).reshape(ranks + ranks)
    moments = [V + M[:, :, None] * M[:, None] for M, V in zip(run.M, run.V, strict=True)]
    lam, eta = run.collect(1)
    expected, first = np.zeros_like(lam), np.zeros_like(eta)
    for i in range(n):
        a, c = moments[0][rows[0][i]], moments[2][rows[2][i]]
        term = np.einsum("abcdef,ad,cf->be", second, a, c)
        expected[rows[1][i]] += run.precision()[0] * weights[i] * term
        mean = np.einsum(
            "abc,a,c->b", run.w.reshape(ranks), run.M[0][rows[0][i]], run.M[2][rows[2][i]]
        )
        first[rows[1][i]] += run.precision()[0] * weights[i] * y[i] * mean
    assert_allclose(lam, expected, rtol=1e-12)
    assert_allclose(eta, first, rtol=1e-12, atol=1e-12)
    G, h = run.gram(np.arange(n))
    full = sum(
        weights[i]
        * np.kron(np.kron(moments[0][rows[0][i]], moments[1][rows[1][i]]), moments[2][rows[2][i]])
        for i in range(n)
    )
    assert_allclose(run.unpacked(G), full, rtol=1e-12, atol=1e-12)
    means = [
        np.kron(np.kron(run.M[0][rows[0][i]], run.M[1][rows[1][i]]), run.M[2][rows[2][i]])
        for i in range(n)
    ]
    assert_allclose(h, (weights * y) @ np.array(means), rtol=1e-12)
    assert packing(3).shape == (9, 6)


def test_order_of_rows_and_affine_changes_leave_predictions(scattered, model):
    X, y = scattered
    order = np.random.default_rng(1).permutation(len(X))
    at = X[:20] + 0.003
    expected, std = model.predict(at, return_std=True)
    # Sums are taken in another order, and sweeps carry the rounding on.
    assert_allclose(fitted(X[order], y[order], max_iter=40).predict(at), expected, atol=1e-6)
    scale, shift = np.array([3.0, 0.5, -2.0 + 12.0]), np.array([-1.0, 7.0, 100.0])
    moved = fitted(X * scale + shift, 5.0 * y - 2.0, max_iter=40)
    mean, spread = moved.predict(at * scale + shift, return_std=True)
    assert_allclose(mean, 5.0 * expected - 2.0, atol=1e-4)
    assert_allclose(spread, 5.0 * std, rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-200, 1e-20, 1e140])
def test_unit_of_the_target_is_free(unit, scattered, model):
    X, y = scattered
    other = fitted(X, unit * y)
    assert_allclose(other.predict(X[:50]) / unit, model.predict(X[:50]), rtol=1e-6, atol=1e-9)
    assert_allclose(other.y_std_ / unit, model.y_std_, rtol=1e-12)


def test_halved_weights_of_doubled_rows_are_the_rows(scattered, model):
    X, y = scattered
    twice = fitted(np.repeat(X, 2, 0), np.repeat(y, 2), np.full(2 * len(X), 0.5), max_iter=40)
    assert_allclose(twice.predict(X), model.predict(X), atol=1e-6)
    assert_allclose(twice.lower_bound_, model.lower_bound_, rtol=1e-8)


# Predictions.


def test_prediction_at_known_coordinates_is_that_of_the_factors(scattered, model):
    X, _ = scattered
    for k in range(3):
        M = model.latent_functions(k)
        assert_allclose(M, model.factors_[k], atol=1e-8)
        mixed = np.concatenate([model.coordinates_[k], [0.0123, 0.7771, -3.0, 9.0]])
        again, std = model.latent_functions(k, mixed, return_std=True)
        assert_allclose(again[:-4], model.factors_[k], atol=1e-8)
        V = np.diagonal(model.factor_covariances_[k], axis1=1, axis2=2)
        assert_allclose(std[:-4] ** 2, V, atol=1e-8)
    at = X[:30] + 0.0077
    whole = model.predict(at)
    assert_allclose(np.concatenate([model.predict(row[None]) for row in at]), whole, atol=1e-8)


def test_far_away_is_the_prior(model):
    mean, std = model.predict([[50.0, 50.0, 50.0], [-1e6, 0.0, 0.0]], return_std=True)
    assert_allclose(mean, model.y_mean_, atol=1e-6)
    second = model.core_covariance_.trace() + (model.core_**2).sum()
    assert_allclose(std[0] ** 2, model.y_std_**2 * second + model.noise_variance_, rtol=1e-6)


def test_draws_have_the_posterior_mean_and_spread(model):
    X = np.array([[0.21, 0.4, 0.6], [0.22, 0.4, 0.6], [0.9, 0.1, 2.0]])
    draws = model.sample_y(X, 4000, random_state=1)
    mean, std = model.predict(X, return_std=True)
    assert_allclose(draws.std(axis=1), std, rtol=0.06)  # four standard errors are 5 %
    assert (np.abs(draws.mean(axis=1) - mean) < 4 * std / np.sqrt(4000)).all()
    assert_array_equal(model.sample_y(X, 2), model.sample_y(X, 2))


def test_missing_coordinate_is_the_average_over_those_seen(scattered, model):
    X, _ = scattered
    at = np.array([[0.3, np.nan, 0.5]])
    values, counts = np.unique(X[:, 1], return_counts=True)
    each = np.array([model.predict([[0.3, value, 0.5]])[0] for value in values])
    mean, std = model.predict(at, return_std=True)
    assert_allclose(mean[0], np.average(each, weights=counts), atol=1e-8)
    spread = np.average((each - mean[0]) ** 2, weights=counts)
    assert std[0] ** 2 > spread + model.noise_variance_


def test_fit_with_missing_coordinates_still_learns(scattered):
    X, y = scattered[0].copy(), scattered[1]
    X[::10, 1] = np.nan
    model = fitted(X, y, max_iter=60)
    fresh = np.random.default_rng(5).integers(0, 41, (300, 3)) / 40.0
    assert np.sqrt(np.mean((model.predict(fresh) - wave(fresh)) ** 2)) < 0.08
    # Rows with holes have a noise of their own and do not blow up this one.
    assert np.sqrt(model.noise_variance_) < 0.1


# What the paper claims.


def test_low_rank_function_is_learned_below_the_noise():
    rng = np.random.default_rng(3)
    X = rng.integers(0, 101, (1500, 3)) / 100.0
    y = wave(X) + 0.05 * rng.standard_normal(1500)
    model = fitted(X, y, rank=2, n_init=3, center="auto", max_iter=200)
    fresh = rng.integers(0, 101, (2000, 3)) / 100.0
    mean, std = model.predict(fresh, return_std=True)
    assert np.sqrt(np.mean((mean - wave(fresh)) ** 2)) < 0.02
    assert_allclose(np.sqrt(model.noise_variance_), 0.05, rtol=0.25)
    noisy = wave(fresh) + 0.05 * rng.standard_normal(2000)
    assert 0.85 <= np.mean(np.abs(noisy - mean) < 1.645 * std) <= 0.97


def test_discrete_mode_mixes_with_continuous_ones():
    rng = np.random.default_rng(0)
    X = np.c_[rng.uniform(size=(500, 1)), rng.integers(0, 4, 500)]
    gain = np.array([1.0, -2.0, 0.5, 3.0])
    y = np.sin(6 * X[:, 0]) * gain[X[:, 1].astype(int)] + 0.05 * rng.standard_normal(500)
    model = fitted(X, y, categorical_features=[False, True])
    assert model.score(X, y) > 0.99 and model.length_scale_[1] == 0.0
    assert_array_equal(model.coordinates_[1], np.arange(4))
    with pytest.warns(UserWarning, match="1 categories of column 1 were not seen"):
        mean, std = model.predict([[0.26, 7.0]], return_std=True)
    assert_allclose(mean, model.y_mean_, atol=1e-8)
    assert std[0] > 5 * model.predict([[0.26, 1.0]], return_std=True)[1][0]


def test_rank_one_cores_agree(scattered):
    X = scattered[0]
    y = np.sin(3 * X[:, 0]) * np.cos(2 * X[:, 1]) * (1 + X[:, 2])
    y = y + 0.02 * np.random.default_rng(2).standard_normal(len(y))
    one, two = (fitted(X, y, rank=1, core=c, center=False) for c in ("tucker", "cp"))
    # Only the prior of the scale differs.
    assert np.sqrt(np.mean((one.predict(X) - two.predict(X)) ** 2)) < 0.01


def test_real_air_quality(data_folder):
    """PM2.5 at Beijing, defaults: no worse than a random forest (.362), intervals that cover."""
    data = np.load(data_folder / "functional" / "beijing_pm25_fold0.npz")
    X, y = data["indices"] / (data["shape"] - 1.0), data["values"].astype(float)
    n_train = int(data["n_train"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FunctionalTuckerRegressor(random_state=0).fit(X[:n_train], y[:n_train])
    mean, std = model.predict(X[n_train:], return_std=True)
    assert np.sqrt(np.mean((mean - y[n_train:]) ** 2)) < 0.362
    assert 0.85 < np.mean(np.abs(mean - y[n_train:]) < 1.645 * std) < 0.95


# Bad input.


@pytest.mark.parametrize(
    "params, message",
    [
        ({"rank": (1, 2)}, "n_features=3"),
        ({"rank": (1, 2, 0)}, "rank"),
        ({"rank": 20}, "8000 entries, more than 4000"),
        ({"length_scale": (0.1, 0.2)}, "length_scale"),
        ({"length_scale": (0.1, 0.2, -1.0)}, "length_scale"),
        ({"noise_prior": (1.0,)}, "noise_prior"),
        ({"nu": 1.0}, "nu"),
        ({"core": "cp", "rank": (1, 2, 2)}, "rank must be the same for all columns"),
        ({"categorical_features": [5]}, "n_features=3"),
        ({"categorical_features": ["wind"]}, "wind"),
    ],
)
def test_bad_parameters_are_named(params, message, scattered):
    with pytest.raises(ValueError, match=message):
        fitted(*scattered, **params)


def test_names_of_stations_are_encoded_before(scattered):
    X, y = scattered
    table = np.c_[X.astype(object), np.array(["north", "south"], dtype=object)[np.arange(400) % 2]]
    with pytest.raises(ValueError, match="string") as info:
        fitted(table, y, categorical_features=[3])
    assert "OrdinalEncoder" in info.value.__notes__[0]
    encoder = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [3]),
        remainder="passthrough",
    )
    pipe = make_pipeline(
        encoder, FunctionalTuckerRegressor(1, categorical_features=[0], n_init=1, random_state=0)
    )
    pipe.fit(table, y)
    table[0, 3] = "west"
    with pytest.warns(UserWarning, match="not seen in fit"):
        mean, std = pipe.predict(table[:2], return_std=True)
    assert np.isfinite(mean).all() and std[0] > std[1]


def test_bad_data():
    X, y = np.random.default_rng(0).uniform(size=(10, 2)), np.arange(10.0)
    with pytest.raises(ValueError, match="column\\(s\\) \\[1\\]"):
        fitted(np.c_[X[:, 0], np.full(10, np.nan)], y)
    with pytest.raises(ValueError, match="infinity"):
        fitted(np.where(X == X.max(), np.inf, X), y)
    with pytest.raises(ValueError, match="(?i)sample.weight"):
        fitted(X, y, np.zeros(10))
    with pytest.raises(ValueError, match="divide y"):
        fitted(X, 1e200 * y)
    with pytest.raises(ValueError, match="minimum of 2"):
        fitted(X[:1], y[:1])


def test_constant_column_and_target_are_allowed():
    X = np.c_[np.linspace(0, 1, 20), np.ones(20)]
    assert fitted(X, np.sin(5 * X[:, 0])).score(X, np.sin(5 * X[:, 0])) > 0.9
    assert_allclose(fitted(X, np.full(20, 3.0)).predict(X), 3.0, atol=1e-6)


def test_rank_above_the_distinct_values_is_lowered_with_a_warning(scattered):
    X, y = scattered
    X = np.c_[X[:, :2], X[:, 2] > 0.5]
    with pytest.warns(UserWarning, match="3 to 2 in column 2"):
        model = fitted(X, y, rank=3, max_iter=2)
    assert model.rank_ == (3, 3, 2)


def test_no_convergence_is_said_with_numbers(scattered):
    with pytest.warns(ConvergenceWarning, match="max_iter=3 sweeps"):
        FunctionalTuckerRegressor(max_iter=3, random_state=0).fit(*scattered)


def test_methods_refuse_what_makes_no_sense(model):
    with pytest.raises(ValueError, match="mode must be a column"):
        model.latent_functions(3)
    with pytest.raises(TypeError, match="mode"):
        model.latent_functions("a")
    with pytest.raises(ValueError, match="grid"):
        model.latent_functions(0, [np.nan])
    with pytest.raises(ValueError, match="n_samples"):
        model.sample_y(np.zeros((1, 3)), 0)
    with pytest.raises(ValueError, match="NaN"):
        model.sample_y([[0.0, np.nan, 0.0]])


def test_display_shows_every_function_with_its_band(model):
    import matplotlib.pyplot as plt

    display = LatentFunctionsDisplay.from_estimator(model, modes=[0, 2], names=["a", "b"])
    assert [ax.get_xlabel() for ax in display.axes_] == ["a", "b"]
    assert all(len(ax.lines) == 2 and len(ax.collections) == 2 for ax in display.axes_)
    with pytest.raises(ValueError, match="names"):
        LatentFunctionsDisplay.from_estimator(model, names=["a"])
    with pytest.raises(ValueError, match="axes"):
        display.plot(axes=display.axes_[:1])
    plt.close("all")


@pytest.mark.parametrize("offset", [1e8, -1.6e9])
def test_large_offsets_of_the_target_are_taken_off(offset):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (120, 2))
    y = np.sin(2 * X[:, 0]) * X[:, 1]
    params = {"n_init": 1, "max_iter": 40, "random_state": 0}
    plain = FunctionalTuckerRegressor(2, center=True, **params).fit(X, y).predict(X)
    moved = FunctionalTuckerRegressor(2, **params).fit(X, y + offset)
    assert_allclose(moved.predict(X) - offset, plain, atol=1e-4)
    with pytest.raises(ValueError, match=r"y has a mean of .*center=True"):
        FunctionalTuckerRegressor(2, center=False, **params).fit(X, y + offset)


def test_default_of_many_columns_takes_those_that_explain_most_and_says_so():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(120, 10))
    y = np.sin(4 * X[:, 3]) * (0.2 + X[:, 7]) + X[:, 7] + 0.1 * rng.standard_normal(120)
    X[0, 0] = np.nan
    model = FunctionalTuckerRegressor(n_init=1, random_state=0)
    with pytest.warns(UserWarning, match=r"rank=2 is taken for columns .*3.*7.* are left out"):
        model.fit(X[:100], y[:100])
    assert model.rank_.count(2) == 5 and model.rank_[3] == model.rank_[7] == 2
    assert model.score(X[100:], y[100:]) > 0.8
    moved = X[100:].copy()
    gone = [k for k, r in enumerate(model.rank_) if r == 1]
    moved[:, gone] = 9.0
    np.testing.assert_allclose(model.predict(moved), model.predict(X[100:]))
    with pytest.raises(ValueError, match="entries, more than"):
        FunctionalTuckerRegressor(rank=3).fit(X, y)


def test_a_vanished_core_is_told_with_numbers():
    rng = np.random.default_rng(0)
    X, noise = rng.uniform(size=(120, 3)), rng.standard_normal(120)
    with pytest.warns(ConvergenceWarning, match=r"core has vanished.*of y.*rank=\(3, 3, 3\).*120"):
        model = FunctionalTuckerRegressor(random_state=0).fit(X, noise)
    assert np.ptp(model.predict(X)) < 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FunctionalTuckerRegressor(n_init=1, random_state=0).fit(X, X[:, 0])
        FunctionalTuckerRegressor(n_init=1, random_state=0).fit(X, np.full(120, 7.0))
