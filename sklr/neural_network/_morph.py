"""Classification by a network that is trained once and served at every width."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._untouched import copy_of
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import Stage, TrainState
from sklr.neural_network._served_sizes import ServedSizes

if TYPE_CHECKING:
    from torch import Tensor, nn


class MorphableClassifier(ServedSizes, TorchClassifierMixin, TorchEstimator):
    """Classifier by a network that is trained once, and served at every width.

    The network is trained as it is first. Then the units of each hidden layer are put in an order
    in which neighbours are alike, and from there on each step also trains narrower networks, whose
    units stand for several neighbours each. Afterwards ``set_params(width=...)`` chooses the share
    of units that answer, without another fit, and :meth:`export` returns the plain narrow network.

    Parameters
    ----------
    module : torch.nn.Module or callable, default=None
        The network that makes the logits: a chain of layers, as ``sklr.nn.permutation_groups``
        takes. None builds a perceptron with `hidden_layer_sizes`, of which the features are
        standardised first.
        {how_module_is_given}
        Batch normalisation is folded into the layer before it, after the warm-up.
    width : float, default=1.0
        Share of the units of each hidden layer that answer, from `min_width` to 1. It may be
        changed after ``fit``. Training does not depend on it.
    min_width : float, default=0.25
        The smallest share that is trained, and served.
    widths : array-like of float, default=None
        Shares that are trained: None draws a new one from `min_width` to 1 in each step, a list
        draws one of it. All shares are served either way.
    method : {"field", "slimmable"}, default="field"
        What a narrow network is. "field": its units stand for neighbours, whose weights are
        averaged on the way in and summed on the way out. "slimmable": the first units of each layer
        alone, as in [2]_; they are put in an order of importance after the warm-up.
    smooth : bool, default=True
        Whether units are put in an order after the warm-up.
    warmup_iter : int or "auto", default="auto"
        First epochs in which the network is trained as it is. "auto" is half of `max_iter`
        with "field", none with "slimmable".
    hidden_layer_sizes : array-like of int, default=(128, 128)
        Widths of the layers of the perceptron.
    solver : {"adam", "adamw", "dct_adamw", "mfac", "sgd", "trion"}, default="adam"
        Optimiser.
    learning_rate : float, default=1e-3
        First learning rate; it falls to 0 along a cosine in `max_iter` epochs.
    {momentum}
    weight_decay : float, default=0.0
        Weight decay.
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
        The trained network: ``module_.network``, a ``sklr.nn.WeightField``, and with the default
        network ``module_.scale`` before it.
    permutation_ : list of ndarray of shape (n_units,)
        For each hidden layer the order in which its units were put.
    total_variation_ : tuple of float
        How much the weights of neighbouring units differed before and after that; see
        ``sklr.nn.total_variation``.
    {n_iter_}
    loss_curve_ : list of float
        Mean loss of each epoch; after the warm-up the sum over the networks of a step.
    loss_terms_ : dict of str to list of float
        Its parts: "whole", "drawn" and "smallest"; NaN in the warm-up.
    validation_scores_ : list of float
        Accuracy after each epoch, after the warm-up the mean over four widths; only with
        `early_stopping` or `X_val`.
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    MaestroClassifier : Keeps all units, and has fewer columns in products of two factors.
    SizeCurveDisplay : Accuracy against size.
    sklr.nn.WeightField : The networks of all widths, for a loop of your own.
    sklearn.neural_network.MLPClassifier : A perceptron of one width.

    Notes
    -----
    A step after the warm-up runs three networks: the whole, one of a drawn width, the smallest. In
    [1]_ networks of coordinates make the weights; here weights are constant on the interval that a
    unit occupies, and a narrow network has the integrals over its wider intervals.

    References
    ----------
    .. [1] X. Yang and X. Wang, "Neural metamorphosis", ECCV 2024, arXiv:2410.11878.
    .. [2] J. Yu and T. Huang, "Universally slimmable networks and improved training techniques",
       ICCV 2019, arXiv:1903.05134.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import MorphableClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MorphableClassifier(learning_rate=0.01, max_iter=15, random_state=0).fit(X, y)
    >>> bool(classifier.score(X, y) > 0.9)
    True
    >>> bool(classifier.set_params(width=0.25).score(X, y) > 0.9)
    True
    >>> classifier.export()[1][2]
    Linear(in_features=32, out_features=32, bias=True)
    """

    _parameter_constraints: dict = {
        "width": [Interval(Real, 0, 1, closed="right")],
        "min_width": [Interval(Real, 0, 1, closed="right")],
        "widths": ["array-like", None],
        "method": [StrOptions({"field", "slimmable"})],
        "smooth": ["boolean"],
        "warmup_iter": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
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
        width: float = 1.0,
        min_width: float = 0.25,
        widths: Any = None,
        method: str = "field",
        smooth: bool = True,
        warmup_iter: int | str = "auto",
        hidden_layer_sizes: Sequence[int] = (128, 128),
        solver: str = "adam",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_iter: int = 100,
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
        self.width = width
        self.min_width = min_width
        self.widths = widths
        self.method = method
        self.smooth = smooth
        self.warmup_iter = warmup_iter
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

    _network_parameters = ("method", "smooth", "min_width", "widths")
    _served_parameters = ("width",)
    _size_name = "width"

    @property
    def _warm_share(self) -> float:  # type: ignore[override]
        # First units learn best when they are first from the beginning.
        return 0.5 if self.method == "field" else 0.0

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        from sklr.nn._morph._field import check_layers
        from sklr.nn._morph._groups import fuse_batchnorm

        parts = self._parts(n_in, n_out)
        what = "hidden_layer_sizes" if self.module is None else "module"
        try:
            check_layers(fuse_batchnorm(parts["network"].eval()))
        except (NotImplementedError, ValueError) as exc:
            raise ValueError(f"{what} makes no network of several widths: {exc}") from exc
        parts["network"].train()
        self._least = float(self.min_width)
        self._check_size(self.width)
        self._drawn_widths()
        return nn.Sequential(parts)

    def _drawn_widths(self) -> np.ndarray | None:
        if self.widths is None:
            return None
        drawn = np.asarray(self.widths, dtype=float)
        inside = (drawn >= self.min_width) & (drawn <= 1)
        if drawn.ndim != 1 or not len(drawn) or not inside.all():
            raise ValueError(
                f"widths must be numbers from min_width={self.min_width:g} to 1, got {self.widths}"
            )
        return drawn

    def _stages(self) -> list[Stage]:
        warm = self._warm_epochs("the narrower networks")
        first = [Stage(warm, "warm-up")] if warm else []
        return [*first, Stage(self.max_iter - warm, "morph", begin=self._morph)]

    def _morph(self, module: Any, step: TrainState) -> None:
        """Put the units in order, and the network into a field; where that is not done yet."""
        import torch

        from sklr.nn import WeightField, fuse_batchnorm, total_variation
        from sklr.nn._morph._groups import permuted
        from sklr.nn._morph._smooth import importance_orders, smooth_orders

        step.memory["widths"] = self._drawn_widths()
        if isinstance(module.network, WeightField):
            return
        training = module.training
        network = fuse_batchnorm(module.network.eval())
        before = total_variation(network)
        orders = (smooth_orders if self.method == "field" else importance_orders)(network)
        if not self.smooth:
            orders = [np.arange(len(order)) for order in orders]
        network = permuted(network, [torch.from_numpy(order) for order in orders])
        self.permutation_ = orders
        self.total_variation_ = before, total_variation(network)
        module.network = WeightField(network, method=self.method)
        module.train(training)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        from torch.nn.functional import cross_entropy

        reduction = "mean" if step.batch_weights is None else "none"
        whole = cross_entropy(self._logits(module, xb), yb, reduction=reduction)
        if "widths" not in step.memory:
            return whole
        terms = {"whole": whole}
        for name, width in (("drawn", self._draw_width(step)), ("smallest", self._least)):
            logits = self._at_width(module, xb, width)
            terms[name] = cross_entropy(logits, yb, reduction=reduction)
        for name, value in terms.items():
            step.log(name, value.mean())
        return whole + terms["drawn"] + terms["smallest"]

    def _draw_width(self, step: TrainState) -> float:
        widths = step.memory["widths"]
        if widths is None:
            return float(step.rng.uniform(self._least, 1.0))
        return float(step.rng.choice(widths))

    def _at_width(self, module: Any, xb: Tensor, width: float) -> Tensor:
        """Return the logits of the network of a width."""
        x = module.scale(xb) if self.module is None else xb
        return module.network(x, width)  # type: ignore[no-any-return]

    def _validation_score(self, module: Any, X: Tensor, y: Any, step: TrainState) -> float:
        """Return the accuracy; after the warm-up the mean over four widths."""
        scores = [super()._validation_score(module, X, y, step)]
        if "widths" in step.memory:
            for width in np.linspace(self._least, 1.0, 4)[:-1]:
                small = self._at(module, float(width))
                scores.append(super()._validation_score(small, X, y, step))
        return float(np.mean(scores))

    def _fit_network(self, X: np.ndarray, y: Any = None, **options: Any) -> TrainState:
        state = super()._fit_network(X, y, **options)
        if "widths" not in state.memory:  # a callback ended the training in the warm-up
            self._morph(self.module_, state)
        return state

    # What is served.

    def _check_size(self, size: Any) -> None:
        number = isinstance(size, Real) and not isinstance(size, bool)
        if not (number and self._least <= float(size) <= 1):
            raise ValueError(
                f"width must be a number from min_width={self._least:g} to 1, got {size!r}"
            )

    def _cut(self, size: float) -> Any:
        return self._at(self.module_, size)

    def _at(self, module: Any, width: float) -> Any:
        """Return a plain network of a width, with what stands before it."""
        from torch import nn

        parts = OrderedDict(network=module.network.sample(width))
        if self.module is None:
            parts = OrderedDict(scale=copy_of(module.scale), **parts)
        return nn.Sequential(parts).train(module.training)

    def export(self, width: float | None = None) -> nn.Module:
        """Return the plain network of a width, as a Module of its own.

        Parameters
        ----------
        width : float, default=None
            Share of the units of each hidden layer, from `min_width` to 1; None is the parameter
            `width`.

        Returns
        -------
        module : torch.nn.Module
            A network that makes the logits: that of the parameter `module` with fewer units, or the
            perceptron with the standardisation before it. It trains, pickles, compiles and exports
            like any network.
        """
        return self._exported(width)

    @property
    def n_params_(self) -> int:  # type: ignore[override]
        """Parameters of the network that answers, at `width`."""
        self._check_size(self.width)
        network: Any = self.module_.network
        return int(network.n_parameters(self.width))

    def size_curve(self, X: Any, y: Any, widths: Any = None) -> dict[str, np.ndarray]:
        """Return the accuracy at several widths.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples that the fit has not seen.
        y : array-like of shape (n_samples,)
            Their labels.
        widths : array-like of float, default=None
            The widths; by default nine from `min_width` to 1, on a logarithmic scale.

        Returns
        -------
        curve : dict of str to ndarray of shape (n_widths,)
            "width", as given; "n_params", what the network of each width has; "score".
        """
        check_is_fitted(self)
        return self._curve(X, y, widths, self._least)
