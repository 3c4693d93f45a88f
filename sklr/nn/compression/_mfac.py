"""Pruning by the inverse Fisher matrix of gradients: Optimal Brain Surgeon without the matrix."""

import re
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._curvature import Objective
from sklr._torch._inverse_fisher import InverseFisher
from sklr._torch._layers import MATRICES, Layer, choose_layers, find_layers
from sklr._torch._losses import LOSSES
from sklr._torch._module_first import check_module
from sklr._torch._untouched import copy_of, plain_tensors
from sklr.nn.compression._base import BaseCompressor, _row
from sklr.nn.compression._factorised import n_parameters
from sklr.utils._base import fit_context
from sklr.utils._progress import progress


@dataclass
class Pruned:
    """A layer with zeros in its weight."""

    layer: Layer
    weight: torch.Tensor

    def layer_in_place_of(self, part: Any) -> Any:
        """Return a copy of the layer with this weight, in its precision and on its device."""
        new = copy_of(part)
        new.weight.copy_(self.weight)
        return new


class MFACPruner(BaseCompressor):
    r"""Set weights to zero that a trained network's loss does not need, and repair the others.

    Optimal Brain Surgeon: with the damped Fisher matrix F of the loss's gradients, removing the
    weight :math:`w_i` costs :math:`w_i^2 / (2 [F^{-1}]_{ii})`. The cheapest go, and the others are
    moved to make up for them. M-FAC does this from m gradients without a matrix of the size of the
    weights [1]_. It goes by several steps, with new gradients at each, which is what most of the
    gain comes from.

    Parameters
    ----------
    sparsity : float or str, default=0.9
        Share of the weights of all looked-at layers together that become zero, from 0 to below 1.
        Or a pattern such as "2:4": of each 4 weights that stand together along the inputs of a
        layer, 2 stay.
    n_recomputations : int, default=8
        Steps; the number of weights left falls by the same factor at each.
    n_gradients : int, default=512
        Gradients at each step, at most: drawn without replacement, all where there are fewer.
        Memory is so many times the number of weights.
    samples_per_gradient : int, default=1
        Each gradient is the mean of so many samples'.
    damping : float, default=1e-5
        Added to the diagonal of the Fisher matrix.
    joint : bool, default=True
        Whether the other weights make up for all that go at a step together, the optimum of the
        quadratic model. False sums the moves for one at a time, as [1]_ does.
    targets : None, str, list of str or callable, default=None
        Which layers. None is each linear or convolutional layer but the last, in the order of
        ``named_modules``; "all" has that too; "all-linear" is linear layers without it. Else names
        of layers or their last parts, a regular expression after ``"re:"``, or a callable that
        gets a name and a description of the layer.
    loss : str or callable, default="auto"
        "cross_entropy", "binary_cross_entropy", "squared_error" or "half_squared_error". "auto"
        is the cross entropy where targets are integers (of logits, or of one logit where the
        output has one column), and the squared error where they are floats. A callable gets
        outputs and targets and returns the loss of each sample.
    batch_size : int or None, default=None
        Samples that run through the network at a time; None finds how many fit. The result does
        not depend on it.
    max_memory : float, default=4.0
        The gradients may take so many GiB.
    random_state : int, RandomState instance or None, default=None
        Decides which samples give gradients.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    mask_ : dict of str to ndarray of bool
        For each pruned layer: True where its weight is not zero.
    scores_ : dict of str to ndarray
        Increase of the loss that the removal of each weight was expected to cost, when it was
        looked at last.
    sparsity_ : float
        Share of zeros in the looked-at layers.
    loss_, pruned_loss_ : float
        Mean loss of the network on `X`, before and after.
    report_ : list of dict
        For each layer with a matrix: `name`, `kind`, `shape` (outputs, inputs), `rank` (None),
        `params_before`, `params_after`, `n_nonzero`, `relative_error` (change of the weight over
        its norm), `status` ("compressed", "kept", "skipped") and the `reason` of the last two.
    n_params_before_, n_params_after_ : int
        Parameters of the whole network; zeros are counted, so both are the same.
    ratio_ : float
        1.
    n_nonzero_ : int
        Parameters of the whole network without the zeros of the pruned layers.

    See Also
    --------
    sklr.landscape.EmpiricalFisher : The inverse Fisher matrix itself.
    torch.nn.utils.prune : Prunes by magnitude, and keeps zeros during training.

    Notes
    -----
    Zeros save memory and time only where something makes use of them: sparse storage, or hardware
    that knows the pattern. To train further without losing them, hand ``mask_`` to
    ``torch.nn.utils.prune.custom_from_mask``. A step takes O(m^2 n_weights) time.

    With the empirical Fisher matrix a network must not have learnt its data by heart: where all
    gradients vanish, scores are those of the weights' magnitudes.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic and D. Alistarh, "M-FAC: efficient matrix-free approximations of
       second-order information", NeurIPS 2021, arXiv:2107.03356.
    .. [2] B. Hassibi and D. G. Stork, "Second order derivatives for network pruning: optimal brain
       surgeon", NIPS 1992.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sklr.nn.compression import MFACPruner
    >>> _ = torch.manual_seed(0)
    >>> network = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 3))
    >>> X, y = torch.randn(100, 8), torch.randint(0, 3, (100,))
    >>> pruner = MFACPruner(sparsity=0.75, targets="all", random_state=0).fit(network, X, y)
    >>> pruner.sparsity_, pruner.n_nonzero_
    (0.75, 78)
    >>> int((pruner.transform(network)[0].weight == 0).sum()) > 0
    True
    """

    _needs_labels = True
    _one_row_is_enough = True
    _identity = {"sparsity": 0.0}
    # Which weights go is a choice, and weights rounded to 8 bits make another one.
    _half_precision_tol = 1.0
    _kinds = tuple(kind for kind in MATRICES if kind != "Embedding")
    _parameter_constraints: dict = {
        "sparsity": [Interval(Real, 0, 1, closed="left"), str],
        "n_recomputations": [Interval(Integral, 1, None, closed="left")],
        "n_gradients": [Interval(Integral, 1, None, closed="left")],
        "samples_per_gradient": [Interval(Integral, 1, None, closed="left")],
        "damping": [Interval(Real, 0, None, closed="neither")],
        "joint": ["boolean"],
        "targets": BaseCompressor._parameter_constraints["targets"],
        "loss": [StrOptions(set(LOSSES)), callable],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_memory": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        sparsity: Any = 0.9,
        *,
        n_recomputations: int = 8,
        n_gradients: int = 512,
        samples_per_gradient: int = 1,
        damping: float = 1e-5,
        joint: bool = True,
        targets: Any = None,
        loss: Any = "auto",
        batch_size: int | None = None,
        max_memory: float = 4.0,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.sparsity = sparsity
        self.n_recomputations = n_recomputations
        self.n_gradients = n_gradients
        self.samples_per_gradient = samples_per_gradient
        self.damping = damping
        self.joint = joint
        self.targets = targets
        self.loss = loss
        self.batch_size = batch_size  # type: ignore[assignment]
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, module: Any, X: Any = None, y: Any = None) -> "MFACPruner":
        """Find which weights go, and what becomes of the others; the network is not changed.

        Parameters
        ----------
        module : torch.nn.Module
            The trained network.
        X : array-like, tensor, tuple, dict, list of batches or DataLoader
            Inputs of the network, mostly those of its training. An array or a tensor has samples
            along its first axis; a tuple or a dict has an array for each argument. A list, a
            DataLoader or another iterable has batches, each ending with its targets.
        y : array-like or None
            Targets; None where `X` has batches.

        Returns
        -------
        self : MFACPruner
            The fitted object.
        """
        check_module(module, "MFACPruner")
        pattern = _pattern(self.sparsity)
        layers = find_layers(module)
        chosen = choose_layers(layers, self.targets, self._kinds)
        names = [f"{layer.name}.weight".lstrip(".") for layer in chosen]
        objective = Objective(
            module,
            X,
            y,
            loss=self.loss,
            name="MFACPruner",
            batch_size=self.batch_size,
            parameters=names,
        )
        m = min(self.n_gradients, -(-objective.n_samples // self.samples_per_gradient))
        size = torch.empty(0, dtype=objective.dtype).element_size()
        needed = 2 * m * objective.n_parameters * size / 2**30
        if needed > self.max_memory:
            raise ValueError(
                f"MFACPruner: {m} gradients of {objective.n_parameters} weights take {needed:.3g} "
                f"GiB, above max_memory={self.max_memory:g}; take fewer (n_gradients), fewer "
                "layers (targets), or allow more"
            )
        where = dict(zip(names, chosen))
        groups = None if pattern is None else _groups(objective, where, pattern[1])
        with plain_tensors():
            self.loss_ = objective.mean_loss()
            before = objective.vector()
            scores = torch.zeros_like(before, dtype=torch.float64)
            self._prune(objective, scores, pattern, groups)
            self.pruned_loss_ = objective.mean_loss()
            self._set_results(module, layers, where, objective, before, scores)
        return self

    def _prune(self, objective: Objective, scores: Any, pattern: Any, groups: Any) -> None:
        if pattern is None and self.sparsity == 0:
            return
        rng = check_random_state(self.random_state)
        d, steps = objective.n_parameters, self.n_recomputations
        alive = torch.ones(d, dtype=torch.bool, device=objective.device)
        for j in progress(
            range(1, steps + 1), total=steps, description="MFACPruner", verbose=self.verbose
        ):
            rho = self._step_scores(objective, alive, rng)
            scores[alive] = rho[alive]
            share = j / steps
            if pattern is None:
                goal = d - round(float(d * (1 - self.sparsity) ** share))
                order = torch.argsort(torch.where(alive, rho, -1.0), stable=True)
                drop = torch.zeros_like(alive)
                drop[order[:goal]] = True
            else:
                keep, of = pattern
                stay = round(of - (of - keep) * share)
                cost = torch.where(alive, rho, -1.0)[groups]
                order = torch.argsort(cost, dim=1, stable=True)
                drop = torch.zeros_like(alive)
                drop[torch.gather(groups, 1, order[:, : of - stay]).reshape(-1)] = True
            drop &= alive
            w = objective.vector()
            if bool(drop.any()):
                w = self._without(w, alive, drop)
            alive &= ~drop
            objective.set_vector(w * alive)

    def _step_scores(self, objective: Objective, alive: Any, rng: Any) -> Any:
        """Collect gradients of the weights that are left, and return what each costs."""
        wanted = min(self.n_gradients * self.samples_per_gradient, objective.n_samples)
        index = np.arange(objective.n_samples)
        if wanted < len(index):
            index = np.sort(rng.permutation(len(index))[:wanted])
            if self.samples_per_gradient > 1:
                index = rng.permutation(index)
        G = objective.sample_gradients(
            torch.from_numpy(index), samples_per_gradient=self.samples_per_gradient
        )
        self._G = G[:, alive]
        inverse = InverseFisher(self._G, self.damping)
        w = objective.vector()[alive].to(torch.float64)
        diagonal = inverse.diagonal()
        rho = torch.zeros(len(alive), dtype=torch.float64, device=alive.device)
        rho[alive] = (w.square() / (2 * diagonal)).to(rho)
        if not self.joint:
            self._inverse, self._diagonal = inverse, diagonal
        return rho

    def _without(self, w: Any, alive: Any, drop: Any) -> Any:
        """Return weights that make up for those that go."""
        gone = drop[alive]
        own = w[alive]
        if self.joint:
            # The optimum of the quadratic model given the zeros: a ridge regression of what the
            # weights that go contributed to each gradient's product, on those that stay.
            stay = self._G[:, ~gone]
            missing = self._G[:, gone] @ own[gone]
            own[~gone] += InverseFisher(stay, self.damping).pull(missing)
        else:
            t = torch.zeros_like(own)
            t[gone] = (-own[gone] / self._diagonal[gone]).to(own.dtype)
            own += self._inverse.solve(t)
        own[gone] = 0
        w[alive] = own
        return w

    def _set_results(
        self, module: Any, layers: Any, where: Any, objective: Objective, before: Any, scores: Any
    ) -> None:
        for name in ("_G", "_inverse", "_diagonal"):
            self.__dict__.pop(name, None)
        report, self._found, self.mask_, self.scores_ = {}, {}, {}, {}
        for layer in layers:
            reason = layer.reason or "it is not among the targets"
            if not layer.reason and layer.kind not in self._kinds:
                reason = f"MFACPruner prunes no {layer.kind}"
            report[layer.name] = _row(layer, module.get_submodule(layer.name), "skipped", reason)
            report[layer.name]["n_nonzero"] = report[layer.name]["params_before"]
        w = objective.vector()
        zeros = 0
        for name, layer in where.items():
            at = objective.slices[name]
            shape = module.get_submodule(layer.name).weight.shape
            new, old = w[at].reshape(shape).cpu(), before[at].reshape(shape).cpu()
            row = report[layer.name]
            if torch.equal(new, old):
                row.update(status="kept", reason="none of its weights goes")
                continue
            n_zero = int((new == 0).sum())
            zeros += n_zero
            norm = float(old.norm())
            row.update(
                status="compressed",
                reason="",
                n_nonzero=row["params_before"] - n_zero,
                relative_error=float((new - old).norm()) / norm if norm else 0.0,
            )
            self.mask_[layer.name] = (new != 0).numpy()
            self.scores_[layer.name] = scores[at].reshape(shape).cpu().numpy()
            self._found[layer.name] = Pruned(layer, new)
        self.report_ = list(report.values())
        self.sparsity_ = float((w == 0).sum()) / len(w)
        self.n_params_before_ = self.n_params_after_ = n_parameters(module)
        self.ratio_ = 1.0
        self.n_nonzero_ = self.n_params_before_ - zeros


def _pattern(sparsity: Any) -> tuple[int, int] | None:
    if not isinstance(sparsity, str):
        return None
    found = re.fullmatch(r"(\d+):(\d+)", sparsity)
    if not found or not 0 < int(found[1]) < int(found[2]):
        raise ValueError(
            f"sparsity must be a share from 0 to below 1, or a pattern 'n:m' with 0 < n < m such "
            f"as '2:4', got {sparsity!r}"
        )
    return int(found[1]), int(found[2])


def _groups(objective: Objective, where: dict[str, Layer], of: int) -> torch.Tensor:
    """Return the places of the weights that stand together along the inputs of a layer."""
    found = []
    for name, layer in where.items():
        outputs, inputs = layer.shape
        if inputs % of:
            raise ValueError(
                f"MFACPruner: layer {layer.name!r} has {inputs} inputs, which are no multiple of "
                f"{of}; leave it out (targets)"
            )
        at = objective.slices[name]
        places = torch.arange(at.start, at.stop, device=objective.device)
        if layer.kind == "Conv1D":  # its weight is (inputs, outputs)
            places = places.reshape(inputs, outputs).T
        found.append(places.reshape(-1, of))
    return torch.cat(found)
