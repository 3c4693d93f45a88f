"""The networks that estimators build by default, and checks of those that a user gives."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from sklr._torch._device import mixed_precision

if TYPE_CHECKING:
    from torch import Tensor, nn


def mlp(
    n_in: int,
    hidden_layer_sizes: Sequence[int],
    n_out: int | None = None,
    *,
    batch_norm: bool = False,
    dropout: float = 0.0,
    activation: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    """Return a multilayer perceptron: each hidden layer is linear, ReLU; the last one linear.

    Parameters
    ----------
    n_in : int
        Number of features.
    hidden_layer_sizes : sequence of int
        Widths of the hidden layers; empty with `n_out` None is the identity.
    n_out : int, default=None
        Width of a last linear layer without ReLU; None leaves it out.
    batch_norm : bool, default=False
        Whether a batch normalisation follows each hidden linear layer.
    dropout : float, default=0.0
        Probability that a hidden unit is dropped in training.
    activation : callable, default=None
        Makes another activation than ReLU.

    Returns
    -------
    module : torch.nn.Sequential
    """
    from torch import nn

    if any(isinstance(s, bool) or not isinstance(s, Integral) or s < 1 for s in hidden_layer_sizes):
        raise ValueError(
            f"hidden_layer_sizes must be integers of at least 1, got {hidden_layer_sizes!r}"
        )
    layers: list[Any] = []
    width = n_in
    for size in hidden_layer_sizes:
        layers.append(nn.Linear(width, size))
        if batch_norm:
            layers.append(nn.BatchNorm1d(size))
        layers.append((activation or nn.ReLU)())
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = size
    if n_out is not None:
        layers.append(nn.Linear(width, n_out))
    return nn.Sequential(*layers)


def own_module(module: Any, n_in: int | tuple[int, ...]) -> nn.Module:
    """Return a network from the parameter ``module``: a deep copy, or what the callable makes.

    Parameters
    ----------
    module : torch.nn.Module or callable
        A Module is copied, with its weights, and never changed. A callable gets the number of
        features, or the shape of a sample of more dimensions; what it makes is copied too.
    n_in : int or tuple of int
        What a callable is called with.

    Returns
    -------
    module : torch.nn.Module

    Raises
    ------
    TypeError
        It is neither, or the callable returns no Module.
    """
    from torch import nn

    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    if callable(module):
        try:
            inspect.signature(module).bind(n_in)
        except ValueError:  # it has no signature
            pass
        except TypeError as exc:
            raise TypeError(
                f"the callable given as module is called with {n_in}, the number of features or "
                f"the shape of a sample, and does not take it ({exc}): use lambda n_in: ..., or "
                "give the module itself"
            ) from exc
        made = module(n_in)
        if isinstance(made, nn.Module):
            # It may return one network each time, which must not carry one fit into the next.
            try:
                return copy.deepcopy(made)
            except RuntimeError:  # torch copies no tensor that was computed (weight_norm)
                return made
        raise TypeError(
            f"the callable given as module must return a torch.nn.Module, "
            f"got {type(made).__name__} for the input {n_in}"
        )
    raise TypeError(f"module must be a torch.nn.Module or a callable, got {module!r}")


def evaluated(
    module: nn.Module,
    X: Tensor,
    *,
    what: str = "module",
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return what a network makes of a few samples, in evaluation mode and without gradients.

    Raises
    ------
    ValueError
        The network fails on such samples, or returns no tensor.
    """
    import torch

    training = module.training
    module.eval()
    try:
        with torch.no_grad(), mixed_precision(X.device):
            output = module(X) if function is None else function(module, X)
    except (RuntimeError, TypeError, ValueError, IndexError) as exc:
        raise ValueError(
            f"{what} cannot take samples of shape {tuple(X.shape[1:])}: {exc}"
        ) from exc
    finally:
        module.train(training)
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"{what} returns {type(output).__name__}; it must return a tensor")
    return output


def probe(
    module: nn.Module,
    X: Tensor,
    *,
    n_columns: int | None = None,
    what: str = "module",
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> Tensor:
    """Run a network on a few samples and check the shape of what it returns.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is run in evaluation mode, without gradients.
    X : torch.Tensor of shape (n_samples, ...)
        A few samples.
    n_columns : int, default=None
        Columns that the output must have; None takes any positive number.
    what : str, default="module"
        What the message calls the network.
    function : callable, default=None
        ``function(module, X)`` is looked at instead of ``module(X)``.

    Returns
    -------
    output : torch.Tensor of shape (n_samples, n_columns)

    Raises
    ------
    ValueError
        The network fails on such samples, or its output has another shape.
    """
    output = evaluated(module, X, what=what, function=function)
    if (
        output.ndim != 2
        or len(output) != len(X)
        or output.shape[1] != (n_columns or max(1, output.shape[1]))
    ):
        columns = "n_columns" if n_columns is None else n_columns
        raise ValueError(
            f"{what} returns shape {tuple(output.shape)} for input of shape {tuple(X.shape)}; "
            f"it must return a tensor of shape (n_samples, {columns})"
        )
    return output


def output_shape(
    module: nn.Module, n_in: int | tuple[int, ...], evaluate: Callable[..., Tensor] = evaluated
) -> tuple[int, ...]:
    """Return the shape of what a network makes of one sample of numbers, or of token ids.

    Raises
    ------
    ValueError
        The network takes neither.
    """
    import torch

    shape = (n_in,) if isinstance(n_in, int) else tuple(n_in)
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    try:
        return tuple(evaluate(module, torch.zeros(2, *shape, dtype=dtype)).shape[1:])
    except ValueError:
        try:
            return tuple(evaluate(module, torch.zeros(2, *shape, dtype=torch.long)).shape[1:])
        except ValueError:
            pass
        raise


def output_width(module: nn.Module, n_in: int | tuple[int, ...], *, what: str = "module") -> int:
    """Return the number of features that a network makes of samples, or of token ids.

    Raises
    ------
    ValueError
        The network takes neither, or its output is no table.
    """
    return output_shape(module, n_in, functools.partial(probe, what=what))[0]
