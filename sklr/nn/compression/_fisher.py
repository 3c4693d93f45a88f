"""Singular value decomposition weighted by the Fisher information of a task's loss."""

from functools import partial
from numbers import Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._calibration import Distinct, batches_of, check_finite, run_batch
from sklr._torch._gradients import LayerCalls, SamplesNotFirstError
from sklr._torch._layers import MATRICES, Layer, input_rows, wide
from sklr._torch._losses import sample_losses
from sklr.nn.compression._base import BaseCompressor, Solution, matrix_and_bias, two_matrices
from sklr.nn.compression._low_rank import Weights, weighted_svd
from sklr.utils._warnings import warn_user


class FisherWeightedSVD(BaseCompressor):
    r"""Replace weights by a decomposition that spares what the task's loss is sensitive to.

    The empirical Fisher information of a weight is the mean square, over samples, of the loss's
    gradient. Summed over the outputs it gives one number for each input of a layer, and
    :math:`\|(W - M)\,\mathrm{diag}(\sqrt{F})\|_F` is minimised over matrices :math:`M` of low rank.
    It needs labels, and a network that was trained for the task.

    Parameters
    ----------
    rank : int, float, "energy" or dict, default=0.5
        How much each layer keeps: a rank; a share of the layer's parameters in (0, 1], where 1
        leaves it as it is; "energy", the smallest rank that keeps `energy` of the squared
        weighted singular values; or a dict of these by name of layer, in which layers that are
        not named stay as they are. A rank that saves nothing leaves the layer as it is.
    side : {"input", "output", "both"}, default="input"
        Whether inputs have weights (the paper), outputs, or both.
    targets : None, str, list of str or callable, default=None
        Which layers. None is each linear or convolutional layer but the last one, in the order of
        ``named_modules``; "all" has that too; "all-linear" is linear layers without it. Else
        names of layers or their last parts, a regular expression after ``"re:"``, or a callable
        that gets a name and a description of the layer.
    loss : callable, default=None
        Gets the network's output and the targets of a batch, returns the loss of each sample, of
        shape (n_samples,). None is cross-entropy for integer targets, with classes along the last
        axis of the output, and the squared error for others.
    eps : float, default=1e-8
        What is added to each weight, relative to their mean: units whose gradient is zero are kept
        out of the division.
    energy : float, default=0.99
        What ``rank="energy"`` keeps, in (0, 1].
    batch_size : int, default=32
        Samples that run through the network at a time, where `X` has no batches of its own.
    mask_key : str or None, default="attention_mask"
        Not used, since what the loss does not see has no gradient; there for one signature in all
        compressors.
    verbose : int, default=0
        1 shows the progress over layers.

    Attributes
    ----------
    report_ : list of dict
        For each layer with a matrix: `name`, `kind`, `shape` (outputs, inputs), `rank`,
        `params_before`, `params_after`, `relative_error` (weighted), `status` ("compressed",
        "kept", "skipped") and the `reason` of the last two.
    ranks_ : dict
        Rank of each compressed layer by its name.
    spectra_ : dict
        Weighted singular values of each layer that was looked at.
    fisher_ : dict
        Empirical Fisher information of each layer's matrix, an array of its `shape`.
    weighted_error_ : dict
        Squared weighted error of each compressed layer: the squares that are dropped.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network.
    ratio_ : float
        `n_params_after_` / `n_params_before_`.

    See Also
    --------
    AtomicFeatureMimicking : Needs no labels, and is the better choice on most networks.
    WeightSVD : The baseline.

    Notes
    -----
    Gradients are those of single samples, formed for a whole batch at once from a layer's inputs
    and the gradients of its outputs; samples of a batch must not depend on each other, which
    holds in evaluation mode. Where a layer's activations do not have samples along their first
    axis, ``batch_size=1`` is the way. Memory: an array of (samples in a batch, outputs, inputs)
    for one layer at a time, in float64.

    A network without loss left on `X` has no Fisher information: take data that it has not
    learnt by heart.

    References
    ----------
    .. [1] Y.-C. Hsu et al., "Language model compression with weighted low-rank factorization",
       ICLR 2022, arXiv:2207.00112.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import FisherWeightedSVD
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    >>> X, y = torch.randn(200, 64), torch.randint(0, 10, (200,))
    >>> fwsvd = FisherWeightedSVD(rank=8).fit(network, X, y)
    >>> fwsvd.fisher_["0"].shape, round(fwsvd.ratio_, 2)
    ((100, 64), 0.32)
    """

    _needs_labels = True
    _kinds = tuple(kind for kind in MATRICES if kind != "Embedding")
    _parameter_constraints: dict = {
        **BaseCompressor._parameter_constraints,
        "side": [StrOptions({"input", "output", "both"})],
        "loss": [callable, None],
        "eps": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        rank: Any = 0.5,
        *,
        side: str = "input",
        targets: Any = None,
        loss: Any = None,
        eps: float = 1e-8,
        energy: float = 0.99,
        batch_size: int = 32,
        mask_key: str | None = "attention_mask",
        verbose: int = 0,
    ) -> None:
        self.rank = rank
        self.side = side
        self.targets = targets
        self.loss = loss
        self.eps = eps
        self.energy = energy
        self.batch_size = batch_size
        self.mask_key = mask_key
        self.verbose = verbose

    def _needs_data(self) -> bool:
        return True

    def _look(self, run: Any, chosen: list[Layer], X: Any, y: Any) -> dict[str, Any]:
        name = type(self).__name__
        seen = {layer.name: _Fisher(layer) for layer in chosen}
        handles = []
        try:
            for layer in chosen:
                part = run.get_submodule(layer.name)
                hook = seen[layer.name].hook(partial(check_finite, layer=layer.name, name=name))
                handles.append(part.register_forward_hook(hook, with_kwargs=True))
            for number, (args, kwargs, target) in enumerate(batches_of(run, X, y, self.batch_size)):
                if target is None:
                    raise ValueError(
                        f"{name} needs the targets of X: y for an X of arrays, or batches that "
                        "end with theirs"
                    )
                # Not in the caller's half precision: small gradients are zero there, and their
                # squares sooner.
                with torch.enable_grad(), torch.autocast(target.device.type, enabled=False):
                    output = run_batch(run, args, kwargs, number, name)
                    losses = sample_losses(output, target, self.loss, name)
                    _add(list(seen.values()), losses)
        finally:
            for handle in handles:
                handle.remove()
        self._check_rows(chosen, seen)
        return seen

    def _solve(self, layer: Layer, part: Any, seen: Any) -> Solution:
        W, bias = matrix_and_bias(layer, part)
        fisher = seen.mean.to(W.device)
        left = right = None
        if not bool(fisher.any()):
            warn_user(
                f"{type(self).__name__}: all gradients of layer {layer.name!r} are zero, it gets a "
                "plain singular value decomposition; hand over samples that the network has not "
                "learnt by heart"
            )
        else:
            if self.side in ("input", "both"):
                right = self._weights(fisher.sum(dim=0))
            if self.side in ("output", "both"):
                left = self._weights(fisher.sum(dim=1))
        svd = weighted_svd(W, left=left, right=right)
        return Solution(
            svd.values.cpu().numpy(),
            lambda r: (*svd.balanced(r), bias),
            two_matrices(layer, bias),
        )

    def _weights(self, fisher: torch.Tensor) -> Weights:
        # To the mean 1: Fisher information of 1e-20 would leave the range of squares.
        fisher = fisher / fisher.mean()
        return Weights.of_diagonal((fisher + self.eps).sqrt())

    def _replace(self, run: Any, layers: Any, chosen: Any, seen: Any) -> None:
        super()._replace(run, layers, chosen, seen)
        self.fisher_ = {name: sums.mean.cpu().numpy() for name, sums in seen.items() if sums.n_rows}
        self.weighted_error_ = {
            name: float((self.spectra_[name][r:] ** 2).sum()) for name, r in self.ranks_.items()
        }


class _Fisher(LayerCalls):
    """Squares of the gradients of single samples, of one layer's matrix."""

    side = "input"

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.n_rows = 0
        self._distinct = Distinct()
        self._squares: Any = None

    def add(self, gradients: list[torch.Tensor | None], n: int) -> None:
        """Add the squares of a batch, from the gradients of the outputs of each call."""
        total: Any = None
        for value, _ in self.calls:
            self._distinct.add(input_rows(self.part, self.layer.kind, value))
        for (value, _), gradient in zip(self.calls, gradients):
            if gradient is None:
                continue
            try:
                x, g = map(wide, self.rows(value, gradient, n))
            except SamplesNotFirstError as exc:
                if n > 1:
                    raise ValueError(f"FisherWeightedSVD: {exc}; take batch_size=1") from exc
                x, g = map(wide, self.rows(value[None], gradient[None], n))
            if len(self.calls) == 1 and x.shape[1] == 1:
                self._sum(g[:, 0].square().T @ x[:, 0].square(), n)
                return
            product = g.transpose(1, 2) @ x
            total = product if total is None else total + product
        if self.calls:
            self._sum(None if total is None else total.square().sum(dim=0), n)

    def _sum(self, squares: Any, n: int) -> None:
        self.n_rows += n
        if squares is not None:
            self._squares = squares if self._squares is None else self._squares + squares

    @property
    def n_distinct(self) -> int:
        """Number of inputs of the layer that differ."""
        return self._distinct.n_distinct

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the squares over samples; zero where no gradient reached the layer."""
        if self._squares is None:
            return torch.zeros(self.layer.shape, dtype=torch.float64, device="cpu")
        return self._squares / self.n_rows


def _add(all_seen: list[_Fisher], losses: torch.Tensor) -> None:
    probes = [probe for seen in all_seen for _, probe in seen.calls]
    try:
        found: list[torch.Tensor | None]
        if probes and losses.requires_grad:
            found = list(torch.autograd.grad(losses.sum(), probes, allow_unused=True))
        else:
            found = [None for _ in probes]
        for seen in all_seen:
            number = len(seen.calls)
            seen.add(found[:number], len(losses))
            found = found[number:]
    finally:
        for seen in all_seen:
            seen.calls = []
