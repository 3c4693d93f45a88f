"""Where a network is trained: the device, by name; and what of the caller's is kept from it."""

from contextlib import nullcontext
from typing import Any

from sklr._torch._autocast import in_autocast


def resolve_device(device: str) -> Any:
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


def mixed_precision(device: Any) -> Any:
    """Go on with the caller's ``torch.autocast``, but without its copies of the weights.

    Those are kept until the caller's block ends: every step would see the first weights.
    """
    import torch

    if not in_autocast(device):
        return nullcontext()
    dtype = torch.get_autocast_dtype(device.type)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def made_on_the_cpu() -> Any:
    """Undo ``torch.set_default_device``, which would put half of the tensors elsewhere."""
    import torch

    # Only where it was set: inside the block every call of torch goes through Python.
    elsewhere = torch.get_default_device().type != "cpu"
    return torch.device("cpu") if elsewhere else nullcontext()
