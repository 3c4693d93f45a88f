"""The alternative that the base was measured against: skorch's NeuralNet held inside.

A prototype for `bench_torch_base.py`, with the rules that it needs to pass scikit-learn's suite.
Training is skorch's: loop, batches, history, early stopping. Subclassing NeuralNet instead would
make its forty parameters those of the estimator.
"""

import copy

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from sklr._torch._device import resolve_device
from sklr._torch._rng import seeded


class Cast(nn.Module):
    """To float32; skorch hands over what it gets."""

    def forward(self, X):
        return X.float()


class WholeBatches:
    """Batches as slices of tensors: skorch's DataLoader collates samples one by one."""

    def __init__(self, dataset, batch_size, shuffle=False, generator=None):
        self.X = {name: torch.as_tensor(value) for name, value in dataset.X.items()}
        self.y = torch.as_tensor(dataset.y)
        self.batch_size, self.shuffle, self.generator = batch_size, shuffle, generator

    def __iter__(self):
        n = len(self.y)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        bounds = [*range(0, n, self.batch_size), n]
        if len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
            del bounds[-2]  # batch normalisation cannot take a batch of one
        for first, last in zip(bounds[:-1], bounds[1:]):
            rows = order[first:last]
            yield {name: value[rows] for name, value in self.X.items()}, self.y[rows]


class Finite(Callback):
    """skorch goes on with a loss that is no number."""

    def on_epoch_end(self, net, **kwargs):
        if not np.isfinite(net.history[-1, "train_loss"]):
            raise ValueError("the loss is not finite: lower learning_rate")


class Net(NeuralNet):
    """Several optimisers, weights of samples, and what skorch would swallow."""

    def initialize_optimizer(self, *args, **kwargs):
        self.optimizer_ = self.optimizers(self.module_)
        return self

    def infer(self, x, **kwargs):
        return self.module_(x["x"])

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss, weights = super().get_loss(y_pred, y_true, X, training), X["w"].to(self.device)
        return (loss * weights).sum() / weights.sum()

    def train_step(self, batch, **fit_params):
        for optimizer in self.optimizer_:
            optimizer.zero_grad(set_to_none=True)
        step = self.train_step_single(batch, **fit_params)
        for optimizer in self.optimizer_:
            optimizer.step()
        return step

    def train_loop(self, X, y):
        # NeuralNet.fit returns without a word on KeyboardInterrupt: call what is below it.
        self.notify("on_train_begin", X=X, y=y)
        self.fit_loop(X, y)
        self.notify("on_train_end", X=X, y=y)


class SkorchPerceptron(ClassifierMixin, BaseEstimator):
    """A perceptron with the manners of a scikit-learn classifier, trained by skorch."""

    _parameter_constraints: dict = {"iterator": [StrOptions({"loader", "whole"})]}

    def __init__(
        self, hidden_layer_sizes=(128,), learning_rate=0.05, max_iter=20, batch_size=64,
        dtype="float32", early_stopping=False, validation_fraction=0.1, n_iter_no_change=10,
        tol=1e-4, iterator="whole", device="auto", random_state=None, verbose=0,
    ):  # fmt: skip
        self.hidden_layer_sizes = hidden_layer_sizes
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.dtype = dtype
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.iterator = iterator
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _build(self, n_in, n_out):
        layers = []
        for size in self.hidden_layer_sizes:
            layers += [nn.Linear(n_in, size), nn.ReLU()]
            n_in = size
        return nn.Sequential(*layers, nn.Linear(n_in, n_out))

    def _optimizers(self, module):
        return [torch.optim.SGD(module.parameters(), self.learning_rate, momentum=0.9)]

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        before = dict(vars(self))
        try:
            return self._fit(X, y, sample_weight, X_val, y_val)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(self, X, y, sample_weight, X_val, y_val):
        X, y = validate_data(self, X, y, dtype=self.dtype)
        check_classification_targets(y)
        weights = np.ones(len(X), X.dtype)
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=X.dtype)
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("needs at least two classes, got 1 class")
        rng = check_random_state(self.random_state)
        seeds = [int(s) for s in rng.randint(np.iinfo(np.int32).max, size=3)]
        device = resolve_device(self.device)
        held = None
        if X_val is not None:
            X_val = validate_data(self, X_val, reset=False, dtype=self.dtype)
            codes_val = np.searchsorted(self.classes_, y_val)
            held = Dataset({"x": X_val, "w": np.ones(len(X_val), X.dtype)}, codes_val)
        elif self.early_stopping:
            parts = train_test_split(
                X, codes, weights, test_size=self.validation_fraction, stratify=codes,
                random_state=seeds[2],
            )  # fmt: skip
            X, X_val, codes, codes_val, weights, w_val = parts
            held = Dataset({"x": X_val, "w": w_val}, codes_val)
        options = {"iterator_train__shuffle": True}
        options["iterator_train__generator"] = torch.Generator().manual_seed(seeds[1])
        if self.iterator == "whole":
            options |= {"iterator_train": WholeBatches, "iterator_valid": WholeBatches}
        callbacks = [Finite()]
        if self.early_stopping:
            callbacks.append(
                EarlyStopping(patience=self.n_iter_no_change, threshold=self.tol, load_best=True)
            )
        with seeded(seeds[0], device):
            module = self._build(X.shape[1], len(self.classes_)).to(getattr(torch, self.dtype))
            net = Net(
                module,
                criterion=nn.CrossEntropyLoss,
                criterion__reduction="none",
                max_epochs=self.max_iter,
                batch_size=min(self.batch_size, len(X)),
                train_split=None if held is None else predefined_split(held),
                callbacks=callbacks,
                device=str(device),
                verbose=self.verbose,
                **options,
            )
            net.optimizers = self._optimizers
            net.initialize()
            net.train_loop({"x": X, "w": weights}, codes)
        self.module_ = net.module_.eval()
        self.history_ = net.history
        self.n_iter_ = len(net.history)
        return self

    def _scores(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype="float64")
        with torch.inference_mode():
            return copy.deepcopy(self.module_).cpu().double()(torch.tensor(X)).numpy()

    def decision_function(self, X):
        logits = self._scores(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X):
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X):
        return softmax(self._scores(X), axis=1)
