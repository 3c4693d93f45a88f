"""Whether the caller's ``torch.autocast`` is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def in_autocast(device: torch.device) -> bool:
    """Return whether ``torch.autocast`` is on for a device; "meta", for one, does not know it."""
    import torch

    kind = device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
