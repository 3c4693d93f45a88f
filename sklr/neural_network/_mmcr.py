"""Features without labels: maximum manifold capacity representations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Hidden, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import batch_bounds
from sklr._torch._device import mixed_precision, plain_defaults
from sklr._torch._errors import DivergedError
from sklr._torch._modules import mlp, output_width, own_module
from sklr._torch._rng import derive_seeds, seeded
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._loop import TrainState, batches, shuffled
from sklr.neural_network._mmcr_networks import (
    default_views,
    draw_members,
    image_encoder,
    projector_network,
)
from sklr.neural_network._solvers import make_optimizer
from sklr.neural_network._transformer import TorchTransformerMixin
from sklr.utils._base import fit_context
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Noise of the default views: parts of a feature's, or of all pixels', standard deviation.
_TABLE_NOISE, _IMAGE_NOISE = 0.1, 0.3


class MMCR(TorchTransformerMixin, TorchEstimator):
    r"""Maximum manifold capacity representations: features learned without labels.

    A network sees several random views of each sample. It is trained so that the views of one
    sample come together, and the centroids :math:`C` of different samples spread over all
    directions: the loss is :math:`-\|C\|_*`, the nuclear norm of the centroids of unit vectors.
    ``transform`` returns the network's features, for a linear classifier, clustering or retrieval.

    Parameters
    ----------
    n_components : int, default=128
        Number of features of the default networks. A network given as `module` has its own.
    module : torch.nn.Module or callable, default=None
        The network that makes features of shape (n_samples, n_features_out). None builds a
        perceptron for tables and a small convolutional network for images.
        {how_module_is_given}
    projector : array-like of int, default=(128, 64)
        Widths of the layers between the features and the embedding, on which the loss is. The last
        is the dimension D of the embedding.
    augment : "auto", callable or None, default="auto"
        How a view is made. "auto": for tables noise of 0.1 standard deviations, and 0.2 of the
        features replaced by their means; for images a random affine map, gain and noise. A callable
        is called with a batch of samples and a ``torch.Generator`` and returns the batch changed;
        the augmentations of :mod:`sklr.nn` are such, and a ``RandomViews`` of them with `n_views`
        views. With `groups` in ``fit``, "auto" and None take the samples of a group as views, as
        they are.
    n_views : int, default=4
        Views of each sample in a step; at least 2, or 1 with `ema_decay`.
    lmbda : float, default=0.0
        Weight of the mean nuclear norm of the views of one sample.
    ema_decay : float, default=None
        When given, a second network is an exponential moving average of the first: its weights are
        `ema_decay` times their old values plus the rest times the new ones after each step, and
        centroids are the mean over both. The paper takes 0.99 for long trainings with 2 views.
    batch_size : int, default=64
        Samples of a batch, `n_views` times as many views. An incomplete last batch is left out;
        samples for less than two batches are one.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-6
        Weight decay of Adam.
    {max_iter}
    {device}
    {random_state}
    {verbose}
    {callbacks}
    encoder : torch.nn.Module or callable, default="deprecated"
        The former name of `module`.
    momentum : float, default="deprecated"
        The former name of `ema_decay`.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trained networks: ``module_.encoder`` and ``module_.projector``.
    encoder_ : torch.nn.Module
        The network that makes features.
    projector_ : torch.nn.Module
        The network from features to embeddings.
    nuclear_norm_upper_bound_ : float
        What the nuclear norm of a batch's centroids cannot exceed, ``sqrt(B * min(B, D))``.
    {loss_curve_}
    {n_iter_}
    n_features_in_ : int
        Number of features (of channels, for images).
    {feature_names_in_}

    See Also
    --------
    sklr.nn.mmcr_loss : The loss, for training loops of your own.
    sklearn.decomposition.PCA : Linear features of largest variance.

    Notes
    -----
    Scale the features of a table first (``StandardScaler``); images should be in one range.
    Everything depends on the views: what they change is what the features forget.

    References
    ----------
    .. [1] T. Yerxa, Y. Kuang, E. Simoncelli and S. Chung, "Learning efficient coding of natural
       images with maximum manifold capacity representations", NeurIPS 2023, arXiv:2303.03307.
    .. [2] R. Schaeffer et al., "Towards an improved understanding and utilization of maximum
       manifold capacity representations", arXiv:2406.09366.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklr.neural_network import MMCR
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X[:200].reshape(-1, 1, 8, 8) / 16
    >>> mmcr = MMCR(n_components=32, max_iter=2, random_state=0)
    >>> mmcr.fit_transform(images).shape
    (200, 32)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "encoder": [callable, None, Hidden(StrOptions({"deprecated"}))],
        "projector": ["array-like"],
        "augment": [StrOptions({"auto"}), callable, None],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "lmbda": [Interval(Real, 0, None, closed="left")],
        "ema_decay": [Interval(Real, 0, 1, closed="left"), None],
        "momentum": [
            Interval(Real, 0, 1, closed="left"),
            None,
            Hidden(StrOptions({"deprecated"})),
        ],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        **training_constraints(
            "module",
            "learning_rate",
            "weight_decay",
            "max_iter",
            "device",
            "random_state",
            "verbose",
            "callbacks",
        ),
    }

    _drop_last = True

    def __init__(
        self,
        n_components: int = 128,
        *,
        module: Callable[..., Any] | None = None,
        projector: Sequence[int] = (128, 64),
        augment: Any = "auto",
        n_views: int = 4,
        lmbda: float = 0.0,
        ema_decay: float | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        max_iter: int = 100,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
        encoder: Any = "deprecated",
        momentum: Any = "deprecated",
    ) -> None:
        self.n_components = n_components
        self.module = module
        self.projector = projector
        self.augment = augment
        self.n_views = n_views
        self.lmbda = lmbda
        self.ema_decay = ema_decay
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.encoder = encoder
        self.momentum = momentum

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> MMCR:
        """Train the networks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Training samples; of any shape that `module` takes, when it is given.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Samples of one group are views of one thing (repeated trials of a stimulus): a step
            draws `n_views` of them, in turn where a group has fewer. A sample of the loss, and of
            `batch_size`, is then a group.

        Returns
        -------
        self : MMCR
            The fitted estimator.
        """
        with self._ready_to_train():
            X, codes, n_things = self._check(X, groups, reset=True)
            if n_things < self.batch_size:
                warn_user(
                    f"batch_size={self.batch_size} is lowered to the {n_things} "
                    f"{'samples' if codes is None else 'groups'} that there are",
                )
            self._fit_network(X, codes)
            self._finish(X, n_things)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, groups: Any = None) -> MMCR:
        """Train for one more epoch on some samples; the optimiser goes on where it was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Training samples.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        self : MMCR
            The estimator after the epoch.
        """
        with self._ready_to_train():
            X, codes, n_things = self._check(X, groups, reset=not hasattr(self, "module_"))
            self._fit_one_epoch(X, codes)
            self._finish(X, n_things)
        return self

    def project(self, X: Any) -> np.ndarray:
        """Return the embeddings that the loss sees: the projector's output, of unit length.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, D)
            Unit rows. Features of ``transform`` are what generalises; these are for looking at.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        Z = self._infer(X, self._project)
        return Z / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), np.finfo(float).tiny)

    def score(self, X: Any, y: Any = None, groups: Any = None) -> float:
        """Return how much of the largest nuclear norm fresh views reach.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Samples.
        y : None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        score : float
            Minus the loss over ``sqrt(B * min(B, D))``, mean over batches of `batch_size`: 1 where
            views coincide and samples are orthogonal, with any `lmbda` (whose term is counted from
            the least that it can be, ``lmbda * sqrt(n_views)``). Comparable for one batch size and
            one embedding dimension only. The views are the same at each call.
        """
        check_is_fitted(self)
        X, codes, n_things = self._check(X, groups, reset=False)
        torch = self._torch()
        device = next(self.module_.parameters()).device
        view_seed = derive_seeds(self._seed, 1, 1)[0]
        scores = []
        contexts = plain_defaults(), mixed_precision(device), seeded(view_seed, device)
        with torch.inference_mode(), contexts[0], contexts[1], contexts[2]:
            seeds = [view_seed] * 3
            state = self._new_state(self.module_, X, codes, None, device, seeds, None)
            self._begin(self.module_, state)
            bounds = batch_bounds(n_things, state.batch_size, drop_last=True)
            things = torch.arange(bounds[-1]).split(np.diff(bounds).tolist())
            for xb, _ in batches(state, self._rows_of(things, state)):
                loss = self._loss(self.module_, xb, None, state)
                least = self.lmbda * math.sqrt(self.n_views)
                scores.append((least - float(loss)) / self._bound(len(xb) // self._n_drawn(state)))
        return float(np.mean(scores))

    @property
    def encoder_(self) -> nn.Module:
        """The network that makes features."""
        return _part(self.module_, "encoder")

    @property
    def projector_(self) -> nn.Module:
        """The network from features to embeddings."""
        return _part(self.module_, "projector")

    # Input.

    _renamed = {"encoder": "module", "momentum": "ema_decay"}
    _network_parameters = ("n_components", "projector", "ema_decay")

    def _allow_integers(self) -> bool:
        return self._value("module", None) is not None and self.augment != "auto"

    def _allow_nd(self) -> bool:
        return True

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        X = super()._validate(X, reset=reset)
        if self._value("module", None) is None and X.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {X.ndim} dimensions, shape "
                f"{X.shape}; give a module for others"
            )
        return X

    def _check(self, X: Any, groups: Any, *, reset: bool) -> tuple[Any, Any, int]:
        """Return samples, the number of each one's group or None, and how many things there are."""
        if self.n_views < 2 and self._value("ema_decay", None) is None:
            raise ValueError(
                f"n_views={self.n_views} needs ema_decay: one view alone has nothing to agree with"
            )
        if any(not isinstance(w, Integral) or w < 1 for w in self.projector) or not len(
            self.projector
        ):
            raise ValueError(f"projector must be widths of at least 1, got {self.projector!r}")
        X = self._validate(X, reset=reset)
        if groups is None:
            if self.augment is None:
                raise ValueError("augment=None needs groups: there are no other views")
            if len(X) < 2:
                raise ValueError(f"at least 2 samples are needed, got n_samples={len(X)}")
            return X, None, len(X)
        groups = column_or_1d(groups)
        if groups.dtype.kind == "f" and np.isnan(groups).any():
            raise ValueError("groups contains NaN")
        check_consistent_length(X, groups)
        _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if len(counts) < 2:
            raise ValueError("groups must have at least 2 different values, got 1")
        if counts.min() < 2 and not callable(self.augment):
            raise ValueError(
                f"{(counts < 2).sum()} groups have a single sample, which is no view of another; "
                "leave them out, or give an augment"
            )
        return X, codes, len(counts)

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        """Keep what the default views are relative to."""
        values = X.astype(np.float64)
        if X.ndim == 2:
            self._noise = (_TABLE_NOISE * values.std(axis=0)).astype(np.float32)
            self._fill = values.mean(axis=0).astype(np.float32)
        else:
            self._noise, self._fill = np.float32(_IMAGE_NOISE * values.std()), None

    def _finish(self, X: np.ndarray, n_things: int) -> None:
        """Set what depends on the batches, and on what the network returns."""
        single = n_things < 2 * self.batch_size
        self.nuclear_norm_upper_bound_ = self._bound(n_things if single else self.batch_size)
        self._count_features(X)

    def _bound(self, n_things: int) -> float:
        return math.sqrt(n_things * min(n_things, self.projector[-1]))

    # Networks and loss.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        from torch import nn

        given = self._value("module", None)
        encoder: nn.Module
        if given is not None:
            encoder = own_module(given, n_in)
        elif isinstance(n_in, int):
            width = 2 * self.n_components
            encoder = mlp(n_in, (width, width), self.n_components, batch_norm=True)
        else:
            encoder = image_encoder(n_in, self.n_components)
        projector = projector_network(output_width(encoder, n_in), self.projector)
        parts: dict[str, nn.Module] = {"encoder": encoder, "projector": projector}
        if self._value("ema_decay", None) is not None:
            slow = nn.Sequential(*copy.deepcopy(list(parts.values())))
            parts["slow"] = slow.requires_grad_(False)
        return nn.ModuleDict(parts)

    def _optimizers(self, module: nn.Module) -> torch.optim.Optimizer:
        trained = [p for p in module.parameters() if p.requires_grad]
        return make_optimizer(
            "adam", trained, lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        """Make the views; where groups are given, a batch is of groups."""
        import torch

        from sklr.nn import RandomViews

        grouped = step.y is not None
        augment = self.augment
        if augment == "auto" and grouped:
            augment = None
        elif augment == "auto":
            augment = default_views(step.X, self._noise, self._fill)
        step.memory |= {"augment": None, "shape": step.X.shape[1:]}
        if augment is not None:
            if isinstance(augment, RandomViews):
                if augment.n_views not in (1, self.n_views):
                    raise ValueError(
                        f"augment makes n_views={augment.n_views} of each sample, the parameter "
                        f"n_views is {self.n_views}: set one of them"
                    )
                augment = augment.augmentations
            n_copies = 1 if grouped else self.n_views
            step.memory["augment"] = RandomViews(augment, n_copies).to(step.device)
        if step.y is not None:
            codes = step.y.cpu().numpy()
            counts = np.bincount(codes)
            step.memory |= {
                "members": torch.tensor(np.argsort(codes, kind="stable")),
                "counts": torch.tensor(counts),
                "starts": torch.tensor(np.cumsum(counts) - counts),
            }
            step.y = None
            step.batch_size = min(self.batch_size, len(counts))

    def _n_drawn(self, step: TrainState) -> int:
        """Return how many samples of a batch are views of one thing before they are augmented."""
        return self.n_views if "members" in step.memory else 1

    def _batches(self, step: TrainState) -> Iterator[Any]:
        import torch

        if "members" not in step.memory:
            yield from shuffled(step)
            return
        n_groups = len(step.memory["counts"])
        bounds = batch_bounds(n_groups, step.batch_size, step.drop_last)
        if len(bounds) == 2:  # as in `shuffled`: all at once
            yield from self._rows_of([torch.arange(n_groups)], step)
            return
        groups = torch.randperm(n_groups, generator=step.shuffle)[: bounds[-1]]
        yield from self._rows_of(groups.split(np.diff(bounds).tolist()), step)

    def _n_batches(self, step: TrainState) -> int:
        if "members" not in step.memory:
            return super()._n_batches(step)
        bounds = batch_bounds(len(step.memory["counts"]), step.batch_size, step.drop_last)
        return len(bounds) - 1

    def _rows_of(self, batches_of_things: Any, step: TrainState) -> Iterator[Tensor]:
        """Yield the rows of samples, or drawn rows of groups."""
        for things in batches_of_things:
            if "members" in step.memory:
                things = draw_members(things, self.n_views, step.generator, step.memory)
            yield things.to(step.X.device)

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        from sklr.nn import mmcr_loss

        views = xb
        if step.memory["augment"] is not None:
            views = step.memory["augment"](views, step.generator)
            default = self._value("module", None) is None
            if default and views.shape[1:] != step.memory["shape"]:
                raise ValueError(
                    f"augment must keep the shape of samples, {tuple(step.memory['shape'])}, got "
                    f"{tuple(views.shape[1:])}"
                )
        n_views = len(views) * self._n_drawn(step) // len(xb)
        slow = None
        if self._value("ema_decay", None) is not None:
            with torch.no_grad():
                slow = _part(module, "slow")(views)
        z = self._project(module, views)
        if not torch.isfinite(z).all():
            raise DivergedError(
                "embeddings are not finite", "scale the features, or look at what augment returns"
            )
        return mmcr_loss(z, n_views, self.lmbda, slow)

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        loss = super()._step(module, xb, yb, step)
        decay = self._value("ema_decay", None)
        if decay is not None:
            with torch.no_grad():
                fast = [p for n in ("encoder", "projector") for p in _part(module, n).parameters()]
                for follower, leader in zip(_part(module, "slow").parameters(), fast, strict=True):
                    follower.lerp_(leader, 1 - decay)
        return loss

    def _project(self, module: nn.Module, xb: Tensor) -> Tensor:
        return _part(module, "projector")(_part(module, "encoder")(xb))

    def _embed(self, module: nn.Module, xb: Tensor) -> Tensor:
        return _part(module, "encoder")(xb)


def _part(module: nn.Module, name: str) -> nn.Module:
    return module[name]  # type: ignore[index]
