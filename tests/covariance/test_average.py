"""The average of kernels: the kernel itself, one embedding, weights as repeats, bad cells."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from sklr.covariance import (
    AugmentedCovariance,
    AugmentedCovarianceAverageSVC,
    AugmentedCovarianceSVC,
    TangentSpace,
)
from sklr.datasets import make_ar2_trials
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
