"""Regression with a low-rank coefficient matrix: matrix sensing."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._sensing_fit import fit_absolute, fit_squared
from sklr.decomposition._sensing_operator import SensingOperator, is_symmetric, samples_entries
from sklr.decomposition._sensing_samples import (
    OUTLIER,
    flatten,
    in_units,
    outliers,
    robust_deviation,
)
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._validation import check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

# Singular values below this part of the largest do not count for the rank.
_RANK_TOL = 1e-3
# Noise moves singular values by up to its own largest one; above twice that they are signal.
_NOISE = 2.0
# Samples from which a mean of residuals is looked at.
_MANY = 20


class MatrixSensingRegressor(RegressorMixin, BaseEstimator):
    """Linear regression on matrices whose coefficient matrix has low rank.

    ``y_i = <A_i, M>`` plus noise, for matrices ``A_i`` given as samples and an unknown matrix
    ``M`` of low rank, from fewer samples than ``M`` has entries. ``M`` is sought as a product of
    two thin factors by gradient steps from a small start. The rank need not be known: it may be
    given too high. With ``loss="absolute"``, a large share of the targets may be garbage of any
    size.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of columns of the factors, a bound on the rank of the matrix. None is
        ``min(n_rows, n_columns, 10)`` for the squared loss, ``min(n_rows, n_columns)`` for the
        absolute one. More than ``min(n_rows, n_columns)`` is cut to that, with a warning.
    loss : {"squared", "absolute"}, default="squared"
        Mean of squared or absolute residuals.
    solver : {"accelerated", "gd"}, default="accelerated"
        How the squared loss is descended. "gd" is plain gradient descent, which gets slow when
        `n_components` is above the rank. "accelerated" re-scales the factors once the matrix is
        roughly known, after which the speed does not depend on the start [1]_. The absolute loss
        has one solver, the sub-gradient method [2]_.
    symmetric : {"auto"} or bool, default="auto"
        Whether the matrix is symmetric. "auto" says yes if every ``A_i`` is symmetric, since
        nothing is measured of the rest. Then the steps cost half. True, together with
        ``solver="gd"`` or ``loss="absolute"``, also makes the matrix positive semi-definite: it
        is sought as ``F F'``.
    shape : (int, int) or None, default=None
        Shape of the matrix when `X` is flat. None takes the shape of 3-D samples; for flat
        samples a square when their length is a square number, otherwise a single row, which is
        an ordinary linear model.
    fit_intercept : bool, default=False
        Whether a constant is fitted too. `X` is not centred in memory.
    init_scale : float or None, default=None
        Size of the start relative to that of the solution: 0.5 for the squared loss, 0.1 for the
        absolute one while its columns are added on evidence (see `decay`), otherwise 1e-6. A
        smaller one leaves less of a surplus of the rank and takes logarithmically longer.
    step : {"adaptive", "geometric", "loss"}, default="adaptive"
        Step sizes of the absolute loss. "geometric" shrinks them by `decay` each time. "loss"
        makes them proportional to the mean residual, for clean data. "adaptive" makes them
        proportional to a low quantile of the residuals, which outliers do not move, but no larger
        than "geometric" ones.
    step_size : {"auto"} or float, default="auto"
        For the squared loss, relative to the largest stable step ("auto" is 0.25); halved when a
        step fails. For the absolute loss the first relative step: "auto" is 0.3,
        or with ``step="loss"`` a quarter of the largest stable step.
    decay : {"auto"} or float, default="auto"
        Factor of the geometric steps, 0.995 say. "auto" with adaptive steps adds columns to the
        factors, up to `n_components`, as long as the residuals hold more of them than random signs
        would; so a bound on the rank that is far too high lets no noise in. With the other steps
        "auto" is as slow as it takes three equal singular values to grow out of the start.
    max_iter : int or None, default=None
        Limit of the iterations. None is 2000, or for the absolute loss as many as the step sizes
        take to get negligible, for all descents together.
    tol : float, default=1e-8
        Squared loss: stop when the gradient of the matrix is below `tol` times that at zero, or
        the residual falls by less than ``sqrt(tol)`` of itself in 20 iterations and no further
        product of two vectors would explain most of it. Absolute loss:
        stop when the low quantile of the residuals is below `tol` of the targets' scale.
    precompute : {"auto"} or bool, default="auto"
        Whether the squared loss works with the Gram matrix of the samples instead of the samples.
        "auto" when it is smaller and pays.
    early_stopping : bool, default=False
        Whether a part of the samples is set aside, and the iteration that predicts them best is
        kept. Useful with noise and a surplus of the rank.
    validation_fraction : float, default=0.1
        The part that is set aside.
    n_iter_no_change : int, default=100
        Iterations without better prediction of the part set aside, after which to stop.
    random_state : int, RandomState instance or None, default=None
        Start of the squared loss, choice of the part set aside, random signs that the rank is
        compared with.
    verbose : int, default=0
        1 shows the progress.

    Attributes
    ----------
    matrix_ : ndarray of shape (n_rows, n_columns)
        The matrix M.
    coef_ : ndarray of shape (n_features_in_,)
        The same, flat.
    intercept_ : float
        Constant term; 0 without `fit_intercept`.
    factors_ : tuple of ndarray of shape (n_rows, k) and (n_columns, k)
        Factors F and G; ``matrix_`` is ``F @ G.T``, or its symmetric part when ``symmetric_`` and
        they differ.
    singular_values_ : ndarray of shape (min(n_rows, n_columns),)
        Singular values of ``matrix_``.
    rank_ : int
        Number of singular values above 1e-3 of the largest and above twice what noise alone gives,
        which is found from the residuals with random signs. Of the matrix in the units of the fit.
    symmetric_ : bool
        Whether the matrix was taken as symmetric.
    outlier_mask_ : ndarray of shape (n_samples,)
        Samples whose residual is more than 3.5 robust standard deviations from the median; only
        with ``loss="absolute"``.
    scale_ : float
        Robust estimate of the size of the targets per unit sample entry, to which the descent is
        relative.
    loss_curve_ : ndarray of shape (n_iter_,)
        Squared loss: norm of the residual relative to that of y; absolute loss: mean absolute
        residual. Both on the samples that were used.
    n_iter_ : int
        Number of iterations.
    switch_iter_ : int or None
        Iteration at which the factors were re-scaled first; None when they were not.
    n_features_in_ : int
        Number of entries of a sample, ``n_rows * n_columns``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns of a flat `X`, only when it has names.

    See Also
    --------
    sklearn.linear_model.Ridge : Without low rank; needs more samples than entries.
    sklearn.linear_model.HuberRegressor : The same for outliers.

    Notes
    -----
    An iteration reads the samples once: ``2 * n_samples * n_rows * n_columns`` multiply-adds; with
    the Gram matrix ``(n_rows * n_columns)^2 / 2`` entries. There is a theory for samples with
    independent entries of equal variance. Where entries differ in size like units of the rows and
    columns of the matrix do, they are brought to one size inside. Samples that are far from it in
    other ways (covariances, say) should be whitened, and centred or fitted with an intercept; a
    warning says so where their mean is large, or their sizes are unlike. Samples with a single
    entry that is not zero are the completion of a matrix, for which this is the wrong class.

    References
    ----------
    .. [1] N. Xiong, L. Ding, S. S. Du, "How over-parameterization slows down gradient descent in
       matrix sensing: the curses of symmetry and initialization", ICLR, 2024. arXiv:2310.01769
    .. [2] J. Ma, S. Fattahi, "Global convergence of sub-gradient method for robust matrix
       recovery: small initialization, noisy measurements, and over-parameterization", Journal of
       Machine Learning Research 24, 2023. arXiv:2202.08788

    Examples
    --------
    >>> from sklr.datasets import make_matrix_sensing
    >>> from sklr.decomposition import MatrixSensingRegressor
    >>> X, y, M = make_matrix_sensing(300, shape=(20, 20), rank=2, random_state=0)
    >>> model = MatrixSensingRegressor(5, random_state=0).fit(X, y)
    >>> model.rank_
    2
    >>> bool(abs(model.matrix_ - M).max() < 1e-6)
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "loss": [StrOptions({"squared", "absolute"})],
        "solver": [StrOptions({"accelerated", "gd"})],
        "symmetric": [StrOptions({"auto"}), "boolean"],
        "shape": [tuple, list, None],
        "fit_intercept": ["boolean"],
        "init_scale": [Interval(Real, 1e-8, None, closed="left"), None],
        "step": [StrOptions({"adaptive", "geometric", "loss"})],
        "step_size": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "decay": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "precompute": [StrOptions({"auto"}), "boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        loss="squared",
        solver="accelerated",
        symmetric="auto",
        shape=None,
        fit_intercept=False,
        init_scale=None,
        step="adaptive",
        step_size="auto",
        decay="auto",
        max_iter=None,
        tol=1e-8,
        precompute="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=100,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.loss = loss
        self.solver = solver
        self.symmetric = symmetric
        self.shape = shape
        self.fit_intercept = fit_intercept
        self.init_scale = init_scale
        self.step = step
        self.step_size = step_size
        self.decay = decay
        self.max_iter = max_iter
        self.tol = tol
        self.precompute = precompute
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the matrix.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_rows, n_columns) or (n_samples, n_features), or \
sparse of shape (n_samples, n_features)
            The measurement matrices, as they are or flattened in C order.
        y : array-like of shape (n_samples,)
            The measured values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the loss.

        Returns
        -------
        self : MatrixSensingRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            Bad samples, targets or weights, a shape that does not fit, `symmetric` for a matrix
            that is not square, or samples that are zero everywhere.

        Warns
        -----
        ConvergenceWarning
            The iterations ended too early, never left the start, or `n_components` is too small.
        UserWarning
            The samples are entries of a matrix, flat without a shape, of a large mean, or of sizes
            that no units explain; `n_components` is larger than the matrix; or a constant would
            explain most of what is left of y.
        """
        X, y, shape = self._check(X, y)
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            used = sample_weight > 0
            if used.sum() < 2:
                raise ValueError(
                    "sample_weight leaves fewer than two samples (a regressor, without any class "
                    f"of samples): {int(used.sum())} of {len(used)} weights are positive."
                )
        else:
            used = np.ones(X.shape[0], dtype=bool)
        if shape[0] > 1 and shape[1] > 1 and samples_entries(X):
            warn_user(
                "Every sample has a single entry that is not zero: this is the completion of a "
                "matrix, for which descent on linear measurements has no guarantee. Use "
                "LowRankImputer or MatrixFactorizationRegressor of sklr.decomposition.",
            )
        k = self._resolve_components(shape)
        symmetric = self.symmetric
        if symmetric == "auto":
            symmetric = shape[0] == shape[1] and shape[0] > 1 and is_symmetric(X, shape[0])
        elif symmetric and shape[0] != shape[1]:
            raise ValueError(
                f"symmetric=True needs square matrices, got shape {shape}. Use symmetric=False."
            )
        X, units = in_units(X, shape, bool(symmetric), self.fit_intercept, sample_weight)
        rng = check_random_state(self.random_state)
        validation = None
        train = np.flatnonzero(used)
        if self.early_stopping:
            train, held = self._split(train, rng)
            validation = (X[held], y[held], None if sample_weight is None else sample_weight[held])
        everything = len(train) == X.shape[0]
        weights = None if sample_weight is None else sample_weight[train]
        A, b = (X, y) if everything else (X[train], y[train])
        operator = SensingOperator(
            A,
            shape,
            weights,
            symmetric=bool(symmetric),
            centre=self.fit_intercept,
        )
        if operator.scale == 0:
            raise ValueError(
                "X is zero everywhere"
                + (" once its mean is taken off" if self.fit_intercept else "")
                + ": nothing is measured."
            )
        if self.loss == "squared":
            result = fit_squared(self, operator, b, k, rng, validation)
        else:
            result = fit_absolute(self, operator, b, k, rng, validation)
        self._store(result, units, X, y, sample_weight, operator, b, rng)
        return self

    def predict(self, X):
        """Predict the measured values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_rows, n_columns) or (n_samples, n_features), or \
sparse of shape (n_samples, n_features)
            Measurement matrices.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Inner products of the samples with ``matrix_``, plus ``intercept_``.
        """
        check_is_fitted(self)
        X, given = flatten(self, X)
        if given is not None and given != self.matrix_.shape:
            raise ValueError(
                f"X has samples of shape {given}, but MatrixSensingRegressor is expecting "
                f"{self.matrix_.shape}."
            )
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32])
        return X @ self.coef_.astype(X.dtype, copy=False) + X.dtype.type(self.intercept_)

    # Input -----------------------------------------------------------------------------------

    def _check(self, X, y):
        X, given = flatten(self, X)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            y_numeric=True,
            ensure_min_samples=2,
        )
        if sparse.issparse(X):
            X = sparse.csr_array(X)
        shape = self._resolve_shape(X.shape[1], given)
        return X, y.astype(np.float64, copy=False), shape

    def _resolve_shape(self, p, given):
        if self.shape is not None:
            shape = tuple(self.shape)
            if len(shape) != 2 or not all(isinstance(n, Integral) and n > 0 for n in shape):
                raise ValueError(f"shape must be two positive integers, got {self.shape!r}.")
            shape = (int(shape[0]), int(shape[1]))
            if shape[0] * shape[1] != p or (given is not None and given != shape):
                found = f"shape {given}" if given is not None else f"{p} entries"
                raise ValueError(
                    f"shape={shape} was given, of {shape[0] * shape[1]} entries, but the samples "
                    f"of X have {found}."
                )
            return shape
        if given is not None:
            return given
        root = round(p**0.5)
        if root * root == p:
            return (root, root)
        if p > 3:
            warn_user(
                f"X is flat with {p} columns, which is not a square number: it is taken as one "
                "row, an ordinary linear model. Give shape=(n_rows, n_columns).",
            )
        return (1, p)

    def _resolve_components(self, shape):
        full = min(shape)
        if self.n_components is None:
            return min(full, 10) if self.loss == "squared" else full
        if self.n_components > full:
            warn_user(
                f"n_components={self.n_components} is larger than the smaller side of the matrix, "
                f"{full}: it is cut to that.",
            )
        return min(full, self.n_components)

    def _split(self, samples, rng):
        n_held = max(1, round(self.validation_fraction * len(samples)))
        if len(samples) - n_held < 2:
            raise ValueError(
                f"early_stopping=True with validation_fraction={self.validation_fraction} leaves "
                f"{len(samples) - n_held} of {len(samples)} samples to fit, at least 2 are needed."
            )
        order = rng.permutation(samples)
        return np.sort(order[n_held:]), np.sort(order[:n_held])

    # Results ---------------------------------------------------------------------------------

    def _store(self, result, units, X, y, weights, operator, y_used, rng):
        F, G, shift = result["F"], result["G"], result["shift"]
        M = F @ G.T
        if operator.symmetric:
            M = (M + M.T) / 2
        error = y_used - shift - operator.measure(M) * operator.scale
        singular_values = np.linalg.svd(M, compute_uv=False)
        noise = self._noise_level(error, operator, F.shape[1], rng)
        largest = singular_values[0]
        rank = int((singular_values > max(_RANK_TOL * largest, _NOISE * noise)).sum())
        if self.loss == "squared" and rank == F.shape[1] < min(M.shape):
            left = np.linalg.norm(operator.adjoint(error), 2) / operator.scale
            if left > max(_NOISE * noise, 0.01 * largest):
                warn_user(
                    f"n_components={F.shape[1]} looks too small: what is left of y has a singular "
                    f"value of about {left:.3g}, where noise alone gives {noise:.3g}; the largest "
                    f"of the matrix is {largest:.3g}.",
                    ConvergenceWarning,
                )
        if operator.mean is not None:
            shift -= float(operator.mean @ operator.vector(M))
        residual = y - (X @ M.ravel().astype(X.dtype) + X.dtype.type(shift))
        if self.loss == "squared" and not self.fit_intercept:
            self._tell_constant(residual, y, weights)
        if units is not None:
            F, G = F / units[0][:, None], G / units[1][:, None]
            M = M / np.multiply.outer(*units)
            singular_values = np.linalg.svd(M, compute_uv=False)
        dtype = X.dtype
        self.matrix_ = M.astype(dtype, copy=False)
        self.coef_ = self.matrix_.ravel()
        self.intercept_ = float(shift)
        self.factors_ = (F.astype(dtype, copy=False), G.astype(dtype, copy=False))
        self.singular_values_ = singular_values.astype(dtype, copy=False)
        self.rank_ = rank
        self.symmetric_ = operator.symmetric
        self.scale_ = float(result.get("size", 0.0))
        self.loss_curve_ = np.asarray(result["curve"])
        self.n_iter_ = result["n_iter"]
        self.switch_iter_ = result.get("switch")
        if self.loss == "absolute":
            self.outlier_mask_ = outliers(residual, self.scale_ * operator.scale)

    def _tell_constant(self, error, y, weights):
        """Warn where a constant would explain most of what the fit leaves of y."""
        mean = np.average(error, weights=weights)
        left, size = np.average(error**2, weights=weights), np.average(y**2, weights=weights)
        if len(y) >= _MANY and mean**2 > 0.5 * left and left > 1e-4 * size:
            warn_user(
                f"A constant explains {mean**2 / left:.0%} of what the fit leaves of y (mean "
                f"{mean:.3g}, root mean square {np.sqrt(left):.3g}): set fit_intercept=True, or "
                "subtract the mean of y.",
            )

    def _noise_level(self, error, operator, k, rng):
        """Spectral norm of the matrix that errors of these sizes and random signs give."""
        if self.loss == "absolute":
            limit = OUTLIER * robust_deviation(error)
            error = np.clip(error, -limit, limit)
            shrunk = 1.0
        else:
            # A fit of d parameters leaves sqrt(1 - d / m) of the noise.
            free = k * (sum(operator.shape) - k) / (2 if operator.symmetric else 1)
            shrunk = np.sqrt(max(0.1, 1 - free / len(error)))
        signs = rng.choice(np.array([-1, 1], dtype=error.dtype), size=len(error))
        return float(np.linalg.norm(operator.adjoint(signs * error), 2) / operator.scale / shrunk)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        return tags
