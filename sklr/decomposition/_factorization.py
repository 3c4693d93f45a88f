"""Matrix factorisation as a regressor of (row, column) pairs."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._completion import minimise
from sklr.decomposition._completion_data import grouped
from sklr.decomposition._completion_numpy import predict_pairs
from sklr.decomposition._parameters import (
    CONSTRAINTS,
    make_settings,
    not_converged,
    resolve_rank,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_sample_weight, validate_data

_CONTEXT_ROUNDS = 5


class MatrixFactorizationRegressor(RegressorMixin, BaseEstimator):
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
        0, and factors are kept for those that `fit` has seen.
    clip : tuple of (float, float), default=None
        Smallest and largest prediction, (0.5, 5) for half stars.
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
    LowRankImputer : The same model of a table with missing values.
    sklearn.linear_model.Ridge : On one-hot coded ids it is the part of the biases.

    Notes
    -----
    Repeated pairs are repeated observations. A weight of two counts as two of them.

    A pair with an id that `fit` has not seen is predicted by what is left of the model: the
    other id's bias and the mean.

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
        "clip": [tuple, list, None],
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
        clip=None,
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
            Row id and column id of each value, integers from 0.
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
        self._check_clip()
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, X, dtype=y.dtype, ensure_non_negative=True
            )
            used = sample_weight > 0
            # What has no weight is not there, also for the numbering of ids.
            ids, y, sample_weight = ids[used], y[used], sample_weight[used]
            if sample_weight.min() == sample_weight.max() == 1:
                sample_weight = None
        weights = y[:0] if sample_weight is None else sample_weight
        if self.shape is None:
            row_ids, rows = np.unique(ids[:, 0], return_inverse=True)
            col_ids, cols = np.unique(ids[:, 1], return_inverse=True)
        else:
            (row_ids, col_ids), (rows, cols) = map(np.arange, self.shape), ids[:, :2].T
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
            warnings.warn(not_converged(settings, model), ConvergenceWarning, stacklevel=2)
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
            _position(self.row_ids_, ids[:, 0]), _position(self.col_ids_, ids[:, 1]),
            dtype.type(self.intercept_), self.row_bias_, self.col_bias_, self.row_factors_,
            self.col_factors_,
        )  # fmt: skip
        for column, (codes, effects) in zip(ids.T[2:], self.context_effects_, strict=True):
            place = _position(codes, column)
            out += np.where(place >= 0, effects[place], 0)
        return out if self.clip is None else np.clip(out, *self.clip)

    def recommend(self, row, n=10, *, exclude_seen=True):
        """Return the columns with the highest predictions for a row.

        Parameters
        ----------
        row : int
            Id of a row that `fit` has seen.
        n : int, default=10
            How many columns.
        exclude_seen : bool, default=True
            Whether columns that the row has a value for are left out. Columns without any value
            are left out always.

        Returns
        -------
        cols : ndarray of shape (n,)
            Column ids, best first; fewer where there are fewer.
        values : ndarray of shape (n,)
            Their predictions, not clipped.
        """
        check_is_fitted(self)
        for name, value in (("row", row), ("n", n)):
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
                raise TypeError(f"{name} must be an integer, got {value!r}.")
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}.")
        place = int(_position(self.row_ids_, np.array([row]))[0])
        indptr, indices = self._seen
        if place < 0 or indptr[place] == indptr[place + 1]:
            raise ValueError(
                f"row {row} had no value in fit: nothing is known of it. "
                "col_bias_ orders the columns for everybody."
            )
        values = self.row_factors_[place] @ self.col_factors_.T + self.col_bias_
        values += values.dtype.type(self.intercept_) + self.row_bias_[place]
        allowed = self._rated.copy()
        if exclude_seen:
            allowed[indices[indptr[place] : indptr[place + 1]]] = False
        chosen = np.flatnonzero(allowed)
        if n < len(chosen):
            chosen = chosen[np.argpartition(-values[chosen], n)[:n]]
        chosen = chosen[np.argsort(-values[chosen], kind="stable")]
        return self.col_ids_[chosen], values[chosen]

    def _check_ids(self, X, *, fitting):
        """Ids as integers; what is wrong with them otherwise."""
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
        if X.dtype.kind not in "iu":
            if X.dtype.kind not in "fb":
                try:
                    X = X.astype(np.float64)
                except (TypeError, ValueError) as exc:
                    raise type(exc)(
                        f"ids must be integers; code others with "
                        f"sklearn.preprocessing.OrdinalEncoder. ({exc})"
                    ) from exc
            wrong = (X != np.floor(X)) | (np.abs(X) >= 2.0**63)
            if wrong.any():
                raise ValueError(
                    f"ids must be integers, got {X[wrong][0]} in column "
                    f"{int(np.argwhere(wrong)[0, 1])} of X (64 bits at most)."
                )
        elif X.dtype.kind == "u" and X.max() >= 2**63:
            raise ValueError(f"ids must be below 2 ** 63, got {X.max()}.")
        ids = X.astype(np.int64, copy=False)
        if self.shape is not None:
            if len(self.shape) != 2 or not all(
                isinstance(s, Integral) and s > 0 for s in self.shape
            ):
                raise ValueError(f"shape must be two positive integers, got {self.shape!r}.")
            for column, what, size in zip(ids.T, ("row", "column"), self.shape, strict=False):
                if column.min() < 0 or column.max() >= size:
                    raise ValueError(
                        f"{what} ids must be from 0 to {size - 1} (shape={tuple(self.shape)}), "
                        f"got {column.min()} to {column.max()}."
                    )
        elif fitting and ids.min() < 0:
            raise ValueError(
                f"Negative values in data passed to {name}: ids are integers from 0, got "
                f"{ids.min()}. Leave out the samples of unknown ids."
            )
        return ids

    def _check_clip(self):
        if self.clip is None:
            return
        if len(self.clip) != 2 or not all(isinstance(v, Real) for v in self.clip):
            raise ValueError(f"clip must be two numbers (low, high), got {self.clip!r}.")
        if not self.clip[0] < self.clip[1]:
            raise ValueError(f"clip must be (low, high) with low < high, got {self.clip!r}.")

    def _fit_context_effects(self, ids, rows, cols, y, sample_weight):
        """Effects of further columns, by ridge means beside the biases; y without them."""
        if ids.shape[1] == 2:
            return [], y
        weight = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
        coded = [np.unique(column, return_inverse=True) for column in ids.T[2:]]
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


def _position(known, ids):
    """Place of each id among the known ones, -1 where it is not."""
    place = np.searchsorted(known, ids)
    place[place == len(known)] = 0
    return np.where(known[place] == ids, place, -1)
