"""One training, every width: what is served, exported, and refused."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr.neural_network import MorphableClassifier, SizeCurveDisplay  # noqa: E402
from sklr.nn import WeightField, smooth_permutation  # noqa: E402

X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (24, 20), "max_iter": 20, "learning_rate": 0.02, "random_state": 0}


@pytest.fixture(scope="module")
def fit():
    return MorphableClassifier(**SMALL, dtype="float64").fit(X, Y)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def pruned(network, width):
    """Return the network of the units with the largest L1 norms, as pruning keeps them."""
    small = copy.deepcopy(network)
    layers = [part for part in small if isinstance(part, nn.Linear)]
    for layer, following in zip(layers[:-1], layers[1:]):
        n = round(width * len(layer.weight))
        kept = layer.weight.abs().sum(dim=1).argsort(descending=True)[:n]
        layer.weight, layer.bias = (nn.Parameter(p[kept]) for p in (layer.weight, layer.bias))
        following.weight = nn.Parameter(following.weight[:, kept])
    return small


def test_narrow_networks_keep_what_pruning_loses():
    """The claim: one training serves widths at which pruning without training falls."""
    data, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(data))
    data, labels = data[order], labels[order]
    ours = MorphableClassifier(hidden_layer_sizes=(64, 64), max_iter=20, random_state=0)
    ours.fit(data[:1000], labels[:1000])
    whole = ours.score(data[1000:], labels[1000:])
    assert whole > 0.93
    small = pruned(ours.export()[1], 0.25).double()
    with torch.no_grad():
        x = ours.export()[0](torch.tensor(data[1000:]).float()).double()
        cut = (small(x).argmax(dim=1).numpy() == labels[1000:]).mean()
    scores = ours.size_curve(data[1000:], labels[1000:], [0.25, 0.3, 0.35, 0.4, 1.0])["score"]
    assert scores[0] >= cut + 0.1
    assert scores[0] >= whole - 0.04
    assert np.abs(np.diff(scores)).max() < 0.02


def test_neighbours_alone_make_a_narrow_network_without_training():
    """A trained network in a smooth order is drawn at half its width with hardly a loss."""
    data, labels = load_digits(return_X_y=True)
    plain = MorphableClassifier(
        hidden_layer_sizes=(64,), method="slimmable", min_width=1.0, max_iter=20, random_state=0
    ).fit(data, labels)
    scale, network = plain.export()
    with torch.no_grad():
        x, y = scale(torch.tensor(data).float()), torch.tensor(labels)

        def score(logits):
            return float((logits.argmax(dim=1) == y).double().mean())

        smooth = score(WeightField(smooth_permutation(network))(x, 0.5))
        assert smooth >= score(network(x)) - 0.05
        assert smooth >= score(pruned(network, 0.5)(x)) + 0.02


def test_every_width_is_the_exported_network(fit):
    fit = copy.deepcopy(fit)
    counts = []
    for width in (1.0, 0.7, 0.5, 0.25):
        fit.set_params(width=width)
        plain = fit.export()
        assert not any(isinstance(part, WeightField) for part in plain.modules())
        with torch.no_grad():
            logits = plain.double()(torch.tensor(X)).numpy()
        np.testing.assert_allclose(fit.decision_function(X), logits, atol=1e-10)
        counts.append(n_parameters(plain))
        a, b = (int(width * n + 0.5) for n in (24, 20))
        assert counts[-1] == fit.n_params_ == 4 * a + a + a * b + b + 3 * b + 3
        plain.network[0].weight.data.zero_()
        plain.scale.mean.zero_()
    assert n_parameters(fit.export(0.7)) == counts[1]
    np.testing.assert_array_equal(  # what went out is no part of the estimator
        fit.decision_function(X), copy.deepcopy(fit).decision_function(X)
    )
    assert fit.set_params(width=1.0).score(X, Y) > 0.9


def test_what_fit_leaves_behind(fit):
    assert [len(order) for order in fit.permutation_] == [24, 20]
    for order in fit.permutation_:
        np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))
    before, after = fit.total_variation_
    assert 0 < after < before
    assert len(fit.loss_curve_) == fit.n_iter_ == 20
    terms = np.array([fit.loss_terms_[name] for name in ("whole", "drawn", "smallest")])
    assert np.isnan(terms[:, :10]).all()
    np.testing.assert_allclose(terms[:, 10:].sum(axis=0), fit.loss_curve_[10:], rtol=1e-6)
    rough = MorphableClassifier(**SMALL, smooth=False).fit(X, Y)
    assert all((order == np.arange(len(order))).all() for order in rough.permutation_)
    assert rough.total_variation_[0] == rough.total_variation_[1]


def test_a_width_needs_no_fit_and_training_does_not_depend_on_it(fit):
    other = MorphableClassifier(**SMALL, dtype="float64", width=0.5).fit(X, Y)
    again = copy.deepcopy(fit).set_params(width=0.5)
    np.testing.assert_array_equal(other.predict_proba(X), again.predict_proba(X))
    loaded = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(loaded.predict_proba(X), again.predict_proba(X))


def test_slimmable_networks_hold_the_units_of_smaller_ones():
    model = MorphableClassifier(**{**SMALL, "max_iter": 40}, method="slimmable").fit(X, Y)
    large, small = model.export(0.75)[1], model.export(0.25)[1]
    assert torch.equal(small[2].weight, large[2].weight[:5, :6])
    assert model.set_params(width=0.25).score(X, Y) > 0.9


def test_a_step_trains_three_networks_at_once(fit):
    from sklr.neural_network._loop import TrainState

    module = copy.deepcopy(fit.module_)
    data, labels = torch.tensor(X), torch.tensor(Y)
    rng = np.random.RandomState(0)  # noqa: NPY002
    step = TrainState(module, data, labels, None, torch.device("cpu"), None, None, rng, 150, 1)
    step.memory["widths"] = np.array([0.6])
    own = list(module.parameters())
    found = torch.autograd.grad(fit._loss(module, data, labels, step), own)
    logits = [module.network(module.scale(data), width) for width in (1.0, 0.6, 0.25)]
    loss = sum(nn.functional.cross_entropy(each, labels) for each in logits)
    for a, b in zip(found, torch.autograd.grad(loss, own)):
        torch.testing.assert_close(a, b)


def images(n=60):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((n, 1, 6, 6))
    labels = (data[:, 0, :3].mean(axis=(1, 2)) > data[:, 0, 3:].mean(axis=(1, 2))).astype(int)
    return data + 0.8 * (2 * labels - 1)[:, None, None, None] * np.linspace(-1, 1, 6)[
        :, None
    ], labels


def convolutions(shape):
    return nn.Sequential(
        nn.Conv2d(shape[0], 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 2),
    )  # fmt: skip


def test_images_and_batch_normalisation():
    data, labels = images()
    fit = MorphableClassifier(convolutions, max_iter=12, learning_rate=0.01, random_state=0)
    fit.fit(data, labels)
    assert fit.score(data, labels) > 0.9
    small = fit.set_params(width=0.5).export()
    assert [small[0].weight.shape[0], small[3].weight.shape[:2], small[7].in_features] == [
        6, (4, 6), 16,
    ]  # fmt: skip
    assert isinstance(small[1], nn.Identity) and fit.score(data, labels) > 0.85
    same = np.ones_like(data)
    constant = clone(fit).set_params(max_iter=3).fit(same, labels)
    assert np.isfinite(constant.predict_proba(same)).all()


def test_a_given_network_is_copied_and_exported_under_its_names():
    given = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3))
    before = copy.deepcopy(given.state_dict())
    fit = MorphableClassifier(given, max_iter=5, random_state=0).fit(X, Y)
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert fit.export(0.5).state_dict().keys() == before.keys()
    assert fit.export(0.5)[0].out_features == 10


@pytest.mark.parametrize("factor, shift", [(1e-6, 0), (1e6, 0), (1, 1e3)])
def test_units_of_the_features_do_not_matter(fit, factor, shift):
    """Networks before the order is taken agree; equal distances are rare enough."""
    moved = X * factor * [1, 1e3, 1e-3, 1] + shift * factor
    other = MorphableClassifier(**SMALL, dtype="float64").fit(moved, Y)
    np.testing.assert_allclose(other.predict_proba(moved), fit.predict_proba(X), atol=1e-5)


def test_constant_columns_lone_samples_strings_and_repeated_rows():
    data = np.c_[X[:101], np.full(101, 7.0)]
    labels = np.array(["a"] * 50 + ["b"] * 50 + ["alone"])
    model = MorphableClassifier(**SMALL).fit(np.r_[data, data], np.r_[labels, labels])
    assert model.set_params(width=0.25).score(data, labels) > 0.95
    alone = MorphableClassifier(**SMALL).fit(data, labels)
    assert np.isfinite(alone.predict_proba(data)).all() and list(alone.classes_) == [
        "a", "alone", "b",
    ]  # fmt: skip


def test_partial_fit_goes_on_with_the_field():
    model = MorphableClassifier(**{**SMALL, "batch_size": 16})
    for _ in range(8):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert model.n_iter_ == 8 and len(model.permutation_) == 2
    assert model.score(X, Y) > 0.9
    assert model.set_params(width=0.25).score(X, Y) > 0.85
    with pytest.raises(ValueError, match="method was 'field'"):
        model.set_params(method="slimmable").partial_fit(X, Y)


def test_early_stopping_and_a_callback_in_the_warm_up():
    model = MorphableClassifier(
        **{**SMALL, "max_iter": 60}, early_stopping=True, n_iter_no_change=3
    ).fit(X, Y)
    assert model.n_iter_ < 60 and len(model.validation_scores_) == model.n_iter_

    class Stop:
        def on_epoch_end(self, estimator, info):
            return True

    stopped = MorphableClassifier(**SMALL, callbacks=[Stop()]).fit(X, Y)
    assert stopped.n_iter_ == 1
    assert stopped.set_params(width=0.5).predict(X).shape == (150,)


def test_files_of_weights_hold_every_width(fit, tmp_path):
    path = tmp_path / "weights.pt"
    fit.save_weights(path)
    other = MorphableClassifier(**{**SMALL, "max_iter": 2}, dtype="float64").fit(X, Y)
    other.load_weights(path).set_params(width=0.5)
    wanted = copy.deepcopy(fit).set_params(width=0.5).predict_proba(X)
    np.testing.assert_array_equal(other.predict_proba(X), wanted)


def test_a_search_chooses_a_width_inside_a_pipeline():
    pipe = make_pipeline(StandardScaler(), MorphableClassifier(**SMALL))
    search = GridSearchCV(pipe, {"morphableclassifier__width": [0.25, 1.0]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0.85


def test_wrong_widths_and_networks_are_refused(fit):
    fit = copy.deepcopy(fit)
    for width in (0, 1.5, 0.2, np.nan, "0.5", True):
        with pytest.raises(ValueError, match="width must be a number from min_width=0.25 to 1, go"):
            fit.set_params(width=width).predict(X)
    with pytest.raises(ValueError, match="from min_width=0.5 to 1, got 0.4"):
        MorphableClassifier(**SMALL, min_width=0.5, width=0.4).fit(X, Y)
    for widths in ([0.1, 1.0], [], [[0.5]], [np.nan]):
        with pytest.raises(ValueError, match="widths must be numbers from min_width=0.25 to 1"):
            MorphableClassifier(**SMALL, widths=widths).fit(X, Y)
    with pytest.raises(ValueError, match="warmup_iter=20 leaves no epoch of max_iter=20"):
        MorphableClassifier(**SMALL, warmup_iter=20).fit(X, Y)
    with pytest.raises(ValueError, match="hidden_layer_sizes makes no network of several widths"):
        MorphableClassifier(hidden_layer_sizes=()).fit(X, Y)
    normed = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="module makes no network .* '1' is a LayerNorm"):
        MorphableClassifier(normed).fit(X, Y)
    late = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="'2' is a BatchNorm1d, whose statistics"):
        MorphableClassifier(late).fit(X, Y)
    for name, value in [("min_width", 0), ("method", "one"), ("width", 2), ("smooth", "x")]:
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            MorphableClassifier(**{name: value}).fit(X, Y)


def test_display_of_accuracy_against_size(fit):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra plot")
    _, ax = pyplot.subplots()
    display = SizeCurveDisplay.from_estimator(fit, X, Y, ratios=[1.0, 0.5, 0.3], ax=ax)
    x, y = display.line_.get_data()
    assert list(x) == [n_parameters(fit.export(width)) for width in (0.3, 0.5, 1.0)]
    assert y[-1] == fit.score(X, Y)
    curve = fit.size_curve(X, Y)
    assert len(curve["width"]) == 9 and fit.width == 1.0
    assert (np.diff(curve["n_params"]) > 0).all()
    pyplot.close("all")
