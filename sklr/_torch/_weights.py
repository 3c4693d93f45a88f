"""Weights of networks in files: written whole, read without running code."""

from __future__ import annotations

import importlib
import os
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_weights(module: nn.Module, path: str | Path) -> None:
    """Write a network's ``state_dict``, on the CPU; the file appears whole or not at all."""
    write_tensors(module.state_dict(), path)


def write_tensors(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Write tensors by name, on the CPU; the file appears whole or not at all."""
    import torch

    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # Not by tempfile, whose files are for their owner alone: others may read weights.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if path.suffix == ".safetensors":
            _safetensors().save_file(
                {name: value.clone() for name, value in state.items()}, temporary
            )
        else:
            torch.save(state, temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def safetensors_or_none() -> Any:
    """Return the module safetensors.torch, or None where it is not installed."""
    try:
        return _safetensors()
    except ImportError:
        return None


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "files that end in .safetensors need the package safetensors, which is not installed; "
            "without it, use another ending (.pt)"
        ) from exc


def read_weights(path: str | Path, *, most_bytes: int | None = None) -> dict[str, Tensor]:
    """Read tensors by name from a file, and nothing but tensors: no code in it is run.

    Parameters
    ----------
    path : str or path
        The file.
    most_bytes : int, default=None
        What it may unpack to; more is refused unread. None takes any size.

    Raises
    ------
    ValueError
        The file is too large, truncated, is no weights file, or holds more than tensors.
    """
    import torch

    path = Path(path)
    if most_bytes is not None and path.is_file() and _unpacked_size(path) > most_bytes:
        raise ValueError(
            f"{path.name} is refused: it unpacks to {_unpacked_size(path)} bytes, and the "
            f"network's weights take no more than {most_bytes}; they are of another network"
        )
    try:
        if path.suffix == ".safetensors":
            state = _safetensors().load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError, ImportError):
        raise
    except Exception as exc:  # pickle, zipfile, safetensors and torch each have their own
        raise ValueError(
            f"{path.name} is refused: it is truncated, or holds something else than weights "
            f"({type(exc).__name__})"
        ) from exc
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{path.name} is refused: it is not a dict of tensors by name")
    return state


def most_bytes(state: dict[str, Tensor]) -> int:
    """Return what a file of such weights may unpack to: twice their size in double precision."""
    # Beside the numbers a file has names, shapes and padding.
    return 16 * sum(value.numel() for value in state.values()) + 2**20


def checked_state(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a file in the types of a network's own.

    Raises
    ------
    ValueError
        A name is missing or not known, a shape is another, a value cannot be converted.
    """
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or surplus:
        raise ValueError(
            f"the weights are of another network: missing {_few(missing)}, not known "
            f"{_few(surplus)}"
        )
    return {name: _converted(name, value, own[name]) for name, value in state.items()}


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{names[:10]}{more}"


def _converted(name: str, value: Tensor, own: Tensor) -> Tensor:
    """Return a tensor of a file in the type of the network's own, checked after the conversion."""
    import torch

    if value.shape != own.shape:
        # A number was a tensor without axes before.
        if not (value.numel() == own.numel() == 1 and value.layout == torch.strided):
            raise ValueError(
                f"the weights are of another network: {name} has shape {tuple(value.shape)}, not "
                f"{tuple(own.shape)}"
            )
        value = value.reshape(own.shape)
    plain = value.layout == torch.strided and value.device.type == "cpu"
    if (
        not plain
        or value.is_quantized
        or value.is_complex()
        or value.is_floating_point() != own.is_floating_point()
    ):
        raise ValueError(
            f"{name} in the weights is of {value.dtype} ({value.layout}, on {value.device.type}) "
            f"and cannot become {own.dtype}"
        )
    converted = value.to(own.dtype)
    if not bool(converted.isfinite().all()):
        raise ValueError(
            f"{name} in the weights has entries that are not finite in {own.dtype}, which the "
            "network has"
        )
    return converted


def _unpacked_size(path: Path) -> int:
    """Return the size of what is in a file, which in a zip archive may be compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        return path.stat().st_size
