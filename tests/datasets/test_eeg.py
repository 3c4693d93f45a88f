"""The simulated trials have the structure that they promise."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import welch

from sklr.datasets import make_ar2_trials, make_motor_imagery, make_ssvep


@pytest.mark.parametrize("radius", [0.5, 0.9])
def test_ar2_classes_have_equal_covariance(radius):
    X, y = make_ar2_trials(n_trials=200, n_times=2000, radius=radius, random_state=0)
    for label in (0, 1):
        mean = np.mean([np.cov(x) for x in X[y == label]], axis=0)
        assert_allclose(mean, np.eye(3), atol=0.03)


def test_ar2_spectra_peak_where_asked():
    X, y = make_ar2_trials(n_times=4000, frequencies=(0.2, 0.6), radius=0.95, random_state=0)
    for label, frequency in ((0, 0.2), (1, 0.6)):
        f, power = welch(X[y == label], fs=2.0, nperseg=256)
        assert f[power.mean(axis=(0, 1)).argmax()] == pytest.approx(frequency, abs=0.02)


def test_seeds_subjects_and_sessions():
    first, y = make_motor_imagery(6, random_state=0)
    again, _ = make_motor_imagery(6, random_state=0)
    assert_array_equal(first, again)
    for other in ({"subject": 1}, {"session": 1}, {"random_state": 1}):
        X, _ = make_motor_imagery(6, **({"random_state": 0} | other))
        assert not np.allclose(X, first)
    assert_array_equal(np.bincount(y), [3, 3])
    state = np.random.get_state()[1].copy()
    make_motor_imagery(6, random_state=0)
    make_ar2_trials(6, random_state=0)
    assert_array_equal(np.random.get_state()[1], state)


def band_power(X, low, high, sfreq=160.0):
    f, power = welch(X, fs=sfreq, nperseg=160)
    return power[..., (f >= low) & (f <= high)].sum(axis=-1)


def test_imagery_weakens_the_opposite_side():
    power = {0: [], 1: []}
    for subject in range(4):
        X, y = make_motor_imagery(
            100, channels=("C3", "C4"), effect=1.5, subject=subject, random_state=0
        )
        balance = np.log(band_power(X, 8, 13))
        balance = balance[:, 0] - balance[:, 1]  # left minus right hemisphere
        for label in (0, 1):
            power[label].append(balance[y == label].mean())
    assert np.mean(power[1]) < np.mean(power[0]) - 0.1  # right hand: left side is weaker


def test_no_effect_means_equal_classes():
    X, y = make_motor_imagery(400, channels=("C3", "C4"), effect=0, random_state=0)
    logs = np.log(band_power(X, 8, 13))
    difference = logs[y == 0].mean(axis=0) - logs[y == 1].mean(axis=0)
    error = logs.std(axis=0) * 2 / np.sqrt(len(y))
    assert (np.abs(difference) < 3.5 * error).all()


def test_background_falls_with_frequency_and_amplitudes_are_microvolts():
    X, _ = make_motor_imagery(40, random_state=0)
    assert band_power(X, 2, 5).mean() > 3 * band_power(X, 30, 33).mean()
    assert 5 < X.std() < 50


def test_band_keeps_what_is_inside():
    X, _ = make_motor_imagery(20, band=(8, 35), random_state=0)
    assert X.shape == (20, 9, 480)
    assert band_power(X, 9, 30).mean() > 100 * band_power(X, 1, 4).mean()
    assert np.abs(X.mean(axis=2)).max() < 1


@pytest.mark.parametrize(
    "make, options, message",
    [
        (make_motor_imagery, {"n_trials": 0}, "n_trials"),
        (make_motor_imagery, {"channels": ("C3", "X9")}, r"unknown names \['X9'\]"),
        (make_motor_imagery, {"channels": ()}, "channels"),
        (make_motor_imagery, {"sfreq": 10}, "sfreq must be a number >= 64, got 10"),
        (make_motor_imagery, {"effect": -1}, "effect"),
        (make_motor_imagery, {"duration": "3"}, "duration"),
        (make_motor_imagery, {"subject": -1}, "subject"),
        (make_motor_imagery, {"band": (8, 90)}, r"band must be .* sfreq / 2 = 80, got \(8, 90\)"),
        (make_motor_imagery, {"band": (8,)}, "band"),
        (make_motor_imagery, {"session": 0.5}, "session"),
        (make_ar2_trials, {"frequencies": (0.2,)}, "frequencies"),
        (make_ar2_trials, {"frequencies": (0.0, 0.2)}, "frequencies"),
        (make_ar2_trials, {"radius": 1.0}, "radius"),
        (make_ar2_trials, {"n_channels": 2.5}, "n_channels"),
    ],
)
def test_bad_parameters(make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(**options)


def test_ssvep_trials_are_seeded_and_hold_the_frequency():
    X, y = make_ssvep(40, frequencies=(7.0, 11.0), effect=3.0, random_state=0)
    again, _ = make_ssvep(40, frequencies=(7.0, 11.0), effect=3.0, random_state=0)
    assert_array_equal(X, again)
    assert np.bincount(y).tolist() == [20, 20]
    power = np.abs(np.fft.rfft(X, axis=2)) ** 2
    for label, frequency in enumerate((7.0, 11.0)):
        mean = power[:, :, int(round(frequency * X.shape[2] / 128.0))].mean(axis=1)
        assert mean[y == label].mean() > 4 * mean[y != label].mean()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"frequencies": (7.0,)}, "frequencies must be two or more"),
        ({"frequencies": (7.0, 7.0)}, "frequencies must be two or more"),
        ({"frequencies": (7.0, 60.0)}, "between 0 and sfreq / 4"),
        ({"channels": ("XX",)}, "channels has unknown names"),
        ({"effect": -1.0}, "effect must be"),
    ],
)
def test_bad_ssvep_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_ssvep(4, **options)
