"""Pickles of estimators with a network inside, and files of its weights."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from sklr._torch._device import resolve_device
from sklr._torch._weights import checked_state, most_bytes, read_weights, write_weights
from sklr.utils._base import BaseEstimator
from sklr.utils._imports import import_optional

if TYPE_CHECKING:
    from torch import Tensor, nn


class StoredNetwork(BaseEstimator):
    """Pickles hold tensors of the CPU and load where a device is missing; weights go to files."""

    module_: nn.Module

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: _on_cpu(value) for name, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        device = state.get("device", "auto")
        if "module_" in state and device != "cpu":
            import_optional("torch", extra="torch", feature=type(self).__name__)
            try:
                self.module_.to(resolve_device(device))
            except ValueError:
                pass  # pickled on another machine: the CPU does it too

    def save_weights(self, path: str | Path) -> None:
        """Write the weights of the fitted network to a file.

        Parameters
        ----------
        path : str or path
            Where to; with the ending ``.safetensors`` in that format (needs the package
            safetensors), else in torch's own.
        """
        check_is_fitted(self)
        write_weights(self.module_, path)

    def load_weights(self, path: str | Path) -> Any:
        """Read weights for the fitted network from a file; no code in the file is run.

        Parameters
        ----------
        path : str or path
            A file of :meth:`save_weights`, of a ``Checkpoint``, or any ``state_dict`` of tensors.

        Returns
        -------
        self : object
            The estimator with these weights; unchanged when the file is refused.
        """
        check_is_fitted(self)
        own = self.module_.state_dict()
        state = checked_state(read_weights(path, most_bytes=most_bytes(own)), own)
        self._check_weights(state)
        self.module_.load_state_dict(state)
        return self

    def _check_weights(self, state: dict[str, Tensor]) -> None:
        """Refuse weights of the right names, shapes and kinds that the network cannot have."""


def _on_cpu(value: Any) -> Any:
    """Return a value with its tensors on the CPU; what is there already is not copied."""
    torch = sys.modules.get("torch")
    if torch is None:
        return value
    if isinstance(value, torch.nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
        if all(tensor.device.type == "cpu" for tensor in tensors):
            return value
        return copy.deepcopy(value).to("cpu")
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if type(value) in (list, tuple):
        return type(value)(_on_cpu(item) for item in value)
    if type(value) is dict:
        return {name: _on_cpu(item) for name, item in value.items()}
    return value
