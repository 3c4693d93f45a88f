"""Where a network is trained: the device, by name; and what of the caller's is kept from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from sklr._torch._autocast import in_autocast

if TYPE_CHECKING:
    import torch


def resolve_device(device: str) -> torch.device:
    """Return the torch device that `device` names.

    Parameters
    ----------
    device : str
        ``"auto"`` (a CUDA device if there is one, else the CPU) or a name of torch, such as
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Returns
    -------
    device : torch.device

    Raises
    ------
    ValueError
        There is no such device here.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise NotImplementedError("it has shapes and no numbers")
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as exc:
        raise ValueError(
            f"device={device!r} does not exist here, or computes nothing; use 'auto', 'cpu', or "
            "one that torch finds"
        ) from exc
    return found


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Go on with the caller's ``torch.autocast``, but without its copies of the weights.

    Those are kept until the caller's block ends: every step would see the first weights.
    """
    import torch

    if not in_autocast(device):
        return nullcontext()
    dtype = torch.get_autocast_dtype(device.type)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


# torch's default type belongs to the whole process: the last fit of several that run at once in
# threads puts it back.
_LOCK = threading.Lock()
_INSIDE = 0
_CALLERS: list[torch.dtype] = []


@contextmanager
def plain_defaults() -> Iterator[None]:
    """Undo ``torch.set_default_device`` and ``torch.set_default_dtype`` of the caller, inside.

    The one would put half of the tensors elsewhere; first weights are drawn in the other, so that
    one seed would mean several networks.
    """
    import torch

    global _INSIDE
    # Only where it was set: inside the block every call of torch goes through Python.
    elsewhere = torch.get_default_device().type != "cpu"
    with _LOCK:
        if _INSIDE == 0:
            _CALLERS[:] = [torch.get_default_dtype()]
            torch.set_default_dtype(torch.float32)
        _INSIDE += 1
    try:
        with torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if _INSIDE == 0:
                torch.set_default_dtype(_CALLERS.pop())
