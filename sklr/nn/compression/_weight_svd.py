"""Truncated singular value decomposition of weights: the baseline of every other compressor."""

from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions

from sklr._torch._calibration import Counts, Distinct
from sklr._torch._layers import Layer, input_rows, wide
from sklr.nn.compression._base import BaseCompressor, Solution, matrix_and_bias, two_matrices
from sklr.nn.compression._features import Seen, features_of
from sklr.nn.compression._low_rank import Weights, weighted_svd


class WeightSVD(BaseCompressor):
    """Replace weights by their truncated singular value decomposition.

    The baseline that any other way to compress a network has to beat. Without `scaling` it looks
    at weights alone, and on most networks it is poor: weights are not of low rank, what flows
    through them is. With inputs of the network, ``scaling="whitening"`` is the better one.

    Parameters
    ----------
    rank : int, float, "energy" or dict, default=0.5
        How much each layer keeps: a rank; a share of the layer's parameters in (0, 1], where 1
        leaves it as it is; "energy", the smallest rank that keeps `energy` of the squared
        singular values; or a dict of these by name of layer, in which layers that are not named
        stay as they are. A rank that saves nothing leaves the layer as it is.
    scaling : {None, "activation", "whitening"}, default=None
        What weights are scaled by before they are decomposed: nothing; the root of the mean size
        of each input (as ASVD); or the root of the inputs' second moment (as SVD-LLM), which
        makes the error that of the outputs. The last two need `X`.
    targets : None, str, list of str or callable, default=None
        Which layers. None is each linear, convolutional or embedding layer but the last linear
        or convolutional one, in the order of ``named_modules``; "all" has that too; "all-linear"
        is linear layers without it. Else names of layers or their last parts, a regular
        expression after ``"re:"``, or a callable that gets a name and a description of the layer.
    energy : float, default=0.99
        What ``rank="energy"`` keeps, in (0, 1].
    batch_size : int, default=256
        Samples that run through the network at a time, where `X` has no batches of its own.
    mask_key : str or None, default="attention_mask"
        Where batches are dicts: the name of the mask that is 0 at padding, which is not counted.
    low_memory : bool, default=False
        Whether the sums of one layer are held at a time, with a pass over `X` for each layer. The
        result is the same up to rounding.
    verbose : int, default=0
        1 shows the progress over layers.

    Attributes
    ----------
    report_ : list of dict
        For each layer with a matrix: `name`, `kind`, `shape` (outputs, inputs), `rank`,
        `params_before`, `params_after`, `relative_error` (Frobenius, after scaling), `status`
        ("compressed", "kept", "skipped") and the `reason` of the last two.
    ranks_ : dict
        Rank of each compressed layer by its name.
    spectra_ : dict
        All singular values of each layer that was looked at, after scaling.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network.
    ratio_ : float
        `n_params_after_` / `n_params_before_`.

    See Also
    --------
    weighted_low_rank : The decomposition itself.
    LowRankLinear : The layer that comes in.
    torch.nn.utils.prune : Sets single weights to zero instead.

    Notes
    -----
    Layers that other code reads as tensors (in `nn.MultiheadAttention`), whose weight is tied to
    another's or computed from other tensors, convolutions in groups and integer weights are left
    as they are, and `report_` says so. The time is a singular value decomposition a layer,
    O(m n min(m, n)), all in float64; with `scaling` the pass over `X` comes on top. Memory: two
    copies of the network, and for each layer the second moment of its inputs or outputs.

    References
    ----------
    .. [1] C. Eckart and G. Young, "The approximation of one matrix by another of lower rank",
       Psychometrika 1, 1936, doi:10.1007/BF02288367.
    .. [2] Z. Yuan et al., "ASVD: activation-aware singular value decomposition for compressing
       large language models", 2023, arXiv:2312.05821.
    .. [3] X. Wang et al., "SVD-LLM: truncation-aware singular value decomposition for large
       language model compression", ICLR 2025, arXiv:2403.07378.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import WeightSVD
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> svd = WeightSVD(rank=0.3).fit(network)
    >>> svd.ranks_, round(svd.ratio_, 2)
    ({'0': 11}, 0.39)
    >>> svd.transform(network)(torch.zeros(2, 64)).shape
    torch.Size([2, 10])
    """

    _parameter_constraints: dict = {
        **BaseCompressor._parameter_constraints,
        "low_memory": ["boolean"],
        "scaling": [StrOptions({"activation", "whitening"}), None],
    }

    def __init__(
        self,
        rank: Any = 0.5,
        *,
        scaling: str | None = None,
        targets: Any = None,
        energy: float = 0.99,
        batch_size: int = 256,
        mask_key: str | None = "attention_mask",
        low_memory: bool = False,
        verbose: int = 0,
    ) -> None:
        self.rank = rank
        self.scaling = scaling
        self.targets = targets
        self.energy = energy
        self.batch_size = batch_size
        self.mask_key = mask_key
        self.low_memory = low_memory
        self.verbose = verbose

    def _needs_data(self) -> bool:
        return self.scaling is not None

    def _of_setting(self) -> str:
        return f" with scaling={self.scaling!r}"

    def _watch(self, layer: Layer) -> Any:
        return Seen(layer) if self.scaling == "whitening" else InputSizes(layer)

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        W, bias = matrix_and_bias(layer, part)
        n_params = two_matrices(layer, bias)
        if self.scaling == "whitening":
            found = features_of(seen, W, bias, centred=False)
            U = found.directions
            # U U^T W has the least error on the data, and is not zero on what they do not reach.
            return Solution(
                found.deviations.cpu().numpy(), lambda r: (U[:, :r].T @ W, U[:, :r], bias), n_params
            )
        right = None if self.scaling is None else Weights.of_diagonal(seen.scale.to(W.device))
        svd = weighted_svd(W, right=right)
        return Solution(svd.values.cpu().numpy(), lambda r: (*svd.balanced(r), bias), n_params)


class InputSizes:
    """Mean size of each input of a layer."""

    side = "input"

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.n_rows = 0
        self._sum: Any = 0
        self._distinct = Distinct()
        self._counts = Counts(layer.shape[1]) if layer.kind == "Embedding" else None

    def __call__(self, part: Any, value: torch.Tensor) -> None:
        if self._counts is not None:
            self._counts.add(value)
            self.n_rows = self._counts.n_rows
            return
        rows = input_rows(part, self.layer.kind, value)
        self.n_rows += len(rows)
        self._distinct.add(rows)
        self._sum = self._sum + wide(rows).abs().sum(dim=0)

    @property
    def n_distinct(self) -> int:
        """Number of rows that differ."""
        return (self._distinct if self._counts is None else self._counts).n_distinct

    @property
    def scale(self) -> torch.Tensor:
        """Root of the mean sizes; what never occurs counts a millionth of the largest."""
        sizes = self._sum / self.n_rows if self._counts is None else self._counts.shares
        root = sizes.sqrt()
        return root.clamp(min=max(1e-6 * float(root.max()), 1e-300))
