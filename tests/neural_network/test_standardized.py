"""Default networks that standardise: units do not matter, and a given network is left alone."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._modules import mlp  # noqa: E402
from sklr.neural_network import (  # noqa: E402
    AdapterClassifier,
    CompressedClassifier,
    DynamicSubspaceEmbedding,
    GrassmannClassifier,
    MaestroClassifier,
    MorphableClassifier,
    SubspaceClassifier,
)
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn._standardize import Standardize  # noqa: E402

X, Y = load_wine(return_X_y=True)
QUICK = {"max_iter": 4, "hidden_layer_sizes": (8,), "random_state": 0}
NETWORKS = {
    "adapter": AdapterClassifier(rank=2, **QUICK),
    "grassmann": GrassmannClassifier(2, **QUICK),
    "maestro": MaestroClassifier(**QUICK),
    "morphable": MorphableClassifier(**QUICK),
    "perceptron": PerceptronClassifier(**QUICK),
    "subspace": SubspaceClassifier(10, **QUICK),
    "subspace of all": SubspaceClassifier(None, **QUICK),
}
# What goes on with the network that it has; the others' further epochs change its structure.
GOING_ON = ("grassmann", "perceptron", "subspace", "subspace of all")


@pytest.fixture(params=NETWORKS)
def network(request):
    return clone(NETWORKS[request.param])


def scales(module):
    return [part for part in module.modules() if isinstance(part, Standardize)]


@pytest.mark.parametrize(
    "estimator, least",
    [
        (AdapterClassifier(random_state=0), 0.95),
        (CompressedClassifier(), 0.95),
        (GrassmannClassifier(random_state=0), 0.95),
        (SubspaceClassifier(random_state=0), 0.92),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wine_in_its_units_is_learnt_without_parameters_or_a_warning(estimator, least):
    """A perceptron on standardised features has .98; without standardising all have .65 to .74."""
    X_fit, X_test, y_fit, y_test = train_test_split(X, Y, test_size=0.5, random_state=0, stratify=Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X_fit, y_fit)
    assert estimator.score(X_test, y_test) >= least


def test_it_holds_the_weighted_moments_of_the_first_samples(network):
    data = np.c_[X, np.full(len(X), 7.0)]
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    (scale,) = scales(network.fit(data, Y, sample_weight=weights).module_)
    rows = np.repeat(data, weights.astype(int), axis=0)
    assert_allclose(scale.mean, rows.mean(axis=0), rtol=1e-6)
    assert_allclose(scale.scale[:-1], rows[:, :-1].std(axis=0), rtol=1e-4)
    assert scale.scale[-1] == 1
    assert not list(scale.parameters())


@pytest.mark.parametrize("name", GOING_ON)
@pytest.mark.parametrize("begun", ["fit", "partial_fit"])
def test_further_epochs_keep_the_first_moments(name, begun):
    network = clone(NETWORKS[name])
    first = {"classes": np.unique(Y)} if begun == "partial_fit" else {}
    getattr(network, begun)(X, Y, **first)
    (scale,) = scales(network.module_)
    before = scale.mean.clone(), scale.scale.clone()
    network.partial_fit(3 * X + 100, Y)
    (scale,) = scales(network.module_)
    assert torch.equal(scale.mean, before[0]) and torch.equal(scale.scale, before[1])


def test_weights_of_a_file_bring_their_moments(network, tmp_path):
    fitted = clone(network).fit(X, Y)
    other = network.fit(2 * X[::2], Y[::2])
    fitted.save_weights(tmp_path / "weights.pt")
    assert_array_equal(
        other.load_weights(tmp_path / "weights.pt").predict_proba(X), fitted.predict_proba(X)
    )


def test_a_given_network_sees_the_features_as_they_are(network):
    features = isinstance(network, GrassmannClassifier)
    given = mlp(13, (8,), None if features else 3)
    fitted = network.set_params(module=given).fit(X, Y)
    assert not scales(fitted.module_)


def test_features_that_single_precision_loses_are_warned_of(network):
    far = X + 1e9
    with pytest.warns(UserWarning, match="features are so far from 0 that float32 leaves"):
        network.fit(far, Y)


def test_subspaces_of_the_data_are_of_its_own_units_and_origin():
    """Standardised, they would not be the subspaces that ``components_`` shows."""
    classifier = GrassmannClassifier(2, hidden_layer_sizes=(), max_iter=5, random_state=0)
    with pytest.warns(UserWarning, match=r"scale them first \(StandardScaler\)"):
        classifier.fit(X, Y)
    assert not scales(classifier.module_)
    assert_allclose(classifier.transform(X), X)


def test_what_standardises_is_no_layer_and_has_no_parameters():
    n_in, inner, n_out = 13, 8, 3
    whole = (n_in + 1) * inner + (inner + 1) * n_out
    adapted = AdapterClassifier(rank=2, merge=False, **QUICK).fit(X, Y)
    assert [row["name"] for row in adapted.adapter_report_] == ["network.0"]
    assert adapted.n_total_ == whole
    assert adapted.n_trainable_ == 2 * (n_in + inner) + (inner + 1) * n_out
    named = AdapterClassifier(rank=2, targets="0", **QUICK).fit(X, Y)
    assert [row["name"] for row in named.adapter_report_] == ["network.0"]
    assert [type(part) for part in named.module_] == [Standardize, nn.Sequential]
    assert SubspaceClassifier(10, **QUICK).fit(X, Y).n_parameters_ == whole
    small = CompressedClassifier(PerceptronClassifier(**QUICK), fine_tune=2).fit(X, Y)
    assert [row["name"] for row in small.compressor_.report_] == ["network.0", "network.2"]
    (scale,), (before,) = scales(small.module_), scales(small.estimator_.module_)
    assert torch.equal(scale.mean, before.mean) and torch.equal(scale.scale, before.scale)


def test_channels_of_images_are_standardised_over_their_places():
    rng = np.random.default_rng(0)
    images = rng.normal([[[[3.0]], [[-500.0]]]], [[[[1.0]], [[100.0]]]], (40, 2, 4, 4))
    labels = np.arange(40) % 4
    embedding = DynamicSubspaceEmbedding(4, max_iter=1, random_state=0)
    embedding.fit(images, labels, X_val=images, y_val=labels)
    (scale,) = scales(embedding.module_)
    assert_allclose(scale.mean, images.mean(axis=(0, 2, 3)), rtol=1e-5)
    assert_allclose(scale.scale, images.std(axis=(0, 2, 3)), rtol=1e-5)


def test_a_warning_names_no_parameter_that_there_is_not():
    far = X + 1e9
    with pytest.warns(UserWarning, match=r"so far from 0 .*\(StandardScaler\)$"):
        DynamicSubspaceEmbedding(4, max_iter=1, random_state=0).fit(far, Y)
    with pytest.warns(UserWarning, match=r"so far from 0 .* or set dtype"):
        GrassmannClassifier(2, **QUICK).fit(far, Y)
