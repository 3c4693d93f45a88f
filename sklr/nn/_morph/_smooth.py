"""Hidden units in an order in which neighbours have similar weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklr._torch._module_first import check_module
from sklr._torch._untouched import plain_tensors
from sklr.nn._morph._groups import PermutationGroup, permutation_groups, permuted, weighted_layers

# Starts of nearest-neighbour paths; elementary steps of their improvement, at most.
_N_STARTS = 10
_MOST_STEPS = 2_000_000_000


def shortest_path(distances: np.ndarray) -> np.ndarray:
    """Return a short path through all points: nearest neighbours, 2-opt, Or-opt.

    Parameters
    ----------
    distances : ndarray of shape (n, n)
        Symmetric.

    Returns
    -------
    path : ndarray of shape (n,)
        It is not longer than the given order, nor than the nearest-neighbour paths it began with.
    """
    from sklr.nn._morph._path_kernels import nearest_path, shorten

    D = np.ascontiguousarray(distances, dtype=np.float64)
    n = len(D)
    if n < 3:
        return np.arange(n)
    tiny = 1e-12 * float(D.max())
    path = np.empty(n, np.int64)
    starts = np.unique(np.linspace(0, n - 1, _N_STARTS).round().astype(int))
    begun = sorted((nearest_path(D, start, path), *path.tolist()) for start in starts)
    # Small ones from every start; of large ones the best alone.
    best = np.arange(n)
    best_length = float(D[best[:-1], best[1:]].sum())
    for _, *order in begun[: max(1, min(len(begun), 1000 // n))]:
        found = np.array(order, dtype=np.int64)
        shorten(D, found, max(2, _MOST_STEPS // (8 * n * n)), tiny)
        length = float(D[found[:-1], found[1:]].sum())
        if length < best_length:
            best_length, best = length, found
    return best


def _features(group: PermutationGroup, tensors: dict[str, Tensor]) -> Tensor:
    """Return what each unit has in all tensors of its group, of shape (n_units, n_entries)."""
    found = []
    for name, axis, places in group.tensors:
        value = tensors[name].detach().movedim(axis, 0)
        found.append(value.reshape(group.n_units, places, -1).reshape(group.n_units, -1))
    return torch.cat([part.double() for part in found], dim=1)


def smooth_orders(module: nn.Module) -> list[np.ndarray]:
    """Return for each hidden layer the order of its units along a short path."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    orders = []
    with plain_tensors():
        for group in permutation_groups(module):
            features = _features(group, tensors).cpu()
            distances = torch.cdist(features, features, p=1).numpy()
            orders.append(shortest_path(np.nan_to_num(distances, posinf=0.0)))
    return orders


def importance_orders(module: nn.Module) -> list[np.ndarray]:
    """Return for each hidden layer its units by the L1 norm of the weights in, largest first."""
    norms = (
        layer.part.weight.detach().abs().double().flatten(1).sum(dim=1).cpu().numpy()
        for layer in weighted_layers(module)[:-1]
    )
    return [np.argsort(-norm, kind="stable") for norm in norms]


def smooth_permutation(module: nn.Module, *, return_orders: bool = False) -> Any:
    """Return a copy whose hidden units stand so that neighbours have similar weights.

    The network computes the same: all tensors that see a hidden layer are permuted alike. The order
    is a short path through the units, by the L1 distance of everything a unit has in the network.

    Parameters
    ----------
    module : torch.nn.Module
        A chain of layers, as :func:`permutation_groups` takes; it is not changed.
    return_orders : bool, default=False
        Whether to return the orders too.

    Returns
    -------
    smooth : torch.nn.Module
        The permuted copy.
    orders : list of ndarray of shape (n_units,)
        For each hidden layer the former numbers of its units; only with `return_orders`.

    Raises
    ------
    NotImplementedError
        The network is no such chain; the message names the layer.

    See Also
    --------
    total_variation : How much neighbours differ.
    WeightField : Makes networks of other widths out of neighbours.

    Notes
    -----
    Nearest-neighbour paths from ten starts, improved by 2-opt and Or-opt; no random numbers. The
    distances take O(n^2 m) for n units of m weights, a sweep O(n^2). Each hidden layer is ordered
    by itself, since an order of one does not change the distances in the next.

    References
    ----------
    .. [1] X. Yang and X. Wang, "Neural metamorphosis", ECCV 2024, arXiv:2410.11878.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import smooth_permutation, total_variation
    >>> network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    >>> smooth = smooth_permutation(network)
    >>> total_variation(smooth) < total_variation(network)
    True
    """
    check_module(module, "smooth_permutation")
    orders = smooth_orders(module)
    smooth = permuted(module, [torch.from_numpy(order) for order in orders])
    return (smooth, orders) if return_orders else smooth


def total_variation(module: nn.Module) -> float:
    """Return how much the weights of neighbouring hidden units differ, summed over the network.

    Parameters
    ----------
    module : torch.nn.Module
        A chain of layers, as :func:`permutation_groups` takes.

    Returns
    -------
    variation : float
        Sum of absolute differences along each axis of a tensor on which hidden units stand. Axes of
        the network's own inputs and outputs, whose order is fixed, do not count.

    See Also
    --------
    smooth_permutation : Makes it small.

    References
    ----------
    .. [1] X. Yang and X. Wang, "Neural metamorphosis", ECCV 2024, arXiv:2410.11878.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn import total_variation
    >>> network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = network[0].weight.copy_(torch.tensor([[1.0], [3.0]]))
    ...     _ = network[2].weight.copy_(torch.tensor([[0.5, 0.0]]))
    >>> total_variation(network)
    2.5
    """
    check_module(module, "total_variation")
    weighted_layers(module)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    total = 0.0
    with plain_tensors():
        for group in permutation_groups(module):
            features = _features(group, tensors)
            total += float((features[1:] - features[:-1]).abs().sum())
    return total
