"""Starting partitions for subspace clustering: two spectral ones, and random ones."""

import warnings

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from sklr.cluster._subspaces import leading_eigenvectors

# Starts are made on a subset of so many rows, at least and at most: the graph of angles costs N^2.
N_LANDMARKS = (1000, 5000)
# Below it dense matrices are quicker, and exact.
N_DENSE = 400


def unit_rows(X):
    """Return the rows scaled to length one; there must be no zero row."""
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def _labels_of(vectors, n_clusters, seed):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.maximum(lengths, 1e-300)
    with warnings.catch_warnings():
        # Fewer distinct points than clusters: the partition is poor and will lose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(n_clusters, n_init=5, random_state=seed).fit(vectors).labels_


def _embed(affinity, n_clusters, seed):
    """Leading eigenvectors of D^-1/2 W D^-1/2; `affinity` is dense, sparse or an operator."""
    n = affinity.shape[0]
    degree = np.asarray(affinity @ np.ones(n)).ravel()
    scale = 1 / np.sqrt(np.maximum(degree, 1e-12 * max(degree.max(), 1e-300)))
    if n <= max(N_DENSE, 3 * n_clusters):
        dense = affinity @ np.eye(n)
        _, vectors = eigh(scale[:, None] * dense * scale, subset_by_index=[n - n_clusters, n - 1])
        return vectors
    if isinstance(affinity, LinearOperator):
        operator = LinearOperator(
            (n, n), matvec=lambda x: scale * (affinity @ (scale * x.ravel())), dtype=float
        )
    else:
        operator = diags_array(scale) @ affinity @ diags_array(scale)
    start = np.random.default_rng(seed).standard_normal(n)
    try:
        return eigsh(operator, k=n_clusters, which="LA", v0=start, tol=1e-4, maxiter=300)[1]
    except ArpackError as exc:
        vectors = getattr(exc, "eigenvectors", None)
        found = 0 if vectors is None else vectors.shape[1]
        return vectors if found else start[:, None]


def shape_interaction_labels(X, rank, n_clusters, seed):
    """Cluster by the squared shape-interaction matrix, which is never formed.

    Q = V V^T with V the leading left singular vectors has a block for each of independent,
    noise-free subspaces. A product with its entrywise square W is
    (W x)_i = v_i^T (V^T diag(x) V) v_i, so that time is linear in the number of rows.
    """
    Y = unit_rows(X)
    n, p = Y.shape
    most = min(rank, n, p)
    gram = Y @ Y.T if n <= p else Y.T @ Y
    values, V = leading_eigenvectors(gram, most, tol=1e-6)
    keep = values > 1e-12 * values[0]
    V = V[:, keep]
    if n > p:
        V = (Y @ V) / np.sqrt(values[keep])
    if n <= max(N_DENSE, 3 * n_clusters):
        affinity = (V @ V.T) ** 2
        np.fill_diagonal(affinity, 0.0)
    else:
        diagonal = np.einsum("ij,ij->i", V, V) ** 2

        def product(x):
            x = x.ravel()
            return np.einsum("ij,ij->i", V @ (V.T @ (x[:, None] * V)), V) - diagonal * x

        affinity = LinearOperator((n, n), matvec=product, dtype=float)
    return _labels_of(_embed(affinity, n_clusters, seed), n_clusters, seed)


def thresholded_angle_labels(X, n_neighbors, n_clusters, seed):
    """Cluster by the graph of each row's smallest angles with other rows."""
    Y = unit_rows(X)
    n = len(Y)
    q = min(n_neighbors, n - 1)
    if q < 1:
        return np.zeros(n, dtype=int)
    columns = np.empty((n, q), dtype=np.int64)
    weights = np.empty((n, q))
    for first in range(0, n, 512):
        C = np.abs(Y[first : first + 512] @ Y.T)
        rows = np.arange(len(C))
        C[rows, first + rows] = -1.0
        nearest = np.argpartition(-C, q - 1, axis=1)[:, :q]
        columns[first : first + 512] = nearest
        cosines = np.clip(np.take_along_axis(C, nearest, axis=1), 0.0, 1.0)
        weights[first : first + 512] = np.exp(-2.0 * np.arccos(cosines))
    graph = csr_array((weights.ravel(), columns.ravel(), np.arange(n + 1) * q), shape=(n, n))
    return _labels_of(_embed(graph + graph.T, n_clusters, seed), n_clusters, seed)
