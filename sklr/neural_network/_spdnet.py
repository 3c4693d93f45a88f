"""Networks on SPD matrices as classifiers: of covariances, and of EEG trials."""

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._batches import refuse_datasets
from sklr.geometry._bures_core import require_semidefinite
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._loop import TrainState
from sklr.neural_network._mixins import TorchClassifierMixin
from sklr.utils._base import fit_context
from sklr.utils._validation import check_spd_stack, check_trials

_CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", StrOptions({"auto"})],
    "norm": [StrOptions({"gbw", "bw", "airm"}), None],
    "power": [Interval(Real, 0, None, closed="neither")],
    "floor": [Interval(Real, 0, None, closed="neither")],
    "solver": [StrOptions({"adamw", "sgd"})],
    **training_constraints(
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
        "device",
        "random_state",
        "verbose",
        "callbacks",
    ),
}


class _SPDNetBase(TorchClassifierMixin, TorchEstimator):
    """What classifiers of covariances and of trials share: layers, optimiser, fit."""

    _training_dtype = "float64"
    _auto_batch_size = 30

    def _sizes(self, n: int) -> list[int]:
        if isinstance(self.hidden_layer_sizes, str):
            return [-(-4 * n // 5)]
        sizes = list(self.hidden_layer_sizes)
        if any(isinstance(s, bool) or not isinstance(s, Integral) or s < 1 for s in sizes):
            raise ValueError(f"hidden_layer_sizes must be integers of at least 1, got {sizes}")
        if any(after > before for before, after in zip([n, *sizes], sizes)):
            raise ValueError(
                f"hidden_layer_sizes={tuple(sizes)} must not grow, nor be above the {n} rows of "
                "the matrices: a layer maps onto a subspace"
            )
        return [int(s) for s in sizes]

    def _norm_layer(self, n: int) -> Any:
        from sklr.nn import SPDBatchNormAI, SPDBatchNormBW

        if self.norm == "airm":
            return SPDBatchNormAI(n)
        return SPDBatchNormBW(n, power=self.power, learn_metric=self.norm == "gbw")

    def _spd_layers(self, n: int, n_out: int | None) -> Any:
        """Return the layers from matrices to logits."""
        import torch
        from torch import nn

        from sklr.nn import BiMap, LogEig, ReEig

        layers: OrderedDict[str, Any] = OrderedDict()
        sizes = self._sizes(n)
        for number, size in enumerate(sizes, start=1):
            layers[f"bimap{number}"] = BiMap(n, size, dtype=torch.float64)
            if self.norm is not None:
                layers[f"norm{number}"] = self._norm_layer(size)
            if number < len(sizes):
                layers[f"reeig{number}"] = ReEig(self.floor)
            n = size
        # The last layer's floor and the logarithm share their decomposition.
        layers["logeig"] = LogEig(self.floor, vectorize=True)
        layers["linear"] = nn.Linear(n * (n + 1) // 2, n_out, dtype=torch.float64)
        return nn.Sequential(layers)

    def _new_module(self, X: np.ndarray, n_out: int | None, seed: int, device: Any) -> Any:
        self._input_scale = self._size_of(X)
        return super()._new_module(X, n_out, seed, device)

    def _size_of(self, X: np.ndarray) -> float:
        raise NotImplementedError

    def _optimizers(self, module: Any) -> Any:
        import torch

        options = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.solver == "sgd":
            return torch.optim.SGD(module.parameters(), momentum=self.momentum, **options)
        return torch.optim.AdamW(module.parameters(), **options)

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        return cosine_factor(step)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Training samples: matrices (n, n), or trials (n_channels, n_times).
        y : array-like of shape (n_samples,)
            Labels.
        X_val : array-like of shape (n_validation, ...), default=None
            Samples that are scored after each epoch; ``early_stopping`` uses them instead of
            setting some of `X` aside.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self._check_batch_size()
        return self._fit_classes(X, y, None, X_val, y_val)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Train for one more epoch on some samples; the optimiser goes on where it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Training samples: matrices (n, n), or trials (n_channels, n_times).
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever be seen; needed on the first call.

        Returns
        -------
        self : object
            The estimator after the epoch.
        """
        self._check_batch_size()
        return super().partial_fit(X, y, classes=classes)

    def _check_batch_size(self) -> None:
        if self.norm is not None and self.batch_size == 1:
            raise ValueError(
                "batch_size=1 cannot be normalised: one matrix has no variance. Take 2 or more, "
                "or norm=None."
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


class SPDNetClassifier(_SPDNetBase):
    r"""Neural network on covariance (SPD) matrices, with Riemannian batch normalisation.

    Bilinear maps onto subspaces :math:`X \mapsto W X W^\top`, batch normalisation of the results on
    the manifold, a floor under eigenvalues, and at the end the matrix logarithm and a linear
    classifier. `W` has orthonormal rows at all times.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int or "auto", default="auto"
        Rows of the matrices after each bilinear map; they must not grow. "auto" is one map to four
        fifths of the rows. Empty is a linear classifier of logarithms.
    norm : {"gbw", "bw", "airm"} or None, default="gbw"
        Batch normalisation after each map: Bures-Wasserstein with a learnt metric, plain
        Bures-Wasserstein, affine-invariant, or none. None of them is better everywhere, see Notes.
    power : float, default=1.0
        Exponent of the Bures-Wasserstein metrics; towards 0 they become log-Euclidean.
    floor : float, default=1e-5
        Smallest eigenvalue after a map, in units of the mean eigenvalue of the training matrices
        where `norm` is None.
    solver : {"adamw", "sgd"}, default="adamw"
        Optimiser.
    learning_rate : float, default=0.0025
        First learning rate; it falls to 0 along a cosine in `max_iter` epochs.
    momentum : float, default=0.9
        Momentum of "sgd".
    weight_decay : float, default=0.01
        Weight decay; it draws metric and bias of the normalisation to the identity.
    max_iter : int, default=100
        Epochs.
    batch_size : int or "auto", default="auto"
        Matrices of a batch; "auto" is 30, or all where there are fewer.
    class_weight : dict or "balanced", default=None
        Weights of the classes in the loss.
    early_stopping : bool, default=False
        Whether to stop when the accuracy on samples set aside (or given to ``fit`` as `X_val`)
        stands still; the weights of the best epoch are kept.
    validation_fraction : float, default=0.1
        Share of the samples set aside for `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement before it stops.
    tol : float, default=1e-4
        What counts as an improvement.
    device : str, default="cpu"
        Where to train; "auto" is a CUDA device if there is one. Only the CPU was tried.
    random_state : int, RandomState instance or None, default=None
        Seeds first weights and the order of samples.
    verbose : int, default=0
        1 shows a bar over the epochs, 2 prints a line for each.
    callbacks : list of object, default=None
        Called between epochs where they have ``on_fit_begin``, ``on_epoch_end`` or
        ``on_fit_end(estimator, info)``; an answer True after an epoch ends the training.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    module_ : torch.nn.Module
        The trained network.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        Mean loss of each epoch.
    validation_scores_ : list of float
        Accuracy after each epoch; only with `early_stopping` or `X_val`.
    n_features_in_ : int
        Rows of the matrices.

    See Also
    --------
    EEGSPDNetClassifier : The same behind a convolutional front, for trials.
    sklr.nn.SPDBatchNormBW : The normalisation.
    sklr.covariance.TangentSpace : With a linear classifier the classical peer, and often enough.

    Notes
    -----
    Matrices are divided by their mean eigenvalue (that of the training set), so that units do
    not matter; channels of different units still do under "gbw" and "bw", whose distances are
    ruled by directions of large variance. That helps where small eigenvalues are noise, and
    fails where the classes differ in them, as the user guide's table shows. Compare both.

    Everything is computed in double precision. An epoch costs O(n_samples n^3), with two
    decompositions a matrix and normalised layer (four with a power), and one for the logarithm.

    References
    ----------
    .. [1] R. Wang, S. Jin, Z. Chen, X. Luo, X.-J. Wu, "Learning to normalize on the SPD manifold
       under Bures-Wasserstein geometry", CVPR 2025, arXiv:2504.00660.
    .. [2] Z. Huang, L. Van Gool, "A Riemannian network for SPD matrix learning", AAAI 2017,
       arXiv:1608.04233.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.neural_network import SPDNetClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> Z = rng.standard_normal((60, 4, 40))
    >>> Z[:, 1] += y[:, None] * Z[:, 0]  # channels 0 and 1 go together in class 1
    >>> X = Z @ Z.transpose(0, 2, 1) / 40
    >>> classifier = SPDNetClassifier(learning_rate=0.01, max_iter=20, random_state=0)
    >>> classifier = classifier.fit(X[:40], y[:40])
    >>> bool(classifier.score(X[40:], y[40:]) > 0.9)
    True
    """

    # How the public estimator checks lift a table: to SPD matrices.
    _takes_spd = True

    _parameter_constraints: dict = dict(_CONSTRAINTS)

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] | str = "auto",
        *,
        norm: str | None = "gbw",
        power: float = 1.0,
        floor: float = 1e-5,
        solver: str = "adamw",
        learning_rate: float = 2.5e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        max_iter: int = 100,
        batch_size: int | str = "auto",
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
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
        out = check_spd_stack(self, X, y, reset=reset)
        require_semidefinite(out[0] if isinstance(out, tuple) else out)
        return out

    def _size_of(self, X: np.ndarray) -> float:
        size = float(np.trace(X, axis1=1, axis2=2).mean()) / X.shape[1]
        if not size > 0:
            raise ValueError("all matrices of X are zero: there is nothing to learn from")
        return size

    def _build(self, n_in: Any, n_out: int | None) -> Any:
        from torch import nn

        from sklr.nn._spd._layers import InputScale

        layers = OrderedDict(scale=InputScale(self._input_scale))
        layers["spd"] = self._spd_layers(n_in[0], n_out)
        return nn.Sequential(layers)


class EEGSPDNetClassifier(_SPDNetBase):
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
    momentum : float, default=0.9
        Momentum of "sgd".
    weight_decay : float, default=0.01
        Weight decay; it draws metric and bias of the normalisation to the identity.
    max_iter : int, default=60
        Epochs.
    batch_size : int or "auto", default="auto"
        Trials of a batch; "auto" is 30, or all where there are fewer.
    class_weight : dict or "balanced", default=None
        Weights of the classes in the loss.
    early_stopping : bool, default=False
        Whether to stop when the accuracy on samples set aside (or given to ``fit`` as `X_val`)
        stands still; the weights of the best epoch are kept.
    validation_fraction : float, default=0.1
        Share of the samples set aside for `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement before it stops.
    tol : float, default=1e-4
        What counts as an improvement.
    device : str, default="cpu"
        Where to train; "auto" is a CUDA device if there is one. Only the CPU was tried.
    random_state : int, RandomState instance or None, default=None
        Seeds first weights and the order of samples.
    verbose : int, default=0
        1 shows a bar over the epochs, 2 prints a line for each.
    callbacks : list of object, default=None
        Called between epochs where they have ``on_fit_begin``, ``on_epoch_end`` or
        ``on_fit_end(estimator, info)``; an answer True after an epoch ends the training.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    module_ : torch.nn.Module
        The trained network: ``module_.front`` makes covariances, ``module_.spd`` logits of them.
    n_iter_ : int
        Epochs done.
    loss_curve_ : list of float
        Mean loss of each epoch.
    validation_scores_ : list of float
        Accuracy after each epoch; only with `early_stopping` or `X_val`.
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

    _parameter_constraints: dict = {
        "n_spatial_filters": [Interval(Integral, 1, None, closed="left")],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        **_CONSTRAINTS,
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
        device: str = "cpu",
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
        size = float(X.std())
        if not size > 0:
            raise ValueError("all samples of X are the same number: there is nothing to learn from")
        return size

    def _build(self, n_in: Any, n_out: int | None) -> Any:
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

    def _check_module(self, module: Any, X: Any, n_out: int | None) -> None:
        # After the base has made everything single: ill-conditioned statistics do not go into it.
        module.spd.double()
        super()._check_module(module, X, n_out)
