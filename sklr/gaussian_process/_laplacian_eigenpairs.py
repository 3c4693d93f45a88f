"""Lowest eigenpairs of graph Laplacians, scalar or of a connection."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu

from sklr.utils._threads import single_blas_thread

# Up to this many rows a dense decomposition is quicker than an iteration.
_DENSE = 400
# Neighbouring eigenvalues closer than this, relative, are one eigenvalue.
_SAME = 1e-8


def lowest_eigenpairs(L, n_eigenpairs, *, random_state=None):
    """Lowest eigenpairs of a symmetric positive semidefinite sparse matrix, ascending.

    By Lanczos iteration on the shifted inverse: one sparse factorisation, and two to four
    solves for each eigenpair.

    A multiple eigenvalue is never cut in two, as half of its eigenspace would depend on
    rounding: when the last one is not complete, fewer pairs come back.

    Parameters
    ----------
    L : sparse array of shape (n, n)
        The matrix.
    n_eigenpairs : int
        How many, at most n.
    random_state : RandomState, default=None
        Draws the vector that the iteration begins with.

    Returns
    -------
    eigenvalues : ndarray of shape (r,)
        Ascending, none below zero.
    eigenvectors : ndarray of shape (n, r)
        Orthonormal columns.
    """
    n = L.shape[0]
    wanted = min(n_eigenpairs + 1, n)
    if n <= _DENSE or wanted > n // 2:
        values, vectors = np.linalg.eigh(L.toarray())
        values, vectors = values[:wanted], vectors[:, :wanted]
    else:
        values, vectors = _shift_invert(L, wanted, random_state)
    keep = min(n_eigenpairs, n)
    if wanted > keep:
        same = np.diff(values) <= _SAME * max(values[-1], np.finfo(float).tiny)
        while keep > 1 and same[keep - 1]:
            keep -= 1
        if keep == 1 and same[0]:
            keep = n_eigenpairs  # all of them are one eigenvalue
    return np.maximum(values[:keep], 0.0), vectors[:, :keep]


def _shift_invert(L, wanted, random_state):
    n = L.shape[0]
    shift = 1e-2 * L.diagonal().mean()
    shifted = sparse.csc_array(L + shift * sparse.eye_array(n))
    # Positive definite: no pivoting, and an ordering of the symmetric pattern, which leaves a
    # third of the fill of the default one.
    factors = splu(
        shifted,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    start = np.random.RandomState(0) if random_state is None else random_state
    operator = LinearOperator((n, n), matvec=factors.solve, dtype=np.float64)
    try:
        with single_blas_thread():  # vectors, one at a time
            values, vectors = eigsh(
                L,
                wanted,
                sigma=-shift,
                OPinv=operator,
                v0=start.standard_normal(n),
                maxiter=100 * wanted,
            )
    except ArpackNoConvergence as exc:
        raise RuntimeError(
            f"{len(exc.eigenvalues)} of {wanted} eigenpairs converged; ask for fewer."
        ) from exc
    order = np.argsort(values)
    return values[order], vectors[:, order]
