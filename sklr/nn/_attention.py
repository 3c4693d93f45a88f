"""A network that makes embeddings, with an attention map where it sees images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DROPOUT = 0.01


class AttentionGate(nn.Module):
    """One number in (0, 1) for each place of a feature map, by three small convolutions."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        first, second = max(1, n_channels // 8), max(1, n_channels // 32)
        self.layers = nn.Sequential(
            nn.Conv2d(n_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return a map of shape (n_samples, 1, height, width)."""
        return self.layers(features)


class EmbeddingNetwork(nn.Module):
    """Features of a backbone, gated and averaged over places, and a linear map of them."""

    def __init__(
        self,
        backbone: nn.Module,
        n_features: int,
        n_components: int,
        *,
        scale: nn.Module | None = None,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.backbone = backbone
        self.attention = AttentionGate(n_features) if attention else None
        self.dropout = nn.Dropout(_DROPOUT)
        self.linear = nn.Linear(n_features, n_components)

    def feature_map(self, X: Tensor) -> Tensor:
        """Return what the backbone makes of samples."""
        if self.scale is not None:
            # Channels, the second axis of images, are scaled like the features of a table.
            X = self.scale(X.movedim(1, -1)).movedim(-1, 1)
        return self.backbone(X)

    def attention_of(self, X: Tensor) -> Tensor:
        """Return the attention map of images, as large as the feature map."""
        assert self.attention is not None
        return self.attention(self.feature_map(X))

    def features(self, X: Tensor) -> Tensor:
        """Return a table of features, which the linear map takes."""
        features = self.feature_map(X)
        if self.attention is not None:
            features = features * self.attention(features)
        return features.flatten(2).mean(dim=2) if features.ndim > 2 else features

    def forward(self, X: Tensor) -> Tensor:
        """Return the embedding, whose parts are not scaled yet."""
        return self.linear(self.dropout(self.features(X)))


def part_norms(z: Tensor, parts: list[Tensor]) -> Tensor:
    """Return rows whose part in each set of columns has the same length, the whole length one."""
    from sklr.nn._losses._unit import unit_rows

    if len(parts) == 1:
        return unit_rows(z)
    out = torch.empty_like(z)
    for columns in parts:
        out[:, columns] = unit_rows(z[:, columns])
    return out / len(parts) ** 0.5
