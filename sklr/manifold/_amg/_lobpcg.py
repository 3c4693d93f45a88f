"""Smallest eigenpairs of a sparse pencil by preconditioned block iterations (LOBPCG)."""

import numpy as np
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning

from sklr.utils._warnings import warn_user

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
        Block of residuals to block of corrections, near the inverse of `A`. By default
        division by `b`.
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
    root = np.sqrt(b)[:, None]
    if n <= max(5 * width, 500):  # as quick from there on
        dense = A.toarray() / root / root.T
        values, vectors = linalg.eigh(dense, subset_by_index=[0, n_pairs - 1])
        return values, vectors / root, 0
    # The standard problem of the same eigenvalues, so that no inner product has weights.
    inverse_root = sparse.diags_array(1.0 / root[:, 0])
    A = sparse.csr_array(inverse_root @ A @ inverse_root)
    scale = max(float(A.diagonal().max()), 1e-300)
    have = 0 if start is None else min(start.shape[1], width)
    X = np.empty((n, width))
    X[:, :have] = 0.0 if start is None else start[:, :have] * root
    X[:, have:] = rng.standard_normal((n, width - have))
    X, values, AX = _rayleigh_ritz(X, A @ X, width)
    while X.shape[1] < width:  # some of the start depended on the rest
        X = np.column_stack([X, rng.standard_normal((n, width - X.shape[1]))])
        X, values, AX = _rayleigh_ritz(X, A @ X, width)
    P = None
    residual = np.inf
    for iteration in range(1, max_iter + 1):
        if iteration % 10 == 0:
            AX = A @ X  # rounding errors of the recombinations add up otherwise
        R = AX - X * values
        norms = _norms(R) / scale
        residual = float(norms[:n_pairs].max())
        if residual <= tol:
            return values[:n_pairs], X[:, :n_pairs] / root, iteration - 1
        # Columns that have converged get no further directions: theirs would be rounding errors.
        active = norms > 0.1 * tol
        W = R[:, active]
        if precondition is not None:
            W *= root
            W = precondition(W)
            W *= root
        for _ in range(2):
            W -= X @ (X.T @ W)
            W /= np.maximum(_norms(W), 1e-300)
        if P is None:
            blocks, products = [X, W], [AX, A @ W]
        else:
            P = P[:, active]
            P /= np.maximum(_norms(P), 1e-300)
            new = np.column_stack([W, P])
            blocks, products = [X, new], [AX, A @ new]
        S, AS = np.column_stack(blocks), np.column_stack(products)
        C, values = _ritz_coefficients(S, AS, width)
        X, AX = S @ C, AS @ C
        P = S[:, width:] @ C[width:]  # the search direction is the new part
    warn_user(
        f"The eigen-solver stopped after {max_iter} iterations at a residual of {residual:.2g}, "
        f"above eigen_tol={tol:g}. Raise eigen_tol, or give it better smooth vectors "
        "(max_hierarchies).",
        ConvergenceWarning,
    )
    return values[:n_pairs], X[:, :n_pairs], max_iter


def _norms(columns):
    return np.sqrt(np.einsum("ij,ij->j", columns, columns))


def _ritz_coefficients(S, AS, width):
    """Return combinations of the columns of `S` that are the lowest Ritz vectors, and values."""
    gram, energy = S.T @ S, S.T @ AS
    size = 1.0 / np.sqrt(np.maximum(np.diag(gram), 1e-300))
    gram = gram * size * size[:, None]
    shares, basis = linalg.eigh(0.5 * (gram + gram.T))
    kept = shares > _DEPENDENT * shares[-1]
    basis = size[:, None] * (basis[:, kept] / np.sqrt(shares[kept]))
    energy = basis.T @ energy @ basis
    values, turn = linalg.eigh(0.5 * (energy + energy.T))
    return basis @ turn[:, :width], values[:width]


def _rayleigh_ritz(S, AS, width):
    C, values = _ritz_coefficients(S, AS, width)
    return S @ C, values, AS @ C
