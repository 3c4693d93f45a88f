"""Networks, codes and slopes of the latent quantisation filter."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sklr._torch._modules import mlp, output_width, own_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Channels of the convolutional networks.
_CHANNELS = (16, 32)


def soft_code(z: Tensor, threshold: float, softness: float) -> Tensor:
    """Return softsign(softness * (t^2 - z^2)): differentiable, in (-1, 1)."""
    v = softness * (threshold**2 - z**2)
    return v / (1 + v.abs())


def hard_code(z: Tensor, threshold: float) -> Tensor:
    """Return 1 where |z| <= t, else -1."""
    return 2 * (z.abs() <= threshold).to(z.dtype) - 1


def draw_code_input(
    mean: Tensor, log_variance: Tensor, threshold: float, generator: torch.Generator | None
) -> Tensor:
    """Return the latent means with noise of t/2 standard deviations."""
    import torch

    eps = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + threshold / 2 * (log_variance / 2).exp() * eps


def gradient_norms(mean: Tensor, x: Tensor, kind: str, generator: torch.Generator | None) -> Tensor:
    """Return the norm of each sample's gradient of a sum of the latent means.

    "sum" weighs them by 1, "random" by a random vector of unit length for each sample.
    """
    import torch

    weights = torch.ones_like(mean)
    if kind == "random":
        weights = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        weights = weights / weights.norm(dim=1, keepdim=True)
    (gradient,) = torch.autograd.grad(mean, x, weights, create_graph=torch.is_grad_enabled())
    # A norm has no gradient at zero.
    return (gradient.flatten(1).square().sum(dim=1) + 1e-12).sqrt()


def build_networks(
    n_in: Any, n_bits: int, hidden_layer_sizes: Sequence[int], module: Any, decoder: Any
) -> nn.ModuleDict:
    """Return the encoder's parts and both decoders."""
    from torch import nn

    size = n_in if isinstance(n_in, int) else math.prod(n_in)
    trunk: nn.Module
    drawer: nn.Module
    if module == "conv":
        shape = _image_shape(n_in)
        trunk, drawer = _conv_encoder(shape), _conv_decoder(shape, n_bits)
    elif module is not None:
        trunk = own_module(module, n_in)
        drawer = _perceptron(n_bits, [*hidden_layer_sizes][::-1], size)
    else:
        trunk = nn.Sequential(nn.Flatten(), *_perceptron(size, hidden_layer_sizes))
        drawer = _perceptron(n_bits, [*hidden_layer_sizes][::-1], size)
    width = output_width(trunk, n_in)
    parts: dict[str, nn.Module] = {
        "trunk": trunk,
        "mean": nn.Linear(width, n_bits),
        "log_variance": nn.Linear(width, n_bits),
    }
    if decoder is not None:
        drawer = own_module(decoder, n_bits)
    else:
        drawer = nn.Sequential(drawer, nn.Tanh())
    parts |= {"soft_decoder": drawer, "decoder": copy.deepcopy(drawer)}
    return nn.ModuleDict(parts)


def _perceptron(n_in: int, widths: Sequence[int], n_out: int | None = None) -> nn.Sequential:
    """Return a perceptron whose slope is twice differentiable almost everywhere."""
    from torch import nn

    layers = mlp(n_in, widths, n_out)
    return nn.Sequential(*[nn.LeakyReLU(0.2) if isinstance(a, nn.ReLU) else a for a in layers])


def _image_shape(n_in: Any) -> tuple[int, int, int]:
    if not isinstance(n_in, int):
        return n_in
    side = math.isqrt(n_in)
    if side * side != n_in:
        raise ValueError(
            f"module='conv' takes rows as square images, and {n_in} features are none (the next "
            f"squares are {side * side} and {(side + 1) ** 2}): give X of shape (n_samples, "
            "n_channels, height, width)"
        )
    return 1, side, side


def _conv_encoder(shape: tuple[int, int, int]) -> nn.Sequential:
    from torch import nn

    layers: list[Any] = [nn.Flatten(), nn.Unflatten(1, shape)]
    channels = shape[0]
    for wanted in _CHANNELS:
        layers += [nn.Conv2d(channels, wanted, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = wanted
    places = math.prod(_halved(_halved(side)) for side in shape[1:])
    layers += [nn.Flatten(), nn.Linear(channels * places, 256), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


def _conv_decoder(shape: tuple[int, int, int], n_bits: int) -> nn.Sequential:
    from torch import nn

    first, second = _CHANNELS
    half = [_halved(side) for side in shape[1:]]
    quarter = [_halved(side) for side in half]

    def up(n_in: int, n_out: int, small: Sequence[int], large: Sequence[int]) -> nn.Module:
        # Doubling gives one row too few where the larger side is even.
        rest = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
        return nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=rest)

    return nn.Sequential(
        nn.Linear(n_bits, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, second * math.prod(quarter)),
        nn.LeakyReLU(0.2),
        nn.Unflatten(1, (second, *quarter)),
        up(second, first, quarter, half),
        nn.LeakyReLU(0.2),
        up(first, shape[0], half, shape[1:]),
    )


def _halved(side: int) -> int:
    return (side + 1) // 2


def _encoder_layers(module: Any) -> list[Any]:
    from torch import nn

    return [layer for layer in [*module["trunk"], module["mean"]] if isinstance(layer, nn.Linear)]


def lipschitz_bound(module: Any) -> float:
    """Return the product of the spectral norms of the default encoder's layers."""
    import torch

    norms = [
        float(torch.linalg.matrix_norm(layer.weight.detach().double(), 2))
        for layer in _encoder_layers(module)
    ]
    return math.prod(norms)


def rein_in(module: Any, bound: float, memory: dict[str, Any], *, exact: bool = False) -> None:
    """Shrink layers of the encoder whose spectral norm is above its part of `bound`.

    The norm is that of a step of power iteration, which goes on where it was (it may be a little
    too low), or exact.
    """
    import torch

    layers = _encoder_layers(module)
    allowed = bound ** (1 / len(layers))
    with torch.no_grad():
        for number, layer in enumerate(layers):
            weight = layer.weight
            if exact:
                norm = torch.linalg.matrix_norm(weight.double(), 2)
            else:
                v = memory.get(f"direction {number}")
                if v is None:
                    v = weight.sum(dim=0)
                u = weight @ v
                v = weight.T @ (u / u.norm().clamp_min(1e-30))
                norm = v.norm()
                memory[f"direction {number}"] = v / norm.clamp_min(1e-30)
            # A hair below, so that float32 does not round it above.
            weight.mul_(float((allowed * (1 - 1e-6) / norm.clamp_min(1e-30)).clamp_max(1.0)))


def spread_means(module: Any, X: Tensor, least: float) -> None:
    """Scale the first latent means around their averages, so that each is `least` wide.

    Otherwise all samples begin, and may end, with one code where they differ by little.
    """
    import torch

    head = module["mean"]
    with torch.no_grad():
        found = head(module["trunk"](X.to(head.weight.device)))
        factor = (least / found.std(dim=0, correction=0).clamp_min(1e-6)).clamp_min(1.0)
        head.weight.mul_(factor[:, None])
        head.bias.copy_(factor * head.bias + (1 - factor) * found.mean(dim=0))


def part(module: Any, name: str) -> Any:
    """Return one of the networks."""
    return module[name]
