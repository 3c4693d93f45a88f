"""Missing values from a low-rank model, as a transformer."""

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import MissingIndicator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, MissingValues, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklr.decomposition import _factor_analysis_fit as factor_analysis
from sklr.decomposition._factor_analysis import leave_one_out, row_posterior
from sklr.decomposition._gross_values import limits, limits_of_columns, warn_of_gross
from sklr.decomposition._imputer_alternating import DEFAULTS, entries_of, fit_alternating
from sklr.decomposition._imputer_tables import as_numbers, bounds, is_nan, named
from sklr.decomposition._parameters import CONSTRAINTS
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_array, validate_data
from sklr.utils._warnings import warn_user

_TOL = 5e-3
# A model that is off by less (standard deviations) is right beyond what was observed, too.
_EXACT = 0.1


class LowRankImputer(TransformerMixin, BaseEstimator):
    r"""Fill in missing values by a low-rank model of the table, fitted to what is observed.

    By default the model is factor analysis: in the units of its columns a row is
    :math:`x \approx m + W u` with `n_components` standard normal scores :math:`u`, and each column
    has a noise variance of its own, or a mixture of a few such models where rows form clusters.
    Columns of any units go in, and come out in their units. For large sparse matrices, ratings
    and outliers there is alternating minimisation, see `method`.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of factors. "auto" lets factor analysis drop those that explain nothing (at most
        20, and no more than the columns' covariances can tell apart); with alternating
        minimisation it is 10, or half the smaller side of a table below 20. None is the same.
    method : {"auto", "factor_analysis", "alternating"}, default="auto"
        "auto" is "factor_analysis" for dense tables, and "alternating" for sparse input or where
        one of its parameters (`alpha`, `bias_alpha`, `alpha_scaling`, `loss`, `solver`, `n_inner`,
        `fit_bias`) is given.
    n_clusters : int or "auto", default="auto"
        Groups of rows with means, factors and noise of their own. "auto" tries 1, 2, 3, and 5 on
        entries that are set aside, where there are 40 rows for each. Sweeps over several groups
        end before they converge where the error at these entries grows.
    n_neighbors : int or "auto", default="auto"
        How many near rows a hole gets a correction from: the weighted mean of their residuals in
        its column, shrunk. 0 turns it off. "auto" is 5 where it helps on entries that are set
        aside.
    min_value : {"auto", "observed"}, float or array-like of shape (n_features,), default="auto"
        What is filled in is not below. "observed" is the smallest value of the column in `fit`;
        "auto" is "observed" for factor analysis, unless `held_out_error_` is below 0.1, and no
        bound otherwise. ``-np.inf`` is no bound.
    max_value : {"auto", "observed"}, float or array-like of shape (n_features,), default="auto"
        What is filled in is not above; as `min_value`.
    round_integers : bool, default=False
        Whether columns that held whole numbers only in `fit` are filled with whole numbers.
    alpha : float, default=None
        Of "alternating": ridge on the factors, in units of the spread of the values around the
        biases (`scale_`). None is 0.1, and less where the squared loss leaves hardly any noise.
    bias_alpha : float, default=None
        Of "alternating": ridge on the biases: as many observations at the mean are added to each
        row and column. None is 0.1.
    alpha_scaling : {"none", "count", "uncertainty"}, default=None
        Of "alternating": "count" multiplies both ridges by the number of values of a row or
        column. "uncertainty" estimates the noise and adds what factors are uncertain by to the
        ridges, see :class:`MatrixFactorizationRegressor`; ``tol=1e-4`` is enough then, and `score`
        leaves the variance of a value's column in its row's ridge. None is "none".
    loss : {"squared", "huber", "absolute"}, default=None
        Of "alternating": "huber" and "absolute" resist gross outliers among the observed values.
        "huber" starts from nearly absolute values, and ends with squares up to 2.5 robust standard
        deviations of the residuals, absolute values from there, and nothing beyond 3.5 deviations
        or a fifth of `scale_`, whichever is more: such values are left out, but not most of a row
        or column. "absolute" turns from square to absolute value at 0.1 deviations, and leaves
        nothing out. Columns of unlike units should be scaled before. None is "squared".
    solver : {"auto", "cg", "cholesky"}, default=None
        Of "alternating": "cg" takes `n_inner` preconditioned conjugate gradient steps for each row
        and column, from where they stand. "cholesky" solves their normal equations. "auto" and None
        are "cholesky" up to 16 components.
    n_inner : int, default=None
        Of "alternating": steps of "cg". None is 3.
    fit_bias : bool, default=None
        Of "alternating": whether mean, row and column biases belong to the model. None is True.
    max_iter : int, default=100
        Largest number of sweeps.
    tol : float, default=None
        Of factor analysis: the sweep by which expected values change by less than this (root mean
        square, in standard deviations of the columns) is the last, None is 5e-3. Of "alternating":
        the sweep that lowers the objective by less than this part of it, None is 1e-5.
    missing_values : int, float, str, np.nan, None or pandas.NA, default=np.nan
        What stands for a missing value. Text is for tables of objects, such as "?" among numbers.
    add_indicator : bool, default=False
        Whether columns of a :class:`sklearn.impute.MissingIndicator` are appended.
    keep_empty_features : bool, default=False
        Whether columns without any value in `fit` are kept: filled with 0 by factor analysis, with
        the mean plus the row's bias by alternating minimisation. Otherwise they are dropped. What
        rows to be filled in hold in such a column is not used.
    random_state : int, RandomState instance or None, default=None
        Seed of the entries that factor analysis sets aside (None: always the same), or of the
        sketch that alternating minimisation starts from.
    n_jobs : int, default=None
        Threads of alternating minimisation over rows and columns. The result does not depend on it.
    verbose : int, default=0
        1 shows the progress over sweeps.

    Attributes
    ----------
    method_ : {"factor_analysis", "alternating"}
        The method that was used.
    components_ : ndarray of shape (n_clusters_ * n_components_, n_features)
        Loadings, or factors of the columns: orthogonal (of factor analysis in units of the
        columns), strongest first, group after group.
    n_components_ : int
        Number of factors, of each group. 0: no factor predicts better than the columns' means.
    n_clusters_, n_neighbors_ : int
        Groups of rows, and neighbours. Factor analysis only, as all up to `variance_inflation_`.
    cluster_weights_ : ndarray of shape (n_clusters_,)
        Share of the rows.
    cluster_means_ : ndarray of shape (n_clusters_, n_features)
        Means of the groups.
    noise_variance_ : ndarray of shape (n_features,)
        Noise of each column, averaged over the groups.
    held_out_error_ : float
        Root mean square error at the entries that were set aside, in standard deviations of the
        columns; 1 is the column mean's. NaN for tables too small for it.
    variance_inflation_ : float
        What variances are multiplied by so that they agree with these errors.
    mean_ : float
        With alternating minimisation the mean of the observed values (their median for a robust
        loss), 0 without biases and for factor analysis.
    feature_bias_ : ndarray of shape (n_features,)
        Biases of the columns; of factor analysis their means.
    objective_ : ndarray of shape (n_iter_,)
        Of alternating minimisation only: loss plus ridge after each sweep.
    scale_ : float
        Of alternating minimisation only: spread of the observed values around the biases, what
        `alpha` is measured in.
    delta_ : float
        Of alternating minimisation only: residual at which the loss turned from square to absolute
        value in the last sweep, infinity for the squared loss.
    cut_ : float
        Of alternating minimisation only: residual beyond which Huber's loss left values out in the
        last sweeps; infinity for the others.
    noise_ : float
        Of alternating minimisation only: standard deviation of the noise that ridges are measured
        in; `scale_`, but with ``alpha_scaling="uncertainty"``.
    training_rmse_ : float
        Of alternating minimisation only: root mean square residual of the observed values.
    n_iter_ : int
        Number of sweeps.
    min_value_, max_value_ : ndarray of shape (n_features,)
        Bounds of what is filled in.
    integer_features_ : ndarray of shape (n_features,)
        Which columns held whole numbers only.
    indicator_ : :class:`~sklearn.impute.MissingIndicator`
        Only with ``add_indicator=True``; None otherwise.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with input that has string names only.

    See Also
    --------
    MatrixFactorizationRegressor : A low-rank model of (row, column) pairs, for ratings.
    sklearn.decomposition.FactorAnalysis : The same model of complete tables.
    sklearn.impute.KNNImputer : Fills in from similar rows.
    sklearn.impute.IterativeImputer : One regression for each column and round.

    Notes
    -----
    Factor analysis is fitted by variational Bayes: the posterior of a row's scores is exact given
    the columns, loadings have a posterior of their own, and a precision for each factor removes
    those that explain nothing. A sweep costs
    ``n_samples * k**2 * (n_features + k)`` operations for each group, k factors each.

    In sparse input the stored entries are the observed values, stored zeros included, and
    everything else is missing. The output is dense; `predict_entries` gives single positions of a
    large matrix.

    References
    ----------
    .. [1] D. B. Rubin, D. T. Thayer, "EM algorithms for ML factor analysis", Psychometrika 47,
       1982. https://doi.org/10.1007/BF02293851
    .. [2] A. Ilin, T. Raiko, "Practical approaches to principal component analysis in the presence
       of missing values", JMLR 11, 2010. https://jmlr.org/papers/v11/ilin10a.html
    .. [3] Z. Ghahramani, M. J. Beal, "Variational inference for Bayesian mixtures of factor
       analysers", NIPS 1999.
       https://papers.nips.cc/paper/1691-variational-inference-for-bayesian-mixtures-of-factor-analysers
    .. [4] Y. Gu, Z. Song, J. Yin, L. Zhang, "Low rank matrix completion via robust alternating
       minimization in nearly linear time", ICLR 2024. https://arxiv.org/abs/2302.11068
    .. [5] P. Jain, P. Netrapalli, S. Sanghavi, "Low-rank matrix completion using alternating
       minimization", STOC 2013. https://doi.org/10.1145/2488608.2488693

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from sklr.decomposition import LowRankImputer
    >>> X = load_wine().data
    >>> holes = np.random.default_rng(0).random(X.shape) < 0.2
    >>> imputer = LowRankImputer().fit(np.where(holes, np.nan, X))
    >>> filled, std = imputer.transform(np.where(holes, np.nan, X), return_std=True)
    >>> def error(Z):
    ...     return np.sqrt(np.mean(((Z - X) / X.std(axis=0))[holes] ** 2))
    >>> bool(error(filled) < 0.8 < 1 < error(X.mean(axis=0) + 0 * X))
    True
    """

    _parameter_constraints: dict = {
        **CONSTRAINTS,
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "method": [StrOptions({"auto", "factor_analysis", "alternating"})],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_neighbors": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "min_value": [Real, "array-like", StrOptions({"auto", "observed"})],
        "max_value": [Real, "array-like", StrOptions({"auto", "observed"})],
        "round_integers": ["boolean"],
        **{name: [*CONSTRAINTS[name], None] for name in (*DEFAULTS, "tol")},
        "missing_values": [MissingValues()],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        method="auto",
        n_clusters="auto",
        n_neighbors="auto",
        min_value="auto",
        max_value="auto",
        round_integers=False,
        alpha=None,
        bias_alpha=None,
        alpha_scaling=None,
        loss=None,
        solver=None,
        n_inner=None,
        fit_bias=None,
        max_iter=100,
        tol=None,
        missing_values=np.nan,
        add_indicator=False,
        keep_empty_features=False,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.method = method
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.min_value = min_value
        self.max_value = max_value
        self.round_integers = round_integers
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
        X, mask = self._check(X, reset=True)
        if not mask.any():
            raise ValueError(
                f"X of shape {X.shape} has no observed value: every entry is missing "
                f"(missing_values={self.missing_values!r})."
            )
        self.method_ = self._resolve_method(sp.issparse(X))
        if self.n_components not in (None, "auto") and self.n_components > min(X.shape):
            raise ValueError(
                f"n_components={self.n_components} must be at most min(shape)={min(X.shape)}, "
                f"the matrix has shape {X.shape}."
            )
        mask_of_fit = self._without_gross(X, mask)
        self._set_columns(X, mask_of_fit)
        if self.method_ == "alternating":
            self._fitted = fit_alternating(self, entries_of(X, mask), X.shape)
        else:
            self._fit_factor_analysis(X, mask_of_fit)
        self.indicator_ = None
        if self.add_indicator:
            self.indicator_ = MissingIndicator(error_on_new=False).fit(_as_missing(X, mask))
        return self

    def transform(self, X, return_std=False):
        """Fill in the missing values; observed ones stay as they are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows to complete, those of `fit` or new ones.
        return_std : bool, default=False
            Whether standard deviations are returned too; with factor analysis only.

        Returns
        -------
        X : ndarray of shape (n_samples, n_output_features)
            Completed rows, without the columns that had no value in `fit` unless
            `keep_empty_features`, and with the indicator's columns if `add_indicator`.
        std : ndarray of shape (n_samples, n_kept_features)
            Only with `return_std`: standard deviations of what was filled in, 0 where observed.
        """
        check_is_fitted(self)
        if return_std:
            self._only_factor_analysis("return_std=True")
        X, mask = self._check(X, reset=False)
        evidence = self._evidence(X, mask)
        self._warn_of_empty_rows(X, evidence)
        std = None
        if self.method_ == "factor_analysis":
            out, std = self._filled_by_factors(X, mask, evidence, return_std)
        else:
            out = self._filled_by_alternation(X, mask, evidence)
        out = out[:, self._kept]
        if self.indicator_ is not None:
            flags = self.indicator_.transform(_as_missing(X, mask)).astype(out.dtype)
            out = np.hstack([out, flags])
        return (out, std[:, self._kept]) if return_std else out

    def sample_posterior(self, X, n_draws=1, random_state=None):
        """Draw completed tables from the posterior, for multiple imputation.

        Parameters of the columns, groups and scores of the rows and noise are all drawn: fit your
        analysis to each table and pool the results (Rubin's rules).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows to complete, those of `fit` or new ones.
        n_draws : int, default=1
            How many tables.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws.

        Returns
        -------
        tables : ndarray of shape (n_draws, n_samples, n_kept_features)
            Completed tables, observed values as they are, without the indicator's columns.
        """
        check_is_fitted(self)
        self._only_factor_analysis("sample_posterior")
        if not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 1:
            raise ValueError(f"n_draws must be an integer >= 1, got {n_draws!r}.")
        X, mask = self._check(X, reset=False)
        evidence = self._evidence(X, mask)
        self._warn_of_empty_rows(X, evidence)
        rng = check_random_state(random_state)
        out = np.empty((n_draws, X.shape[0], int(self._kept.sum())), dtype=X.dtype)
        for table in out:
            drawn = self._bounded(factor_analysis.draw(self._fitted, X, evidence, rng))
            table[:] = np.where(mask, X, drawn)[:, self._kept]
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
            What the model expects of all columns of `fit`, without bounds and neighbours.
        """
        check_is_fitted(self)
        X, mask = self._check(X, reset=False)
        evidence = self._evidence(X, mask)
        self._warn_of_empty_rows(X, evidence)
        if self.method_ == "factor_analysis":
            values = factor_analysis.predict(self._fitted, X, evidence, fill=False)[0]
            return values.astype(X.dtype, copy=False)
        return self._fitted.values(entries_of(X, evidence))

    def row_embedding(self, X):
        """Return the scores or factors of rows, from their observed values.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.

        Returns
        -------
        factors : ndarray of shape (n_samples, n_clusters_ * n_components_)
            One row of factors for each row, of several groups times the group's probability;
            zeros where nothing is observed and there is one group.
        """
        check_is_fitted(self)
        X, mask = self._check(X, reset=False)
        evidence = self._evidence(X, mask)
        self._warn_of_empty_rows(X, evidence)
        if self.method_ == "alternating":
            return self._fitted.rows(entries_of(X, evidence)).U
        posterior = row_posterior(self._fitted.model, self._fitted.table(X, evidence))
        parts = [u * share for u, share in zip(posterior.scores, posterior.shares, strict=True)]
        return np.ascontiguousarray(np.vstack(parts).T, dtype=X.dtype)

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
            What the model expects at these positions.
        """
        check_is_fitted(self)
        X, mask = self._check(X, reset=False)
        rows, cols = (
            _check_positions(given, name, size)
            for given, name, size in ((rows, "rows", X.shape[0]), (cols, "cols", X.shape[1]))
        )
        if len(rows) != len(cols):
            raise ValueError(f"rows and cols must be as long, got {len(rows)} and {len(cols)}.")
        evidence = self._evidence(X, mask)
        wanted, rows = np.unique(rows, return_inverse=True)
        if self.method_ == "factor_analysis":
            values = factor_analysis.predict(self._fitted, X[wanted], evidence[wanted], fill=False)[
                0
            ]
            return values[rows, cols].astype(X.dtype, copy=False)
        if sp.issparse(X):
            kept = np.repeat(np.isin(np.arange(X.shape[0]), wanted), np.diff(X.indptr))
            return self._fitted.pairs(entries_of(X[wanted], evidence[kept]), rows, cols)
        return self._fitted.pairs(entries_of(X[wanted], evidence[wanted]), rows, cols)

    def score(self, X, y=None):
        """Return how well each observed value is predicted from the others of its row.

        Each value is left out of its row's regression in turn, in closed form. What was fitted of
        the columns stays: score rows that were not in `fit`, as cross-validation does.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows with missing values.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        score : float
            Minus the root mean square error, of factor analysis in standard deviations that the
            columns had in `fit`; minus the mean absolute error with a robust loss, which gross
            outliers in `X` would not leave comparable otherwise.
        """
        check_is_fitted(self)
        X, mask = self._check(X, reset=False)
        evidence = self._evidence(X, mask)
        if not evidence.any():
            raise ValueError(f"X of shape {X.shape} has no observed value to score.")
        if self.method_ == "alternating":
            return self._fitted.score(entries_of(X, evidence))
        table = self._fitted.table(X, evidence)
        count = table.observed.sum()
        if not count:
            return 0.0  # constant columns only
        posterior = row_posterior(self._fitted.model, table)
        gaps = leave_one_out(self._fitted.model, posterior, table)[0]
        return -float(np.sqrt((gaps**2).sum() / count))

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

    def _resolve_method(self, sparse):
        given = [name for name in DEFAULTS if getattr(self, name) is not None]
        method = self.method
        if method == "auto":
            method = "alternating" if sparse or given else "factor_analysis"
        if method == "factor_analysis" and given:
            raise ValueError(
                f"{given[0]}={getattr(self, given[0])!r} belongs to method='alternating', got "
                "method='factor_analysis', which has no such parameter: leave one of them out."
            )
        if method == "factor_analysis" and sparse:
            raise ValueError(
                "method='factor_analysis' takes dense tables with NaN for missing values, got "
                "a sparse matrix; method='alternating' takes sparse ones."
            )
        if method == "alternating":
            for name in ("n_clusters", "n_neighbors"):
                if getattr(self, name) not in ("auto", int(name == "n_clusters")):
                    why = f"given, or chosen by {given[0]}" if given else "given, or X is sparse"
                    raise ValueError(
                        f"{name}={getattr(self, name)!r} belongs to method='factor_analysis'; "
                        f"method='alternating' ({why}) has no such parameter."
                    )
        return method

    def _without_gross(self, X, mask):
        """Observed values without gross ones, which are named, and kept if the method bears them.

        Of a sparse matrix, or for alternating minimisation, columns have one limit.
        """
        if self.method_ == "alternating":
            if self.loss in ("huber", "absolute"):
                return mask
            values = X.data[mask] if sp.issparse(X) else X[mask]
            low, high = limits(values)
            gross = (values < low) | (values > high)
            if gross.any():
                columns = X.indices[mask] if sp.issparse(X) else np.nonzero(mask)[1]
                self._name_gross(
                    values[gross], columns[gross], "The squared loss follows it: set it to missing "
                    "if it is a mistake, or set loss='huber'.",
                )  # fmt: skip
            return mask
        self._limits = low, high = limits_of_columns(X, mask)
        with np.errstate(invalid="ignore"):
            gross = mask & ((X < low) | (X > high))
        if gross.any():
            self._name_gross(
                X[gross], np.nonzero(gross)[1], "Such values stay in the output, and the model "
                "leaves them out. Set mistakes to missing; take logarithms of a column whose "
                "values are meant to differ so much.",
            )  # fmt: skip
        return mask & ~gross

    def _name_gross(self, values, columns, advice):
        worst = np.argmax(np.abs(values))
        column = named(columns[worst : worst + 1], getattr(self, "feature_names_in_", None))
        warn_of_gross(len(values), values[worst], f"column {column}", advice)

    def _set_columns(self, X, mask):
        """Which columns are kept, and the bounds of what is filled in."""
        if sp.issparse(X):
            columns, values = X.indices[mask], X.data[mask]
            counts = np.bincount(columns, minlength=X.shape[1])
            low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
            np.minimum.at(low, columns, values)
            np.maximum.at(high, columns, values)
            broken = np.bincount(columns, values != np.rint(values), minlength=X.shape[1])
        else:
            counts = mask.sum(axis=0)
            low = np.where(mask, X, np.inf).min(axis=0).astype(float)
            high = np.where(mask, X, -np.inf).max(axis=0).astype(float)
            broken = (mask & (X != np.rint(X))).sum(axis=0)
        self.integer_features_ = (broken == 0) & (counts > 0)
        self._seen = counts > 0
        self._kept = np.ones(len(counts), bool) if self.keep_empty_features else self._seen
        names = getattr(self, "feature_names_in_", None)
        if not self._kept.all():
            empty = np.flatnonzero(~self._kept)
            warn_user(
                f"{len(empty)} of {len(counts)} features have no observed value and are dropped "
                f"by transform: {named(empty, names)}; keep_empty_features=True keeps them.",
            )
        low, high = np.where(self._seen, low, -np.inf), np.where(self._seen, high, np.inf)
        found = []
        for name, observed in (("min_value", low), ("max_value", high)):
            given = getattr(self, name)
            if isinstance(given, str) and given == "auto" and self.method_ == "alternating":
                given = -np.inf if name == "min_value" else np.inf
            found.append(bounds(given, name, observed, names))
        self.min_value_, self.max_value_ = found
        wrong = np.flatnonzero(~(found[0] <= found[1]))
        if len(wrong):
            raise ValueError(
                f"min_value must not be above max_value, got {found[0][wrong[0]]:g} and "
                f"{found[1][wrong[0]]:g} for column {named(wrong[:1], names)}."
            )

    def _fit_factor_analysis(self, X, mask):
        tol = _TOL if self.tol is None else self.tol
        auto = {name: getattr(self, name) for name in ("n_components", "n_clusters", "n_neighbors")}
        seed = 0 if self.random_state is None else self.random_state
        fitted = factor_analysis.fit_table(
            X,
            mask,
            **{name: None if value == "auto" else value for name, value in auto.items()},
            max_iter=self.max_iter,
            tol=tol,
            rng=check_random_state(seed),
            verbose=self.verbose,
        )
        if not fitted.converged:
            warn_user(
                f"factor analysis did not converge in max_iter={self.max_iter} sweeps: the last "
                f"one changed expected values by {fitted.change:.2g} standard deviations of their "
                f"columns, tol={tol:g}. Raise max_iter or tol.",
                ConvergenceWarning,
            )
        model, active, scale = fitted.model, fitted.active, fitted.scale
        groups, p, k = model.loadings.shape
        self._fitted = fitted
        self.components_ = np.zeros((groups * k, X.shape[1]), dtype=X.dtype)
        loadings = model.loadings.transpose(0, 2, 1).reshape(groups * k, p)
        self.components_[:, active] = loadings * scale[active]
        self.cluster_weights_ = model.weights
        self.cluster_means_ = np.tile(fitted.centre, (groups, 1))
        self.cluster_means_[:, active] += model.means * scale[active]
        self.mean_ = 0.0
        self.feature_bias_ = model.weights @ self.cluster_means_
        self.noise_variance_ = np.zeros(X.shape[1])
        self.noise_variance_[active] = (model.weights @ model.noise) * scale[active] ** 2
        self.n_components_, self.n_clusters_ = k, groups
        self.n_neighbors_ = fitted.neighbours
        self.held_out_error_ = fitted.held_out
        self.variance_inflation_ = fitted.inflation
        self.n_iter_ = max(fitted.n_iter, 1)
        if fitted.held_out < _EXACT:
            if isinstance(self.min_value, str) and self.min_value == "auto":
                self.min_value_ = np.full(X.shape[1], -np.inf)
            if isinstance(self.max_value, str) and self.max_value == "auto":
                self.max_value_ = np.full(X.shape[1], np.inf)

    def _filled_by_factors(self, X, mask, evidence, return_std):
        out = np.array(X, order="C")
        holes = ~mask.all(axis=1)
        std = np.zeros(X.shape, dtype=X.dtype) if return_std else None
        if holes.any():
            values, deviations = factor_analysis.predict(
                self._fitted, X[holes], evidence[holes], return_std=return_std
            )
            out[holes] = np.where(mask[holes], out[holes], self._bounded(values))
            if return_std:
                std[holes] = np.where(mask[holes], 0.0, deviations)
        return out, std

    def _filled_by_alternation(self, X, mask, evidence):
        if not sp.issparse(X):
            out = np.array(X, order="C")
            holes = ~mask.all(axis=1)
            if holes.any():
                values = self._fitted.values(entries_of(X[holes], evidence[holes]))
                out[holes] = np.where(mask[holes], out[holes], self._bounded(values))
            return out
        out = self._bounded(self._fitted.values(entries_of(X, evidence)))
        of_row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        out[of_row[mask], X.indices[mask]] = X.data[mask]
        return out

    def _bounded(self, values):
        out = np.clip(values, self.min_value_, self.max_value_)
        if self.round_integers:
            whole = self.integer_features_
            low, high = np.ceil(self.min_value_[whole]), np.floor(self.max_value_[whole])
            out[:, whole] = np.clip(np.rint(out[:, whole]), low, high)
        return out.astype(values.dtype, copy=False)

    def _check(self, X, *, reset):
        """Validated table, and which of its values are observed (of a sparse one: the stored)."""
        if sp.issparse(X) and X.dtype.kind == "f" and np.isnan(X.tocsr().data).any():
            raise ValueError(
                "X is sparse and stores NaN. Its stored entries are the observed values; leave out "
                "what is missing."
            )
        X = as_numbers(X, self.missing_values)
        nan = is_nan(self.missing_values)
        X = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan" if nan and not sp.issparse(X) else True,
        )
        if sp.issparse(X):
            if not reset and self.method_ == "factor_analysis":
                raise ValueError(
                    "X is sparse and fit saw a dense table: factor analysis takes dense tables "
                    "with NaN for missing values. Fit on sparse input, or with "
                    "method='alternating'."
                )
            if not X.has_canonical_format:
                X = X.copy()
                X.sum_duplicates()
            found = X.data
        else:
            found = X
        if nan:
            return X, ~np.isnan(found)
        return X, found != found.dtype.type(self.missing_values)

    def _evidence(self, X, mask):
        """Observed values that count: those of columns without any in `fit` do not."""
        if sp.issparse(X):
            return mask & self._seen[X.indices]
        if self.method_ == "alternating":
            return mask & self._seen
        low, high = self._limits
        with np.errstate(invalid="ignore"):
            return mask & self._seen & (X >= low) & (X <= high)

    def _only_factor_analysis(self, what):
        if self.method_ != "factor_analysis":
            raise ValueError(
                f"{what} needs method='factor_analysis', this imputer was fitted with "
                f"method='{self.method_}', which has no posterior."
            )

    def _warn_of_empty_rows(self, X, evidence):
        if sp.issparse(X):
            counts = np.diff(np.concatenate([[0], np.cumsum(evidence)])[X.indptr])
        else:
            counts = evidence.sum(axis=1)
        empty = int((counts == 0).sum())
        if empty:
            what = "the columns' means"
            if self.method_ == "alternating":
                what = "zeros" if self.fit_bias is False else "the mean and the feature biases"
            warn_user(
                f"{empty} of {len(counts)} rows have no observed value (the first is row "
                f"{int(np.argmin(counts))}); they are filled with {what}.",
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = is_nan(self.missing_values)
        tags.input_tags.sparse = self.method != "factor_analysis"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _as_missing(X, mask):
    """Return a table that is NaN where a value is missing, for the indicator."""
    if sp.issparse(X):
        seen = np.zeros(X.shape, dtype=bool)
        of_row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        seen[of_row[mask], X.indices[mask]] = True
        mask = seen
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
