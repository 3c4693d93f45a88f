"""How the latent quantisation filter is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr._torch._modules import evaluated
from sklr.neural_network._loop import TrainState
from sklr.neural_network._quantization_networks import (
    build_networks,
    draw_code_input,
    gradient_norms,
    hard_code,
    lipschitz_bound,
    part,
    rein_in,
    soft_code,
    spread_means,
)
from sklr.neural_network._quantization_range import SamplesInRange
from sklr.utils._warnings import warn_user

if TYPE_CHECKING:
    from torch import Tensor, nn

# Samples that the attributes are computed from, at most.
_LOOKED_AT = 2048


class QuantizationTraining(SamplesInRange):
    """Networks, loss and steps; parameters are those of the estimator."""

    n_bits: int
    threshold: float
    softness: float
    recon_weight: float
    lipschitz_weight: float
    lipschitz_target: float
    lipschitz: str
    module: Any
    decoder: Callable[..., Any] | None
    hidden_layer_sizes: Sequence[int]

    def _prepare(self, X: np.ndarray, y: np.ndarray | None) -> None:
        # One sample, or many equal ones, has none.
        self._variance = max(float(X.var(axis=0).mean()), 1e-6)

    def _build(self, n_in: Any, n_out: Any) -> nn.Module:
        return build_networks(n_in, self.n_bits, self.hidden_layer_sizes, self.module, self.decoder)

    def _check_module(self, module: nn.Module, X: Tensor, n_out: Any) -> None:
        drawn = evaluated(part(module, "decoder"), X.new_ones(2, self.n_bits), what="decoder")
        if drawn[0].numel() != X[0].numel() or len(drawn) != 2:
            raise ValueError(
                f"decoder returns shape {tuple(drawn.shape)} for 2 codes; it must return 2 samples "
                f"of {X[0].numel()} values"
            )

    def _loss(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        import torch

        penalised = (
            self.lipschitz != "spectral" and self.lipschitz_weight > 0 and torch.is_grad_enabled()
        )
        x = xb.detach().requires_grad_(penalised)
        features = part(module, "trunk")(x)
        mean, log_variance = (
            part(module, "mean")(features),
            part(module, "log_variance")(features),
        )
        z = draw_code_input(mean, log_variance, self.threshold, step.generator)
        wanted = xb.flatten(1)
        soft = part(module, "soft_decoder")(soft_code(z, self.threshold, self.softness)).flatten(1)
        hard = part(module, "decoder")(hard_code(z.detach(), self.threshold)).flatten(1)
        terms = {
            "kl": -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean(),
            "soft": ((soft - wanted) ** 2).mean() / self._variance,
            "hard": ((hard - wanted) ** 2).mean() / self._variance,
        }
        loss = terms["kl"] + self.recon_weight * (terms["soft"] + terms["hard"])
        if penalised:
            norms = gradient_norms(mean, x, self.lipschitz, step.generator)
            terms["lipschitz"] = ((self.lipschitz_target - norms) ** 2).mean()
            loss = loss + self.lipschitz_weight * terms["lipschitz"]
        for name, value in terms.items():
            step.log(name, value)
        return loss

    def _begin(self, module: nn.Module, step: TrainState) -> None:
        if not step.loss_curve:
            spread_means(module, step.X[:_LOOKED_AT], self.threshold / 3)
        if self.lipschitz == "spectral":
            if self.module is not None:
                raise ValueError(
                    "lipschitz='spectral' needs the default encoder (module=None): spectral norms "
                    "of other layers are not known"
                )
            rein_in(module, self.lipschitz_target, step.memory, exact=True)

    def _step(self, module: nn.Module, xb: Tensor, yb: Any, step: TrainState) -> Tensor:
        loss = super()._step(module, xb, yb, step)
        if self.lipschitz == "spectral":
            rein_in(module, self.lipschitz_target, step.memory)
        return loss

    def _count_features(self, X: np.ndarray) -> None:
        """Set the attributes that a look at the training samples gives."""
        import torch

        if self.lipschitz == "spectral":
            rein_in(self.module_, self.lipschitz_target, {}, exact=True)
        self._n_features_out = X.shape[1]
        some = X[:_LOOKED_AT]
        means = self._infer(some, lambda m, x: part(m, "mean")(part(m, "trunk")(x)))
        bits = np.abs(means) <= self.threshold
        self.bit_usage_ = bits.mean(axis=0)
        bound = lipschitz_bound(self.module_) if self.module is None else None
        if bound is not None and not self._by_sample:
            bound /= self._half()
        self.lipschitz_bound_ = bound
        first = next(self.module_.parameters())
        x = torch.tensor(some, dtype=first.dtype, device=first.device).requires_grad_()
        with torch.enable_grad():
            mean = part(self.module_, "mean")(part(self.module_, "trunk")(x))
            self.gradient_norm_ = float(gradient_norms(mean, x, "sum", None).mean().detach())
        if len(some) > 1 and (bits == bits[0]).all() and (some != some[0]).any():
            warn_user(
                f"all {len(some)} samples looked at have one code, so that transform returns one "
                f"and the same sample after n_iter_={self.n_iter_} epochs: raise max_iter, "
                "recon_weight or n_bits",
            )
