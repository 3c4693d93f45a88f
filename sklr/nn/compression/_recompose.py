"""A plain network of two thin matrices or one, from a network with ordered layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of, plain_tensors
from sklr.nn._ordered._layers import OrderedConv2d, OrderedLinear, _OrderedLayer
from sklr.nn._ordered._sizes import dense_size, size_of
from sklr.nn.compression._factorised import LowRankConv, LowRankLinear


def recompose(module: Any, ranks: Mapping[str, int] | None = None) -> Any:
    """Return a plain copy of a network with ordered layers, each cut to a rank.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    ranks : mapping of str to int, default=None
        Rank of each layer, by its name; a layer that is not named keeps what it has left.

    Returns
    -------
    plain : torch.nn.Module
        A deep copy with :class:`LowRankLinear` and :class:`LowRankConv`, or with
        ``torch.nn.Linear`` and ``torch.nn.Conv2d`` where one matrix is no larger than two. It
        trains, pickles, compiles and exports like any network. A layer of rank 0 holds one column
        of zeros.

    Raises
    ------
    ValueError
        A name or a rank does not fit.

    See Also
    --------
    sklr.nn.decompose : Puts ordered layers into a network.

    Examples
    --------
    >>> from torch import nn
    >>> from sklr.nn import decompose
    >>> from sklr.nn.compression import recompose
    >>> ordered = decompose(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3)))
    >>> small = recompose(ordered, {"0": 4})
    >>> sum(p.numel() for p in small.parameters())  # 4 * (20 + 30) + 30 + 3 * 30 + 3
    323
    """
    check_module(module, "recompose")
    names: dict[int, list[str]] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, _OrderedLayer):
            names.setdefault(id(part), []).append(name)
    if not names:
        raise ValueError("recompose: the network has no ordered layer")
    firsts = [places[0] for places in names.values()]
    ranks = dict(ranks or {})
    unknown = [name for name in ranks if name not in firsts]
    if unknown:
        raise ValueError(f"ranks: {unknown[0]!r} is no ordered layer; there are {firsts[:10]}")
    copied = copy_of(module)
    with torch.inference_mode(False):
        for places in names.values():
            layer: Any = copied.get_submodule(places[0])
            rank = ranks.get(places[0], layer.rank)
            if isinstance(rank, bool) or int(rank) != rank or not 0 <= rank <= layer.rank:
                raise ValueError(
                    f"ranks[{places[0]!r}] must be an integer from 0 to {layer.rank}, got {rank!r}"
                )
            new = _plain(layer, int(rank))
            for place in places:
                if not place:
                    return new
                above, _, own = place.rpartition(".")
                setattr(copied.get_submodule(above), own, new)
    return copied


def _plain(layer: OrderedLinear | OrderedConv2d, rank: int) -> nn.Module:
    cut = layer.truncated(rank)
    down, up = cut.down, cut.up
    if size_of(layer, rank) < dense_size(layer):
        thin: Any
        if isinstance(layer, OrderedConv2d):
            thin = LowRankConv(down, up)
        else:
            thin = LowRankLinear(1, 1, 1, device="meta")
            thin.down, thin.up = down, up
        return _with_hooks(thin, layer)
    # The layer's own kind of its first factor, with all outputs and the bias.
    whole = copy_of(down)
    with plain_tensors():
        weight = cut.weight if rank else torch.zeros_like(layer.weight)
        whole.weight = nn.Parameter(weight.detach(), requires_grad=up.weight.requires_grad)
        whole.bias = up.bias
    if isinstance(layer, OrderedConv2d):
        whole.out_channels = up.out_channels
    else:
        whole.out_features = up.out_features
    return _with_hooks(whole, layer)


def _with_hooks(new: nn.Module, old: nn.Module) -> nn.Module:
    for name, hooks in vars(old).items():
        if name.endswith("_hooks") and hooks and "state_dict" not in name:
            setattr(new, name, hooks)
    return new.train(old.training)
