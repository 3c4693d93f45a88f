"""Diffusion spectral entropy of a point cloud, and its mutual information with a target."""

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from sklr.geometry._diffusion import diffusion_operator
from sklr.geometry._neighbors_graph import neighbors_graph
from sklr.metrics._kernel_spectrum import (
    dense_operator,
    diffusion_scales,
    exact_eigenvalues,
    gaussian_kernel,
    landmark_eigenvalues,
    median_bandwidth,
    spectral_sums,
    unit_of,
)
from sklr.utils._validation import check_array
from sklr.utils._warnings import warn_user

SOLVERS = ("exact", "lanczos", "landmark")
# Share of the powered trace outside the landmarks above which a warning is given.
_MUCH_OUTSIDE = 0.05

# Constraints of what the functions and the estimator take.
ENTROPY_CONSTRAINTS: dict[str, list] = {
    "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"median"})],
    "t": [Interval(Real, 0, None, closed="neither")],
    "anisotropy": [Interval(Real, 0, 1, closed="both")],
    "solver": [StrOptions(set(SOLVERS))],
    "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
    "n_landmarks": [Interval(Integral, 1, None, closed="left")],
    "n_probes": [Interval(Integral, 2, None, closed="left")],
    "n_steps": [Interval(Integral, 2, None, closed="left")],
    "max_samples": [Interval(Integral, 2, None, closed="left"), None],
    "base": [Interval(Real, 1, None, closed="neither")],
    "random_state": ["random_state"],
}


class Settings(NamedTuple):
    """How an entropy is computed, everything but the data and the generator."""

    bandwidth: Any
    t: float
    anisotropy: float
    solver: str
    n_neighbors: int | None
    n_landmarks: int
    n_probes: int
    n_steps: int
    max_samples: int | None
    base: float


class Entropy(NamedTuple):
    """An entropy, the eigenvalues where there are any, and the standard error of sums."""

    value: float
    eigenvalues: np.ndarray | None
    standard_error: float
    bandwidth: float


def check_cloud(X):
    """Validate a point cloud, dense or sparse."""
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 2:
        raise ValueError(
            f"X must have shape (n_samples, n_features), got {len(shape)} dimensions, shape "
            f"{tuple(shape)}. Flatten activations: X.reshape(len(X), -1)."
        )
    return check_array(
        X, accept_sparse="csr", dtype=np.float64, ensure_min_samples=2, input_name="X"
    )


def entropy_of_powers(eigenvalues, rest, n_rest, t, base):
    """Entropy of |eigenvalues| ** t, with a rest spread evenly over what is not listed.

    Returns
    -------
    entropy, share : float
        The entropy, and the share of the rest in the sum of powers.
    """
    powers = _above_rounding(eigenvalues, len(eigenvalues) + n_rest) ** t
    each = (rest / n_rest) ** t if n_rest and rest > 0 else 0.0
    total = powers.sum() + n_rest * each
    p, q = powers[powers > 0] / total, each / total
    value = -(p * np.log(p)).sum() - (n_rest * q * np.log(q) if q > 0 else 0.0)
    return max(0.0, float(value / np.log(base))), float(n_rest * q)


def _above_rounding(eigenvalues, n):
    """Sizes of eigenvalues of an operator of norm one, those that rounding makes of zero left out.

    A small power of them would count: 1e-17 to the power 0.1 is 0.02, for each point.
    """
    size = np.abs(eigenvalues)
    return np.where(size > n * np.finfo(np.float64).eps, size, 0.0)


def entropy_of_cloud(X, settings, random_state):
    """Diffusion spectral entropy of validated points."""
    if settings.max_samples is not None and settings.solver != "landmark":
        X = subsample(X, settings.max_samples, random_state)
    X = centred(X)
    n = X.shape[0]
    bandwidth = settings.bandwidth
    if isinstance(bandwidth, str):
        bandwidth = median_bandwidth(X)
    own_bandwidth = float(bandwidth)
    t, base = settings.t, settings.base
    # In units of the points' own, so that squares neither vanish nor overflow.
    unit = unit_of(X)
    X = X / unit
    bandwidth = own_bandwidth / unit

    if settings.solver == "landmark":
        if settings.n_neighbors is not None:
            raise ValueError(
                f"n_neighbors={settings.n_neighbors} makes a sparse kernel; solver='landmark' "
                "needs all of it. Use solver='lanczos', or n_neighbors=None."
            )
        found, rest = landmark_eigenvalues(
            X, bandwidth, settings.anisotropy, settings.n_landmarks, random_state
        )
        value, share = entropy_of_powers(found, rest, n - len(found), t, base)
        if share > _MUCH_OUTSIDE:
            warn_user(
                f"{len(found)} landmarks leave {100 * share:.0f} % of the trace of the operator's "
                f"power t={t:g} outside, which is taken as spread evenly over {n - len(found)} "
                f"eigenvalues. More than n_landmarks={settings.n_landmarks}, a larger bandwidth "
                "or a larger t leaves less.",
                ConvergenceWarning,
            )
        return Entropy(value, found, 0.0, own_bandwidth)

    K, first = _operator(X, bandwidth, settings)
    if settings.solver == "exact":
        if sp.issparse(K):
            found = np.linalg.eigvalsh(K.toarray())[::-1]
        else:
            found = exact_eigenvalues(K)
        return Entropy(entropy_of_powers(found, 0.0, 0, t, base)[0], found, 0.0, own_bandwidth)

    def functions(nodes):
        # A full kernel has no eigenvalue below zero; rounding makes some.
        size = _above_rounding(nodes if sp.issparse(K) else np.maximum(nodes, 0.0), n)
        powers = size**t
        return powers, powers * np.log(np.where(powers > 0, powers, 1.0))

    (total, logs), by_probe = spectral_sums(
        K, first, functions, settings.n_probes, settings.n_steps, random_state
    )
    # The first eigenvalue, one, is in both sums.
    total, logs = max(total, 1.0), min(logs, 0.0)
    value = np.log(total) - logs / total
    slopes = np.array([1.0 / total + logs / total**2, -1.0 / total])
    spread = (slopes @ by_probe).std(ddof=1) / np.sqrt(settings.n_probes)
    bits = np.log(base)
    value = min(max(value, 0.0), np.log(n))
    return Entropy(float(value / bits), None, float(spread / bits), own_bandwidth)


def centred(X):
    """Take the mean away where it is so large that distances would drown in rounding.

    Elsewhere the points stay as they are, and give what sparse ones give to the last digit.
    """
    if sp.issparse(X):
        return X
    with np.errstate(over="ignore", invalid="ignore"):
        mean = X.mean(axis=0)
        moved = X - mean
        largest = np.einsum("ij,ij->i", moved, moved).max()
        far = mean @ mean > 1e4 * largest
    if not largest < 1e-6 * np.finfo(float).max:
        raise ValueError(
            f"X is too large, its squared distances overflow: the largest entry is "
            f"{np.abs(X).max():.3g}. Scale it."
        )
    return moved if far else X


def subsample(X, n_samples, random_state):
    """At most `n_samples` rows, drawn without replacement."""
    if X.shape[0] <= n_samples:
        return X
    return X[np.sort(random_state.choice(X.shape[0], n_samples, replace=False))]


def _operator(X, bandwidth, settings):
    if settings.n_neighbors is None:
        return dense_operator(gaussian_kernel(X, bandwidth), settings.anisotropy)
    if sp.issparse(X):
        X = X.toarray()
    bandwidth = min(max(bandwidth, 1e-150), 1e150)
    W = neighbors_graph(X, settings.n_neighbors, kernel="gaussian", bandwidth=bandwidth)
    W = (W + sp.eye_array(X.shape[0])).tocsr()
    _, first = diffusion_scales(lambda v: W @ v, X.shape[0], settings.anisotropy)
    return diffusion_operator(W, anisotropy=settings.anisotropy), first


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        **ENTROPY_CONSTRAINTS,
        "return_eigenvalues": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def diffusion_spectral_entropy(
    X,
    *,
    bandwidth="median",
    t=1,
    anisotropy=0.0,
    solver="exact",
    n_neighbors=None,
    n_landmarks=1000,
    n_probes=40,
    n_steps=30,
    max_samples=10_000,
    base=2,
    random_state=None,
    return_eigenvalues=False,
):
    r"""Diffusion spectral entropy (DSE): how many directions or clusters a point cloud has.

    A Gaussian kernel makes a random walk of the points; the entropy is that of its eigenvalues,
    each to the power `t`, scaled to sum to one:

    .. math:: S = -\sum_i a_i \log a_i, \qquad a_i = |\lambda_i|^t / \sum_j |\lambda_j|^t .

    It is 0 for a single blob that the walk mixes at once, log c for c separate tight clusters,
    and at most log n. It rises with the intrinsic dimension, and hardly sees noise when `t` is
    2 or more.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The points. Flatten activations of convolutional layers first.
    bandwidth : float or "median", default="median"
        Standard deviation of the kernel, in the units of `X`. "median" is the median distance
        of at most 1000 points over the square root of two. Entropies can be compared at one
        bandwidth only: fix it, or use :class:`~sklr.manifold.DiffusionSpectralEntropy`.
    t : float, default=1
        Steps of the walk. With larger ones small eigenvalues, hence noise, count less; 2 is
        recommended for noisy data.
    anisotropy : float, default=0.0
        Exponent of the density that is divided out of the kernel. 0 gives the published
        numbers, 0.5 what the paper writes.
    solver : {"exact", "lanczos", "landmark"}, default="exact"
        "exact": all eigenvalues, O(n^3), or less when the kernel has a low rank. "lanczos":
        stochastic Lanczos quadrature, O(n^2) for each probe and step. "landmark": a low-rank
        factor of the kernel, O(n * n_landmarks^2), without an n x n matrix; for kernels whose
        spectrum falls fast.
    n_neighbors : int, default=None
        Keep the kernel between this many neighbours and the point itself only. The sparse
        kernel suits "lanczos" with very many points, and gives another entropy.
    n_landmarks : int, default=1000
        Largest number of landmarks.
    n_probes : int, default=40
        Random vectors of "lanczos", and as many leading directions that are taken one by one.
    n_steps : int, default=30
        Lanczos steps for each.
    max_samples : int or None, default=10_000
        "exact" and "lanczos" take at most this many random rows; None takes all. The entropy
        grows with the number of points.
    base : float, default=2
        Base of the logarithm: 2 gives bits.
    random_state : int, RandomState instance or None, default=None
        Draws rows, probes and landmarks.
    return_eigenvalues : bool, default=False
        Whether to return the eigenvalues too; not with "lanczos", which finds none.

    Returns
    -------
    entropy : float
        The entropy, from 0 to log n.
    eigenvalues : ndarray of shape (n_eigenvalues,)
        Decreasing, only with `return_eigenvalues`.

    See Also
    --------
    diffusion_spectral_mutual_information : What a target says about the points.
    sklr.manifold.DiffusionSpectralEntropy : Estimator that keeps the bandwidth.
    sklearn.feature_selection.mutual_info_classif : Mutual information of single features.

    Notes
    -----
    The paper divides the kernel by the square roots of both densities and walks on what comes
    out; its code takes the spectrum of the first step. These differ, and all published numbers
    are the code's: ``anisotropy=0.0``.

    References
    ----------
    .. [1] D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel,
       I. Adelstein, S. Krishnaswamy, "Assessing neural network representations during training
       using noise-resilient diffusion spectral entropy", 2023. https://arxiv.org/abs/2312.04823

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import diffusion_spectral_entropy
    >>> X = np.repeat(10 * np.eye(4), 25, axis=0)  # four tight clusters
    >>> round(diffusion_spectral_entropy(X, bandwidth=1.0), 6)
    2.0
    """
    if return_eigenvalues and solver == "lanczos":
        raise ValueError("return_eigenvalues needs solver='exact' or 'landmark', got 'lanczos'.")
    settings = Settings(
        bandwidth, t, anisotropy, solver, n_neighbors, n_landmarks, n_probes, n_steps, max_samples,
        base,
    )  # fmt: skip
    found = entropy_of_cloud(check_cloud(X), settings, check_random_state(random_state))
    return (found.value, found.eigenvalues) if return_eigenvalues else found.value


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "y": ["array-like"],
        "y_discrete": ["boolean", StrOptions({"auto"})],
        "n_clusters": [Interval(Integral, 2, None, closed="left")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        **ENTROPY_CONSTRAINTS,
    },
    prefer_skip_nested_validation=True,
)
def diffusion_spectral_mutual_information(
    X,
    y,
    *,
    y_discrete="auto",
    n_clusters=10,
    n_repeats=5,
    bandwidth="median",
    t=1,
    anisotropy=0.0,
    solver="exact",
    n_neighbors=None,
    n_landmarks=1000,
    n_probes=40,
    n_steps=30,
    max_samples=10_000,
    base=2,
    random_state=None,
):
    r"""Diffusion spectral mutual information (DSMI) of a point cloud and a target.

    How much less entropy a group of samples with one value of `y` has than as many samples
    drawn from all:

    .. math:: I(X; y) = \sum_b \frac{n_b}{n}
        \big[ \mathrm{mean}_r\, S(X_{r}) - S(X_b) \big], \qquad |X_r| = |X_b| = n_b .

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The points.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels of groups, a continuous target, or other data of the same samples.
    y_discrete : bool or "auto", default="auto"
        Whether `y` holds labels. "auto": text, booleans, and numbers that are all whole are
        labels. A continuous `y` is cut into bins of equal width, one of several columns into
        clusters (spectral clustering on nearest neighbours).
    n_clusters : int, default=10
        Number of bins or clusters of a `y` that is not discrete.
    n_repeats : int, default=5
        Random subsets for each group.
    bandwidth : float or "median", default="median"
        As in :func:`diffusion_spectral_entropy`; found once, from all points.
    t : float, default=1
        As in :func:`diffusion_spectral_entropy`.
    anisotropy : float, default=0.0
        As in :func:`diffusion_spectral_entropy`.
    solver : {"exact", "lanczos", "landmark"}, default="exact"
        As in :func:`diffusion_spectral_entropy`, for each group.
    n_neighbors : int, default=None
        As in :func:`diffusion_spectral_entropy`; smaller than the smallest group.
    n_landmarks : int, default=1000
        As in :func:`diffusion_spectral_entropy`.
    n_probes : int, default=40
        As in :func:`diffusion_spectral_entropy`.
    n_steps : int, default=30
        As in :func:`diffusion_spectral_entropy`.
    max_samples : int or None, default=10_000
        At most this many random samples are used.
    base : float, default=2
        Base of the logarithm: 2 gives bits.
    random_state : int, RandomState instance or None, default=None
        Draws samples, subsets, probes and landmarks.

    Returns
    -------
    information : float
        About 0 when `y` says nothing (it may be a little below), at most the entropy of the
        groups when `y` says which tight cluster a sample is in.

    Warns
    -----
    UserWarning
        Groups of one sample were left out: they have no entropy.

    See Also
    --------
    diffusion_spectral_entropy : The entropy itself.
    sklearn.feature_selection.mutual_info_classif : Mutual information of single features.

    Notes
    -----
    Subsets are as large as the groups because the entropy grows with the number of points: the
    difference between the entropy of all and the mean entropy of groups would not be zero for
    labels that say nothing.

    References
    ----------
    .. [1] D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel,
       I. Adelstein, S. Krishnaswamy, "Assessing neural network representations during training
       using noise-resilient diffusion spectral entropy", 2023. https://arxiv.org/abs/2312.04823

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import diffusion_spectral_mutual_information
    >>> y = np.repeat(["a", "b", "c", "d"], 25)
    >>> X = np.repeat(10 * np.eye(4), 25, axis=0)  # y says where a sample is
    >>> information = diffusion_spectral_mutual_information(X, y, bandwidth=1.0, random_state=0)
    >>> bool(1.9 < information <= 2)
    True
    """
    X = centred(check_cloud(X))
    check_consistent_length(X, y)
    rng = check_random_state(random_state)
    group = groups_of(y, y_discrete, n_clusters, rng)
    if max_samples is not None and X.shape[0] > max_samples:
        rows = np.sort(rng.choice(X.shape[0], max_samples, replace=False))
        X, group = X[rows], group[rows]
    labels, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if len(labels) < 2:
        raise ValueError("y has a single class or value: it cannot say anything about X.")
    lone = counts < 2
    if np.count_nonzero(~lone) < 2:
        raise ValueError(
            f"y has {len(labels)} groups, of which {np.count_nonzero(~lone)} hold two samples or "
            "more; at least two are needed. With y_discrete=False its values are binned."
        )
    if lone.any():
        warn_user(
            f"{np.count_nonzero(lone)} of {len(labels)} groups of y hold one sample only and are "
            "left out.",
        )
        keep = ~lone[group]
        X, group = X[keep], group[keep]
    if isinstance(bandwidth, str):
        bandwidth = median_bandwidth(X)
    settings = Settings(
        bandwidth, t, anisotropy, solver, n_neighbors, n_landmarks, n_probes, n_steps, None, base
    )
    n = X.shape[0]
    total = 0.0
    for label in np.unique(group):
        members = np.flatnonzero(group == label)
        inside = entropy_of_cloud(X[members], settings, rng).value
        subsets = [
            entropy_of_cloud(X[rng.choice(n, len(members), replace=False)], settings, rng).value
            for _ in range(n_repeats)
        ]
        total += len(members) / n * (np.mean(subsets) - inside)
    return float(total)


def groups_of(y, y_discrete, n_clusters, random_state):
    """Group number of each sample, from labels, bins or clusters."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2):
        raise ValueError(f"y must have one or two dimensions, got shape {y.shape}.")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y contains NaN or infinity.")
    if isinstance(y_discrete, str):
        y_discrete = y.ndim == 1 and type_of_target(y, input_name="y") in ("binary", "multiclass")
    if y_discrete:
        return np.unique(y, axis=0 if y.ndim == 2 else None, return_inverse=True)[1].ravel()
    y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    if y.ndim == 1:
        low, width = y.min(), np.ptp(y)
        if width == 0:
            return np.zeros(len(y), dtype=np.intp)
        return np.minimum(((y - low) / width * n_clusters).astype(np.intp), n_clusters - 1)
    from sklearn.cluster import SpectralClustering

    if len(y) <= n_clusters:
        raise ValueError(f"n_clusters={n_clusters} must be smaller than n_samples = {len(y)}.")
    clustering = SpectralClustering(
        n_clusters,
        affinity="nearest_neighbors",
        n_neighbors=min(10, len(y)),
        assign_labels="cluster_qr",
        random_state=random_state,
    )
    return clustering.fit_predict(y)


@validate_params(
    {
        "X": ["array-like"],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "base": [Interval(Real, 1, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def shannon_binned_entropy(X, n_bins=2, *, base=2):
    """Shannon entropy of a point cloud whose coordinates are binned.

    The classical baseline: each column is scaled to the unit interval and cut into bins of
    equal width, and points in the same cell are one symbol. In many dimensions every point is
    alone in its cell and the entropy is log n, whatever the data.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The points.
    n_bins : int, default=2
        Bins of each column.
    base : float, default=2
        Base of the logarithm: 2 gives bits.

    Returns
    -------
    entropy : float
        From 0 to log n.

    See Also
    --------
    diffusion_spectral_entropy : Sees structure in many dimensions and through noise.

    Examples
    --------
    >>> from sklr.metrics import shannon_binned_entropy
    >>> shannon_binned_entropy([[0, 0], [0, 1], [1, 0], [1, 1]])
    2.0
    """
    X = check_array(X, dtype=np.float64, input_name="X")
    width = np.ptp(X, axis=0)
    scaled = (X - X.min(axis=0)) / np.where(width > 0, width, 1.0)
    cells = np.minimum((scaled * n_bins).astype(np.int64), n_bins - 1)
    p = np.unique(cells, axis=0, return_counts=True)[1] / len(X)
    return max(0.0, float(-(p * np.log(p)).sum() / np.log(base)))
