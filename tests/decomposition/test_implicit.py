"""ImplicitFactorization: its objective, rankings, lists, new rows, ids, bad input."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold

from sklr.decomposition import ImplicitFactorization, MatrixFactorizationRegressor, _implicit_als
from sklr.decomposition._completion_data import grouped

pd = pytest.importorskip("pandas", reason="needs the extra test")


def communities(m=60, n=40, k=4, seed=0):
    """Choices of rows and columns in k groups, mostly within the group."""
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(0, k, m), rng.integers(0, k, n)
    chance = np.where(rows[:, None] == cols, 0.4, 0.02)
    return np.argwhere(rng.random((m, n)) < chance), rows, cols


def objective(model, X, y):
    """The objective of the docstring, over all cells."""
    W = np.zeros((len(model.row_ids_), len(model.col_ids_)))
    ids = (model.row_ids_, model.col_ids_)
    np.add.at(W, tuple(map(np.searchsorted, ids, X.T)), y)
    P = (W > 0).astype(float)
    W[W > 0] = model.confidence * np.log2(1 + W[W > 0] / model.median_)
    U, V = model.row_factors_, model.col_factors_
    loss = ((1 + W) * (P - U @ V.T) ** 2).sum()
    ridge = P.sum(axis=1) ** 0.5 @ (U**2).sum(axis=1) + P.sum(axis=0) ** 0.5 @ (V**2).sum(axis=1)
    return loss + model._ridge * ridge


@pytest.mark.parametrize("small", [True, False])
def test_objective_is_that_of_all_cells_and_falls(small, monkeypatch):
    if not small:
        monkeypatch.setattr(_implicit_als, "_SMALL", 0)
    X, _, _ = communities()
    y = np.random.default_rng(1).lognormal(size=len(X))
    model = ImplicitFactorization(5, tol=1e-12, max_iter=3000, random_state=0).fit(X, y)
    assert (np.diff(model.objective_) <= 1e-9 * model.objective_[0]).all()
    assert_allclose(objective(model, X, y), model.objective_[-1], rtol=1e-6)
    # At a minimum small changes of the factors make it worse.
    for name in ("row_factors_", "col_factors_"):
        F = getattr(model, name)
        step = 1e-3 * np.random.default_rng(2).standard_normal(F.shape)
        for sign in (1, -1):
            setattr(model, name, F + sign * step)
            assert objective(model, X, y) > model.objective_[-1]
        setattr(model, name, F)


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-8), (np.float32, 1e-3)])
def test_kernel_solves_what_the_reference_solves(dtype, tol):
    """float32: normal equations of a condition near 100."""
    rng = np.random.default_rng(0)
    m, n, k = 30, 20, 6
    place = np.unique(rng.integers(0, (m - 1) * n, 200))  # the last row is empty
    rows, cols = (part.astype(np.int32) for part in np.divmod(place, n))
    values = rng.uniform(0.5, 4, len(place)).astype(dtype)
    by_row, _ = grouped(rows, cols, values, values[:0], (m, n))
    F, X = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((m, k)).astype(dtype)
    ridge = rng.uniform(1, 2, m).astype(dtype)
    out, found = np.empty((m, 2)), X.copy()
    _implicit_als.reference_rows(by_row, F, ridge, found, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_implicit_als, "_SMALL", 0)
        G, Z, before, fell = _implicit_als.half_sweep(by_row, F, X.copy(), ridge, n_steps=30)
    assert_allclose(Z @ G.T, found @ F.T, rtol=tol, atol=tol)
    assert_allclose((before, fell), out.sum(axis=0), rtol=1e-5)
    assert not Z[-1].any() and not found[-1].any()


def test_held_out_choices_come_before_popular_ones():
    X, _, cols = communities(200, 100)
    test = np.random.default_rng(0).random(len(X)) < 0.2
    model = ImplicitFactorization(8, random_state=0).fit(X[~test])
    counts = np.bincount(X[~test, 1], minlength=100)

    def ndcg(scores_of):
        total = []
        for row in np.unique(X[test, 0]):
            seen, wanted = (X[part & (X[:, 0] == row), 1] for part in (~test, test))
            scores = scores_of(row).astype(float)
            scores[seen] = -np.inf
            hits = np.isin(np.argsort(-scores, kind="stable")[:10], wanted)
            discount = 1 / np.log2(np.arange(2, 12))
            total.append(hits @ discount / discount[: len(wanted)].sum())
        return np.mean(total)

    found = ndcg(lambda row: model.predict(np.c_[np.full(100, row), np.arange(100)]))
    assert_allclose(model.score(X[test]), found)
    assert found > 2 * ndcg(lambda row: counts)


def test_gains_count_in_the_score():
    X, _, _ = communities()
    model = ImplicitFactorization(4, random_state=0).fit(X)
    best, second = model.recommend(0, 2)[0]
    assert model.score([[0, best]]) == 1
    assert_allclose(model.score([[0, second]]), 1 / np.log2(3))
    both = model.score([[0, best], [0, second]], [1.0, 3.0])
    assert_allclose(both, (1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))
    assert model.score([[0, 99_999]]) == 0  # a column that nobody chose cannot be in the list
    assert model.score([[0, best], [12345, 0]]) == 1  # nothing is known of that row
    with pytest.raises(ValueError, match="nothing is known"):
        model.score([[12345, 0]])


def test_movielens_ranks_above_popularity(data_folder):
    """Ratings of 4 or more that are held out: popularity reaches 0.09."""
    table = np.loadtxt(data_folder / "recommend" / "ratings.csv.gz", delimiter=",", skiprows=1)
    X, y = table[:, :2].astype(int), table[:, 2]
    test = np.random.RandomState(0).rand(len(y)) < 0.1
    model = ImplicitFactorization(64, random_state=0, shape=(610, 9724)).fit(X[~test], y[~test])
    assert model.score(X[test], y[test] >= 4) > 0.18


def test_unit_of_strengths_repetitions_and_zeros_do_not_matter():
    X, _, _ = communities()
    y = np.random.default_rng(1).integers(1, 5, len(X)).astype(float)
    options = {"random_state": 0, "n_components": 4}
    plain = ImplicitFactorization(**options).fit(X, y).predict(X)
    for factor in (1e-6, 1e6):
        scaled = ImplicitFactorization(**options).fit(X, factor * y).predict(X)
        assert_allclose(scaled, plain, rtol=1e-9)
    twice = ImplicitFactorization(**options).fit(np.r_[X, X], np.r_[y, y]).predict(X)
    assert_allclose(twice, plain, rtol=1e-9)
    repeated = ImplicitFactorization(**options).fit(X.repeat(y.astype(int), axis=0)).predict(X)
    assert_allclose(repeated, plain, rtol=1e-9)
    more = np.r_[X, [[0, 500], [500, 0]]]
    zeros = ImplicitFactorization(**options).fit(more, np.r_[y, 0, 0])
    assert_allclose(zeros.predict(X), plain, rtol=1e-9)
    assert zeros.predict([[500, 0], [0, 500]]).tolist() == [0, 0]


def test_one_huge_count_changes_little():
    X, _, _ = communities(200, 100)
    test = np.random.default_rng(0).random(len(X)) < 0.2
    y = np.ones((~test).sum())
    score = ImplicitFactorization(8, random_state=0).fit(X[~test], y).score(X[test])
    y[0] = 1e9
    assert ImplicitFactorization(8, random_state=0).fit(X[~test], y).score(X[test]) > 0.95 * score


def test_shape_far_beyond_the_data_costs_nothing_and_changes_nothing():
    X, _, _ = communities()
    for cls in (ImplicitFactorization, MatrixFactorizationRegressor):
        y = np.random.default_rng(1).uniform(1, 5, len(X))
        plain = cls(4, random_state=0).fit(X, y)
        wide = cls(4, random_state=0, shape=(200_000, 200_000)).fit(X, y)
        assert_allclose(wide.predict(X), plain.predict(X), atol=1e-9)
        assert wide.row_factors_.shape == (200_000, 4)
    assert set(wide.recommend(0, 1000)[0]) <= set(X[:, 1])


@pytest.mark.parametrize("cls", [ImplicitFactorization, MatrixFactorizationRegressor])
def test_new_rows_are_fitted_like_those_of_the_fit(cls):
    X, _, _ = communities()
    y = np.random.default_rng(1).uniform(1, 5, len(X))
    model = cls(4, random_state=0, tol=1e-12, max_iter=3000).fit(X, y)
    some = X[:, 0] < 5
    new = model.fold_in(np.c_[X[some, 0] + 1000, X[some, 1]], y[some])
    assert_array_equal(new.row_ids_, np.arange(1000, 1005))
    pairs = np.array([(row, col) for row in range(5) for col in model.col_ids_])
    assert_allclose(new.predict(pairs + [1000, 0]), model.predict(pairs), atol=2e-4)
    for one, other in zip(new.recommend(1003), model.recommend(3), strict=True):
        assert_allclose(one, other, atol=2e-4)
    own, asked = X[:, 0] == 2, pairs[pairs[:, 0] == 2]
    alone = model.fold_in(X[own], y[own])
    assert_allclose(alone.predict(asked), new.predict(asked + [1000, 0]), atol=1e-9)
    assert_array_equal(model.row_ids_, np.unique(X[:, 0]))  # the model is as it was
    with pytest.warns(UserWarning, match="1 of 2 values are of columns without a value in fit"):
        new = model.fold_in([[7, 0], [7, 99_999]], [3.0, 4.0])
    assert_allclose(new.predict([[7, 1]]), model.fold_in([[7, 0]], [3.0]).predict([[7, 1]]))
    with pytest.warns(UserWarning, match="left out"):
        new = model.fold_in([[7, 99_999]], [3.0])
    with pytest.raises(ValueError, match="row 7 had no value"):
        new.recommend(7)


def test_fold_in_of_ratings_takes_weights_context_and_shape():
    X, _, _ = communities()
    rng = np.random.default_rng(0)
    y, day = rng.uniform(1, 5, len(X)), rng.integers(0, 3, len(X))
    model = MatrixFactorizationRegressor(2, random_state=0, shape=(60, 40)).fit(X, y)
    with pytest.raises(ValueError, match="column ids must be from 0 to 39"):
        model.fold_in([[0, 40]], [1.0])
    pairs, values = np.array([[99, 1], [99, 2]]), [1.0, 5.0]
    new = model.fold_in(pairs, values, sample_weight=[1.0, 0.0])
    assert_allclose(new.predict(pairs), model.fold_in(pairs[:1], values[:1]).predict(pairs))
    model = MatrixFactorizationRegressor(2, random_state=0, context="bias")
    model.fit(np.c_[X, day], y + 2 * day)
    new = [model.fold_in([[99, 1, d]], [3.0 + 2 * d]).predict([[99, 1, 0]]) for d in (0, 2)]
    assert_allclose(*new, atol=0.5)


@pytest.mark.parametrize("cls", [ImplicitFactorization, MatrixFactorizationRegressor])
def test_lists_for_many_rows_are_those_of_each(cls):
    X, _, _ = communities()
    model = cls(4, random_state=0).fit(X, np.random.default_rng(1).uniform(1, 5, len(X)))
    rows = model.row_ids_[::-1]
    cols, values = model.recommend(rows, 7)
    assert cols.shape == values.shape == (len(rows), 7)
    for row, found, scores in zip(rows, cols, values, strict=True):
        one, other = model.recommend(row, 7)
        assert_array_equal(one, found)
        assert_allclose(other, scores)
        assert not set(found) & set(X[X[:, 0] == row, 1])
    out = cols[0, :3]
    without = model.recommend(rows, 7, filter_items=out)[0]
    assert not np.isin(without, out).any()
    assert_array_equal(without[0, :4], cols[0, 3:7])
    chosen = model.col_ids_[:5]
    only, values = model.recommend(rows, 5, items=chosen)
    assert set(only.ravel()) <= {*chosen, -1}
    assert (only == -1).any() and np.isneginf(values[only == -1]).all()
    assert len(model.recommend(rows[0], 5, items=chosen)[0]) == (only[0] >= 0).sum()
    everything = model.recommend(rows, 5, items=chosen, exclude_seen=False)[0]
    assert_array_equal(np.sort(everything, axis=1), np.broadcast_to(chosen, everything.shape))
    assert model.recommend(rows, 3, items=[])[0].shape == (len(rows), 0)


def test_similar_items_are_of_the_same_group():
    X, _, cols = communities(200, 60)
    model = ImplicitFactorization(8, random_state=0).fit(X)
    found, cosines = model.similar_items(np.arange(60), 5)
    assert found.shape == (60, 5) and (np.diff(cosines) <= 0).all() and (cosines <= 1 + 1e-9).all()
    assert not (found == np.arange(60)[:, None]).any()
    assert (cols[found] == cols[:, None]).mean() > 0.9
    one, other = model.similar_items(3, 5)
    assert_array_equal(one, found[3])
    F = model.col_factors_
    wanted = F[3] @ F[one[0]] / np.linalg.norm(F[3]) / np.linalg.norm(F[one[0]])
    assert_allclose(other[0], wanted)
    with pytest.raises(ValueError, match="column 77 had no value in fit"):
        model.similar_items(77)


@pytest.mark.parametrize("cls", [ImplicitFactorization, MatrixFactorizationRegressor])
def test_strings_are_ids(cls):
    X, _, _ = communities()
    y = np.random.default_rng(1).uniform(1, 5, len(X))
    names = np.char.add("u", np.char.zfill(X[:, 0].astype(str), 3))
    plain = cls(4, random_state=0).fit(X, y)
    frame = pd.DataFrame({"user": names, "item": X[:, 1]})
    model = cls(4, random_state=0).fit(frame, y)
    assert_allclose(model.predict(frame), plain.predict(X))
    assert_array_equal(model.recommend("u003", 4)[0], plain.recommend(3, 4)[0])
    assert model.recommend(["u003", "u005"], 4)[0].shape == (2, 4)
    assert model.row_ids_.dtype.kind == "U" and model.col_ids_.dtype.kind == "i"
    both = np.c_[names, np.char.add("i", X[:, 1].astype(str))]
    model = cls(4, random_state=0).fit(both, y)
    assert model.recommend("u003", 4, filter_items=["i7"])[0].dtype.kind == "U"
    assert model.predict([["u003", "i7"], ["nobody", "i7"]]).shape == (2,)
    with pytest.raises(TypeError, match="ids were strings in fit, got integers"):
        model.predict([[3, 7]])
    with pytest.raises(TypeError, match="all strings or all integers, got 'a' and 1"):
        cls(1).fit(np.array([["a", 1], [1, 1]], dtype=object), [1.0, 2.0])
    with pytest.raises(TypeError, match="shape=.* is for ids that are numbers"):
        cls(4, shape=(60, 40)).fit(both, y)


@pytest.mark.parametrize("cls", [ImplicitFactorization, MatrixFactorizationRegressor])
def test_large_ids_are_kept_or_refused_but_never_merged(cls):
    ids = 2**60 + np.arange(1, 4)
    frame = pd.DataFrame({"user": ids, "item": [1, 2, 1]})
    model = cls(1, random_state=0).fit(frame, [1.0, 2.0, 3.0])
    assert_array_equal(model.row_ids_, ids)
    mixed = frame.astype({"item": object})
    assert_array_equal(cls(1, random_state=0).fit(mixed, [1.0, 2.0, 3.0]).row_ids_, ids)
    with pytest.raises(ValueError, match=r"not exact in float64: beyond 2 \*\* 53"):
        cls(1).fit(frame.astype({"item": float}), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="beyond 2"):
        model.predict(pd.DataFrame({"user": [2.0**60], "item": [1]}))


def test_search_over_choices():
    X, _, _ = communities(150, 80)
    cv = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(ImplicitFactorization(8, random_state=0), {"alpha": [0.4, 40.0]}, cv=cv)
    assert search.fit(X).best_params_ == {"alpha": 0.4}


def test_further_columns_are_refused_or_ignored():
    X, _, _ = communities()
    when = np.c_[X, np.arange(len(X)) / 7]
    with pytest.raises(ValueError, match='n_features = 3.*context="ignore"'):
        ImplicitFactorization(2).fit(when)
    model = ImplicitFactorization(2, context="ignore", random_state=0).fit(when)
    plain = ImplicitFactorization(2, random_state=0).fit(X)
    assert_array_equal(model.predict(when), plain.predict(X))


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr("sklr.decomposition._completion_data._WORTH_A_THREAD", 0)
    monkeypatch.setattr(_implicit_als, "_SMALL", 0)
    X, _, _ = communities()
    one, two = (
        ImplicitFactorization(4, n_jobs=n_jobs, random_state=0).fit(X).predict(X)
        for n_jobs in (None, 2)
    )
    assert_array_equal(one, two)


def test_float32_strengths_give_float32_scores():
    X, _, _ = communities()
    y = np.ones(len(X), np.float32)
    model = ImplicitFactorization(4, random_state=0).fit(X, y)
    assert model.predict(X).dtype == model.recommend(0)[1].dtype == np.float32
    wanted = ImplicitFactorization(4, random_state=0).fit(X).predict(X)
    assert_allclose(model.predict(X), wanted, atol=1e-3)


@pytest.mark.parametrize(
    "options, X, y, message",
    [
        ({}, [[0, 1], [1, 0]], [1.0, -1.0], r"strengths in y must be from 0, got -1"),
        ({}, [[0, 1], [1, 0]], [0.0, 0.0], "all strengths in y are 0"),
        ({}, [[0, 1], [1, 0]], [1.0], "one strength for each of the 2 samples"),
        ({}, [[0, 1], [1, 0]], [1.0, np.nan], "NaN"),
        ({}, [[0, 1], [1, 0.5]], None, "ids must be integers or strings, got 0.5"),
        ({}, [[0, 1], [1, -1]], None, "Negative values in data"),
        ({}, [[0], [1]], None, "two columns of ids"),
        ({"n_components": 3}, [[0, 1], [1, 0]], None, r"n_components=3 must be at most"),
        ({"alpha": 0.0}, [[0, 1], [1, 0]], None, "alpha"),
        ({"confidence": -1.0}, [[0, 1], [1, 0]], None, "confidence"),
        ({"shape": (1, 0)}, [[0, 1], [1, 0]], None, "shape must be two positive integers"),
        ({"shape": (2, 1)}, [[0, 1], [1, 0]], None, "column ids must be from 0 to 0"),
    ],
)
def test_bad_input(options, X, y, message):
    with pytest.raises(ValueError, match=message):
        ImplicitFactorization(**options).fit(X, y)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda m: m.recommend(99_999), ValueError, "row 99999 had no value in fit, 1 of 1 rows"),
        (lambda m: m.recommend([0, 99_999]), ValueError, "1 of 2 rows"),
        (lambda m: m.recommend(0, 0), ValueError, "n must be at least 1"),
        (lambda m: m.recommend(0, 1.5), TypeError, "n must be an integer"),
        (lambda m: m.recommend(True), TypeError, "row must be an id"),
        (lambda m: m.recommend([[0]]), TypeError, "row must be an id"),
        (lambda m: m.recommend(0, filter_items=["a"]), TypeError, "integers in fit, got strings"),
    ],
)
def test_bad_calls(call, error, message):
    X, _, _ = communities()
    with pytest.raises(error, match=message):
        call(ImplicitFactorization(2, random_state=0).fit(X))


def test_few_sweeps_say_so():
    X, _, _ = communities()
    with pytest.warns(ConvergenceWarning, match="max_iter=2 sweeps.*tol=1e-09"):
        ImplicitFactorization(4, max_iter=2, tol=1e-9, random_state=0).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImplicitFactorization(random_state=0).fit(X)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix, sparse.csc_array])
def test_a_sparse_matrix_is_its_pairs(kind):
    rng = np.random.default_rng(8)
    dense = np.where(rng.random((30, 20)) < 0.3, rng.integers(1, 9, (30, 20)), 0)
    R = kind(dense)
    rows, cols = np.nonzero(dense)
    model = ImplicitFactorization(4, random_state=0).fit(R)
    pairs = ImplicitFactorization(4, random_state=0).fit(np.c_[rows, cols], dense[rows, cols])
    assert_allclose(model.row_factors_, pairs.row_factors_, rtol=1e-10)
    assert_array_equal(model.recommend(3)[0], pairs.recommend(3)[0])
    assert model.score(R) == pairs.score(np.c_[rows, cols], dense[rows, cols])
    folded = pairs.fold_in(np.c_[rows, cols], dense[rows, cols])
    assert_allclose(model.fold_in(R).row_factors_, folded.row_factors_, rtol=1e-10)
    assert model.n_features_in_ == 2
    with pytest.raises(ValueError, match=r"shape \(30, 20\).*Leave y out"):
        model.fit(R, np.ones(30))
    with pytest.raises(ValueError, match="without any value"):
        model.fit(kind((30, 20)))


@pytest.mark.parametrize("model", [ImplicitFactorization(2), MatrixFactorizationRegressor(1)])
def test_new_rows_of_a_list_need_no_names_of_columns(model):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 6, (60, 2))
    values = rng.uniform(1, 5, 60)
    model = clone(model).fit(pandas.DataFrame(pairs, columns=["user", "item"]), values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = model.fold_in([[9, 1], [9, 2]], [4.0, 5.0])
    assert list(new.feature_names_in_) == ["user", "item"]
    with pytest.raises(ValueError, match="feature names"):
        model.fold_in(pandas.DataFrame({"item": [1], "user": [9]}), [4.0])
