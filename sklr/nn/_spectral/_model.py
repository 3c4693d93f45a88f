"""A U-shaped network on fields whose every scale goes through a neural spectral block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sklr.nn._spectral._block import NeuralSpectralBlock, check_counts, sides

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
# Units of the last hidden layer, at each cell.
_HEAD = 128


class LatentSpectralModel(nn.Module):
    """Fields on a grid to fields on the same grid: a U-Net with neural spectral blocks.

    Coordinates are added to the channels. An encoder halves the grid `n_levels` times, each scale
    goes through a :class:`~sklr.nn.NeuralSpectralBlock`, and a decoder joins the scales again. Any
    grid that holds a patch is taken: it is padded at the end of each axis to a multiple of
    ``patch_size * 2 ** n_levels``, and the result is cut off.

    Parameters
    ----------
    dim : {1, 2, 3}
        Spatial dimensions.
    in_channels : int, default=1
        Channels of the input.
    out_channels : int, default=1
        Channels of the output.
    width : int, default=16
        Channels of the finest scale; they double with each of the next, but for the coarsest.
    n_levels : int, default=2
        How often the grid is halved.
    patch_size : int or sequence of int, default=4
        Cells of a patch along each axis, at every scale.
    n_basis : int, default=12
        Sines and cosines of each series.
    n_tokens : int, default=4
        Tokens of a patch.
    n_heads : int, default=8
        Heads of the attention; they divide `width`.
    spectral : bool, default=True
        Whether there are spectral blocks; a plain U-Net otherwise.
    periodic : bool, default=False
        Whether each axis is a circle, whose first cell follows on its last one. Convolutions,
        interpolation and padding then go around, and coordinates are sines and cosines; otherwise
        there are zeros beyond the grid, and coordinates go from 0 to 1.

    Raises
    ------
    ValueError
        A number is below 1, or `n_heads` does not divide `width`; in a forward pass, the input has
        other channels or axes, or the grid is smaller than a patch.

    See Also
    --------
    sklr.neural_network.LatentSpectralRegressor : The estimator.
    sklr.nn.NeuralSpectralBlock : A block.

    Notes
    -----
    Costs O(cells * width * (width + n_tokens)). Without `periodic` the decoder interpolates between
    the corner points of its grids, so what a network has learnt on one grid holds on others
    approximately.

    References
    ----------
    .. [1] H. Wu, T. Hu, H. Luo, J. Wang and M. Long, "Solving high-dimensional PDEs with latent
       spectral models", ICML 2023, arXiv:2301.12664.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import LatentSpectralModel
    >>> model = LatentSpectralModel(2, in_channels=3, out_channels=1, width=8)
    >>> model(torch.randn(5, 3, 21, 30)).shape
    torch.Size([5, 1, 21, 30])
    """

    def __init__(
        self,
        dim: int,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        width: int = 16,
        n_levels: int = 2,
        patch_size: int | Sequence[int] = 4,
        n_basis: int = 12,
        n_tokens: int = 4,
        n_heads: int = 8,
        spectral: bool = True,
        periodic: bool = False,
    ) -> None:
        super().__init__()
        check_counts(
            dim=dim,
            in_channels=in_channels,
            out_channels=out_channels,
            width=width,
            n_levels=n_levels,
        )
        self.dim = dim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.n_levels = n_levels
        self.periodic = periodic
        self.patch_size = sides(patch_size, dim)
        widths = [width * 2**level for level in range(n_levels)]
        widths.append(widths[-1])
        conv = _CONVOLUTIONS[dim]
        self.lift = conv(in_channels + dim * (2 if periodic else 1), width, 1)
        self.first = _double_convolution(dim, width, width, width, periodic)
        self.down = nn.ModuleList(
            _double_convolution(dim, a, b, b, periodic) for a, b in pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            NeuralSpectralBlock(dim, w, self.patch_size, n_basis, n_tokens, n_heads)
            if spectral
            else nn.Identity()
            for w in widths
        )
        above = [width, *widths[:-2]]  # what each scale hands to the next finer one
        self.up = nn.ModuleList(
            _double_convolution(dim, 2 * skip, skip, out, periodic)
            for skip, out in zip(widths[:-1], above)
        )
        self.mix = conv(width, width, 1)
        self.head = nn.Sequential(conv(width, _HEAD, 1), nn.GELU(), conv(_HEAD, out_channels, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Return the output fields.

        Parameters
        ----------
        input : Tensor of shape (n, in_channels, ...)
            Fields, with `dim` axes after the channels.

        Returns
        -------
        output : Tensor of shape (n, out_channels, ...)
            Fields on the same grid.
        """
        if input.ndim != self.dim + 2 or input.shape[1] != self.in_channels:
            raise ValueError(
                f"LatentSpectralModel takes fields of shape (n, {self.in_channels}, "
                f"{self.dim} axes), got {tuple(input.shape)}"
            )
        grid = input.shape[2:]
        for side, size in zip(self.patch_size, grid):
            if size < side:
                raise ValueError(
                    f"a grid of {tuple(grid)} cells is smaller than a patch, {self.patch_size}"
                )
        coordinates = _angles(input) if self.periodic else _coordinates(input)
        x = self.first(self._padded(self.lift(torch.cat([input, coordinates], dim=1))))
        skips = [x]
        for level in self.down:
            x = level(_POOLS[self.dim](x, 2))
            skips.append(x)
        x = self.blocks[-1](skips[-1])
        for skip, block, level in list(zip(skips[:-1], self.blocks, self.up))[::-1]:
            x = level(torch.cat([block(skip), self._doubled(x)], dim=1))
        x = self.mix(x)
        for axis, size in enumerate(grid, start=2):
            x = x.narrow(axis, 0, size)
        return self.head(x)

    def _padded(self, x: Tensor) -> Tensor:
        """Return fields on a grid that can be halved and cut into patches."""
        amounts = []
        for size, side in zip(x.shape[2:], self.patch_size):
            step = side * 2**self.n_levels
            amounts.append(math.ceil(size / step) * step - size)
        if not self.periodic:
            # torch wants the last axis first
            return F.pad(x, [number for amount in amounts[::-1] for number in (0, amount)])
        for axis, amount in enumerate(amounts, start=2):
            if amount:  # torch's own goes around once only
                size = x.shape[axis]
                around = torch.arange(size + amount, device=x.device) % size
                x = x.index_select(axis, around)
        return x

    def _doubled(self, x: Tensor) -> Tensor:
        """Return fields on a grid of twice as many cells along each axis."""
        mode = _INTERPOLATION[self.dim]
        if not self.periodic:
            size = [2 * n for n in x.shape[2:]]
            return F.interpolate(x, size=size, mode=mode, align_corners=True)
        made = F.pad(x, [1, 1] * self.dim, mode="circular")
        made = F.interpolate(made, scale_factor=2.0, mode=mode, align_corners=False)
        for axis, cells in enumerate(x.shape[2:], start=2):
            made = made.narrow(axis, 2, 2 * cells)
        return made


def _double_convolution(
    dim: int, n_in: int, n_mid: int, n_out: int, periodic: bool
) -> nn.Sequential:
    around: Any = "circular" if periodic else "zeros"
    layers: list[nn.Module] = []
    for a, b in ((n_in, n_mid), (n_mid, n_out)):
        layers += [
            _CONVOLUTIONS[dim](a, b, 3, padding=1, bias=False, padding_mode=around),
            _NORMS[dim](b),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _coordinates(input: Tensor) -> Tensor:
    """Return the coordinates of each cell, between 0 and 1, as channels."""
    return _at_each_cell(
        [
            torch.linspace(0, 1, size, dtype=input.dtype, device=input.device)
            for size in input.shape[2:]
        ],
        input,
    )


def _angles(input: Tensor) -> Tensor:
    """Return sines and cosines of where each cell is on the circle of each axis, as channels."""
    turns = [
        torch.arange(size, dtype=input.dtype, device=input.device) * (2 * math.pi / size)
        for size in input.shape[2:]
    ]
    made = [_at_each_cell([wave(turn) for turn in turns], input) for wave in (torch.sin, torch.cos)]
    return torch.cat(made, dim=1)


def _at_each_cell(axes: Sequence[Tensor], like: Tensor) -> Tensor:
    made = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return made.expand(len(like), *made.shape)
