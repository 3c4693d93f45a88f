"""What a classifier has that is trained once and served at several sizes, without another fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from sklr._torch._modules import mlp, own_module
from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import nn

    from sklr.neural_network._classifier import TorchClassifierMixin
    from sklr.neural_network._loop import TrainState

    # The mixin stands left of the base, whose methods it calls.
    class _Base(TorchClassifierMixin, TorchEstimator):
        pass
else:
    _Base = object


class ServedSizes(StandardizedInput, _Base):
    """A parameter that says the size that answers, and may be changed after ``fit``.

    ``module_.network`` is the trained network; with the default one ``module_.scale`` stands before
    it and standardises. The network is trained as it is for `warmup_iter` epochs first, and one
    cosine of the learning rate goes over both stages. A subclass writes ``_check_size`` and
    ``_cut``, and names its parameter in ``_size_name``.
    """

    module: Any
    hidden_layer_sizes: Any
    warmup_iter: Any
    max_iter: int
    n_params_: int
    _size_name: str
    # Share of the epochs that "auto" gives to the warm-up.
    _warm_share = 0.3

    def _check_size(self, size: Any) -> None:
        """Refuse a size that is none."""
        raise NotImplementedError

    def _cut(self, size: Any) -> Any:
        """Return a plain copy of ``module_`` at a size."""
        raise NotImplementedError

    # The network, and its training.

    def _parts(self, n_in: Any, n_out: Any) -> OrderedDict[str, Any]:
        """Return the given network; or the perceptron and what standardises before it."""
        if self.module is not None:
            return OrderedDict(network=own_module(self.module, n_in))
        return self._standardized(n_in, mlp(n_in, self.hidden_layer_sizes, n_out))

    def _warm_epochs(self, what: str) -> int:
        given = self.warmup_iter
        warm = int(self._warm_share * self.max_iter) if given == "auto" else int(given)
        if warm >= self.max_iter:
            raise ValueError(
                f"warmup_iter={warm} leaves no epoch of max_iter={self.max_iter} for {what}"
            )
        return warm

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        if step.n_epochs is None:
            return None
        # One cosine over both stages.
        return float(0.5 * (1.0 + np.cos(np.pi * step.number / (step.n_epochs * step.n_batches))))

    def _allow_nd(self) -> bool:
        return self.module is not None

    # What is served.

    def _network_to_ask(self) -> nn.Module:
        """Return the network at the size that is asked for."""
        size = getattr(self, self._size_name)
        self._check_size(size)
        return cast("nn.Module", self.module_ if size == 1 else self._cut(size))

    def _exported(self, size: Any) -> nn.Module:
        check_is_fitted(self)
        size = getattr(self, self._size_name) if size is None else size
        self._check_size(size)
        small = self._cut(size)
        return cast("nn.Module", small if self.module is None else small.network)

    def _curve(self, X: Any, y: Any, sizes: Any, least: float) -> dict[str, np.ndarray]:
        """Return sizes, parameters and accuracies; nine sizes by default."""
        if sizes is None:
            sizes = np.geomspace(least, 1.0, 9)
            sizes[0], sizes[-1] = least, 1.0
        sizes = np.asarray(sizes, dtype=float).reshape(-1)
        own, counts, scores = getattr(self, self._size_name), [], []
        try:
            for size in sizes:
                setattr(self, self._size_name, float(size))
                counts.append(self.n_params_)
                scores.append(accuracy_score(y, self.predict(X)))
        finally:
            setattr(self, self._size_name, own)
        return {self._size_name: sizes, "n_params": np.array(counts), "score": np.array(scores)}
