"""Network on SPD matrices behind a convolutional front: classifier of EEG trials."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval

from sklr._torch._batches import refuse_datasets
from sklr.neural_network._spdnet import SPD_CONSTRAINTS, SPDNetBase
from sklr.utils._validation import check_trials

if TYPE_CHECKING:
    from torch import Tensor, nn

# Squares of single precision are numbers from here on.
_SMALLEST = 1e-18


class EEGSPDNetClassifier(SPDNetBase):
    r"""Convolutional network with SPD layers for multichannel trials (EEG).

    Learnt spatial filters, learnt temporal filters over them, the covariance of the resulting maps
    over time, and from there :class:`SPDNetClassifier`'s layers: features that classical
    covariances lack (a frequency, as in SSVEP) are found by the filters.

    Parameters
    ----------
    n_spatial_filters : int, default=32
        Spatial filters, each over all channels.
    n_filters : int, default=15
        Temporal filters, each over all spatial ones: rows of the covariances.
    kernel_size : int, default=36
        Samples of a temporal filter.
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Rows of the matrices after each bilinear map; they must not grow. "auto" is one map to four
        fifths of the rows.
    norm : {"gbw", "bw", "airm"} or None, default="gbw"
        Batch normalisation after each map: Bures-Wasserstein with a learnt metric, plain
        Bures-Wasserstein, affine-invariant, or none.
    power : float, default=1.0
        Exponent of the Bures-Wasserstein metrics; towards 0 they become log-Euclidean.
    floor : float, default=1e-5
        Smallest eigenvalue after a map.
    solver : {"adamw", "sgd"}, default="adamw"
        Optimiser.
    learning_rate : float, default=0.0025
        First learning rate; it falls to 0 along a cosine in `max_iter` epochs.
    {momentum}
    weight_decay : float, default=0.01
        Weight decay; it draws metric and bias of the normalisation to the identity.
    {max_iter}
    batch_size : int or "auto", default="auto"
        Trials of a batch; "auto" is 30, or all where there are fewer.
    {class_weight}
    {early_stopping}
    {validation_fraction}
    {n_iter_no_change}
    {tol}
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    {classes_}
    module_ : torch.nn.Module
        The trained network: ``module_.front`` makes covariances, ``module_.spd`` logits of them.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}
    n_features_in_ : int
        Number of channels.

    See Also
    --------
    SPDNetClassifier : On covariances that are there already.
    sklr.covariance.AugmentedCovarianceSVC : Frequencies by delays, without a network.

    Notes
    -----
    Trials are divided by their standard deviation (one number, that of the training set), so that
    volts and microvolts are the same. The convolutions are trained in single precision, what
    comes after the covariance in double; scores are computed in double. Trials of other lengths
    than those of `fit` may be predicted.

    References
    ----------
    .. [1] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.neural_network import EEGSPDNetClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = 0.5 * rng.standard_normal((60, 3, 100))
    >>> phase = rng.uniform(0, 6, (60, 1))
    >>> X[:, 0] += np.sin(np.arange(100) * (0.4 + 0.2 * y[:, None]) + phase)
    >>> classifier = EEGSPDNetClassifier(8, 4, max_iter=10, random_state=0).fit(X[:40], y[:40])
    >>> bool(classifier.score(X[40:], y[40:]) > 0.9)
    True
    """

    _training_dtype = "float32"
    _network_parameters = (
        *SPDNetBase._network_parameters,
        "n_spatial_filters",
        "n_filters",
        "kernel_size",
    )

    _parameter_constraints: dict = {
        "n_spatial_filters": [Interval(Integral, 1, None, closed="left")],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        **SPD_CONSTRAINTS,
    }

    def __init__(
        self,
        n_spatial_filters: int = 32,
        n_filters: int = 15,
        *,
        kernel_size: int = 36,
        hidden_layer_sizes: Sequence[int] | str = "auto",
        norm: str | None = "gbw",
        power: float = 1.0,
        floor: float = 1e-5,
        solver: str = "adamw",
        learning_rate: float = 2.5e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        max_iter: int = 60,
        batch_size: int | str = "auto",
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.n_spatial_filters = n_spatial_filters
        self.n_filters = n_filters
        self.kernel_size = kernel_size
        self.hidden_layer_sizes = hidden_layer_sizes
        self.norm = norm
        self.power = power
        self.floor = floor
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
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        refuse_datasets(X)
        return check_trials(self, X, y, reset=reset)

    def _size_of(self, X: np.ndarray) -> float:
        largest = float(np.abs(X).max())
        size = largest * float((X / largest).std()) if largest > 0 else 0.0
        if not size > 0:
            raise ValueError("all samples of X are the same number: there is nothing to learn from")
        if not _SMALLEST < size < 1 / _SMALLEST:
            raise ValueError(
                f"the standard deviation of X is {size:.3g}, out of reach of the single precision "
                "that convolutions are trained in: give the trials in another unit"
            )
        return size

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        from sklr.nn._spd._layers import CovariancePooling, InputScale

        spatial, maps, kernel = self.n_spatial_filters, self.n_filters, self.kernel_size
        front = OrderedDict(
            scale=InputScale(self._input_scale),
            spatial=nn.Conv1d(n_in[0], spatial, 1),
            spatial_norm=nn.BatchNorm1d(spatial),
            temporal=nn.Conv1d(spatial, maps, kernel, padding=kernel // 2),
            temporal_norm=nn.BatchNorm1d(maps),
            covariance=CovariancePooling(),
        )
        layers = OrderedDict(front=nn.Sequential(front), spd=self._spd_layers(maps, n_out))
        return nn.Sequential(layers)

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        # After the base has made everything single: ill-conditioned statistics do not go into it.
        module.spd.double()
        super()._check_module(module, X, n_out)
