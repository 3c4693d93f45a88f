"""Mixins of the base: regression, labels for transformers, clusterings; hooks and parameters."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.utils.estimator_checks import parametrize_with_checks

torch = pytest.importorskip("torch", reason="needs the extra torch")

from torch import nn  # noqa: E402

from sklr._torch._modules import mlp, own_module  # noqa: E402
from sklr.neural_network import MMCR, GrassmannClassifier, ManifoldLinearizingClustering  # noqa: E402
from sklr.neural_network._base import (  # noqa: E402
    TorchEstimator,
    cosine_factor,
    training_constraints,
)
from sklr.neural_network._classifier import TorchClassifierMixin  # noqa: E402
from sklr.neural_network._cluster import TorchClusterMixin  # noqa: E402
from sklr.neural_network._loop import Stage  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.neural_network._regressor import TorchRegressorMixin  # noqa: E402
from sklr.neural_network._solvers import SOLVERS, make_optimizer  # noqa: E402
from sklr.neural_network._transformer import TorchSupervisedTransformerMixin  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 4))
Y = X @ [1.0, -2.0, 0.0, 0.5] + 0.1 * RNG.standard_normal(80)


class Regressor(TorchRegressorMixin, TorchEstimator):
    """A perceptron; it leaves out what has defaults."""

    _parameter_constraints = training_constraints(
        "module", "learning_rate", "max_iter", "batch_size", "early_stopping", "dtype",
        "random_state",
    )  # fmt: skip

    def __init__(
        self, module=None, learning_rate=0.02, max_iter=60, batch_size="auto",
        early_stopping=False, dtype="auto", random_state=None,
    ):  # fmt: skip
        self.module = module
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.dtype = dtype
        self.random_state = random_state

    def _build(self, n_in, n_out):
        if self.module is not None:
            return own_module(self.module, n_in)
        return mlp(n_in, (16,), int(np.prod(n_out)))

    def _allow_nd(self):
        return self.module is not None

    def _check_module(self, module, X, n_out):
        if self.module is not None:
            super()._check_module(module, X, n_out)


@parametrize_with_checks([Regressor(max_iter=15, dtype="float64", batch_size=1000, random_state=0)])
def test_a_regressor_passes_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 2), (2, 3, 2)])
def test_targets_of_any_shape_come_back_in_their_shape_and_units(shape):
    loads = RNG.standard_normal((4, int(np.prod(shape))))
    y = (X @ loads).reshape(80, *shape)
    fit = Regressor(random_state=0).fit(X, y)
    assert fit.predict(X).shape == y.shape
    assert fit.score(X, y) > 0.9
    moved = Regressor(random_state=0).fit(X, 1e-6 * y + 3.0)
    np.testing.assert_allclose((moved.predict(X) - 3.0) * 1e6, fit.predict(X), atol=1e-4)
    far = Regressor(random_state=0).fit(X, y + 1e9)
    np.testing.assert_allclose(far.predict(X) - 1e9, fit.predict(X), atol=1e-3)


def test_each_of_several_targets_has_its_own_units_and_a_constant_one_is_returned():
    y = np.c_[1e8 * Y, 1e-8 * Y, np.full(80, 7.1)]
    fit = Regressor(random_state=0).fit(X, y)
    found = fit.predict(X)
    for k in range(2):
        assert np.corrcoef(found[:, k], y[:, k])[0, 1] > 0.95
    np.testing.assert_allclose(found[:, 2], 7.1, atol=0.5)
    for scale in (1e-200, 1e200):  # squares neither vanish nor overflow
        assert Regressor(random_state=0).fit(X, scale * Y).score(X, Y * scale) > 0.9


def test_integer_targets_are_numbers_also_for_early_stopping():
    y = (10 * X[:, 0]).round().astype(int)
    fit = Regressor(early_stopping=True, random_state=0).fit(X, y)
    assert fit.score(X, y) > 0.8 and len(fit.validation_scores_) == fit.n_iter_


def test_validation_scores_are_r2_of_predictions():
    fit = Regressor(max_iter=5, dtype="float64", random_state=0)
    fit.fit(X[:60], Y[:60], X_val=X[60:], y_val=Y[60:])
    assert fit.validation_scores_[-1] == pytest.approx(fit.score(X[60:], Y[60:]), abs=1e-9)
    with pytest.raises(ValueError, match="one has no R2"):
        fit.fit(X, Y, X_val=X[:1], y_val=Y[:1])
    with pytest.raises(ValueError, match=r"y_val has targets of shape \(2,\)"):
        fit.fit(X, Y, X_val=X[:4], y_val=np.ones((4, 2)))


def test_weights_are_repetitions_when_a_batch_holds_everything():
    weights = RNG.integers(0, 4, size=80)
    model = Regressor(max_iter=8, dtype="float64", batch_size=1000, random_state=0)
    weighted = clone(model).fit(X, Y, sample_weight=weights)
    repeated = clone(model).fit(np.repeat(X, weights, 0), np.repeat(Y, weights))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-9)
    fields = np.stack([Y, Y**2], 1)[:, None, :]
    weighted = clone(model).fit(X, fields, sample_weight=weights)
    repeated = clone(model).fit(np.repeat(X, weights, 0), np.repeat(fields, weights, 0))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), atol=1e-9)
    assert weighted.score(X, fields, weights) == pytest.approx(
        weighted.score(np.repeat(X, weights, 0), np.repeat(fields, weights, 0))
    )


def test_partial_fit_of_a_regressor_goes_on_and_keeps_its_units():
    one = Regressor(random_state=0)
    for _ in range(3):
        one.partial_fit(X, Y)
    two = pickle.loads(pickle.dumps(Regressor(random_state=0).partial_fit(X, Y)))
    two.partial_fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    assert one.loss_curve_ == two.loss_curve_ and len(one.loss_curve_) == 3
    with pytest.raises(ValueError, match=r"y has targets of shape \(2,\)"):
        one.partial_fit(X, np.c_[Y, Y])


def test_wrong_targets_and_networks_are_refused():
    with pytest.raises(ValueError, match="requires y to be passed"):
        Regressor().fit(X, None)
    with pytest.raises(ValueError, match="[Ii]nput y contains NaN"):
        Regressor().fit(X, np.full(80, np.nan))
    with pytest.raises(ValueError, match=r"returns shape \(2, 5\) .*targets want \(2,\)"):
        Regressor(nn.Linear(4, 5)).fit(X, Y)
    with pytest.raises(ValueError, match="could not convert string"):
        Regressor().fit(X, np.array(["a"] * 80, dtype=object))


# Token ids.


def test_integers_stay_integers_where_the_network_takes_them():
    tokens = np.random.default_rng(0).integers(0, 7, (60, 5))
    y = (tokens == 3).sum(axis=1).astype(float)
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 1))
    for given in (tokens, tokens.tolist(), tokens.astype(float)):
        if isinstance(given, np.ndarray) and given.dtype.kind == "f":
            with pytest.raises(ValueError, match="cannot take samples"):
                Regressor(network).fit(given, y)
            continue
        fit = Regressor(network, max_iter=3, random_state=0)
        fit.fit(given, y, X_val=tokens[:9].astype(float), y_val=y[:9])
        np.testing.assert_array_equal(fit.predict(given), fit.predict(tokens.astype(float)))
    with pytest.raises(ValueError, match="X has fractions"):
        fit.predict(tokens + 0.5)
    labels = GrassmannClassifier(2, module=network[:2], max_iter=2, random_state=0)
    assert labels.fit(tokens, y > 0).predict(tokens).shape == (60,)


def test_integers_become_numbers_where_the_network_takes_no_integers():
    whole = np.random.default_rng(0).integers(-5, 5, (60, 4))
    network = nn.Linear(4, 1)
    fits = [
        Regressor(network, max_iter=2, random_state=0).fit(given, whole[:, 0])
        for given in (whole, whole.astype(float))
    ]
    np.testing.assert_array_equal(fits[0].predict(whole), fits[1].predict(whole))
    fits[0].predict(whole + 0.5)


def test_a_given_network_keeps_its_precision():
    double = Regressor(nn.Linear(4, 1).double(), max_iter=1).fit(X, Y)
    assert next(double.module_.parameters()).dtype == torch.float64
    single = Regressor(nn.Linear(4, 1), max_iter=1).fit(X, Y)
    assert next(single.module_.parameters()).dtype == torch.float32
    half = Regressor(nn.Linear(4, 1).bfloat16(), max_iter=1).fit(X, Y)
    assert next(half.module_.parameters()).dtype == torch.float32


# Transformers with labels, clusterings.


class Contrast(TorchSupervisedTransformerMixin, TorchEstimator):
    """Features in which classes lie apart."""

    def __init__(self, n_components=2, max_iter=30, learning_rate=0.02, random_state=None):
        self.n_components = n_components
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.random_state = random_state

    _parameter_constraints = {
        "n_components": [int],
        **training_constraints("max_iter", "learning_rate", "random_state"),
    }

    def _build(self, n_in, n_out):
        return nn.ModuleDict(
            {
                "code": mlp(n_in, (8,), self.n_components),
                "head": nn.Linear(self.n_components, n_out),
            }
        )

    def _embed(self, module, xb):
        return module["code"](xb)

    def _loss(self, module, xb, yb, step):
        return nn.functional.cross_entropy(module["head"](module["code"](xb)), yb)


@parametrize_with_checks([Contrast(max_iter=3, random_state=0)])
def test_a_transformer_with_labels_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def test_a_transformer_with_labels_learns_from_them():
    labels = np.where(Y > 0, "up", "down")
    fit = Contrast(random_state=0).fit(X, labels, X_val=X[:9], y_val=labels[:9])
    assert list(fit.classes_) == ["down", "up"] and len(fit.validation_scores_) == 30
    Z = fit.transform(X)
    gap = Z[labels == "up"].mean(axis=0) - Z[labels == "down"].mean(axis=0)
    side = Z @ gap > np.median(Z @ gap)
    assert (side == (labels == "up")).mean() > 0.9
    more = Contrast(random_state=0)
    for _ in range(2):
        more.partial_fit(X, labels, classes=["down", "up"])
    assert more.n_iter_ == 2
    with pytest.raises(ValueError, match="labels that are not among"):
        more.partial_fit(X, np.full(80, "left"))


class Halves(TorchClusterMixin, TorchEstimator):
    """Two clusters by the sign of a feature that is learnt to have large spread."""

    _parameter_constraints = training_constraints("max_iter", "batch_size", "random_state")

    def __init__(self, max_iter=5, batch_size="auto", random_state=None):
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state

    def _build(self, n_in, n_out):
        return nn.Linear(n_in, 1)

    def _loss(self, module, xb, yb, step):
        return -module(xb).var() / (1 + module.weight.square().sum())

    def _assign(self, X):
        return (self._infer(X, lambda m, xb: m(xb))[:, 0] > 0).astype(int)


def test_a_clustering_labels_its_samples_and_others():
    fit = Halves(random_state=0)
    labels = fit.fit_predict(X)
    np.testing.assert_array_equal(labels, fit.predict(X))
    assert set(labels) == {0, 1}


# Hooks.


class Staged(TorchClassifierMixin, TorchEstimator):
    """Two stages with losses, optimisers and schedules of their own, and own batches."""

    _parameter_constraints = training_constraints("max_iter", "early_stopping", "random_state")

    def __init__(self, warmup_iter=2, max_iter=3, early_stopping=False, random_state=None):
        self.warmup_iter = warmup_iter
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.random_state = random_state

    def _prepare(self, X, y):
        self.calls_ = [("prepare", X.shape, int(y.max()))]
        self.factors_ = {"warm": [], "main": []}

    def _build(self, n_in, n_out):
        self.calls_.append(("build",))
        return nn.Linear(n_in, n_out)

    def _begin(self, module, step):
        self.calls_.append(("begin", step.n_epochs))

    def _stages(self):
        def warm(module):
            self.calls_.append(("optimizers", "warm"))
            return torch.optim.SGD(module.parameters(), 0.1)

        return [
            Stage(self.warmup_iter, "warm", optimizers=warm, loss=self._warm_loss),
            Stage(self.max_iter, "main", begin=lambda m, s: self.calls_.append(("main", s.epoch))),
        ]

    def _warm_loss(self, module, xb, yb, step):
        step.log("size", module(xb).square().mean())
        return module(xb).square().mean()

    def _loss(self, module, xb, yb, step):
        loss = super()._loss(module, xb, yb, step)
        step.log("entropy", loss)
        return loss

    def _learning_rate_factor(self, step):
        factor = cosine_factor(step)
        if factor is not None:
            self.factors_[step.stage.name].append(factor)
        return factor

    def _batches(self, step):
        """As many samples of each class in each batch."""
        rows = [torch.nonzero(step.y == c)[:, 0] for c in range(3)]
        for _ in range(self._n_batches(step)):
            yield torch.cat([r[torch.randint(len(r), (4,), generator=step.shuffle)] for r in rows])

    def _n_batches(self, step):
        return 5


XC, YC = make_classification(90, 6, n_informative=4, n_classes=3, random_state=0)


def test_hooks_are_called_in_their_order_and_schedules_end_with_their_stage():
    fit = Staged(random_state=0).fit(XC, YC)
    assert fit.calls_ == [
        ("prepare", (90, 6), 2), ("build",), ("begin", 5), ("optimizers", "warm"), ("main", 1),
    ]  # fmt: skip
    for factors, n_epochs in ((fit.factors_["warm"], 2), (fit.factors_["main"], 3)):
        assert len(factors) == 5 * n_epochs and factors[0] == 1.0
        wanted = 0.5 * (1 + np.cos(np.pi * (1 - 1 / len(factors))))
        assert factors[-1] == pytest.approx(wanted)
    assert fit.n_iter_ == 5


def test_named_terms_of_the_loss_are_means_of_epochs():
    seen = []

    class Watch:
        def on_epoch_end(self, estimator, info):
            seen.append(dict(info["loss_terms"]))

    class Watched(Staged):
        _training = property(lambda self: _with_callbacks(Staged._training.fget(self), [Watch()]))

    fit = Watched(random_state=0).fit(XC, YC, X_val=XC[:9], y_val=YC[:9])
    assert set(fit.loss_terms_) == {"size", "entropy"}
    np.testing.assert_array_equal(np.isnan(fit.loss_terms_["size"]), [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(np.isnan(fit.loss_terms_["entropy"]), [1, 1, 0, 0, 0])
    np.testing.assert_allclose(fit.loss_terms_["size"][:2], fit.loss_curve_[:2], rtol=1e-6)
    np.testing.assert_allclose(fit.loss_terms_["entropy"][2:], fit.loss_curve_[2:], rtol=1e-6)
    assert [len(terms) for terms in seen] == [1, 1, 2, 2, 2]
    more = Staged(random_state=0).partial_fit(XC, YC, classes=[0, 1, 2]).partial_fit(XC, YC)
    assert set(more.loss_terms_) == {"entropy"} and len(more.loss_terms_["entropy"]) == 2
    assert not hasattr(GrassmannClassifier(2, max_iter=1).fit(XC, YC), "loss_terms_")


def _with_callbacks(training, callbacks):
    import dataclasses

    return dataclasses.replace(training, callbacks=callbacks)


def test_each_stage_has_patience_of_its_own():
    class Still(Staged):
        def _validation_score(self, module, X, y, step):
            return 0.0

    model = Still(warmup_iter=30, max_iter=30, early_stopping=True, random_state=0)
    fit = model.fit(XC, YC)
    assert fit.n_iter_ == 2 * 11 and len(fit.validation_scores_) == 22


def test_batches_of_ones_own_that_are_none_are_named():
    class Empty(Staged):
        def _batches(self, step):
            return iter(())

    with pytest.raises(ValueError, match="Empty made no batch of 90 samples"):
        Empty().fit(XC, YC)


# Parameters.


def test_a_misspelt_training_parameter_is_an_error_when_the_class_is_made():
    for name, meant in [
        ("early_stop", "early_stopping"), ("max_epochs", "max_iter"), ("patience", "n_iter_no"),
        ("batchsize", "batch_size"), ("lr", "learning_rate"), ("optimizer", "solver"),
    ]:  # fmt: skip
        with pytest.raises(TypeError, match=f"parameter '{name}'; '{meant}"):
            namespace = {}
            exec(f"def __init__(self, {name}=1): pass", namespace)
            type("Misspelt", (TorchEstimator,), {"__init__": namespace["__init__"]})
    with pytest.raises(ValueError, match="no training parameter 'early_stop'; 'early_stopping'"):
        training_constraints("early_stop")


def test_optimisers_by_name():
    network = nn.Linear(2, 2)
    kinds = {name: make_optimizer(name, network.parameters(), lr=0.1) for name in SOLVERS}
    names = {k: type(v).__name__.lower() for k, v in kinds.items()}
    assert names == {k: k.replace("_", "") for k in SOLVERS}
    assert kinds["sgd"].defaults["momentum"] == 0.9
    assert kinds["trion"].defaults["aux_lr"] == 0.1
    with pytest.raises(ValueError, match="solver must be one of adam, .*, trion, got 'lion'"):
        make_optimizer("lion", network.parameters(), lr=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_plain_classifier_learns_with_each_solver(solver):
    rate = {"sgd": 0.1, "trion": 0.05, "mfac": 0.05}.get(solver, 0.01)
    fit = PerceptronClassifier(solver=solver, learning_rate=rate, max_iter=30, random_state=0)
    assert fit.fit(XC, YC).score(XC, YC) > 0.8


@parametrize_with_checks(
    [
        PerceptronClassifier(
            learning_rate=0.02, max_iter=4, batch_size=512, dtype="float64", random_state=0
        )
    ]
)
def test_the_plain_classifier_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def test_partial_fit_refuses_parameters_that_it_would_ignore():
    fit = GrassmannClassifier(2, random_state=0).partial_fit(XC, YC, classes=[0, 1, 2])
    fit.set_params(learning_rate=0.01, batch_size=20, class_weight="balanced").partial_fit(XC, YC)
    for name, value in (("n_components", 3), ("hidden_layer_sizes", (5,)), ("solver", "adamw"),
                        ("module", nn.Linear(6, 5))):  # fmt: skip
        changed = clone(fit).partial_fit(XC, YC, classes=[0, 1, 2]).set_params(**{name: value})
        with pytest.raises(ValueError, match=f"{name} was .* is .* now: partial_fit goes on"):
            changed.partial_fit(XC, YC)
    with pytest.raises(ValueError, match="partial_fit has no early stopping"):
        fit.set_params(early_stopping=True).partial_fit(XC, YC)


def test_the_network_is_made_from_the_parameters_that_are_declared(torch_case):
    """Or partial_fit would ignore a changed one in silence."""
    estimator, samples, labels = torch_case
    read = set()
    names = set(estimator.get_params(deep=False))

    class Spied(type(estimator)):
        spying = False

        def __getattribute__(self, name):
            if object.__getattribute__(self, "__dict__").get("spying") and name in names:
                read.add(name)
            return super().__getattribute__(name)

        def _prepare(self, X, y):
            self.spying = True
            super()._prepare(X, y)
            self.spying = False

        def _build(self, n_in, n_out):
            self.spying = True
            network = super()._build(n_in, n_out)
            self.spying = False
            return network

    fit = Spied(**estimator.get_params(deep=False)).fit(samples, labels)
    allowed = {*fit._structure(), *fit._renamed, *getattr(fit, "_served_parameters", ())}
    assert read <= allowed, f"add to _network_parameters: {sorted(read - allowed)}"


@pytest.mark.parametrize(
    "model, former, now",
    [
        (MMCR(4, projector=(4,), max_iter=1, batch_size=40), "encoder", "module"),
        (ManifoldLinearizingClustering(2, 4, warmup_iter=1, max_iter=1), "backbone", "module"),
    ],
)
def test_former_names_of_the_network_work_with_a_warning(model, former, now):
    network = nn.Linear(4, 5)
    model.set_params(random_state=0)
    wanted = clone(model).set_params(**{now: network}).fit(X)
    with pytest.warns(FutureWarning, match=f"parameter {former} .* is called {now} now"):
        found = clone(model).set_params(**{former: network}).fit(X)
    np.testing.assert_array_equal(found.transform(X), wanted.transform(X))
    with pytest.raises(ValueError, match=f"{former} is the former name of {now}"):
        clone(model).set_params(**{former: network, now: network}).fit(X)


def test_the_former_momentum_of_the_moving_average_works_with_a_warning():
    model = MMCR(4, projector=(4,), max_iter=1, batch_size=40, n_views=1, random_state=0)
    wanted = clone(model).set_params(ema_decay=0.5).fit(X)
    with pytest.warns(FutureWarning, match="parameter momentum of MMCR is called ema_decay now"):
        found = clone(model).set_params(momentum=0.5).fit(X)
    np.testing.assert_array_equal(found.transform(X), wanted.transform(X))
