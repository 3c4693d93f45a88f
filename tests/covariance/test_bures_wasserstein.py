"""The scaler: exact moments, closed forms of commuting matrices, and the way back."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from sklr.covariance import BuresWassersteinScaler
from sklr.geometry import bw_distance, bw_mean


def spd(n=20, d=5, seed=0, dof=15):
    A = np.random.default_rng(seed).standard_normal((n, d, dof))
    return A @ A.transpose(0, 2, 1) / dof


METRIC, BIAS = spd(1, seed=7)[0], spd(1, seed=8)[0]


@pytest.mark.parametrize("metric", [None, "mean", METRIC], ids=["plain", "mean", "given"])
@pytest.mark.parametrize("power", [1.0, 0.5, 1.5])
@pytest.mark.parametrize("bias", [None, BIAS], ids=["origin", "bias"])
@pytest.mark.parametrize("weighted", [False, True])
def test_output_has_exactly_the_mean_and_the_variance(metric, power, bias, weighted):
    """What the layer of the paper is for; with the variance of its code it would not hold."""
    X = spd()
    weights = np.random.default_rng(1).random(20) if weighted else None
    scaler = BuresWassersteinScaler(metric=metric, power=power, bias=bias, scale=0.4)
    Z = scaler.fit(X, sample_weight=weights).transform(X)
    settings = {"metric": scaler.metric_, "power": power}
    assert_allclose(bw_mean(Z, sample_weight=weights, **settings), scaler.bias_, atol=1e-9)
    square = bw_distance(Z, scaler.bias_, squared=True, **settings)
    assert np.average(square, weights=weights) == pytest.approx(0.16, rel=1e-9)
    assert_allclose(scaler.inverse_transform(Z), X, atol=1e-9)


def test_diagonal_matrices_are_standardised_entry_by_entry():
    x = np.random.default_rng(0).uniform(1, 9, (30, 3))
    Z = BuresWassersteinScaler(scale=0.7, bias=np.diag([1.0, 4.0, 9.0])).fit_transform(
        x[:, :, None] * np.eye(3)
    )
    r = np.sqrt(x)
    f = 0.7 / np.sqrt(((r - r.mean(0)) ** 2).sum(1).mean())
    wanted = (np.array([1.0, 2.0, 3.0]) + f * (r - r.mean(0))) ** 2
    assert_allclose(Z, wanted[:, :, None] * np.eye(3), atol=1e-10)


def test_one_by_one_matrices():
    x = np.random.default_rng(0).uniform(1, 9, 30)
    scaler = BuresWassersteinScaler(scale=0.3).fit(x[:, None, None])
    r = np.sqrt(x)
    assert scaler.mean_[0, 0] == pytest.approx(r.mean() ** 2)
    assert scaler.var_ == pytest.approx(r.var())
    wanted = (1 + 0.3 * (r - r.mean()) / r.std()) ** 2
    assert_allclose(scaler.transform(x[:, None, None])[:, 0, 0], wanted, atol=1e-12)


def test_identity_when_the_bias_is_the_mean():
    X = spd()
    mean = bw_mean(X, tol=1e-14)
    Z = BuresWassersteinScaler(bias=mean, with_scale=False).fit_transform(X)
    assert_allclose(Z, X, atol=1e-10)


def test_rotations_commute_with_the_map():
    X = spd()
    Q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))
    Z = BuresWassersteinScaler(scale=0.5).fit_transform(X)
    turned = BuresWassersteinScaler(scale=0.5).fit_transform(Q @ X @ Q.T)
    assert_allclose(turned, Q @ Z @ Q.T, atol=1e-10)


def test_metric_of_the_mean_makes_units_of_channels_irrelevant():
    X, D = spd(), np.diag([1.0, 10.0, 0.1, 3.0, 100.0])
    plain = [BuresWassersteinScaler().fit(Y).var_ for Y in (X, D @ X @ D)]
    assert plain[1] > 100 * plain[0]
    free = [BuresWassersteinScaler(metric="mean").fit(Y).var_ for Y in (X, D @ X @ D)]
    assert free[1] == pytest.approx(free[0], rel=1e-8)


def test_weights_are_repetitions():
    X = spd(6)
    repeated = BuresWassersteinScaler().fit(np.repeat(X, [1, 2, 0, 3, 1, 1], axis=0))
    weighted = BuresWassersteinScaler().fit(X, sample_weight=[1, 2, 0, 3, 1, 1])
    assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-9)
    assert weighted.var_ == pytest.approx(repeated.var_, rel=1e-9)


def test_partial_fit_of_commuting_matrices_is_one_fit():
    x = np.random.default_rng(0).uniform(1, 9, (30, 3))[:, :, None] * np.eye(3)
    whole = BuresWassersteinScaler().fit(x)
    parts = BuresWassersteinScaler().partial_fit(x[:7]).partial_fit(x[7:12]).partial_fit(x[12:])
    assert_allclose(parts.mean_, whole.mean_, atol=1e-10)
    assert parts.var_ == pytest.approx(whole.var_, rel=1e-10)
    assert parts.n_samples_seen_ == 30


def test_partial_fit_is_near_one_fit_and_momentum_is_the_weight():
    X = spd(40)
    whole, parts = BuresWassersteinScaler().fit(X), BuresWassersteinScaler()
    for batch in np.split(X, 4):
        parts.partial_fit(batch)
    assert bw_distance(parts.mean_, whole.mean_) < 0.02 * np.sqrt(whole.var_)
    assert parts.var_ == pytest.approx(whole.var_, rel=0.01)
    new = BuresWassersteinScaler(momentum=1.0).fit(X[:20]).partial_fit(X[20:])
    assert_allclose(new.mean_, BuresWassersteinScaler().fit(X[20:]).mean_, atol=1e-10)


def test_folding_is_counted():
    """One direction far beyond the others' spread: the root would become negative."""
    x = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 100.0, 0.25])[:, None, None]
    scaler = BuresWassersteinScaler(scale=4.0).fit(x)
    with pytest.warns(UserWarning, match="of 8 matrices"):
        scaler.transform(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BuresWassersteinScaler().fit(x).transform(x)


def test_singular_matrices_with_a_regular_mean():
    X = spd(12, dof=3)  # rank three of five
    Z = BuresWassersteinScaler(scale=0.3, tol=1e-3).fit_transform(X)
    assert np.isfinite(Z).all()
    with pytest.raises(ValueError, match="singular"):
        BuresWassersteinScaler().fit(spd(1, dof=3))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"power": 0.0}, "power"),
        ({"metric": np.eye(4)}, "metric has shape"),
        ({"metric": -np.eye(5)}, "metric must be positive definite"),
        ({"bias": np.zeros((5, 5))}, "bias must be positive definite"),
        ({"scale": 0.0}, "scale"),
        ({"momentum": 0.0}, "momentum"),
    ],
)
def test_bad_parameters(settings, message):
    with pytest.raises(ValueError, match=message):
        BuresWassersteinScaler(**settings).fit(spd())


def test_bad_matrices():
    X = spd()
    X[3] -= 5 * np.eye(5)
    with pytest.raises(ValueError, match="Matrix 3 of X is not positive semidefinite"):
        BuresWassersteinScaler().fit(X)
    for power in (1.0, 0.5):
        scaler = BuresWassersteinScaler(power=power).fit(spd())
        with pytest.raises(ValueError, match="Matrix 3 of X is not positive semidefinite"):
            scaler.transform(X)
    with pytest.raises(ValueError, match="All matrices are the same"):
        BuresWassersteinScaler().fit(np.repeat(spd(1), 3, axis=0))
    with pytest.raises(ValueError, match="non-zero"):
        BuresWassersteinScaler().fit(spd(), sample_weight=np.zeros(20))
    with pytest.warns(ConvergenceWarning, match="after 2 "):
        BuresWassersteinScaler(max_iter=2).fit(spd())
