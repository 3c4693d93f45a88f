"""Fields on circles to fields in closed form, where an equation is the same at every place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from sklr.neural_network._fields_closed import FEWEST_SAMPLES, SAME

# Numbers of the kernel (samples squared times cells) at most: to choose its settings, to fit it,
# and of new fields at once.
_TO_CHOOSE, _TO_FIT, _AT_ONCE = 2**21, 2**24, 2**22
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
    """

    fixed: np.ndarray
    n_fixed: float
    n_scaled: float
    wave_weights: np.ndarray
    waves: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    length: float
    nearest: float

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


def fit_on_circles(X: np.ndarray, y: np.ndarray, seed: int) -> ShiftedKernelFields | None:
    """Return the closed form of fields (n, channels, ...) on circles, or None where there is none.

    Settings are those of the least squared error of samples left out one by one, with all their
    shifts. Of samples that are shifts of each other one is kept.
    """
    grid = X.shape[2:]
    order = np.random.default_rng(seed).permutation(len(X))
    most = math.isqrt(_TO_FIT // math.prod(grid))
    order = order[:most]
    X, y = X[order], y[order]
    waves = _waves(X)
    distances = _distances(waves, waves, grid)
    usual = float(distances.mean())
    closest = distances.reshape(len(X), len(X), -1).min(axis=2)
    del distances
    first = ~(np.tril(closest <= SAME * usual, -1)).any(axis=1)
    X, waves, y = X[first], waves[first], y[first]
    if len(y) < FEWEST_SAMPLES or not usual > 0:
        return None
    few = slice(math.isqrt(_TO_CHOOSE // math.prod(grid)))
    amplitudes = np.sqrt((np.abs(waves) ** 2).mean(axis=(0, 1)))
    amplitudes /= amplitudes.max()
    mean = y.mean(axis=(0, *range(2, y.ndim)), keepdims=True)
    rest = y - mean

    best = (np.inf, 0.0, 0.0, 0.0)
    for power, width in product(_POWERS, _WIDTHS):
        blocks = _Blocks.made(waves[few] * amplitudes**power, rest[few], width)
        for penalty in _PENALTIES:
            error = float((blocks.left_out(penalty)[0] ** 2).sum())
            best = min(best, (error, power, width, penalty))
    _, power, width, penalty = best
    weights = amplitudes**power
    blocks = _Blocks.made(waves * weights, rest, width)
    errors, fixed, n_fixed = blocks.left_out(penalty)
    return ShiftedKernelFields(
        fixed + mean[0],
        n_fixed,
        _scaled_by_place(X, rest - errors, errors),
        weights,
        waves * weights,
        blocks.weights(penalty, fixed),
        y - errors,
        blocks.length,
        SAME * blocks.usual,
    )


@dataclass
class _Blocks:
    """The kernel's matrix, wave by wave: (waves, n, n), as eigenvalues and eigenvectors."""

    values: np.ndarray
    vectors: np.ndarray
    y: np.ndarray
    length: float
    usual: float

    @classmethod
    def made(cls, waves: np.ndarray, y: np.ndarray, width: float) -> _Blocks:
        grid = y.shape[2:]
        distances = _distances(waves, waves, grid)
        usual = float(distances.mean())
        length = width * math.sqrt(usual)
        kernel = np.fft.rfftn(_kernel(distances, length), axes=tuple(range(2, y.ndim)))
        values, vectors = np.linalg.eigh(np.moveaxis(kernel.reshape(len(y), len(y), -1), 2, 0))
        return cls(np.maximum(values, 0), vectors, y, length, usual)

    def _solved(self, y: np.ndarray, penalty: float) -> np.ndarray:
        """Return the weights of samples for targets (waves, n, k)."""
        turned = self.vectors.conj().swapaxes(1, 2) @ y
        return self.vectors @ (turned / (self.values + penalty)[..., None])

    def weights(self, penalty: float, fixed: np.ndarray) -> np.ndarray:
        """Return the weights of samples (n, channels, ...), wave by wave."""
        return self._by_sample(self._solved(_by_wave(self.y - fixed), penalty))

    def left_out(self, penalty: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return errors of fits without each sample, what is added at each place, its energy.

        What is added is that for which these errors are least.
        """
        diagonal = (np.abs(self.vectors) ** 2 @ (1 / (self.values + penalty))[..., None]).real
        errors = self._solved(_by_wave(self.y), penalty) / diagonal
        of_one = self._solved(np.ones((len(errors), len(self.y), 1)), penalty) / diagonal
        of_one[0] = 0  # the mean of a channel is no matter of places
        size = (np.abs(of_one) ** 2).sum(axis=1)
        size[0] = 1
        added = (of_one.conj().swapaxes(1, 2) @ errors)[:, 0] / size
        energy = max(float((np.abs(errors) ** 2).sum()), np.finfo(np.float64).tiny)
        n_fixed = len(self.y) ** 2 * float((np.abs(errors.mean(axis=1)) ** 2).sum()) / energy
        left = self._fields(errors - of_one * added[:, None])
        return left, self._fields(added[:, None])[0], n_fixed

    def _fields(self, parts: np.ndarray) -> np.ndarray:
        """Return fields (n, channels, ...) from coefficients (waves, n, channels)."""
        grid = self.y.shape[2:]
        return np.fft.irfftn(self._by_sample(parts), grid, tuple(range(2, self.y.ndim)))

    def _by_sample(self, parts: np.ndarray) -> np.ndarray:
        parts, grid = np.moveaxis(parts, 0, 2), self.y.shape[2:]
        return parts.reshape(*parts.shape[:2], *grid[:-1], grid[-1] // 2 + 1)


def _scaled_by_place(X: np.ndarray, made: np.ndarray, errors: np.ndarray) -> float:
    """Return `n_scaled` of input, answers and their errors (n, channels, ...)."""
    axes = tuple(range(2, X.ndim))
    slopes = [np.roll(made, -1, axis) - np.roll(made, 1, axis) for axis in axes]
    most = 0.0
    for factor in [made, *slopes, *(X[:, [channel]] for channel in range(X.shape[1]))]:
        product = errors * factor
        # What is the same at all places is the kernel's penalty, not the equation.
        product -= product.mean(axis=axes, keepdims=True)
        energy = max(float((product**2).sum()), np.finfo(np.float64).tiny)
        most = max(most, float((product.sum(axis=0) ** 2).sum()) / energy)
    return most


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
