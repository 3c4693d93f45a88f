"""The thin layers of a compressed network, made anew in a fresh one; files of such networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sklr._torch._layers import Layer, find_layers
from sklr._torch._module_first import check_module
from sklr._torch._untouched import plain_tensors
from sklr._torch._weights import checked_state, most_bytes, read_weights, write_weights
from sklr.nn.compression._base import Replacement, replaced


def apply_structure(module: Any, structure: Any) -> Any:
    """Return a copy of a network with the thin layers of a compressed one.

    Parameters
    ----------
    module : torch.nn.Module
        A network of the make that was compressed, such as a fresh one; it is not changed.
    structure : torch.nn.Module or dict
        The compressed network, or its ``state_dict``: names and shapes say where which layers
        stand.

    Returns
    -------
    network : torch.nn.Module
        A deep copy on the same device and in the same precision. Thin layers have the values of
        `structure`; all others are the given network's, until a state is loaded.

    Raises
    ------
    ValueError
        A thin layer of `structure` has no counterpart in the network, or one of another shape.

    See Also
    --------
    load_compressed : Takes all weights, from a file.
    AtomicFeatureMimicking : Makes compressed networks; its ``transform`` does the same.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import WeightSVD, apply_structure
    >>> def build():
    ...     return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> network = build()
    >>> small = WeightSVD(rank=4).fit_transform(network)
    >>> state = small.state_dict()
    >>> again = apply_structure(build(), state)
    >>> again.load_state_dict(state)
    <All keys matched successfully>
    """
    check_module(module, "apply_structure")
    if isinstance(structure, nn.Module):
        structure = structure.state_dict()
    if not isinstance(structure, Mapping):
        raise TypeError(
            "structure must be the compressed network or its state_dict, "
            f"got {type(structure).__name__}"
        )
    found: dict[str, Replacement] = {}
    parts: dict[str, dict[str, Any]] = {}
    for layer in find_layers(module):
        if hasattr(module.get_submodule(layer.name), "down"):
            continue  # it is factorised already
        for name in layer.names:
            part = _part_of(structure, name)
            if {"down.weight", "up.weight"} <= part.keys() and layer.name not in found:
                if layer.reason:
                    raise ValueError(
                        f"layer {name!r} of the network cannot be replaced: {layer.reason}"
                    )
                found[layer.name] = _replacement(layer, name, part)
                parts[layer.name] = part
    known = {name for item in found.values() for name in item.layer.names}
    ours = {name for name, part in module.named_modules() if hasattr(part, "down")}
    thin = {owner for key in structure if (owner := _owner(key)) is not None}
    lost = sorted(thin - known - ours)
    if lost:
        there = [layer.name for layer in find_layers(module)[:10]]
        raise ValueError(
            f"structure has thin layers {lost[:10]} where the network has no layer to replace; "
            f"it has {there}"
        )
    made = replaced(module, found)
    with plain_tensors():
        for name, part in parts.items():
            made.get_submodule(name).load_state_dict(part)
    return made


def _owner(key: str) -> str | None:
    """Return the layer that a first thin matrix belongs to."""
    name, found, rest = key.rpartition("down.weight")
    return name.removesuffix(".") if found and not rest and name[-1:] in ("", ".") else None


def _part_of(structure: Mapping[str, Any], name: str) -> dict[str, Any]:
    prefix = f"{name}." if name else ""
    return {key[len(prefix) :]: v for key, v in structure.items() if key.startswith(prefix)}


def _replacement(layer: Layer, name: str, part: Mapping[str, Any]) -> Replacement:
    """Return what stands in a layer's place, as matrices."""
    for key, value in part.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
        if not plain or value.is_quantized or not value.is_floating_point():
            kind = getattr(value, "dtype", type(value).__name__)
            raise ValueError(f"{key} of layer {name!r} holds {kind}, not real numbers")
    compensated = "base.weight" in part
    bias = part.get("base.bias" if compensated else "up.bias")
    down, up = part["down.weight"], part["up.weight"]
    down = down.T if layer.kind == "Embedding" else down.flatten(1)
    up = up.flatten(1)
    base = part["base.weight"].flatten(1) if compensated else None
    m, n = layer.shape
    fit = down.shape[1] == n and len(up) == m and len(down) == up.shape[1]
    fit = fit and (bias is None or tuple(bias.shape) == (m,))
    if not fit or (base is not None and tuple(base.shape) != (m, n)):
        raise ValueError(
            f"layer {name!r} of the network is a {layer.kind} of {layer.shape} (outputs, inputs); "
            f"structure has tensors there "
            f"of {[tuple(value.shape) for value in part.values()]}"
        )
    return Replacement(layer, down, up, bias, base)


def save_compressed(module: Any, path: str | Path) -> None:
    """Write a compressed network to a file, from which :func:`load_compressed` makes it anew.

    Names and shapes of the weights are the structure: the file holds the network's
    ``state_dict``, and nothing but tensors.

    Parameters
    ----------
    module : torch.nn.Module
        The compressed network.
    path : str or path
        Where to; with the ending ``.safetensors`` in that format (needs the package safetensors),
        else in torch's own. The file appears whole or not at all.

    See Also
    --------
    load_compressed : Reads it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import WeightSVD, load_compressed, save_compressed
    >>> def build():
    ...     return nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> network = build()
    >>> small = WeightSVD(rank=4).fit_transform(network)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "small.pt"
    ...     save_compressed(small, path)
    ...     again = load_compressed(build(), path)
    >>> X = torch.randn(3, 64)
    >>> bool((again(X) == small(X)).all())
    True
    """
    check_module(module, "save_compressed")
    write_weights(module, path)


def load_compressed(module: Any, path: str | Path) -> Any:
    """Return the compressed network of a file; no code in the file is run.

    Parameters
    ----------
    module : torch.nn.Module
        A network of the make that was compressed, such as a fresh one; it is not changed.
    path : str or path
        A file of :func:`save_compressed`, or any ``state_dict`` of a compressed network.

    Returns
    -------
    network : torch.nn.Module
        A deep copy with the thin layers and all weights of the file, on the device and in the
        precision of the given network.

    Raises
    ------
    ValueError
        The file is truncated, holds more than tensors, is of another network or far too large, or
        has values that are not finite.

    See Also
    --------
    save_compressed : Writes it.
    apply_structure : The structure alone.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from torch import nn
    >>> from sklr.nn.compression import WeightSVD, load_compressed, save_compressed
    >>> small = WeightSVD(rank=4, targets="all").fit_transform(nn.Linear(64, 100))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "small.pt"
    ...     save_compressed(small, path)
    ...     load_compressed(nn.Linear(64, 100), path).rank
    4
    """
    check_module(module, "load_compressed")
    state = read_weights(path, most_bytes=most_bytes(module.state_dict()))
    made = apply_structure(module, state)
    made.load_state_dict(checked_state(state, made.state_dict()))
    return made
