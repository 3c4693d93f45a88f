"""Adapters of whole networks: add, switch, merge, remove, and what trains."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sklr._torch._layers import _matches
from sklr._torch._untouched import plain_tensors
from sklr.nn.adapters._attach import _Stack, attach, detach, merge, stacks_of
from sklr.nn.adapters._base import _Adapter, generator_of
from sklr.nn.adapters._fixed_bases import LoLDU, SVFit
from sklr.nn.adapters._low_rank import BlockLoRA, LoRA
from sklr.nn.adapters._record import (
    Record,
    active_in,
    checked_names,
    drop_record,
    let_train,
    matching_parameters,
    names_in,
    put_record,
    record_of,
    records_in,
    require_records,
    switch,
)
from sklr.nn.adapters._slots import (
    Slot,
    adapted_weights,
    checked_network,
    choose_slots,
    find_slots,
    tied_with,
)
from sklr.nn.adapters._tucker import FLoRA

KINDS: dict[str, type[_Adapter]] = {cls.kind: cls for cls in (LoRA, BlockLoRA, SVFit, LoLDU, FLoRA)}
# What add_adapter says of a layer, or of the whole.
_NOT_THEIRS = {"weight", "transposed", "table", "padding_idx", "random_state"}


def add_adapter(
    module: nn.Module,
    kind: str,
    *,
    targets: Any = None,
    name: str | None = None,
    stack: bool = False,
    train: Any = None,
    random_state: Any = None,
    **params: Any,
) -> list[str]:
    """Put an adapter into layers of a network, in place; from then on only it is trained.

    Every layer is checked before one is changed. The given weights stay as they are under their
    names, so that a checkpoint of the bare network still loads (``strict=False``); the adapter is
    a child ``adapters`` of each layer, and in the ``state_dict`` it is
    ``<layer>.adapters.<weight>.<name>.<parameter>``. Running statistics, of batch normalisations
    say, move in training mode as ever; they belong to the adapter, too.

    Parameters
    ----------
    module : torch.nn.Module
        The network. Its linear layers, convolutions (grouped and transposed ones too), embeddings,
        attentions, Hugging Face's ``Conv1D``, and the layers of
        :class:`~sklr.nn.compression.LowRankLinear` and its relatives can be adapted.
    kind : {"lora", "block_lora", "svfit", "loldu", "flora"}
        :class:`LoRA`, :class:`BlockLoRA`, :class:`SVFit`, :class:`LoLDU` or :class:`FLoRA`.
    targets : None, "all", "all-linear", str, list of str or callable, default=None
        None is every layer but the last linear or convolutional one (the head), "all" every
        layer, "all-linear" every linear one but the head. A list has names or their last parts;
        another string is one such name, or, after ``"re:"``, a regular expression. A callable gets
        each name and layer. Tied weights are adapted together, and only where they are named.
    name : str, default=None
        Name of the adapter; None is "default". A second one with a name of its own takes the
        place of the first, which waits: :func:`set_adapter` switches.
    stack : bool, default=False
        Whether the adapters that are active stay so, and the changes add up.
    train : str or list of str, default=None
        Further parameters or layers that are trained as a whole, such as a new head or
        ``"re:.*norm.*"``. They belong to the adapter: they are switched, saved, and put back by
        :func:`remove_adapter` with it.
    random_state : int, RandomState instance or None, default=None
        Seed of what is drawn; None takes torch's own generator.
    **params : dict
        Parameters of the kind, such as `rank`, `alpha` and `dropout`. A `rank` may be a dict from
        names of layers to ranks; layers that it does not name are left out.

    Returns
    -------
    names : list of str
        The weights that are adapted.

    Raises
    ------
    TypeError
        `module` is no Module, a parameter is unknown, or a weight is quantised.
    ValueError
        A parameter is wrong, nothing matches, or there is an adapter already.

    See Also
    --------
    merge_adapter : Make plain layers of it.
    adapter_param_groups : What an optimiser takes.
    peft.get_peft_model : The peer for transformers, which wraps the network.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.adapters import add_adapter, parameter_report
    >>> network = nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3))
    >>> add_adapter(network, "lora", rank=2, train="2")
    ['0']
    >>> parameter_report(network)["trainable"]  # 2 * (20 + 50), and the head
    293
    """
    checked_network(module, "add_adapter")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    _check_params(kind, params)
    name = _checked_name(module, name, stack, kind)
    slots = find_slots(module)
    chosen = _by_rank(choose_slots(slots, targets), params.get("rank"))
    trained = matching_parameters(module, train)
    _check_trained(module, trained, chosen, stack)
    with plain_tensors():
        draws = "random_state" in inspect.signature(KINDS[kind]).parameters
        generator = generator_of(random_state) if draws else None
        made = _adapters_for(kind, chosen, slots, params, generator)
        _put_in(module, kind, name, stack, made, trained)
    return [slot.name for slot, _ in made]


def _check_params(kind: str, params: Mapping[str, Any]) -> None:
    known = [p for p in inspect.signature(KINDS[kind]).parameters if p not in _NOT_THEIRS]
    for key in params:
        if key not in known:
            raise TypeError(f"{kind!r} has no parameter {key!r}; it has {', '.join(known)}")


def _checked_name(module: nn.Module, name: str | None, stack: bool, kind: str) -> str:
    there = names_in(module)
    if name is None:
        if there and not stack:
            raise ValueError(
                f"the network has the adapter {', '.join(map(repr, there))} already: give name= to "
                "have several and switch, stack=True to add to it, or call merge_adapter or "
                "remove_adapter first"
            )
        name = "default"
        if stack and there:
            candidates = [kind, *(f"{kind}_{i}" for i in range(2, len(there) + 3))]
            name = next(one for one in candidates if one not in there)
    if not isinstance(name, str) or not name.isidentifier() or hasattr(nn.ModuleDict, name):
        raise ValueError(f"name must be an identifier such as 'task_1', got {name!r}")
    if name in there:
        raise ValueError(f"there is an adapter {name!r} already; there are {there}")
    return name


def _by_rank(chosen: list[Slot], rank: Any) -> list[tuple[Slot, Any]]:
    """Return the slots with their ranks; a dict of ranks leaves out what it does not name."""
    if not isinstance(rank, Mapping):
        return [(slot, rank) for slot in chosen]
    for key in rank:
        if not any(_matches(slot.layer, key) for slot in chosen):
            names = ", ".join(repr(slot.name) for slot in chosen[:10])
            raise ValueError(f"rank: {key!r} matches no layer that is adapted; these are {names}")
    found = []
    for slot in chosen:
        own = [value for key, value in rank.items() if _matches(slot.layer, key)]
        if own:
            found.append((slot, rank.get(slot.name, own[0])))
    if not found:
        raise ValueError("rank must name a layer or more, got an empty dict")
    return found


def _check_trained(
    module: nn.Module, trained: Sequence[str], chosen: Sequence[tuple[Slot, Any]], stack: bool
) -> None:
    adapted = {id(slot.part._parameters.get(slot.tensor)): slot.name for slot, _ in chosen}
    parameters = dict(module.named_parameters())
    for key in trained:
        if id(parameters[key]) in adapted:
            raise ValueError(
                f"{key!r} is in train, and {adapted[id(parameters[key])]!r} is to be adapted: "
                "leave it out of one of them"
            )
        if not parameters[key].is_floating_point():
            raise TypeError(f"train: {key!r} has no real numbers")
    if stack:
        for _, _, record in records_in(module):
            for name in record.active:
                both = sorted(set(trained) & set(record.values[name]))
                if both:
                    raise ValueError(f"{both[0]!r} is trained by the adapter {name!r} already")


def _adapters_for(
    kind: str, chosen: Any, slots: list[Slot], params: dict[str, Any], generator: Any
) -> list[tuple[Slot, _Adapter]]:
    """Make all adapters; nothing of the network is changed."""
    made: list[tuple[Slot, _Adapter]] = []
    seen: set[int] = set()
    for slot, rank in chosen:
        if id(slot.part._parameters.get(slot.tensor, slot)) in seen:
            continue  # tied with one before it
        seen |= {id(s.part._parameters.get(s.tensor, s)) for s in tied_with(slot, slots)}
        given = dict(params) if rank is None else {**params, "rank": rank}
        if params.get("dropout") and not all(s.can_drop for s in tied_with(slot, slots)):
            raise ValueError(
                f"dropout needs a layer whose inputs the adapter sees, and {slot.name!r} "
                f"({slot.layer.kind}) is none: leave it out of targets, or set dropout=0"
            )
        made.append((slot, _one(kind, slot, given, generator)))
    return made


def _one(kind: str, slot: Slot, params: dict[str, Any], generator: Any) -> _Adapter:
    needs_weight = kind in ("svfit", "loldu")
    if needs_weight and not slot.is_readable:
        raise ValueError(
            f"{slot.name!r}: {kind!r} decomposes the weight, which this {slot.layer.kind} does not "
            "show; take 'lora'"
        )
    own = getattr(slot.part, "rank", None)
    if needs_weight and params.get("rank") is None and slot.layer.kind == "LowRankLinear":
        params = {**params, "rank": own}  # other singular values are zero
    extra: dict[str, Any] = dict(slot.options)
    if generator is not None:
        # A seed for each layer: how many numbers one draws leaves the others as they are.
        extra["random_state"] = int(torch.randint(2**31 - 1, (1,), generator=generator).item())
    try:
        return KINDS[kind](slot.weight(), **params, **extra)
    except (ValueError, TypeError) as exc:
        raise type(exc)(f"layer {slot.name!r}: {exc}") from None


def _put_in(
    module: nn.Module,
    kind: str,
    name: str,
    stack: bool,
    made: list[tuple[Slot, _Adapter]],
    trained: Sequence[str],
) -> None:
    """Attach adapters that are made; an interruption leaves the network as it was."""
    new = record_of(module) is None
    before = active_in(module)
    slots = find_slots(module)
    try:
        if new:
            flags = {key: p.requires_grad for key, p in module.named_parameters()}
            put_record(module, Record(flags=flags))
        record = record_of(module)
        assert record is not None
        record.kinds[name] = kind
        parameters = dict(module.named_parameters())
        for key in trained:
            record.given.setdefault(key, parameters[key].data)
        # The trained copies; the given values wait in the record.
        record.values[name] = {key: record.given[key].clone() for key in trained}
        for slot, adapter in made:
            adapter.train(slot.part.training)
            there = stacks_of(slot.part).get(slot.tensor)
            if there is None:
                there = _Stack()
                for other in tied_with(slot, slots):
                    attach(other.part, other.tensor, there)
            there.add_module(name, adapter)
        switch(module, [*(before if stack else ()), name])
        let_train(module)
    except BaseException:
        record = record_of(module)
        if record is not None and name in record.kinds:
            _take_off(module, [name])
            switch(module, before)
            let_train(module)
        if new:
            drop_record(module)
        raise


def _take_off(module: nn.Module, names: Sequence[str]) -> None:
    """Take adapters off; what other parameters they trained has its given values again."""
    switch(module, [name for name in active_in(module) if name not in names])
    for _, layer, tensor, stack in list(adapted_weights(module)):
        for name in names:
            if name in stack._modules:
                del stack._modules[name]
        if not stack._modules:
            detach(layer, tensor)
    for _, part, record in records_in(module):
        for name in names:
            record.kinds.pop(name, None)
            record.values.pop(name, None)
            record.statistics.pop(name, None)
        if not record.kinds:
            drop_record(part)


def remove_adapter(module: nn.Module, name: Any = None) -> nn.Module:
    """Take adapters off again: the network is what it was, to the last bit.

    Parameters
    ----------
    module : torch.nn.Module
        The network; changed in place.
    name : str or list of str, default=None
        Which adapters; None is all.

    Returns
    -------
    module : torch.nn.Module
        The same network.

    See Also
    --------
    disabled_adapter : For a while only.
    merge_adapter : Keeps what was learnt.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import add_adapter, remove_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "svfit")
    >>> remove_adapter(network)
    Sequential(
      (0): Linear(in_features=6, out_features=4, bias=True)
    )
    """
    require_records(module, "remove_adapter")
    names = names_in(module) if name is None else checked_names(module, name, "remove_adapter")
    _take_off(module, names)
    if names_in(module):
        let_train(module)
    return module


def merge_adapter(module: nn.Module, name: Any = None) -> nn.Module:
    """Write what adapters have learnt into the weights; all layers are plain afterwards.

    Factorised layers become wider ones of the same make.

    Parameters
    ----------
    module : torch.nn.Module
        The network; changed in place. Other networks, also deep copies of this one, are not.
    name : str or list of str, default=None
        Which adapters; None is those that are active. All others are taken off.

    Returns
    -------
    module : torch.nn.Module
        The same network, without adapters.

    Raises
    ------
    ValueError
        An adapter is not finite; nothing is changed.

    See Also
    --------
    remove_adapter : Gives the network as it was.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import add_adapter, merge_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "lora", rank=2)
    >>> merge_adapter(network)
    Sequential(
      (0): Linear(in_features=6, out_features=4, bias=True)
    )
    """
    require_records(module, "merge_adapter")
    names = active_in(module) if name is None else checked_names(module, name, "merge_adapter")
    for layer, _, tensor, stack in adapted_weights(module):
        for one in names:
            adapter = stack._modules.get(one)
            if adapter is not None and not all(p.isfinite().all() for p in adapter.parameters()):
                raise ValueError(
                    f"the adapter {one!r} of {layer or tensor!r} is not finite: training diverged; "
                    "remove_adapter gives the network as it was"
                )
    with plain_tensors():
        switch(module, names)
        done: set[int] = set()
        for _, part, tensor, stack in list(adapted_weights(module)):
            # One layer after the other: in between the network says the same.
            merge(part, tensor, stack, done)
        for _, part, _ in records_in(module):
            drop_record(part)
    return module


def set_adapter(module: nn.Module, name: Any) -> None:
    """Choose which adapters are active; the others wait.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    name : str or list of str
        The active ones: one, several whose changes add up, or none.

    See Also
    --------
    disabled_adapter : All off for a while.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import add_adapter, set_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "lora", name="french")
    >>> _ = add_adapter(network, "svfit", name="german")
    >>> set_adapter(network, "french")
    """
    require_records(module, "set_adapter")
    names = checked_names(module, name, "set_adapter")
    trained: dict[str, str] = {}
    for *_, record in records_in(module):
        for one in names:
            for key in record.values.get(one, ()):
                if key in trained:
                    raise ValueError(f"{trained[key]!r} and {one!r} both train {key!r}")
                trained[key] = one
    switch(module, names)
    let_train(module)


@contextmanager
def disabled_adapter(module: nn.Module) -> Iterator[nn.Module]:
    """Let the network say what it said without adapters, inside a ``with`` block.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Yields
    ------
    module : torch.nn.Module
        The same network.

    See Also
    --------
    set_adapter : Until further notice.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import add_adapter, disabled_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "lora")
    >>> with disabled_adapter(network):
    ...     reference = network(torch.ones(1, 6))
    """
    require_records(module, "disabled_adapter")
    before = active_in(module)
    try:
        switch(module, [])
        yield module
    finally:
        switch(module, before)
