"""Layers of a compressed matrix and, beside it, a path of low rank that gives back what it lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sklr.nn.compression._factorised import LowRankConv, LowRankLinear, filled, hand_over_hooks


class CompensatedLinear(nn.Module):
    """Linear layer with a path of low rank beside it: ``base(x) + up(down(x))``.

    Parameters
    ----------
    in_features : int
        Number of inputs.
    out_features : int
        Number of outputs.
    rank : int
        Width of the path.
    bias : bool, default=True
        Whether the outputs have a bias.
    device : torch.device or str, default=None
        Where the parameters are; None is torch's default.
    dtype : torch.dtype, default=None
        Their precision; None is torch's default.

    Attributes
    ----------
    base : torch.nn.Linear
        The compressed layer, with the bias. Any Module that takes the same inputs may stand here,
        such as one that computes with packed integers.
    down : torch.nn.Linear
        From the inputs to `rank`, without bias.
    up : torch.nn.Linear
        From `rank` to the outputs, without bias; zero at first.
    weight : Tensor of shape (out_features, in_features)
        The sum of both, computed when it is read.
    bias : Parameter of shape (out_features,) or None
        The bias of `base`.

    See Also
    --------
    EigenspaceCompensation : Puts such layers into a network.
    LowRankLinear : The path without the base.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.compression import CompensatedLinear
    >>> layer = CompensatedLinear(100, 80, rank=5)
    >>> layer(torch.zeros(3, 100)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([3, 80]), 8980)
    """

    _is_factorised = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.base = nn.Linear(in_features, out_features, bias=bias, **made)
        self.down = nn.Linear(in_features, rank, bias=False, **made)
        self.up = nn.Linear(rank, out_features, bias=False, **made)
        nn.init.zeros_(self.up.weight)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the outputs.

        Parameters
        ----------
        input : Tensor of shape (..., in_features)
            The inputs.

        Returns
        -------
        output : Tensor of shape (..., out_features)
            The outputs.
        """
        return self.base(input) + self.up(self.down(input))

    # Code that reads a Linear's attributes (the fast path of nn.TransformerEncoderLayer) finds
    # them here.

    @property
    def weight(self) -> torch.Tensor:
        """Sum of the compressed weight and of the path's product."""
        return self.base.weight + self.up.weight @ self.down.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of the outputs."""
        return self.base.bias

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.down.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.up.out_features

    @property
    def rank(self) -> int:
        """Width of the path."""
        return self.down.out_features

    def merge(self) -> nn.Linear:
        """Return one ordinary linear layer that computes the same.

        Zeros of a pruned weight, and the few values of a quantised one, are gone then.

        Returns
        -------
        layer : torch.nn.Linear
            With the sum as its weight.
        """
        with torch.inference_mode(False), torch.no_grad():
            bias = None if self.bias is None else self.bias.clone()
            return filled(nn.Linear, self.weight, bias, self.in_features, self.out_features)


class CompensatedConv(nn.Module):
    """Convolution with a path of low rank beside it: ``base(x) + up(down(x))``.

    Parameters
    ----------
    base : torch.nn.Conv1d, Conv2d or Conv3d
        The compressed convolution, with the bias.
    down : torch.nn.Conv1d, Conv2d or Conv3d
        From the input's channels to the rank, with the window, stride and padding, without bias.
    up : torch.nn.Conv1d, Conv2d or Conv3d
        From the rank to the output's channels, with a window of one, without bias.

    Attributes
    ----------
    base, down, up : torch.nn.Module
        The three convolutions.
    weight : Tensor of shape (out_channels, in_channels, ...)
        The kernel of the one convolution that computes the same.
    bias : Parameter of shape (out_channels,) or None
        The bias of `base`.

    See Also
    --------
    EigenspaceCompensation : Puts such layers into a network.
    CompensatedLinear : The same for linear layers.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import CompensatedConv
    >>> path = nn.Conv2d(8, 3, 5, padding=2, bias=False), nn.Conv2d(3, 16, 1, bias=False)
    >>> layer = CompensatedConv(nn.Conv2d(8, 16, 5, padding=2), *path)
    >>> layer(torch.zeros(2, 8, 9, 9)).shape
    torch.Size([2, 16, 9, 9])
    """

    _is_factorised = True

    base: Any
    down: Any
    up: Any

    def __init__(self, base: nn.Module, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.down = down
        self.up = up

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the outputs.

        Parameters
        ----------
        input : Tensor of shape (n_samples, in_channels, ...)
            The inputs.

        Returns
        -------
        output : Tensor of shape (n_samples, out_channels, ...)
            The outputs.
        """
        return self.base(input) + self.up(self.down(input))

    @property
    def weight(self) -> torch.Tensor:
        """Kernel of the one convolution that computes the same."""
        path = torch.tensordot(self.up.weight.flatten(1), self.down.weight, dims=1)
        return self.base.weight + path

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of the outputs."""
        return self.base.bias

    @property
    def rank(self) -> int:
        """Channels of the path."""
        return self.down.out_channels


def compensated(part: Any, path: Any, base: torch.Tensor) -> nn.Module:
    """Return a layer of a compressed matrix and a path of low rank.

    Parameters
    ----------
    part : torch.nn.Module
        The layer whose place it takes.
    path : LowRankLinear or LowRankConv
        The path, in that layer's precision and on its device, with the bias of the outputs.
    base : Tensor of shape (outputs, inputs)
        The compressed matrix.
    """
    old, up = part.weight, path.up
    base = base.detach().to(device=old.device, dtype=old.dtype, copy=True)
    bias = up.bias
    up.bias = None
    new: Any
    if isinstance(path, LowRankLinear):
        m, n = base.shape
        new = CompensatedLinear(n, m, path.rank, bias is not None, device="meta")
        new.base = filled(nn.Linear, base, bias, n, m)
        new.down, new.up = path.down, up
    else:
        assert isinstance(path, LowRankConv)
        like = path.down
        convolution = filled(
            *(type(like), base.reshape(old.shape), bias),
            *(like.in_channels, len(base), like.kernel_size),
            stride=like.stride,
            padding=like.padding,
            dilation=like.dilation,
            padding_mode=like.padding_mode,
        )
        new = CompensatedConv(convolution, path.down, up)
    new.requires_grad_(old.requires_grad)
    hand_over_hooks(part, new)
    return new.train(part.training)
