"""Images under random maps of a group: what `LieGroupConvClassifier` sees in training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sklr.geometry._polar import group_stretches
from sklr.nn._augment import RandomAffine2d


class GroupViews(RandomAffine2d):
    """Each image under a map of its own, drawn from the whole group, and shifted a little.

    Parameters
    ----------
    group, spread, max_angle :
        As in :func:`sklr.geometry.sample_group`, which draws a few maps of the same law.
    translate : float
        Largest shift along an axis, as a part of the image.
    """

    def __init__(self, group: str, spread: float, max_angle: float, translate: float) -> None:
        super().__init__(max_angle, (1.0, 1.0), 0.0, translate, (1.0, 1.0))
        self.group, self.spread = group, float(spread)
        # Stretches are linear in their three numbers.
        self._directions = torch.as_tensor(group_stretches(group, self.spread * np.eye(3)))

    def _maps(self, draw: Tensor, height: int, width: int) -> Tensor:
        # Normal numbers from uniform ones; those at the ends would be infinite.
        normal = 2**0.5 * torch.erfinv(draw[1:4].double().clamp(-1 + 1e-6, 1 - 1e-6))
        stretch = torch.einsum("kn,kij->nij", normal, self._directions.to(normal.device))
        angle = draw[0].double() * (self.degrees * torch.pi / 180)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
        # Places go from -1 to 1 along both axes, whatever the ratio of the sides.
        ratio = normal.new_tensor([[1.0, height / width], [width / height, 1.0]])
        H = torch.linalg.matrix_exp(stretch) @ turn * ratio
        shift = 2 * self.translate * draw[4:6].T
        return torch.cat([H.to(draw), shift[:, :, None]], dim=2)

    def extra_repr(self) -> str:
        """Return the parameters, for the printed module."""
        return f"{self.group!r}, spread={self.spread}, max_angle={self.degrees}"
