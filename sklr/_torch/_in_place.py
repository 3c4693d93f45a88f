"""Kernels that write into the memory of a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_in_place(kernel: Callable[..., Any], target: Tensor, view: Tensor, *args: Any) -> Any:
    """Call a kernel that writes through NumPy, and let autograd know.

    Its counter of versions would stand still, and a backward pass through what was computed with
    the former values would be wrong without an error.

    Parameters
    ----------
    kernel : callable
        ``kernel(array, *args)`` changes `array` in place.
    target : torch.Tensor
        The tensor that is changed, on the CPU.
    view : torch.Tensor
        The view of `target` that the kernel gets, as an array that shares its memory.
    *args : object
        Further arguments of the kernel; tensors become arrays.

    Returns
    -------
    result : object
        What the kernel returns.
    """
    import torch

    arrays = [x.numpy() if isinstance(x, torch.Tensor) else x for x in args]
    result = kernel(view.detach().numpy(), *arrays)
    torch.autograd.graph.increment_version(target)
    return result
