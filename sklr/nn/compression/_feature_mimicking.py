"""Principal components of what layers say: atomic feature mimicking."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._layers import Layer, resolve_rank
from sklr.nn.compression._allocation import allocate, outputs_of, squared_difference
from sklr.nn.compression._base import (
    BaseCompressor,
    Replacement,
    Solution,
    matrix_and_bias,
    swapped,
)
from sklr.nn.compression._features import Seen, features_of
from sklr.utils._progress import progress


class AtomicFeatureMimicking(BaseCompressor):
    r"""Replace layers by two thin ones that reproduce their outputs on data best.

    The outputs of a layer on a few hundred unlabelled inputs are nearly of low rank where its
    weight is not. With their mean :math:`\mu` and the first principal components :math:`U_r`,
    :math:`y \approx U_r U_r^\top (W x + b - \mu) + \mu`: no affine map of that rank has a smaller
    mean squared error. Nothing is trained.

    Parameters
    ----------
    rank : int, float, "energy", "global" or dict, default=0.5
        How much each layer keeps: a rank; a share of the layer's parameters in (0, 1], where 1
        leaves it as it is; "energy", the smallest rank that keeps `energy` of the variance of the
        outputs; or a dict of these by name of layer, in which layers that are not named stay as
        they are. A rank that saves nothing leaves the layer as it is. "global" divides the share
        `ratio` of all parameters among the layers by what each costs the network's outputs. It
        takes a pass over `X` for each layer, and pays in deep networks (see the user guide).
    ratio : float, default=0.5
        Share of the parameters of all chosen layers together that ``rank="global"`` keeps.
    targets : None, str, list of str or callable, default=None
        Which layers. None is each linear, convolutional or embedding layer but the last linear
        or convolutional one, in the order of ``named_modules``; "all" has that too; "all-linear"
        is linear layers without it. Else names of layers or their last parts, a regular
        expression after ``"re:"``, or a callable that gets a name and a description of the layer.
    energy : float, default=0.99
        What ``rank="energy"`` keeps, in (0, 1].
    balanced : bool, default=False
        Whether the two matrices of a layer are scaled alike, which suits further training;
        otherwise the second has orthonormal columns, which suits quantisation. The outputs are
        the same.
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
        `params_before`, `params_after`, `relative_error` (root of the share of the outputs'
        variance that is lost), `status` ("compressed", "kept", "skipped") and the `reason` of the
        last two.
    ranks_ : dict
        Rank of each compressed layer by its name.
    spectra_ : dict
        Standard deviations of the principal components of each layer's outputs.
    explained_variance_ratio_ : dict
        Share of each component in the variance of the outputs.
    sensitivity_ : dict
        With ``rank="global"``: the mean squared error of the network's outputs for each unit of a
        layer's `error_`, measured with that layer alone replaced.
    error_ : dict
        Mean squared error of the outputs of each compressed layer on `X`, when the layers before
        it are the given ones: the sum of the variances that are dropped.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network.
    ratio_ : float
        `n_params_after_` / `n_params_before_`.

    See Also
    --------
    WeightSVD : The baseline; with ``scaling="whitening"`` the same without the mean.
    LowRankDecomposition : The same decomposition with a choice of layers by a score.
    torch.nn.utils.prune : Sets single weights to zero instead.

    Notes
    -----
    Layers that other code reads as tensors (in `nn.MultiheadAttention`), whose weight is tied to
    another's or computed from other tensors, convolutions in groups and integer weights are left
    as they are, and `report_` says so. Vectors of an embedding count as often as `X` looks them
    up; the row of `padding_idx` stays what it is.

    ``rank="global"`` compares the first tensor of the network's output (`logits`, where it has
    that name) before and after each layer alone is replaced at the rank that ``rank=ratio`` gives
    it. The error of all is taken to be the sum, and proportional to what each layer drops.

    The time is one pass over `X`, and for a layer of m outputs and n inputs an eigendecomposition
    of min(m, n) and, where n is the smaller, a singular value decomposition, in float64. Memory:
    two copies of the network and the second moments of all layers.

    References
    ----------
    .. [1] H. Yu et al., "Unified low-rank compression framework for click-through rate
       prediction", KDD 2024, arXiv:2405.18146.
    .. [2] H. Yu and J. Wu, "Compressing transformers: features are low-rank, but weights are
       not!", AAAI 2023, doi:10.1609/aaai.v37i9.26304.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import AtomicFeatureMimicking
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> X = torch.randn(300, 8) @ torch.randn(8, 64)  # inputs of few dimensions
    >>> afm = AtomicFeatureMimicking(rank=8).fit(network, X)
    >>> small = afm.transform(network)
    >>> bool((small(X) - network(X)).abs().max() < 1e-4), round(afm.ratio_, 2)
    (True, 0.32)
    """

    def __init__(
        self,
        rank: Any = 0.5,
        *,
        ratio: float = 0.5,
        targets: Any = None,
        energy: float = 0.99,
        balanced: bool = False,
        batch_size: int = 256,
        mask_key: str | None = "attention_mask",
        low_memory: bool = False,
        verbose: int = 0,
    ) -> None:
        self.rank = rank
        self.ratio = ratio
        self.targets = targets
        self.energy = energy
        self.balanced = balanced
        self.batch_size = batch_size
        self.mask_key = mask_key
        self.low_memory = low_memory
        self.verbose = verbose

    _parameter_constraints: dict = {
        **BaseCompressor._parameter_constraints,
        "low_memory": ["boolean"],
        "rank": [
            *BaseCompressor._parameter_constraints["rank"],
            StrOptions({"global"}),
        ],
        "ratio": [Interval(Real, 0, 1, closed="neither")],
        "balanced": ["boolean"],
    }

    def _needs_data(self) -> bool:
        return True

    def _watch(self, layer: Layer) -> Any:
        return Seen(layer)

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        W, bias = matrix_and_bias(layer, part)
        return mimicking(layer, W, bias, seen, balanced=self.balanced)

    def _ranks_together(
        self, run: Any, layers: list[Layer], solved: Mapping[str, Solution]
    ) -> dict[str, int | None]:
        name = type(self).__name__
        given: dict[str, Any] = {"mask_key": self.mask_key, "name": name}
        wanted = outputs_of(run, self._batches, **given)
        steps = progress(
            layers, total=len(layers), description=f"{name}, outputs", verbose=self.verbose
        )
        self.sensitivity_ = {}
        for layer in steps:
            solution, part = solved[layer.name], run.get_submodule(layer.name)
            r = min(resolve_rank(self.ratio, layer, solution.spectrum) or 1, len(solution.spectrum))
            dropped = float((solution.spectrum[r:] ** 2).sum())
            self.sensitivity_[layer.name] = 0.0
            if dropped and "" not in layer.names:
                new = Replacement(layer, *solution.factors(r)).layer_in_place_of(part)
                swapped(run, layer, new)
                found = outputs_of(run, self._batches, **given)
                swapped(run, layer, part)
                self.sensitivity_[layer.name] = squared_difference(found, wanted) / dropped
            elif dropped:
                self.sensitivity_[layer.name] = 1.0
        spectra = {layer.name: solved[layer.name].spectrum for layer in layers}
        return allocate(layers, spectra, self.sensitivity_, self.ratio)

    def _replace(self, run: Any, layers: Any, chosen: Any, seen: Any) -> None:
        super()._replace(run, layers, chosen, seen)
        if self.rank == "global":
            del self._batches
        squares = {name: values**2 for name, values in self.spectra_.items()}
        self.explained_variance_ratio_ = {
            name: values / (values.sum() or 1.0) for name, values in squares.items()
        }
        self.error_ = {name: float(squares[name][r:].sum()) for name, r in self.ranks_.items()}


def mimicking(layer: Layer, W: Any, bias: Any, seen: Seen, *, balanced: bool) -> Solution:
    """Return the best affine map of each rank, which always has a bias."""
    found = features_of(seen, W, bias, centred=True)
    U, mean = found.directions, found.mean
    # What the weight alone gives on average.
    without_bias = mean if bias is None else mean - bias

    def factors(r: int) -> tuple[Any, Any, Any]:
        up = U[:, :r]
        down = up.T @ W
        new_bias = mean - up @ (up.T @ without_bias)
        if balanced:
            # Rows of `down` and columns of `up` of one length.
            scale = down.norm(dim=1).sqrt().clamp(min=1e-12)
            down, up = down / scale[:, None], up * scale
        return down, up, new_bias

    m, n = layer.shape
    return Solution(found.deviations.cpu().numpy(), factors, lambda r: r * (m + n) + m)
