"""Point clouds on manifolds whose geodesic distances are known."""

import numpy as np
from sklearn.utils import check_random_state


def make_geodesic_swiss_roll(n_samples=1000, *, noise=0.0, n_features=3, random_state=None):
    """Make a Swiss roll with the flat coordinates in which its geodesics are straight.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points.
    noise : float, default=0.0
        Standard deviation of the noise of each feature.
    n_features : int, default=3
        At 3 the roll itself; above, turned by a random rotation into so many features, which
        all get noise.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The points (u cos u, h, u sin u), u from 1.5 pi to 4.5 pi, h from 0 to 5.
    flat : ndarray of shape (n_samples, 2)
        Arc length and height: Euclidean distances here are geodesic distances on the roll.

    See Also
    --------
    sklearn.datasets.make_swiss_roll : A wider roll (height 21), without arc length.

    Examples
    --------
    >>> from sklr.datasets import make_geodesic_swiss_roll
    >>> X, flat = make_geodesic_swiss_roll(100, noise=0.1, random_state=0)
    >>> X.shape, flat.shape
    ((100, 3), (100, 2))
    """
    _check_cloud(n_samples, noise, n_features)
    rng = check_random_state(random_state)
    u = 1.5 * np.pi * (1 + 2 * rng.uniform(size=n_samples))
    h = 5 * rng.uniform(size=n_samples)
    X = np.c_[u * np.cos(u), h, u * np.sin(u)]
    if n_features > 3:
        Q, _ = np.linalg.qr(rng.standard_normal((n_features, 3)))
        X = X @ Q.T
    X = X + noise * rng.standard_normal(X.shape)
    return X, np.c_[0.5 * (u * np.sqrt(1 + u * u) + np.arcsinh(u)), h]


def make_random_walk_tree(
    n_branches=5, branch_length=200, *, n_features=10, noise=1.0, random_state=None
):
    """Make a tree of random walks with the path lengths along it.

    Each branch is a walk of uniform steps in [-1, 1]; all but the first begin at a random point
    of an earlier one.

    Parameters
    ----------
    n_branches : int, default=5
        Number of branches.
    branch_length : int, default=200
        Points of each.
    n_features : int, default=10
        Dimension of the space.
    noise : float, default=1.0
        Standard deviation of the noise of each feature.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_branches * branch_length, n_features)
        The noisy points, branch after branch.
    branch : ndarray of shape (n_branches * branch_length,)
        Number of the branch.
    distances : ndarray of shape (n_samples, n_samples)
        Path lengths along the noiseless tree.

    References
    ----------
    .. [1] K. R. Moon et al., "Visualizing structure and transitions in high-dimensional
       biological data", Nature Biotechnology 37, 2019. doi:10.1038/s41587-019-0336-3

    Examples
    --------
    >>> from sklr.datasets import make_random_walk_tree
    >>> X, branch, distances = make_random_walk_tree(3, 20, random_state=0)
    >>> X.shape, distances.shape
    ((60, 10), (60, 60))
    """
    if n_branches < 1 or branch_length < 2:
        raise ValueError(
            f"n_branches must be at least 1 and branch_length at least 2, got {n_branches} and "
            f"{branch_length}."
        )
    n = n_branches * branch_length
    _check_cloud(n, noise, n_features)
    rng = check_random_state(random_state)
    steps = rng.uniform(-1, 1, size=(n, n_features))
    X = np.zeros((n, n_features))
    distances = np.zeros((n, n))
    for b in range(n_branches):
        first = b * branch_length
        along = np.linalg.norm(steps[first : first + branch_length], axis=1)
        before = slice(0, first)
        own = slice(first, first + branch_length)
        root = rng.randint(first) if b else None
        start = X[root] if b else np.zeros(n_features)
        X[own] = start + np.cumsum(steps[own], axis=0)
        position = np.cumsum(along)
        distances[own, own] = np.abs(position[:, None] - position)
        if b:
            distances[own, before] = position[:, None] + distances[root, before]
            distances[before, own] = distances[own, before].T
    branch = np.repeat(np.arange(n_branches), branch_length)
    return X + noise * rng.standard_normal(X.shape), branch, distances


def _check_cloud(n_samples, noise, n_features):
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
    if not np.isfinite(noise) or noise < 0:
        raise ValueError(f"noise must be a number of at least 0, got {noise!r}.")
    if n_features < 3:
        raise ValueError(f"n_features must be at least 3, got {n_features}.")
