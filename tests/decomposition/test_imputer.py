"""LowRankImputer: what it fills in, new rows, scores, containers, bad input."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklr.decomposition import LowRankImputer

pd = pytest.importorskip("pandas", reason="needs the extra test")
polars = pytest.importorskip("polars", reason="needs the extra test")


@pytest.fixture
def table():
    """Rank 2 plus biases, 40 % missing, and the whole."""
    rng = np.random.default_rng(0)
    M = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 25))
    M += 5 + rng.standard_normal((60, 1)) + rng.standard_normal(25)
    X = np.where(rng.random(M.shape) < 0.6, M, np.nan)
    return X, M


@pytest.mark.parametrize("loss", ["squared", "huber", "absolute"])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_fills_in_and_keeps_what_is_observed(table, solver, loss):
    X, M = table
    imputer = LowRankImputer(
        2, alpha=1e-6, bias_alpha=1e-6, solver=solver, loss=loss, max_iter=300, random_state=0
    )
    Z = imputer.fit_transform(X)
    seen = ~np.isnan(X)
    assert_array_equal(Z[seen], X[seen])
    assert_allclose(Z, M, atol=1e-2)
    assert_allclose(imputer.transform(X), Z, atol=1e-9)
    assert_allclose(imputer.reconstruct(X), M, atol=1e-2)
    assert imputer.row_embedding(X).shape == (60, 2)
    assert len(imputer.objective_) == imputer.n_iter_


def test_new_rows_are_solved_from_their_own_values(table):
    X, M = table
    imputer = LowRankImputer(2, alpha=1e-6, bias_alpha=1e-6, random_state=0).fit(X[:50])
    assert_allclose(imputer.transform(X[50:]), M[50:], atol=1e-3)
    alone = np.vstack([imputer.transform(row[None]) for row in X[50:]])
    assert_allclose(alone, imputer.transform(X[50:]), rtol=1e-12)


def test_conjugate_gradients_solve_new_rows_of_many_components_to_the_end():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((150, 70)) @ rng.standard_normal((70, 120))
    X = np.where(rng.random(M.shape) < 0.9, M, np.nan)
    imputer = LowRankImputer(70, alpha=0.5, max_iter=5, tol=1, random_state=0).fit(X)
    V = np.c_[imputer.components_.T, np.ones(120)]
    ridge = np.diag(np.r_[np.full(70, 0.5 * imputer.scale_), 0.1])
    got = imputer.row_embedding(X)
    for i in range(3):
        seen = ~np.isnan(X[i])
        target = X[i, seen] - imputer.mean_ - imputer.feature_bias_[seen]
        wanted = np.linalg.solve(V[seen].T @ V[seen] + ridge, V[seen].T @ target)
        assert_allclose(got[i], wanted[:70], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("fit_bias", [True, False])
def test_score_is_leave_one_out(table, fit_bias, small, monkeypatch):
    """The closed form equals leaving each value out by hand, with kernels and without."""
    if not small:
        monkeypatch.setattr("sklr.decomposition._completion_data._SMALL", 0)
    X, _ = table
    imputer = LowRankImputer(2, alpha=0.7, bias_alpha=0.4, fit_bias=fit_bias, random_state=0)
    imputer.fit(X[:50])
    new = X[50:]
    gaps = []
    for i, j in np.argwhere(~np.isnan(new)):
        row = new[i : i + 1].copy()
        row[0, j] = np.nan
        gaps.append(imputer.reconstruct(row)[0, j] - new[i, j])
    assert_allclose(imputer.score(new), -np.sqrt(np.mean(np.square(gaps))), rtol=1e-9)
    imputer.set_params(loss="absolute").fit(X[:50])
    assert -np.abs(X[~np.isnan(X)]).max() < imputer.score(new) < 0


@pytest.mark.parametrize("small", [True, False])
def test_uncertainty_fits_scores_and_transforms_alike(table, small, monkeypatch):
    """New rows get the ridge that the rows of the fit had; the score leaves out, nearly."""
    if not small:
        monkeypatch.setattr("sklr.decomposition._completion_data._SMALL", 0)
    X, M = table
    X = X + 0.3 * np.random.default_rng(0).standard_normal(X.shape)
    holes = np.isnan(X)
    imputer = LowRankImputer(8, alpha=2.0, alpha_scaling="uncertainty", random_state=0)
    filled = imputer.fit_transform(X)
    assert_allclose(imputer.transform(X), filled, rtol=1e-9)
    plain = LowRankImputer(8, alpha=2.0, random_state=0).fit(X)
    assert ((filled - M)[holes] ** 2).mean() < 0.8 * ((plain.transform(X) - M)[holes] ** 2).mean()
    assert 0.2 < imputer.noise_ < 0.45 and plain.noise_ == plain.scale_
    if small:
        imputer.fit(X[:50])
        gaps = []
        for i, j in np.argwhere(~holes[50:]):
            row = X[50 + i : 51 + i].copy()
            row[0, j] = np.nan
            gaps.append(imputer.reconstruct(row)[0, j] - X[50 + i, j])
        # A value takes its column's variance with it, which the closed form leaves in.
        assert_allclose(imputer.score(X[50:]), -np.sqrt(np.mean(np.square(gaps))), rtol=0.05)


def test_search_without_labels_finds_the_rank(table):
    X, _ = table
    rng = np.random.default_rng(0)
    search = GridSearchCV(
        LowRankImputer(alpha=0.01, random_state=0), {"n_components": [1, 2, 6]}, cv=4
    )
    search.fit(X + 0.3 * rng.standard_normal(X.shape))
    assert search.best_params_ == {"n_components": 2}
    make_pipeline(StandardScaler(), LowRankImputer(2)).fit(X).transform(X)


def test_pandas_and_polars_in_and_out(table):
    X, _ = table
    names = [f"c{i}" for i in range(25)]
    imputer = LowRankImputer(2, random_state=0)
    wanted = imputer.fit_transform(X)
    frame = pd.DataFrame(X, columns=names, index=np.arange(60) + 100)
    imputer = LowRankImputer(2, random_state=0).set_output(transform="pandas")
    out = imputer.fit_transform(frame)
    assert list(out.columns) == names and list(out.index) == list(frame.index)
    assert_allclose(out, wanted)
    out = imputer.fit_transform(frame.convert_dtypes().astype("Float64"))  # pandas.NA
    assert_allclose(out.to_numpy(dtype=float), wanted)
    frame = polars.DataFrame(X, schema=names).fill_nan(None)
    out = LowRankImputer(2, random_state=0).set_output(transform="polars").fit_transform(frame)
    assert isinstance(out, polars.DataFrame) and out.columns == names
    assert_allclose(out.to_numpy(), wanted)


def test_sparse_entries_are_the_observed_ones(table):
    X, _ = table
    X[0, 0] = 0.0  # a stored zero is a value
    i, j = np.nonzero(~np.isnan(X))
    S = sp.csr_matrix((X[i, j], (i, j)), shape=X.shape)
    dense, sparse = (LowRankImputer(2, method=m, random_state=0) for m in ("alternating", "auto"))
    assert_allclose(sparse.fit_transform(S), dense.fit_transform(X), rtol=1e-9)
    assert_array_equal(sparse.transform(S)[i, j], X[i, j])
    rows, cols = np.array([3, 3, 10]), np.array([2, 4, 24])
    assert_allclose(sparse.predict_entries(S, rows, cols), sparse.reconstruct(S)[rows, cols])
    assert_allclose(sparse.score(S), dense.score(X))
    double = sp.coo_matrix((np.r_[1.0, 2.0, 3.0], ([0, 0, 1], [0, 0, 1])), shape=(2, 2)).tocsr()
    assert LowRankImputer(1, random_state=0).fit_transform(double)[0, 0] == 3.0  # as SciPy has it
    S.data[0] = np.nan
    with pytest.raises(ValueError, match="sparse and stores NaN"):
        LowRankImputer(2).fit(S)
    assert len(dense.predict_entries(X, [], [])) == 0


def test_another_mark_of_missing_values(table):
    X, _ = table
    marked = np.where(np.isnan(X), -999.0, X)
    assert_allclose(
        LowRankImputer(2, missing_values=-999, random_state=0).fit_transform(marked),
        LowRankImputer(2, random_state=0).fit_transform(X),
    )
    with pytest.raises(ValueError, match="NaN"):
        LowRankImputer(2, missing_values=-999).fit(X)


def test_empty_columns_are_dropped_or_kept(table):
    X, _ = table
    X[:, 4] = np.nan
    imputer = LowRankImputer(2, random_state=0)
    with pytest.warns(UserWarning, match=r"1 of 25 features have no observed value.*: 4;"):
        Z = imputer.fit_transform(X)
    assert Z.shape == (60, 24)
    assert list(imputer.get_feature_names_out()) == [f"x{i}" for i in range(25) if i != 4]
    kept = LowRankImputer(2, keep_empty_features=True, random_state=0).fit(X)
    assert_allclose(np.delete(kept.transform(X), 4, axis=1), Z)
    assert np.isfinite(kept.transform(X)).all()


def test_rows_without_values_fall_to_the_biases_and_are_told(table):
    X, _ = table
    imputer = LowRankImputer(2, random_state=0).fit(X)
    with pytest.warns(UserWarning, match=r"1 of 2 rows have no observed .*first is row 1"):
        Z = imputer.transform(np.vstack([X[0], np.full(25, np.nan)]))
    assert_allclose(Z[1], imputer.mean_ + imputer.feature_bias_)
    with pytest.warns(UserWarning, match="zeros"):
        imputer.set_params(fit_bias=False).fit(X).transform(np.full((1, 25), np.nan))


def test_indicator(table):
    X, _ = table
    imputer = LowRankImputer(2, add_indicator=True, random_state=0)
    Z = imputer.fit_transform(X)
    assert_array_equal(Z[:, 25:], np.isnan(X))
    assert list(imputer.get_feature_names_out())[-1] == "missingindicator_x24"


def test_permuted_rows_and_columns_permute_the_result(table):
    X, _ = table
    rng = np.random.default_rng(0)
    rows, cols = rng.permutation(60), rng.permutation(25)
    options = {"alpha": 0.1, "tol": 1e-12, "max_iter": 2000, "random_state": 0}
    plain = LowRankImputer(2, **options).fit_transform(X)
    other = LowRankImputer(2, **options).fit_transform(X[rows][:, cols])
    assert_allclose(other, plain[rows][:, cols], atol=1e-5)  # the sketch meets other columns


def test_float32_stays_float32(table):
    X, M = table
    imputer = LowRankImputer(2, random_state=0).fit(X.astype(np.float32))
    assert imputer.components_.dtype == np.float32
    Z = imputer.transform(X.astype(np.float32))
    assert Z.dtype == np.float32
    assert_allclose(Z, LowRankImputer(2, random_state=0).fit_transform(X), rtol=1e-3, atol=1e-3)


def test_rank_one_and_constant_tables():
    X = np.outer(np.arange(1.0, 7.0), np.arange(2.0, 6.0))
    X[2, 3] = np.nan
    Z = LowRankImputer(1, alpha=0, bias_alpha=0, fit_bias=False, random_state=0).fit_transform(X)
    assert_allclose(Z[2, 3], 15.0, rtol=1e-6)
    X = np.full((6, 5), 3.0)
    X[1, 1] = np.nan
    imputer = LowRankImputer(random_state=0).fit(X)
    assert imputer.transform(X)[1, 1] == 3.0 and imputer.n_components_ == 0
    assert imputer.score(X) == 0


def test_bad_input(table):
    X, _ = table
    with pytest.raises(ValueError, match=r"n_components=26 must be at most min\(shape\)=25"):
        LowRankImputer(26).fit(X)
    with pytest.raises(ValueError, match="no observed value: every entry is missing"):
        LowRankImputer().fit(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="infinity"):
        LowRankImputer().fit(np.where(np.isnan(X), np.inf, X))
    imputer = LowRankImputer(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="cols must be from 0 to 24"):
        imputer.predict_entries(X, [0], [25])
    with pytest.raises(ValueError, match="as long"):
        imputer.predict_entries(X, [0, 1], [2])
    for wrong in ([0.5], 0):
        with pytest.raises((ValueError, TypeError), match="list of integers|at least 1 dim"):
            imputer.predict_entries(X, wrong, [2])
    with pytest.raises(ValueError, match="no observed value to score"):
        imputer.score(np.full((1, 25), np.nan))
    assert pickle.loads(pickle.dumps(imputer)).transform(X).shape == X.shape


@pytest.mark.parametrize("spoilt", [0.0, 0.1])
def test_huber_keeps_a_column_of_larger_values(spoilt):
    """Its values are beyond the spread of the others, and no outliers."""
    for seed in (0, 2, 3):
        rng = np.random.default_rng(seed)
        M = rng.standard_normal((80, 3)) @ rng.standard_normal((3, 50))
        M[:, 0] *= 10
        X = M + 0.05 * M.std(axis=0) * rng.standard_normal(M.shape)
        hit = rng.random(M.shape) < spoilt
        hit[:, 0] = False
        X[hit] += 10 * M.std() * rng.standard_normal(hit.sum())
        hidden = rng.random(M.shape) > 0.7
        X[hidden] = np.nan
        filled = LowRankImputer(3, loss="huber", max_iter=300, random_state=0).fit_transform(X)
        wrong = (filled - M)[hidden[:, 0], 0]
        assert np.sqrt(np.mean(wrong**2)) < 0.2 * M[:, 0].std()


def _low_rank_with_holes(seed):
    rng = np.random.default_rng(seed)
    full = rng.standard_normal((150, 2)) @ rng.standard_normal((2, 6))
    full = full + 0.3 * rng.standard_normal(full.shape)
    holes = rng.random(full.shape) < 0.2
    return full, holes


@pytest.mark.parametrize("size", [1e5, -1e9, 1e30])
def test_a_gross_cell_is_named_and_spoils_nothing(size):
    full, holes = _low_rank_with_holes(11)
    given = np.where(holes, np.nan, full)
    row, column = np.argwhere(~holes)[70]
    wrong = given.copy()
    wrong[row, column] = size
    missing = given.copy()
    missing[row, column] = np.nan
    imputer = LowRankImputer()
    with pytest.warns(UserWarning, match=f"column {column}. Such values stay in the output"):
        filled = imputer.fit(wrong).transform(wrong)
    wanted = LowRankImputer().fit_transform(missing)
    assert filled[row, column] == size
    wanted[row, column] = size
    assert_allclose(filled, wanted, rtol=1e-10)
    assert imputer.score(wrong) == imputer.score(missing)
    with pytest.warns(UserWarning, match="column 'c"):
        LowRankImputer().fit(pd.DataFrame(wrong, columns=[f"c{j}" for j in range(6)]))


def test_heavy_tails_and_rare_values_are_not_gross():
    rng = np.random.default_rng(12)
    X = np.c_[
        np.exp(2 * rng.standard_normal(300)),
        rng.standard_t(2, 300),
        rng.random(300) < 0.02,
        rng.poisson(0.05, 300) * 40.0,
        1e9 + rng.standard_normal(300),
    ]
    X[rng.random(X.shape) < 0.1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LowRankImputer().fit_transform(X)


def test_alternating_minimisation_names_a_gross_cell():
    full, holes = _low_rank_with_holes(13)
    given = np.where(holes, np.nan, full)
    row, column = np.argwhere(~holes)[70]
    given[row, column] = 1e9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match=rf"1e\+09 in column {column}.*loss='huber'"):
            LowRankImputer(2, method="alternating", random_state=0).fit(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LowRankImputer(2, loss="huber", random_state=0).fit(given)


@pytest.mark.parametrize("n_components", [3, 6])
@pytest.mark.parametrize("condition", [1, 30])
def test_the_default_ridge_leaves_nothing_on_data_without_noise(n_components, condition):
    rng = np.random.default_rng(14)
    U, V = (np.linalg.qr(rng.standard_normal((n, 3)))[0] for n in (120, 90))
    full = 100 * (U * np.geomspace(1, 1 / condition, 3)) @ V.T
    holes = rng.random(full.shape) < 0.6
    given = np.where(holes, np.nan, full)
    imputer = LowRankImputer(n_components, method="alternating", random_state=0).fit(given)
    found = imputer.transform(given)
    assert np.linalg.norm((found - full)[holes]) < 1e-5 * np.linalg.norm(full[holes])
    # With noise the ridge stays what it is.
    given += 0.5 * full.std() * rng.standard_normal(full.shape)
    default, same = (
        LowRankImputer(3, method="alternating", alpha=alpha, random_state=0).fit_transform(given)
        for alpha in (None, 0.1)
    )
    assert_allclose(default, same, rtol=1e-12)
