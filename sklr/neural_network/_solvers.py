"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer

#: What the parameter ``solver`` may be.
SOLVERS = ("adam", "adamw", "dct_adamw", "mfac", "sgd", "trion")
# Share of a layer's smaller dimension: a count that suits large networks is all of a small one.
RANK = 0.25
MFAC_OPTIONS = {"damping": 1e-3, "n_gradients": 64}


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
    solver : {"adam", "adamw", "dct_adamw", "mfac", "sgd", "trion"}
        Adam with weight decay in its gradient, Adam with weight decay beside it, AdamW in a
        quarter of each layer's dimensions (:class:`~sklr.nn.optim.DCTAdamW`), steps through the
        inverse Fisher matrix (:class:`~sklr.nn.optim.MFAC`), stochastic gradient descent with
        momentum, or orthogonal steps in a quarter of the dimensions
        (:class:`~sklr.nn.optim.Trion`, scaled so that rates of AdamW are rates of it).
    params : iterable of torch.nn.Parameter or of dict
        What is optimised, or groups of it.
    lr : float
        Learning rate.
    momentum : float, default=0.9
        Momentum of "sgd"; the others have none, or their own.
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

    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {solver!r}")
    if solver == "sgd":
        return torch.optim.SGD(params, lr, momentum=momentum, weight_decay=weight_decay)
    if solver in ("adam", "adamw"):
        kind = torch.optim.Adam if solver == "adam" else torch.optim.AdamW
        return kind(params, lr, weight_decay=weight_decay)
    from sklr.nn import optim

    if solver == "dct_adamw":
        return optim.DCTAdamW(params, lr, weight_decay=weight_decay, rank=RANK)
    if solver == "trion":
        return optim.Trion(params, lr, weight_decay=weight_decay, rank=RANK, scale="rms", aux_lr=lr)
    return optim.MFAC(params, lr, weight_decay=weight_decay, **MFAC_OPTIONS)
