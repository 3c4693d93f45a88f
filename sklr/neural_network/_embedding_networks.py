"""Default networks of supervised embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklr._torch._modules import mlp, output_shape, own_module

if TYPE_CHECKING:
    from torch import nn

# Channels of the layers for images.
_CHANNELS = (16, 32, 64)


def embedding_network(
    n_in: Any,
    n_components: int,
    hidden_layer_sizes: Sequence[int],
    module: Any,
    attention: bool | str,
) -> nn.Module:
    """Return the network from samples to embeddings.

    Raises
    ------
    ValueError
        Attention is wanted and the backbone makes no feature maps, or it makes neither a table nor
        feature maps.
    """
    from sklr.nn._attention import EmbeddingNetwork
    from sklr.nn._standardize import Standardize

    scale, backbone = None, None
    if module is not None:
        backbone = own_module(module, n_in)
    elif isinstance(n_in, int):
        scale, backbone = Standardize(n_in), mlp(n_in, hidden_layer_sizes)
    else:
        scale, backbone = Standardize(n_in[0]), image_backbone(n_in)
    shape = output_shape(backbone, n_in)
    if len(shape) not in (1, 3):
        raise ValueError(
            f"module makes features of shape {shape} for a sample; it must make a table of shape "
            "(n_samples, n_features), or maps of shape (n_samples, n_channels, height, width)"
        )
    if attention is True and len(shape) != 3:
        raise ValueError(
            f"attention=True needs feature maps of images, and the network makes {shape[0]} "
            "features without places: give X of shape (n_samples, n_channels, height, width), "
            "or set attention='auto'"
        )
    gated = len(shape) == 3 and attention is not False
    return EmbeddingNetwork(backbone, shape[0], n_components, scale=scale, attention=gated)


def image_backbone(shape: tuple[int, ...]) -> nn.Sequential:
    """Return three convolutions, the first ones followed by pooling while there is room."""
    from torch import nn

    width, *size = shape
    layers: list[Any] = []
    for number, wanted in enumerate(_CHANNELS):
        layers += [
            nn.Conv2d(width, wanted, 3, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
        ]
        if number < 2 and min(size) >= 8:
            layers.append(nn.MaxPool2d(2))
            size = [side // 2 for side in size]
        width = wanted
    return nn.Sequential(*layers)
