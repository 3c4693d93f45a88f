"""Learners of an embedding: sets of coordinates, the clusters they are for, and their batches."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

# Coordinates whose score, from 0 to 1, is above this are kept when a group is split ...
_KEPT_ABOVE = 0.5
# ... if they are as many at least, and the group is larger than this.
_LEAST_KEPT, _LEAST_GROUP = 5, 10


def kept_coordinates(scores: np.ndarray) -> np.ndarray | None:
    """Return which coordinates of a group stay when it is split, or None where it is not.

    Parameters
    ----------
    scores : ndarray of shape (n_coordinates,)
        What leaving each coordinate out would change of the loss, not negative.

    Returns
    -------
    kept : ndarray of bool of shape (n_coordinates,), or None
        None where the group is small, all scores are equal, or few stand out.
    """
    if len(scores) <= _LEAST_GROUP or not np.isfinite(scores).all():
        return None
    spread = float(np.ptp(scores))
    if spread == 0:
        return None
    kept = (scores - scores.min()) / spread > _KEPT_ABOVE
    return kept if _LEAST_KEPT <= kept.sum() < len(kept) else None


def k_means(rows: np.ndarray, n_clusters: int, seed: int, n_init: int = 1) -> np.ndarray:
    """Return labels of k-means, also where there are fewer different rows than clusters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(min(n_clusters, len(rows)), n_init=n_init, max_iter=50, random_state=seed)
        return model.fit_predict(rows)


def matched(new: np.ndarray, old: np.ndarray, n_clusters: int) -> np.ndarray:
    """Return new labels, renamed so that as few samples as possible leave their clusters.

    Parameters
    ----------
    new, old : ndarray of int of shape (n_samples,)
        Labels below `n_clusters`; where there are fewer old ones, the rest is for new clusters.
    n_clusters : int
        Number of clusters now.

    Returns
    -------
    labels : ndarray of int of shape (n_samples,)
    """
    shared = np.zeros((n_clusters, n_clusters))
    np.add.at(shared, (new, old), 1)
    differ = shared.sum(axis=1)[:, None] + shared.sum(axis=0) - 2 * shared
    rows, columns = linear_sum_assignment(differ)
    return columns[np.argsort(rows)][new]


class BalancedRows:
    """Draws batches of some samples with as many of each class.

    Parameters
    ----------
    rows : ndarray of int
        The samples.
    codes : ndarray of int of the same length
        Their classes.
    lone : bool
        Whether samples that are alone in their class here may be drawn.
    """

    def __init__(self, rows: np.ndarray, codes: np.ndarray, *, lone: bool) -> None:
        order = np.argsort(codes, kind="stable")
        _, starts = np.unique(codes[order], return_index=True)
        members = np.split(rows[order], starts[1:])
        self._members = [m for m in members if lone or len(m) > 1]

    def __len__(self) -> int:
        return sum(len(m) for m in self._members)

    def draw(self, batch_size: int, per_class: int, rng: np.random.RandomState) -> np.ndarray:
        """Return rows: `per_class` of each of some classes, or more of each where they are few."""
        n_classes = min(max(2, batch_size // per_class), len(self._members))
        wanted = min(batch_size // n_classes, max(len(m) for m in self._members))
        drawn = []
        for k in rng.permutation(len(self._members))[:n_classes]:
            members = self._members[k]
            # A sample that is alone would be a partner of itself.
            if len(members) == 1 or len(members) >= wanted:
                drawn.append(rng.permutation(members)[:wanted])
            else:
                drawn.append(rng.choice(members, wanted, replace=True))
        return np.concatenate(drawn)


def held_out(codes: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
    """Return which samples are set aside: of each class its share, and two are always left.

    Parameters
    ----------
    codes : ndarray of int of shape (n_samples,)
        Classes.
    fraction : float
        Share of the samples.
    rng : RandomState
        Draws them.

    Returns
    -------
    held : ndarray of bool of shape (n_samples,)
        None at all where they would be of one class.
    """
    order = np.lexsort((rng.random_sample(len(codes)), codes))
    # Every so-manieth sample in the order of the classes.
    steps = np.floor((np.arange(len(codes)) + rng.random_sample()) * fraction)
    held = np.zeros(len(codes), dtype=bool)
    held[order[1:][np.diff(steps) > 0]] = True
    left = np.bincount(codes, weights=~held)
    held &= left[codes] >= 2
    if len(np.unique(codes[held])) < 2:
        held[:] = False
    return held
