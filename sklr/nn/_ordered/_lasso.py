"""The penalty that makes ranks die from the end, and the cut that follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sklr._torch._untouched import plain_tensors
from sklr.nn._ordered._layers import _OrderedLayer, column_norms, ordered_layers


def hierarchical_group_lasso(module: nn.Module) -> Tensor:
    r"""Return the sum of the norms of all tails of the columns of ordered layers.

    .. math:: \sum_i \sum_{b=1}^{r_i} \big( \|D_i[b:, :]\|_F + \|U_i[:, b:]\|_F \big)

    with the factors :math:`D_i` and :math:`U_i` of layer i. A later column is in more tails, so
    that ranks die from the end.

    Parameters
    ----------
    module : torch.nn.Module
        A network with ordered layers.

    Returns
    -------
    penalty : Tensor of shape ()
        The penalty; its gradient is zero for columns that are zero.

    See Also
    --------
    shrink_ : Takes away the columns that came to nothing.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import OrderedLinear, hierarchical_group_lasso
    >>> layer = OrderedLinear(5, 4)
    >>> bool(hierarchical_group_lasso(layer) > 0)
    True
    """
    layers = ordered_layers(module)
    if not layers:
        raise ValueError(
            "hierarchical_group_lasso: the network has no ordered layer; decompose(module) puts "
            "some in"
        )
    return torch.stack([tail for layer in layers.values() for tail in _tail_sums(layer)]).sum()


def _factors_by_column(layer: _OrderedLayer) -> tuple[Tensor, Tensor]:
    down = layer.down.weight[: layer.rank].flatten(1)
    return down, layer.up.weight[:, : layer.rank].flatten(1).T


def tails(squares: Tensor) -> Tensor:
    """Return the norms of all tails, from the squared norms of columns."""
    # The smallest number keeps the gradient of the root finite, and 0 times it is 0.
    sums = squares.flip(0).cumsum(0).flip(0)
    return (sums + torch.finfo(sums.dtype).tiny).sqrt()


def _tail_sums(layer: _OrderedLayer) -> list[Tensor]:
    return [tails(factor.square().sum(dim=1)).sum() for factor in _factors_by_column(layer)]


def proximal_step_(module: nn.Module, step: float) -> None:
    """Apply the proximal operator of `step` times the penalty to every ordered layer.

    Tails are nested, so the operator is the shrinkage of each tail's norm by `step`, from the last
    tail to the first. Unlike a step along the gradient it makes columns exactly zero.
    """
    with plain_tensors():
        for layer in ordered_layers(module).values():
            down, up = column_norms(layer)
            for norms, weight, axis in ((down, layer.down.weight, 0), (up, layer.up.weight, 1)):
                factors = _tail_factors(norms.double().tolist(), step)
                shape = [1] * weight.ndim
                shape[axis] = -1
                weight.narrow(axis, 0, layer.rank).mul_(weight.new_tensor(factors).reshape(shape))


def _tail_factors(norms: list[float], step: float) -> list[float]:
    """Return what each column is multiplied by."""
    shrunk, tail = [], 0.0
    for norm in reversed(norms):
        whole = (tail**2 + norm**2) ** 0.5
        tail = max(0.0, whole - step)
        shrunk.append(tail / whole if whole else 0.0)
    # A column is in its own tail and in all that begin before it.
    factors, product = [], 1.0
    for one in reversed(shrunk):
        product *= one
        factors.append(product)
    return factors


def shrink_(module: nn.Module, threshold: float = 1e-5) -> dict[str, int]:
    """Take columns at the end of ordered layers away that came to nothing, in place.

    Parameters
    ----------
    module : torch.nn.Module
        A network with ordered layers.
    threshold : float, default=1e-5
        A column goes when the product of the norms of the tails that begin with it, in both
        factors, is below; 0 takes none away.

    Returns
    -------
    ranks : dict of str to int
        What is left, by layer. Ranks never grow; a layer of rank 0 returns its bias. The
        parameters keep their shapes, so that optimisers go on; columns that are gone are zero, and
        are read no more.

    See Also
    --------
    hierarchical_group_lasso : The penalty that brings them there.
    sklr.nn.compression.recompose : Makes a plain network without them.

    Examples
    --------
    >>> from sklr.nn import OrderedLinear, shrink_
    >>> layer = OrderedLinear(5, 4)
    >>> shrink_(layer), shrink_(layer, threshold=1e9)
    ({'': 4}, {'': 0})
    """
    if not 0 <= threshold < float("inf"):
        raise ValueError(f"threshold must be a finite number of at least 0, got {threshold!r}")
    ranks = {}
    with plain_tensors():
        for name, layer in ordered_layers(module).items():
            down, up = (tails(norms.double().square()) for norms in column_norms(layer))
            layer.rank = int((down * up >= threshold).sum())
            layer.down.weight[layer.rank :] = 0
            layer.up.weight[:, layer.rank :] = 0
            ranks[name] = layer.rank
    return ranks
