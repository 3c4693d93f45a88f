"""Subspace iteration: a random matrix on its way to a graph's leading eigenvectors."""

import numpy as np

from sklr.manifold import _fastrp_core as core
from sklr.utils._threads import single_blas_thread

# Products between two orthonormalisations.
_BETWEEN = 3


def leading_subspace(operator, start, n_iter, *, transition, threads):
    """Return power 0 after `n_iter` products with the graph, its columns made orthonormal.

    Subspace iteration: the columns tend to a basis of the graph's leading eigenvectors, in the
    inner product in which the matrix of an undirected graph is symmetric. With more columns than
    there are directions rows have the inner products that they have in such a basis.
    """
    if isinstance(start, core.SparseRows):
        start = start.tocsr().toarray()
    share = None
    if transition:
        share = operator.degrees / max(operator.degrees.sum(), np.finfo(float).tiny)
    steps, spare = core.Steps(operator, threads), np.empty_like(start)
    source = start.copy()
    for k in range(1, n_iter + 1):
        steps.product(source, spare, core.Merge())
        source, spare = spare, source
        if k % _BETWEEN == 0 or k == n_iter:
            _orthonormalise(source, share)
    return source


def _orthonormalise(table, share):
    """Make columns orthonormal in place; rows count by `share`. One BLAS thread, fixed blocks."""
    d = table.shape[1]
    blocks = [slice(first, first + 8192) for first in range(0, len(table), 8192)]
    with single_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        gram = np.zeros((d, d))
        for rows in blocks:
            block = table[rows].astype(np.float64)
            gram += block.T @ (block if share is None else block * share[rows, None])
        core.check_range(gram, table.dtype)
        size = np.sqrt(np.diagonal(gram))
        size = np.where(size > 0, size, 1.0)
        squares, axes = np.linalg.eigh(gram / np.outer(size, size))
        # Below this a direction is made of rounding: of the table's, or of the squares'.
        least = max((64 * np.finfo(table.dtype).eps) ** 2, 1e-13)
        kept = squares > least * max(squares[-1], 0.0)
        inverse = np.zeros(d)
        inverse[kept] = 1.0 / np.sqrt(squares[kept])
        # Back along the same axes: eigenvalues near one another do not let rounding turn the basis.
        change = (axes * inverse) @ axes.T / size[:, None]
        for rows in blocks:
            table[rows] = table[rows].astype(np.float64) @ change
