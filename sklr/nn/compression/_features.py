"""What the methods ask of data: the principal directions of a layer's outputs."""

from dataclasses import dataclass
from typing import Any

import torch

from sklr._torch._calibration import Counts, Moments
from sklr._torch._layers import Layer, input_rows, output_rows
from sklr.nn.compression._low_rank import Weights, weighted_svd


class Seen:
    """What one layer saw of the data: sums of its inputs or of its outputs, the fewer of the two.

    Covariances of the outputs follow from those of the inputs. An embedding counts its rows.
    """

    def __init__(self, layer: Layer) -> None:
        m, n = layer.shape
        self.layer = layer
        # Windows of a convolution overlap: its outputs are fewer. Of a square matrix the outputs
        # are taken: their directions need no second decomposition.
        linear = layer.kind in ("Linear", "Conv1D")
        self.side = "input" if layer.kind == "Embedding" or (linear and n < m) else "output"
        self.sums: Any = Counts(n) if layer.kind == "Embedding" else Moments()

    def __call__(self, part: Any, value: torch.Tensor) -> None:
        """Add what a call of the layer saw."""
        kind = self.layer.kind
        if kind == "Embedding":
            self.sums.add(value)
        elif self.side == "input":
            self.sums.add(input_rows(part, kind, value))
        else:
            self.sums.add(output_rows(kind, value))

    @property
    def n_rows(self) -> int:
        """Number of rows seen."""
        return self.sums.n_rows

    @property
    def n_distinct(self) -> int:
        """Number of rows that differ."""
        return self.sums.n_distinct


@dataclass(frozen=True)
class Features:
    """Principal directions of a layer's outputs.

    Attributes
    ----------
    directions : Tensor of shape (m, k)
        Orthonormal columns, by falling deviation.
    deviations : Tensor of shape (k,)
        Root mean squares along them.
    mean : Tensor of shape (m,)
        Mean of the outputs.
    """

    directions: torch.Tensor
    deviations: torch.Tensor
    mean: torch.Tensor


def features_of(seen: Seen, W: torch.Tensor, bias: Any, *, centred: bool) -> Features:
    """Return the directions that a layer's outputs use; not centred, those of ``W x`` without bias.

    Parameters
    ----------
    seen : Seen
        What the layer saw.
    W : Tensor of shape (m, n)
        Its matrix, in float64.
    bias : Tensor of shape (m,) or None
        Its bias.
    centred : bool
        Whether the mean is taken off.
    """
    offset = torch.zeros_like(W[:, 0]) if bias is None else bias
    if isinstance(seen.sums, Counts):
        shares = seen.sums.shares.to(W.device)
        mean = W @ shares
        deviations = W - mean[:, None] if centred else W
        found = weighted_svd(deviations, right=Weights.of_diagonal(shares.sqrt()))
        return _of_one_direction_at_least(found.U, found.values, mean)
    sums = seen.sums
    if seen.side == "input":
        gram = sums.covariance() if centred else sums.second_moment()
        found = weighted_svd(W, right=Weights.of_gram(gram))
        return _of_one_direction_at_least(found.U, found.values, W @ sums.mean + offset)
    gram, mean = sums.covariance(), sums.mean
    if not centred:
        without = mean - offset
        gram = gram + without[:, None] * without
    root = Weights.of_gram(gram)
    assert root.basis is not None
    return _of_one_direction_at_least(_with_signs(root.basis), root.scale, mean)


def _of_one_direction_at_least(U: Any, deviations: Any, mean: Any) -> Features:
    """Give outputs that never vary a direction: layers of width zero are nobody's wish."""
    if U.shape[1] == 0:
        U, deviations = torch.zeros_like(mean)[:, None], torch.zeros_like(mean[:1])
        U[0] = 1
    return Features(U, deviations, mean)


def _with_signs(U: torch.Tensor) -> torch.Tensor:
    """Make the largest entry of each column positive."""
    if not U.numel():
        return U
    largest = U.abs().argmax(dim=0)
    return U * torch.where(U[largest, torch.arange(U.shape[1], device=U.device)] < 0, -1.0, 1.0)
