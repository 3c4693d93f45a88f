"""Classification by a network that is adapted with few numbers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

from sklr._torch._batches import in_chunks
from sklr._torch._layers import MATRICES, find_layers
from sklr._torch._modules import mlp, output_width, own_module
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import Stage, TrainState
from sklr.neural_network._solvers import make_optimizer
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import Tensor, nn

# What the learning rate is multiplied by, so that one grid over adapters is a fair one: the best
# rates of few numbers are larger, that of a whole network is smaller (bench_adapters.py).
RATES = {
    "lora": 1.0,
    "block_lora": 1.0,
    "flora": 1.0,
    "svfit": 10.0,
    "loldu": 3.0,
    "head": 1.0,
    "full": 0.3,
}


class AdapterClassifier(StandardizedInput, TorchClassifierMixin, TorchEstimator):
    """Classifier by a trained network whose weights stay as they are, beside an adapter.

    For few labelled samples and a network that was trained on others: an adapter changes its
    layers with some hundred or thousand numbers, and a new head is trained with it. Adapters and
    ranks can be chosen by one ``GridSearchCV``.

    Parameters
    ----------
    module : torch.nn.Module or callable, default=None
        The trained network. None builds a perceptron with `hidden_layer_sizes`, of which the
        features are standardised first, that is trained on the same data in the first half of the
        epochs: there is nothing to adapt then, and it is no better than a perceptron.
        {how_module_is_given}
    adapter : {"lora", "block_lora", "svfit", "loldu", "flora", "head", "full"}, default="lora"
        Kind of :func:`~sklr.nn.adapters.add_adapter`; "head" trains the head alone (a linear
        probe), "full" the whole network.
    rank : int, float, "energy", tuple, dict or None, default=None
        Rank of the adapter, as its class in :mod:`sklr.nn.adapters` takes it; None is its default.
        "head" and "full" have none.
    targets : None, str, list of str or callable, default=None
        Layers to adapt, as :func:`~sklr.nn.adapters.add_adapter` takes them; None is all but
        the head.
    adapter_params : dict, default=None
        Further parameters of the adapter, such as ``{"alpha": 16}``.
    merge : bool, default=True
        Whether ``fit`` ends with plain layers. False keeps the adapter in ``module_``, where it
        can be switched off, or saved by :func:`~sklr.nn.adapters.save_adapter`.
    head : {"auto", "new", "keep"}, default="auto"
        Whether the outputs of `module` are features, on which a new linear layer makes the
        logits, or the logits themselves, so that its last layer is the head. "auto" keeps a head
        that has as many outputs as there are classes. A new head begins as a logistic regression
        on the features; either is trained as a whole.
    hidden_layer_sizes : array-like of int, default=(128,)
        Widths of the layers of the perceptron.
    solver : {"adam", "adamw", "sgd"}, default="adamw"
        Optimiser.
    learning_rate : float, default=3e-3
        First learning rate of LoRA; it falls to 0 along a cosine in `max_iter` epochs. That of
        SVFit is 10 times, that of LoLDU 3 times as high, that of "full" 0.3 times.
    {momentum}
    weight_decay : float, default=0.0
        Weight decay of LoRA's matrices and of the head.
    {max_iter}
    batch_size : int or "auto", default="auto"
        Samples of a batch; "auto" is 32, or all where there are fewer.
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
        The adapted network; with a new head, ``module_.features`` and ``module_.head``; the
        default one is ``module_.network``, and ``module_.scale`` before it.
    n_trainable_ : int
        Numbers that were trained, the head among them.
    n_total_ : int
        Parameters of the network without its adapter.
    adapter_report_ : list of dict
        The adapted layers, as :func:`~sklr.nn.adapters.parameter_report` gives them.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklr.nn.adapters.add_adapter : The adapters, for a loop of your own.
    peft.get_peft_model : The peer for networks of transformers.
    sklearn.neural_network.MLPClassifier : A perceptron trained from scratch.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022,
       arXiv:2106.09685.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from sklr.neural_network import AdapterClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> def perceptron(n_features):
    ...     return nn.Sequential(nn.Linear(n_features, 128), nn.ReLU(), nn.Linear(128, 10))
    >>> trained = AdapterClassifier(perceptron, adapter="full", max_iter=9, random_state=0)
    >>> trained = trained.fit(X[:900] / 16, y[:900]).module_
    >>> tilted = X[900:].reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64) / 16
    >>> adapted = AdapterClassifier(trained, rank=4, learning_rate=0.02, random_state=0)
    >>> adapted = adapted.fit(tilted[:200], y[900:1100])
    >>> adapted.n_trainable_, adapted.n_total_
    (2058, 9610)
    >>> bool(adapted.score(tilted[200:], y[1100:]) > 0.8)
    True
    """

    _parameter_constraints: dict = {
        "adapter": [StrOptions(set(RATES))],
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
            StrOptions({"energy"}),
            tuple,
            list,
            dict,
            None,
        ],
        "targets": [str, list, tuple, callable, None],
        "adapter_params": [dict, None],
        "merge": ["boolean"],
        "head": [StrOptions({"auto", "new", "keep"})],
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
    _network_parameters = ("adapter", "rank", "targets", "adapter_params", "head")
    _auto_batch_size = 32

    def __init__(
        self,
        module: Callable[..., Any] | None = None,
        *,
        adapter: str = "lora",
        rank: Any = None,
        targets: Any = None,
        adapter_params: dict[str, Any] | None = None,
        merge: bool = True,
        head: str = "auto",
        hidden_layer_sizes: Sequence[int] = (128,),
        solver: str = "adamw",
        learning_rate: float = 3e-3,
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
        self.adapter = adapter
        self.rank = rank
        self.targets = targets
        self.adapter_params = adapter_params
        self.merge = merge
        self.head = head
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

    # The network and its head.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        self._check_adapter_params()
        if self.module is None:
            self._new_head = False
            network = mlp(n_in, self.hidden_layer_sizes, n_out)
            return nn.Sequential(self._standardized(n_in, network))
        features = own_module(self.module, n_in)
        width = output_width(features, n_in)
        if self.head == "keep" and width != n_out:
            raise ValueError(
                f"head='keep' takes the {width} outputs of module for logits, and there are "
                f"{n_out} classes: take head='new'"
            )
        self._new_head = self.head == "new" or width != n_out
        if not self._new_head:
            return features
        return nn.Sequential(OrderedDict(features=features, head=nn.Linear(width, n_out)))

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        super()._check_module(module, X, n_out)
        if self.module is None:
            # Before the perceptron is trained.
            self._adapt(copy.deepcopy(module))

    def _check_adapter_params(self) -> None:
        from sklr.nn.adapters._functions import KINDS, _check_params

        params = self.adapter_params or {}
        if self.adapter not in KINDS:
            if params:
                raise ValueError(f"adapter={self.adapter!r} has no adapter_params, got {params}")
            return
        for key in ("rank", "targets", "random_state"):
            if key in params:
                raise ValueError(f"{key} is a parameter of its own: not in adapter_params")
        _check_params(self.adapter, params)

    def _adapt(self, module: nn.Module) -> None:
        """Put the adapter in, and freeze what is not trained."""
        from sklr.nn.adapters._functions import KINDS, add_adapter
        from sklr.nn.adapters._slots import choose_slots, find_slots

        if self.adapter == "full":
            return
        body: Any = module.features if self._new_head else module
        head = None if self._new_head else _last_layer(module)
        if self.adapter not in KINDS:
            body.requires_grad_(False)
            if head is not None:
                module.get_submodule(head).requires_grad_(True)
            return
        targets = self.targets
        if targets is None and (self._new_head or len(find_slots(body)) < 2):
            targets = "all"
        if head is not None:
            named = {slot.part for slot in choose_slots(find_slots(body), targets)}
            if module.get_submodule(head) in named:
                head = None  # it is adapted instead
        params = dict(self.adapter_params or {})
        if self.rank is not None:
            params["rank"] = self.rank
        seed = int(np.random.RandomState(self._seed).randint(2**31 - 1))  # noqa: NPY002
        train = None if head is None else f"re:{_escaped(head)}[.].*" if head else "re:[^.]*"
        add_adapter(body, self.adapter, targets=targets, train=train, random_state=seed, **params)

    def _stages(self) -> list[Stage]:
        n_epochs = self._training.max_iter
        adapting = Stage(n_epochs, "adapter", begin=self._begin_adapting)
        if self.module is not None:
            return [adapting]
        first = Stage((n_epochs + 1) // 2, "base", optimizers=self._optimizers_of_all)
        return [first, Stage(n_epochs // 2, "adapter", begin=self._begin_adapting)]

    def _begin_adapting(self, module: nn.Module, step: TrainState) -> None:
        from sklr.nn.adapters._record import records_in

        if records_in(module):  # a further epoch of partial_fit
            return
        if self._new_head and step.n_epochs is not None:
            _begin_with_logistic_regression(module, step)
        self._adapt(module)

    # Training.

    def _optimizers(self, module: nn.Module) -> Any:
        from sklr.nn.adapters._functions import KINDS
        from sklr.nn.adapters._trained import adapter_param_groups

        rate = self.learning_rate * RATES[self.adapter]
        groups: list[dict[str, Any]] = []
        if self.adapter in KINDS:
            groups = adapter_param_groups(
                *(module, rate),
                lr_of_rest=self.learning_rate,
                weight_decay=self.weight_decay,
            )
            rate = self.learning_rate
        grouped = {id(p) for group in groups for p in group["params"]}
        # A new head stands outside of what is adapted.
        rest = [p for p in module.parameters() if p.requires_grad and id(p) not in grouped]
        if rest:
            groups.append({"params": rest, "lr": rate, "weight_decay": self.weight_decay})
        return self._made(groups, rate)

    def _optimizers_of_all(self, module: nn.Module) -> Any:
        params = [p for p in module.parameters() if p.requires_grad]
        return self._made([{"params": params}], self.learning_rate)

    def _made(self, groups: list[dict[str, Any]], rate: float) -> Any:
        return make_optimizer(
            *(self.solver, groups),
            lr=rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    def _fit_network(self, *args: Any, **kwargs: Any) -> TrainState:
        state = super()._fit_network(*args, **kwargs)
        self._count()
        if self.merge:
            self._merge()
        return state

    def _fit_one_epoch(self, *args: Any, **kwargs: Any) -> None:
        from sklr.nn.adapters._functions import KINDS
        from sklr.nn.adapters._record import records_in

        if self.module is None:
            return super()._fit_one_epoch(*args, **kwargs)
        fitted = hasattr(self, "module_")
        if fitted and self.adapter in KINDS and not records_in(self.module_):
            # A fit has merged its adapter: a new one goes on. On a copy, so that a failure finds
            # the network as it was.
            self._refuse_changed_parameters()
            module = copy.deepcopy(self.module_)
            self._adapt(module)
            self.module_ = module
        super()._fit_one_epoch(*args, **kwargs)
        self._count()
        return None

    def _count(self) -> None:
        from sklr.nn.adapters import parameter_report

        report = parameter_report(self.module_)
        added = sum(row["trainable"] for row in report["layers"])
        self.n_trainable_ = report["trainable"]
        self.n_total_ = report["total"] - added
        self.adapter_report_ = report["layers"]

    def _merge(self) -> None:
        from sklr.nn.adapters import merge_adapter
        from sklr.nn.adapters._record import records_in

        if records_in(self.module_):
            merge_adapter(self.module_)
        self.module_.requires_grad_(True)

    def _allow_nd(self) -> bool:
        return self.module is not None


def _last_layer(module: nn.Module) -> str | None:
    """Return the name of the last linear or convolutional layer."""
    layers = [
        layer.name
        for layer in find_layers(module)
        if layer.kind in MATRICES and layer.kind != "Embedding"
    ]
    return layers[-1] if layers else None


def _escaped(text: str) -> str:
    import re

    return re.escape(text)


def _begin_with_logistic_regression(module: Any, step: TrainState) -> None:
    """Let a new head begin where the features of the given network alone lead it."""
    import torch
    from sklearn.linear_model import LogisticRegression

    module.eval()
    with torch.no_grad():
        features = in_chunks(module.features, step.X, lambda m, xb, _: m(xb), step.device)
    F = features.double().cpu().numpy()
    y = step.y.cpu().numpy()  # type: ignore[union-attr]
    weights = None if step.weights is None else step.weights.double().cpu().numpy()
    if not np.isfinite(F).all():
        raise ValueError("module makes features that are not finite of these samples")
    mean, std = F.mean(axis=0), F.std(axis=0)
    std[std <= 1e-7 * np.abs(F).max(initial=0.0)] = 1.0
    model = LogisticRegression(max_iter=200, tol=1e-6)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a start
        model.fit((F - mean) / std, y, sample_weight=weights)
    if len(model.classes_) == 2:
        coef = np.concatenate([-model.coef_, model.coef_]) / 2
        intercept = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coef, intercept = model.coef_, model.intercept_
    coef = coef / std
    intercept = intercept - coef @ mean
    with torch.no_grad():
        head = module.head
        head.weight.zero_()
        head.bias.zero_()
        rows = torch.as_tensor(model.classes_, device=head.weight.device).long()
        head.weight[rows] = torch.as_tensor(coef).to(head.weight)
        head.bias[rows] = torch.as_tensor(intercept).to(head.bias)
