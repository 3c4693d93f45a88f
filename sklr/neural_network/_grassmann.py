"""Classification by class subspaces on top of a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import svdvals
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._modules import mlp, output_width, own_module
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import TrainState
from sklr.neural_network._solvers import make_optimizer
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sklr.nn import GrassmannLinear


class GrassmannClassifier(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    StandardizedInput,
    TorchClassifierMixin,
    TorchEstimator,
):
    r"""Classifier whose classes are subspaces of a network's feature space.

    The last layer of the network is a :class:`~sklr.nn.GrassmannLinear`: a class is a
    k-dimensional subspace, its logit the length of a feature's projection on it. Subspaces are
    trained on their Grassmann manifold, the rest of the network as usual.

    Parameters
    ----------
    n_components : int, default=4
        Dimension k of each class's subspace; below the number of features of the network.
    module : torch.nn.Module or callable, default=None
        The network that makes the features, of shape (n_samples, D). None builds a perceptron
        with `hidden_layer_sizes`, which standardises what comes in.
        {how_module_is_given}
    hidden_layer_sizes : array-like of int, default=(128,)
        Widths of the layers of the perceptron. Empty is a classifier by subspaces of the data's
        own space, which cannot tell a sample from its negative; there nothing is standardised,
        since other units or another origin would be other subspaces.
    scale : float or "auto", default="auto"
        Largest logit. "auto" is ``max(8, 2.5 * log(n_classes - 1) + 4)``.
    learning_rate : float, default=0.1
        First learning rate of the network; it falls to 0 along a cosine in `max_iter` epochs.
    manifold_learning_rate : float, default=0.1
        First learning rate of the subspaces, with the same schedule.
    momentum : float, default=0.9
        Momentum of both (with "adamw", of the subspaces).
    weight_decay : float, default=1e-4
        Weight decay of the network; subspaces have none.
    solver : {"sgd", "adamw"}, default="sgd"
        Optimiser of the network. With "adamw" choose a smaller `learning_rate` (0.001).
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
        The trained network: ``module_.features`` and ``module_.head``.
    components_ : ndarray of shape (n_classes, D, n_components)
        Orthonormal bases of the classes' subspaces.
    scale_ : float
        Largest logit.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklr.nn.GrassmannLinear : The last layer, for networks of your own.
    sklearn.neural_network.MLPClassifier : A perceptron with a linear last layer.
    sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis : Gaussian classes with
        covariances of their own; the peer on raw features.

    References
    ----------
    .. [1] H. Wang, Z. Li and W. Zhang, "Get the best of both worlds: improving accuracy and
       transferability by Grassmann class representation", ICCV 2023, arXiv:2308.01547.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import GrassmannClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = GrassmannClassifier(2, max_iter=10, random_state=0).fit(X, y)
    >>> classifier.components_.shape
    (3, 128, 2)
    >>> bool(classifier.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "manifold_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"sgd", "adamw"})],
        **training_constraints(
            "module",
            "hidden_layer_sizes",
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
        n_components: int = 4,
        *,
        module: Callable[..., Any] | None = None,
        hidden_layer_sizes: Sequence[int] = (128,),
        scale: float | str = "auto",
        learning_rate: float = 0.1,
        manifold_learning_rate: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        solver: str = "sgd",
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
        self.n_components = n_components
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.scale = scale
        self.learning_rate = learning_rate
        self.manifold_learning_rate = manifold_learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.solver = solver
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

    _network_parameters = ("n_components", "scale")

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        from sklr.nn import GrassmannLinear

        features: nn.Module
        if self.module is None:
            features = mlp(n_in, self.hidden_layer_sizes)
            width = n_in
            if self._standardizes():
                features = nn.Sequential(self._standardized(n_in, features))
                width = self.hidden_layer_sizes[-1]
        else:
            features = own_module(self.module, n_in)
            width = output_width(features, n_in)
        head = GrassmannLinear(width, n_out, self.n_components, self.scale)
        return nn.Sequential(OrderedDict(features=features, head=head))

    def _standardizes(self) -> bool:
        # Without hidden layers the subspaces are of the data's own space.
        return self.module is None and len(self.hidden_layer_sizes) > 0

    def _loss(self, module: nn.Module, xb: Tensor, yb: Tensor, step: TrainState) -> Tensor:
        if step.batch_weights is not None:
            return super()._loss(module, xb, yb, step)
        features, head = _parts(module)
        return head.cross_entropy(features(xb), yb)

    def _optimizers(self, module: nn.Module) -> list[Any]:
        from sklr.nn import RiemannianSGD, split_manifold_parameters

        manifold, rest = split_manifold_parameters(module)
        groups = [{"params": manifold, "lr": self.manifold_learning_rate}]
        options = {"params": rest, "lr": self.learning_rate, "weight_decay": self.weight_decay}
        if rest and self.solver == "sgd":
            groups.append(options)
        optimizers = [RiemannianSGD(groups, momentum=self.momentum)]
        if rest and self.solver == "adamw":
            optimizers.append(make_optimizer(self.solver, [options], lr=self.learning_rate))
        return optimizers

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    def _check_weights(self, state: dict[str, Tensor]) -> None:
        bases = state["head.weight"].detach().double().numpy()
        gap = np.abs(bases.transpose(0, 2, 1) @ bases - np.eye(bases.shape[-1])).max()
        if gap > 1e-3:  # half precision leaves 2e-4
            raise ValueError(
                f"head.weight in the weights has no orthonormal columns: off by {gap:.2g}"
            )

    def _allow_nd(self) -> bool:
        return self.module is not None

    @property
    def components_(self) -> np.ndarray:
        """Orthonormal bases of the classes' subspaces."""
        return _parts(self.module_)[1].weight.detach().cpu().double().numpy()

    @property
    def _n_features_out(self) -> int:
        return _parts(self.module_)[1].in_features

    @property
    def scale_(self) -> float:
        """Largest logit."""
        return _parts(self.module_)[1].scale

    def transform(self, X: Any) -> np.ndarray:
        """Return the features that the network makes of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        features : ndarray of shape (n_samples, D)
            Features, before the subspaces.
        """
        check_is_fitted(self)
        return self._infer(self._validate(X, reset=False), lambda module, xb: _parts(module)[0](xb))

    def principal_angles(self, i: int, j: int) -> np.ndarray:
        """Return the principal angles between the subspaces of two classes.

        Parameters
        ----------
        i, j : int
            Positions of the classes in ``classes_``.

        Returns
        -------
        angles : ndarray of shape (n_components,)
            Radians between 0 and pi/2, ascending.
        """
        check_is_fitted(self)
        S, T = self.components_[i], self.components_[j]
        # Sines of small angles, cosines of large ones: each is exact where the other is not.
        cosines = np.clip(svdvals(S.T @ T), 0.0, 1.0)
        sines = np.clip(svdvals(T - S @ (S.T @ T))[::-1], 0.0, 1.0)
        return np.where(cosines**2 > 0.5, np.arcsin(sines), np.arccos(cosines))


def _parts(module: Any) -> tuple[nn.Module, GrassmannLinear]:
    return module.features, module.head
