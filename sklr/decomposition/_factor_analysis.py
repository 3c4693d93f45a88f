"""Factor analysis of a table with holes: one group of rows, or a mixture of a few.

In each group a row is ``means + loadings @ scores + noise``, with standard normal scores and a
noise variance for each column. What is fitted is a mean-field posterior (variational Bayes): each
column's loadings and mean are normal, with a precision for each factor that removes those that
explain nothing; scores have their exact posterior given these.

Tables are stored by columns, ``(n_features, n_rows)``, zeros where nothing is observed: all sums
over entries are then products with the 0/1 table of what is observed.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

# Rows that are worked on at once: so many numbers of each row's k x k systems fit into the cache.
_CACHE = 1 << 16
# Noise variances do not fall below this, in units of the column's variance.
FLOOR = 1e-4
# A factor that explains less than this of one column, over all columns together, is removed.
_NEGLIGIBLE = 1e-2
# Precision of the prior of a group's means, in standard deviations of the columns.
_MEAN_PRECISION = {False: 1e-3, True: 0.1}
# Noise of a group of rows: so many rows of such a variance are added to its own.
_NOISE_ROWS, _NOISE_PRIOR = 4.0, 0.15


@dataclass
class Table:
    """Standardised values of a table, by columns."""

    values: np.ndarray  # (n_features, n_rows), 0 where missing
    observed: np.ndarray  # (n_features, n_rows), 0.0 or 1.0
    pattern: np.ndarray | None = None  # (n_rows,), rows of one number have the same observed
    compiled: bool = False  # whether the table is large enough for a kernel to be compiled

    def with_patterns(self):
        """Number the patterns of what is observed: rows of one pattern share a covariance."""
        bits = np.ascontiguousarray(np.packbits(self.observed > 0, axis=0).T)
        keys = bits.view(np.dtype((np.void, bits.shape[1])))[:, 0]
        pattern = np.unique(keys, return_inverse=True)[1]
        return Table(self.values, self.observed, pattern, self.compiled)

    @property
    def n_rows(self):
        """Number of rows."""
        return self.values.shape[1]

    @cached_property
    def shared(self):
        """First row of each pattern and the pattern of each row; None where few are shared."""
        if self.pattern is None:
            return None
        _, first, of_row = np.unique(self.pattern, return_index=True, return_inverse=True)
        return (first, of_row) if len(first) < 0.7 * len(of_row) else None

    def rows(self, which):
        """Return some rows."""
        pattern = None if self.pattern is None else self.pattern[which]
        return Table(self.values[:, which], self.observed[:, which], pattern, self.compiled)

    def chunks(self, n_factors):
        """Iterate over rows, few enough at a time."""
        size = max(64, _CACHE // max(n_factors, 1) ** 2)
        for first in range(0, self.n_rows, size):
            yield self.rows(slice(first, first + size))


@dataclass
class Mixture:
    """Posterior of the parameters; the first axis is the group."""

    weights: np.ndarray  # (n_groups,)
    means: np.ndarray  # (n_groups, n_features)
    loadings: np.ndarray  # (n_groups, n_features, k)
    noise: np.ndarray  # (n_groups, n_features)
    cov: np.ndarray  # (n_groups, n_features, k + 1, k + 1), of loadings and mean

    @property
    def n_groups(self):
        """Number of groups of rows."""
        return len(self.weights)

    @property
    def n_factors(self):
        """Number of factors in each group."""
        return self.loadings.shape[2]


@dataclass
class Scores:
    """Posterior of rows; the last axis is the row."""

    scores: list  # of each group, (k, n_rows)
    covariances: list  # of each group, (k, k, n_rows)
    shares: np.ndarray  # (n_groups, n_rows), probabilities of the groups


def _second_moments(model, c):
    """Expected outer products of the loadings of each column, (k, k, n_features)."""
    W = model.loadings[c].T
    return W[:, None] * W + np.moveaxis(model.cov[c, :, :-1, :-1], 0, -1)


@lru_cache(maxsize=64)
def _pack(k):
    """Indices of the upper triangle, and where each entry of the square is in it."""
    i, j = np.triu_indices(k)
    where = np.empty((k, k), dtype=np.intp)
    where[i, j] = where[j, i] = np.arange(len(i))
    return i, j, where


@lru_cache(maxsize=64)
def _pack_with_one(k):
    """As `_pack` of k + 1, the triangle of the first k before everything else."""
    i, j, inner = _pack(k)
    last = np.arange(k + 1)
    where = np.empty((k + 1, k + 1), dtype=np.intp)
    where[:k, :k] = inner
    where[k] = where[:, k] = len(i) + last
    return np.append(i, last), np.append(j, np.full(k + 1, k)), where


def invert(A, compiled=False):
    """Invert positive definite matrices of shape (k, k, n) in place; return log determinants.

    Gauss-Jordan without pivots, all matrices at once: what is inverted here is the identity plus
    something positive, and small.
    """
    k, _, n = A.shape
    if compiled:
        from sklr.decomposition._factor_analysis_kernels import invert_in_place

        log_det = np.empty(n)
        invert_in_place(A, log_det)
        return log_det
    pivots = np.empty((k, n))
    for j in range(k):
        pivots[j] = A[j, j]
        inverse = 1.0 / A[j, j]
        column = A[:, j].copy()
        column[j] = 0.0
        row = A[j] * inverse
        A -= column[:, None] * row
        A[j] = row
        A[:, j] = column * -inverse
        A[j, j] = inverse
    return np.log(pivots).sum(axis=0)


def _coefficients(model):
    """What the rows' systems are made of, in each group; the same for all rows."""
    i, j, _ = _pack(model.n_factors)
    out = []
    for c in range(model.n_groups):
        W, mean, precision = model.loadings[c], model.means[c], 1.0 / model.noise[c]
        second = _second_moments(model, c)[i, j] * precision
        of_means = (W.T * mean + model.cov[c, :, :-1, -1].T) * precision
        far = (mean * mean + model.cov[c, :, -1, -1]) * precision - np.log(precision)
        out.append((second, W.T * precision, of_means, precision, 2.0 * mean * precision, far))
    return out


def row_posterior(model, table, coefficients=None):
    """Posterior of the scores of rows given what is observed of them.

    Parameters
    ----------
    model : Mixture
        The parameters.
    table : Table
        The rows.
    coefficients : list, optional
        Of `_coefficients`, where there are many parts of a table.

    Returns
    -------
    posterior : Scores
        Means and covariances of the scores, probabilities of the groups.
    """
    k = model.n_factors
    Z, M = table.values, table.observed
    _, _, where = _pack(k)
    squares = Z * Z if model.n_groups > 1 else None
    seen, of_row = M, None
    if table.shared is not None:
        first, of_row = table.shared
        seen = M[:, first]
    scores, covariances, logs = [], [], []
    if coefficients is None:
        coefficients = _coefficients(model)
    for c, (second, of_values, of_means, precision, twice, alone) in enumerate(coefficients):
        A = (second @ seen)[where]
        A[range(k), range(k)] += 1.0
        h = of_values @ Z
        h -= of_means @ M
        log_det = invert(A, table.compiled)
        if of_row is not None:
            A, log_det = A[:, :, of_row], log_det[of_row]
        u = (A * h).sum(axis=1)
        scores.append(u)
        covariances.append(A)
        if model.n_groups > 1:
            far = precision @ squares - twice @ Z + alone @ M
            logs.append(np.log(model.weights[c]) - 0.5 * (far - (h * u).sum(axis=0) + log_det))
    if model.n_groups == 1:
        return Scores(scores, covariances, np.ones((1, table.n_rows)))
    shares = np.array(logs)
    shares = np.exp(shares - shares.max(axis=0))
    return Scores(scores, covariances, shares / shares.sum(axis=0))


def expected(model, posterior):
    """Expected values of all entries, (n_features, n_rows)."""
    out = model.means.T @ posterior.shares
    for c in range(model.n_groups):
        out += model.loadings[c] @ (posterior.scores[c] * posterior.shares[c])
    return out


def variances(model, posterior):
    """Variances of the entries if they are not observed, (n_features, n_rows)."""
    i, j, _ = _pack(model.n_factors)
    twice = np.where(i == j, 1.0, 2.0)[:, None]
    out = 0.0
    middle = expected(model, posterior)
    for c in range(model.n_groups):
        W, cov = model.loadings[c].T, np.moveaxis(model.cov[c], 0, -1)
        u, S = posterior.scores[c], posterior.covariances[c][i, j]
        # Of the scores, of the loadings, of both.
        var = (twice * (W[i] * W[j] + cov[i, j])).T @ S
        var += (twice * cov[i, j]).T @ (u[i] * u[j])
        var += 2.0 * cov[:-1, -1].T @ u
        var += (cov[-1, -1] + model.noise[c])[:, None]
        gap = model.means[c][:, None] + model.loadings[c] @ u - middle
        out = out + posterior.shares[c] * (var + gap * gap)
    return out


def leave_one_out(model, posterior, table):
    """What is left of each observed value when it is predicted from the others of its row.

    Parameters
    ----------
    model : Mixture
        The parameters.
    posterior : Scores
        Of the rows, with all their values.
    table : Table
        The rows.

    Returns
    -------
    residuals, shares : ndarray of shape (n_features, n_rows), and (n_groups, ...)
        0 where nothing is observed; probabilities of the groups without the value.
    """
    i, j, _ = _pack(model.n_factors)
    twice = np.where(i == j, 1.0, 2.0)[:, None]
    gaps, logs = [], []
    for c in range(model.n_groups):
        W, noise = model.loadings[c].T, model.noise[c][:, None]
        # Share of a value in its own prediction.
        own = (twice * W[i] * W[j]).T @ posterior.covariances[c][i, j] / noise
        left = 1.0 - np.minimum(own, 1.0 - 1e-6)
        gap = (table.values - model.means[c][:, None] - W.T @ posterior.scores[c]) / left
        gaps.append(gap)
        var = noise / left
        logs.append(np.log(posterior.shares[c] + 1e-300) + 0.5 * (gap * gap / var + np.log(var)))
    if model.n_groups == 1:
        return gaps[0] * table.observed, np.ones((1, *table.values.shape))
    shares = np.array(logs)
    shares = np.exp(shares - shares.max(axis=0))
    shares /= shares.sum(axis=0)
    return (shares * np.array(gaps)).sum(axis=0) * table.observed, shares


class _Sums:
    """Sums over rows that the parameters are computed from."""

    def __init__(self, model):
        p, k = model.loadings.shape[1:]
        i, j, self.where = _pack_with_one(k)
        self.index = i, j
        self.second = np.zeros((model.n_groups, len(i), p))  # of (scores, 1), by column
        self.first = np.zeros((model.n_groups, k + 1, p))  # times the values
        self.squares = np.zeros((model.n_groups, p))
        self.total = np.zeros((model.n_groups, len(i)))  # of (scores, 1), all rows

    def add(self, posterior, table):
        i, j = self.index
        Z, M = table.values, table.observed
        k = len(posterior.scores[0])
        inner = k * (k + 1) // 2
        where = _pack(k)[:2]
        for c, share in enumerate(posterior.shares):
            u = np.vstack([posterior.scores[c], np.ones(table.n_rows)])
            both = u[i] * u[j]
            both[:inner] += posterior.covariances[c][where]
            alone = len(posterior.shares) == 1
            self.second[c] += both @ (M if alone else M * share).T
            self.total[c] += both @ share
            self.first[c] += u @ (Z if alone else Z * share).T
            self.squares[c] += share @ (Z * Z).T


def _rotated(model, total):
    """Coordinates in which scores are standard normal over all rows and factors orthogonal.

    Without them EM needs many times the sweeps: what scores and loadings can exchange settles
    slowly. Returns each group's map of (scores, 1), and the energies of the factors.
    """
    groups, _, k = model.loadings.shape
    size = np.maximum(total[:, k, k], 1e-300)
    mean = total[:, :k, k] / size[:, None]
    spread = total[:, :k, :k] / size[:, None, None] - mean[:, :, None] * mean[:, None, :]
    L = np.linalg.cholesky(spread + 1e-12 * np.eye(k))
    W = model.loadings
    second = W.transpose(0, 2, 1) @ W + model.cov[:, :, :k, :k].sum(axis=1)
    energy, Q = np.linalg.eigh(L.transpose(0, 2, 1) @ second @ L)
    R = Q.transpose(0, 2, 1)[:, ::-1] @ np.linalg.inv(L)
    B = np.zeros((groups, k + 1, k + 1))
    B[:, :k, :k] = R
    B[:, :k, k] = -(R @ mean[:, :, None])[:, :, 0]
    B[:, k, k] = 1.0
    return B, np.maximum(energy[:, ::-1], 0.0)


def _update(model, sums):
    """Set the parameters to their posterior given the sums over rows; return factors' energies."""
    groups, p, k = model.loadings.shape
    B, energies = _rotated(model, sums.total[:, sums.where])
    A = np.moveaxis(sums.second[:, sums.where], -1, 1)
    A = B[:, None] @ A @ B.transpose(0, 2, 1)[:, None]
    b = (B @ sums.first).transpose(0, 2, 1)
    count, rest = A[:, :, k, k], sums.squares
    precision = np.full((groups, k + 1), _MEAN_PRECISION[groups > 1])
    precision[:, :k] = (p + 2e-3) / (energies + 2e-3)
    systems = A / model.noise[:, :, None, None]
    systems[:, :, range(k + 1), range(k + 1)] += precision[:, None]
    cov = np.linalg.inv(systems)
    w = (cov @ (b / model.noise[:, :, None])[..., None])[..., 0]
    second = cov + w[..., :, None] * w[..., None, :]
    rest = rest - 2.0 * (w * b).sum(axis=2) + (second * A).sum(axis=(2, 3))
    if groups > 1:
        rest, count = rest + _NOISE_ROWS * _NOISE_PRIOR, count + _NOISE_ROWS
        sizes = sums.total[:, -1]
        model.weights = (sizes + 1.0) / (sizes.sum() + groups)
    model.noise = np.maximum(rest / np.maximum(count, 1e-12), FLOOR)
    model.loadings, model.means, model.cov = w[..., :k], w[..., k], cov
    return energies


def _without_weak(model, energies):
    """Drop the last factors where they explain nothing in any group."""
    kept = int((energies.max(axis=0) > _NEGLIGIBLE).sum())
    if kept == model.n_factors:
        return model
    chosen = np.append(np.arange(kept), model.n_factors)
    return Mixture(
        model.weights,
        model.means,
        np.ascontiguousarray(model.loadings[:, :, :kept]),
        model.noise,
        np.ascontiguousarray(model.cov[:, :, chosen][:, :, :, chosen]),
    )


def improve(model, table, max_iter, tol, *, prune=True, stop=None):
    """Sweep over the table until the values of holes hardly change.

    Parameters
    ----------
    model : Mixture
        Where to start from; its arrays are overwritten.
    table : Table
        The rows.
    max_iter : int
        Largest number of sweeps.
    tol : float
        Root mean square change of the expected values, in standard deviations of the columns, of
        up to a thousand rows, by which a sweep is the last.
    prune : bool
        Whether factors that explain nothing are removed.
    stop : callable, optional
        Gets the expected values of these rows before each sweep; true: the sweep is the last.

    Yields
    ------
    model, change : Mixture, float
        After each sweep.
    """
    n_seen = min(table.n_rows, 1000)
    before, n_factors, chunks = None, None, []
    for _ in range(max_iter):
        if n_factors != model.n_factors:
            n_factors = model.n_factors
            chunks = list(table.chunks(n_factors))  # views
        sums = _Sums(model)
        seen = []
        done = 0
        coefficients = _coefficients(model)
        for chunk in chunks:
            posterior = row_posterior(model, chunk, coefficients)
            if done < n_seen:
                seen.append(expected(model, posterior))
                done += chunk.n_rows
            sums.add(posterior, chunk)
        energies = _update(model, sums)
        if prune:
            model = _without_weak(model, energies)
        now = np.hstack(seen)[:, :n_seen]
        change = np.inf if before is None else np.sqrt(np.mean((now - before) ** 2))
        before = now
        yield model, change
        if change <= tol or (stop is not None and stop(now)):
            return
