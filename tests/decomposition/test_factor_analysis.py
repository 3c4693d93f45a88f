"""Factor analysis of tables with holes: posteriors against dense algebra, then LowRankImputer."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

from sklr.decomposition import LowRankImputer, _factor_analysis_fit
from sklr.decomposition._factor_analysis import (
    Mixture,
    Table,
    expected,
    improve,
    invert,
    leave_one_out,
    row_posterior,
    variances,
)
from sklr.decomposition._factor_analysis_start import start

pd = pytest.importorskip("pandas", reason="needs the extra test")


@pytest.fixture
def mixture():
    """Two groups with known parameters, and rows with holes."""
    rng = np.random.default_rng(0)
    p, k = 5, 2
    model = Mixture(
        np.array([0.3, 0.7]),
        rng.standard_normal((2, p)),
        rng.standard_normal((2, p, k)),
        rng.uniform(0.2, 1.0, (2, p)),
        np.zeros((2, p, k + 1, k + 1)),
    )
    X = rng.standard_normal((9, p))
    mask = rng.random(X.shape) < 0.7
    mask[0] = False
    return model, X, mask


def table_of(X, mask):
    return Table(np.where(mask, X, 0.0).T, mask.T.astype(float))


def by_algebra(model, row, seen):
    """Mean and variance of all entries given some, from the whole covariance matrices."""
    logs, means, spreads = [], [], []
    for c in range(model.n_groups):
        W, m = model.loadings[c], model.means[c]
        common = W @ W.T
        S = common + np.diag(model.noise[c])
        gain = common[:, seen] @ np.linalg.inv(S[np.ix_(seen, seen)])
        means.append(m + gain @ (row - m)[seen])
        spreads.append(np.diag(S - gain @ common[seen]))
        logs.append(np.log(model.weights[c]))
        if seen.any():
            logs[-1] += multivariate_normal.logpdf(row[seen], m[seen], S[np.ix_(seen, seen)])
    shares = np.exp(np.array(logs) - max(logs))
    shares = (shares / shares.sum())[:, None]
    mean = (shares * means).sum(axis=0)
    return mean, (shares * (spreads + (np.array(means) - mean) ** 2)).sum(axis=0)


@pytest.mark.parametrize("patterns", [False, True])
def test_posterior_of_rows_is_the_conditional_normal(mixture, patterns):
    model, X, mask = mixture
    X, mask = np.vstack([X, X]), np.vstack([mask, mask])  # so that patterns repeat
    table = table_of(X, mask)
    if patterns:
        table = table.with_patterns()
        assert table.pattern.max() < 9
    posterior = row_posterior(model, table)
    wanted = [by_algebra(model, row, seen) for row, seen in zip(X, mask, strict=True)]
    assert_allclose(expected(model, posterior).T, [w[0] for w in wanted], atol=1e-10)
    assert_allclose(variances(model, posterior).T, [w[1] for w in wanted], atol=1e-10)


def test_leave_one_out_equals_leaving_out(mixture):
    model, X, mask = mixture
    table = table_of(X, mask)
    gaps = leave_one_out(model, row_posterior(model, table), table)[0].T
    for i, j in np.argwhere(mask):
        seen = mask[i].copy()
        seen[j] = False
        assert_allclose(gaps[i, j], X[i, j] - by_algebra(model, X[i], seen)[0][j], atol=1e-9)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("k", [0, 1, 4, 13])
def test_inverses_and_determinants(k, compiled):
    rng = np.random.default_rng(0)
    G = rng.standard_normal((6, k, k + 2))
    G = G @ G.transpose(0, 2, 1) + np.eye(k)
    A = np.moveaxis(G, 0, -1).copy()
    log_det = invert(A, compiled)
    assert_allclose(np.moveaxis(A, -1, 0), np.linalg.inv(G), atol=1e-12)
    assert_allclose(log_det, np.linalg.slogdet(G)[1], atol=1e-12)


def test_complete_table_of_much_data_has_the_covariance_of_the_model():
    """Where the truth is factor analysis, loadings and noise are found again."""
    rng = np.random.default_rng(0)
    W, noise = rng.standard_normal((6, 2)), rng.uniform(0.2, 1, 6)
    X = rng.standard_normal((5000, 2)) @ W.T + np.sqrt(noise) * rng.standard_normal((5000, 6))
    scale = X.std(axis=0)
    table = table_of((X - X.mean(axis=0)) / scale, np.ones(X.shape, bool)).with_patterns()
    *_, (model, change) = improve(start(table, 2), table, 60, 1e-4)
    assert change <= 1e-4
    found = model.loadings[0] @ model.loadings[0].T
    assert_allclose(found, W @ W.T / np.outer(scale, scale), atol=0.05)  # sampling error
    assert_allclose(model.noise[0], noise / scale**2, atol=0.05)


def with_holes(X, seed=0, share=0.2):
    hidden = np.random.default_rng(seed).random(X.shape) < share
    hidden[:, 0] &= ~hidden.all(axis=1)
    return np.where(hidden, np.nan, X), hidden


def error(Z, X, hidden):
    return np.sqrt(np.mean(((Z - X) / X.std(axis=0))[hidden] ** 2))


@pytest.mark.parametrize(
    "load, most",
    [(load_wine, 0.82), (load_breast_cancer, 0.5), (load_diabetes, 0.76), (load_iris, 0.62)],
)
def test_ordinary_tables_in_raw_units_without_parameters(load, most):
    """The column mean has an error of 1."""
    X = load().data[:300]
    given, hidden = with_holes(X)
    filled = LowRankImputer().fit_transform(given)
    assert error(filled, X, hidden) < most
    assert_array_equal(filled[~hidden], X[~hidden])


@pytest.fixture
def table():
    """Two factors and noise, units from 1e-3 to 2.6e6, and holes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 2)) @ rng.standard_normal((2, 6))
    X += 0.3 * rng.standard_normal(X.shape)
    X = 5 + X
    return (X, *with_holes(X))


def test_units_and_offsets_do_not_matter(table):
    X, given, hidden = table
    factors = np.array([1e-3, 1.0, 2.6e6, 10.0, 1e-6, 1e100])
    plain = LowRankImputer().fit_transform(given)
    scaled = LowRankImputer().fit_transform(given * factors)
    assert_allclose(scaled / factors, plain, rtol=1e-8)
    assert error(plain, X, hidden) < 0.55
    moved = LowRankImputer().fit_transform(given + 1e9)
    assert_allclose(moved - 1e9, plain, atol=1e-5)  # 1e9 has seven decimals
    assert LowRankImputer().fit(given.astype("f4")).transform(given.astype("f4")).dtype == "f4"


@pytest.mark.parametrize("method", ["factor_analysis", "alternating"])
def test_column_without_values_in_fit_has_no_weight_later(table, method):
    X, given, _ = table
    train, new = given[:100].copy(), given[100:].copy()
    train[:, 3] = np.nan
    with pytest.warns(UserWarning, match="1 of 6 features .*: 3;"):
        imputer = LowRankImputer(method=method, random_state=0).fit(train)
    results = []
    for value in (np.nan, 1.0, 1e6):
        new[:, 3] = value
        results.append(
            [
                imputer.transform(new),
                imputer.reconstruct(new),
                imputer.row_embedding(new),
                imputer.score(new),
                imputer.predict_entries(new, [0, 7], [1, 2]),
            ]
        )
        if method == "factor_analysis":
            results[-1].append(imputer.sample_posterior(new, random_state=0))
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert_array_equal(got, wanted)


def test_warning_names_the_column(table):
    frame = pd.DataFrame(table[1], columns=[f"c{i}" for i in range(6)]).assign(weight=np.nan)
    with pytest.warns(UserWarning, match="'weight'"):
        LowRankImputer().fit(frame)


def test_what_is_filled_in_stays_within_bounds(table):
    _, given, _ = table
    odds = 1 / (1 + np.exp(-3 * (given - 5)))
    filled = LowRankImputer(n_neighbors=0).fit_transform(odds)
    assert filled.min() >= 0 and filled.max() <= 1
    assert (filled >= np.nanmin(odds, axis=0)).all() and (filled <= np.nanmax(odds, axis=0)).all()
    free = LowRankImputer(n_neighbors=0, min_value=-np.inf, max_value=np.inf)
    assert free.fit_transform(odds).min() < np.nanmin(odds)
    top = np.linspace(0.1, 0.6, 6)
    filled = LowRankImputer(max_value=top).fit_transform(odds)
    assert (filled[np.isnan(odds)] <= np.broadcast_to(top, odds.shape)[np.isnan(odds)]).all()
    old = LowRankImputer(method="alternating", min_value=0.2, random_state=0).fit_transform(odds)
    assert old[np.isnan(odds)].min() == 0.2
    for wrong, words in (
        ({"min_value": 2.0, "max_value": 1.0}, "min_value must not be above max_value, got 2 and"),
        ({"min_value": [0.0, 1.0]}, "one for each of the 6 columns"),
        ({"max_value": np.nan}, "no NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            LowRankImputer(**wrong).fit(odds)


def test_whole_numbers(table):
    counts = np.round(table[1])
    counts[:, 0] = table[1][:, 0]
    imputer = LowRankImputer(round_integers=True).fit(counts)
    filled = imputer.transform(counts)
    assert_array_equal(imputer.integer_features_, [False] + [True] * 5)
    assert_array_equal(filled[:, 1:], np.round(filled[:, 1:]))
    assert (filled[:, 0] != np.round(filled[:, 0])).all()
    draws = imputer.sample_posterior(counts, 2, random_state=0)
    assert_array_equal(draws[:, :, 1:], np.round(draws[:, :, 1:]))


def test_exact_tables_are_continued_beyond_what_was_seen():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3)) @ rng.standard_normal((3, 20))
    given, hidden = with_holes(X)
    assert error(LowRankImputer().fit_transform(given), X, hidden) < 0.02


def test_standard_deviations_cover_and_draws_have_them(table):
    X, given, hidden = table
    imputer = LowRankImputer(min_value=-np.inf, max_value=np.inf).fit(given)
    filled, std = imputer.transform(given, return_std=True)
    assert_array_equal(filled, imputer.transform(given))
    assert (std[hidden] > 0).all() and (std[~hidden] == 0).all()
    inside = np.abs(filled - X)[hidden] < 1.645 * std[hidden]
    assert 0.83 < inside.mean() < 0.97  # of 175 entries: three standard errors
    draws = imputer.sample_posterior(given, 400, random_state=0)
    assert_array_equal(draws[:, ~hidden], np.broadcast_to(X[~hidden], (400, (~hidden).sum())))
    assert np.abs(draws.mean(axis=0) - filled)[hidden].max() < 5 * std.max() / 400**0.5
    assert_allclose(draws.std(axis=0)[hidden], std[hidden], rtol=0.2)  # 400 draws: 3.5 % each
    assert_array_equal(draws[:2], imputer.sample_posterior(given, 2, random_state=0)[:2] * 1.0)
    with pytest.raises(ValueError, match="n_draws must be an integer >= 1, got 0"):
        imputer.sample_posterior(given, 0)
    old = LowRankImputer(method="alternating", random_state=0).fit(given)
    with pytest.raises(ValueError, match="needs method='factor_analysis'"):
        old.transform(given, return_std=True)
    with pytest.raises(ValueError, match="needs method='factor_analysis'"):
        old.sample_posterior(given)


def test_groups_of_rows_with_factors_of_their_own():
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((2, 1, 5)) * 2
    group = np.arange(200) % 2
    X = rng.standard_normal((200, 1)) * slopes[group, 0] + 4 * group[:, None] * [1, 0, -1, 0, 1]
    X += 0.2 * rng.standard_normal(X.shape)
    given, hidden = with_holes(X)
    imputer = LowRankImputer(random_state=0).fit(given)
    assert imputer.n_clusters_ == 2
    one = LowRankImputer(n_clusters=1, n_neighbors=0).fit_transform(given)
    assert error(imputer.transform(given), X, hidden) < 0.75 * error(one, X, hidden)
    k = imputer.n_components_
    embedding = imputer.row_embedding(given)
    assert embedding.shape == (200, 2 * k) and imputer.components_.shape == (2 * k, 5)
    near = LowRankImputer(n_clusters=1, n_neighbors=5).fit(given)
    assert near.n_neighbors_ == 5
    assert error(near.transform(given), X, hidden) < error(one, X, hidden)


def test_reconstruction_is_means_and_scores_times_components(table):
    _, given, _ = table
    imputer = LowRankImputer(n_clusters=1).fit(given)
    values = imputer.cluster_means_ + imputer.row_embedding(given) @ imputer.components_
    assert_allclose(imputer.reconstruct(given), values, rtol=1e-10)
    assert_allclose(
        imputer.predict_entries(given, [3, 3, 9], [0, 5, 1]), values[[3, 3, 9], [0, 5, 1]]
    )


def test_nothing_in_common_is_the_column_mean():
    X = np.random.default_rng(0).standard_normal((200, 6))
    given, hidden = with_holes(X)
    imputer = LowRankImputer().fit(given)
    assert imputer.n_components_ == 0 and imputer.held_out_error_ > 0.9
    means = np.broadcast_to(np.nanmean(given, axis=0), X.shape)
    assert_allclose(imputer.transform(given)[hidden], means[hidden])


@pytest.mark.parametrize("value", [7.0, 0.1, -1e9])
def test_constant_column_is_filled_with_its_constant(table, value):
    given = np.c_[np.full(150, value), table[1]]
    given[::3, 0] = np.nan
    assert (LowRankImputer().fit_transform(given)[:, 0] == value).all()


@pytest.mark.parametrize(
    "X",
    [
        np.eye(1, 4),
        np.arange(5.0)[:, None],
        np.random.default_rng(0).standard_normal((8, 40)),
        np.exp(4 * np.random.default_rng(0).standard_normal((60, 4))),
        np.where(
            np.random.default_rng(0).random((60, 4)) < 0.05, 1e9, 1.0 + np.arange(60)[:, None]
        ),
        np.repeat(np.random.default_rng(0).standard_normal((60, 2)), 3, axis=1),
        np.repeat(np.random.default_rng(0).standard_normal((6, 5)), 12, axis=0),
    ],
    ids=["one row", "one column", "p > n", "heavy tails", "outliers", "copies", "repeated rows"],
)
@pytest.mark.filterwarnings("ignore:.*rows have no observed", "ignore:.*features have no observed")
def test_odd_tables_give_finite_numbers(X):
    given, _ = with_holes(X, seed=1)
    imputer = LowRankImputer(keep_empty_features=True).fit(given)
    filled, std = imputer.transform(given, return_std=True)
    assert np.isfinite(filled).all() and np.isfinite(std).all()
    assert np.isfinite(imputer.sample_posterior(given, random_state=0)).all()
    assert np.isfinite(imputer.transform(X)).all()


def test_no_seed_is_needed_and_rows_may_come_in_any_order(table):
    _, given, _ = table
    filled = LowRankImputer().fit_transform(given)
    assert_array_equal(LowRankImputer().fit_transform(given), filled)
    order = np.random.default_rng(0).permutation(len(given))
    assert_allclose(LowRankImputer().fit_transform(given[order]), filled[order], rtol=1e-8)


def test_marks_are_of_the_type_of_the_table(table):
    _, given, _ = table
    wanted = LowRankImputer().fit_transform(given)
    for mark in ("-1", "NaN", "?"):
        with pytest.raises(ValueError, match="is text, and X holds numbers"):
            LowRankImputer(missing_values=mark).fit(given)
    objects = given.astype(object)
    for mark, missing in (("?", "?"), (pd.NA, np.nan), (None, np.nan)):
        objects[np.isnan(given)] = mark
        got = LowRankImputer(missing_values=missing).fit_transform(objects)
        assert_allclose(got, wanted)
        got = LowRankImputer(missing_values=missing).fit_transform(pd.DataFrame(objects))
        assert_allclose(got, wanted)
    objects[np.isnan(given)] = np.nan
    objects[4, 2] = "red"
    with pytest.raises(ValueError, match="'red' of type str in row 4, column 2. Encode text"):
        LowRankImputer().fit(objects)
    frame = pd.DataFrame({"a": [1.0, 2.0], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(ValueError, match="column 'when'. Encode text, categories and dates"):
        LowRankImputer().fit(frame)
    # -999.1 is another number in single precision
    marked = np.where(np.isnan(given), -999.1, given).astype("f4")
    got = LowRankImputer(missing_values=-999.1).fit_transform(marked)
    assert got.min() > -900


def test_which_method(table):
    _, given, _ = table
    assert LowRankImputer().fit(given).method_ == "factor_analysis"
    assert LowRankImputer(alpha=0.1, random_state=0).fit(given).method_ == "alternating"
    with pytest.raises(ValueError, match="alpha=0.1 belongs to method='alternating'"):
        LowRankImputer(method="factor_analysis", alpha=0.1).fit(given)
    with pytest.raises(ValueError, match="n_clusters=2 belongs to method='factor_analysis'"):
        LowRankImputer(loss="huber", n_clusters=2).fit(given)


def test_too_few_sweeps_are_told(table):
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=2 sweeps"):
        LowRankImputer(max_iter=2, tol=1e-9).fit(table[1])


def test_groups_stop_before_they_fit_what_is_accidental(monkeypatch):
    """Run to the end, three groups of this table predict worse; they may stop, and say nothing."""
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    holes = np.random.default_rng(0).random(X.shape) < 0.2
    given = np.where(holes, np.nan, X)

    def fit(**options):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            imputer = LowRankImputer(n_clusters=3, n_neighbors=0, **options).fit(given)
        return imputer, np.sqrt(np.mean((imputer.transform(given) - X)[holes] ** 2))

    early, error = fit()
    monkeypatch.setattr(_factor_analysis_fit, "_CHOICE_ROWS", 1)  # nothing to choose by
    late, later = fit(max_iter=200)
    assert early.n_iter_ < late.n_iter_
    assert error < 0.97 * later
