"""Alternating minimisation as a function: a matrix with holes in, two factors out."""

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import validate_params

from sklr.decomposition._completion import minimise
from sklr.decomposition._completion_data import ObservedEntries, transposed
from sklr.decomposition._parameters import CONSTRAINTS, make_settings, not_converged, resolve_rank
from sklr.utils._validation import check_array
from sklr.utils._warnings import warn_user


@validate_params(
    {
        "rank": CONSTRAINTS["n_components"][:1],
        "weights": ["array-like", "sparse matrix", None],
        "callback": [callable, None],
        **{name: rule for name, rule in CONSTRAINTS.items() if name != "n_components"},
    },
    prefer_skip_nested_validation=True,
)
def alternating_minimization(
    R,
    rank,
    *,
    alpha=0.0,
    bias_alpha=0.0,
    alpha_scaling="none",
    loss="squared",
    solver="auto",
    n_inner=3,
    fit_bias=False,
    weights=None,
    max_iter=100,
    tol=1e-5,
    random_state=None,
    n_jobs=None,
    verbose=0,
    callback=None,
):
    r"""Factor a matrix of which few entries are known.

    Minimises :math:`\sum_{(i,j)} w_{ij}\,\rho(R_{ij} - \mu - b_i - c_j - u_i^\top v_j)` plus ridge
    over the known entries, from a sketched spectral start.

    Parameters
    ----------
    R : {sparse matrix, array-like} of shape (m, n)
        The matrix. The stored entries of a sparse one are known, stored zeros included; of a
        dense one those that are not NaN. float32 is computed in float32.
    rank : int
        Number of columns of the factors.
    alpha : float, default=0.0
        Ridge on the factors, in units of ``info.scale``.
    bias_alpha : float, default=0.0
        Ridge on the biases.
    alpha_scaling : {"none", "count", "uncertainty"}, default="none"
        "count" multiplies both ridges by the number of entries of a row or column. For
        "uncertainty" see :class:`MatrixFactorizationRegressor`.
    loss : {"squared", "huber", "absolute"}, default="squared"
        See :class:`LowRankImputer`.
    solver : {"auto", "cg", "cholesky"}, default="auto"
        See :class:`LowRankImputer`.
    n_inner : int, default=3
        Steps of "cg".
    fit_bias : bool, default=False
        Whether mean and biases belong to the model.
    weights : {sparse matrix, array-like} of shape (m, n), default=None
        Weights of the known entries, positive; a sparse one has the pattern of `R`.
    max_iter : int, default=100
        Largest number of sweeps.
    tol : float, default=1e-5
        A sweep that lowers the objective by less than this part of it is the last.
    random_state : int, RandomState instance or None, default=None
        Seed of the sketch.
    n_jobs : int, default=None
        Threads over rows and columns. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over sweeps.
    callback : callable, default=None
        Called as ``callback(sweep, model)`` after each sweep; `model` has ``U``, ``V``,
        ``mean``, ``row_bias`` and ``col_bias``.

    Returns
    -------
    U : ndarray of shape (m, rank)
        Factors of the rows.
    V : ndarray of shape (n, rank)
        Factors of the columns.
    info : Bunch
        ``n_iter``, ``converged``, ``objective`` after each sweep, ``training_rmse``, ``mean``,
        ``row_bias``, ``col_bias``, ``scale``, ``delta``.

    See Also
    --------
    LowRankImputer : The same as a transformer.
    MatrixFactorizationRegressor : The same as a regressor of (row, column) pairs.

    References
    ----------
    .. [1] Y. Gu, Z. Song, J. Yin, L. Zhang, "Low rank matrix completion via robust alternating
       minimization in nearly linear time", ICLR 2024. https://arxiv.org/abs/2302.11068

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import alternating_minimization
    >>> R = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 6.0))
    >>> R[1, 2] = R[5, 4] = np.nan
    >>> U, V, info = alternating_minimization(R, 1, random_state=0)
    >>> (U @ V.T)[[1, 5], [2, 4]].round(6)
    array([ 6., 30.])
    """
    rows, shape = _entries(R, weights)
    settings = make_settings(Bunch(**locals()), resolve_rank(rank, shape))
    cols = transposed(rows, shape[1])
    model = minimise(
        rows, cols, settings, check_random_state(random_state), verbose=verbose, callback=callback
    )
    if not model.converged:
        warn_user(
            not_converged(settings, model),
            ConvergenceWarning,
        )
    total = rows.weight_sums().sum()
    info = Bunch(
        n_iter=len(model.history),
        converged=model.converged,
        objective=np.array(model.history),
        training_rmse=float(np.sqrt(rows.squared_loss(model, settings) / total)),
        mean=model.mean,
        row_bias=model.row_bias,
        col_bias=model.col_bias,
        scale=model.scale,
        delta=float(model.delta),
    )
    return model.U, model.V, info


def _entries(R, weights):
    kinds = [np.float64, np.float32]
    if sp.issparse(R):
        R = check_array(R, accept_sparse="csr", dtype=kinds)
        if not R.has_canonical_format:
            R = R.copy()
            R.sum_duplicates()
        indptr, indices, values = R.indptr, R.indices, R.data
    else:
        R = check_array(R, dtype=kinds, ensure_all_finite="allow-nan")
        mask = ~np.isnan(R)
        indptr = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        indices = np.broadcast_to(np.arange(R.shape[1], dtype=np.int32), R.shape)[mask]
        values = R[mask]
    if len(values) == 0:
        raise ValueError(f"R of shape {R.shape} has no known entry.")
    given = values[:0]
    if weights is not None:
        weights = check_array(weights, accept_sparse="csr", dtype=values.dtype)
        if weights.shape != R.shape:
            raise ValueError(f"weights have shape {weights.shape}, R has {R.shape}.")
        if sp.issparse(weights):
            weights = weights.sorted_indices()
            same = len(weights.indices) == len(indices) and (weights.indices == indices).all()
            if not same or not (weights.indptr == indptr).all():
                raise ValueError("sparse weights must have the pattern of R: one for each entry.")
            given = weights.data
        else:
            given = weights[np.repeat(np.arange(R.shape[0]), np.diff(indptr)), indices]
        if not (given > 0).all():
            raise ValueError(
                f"weights of known entries must be positive, got {given.min()}; leave out entries "
                "that shall not count."
            )
    entries = ObservedEntries(
        indptr.astype(np.int64), indices.astype(np.int32, copy=False), values,
        np.ascontiguousarray(given),
    )  # fmt: skip
    return entries, R.shape
