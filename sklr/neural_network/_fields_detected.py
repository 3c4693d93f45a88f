"""Which symmetries of the grid an equation has, as far as samples tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from sklr.neural_network._fields import measured
from sklr.neural_network._fields_circles import ShiftedKernelFields, fit_on_circles
from sklr.neural_network._fields_closed import averaged
from sklr.neural_network._fields_symmetric import SymmetricKernelFields, fit_symmetric
from sklr.neural_network._fields_symmetries import Symmetry, candidates, group_of, nothing

# Samples that are looked at, their pairs times cells; and on circles.
_MOST_SAMPLES, _MOST_PAIRS = 500, 2**30
_MOST_ON_CIRCLES, _FEWEST_ON_CIRCLES = 2**19, 40
# In larger groups, what follows from other symmetries needs no closed form of its own; on circles,
# where these take longer, in any.
_LARGE = 16
# A closed form must explain so much of the targets' energy about their mean before it is asked.
_EXPLAINED = 0.75
# Standard deviations of what chance makes of a sum, above which it is none.
_BY_CHANCE = 5.0
# Means of channels are 0, so that they may change sign, within so many of their errors.
_ABOUT_ZERO = 3.0


def find_symmetries(X: np.ndarray, y: np.ndarray, *, periodic: bool) -> list[Symmetry]:
    """Return the group of symmetries of a law from `X` to `y`, (n, channels, ...), or nothing.

    A symmetry is taken where (a) nothing tells samples from their images (means, products at a
    place and of any two places, kernel means), (b) the closed form that sees the images too errs
    by no more, each sample left out with its images, and (c) nothing tells the errors that are left
    from their images: by themselves, or times what stands for any function of the input. All that
    symmetries make together must pass, so that a group is found or none.

    Notes
    -----
    For a function k of pairs, errors r and a symmetry g the sum over pairs of samples i and j of
    k(i, j) r_i . r_j - k(i, g j) r_i . g r_j has the mean 0 where g is a symmetry, and is
    otherwise the squared norm of what r has, weighted by k, that its image has not. It is measured
    in standard deviations of the sum with random signs of its terms.
    """
    n_dims, n_cells = X.ndim - 2, math.prod(X.shape[1:])
    most = min(_MOST_SAMPLES, math.isqrt(_MOST_PAIRS // n_cells))
    X, y, _ = averaged(X, y)
    rows = np.random.default_rng(0).permutation(len(X))[:most]
    (X, x_signs), (y, y_signs) = _in_own_units(X[rows]), _in_own_units(y[rows])
    one = [nothing(n_dims)]
    fits: list[Any] = [fit_symmetric(X, y, one, 0)]
    if periodic:
        fits.append(fit_on_circles(X, y, 0))
    errors = [np.inf if fit is None else float((_left(y, fit) ** 2).mean()) for fit in fits]
    plain, error = fits[int(np.argmin(errors))], min(errors)
    if isinstance(plain, ShiftedKernelFields):  # which takes longer
        few = slice(max(_FEWEST_ON_CIRCLES, math.isqrt(_MOST_ON_CIRCLES // n_cells)))
        if few.stop < len(X):
            X, y = X[few], y[few]
            plain = fit_on_circles(X, y, 0, settings=plain.settings)
            error = np.inf if plain is None else float((_left(y, plain) ** 2).mean())
    if not error <= (1 - _EXPLAINED) * float(((y - y.mean(axis=0)) ** 2).mean()):
        return []
    samples, known = _Pairs(X, y), {}
    said = plain.held_out[: len(plain.rows)]
    errors_of_plain = _Pairs(X[plain.rows], _left(y, plain), said)

    def holds(symmetry: Symmetry) -> bool:
        if symmetry not in known:
            known[symmetry] = samples.asymmetry(symmetry) <= _BY_CHANCE and _holds(
                X, y, symmetry, plain, error
            )
        return known[symmetry]

    def follows(symmetry: Symmetry) -> bool:
        if symmetry not in known:
            pairs = samples, errors_of_plain
            known[symmetry] = all(part.asymmetry(symmetry) <= _BY_CHANCE for part in pairs)
        return known[symmetry]

    group, most = one, 0 if isinstance(plain, ShiftedKernelFields) else _LARGE
    for new in candidates(X.shape[2:]):
        allowed = (new.x_sign > 0 or x_signs) and (new.y_sign > 0 or y_signs)
        if not allowed or new in group:
            continue
        larger = group_of([*group[1:], new], n_dims)
        if not all(known.get(symmetry, True) for symmetry in larger[1:]) or not holds(new):
            continue
        if all((follows if len(larger) > most else holds)(symmetry) for symmetry in larger[1:]):
            group = larger
    return group if len(group) > 1 else []


def _in_own_units(fields: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return fields of unit variance, and whether their signs may change: their means are 0."""
    axes = tuple(range(2, fields.ndim))
    units = measured(np.moveaxis(fields, 1, -1), "channel", is_input=True)
    mean, scale = (part.reshape(-1, *[1] * len(axes)) for part in (units.mean, units.scale))
    rest, offset = (fields - mean) / scale, mean / scale
    error = rest.mean(axis=axes).std(axis=0) / math.sqrt(len(fields))
    signs = bool((np.abs(offset).ravel() <= _ABOUT_ZERO * error + 1e-9).all())
    return (rest + offset if signs else rest), signs


def _left(y: np.ndarray, fit: SymmetricKernelFields | ShiftedKernelFields) -> np.ndarray:
    """Return the errors of samples that are left out."""
    return y[fit.rows] - fit.held_out[: len(fit.rows)]


def _holds(
    X: np.ndarray,
    y: np.ndarray,
    symmetry: Symmetry,
    plain: SymmetricKernelFields | ShiftedKernelFields,
    error: float,
) -> bool:
    """Return whether a closed form with images errs by no more, and alike."""

    def fitted(
        X: np.ndarray, y: np.ndarray, group: list[Symmetry]
    ) -> SymmetricKernelFields | ShiftedKernelFields | None:
        if isinstance(plain, ShiftedKernelFields):
            return fit_on_circles(X, y, 0, group, plain.settings)
        return fit_symmetric(X, y, group, 0, plain.settings)

    fit = fitted(X, y, group_of([symmetry], X.ndim - 2))
    if fit is None:
        return False
    left = _left(y, fit)
    if len(fit.rows) < len(plain.rows):  # images were among the samples, so that both saw them
        X_of, y_of = X[fit.rows], y[fit.rows]
        alone = fitted(X_of, y_of, [nothing(X.ndim - 2)])
        error = np.inf if alone is None else float((_left(y_of, alone) ** 2).mean())
    if not float((left**2).mean()) <= error:
        return False
    said = fit.held_out[: len(fit.rows)]
    return _Pairs(X[fit.rows], left, said).asymmetry(symmetry) <= _BY_CHANCE


class _Pairs:
    """Input and targets, or their errors beside what was said, of all pairs of samples."""

    def __init__(self, X: np.ndarray, y: np.ndarray, said: np.ndarray | None = None) -> None:
        self.X, self.y, self.said = X, y, said
        self.usual = float(euclidean_distances(_flat(X), squared=True).mean()) or 1.0
        self.own = self._terms(nothing(X.ndim - 2))

    def asymmetry(self, symmetry: Symmetry) -> float:
        """Return the largest difference between samples and their images, in units of chance."""
        worst = 0.0
        for own, image in zip(self.own, self._terms(symmetry)):
            terms = own - image
            terms = terms + terms.T
            np.fill_diagonal(terms, 0)
            size = math.sqrt(2 * float((terms**2).sum()))
            if size > 0:
                worst = max(worst, float(terms.sum()) / size)
        return worst

    def _terms(self, symmetry: Symmetry) -> list[np.ndarray]:
        """Return what is summed over pairs, the second of which becomes its image."""
        X, y = symmetry.of(self.X), symmetry.of(self.y, target=True)
        products = _flat(self.X) @ _flat(X).T
        near = euclidean_distances(_flat(self.X), _flat(X), squared=True)
        near = np.exp(-near / self.usual)
        targets = _flat(self.y) @ _flat(y).T
        terms = [targets, targets * products, targets * near]
        for i in range(X.shape[1]):
            terms.append(_flat(self.y * self.X[:, [i]]) @ _flat(y * X[:, [i]]).T)
        if self.said is None:
            return [products, near, *terms]
        said = symmetry.of(self.said, target=True)
        terms.append(targets * (_flat(self.said) @ _flat(said).T))
        terms.append(_flat(self.y * self.said) @ _flat(y * said).T)
        return terms


def _flat(fields: np.ndarray) -> np.ndarray:
    return fields.reshape(len(fields), -1)
