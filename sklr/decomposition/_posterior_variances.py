"""Posterior variances of factors, and the ridge that follows from them."""

import numpy as np

# Variances that ignore how rows and columns depend on each other come out too small, and the
# noise with them. Between 1.1 and 1.3 nothing changes by much; without it ratings are overfitted.
_NOISE_FACTOR = 1.2
# No noise is put below this part of the values' variance.
_LEAST_NOISE = 1e-14


class PosteriorVariances:
    """Variances of the factors' entries: variational Bayes with independent entries.

    A row is a regression on factors that are themselves estimates. To the second moment of such a
    regressor its variance counts like its square, so that each entry adds the variances of the
    column's factors to the ridge of the row: columns with few values, whose factors are hardly
    known, weigh little. The variance of the noise, in which all of this is measured, is estimated
    too, from the residuals and what they are expected to miss.

    Parameters
    ----------
    by_row, by_column : ObservedEntries
        The entries by row and by column.
    U, V : ndarray
        Factors at the start.
    alpha : float
        Ridge, where the noise has the full variance.
    variance : float
        Variance of the values around the biases, and of the noise at most.
    noise_share : float
        Part of it that is noise at the start.
    entry_weight : float
        What an entry's weight is about in the loss.
    """

    def __init__(self, by_row, by_column, U, V, alpha, variance, *, noise_share, entry_weight):
        self.variance, self.entry_weight = variance, entry_weight
        self.noise_share = max(noise_share, _LEAST_NOISE)
        self.dtype = V.dtype
        self._weights = [by_row.weight_matrix(by_column.n), by_column.weight_matrix(by_row.n)]
        self._total = float(self._weights[0].data.sum(dtype=np.float64))
        self._variances = [
            self._posterior(side, F, alpha * self.noise_share / entry_weight)
            for side, F in enumerate((V, U))
        ]
        self._extra_ridge, self._missed = None, 0.0

    def _posterior(self, side, F, ridge):
        # In double precision: the variance of small values underflows in float32.
        precision = ridge + (self._weights[side] @ F**2).astype(np.float64)
        limit = np.finfo(np.float64).tiny ** 0.5
        noise = self.variance * self.noise_share
        return (noise / np.maximum(precision, limit)).astype(self.dtype)

    def rotate(self, Q):
        """Follow a rotation of the factors of both sides."""
        self._variances = [D @ Q**2 for D in self._variances]

    def align(self, U, V):
        """Rotate both sides so that V'V is diagonal, where independence is nearest to the truth."""
        _, Q = np.linalg.eigh(V.T @ V)
        self.rotate(Q)
        return U @ Q, V @ Q

    @property
    def col_variances(self):
        """Variances of the columns' factors."""
        return self._variances[1]

    def ridge(self, side):
        """Return what is added to the ridge of each row (side 0) or column (1)."""
        self._extra_ridge = self._weights[side] @ self._variances[1 - side]
        return self._extra_ridge * self.dtype.type(self.entry_weight)

    def update(self, side, F, X, alpha):
        """Take note of the regression of `side` on F that gave X, with alpha and this ridge."""
        extra_ridge = self._extra_ridge
        squares = self._weights[side] @ F**2
        self._variances[side] = self._posterior(
            side, F, alpha * self.noise_share / self.entry_weight + extra_ridge
        )
        variances = self._variances[side].astype(np.float64)
        self._missed = float(
            np.sum(extra_ridge * (X.astype(np.float64) ** 2 + variances) + squares * variances)
        )

    def estimate_noise(self, loss):
        """Estimate the noise from the sum of squared residuals; return whether it is settled."""
        noise = _NOISE_FACTOR * (loss / self.entry_weight + self._missed) / self._total
        before = self.noise_share
        self.noise_share = float(np.clip(noise / self.variance, _LEAST_NOISE, 1.0))
        return abs(self.noise_share - before) <= 0.01 * before


class KnownVariances:
    """The same for rows that were not in the fit: the columns' variances are given."""

    def __init__(self, rows, variances, noise_share, entry_weight):
        self._weights = rows.weight_matrix(len(variances))
        self._variances = variances.astype(self._weights.dtype)
        self.noise_share, self.entry_weight = noise_share, entry_weight

    def rotate(self, Q):
        """Follow a rotation of the factors."""
        self._variances = self._variances @ Q**2

    def ridge(self, side=0):
        """Return what is added to the ridge of each row."""
        extra_ridge = self._weights @ self._variances
        return extra_ridge * extra_ridge.dtype.type(self.entry_weight)

    def update(self, *args):
        """Rows tell nothing of each other."""
