"""How to solve, and where a solver is."""

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_positive(value: Any, name: str) -> float:
    """Return a positive finite number, or say what is wrong with it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a positive number, got {value!r}.")
    if not (np.isfinite(float(value)) and float(value) > 0):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    return float(value)


def check_count(value: Any, name: str, least: int) -> int:
    """Return an integer that is large enough, or say what is wrong with it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
    return int(value)


@dataclass
class Options:
    """How to solve; see `sinkhorn_newton`."""

    n_warmup: int | str = "auto"
    annealing: float | str | None = "auto"
    max_iter: int = 100
    tol: float = 1e-9
    sparsify: str = "adaptive"
    density: float | None = None

    def target(self, error: float) -> float:
        """Return the error to go on to: a little below `tol`, if it is not below already.

        So that a plan, or a start from its potentials, is not above it by rounding.
        """
        return self.tol if error < self.tol else 0.9 * self.tol


@dataclass
class State:
    """Where the solver is: scaled potentials at one regularisation, and what it took."""

    reg: float
    u: np.ndarray
    v: np.ndarray
    sums: np.ndarray | None = None
    error: float = np.inf
    n_sweeps: int = 0
    n_newton: int = 0
    n_cg: int = 0
    errors: list = field(default_factory=list)
    values: list = field(default_factory=list)
    regs: list = field(default_factory=list)


def check_options(n_warmup, annealing, max_iter, tol, sparsify, density, least_iter):
    if isinstance(n_warmup, str):
        if n_warmup != "auto":
            raise ValueError(f"n_warmup must be 'auto' or an integer >= 0, got {n_warmup!r}.")
    else:
        n_warmup = check_count(n_warmup, "n_warmup", 0)
    if annealing is not None and annealing != "auto":
        if isinstance(annealing, str) or not check_positive(annealing, "annealing") > 1:
            raise ValueError(
                f"annealing must be 'auto', None or a factor above 1, got {annealing!r}."
            )
    max_iter = check_count(max_iter, "max_iter", least_iter)
    tol = check_positive(tol, "tol")
    if sparsify not in ("adaptive", "topk"):
        raise ValueError(f"sparsify must be 'adaptive' or 'topk', got {sparsify!r}.")
    if sparsify == "topk":
        if density is None:
            raise ValueError("sparsify='topk' needs density, the share of entries that is kept.")
        if not 0 < check_positive(density, "density") <= 1:
            raise ValueError(f"density must be in (0, 1], got {density!r}.")
    return Options(n_warmup, annealing, max_iter, tol, sparsify, density)
