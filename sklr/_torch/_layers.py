"""Layers of a network that are matrices: find, name and choose them; their rows; ranks."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

MATRICES = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d", "Embedding")


@dataclass(frozen=True)
class Layer:
    """One layer that holds a matrix, or holds what looks like one and is not to be changed.

    Attributes
    ----------
    name : str
        Its first name in ``named_modules``; the empty name is the network itself.
    names : tuple of str
        Every name under which the network holds it.
    kind : str
        One of ``MATRICES``, or the name of its class.
    shape : tuple of int
        Outputs and inputs of the matrix; inputs of an embedding are its rows, those of a
        convolution the entries of its window.
    reason : str
        Why it is left as it is; empty where it can be replaced.
    """

    name: str
    names: tuple[str, ...]
    kind: str
    shape: tuple[int, int]
    reason: str = ""


def find_layers(network: "nn.Module") -> list[Layer]:
    """Return the layers of a network that hold matrices, in the order of ``named_modules``."""
    from torch import nn

    names: dict[int, list[str]] = {}
    for name, part in network.named_modules(remove_duplicate=False):
        names.setdefault(id(part), []).append(name)
    shared = Counter(
        _memory(value)
        for _, value in network.named_parameters(remove_duplicate=False)
        if value.numel()
    )
    inside_attention, inside_factors = set(), set()
    for part in network.modules():
        if getattr(type(part), "_is_adapted", False):
            inside_factors |= {id(child) for child in part.modules()} - {id(part)}
        if isinstance(part, nn.MultiheadAttention):
            inside_attention |= {id(child) for child in part.modules()}
        if getattr(type(part), "_is_factorised", False):
            inside_factors |= {id(child) for child in part.modules()}
    found = []
    for name, part in network.named_modules():
        kind = kind_of(part)
        if kind is None or (id(part) in inside_factors and not _is_factorised(part)):
            continue
        used = tuple(names[id(part)])
        if getattr(type(part), "_is_adapted", False):
            reason = "it has an adapter; merge_adapter makes a plain layer of it"
        elif isinstance(part, nn.MultiheadAttention) or id(part) in inside_attention:
            reason = "nn.MultiheadAttention reads it as a tensor"
        elif _is_factorised(part):
            reason = "it is factorised already"
        else:
            # A module that stands twice has each of its parameters counted twice.
            tied = [v for v in part._parameters.values() if v is not None and v.numel()]
            is_tied = any(shared[_memory(v)] > len(used) for v in tied)
            reason = _reason_to_leave(part, kind, is_tied)
        found.append(Layer(name, used, kind, _shape(part, kind), reason))
    return found


def _memory(value: "torch.Tensor") -> tuple[Any, ...]:
    return value.device, value.data_ptr()


def _is_factorised(part: "nn.Module") -> bool:
    return bool(getattr(type(part), "_is_factorised", False))


def kind_of(part: "nn.Module") -> str | None:
    """Return which kind of matrix a module holds, or None."""
    from torch import nn

    if isinstance(part, nn.Linear):
        return "Linear"
    for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        # Transposed convolutions are no subclasses of these.
        if isinstance(part, kind):
            return kind.__name__
    if isinstance(part, nn.Embedding):
        return "Embedding"
    if isinstance(part, nn.MultiheadAttention) or _is_factorised(part):
        return type(part).__name__
    # transformers' layer of GPT-2, known by its name and its weight: (inputs, outputs).
    if type(part).__name__ == "Conv1D" and getattr(getattr(part, "weight", None), "ndim", 0) == 2:
        return "Conv1D"
    return None


def _reason_to_leave(part: Any, kind: str, is_tied: bool) -> str:
    from torch import nn

    # A parametrization takes the name out of the module's parameters; so do weight_norm,
    # spectral_norm and pruning.
    weight = part._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other tensors (parametrization, pruning)"
    if not weight.is_floating_point():
        return f"its weight is {str(weight.dtype).removeprefix('torch.')}, not real numbers"
    if is_tied:
        return "its weight is tied to another layer's"
    if getattr(part, "groups", 1) != 1:
        return f"it is a convolution in {part.groups} groups"
    if getattr(part, "max_norm", None) is not None:
        return "it is an embedding with max_norm, which rescales its rows when they are read"
    if kind != "Conv1D" and type(part).forward is not getattr(nn, kind).forward:
        return f"{type(part).__name__} is a {kind} with a forward of its own"
    return ""


def _shape(part: Any, kind: str) -> tuple[int, int]:
    if kind not in MATRICES:
        return (0, 0)
    weight = part._parameters.get("weight")
    # One that is computed is not read: in training mode a spectral norm takes a step then.
    shape = tuple(weight.shape) if weight is not None else _computed_shape(part, kind)
    m, n = shape[0], int(np.prod(shape[1:]))
    return (n, m) if kind in ("Conv1D", "Embedding") else (m, n)


def _computed_shape(part: Any, kind: str) -> tuple[int, ...]:
    if kind == "Linear":
        return part.out_features, part.in_features
    if kind == "Embedding":
        return part.num_embeddings, part.embedding_dim
    if kind == "Conv1D":
        return tuple(part.weight.shape)
    return (part.out_channels, part.in_channels // part.groups, *part.kernel_size)


def matrix_of(part: Any, kind: str) -> "torch.Tensor":
    """Return a layer's matrix, outputs times inputs, in float64."""
    weight = wide(part.weight.detach())
    if kind in ("Conv1D", "Embedding"):
        return weight.T
    return weight.reshape(weight.shape[0], -1)


def bias_of(part: "nn.Module") -> "torch.Tensor | None":
    """Return a layer's bias in float64, or None."""
    bias = getattr(part, "bias", None)
    return None if bias is None else wide(bias.detach())


def wide(values: "torch.Tensor") -> "torch.Tensor":
    """Return values in float64, on their device or, where that has no float64, on the CPU."""
    import torch

    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)


def input_rows(part: "nn.Module", kind: str, x: "torch.Tensor") -> "torch.Tensor":
    """Return what the matrix is multiplied with, as (rows, inputs)."""
    if kind.startswith("Conv") and kind != "Conv1D":
        return _windows(part, x)
    return x.reshape(-1, x.shape[-1])


def output_rows(kind: str, y: "torch.Tensor") -> "torch.Tensor":
    """Return a layer's outputs as (rows, outputs)."""
    if kind in ("Conv1d", "Conv2d", "Conv3d"):
        channel = -1 - int(kind[4])
        return y.movedim(channel, -1).reshape(-1, y.shape[channel])
    return y.reshape(-1, y.shape[-1])


def _windows(part: Any, x: "torch.Tensor") -> "torch.Tensor":
    """Return the windows of a convolution as rows, in the order of its weight."""
    import itertools

    import torch

    n_axes = len(part.kernel_size)
    if x.ndim == n_axes + 1:
        x = x[None]
    mode = "constant" if part.padding_mode == "zeros" else part.padding_mode
    x = torch.nn.functional.pad(x, part._reversed_padding_repeated_twice, mode=mode)
    lengths = [
        (size - step * (width - 1) - 1) // stride + 1
        for size, step, width, stride in zip(
            x.shape[2:], part.dilation, part.kernel_size, part.stride
        )
    ]
    pieces = []
    for offset in itertools.product(*map(range, part.kernel_size)):
        where = [slice(None), slice(None)]
        for start, step, stride, length in zip(offset, part.dilation, part.stride, lengths):
            first = start * step
            where.append(slice(first, first + stride * (length - 1) + 1, stride))
        pieces.append(x[tuple(where)])
    rows = torch.stack(pieces, dim=2).flatten(3)  # (samples, channels, window, places)
    return rows.permute(0, 3, 1, 2).reshape(-1, x.shape[1] * len(pieces))


def choose_layers(layers: Sequence[Layer], targets: Any, kinds: Iterable[str] = MATRICES) -> list:
    """Return the layers that `targets` names and that can be replaced.

    Parameters
    ----------
    layers : sequence of Layer
        What :func:`find_layers` returns.
    targets : None, str, list of str or callable
        None is every layer but the last linear or convolutional one (the head), "all" every
        layer, "all-linear" every linear one but the head. A list has names or their last parts;
        another string is one such name, or, after ``"re:"``, a regular expression. A callable gets
        each name and layer.
    kinds : iterable of str
        Kinds of layers that the method can replace.

    Returns
    -------
    chosen : list of Layer

    Raises
    ------
    ValueError
        Nothing is left, or something in a list matches nothing that can be replaced.
    """
    kinds = tuple(kinds)
    able = [layer for layer in layers if not layer.reason and layer.kind in kinds]
    if targets is None or (isinstance(targets, str) and targets in ("all", "all-linear")):
        chosen = able if targets != "all-linear" else _linear(able)
        if targets != "all" and len(chosen) > 1:
            head = _head(layers)
            chosen = [layer for layer in chosen if layer is not head]
    elif callable(targets):
        chosen = [layer for layer in able if targets(layer.name, layer)]
    else:
        patterns = [targets] if isinstance(targets, str) else list(targets)
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(
                f"targets must be None, 'all', 'all-linear', names, 're:...' or a callable, "
                f"got {targets!r}"
            )
        for pattern in patterns:
            matched = [layer for layer in layers if _matches(layer, pattern)]
            if any(layer in able for layer in matched):
                continue
            why = "".join(
                f"; {layer.name!r} cannot be replaced: "
                f"{layer.reason or f'it is a {layer.kind}, not one of {list(kinds)}'}"
                for layer in matched[:3]
            )
            raise ValueError(f"targets: {pattern!r} matches no layer{why}{_names(able)}")
        chosen = [layer for layer in able if any(_matches(layer, p) for p in patterns)]
    if not chosen:
        why = "".join(f"; {layer.name!r}: {layer.reason}" for layer in layers[:10] if layer.reason)
        raise ValueError(f"targets={targets!r} leave no layer to replace{why}{_names(able)}")
    return chosen


def _linear(layers: Iterable[Layer]) -> list[Layer]:
    return [layer for layer in layers if layer.kind in ("Linear", "Conv1D")]


def _head(layers: Iterable[Layer]) -> Layer | None:
    found = [layer for layer in layers if layer.kind in MATRICES and layer.kind != "Embedding"]
    return found[-1] if found else None


def _matches(layer: Layer, pattern: str) -> bool:
    if pattern.startswith("re:"):
        return any(re.fullmatch(pattern[3:], name) for name in layer.names)
    return any(name == pattern or name.endswith(f".{pattern}") for name in layer.names)


def _names(layers: Sequence[Layer]) -> str:
    if not layers:
        return "; the network has no layer that can be replaced"
    more = f" and {len(layers) - 10} more" if len(layers) > 10 else ""
    return f"; there are {', '.join(repr(layer.name) for layer in layers[:10])}{more}"


def resolve_rank(
    rank: Any, layer: Layer, spectrum: np.ndarray, *, energy: float = 0.99, multiple_of: int = 1
) -> int | None:
    """Return the rank of one layer; None leaves it as it is.

    Parameters
    ----------
    rank : int, float, "energy" or dict
        A number; a share of the layer's parameters, of which 1 is the layer as it is; the smallest
        rank whose squared spectrum reaches `energy`; one of these by name of layer.
    layer : Layer
        The layer.
    spectrum : ndarray
        Singular values in the method's own metric, falling.
    energy : float
        What "energy" keeps of the squared spectrum.
    multiple_of : int
        Ranks are rounded down to a multiple of it, but not to 0.
    """
    if isinstance(rank, Mapping):
        found = [value for pattern, value in rank.items() if _matches(layer, pattern)]
        return (
            None
            if not found
            else resolve_rank(found[0], layer, spectrum, energy=energy, multiple_of=multiple_of)
        )
    m, n = layer.shape
    if isinstance(rank, str):
        squared = np.cumsum(spectrum**2)
        r = int(np.searchsorted(squared, energy * squared[-1] * (1 - 1e-12))) + 1
    elif isinstance(rank, Integral):
        r = int(rank)
    elif rank == 1:
        return None
    else:
        r = max(1, int(rank * m * n / (m + n) + 1e-9))
    return max(multiple_of, r // multiple_of * multiple_of) if multiple_of > 1 else r


def check_ranks_by_name(rank: Any, layers: Sequence[Layer]) -> None:
    """Refuse a dict of ranks with a wrong value, or with a name that no layer has."""
    if not isinstance(rank, Mapping):
        return
    for name, value in rank.items():
        share = isinstance(value, float) and 0 < value <= 1
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
        if not (share or whole or value == "energy"):
            raise ValueError(
                f"rank[{name!r}] must be an integer of at least 1, a share in (0, 1] or 'energy', "
                f"got {value!r}"
            )
        if not any(_matches(layer, name) for layer in layers):
            raise ValueError(f"rank: {name!r} matches no layer{_names(layers)}")
