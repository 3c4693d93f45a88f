"""How learners are trained: one by one on clusters, more of them in time, then all together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from sklr._torch._batches import in_chunks
from sklr._torch._errors import DivergedError
from sklr.neural_network._base import TorchEstimator
from sklr.neural_network._learners import BalancedRows, k_means, kept_coordinates, matched
from sklr.neural_network._loop import TrainState
from sklr.neural_network._standardized import StandardizedInput

if TYPE_CHECKING:
    from torch import Tensor, nn

# Validation samples that are clustered after each epoch, at most.
_LOOKED_AT = 2000


class LearnerTraining(StandardizedInput, TorchEstimator):
    """The hooks of the training; parameters are those of the estimator."""

    n_components: int
    n_learners: int
    max_learners: int
    growth_patience: int
    margin: float
    beta: float
    negative_cutoff: float
    mining: str
    recluster_every: int
    finetune_fraction: float
    samples_per_class: int
    batch_size: int
    learner_indices_: list[np.ndarray]
    growth_epochs_: list[int]

    def _begin(self, module: Any, step: TrainState) -> None:
        super()._begin(module, step)
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
        import torch

        from sklr.nn import MarginLoss
        from sklr.nn._losses._unit import unit_rows

        loss = MarginLoss(self.margin, self.beta, self.negative_cutoff, self.mining)
        z = module(xb)
        z = z.to(torch.promote_types(z.dtype, torch.float32))  # in the caller's autocast
        if not torch.isfinite(z).all():
            raise DivergedError("embeddings are not finite", "look at what module makes of X")
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

    # Batches.

    def _gather(self, step: TrainState, labels: np.ndarray, n_clusters: int) -> None:
        """Set the clusters that learners are trained on; what is alone of its class is left out."""
        codes = step.memory["codes"]
        rows = [np.flatnonzero(labels == c) for c in range(n_clusters)]
        sources = [BalancedRows(r, codes[r], lone=n_clusters == 1) for r in rows]
        if not any(len(source) for source in sources):  # every sample is alone in its class
            sources = [BalancedRows(np.arange(len(codes)), codes, lone=True)] * n_clusters
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
            features = in_chunks(module, step.X, lambda m, xb, _: _features(m, xb), step.device)
        rows = torch.nn.functional.normalize(features.float(), dim=1).cpu().numpy()
        labels = k_means(rows, n_learners, int(step.rng.randint(2**31 - 1)))
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
        begin_anew(module.linear, last[~kept], step.optimizers)
        memory["may_grow"] = False
        return True

    def _validation_score(self, module: nn.Module, X: Tensor, y: Any, step: TrainState) -> float:
        """Return how much k-means of the validation embeddings says of their classes."""
        import torch

        rows = torch.linspace(0, len(X) - 1, min(len(X), _LOOKED_AT)).long().unique()
        codes = y[rows].cpu().numpy()
        with torch.no_grad():
            Z = in_chunks(module, X[rows], lambda m, xb, _: self._scaled(m(xb)), step.device)
        labels = k_means(Z.double().cpu().numpy(), len(np.unique(codes)), step.memory["seed"])
        return float(normalized_mutual_info_score(codes, labels))


def begin_anew(linear: Any, rows: np.ndarray, optimizers: list[Any]) -> None:
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


def _features(module: Any, xb: Tensor) -> Tensor:
    return module.features(xb)
