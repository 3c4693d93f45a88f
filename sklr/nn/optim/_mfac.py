"""Gradient descent through the inverse Fisher matrix of the last gradients."""

import os
from collections.abc import Iterable
from typing import Any

import torch

from sklr._torch._inverse_fisher import GradientWindow
from sklr.nn.optim._base import (
    BaseOptimizer,
    check_count,
    check_number,
    check_word,
    refuse_change,
)

WARMUPS = ("exact", "official")
# Options of the window, which all groups share.
_SHARED = ("damping", "n_gradients", "warmup")


class MFAC(BaseOptimizer):
    r"""Steps along the inverse of the damped Fisher matrix of the last gradients (M-FAC).

    With the last m gradients as rows of :math:`G` the step is along
    :math:`(\lambda I + G^\top G / m)^{-1} g`, which costs two products with :math:`G` and no
    matrix of the size of the parameters.

    Parameters
    ----------
    params : iterable of Parameter, of (name, Parameter) or of dict
        What to optimise, or groups of it with an `lr`, a `momentum`, a `weight_decay` and a `clip`
        of their own. The window of gradients goes over all groups.
    lr : float, default=1e-3
        Learning rate. It is not one of gradient descent: outside the span of the window a step is
        ``lr / damping`` times the gradient.
    damping : float, default=1e-5
        What is added to the diagonal of the Fisher matrix, above 0.
    n_gradients : int, default=512
        Gradients in the window. It takes ``n_gradients`` times the memory of the parameters.
    momentum : float, default=0.0
        Factor of an average of the steps.
    weight_decay : float, default=0.0
        Factor of the parameters that is added to their gradient, which then goes into the window.
    warmup : {"exact", "official"}, default="exact"
        What sums over gradients are divided by before the window is full: their number, or
        `n_gradients` all the same, as the authors' code does.
    clip : float, default=None
        Largest norm of a step (over all groups, before `lr`).

    See Also
    --------
    sklr.landscape.EmpiricalFisher : The same inverse for a trained network.
    sklr.nn.compression.MFACPruner : What it says about weights that can go.
    torch.optim.AdamW : The inverse of a diagonal, in far less memory.

    Notes
    -----
    A step costs two products with the window, 4 m d operations for d parameters, and a Cholesky
    factor of m x m in float64. The window is in float32, or in float64 where a parameter is.
    Parameters without a gradient count with zeros and stay. Sparse, complex and non-finite
    gradients are refused before anything is stepped. A group that is added later has zeros in the
    window, as it had no gradients. ``state_dict`` holds the window: a resumed run is the same run.

    The Fisher matrix of few noisy gradients is no Hessian; where it is nearly singular and
    `damping` small, steps are long: raise `damping` or set `clip`.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: efficient matrix-free approximations of
       second-order information", NeurIPS 2021, arXiv:2107.03356.

    Examples
    --------
    One gradient in the window: the step is ``lr * g / (damping + g @ g)``.

    >>> import torch
    >>> from sklr.nn.optim import MFAC
    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer = MFAC([w], lr=1.0, damping=1e-9, n_gradients=8)
    >>> (w @ torch.tensor([3.0, 4.0])).backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([-0.1200, -0.1600])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        damping: float = 1e-5,
        n_gradients: int = 512,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        warmup: str = "exact",
        clip: float | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "damping": damping,
            "n_gradients": n_gradients,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup": warmup,
            "clip": clip,
        }
        super().__init__(params, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_number(group, "lr", least=0)
        check_number(group, "damping", least=0, open_=True)
        check_count(group, "n_gradients")
        check_number(group, "momentum", least=0, below=1)
        check_number(group, "weight_decay", least=0)
        check_word(group, "warmup", WARMUPS)
        if group["clip"] is not None:
            check_number(group, "clip", least=0, open_=True)
        for name in _SHARED:
            if group[name] != self.param_groups[0][name]:
                raise ValueError(
                    f"{name} is one for all groups: {self.param_groups[0][name]!r} in the first, "
                    f"{group[name]!r} in this one"
                )

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _window(self) -> GradientWindow:
        """Return the window over what the state holds: made, grown, or resumed."""
        group, own = self.param_groups[0], self._parameters()
        state: dict[str, Any] = self.state[own[0]]
        wide = any(p.dtype == torch.float64 for p in own)
        d = sum(p.numel() for p in own)
        if "window" in state and state["window"].shape[1] < d:  # a group came later
            more = d - state["window"].shape[1]
            state["window"] = torch.nn.functional.pad(state["window"], (0, more))
        if "window" in state:
            refuse_change("n_gradients", len(state["window"]), group["n_gradients"])
        else:
            _check_memory(group["n_gradients"], d, 8 if wide else 4, own[0].device)
        window = GradientWindow(
            group["n_gradients"] if "window" not in state else 0,
            d if "window" not in state else 0,
            damping=group["damping"],
            warmup=group["warmup"],
            dtype=torch.float64 if wide else torch.float32,
            device=own[0].device,
        )
        if "window" in state:
            window.G, window.K0 = state["window"], state["products"]
            window.n_seen = int(state["n_seen"])
        else:
            state["window"], state["products"] = window.G, window.K0
        return window

    def _before(self) -> None:
        """Put the gradients into the window and find the step of all groups."""
        self._steps: dict[torch.Tensor, torch.Tensor] = {}
        own = self._parameters()
        if all(p.grad is None for p in own):
            return
        window = self._window()
        parts = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    parts.append(window.G.new_zeros(p.numel()))
                    continue
                g = p.grad.to(window.G)
                if group["weight_decay"]:
                    g = g + group["weight_decay"] * p.to(window.G)
                parts.append(g.reshape(-1))
        window.push(torch.cat(parts))
        self.state[own[0]]["n_seen"] = window.n_seen
        u = window.solve_last()
        self._norm = float(u.norm())
        for p, part in zip(own, u.split([p.numel() for p in own])):
            if p.grad is not None:
                self._steps[p] = part.reshape(p.shape)

    def _update(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        clip, momentum, lr = group["clip"], group["momentum"], float(group["lr"])
        factor = 1.0 if clip is None else min(1.0, clip / max(self._norm, 1e-300))
        for p in parameters:
            u = self._steps.pop(p) * factor
            if momentum:
                state = self.state[p]
                if "average" not in state:
                    state["average"] = torch.zeros_like(u)
                u = state["average"].lerp_(u, 1 - momentum)
            p.add_(u.to(p), alpha=-lr)

    def _resumed(self, p: torch.Tensor, name: str, value: torch.Tensor) -> torch.Tensor:
        if name not in ("window", "products", "average"):
            return super()._resumed(p, name, value)
        # In their own precision: the products are sums in float64.
        return value.to(device=p.device, copy=True)


def _check_memory(m: int, d: int, n_bytes: int, device: torch.device) -> None:
    """Refuse a window that cannot be held, before it is made."""
    needed = m * d * n_bytes
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        try:
            there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return
    if needed > there:
        raise ValueError(
            f"MFAC: a window of {m} gradients of {d} parameters takes {needed / 2**30:.3g} GiB, "
            f"and there are {there / 2**30:.3g} GiB; take fewer (n_gradients)"
        )
