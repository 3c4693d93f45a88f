"""Where a network is trained: the device, by name."""

from typing import Any


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
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as exc:
        raise ValueError(
            f"device={device!r} does not exist here; use 'auto', 'cpu', or one that torch finds"
        ) from exc
    return found
