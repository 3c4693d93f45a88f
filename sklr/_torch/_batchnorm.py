"""Running statistics of batch normalisations: left alone for a pass, or measured anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def running_norms(module: nn.Module) -> list[Any]:
    """Return the batch normalisations of a network that keep running statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    parts = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    return [part for part in parts if part.running_mean is not None]


@contextmanager
def statistics_left_alone(norms: list[Any]) -> Iterator[None]:
    """Train without a change of the running statistics of batch normalisations."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


def recalibrate(module: nn.Module, run: Callable[[], None]) -> None:
    """Measure the running statistics anew: the mean over the batches that `run` puts through.

    Parameters
    ----------
    module : torch.nn.Module
        A network in evaluation mode; only its normalisations train inside.
    run : callable
        Puts batches through the network.
    """
    norms = running_norms(module)
    before = [(norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative mean
            norm.train()
        run()
    finally:
        for norm, (momentum, training) in zip(norms, before):
            norm.momentum = momentum
            norm.train(training)
