"""What a network of fields begins with: a closed form, and symmetries of the grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._fields import TargetForm, Units, measured
from sklr.neural_network._fields_circles import ShiftedKernelFields, fit_on_circles
from sklr.neural_network._fields_closed import FEWEST_SAMPLES, KernelFields, fit_closed_form
from sklr.neural_network._fields_detected import find_symmetries
from sklr.neural_network._fields_symmetric import SymmetricKernelFields, fit_symmetric
from sklr.neural_network._fields_symmetries import Symmetry, symmetric
from sklr.neural_network._regressor import TorchRegressorMixin

if TYPE_CHECKING:
    from torch import Tensor

# A closed form that errs by more, in errors of the mean field, is no help to the network, and one
# of more numbers too large.
_HELPFUL, _MOST_NUMBERS = 0.3, 2**27
# A closed form without symmetries is taken where it errs by less than so much of one with them: of
# a large group that may see few samples only.
_CLEARLY_LESS = 0.9

Closed = KernelFields | ShiftedKernelFields | SymmetricKernelFields


class BetterAlone(Exception):
    """A closed form without the symmetries that were found errs by less."""


class StartedFields(TorchRegressorMixin, TorchEstimator):
    """Fields to fields, of which some are known before a network is trained.

    A subclass has the parameters below, and sets the units of the targets.
    """

    baseline: str | None
    symmetries: str | None
    normalize: str | None
    n_rollout_steps: int
    grid_shape_: tuple[int, ...]
    periodic_: bool
    y_mean_: np.ndarray
    y_scale_: np.ndarray
    _form: TargetForm
    _n_channels: int
    _n_made: int
    _unit: float
    _least_norm: float
    _closed_form: Closed | None
    _wants_closed_form: bool
    _group: list[Symmetry]
    _moves: list[tuple[int, ...]]
    shifted_: bool
    symmetries_: list[str]

    @property
    def _units(self) -> Units:
        return Units(self.y_mean_, self.y_scale_)

    def _scaled_fields(self, fields: np.ndarray) -> np.ndarray:
        scaled = Units(self.x_mean_, self.x_scale_).scaled(fields)
        return np.ascontiguousarray(np.moveaxis(scaled, -1, 1))

    def _shown(self, fields: np.ndarray) -> np.ndarray:
        """Return what the network is shown: fields, and behind them what the closed form says."""
        scaled = self._scaled_fields(fields)
        if self._closed_form is None:
            return scaled
        return np.concatenate([scaled, self._closed_form.predict(scaled)], axis=1)

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        units = symmetric(measured(X, self.normalize, is_input=True), self._group)
        self.x_mean_, self.x_scale_ = units.mean, units.scale
        self._closed_form, self.baseline_error_ = None, math.nan
        self._moves, self.shifted_ = [], False
        if self._wants_closed_form and y is not None:
            self._fit_closed_form(self._scaled_fields(X), y)

    def _may_have_closed_form(self, n_samples: int) -> bool:
        """Return whether a closed form is to be fitted, and refuse where there can be none."""
        if self.baseline is None:
            return False
        lacking = (
            "targets that are fields"
            if not self._form.is_field
            else "n_rollout_steps=1"
            if self.n_rollout_steps > 1
            else f"at least {FEWEST_SAMPLES} samples"
            if n_samples < FEWEST_SAMPLES
            else ""
        )
        if lacking and self.baseline != "auto":
            raise ValueError(f"baseline={self.baseline!r} needs {lacking}; None has no baseline")
        n_numbers = n_samples * math.prod(self.grid_shape_) * (self._n_channels + self._n_made)
        return not lacking and (self.baseline != "auto" or n_numbers <= _MOST_NUMBERS)

    def _find_symmetries(self, fields: np.ndarray, y: np.ndarray) -> None:
        """See which symmetries of the grid the samples have, and make the units alike."""
        self._group, self.symmetries_ = [], []
        if not self._may_have_symmetries(len(fields)):
            return
        pair = (np.ascontiguousarray(np.moveaxis(part, -1, 1)) for part in (fields, y))
        self._group = find_symmetries(*pair, periodic=self.periodic_)
        self.symmetries_ = [str(symmetry) for symmetry in self._group[1:]]
        if self._group:
            units = symmetric(self._units, self._group, target=True)
            self.y_mean_, self.y_scale_ = units.mean, units.scale

    def _may_have_symmetries(self, n_samples: int) -> bool:
        n_numbers = n_samples * math.prod(self.grid_shape_) * (self._n_channels + self._n_made)
        return (
            self.symmetries is not None
            and self._form.is_field
            and self.n_rollout_steps == 1
            and FEWEST_SAMPLES <= n_samples
            and n_numbers <= _MOST_NUMBERS
            and bool(self.y_scale_.any())
        )

    def _drop_symmetries(self) -> None:
        self._group, self.symmetries_ = [], []

    def _fit_closed_form(self, X: np.ndarray, y: np.ndarray) -> None:
        """Fit closed forms, keep the better one where it helps, and see whether places differ."""
        tried = self._closed_forms(X, y, [])
        if self._group:
            alone = min((found[0] for found in tried), default=math.inf)
            # Few samples with their images are too much to choose settings with.
            settings = [
                form.settings for _, form, _ in tried if isinstance(form, ShiftedKernelFields)
            ]
            tried = self._closed_forms(X, y, self._group, *settings)
            least = min((found[0] for found in tried), default=math.inf)
            if alone < _CLEARLY_LESS * least and self._helps(alone, y):
                raise BetterAlone
        if not tried:
            return
        self.baseline_error_, closed, said = min(tried, key=lambda found: found[0])
        self._moves = closed.moves if isinstance(closed, ShiftedKernelFields) else []
        self.shifted_ = bool(self._moves)
        if not self._helps(self.baseline_error_, y):
            return
        self._closed_form = closed
        # The network makes numbers near 1, in units of what is left.
        self._left = max(float(np.sqrt(np.mean((said - y) ** 2))), np.finfo(np.float32).eps)

    def _closed_forms(
        self,
        X: np.ndarray,
        y: np.ndarray,
        group: list[Symmetry],
        settings: tuple[float, float, float] | None = None,
    ) -> list[tuple[float, Closed, np.ndarray]]:
        """Return closed forms with their errors and what they say of the samples, left out."""
        found: list[Closed | None] = [
            fit_symmetric(X, y, group, self._seed) if group else fit_closed_form(X, y, self._seed)
        ]
        if self.periodic_:
            found.append(fit_on_circles(X, y, self._seed, group, settings))
        tried = []
        for closed in found:
            if closed is not None:
                said = closed.predict(X)
                tried.append((self._mean_error(said - y, y), closed, said))
        return tried

    def _helps(self, error: float, y: np.ndarray) -> bool:
        """Return whether a closed form that errs by so much is shown to the network."""
        usual = self._mean_error(y.mean(axis=0) - y, y)
        return self.baseline != "auto" or error <= _HELPFUL * usual

    def _mean_error(self, error: np.ndarray, y: np.ndarray) -> float:
        """Return the mean relative error of fields in the network's units."""
        mean, scale = (
            np.moveaxis(np.broadcast_to(part / self._unit, (*self.grid_shape_, y.shape[1])), -1, 0)
            for part in (self.y_mean_, self.y_scale_)
        )
        sizes = np.linalg.norm((y * scale + mean).reshape(len(y), -1), axis=1)
        errors = np.linalg.norm((error * scale).reshape(len(y), -1), axis=1)
        return float((errors / np.maximum(sizes, self._least_norm)).mean())

    def _turned(self, xb: Tensor, yb: Tensor, rng: Any) -> tuple[Tensor, Tensor]:
        """Return a batch of which each sample has become one of its images."""
        import torch

        drawn, k = rng.randint(len(self._group), size=len(xb)), self._n_channels
        X, y = torch.empty_like(xb), torch.empty_like(yb)
        for i in np.unique(drawn):
            one, rows = self._group[i], torch.as_tensor(np.flatnonzero(drawn == i)).to(xb.device)
            X[rows, :k] = one.of(xb[rows, :k])
            X[rows, k:] = one.of(xb[rows, k:], target=True)
            y[rows] = one.of(yb[rows], target=True)
        return X, y
