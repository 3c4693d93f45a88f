"""Gradients of single samples, whatever the network is made of."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sklr._torch._layers import find_layers, input_rows, output_rows

if TYPE_CHECKING:
    from torch import Tensor

    from sklr._torch._layers import Layer

# Layers whose gradients of single samples are products of their inputs and outputs' gradients.
SHORTCUTS = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d")


class LayerCalls:
    """What one layer was called with, and handles of its outputs' gradients."""

    def __init__(self, layer: "Layer") -> None:
        self.layer = layer
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.part: Any = None

    def hook(self, check: Callable[["Tensor", str], None] | None = None) -> Any:
        """Return a forward hook that keeps inputs, and adds a zero whose gradient is wanted."""
        import torch

        def see(part: Any, args: tuple, kwargs: dict, output: "Tensor") -> "Tensor":
            value = (args[0] if args else next(iter(kwargs.values()))).detach()
            if check is not None:
                check(value, "input")
                check(output.detach(), "output")
            # The output itself may be a leaf, and an activation in place could not change it.
            probe = torch.zeros_like(output, requires_grad=True)
            self.part = part
            self.calls.append((value, probe))
            return output + probe

        return see

    def rows(self, value: "Tensor", gradient: "Tensor", n: int) -> tuple["Tensor", "Tensor"]:
        """Return a call's inputs (n, places, inputs) and gradients (n, places, outputs)."""
        kind, (m, k) = self.layer.kind, self.layer.shape
        if len(value) != n or len(gradient) != n:
            raise SamplesNotFirstError(
                f"inputs of layer {self.layer.name!r} have shape {tuple(value.shape)}, without "
                f"the {n} samples along the first axis"
            )
        x = input_rows(self.part, kind, value).reshape(n, -1, k)
        return x, output_rows(kind, gradient).reshape(n, -1, m)


class SamplesNotFirstError(ValueError):
    """A layer inside a network sees samples along another axis than the first."""


def shortcut_layers(network: Any, names: Sequence[str]) -> "list[Layer] | None":
    """Return the layers that hold exactly these parameters, or None where others do too."""
    left = set(names)
    chosen = []
    for layer in find_layers(network):
        if layer.reason or layer.kind not in SHORTCUTS:
            continue
        part = network.get_submodule(layer.name)
        own = {f"{layer.name}.{key}".lstrip(".") for key, _ in part.named_parameters()}
        if own & left:
            chosen.append(layer)
            left -= own
    return None if left else chosen


def by_layers(
    network: Any,
    layers: "Sequence[Layer]",
    losses_of: Callable[[], "Tensor"],
    slices: Mapping[str, slice],
    out: "Tensor",
) -> None:
    """Write the gradients of single samples, from one backward pass through the outputs.

    Parameters
    ----------
    network : torch.nn.Module
        The private copy.
    layers : sequence of Layer
        All layers with wanted parameters.
    losses_of : callable
        Runs the network and returns the loss of each sample.
    slices : mapping of str to slice
        Columns of each parameter.
    out : torch.Tensor of shape (n_samples, n_parameters)
        Where they are written.
    """
    import torch

    seen = [LayerCalls(layer) for layer in layers]
    handles = []
    try:
        for calls in seen:
            part = network.get_submodule(calls.layer.name)
            handles.append(part.register_forward_hook(calls.hook(), with_kwargs=True))
        losses = losses_of()
    finally:
        for handle in handles:
            handle.remove()
    n = len(losses)
    probes = [probe for calls in seen for _, probe in calls.calls]
    found = iter(torch.autograd.grad(losses.sum(), probes, allow_unused=True) if probes else ())
    out.zero_()
    for calls in seen:
        layer = calls.layer
        for value, _ in calls.calls:
            gradient = next(found)
            if gradient is None:
                continue
            x, g = calls.rows(value, gradient, n)
            weight = slices.get(f"{layer.name}.weight".lstrip("."))
            bias = slices.get(f"{layer.name}.bias".lstrip("."))
            if weight is not None:
                shape = (n, layer.shape[0], layer.shape[1])
                if layer.kind == "Conv1D":  # its weight is (inputs, outputs)
                    x, g, shape = g, x, (n, layer.shape[1], layer.shape[0])
                out[:, weight].view(shape).baddbmm_(g.transpose(1, 2), x)
                if layer.kind == "Conv1D":
                    x, g = g, x
            if bias is not None:
                out[:, bias] += g.sum(dim=1)


def by_vmap(
    loss_of: Callable[..., "Tensor"],
    parameters: Mapping[str, "Tensor"],
    args: tuple,
    kwargs: Mapping[str, Any],
    target: "Tensor",
    out: "Tensor",
) -> None:
    """Write the gradients of single samples by a vectorised gradient.

    Parameters
    ----------
    loss_of : callable
        ``loss_of(parameters, args, kwargs, target)`` is the loss of a batch of one.
    parameters : mapping of str to torch.Tensor
        What is derived by, in the order of the columns.
    args, kwargs : tuple, mapping
        Arguments of the network.
    target : torch.Tensor
        Targets.
    out : torch.Tensor of shape (n_samples, n_parameters)
        Where they are written.
    """
    import torch

    def is_sized(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.ndim > 0

    def of_one(args: tuple, kwargs: dict, target: "Tensor") -> dict[str, "Tensor"]:
        def loss(parameters: dict[str, "Tensor"]) -> "Tensor":
            one = tuple(v[None] if is_v else v for v, is_v in zip(args, are_args))
            named = {k: v[None] if are_kwargs[k] else v for k, v in kwargs.items()}
            return loss_of(parameters, one, named, target[None])

        return torch.func.grad(loss)(dict(parameters))

    are_args = tuple(is_sized(v) for v in args)
    are_kwargs = {k: is_sized(v) for k, v in kwargs.items()}
    in_dims = (
        tuple(0 if sized else None for sized in are_args),
        {k: 0 if sized else None for k, sized in are_kwargs.items()},
        0,
    )
    found = torch.func.vmap(of_one, in_dims=in_dims)(tuple(args), dict(kwargs), target)
    first = 0
    for value in found.values():
        flat = value.reshape(len(out), -1)
        out[:, first : first + flat.shape[1]] = flat
        first += flat.shape[1]


def by_loop(losses: "Tensor", parameters: "Sequence[Tensor]", out: "Tensor") -> None:
    """Write the gradients of single samples one after the other."""
    import torch

    for row, loss in zip(out, losses):
        found = torch.autograd.grad(
            loss, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        torch.cat([g.reshape(-1) for g in found], out=row)
