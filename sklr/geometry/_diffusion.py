"""Diffusion on graphs: Laplacians, diffusion operators and their spectra, the heat kernel."""

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from scipy.special import gammaln, ive

from sklr.geometry._neighbors_graph import (
    _power,
    _row_sums,
    anisotropic_affinity,
    scale_both_sides,
)
from sklr.utils._rounding import rounding_of
from sklr.utils._threads import thread_map

LAPLACIANS = ("combinatorial", "normalized", "random_walk")
HEAT_METHODS = ("auto", "chebyshev", "euler", "exact", "squaring", "uniformization")

# Columns a thread takes at once: three blocks of a few thousand rows stay in its cache.
_BLOCK = 32
# Terms beyond the number of edges between the farthest vertices. The first term that reaches a
# vertex is not the largest one there: with 20 more the worst entries were wrong by a tenth, with
# 60 by 1e-13.
_BEYOND = 60
# Times the largest eigenvalue, a time from which on squaring may be the faster way.
_LONG = 1e4


def check_affinity(affinity, name="affinity"):
    """Return a symmetric non-negative affinity as csr_array without diagonal, or complain.

    Parameters
    ----------
    affinity : array-like or sparse matrix of shape (n_samples, n_samples)
        The matrix to check.
    name : str, default="affinity"
        How messages call it.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        float64, zero diagonal, sorted indices, exactly symmetric.
    """
    if not sp.issparse(affinity):
        affinity = np.asarray(affinity)
        if affinity.ndim != 2:
            raise ValueError(f"{name} must be a matrix, got {affinity.ndim} dimensions.")
    if affinity.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {affinity.dtype}.")
    if affinity.shape[0] != affinity.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {affinity.shape}.")
    entries = affinity.data if sp.issparse(affinity) else affinity
    if not np.isfinite(entries).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    W = sp.csr_array(affinity, dtype=np.float64, copy=True)
    W.sum_duplicates()
    rounding = rounding_of(np.asarray(entries))
    if W.nnz and W.data.min() < -rounding:
        raise ValueError(f"{name} must be non-negative, its smallest entry is {W.data.min():.3g}.")
    gap = abs(W - W.T)
    if gap.nnz and gap.max() > rounding:
        raise ValueError(
            f"{name} must be symmetric, it differs from its transpose by up to {gap.max():.3g}; "
            "(A + A.T) / 2 makes it so."
        )
    W = sp.csr_array(0.5 * (W + W.T))
    W.data = np.maximum(W.data, 0.0)
    W.setdiag(0.0)
    W.eliminate_zeros()
    W.sort_indices()
    return W


def graph_laplacian(affinity, kind="combinatorial"):
    """Build the Laplacian of a weighted graph.

    Parameters
    ----------
    affinity : csr_array or ndarray of shape (n_samples, n_samples)
        Symmetric and non-negative; the diagonal is left out.
    kind : {"combinatorial", "normalized", "random_walk"}, default="combinatorial"
        D - W, I - D^(-1/2) W D^(-1/2), or I - D^(-1) W (not symmetric), D the row sums. The
        row of a vertex without edges is zero in each.

    Returns
    -------
    laplacian : csr_array or ndarray of shape (n_samples, n_samples)
        Sparse or dense like the affinity.

    See Also
    --------
    scipy.sparse.csgraph.laplacian : The same two; gives isolated vertices a one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import graph_laplacian
    >>> graph_laplacian(np.array([[0.0, 2.0], [2.0, 0.0]]))
    array([[ 2., -2.],
           [-2.,  2.]])
    """
    if kind not in LAPLACIANS:
        raise ValueError(f"kind must be one of {list(LAPLACIANS)}, got {kind!r}.")
    if sp.issparse(affinity):
        W = sp.csr_array(affinity, dtype=np.float64, copy=True)
        W.setdiag(0.0)
        W.eliminate_zeros()
    else:
        W = np.array(affinity, dtype=np.float64)
        np.fill_diagonal(W, 0.0)
    degree = _row_sums(W)
    if kind == "combinatorial":
        diagonal = degree
    else:
        diagonal = (degree > 0).astype(np.float64)
        if kind == "normalized":
            W = scale_both_sides(W, _power(degree, -0.5))
        elif sp.issparse(W):
            W.data = W.data * np.repeat(_power(degree, -1.0), np.diff(W.indptr))
        else:
            W = W * _power(degree, -1.0)[:, None]
    if sp.issparse(W):
        L = sp.csr_array(sp.diags_array(diagonal) - W)
        L.sort_indices()
        return L
    return np.diag(diagonal) - W


def diffusion_operator(affinity, *, anisotropy=0.0, symmetric=True):
    """Build the diffusion operator of an affinity: a random walk, or its symmetric twin.

    Parameters
    ----------
    affinity : csr_array or ndarray of shape (n_samples, n_samples)
        Symmetric and non-negative; the diagonal (staying in place) is used as it is.
    anisotropy : float, default=0.0
        As in :func:`anisotropic_affinity`.
    symmetric : bool, default=True
        D^(-1/2) W D^(-1/2), or the walk D^(-1) W, whose rows sum to one. Their eigenvalues are
        the same, between -1 and 1; the largest is 1.

    Returns
    -------
    operator : csr_array or ndarray of shape (n_samples, n_samples)
        Sparse or dense like the affinity; rows of isolated vertices are zero.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import diffusion_operator
    >>> diffusion_operator(np.array([[1.0, 3.0], [3.0, 1.0]]), symmetric=False)
    array([[0.25, 0.75],
           [0.75, 0.25]])
    """
    W = anisotropic_affinity(affinity, anisotropy)
    degree = _row_sums(W)
    if symmetric:
        return scale_both_sides(W, _power(degree, -0.5))
    inverse = _power(degree, -1.0)
    if sp.issparse(W):
        W = sp.csr_array(W, copy=True)
        W.data = W.data * np.repeat(inverse, np.diff(W.indptr))
        return W
    return W * inverse[:, None]


def diffusion_spectrum(operator, n_eigenvalues=None, *, return_vectors=False, random_state=0):
    """Compute the largest eigenvalues of a symmetric diffusion operator.

    Parameters
    ----------
    operator : csr_array or ndarray of shape (n_samples, n_samples)
        What :func:`diffusion_operator` returns with ``symmetric=True``.
    n_eigenvalues : int, default=None
        How many; all of them by default, which needs the dense matrix.
    return_vectors : bool, default=False
        Whether eigenvectors are returned too, signs fixed by their largest entry.
    random_state : int, RandomState instance or None, default=0
        Start of the Lanczos iteration that finds a part of the spectrum.

    Returns
    -------
    eigenvalues : ndarray of shape (n_eigenvalues,)
        Decreasing.
    eigenvectors : ndarray of shape (n_samples, n_eigenvalues)
        Only with `return_vectors`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import diffusion_operator, diffusion_spectrum
    >>> diffusion_spectrum(diffusion_operator(np.array([[1.0, 3.0], [3.0, 1.0]])))
    array([ 1. , -0.5])
    """
    n = operator.shape[0]
    k = n if n_eigenvalues is None else n_eigenvalues
    if not 1 <= k <= n:
        raise ValueError(f"n_eigenvalues must be between 1 and {n}, got {n_eigenvalues}.")
    if k > n // 3 or n < 50:
        dense = operator.toarray() if sp.issparse(operator) else np.asarray(operator)
        found = scipy.linalg.eigh(
            dense, eigvals_only=not return_vectors, subset_by_index=(n - k, n - 1)
        )
    else:
        from scipy.sparse.linalg import eigsh
        from sklearn.utils import check_random_state

        start = check_random_state(random_state).uniform(-1, 1, n)
        found = eigsh(
            operator, k=k, which="LA", v0=start, return_eigenvectors=return_vectors
        )  # fmt: skip
    if not return_vectors:
        return np.sort(found)[::-1]
    order = np.argsort(found[0], kind="stable")[::-1]
    vectors = found[1][:, order]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(k)]
    return found[0][order], vectors * np.where(largest < 0, -1.0, 1.0)


def heat_kernel(laplacian, t, B=None, *, method="auto", order=None, tol=1e-12, n_jobs=None):
    """Apply the heat kernel exp(-t L) of a graph to columns.

    The logarithm of the heat kernel is what geodesic distances are made of, so small entries
    matter: "uniformization" and "squaring" only add and multiply non-negative numbers and give
    every entry to a small *relative* error. "chebyshev" has a small absolute error by its
    bound, and in measurements a relative one too, as long as there are more terms than edges
    between the two points; "auto" sees to that. "exact" (eigenvectors) has an absolute error
    of 1e-16: its tails are noise. "euler" has exponential tails instead of Gaussian ones.

    Parameters
    ----------
    laplacian : csr_array or ndarray of shape (n_samples, n_samples)
        Symmetric Laplacian, off-diagonal entries not above zero.
    t : float or array-like of shape (n_times,)
        Positive diffusion times, in units of one over the weights.
    B : ndarray of shape (n_samples, n_columns), default=None
        Columns to act on; the identity by default.
    method : {"auto", "chebyshev", "uniformization", "squaring", "euler", "exact"}, default="auto"
        "auto" is "chebyshev", or "squaring" for the whole kernel after a very long time.
        "squaring" is for ``B=None``: the kernel at a short time, squared often enough.
    order : int, default=None
        Number of terms (steps for "euler"); by default what `tol` and the number of edges
        between the farthest vertices ask for (30 steps for "euler").
    tol : float, default=1e-12
        Absolute error of the polynomial, by its bound.
    n_jobs : int, default=None
        Threads over blocks of columns; results do not depend on it.

    Returns
    -------
    heat : ndarray of shape (n_samples, n_columns) or (n_times, n_samples, n_columns)
        The columns exp(-t L) B, with an axis of times in front when `t` is an array.

    See Also
    --------
    scipy.sparse.linalg.expm_multiply : For general matrices; no relative accuracy.

    Notes
    -----
    Chebyshev takes about sqrt(t * lambda_max) products with the sparse matrix for all times
    together, uniformization t * max(L_ii) for each.

    References
    ----------
    .. [1] G. Huguet et al., "A Heat Diffusion Perspective on Geodesic Preserving
       Dimensionality Reduction", NeurIPS 2023. https://arxiv.org/abs/2305.19043

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.geometry import graph_laplacian, heat_kernel
    >>> W = np.ones((3, 3))
    >>> heat_kernel(graph_laplacian(W), 0.1).round(4)
    array([[0.8272, 0.0864, 0.0864],
           [0.0864, 0.8272, 0.0864],
           [0.0864, 0.0864, 0.8272]])
    """
    if method not in HEAT_METHODS:
        raise ValueError(f"method must be one of {list(HEAT_METHODS)}, got {method!r}.")
    L = sp.csr_array(laplacian, dtype=np.float64)
    if not L.has_sorted_indices:
        L = L.sorted_indices()
    n = L.shape[0]
    times = np.atleast_1d(np.asarray(t, dtype=np.float64))
    if times.ndim != 1 or not np.isfinite(times).all() or not (times > 0).all():
        raise ValueError(f"t must be positive and finite, got {t!r}.")
    if order is not None and order < 1:
        raise ValueError(f"order must be at least 1, got {order!r}.")
    if B is not None:
        B = np.ascontiguousarray(B, dtype=np.float64)
        if B.ndim != 2 or B.shape[0] != n:
            raise ValueError(f"B has shape {B.shape}, expected ({n}, n_columns).")
        if method == "squaring":
            raise ValueError("method='squaring' makes the whole kernel; it takes no B.")
    if method == "auto" and B is None and order is None and _squaring_is_faster(L, times):
        method = "squaring"
    if method in ("auto", "chebyshev"):
        out = _chebyshev(L, times, B, order, tol, n_jobs)
    elif method == "uniformization":
        out = np.stack([_uniformization(L, s, B, order, n_jobs) for s in times])
    elif method == "squaring":
        out = np.stack([_squaring(L, s, order, n_jobs) for s in times])
    elif method == "euler":
        out = np.stack([_euler(L, s, B, 30 if order is None else order) for s in times])
    else:
        values, V = scipy.linalg.eigh(L.toarray())
        right = V.T if B is None else V.T @ B
        out = np.stack([(V * np.exp(-s * values)) @ right for s in times])
    return out if np.ndim(t) else out[0]


def hop_diameter(affinity):
    """Return the largest number of edges between two vertices, as two sweeps find it.

    Parameters
    ----------
    affinity : csr_array of shape (n_samples, n_samples)
        Symmetric pattern of edges; a Laplacian will do.

    Returns
    -------
    diameter : int
        Of the component with the longest path found; a lower bound, mostly sharp.
    """
    from sklr.geometry._diffusion_kernels import hop_depth

    n = affinity.shape[0]
    n_components, labels = sp.csgraph.connected_components(affinity, directed=False)
    depth, queue = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    indptr, indices = affinity.indptr.astype(np.int32), affinity.indices.astype(np.int32)
    longest = 0
    for source in np.unique(labels, return_index=True)[1]:
        for _ in range(3):
            source, levels = hop_depth(indptr, indices, source, depth, queue)
            longest = max(longest, int(levels))
    return longest


def _largest_eigenvalue_bound(L):
    """Gershgorin's bound."""
    bound = float(np.asarray(abs(L).sum(axis=1)).max())
    return bound if bound > 0 else 1.0


def chebyshev_order(s, hops, tol=1e-12):
    """Terms of exp(-s (1 + x)) for an error of `tol` on [-1, 1] and `hops` edges to cross."""
    # For large s the coefficients fall like exp(-k^2 / 2s).
    k = np.arange(1, int(60 + min(6 * np.sqrt(s + 1) + s / 4, 9 * np.sqrt(s + 1))))
    c = 2.0 * ive(k, s)
    tail = np.cumsum(c[::-1])[::-1]  # from k on
    enough = np.flatnonzero(tail <= tol)
    absolute = int(k[enough[0]]) if len(enough) else int(k[-1])
    return max(absolute, hops + _BEYOND)


def polynomial(A, coefficients, B=None, n_jobs=None):
    """Apply polynomials of a sparse matrix to columns.

    Parameters
    ----------
    A : csr_array of shape (n, n)
        With eigenvalues in [-1, 1], real ones.
    coefficients : ndarray of shape (n_polynomials, n_terms)
        Coefficients of the Chebyshev polynomials.
    B : ndarray of shape (n, n_columns), default=None
        Columns to act on; the identity by default.
    n_jobs : int, default=None
        Threads over blocks of columns.

    Returns
    -------
    out : ndarray of shape (n_polynomials, n, n_columns)
        The polynomials of `A`, times `B`.
    """
    from sklr.geometry._diffusion_kernels import chebyshev

    B = np.eye(A.shape[0]) if B is None else B
    out = np.zeros((len(coefficients), *B.shape))
    parts, coefficients = _csr_parts(A), np.ascontiguousarray(coefficients)
    _over_columns(lambda *room: chebyshev(*parts, coefficients, *room, out), B, n_jobs)
    return out


def _chebyshev(L, times, B, order, tol, n_jobs):
    n = L.shape[0]
    phi = 0.5 * _largest_eigenvalue_bound(L)
    if order is None:
        order = chebyshev_order(times.max() * phi, hop_diameter(L), tol)
    k = np.arange(order + 1)
    # exp(-s(1 + x)) = e^-s (I_0(s) + 2 sum (-1)^k I_k(s) T_k(x)); ive holds the e^-s.
    coefficients = 2.0 * ive(k, times[:, None] * phi) * np.where(k % 2, -1.0, 1.0)
    coefficients[:, 0] *= 0.5
    used = np.flatnonzero(coefficients.any(axis=0))
    A = sp.csr_array(L / phi - sp.eye_array(n))
    return polynomial(A, coefficients[:, : used[-1] + 1], B, n_jobs)


def _poisson(mean, n_terms):
    k = np.arange(n_terms)
    return np.exp(k * np.log(mean) - mean - gammaln(k + 1.0))


def _uniformization(L, t, B, order, n_jobs, hops=None):
    from sklr.geometry._diffusion_kernels import powers

    n = L.shape[0]
    rate = max(float(L.diagonal().max()), np.finfo(float).tiny)
    mean = rate * t
    if order is None:
        hops = hop_diameter(L) if hops is None else hops
        order = max(int(mean + 12 * np.sqrt(mean + 1) + 30), hops + _BEYOND)
    P = sp.csr_array(sp.eye_array(n) - L / rate)
    if P.nnz and P.data.min() < -1e-12:
        raise ValueError(
            "uniformization needs a Laplacian without positive entries off the diagonal."
        )
    P.data = np.maximum(P.data, 0.0)
    B = np.eye(n) if B is None else B
    out = np.zeros((n, B.shape[1]))
    parts, weights = _csr_parts(P), _poisson(mean, order + 1)
    _over_columns(lambda *room: powers(*parts, weights, *room, out), B, n_jobs)
    return out


def _squaring_is_faster(L, times):
    """Whether products of the dense kernel are less work than as many of the sparse matrix."""
    n, s = L.shape[0], 0.5 * _largest_eigenvalue_bound(L) * times
    if s.max() < _LONG:
        return False
    # An operation of a dense product costs a tenth of one with a sparse matrix.
    dense = 0.1 * n * n * n * np.log2(np.maximum(2.0, s)).sum()
    return 7.4 * np.sqrt(s.max()) * L.nnz * n > 2.0 * dense


def _squaring(L, t, order, n_jobs):
    rate = max(float(L.diagonal().max()), np.finfo(float).tiny)
    n_squarings = max(0, int(np.ceil(np.log2(rate * t))))
    # What 2^s short walks can cross must be the whole graph.
    hops = -(-hop_diameter(L) // 2**n_squarings)
    H = _uniformization(L, t / 2**n_squarings, None, order, n_jobs, hops)
    # Every square doubles what rounding makes of the heat, which is known where none is lost.
    kept = abs(L.sum(axis=1)).max() <= 1e-12 * rate
    for _ in range(n_squarings):
        if kept:
            H *= len(H) / H.sum()
        # The kernel is symmetric: H H^T is half the work of H H.
        square = scipy.linalg.blas.dsyrk(1.0, H, trans=0, lower=1)
        upper = np.triu_indices(len(H), 1)
        square[upper] = square.T[upper]
        # Where every entry stays, nothing flows any more, and further squares would only double
        # what rounding does. What is left at 1e-8 is 1e-16 in the square.
        still = (abs(square - H) <= 1e-8 * square).all()
        H = square
        if still:
            break
    return H


def _euler(L, t, B, n_steps):
    from scipy.sparse.linalg import splu

    n = L.shape[0]
    step = sp.csc_array(sp.eye_array(n) + (t / n_steps) * L)
    solver = splu(step, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    out = np.eye(n) if B is None else B.copy()
    for _ in range(n_steps):
        out = solver.solve(out)
    return out


def _over_columns(function, B, n_jobs):
    """Call function(block, zeros, row, first) for each block of columns, without the others.

    `block` is a copy, `zeros` are as many and `row` is room for one row.
    """

    def call(first):
        block = B[:, first : first + _BLOCK].copy()
        function(block, np.zeros_like(block), np.empty(block.shape[1]), first)

    thread_map(call, list(range(0, B.shape[1], _BLOCK)), n_jobs)


def _csr_parts(A):
    return A.indptr.astype(np.int32), A.indices.astype(np.int32), A.data
