"""Koopman operators in closed form: dictionaries of functions, and least squares on them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist, pdist

# The ridge where "auto" has nothing to compare it on.
RIDGE = 1e-6
# Monomials at most; of more, those of fewer principal coordinates are taken.
_MOST_MONOMIALS = 250
_CHUNK = 4096


class Dictionary:
    """Functions of the state: one, the state itself, and what a subclass adds.

    The state is among them, so that it is read off what the operator makes of them.
    """

    name = "linear"
    describes: dict[str, Any] = {}

    def fit(self, S: np.ndarray, rng: Any) -> Dictionary:
        self.n_state = S.shape[1]
        return self

    def more(self, S: np.ndarray) -> np.ndarray:
        return np.empty((len(S), 0))

    def within(self, S: np.ndarray) -> np.ndarray:
        """Return states from which the next step of a forecast through the states may begin."""
        return S

    def lift(self, S: np.ndarray) -> np.ndarray:
        return np.hstack([np.ones((len(S), 1)), S, self.more(S)])

    def decoder(self, S: np.ndarray, Z: np.ndarray) -> np.ndarray:
        """Return the matrix, (n_functions, n_state), from functions to states."""
        C = np.zeros((Z.shape[1], self.n_state))
        C[1 : 1 + self.n_state] = np.eye(self.n_state)
        return C


class Monomials(Dictionary):
    """Products of up to `degree` coordinates, principal ones where there are many."""

    name = "polynomial"

    def __init__(self, degree: int) -> None:
        self.degree, self.describes = degree, {"degree": degree}

    def fit(self, S: np.ndarray, rng: Any) -> Dictionary:
        super().fit(S, rng)
        width = S.shape[1]
        while width > 1 and math.comb(width + self.degree, self.degree) > _MOST_MONOMIALS:
            width -= 1
        self.axes = None
        if width < S.shape[1]:
            centred = S - S.mean(axis=0)
            _, axes = eigh(centred.T @ centred)
            self.axes = axes[:, ::-1][:, :width]
        self.width = width
        self.factors = [
            np.array(list(itertools.combinations_with_replacement(range(width), d)))
            for d in range(2, self.degree + 1)
        ]
        self.norms = np.ones(1)
        norms = np.sqrt(np.square(self.more(S[:5000])).mean(axis=0))
        self.norms = np.where(norms > 0, norms, 1.0)
        return self

    def more(self, S: np.ndarray) -> np.ndarray:
        if not self.factors:
            return super().more(S)
        coordinates = S if self.axes is None else S @ self.axes
        return np.hstack([coordinates[:, f].prod(axis=2) for f in self.factors]) / self.norms


class Gaussians(Dictionary):
    """Gaussians around states that were seen."""

    name = "rbf"

    def __init__(self, n_centers: int, width: float) -> None:
        self.n_centers, self.width = n_centers, width
        self.describes = {"kernel_width": width}

    def fit(self, S: np.ndarray, rng: Any) -> Dictionary:
        super().fit(S, rng)
        chosen = rng.permutation(len(S))[: self.n_centers]
        self.centers = np.unique(S[np.sort(chosen)], axis=0)
        some = S[chosen[:200]]
        distances = pdist(some)
        distances = distances[distances > 0]
        median = float(np.median(distances)) if len(distances) else 1.0
        self.factor = -0.5 / (self.width * median) ** 2
        low, high = S.min(axis=0), S.max(axis=0)
        self.range = low - (high - low) / 2, high + (high - low) / 2
        return self

    def within(self, S: np.ndarray) -> np.ndarray:
        # Far from all centres nothing is known, and nothing brings a forecast back.
        return np.clip(S, *self.range)

    def more(self, S: np.ndarray) -> np.ndarray:
        return np.exp(self.factor * cdist(S, self.centers, "sqeuclidean"))


class Given(Dictionary):
    """The user's functions of states in their own units; states are read off by least squares."""

    name = "callable"

    def __init__(self, function: Callable, unscaled: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function, self.unscaled = function, unscaled

    def lift(self, S: np.ndarray) -> np.ndarray:
        given = self.unscaled(S)
        made = np.asarray(self.function(given), dtype=np.float64)
        if made.ndim != 2 or len(made) != len(S):
            raise ValueError(
                f"encoder must return an array of shape ({len(S)}, n_functions) for states of "
                f"shape {given.shape}, got shape {made.shape}"
            )
        return made

    def decoder(self, S: np.ndarray, Z: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(Z, S, rcond=None)[0]


class LeastSquares:
    """Ridge regression of the next functions on the present ones, for any ridge.

    Directions without data go to zero in a step: forecasts that leave the data come back.

    Noise in the present functions makes the regression's operator too small. With `instruments`
    they are replaced by what the functions a step before say of them, whose noise is another:
    two-stage least squares, of `rows` that have a row before them.
    """

    def __init__(
        self,
        lift: Callable[[np.ndarray], np.ndarray],
        S: np.ndarray,
        rows: np.ndarray,
        instruments: bool = False,
    ) -> None:
        n = len(rows)
        before = rows - 1 if instruments else rows
        gram: Any = 0.0
        now: Any = 0.0
        cross: Any = 0.0
        for some, earlier in zip(_chunks(rows), _chunks(before)):
            Z = lift(S[earlier])
            gram = gram + Z.T @ Z / n
            if instruments:
                now = now + Z.T @ lift(S[some]) / n
            cross = cross + Z.T @ lift(S[some + 1]) / n
        # Columns of unit size: the ridge means the same for each.
        sizes = np.sqrt(np.diag(gram))
        self.sizes = np.where(sizes > 0, sizes, 1.0)
        gram, cross = gram / np.outer(self.sizes, self.sizes), cross / self.sizes[:, None]
        if instruments:
            now = now / np.outer(self.sizes, self.sizes)
            values, vectors = eigh(gram)
            first = (vectors * _inverse(values, RIDGE)) @ (vectors.T @ now)
            gram, cross = first.T @ now, first.T @ cross
            gram = (gram + gram.T) / 2
        self.values, self.vectors = eigh(gram)
        self.cross = self.vectors.T @ cross

    def solve(self, ridge: float) -> np.ndarray:
        """Return K for columns, ``z_next = K z``."""
        inverse = _inverse(self.values, ridge)
        return (self.vectors @ (inverse[:, None] * self.cross) / self.sizes[:, None]).T


def _inverse(values: np.ndarray, ridge: float) -> np.ndarray:
    """Return the inverses of eigenvalues with a ridge, 0 for those that are rounding."""
    seen = values > np.finfo(float).eps * len(values) * max(values[-1], 1e-300)
    return np.where(seen, 1 / (np.where(seen, values, 1.0) + ridge), 0.0)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // _CHUNK)))


def with_spectral_radius(K: np.ndarray, radius: float) -> np.ndarray:
    """Return K with eigenvalues beyond `radius` moved onto its circle."""
    values, vectors = np.linalg.eig(K)
    sizes = np.abs(values)
    if sizes.max() <= radius:
        return K
    values = values * np.minimum(1.0, radius / np.maximum(sizes, 1e-300))
    return np.linalg.solve(vectors.T, (vectors * values).T).T.real
