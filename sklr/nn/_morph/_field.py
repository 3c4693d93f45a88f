"""The weights of a network as a field over its units, from which any width is drawn."""

from __future__ import annotations

import functools
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of, plain_tensors
from sklr.nn._morph._groups import NORMS, Weighted, leaves, weighted_layers

METHODS = ("field", "slimmable")


def units_at(width: float, n_units: int) -> int:
    """Return the units of a hidden layer at a share of its width: rounded, one at least."""
    return max(1, int(np.floor(width * n_units + 0.5)))


@functools.lru_cache(maxsize=32)
def cells(n: int, n_units: int) -> np.ndarray:
    """Return how much of each unit lies in each of n cells of equal width, of shape (n, n_units).

    Units are intervals of length 1, side by side; a column sums to 1, a row to n_units / n.
    """
    edges = np.arange(n + 1) * (n_units / n)
    begin = np.arange(n_units)
    overlap = np.minimum(edges[1:, None], begin + 1.0) - np.maximum(edges[:-1, None], begin)
    return np.maximum(overlap, 0.0)


class WeightField(nn.Module):
    """A network whose hidden layers can be run, and drawn, at any width.

    The hidden units of the network are intervals side by side; weights are functions of where a
    unit stands. A network of n units has n wider intervals in their place: its weights into a unit
    are the mean over the interval, those out of it the sum, so that neighbours that do the same
    become one unit that does it for all of them. Draw from networks whose neighbours are alike
    (:func:`smooth_permutation`), or train at drawn widths; best both.

    Parameters
    ----------
    module : torch.nn.Module
        A chain of layers, as :func:`permutation_groups` takes, without batch normalisation between
        its layers (:func:`fuse_batchnorm`). It is copied.
    method : {"field", "slimmable"}, default="field"
        "field" averages, as above. "slimmable" keeps the first units of each layer, as in [2]_.

    Attributes
    ----------
    network : torch.nn.Module
        The copy: the network of width 1, whose parameters are trained.

    Raises
    ------
    NotImplementedError
        The network is no such chain; the message names the layer.

    See Also
    --------
    smooth_permutation : Puts units that are alike side by side.
    sklr.neural_network.MorphableClassifier : The classifier.

    Notes
    -----
    In [1]_ weights come from networks of coordinates (layer, row, column), trained for days. Here
    the function is constant on each interval, so that the network of width 1 is what was given, to
    the last bit, and the drawn ones are its integrals: two thin matrix products a layer.

    References
    ----------
    .. [1] X. Yang and X. Wang, "Neural metamorphosis", ECCV 2024, arXiv:2410.11878.
    .. [2] J. Yu and T. Huang, "Universally slimmable networks and improved training techniques",
       ICCV 2019, arXiv:1903.05134.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import WeightField, smooth_permutation
    >>> network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    >>> field = WeightField(smooth_permutation(network))
    >>> x = torch.ones(2, 8)
    >>> bool(torch.allclose(field(x), network(x), atol=1e-5))
    True
    >>> field(x, 0.5).shape
    torch.Size([2, 3])
    >>> field.sample(0.5)
    Sequential(
      (0): Linear(in_features=8, out_features=16, bias=True)
      (1): ReLU()
      (2): Linear(in_features=16, out_features=3, bias=True)
    )
    """

    def __init__(self, module: nn.Module, *, method: str = "field") -> None:
        super().__init__()
        check_module(module, "WeightField")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        check_layers(module)
        self.method = method
        self.network = copy_of(module)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows beside the network.

        Returns
        -------
        shown : str
            The method.
        """
        return f"method={self.method!r}"

    def units(self, width: float) -> list[int]:
        """Return the units of each hidden layer at a width.

        Parameters
        ----------
        width : float
            Share of the units, above 0 and at most 1.

        Returns
        -------
        units : list of int
            One number for each hidden layer: rounded, and one at least.
        """
        width = check_width(width)
        return [units_at(width, len(layer.part.weight)) for layer in self._layers()[:-1]]

    def weights(self, width: float) -> dict[str, Tensor]:
        """Return the weights of the network of a width; gradients go through them.

        Parameters
        ----------
        width : float
            Share of the units, above 0 and at most 1.

        Returns
        -------
        weights : dict of str to Tensor
            By their names in the network.
        """
        found = {}
        units = self.units(width)
        for layer in self._layers():
            weight, bias = self._drawn(layer, units)
            prefix = f"{layer.name}." if layer.name else ""
            found[f"{prefix}weight"] = weight
            if bias is not None:
                found[f"{prefix}bias"] = bias
        return found

    def forward(self, input: Tensor, width: float = 1.0) -> Tensor:
        """Run the network at a width.

        Parameters
        ----------
        input : Tensor
            Input of the network.
        width : float, default=1.0
            Share of the units, above 0 and at most 1.

        Returns
        -------
        output : Tensor
            What the network of this width makes of it.
        """
        units = self.units(width)
        layers = {layer.name: layer for layer in self._layers()}
        x = input
        for name, part in leaves(self.network):
            if name not in layers:
                x = part(x)
                continue
            weight, bias = self._drawn(layers[name], units)
            if isinstance(part, nn.Linear):
                x = nn.functional.linear(x, weight, bias)
            else:
                x = part._conv_forward(x, weight, bias)  # type: ignore[operator]
        return x

    def sample(self, width: float) -> nn.Module:
        """Return the plain network of a width, with parameters of its own.

        Parameters
        ----------
        width : float
            Share of the units, above 0 and at most 1.

        Returns
        -------
        network : torch.nn.Module
            Layers as in the network of width 1, under the same names, with fewer units.
        """
        small = copy_of(self.network)
        with plain_tensors():
            units = self.units(width)
            drawn = [self._drawn(layer, units) for layer in self._layers()]
        with torch.inference_mode(False):
            for layer, (weight, bias) in zip(weighted_layers(small), drawn):
                part = layer.part
                kept = part.weight.requires_grad
                part.weight = nn.Parameter(weight.detach().clone(), requires_grad=kept)
                if bias is not None:
                    kept = part.bias.requires_grad
                    part.bias = nn.Parameter(bias.detach().clone(), requires_grad=kept)
                kind = "features" if isinstance(part, nn.Linear) else "channels"
                setattr(part, f"out_{kind}", weight.shape[0])
                setattr(part, f"in_{kind}", weight.shape[1])
        return small

    def n_parameters(self, width: float) -> int:
        """Return the number of parameters of the network of a width.

        Parameters
        ----------
        width : float
            Share of the units, above 0 and at most 1.

        Returns
        -------
        n : int
            As many as :meth:`sample` has.
        """
        units, layers = self.units(width), self._layers()
        total = sum(p.numel() for p in self.network.parameters())
        for layer in layers:
            weight, bias = layer.part.weight, layer.part.bias
            rows = len(weight) if layer.after is None else units[layer.after]
            columns = (
                weight.shape[1] if layer.before is None else units[layer.before] * layer.places
            )
            total += rows * columns * weight[0, 0].numel() - weight.numel()
            total += 0 if bias is None else rows - len(bias)
        return total

    def _layers(self) -> list[Weighted]:
        return weighted_layers(self.network)

    def _drawn(self, layer: Weighted, units: list[int]) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias of a layer between hidden layers of so many units."""
        weight, bias = layer.part.weight, layer.part.bias
        if layer.after is not None and units[layer.after] < len(weight):
            n, n_units = units[layer.after], len(weight)
            if self.method == "slimmable":
                weight, bias = weight[:n], None if bias is None else bias[:n]
            else:
                mean = _like(cells(n, n_units) * (n / n_units), weight)
                weight = (mean @ weight.reshape(n_units, -1)).reshape(n, *weight.shape[1:])
                bias = None if bias is None else mean @ bias
        if layer.before is not None:
            n, n_units = units[layer.before], weight.shape[1] // layer.places
            if n < n_units and self.method == "slimmable":
                weight = weight[:, : n * layer.places]
            elif n < n_units:
                total = _like(cells(n, n_units), weight)
                rows, rest = len(weight), weight.shape[2:]
                if weight[0, 0].numel() * layer.places == 1:
                    weight = weight.reshape(rows, n_units) @ total.mT
                else:
                    weight = total @ weight.reshape(rows, n_units, -1)
                weight = weight.reshape(rows, n * layer.places, *rest)
        return weight, bias


def _like(values: np.ndarray, other: Tensor) -> Tensor:
    return torch.tensor(values, dtype=other.dtype, device=other.device)


def check_layers(module: nn.Module) -> None:
    """Refuse a network of which no widths can be drawn.

    Raises
    ------
    NotImplementedError
        It is no chain, or has a batch normalisation between its layers.
    ValueError
        It has no hidden layer.
    """
    layers = weighted_layers(module)
    if len(layers) < 2:
        raise ValueError(
            f"the network has one layer with weights, {layers[0].name!r}: there is no hidden layer "
            "whose width could change"
        )
    parts = leaves(module)
    names = [name for name, _ in parts]
    first, last = names.index(layers[0].name), names.index(layers[-1].name)
    for name, part in parts[first:last]:
        if type(part) in NORMS:
            raise NotImplementedError(
                f"layer {name!r} is a {type(part).__name__}, whose statistics belong to one width: "
                "fold it first (sklr.nn.fuse_batchnorm)"
            )


def check_width(width: Any) -> float:
    """Return a width that is one.

    Raises
    ------
    ValueError
        It is no number above 0 and at most 1.
    """
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < float(width) <= 1:
        raise ValueError(f"width must be a number above 0 and at most 1, got {width!r}")
    return float(width)
