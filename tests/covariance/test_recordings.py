"""Recordings as they arrive: mne.Epochs with stimulus, bad and other channels, in any order."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sklr.covariance import (
    AugmentedCovariance,
    AugmentedCovarianceSVC,
    AugmentedCovarianceSVCCV,
    TangentSpace,
    augmented_covariance,
    select_embedding,
)
from sklr.datasets import make_ar2_trials

mne = pytest.importorskip("mne", reason="extra 'eeg' not installed")

NAMES = ["C3", "Cz", "C4"]


@pytest.fixture(scope="module")
def data():
    return make_ar2_trials(n_trials=36, n_times=120, frequencies=(0.2, 0.3), random_state=3)


def epochs_of(X, names=NAMES, types="eeg", rate=100.0, bads=()):
    info = mne.create_info(list(names), rate, types)
    info["bads"] = list(bads)
    return mne.EpochsArray(1e-5 * X, info, verbose=False)


def with_stim(X, y):
    """The trigger channel, whose pulse is the label, and an EOG channel."""
    stim = np.zeros((len(X), 1, X.shape[2]))
    stim[:, 0, 50:60] = 1e5 * (1 + y[:, None])
    eog = np.random.default_rng(0).standard_normal(stim.shape)
    return epochs_of(
        np.concatenate([stim, X, eog], axis=1),
        ["STI 014", *NAMES, "EOG"],
        ["stim", *["eeg"] * len(NAMES), "eog"],
    )


def test_stimulus_channel_does_not_leak_the_label():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 3, 120)), np.arange(80) % 2
    epochs = with_stim(X, y)
    model = AugmentedCovarianceSVC(1).fit(epochs[:40], y[:40])
    assert model.n_features_in_ == 3
    assert list(model.feature_names_in_) == NAMES
    assert model.score(epochs[40:], y[40:]) < 0.75  # noise; 1.0 with the trigger's channel
    expected = augmented_covariance(1e-5 * X, 1)
    assert_allclose(augmented_covariance(epochs, 1), expected, rtol=1e-9)


def test_bad_channels_are_left_out(data):
    X, y = data
    est = AugmentedCovariance().fit(epochs_of(X, bads=["Cz"]))
    assert list(est.feature_names_in_) == ["C3", "C4"]
    assert_allclose(
        est.transform(epochs_of(X, bads=["Cz"])), 1e-10 * augmented_covariance(X[:, ::2])
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda X: epochs_of(X[:, [2, 1, 0]], ["C4", "Cz", "C3"]), "another order.*C4"),
        (
            lambda X: epochs_of(X, ["C3", "Cz", "Pz"]),
            "missing now: .'C4'.; not seen in fit: .'Pz'.",
        ),
        (lambda X: epochs_of(X, bads=["C4"]), "missing now: .'C4'.; not seen in fit: none"),
        (lambda X: epochs_of(X, rate=128.0), "fitted at 100 samples a second, X has 128.*resample"),
    ],
)
@pytest.mark.parametrize("searched", [False, True])
def test_other_channels_or_rate_than_at_fit_are_refused(data, change, message, searched):
    X, y = data
    model = AugmentedCovarianceSVCCV([2], [1]) if searched else AugmentedCovarianceSVC(2, 1)
    model.fit(epochs_of(X), y)
    with pytest.raises(ValueError, match=message):
        model.predict(change(X))
    with pytest.raises(ValueError, match=message):
        AugmentedCovariance(2).fit(epochs_of(X)).transform(change(X))


def test_arrays_and_epochs_are_told_apart_as_tables_are(data):
    X, y = data
    model = AugmentedCovarianceSVC(2, 1).fit(epochs_of(X), y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        labels = model.predict(1e-5 * X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(model.predict(epochs_of(X)), labels)
    model.fit(1e-5 * X, y)
    assert not hasattr(model, "feature_names_in_")
    assert not hasattr(model, "sfreq_in_")


def test_cross_validation_of_epochs_equals_that_of_arrays(data):
    X, y = data
    epochs, cv = with_stim(X, y), StratifiedKFold(3)
    models = [
        AugmentedCovarianceSVC(2, 1),
        make_pipeline(AugmentedCovariance(2), TangentSpace(), SVC(kernel="linear")),
        AugmentedCovarianceSVCCV([1, 2], [1], random_state=0),
        CalibratedClassifierCV(AugmentedCovarianceSVC(2, 1), cv=2, ensemble=False),
        StackingClassifier([("acm", AugmentedCovarianceSVC(2, 1))], LogisticRegression(), cv=2),
    ]
    for model in models:
        scores = cross_val_score(model, epochs, y, cv=cv, error_score="raise")
        assert_array_equal(scores, cross_val_score(model, 1e-5 * X, y, cv=cv))
    grid = GridSearchCV(AugmentedCovarianceSVC(2, 1), {"order": [1, 2]}, cv=cv, error_score="raise")
    assert grid.fit(epochs, y).best_params_ == grid.fit(1e-5 * X, y).best_params_
    decision = cross_val_predict(models[0], epochs, y, cv=cv, method="decision_function")
    assert decision.shape == (len(y),)


def test_calibration_gives_probabilities(data):
    X, y = data
    model = CalibratedClassifierCV(AugmentedCovarianceSVC(2, 1), ensemble=False, cv=3).fit(X, y)
    proba = model.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1.0)
    assert (proba.argmax(axis=1) == y).mean() > 0.8


def test_lists_of_epochs_must_agree(data):
    X, _ = data
    one, other = epochs_of(X[:2]), epochs_of(X[:2], rate=50.0)
    with pytest.raises(ValueError, match="item 1 differs from item 0"):
        augmented_covariance([one, other])
    with pytest.raises(ValueError, match="must be of one length"):
        augmented_covariance([one, epochs_of(X[:2, :, :50])])
    with pytest.raises(TypeError, match="item 1 is of type ndarray"):
        augmented_covariance([one, X[:2]])


def test_other_recordings_are_refused_in_a_sentence(data):
    X, y = data
    raw = mne.io.RawArray(X[0], mne.create_info(NAMES, 100.0, "eeg"), verbose=False)
    for call in (augmented_covariance, select_embedding, AugmentedCovariance().fit):
        with pytest.raises(TypeError, match="RawArray is one continuous recording.*make_fixed"):
            call(raw)
        with pytest.raises(TypeError, match="EvokedArray is an average over trials"):
            call(epochs_of(X).average())
    with pytest.raises(ValueError, match="no good data channel.*3 misc"):
        AugmentedCovariance().fit(epochs_of(X, types="misc"))


def test_lag_in_seconds_follows_the_rate(data):
    X, y = data
    expected = augmented_covariance(X, 2, 3)
    for est, given in (
        (AugmentedCovariance(2, 0.03, sfreq=100), X),
        (AugmentedCovariance(2, 0.03), epochs_of(1e5 * X)),
    ):
        assert_allclose(est.fit_transform(given), expected, rtol=1e-9)
        assert est.lag_ == 3
    assert AugmentedCovarianceSVC(2, 0.03, sfreq=100).fit(X, y).lag_ == 3
    search = AugmentedCovarianceSVCCV([2], [0.01, 0.03], sfreq=100, random_state=0).fit(X, y)
    samples = AugmentedCovarianceSVCCV([2], [1, 3], random_state=0).fit(X, y)
    assert_array_equal(
        search.cv_results_["mean_test_score"], samples.cv_results_["mean_test_score"]
    )
    assert search.best_params_["lag"] == samples.best_params_["lag"] / 100
    with pytest.raises(ValueError, match="'lag' parameter is in seconds.*sfreq.*Got 0.03"):
        AugmentedCovariance(2, 0.03).fit(X)
    with pytest.raises(ValueError, match="less than one sample at sfreq=100"):
        AugmentedCovariance(2, 0.003, sfreq=100).fit(X)
    with pytest.raises(ValueError, match="sfreq=50, but the Epochs have 100"):
        AugmentedCovariance(2, 0.03, sfreq=50).fit(epochs_of(X))


def test_moabb_gets_epochs_too(data):
    """What MOABB's return_epochs=True hands over is sliced by indices."""
    X, y = data
    epochs = epochs_of(X)
    rows = np.arange(0, 36, 2)
    assert_allclose(
        AugmentedCovariance().fit_transform(epochs[rows]),
        1e-10 * augmented_covariance(X[rows]),
        rtol=1e-9,
    )
