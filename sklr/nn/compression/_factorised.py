"""Layers of two thin matrices in the place of one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


class LowRankLinear(nn.Module):
    """Linear layer of low rank: ``up(down(x))``, two thin linear layers.

    Parameters
    ----------
    in_features : int
        Number of inputs.
    out_features : int
        Number of outputs.
    rank : int
        Width between the two.
    bias : bool, default=True
        Whether the outputs have a bias.
    device : torch.device or str, default=None
        Where the parameters are; None is torch's default.
    dtype : torch.dtype, default=None
        Their precision; None is torch's default.

    Attributes
    ----------
    down : torch.nn.Linear
        From the inputs to `rank`, without bias.
    up : torch.nn.Linear
        From `rank` to the outputs.
    weight : Tensor of shape (out_features, in_features)
        The product of the two weights, computed when it is read.
    bias : Parameter of shape (out_features,) or None
        The bias of `up`.

    See Also
    --------
    WeightSVD : Puts such layers into a network.
    LowRankConv : The same for convolutions.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.compression import LowRankLinear
    >>> layer = LowRankLinear(100, 80, rank=5)
    >>> layer(torch.zeros(3, 100)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([3, 80]), 980)
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
        self.down = nn.Linear(in_features, rank, bias=False, device=device, dtype=dtype)
        self.up = nn.Linear(rank, out_features, bias=bias, device=device, dtype=dtype)

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
        return self.up(self.down(input))

    # Code that reads a Linear's attributes (the fast path of nn.TransformerEncoderLayer) finds
    # them here.

    @property
    def weight(self) -> torch.Tensor:
        """Product of the two weights."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of the outputs."""
        return self.up.bias

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
        """Width between the two layers."""
        return self.down.out_features

    def merge(self) -> nn.Linear:
        """Return one ordinary linear layer that computes the same.

        Returns
        -------
        layer : torch.nn.Linear
            With the product as its weight.
        """
        with torch.inference_mode(False), torch.no_grad():
            bias = None if self.bias is None else self.bias.clone()
            return filled(nn.Linear, self.weight, bias, self.in_features, self.out_features)


class LowRankConv(nn.Module):
    """Convolution of low rank: to few channels with the whole window, then one pixel at a time.

    Parameters
    ----------
    down : torch.nn.Conv1d, Conv2d or Conv3d
        From the input's channels to `rank`, with the window, stride and padding, without bias.
    up : torch.nn.Conv1d, Conv2d or Conv3d
        From `rank` to the output's channels, with a window of one.

    Attributes
    ----------
    down, up : torch.nn.Module
        The two convolutions.
    weight : Tensor of shape (out_channels, in_channels, ...)
        The kernel of the one convolution that computes the same.
    bias : Parameter of shape (out_channels,) or None
        The bias of `up`.

    See Also
    --------
    WeightSVD : Puts such layers into a network.
    LowRankLinear : The same for linear layers.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import LowRankConv
    >>> layer = LowRankConv(nn.Conv2d(8, 3, 5, padding=2, bias=False), nn.Conv2d(3, 16, 1))
    >>> layer(torch.zeros(2, 8, 9, 9)).shape, layer.weight.shape
    (torch.Size([2, 16, 9, 9]), torch.Size([16, 8, 5, 5]))
    """

    _is_factorised = True

    down: Any
    up: Any

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
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
        return self.up(self.down(input))

    @property
    def weight(self) -> torch.Tensor:
        """Kernel of the one convolution that computes the same."""
        return torch.tensordot(self.up.weight.flatten(1), self.down.weight, dims=1)

    @property
    def bias(self) -> torch.Tensor | None:
        """Bias of the outputs."""
        return self.up.bias

    @property
    def rank(self) -> int:
        """Channels between the two convolutions."""
        return self.down.out_channels


class LowRankEmbedding(nn.Module):
    """Embedding of low rank: a table of short rows, and a linear layer that makes them long.

    Parameters
    ----------
    num_embeddings : int
        Number of rows.
    embedding_dim : int
        Length of an output.
    rank : int
        Length of a row of the table.
    padding_idx : int, default=None
        The row that stands for padding; its output is a constant that training leaves alone.
    bias : bool, default=True
        Whether the outputs have a bias.
    sparse : bool, default=False
        Whether gradients of the table are sparse.
    device : torch.device or str, default=None
        Where the parameters are; None is torch's default.
    dtype : torch.dtype, default=None
        Their precision; None is torch's default.

    Attributes
    ----------
    down : torch.nn.Embedding
        The table of shape (num_embeddings, rank).
    up : torch.nn.Linear
        From `rank` to `embedding_dim`.
    padding_row : Tensor of shape (embedding_dim,)
        Buffer, with `padding_idx` only: the output of that row, zero at first.
    weight : Tensor of shape (num_embeddings, embedding_dim)
        The table of the one embedding that gives the same.

    See Also
    --------
    WeightSVD : Puts such layers into a network.
    LowRankLinear : The same for linear layers.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.compression import LowRankEmbedding
    >>> layer = LowRankEmbedding(1000, 16, rank=4)
    >>> layer(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 16])
    """

    _is_factorised = True
    padding_row: torch.Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rank: int,
        padding_idx: int | None = None,
        *,
        bias: bool = True,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.down = nn.Embedding(num_embeddings, rank, padding_idx, sparse=sparse, **made)
        self.up = nn.Linear(rank, embedding_dim, bias=bias, **made)
        if padding_idx is not None:
            self.register_buffer("padding_row", torch.zeros(embedding_dim, **made))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the rows of the wide table.

        Parameters
        ----------
        input : Tensor of integers
            The ids.

        Returns
        -------
        output : Tensor of shape (..., embedding_dim)
            A row for each id.
        """
        output = self.up(self.down(input))
        if self.padding_idx is None:
            return output
        is_padding = (input == self.padding_idx)[..., None]
        return torch.where(is_padding, self.padding_row.to(output.dtype), output)

    @property
    def weight(self) -> torch.Tensor:
        """Table of the one embedding that gives the same."""
        return self(torch.arange(self.num_embeddings, device=self.down.weight.device))

    @property
    def num_embeddings(self) -> int:
        """Number of rows."""
        return self.down.num_embeddings

    @property
    def embedding_dim(self) -> int:
        """Length of an output."""
        return self.up.out_features

    @property
    def padding_idx(self) -> int | None:
        """The row that stands for padding."""
        return self.down.padding_idx

    @property
    def rank(self) -> int:
        """Length of a row of the table."""
        return self.down.embedding_dim


def filled(kind: Any, weight: Any, bias: Any, *args: Any, **kwargs: Any) -> Any:
    """Return a layer with given values; nothing is drawn from torch's generator."""
    layer = kind(*args, bias=bias is not None, device="meta", **kwargs)
    layer.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        layer.bias = nn.Parameter(bias.contiguous())
    return layer


def factorised(part: Any, kind: str, down: Any, up: Any, bias: Any) -> nn.Module:
    """Return the layer of low rank that takes a layer's place.

    Parameters
    ----------
    part : torch.nn.Module
        The layer; dtype, device, settings and modes are taken from it.
    kind : str
        Its kind, as :func:`~sklr._torch._layers.find_layers` says.
    down : Tensor of shape (rank, inputs)
        The first matrix.
    up : Tensor of shape (outputs, rank)
        The second matrix.
    bias : Tensor of shape (outputs,) or None
        The bias.
    """
    old = part.weight

    def like(values: Any) -> Any:
        # A copy: two transformed networks share nothing.
        return values.detach().to(device=old.device, dtype=old.dtype, copy=True)

    rank, (m, n) = len(down), (len(up), down.shape[1])
    down, up, bias = like(down), like(up), None if bias is None else like(bias)
    new: Any
    if kind in ("Linear", "Conv1D"):
        new = LowRankLinear(n, m, rank, bias=bias is not None, device="meta", dtype=old.dtype)
        new.down = filled(nn.Linear, down, None, n, rank)
        new.up = filled(nn.Linear, up, bias, rank, m)
    elif kind == "Embedding":
        sparse = part.sparse
        new = LowRankEmbedding(
            n, m, rank, part.padding_idx, bias=bias is not None, sparse=sparse, device="meta"
        )
        new.down.weight = nn.Parameter(down.T.contiguous())
        new.up = filled(nn.Linear, up, bias, rank, m)
        if part.padding_idx is not None:
            new.padding_row = like(old[part.padding_idx])
            new.down.weight.data[part.padding_idx] = 0
    else:
        conv = getattr(nn, kind)
        axes = part.kernel_size
        new = LowRankConv(
            filled(
                *(conv, down.reshape(rank, part.in_channels, *axes), None),
                *(part.in_channels, rank, axes),
                stride=part.stride,
                padding=part.padding,
                dilation=part.dilation,
                padding_mode=part.padding_mode,
            ),
            filled(conv, up.reshape(m, rank, *[1] * len(axes)), bias, rank, m, 1),
        )
    new.requires_grad_(old.requires_grad)
    hand_over_hooks(part, new)
    return new.train(part.training)


def hand_over_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give a layer the hooks of the one whose place it takes, but those of the state dict."""
    for name, hooks in vars(old).items():
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
            if hooks and "state_dict" not in name:
                setattr(new, name, hooks)


def n_parameters(module: nn.Module) -> int:
    """Return how many numbers are parameters of a module; what is shared counts once."""
    return sum(math.prod(p.shape) for p in module.parameters())
