"""Features to mean 0 and standard deviation 1, by numbers that are kept with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtract and divide by constants, which :meth:`set_from` takes from data once."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.zeros(n_features))  # 0: not set yet

    def forward(self, X: Tensor) -> Tensor:
        """Return standardised features."""
        return (X - self.mean) / self.scale

    @property
    def is_set(self) -> bool:
        """Whether it has seen data."""
        return bool((self.scale != 0).all())

    def set_from(self, X: Tensor, weights: Tensor | None = None) -> None:
        """Take means and standard deviations from weighted samples; what is constant stays."""
        wide = X.double()
        w = torch.ones(len(X), 1) if weights is None else weights.reshape(-1, 1)
        w = w.to(wide)
        mean = (w * wide).sum(dim=0) / w.sum()
        scale = ((w * (wide - mean).square()).sum(dim=0) / w.sum()).sqrt()
        # Rounding of equal numbers.
        rounding = 10 * torch.finfo(X.dtype).eps * wide.abs().amax(dim=0)
        scale = torch.where(scale > rounding, scale, torch.ones_like(scale))
        self.mean.copy_(mean)
        self.scale.copy_(scale)
