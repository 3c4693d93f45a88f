"""Fields on circles to fields in closed form, where an equation is the same at every place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from sklr.neural_network._fields_closed import FEWEST_SAMPLES, SAME, averaged
from sklr.neural_network._fields_symmetries import Symmetry

# Numbers of the kernel (samples squared times cells) at most: to choose its settings, to fit it,
# and of new fields at once.
_TO_CHOOSE, _TO_FIT, _AT_ONCE = 2**21, 2**24, 2**22
# Energy of the mean of errors, or of their products, in what chance makes of it, above which places
# differ.
_BY_CHANCE = 3.0
# What is tried: powers of the waves' amplitudes that they are weighted by in distances, widths of
# the kernel in root mean squared distances, penalties.
_POWERS, _WIDTHS = (0.0, 0.25, 0.5), (0.3, 1.2, 5.0)
_PENALTIES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass
class ShiftedKernelFields:
    """Kernel ridge regression from all shifts of the samples, which commutes with shifts.

    A field that is moved along a circle gives the target moved as far, but for a field that is
    added at its place (what stirs, or heats). With the samples at all places the kernel's matrix is
    made of circulants, so that a Fourier transform leaves one small matrix for each wave.

    Attributes
    ----------
    fixed : ndarray of shape (n_channels, ...)
        What is added at each place: the means of the targets' channels at least.
    n_fixed : float
        Energy of the mean error where nothing is added at each place, as a multiple of what it is
        by chance.
    n_scaled : float
        The largest such multiple of errors times what an equation may weigh by the place: the
        answer, its slopes, the input.
    moves : list of tuple of int
        Steps along the axes that may be repeated without a change of the equation: one along each
        axis where both numbers are small, one along an axis or a diagonal where they are small for
        what differs along it, or none.
    wave_weights : ndarray
        What Fourier coefficients are multiplied by before distances are taken.
    waves : ndarray of shape (n, n_channels, ...)
        Such coefficients of the training samples.
    weights : ndarray of shape (n, n_channels, ...)
        Weights of the training samples, wave by wave.
    held_out : ndarray of shape (n, n_channels, ...)
        What each training sample has from the others.
    length : float
        Distance in whose units the kernel, Matern's of smoothness 5/2, is taken.
    nearest : float
        Squared distance below which a field is one of the training, moved.
    rows : ndarray of int
        Which training samples these are; images of all of them follow, kind by kind.
    settings : tuple of float
        Power, width and penalty.
    """

    fixed: np.ndarray
    n_fixed: float
    n_scaled: float
    moves: list[tuple[int, ...]]
    wave_weights: np.ndarray
    waves: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    length: float
    nearest: float
    rows: np.ndarray
    settings: tuple[float, float, float]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return targets (n, channels, ...) of fields; those of training samples are held out."""
        grid = X.shape[2:]
        size = max(1, _AT_ONCE // (len(self.waves) * math.prod(grid)))
        return np.concatenate([self._of(X[i : i + size]) for i in range(0, len(X), size)])

    def _of(self, X: np.ndarray) -> np.ndarray:
        grid, axes = X.shape[2:], tuple(range(2, X.ndim))
        distances = _distances(_waves(X) * self.wave_weights, self.waves, grid)
        kernel = np.fft.rfftn(_kernel(distances, self.length), axes=axes)
        waves = np.einsum("ij...,jk...->ik...", kernel, self.weights)
        made = np.fft.irfftn(waves, grid, axes) + self.fixed
        flat = distances.reshape(len(X), -1)
        nearest = flat.argmin(axis=1)
        for i in np.flatnonzero(flat[np.arange(len(X)), nearest] <= self.nearest):
            sample, *moved = np.unravel_index(nearest[i], distances.shape[1:])
            made[i] = np.roll(self.held_out[sample], moved, axis=tuple(range(1, 1 + len(grid))))
        return made


def fit_on_circles(
    X: np.ndarray,
    y: np.ndarray,
    seed: int,
    group: Sequence[Symmetry] = (),
    settings: tuple[float, float, float] | None = None,
) -> ShiftedKernelFields | None:
    """Return the closed form of fields (n, channels, ...) on circles, or None where there is none.

    Settings are those of the least squared error of samples left out one by one, with all their
    shifts, and their images under a group if there is one. Targets of copies are averaged, and of
    samples that are shifts or images of each other one is kept.
    """
    grid = X.shape[2:]
    copies = max(len(group), 1)
    X, y, own = averaged(X, y)
    rows = np.random.default_rng(seed).permutation(len(X))
    rows = rows[: math.isqrt(_TO_FIT // math.prod(grid)) // copies]
    waves = _waves(np.concatenate([one.of(X[rows]) for one in group]) if group else X[rows])
    distances = _distances(waves[: len(rows)], waves, grid)
    usual = float(distances.mean())
    closest = distances.reshape(len(rows), copies, len(rows), -1).min(axis=(1, 3))
    del distances
    rows = rows[~(np.tril(closest <= SAME * usual, -1)).any(axis=1)]
    if len(rows) < FEWEST_SAMPLES or not usual > 0:
        return None

    def with_images(fields: np.ndarray, *, target: bool) -> np.ndarray:
        """Return all samples and then all images of them, kind by kind."""
        if not group:
            return fields
        return np.concatenate([one.of(fields, target=target) for one in group])

    X, y = with_images(X[rows], target=False), with_images(y[rows], target=True)
    waves = _waves(X)
    amplitudes = np.sqrt((np.abs(waves) ** 2).mean(axis=(0, 1)))
    amplitudes /= amplitudes.max()
    mean = y.mean(axis=(0, *range(2, y.ndim)), keepdims=True)
    rest = y - mean

    if settings is None:
        n_few = math.isqrt(_TO_CHOOSE // math.prod(grid)) // copies
        few = np.arange(len(y)).reshape(copies, -1)[:, :n_few].ravel()
        best = (np.inf, 0.0, 0.0, 0.0)
        for power, width in product(_POWERS, _WIDTHS):
            blocks = _Blocks.made(waves[few] * amplitudes**power, rest[few], width, copies)
            for penalty in _PENALTIES:
                error = float((blocks.left_out(penalty)[0] ** 2).sum())
                best = min(best, (error, power, width, penalty))
        settings = best[1:]
    power, width, penalty = settings
    weights = amplitudes**power
    blocks = _Blocks.made(waves * weights, rest, width, copies, penalty)
    errors, fixed, chances = blocks.left_out(penalty)
    n_fixed, n_scaled = _times_chance(*chances), _scaled_by_place(X, rest - errors, errors)
    moves = [tuple(step) for step in np.eye(len(grid), dtype=int).tolist()]
    if not max(n_fixed, n_scaled) < _BY_CHANCE:
        moves = _along_a_line(X, rest - errors, errors, chances)
    return ShiftedKernelFields(
        fixed + mean[0],
        n_fixed,
        n_scaled,
        moves,
        weights,
        waves * weights,
        blocks.weights(penalty, fixed),
        y - errors,
        blocks.length,
        SAME * blocks.usual,
        own[rows],
        settings,
    )


@dataclass
class _Blocks:
    """The kernel's matrix, wave by wave: (waves, n, n), as eigenvalues and eigenvectors.

    Where the penalty is known beforehand, the inverse is there instead.
    """

    values: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray | None
    y: np.ndarray
    length: float
    usual: float
    copies: int

    @classmethod
    def made(
        cls,
        waves: np.ndarray,
        y: np.ndarray,
        width: float,
        copies: int,
        penalty: float | None = None,
    ) -> _Blocks:
        grid = y.shape[2:]
        distances = _distances(waves, waves, grid)
        usual = float(distances.mean())
        length = width * math.sqrt(usual)
        kernel = np.fft.rfftn(_kernel(distances, length), axes=tuple(range(2, y.ndim)))
        matrices = np.moveaxis(kernel.reshape(len(y), len(y), -1), 2, 0)
        if penalty is not None:
            inverse = np.linalg.inv(matrices + penalty * np.eye(len(y)))
            return cls(np.empty(0), np.empty(0), inverse, y, length, usual, copies)
        values, vectors = np.linalg.eigh(matrices)
        return cls(np.maximum(values, 0), vectors, None, y, length, usual, copies)

    def _solved(self, y: np.ndarray, penalty: float) -> np.ndarray:
        """Return the weights of samples for targets (waves, n, k)."""
        if self.inverse is not None:
            return self.inverse @ y
        turned = self.vectors.conj().swapaxes(1, 2) @ y
        return self.vectors @ (turned / (self.values + penalty)[..., None])

    def weights(self, penalty: float, fixed: np.ndarray) -> np.ndarray:
        """Return the weights of samples (n, channels, ...), wave by wave."""
        return self._by_sample(self._solved(_by_wave(self.y - fixed), penalty))

    def left_out(self, penalty: float) -> tuple[np.ndarray, np.ndarray, tuple[Any, Any]]:
        """Return errors of fits without each sample, what is added at each place, and energies.

        What is added is that for which these errors are least. Energies are those of the sum of
        errors before, and of errors, wave by wave.
        """
        errors = self._without(self._solved(_by_wave(self.y), penalty), penalty)
        of_one = np.ones((len(errors), len(self.y), 1))
        of_one = self._without(self._solved(of_one, penalty), penalty)
        of_one[0] = 0  # the mean of a channel is no matter of places
        size = (np.abs(of_one) ** 2).sum(axis=1)
        size[0] = 1
        added = (of_one.conj().swapaxes(1, 2) @ errors)[:, 0] / size
        of_sum = (np.abs(errors.sum(axis=1)) ** 2).sum(axis=1)
        chances = of_sum, (np.abs(errors) ** 2).sum(axis=(1, 2))
        left = self._fields(errors - of_one * added[:, None])
        return left, self._fields(added[:, None])[0], chances

    def _without(self, weights: np.ndarray, penalty: float) -> np.ndarray:
        """Return errors of fits without each sample and its images, from weights of all."""
        if self.copies == 1 and self.inverse is None:
            diagonal = (np.abs(self.vectors) ** 2 @ (1 / (self.values + penalty))[..., None]).real
            return weights / diagonal
        n_waves, n, k = weights.shape
        split = n_waves, self.copies, n // self.copies
        if self.inverse is None:
            parts = self.vectors.reshape(*split, n).swapaxes(1, 2)
            own = (parts / (self.values + penalty)[:, None, None]) @ parts.conj().swapaxes(2, 3)
        else:
            own = np.einsum("waibi->wiab", self.inverse.reshape(*split, *split[1:]))
        errors = np.linalg.solve(own, weights.reshape(*split, k).swapaxes(1, 2))
        return errors.swapaxes(1, 2).reshape(n_waves, n, k)

    def _fields(self, parts: np.ndarray) -> np.ndarray:
        """Return fields (n, channels, ...) from coefficients (waves, n, channels)."""
        grid = self.y.shape[2:]
        return np.fft.irfftn(self._by_sample(parts), grid, tuple(range(2, self.y.ndim)))

    def _by_sample(self, parts: np.ndarray) -> np.ndarray:
        parts, grid = np.moveaxis(parts, 0, 2), self.y.shape[2:]
        return parts.reshape(*parts.shape[:2], *grid[:-1], grid[-1] // 2 + 1)


def _times_chance(of_sum: np.ndarray, energy: np.ndarray) -> float:
    """Return the energy of a sum over that of its terms, which is 1 by chance."""
    return float(of_sum.sum()) / max(float(energy.sum()), np.finfo(np.float64).tiny)


def _scaled_by_place(
    X: np.ndarray, made: np.ndarray, errors: np.ndarray, varies: np.ndarray | None = None
) -> float:
    """Return `n_scaled` of input, answers and their errors (n, channels, ...).

    Or only of the waves that `varies` says.
    """
    axes = tuple(range(2, X.ndim))
    slopes = [np.roll(made, -1, axis) - np.roll(made, 1, axis) for axis in axes]
    most = 0.0
    for factor in [made, *slopes, *(X[:, [channel]] for channel in range(X.shape[1]))]:
        product = errors * factor
        # What is the same at all places is the kernel's penalty, not the equation.
        product -= product.mean(axis=axes, keepdims=True)
        if varies is not None:
            product = np.fft.irfftn(_waves(product) * varies, X.shape[2:], axes)
        most = max(most, _times_chance(product.sum(axis=0) ** 2, product**2))
    return most


def _along_a_line(
    X: np.ndarray, made: np.ndarray, errors: np.ndarray, chances: tuple[np.ndarray, np.ndarray]
) -> list[tuple[int, ...]]:
    """Return the step along an axis or a diagonal in which places are alike, if there is one."""
    grid = X.shape[2:]
    steps = list(np.eye(len(grid), dtype=int))
    for a, b in combinations(range(len(grid)), 2):
        if grid[a] == grid[b]:
            steps += [steps[a] + steps[b], steps[a] - steps[b]]
    if len(grid) == 1:
        return []
    best, found = _BY_CHANCE, []
    frequencies = [np.fft.fftfreq(n) for n in grid[:-1]] + [np.fft.rfftfreq(grid[-1])]
    for step in steps:
        turns = sum(np.meshgrid(*(f * n for f, n in zip(frequencies, step)), indexing="ij"))
        varies = np.abs(turns - np.round(turns)) > 1e-9
        worst = max(
            _times_chance(*(part[varies.ravel()] for part in chances)),
            _scaled_by_place(X, made, errors, varies),
        )
        if worst < best:
            best, found = worst, [tuple(step.tolist())]
    return found


def _by_wave(y: np.ndarray) -> np.ndarray:
    """Return the Fourier coefficients of fields, (waves, n, channels)."""
    return np.moveaxis(_waves(y).reshape(*y.shape[:2], -1), 2, 0)


def _waves(fields: np.ndarray) -> np.ndarray:
    return np.fft.rfftn(fields, axes=tuple(range(2, fields.ndim)))


def _kernel(distances: np.ndarray, length: float) -> np.ndarray:
    far = np.sqrt(5 * distances) / length
    return (1 + far + far**2 / 3) * np.exp(-far)


def _distances(a: np.ndarray, b: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Return squared distances (n, m, ...) of fields to fields, the first ones moved back."""
    axes = tuple(range(2, 2 + len(grid)))
    products = np.fft.irfftn(np.einsum("ic...,jc...->ij...", a, b.conj()), grid, axes)
    sizes = [
        (np.fft.irfftn(part, grid, axes) ** 2).sum(axis=(1, *axes)).reshape(-1, *[1] * len(grid))
        for part in (a, b)
    ]
    return np.maximum(sizes[0][:, None] + sizes[1][None] - 2 * products, 0)
