"""Tucker decomposition of arrays and of sums of products: truncated singular values by mode."""

from numbers import Real

import numpy as np
from scipy.linalg import qr, svd

from sklr.utils._threads import single_blas_thread

# Singular values below this share of the norm are rounding.
_SMALLEST_TOL = 10 * np.finfo(np.float64).eps
# Entries of the largest array that sums of products are collected in at once.
_CHUNK = 4_000_000
# Entries of the largest core.
MAX_CORE = 20_000_000


def moderate(C):
    """Return an array of moderate size and the power of two that it has to be multiplied with.

    Squares of entries beyond 1e100, or all below 1e-100, would leave the range of numbers.
    """
    largest = np.abs(C).max(initial=0.0)
    if largest == 0.0 or 1e-100 < largest < 1e100:
        return C, 1.0
    scale = float(np.exp2(np.floor(np.log2(largest))))
    return C / scale, scale


def mode_product(C, M, k):
    """Return the product of the array `C` with the matrix `M` along axis k."""
    before, n, after = int(np.prod(C.shape[:k])), C.shape[k], int(np.prod(C.shape[k + 1 :]))
    if before == 1:
        out = M @ C.reshape(n, after)
    elif after == 1:
        out = C.reshape(before, n) @ M.T
    else:
        out = np.matmul(M, C.reshape(before, n, after))
    return out.reshape(*C.shape[:k], len(M), *C.shape[k + 1 :])


def multiply(core, factors):
    """Return the full array of a Tucker decomposition."""
    # Those that enlarge least come first.
    for k in sorted(range(core.ndim), key=lambda k: factors[k].shape[0] / factors[k].shape[1]):
        core = mode_product(core, factors[k], k)
    return core


def singular(A):
    """Return left singular vectors and singular values of `A`, wide or tall.

    Through the triangular factor of its transpose: the Gram matrix would lose half the digits.
    """
    if A.shape[1] > A.shape[0]:
        A = triangle(A.T).T
    U, s, _ = svd(A, full_matrices=False, check_finite=False)
    return U, s


def triangle(A):
    """Return the triangular factor of a tall `A`, block of rows by block of rows."""
    n = A.shape[1]
    rows = max(4 * n, 256)
    R = np.empty((0, n))
    for start in range(0, len(A), rows):
        stack = np.concatenate([R, A[start : start + rows]])
        R = qr(stack, mode="r", overwrite_a=True, check_finite=False)[0][:n]
    return R


def rank_of(s, threshold, limit=None):
    """Return how many singular values to keep: those before the tail whose norm is allowed."""
    tails = np.sqrt(np.cumsum(s[::-1] ** 2))[::-1]
    rank = max(1, int(np.count_nonzero(tails > threshold)))
    return rank if limit is None else min(rank, limit)


def orthonormalize(core, factors):
    """Return the same function with orthonormal factors: their triangles go into the core."""
    done = []
    for k, V in enumerate(factors):
        Q, R = qr(V, mode="economic", check_finite=False)
        done.append(Q)
        core = mode_product(core, R, k)
    return core, done


def check_tol(tol, name="tol"):
    """Return `tol`, at least rounding."""
    if isinstance(tol, bool) or not isinstance(tol, Real) or not 0 <= tol < 1:
        raise ValueError(f"{name} must be a number from 0 to below 1, got {tol!r}.")
    return max(float(tol), _SMALLEST_TOL)


def check_ranks(ranks, shape, name="ranks"):
    """Return one rank for each axis, None for those without a limit."""
    if ranks is None:
        return [None] * len(shape)
    given = np.asarray(ranks)
    if given.dtype.kind not in "iu" or given.shape not in ((), (len(shape),)):
        raise ValueError(
            f"{name} must be an integer or one for each of the {len(shape)} axes, got {ranks!r}."
        )
    given = [int(r) for r in np.broadcast_to(given, len(shape))]
    for k, (r, m) in enumerate(zip(given, shape, strict=True)):
        if not 1 <= r <= m:
            raise ValueError(f"{name} of axis {k} must be from 1 to its length {m}, got {r}.")
    return given


def hosvd(C, tol=1e-8, ranks=None, *, n_iter=0):
    """Tucker decomposition by sequentially truncated singular value decompositions.

    Parameters
    ----------
    C : array-like of shape (m_1, .., m_d)
        The array.
    tol : float, default=1e-8
        Largest error in the Frobenius norm, as a share of the norm of `C`. Not below ten
        times the rounding error.
    ranks : int, sequence of int or None, default=None
        The ranks, for all axes or each; with them `tol` counts for nothing.
    n_iter : int, default=0
        Sweeps of alternating least squares (higher-order orthogonal iteration) afterwards. They
        never raise the error; they lower it by less than a hundredth most of the time.

    Returns
    -------
    core : ndarray of shape (r_1, .., r_d)
        The core.
    factors : list of ndarray of shape (m_k, r_k)
        Matrices with orthonormal columns: `C` is close to the core times them.

    See Also
    --------
    rhosvd : The same for a sum of products, which is never formed.

    Notes
    -----
    The error is at most the square root of d times that of the best decomposition with the same
    ranks. An axis is decomposed after the axes before it were projected, which makes the array
    smaller at each step.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import hosvd
    >>> x = np.arange(4.0)
    >>> core, factors = hosvd(np.sin(x[:, None, None] + x[:, None] + x))
    >>> core.shape, factors[0].shape
    ((2, 2, 2), (4, 2))
    """
    C = np.asarray(C)
    C = C.astype(np.float64) if C.dtype != np.float64 else C
    if C.ndim == 0 or C.size == 0:
        raise ValueError(f"C must have entries and at least one axis, its shape is {C.shape}.")
    if not np.isfinite(C).all():
        where = np.unravel_index(np.flatnonzero(~np.isfinite(C))[0], C.shape)
        raise ValueError(f"C must be finite, C{[int(i) for i in where]} is {C[where]}.")
    limits = check_ranks(ranks, C.shape)
    C, scale = moderate(C)
    threshold = check_tol(tol) * np.linalg.norm(C) / np.sqrt(C.ndim) if ranks is None else -1.0
    core, factors = C, []
    with single_blas_thread():
        for k in range(C.ndim):
            U, s = singular(np.moveaxis(core, k, 0).reshape(core.shape[k], -1))
            rank = rank_of(s, threshold, limits[k]) if ranks is None else limits[k]
            if rank > U.shape[1]:  # fewer columns than the rank that is asked for
                U = qr(U, check_finite=False)[0]
            factors.append(np.ascontiguousarray(U[:, :rank]))
            core = mode_product(core, factors[k].T, k)
        for _ in range(n_iter):
            core = _improve(C, factors)
    return core * scale if scale != 1.0 else core, factors


def _improve(C, factors):
    """Replace each factor by the best one given the others, in place; return the core."""
    projected = C
    for k in range(C.ndim):
        projected = C
        for j in range(C.ndim):
            if j != k:
                projected = mode_product(projected, factors[j].T, j)
        U, _ = singular(np.moveaxis(projected, k, 0).reshape(C.shape[k], -1))
        if U.shape[1] >= factors[k].shape[1]:
            factors[k] = np.ascontiguousarray(U[:, : factors[k].shape[1]])
    return mode_product(projected, factors[-1].T, C.ndim - 1)


def sum_of_products(weights, factors):
    """Return sum_r weights[r] outer(factors[0][:, r], .., factors[-1][:, r])."""
    shape = [len(U) for U in factors]
    out = np.zeros((shape[0], int(np.prod(shape[1:]))))
    step = max(1, _CHUNK // max(1, out.shape[1]))
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        columns = np.ones((1, len(weights[part])))
        for U in factors[1:]:
            columns = (columns[:, None] * U[None, :, part]).reshape(-1, columns.shape[1])
        out += (factors[0][:, part] * weights[part]) @ columns.T
    return out.reshape(shape)


def check_products(weights, factors):
    """Return weights (R,) and factors (m_k, R) as float arrays, or say what does not fit."""
    weights = np.asarray(weights, dtype=np.float64)
    factors = [np.asarray(U, dtype=np.float64) for U in factors]
    if weights.ndim != 1 or len(weights) == 0 or not factors:
        raise ValueError(
            f"weights must be of shape (R,), R > 0, with at least one factor, got shape "
            f"{weights.shape} and {len(factors)} factors."
        )
    for name, part in [
        ("weights", weights),
        *((f"factors[{k}]", U) for k, U in enumerate(factors)),
    ]:
        if name != "weights" and (part.ndim != 2 or part.shape[1] != len(weights) or not len(part)):
            raise ValueError(
                f"{name} must be of shape (m, R={len(weights)}) as weights has {len(weights)} "
                f"entries, got {part.shape}."
            )
        if not np.isfinite(part).all():
            where = np.unravel_index(np.flatnonzero(~np.isfinite(part))[0], part.shape)
            raise ValueError(
                f"{name}{[int(i) for i in where]} is {part[where]}: it must be finite."
            )
    return weights, factors


def spread(weights, factors):
    """Spread the size of each term evenly over its factors.

    Returns the signs of the terms, and factors whose columns all have as norm the d-th root of
    the term's size: what is small in them is small in the sum.
    """
    norms = np.array([np.linalg.norm(U, axis=0) for U in factors])
    with np.errstate(divide="ignore"):
        share = (np.log(np.abs(weights)) + np.log(norms).sum(axis=0)) / len(factors)
    share = np.where(np.isfinite(share), np.exp(share), 0.0)
    signs = np.sign(weights)
    return signs, [
        U * (share / np.where(norm > 0, norm, 1.0)) for U, norm in zip(factors, norms, strict=True)
    ]


def _norm_estimate(signs, factors, n_draws=64):
    """Estimate the norm of the sum: products with random signs have its square as their mean."""
    rng = np.random.default_rng(0)
    value = np.broadcast_to(signs, (n_draws, len(signs)))
    for U in factors:
        value = value * (rng.choice([-1.0, 1.0], size=(n_draws, len(U))) @ U)
    return float(np.sqrt(np.mean(value.sum(axis=1) ** 2)))


def rhosvd(weights, factors, tol=1e-8, ranks=None):
    """Tucker decomposition of a sum of products, which is never formed.

    Parameters
    ----------
    weights : array-like of shape (R,)
        Weights of the terms.
    factors : list of array-like of shape (m_k, R)
        One matrix for each axis; term r is the outer product of the columns r.
    tol : float, default=1e-8
        Largest error in the Frobenius norm, as a share of the norm of the sum.
    ranks : int, sequence of int or None, default=None
        Largest ranks, for all axes or each.

    Returns
    -------
    core : ndarray of shape (r_1, .., r_d)
        The core.
    factors : list of ndarray of shape (m_k, r_k)
        Matrices with orthonormal columns.

    See Also
    --------
    hosvd : The same for an array.

    Notes
    -----
    Columns are weighted by the d-th root of the size of their term before they are cut, with a
    share of the tolerance that allows for terms cancelling each other, as far as an estimate of
    the norm of the sum shows; the small core is then decomposed once more. Cutting columns that
    are not weighted, with the same absolute tolerance for any data, is off by as much as the
    weights are.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import rhosvd
    >>> U = np.random.default_rng(0).standard_normal((50, 3))
    >>> core, factors = rhosvd([1.0, 2.0, 1e-12], [U, U, U])
    >>> core.shape
    (2, 2, 2)
    """
    tol = check_tol(tol)
    weights, factors = check_products(weights, factors)
    weights, scale = moderate(weights)
    limits = check_ranks(ranks, [len(U) for U in factors])
    signs, factors = spread(weights, factors)
    d = len(factors)
    with single_blas_thread():
        size = np.sqrt((np.linalg.norm(factors[0], axis=0) ** (2 * d - 2)).sum())
        threshold = 0.5 * tol / d * _norm_estimate(signs, factors) / max(size, 1e-300)
        bases, small = [], []
        for U in factors:
            left, s = singular(U)
            rank = rank_of(s, max(threshold, _SMALLEST_TOL * s[0]))
            bases.append(left[:, :rank])
            small.append(left[:, :rank].T @ U)
        sizes = [len(U) for U in small]
        if np.prod(sizes, dtype=float) > MAX_CORE:
            raise ValueError(
                f"the ranks {tuple(sizes)} that tol={tol:g} asks for make a core of "
                f"{np.prod(sizes, dtype=float):.3g} entries, more than {MAX_CORE}: give a larger "
                "tol, or fewer terms."
            )
        core = sum_of_products(signs, small)
    core, turns = hosvd(core, 0.5 * tol)
    core, turns = _cut(core, turns, limits)
    core = core * scale if scale != 1.0 else core
    return core, [V @ W for V, W in zip(bases, turns, strict=True)]


def _cut(core, factors, limits):
    """Lower the ranks to the limits; the core of `hosvd` has what matters first."""
    if all(limit is None or limit >= r for limit, r in zip(limits, core.shape, strict=True)):
        return core, factors
    wanted = [r if limit is None else min(limit, r) for limit, r in zip(limits, core.shape)]
    core, turns = hosvd(core, ranks=wanted)
    return core, [V @ W for V, W in zip(factors, turns, strict=True)]
