"""Augmented covariances: the sheet's properties, one test each, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklr.covariance import (
    AugmentedCovariance,
    augmented_covariance,
    augmented_covariance_grid,
    delay_embed,
)

ESTIMATORS = ("corr", "cov", "hub", "lwf", "mcd", "oas", "sch", "scm", "stu", "tyl")


def trials(n=4, n_channels=3, n_times=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_channels, n_times)).cumsum(axis=2)  # coloured: lags matter
    return X + 5.0 * rng.standard_normal((n, n_channels, 1))  # and with an offset


def moabb_stack(X, order, lag):
    """MOABB's AugmentedDataset(order, lag).transform, in one line of its definition."""
    if order == 1:
        return X
    return np.concatenate([X[:, :, p * lag : -(order - p) * lag] for p in range(order)], axis=1)


def relative(A, B):
    return np.abs(A - B).max() / np.abs(B).max()


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_order_one_is_the_ordinary_covariance(lag):
    X = trials()
    expected = np.stack([np.cov(x) for x in X])
    assert relative(augmented_covariance(X, 1, lag), expected) < 1e-12


@pytest.mark.parametrize("order, lag", [(2, 1), (3, 4), (5, 2), (2, 30)])
def test_equals_covariance_of_the_stacked_signals(order, lag):
    X = trials()
    Z = moabb_stack(X, order, lag)
    assert_array_equal(delay_embed(X, order, lag), Z)
    expected = np.stack([np.cov(z) for z in Z])
    G = augmented_covariance(X, order, lag)
    assert relative(G, expected) < 1e-12
    assert_array_equal(G, G.transpose(0, 2, 1))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_pyriemann_estimator_equals_pyriemann_on_the_stack(estimator):
    from pyriemann.geometry.covariance import covariances

    # Robust estimators and MCD draw or iterate on the rows: give them white ones.
    X = np.random.default_rng(1).standard_normal((2, 2, 120))
    np.random.seed(0)  # MCD of scikit-learn takes the global generator
    expected = covariances(moabb_stack(X, 2, 3), estimator=estimator)
    np.random.seed(0)
    assert relative(augmented_covariance(X, 2, 3, estimator=estimator), expected) < 1e-12


def test_callable_estimator_gets_each_stacked_trial():
    X = trials()
    G = augmented_covariance(X, 2, 3, estimator=lambda z: z @ z.T)
    Z = moabb_stack(X, 2, 3)
    assert_allclose(G, Z @ Z.transpose(0, 2, 1))


def test_moabb_transformer_agrees():
    features = pytest.importorskip("moabb.pipelines.features", reason="extra 'eeg' not installed")
    X = trials()
    assert_array_equal(delay_embed(X, 3, 2), features.AugmentedDataset(3, 2).transform(X))


@pytest.mark.parametrize("window", ["paper", "full"])
@pytest.mark.parametrize("estimator", ["cov", "oas", "corr", "scm", "lwf"])
def test_grid_equals_single_cells(estimator, window):
    X = trials()
    cells = list(
        augmented_covariance_grid(X, [1, 2, 4, 3], [3, 1, 2, 6], estimator=estimator, window=window)
    )
    assert [cell[:2] for cell in cells].count((1, 3)) == 1
    assert sum(order == 1 for order, _, _ in cells) == 1
    assert len(cells) == 1 + 3 * 4
    for order, lag, G in cells:
        single = augmented_covariance(X, order, lag, estimator=estimator, window=window)
        assert relative(G, single) < 1e-12


def test_grid_toeplitz_equals_single_cells():
    X = trials()
    for order, lag, G in augmented_covariance_grid(X, [1, 2, 3], [1, 2], structure="toeplitz"):
        assert relative(G, augmented_covariance(X, order, lag, structure="toeplitz")) < 1e-12


def test_full_window_uses_every_common_sample():
    X = trials()
    Z = np.concatenate([X[:, :, k * 4 : k * 4 + 72] for k in range(3)], axis=1)
    assert_array_equal(delay_embed(X, 3, 4, window="full"), Z)
    expected = np.stack([np.cov(z) for z in Z])
    assert relative(augmented_covariance(X, 3, 4, window="full"), expected) < 1e-12


def test_white_noise_gives_identity():
    X = np.random.default_rng(0).standard_normal((20, 3, 20000))
    G = augmented_covariance(X, 3, 2).mean(axis=0)
    assert_allclose(G, np.eye(9), atol=0.01)  # sampling error 1 / sqrt(4e5) = .0016


def test_var1_blocks_follow_yule_walker():
    rng = np.random.default_rng(0)
    A = np.array([[0.6, 0.2], [-0.3, 0.5]])
    x = np.zeros((60, 2, 6000))
    noise = rng.standard_normal(x.shape)
    for t in range(1, x.shape[2]):
        x[:, :, t] = x[:, :, t - 1] @ A.T + noise[:, :, t]
    from scipy.linalg import solve_discrete_lyapunov

    S = solve_discrete_lyapunov(A, np.eye(2))
    G = augmented_covariance(x[:, :, 100:], 3, 2).mean(axis=0)
    for k in range(3):
        expected = S @ np.linalg.matrix_power(A.T, 2 * k)
        assert_allclose(G[:2, 2 * k : 2 * k + 2], expected, atol=0.03)


def test_sine_has_rank_two_and_cosine_entries():
    frequency, lag, order = 0.05, 3, 4
    t = np.arange(20 * 200)
    X = np.sin(2 * np.pi * frequency * t)[None, None]
    G = augmented_covariance(X, order, lag, estimator="scm")[0]
    a = np.arange(order)
    expected = 0.5 * np.cos(2 * np.pi * frequency * lag * (a[:, None] - a))
    assert_allclose(G, expected, atol=2e-3)
    values = np.linalg.eigvalsh(G)
    assert values[-3] < 1e-3 * values[-1]


def test_toeplitz_is_block_toeplitz_with_biased_autocovariances():
    X = trials()
    order, lag, C, T = 4, 3, 3, X.shape[2]
    G = augmented_covariance(X, order, lag, structure="toeplitz")
    centred = X - X.mean(axis=2, keepdims=True)
    for a in range(order):
        for b in range(order):
            h = abs(a - b) * lag
            gamma = np.stack([x[:, h:] @ x[:, : T - h].T / T for x in centred])
            block = gamma if a >= b else gamma.transpose(0, 2, 1)
            got = G[:, a * C : (a + 1) * C, b * C : (b + 1) * C]
            assert relative(got, block) < 1e-12
            if a and b:
                before = G[:, (a - 1) * C : a * C, (b - 1) * C : b * C]
                assert_array_equal(got, before)


@pytest.mark.parametrize("shape, order, lag", [((3, 4, 60), 5, 4), ((3, 6, 20), 6, 3)])
def test_toeplitz_is_never_negative(shape, order, lag):
    X = np.random.default_rng(0).standard_normal(shape).cumsum(axis=2)
    G = augmented_covariance(X, order, lag, structure="toeplitz")
    smallest = np.linalg.eigvalsh(G)[:, 0]
    assert (smallest >= -1e-12 * np.trace(G, axis1=1, axis2=2)).all()


def test_mixing_acts_on_both_sides():
    X = trials()
    W = np.random.default_rng(2).standard_normal((3, 3))
    big = np.kron(np.eye(4), W)
    expected = big @ augmented_covariance(X, 4, 2) @ big.T
    assert relative(augmented_covariance(W @ X, 4, 2), expected) < 1e-10


def test_mixing_changes_no_riemannian_decision():
    from pyriemann.classification import MDM

    from sklr.covariance import AugmentedCovarianceSVC
    from sklr.datasets import make_ar2_trials

    X, y = make_ar2_trials(n_trials=40, random_state=0)
    W = np.random.default_rng(2).standard_normal((3, 3)) + 2 * np.eye(3)
    svc = AugmentedCovarianceSVC(order=2, lag=1)
    plain = svc.fit(X[:30], y[:30]).decision_function(X[30:])
    mixed = svc.fit(W @ X[:30], y[:30]).decision_function(W @ X[30:])
    assert_allclose(plain, mixed, atol=1e-8)
    G, H = augmented_covariance(X, 2, 1), augmented_covariance(W @ X, 2, 1)
    first = MDM(metric="riemann").fit(G[:30], y[:30]).transform(G[30:])
    second = MDM(metric="riemann").fit(H[:30], y[:30]).transform(H[30:])
    assert_allclose(first, second, atol=1e-6)  # pyRiemann's mean stops at 1e-8 in its own step


def test_time_reversal_permutes_the_blocks():
    X = trials()
    order, C = 4, 3
    G = augmented_covariance(X, order, 2, window="full")
    R = augmented_covariance(X[:, :, ::-1], order, 2, window="full")
    G = G.reshape(-1, order, C, order, C)
    R = R.reshape(-1, order, C, order, C)
    assert relative(R, G[:, ::-1, :, ::-1]) < 1e-12


def test_channel_permutation_commutes():
    X = trials()
    perm = np.array([2, 0, 1])
    index = np.concatenate([perm + 3 * k for k in range(3)])
    G = augmented_covariance(X, 3, 2)
    assert relative(augmented_covariance(X[:, perm], 3, 2), G[:, index][:, :, index]) < 1e-12


def test_trial_order_and_threads_do_not_matter():
    X = trials(n=9)
    G = augmented_covariance(X, 3, 2)
    assert_array_equal(augmented_covariance(X, 3, 2, n_jobs=2), G)
    assert_array_equal(augmented_covariance(X[::-1], 3, 2)[::-1], G)


def test_transformer_attributes_and_other_lengths():
    X = trials()
    est = AugmentedCovariance(3, 2).fit(X)
    assert (est.n_features_in_, est.n_times_in_, est.n_features_out_) == (3, 80, 9)
    assert_array_equal(est.transform(X), augmented_covariance(X, 3, 2))
    assert est.transform(X[:, :, :50]).shape == (4, 9, 9)


def test_float32_is_computed_in_float64():
    X = trials().astype(np.float32)
    G = AugmentedCovariance(2, 3).fit_transform(X)
    assert G.dtype == np.float64
    assert_array_equal(G, augmented_covariance(X.astype(np.float64), 2, 3))


def test_mne_epochs_are_taken():
    mne = pytest.importorskip("mne", reason="extra 'eeg' not installed")
    X = trials()
    info = mne.create_info(["C3", "Cz", "C4"], 100.0, "eeg")
    epochs = mne.EpochsArray(X.copy(), info, verbose=False)
    G = AugmentedCovariance(2, 3).fit_transform(epochs)
    assert_array_equal(G, augmented_covariance(X, 2, 3))
    assert_array_equal(epochs.get_data(copy=False), X)


def test_whole_pipeline_takes_set_output():
    pandas = pytest.importorskip("pandas")
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import TangentSpace

    pipe = make_pipeline(AugmentedCovariance(2), TangentSpace()).set_output(transform="pandas")
    table = pipe.fit_transform(trials())
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns[:2]) == ["tangentspace0", "tangentspace1"]


def test_grid_keeps_one_cell_and_drops_products():
    import tracemalloc

    X = trials(n=30, n_channels=8, n_times=200)
    cell = 30 * 80 * 80 * 8
    for _ in augmented_covariance_grid(X[:1], range(1, 11), range(1, 11)):
        pass  # compiles
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in augmented_covariance_grid(X, range(1, 11), range(1, 11)):
        pass
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # The largest cell, the one before it (held by the loop), and lagged products and sums,
    # where the whole grid would be 31 of them.
    assert peak < 3.5 * cell


class TestBadInput:
    @pytest.mark.parametrize(
        "call", [augmented_covariance, delay_embed, lambda X: AugmentedCovariance().fit(X)]
    )
    @pytest.mark.parametrize(
        "X, message",
        [
            (np.ones((4, 80)), r"\(n_trials, n_channels, n_times\)"),
            (np.ones((2, 4, 80, 1)), r"4 dimensions, shape \(2, 4, 80, 1\)"),
            (np.full((2, 3, 80), np.nan), "NaN"),
            (np.full((2, 3, 80), np.inf), "infinity"),
            (np.ones((2, 3, 80), dtype=complex), "[Cc]omplex"),
            (np.empty((0, 3, 80)), "0 sample"),
            (np.ones((2, 0, 80)), "0|shape"),
        ],
    )
    def test_data(self, call, X, message):
        with pytest.raises(ValueError, match=message):
            call(X)

    @pytest.mark.parametrize("name", ["order", "lag"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, "2", None, True])
    def test_order_and_lag(self, name, value):
        with pytest.raises((ValueError, TypeError), match=f"{name}.*{value!r}|{name}.*must be"):
            augmented_covariance(trials(), **{name: value})
        if value is not True:  # scikit-learn takes bool as Integral; a float is in seconds
            with pytest.raises(ValueError, match=f"'{name}' parameter.*Got {value!r}"):
                AugmentedCovariance(**{name: value}).fit(trials())

    @pytest.mark.parametrize("order, lag", [(2, 40), (80, 1), (3, 27)])
    def test_nothing_left(self, order, lag):
        message = rf"order={order} and lag={lag}.*of 80 samples.*n_times - 1 = 79"
        with pytest.raises(ValueError, match=message):
            augmented_covariance(trials(), order, lag, estimator="oas")
        with pytest.raises(ValueError, match=message):
            AugmentedCovariance(order, lag, estimator="oas").fit(trials())
        with pytest.raises(ValueError, match=message):
            augmented_covariance_grid(trials(), [1, order], [lag], estimator="oas")

    def test_too_short_at_transform(self):
        est = AugmentedCovariance(3, 10, estimator="oas").fit(trials())
        with pytest.raises(ValueError, match="of 30 samples"):
            est.transform(trials(n_times=30))

    def test_other_channels_at_transform(self):
        est = AugmentedCovariance(2).fit(trials())
        with pytest.raises(ValueError, match="X has 4 features.*expecting 3"):
            est.transform(trials(n_channels=4))

    @pytest.mark.parametrize("estimator", ["cov", "scm", "corr"])
    def test_more_rows_than_samples_names_shrinkage(self, estimator):
        X = trials(n_channels=8, n_times=40)
        with pytest.raises(ValueError, match=r"5 \* 8 = 40 exceeds the 34.*'oas', 'lwf'"):
            augmented_covariance(X, 5, 1, estimator=estimator)
        assert augmented_covariance(X, 5, 1, estimator="oas").shape == (4, 40, 40)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"estimator": "nope"}, "estimator.*'nope'"),
            ({"window": "half"}, "window.*'half'"),
            ({"structure": "band"}, "structure.*'band'"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            augmented_covariance(trials(), **options)
        with pytest.raises(ValueError, match=message):
            AugmentedCovariance(**options).fit(trials())

    @pytest.mark.parametrize("order", [1, 3])
    def test_average_reference(self, order):
        X = trials(n_channels=4)
        X -= X.mean(axis=1, keepdims=True)
        with pytest.raises(ValueError, match="4 channels have rank 3 only.*'oas'"):
            AugmentedCovariance(order, 2).fit(X)
        AugmentedCovariance(order, 2, estimator="oas").fit(X)
        AugmentedCovariance(order, 2, structure="toeplitz").fit(X)

    def test_constant_channel(self):
        X = trials()
        X[:, 1] = 5.0
        with pytest.raises(ValueError, match="channel 1 is constant"):
            AugmentedCovariance(2).fit(X)

    def test_toeplitz_has_one_estimator(self):
        with pytest.raises(ValueError, match="'toeplitz' goes with estimator='cov'.*'oas'"):
            AugmentedCovariance(structure="toeplitz", estimator="oas").fit(trials())

    def test_empty_grid(self):
        with pytest.raises(ValueError, match="must not be empty"):
            augmented_covariance_grid(trials(), [], [1])
