"""The law of an encoder's latents: a mixture of normal distributions, fitted after the training."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

if TYPE_CHECKING:
    from torch import Tensor

# Numbers of normal distributions that are tried.
_COMPONENTS = (1, 2, 4, 8, 16)
# Least variance of one, where the trained law has 1.
_LEAST_VARIANCE = 1e-4


def mixture_by_bic(Z: np.ndarray, seed: int, least_variance: float) -> GaussianMixture:
    """Return the mixture of least BIC, of as many normal distributions as there are samples for."""
    n, d = Z.shape
    numbers = [k for k in _COMPONENTS if k == 1 or k * (d + 1) * 2 <= n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fits = [
            GaussianMixture(k, reg_covar=least_variance, random_state=seed).fit(Z) for k in numbers
        ]
    return min(fits, key=lambda fit: fit.bic(Z))


def fit_law(module: Any, Z: np.ndarray, seed: int) -> None:
    """Fit the law to latents that the encoder proposes of samples, and keep it in the module.

    Latents are trained towards one normal distribution, and where they leave gaps in it (a circle
    in three latents leaves nearly all) what is drawn from it is not on the set. The number of
    components is that of least BIC.
    """
    from torch import nn

    best = mixture_by_bic(Z, seed, _LEAST_VARIANCE)
    like = module["noise"]["log_sigma"]
    for name, value in {
        "law_log_weights": np.log(best.weights_),
        "law_means": best.means_,
        "law_roots": np.linalg.cholesky(best.covariances_),
    }.items():
        module["noise"][name] = nn.Parameter(like.detach().new_tensor(value), requires_grad=False)


def has_law(module: Any) -> bool:
    """Return whether there is a fitted law; else latents are standard normal."""
    return "law_means" in module["noise"]


def law_log_density(module: Any, z: Tensor) -> Tensor:
    """Return the log-density of latents, (..., n_components)."""
    import torch

    d = z.shape[-1]
    if not has_law(module):
        return -0.5 * z.square().sum(-1) - 0.5 * d * math.log(2 * math.pi)
    law = module["noise"]
    roots = law["law_roots"]
    white = torch.einsum(
        "kij,...kj->...ki", torch.linalg.inv(roots), z[..., None, :] - law["law_means"]
    )
    volume = roots.diagonal(dim1=1, dim2=2).log().sum(1)
    logs = law["law_log_weights"] - volume - 0.5 * white.square().sum(-1)
    return torch.logsumexp(logs, -1) - 0.5 * d * math.log(2 * math.pi)


def draw_latents(module: Any, rng: Any, n_samples: int, n_components: int) -> np.ndarray:
    """Return latents, (n_samples, n_components), drawn with a NumPy generator."""
    drawn = rng.standard_normal((n_samples, n_components))
    if not has_law(module):
        return drawn
    names = ("law_log_weights", "law_means", "law_roots")
    logs, means, roots = (module["noise"][name].detach().cpu().double().numpy() for name in names)
    share = np.exp(logs)
    which = rng.choice(len(means), size=n_samples, p=share / share.sum())
    return means[which] + np.einsum("nij,nj->ni", roots[which], drawn)
