"""The base of estimators with a network inside: a subclass writes the network and its loss.

A subclass names its parameters in ``__init__``, takes a mixin that says the task
(``TorchClassifierMixin``, ``TorchRegressorMixin``, ``TorchTransformerMixin``,
``TorchSupervisedTransformerMixin``, ``TorchClusterMixin``, each in a file of its own) and writes

- ``_build(n_in, n_out)``: the network, inside a seeded block; `n_in` is the number of features, or
  the shape of a sample of more dimensions; `n_out` the number of classes or of targets, or the
  shape of a target of more dimensions;
- ``_loss(module, xb, yb, step)``, where the mixin's does not serve: of each sample (then weights
  work) or of the batch; `step` is the :class:`~sklr.neural_network._loop.TrainState`.

All else has a default: the hooks below, and the training parameters in ``_parameters.Training``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from sklr._torch._batches import batch_bounds, in_chunks
from sklr._torch._device import mixed_precision, plain_defaults, resolve_device
from sklr._torch._rng import derive_seeds, seeded
from sklr.neural_network._input import NetworkInput, as_integers
from sklr.neural_network._loop import (
    Stage,
    TrainState,
    begin_stage,
    mean_loss,
    require_finite_weights,
    run_epoch,
    shuffled,
    train,
)
from sklr.neural_network._parameters import training_constraints
from sklr.neural_network._solvers import make_optimizer
from sklr.utils._imports import import_optional

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["TorchEstimator", "cosine_factor", "onecycle_factor", "training_constraints"]
# One-cycle schedule: share of the rise, and the first rate below the highest.
_RISE, _FIRST = 0.3, 1 / 25


class TorchEstimator(NetworkInput):
    """Base of all: input, building, training, inference."""

    # What the mixin says: "classification" or "regression"; None has no targets.
    _task: str | None = None
    # Samples of a batch where batch_size is "auto", at most.
    _auto_batch_size = 64
    # Whether a last batch that is too small is left out.
    _drop_last = False
    # torch's optimisers import it, and it adds warning filters: no fault of a fit.
    _imports_first = ("torch._dynamo",)

    # What a subclass writes.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        raise NotImplementedError

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        raise NotImplementedError

    # Hooks: what a subclass may write.

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        """Measure what the network or its views need from the data, before it is built."""

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        """Do what comes at the begin of a fit, and of each ``partial_fit`` (``step.memory``)."""

    def _stages(self) -> list[Stage]:
        """Return the stages of a fit; ``partial_fit`` makes an epoch of the last one."""
        return [Stage(self._training.max_iter)]

    def _optimizers(self, module: nn.Module) -> Any:
        """Return one optimiser, or a list: by the parameter ``solver``."""
        t = self._training
        trained = [p for p in module.parameters() if p.requires_grad]
        return make_optimizer(
            t.solver, trained, lr=t.learning_rate, momentum=t.momentum, weight_decay=t.weight_decay
        )

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        """Return what every first learning rate is multiplied by, or None to leave them."""
        return None

    def _epoch_begin(self, module: nn.Module, step: TrainState) -> None:
        """Do what comes before an epoch (new cluster assignments, a new weight of a term)."""

    def _batches(self, step: TrainState) -> Iterable[Any]:
        """Yield the rows in ``step.X`` of each batch of an epoch; `_n_batches` says how many."""
        return shuffled(step)

    def _n_batches(self, step: TrainState) -> int:
        """Return the number of batches of an epoch, on which schedules stand."""
        return len(batch_bounds(len(step.X), step.batch_size, step.drop_last)) - 1

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        """Make one step of all optimisers and return the loss, detached."""
        for optimizer in step.optimizers:
            optimizer.zero_grad(set_to_none=True)
        with mixed_precision(step.device):
            value = (step.stage.loss or self._loss)(module, xb, yb, step)
            loss = mean_loss(value, step.batch_weights)
        loss.backward()
        for optimizer in step.optimizers:
            optimizer.step()
        return loss.detach()

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return what early stopping maximises: minus the loss, by default."""
        import torch

        def loss(network: nn.Module, xb: Tensor, rows: slice) -> Tensor:
            yb = None if y is None else y[rows].to(step.device)
            value = (step.stage.loss or self._loss)(network, xb, yb, step)
            return value.reshape(-1) if value.ndim else value.expand(len(xb))

        step.index = step.batch_weights = None  # these rows are not in step.X
        with torch.no_grad():
            return -float(in_chunks(module, X, loss, step.device).mean())

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        """Check a new network on the few samples `X` before training."""

    # Training.

    def _torch(self) -> Any:
        return import_optional("torch", extra="torch", feature=type(self).__name__)

    @contextmanager
    def _ready_to_train(self) -> Iterator[None]:
        """Check the callbacks; make gradients on, and tensors on the CPU, inside.

        The caller may be under ``no_grad``, ``inference_mode``, a default device or a default
        dtype. What a failed fit leaves is the business of `fit_context`.
        """
        torch = self._torch()
        self._warn_of_former_names()
        _check_callbacks(self._training.callbacks)
        with torch.inference_mode(False), torch.enable_grad(), plain_defaults():
            yield

    def _fit_network(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        n_out: Any = None,
        weights: np.ndarray | None = None,
        validation: tuple[Any, Any] | None = None,
    ) -> TrainState:
        """Build a network, train it on validated arrays, and set the fitted attributes."""
        self._draw_seed()
        if self._training.early_stopping and validation is None:
            X, y, weights, validation = self._split(X, y, weights)
        device = resolve_device(self._training.device)
        init_seed, loop_seed, *others = derive_seeds(self._seed, 0, 5)
        module = self._new_module(X, y, n_out, init_seed, device)
        stages = self._stages()
        n_epochs = sum(stage.n_epochs for stage in stages)
        state = self._new_state(module, X, y, weights, device, others, n_epochs)
        tensors = None
        if validation is not None:
            tensors = self._samples(validation[0], device), self._tensor(validation[1], device)
        with seeded(loop_seed, device):
            self._begin(module, state)
            train(self, state, stages, tensors)
        require_finite_weights(module, state)
        self.module_ = module.eval()
        self.n_iter_ = len(state.loss_curve)
        self.loss_curve_ = state.loss_curve
        if validation is not None:
            self.validation_scores_ = state.validation_scores
        if state.loss_terms:
            self.loss_terms_ = state.loss_terms
        return state

    def _fit_one_epoch(
        self,
        X: np.ndarray,
        y: np.ndarray | None = None,
        *,
        n_out: Any = None,
        weights: np.ndarray | None = None,
    ) -> None:
        """Train for one more epoch, the first on a new network; a failure undoes it."""
        first = not hasattr(self, "module_")
        if self._training.early_stopping:
            raise ValueError(
                "partial_fit has no early stopping: set early_stopping=False, or call fit"
            )
        if not first:
            self._refuse_changed_parameters()
        saved = None if first else {k: v.clone() for k, v in self.module_.state_dict().items()}
        try:
            self._one_epoch(X, y, n_out, weights, first)
        except BaseException:
            if saved is not None:
                self.module_.load_state_dict(saved)
                self.module_.eval()
            raise

    def _one_epoch(self, X: np.ndarray, y: Any, n_out: Any, weights: Any, first: bool) -> None:
        device = resolve_device(self._training.device)
        if first:
            self._draw_seed()
            module = self._new_module(X, y, n_out, derive_seeds(self._seed, 0, 1)[0], device)
            n_iter, curve, terms = 0, [], {}
        else:
            module = self.module_.to(device)
            n_iter, curve = self.n_iter_, self.loss_curve_
            terms = {k: [*v] for k, v in getattr(self, "loss_terms_", {}).items()}
        loop_seed, *others = derive_seeds(self._seed, 2 + n_iter, 4)
        state = self._new_state(module, X, y, weights, device, others, n_epochs=None)
        state.loss_curve, state.loss_terms = [*curve], terms
        with seeded(loop_seed, device):
            self._begin(module, state)
            begin_stage(self, state, self._stages()[-1])
            self._go_on_with_optimizers(state)
            loss = run_epoch(self, state)
        require_finite_weights(module, state)
        self._optimizer_states = [optimizer.state_dict() for optimizer in state.optimizers]
        self.module_ = module.eval()
        self.n_iter_ = n_iter + 1
        self.loss_curve_ = [*curve, loss]
        if terms:
            self.loss_terms_ = terms

    def _go_on_with_optimizers(self, state: TrainState) -> None:
        for optimizer, former in zip(state.optimizers, getattr(self, "_optimizer_states", ())):
            # A copy: steps change momentum in place, and a failure must find it as it was. What is
            # a parameter of the estimator (learning rates) may have been changed since.
            given = [
                {name: value for name, value in group.items() if name != "params"}
                for group in optimizer.param_groups
            ]
            optimizer.load_state_dict(copy.deepcopy(former))
            for group, options in zip(optimizer.param_groups, given):
                group.update(options)

    def _draw_seed(self) -> None:
        rng = check_random_state(self._training.random_state)
        self._seed = int(rng.randint(np.iinfo(np.int32).max))

    def _new_module(
        self, X: np.ndarray, y: np.ndarray | None, n_out: Any, seed: int, device: torch.device
    ) -> nn.Module:
        """Build the network on the CPU, so that its first weights are the same everywhere."""
        import torch

        self._sample_shape = X.shape[1:]
        self._made_with = self._structure()
        self._warn_of_units(X)
        self._prepare(X, y)
        n_in = X.shape[1] if X.ndim == 2 else X.shape[1:]
        dtype = getattr(torch, self._dtypes()[0])
        with seeded(seed, torch.device("cpu")):
            module = self._build(n_in, n_out).to(dtype=dtype)
            some = np.ascontiguousarray(X[:2])
            if self._integer_input:
                try:
                    self._check_module(module, torch.tensor(some), n_out)
                    return module.to(device)
                except ValueError:  # it takes no integers, or its check says what else is wrong
                    self._integer_input = False
            self._check_module(module, torch.tensor(some, dtype=dtype), n_out)
        return module.to(device)

    def _new_state(
        self,
        module: nn.Module,
        X: np.ndarray,
        y: np.ndarray | None,
        weights: np.ndarray | None,
        device: torch.device,
        seeds: list[int],
        n_epochs: int | None,
    ) -> TrainState:
        import torch

        shuffle_seed, augment_seed, numpy_seed = seeds
        batch_size: Any = self._training.batch_size
        if batch_size == "auto":
            batch_size = min(self._auto_batch_size, len(X))
        return TrainState(
            module=module,
            X=self._samples(X, device),
            y=self._tensor(y, device),
            weights=self._tensor(weights, device),
            device=device,
            generator=torch.Generator(device=device).manual_seed(augment_seed),
            shuffle=torch.Generator().manual_seed(shuffle_seed),
            rng=np.random.RandomState(numpy_seed),  # noqa: NPY002 (scikit-learn takes no other)
            batch_size=min(batch_size, len(X)),
            n_epochs=n_epochs,
            drop_last=self._drop_last,
        )

    def _split(self, X: np.ndarray, y: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
        """Set samples aside for early stopping, by class in classification."""
        fraction = self._training.validation_fraction
        try:
            train_rows, held = train_test_split(
                np.arange(len(X)),
                test_size=fraction,
                random_state=derive_seeds(self._seed, 1, 1)[0],
                stratify=y if self._task == "classification" else None,
            )
        except ValueError as exc:
            raise ValueError(
                f"early_stopping cannot set validation_fraction={fraction} of "
                f"n_samples={len(X)} aside: {exc}; change the fraction, or give X_val"
            ) from exc
        X_fit, y_fit, w_fit = (None if p is None else p[train_rows] for p in (X, y, weights))
        return X_fit, y_fit, w_fit, (X[held], None if y is None else y[held])

    # Inference.

    def _network_to_ask(self) -> nn.Module:
        """Return the network that answers; one that serves several sizes makes the one wanted."""
        return self.module_

    def _infer(self, X: np.ndarray, function: Callable[[nn.Module, Tensor], Tensor]) -> np.ndarray:
        """Return ``function(module, batch)`` over all samples, as a float64 array."""
        torch = self._torch()
        module = self._network_to_ask()
        dtype = getattr(torch, self._dtypes()[1])
        device = next(iter(module.parameters()), torch.empty(0)).device
        if any(p.dtype != dtype for p in module.parameters() if p.is_floating_point()):
            # A copy each time: module_ may have been changed since the last call.
            module = copy.deepcopy(module)
            if device.type == "mps" and dtype == torch.float64:
                device = torch.device("cpu")
            module = module.to(device=device, dtype=dtype)
        module.eval()
        with torch.inference_mode(), plain_defaults():
            if self._integer_input:
                data = torch.tensor(as_integers(X))
            else:
                data = torch.tensor(np.ascontiguousarray(X), dtype=dtype)
            out = in_chunks(module, data, lambda m, xb, _: function(m, xb), device)
        return out.to(device="cpu", dtype=torch.float64).numpy()


def _check_callbacks(callbacks: Any) -> None:
    hooks = ("on_fit_begin", "on_epoch_end", "on_fit_end")
    for callback in callbacks or ():
        if isinstance(callback, type) or not any(hasattr(callback, name) for name in hooks):
            raise TypeError(
                f"callbacks must be objects with one of {', '.join(hooks)}, got {callback!r}"
            )


def cosine_factor(step: TrainState) -> float | None:
    """Return the cosine schedule's factor: 1 at the first step, near 0 at the last."""
    done = step.progress
    return None if done is None else 0.5 * (1.0 + math.cos(math.pi * done))


def onecycle_factor(step: TrainState) -> float | None:
    """Return the one-cycle schedule's factor: a rise to 1 in the first part, then to near 0."""
    done = step.progress
    if done is None:
        return None
    if done < _RISE:
        return _FIRST + (1 - _FIRST) * 0.5 * (1 - math.cos(math.pi * done / _RISE))
    return 0.5 * (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE)))
