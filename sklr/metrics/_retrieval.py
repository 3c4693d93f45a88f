"""Whether the nearest neighbours of a sample are of its class."""

from numbers import Integral

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sklr.utils._validation import check_array


def recall_at_k(X, y, k=1):
    """Recall at k: how often one of the k nearest other samples is of the same class.

    Each sample is looked up among all others. Samples that are alone in their class are looked
    among, and not looked up: nothing could be found.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_components)
        Embeddings, compared by Euclidean distance. Scale rows to unit length for cosines.
    y : array-like of shape (n_samples,)
        Classes.
    k : int or array-like of int, default=1
        How many neighbours are looked at; several numbers cost no more than the largest.

    Returns
    -------
    recall : float or ndarray of shape (len(k),)
        Between 0 and 1, and not falling with k. At k = 1 it is the accuracy of the
        nearest-neighbour classifier with the sample left out.

    Raises
    ------
    ValueError
        A `k` is no integer between 1 and n_samples - 1, no class has two samples, `y` is
        continuous, or `X` is not a finite table.

    See Also
    --------
    sklearn.neighbors.KNeighborsClassifier : Votes of neighbours.
    sklr.neural_network.DynamicSubspaceEmbedding : Learns embeddings with high recall.

    Examples
    --------
    >>> from sklr.metrics import recall_at_k
    >>> X = [[0.0], [1.0], [1.4], [5.0]]
    >>> y = ["a", "a", "b", "b"]
    >>> recall_at_k(X, y)
    0.5
    >>> recall_at_k(X, y, k=[1, 2, 3]).tolist()
    [0.5, 0.75, 1.0]
    """
    X = check_array(X, dtype=[np.float64, np.float32], input_name="X")
    y = column_or_1d(y)
    check_consistent_length(X, y)
    check_classification_targets(y)
    ks = np.atleast_1d(np.asarray(k))
    whole = ks.ndim == 1 and len(ks) > 0 and ks.dtype.kind in "iu"
    if not whole or ks.min() < 1 or ks.max() > len(X) - 1:
        raise ValueError(
            f"k must be integers from 1 to n_samples - 1 = {len(X) - 1}, got {k!r} for "
            f"n_samples={len(X)}"
        )
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    asked = counts[codes] > 1
    if not asked.any():
        raise ValueError(
            f"no class of y has two samples ({len(counts)} classes, n_samples={len(X)}): there is "
            "nothing to find"
        )
    nearest = NearestNeighbors(n_neighbors=int(ks.max())).fit(X).kneighbors(return_distance=False)
    hits = (codes[nearest] == codes[:, None])[asked]
    recalls = np.logical_or.accumulate(hits, axis=1).mean(axis=0)[ks - 1]
    return float(recalls[0]) if isinstance(k, Integral) or np.ndim(k) == 0 else recalls
