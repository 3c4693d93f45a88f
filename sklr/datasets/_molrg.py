"""Samples of a mixture of low-rank Gaussians: points on a union of subspaces."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from sklr.utils._validation import check_positive_int


def _per_cluster(value, name, n_clusters):
    values = [value] * n_clusters if isinstance(value, Integral) else list(value)
    if len(values) != n_clusters:
        raise ValueError(
            f"{name} must be one integer or n_clusters={n_clusters} of them, got {len(values)}."
        )
    return [check_positive_int(v, name) for v in values]


def make_molrg(
    n_samples=100,
    n_features=48,
    n_clusters=2,
    dim=7,
    *,
    orthogonal=True,
    noise=0.0,
    random_state=None,
    return_bases=False,
):
    """Draw from a mixture of low-rank Gaussians, N(0, U_k U_k^T) each.

    The synthetic data of the paper: 48 features (images of 4 x 4 pixels in three colours), and
    subspaces that are orthogonal to each other.

    Parameters
    ----------
    n_samples : int or sequence of int, default=100
        Samples in all, dealt to the clusters as evenly as can be; or the samples of each
        cluster.
    n_features : int, default=48
        Dimension of the space.
    n_clusters : int, default=2
        Number of subspaces.
    dim : int or sequence of int, default=7
        Dimension of the subspaces, or of each.
    orthogonal : bool, default=True
        Whether the subspaces are orthogonal to each other, or independent random ones.
    noise : float, default=0.0
        Standard deviation of the noise that is added in every direction.
    random_state : int, RandomState instance or None, default=None
        Seed.
    return_bases : bool, default=False
        Whether the bases are returned too.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The samples, in random order.
    y : ndarray of shape (n_samples,)
        The subspace of each sample.
    bases : list of ndarray of shape (dim, n_features)
        Orthonormal rows that span the subspaces; only with ``return_bases=True``.

    Raises
    ------
    TypeError, ValueError
        A parameter out of range; the message names it.

    See Also
    --------
    sklr.cluster.DiffusionSubspaceClustering : Finds the subspaces.

    References
    ----------
    .. [1] P. Wang, H. Zhang, Z. Zhang, S. Chen, Y. Ma, Q. Qu, "Diffusion models learn
       low-dimensional distributions via subspace clustering", 2024.
       https://arxiv.org/abs/2409.02426

    Examples
    --------
    >>> from sklr.datasets import make_molrg
    >>> X, y = make_molrg(n_samples=20, dim=3, random_state=0)
    >>> X.shape, y.sum()
    ((20, 48), np.int64(10))
    """
    n_features = check_positive_int(n_features, "n_features")
    n_clusters = check_positive_int(n_clusters, "n_clusters")
    dims = _per_cluster(dim, "dim", n_clusters)
    if max(dims) > n_features:
        raise ValueError(f"dim={max(dims)} must be at most n_features={n_features}.")
    if orthogonal and sum(dims) > n_features:
        raise ValueError(
            f"{n_clusters} orthogonal subspaces of dim={dim} need n_features >= {sum(dims)}, got "
            f"{n_features}; use orthogonal=False."
        )
    if isinstance(noise, bool) or not isinstance(noise, Real) or not 0 <= noise < np.inf:
        raise ValueError(f"noise must be a finite number >= 0, got {noise!r}.")
    if isinstance(n_samples, Integral):
        n_samples = check_positive_int(n_samples, "n_samples")
        y = np.arange(n_samples) % n_clusters
    else:
        y = np.repeat(np.arange(n_clusters), _per_cluster(n_samples, "n_samples", n_clusters))
    rng = np.random.default_rng(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    if orthogonal:
        joint = np.linalg.qr(rng.standard_normal((n_features, sum(dims))))[0].T
        bases = np.split(joint, np.cumsum(dims)[:-1])
    else:
        bases = [np.linalg.qr(rng.standard_normal((n_features, d)))[0].T for d in dims]
    y = rng.permutation(y)
    X = np.zeros((len(y), n_features))
    for k, basis in enumerate(bases):
        X[y == k] = rng.standard_normal(((y == k).sum(), dims[k])) @ basis
    X += noise * rng.standard_normal(X.shape)
    return (X, y, bases) if return_bases else (X, y)
