"""FLoRA: a change in Tucker form, with a factor for each axis of the weight."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sklr.nn.adapters._base import (
    _Adapter,
    checked_choice,
    checked_dropout,
    checked_number,
    generator_of,
)


class FLoRA(_Adapter):
    r"""Change in Tucker form: a small core, and a factor for each axis of the weight.

    Parameters
    ----------
    weight : Tensor of two or more axes
        The weight: of a linear layer (out, in), of a convolution (out, in, window...).
    rank : int or tuple of int, default=8
        Rank of each axis, in torch's order; an integer is that of the first two axes, or less
        where they are smaller, with all of a window up to 3.
    scale : float or "auto", default="auto"
        What the change is multiplied by; "auto" is 4 for more than two axes, else 1.
    init : {"kaiming", "normal"}, default="kaiming"
        First factors: normal with variance ``0.5 / rank`` of the axis, or 0.0004. The core is 0.
    dropout : float, default=0.0
        As in :class:`LoRA`.
    transposed : bool, default=False
        As in :class:`LoRA`.
    table : bool, default=False
        As in :class:`LoRA`.
    padding_idx : int, default=None
        As in :class:`LoRA`.
    random_state : int, RandomState instance or None, default=None
        Seed of the factors; None takes torch's generator.

    Attributes
    ----------
    core : Parameter of shape `rank`
        The core; zero at first, so that the network says what it said.
    factor_0, factor_1, ... : Parameter of shape (length of the axis, its rank)
        The factors.

    See Also
    --------
    LoRA : Two factors, whatever the number of axes.

    Notes
    -----
    For matrices it is LoRA with a small square matrix in the middle, and no better in our tests.

    References
    ----------
    .. [1] C. Si et al., "FLoRA: low-rank core space for N-dimension", 2024, arXiv:2405.14739.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import FLoRA
    >>> adapter = FLoRA(torch.zeros(32, 16, 3, 3), rank=(4, 4, 2, 2))
    >>> sum(p.numel() for p in adapter.parameters())
    268
    """

    kind = "flora"
    decays = False  # factors would shrink before the core has left zero
    INITS = ("kaiming", "normal")

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int | Sequence[int] = 8,
        *,
        scale: float | str = "auto",
        init: str = "kaiming",
        dropout: float = 0.0,
        transposed: bool = False,
        table: bool = False,
        padding_idx: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(weight, transposed=transposed, table=table, padding_idx=padding_idx)
        self.ranks = _ranks(8 if rank is None else rank, self.shape)
        self._scale = scale
        if isinstance(scale, str):
            checked_choice("scale", scale, ("auto",))
            self.scale = 4.0 if len(self.shape) > 2 else 1.0
        else:
            self.scale = checked_number("scale", scale, allow_none=False)  # type: ignore[assignment]
        self.init = checked_choice("init", init, self.INITS)
        self.dropout = checked_dropout(dropout)
        generator, dtype = generator_of(random_state), self._own_dtype(weight)
        self.core = nn.Parameter(torch.zeros(self.ranks, dtype=dtype, device=weight.device))
        for axis, (d, r) in enumerate(zip(self.shape, self.ranks)):
            std = (0.5 / r) ** 0.5 if init == "kaiming" else 0.02
            values = torch.empty(d, r, dtype=dtype).normal_(0.0, std, generator=generator)
            setattr(self, f"factor_{axis}", nn.Parameter(values.to(weight.device)))

    def _factor(self, axis: int) -> torch.Tensor:
        return getattr(self, f"factor_{axis}")

    @property
    def width(self) -> int:
        """Width of the path."""
        return max(self.ranks[:2]) if len(self.shape) == 2 else min(self.matrix_shape)

    def effective_rank(self) -> int:
        """Return the largest rank that the change can have.

        Returns
        -------
        rank : int
            Of the change as a matrix.
        """
        inner = 1
        for r in self.ranks[1:]:
            inner *= r
        return min(self.ranks[0], inner)

    # The path of a matrix.

    def _down(self) -> torch.Tensor:
        return self._factor(0 if self.transposed else 1).T

    def _up(self) -> torch.Tensor:
        return self._factor(1 if self.transposed else 0)

    def _mix(self, h: torch.Tensor) -> torch.Tensor:
        return F.linear(h, self.core.T if self.transposed else self.core)

    def delta(self) -> torch.Tensor:
        """Return the change, in the shape of the weight.

        Returns
        -------
        delta : Tensor
            What is added to the weight.
        """
        if len(self.shape) == 2:
            return super().delta()
        return self.scale * self._contracted(0)

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two matrices whose product is the change.

        Returns
        -------
        down, up : Tensor
            The change, as the matrix of its first axis times the others, is ``up @ down``.
        """
        if len(self.shape) == 2:
            return super().factors()
        return self._contracted(1).flatten(1), self.scale * self._factor(0)

    def _contracted(self, first: int) -> torch.Tensor:
        """Return the core times the factors of the axes from `first` on."""
        found: torch.Tensor = self.core
        # The last axis is multiplied and becomes the first; small ones (windows) come before the
        # large ones.
        for axis in reversed(range(first, len(self.shape))):
            rest = found.shape[:-1]
            rows = found.reshape(-1, found.shape[-1])
            found = (self._factor(axis) @ rows.T).reshape(self.shape[axis], *rest)
        # After all of them the order is as before; those that are left stand last.
        return found.movedim(tuple(range(-first, 0)), tuple(range(first))) if first else found

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made."""
        return {
            "rank": list(self.ranks),
            "scale": self._scale,
            "dropout": self.dropout,
        }


def _ranks(rank: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the rank of each axis."""

    def whole(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1

    if whole(rank):
        most = (rank, rank, *[3] * (len(shape) - 2))
        return tuple(min(int(r), d) for r, d in zip(most, shape))
    if not isinstance(rank, (tuple, list)) or not all(map(whole, rank)):
        raise ValueError(
            f"rank must be an integer of at least 1 or a tuple of them, one for each axis of the "
            f"weight, got {rank!r}"
        )
    if len(rank) != len(shape):
        raise ValueError(
            f"rank has {len(rank)} entries and the weight {len(shape)} axes, of shape {shape}"
        )
    for axis, (r, d) in enumerate(zip(rank, shape)):
        if r > d:
            raise ValueError(
                f"rank[{axis}] must be at most {d}, the length of axis {axis} of the weight of "
                f"shape {shape}, got {r}"
            )
    return tuple(map(int, rank))
