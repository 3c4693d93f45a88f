"""Trajectories of a system: one table, a stack of equal lengths, or a list of any lengths."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from sklr._torch._batches import refuse_datasets
from sklr.utils._validation import check_array, validate_data


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """States of all trajectories one below the other, and the layout they came in."""

    states: np.ndarray
    lengths: tuple[int, ...]
    layout: str  # "table", "stack" or "list"

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First row of each trajectory, and the row after its last."""
        ends = np.cumsum(self.lengths).tolist()
        return [(end - length, end) for end, length in zip(ends, self.lengths)]

    def laid_out(self, values: np.ndarray) -> Any:
        """Return values of each state in the layout of the input."""
        if self.layout == "table":
            return values
        if self.layout == "stack":
            return values.reshape(len(self.lengths), self.lengths[0], *values.shape[1:])
        return [values[first:end] for first, end in self.bounds]


def read_trajectories(
    estimator: Any, X: Any, *, reset: bool, shortest: int = 1, checked: bool = True
) -> Trajectories:
    """Check trajectories; an error names the one it is about.

    Parameters
    ----------
    estimator : estimator
        Its number and names of features are set or compared.
    X : array-like
        A table (n_steps, n_features), a stack (n_trajectories, n_steps, n_features), or a list of
        tables.
    reset : bool
        Whether to set the number of features.
    shortest : int, default=1
        States that each trajectory needs.
    checked : bool, default=True
        False for latents, whose columns are not the features.
    """
    refuse_datasets(X)

    def table(values: Any, reset: bool) -> np.ndarray:
        options: dict[str, Any] = dict(dtype=np.float64, order="C", ensure_min_samples=shortest)
        with np.errstate(over="ignore", invalid="ignore"):
            if checked:
                return validate_data(estimator, values, reset=reset, **options)
            return check_array(values, **options)

    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        X = list(X)
    if isinstance(X, (list, tuple)):
        dims = [_n_dims(item) for item in X]
        if dims and max(dims) >= 2:
            return _read_list(X, dims, table, reset)
        out = table(X, reset)
        return Trajectories(out, (len(out),), "table")
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 3:
        whole = np.asarray(X)
        if 0 in shape[:2] or shape[1] < shortest:
            raise ValueError(
                f"X has shape {tuple(shape)}, which is (n_trajectories, n_steps, n_features): "
                f"each trajectory needs at least {shortest} state(s)"
            )
        out = table(whole.reshape(-1, shape[2]), reset)
        return Trajectories(out, (int(shape[1]),) * int(shape[0]), "stack")
    out = table(X, reset)
    return Trajectories(out, (len(out),), "table")


def _read_list(X: Any, dims: list[int], table: Any, reset: bool) -> Trajectories:
    odd = next((i for i, d in enumerate(dims) if d != 2), None)
    if odd is not None:
        raise ValueError(
            f"X is a list of trajectories, each of shape (n_steps, n_features), but trajectory "
            f"{odd} has {dims[odd]} dimension(s)"
        )
    found = []
    for i, item in enumerate(X):
        try:
            found.append(table(item, reset and i == 0))
        except (ValueError, TypeError) as exc:
            raise type(exc)(f"trajectory {i} of {len(X)}: {exc}") from exc
        if found[i].shape[1] != found[0].shape[1]:
            raise ValueError(
                f"trajectory {i} of {len(X)} has {found[i].shape[1]} columns, trajectory 0 has "
                f"{found[0].shape[1]}"
            )
    return Trajectories(np.concatenate(found), tuple(len(t) for t in found), "list")


def _n_dims(item: Any) -> int:
    if hasattr(item, "ndim"):
        return int(item.ndim)
    if isinstance(item, (list, tuple)):
        return 1 + (_n_dims(item[0]) if len(item) else 0)
    return 0


def transitions(bounds: list[tuple[int, int]]) -> np.ndarray:
    """Return the rows that have a next row in their trajectory."""
    return np.concatenate([np.arange(first, end - 1) for first, end in bounds])


def window_starts(bounds: list[tuple[int, int]], length: int) -> np.ndarray:
    """Return where windows of so many consecutive states begin; none crosses trajectories."""
    return np.concatenate([np.arange(first, max(first, end - length + 1)) for first, end in bounds])


def hold_out(
    bounds: list[tuple[int, int]], fraction: float, rng: Any
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Set whole trajectories aside, or the last part of each where there are fewer than five.

    What is set aside may be empty: then the trajectories are too short.
    """
    if len(bounds) >= 5:
        n_held = max(1, round(fraction * len(bounds)))
        held = set(rng.permutation(len(bounds))[:n_held].tolist())
        return (
            [b for i, b in enumerate(bounds) if i not in held],
            [b for i, b in enumerate(bounds) if i in held],
        )
    kept, tails = [], []
    for first, end in bounds:
        n_held = max(3, round(fraction * (end - first)))
        if end - first < n_held + 5:
            kept.append((first, end))
        else:
            kept.append((first, end - n_held))
            tails.append((end - n_held, end))
    return kept, tails


def forecast_starts(
    bounds: list[tuple[int, int]], horizon: int, n_starts: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to forecast from, evenly spaced, and how many steps each can be compared."""
    each = max(1, -(-n_starts // len(bounds)))
    rows, steps = [], []
    for first, end in bounds:
        if end - first < 2:
            continue
        starts = np.unique(np.linspace(first, end - 2, each).astype(int))
        rows.append(starts)
        steps.append(np.minimum(horizon, end - 1 - starts))
    if not rows:
        return np.empty(0, int), np.empty(0, int)
    return np.concatenate(rows), np.concatenate(steps)
