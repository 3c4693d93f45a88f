"""Choose starts, dimensions and the winner of K-subspaces."""

from numbers import Integral

import numpy as np
from joblib import effective_n_jobs
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from sklr.cluster._subspace_init import (
    N_LANDMARKS,
    shape_interaction_labels,
    thresholded_angle_labels,
)
from sklr.cluster._subspace_volume import smallest_volume
from sklr.cluster._subspaces import (
    energies,
    hard_mixture,
    k_subspaces,
    leading_eigenvectors,
    leading_rows,
    noise_floor,
    spectra,
    squared_singular_values,
)
from sklr.utils._progress import progress
from sklr.utils._threads import thread_map

# Rounds that all random starts get, and how many of them go on.
_FIRST_ROUNDS, _FINALISTS = 5, 3


def _dimension(values, rule, most):
    """Cut squared singular values (falling) by a share of their sum, or at the largest drop."""
    values = values[: most + 1]
    if rule == "gap":
        roots = np.sqrt(values)
        return int(np.argmax(roots[:-1] - roots[1:])) + 1 if len(roots) > 1 else 1
    share = np.cumsum(values) / max(values.sum(), 1e-300)
    return int(min((share < rule).sum() + 1, most))


def _is_given(rule):
    return isinstance(rule, Integral) or np.ndim(rule) > 0


def _first_dims(X, n_clusters, rule, joint):
    p = X.shape[1]
    if _is_given(rule):
        return [int(d) for d in np.broadcast_to(rule, n_clusters)]
    # Independent subspaces share the rank of the whole.
    rank = _dimension(squared_singular_values(X), rule, min(X.shape) - 1 if min(X.shape) > 1 else 1)
    most = p // n_clusters if joint else p - 1
    return [max(1, min(-(-rank // n_clusters), most, p - 1))] * n_clusters


def _next_dims(X, labels, dims, rule, joint):
    p = X.shape[1]
    most = p // len(dims) if joint else p - 1
    found = []
    for k, dim in enumerate(dims):
        mine = X[labels == k]
        if len(mine) == 0:
            found.append(dim)
            continue
        found.append(max(1, _dimension(squared_singular_values(mine), rule, min(most, len(mine)))))
    return found


def _positions(X, labels, dims):
    """Return a number for each cluster so that the given dimensions capture most."""
    captured = np.zeros((len(dims), len(dims)))
    for k in range(len(dims)):
        values = squared_singular_values(X[labels == k]) if (labels == k).any() else np.zeros(1)
        sums = np.concatenate([[0.0], np.cumsum(values)])
        captured[k] = sums[np.minimum(dims, len(values))]
    return linear_sum_assignment(-captured)[1]


def cluster_dims(Y, labels, n_clusters, rule):
    """Return dimensions of the subspaces of a partition, and the new number of each cluster.

    Rows of Y are relative to what their cluster's subspace goes through.
    """
    order = np.arange(n_clusters)
    if not _is_given(rule):
        return _next_dims(Y, labels, [1] * n_clusters, rule, joint=False), order
    dims = [int(d) for d in np.broadcast_to(rule, n_clusters)]
    if len(set(dims)) > 1:
        order = _positions(Y, labels, dims)
    return dims, order


def _penalty(X, labels, bases, weights=None):
    """Energy that a further dimension must bring: what it takes for equal likelihoods.

    Follows from the determinants of components with signal variance v and noise variance g:
    a dimension adds log((v + g) / g) / 2, and an energy e inside takes off e v / (2 g (v + g)).
    """
    inside, outside, sizes = spectra(X, labels, bases, weights)
    dims = np.array([len(basis) for basis in bases])
    noise = outside.sum() / max((sizes * (X.shape[1] - dims)).sum(), 1)
    signal = sum(v.sum() * n for v, n in zip(inside, sizes, strict=True)) / (sizes * dims).sum()
    signal = max(signal - noise, 1e-300)
    if noise <= 1e-14 * signal:
        return 0.0
    return float(noise * (signal + noise) / signal * np.log1p(signal / noise))


def _reachable(X, energy, dims, gram, bases):
    """Return the objective at which no partition can gain more than noise.

    All subspaces together have rank r, the sum of the dimensions, so that none captures more
    than the r largest squared singular values of the data. Independent subspaces that are found
    fall short of it by the noise in the other r - d directions of each sample, and noise is
    known from what lies outside all of them.
    """
    n, p = X.shape
    rank, dim = int(np.sum(dims)), float(np.mean(dims))
    if rank >= min(n, p):
        return energy * (1 - 1e-12)
    if gram is None:
        bound = float(squared_singular_values(X)[:rank].sum())
    else:
        bound = float(leading_eigenvectors(gram, rank, 1e-6, np.concatenate(bases))[0].sum())
    noise = max(energy - bound, 0.0) / (p - rank)
    return bound - 1.02 * noise * (rank - dim) - 1e-12 * energy


class _LeadingDirections:
    """Coordinates of wide data in twice as many leading directions as all subspaces have."""

    def __init__(self, X, some, dims):
        self.X, self.some, self.rank = X, some, 2 * int(np.sum(dims))
        self.pay = 2 * self.rank < min(X.shape)
        self.rows = self.all = None

    def _rows(self):
        if self.rows is None:
            self.rows = leading_rows(self.some, min(self.rank, len(self.some)), rough=True)
        return self.rows

    def of_some(self):
        pay = 2 * self.rank < min(self.some.shape)
        return self.some @ self._rows().T if pay else self.some

    def of_all(self):
        if self.all is None:
            self.all = self.X @ self._rows().T
        return self.all


def _random_part(small, dims, n_init, rng, n_jobs, verbose, settings):
    """Partition from random ones by K-subspaces: a few rounds of `n_init`, then the best of them.

    Rounds are what costs, and few starts that are behind catch up.
    """
    seeds = rng.integers(np.iinfo(np.int64).max, size=n_init)
    short = {**settings, "max_iter": min(_FIRST_ROUNDS, settings["max_iter"])}

    def run(seed):
        labels = np.random.default_rng(seed).permutation(np.arange(len(small)) % len(dims))
        return k_subspaces(small, labels, dims, penalty=0.0, **short)

    def go_on(part):
        return k_subspaces(small, part.labels, dims, penalty=0.0, **settings)

    shown = progress(seeds, total=n_init, description="random starts", verbose=verbose)
    parts = [run(seed) for seed in shown] if effective_n_jobs(n_jobs) == 1 else (
        thread_map(run, list(shown), n_jobs)
    )  # fmt: skip
    parts = sorted(parts, key=lambda part: -part.objective)[:_FINALISTS]
    return max(thread_map(go_on, parts, n_jobs), key=lambda part: part.objective)


def _fitted(X, labels, dims, rule, settings):
    """Run K-subspaces from a partition; returns the partition and the penalty of a dimension.

    Where dimensions are open or differ, they, the penalty and the partition follow from each
    other in turn.
    """
    if _is_given(rule) and len(set(dims)) == 1:
        return k_subspaces(X, labels, dims, penalty=0.0, **settings), 0.0
    for _ in range(10):
        if _is_given(rule):
            labels = _positions(X, labels, dims)[labels]
        else:
            dims = _next_dims(X, labels, dims, rule, settings["joint"])
        bases = [leading_rows(X[labels == k], d) for k, d in enumerate(dims)]
        weights = settings.get("weights")
        penalty = _penalty(X, labels, bases, weights) if len(set(dims)) > 1 else 0.0
        part = k_subspaces(X, labels, dims, penalty=penalty, **settings)
        if np.array_equal(part.labels, labels):
            break
        labels = part.labels
    return part, penalty


def _merit(X, part, rule, weights=None):
    """What starts are compared by: captured energy, or the evidence where dimensions differ."""
    dims = [len(basis) for basis in part.bases]
    if _is_given(rule) and len(set(dims)) == 1:
        return part.objective
    p, n = X.shape[1], len(X) if weights is None else weights.sum()
    found = spectra(X, part.labels, part.bases, weights)
    floor = noise_floor(X, dims, weights)
    mixture, noise = hard_mixture(found, floor, part.bases, spectrum="full", noise="auto")
    if weights is not None:
        X = X / np.sqrt(weights)[:, None]
    density = logsumexp(mixture.log_joint(X, noise), axis=1)
    likelihood = float(density.sum() if weights is None else weights @ density)
    n_parameters = sum(d * p - d * (d - 1) // 2 for d in dims)
    return likelihood - 0.5 * n_parameters * np.log(n)


def fit_partition(
    X, n_clusters, rule, *, init, n_init, rng, n_jobs, verbose, joint, max_iter, tol, weights=None
):
    """Return the best partition, the name of its start, and the penalty of a dimension.

    Where samples have `weights`, the rows of X are multiplied with their roots already.
    """
    settings = {"joint": joint, "max_iter": max_iter, "tol": tol}
    plain_settings = dict(settings)
    if weights is not None:
        settings["weights"] = weights
    dims = _first_dims(X, n_clusters, rule, joint)
    plain = _is_given(rule) and len(set(dims)) == 1
    with np.errstate(over="ignore"):
        energy = float(np.vdot(X, X))
    if not np.isfinite(energy):
        raise ValueError(
            f"X has entries up to {np.abs(X).max():.2g}, whose squares overflow: divide X by a "
            "constant."
        )
    some, some_settings = X, settings  # starts need not see all rows
    enough = int(np.clip(10 * np.sum(dims), *N_LANDMARKS))
    if len(X) > enough and n_clusters > 1:
        chosen = np.sort(rng.choice(len(X), enough, replace=False))
        some = X[chosen]
        if weights is not None:
            some_settings = {**settings, "weights": weights[chosen]}
    names = [init]
    if n_clusters == 1:
        names = ["angles"]  # any will do
    elif init == "spectral":
        # Where no sample is to spare, equal partitions are told apart by angles.
        names = ["angles", "sim"] if some is X else ["sim", "angles"]
        names.append("random")
    lead = _LeadingDirections(X, some, dims)
    best, best_merit, winner, waiting = None, -np.inf, "", []
    for name in names:
        seed = int(rng.integers(np.iinfo(np.int32).max))
        if n_clusters == 1:
            labels = np.zeros(len(X), dtype=int)
        elif name == "sim":
            labels = shape_interaction_labels(some, int(np.sum(dims)), n_clusters, seed)
        elif name == "angles":
            n_neighbors = max(3, min(len(some) // n_clusters - 1, 2 * max(dims)))
            labels = thresholded_angle_labels(some, n_neighbors, n_clusters, seed)
        else:
            labels = _random_part(
                lead.of_some(), dims, n_init, rng, n_jobs, verbose, plain_settings
            ).labels
        if some is not X:
            if plain:
                sets = [some[labels == k] for k in range(n_clusters)]
                bases = [leading_rows(rows, d, rough=True) for rows, d in zip(sets, dims)]
                labels = energies(X, bases).argmax(axis=1)
            else:
                part, penalty = _fitted(some, labels, dims, rule, some_settings)
                dim_penalty = penalty * np.array([len(basis) for basis in part.bases])
                if weights is not None:
                    dim_penalty = weights[:, None] * dim_penalty
                labels = (energies(X, part.bases) - dim_penalty).argmax(axis=1)
        if plain and not joint and lead.pay and n_clusters > 1:
            if best is None:
                # Where all is clear a few rounds are enough, and leading directions cost more.
                few = k_subspaces(
                    X,
                    labels,
                    dims,
                    penalty=0.0,
                    near=None if some is X else bases,
                    **{**settings, "max_iter": min(3, max_iter)},
                )
                if few.converged and few.objective >= _reachable(
                    X, energy, dims, few.gram, few.bases
                ):
                    best, winner = (few, 0.0), name
                    break
                labels = few.labels
            part = k_subspaces(lead.of_all(), labels, dims, penalty=0.0, **plain_settings)
            waiting.append((part.objective, name, part.labels))
            best = best or (few, 0.0)
            continue
        found = _fitted(X, labels, dims, rule, settings)
        merit = _merit(X, found[0], rule, weights)
        if best is None or merit > best_merit + 1e-9 * abs(best_merit):
            best, best_merit, winner = found, merit, name
        if plain and best[0].objective >= _reachable(X, energy, dims, best[0].gram, best[0].bases):
            break
    if waiting:  # starts were compared in the leading directions
        _, winner, labels = max(waiting, key=lambda start: start[0])
        best = _fitted(X, labels, dims, rule, settings)
    part = best[0]
    sizes = np.bincount(part.labels, minlength=n_clusters)
    exact = part.objective >= energy * (1 - 1e-12)
    if plain and exact and n_clusters > 1 and sizes.max() <= dims[0] and not joint:
        labels = smallest_volume(
            X, part.labels, n_clusters, n_random=n_init, rng=rng, max_iter=max_iter
        )
        part.bases = [leading_rows(X[labels == k], d) for k, d in enumerate(dims)]
        part.labels, part.squares = labels, None
    return part, winner, best[1]
