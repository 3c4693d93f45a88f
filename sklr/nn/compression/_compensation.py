"""Give quantised and pruned networks back what they lost, by a path of low rank: EoRA."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from sklr._torch._calibration import Moments
from sklr._torch._layers import Layer, choose_layers, input_rows, wide
from sklr.nn.compression._base import BaseCompressor, Solution, matrix_and_bias
from sklr.nn.compression._low_rank import (
    WeightedSVD,
    Weights,
    checked_tensor,
    gram_weights,
    weighted_svd,
)
from sklr.nn.compression._reductions import pruned, pruned_in_groups, rounded
from sklr.nn.compression._weight_svd import InputSizes
from sklr.utils._validation import check_positive_int


def eora_factors(D: Any, second_moment: Any, rank: int) -> tuple[Any, Any, Any]:
    r"""Return the path of low rank that makes up best for an error of a layer's matrix.

    Of all :math:`B A` of rank `rank` it minimises the mean squared error of the outputs,
    :math:`E \|(D - B A) x\|^2`, for inputs of the second moment :math:`E[x x^\top]`. The minimum is
    the sum of the squared singular values that are dropped.

    Parameters
    ----------
    D : array-like of shape (m, n)
        What the compressed matrix lacks: the original minus the compressed one.
    second_moment : array-like of shape (n, n)
        Mean of :math:`x x^\top` over inputs of the layer, not centred.
    rank : int
        Rank wanted; the result has fewer where ``D`` has, in the directions that inputs take.

    Returns
    -------
    A : Tensor of shape (rank, n), float64
        The first map of the path. It is zero on what no input reaches.
    B : Tensor of shape (m, rank), float64
        The second map. :math:`B^\top B = A\,E[x x^\top] A^\top` is diagonal.
    singular_values : Tensor of shape (k,), float64
        All singular values of ``D`` times the root of the second moment, falling.

    Raises
    ------
    ValueError
        Shapes do not fit, a value is not finite, or `second_moment` is not positive semidefinite.

    See Also
    --------
    EigenspaceCompensation : Does this for all layers of a network.
    weighted_low_rank : The same with other weights.

    References
    ----------
    .. [1] S.-Y. Liu et al., "EoRA: fine-tuning-free compensation for compressed LLM with
       eigenspace low-rank approximation", 2024, arXiv:2410.21271.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.nn.compression import eora_factors
    >>> rng = np.random.default_rng(0)
    >>> D, X = rng.standard_normal((4, 6)), rng.standard_normal((50, 6))
    >>> A, B, s = eora_factors(D, X.T @ X / 50, rank=2)
    >>> error = (((D - B.numpy() @ A.numpy()) @ X.T) ** 2).sum() / 50
    >>> bool(np.isclose(error, (s[2:] ** 2).sum()))
    True
    """
    rank = check_positive_int(rank, "rank")
    with torch.inference_mode(False), torch.no_grad():
        lost = checked_tensor(D, "D", 2)
        root = gram_weights("second_moment", lost.shape[1], second_moment, lost.device)
        found = weighted_svd(lost, right=root)
        A, B = found.balanced(rank)
        return A, B, found.values


class EigenspaceCompensation(BaseCompressor):
    r"""Quantise or prune a network, and put a path of low rank beside each layer.

    A layer's weight :math:`W` becomes :math:`W_c + B A`: a rounded or pruned :math:`W_c`, and two
    thin matrices that give back what it lost. They minimise the mean squared error
    :math:`E \|(W - W_c - B A) x\|^2` of the layer's outputs on the inputs that `X` brings to it,
    by a singular value decomposition in the eigenspace of these inputs. Nothing is trained.

    Parameters
    ----------
    rank : int, float, "energy" or dict, default=32
        Rank of the paths: a number; a share of the layer's parameters in (0, 1], where 1 leaves
        the layer as it is; "energy", the smallest rank that gives back `energy` of what is lost;
        or a dict of these by name of layer, in which layers that are not named stay as they are.
        A layer whose path would be as large as itself stays as it is too.
    compressor : {"rtn", "n:m", "magnitude"}, callable, Module or dict, default="rtn"
        How weights are compressed. "rtn" rounds to the nearest of ``2**bits`` values between the
        least and the largest of each row, or of each group; "n:m" keeps the largest `n` of each
        `m` neighbours along the inputs; "magnitude" sets the smallest entries of each layer to
        zero. A callable gets a layer's matrix of shape (outputs, inputs), a float64 tensor, and
        returns another. A network with the same names of layers, compressed by whatever means, or
        a dict of weights by name of layer is taken as it is.
    bits : int, default=3
        Bits of a weight, for "rtn".
    group_size : int, default=None
        Neighbours along the inputs that share a range, for "rtn"; None is the whole row.
    n_m : tuple of int, default=(2, 4)
        How many are kept of how many, for "n:m".
    sparsity : float, default=0.5
        Share of zeros, for "magnitude".
    scaling : {"whitening", "activation", None}, default="whitening"
        In which metric a path is best: that of the outputs; weights scaled by the root of the mean
        size of each input, a guess of it (as LQER does); the weights alone (plain SVD of what is
        lost), which needs no `X`. The last two are there to compare with.
    center : bool, default=False
        Whether the bias also puts the mean of the outputs right; layers without one get one. For
        "whitening".
    targets : None, str, list of str or callable, default=None
        Which layers. None is each linear or convolutional layer but the last one, in the order of
        ``named_modules``, and with a network or a dict as `compressor` those whose weights differ;
        "all" has the last one too; "all-linear" is linear layers without it. Else names of layers
        or their last parts, a regular expression after ``"re:"``, or a callable that gets a name
        and a description of the layer.
    energy : float, default=0.99
        What ``rank="energy"`` gives back, in (0, 1].
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
        `params_before`, `params_after` (with the path), `relative_error` (of the outputs, after
        scaling), `status` ("compressed", "kept", "skipped") and the `reason` of the last two;
        where a path was put, `relative_error_before` says what the compression alone loses.
    ranks_ : dict
        Rank of each path by the name of its layer.
    spectra_ : dict
        Singular values of what each layer that was looked at has lost, after scaling.
    error_before_ : dict
        Mean squared error of the outputs of each compensated layer on `X` without the path.
    error_ : dict
        The same with it: the sum of the squared singular values that are dropped.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network.
    ratio_ : float
        `n_params_after_` / `n_params_before_`: above 1, for the paths come on top.

    See Also
    --------
    eora_factors : The path of one matrix.
    CompensatedLinear : The layer that comes in.
    AtomicFeatureMimicking : Replaces a layer by thin ones, in place of quantising it.
    torch.nn.utils.prune : Sets weights to zero, by masks.

    Notes
    -----
    Compressed weights are held as ordinary dense tensors in the network's precision: the result
    says how good such a network is, and trains, but is not smaller in memory by itself. To run it
    with packed integers or sparse kernels, put such a layer in the place of ``layer.base``, or call
    :func:`eora_factors`. Paths that are fitted for one compressed weight are wrong for another.

    `X` decides what is given back: inputs of the task at hand serve that task best. A few hundred
    samples do; layers that see fewer rows than they have inputs are warned about.

    The time is one pass over `X`, and an eigendecomposition of n and a singular value decomposition
    of m x n for a layer of m outputs and n inputs, in float64. Memory: two copies of the network
    and an n x n matrix a layer. Sums are exact, so that neither order nor size of batches matters.

    References
    ----------
    .. [1] S.-Y. Liu et al., "EoRA: fine-tuning-free compensation for compressed LLM with
       eigenspace low-rank approximation", 2024, arXiv:2410.21271.
    .. [2] C. Zhang et al., "LQER: low-rank quantization error reconstruction for LLMs", ICML 2024,
       arXiv:2402.02446.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import EigenspaceCompensation
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> X = torch.randn(300, 8) @ torch.randn(8, 64)  # inputs of few dimensions
    >>> eora = EigenspaceCompensation(rank=8, bits=2).fit(network, X)
    >>> row = eora.report_[0]
    >>> f"{row['relative_error_before']:.2f}, with the path {row['relative_error']:.2f}"
    '0.33, with the path 0.00'
    >>> bool((eora.transform(network)(X) - network(X)).abs().max() < 1e-4)
    True
    """

    _kinds = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d")
    _parameter_constraints: dict = {
        **BaseCompressor._parameter_constraints,
        "low_memory": ["boolean"],
        "compressor": [StrOptions({"rtn", "n:m", "magnitude"}), callable, nn.Module, Mapping],
        "bits": [Interval(Integral, 1, 16, closed="both")],
        "group_size": [Interval(Integral, 2, None, closed="left"), None],
        "n_m": [tuple, list],
        "sparsity": [Interval(Real, 0, 1, closed="both")],
        "scaling": [StrOptions({"activation", "whitening"}), None],
        "center": ["boolean"],
    }

    def __init__(
        self,
        rank: Any = 32,
        *,
        compressor: Any = "rtn",
        bits: int = 3,
        group_size: int | None = None,
        n_m: tuple[int, int] = (2, 4),
        sparsity: float = 0.5,
        scaling: str | None = "whitening",
        center: bool = False,
        targets: Any = None,
        energy: float = 0.99,
        batch_size: int = 256,
        mask_key: str | None = "attention_mask",
        low_memory: bool = False,
        verbose: int = 0,
    ) -> None:
        self.rank = rank
        self.compressor = compressor
        self.bits = bits
        self.group_size = group_size
        self.n_m = n_m
        self.sparsity = sparsity
        self.scaling = scaling
        self.center = center
        self.targets = targets
        self.energy = energy
        self.batch_size = batch_size
        self.mask_key = mask_key
        self.low_memory = low_memory
        self.verbose = verbose

    def _needs_data(self) -> bool:
        if self.center and self.scaling != "whitening":
            raise ValueError(
                f"center=True goes with scaling='whitening', got scaling={self.scaling!r}"
            )
        return self.scaling is not None

    def _of_setting(self) -> str:
        return f" with scaling={self.scaling!r}"

    # The compressed weights.

    def _choose(self, run: Any, layers: list[Layer]) -> list[Layer]:
        self._check_n_m()
        if not isinstance(self.compressor, (nn.Module, Mapping)):
            return choose_layers(layers, self.targets, self._kinds)
        if isinstance(self.compressor, Mapping):
            known = {name for layer in layers for name in layer.names}
            unknown = sorted(set(self.compressor) - known)
            if unknown:
                raise ValueError(
                    f"compressor has weights of {unknown[:10]}, which the network does not have as "
                    f"layers; there are {sorted(known)[:10]}"
                )
        if self.targets is not None:
            return choose_layers(layers, self.targets, self._kinds)

        def differs(name: str, layer: Layer) -> bool:
            given = self._given(layer)
            if given is None:
                return False
            W, _ = matrix_and_bias(layer, run.get_submodule(name))
            return not torch.equal(_shaped(given, layer, W, stored=True), W)

        found = [layer for layer in layers if layer.kind in self._kinds and not layer.reason]
        differing = [layer for layer in found if differs(layer.name, layer)]
        if not differing:
            raise ValueError(
                "no weight of compressor differs from the network's: hand over the network before "
                f"its compression to fit; the layers are {[layer.name for layer in found[:10]]}"
            )
        return differing

    def _check_n_m(self) -> None:
        pair = tuple(self.n_m)
        if len(pair) != 2 or not all(isinstance(v, Integral) for v in pair):
            raise ValueError(f"n_m must be two integers, got {self.n_m!r}")
        if not 1 <= pair[0] <= pair[1]:
            raise ValueError(f"n_m must be n of m with 1 <= n <= m, got {self.n_m!r}")

    def _given(self, layer: Layer) -> Any:
        """Return the weight that the user's own compression gives a layer, or None."""
        if isinstance(self.compressor, Mapping):
            found = [self.compressor[name] for name in layer.names if name in self.compressor]
            return found[0] if found else None
        try:
            part = self.compressor.get_submodule(layer.name)
        except AttributeError as exc:
            raise ValueError(
                f"compressor has no layer {layer.name!r}; it must be the network after its "
                "compression, with the same names"
            ) from exc
        weight = getattr(part, "weight", None)
        # Quantised layers of torch.ao have a method of that name.
        weight = weight() if callable(weight) and not isinstance(weight, torch.Tensor) else weight
        if not isinstance(weight, torch.Tensor):
            raise ValueError(
                f"layer {layer.name!r} of compressor is a {type(part).__name__} without a weight "
                "to read; give a dict of its weights by name"
            )
        return weight

    def _compressed(self, layer: Layer, part: Any, W: torch.Tensor) -> torch.Tensor:
        """Return a layer's compressed matrix, in the layer's precision."""
        if self.compressor == "rtn":
            made: Any = rounded(W, self.bits, self.group_size)
        elif self.compressor == "n:m":
            made = pruned_in_groups(W, *self.n_m)
        elif self.compressor == "magnitude":
            made = pruned(W, self.sparsity)
        elif isinstance(self.compressor, nn.Module):
            made = self._given(layer)
        elif isinstance(self.compressor, Mapping):
            made = self._given(layer)
            if made is None:
                raise ValueError(
                    f"compressor has no weight of layer {layer.name!r}, which is among the "
                    f"targets; it has those of {list(self.compressor)[:10]}"
                )
        else:
            made = self.compressor(W.clone())
        own = isinstance(self.compressor, (nn.Module, Mapping))
        made = _shaped(made, layer, W, stored=own)
        # What is lost is counted from the numbers that the layer will hold.
        return made.to(part.weight.dtype)

    # The path.

    def _watch(self, layer: Layer) -> Any:
        return _Inputs(layer) if self.scaling == "whitening" else InputSizes(layer)

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        W, bias = matrix_and_bias(layer, part)
        compressed = self._compressed(layer, part, W)
        lost = W - wide(compressed)
        right, mean = None, None
        if self.scaling == "activation":
            right = Weights.of_diagonal(seen.scale.to(W.device))
        elif self.scaling == "whitening":
            sums = seen.sums
            right = Weights.of_gram(sums.covariance() if self.center else sums.second_moment())
            mean = sums.mean if self.center else None
        svd = weighted_svd(lost, right=right)
        outputs = W if right is None else right.times(W)
        scale = float(outputs.square().sum()) ** 0.5

        def factors(r: int) -> tuple[Any, Any, Any]:
            A, B = svd.balanced(r)
            if mean is None:
                return A, B, bias
            shift = lost @ mean - B @ (A @ mean)
            return A, B, shift if bias is None else bias + shift

        m, n = layer.shape
        n_bias = 0 if bias is None and mean is None else m
        before = _norm(svd) / scale if scale else 0.0
        return Solution(
            svd.values.cpu().numpy(),
            factors,
            lambda r: m * n + n_bias + r * (m + n),
            scale=scale,
            base=compressed,
            more={"relative_error_before": before},
        )

    def _rank_of(self, layer: Layer, solution: Solution) -> int | None:
        r = super()._rank_of(layer, solution)
        # Beyond the rank of what is lost a path has nothing to give back.
        spectrum = solution.spectrum
        most = int((spectrum > spectrum.max(initial=0.0) * max(layer.shape) * 2.2e-16).sum())
        return None if r is None else min(r, most)

    def _reason_to_keep(
        self, layer: Layer, solution: Solution, rank: int | None, n_before: int
    ) -> str:
        if rank is None:
            return super()._reason_to_keep(layer, solution, rank, n_before)
        m, n = layer.shape
        if rank == 0:
            return "its compressed weight gives the same outputs"
        if rank * (m + n) >= m * n:
            return f"a path of rank {rank} would be as large as the layer"
        return ""

    def _replace(self, run: Any, layers: Any, chosen: Any, seen: Any) -> None:
        super()._replace(run, layers, chosen, seen)
        squares = {name: self.spectra_[name] ** 2 for name in self.ranks_}
        self.error_before_ = {name: float(values.sum()) for name, values in squares.items()}
        self.error_ = {name: float(squares[name][r:].sum()) for name, r in self.ranks_.items()}


class _Inputs:
    """Sums of a layer's inputs."""

    side = "input"

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.sums = Moments()

    def __call__(self, part: Any, value: torch.Tensor) -> None:
        self.sums.add(input_rows(part, self.layer.kind, value))

    @property
    def n_rows(self) -> int:
        return self.sums.n_rows

    @property
    def n_distinct(self) -> int:
        return self.sums.n_distinct


def _norm(svd: WeightedSVD) -> float:
    return float(svd.values.square().sum()) ** 0.5


def _shaped(values: Any, layer: Layer, W: torch.Tensor, *, stored: bool) -> torch.Tensor:
    """Return a compressed weight as a matrix in float64; `stored` is one as the layer holds it."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
        tensor = wide(tensor.dequantize() if tensor.is_quantized else tensor)
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    else:
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
    tensor = tensor.to(W.device)
    if stored and tensor.ndim > 1:
        tensor = tensor.T if layer.kind == "Conv1D" else tensor.flatten(1)
    if tuple(tensor.shape) != layer.shape:
        raise ValueError(
            f"the compressed weight of layer {layer.name!r} has shape {tuple(tensor.shape)}, and "
            f"{layer.shape} (outputs, inputs) is needed"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"the compressed weight of layer {layer.name!r} has NaN or infinity")
    return tensor
