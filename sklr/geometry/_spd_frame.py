"""Eigendecompositions of stacks of SPD matrices, in coordinates that whiten a reference."""

import functools

import numpy as np

from sklr.utils._spd_checks import NOT_SPD, definite_tolerance, require_definite, unit_diagonal
from sklr.utils._threads import single_blas_thread, thread_map

# Below this many multiplications a batch is not worth a second thread.
_PARALLEL_WORK = 2e7
# Ratio of eigenvalues down to which units of channels cost no digits that matter.
_EVEN = 1e-5
# Ratio of eigenvalues below which a matrix is far from a point: eight digits are left of them.
_FAR = 1e-8
_ROUNDING = np.finfo(np.float64).eps


class Frame:
    """Coordinates in which a reference is the identity.

    Parameters
    ----------
    reference : ndarray of shape (n, n)
        A symmetric matrix, checked to be positive definite unless `eps` is given.
    eps : float, default=None
        Rounding of the numbers that came in; a matrix that is not positive definite is refused.

    Attributes
    ----------
    inverse : ndarray of shape (n, n)
        A with ``A reference A^T = I``.
    turn : ndarray of shape (n, n) or None
        Rotation Q with ``A = Q reference^-1/2``; None where A is that root.
    smallest : float
        The smallest eigenvalue of the reference scaled to unit diagonal, or less.
    """

    def __init__(self, reference, *, eps=None):
        values, vectors = np.linalg.eigh(reference)
        self.turn = None
        even = values[0] > _EVEN * values[-1]
        if even:
            self.smallest = values[0] / reference.diagonal().max()
        else:
            scaled, scale = unit_diagonal(reference)
            unit = np.linalg.eigvalsh(scaled)
            self.smallest = unit[0]
            # Ill-conditioned by itself, and not by units.
            even = values[0] > 0.0 and unit[0] * values[-1] < 10 * values[0] * unit[-1]
        if eps is not None and not self.smallest > definite_tolerance(len(values), eps):
            require_definite(reference, "reference", eps=eps)
        if even:
            root = np.sqrt(values)
            self.inverse = (vectors / root) @ vectors.T
            self._parts = vectors, root, None
            return
        # Units differ: the roots of the unit-diagonal matrix and the units keep all digits,
        # where the root of the product would lose those of the small block.
        values, vectors = np.linalg.eigh(scaled)
        root = np.sqrt(values)
        self.inverse = (vectors / root) @ vectors.T / scale
        self._parts = vectors, root, scale
        self.turn = _polar_rotation(self.inverse)

    @functools.cached_property
    def factor(self):
        """Inverse of `inverse`."""
        vectors, root, scale = self._parts
        factor = (vectors * root) @ vectors.T
        return factor if scale is None else scale[:, None] * factor

    def whiten(self, X):
        """Return ``reference^-1/2 X reference^-1/2`` of each matrix, exactly symmetric."""
        W = congruence(self.inverse, X)
        if self.turn is None:
            return W
        return congruence(self.turn.T, W)

    def logs(self, X, n_jobs=None, eps=None):
        """Logarithms of a stack at the reference, by the symmetric root as pyRiemann's.

        With `eps`, the rounding of the numbers that came in, matrices that are not positive
        definite are refused; else they were checked before.
        """
        return rebuild(*self._decomposed(X, n_jobs, eps))

    def vectors(self, X, n_jobs=None, eps=None):
        """Upper triangles of the logarithms, off-diagonal entries times sqrt(2)."""
        logs, V = self._decomposed(X, n_jobs, eps)
        # The upper triangle only is looked at: the product need not be symmetric to the last digit.
        return vectorize((V * logs[:, None, :]) @ V.transpose(0, 2, 1))

    def _decomposed(self, X, n_jobs, eps):
        """Logarithms of eigenvalues at the reference, and eigenvectors."""
        values, V = _eigh(sandwich(self.inverse, X), n_jobs)
        if eps is not None:
            self.require_definite(X, values, eps)
        values, V = _accurate(values, V, self.inverse, X)
        if self.turn is not None:
            V = self.turn.T @ V
        return np.log(values), V

    def require_definite(self, X, values, eps):
        """Refuse matrices by the eigenvalues in these coordinates, where those do not suffice.

        Scaled to unit diagonal, the smallest eigenvalue of a matrix is at least that of the
        reference times the quotient of the smallest and the largest one here.
        """
        bound = values[:, 0] * self.smallest
        if not (bound > definite_tolerance(X.shape[-1], eps) * values[:, -1]).all():
            require_definite(X, eps=eps)

    def exps(self, S, n_jobs=None):
        """Matrices whose logarithms at the reference these are: the inverse of `logs`."""
        values, V = _eigh(S, n_jobs)
        half = self.factor @ (V if self.turn is None else self.turn @ V)
        half = half * np.exp(0.5 * values)[:, None, :]
        return half @ half.transpose(0, 2, 1)


def _polar_rotation(A):
    """Orthogonal polar factor of A, whose columns may have any scales.

    By LAPACK's Jacobi method, which finds singular vectors of such matrices to all digits.
    """
    from scipy.linalg.lapack import dgejsv

    # joba=0: columns scaled; jobu, jobv: vectors wanted; no range restriction, no perturbation.
    _, U, V, _, _, info = dgejsv(A, joba=0, jobu=0, jobv=0, jobr=0, jobt=0, jobp=0)
    if info != 0:
        U, _, Vt = np.linalg.svd(A)
        return U @ Vt
    return U @ V.T


@functools.lru_cache(maxsize=16)
def _triangle(n):
    """Places of the upper triangle in a flat matrix, and what its entries are multiplied by."""
    rows, columns = np.triu_indices(n)
    weights = np.where(rows == columns, 1.0, np.sqrt(2.0))
    places = rows * n + columns
    for array in (places, weights):
        array.setflags(write=False)
    return places, weights


def vectorize(S):
    """Upper triangles of symmetric matrices, off-diagonal entries times sqrt(2)."""
    places, weights = _triangle(S.shape[-1])
    vectors = S.reshape(*S.shape[:-2], -1).take(places, axis=-1)
    vectors *= weights
    return vectors


def unvectorize(vectors):
    """Symmetric matrices of upper triangles, the inverse of :func:`vectorize`."""
    n = int((np.sqrt(8 * vectors.shape[-1] + 1) - 1) / 2)
    rows, columns = np.triu_indices(n)
    S = np.empty((*vectors.shape[:-1], n, n))
    S[..., rows, columns] = vectors / np.where(rows == columns, 1.0, np.sqrt(2.0))
    S[..., columns, rows] = S[..., rows, columns]
    return S


def distances_to(X, points, n_jobs=None):
    """Affine-invariant distances of checked matrices to each of some points, (n, n_points)."""
    with single_blas_thread():
        columns = []
        for point in points:
            inverse = inverse_lower(np.linalg.cholesky(point))
            W = sandwich(inverse, X)
            values = np.concatenate(_in_chunks(np.linalg.eigvalsh, W, n_jobs))
            values, _ = _accurate(values, None, inverse, X)
            columns.append(np.sqrt((np.log(values) ** 2).sum(axis=1)))
    return np.stack(columns, axis=1)


def congruence(A, X):
    """A X A^T for each matrix of the stack, exactly symmetric."""
    Z = sandwich(A, X)
    return 0.5 * (Z + Z.transpose(0, 2, 1))


def sandwich(A, X):
    """A X A^T, symmetric but for rounding: decompositions read one triangle."""
    # The products from the right are one product.
    return A @ (X.reshape(-1, X.shape[-1]) @ A.T).reshape(X.shape)


def inverse_lower(L):
    """Inverse of a lower triangular matrix, each row to the digits of its own scale."""
    inverse, _ = _dtrtri()(L.T, lower=0)  # the transpose is in LAPACK's order
    return inverse.T


@functools.lru_cache(maxsize=1)
def _dtrtri():
    from scipy.linalg.lapack import dtrtri  # an import in a function takes its microseconds

    return dtrtri


def _in_chunks(function, W, n_jobs):
    """Apply a decomposition to a stack, in chunks over threads where that pays."""
    n, d, _ = W.shape
    if n_jobs is None or n * d**3 < _PARALLEL_WORK:
        return [function(W)]
    return thread_map(function, np.array_split(W, min(n, 8)), n_jobs)


def _eigh(W, n_jobs):
    """Eigenvalues and eigenvectors of a stack."""
    parts = _in_chunks(np.linalg.eigh, W, n_jobs)
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate([part[i] for part in parts]) for i in (0, 1))


def eigenlogs(W, n_jobs):
    """Logarithms of the eigenvalues, and the eigenvectors, of each matrix of a stack."""
    values, V = _eigh(W, n_jobs)
    _require_positive(values)
    return np.log(values), V


def _require_positive(values):
    """Refuse what rounding may have made of zero, in coordinates that whiten a mean."""
    smallest, largest = values[:, 0], values[:, -1]
    good = smallest > _ROUNDING * values.shape[1] * largest
    if not good.all():
        worst = int(np.argmin(good))
        raise ValueError(
            NOT_SPD.format(
                what=f"Matrix {worst} (eigenvalues from {smallest[worst]:.3g} to "
                f"{largest[worst]:.3g} in coordinates that make the mean the identity)"
            )
        )


def _accurate(values, V, inverse, X):
    """Replace eigenvalues of ``inverse X inverse^T`` that rounding may have spoilt.

    Where a definite matrix is far from the point, as one class from the mean of another, the
    singular values of a root have twice the digits.
    """
    near = values[:, 0] > _FAR * values[:, -1]
    if not near.all():
        far = ~near
        root = inverse @ np.linalg.cholesky(X[far])
        U, singular, _ = np.linalg.svd(root, full_matrices=False)
        values = values.copy()
        values[far] = np.maximum(singular[:, ::-1] ** 2, np.finfo(np.float64).tiny)
        if V is not None:
            V = V.copy()
            V[far] = U[:, :, ::-1]
    return values, V


def rebuild(logs, V):
    out = (V * logs[:, None, :]) @ V.transpose(0, 2, 1)
    return 0.5 * (out + out.transpose(0, 2, 1))
