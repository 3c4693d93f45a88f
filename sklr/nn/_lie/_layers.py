"""Convolutions on images and on functions of the plane and a group."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sklr.nn._lie._filters import (
    MASKS,
    check_elements,
    element_basis,
    mean_square,
    place_basis,
    places,
)


class _GroupLayer(nn.Module):
    """What both convolutions share: elements, bases as buffers, bias."""

    elements: Tensor
    by_place: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, padding: int, mask: str
    ) -> None:
        super().__init__()
        counts = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel_size,
        }
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if mask not in MASKS:
            raise ValueError(f"mask must be one of {MASKS}, got {mask!r}")
        self.in_channels = int(in_channels)
        self.out_channels = int(out_channels)
        self.kernel_size = int(kernel_size)
        self.padding = padding
        self.mask = mask

    def _keep(self, **arrays: np.ndarray) -> None:
        like = getattr(self, "elements", torch.empty(0))
        for name, value in arrays.items():
            self.register_buffer(name, torch.tensor(value, dtype=like.dtype, device=like.device))

    def _by_channel(self, out: Tensor, bias: Tensor | None) -> Tensor:
        """Return (n, channels * elements, ...) as (n, channels, elements, ...), with the bias."""
        out = out.unflatten(1, (self.out_channels, -1))
        return out if bias is None else out + bias[:, None, None, None]

    def extra_repr(self) -> str:
        """Return the sizes, for the printed module.

        Returns
        -------
        text : str
            The sizes.
        """
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"n_elements={len(self.elements)}"
        )


class LiftingConv2d(_GroupLayer):
    r"""Convolution of images with a kernel that is turned and stretched by each group element.

    Makes a function of places and elements of an image,

    .. math:: F(x, g) = \frac1{|\det H_g|} \sum_{x'} K\big(H_g^{-1} (x' - x)\big) f(x') ,

    so that a map of the image (a rotation, a shear, a scale) becomes the same map of places and a
    shift among the elements. The kernel is a learnt sum of Gaussian bumps on the unit disc, which
    is as wide as the kernel's pixels.

    Parameters
    ----------
    elements : array-like of shape (n_elements, 2, 2)
        Maps H of the plane, with positive determinant (:func:`sklr.geometry.sample_group`). They
        act on places (x, y) with y down.
    in_channels : int
        Channels of the images.
    out_channels : int
        Channels for each element.
    kernel_size : int, default=7
        Pixels along a side of the kernel.
    stride : int, default=1
        Pixels between places of the output.
    padding : int, default=0
        Zeros around the image.
    mask : {"smooth", "disc"}, default="smooth"
        How the kernel ends at the unit circle: falling to zero, where sums over pixels are close
        to integrals; or at once.
    bias : bool, default=True
        Whether each channel has a bias.

    See Also
    --------
    GroupConv2d : The layers after it.
    torch.nn.Conv2d : A convolution without a group.

    Notes
    -----
    The number of parameters does not depend on the number of elements. The kernel is made once a
    call, by one product with a basis that was computed when the layer was made.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> import torch
    >>> from sklr.geometry import sample_group
    >>> from sklr.nn import LiftingConv2d
    >>> layer = LiftingConv2d(sample_group("gl2", 8, random_state=0), 1, 4)
    >>> layer(torch.zeros(2, 1, 28, 28)).shape  # samples, channels, elements, height, width
    torch.Size([2, 4, 8, 22, 22])
    """

    def __init__(
        self,
        elements: Any,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 7,
        *,
        stride: int = 1,
        padding: int = 0,
        mask: str = "smooth",
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding, mask)
        self.stride = stride
        self.set_elements(elements)
        scale = (in_channels * mean_square(self.by_place)) ** -0.5
        shape = self.by_place.shape[-1], out_channels, in_channels
        self.weight = nn.Parameter(scale * torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def set_elements(self, elements: Any) -> None:
        """Take other group elements; the weights stay.

        Parameters
        ----------
        elements : array-like of shape (n_elements, 2, 2)
            Maps of the plane, as many as wanted.
        """
        elements = check_elements(elements)
        basis = place_basis(places(elements, self.kernel_size), self.mask)
        det = np.linalg.det(elements)
        self._keep(elements=elements, by_place=basis / det[:, None, None, None])

    def kernel(self) -> Tensor:
        """Return the kernel of the plain convolution that the layer is.

        Returns
        -------
        kernel : Tensor of shape (out_channels * n_elements, in_channels, kernel_size, kernel_size)
            The kernel; the elements of a channel stand beside each other.
        """
        return torch.einsum("nijb,boc->oncij", self.by_place, self.weight).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Lift images.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, height, width)
            The images.

        Returns
        -------
        lifted : Tensor of shape (n_samples, out_channels, n_elements, height, width)
            Functions of elements and places.
        """
        out = conv2d(x, self.kernel(), stride=self.stride, padding=self.padding)
        return self._by_channel(out, self.bias)


class GroupConv2d(_GroupLayer):
    r"""Convolution over places and group elements.

    Makes one function of places and elements of another,

    .. math:: F(x, g) = \frac1N \sum_{g'} \sum_{x'} K\big(H_g^{-1} (x' - x), H_g^{-1} H_{g'}\big)
        \frac{f(x', g')}{|\det H_{g'}|} ,

    whose kernel sees its arguments relative to the output element, the second one in the polar
    chart: harmonics of its angle, and the logarithm of its stretch in a window.

    Parameters
    ----------
    elements : array-like of shape (n_elements, 2, 2)
        Maps of the plane, with positive determinant, that the output is a function of.
    in_channels : int
        Channels of the input for each of its elements.
    out_channels : int
        Channels of the output for each element.
    kernel_size : int, default=7
        Pixels along a side of the kernel.
    in_elements : array-like of shape (n_in_elements, 2, 2), default=None
        Elements that the input is a function of; None are the same.
    separable : bool, default=True
        Whether the kernel is a product of one in places (for each output channel) and one in
        elements (for each pair of channels). It is as equivariant, and tens of times cheaper.
    padding : int, default=0
        Zeros around each function.
    mask : {"smooth", "disc"}, default="smooth"
        How the kernel ends at the unit circle, as in :class:`LiftingConv2d`.
    order : int, default=3
        Highest harmonic of the angle.
    bias : bool, default=True
        Whether each channel has a bias.

    See Also
    --------
    LiftingConv2d : The layer before it, from images.
    GlobalGroupPool : The layer at the end, to invariant features.
    torch.nn.Conv2d : A convolution without a group.

    Notes
    -----
    For N elements and k x k pixels a place costs :math:`N^2 C C' + N C' k^2` products where the
    kernel is separable, else :math:`N^2 C C' k^2`. The number of parameters does not depend on N.

    References
    ----------
    .. [1] M. Mironenco and P. Forré, "Lie group decompositions for equivariant neural networks",
       ICLR 2024, arXiv:2310.11366.

    Examples
    --------
    >>> import torch
    >>> from sklr.geometry import sample_group
    >>> from sklr.nn import GroupConv2d
    >>> layer = GroupConv2d(sample_group("gl2", 8, random_state=0), 4, 6, padding=3)
    >>> layer(torch.zeros(2, 4, 8, 22, 22)).shape
    torch.Size([2, 6, 8, 22, 22])
    """

    by_element: Tensor
    order: int
    separable: bool
    spatial: Tensor
    mixing: Tensor
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        elements: Any,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 7,
        *,
        in_elements: Any = None,
        separable: bool = True,
        padding: int = 0,
        mask: str = "smooth",
        order: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding, mask)
        if isinstance(order, bool) or not isinstance(order, Integral) or order < 0:
            raise ValueError(f"order must be a whole number of at least 0, got {order!r}")
        self.separable = bool(separable)
        self.order = int(order)
        self.set_elements(elements, in_elements)
        n_places, n_waves = self.by_place.shape[-1], self.by_element.shape[-1]
        # Outputs have about the variance of inputs.
        area = mean_square(self.by_place) ** -0.5
        mixing = (in_channels * mean_square(self.by_element)) ** -0.5
        both = out_channels, in_channels
        if separable:
            self.spatial = nn.Parameter(area * torch.randn(n_places, out_channels))
            self.mixing = nn.Parameter(mixing * torch.randn(n_waves, *both))
        else:
            self.weight = nn.Parameter(area * mixing * torch.randn(n_places, n_waves, *both))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def set_elements(self, elements: Any, in_elements: Any = None) -> None:
        """Take other group elements; the weights stay.

        Parameters
        ----------
        elements : array-like of shape (n_elements, 2, 2)
            Maps of the plane, as many as wanted, that the output is a function of.
        in_elements : array-like of shape (n_in_elements, 2, 2), default=None
            Those of the input; None are the same.
        """
        elements = check_elements(elements)
        inputs = elements if in_elements is None else check_elements(in_elements, "in_elements")
        # A weight for each input element: the invariant measure of the affine group.
        haar = 1 / (len(inputs) * np.linalg.det(inputs))
        self._keep(
            elements=elements,
            by_place=place_basis(places(elements, self.kernel_size), self.mask),
            by_element=element_basis(elements, inputs, self.order) * haar[:, None],
        )

    def kernel(self) -> Tensor:
        """Return the kernel of the plain convolution that the layer is.

        Returns
        -------
        kernel : Tensor of shape (out_channels * n_elements, in_channels * n_in_elements, \
kernel_size, kernel_size)
            The kernel; the elements of a channel stand beside each other.
        """
        if self.separable:
            mixing, spatial = self._factors()
            return mixing * spatial
        values = torch.einsum("nijb,nmd,bdoc->oncmij", self.by_place, self.by_element, self.weight)
        return values.flatten(2, 3).flatten(0, 1)

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Return kernels of one pixel for all channels, and of all pixels for one channel."""
        mixing = torch.einsum("nmd,doc->oncm", self.by_element, self.mixing)
        spatial = torch.einsum("nijb,bo->onij", self.by_place, self.spatial)
        return (
            mixing.flatten(2, 3).flatten(0, 1)[..., None, None],
            spatial.flatten(0, 1)[:, None],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve functions of elements and places.

        Parameters
        ----------
        x : Tensor of shape (n_samples, in_channels, n_in_elements, height, width)
            The functions.

        Returns
        -------
        out : Tensor of shape (n_samples, out_channels, n_elements, height, width)
            Functions.
        """
        x = x.flatten(1, 2)
        if not self.separable:
            return self._by_channel(conv2d(x, self.kernel(), padding=self.padding), self.bias)
        mixing, spatial = self._factors()
        # torch's kernels for one channel at a time are three times faster with channels last in
        # memory; said by axes, since vmap knows no memory formats.
        x = conv2d(x.movedim(1, -1).contiguous().movedim(-1, 1), mixing)
        out = conv2d(x, spatial, padding=self.padding, groups=len(spatial))
        return self._by_channel(out, self.bias)
