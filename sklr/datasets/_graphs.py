"""Random graphs with planted communities and attributes."""

from numbers import Real

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from sklr.utils._graph import index_dtype
from sklr.utils._validation import check_positive_int


def make_attributed_sbm(
    n_samples=1000,
    *,
    n_clusters=5,
    mean_degree=8.0,
    mixing=0.3,
    n_attributes=3,
    noise=0.4,
    n_noise_attributes=0,
    n_values=None,
    imbalance=0.0,
    degree_exponent=None,
    random_state=None,
):
    r"""Stochastic block model whose vertices carry noisy copies of their block.

    Parameters
    ----------
    n_samples : int, default=1000
        Vertices.
    n_clusters : int, default=5
        Blocks.
    mean_degree : float, default=8.0
        Edges drawn are ``n_samples * mean_degree / 2``; the few that repeat, or join a vertex to
        itself, are dropped.
    mixing : float, default=0.3
        Share of edges that leave the block of their first end, in [0, 1].
    n_attributes : int, default=3
        Attributes that tell of the block.
    noise : float, default=0.4
        Probability that a value is replaced by a random one, independently.
    n_noise_attributes : int, default=0
        Further attributes of random values.
    n_values : int, default=None
        Values of an attribute; by default `n_clusters`. A block with several values of its own
        (values congruent to the block modulo `n_clusters`) draws one of them.
    imbalance : float, default=0.0
        0 makes equal blocks; otherwise the size of block k is proportional to
        ``(k + 1) ** -imbalance``.
    degree_exponent : float, default=None
        None draws the ends of an edge uniformly; a number above 1 draws them with weights of a
        Pareto distribution of that exponent, cut at ``sqrt(n_samples)``.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    adjacency : scipy.sparse.csr_array of shape (n_samples, n_samples)
        Symmetric, entries 1, zero diagonal. Isolated vertices and several components may occur.
    attributes : ndarray of shape (n_samples, n_attributes + n_noise_attributes)
        Integer codes from 0.
    labels : ndarray of shape (n_samples,)
        The planted blocks.

    Raises
    ------
    TypeError, ValueError
        A parameter out of range; the message names it.

    See Also
    --------
    sklr.cluster.BootstrapAMGClustering : Finds the blocks.

    Examples
    --------
    >>> from sklr.datasets import make_attributed_sbm
    >>> adjacency, attributes, labels = make_attributed_sbm(200, n_clusters=4, random_state=0)
    >>> adjacency.shape, attributes.shape, labels.max()
    ((200, 200), (200, 3), np.int64(3))
    """
    n = check_positive_int(n_samples, "n_samples")
    n_clusters = check_positive_int(n_clusters, "n_clusters")
    if n_clusters > n:
        raise ValueError(f"n_clusters={n_clusters} is above n_samples={n}.")
    n_values = n_clusters if n_values is None else check_positive_int(n_values, "n_values")
    for name, value in (("mixing", mixing), ("noise", noise)):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
            raise ValueError(f"{name} must be a number in [0, 1], got {value!r}.")
    for name, value in (("mean_degree", mean_degree), ("imbalance", imbalance)):
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < np.inf:
            raise ValueError(f"{name} must be a number >= 0, got {value!r}.")
    for name, value in (("n_attributes", n_attributes), ("n_noise_attributes", n_noise_attributes)):
        if value != 0:
            check_positive_int(value, name)
    if degree_exponent is not None and not degree_exponent > 1:
        raise ValueError(f"degree_exponent must be above 1 or None, got {degree_exponent!r}.")
    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))

    share = np.arange(1, n_clusters + 1, dtype=np.float64) ** -imbalance
    # At least one vertex a block, then by share; blocks are contiguous, vertices are not sorted.
    edges = np.rint(np.cumsum(share / share.sum()) * (n - n_clusters)).astype(np.int64)
    sizes = np.diff(np.r_[0, edges]) + 1
    block = np.repeat(np.arange(n_clusters), sizes)
    start = np.r_[0, np.cumsum(sizes)]
    weight = np.ones(n)
    if degree_exponent is not None:
        weight = np.minimum(rng.pareto(degree_exponent - 1, n) + 1, np.sqrt(n))
    cumulative = np.r_[0.0, np.cumsum(weight)]

    def draw(low, high):
        """Draw vertices between two bounds (arrays), by weight."""
        target = cumulative[low] + rng.random(len(low)) * (cumulative[high] - cumulative[low])
        return np.clip(np.searchsorted(cumulative, target, side="right") - 1, low, high - 1)

    m = int(round(n * mean_degree / 2))
    first = draw(np.zeros(m, dtype=np.int64), np.full(m, n))
    leaves = (rng.random(m) < mixing) & (n_clusters > 1)
    own = block[first]
    other = (own + rng.integers(1, max(n_clusters, 2), m)) % n_clusters
    to = np.where(leaves, other, own)
    second = draw(start[to], start[to + 1])
    keep = first != second
    order = rng.permutation(n)
    first, second = order[first[keep]], order[second[keep]]
    ends = first.astype(index_dtype(n, 2 * m)), second.astype(index_dtype(n, 2 * m))
    adjacency = sp.coo_array((np.ones(len(first)), ends), shape=(n, n)).tocsr()
    adjacency = adjacency + adjacency.T
    adjacency.data[:] = 1.0
    labels = np.empty(n, dtype=np.int64)
    labels[order] = block

    p = int(n_attributes) + int(n_noise_attributes)
    attributes = rng.integers(n_values, size=(n, p))
    # A block's own values: those congruent to it; with fewer values than blocks they are shared.
    base = labels % min(n_clusters, n_values)
    per_block = (n_values - base + n_clusters - 1) // n_clusters
    for j in range(int(n_attributes)):
        value = base + n_clusters * (rng.random(n) * per_block).astype(np.int64)
        kept = rng.random(n) >= noise
        attributes[kept, j] = value[kept]
    return adjacency, attributes, labels
