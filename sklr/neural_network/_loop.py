"""The training loop: batches, steps, validation, early stopping, callbacks."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklr._torch._batches import batch_bounds, moved
from sklr.neural_network._callbacks import ProgressPrinter
from sklr.utils._progress import progress


@dataclass
class TrainState:
    """What the hooks of an estimator may look at and change while a network is trained.

    Attributes
    ----------
    module : torch.nn.Module
        The network in training.
    optimizers : list of torch.optim.Optimizer
        As ``_optimizers`` returned them.
    X, y : torch.Tensor
        All training samples and targets; `y` is None where there are none.
    weights : torch.Tensor or None
        A weight for each training sample.
    device : torch.device
        Where the network is; a batch is moved there.
    generator : torch.Generator
        For augmentations, on `device`.
    rng : numpy.random.RandomState
        For what NumPy or scikit-learn draw between epochs (k-means, permutations).
    batch_size : int
        Samples of a batch.
    n_epochs : int or None
        Epochs of this call of ``fit``; None in ``partial_fit``, which has no horizon.
    epoch : int
        The current epoch, from 0.
    number : int
        Steps done before the current one.
    index : torch.Tensor
        Rows of the current batch in `X`; None for validation samples.
    batch_weights : torch.Tensor or None
        Weights of the current batch.
    memory : dict
        For the estimator's own use.
    """

    module: Any
    optimizers: list[Any]
    X: Any
    y: Any
    weights: Any
    device: Any
    generator: Any
    shuffle: Any
    rng: np.random.RandomState
    batch_size: int
    n_epochs: int | None
    drop_last: bool = False
    epoch: int = 0
    number: int = 0
    index: Any = None
    batch_weights: Any = None
    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    best_score: float = -np.inf
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return len(batch_bounds(len(self.X), self.batch_size, self.drop_last)) - 1

    @property
    def progress(self) -> float | None:
        """Steps done as a fraction of all; None in ``partial_fit``."""
        if self.n_epochs is None:
            return None
        return self.number / (self.n_epochs * self.n_batches)


def batches(state: TrainState) -> Iterator[tuple[Any, Any]]:
    """Yield the batches of one epoch, in an order drawn anew, on the network's device."""
    import torch

    n_samples = len(state.X)
    bounds = batch_bounds(n_samples, state.batch_size, state.drop_last)
    if len(bounds) == 2:  # everything at once: no order, no copy
        state.index = torch.arange(n_samples, device=state.X.device)
        state.batch_weights = moved(state.weights, state.device)
        yield moved(state.X, state.device), moved(state.y, state.device)
        return
    order = torch.randperm(n_samples, generator=state.shuffle).to(state.X.device)
    sizes = [last - first for first, last in zip(bounds[:-1], bounds[1:])]
    for rows in order[: bounds[-1]].split(sizes):
        state.index = rows
        xb, yb, state.batch_weights = (
            None
            if values is None  # samples may be on the CPU, where they do not fit, and targets not
            else moved(values.index_select(0, moved(rows, values.device)), state.device)
            for values in (state.X, state.y, state.weights)
        )
        yield xb, yb


def mean_loss(loss: Any, weights: Any) -> Any:
    """Return one number from the loss of each sample; a loss that is one number stays."""
    if loss.ndim == 0:
        if weights is not None:
            raise NotImplementedError("weights of samples need a loss for each sample")
        return loss
    if weights is None:
        return loss.mean()
    return (loss * weights).sum() / weights.sum()


def set_learning_rates(optimizers: list[Any], factor: float) -> None:
    """Set each learning rate to `factor` times the one that the optimiser began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = factor * group["initial_lr"]


def run_epoch(estimator: Any, state: TrainState) -> float:
    """Train for one epoch and return its mean loss.

    Raises
    ------
    ValueError
        The loss is not finite.
    """
    import torch

    module = state.module
    module.train()
    estimator._epoch_begin(module, state)
    losses, sizes = [], []
    for xb, yb in batches(state):
        factor = estimator._learning_rate_factor(state)
        if factor is not None:
            set_learning_rates(state.optimizers, factor)
        try:
            losses.append(estimator._step(module, estimator._views(xb, state.generator), yb, state))
        except torch.linalg.LinAlgError as exc:
            raise ValueError(
                f"a decomposition failed in epoch {state.epoch + 1}: a matrix is zero, or not "
                f"finite any more; lower learning_rate (now {_shown_rate(state)}), or leave out "
                f"samples that are constant ({exc})"
            ) from exc
        sizes.append(len(xb))
        state.number += 1
    # Losses stay on the device until here: one transfer an epoch.
    mean = float(np.average(torch.stack(losses).cpu().numpy(), weights=sizes))
    if not np.isfinite(mean):
        raise ValueError(
            f"the loss became {mean} in epoch {state.epoch + 1}; lower learning_rate "
            f"(now {_shown_rate(state)}), or scale the features"
        )
    return mean


def require_finite_weights(module: Any, state: TrainState) -> None:
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


def train(estimator: Any, state: TrainState, validation: Any, *, stop_early: bool) -> None:
    """Train until the epochs are over, a callback stops, or the validation score stands still.

    Parameters
    ----------
    estimator : TorchEstimator
        Its hooks are called; its attributes are left alone.
    state : TrainState
        The network, the data and the counters; loss and score of each epoch are added to it.
    validation : tuple (X, y) of torch.Tensor, or None
        What is scored after each epoch.
    stop_early : bool
        Whether the score decides when to stop, and which epoch's weights are kept.
    """
    callbacks = list(getattr(estimator, "callbacks", None) or ())
    verbose = int(getattr(estimator, "verbose", 0))
    if verbose > 1:
        callbacks.append(ProgressPrinter())
    _call(
        callbacks, "on_fit_begin", estimator, {"module": state.module, "n_epochs": state.n_epochs}
    )
    n_epochs = state.n_epochs
    assert n_epochs is not None  # partial_fit runs its epoch itself
    epochs = progress(
        range(n_epochs),
        total=n_epochs,
        description=type(estimator).__name__,
        verbose=verbose == 1,
    )
    best_weights, waited = None, 0
    for epoch in epochs:
        began = time.perf_counter()
        state.epoch = epoch
        state.loss_curve.append(run_epoch(estimator, state))
        score: Any = None
        if validation is not None:
            score = estimator._validation_score(state.module, *validation, state)
            state.validation_scores.append(score)
        if stop_early:
            # As in scikit-learn: an improvement below tol is none, but the best weights are kept.
            waited = 0 if score > state.best_score + estimator.tol else waited + 1
            if score > state.best_score:
                best_weights = _copied(state.module)
        if score is not None:
            state.best_score = max(state.best_score, score)
        info = {
            "epoch": epoch + 1,
            "n_epochs": state.n_epochs,
            "loss": state.loss_curve[-1],
            "validation_score": score,
            "seconds": time.perf_counter() - began,
            "module": state.module,
        }
        stopped = _call(callbacks, "on_epoch_end", estimator, info)
        if stopped or (stop_early and waited >= estimator.n_iter_no_change):
            break
    epochs.close()
    if best_weights is not None:
        state.module.load_state_dict(best_weights)
    _call(callbacks, "on_fit_end", estimator, {"module": state.module, "n_epochs": state.n_epochs})


def _call(callbacks: list[Any], name: str, estimator: Any, info: dict[str, Any]) -> bool:
    """Call what there is under `name`; return whether one of them said True."""
    said = [getattr(c, name)(estimator, info) for c in callbacks if hasattr(c, name)]
    return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in said)


def _copied(module: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
