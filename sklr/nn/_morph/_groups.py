"""Which tensors of a chain of layers share the units of a hidden layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of, plain_tensors

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What acts on each number by itself.
_POINTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid),
    *(nn.Softplus, nn.Softsign, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold),
    *(nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
# What acts on each channel of an image by itself.
_BY_CHANNEL = (
    *(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.Upsample, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
)


class PermutationGroup(NamedTuple):
    """The units of a hidden layer, and where they stand in the network's tensors."""

    n_units: int
    tensors: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Weighted:
    """A layer with weights; `after` is the hidden layer that it makes, None for the last."""

    name: str
    part: Any
    before: int | None
    after: int | None
    # Places of each unit of the layer before, side by side in the input.
    places: int


def leaves(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """Return the layers of nested ``nn.Sequential`` in the order in which they run."""
    if type(module) is not nn.Sequential:
        return [(prefix, module)]
    found = []
    for name, part in module.named_children():
        found += leaves(part, f"{prefix}.{name}" if prefix else name)
    # named_children leaves a second place of one layer out.
    if len(found) < _n_leaves(module):
        raise NotImplementedError(
            "a layer stands at two places of the network; its units cannot be told apart"
        )
    return found


def _n_leaves(module: nn.Module) -> int:
    if type(module) is not nn.Sequential:
        return 1
    return sum(_n_leaves(part) for part in module)


def weighted_layers(module: nn.Module) -> list[Weighted]:
    """Return the linear and convolutional layers of a chain, in order.

    Raises
    ------
    NotImplementedError
        The network is no chain of such layers; the message names the first that is in the way.
    """
    parts = leaves(module)
    places = [k for k, (_, part) in enumerate(parts) if _has_weights(part)]
    if not places:
        raise NotImplementedError(
            "the network has no linear or convolutional layer in an nn.Sequential: got "
            f"{type(module).__name__}"
        )
    seen: set[int] = set()
    layers: list[Weighted] = []
    for number, k in enumerate(places):
        name, part = parts[k]
        _check_alone(name, part, seen)
        width = 1
        if number:
            between = parts[places[number - 1] + 1 : k]
            width = _places(layers[-1].part, between, name, part)
        last = number == len(places) - 1
        layers.append(
            Weighted(name, part, number - 1 if number else None, None if last else number, width)
        )
    return layers


def _has_weights(part: nn.Module) -> bool:
    return isinstance(part, (nn.Linear, *CONVOLUTIONS))


def _check_alone(name: str, part: Any, seen: set[int]) -> None:
    if type(part) not in (nn.Linear, *CONVOLUTIONS):
        raise NotImplementedError(
            f"layer {name!r} is a {type(part).__name__}, whose weights are not its own (a "
            "parametrization, a lazy layer); take a plain nn.Linear or convolution"
        )
    if getattr(part, "groups", 1) != 1:
        raise NotImplementedError(
            f"layer {name!r} is a convolution in {part.groups} groups, which tie its channels"
        )
    for value in part.parameters(recurse=False):
        if id(value) in seen:
            raise NotImplementedError(f"layer {name!r} shares a tensor with another layer")
        seen.add(id(value))


def _places(former: Any, between: list[tuple[str, nn.Module]], name: str, part: Any) -> int:
    """Return how often each unit of `former` stands in the input of `part`."""
    by_channel = isinstance(former, CONVOLUTIONS)
    for at, layer in between:
        if type(layer) in _POINTWISE or (by_channel and type(layer) in _BY_CHANNEL):
            continue
        if type(layer) in NORMS:
            continue
        if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            continue
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            by_channel = False
            continue
        raise NotImplementedError(
            f"layer {at!r} is a {type(layer).__name__}, which is not known to act on each hidden "
            "unit by itself; between layers with weights there may be activations, dropout, "
            "pooling of images, nn.Flatten() and batch normalisation"
        )
    units = former.weight.shape[0]
    if isinstance(part, CONVOLUTIONS):
        if not by_channel or type(part) is not type(former):
            raise NotImplementedError(
                f"layer {name!r} is a {type(part).__name__} after a {type(former).__name__}; "
                "they do not count the same units"
            )
        return _checked(part.in_channels, units, name)
    if by_channel:
        raise NotImplementedError(
            f"layer {name!r} is linear and acts on the last axis of an image: put nn.Flatten() "
            "before it"
        )
    if not isinstance(former, CONVOLUTIONS):
        return _checked(part.in_features, units, name)
    places, rest = divmod(part.in_features, units)
    if rest or not places:
        _checked(part.in_features, units, name)
    return places


def _checked(inputs: int, units: int, name: str) -> int:
    if inputs != units:
        raise ValueError(
            f"layer {name!r} takes {inputs} inputs, and the layer before it makes {units}"
        )
    return 1


def permutation_groups(module: nn.Module) -> list[PermutationGroup]:
    """Return the tensors that share the units of each hidden layer.

    Units of a hidden layer may stand in any order, as long as all tensors that see them have it:
    the network computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        A chain of layers: ``nn.Sequential``, also nested, of linear layers, convolutions without
        groups, batch normalisation, activations, dropout, pooling and ``nn.Flatten()``. Before the
        first and after the last layer with weights anything may stand.

    Returns
    -------
    groups : list of (n_units, tensors)
        One for each hidden layer, in order: the number of its units, and a tuple of (name of the
        tensor in ``state_dict``, its axis, places of each unit side by side on that axis). There
        are several places after ``nn.Flatten()`` of images.

    Raises
    ------
    NotImplementedError
        The network is another one; the message names the layer.

    See Also
    --------
    smooth_permutation : Puts the units in an order in which neighbours are alike.

    Examples
    --------
    >>> from torch import nn
    >>> from sklr.nn import permutation_groups
    >>> network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    >>> permutation_groups(network)[0].tensors
    (('0.weight', 0, 1), ('0.bias', 0, 1), ('2.weight', 1, 1))
    """
    check_module(module, "permutation_groups")
    layers = weighted_layers(module)
    parts = leaves(module)
    names = [name for name, _ in parts]
    groups = []
    for layer, following in zip(layers[:-1], layers[1:]):
        tensors = [(_full(layer.name, "weight"), 0, 1)]
        if layer.part.bias is not None:
            tensors.append((_full(layer.name, "bias"), 0, 1))
        for name, part in parts[names.index(layer.name) + 1 : names.index(following.name)]:
            if type(part) in NORMS:
                own = [*part.named_parameters(), *part.named_buffers()]
                per_unit = len(layer.part.weight)
                tensors += [
                    (_full(name, key), 0, len(value) // per_unit)
                    for key, value in own
                    if value.ndim == 1
                ]
        tensors.append((_full(following.name, "weight"), 1, following.places))
        groups.append(PermutationGroup(len(layer.part.weight), tuple(tensors)))
    return groups


def _full(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def permuted(module: Any, orders: list[torch.Tensor]) -> nn.Module:
    """Return a copy of a network whose hidden units stand in other orders."""
    new = copy_of(module)
    with plain_tensors():
        tensors = {**dict(new.named_parameters()), **dict(new.named_buffers())}
        for group, order in zip(permutation_groups(new), orders):
            for name, axis, places in group.tensors:
                value = tensors[name]
                rows = order.to(value.device)
                if places > 1:
                    rows = (rows[:, None] * places + torch.arange(places).to(rows)).reshape(-1)
                value.copy_(value.index_select(axis, rows))
    return new


def fuse_batchnorm(module: nn.Module) -> nn.Module:
    """Return a copy in which batch normalisations are folded into the layers before them.

    A batch normalisation that follows a linear layer or a convolution in an ``nn.Sequential``
    becomes part of its weights, by its running statistics; ``nn.Identity`` takes its place, so that
    names stay. In evaluation mode the copy computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.

    Returns
    -------
    fused : torch.nn.Module
        The copy. Batch normalisations that stand elsewhere, or keep no running statistics, stay.

    See Also
    --------
    WeightField : Needs networks without batch normalisation.
    torch.nn.utils.fuse_conv_bn_eval : The same for one pair of layers.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import fuse_batchnorm
    >>> network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).eval()
    >>> fused = fuse_batchnorm(network)
    >>> x = torch.ones(2, 4)
    >>> bool(torch.allclose(fused(x), network(x), atol=1e-6)), type(fused[1]).__name__
    (True, 'Identity')
    """
    check_module(module, "fuse_batchnorm")
    new = copy_of(module)
    with torch.inference_mode(False):
        for part in list(new.modules()):
            if isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward:
                _fuse_chain(part)
    return new


def _fuse_chain(chain: Any) -> None:
    for k in range(1, len(chain)):
        before, norm = chain[k - 1], chain[k]
        folds: Any = fuse_linear_bn_eval if type(before) is nn.Linear else fuse_conv_bn_eval
        if type(before) not in (nn.Linear, *CONVOLUTIONS) or type(norm) not in NORMS:
            continue
        if norm.running_mean is None or len(norm.running_mean) != len(before.weight):
            continue
        if any(before is other for other in (*chain[: k - 1], *chain[k:])):
            continue  # it runs at another place too
        modes = before.training
        folded: Any = folds(copy.copy(before).eval(), copy.copy(norm).eval())
        folded.bias.requires_grad_(before.weight.requires_grad)  # torch makes a frozen one
        chain[k - 1], chain[k] = folded.train(modes), nn.Identity().train(modes)
