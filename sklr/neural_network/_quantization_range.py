"""Samples of the latent quantisation filter: from their units to [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sklr._torch._batches import refuse_datasets
from sklr.utils._validation import validate_data
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from sklr.neural_network._base import TorchEstimator

    # It stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class SamplesInRange(_Base):
    """Input that comes to the networks in [-1, 1].

    It is rounded to float32 there, so that neither unit nor offset of the samples is seen.
    """

    feature_range: Any
    data_min_: float
    data_max_: float
    _by_sample: bool

    def _allow_nd(self) -> bool:
        return True

    def _allow_integers(self) -> bool:
        return False

    def _checked(self, X: Any, *, reset: bool) -> np.ndarray:
        """Return samples in their own units."""
        refuse_datasets(X)
        X = validate_data(self, X, reset=reset, dtype=np.float64, allow_nd=True, order="C")
        if X.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {X.ndim} dimensions, shape {X.shape}"
            )
        if 0 in X.shape[1:]:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
            )
        known = getattr(self, "_sample_shape", None)
        if not reset and known is not None and X.shape[1:] != known:
            raise ValueError(
                f"X has samples of shape {X.shape[1:]}, but {type(self).__name__} was fitted on "
                f"samples of shape {known}"
            )
        return X

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        X = self._checked(X, reset=reset)
        if reset:
            self._learn_range(X)
        else:
            self._look_at_range(X)
        return self._scaled(X)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        """Return samples on the scale of [-1, 1]."""
        low, high = self._ends(X)
        middle, half = 0.5 * high + 0.5 * low, 0.5 * high - 0.5 * low
        # A constant sample comes as zeros.
        scaled = (X - middle) / np.where(half == 0, 1.0, half)
        return np.clip(scaled, -1, 1).astype(np.float32).astype(np.float64)

    def _ends(self, X: np.ndarray) -> tuple[Any, Any]:
        """Return what is mapped to -1 and 1: two numbers, or arrays of one for each sample."""
        if not self._by_sample:
            return self.data_min_, self.data_max_
        axes = tuple(range(1, X.ndim))
        return X.min(axis=axes, keepdims=True), X.max(axis=axes, keepdims=True)

    def _half(self) -> float:
        return 0.5 * self.data_max_ - 0.5 * self.data_min_

    def _learn_range(self, X: np.ndarray) -> None:
        self._by_sample = self.feature_range == "sample"
        least, most = float(X.min()), float(X.max())
        if not isinstance(self.feature_range, str):
            low, high = _pair(self.feature_range)
            if least < low or most > high:
                raise ValueError(
                    f"X has values from {least:.6g} to {most:.6g}, outside "
                    f"feature_range=({low:.6g}, {high:.6g}): scale X, or set feature_range='auto'"
                )
            least, most = low, high
        if least == most:
            raise ValueError(
                f"all values of X are {least:.6g}: there is nothing to encode; give samples that "
                "differ, or n_samples = 1 or n_features = 1 is too little"
            )
        if self._by_sample and not np.ptp(X.reshape(len(X), -1), axis=1).any():
            raise ValueError(
                "all values of each sample are equal, and feature_range='sample' scales each by "
                "its own range: give feature_range='auto', or n_features = 1 is too little"
            )
        self.data_min_, self.data_max_ = least, most
        if self._half() == 0:
            raise ValueError(f"the values of X, {least!r} to {most!r}, differ by rounding only")

    def _look_at_range(self, X: np.ndarray) -> None:
        """Warn of samples on another scale: clipping would hide it."""
        if self._by_sample:
            return
        least, most, width = float(X.min()), float(X.max()), 2 * self._half()
        if most > self.data_max_ + width or least < self.data_min_ - width:
            found = "far outside"
        elif 0 < most - least < 0.01 * width:
            found = "all within a hundredth of"
        else:
            return
        warn_user(
            f"X has values from {least:.4g} to {most:.4g}, {found} the range of the training "
            f"samples, {self.data_min_:.4g} to {self.data_max_:.4g}, to which they are clipped: "
            "are they on the same scale?",
        )


def _pair(feature_range: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in feature_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(
            f"feature_range must be 'auto', 'sample' or two finite numbers (low, high) with low < "
            f"high, got {feature_range!r}"
        )
    return low, high
