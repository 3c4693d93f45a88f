"""Linear and convolutional layers as two factors whose columns come in an order of importance."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sklr._torch._layers import choose_layers, find_layers
from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of, plain_tensors

# Kinds of layers, as find_layers names them, that have an ordered twin.
ORDERED_KINDS = ("Linear", "Conv2d")


class _OrderedLayer(nn.Module):
    """What ordered layers share: two factors, the rank that is left, the width that is drawn."""

    # Compressors leave it as it is.
    _is_factorised = True
    down: Any
    up: Any

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.down = down
        self.up = up
        self.rank = self.max_rank
        # Drawn by a RankSampler, for the forward passes inside its block.
        self._width: int | None = None

    # The rank is kept with the weights, as a tensor: files of weights are read without code.

    def get_extra_state(self) -> Tensor:
        """Return the rank, for ``state_dict``.

        Returns
        -------
        state : Tensor of shape (1,)
            The rank.
        """
        return torch.tensor([self.rank])

    def set_extra_state(self, state: Tensor) -> None:
        """Take the rank from a ``state_dict``.

        Parameters
        ----------
        state : Tensor of shape (1,)
            The rank.
        """
        rank = int(state.reshape(-1)[0])
        if not 0 <= rank <= self.max_rank:
            raise ValueError(f"rank must be between 0 and {self.max_rank}, got {rank}")
        self.rank = rank

    def forward(self, input: Tensor) -> Tensor:
        """Return the outputs, at the rank that is left or at the width that is drawn.

        Parameters
        ----------
        input : Tensor
            The inputs.

        Returns
        -------
        output : Tensor
            The outputs.
        """
        width = self.rank if self._width is None else min(self._width, self.rank)
        down, up = self.down.weight, self.up.weight
        columns = down.shape[0]
        if width == 0:
            # The bias in the right shape: one column of zeros.
            width, up = 1, 0 * up
        if width < columns:
            down, up = down[:width], up[:, :width]
        return self._apply_factors(input, down, up)

    def _apply_factors(self, input: Tensor, down: Tensor, up: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """Weight of the one layer that computes the same, at the rank that is left."""
        down, up = self.down.weight[: self.rank], self.up.weight[:, : self.rank].flatten(1)
        return torch.tensordot(up, down, dims=1)

    @property
    def bias(self) -> Tensor | None:
        """Bias of the outputs."""
        return self.up.bias

    @property
    def max_rank(self) -> int:
        """Number of columns that the layer was made with."""
        return int(self.down.weight.shape[0])

    @property
    def importances(self) -> Tensor:
        """Product of the norms of each column in both factors, of shape (rank,).

        For a linear map that is learnt with drawn widths these come to its singular values.
        """
        down, up = column_norms(self)
        return down * up

    def truncated(self, rank: int) -> Any:
        """Return a copy with the first columns only.

        Parameters
        ----------
        rank : int
            Columns to keep, between 0 and the rank that is left.

        Returns
        -------
        layer : OrderedLinear or OrderedConv2d
            The copy, with parameters of its own.
        """
        if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= self.rank:
            raise ValueError(f"rank must be an integer from 0 to {self.rank}, got {rank!r}")
        new = copy_of(self)
        held = max(1, rank)
        with plain_tensors():
            down, up = new.down.weight[:held].clone(), new.up.weight[:, :held].clone()
            if rank == 0:
                up.zero_()
            new.down.weight = nn.Parameter(down, requires_grad=down_trains(self))
            new.up.weight = nn.Parameter(up, requires_grad=self.up.weight.requires_grad)
        new._resize(held)
        new.rank = rank
        new._width = None
        return new

    def _resize(self, width: int) -> None:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return what is shown of the layer beside its factors.

        Returns
        -------
        text : str
            The rank.
        """
        return f"rank={self.rank}"


def down_trains(layer: _OrderedLayer) -> bool:
    """Return whether the first factor takes gradients."""
    return bool(layer.down.weight.requires_grad)


class OrderedLinear(_OrderedLayer):
    """Linear layer of two factors whose columns come in an order of importance.

    It computes what ``torch.nn.Linear`` does. Where a :class:`RankSampler` truncates it while it is
    trained, the first columns learn to do as much as they can alone, so that afterwards it can be
    cut to any smaller rank (:meth:`truncated`) without more training.

    Parameters
    ----------
    in_features : int
        Number of inputs.
    out_features : int
        Number of outputs.
    bias : bool, default=True
        Whether the outputs have a bias.
    device : torch.device or str, default=None
        Where the parameters are; None is torch's default.
    dtype : torch.dtype, default=None
        Their precision; None is torch's default.

    Attributes
    ----------
    down : torch.nn.Linear
        From the inputs to ``max_rank = min(in_features, out_features)`` columns, without bias.
    up : torch.nn.Linear
        From there to the outputs.
    rank : int
        How many columns are left; :func:`shrink_` makes it smaller. It is in the state dict.
    weight : Tensor of shape (out_features, in_features)
        Product of the factors, computed when it is read.
    bias : Parameter of shape (out_features,) or None
        The bias of `up`.

    See Also
    --------
    decompose : Puts such layers into a network.
    RankSampler : Draws the widths while it is trained.
    sklr.nn.compression.recompose : Makes a plain small network.

    Notes
    -----
    ``torch.compile`` makes a graph for each width, eight at most; the ninth runs without one.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import OrderedLinear
    >>> layer = OrderedLinear(10, 6)
    >>> layer.truncated(2)(torch.zeros(3, 10)).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        rank = min(in_features, out_features)
        super().__init__(
            nn.Linear(in_features, rank, bias=False, device=device, dtype=dtype),
            nn.Linear(rank, out_features, bias=bias, device=device, dtype=dtype),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of a ``torch.nn.Linear``, and take their factors."""
        if not self.up.weight.is_meta:
            made = {"device": self.up.weight.device, "dtype": self.up.weight.dtype}
            _fill(self, nn.Linear(self.in_features, self.out_features, **made))
        self.rank = self.max_rank

    @classmethod
    def from_dense(cls, layer: nn.Linear) -> OrderedLinear:
        """Return the ordered layer that computes what a linear layer does.

        Parameters
        ----------
        layer : torch.nn.Linear
            The layer; it is not changed.

        Returns
        -------
        ordered : OrderedLinear
            Factors by its singular value decomposition, in its precision and on its device.
        """
        _check_kind(layer, nn.Linear, "OrderedLinear")
        new = cls(
            layer.in_features, layer.out_features, layer.bias is not None,
            device="meta", dtype=layer.weight.dtype,
        )  # fmt: skip
        return _filled(new, layer)

    def _apply_factors(self, input: Tensor, down: Tensor, up: Tensor) -> Tensor:
        linear = nn.functional.linear
        return linear(linear(input, down), up, self.up.bias)

    def _resize(self, width: int) -> None:
        self.down.out_features = self.up.in_features = width

    # Code that reads a Linear's attributes (nn.TransformerEncoderLayer) finds them.

    @property
    def in_features(self) -> int:
        """Number of inputs."""
        return self.down.in_features

    @property
    def out_features(self) -> int:
        """Number of outputs."""
        return self.up.out_features


class OrderedConv2d(_OrderedLayer):
    """Convolution of two factors whose channels between come in an order of importance.

    First to few channels with the whole window, then to the outputs one pixel at a time. It is
    trained and cut as :class:`OrderedLinear` is.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    out_channels : int
        Channels of the output.
    kernel_size : int or tuple of int
        The window.
    stride : int or tuple of int, default=1
        Step of the window.
    padding : int, tuple of int or str, default=0
        What is added around the input, as in ``torch.nn.Conv2d``.
    dilation : int or tuple of int, default=1
        Distance of the window's entries.
    bias : bool, default=True
        Whether the outputs have a bias.
    padding_mode : str, default="zeros"
        What is added, as in ``torch.nn.Conv2d``.
    device : torch.device or str, default=None
        Where the parameters are; None is torch's default.
    dtype : torch.dtype, default=None
        Their precision; None is torch's default.

    Attributes
    ----------
    down : torch.nn.Conv2d
        From the input's channels to
        ``max_rank = min(out_channels, in_channels * window)``, without bias.
    up : torch.nn.Conv2d
        From there to the output's channels, with a window of one.
    rank : int
        How many channels between are left; :func:`shrink_` makes it smaller.
    weight : Tensor of shape (out_channels, in_channels, height, width)
        Kernel of the one convolution that computes the same.
    bias : Parameter of shape (out_channels,) or None
        The bias of `up`.

    See Also
    --------
    OrderedLinear : The same for linear layers.
    decompose : Puts such layers into a network.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import OrderedConv2d
    >>> layer = OrderedConv2d(3, 16, 3, padding=1)
    >>> layer.truncated(4)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        mode: Any = padding_mode
        height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        rank = min(out_channels, in_channels * height * width)
        super().__init__(
            nn.Conv2d(
                in_channels, rank, kernel_size, stride, padding, dilation,
                bias=False, padding_mode=mode, **made,
            ),
            nn.Conv2d(rank, out_channels, 1, bias=bias, **made),
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of a ``torch.nn.Conv2d``, and take their factors."""
        if not self.up.weight.is_meta:
            made = {"device": self.up.weight.device, "dtype": self.up.weight.dtype}
            size = self.down.in_channels, self.up.out_channels, self.down.kernel_size
            _fill(self, nn.Conv2d(*size, **made))
        self.rank = self.max_rank

    @classmethod
    def from_dense(cls, layer: nn.Conv2d) -> OrderedConv2d:
        """Return the ordered layer that computes what a convolution does.

        Parameters
        ----------
        layer : torch.nn.Conv2d
            The layer, not in groups; it is not changed.

        Returns
        -------
        ordered : OrderedConv2d
            Factors by its singular value decomposition, in its precision and on its device.
        """
        _check_kind(layer, nn.Conv2d, "OrderedConv2d")
        if layer.groups != 1:
            raise ValueError(f"OrderedConv2d takes no convolution in groups, got {layer.groups}")
        new = cls(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
            layer.padding, layer.dilation, layer.bias is not None, layer.padding_mode,
            device="meta", dtype=layer.weight.dtype,
        )  # fmt: skip
        return _filled(new, layer)

    def _apply_factors(self, input: Tensor, down: Tensor, up: Tensor) -> Tensor:
        hidden = self.down._conv_forward(input, down, None)
        return nn.functional.conv2d(hidden, up, self.up.bias)

    def _resize(self, width: int) -> None:
        self.down.out_channels = self.up.in_channels = width


def _check_kind(layer: Any, kind: Any, name: str) -> None:
    if not isinstance(layer, kind):
        raise TypeError(
            f"{name}.from_dense takes a torch.nn.{kind.__name__}, got {type(layer).__name__}"
        )


def column_norms(layer: _OrderedLayer) -> tuple[Tensor, Tensor]:
    """Return the norms of the columns that are left, in both factors."""
    down = layer.down.weight[: layer.rank].flatten(1)
    up = layer.up.weight[:, : layer.rank].flatten(1)
    return down.norm(dim=1), up.norm(dim=0)


def _factors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors of a matrix (outputs, inputs) that share its singular values."""
    wide = weight.detach().to("cpu", torch.float64).flatten(1)
    if not bool(torch.isfinite(wide).all()):
        raise ValueError("the weight of a layer has NaN or infinity")
    U, s, Vh = torch.linalg.svd(wide, full_matrices=False)
    root = s.sqrt()
    return root[:, None] * Vh, U * root


def _fill(new: _OrderedLayer, layer: Any) -> None:
    """Write the factors of a dense layer into an ordered one."""
    with plain_tensors():
        down, up = _factors(layer.weight)
        new.down.weight.copy_(down.reshape(new.down.weight.shape))
        new.up.weight.copy_(up.reshape(new.up.weight.shape))
        if layer.bias is not None and new.up.bias is not None:
            new.up.bias.copy_(layer.bias)


def _filled(new: Any, layer: Any) -> Any:
    """Give values to an ordered layer that was made on the device "meta"."""
    new = new.to_empty(device=layer.weight.device)
    _fill(new, layer)
    new.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None:
        new.up.bias.requires_grad_(layer.bias.requires_grad)
    return new.train(layer.training)


def ordered_layers(module: nn.Module) -> dict[str, _OrderedLayer]:
    """Return the ordered layers of a network, by their first names."""
    return {name: part for name, part in module.named_modules() if isinstance(part, _OrderedLayer)}


def layers_to_order(module: nn.Module, targets: Any) -> list[Any]:
    """Return the layers that `targets` names; None is every one that can be replaced."""
    return choose_layers(find_layers(module), "all" if targets is None else targets, ORDERED_KINDS)


def decompose(module: nn.Module, *, targets: Any = None) -> nn.Module:
    """Return a copy of a network in which layers are ordered ones; it computes the same.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is not changed.
    targets : None, str, list of str or callable, default=None
        Which layers: None is every linear layer and two-dimensional convolution that can be
        replaced. A list has names or their last parts; another string is one such name, or, after
        ``"re:"``, a regular expression. A callable gets each name and layer, as in the compressors.

    Returns
    -------
    ordered : torch.nn.Module
        A deep copy with :class:`OrderedLinear` and :class:`OrderedConv2d` in their places.

    Raises
    ------
    ValueError
        No layer is left, or a named one cannot be replaced: inside attention, tied to another,
        computed from other tensors, a convolution in groups.

    See Also
    --------
    RankSampler : Truncates the layers while they are trained.
    sklr.nn.compression.recompose : Makes a plain network of chosen ranks.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import decompose
    >>> network = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    >>> ordered = decompose(network)
    >>> x = torch.ones(2, 8)
    >>> bool(torch.allclose(ordered(x), network(x), atol=1e-5))
    True
    """
    check_module(module, "decompose")
    chosen = layers_to_order(module, targets)
    return decompose_(copy_of(module), chosen)


def decompose_(module: nn.Module, chosen: list[Any]) -> nn.Module:
    """Put ordered layers into a network, under all names of the old ones; return the network."""
    kinds = {"Linear": OrderedLinear, "Conv2d": OrderedConv2d}
    with torch.inference_mode(False):
        for layer in chosen:
            part: Any = module.get_submodule(layer.name)
            new = kinds[layer.kind].from_dense(part)  # type: ignore[attr-defined]
            for name, hooks in vars(part).items():
                if name.endswith("_hooks") and hooks and "state_dict" not in name:
                    setattr(new, name, copy.copy(hooks))
            for place in layer.names:
                if not place:
                    return new
                above, _, own = place.rpartition(".")
                setattr(module.get_submodule(above), own, new)
    return module
