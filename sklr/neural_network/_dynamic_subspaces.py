"""Supervised embeddings whose coordinates share the work, with attention maps for images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr._torch._batches import in_chunks
from sklr._torch._modules import probe
from sklr.metrics import recall_at_k
from sklr.neural_network._base import TorchEstimator, training_constraints
from sklr.neural_network._embedding_networks import embedding_network
from sklr.neural_network._input import warn_caller
from sklr.neural_network._learners import (
    BalancedRows,
    held_out,
    k_means,
    kept_coordinates,
    matched,
)
from sklr.neural_network._loop import TrainState
from sklr.neural_network._targets import check_labels, codes_of, encode_labels, validation_pair
from sklr.neural_network._transformer import TorchSupervisedTransformerMixin
from sklr.utils._base import fit_context

if TYPE_CHECKING:
    from torch import Tensor, nn

# Validation samples that are clustered after each epoch, at most.
_LOOKED_AT = 2000


class DynamicSubspaceEmbedding(TorchSupervisedTransformerMixin, TorchEstimator):
    r"""TODO."""

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "attention": [StrOptions({"auto"}), "boolean"],
        "n_learners": [Interval(Integral, 1, None, closed="left")],
        "max_learners": [Interval(Integral, 1, None, closed="left")],
        "growth_patience": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "negative_cutoff": [Interval(Real, 0, 2, closed="left")],
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
    _units_matter = False  # the default network standardises

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
        with self._ready_to_train():
            self._check_numbers()
            X, y = self._validate(X, y, reset=True)
            check_labels(y)
            self.classes_, codes = encode_labels(self, y)
            self._look_at(X, codes)
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
        return recall_at_k(self.transform(X), y, k=1)

    @property
    def n_learners_(self) -> int:
        """Number of learners."""
        return len(self.learner_indices_)

    # Input.

    def _allow_nd(self) -> bool:
        return True

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        out = super()._validate(X, y, reset=reset)
        found = out[0] if isinstance(out, tuple) else out
        if self.module is None and found.ndim not in (2, 4):
            raise ValueError(
                f"{type(self).__name__} takes tables (n_samples, n_features) and images "
                f"(n_samples, n_channels, height, width), got {found.ndim} dimensions, shape "
                f"{found.shape}; give a module for others"
            )
        return out

    def _check_numbers(self) -> None:
        if self.batch_size < 2 * self.samples_per_class:
            raise ValueError(
                f"a batch of batch_size={self.batch_size} holds samples_per_class="
                f"{self.samples_per_class} of one class only, and the loss compares classes: "
                f"batch_size must be at least {2 * self.samples_per_class}"
            )
        if not self.n_learners <= min(self.n_components, self.max_learners):
            raise ValueError(
                f"n_learners={self.n_learners} must be at most max_learners={self.max_learners} "
                f"and n_components={self.n_components}"
            )

    def _look_at(self, X: np.ndarray, codes: np.ndarray) -> None:
        counts = np.bincount(codes)
        if counts.max() < 2:
            raise ValueError(
                f"every one of the {len(counts)} classes has a single sample (n_samples={len(X)}): "
                "there is no pair of a class to bring together"
            )
        if counts.min() < 2:
            lone = self.classes_[counts < 2]
            warn_caller(
                f"{len(lone)} of {len(counts)} classes have a single sample "
                f"({', '.join(map(str, lone[:5]))}{', ...' if len(lone) > 5 else ''}): it is kept "
                "away from other classes, and brought near to nothing",
                UserWarning,
            )
        if (X == X[:1]).all():
            warn_caller(
                "all samples of X are equal: their embeddings are too, whatever the class",
                UserWarning,
            )

    # Network and loss.

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        return embedding_network(
            n_in, self.n_components, self.hidden_layer_sizes, self.module, self.attention
        )

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        probe(module, X, n_columns=self.n_components)

    def _begin(self, module: Any, step: TrainState) -> None:
        if module.scale is not None and not module.scale.is_set:
            by_feature = step.X.movedim(1, -1)
            module.scale.set_from(by_feature.reshape(-1, by_feature.shape[-1]))
        if not step.loss_curve:
            self.learner_indices_ = np.array_split(np.arange(self.n_components), self.n_learners)
            self.growth_epochs_: list[int] = []
        n = len(step.X)
        step.memory |= {
            "codes": step.y.cpu().numpy(),  # type: ignore[union-attr]
            "seed": int(step.rng.randint(2**31 - 1)),
            "finetune_at": 0,
            "turn": 0,
        }
        if step.n_epochs is not None:
            finetune = math.ceil(self.finetune_fraction * step.n_epochs)
            step.memory |= {
                "finetune_at": step.n_epochs - finetune,
                "best": -np.inf,
                "best_epoch": 0,
                "may_grow": False,
            }
        self._gather(step, np.zeros(n, dtype=int), 1)

    def _exploring(self, step: TrainState) -> bool:
        """Return whether learners are trained one by one, and not the whole embedding."""
        return step.n_epochs is not None and step.epoch < step.memory["finetune_at"]

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        from sklr.nn import MarginLoss
        from sklr.nn._losses._unit import unit_rows

        loss = MarginLoss(self.margin, self.beta, self.negative_cutoff)
        z = module(xb)
        if not self._exploring(step):
            return loss(self._scaled(z), yb)
        learner = step.memory["learner"]
        part = unit_rows(z[:, self._columns(z)[learner]])
        if learner == len(self.learner_indices_) - 1 and part.requires_grad:
            part.register_hook(lambda g: self._add_scores(step, part.detach() * g))
        return loss(part, yb)

    def _columns(self, z: Tensor) -> list[Tensor]:
        import torch

        return [torch.as_tensor(part, device=z.device) for part in self.learner_indices_]

    def _scaled(self, z: Tensor) -> Tensor:
        from sklr.nn._attention import part_norms

        return part_norms(z, self._columns(z))

    def _embed(self, module: nn.Module, xb: Tensor) -> Tensor:
        return self._scaled(module(xb))

    # Batches.

    def _gather(self, step: TrainState, labels: np.ndarray, n_clusters: int) -> None:
        """Set the clusters that learners are trained on; what is alone of its class is left out."""
        codes = step.memory["codes"]
        rows = [np.flatnonzero(labels == c) for c in range(n_clusters)]
        sources = [BalancedRows(r, codes[r], lone=n_clusters == 1) for r in rows]
        step.memory |= {"labels": labels, "n_clusters": n_clusters, "sources": sources}

    def _n_batches(self, step: TrainState) -> int:
        return math.ceil(len(step.X) / self.batch_size)

    def _batches(self, step: TrainState) -> Iterator[Any]:
        import torch

        sources = step.memory["sources"]
        used = [c for c, source in enumerate(sources) if len(source)]
        for _ in range(self._n_batches(step)):
            learner = used[step.memory["turn"] % len(used)]
            step.memory["turn"] += 1
            step.memory["learner"] = learner
            rows = sources[learner].draw(self.batch_size, self.samples_per_class, step.rng)
            yield torch.as_tensor(rows, device=step.X.device)

    def _learning_rate_factor(self, step: TrainState) -> float | None:
        """Return 1 while learners are trained; then it falls to 0 along a cosine."""
        if step.n_epochs is None:
            return None
        before = step.memory["finetune_at"] * step.n_batches
        rest = step.n_epochs * step.n_batches - before
        done = max(0.0, (step.number - before) / max(1, rest))
        return 0.5 * (1.0 + math.cos(math.pi * done))

    # Clusters and growth.

    def _epoch_begin(self, module: Any, step: TrainState) -> None:
        if step.n_epochs is None:
            return
        memory = step.memory
        if step.epoch == memory["finetune_at"]:
            self._gather(step, np.zeros(len(step.X), dtype=int), 1)
        if self._exploring(step):
            grown = self._grow(module, step)
            n_learners = len(self.learner_indices_)
            due = step.epoch % self.recluster_every == 0
            if n_learners > 1 and (grown or due or memory["n_clusters"] == 1):
                self._cluster(module, step, n_learners)
            memory["scores"], memory["n_scored"] = 0.0, 0

    def _cluster(self, module: Any, step: TrainState, n_learners: int) -> None:
        """Give each learner a cluster of the samples, that which it had as far as possible."""
        import torch

        with torch.no_grad():
            rows = in_chunks(module, step.X, lambda m, xb, _: m.features(xb), step.device)
        rows = torch.nn.functional.normalize(rows.float(), dim=1).cpu().numpy()
        labels = k_means(rows, n_learners, int(step.rng.randint(2**31 - 1)))
        if step.memory["n_clusters"] > 1 or n_learners > 1:
            labels = matched(labels, step.memory["labels"], n_learners)
        self._gather(step, labels, n_learners)

    def _add_scores(self, step: TrainState, products: Tensor) -> None:
        step.memory["scores"] = step.memory["scores"] + products.sum(dim=0)
        step.memory["n_scored"] += len(products)

    def _grow(self, module: Any, step: TrainState) -> bool:
        """Split the last learner where the validation score stands still; return whether it did."""
        memory, scores = step.memory, step.validation_scores
        if not scores:
            return False
        if scores[-1] > memory["best"]:
            memory |= {"best": scores[-1], "best_epoch": step.epoch - 1, "may_grow": True}
        if (
            not memory["may_grow"]
            or len(self.learner_indices_) >= self.max_learners
            or step.epoch - 1 < memory["best_epoch"] + self.growth_patience
            or not memory["n_scored"]
        ):
            return False
        kept = kept_coordinates(memory["scores"].abs().cpu().numpy())
        if kept is None:
            return False
        last = self.learner_indices_[-1]
        self.learner_indices_ = [*self.learner_indices_[:-1], last[kept], last[~kept]]
        self.growth_epochs_ = [*self.growth_epochs_, step.epoch]
        _begin_anew(module.linear, last[~kept], step.optimizers)
        memory["may_grow"] = False
        return True

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return how much k-means of the validation embeddings says of their classes."""
        import torch

        rows = torch.linspace(0, len(X) - 1, min(len(X), _LOOKED_AT)).long().unique()
        codes = y[rows].cpu().numpy()
        with torch.no_grad():
            Z = in_chunks(module, X[rows], lambda m, xb, _: self._embed(m, xb), step.device)
        labels = k_means(Z.double().cpu().numpy(), len(np.unique(codes)), step.memory["seed"])
        return float(normalized_mutual_info_score(codes, labels))


def _begin_anew(linear: Any, rows: np.ndarray, optimizers: list[Any]) -> None:
    """Draw some outputs of a linear layer anew; the optimiser forgets their past."""
    import torch

    picked = torch.as_tensor(rows, device=linear.weight.device)
    n_out, n_in = linear.weight.shape
    with torch.no_grad():
        first = torch.randn(len(rows), n_in) * (2 / (n_in + n_out)) ** 0.5
        linear.weight[picked] = first.to(linear.weight)
        bound = n_in**-0.5
        linear.bias[picked] = (2 * torch.rand(len(rows)) - 1).mul(bound).to(linear.bias)
        for parameter in (linear.weight, linear.bias):
            for optimizer in optimizers:
                for value in optimizer.state.get(parameter, {}).values():
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                        value[picked] = 0


def _part(module: Any, name: str) -> Any:
    return getattr(module, name)
