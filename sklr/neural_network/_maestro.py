"""Classification by a network that is trained once and served at every size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._batchnorm import running_norms, statistics_left_alone
from sklr._torch._device import resolve_device
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import Stage, TrainState
from sklr.neural_network._served_ratios import ServedRatios
from sklr.neural_network._solvers import make_optimizer

if TYPE_CHECKING:
    from torch import Tensor, nn

# Sizes that are drawn from while it is trained, and steps after which they are chosen anew.
_N_SIZES = 32
_MEASURED_EVERY = 100


class MaestroClassifier(ServedRatios, TorchClassifierMixin, TorchEstimator):
    """Classifier by a network that is trained once, and served at every size.

    Layers are products of two factors whose columns come in an order of importance: while it is
    trained, each step also runs the network at a smaller size, which learns to answer as the whole
    does. Afterwards ``set_params(ratio=...)`` chooses how many of the parameters answer, without
    another fit, and :meth:`export` returns the plain small network.

    Parameters
    ----------
    module : torch.nn.Module or callable, default=None
        The network that makes the logits. None builds a perceptron with `hidden_layer_sizes`, of
        which the features are standardised first.
        {how_module_is_given}
    ratio : float, default=1.0
        Share of the dense network's parameters that answer, at most. It may be changed after
        ``fit``. Training does not depend on it.
    sampling : {"sizes", "pairs", "all"}, default="sizes"
        What the second pass of a step truncates. "sizes": all layers, to one of the sizes that will
        be served; the ranks of each size follow the losses that are measured when one layer alone
        is truncated. "pairs": one layer to one rank, as in [1]_. "all": every layer to a rank of
        its own.
    warmup_iter : int or "auto", default="auto"
        First epochs in which the network is trained as it is; then its layers are decomposed.
        "auto" is three tenths of `max_iter`; 0 decomposes the first weights, as in [1]_.
    lasso : float, default=0.0
        Weight of the hierarchical group lasso, which makes ranks die from the end while it is
        trained. All sizes are served without it; it makes the largest one smaller.
    threshold : float, default=1e-5
        After each epoch the columns at the end whose norms have a product below this are gone.
    targets : None, str, list of str or callable, default=None
        Layers that are decomposed: None is every linear layer and two-dimensional convolution
        that can be. A list has names or their last parts; another string is one such name, or,
        after ``"re:"``, a regular expression. A callable gets each name and layer.
    hidden_layer_sizes : array-like of int, default=(128, 128)
        Widths of the layers of the perceptron.
    solver : {"adam", "adamw", "sgd"}, default="adam"
        Optimiser.
    learning_rate : float, default=1e-3
        First learning rate; it falls to 0 along a cosine in `max_iter` epochs.
    {momentum}
    weight_decay : float, default=0.0
        Weight decay, of what is not decomposed: it would shrink factors as the lasso does.
    {max_iter}
    batch_size : int or "auto", default="auto"
        Samples of a batch; "auto" is 64, or all where there are fewer.
    {class_weight}
    {early_stopping}
    {validation_fraction}
    {n_iter_no_change}
    {tol}
    {dtype}
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    {classes_}
    module_ : torch.nn.Module
        The trained network with ordered layers, for all sizes: ``module_.network``, and with the
        default network ``module_.scale`` before it.
    ranks_ : dict of str to int
        Columns that are left of each ordered layer.
    rank_history_ : list of dict
        The same after each epoch with ordered layers.
    losses_ : dict of str to ndarray of shape (rank + 1,)
        Cross entropy with the whole network's answers when one layer alone is truncated to 0, 1,
        ... columns, on 512 training samples at most; measured at 12 widths, interpolated between.
        It decides which columns a `ratio` keeps.
    {n_iter_}
    loss_curve_ : list of float
        Mean loss of each epoch; after the warm-up that of both passes.
    loss_terms_ : dict of str to list of float
        Both passes by themselves, "whole" and "small"; NaN in the warm-up.
    validation_scores_ : list of float
        Accuracy after each epoch, after the warm-up the mean over four sizes; only with
        `early_stopping` or `X_val`.
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    SizeCurveDisplay : Accuracy against size.
    sklr.nn.OrderedLinear : The layer, for networks of your own.
    sklr.nn.compression.AtomicFeatureMimicking : Makes a trained network smaller, without labels.
    sklearn.neural_network.MLPClassifier : A perceptron of one size.

    Notes
    -----
    A step costs two passes of thin layers, about twice a step of the dense network. With ``ratio``
    below 1 each call of ``predict`` cuts the network first; take :meth:`export` to serve single
    samples. A network with batch normalisation has its running statistics measured for each size,
    on 512 training samples that the fitted estimator keeps.

    References
    ----------
    .. [1] S. Horvath, S. Laskaridis, S. Rajput and H. Wang, "Maestro: uncovering low-rank
       structures via trainable decomposition", ICML 2024, arXiv:2308.14929.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import MaestroClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MaestroClassifier(learning_rate=0.01, max_iter=15, random_state=0).fit(X, y)
    >>> bool(classifier.score(X, y) > 0.9)
    True
    >>> bool(classifier.set_params(ratio=0.2).score(X, y) > 0.9)
    True
    >>> sum(p.numel() for p in classifier.export().parameters())
    3459
    """

    _parameter_constraints: dict = {
        "ratio": [Interval(Real, 0, 1, closed="right")],
        "sampling": [StrOptions({"sizes", "pairs", "all"})],
        "warmup_iter": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "lasso": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, None, closed="left")],
        "targets": [str, "array-like", callable, None],
        **training_constraints(
            "module",
            "hidden_layer_sizes",
            "solver",
            "learning_rate",
            "momentum",
            "weight_decay",
            "max_iter",
            "batch_size",
            "class_weight",
            "early_stopping",
            "validation_fraction",
            "n_iter_no_change",
            "tol",
            "dtype",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }

    def __init__(
        self,
        module: Callable[..., Any] | None = None,
        *,
        ratio: float = 1.0,
        sampling: str = "sizes",
        warmup_iter: int | str = "auto",
        lasso: float = 0.0,
        threshold: float = 1e-5,
        targets: Any = None,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        solver: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_iter: int = 50,
        batch_size: int | str = "auto",
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        dtype: str = "auto",
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.module = module
        self.ratio = ratio
        self.sampling = sampling
        self.warmup_iter = warmup_iter
        self.lasso = lasso
        self.threshold = threshold
        self.targets = targets
        self.hidden_layer_sizes = hidden_layer_sizes
        self.solver = solver
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    _network_parameters = ("targets",)
    # Read while the network is made, for errors before the training; any value serves later.
    _served_parameters = ("ratio",)

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        from sklr.nn._ordered._layers import layers_to_order

        parts = self._parts(n_in, n_out)
        chosen = layers_to_order(parts["network"], self.targets)
        entries = sum(m * n for m, n in (layer.shape for layer in chosen))
        least = sum(min(m + n, m * n) for m, n in (layer.shape for layer in chosen))
        self._n_dense = sum(p.numel() for p in parts["network"].parameters())
        # What is in no factor: biases, layers that stay as they are.
        self._n_rest = self._n_dense - entries
        self._check_ratio(self.ratio, least)
        return nn.Sequential(parts)

    def _stages(self) -> list[Stage]:
        warm = self._warm_epochs("the ordered layers")
        first = [Stage(warm, "warm-up")] if warm else []
        return [*first, Stage(self.max_iter - warm, "ordered", begin=self._order)]

    def _order(self, module: Any, step: TrainState) -> None:
        """Decompose the layers, where they are not, and begin to draw sizes."""
        from sklr.nn._ordered._layers import decompose_, layers_to_order, ordered_layers

        if not ordered_layers(module):
            module.network = decompose_(
                module.network, layers_to_order(module.network, self.targets)
            )
        norms = running_norms(module)
        step.memory.update(ordered=True, shrinkage=0.0, history=[], norms=norms)
        self._draw_from(module, step)

    def _draw_from(self, module: Any, step: TrainState) -> None:
        """Make the sampler of widths; that of sizes follows what is measured now."""
        from sklr.nn import RankSampler

        sampling: Any = self.sampling
        step.memory["drawn"] = step.number
        if sampling == "sizes":
            _, sizes = self._measured(
                module.network, step.X, step.weights, module, step.device, quick=True
            )
            budgets = np.geomspace(sizes.least, max(sizes.most, sizes.least + 1), _N_SIZES + 1)
            step.memory["sizes"] = sampling = [sizes.ranks(budget) for budget in budgets[:-1]]
        if sampling == "pairs" and "sampler" in step.memory:
            return  # it goes on with its cycle
        step.memory["sampler"] = RankSampler(
            module.network, sampling=sampling, random_state=step.rng
        )

    def _optimizers(self, module: nn.Module) -> Any:
        from sklr.nn._ordered._layers import ordered_layers

        t = self._training
        factors = {
            id(weight)
            for layer in ordered_layers(module).values()
            for weight in (layer.down.weight, layer.up.weight)
        }
        trained = [p for p in module.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": trained}]
        if t.weight_decay:
            rest = [p for p in trained if id(p) not in factors]
            groups = [
                {"params": [p for p in trained if id(p) in factors], "weight_decay": 0.0},
                {"params": rest, "weight_decay": t.weight_decay},
            ]
        # One kernel a step in place of some ten for each parameter.
        if all(p.device.type in ("cpu", "cuda") for p in trained):
            groups = [{**group, "fused": True} for group in groups]
        return make_optimizer(
            t.solver,
            [group for group in groups if group["params"]],
            lr=t.learning_rate,
            momentum=t.momentum,
        )

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        from torch.nn.functional import cross_entropy

        reduction = "mean" if step.batch_weights is None else "none"
        logits = self._logits(module, xb)
        whole = cross_entropy(logits, yb, reduction=reduction)
        if "sampler" not in step.memory:
            return whole
        target = logits.detach().softmax(dim=1)
        with step.memory["sampler"], statistics_left_alone(step.memory["norms"]):
            small = cross_entropy(self._logits(module, xb), target, reduction=reduction)
        step.log("whole", whole.mean())
        step.log("small", small.mean())
        return whole + small

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        loss = super()._step(module, xb, yb, step)
        if step.memory.get("ordered"):
            step.memory["shrinkage"] += self.lasso * step.optimizers[0].param_groups[0]["lr"]
            if (step.number + 1 - step.stage_began) % step.n_batches == 0:
                self._end_epoch(module, step)
        return loss

    def _end_epoch(self, module: Any, step: TrainState) -> None:
        """Shrink, and look again at which sizes are worth it."""
        from sklr.nn import shrink_
        from sklr.nn._ordered._lasso import proximal_step_

        memory = step.memory
        if self.lasso:
            proximal_step_(module.network, memory["shrinkage"])
            memory["shrinkage"] = 0.0
        memory["history"].append(shrink_(module.network, self.threshold))
        if self.sampling == "sizes" and step.number - memory["drawn"] >= _MEASURED_EVERY:
            self._draw_from(module, step)

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return the accuracy; with ordered layers the mean of the whole and three sizes."""
        from sklr.nn import RankSampler

        scores = [super()._validation_score(module, X, y, step)]
        sizes = step.memory.get("sizes", [])
        for one in sizes[_N_SIZES // 4 :: _N_SIZES // 4]:
            with RankSampler(module.network, sampling=[one], random_state=0):  # type: ignore[arg-type]
                scores.append(super()._validation_score(module, X, y, step))
        return float(np.mean(scores))

    def _fit_network(self, X: np.ndarray, y: Any = None, **options: Any) -> TrainState:
        state = super()._fit_network(X, y, **options)
        if "ordered" not in state.memory:  # a callback ended the training in the warm-up
            self._order(self.module_, state)
        self.rank_history_: list[dict[str, int]] = state.memory["history"]
        self._end_fit(state.X, state.weights, state.device)
        return state

    def _one_epoch(self, X: np.ndarray, y: Any, n_out: Any, weights: Any, first: bool) -> None:
        former = [] if first else self.rank_history_
        super()._one_epoch(X, y, n_out, weights, first)
        self.rank_history_ = [*former, self.ranks_]
        device = resolve_device(self._training.device)
        self._end_fit(self._samples(X, device), self._tensor(weights, device), device)

    def _check_weights(self, state: dict[str, Tensor]) -> None:
        for name, layer in self.module_.named_modules():
            key = f"{name}._extra_state"
            if key in state and not 0 <= int(state[key].reshape(-1)[0]) <= layer.max_rank:  # type: ignore[operator]
                raise ValueError(
                    f"{key} in the weights is {int(state[key].reshape(-1)[0])}, no rank between 0 "
                    f"and {layer.max_rank}"
                )
