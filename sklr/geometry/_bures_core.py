"""Bures-Wasserstein geometry in coordinates: what the public functions and the scaler share.

Everything is computed in the eigenbasis of the base point, where the Lyapunov solution, the map
to the identity and the inverse roots are products of entries. What is left for each matrix is
one eigendecomposition, that of the sandwich ``B^1/2 X B^1/2``.
"""

import numpy as np

from sklr.utils._spd_checks import (
    EIGENVALUE_NOISE,
    definite_tolerance,
    require_definite,
    require_semidefinite,
    unit_diagonal,
)
from sklr.utils._threads import thread_map

# Below this many multiplications a batch is not worth a second thread.
_PARALLEL_WORK = 2e7
# Entries of a block of matrices that is moved at once.
_BLOCK = 2**16
# Residual of the mean below which Newton's steps are tried, and how exact they are at most.
_NEWTON_GATE = 0.02
_CG_STEPS = 30


def transpose(X):
    """Swap the last two axes."""
    return np.swapaxes(X, -1, -2)


def rebuild(values, vectors):
    """Matrices with these eigenvalues and eigenvectors."""
    return (vectors * values[..., None, :]) @ transpose(vectors)


def eigh(X, n_jobs=None):
    """Eigendecompositions of a stack, in chunks over threads where that pays."""
    if n_jobs is None or X.ndim != 3 or X.size * X.shape[-1] < _PARALLEL_WORK:
        return np.linalg.eigh(X)
    parts = thread_map(np.linalg.eigh, np.array_split(X, min(len(X), 8)), n_jobs)
    return tuple(np.concatenate([part[i] for part in parts]) for i in (0, 1))


def _singular(P, what, smallest, largest):
    """Say why a base point is no good: its rank, or units of channels that are too unlike."""
    scaled, scale = unit_diagonal(P)
    regular = scale.all() and np.linalg.eigvalsh(scaled).min() > definite_tolerance(P.shape[-1])
    text = f"{what} is singular (eigenvalues from {smallest:.3g} to {largest:.3g}): "
    if regular:
        return text + (
            f"its channels have unlike units, with standard deviations from {scale.min():.3g} to "
            f"{scale.max():.3g}, and this metric depends on units. Bring them to one scale, or "
            "give a metric of theirs (metric='mean' of BuresWassersteinScaler)."
        )
    return text + (
        "the logarithm needs its inverse. Add a small multiple of the identity to the matrices, "
        "or use a shrinkage estimator."
    )


class Point:
    """A positive definite matrix as a base point: eigenvalues, eigenvectors, entry products.

    Parameters
    ----------
    P : ndarray of shape (..., n, n)
        Symmetric positive definite matrices.
    what : str
        What they are, for the message when they are singular.
    """

    def __init__(self, P, what):
        self.values, self.vectors = np.linalg.eigh(P)
        n = P.shape[-1]
        smallest, largest = self.values[..., 0], self.values[..., -1]
        if not (smallest > EIGENVALUE_NOISE * n * largest).all():
            raise ValueError(_singular(P, what, smallest.min(), largest.max()))
        self.root = np.sqrt(self.values)

    def pair_sums(self):
        """Sums of pairs of eigenvalues."""
        return self.values[..., :, None] + self.values[..., None, :]

    def into(self, X):
        """Write `X` in the eigenbasis."""
        return transpose(self.vectors) @ X @ self.vectors

    def out(self, X):
        """Write a matrix of the eigenbasis in the basis of the input."""
        return self.vectors @ X @ transpose(self.vectors)

    def sandwich(self, X):
        """Return ``P^1/2 X P^1/2`` in the eigenbasis."""
        frame = self.vectors * self.root[..., None, :]
        return transpose(frame) @ X @ frame

    def sandwich_spectrum(self, X, n_jobs=None):
        """Eigenvalues and eigenvectors of the root of ``P^1/2 X P^1/2``, in the eigenbasis."""
        values, vectors = eigh(self.sandwich(X), n_jobs)
        return np.sqrt(np.maximum(values, 0.0)), vectors

    def sandwich_root(self, X, n_jobs=None):
        """Root of ``P^1/2 X P^1/2``, in the eigenbasis."""
        return rebuild(*self.sandwich_spectrum(X, n_jobs))

    def log(self, X):
        """Logarithm of `X`, in the eigenbasis."""
        root_products = self.root[..., :, None] * self.root[..., None, :]
        return self.minus_diagonal(
            self.sandwich_root(X) * (self.pair_sums() / root_products), 2.0 * self.values
        )

    def log_at_identity(self, X):
        """Logarithm of `X` transported to the identity, in the eigenbasis.

        Also returns the smallest eigenvalue of each sandwich.
        """
        products = self.values[..., :, None] * self.values[..., None, :]
        weight = np.sqrt(2.0 * self.pair_sums() / products)
        values, vectors = np.linalg.eigh(self.sandwich(X))
        V = rebuild(np.sqrt(np.maximum(values, 0.0)), vectors)
        V *= weight
        return self.minus_diagonal(V, 2.0 * self.root), values[..., 0]

    @staticmethod
    def minus_diagonal(V, diagonal):
        """Subtract from the diagonal, in place."""
        index = np.arange(V.shape[-1])
        V[..., index, index] -= diagonal
        return V

    def lyapunov(self, V):
        """Solve ``P L + L P = V``, both in the eigenbasis."""
        return V / self.pair_sums()

    def exp(self, L):
        """Return ``(I + L) P (I + L)`` for `L` in the eigenbasis, in the basis of the input."""
        half = self.vectors @ (self.root[..., None, :] * (np.eye(L.shape[-1]) + L))
        return half @ transpose(half)

    def exp_from_identity(self, V):
        """Return exp of a vector at the identity, transported here; `V` in the eigenbasis.

        Also returns ``I + L``, whose positive definiteness says whether the logarithm of the
        result is the vector again.
        """
        L = V / np.sqrt(2.0 * self.pair_sums())
        stretch = np.eye(V.shape[-1]) + L
        half = self.vectors @ (stretch * self.root[..., None, :])
        return half @ transpose(half), stretch


def move(X, source, target, factor, n_jobs=None, eps=0.0):
    """Centre at `source`, scale the tangent vectors, and move them to `target`.

    Parameters
    ----------
    X : ndarray of shape (n_matrices, n, n)
        Positive semidefinite matrices.
    source, target : Point
        Where the vectors are taken, and where they end.
    factor : float
        What vectors at the identity are multiplied by.
    n_jobs : int or None, default=None
        Threads over blocks of matrices; blocks are small enough for the cache.
    eps : float, default=0.0
        Rounding of the numbers that came in, if it is more than double precision's.

    Returns
    -------
    moved : ndarray of shape (n_matrices, n, n)
        The moved matrices.
    folded : ndarray of shape (n_matrices,), bool
        Where the vector left the domain on which the exponential can be undone.
    """
    turn = transpose(target.vectors) @ source.vectors
    moved = np.empty_like(X)
    folded, suspect = np.zeros((2, len(X)), dtype=bool)

    def block(rows):
        V, smallest = source.log_at_identity(X[rows])
        moved[rows], stretch = target.exp_from_identity(factor * (turn @ V @ turn.T))
        suspect[rows] = smallest <= 0.0
        folded[rows] = _not_definite(stretch)

    size = max(1, _BLOCK // X[0].size)
    blocks = [slice(i, i + size) for i in range(0, len(X), size)]
    thread_map(block, blocks, n_jobs)
    # The sandwich is semidefinite where the matrix is: most are known to be good already.
    if suspect.any():
        require_semidefinite(X[suspect], numbers=np.flatnonzero(suspect), eps=eps)
    return moved, folded


def _not_definite(S):
    """Whether symmetric matrices near the identity fail to be positive definite."""
    out = np.zeros(len(S), dtype=bool)
    far = np.linalg.norm(S - np.eye(S.shape[-1]), axis=(1, 2)) >= 1.0
    if far.any():
        out[far] = np.linalg.eigvalsh(S[far])[:, 0] <= 0.0
    return out


def plain_mean(Y, weights, start, tol, max_iter, n_jobs=None):
    """Barycentre of a stack; returns it, the evaluations taken and the residual.

    The residual is the norm of the mean logarithm over the root of the trace. Far away a step is
    the fixed point's, ``G <- T G T`` with T the mean of the transport maps from G to each
    matrix. Nearer, it is Newton's: `_newton_step` solves its linear system with products only,
    and ill-conditioned matrices, on which the fixed point loses a quarter of the error a step,
    take a dozen evaluations.
    """
    G, fallback, previous = start, None, np.inf
    gate = _NEWTON_GATE
    for evaluation in range(1, max_iter + 1):
        point = Point(G, "The mean of the matrices")
        roots, vectors = point.sandwich_spectrum(Y, n_jobs)
        S = np.tensordot(weights, rebuild(roots, vectors), axes=1)
        half = S / point.root[:, None]
        residual = float(np.linalg.norm(half - np.diag(point.root)) / np.sqrt(point.values.sum()))
        if fallback is not None and residual > 0.5 * previous:
            gate = 0.1 * previous  # Newton's step was no good: come nearer first
            if residual > previous:
                G, fallback, previous = fallback, None, np.inf
                continue
        half = point.vectors @ half
        fixed = half @ half.T
        if residual <= tol:
            return fixed, evaluation, residual
        G, fallback, previous = fixed, None, residual
        if residual < gate:
            newton = _newton_step(point, roots, vectors, S, weights, residual, tol)
            if newton is None:
                gate *= 0.3
            else:
                G, fallback = newton, fixed
    return G, evaluation, residual


def _newton_step(point, roots, vectors, S, weights, residual, tol):
    """Solve for the change of the mean that takes the mean transport map to the identity.

    In coordinates that make the point G the identity, the transport map of a matrix with sandwich
    root R changes with e by -V (r_i r_j / (r_i + r_j) * V^T e V)_ij V^T in R's eigenbasis, and
    the mean root has to become diag(G). Preconditioned conjugate gradients. None where
    the step leaves the cone.
    """
    sums = roots[:, :, None] + roots[:, None, :]
    slopes = roots[:, :, None] * roots[:, None, :] / np.maximum(sums, np.finfo(float).tiny)
    slopes *= weights[:, None, None]
    back = transpose(vectors)
    values = point.values
    preconditioner = point.pair_sums() / (values[:, None] * values)
    rest = S - np.diag(values)
    change = np.zeros_like(rest)
    direction = z = preconditioner * rest
    size = first = float(np.vdot(rest, z))
    wanted = min(0.1, residual)
    if residual * residual < tol:  # the last step: no more accurate than needed
        wanted = max(wanted, 0.1 * tol / residual)
    for _ in range(_CG_STEPS):
        image = (vectors @ (slopes * (back @ direction @ vectors)) @ back).sum(axis=0)
        curvature = float(np.vdot(direction, image))
        if not curvature > 0.0:
            break
        alpha = size / curvature
        change += alpha * direction
        rest = rest - alpha * image
        z = preconditioner * rest
        previous, size = size, float(np.vdot(rest, z))
        if size <= wanted * wanted * first:
            break
        direction = z + (size / previous) * direction
    stretch, turn = np.linalg.eigh(0.5 * (change + change.T))
    if stretch[0] < -0.9:
        return None
    half = point.vectors @ (point.root[:, None] * turn) * np.sqrt(1.0 + stretch)
    return half @ half.T


def mean_square_distance(Y, weights, point, n_jobs=None):
    """Weighted mean of squared distances to a point, without cancellation."""
    L = point.sandwich_root(Y, n_jobs)
    point.minus_diagonal(L, point.values)
    return float(np.einsum("k,kij,i->", weights, L * L, 1.0 / point.values))


class Coordinates:
    """The isometry (up to 1 / power) from the generalised, deformed metric to the plain one.

    ``X -> M^-1/2 X^power M^-1/2``.

    Parameters
    ----------
    metric : ndarray of shape (n, n) or None
        The SPD matrix M; None is the identity.
    power : float
        The exponent.
    """

    def __init__(self, metric, power):
        self.power = float(power)
        self.factor = self.inverse = None
        if metric is not None:
            require_definite(metric, "metric")
            # Any F with F F^T = M will do: the coordinates differ by a rotation. This one keeps
            # the digits of channels of small unit.
            scaled, scale = unit_diagonal(metric)
            point = Point(scaled, "metric")
            root = np.sqrt(point.values)
            self.factor = scale[:, None] * rebuild(root, point.vectors)
            self.inverse = rebuild(1.0 / root, point.vectors) / scale

    @staticmethod
    def _power(X, exponent, n_jobs):
        values, vectors = eigh(X, n_jobs)
        return rebuild(np.maximum(values, 0.0) ** exponent, vectors)

    def into(self, X, n_jobs=None):
        """Return the matrix in the coordinates."""
        if self.power != 1.0:
            X = self._power(X, self.power, n_jobs)
        return X if self.factor is None else self.inverse @ X @ self.inverse.T

    def out(self, Y, n_jobs=None):
        """Return the matrix that has these coordinates."""
        if self.factor is not None:
            Y = self.factor @ Y @ self.factor.T
        return Y if self.power == 1.0 else self._power(Y, 1.0 / self.power, n_jobs)

    def push(self, V, P):
        """Take tangent vectors at P to the coordinates (the derivative of `into`)."""
        if self.power != 1.0:
            V = self._derivative(V, P, np.multiply)
        return V if self.factor is None else self.inverse @ V @ self.inverse.T

    def pull(self, V, P):
        """Take tangent vectors of the coordinates back to P (the inverse of `push`)."""
        if self.factor is not None:
            V = self.factor @ V @ self.factor.T
        return V if self.power == 1.0 else self._derivative(V, P, np.divide)

    def _derivative(self, V, P, apply):
        point = Point(P, "The base point")
        return point.out(apply(point.into(V), power_slopes(point.values, self.power)))


def power_slopes(values, power):
    """Divided differences of ``x ** power`` at pairs of positive eigenvalues.

    Written by the half difference h of the logarithms, (x^p - y^p) / (x - y) is
    (x y)^((p-1)/2) sinh(p h) / sinh(h), which needs no case distinction but h = 0.
    """
    logs = np.log(values)
    half = 0.5 * (logs[..., :, None] - logs[..., None, :])
    middle = 0.5 * (logs[..., :, None] + logs[..., None, :])
    equal = half == 0.0
    safe = np.where(equal, 1.0, half)
    ratio = np.where(equal, power, np.sinh(power * safe) / np.sinh(safe))
    return np.exp((power - 1.0) * middle) * ratio
