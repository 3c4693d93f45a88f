"""Weights of networks in files: written whole, read without running code."""

import importlib
import os
import uuid
from pathlib import Path
from typing import Any


def write_weights(module: Any, path: Any) -> None:
    """Write a network's ``state_dict``, on the CPU; the file appears whole or not at all."""
    import torch

    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
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


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "files that end in .safetensors need the package safetensors, which is not installed; "
            "without it, use another ending (.pt)"
        ) from exc


def read_weights(path: Any) -> dict[str, Any]:
    """Read tensors by name from a file, and nothing but tensors: no code in it is run.

    Raises
    ------
    ValueError
        The file is truncated, is no weights file, or holds more than tensors.
    """
    import torch

    path = Path(path)
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
