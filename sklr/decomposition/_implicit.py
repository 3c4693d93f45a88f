"""Factors from implicit feedback: who chose what, for rankings."""

import copy
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._completion_data import grouped
from sklr.decomposition._completion_numpy import predict_pairs
from sklr.decomposition._implicit_als import (
    ImplicitModel,
    minimise_implicit,
    solve_rows,
    unit_ridge,
)
from sklr.decomposition._pair_ids import check_range, check_shape, id_columns, position
from sklr.decomposition._recommender import (
    RecommenderMixin,
    known_columns,
    seen_ids,
    unnamed_pairs,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_array, validate_data
from sklr.utils._warnings import warn_user

_DEFAULT_RANK = 128
# Length of the lists that are scored.
_LIST = 10


class ImplicitFactorization(RecommenderMixin, BaseEstimator):
    r"""Rank columns for rows (items for users) from what was chosen, and how strongly.

    Every cell counts: those without a value as zeros that are hardly certain, those with a value
    as ones that are more certain the larger it is (Hu, Koren and Volinsky):

    .. math::

        \min \sum_{i, j} (1 + w_{ij}) (p_{ij} - u_i^\top v_j)^2
            + \lambda \Big(\sum_i n_i^{1/2} |u_i|^2 + \sum_j m_j^{1/2} |v_j|^2\Big)

    with :math:`p_{ij} = 1` where row i has a value in column j, and 0 with :math:`w_{ij} = 0`
    elsewhere; :math:`n_i` and :math:`m_j` are numbers of values of a row and a column. Plays,
    purchases, clicks and links are such data; ratings are when the question is what is chosen next.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors. None is 128, or the smaller side of a smaller matrix.
    alpha : float, default=0.4
        Ridge on the factors, in units of what a matrix of as many values at random would want: the
        same value suits sparse and dense data, and the result does not depend on the unit of `y`.
    confidence : float, default=3.0
        What the weight of a typical value (the median) exceeds that of an empty cell by.
    weighting : {"log", "linear"}, default="log"
        How the weight grows with the value: :math:`w = c \log_2(1 + y / \mathrm{median})`, or
        :math:`c\, y / \mathrm{median}`. "log" is for counts with a long tail.
    shape : tuple of (int, int), default=None
        Numbers of rows and columns; ids must be below. By default ids may be any integers from 0,
        or strings, and factors are kept for those that `fit` has seen.
    context : {"refuse", "ignore"}, default="refuse"
        What becomes of columns of `X` after the first two, such as the time of a click.
    n_inner : int, default=3
        Steps of conjugate gradients for each row and column and sweep.
    max_iter : int, default=50
        Largest number of sweeps.
    tol : float, default=2e-3
        A sweep that lowers the objective by less than this part of it is the last.
    random_state : int, RandomState instance or None, default=None
        Seed of the factors at the start.
    n_jobs : int, default=None
        Threads over rows and columns. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over sweeps.

    Attributes
    ----------
    row_factors_ : ndarray of shape (n_rows, n_components_)
        Factors of the rows, in the order of `row_ids_`.
    col_factors_ : ndarray of shape (n_cols, n_components_)
        Factors of the columns, in the order of `col_ids_`. Scores are products of the two.
    row_ids_ : ndarray of shape (n_rows,)
        Ids of the rows: those seen in `fit`, or 0, 1, ... with `shape`.
    col_ids_ : ndarray of shape (n_cols,)
        Ids of the columns.
    n_components_ : int
        Number of factors.
    median_ : float
        Median of the values, repeated pairs added up.
    n_iter_ : int
        Number of sweeps.
    objective_ : ndarray of shape (n_iter_,)
        Loss plus ridge after each sweep.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with input that has string names only.

    See Also
    --------
    MatrixFactorizationRegressor : Predicts ratings of pairs; does not rank.
    sklearn.decomposition.NMF : Nonnegative factors of a whole matrix; zeros are as certain as ones.

    Notes
    -----
    A sweep costs :math:`O(n k)` for n values and k components, plus the Gram matrices of both
    sides: cells without a value cost nothing, since they share one matrix for all rows.

    ``fit(R)`` with a sparse matrix `R` is ``fit(np.c_[R.row, R.col], R.data)`` of its COO form.

    References
    ----------
    .. [1] Y. Hu, Y. Koren, C. Volinsky, "Collaborative filtering for implicit feedback datasets",
       ICDM 2008. https://doi.org/10.1109/ICDM.2008.22
    .. [2] S. Rendle, W. Krichene, L. Zhang, Y. Koren, "Revisiting the performance of iALS on item
       recommendation benchmarks", RecSys 2022. https://arxiv.org/abs/2110.14037
    .. [3] G. Takacs, I. Pilaszy, D. Tikk, "Applications of the conjugate gradient method for
       implicit feedback collaborative filtering", RecSys 2011.
       https://doi.org/10.1145/2043932.2043987

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import ImplicitFactorization
    >>> X = [("ann", "tea"), ("ann", "milk"), ("bob", "tea"), ("bob", "milk"), ("bob", "cake"),
    ...      ("cyd", "beer"), ("cyd", "nuts"), ("dan", "beer"), ("dan", "nuts")]
    >>> model = ImplicitFactorization(2, random_state=0).fit(X)
    >>> model.recommend("ann", 1)[0]
    array(['cake'], dtype='<U4')
    >>> model.fold_in([("eve", "beer")]).recommend("eve", 1)[0]
    array(['nuts'], dtype='<U4')
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "confidence": [Interval(Real, 0, None, closed="neither")],
        "weighting": [StrOptions({"log", "linear"})],
        "shape": [tuple, list, None],
        "context": [StrOptions({"refuse", "ignore"})],
        "n_inner": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        alpha=0.4,
        confidence=3.0,
        weighting="log",
        shape=None,
        context="refuse",
        n_inner=3,
        max_iter=50,
        tol=2e-3,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.alpha = alpha
        self.confidence = confidence
        self.weighting = weighting
        self.shape = shape
        self.context = context
        self.n_inner = n_inner
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fit factors to choices.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2), or sparse matrix of shape (n_rows, n_cols)
            Row id and column id (user, item) of each choice: integers from 0, or strings. Repeated
            pairs count repeatedly. A sparse matrix has a row for each row id, a column for each
            column id, and the strengths as its values; `y` is left out then.
        y : array-like of shape (n_samples,), default=None
            Strengths: plays, amounts or ratings, from 0. What has the strength 0 is not there. By
            default all are 1.

        Returns
        -------
        self : object
            Fitted estimator.
        """
        ids, strengths = self._check_choices(X, y, fitting=True)
        row_ids, rows, col_ids, cols = seen_ids(ids, self._shape)
        shape = len(row_ids), len(col_ids)
        rank = self.n_components
        if rank is None:
            rank = min(_DEFAULT_RANK, *shape)
        elif rank > min(shape):
            raise ValueError(
                f"n_components={rank} must be at most min(shape)={min(shape)}, the matrix has "
                f"shape {shape}."
            )
        by_row, by_column = _summed(rows, cols, strengths, shape)
        median = float(np.median(by_row.values))
        by_row, by_column = (
            side._replace(values=self._weights(side.values, median)) for side in (by_row, by_column)
        )
        rated = by_column.seen()
        ridge = self.alpha * unit_ridge(by_row, int(rated.sum()), self.confidence)
        model = minimise_implicit(
            by_row, by_column, int(rank), ridge, check_random_state(self.random_state),
            n_inner=int(self.n_inner), max_iter=int(self.max_iter), tol=float(self.tol),
            n_jobs=self.n_jobs, verbose=self.verbose,
        )  # fmt: skip
        if not model.converged:
            history = model.history
            fell = (history[-2] - history[-1]) / history[-2] if len(history) > 1 else 1.0
            warn_user(
                f"alternating least squares did not converge in max_iter={self.max_iter} sweeps: "
                f"the last one lowered the objective by {fell:.2g} of it, tol={self.tol:g}. Raise "
                "max_iter or tol.",
                ConvergenceWarning,
            )
        self.row_ids_, self.col_ids_ = row_ids, col_ids
        self.row_factors_, self.col_factors_ = model.U, model.V
        self.n_components_ = int(rank)
        self.median_ = median
        self.n_iter_ = len(model.history)
        self.objective_ = np.array(model.history)
        self._ridge = ridge
        self._seen = by_row.indptr, by_row.indices
        self._rated = rated
        return self

    def predict(self, X):
        """Return the scores of pairs: about 1 for what fits a row, about 0 for what does not.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each pair.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Scores, 0 for ids that `fit` has not seen.
        """
        check_is_fitted(self)
        ids = self._check_ids(validate_data(self, X, reset=False, dtype=None), fitting=False)
        dtype = self.col_factors_.dtype
        row_zeros, col_zeros = (np.zeros(len(a), dtype) for a in (self.row_ids_, self.col_ids_))
        return predict_pairs(
            position(self.row_ids_, ids[0], "row"), position(self.col_ids_, ids[1], "column"),
            dtype.type(0), row_zeros, col_zeros, self.row_factors_, self.col_factors_,
        )  # fmt: skip

    def fold_in(self, X, y=None):
        """Return the model of new rows (users), from their choices among the columns of `fit`.

        Each new row is one regression on the columns' factors, solved exactly; the columns stay as
        they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each choice. Row ids number the new rows only: a row that `fit`
            has seen is fitted anew, from these choices alone.
        y : array-like of shape (n_samples,), default=None
            Strengths, as in `fit`.

        Returns
        -------
        model : ImplicitFactorization
            A copy whose rows are those of `X`: its `row_factors_` are theirs, and its `predict` and
            `recommend` answer for them.
        """
        check_is_fitted(self)
        new = copy.copy(self)
        new._shape = None if self._shape is None else (None, self._shape[1])
        with unnamed_pairs(new, X):
            ids, strengths = new._check_choices(X, y, fitting=False)
        cols, known = known_columns(self, ids[1])
        new.row_ids_, rows = np.unique(ids[0], return_inverse=True)
        shape = len(new.row_ids_), len(self.col_ids_)
        by_row, _ = _summed(
            rows[known], cols[known], strengths[known].astype(self.col_factors_.dtype), shape
        )
        by_row = by_row._replace(values=self._weights(by_row.values, self.median_))
        start = np.zeros((shape[0], self.n_components_), self.col_factors_.dtype)
        model = ImplicitModel(start, self.col_factors_, self._ridge)
        solve_rows(by_row, model, self.n_jobs)
        new.row_factors_, new.col_factors_ = model.U, model.V
        new._seen = by_row.indptr, by_row.indices
        return new

    def score(self, X, y=None):
        """Return how well held-out choices are ranked: NDCG of lists of ten.

        For each row of `X` that `fit` has seen, all columns but those of its choices in `fit` are
        ranked, and the choices in `X` should come first.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each held-out choice.
        y : array-like of shape (n_samples,), default=None
            Gains of the choices, from 0; 1 by default.

        Returns
        -------
        score : float
            Mean over rows of the normalised discounted cumulative gain, from 0 to 1.
        """
        check_is_fitted(self)
        ids, gains = self._check_choices(X, y, fitting=False)
        places = position(self.row_ids_, ids[0], "row")
        indptr, _ = self._seen
        known = (places >= 0) & (indptr[places] < indptr[places + 1])
        if not known.any():
            raise ValueError("no row of X has a choice in fit: nothing is known of any of them.")
        places, gains, cols = places[known], gains[known], ids[1][known]
        wanted, row = np.unique(places, return_inverse=True)
        found, _ = self.recommend(self.row_ids_[wanted], _LIST)
        # A key for each (row, column): columns that fit has not seen count in the ideal list only.
        col = position(self.col_ids_, cols, "column")
        n_cols = len(self.col_ids_)
        keys, which = np.unique((row * n_cols + col)[col >= 0], return_inverse=True)
        total = np.bincount(which, gains[col >= 0], len(keys))
        listed = position(self.col_ids_, found, "column")
        at = np.arange(len(wanted))[:, None] * n_cols + listed
        place = np.clip(np.searchsorted(keys, at), 0, max(len(keys) - 1, 0))
        gain = np.zeros(at.shape)
        if len(keys):
            gain = np.where((keys[place] == at) & (listed >= 0), total[place], 0.0)
        discount = 1 / np.log2(np.arange(2, _LIST + 2))
        reached = gain @ discount[: gain.shape[1]]
        order = np.lexsort((-gains, row))
        rank = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        kept = rank < _LIST
        ideal = np.bincount(
            row[order][kept], gains[order][kept] * discount[rank[kept]], len(wanted)
        )  # fmt: skip
        return float(np.mean(reached[ideal > 0] / ideal[ideal > 0])) if ideal.any() else 0.0

    def _scores(self, places, allowed):
        return self.row_factors_[places] @ self.col_factors_[allowed].T

    def _weights(self, strengths, median):
        """What the confidence of entries exceeds that of an empty cell by."""
        relative = strengths / strengths.dtype.type(median)
        grown = np.log2(1 + relative) if self.weighting == "log" else relative
        return (self.confidence * grown).astype(strengths.dtype)

    def _check_choices(self, X, y, *, fitting):
        """Ids by column and strengths, without those that are 0."""
        X, y = self._pairs(X, y)
        X = validate_data(self, X, reset=fitting, dtype=None)
        ids = self._check_ids(X, fitting=fitting)
        if y is None:
            return ids, np.ones(len(X))
        y = check_array(y, ensure_2d=False, dtype=[np.float64, np.float32], input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.shape != (len(X),):
            raise ValueError(
                f"y must have one strength for each of the {len(X)} samples, got {y.shape}."
            )
        if y.min() < 0:
            raise ValueError(
                f"strengths in y must be from 0, got {y.min()}. Leave out what was disliked, or "
                "predict ratings with MatrixFactorizationRegressor."
            )
        used = y > 0
        if not used.any():
            raise ValueError("all strengths in y are 0: there is no choice.")
        return [column[used] for column in ids], y[used]

    def _pairs(self, X, y):
        """Pairs and strengths; a sparse matrix has both."""
        if not sp.issparse(X):
            return X, y
        if y is not None:
            raise ValueError(
                f"X is a sparse matrix of shape {X.shape}, whose values are the strengths; got y, "
                "too. Leave y out, or pass pairs of ids as X."
            )
        R = sp.coo_array(X)
        if not R.nnz:
            raise ValueError(f"X is a sparse matrix of shape {X.shape} without any value.")
        return np.column_stack([R.row, R.col]).astype(np.int64), R.data

    def _check_ids(self, X, *, fitting):
        name = type(self).__name__
        if X.shape[1] < 2:
            raise ValueError(
                f"{name} expects two columns of ids (row, column), got {X.shape[1]} feature(s)."
            )
        if X.shape[1] > 2 and self.context == "refuse":
            raise ValueError(
                f"{name} expects two columns of ids (row, column), got n_features = {X.shape[1]}. "
                'Leave out the others, or set context="ignore".'
            )
        ids = id_columns(X[:, :2])
        if fitting:
            self._shape = check_shape(self.shape)
        check_range(ids, self._shape, name, fitting=fitting)
        return ids

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.positive_only = True
        tags.target_tags.positive_only = True
        return tags


def _summed(rows, cols, strengths, shape):
    """Return entries by row and by column, repeated pairs added up."""
    place, which = np.unique(rows.astype(np.int64) * shape[1] + cols, return_inverse=True)
    strengths = np.bincount(which, strengths, len(place)).astype(strengths.dtype)
    rows, cols = (part.astype(np.int32) for part in np.divmod(place, shape[1]))
    return grouped(rows, cols, strengths, strengths[:0], shape)
