"""Fields on grids: what the axes of an array mean, and the units in which a network sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

# Where a cell of the input hardly varies, its scale is this share of its channel's.
_LEAST_SHARE = 0.01
# Fields are on circles if the squared step from the last cell to the first is at most so many times
# that of the steps beside it, and at least its inverse; it and steps at all are small beside the
# variance, so that ends which have nothing to do with each other (2) are seen; and there are cells
# and samples. The same holds of a step times the one from the cell before it to the cell after it,
# in which white noise has the mean 0, and less than that in so many of its standard deviations.
_LIKE_OTHERS, _SMALL, _FEWEST, _NOISE, _SMOOTH = 3.0, 0.5, 8, 2.0, 0.5


def check_spatial_shape(shape: Sequence[int] | None, n_dims: int | str) -> None:
    """Refuse a `spatial_shape` that is no grid, or not of `n_dims` axes."""
    if shape is None:
        return
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in shape)
    if not (whole and 1 <= len(shape) <= 3):
        raise ValueError(
            f"spatial_shape must be one to three numbers of cells, each at least 1, got {shape!r}"
        )
    if n_dims not in ("auto", len(shape)):
        raise ValueError(f"n_dims={n_dims} and spatial_shape={tuple(shape)} contradict each other")


def fields_of(
    X: np.ndarray, n_dims: int | str, spatial_shape: Sequence[int] | None, name: str
) -> np.ndarray:
    """Return input as fields of shape (n, ..., channels), whose axes between are those of the grid.

    Raises
    ------
    ValueError
        The array has another number of axes than `n_dims`, or rows of another length than
        `spatial_shape`.
    """
    if spatial_shape is not None:
        n_cells = math.prod(spatial_shape)
        if X.ndim != 2 or X.shape[1] % n_cells:
            raise ValueError(
                f"with spatial_shape={tuple(spatial_shape)} {name} must have rows of "
                f"{n_cells} numbers, or a multiple (channels last), got shape {X.shape}"
            )
        return X.reshape(len(X), *spatial_shape, -1)
    dim = min(3, max(1, X.ndim - 1 - (X.ndim > 3))) if n_dims == "auto" else int(n_dims)
    if X.ndim == dim + 1:
        return X[..., None]
    if X.ndim == dim + 2:
        return X
    wanted = "2 to 5 axes" if n_dims == "auto" else f"{dim + 1} axes, or {dim + 2} with channels"
    raise ValueError(
        f"{name} must have {wanted} where n_dims={n_dims!r}: samples, the grid, channels last; got "
        f"shape {X.shape}"
    )


@dataclass(frozen=True)
class TargetForm:
    """What targets look like: a field on the grid of the input, or numbers of the whole field.

    Attributes
    ----------
    is_field : bool
        Whether each cell has a target.
    shape : tuple of int
        Of a field () or (channels,), of numbers () or (k,).
    flat : bool
        Whether fields are given as rows.
    """

    is_field: bool
    shape: tuple[int, ...]
    flat: bool = False

    @property
    def n_channels(self) -> int:
        return math.prod(self.shape)

    def array(self, y: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
        """Return targets of shape (n, ..., channels), or (n, k)."""
        return y.reshape(len(y), *(grid if self.is_field else ()), self.n_channels)

    def given(self, y: np.ndarray) -> np.ndarray:
        """Return an array of that shape as targets were given."""
        if self.is_field and not self.flat:
            return y.reshape(*y.shape[:-1], *self.shape)
        return y.reshape(len(y), -1) if self.flat or self.shape else y.reshape(len(y))


def target_form(
    y: np.ndarray, grid: tuple[int, ...], *, flat: bool, numbers: bool, name: str
) -> TargetForm:
    """Return what targets for input on a grid are.

    Parameters
    ----------
    y : ndarray of shape (n, ...)
        Targets.
    grid : tuple of int
        Cells of the input along each axis.
    flat : bool
        Whether fields are given as rows.
    numbers : bool
        Whether rows of another length than the grid's are numbers; else they are refused.
    name : str
        For messages.

    Raises
    ------
    ValueError
        The targets are on another grid.
    """
    shape = y.shape[1:]
    if not shape:
        return TargetForm(False, ())
    n_cells = math.prod(grid)
    if flat and len(shape) == 1 and shape[0] % n_cells == 0:
        return TargetForm(True, (shape[0] // n_cells,), flat=True)
    if shape[: len(grid)] == grid and len(shape) <= len(grid) + 1:
        return TargetForm(True, shape[len(grid) :])
    if len(shape) == 1 and numbers:
        return TargetForm(False, shape)
    raise ValueError(
        f"{name} has targets of shape {shape}, but the fields of X are on a grid of {grid}: a "
        f"target is a field of shape {grid} or {(*grid, 'channels')} on the same grid, or a number "
        f"of the whole field, of shape (n,){' or (n, k)' if numbers else ''}. Interpolate one of "
        "them to the grid of the other"
    )


@dataclass
class Units:
    """Mean and scale of fields: of each cell, or of each channel."""

    mean: np.ndarray
    scale: np.ndarray

    def scaled(self, values: np.ndarray) -> np.ndarray:
        scale = np.where(self.scale > 0, self.scale, 1.0)
        return np.where(self.scale > 0, (values - self.mean) / scale, 0.0)

    def unscaled(self, values: np.ndarray) -> np.ndarray:
        return values * self.scale + self.mean


def measured(
    values: np.ndarray, normalize: str | None, *, is_input: bool, has_cells: bool = True
) -> Units:
    """Return the units of fields (n, ..., channels), or of numbers (n, k).

    Where targets do not vary their scale is 0, and so is all that is predicted beside the mean.
    Where input does not vary in a cell, it has the scale of its channel, or 1.
    """
    if normalize is None:
        return Units(np.zeros(values.shape[-1]), np.ones(values.shape[-1]))
    whole = tuple(range(values.ndim - 1))
    by_channel = _mean_and_spread(values, whole)
    if normalize == "channel" or not has_cells:
        mean, scale = by_channel
    else:
        mean, scale = _mean_and_spread(values, (0,))
        if is_input:
            scale = np.maximum(scale, _LEAST_SHARE * by_channel[1])
    if is_input:
        scale = np.where(scale > 0, scale, 1.0)
    return Units(mean, scale)


def _mean_and_spread(values: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    mean = values.mean(axis=axes)
    rest = np.abs(values - mean)
    largest = rest.max(axis=axes)
    safe = np.where(largest > 0, largest, 1.0)
    spread = safe * np.sqrt(((rest / safe) ** 2).mean(axis=axes))
    # What rounding leaves of a constant far from zero is no spread.
    constant = spread <= 8 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant | (largest == 0), 0.0, spread)


def resampled(fields: np.ndarray, grid: tuple[int, ...], *, periodic: bool = False) -> np.ndarray:
    """Return fields (n, ..., channels) on another grid, by linear interpolation.

    Both grids have the same corners; or begin at the same point of circles, if `periodic`.
    """
    for axis, size in enumerate(grid, start=1):
        there = fields.shape[axis]
        if there == size:
            continue
        if periodic:
            at = np.arange(size) * (there / size)
            before = np.minimum(at.astype(int), there - 1)
            after = (before + 1) % there
        else:
            at = np.linspace(0, there - 1, size)
            before = np.minimum(at.astype(int), max(there - 2, 0))
            after = np.minimum(before + 1, there - 1)
        share = (at - before).reshape(-1, *[1] * (fields.ndim - axis - 1))
        low, high = fields.take(before, axis=axis), fields.take(after, axis=axis)
        fields = low * (1 - share) + high * share
    return fields


def on_circles(fields: np.ndarray) -> bool:
    """Return whether fields (n, ..., channels) go on from the last cell of each axis to the first.

    On a ring that step is like its neighbours. Between walls it is larger, where the ends have
    nothing to do with each other, or 0, where both are held at the same number. White noise makes
    all steps alike, so it must be seen beside it that the field goes on.
    """
    whole = tuple(range(fields.ndim - 1))
    _, spread = _mean_and_spread(fields, whole)
    if len(fields) < _FEWEST or min(fields.shape[1:-1]) < _FEWEST or not spread.any():
        return False
    scaled = fields[..., spread > 0] / spread[spread > 0]
    for axis in whole[1:]:
        others = tuple(i for i in range(fields.ndim) if i != axis)
        steps = np.roll(scaled, -1, axis=axis) - scaled
        around = np.roll(scaled, -2, axis=axis) - np.roll(scaled, 1, axis=axis)
        after_next = np.roll(steps, -2, axis=axis)
        slopes, both, steps = (
            (part * steps).mean(axis=others) for part in (after_next, around, steps)
        )
        beside = (steps[[0, 1, -3, -2]]).mean()
        if not beside / _LIKE_OTHERS <= steps[-1] <= beside * _LIKE_OTHERS:
            return False
        if max(steps.mean(), steps[-1]) > _SMALL:
            return False
        goes_on = both[[1, 2, -4, -3]].mean()
        # Where a field is smooth the wide step is three times the one inside; the rest is noise.
        noise = max(float(beside - goes_on / 3), 0.0)
        chance = _NOISE * noise / math.sqrt(scaled.size / scaled.shape[axis])
        least = goes_on / _LIKE_OTHERS
        if not (chance <= least <= both[-1] <= goes_on * _LIKE_OTHERS + chance):
            return False
        # Where slopes go on for some cells, they do so from before the seam to behind it.
        slope = slopes[[0, 1, -5, -4]].mean()
        if slope > _SMOOTH * goes_on / 3 + chance and slopes[-2] < slope / _LIKE_OTHERS:
            return False
    return True


def network_sizes(
    grid: tuple[int, ...], patch_size: Any, n_levels: int | str, width: int, n_heads: int | str
) -> tuple[tuple[int, ...], int, int]:
    """Return the sides of a patch, levels and heads of a network on a grid; "auto" is resolved.

    Raises
    ------
    ValueError
        A patch has other axes than the grid or is larger, or heads do not divide the width.
    """
    shortest: int = min(grid)
    patch: Any = patch_size
    if isinstance(patch, str):
        patch = 4 if shortest >= 8 else max(1, shortest // 2)
    elif isinstance(patch, Integral):
        patch = int(patch)
    sides: list[Any] = [patch] * len(grid) if isinstance(patch, int) else [*patch]
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in sides)
    if len(sides) != len(grid) or not whole:
        raise ValueError(
            f"patch_size must be a number of cells, or one for each of {len(grid)} axes, all at "
            f"least 1, got {patch_size!r}"
        )
    found = tuple(int(side) for side in sides)
    if any(size < side for size, side in zip(grid, found)):
        raise ValueError(
            f"patch_size={patch_size} is larger than the grid of X, {grid}: give at most {shortest}"
        )
    levels = n_levels
    if isinstance(levels, str):
        patches = min(size // side for size, side in zip(grid, found))
        levels = min(4, max(1, int(math.log2(patches))))
    heads = n_heads
    if isinstance(heads, str):
        heads = next(n for n in range(8, 0, -1) if width % n == 0)
    if width % heads:
        raise ValueError(
            f"width must be a multiple of n_heads, got width={width} and n_heads={heads}"
        )
    return found, int(levels), int(heads)


def relative_errors(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the norm of the error of each sample over the norm of its target."""
    error = np.linalg.norm((found - wanted).reshape(len(wanted), -1), axis=1)
    size = np.linalg.norm(wanted.reshape(len(wanted), -1), axis=1)
    return error / np.where(size > 0, size, 1.0)
