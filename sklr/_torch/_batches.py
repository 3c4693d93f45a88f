"""Samples in batches: where they begin and end, on which device, what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklr._torch._device import mixed_precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def batch_bounds(n_samples: int, batch_size: int, drop_last: bool = False) -> list[int]:
    """Return where batches begin and end; no batch is a single sample beside others.

    Batch normalisation cannot take a batch of one, so a lone last sample joins the batch before.
    """
    bounds = [*range(0, n_samples, batch_size), n_samples]
    if len(bounds) > 2:
        rest = bounds[-1] - bounds[-2]
        if drop_last and rest < batch_size:
            del bounds[-1]
        elif rest == 1 and batch_size > 1:
            del bounds[-2]
    return bounds


def moved(values: Tensor | None, device: torch.device) -> Any:
    """Return values on a device, without a copy where they are there."""
    if values is None or values.device == device:
        return values
    return values.to(device, non_blocking=True)


def in_chunks(
    module: nn.Module,
    X: Tensor,
    function: Callable[[nn.Module, Tensor, slice], Tensor],
    device: torch.device,
) -> Tensor:
    """Return ``function(module, chunk, rows)`` over all rows, in evaluation mode."""
    import torch

    training = module.training
    module.eval()
    row_bytes = max(1, X[:1].numel() * X.element_size())
    size = int(min(1024, max(1, 2**25 // row_bytes)))
    pieces = [slice(first, first + size) for first in range(0, len(X), size)]
    try:
        with mixed_precision(device):
            return torch.cat([function(module, X[rows].to(device), rows) for rows in pieces])
    finally:
        module.train(training)


def refuse_datasets(X: Any) -> None:
    """Refuse what torch's loops are fed with: NumPy would read some of it without end."""
    if hasattr(type(X), "__array__") or isinstance(X, (list, tuple)):
        return
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(X).__mro__]
    if any(kind.startswith("torch.utils.data.") for kind in kinds) or inspect.isgenerator(X):
        raise TypeError(
            f"X must be an array, got {type(X).__name__}; stack its samples (np.stack), or call "
            "partial_fit, where there is one, with the arrays of each batch"
        )
