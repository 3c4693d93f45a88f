"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

#: What the parameter ``solver`` may be.
SOLVERS = ("adam", "adamw", "sgd")


def make_optimizer(
    solver: str,
    params: Iterable[Any],
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Return an optimiser by its name.

    Parameters
    ----------
    solver : {"adam", "adamw", "sgd"}
        Adam with weight decay in its gradient, Adam with weight decay beside it, or stochastic
        gradient descent with momentum.
    params : iterable of torch.nn.Parameter or of dict
        What is optimised, or groups of it.
    lr : float
        Learning rate.
    momentum : float, default=0.9
        Momentum of "sgd"; the others have none.
    weight_decay : float, default=0.0
        Weight decay.

    Returns
    -------
    optimizer : torch.optim.Optimizer

    Raises
    ------
    ValueError
        There is no such optimiser.
    """
    import torch

    if solver == "sgd":
        return torch.optim.SGD(params, lr, momentum=momentum, weight_decay=weight_decay)
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    kind = torch.optim.Adam if solver == "adam" else torch.optim.AdamW
    return kind(params, lr, weight_decay=weight_decay)
