"""MatrixFactorizationRegressor: pairs in, values out; model selection; bad ids."""

import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sklr.decomposition import MatrixFactorizationRegressor

EXACT = {"alpha": 1e-4, "bias_alpha": 1e-4, "random_state": 0}


@pytest.fixture
def pairs():
    """Values of a rank-2 matrix with biases at 60 % of its pairs."""
    rng = np.random.default_rng(0)
    M = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 30))
    M += 3 + rng.standard_normal((40, 1)) + rng.standard_normal(30)
    X = np.argwhere(rng.random(M.shape) < 0.6)
    return X, M[tuple(X.T)], M


def test_predicts_the_pairs_that_it_has_not_seen(pairs):
    X, y, M = pairs
    model = MatrixFactorizationRegressor(2, **EXACT).fit(X, y)
    everything = np.argwhere(np.ones(M.shape))
    assert_allclose(model.predict(everything).reshape(M.shape), M, atol=1e-2)
    assert model.score(everything, M.ravel()) > 0.9999
    assert_allclose(
        model.predict([[3, 4]]),
        model.intercept_ + model.row_bias_[3] + model.col_bias_[4]
        + model.row_factors_[3] @ model.col_factors_[4],
    )  # fmt: skip


def test_any_ids_and_unseen_ones(pairs):
    X, y, _ = pairs
    plain = MatrixFactorizationRegressor(2, **EXACT).fit(X, y)
    far = X * [10**12, 7] + [5, 3]
    model = MatrixFactorizationRegressor(2, **EXACT).fit(far, y)
    assert_allclose(model.predict(far), plain.predict(X))
    known = far[0, 0]
    place = np.flatnonzero(model.row_ids_ == known)[0]
    assert_allclose(model.predict([[known, 1]]), model.intercept_ + model.row_bias_[place])
    assert_allclose(model.predict([[1, 1]]), model.intercept_)
    assert_allclose(plain.predict(X.astype(float)), plain.predict(X))


def test_shape_fixes_the_numbering(pairs):
    X, y, _ = pairs
    model = MatrixFactorizationRegressor(2, shape=(50, 35), **EXACT).fit(X, y)
    assert model.row_factors_.shape == (50, 2) and model.col_bias_.shape == (35,)
    assert not model.row_factors_[40:].any()
    assert_allclose(model.predict([[49, 34]]), model.intercept_)
    with pytest.raises(ValueError, match=r"row ids must be from 0 to 49 .* got 50 to 50"):
        model.predict([[50, 0]])
    with pytest.raises(ValueError, match="column ids must be from 0 to 28"):
        MatrixFactorizationRegressor(2, shape=(50, 29)).fit(X, y)


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_weights_are_repetitions_and_zero_weights_are_not_there(pairs, loss):
    X, y, _ = pairs
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, len(y))
    options = {"alpha": 2.0, "tol": 1e-9, "max_iter": 2000, "loss": loss, "random_state": 0}
    weighted = MatrixFactorizationRegressor(2, **options).fit(X, y, sample_weight=weights)
    repeated = MatrixFactorizationRegressor(2, **options).fit(
        X.repeat(weights, axis=0), y.repeat(weights)
    )
    # The robust start takes medians and quantiles without weights, and the width of Huber's loss
    # settles with the fit: the same to a hundredth of the residuals, not to rounding.
    tol = {"rtol": 1e-6} if loss == "squared" else {"atol": 5e-3}
    assert_allclose(weighted.predict(X), repeated.predict(X), **tol)


def test_order_of_samples_does_not_matter(pairs):
    X, y, _ = pairs
    order = np.random.default_rng(0).permutation(len(y))
    plain, other = (
        MatrixFactorizationRegressor(2, random_state=0).fit(X[o], y[o]).predict(X)
        for o in (slice(None), order)
    )
    assert_allclose(plain, other, rtol=1e-9)


def test_model_selection(pairs):
    X, y, _ = pairs
    cv = KFold(4, shuffle=True, random_state=0)
    scores = cross_val_score(MatrixFactorizationRegressor(2, **EXACT), X, y, cv=cv)
    assert scores.min() > 0.95
    search = GridSearchCV(
        MatrixFactorizationRegressor(**EXACT), {"n_components": [1, 2]}, cv=cv,
        scoring="neg_root_mean_squared_error",
    ).fit(X, y)  # fmt: skip
    assert search.best_params_ == {"n_components": 2}


def test_recommend(pairs):
    X, y, _ = pairs
    model = MatrixFactorizationRegressor(2, shape=(40, 31), **EXACT).fit(X, y)
    cols, values = model.recommend(7, 5)
    seen = X[X[:, 0] == 7, 1]
    assert not set(cols) & set(seen)
    assert (np.diff(values) <= 0).all()
    pairs_of_row = np.c_[np.full(30, 7), np.arange(30)]
    everything = model.predict(pairs_of_row)
    everything[seen] = -np.inf
    assert_array_equal(cols, np.argsort(-everything)[:5])
    assert_allclose(values, np.sort(everything)[::-1][:5])
    cols, _ = model.recommend(7, 100, exclude_seen=False)
    assert sorted(cols) == list(range(30))  # column 30 has no value
    with pytest.raises(ValueError, match="row 99 had no value"):
        model.recommend(99)
    with pytest.raises(TypeError, match="row ids were integers in fit, got strings"):
        model.recommend("7")
    with pytest.raises(TypeError, match="row must be an id"):
        model.recommend(7.5)
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.recommend(7, 0)


def test_clip(pairs):
    X, y, _ = pairs
    model = MatrixFactorizationRegressor(2, clip=(2.5, 3.5), random_state=0).fit(X, y)
    assert model.predict(X).min() == 2.5 and model.predict(X).max() == 3.5
    for clip in ((1,), (3, 2), ("a", "b"), "never"):
        with pytest.raises(ValueError, match="clip must be"):
            MatrixFactorizationRegressor(2, clip=clip).fit(X, y)


def test_scales_of_ratings_are_kept_by_default(pairs):
    X, y, _ = pairs
    liked = (y > 3).astype(float)
    model = MatrixFactorizationRegressor(5, alpha=0.5, random_state=0)
    found = model.fit(X, liked).predict(X)
    assert found.min() == 0 and found.max() == 1 and model.clip_ == (0, 1)
    free = MatrixFactorizationRegressor(5, alpha=0.5, clip=None, random_state=0).fit(X, liked)
    assert free.predict(X).max() > 1
    assert_allclose(found, free.predict(X).clip(0, 1))
    assert model.fit(X, y).clip_ is None  # no scale: nearly every value is there once
    assert model.fit(X, 0 * y + 3).clip_ is None


def test_context_has_effects_where_it_is_asked_for(pairs):
    X, y, _ = pairs
    day = np.random.default_rng(0).integers(0, 3, len(y))
    X3, y3 = np.c_[X, day], y + 2.0 * day
    with pytest.raises(ValueError, match="n_features = 3"):
        MatrixFactorizationRegressor(2).fit(X3, y3)
    model = MatrixFactorizationRegressor(2, context="bias", **EXACT).fit(X3, y3)
    codes, effects = model.context_effects_[0]
    assert_array_equal(codes, [0, 1, 2])
    assert_allclose(np.diff(effects), 2.0, atol=0.3)  # before the factors, whose signal is noise
    assert model.score(X3, y3) > 0.98
    model.predict([[0, 0, 9]])  # a code that was not seen has no effect


@pytest.mark.parametrize("loss", ["huber", "absolute"])
def test_outliers_do_not_reach_a_robust_loss(pairs, loss):
    X, y, M = pairs
    spoilt = y.copy()
    spoilt[::20] += 50.0
    model = MatrixFactorizationRegressor(2, loss=loss, random_state=0).fit(X, spoilt)
    everything = np.argwhere(np.ones(M.shape))
    assert np.sqrt(np.mean((model.predict(everything) - M.ravel()) ** 2)) < 0.1


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_defaults_estimate_the_noise_and_need_not_know_the_rank(noise):
    """Ten factors where there are three: exact without noise, near its share of it with."""
    rng = np.random.default_rng(0)
    M = rng.standard_normal((120, 3)) @ rng.standard_normal((3, 80))
    X = np.argwhere(rng.random(M.shape) < 0.4)
    y = M[tuple(X.T)] + noise * rng.standard_normal(len(X))
    everything = np.argwhere(np.ones(M.shape))

    def error(**options):
        model = MatrixFactorizationRegressor(random_state=0, **options).fit(X, y)
        return np.sqrt(np.mean((model.predict(everything) - M.ravel()) ** 2)), model

    found, model = error()
    if noise == 0:
        assert found < 1e-5 and model.noise_ < 1e-4
        return
    assert 0.8 * noise < model.noise_ < 1.3 * noise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = [error(alpha=a, bias_alpha=1, alpha_scaling="none")[0] for a in (1, 3, 6, 10)]
    assert found < 0.8 * min(plain)


@pytest.mark.parametrize(
    "X, message",
    [
        ([[0, 0.5], [1, 1]], "ids must be integers or strings, got 0.5 in column 1"),
        ([[0, -1], [1, 1]], "Negative values in data .* got -1"),
        ([[0], [1]], "two columns of ids"),
        ([[0, np.nan], [1, 1]], "NaN"),
    ],
)
def test_bad_ids(X, message):
    with pytest.raises(ValueError, match=message):
        MatrixFactorizationRegressor(1).fit(X, [1.0, 2.0])


def test_other_bad_input(pairs):
    X, y, _ = pairs
    with pytest.raises(ValueError, match="[Nn]egative"):
        MatrixFactorizationRegressor(1).fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(ValueError, match="non-zero"):
        MatrixFactorizationRegressor(1).fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(ValueError, match="shape must be two positive integers"):
        MatrixFactorizationRegressor(1, shape=(3, 0)).fit(X, y)
    with pytest.raises(ValueError, match="must be at most"):
        MatrixFactorizationRegressor(31).fit(X, y)
    with pytest.raises(ValueError, match=r"below 2 \*\* 63"):
        MatrixFactorizationRegressor(1).fit(X.astype(np.uint64) + np.uint64(2**63), y)


def test_ratings_against_the_biases(data_folder):
    """MovieLens, one 10 % split: below 0.84, where the biases alone are at 0.86."""
    table = np.loadtxt(data_folder / "recommend" / "ratings.csv.gz", delimiter=",", skiprows=1)
    X, y = table[:, :2].astype(int), table[:, 2]
    test = np.random.RandomState(0).rand(len(y)) < 0.1

    def rmse(*args, **options):
        model = MatrixFactorizationRegressor(
            *args, shape=(610, 9724), clip=(0.5, 5), random_state=0, **options
        )
        gap = model.fit(X[~test], y[~test]).predict(X[test]) - y[test]
        return np.sqrt(np.mean(gap**2))

    assert rmse(10) < 0.84
    assert 0.855 < rmse(1, alpha=1e6, alpha_scaling="none") < 0.865


@pytest.mark.parametrize("unit", [1e-19, 1e-13, 1e12])
def test_uncertainty_in_float32_does_not_depend_on_the_unit(unit):
    rng = np.random.default_rng(0)
    M = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 40))
    X = np.argwhere(rng.random(M.shape) < 0.5)
    y = M[tuple(X.T)] + 0.2 * rng.standard_normal(len(X))
    expected = MatrixFactorizationRegressor(5, random_state=0).fit(X, y).predict(X)
    y = (unit * y).astype(np.float32)
    found = MatrixFactorizationRegressor(5, random_state=0).fit(X, y).predict(X)
    assert found.dtype == np.float32
    assert_allclose(found / unit, expected, atol=1e-3)


@pytest.mark.parametrize("dtype, unit", [(np.float32, 1e-24), (np.float64, 1e-170)])
@pytest.mark.parametrize("solver", ["auto", "cholesky"])
def test_values_whose_squares_are_no_numbers_are_refused(dtype, unit, solver):
    X = np.argwhere(np.ones((6, 5)))
    y = (unit * np.random.default_rng(0).standard_normal(30)).astype(dtype)
    with pytest.raises(ValueError, match="reach only.*scale the values up"):
        MatrixFactorizationRegressor(2, solver=solver).fit(X, y)
    MatrixFactorizationRegressor(2, solver=solver).fit(X, 0 * y)


def test_a_gross_rating_is_named():
    rng = np.random.default_rng(9)
    pairs = np.argwhere(rng.random((40, 30)) < 0.5)
    y = rng.integers(1, 6, len(pairs)).astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MatrixFactorizationRegressor(2, random_state=0).fit(pairs, y)
    y[17] = 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match=rf"1e\+06 in y of the pair \({pairs[17][0]}, "):
            MatrixFactorizationRegressor(2, random_state=0).fit(pairs, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        MatrixFactorizationRegressor(2, loss="huber", random_state=0).fit(pairs, y)


@pytest.mark.parametrize("options", [{}, {"loss": "huber"}, {"alpha_scaling": "none"}])
def test_words_of_no_convergence_have_a_gain_that_is_a_share(options):
    rng = np.random.default_rng(10)
    pairs = np.argwhere(rng.random((40, 30)) < 0.5)
    y = rng.standard_normal((40, 2))[pairs[:, 0]] * rng.standard_normal((30, 2))[pairs[:, 1]]
    for max_iter in (1, 3, 8):
        with pytest.warns(ConvergenceWarning) as caught:
            MatrixFactorizationRegressor(
                2, max_iter=max_iter, tol=0, random_state=0, **options
            ).fit(pairs, y.sum(axis=1))
        found = re.search(r"lowered .* by ([^ ]*) of it", str(caught[0].message))
        assert 0 <= float(found[1]) <= 1
