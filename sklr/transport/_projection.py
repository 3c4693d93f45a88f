"""The doubly stochastic matrix of a table of scores."""

import numpy as np

from sklr.transport._options import check_count, check_positive
from sklr.transport._sinkhorn import sinkhorn_newton
from sklr.utils._validation import check_array

# Beyond this range of scores, in units of eta, a stored kernel would underflow.
_LARGEST_RANGE = 200.0
# One scaling for both sides has no acceleration: where it is slow the solver takes over.
_MOST_PRODUCTS = 500


def sinkhorn_projection(S, eta, *, max_iter=10_000, tol=1e-9, n_jobs=None):
    r"""Project scores on the doubly stochastic matrices, with an entropy.

    .. math:: \arg\max_{\Gamma \ge 0,\ \Gamma\mathbf 1 = \Gamma^\top\mathbf 1 = \mathbf 1}
              \langle \Gamma, S \rangle + \eta\, H(\Gamma)

    This is entropic transport between uniform weights with costs ``-S``; the result is
    ``exp(S / eta)`` with rows and columns scaled to one.

    Parameters
    ----------
    S : array-like of shape (n, n)
        Scores: the larger, the more mass.
    eta : float
        Weight of the entropy, in units of `S`, above 0. Large: every entry is 1 / n. Small: the
        best assignment.
    max_iter : int, default=10000
        A hundred times the most Newton steps, which are taken where sweeps are slow.
    tol : float, default=1e-9
        Sum of the absolute errors of the row and column sums, divided by n.
    n_jobs : int, default=None
        Threads. Results do not depend on it.

    Returns
    -------
    Gamma : ndarray of shape (n, n)
        Not negative, rows and columns summing to one; exactly symmetric where `S` is.

    Raises
    ------
    ValueError, TypeError
        `S` is not a finite square table, or a parameter is out of range.

    Warns
    -----
    ConvergenceWarning
        The error that was reached, if it is not below `tol`.

    See Also
    --------
    sinkhorn_newton : Any weights.
    sklr.metrics.rate_reduction : Takes the result as a membership.

    References
    ----------
    .. [1] R. Sinkhorn and P. Knopp, "Concerning nonnegative matrices and doubly stochastic
       matrices", Pacific Journal of Mathematics 21(2), 1967.
       https://doi.org/10.2140/pjm.1967.21.343

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import sinkhorn_projection
    >>> S = np.array([[1.0, 0.2, 0.0], [0.2, 1.0, 0.9], [0.0, 0.9, 1.0]])
    >>> sinkhorn_projection(S, eta=0.2).round(2)
    array([[0.98, 0.01, 0.01],
           [0.01, 0.61, 0.37],
           [0.01, 0.37, 0.62]])
    """
    S = check_array(S, dtype=np.float64, input_name="S")
    if S.shape[0] != S.shape[1]:
        raise ValueError(f"S must be square, got shape {S.shape}.")
    eta = check_positive(eta, "eta")
    max_iter = check_count(max_iter, "max_iter", 1)
    tol = check_positive(tol, "tol")
    symmetric = np.array_equal(S, S.T)
    if symmetric and S.max() - S.min() <= _LARGEST_RANGE * eta:
        Gamma = _scale_symmetric(S, eta, max_iter, tol)
        if Gamma is not None:
            return Gamma
    result = sinkhorn_newton(
        None, None, -S, eta, max_iter=-(-max_iter // 100), tol=tol, n_jobs=n_jobs
    )
    Gamma = result.plan * len(S)
    return (Gamma + Gamma.T) / 2 if symmetric else Gamma


def _scale_symmetric(S, eta, max_iter, tol):
    """Scale rows and columns by the same numbers, or return None if that does not converge.

    The mean (of logarithms) of the old scaling and the one that a half step would give: it does
    not swing between rows and columns, and takes some ten products with the kernel.
    """
    kernel = np.exp((S - S.max()) / eta)
    scaling = 1.0 / np.sqrt(kernel.sum(axis=1))
    for _ in range(min(max_iter, _MOST_PRODUCTS)):
        sums = kernel @ scaling
        if np.abs(scaling * sums - 1.0).sum() < tol * len(S):
            kernel *= scaling[:, None]
            kernel *= scaling
            return (kernel + kernel.T) / 2
        scaling = np.sqrt(scaling / sums)
    return None
