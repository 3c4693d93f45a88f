"""Missing values from a low-rank model, as a transformer."""

import warnings
from numbers import Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import MissingIndicator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import MissingValues
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklr.decomposition._completion import exact_rows, leave_one_out, minimise, scaled
from sklr.decomposition._completion_data import Model, ObservedEntries, transposed
from sklr.decomposition._completion_numpy import predict_pairs
from sklr.decomposition._parameters import (
    CONSTRAINTS,
    make_settings,
    not_converged,
    resolve_rank,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_array, validate_data


def _is_nan(value):
    """Whether missing values are NaN once the input is an array of numbers."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, Real) and value != value


class LowRankImputer(TransformerMixin, BaseEstimator):
    r"""Fill in missing values by a low-rank model of the table, fitted to what is observed.

    The model is :math:`X_{ij} \approx \mu + b_i + c_j + u_i^\top v_j` with `n_components` factors.
    It is fitted by alternating minimisation whose cost a sweep grows with the number of observed
    values times `n_components`. New rows get their factors from their own observed values.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors. None is 10, or half the smaller side of a table below 20.
    alpha : float, default=0.1
        Ridge on the factors, in units of the spread of the values around the biases
        (`scale_`): the result does not depend on the unit of the data.
    bias_alpha : float, default=0.1
        Ridge on the biases: as many observations at the mean are added to each row and column.
    alpha_scaling : {"none", "count", "uncertainty"}, default="none"
        "count" multiplies both ridges by the number of values of a row or column. "uncertainty"
        estimates the noise and adds what factors are uncertain by to the ridges, see
        :class:`MatrixFactorizationRegressor`: best for noisy tables and where the number of
        factors is not known. It takes more sweeps (``tol=1e-4`` is enough), and `score` leaves the
        variance of a value's column in its row's ridge.
    loss : {"squared", "huber", "absolute"}, default="squared"
        "huber" and "absolute" resist gross outliers among the observed values. "huber" starts from
        nearly absolute values, and ends with squares up to 2.5 robust standard deviations of the
        residuals, absolute values from there, and nothing beyond 3.5 deviations or a fifth of
        `scale_`, whichever is more: such values are left out, but not most of a row or column.
        "absolute" turns from square to absolute value at 0.1 deviations, and leaves nothing out.
    solver : {"auto", "cg", "cholesky"}, default="auto"
        "cg" takes `n_inner` preconditioned conjugate gradient steps for each row and column, from
        where they stand. "cholesky" solves their normal equations. "auto" is "cholesky" up to 16
        components.
    n_inner : int, default=3
        Steps of "cg".
    fit_bias : bool, default=True
        Whether mean, row and column biases belong to the model.
    max_iter : int, default=100
        Largest number of sweeps.
    tol : float, default=1e-5
        A sweep that lowers the objective by less than this part of it is the last.
    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        What stands for a missing value.
    add_indicator : bool, default=False
        Whether columns of a :class:`sklearn.impute.MissingIndicator` are appended.
    keep_empty_features : bool, default=False
        Whether columns without any value in `fit` are kept; they are filled with the mean plus
        the row's bias. Otherwise they are dropped.
    random_state : int, RandomState instance or None, default=None
        Seed of the sketch that the factors start from.
    n_jobs : int, default=None
        Threads over rows and columns. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over sweeps.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        Factors of the columns, orthogonal, strongest first.
    mean_ : float
        Mean of the observed values (their median for a robust loss), 0 without biases.
    feature_bias_ : ndarray of shape (n_features,)
        Biases of the columns.
    n_components_ : int
        Number of factors.
    n_iter_ : int
        Number of sweeps.
    objective_ : ndarray of shape (n_iter_,)
        Loss plus ridge after each sweep.
    scale_ : float
        Spread of the observed values around the biases, what `alpha` is measured in.
    delta_ : float
        Residual at which the loss turned from square to absolute value in the last sweep,
        infinity for the squared loss.
    cut_ : float
        Residual beyond which Huber's loss left values out in the last sweeps; infinity for the
        others.
    noise_ : float
        Standard deviation of the noise that ridges are measured in; `scale_`, but with
        ``alpha_scaling="uncertainty"``.
    training_rmse_ : float
        Root mean square residual of the observed values.
    indicator_ : :class:`~sklearn.impute.MissingIndicator`
        Only with ``add_indicator=True``; None otherwise.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with input that has string names only.

    See Also
    --------
    MatrixFactorizationRegressor : The same model of (row, column) pairs, for ratings.
    sklearn.impute.KNNImputer : Fills in from similar rows; for tables without low rank.
    sklearn.impute.IterativeImputer : One regression for each column and round.

    Notes
    -----
    In sparse input the stored entries are the observed values, stored zeros included, and
    everything else is missing. The output is dense; `predict_entries` gives single positions of a
    large matrix.

    Columns of different units should be scaled first:
    :class:`~sklearn.preprocessing.StandardScaler`
    passes missing values through.

    References
    ----------
    .. [1] Y. Gu, Z. Song, J. Yin, L. Zhang, "Low rank matrix completion via robust alternating
       minimization in nearly linear time", ICLR 2024. https://arxiv.org/abs/2302.11068
    .. [2] P. Jain, P. Netrapalli, S. Sanghavi, "Low-rank matrix completion using alternating
       minimization", STOC 2013. https://doi.org/10.1145/2488608.2488693

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import LowRankImputer
    >>> X = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 5.0])
    >>> X[2, 1] = np.nan
    >>> imputer = LowRankImputer(1, alpha=1e-6, fit_bias=False, random_state=0)
    >>> imputer.fit_transform(X)[2].round(3)
    array([ 3., 30., 15.])
    >>> imputer.transform([[10.0, np.nan, np.nan]]).round(2)
    array([[ 10., 100.,  50.]])
    """

    _parameter_constraints: dict = {
        **CONSTRAINTS,
        "missing_values": [MissingValues()],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        alpha=0.1,
        bias_alpha=0.1,
        alpha_scaling="none",
        loss="squared",
        solver="auto",
        n_inner=3,
        fit_bias=True,
        max_iter=100,
        tol=1e-5,
        missing_values=np.nan,
        add_indicator=False,
        keep_empty_features=False,
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
        self.max_iter = max_iter
        self.tol = tol
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Fit the low-rank model to the observed values.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The table with missing values; of a sparse one the stored entries are observed.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted imputer.
        """
        X = self._check(X, reset=True)
        rows, mask = self._entries(X)
        if len(rows.values) == 0:
            raise ValueError(
                f"X of shape {X.shape} has no observed value: every entry is missing "
                f"(missing_values={self.missing_values!r})."
            )
        settings = make_settings(self, resolve_rank(self.n_components, X.shape))
        indicator = None
        if self.add_indicator:
            indicator = MissingIndicator(error_on_new=False).fit(_as_missing(X, mask))
        cols = transposed(rows, X.shape[1])
        model = minimise(
            rows, cols, settings, check_random_state(self.random_state), verbose=self.verbose
        )
        if not model.converged:
            warnings.warn(not_converged(settings, model), ConvergenceWarning, stacklevel=2)
        model.orthogonalise()
        counts = np.diff(cols.indptr)
        if not counts.all() and not self.keep_empty_features:
            empty = np.flatnonzero(counts == 0)
            warnings.warn(
                f"{len(empty)} of {len(counts)} features have no observed value and are dropped "
                f"by transform (the first is {empty[0]}); keep_empty_features=True keeps them.",
                UserWarning,
                stacklevel=2,
            )
        self._kept = np.ones(len(counts), bool) if self.keep_empty_features else counts > 0
        self.components_ = np.ascontiguousarray(model.V.T)
        self.mean_ = model.mean
        self.feature_bias_ = model.col_bias
        self.n_components_ = settings.rank
        self.n_iter_ = max(len(model.history), 1)
        self.objective_ = np.array(model.history)
        self.scale_ = model.scale
        self.delta_ = float(model.delta)
        self.cut_ = float(model.cut)
        self.noise_ = model.scale * model.noise_share**0.5
        self._col_variances = model.col_variances
        self.training_rmse_ = float(np.sqrt(rows.squared_loss(model, settings) / len(rows.values)))
        self.indicator_ = indicator
        return self

    def transform(self, X):
        """Fill in the missing values; observed ones stay as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows to complete, those of `fit` or new ones.

        Returns
        -------
        X : ndarray of shape (n_samples, n_output_features)
            Completed rows, without the columns that had no value in `fit` unless
            `keep_empty_features`, and with the indicator's columns if `add_indicator`.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        rows, mask = self._entries(X)
        n_observed = np.diff(rows.indptr)
        self._tell_empty_rows(n_observed)
        if sp.issparse(X):
            out = np.empty(X.shape, dtype=X.dtype)
            holes = np.ones(X.shape[0], dtype=bool)
        else:
            out = np.array(X, order="C")
            holes = ~mask.all(axis=1)
        if holes.any():
            some = _select(rows, holes)
            model = self._rows(some)
            values = self._values(model)
            if mask is not None:
                out[holes] = np.where(mask[holes], out[holes], values)
            else:
                out[:] = values
        if mask is None:
            of_row = np.repeat(np.arange(rows.n), n_observed)
            out[of_row, rows.indices] = rows.values
        out = out[:, self._kept]
        if self.indicator_ is not None:
            out = np.hstack(
                [out, self.indicator_.transform(_as_missing(X, mask)).astype(out.dtype)]
            )
        return out

    def reconstruct(self, X):
        """Return the model's values everywhere, also where `X` is observed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.

        Returns
        -------
        X_model : ndarray of shape (n_samples, n_features)
            Mean, biases and low-rank part, of all columns of `fit`.
        """
        check_is_fitted(self)
        rows, _ = self._entries(self._check(X, reset=False))
        self._tell_empty_rows(np.diff(rows.indptr))
        return self._values(self._rows(rows))

    def row_embedding(self, X):
        """Return the factors of rows, from their observed values.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.

        Returns
        -------
        factors : ndarray of shape (n_samples, n_components_)
            One row of factors for each row; zeros where nothing is observed.
        """
        check_is_fitted(self)
        rows, _ = self._entries(self._check(X, reset=False))
        self._tell_empty_rows(np.diff(rows.indptr))
        return self._rows(rows).U

    def predict_entries(self, X, rows, cols):
        """Return the model's values at single positions of a matrix too large to be filled in.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.
        rows : array-like of shape (n_entries,)
            Row numbers in `X`.
        cols : array-like of shape (n_entries,)
            Column numbers.

        Returns
        -------
        values : ndarray of shape (n_entries,)
            Mean, biases and low-rank part at these positions.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        rows, cols = (
            _check_positions(given, name, size)
            for given, name, size in ((rows, "rows", X.shape[0]), (cols, "cols", X.shape[1]))
        )
        if len(rows) != len(cols):
            raise ValueError(f"rows and cols must be as long, got {len(rows)} and {len(cols)}.")
        entries, _ = self._entries(X)
        wanted, rows = np.unique(rows, return_inverse=True)
        chosen = np.zeros(X.shape[0], dtype=bool)
        chosen[wanted] = True
        model = self._rows(_select(entries, chosen))
        return predict_pairs(
            rows,
            cols,
            model.dtype.type(model.mean),
            model.row_bias,
            model.col_bias,
            model.U,
            model.V,
        )

    def score(self, X, y=None):
        """Return how well each observed value is predicted from the others of its row.

        Each value is left out of its row's regression in turn, in closed form. Columns' factors
        are those of `fit`: score rows that were not in it, as cross-validation does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        score : float
            Minus the root mean square error, or minus the mean absolute error with a robust loss,
            which gross outliers in `X` would not leave comparable otherwise.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        rows, _ = self._entries(X)
        if len(rows.values) == 0:
            raise ValueError(f"X of shape {X.shape} has no observed value to score.")
        rows = rows._replace(values=rows.values.astype(np.float64))
        model = self._rows(rows)
        squared, absolute = leave_one_out(rows, model, self._settings(model))
        if self.loss == "squared":
            return -float(np.sqrt(squared / len(rows.values)))
        return -absolute / len(rows.values)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the output's columns.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the input's columns; those of `fit`, or x0, x1, ..., by default.

        Returns
        -------
        feature_names_out : ndarray of str objects
            Names of the columns that are kept, then the indicator's.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        if self.indicator_ is None:
            return names[self._kept]
        return np.concatenate([names[self._kept], self.indicator_.get_feature_names_out(names)])

    def _check(self, X, *, reset):
        nan = _is_nan(self.missing_values)
        if sp.issparse(X) and X.dtype.kind == "f" and np.isnan(X.tocsr().data).any():
            raise ValueError(
                "X is sparse and stores NaN. Its stored entries are the observed values; leave out "
                "what is missing."
            )
        return validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if nan and not sp.issparse(X) else True,
        )

    def _entries(self, X):
        """Observed entries by row, and the mask of observed ones of a dense table."""
        if sp.issparse(X):
            if not X.has_canonical_format:
                X = X.copy()
                X.sum_duplicates()
            kept = np.ones(len(X.data), bool)
            if not _is_nan(self.missing_values):
                kept = X.data != self.missing_values
            indptr = np.concatenate([[0], np.cumsum(kept)])[X.indptr].astype(np.int64)
            if kept.all():
                indices, values = X.indices, X.data
            else:
                indices, values = X.indices[kept], X.data[kept]
            return ObservedEntries(
                indptr, indices.astype(np.int32, copy=False), values, values[:0]
            ), None
        mask = ~np.isnan(X) if _is_nan(self.missing_values) else X != self.missing_values
        indptr = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
        numbers = np.broadcast_to(np.arange(X.shape[1], dtype=np.int32), X.shape)
        return ObservedEntries(indptr, numbers[mask], X[mask], X[:0, 0]), mask

    def _settings(self, model):
        return scaled(make_settings(self, self.n_components_), model)

    def _rows(self, rows):
        """Factors and biases of rows, by one exact regression each on their observed values."""
        dtype = rows.values.dtype
        V = np.ascontiguousarray(self.components_.T, dtype=dtype)
        model = Model(
            mean=self.mean_,
            scale=self.scale_,
            U=np.zeros((rows.n, V.shape[1]), dtype=dtype),
            V=V,
            row_bias=np.zeros(rows.n, dtype=dtype),
            col_bias=self.feature_bias_.astype(dtype),
            delta=self.delta_,
            cut=self.cut_,
            noise_share=(self.noise_ / self.scale_) ** 2 if self.scale_ else 1.0,
            col_variances=self._col_variances,
        )
        exact_rows(rows, model, self._settings(model))
        return model

    def _values(self, model):
        values = model.U @ model.V.T
        values += model.row_bias[:, None]
        values += model.col_bias + model.dtype.type(model.mean)
        return values

    def _tell_empty_rows(self, n_observed):
        empty = int((n_observed == 0).sum())
        if empty:
            what = "the mean and the feature biases" if self.fit_bias else "zeros"
            warnings.warn(
                f"{empty} of {len(n_observed)} rows have no observed value (the first is row "
                f"{int(np.argmin(n_observed))}); they are filled with {what}.",
                UserWarning,
                stacklevel=3,
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _is_nan(self.missing_values)
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _select(rows, chosen):
    """Return the entries of some rows."""
    if chosen.all():
        return rows
    counts = np.diff(rows.indptr)
    kept = np.repeat(chosen, counts)
    indptr = np.concatenate([[0], np.cumsum(counts[chosen])])
    return ObservedEntries(indptr, rows.indices[kept], rows.values[kept], rows.weights)


def _as_missing(X, mask):
    """Return a table that is NaN where a value is missing, for the indicator."""
    if mask is None:
        mask = np.zeros(X.shape, dtype=bool)
        mask[np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices] = True
    return np.where(mask, 0.0, np.nan)


def _check_positions(given, name, size):
    found = check_array(given, ensure_2d=False, dtype=None, ensure_min_samples=0)
    if found.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a list of integers, got {found.dtype}, {found.ndim}-D.")
    if found.min() < 0 or found.max() >= size:
        raise ValueError(
            f"{name} must be from 0 to {size - 1}, got {found.min()} to {found.max()}."
        )
    return found.astype(np.int64)
