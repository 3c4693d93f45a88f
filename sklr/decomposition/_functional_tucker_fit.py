"""Coordinate ascent of the functional Tucker model's evidence bound.

A mode is a set of sorted distinct coordinates with Gaussian functions on them. Each mode has one
more row than coordinates, for samples whose coordinate is missing: the average over the
coordinates that the samples have.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import gammaln

# Entries of the largest temporary array: it stays in a cache of a few MiB.
_CHUNK = 2**17
# Length scales that are searched, as shares of a coordinate's range.
SCALE_BOUNDS = (1e-3, 10.0)


@dataclass
class Mode:
    """Coordinates of a mode, and what is fixed about its functions."""

    coordinates: np.ndarray
    share: np.ndarray  # of the samples, for each coordinate
    rank: int
    nu: float
    variance: float
    discrete: bool = False
    gaps: np.ndarray = field(init=False)

    def __post_init__(self):
        self.gaps = gaps_of(self.coordinates, self.discrete)

    @property
    def size(self):
        """Length of the state."""
        return self.rank * int(self.nu + 0.5)


def gaps_of(coordinates, discrete):
    """Return the distance of each coordinate from the one before; infinite between categories."""
    gaps = np.diff(coordinates, prepend=coordinates[:1])
    if discrete:
        gaps[:] = np.inf
    return gaps


def packing(rank):
    """Return the matrix (rank^2, rank (rank + 1) / 2) that adds both halves of a symmetric array.

    Its transpose copies a packed array into both halves.
    """
    E = np.zeros((rank, rank, rank * (rank + 1) // 2))
    for t, (r, s) in enumerate(zip(*np.tril_indices(rank), strict=True)):
        E[r, s, t] = E[s, r, t] = 1.0
    return E.reshape(rank * rank, -1)


def factored(lam, eta):
    """Write messages as independent ones about combinations of the functions.

    Parameters
    ----------
    lam : ndarray of shape (n, rank, rank)
        Precisions of the messages, positive semi-definite.
    eta : ndarray of shape (n, rank)
        Precisions times means of the messages.

    Returns
    -------
    messages : ndarray of shape (n, rank, rank + 2)
        lam = L D L' with unit triangular L: the columns of L as rows; behind them D, and L^-1 eta.
    """
    n, rank = eta.shape
    messages = np.zeros((n, rank, rank + 2))
    left = np.concatenate([lam, eta[:, :, None]], axis=2)
    for j in range(rank):
        pivot = left[:, j, j]
        # Below is rounding: such a direction has no precision.
        known = pivot > 1e-15 * lam[:, j, j]
        messages[:, j, rank] = np.where(known, pivot, 0.0)
        messages[:, j, rank + 1] = left[:, j, rank]
        messages[:, j, j] = 1.0
        for r in range(j + 1, rank):
            ratio = np.divide(left[:, r, j], pivot, out=messages[:, j, r], where=known)
            left[:, r, j + 1 :] -= ratio[:, None] * left[:, j, j + 1 :]
    return messages


def posterior(mode, length_scale, messages):
    """Return means, covariances and log-evidence of a mode's functions given its messages."""
    from sklr.decomposition._functional_tucker_kernels import kalman, smooth

    rate = rate_of(mode.nu, length_scale)
    evidence, *kept = kalman(mode.gaps, rate, mode.variance, messages, mode.size, True)
    return *smooth(messages, *kept), evidence


def log_evidence(mode, length_scale, messages):
    """Return the log-evidence of the messages alone."""
    from sklr.decomposition._functional_tucker_kernels import kalman

    rate = rate_of(mode.nu, length_scale)
    return kalman(mode.gaps, rate, mode.variance, messages, mode.size, False)[0]


def rate_of(nu, length_scale):
    """Return the rate of decay of a Matern process."""
    return np.sqrt(2.0 * nu) / length_scale


def with_average(mode, M, V):
    """Return means and packed second moments, with the row of a missing coordinate last."""
    r, s = np.tril_indices(mode.rank)
    second = V[:, r, s] + M[:, r] * M[:, s]
    return np.vstack([M, mode.share @ M]), np.vstack([second, mode.share @ second])


def products(tables, rows):
    """Return the Khatri-Rao product of rows of several tables, the last index fastest."""
    out = np.ones((len(rows[0]) if rows else 0, 1))
    for table, row in zip(tables, rows, strict=True):
        out = (out[:, :, None] * table[row][:, None, :]).reshape(len(row), -1)
    return out


def chunks(n, width):
    """Yield slices of `n` rows so that rows times `width` stay small."""
    step = max(16, _CHUNK // max(width, 1))
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))


class CoordinateAscent:
    """One run of coordinate ascent on fixed data, from one start."""

    def __init__(self, modes, rows, y, weights, groups, *, core, noise_prior, scales, learn):
        self.modes, self.rows, self.y, self.weights = modes, rows, y, weights
        self.groups = groups  # samples that share a noise level: indices of rows
        self.core_kind, self.noise_prior = core, noise_prior
        self.scales, self.learn = np.array(scales, dtype=float), learn
        self.shape = tuple(mode.rank for mode in modes)
        self.pack = [packing(rank) for rank in self.shape]
        self.bounds = []
        self.messages = [None] * len(modes)
        self.kl = np.zeros(len(modes))
        self.steady = False

    def start(self, factors, core):
        """Set means of the functions and the core; `core` is ignored for a fixed one."""
        self.M, self.V, self.tables = [], [], []
        for mode, M in zip(self.modes, factors, strict=True):
            V = np.broadcast_to(1e-6 * np.eye(mode.rank), (len(M), mode.rank, mode.rank))
            self._set(M, V)
        D = int(np.prod(self.shape))
        if self.core_kind == "cp":
            W = np.zeros(self.shape)
            W[tuple(np.arange(rank) for rank in self.shape)] = 1.0
            self.w, self.S = W.ravel(), np.zeros((D, D))
        else:
            self.w, self.S = core.ravel().copy(), np.eye(D)
        self.noise = np.full((len(self.groups), 2), 1.0)  # shape and rate of each precision
        self.noise[:, 0] = 100.0
        self.kl_core = 0.0

    def _set(self, M, V, k=None):
        k = len(self.M) if k is None else k
        table = with_average(self.modes[k], M, V)
        for store, value in ((self.M, M), (self.V, V), (self.tables, table)):
            store[k:] = [value, *store[k + 1 :]]

    def precision(self):
        """Return the expected precision of each group of samples."""
        return self.noise[:, 0] / self.noise[:, 1]

    def second_core(self):
        """Return E[W W'] packed in every mode, (T_1, .., T_K)."""
        K = len(self.shape)
        full = (np.outer(self.w, self.w) + self.S).reshape(self.shape + self.shape)
        order = [axis for k in range(K) for axis in (k, K + k)]
        full = full.transpose(order).reshape([rank * rank for rank in self.shape])
        for k in range(K):
            full = np.moveaxis(np.tensordot(full, self.pack[k], axes=(k, 0)), -1, k)
        return full

    def collect(self, k):
        """Sum the data's messages to a mode over the samples at each coordinate."""
        mode, others = self.modes[k], [j for j in range(len(self.modes)) if j != k]
        A = np.ascontiguousarray(np.moveaxis(self.second_core(), k, -1))
        A = A.reshape(-1, self.pack[k].shape[1])
        W = np.ascontiguousarray(np.moveaxis(self.w.reshape(self.shape), k, -1))
        W = W.reshape(-1, mode.rank)
        n = len(mode.coordinates)
        packed, eta = np.zeros((n + 1, A.shape[1])), np.zeros((n + 1, mode.rank))
        for members, tau in zip(self.groups, self.precision(), strict=True):
            for part in chunks(len(members), len(A) + A.shape[1]):
                index = members[part]
                rows = [self.rows[j][index] for j in others]
                own, weight = self.rows[k][index], tau * self.weights[index]
                if others:
                    second = products([self.tables[j][1] for j in others], rows) @ A
                    first = products([self.tables[j][0] for j in others], rows) @ W
                else:
                    second = np.broadcast_to(A, (len(index), A.shape[1]))
                    first = np.broadcast_to(W, (len(index), mode.rank))
                # A column a sample, with its weight in the row of its coordinate.
                shape, pointers = (n + 1, len(index)), np.arange(len(index) + 1)
                sums = sparse.csc_array((weight, own, pointers), shape=shape)
                packed += sums @ second
                eta += sums @ (self.y[index][:, None] * first)
        # What came to the row of a missing coordinate is everyone's, by its share.
        packed = packed[:-1] + mode.share[:, None] * packed[-1]
        eta = eta[:-1] + mode.share[:, None] * eta[-1]
        halves = packed.copy()
        r, s = np.tril_indices(mode.rank)
        halves[:, r != s] *= 0.5
        return (halves @ self.pack[k].T).reshape(n, mode.rank, mode.rank), eta

    def update_mode(self, k, search):
        """Set a mode's functions, and its length scale where it is searched, to their optimum."""
        mode = self.modes[k]
        lam, eta = self.collect(k)
        messages = factored(lam, eta)
        if search and not mode.discrete and len(eta) > 1:
            self._search_scale(k, messages)
        M, V, evidence = posterior(mode, self.scales[k], messages)
        self.messages[k] = lam, eta
        self._set(M, V, k)
        second = V + M[:, :, None] * M[:, None, :]
        self.kl[k] = float((eta * M).sum() - 0.5 * (lam * second).sum()) - evidence

    def _search_scale(self, k, messages):
        """Maximise the evidence of the messages over the length scale, near the present one.

        For given messages the bound's best value over a mode's functions is their evidence, so
        that the bound rises with it.
        """
        mode, now = self.modes[k], np.log(self.scales[k])

        def loss(log_scale):
            return -log_evidence(mode, np.exp(log_scale), messages)

        low, high = np.maximum(now - 1.0, np.log(SCALE_BOUNDS[0])), now + 1.0
        high = min(high, np.log(SCALE_BOUNDS[1]))
        found = minimize_scalar(
            loss, bounds=(low, high), method="bounded", options={"xatol": 0.02, "maxiter": 12}
        )
        if found.fun < loss(now):
            self.scales[k] = np.exp(found.x)

    def gram(self, members):
        """Return packed sums of second moments, sums of y times first moments, for some rows."""
        last = len(self.modes) - 1
        G, h = 0.0, 0.0
        width = int(np.prod([E.shape[1] for E in self.pack]))
        for part in chunks(len(members), width // self.pack[last].shape[1]):
            index = members[part]
            rows = [self.rows[j][index] for j in range(last + 1)]
            weight = self.weights[index][:, None]
            second = weight * self.tables[last][1][rows[last]]
            first = (weight * self.y[index][:, None]) * self.tables[last][0][rows[last]]
            if last:
                left = products([table[1] for table in self.tables[:last]], rows[:last])
                G = G + left.T @ second
                left = products([table[0] for table in self.tables[:last]], rows[:last])
                h = h + left.T @ first
            else:
                G, h = G + second.sum(axis=0), h + first.sum(axis=0)
        G = np.reshape(G, [E.shape[1] for E in self.pack])
        return G, np.reshape(h, -1)

    def unpacked(self, G):
        """Return packed sums as a matrix (D, D)."""
        K = len(self.shape)
        for k in range(K):
            G = np.moveaxis(np.tensordot(G, self.pack[k], axes=(k, 1)), -1, k)
        G = G.reshape([rank for rank in self.shape for _ in range(2)])
        D = int(np.prod(self.shape))
        return G.transpose([*range(0, 2 * K, 2), *range(1, 2 * K, 2)]).reshape(D, D)

    def update_core_and_noise(self):
        """Set core and precisions to their optimum; returns the evidence bound."""
        sums = [self.gram(members) for members in self.groups]
        if self.core_kind == "tucker":
            D = len(self.w)
            precision, h = np.eye(D), np.zeros(D)
            for (G, hg), tau in zip(sums, self.precision(), strict=True):
                precision += tau * self.unpacked(G)
                h += tau * hg
            factor = cho_factor(precision)
            self.S = cho_solve(factor, np.eye(D))
            self.S = 0.5 * (self.S + self.S.T)
            self.w = cho_solve(factor, h)
            log_det = 2.0 * np.log(np.diag(factor[0])).sum()
            self.kl_core = 0.5 * (self.w @ self.w + np.trace(self.S) - D + log_det)
        A = self.second_core()
        a0, b0 = self.noise_prior
        bound = -self.kl_core - self.kl.sum()
        for g, ((G, h), members) in enumerate(zip(sums, self.groups, strict=True)):
            y, weights = self.y[members], self.weights[members]
            count = weights.sum()
            sse = float(weights @ y**2 - 2.0 * self.w @ h + (A * G).sum())
            a, b = a0 + 0.5 * count, b0 + 0.5 * max(sse, 0.0)
            self.noise[g] = a, b
            bound += (
                -0.5 * count * np.log(2.0 * np.pi)
                + gammaln(a) - gammaln(a0) + a0 * np.log(b0) - a * np.log(b)
            )  # fmt: skip
        return float(bound)

    def sweep(self):
        """Update everything once; returns the evidence bound."""
        # The first sweeps move the functions far: scales follow when they have a shape, and
        # only now and then once they are steady.
        turn = len(self.bounds)
        search = self.learn and turn >= 3 and (not self.steady or turn % 5 == 0)
        before = self.scales.copy()
        for k in range(len(self.modes)):
            self.update_mode(k, search)
        if search:
            self.steady = bool(np.abs(np.log(self.scales / before)).max() < 0.03)
        self.bounds.append(self.update_core_and_noise())
        return self.bounds[-1]

    def run(self, n_sweeps, tol):
        """Sweep until the bound gains less than `tol` of itself, or of one a sample.

        The bound crosses zero where noise is small. Returns whether it got there.
        """
        for _ in range(n_sweeps):
            self.sweep()
            if len(self.bounds) > 5 and not (self.learn and not self.steady):
                gain = self.bounds[-1] - self.bounds[-2]
                if gain < tol * max(self.weights.sum(), abs(self.bounds[-1])):
                    return True
        return False
