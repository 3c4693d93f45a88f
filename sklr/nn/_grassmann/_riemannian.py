"""Stochastic gradient descent on Grassmann manifolds, beside the ordinary one."""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from sklr._torch._in_place import write_in_place


def split_manifold_parameters(module: nn.Module) -> tuple[list, list]:
    """Split the parameters of a network into those on a manifold and the others.

    Parameters
    ----------
    module : torch.nn.Module
        The network.

    Returns
    -------
    manifold : list of Parameter
        Parameters on a manifold, for :class:`RiemannianSGD`: those with an attribute ``manifold``,
        which layers of sklr put on theirs, also where a copy or a conversion has lost it.
    euclidean : list of Parameter
        The others, for any optimiser.

    Examples
    --------
    >>> from torch import nn
    >>> from sklr.nn import GrassmannLinear, split_manifold_parameters
    >>> network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), GrassmannLinear(8, 3, 2))
    >>> [len(part) for part in split_manifold_parameters(network)]
    [1, 2]
    """
    manifold: list[torch.nn.Parameter] = []
    euclidean: list[torch.nn.Parameter] = []
    for part in module.modules():
        if hasattr(part, "mark_manifold"):
            part.mark_manifold()  # type: ignore[operator]
    for parameter in module.parameters():
        (manifold if hasattr(parameter, "manifold") else euclidean).append(parameter)
    return manifold, euclidean


class RiemannianSGD(torch.optim.Optimizer):
    r"""Stochastic gradient descent that keeps parameters on their Grassmann manifolds.

    A parameter with the attribute ``manifold="grassmann"``, of shape (..., D, k), moves along the
    geodesic of the horizontal part of its momentum; others are stepped as by
    :class:`torch.optim.SGD`.

    Parameters
    ----------
    params : iterable of Parameter or of dict
        What to optimise, or groups of it with options of their own.
    lr : float, default=0.1
        Learning rate.
    momentum : float, default=0.9
        Factor of the momentum, kept as a plain sum of gradients; it is projected anew each step.
    weight_decay : float, default=0.0
        Weight decay of parameters that are on no manifold; those on one have none.
    reorth_every : int, default=5
        Steps after which the bases are made orthonormal again, against rounding.
    retraction : {"geodesic", "qr"}, default="geodesic"
        Follow the geodesic, or take the Q factor of the sum, which is cheaper and agrees with it
        to second order.

    See Also
    --------
    GrassmannLinear : The layer whose parameter this is for.
    split_manifold_parameters : Find such parameters in a network.

    Notes
    -----
    Momentum buffers and step counters are in ``state_dict``: a resumed run is the same run.
    The geodesic comes from the eigendecomposition of the k x k Gram matrix of the direction
    :math:`H`, :math:`H^\top H = V \operatorname{diag}(s^2) V^\top`:
    :math:`S \leftarrow (S V \cos(\eta s) - H V \sin(\eta s) / s) V^\top`; no singular value
    decomposition, and no division by a vanishing :math:`s`. On the CPU the same functions of the
    Gram matrix come from their Taylor series in a compiled kernel, one class at a time.

    References
    ----------
    .. [1] H. Wang, Z. Li and W. Zhang, "Get the best of both worlds: improving accuracy and
       transferability by Grassmann class representation", ICCV 2023, arXiv:2308.01547.
    .. [2] A. Edelman, T. A. Arias and S. T. Smith, "The geometry of algorithms with orthogonality
       constraints", SIAM J. Matrix Anal. Appl. 20(2), 1998, doi:10.1137/S0895479895290954.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn import GrassmannLinear, RiemannianSGD
    >>> head = GrassmannLinear(8, 3, n_components=2)
    >>> optimizer = RiemannianSGD(head.parameters(), lr=0.1)
    >>> loss = torch.nn.functional.cross_entropy(head(torch.randn(5, 8)), torch.arange(5) % 3)
    >>> loss.backward()
    >>> optimizer.step()
    >>> gram = head.weight.transpose(1, 2) @ head.weight
    >>> bool(torch.allclose(gram, torch.eye(2).expand(3, 2, 2), atol=1e-5))
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        reorth_every: int = 5,
        retraction: str = "geodesic",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "reorth_every": reorth_every,
            "retraction": retraction,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked as those of the constructor.

        Parameters
        ----------
        param_group : dict
            Has ``params``, and options of its own.
        """
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Parameters
        ----------
        closure : callable, default=None
            Computes the loss anew, with gradients.

        Returns
        -------
        loss : object
            What `closure` returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            flat = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if getattr(parameter, "manifold", None) == "grassmann":
                    self._manifold_step(parameter, group)
                else:
                    flat.append(parameter)
            if flat:
                self._euclidean_step(flat, group)
        return loss

    def _momentum(self, parameter: torch.Tensor, gradient: torch.Tensor, momentum: float) -> Any:
        if momentum == 0:
            return gradient
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = gradient.clone()
        else:
            buffer = state["momentum_buffer"]
            torch.add(gradient, buffer, alpha=momentum, out=buffer)
        return state["momentum_buffer"]

    def _euclidean_step(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Step all parameters of a group by a few calls, as many as for one."""
        gradients: Any = [parameter.grad for parameter in parameters]
        if group["momentum"] and self._fused_step(parameters, gradients, group):
            return
        if group["weight_decay"]:
            if any(gradient.is_sparse for gradient in gradients):
                raise ValueError(
                    "sparse gradients take no weight_decay: give such parameters a group with "
                    "weight_decay=0"
                )
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["momentum"]:
            buffers, later, theirs = [], [], []
            for parameter, gradient in zip(parameters, gradients, strict=True):
                state = self.state[parameter]
                if "momentum_buffer" in state:
                    later.append(state["momentum_buffer"])
                    theirs.append(gradient)
                else:
                    state["momentum_buffer"] = gradient.clone()
                buffers.append(state["momentum_buffer"])
            if later:
                torch._foreach_mul_(later, group["momentum"])
                torch._foreach_add_(later, theirs)
            gradients = buffers
        torch._foreach_add_(parameters, gradients, alpha=-group["lr"])

    def _fused_step(self, parameters: list, gradients: list, group: dict[str, Any]) -> bool:
        """Make the step by torch's fused kernel, from the second one on; returns whether it did.

        It walks through the memory, so that all must lie there alike.
        """
        buffers = [self.state[parameter].get("momentum_buffer") for parameter in parameters]
        kind = parameters[0].dtype
        if kind not in (torch.float32, torch.float64) or not all(
            buffer is not None
            and gradient.layout == torch.strided
            and parameter.is_contiguous()
            and gradient.is_contiguous()
            and buffer.is_contiguous()
            and parameter.device.type == "cpu"
            and parameter.dtype == gradient.dtype == buffer.dtype == kind
            for parameter, gradient, buffer in zip(parameters, gradients, buffers, strict=True)
        ):
            return False
        torch._fused_sgd_(
            parameters,
            gradients,
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=float(group["lr"]),
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
        return True

    def _manifold_step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None  # the caller has looked
        direction = self._momentum(parameter, parameter.grad, group["momentum"])
        state = self.state[parameter]
        state["step"] = state.get("step", 0) + 1
        if group["retraction"] == "qr":
            horizontal = project_horizontal(parameter, direction)
            parameter.copy_(orthonormal(parameter - group["lr"] * horizontal))
            return
        polish = state["step"] % group["reorth_every"] == 0
        if has_kernel(parameter):
            _kernel_step(parameter, direction, group["lr"], polish)
            return
        horizontal = project_horizontal(parameter, direction)
        moved = geodesic_step(parameter, horizontal, group["lr"])
        if polish:
            # One Newton step towards the nearest orthonormal basis: the span stays.
            moved = 1.5 * moved - 0.5 * moved @ (moved.mT @ moved)
        parameter.copy_(moved)


def has_kernel(parameter: torch.Tensor) -> bool:
    """Return whether a parameter is stepped by the compiled kernel: it is on the CPU."""
    if parameter.device.type != "cpu" or parameter.dtype not in (torch.float32, torch.float64):
        return False
    return load_kernels() is not None


@functools.cache
def load_kernels() -> Any:
    """Import the compiled kernels once; None where NUMBA_DISABLE_JIT is set."""
    from numba import config

    if config.DISABLE_JIT:
        return None
    from sklr.nn._grassmann import _grassmann_kernels

    return _grassmann_kernels


def _kernel_step(parameter: torch.Tensor, direction: torch.Tensor, lr: float, polish: bool) -> None:
    step_classes = load_kernels().step_classes
    rows, moves = parameter.detach().mT, direction.mT
    if rows.ndim == 3 and rows.is_contiguous() and moves.is_contiguous():  # as the layer has them
        write_in_place(step_classes, parameter, rows, moves, float(lr), polish)
        return
    moved = rows.reshape(-1, *rows.shape[-2:]).clone(memory_format=torch.contiguous_format)
    step_classes(moved.numpy(), moves.reshape(moved.shape).contiguous().numpy(), float(lr), polish)
    parameter.copy_(moved.reshape(rows.shape).mT)


def _check_group(group: dict[str, Any]) -> None:
    if not 0 <= group["lr"] < math.inf:
        raise ValueError(f"lr must be finite and at least 0, got {group['lr']}")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum must be at least 0 and below 1, got {group['momentum']}")
    if not group["weight_decay"] >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {group['weight_decay']}")
    if group["reorth_every"] < 1:
        raise ValueError(f"reorth_every must be at least 1, got {group['reorth_every']}")
    if group["retraction"] not in ("geodesic", "qr"):
        raise ValueError(f"retraction must be 'geodesic' or 'qr', got {group['retraction']!r}")
    for parameter in group["params"]:
        manifold = getattr(parameter, "manifold", "grassmann")
        if manifold != "grassmann":
            raise ValueError(f"a parameter is on the manifold {manifold!r}, not 'grassmann'")


def project_horizontal(S: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """Return the part of `G` that moves the subspaces of `S`: what is orthogonal to them."""
    return G - S @ (S.mT @ G)


def geodesic_step(S: torch.Tensor, H: torch.Tensor, lr: float) -> torch.Tensor:
    """Return the point at time `lr` of the geodesic that leaves `S` along ``-H``.

    Parameters
    ----------
    S : Tensor of shape (..., D, k)
        Orthonormal bases.
    H : Tensor of shape (..., D, k)
        Horizontal directions.
    lr : float
        Length of the step in units of `H`.

    Returns
    -------
    moved : Tensor of shape (..., D, k)
        Orthonormal bases.
    """
    squares, V = torch.linalg.eigh(H.mT @ H)
    angles = lr * squares.clamp_min(0).sqrt()
    cos = torch.cos(angles).unsqueeze(-2)
    sinc = lr * torch.sinc(angles / torch.pi).unsqueeze(-2)
    # k x k factors first, so that the D x k bases are read once each.
    return S @ ((V * cos) @ V.mT) - H @ ((V * sinc) @ V.mT)


def orthonormal(S: torch.Tensor) -> torch.Tensor:
    """Return the Q factor with the signs that make it continuous in `S`."""
    Q, R = torch.linalg.qr(S)
    signs = torch.sign(torch.diagonal(R, dim1=-2, dim2=-1))
    # Dependent columns have a zero there, and an orthonormal Q all the same.
    return Q * torch.where(signs == 0, 1, signs).unsqueeze(-2)
