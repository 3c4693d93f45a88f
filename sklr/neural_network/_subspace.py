"""A classifier whose network is trained in a random subspace of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._device import mixed_precision, plain_defaults
from sklr._torch._modules import mlp, own_module
from sklr._torch._rng import derive_seeds, seeded
from sklr.geometry import RandomSubspace
from sklr.geometry._random_subspace import PROJECTIONS
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import TrainState, mean_loss
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import Tensor, nn


class SubspaceClassifier(StandardizedInput, TorchClassifierMixin, TorchEstimator):
    r"""Network that is trained along a few random directions of its parameters only.

    The parameters are :math:`\theta = \theta_0 + P z`: :math:`\theta_0` are ordinary first
    weights, P a random matrix with columns of norm 1, and only the d numbers z are trained. The
    model is a seed and z: often a hundredth of the network's own size. How small d may become
    before the network fails is the task's intrinsic dimension, see
    :class:`~sklr.landscape.IntrinsicDimension`.

    Parameters
    ----------
    n_components : int or None, default=100
        Directions d, at most as many as there are parameters. None trains all parameters: the
        baseline.
    module : torch.nn.Module or callable, default=None
        The network that makes the logits. None builds a perceptron with `hidden_layer_sizes`, of
        which the features are standardised first.
        {how_module_is_given}
    hidden_layer_sizes : array-like of int, default=(100,)
        Widths of the layers of the perceptron.
    projection : {"auto", "dense", "sparse", "fastfood"}, default="auto"
        The kind of P, see :class:`~sklr.geometry.RandomSubspace`. All reach about the same.
    learning_rate : float, default=0.1
        Of Adam, for z; the columns have norm 1 whatever the network's size, so that a network's
        usual rate would be far too small. With `n_components` None it is for the parameters
        themselves, and 1e-3 is usual.
    weight_decay : float, default=0.0
        Weight decay of the network's parameters, not of z.
    max_iter : int, default=60
        Epochs.
    batch_size : int or "auto", default=128
        Samples of a batch; "auto" is 64.
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
    coef_ : ndarray of shape (n_components,)
        z; not where all parameters were trained.
    n_parameters_ : int
        Number of trainable parameters of the network.
    compression_ratio_ : float
        That number over the number of components; 1 where all were trained.
    projection_ : str or None
        The kind of P that was taken.
    n_features_in_ : int
        Number of features, the second axis of X.
    module_ : torch.nn.Module
        The trained network, with z beside it as `z` and without as `network`.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}

    See Also
    --------
    sklr.landscape.IntrinsicDimension : Finds the smallest number of components.
    sklr.geometry.RandomSubspace : The map P.

    Notes
    -----
    A step costs what the network's does, and twice a product with P: O(D d) for a dense map,
    O(d sqrt(D)) for a sparse one, O(D log D) for "fastfood". Buffers, such as the means and
    standard deviations of the features in the default network, or the running statistics of batch
    normalisation, are no parameters: no subspace moves them, and they are in the compressed state.

    References
    ----------
    .. [1] C. Li, H. Farkhoor, R. Liu and J. Yosinski, "Measuring the intrinsic dimension of
       objective landscapes", ICLR 2018, arXiv:1804.08838.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import SubspaceClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = SubspaceClassifier(10, batch_size=32, random_state=0).fit(X, y)
    >>> classifier.n_parameters_, classifier.compression_ratio_
    (803, 80.3)
    >>> bool(classifier.score(X, y) > 0.9)
    True
    """

    _network_parameters = ("n_components", "module", "hidden_layer_sizes", "projection")
    _parameter_constraints: dict = {
        **training_constraints(
            "module",
            "hidden_layer_sizes",
            "learning_rate",
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
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [StrOptions(set(PROJECTIONS))],
    }

    def __init__(
        self,
        n_components: int | None = 100,
        *,
        module: Callable[..., Any] | None = None,
        hidden_layer_sizes: Sequence[int] = (100,),
        projection: str = "auto",
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        max_iter: int = 60,
        batch_size: int | str = 128,
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
        self.projection = projection
        self.learning_rate = learning_rate
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

        network: nn.Module
        if self.module is None:
            network = mlp(n_in, self.hidden_layer_sizes, n_out)
            network = nn.Sequential(self._standardized(n_in, network))
        else:
            network = own_module(self.module, n_in)
        number = sum(p.numel() for p in network.parameters() if p.requires_grad)
        if self.n_components is None:
            return network
        if self.n_components > number:
            raise ValueError(
                f"n_components={self.n_components} is more than the {number} trainable parameters "
                "of the network; None trains all of them"
            )
        from sklr.nn._subspace import Subspaced

        return Subspaced(network, self.n_components)

    def _allow_nd(self) -> bool:
        return self.module is not None

    def _subspace(self, number: int, dtype: Any) -> RandomSubspace:
        assert self.n_components is not None
        return RandomSubspace(
            number,
            self.n_components,
            projection=self.projection,
            dtype=str(dtype).removeprefix("torch."),
            random_state=derive_seeds(self._seed, 7, 1)[0] % 2**31,
        )

    def _first_weights(self, like: Any, n_out: int) -> Tensor:
        """Return the vector that the subspace goes through: the seed's, or the module's own."""
        import torch

        from sklr._torch._subspace import flat

        shape = self._sample_shape
        n_in = shape[0] if len(shape) == 1 else shape
        first = next(like.parameters())
        with seeded(derive_seeds(self._seed, 0, 1)[0], torch.device("cpu")):
            made: Any = self._build(n_in, n_out).to(first.dtype)
        return flat(made.moved()).to(first.device)

    def _begin(self, module: Any, step: TrainState) -> None:
        super()._begin(module, step)
        if self.n_components is None:
            self.n_parameters_ = sum(p.numel() for p in module.parameters() if p.requires_grad)
            self.compression_ratio_, self.projection_ = 1.0, None
            return
        from sklr._torch._subspace import TorchSubspace

        moved = module.moved()
        number = sum(p.numel() for p in moved)
        subspace = self._subspace(number, moved[0].dtype)
        step.memory["subspace"] = TorchSubspace(subspace, step.device)
        step.memory["origin"] = self._first_weights(module, len(self.classes_))
        self.n_parameters_ = number
        self.compression_ratio_ = number / self.n_components
        self.projection_ = subspace.projection

    def _optimizers(self, module: Any) -> Any:
        import torch

        if self.n_components is None:
            return super()._optimizers(module)
        return torch.optim.Adam([module.z], lr=self.learning_rate)

    def _step(self, module: Any, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        if self.n_components is None:
            return super()._step(module, xb, yb, step)
        for p in module.parameters():
            p.grad = None
        with mixed_precision(step.device):
            value = self._loss(module, xb, yb, step)
            loss = mean_loss(value, step.batch_weights)
        loss.backward()
        subspace, origin = step.memory["subspace"], step.memory["origin"]
        import torch

        # Within the caller's own autocast the maps of the subspace would round to 16 bits.
        with torch.autocast(step.device.type, enabled=False):
            gradient = module.gradient()
            if self.weight_decay:
                from sklr._torch._subspace import flat

                gradient += self.weight_decay * flat(module.moved())
            module.z.grad = subspace.adjoint(gradient)
            step.optimizers[0].step()
            module.set_from(origin, subspace)
        return loss.detach()

    @property
    def coef_(self) -> np.ndarray:
        """The place in the subspace, z."""
        if not hasattr(self, "module_") or not hasattr(self.module_, "z"):
            raise AttributeError("coef_ is there after a fit with n_components")
        z: Any = self.module_.z
        return z.detach().cpu().numpy().copy()

    def compressed_state(self) -> dict[str, Any]:
        """Return all that a fresh estimator with the same parameters needs to be this one.

        Returns
        -------
        state : dict
            `seed`, `z`, `classes`, `sample_shape` and `buffers` (of the default network, means and
            scales of the features): for :meth:`load_compressed_state`. A `module` that was given
            as a Module has to be the same one, with the same weights.
        """
        check_is_fitted(self)
        if self.n_components is None:
            raise ValueError("n_components=None trained all parameters: there is nothing shorter")
        buffers = {k: v.cpu().numpy().copy() for k, v in self.module_.named_buffers()}
        return {
            "seed": self._seed,
            "z": self.coef_,
            "classes": self.classes_,
            "sample_shape": tuple(self._sample_shape),
            "buffers": buffers,
        }

    def load_compressed_state(self, state: dict[str, Any]) -> SubspaceClassifier:
        """Become the estimator whose :meth:`compressed_state` it is, without data.

        Parameters
        ----------
        state : dict
            What :meth:`compressed_state` returned, on an estimator with the same parameters.

        Returns
        -------
        self : SubspaceClassifier
            Fitted, with the same predictions.
        """
        torch = self._torch()
        self._validate_params()
        wanted = {"seed", "z", "classes", "sample_shape", "buffers"}
        if not isinstance(state, dict) or set(state) != wanted:
            raise ValueError(f"state must have {sorted(wanted)}, what compressed_state() returns")
        z = np.asarray(state["z"])
        if self.n_components is None or z.shape != (self.n_components,):
            raise ValueError(
                f"the state has {len(z)} components, this estimator n_components="
                f"{self.n_components}"
            )
        if not np.isfinite(z).all():
            raise ValueError("the state's z has NaN or infinity")
        from sklr._torch._subspace import TorchSubspace, flat

        before = dict(vars(self))
        try:
            self._seed = int(state["seed"])
            self.classes_ = np.asarray(state["classes"])
            self._sample_shape = tuple(state["sample_shape"])
            self.n_features_in_ = self._sample_shape[0]
            self._made_with = self._structure()
            n_in = self._sample_shape[0] if len(self._sample_shape) == 1 else self._sample_shape
            cpu = torch.device("cpu")
            with torch.inference_mode(False), torch.no_grad(), plain_defaults():
                with seeded(derive_seeds(self._seed, 0, 1)[0], cpu):
                    module: Any = self._build(n_in, len(self.classes_))
                    module = module.to(getattr(torch, str(z.dtype)))
                origin = flat(module.moved())
                subspace = self._subspace(len(origin), origin.dtype)
                module.z.copy_(torch.from_numpy(z.copy()))
                module.set_from(origin, TorchSubspace(subspace, cpu))
                _set_buffers(module, state["buffers"])
            self.n_parameters_ = len(origin)
            self.compression_ratio_ = len(origin) / len(z)
            self.projection_ = subspace.projection
            self.n_iter_, self.loss_curve_ = 0, []
            self.module_ = module.eval()
        except BaseException:
            self.__dict__ = before
            raise
        return self


def _set_buffers(module: nn.Module, given: Any) -> None:
    """Write the buffers of a compressed state into a network."""
    import torch

    own = dict(module.named_buffers())
    values = {key: np.array(value) for key, value in given.items()}
    wanted = {key: tuple(value.shape) for key, value in own.items()}
    found = {key: value.shape for key, value in values.items()}
    if found != wanted:
        raise ValueError(
            f"the state's buffers must be those of the network, {wanted} by name and shape, "
            f"got {found}"
        )
    for key, value in own.items():
        value.copy_(torch.from_numpy(values[key]))
