"""LoRA in the files of peft: written from adapters, and read."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sklr._torch._weights import read_weights, safetensors_or_none, write_tensors
from sklr.nn.adapters._base import _Adapter
from sklr.nn.adapters._file_parts import (
    one_name,
    put_in_whole,
    read_json,
    slots_with,
    trained_by,
)
from sklr.nn.adapters._record import moved_statistics, statistics_of
from sklr.nn.adapters._slots import Slot, find_slots, tied_with

_PREFIX = "base_model.model."
_KINDS = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d", "Embedding")
# What would make its change another one than B A.
_REFUSED = (
    *("use_dora", "lora_bias", "layer_replication", "trainable_token_indices", "use_qalora"),
    *("target_parameters", "alora_invocation_tokens", "use_bdlora", "arrow_config"),
    *("velora_config", "monteclora_config", "kasa_config"),
)


def export_peft(module: nn.Module, path: str | os.PathLike, name: str | None = None) -> None:
    """Write an adapter as a LoRA that peft loads: ``PeftModel.from_pretrained(network, path)``.

    :class:`LoRA`, :class:`BlockLoRA` and :class:`FLoRA` keep their rank; :class:`SVFit` and
    :class:`LoLDU` become a LoRA whose rank is the number of their trained values, which takes
    many more numbers. Layers that are trained as a whole go to ``modules_to_save``.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    path : str or path
        The folder; made where there is none.
    name : str, default=None
        Which adapter; None is the one that is active.

    Raises
    ------
    ValueError
        A layer is one that peft adapts otherwise, or not: attention as a whole, grouped, transposed
        or padded convolutions, tied weights, factorised layers.

    See Also
    --------
    load_adapter : Reads what peft has saved.

    Examples
    --------
    >>> import os, tempfile, torch
    >>> from sklr.nn.adapters import add_adapter, export_peft
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 4))
    >>> _ = add_adapter(network, "lora", rank=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_peft(network, folder)
    ...     "adapter_config.json" in os.listdir(folder)
    True
    """
    name = one_name(module, name, "export_peft")
    slots = find_slots(module)
    state: dict[str, torch.Tensor] = {}
    ranks, transposed = {}, set()
    dropouts = set()
    with torch.no_grad():
        for slot, adapter in slots_with(module, name):
            _check_exported(slot, slots)
            state |= _as_lora(slot, adapter)
            ranks[slot.name] = len(adapter.factors()[0])
            dropouts.add(adapter.dropout)
            if slot.layer.kind in ("Linear", "Conv1D"):
                transposed.add(slot.layer.kind == "Conv1D")
    if len(transposed) > 1:
        raise ValueError("peft takes linear layers or transformers' Conv1D, not both in one LoRA")
    whole = _whole_layers(module, trained_by(module, name))
    state |= {f"{_PREFIX}{key}": value for key, value in whole[1].items()}
    state |= {f"{_PREFIX}{key}": value for key, value in moved_statistics(module, name).items()}
    most = Counter(ranks.values()).most_common(1)[0][0]
    others = {f"^{re.escape(key)}": rank for key, rank in ranks.items() if rank != most}
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    # peft takes a file of torch where safetensors is not installed.
    file = "adapter_model.safetensors" if safetensors_or_none() else "adapter_model.bin"
    write_tensors(state, folder / file)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "task_type": None,
        "inference_mode": True,
        # Names in full: peft would take a list for endings.
        "target_modules": "|".join(re.escape(key) for key in ranks),
        "r": most,
        "lora_alpha": most,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": max(dropouts),
        "bias": "none",
        "fan_in_fan_out": True in transposed,
        "init_lora_weights": True,
        "modules_to_save": whole[0] or None,
    }
    text = json.dumps(config, indent=1) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def _check_exported(slot: Slot, slots: list[Slot]) -> None:
    part, why = slot.part, ""
    if slot.layer.kind not in _KINDS or slot.tensor != "weight":
        why = f"it is a {slot.layer.kind}"
    elif getattr(part, "groups", 1) != 1:
        why = "it is a convolution in groups"
    elif getattr(part, "padding_mode", "zeros") != "zeros":
        why = f"its padding is {part.padding_mode!r}"
    elif any(d != 1 for d in getattr(part, "dilation", ())):
        why = "it is a dilated convolution"
    elif len(tied_with(slot, slots)) > 1:
        why = "its weight is tied"
    elif not slot.name:
        why = "it is the network itself, which peft cannot replace"
    elif not slot.can_drop and slot.layer.kind == "Linear":
        why = "an attention reads its weight"
    if why:
        raise ValueError(f"peft's LoRA does not do what is done to {slot.name!r} here: {why}")


def _as_lora(slot: Slot, adapter: _Adapter) -> dict[str, torch.Tensor]:
    down, up = adapter.factors()
    key, kind = f"{_PREFIX}{slot.name}.lora_", slot.layer.kind
    if kind == "Embedding":
        if adapter.padding_idx is not None:
            down = down.clone()
            down[:, adapter.padding_idx] = 0
        return {f"{key}embedding_A": down, f"{key}embedding_B": up}
    if kind.startswith("Conv") and kind != "Conv1D":
        down = down.reshape(len(down), *adapter.shape[1:])
        up = up.reshape(*up.shape, *[1] * (len(adapter.shape) - 2))
    return {f"{key}A.weight": down, f"{key}B.weight": up}


def _whole_layers(
    module: nn.Module, trained: Mapping[str, torch.Tensor]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Return the layers that hold trained parameters, and all that is in them."""
    names = sorted({key.rpartition(".")[0] for key in trained})
    state: dict[str, torch.Tensor] = {}
    for name in names:
        also = [other for other, _ in module.named_modules() if other.endswith(name)]
        if not name or also != [name]:
            raise ValueError(
                f"peft would take {name!r} for the end of the names {also}, and train all of "
                "them: give the layer a name of its own"
            )
        part = module.get_submodule(name)
        state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    return names, state | {key: value for key, value in trained.items()}


# Reading.


def load_peft(module: nn.Module, folder: Path, name: str | None) -> list[str]:
    """Put a LoRA that peft saved into a network: all of it, or nothing.

    Raises
    ------
    ValueError
        It is no LoRA, has options that are not known here, or is of another network.
    """
    config = read_json(folder / "adapter_config.json")
    _check_options(config)
    file = next(
        (
            folder / f"adapter_model.{end}"
            for end in ("safetensors", "bin")
            if (folder / f"adapter_model.{end}").exists()
        ),
        None,
    )
    if file is None:
        raise FileNotFoundError(f"there is no adapter_model.safetensors or .bin in {folder.name!r}")
    most = 64 * sum(p.numel() for p in module.parameters()) + 2**20
    pairs, trained = _parted(read_weights(file, most_bytes=most))
    slots = {slot.name: slot for slot in find_slots(module) if slot.tensor == "weight"}
    layers: list[dict[str, Any]] = []
    state: dict[str, torch.Tensor] = {}
    for key, pair in pairs.items():
        slot = slots.get(key)
        if slot is None or slot.layer.reason:
            why = "it is not there" if slot is None else slot.layer.reason
            raise ValueError(f"the adapter is of another network: layer {key!r}: {why}")
        A, B = _checked_pair(key, slot, pair)
        B = B * _scaling(config, key, len(A))
        if len(A) > min(slot.layer.shape):  # more than there is: the product says the same
            m = len(B)
            A, B = (B @ A, torch.eye(m)) if m <= A.shape[1] else (torch.eye(A.shape[1]), B @ A)
        dropout = 0.0 if slot.layer.kind == "Embedding" else config.get("lora_dropout", 0.0)
        layers.append(
            {
                "name": key,
                "settings": {"rank": len(A), "alpha": None, "dropout": dropout},
                "bases": False,
            }
        )
        state |= {f"layers.{key}.A": A, f"layers.{key}.B": B}
    if len({layer["settings"]["dropout"] for layer in layers}) > 1:
        for layer in layers:
            layer["settings"]["dropout"] = 0.0
    moved = {key: trained.pop(key) for key in statistics_of(module) if key in trained}
    for key in trained:
        if key not in dict(module.named_parameters()):
            raise ValueError(f"the adapter trains {key!r}, which the network does not have")
    state |= {f"trained.{key}": value for key, value in trained.items()}
    state |= {f"statistics.{key}": value.double() for key, value in moved.items()}
    name = "default" if name is None else name
    return put_in_whole(module, "lora", name, layers, sorted(trained), state, sorted(moved))


def _check_options(config: Mapping[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise ValueError(f"only LoRA of peft is read, this is {config.get('peft_type')!r}")
    for key in _REFUSED:
        if config.get(key):
            raise ValueError(f"the LoRA of peft has {key}={config[key]!r}, which is not read here")
    if config.get("bias", "none") != "none":
        raise ValueError(f"the LoRA of peft has bias={config['bias']!r}, which is not read here")
    init = config.get("init_lora_weights", True)
    if init not in (True, False, "gaussian", "eva", "orthogonal"):
        raise ValueError(
            f"the LoRA of peft has init_lora_weights={init!r}, which changes the given weights: "
            "convert it in peft first (path_initial_model_for_weight_conversion)"
        )


def _parted(
    state: Mapping[str, torch.Tensor],
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return A and B by layer, and what else is in the file."""
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    rest = {}
    for key, value in state.items():
        if not key.startswith(_PREFIX):
            raise ValueError(f"{key!r} in the file is not of peft")
        own = key[len(_PREFIX) :]
        found = re.fullmatch(r"(.+)\.lora_(?:embedding_)?([AB])(?:\.weight)?", own)
        if found:
            pairs.setdefault(found[1], {})[found[2]] = value
        else:
            rest[own] = value
    if not pairs:
        raise ValueError("the file of peft has no LoRA")
    return pairs, rest


def _checked_pair(
    key: str, slot: Slot, pair: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    m, n = slot.layer.shape
    if pair.keys() != {"A", "B"}:
        raise ValueError(f"the file of peft has no A, or no B, of {key!r}")
    A, B = (pair[side].flatten(1).float() for side in "AB")
    if A.shape[1] != n or len(B) != m or B.shape[1] != len(A):
        raise ValueError(
            f"the adapter is of another network: A and B of {key!r} have shapes {tuple(A.shape)} "
            f"and {tuple(B.shape)}, the weight is {m} x {n}"
        )
    return A, B


def _scaling(config: Mapping[str, Any], key: str, r: int) -> float:
    alpha = config.get("lora_alpha", 8)
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise ValueError("alpha_pattern in the file of peft is no dictionary")
    for known, value in pattern.items():
        if re.match(rf"(.*\.)?({known})$", key):
            alpha = value
            break
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ValueError(f"lora_alpha in the file of peft is {alpha!r}")
    return alpha / (math.sqrt(r) if config.get("use_rslora") else r)
