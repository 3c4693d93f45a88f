"""Networks on SPD matrices as classifiers: what they share, and that of covariances."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklr._torch._batches import refuse_datasets
from sklr.neural_network._base import TorchEstimator, cosine_factor, training_constraints
from sklr.neural_network._classifier import TorchClassifierMixin
from sklr.neural_network._loop import TrainState
from sklr.utils._base import fit_context
from sklr.utils._spd_checks import require_semidefinite, rounding
from sklr.utils._validation import check_spd_stack

if TYPE_CHECKING:
    from torch import nn

    from sklr.nn import SPDBatchNormAI, SPDBatchNormBW

SPD_CONSTRAINTS: dict[str, list[Any]] = {
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


class SPDNetBase(TorchClassifierMixin, TorchEstimator):
    """What classifiers of covariances and of trials share: layers, optimiser, fit."""

    _training_dtype = "float64"
    _auto_batch_size = 30
    _units_matter = False

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

    _network_parameters = ("norm", "power", "floor")

    def _norm_layer(self, n: int) -> SPDBatchNormAI | SPDBatchNormBW:
        from sklr.nn import SPDBatchNormAI, SPDBatchNormBW

        if self.norm == "airm":
            return SPDBatchNormAI(n)
        return SPDBatchNormBW(n, power=self.power, learn_metric=self.norm == "gbw")

    def _spd_layers(self, n: int, n_out: Any) -> nn.Sequential:
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

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        self._input_scale = self._size_of(X)

    def _size_of(self, X: np.ndarray) -> float:
        raise NotImplementedError

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


class SPDNetClassifier(SPDNetBase):
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
    {momentum}
    weight_decay : float, default=0.01
        Weight decay; it draws metric and bias of the normalisation to the identity.
    {max_iter}
    batch_size : int or "auto", default="auto"
        Matrices of a batch; "auto" is 30, or all where there are fewer.
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
        The trained network.
    {n_iter_}
    {loss_curve_}
    {validation_scores_}
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

    _parameter_constraints: dict = dict(SPD_CONSTRAINTS)

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
        device: str = "auto",
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
        require_semidefinite(out[0] if isinstance(out, tuple) else out, eps=rounding(X))
        return out

    def _size_of(self, X: np.ndarray) -> float:
        size = float(np.trace(X, axis1=1, axis2=2).mean()) / X.shape[1]
        if not size > 0:
            raise ValueError("all matrices of X are zero: there is nothing to learn from")
        return size

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        from sklr.nn._spd._layers import InputScale

        layers = OrderedDict(scale=InputScale(self._input_scale))
        layers["spd"] = self._spd_layers(n_in[0], n_out)
        return nn.Sequential(layers)
