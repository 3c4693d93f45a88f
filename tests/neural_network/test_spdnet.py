"""SPD networks as estimators: what they learn, what units do to them, what is refused."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

torch = pytest.importorskip("torch", reason="needs the extra torch")

from sklr.covariance import AugmentedCovariance  # noqa: E402
from sklr.neural_network import EEGSPDNetClassifier, SPDNetClassifier  # noqa: E402


def wishart_classes(n=120, d=6, seed=0, classes=3):
    """Classes of covariances that differ by the axes of the same eigenvalues."""
    rng = np.random.default_rng(seed)
    roots = [
        np.linalg.qr(rng.standard_normal((d, d)))[0] * np.sqrt(np.logspace(0, 2, d))
        for _ in range(classes)
    ]
    y = np.arange(n) % classes
    Z = np.stack([roots[c] @ rng.standard_normal((d, 4 * d)) for c in y])
    return Z @ Z.transpose(0, 2, 1) / (4 * d), y


def oscillations(n=80, seed=0):
    """Trials whose class is a frequency, which no covariance of the channels holds."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = 0.5 * rng.standard_normal((n, 3, 100))
    phase = rng.uniform(0, 6, (n, 1))
    X[:, 0] += np.sin(np.arange(100) * (0.4 + 0.2 * y[:, None]) + phase)
    return X, y


SMALL = {"n_spatial_filters": 8, "n_filters": 4, "kernel_size": 20, "random_state": 0}


@pytest.mark.parametrize("norm", ["gbw", "bw", "airm", None])
def test_learns_covariances_with_every_norm(norm):
    X, y = wishart_classes()
    fit = SPDNetClassifier((5, 4), norm=norm, max_iter=15, learning_rate=0.01, random_state=0)
    fit.fit(X[:80], y[:80])
    assert fit.score(X[80:], y[80:]) > 0.9
    assert len(fit.loss_curve_) == fit.n_iter_ == 15
    assert fit.decision_function(X).shape == (120, 3)
    assert_allclose(fit.predict_proba(X).sum(axis=1), 1.0)


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_learns_with_a_power(power):
    X, y = wishart_classes()
    fit = SPDNetClassifier(power=power, max_iter=10, learning_rate=0.01, random_state=0)
    assert fit.fit(X[:80], y[:80]).score(X[80:], y[80:]) > 0.9


def test_finds_a_frequency():
    X, y = oscillations()
    fit = EEGSPDNetClassifier(max_iter=15, **SMALL).fit(X[:50], y[:50])
    assert fit.score(X[50:], y[50:]) > 0.9
    plain = make_pipeline(AugmentedCovariance(), SPDNetClassifier(max_iter=15, random_state=0))
    assert plain.fit(X[:50], y[:50]).score(X[50:], y[50:]) < 0.75
    assert fit.predict(X[50:, :, :80]).shape == (30,)  # another length


def test_units_do_not_matter():
    X, y = wishart_classes(60)
    fits = [
        SPDNetClassifier(max_iter=2, random_state=0).fit(c * X, y).decision_function(c * X)
        for c in (1.0, 2.0**-40)
    ]
    assert_allclose(fits[1], fits[0], rtol=1e-9)
    X, y = oscillations(40)
    fits = [
        EEGSPDNetClassifier(max_iter=2, **SMALL).fit(c * X, y).decision_function(c * X)
        for c in (1.0, 2.0**-20)
    ]
    assert_allclose(fits[1], fits[0], rtol=1e-5)


def test_layers_keep_their_precision_and_the_maps_their_rows():
    X, y = oscillations(40)
    fit = EEGSPDNetClassifier(max_iter=2, **SMALL).fit(X, y)
    assert fit.module_.front.temporal.weight.dtype == torch.float32
    assert fit.module_.spd.norm1.running_mean.dtype == torch.float64
    W = fit.module_.spd.bimap1.weight.detach()
    assert_allclose(W @ W.mT, np.eye(len(W)), atol=1e-12)


def test_one_eigenvalue_floor_is_shared_with_the_logarithm():
    fit = SPDNetClassifier((4, 3), norm=None, max_iter=1).fit(*wishart_classes(30))
    assert list(dict(fit.module_.spd.named_children())) == [
        "bimap1", "reeig1", "bimap2", "logeig", "linear",
    ]  # fmt: skip


def test_partial_fit_and_pickles():
    X, y = wishart_classes(90)
    fit = SPDNetClassifier(learning_rate=0.01, random_state=0)
    for _ in range(12):
        fit.partial_fit(X[:60], y[:60], classes=[0, 1, 2])
    assert fit.n_iter_ == 12
    assert fit.score(X[60:], y[60:]) > 0.9
    again = pickle.loads(pickle.dumps(fit))
    assert_array_equal(again.decision_function(X), fit.decision_function(X))


def test_early_stopping_and_validation_data():
    X, y = wishart_classes(90)
    fit = SPDNetClassifier(early_stopping=True, n_iter_no_change=2, tol=1.0, random_state=0)
    fit.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    assert fit.n_iter_ <= 4
    assert fit.score(X[60:], y[60:]) == max(fit.validation_scores_)


def test_grid_search_in_a_pipeline():
    X, y = oscillations(40)
    pipe = make_pipeline(AugmentedCovariance(2, 2), SPDNetClassifier(max_iter=2, random_state=0))
    search = GridSearchCV(pipe, {"spdnetclassifier__norm": ["gbw", None]}, cv=2)
    assert search.fit(X, y).best_score_ > 0.3


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden_layer_sizes": (4, 5)}, r"hidden_layer_sizes=\(4, 5\) must not grow"),
        ({"hidden_layer_sizes": (7,)}, "above the 6 rows"),
        ({"hidden_layer_sizes": (0,)}, "at least 1"),
        ({"hidden_layer_sizes": (2.5,)}, "integers"),
        ({"norm": "riemann"}, "norm"),
        ({"power": 0.0}, "power"),
        ({"floor": 0.0}, "floor"),
        ({"batch_size": 1}, "batch_size=1 cannot be normalised"),
        ({"device": "nowhere"}, "nowhere"),
    ],
)
def test_bad_parameters(settings, message):
    X, y = wishart_classes(30)
    with pytest.raises(ValueError, match=message):
        SPDNetClassifier(**settings).fit(X, y)


def test_bad_matrices():
    X, y = wishart_classes(30)
    bad = X.copy()
    bad[4] -= 50 * np.eye(6)
    with pytest.raises(ValueError, match="Matrix 4 of X is not positive semidefinite"):
        SPDNetClassifier().fit(bad, y)
    with pytest.raises(ValueError, match="zero"):
        SPDNetClassifier().fit(np.zeros_like(X), y)
    singular = np.zeros_like(X)
    singular[:, 0, 0] = 1.0
    with pytest.raises(ValueError, match="singular"):
        SPDNetClassifier(max_iter=1).fit(singular, y)
    fit = SPDNetClassifier(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="5 features"):
        fit.predict(X[:, :5, :5])


def test_real_ssvep_learns_in_a_few_epochs(data_folder):
    """Chance is .20; the figure of sixty epochs is in the benchmark."""
    from scipy.io import loadmat

    file = data_folder / "eeg" / "mamem-ssvep2" / "U001.mat"
    if not file.is_file():
        pytest.skip(f"no SSVEP recordings: {file} is not there")
    content = loadmat(file)
    X, y = content["x_test"], content["y_test"].ravel()
    fit = EEGSPDNetClassifier(16, max_iter=10, random_state=0).fit(X[:300], y[:300])
    assert fit.score(X[300:], y[300:]) > 0.5


def test_flipped_axes_are_taken():
    X, y = wishart_classes(30)
    fit = SPDNetClassifier(max_iter=1, random_state=0).fit(X[:, ::-1, ::-1], y)
    wanted = SPDNetClassifier(max_iter=1, random_state=0).fit(X[:, ::-1, ::-1].copy(), y)
    assert_array_equal(fit.predict_proba(X[::-1]), wanted.predict_proba(X[::-1].copy()))
    trials, labels = oscillations(20)
    EEGSPDNetClassifier(max_iter=1, **SMALL).fit(trials[..., ::-1], labels).predict(trials[::-1])


def test_a_zero_matrix_under_the_affine_invariant_metric_is_named():
    X, y = wishart_classes(30)
    X[0] = 0.0
    with pytest.raises(ValueError, match=r"decomposition failed in epoch .* a matrix is zero"):
        SPDNetClassifier(norm="airm", max_iter=3, random_state=0).fit(X, y)
