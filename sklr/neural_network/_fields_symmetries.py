"""Mirror images and swapped axes: the symmetries of a grid that an equation may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from sklr.neural_network._fields import Units


@dataclass(frozen=True)
class Symmetry:
    """Axes in another order, some of them reversed, and signs of input and targets.

    Attributes
    ----------
    axes : tuple of int
        Which axis becomes the first, the second, the third one.
    reversed_ : tuple of bool
        Which of these are reversed then.
    x_sign, y_sign : int
        What input and targets are multiplied by, 1 or -1.
    """

    axes: tuple[int, ...]
    reversed_: tuple[bool, ...]
    x_sign: int = 1
    y_sign: int = 1

    def of(self, fields: Any, *, target: bool = False, first: int = 2) -> Any:
        """Return fields, an array or a tensor whose grid's axes begin at `first`, transformed."""
        sign = self.y_sign if target else self.x_sign
        order = [*range(first), *(first + axis for axis in self.axes)]
        order += range(len(order), fields.ndim)
        turned = [first + i for i, back in enumerate(self.reversed_) if back]
        if isinstance(fields, np.ndarray):
            fields = np.flip(fields.transpose(order), tuple(turned))
        else:
            fields = fields.permute(order).flip(turned)
        return fields if sign > 0 else -fields

    def after(self, other: Symmetry) -> Symmetry:
        """Return what `other` and then this one make."""
        return Symmetry(
            tuple(other.axes[axis] for axis in self.axes),
            tuple(back != other.reversed_[axis] for axis, back in zip(self.axes, self.reversed_)),
            self.x_sign * other.x_sign,
            self.y_sign * other.y_sign,
        )

    def __str__(self) -> str:
        moved = [i for i, axis in enumerate(self.axes) if i != axis]
        parts = []
        if moved:
            parts.append("axes " + " and ".join(map(str, moved)) + " swapped")
        back = [str(i) for i, reverse in enumerate(self.reversed_) if reverse]
        if back:
            parts.append(f"{'axes' if len(back) > 1 else 'axis'} {' and '.join(back)} reversed")
        signs = [name for name, sign in (("X", self.x_sign), ("y", self.y_sign)) if sign < 0]
        if signs:
            parts.append(" and ".join(signs) + " negated")
        return ", ".join(parts)


def nothing(n_dims: int) -> Symmetry:
    """Return what leaves fields as they are."""
    return Symmetry(tuple(range(n_dims)), (False,) * n_dims)


def group_of(generators: Sequence[Symmetry], n_dims: int) -> list[Symmetry]:
    """Return all that is made by symmetries one after the other, what changes nothing first."""
    found = [nothing(n_dims)]
    for one in found:  # grows as it goes
        found += [made for g in generators if (made := g.after(one)) not in found]
    return found


def candidates(grid: tuple[int, ...]) -> list[Symmetry]:
    """Return what to try on a grid, the simplest first."""
    n = len(grid)
    plain = list(range(n))
    shapes = []
    long = [i for i in plain if grid[i] > 1]
    for size in range(1, n + 1):
        for back in combinations(long, size):
            shapes.append((tuple(plain), tuple(i in back for i in plain)))
    for a, b in combinations(long, 2):
        if grid[a] == grid[b]:
            axes = [*plain]
            axes[a], axes[b] = b, a
            for back in ((), (a, b), (a,)):
                shapes.append((tuple(axes), tuple(i in back for i in plain)))
    shapes.sort(key=lambda shape: sum(shape[1]) + (shape[0] != tuple(plain)))
    signs = list(product((1, -1), repeat=2))
    none = (tuple(plain), (False,) * n)
    return [Symmetry(*none, -1, -1), Symmetry(*none, -1, 1)] + [
        Symmetry(*shape, *sign) for shape in shapes for sign in signs
    ]


def mean_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of arrays."""
    return sum(parts[1:], parts[0]) / len(parts)


def symmetric(units: Units, group: Sequence[Symmetry], *, target: bool = False) -> Units:
    """Return units that are the same for all images of a field; channels come last."""
    if not group:
        return units
    if units.mean.ndim == 1:
        changes = any((one.y_sign if target else one.x_sign) < 0 for one in group)
        return Units(0 * units.mean if changes else units.mean, units.scale)
    mean = mean_of([one.of(units.mean, target=target, first=0) for one in group])
    square = mean_of([one.of(units.scale, target=target, first=0) ** 2 for one in group])
    return Units(mean, np.sqrt(square))
