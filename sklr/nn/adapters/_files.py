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
from sklr._torch._untouched import plain_tensors
from sklr._torch._weights import read_weights, safetensors_or_none, write_tensors
from sklr.nn.adapters._base import _Adapter
from sklr.nn.adapters._functions import KINDS, add_adapter, remove_adapter
from sklr.nn.adapters._record import active_in, checked_names, names_in, records_in, require_records
from sklr.nn.adapters._slots import Slot, adapted_weights, checked_network, find_slots
from sklr.nn.adapters._trained import named_trained

CONFIG = "sklr_adapter.json"
_FORMAT, _VERSION = "sklr-adapter", 1
# A description of some thousand layers takes less.
_MOST_JSON = 2**24


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
        Parameters of the active adapters, and what else they train.

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
    return {key: p.detach() for key, *_, p in named_trained(module)}


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
    own = {key: p for key, *_, p in named_trained(module)}
    values = _fitting(dict(state), own, "the state")
    for key, value in values.items():
        own[key].data.copy_(value)


def _fitting(
    state: Mapping[str, Any], own: Mapping[str, torch.Tensor], what: str
) -> dict[str, torch.Tensor]:
    """Return values that can be loaded, in the types of the network's own."""
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or surplus:
        raise ValueError(
            f"{what} is of another adapter: missing {missing[:5]}, not known {surplus[:5]}"
        )
    found = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise ValueError(f"{key!r} in {what} is no tensor of real numbers")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{key!r} in {what} is no plain tensor")
        if value.shape != own[key].shape:
            raise ValueError(
                f"{what} is of another adapter: {key!r} has shape {tuple(value.shape)}, here it "
                f"is {tuple(own[key].shape)} (another rank, or another network)"
            )
        found[key] = value.detach().to(own[key].dtype)
        if not bool(found[key].isfinite().all()):
            raise ValueError(f"{key!r} in {what} has entries that are not finite")
    return found


# To a folder.


def save_adapter(
    module: nn.Module,
    path: str | os.PathLike,
    name: str | None = None,
    *,
    save_bases: bool | str = "auto",
) -> None:
    """Write an adapter to a folder: its numbers, and a description in JSON.

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
            "file": file,
            "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
        },
    )


def one_name(module: Any, name: str | None, what: str) -> str:
    """Return the name of one adapter; None is the active one."""
    require_records(module, what)
    if name is None:
        active = active_in(module)
        if len(active) != 1:
            raise ValueError(f"{what}: {len(active)} adapters are active; name one of them")
        return active[0]
    return checked_names(module, name, what)[0]


def slots_with(module: nn.Module, name: str) -> list[tuple[Slot, _Adapter]]:
    """Return the adapters of a name, with the first layer of tied ones."""
    slots = {(id(s.part), s.tensor): s for s in find_slots(module)}
    found, seen = [], set()
    for _, part, tensor, stack in adapted_weights(module):
        adapter = stack._modules.get(name)
        if adapter is not None and id(adapter) not in seen:
            seen.add(id(adapter))
            found.append((slots[id(part), tensor], adapter))
    return found  # type: ignore[return-value]


def trained_by(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """Return what else an adapter trains, by the name of the parameter."""
    found = {}
    for prefix, part, record in records_in(module):
        parameters = dict(part.named_parameters())
        for key, value in record.values.get(name, {}).items():
            found[prefix + key] = parameters[key].detach() if value is None else value
    return found


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
        from sklr.nn.adapters._peft import load_peft

        return load_peft(module, folder, name)
    config = read_json(folder / CONFIG)
    layers, trained = _checked_config(config)
    there = {slot.name: slot for slot in find_slots(module)}
    for layer in layers:
        _check_layer(layer, there, check_base)
    parameters = dict(module.named_parameters())
    for key in trained:
        if key not in parameters:
            raise ValueError(f"the adapter trains {key!r}, which the network does not have")
    file = folder / config["file"]
    sizes = [math.prod(layer["shape"]) for layer in layers]
    most = 64 * (sum(sizes) + sum(parameters[key].numel() for key in trained)) + 2**20
    if file.is_file() and file.stat().st_size > most:
        raise ValueError(f"{file.name} is refused: it has {file.stat().st_size} bytes, too many")
    if hashlib.sha256(file.read_bytes()).hexdigest() != config["sha256"]:
        raise ValueError(
            f"{file.name} is not the file that {CONFIG} describes: one of them is damaged, or of "
            "another adapter"
        )
    state = read_weights(file, most_bytes=most)
    name = config["name"] if name is None else name
    return put_in_whole(module, config["kind"], name, layers, trained, state)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that is a dictionary.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is too long, no JSON, or no dictionary.
    """
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path.name} is refused: it has {path.stat().st_size} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{path.name} is damaged: it is no JSON ({type(exc).__name__})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is damaged: it is no dictionary")
    return found


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
    require(isinstance(trained, list) and all(isinstance(t, str) for t in trained), "trained")
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


def put_in_whole(
    module: nn.Module,
    kind: str,
    name: str,
    layers: list[dict[str, Any]],
    trained: list[str],
    state: dict[str, torch.Tensor],
) -> list[str]:
    """Add an adapter and load it; where anything does not fit, the network is as before."""
    before = active_in(module)
    if name in names_in(module):
        raise ValueError(f"there is an adapter {name!r} already; give name=")
    by_name = {layer["name"]: layer for layer in layers}
    settings = [dict(layer["settings"]) for layer in layers]
    ranks = {layer["name"]: one.pop("rank", None) for layer, one in zip(layers, settings)}
    if any(one != settings[0] for one in settings):
        raise ValueError("the layers of the file have different settings beside their ranks")
    if isinstance(next(iter(ranks.values())), list):
        ranks = {key: tuple(rank) for key, rank in ranks.items()}
    try:
        given = settings[0] | {"rank": ranks}
        # Names in full: an ending could match other layers as well.
        added = add_adapter(
            module,
            kind,
            targets=lambda key, _: key in by_name,
            name=name,
            train=[f"re:{_escaped(key)}" for key in trained] or None,
            random_state=0,
            **given,
        )
    except TypeError as exc:
        raise ValueError(f"the file has settings that {kind!r} does not take: {exc}") from None
    try:
        own: dict[str, torch.Tensor] = {}
        for slot, adapter in slots_with(module, name):
            values: dict[str, torch.Tensor] = dict(adapter.named_parameters())
            if by_name[slot.name]["bases"]:
                values |= adapter._bases()
            own |= {f"layers.{slot.name}.{key}": value for key, value in values.items()}
        parameters = dict(module.named_parameters())
        own |= {f"trained.{key}": parameters[key] for key in trained}
        values = _fitting(state, own, "the file")
        with plain_tensors():
            for key, value in values.items():
                own[key].data.copy_(value)
    except BaseException:
        remove_adapter(module, name)
        if before:
            from sklr.nn.adapters._functions import set_adapter

            set_adapter(module, before)
        raise
    return added


def _escaped(text: str) -> str:
    import re

    return re.escape(text)
