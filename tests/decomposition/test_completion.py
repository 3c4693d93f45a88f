"""Alternating minimisation: recovery, solvers against each other, outliers, the objective."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from sklr.decomposition import (
    LowRankImputer,
    _completion,
    _completion_data,
    alternating_minimization,
)
from sklr.decomposition._completion import Fit, balanced
from sklr.decomposition._completion_data import (
    Model,
    ObservedEntries,
    Settings,
    grouped,
    transposed,
)
from sklr.decomposition._robust_scale import weighted_median


def low_rank(m, n, k, share, *, seed=0, scales=1.0, noise=0.0):
    """A matrix of rank k, and the same with NaN where it is not observed."""
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((m, k)) @ (rng.standard_normal((n, k)) * scales).T
    known = rng.random((m, n)) < share
    return M, np.where(known, M + noise * rng.standard_normal((m, n)), np.nan)


def error(M, R, U, V):
    hidden = np.isnan(R)
    return np.linalg.norm((U @ V.T - M)[hidden]) / np.linalg.norm(M[hidden])


def path(R, k, **options):
    """Relative errors cannot be seen from outside: factors after each sweep."""
    found = []
    defaults = {"alpha": 1e-6, "tol": 0, "random_state": 0}
    with pytest.warns(match="did not converge"):
        alternating_minimization(
            R,
            k,
            callback=lambda _, model: found.append((model.U.copy(), model.V.copy())),
            **defaults | options,
        )
    return found


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
def test_exact_recovery_in_the_sampling_of_the_paper(solver):
    """3000 x 2000 of rank 10 from 5 (m + n) k entries: 1e-3 within 6 sweeps, 1e-6 in 15."""
    m, n, k = 3000, 2000, 10
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((m, k)), rng.standard_normal((n, k))
    place = np.unique(rng.integers(0, m * n, 5 * (m + n) * k))
    i, j = np.divmod(place, n)
    R = sp.csr_array((np.einsum("ij,ij->i", U[i], V[j]), (i, j)), shape=(m, n))
    i, j = rng.integers(0, m, 20_000), rng.integers(0, n, 20_000)
    wanted = np.einsum("ij,ij->i", U[i], V[j])
    errors = [
        np.linalg.norm(np.einsum("ij,ij->i", A[i], B[j]) - wanted) / np.linalg.norm(wanted)
        for A, B in path(R, k, solver=solver, max_iter=15)
    ]
    assert errors[5] < 2e-3
    assert errors[6] < 1e-3
    assert errors[14] < 1e-6


def test_shared_gram_preconditioner_beats_ill_conditioning(monkeypatch):
    """Column scales 1 to 30: three steps with the shared Gram do what exact solves do."""
    M, R = low_rank(500, 400, 15, 0.35, scales=np.geomspace(1, 30, 15))

    def sweeps(**options):
        errors = [error(M, R, *factors) for factors in path(R, 15, max_iter=14, **options)]
        return next((s for s, e in enumerate(errors, 1) if e < 1e-3), None)

    exact, few = sweeps(solver="cholesky"), sweeps(solver="cg")
    assert exact <= 9
    assert few <= min(exact + 1, 10)

    def plain(F, X, mass):
        k = F.shape[1]
        return F, X, np.eye(k), (np.ones(k), np.zeros(k))

    monkeypatch.setattr(_completion, "rotate_to_diagonal", plain)
    assert sweeps(solver="cg") is None


def test_error_of_the_inner_solves_does_no_harm():
    """The paper's claim: solves of constant relative precision converge like exact ones."""
    M, R = low_rank(300, 200, 5, 0.35)
    exact, coarse = (
        error(M, R, *path(R, 5, max_iter=12, **options)[-1])
        for options in ({"solver": "cholesky"}, {"solver": "cg", "n_inner": 2})
    )
    assert exact < 1e-5
    assert coarse < 10 * exact


def one_half_sweep(solver, n_steps, *, loss="squared", weighted=False, dtype=np.float64, bias=True):
    rng = np.random.default_rng(1)
    m, n, k, nnz = 30, 20, 4, 300
    rows, cols = rng.integers(0, m - 1, nnz), rng.integers(0, n, nnz)  # the last row is empty
    values = rng.standard_normal(nnz).astype(dtype)
    weights = rng.uniform(0.5, 2, nnz if weighted else 0).astype(dtype)
    by_row, by_column = grouped(
        rows.astype(np.int32), cols.astype(np.int32), values, weights, (m, n)
    )
    F = rng.standard_normal((n, k)).astype(dtype)
    X = rng.standard_normal((m, k)).astype(dtype)
    offset = rng.standard_normal(n).astype(dtype)
    b = rng.standard_normal(m).astype(dtype) if bias else np.zeros(m, dtype)
    model = Model(0.3, 1.0, X.copy(), F, b, offset, delta=0.7)
    compiled = {"reference": "auto", "cholesky": "cholesky", "cg": "cg"}[solver]
    settings = Settings(k, alpha=0.5, bias_alpha=0.3, loss=loss, fit_bias=bias, solver=compiled)
    start = X, b.copy()
    fit = Fit(by_row, by_column, model, settings)
    total, fell = fit.half_sweep(0, "cg" if solver == "cg" else "cholesky", n_steps)
    X_out = model.U
    if solver == "cg":
        assert_allclose(model.V, F @ fit.rotation, atol=1e-5)
        X_out = X_out @ fit.rotation.T
    return by_row, F, offset, start, X_out, b, total, fell


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("loss", ["squared", "huber"])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-8), (np.float32, 2e-3)])
def test_half_sweeps_equal_plain_normal_equations(dtype, tol, loss, weighted, bias):
    """float32: normal equations of a condition near 100, in entries precision of digits."""
    options = {"loss": loss, "weighted": weighted, "dtype": dtype, "bias": bias}
    results = [
        one_half_sweep(solver, n_steps, **options)
        for solver, n_steps in (("reference", 1), ("cholesky", 1), ("cg", 12))
    ]
    for entries, F, offset, (X0, b0), X, b, total, fell in results:
        assert X.dtype == dtype
        wanted_total, before, after = 0.0, 0.0, 0.0
        for i in range(entries.n):
            part = slice(entries.indptr[i], entries.indptr[i + 1])
            A = np.c_[F[entries.indices[part]], np.ones(part.stop - part.start)].astype(float)
            ridge = np.r_[np.full(4, 0.5), 0.3]
            x0 = np.r_[X0[i], b0[i]].astype(float)
            if not bias:
                A, ridge, x0 = A[:, :4], ridge[:4], x0[:4]
            target = entries.values[part].astype(float) - 0.3 - offset[entries.indices[part]]
            if len(target) == 0:
                assert not X[i].any() and b[i] == 0
                continue
            r = target - A @ x0
            w = entries.weights[part].astype(float) if weighted else np.ones(len(r))
            size = np.abs(r)
            rho = r**2 if loss == "squared" else np.where(size < 0.7, r**2, 0.7 * (2 * size - 0.7))
            wanted_total += w @ rho
            if loss == "huber":
                w = w * np.minimum(1, 0.7 / size)
            x = np.linalg.solve(A.T @ (w[:, None] * A) + np.diag(ridge), A.T @ (w * target))
            found = np.r_[X[i], b[i]] if bias else X[i]
            assert_allclose(found, x, rtol=tol, atol=tol)
            before += w @ r**2 + ridge @ x0**2
            after += w @ (target - A @ x) ** 2 + ridge @ x**2
        assert_allclose(total, wanted_total, rtol=1e-5)
        assert_allclose(fell, before - after, rtol=1e-4)


def test_full_observation_gives_the_truncated_svd():
    """Eckart-Young: without holes and ridge the fixed point is known."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 5)) @ rng.standard_normal((5, 30))
    A += 0.1 * rng.standard_normal(A.shape)
    left, s, right = np.linalg.svd(A, full_matrices=False)
    best = (left[:, :5] * s[:5]) @ right[:5]
    for solver in ("cg", "cholesky"):
        U, V, _ = alternating_minimization(A, 5, solver=solver, tol=1e-16, random_state=0)
        assert_allclose(U @ V.T, best, atol=1e-6)


def test_full_observation_with_ridge_gives_the_shrunk_svd():
    """With ridge on both factors the fixed point is the SVD with values lowered by the ridge."""
    A = np.random.default_rng(0).standard_normal((40, 30))
    U, V, info = alternating_minimization(A, 30, alpha=3.0, tol=1e-12, random_state=0)
    left, s, right = np.linalg.svd(A, full_matrices=False)
    wanted = (left * np.maximum(s - 3.0 * info.scale, 0)) @ right
    assert_allclose(U @ V.T, wanted, atol=1e-4)  # values at the threshold arrive slowly


@pytest.mark.parametrize("fit_bias", [True, False])
@pytest.mark.parametrize("solver", ["cg", "cholesky"])
@pytest.mark.parametrize("scaling", ["none", "count"])
def test_objective_never_rises_and_is_what_it_says(solver, fit_bias, scaling):
    _, R = low_rank(60, 50, 3, 0.4, noise=0.5)
    ridge = {"alpha": 0.05, "bias_alpha": 0.02} if scaling == "count" else {"alpha": 2.0}
    U, V, info = alternating_minimization(
        R, 4, fit_bias=fit_bias, solver=solver, alpha_scaling=scaling, tol=1e-9, random_state=0,
        max_iter=2000, **ridge,
    )  # fmt: skip
    assert info.converged
    assert (np.diff(info.objective) <= 1e-9 * info.objective[0]).all()
    residual = R - U @ V.T - info.mean - info.row_bias[:, None] - info.col_bias
    seen = ~np.isnan(R)
    loss = (residual[seen] ** 2).sum()
    assert_allclose(info.training_rmse, np.sqrt(loss / seen.sum()), rtol=1e-9)
    a, b = ridge["alpha"] * info.scale, ridge.get("bias_alpha", 0.0)
    r, c = (seen.sum(axis=1), seen.sum(axis=0)) if scaling == "count" else (1.0, 1.0)
    loss += a * ((r * (U**2).T).sum() + (c * (V**2).T).sum())
    loss += b * ((r * info.row_bias**2).sum() + (c * info.col_bias**2).sum())
    assert_allclose(info.objective[-1], loss, rtol=1e-6)


@pytest.mark.parametrize("share, loss", [(0.05, "huber"), (0.1, "huber"), (0.2, "absolute")])
def test_gross_outliers(share, loss):
    """300 x 200 of rank 4, outliers of ten deviations: robust losses do not feel them."""
    M, R = low_rank(300, 200, 4, 0.2)
    rng = np.random.default_rng(5)
    hit = ~np.isnan(R) & (rng.random(R.shape) < share)
    R[hit] += 10 * M.std() * rng.standard_normal(hit.sum())
    options = {"alpha": 1e-6, "random_state": 0, "max_iter": 150}
    U, V, info = alternating_minimization(R, 4, loss=loss, **options)
    hidden = ~hit & np.isnan(R)
    assert np.linalg.norm((U @ V.T - M)[hidden]) < 5e-3 * np.linalg.norm(M[hidden])
    with pytest.warns(match="did not converge"):
        U, V, _ = alternating_minimization(R, 4, **options | {"max_iter": 30})
    assert np.linalg.norm((U @ V.T - M)[hidden]) > np.linalg.norm(M[hidden])
    assert info.delta < 0.1


@pytest.mark.parametrize(
    "shape, share, noise, alpha, bound",
    [
        ((300, 200, 4, 0.2), 0.1, 0.1, 1e-6, 1.1),
        ((300, 200, 4, 0.2), 0.2, 0.1, 0.1, 1.2),
        ((57, 23, 3, 0.7), 0.1, 0.1, 1e-6, 1.2),
        ((40, 30, 2, 0.7), 0.1, 0.1, 0.1, 1.3),
        # A ridge leaves residuals, which are not outliers.
        ((300, 200, 4, 0.2), 0.0, 0.0, 0.1, 1.2),
        ((40, 30, 2, 0.7), 0.1, 0.0, 0.3, 2.5),
    ],
)
def test_huber_is_nearly_as_good_as_without_the_outliers(shape, share, noise, alpha, bound):
    m, n, k, known = shape
    M, R = low_rank(m, n, k, known, seed=1, noise=noise * k**0.5)
    rng = np.random.default_rng(7)
    hit = ~np.isnan(R) & (rng.random(R.shape) < share)
    spoilt = np.where(hit, R + 10 * M.std() * rng.standard_normal(R.shape), R)
    U, V, _ = alternating_minimization(spoilt, k, alpha=alpha, loss="huber", random_state=0)
    found = error(M, R, U, V)
    U, V, _ = alternating_minimization(np.where(hit, np.nan, R), k, alpha=alpha, random_state=0)
    assert found < bound * error(M, R, U, V)


def test_extra_ridge_and_the_end_of_the_loss_are_those_of_the_normal_equations():
    """One exact entries-sweep where outliers count for nothing, and factors are uncertain."""
    rng = np.random.default_rng(3)
    m, n, k, nnz = 15, 12, 3, 90
    rows, cols = (rng.integers(0, size, nnz).astype(np.int32) for size in (m, n))
    values = rng.standard_normal(nnz)
    entries, other = grouped(rows, cols, values, values[:0], (m, n))
    F, X0 = rng.standard_normal((n, k)), rng.standard_normal((m, k))
    zero = np.zeros(n)
    for solver, n_steps in (("auto", 1), ("cholesky", 1), ("cg", 12)):
        model = Model(0.0, 2.0**0.5, X0.copy(), F, np.zeros(m), zero, delta=0.5, cut=2.0)
        fit = Fit(entries, other, model, Settings(k, alpha=0.5, loss="huber", solver=solver))
        fit.start_variances(0.3)
        if solver == "auto":
            D = fit.variances.col_variances.copy()
            H = 0.15 + np.array([(X0[half_rows(other, j)] ** 2).sum(axis=0) for j in range(n)])
            assert_allclose(D, 0.6 / H)
        total, _ = fit.half_sweep(0, "cg" if solver == "cg" else "cholesky", n_steps)
        X, Q = model.U, fit.rotation
        wanted = 0.0
        for i in range(m):
            j = half_rows(entries, i)
            if len(j) == 0:
                continue
            # The variances are independent in the turned coordinates.
            A, x0 = (F[j], X0[i]) if Q is None else (F[j] @ Q, X0[i] @ Q)
            more = (D if Q is None else D @ Q**2)[j].sum(axis=0)
            target = entries.values[entries.indptr[i] : entries.indptr[i + 1]]
            size = np.abs(target - A @ x0)
            w = np.where(size > 2.0, 0, np.minimum(1, 0.5 / size))
            wanted += np.where(size < 0.5, size**2, 0.5 * (2 * np.minimum(size, 2) - 0.5)).sum()
            if not w.any():
                assert not X[i].any()
                continue
            left = A.T @ (w[:, None] * A) + np.diag(0.15 + more)
            assert_allclose(X[i], np.linalg.solve(left, A.T @ (w * target)), rtol=1e-7, atol=1e-9)
        assert_allclose(total, wanted)


def half_rows(entries, i):
    return entries.indices[entries.indptr[i] : entries.indptr[i + 1]]


@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_small_problems_without_kernels_give_the_same(loss, monkeypatch):
    """Nothing is compiled below a size, and above it the results are those of the kernels."""
    M, R = low_rank(50, 40, 2, 0.5, noise=0.3)
    R[::7, ::5] += 20.0 * (loss == "huber")
    options = {"loss": loss, "random_state": 0, "tol": 1e-9, "max_iter": 500}
    imputers = []
    for limit in (_completion_data._SMALL, 0):
        monkeypatch.setattr(_completion_data, "_SMALL", limit)
        imputer = LowRankImputer(2, **options).fit(R)
        imputers.append((imputer.transform(R), imputer.score(R), imputer.training_rmse_))
    for small, large in zip(*imputers, strict=True):
        assert_allclose(small, large, rtol=1e-3, atol=1e-3)


def test_biases_and_factors_are_recovered_together():
    rng = np.random.default_rng(0)
    M, R = low_rank(80, 60, 2, 0.5)
    shift = 50 + 3 * rng.standard_normal((80, 1)) + 10 * rng.standard_normal(60)
    U, V, info = alternating_minimization(
        R + shift, 2, alpha=1e-6, bias_alpha=1e-6, fit_bias=True, random_state=0
    )
    Z = U @ V.T + info.mean + info.row_bias[:, None] + info.col_bias
    assert_allclose(Z, M + shift, atol=1e-4)


def test_result_does_not_depend_on_the_unit():
    _, R = low_rank(50, 40, 3, 0.5, noise=0.3)
    big, small = (
        alternating_minimization(c * R, 3, alpha=1.0, fit_bias=True, bias_alpha=1.0, random_state=0)
        for c in (1e6, 1e-6)
    )
    assert_allclose(big[0] @ big[1].T * 1e-12, small[0] @ small[1].T, rtol=1e-6, atol=1e-16)


def test_weights_count_like_repetitions_in_the_objective():
    """Weight zero is not allowed here; equal weights change nothing but the ridge's share."""
    _, R = low_rank(40, 30, 2, 0.5, noise=0.2)
    options = {"tol": 1e-12, "max_iter": 2000, "random_state": 0}
    once = alternating_minimization(R, 2, alpha=1.0, **options)
    weights = np.full(R.shape, 2.0)
    twice = alternating_minimization(R, 2, alpha=2.0, weights=weights, **options)
    # The objective is flat where it ends: its last digits are entries of the factors'.
    assert_allclose(once[0] @ once[1].T, twice[0] @ twice[1].T, atol=1e-5)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix, sp.coo_array])
def test_sparse_entries_are_observations_zeros_included(kind):
    _, R = low_rank(30, 20, 2, 0.6)
    R[np.arange(10), np.arange(10)] = 0.0
    i, j = np.nonzero(~np.isnan(R))
    S = kind((R[i, j], (i, j)), shape=R.shape)
    dense = alternating_minimization(R, 2, random_state=0, alpha=0.1)
    sparse = alternating_minimization(S, 2, random_state=0, alpha=0.1)
    assert_allclose(dense[0] @ dense[1].T, sparse[0] @ sparse[1].T, rtol=1e-9, atol=1e-12)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(_completion_data, "_WORTH_A_THREAD", 0)
    _, R = low_rank(70, 50, 3, 0.4, noise=0.2)
    one, two = (
        alternating_minimization(R, 3, alpha=0.5, solver="cg", n_jobs=n_jobs, random_state=0)
        for n_jobs in (None, 2)
    )
    assert_array_equal(one[0], two[0])
    assert_array_equal(one[1], two[1])


def test_ranges_are_balanced_by_entries_and_cover_all_rows():
    counts = np.r_[1000, np.ones(500, int), 0, 0, 300]
    indptr = np.r_[0, np.cumsum(counts)]
    entries = ObservedEntries(
        indptr, np.zeros(indptr[-1], np.int32), np.zeros(indptr[-1]), np.zeros(0)
    )
    cuts = entries.ranges(4)
    work = [indptr[b] - indptr[a] + 8 * (b - a) for a, b in cuts]
    assert max(work) <= sum(work) / 4 + 1008  # a part ends with the row that fills it
    assert [b for _, b in cuts[:-1]] == [a for a, _ in cuts[1:]]
    assert cuts[-1][1] == len(counts)


def test_grouping_and_transposing_keep_every_entry():
    rng = np.random.default_rng(0)
    rows, cols = (rng.integers(0, 7, 60, dtype=np.int32) for _ in range(2))
    values, weights = rng.standard_normal(60), rng.uniform(size=60)
    by_row, by_col = grouped(rows, cols, values, weights, (8, 7))
    dense = np.zeros((8, 7))
    np.add.at(dense, (rows, cols), values * weights)
    for entries, wanted in ((by_row, dense), (by_col, dense.T), (transposed(by_row, 7), dense.T)):
        data = entries.values * entries.weights
        built = sp.csr_array((data, entries.indices, entries.indptr), shape=wanted.shape)
        assert_allclose(built.toarray(), wanted)
        assert_allclose(entries.weight_sums(), [entries.weights[a:b].sum() for a, b in
                                      zip(entries.indptr[:-1], entries.indptr[1:])])  # fmt: skip


def test_balanced_factors_have_the_product_and_the_nuclear_norm():
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((9, 3)) * [1, 10, 100], rng.standard_normal((7, 3))
    A, B = balanced(U, V)
    assert_allclose(A @ B.T, U @ V.T, atol=1e-9)
    assert_allclose(((A**2).sum() + (B**2).sum()) / 2, np.linalg.norm(U @ V.T, "nuc"))
    U[:, 1] = U[:, 0]
    V[:, 1] = V[:, 0]
    assert balanced(U, V)[0] is U  # singular: left alone


def test_weighted_median():
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_median(values, np.zeros(0)) == 2.0
    assert weighted_median(values, np.array([5.0, 1.0, 1.0])) == 3.0
    assert weighted_median(values, np.array([1.0, 2.0, 1.0])) == 1.5


def test_too_few_entries_and_no_ridge_give_finite_factors():
    R = np.full((12, 10), np.nan)
    R[np.arange(10), np.arange(10)] = np.arange(1.0, 11.0)
    for solver in ("cg", "cholesky"):
        for loss in ("squared", "huber", "absolute"):
            U, V, _ = alternating_minimization(R, 5, solver=solver, loss=loss, random_state=0)
            assert np.isfinite(U).all() and np.isfinite(V).all()
            assert not U[10:].any()  # rows without an entry


@pytest.mark.parametrize("loss", ["squared", "huber", "absolute"])
def test_constant_matrix(loss):
    R = np.full((10, 8), 7.0)
    R[3, 4] = np.nan
    U, V, info = alternating_minimization(R, 2, fit_bias=True, loss=loss, random_state=0)
    assert info.mean == 7.0 and not U.any() and not V.any() and info.converged


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rank": 9}, r"n_components=9 must be at most min\(shape\)=8"),
        ({"rank": 0}, "rank"),
        ({"alpha": -1.0}, "alpha"),
        ({"loss": "cubic"}, "loss"),
        ({"solver": "sketch"}, "solver"),
        ({"weights": np.ones((3, 3))}, r"weights have shape \(3, 3\)"),
        ({"weights": np.zeros((10, 8))}, "must be positive"),
        ({"weights": sp.eye_array(10, 8).tocsr()}, "pattern of R"),
        ({"R": np.full((10, 8), np.nan)}, "no known entry"),
        ({"R": np.full((10, 8), np.inf)}, "infinity"),
        ({"R": sp.csr_array([[np.nan, 1.0]])}, "NaN"),
    ],
)
def test_bad_input_is_refused(change, message):
    options = {"R": np.arange(80.0).reshape(10, 8), "rank": 2} | change
    with pytest.raises(ValueError, match=message):
        alternating_minimization(**options)


def test_interrupt_leaves_nothing_behind():
    from sklr.decomposition import LowRankImputer

    class Interrupting(LowRankImputer):
        def _check(self, X, *, reset):
            if not reset:
                raise KeyboardInterrupt
            return super()._check(X, reset=reset)

    _, R = low_rank(30, 20, 2, 0.6)
    estimator = Interrupting(2, random_state=0).fit(R)
    with pytest.raises(KeyboardInterrupt):
        estimator.transform(R)
    assert_allclose(
        estimator.fit(R).components_, LowRankImputer(2, random_state=0).fit(R).components_
    )
