"""The network of ``LieGroupConvClassifier``: lifting, group convolutions, pooling, a head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import group_norm, relu

from sklr.nn._lie._layers import GroupConv2d, LiftingConv2d
from sklr.nn._lie._pooling import GlobalGroupPool, GroupPool2d

# Sides from which on the lifting takes every other place, and a block is followed by pooling.
_STRIDE_FROM = 16
_POOL_FROM = 8


class _LieNetwork(nn.Module):
    """Images (rows, or with channels and sides) to logits; `embed` makes invariant features."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        n_out: int,
        elements: Any,
        *,
        n_channels: int,
        kernel_size: int,
        n_blocks: int,
        pool: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        sides = image_shape[1:]
        stride = 2 if min(sides) >= _STRIDE_FROM else 1
        size = lifting_size(kernel_size, sides, stride)
        padding = (size - stride + 1) // 2
        self.lifting = LiftingConv2d(
            elements, image_shape[0], n_channels, size, stride=stride, padding=padding
        )
        left = min((side + 2 * padding - size) // stride + 1 for side in sides)
        blocks: list[Any] = []
        channels = n_channels
        for number in range(n_blocks):
            # The last block has no pooling of its own: the global one follows.
            if number and left >= _POOL_FROM:
                blocks.append(GroupPool2d())
                left = -(-left // 2)
            odd = min(kernel_size | 1, left | 1)
            blocks.append(GroupConv2d(elements, channels, 2 * channels, odd, padding=odd // 2))
            channels *= 2
        self.blocks = nn.ModuleList(blocks)
        self.pool = GlobalGroupPool(pool)
        self.scale = nn.BatchNorm1d(channels, affine=False)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, n_out))

    def embed(self, x: Tensor) -> Tensor:
        """Return invariant features, of mean 0 and variance 1 over the training samples."""
        x = _activated(self.lifting(x.reshape(-1, *self.image_shape)))
        for block in self.blocks:
            x = block(x) if isinstance(block, GroupPool2d) else _activated(block(x))
        return self.scale(self.pool(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))

    def set_elements(self, elements: Any) -> None:
        """Take other group elements in all layers; the weights stay."""
        self.lifting.set_elements(elements)
        for block in self.blocks:
            if isinstance(block, GroupConv2d):
                block.set_elements(elements)


def lifting_size(kernel_size: int, sides: tuple[int, int], stride: int) -> int:
    """Return the kernel's side: at most the image's, and symmetric on it with a stride of two."""
    size = min(kernel_size, *sides)
    if stride == 1:
        return size if size % 2 else max(1, size - 1)
    return size if (sides[0] - size) % 2 == 0 else size + 1


def _activated(x: Tensor) -> Tensor:
    # One norm over channels, elements and places: any that tells elements apart would break the
    # symmetry.
    shape = x.shape[1:3]
    return relu(group_norm(x.flatten(1, 2), 1)).unflatten(1, shape)
