"""Features without labels: maximum manifold capacity representations."""

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import batch_bounds
from sklr._torch._device import made_on_the_cpu, mixed_precision
from sklr._torch._modules import mlp, own_module, probe
from sklr._torch._rng import derive_seeds, seeded
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._loop import TrainState
from sklr.neural_network._mixins import TorchTransformerMixin
from sklr.utils._base import fit_context

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
        Number of features of the default networks. A network given as `encoder` has its own.
    encoder : torch.nn.Module or callable, default=None
        The network that makes features of shape (n_samples, n_features_out). None builds a
        perceptron for tables and a small convolutional network for images. A Module is copied, and
        trained from the weights it comes with; a callable is called with the number of features,
        or with the shape of a sample of more dimensions, and returns a Module.
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
        Views of each sample in a step; at least 2, or 1 with `momentum`.
    lmbda : float, default=0.0
        Weight of the mean nuclear norm of the views of one sample.
    momentum : float, default=None
        When given, a second network follows the first: its weights are `momentum` times their old
        values plus the rest times the new ones after each step, and centroids are the mean over
        both. The paper takes 0.99 for long trainings with 2 views.
    batch_size : int, default=64
        Samples of a batch, `n_views` times as many views. An incomplete last batch is left out.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=1e-6
        Weight decay of Adam.
    max_iter : int, default=100
        Epochs.
    device : str, default="auto"
        Where to train: "auto" is a CUDA device if there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds first weights, order of samples and views. Two fits on the CPU with the same integer
        and number of threads are equal to the last bit.
    verbose : int, default=0
        1 shows a bar over the epochs, 2 prints a line for each.
    callbacks : list of object, default=None
        Called between epochs where they have ``on_fit_begin``, ``on_epoch_end`` or
        ``on_fit_end(estimator, info)``; an answer True after an epoch ends the training.

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
    loss_curve_ : list of float
        Mean loss of each epoch.
    n_iter_ : int
        Epochs done.
    n_features_in_ : int
        Number of features (of channels, for images).
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, when `X` has them.

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
        "encoder": [callable, None],
        "projector": ["array-like"],
        "augment": [StrOptions({"auto"}), callable, None],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "lmbda": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left"), None],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        **training_constraints(
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
        encoder: Callable[..., Any] | None = None,
        projector: Sequence[int] = (128, 64),
        augment: Any = "auto",
        n_views: int = 4,
        lmbda: float = 0.0,
        momentum: float | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        max_iter: int = 100,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.n_components = n_components
        self.encoder = encoder
        self.projector = projector
        self.augment = augment
        self.n_views = n_views
        self.lmbda = lmbda
        self.momentum = momentum
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_iter = max_iter
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> "MMCR":
        """Train the networks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_channels, height, width)
            Training samples; of any shape that `encoder` takes, when it is given.
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
        self._torch()
        with self._ready_to_train():
            X, codes, n_things = self._check(X, groups, reset=True)
            if n_things < self.batch_size:
                warnings.warn(
                    f"batch_size={self.batch_size} is lowered to the {n_things} "
                    f"{'samples' if codes is None else 'groups'} that there are",
                    UserWarning,
                    stacklevel=2,
                )
            self._measure(X, n_things)
            self._fit_network(X, codes)
            self._n_features_out = self._infer(X[:1], self._embed).shape[1]
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, groups: Any = None) -> "MMCR":
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
        self._torch()
        with self._ready_to_train():
            first = not hasattr(self, "module_")
            X, codes, n_things = self._check(X, groups, reset=first)
            if first:
                self._measure(X, n_things)
            self._fit_one_epoch(X, codes)
            self._n_features_out = self._infer(X[:1], self._embed).shape[1]
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
        Z = self._infer(X, lambda module, xb: module.projector(module.encoder(xb)))
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
        contexts = made_on_the_cpu(), mixed_precision(device), seeded(view_seed, device)
        with torch.inference_mode(), contexts[0], contexts[1], contexts[2]:
            state = self._new_state(self.module_, X, codes, None, device, [view_seed] * 3, None)
            bounds = batch_bounds(n_things, state.batch_size, drop_last=True)
            for first, last in zip(bounds[:-1], bounds[1:]):
                xb = state.X[first:last].to(device)
                loss = self._loss(self.module_, xb, None, state)
                least = self.lmbda * math.sqrt(self.n_views)
                scores.append((least - float(loss)) / self._bound(len(xb)))
        return float(np.mean(scores))

    @property
    def encoder_(self) -> Any:
        """The network that makes features."""
        return self.module_.encoder

    @property
    def projector_(self) -> Any:
        """The network from features to embeddings."""
        return self.module_.projector

    # Input.

    def _dtypes(self) -> tuple[str, str]:
        return "float32", "float64" if self.encoder is None else "float32"

    def _allow_nd(self) -> bool:
        return True

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        X = super()._validate(X, reset=reset)
        if self.encoder is None and X.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {X.ndim} dimensions, shape "
                f"{X.shape}; give an encoder for others"
            )
        return X

    def _check(self, X: Any, groups: Any, *, reset: bool) -> tuple[Any, Any, int]:
        """Return samples, the number of each one's group or None, and how many things there are."""
        if self.n_views < 2 and self.momentum is None:
            raise ValueError(
                f"n_views={self.n_views} needs momentum: one view alone has nothing to agree with"
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

    def _measure(self, X: np.ndarray, n_things: int) -> None:
        """Keep what the default views are relative to, and the bound of the loss."""
        values = X.astype(np.float64)
        if X.ndim == 2:
            self._noise = (_TABLE_NOISE * values.std(axis=0)).astype(np.float32)
            self._fill = values.mean(axis=0).astype(np.float32)
        else:
            self._noise, self._fill = np.float32(_IMAGE_NOISE * values.std()), None
        self.nuclear_norm_upper_bound_ = self._bound(min(self.batch_size, n_things))

    def _bound(self, n_things: int) -> float:
        return math.sqrt(n_things * min(n_things, self.projector[-1]))

    # Networks and loss.

    def _build(self, n_in: Any, n_out: int | None) -> Any:
        import torch
        from torch import nn

        if self.encoder is not None:
            encoder = own_module(self.encoder, n_in)
        elif isinstance(n_in, int):
            width = 2 * self.n_components
            encoder = mlp(n_in, (width, width), self.n_components, batch_norm=True)
        else:
            encoder = _image_encoder(n_in, self.n_components)
        shape = (n_in,) if isinstance(n_in, int) else n_in
        width = probe(
            encoder.float(), torch.zeros(2, *shape, dtype=torch.float32), what="encoder"
        ).shape[1]
        parts = {"encoder": encoder, "projector": _projector(width, self.projector)}
        if self.momentum is not None:
            slow = nn.Sequential(*copy.deepcopy(list(parts.values())))
            parts["slow"] = slow.requires_grad_(False)
        return nn.ModuleDict(parts)

    def _optimizers(self, module: Any) -> Any:
        import torch

        trained = [p for p in module.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, self.learning_rate, weight_decay=self.weight_decay)

    def _new_state(
        self, module: Any, X: Any, y: Any, weights: Any, device: Any, seeds: Any, n_epochs: Any
    ) -> TrainState:
        """Keep samples aside where groups are given: batches are then of groups."""
        import torch

        from sklr.nn import FeatureDropout, GaussianNoise, RandomAffine2d, RandomViews

        state = super()._new_state(module, X, None, weights, device, seeds, n_epochs)
        augment = self.augment
        if augment == "auto" and y is not None:
            augment = None
        elif augment == "auto":
            noise = GaussianNoise(torch.as_tensor(self._noise))
            if X.ndim == 2:
                augment = [noise, FeatureDropout(fill=torch.as_tensor(self._fill))]
            elif X.ndim == 4:
                augment = [RandomAffine2d(), noise]
            else:
                augment = [noise]
        state.memory |= {"augment": None, "shape": state.X.shape[1:]}
        if augment is not None:
            n_copies = self.n_views if y is None else 1
            if isinstance(augment, RandomViews):
                if augment.n_views not in (1, self.n_views):
                    raise ValueError(
                        f"augment makes n_views={augment.n_views} of each sample, the parameter "
                        f"n_views is {self.n_views}: set one of them"
                    )
                augment = augment.augmentations
            state.memory["augment"] = RandomViews(augment, n_copies).to(device)
        if y is not None:
            members = np.argsort(y, kind="stable")
            counts = np.bincount(y)
            state.memory |= {
                "samples": state.X,
                "members": torch.tensor(members),
                "counts": torch.tensor(counts),
                "starts": torch.tensor(np.cumsum(counts) - counts),
            }
            state.X = torch.arange(len(counts))
            state.batch_size = min(self.batch_size, len(counts))
        return state

    def _loss(self, module: Any, xb: Any, yb: Any, step: TrainState) -> Any:
        import torch

        from sklr.nn import mmcr_loss

        views = xb
        if "samples" in step.memory:
            views = _draw_members(xb.cpu(), self.n_views, step.generator, step.memory)
            views = views.to(step.device)
        if step.memory["augment"] is not None:
            views = step.memory["augment"](views, step.generator)
            if self.encoder is None and views.shape[1:] != step.memory["shape"]:
                raise ValueError(
                    f"augment must keep the shape of samples, {tuple(step.memory['shape'])}, got "
                    f"{tuple(views.shape[1:])}"
                )
        n_views = len(views) // len(xb)
        slow = None
        if self.momentum is not None:
            with torch.no_grad():
                slow = module.slow(views)
        z = module.projector(module.encoder(views))
        if not torch.isfinite(z).all():
            raise ValueError(
                f"embeddings are not finite in epoch {step.epoch + 1}; lower learning_rate="
                f"{self.learning_rate}, scale the features, or look at what augment returns"
            )
        return mmcr_loss(z, n_views, self.lmbda, slow)

    def _step(self, module: Any, xb: Any, yb: Any, step: TrainState) -> Any:
        import torch

        loss = super()._step(module, xb, yb, step)
        if self.momentum is not None:
            with torch.no_grad():
                fast = [*module.encoder.parameters(), *module.projector.parameters()]
                for follower, leader in zip(module.slow.parameters(), fast, strict=True):
                    follower.lerp_(leader, 1 - self.momentum)
        return loss

    def _embed(self, module: Any, xb: Any) -> Any:
        return module.encoder(xb)


def _image_encoder(shape: tuple[int, ...], n_features: int) -> Any:
    """Return three convolutions, each followed by pooling while there is room; then a linear map.

    Places are kept, not averaged: small images of things in the middle are what it is for.
    """
    from torch import nn

    width, *size = shape
    layers: list[Any] = []
    for wanted in (32, 64, 128):
        layers += [
            nn.Conv2d(width, wanted, 3, padding=1, bias=False),
            nn.BatchNorm2d(wanted),
            nn.ReLU(),
        ]
        if min(size) >= 4:
            layers.append(nn.MaxPool2d(2))
            size = [side // 2 for side in size]
        width = wanted
    # Large images are brought down to 4 x 4 places.
    layers.append(nn.AdaptiveAvgPool2d([min(side, 4) for side in size]))
    places = min(size[0], 4) * min(size[1], 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * places, n_features))


def _projector(width: int, widths: Sequence[int]) -> Any:
    """Return linear maps without bias, with batch normalisation and ReLU between them."""
    from torch import nn

    layers: list[Any] = []
    for wanted in widths[:-1]:
        layers += [nn.Linear(width, wanted, bias=False), nn.BatchNorm1d(wanted), nn.ReLU()]
        width = wanted
    return nn.Sequential(*layers, nn.Linear(width, widths[-1], bias=False))


def _draw_members(groups: Any, n_views: int, generator: Any, memory: dict[str, Any]) -> Any:
    """Return `n_views` samples of each group, adjacent: a random order, repeated if too short."""
    import torch

    counts, starts = memory["counts"][groups], memory["starts"][groups]
    longest = int(counts.max())
    keys = torch.rand((len(groups), longest), generator=generator, device=generator.device).cpu()
    keys[torch.arange(longest) >= counts[:, None]] = 2.0  # behind all members
    order = keys.argsort(dim=1)
    picked = order.gather(1, torch.arange(n_views) % counts[:, None])
    rows = memory["members"][(starts[:, None] + picked).reshape(-1)]
    return memory["samples"][rows.to(memory["samples"].device)]
