"""Adapters in files: only what is trained, and what tells whether it fits."""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sklr
from sklr._torch._weights import read_weights, safetensors_or_none, write_tensors
from sklr.nn.adapters._file_parts import (
    fitting,
    one_name,
    put_in_whole,
    read_json,
    slots_with,
    trained_by,
)
from sklr.nn.adapters._functions import KINDS
from sklr.nn.adapters._peft import load_peft
from sklr.nn.adapters._record import active_in, moved_statistics, records_in, statistics_of
from sklr.nn.adapters._slots import Slot, checked_network, find_slots
from sklr.nn.adapters._trained import named_trained

CONFIG = "sklr_adapter.json"
_FORMAT, _VERSION = "sklr-adapter", 1


# In memory.


def adapter_state_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what is trained, and nothing else: a part of the network's ``state_dict``.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    state : dict of str to Tensor
        Parameters of the active adapters, what else they train, and running statistics (of batch
        normalisations) that are others than before.

    See Also
    --------
    save_adapter : To a file, with what is needed to load it into a bare network.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import adapter_state_dict, add_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "svfit")
    >>> list(adapter_state_dict(network))
    ['0.adapters.weight.default.sigma']
    """
    state = {key: p.detach() for key, *_, p in named_trained(module)}
    for name in active_in(module):
        state |= moved_statistics(module, name)
    return state


def load_adapter_state_dict(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load what :func:`adapter_state_dict` returned into a network with the same adapters.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with adapters of the same names, kinds and ranks.
    state : dict of str to Tensor
        All of it is loaded, or nothing.

    Raises
    ------
    ValueError
        A name is missing or unknown, a shape differs, or a value is not finite.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import adapter_state_dict, add_adapter, load_adapter_state_dict
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "svfit")
    >>> load_adapter_state_dict(network, adapter_state_dict(network))
    """
    own: dict[str, torch.Tensor] = {key: p for key, *_, p in named_trained(module)}
    moved = {key: value for key, value in _statistics(module).items() if key in state}
    given = dict(state) | {key: state[key].double() for key in moved}  # one of them is a count
    values = fitting(given, own | moved, "the state")
    own |= moved
    for key, value in values.items():
        own[key].data.copy_(value)


def _statistics(module: nn.Module) -> dict[str, Any]:
    return {key: part._buffers[own] for key, (part, own) in statistics_of(module).items()}


# To a folder.


def save_adapter(
    module: nn.Module,
    path: str | os.PathLike,
    name: str | None = None,
    *,
    save_bases: bool | str = "auto",
) -> None:
    """Write an adapter to a folder: its numbers, and a description in JSON.

    Running statistics (of batch normalisations) that moved in training are among the numbers.
    The numbers are in the format of safetensors where that package is installed, else in torch's
    own. The description has kind, layers, parameters, a checksum of each given weight, and
    one of the numbers.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    path : str or path
        The folder; made where there is none.
    name : str, default=None
        Which adapter; None is the one that is active.
    save_bases : bool or "auto", default="auto"
        Whether the bases of SVFit and LoLDU are written too, which are many numbers. Otherwise
        they are computed again from the given weight. "auto" writes those of weights with equal
        singular values, whose bases another machine may choose otherwise.

    See Also
    --------
    load_adapter : Reads it.
    export_peft : Writes it for peft.

    Examples
    --------
    >>> import tempfile, torch
    >>> from sklr.nn.adapters import add_adapter, load_adapter, save_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "lora", rank=2)
    >>> other = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> other.load_state_dict(network.state_dict(), strict=False).missing_keys
    []
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(network, folder)
    ...     load_adapter(other, folder)
    ['0']
    """
    if save_bases not in (True, False, "auto"):
        raise ValueError(f"save_bases must be True, False or 'auto', got {save_bases!r}")
    name = one_name(module, name, "save_adapter")
    state: dict[str, torch.Tensor] = {}
    layers = []
    for slot, adapter in slots_with(module, name):
        keep = save_bases is True or (save_bases == "auto" and not adapter.bases_are_unique)
        keep = keep and bool(adapter._bases())
        layers.append(
            {
                "name": slot.name,
                "shape": list(adapter.shape),
                "settings": adapter._settings(),
                "base": _checksum(slot.weight()) if slot.is_readable else None,
                "bases": keep,
            }
        )
        values = dict(adapter.named_parameters()) | (adapter._bases() if keep else {})
        state |= {f"layers.{slot.name}.{own}": v for own, v in values.items()}
    trained = trained_by(module, name)
    state |= {f"trained.{key}": value for key, value in trained.items()}
    statistics = moved_statistics(module, name)
    state |= {f"statistics.{key}": value.double() for key, value in statistics.items()}
    for key, value in state.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{key!r} is not finite: training diverged, nothing is written")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    file = "adapter.safetensors" if safetensors_or_none() else "adapter.pt"
    write_tensors(state, folder / file)
    kind = next(record.kinds[name] for *_, record in records_in(module) if name in record.kinds)
    _write_json(
        folder / CONFIG,
        {
            "format": _FORMAT,
            "version": _VERSION,
            "sklr": sklr.__version__,
            "kind": kind,
            "name": name,
            "layers": layers,
            "trained": sorted(trained),
            "statistics": sorted(statistics),
            "file": file,
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
        },
    )


def _checksum(weight: torch.Tensor) -> str:
    """Return what tells a weight from every other, whatever device it is on."""
    plain = weight.detach().cpu().contiguous()
    found = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# From a folder.


def load_adapter(
    module: nn.Module,
    path: str | os.PathLike,
    name: str | None = None,
    *,
    check_base: bool = True,
) -> list[str]:
    """Put an adapter of a folder into a network: all of it, or nothing.

    No code in the files is run. A folder in which peft saved a LoRA is read as well.

    Parameters
    ----------
    module : torch.nn.Module
        The network, with the weights on which the adapter was trained.
    path : str or path
        The folder.
    name : str, default=None
        Name of the adapter here; None is the one that it was saved with.
    check_base : bool, default=True
        Whether to refuse a network whose given weights are not, to the last bit, those on which
        the adapter was trained. False is for networks that were converted or quantised since. A
        folder of peft has no checksums.

    Returns
    -------
    names : list of str
        The weights that are adapted.

    Raises
    ------
    ValueError
        The files are damaged, of another format, or of another network; nothing is loaded.

    See Also
    --------
    save_adapter : Writes such a folder.

    Examples
    --------
    >>> import tempfile, torch
    >>> from sklr.nn.adapters import add_adapter, load_adapter, remove_adapter, save_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "svfit")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(network, folder)
    ...     load_adapter(remove_adapter(network), folder)
    ['0']
    """
    checked_network(module, "load_adapter")
    folder = Path(path)
    if not (folder / CONFIG).exists() and (folder / "adapter_config.json").exists():
        return load_peft(module, folder, name)
    config = read_json(folder / CONFIG)
    layers, trained = _checked_config(config)
    moved = config.get("statistics", [])
    statistics = _statistics(module)
    for key in moved:
        if key not in statistics:
            raise ValueError(f"the adapter has moved {key!r}, which the network does not have")
    there = {slot.name: slot for slot in find_slots(module)}
    for layer in layers:
        _check_layer(layer, there, check_base)
    parameters = dict(module.named_parameters())
    for key in trained:
        if key not in parameters:
            raise ValueError(f"the adapter trains {key!r}, which the network does not have")
    file = folder / config["file"]
    sizes = [math.prod(layer["shape"]) for layer in layers]
    sizes += [parameters[key].numel() for key in trained]
    sizes += [statistics[key].numel() for key in moved]
    most = 64 * sum(sizes) + 2**20
    if file.is_file() and file.stat().st_size > most:
        raise ValueError(f"{file.name} is refused: it has {file.stat().st_size} bytes, too many")
    if hashlib.sha256(file.read_bytes()).hexdigest() != config["sha256"]:
        raise ValueError(
            f"{file.name} is not the file that {CONFIG} describes: one of them is damaged, or of "
            "another adapter"
        )
    state = read_weights(file, most_bytes=most)
    name = config["name"] if name is None else name
    return put_in_whole(module, config["kind"], name, layers, trained, state, moved)


def _checked_config(config: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the layers and the other trained parameters of a description."""

    def require(good: bool, what: str) -> None:
        if not good:
            raise ValueError(f"{CONFIG} is damaged, or of another format: {what}")

    require(config.get("format") == _FORMAT, f"its format is {config.get('format')!r}")
    version = config.get("version")
    if version != _VERSION:
        raise ValueError(
            f"{CONFIG} has version {version!r}, this sklr reads {_VERSION}: it was written by "
            f"sklr {config.get('sklr')!r}"
        )
    kind = config.get("kind")
    require(isinstance(kind, str) and kind in KINDS, f"kind is {kind!r}")
    require(isinstance(config.get("name"), str), "it has no name")
    require(config.get("file") in ("adapter.safetensors", "adapter.pt"), "file has another name")
    require(isinstance(config.get("sha256"), str), "it has no checksum")
    layers, trained = config.get("layers"), config.get("trained")
    require(isinstance(layers, list) and bool(layers), "it has no layers")
    moved = config.get("statistics", [])
    for given, what in ((trained, "trained"), (moved, "statistics")):
        require(isinstance(given, list) and all(isinstance(t, str) for t in given), what)
    names = []
    for layer in layers:  # type: ignore[union-attr]
        require(isinstance(layer, dict), "a layer")
        good = (
            isinstance(layer.get("name"), str)
            and isinstance(layer.get("settings"), dict)
            and isinstance(layer.get("bases"), bool)
            and isinstance(layer.get("base"), (str, type(None)))
            and isinstance(layer.get("shape"), list)
            and all(type(d) is int and d > 0 for d in layer["shape"])
        )
        require(good, f"the layer {str(layer.get('name'))[:40]!r}")
        names.append(layer["name"])
    require(len(set(names)) == len(names), "a layer stands twice")
    return layers, trained  # type: ignore[return-value]


def _check_layer(layer: dict[str, Any], there: dict[str, Slot], check_base: bool) -> None:
    slot = there.get(layer["name"])
    if slot is None or slot.layer.reason:
        why = "is not there" if slot is None else slot.layer.reason
        raise ValueError(f"the adapter is of another network: layer {layer['name']!r} {why}")
    weight = slot.weight()
    if tuple(weight.shape) != tuple(layer["shape"]):
        raise ValueError(
            f"the adapter is of another network: {layer['name']!r} has shape "
            f"{tuple(weight.shape)}, the file says {tuple(layer['shape'])}"
        )
    if check_base and layer["base"] is not None and slot.is_readable:
        if _checksum(weight) != layer["base"]:
            raise ValueError(
                f"the weight of {layer['name']!r} is not the one on which the adapter was trained "
                "(its checksum differs): load that network's weights first, or, if it was only "
                "converted, set check_base=False"
            )
