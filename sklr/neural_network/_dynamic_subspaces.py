"""Supervised embeddings whose coordinates share the work, with attention maps for images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._modules import probe
from sklr.metrics import recall_at_k
from sklr.neural_network._base import training_constraints
from sklr.neural_network._embedding_networks import embedding_network
from sklr.neural_network._learner_training import LearnerTraining
from sklr.neural_network._learners import held_out
from sklr.neural_network._targets import check_labels, codes_of, encode_labels, validation_pair
from sklr.neural_network._transformer import TorchSupervisedTransformerMixin
from sklr.utils._base import fit_context
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from torch import Tensor, nn


class DynamicSubspaceEmbedding(TorchSupervisedTransformerMixin, LearnerTraining):
    r"""Distances learnt from labels: embeddings whose coordinates share the work.

    A network is trained so that samples of a class come near each other and samples of different
    classes come apart (margin loss on pairs). The coordinates of the embedding are divided among
    *learners*: each is trained on a cluster of the samples, so that it learns what matters there.
    Training begins with one; where a validation part of the data stops improving, the last learner
    keeps the coordinates that the loss depends on, and the others begin anew as one learner more.
    At the end all are trained together on all data. ``transform`` returns rows of unit length, for
    retrieval, nearest neighbours and clustering; of images, :meth:`attention_map` shows which
    places the embedding looks at.

    Parameters
    ----------
    n_components : int, default=64
        Coordinates of the embedding. Learners of at most 10 coordinates are not divided, so that
        with 10 or fewer there is one.
    module : torch.nn.Module or callable, default=None
        The network before the last linear map: it makes a table, or maps of shape (n_samples,
        n_channels, height, width), which are averaged over places. None standardises features
        (channels of images) and builds a perceptron of `hidden_layer_sizes` for tables, and three
        convolutions for images.
        {how_module_is_given}
    hidden_layer_sizes : array-like of int, default=(256, 256)
        Widths of the hidden layers for tables.
    attention : bool or "auto", default="auto"
        Whether feature maps are multiplied by an attention map before they are averaged. "auto" is
        yes where there are feature maps.
    n_learners : int, default=1
        Learners at the beginning.
    max_learners : int, default=8
        Learners at the end, at most. With `n_learners` as many, their number is fixed; 1 is the
        plain margin loss.
    growth_patience : int, default=5
        Epochs without a better validation score before there is another learner.
    margin : float, default=0.2
        How far pairs are to be from the boundary.
    beta : float, default=1.2
        The boundary: pairs of a class are to be nearer, others farther. Distances are between 0
        and 2.
    negative_cutoff : float, default=0.5
        Distance below which pairs of two classes are taken for as near as this (are left out by
        "nearest"), since their gradients have almost random directions.
    mining : {"distance_weighted", "nearest"}, default="distance_weighted"
        Which pairs of two classes are in the loss (:class:`~sklr.nn.MarginLoss`): draws that make
        all distances as likely, or the nearest beyond the cutoff, as in the authors' code.
    recluster_every : int, default=2
        Epochs between two clusterings of the training samples.
    finetune_fraction : float, default=1/6
        Share of the epochs, the last ones, in which the learners are trained together; meanwhile
        the learning rate falls to 0.
    samples_per_class : int, default=8
        Samples of each class in a batch; more where there are few classes.
    batch_size : int, default=64
        Samples of a batch, ``batch_size // samples_per_class`` classes.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-4
        Weight decay of Adam.
    {max_iter}
    validation_fraction : float, default=0.1
        Share of each class that is set aside, on which it is decided when learners are added. Give
        `X_val` and `y_val` to ``fit`` to train on all samples.
    {device}
    {random_state}
    {verbose}
    {callbacks}

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained network, without the scaling to unit length.
    learner_indices_ : list of ndarray of int
        The coordinates of each learner; each coordinate is in one of them.
    n_learners_ : int
        Learners at the end.
    growth_epochs_ : list of int
        Epochs, from 0, before which a learner was added.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    {loss_curve_}
    validation_scores_ : list of float
        Normalised mutual information, after each epoch, of the classes of the validation part and
        its clusters by k-means. Absent where too few samples could be set aside; the number of
        learners is then `n_learners`.
    {n_iter_}
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklearn.neighbors.NeighborhoodComponentsAnalysis : A linear map with the same aim.
    sklearn.discriminant_analysis.LinearDiscriminantAnalysis : A linear map in closed form.
    sklr.nn.MarginLoss : The loss, for training loops of your own.
    sklr.metrics.recall_at_k : What `score` measures.

    Notes
    -----
    An epoch has ``n_samples / batch_size`` steps whatever the number of learners; clustering and
    validation add about a third of its forward passes. Nearest neighbours of unit rows are the same
    by Euclidean distance and by cosine.

    References
    ----------
    .. [1] S. Adiga V, J. Dolz and H. Lombaert, "Attention-based dynamic subspace learners for
       medical image analysis", IEEE J. Biomed. Health Inform. 26 (2022), arXiv:2206.09068.
    .. [2] A. Sanakoyeu, V. Tschernezki, U. Buechler and B. Ommer, "Divide and conquer the embedding
       space for metric learning", CVPR 2019, arXiv:1906.05990.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklr.neural_network import DynamicSubspaceEmbedding
    >>> X, y = load_iris(return_X_y=True)
    >>> embedding = DynamicSubspaceEmbedding(16, max_iter=10, random_state=0).fit(X, y)
    >>> embedding.transform(X).shape
    (150, 16)
    >>> embedding.score(X, y) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "attention": [StrOptions({"auto"}), "boolean"],
        "n_learners": [Interval(Integral, 1, None, closed="left")],
        "max_learners": [Interval(Integral, 1, None, closed="left")],
        "growth_patience": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "negative_cutoff": [Interval(Real, 0, 2, closed="left")],
        "mining": [StrOptions({"distance_weighted", "nearest"})],
        "recluster_every": [Interval(Integral, 1, None, closed="left")],
        "finetune_fraction": [Interval(Real, 0, 1, closed="both")],
        "samples_per_class": [Interval(Integral, 2, None, closed="left")],
        "batch_size": [Interval(Integral, 4, None, closed="left")],
        **training_constraints(
            "module",
            "hidden_layer_sizes",
            "learning_rate",
            "weight_decay",
            "max_iter",
            "validation_fraction",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }

    _network_parameters = ("n_components", "attention", "n_learners")

    def __init__(
        self,
        n_components: int = 64,
        *,
        module: Callable[..., Any] | None = None,
        hidden_layer_sizes: Sequence[int] = (256, 256),
        attention: bool | str = "auto",
        n_learners: int = 1,
        max_learners: int = 8,
        growth_patience: int = 5,
        margin: float = 0.2,
        beta: float = 1.2,
        negative_cutoff: float = 0.5,
        mining: str = "distance_weighted",
        recluster_every: int = 2,
        finetune_fraction: float = 1 / 6,
        samples_per_class: int = 8,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        max_iter: int = 60,
        validation_fraction: float = 0.1,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.n_components = n_components
        self.module = module
        self.hidden_layer_sizes = hidden_layer_sizes
        self.attention = attention
        self.n_learners = n_learners
        self.max_learners = max_learners
        self.growth_patience = growth_patience
        self.margin = margin
        self.beta = beta
        self.negative_cutoff = negative_cutoff
        self.mining = mining
        self.recluster_every = recluster_every
        self.finetune_fraction = finetune_fraction
        self.samples_per_class = samples_per_class
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Training samples; of any shape that `module` takes, when it is given.
        y : array-like of shape (n_samples,)
            Labels.
        X_val : array-like of shape (n_validation, n_features), default=None
            Samples that decide when learners are added, instead of some of `X`; no gradient comes
            from them.
        y_val : array-like of shape (n_validation,), default=None
            Labels of `X_val`.

        Returns
        -------
        self : DynamicSubspaceEmbedding
            The fitted estimator.
        """
        with self._ready_to_train():
            X, y = self._validate(X, y, reset=True)
            check_labels(y)
            self.classes_, codes = encode_labels(self, y)
            validation = validation_pair(
                self, X_val, y_val, lambda y, name: codes_of(y, self.classes_, name)
            )
            n_out, whole = len(self.classes_), X
            if validation is None:
                self._draw_seed()
                rng = np.random.RandomState(self._seed)  # noqa: NPY002 (as scikit-learn draws)
                held = held_out(codes, self.validation_fraction, rng)
                if held.any():
                    validation = X[held], codes[held]
                    X, codes = X[~held], codes[~held]
            self._fit_network(X, codes, n_out=n_out, validation=validation)
            self._count_features(whole)
        return self

    def attention_map(self, X: Any) -> np.ndarray:
        """Return how much the embedding takes from each place of images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_channels, height, width)
            Images.

        Returns
        -------
        maps : ndarray of shape (n_samples, height, width)
            Between 0 and 1. Between images and within them numbers of one network compare; the
            map has the resolution of the feature maps, and is enlarged.

        Raises
        ------
        ValueError
            The network has no attention.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        if _part(self.module_, "attention") is None:
            raise ValueError(
                "there is no attention map: the network was made without attention, or makes no "
                "feature maps; fit images of shape (n_samples, n_channels, height, width) with "
                "attention=True"
            )
        size = X.shape[2:]

        def enlarged(module: Any, xb: Tensor) -> Tensor:
            from torch.nn.functional import interpolate

            small = module.attention_of(xb)
            return interpolate(small, size=size, mode="bilinear", align_corners=False)[:, 0]

        return np.clip(self._infer(X, enlarged), 0.0, 1.0)

    def score(self, X: Any, y: Any) -> float:
        """Return how often the nearest other sample is of the same class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples, of which two at least are of one class.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        score : float
            :func:`~sklr.metrics.recall_at_k` of the embeddings, with k = 1.
        """
        return recall_at_k(self.transform(X), y, k=1)

    @property
    def n_learners_(self) -> int:
        """Number of learners."""
        return len(self.learner_indices_)

    # Input.

    def _allow_nd(self) -> bool:
        return True

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        if reset:
            self._check_learners()
        out = super()._validate(X, y, reset=reset)
        found = out[0] if isinstance(out, tuple) else out
        if self.module is None and found.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {found.ndim} dimensions, shape "
                f"{found.shape}; give a module for others"
            )
        return out

    def _check_learners(self) -> None:
        if self.batch_size < 2 * self.samples_per_class:
            raise ValueError(
                f"a batch of batch_size={self.batch_size} holds samples_per_class="
                f"{self.samples_per_class} of one class only, and the loss compares classes: "
                f"batch_size must be at least {2 * self.samples_per_class}"
            )
        if self.n_learners > min(self.n_components, self.max_learners):
            raise ValueError(
                f"n_learners={self.n_learners} must be at most max_learners={self.max_learners} "
                f"and n_components={self.n_components}"
            )

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        counts = np.bincount(y)  # type: ignore[arg-type]
        if counts.max() < 2:
            raise ValueError(
                f"no class has two samples (n_samples={len(X)}): there is no pair to bring together"
            )
        lone = self.classes_[: len(counts)][counts == 1]
        if len(lone):
            warn_user(
                f"{len(lone)} of {len(self.classes_)} classes have a single sample "
                f"({', '.join(map(str, lone[:5]))}{', ...' if len(lone) > 5 else ''}): it is kept "
                "away from other classes, and brought near to nothing",
            )
        if len(X) > 1 and (X == X[:1]).all():
            warn_user(
                "all samples of X are equal, and so will be their embeddings, whatever the class",
            )

    # Network and loss.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        return embedding_network(
            n_in, self.n_components, self.hidden_layer_sizes, self.module, self.attention
        )

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        probe(module, X, n_columns=self.n_components)

    def _embed(self, module: nn.Module, xb: Tensor) -> Tensor:
        return self._scaled(module(xb))


def _part(module: Any, name: str) -> Any:
    return getattr(module, name)
