"""The weights of a network that can be adapted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sklr._torch._layers import Layer, choose_layers
from sklr._torch._module_first import check_module
from sklr.nn.adapters._attach import (
    ATTENTION,
    _Stack,
    base_class,
    given_weight,
    has_path,
    stacks_of,
)

_KINDS = (
    *("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d", "Embedding"),
    *("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
    *("MultiheadAttention", "LowRankLinear", "CompensatedLinear"),
)
_NOT_REAL = "not real numbers"


@dataclass(frozen=True)
class Slot:
    """One weight of a network, and how it is a matrix.

    Attributes
    ----------
    layer : Layer
        Name, kind, and why it cannot be adapted.
    part : torch.nn.Module
        The layer.
    tensor : str
        The name of the weight in the layer.
    options : dict
        ``transposed``, ``table`` and ``padding_idx`` of an adapter.
    can_drop : bool
        Whether the adapter sees the layer's inputs.
    """

    layer: Layer
    part: Any
    tensor: str
    options: dict[str, Any]
    can_drop: bool

    @property
    def name(self) -> str:
        """Name of the layer, and of the weight where it is not the only one."""
        return self.layer.name

    def weight(self) -> torch.Tensor:
        """Return the given weight, or where it cannot be read, zeros of its shape."""
        try:
            return given_weight(self.part, self.tensor)
        except AttributeError:  # packed integers, say
            up, n = self.part.up.weight, self.part.down.weight.shape[1]
            return up.detach().new_zeros(1).expand(len(up), n)

    @property
    def is_readable(self) -> bool:
        """Whether the weight is there as a tensor."""
        try:
            given_weight(self.part, self.tensor)
        except AttributeError:
            return False
        return True


def checked_network(module: Any, name: str) -> nn.Module:
    """Return a network that can be adapted.

    Raises
    ------
    TypeError
        It is no Module.
    ValueError
        It is compiled, lazy, without values, or its tensors cannot be trained.
    """
    check_module(module, name)
    for part in module.modules():
        if hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None:
            raise ValueError(
                f"{name}: the network is compiled, and would go on with the weights it was "
                "compiled with; adapt the network itself (module._orig_mod), then compile it"
            )
    for key, value in module.named_parameters():
        if value.is_inference():
            raise ValueError(
                f"{name}: {key!r} of the network was made inside torch.inference_mode and cannot "
                "be trained; take copy.deepcopy(module), outside of it"
            )
    return module


def find_slots(network: nn.Module) -> list[Slot]:
    """Return the weights of a network's layers, in the order of ``named_modules``."""
    names: dict[int, list[str]] = {}
    holders: dict[int, set[tuple[int, str]]] = {}
    for name, part in network.named_modules(remove_duplicate=False):
        names.setdefault(id(part), []).append(name)
        for key, value in part._parameters.items():
            if value is not None and value.numel():
                holders.setdefault(_memory(value), set()).add((id(part), key))
    inside: set[int] = set()  # of adapters, and of layers that are adapted as a whole
    attention: set[int] = set()
    found = []
    for name, part in network.named_modules():
        for stack in stacks_of(part).values():
            inside |= {id(child) for child in stack.modules()}
        if _is_whole(part):
            inside |= {id(child) for child in part.modules()} - {id(part)}
        if isinstance(part, nn.MultiheadAttention):
            attention |= {id(child) for child in part.modules()} - {id(part)}
        if id(part) in inside:
            continue
        for tensor in _tensors(part):
            found.append(_slot(name, names[id(part)], part, tensor, id(part) in attention))
    return _with_ties(found, holders)


def _memory(value: torch.Tensor) -> int:
    return value.data_ptr()


def _is_whole(part: nn.Module) -> bool:
    """Return whether a factorised layer is a linear one."""
    cls = base_class(part)
    return bool(getattr(cls, "_is_factorised", False)) and hasattr(cls, "in_features")


def _tensors(part: nn.Module) -> list[str]:
    if isinstance(part, nn.MultiheadAttention):
        return [key for key in ATTENTION if part._parameters.get(key) is not None]
    return ["weight"] if _kind(part) else []


def _kind(part: Any) -> str:
    known = {
        kind: getattr(nn, kind)
        for kind in _KINDS
        if hasattr(nn, kind) and kind != "MultiheadAttention"
    }
    for kind, cls in known.items():
        if isinstance(part, cls):
            return kind
    if _is_whole(part):
        # Another class of this make is treated as the one that has been there longest.
        own = base_class(part).__name__
        return own if own in _KINDS else "LowRankLinear"
    # transformers' layer of GPT-2, known by its name and its weight: (inputs, outputs).
    if base_class(part).__name__ == "Conv1D":
        weight = part._parameters.get("weight")
        return "Conv1D" if weight is not None and weight.ndim == 2 else ""
    return ""


def _slot(name: str, names: list[str], part: Any, tensor: str, in_attention: bool) -> Slot:
    kind = "MultiheadAttention" if tensor != "weight" else _kind(part)
    if tensor != "weight":
        # Found by its own name and by that of the attention.
        names = [*(f"{n}.{tensor}".lstrip(".") for n in names), *names]
        name = names[0]
    whole = _is_whole(part)
    weight = part._parameters.get(tensor)
    reason = ""
    if weight is None and not whole:
        reason = "its weight is computed from other tensors (parametrization, pruning)"
    elif weight is not None and not weight.is_floating_point():
        reason = f"its weight is {str(weight.dtype).removeprefix('torch.')}, {_NOT_REAL}"
    elif weight is not None and (weight.ndim < 2 or not weight.numel()):
        reason = "its weight is empty"
    elif getattr(part, "max_norm", None) is not None:
        reason = "it is an embedding with max_norm, which rescales its rows when they are read"
    elif "adapters" in vars(part) or ("adapters" in part._modules and not stacks_of(part)):
        reason = "it has an attribute 'adapters' of its own"
    shape = (part.out_features, part.in_features) if whole else (0, 0)
    table = kind == "Embedding"
    if weight is not None and weight.ndim >= 2:
        m, n = weight.shape[0], weight[0].numel()
        shape = (n, m) if table or kind == "Conv1D" else (m, n)
    return Slot(
        layer=Layer(name, tuple(names), kind, shape, reason),
        part=part,
        tensor=tensor,
        options={
            "transposed": kind == "Conv1D",
            "table": table,
            "padding_idx": part.padding_idx if table else None,
        },
        can_drop=tensor == "weight" and has_path(base_class(part)) and not in_attention,
    )


def _with_ties(slots: list[Slot], holders: dict[int, set[tuple[int, str]]]) -> list[Slot]:
    """Refuse a weight that something holds which cannot be adapted: the tie would tear."""
    known = {(id(slot.part), slot.tensor) for slot in slots}
    found = []
    for slot in slots:
        weight = slot.part._parameters.get(slot.tensor)
        if weight is not None and not slot.layer.reason:
            others = holders.get(_memory(weight), set())
            shared = {id(slot.part._parameters[slot.tensor])} != {
                id(other.part._parameters.get(other.tensor))
                for other in slots
                if (id(other.part), other.tensor) in others
            }
            if others - known or shared:
                reason = "its weight is tied to one that cannot be adapted"
                slot = replace(slot, layer=replace(slot.layer, reason=reason))
        found.append(slot)
    return found


def tied_with(slot: Slot, slots: list[Slot]) -> list[Slot]:
    """Return the slots that hold the same weight, this one among them."""
    weight = slot.part._parameters.get(slot.tensor)
    if weight is None:
        return [slot]
    return [s for s in slots if s.part._parameters.get(s.tensor) is weight]


def choose_slots(slots: list[Slot], targets: Any) -> list[Slot]:
    """Return the slots that `targets` names, as compressors understand it.

    Raises
    ------
    TypeError
        What is named has a quantised weight.
    ValueError
        Nothing is left, or a name matches nothing that can be adapted.
    """
    layers = [slot.layer for slot in slots]
    if targets is None or targets == "all-linear":
        # What is tied is changed in two places, which somebody has to want.
        layers = [
            replace(slot.layer, reason="its weight is tied to another layer's")
            if not slot.layer.reason and len(tied_with(slot, slots)) > 1
            else slot.layer
            for slot in slots
        ]
    try:
        chosen = choose_layers(layers, targets, _KINDS)
    except ValueError as exc:
        message = str(exc).replace("replaced", "adapted").replace("to replace", "to adapt")
        if _NOT_REAL in message:
            raise TypeError(message) from None
        raise ValueError(message) from None
    kept = {id(layer) for layer in chosen}
    return [slot for slot, layer in zip(slots, layers) if id(layer) in kept]


def adapted_weights(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, _Stack]]:
    """Yield (name of the layer, layer, name of the weight, adapters) of every adapted weight."""
    for name, part in network.named_modules():
        for tensor, stack in stacks_of(part).items():
            yield name, part, tensor, stack
