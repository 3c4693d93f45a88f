"""What of an adapted network is trained: parameters, their rates, their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from sklr.nn.adapters._base import _Adapter
from sklr.nn.adapters._fixed_bases import SVFit
from sklr.nn.adapters._low_rank import LoRA
from sklr.nn.adapters._record import records_in, require_records
from sklr.nn.adapters._slots import adapted_weights


def adapter_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the active adapters, and what else they train.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    parameters : list of Parameter
        For an optimiser; :func:`adapter_param_groups` has the rates too.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import adapter_parameters, add_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "svfit")
    >>> [p.shape for p in adapter_parameters(network)]
    [torch.Size([4])]
    """
    return [p for *_, p in named_trained(module)]


def named_trained(module: nn.Module) -> Iterator[tuple[str, str, _Adapter | None, nn.Parameter]]:
    """Yield (key in the ``state_dict``, own name, adapter, parameter) of all that is trained."""
    require_records(module, "adapter_parameters")
    seen: set[int] = set()
    for layer, _, tensor, stack in adapted_weights(module):
        for name in stack.active:
            adapter: Any = stack._modules[name]
            for own, p in adapter.named_parameters():
                if id(p) not in seen:
                    seen.add(id(p))
                    yield f"{layer}.adapters.{tensor}.{name}.{own}".lstrip("."), own, adapter, p
    for prefix, part, record in records_in(module):
        parameters = dict(part.named_parameters())
        for name in record.active:
            for key in record.values[name]:
                yield f"{prefix}{key}", key, None, parameters[key]


def adapter_param_groups(
    module: nn.Module,
    lr: float,
    *,
    lora_plus_ratio: float = 1.0,
    lr_of_rest: float | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Return the groups of parameters for an optimiser, with their learning rates.

    B of a tied :class:`BlockLoRA` learns `n_blocks` times as fast. :class:`SVFit`, :class:`LoLDU`
    and :class:`FLoRA` have no weight decay, which would pull them to a zero weight, not to the
    given one.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    lr : float
        Learning rate.
    lora_plus_ratio : float, default=1.0
        How much faster B of LoRA learns than A; LoRA+ takes 16.
    lr_of_rest : float, default=None
        Learning rate of what else the adapter trains (a head); None is `lr`.
    weight_decay : float, default=0.0
        Weight decay of LoRA's matrices and of what else is trained.

    Returns
    -------
    groups : list of dict
        With "params", "lr" and "weight_decay".

    References
    ----------
    .. [1] S. Hayou, N. Ghosh and B. Yu, "LoRA+: efficient low rank adaptation of large models",
       ICML 2024, arXiv:2402.12354.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import adapter_param_groups, add_adapter
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "block_lora", rank=4, n_blocks=4)
    >>> optimizer = torch.optim.AdamW(adapter_param_groups(network, lr=1e-3))
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.001, 0.004]
    """
    given = {"lr": lr, "lora_plus_ratio": lora_plus_ratio, "lr_of_rest": lr_of_rest}
    for key, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"{key} must be positive, got {value!r}")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for _, own, adapter, p in named_trained(module):
        rate, decay = float(lr), float(weight_decay)
        if adapter is None:
            rate = rate if lr_of_rest is None else float(lr_of_rest)
        else:
            rate *= adapter.rates.get(own, 1.0)
            if isinstance(adapter, LoRA) and own == "B":
                rate *= lora_plus_ratio
            decay *= adapter.decays
        groups.setdefault((rate, decay), []).append(p)
    return [
        {"params": params, "lr": rate, "weight_decay": decay}
        for (rate, decay), params in groups.items()
    ]


def parameter_report(module: nn.Module) -> dict[str, Any]:
    """Return how many numbers are trained, and where.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    report : dict
        "trainable" and "total" count parameters; "layers" has a dict for each adapted weight and
        adapter: ``name``, ``weight``, ``adapter``, ``kind``, ``shape``, ``rank`` (the largest that
        the change can have), ``trainable``, ``active``, and for SVFit ``energy`` (share of the
        weight's squares that is trained) and ``shift`` (of each singular value).

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import add_adapter, parameter_report
    >>> network = torch.nn.Sequential(torch.nn.Linear(60, 40))
    >>> _ = add_adapter(network, "lora", rank=2)
    >>> report = parameter_report(network)
    >>> report["trainable"], report["total"]
    (200, 2640)
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"parameter_report takes a torch.nn.Module, got {type(module).__name__}")
    rows = []
    for layer, _, tensor, stack in adapted_weights(module):
        for name, adapter in stack._modules.items():
            assert isinstance(adapter, _Adapter)
            row = {
                "name": layer,
                "weight": tensor,
                "adapter": name,
                "kind": adapter.kind,
                "shape": adapter.shape,
                "rank": adapter.effective_rank(),
                "trainable": sum(p.numel() for p in adapter.parameters()),
                "active": name in stack.active,
            }
            if isinstance(adapter, SVFit):
                row |= {"energy": adapter.energy_kept, "shift": adapter.shift().tolist()}
            rows.append(row)
    return {
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "total": sum(p.numel() for p in module.parameters()),
        "layers": rows,
    }
