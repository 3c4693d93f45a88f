"""Ranks of all layers at once: which columns a budget of parameters keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklr.nn._ordered._layers import _OrderedLayer

# Widths of a layer at which a loss is measured; between them it is interpolated.
N_WIDTHS = 12


def sides_of(layer: _OrderedLayer) -> tuple[int, int]:
    """Return outputs and inputs of the one matrix that computes the same."""
    up, down = layer.up.weight.shape, layer.down.weight.shape
    return up[0], math.prod(down[1:])


def dense_size(layer: _OrderedLayer) -> int:
    """Return the entries of the one matrix that computes the same."""
    return math.prod(sides_of(layer))


def size_of(layer: _OrderedLayer, rank: int) -> int:
    """Return the entries of a layer without its bias: two thin matrices, or one if that is less.

    A layer of rank 0 holds one column of zeros.
    """
    return min(max(1, rank) * sum(sides_of(layer)), dense_size(layer))


def measured_losses(
    layers: Mapping[str, _OrderedLayer], loss: Callable[[], float], n_widths: int = N_WIDTHS
) -> dict[str, np.ndarray]:
    """Return for each layer what `loss` is when it alone is truncated to 0, ..., rank columns.

    Parameters
    ----------
    layers : mapping of str to _OrderedLayer
        The layers of a network in evaluation mode.
    loss : callable
        Runs the network as it is and returns a number.
    n_widths : int
        Widths of a layer at which it is measured.
    """
    whole = loss()
    found = {}
    for name, layer in layers.items():
        widths = np.unique(np.geomspace(1, max(1, layer.rank), n_widths).round().astype(int))
        values = []
        try:
            for width in widths[widths < layer.rank]:
                layer._width = int(width)
                values.append(loss())
        finally:
            layer._width = None
        known = np.r_[widths[widths < layer.rank], layer.rank]
        found[name] = np.interp(np.arange(layer.rank + 1), known, np.r_[values, whole])
    return found


@dataclass(frozen=True)
class Step:
    """Columns that are added together: up to `rank` of a layer, for `price` parameters."""

    slope: float
    name: str
    rank: int
    price: int


class Sizes:
    """Ranks for every budget; a smaller network's columns are all in a larger one.

    Where the loss of each layer by its rank is replaced by its convex hull, the best ranks for a
    budget come by taking the steep parts first. Above half of a square layer's rank one matrix is
    smaller than two factors: that is one step, from the last thin rank to all of it.

    Parameters
    ----------
    layers : mapping of str to _OrderedLayer
        The layers.
    losses : mapping of str to ndarray of shape (rank + 1,)
        Loss of each by its rank.
    """

    def __init__(
        self, layers: Mapping[str, _OrderedLayer], losses: Mapping[str, np.ndarray]
    ) -> None:
        self.first: dict[str, int] = {}
        self.least = 0
        steps: list[Step] = []
        for name, layer in layers.items():
            points = _hull(_points(layer, losses[name]))
            self.first[name] = points[0][0]
            self.least += points[0][1]
            steps += _steps(name, points, dense_size(layer))
        # Stable: steps of one layer stay in their order where slopes are equal.
        self.steps = sorted(steps, key=lambda step: -step.slope)
        self.most = self.least + sum(step.price for step in self.steps)

    def ranks(self, budget: float) -> dict[str, int]:
        """Return the ranks for a number of entries of factors; it is not below `least`."""
        ranks, spent = dict(self.first), self.least
        for step in self.steps:
            if spent + step.price > budget:
                break  # sizes stay nested
            spent += step.price
            ranks[step.name] = step.rank
        return ranks


def _points(layer: _OrderedLayer, losses: np.ndarray) -> list[tuple[int, int, float]]:
    """Return (rank, entries, loss) of what is smaller than one matrix, and of the whole."""
    whole, size, price = layer.rank, size_of(layer, layer.rank), sum(sides_of(layer))
    # What more columns make worse is noise.
    losses = np.minimum.accumulate(np.asarray(losses, dtype=float)).tolist()
    last = min(whole - 1, (size - 1) // price)
    thin = [(rank, rank * price, losses[rank]) for rank in range(1, last + 1)]
    return [*thin, (whole, size, losses[whole])]


def _hull(points: list[Any]) -> list[Any]:
    """Return the points on the lower convex hull of losses over entries."""
    hull: list[Any] = []
    for point in points:
        while len(hull) > 1:
            (_, x0, y0), (_, x1, y1) = hull[-2:]
            if (y0 - y1) * (point[1] - x0) > (y0 - point[2]) * (x1 - x0):
                break
            hull.pop()
        hull.append(point)
    return hull


def _steps(name: str, points: list[Any], dense: int) -> list[Step]:
    steps = []
    for (r0, x0, y0), (r1, x1, y1) in zip(points[:-1], points[1:]):
        slope = (y0 - y1) / (x1 - x0)
        if x1 == dense:
            steps.append(Step(slope, name, r1, x1 - x0))
            continue
        price = (x1 - x0) // (r1 - r0)
        steps += [Step(slope, name, rank, price) for rank in range(r0 + 1, r1 + 1)]
    return steps
