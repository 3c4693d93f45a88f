"""Linear measurements of a matrix, and their adjoint, in one pass over the measurement array.

The measurements of a vectorised matrix are A v. Methods that descend need A' g(A v - y) with
some g that acts on each residual alone (the identity, or the sign). Rows can therefore be taken
in blocks that stay in the cache between the two products, and the array, by far the largest
object, is read from memory once and not twice.

An array of float32 is multiplied in float32; everything else is float64.
"""

import numpy as np
from scipy import sparse
from scipy.linalg.blas import dsymv

# Bytes of a block of rows: it has to stay in the second-level cache between two products.
_BLOCK_BYTES = 2**20
# A Gram matrix beyond this size is not made unasked.
_GRAM_LIMIT = 2**29


class SensingOperator:
    """Weighted, centred measurements <A_i, M> of matrices M, normalised to unit mean square.

    Parameters
    ----------
    X : ndarray or csr_array of shape (m, n1 * n2)
        Measurement matrices, one a row. Never written to; kept, not copied, unless `symmetric`.
    shape : (int, int)
        Shape of the matrices.
    weights : ndarray of shape (m,) or None
        Weights of the measurements.
    symmetric : bool
        Whether M is symmetric: then only (A_i + A_i') / 2 counts, and half of it is kept.
    centre : bool
        Whether the weighted mean of the measurement matrices is taken off.
    """

    def __init__(self, X, shape, weights=None, *, symmetric=False, centre=False):
        self.shape, self.symmetric = shape, symmetric
        self.dtype = X.dtype
        self.weights = weights
        self.n_samples = X.shape[0]
        self.total = float(X.shape[0] if weights is None else weights.sum())
        self.is_sparse = sparse.issparse(X)
        if symmetric:
            self._upper = np.triu_indices(shape[0])
            X = _fold(X, shape[0])
        self.A = X
        self._At = X.T.tocsr() if self.is_sparse else None
        self.mean = self._adjoint_vector(self._ones()) / self.total if centre else None
        # Mean square, so that the mean of <A_i, M>^2 is |M|^2 for independent entries.
        self.scale = float(np.sqrt(self._mean_square()))
        self.gram = None

    def _ones(self):
        return np.ones(self.n_samples) if self.weights is None else self.weights

    def _mean_square(self):
        if self.is_sparse:
            squares = self.A.multiply(self.A).T @ self._ones()
        else:
            squares = np.zeros(self.A.shape[1])
            for rows in self._blocks():
                block = self.A[rows]
                squares += self._ones()[rows] @ np.square(block, dtype=np.float64)
        squares = squares / self.total
        if self.mean is not None:
            squares = np.maximum(squares - self.mean**2, 0.0)
        if self.symmetric:
            squares = np.where(self._upper[0] == self._upper[1], squares, squares / 2)
        return squares.mean()

    # Matrices to vectors and back ------------------------------------------------------------

    def vector(self, M):
        """Return the part of a matrix that is measured, as a vector."""
        if not self.symmetric:
            return M.reshape(-1)
        return (M[self._upper] + M.T[self._upper]) / 2

    def matrix(self, vector):
        """Return the matrix whose inner product with M is that of `vector` with vector(M)."""
        if not self.symmetric:
            return vector.reshape(self.shape)
        half = np.zeros(self.shape, dtype=vector.dtype)
        half[self._upper] = vector / 2
        return half + half.T

    # Products --------------------------------------------------------------------------------

    def _blocks(self):
        """Yield slices of rows. Sparse arrays are taken whole."""
        if self.is_sparse:
            yield slice(None)
            return
        step = max(1, _BLOCK_BYTES // max(1, self.A.itemsize * self.A.shape[1]))
        for begin in range(0, self.n_samples, step):
            yield slice(begin, begin + step)

    def _adjoint_vector(self, residual):
        residual = residual.astype(self.dtype, copy=False)
        product = self._At @ residual if self.is_sparse else self.A.T @ residual
        return product.astype(np.float64, copy=False)

    def measure(self, M):
        """Return <A_i, M> for all i, divided by the scale."""
        vector = self.vector(M)
        out = (self.A @ vector.astype(self.dtype, copy=False)).astype(np.float64)
        if self.mean is not None:
            out -= self.mean @ vector
        return out / self.scale

    def adjoint(self, residual):
        """Return the weighted mean of residual_i A_i, divided by the scale, as a matrix."""
        return self.matrix(self._mean_vector(residual))

    def _mean_vector(self, residual):
        if self.weights is not None:
            residual = residual * self.weights
        vector = self._adjoint_vector(residual)
        if self.mean is not None:
            vector = vector - self.mean * residual.sum()
        return vector / (self.scale * self.total)

    def residual_and_adjoint(self, M, y, transform=None):
        """Return e = measure(M) - y and adjoint(transform(e)), reading the array once."""
        vector = self.vector(M)
        shift = 0.0 if self.mean is None else self.mean @ vector
        vector = (vector / self.scale).astype(self.dtype, copy=False)
        residual = np.empty(self.n_samples)
        total = np.zeros(self.A.shape[1])
        for rows in self._blocks():
            block = self.A[rows]
            part = (block @ vector).astype(np.float64, copy=False)
            part -= y[rows] + shift / self.scale
            residual[rows] = part
            g = part if transform is None else transform(part)
            if self.weights is not None:
                g = g * self.weights[rows]
            g = g.astype(self.dtype, copy=False)
            total += self._At @ g if self.is_sparse else g @ block
        if self.mean is not None:
            g = residual if transform is None else transform(residual)
            total -= self.mean * (g.sum() if self.weights is None else g @ self.weights)
        return residual, self.matrix(total / (self.scale * self.total))

    # Gram matrix -----------------------------------------------------------------------------

    def gram_pays(self, n_iterations=300):
        """Say whether the Gram matrix saves time over `n_iterations` and fits in memory."""
        p = self.A.shape[1]
        if p * p * 8 > _GRAM_LIMIT:
            return False
        if not self.is_sparse:
            # Half of the Gram matrix is read in an iteration, the array once. Making it takes
            # m p^2 operations of matrix products, which run about 10 times as fast.
            return self.n_samples * p * p / 10 < n_iterations * (self.n_samples * p - p * p / 2)
        filled = self.A.nnz / max(1, self.n_samples)
        return p * p < 2 * self.A.nnz and self.n_samples * filled**2 * 4 < n_iterations * self.A.nnz

    def make_gram(self, y):
        """Prepare gram_adjoint: the Gram matrix of the measurements and adjoint(y)."""
        p = self.A.shape[1]
        if self.is_sparse:
            At = self._At if self.weights is None else self._At.multiply(self.weights[None, :])
            gram = (sparse.csr_array(At) @ self.A).toarray().astype(np.float64, copy=False)
        elif self.weights is None and self.dtype == np.float64:
            gram = self.A.T @ self.A  # NumPy sees the symmetry
        else:
            gram = np.zeros((p, p))
            step = max(1, 2**27 // (8 * p))
            for begin in range(0, self.n_samples, step):
                rows = slice(begin, begin + step)
                block = self.A[rows].astype(np.float64)
                if self.weights is not None:
                    block *= np.sqrt(self.weights[rows, None])
                gram += block.T @ block
        if self.mean is not None:
            gram -= self.total * np.outer(self.mean, self.mean)
        gram /= self.total * self.scale**2
        self.gram = gram.T  # the order that BLAS takes without a copy
        self._moment = self._mean_vector(y)
        w = self._ones()
        self._y_square = float((w * y) @ y) / self.total

    def gram_adjoint(self, M):
        """Return the mean square of measure(M) - y and its adjoint, from the Gram matrix."""
        vector = np.ascontiguousarray(self.vector(M))
        product = dsymv(1.0, self.gram, vector)
        square = vector @ product - 2 * (vector @ self._moment) + self._y_square
        return max(float(square), 0.0), self.matrix(product - self._moment)


def _fold(X, n):
    """Return upper triangles of A + A', the diagonal once: <A, M> is their product with M's."""
    row, col = np.triu_indices(n)
    upper, lower = row * n + col, col * n + row
    if sparse.issparse(X):
        X = sparse.csc_array(X)
        off = sparse.diags_array((row != col).astype(X.dtype))
        return sparse.csr_array(X[:, upper] + X[:, lower] @ off)
    out = np.empty((X.shape[0], len(row)), dtype=X.dtype)
    off = row != col
    step = max(1, _BLOCK_BYTES // max(1, X.itemsize * X.shape[1]))
    for begin in range(0, X.shape[0], step):
        block = X[begin : begin + step]
        folded = block[:, upper]
        folded[:, off] += block[:, lower[off]]
        out[begin : begin + step] = folded
    return out


def is_symmetric(X, n, tol=1e-10):
    """Say whether every measurement matrix (n, n), one a row of `X`, is symmetric."""
    order = np.arange(n * n).reshape(n, n).T.ravel()
    if sparse.issparse(X):
        return abs(X - X[:, order]).max() <= tol * max(abs(X).max(), np.finfo(X.dtype).tiny)
    step = max(1, _BLOCK_BYTES // max(1, X.itemsize * X.shape[1]))
    for begin in range(0, X.shape[0], step):
        block = X[begin : begin + step]
        if np.abs(block - block[:, order]).max(initial=0) > tol * np.abs(block).max(initial=0):
            return False
    return True


def samples_entries(X):
    """Say whether every measurement matrix has exactly one entry that is not zero."""
    if sparse.issparse(X):
        X = X.copy()
        X.eliminate_zeros()
        return bool((np.diff(X.indptr) == 1).all())
    # Almost always the first rows say no, and the whole array is not looked at.
    for begin in range(0, X.shape[0], 256):
        if (np.count_nonzero(X[begin : begin + 256], axis=1) != 1).any():
            return False
    return True
