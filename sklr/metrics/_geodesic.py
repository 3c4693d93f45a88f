"""How well an embedding keeps given distances."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import Bunch, check_random_state

from sklr.utils._validation import check_array


def geodesic_preservation_score(
    D_true, embedding, *, n_neighbors=10, metric="embedding", n_rows=None, random_state=None
):
    """Compare an embedding, or a dissimilarity, with true distances, point by point.

    Parameters
    ----------
    D_true : array-like of shape (n_samples, n_samples)
        True distances, for example geodesic ones on the noiseless manifold.
    embedding : array-like of shape (n_samples, n_components) or (n_samples, n_samples)
        Positions, or dissimilarities.
    n_neighbors : int, default=10
        Neighbours that the precision is about.
    metric : {"embedding", "precomputed"}, default="embedding"
        Whether `embedding` holds positions or dissimilarities.
    n_rows : int, default=None
        Points that are averaged over, chosen at random; all by default.
    random_state : int, RandomState instance or None, default=None
        Chooses them.

    Returns
    -------
    scores : Bunch
        Means over the points of ``spearman`` and ``pearson`` (correlation of a point's
        distances to all others; of the embedding, Spearman's is the DEMaP score) and
        ``precision`` (share of the true nearest neighbours among the nearest ones), and
        ``frobenius``, the relative error of all distances at the best common factor.

    References
    ----------
    .. [1] K. R. Moon et al., "Visualizing structure and transitions in high-dimensional
       biological data", Nature Biotechnology 37, 2019. doi:10.1038/s41587-019-0336-3
    .. [2] G. Huguet et al., "A Heat Diffusion Perspective on Geodesic Preserving
       Dimensionality Reduction", NeurIPS 2023. https://arxiv.org/abs/2305.19043

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.metrics import geodesic_preservation_score
    >>> x = np.arange(20.0)[:, None]
    >>> scores = geodesic_preservation_score(abs(x - x.T), 3 * x, n_neighbors=3)
    >>> round(scores.spearman, 6), round(scores.frobenius, 6)
    (1.0, 0.0)
    """
    D_true = check_array(D_true, input_name="D_true")
    n = len(D_true)
    if D_true.shape != (n, n):
        raise ValueError(f"D_true must be a square matrix, got shape {D_true.shape}.")
    if n < 3:
        raise ValueError(f"A correlation needs at least 3 points, got n_samples={n}.")
    if metric not in ("embedding", "precomputed"):
        raise ValueError(f"metric must be 'embedding' or 'precomputed', got {metric!r}.")
    if not D_true.any():
        raise ValueError("D_true is zero everywhere: there is nothing to preserve.")
    Y = check_array(embedding, input_name="embedding")
    if len(Y) != n or (metric == "precomputed" and Y.shape != (n, n)):
        raise ValueError(f"embedding has shape {Y.shape}, which does not fit {n} points.")
    if not 1 <= n_neighbors <= n - 1:
        raise ValueError(f"n_neighbors must be between 1 and {n - 1}, got {n_neighbors}.")
    rows = np.arange(n)
    if n_rows is not None and n_rows < n:
        rows = np.sort(check_random_state(random_state).choice(n, n_rows, replace=False))
    found = cdist(Y[rows], Y) if metric == "embedding" else Y[rows].astype(np.float64)
    true = D_true[rows].astype(np.float64)
    others = np.ones((len(rows), n), dtype=bool)
    others[np.arange(len(rows)), rows] = False
    true = true[others].reshape(len(rows), n - 1)
    found = found[others].reshape(len(rows), n - 1)
    size = float((found**2).sum())
    factor = float((true * found).sum()) / size if size > 0 else 0.0
    return Bunch(
        spearman=float(np.mean(_row_correlations(_ranks(true), _ranks(found)))),
        pearson=float(np.mean(_row_correlations(true, found))),
        precision=_precision(true, found, n_neighbors),
        frobenius=float(np.linalg.norm(true - factor * found) / np.linalg.norm(true)),
    )


def _ranks(A):
    from scipy.stats import rankdata

    return rankdata(A, axis=1)


def _row_correlations(A, B):
    """Pearson's correlation of each row of A with that of B; zero where a row is constant."""
    A = A - A.mean(axis=1, keepdims=True)
    B = B - B.mean(axis=1, keepdims=True)
    size = np.linalg.norm(A, axis=1) * np.linalg.norm(B, axis=1)
    return np.divide((A * B).sum(axis=1), size, out=np.zeros(len(A)), where=size > 0)


def _precision(true, found, k):
    near = np.argpartition(true, k - 1, axis=1)[:, :k]
    near_found = np.argpartition(found, k - 1, axis=1)[:, :k]
    shared = (near[:, :, None] == near_found[:, None, :]).any(axis=2)
    return float(shared.mean())
