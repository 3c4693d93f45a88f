"""Ranks of all layers together: by what each costs the network's outputs, measured."""

import heapq
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from sklr._torch._calibration import Batch, run_batch, without_padding
from sklr._torch._layers import Layer, wide


def outputs_of(
    network: Any, batches: Iterable[Batch], *, mask_key: str | None, name: str
) -> list[torch.Tensor]:
    """Return what a network says of batches, without what a mask hides."""
    found = []
    for number, (args, kwargs, _) in enumerate(batches):
        output = _tensor_of(run_batch(network, args, kwargs, number, name), name)
        mask = kwargs.get(mask_key) if mask_key is not None else None
        found.append(wide(without_padding(output, mask)))
    return found


def _tensor_of(output: Any, name: str) -> torch.Tensor:
    """Return the tensor that an output is, or begins with; logits where they are named."""
    output = getattr(output, "logits", output)
    values = list(output.values()) if isinstance(output, Mapping) else output
    for value in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value
    raise ValueError(
        f"{name}: rank='global' looks at the network's outputs, and it returns "
        f"{type(output).__name__} without a tensor of real numbers first"
    )


def squared_difference(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """Return the mean of squared differences over all outputs."""
    total = sum(float((one - other).square().sum()) for one, other in zip(some, others))
    return total / max(1, sum(one.numel() for one in some))


def allocate(
    layers: Iterable[Layer],
    spectra: Mapping[str, np.ndarray],
    sensitivity: Mapping[str, float],
    ratio: float,
) -> dict[str, int | None]:
    """Return ranks that lose least, by the sum over layers of sensitivity times what is dropped.

    Parameters
    ----------
    layers : iterable of Layer
        The layers.
    spectra : dict
        Singular values of each, falling.
    sensitivity : dict
        What a unit of dropped squares costs the outputs.
    ratio : float
        Share of the layers' parameters, all together, that may be used.

    Returns
    -------
    ranks : dict
        Ranks of at least 1 by name; None is the whole layer.
    """
    budget = ratio * sum(layer.shape[0] * layer.shape[1] for layer in layers)
    ranks: dict[str, int | None] = {}
    waiting: list[tuple[float, int, Layer]] = []

    def push(number: int, layer: Layer, rank: int) -> None:
        gain, cost = _next(layer, spectra[layer.name] ** 2, rank)
        if cost:
            heapq.heappush(waiting, (-sensitivity[layer.name] * gain / cost, number, layer))

    for number, layer in enumerate(layers):
        ranks[layer.name] = 1
        budget -= sum(layer.shape)
        push(number, layer, 1)
    while waiting:
        _, number, layer = heapq.heappop(waiting)
        rank = ranks[layer.name]
        assert rank is not None
        _, cost = _next(layer, spectra[layer.name] ** 2, rank)
        if cost > budget:
            continue
        budget -= cost
        ranks[layer.name] = rank + 1 if rank + 1 <= _most(layer) else None
        if ranks[layer.name] is not None:
            push(number, layer, rank + 1)
    return ranks


def _most(layer: Layer) -> int:
    """Return the largest rank whose matrices are smaller than the layer."""
    m, n = layer.shape
    return (m * n - 1) // (m + n)


def _next(layer: Layer, squares: np.ndarray, rank: int) -> tuple[float, int]:
    """Return what one rank more gives back, and its parameters; beyond the last it is the layer."""
    m, n = layer.shape
    if rank >= len(squares):
        return 0.0, 0
    if rank + 1 <= _most(layer):
        return float(squares[rank]), m + n
    return float(squares[rank:].sum()), m * n - rank * (m + n)
