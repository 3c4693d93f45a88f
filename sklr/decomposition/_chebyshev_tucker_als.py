"""Alternating least squares for a Chebyshev-Tucker function at scattered samples."""

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lstsq

from sklr.decomposition._chebyshev import pad_rows
from sklr.decomposition._chebyshev_tucker_prior import penalties_of_degrees

# Entries of the largest design matrix that is kept; longer ones are made again row by row.
_CHUNK = 2_000_000
# A sweep that changes the residual by less than this share of it is the last one.
_SMALL_GAIN = 1e-4
# Sweeps at degrees that are only on the way.
_SWEEPS_BELOW = 10
# Under smaller ridges normal equations keep few digits.
_TINY_RIDGE = 1e-9
# A relative residual that rounding could leave.
_ROUNDING = 1e-13


def row_products(matrices):
    """Return the products of all columns, row by row: (n, product of the numbers of columns)."""
    out = matrices[0]
    for M in matrices[1:]:
        out = (out[:, :, None] * M[:, None, :]).reshape(len(out), -1)
    return out


def levels(degrees):
    """Return the degrees on the way: 1, 3, 5, 9, ... up to those of each coordinate."""
    found, m = [(1,) * len(degrees)], 3
    while True:
        found.append(tuple(min(m, degree) for degree in degrees))
        if m >= max(degrees):
            return list(dict.fromkeys(found))
        m = 2 * m - 1


class RidgeSolver:
    """Least squares with a ridge, from designs that come in parts of the rows."""

    def __init__(self, n, make_rows, target, weights, penalty):
        self.make_rows, self.n = make_rows, n
        self.target, self.weights, self.penalty = target, weights, penalty
        size = len(penalty)
        step = max(256, _CHUNK // size)
        self.parts = [slice(s, min(s + step, n)) for s in range(0, n, step)]
        self.kept = make_rows(slice(0, n)) if len(self.parts) == 1 else None

    def rows(self, part):
        return self.make_rows(part) if self.kept is None else self.kept

    def _weighted(self, part):
        D = self.rows(part)
        return D if self.weights is None else D * self.weights[part, None]

    def solve(self, alpha):
        """Return the coefficients."""
        size = len(self.penalty)
        if size > self.n and alpha > 0:
            return self._solve_dual(alpha)
        A, b = np.zeros((size, size)), np.zeros(size)
        for part in self.parts:
            D = self._weighted(part)
            A += D.T @ D
            y = (
                self.target[part]
                if self.weights is None
                else self.target[part] * self.weights[part]
            )
            b += D.T @ y
        if alpha == 0:
            return self._solve_exactly()
        ridge = alpha * self.penalty
        A.flat[:: size + 1] += ridge
        try:
            factor = cho_factor(A, check_finite=False)
        except LinAlgError:
            return self._solve_exactly(ridge)
        x = cho_solve(factor, b, check_finite=False)
        # Refinement gives back digits that the normal equations lose, three a step at small ridges.
        for _ in range(1 if alpha > _TINY_RIDGE else 2):
            b = -ridge * x
            for part in self.parts:
                D = self._weighted(part)
                y = (
                    self.target[part]
                    if self.weights is None
                    else self.target[part] * self.weights[part]
                )
                b += D.T @ (y - D @ x)
            x = x + cho_solve(factor, b, check_finite=False)
        return x

    def _solve_exactly(self, ridge=None):
        D = np.vstack([self._weighted(part) for part in self.parts])
        y = self.target if self.weights is None else self.target * self.weights
        if ridge is not None:
            D = np.vstack([D, np.diag(np.sqrt(ridge))])
            y = np.concatenate([y, np.zeros(len(ridge))])
        return lstsq(D, y, check_finite=False, lapack_driver="gelsy")[0]

    def _solve_dual(self, alpha):
        """More coefficients than samples: as many equations as samples."""
        D = np.vstack([self._weighted(part) for part in self.parts])
        y = self.target if self.weights is None else self.target * self.weights
        scaled = D / self.penalty
        K = scaled @ D.T
        ridge = max(alpha, 1e-15 * np.trace(K) / len(K), 1e-300)
        K.flat[:: len(K) + 1] += ridge
        factor = cho_factor(K, check_finite=False)
        z = cho_solve(factor, y, check_finite=False)
        # Two steps of refinement: with a small ridge K is near singular where rows are alike.
        for _ in range(2):
            z += cho_solve(factor, y - D @ (scaled.T @ z) - ridge * z, check_finite=False)
        return scaled.T @ z


class Descent:
    r"""One run: core and coefficients of each coordinate, improved in turn.

    What falls is :math:`\sum_i w_i (y_i - f(x_i))^2 + \alpha \sum_j C_j^2 \prod_k \rho^{j_k}` for
    the coefficients C of the whole function: the penalty does not depend on which factors and
    core make it up. In the Tucker format it is a product of small matrices, one for each
    coordinate, and the factors are turned so that these are diagonal.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Samples, scaled to [-1, 1].
    y : ndarray of shape (n,)
        Targets of size one.
    weights : ndarray of shape (n,) or None
        Square roots of the samples' weights.
    alpha : float
        The ridge.
    degree_penalty : float, default=1.6
        Penalty of a degree over that of the degree below.
    """

    def __init__(self, points, y, weights, alpha, degree_penalty=1.6):
        self.points, self.y, self.weights, self.alpha = points, y, weights, alpha
        self.degree_penalty = degree_penalty
        self.d = points.shape[1]
        self.losses = []
        self.V = None
        norm = y if weights is None else y * weights
        self.size = max(float(np.linalg.norm(norm)), 1e-300)

    def grow(self, degrees, ranks, rng):
        """Go to higher degrees: zeros below, and new random columns until the ranks are reached."""
        V = []
        for k, (m, r) in enumerate(zip(degrees, ranks, strict=True)):
            old = np.zeros((0, 0)) if self.V is None else self.V[k]
            new = np.zeros((m, min(r, m)))
            new[: old.shape[0], : old.shape[1]] = old
            extra = rng.standard_normal((m, new.shape[1] - old.shape[1]))
            extra /= 1.0 + np.arange(m)[:, None]
            if old.shape[1] == 0:
                extra[0, :1] = 1.0  # the constant is most of many functions
            new[:, old.shape[1] :] = extra
            Q, _ = np.linalg.qr(new)
            V.append(Q)
        self.B = [chebvander(self.points[:, k], m - 1) for k, m in enumerate(degrees)]
        self.V, self.F, self.roughness = [*V], [None] * self.d, [None] * self.d
        self.core = np.zeros([C.shape[1] for C in V])
        for k in range(self.d):
            self.set_factor(k, V[k])
        self.update_core()

    def set_factor(self, k, Q):
        """Take orthonormal coefficients, turned so that their functions are smooth first.

        The roughness is diagonal then, and the core's penalty with it. Returns the turn.
        """
        values, turn = np.linalg.eigh(Q.T @ (self.degree_weights(len(Q))[:, None] * Q))
        self.V[k], self.roughness[k] = Q @ turn, values
        self.F[k] = self.B[k] @ self.V[k]
        return turn

    def degree_weights(self, m):
        """Return the penalty of each degree: it grows as smooth functions' coefficients fall."""
        return penalties_of_degrees(m, self.degree_penalty)

    def core_penalty(self):
        """Return the roughness of each entry of the core."""
        penalty = self.roughness[0]
        for more in self.roughness[1:]:
            penalty = np.multiply.outer(penalty, more).ravel()
        return penalty

    def update_core(self):
        """Solve for the core."""
        n = len(self.y)
        solver = RidgeSolver(
            n, lambda part: row_products([F[part] for F in self.F]), self.y, self.weights,
            self.core_penalty(),
        )  # fmt: skip
        x = solver.solve(self.alpha)
        self.core = x.reshape(self.core.shape)
        total = 0.0
        for part in solver.parts:
            residual = self.y[part] - solver.rows(part) @ x
            if self.weights is not None:
                residual = residual * self.weights[part]
            total += float(residual @ residual)
        self.losses.append(np.sqrt(total) / self.size)

    def update_factor(self, k):
        """Solve for the coefficients of one coordinate, and make them orthonormal."""
        m, r = self.V[k].shape
        others = [j for j in range(self.d) if j != k]
        unfolded = np.moveaxis(self.core, k, -1).reshape(-1, r)
        rough = np.ones(1)
        for j in others:
            rough = np.multiply.outer(rough, self.roughness[j]).ravel()
        # In the basis of these eigenvectors the penalty is diagonal.
        mu, turn = np.linalg.eigh(unfolded.T @ (rough[:, None] * unfolded))
        unfolded = unfolded @ turn
        mu = np.maximum(mu, 1e-15 * max(mu[-1], 1e-30))

        def make_rows(part):
            left = [self.F[j][part] for j in others]
            H = row_products(left) @ unfolded if left else np.broadcast_to(
                unfolded, (len(self.y[part]), r)
            )  # fmt: skip
            return row_products([self.B[k][part], H])

        penalty = np.multiply.outer(self.degree_weights(m), mu).ravel()
        solver = RidgeSolver(len(self.y), make_rows, self.y, self.weights, penalty)
        C = solver.solve(self.alpha).reshape(m, r) @ turn.T
        Q, R = np.linalg.qr(C)
        R = self.set_factor(k, Q).T @ R
        self.core = np.moveaxis(np.tensordot(R, np.moveaxis(self.core, k, 0), (1, 0)), 0, k)
        self.core = np.ascontiguousarray(self.core)

    def sweep(self):
        """Improve all coordinates and the core once."""
        for k in range(self.d):
            self.update_factor(k)
        self.update_core()

    def run(self, max_iter, tol):
        """Sweep until the residual has settled; return whether it has."""
        for _ in range(max_iter):
            self.sweep()
            if self.last_change() < max(tol, _SMALL_GAIN * self.losses[-1]):
                return True
        return False

    def last_change(self):
        """Return by how much the last sweep changed the relative residual."""
        return abs(self.losses[-2] - self.losses[-1]) if len(self.losses) > 1 else np.inf

    def objective(self):
        """Return what is minimised: squared residuals and penalty."""
        penalty = self.core_penalty()
        return (self.losses[-1] * self.size) ** 2 + self.alpha * float(
            penalty @ self.core.ravel() ** 2
        )

    def penalized(self):
        """Return what is minimised, beside the size of y."""
        return self.objective() / self.size**2


def descend(points, y, weights, degrees, ranks, alpha, degree_penalty, max_iter, tol, rng):
    """Run through the degrees from few to those wanted; return the run and if it has settled."""
    run = Descent(points, y, weights, alpha, degree_penalty)
    if tuple(ranks) == tuple(degrees):  # all coefficients: one linear system
        run.grow(degrees, ranks, rng)
        return run, True
    way = levels(degrees)
    for at in way:
        run.grow(at, [min(r, m) for r, m in zip(ranks, at, strict=True)], rng)
        settled = run.run(max_iter if at == way[-1] else min(max_iter, _SWEEPS_BELOW), tol)
        # What is left is rounding and the ridge's own: more functions would fit those.
        if run.losses[-1] < _ROUNDING + min(10 * alpha / max(run.size**2, 1e-300), 1e-8):
            settled = True
            break
    run.V = [pad_rows(V, m) for V, m in zip(run.V, degrees, strict=True)]
    return run, settled
