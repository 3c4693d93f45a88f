"""Forecasts by a linear operator on functions of the state, and their errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.linalg import eigvalsh, svd

# What an error is at most, in standard deviations of the states: forecasts that run away.
_WORST = 1e3
# Below this an error is none.
LEAST = 1e-7
_GRID = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Squared singular values of an operator, relative to the largest, below which it keeps nothing.
_KEPT = 1e-4
# More features than this are replaced by their principal components.
_MOST_FEATURES = 100


@dataclasses.dataclass
class Scaling:
    """States without mean and unit, as principal components where there are many features."""

    mean: np.ndarray
    scale: np.ndarray
    axes: np.ndarray | None = None

    def scaled(self, X: np.ndarray) -> np.ndarray:
        S = (X - self.mean) / self.scale
        return S if self.axes is None else S @ self.axes

    def unscaled(self, S: np.ndarray) -> np.ndarray:
        return (S if self.axes is None else S @ self.axes.T) * self.scale + self.mean


def fit_scaling(X: np.ndarray, each: bool, reduce: bool) -> Scaling:
    """Return the scaling of states; features that do not vary keep their unit."""
    first = X[0]
    centred = X - first
    size = np.abs(centred).max(axis=0)
    safe = np.where(size > 0, size, 1.0)
    std = safe * (centred / safe).std(axis=0)
    mean = first + safe * (centred / safe).mean(axis=0)
    varies = std > 10 * np.finfo(float).eps * np.abs(mean)
    if not each:
        std = np.full_like(std, std.max())
    scaling = Scaling(mean, np.where(varies & (std > 0), std, 1.0))
    if reduce and X.shape[1] > _MOST_FEATURES:
        some = X[np.linspace(0, len(X) - 1, min(len(X), 2000)).astype(int)]
        _, sizes, axes = svd(scaling.scaled(some), full_matrices=False)
        kept = np.flatnonzero(sizes > 1e-6 * sizes[0])[:_MOST_FEATURES]
        scaling.axes = np.ascontiguousarray(axes[: max(1, len(kept))].T)
    return scaling


class Cleaned:
    """Functions of states with less of what is noise in them.

    A step of the operator `K` from these is one of the regression from the functions as they are,
    which is the best that can be said of the next state; a forecast of more steps then loses no
    more than the noise of its start. In directions that `K` hardly keeps they stay as they are.
    """

    def __init__(
        self, lift: Callable[[np.ndarray], np.ndarray], K: np.ndarray, regression: np.ndarray
    ) -> None:
        self.lift = lift
        gram = K.T @ K
        least = _KEPT * float(np.abs(eigvalsh(gram)).max(initial=0.0)) or 1.0
        change = np.linalg.solve(gram + least * np.eye(len(K)), K.T @ (regression - K))
        self.weights = (np.eye(len(K)) + change).T

    def __call__(self, S: np.ndarray) -> np.ndarray:
        return self.lift(S) @ self.weights


@dataclasses.dataclass
class Dynamics:
    """An operator K on latents, how states become latents, and back."""

    lift: Callable[[np.ndarray], np.ndarray]
    K: np.ndarray
    decode: Callable[[np.ndarray], np.ndarray] | None = None
    C: np.ndarray | None = None  # instead of `decode`, where it is a matrix
    within: Callable[[np.ndarray], np.ndarray] | None = None  # keeps relifted states near the data

    def states_of(self, Z: np.ndarray) -> np.ndarray:
        if self.C is not None:
            return Z @ self.C
        assert self.decode is not None
        return self.decode(Z)

    def run(self, S: np.ndarray, n_steps: int, relift: bool) -> Iterator[np.ndarray]:
        """Yield the states after 1, 2, ... steps; what runs away is NaN from then on."""
        read = None if self.C is None or not relift else self.K.T @ self.C
        # States that a forecast has gone through have no noise to be taken out again.
        lift = self.lift.lift if relift and isinstance(self.lift, Cleaned) else self.lift
        with np.errstate(over="ignore", invalid="ignore"):
            Z = lift(S)
        gone = np.zeros(len(S), dtype=bool)
        for step in range(n_steps):
            with np.errstate(over="ignore", invalid="ignore"):
                if read is not None:
                    S = Z @ read
                else:
                    Z = Z @ self.K.T
                    S = self.states_of(Z)
                if relift and step and self.within is not None:
                    S = self.within(S)
                gone = gone | ~np.isfinite(S).all(axis=1)
                yield np.where(gone[:, None], np.nan, S) if gone.any() else S
                if relift and step + 1 < n_steps:
                    Z = lift(np.where(gone[:, None], 0.0, S))


def errors_by_step(
    dynamics: Dynamics,
    S: np.ndarray,
    rows: np.ndarray,
    ahead: np.ndarray,
    relift: bool,
    at: Sequence[int],
    variance: float,
) -> np.ndarray:
    """Return the root mean squared error after the steps `at`, in standard deviations."""
    found = []
    for step, states in enumerate(dynamics.run(S[rows], max(at), relift), start=1):
        if step not in at:
            continue
        there = ahead >= step
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.square(states[there] - S[rows[there] + step]).sum(axis=1) / variance
        squares = np.where(np.isfinite(squares), squares, np.inf)
        found.append(min(float(np.sqrt(np.minimum(squares, _WORST**2).mean())), _WORST))
    return np.array(found)


def steps_to_compare(horizon: int) -> list[int]:
    """Return the steps at which forecasts are compared, up to the horizon."""
    return sorted({step for step in _GRID if step < horizon} | {horizon})


def log_error(errors: np.ndarray) -> float:
    """Return the mean logarithm: near and far steps count alike."""
    return float(np.log(np.maximum(errors, LEAST)).mean())
