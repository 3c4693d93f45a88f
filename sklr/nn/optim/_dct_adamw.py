"""AdamW with its averages in a few columns of a cosine basis."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from sklr.nn.optim._base import (
    BaseOptimizer,
    adamw_step,
    add_product,
    as_matrix,
    check_betas,
    check_count,
    check_flag,
    check_number,
    check_rank,
    check_word,
    is_matrix,
    refuse_change,
    resolve_rank,
    state_dtype,
)
from sklr.nn.optim._cosines import (
    NORMS,
    TRANSFORMS,
    basis,
    column_norms,
    columns,
    has_matrix,
    largest,
    transform,
)


class DCTAdamW(BaseOptimizer):
    r"""AdamW whose averages are kept for a few cosines of each layer, chosen by its gradient.

    The gradient of a layer, as a matrix :math:`G` with the smaller dimension last, is written in
    the orthonormal cosine basis :math:`Q` (DCT-II); the `rank` columns of :math:`G Q` with the
    largest norms go through AdamW, and its step comes back through the same columns of
    :math:`Q`. Nothing is decomposed, and a layer keeps `rank` integers of its subspace.

    Parameters
    ----------
    params : iterable of Parameter, of (name, Parameter) or of dict
        What to optimise, or groups of it with options of their own.
    lr : float, default=1e-3
        Learning rate.
    betas : tuple of two floats, default=(0.9, 0.999)
        Factors of the averages of gradients and of their squares.
    eps : float, default=1e-8
        Is added to the root of the average square.
    weight_decay : float, default=0.01
        Weight decay beside the gradient, as AdamW's.
    rank : int or float, default=128
        Columns of each layer, or their share in (0, 1) of its smaller dimension, but at least 16.
        A layer whose smaller dimension is not above has AdamW itself, as have parameters of one
        dimension.
    update_gap : int, default=1
        Steps between two choices of columns. A step without one costs less.
    error_feedback : bool, default=True
        Whether what the columns leave of a gradient is added to the next one. It takes the memory
        of a gradient, and training goes better at small ranks.
    rotate : bool, default=True
        Whether the averages of a column follow it when the choice changes, and new columns begin
        at zero. Without it averages of one frequency are used for another.
    norm : {"l1", "l2"}, default="l2"
        What columns are ranked by.
    transform : {"auto", "matmul", "fft"}, default="auto"
        By a product with the basis, or by a fast transform; "auto" takes this from 1,024 columns
        on (on a GPU from 8,192).
    max_dim : int, default=32000
        Parameters with a dimension as large (tables of tokens, heads on them) have AdamW itself.

    See Also
    --------
    Trion : Orthogonalises the same columns instead.
    torch.optim.AdamW : For whom the memory of two averages is no concern.

    Notes
    -----
    State of an m x n layer, m >= n: ``2 m rank`` numbers and `rank` integers, and ``m n`` with
    `error_feedback`; AdamW has ``2 m n``. A step costs the transform, O(m n^2) or
    O(m n log n), and two or three products of O(m n rank). A random matrix of low rank is caught
    by its singular vectors and not by cosines; gradients with smooth rows are by both.
    On a CPU one step of power iteration (as in other methods of the kind) is cheaper than the
    transform at small ranks; `update_gap` is what makes steps cheap here.

    Sparse, complex and non-finite gradients are refused before anything is stepped. Parameters in
    half precision have averages in float32. ``state_dict`` has all that a resumed run needs to be
    the same run.

    References
    ----------
    .. [1] I.-V. Modoranu et al., "SVD-free low-rank adaptive gradient optimization for large
       language models", arXiv:2505.17967, 2025.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.optim import DCTAdamW
    >>> layer = torch.nn.Linear(64, 64)
    >>> optimizer = DCTAdamW(layer.parameters(), lr=1e-3, rank=8, error_feedback=False)
    >>> layer(torch.ones(2, 64)).square().mean().backward()
    >>> optimizer.step()
    >>> adamw = 2 * 4 * 64 * 65  # bytes of two averages
    >>> optimizer.state_bytes() < 0.2 * adamw
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        rank: int | float = 128,
        update_gap: int = 1,
        error_feedback: bool = True,
        rotate: bool = True,
        norm: str = "l2",
        transform: str = "auto",
        max_dim: int = 32000,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "rank": rank,
            "update_gap": update_gap,
            "error_feedback": error_feedback,
            "rotate": rotate,
            "norm": norm,
            "transform": transform,
            "max_dim": max_dim,
        }
        super().__init__(params, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_number(group, "lr", least=0)
        check_betas(group)
        check_number(group, "eps", least=0)
        check_number(group, "weight_decay", least=0)
        check_rank(group)
        check_count(group, "update_gap")
        check_flag(group, "error_feedback")
        check_flag(group, "rotate")
        check_word(group, "norm", NORMS)
        check_word(group, "transform", TRANSFORMS)
        check_count(group, "max_dim")

    def _update(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        whole = []
        for p in parameters:
            rank = resolve_rank(p, group["rank"]) if is_matrix(p, group["max_dim"]) else None
            if self.state[p]:
                had = self.state[p]["exp_avg"].shape[1] if "columns" in self.state[p] else "all"
                refuse_change("rank or max_dim", f"rank {had}", f"rank {rank or 'all'}")
            if rank is None:
                whole.append(p)
            else:
                self._matrix_step(p, group, rank)
        adamw_step(
            self,
            whole,
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )

    def _begin(self, p: torch.Tensor, rank: int) -> None:
        state, n_rows = self.state[p], as_matrix(p).shape[0]
        state["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
        averages = torch.zeros(n_rows, rank, dtype=state_dtype(p), device=p.device)
        state["exp_avg"], state["exp_avg_sq"] = averages, averages.clone()

    def _matrix_step(self, p: torch.Tensor, group: dict[str, Any], rank: int) -> None:
        state: dict[str, Any] = self.state[p]
        if not state:
            self._begin(p, rank)
        if not group["error_feedback"]:
            state.pop("error", None)
        elif "error" not in state:
            state["error"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
        state["step"] += 1
        step = int(state["step"])
        # The gradient itself stays as it is.
        gradient: Any = p.grad
        if "error" in state:
            gradient = state["error"].add_(gradient)
        A = as_matrix(gradient).to(state["exp_avg"].dtype)
        n, how = A.shape[1], group["transform"]
        if "columns" not in state or step % group["update_gap"] == 0:
            S = transform(A, how)
            former = state.get("columns")
            idx = largest(column_norms(S, group["norm"]), state["exp_avg"].shape[1], former)
            if former is not None and group["rotate"]:
                _follow(state, former, idx)
            state["columns"] = idx
            Q = self._columns(idx, n, A, how)
            a = S.index_select(1, idx)
        else:
            Q = self._columns(state["columns"], n, A, how)
            a = A @ Q
        if "error" in state:
            add_product(state["error"], a, Q, keep=1.0, alpha=-1.0)

        beta1, beta2 = group["betas"]
        average, square = state["exp_avg"], state["exp_avg_sq"]
        average.lerp_(a, 1 - beta1)
        square.mul_(beta2).addcmul_(a, a, value=1 - beta2)
        root = math.sqrt(1 - beta2**step)
        direction = average / (square.sqrt() / root).add_(group["eps"])
        lr = float(group["lr"])
        add_product(
            p,
            direction,
            Q,
            keep=1 - lr * group["weight_decay"],
            alpha=-lr / (1 - beta1**step),
        )

    @staticmethod
    def _columns(idx: torch.Tensor, n: int, A: torch.Tensor, how: str) -> torch.Tensor:
        if has_matrix(n, how, A.device):
            return basis(n, A.dtype, A.device).index_select(1, idx)
        return columns(idx, n, A.dtype)


def _follow(state: dict[str, Any], former: torch.Tensor, idx: torch.Tensor) -> None:
    """Move averages to where their columns are now; new columns begin at zero."""
    # Both are ascending, and columns of one orthonormal basis: their product is 0 and 1.
    place = torch.searchsorted(former, idx).clamp_(max=len(former) - 1)
    stays = former[place] == idx
    for name in ("exp_avg", "exp_avg_sq"):
        moved = state[name].index_select(1, place)
        state[name].copy_(torch.where(stays, moved, 0))
