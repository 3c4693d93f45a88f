"""Descent on the factors of a low-rank matrix that is known by linear measurements.

Everything here works in normalised units: measurements of unit mean square, and targets divided
by a scale, see `SensingOperator`.
"""

from dataclasses import dataclass, field

import numpy as np

# A quarter of the normal distribution's absolute values is smaller than this.
LOWER_QUARTILE = 0.31864
# Their median.
MEDIAN = 0.67449
# A singular value of F G' above this many times the spectral norm of the gradient is signal: what
# is still wrong with F G' has about that norm, and singular values are wrong by no more.
_CREDIBLE = 2.0
# The factors are re-scaled when that norm is below this part of the smallest one that is signal.
_SETTLED = 0.25
# Part of the loss that one more product would explain: then the descent is not at its end.
_MOST = 0.5
_CHECK_EVERY = 5
# Steps shrink by this where nothing gets better.
_FAST = 0.97
_WINDOW = 20
# With adapted steps the residual may rise, but not above the largest of this many before.
_MEMORY = 10


@dataclass
class Descent:
    """What a descent returns: factors with M = F G', its course, and why it ended."""

    F: np.ndarray
    G: np.ndarray
    curve: list = field(default_factory=list)
    n_iter: int = 0
    switch_iter: int | None = None
    converged: bool = False
    gradient: float = np.inf
    shift: float = 0.0
    direction: np.ndarray | None = None  # sub-gradient of the matrix at the end


class Validation:
    """Loss on measurements that the descent does not see; keeps the best factors."""

    def __init__(self, loss, patience, every=_CHECK_EVERY):
        self.loss, self.patience, self.every = loss, patience, every
        self.start = self.best = None
        self.best_iter, self.factors = 0, None

    def stop(self, t, F, G):
        """Take note of iteration `t`; say whether the last improvement is too long ago."""
        if t % self.every:
            return False
        value = self.loss(F, G)
        if self.start is None:
            self.start = self.best = value
        if self.factors is None or value < self.best * (1 - 1e-4):
            self.best, self.best_iter, self.factors = value, t, (F, G)
        # Out of a small start nothing improves for a while: patience counts after that.
        return self.best < 0.9 * self.start and t - self.best_iter >= self.patience


def random_factors(rng, shape, k, scale, ratio):
    """Return Gaussian factors of standard deviation scale / sqrt(n), the second `ratio` smaller."""
    n1, n2 = shape
    F = scale / np.sqrt(n1) * rng.standard_normal((n1, k))
    G = ratio * scale / np.sqrt(n2) * rng.standard_normal((n2, k))
    return F, G


def product_svd(F, G):
    """Return the thin SVD of F G', from QR of the factors."""
    Qf, Rf = np.linalg.qr(F)
    Qg, Rg = np.linalg.qr(G)
    U, S, Vt = np.linalg.svd(Rf @ Rg.T)
    return Qf @ U, S, Qg @ Vt.T


def rescale_factors_capped(F, G, beta_square):
    """Return factors of the same product with F'F = max(S, beta^2), S the singular values of F G'.

    Where all of S that is signal is near beta^2 this is the paper's step. Where S is spread, the
    paper's leaves G with a squared norm of S^2 / beta^2, for which the step size is too long;
    here large singular values stay shared between both factors.
    """
    U, S, V = product_svd(F, G)
    D = np.sqrt(np.maximum(S, beta_square))
    return U * D, V * (S / D)


def gradient_descent(
    operator,
    y,
    F,
    G,
    *,
    eta,
    max_iter,
    tol,
    tied=False,
    accelerate=False,
    adapt=False,
    validation=None,
    iterations=None,
):
    """Descend |A(F G') - y|^2 in F and G (or in F alone where they are tied).

    Stops when the gradient of the matrix relative to A*(y) is below `tol`, or when the residual
    fell by less than `tol` of itself in 20 iterations. A step after which the residual is larger
    is taken back, and the step size halved.
    """
    out = Descent(F, F if tied else G)
    y_norm = np.sqrt(_mean_square(y, operator))
    moment = np.linalg.norm(operator.adjoint(y))
    eps = np.finfo(np.float64 if operator.gram is not None else operator.dtype).eps
    tol = max(tol, 30 * eps)
    # With a Gram matrix the residual is a difference of squares: nothing below sqrt(eps).
    floor = 100 * np.sqrt(eps) if operator.gram is not None else 100 * eps
    if moment == 0 or y_norm == 0:
        out.F, out.G, out.converged, out.gradient = F * 0, G * 0, True, 0.0
        return out
    known_rank, previous = 0, np.inf
    last = (F, G)
    old = None
    for t in range(max_iter) if iterations is None else iterations:
        M = F @ F.T if tied else F @ G.T
        if operator.gram is not None:
            square, R = operator.gram_adjoint(M)
        else:
            e, R = operator.residual_and_adjoint(M, y)
            square = _mean_square(e, operator)
        if operator.symmetric and not tied:
            # Nothing is measured of the antisymmetric part, and a product that is free in it has
            # up to twice the rank: it is then slow like the symmetric form. Measure it as zero.
            odd = (M - M.T) / 2
            R = R + odd
            square += np.linalg.norm(odd) ** 2
        residual = np.sqrt(square) / y_norm
        if not residual <= previous * (1 + 1e-3) + floor:  # also NaN
            eta /= 2
            F, G = last
            old = None
            out.curve.append(previous)
            out.n_iter = t + 1
            if eta < eps:
                break
            continue
        out.n_iter, out.F, out.G = t + 1, F, F if tied else G
        out.curve.append(residual)
        previous = residual if old is None else max(out.curve[-_MEMORY:])
        out.gradient = np.linalg.norm(R) / moment
        if validation is not None and validation.stop(t, F, out.G):
            out.F, out.G = validation.factors
            out.converged = True
            break
        if out.gradient <= tol:
            out.converged = True
            break
        if t >= 5 * _WINDOW and _stalled(out.curve, tol, floor):
            beyond = None if tied else _escape(operator, F, G, R, square)
            if beyond is None:
                out.converged = True
                break
            last, old = (F, G), None
            F, G = beyond
            continue
        last = (F, G)
        if tied:
            F = F - eta * (R @ F)
            continue
        if accelerate and t % _CHECK_EVERY == 0:
            rank, beta_square = _signal(F, G, R)
            if rank > known_rank:
                known_rank = rank
                if out.switch_iter is None:
                    out.switch_iter = t
                F, G = rescale_factors_capped(F, G, beta_square)
                old = None
        dF, dG = R @ G, R.T @ F
        length = eta
        if adapt and known_rank:
            if old is not None:
                length = _barzilai_borwein(old, (F, G, dF, dG), eta)
            old = (F, G, dF, dG)
        F, G = F - length * dF, G - length * dG
    # Below the floor the gradient is rounding: on some processors it never falls to tol.
    if out.curve and out.curve[-1] <= floor and out.gradient <= floor:
        out.converged = True
    if validation is not None and validation.factors is not None:
        out.F, out.G = validation.factors
    return out


def _mean_square(e, operator):
    """Return the weighted mean square."""
    square = e @ e if operator.weights is None else (operator.weights * e) @ e
    return float(square / operator.total)


def _barzilai_borwein(old, new, eta):
    """Return the step that the last change of the gradient suggests, from eta to 16 eta."""
    sF, sG, yF, yG = (b - a for a, b in zip(old, new, strict=True))
    bend = (sF * yF).sum() + (sG * yG).sum()
    if bend <= 0:
        return eta
    return float(np.clip(((sF**2).sum() + (sG**2).sum()) / bend, eta, 16 * eta))


def _stalled(curve, tol, floor):
    now, before = curve[-1], curve[-1 - _WINDOW]
    return now > floor and before - now <= np.sqrt(tol) * before


def _escape(operator, F, G, R, square):
    """Return factors beyond the saddle point where they stay, or None where there is none.

    A singular value far below the first may hardly grow out of the start: F is as large there as
    for the first, G is tiny, and F has to turn first. So where one more product of two vectors
    would explain most of what is left, it takes the place of the last one, if that is nothing.
    """
    left, S, right = np.linalg.svd(R, full_matrices=False)
    u, v = left[:, 0], right[0]
    bend = _mean_square(operator.measure(np.outer(u, v)), operator)
    if not S[0] ** 2 > _MOST * bend * square:
        return None
    size = S[0] / bend
    U, S, V = product_svd(F, G)
    if not _CREDIBLE * S[-1] < size:
        return None
    U[:, -1], V[:, -1], S[-1] = u, -v, size
    root = np.sqrt(S)
    return U * root, V * root


def _signal(F, G, R):
    """Return how many singular values of F G' are signal and settled, and the smallest of them."""
    wrong = np.linalg.norm(R, 2)
    _, S, _ = product_svd(F, G)
    signal = S[_CREDIBLE * wrong < S]
    if signal.size and wrong < _SETTLED * signal[-1]:
        return signal.size, signal[-1]
    return 0, 0.0


def spectral_factors(C, k, scale, tied):
    """Return `scale` times balanced factors of the best approximation of C of rank k.

    With `tied` it is positive semi-definite, and both factors are one.
    """
    if tied:
        values, vectors = np.linalg.eigh((C + C.T) / 2)
        F = scale * vectors[:, ::-1][:, :k] * np.sqrt(np.maximum(values[::-1][:k], 0))
        return F, F
    U, S, Vt = np.linalg.svd(C, full_matrices=False)
    root = scale * np.sqrt(S[:k])
    return U[:, :k] * root, Vt[:k].T * root


def weighted_quantile(values, q, weights=None):
    """Return the q-quantile; weights count like repetitions."""
    if weights is None:
        return float(np.quantile(values, q, method="inverted_cdf"))
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulated, q * cumulated[-1] * (1 - 1e-12))]])


def subgradient_descent(
    operator,
    y,
    F,
    G,
    *,
    step,
    eta,
    decay,
    max_iter,
    tol,
    tied=False,
    intercept=False,
    validation=None,
    iterations=None,
    envelope=None,
    patience=None,
    negligible=1e-3,
):
    """Descend the mean of |A(F G') - y| along normalised sub-gradients.

    `step` is "adaptive", "geometric" or "loss", see `MatrixSensingRegressor`. Adaptive steps start
    from `envelope`, which shrinks by `decay`, faster once nothing gets better for `patience`
    iterations, and end where all further ones together are `negligible` beside the residuals.
    """
    out = Descent(F, F if tied else G)
    envelope, shift = eta if envelope is None else envelope, 0.0
    smallest, smallest_iter = np.inf, 0
    for t in range(max_iter) if iterations is None else iterations:
        M = F @ F.T if tied else F @ G.T
        if intercept:
            e = operator.measure(M) - y
            shift = -weighted_quantile(e, 0.5, operator.weights)
            e += shift
            Q = operator.adjoint(np.sign(e))
        else:
            e, Q = operator.residual_and_adjoint(M, y, np.sign)
        size = np.abs(e)
        loss = float(np.average(size, weights=operator.weights))
        norm = float(np.linalg.norm(Q))
        out.n_iter, out.F, out.G, out.shift = t + 1, F, F if tied else G, shift
        out.direction = Q
        out.curve.append(loss)
        # The lower quarter of the residuals is clean as long as less than three quarters are not.
        distance = (
            loss
            if step == "loss"
            else (weighted_quantile(size, 0.25, operator.weights) / LOWER_QUARTILE)
        )
        out.gradient = distance
        if validation is not None and validation.stop(t, F, out.G):
            out.converged = True
            break
        if norm == 0 or distance <= tol:
            out.converged = True
            break
        shrink = decay
        if step == "adaptive":
            length = min(envelope, eta * distance) / norm
            if distance < (0.9 if patience is None else 0.97) * smallest:
                smallest, smallest_iter = distance, t
            # Either at the floor that the surplus of the rank leaves, or, with noise, where all
            # further steps together move the matrix by little beside the noise.
            at_floor = smallest < 1e-4 and t - smallest_iter > 10 * _WINDOW
            if at_floor or envelope / (1 - decay) < negligible * distance:
                out.converged = True
                break
            if patience is not None and t - smallest_iter > patience:
                shrink = min(decay, _FAST)
        elif step == "geometric":
            length = envelope / norm
            out.converged = envelope <= 1e-3 * eta
        else:
            length = eta * np.pi / 2 * loss
        envelope *= shrink
        F, G = F - length * (Q @ G), (G if tied else G - length * (Q.T @ F))
        if tied:
            G = F
    if validation is not None and validation.factors is not None:
        out.F, out.G = validation.factors
    return out
