"""What may run between epochs: a checkpoint, a printed line."""

import importlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any


class Checkpoint:
    """Write the weights of a network to a file after each epoch, or each few epochs.

    The file is written beside its place and then moved there, so that it is always whole.

    Parameters
    ----------
    path_template : str or path
        Name of the file, with ``{epoch}`` or ``{pid}`` (the process) in it: the workers of a grid
        search would otherwise write over each other.
    every : int, default=1
        Epochs from one file to the next.

    See Also
    --------
    ProgressPrinter : Print a line after each epoch.

    Notes
    -----
    :meth:`load_weights` of a fitted estimator reads such a file.

    Examples
    --------
    >>> from sklr.neural_network import Checkpoint
    >>> Checkpoint("weights-{epoch:03d}.pt", every=10)
    Checkpoint('weights-{epoch:03d}.pt', every=10)
    """

    def __init__(self, path_template: Any, every: int = 1) -> None:
        template = os.fspath(path_template)
        if "{epoch" not in template and "{pid" not in template:
            raise ValueError(
                f"path_template must contain {{epoch}} or {{pid}}, got {template!r}; the "
                "processes of a grid search would write over each other's file"
            )
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.path_template = template
        self.every = every

    def __repr__(self) -> str:
        return f"Checkpoint({self.path_template!r}, every={self.every})"

    def on_epoch_end(self, estimator: Any, info: dict[str, Any]) -> None:
        """Write the file when the epoch's number says so.

        Parameters
        ----------
        estimator : estimator instance
            What is being fitted.
        info : dict
            Has the keys ``epoch`` and ``module``.
        """
        if info["epoch"] % self.every == 0:
            path = self.path_template.format(epoch=info["epoch"], pid=os.getpid())
            write_weights(info["module"], path)


class ProgressPrinter:
    """Print one line after each epoch, or each few epochs.

    Parameters
    ----------
    every : int, default=1
        Epochs from one line to the next.

    See Also
    --------
    Checkpoint : Write the weights to a file.

    Examples
    --------
    >>> from sklr.neural_network import ProgressPrinter
    >>> ProgressPrinter(every=10)
    ProgressPrinter(every=10)
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.every = every

    def __repr__(self) -> str:
        return f"ProgressPrinter(every={self.every})"

    def on_epoch_end(self, estimator: Any, info: dict[str, Any]) -> None:
        """Print the line when the epoch's number says so.

        Parameters
        ----------
        estimator : estimator instance
            What is being fitted.
        info : dict
            Has the keys ``epoch``, ``n_epochs``, ``loss``, ``validation_score`` and ``seconds``.
        """
        if info["epoch"] % self.every:
            return
        score = info["validation_score"]
        shown = "" if score is None else f", validation {score:.4f}"
        print(
            f"{type(estimator).__name__}: epoch {info['epoch']}/{info['n_epochs']}, "
            f"loss {info['loss']:.5f}{shown}, {info['seconds']:.2f} s",
            file=sys.stderr,
        )


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
