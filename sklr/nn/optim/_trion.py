"""Momentum, orthogonalised within a few columns of a cosine basis."""

import math
from collections.abc import Iterable
from typing import Any

import torch

from sklr.nn.optim._base import (
    BaseOptimizer,
    adamw_step,
    add_product,
    as_matrix,
    check_count,
    check_number,
    check_rank,
    check_word,
    is_matrix,
    refuse_change,
    resolve_rank,
    state_dtype,
)
from sklr.nn.optim._cosines import basis, column_norms, columns, has_matrix, largest, transform

# Factor of the orthogonal step, of rank r, of an R x C parameter.
SCALES = {
    "muon": lambda R, C, r: math.sqrt(max(1.0, R / C)),
    "moonshot": lambda R, C, r: 0.2 * math.sqrt(max(R, C)),
    "rms": lambda R, C, r: 0.2 * math.sqrt(R * C / r),
    "dion": lambda R, C, r: math.sqrt(R / C),
    "none": lambda R, C, r: 1.0,
}
# A quintic whose iterates carry singular values in (0, 1] near to 1.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Trion(BaseOptimizer):
    r"""Momentum whose part in a few cosines of each layer is made orthogonal.

    The momentum :math:`B` of a layer is written in the orthonormal cosine basis (DCT-II); its
    `rank` largest columns are orthogonalised by Newton and Schulz' iteration, as Muon does with
    the whole matrix, and make the step. What they hold decays by `momentum`, all else stays.

    Parameters
    ----------
    params : iterable of Parameter, of (name, Parameter) or of dict
        What to optimise, or groups of it with options of their own.
    lr : float, default=0.02
        Learning rate of matrices. With ``scale="rms"`` one of AdamW's size.
    momentum : float, default=0.95
        Factor of the momentum within the chosen columns.
    weight_decay : float, default=0.0
        Weight decay beside the gradient.
    rank : int or float, default=128
        Columns of each layer, or their share in (0, 1) of its smaller dimension, but at least 16.
        A layer whose smaller dimension is not above is orthogonalised whole.
    scale : {"muon", "moonshot", "rms", "dion", "none"}, default="muon"
        Factor of the step of an R x C layer: ``sqrt(max(1, R / C))``; ``0.2 sqrt(max(R, C))``,
        with which the root mean square of a step of full rank is 0.2 `lr`, as AdamW's mostly is;
        ``0.2 sqrt(R C / rank)``, with which it is at every rank; ``sqrt(R / C)``; 1.
    aux_lr : float, default=3e-4
        Learning rate of AdamW (betas .9 and .95) for biases and other parameters that are no
        matrix. It follows `lr` where a scheduler changes that.
    ns_steps : int, default=5
        Newton-Schulz iterations.
    max_dim : int, default=32000
        Parameters with a dimension as large (tables of tokens, heads on them) have AdamW.

    See Also
    --------
    DCTAdamW : Averages of squares instead, in less memory.
    torch.optim.Muon : Orthogonalises the whole momentum.

    Notes
    -----
    State of an m x n layer: ``m n`` numbers, half of AdamW's. A step costs the transform,
    O(m n^2) or O(m n log n), and O(m n rank + m rank^2 ns_steps).

    Heads of classification are matrices as well; the rule for large models is to give embeddings
    and heads to AdamW: put them into an optimiser of their own.

    Sparse, complex and non-finite gradients are refused before anything is stepped.

    References
    ----------
    .. [1] I.-V. Modoranu et al., "SVD-free low-rank adaptive gradient optimization for large
       language models", arXiv:2505.17967, 2025.
    .. [2] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.optim import Trion
    >>> layer = torch.nn.Linear(64, 32)
    >>> optimizer = Trion(layer.parameters(), rank=8)
    >>> layer(torch.ones(2, 64)).square().mean().backward()
    >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        rank: int | float = 128,
        scale: str = "muon",
        aux_lr: float = 3e-4,
        ns_steps: int = 5,
        max_dim: int = 32000,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "rank": rank,
            "scale": scale,
            "aux_lr": aux_lr,
            "ns_steps": ns_steps,
            "max_dim": max_dim,
        }
        super().__init__(params, defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        check_number(group, "lr", least=0)
        check_number(group, "momentum", least=0, below=1)
        check_number(group, "weight_decay", least=0)
        check_rank(group)
        check_word(group, "scale", SCALES)
        check_number(group, "aux_lr", least=0)
        check_count(group, "ns_steps")
        check_count(group, "max_dim")
        # What schedules are measured by: the rate that aux_lr was given beside.
        group.setdefault("given_lr", float(group["lr"]))

    def _update(self, group: dict[str, Any], parameters: list[torch.Tensor]) -> None:
        rest = []
        for p in parameters:
            matrix = is_matrix(p, group["max_dim"])
            if self.state[p]:
                kinds = ("AdamW", "a matrix")
                refuse_change("max_dim", kinds["momentum" in self.state[p]], kinds[matrix])
            if matrix:
                self._matrix_step(p, group)
            else:
                rest.append(p)
        lr, given = float(group["lr"]), group["given_lr"]
        adamw_step(
            self,
            rest,
            lr=group["aux_lr"] * (lr / given if given else 1.0),
            betas=(0.9, 0.95),
            eps=1e-10,
            weight_decay=group["weight_decay"],
        )

    def _matrix_step(self, p: torch.Tensor, group: dict[str, Any]) -> None:
        state: dict[str, Any] = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p, memory_format=torch.contiguous_format)
        momentum = state["momentum"].add_(p.grad)
        B = as_matrix(momentum).to(state_dtype(p))
        rank, n = resolve_rank(p, group["rank"]), B.shape[1]
        if rank is None:
            # The iteration commutes with the basis, which all of it would be written in.
            direction, Q = orthogonalised(B, group["ns_steps"]), None
            momentum.mul_(group["momentum"])
        else:
            S = transform(B, "auto")
            idx = largest(column_norms(S, "l2"), rank)
            b = S.index_select(1, idx)
            whole = has_matrix(n, "auto", B.device)
            Q = (
                basis(n, B.dtype, B.device).index_select(1, idx)
                if whole
                else columns(idx, n, B.dtype)
            )
            add_product(momentum, b, Q, keep=1.0, alpha=group["momentum"] - 1)
            direction = orthogonalised(b, group["ns_steps"])
        lr = float(group["lr"])
        R, C = p.shape[0], p.numel() // p.shape[0]
        keep, alpha = 1 - lr * group["weight_decay"], -lr * SCALES[group["scale"]](R, C, rank or n)
        if Q is not None:
            add_product(p, direction, Q, keep=keep, alpha=alpha)
            return
        matrix = direction if R >= C else direction.T
        p.mul_(keep).add_(matrix.reshape(p.shape).to(p.dtype), alpha=alpha)


def orthogonalised(X: torch.Tensor, n_steps: int) -> torch.Tensor:
    """Return a tall matrix with its singular values carried near to 1; zero stays zero."""
    a, b, c = _NEWTON_SCHULZ
    X = X / X.norm().clamp_min(1e-7 if X.dtype == torch.float32 else 1e-30)
    for _ in range(n_steps):
        A = X.T @ X
        X = torch.addmm(X, X, torch.addmm(A, A, A, beta=b, alpha=c), beta=a)
    return X
