"""What a classifier has whose network, with ordered layers, is served at several ratios."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import in_chunks
from sklr._torch._batchnorm import recalibrate, running_norms
from sklr._torch._layers import find_layers
from sklr.neural_network._served_sizes import ServedSizes

if TYPE_CHECKING:
    from torch import Tensor, nn

# Samples on which the losses of truncated layers are measured, and batch normalisations.
_MEASURED_ROWS = 512


class ServedRatios(ServedSizes):
    """A parameter ``ratio`` that is served without another fit: ranks, report, export, curve.

    ``module_.network`` has the ordered layers. The estimator sets ``_n_dense`` and ``_n_rest``, the
    parameters of the dense network and those of them that are in no factor, and calls ``_end_fit``.
    """

    ratio: float
    _size_name = "ratio"
    _n_dense: int
    _n_rest: int

    def _check_ratio(self, ratio: Any, least: int) -> None:
        smallest = (self._n_rest + least) / self._n_dense
        number = isinstance(ratio, Real) and not isinstance(ratio, bool)
        if not (number and smallest <= float(ratio) <= 1):
            shown = np.ceil(1e4 * smallest) / 1e4
            raise ValueError(
                f"ratio must be a number from {shown:g}, the smallest size of this network (one "
                f"column a layer), to 1, got {ratio!r}"
            )

    def _measured(
        self,
        network: nn.Module,
        X: Tensor,
        weights: Any,
        module: nn.Module,
        device: Any,
        quick: bool = False,
    ) -> tuple[dict[str, np.ndarray], Any]:
        """Return the losses of truncated layers, and the sizes that follow."""
        import torch

        from sklr.nn._ordered._layers import ordered_layers
        from sklr.nn._ordered._sizes import N_WIDTHS, Sizes, measured_losses

        rows = _spread(len(X), _MEASURED_ROWS // 2 if quick else _MEASURED_ROWS)
        X = X[rows]
        w = torch.ones(len(X)) if weights is None else weights[rows].cpu()
        w = w.double() / w.double().sum()

        def answers() -> Tensor:
            logits = in_chunks(module, X, lambda m, xb, _: self._logits(m, xb), device)
            return logits.double().cpu().log_softmax(dim=1)

        with torch.no_grad():
            wanted = answers().exp()

            def loss() -> float:
                return float(-(w[:, None] * wanted * answers()).sum())

            layers = ordered_layers(network)
            losses = measured_losses(layers, loss, N_WIDTHS // 2 if quick else N_WIDTHS)
        return losses, Sizes(layers, losses)

    def _end_fit(self, X: Tensor, weights: Any, device: Any) -> None:
        """Measure what a size keeps, and keep samples for batch normalisations."""
        network: Any = self.module_.network
        self.losses_, self._sizes = self._measured(network, X, weights, self.module_, device)
        self._calibration: Tensor | None = None
        if running_norms(network):
            self._calibration = X[_spread(len(X))].cpu().clone()

    @property
    def ranks_(self) -> dict[str, int]:
        """Columns that are left of each ordered layer."""
        from sklr.nn._ordered._layers import ordered_layers

        network: Any = self.module_.network
        return {name: layer.rank for name, layer in ordered_layers(network).items()}

    @property
    def importances_(self) -> dict[str, np.ndarray]:
        """Product of the norms of each column in both factors, by layer."""
        from sklr.nn._ordered._layers import ordered_layers

        network: Any = self.module_.network
        return {
            name: layer.importances.detach().cpu().double().numpy()
            for name, layer in ordered_layers(network).items()
        }

    def _ranks_of(self, ratio: float) -> dict[str, int]:
        self._check_ratio(ratio, self._sizes.least)
        left = self.ranks_
        if ratio == 1:
            return left
        # Columns may have come and gone since, by load_weights.
        wanted = self._sizes.ranks(ratio * self._n_dense - self._n_rest)
        return {name: min(rank, left[name]) for name, rank in wanted.items()}

    def _check_size(self, size: Any) -> None:
        self._check_ratio(size, self._sizes.least)

    def _cut(self, ratio: float) -> Any:
        """Return a plain copy of the network at a size."""
        from sklr._torch._device import plain_defaults
        from sklr.nn.compression import recompose

        ranks = {f"network.{k}" if k else "network": v for k, v in self._ranks_of(ratio).items()}
        small = recompose(self.module_, ranks)
        if self._calibration is not None and ratio != 1:
            torch = self._torch()
            device = next(small.parameters()).device

            batches = self._calibration.split(64)

            def run() -> None:
                for xb in batches:
                    if len(xb) > 1 or len(batches) == 1:
                        small(xb.to(device))

            with torch.inference_mode(False), torch.no_grad(), plain_defaults():
                recalibrate(small, run)
        return small

    def export(self, ratio: float | None = None) -> nn.Module:
        """Return the plain network of a size, as a Module of its own.

        Parameters
        ----------
        ratio : float, default=None
            Share of the dense network's parameters, at most; None is the parameter `ratio`.

        Returns
        -------
        module : torch.nn.Module
            A network that makes the logits: that of the parameter `module` with thin layers in it,
            or the perceptron with the standardisation before it. It trains, pickles, compiles and
            exports like any network.
        """
        return self._exported(ratio)

    @property
    def report_(self) -> list[dict[str, Any]]:
        """What becomes of each layer at the size of `ratio`.

        A dict a layer: ``name``, ``kind``, ``shape`` (outputs, inputs), ``rank``,
        ``params_before``, ``params_after``, ``status`` ("compressed", "kept" or "skipped") and
        ``reason``.
        """
        from sklr.nn._ordered._layers import OrderedConv2d, _OrderedLayer
        from sklr.nn._ordered._sizes import dense_size, size_of

        network: Any = self.module_.network
        ranks = self._ranks_of(self.ratio)
        rows: list[tuple[Any, ...]] = []
        for layer in find_layers(network):
            part: Any = network.get_submodule(layer.name) if layer.name else network
            if not isinstance(part, _OrderedLayer):
                n = sum(p.numel() for p in part.parameters())
                reason = layer.reason or "it is not among the targets"
                rows.append((layer.name, layer.kind, layer.shape, None, n, n, "skipped", reason))
                continue
            rank = ranks[layer.name]
            bias = 0 if part.bias is None else len(part.bias)
            dense, size = dense_size(part), size_of(part, rank)
            kind = "Conv2d" if isinstance(part, OrderedConv2d) else "Linear"
            shape = (len(part.up.weight), dense // len(part.up.weight))
            status = "compressed" if size < dense else "kept"
            reason = "" if size < dense else "one matrix is no larger than two of its rank"
            rows.append((layer.name, kind, shape, rank, dense + bias, size + bias, status, reason))
        names = "name kind shape rank params_before params_after status reason".split()
        return [dict(zip(names, row)) for row in rows]

    @property
    def n_params_(self) -> int:  # type: ignore[override]
        """Parameters of the network that answers, at the size of `ratio`."""
        return self._n_dense + sum(
            row["params_after"] - row["params_before"] for row in self.report_
        )

    @property
    def smallest_ratio_(self) -> float:
        """The smallest `ratio`: one column a layer."""
        return (self._n_rest + self._sizes.least) / self._n_dense

    def size_curve(self, X: Any, y: Any, ratios: Any = None) -> dict[str, np.ndarray]:
        """Return the accuracy at several sizes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples that the fit has not seen.
        y : array-like of shape (n_samples,)
            Their labels.
        ratios : array-like of float, default=None
            The sizes; by default nine from the smallest one to 1, on a logarithmic scale.

        Returns
        -------
        curve : dict of str to ndarray of shape (n_sizes,)
            "ratio", as given; "n_params", what the network of each size has; "score".
        """
        check_is_fitted(self)
        return self._curve(X, y, ratios, self.smallest_ratio_)


def _spread(n: int, most: int = _MEASURED_ROWS) -> Any:
    """Return at most `most` of n rows, evenly spread."""
    if n <= most:
        return slice(None)
    return np.linspace(0, n - 1, most).round().astype(int)
