"""Matrix sensing: the tables of both papers' settings, invariances, and bad input."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_spd_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import HuberRegressor, Ridge
from sklearn.model_selection import GridSearchCV

from sklr.datasets import make_matrix_sensing
from sklr.decomposition import MatrixSensingRegressor
from sklr.decomposition._sensing_operator import SensingOperator, is_symmetric, samples_entries
from sklr.decomposition._sensing_solvers import (
    gradient_descent,
    product_svd,
    random_factors,
    rescale_factors_capped,
    spectral_factors,
    weighted_quantile,
)


def error_of(model, matrix):
    return np.linalg.norm(model.matrix_ - matrix) / np.linalg.norm(matrix)


# The operator -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 5, 5))
    A[A < -0.5] = 0
    return A, rng.standard_normal(40), rng.random(40) + 0.1, rng.standard_normal((5, 5))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("kind", ["dense", "sparse", "float32"])
def test_operator_equals_the_sums(small, symmetric, weighted, centre, kind, monkeypatch):
    monkeypatch.setattr("sklr.decomposition._sensing_operator._BLOCK_BYTES", 1000)  # many blocks
    A, y, w, M = small
    if kind == "float32":
        A = A.astype(np.float32).astype(float)
    M = (M + M.T) / 2 if symmetric else M
    w = w if weighted else np.ones(40)
    X = A.reshape(40, -1)
    X = {"dense": X, "sparse": sparse.csr_array(X), "float32": X.astype(np.float32)}[kind]
    operator = SensingOperator(
        X, (5, 5), w if weighted else None, symmetric=symmetric, centre=centre
    )
    B = (A + A.transpose(0, 2, 1)) / 2 if symmetric else A
    if centre:
        B = B - np.average(B, axis=0, weights=w)
    B = B / operator.scale
    tol = {"rtol": 1e-4, "atol": 1e-4} if kind == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    e = np.einsum("ijk,jk", B, M) - y
    assert_allclose(operator.measure(M), e + y, **tol)
    wanted = np.einsum("i,ijk->jk", w * e, B) / w.sum()
    assert_allclose(operator.adjoint(e), wanted, **tol)
    got, R = operator.residual_and_adjoint(M, y)
    assert_allclose(got, e, **tol)
    assert_allclose(R, wanted, **tol)
    got, Q = operator.residual_and_adjoint(M, y, np.sign)
    assert_allclose(Q, np.einsum("i,ijk->jk", w * np.sign(e), B) / w.sum(), **tol)
    operator.make_gram(y)
    square, R = operator.gram_adjoint(M)
    assert_allclose(square, np.average(e**2, weights=w), **tol)
    assert_allclose(R, wanted, **tol)
    # Unit mean square of the entries, of which a symmetric matrix has fewer.
    rng = np.random.default_rng(1)
    big = rng.standard_normal((20000, 3, 3)) * 3
    operator = SensingOperator(big.reshape(-1, 9), (3, 3), symmetric=symmetric)
    assert_allclose(operator.scale, 3, rtol=0.02)


def test_kinds_of_samples_are_told_apart():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((7, 4, 4))
    S = A + A.transpose(0, 2, 1)
    for convert in (np.asarray, sparse.csr_array):
        assert not is_symmetric(convert(A.reshape(7, -1)), 4)
        assert is_symmetric(convert(S.reshape(7, -1)), 4)
        assert not samples_entries(convert(A.reshape(7, -1)))
        assert samples_entries(convert(np.eye(16)[[3, 5, 8]] * 2.0))


def test_weighted_quantile_counts_weights_as_repetitions():
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal(30), rng.integers(1, 5, 30)
    for q in (0.1, 0.25, 0.5, 0.9):
        wanted = weighted_quantile(np.repeat(values, weights), q)
        assert weighted_quantile(values, q, weights.astype(float)) == wanted


# The re-scaling ---------------------------------------------------------------------------------


def test_capped_step_keeps_the_product_and_shares_the_large_part():
    rng = np.random.default_rng(0)
    F, G = rng.standard_normal((9, 4)), rng.standard_normal((7, 4))
    U, S, V = product_svd(F, G)
    assert_allclose((U * S) @ V.T, F @ G.T, atol=1e-12)
    limit = S[2]
    new_F, new_G = rescale_factors_capped(F, G, limit)
    assert_allclose(new_F @ new_G.T, F @ G.T, atol=1e-12)
    assert_allclose(new_F.T @ new_F, np.diag([S[0], S[1], limit, limit]), atol=1e-11)


def test_capped_step_is_the_paper_s_up_to_a_rotation_when_no_value_is_above_the_limit():
    rng = np.random.default_rng(0)
    F, G = rng.standard_normal((9, 4)), rng.standard_normal((7, 4))
    F[:, 3] = F[:, 0] * (1 + 1e-15)  # singular values at rounding level are no trouble
    limit = np.linalg.norm(F @ G.T, 2)
    new_F, new_G = rescale_factors_capped(F, G, limit)
    assert_allclose(new_F @ new_G.T, F @ G.T, atol=1e-11)
    assert_allclose(new_F.T @ new_F, limit * np.eye(4), atol=1e-11)


# Over-parameterised gradient descent: the sheet's table -----------------------------------------

N, RANK, ALPHA = 50, 3, 0.5


@pytest.fixture(scope="module")
def sensing():
    """50 x 50, M = diag(1, 1, 1, 0, ...), 1500 normal measurements: the operator and y."""
    rng = np.random.default_rng(0)
    M = np.zeros((N, N))
    M[range(RANK), range(RANK)] = 1
    A = rng.standard_normal((10 * N * RANK, N * N))
    return A, A @ M.ravel(), M


def errors_of_descent(sensing, k, *, tied=False, alpha=ALPHA, accelerate=False, steps=1000):
    """Distances to M by iteration, at the table's step size of 0.1."""
    A, y, M = sensing
    operator = SensingOperator(A, (N, N), symmetric=tied)
    target = y / operator.scale  # measurements of M in the operator's units
    if tied:
        operator.make_gram(target)
    found = []

    class Recorder:
        factors = None

        def stop(self, t, F, G):
            found.append(np.linalg.norm(F @ G.T - M))
            return False

    F, G = random_factors(np.random.default_rng(1), (N, N), k, alpha, 1 / 3)
    gradient_descent(
        operator,
        target,
        F,
        G,
        eta=0.1,
        max_iter=steps,
        tol=0,
        tied=tied,
        accelerate=accelerate,
        validation=Recorder(),
    )
    return np.array(found)


def rate(errors, begin, end):
    return np.log(errors[begin] / errors[end]) / (end - begin)


def test_symmetric_form_is_linear_at_the_exact_rank(sensing):
    """Sheet: 1.1e-5 and 4.7e-11 at steps 250 and 500."""
    errors = errors_of_descent(sensing, 3, tied=True, steps=501)
    assert errors[250] < 1e-4
    assert errors[500] < 1e-9


@pytest.mark.parametrize("k, at_999", [(5, 1.05e-2), (10, 2.5e-2)])
def test_symmetric_form_slows_down_above_the_rank(sensing, k, at_999):
    """The lower bound of the paper: the error falls like 1/t, the squared error like 1/t^2."""
    errors = errors_of_descent(sensing, k, tied=True)
    slope = np.log(errors[999] / errors[500]) / np.log(999 / 500)
    assert -1.15 < slope < -0.75
    assert_allclose(errors[999], at_999, rtol=0.25)


def test_rate_of_the_asymmetric_form_rises_with_the_start(sensing):
    """The square of the start's size is in the exponent. Sheet's rates: .0209, .0086, .0022."""
    rates = []
    for alpha in (1.0, 0.5, 0.2):
        errors = errors_of_descent(sensing, 5, alpha=alpha, steps=401)
        rates.append(rate(errors, 200, 400))
    assert rates[0] > 1.7 * rates[1] > 1.7 * 1.7 * rates[2]
    assert_allclose(rates[:2], [0.0209, 0.0086], rtol=0.35)


def test_changed_step_makes_the_rate_independent_of_the_start(sensing):
    """Sheet: below 5.2e-12 at step 999 for starts of 1, 0.5, 0.2 and 0.05."""
    rates = []
    for alpha in (1.0, 0.5, 0.2, 0.05):
        errors = errors_of_descent(sensing, 5, alpha=alpha, accelerate=True)
        assert errors[999] < 1e-10
        rates.append(rate(errors, 200, 500))
    assert max(rates) < 1.5 * min(rates)


def test_surplus_follows_its_scalar_recursion_when_all_is_observed():
    """With A the identity and a diagonal start, s <- s (1 - eta s^2)."""
    n = 4
    X = np.eye(n * n) * n  # mean square 1
    operator = SensingOperator(X, (n, n))
    M = np.diag([1.0, 0, 0, 0])
    F = np.diag([1.0, 0.5, 0.25, 0.1])
    # A*A is the identity times the mean square over the number of samples.
    eta = 0.1 * operator.total * operator.scale**2 / n**2
    out = gradient_descent(
        operator, operator.measure(M), F, F, eta=eta, max_iter=201, tol=0, tied=True
    )
    s = np.array([0.5, 0.25, 0.1])
    for _ in range(200):
        s = s - 0.1 * s**3
    assert_allclose(np.diag(out.F)[1:], s, atol=1e-12)


def test_symmetric_samples_do_not_bring_the_slow_down_back():
    """Of symmetric samples a free product has twice the rank, and would converge like 1/t."""
    X, y, M = make_matrix_sensing(400, shape=(20, 20), rank=2, symmetric=True, random_state=0)
    X = (X + X.transpose(0, 2, 1)) / 2
    model = MatrixSensingRegressor(5, random_state=0).fit(X, y)
    assert model.symmetric_ and model.n_iter_ < 400
    assert error_of(model, M) < 1e-6
    assert_array_equal(model.matrix_, model.matrix_.T)
    indefinite = M - 2 * np.outer(M[0], M[0])
    model.fit(X, np.einsum("ijk,jk", X, indefinite))
    assert error_of(model, indefinite) < 1e-6


# Sub-gradient method: the sheet's list ----------------------------------------------------------


def outlier_problem(m, share, *, d=20, r=3, noise=0.0, size=10.0, seed=0):
    X, y, M = make_matrix_sensing(
        m,
        shape=(d, d),
        rank=r,
        symmetric=True,
        noise=noise,
        outliers=share,
        outlier_scale=size,
        random_state=seed,
    )
    return X, y, M


@pytest.mark.parametrize("share, m", [(0.1, 1000), (0.3, 2500), (0.5, 5000)])
def test_exact_under_outliers_whatever_the_rank_bound(share, m):
    """Sheet: error <= 2e-7 with geometric steps for r' = 3 and for r' = d."""
    X, y, M = outlier_problem(m, share)
    for k in (3, None):
        model = MatrixSensingRegressor(k, loss="absolute", symmetric=True).fit(X, y)
        assert np.linalg.norm(model.matrix_ - M) < 2e-7
        assert model.rank_ == 3
        wrong = np.abs(y - np.einsum("ijk,jk", X, M)) > 1e-3
        assert (model.outlier_mask_ == wrong).mean() > 0.999
    assert np.linalg.norm(MatrixSensingRegressor(3, max_iter=300).fit(X, y).matrix_ - M) > 0.5


def test_geometric_steps_of_the_paper():
    X, y, M = outlier_problem(1000, 0.1)
    model = MatrixSensingRegressor(
        3, loss="absolute", symmetric=True, step="geometric", decay=0.995, max_iter=3000
    ).fit(X, y)
    assert np.linalg.norm(model.matrix_ - M) < 2e-7


def test_too_fast_a_decay_never_leaves_the_start_and_says_so():
    X, y, M = outlier_problem(1000, 0.1)
    model = MatrixSensingRegressor(
        loss="absolute", symmetric=True, step="geometric", decay=0.98, max_iter=1000
    )
    with pytest.warns(ConvergenceWarning, match=r"never grew.*decay=0.98"):
        model.fit(X, y)
    assert np.linalg.norm(model.matrix_ - M) > 1.7


@pytest.mark.parametrize(
    "k, alpha, bound", [(3, 0.1, 1e-13), (3, 1e-3, 1e-13), (3, 1e-6, 1e-13), (20, 1e-3, 2e-3)]
)
def test_clean_data_with_steps_by_the_loss(k, alpha, bound):
    """Exact at the rank; above it down to a floor that falls with the start."""
    X, y, M = outlier_problem(500, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The sheet's step of 0.25 is absolute, ours relative to |M|_F.
        model = MatrixSensingRegressor(
            k,
            loss="absolute",
            symmetric=True,
            step="loss",
            step_size=0.25 * np.sqrt(3),
            init_scale=alpha,
            max_iter=400,
            tol=0,
        ).fit(X, y)
    assert np.linalg.norm(model.matrix_ - M) < bound


def test_noise_halves_with_four_times_the_samples_and_forgets_the_rank_bound():
    """Sheet: .205 at m = 2000 and .10 at 8000; the loss is below that of the truth."""
    errors = {}
    for m in (2000, 8000):
        X, y, M = outlier_problem(m, 0.0, noise=1.0)
        for k in (3, None):
            model = MatrixSensingRegressor(
                k, loss="absolute", symmetric=True, step="geometric", decay=0.99, max_iter=2000
            ).fit(X, y)
            errors[m, k] = np.linalg.norm(model.matrix_ - M)
        truth = np.abs(np.einsum("ijk,jk", X, M) - y).mean()
        assert np.abs(model.predict(X) - y).mean() < truth
    assert_allclose([errors[2000, 3], errors[8000, 3]], [0.205, 0.10], rtol=0.2)
    for m in (2000, 8000):
        assert_allclose(errors[m, None], errors[m, 3], rtol=1e-3)


def test_size_of_the_outliers_does_not_matter():
    X, y, M = outlier_problem(1000, 0.1)
    clean = np.einsum("ijk,jk", X, M)
    errors = []
    for factor in (1.0, 1e6):
        model = MatrixSensingRegressor(
            3, loss="absolute", symmetric=True, step="geometric", decay=0.995, max_iter=3000
        ).fit(X, clean + factor * (y - clean))
        errors.append(np.linalg.norm(model.matrix_ - M))
    # The scale of the steps is a median, which the outliers move by a little: so it is with what
    # is left of the error, three orders below 1e-5.
    assert_allclose(errors[1], errors[0], rtol=0.2)
    assert max(errors) < 2e-7


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_sign_rip_factor(share):
    """The mean of sign(<A, D> - s) A is phi(D) D / |D|, with phi of the sheet."""
    rng = np.random.default_rng(0)
    d, m = 4, 200000
    D = rng.standard_normal((d, d))
    norm = np.linalg.norm(D)
    A = rng.standard_normal((m, d * d))
    s = np.where(rng.random(m) < share, 3 * rng.standard_normal(m), 0.0)
    got = (np.sign(A @ D.ravel() - s) @ A).reshape(d, d) / m
    # E exp(-s^2 / (2 |D|^2)) for s of standard deviation 3.
    mean = 1 / np.sqrt(1 + 9 / norm**2)
    phi = np.sqrt(2 / np.pi) * (1 - share + share * mean)
    assert_allclose(got, phi * D / norm, atol=5 / np.sqrt(m))


def test_rotated_samples_give_the_rotated_matrix():
    X, y, _ = outlier_problem(300, 0.1, d=10, r=2)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    model = MatrixSensingRegressor(loss="absolute", symmetric=True).fit(X, y)
    turned = MatrixSensingRegressor(loss="absolute", symmetric=True).fit(turn @ X @ turn.T, y)
    assert_allclose(turned.matrix_, turn @ model.matrix_ @ turn.T, atol=1e-6)


def test_recovers_where_huber_regression_cannot():
    """Fewer samples than entries, and a tenth of them wrong."""
    X, y, M = outlier_problem(300, 0.1, d=20, r=2)
    model = MatrixSensingRegressor(loss="absolute", symmetric=True).fit(X, y)
    huber = HuberRegressor(fit_intercept=False, max_iter=100).fit(X.reshape(300, -1), y)
    assert error_of(model, M) < 1e-4
    assert np.linalg.norm(huber.coef_.reshape(20, 20) - M) / np.linalg.norm(M) > 0.5


def test_spectral_start_is_the_best_approximation():
    C = make_spd_matrix(6, random_state=0) - 0.5 * np.eye(6)
    F, _ = spectral_factors(C, 6, 0.1, tied=True)
    values, vectors = np.linalg.eigh(C)
    assert_allclose(F @ F.T, 0.01 * (vectors * np.maximum(values, 0)) @ vectors.T, atol=1e-14)
    F, G = spectral_factors(C[:, :4], 4, 0.1, tied=False)
    assert_allclose(F @ G.T, 0.01 * C[:, :4], atol=1e-14)


# The estimator ----------------------------------------------------------------------------------

LOSSES = ("squared", "absolute")


@pytest.mark.parametrize("loss", LOSSES)
def test_three_d_flat_and_sparse_samples_agree(loss):
    X, y, M = make_matrix_sensing(250, shape=(8, 11), rank=2, random_state=0)
    X[np.abs(X) < 0.5] = 0
    y = np.einsum("ijk,jk", X, M)
    flat = X.reshape(250, -1)
    model = MatrixSensingRegressor(4, loss=loss, random_state=0).fit(X, y)
    assert error_of(model, M) < 1e-6 and model.rank_ == 2
    assert_allclose(model.predict(X), np.einsum("ijk,jk", X, model.matrix_), rtol=1e-12)
    assert_allclose(model.predict(flat), model.predict(X), rtol=0)
    with_shape = MatrixSensingRegressor(4, loss=loss, shape=(8, 11), random_state=0)
    assert_array_equal(with_shape.fit(flat, y).matrix_, model.matrix_)
    for make in (sparse.csr_array, sparse.csc_matrix):
        assert_allclose(with_shape.fit(make(flat), y).matrix_, model.matrix_, atol=1e-6)
        assert_allclose(with_shape.predict(make(flat)), model.predict(X), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("precompute", [True, False])
def test_scaled_targets_and_samples_scale_the_matrix(loss, precompute):
    # Without noise: signs of residuals near zero turn rounding errors into other paths.
    noise = 0.1 if loss == "squared" else 0.0
    X, y, _ = make_matrix_sensing(150, shape=(8, 8), rank=2, noise=noise, random_state=0)
    est = MatrixSensingRegressor(3, loss=loss, precompute=precompute, random_state=0)
    first = est.fit(X, y).matrix_
    assert_allclose(est.fit(X, 1e6 * y).matrix_, 1e6 * first, rtol=1e-6, atol=1.0)
    assert_allclose(est.fit(1e-4 * X, y).matrix_, 1e4 * first, rtol=1e-6, atol=1e-2)
    assert_array_equal(est.fit(X, 2.0**20 * y).matrix_, 2.0**20 * first)


def test_rank_one_vectors_and_rectangles():
    X, y, M = make_matrix_sensing(60, shape=(9, 4), rank=1, random_state=0)
    model = MatrixSensingRegressor(1, random_state=0).fit(X, y)
    assert error_of(model, M) < 1e-6
    assert [f.shape for f in model.factors_] == [(9, 1), (4, 1)]
    row = MatrixSensingRegressor(shape=(1, 36), random_state=0).fit(X.reshape(60, -1), y)
    assert_allclose(row.coef_, M.ravel(), atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_intercept(loss):
    X, y, M = make_matrix_sensing(400, shape=(8, 8), rank=2, random_state=0)
    X = X + 0.5
    y = np.einsum("ijk,jk", X, M) + 7
    est = MatrixSensingRegressor(3, loss=loss, fit_intercept=True, random_state=0)
    for samples in (X, sparse.csr_array(X.reshape(400, -1))):
        model = est.fit(samples, y)
        assert error_of(model, M) < 1e-5
        assert_allclose(model.intercept_, 7, atol=1e-5)
        assert_allclose(model.predict(samples), y, atol=1e-4)


def test_gram_matrix_gives_the_same_descent():
    X, y, _ = make_matrix_sensing(150, shape=(8, 8), rank=2, noise=0.1, random_state=0)
    est = MatrixSensingRegressor(3, max_iter=40, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"40 iterations.*relative gradient"):
        with_gram = est.set_params(precompute=True).fit(X, y)
        without = MatrixSensingRegressor(3, max_iter=40, precompute=False, random_state=0).fit(X, y)
    assert_allclose(with_gram.matrix_, without.matrix_, rtol=1e-9)
    assert_allclose(with_gram.loss_curve_, without.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_rank_is_told_from_noise(loss):
    """A surplus of columns fits noise; its singular values do not count for the rank."""
    X, y, _ = make_matrix_sensing(1000, shape=(15, 15), rank=2, noise=0.3, random_state=0)
    model = MatrixSensingRegressor(8, loss=loss, random_state=0).fit(X, y)
    if loss == "squared":
        assert model.singular_values_[2] > 1e-2
    else:  # a third column is not even begun
        assert model.singular_values_[2] < 1e-6
    assert model.rank_ == 2


def test_too_few_components_are_told():
    X, y, _ = make_matrix_sensing(600, shape=(15, 15), rank=3, noise=0.1, random_state=0)
    with pytest.warns(ConvergenceWarning, match="n_components=2 looks too small"):
        MatrixSensingRegressor(2, random_state=0).fit(X, y)


@pytest.mark.parametrize("loss", LOSSES)
def test_early_stopping_guards_against_the_surplus(loss):
    X, y, M = make_matrix_sensing(600, shape=(20, 20), rank=2, noise=1.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # With a decay that is given the absolute loss has a surplus, too.
        est = MatrixSensingRegressor(10, loss=loss, decay=0.995, random_state=0)
        full = clone(est).fit(X, y)
    stopped = clone(est).set_params(early_stopping=True).fit(X, y)
    assert stopped.n_iter_ < full.n_iter_
    assert error_of(stopped, M) < 0.9 * error_of(full, M)


def test_better_than_ridge_below_as_many_samples_as_entries():
    X, y, _ = make_matrix_sensing(500, shape=(20, 20), rank=2, noise=0.1, random_state=0)
    train, test = slice(0, 250), slice(250, 500)
    model = MatrixSensingRegressor(4, random_state=0).fit(X[train], y[train])
    flat = X.reshape(500, -1)
    ridge = max(
        Ridge(a, fit_intercept=False).fit(flat[train], y[train]).score(flat[test], y[test])
        for a in (0.1, 1, 10, 100)
    )
    assert model.score(X[test], y[test]) > 0.95 > 0.7 > ridge


def test_grid_search_over_components():
    X, y, _ = make_matrix_sensing(300, shape=(10, 10), rank=2, noise=0.5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # one component is too few
        search = GridSearchCV(
            MatrixSensingRegressor(random_state=0), {"n_components": [1, 2, 4, 8]}, cv=3
        ).fit(X, y)
    assert search.best_params_ == {"n_components": 2}


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions(loss):
    X, y, _ = make_matrix_sensing(
        300, shape=(6, 6), rank=2, noise=0.1 * (loss == "squared"), random_state=0
    )
    weights = np.random.default_rng(0).integers(0, 3, 300)
    est = MatrixSensingRegressor(2, loss=loss, fit_intercept=True, random_state=0)
    weighted = est.fit(X, y, sample_weight=weights).matrix_
    repeated = est.fit(np.repeat(X, weights, axis=0), np.repeat(y, weights)).matrix_
    assert_allclose(weighted, repeated, atol=1e-6)


def test_step_too_long_is_halved():
    X, y, M = make_matrix_sensing(300, shape=(10, 10), rank=2, random_state=0)
    model = MatrixSensingRegressor(4, step_size=30.0, max_iter=5000, random_state=0).fit(X, y)
    assert error_of(model, M) < 1e-6


def test_interrupted_fit_leaves_what_was_there(monkeypatch):
    X, y, _ = make_matrix_sensing(100, shape=(6, 6), rank=2, random_state=0)
    model = MatrixSensingRegressor(2, random_state=0).fit(X, y)
    before = model.matrix_.copy()

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklr.decomposition._sensing_fit.gradient_descent", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, 2 * y)
    assert_array_equal(model.matrix_, before)
    monkeypatch.undo()
    assert_allclose(model.fit(X, 2 * y).matrix_, 2 * before, rtol=1e-6)


def test_targets_that_say_nothing():
    X, y, _ = make_matrix_sensing(100, shape=(6, 6), rank=2, random_state=0)
    model = MatrixSensingRegressor(random_state=0).fit(X, 0 * y)
    assert model.rank_ == 0 and not model.matrix_.any()
    model = MatrixSensingRegressor(loss="absolute", fit_intercept=True)
    with pytest.warns(UserWarning, match="half of y equals 5"):
        model.fit(X, 0 * y + 5)
    assert_allclose(model.predict(X), 5)


def test_verbose_shows_progress(capsys):
    X, y, _ = make_matrix_sensing(100, shape=(6, 6), rank=2, random_state=0)
    MatrixSensingRegressor(random_state=0, verbose=1).fit(X, y)
    assert "matrix sensing" in capsys.readouterr().err


def test_entry_sampling_points_to_the_imputer():
    rng = np.random.default_rng(0)
    X = np.eye(25)[rng.integers(0, 25, 60)]
    y = rng.standard_normal(60)
    for samples in (X, sparse.csr_array(X), X.reshape(60, 5, 5)):
        with pytest.warns(UserWarning, match=r"LowRankImputer or MatrixFactorizationRegressor"):
            MatrixSensingRegressor(1, max_iter=5000, random_state=0).fit(samples, y)


@pytest.mark.parametrize(
    "params, shape, message",
    [
        ({"symmetric": True}, (30, 4, 5), r"symmetric=True needs square.*\(4, 5\)"),
        ({"shape": (3, 5)}, (30, 4, 5), r"shape=\(3, 5\).*15 entries.*shape \(4, 5\)"),
        ({"shape": (3, 5)}, (30, 20), r"shape=\(3, 5\).*15 entries.*have 20 entries"),
        ({"shape": (3, -5)}, (30, 20), r"shape must be two positive integers, got \(3, -5\)"),
        ({"shape": (15,)}, (30, 20), r"shape must be two positive integers"),
        ({}, (30, 2, 2, 2), r"4 dimensions, shape \(30, 2, 2, 2\)"),
        ({}, (1, 4, 4), r"minimum of 2"),
        ({"n_components": 0}, (30, 4, 4), "n_components"),
        ({"init_scale": 0.0}, (30, 4, 4), "init_scale"),
        ({"init_scale": 1e-9}, (30, 4, 4), "init_scale"),
        ({"early_stopping": True, "validation_fraction": 0.9}, (3, 4, 4), "leaves 0 of 3"),
    ],
)
def test_bad_settings(params, shape, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        MatrixSensingRegressor(**params).fit(rng.standard_normal(shape), rng.random(shape[0]))


def test_bad_samples():
    X, y, _ = make_matrix_sensing(50, shape=(4, 4), rank=1, random_state=0)
    est = MatrixSensingRegressor(random_state=0)
    with pytest.raises(ValueError, match="zero everywhere: nothing is measured"):
        est.fit(0 * X, y)
    with pytest.raises(ValueError, match="zero everywhere once its mean is taken off"):
        est.set_params(fit_intercept=True).fit(0 * X + 1, y)
    est.set_params(fit_intercept=False)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"y contains|Input y"):
            est.fit(X, np.r_[bad, y[1:]])
    with pytest.raises(ValueError, match="leaves fewer than two samples"):
        est.fit(X, y, sample_weight=np.r_[1.0, np.zeros(49)])
    with pytest.warns(UserWarning, match="n_components=9 is larger than the smaller side.*4"):
        MatrixSensingRegressor(9, random_state=0).fit(X, y)
    with pytest.warns(UserWarning, match=r"flat with 10 columns.*shape=\(n_rows, n_columns\)"):
        est.fit(X.reshape(50, -1)[:, :10], y)
    est.fit(X, y)
    with pytest.raises(ValueError, match=r"samples of shape \(2, 8\).*expecting \(4, 4\)"):
        est.predict(X.reshape(50, 2, 8))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"rank": 30}, "rank must be at most"),
        ({"shape": (3, 4), "symmetric": True}, "square"),
        ({"condition": 0.5}, "condition"),
        ({"outliers": 1.5}, "outliers"),
        ({"noise": -1}, "noise"),
    ],
)
def test_generator_refuses(params, message):
    with pytest.raises(ValueError, match=message):
        make_matrix_sensing(**params)


def test_generator_does_what_it_says():
    X, y, M = make_matrix_sensing(
        200, shape=(7, 5), rank=3, condition=4, outliers=0.25, random_state=0
    )
    assert_allclose(np.linalg.svd(M)[1], [1, 0.5, 0.25, 0, 0], atol=1e-12)
    assert (np.abs(y - np.einsum("ijk,jk", X, M)) > 1e-9).sum() == 50
    _, _, M = make_matrix_sensing(5, shape=(4, 4), rank=2, symmetric=True, random_state=0)
    assert_allclose(M, M.T, atol=1e-15)
    again = make_matrix_sensing(5, shape=(4, 4), rank=2, symmetric=True, random_state=0)[2]
    assert_array_equal(M, again)


@pytest.mark.parametrize("seed", [5, 6])
def test_a_small_singular_value_is_found_beyond_the_saddle_point(seed):
    """The residual stayed for 20 iterations while the second one had yet to grow."""
    rng = np.random.default_rng(103)
    U = np.linalg.qr(rng.standard_normal((4, 2)))[0]
    V = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    X = rng.standard_normal((24, 4, 2))
    y = np.einsum("nij,ij->n", X, (U * [14.3, 0.66]) @ V.T) + 0.1 * rng.standard_normal(24)
    table = X.reshape(24, 8)
    least = np.linalg.norm(y - table @ np.linalg.lstsq(table, y, rcond=None)[0])
    model = MatrixSensingRegressor(2, fit_intercept=False, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert np.linalg.norm(y - model.predict(X)) < 1.01 * least


def test_more_than_half_of_the_targets_may_be_huge():
    X, y, M = make_matrix_sensing(600, shape=(8, 8), rank=1, random_state=0)
    rng = np.random.default_rng(0)
    wrong = rng.choice(600, 320, replace=False)
    y[wrong] = 1e7 * rng.standard_normal(320)
    model = MatrixSensingRegressor(loss="absolute").fit(X, y)
    assert np.linalg.norm(model.matrix_ - M) < 0.05 * np.linalg.norm(M)


def test_a_matrix_that_explains_nothing_is_said_to():
    X, y, _ = make_matrix_sensing(150, shape=(8, 8), rank=2, random_state=0)
    rng = np.random.default_rng(0)
    wrong = rng.choice(150, 105, replace=False)
    y[wrong] = 1e7 * rng.standard_normal(105)
    with pytest.warns(ConvergenceWarning, match="explains nothing"):
        MatrixSensingRegressor(loss="absolute").fit(X, y)


@pytest.mark.parametrize("noise, seed", [(1.0, 41), (0.2, 42)])
def test_a_bound_on_the_rank_that_is_too_high_costs_nothing(noise, seed):
    X, y, M = make_matrix_sensing(800, shape=(14, 14), rank=2, noise=noise, random_state=seed)
    low, high = (MatrixSensingRegressor(k, loss="absolute").fit(X, y) for k in (2, 14))
    assert error_of(high, M) < 1.03 * error_of(low, M)
    assert high.rank_ == 2
    # Slow steps with all columns from the start let noise in.
    slow = MatrixSensingRegressor(14, loss="absolute", decay=0.995).fit(X, y)
    assert error_of(high, M) <= 1.01 * error_of(slow, M)


@pytest.mark.parametrize("size", [10.0, 1e7])
@pytest.mark.parametrize("share", [0.55, 0.6, 0.65])
def test_three_fifths_of_the_targets_may_be_outliers(size, share):
    X, y, M = make_matrix_sensing(
        1200, shape=(14, 14), rank=2, outliers=share, outlier_scale=size, random_state=43
    )
    model = MatrixSensingRegressor(loss="absolute").fit(X, y)
    assert error_of(model, M) < 1e-6
    assert model.rank_ == 2
    wrong = np.abs(y - np.einsum("ijk,jk", X, M)) > 1e-3
    assert_array_equal(model.outlier_mask_, wrong)


def test_too_many_outliers_are_named_as_the_cause():
    X, y, _ = make_matrix_sensing(
        700, shape=(14, 14), rank=3, outliers=0.75, outlier_scale=1e7, random_state=44
    )
    with pytest.warns(ConvergenceWarning, match="More than half|Half of y or more are outliers"):
        MatrixSensingRegressor(loss="absolute").fit(X, y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("sparse_input", [False, True])
def test_units_of_rows_and_columns_do_not_matter(loss, sparse_input):
    rng = np.random.default_rng(45)
    X, y, M = make_matrix_sensing(300, shape=(9, 7), rank=2, random_state=45)
    units = np.multiply.outer(10 ** rng.uniform(-3, 6, 9), 10 ** rng.uniform(-3, 3, 7))
    scaled = (X * units).reshape(300, -1)
    scaled = sparse.csr_array(scaled) if sparse_input else scaled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MatrixSensingRegressor(3, loss=loss, shape=(9, 7), random_state=0).fit(scaled, y)
    assert np.linalg.norm(model.matrix_ * units - M) < 1e-6 * np.linalg.norm(M)
    assert_allclose(model.factors_[0] @ model.factors_[1].T, model.matrix_)
    assert model.score(scaled, y) > 1 - 1e-10
    assert model.rank_ == 2


def test_samples_without_weight_say_nothing_of_units():
    X, y, M = make_matrix_sensing(200, shape=(7, 5), rank=1, random_state=49)
    far = np.concatenate([X, 1e8 * X[:20] * 10.0 ** np.arange(7)[:, None]])
    weight = np.r_[np.ones(200), np.zeros(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MatrixSensingRegressor(1, random_state=0)
        model.fit(far, np.r_[y, y[:20]], sample_weight=weight)
    assert error_of(model, M) < 1e-6


def test_units_of_a_symmetric_matrix():
    rng = np.random.default_rng(46)
    X, y, M = make_matrix_sensing(300, shape=(8, 8), rank=2, symmetric=True, random_state=46)
    unit = 10 ** rng.uniform(-3, 3, 8)
    for loss in LOSSES:
        model = MatrixSensingRegressor(3, loss=loss, symmetric=True, random_state=0)
        model.fit(X * np.multiply.outer(unit, unit), y)
        assert np.linalg.norm(model.matrix_ * np.multiply.outer(unit, unit) - M) < 1e-6
        assert_array_equal(model.matrix_, model.matrix_.T)


def test_sizes_that_no_units_explain_are_named():
    rng = np.random.default_rng(47)
    X, y, _ = make_matrix_sensing(200, shape=(7, 6), rank=1, random_state=47)
    with pytest.warns(UserWarning, match="differ in size by a factor of .*standard deviations"):
        MatrixSensingRegressor(1, random_state=0).fit(X * 10 ** rng.uniform(-3, 6, (7, 6)), y)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("offset", [5.0, 1e4])
def test_samples_with_a_mean_ask_for_an_intercept(loss, offset):
    X, _, M = make_matrix_sensing(300, shape=(8, 8), rank=2, random_state=48)
    X = X + offset
    y = np.einsum("ijk,jk", X, M)
    model = MatrixSensingRegressor(3, loss=loss, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match="mean matrix.*fit_intercept=True"):
            model.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(fit_intercept=True).fit(X, y)
    assert error_of(model, M) < 1e-5


@pytest.mark.parametrize("shift", [100.0, 1e9])
def test_targets_with_a_mean_ask_for_an_intercept(shift):
    rng = np.random.default_rng(0)
    M = np.outer(rng.standard_normal(6), rng.standard_normal(5))
    X = rng.standard_normal((150, 6, 5))
    y = np.tensordot(X, M, 2) + 0.1 * rng.standard_normal(150)
    with pytest.warns(UserWarning, match="fit_intercept=True"):
        MatrixSensingRegressor(random_state=0).fit(X, y + shift)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MatrixSensingRegressor(random_state=0).fit(X, y)
        model = MatrixSensingRegressor(fit_intercept=True, random_state=0).fit(X, y + shift)
    assert model.score(X, y + shift) > 0.99
