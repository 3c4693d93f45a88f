"""Fields to fields in closed form, from all images of the samples under a group of symmetries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from sklr.neural_network._fields_closed import (
    _COMPONENTS,
    _DIRECTIONS,
    _MOST_SAMPLES,
    _PENALTIES,
    _WIDTHS,
    FEWEST_SAMPLES,
    SAME,
    _inverse,
    _leading,
    averaged,
)
from sklr.neural_network._fields_symmetries import Symmetry, mean_of

# Operations of one inverse at most: where settings are chosen, and where the samples are fitted.
_TO_CHOOSE, _TO_FIT = 3e8, 4e10
# Samples of which principal components are made.
_FOR_AXES = 500


@dataclass
class SymmetricKernelFields:
    """Kernel ridge regression between principal components, which commutes with symmetries.

    It is that of the samples together with all their images, of which those of one sample have
    the images of one weight, as they are the images of one target. The kernel's matrix falls apart
    into blocks, one for each irreducible part of the group.

    Attributes
    ----------
    group : list of Symmetry
        The symmetries, what changes nothing first.
    x_mean, y_mean : ndarray of shape (n_channels, ...)
        Means of the input and of the targets and all their images.
    axes : ndarray of shape (n_features, n_components)
        Principal axes of the input and its images.
    scores : ndarray of shape (n, n_components)
        Training samples on these axes.
    weights : ndarray of shape (n, n_channels, ...)
        Weights of the training samples.
    held_out : ndarray of shape (n, n_channels, ...)
        What each training sample has from the others and their images.
    gamma : float
        Of the kernel exp(-gamma * squared distance).
    penalty : float
        On the diagonal of the kernel's matrix.
    nearest : float
        Squared distance below which a sample is one of the training, or an image of it.
    rows : ndarray of int
        Which training samples these are.
    settings : tuple of float
        Components and width of the kernel in mean distances.
    """

    group: list[Symmetry]
    x_mean: np.ndarray
    y_mean: np.ndarray
    axes: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    gamma: float
    penalty: float
    nearest: float
    rows: np.ndarray
    settings: tuple[int, float]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return targets (n, channels, ...); those of training samples and images are held out."""
        X = X - self.x_mean
        made: np.ndarray | float = 0.0
        seen: list[tuple[Symmetry, np.ndarray, np.ndarray]] = []
        flat = self.weights.reshape(len(self.weights), -1)
        for one in self.group:
            back = _inverse_of(one, self.group)
            scores = back.of(X).reshape(len(X), -1) @ self.axes
            distances = euclidean_distances(scores, self.scores, squared=True)
            same = distances.argmin(axis=1)
            here = np.flatnonzero(distances[np.arange(len(X)), same] <= self.nearest)
            seen.append((one, here, same[here]))
            part = np.exp(-self.gamma * distances) @ flat
            made = made + one.of(part.reshape(len(X), *self.weights.shape[1:]), target=True)
        found = np.asarray(made) + self.y_mean
        for one, here, sample in seen:
            found[here] = one.of(self.held_out[sample], target=True)
        return found


def fit_symmetric(
    X: np.ndarray,
    y: np.ndarray,
    group: list[Symmetry],
    seed: int,
    settings: tuple[int, float] | None = None,
) -> SymmetricKernelFields | None:
    """Return the closed form of fields (n, channels, ...), or None where there is none.

    Components, width and penalty are those of the least squared error of samples left out one by
    one, with all their images; or components and width are `settings`. Targets of copies are
    averaged, and of samples that are images of each other one is kept.
    """
    parts = irreducible(group)
    cost = sum(part.shape[1] ** 3 for part in parts)
    X, y, own = averaged(X, y)
    rows = np.random.default_rng(seed).permutation(len(X))
    rows = rows[: min(_MOST_SAMPLES, int((_TO_FIT / cost) ** (1 / 3)))]
    X, y = X[rows], y[rows]
    x_mean = mean_of([one.of(X.mean(axis=0), first=1) for one in group])
    y_mean = mean_of([one.of(y.mean(axis=0), target=True, first=1) for one in group])
    X, y = X - x_mean, y - y_mean
    axes, spread = _principal(X[:_FOR_AXES], group, parts)
    if len(spread) == 0:
        return None
    images = np.stack([one.of(X).reshape(len(X), -1) @ axes for one in group])
    first = _first_of_images(images)
    rows, y, images = own[rows[first]], y[first], images[:, first]
    if len(y) < FEWEST_SAMPLES:
        return None
    targets = list(_by_part(y, group, parts))
    chosen = settings or _chosen(y, images, spread, group, parts)
    if chosen is None:
        return None
    n_components = _whole(spread, chosen[0])
    images, axes = images[..., :n_components], axes[:, :n_components]
    distances = _distances(images)
    usual = float(distances.mean())
    gamma = 0.5 / (chosen[1] ** 2 * usual)
    kernels = _blocks(np.exp(-gamma * distances), group, parts)
    few = [_strongest(part, _DIRECTIONS) for part in targets]
    errors = [_left_out_error(kernels, few, penalty, len(y)) for penalty in _PENALTIES]
    penalty = _PENALTIES[int(np.argmin(errors))]
    weights, error = np.zeros((2, len(y), y[0].size))
    for part, kernel, targets_of in zip(parts, kernels, targets):
        solved = _solved(kernel, targets_of, penalty, len(y))
        if solved is None:
            return None
        for total, found in zip((weights, error), solved):
            total += np.tensordot(part[0], found.reshape(part.shape[1], len(y), -1), 1)
    return SymmetricKernelFields(
        group,
        x_mean,
        y_mean,
        axes,
        images[0],
        weights.reshape(y.shape),
        y - error.reshape(y.shape) + y_mean,
        gamma,
        penalty,
        SAME * usual,
        rows,
        chosen,
    )


def _chosen(
    y: np.ndarray,
    images: np.ndarray,
    spread: np.ndarray,
    group: list[Symmetry],
    parts: list[np.ndarray],
) -> tuple[int, float] | None:
    """Return the number of components and the width of the kernel that err by least."""
    cost = sum(part.shape[1] ** 3 for part in parts)
    few = slice(max(FEWEST_SAMPLES, int((_TO_CHOOSE / cost) ** (1 / 3))))
    most = max(len(y) // 2, _COMPONENTS[0])
    images, y = images[:, few], y[few]
    targets = [_strongest(rows, _DIRECTIONS) for rows in _by_part(y, group, parts)]
    best, chosen = np.inf, None
    for i, wanted in enumerate(_COMPONENTS):
        if wanted > most or (i and _COMPONENTS[i - 1] >= len(spread)):
            break
        distances = _distances(images[..., : _whole(spread, wanted)])
        usual = float(distances.mean())
        for width in _WIDTHS:
            kernels = _blocks(np.exp(-0.5 / (width**2 * usual) * distances), group, parts)
            for penalty in _PENALTIES:
                error = _left_out_error(kernels, targets, penalty, len(y))
                if error < best:
                    best, chosen = error, (wanted, width)
    return chosen


def _whole(spread: np.ndarray, wanted: int) -> int:
    """Return a number of components that parts none which are images of each other."""
    k = min(wanted, len(spread))
    while k < len(spread) and spread[k] > (1 - 1e-7) * spread[k - 1]:
        k += 1
    return k


def _inverse_of(one: Symmetry, group: list[Symmetry]) -> Symmetry:
    return next(other for other in group if other.after(one) == group[0])


def irreducible(group: list[Symmetry]) -> list[np.ndarray]:
    """Return orthonormal columns (|G|, d) that span each irreducible part of functions on a group.

    They are the eigenspaces of a random symmetric matrix that commutes with all that multiplies
    from the right.
    """
    places = {one: i for i, one in enumerate(group)}
    rng = np.random.default_rng(0)
    matrix = np.zeros((len(group), len(group)))
    for left in group:
        number = rng.standard_normal()
        for i, one in enumerate(group):
            j = places[left.after(one)]
            matrix[i, j] += number
            matrix[j, i] += number
    values, vectors = np.linalg.eigh(matrix)
    ends = np.flatnonzero(np.diff(values) > 1e-8 * np.abs(values).max()) + 1
    return [np.ascontiguousarray(part) for part in np.split(vectors, ends, axis=1)]


def _by_part(
    fields: np.ndarray, group: list[Symmetry], parts: list[np.ndarray], *, target: bool = True
) -> Iterator[np.ndarray]:
    """Yield rows (d * n, features) of fields and their images in each irreducible part."""
    for part in parts:
        total = np.zeros((part.shape[1], len(fields), fields[0].size))
        for one, columns in zip(group, part):
            image = one.of(fields, target=target).reshape(1, len(fields), -1)
            total += columns[:, None, None] * image
        yield total.reshape(-1, total.shape[2])


def _principal(
    X: np.ndarray, group: list[Symmetry], parts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return principal axes (features, k) of fields and their images, and their spreads."""
    found = []
    for rows in _by_part(X, group, parts, target=False):
        if rows.shape[0] > rows.shape[1]:
            values, vectors = np.linalg.eigh(rows.T @ rows)
            values, vectors = values[::-1], vectors[:, ::-1]
        else:
            values, left = np.linalg.eigh(rows @ rows.T)
            values, left = values[::-1], left[:, ::-1]
            kept = values > 1e-12 * max(float(values[0]), np.finfo(np.float64).tiny)
            values = values[kept]
            vectors = rows.T @ (left[:, kept] / np.sqrt(values))
        found.append((values[: _COMPONENTS[-1]], vectors[:, : _COMPONENTS[-1]]))
    values = np.concatenate([pair[0] for pair in found])
    axes = np.concatenate([pair[1] for pair in found], axis=1)
    order = np.argsort(-values)
    values, axes = values[order], axes[:, order]
    kept = values > 1e-12 * max(float(values.max(initial=0)), np.finfo(np.float64).tiny)
    return axes[:, kept], np.sqrt(values[kept])


def _distances(images: np.ndarray) -> np.ndarray:
    """Return squared distances (|G|, n, n) of samples to the images of samples."""
    return np.stack([euclidean_distances(images[0], image, squared=True) for image in images])


def _first_of_images(images: np.ndarray) -> np.ndarray:
    """Return which samples are no image of one before."""
    distances = _distances(images)
    closest = distances.min(axis=0)
    return ~(np.tril(closest <= SAME * float(distances.mean()), -1)).any(axis=1)


def _blocks(
    kernels: np.ndarray, group: list[Symmetry], parts: list[np.ndarray]
) -> list[np.ndarray]:
    """Return the kernel's matrix in each irreducible part, (d * n, d * n)."""
    places = {one: i for i, one in enumerate(group)}
    n = kernels.shape[1]
    # Images g of a sample and g u of another are as far apart as the sample and the image u.
    moved = [[places[g.after(u)] for g in group] for u in group]
    made = []
    for part in parts:
        d = part.shape[1]
        block = np.zeros((d, n, d, n))
        for rows, kernel in zip(moved, kernels):
            turn = part.T @ part[rows]
            for a, b in product(range(d), repeat=2):
                if abs(turn[a, b]) > 1e-12:
                    block[a, :, b] += turn[a, b] * kernel
        made.append(block.reshape(d * n, d * n))
    return made


def _strongest(rows: np.ndarray, n: int) -> np.ndarray:
    """Return rows on their strongest directions."""
    if rows.shape[1] < rows.shape[0]:
        if rows.shape[1] <= n:
            return rows
        return rows @ np.linalg.eigh(rows.T @ rows)[1][:, -n:]
    spread, left = _leading(rows, n)
    return left * spread


def _solved(
    kernel: np.ndarray, rows: np.ndarray, penalty: float, n: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return weights of rows (d * n, k), and errors where each sample is left out with images."""
    inverse = _inverse(kernel, penalty)
    if inverse is None:
        return None
    weights = inverse @ rows
    d = len(kernel) // n
    own = np.einsum("aibi->iab", inverse.reshape(d, n, d, n))
    errors = np.linalg.solve(own, weights.reshape(d, n, -1).swapaxes(0, 1)).swapaxes(0, 1)
    return weights, errors.reshape(rows.shape)


def _left_out_error(
    kernels: list[np.ndarray], targets: list[np.ndarray], penalty: float, n: int
) -> float:
    """Return the squared error of samples that are left out with their images."""
    total = 0.0
    for kernel, rows in zip(kernels, targets):
        solved = _solved(kernel, rows, penalty, n)
        if solved is None:
            return np.inf
        total += float((solved[1] ** 2).sum())
    return total
