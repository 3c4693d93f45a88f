"""A plain perceptron: the base network of other estimators, and the baseline beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sklr._torch._modules import mlp, own_module
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import TrainState
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import nn


class PerceptronClassifier(StandardizedInput, TorchClassifierMixin, TorchEstimator):
    """Classifier by a network with a linear last layer, or by any network that makes logits.

    It is not public: what scikit-learn's ``MLPClassifier`` is to users, this is to meta-estimators
    that need a network of torch to compress, to adapt or to fine-tune.

    Parameters
    ----------
    module : torch.nn.Module or callable, default=None
        The network that makes the logits. None builds a perceptron with `hidden_layer_sizes`, of
        which the features are standardised first.
        {how_module_is_given}
    hidden_layer_sizes : array-like of int, default=(128,)
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
        The trained network; the default one is ``module_.network``, and ``module_.scale`` before
        it.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network._perceptron import PerceptronClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = PerceptronClassifier(learning_rate=0.01, max_iter=20, random_state=0)
    >>> bool(classifier.fit(X, y).score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict = training_constraints(
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
    )

    def __init__(
        self,
        module: Callable[..., Any] | None = None,
        *,
        hidden_layer_sizes: Sequence[int] = (128,),
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

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        if self.module is not None:
            return own_module(self.module, n_in)
        network = mlp(n_in, self.hidden_layer_sizes, n_out)
        return nn.Sequential(self._standardized(n_in, network))

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    def _allow_nd(self) -> bool:
        return self.module is not None
