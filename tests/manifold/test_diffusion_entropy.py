"""The estimator of diffusion spectral entropy: fit once, score many; a network in training."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from sklr.manifold import DiffusionSpectralEntropy
from sklr.metrics import diffusion_spectral_entropy, diffusion_spectral_mutual_information


@pytest.mark.parametrize("solver", ["exact", "lanczos", "landmark"])
def test_score_keeps_the_bandwidth_of_fit(solver):
    rng = np.random.default_rng(0)
    X, other = rng.standard_normal((100, 4)), 3 * rng.standard_normal((90, 4))
    dse = DiffusionSpectralEntropy(t=2, solver=solver, n_landmarks=100, random_state=0).fit(X)
    kw = {"t": 2, "solver": solver, "n_landmarks": 100, "random_state": 0}
    assert_allclose(dse.score(X), dse.entropy_)
    assert_allclose(dse.entropy_, diffusion_spectral_entropy(X, **kw))
    wanted = diffusion_spectral_entropy(other, bandwidth=dse.bandwidth_, **kw)
    assert_allclose(dse.score(other), wanted)
    assert_allclose(dse.effective_rank_, 2**dse.entropy_)
    assert hasattr(dse, "eigenvalues_") == (solver != "lanczos")
    assert (dse.standard_error_ > 0) == (solver == "lanczos")


def test_refit_leaves_nothing_of_another_solver():
    X = np.random.default_rng(0).standard_normal((60, 4))
    dse = DiffusionSpectralEntropy().fit(X)
    assert dse.eigenvalues_.shape == (60,)
    dse.set_params(solver="lanczos", random_state=0).fit(X)
    assert not hasattr(dse, "eigenvalues_")
    with pytest.raises(ValueError, match="4 features|expecting 4"):
        dse.score(X[:, :3])


def hidden(network, X):
    return np.maximum(X @ network.coefs_[0] + network.intercepts_[0], 0)


def information_by_epoch(y, n_epochs=8):
    """DSMI of a hidden layer with the labels it is trained on, epoch by epoch."""
    X, _ = load_digits(return_X_y=True)
    X = X[:1000] / 16
    network = MLPClassifier((64,), random_state=0, learning_rate_init=3e-3)
    values = []
    for _ in range(n_epochs):
        network.partial_fit(X, y, classes=np.arange(10))
        values.append(
            diffusion_spectral_mutual_information(hidden(network, X), y, t=2, random_state=0)
        )
    return np.array(values)


def test_information_rises_with_true_labels_and_little_with_shuffled():
    """The paper's trend, on scikit-learn's digits and a small network."""
    y = load_digits(return_X_y=True)[1][:1000]
    true = information_by_epoch(y)
    shuffled = information_by_epoch(np.random.default_rng(0).permutation(y))
    assert true[-1] - true[0] > 5 * abs(shuffled[-1] - shuffled[0])
    assert true[-1] > 0.2
    assert np.abs(shuffled).max() < 0.1 * true[-1]
