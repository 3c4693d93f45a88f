"""Clusters on non-linear manifolds, and a representation in which they are linear subspaces."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Hidden, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._modules import mlp, output_width, own_module, probe
from sklr._torch._rng import derive_seeds
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._cluster import TorchClusterMixin
from sklr.neural_network._loop import Stage, TrainState
from sklr.neural_network._membership import label_by_membership, membership
from sklr.neural_network._solvers import make_optimizer

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

# "gaussian": noise moves a sample by this part of the distance to its tenth neighbour.
_NOISE, _NEIGHBORS, _MEASURED = 0.5, 10, 2000


class ManifoldLinearizingClustering(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchClusterMixin, TorchEstimator
):
    r"""Clustering of samples on several non-linear manifolds, by rate reduction.

    A network is trained, without labels, so that its unit features fill as much space as they can
    while the samples of each soft cluster fill little: clusters become low-dimensional linear
    subspaces, orthogonal to each other. The soft clusters are a doubly stochastic matrix between
    samples, so that no number of clusters is needed while training.

    Parameters
    ----------
    n_clusters : int, default=None
        Number of clusters. None takes the one, up to `max_clusters`, for which features and
        labels have the shortest code.
    n_components : int, default=64
        Dimension of the features.
    module : torch.nn.Module or callable, default=None
        The network below the two linear heads. None builds a perceptron with two hidden layers;
        ``torch.nn.Identity()`` makes the features linear in the data.
        {how_module_is_given}
    hidden_dim : int, default=512
        Width of both hidden layers of the default network.
    eps : float, default=0.1
        Squared error of the coding rates.
    eta : float, default=0.15
        Weight of the entropy of the membership: too small leaves each sample alone, too large
        makes one cluster of all.
    gamma : float, default=1.0
        Weight of the compression.
    mu : float, default=0.05
        Weight of the squared membership.
    augment : callable, "gaussian" or None, default=None
        How a view is made, from which features shall not depend. A callable is called with a batch
        of samples and a ``torch.Generator`` and returns the batch changed; the augmentations of
        :mod:`sklr.nn` are such. "gaussian" is noise of half the distance to the tenth neighbour.
        None has no views, and leaves nothing that keeps neighbours together but the network.
    invariance : float, default=20.0
        Weight of the agreement of two views in the first stage.
    n_sinkhorn : int, default=5
        Half steps of Sinkhorn's scaling in training. Labels come from a converged one.
    max_column_samples : int, default=128
        Soft clusters of a batch that are looked at in a step, drawn anew. None takes all.
    max_clusters : int, default=20
        Largest number of clusters where `n_clusters` is None.
    warmup_iter : int, default=60
        Epochs of the first stage: features fill space, views agree.
    max_iter : int, default=10
        Epochs of the second stage, with clusters.
    batch_size : int or "auto", default="auto"
        Samples of a batch; "auto" is 256, or all where there are fewer. An incomplete last batch
        is left out; samples for less than two batches are one.
    warmup_learning_rate : float, default=1e-3
        Learning rate of the first stage, by Adam.
    learning_rate : float, default=2e-3
        Learning rate of the second stage, by gradient descent with momentum .9.
    {device}
    {random_state}
    {verbose}
    {callbacks}
    backbone : torch.nn.Module or callable, default="deprecated"
        The former name of `module`.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each training sample.
    embedding_ : ndarray of shape (n_samples, n_components)
        Features of the training samples, of unit length.
    codes_ : ndarray of shape (n_samples, n_components)
        What the membership is made of, of unit length.
    membership_ : ndarray of shape (n_samples, n_samples)
        Doubly stochastic, symmetric; computed anew from `codes_` each time.
    subspaces_ : list of ndarray of shape (r_k, n_components)
        Orthonormal rows: the directions with 95 % of the energy of each cluster.
    n_clusters_ : int
        Number of clusters.
    coding_lengths_ : dict of {int: float}
        Nats of the code for each number of clusters that was tried; only where `n_clusters` is
        None.
    module_ : torch.nn.Module
        The trained network.
    loss_terms_ : dict of {str: list of float}
        Means of each epoch: "expansion" is the coding rate of all features, "agreement" that of
        two views, "compression" the coding rate of the clusters; NaN in a stage without the term.
    loss_curve_ : list of float
        Mean loss of each epoch, of the first stage and then of the second.
    n_iter_ : int
        Epochs done, of both stages.
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklr.nn.ManifoldLinearizingLoss : The loss, for training loops of your own.
    sklr.metrics.rate_reduction : What is maximised.
    sklearn.cluster.SpectralClustering : Clusters by an affinity of the data themselves.

    Notes
    -----
    Up to 5000 samples are clustered by their membership (spectral clustering); where there are
    more, 5000 are drawn, and the others, as in ``predict``, go to the cluster whose code
    grows least.

    References
    ----------
    .. [1] T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma and B. D. Haeffele, "Unsupervised
       manifold linearizing and clustering", ICCV 2023, arXiv:2301.01805.
    .. [2] T. Chu, S. Tong, T. Ding, X. Dai, B. D. Haeffele, R. Vidal and Y. Ma, "Image clustering
       via the principle of rate reduction in the age of pretrained models", ICLR 2024,
       arXiv:2306.05272.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.neural_network import ManifoldLinearizingClustering
    >>> rng = np.random.default_rng(0)
    >>> X = np.zeros((90, 12))  # three planes in 12 dimensions
    >>> for k in range(3):
    ...     X[30 * k : 30 * (k + 1), 4 * k : 4 * k + 2] = rng.standard_normal((30, 2))
    >>> mlc = ManifoldLinearizingClustering(3, n_components=12, hidden_dim=32, random_state=0)
    >>> labels = mlc.set_params(warmup_iter=20).fit_predict(X)
    >>> labels.shape, len(mlc.subspaces_)
    ((90,), 3)
    """

    _parameter_constraints: dict = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "backbone": [callable, None, Hidden(StrOptions({"deprecated"}))],
        "hidden_dim": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, None, closed="neither")],
        "eta": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "mu": [Interval(Real, 0, None, closed="left")],
        "augment": [callable, StrOptions({"gaussian"}), None],
        "invariance": [Interval(Real, 0, None, closed="left")],
        "n_sinkhorn": [Interval(Integral, 1, None, closed="left")],
        "max_column_samples": [Interval(Integral, 1, None, closed="left"), None],
        "max_clusters": [Interval(Integral, 1, None, closed="left")],
        "warmup_iter": [Interval(Integral, 0, None, closed="left")],
        "warmup_learning_rate": [Interval(Real, 0, None, closed="neither")],
        **training_constraints(
            "module",
            "learning_rate",
            "max_iter",
            "batch_size",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }

    _drop_last = True
    _auto_batch_size = 256

    def __init__(
        self,
        n_clusters: int | None = None,
        n_components: int = 64,
        *,
        module: Callable[..., Any] | None = None,
        hidden_dim: int = 512,
        eps: float = 0.1,
        eta: float = 0.15,
        gamma: float = 1.0,
        mu: float = 0.05,
        augment: Any = None,
        invariance: float = 20.0,
        n_sinkhorn: int = 5,
        max_column_samples: int | None = 128,
        max_clusters: int = 20,
        warmup_iter: int = 60,
        max_iter: int = 10,
        batch_size: int | str = "auto",
        warmup_learning_rate: float = 1e-3,
        learning_rate: float = 2e-3,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
        backbone: Any = "deprecated",
    ) -> None:
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.module = module
        self.hidden_dim = hidden_dim
        self.eps = eps
        self.eta = eta
        self.gamma = gamma
        self.mu = mu
        self.augment = augment
        self.invariance = invariance
        self.n_sinkhorn = n_sinkhorn
        self.max_column_samples = max_column_samples
        self.max_clusters = max_clusters
        self.warmup_iter = warmup_iter
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.warmup_learning_rate = warmup_learning_rate
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.backbone = backbone

    def _check_samples(self, X: np.ndarray) -> None:
        for name in ("n_clusters", "batch_size"):
            value: Any = getattr(self, name)
            if isinstance(value, Integral) and int(value) > len(X):
                raise ValueError(f"{name}={value} is more than the n_samples={len(X)}")
        if self.batch_size == 1:
            raise ValueError("batch_size=1 has no other sample to cluster with: take 2 or more")
        if len(X) < 2:
            raise ValueError(f"at least 2 samples are needed, got n_samples={len(X)}")

    def _label(self, X: np.ndarray) -> None:
        self.embedding_ = self._features(X)
        self.codes_ = _unit(self._infer(X, lambda module, xb: _part(module, "codes")(xb)))
        rng = np.random.RandomState(derive_seeds(self._seed, 3, 1)[0])  # noqa: NPY002
        found = label_by_membership(
            self.embedding_,
            self.codes_,
            self.n_clusters,
            self.max_clusters,
            self.eta,
            self.eps,
            rng,
        )
        self._clusters, self.labels_, lengths = found
        self.subspaces_ = self._clusters.bases
        self.n_clusters_ = len(self.subspaces_)
        if lengths is not None:
            self.coding_lengths_ = lengths
        self._n_features_out = self.n_components

    def _assign(self, X: np.ndarray) -> np.ndarray:
        """Return the cluster whose code grows least by a sample's features."""
        return self._clusters.assign(self._features(X))

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
            Unit rows.
        """
        check_is_fitted(self)
        return self._features(self._validate(X, reset=False))

    def _features(self, X: np.ndarray) -> np.ndarray:
        return _unit(self._infer(X, lambda module, xb: _part(module, "features")(xb)))

    @property
    def membership_(self) -> np.ndarray:
        """Doubly stochastic membership between the training samples."""
        return membership(self.codes_, self.eta)

    # Input.

    _renamed = {"backbone": "module"}
    _network_parameters = ("n_components", "hidden_dim", "augment")

    def _allow_nd(self) -> bool:
        return self._value("module", None) is not None

    def _allow_integers(self) -> bool:
        return self._allow_nd() and self.augment != "gaussian"

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        self._noise = self._noise_scale(X) if self.augment == "gaussian" else 0.0

    def _noise_scale(self, X: np.ndarray) -> float:
        """Return the standard deviation of an entry: noise is long relative to neighbours."""
        flat = X.reshape(len(X), -1)
        rng = check_random_state(0)
        some = flat[rng.permutation(len(flat))[:_MEASURED]]
        neighbors = min(_NEIGHBORS, len(flat) - 1)
        distances, _ = NearestNeighbors(n_neighbors=neighbors + 1).fit(flat).kneighbors(some)
        return float(_NOISE * np.median(distances[:, -1]) / np.sqrt(flat.shape[1]))

    # Network and loss.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        given = self._value("module", None)
        backbone: nn.Module
        if given is None:
            width = self.hidden_dim
            first = mlp(n_in, (width,), batch_norm=True)
            backbone = nn.Sequential(*first, nn.Linear(width, width), nn.ReLU())
        else:
            backbone = own_module(given, n_in)
            width = output_width(backbone, n_in)
        feature_head = nn.Linear(width, self.n_components)
        code_head = nn.Linear(width, self.n_components)
        return nn.ModuleDict(
            {
                "backbone": backbone,
                "features": nn.Sequential(backbone, feature_head),
                "codes": nn.Sequential(backbone, code_head),
            }
        )

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        probe(_part(module, "features"), X)

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        from sklr.nn import GaussianNoise, ManifoldLinearizingLoss

        augment = self.augment
        if augment == "gaussian":
            augment = GaussianNoise(self._noise).to(step.device)
        step.memory["augment"] = augment
        step.memory["loss"] = ManifoldLinearizingLoss(
            self.eps, self.eta, self.gamma, self.mu, self.n_sinkhorn, self.max_column_samples
        )

    def _stages(self) -> list[Stage]:
        return [
            Stage(self.warmup_iter, "expansion", self._first_optimizer, loss=self._expansion_loss),
            Stage(self.max_iter, "clusters", begin=self._begin_clusters),
        ]

    def _first_optimizer(self, module: nn.Module) -> Optimizer:
        first = _part(module, "features").parameters()
        return make_optimizer("adam", first, lr=self.warmup_learning_rate)

    def _expansion_loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        from sklr.nn import coding_rate
        from sklr.nn._losses._unit import unit_rows

        features, augment = _part(module, "features"), step.memory["augment"]
        if augment is None:
            rate = coding_rate(unit_rows(features(xb)), self.eps)
            step.log("expansion", rate)
            return -rate
        z, other = (unit_rows(features(augment(xb, step.generator))) for _ in range(2))
        rate = (coding_rate(z, self.eps) + coding_rate(other, self.eps)) / 2
        agreement = (z * other).sum(dim=1).mean()
        step.log("expansion", rate)
        step.log("agreement", agreement)
        return -rate - self.invariance * agreement

    def _begin_clusters(self, module: nn.Module, step: TrainState) -> None:
        """Codes begin as features."""
        codes, features = _part(module, "codes"), _part(module, "features")
        codes[1].load_state_dict(features[1].state_dict())  # type: ignore[index]

    def _optimizers(self, module: nn.Module) -> Optimizer:
        return make_optimizer("sgd", module.parameters(), lr=self.learning_rate)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        from sklr.nn._losses._unit import unit_rows

        hidden = _part(module, "backbone")(xb)
        z, codes = (unit_rows(_part(module, n)[1](hidden)) for n in ("features", "codes"))  # type: ignore[index]
        loss = step.memory["loss"]
        terms = loss.terms(z, codes, step.generator)
        for name in ("expansion", "compression"):
            step.log(name, terms[name])
        return loss.combined(terms)


def _part(module: nn.Module, name: str) -> nn.Module:
    return module[name]  # type: ignore[index]


def _unit(Z: np.ndarray) -> np.ndarray:
    return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), np.finfo(np.float64).tiny)
