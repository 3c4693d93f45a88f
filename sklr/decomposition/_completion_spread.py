"""What factors are uncertain by, and the ridge that follows from it."""

import numpy as np
from scipy.sparse import csr_array

# Variances that ignore how rows and columns depend on each other come out too small, and the
# noise with them. Between 1.1 and 1.3 nothing changes by much; without it ratings are overfitted.
_NOISE_FACTOR = 1.2
# No noise is put below this part of the values' variance.
_LEAST_NOISE = 1e-14


class Spread:
    """Variances of the factors' entries: variational Bayes with independent entries.

    A row is a regression on factors that are themselves estimates. To the second moment of such a
    regressor its variance counts like its square, so that each entry adds the variances of the
    column's factors to the ridge of the row: columns with few values, whose factors are hardly
    known, weigh little. The variance of the noise, in which all of this is measured, is estimated
    too, from the residuals and what they are expected to miss.

    Parameters
    ----------
    rows, cols : Half
        The entries by row and by column.
    U, V : ndarray
        Factors at the start.
    alpha : float
        Ridge, where the noise has the full variance.
    variance : float
        Variance of the values around the biases, and of the noise at most.
    share : float
        Part of it that is noise at the start.
    unit : float
        What an entry's weight is about in the loss.
    """

    def __init__(self, rows, cols, U, V, alpha, variance, *, share, unit):
        self.full, self.unit = variance, unit
        self.share = max(share, _LEAST_NOISE)
        self.dtype = V.dtype
        self._counts = []
        ones = rows.weights if len(rows.weights) else np.ones_like(rows.values)
        for half, n_columns in ((rows, cols.n), (cols, rows.n)):
            weights = half.weights if len(half.weights) else ones
            self._counts.append(
                csr_array((weights, half.indices, half.indptr), shape=(half.n, n_columns))
            )
        self._total = float(self._counts[0].data.sum(dtype=np.float64))
        self._variances = [
            self._inverse(side, F, alpha * self.share / unit) for side, F in enumerate((V, U))
        ]
        self._missed = 0.0

    def _inverse(self, side, F, ridge):
        # In double precision: the variance of small values is no number in float32.
        bent = ridge + (self._counts[side] @ F**2).astype(np.float64)
        limit = np.finfo(np.float64).tiny ** 0.5
        return (self.full * self.share / np.maximum(bent, limit)).astype(self.dtype)

    def turn(self, Q):
        """Follow a rotation of the factors of both sides."""
        self._variances = [D @ Q**2 for D in self._variances]

    def align(self, U, V):
        """Turn both sides so that V'V is diagonal, where independence is nearest to the truth."""
        _, Q = np.linalg.eigh(V.T @ V)
        self.turn(Q)
        return U @ Q, V @ Q

    @property
    def col_variances(self):
        """Variances of the columns' factors."""
        return self._variances[1]

    def ridge(self, side):
        """Return what is added to the ridge of each row (side 0) or column (1)."""
        return self._counts[side] @ self._variances[1 - side]

    def update(self, side, F, X, more, alpha):
        """Take note of the regression of `side` on F that gave X, with ridge alpha + more."""
        squares = self._counts[side] @ F**2
        self._variances[side] = self._inverse(side, F, alpha * self.share / self.unit + more)
        variances = self._variances[side].astype(np.float64)
        self._missed = float(
            np.sum(more * (X.astype(np.float64) ** 2 + variances) + squares * variances)
        )

    def note_noise(self, loss):
        """Estimate the noise from the sum of squared residuals; return whether it is settled."""
        noise = _NOISE_FACTOR * (loss / self.unit + self._missed) / self._total
        before, self.share = self.share, float(np.clip(noise / self.full, _LEAST_NOISE, 1.0))
        return abs(self.share - before) <= 0.01 * before


class KnownSpread:
    """The same for rows that were not in the fit: the columns' variances are given."""

    def __init__(self, rows, variances, share, unit):
        weights = rows.weights if len(rows.weights) else np.ones_like(rows.values)
        shape = rows.n, len(variances)
        self._counts = csr_array((weights, rows.indices, rows.indptr), shape=shape)
        self._variances, self.share, self.unit = variances.astype(weights.dtype), share, unit

    def turn(self, Q):
        """Follow a rotation of the factors."""
        self._variances = self._variances @ Q**2

    def ridge(self, side=0):
        """Return what is added to the ridge of each row."""
        return self._counts @ self._variances

    def update(self, *args):
        """Rows tell nothing of each other."""
