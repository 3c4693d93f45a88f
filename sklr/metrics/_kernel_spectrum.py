"""Spectrum of the diffusion operator of a Gaussian kernel: whole, by landmarks, or its sums.

All three see the operator as S G S, with G the kernel and S a diagonal matrix that comes from
row sums: dense G for the whole spectrum, a low-rank factor of G for landmarks, products of G
with vectors for the sums.
"""

import ctypes
import sys
from functools import cache
from importlib import import_module

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from sklearn.metrics.pairwise import euclidean_distances

# A low-rank factor pays below this share of the samples. It is looked for when a part of them,
# in which the rank is a larger share, has not full rank either.
_LOW_RANK = 0.4
_TRIAL = 300
_TRIAL_RANK = 0.75
# From here on the reduction in two steps is the faster one.
_TWO_STEPS = 1200
# Landmarks are taken in blocks of this size.
_BLOCK = 128
# Above this norm, relative to the start, what is left of a Lanczos vector is not rounding.
_BREAKDOWN = 1e-10


def median_bandwidth(X, max_points=1000):
    """Median distance between at most 1000 points, over the square root of two.

    Equal points do not count; 1 where there are no others. The points are drawn with a seed of
    their own: the entropy moves by some hundredths of a bit with the draw, and two solvers, or
    two seeds of one, should look at the same kernel.
    """
    n = X.shape[0]
    if n > max_points:
        X = X[np.random.RandomState(0).choice(n, max_points, replace=False)]
    unit = unit_of(X)
    distances = euclidean_distances(X / unit)[np.triu_indices(X.shape[0], 1)]
    # The expanded square leaves some 1e-8 of the norm between equal points.
    distances = distances[distances > 1e-7 * distances.max(initial=0.0)]
    return unit * float(np.median(distances) / np.sqrt(2)) if distances.size else 1.0


def unit_of(X):
    """Power of two near the largest entry, by which division is exact; 1 for zeros."""
    largest = float(abs(X).max())
    # Its own inverse has to be a number too.
    return float(2.0 ** np.clip(np.frexp(largest)[1], -1000, 1000)) if largest > 0 else 1.0


def gaussian_kernel(X, bandwidth, Y=None):
    """exp(-|x - y|^2 / (2 bandwidth^2)), dense; for points whose size is about one."""
    G = euclidean_distances(X, Y, squared=True)
    # Further out the kernel does not change any more, and the square would not be a number.
    G *= -0.5 / min(max(bandwidth, 1e-150), 1e150) ** 2
    return np.exp(G, out=G)


def diffusion_scales(product, n, anisotropy):
    """Diagonal S that makes S G S the symmetric diffusion operator, and its first eigenvector.

    Parameters
    ----------
    product : callable
        G times a vector.
    n : int
        Number of samples.
    anisotropy : float
        Exponent of the row sums q in G_ij / (q_i q_j) ** anisotropy.

    Returns
    -------
    scales, first : ndarray of shape (n,)
        `first` has norm one and eigenvalue one.
    """
    density = product(np.ones(n))
    before = density**-anisotropy
    degree = before * product(before) if anisotropy > 0 else density
    root = np.sqrt(degree)
    return before / root, root / np.linalg.norm(root)


def dense_operator(G, anisotropy):
    """Turn a dense kernel into its diffusion operator, in place; return it and `first`."""
    scales, first = diffusion_scales(lambda v: G @ v, len(G), anisotropy)
    G *= scales[:, None]
    G *= scales
    return G, first


def exact_eigenvalues(K):
    """All eigenvalues of a positive semidefinite operator, decreasing; `K` is overwritten.

    When a part of the rows has a low rank to rounding, so has the whole, and a pivoted Cholesky
    factor leaves a smaller problem: what it drops is below rounding of the largest entry.
    """
    n = len(K)
    if n > 2 * _TRIAL:
        part = np.arange(0, n, n // _TRIAL)
        if _factor(K[np.ix_(part, part)])[1] < _TRIAL_RANK * len(part):
            L, rank = _factor(K)
            if rank < _LOW_RANK * n:
                found = np.linalg.eigvalsh(scipy.linalg.blas.dsyrk(1.0, L, trans=1, lower=1))
                return np.concatenate([np.maximum(found[::-1], 0.0), np.zeros(n - rank)])
    return _eigenvalues_in_place(K)[::-1]


def _eigenvalues_in_place(K):
    """Eigenvalues of a symmetric matrix whose largest is about one; `K` is overwritten.

    The reduction to three diagonals is nine tenths of the work. LAPACK's usual one waits for
    memory half of the time; the one by way of a band matrix does not, and takes a third less
    at n = 2000 and 4000 on one thread.
    """
    lapack = scipy.linalg.lapack
    reduced = _two_steps(K) if len(K) >= _TWO_STEPS else None
    if reduced is None:
        work, _ = lapack.dsytrd_lwork(len(K), lower=1)
        # K.T is in Fortran's order and the same matrix.
        _, *reduced, _, _ = lapack.dsytrd(K.T, lower=1, lwork=int(work), overwrite_a=1)
    diagonal, off = reduced
    found, info = lapack.dsterf(diagonal, off, overwrite_d=1, overwrite_e=1)
    if info:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return found


@cache
def _two_step_routine():
    """LAPACK's dsytrd_2stage from the library that SciPy has loaded, or None.

    SciPy has no function for it. Where it is not found the usual routine does the same.
    """
    if sys.byteorder != "little":  # see the integers below
        return None
    try:
        library = ctypes.CDLL(import_module("scipy.linalg._flapack").__file__)
    except (ImportError, OSError, TypeError):
        return None
    for name in ("scipy_dsytrd_2stage_", "dsytrd_2stage_"):
        routine = getattr(library, name, None)
        if routine is not None:
            routine.restype = None
            return routine
    return None


def _two_steps(K):
    """Diagonal and off-diagonal of an orthogonally similar tridiagonal matrix, or None.

    `K` is overwritten if there is such a routine, or else left alone.
    """
    routine = _two_step_routine()
    if routine is None or not K.flags.c_contiguous or K.dtype != np.float64:
        return None
    n = len(K)
    diagonal, off, tau = np.empty(n), np.empty(n), np.empty(n)
    # Eight bytes hold integers of LAPACKs with four and with eight, in little-endian order.
    order, info = ctypes.c_int64(n), ctypes.c_int64(0)

    def call(hous, n_hous, work, n_work):
        arrays = [a.ctypes.data_as(ctypes.c_void_p) for a in (K, diagonal, off, tau, hous, work)]
        A, d, e, t, h, w = arrays
        sizes = ctypes.c_int64(n_hous), ctypes.c_int64(n_work)
        ref = ctypes.byref
        routine(
            b"N", b"L", ref(order), A, ref(order), d, e, t, h, ref(sizes[0]), w, ref(sizes[1]),
            ref(info), ctypes.c_size_t(1), ctypes.c_size_t(1),
        )  # fmt: skip

    hous, work = np.empty(1), np.empty(1)
    call(hous, -1, work, -1)  # asks for the sizes
    if info.value or hous[0] < 1 or work[0] < 1:
        return None
    hous, work = np.empty(int(hous[0])), np.empty(int(work[0]))
    call(hous, len(hous), work, len(work))
    if info.value:  # too late for the usual routine: there is no K any more
        raise np.linalg.LinAlgError(f"dsytrd_2stage failed with info={info.value}")
    return diagonal, off[: n - 1]


def _factor(K):
    tol = 4 * np.finfo(float).eps * K.diagonal().max()
    L, _, rank, _ = scipy.linalg.lapack.dpstrf(K, tol=tol, lower=1)
    return np.tril(L)[:, :rank], rank


def landmark_eigenvalues(X, bandwidth, anisotropy, n_landmarks, random_state, tol=1e-9):
    """Eigenvalues from a low-rank factor of the kernel, which is never formed.

    Landmarks are drawn where the kernel is explained least (randomly pivoted Cholesky, in
    blocks), until nothing is left or there are enough. What is left is kept on the diagonal.

    Returns
    -------
    eigenvalues : ndarray of shape (rank,)
        Decreasing.
    rest : float
        Trace of the operator less their sum.
    """
    n = X.shape[0]
    limit = min(n_landmarks, n)
    left = np.ones(n)
    F = np.empty((n, limit), order="F")
    rank = 0
    while rank < limit and left.sum() > tol * n:
        wanted = min(_BLOCK, limit - rank, np.count_nonzero(left))
        chosen = random_state.choice(n, wanted, replace=False, p=left / left.sum())
        old = F[:, :rank]
        inner = gaussian_kernel(X[chosen], bandwidth) - old[chosen] @ old[chosen].T
        # Draws that explain each other are thinned out: a pivot stays while it is worth it.
        worth = 0.1 * left[chosen].mean()
        L, pivots, size, _ = scipy.linalg.lapack.dpstrf(inner, tol=worth, lower=1)
        size = max(size, 1)
        chosen = chosen[pivots[:size] - 1]
        columns = gaussian_kernel(X, bandwidth, X[chosen])
        columns[chosen, np.arange(size)] = 1.0  # which expanded squares miss by rounding
        columns -= old @ old[chosen].T
        new = scipy.linalg.solve_triangular(L[:size, :size], columns.T, lower=True).T
        F[:, rank : rank + size] = new
        left = np.maximum(left - (new * new).sum(axis=1), 0.0)
        left[chosen] = 0.0
        rank += size
    F = F[:, :rank]
    scales, _ = diffusion_scales(lambda v: F @ (F.T @ v) + left * v, n, anisotropy)
    scaled = scales[:, None] * F
    found = np.maximum(np.linalg.eigvalsh(scaled.T @ scaled)[::-1], 0.0)
    return found, float((scales**2) @ left)


def leading_subspace(K, first, n_columns, random_state, n_powers=2):
    """Orthonormal columns near the leading eigenvectors, `first` among them; and K times them."""
    n = len(first)
    Q = random_state.standard_normal((n, min(n_columns, n)))
    Q[:, 0] = first
    for _ in range(n_powers):
        Q = np.linalg.qr(np.asarray(K @ Q))[0]
    Q = np.linalg.qr(np.column_stack([first, Q])[:, : Q.shape[1]])[0]
    return Q, np.asarray(K @ Q)


def lanczos_nodes(K, starts, n_steps):
    """Gauss quadrature of start vectors by the Lanczos iteration.

    All vectors go through the iteration together, so that the work is matrix products, and
    every new one is made orthogonal to all before it.

    Parameters
    ----------
    K : ndarray or sparse array of shape (n, n)
        Symmetric operator.
    starts : ndarray of shape (n_starts, n)
        Start vectors.
    n_steps : int
        Lanczos steps.

    Returns
    -------
    nodes, weights : ndarray of shape (n_starts, n_steps)
        The weighted sum of g over a row is nearly v^T g(K) v.
    """
    n_starts, n = starts.shape
    n_steps = min(n_steps, n)
    norm = np.sqrt((starts * starts).sum(axis=1))
    mass = norm**2
    basis = np.empty((n_starts, n_steps, n))
    basis[:, 0] = starts / np.where(norm > 0, norm, 1.0)[:, None]
    T = np.zeros((n_starts, n_steps, n_steps))
    for k in range(n_steps):
        V = np.asarray(np.ascontiguousarray(basis[:, k]) @ K)
        T[:, k, k] = (V * basis[:, k]).sum(axis=1)
        if k + 1 == n_steps:
            break
        # What three terms take away is most of it; the pass over all takes what rounding left.
        V -= T[:, k, k, None] * basis[:, k]
        if k > 0:
            V -= T[:, k, k - 1, None] * basis[:, k - 1]
        inside = np.matmul(basis[:, : k + 1], V[:, :, None])
        V -= np.matmul(inside.transpose(0, 2, 1), basis[:, : k + 1])[:, 0]
        norm = np.sqrt((V * V).sum(axis=1))
        # An invariant subspace: what follows has no weight.
        norm[norm < _BREAKDOWN] = 0.0
        basis[:, k + 1] = V / np.where(norm > 0, norm, 1.0)[:, None]
        basis[norm == 0, k + 1] = 0.0
        T[:, k, k + 1] = T[:, k + 1, k] = norm
    nodes, vectors = np.linalg.eigh(T)
    return nodes, mass[:, None] * vectors[:, 0] ** 2


def spectral_sums(K, first, functions, n_probes, n_steps, random_state):
    """Traces of functions of an operator, by quadrature, and what each probe says.

    The trace over a subspace near the leading eigenvectors is taken vector by vector, that over
    its complement from random probes (Hutch++, arXiv:2010.09649). There, the trace of a
    function is that of its best quadratic, which is known, plus that of the rest, which varies
    much less between probes.

    Parameters
    ----------
    K : ndarray or sparse array of shape (n, n)
        Symmetric operator.
    first : ndarray of shape (n,)
        Its first eigenvector.
    functions : callable
        Nodes to a list of arrays, one for each function.
    n_probes : int
        Random vectors, and columns of the subspace.
    n_steps : int
        Lanczos steps.
    random_state : RandomState
        Draws the probes.

    Returns
    -------
    sums : ndarray of shape (n_functions,)
        The traces.
    by_probe : ndarray of shape (n_functions, n_probes)
        What each probe alone says.
    """
    n = len(first)
    Q, KQ = leading_subspace(K, first, n_probes, random_state)
    probes = random_state.choice([-1.0, 1.0], size=(n_probes, n))
    probes -= (probes @ Q) @ Q.T
    nodes, weights = lanczos_nodes(K, np.concatenate([Q.T, probes]), n_steps)
    values = np.stack(functions(nodes))
    size = Q.shape[1]
    inside = (weights[:size] * values[:, :size]).sum(axis=(1, 2))
    nodes, weights, values = nodes[size:], weights[size:], values[:, size:]
    square = K.multiply(K).sum() if sp.issparse(K) else np.vdot(K, K)
    known = np.array([n - size, K.trace() - np.vdot(Q, KQ), square - np.vdot(KQ, KQ)])
    powers = np.stack([np.ones_like(nodes), nodes, nodes**2])
    root = np.sqrt(weights).ravel()
    design = powers.reshape(3, -1) * root
    target = values.reshape(len(values), -1) * root
    coefficients = np.linalg.lstsq(design.T, target.T, rcond=None)[0].T
    rest = values - np.tensordot(coefficients, powers, axes=1)
    by_probe = (weights * rest).sum(axis=2) + (coefficients @ known + inside)[:, None]
    return by_probe.mean(axis=1), by_probe
