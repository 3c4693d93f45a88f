"""What an estimator has whose default network standardises its features first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr.neural_network._base import TorchEstimator
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from torch import nn

    from sklr.neural_network._loop import TrainState

    # The mixin stands left of the base, whose methods it calls.
    _Base = TorchEstimator
else:
    _Base = object


class StandardizedInput(_Base):
    """The default network standardises its features; a given one sees them as they are.

    ``_build`` makes the default network of the parts ``_standardized`` returns, or places a
    ``Standardize`` of its own. Means and standard deviations are those of the first samples that
    are trained on, with their weights, over all places of images for each channel: buffers of the
    network, which stay as they are in every further epoch.
    """

    module: Any

    def _standardizes(self) -> bool:
        """Return whether the network begins with what standardises."""
        return self.module is None

    def _standardized(self, n_in: int, network: nn.Module) -> OrderedDict[str, nn.Module]:
        """Return the parts of a default network: what standardises, and the rest behind it."""
        from sklr.nn._standardize import Standardize

        return OrderedDict(scale=Standardize(n_in), network=network)

    def _warn_of_units(self, X: np.ndarray) -> None:
        if not self._standardizes() or X.ndim != 2:
            super()._warn_of_units(X)
            return
        size, spread = np.abs(X).max(axis=0), np.ptp(X, axis=0)
        far = (spread < 1e-5 * size) & ((spread > 0) | (spread.max() == 0))
        if X.dtype == np.float32 and far.any():
            more = ', or set dtype="float64"' if hasattr(self, "dtype") else ""
            warn_user(
                f"{int(far.sum())} of {X.shape[1]} features are so far from 0 that float32 leaves "
                f"little of how they vary: subtract their means first (StandardScaler){more}",
            )

    def _begin(self, module: Any, step: TrainState) -> None:
        super()._begin(module, step)
        if not self._standardizes():
            return
        from sklr.nn._standardize import Standardize

        for part in module.modules():
            if isinstance(part, Standardize) and not part.is_set:
                rows, weights = step.X.movedim(1, -1), step.weights
                if weights is not None:
                    weights = weights.repeat_interleave(rows[0, ..., 0].numel())
                part.set_from(rows.reshape(-1, rows.shape[-1]), weights)
