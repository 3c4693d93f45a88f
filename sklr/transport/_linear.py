"""The linear system of a Newton step: conjugate gradients that choose their preconditioner."""

import numpy as np
from scipy.sparse import csr_array, tril

# Iterations with the diagonal alone before a factorisation is thought of, and in all.
_FIRST, _MOST = 100, 500
# A factorisation is affordable while the Schur complement takes this many products.
_MOST_PRODUCTS = 2e7
# Below this many kept entries one compiled call is faster than chunks.
_SMALL = 2**17


def solve(entries, inv_a, d, rhs, tol, run, *, factor=False):
    """Solve ``(diag(d) - S' diag(inv_a) S) x = rhs`` to a relative residual `tol`.

    Parameters
    ----------
    entries : tuple of ndarray
        S by rows: indptr, indices, values.
    inv_a : ndarray of shape (n,)
        One over the row sums.
    d : ndarray of shape (m,)
        The diagonal, at least the column sums of the whole plan.
    rhs : ndarray of shape (m,)
        Right-hand side.
    tol : float
        Relative residual in the norm of the diagonal's inverse.
    run : callable
        Maps over chunks of rows.
    factor : bool, default=False
        Whether to begin with an incomplete factorisation: it was needed a step before.

    Returns
    -------
    x : ndarray of shape (m,)
        Solution.
    n_iter : int
        Iterations.
    factor : bool
        Whether the diagonal was not enough.
    """
    indptr, _, values = entries
    x = np.zeros(len(d))
    n_iter, products = 0, float((np.diff(indptr).astype(np.float64) ** 2).sum())
    can_factor = products <= _MOST_PRODUCTS
    if not (factor and can_factor):
        most = _FIRST if can_factor else _MOST
        product = _product(entries, inv_a, d, run)
        n_iter, residual = _iterate(product, lambda r: r / d, rhs, tol, most, x)
        if residual <= tol or not can_factor:
            return x, n_iter, False
    product, precondition = _factored(entries, inv_a, d)
    rest = rhs - product(x)
    scale = np.sqrt(max(rest @ (rest / d), 1e-300) / max(rhs @ (rhs / d), 1e-300))
    correction = np.zeros(len(d))
    more, _ = _iterate(product, precondition, rest, min(1.0, tol / scale), _MOST, correction)
    return x + correction, n_iter + more, True


def _product(entries, inv_a, d, run):
    from sklr.transport import _linear_kernels as kernels

    indptr, indices, values = entries
    if len(values) < _SMALL:

        def product(p):
            out = np.zeros(len(d))
            kernels.schur_product(indptr, indices, values, inv_a, p, out)
            np.subtract(d * p, out, out=out)
            return out

        return product
    edges = np.searchsorted(indptr, np.linspace(0, indptr[-1], 9)[1:-1])
    edges = np.unique(np.concatenate([[0], edges, [len(inv_a)]]))
    chunks = list(zip(edges[:-1], edges[1:], strict=True))

    def product(p):
        def work(chunk):
            start, stop = chunk
            out = np.zeros(len(d))
            rows = indptr[start : stop + 1]
            kernels.schur_product(rows, indices, values, inv_a[start:stop], p, out)
            return out

        total = d * p
        for part in run(work, chunks):
            total -= part
        return total

    return product


def _factored(entries, inv_a, d):
    """Return the matrix as a product, and the inverse of its incomplete factor.

    The matrix is kept as links between columns and as row sums: what it does to potentials that
    are equal over a cluster is not the difference of large numbers.
    """
    from sklr.transport import _linear_kernels as kernels

    indptr, indices, values = entries
    S = csr_array((values, indices, indptr), shape=(len(inv_a), len(d)))
    W = (
        S.T @ csr_array((values * np.repeat(inv_a, np.diff(indptr)), indices, indptr), S.shape)
    ).tocsr()
    W.setdiag(0.0)
    W.eliminate_zeros()
    missing = np.maximum(1.0 - S.sum(axis=1) * inv_a, 0.0)
    excess = np.maximum(d - S.sum(axis=0), 0.0) + S.T @ missing
    excess = np.maximum(excess, 1e-15 * d)
    diagonal = excess + W.sum(axis=0)

    def product(x):
        return diagonal * x - W @ x

    order = np.argsort(np.diff(W.indptr), kind="stable")
    lower = tril(W[order][:, order], -1).tocsc()
    lower.sort_indices()
    links = lower.indptr.astype(np.int64), lower.indices.astype(np.int32), lower.data
    m, capacity, drop = len(d), 10 * (lower.nnz + len(d)), 1e-2
    pivots, l_indptr = np.empty(m), np.zeros(m + 1, dtype=np.int64)
    factor = l_indptr, np.empty(capacity, dtype=np.int32), np.empty(capacity)
    room = np.empty(m), np.empty((5, m), dtype=np.int64)
    while not kernels.incomplete_cholesky(*links, excess[order], drop, pivots, *factor, *room):
        drop *= 10.0

    def precondition(r):
        z = r[order]
        kernels.factor_solve(*factor, pivots, z)
        out = np.empty_like(z)
        out[order] = z
        return out

    return product, precondition


def _iterate(product, precondition, rhs, tol, max_iter, x):
    """Preconditioned conjugate gradients from `x` = 0, in place; iterations and residual."""
    r = rhs.copy()
    z = precondition(r)
    p = z.copy()
    rz = first = float(r @ z)
    n_iter = 0
    while n_iter < max_iter and rz > tol * tol * first:
        q = product(p)
        curvature = float(p @ q)
        if not curvature > 0.0:
            break
        step = rz / curvature
        x += step * p
        r -= step * q
        z = precondition(r)
        rz, before = float(r @ z), rz
        p *= rz / before
        p += z
        n_iter += 1
    return n_iter, np.sqrt(rz / first) if first > 0.0 else 0.0
