"""The training loop: stages, batches, steps, validation, early stopping, callbacks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr._torch._batches import batch_bounds, moved
from sklr._torch._errors import DivergedError
from sklr.neural_network._callbacks import ProgressPrinter
from sklr.utils._progress import progress

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from sklr.neural_network._base import TorchEstimator


@dataclass(frozen=True)
class Stage:
    """A part of a training with epochs of its own; what is None is the estimator's hook.

    Attributes
    ----------
    n_epochs : int
        Epochs; 0 leaves them out, `begin` runs all the same.
    name : str
        For hooks that ask for ``step.stage.name``.
    optimizers : callable, default=None
        ``optimizers(module)``, one optimiser or a list, made when the stage begins.
    begin : callable, default=None
        ``begin(module, step)``, before the optimisers are made.
    loss : callable, default=None
        ``loss(module, xb, yb, step)``.
    learning_rate_factor : callable, default=None
        ``learning_rate_factor(step)``; ``step.progress`` goes from 0 to 1 within the stage.
    """

    n_epochs: int
    name: str = ""
    optimizers: Callable[[nn.Module], Any] | None = None
    begin: Callable[[nn.Module, TrainState], None] | None = None
    loss: Callable[[nn.Module, Tensor, Any, TrainState], Tensor] | None = None
    learning_rate_factor: Callable[[TrainState], float | None] | None = None


@dataclass
class TrainState:
    """What the hooks of an estimator may look at and change while a network is trained.

    Attributes
    ----------
    module : torch.nn.Module
        The network in training.
    stage : Stage
        The current stage.
    optimizers : list of torch.optim.Optimizer
        Those of the stage.
    X, y : torch.Tensor
        All training samples and targets; `y` is None where there are none.
    weights : torch.Tensor or None
        A weight for each training sample.
    device : torch.device
        Where the network is; a batch is moved there.
    generator : torch.Generator
        For augmentations, on `device`.
    shuffle : torch.Generator
        For the order of samples, on the CPU.
    rng : numpy.random.RandomState
        For what NumPy or scikit-learn draw between epochs (k-means, permutations).
    batch_size : int
        Samples of a batch.
    n_epochs : int or None
        Epochs of this call of ``fit``; None in ``partial_fit``, which has no horizon.
    n_batches : int
        Batches of an epoch.
    epoch : int
        The current epoch, from 0, through all stages.
    number : int
        Steps done before the current one, through all stages.
    index : torch.Tensor
        Rows of the current batch in `X`; None for validation samples.
    batch_weights : torch.Tensor or None
        Weights of the current batch.
    memory : dict
        For the estimator's own use.
    """

    module: nn.Module
    X: Tensor
    y: Tensor | None
    weights: Tensor | None
    device: torch.device
    generator: torch.Generator
    shuffle: torch.Generator
    rng: np.random.RandomState
    batch_size: int
    n_epochs: int | None
    drop_last: bool = False
    optimizers: list[Optimizer] = field(default_factory=list)
    stage: Stage = Stage(1)
    n_batches: int = 1
    epoch: int = 0
    number: int = 0
    index: Tensor | None = None
    batch_weights: Tensor | None = None
    loss_curve: list[float] = field(default_factory=list)
    loss_terms: dict[str, list[float]] = field(default_factory=dict)
    validation_scores: list[float] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    stage_began: int = 0
    _size: int = 0
    _logged: dict[str, list[tuple[Any, int]]] = field(default_factory=dict)

    @property
    def progress(self) -> float | None:
        """Steps of the stage that are done, as a fraction of all; None in ``partial_fit``."""
        if self.n_epochs is None:
            return None
        return (self.number - self.stage_began) / (self.stage.n_epochs * self.n_batches)

    def log(self, name: str, value: Any) -> None:
        """Add a term of the loss of this batch; its mean over an epoch goes to ``loss_terms_``.

        Parameters
        ----------
        name : str
            The term's name.
        value : torch.Tensor or float
            One number. What comes from validation samples is left out.
        """
        if self.index is not None:
            value = value.detach() if hasattr(value, "detach") else value
            self._logged.setdefault(name, []).append((value, self._size))


def shuffled(state: TrainState) -> Iterator[Any]:
    """Yield the rows of each batch of one epoch, in an order drawn anew."""
    import torch

    bounds = batch_bounds(len(state.X), state.batch_size, state.drop_last)
    if len(bounds) == 2:  # everything at once: no order, no copy
        yield slice(None)
        return
    order = torch.randperm(len(state.X), generator=state.shuffle).to(state.X.device)
    yield from order[: bounds[-1]].split([b - a for a, b in zip(bounds[:-1], bounds[1:])])


def batches(state: TrainState, rows_of_batches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield samples and targets of each batch, on the network's device."""
    import torch

    def picked(values: Tensor | None, rows: Any) -> Any:
        if values is None:
            return None
        if isinstance(rows, slice):
            return moved(values, state.device)
        # Samples may be on the CPU, where they do not fit, and targets not.
        return moved(values.index_select(0, moved(rows, values.device)), state.device)

    for rows in rows_of_batches:
        whole = isinstance(rows, slice)
        state.index = torch.arange(len(state.X), device=state.X.device) if whole else rows
        state.batch_weights = picked(state.weights, rows)
        yield picked(state.X, rows), picked(state.y, rows)


def mean_loss(loss: Tensor, weights: Tensor | None) -> Tensor:
    """Return one number from the loss of each sample; a loss that is one number stays."""
    if loss.ndim == 0:
        if weights is not None:
            raise NotImplementedError("weights of samples need a loss for each sample")
        return loss
    if weights is None:
        return loss.mean()
    return (loss * weights).sum() / weights.sum()


def set_learning_rates(optimizers: list[Optimizer], factor: float) -> None:
    """Set each learning rate to `factor` times the one that the optimiser began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = factor * group["initial_lr"]


def begin_stage(estimator: TorchEstimator, state: TrainState, stage: Stage) -> None:
    """Make the optimisers of a stage, and count its batches."""
    state.stage, state.stage_began = stage, state.number
    if stage.begin is not None:
        stage.begin(state.module, state)
    made = (stage.optimizers or estimator._optimizers)(state.module)
    state.optimizers = made if isinstance(made, list) else [made]
    state.n_batches = estimator._n_batches(state)


def run_epoch(estimator: TorchEstimator, state: TrainState) -> float:
    """Train for one epoch and return its mean loss.

    Raises
    ------
    ValueError
        The loss is not finite, or a decomposition failed: mostly the learning rate is too large.
    """
    import torch

    module, factor_of = state.module, state.stage.learning_rate_factor
    module.train()
    estimator._epoch_begin(module, state)
    losses, sizes = [], []
    for xb, yb in batches(state, estimator._batches(state)):
        factor = (factor_of or estimator._learning_rate_factor)(state)
        if factor is not None:
            set_learning_rates(state.optimizers, factor)
        state._size = len(xb)
        try:
            losses.append(estimator._step(module, xb, yb, state))
        except (DivergedError, RuntimeError) as exc:
            told = _as_learning_rate(exc, state)
            if told is None:
                raise
            raise told from exc
        sizes.append(len(xb))
        state.number += 1
    if not losses:
        raise ValueError(f"{type(estimator).__name__} made no batch of {len(state.X)} samples")
    # Losses stay on the device until here: one transfer an epoch.
    mean = float(np.average(torch.stack(losses).cpu().numpy(), weights=sizes))
    if not np.isfinite(mean):
        raise ValueError(
            f"the loss became {mean} in epoch {state.epoch + 1}; lower learning_rate "
            f"(now {_shown_rate(state)}), or scale the features"
        )
    _close_terms(state)
    return mean


def _as_learning_rate(exc: Exception, state: TrainState) -> ValueError | None:
    """Return what to say instead of an error in a step, or None where the learning rate is fine."""
    import torch

    advice = f"lower learning_rate (now {_shown_rate(state)})"
    if isinstance(exc, torch.linalg.LinAlgError):
        return ValueError(
            f"a decomposition failed in epoch {state.epoch + 1}: a matrix is zero, or not finite "
            f"any more; {advice}, or leave out samples that are constant ({exc})"
        )
    if isinstance(exc, DivergedError) and state.number:
        return ValueError(
            f"training diverged in epoch {state.epoch + 1}: {exc.what}; {advice}, or scale the "
            "samples"
        )
    if "without overflow" in str(exc):
        return ValueError(f"a step in epoch {state.epoch + 1} is too long for a number; {advice}")
    return None


def _close_terms(state: TrainState) -> None:
    """Add the means of an epoch's loss terms; a term that was not logged is NaN in that epoch."""
    done = len(state.loss_curve)
    for name, values in state._logged.items():
        known = state.loss_terms.setdefault(name, [])
        known += [np.nan] * (done - len(known))
        numbers, sizes = zip(*values, strict=True)
        known.append(float(np.average([float(number) for number in numbers], weights=sizes)))
    state._logged = {}
    for values_by_epoch in state.loss_terms.values():
        values_by_epoch += [np.nan] * (done + 1 - len(values_by_epoch))


def require_finite_weights(module: nn.Module, state: TrainState) -> None:
    """Refuse a network that the last step has broken: no loss was computed after it.

    Raises
    ------
    ValueError
        A weight is not finite.
    """
    for name, value in module.named_parameters():
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"{name} is not finite after the last step of epoch {state.epoch + 1}, though the "
                f"loss was; lower learning_rate (now {_shown_rate(state)}), scale the features, "
                "or look for a gradient that is not finite (a root or a norm at zero)"
            )


def _shown_rate(state: TrainState) -> str:
    rates = {f"{g.get('initial_lr', g['lr']):g}" for o in state.optimizers for g in o.param_groups}
    return ", ".join(sorted(rates))


def train(
    estimator: TorchEstimator,
    state: TrainState,
    stages: list[Stage],
    validation: tuple[Tensor, Tensor | None] | None,
) -> None:
    """Train until the epochs are over, a callback stops, or the validation score stands still.

    Parameters
    ----------
    estimator : TorchEstimator
        Its hooks are called; its attributes are left alone.
    state : TrainState
        The network, the data and the counters; loss and score of each epoch are added to it.
    stages : list of Stage
        One after the other. With early stopping each ends when its score stands still, with the
        weights of its best epoch; a callback ends all.
    validation : tuple (X, y) of torch.Tensor, or None
        What is scored after each epoch.
    """
    training = estimator._training
    callbacks = list(training.callbacks or ())
    verbose, name = int(training.verbose), type(estimator).__name__
    if verbose > 1:
        callbacks.append(ProgressPrinter())
    n_epochs = sum(stage.n_epochs for stage in stages)
    whole = {"module": state.module, "n_epochs": n_epochs}
    _call(callbacks, "on_fit_begin", estimator, whole)
    bar = progress(range(n_epochs), total=n_epochs, description=name, verbose=verbose == 1)
    reason = ""
    for stage in stages:
        begin_stage(estimator, state, stage)
        best_score, best_weights, waited = -np.inf, None, 0
        for _ in range(stage.n_epochs):
            next(bar, None)
            state.epoch = len(state.loss_curve)
            began = time.perf_counter()
            # The terms of an epoch are closed before its loss is added.
            state.loss_curve.append(run_epoch(estimator, state))
            score: Any = None
            if validation is not None:
                score = estimator._validation_score(state.module, *validation, state)
                state.validation_scores.append(score)
            if training.early_stopping:
                # As in scikit-learn: an improvement below tol does not count, but the best
                # weights are kept.
                waited = 0 if score > best_score + training.tol else waited + 1
                if score > best_score:
                    best_score, best_weights = score, _copied(state.module)
            info = {
                "epoch": state.epoch + 1,
                "n_epochs": n_epochs,
                "loss": state.loss_curve[-1],
                "loss_terms": {term: values[-1] for term, values in state.loss_terms.items()},
                "validation_score": score,
                "seconds": time.perf_counter() - began,
                "module": state.module,
            }
            if _call(callbacks, "on_epoch_end", estimator, info):
                reason = "a callback said so"
                break
            if training.early_stopping and waited >= training.n_iter_no_change:
                reason = f"the validation score stood still for {waited} epochs"
                break
        if best_weights is not None:
            state.module.load_state_dict(best_weights)
        if reason == "a callback said so":
            break
    if reason:
        bar.close()
        if verbose:
            done = len(state.loss_curve)
            print(f"{name}: stopped after epoch {done} of {n_epochs}: {reason}", file=sys.stderr)
    else:
        next(bar, None)  # the bar ends at 100 %
    _call(callbacks, "on_fit_end", estimator, whole)


def _call(callbacks: list[Any], name: str, estimator: TorchEstimator, info: dict[str, Any]) -> bool:
    """Call what there is under `name`; return whether one of them said True."""
    said = [getattr(c, name)(estimator, info) for c in callbacks if hasattr(c, name)]
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in said)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
