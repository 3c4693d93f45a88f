"""Where a generator starts its training: on a path or a sheet through the samples.

From random weights and much noise one curve does not find sets that lie apart or within each
other: the noise swallows what is between them.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.pairwise import euclidean_distances

from sklr.neural_network._singular_likelihood import quadrature_loss

if TYPE_CHECKING:
    from torch import Tensor

    from sklr.neural_network._singular_likelihood import Cells

# Samples that a start looks at, at most.
_SEEN = 2000
# Centres of a path, at most, and samples of each; with fewer centres there is no path.
_CENTRES, _EACH, _FEWEST = 40, 5, 4
# Knots along a side of a sheet, at most, samples of each knot, sweeps, and how far knots draw each
# other, in knots, at the end.
_KNOTS, _OF_KNOT, _SWEEPS, _LAST = 13, 2, 40, 0.6
# Steps that bring the network there, and their first rate.
_STEPS, _RATE = 500, 5e-3
# Least and most noise at the start, in units of the scale.
_NOISE = (0.05, 0.5)
# Steps of the likelihood by which starts are compared, the last of them that count, and samples.
_TRIED, _COUNTED, _COMPARED = 60, 10, 1000


def shortest_path(points: np.ndarray) -> np.ndarray:
    """Return an order of points in which neighbours are near each other.

    The nearest neighbour next, from each point in turn; the shortest such path is made shorter by
    reversing parts of it (2-opt) until none helps.
    """
    n = len(points)
    apart = euclidean_distances(points)
    path, least = np.arange(n), np.inf
    for first in range(n):
        left, order = apart.copy(), [first]
        left[:, first] = np.inf
        for _ in range(n - 1):
            order.append(int(left[order[-1]].argmin()))
            left[:, order[-1]] = np.inf
        length = apart[order[:-1], order[1:]].sum()
        if length < least:
            path, least = np.array(order), length
    # One more point, as near to all, closes the path to a circle.
    closed = np.zeros((n + 1, n + 1))
    closed[:n, :n] = apart
    circle = np.r_[path, n]
    i, j = np.triu_indices(n + 1, 2)
    for _ in range(50 * n):
        to = circle[np.r_[1 : n + 1, 0]]
        now = closed[circle, to]
        change = closed[circle[i], circle[j]] + closed[to[i], to[j]] - now[i] - now[j]
        best = change.argmin()
        if change[best] > -1e-9 * least:
            break
        circle[i[best] + 1 : j[best] + 1] = circle[i[best] + 1 : j[best] + 1][::-1]
    return np.roll(circle, -1 - int(np.flatnonzero(circle == n)[0]))[:-1]


def path(S: np.ndarray, line: np.ndarray, rng: Any) -> np.ndarray:
    """Return points at latents `line` of the shortest path through centres of the samples.

    Two centres are as far apart in the latents as there are samples between them.
    """
    number = min(_CENTRES, len(S) // _EACH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer points than centres
        means = KMeans(number, n_init=1, random_state=rng).fit(S)
    order = shortest_path(means.cluster_centers_)
    share = np.bincount(means.labels_, minlength=number)[order] / len(S)
    at = line[-1] * (2 * np.cumsum(share) - share - 1)
    return np.column_stack(
        [np.interp(line, at, column) for column in means.cluster_centers_[order].T]
    )


def axes(S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two principal axes of centred samples, (2, n_features), and spreads along them."""
    _, values, rows = np.linalg.svd(S - S.mean(0), full_matrices=False)
    return rows[:2], values[:2] / np.sqrt(len(S))


def ribbon(S: np.ndarray, line: np.ndarray, rng: Any) -> np.ndarray:
    """Return points at a grid of latents: the path along one, as wide as samples are off it."""
    P = path(S, line, rng)
    off = euclidean_distances(S, P).min(1)
    (first, second), _ = axes(S)
    along = np.gradient(P, axis=0)
    across = (along @ first)[:, None] * second - (along @ second)[:, None] * first
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-12
    width = np.sqrt(np.square(off).mean()) * line / line[-1]
    return (P[:, None] + width[:, None] * across[:, None]).reshape(-1, S.shape[1])


def sheet(S: np.ndarray, line: np.ndarray, rng: Any) -> np.ndarray:
    """Return points at a grid of latents: a self-organising map that began as a plane."""
    rows, spreads = axes(S)
    number = min(_KNOTS, max(3, round(math.sqrt(len(S) / _OF_KNOT))))
    side = np.linspace(-1.6, 1.6, number)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    knots, steps = S.mean(0) + grid * spreads @ rows, np.arange(number)
    for width in np.geomspace(number / 3, _LAST, _SWEEPS):
        near = np.exp(-0.5 * np.square((steps[:, None] - steps) / width))
        share = np.kron(near, near)[:, pairwise_distances_argmin(S, knots)]
        knots = share @ S / share.sum(1, keepdims=True)
    hats = np.stack([np.interp(line, line[-1] / 1.6 * side, hat) for hat in np.eye(number)], axis=1)
    return np.kron(hats, hats) @ knots


def _settle(
    module: Any, x: Tensor, cells: Cells, wanted: np.ndarray, least: float, n_steps: int
) -> None:
    """Bring the generator to points at the cells, the noise to the distance of samples."""
    import torch

    generator, centres, points = module["generator"], cells.centres(x), x.new_tensor(wanted)
    optimizer = torch.optim.Adam(generator.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        (generator(centres) - points).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        off = torch.cdist(x, generator(centres)).amin(1).square().mean()
        noise = (off / max(1, x.shape[1] - cells.n_components)).sqrt()
        low, high = (max(noise_, least) for noise_ in _NOISE)
        module["noise"]["log_sigma"].copy_(noise.clamp(low, high).log())


def start(
    module: Any,
    x: Tensor,
    cells: Cells,
    least: float,
    rng: Any,
    optimizers: Callable[[Any], Any],
    max_iter: int,
) -> None:
    """Start a generator on the samples: one latent on a path, two on a ribbon or a sheet.

    Which of two is nearer to the data is seen after a few steps of the likelihood. A start takes no
    more steps than the training.
    """
    import torch

    x = x[torch.linspace(0, len(x) - 1, min(len(x), _SEEN)).long()]
    S = x.cpu().double().numpy()
    if len(S) < _FEWEST * _EACH:
        return
    n_steps, n_tried = min(_STEPS, max_iter), min(_TRIED, 1 + max_iter // 10)
    line = cells.centres(x)[:, -1].unique().cpu().double().numpy()
    if cells.n_components == 1:
        _settle(module, x, cells, path(S, line, rng), least, n_steps)
        return
    few = x[:: -(-len(x) // _COMPARED)]
    first, best, found = copy.deepcopy(module.state_dict()), None, np.inf
    for shape in (ribbon, sheet):
        module.load_state_dict(first)
        _settle(module, x, cells, shape(S, line, rng), least, n_steps)
        optimizer, losses = optimizers(module), []
        for _ in range(n_tried):
            optimizer.zero_grad(set_to_none=True)
            loss = quadrature_loss(module, few, cells)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        reached = sum(losses[-_COUNTED:])
        if best is None or reached < found:
            best, found = copy.deepcopy(module.state_dict()), reached
    module.load_state_dict(best)
