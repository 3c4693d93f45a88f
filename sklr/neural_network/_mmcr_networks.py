"""Default networks and views of MMCR, and the draw of views from groups of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def image_encoder(shape: tuple[int, ...], n_features: int) -> nn.Sequential:
    """Return three convolutions, each followed by pooling while there is room; then a linear map.

    Places are kept, not averaged: small images of things in the middle are what it is for.
    """
    from torch import nn

    width, *size = shape
    layers: list[Any] = []
    for wanted in (32, 64, 128):
        layers += [
            nn.Conv2d(width, wanted, 3, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
        ]
        if min(size) >= 4:
            layers.append(nn.MaxPool2d(2))
            size = [side // 2 for side in size]
        width = wanted
    # Large images are brought down to 4 x 4 places.
    layers.append(nn.AdaptiveAvgPool2d([min(side, 4) for side in size]))
    places = min(size[0], 4) * min(size[1], 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * places, n_features))


def projector_network(width: int, widths: Sequence[int]) -> nn.Sequential:
    """Return linear maps without bias, with batch normalisation and ReLU between them."""
    from torch import nn

    layers: list[Any] = []
    for wanted in widths[:-1]:
        layers += [nn.Linear(width, wanted, bias=False), nn.BatchNorm1d(wanted), nn.ReLU()]
        width = wanted
    return nn.Sequential(*layers, nn.Linear(width, widths[-1], bias=False))


def draw_members(groups: Tensor, n_views: int, generator: Any, memory: dict[str, Any]) -> Tensor:
    """Return the rows of `n_views` samples of each group, adjacent, repeated if too few."""
    import torch

    counts, starts = memory["counts"][groups], memory["starts"][groups]
    longest = int(counts.max())
    keys = torch.rand((len(groups), longest), generator=generator, device=generator.device).cpu()
    keys[torch.arange(longest) >= counts[:, None]] = 2.0  # behind all members
    order = keys.argsort(dim=1)
    picked = order.gather(1, torch.arange(n_views) % counts[:, None])
    return memory["members"][(starts[:, None] + picked).reshape(-1)]


def default_views(X: Tensor, noise: Any, fill: Any) -> list[nn.Module]:
    """Return the augmentations of tables, of images, or of anything else."""
    import torch

    from sklr.nn import FeatureDropout, GaussianNoise, RandomAffine2d

    added = GaussianNoise(torch.as_tensor(noise))
    if X.ndim == 2:
        return [added, FeatureDropout(fill=torch.as_tensor(fill))]
    return [RandomAffine2d(), added] if X.ndim == 4 else [added]
