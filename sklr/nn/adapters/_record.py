"""What a network remembers of its adapters: what was trainable, and what else is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sklr.nn.adapters._attach import _Stack
from sklr.nn.adapters._slots import adapted_weights

_NAME = "_adapter_record"


@dataclass
class Record:
    """Kept in the dictionary of the network that :func:`add_adapter` was given.

    Attributes
    ----------
    flags : dict
        Parameter -> whether it was trainable before.
    given : dict
        Other parameters that adapters train -> their given values.
    values : dict
        Adapter -> those parameters -> their values; None while they are in the network.
    kinds : dict
        Adapter -> its kind.
    given_statistics : dict
        Running statistics of the network -> their given values, while an adapter is active.
    statistics : dict
        Adapter -> running statistics -> their values under it, while it waits.
    """

    flags: dict[str, bool] = field(default_factory=dict)
    given: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[str, dict[str, torch.Tensor | None]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    given_statistics: dict[str, torch.Tensor] = field(default_factory=dict)
    statistics: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    active: tuple[str, ...] = ()


def record_of(module: nn.Module) -> Record | None:
    """Return the record of a network, or None."""
    return vars(module).get(_NAME)


def records_in(module: nn.Module) -> list[tuple[str, nn.Module, Record]]:
    """Return (prefix, network, record) of a network and of those inside it."""
    found = []
    for name, part in module.named_modules():
        record = record_of(part)
        if record is not None:
            found.append((f"{name}." if name else "", part, record))
    return found


def require_records(module: Any, what: str) -> list[tuple[str, nn.Module, Record]]:
    """Return the records of a network that has some.

    Raises
    ------
    TypeError
        It is no Module.
    ValueError
        It has no adapter.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"{what} takes a torch.nn.Module first, got {type(module).__name__}")
    found = records_in(module)
    if not found:
        raise ValueError(f"{what}: the network has no adapter; add_adapter puts one in")
    return found


def names_in(module: nn.Module) -> list[str]:
    """Return the names of all adapters, in their order."""
    return list(dict.fromkeys(name for *_, record in records_in(module) for name in record.kinds))


def active_in(module: nn.Module) -> list[str]:
    """Return the names of the active adapters."""
    return list(dict.fromkeys(name for *_, record in records_in(module) for name in record.active))


def checked_names(module: nn.Module, names: Any, what: str) -> list[str]:
    """Return names of adapters that there are, as a list."""
    there = names_in(module)
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in there:
            raise ValueError(f"{what}: there is no adapter {name!r}, there are {there}")
    return list(dict.fromkeys(wanted))


def put_record(module: nn.Module, record: Record) -> None:
    """Give a network its record."""
    object.__setattr__(module, _NAME, record)


def drop_record(module: nn.Module) -> None:
    """Take the record of a network away, and let train what was trainable before."""
    record = record_of(module)
    if record is None:
        return
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, flag in record.flags.items():
        if name in parameters:
            parameters[name].requires_grad_(flag)
    delattr(module, _NAME)


def matching_parameters(module: nn.Module, train: Any) -> list[str]:
    """Return the names of the parameters that `train` names: whole names, ends, parts, "re:".

    Raises
    ------
    ValueError
        Something in it matches no parameter.
    """
    if train is None:
        return []
    patterns = [train] if isinstance(train, str) else list(train)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(f"train must be None, a name, or a list of names, got {train!r}")
    adapters = {id(p) for *_, stack in adapted_weights(module) for p in stack.parameters()}
    own = [name for name, p in module.named_parameters() if id(p) not in adapters]
    chosen: list[str] = []
    for pattern in patterns:
        if pattern.startswith("re:"):
            matched = [name for name in own if re.fullmatch(pattern[3:], name)]
        else:
            # A parameter, or a layer with all that is in it.
            matched = [name for name in own if f".{pattern}." in f".{name}."]
        if not matched:
            shown = ", ".join(map(repr, own[:10]))
            raise ValueError(f"train: {pattern!r} matches no parameter; there are {shown}")
        chosen += matched
    return list(dict.fromkeys(chosen))


def switch(module: nn.Module, names: list[str]) -> None:
    """Make adapters the active ones; tensors are exchanged, never copied."""
    for _, part, record in records_in(module):
        parameters = dict(part.named_parameters(remove_duplicate=False))
        active = tuple(name for name in record.kinds if name in names)
        for name in record.active:
            for key in record.values[name]:
                record.values[name][key] = parameters[key].data
                _exchange(parameters[key], record.given[key])
        for name in active:
            for key, value in record.values[name].items():
                if value is not None:
                    _exchange(parameters[key], value)
                    record.values[name][key] = None
        if active != record.active:
            _exchange_statistics(part, record, active)
        record.active = active
        for stack in _stacks(part):
            stack.active = tuple(name for name in active if name in stack._modules)


def _exchange(parameter: nn.Parameter, value: torch.Tensor) -> None:
    # The network may have been moved or converted meanwhile.
    parameter.data = value.to(device=parameter.device, dtype=parameter.dtype)


def statistics_of(module: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Return where a network's running statistics are: name -> module, name of the buffer.

    They move in training, also where no parameter beside an adapter does.
    """
    found = {}
    for name, part in module.named_modules():
        for key, value in part._buffers.items():
            if value is not None and (key.startswith("running_") or key == "num_batches_tracked"):
                found[f"{name}.{key}".lstrip(".")] = part, key
    return found


def moved_statistics(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """Return the running statistics that are others under an adapter than they were given."""
    found = {}
    for prefix, part, record in records_in(module):
        if name not in record.kinds:
            continue
        for key, (owner, own) in statistics_of(part).items():
            live = owner._buffers[own]
            given = record.given_statistics.get(key) if record.active else live
            if name not in record.active:
                live = record.statistics.get(name, {}).get(key)
            if live is not None and given is not None:
                if not torch.equal(live, given.to(live)):
                    found[prefix + key] = live
    return found


def _exchange_statistics(module: nn.Module, record: Record, active: tuple[str, ...]) -> None:
    for key, (owner, own) in statistics_of(module).items():
        live = owner._buffers[own]
        assert live is not None
        if not record.active:
            record.given_statistics[key] = live
        for name in record.active:
            # Each has its own: one of them may go on alone.
            kept = live if name == record.active[-1] else live.clone()
            record.statistics.setdefault(name, {})[key] = kept
        given = record.given_statistics.get(key, live)
        stored = [record.statistics.get(name, {}).get(key) for name in reversed(active)]
        there = [value for value in stored if value is not None]
        value = there[0] if there else given.clone() if active else given
        owner._buffers[own] = value.to(device=live.device, dtype=live.dtype)


def _stacks(module: nn.Module) -> list[_Stack]:
    found = {id(stack): stack for *_, stack in adapted_weights(module)}
    return list(found.values())


def let_train(module: nn.Module) -> None:
    """Let the parameters of active adapters train, and nothing else."""
    for _, part, record in records_in(module):
        trained = {key for name in record.active for key in record.values[name]}
        for key, value in part.named_parameters():
            value.requires_grad_(key in trained)
    for stack in _stacks(module):
        for name, adapter in stack._modules.items():
            adapter.requires_grad_(name in stack.active)  # type: ignore[union-attr]
