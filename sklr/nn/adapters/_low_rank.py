"""Adapters of two trained matrices: LoRA, and Block-LoRA."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import nn

from sklr.nn.adapters._base import (
    _Adapter,
    checked_choice,
    checked_dropout,
    checked_number,
    checked_rank,
    generator_of,
)


class LoRA(_Adapter):
    r"""Change of low rank: the weight becomes ``W + scale * B @ A``.

    Parameters
    ----------
    weight : Tensor of two or more axes
        The weight; one of more axes counts as the matrix of its first axis times the others.
    rank : int or float, default=None
        Columns of B, rows of A. A float is the share of the weight's parameters that both have.
        None is 8, or less where the weight is smaller.
    alpha : float, default=None
        ``scale`` is ``alpha / rank``; None is a scale of 1.
    dropout : float, default=0.0
        Probability that an input of A is dropped in training; works in layers only
        (:func:`add_adapter`), a parametrization sees no inputs.
    transposed : bool, default=False
        Whether the weight is stored as inputs times outputs (Hugging Face's ``Conv1D``).
    table : bool, default=False
        Whether its rows are looked up by ids (``Embedding``).
    padding_idx : int, default=None
        Row of a table that stays as it is.
    random_state : int, RandomState instance or None, default=None
        Seed of A; None takes torch's generator. B is 0.

    Attributes
    ----------
    A : Parameter of shape (rank, inputs)
        Uniform at first, within ``1 / sqrt(inputs)`` (tables: within 1).
    B : Parameter of shape (outputs, rank)
        Zero at first, so that the network says what it said.

    See Also
    --------
    add_adapter : Puts it into the layers of a network.
    SVFit : Trains a few singular values instead.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022,
       arXiv:2106.09685.

    Examples
    --------
    >>> import torch
    >>> from torch.nn.utils import parametrize
    >>> from sklr.nn.adapters import LoRA
    >>> layer = torch.nn.Linear(64, 32)
    >>> adapter = LoRA(layer.weight, rank=4, random_state=0)
    >>> layer = parametrize.register_parametrization(layer, "weight", adapter)
    >>> sum(p.numel() for p in adapter.parameters())
    384
    """

    kind = "lora"

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int | float | None = None,
        *,
        alpha: float | None = None,
        dropout: float = 0.0,
        transposed: bool = False,
        table: bool = False,
        padding_idx: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(weight, transposed=transposed, table=table, padding_idx=padding_idx)
        m, n = self.matrix_shape
        self.rank = checked_rank(rank, m, n, default=8)
        self.alpha = checked_number("alpha", alpha)
        self.dropout = checked_dropout(dropout)
        self.scale = 1.0 if self.alpha is None else self.alpha / self.rank
        self._make(weight, self.rank, (m, self.rank), random_state)

    def _make(self, weight: Any, width: int, shape_of_B: tuple, random_state: Any) -> None:
        n, dtype = self.matrix_shape[1], self._own_dtype(weight)
        bound = 1.0 if self.table else 1.0 / math.sqrt(n)
        A = torch.empty(width, n, dtype=dtype)
        A.uniform_(-bound, bound, generator=generator_of(random_state))
        self.A = nn.Parameter(A.to(weight.device))
        self.B = nn.Parameter(torch.zeros(shape_of_B, dtype=dtype, device=weight.device))

    @property
    def width(self) -> int:
        """Width of the path."""
        return len(self.A)

    def _down(self) -> torch.Tensor:
        return self.A

    def _up(self) -> torch.Tensor:
        return self.B

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made."""
        return {"rank": self.rank, "alpha": self.alpha, "dropout": self.dropout}


class BlockLoRA(LoRA):
    r"""LoRA whose A is one small block, shared by the blocks of B.

    With B in `n_blocks` blocks of ``rank / n_blocks`` columns and one block A of as many rows, the
    change is ``scale * sum(B_i) @ A``. Its rank is ``rank / n_blocks``, not `rank`: blocks that
    begin at zero stay equal, so the method is LoRA of that rank whose B learns `n_blocks` times as
    fast, to the last bit where `n_blocks` is a power of two. So the sum of the blocks is stored
    here, and :func:`adapter_param_groups` has the rate.

    Parameters
    ----------
    weight : Tensor of two or more axes
        The weight; one of more axes counts as the matrix of its first axis times the others.
    rank : int or float, default=None
        Columns of all blocks of B together, a multiple of `n_blocks`. None is 8, or less where the
        weight is smaller.
    n_blocks : int, default=2
        Number of blocks; 1 is LoRA.
    alpha : float, default=None
        ``scale`` is ``alpha / rank``; None is a scale of 1.
    tied : bool, default=True
        Whether the sum of the blocks is stored instead of the blocks. False is the literal
        method: more numbers, the same results.
    dropout : float, default=0.0
        As in :class:`LoRA`.
    transposed : bool, default=False
        As in :class:`LoRA`.
    table : bool, default=False
        As in :class:`LoRA`.
    padding_idx : int, default=None
        As in :class:`LoRA`.
    random_state : int, RandomState instance or None, default=None
        As in :class:`LoRA`.

    Attributes
    ----------
    A : Parameter of shape (rank / n_blocks, inputs)
        The shared block.
    B : Parameter of shape (outputs, rank / n_blocks), or (n_blocks, outputs, rank / n_blocks)
        The sum of the blocks, or the blocks.

    See Also
    --------
    LoRA : The same with a block for each block.

    References
    ----------
    .. [1] C. Zhou, Q. Shen, Z. Yu, J. Bu and H. Wang, "One head eight arms: block matrix based low
       rank adaptation for CLIP-based few-shot learning", 2025, arXiv:2501.16720.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import BlockLoRA
    >>> weight = torch.zeros(384, 384)
    >>> for tied in (True, False):
    ...     adapter = BlockLoRA(weight, rank=8, n_blocks=2, tied=tied)
    ...     print(sum(p.numel() for p in adapter.parameters()), adapter.effective_rank())
    3072 4
    4608 4
    """

    kind = "block_lora"
    n_blocks: int
    tied: bool

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int | float | None = None,
        n_blocks: int = 2,
        *,
        alpha: float | None = None,
        tied: bool = True,
        dropout: float = 0.0,
        transposed: bool = False,
        table: bool = False,
        padding_idx: int | None = None,
        random_state: Any = None,
    ) -> None:
        _Adapter.__init__(self, weight, transposed=transposed, table=table, padding_idx=padding_idx)
        m, n = self.matrix_shape
        if isinstance(n_blocks, bool) or not isinstance(n_blocks, Integral) or n_blocks < 1:
            raise ValueError(f"n_blocks must be an integer of at least 1, got {n_blocks!r}")
        whole = isinstance(rank, Integral)
        # The blocks together may be wider than the weight: their sum is not.
        r = int(rank) if whole and rank > 0 else checked_rank(rank, m, n, default=8)
        if not whole:
            r = max(r // n_blocks, 1) * n_blocks
        if r % n_blocks:
            raise ValueError(
                f"rank must be a multiple of n_blocks, got rank={r} and n_blocks={n_blocks}"
            )
        width = checked_rank(r // n_blocks, m, n, default=8)
        self.rank, self.n_blocks = r, int(n_blocks)
        self.tied = checked_choice("tied", tied, (True, False))
        self.alpha = checked_number("alpha", alpha)
        self.dropout = checked_dropout(dropout)
        self.scale = 1.0 if self.alpha is None else self.alpha / self.rank
        self.rates = {"B": float(n_blocks)} if tied else {}
        self._make(weight, width, (m, width) if tied else (n_blocks, m, width), random_state)

    def _up(self) -> torch.Tensor:
        return self.B if self.tied else self.B.sum(dim=0)

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made."""
        return super()._settings() | {"n_blocks": self.n_blocks, "tied": self.tied}
