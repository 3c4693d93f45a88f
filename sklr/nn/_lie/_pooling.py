"""Pooling of functions of the plane and a group: over neighbouring places, and over everything."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d


class GroupPool2d(nn.Module):
    """Means of neighbouring places, for each element: half the size.

    Symmetric on sides of any length (blocks of 2 x 2 on even sides, overlapping ones of 3 x 3 on
    odd sides), so that quarter turns of the input are quarter turns of the output.

    See Also
    --------
    GlobalGroupPool : Over all places and elements.
    torch.nn.AvgPool2d : Drops the last row of odd sides.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GroupPool2d
    >>> GroupPool2d()(torch.zeros(2, 4, 8, 14, 7)).shape
    torch.Size([2, 4, 8, 7, 4])
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Halve the sides.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_channels, n_elements, height, width)
            Functions of elements and places.

        Returns
        -------
        out : Tensor of shape (n_samples, n_channels, n_elements, height / 2, width / 2)
            Functions; halves are rounded up.
        """
        sizes = [3 if side % 2 and side > 1 else min(side, 2) for side in x.shape[-2:]]
        padding = [size // 3 for size in sizes]
        out = avg_pool2d(x.flatten(1, 2), sizes, stride=2, padding=padding, count_include_pad=False)
        return out.unflatten(1, x.shape[1:3])


class GlobalGroupPool(nn.Module):
    """Largest or mean value over all places and elements: features that no map changes.

    Parameters
    ----------
    kind : {"max", "mean"}, default="max"
        What is taken.

    See Also
    --------
    GroupConv2d : Makes what it pools.
    torch.nn.AdaptiveMaxPool2d : Over places alone.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GlobalGroupPool
    >>> GlobalGroupPool()(torch.zeros(2, 4, 8, 7, 7)).shape
    torch.Size([2, 4])
    """

    def __init__(self, kind: str = "max") -> None:
        super().__init__()
        if kind not in ("max", "mean"):
            raise ValueError(f"kind must be 'max' or 'mean', got {kind!r}")
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        """Pool functions.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_channels, n_elements, height, width)
            Functions of elements and places.

        Returns
        -------
        features : Tensor of shape (n_samples, n_channels)
            One number a channel.
        """
        values = x.flatten(2)
        return values.amax(dim=2) if self.kind == "max" else values.mean(dim=2)

    def extra_repr(self) -> str:
        """Return the kind, for the printed module.

        Returns
        -------
        text : str
            The kind.
        """
        return repr(self.kind)
