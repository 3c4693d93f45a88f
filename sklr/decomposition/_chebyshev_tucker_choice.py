"""Ranks and ridge of a Chebyshev-Tucker regression: by errors on rows that were held out.

The evidence that chooses the ridge is that of functions of any rank. A core with about as many
entries as there are rows, under the small ridge of exact data, fits those rows in many ways, and
most of them may be wrong between the rows; where the ridge leaves little more than a linear model
(columns whose effects add up need large ranks) they are right. So the evidence's choice is compared
with smaller ranks and other ridges on rows that the fits have not seen.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from sklr.decomposition._chebyshev import series
from sklr.decomposition._chebyshev_tucker_als import descend, row_products
from sklr.decomposition._chebyshev_tucker_prior import NEAR

# With so many rows for each unknown, held-out rows have nothing to say.
_PLENTY = 5
# Folds, and rows from which one of them is enough.
_FOLDS, _ONE_FOLD = 5, 1000
# Sweeps of fits that are only compared.
_SWEEPS = 15
# Under a larger ridge a constant more in the format makes no difference.
_SHIFTED = 1e-4
# A relative error that no other rank needs to be tried for.
_EXACT = 1e-5
# Larger cores take long, and are at most this share of the rows under a small ridge. Not so where
# the penalty of degrees leaves little more than a linear model: a sum needs ranks of two in all
# columns, and little else is in its core; ridges are chosen with smaller cores then.
_LARGE_CORE, _SMALL_RIDGE, _SHARE, _NEARLY_LINEAR = 729, 1e-2, 0.5, 16.0
# Steps of the ridge, its limits, and how often ranks and ridge are chosen in turn.
_STEP, SMALLEST_RIDGE, LARGEST_RIDGE, _ROUNDS = 30.0, 1e-12, 1e4, 2
# A fit whose residual is so many times that of the others' has stalled.
_STALLED = 3.0
# Where the model has squared errors so many standard errors above those of the mean it is worse.
_WORSE = 1.0


@dataclass(frozen=True)
class Candidate:
    """What a fit takes: ranks, the ridge and what is added to the centred target."""

    ranks: tuple[int, ...]
    alpha: float
    shift: float = 0.0


def smaller_ranks(ranks):
    """Return ranks below the largest, from one, each at most what the others' products allow."""
    found = []
    for most in (1, 2, 3, 4, 6):
        less = bound_ranks([min(r, most) for r in ranks])
        if less != tuple(ranks) and less not in found:
            found.append(less)
    return found


def bound_ranks(ranks):
    """Return ranks that are no larger than the product of the others."""
    for _ in ranks:
        total = np.prod(ranks, dtype=float)
        ranks = [int(min(r, max(1.0, total / r))) for r in ranks]
    return tuple(ranks)


def folds_of(points, y, n_folds):
    """Return the fold of each row: near rows are in one fold, and folds are alike in y."""
    n, spread = len(y), points.max(axis=0) > points.min(axis=0)
    near = NEAR * 2.0 * n ** (-1.0 / max(spread.sum(), 1))
    pairs = cKDTree(points).query_pairs(near, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
    n_groups, group = connected_components(graph, directed=False)
    means = np.bincount(group, y) / np.bincount(group)
    rng = np.random.default_rng(0)
    blocks = -(-n_groups // n_folds)
    deal = np.concatenate([rng.permutation(n_folds) for _ in range(blocks)])[:n_groups]
    fold = np.empty(n_groups, dtype=int)
    fold[np.argsort(means, kind="stable")] = deal
    return fold[group]


class HeldOut:
    """Squared errors of candidates on rows that their fits have not seen.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Samples, scaled to [-1, 1].
    y : ndarray of shape (n,)
        Targets of mean zero and size one.
    weights : ndarray of shape (n,)
        Weights; copies of a row count like one.
    degrees : sequence of int
        Numbers of coefficients.
    degree_penalty : float
        Penalty of a degree over that of the degree below.
    tol : float
        Tolerance of fits.
    """

    def __init__(self, points, y, weights, degrees, degree_penalty, tol):
        rows, index = np.unique(np.column_stack([points, y]), axis=0, return_inverse=True)
        self.points, self.y = np.ascontiguousarray(rows[:, :-1]), rows[:, -1]
        self.weights = np.bincount(index.ravel(), weights)
        self.shares = self.weights / self.weights.sum()
        self.degrees, self.degree_penalty, self.tol = degrees, degree_penalty, tol
        fold = folds_of(self.points, self.y, min(_FOLDS, len(self.y)))
        n_used = 1 if len(self.y) > _ONE_FOLD else fold.max() + 1
        self.folds = [fold == k for k in range(n_used) if 0 < (fold == k).sum() < len(fold)]
        self.used = np.isin(fold, np.arange(n_used))
        self.known = {}

    def errors(self, candidate):
        """Return the squared errors on held-out rows."""
        if candidate not in self.known:
            runs = [self._fit(candidate, out, 0) for out in self.folds]
            usual = np.median([run.losses[-1] for run in runs])
            found = np.full(len(self.y), np.nan)
            for i, out in enumerate(self.folds):
                if runs[i].losses[-1] > _STALLED * usual:
                    runs[i] = min(runs[i], self._fit(candidate, out, 1), key=_objective)
                found[out] = (
                    values(runs[i], self.points[out]) - candidate.shift - self.y[out]
                ) ** 2
            self.known[candidate] = np.minimum(found[self.used], 1e100)
        return self.known[candidate]

    def _fit(self, candidate, out, seed):
        run, _ = descend(
            self.points[~out], self.y[~out] + candidate.shift, np.sqrt(self.weights[~out]),
            self.degrees, candidate.ranks, candidate.alpha, self.degree_penalty, _SWEEPS, self.tol,
            np.random.default_rng(seed),
        )  # fmt: skip
        return run

    def error(self, candidate):
        """Return the mean squared error."""
        return self.mean(self.errors(candidate))

    def of_mean(self):
        """Return the squared errors of the mean of the other rows."""
        found = np.full(len(self.y), np.nan)
        for out in self.folds:
            found[out] = (self.y[out] - np.average(self.y[~out], weights=self.weights[~out])) ** 2
        return found[self.used]

    def mean(self, values):
        """Return the mean over held-out rows, by weight."""
        return float(np.average(values, weights=self.shares[self.used]))

    def excess(self, errors, others):
        """Return by how many standard errors the first errors are above the others."""
        gap = errors - others
        mean = self.mean(gap)
        spread = np.sqrt(self.mean((gap - mean) ** 2) / max(len(gap) - 1, 1))
        return mean / max(spread, 1e-300)


def _objective(run):
    return run.objective()


def values(run, points):
    """Return the function of a run at points."""
    sides = np.array([-1.0, 1.0])
    F = [series(x, V, sides) for x, V in zip(points.T, run.V, strict=True)]
    return row_products(F) @ run.core.ravel()


def is_plenty(n, degrees, ranks):
    """Whether there are many rows for each unknown of the largest ranks."""
    core = np.prod(ranks, dtype=float)
    return n >= _PLENTY * (core + np.dot(ranks, np.subtract(degrees, ranks)))


def choose(held, ranks, alpha, shifts, search_ridge):
    """Return a candidate, and whether it is worse than the mean.

    Parameters
    ----------
    held : HeldOut
        Errors on held-out rows.
    ranks : sequence of int
        The largest ranks.
    alpha : float
        The evidence's ridge.
    shifts : callable
        ``shifts(alpha, ranks)`` returns what may be added to the centred target.
    search_ridge : bool
        Whether other ridges are tried.

    Returns
    -------
    best : Candidate
        Largest ranks and the evidence's ridge, unless other ones are better by more than a
        standard error; the smallest ranks within a standard error of the best of those.
    error : float
        Root mean squared error of it.
    worse : bool
        Whether its errors are above those of the mean.
    """
    sizes = [*smaller_ranks(ranks), tuple(ranks)]
    full = tuple(held.degrees)
    nearly_linear = held.degree_penalty >= _NEARLY_LINEAR

    def is_large(size):
        return np.prod(size, dtype=float) > max(_LARGE_CORE, _SHARE * len(held.y))

    def is_cheap(size, alpha):
        return alpha > _SMALL_RIDGE or size == full or not is_large(size)

    def at(size, alpha):
        """Return the better of the shifts; large cores are not fitted twice."""
        tried = shifts(alpha, size)[: 1 if is_large(size) else None]
        return min((Candidate(size, alpha, s) for s in tried), key=held.error)

    def over_ranks(alpha, least=0):
        tried = []
        for size in sizes[max(least, 0) :]:
            if not (is_cheap(size, alpha) or nearly_linear):
                continue
            tried.append(at(size, alpha))
            if held.error(tried[-1]) < _EXACT**2:
                break
        return tried

    def over_ridges(best, step):
        """Go on from ridge to ridge until two of them were no better."""
        tried, ridge, since = [best], best.alpha * step, 0
        while since < 2 and SMALLEST_RIDGE <= ridge <= LARGEST_RIDGE:
            if not is_cheap(best.ranks, ridge):
                break
            if best.alpha < _SHIFTED:  # the shift is chosen
                tried.append(Candidate(best.ranks, ridge, best.shift if ridge < _SHIFTED else 0.0))
            else:
                tried.append(at(best.ranks, ridge))
            since = 0 if tried[-1] == min(tried, key=held.error) else since + 1
            ridge *= step
        return tried

    tried = over_ranks(alpha)
    best = min(tried, key=held.error)
    for _ in range(_ROUNDS if search_ridge else 0):
        if held.error(best) < _EXACT**2:
            break
        before = best
        for step in (_STEP, 1.0 / _STEP):
            tried += over_ridges(before, step)
            best = min(tried, key=held.error)
            if best != before:
                break
        if best == before:
            break
        tried += over_ranks(best.alpha, sizes.index(best.ranks) - 1)
        best = min(tried, key=held.error)
    near = [c for c in tried if held.excess(held.errors(c), held.errors(best)) <= 1.0]
    first = [c for c in near if c.ranks == tuple(ranks) and c.alpha == alpha]
    best = first[0] if first else min(near, key=lambda c: (np.prod(c.ranks), held.error(c)))
    worse = held.excess(held.errors(best), held.of_mean()) > _WORSE
    return best, np.sqrt(held.error(best)), worse
