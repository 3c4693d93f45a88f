"""Lanczos' method with full reorthogonalisation, and quadrature of the spectrum with it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import aslinearoperator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user


class LanczosResult(NamedTuple):
    """Eigenpairs that Lanczos' method found.

    Attributes
    ----------
    eigenvalues : ndarray of shape (k,)
        Falling.
    eigenvectors : ndarray of shape (k, n)
        Of norm 1, as rows.
    residuals : ndarray of shape (k,)
        Norm of ``A v - eigenvalue * v``, at least what rounding leaves of it: each eigenvalue is
        within it of a true one.
    n_steps : int
        Products with the operator.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    residuals: np.ndarray
    n_steps: int


class Basis:
    """Orthonormal basis of a Krylov space, and the tridiagonal matrix in it."""

    def __init__(
        self,
        matvec: Callable[[np.ndarray], np.ndarray],
        n: int,
        rng: np.random.RandomState,
        *,
        size: int,
        beside: np.ndarray | None = None,
        room: np.ndarray | None = None,
    ) -> None:
        self.matvec, self.n, self.rng, self.beside = matvec, n, rng, beside
        self.Q = np.empty((size, n)) if room is None else room
        self.alpha: list[float] = []
        self.beta: list[float] = []
        self.scale = 0.0
        self.invariant = False  # one Krylov space is used up
        self._next: np.ndarray | None = self._fresh()

    def __len__(self) -> int:
        return len(self.alpha)

    def _orthogonal(self, w: np.ndarray) -> np.ndarray:
        """Return what is left of a vector beside the basis."""
        Q = self.Q[: len(self)]
        left = float(np.linalg.norm(w))
        for _ in range(3):
            w = w - (Q @ w) @ Q
            if self.beside is not None:
                w -= (self.beside @ w) @ self.beside
            before, left = left, float(np.linalg.norm(w))
            # What a pass leaves is rounding of what it took away: once more where that was much.
            if left > 0.7 * before:
                break
        return w

    def _fresh(self) -> np.ndarray | None:
        free = self.n - len(self) - (0 if self.beside is None else len(self.beside))
        if free <= 0:
            return None
        w = self._orthogonal(self.rng.standard_normal(self.n))
        return w / np.linalg.norm(w)

    def step(self) -> bool:
        """Add a vector; False where the basis is that of the whole space."""
        v = self._next
        if v is None:
            return False
        k = len(self)
        self.Q[k] = v
        w = np.asarray(self.matvec(v), dtype=np.float64).reshape(-1)
        if not np.isfinite(w).all():
            raise ValueError(f"the product of step {k + 1} of Lanczos' method is not finite")
        self.alpha.append(float(w @ v))
        size = float(np.linalg.norm(w))
        self.scale = max(self.scale, size)
        # Nearly all of what has to go is along the last two.
        w = w - self.alpha[-1] * v
        if k and self.beta[-1]:
            w -= self.beta[-1] * self.Q[k - 1]
        w = self._orthogonal(w)
        beta = float(np.linalg.norm(w))
        if beta <= np.finfo(np.float64).eps * self.n**0.5 * self.scale:
            # An invariant space: go on beside it, so that multiple eigenvalues are found too.
            self.invariant = True
            self.beta.append(0.0)
            self._next = self._fresh()
        else:
            self.beta.append(beta)
            self._next = w / beta
        return True

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Return eigenvalues of the tridiagonal matrix, rising, and its eigenvectors."""
        return eigh_tridiagonal(np.array(self.alpha), np.array(self.beta[:-1]))


def _wanted(k: int, n: int, which: str) -> np.ndarray:
    """Return the places of the wanted ones among k rising values, falling."""
    n = min(n, k)
    if which == "largest":
        places = np.arange(k - n, k)
    elif which == "smallest":
        places = np.arange(n)
    else:
        places = np.unique(np.r_[np.arange(n), np.arange(k - n, k)])
    return places[::-1]


def check_memory(n_rows: int, n: int, what: str) -> None:
    """Refuse a basis that cannot be held, before the work."""
    import os

    needed = 8 * n_rows * n
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if needed > there:
        raise ValueError(
            f"{what} needs {needed / 2**30:.3g} GiB for {n_rows} vectors of {n} numbers, and this "
            f"machine has {there / 2**30:.3g} GiB"
        )


def lanczos(
    operator: Any,
    n_eigenvalues: int = 10,
    *,
    which: str = "largest",
    n_steps: int | None = None,
    tol: float = 1e-6,
    random_state: Any = None,
    verbose: int = 0,
) -> LanczosResult:
    r"""Find eigenpairs at the ends of a symmetric operator's spectrum.

    Every vector is orthogonalised against all before it until only rounding is left: without
    that the method finds the leading eigenvalues several times ("ghosts").

    Parameters
    ----------
    operator : LinearOperator, ndarray or sparse matrix of shape (n, n)
        Symmetric; only products are taken.
    n_eigenvalues : int, default=10
        How many; at most n.
    which : {"largest", "smallest", "both"}, default="largest"
        At which end, "both" finds so many at each.
    n_steps : int or None, default=None
        Products with the operator. None goes on until all wanted pairs have converged, at most
        ten times the usual number, ``max(2 * n_eigenvalues + 20, 60)``.
    tol : float, default=1e-6
        A pair has converged where its residual is below this share of the largest eigenvalue's
        size.
    random_state : int, RandomState instance or None, default=None
        Decides the first vector.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    result : LanczosResult
        `eigenvalues` (falling), `eigenvectors` (as rows), `residuals` and `n_steps`.

    Raises
    ------
    ValueError
        The operator is not square, or there are not so many eigenvalues.

    See Also
    --------
    scipy.sparse.linalg.eigsh : Implicitly restarted: less memory, and more products.
    stochastic_lanczos_quadrature : The density of all eigenvalues.

    Notes
    -----
    Memory is `n_steps` vectors, time `n_steps` products and O(n n_steps^2). Of a multiple
    eigenvalue one vector is found, unless the operator has so few distinct eigenvalues that the
    basis is used up and is begun anew beside itself. A ConvergenceWarning is given where pairs
    have not converged.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th edition, 2013, section 10.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.landscape import lanczos
    >>> found = lanczos(np.diag(np.arange(100.0) ** 2), 2, random_state=0)
    >>> found.eigenvalues.round(6)
    array([9801., 9604.])
    """
    A = aslinearoperator(operator)
    n = _check_square(A)
    if which not in ("largest", "smallest", "both"):
        raise ValueError(f"which must be 'largest', 'smallest' or 'both', got {which!r}")
    if not 1 <= n_eigenvalues <= n:
        raise ValueError(
            f"n_eigenvalues must be from 1 to {n}, the operator's size, got {n_eigenvalues}"
        )
    if n_steps is not None and n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    found, worst = leading_pairs(
        A.matvec,
        n,
        n_eigenvalues,
        which=which,
        n_steps=n_steps,
        tol=tol,
        rng=check_random_state(random_state),
        verbose=verbose,
    )
    warn_of_residuals("lanczos", found, worst, tol)
    return found


def warn_of_residuals(name: str, found: LanczosResult, scale: float, tol: float) -> None:
    """Say how many pairs have not converged, and by how much."""
    bad = found.residuals > tol * scale
    if bad.any():
        warn_user(
            f"{name}: {int(bad.sum())} of {len(bad)} eigenpairs have residuals up to "
            f"{found.residuals.max():.2g} after {found.n_steps} steps, above tol={tol:g} times the "
            f"largest eigenvalue's size, {scale:.3g}; raise n_steps (n_lanczos), or ask for fewer",
            ConvergenceWarning,
        )


def _check_square(A: Any) -> int:
    if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
        raise ValueError(f"the operator must be square, got shape {A.shape}")
    return A.shape[0]


def leading_pairs(
    matvec: Callable[[np.ndarray], np.ndarray],
    n: int,
    n_eigenvalues: int,
    *,
    which: str,
    n_steps: int | None,
    tol: float,
    rng: np.random.RandomState,
    verbose: int = 0,
    n_needed: int | None = None,
) -> tuple[LanczosResult, float]:
    """Return pairs, and the size of the largest eigenvalue.

    Of more pairs than are needed, those that happen to have converged are returned too.
    """
    n_needed = n_eigenvalues if n_needed is None else n_needed
    usual = min(n, max(2 * n_needed * (2 if which == "both" else 1) + 20, 60))
    most = min(n, n_steps if n_steps is not None else 10 * usual)
    check_memory(min(most, usual if n_steps is None else most), n, "Lanczos' method")
    basis = Basis(matvec, n, rng, size=min(most, usual))
    steps = progress(range(most), total=most, description="Lanczos", verbose=verbose)
    for k in steps:
        if k == len(basis.Q):
            check_memory(2 * k, n, "Lanczos' method")
            room = np.empty((min(most, 2 * k), n))
            room[:k] = basis.Q
            basis.Q = room
        more = basis.step()
        done = len(basis)
        if not more:
            break
        if n_steps is None and done >= usual and (done - usual) % 10 == 0 and done < most:
            theta, S = basis.ritz()
            left = np.abs(basis.beta[-1] * S[-1])
            if (left[_wanted(done, n_needed, which)] <= tol * np.abs(theta).max()).all():
                break
    theta, S = basis.ritz()
    scale = float(np.abs(theta).max(initial=0.0))
    left = np.abs(basis.beta[-1] * S[-1])
    needed = set(_wanted(len(theta), n_needed, which).tolist())
    places = [
        i
        for i in _wanted(len(theta), n_eigenvalues, which)
        if i in needed or left[i] <= tol * scale
    ]
    vectors = S[:, places].T @ basis.Q[: len(basis)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # What rounding alone leaves of a residual.
    residuals = np.maximum(left[places], np.finfo(np.float64).eps * scale)
    return LanczosResult(theta[places], vectors, residuals, len(basis)), scale


def stochastic_lanczos_quadrature(
    operator: Any,
    *,
    n_probes: int = 10,
    n_steps: int = 80,
    deflate: np.ndarray | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Approximate the density of a symmetric operator's eigenvalues.

    For each of some random vectors, nodes and weights with which
    :math:`\frac1n \operatorname{tr} f(A) \approx \frac1s \sum_s \sum_i \tau_{si} f(\theta_{si})`;
    for one vector this is exact for polynomials up to degree ``2 * n_steps - 1``.

    Parameters
    ----------
    operator : LinearOperator, ndarray or sparse matrix of shape (n, n)
        Symmetric; only products are taken.
    n_probes : int, default=10
        Random vectors.
    n_steps : int, default=80
        Products with the operator for each; at most n.
    deflate : ndarray of shape (k, n), default=None
        Orthonormal eigenvectors, as rows, that are left out: nodes are those of the operator on
        the space beside them. With the leading ones the variance of traces falls.
    random_state : int, RandomState instance or None, default=None
        Decides the vectors.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    nodes : ndarray of shape (n_probes, n_steps)
        Places; of weight 0 where a basis was used up sooner.
    weights : ndarray of shape (n_probes, n_steps)
        Weights; those of each vector sum to 1.

    See Also
    --------
    HessianSpectrum : The density of a network's Hessian, with it.
    lanczos : Single eigenpairs.

    References
    ----------
    .. [1] S. Ubaru, J. Chen and Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos
       quadrature", SIAM Journal on Matrix Analysis and Applications 38, 2017,
       doi:10.1137/16M1104974.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.landscape import stochastic_lanczos_quadrature
    >>> nodes, weights = stochastic_lanczos_quadrature(np.eye(50) * 3, random_state=0)
    >>> float((nodes * weights).sum(axis=1).mean().round(6))
    3.0
    """
    A = aslinearoperator(operator)
    n = _check_square(A)
    if n_probes < 1 or n_steps < 1:
        raise ValueError(f"n_probes and n_steps must be at least 1, got {n_probes} and {n_steps}")
    rng = check_random_state(random_state)
    beside = None if deflate is None else np.asarray(deflate, dtype=np.float64)
    if beside is not None and (beside.ndim != 2 or beside.shape[1] != n):
        raise ValueError(f"deflate must have shape (k, {n}), got {beside.shape}")
    free = n if beside is None else n - len(beside)
    if free <= 0:
        return np.zeros((n_probes, 0)), np.zeros((n_probes, 0))
    k = min(n_steps, free)
    check_memory(k, n, "stochastic_lanczos_quadrature")
    room = np.empty((k, n))
    nodes, weights = np.zeros((2, n_probes, k))
    probes = progress(
        range(n_probes), total=n_probes, description="Lanczos quadrature", verbose=verbose
    )
    for s in probes:
        basis = Basis(A.matvec, n, rng, size=k, beside=beside, room=room)
        while len(basis) < k and not basis.invariant:
            basis.step()
        theta, S = basis.ritz()
        nodes[s, : len(theta)] = theta
        weights[s, : len(theta)] = S[0] ** 2
    return nodes, weights
