"""A layer with adapters: its class reads the adapted weight where the layer's class reads its own.

torch's parametrizations make a class for each layer, which deep copies share: to take the
parametrization off a copy breaks the original, and such a layer does not pickle. Here a class is
made once for each class of layers and keeps nothing: the layer has the given Parameter under its
own name, and the adapters in a child ``adapters``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sklr.nn.adapters._base import _Adapter

ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Stack(nn.ModuleDict):
    """The adapters of one weight, by name; the changes of the active ones are added."""

    def __init__(self) -> None:
        super().__init__()
        self.active: tuple[str, ...] = ()

    def now(self) -> list[_Adapter]:
        """Return the active adapters."""
        return [self._modules[name] for name in self.active]  # type: ignore[misc]

    def adapted(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight with what the active adapters add."""
        for adapter in self.now():
            weight = adapter(weight)
        return weight

    def drops(self) -> bool:
        """Return whether an active adapter drops inputs in this mode."""
        return any(adapter.dropout and adapter.training for adapter in self.now())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stack:
        new = _Stack.__new__(_Stack)
        memo[id(self)] = new
        import copy

        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new


def stacks_of(layer: nn.Module) -> dict[str, _Stack]:
    """Return the adapters of a layer by the name of the weight."""
    if not getattr(type(layer), "_is_adapted", False):
        return {}
    return dict(layer._modules["adapters"]._modules)  # type: ignore[union-attr,arg-type]


def base_class(layer: nn.Module) -> type:
    """Return the class of a layer without its adapters."""
    return getattr(type(layer), "_adapted_base", type(layer))


def given_weight(layer: nn.Module, tensor: str) -> torch.Tensor:
    """Return a weight without its adapters."""
    found = layer._parameters.get(tensor)
    if found is not None:
        return found
    # A product, of a factorised layer.
    return getattr(base_class(layer), tensor).fget(layer)


# Classes of layers with adapters.

_CLASSES: dict[tuple[type, tuple[str, ...]], type] = {}
_LOCK = threading.Lock()
_SEEN = threading.local()


def _adapted_class(base: type, tensors: tuple[str, ...]) -> type:
    """Return the one class that stands for `base` with adapters on some of its tensors."""
    key = base, tensors
    with _LOCK:
        if key not in _CLASSES:
            space: dict[str, Any] = {tensor: _reader(tensor) for tensor in tensors}
            space |= {
                "__module__": base.__module__,
                "__qualname__": base.__qualname__,
                "__doc__": base.__doc__,
                "__reduce_ex__": _reduce,
                "_is_adapted": True,
                "_adapted_base": base,
                "_adapted_tensors": tensors,
            }
            forward = _forward_of(base)
            if forward is not None:
                space["forward"] = forward
            _CLASSES[key] = type(base)(base.__name__, (base,), space)
    return _CLASSES[key]


def _reduce(layer: nn.Module, protocol: Any) -> tuple[Any, ...]:
    cls = type(layer)
    return _unpickled, (cls._adapted_base, cls._adapted_tensors), layer.__getstate__()  # type: ignore[attr-defined]


def _unpickled(base: type, tensors: tuple[str, ...]) -> nn.Module:
    cls: Any = _adapted_class(base, tensors)
    return cls.__new__(cls)


def _reader(tensor: str) -> property:
    def read(layer: nn.Module) -> torch.Tensor:
        kept = getattr(_SEEN, "weights", None)
        if kept and (id(layer), tensor) in kept:
            return kept[id(layer), tensor]
        stack = layer._modules["adapters"]._modules[tensor]  # type: ignore[union-attr]
        return stack.adapted(given_weight(layer, tensor))  # type: ignore[union-attr,operator]

    return property(read, doc="The weight with what its active adapters add.")


def _forward_of(base: Any) -> Callable[..., torch.Tensor] | None:
    """Return the forward that uses the adapters' narrow path, or None: the layer's own does."""
    if issubclass(base, nn.Linear) and base.forward is nn.Linear.forward:
        return _linear
    if issubclass(base, CONVOLUTIONS) and any(base.forward is c.forward for c in CONVOLUTIONS):
        return _convolution
    if issubclass(base, nn.Embedding) and base.forward is nn.Embedding.forward:
        return _embedding
    if issubclass(base, nn.MultiheadAttention):
        return _attention
    if getattr(base, "_is_factorised", False):
        return _factorised
    if base.__name__ == "Conv1D" and base.__module__.startswith("transformers."):
        return _transposed
    return None


def has_path(base: type) -> bool:
    """Return whether adapters see the inputs of such a layer, so that they can drop some."""
    return _forward_of(base) in (_linear, _convolution, _factorised, _transposed)


def _stack(layer: nn.Module) -> _Stack:
    return layer._modules["adapters"]._modules["weight"]  # type: ignore[union-attr,return-value]


def _by_path(stack: _Stack, n_rows: int) -> bool:
    return stack.drops() or all(adapter._path_is_cheaper(n_rows) for adapter in stack.now())


def _lies(stack: _Stack, transposed: bool) -> bool:
    """Return whether adapters lie as a layer's weight does: a head may share that of a table."""
    return all(adapter.transposed == transposed for adapter in stack.now())


def _linear(self: Any, input: torch.Tensor) -> torch.Tensor:
    stack, weight = _stack(self), self._parameters["weight"]
    by_path = _by_path(stack, input.numel() // max(weight.shape[1], 1))
    if not by_path or not _lies(stack, transposed=False):
        return F.linear(input, stack.adapted(weight), self.bias)
    output = F.linear(input, weight, self.bias)
    for adapter in stack.now():
        output = adapter.add_to(output, input)
    return output


def _transposed(self: Any, x: torch.Tensor) -> torch.Tensor:
    stack, weight = _stack(self), self._parameters["weight"]
    flat = x.reshape(-1, x.shape[-1])
    by_path = _by_path(stack, len(flat)) and _lies(stack, transposed=True)
    output = torch.addmm(self.bias, flat, weight if by_path else stack.adapted(weight))
    if by_path:
        for adapter in stack.now():
            output = adapter.add_to(output, flat)
    return output.reshape(*x.shape[:-1], output.shape[-1])


def _factorised(self: Any, input: torch.Tensor) -> torch.Tensor:
    # Their weight is a product of others; only the path leaves it unmade.
    output = type(self)._adapted_base.forward(self, input)
    for adapter in _stack(self).now():
        output = adapter.add_to(output, input)
    return output


def _embedding(self: Any, input: torch.Tensor) -> torch.Tensor:
    stack, weight = _stack(self), self._parameters["weight"]
    padding = self.padding_idx
    if input.numel() >= len(weight) or not _lies(stack, transposed=True):
        return F.embedding(input, stack.adapted(weight), padding)
    output = F.embedding(input, weight, padding)
    for adapter in stack.now():
        output = adapter.add_rows_to(output, input)
    return output


def _convolution(self: Any, input: torch.Tensor) -> torch.Tensor:
    # A kernel is small beside what it is multiplied with: to make the new one is quicker.
    stack, weight = _stack(self), self._parameters["weight"]
    if not stack.drops():
        return self._conv_forward(input, stack.adapted(weight), self.bias)
    output = self._conv_forward(input, weight, self.bias)
    for adapter in stack.now():
        dropped = F.dropout(input, adapter.dropout, training=adapter.training)
        output = output + self._conv_forward(dropped, adapter.delta().to(weight.dtype), None)
    return output


def _attention(self: Any, *args: Any, **kwargs: Any) -> Any:
    # torch reads the weights several times in a forward.
    with _computed_once(self):
        return type(self)._adapted_base.forward(self, *args, **kwargs)


@contextlib.contextmanager
def _computed_once(layer: nn.Module) -> Iterator[None]:
    found = {(id(layer), tensor): getattr(layer, tensor) for tensor in stacks_of(layer)}
    before = getattr(_SEEN, "weights", None)
    _SEEN.weights = {**(before or {}), **found}
    try:
        yield
    finally:
        _SEEN.weights = before


# Putting adapters on, and taking them off.


def attach(layer: nn.Module, tensor: str, stack: _Stack) -> None:
    """Give a weight of a layer a stack of adapters."""
    there = stacks_of(layer)
    if not there:
        layer.add_module("adapters", nn.ModuleDict())
    layer._modules["adapters"]._modules[tensor] = stack  # type: ignore[union-attr]
    tensors = tuple(sorted({*there, tensor}))
    layer.__class__ = _adapted_class(base_class(layer), tensors)


def detach(layer: nn.Module, tensor: str) -> None:
    """Take the adapters off a weight; the class of the layer is the one that it came with."""
    left = [other for other in stacks_of(layer) if other != tensor]
    base = base_class(layer)
    layer.__class__ = _adapted_class(base, tuple(sorted(left))) if left else base
    if left:
        del layer._modules["adapters"]._modules[tensor]  # type: ignore[union-attr]
    else:
        del layer._modules["adapters"]


def merge(layer: nn.Module, tensor: str, stack: _Stack, done: set[int]) -> None:
    """Write the adapted weight into a layer, which is plain afterwards."""
    parameter = layer._parameters.get(tensor)
    if parameter is None:
        down, up = (torch.cat(pair, dim=axis) for pair, axis in zip(_pairs(stack), (0, 1)))
        detach(layer, tensor)
        _widen(layer, down, up)
        return
    adapted = None if id(parameter) in done else stack.adapted(parameter).detach()
    detach(layer, tensor)
    if adapted is not None:  # else another layer with the same weight was here
        parameter.data.copy_(adapted)
        done.add(id(parameter))


def _pairs(stack: _Stack) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    pairs = [adapter.factors() for adapter in stack.now()]
    return [down.detach() for down, _ in pairs], [up.detach() for _, up in pairs]


def _widen(layer: Any, down: torch.Tensor, up: torch.Tensor) -> None:
    """Add a path of low rank to a factorised layer's own two matrices."""
    old_down, old_up = layer.down.weight, layer.up.weight
    both_down = torch.cat([old_down.double(), down.double()])
    both_up = torch.cat([old_up.double(), up.double()], dim=1)
    m, n, r = len(both_up), both_down.shape[1], len(both_down)
    # Bases of the weight's own add nothing that the two matrices do not span.
    Q_up, R_up = torch.linalg.qr(both_up)
    Q_down, R_down = torch.linalg.qr(both_down.T)
    U, s, Vh = torch.linalg.svd(R_up @ R_down.T)
    limit = torch.finfo(old_down.dtype).eps * max(m, n) * float(s.max())
    kept = max(1, int((s > limit).sum()))
    if kept < r:
        root = s[:kept].sqrt()
        both_up, both_down = Q_up @ (U[:, :kept] * root), (root[:, None] * Vh[:kept]) @ Q_down.T
    made: dict[str, Any] = {"device": "meta", "dtype": old_down.dtype}
    flags = old_down.requires_grad, old_up.requires_grad
    bias = layer.up._parameters.get("bias")
    new_down = nn.Linear(n, len(both_down), bias=False, **made)
    new_up = nn.Linear(len(both_down), m, bias=bias is not None, **made)
    new_down.weight = nn.Parameter(both_down.to(old_down.dtype).contiguous(), flags[0])
    new_up.weight = nn.Parameter(both_up.to(old_up.dtype).contiguous(), flags[1])
    if bias is not None:
        new_up.bias = bias
    layer.down, layer.up = new_down.train(layer.training), new_up.train(layer.training)
