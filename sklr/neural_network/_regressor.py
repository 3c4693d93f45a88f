"""What regressors add to the base: targets of any shape in, scaled inside, predictions out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sklr._torch._batches import in_chunks
from sklr._torch._modules import evaluated
from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._loop import TrainState
from sklr.neural_network._targets import validation_pair
from sklr.utils._base import fit_context
from sklr.utils._validation import check_array, check_sample_weight

if TYPE_CHECKING:
    from torch import Tensor, nn

    # The mixin stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class TorchRegressorMixin(RegressorMixin, _Base):
    """Regression: numbers in, of shape (n,), (n, k) or fields (n, ...); squared error is the loss.

    Targets are centred and scaled inside, in double precision: each of several targets by its own
    mean and standard deviation, a field by those of all its entries. The loss is in these units,
    so that 1 is what the mean of the targets has.

    A subclass whose loss cannot be weighted (batch normalisation sees no weights) writes a ``fit``
    without `sample_weight` that calls ``_fit_targets``.
    """

    _task = "regression"

    def _outputs(self, module: nn.Module, xb: Tensor) -> Tensor:
        """Return the scaled predictions of a batch, in the shape of the targets."""
        return module(xb).reshape(len(xb), *self._target_shape)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        error = (self._outputs(module, xb) - yb).square()
        return error.flatten(1).mean(dim=1) if error.ndim > 1 else error

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        output = evaluated(module, X)
        shape, wanted = tuple(output.shape), (len(X), *self._target_shape)
        if shape != wanted and not (len(wanted) == 1 and shape == (*wanted, 1)):
            raise ValueError(
                f"module returns shape {shape} for input of shape {tuple(X.shape)}; the targets "
                f"want {wanted}"
            )

    def _validation_score(self, module: nn.Module, X: Tensor, y: Tensor, step: TrainState) -> float:
        """Return R2."""
        import torch

        with torch.no_grad():
            found = in_chunks(module, X, lambda m, xb, _: self._outputs(m, xb), step.device)
        return _r2(y.cpu().double().numpy(), found.cpu().double().numpy(), None)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, ...)
            Targets; what is returned by ``predict`` has the same shape.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss; a sample of weight 0 is left out.
        X_val : array-like of shape (n_validation, n_features), default=None
            Samples that are scored after each epoch; ``early_stopping`` uses them instead of
            setting some of `X` aside.
        y_val : array-like of shape (n_validation, ...), default=None
            Targets of `X_val`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._fit_targets(X, y, sample_weight, X_val, y_val)

    def _fit_targets(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> Any:
        with self._ready_to_train():
            X, y, weights = self._numbers(X, y, sample_weight, reset=True)
            self._measure_targets(y, weights)
            validation = validation_pair(
                self, X_val, y_val, lambda y, name: self._scaled(self._targets(y, name))
            )
            if validation is not None and len(validation[0]) < 2:
                raise ValueError("X_val must have at least 2 samples: one has no R2")
            self._fit_network(
                X, self._scaled(y), n_out=self._n_out(), weights=weights, validation=validation
            )
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one more epoch on some samples; optimisers go on where they were.

        The first call's targets set the units of all later ones inside; let it have some dozens.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, ...)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        with self._ready_to_train():
            first = not hasattr(self, "module_")
            X, y, weights = self._numbers(X, y, sample_weight, reset=first)
            if first:
                self._measure_targets(y, weights)
            self._fit_one_epoch(X, self._scaled(y), n_out=self._n_out(), weights=weights)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,), (n_samples, n_targets) or (n_samples, ...)
            In the units and the shape of the targets of ``fit``.
        """
        check_is_fitted(self)
        scaled = self._infer(self._validate(X, reset=False), self._outputs)
        return scaled * self._target_scale + self._target_mean

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R2 of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,), (n_samples, n_targets) or (n_samples, ...)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples.

        Returns
        -------
        score : float
            Mean over several targets; over all entries of a field together. 1 is perfect, 0 what
            the mean of `y` has.
        """
        found = self.predict(X)
        y = self._targets(y, "y")
        check_consistent_length(found, y)
        # In units of the training targets, in which no square overflows.
        return _r2(self._scaled(y), self._scaled(found), sample_weight)

    # Targets.

    _target_shape: tuple[int, ...]

    def _numbers(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return validated samples, targets and weights, without samples of weight 0."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        X = self._validate(X, reset=reset)
        y = self._targets(y, "y")
        check_consistent_length(X, y)
        if reset:
            self._target_shape = y.shape[1:]
        if sample_weight is None:
            return X, y, None
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        X, y, weights = X[kept], y[kept], weights[kept]
        return X, y, weights / weights.mean()

    def _targets(self, y: Any, name: str) -> np.ndarray:
        y = check_array(y, dtype=np.float64, ensure_2d=False, allow_nd=True, input_name=name)
        if y.ndim == 0 or 0 in y.shape[1:]:
            raise ValueError(f"{name} must have targets for each sample, got shape {y.shape}")
        known = getattr(self, "_target_shape", None)
        if known is not None and y.shape[1:] != known:
            raise ValueError(
                f"{name} has targets of shape {y.shape[1:]}, but {type(self).__name__} was fitted "
                f"on targets of shape {known}"
            )
        return y

    def _n_out(self) -> Any:
        """Return what ``_build`` gets: the number of targets, or the shape of a field."""
        shape = self._target_shape
        return shape[0] if len(shape) == 1 else (shape or 1)

    def _measure_targets(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Keep mean and standard deviation; each of a constant target's scale is 1."""
        axes = (0,) if y.ndim < 3 else tuple(range(y.ndim))
        # Over the largest, so that no square overflows or vanishes.
        middle = _mean(y, weights, axes)
        rest = y - middle
        largest = np.abs(rest).max(axis=axes)
        safe = np.where(largest > 0, largest, 1.0)
        spread = safe * np.sqrt(_mean((rest / safe) ** 2, weights, axes))
        # What rounding leaves of a constant far from zero is no spread.
        constant = spread <= 8 * np.finfo(np.float64).eps * np.abs(middle)
        self._target_mean = middle
        self._target_scale = np.where(constant | (spread == 0), 1.0, spread)

    def _scaled(self, y: np.ndarray) -> np.ndarray:
        return (y - self._target_mean) / self._target_scale

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _mean(values: np.ndarray, weights: np.ndarray | None, axes: tuple[int, ...]) -> np.ndarray:
    mean = np.average(values, axis=0, weights=weights)
    return np.asarray(mean if len(axes) == 1 else mean.mean())


def _r2(y: np.ndarray, found: np.ndarray, sample_weight: Any) -> float:
    """Return R2: the mean over several targets, one number over all entries of a field."""
    if y.ndim > 2:
        if sample_weight is not None:
            sample_weight = np.repeat(np.asarray(sample_weight), y[0].size)
        y, found = y.reshape(-1), found.reshape(-1)
    return float(r2_score(y, found, sample_weight=sample_weight))
