"""A layer on fields: each patch is summed up in tokens, which go through trigonometric series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NeuralSpectralBlock(nn.Module):
    r"""Patches of a field through a few latent tokens and a learned trigonometric series.

    Each patch is summed up in tokens by attention, each token :math:`t` becomes
    :math:`t + \sum_k a_k \sin(\pi k t / N) + b_k \cos(\pi k t / N)`, with weights of each channel,
    and the cells of the patch read the tokens back by attention. The result is added to the input.

    Parameters
    ----------
    dim : {1, 2, 3}
        Spatial dimensions.
    channels : int
        Channels of input and output.
    patch_size : int or sequence of int, default=4
        Cells of a patch along each axis.
    n_basis : int, default=12
        Sines and cosines of the series, :math:`N`.
    n_tokens : int, default=4
        Tokens of a patch.
    n_heads : int, default=8
        Heads of the attention; they divide `channels`.

    Attributes
    ----------
    tokens : torch.nn.Parameter of shape (n_heads, n_tokens, channels // n_heads)
        What asks for the content of a patch, and is added to the answer.
    projection : torch.nn.Parameter of shape (3 * channels, channels)
        Makes keys, values and queries.
    bias : torch.nn.Parameter of shape (2 * channels,)
        Bias of values and queries; one of keys would change nothing.
    series : torch.nn.Parameter of shape (channels, 2 * n_basis)
        Weights of the sines, then of the cosines.

    Raises
    ------
    ValueError
        `dim` is not 1, 2 or 3, a number is below 1, or `n_heads` does not divide `channels`; in a
        forward pass, an axis is no multiple of the patch.

    See Also
    --------
    sklr.nn.LatentSpectralModel : The network of such blocks.
    torch.nn.MultiheadAttention : Attention whose cost is quadratic in the number of cells.

    Notes
    -----
    Costs O(cells * channels * (channels + n_tokens)): linear in the size of the grid. The softmax
    is not scaled, so a batch normalisation belongs before the block. Attention of all patches and
    heads is one product of tensors, and the query tokens are multiplied into the keys' weights
    before any cell is looked at.

    References
    ----------
    .. [1] H. Wu, T. Hu, H. Luo, J. Wang and M. Long, "Solving high-dimensional PDEs with latent
       spectral models", ICML 2023, arXiv:2301.12664.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import NeuralSpectralBlock
    >>> block = NeuralSpectralBlock(2, 16, patch_size=4)
    >>> block(torch.randn(3, 16, 8, 12)).shape
    torch.Size([3, 16, 8, 12])
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        patch_size: int | Sequence[int] = 4,
        n_basis: int = 12,
        n_tokens: int = 4,
        n_heads: int = 8,
    ) -> None:
        super().__init__()
        check_counts(
            dim=dim, channels=channels, n_basis=n_basis, n_tokens=n_tokens, n_heads=n_heads
        )
        if channels % n_heads:
            raise ValueError(
                f"n_heads must divide the channels, got n_heads={n_heads} and {channels} channels"
            )
        self.dim = dim
        self.channels = channels
        self.patch_size = sides(patch_size, dim)
        self.n_basis = n_basis
        self.n_tokens = n_tokens
        self.n_heads = n_heads
        self.tokens = nn.Parameter(torch.empty(n_heads, n_tokens, channels // n_heads))
        self.projection = nn.Parameter(torch.empty(3 * channels, channels))
        self.bias = nn.Parameter(torch.empty(2 * channels))
        self.series = nn.Parameter(torch.empty(channels, 2 * n_basis))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.channels)
        for weight in (self.projection, self.bias):
            nn.init.uniform_(weight, -bound, bound)
        for weight in (self.tokens, self.series):
            nn.init.uniform_(weight, 0, 1 / self.channels)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows.

        Returns
        -------
        text : str
            The settings.
        """
        return (
            f"dim={self.dim}, channels={self.channels}, patch_size={self.patch_size}, "
            f"n_basis={self.n_basis}, n_tokens={self.n_tokens}, n_heads={self.n_heads}"
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the field after the block.

        Parameters
        ----------
        input : Tensor of shape (n, channels, ...)
            Fields, with `dim` axes after the channels, each a multiple of the patch.

        Returns
        -------
        output : Tensor
            Of the same shape.
        """
        if input.ndim != self.dim + 2 or input.shape[1] != self.channels:
            raise ValueError(
                f"NeuralSpectralBlock takes fields of shape (n, {self.channels}, "
                f"{self.dim} axes), got {tuple(input.shape)}"
            )
        for side, size in zip(self.patch_size, input.shape[2:]):
            if size % side:
                raise ValueError(
                    f"axes of {tuple(input.shape[2:])} cells must be multiples of the patch, "
                    f"{self.patch_size}: pad the field"
                )
        scores, values, queries = self._projected(to_patches(input, self.patch_size))
        # (heads, tokens or channels of a head, cells of a patch, patches)
        attention = scores.softmax(dim=2)
        latent = (attention.unsqueeze(2) * values.unsqueeze(1)).sum(dim=3)
        latent = self._through_series(latent + self.tokens.unsqueeze(-1))
        scores = (queries.unsqueeze(1) * latent.unsqueeze(3)).sum(dim=2)
        read = (scores.softmax(dim=1).unsqueeze(2) * latent.unsqueeze(3)).sum(dim=1)
        return input + from_patches(read.flatten(0, 1), input.shape, self.patch_size)

    def _projected(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens' scores of each cell, the values and the queries."""
        heads, n_tokens, width = self.tokens.shape
        keys, rest = self.projection.split([self.channels, 2 * self.channels])
        # A bias of the keys is the same for all cells, which a softmax over cells does not see.
        asked = (self.tokens @ keys.view(heads, width, -1)).flatten(0, 1)
        scores = asked @ cells.flatten(1)
        others = torch.addmm(self.bias.unsqueeze(1), rest, cells.flatten(1))
        values, queries = others.split(self.channels)
        scores, values, queries = (
            part.view(heads, -1, *cells.shape[1:]) for part in (scores, values, queries)
        )
        return scores, values, queries

    def _through_series(self, latent: Tensor) -> Tensor:
        """Return tokens (heads, tokens, channels of a head, patches) after the series.

        By Clenshaw's recurrence, so that only one sine and one cosine of each number is needed.
        """
        heads, n_tokens, width = self.tokens.shape
        # Sines and cosines first; then each weight over tokens and patches.
        weights = self.series.view(heads, 1, width, 2, 1, self.n_basis).movedim(3, 0)
        angle = latent * (math.pi / self.n_basis)
        cosine = angle.cos()
        double = 2 * cosine
        after = last = torch.zeros_like(double).expand(2, *double.shape)
        for k in range(self.n_basis - 1, 0, -1):
            after, last = torch.addcmul(weights[..., k] - last, double, after), after
        waves = angle.sin() * after[0] + cosine * after[1] - last[1]
        return latent + waves + weights[1, ..., 0]


def to_patches(fields: Tensor, patch: Sequence[int]) -> Tensor:
    """Return fields (n, c, ...) as (c, cells of a patch, patches of all fields)."""
    dim = len(patch)
    split = [size for total, side in zip(fields.shape[2:], patch) for size in (total // side, side)]
    order = [1, *range(3, 3 + 2 * dim, 2), 0, *range(2, 2 + 2 * dim, 2)]
    apart = fields.reshape(*fields.shape[:2], *split).permute(order)
    return apart.reshape(fields.shape[1], math.prod(patch), -1)


def from_patches(patches: Tensor, shape: Sequence[int], patch: Sequence[int]) -> Tensor:
    """Return what ``to_patches`` has split, put together again to fields of a shape."""
    dim = len(patch)
    n, c, *grid = shape
    counts = [size // side for size, side in zip(grid, patch)]
    apart = patches.reshape(c, *patch, n, *counts)
    order = [1 + dim, 0, *(axis for i in range(dim) for axis in (2 + dim + i, 1 + i))]
    return apart.permute(order).reshape(*shape)


def sides(patch_size: int | Sequence[int], dim: int) -> tuple[int, ...]:
    """Return the sides of a patch along each axis."""
    given = [patch_size] * dim if isinstance(patch_size, int) else [*patch_size]
    if len(given) != dim or any(not isinstance(s, int) or s < 1 for s in given):
        raise ValueError(
            f"patch_size must be a number of cells, or one for each of {dim} axes, all at least "
            f"1, got {patch_size!r}"
        )
    return tuple(given)


def check_counts(dim: int, **counts: int) -> None:
    """Refuse a number of dimensions other than 1, 2 and 3, and counts below 1."""
    if dim not in (1, 2, 3):
        raise ValueError(f"dim must be 1, 2 or 3, got {dim!r}")
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {count!r}")
