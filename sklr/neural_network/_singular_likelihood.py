"""Likelihoods of generators with noise: by quadrature over the latent, or a bound on it.

A generator f and a noise sigma give a sample x the density E_z[N(x; f(z), sigma^2 I)].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sklr.neural_network._singular_law import law_log_density

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Latents of the quadrature lie in [-_REACH, _REACH].
_REACH = 2.0
# Standard deviation of a cell's latents, in widths of a cell: their sum is flat to .2 %.
_BLUR = 0.6

# Steps of EM for the weights of cells, and the share that stays equal among them.
_WEIGHT_STEPS, _LEAST_SHARE = 20, 1e-3
# Two latents: weights are smoothed over this, in widths of a kernel density of uniform latents.
# What is smoothed is their ratio to the generator's own slope, which has learnt a part of it.
_SMOOTH = 0.5
# One latent: mass is smoothed along the curve, over these lengths in units of the scale, each as
# likely as it makes samples that it has not seen, in so many folds.
_LENGTHS, _FOLDS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6), 5
# Largest noise for samples not seen, in units of the scale: more than the data have is none. How
# many are tried, how closely then.
_MOST, _TRIED, _TO = 1.0, 12, {"xatol": 0.01}


@dataclass(frozen=True)
class Cells:
    """A grid over the latents; the latent is a cell drawn at random, and normal noise in it.

    Within a cell the generator is taken as linear, with the slope that neighbours give, so that
    each cell is a normal distribution of the samples, flat along the set and as thick as the
    noise. The density is then as smooth as the set is, also where the noise is far below the
    distance of two neighbours.

    Attributes
    ----------
    n_components : int
        Latents, 1 or 2.
    n_side : int
        Cells along one latent.
    """

    n_components: int
    n_side: int

    @property
    def width(self) -> float:
        """Width of a cell."""
        return 2 * _REACH / self.n_side

    @property
    def spread(self) -> float:
        """Standard deviation of the latents of a cell."""
        return _BLUR * self.width

    def centres(self, like: Tensor, margin: int = 0) -> Tensor:
        """Return the centres, (n_cells, n_components), with so many more cells on each side."""
        import torch

        steps = torch.arange(-margin, self.n_side + margin, dtype=like.dtype, device=like.device)
        line = self.width * (steps + 0.5) - _REACH
        return torch.cartesian_prod(*[line] * self.n_components).reshape(-1, self.n_components)

    @property
    def number(self) -> int:
        """Number of cells."""
        return self.n_side**self.n_components

    def draw(self, rng: Any, n_samples: int, weights: np.ndarray) -> np.ndarray:
        """Return latents, (n_samples, n_components), drawn with a NumPy generator."""
        drawn = rng.choice(self.number, size=n_samples, p=weights / weights.sum())
        steps = np.stack(np.unravel_index(drawn, [self.n_side] * self.n_components), axis=1)
        noise = rng.standard_normal((n_samples, self.n_components))
        return self.width * (steps + 0.5) - _REACH + self.spread * noise

    def smoothing(self, n_samples: int, like: Tensor) -> Tensor:
        """Return the matrix, (n_side, n_side), that smooths weights along one latent.

        A normal kernel, reflected at the ends, so that equal weights stay so; its width falls with
        the samples as that of a kernel density does.
        """
        import torch

        spread = _REACH / math.sqrt(3) * n_samples ** (-1 / (4 + self.n_components))
        width = _SMOOTH * spread / self.width
        steps = torch.arange(self.n_side, dtype=like.dtype, device=like.device)
        images = [steps, -1 - steps, 2 * self.n_side - 1 - steps]
        kernel = sum((-0.5 * ((steps[:, None] - to) / width).square()).exp() for to in images)
        return kernel / kernel.sum(0)

    def generated(self, generator: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return centres and slopes of all cells among the samples.

        Returns
        -------
        F : Tensor of shape (n_cells, n_features)
            What the generator makes of the centres.
        G : Tensor of shape (n_components, n_cells, n_features)
            Its change over one standard deviation of a cell's latents.
        """
        import torch

        around = generator(self.centres(like, margin=1))
        around = around.reshape(*[self.n_side + 2] * self.n_components, -1)
        slope = _BLUR / 2
        if self.n_components == 1:
            return around[1:-1], slope * (around[2:] - around[:-2])[None]
        inner = slice(1, -1)
        G = torch.stack(
            [around[2:, inner] - around[:-2, inner], around[inner, 2:] - around[inner, :-2]]
        )
        return around[inner, inner].flatten(0, 1), slope * G.flatten(1, 2)


@dataclass(frozen=True)
class Posterior:
    """What samples say of the cells, and of the latents in each."""

    log_density: Tensor  # (n_samples,)
    shares: Tensor  # (n_samples, n_cells), of each cell; sums of rows are 1
    latents: Tensor  # (n_components, n_samples, n_cells), means in standard deviations of a cell
    covariances: Tensor  # (n_cells, n_components, n_components), of those


def posterior(x: Tensor, module: Any, F: Tensor, G: Tensor) -> Posterior:
    """Return densities of samples, and where in the cells they come from."""
    import torch

    variance = (2 * log_sigma(module)).exp()
    n_components, _, n_features = G.shape
    eye = torch.eye(n_components, dtype=x.dtype, device=x.device)
    A = variance * eye + torch.einsum("kmf,lmf->mkl", G, G)
    inverse = torch.linalg.inv(A)
    root = torch.linalg.cholesky(inverse)
    # All that depends on sample and cell is linear in x, or the square of such: few passes over
    # (n_samples, n_cells), and -|x|^2 / 2 of each sample is left for the end.
    logs = torch.addmm(-0.5 / variance * F.square().sum(1), x, F.mT / variance)
    for w in torch.einsum("mkl,kmf->lmf", root, G) / variance.sqrt():
        along = torch.addmm(-(F * w).sum(1), x, w.mT)
        logs = torch.addcmul(logs, along, along, value=0.5)
    volume = torch.logdet(A) + (n_features - n_components) * variance.log()
    logs = logs + (module["noise"]["log_weights"] - 0.5 * volume)
    most = logs.detach().amax(1, keepdim=True)
    shares = (logs - most).exp()
    total = shares.sum(1, keepdim=True)
    log_density = (most + total.log())[:, 0] - 0.5 * x.square().sum(1) / variance
    log_density = log_density - 0.5 * n_features * math.log(2 * math.pi)
    slopes = torch.einsum("mkl,kmf->lmf", inverse, G)
    latents = torch.stack([torch.addmm(-(F * g).sum(1), x, g.mT) for g in slopes])
    return Posterior(log_density, shares / total, latents, variance * inverse)


def quadrature_loss(module: Any, x: Tensor, cells: Cells) -> Tensor:
    """Return minus the mean log-density of samples, and its gradient in M x D operations.

    By Fisher's identity the gradient is that of the expected squared error, with what the samples
    say of the latents held fixed; sums over the samples then are all that is needed, and nothing
    of n_samples x n_cells is kept for a backward pass.
    """
    import torch

    variance = (2 * log_sigma(module)).exp()
    F, G = cells.generated(module["generator"], x)
    with torch.no_grad():
        found = posterior(x, module, F, G)
        share = found.shares
        weights = share.sum(0)
        x_of_cells = share.mT @ x
        weighted = share * found.latents
        latents = weighted.sum(1)
        x_latents = weighted.mT @ x if len(G) == 1 else torch.stack([w.mT @ x for w in weighted])
        x_latents = x_latents.reshape(G.shape)
        second = weights * found.covariances.permute(1, 2, 0)
        for k, w in enumerate(weighted):
            for j, z in enumerate(found.latents[: k + 1]):
                product = (w * z).sum(0)
                second[k, j] += product
                if j < k:
                    second[j, k] += product
    error = x.square().sum() + (weights[:, None] * F.square() - 2 * x_of_cells * F).sum()
    error = error + 2 * ((latents[..., None] * F - x_latents) * G).sum()
    error = error + (second * torch.einsum("kmf,lmf->klm", G, G)).sum()
    n, n_features = x.shape
    expected = 0.5 * error / (n * variance) + 0.5 * n_features * variance.log()
    return -found.log_density.mean() + expected - expected.detach()


def fit_weights(module: Any, x: Tensor, cells: Cells) -> None:
    """Fit the weights of the cells to samples, by a few steps of EM, each of them smoothed.

    The mass along the set follows the generator's slope, which learns it slowly, and hardly at all
    where the set crosses a gap or the noise is small. Without smoothing the weights would be a
    histogram of the samples, with a peak at each.
    """
    import torch

    with torch.no_grad():
        F, G = cells.generated(module["generator"], x)
        shares = posterior(x, module, F, G).shares
        density = shares / module["noise"]["log_weights"].exp()
        equal = torch.full_like(shares[0], 1 / cells.number)
        if cells.n_components == 1:
            lengths = G[0].norm(dim=1) / _BLUR
            weights = _weights_along(density, lengths + 1e-9 * lengths.max())
        else:
            smoothing = cells.smoothing(len(x), x)

            def smooth(weights: Tensor) -> Tensor:
                grid = weights.reshape(cells.n_side, cells.n_side)
                return (smoothing @ grid @ smoothing.mT).flatten()

            weights = _by_em(density, equal, smooth)
        # None is lost: what is generated there can still be asked for.
        weights = (1 - _LEAST_SHARE) * weights + _LEAST_SHARE * equal
        module["noise"]["log_weights"].copy_(weights.log())


def _by_em(density: Tensor, weights: Tensor, smooth: Callable[[Tensor], Tensor]) -> Tensor:
    for _ in range(_WEIGHT_STEPS):
        found = density * weights
        weights = smooth((found / found.sum(1, keepdim=True)).mean(0))
    return weights


def _weights_along(density: Tensor, lengths: Tensor) -> Tensor:
    """Return weights of the cells of a curve, as the mean of what several smoothings find.

    Evenly covered curves want much smoothing, those with heaps little. The more even the mass is
    along the curve (not along the latent), the less smoothing changes it.
    """
    import torch

    place, whole = lengths.cumsum(0) - lengths / 2, lengths.sum()
    fold = torch.arange(len(density), device=density.device) % _FOLDS
    even = lengths / whole
    scores, found = [], []
    for width in _LENGTHS if len(density) >= _FOLDS else _LENGTHS[-1:]:
        # Reflected at the ends, where nothing is lost.
        apart = [place[:, None] - image for image in (place, -place, 2 * whole - place)]
        kernel = sum((-0.5 * (gap / width).square()).exp() for gap in apart) + 1e-300
        kernel = lengths[:, None] * kernel
        kernel /= kernel.sum(0)
        score = density.new_zeros(())
        for k in range(_FOLDS):
            weights = _by_em(density[fold != k], even, kernel.matmul)
            score = score + (density[fold == k] @ weights).log().sum()
        scores.append(score)
        found.append(_by_em(density, even, kernel.matmul))
    return torch.stack(scores).softmax(0) @ torch.stack(found)


def best_latents(x: Tensor, module: Any, cells: Cells) -> Tensor:
    """Return the latent of each sample: the mean within its most probable cell."""
    F, G = cells.generated(module["generator"], x)
    found = posterior(x, module, F, G)
    best = found.shares.argmax(1)
    rows = best.new_tensor(range(len(x)))
    return cells.centres(x)[best] + cells.spread * found.latents[:, rows, best].mT


def log_density(x: Tensor, module: Any, cells: Cells) -> Tensor:
    """Return the log-density of each sample by quadrature."""
    F, G = cells.generated(module["generator"], x)
    return posterior(x, module, F, G).log_density


def encoded(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return means and log variances of the latents that the encoder proposes."""
    mean, log_variance = module["encoder"](x).chunk(2, dim=1)
    return mean, log_variance.clamp(-16.0, 6.0)


def importance_terms(module: Any, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the bound is made of, for any sigma.

    Parameters
    ----------
    module : Module
        With "generator", "encoder" and the noise.
    x : Tensor of shape (n_samples, n_features)
        Samples.
    noise : Tensor of shape (n_importance, n_samples or 1, n_components)
        Standard normal numbers.

    Returns
    -------
    squares : Tensor of shape (n_importance, n_samples)
        Squared distances of samples to what is generated.
    ratios : Tensor of shape (n_importance, n_samples)
        Logarithms of the latents' density over that which the encoder proposes.
    """
    mean, log_variance = encoded(module, x)
    z = mean + (0.5 * log_variance).exp() * noise
    squares = (x - module["generator"](z)).square().sum(2)
    proposed = -0.5 * (noise.square() + log_variance + math.log(2 * math.pi)).sum(2)
    return squares, law_log_density(module, z) - proposed


def bound_of(squares: Tensor, ratios: Tensor, logarithm: Tensor, n_features: int) -> Tensor:
    """Return the bound for terms and the logarithm of sigma."""
    import torch

    variance = (2 * logarithm).exp()
    logs = -0.5 * (squares / variance + n_features * (2 * logarithm + math.log(2 * math.pi)))
    return torch.logsumexp(logs + ratios, 0) - math.log(len(squares))


def importance_bound(module: Any, x: Tensor, noise: Tensor) -> Tensor:
    """Return a lower bound of the log-density of each sample, by importance sampling."""
    return bound_of(*importance_terms(module, x, noise), log_sigma(module), x.shape[1])


def best_sigma(density: Callable[[float], float], least: float) -> float:
    """Return the sigma, from `least` to the scale, that is best.

    Parameters
    ----------
    density : callable
        From the logarithm of sigma to what shall be large, a mean log-density.
    least : float
        Least sigma, in units of the scale.
    """
    from scipy.optimize import minimize_scalar

    grid = math.log(least) + np.linspace(0, max(math.log(_MOST / least), 0.1), _TRIED)
    best = int(np.argmax([density(float(value)) for value in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _TRIED - 1)]
    found = minimize_scalar(
        lambda value: -density(float(value)), bounds=around, method="bounded", options=_TO
    )
    # The search leaves out the ends.
    return least if density(math.log(least)) >= -found.fun else math.exp(found.x)


def log_sigma(module: Any) -> torch.nn.Parameter:
    """Return the logarithm of the noise, a parameter."""
    return module["noise"]["log_sigma"]
