"""Callbacks between epochs: a checkpoint, a printed line."""

import os
import sys
from typing import Any

from sklr._torch._weights import write_weights


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
        try:
            template.format(epoch=1, pid=1)
        except (KeyError, IndexError, ValueError) as exc:
            raise ValueError(
                f"path_template may have {{epoch}} and {{pid}} in braces only, got {template!r}"
            ) from exc
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
