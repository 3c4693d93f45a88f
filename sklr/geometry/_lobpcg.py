"""Smallest eigenpairs of a sparse pencil by preconditioned block iterations (LOBPCG)."""

import warnings

import numpy as np
from scipy import linalg
from sklearn.exceptions import ConvergenceWarning

# Directions whose share of the basis is below this are rounding errors.
_DEPENDENT = 1e-10


def smallest_eigenpairs(
    A, b, n_pairs, *, precondition=None, start=None, rng=None, tol=1e-5, max_iter=200
):
    """Return the smallest eigenpairs of ``A x = lambda diag(b) x``.

    Parameters
    ----------
    A : sparse array of shape (n, n)
        Symmetric positive semi-definite.
    b : ndarray of shape (n,)
        Positive.
    n_pairs : int
        Pairs wanted.
    precondition : callable, default=None
        Block of residuals to block of corrections; by default division by the diagonal.
    start : ndarray of shape (n, m), default=None
        Vectors near the wanted ones.
    rng : numpy.random.RandomState
        Fills the block up, with a few vectors more than wanted.
    tol : float, default=1e-5
        Largest residual accepted, in the norm of ``diag(1 / b)`` for vectors of norm 1 in
        ``diag(b)``, relative to the largest diagonal entry of ``A / b``.
    max_iter : int, default=200
        Iterations at most; a ConvergenceWarning says where they did not suffice.

    Returns
    -------
    values : ndarray of shape (n_pairs,)
        Ascending.
    vectors : ndarray of shape (n, n_pairs)
        Orthonormal in ``diag(b)``.
    n_iter : int
        Iterations done; 0 where the dense solver was quicker.
    """
    n = A.shape[0]
    width = min(n_pairs + max(2, n_pairs // 4), n)
    diagonal = A.diagonal()
    scale = float((diagonal / b).max())
    if n <= max(5 * width, 200):
        root = 1.0 / np.sqrt(b)
        dense = A.toarray() * root * root[:, None]
        values, vectors = linalg.eigh(dense, subset_by_index=[0, n_pairs - 1])
        return values, vectors * root[:, None], 0
    if precondition is None:
        inverse = (1.0 / np.where(diagonal > 0, diagonal, 1.0))[:, None]

        def precondition(R):
            return R * inverse

    X = np.empty((n, width)) if start is None else start[:, :width]
    if start is None or X.shape[1] < width:
        have = 0 if start is None else X.shape[1]
        X = np.column_stack([X[:, :have], rng.standard_normal((n, width - have))])
    X, values, AX = _rayleigh_ritz(X, A @ X, b, width)
    while X.shape[1] < width:  # some of the start depended on the rest
        X = np.column_stack([X, rng.standard_normal((n, width - X.shape[1]))])
        X, values, AX = _rayleigh_ritz(X, A @ X, b, width)
    P = None
    residual = np.inf
    for iteration in range(1, max_iter + 1):
        if iteration % 10 == 0:
            AX = A @ X  # rounding errors of the recombinations add up otherwise
        R = AX - (b[:, None] * X) * values
        norms = np.sqrt(np.einsum("ij,ij,i->j", R, R, 1.0 / b)) / max(scale, 1e-300)
        residual = float(norms[:n_pairs].max())
        if residual <= tol:
            return values[:n_pairs], X[:, :n_pairs], iteration - 1
        # Columns that have converged get no further directions: theirs would be rounding errors.
        active = norms > 0.1 * tol
        W = precondition(R[:, active])
        for _ in range(2):
            W -= X @ (X.T @ (b[:, None] * W))
            W /= np.maximum(np.sqrt(np.einsum("ij,ij,i->j", W, W, b)), 1e-300)
        blocks, products = [X, W], [AX, A @ W]
        if P is not None:
            P = P[:, active]
            P /= np.maximum(np.sqrt(np.einsum("ij,ij,i->j", P, P, b)), 1e-300)
            blocks.append(P)
            products.append(A @ P)
        S, AS = np.column_stack(blocks), np.column_stack(products)
        C, values = _ritz_coefficients(S, AS, b, width)
        X, AX = S @ C, AS @ C
        C[:width] = 0.0
        P = S @ C  # the search direction is the new part
    warnings.warn(
        f"The eigen-solver stopped after {max_iter} iterations at a residual of {residual:.2g}, "
        f"above eigen_tol={tol:g}. Raise eigen_tol, or give it better smooth vectors "
        "(max_hierarchies).",
        ConvergenceWarning,
        stacklevel=2,
    )
    return values[:n_pairs], X[:, :n_pairs], max_iter


def _ritz_coefficients(S, AS, b, width):
    """Return combinations of the columns of `S` that are the lowest Ritz vectors, and values."""
    gram = S.T @ (b[:, None] * S)
    energy = S.T @ AS
    size = 1.0 / np.sqrt(np.maximum(np.diag(gram), 1e-300))
    gram = gram * size * size[:, None]
    shares, basis = linalg.eigh(0.5 * (gram + gram.T))
    kept = shares > _DEPENDENT * shares[-1]
    basis = size[:, None] * (basis[:, kept] / np.sqrt(shares[kept]))
    energy = basis.T @ energy @ basis
    values, turn = linalg.eigh(0.5 * (energy + energy.T))
    return basis @ turn[:, :width], values[:width]


def _rayleigh_ritz(S, AS, b, width):
    C, values = _ritz_coefficients(S, AS, b, width)
    return S @ C, values, AS @ C
