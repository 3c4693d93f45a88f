"""Adapters that train a vector between two bases of the weight's own: SVFit and LoLDU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sklr.nn.adapters._base import (
    _Adapter,
    checked_choice,
    checked_number,
    checked_rank,
    finite,
    generator_of,
)
from sklr.utils._warnings import warn_user


class _Diagonal(_Adapter):
    """The change is ``left @ diag(d) @ right`` with fixed `left` and `right`."""

    decays = False
    left: torch.Tensor
    right: torch.Tensor

    def _difference(self) -> torch.Tensor:
        raise NotImplementedError

    def _keep(self, **buffers: torch.Tensor) -> None:
        for name, values in buffers.items():
            # Contiguous copies of their own: views would keep the whole factors.
            self.register_buffer(name, values.clone(memory_format=torch.contiguous_format))

    @property
    def width(self) -> int:
        """Width of the path."""
        return len(self.right)

    def _down(self) -> torch.Tensor:
        return self.right

    def _up(self) -> torch.Tensor:
        return self.left

    def _mix(self, h: torch.Tensor) -> torch.Tensor:
        return h * self._difference()

    def _path_is_cheaper(self, n_rows: int) -> bool:
        """Return whether `n_rows` rows go quicker through the path than through a new weight."""
        m, n = self.matrix_shape
        if not torch.is_grad_enabled():
            return n_rows * (m + n) < m * n
        # The bases have no gradients.
        return 2 * n_rows * (m + n) * self.width < n_rows * m * n + 2 * m * n * self.width


class SVFit(_Diagonal):
    r"""Trains leading singular values of a weight, between its own singular vectors.

    With ``W = U S V^T`` the weight becomes ``W + U_r diag(sigma - sigma_0) V_r^T``.

    Parameters
    ----------
    weight : Tensor of two or more axes
        The weight; one of more axes counts as the matrix of its first axis times the others.
    rank : int, float, "energy" or None, default=None
        Singular values that are trained: a number; a share of them; as few as have the share
        `energy` of the sum of their squares; None is all of them.
    energy : float, default=0.99
        What "energy" keeps.
    positive : bool, default=False
        Whether the values stay positive, as ``softplus(raw)``; False lets them change sign.
    transposed : bool, default=False
        As in :class:`LoRA`.
    table : bool, default=False
        As in :class:`LoRA`.
    padding_idx : int, default=None
        As in :class:`LoRA`.

    Attributes
    ----------
    sigma : Parameter of shape (rank,)
        The singular values; with `positive`, the `raw` of which they are the softplus.
    sigma_0 : Tensor of shape (rank,)
        What they were at first.
    left : Tensor of shape (outputs, rank)
        Left singular vectors.
    right : Tensor of shape (rank, inputs)
        Right singular vectors.

    See Also
    --------
    LoLDU : Bases by an LU decomposition, which is quicker to compute.
    LoRA : Trains the vectors too.

    Notes
    -----
    The decomposition takes O(m n min(m, n)) operations, once. It cannot turn singular subspaces:
    on a task far from the network's own, :class:`LoRA` reaches more.

    References
    ----------
    .. [1] C. Sun et al., "SVFit: parameter-efficient fine-tuning of large pre-trained models using
       singular values", 2024, arXiv:2409.05926.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import SVFit
    >>> weight = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> adapter = SVFit(weight)
    >>> adapter.sigma.tolist()
    [3.0, 2.0, 1.0]
    """

    kind = "svfit"
    sigma_0: torch.Tensor

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int | float | str | None = None,
        *,
        energy: float = 0.99,
        positive: bool = False,
        transposed: bool = False,
        table: bool = False,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(weight, transposed=transposed, table=table, padding_idx=padding_idx)
        m, n = self.matrix_shape
        share = checked_number("energy", energy, allow_none=False)
        if not 0 < share <= 1:  # type: ignore[operator]
            raise ValueError(f"energy must be in (0, 1], got {energy!r}")
        self.positive = checked_choice("positive", positive, (True, False))
        by_energy = isinstance(rank, str) and rank == "energy"
        if not by_energy:  # before the long work
            kept = checked_rank(rank, m, n, default=min(m, n), share="values", strings=", 'energy'")
        U, s, Vh = torch.linalg.svd(finite(self._matrix_of(weight)), full_matrices=False)
        squared = s.double().square().cumsum(0)
        if by_energy:
            kept = int(torch.searchsorted(squared, share * squared[-1] * (1 - 1e-12))) + 1
            kept = min(kept, len(s))
        self.energy_kept = float(squared[kept - 1] / squared[-1]) if squared[-1] > 0 else 1.0
        gaps = -s[: kept + 1].diff()
        limit = 100 * torch.finfo(s.dtype).eps * s[0]
        self._unique = bool((gaps > limit).all()) and bool(s[kept - 1] > limit)
        first = s[:kept]
        if self.positive:
            # The inverse of softplus, kept from minus infinity.
            first = first.clamp(min=1e-6)
            first = first + torch.log(-torch.expm1(-first))
        self._keep(left=U[:, :kept], right=Vh[:kept], sigma_0=first)
        self.sigma = nn.Parameter(self.sigma_0.clone())

    def _difference(self) -> torch.Tensor:
        if self.positive:
            return F.softplus(self.sigma) - F.softplus(self.sigma_0)
        return self.sigma - self.sigma_0

    @property
    def bases_are_unique(self) -> bool:
        """Whether the singular values are apart, so that their vectors are the same elsewhere."""
        return self._unique

    def shift(self) -> torch.Tensor:
        """Return how far each singular value has moved.

        Returns
        -------
        shift : Tensor of shape (rank,)
            New values minus first values.
        """
        return self._difference().detach()

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made."""
        return {"rank": self.width, "positive": self.positive}


class LoLDU(_Diagonal):
    r"""Trains the diagonal of a weight's LU decomposition, and one scale.

    With ``W = P L diag(d) U``, both triangles with ones on their diagonals, the weight becomes
    ``W + P L_r diag(scale * z - scale_0 * d_r) U_r``.

    Parameters
    ----------
    weight : Tensor of two or more axes
        The weight; one of more axes counts as the matrix of its first axis times the others.
    rank : int or float, default=None
        Entries of the diagonal that are trained, the first ones: a number, or a share of them;
        None is all of them. They are in no order of size.
    alpha : float, default=None
        ``scale_0`` is ``alpha / rank``; None is 1.
    init : {"lu", "uniform", "normal", "constant", "ones", "zeros"}, default="lu"
        First `z`: the diagonal itself, or values around its mean. All but "lu" change the network
        before any training, and a warning says so.
    train_scale : bool, default=True
        Whether the scale is trained too.
    transposed : bool, default=False
        As in :class:`LoRA`.
    table : bool, default=False
        As in :class:`LoRA`.
    padding_idx : int, default=None
        As in :class:`LoRA`.
    random_state : int, RandomState instance or None, default=None
        Seed of "uniform" and "normal".

    Attributes
    ----------
    z : Parameter of shape (rank,)
        The diagonal.
    sigma : Parameter of shape ()
        The scale; a buffer where it is not trained.
    left : Tensor of shape (outputs, rank)
        ``P L_r``.
    right : Tensor of shape (rank, inputs)
        ``U_r``. A row whose pivot is zero, or nearly, is left as it is, with 1 on the diagonal
        `d`: dividing by the pivot would blow it up.

    See Also
    --------
    SVFit : Bases by a singular value decomposition, which are orthogonal.

    References
    ----------
    .. [1] Y. Shi et al., "LoLDU: low-rank adaptation via lower-diag-upper decomposition for
       parameter-efficient fine-tuning", 2024, arXiv:2410.13618.

    Examples
    --------
    >>> import torch
    >>> from sklr.nn.adapters import LoLDU
    >>> weight = torch.randn(384, 384, generator=torch.Generator().manual_seed(0))
    >>> adapter = LoLDU(weight)
    >>> sum(p.numel() for p in adapter.parameters())
    385
    """

    kind = "loldu"
    sigma: torch.Tensor
    sigma_0: torch.Tensor
    z_0: torch.Tensor
    INITS = ("lu", "uniform", "normal", "constant", "ones", "zeros")

    def __init__(
        self,
        weight: torch.Tensor,
        rank: int | float | None = None,
        *,
        alpha: float | None = None,
        init: str = "lu",
        train_scale: bool = True,
        transposed: bool = False,
        table: bool = False,
        padding_idx: int | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(weight, transposed=transposed, table=table, padding_idx=padding_idx)
        m, n = self.matrix_shape
        kept = checked_rank(rank, m, n, default=min(m, n), share="values")
        self.alpha = checked_number("alpha", alpha)
        self.init = checked_choice("init", init, self.INITS)
        self.train_scale = checked_choice("train_scale", train_scale, (True, False))
        W = finite(self._matrix_of(weight))
        LU, pivots, _ = torch.linalg.lu_factor_ex(W.contiguous())
        left, right, d = _unpacked(LU, pivots, kept)
        scale = W.new_tensor(1.0 if self.alpha is None else self.alpha / kept)
        self._keep(left=left, right=right, z_0=d, sigma_0=scale)
        self.z = nn.Parameter(self._first(d, random_state))
        if self.train_scale:
            self.sigma = nn.Parameter(scale.clone())
        else:
            self.register_buffer("sigma", scale.clone())
        if init != "lu":
            warn_user(
                f"init={init!r} changes the network before any training; 'lu' does not",
            )

    def _first(self, d: torch.Tensor, random_state: Any) -> torch.Tensor:
        mean = d.mean()
        if self.init == "lu":
            return d.clone()
        if self.init in ("ones", "zeros"):
            return torch.full_like(d, float(self.init == "ones"))
        if self.init == "constant":
            return torch.full_like(d, float(mean))
        generator, draw = generator_of(random_state), torch.empty(d.shape, dtype=d.dtype)
        if self.init == "uniform":
            draw.uniform_(-0.5, 0.5, generator=generator)
            return draw.to(d.device) * mean
        std = d.std(correction=0)
        return mean + std * draw.normal_(generator=generator).to(d.device)

    def _difference(self) -> torch.Tensor:
        return self.sigma * self.z - self.sigma_0 * self.z_0

    def _bases(self) -> dict[str, torch.Tensor]:
        """Return the buffers that are computed from the weight."""
        return {name: value for name, value in self.named_buffers() if name != "sigma"}

    def _settings(self) -> dict[str, Any]:
        """Return the parameters with which the same adapter is made."""
        return {
            "rank": self.width,
            "alpha": self.alpha,
            "train_scale": self.train_scale,
        }


def _unpacked(
    LU: torch.Tensor, pivots: torch.Tensor, r: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return P L_r, U_r with ones on its diagonal, and the diagonal; no m x m matrix is made."""
    m, n = LU.shape
    left = LU[:, :r].tril(-1)
    left.diagonal().fill_(1.0)
    order = list(range(m))
    for i, j in enumerate(pivots.tolist()):  # exchanges of rows, one after the other, from 1
        order[i], order[j - 1] = order[j - 1], order[i]
    inverse = torch.empty(m, dtype=torch.long)
    inverse[torch.tensor(order)] = torch.arange(m)
    left = left[inverse.to(left.device)]
    right = LU[:r].triu()
    all_pivots = LU.diagonal()
    tiny = torch.finfo(LU.dtype).eps * max(m, n) * all_pivots.abs().max()
    d = all_pivots[:r]
    d = torch.where(d.abs() <= tiny, torch.ones_like(d), d)
    right = right / d[:, None]
    return left, right, d
