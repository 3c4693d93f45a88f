"""How likely the attributes and features of vertices are in each cluster."""

import numpy as np
from scipy import sparse
from scipy.special import gammaln

# Pseudo-counts of values, of which each attribute takes the likeliest.
_PSEUDO_COUNTS = (0.01, 0.1, 1.0, 10.0)
_PSEUDO_WORDS = 0.1


def _evidence(counts, pseudo):
    """Log likelihood of counts (n_values, n_clusters) under a symmetric Dirichlet prior."""
    m = len(counts)
    return (
        (gammaln(counts + pseudo) - gammaln(pseudo)).sum()
        + (gammaln(m * pseudo) - gammaln(counts.sum(axis=0) + m * pseudo)).sum()
    )  # fmt: skip


def _best_evidence(counts):
    return max(_evidence(counts, pseudo) for pseudo in _PSEUDO_COUNTS)


class Categories:
    """One categorical attribute: a distribution of its values in each cluster."""

    def __init__(self, codes, n_values):
        self.codes, self.n_values = codes, n_values

    def _counts(self, soft):
        columns = (np.bincount(self.codes, weights=w, minlength=self.n_values) for w in soft.T)
        return np.stack(list(columns), axis=1)

    def _smoothed(self, soft):
        counts = self._counts(soft)
        return counts + max(_PSEUDO_COUNTS, key=lambda pseudo: _evidence(counts, pseudo))

    def __call__(self, soft):
        """Return the log likelihood of each vertex in each cluster, by all others.

        A vertex that counted itself would vote for its own value.
        """
        counts = self._smoothed(soft)
        return np.log((counts[self.codes] - soft) / (counts.sum(axis=0) - soft))

    def tells(self, soft):
        """Return the gain in evidence of a distribution for each cluster over a common one."""
        counts = self._counts(soft)
        return _best_evidence(counts) - _best_evidence(counts.sum(axis=1, keepdims=True))

    def fitted(self, soft):
        """Return what `of_new` needs: the log likelihood of each value in each cluster."""
        counts = self._smoothed(soft)
        return np.log(counts / counts.sum(axis=0))

    @staticmethod
    def of_new(logs, codes):
        """Return the log likelihood of new vertices; a value never seen (-1) says nothing."""
        return np.where((codes >= 0)[:, None], logs[codes], 0.0)


class Counts:
    """Sparse features that are not negative, such as words: a distribution of them in each cluster.

    Rows are put in the unit in which a row has as much in it as it has entries, on average.
    """

    def __init__(self, X):
        mass = X.sum()
        self.unit = X.nnz / mass if mass > 0 else 1.0
        self.X = X * self.unit

    def fitted(self, soft):
        """Return the unit, and the log likelihood of each word in each cluster."""
        share = (self.X.T @ soft) + _PSEUDO_WORDS
        return self.unit, np.log(share / share.sum(axis=0))

    def __call__(self, soft):
        """Return the log likelihood of each vertex in each cluster."""
        return self.X @ self.fitted(soft)[1]

    @staticmethod
    def of_new(fitted, X):
        """Return the log likelihood of new vertices."""
        unit, logs = fitted
        return unit * (X @ logs)


class Numbers:
    """Dense features: normal in each cluster, with a mean of its own and common variances."""

    def __init__(self, X):
        self.center, spread = X.mean(axis=0), X.std(axis=0)
        self.scale = np.where(spread > 0, spread, 1.0)
        self.X = (X - self.center) / self.scale

    def fitted(self, soft):
        """Return centre and scale of the columns, means of clusters, and variances."""
        sizes = soft.sum(axis=0) + 1.0  # one vertex at the mean of all, which is 0
        means = (soft.T @ self.X) / sizes[:, None]
        within = (self.X**2).mean(axis=0) - (sizes[:, None] * means**2).sum(axis=0) / len(self.X)
        return self.center, self.scale, means, np.maximum(within, 0.01)

    def __call__(self, soft):
        """Return the log likelihood of each vertex in each cluster, up to a constant of its own."""
        return self._logs(self.X, *self.fitted(soft)[2:])

    @staticmethod
    def _logs(X, means, variance):
        scaled = means / variance
        return X @ scaled.T - 0.5 * (scaled * means).sum(axis=1)

    @classmethod
    def of_new(cls, fitted, X):
        """Return the log likelihood of new vertices."""
        center, scale, means, variance = fitted
        return cls._logs((X - center) / scale, means, variance)


def feature_term(X):
    """Return the term of a table of features."""
    return Counts(X) if sparse.issparse(X) else Numbers(X)


def smoothed_coordinates(adjacency, X, rng, n_hops=3, n_coordinates=64):
    """Return coordinates of features averaged over neighbours a few times.

    Words are weighted by how rare they are and rows have length 1, as usual with texts; dense
    columns are standardised.
    """
    from sklearn.decomposition import TruncatedSVD

    n, p = X.shape
    if sparse.issparse(X):
        found = np.bincount(X.indices, minlength=p)
        rare = np.log((1 + n) / (1 + found)) + 1
        X = _unit_rows(sparse.csr_array(X * rare))
    else:
        spread = X.std(axis=0)
        X = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if p > 2 * n_coordinates:
        seed = int(rng.randint(np.iinfo(np.int32).max))
        X = TruncatedSVD(min(2 * n_coordinates, n - 1, p - 1), random_state=seed).fit_transform(X)
    X = np.asarray(X.toarray() if sparse.issparse(X) else X)
    degree = adjacency.sum(axis=1)
    mean = degree[degree > 0].mean() / np.mean(np.diff(adjacency.indptr)[degree > 0])
    for _ in range(n_hops):  # a vertex counts as one neighbour of its own
        X = (adjacency @ X + mean * X) / (degree + mean)[:, None]
    return _unit_rows(X)


def _unit_rows(X):
    if sparse.issparse(X):
        norms = np.sqrt((X * X).sum(axis=1))
        return sparse.diags_array(1 / np.where(norms > 0, norms, 1.0)) @ X
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(norms > 0, norms, 1.0)
