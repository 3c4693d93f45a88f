"""One training, every size: what is served, exported, reported, and refused."""

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

from sklr.neural_network import MaestroClassifier, SizeCurveDisplay  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn import OrderedConv2d, OrderedLinear  # noqa: E402
from sklr.nn.compression import WeightSVD  # noqa: E402

X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (24, 24), "max_iter": 12, "learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def fit():
    return MaestroClassifier(**SMALL, dtype="float64").fit(X, Y)


@pytest.fixture(scope="module")
def digits():
    data, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(data))
    return data[order], labels[order]


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_small_sizes_keep_what_plain_svd_loses(digits):
    """The claim: sizes that were trained beat a truncation after the fact, and cost nothing."""
    data, labels = digits
    options = {"hidden_layer_sizes": (128, 128), "max_iter": 20, "random_state": 0}
    ours = MaestroClassifier(**options).fit(data[:1000], labels[:1000])
    scaler = StandardScaler().fit(data[:1000])
    dense = PerceptronClassifier(**options).fit(scaler.transform(data[:1000]), labels[:1000])
    test, answers = data[1000:], labels[1000:]
    whole = dense.score(scaler.transform(test), answers)
    svd = WeightSVD(0.15, targets="all").fit(dense.module_).transform(dense.module_).double()
    with torch.no_grad():
        cut = svd(torch.tensor(scaler.transform(test))).argmax(dim=1).numpy()
    assert ours.score(test, answers) >= whole - 0.015
    ours = copy.deepcopy(ours).set_params(ratio=0.3)
    assert ours.score(test, answers) >= whole - 0.03
    assert ours.set_params(ratio=0.15).score(test, answers) >= np.mean(cut == answers) + 0.05


def test_every_size_is_the_exported_network(fit):
    fit = copy.deepcopy(fit)
    counts = []
    for ratio in (1.0, 0.6, 0.3, fit.smallest_ratio_):
        fit.set_params(ratio=ratio)
        plain = fit.export()
        assert not any(isinstance(part, (OrderedLinear, OrderedConv2d)) for part in plain.modules())
        with torch.no_grad():
            logits = plain.double()(torch.tensor(X)).numpy()
        np.testing.assert_allclose(fit.decision_function(X), logits, atol=1e-10)
        counts.append(n_parameters(plain))
        assert counts[-1] == fit.n_params_ <= ratio * counts[0]
        saved = sum(row["params_before"] - row["params_after"] for row in fit.report_)
        assert counts[-1] == counts[0] - saved
    assert counts == sorted(set(counts), reverse=True)
    assert counts[0] == 4 * 24 + 24 + 24 * 24 + 24 + 24 * 3 + 3  # the dense network's
    assert n_parameters(fit.export(0.6)) == counts[1]


def test_larger_sizes_hold_the_columns_of_smaller_ones(fit):
    former = dict.fromkeys(fit.ranks_, 0)
    for ratio in np.linspace(fit.smallest_ratio_, 1, 40):
        ranks = fit._ranks_of(float(ratio))
        assert all(ranks[name] >= former[name] for name in ranks)
        former = ranks
    assert former == fit.ranks_ == {"0": 4, "2": 24, "4": 3}


def test_what_fit_leaves_behind(fit):
    assert fit.losses_.keys() == fit.importances_.keys() == fit.ranks_.keys()
    for name, rank in fit.ranks_.items():
        assert len(fit.importances_[name]) == rank and len(fit.losses_[name]) == rank + 1
    n_warm = 3
    assert len(fit.rank_history_) == 12 - n_warm
    assert len(fit.loss_curve_) == 12
    terms = np.array([fit.loss_terms_["whole"], fit.loss_terms_["small"]])
    assert np.isnan(terms[:, :n_warm]).all()
    np.testing.assert_allclose(terms[:, n_warm:].sum(axis=0), fit.loss_curve_[n_warm:], rtol=1e-6)


def test_a_size_needs_no_fit_and_training_does_not_depend_on_it(fit):
    other = MaestroClassifier(**SMALL, dtype="float64", ratio=0.4).fit(X, Y)
    again = copy.deepcopy(fit).set_params(ratio=0.4)
    np.testing.assert_array_equal(other.predict_proba(X), again.predict_proba(X))
    np.testing.assert_array_equal(
        other.set_params(ratio=1.0).predict_proba(X), fit.predict_proba(X)
    )
    loaded = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(loaded.predict_proba(X), again.predict_proba(X))


@pytest.mark.parametrize("sampling", ["pairs", "all"])
def test_the_papers_ways_to_draw_learn_too(sampling):
    model = MaestroClassifier(**{**SMALL, "max_iter": 20}, sampling=sampling, warmup_iter=0)
    model.fit(X, Y)
    assert model.score(X, Y) > 0.9
    assert model.set_params(ratio=0.7).score(X, Y) > 0.7
    assert len(model.rank_history_) == 20


def test_the_lasso_takes_ranks_and_at_last_everything():
    none = MaestroClassifier(**SMALL, threshold=0.0).fit(X, Y)
    assert none.rank_history_[-1] == none.rank_history_[0] == {"0": 4, "2": 24, "4": 3}
    some = MaestroClassifier(**{**SMALL, "max_iter": 30}, lasso=2.0).fit(X, Y)
    history = np.array([list(ranks.values()) for ranks in some.rank_history_])
    assert (np.diff(history, axis=0) <= 0).all()
    assert 0 < some.ranks_["2"] < 24 and some.score(X, Y) > 0.9
    assert n_parameters(some.export()) == some.n_params_ < n_parameters(none.export())
    all_of_it = MaestroClassifier(**SMALL, lasso=1e3).fit(X, Y)
    assert set(all_of_it.ranks_.values()) == {0}
    probabilities = all_of_it.predict_proba(X)
    assert np.isfinite(probabilities).all() and np.ptp(probabilities, axis=0).max() < 1e-12
    assert n_parameters(all_of_it.export()) == all_of_it.n_params_


def test_the_teacher_gets_no_gradient_from_the_small_network(fit):
    """The second term is the cross entropy with fixed answers of the whole network."""
    from sklr.neural_network._loop import TrainState

    module = copy.deepcopy(fit.module_)
    data, labels = torch.tensor(X), torch.tensor(Y)
    step = TrainState(module, data, labels, None, torch.device("cpu"), None, None, None, 150, 1)

    def gradients(loss):
        return torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)

    from sklr.nn import RankSampler

    step.memory.update(sampler=RankSampler(module.network, sampling=[{"2": 2}]), norms=[])
    found = gradients(fit._loss(module, data, labels, step))
    whole = nn.functional.cross_entropy(module(data), labels)
    target = module(data).softmax(dim=1).detach()
    with RankSampler(module.network, sampling=[{"2": 2}]):
        small = nn.functional.cross_entropy(module(data), target)
    for a, b in zip(found, gradients(whole + small)):
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
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 2),
    )  # fmt: skip


def test_convolutions_and_batch_normalisation():
    """Running statistics are those of the size that answers."""
    data, labels = images()
    fit = MaestroClassifier(convolutions, max_iter=12, learning_rate=0.01, random_state=0)
    fit.fit(data, labels)
    rows = {row["name"]: row for row in fit.report_}
    assert rows["3"]["status"] == "skipped" and "3 groups" in rows["3"]["reason"]
    assert fit.score(data, labels) > 0.9
    fit.set_params(ratio=0.85)
    small = fit.export()
    assert n_parameters(small) == fit.n_params_ < n_parameters(fit.export(1.0))
    seen = []
    small[1].register_forward_hook(lambda part, args, out: seen.append(args[0]))
    small.eval()(torch.tensor(data, dtype=torch.float32))
    mean = seen[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(small[1].running_mean, mean, rtol=1e-3, atol=1e-4)
    assert fit.score(data, labels) > 0.85
    for name in ("3", "nothing"):
        with pytest.raises(ValueError, match="groups|matches no layer"):
            clone(fit).set_params(targets=[name]).fit(data, labels)


def test_a_given_network_is_copied_and_exported_under_its_names():
    given = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3))
    before = copy.deepcopy(given.state_dict())
    fit = MaestroClassifier(given, max_iter=5, random_state=0, targets=["0"]).fit(X, Y)
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert fit.export(1.0).state_dict().keys() == before.keys()
    assert set(fit.export(0.7).state_dict()) == {
        "0.down.weight", "0.up.weight", "0.up.bias", "2.weight", "2.bias",
    }  # fmt: skip
    alone = MaestroClassifier(nn.Linear(4, 3), max_iter=5, random_state=0).fit(X, Y)
    assert alone.ranks_ == {"": 3} and alone.export(0.9).rank == 1


@pytest.mark.parametrize("factor, shift", [(1e-6, 0), (1e6, 0), (1, 1e3)])
def test_units_of_the_features_do_not_matter(fit, factor, shift):
    moved = X * factor * [1, 1e3, 1e-3, 1] + shift * factor
    other = MaestroClassifier(**SMALL, dtype="float64").fit(moved, Y)
    np.testing.assert_allclose(other.predict_proba(moved), fit.predict_proba(X), atol=1e-5)


def test_features_that_float32_cannot_tell_apart_are_warned_of():
    with pytest.warns(UserWarning, match="4 of 4 features are so far from 0"):
        MaestroClassifier(**SMALL).fit(X + 1e9, Y)


def test_partial_fit_goes_on_with_ordered_layers():
    model = MaestroClassifier(**{**SMALL, "batch_size": 16})
    for _ in range(8):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert model.n_iter_ == len(model.rank_history_) == 8
    assert model.score(X, Y) > 0.9
    assert model.set_params(ratio=0.5).score(X, Y) > 0.85
    with pytest.raises(ValueError, match="targets was None"):
        model.set_params(targets=["0"]).partial_fit(X, Y)


def test_early_stopping_and_a_callback_in_the_warm_up():
    model = MaestroClassifier(**{**SMALL, "max_iter": 60}, early_stopping=True, n_iter_no_change=3)
    model.fit(X, Y)
    assert model.n_iter_ < 60 and len(model.validation_scores_) == model.n_iter_

    class Stop:
        def on_epoch_end(self, estimator, info):
            return True

    stopped = MaestroClassifier(**SMALL, callbacks=[Stop()]).fit(X, Y)
    assert stopped.n_iter_ == 1 and stopped.rank_history_ == []
    assert stopped.set_params(ratio=0.5).predict(X).shape == (150,)


def test_files_of_weights_hold_every_size(fit, tmp_path):
    path = tmp_path / "weights.pt"
    fit.save_weights(path)
    other = MaestroClassifier(**{**SMALL, "max_iter": 2}, dtype="float64").fit(X, Y)
    other.load_weights(path)
    np.testing.assert_array_equal(other.predict_proba(X), fit.predict_proba(X))
    state = fit.module_.state_dict() | {"network.2._extra_state": torch.tensor([25])}
    torch.save(state, path)
    with pytest.raises(ValueError, match="is 25, no rank between 0 and 24"):
        other.load_weights(path)


def test_a_search_chooses_a_size_inside_a_pipeline():
    pipe = make_pipeline(StandardScaler(), MaestroClassifier(**{**SMALL, "max_iter": 20}))
    search = GridSearchCV(pipe, {"maestroclassifier__ratio": [0.3, 1.0]}, cv=2).fit(X, Y)
    assert search.best_score_ > 0.85


def test_wrong_sizes_and_epochs_are_refused(fit):
    fit = copy.deepcopy(fit)
    for ratio in (0, 1.5, 0.01, np.nan, "0.5", True):
        with pytest.raises(ValueError, match="ratio must be a number from 0.1.* to 1, got"):
            fit.set_params(ratio=ratio).predict(X)
    with pytest.raises(ValueError, match="the smallest size of this network"):
        MaestroClassifier(**SMALL, ratio=0.01).fit(X, Y)
    with pytest.raises(ValueError, match="warmup_iter=12 leaves no epoch of max_iter=12"):
        MaestroClassifier(**SMALL, warmup_iter=12).fit(X, Y)
    for name, value in [("lasso", -1), ("threshold", -1), ("sampling", "one"), ("ratio", 2)]:
        with pytest.raises(ValueError, match=f"The '{name}' parameter"):
            MaestroClassifier(**{name: value}).fit(X, Y)


def test_display_of_accuracy_against_size(fit):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra plot")
    _, ax = pyplot.subplots()
    display = SizeCurveDisplay.from_estimator(fit, X, Y, ratios=[1.0, 0.5, 0.3], ax=ax, name="iris")
    assert display.ax_ is ax and display.figure_ is ax.figure
    x, y = display.line_.get_data()
    assert list(x) == [n_parameters(fit.export(r)) for r in (0.3, 0.5, 1.0)]
    assert y[-1] == fit.score(X, Y)
    assert ax.get_legend().get_texts()[0].get_text() == "iris"
    curve = fit.size_curve(X, Y)
    assert len(curve["ratio"]) == 9 and fit.ratio == 1.0
    assert (np.diff(curve["n_params"]) >= 0).all()
    pyplot.close("all")
    with pytest.raises(TypeError, match="needs an estimator that serves several sizes"):
        SizeCurveDisplay.from_estimator(PerceptronClassifier(max_iter=1).fit(X, Y), X, Y)
