"""The average of kernels: the kernel itself, one embedding, weights as repeats, bad cells."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import butter, sosfiltfilt
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from sklr.covariance import (
    AugmentedCovariance,
    AugmentedCovarianceAverageSVC,
    AugmentedCovarianceSVC,
    GroupRecentering,
    TangentSpace,
)
from sklr.datasets import make_ar2_trials, make_ssvep
from sklr.geometry import tangent_space

CELLS = [(1, 1), (2, 1), (3, 2)]
X, Y = make_ar2_trials(random_state=0)
NEW, _ = make_ar2_trials(random_state=1)


def vectors(trials, cell):
    matrices = AugmentedCovariance(*cell, estimator="oas").fit_transform(trials)
    train = AugmentedCovariance(*cell, estimator="oas").fit_transform(X)
    return tangent_space(matrices, train.mean(axis=0))


@pytest.mark.parametrize("y", [Y, np.arange(len(Y)) % 3], ids=["two classes", "three classes"])
def test_is_a_support_vector_classifier_on_the_average_of_the_kernels(y):
    train, asked = 0.0, 0.0
    for cell in CELLS:
        Z, Q = vectors(X, cell), vectors(NEW, cell)
        centre = Z.mean(axis=0)
        Z, Q = Z - centre, Q - centre
        scale = np.mean(np.sum(Z**2, axis=1)) * len(CELLS)
        train, asked = train + Z @ Z.T / scale, asked + Q @ Z.T / scale
    wanted = SVC(kernel="precomputed").fit(train, y).decision_function(asked)
    model = AugmentedCovarianceAverageSVC(CELLS, C=1.0).fit(X, y)
    # Libsvm's own stop: two kernels that differ in the last bit end a little apart.
    assert_allclose(model.decision_function(NEW), wanted, atol=2e-3)
    assert model.predict(NEW).shape == (len(NEW),)


def test_one_cell_is_the_classifier_of_that_cell():
    model = AugmentedCovarianceAverageSVC([(3, 2)], C=1.0, reference="riemann", tol=1e-8).fit(X, Y)
    one = AugmentedCovarianceSVC(3, 2, estimator="oas", C=1.0 / model.scales_[0]).fit(X, Y)
    assert_allclose(model.references_[0], one.reference_, rtol=1e-6)
    assert_allclose(model.decision_function(NEW), one.decision_function(NEW), atol=2e-3)


def test_delays_tell_apart_what_covariances_do_not():
    assert AugmentedCovarianceAverageSVC(CELLS).fit(X, Y).score(NEW, _) > 0.9
    plain = AugmentedCovarianceAverageSVC([(1, 1)]).fit(X, Y).score(NEW, _)
    assert plain < 0.75


def test_units_and_order_of_trials_change_nothing():
    model = AugmentedCovarianceAverageSVC(CELLS, C=1.0).fit(X, Y)
    for factor in (1e-6, 1e6):
        other = AugmentedCovarianceAverageSVC(CELLS, C=1.0).fit(factor * X, Y)
        assert_allclose(
            other.decision_function(factor * NEW), model.decision_function(NEW), atol=2e-3
        )


def test_weights_are_repeats_and_weight_zero_is_absence():
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = AugmentedCovarianceAverageSVC(CELLS, C=1.0).fit(X, Y, sample_weight=counts)
    repeated = AugmentedCovarianceAverageSVC(CELLS, C=1.0).fit(
        np.repeat(X, counts, axis=0), np.repeat(Y, counts)
    )
    assert_allclose(weighted.scales_, repeated.scales_, rtol=1e-9)
    assert_allclose(weighted.decision_function(NEW), repeated.decision_function(NEW), atol=2e-3)


def test_lags_in_seconds_are_resolved_by_the_rate():
    model = AugmentedCovarianceAverageSVC([(1, 1), (2, 0.01)], sfreq=200.0).fit(X, Y)
    assert model.cells_ == [(1, 1), (2, 2)]
    with pytest.raises(ValueError, match="the sampling rate is not known"):
        AugmentedCovarianceAverageSVC([(2, 0.01)]).fit(X, Y)


def test_cells_that_the_trials_are_too_short_for_are_named():
    n_times = X.shape[2]
    with pytest.warns(UserWarning, match=rf"1 of 2 cells .* left out.*\(2, {n_times}\)"):
        model = AugmentedCovarianceAverageSVC([(1, 1), (2, n_times)]).fit(X, Y)
    assert model.cells_ == [(1, 1)]
    with pytest.raises(ValueError, match="None of the cells"):
        AugmentedCovarianceAverageSVC([(2, n_times)]).fit(X, Y)


@pytest.mark.parametrize("cells", [[3], [(1, 2, 3)], [(0, 1)], [(2, 0)], [], ["12"]])
def test_bad_cells_are_named(cells):
    with pytest.raises((ValueError, TypeError), match="cell"):
        AugmentedCovarianceAverageSVC(cells).fit(X, Y)


def test_C_is_one_unless_another_is_better_beyond_doubt():
    y = np.arange(100) % 5 == 0
    features = np.where(y, 1.0, 0.0)[:, None]
    small = 1e-3 * features @ features.T  # C = 1 leaves all in the larger class
    model = AugmentedCovarianceAverageSVC()
    assert model._chosen_C(small, y, None) > 1
    assert model._chosen_C(1e3 * small, y, None) == 1
    noise = np.random.default_rng(0).standard_normal((100, 20))
    assert model._chosen_C(noise @ noise.T / 20, y, None) == 1
    few = slice(40)
    assert model._chosen_C(small[few, few], y[few], None) == 1


def test_probabilities_by_calibration():
    model = CalibratedClassifierCV(AugmentedCovarianceAverageSVC(CELLS), cv=3).fit(X, Y)
    assert_allclose(model.predict_proba(NEW).sum(axis=1), 1.0)


def test_tangent_space_of_the_pipeline_agrees():
    """The same vectors as the transformers make, at the affine-invariant mean."""
    model = AugmentedCovarianceAverageSVC([(2, 1)], reference="riemann", tol=1e-8).fit(X, Y)
    matrices = AugmentedCovariance(2, 1, estimator="oas").fit_transform(X)
    assert_allclose(model.references_[0], TangentSpace().fit(matrices).reference_, rtol=1e-6)


def test_bands_are_the_cells_of_filtered_trials_and_nothing_else():
    bands = [(5, 15), (15.0, 40.0)]
    model = AugmentedCovarianceAverageSVC([(1, 1), (2, 1)], C=1.0, bands=bands, sfreq=100).fit(X, Y)
    assert model.bands_ == [(5.0, 15.0), (15.0, 40.0)]
    train, asked = 0.0, 0.0
    for low, high in bands:
        sos = butter(4, (low, high), "bandpass", fs=100, output="sos")
        parts = [
            sosfiltfilt(sos, Z - Z.mean(2, keepdims=True), axis=2, padlen=30) for Z in (X, NEW)
        ]
        for cell in ((1, 1), (2, 1)):
            A, B = (AugmentedCovariance(*cell, estimator="oas").fit_transform(Z) for Z in parts)
            Z, Q = tangent_space(A, A.mean(axis=0)), tangent_space(B, A.mean(axis=0))
            centre = Z.mean(axis=0)
            Z, Q = Z - centre, Q - centre
            scale = 4 * np.mean(np.sum(Z**2, axis=1))
            train, asked = train + Z @ Z.T / scale, asked + Q @ Z.T / scale
    wanted = SVC(kernel="precomputed").fit(train, Y).decision_function(asked)
    assert_allclose(model.decision_function(NEW), wanted, atol=2e-3)
    whole = AugmentedCovarianceAverageSVC([(2, 1)], C=1.0, bands=[None], sfreq=100).fit(X, Y)
    plain = AugmentedCovarianceAverageSVC([(2, 1)], C=1.0).fit(X, Y)
    assert_allclose(whole.decision_function(NEW), plain.decision_function(NEW))
    moved = AugmentedCovarianceAverageSVC([(2, 1)], C=1.0, bands=[(5, 40)], sfreq=100)
    there = moved.fit(X, Y).decision_function(NEW)
    assert_allclose(moved.fit(X + 1e6, Y).decision_function(NEW + 1e6), there, atol=5e-3)


@pytest.mark.parametrize(
    ("bands", "sfreq", "message"),
    [
        ([(5, 60)], 100, "low < high < sfreq / 2 = 50 Hz, got"),
        ([(9, 5)], 100, "low < high"),
        ([3], 100, "pairs"),
        ([("a", 3)], 100, "low < high"),
        ([], 100, "must not be empty"),
        ([(5, 9)], None, "give sfreq"),
    ],
)
def test_bad_bands_are_named(bands, sfreq, message):
    with pytest.raises(ValueError, match=message):
        AugmentedCovarianceAverageSVC(CELLS, bands=bands, sfreq=sfreq).fit(X, Y)


def test_bands_of_longer_cells_see_flicker_that_the_ten_cells_do_not():
    trials, y = make_ssvep(80, effect=2.0, subject=1, random_state=0)
    plain = AugmentedCovarianceAverageSVC().fit(trials[:48], y[:48])
    bands = AugmentedCovarianceAverageSVC(
        ((4, 4), (5, 3)), bands=((5, 10), (10, 22), (22, 45)), sfreq=128
    ).fit(trials[:48], y[:48])
    assert bands.score(trials[48:], y[48:]) > plain.score(trials[48:], y[48:]) + 0.1


def test_recentring_undoes_a_mixing_of_channels_between_sessions():
    drift = np.diag([3.0, 0.4, 1.0]) + 0.2
    other = np.einsum("ij,njt->nit", drift, NEW)
    model = AugmentedCovarianceAverageSVC(
        CELLS, C=1.0, estimator="cov", recentring=GroupRecentering()
    ).fit(X, Y)
    named = ["other"] * len(NEW)
    assert np.mean(model.predict(other, groups=named) == _) > 0.9
    assert np.mean(model.predict(other) == _) > 0.9
    groups = np.repeat(["a", "b"], [len(X), len(NEW)])
    both = clone(model).fit(np.concatenate([X, other]), np.concatenate([Y, _]), groups=groups)
    assert list(both._movers[0].groups_) == ["a", "b"]
    assert np.mean(both.predict(X, groups=["a"] * len(X)) == Y) > 0.9
    with pytest.raises(ValueError, match="groups are for recentring"):
        AugmentedCovarianceAverageSVC(CELLS).fit(X, Y, groups=["a"] * len(X))


def test_a_flat_channel_is_refused_where_the_estimator_needs_it_by_its_own_number():
    trials, weights = X.copy(), np.ones(len(X))
    trials[7, 1], weights[:3] = 4.0, 0.0
    AugmentedCovarianceAverageSVC(CELLS).fit(trials, Y).predict(trials[:9])
    message = "Channel 1 is constant in trial 7 .*Reject these trials or channels, or use a shrink"
    for model in (
        AugmentedCovarianceAverageSVC(CELLS, estimator="cov"),
        AugmentedCovarianceSVC(2, 1),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(trials, Y, sample_weight=weights)
        with pytest.raises(ValueError, match="constant in trial 2"):
            model.fit(X, Y).predict(trials[5:9])
    with pytest.raises(ValueError, match="or use standardize=False"):
        AugmentedCovarianceAverageSVC(CELLS, standardize=True).fit(trials, Y)
    with pytest.raises(ValueError, match="zero in all trials"):
        AugmentedCovarianceAverageSVC(CELLS).fit(np.zeros_like(X), Y)
