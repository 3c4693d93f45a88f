"""Linear measurements of a low-rank matrix."""

import numpy as np
from sklearn.utils import check_random_state

from sklr.utils._validation import check_positive_int


def make_matrix_sensing(
    n_samples=500,
    *,
    shape=(20, 20),
    rank=3,
    symmetric=False,
    condition=1.0,
    noise=0.0,
    outliers=0.0,
    outlier_scale=10.0,
    random_state=None,
):
    """Generate a matrix of low rank and random linear measurements of it.

    ``y_i = <A_i, M> + noise``, with independent standard normal entries of ``A_i``, and a share
    of the ``y_i`` replaced by ``<A_i, M>`` plus a gross error.

    Parameters
    ----------
    n_samples : int, default=500
        Number of measurements.
    shape : (int, int), default=(20, 20)
        Shape of the matrix.
    rank : int, default=3
        Its rank.
    symmetric : bool, default=False
        Whether the matrix is symmetric positive semi-definite. The ``A_i`` are not symmetric
        in either case.
    condition : float, default=1.0
        Ratio of the largest and the smallest of the `rank` singular values. They are spaced
        geometrically, and the largest is 1.
    noise : float, default=0.0
        Standard deviation of normal noise on all measurements.
    outliers : float, default=0.0
        Share of the measurements with a gross error, rounded to a whole number of them.
    outlier_scale : float, default=10.0
        Standard deviation of the gross errors.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    X : ndarray of shape (n_samples, n_rows, n_columns)
        The measurement matrices.
    y : ndarray of shape (n_samples,)
        The measurements.
    matrix : ndarray of shape (n_rows, n_columns)
        The matrix.

    See Also
    --------
    sklearn.datasets.make_regression : The same for a vector of coefficients.

    Examples
    --------
    >>> from sklr.datasets import make_matrix_sensing
    >>> X, y, matrix = make_matrix_sensing(100, shape=(8, 6), rank=2, random_state=0)
    >>> X.shape, y.shape, matrix.shape
    ((100, 8, 6), (100,), (8, 6))
    """
    n_samples = check_positive_int(n_samples, "n_samples")
    n1, n2 = (check_positive_int(n, "shape") for n in shape)
    rank = check_positive_int(rank, "rank")
    if rank > min(n1, n2):
        raise ValueError(f"rank must be at most min(shape)={min(n1, n2)}, got {rank}.")
    if symmetric and n1 != n2:
        raise ValueError(f"symmetric=True needs a square shape, got {(n1, n2)}.")
    if condition < 1:
        raise ValueError(f"condition must be at least 1, got {condition!r}.")
    if not 0 <= outliers <= 1:
        raise ValueError(f"outliers must be a share between 0 and 1, got {outliers!r}.")
    if noise < 0 or outlier_scale < 0:
        raise ValueError(
            f"noise and outlier_scale must not be negative, got {noise!r} and {outlier_scale!r}."
        )
    rng = check_random_state(random_state)
    U = np.linalg.qr(rng.standard_normal((n1, rank)))[0]
    V = U if symmetric else np.linalg.qr(rng.standard_normal((n2, rank)))[0]
    values = np.geomspace(1.0, 1.0 / condition, rank)
    matrix = (U * values) @ V.T
    X = rng.standard_normal((n_samples, n1, n2))
    y = X.reshape(n_samples, -1) @ matrix.ravel() + noise * rng.standard_normal(n_samples)
    wrong = rng.permutation(n_samples)[: round(outliers * n_samples)]
    y[wrong] += outlier_scale * rng.standard_normal(len(wrong))
    return X, y, matrix
