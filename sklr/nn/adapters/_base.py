"""What every adapter is: a change of one weight, with few numbers to train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class _Adapter(nn.Module):
    """A change of one weight; as a parametrization, ``forward(weight)`` returns weight + change.

    The change of the matrix (outputs times inputs) is ``scale * up @ M @ down``, with M what
    `_mix` multiplies a row with. A subclass writes `_down`, `_up`, and `_mix` where M is not the
    identity.
    """

    kind = ""
    #: Parameter -> what its learning rate is multiplied by.
    rates: dict[str, float] = {}
    #: Whether weight decay of its parameters pulls to the given weight.
    decays = True
    dropout = 0.0
    scale = 1.0

    def __init__(
        self, weight: Any, *, transposed: bool, table: bool, padding_idx: int | None
    ) -> None:
        super().__init__()
        self.shape = tuple(checked_weight(weight).shape)
        self.transposed, self.table, self.padding_idx = transposed or table, table, padding_idx
        if self.transposed and len(self.shape) != 2:
            raise ValueError(f"only matrices can be transposed, the weight has shape {self.shape}")

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Outputs and inputs of the weight as a matrix."""
        m, n = self.shape[0], math.prod(self.shape[1:])
        return (n, m) if self.transposed else (m, n)

    def _matrix_of(self, weight: torch.Tensor) -> torch.Tensor:
        weight = weight.detach().to(self._own_dtype(weight))
        return weight.T if self.transposed else weight.flatten(1)

    @staticmethod
    def _own_dtype(weight: torch.Tensor) -> torch.dtype:
        # Half precision loses small steps; so peft has it too.
        return torch.float64 if weight.dtype == torch.float64 else torch.float32

    def _down(self) -> torch.Tensor:
        raise NotImplementedError

    def _up(self) -> torch.Tensor:
        raise NotImplementedError

    def _mix(self, h: torch.Tensor) -> torch.Tensor:
        return h

    @property
    def width(self) -> int:
        """Width of the path."""
        raise NotImplementedError

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two matrices, (width, inputs) and (outputs, width), whose product is the change.

        Returns
        -------
        down, up : Tensor
            The change is ``up @ down``.
        """
        return self._mix(self._down().T).T, self.scale * self._up()

    def delta(self) -> torch.Tensor:
        """Return the change, in the shape of the weight.

        Returns
        -------
        delta : Tensor
            What is added to the weight.
        """
        down, up = self.factors()
        change = (down.T @ up.T if self.transposed else up @ down).reshape(self.shape)
        return self._without_padding(change)

    def _without_padding(self, change: torch.Tensor) -> torch.Tensor:
        if self.padding_idx is None:
            return change
        # The row of the padding is a constant, for torch's Embedding as well.
        row = torch.tensor([self.padding_idx], device=change.device)
        return change.index_fill(0, row, 0.0)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the adapted weight.

        Parameters
        ----------
        weight : Tensor
            The given one.

        Returns
        -------
        adapted : Tensor
            In its shape and type.
        """
        return (weight + self.delta()).to(weight.dtype)

    # The low-rank path.

    def add_to(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return a linear layer's output with the change added, by way of the narrow path.

        Parameters
        ----------
        output : Tensor of shape (..., outputs)
            Of the given layer.
        x : Tensor of shape (..., inputs)
            The layer's input.

        Returns
        -------
        output : Tensor of shape (..., outputs)
            Of the adapted layer.
        """
        down = self._down()
        if self.dropout and self.training:
            x = F.dropout(x, self.dropout)
        return self._finish(output, F.linear(x.to(down.dtype), down))

    def add_rows_to(self, output: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Return an embedding's output with the change of its rows added.

        Parameters
        ----------
        output : Tensor of shape (..., outputs)
            Of the given table.
        ids : Tensor of int
            The rows that are looked up.

        Returns
        -------
        output : Tensor of shape (..., outputs)
            Of the adapted table.
        """
        h = F.embedding(ids, self._down().T)
        if self.padding_idx is not None:
            h = h.masked_fill((ids == self.padding_idx)[..., None], 0.0)
        return self._finish(output, h)

    def _finish(self, output: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        h, up = self._mix(h), self._up()
        if output.dtype != h.dtype:  # half precision, or autocast
            return output + (self.scale * F.linear(h, up)).to(output.dtype)
        # One product that adds to the output: no further tensor of its size.
        flat = torch.addmm(
            output.reshape(-1, len(up)), h.reshape(-1, h.shape[-1]), up.T, alpha=self.scale
        )
        return flat.reshape(output.shape)

    def _path_is_cheaper(self, n_rows: int) -> bool:
        """Return whether `n_rows` rows go quicker through the path than through a new weight."""
        m, n = self.matrix_shape
        if not torch.is_grad_enabled():
            return n_rows * (m + n) < m * n
        # With the gradient of a whole weight, which the path does not need.
        return 3 * n_rows * (m + n) * self.width < n_rows * m * n + 3 * m * n * self.width

    # What a file needs.

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made, as JSON takes them."""
        raise NotImplementedError

    def _bases(self) -> dict[str, torch.Tensor]:
        """Return the buffers that are computed from the weight."""
        return dict(self.named_buffers())

    @property
    def bases_are_unique(self) -> bool:
        """Whether another machine computes the same buffers from the same weight."""
        return True

    def effective_rank(self) -> int:
        """Return the largest rank that the change can have.

        Returns
        -------
        rank : int
            Of the change as a matrix.
        """
        return self.width

    def extra_repr(self) -> str:
        """Return what ``print`` shows.

        Returns
        -------
        shown : str
            The parameters.
        """
        return ", ".join(f"{key}={value!r}" for key, value in self._settings().items())


def checked_weight(weight: Any) -> torch.Tensor:
    """Return a weight that can be adapted.

    Raises
    ------
    TypeError
        It is no tensor of real numbers.
    ValueError
        It is no matrix, or is empty, or has entries that are not finite.
    """
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"weight must be a torch.Tensor, got {type(weight).__name__}")
    if not weight.is_floating_point():
        raise TypeError(
            f"weight must be of real numbers, got {str(weight.dtype).removeprefix('torch.')}: "
            "quantised weights are adapted beside an unquantised path (CompensatedLinear)"
        )
    if weight.ndim < 2 or not weight.numel():
        raise ValueError(f"weight must have two axes or more, got shape {tuple(weight.shape)}")
    return weight


def finite(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight that can be decomposed, all of whose entries are finite."""
    if not bool(weight.isfinite().all()):
        raise ValueError("weight has entries that are not finite")
    return weight


def checked_rank(
    rank: Any, m: int, n: int, *, default: int, share: str = "parameters", strings: str = ""
) -> int:
    """Return a rank between 1 and min(m, n).

    Parameters
    ----------
    rank : int, float or None
        A number; a share of the layer's parameters, or of its singular values, as `share` says;
        None is `default`, or less where the matrix is smaller.
    m, n : int
        Outputs and inputs.
    default : int
        The rank where `rank` is None.
    share : {"parameters", "values"}
        What a float is a share of.
    strings : str
        What else is allowed, for the message.
    """
    least = min(m, n)
    if rank is None:
        return min(default, least)
    if isinstance(rank, Integral) and not isinstance(rank, bool):
        if not 1 <= int(rank) <= least:
            side = "outputs" if m < n else "inputs"
            raise ValueError(
                f"rank must be between 1 and {least}, the number of its {side} (the weight is "
                f"{m} x {n}), got {rank}"
            )
        return int(rank)
    if isinstance(rank, Real) and not isinstance(rank, bool) and 0 < float(rank) <= 1:
        most = m * n / (m + n) if share == "parameters" else least
        return max(1, int(float(rank) * most + 1e-9))
    raise ValueError(
        f"rank must be None, an integer of at least 1{strings} or a share in (0, 1] of the "
        f"{share}, got {rank!r}"
    )


def checked_dropout(dropout: Any) -> float:
    """Return a probability below 1."""
    if isinstance(dropout, bool) or not isinstance(dropout, Real) or not 0 <= float(dropout) < 1:
        raise ValueError(f"dropout must be a probability in [0, 1), got {dropout!r}")
    return float(dropout)


def checked_number(name: str, value: Any, *, allow_none: bool = True) -> float | None:
    """Return a finite number other than 0, or None."""
    if value is None and allow_none:
        return None
    good = isinstance(value, Real) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value == 0:
        raise ValueError(f"{name} must be a finite number other than 0, got {value!r}")
    return float(value)


def checked_choice(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return one of the allowed values."""
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def generator_of(random_state: Any) -> torch.Generator:
    """Return a generator on the CPU; None takes a seed from torch's own, as torch's layers do."""
    if random_state is None:
        seed = int(torch.randint(2**62, (1,), device="cpu").item())
    else:
        from sklearn.utils import check_random_state

        seed = int(check_random_state(random_state).randint(2**31 - 1))
    return torch.Generator().manual_seed(seed)
