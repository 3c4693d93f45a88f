"""Matrix factorisation as a regressor of (row, column) pairs."""

import copy
from numbers import Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._completion import exact_rows, minimise, scaled
from sklr.decomposition._completion_data import Model, grouped
from sklr.decomposition._completion_numpy import predict_pairs
from sklr.decomposition._gross_values import limits, warn_of_gross
from sklr.decomposition._pair_ids import check_range, check_shape, id_columns, position
from sklr.decomposition._parameters import (
    CONSTRAINTS,
    make_settings,
    not_converged,
    resolve_rank,
)
from sklr.decomposition._recommender import (
    RecommenderMixin,
    known_columns,
    seen_ids,
    unnamed_pairs,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

_CONTEXT_ROUNDS = 5
# Most values that a scale of ratings has.
_LARGEST_SCALE = 20


class MatrixFactorizationRegressor(RecommenderMixin, RegressorMixin, BaseEstimator):
    r"""Predict the value of a (row, column) pair from low-rank factors: ratings, for instance.

    The model is :math:`y \approx \mu + b_i + c_j + u_i^\top v_j` for the pair (i, j), fitted by
    alternating minimisation. Because samples are pairs, cross-validation and search work as
    with any regressor.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors. None is 10, or half the smaller side of a matrix below 20.
    alpha : float, default=7.0
        Ridge on the factors, in units of the spread of the values around the biases
        (`scale_`): the result does not depend on the unit of `y`. The default goes with
        ``alpha_scaling="uncertainty"``; with "none", ratings want about 18.
    bias_alpha : float, default=3.0
        Ridge on the biases: as many observations at the mean are added to each row and column.
    alpha_scaling : {"uncertainty", "none", "count"}, default="uncertainty"
        "uncertainty" adds to the ridge of a row what the factors of its columns are uncertain by,
        and the reverse, so that a column with few values weighs little in the factors of its
        rows; and it estimates the noise, in which it measures all ridges: they fade where there
        is none. "count" multiplies both ridges by the number of values of a row or column.
        "none" leaves them as they are.
    loss : {"squared", "huber", "absolute"}, default="squared"
        "huber" and "absolute" resist gross outliers in `y`; see :class:`LowRankImputer`.
    solver : {"auto", "cg", "cholesky"}, default="auto"
        How a row's regression is solved; see :class:`LowRankImputer`.
    n_inner : int, default=3
        Steps of "cg".
    fit_bias : bool, default=True
        Whether mean, row and column biases belong to the model.
    shape : tuple of (int, int), default=None
        Numbers of rows and columns; ids must be below. By default ids may be any integers from
        0, or strings, and factors are kept for those that `fit` has seen.
    clip : tuple of (float, float), "auto" or None, default="auto"
        Smallest and largest prediction, (0.5, 5) for half stars. "auto" is the range of `y` where
        `y` takes few values (20 at most, each twice or more on average): a scale of ratings, or
        0 and 1. None does not clip.
    context : {"refuse", "bias"}, default="refuse"
        What becomes of columns of `X` after the first two. "bias" takes each for a code of
        circumstances (weekday, device) and fits an effect for each of its values, shrunk like
        biases, before the factors.
    max_iter : int, default=100
        Largest number of sweeps.
    tol : float, default=1e-4
        A sweep that lowers the objective by less than this part of it is the last.
    random_state : int, RandomState instance or None, default=None
        Seed of the sketch that the factors start from.
    n_jobs : int, default=None
        Threads over rows and columns. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over sweeps.

    Attributes
    ----------
    row_factors_ : ndarray of shape (n_rows, n_components_)
        Factors of the rows, in the order of `row_ids_`.
    col_factors_ : ndarray of shape (n_cols, n_components_)
        Factors of the columns, in the order of `col_ids_`; orthogonal, strongest first.
    row_bias_ : ndarray of shape (n_rows,)
        Biases of the rows.
    col_bias_ : ndarray of shape (n_cols,)
        Biases of the columns.
    intercept_ : float
        Weighted mean of `y` (its median for a robust loss), 0 without biases.
    row_ids_ : ndarray of shape (n_rows,)
        Ids of the rows: those seen in `fit`, or 0, 1, ... with `shape`.
    col_ids_ : ndarray of shape (n_cols,)
        Ids of the columns.
    clip_ : tuple of (float, float) or None
        The range that predictions are clipped to.
    context_effects_ : list of (codes, effects)
        Sorted codes of each further column of `X` and their effects.
    n_components_ : int
        Number of factors.
    n_iter_ : int
        Number of sweeps.
    objective_ : ndarray of shape (n_iter_,)
        Loss plus ridge after each sweep. Where uncertainty or the noise are estimated meanwhile, or
        a robust loss gets narrower, it may rise.
    noise_ : float
        Standard deviation of the noise that ridges are measured in: `scale_` at most, and less
        with ``alpha_scaling="uncertainty"``.
    scale_ : float
        Spread of `y` around the biases, what `alpha` is measured in.
    training_rmse_ : float
        Weighted root mean square residual in `fit`, before clipping.
    n_features_in_ : int
        Number of columns of `X`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with input that has string names only.

    See Also
    --------
    ImplicitFactorization : For ranking, and where only is known who chose what.
    LowRankImputer : The same model of a table with missing values.
    sklearn.linear_model.Ridge : On one-hot coded ids it is the part of the biases.

    Notes
    -----
    Repeated pairs are repeated observations. A weight of two counts as two of them.

    A pair with an id that `fit` has not seen is predicted by what is left of the model: the
    other id's bias and the mean. `fold_in` takes the values of new rows.

    **Predicted values are not a ranking.** `recommend` returns the columns that the row would value
    most *if* it chose them, and which ones are chosen at all is not in the model: measured on what
    users choose next it falls behind the order of popularity. For lists of recommendations take
    :class:`ImplicitFactorization`.

    References
    ----------
    .. [1] Y. Gu, Z. Song, J. Yin, L. Zhang, "Low rank matrix completion via robust alternating
       minimization in nearly linear time", ICLR 2024. https://arxiv.org/abs/2302.11068
    .. [2] Y. Koren, R. Bell, C. Volinsky, "Matrix factorization techniques for recommender
       systems", Computer 42, 2009. https://doi.org/10.1109/MC.2009.263

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import MatrixFactorizationRegressor
    >>> X = np.array([(i, j) for i in range(6) for j in range(5) if (i + j) % 4])
    >>> y = 3.0 + 0.5 * X[:, 0] - X[:, 1] + 0.2 * X[:, 0] * X[:, 1]
    >>> model = MatrixFactorizationRegressor(1, alpha=1e-3, bias_alpha=1e-3, random_state=0)
    >>> model.fit(X, y).predict([[0, 0], [4, 4]]).round(1)
    array([3. , 4.2])
    """

    _parameter_constraints: dict = {
        **CONSTRAINTS,
        "shape": [tuple, list, None],
        "clip": [tuple, list, str, None],
        "context": [StrOptions({"refuse", "bias"})],
    }

    def __init__(
        self,
        n_components=None,
        *,
        alpha=7.0,
        bias_alpha=3.0,
        alpha_scaling="uncertainty",
        loss="squared",
        solver="auto",
        n_inner=3,
        fit_bias=True,
        shape=None,
        clip="auto",
        context="refuse",
        max_iter=100,
        tol=1e-4,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.alpha = alpha
        self.bias_alpha = bias_alpha
        self.alpha_scaling = alpha_scaling
        self.loss = loss
        self.solver = solver
        self.n_inner = n_inner
        self.fit_bias = fit_bias
        self.shape = shape
        self.clip = clip
        self.context = context
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit factors and biases to values of pairs.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each value: integers from 0, or strings.
        y : array-like of shape (n_samples,)
            The values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.

        Returns
        -------
        self : object
            Fitted regressor.
        """
        X, y = validate_data(self, X, y, dtype=None, y_numeric=True, multi_output=False)
        ids = self._check_ids(X, fitting=True)
        y = y.astype(np.float32 if y.dtype == np.float32 else np.float64, copy=False)
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, X, dtype=y.dtype, ensure_non_negative=True
            )
            used = sample_weight > 0
            # What has no weight is not there, also for the numbering of ids.
            ids, y = [column[used] for column in ids], y[used]
            sample_weight = sample_weight[used]
            if sample_weight.min() == sample_weight.max() == 1:
                sample_weight = None
        self._name_gross(ids, y)
        weights = y[:0] if sample_weight is None else sample_weight
        clip = self._fit_clip(y)
        row_ids, rows, col_ids, cols = seen_ids(ids, self._shape)
        rows, cols = (np.ascontiguousarray(index, dtype=np.int32) for index in (rows, cols))
        shape = (len(row_ids), len(col_ids))
        settings = make_settings(self, resolve_rank(self.n_components, shape))
        effects, y = self._fit_context_effects(ids, rows, cols, y, sample_weight)
        by_row, by_column = grouped(rows, cols, y, weights, shape)
        model = minimise(
            by_row, by_column, settings, check_random_state(self.random_state),
            verbose=self.verbose,
        )  # fmt: skip
        if not model.converged:
            warn_user(
                not_converged(settings, model),
                ConvergenceWarning,
            )
        model.orthogonalise()
        self.row_ids_, self.col_ids_ = row_ids, col_ids
        self.row_factors_, self.col_factors_ = model.U, model.V
        self.row_bias_, self.col_bias_ = model.row_bias, model.col_bias
        self.intercept_ = model.mean
        self.context_effects_ = effects
        self.n_components_ = settings.rank
        self.n_iter_ = max(len(model.history), 1)
        self.objective_ = np.array(model.history)
        self.noise_ = model.scale * model.noise_share**0.5
        self.scale_ = model.scale
        total = len(y) if sample_weight is None else sample_weight.sum(dtype=np.float64)
        self.clip_ = clip
        self._delta, self._cut = float(model.delta), float(model.cut)
        self._col_variances = model.col_variances
        self.training_rmse_ = float(np.sqrt(by_row.squared_loss(model, settings) / total))
        self._seen = by_row.indptr, by_row.indices
        self._rated = np.diff(by_column.indptr) > 0
        return self

    def predict(self, X):
        """Predict the values of pairs.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each value.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted values.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=None)
        ids = self._check_ids(X, fitting=False)
        dtype = self.row_factors_.dtype
        out = predict_pairs(
            position(self.row_ids_, ids[0], "row"), position(self.col_ids_, ids[1], "column"),
            dtype.type(self.intercept_), self.row_bias_, self.col_bias_, self.row_factors_,
            self.col_factors_,
        )  # fmt: skip
        for column, (codes, effects) in zip(ids[2:], self.context_effects_, strict=True):
            place = position(codes, column, "context")
            out += np.where(place >= 0, effects[place], 0)
        return out if self.clip_ is None else np.clip(out, *self.clip_)

    def fold_in(self, X, y, sample_weight=None):
        """Return the model of new rows (users), from their values of columns that `fit` has seen.

        Each new row is one regression on the columns' factors, solved exactly; the columns stay as
        they are.

        Parameters
        ----------
        X : array-like of shape (n_samples, 2)
            Row id and column id of each value. Row ids number the new rows only: a row that `fit`
            has seen is fitted anew, from these values alone.
        y : array-like of shape (n_samples,)
            The values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative.

        Returns
        -------
        model : MatrixFactorizationRegressor
            A copy whose rows are those of `X`: its `row_factors_` and `row_bias_` are theirs, and
            its `predict` and `recommend` answer for them.
        """
        check_is_fitted(self)
        new = copy.copy(self)
        with unnamed_pairs(new, X):
            X, y = validate_data(
                new, X, y, reset=False, dtype=None, y_numeric=True, multi_output=False
            )  # fmt: skip
        new._shape = None if self._shape is None else (None, self._shape[1])
        ids = new._check_ids(X, fitting=False)
        dtype = self.col_factors_.dtype
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, X, dtype=dtype, ensure_non_negative=True)
        y = y.astype(dtype)
        for column, (codes, effects) in zip(ids[2:], self.context_effects_, strict=True):
            place = position(codes, column, "context")
            y -= np.where(place >= 0, effects[place], 0).astype(dtype)
        cols, known = known_columns(self, ids[1])
        if weights is not None:
            known &= weights > 0
        new.row_ids_, rows = np.unique(ids[0], return_inverse=True)
        shape = len(new.row_ids_), len(self.col_ids_)
        kept = y[:0] if weights is None else weights[known]
        by_row, _ = grouped(rows[known].astype(np.int32), cols[known], y[known], kept, shape)
        model = Model(
            mean=self.intercept_,
            scale=self.scale_,
            U=np.zeros((shape[0], self.n_components_), dtype),
            V=self.col_factors_,
            row_bias=np.zeros(shape[0], dtype),
            col_bias=self.col_bias_,
            delta=self._delta,
            cut=self._cut,
            noise_share=(self.noise_ / self.scale_) ** 2 if self.scale_ else 1.0,
            col_variances=self._col_variances,
        )
        exact_rows(by_row, model, scaled(make_settings(self, self.n_components_), model))
        new.row_factors_, new.row_bias_ = model.U, model.row_bias
        new._seen = by_row.indptr, by_row.indices
        return new

    def _scores(self, places, allowed):
        values = self.row_factors_[places] @ self.col_factors_[allowed].T
        values += self.col_bias_[allowed] + values.dtype.type(self.intercept_)
        return values + self.row_bias_[places, None]

    def _check_ids(self, X, *, fitting):
        """Ids by column; what is wrong with them otherwise."""
        name = type(self).__name__
        if X.shape[1] < 2:
            raise ValueError(
                f"{name} expects two columns of ids (row, column), got {X.shape[1]} feature(s)."
            )
        if X.shape[1] > 2 and self.context == "refuse":
            raise ValueError(
                f"{name} expects two columns of ids (row, column), got n_features = {X.shape[1]}. "
                'Leave out the others, or set context="bias" if they are codes of circumstances.'
            )
        ids = id_columns(X)
        if fitting:
            self._shape = check_shape(self.shape)
        check_range(ids, self._shape, name, fitting=fitting)
        return ids

    def _fit_clip(self, y):
        """The range that predictions are clipped to; None for no clipping."""
        if isinstance(self.clip, str):
            if self.clip != "auto":
                raise ValueError(f'clip must be (low, high), "auto" or None, got {self.clip!r}.')
            scale = np.unique(y) if len(y) else y
            if not 1 < len(scale) <= min(_LARGEST_SCALE, len(y) // 2):
                return None
            return float(scale[0]), float(scale[-1])
        if self.clip is None:
            return None
        if len(self.clip) != 2 or not all(isinstance(v, Real) for v in self.clip):
            raise ValueError(f"clip must be two numbers (low, high), got {self.clip!r}.")
        if not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip must be (low, high) with low < high, got {self.clip!r}.")
        return tuple(self.clip)

    def _name_gross(self, ids, y):
        """Warn of values that a square cannot bear."""
        if self.loss != "squared":
            return
        low, high = limits(y)
        gross = np.flatnonzero((y < low) | (y > high))
        if len(gross):
            worst = gross[np.argmax(np.abs(y[gross] - (low / 2 + high / 2)))]
            warn_of_gross(
                len(gross), y[worst], f"y of the pair ({ids[0][worst]}, {ids[1][worst]})",
                "The squared loss follows it: leave it out if it is a mistake, or set "
                "loss='huber'.",
            )  # fmt: skip

    def _fit_context_effects(self, ids, rows, cols, y, sample_weight):
        """Effects of further columns, by ridge means beside the biases; y without them."""
        if len(ids) == 2:
            return [], y
        weight = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
        coded = [np.unique(column, return_inverse=True) for column in ids[2:]]
        groups = [rows, cols, *(inverse for _, inverse in coded)]
        masses = [np.bincount(g, weights=weight) for g in groups]
        effects = [np.zeros(len(mass)) for mass in masses]
        mean = np.average(y, weights=weight) if self.fit_bias else 0.0
        residual = y.astype(np.float64) - mean
        for _ in range(_CONTEXT_ROUNDS):
            for which, (group, mass) in enumerate(zip(groups, masses, strict=True)):
                residual += effects[which][group]
                total = np.bincount(group, weights=weight * residual)
                effects[which] = total / np.maximum(mass + self.bias_alpha, 1e-300)
                residual -= effects[which][group]
        found = effects[2:]
        for effect, (_, inverse) in zip(found, coded, strict=True):
            y = y - effect[inverse].astype(y.dtype)
        return [(codes, effect) for (codes, _), effect in zip(coded, found, strict=True)], y

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Ids have no order and no distance: the checks then hand over integers.
        tags.input_tags.categorical = True
        tags.input_tags.positive_only = True
        # What a table of the checks means as ids, nothing can predict from.
        tags.regressor_tags.poor_score = True
        return tags
