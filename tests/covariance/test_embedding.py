"""Choice of order and lag without labels, against plain references and known systems."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp
from scipy.spatial.distance import cdist

from sklr.covariance import select_embedding
from sklr.covariance._embedding_kernels import (
    cao_e1,
    divergence,
    first_minimum,
    mdop_trial,
    mutual_information,
    nearest_neighbours,
)
from sklr.datasets import make_ar2_trials


@pytest.fixture(scope="module")
def lorenz():
    def flow(_, state):
        x, y, z = state
        return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z

    t = np.arange(20, 20 + 2500 * 0.02, 0.02)[:2500]
    solution = solve_ivp(flow, (0, t[-1] + 0.1), [1.0, 1.0, 1.0], t_eval=t, rtol=1e-9, atol=1e-9)
    return solution.y


def signals(n_channels=2, n_times=180, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_channels, n_times + 8))
    smooth = np.stack([np.convolve(x, np.hanning(9), "valid") for x in noise])
    return smooth[:, :n_times]


# Plain references, written from the definitions.


def reference_information(s, max_delay):
    n = len(s) - max_delay
    ordered = np.sort(s[:n])

    def split(cell):
        m = len(cell)
        bins, critical = (2, 2.706) if m < 20 else (4, 6.251)
        counts, _ = np.histogram(cell, bins, (cell[0], cell[-1]))
        expected = np.round(m / bins)
        if m < 10 or ((counts - expected) ** 2 / expected).sum() < critical:
            return [cell]
        return split(cell[: m // 2]) + split(cell[m // 2 :])

    cells = split(ordered)
    edges = np.array([cell[-1] for cell in cells])
    b = np.array([len(cell) for cell in cells])
    label = np.minimum(np.searchsorted(edges, s), len(b) - 1)
    out = []
    for delay in range(1, max_delay + 1):
        f = np.zeros((len(b), len(b)))
        np.add.at(f, (label[:n], label[delay : delay + n]), 1)
        i, j = np.nonzero(f)
        fij = f[i, j]
        out.append((fij / n * (np.log2(fij / (b[i] * b[j])) + np.log2(n))).sum())
    return np.array(out)


def reference_neighbours(Y, theiler):
    D = cdist(Y, Y)
    t = np.arange(len(Y))
    D[np.abs(t[:, None] - t) <= theiler] = np.inf
    return D.argmin(axis=1), D.min(axis=1)


def reference_mdop(S, w, max_delay, r, threshold, max_cycles):
    taus, fractions, Y = [0], [], None
    for cycle in range(max_cycles):
        best = (-np.inf,)
        for a in range(len(S)) if Y is None else [None]:
            Z = S[a][:, None] if Y is None else Y
            n = len(Z) - max_delay
            j, dx = reference_neighbours(Z[:n], w)
            for b in range(len(S)):
                for tau in range(max_delay + 1):
                    gap = np.abs(S[b][tau : n + tau] - S[b][j + tau])
                    beta = np.log10(gap[gap > 0] / dx[gap > 0]).mean()
                    if beta > best[0] + 1e-12:
                        best = (beta, tau, a, b)
        _, tau, a, b = best
        Y = S[a][:, None] if Y is None else Y
        length = min(len(Y), S.shape[1] - tau)
        old = reference_neighbours(Y[:length], w)[1]
        Y = np.c_[Y[:length], S[b][tau : tau + length]]
        new = reference_neighbours(Y, w)[1]
        close = old < 1 / r
        fractions.append((new[close] / old[close] > r).mean() if close.any() else 1.0)
        taus.append(tau)
        if fractions[-1] <= threshold or (cycle and fractions[-1] > fractions[-2]):
            break
    return len(fractions), taus, fractions


def reference_e1(s, delay, max_dimension):
    E = []
    for d in range(1, max_dimension + 2):
        n = len(s) - d * delay
        Y = np.stack([s[k * delay : k * delay + n] for k in range(d + 1)], axis=1)
        D = cdist(Y[:, :d], Y[:, :d])
        np.fill_diagonal(D, np.inf)
        j = D.argmin(axis=1)
        E.append((np.linalg.norm(Y - Y[j], axis=1) / D.min(axis=1)).mean())
    return np.array(E[1:]) / np.array(E[:-1])


@pytest.mark.parametrize("seed", range(4))
def test_mutual_information_equals_reference(seed):
    s = signals(1, 300, seed)[0]
    assert_allclose(mutual_information(s, 40), reference_information(s, 40), rtol=1e-10)


def test_first_minimum_rule():
    assert first_minimum(np.array([3.0, 2.0, 1.0, 1.0, 0.5])) == 3
    assert first_minimum(np.array([1.0, 2.0])) == 1
    assert first_minimum(np.array([3.0, 2.0, 1.0])) == 3


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_neighbours_equal_brute_force(columns):
    Y = signals(columns, 120)
    index, distance = nearest_neighbours(Y, 100, columns, 4)
    expected, gap = reference_neighbours(Y[:, :100].T, 4)
    assert_array_equal(index, expected)
    assert_allclose(distance, gap)


def test_neighbours_that_do_not_exist():
    index, distance = nearest_neighbours(signals(1, 20), 10, 1, 30)
    assert (index == -1).all()
    assert np.isinf(distance).all()
    beta = divergence(signals(1, 20), index, distance, 5)
    assert np.isneginf(beta).all()


def test_divergence_skips_zero_distances():
    s = np.tile(np.arange(5.0), 8)  # repeats: neighbours at distance zero
    index, distance = nearest_neighbours(s[None], 30, 1, 1)
    assert (distance == 0).all()
    assert np.isneginf(divergence(s[None], index, distance, 3)).all()


@pytest.mark.parametrize("seed", range(5))
def test_mdop_equals_reference(seed):
    S = signals(2, 180, seed)
    S = (S - S.mean(axis=1, keepdims=True)) / S.std(axis=1, ddof=1, keepdims=True)
    done, delays, fractions = mdop_trial(S, 5, 20, 2.0, 0.05, 10)
    expected = reference_mdop(S, 5, 20, 2.0, 0.05, 10)
    assert done == expected[0]
    assert_array_equal(delays, expected[1])
    assert_allclose(fractions, expected[2])


@pytest.mark.parametrize("n_channels, seed", [(1, 5), (6, 6), (16, 7)])
def test_divergence_equals_a_logarithm_for_each_point(n_channels, seed):
    s = signals(n_channels, 181, seed)
    s[:, 60:63] = s[:, 100:103]  # equal values do not count
    index, distance = nearest_neighbours(s, 150, 1, 4)
    beta = divergence(s, index, distance, 30)
    for channel in range(n_channels):
        for delay in range(31):
            moved = np.abs(s[channel, delay : delay + 150] - s[channel, index + delay])
            gap = moved[distance > 0] / distance[distance > 0]
            assert_allclose(beta[channel, delay], np.log10(gap[gap > 0]).mean(), atol=1e-12)


@pytest.mark.parametrize("delay", [1, 4])
def test_e1_equals_reference(delay):
    s = signals(1, 150)[0]
    assert_allclose(cao_e1(s, delay, 8), reference_e1(s, delay, 8), rtol=1e-10)


def test_e1_ends_where_points_end():
    e1 = cao_e1(signals(1, 60)[0], 10, 8)
    assert np.isfinite(e1[:3]).all()
    assert np.isnan(e1[6:]).all()


def test_lorenz_first_minimum(lorenz):
    assert 8 <= first_minimum(mutual_information(lorenz[0], 100)) <= 10


def test_lorenz_mdop_unfolds_in_few_dimensions(lorenz):
    order, lag, details = select_embedding(lorenz[None, :1], return_details=True)
    assert details.fractions[0][-1] <= 0.05
    assert 2 <= len(details.delays[0]) <= 5
    assert order == len(details.fractions[0])
    assert lag == max(1, np.rint(details.delays[0][:order].mean()))


def test_mdop_ignores_scale_shift_and_sign():
    X = np.stack([signals(3, 240, seed) for seed in (0, 1)])
    plain = select_embedding(X, return_details=True)
    changed = X * np.array([-1.0, 8.0, 0.25])[:, None] + np.array([0.0, 4.0, -16.0])[:, None]
    other = select_embedding(changed, return_details=True)
    assert plain[:2] == other[:2]
    for first, second in zip(plain[2].delays, other[2].delays):
        assert_array_equal(first, second)


def test_averages_over_trials_and_rounds():
    X = np.stack([signals(2, 240, seed) for seed in range(5)])
    order, lag, details = select_embedding(X, return_details=True)
    assert order == max(1, round(details.orders.mean()))
    assert lag == max(1, round(details.lags.mean()))
    for trial, delays in enumerate(details.delays):
        one = select_embedding(X[trial : trial + 1], return_details=True)[2]
        assert_array_equal(one.delays[0], delays)
        kept = delays[: details.orders[trial]]
        assert details.orders[trial] == len(details.fractions[trial])
        assert details.lags[trial] == round(kept.mean())
    assert type(order) is int
    assert type(lag) is int


def test_lag_is_at_least_one():
    X = np.random.default_rng(0).standard_normal((1, 1, 200))
    order, lag, details = select_embedding(X, max_cycles=1, return_details=True)
    assert details.lags[0] == 0  # one cycle keeps the leading delay, 0, alone
    assert (order, lag) == (1, 1)


def test_afnn_averages_curves():
    X = np.stack([signals(2, 200, seed) for seed in (0, 1)])
    order, lag, details = select_embedding(
        X, "afnn", afnn_max_delay=12, afnn_max_dimension=6, return_details=True
    )
    flat = X.reshape(-1, 200)
    curves = np.array([reference_information(s, 12) for s in flat])
    assert_allclose(details.mutual_information, curves.mean(axis=0), rtol=1e-10)
    e1 = np.mean(
        [reference_e1(s, first_minimum(curve), 6) for s, curve in zip(flat, curves)], axis=0
    )
    assert_allclose(details.e1, e1, rtol=1e-10)
    mean = curves.mean(axis=0)
    assert lag == next(
        k + 1
        for k in range(12)
        if (k == 0 or mean[k] <= mean[k - 1]) and (k == 11 or mean[k] <= mean[k + 1])
    )
    assert order == next(
        k + 1 for k in range(6) if (k == 0 or e1[k] >= e1[k - 1]) and (k == 5 or e1[k] >= e1[k + 1])
    )


def test_a_spread_of_trials_is_looked_at_where_channels_are_many():
    from sklr.covariance._embedding import _spread

    assert_array_equal(_spread((45, 9, 481), "mdop", None), np.arange(45))
    assert len(_spread((80, 64, 481), "mdop", None)) == 54
    assert len(_spread((40, 306, 2000), "mdop", None)) == 8
    assert_array_equal(_spread((40, 306, 2000), "afnn", None), np.arange(40))
    assert_array_equal(_spread((41, 2, 200), "afnn", 5), [0, 10, 20, 30, 40])
    X, _ = make_ar2_trials(n_trials=9, n_times=200, random_state=0)
    order, lag, details = select_embedding(X, max_trials=3, return_details=True)
    assert_array_equal(details.trials, [0, 4, 8])
    assert (order, lag) == select_embedding(X[[0, 4, 8]])


def test_afnn_at_the_end_of_its_curve_warns():
    X, _ = make_ar2_trials(n_trials=4, n_times=200, random_state=0)
    with pytest.warns(UserWarning, match=r"aFNN chose order 2, the largest.*2 \* 3 = 6 rows"):
        select_embedding(X, "afnn", afnn_max_dimension=2)


@pytest.mark.parametrize("method", ["mdop", "afnn"])
def test_threads_do_not_matter(method):
    X = np.stack([signals(2, 200, seed) for seed in range(4)])
    assert select_embedding(X, method) == select_embedding(X, method, n_jobs=2)


def test_progress(capsys):
    select_embedding(signals(2, 200)[None], verbose=1)
    assert "mdop" in capsys.readouterr().err


class TestBadInput:
    good = np.random.default_rng(0).standard_normal((2, 2, 200))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"method": "fnn"}, "method must be one of.*'fnn'"),
            ({"max_delay": 0}, "max_delay must be an integer >= 1, got 0"),
            ({"max_cycles": 2.5}, "max_cycles must be an integer >= 1, got 2.5"),
            ({"theiler_max_delay": -3}, "theiler_max_delay"),
            ({"afnn_max_delay": "9"}, "afnn_max_delay"),
            ({"afnn_max_dimension": None}, "afnn_max_dimension"),
            ({"ratio": 1.0}, "ratio must be a number above 1, got 1.0"),
            ({"false_neighbor_threshold": 1.5}, r"false_neighbor_threshold must be in \[0, 1\)"),
            ({"n_jobs": 1.5}, "n_jobs"),
        ],
    )
    def test_parameters(self, options, message):
        with pytest.raises((ValueError, TypeError), match=message):
            select_embedding(self.good, **options)

    @pytest.mark.parametrize(
        "X, message",
        [
            (good[0], r"\(n_trials, n_channels, n_times\)"),
            (good[:, :, :110], "110 samples.*delays up to 100 needs at least 120"),
            (np.where(good > 2, np.nan, good), "NaN"),
            (good + 1j, "[Cc]omplex"),
            (good * np.array([1.0, 0.0])[:, None], "Channel 1 of trial 0 is constant"),
        ],
    )
    def test_data(self, X, message):
        with pytest.raises(ValueError, match=message):
            select_embedding(X)
