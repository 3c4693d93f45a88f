"""The loss of a network as a function of its parameters: gradients, curvature products.

All that looks at curvature stands on :class:`Objective`: a private copy of a network, its data, and
its trainable parameters as one vector.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sklr._torch._calibration import batches_of, run_batch
from sklr._torch._chunks import Chunk, merged
from sklr._torch._gradients import (
    SamplesNotFirstError,
    by_layers,
    by_loop,
    by_vmap,
    shortcut_layers,
)
from sklr._torch._layers import find_layers
from sklr._torch._losses import drawn_targets, unchecked_losses
from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CURVATURES = ("hessian", "ggn", "residual", "fisher")
# What a chunk of samples may keep for the gradient, and all chunks together.
CHUNK_BYTES = 2**28
KEPT_BYTES = 2**30


@contextmanager
def derivatives() -> Iterator[None]:
    """Make gradients, whatever the caller's modes; attention in the form that has two of them."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def curvature_dtype(module: "nn.Module", dtype: str, n_parameters: int) -> "torch.dtype":
    """Return the precision that "auto" stands for: float64 up to 1e5 parameters."""
    import torch

    if dtype != "auto":
        return torch.float64 if dtype == "float64" else torch.float32
    own = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    if any(p.device.type == "mps" for p in module.parameters()):
        return torch.float32
    return torch.float64 if n_parameters <= 1e5 or own == torch.float64 else torch.float32


class Objective:
    """Mean loss of a network over data that stay in memory, in evaluation mode.

    The network is a private copy, in one precision, and its parameters are one vector in the order
    of ``named_parameters``. Products with the Hessian are taken on a graph of the gradient that is
    made once and kept, where it is not too large.

    Parameters
    ----------
    module : torch.nn.Module
        The network; it is copied.
    X, y : array-like, tensor, tuple, dict, list of batches, DataLoader
        Data, as :func:`~sklr._torch._calibration.batches_of` takes them.
    loss : None, str or callable, default=None
        See :func:`~sklr._torch._losses.sample_losses`.
    name : str
        Who asks, for messages.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the copy.
    parameters : sequence of str or None, default=None
        Names of the parameters that count; None is all that are trainable.
    probe : bool, default=True
        Look whether the loss is the same twice.

    Attributes
    ----------
    slices : dict of str to slice
        Where each parameter is in the vector.
    n_parameters, n_samples : int
        Numbers of parameters and of samples.
    """

    def __init__(
        self,
        module: Any,
        X: Any,
        y: Any = None,
        *,
        loss: Any = None,
        name: str,
        batch_size: int | None = None,
        dtype: str = "auto",
        parameters: Sequence[str] | None = None,
        probe: bool = True,
    ) -> None:
        import torch

        check_module(module, name)
        self.name, self.loss = name, loss
        if X is None:
            raise ValueError(f"{name} needs X, inputs of the network, and y, their targets")
        wanted = _wanted(module, parameters, name)
        network = copy_of(module).eval()
        number = sum(p.numel() for key, p in network.named_parameters() if key in wanted)
        self.dtype = curvature_dtype(network, dtype, number)
        with torch.inference_mode(False):
            network.to(self.dtype)
        for part in network.modules():
            if isinstance(part, torch.nn.TransformerEncoder):
                part.use_nested_tensor = False
        self.network = network
        self.names = [key for key, _ in network.named_parameters() if key in wanted]
        self.parameters = []
        for key, value in network.named_parameters():
            value.requires_grad_(key in wanted)
            value.grad = None
            if key in wanted:
                self.parameters.append(value)
        self._check_weights()
        ends = list(itertools.accumulate(p.numel() for p in self.parameters))
        self.n_parameters = ends[-1]
        starts = [0, *ends[:-1]]
        self.slices = {key: slice(*ab) for key, ab in zip(self.names, zip(starts, ends))}
        self.device = self.parameters[0].device
        given = [self._chunk(*batch) for batch in batches_of(network, X, y, batch_size or 2**62)]
        self.n_samples = sum(len(chunk.target) for chunk in given)
        if not self.n_samples:
            raise ValueError(f"{name}: X has no samples; hand over some inputs of the network")
        self.chunks, self._keep = self._chunked(given, batch_size)
        self._kept: dict[str, list[Callable]] = {}
        if probe:
            self._probe(module)

    def _check_weights(self) -> None:
        import torch

        for key, value in [*self.network.named_parameters(), *self.network.named_buffers()]:
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                layer = key.rpartition(".")[0]
                raise ValueError(f"{self.name}: {key!r} of layer {layer!r} has NaN or infinity")

    def _chunk(self, args: tuple, kwargs: dict, target: Any) -> Chunk:
        if target is None:
            raise ValueError(
                f"{self.name} needs the targets of X: y for an X of arrays, or batches that end "
                "with theirs"
            )

        import torch

        def put(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            # A clone: the caller may write into a tensor, and inference tensors have no gradient.
            return value.to(self.dtype if value.is_floating_point() else value.dtype, copy=True)

        with torch.inference_mode(False), torch.no_grad():
            return Chunk(
                tuple(put(v) for v in args), {k: put(v) for k, v in kwargs.items()}, put(target)
            )

    def _chunked(self, given: list[Chunk], batch_size: int | None) -> tuple[list[Chunk], bool]:
        """Return chunks that fit, and whether the graphs of all of them do."""
        if batch_size is None:
            given = merged(given)
        kept = [0]

        def count(value: "Tensor") -> "Tensor":
            kept[0] += value.numel() * value.element_size()
            return value

        import torch

        first = given[0].rows(slice(0, 16))
        with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
            with derivatives():
                self._losses(first)
        weights = sum(p.numel() * p.element_size() for p in self.parameters)
        each = max(kept[0] - weights, 1) / len(first.target)
        # The graph of the gradient keeps some three times of what the loss keeps.
        keep = 4 * each * self.n_samples <= KEPT_BYTES
        if batch_size is None:
            size = max(1, int(CHUNK_BYTES / each))
            given = [
                chunk.rows(slice(first, first + size))
                for chunk in given
                for first in range(0, len(chunk.target), size)
            ]
        return given, keep

    def _probe(self, module: Any) -> None:
        """Refuse a loss that is another one each time; say what training mode would do."""
        import torch
        from torch import nn

        drawn = [
            f"{key or 'the network'} ({type(part).__name__})"
            for key, part in module.named_modules()
            if part.training
            and (
                isinstance(part, nn.modules.batchnorm._BatchNorm)
                or (isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0)
            )
        ]
        if drawn:
            more = f" and {len(drawn) - 3} more" if len(drawn) > 3 else ""
            warn_user(
                f"{self.name}: the network is in training mode, where {', '.join(drawn[:3])}{more} "
                "make the loss depend on chance or on the batch; its evaluation mode is looked at"
            )
        few = self.chunks[0].rows(slice(0, 64))
        with derivatives(), torch.no_grad():
            one, other = self._losses(few), self._losses(few)
        change = float((one - other).abs().max())
        rounding = 1e-9 if self.dtype == torch.float64 else 1e-4
        if change > rounding * max(1.0, float(one.abs().max())):
            raise ValueError(
                f"{self.name}: the network's loss differs by {change:.3g} between two calls on the "
                "same samples, also in evaluation mode; switch off what draws noise in its forward"
            )

    def _losses(self, chunk: Chunk, number: int = 0) -> "Tensor":
        import torch

        output = run_batch(self.network, chunk.args, chunk.kwargs, number, self.name)
        losses = unchecked_losses(output, chunk.target, self.loss, self.name)
        if not bool(torch.isfinite(losses).all()):
            self._say_where(chunk, number)
        return losses

    def _say_where(self, chunk: Chunk, number: int) -> None:
        """Raise, with the batch and the first layer that sees what is not finite."""
        import torch

        seen: list[str] = []

        def hook_of(layer: str) -> Any:
            def see(_: Any, args: tuple, kwargs: dict) -> None:
                for value in [*args, *kwargs.values()]:
                    floating = isinstance(value, torch.Tensor) and value.is_floating_point()
                    if floating and not bool(torch.isfinite(value).all()):
                        seen.append(layer)

            return see

        handles = [
            self.network.get_submodule(layer.name).register_forward_pre_hook(
                hook_of(layer.name), with_kwargs=True
            )
            for layer in find_layers(self.network)
        ]
        try:
            with torch.no_grad():
                self.network(*chunk.args, **chunk.kwargs)
        finally:
            for handle in handles:
                handle.remove()
        where = f"; the input of layer {seen[0]!r} has NaN or infinity" if seen else ""
        raise ValueError(
            f"{self.name}: the loss of a sample of batch {number} is NaN or infinity{where}"
        )

    # The vector of parameters.

    def vector(self) -> "Tensor":
        """Return the parameters as one vector, a copy."""
        import torch

        return torch.cat([p.detach().reshape(-1) for p in self.parameters])

    def set_vector(self, w: "Tensor") -> None:
        """Set the parameters; graphs that were kept are forgotten."""
        import torch

        self._kept = {}
        with torch.no_grad():
            for value, part in zip(self.parameters, self.split(w)):
                value.copy_(part)

    def split(self, w: "Tensor") -> list["Tensor"]:
        """Return a vector in the shapes of the parameters; leading axes of `w` stay."""
        ends = [p.numel() for p in self.parameters]
        parts = w.split(ends, dim=-1)
        return [part.reshape(*w.shape[:-1], *p.shape) for part, p in zip(parts, self.parameters)]

    def _flat(self, values: Sequence["Tensor"], batched: bool = False) -> "Tensor":
        import torch

        if batched:
            return torch.cat([value.reshape(len(value), -1) for value in values], dim=1)
        return torch.cat([value.reshape(-1) for value in values])

    # The loss and its derivatives.

    def mean_loss(self) -> float:
        """Return the mean loss."""
        import torch

        with derivatives(), torch.no_grad():
            sums = [float(self._losses(c, i).double().sum()) for i, c in enumerate(self.chunks)]
        return sum(sums) / self.n_samples

    def outputs(self) -> Iterator[tuple["Tensor", "Tensor"]]:
        """Yield outputs and targets of each chunk."""
        import torch

        for number, chunk in enumerate(self.chunks):
            with derivatives(), torch.no_grad():
                output = run_batch(self.network, chunk.args, chunk.kwargs, number, self.name)
            yield getattr(output, "logits", output), chunk.target

    def draw_targets(self, seed: int) -> None:
        """Put targets in place that are drawn from what the network predicts."""
        import torch

        generator = torch.Generator(device="cpu").manual_seed(seed)
        with torch.inference_mode(False):
            self.chunks = [
                chunk._replace(
                    target=drawn_targets(output, chunk.target, self.loss, generator, self.name)
                )
                for chunk, (output, _) in zip(self.chunks, self.outputs())
            ]
        self._kept = {}

    def gradient(self) -> "Tensor":
        """Return the gradient of the mean loss."""
        total: Any = 0
        for number, chunk in enumerate(self.chunks):
            with derivatives():
                losses = self._losses(chunk, number)
                found = _grad(losses.sum() / self.n_samples, self.parameters)
            total = total + self._flat(found)
        return total

    def product(self, curvature: str, v: "Tensor") -> "Tensor":
        """Return the curvature times a vector (P,), or times each row of a block (k, P).

        Parameters
        ----------
        curvature : {"hessian", "ggn", "residual", "fisher"}
            The Hessian of the mean loss; its Gauss-Newton part; what the one has beyond the other;
            the mean of the outer products of the gradients of single samples.
        v : torch.Tensor of shape (n_parameters,) or (k, n_parameters)
            In the precision of the copy.
        """
        if curvature == "residual":
            return self.product("hessian", v) - self.product("ggn", v)
        make = {"hessian": self._hessian, "ggn": self._ggn, "fisher": self._fisher}[curvature]
        if curvature in self._kept:
            products = iter(self._kept[curvature])
        elif self._keep:
            self._kept[curvature] = [make(c, i) for i, c in enumerate(self.chunks)]
            products = iter(self._kept[curvature])
        else:
            products = (make(chunk, number) for number, chunk in enumerate(self.chunks))
        total: Any = None
        for apply in products:
            with derivatives():
                found = apply(v)
            total = found if total is None else total.add_(found)
        return total

    def _hessian(self, chunk: Chunk, number: int) -> Callable[["Tensor"], "Tensor"]:
        with derivatives():
            loss = self._losses(chunk, number).sum() / self.n_samples
            gradient = _grad(loss, self.parameters, create_graph=True)
        return lambda v: self._back(gradient, self.split(v), v.ndim > 1)

    def _back(self, outputs: Sequence["Tensor"], v: Sequence["Tensor"], many: bool) -> "Tensor":
        """Return the parameters' gradient of sum(outputs * v), on a graph that is kept."""
        import torch

        able = [(out, part) for out, part in zip(outputs, v) if out.requires_grad]
        if not able:
            shape = (len(v[0]), self.n_parameters) if many else (self.n_parameters,)
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        outs, parts = zip(*able)
        return self._flat(_grad(outs, self.parameters, parts, many=many, retain=True), many)

    def _ggn(self, chunk: Chunk, number: int) -> Callable[["Tensor"], "Tensor"]:
        with derivatives():
            output = run_batch(self.network, chunk.args, chunk.kwargs, number, self.name)
            output = getattr(output, "logits", output)
            leaf = output.detach().requires_grad_()
            losses = unchecked_losses(leaf, chunk.target, self.loss, self.name)
            slope = _grad(losses.sum() / self.n_samples, [leaf], create_graph=True)
            forward = self._jacobian(output)

        def apply(v: "Tensor") -> "Tensor":
            many = v.ndim > 1
            moved = forward(v)
            if not slope[0].requires_grad:  # the loss is linear in the outputs
                return v * 0
            bent = _grad(slope, [leaf], [moved], many=many, retain=True)
            return self._back([output], bent, many)

        return apply

    def _fisher(self, chunk: Chunk, number: int) -> Callable[["Tensor"], "Tensor"]:
        with derivatives():
            losses = self._losses(chunk, number)
            forward = self._jacobian(losses)
        return lambda v: self._back([losses], [forward(v) / self.n_samples], v.ndim > 1)

    def _jacobian(self, output: "Tensor") -> Callable[["Tensor"], "Tensor"]:
        """Return the map v -> J v of an output: two passes back make one forward."""
        import torch

        u = torch.zeros_like(output, requires_grad=True)
        pulled = _grad([output], self.parameters, [u], create_graph=True)

        def apply(v: "Tensor") -> "Tensor":
            able = [(p, part) for p, part in zip(pulled, self.split(v)) if p.requires_grad]
            outs, parts = zip(*able)
            return _grad(outs, [u], parts, many=v.ndim > 1, retain=True)[0]

        return apply

    # Gradients of single samples.

    def sample_gradients(
        self,
        index: "Tensor | None" = None,
        *,
        samples_per_gradient: int = 1,
        dtype: Any = None,
        route: str = "auto",
    ) -> "Tensor":
        """Return gradients of the losses of single samples, or of means of several, as rows.

        Parameters
        ----------
        index : torch.Tensor of shape (m * samples_per_gradient,), optional
            Which samples, in order; all by default. A sample may come more than once.
        samples_per_gradient : int, default=1
            So many following samples make one row, their mean.
        dtype : torch.dtype, optional
            Precision of the result; by default that of the copy.
        route : {"auto", "layers", "vmap", "loop"}, default="auto"
            How. "layers" is a product of inputs and outputs' gradients, for parameters of linear
            and convolutional layers; "auto" takes the first that the network allows.

        Returns
        -------
        gradients : torch.Tensor of shape (m, n_parameters)
        """
        import torch

        with torch.inference_mode(False), torch.no_grad():
            if index is None:
                index = torch.arange(self.n_samples, device="cpu")
            each = samples_per_gradient
            m = -(-len(index) // each)
            dtype = self.dtype if dtype is None else dtype
            out = torch.zeros(m, self.n_parameters, dtype=dtype, device=self.device)
            first = 0
            for number, chunk in enumerate(self.chunks):
                inside = (index >= first) & (index < first + len(chunk.target))
                places = inside.nonzero().reshape(-1)
                # As many at a time as keep the block of gradients small.
                size = max(1, min(len(places), int(CHUNK_BYTES / (8 * self.n_parameters))))
                for some in places.split(size):
                    if not len(some):
                        continue
                    rows = chunk.rows((index[some] - first).to(self.device))
                    block = self._block(rows, number, route)
                    where = torch.div(some, each, rounding_mode="floor").to(self.device)
                    out.index_add_(0, where, block.to(dtype), alpha=1.0)
                first += len(chunk.target)
            if each > 1:
                last = len(index) - (m - 1) * each
                out[:-1] /= each
                out[-1] /= last
        self._check_gradients(out)
        return out

    def _check_gradients(self, out: "Tensor") -> None:
        import torch

        if bool(torch.isfinite(out.sum())) or bool(torch.isfinite(out).all()):
            return
        bad = [key for key, at in self.slices.items() if not bool(torch.isfinite(out[:, at]).all())]
        raise ValueError(f"{self.name}: gradients of {', '.join(bad[:5])} are NaN or infinite")

    def _block(self, chunk: Chunk, number: int, route: str) -> "Tensor":
        import torch

        n = len(chunk.target)
        out = torch.empty(n, self.n_parameters, dtype=self.dtype, device=self.device)
        layers = shortcut_layers(self.network, self.names) if route in ("auto", "layers") else None
        with derivatives():
            if layers is not None:
                try:
                    by_layers(
                        self.network, layers, lambda: self._losses(chunk, number), self.slices, out
                    )
                    return out
                except SamplesNotFirstError:
                    if route == "layers":
                        raise
            elif route == "layers":
                raise ValueError(f"{self.name}: not all parameters are those of plain layers")
            if route != "loop":
                try:
                    self._by_vmap(chunk, number, out)
                    return out
                except (RuntimeError, ValueError):
                    if route == "vmap":
                        raise
            # One call each: a network may mix what stands beside in a batch.
            for i in range(n):
                losses = self._losses(chunk.rows(slice(i, i + 1)), number)
                by_loop(losses, self.parameters, out[i : i + 1])
        return out

    def _by_vmap(self, chunk: Chunk, number: int, out: "Tensor") -> None:
        import torch

        def loss_of(parameters: Any, args: tuple, kwargs: dict, target: "Tensor") -> "Tensor":
            output = torch.func.functional_call(self.network, parameters, args, kwargs)
            return unchecked_losses(output, target, self.loss, self.name, look=False).sum()

        self._losses(chunk, number)  # says what is not finite, which vmap cannot
        named = {key: p.detach() for key, p in zip(self.names, self.parameters)}
        by_vmap(loss_of, named, chunk.args, chunk.kwargs, chunk.target, out)


def _wanted(module: Any, parameters: Sequence[str] | None, name: str) -> set[str]:
    named = dict(module.named_parameters())
    if not named:
        raise ValueError(f"{name}: the network has no parameters")
    wanted = {key for key, p in named.items() if p.requires_grad}
    if parameters is not None:
        wanted = set(parameters)
    if not wanted:
        raise ValueError(
            f"{name}: no parameter of the network is trainable (requires_grad is False for all "
            f"{len(named)}); unfreeze those that are to be looked at"
        )
    for key in sorted(wanted):
        if not named[key].is_floating_point():
            kind = str(named[key].dtype).removeprefix("torch.")
            raise ValueError(f"{name}: parameter {key!r} is {kind}, not real numbers")
    return wanted


def _grad(
    outputs: Any,
    inputs: Sequence["Tensor"],
    grad_outputs: Any = None,
    *,
    create_graph: bool = False,
    many: bool = False,
    retain: bool = False,
) -> tuple["Tensor", ...]:
    import torch

    return torch.autograd.grad(
        outputs,
        list(inputs),
        grad_outputs,
        create_graph=create_graph,
        retain_graph=retain or create_graph,
        is_grads_batched=many,
        allow_unused=True,
        materialize_grads=True,
    )
