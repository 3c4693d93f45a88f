"""Pickles of estimators with a network inside, and files of its weights."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from sklr._torch._device import resolve_device
from sklr._torch._weights import read_weights, write_weights
from sklr.utils._base import BaseEstimator
from sklr.utils._imports import import_optional

if TYPE_CHECKING:
    from torch import Tensor, nn

# Beside the numbers a file has names, shapes and padding.
_SLACK = 2**20


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
        # In double precision, and twice that: what a file may unpack to.
        most = 16 * sum(value.numel() for value in own.values()) + _SLACK
        state = read_weights(path, most_bytes=most)
        missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or surplus:
            raise ValueError(
                f"the weights are of another network: missing {missing}, not known {surplus}"
            )
        state = {name: _converted(name, value, own[name]) for name, value in state.items()}
        self._check_weights(state)
        self.module_.load_state_dict(state)
        return self

    def _check_weights(self, state: dict[str, Tensor]) -> None:
        """Refuse weights of the right names, shapes and kinds that the network cannot have."""


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
