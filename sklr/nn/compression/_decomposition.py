"""Low-rank decomposition of decoders: feature components, with a choice of layers by a score."""

import math
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._layers import Layer, resolve_rank
from sklr.nn.compression._base import (
    BaseCompressor,
    Replacement,
    Solution,
    matrix_and_bias,
    replaced,
    two_matrices,
)
from sklr.nn.compression._feature_mimicking import mimicking
from sklr.nn.compression._features import Seen, features_of


class LowRankDecomposition(BaseCompressor):
    r"""Compress a decoder's linear layers, those only that can bear it.

    Each layer is decomposed as by :class:`AtomicFeatureMimicking`. On top comes a policy: layers
    of one place in the blocks (all projections "query", say) are compressed alone, a score says
    what that costs, and groups that cost too much stay as they are.

    Parameters
    ----------
    rank : int, float, "energy" or dict, default=0.75
        How much each layer keeps: a rank; a share of the layer's parameters in (0, 1], where 1
        leaves it as it is; "energy", the smallest rank that keeps `energy` of the variance of the
        outputs; or a dict of these by name of layer, in which layers that are not named stay as
        they are. A rank that saves nothing leaves the layer as it is.
    targets : None, str, list of str or callable, default="all-linear"
        Which layers. "all-linear" is each linear layer but the last linear or convolutional one, in
        the order of ``named_modules``; None adds convolutions and embeddings; "all" the last one.
        Else names of layers or their last parts, a regular expression after ``"re:"``, or a
        callable that gets a name and a description of the layer.
    select : {None, "sensitivity"}, default=None
        "sensitivity" compresses each group of layers alone and keeps the groups dense whose score
        gets worse by more than `tolerance`. It needs `score_fn`.
    score_fn : callable, default=None
        Gets a network, returns a number, lower is better, such as the perplexity on text that is
        neither in `X` nor in the training data. It must not change the network's parameters.
    tolerance : float, default=0.01
        Relative loss of the score that a group may cost.
    multiple_of : int, default=1
        Ranks are rounded down to multiples of it; 8 to 64 suit the hardware of GPUs.
    bias : bool or "auto", default="auto"
        Whether layers get a bias that puts the mean right. "auto" gives one to layers that have a
        bias, and to others where the mean is more than a thousandth of the error. False takes the
        second moment in place of the covariance.
    energy : float, default=0.99
        What ``rank="energy"`` keeps, in (0, 1].
    batch_size : int, default=32
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
        `params_before`, `params_after`, `relative_error` (of the outputs), `status`
        ("compressed", "kept", "skipped") and the `reason` of the last two.
    ranks_ : dict
        Rank of each compressed layer by its name.
    spectra_ : dict
        Deviations of the outputs along their principal directions, of each layer looked at.
    sensitivity_table_ : list of dict
        With ``select="sensitivity"``, for each `group`: its `layers`, the `score` with it alone
        compressed, the `relative_loss`, and whether it is `selected`; otherwise empty.
    selected_ : list of str
        Names of the layers that are compressed.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network.
    ratio_ : float
        `n_params_after_` / `n_params_before_`.

    See Also
    --------
    AtomicFeatureMimicking : The decomposition without the policy.
    WeightSVD : The baseline.

    Notes
    -----
    A group is what has the same place in each block: layers whose names differ in numbers of
    blocks only. The score is computed once for the network and once for each group.

    A rank that is cut by a third is not a third of the parameters: a square layer becomes smaller
    only below half of its width.

    References
    ----------
    .. [1] A. Kaushal, T. Vaidhya and I. Rish, "LORD: low rank decomposition of monolingual code
       LLMs for one-shot compression", 2023, arXiv:2309.14021.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import LowRankDecomposition
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64), nn.Linear(64, 9))
    >>> X = torch.randn(400, 64)
    >>> lord = LowRankDecomposition(rank=0.75, multiple_of=8).fit(network, X)
    >>> lord.ranks_, lord.selected_
    ({'0': 24, '2': 24}, ['0', '2'])
    """

    _parameter_constraints: dict = {
        **BaseCompressor._parameter_constraints,
        "low_memory": ["boolean"],
        "select": [StrOptions({"sensitivity"}), None],
        "score_fn": [callable, None],
        "tolerance": [Interval(Real, 0, None, closed="left")],
        "multiple_of": [Interval(Integral, 1, None, closed="left")],
        "bias": ["boolean", StrOptions({"auto"})],
    }

    def __init__(
        self,
        rank: Any = 0.75,
        *,
        targets: Any = "all-linear",
        select: str | None = None,
        score_fn: Any = None,
        tolerance: float = 0.01,
        multiple_of: int = 1,
        bias: Any = "auto",
        energy: float = 0.99,
        batch_size: int = 32,
        mask_key: str | None = "attention_mask",
        low_memory: bool = False,
        verbose: int = 0,
    ) -> None:
        self.rank = rank
        self.targets = targets
        self.select = select
        self.score_fn = score_fn
        self.tolerance = tolerance
        self.multiple_of = multiple_of
        self.bias = bias
        self.energy = energy
        self.batch_size = batch_size
        self.mask_key = mask_key
        self.low_memory = low_memory
        self.verbose = verbose

    def _needs_data(self) -> bool:
        if self.select is not None and self.score_fn is None:
            raise ValueError(
                "LowRankDecomposition: select='sensitivity' needs score_fn, a function of a "
                "network that returns a number, lower is better"
            )
        return True

    def _watch(self, layer: Layer) -> Any:
        return Seen(layer)

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        W, bias = matrix_and_bias(layer, part)
        with_mean = mimicking(layer, W, bias, seen, balanced=False)
        if self.bias is True or (self.bias == "auto" and bias is not None):
            return with_mean
        found = features_of(seen, W, bias, centred=False)
        U = found.directions
        without = Solution(
            found.deviations.cpu().numpy(),
            lambda r: (U[:, :r].T @ W, U[:, :r], bias),
            two_matrices(layer, bias),
        )
        if self.bias is False:
            return without
        r = self._rank_of(layer, with_mean)
        if r is None:
            return without
        _, _, correction = with_mean.factors(r)
        dropped = float((with_mean.spectrum[r:] ** 2).sum())
        return with_mean if float(correction.square().sum()) > 1e-3 * dropped else without

    def _rank_of(self, layer: Layer, solution: Solution) -> int | None:
        r = resolve_rank(
            self.rank,
            layer,
            solution.spectrum,
            energy=self.energy,
            multiple_of=self.multiple_of,
        )
        if r is None:
            return None
        most = len(solution.spectrum)
        return r if r <= most else max(1, most // self.multiple_of * self.multiple_of)

    def _selected(
        self, run: Any, found: dict[str, Replacement], report: dict[str, dict[str, Any]]
    ) -> dict[str, Replacement]:
        self.sensitivity_table_: list[dict[str, Any]] = []
        if self.select is not None:
            found = self._bearable(run, found, report)
        self.selected_ = list(found)
        return found

    def _bearable(
        self, run: Any, found: dict[str, Replacement], report: dict[str, dict[str, Any]]
    ) -> dict[str, Replacement]:
        groups: dict[str, list[str]] = {}
        for name in found:
            groups.setdefault(_group(name), []).append(name)
        before = self._score(run, "the network itself")
        kept = {}
        for group, names in groups.items():
            some = {name: found[name] for name in names}
            score = self._score(replaced(run, some), f"{group!r} compressed")
            loss = (score - before) / (abs(before) or 1.0)
            selected = loss <= self.tolerance
            self.sensitivity_table_.append(
                {
                    "group": group,
                    "layers": names,
                    "score": score,
                    "relative_loss": loss,
                    "selected": selected,
                }
            )
            if selected:
                kept.update(some)
                continue
            for name in names:
                report[name].update(
                    status="kept",
                    rank=None,
                    params_after=report[name]["params_before"],
                    relative_error=0.0,
                    reason=f"the score of {group!r} gets worse by {loss:.2%}",
                )
        return {name: item for name, item in found.items() if name in kept}

    def _score(self, network: Any, what: str) -> float:
        with torch.no_grad():
            score = float(self.score_fn(network))
        if not math.isfinite(score):
            raise ValueError(f"LowRankDecomposition: score_fn returns {score} for {what}")
        return score


def _group(name: str) -> str:
    """Return a layer's name without the numbers of blocks; the last part stays what it is."""
    *above, own = name.split(".")
    return ".".join([*("*" if part.isdigit() else part for part in above), own])
