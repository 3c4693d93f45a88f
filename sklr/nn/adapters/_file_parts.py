"""What files of our own and of peft have in common: names, descriptions, loading whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sklr._torch._untouched import plain_tensors
from sklr.nn.adapters._base import _Adapter
from sklr.nn.adapters._functions import add_adapter, remove_adapter
from sklr.nn.adapters._record import (
    active_in,
    checked_names,
    names_in,
    records_in,
    require_records,
    statistics_of,
)
from sklr.nn.adapters._slots import Slot, adapted_weights, find_slots

# A description of some thousand layers takes less.
_MOST_JSON = 2**24


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


def put_in_whole(
    module: nn.Module,
    kind: str,
    name: str,
    layers: list[dict[str, Any]],
    trained: list[str],
    state: dict[str, torch.Tensor],
    moved: Sequence[str] = (),
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
        places = {key: statistics_of(module)[key] for key in moved}
        own |= {f"statistics.{key}": part._buffers[at] for key, (part, at) in places.items()}  # type: ignore[misc]
        values = fitting(state, own, "the file")
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


def fitting(
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


def _escaped(text: str) -> str:
    import re

    return re.escape(text)
