"""Run data through a network and keep exact sums of what its layers see."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr._torch._batches import batch_bounds
from sklr._torch._device import mixed_precision
from sklr._torch._layers import wide
from sklr._torch._untouched import plain_tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

# What the forward of a network raises when it cannot take its input.
_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)


class Distinct:
    """How many rows differ by more than rounding, counted as far as it matters."""

    def __init__(self) -> None:
        self.n_rows = 0
        self._values: Any = None
        self._full = False

    def add(self, rows: "torch.Tensor") -> None:
        """Add rows of shape (n_rows, n_features)."""
        import torch

        self.n_rows += len(rows)
        # More than there are features say no more of how rows vary.
        if self._full or not len(rows):
            return
        # Rows that passed a network in batches differ by rounding, of 16 bits by whole steps.
        eps = 32 * torch.finfo(rows.dtype).eps if rows.dtype.itemsize > 2 else 0.0
        rows = wide(rows)
        # One number a row, which two rows have in common only if they are equal, or by chance.
        places = torch.arange(rows.shape[1], dtype=torch.float64, device=rows.device)
        values = rows @ torch.cos(places * places + 1.0)
        if self._values is not None:
            values = torch.cat([self._values, values])
        values = values.sort().values
        gap = eps * float(rows.norm(dim=1).max())
        new = torch.ones_like(values, dtype=torch.bool)
        new[1:] = values.diff() > gap
        self._values = values[new]
        self._full = len(self._values) > rows.shape[1]

    @property
    def n_distinct(self) -> int:
        """Number of rows that differ; one more than there are features stands for all above."""
        return 0 if self._values is None else len(self._values)


class Moments:
    """Number, mean and products of rows, summed in float64 around a pivot.

    The pivot is the mean of the first rows: without it, rows whose mean is far larger than their
    spread would lose their covariance to rounding. Sums are exact up to rounding, so that neither
    the order nor the size of batches matters.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._distinct = Distinct()
        self._pivot: Any = None
        self._sum: Any = None
        self._products: Any = None

    def add(self, rows: "torch.Tensor") -> None:
        """Add rows of shape (n_rows, n_features)."""
        self._distinct.add(rows)
        rows = wide(rows)
        if not len(rows):
            return
        if self._pivot is None:
            self._pivot = rows.mean(dim=0)
        centred = rows - self._pivot
        total, products = centred.sum(dim=0), centred.T @ centred
        self.n_rows += len(rows)
        self._sum = total if self._sum is None else self._sum + total
        self._products = products if self._products is None else self._products + products

    @property
    def n_distinct(self) -> int:
        """Number of rows that differ, see :class:`Distinct`."""
        return self._distinct.n_distinct

    @property
    def mean(self) -> "torch.Tensor":
        """Mean of the rows."""
        return self._pivot + self._sum / self.n_rows

    def covariance(self) -> "torch.Tensor":
        """Return the covariance, divided by the number of rows."""
        shift = self._sum / self.n_rows
        found = self._products / self.n_rows - shift[:, None] * shift
        return (found + found.T) / 2

    def second_moment(self) -> "torch.Tensor":
        """Return the mean of the products, not centred."""
        mean = self.mean
        return self.covariance() + mean[:, None] * mean


class Counts:
    """How often each row of an embedding is looked up."""

    def __init__(self, n_categories: int) -> None:
        self.n_rows = 0
        self._counts: Any = 0
        self._n = n_categories

    def add(self, ids: "torch.Tensor") -> None:
        """Add looked-up ids."""
        import torch

        self.n_rows += ids.numel()
        self._counts = self._counts + torch.bincount(ids.reshape(-1), minlength=self._n)

    @property
    def n_distinct(self) -> int:
        """Number of rows of the embedding that are looked up."""
        return int((self._counts > 0).sum()) if self.n_rows else 0

    @property
    def shares(self) -> "torch.Tensor":
        """Share of each row, in float64."""
        return wide(self._counts) / self.n_rows


Batch = tuple[tuple, dict, Any]


def n_positional(module: "nn.Module") -> float:
    """Return how many positional arguments a network's forward takes."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return float("inf")
    return sum(kind in (kinds[0].POSITIONAL_ONLY, kinds[0].POSITIONAL_OR_KEYWORD) for kind in kinds)


def batches_of(module: "nn.Module", X: Any, y: Any, batch_size: int) -> Iterator[Batch]:
    """Yield (positional arguments, named arguments, targets) of each call of a network.

    Parameters
    ----------
    module : torch.nn.Module
        The network; arrays of floats take its precision, and all go to its device.
    X : array-like, tensor, tuple, dict, list of batches or iterable of batches
        An array or a tensor holds samples along its first axis, a tuple or a dict several such
        arrays, for one argument of the network each. A list, a DataLoader or another iterable has
        batches: each a tensor, a tuple or list of arguments, or a dict of named ones. A batch of
        one more tensor than the network takes has its targets last.
    y : array-like or None
        Targets, where `X` is not an iterable that brings them.
    batch_size : int
        Samples of a call, where `X` is not in batches.
    """
    device, dtype = _device_and_dtype(module)

    def put(value: Any) -> Any:
        return _tensor(value, device, dtype)

    if isinstance(X, (tuple, Mapping)) or not _is_batches(X):
        named = isinstance(X, Mapping)
        keys = list(X) if named else None
        values = list(X.values()) if named else list(X) if isinstance(X, tuple) else [X]
        tensors = [put(value) for value in values]
        lengths = {len(value) for value in tensors if _is_sized(value)}
        if len(lengths) != 1:
            raise ValueError(
                f"the arrays of X must have as many samples each, got lengths {sorted(lengths)}"
            )
        n = lengths.pop()
        if n == 0:
            raise ValueError("X has no samples; hand over some inputs of the network")
        target = None if y is None else put(y)
        if target is not None and len(target) != n:
            raise ValueError(f"X has {n} samples and y has {len(target)}")
        bounds = batch_bounds(n, batch_size)
        for first, last in zip(bounds, bounds[1:]):
            some = [value[first:last] if _is_sized(value) else value for value in tensors]
            some_y = None if target is None else target[first:last]
            if keys is not None:
                yield (), dict(zip(keys, some)), some_y
            else:
                yield tuple(some), {}, some_y
        return
    if y is not None:
        raise ValueError(
            "y goes with an X of arrays; batches bring their targets, as the last of each batch"
        )
    most = n_positional(module)
    empty = True
    for batch in X:
        empty = False
        if isinstance(batch, Mapping):
            yield (), {key: put(value) for key, value in batch.items()}, None
        elif isinstance(batch, (tuple, list)):
            parts = [put(value) for value in batch]
            extra = parts.pop() if len(parts) == most + 1 else None
            yield tuple(parts), {}, extra
        else:
            yield (put(batch),), {}, None
    if empty:
        raise ValueError("X has no batches; hand over some inputs of the network")


def _is_batches(X: Any) -> bool:
    """Return whether X is an iterable of batches, not an array."""
    import torch

    if isinstance(X, list):
        return bool(X) and (
            isinstance(X[0], (torch.Tensor, tuple, Mapping))
            or (hasattr(X[0], "__array__") and np.ndim(X[0]) > 1)
            or (isinstance(X[0], list) and bool(X[0]) and hasattr(X[0][0], "__array__"))
        )
    if isinstance(X, torch.Tensor) or hasattr(type(X), "__array__"):
        return False
    if isinstance(X, torch.utils.data.Dataset) and not hasattr(X, "__iter__"):
        raise TypeError(
            f"X is a {type(X).__name__}, whose items are samples; hand over "
            "torch.utils.data.DataLoader(X, batch_size=...)"
        )
    if hasattr(X, "tocsr"):
        raise TypeError("X is a sparse matrix; networks take dense arrays: X.toarray()")
    if isinstance(X, (str, bytes)) or not hasattr(X, "__iter__"):
        raise TypeError(
            f"X must be an array, a tensor, a tuple or dict of them, or batches (a list, a "
            f"DataLoader), got {type(X).__name__}"
        )
    return True


def _is_sized(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.ndim > 0


def _device_and_dtype(module: "nn.Module") -> tuple[Any, Any]:
    import torch

    found = [*module.parameters(), *module.buffers()]
    device = found[0].device if found else torch.device("cpu")
    floating = [value.dtype for value in found if value.is_floating_point()]
    return device, floating[0] if floating else torch.float32


def _tensor(value: Any, device: Any, dtype: Any) -> Any:
    """Return a value as a tensor on a device; what is neither an array nor a list is left alone."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to(device)
    if not (hasattr(value, "__array__") or isinstance(value, (list, tuple))):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"X and y must hold numbers, got an array of dtype {array.dtype}")
    # A copy: torch warns about arrays that cannot be written to.
    tensor = torch.from_numpy(np.array(array, order="C", copy=True))
    return tensor.to(device, dtype) if array.dtype.kind == "f" else tensor.to(device)


class _LayerError(ValueError):
    """What a layer sees is not what sums can be taken of."""


def record(
    network: "nn.Module",
    watched: Mapping[str, tuple[str, Callable[[Any, Any], None]]],
    batches: Iterable[Batch],
    *,
    mask_key: str | None,
    name: str,
) -> None:
    """Run batches through a network; each watched layer hands on what it sees.

    Parameters
    ----------
    network : torch.nn.Module
        A copy to run, see :func:`~sklr._torch._untouched.copy_to_run`.
    watched : dict
        Name of a layer -> ("input" or "output", function). The function gets the layer and its
        input, or its output, without what a mask hides.
    batches : iterable
        What :func:`batches_of` yields.
    mask_key : str or None
        Name of the argument that is 1 where a token counts, 0 where it is padding.
    name : str
        The estimator's name, for messages.

    Raises
    ------
    ValueError
        The network cannot take a batch, or a layer sees what is not finite.
    """
    mask: list[Any] = [None]

    def hook_of(layer: str, side: str, see: Callable[[Any, Any], None]) -> Any:
        def hook(part: Any, args: tuple, kwargs: dict, output: Any) -> None:
            value = output
            if side == "input":
                value = args[0] if args else next(iter(kwargs.values()))
            value = without_padding(value.detach(), mask[0])
            check_finite(value, side, layer, name)
            see(part, value)

        return hook

    handles = []
    try:
        for layer, (side, see) in watched.items():
            part = network.get_submodule(layer)
            hook = hook_of(layer, side, see)
            handles.append(part.register_forward_hook(hook, with_kwargs=True))
        with plain_tensors():
            for number, (args, kwargs, _) in enumerate(batches):
                mask[0] = kwargs.get(mask_key) if mask_key is not None else None
                run_batch(network, args, kwargs, number, name)
    finally:
        for handle in handles:
            handle.remove()


def run_batch(network: Any, args: tuple, kwargs: dict, number: int, name: str) -> Any:
    """Return what a network says of one batch; what it cannot take is said with its shapes."""
    try:
        with mixed_precision(_device_and_dtype(network)[0]):
            return network(*args, **kwargs)
    except _LayerError:
        raise
    except _REFUSALS as exc:
        raise ValueError(
            f"{name}: the network cannot take batch {number} of X, "
            f"{_described(args, kwargs)}: {exc}"
        ) from exc


def check_finite(value: Any, side: str, layer: str, name: str) -> None:
    """Refuse what sums cannot be taken of, with the layer's name."""
    import torch

    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise _LayerError(
            f"{name}: the {side} of layer {layer!r} has NaN or infinity; look at X and at the "
            "weights before that layer"
        )


def without_padding(value: Any, mask: Any) -> Any:
    """Return the rows that a mask of shape (samples, length) leaves."""
    if mask is None or getattr(mask, "ndim", 0) != 2:
        return value
    axes = value.ndim if not value.is_floating_point() else value.ndim - 1
    if axes == 2 and tuple(value.shape[:2]) == tuple(mask.shape):
        return value[mask.bool()]
    return value


def _described(args: tuple, kwargs: dict) -> str:
    parts = [("", value) for value in args] + [(f"{key}: ", value) for key, value in kwargs.items()]
    shown = [
        f"{key}{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if hasattr(value, "shape")
        else f"{key}{type(value).__name__}"
        for key, value in parts
    ]
    return f"({', '.join(shown)})"
