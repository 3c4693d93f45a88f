"""What the optimisers share: checks before a step, matrices in parameters, states that resume."""

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from numbers import Integral, Real
from typing import Any

import torch
from torch.optim.adamw import adamw

# Columns that a share comes to at least: below there is no memory to save.
LEAST = 16
_HALF = (torch.float16, torch.bfloat16)


def state_dtype(p: torch.Tensor) -> torch.dtype:
    """Return the precision of averages of a parameter's gradients: half ones are too coarse."""
    return torch.float32 if p.dtype in _HALF else p.dtype


class BaseOptimizer(torch.optim.Optimizer):
    """Checks, closures, states in their own precision, and their size."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        """Refuse what a group cannot have."""
        raise NotImplementedError

    def _update(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        """Step those parameters of a group that have a gradient."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, checked as those of the constructor.

        Parameters
        ----------
        param_group : dict
            Has ``params``, and options of its own.
        """
        super().add_param_group(param_group)
        try:
            group = self.param_groups[-1]
            self._check_group(group)
            for number, p in enumerate(group["params"]):
                self._check_parameter(p, self._name(group, number))
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    def _name(self, group: dict[str, Any], number: int) -> str:
        """Return how messages call a parameter."""
        if "param_names" in group:
            return repr(group["param_names"][number])
        at = next(i for i, other in enumerate(self.param_groups) if other is group)
        shape = tuple(group["params"][number].shape)
        return f"{number} of group {at} (shape {shape})"

    def _check_parameter(self, p: torch.Tensor, name: str) -> None:
        kind = type(self).__name__
        if not p.is_floating_point():
            what = str(p.dtype).removeprefix("torch.")
            raise ValueError(f"{kind} takes real parameters, and parameter {name} is {what}")
        if hasattr(p, "manifold"):
            raise ValueError(
                f"parameter {name} is on the manifold {p.manifold!r}, which a step of {kind} "
                "leaves: give it to sklr.nn.RiemannianSGD (split_manifold_parameters finds them)"
            )

    def _check_gradients(self) -> None:
        """Refuse sparse and non-finite gradients, before anything is changed."""
        kind = type(self).__name__
        by_place: dict[Any, list[torch.Tensor]] = {}
        for group in self.param_groups:
            for number, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                if p.grad.layout != torch.strided:
                    raise ValueError(
                        f"{kind} takes dense gradients, and that of parameter "
                        f"{self._name(group, number)} is sparse: make its layer with "
                        "sparse=False, or give it to torch.optim.SparseAdam"
                    )
                by_place.setdefault((p.grad.device, p.grad.dtype), []).append(p.grad)
        for gradients in by_place.values():
            norms = torch.stack(torch._foreach_norm(gradients))
            if not bool(torch.isfinite(norms).all()):
                self._say_which()  # norms may also have overflowed

    def _say_which(self) -> None:
        for group in self.param_groups:
            for number, p in enumerate(group["params"]):
                if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
                    raise ValueError(
                        f"{type(self).__name__}: the gradient of parameter "
                        f"{self._name(group, number)} has NaN or infinity, and nothing was "
                        "stepped; a smaller lr, or torch.nn.utils.clip_grad_norm_, is the usual "
                        "cure, torch.amp.GradScaler in half precision"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
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
        self._check_gradients()
        with ExitStack() as stack:
            # A step inside the caller's autocast would be one in half precision.
            for kind in {p.device.type for group in self.param_groups for p in group["params"]}:
                if torch.amp.is_autocast_available(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            self._before()
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if parameters:
                    self._update(group, parameters)
        return loss

    def _before(self) -> None:
        """Do what needs the gradients of all groups."""

    def state_bytes(self) -> int:
        """Return the memory of the state, in bytes: what stays between two steps.

        Returns
        -------
        n_bytes : int
            0 before the first step.
        """
        return sum(
            value.numel() * value.element_size()
            for state in self.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; later changes of it change nothing here.

        Parameters
        ----------
        state_dict : dict
            What ``state_dict`` of such an optimiser returned.
        """
        super().load_state_dict(state_dict)
        # torch converts all that is kept to the parameter's precision; indices are none of it.
        saved = [key for group in state_dict["param_groups"] for key in group["params"]]
        own = [p for group in self.param_groups for p in group["params"]]
        for key, p in zip(saved, own, strict=True):
            for name, value in state_dict["state"].get(key, {}).items():
                if isinstance(value, torch.Tensor):
                    self.state[p][name] = self._resumed(p, name, value)

    def _resumed(self, p: torch.Tensor, name: str, value: torch.Tensor) -> torch.Tensor:
        """Return a copy of a tensor of a state, where and as it is kept beside a parameter."""
        if name == "step":
            return value.clone()
        if not value.is_floating_point():
            return value.to(device=p.device, copy=True)
        dtype = p.dtype if value.shape == p.shape else state_dtype(p)
        return value.to(device=p.device, dtype=dtype, copy=True)


# Parameters as matrices.


def as_matrix(p: torch.Tensor) -> torch.Tensor:
    """Return a parameter as a matrix, its smaller dimension last; kernels are flattened."""
    matrix = p.reshape(p.shape[0], -1)
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T


def is_matrix(p: torch.Tensor, max_dim: int) -> bool:
    """Return whether a parameter is stepped as a matrix: no bias, no table of tokens."""
    if p.ndim < 2 or p.numel() == 0:
        return False
    n_rows, n = as_matrix(p).shape
    return n > 1 and n_rows < max_dim


def resolve_rank(p: torch.Tensor, rank: int | float) -> int | None:
    """Return the rank for a matrix, or None where it is not below its smaller dimension."""
    n = as_matrix(p).shape[1]
    share = not isinstance(rank, Integral)
    found = max(LEAST, round(float(rank) * n)) if share else int(rank)
    return found if found < n else None


def add_product(
    p: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, keep: float, alpha: float
) -> None:
    """Make p ``keep * p + alpha * left @ right.T``, in the shape of :func:`as_matrix`."""
    matrix = p.reshape(p.shape[0], -1)
    if matrix.shape[0] < matrix.shape[1]:
        left, right = right, left
    if matrix.dtype == left.dtype:
        matrix.addmm_(left, right.T, beta=keep, alpha=alpha)
    else:
        matrix.copy_(torch.addmm(matrix.to(left.dtype), left, right.T, beta=keep, alpha=alpha))
    if matrix.untyped_storage().data_ptr() != p.untyped_storage().data_ptr():
        p.copy_(matrix.reshape(p.shape))  # channels_last: there was no view


def adamw_step(
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.Tensor],
    *,
    lr: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Step parameters as torch.optim.AdamW does, by its own code."""
    if not parameters:
        return
    averages, squares, steps = [], [], []
    for p in parameters:
        state = optimizer.state[p]
        if not state:
            state["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
            state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        averages.append(state["exp_avg"])
        squares.append(state["exp_avg_sq"])
        steps.append(state["step"])
    gradients: Any = [p.grad for p in parameters]
    adamw(
        parameters, gradients, averages, squares, [], steps,
        amsgrad=False, beta1=betas[0], beta2=betas[1], lr=float(lr), weight_decay=weight_decay,
        eps=eps, maximize=False,
    )  # fmt: skip


# Checks of options.


def refuse_change(options: str, was: Any, now: Any) -> None:
    """Refuse an option that the state was made with, and that is another one now."""
    if was != now:
        raise ValueError(
            f"{options} was changed after the first step: the state of a parameter is for {was}, "
            f"and now is {now}; make a new optimiser"
        )


def check_number(
    group: dict[str, Any], name: str, *, least: float, below: float = math.inf, open_: bool = False
) -> None:
    """Refuse an option that is no number of an interval."""
    value = group[name]
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    fits = (least < number if open_ else least <= number) and number < below
    if not fits:
        border = "above" if open_ else "at least"
        end = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be {border} {least:g} and {end}, got {value!r}")


def check_count(group: dict[str, Any], name: str) -> None:
    """Refuse an option that is no integer of at least 1."""
    value = group[name]
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_rank(group: dict[str, Any]) -> None:
    """Refuse a rank that is neither a count nor a share."""
    value = group["rank"]
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"rank must be an integer or a share in (0, 1), got {value!r}")
    if not (int(value) >= 1 if isinstance(value, Integral) else 0 < float(value) < 1):
        raise ValueError(
            "rank must be an integer of at least 1, or a share in (0, 1) of a layer's smaller "
            f"dimension, got {value!r}"
        )


def check_word(group: dict[str, Any], name: str, words: Iterable[str]) -> None:
    """Refuse an option that is none of some words."""
    if group[name] not in tuple(words):
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {group[name]!r}")


def check_flag(group: dict[str, Any], name: str) -> None:
    """Refuse an option that is neither True nor False."""
    if not isinstance(group[name], bool):
        raise TypeError(f"{name} must be True or False, got {group[name]!r}")


def check_betas(group: dict[str, Any]) -> None:
    """Refuse betas outside [0, 1)."""
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"betas must be two numbers, got {betas!r}")
    for number, beta in enumerate(betas):
        check_number({f"betas[{number}]": beta}, f"betas[{number}]", least=0, below=1)
