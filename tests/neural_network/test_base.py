"""The base of torch estimators, by a small classifier, transformer and clustering on it."""

import io
import os
import pickle
import warnings

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._batches import batch_bounds  # noqa: E402
from sklr._torch._modules import mlp, own_module  # noqa: E402
from sklr.neural_network import Checkpoint, GrassmannClassifier, ProgressPrinter  # noqa: E402
from sklr.neural_network._base import TorchEstimator, training_constraints  # noqa: E402
from sklr.neural_network._classifier import TorchClassifierMixin  # noqa: E402
from sklr.neural_network._loop import TrainState, batches, shuffled  # noqa: E402
from sklr.neural_network._transformer import TorchTransformerMixin  # noqa: E402

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cat"])


class Perceptron(TorchClassifierMixin, TorchEstimator):
    """The least that a subclass writes."""

    _parameter_constraints = training_constraints(
        "module", "learning_rate", "max_iter", "batch_size", "device", "random_state", "callbacks",
        "early_stopping", "validation_fraction", "n_iter_no_change", "tol", "verbose",
    )  # fmt: skip

    def __init__(
        self, module=None, learning_rate=0.05, max_iter=8, batch_size="auto", device="auto",
        random_state=None, callbacks=None, early_stopping=False, validation_fraction=0.2,
        n_iter_no_change=3, tol=1e-4, verbose=0, dropout=0.0,
    ):  # fmt: skip
        self.module = module
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.callbacks = callbacks
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.verbose = verbose
        self.dropout = dropout

    def _build(self, n_in, n_out):
        if self.module is not None:
            return own_module(self.module, n_in)
        return mlp(n_in, (16,), n_out, dropout=self.dropout)

    def _optimizers(self, module):
        return torch.optim.SGD(module.parameters(), self.learning_rate, momentum=0.9)

    def _allow_nd(self):
        return self.module is not None


class Shrink(TorchTransformerMixin, TorchEstimator):
    """A linear autoencoder's code; counts the hooks that are called."""

    _parameter_constraints = training_constraints("max_iter", "batch_size", "device")

    def __init__(self, max_iter=3, batch_size=32, random_state=None, device="cpu"):
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device

    def _build(self, n_in, n_out):
        return nn.ModuleDict({"code": nn.Linear(n_in, 2), "back": nn.Linear(2, n_in)})

    def _optimizers(self, module):
        return [torch.optim.Adam(part.parameters(), 0.01) for part in module.values()]

    def _begin(self, module, step):
        self.epochs_ = []

    def _epoch_begin(self, module, step):
        self.epochs_.append((step.epoch, step.rng.randint(1000)))

    def _loss(self, module, xb, yb, step):
        xb = xb + 0.01 * torch.randn(xb.shape, generator=step.generator)
        assert yb is None and (step.index is None or len(step.index) == len(xb))
        return (module["back"](module["code"](xb)) - xb).square().mean()

    def _embed(self, module, xb):
        return module["code"](xb)


class WholeBatches(Shrink):
    """Drops the last batch, which is smaller."""

    _drop_last = True

    def _loss(self, module, xb, yb, step):
        assert len(xb) == 50
        return super()._loss(module, xb, yb, step)


def same(a, b):
    states = a.module_.state_dict(), b.module_.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_same_seed_is_the_same_to_the_last_bit_and_global_generators_are_left_alone():
    estimator = Perceptron(random_state=3, dropout=0.5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = clone(estimator).fit(X, Y)
    torch.rand(5)
    second = clone(estimator).fit(X, Y)
    assert same(first, second)
    torch.set_rng_state(before[0])
    clone(estimator).fit(X, Y).predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert not same(first, clone(estimator).set_params(random_state=4).fit(X, Y))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_fits_in_workers_equal_fits_here(backend):
    """Dropout draws from the global generator: two threads must not draw from each other's."""
    estimator = GrassmannClassifier(2, max_iter=3, random_state=0)
    wanted = clone(estimator).fit(X, Y)
    fits = Parallel(n_jobs=2, backend=backend)(
        delayed(clone(estimator).fit)(X, Y) for _ in range(3)
    )
    assert all(same(fit, wanted) for fit in fits)


def test_workers_of_joblib_do_not_oversubscribe():
    threads = Parallel(n_jobs=2, backend="loky")(delayed(torch.get_num_threads)() for _ in range(2))
    assert max(threads) * 2 <= max(2, os.cpu_count())


def test_default_networks_score_in_float64_and_train_in_float32():
    fit = Perceptron(random_state=0).fit(X, Y)
    assert {p.dtype for p in fit.module_.parameters()} == {torch.float32}
    whole = fit.decision_function(X)
    assert whole.dtype == np.float64
    alone = np.vstack([fit.decision_function(row[None]) for row in X])
    np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-12)


def test_string_labels_probabilities_and_binary_scores():
    fit = Perceptron(random_state=0).fit(X, NAMES[Y])
    assert list(fit.classes_) == list(NAMES)
    np.testing.assert_allclose(fit.predict_proba(X).sum(axis=1), 1.0, atol=1e-12)
    assert fit.score(X, NAMES[Y]) > 0.6
    two = Perceptron(random_state=0).fit(X[Y < 2], Y[Y < 2])
    assert two.decision_function(X).shape == (120,)
    np.testing.assert_array_equal(two.predict(X), (two.decision_function(X) > 0).astype(int))


def test_early_stopping_keeps_the_best_weights():
    noisy = np.where(np.random.RandomState(0).rand(120) < 0.4, (Y + 1) % 3, Y)
    fit = Perceptron(
        max_iter=200, learning_rate=0.3, early_stopping=True, n_iter_no_change=5, random_state=0
    )
    fit.fit(X[:80], noisy[:80], X_val=X[80:], y_val=Y[80:])
    assert fit.n_iter_ < 200 and len(fit.loss_curve_) == fit.n_iter_
    assert len(fit.validation_scores_) == fit.n_iter_
    assert fit.score(X[80:], Y[80:]) == pytest.approx(max(fit.validation_scores_))
    own = clone(fit).fit(X, Y)
    assert own.validation_scores_ and own.n_iter_ <= 200


def test_validation_data_are_scored_without_early_stopping_and_checked():
    fit = Perceptron(random_state=0).fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert len(fit.validation_scores_) == fit.n_iter_ == 8
    assert same(fit, Perceptron(random_state=0).fit(X, Y))
    with pytest.raises(ValueError, match=r"y_val has labels .* \[7\]"):
        Perceptron().fit(X, Y, X_val=X[:2], y_val=[0, 7])
    with pytest.raises(ValueError, match="given together"):
        Perceptron().fit(X, Y, X_val=X[:2])
    with pytest.raises(ValueError, match="2 samples, y_val 3"):
        Perceptron().fit(X, Y, X_val=X[:2], y_val=[0, 1, 1])


def test_validation_data_go_through_a_pipeline_by_metadata_routing():
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        step = Perceptron(random_state=0).set_fit_request(X_val=True, y_val=True)
        pipe = make_pipeline(StandardScaler(), step)
        pipe.fit(X, Y, X_val=X[:20], y_val=Y[:20])
    assert len(pipe[-1].validation_scores_) == 8


def test_weights_are_repetitions_when_a_batch_holds_everything():
    rng = np.random.RandomState(0)
    weights = rng.randint(0, 4, size=60)
    classifier = GrassmannClassifier(
        2, dtype="float64", max_iter=10, batch_size=1000, random_state=0
    )
    weighted = clone(classifier).fit(X[:60], Y[:60], sample_weight=weights)
    repeated = clone(classifier).fit(np.repeat(X[:60], weights, 0), np.repeat(Y[:60], weights))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-9)
    with pytest.raises(ValueError, match="every sample of class .*0.* has weight 0"):
        clone(classifier).fit(X, Y, sample_weight=(Y == 1).astype(float))
    with pytest.raises(ValueError, match="non-zero"):
        clone(classifier).fit(X, Y, sample_weight=np.zeros(len(X)))


def test_partial_fit_goes_on_where_it_was_also_after_a_pickle():
    one = Perceptron(random_state=0)
    for _ in range(4):
        one.partial_fit(X, Y, classes=[0, 1, 2])
    two = Perceptron(random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    two = pickle.loads(pickle.dumps(two.partial_fit(X, Y)))
    two.partial_fit(X, Y).partial_fit(X, Y)
    assert same(one, two) and one.n_iter_ == 4 and one.loss_curve_ == two.loss_curve_
    assert one.loss_curve_[-1] < one.loss_curve_[0]
    with pytest.raises(ValueError, match="first call"):
        Perceptron().partial_fit(X, Y)
    with pytest.raises(ValueError, match="differ"):
        one.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="at least two"):
        Perceptron().partial_fit(X, Y, classes=[1])
    weights = {k: v.clone() for k, v in one.module_.state_dict().items()}
    one.learning_rate = 1e30
    one._optimizer_states = []
    with pytest.raises(ValueError, match="lower learning_rate"):
        one.partial_fit(X, Y).partial_fit(X, Y)
    assert all(bool(v.isfinite().all()) for v in one.module_.state_dict().values())
    assert weights.keys() == one.module_.state_dict().keys()


def test_a_loss_that_is_not_finite_is_an_error_with_advice():
    estimator = Perceptron(learning_rate=1e25, random_state=0)
    with pytest.raises(ValueError, match=r"the loss became .* in epoch .*lower learning_rate"):
        estimator.fit(X, Y)
    assert not hasattr(estimator, "module_") and not hasattr(estimator, "n_features_in_")


class Stop:
    def __init__(self, epoch, how):
        self.epoch, self.how, self.seen = epoch, how, []

    def on_fit_begin(self, estimator, info):
        self.seen.append("begin")

    def on_epoch_end(self, estimator, info):
        self.seen.append(info["epoch"])
        if info["epoch"] == self.epoch:
            if self.how is True:
                return True
            raise self.how

    def on_fit_end(self, estimator, info):
        self.seen.append("end")


def test_interrupt_leaves_the_former_fit_or_none():
    estimator = Perceptron(random_state=0, callbacks=[Stop(2, KeyboardInterrupt)])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert [name for name in vars(estimator) if name.endswith("_")] == []
    estimator.set_params(callbacks=None).fit(X, Y)
    assert same(estimator, Perceptron(random_state=0).fit(X, Y))
    wanted = estimator.predict_proba(X)
    estimator.set_params(callbacks=[Stop(2, KeyboardInterrupt)])
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X[:, :4], Y % 2)
    np.testing.assert_array_equal(estimator.predict_proba(X), wanted)
    assert torch.equal(torch.get_rng_state(), state)


def test_callbacks_are_called_and_may_stop(capsys):
    stop = Stop(3, True)
    fit = Perceptron(random_state=0, callbacks=[stop, ProgressPrinter(every=2)]).fit(X, Y)
    assert fit.n_iter_ == 3 and stop.seen == ["begin", 1, 2, 3, "end"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("Perceptron: epoch 2/8, loss")
    Perceptron(max_iter=2, verbose=2).fit(X, Y)
    assert len(capsys.readouterr().err.splitlines()) == 2
    Perceptron(max_iter=2, verbose=1).fit(X, Y)
    assert "Perceptron" in capsys.readouterr().err


def test_checkpoints_are_whole_files_and_load(tmp_path):
    template = tmp_path / "w-{epoch:02d}.pt"
    fit = Perceptron(random_state=0, callbacks=[Checkpoint(template, every=4)]).fit(X, Y)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w-04.pt", "w-08.pt"]
    wanted = fit.predict_proba(X)
    fit.load_weights(tmp_path / "w-04.pt")
    half = fit.predict_proba(X)
    assert not np.allclose(half, wanted)
    np.testing.assert_array_equal(fit.load_weights(tmp_path / "w-08.pt").predict_proba(X), wanted)
    with pytest.raises(ValueError, match="{epoch} or {pid}"):
        Checkpoint(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"may have \{epoch\} and \{pid\}"):
        Checkpoint(tmp_path / "{epoch}{secret}.pt")
    with pytest.raises(ValueError, match="labels must be of one kind, got NoneType and str in y"):
        Perceptron().fit(X[:4], np.array(["a", None, "b", "a"], dtype=object))
    with pytest.raises(ValueError, match="at least 1"):
        Checkpoint(template, every=0)
    with pytest.raises(ValueError, match="at least 1"):
        ProgressPrinter(every=0)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_damaged_foreign_and_malicious_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = Perceptron(random_state=0).fit(X, Y)
    fit.save_weights("good.pt")
    wanted = fit.predict_proba(X)
    data = (tmp_path / "good.pt").read_bytes()
    state = torch.load("good.pt", weights_only=True)
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious(), 2))
    torch.save({"0.weight": Malicious()}, "evil2.pt")
    torch.save([1, 2], "list.pt")
    for name in ("cut", "empty", "text", "evil", "evil2", "list"):
        with pytest.raises(ValueError, match=f"{name}.pt is refused"):
            fit.load_weights(f"{name}.pt")
    assert not (tmp_path / "pwned").exists()
    torch.save({**state, "more": torch.zeros(1)}, "more.pt")
    torch.save({**state, "0.bias": torch.zeros(3)}, "shape.pt")
    torch.save({**state, "0.bias": torch.full((16,), torch.nan)}, "nan.pt")
    for name, message in (("more", "not known"), ("shape", "has shape"), ("nan", "not finite")):
        with pytest.raises(ValueError, match=message):
            fit.load_weights(f"{name}.pt")
    with pytest.raises(FileNotFoundError):
        fit.load_weights("absent.pt")
    np.testing.assert_array_equal(fit.predict_proba(X), wanted)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_safetensors_where_installed(tmp_path):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    fit = Perceptron(random_state=0).fit(X, Y)
    fit.save_weights(tmp_path / "w.safetensors")
    other = Perceptron(random_state=1).fit(X, Y).load_weights(tmp_path / "w.safetensors")
    assert same(fit, other)


def test_a_given_module_is_copied_and_a_wrong_one_refused():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    fit = Perceptron(module, random_state=0).fit(X, Y)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert fit.score(X, Y) > 0.5
    assert Perceptron(lambda n: nn.Linear(n, 3), random_state=0).fit(X, Y).score(X, Y) > 0.5
    assert clone(Perceptron(module)).module is not module
    with pytest.raises(ValueError, match=r"returns shape \(2, 5\) .* \(n_samples, 3\)"):
        Perceptron(nn.Linear(6, 5)).fit(X, Y)
    with pytest.raises(ValueError, match=r"cannot take samples of shape \(6,\)"):
        Perceptron(nn.Linear(7, 3)).fit(X, Y)
    with pytest.raises(ValueError, match="returns tuple"):
        Perceptron(lambda n: nn.LSTM(n, 3)).fit(X, Y)
    with pytest.raises(TypeError, match="must return a torch.nn.Module"):
        Perceptron(lambda n: n).fit(X, Y)
    with pytest.raises(TypeError, match="called with 6, the number of features"):
        Perceptron(lambda: nn.Linear(6, 3)).fit(X, Y)


def test_images_by_a_callable_that_gets_their_shape():
    rng = np.random.RandomState(0)
    images = rng.standard_normal((60, 1, 8, 8)) + (np.arange(60) % 2)[:, None, None, None]
    labels = np.arange(60) % 2

    def network(shape):
        assert shape == (1, 8, 8)
        layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 2))

    fit = Perceptron(network, random_state=0, max_iter=15)
    fit.fit(images, labels)
    assert fit.score(images, labels) > 0.9 and fit.n_features_in_ == 1
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 7\).*\(1, 8, 8\)"):
        fit.predict(images[..., :7])
    # One sample alone in the last batch would break batch normalisation.
    fit.set_params(batch_size=59, max_iter=1).fit(images, labels)


@pytest.mark.parametrize(
    "n, size, drop, wanted",
    [
        (10, 4, False, [0, 4, 8, 10]),
        (9, 4, False, [0, 4, 9]),
        (10, 4, True, [0, 4, 8]),
        (3, 4, True, [0, 3]),
        (8, 4, True, [0, 4, 8]),
        (3, 1, False, [0, 1, 2, 3]),
        (1, 1, False, [0, 1]),
    ],
)
def test_batch_bounds(n, size, drop, wanted):
    assert batch_bounds(n, size, drop) == wanted


def test_transformer_calls_its_hooks_and_drops_the_last_batch_where_asked():
    fit = Shrink(random_state=0).fit(X)
    assert [epoch for epoch, _ in fit.epochs_] == [0, 1, 2]
    assert fit.transform(X).shape == (120, 2)
    assert list(fit.get_feature_names_out()) == ["shrink0", "shrink1"]
    again = Shrink(random_state=0).fit(X)
    assert same(fit, again) and fit.epochs_ == again.epochs_
    np.testing.assert_array_equal(fit.fit_transform(X), again.transform(X))
    assert len(Shrink(random_state=0).fit(X, X_val=X[:9]).validation_scores_) == 3
    assert WholeBatches(batch_size=50, random_state=0).fit(X).n_iter_ == 3


def test_pickles_hold_no_tensor_of_a_device_and_load_where_it_is_missing():
    fit = Perceptron(random_state=0).fit(X, Y)
    fit.device = "cuda:7"  # as if it came from a machine with eight of them
    stored = io.BytesIO(pickle.dumps(fit))
    loaded = pickle.load(stored)
    assert next(loaded.module_.parameters()).device.type == "cpu"
    np.testing.assert_array_equal(loaded.predict(X), fit.predict(X))
    with pytest.raises(ValueError, match="device='cuda:7' does not exist"):
        loaded.fit(X, Y)


def test_search_and_cross_validation_with_two_processes():
    search = GridSearchCV(Perceptron(random_state=0, max_iter=3), {"learning_rate": [1e-3, 0.1]})
    one = clone(search).fit(X, Y).cv_results_["mean_test_score"]
    two = clone(search).set_params(n_jobs=2).fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(one, two)
    assert cross_val_score(GrassmannClassifier(2, max_iter=4), X, Y, cv=2, n_jobs=2).shape == (2,)


class Once(Perceptron):
    """Its second step is interrupted when told so."""

    interrupted = False

    def _step(self, module, xb, yb, step):
        if self.interrupted and step.number == 1:
            raise KeyboardInterrupt
        return super()._step(module, xb, yb, step)


def test_interrupted_partial_fit_leaves_the_momentum_too():
    wanted = Once(random_state=0).partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    found = Once(random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    found.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        found.partial_fit(X, Y)
    found.interrupted = False
    assert same(found.partial_fit(X, Y), wanted)


def test_partial_fit_takes_the_learning_rate_that_is_set_now():
    one = Perceptron(random_state=0).partial_fit(X, Y, classes=[0, 1, 2])
    before = {name: value.clone() for name, value in one.module_.state_dict().items()}
    one.set_params(learning_rate=1e-12).partial_fit(X, Y)
    for name, value in one.module_.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-7)


class Rooted(nn.Module):
    """Its loss is finite where its gradient is not: a root at zero."""

    def __init__(self, n_in=6):
        super().__init__()
        self.linear = nn.Linear(n_in, 3)

    def forward(self, x):
        return self.linear(x) + (0 * self.linear(x)).square().sqrt()


def test_a_last_step_that_breaks_the_weights_is_refused():
    estimator = Perceptron(Rooted(), batch_size=len(X), max_iter=1, random_state=0)
    with pytest.raises(ValueError, match=r"linear.weight is not finite .*lower learning_rate"):
        estimator.fit(X, Y)
    with pytest.raises(ValueError, match="is not finite after the last step"):
        estimator.partial_fit(X, Y, classes=[0, 1, 2])
    assert not hasattr(estimator, "module_")


@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_labels_of_validation_data_as_a_column_are_scored_alike():
    wanted = Perceptron(random_state=0).fit(X, Y, X_val=X[:20], y_val=Y[:20])
    found = Perceptron(random_state=0).fit(X, Y, X_val=X[:20], y_val=Y[:20, None])
    assert found.validation_scores_ == wanted.validation_scores_
    with pytest.raises(ValueError, match="1d array"):
        Perceptron().fit(X, Y, X_val=X[:1], y_val=0)


def test_a_callback_may_say_true_by_numpy():
    class Low:
        def on_epoch_end(self, estimator, info):
            return np.mean([info["loss"]]) < np.inf

    assert Perceptron(random_state=0, callbacks=[Low()]).fit(X, Y).n_iter_ == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_weights_have_the_permissions_of_other_files(tmp_path):
    fit = Perceptron(max_iter=1, random_state=0).fit(X, Y)
    fit.save_weights(tmp_path / "weights.pt")
    (tmp_path / "plain").touch()
    assert (tmp_path / "weights.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_widths_of_layers_are_checked():
    for wrong in [(0,), (8.5,), (-3, 4), [[8]]]:
        with pytest.raises(ValueError, match="hidden_layer_sizes must be integers"):
            GrassmannClassifier(2, hidden_layer_sizes=wrong).fit(X, Y)
    assert len(mlp(3, np.array([4, 5]))) == 4


def test_batches_of_samples_and_targets_on_two_devices():
    # As where samples do not fit on the device: "meta" has shapes alone.
    rows = torch.arange(6)
    state = TrainState(
        module=None, X=torch.empty(6, 2), y=rows.to("meta"), weights=None,
        device=torch.device("meta"), generator=None, shuffle=torch.Generator(), rng=None,
        batch_size=3, n_epochs=1,
    )  # fmt: skip
    moved = []
    index_select = torch.Tensor.index_select

    def spy(self, dim, index):
        moved.append(self.device == index.device)
        return index_select(self, dim, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "index_select", spy)
        assert [len(yb) for _, yb in batches(state, shuffled(state))] == [3, 3]
    assert moved == [True] * 4


def test_a_callable_that_returns_one_network_carries_nothing_from_fit_to_fit():
    network = mlp(6, (8,), 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fits = [Perceptron(lambda n_in: network, random_state=0).fit(X, Y) for _ in range(2)]
    assert same(*fits)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_network_that_cannot_be_copied_may_come_from_a_callable():
    fit = Perceptron(lambda n: nn.utils.weight_norm(nn.Linear(n, 3)), random_state=0).fit(X, Y)
    assert fit.loss_curve_[-1] < fit.loss_curve_[0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fits_where_the_caller_has_gradients_off(mode):
    with mode():
        fit = Perceptron(random_state=0).fit(X, Y).partial_fit(X, Y)
        assert not torch.is_grad_enabled()
    assert same(fit, Perceptron(random_state=0).fit(X, Y).partial_fit(X, Y))


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda X: X + 500, "away from 0"),
        (lambda X: X * 0.01, "only .* from their mean"),
        (lambda X: X * [100, 100, 0.01, 0.01], "unequal units"),
        (lambda X: X * 1e6, "largest absolute value"),
    ],
)
def test_units_that_a_default_network_cannot_learn_from_are_told(change, what):
    X = np.random.default_rng(0).standard_normal((40, 4))
    y = np.arange(40) % 2
    classifier = GrassmannClassifier(1, hidden_layer_sizes=(), max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match=what + ".*StandardScaler"):
        classifier.fit(change(X), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for plain in (X, X + 3, 0.2 * X, 5 * X, np.abs(X), (X > 0) * 1.0):
            classifier.fit(plain, y)
