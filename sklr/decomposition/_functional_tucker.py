"""Functional Bayesian Tucker regression: smooth latent functions of each coordinate."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._functional_tucker_fit import (
    CoordinateAscent,
    Mode,
    chunks,
    factored,
    gaps_of,
    posterior,
    products,
    rate_of,
    with_average,
)
from sklr.decomposition._gross_values import range_of_most
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

# Larger cores take longer to invert than any data to be read, and a matrix of their square.
# Predictions that vary less than this share of y are a mean, on as many samples at most.
_VANISHED, _LOOKED_AT = 1e-3, 2000
_MAX_CORE = 4000
# Functions of each column by default, and the most columns of so many; with more columns, how many
# functions, of how many columns.
_RANK, _MOST_COLUMNS = 3, 7
_LESS_RANK, _KEPT_COLUMNS = 2, 5
# Coordinates closer than this share of the range are one.
_DIGITS = 12
# Sweeps after which starts are compared, and how many of them go on.
_RACE = 12
_FINALISTS = 2
# With a mean above so many standard deviations "auto" does not try y as it is, and no fit takes it.
_LARGE_MEAN, _MOST_MEAN = 1e3, 1e6


class FunctionalTuckerRegressor(RegressorMixin, BaseEstimator):
    r"""Regression on continuous coordinates with a low-rank Bayesian model.

    The target is a small Tucker core times smooth latent functions of each coordinate,
    :math:`y = \sum_{r_1 \dots r_K} W_{r_1 \dots r_K} \prod_k u^k_{r_k}(x_k) + \epsilon`.
    The functions have Matern Gaussian-process priors in state-space form, so that a sweep over
    all unknowns takes time linear in the number of samples and of distinct coordinates.

    Parameters
    ----------
    rank : int, sequence of int or "auto", default="auto"
        Latent functions of every coordinate, or of each. "auto" takes three for up to seven
        columns. With more, whose core would be too large, it takes two for the five columns that
        explain most of y by themselves, leaves out the others, and gives a warning.
    core : {"tucker", "cp"}, default="tucker"
        A full core with a normal prior, or the fixed diagonal one (functions multiply rank by
        rank).
    nu : {0.5, 1.5, 2.5}, default=1.5
        Smoothness of the functions; 0.5 is rough, for signals that jump about.
    length_scale : float, sequence of float or "auto", default="auto"
        Length scales of the functions as shares of each coordinate's range; "auto" maximises
        the evidence bound over them during the fit.
    length_scale_init : float, default=0.25
        Length scale of the functions that fits start from, and first value of "auto". Long ones
        keep starts away from poor solutions.
    variance : float, default=1.0
        Prior variance of the functions; scales of core and functions can stand in for each
        other.
    noise_prior : pair of float, default=(1.0, 0.01)
        Shape and rate of the Gamma prior of the noise precision (of standardised targets). A
        rate of one, as in the paper, makes the noise of 1500 samples come out a fifth too large.
    max_iter : int, default=200
        Largest number of sweeps.
    tol : float, default=1e-4
        Sweeps end when the evidence bound gains less than `tol` of itself or, if that is larger,
        `tol` for each sample.
    n_init : int, default=3
        Random starts. They are compared after a dozen sweeps; two go on, and the larger bound is
        kept.
    center : bool or "auto", default="auto"
        Whether the mean of y is taken off before, or left to the functions; "auto" starts both
        ways and keeps the larger bound.
    categorical_features : array-like of int, bool or str, default=None
        Columns whose values are categories: positions, a mask, or names. Their functions are
        independent from value to value. The values are numbers; strings are encoded before, by
        :class:`~sklearn.preprocessing.OrdinalEncoder`.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.
    verbose : int, default=0
        Whether progress is shown.

    Attributes
    ----------
    core_ : ndarray of shape (rank_1, .., rank_K)
        Posterior mean of the core.
    core_covariance_ : ndarray of shape (size of core_, size of core_)
        Its covariance.
    coordinates_ : list of ndarray of shape (n_k,)
        Distinct coordinates of each column, sorted.
    factors_ : list of ndarray of shape (n_k, rank_k)
        Posterior means of the functions there.
    factor_covariances_ : list of ndarray of shape (n_k, rank_k, rank_k)
        Their covariances.
    rank_ : tuple of int
        Ranks: at most the distinct values of a column.
    noise_precision_ : float
        Posterior mean of the noise precision, for targets divided by `y_std_`.
    noise_variance_ : float
        Variance of the noise, in units of y squared.
    length_scale_ : ndarray of shape (n_features_in_,)
        Length scales as shares of the range; 0 for categories.
    lower_bound_ : float
        Evidence bound reached, of targets divided by `y_std_`.
    lower_bounds_ : ndarray of shape (n_iter_,)
        Bound by sweep; it does not fall.
    n_iter_ : int
        Sweeps of the start that was kept.
    x_min_ : ndarray of shape (n_features_in_,)
        Smallest coordinates.
    x_scale_ : ndarray of shape (n_features_in_,)
        Ranges, one for a constant column.
    y_mean_ : float
        What is taken off y: its mean, or zero.
    y_std_ : float
        Standard deviation of y, one for a constant.
    start_bounds_ : ndarray of shape (n_starts,)
        Bounds of all starts when they were compared: their spread says how much seeds matter.
    n_features_in_ : int
        Number of coordinates.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when all are strings.

    See Also
    --------
    LatentFunctionsDisplay : Plots the functions with their bands.
    sklearn.gaussian_process.GaussianProcessRegressor : Exact, any function, and cubic in the
        number of samples: better for a few hundred samples in two or three dimensions.
    sklearn.ensemble.RandomForestRegressor : Needs no low rank.

    Notes
    -----
    A sweep takes :math:`O(n K \prod_k r_k^2 + \sum_k n_k (r_k p)^3)` for n samples, n_k distinct
    coordinates and p = nu + 1/2: linear in the data, and steep in rank and number of columns.

    A missing coordinate (NaN) counts as any of those that the samples of `fit` have, in their
    shares; in `fit`, samples with missing coordinates have a noise level of their own. A
    category that `fit` has not seen has the functions' prior: the prediction falls back towards
    the mean, and its standard deviation grows.

    Standard deviations are those of a new, noisy observation. They come from a variational
    posterior, in which coordinates are independent of each other given the data; it is somewhat
    narrower than the true one.

    References
    ----------
    .. [1] S. Fang, X. Yu, Z. Wang, S. Li, R. M. Kirby, S. Zhe, "Functional Bayesian Tucker
       decomposition for continuous-indexed tensor data", ICLR 2024.
       https://arxiv.org/abs/2311.04829

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import FunctionalTuckerRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(size=(300, 3))
    >>> y = np.sin(6 * X[:, 0]) * X[:, 1] + 0.05 * rng.standard_normal(300)
    >>> model = FunctionalTuckerRegressor(rank=2, n_init=1, center=True, random_state=0)
    >>> mean, std = model.fit(X, y).predict(X[:2], return_std=True)
    >>> bool(model.score(X, y) > 0.98), mean.shape, std.shape
    (True, (2,), (2,))
    """

    _parameter_constraints: dict = {
        "rank": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), "array-like"],
        "core": [StrOptions({"tucker", "cp"})],
        "nu": [Options(Real, {0.5, 1.5, 2.5})],
        "length_scale": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
            "array-like",
        ],
        "length_scale_init": [Interval(Real, 0, None, closed="neither")],
        "variance": [Interval(Real, 0, None, closed="neither")],
        "noise_prior": ["array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "center": ["boolean", StrOptions({"auto"})],
        "categorical_features": ["array-like", None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        rank="auto",
        *,
        core="tucker",
        nu=1.5,
        length_scale="auto",
        length_scale_init=0.25,
        variance=1.0,
        noise_prior=(1.0, 0.01),
        max_iter=200,
        tol=1e-4,
        n_init=3,
        center="auto",
        categorical_features=None,
        random_state=None,
        verbose=0,
    ):
        self.rank = rank
        self.core = core
        self.nu = nu
        self.length_scale = length_scale
        self.length_scale_init = length_scale_init
        self.variance = variance
        self.noise_prior = noise_prior
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.center = center
        self.categorical_features = categorical_features
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit core, functions and noise.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Coordinates; NaN where one is missing.
        y : array-like of shape (n_samples,)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Multiplies the noise precision of each sample.

        Returns
        -------
        self : FunctionalTuckerRegressor
            The fitted model.

        Raises
        ------
        ValueError
            Fewer than two samples, a core of too many entries, a column that is all NaN, or
            parameters that do not fit the number of columns.
        """
        try:
            X, y = validate_data(
                self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", y_numeric=True,
                ensure_min_samples=2,
            )  # fmt: skip
        except ValueError as exc:
            if "string" in str(exc):
                exc.add_note(
                    "Coordinates and categories are numbers: encode strings with sklearn's "
                    "OrdinalEncoder, and name their columns in categorical_features."
                )
            raise
        if np.isinf(X).any():
            raise ValueError("Input X contains infinity.")
        y = y.astype(np.float64)
        weights = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        self._check_parameters(X.shape[1])
        self._left_out = None
        self._set_scales(X, y, weights)
        self._left_out = self._columns_left_out(X, y, weights)
        modes, rows = self._make_modes(X)
        missing = np.isnan(X[:, ~self._left_out]).any(axis=1)
        groups = [np.flatnonzero(~missing), np.flatnonzero(missing)]
        groups = [members for members in groups if len(members)]
        rng = np.random.default_rng(
            check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        )
        with single_blas_thread():
            best, centred, starts, converged = self._race(modes, rows, y, weights, groups, rng)
        if not converged:
            gain = best.bounds[-1] - best.bounds[-2] if len(best.bounds) > 1 else np.inf
            warn_user(
                f"No convergence in max_iter={self.max_iter} sweeps: the last one raised the "
                f"evidence bound {best.bounds[-1]:.6g} by {gain:.3g}, more than tol={self.tol:g} "
                f"of it and of a sample (of {len(y)}). Raise max_iter.",
                ConvergenceWarning,
            )
        self._keep(best, centred, starts)
        self._warn_if_vanished(X, y, weights)
        return self

    def _warn_if_vanished(self, X, y, weights):
        """Warn where no function is left of y, and the mean is what is predicted."""
        some = slice(None, None, max(1, len(X) // _LOOKED_AT))
        fitted = self._predict(X[some])
        left = float(np.std(fitted)) / self.y_std_
        if left < _VANISHED and np.ptp(y) > 1e-12 * np.abs(y).max():
            warn_user(
                f"the core has vanished: predictions have a standard deviation of {left:.2g} of "
                f"that of y, so that the mean is what is predicted (best of {self.n_init} starts, "
                f"evidence bound {self.lower_bound_:.6g}). Either X says nothing of y, or rank="
                f"{tuple(int(r) for r in self.rank_)} is too large for {len(y)} samples, or more "
                "starts are needed: try a lower rank, core='cp', fewer columns, or a larger "
                "n_init.",
                ConvergenceWarning,
            )

    def predict(self, X, return_std=False):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Coordinates, seen or not; NaN where one is unknown.
        return_std : bool, default=False
            Whether standard deviations of new observations are returned too.

        Returns
        -------
        mean : ndarray of shape (n_samples,)
            Posterior means.
        std : ndarray of shape (n_samples,)
            Standard deviations, noise included; only with ``return_std=True``.
        """
        return self._predict(self._checked(X), return_std)

    def _predict(self, X, return_std=False):
        rows, tables = self._tables(X)
        mean, square = np.empty(len(X)), np.empty(len(X))
        last = len(rows) - 1
        W = self.core_.reshape(-1, self.rank_[last])
        A = self._second_core.reshape(-1, self._second_core.shape[-1])
        firsts, seconds = zip(*tables, strict=True)
        for part in chunks(len(X), len(A) if return_std else len(W)):
            index = [row[part] for row in rows]
            left = products(firsts[:last], index[:last]) if last else np.ones((len(index[0]), 1))
            mean[part] = ((left @ W) * firsts[last][index[last]]).sum(axis=1)
            if return_std:
                if last:
                    left = products(seconds[:last], index[:last])
                square[part] = ((left @ A) * seconds[last][index[last]]).sum(axis=1)
        if not return_std:
            return self.y_mean_ + self.y_std_ * mean
        variance = np.maximum(square - mean**2, 0.0) + 1.0 / self.noise_precision_
        return self.y_mean_ + self.y_std_ * mean, self.y_std_ * np.sqrt(variance)

    def latent_functions(self, mode, grid=None, return_std=False):
        """Return the latent functions of one column.

        Parameters
        ----------
        mode : int
            The column.
        grid : array-like of shape (n_points,), default=None
            Coordinates, in the column's own units; by default those of `fit`.
        return_std : bool, default=False
            Whether standard deviations are returned too.

        Returns
        -------
        mean : ndarray of shape (n_points, rank_k)
            Posterior means. Their scale and mixture are a matter of the core's.
        std : ndarray of shape (n_points, rank_k)
            Standard deviations; only with ``return_std=True``.
        """
        check_is_fitted(self)
        if isinstance(mode, bool) or not isinstance(mode, Integral):
            raise TypeError(f"mode must be an integer, got {mode!r}.")
        if not -self.n_features_in_ <= mode < self.n_features_in_:
            raise ValueError(
                f"mode must be a column from 0 to {self.n_features_in_ - 1}, got {mode}."
            )
        mode = mode % self.n_features_in_
        grid = self.coordinates_[mode] if grid is None else np.asarray(grid, dtype=np.float64)
        if grid.ndim != 1 or not np.isfinite(grid).all():
            raise ValueError("grid must be finite numbers of shape (n_points,).")
        unique, inverse = np.unique(self._scaled(grid, mode), return_inverse=True)
        M, V = self._at(mode, unique)
        if not return_std:
            return M[inverse]
        return M[inverse], np.sqrt(np.diagonal(V, axis1=1, axis2=2))[inverse]

    def sample_y(self, X, n_samples=1, random_state=0):
        """Draw observations from the posterior, jointly over all rows.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Coordinates without missing ones.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=0
            Seed.

        Returns
        -------
        y_samples : ndarray of shape (n_points, n_samples)
            Draws, noise included.
        """
        X = self._checked(X)
        if np.isnan(X).any():
            raise ValueError("sample_y takes no missing coordinates: X contains NaN.")
        if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples must be an integer >= 1, got {n_samples!r}.")
        rng = np.random.default_rng(
            check_random_state(random_state).randint(np.iinfo(np.int32).max)
        )
        root = np.linalg.cholesky(self.core_covariance_ + 1e-12 * np.eye(self.core_.size)) * (
            self.core == "tucker"
        )
        unions = [self._union(k, np.unique(self._scaled(X[:, k], k))) for k in range(X.shape[1])]
        out = np.empty((len(X), n_samples))
        noise = self.y_std_ / np.sqrt(self.noise_precision_)
        for j in range(n_samples):
            W = (self.core_.ravel() + root @ rng.standard_normal(self.core_.size)).reshape(
                self.core_.shape
            )
            value = np.ones((len(X), 1))
            for k, (mode, lam, eta) in enumerate(unions):
                path = self._draw_path(k, mode, lam, eta, rng)
                u = path[np.searchsorted(mode.coordinates, self._scaled(X[:, k], k))]
                value = (value[:, :, None] * u[:, None]).reshape(len(X), -1)
            f = value @ W.ravel()
            out[:, j] = self.y_mean_ + self.y_std_ * f + noise * rng.standard_normal(len(X))
        return out

    def _draw_path(self, k, mode, lam, eta, rng):
        """Draw a mode's functions: a draw of the prior, moved by perturbed messages."""
        from sklr.decomposition._functional_tucker_kernels import draw_prior

        n, rank = eta.shape
        prior = np.empty((n, rank))
        scale = self._scale_of(k)
        normals = rng.standard_normal((n, rank, mode.size // rank))
        draw_prior(mode.gaps, rate_of(mode.nu, scale), mode.variance, normals, prior)
        values, vectors = np.linalg.eigh(lam)
        jitter = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        moved = eta - np.einsum("nrs,ns->nr", lam, prior)
        moved += np.einsum("nrs,ns->nr", jitter, rng.standard_normal((n, rank)))
        return prior + posterior(mode, scale, factored(lam, moved))[0]

    def _check_parameters(self, n_features):
        ranks = np.asarray(_RANK if isinstance(self.rank, str) else self.rank)
        if ranks.ndim > 0 and (
            ranks.shape != (n_features,) or ranks.dtype.kind not in "iu" or ranks.min() < 1
        ):
            raise ValueError(
                f"rank must be an integer >= 1 or one for each of n_features={n_features} "
                f"columns, got {self.rank!r}."
            )
        if self.core == "cp" and len(set(np.atleast_1d(ranks).tolist())) > 1:
            raise ValueError(
                f"core='cp' multiplies the functions rank by rank: rank must be the same for all "
                f"columns, got {self.rank!r}."
            )
        if not isinstance(self.length_scale, str) and np.ndim(self.length_scale) > 0:
            scales = np.asarray(self.length_scale, dtype=float)
            if scales.shape != (n_features,) or not (scales > 0).all():
                raise ValueError(
                    f"length_scale must be 'auto', a number > 0 or one for each of "
                    f"n_features={n_features} columns, got {self.length_scale!r}."
                )
        prior = np.asarray(self.noise_prior)
        if prior.shape != (2,) or prior.dtype.kind not in "iuf" or not (prior > 0).all():
            raise ValueError(
                f"noise_prior must be two numbers > 0, shape and rate, got {self.noise_prior!r}."
            )

    def _categorical_mask(self, n_features):
        chosen = self.categorical_features
        mask = np.zeros(n_features, dtype=bool)
        if chosen is None:
            return mask
        chosen = np.asarray(chosen)
        if chosen.dtype.kind == "b" and chosen.shape == (n_features,):
            return chosen.copy()
        if chosen.dtype.kind in "OU":
            names = list(getattr(self, "feature_names_in_", ()))
            unknown = [name for name in chosen if name not in names]
            if unknown:
                raise ValueError(f"categorical_features names {unknown}, columns are {names}.")
            chosen = np.array([names.index(name) for name in chosen], dtype=int)
        fits = chosen.dtype.kind in "iu" and chosen.ndim == 1
        if not fits or ((chosen < 0) | (chosen >= n_features)).any():
            if chosen.size:
                raise ValueError(
                    f"categorical_features must be positions below n_features={n_features}, a "
                    f"mask of as many, or names, got {self.categorical_features!r}."
                )
        mask[chosen.astype(int)] = True
        return mask

    def _set_scales(self, X, y, weights):
        empty = np.flatnonzero(np.isnan(X).all(axis=0))
        if len(empty):
            raise ValueError(f"Input X contains NaN only in column(s) {empty.tolist()}.")
        self._is_category = self._categorical_mask(X.shape[1])
        self.x_min_, largest = range_of_most(
            X,
            np.ones(len(X)) if weights is None else weights,
            getattr(self, "feature_names_in_", list(range(X.shape[1]))),
            "length scales are shares of the range of the others.",
            np.flatnonzero(~self._is_category),
        )
        span = largest - self.x_min_
        self.x_scale_ = np.where((span > 0) & ~self._is_category, span, 1.0)
        self.x_min_[self._is_category] = 0.0
        self._mean = float(np.average(y, weights=weights))
        rest = y - self._mean
        largest = max(float(np.abs(rest).max()), np.finfo(float).tiny)  # squares stay in range
        std = largest * float(np.sqrt(np.average((rest / largest) ** 2, weights=weights)))
        if std > 1e150:
            raise ValueError(f"y has a standard deviation of {std:.2g}: divide y, its variance is "
                             "no number.")  # fmt: skip
        self.y_std_ = std if std > 1e-14 * abs(self._mean) else 1.0

    def _ranks(self, n_features):
        """Return the ranks wanted of the columns."""
        if not isinstance(self.rank, str):
            return np.broadcast_to(self.rank, n_features)
        return np.full(n_features, _LESS_RANK if self._left_out.any() else _RANK)

    def _columns_left_out(self, X, y, weights):
        """Return columns that the default of `rank` leaves out: those that explain least of y."""
        out = np.zeros(X.shape[1], dtype=bool)
        varied = np.array([len(np.unique(x[~np.isnan(x)])) > 1 for x in X.T])
        if not isinstance(self.rank, str) or self.core == "cp" or varied.sum() <= _MOST_COLUMNS:
            return out
        roots = np.ones(len(y)) if weights is None else np.sqrt(weights)
        rest = roots * (y - self._mean) / self.y_std_
        gains = np.full(X.shape[1], -np.inf)
        for k in np.flatnonzero(varied):
            known = ~np.isnan(X[:, k])
            x, target = self._scaled(X[known, k], k), rest[known]
            if self._is_category[k]:
                basis = (x[:, None] == np.unique(x)).astype(float)
            else:
                basis = np.vander(2.0 * x - 1.0, 4)
            Q, _ = np.linalg.qr(roots[known, None] * basis)
            # Columns of noise gain as much as they have coefficients.
            gains[k] = float(((Q.T @ target) ** 2).sum()) - basis.shape[1]
        out[np.argsort(-gains, kind="stable")[_KEPT_COLUMNS:]] = True
        out &= varied
        names = getattr(self, "feature_names_in_", np.arange(X.shape[1]))
        warn_user(
            f"a core of rank {_RANK} for all {varied.sum()} columns would be too large: rank="
            f"{_LESS_RANK} is taken for columns {names[varied & ~out].tolist()}, which explain "
            f"most of y by themselves, and {names[out].tolist()} are left out. Choose columns, or "
            "give rank."
        )
        return out

    def _scaled(self, values, k):
        if getattr(self, "_left_out", None) is not None and self._left_out[k]:
            return np.zeros_like(values)
        if self._is_category[k]:
            return values
        # + 0.0 makes -0.0 equal to 0.0 bit for bit
        return np.round((values - self.x_min_[k]) / self.x_scale_[k], _DIGITS) + 0.0

    def _make_modes(self, X):
        ranks = self._ranks(X.shape[1])
        modes, rows, clipped = [], [], []
        distinct = []
        for k in range(X.shape[1]):
            known = ~np.isnan(X[:, k])
            coordinates, inverse, counts = np.unique(
                self._scaled(X[known, k], k), return_inverse=True, return_counts=True
            )
            distinct.append((coordinates, counts / counts.sum()))
            row = np.full(len(X), len(coordinates), dtype=np.int64)
            row[known] = inverse
            rows.append(row)
            if ranks[k] > len(coordinates) > 1 and not isinstance(self.rank, str):
                clipped.append(f"{ranks[k]} to {len(coordinates)} in column {k}")
        ranks = [min(int(rank), len(c)) for rank, (c, _) in zip(ranks, distinct, strict=True)]
        if self.core == "cp":
            ranks = [min(ranks)] * len(ranks) if min(ranks) > 1 else [1] * len(ranks)
        if clipped:
            warn_user(
                f"rank is above the number of distinct values, lowered: {'; '.join(clipped)}.",
            )
        if np.prod([float(rank) for rank in ranks]) > _MAX_CORE:
            raise ValueError(
                f"A core of rank {tuple(ranks)} has {np.prod([float(r) for r in ranks]):.0f} "
                f"entries, more than {_MAX_CORE}: lower rank."
            )
        for k, ((coordinates, share), rank) in enumerate(zip(distinct, ranks, strict=True)):
            modes.append(
                Mode(coordinates, share, rank, self.nu, self.variance, bool(self._is_category[k]))
            )
        return modes, rows

    def _race(self, modes, rows, y, weights, groups, rng):
        """Run all starts for some sweeps and the best of them to the end."""
        auto = isinstance(self.length_scale, str)
        scales = np.broadcast_to(self.length_scale_init if auto else self.length_scale, len(modes))
        starts = []
        for _ in range(self.n_init):
            factors = [self._first_functions(mode, rng) for mode in modes]
            core = rng.standard_normal([mode.rank for mode in modes])
            for centred in self._centrings():
                target = (y - self._mean * centred) / self.y_std_
                ascent = CoordinateAscent(
                    modes, rows, target, weights, groups, core=self.core,
                    noise_prior=np.asarray(self.noise_prior, dtype=float), scales=scales,
                    learn=auto,
                )  # fmt: skip
                ascent.start(factors, core)
                starts.append((ascent, centred))
        first = min(_RACE, self.max_iter)
        shown = progress(starts, total=len(starts), description="starts", verbose=self.verbose)
        converged = {id(ascent): ascent.run(first, self.tol) for ascent, _ in shown}
        bounds = np.array([ascent.bounds[-1] for ascent, _ in starts])
        finalists = [starts[i] for i in np.argsort(-bounds, kind="stable")[:_FINALISTS]]
        shown = progress(
            finalists, total=len(finalists), description="finalists", verbose=self.verbose
        )
        for ascent, _ in shown:
            left = self.max_iter - len(ascent.bounds)
            if not converged[id(ascent)] and left > 0:
                converged[id(ascent)] = ascent.run(left, self.tol)
        best, centred = max(finalists, key=lambda found: found[0].bounds[-1])
        return best, centred, bounds, converged[id(best)]

    def _centrings(self):
        """Return which targets are tried: centred, as they are, or both."""
        if self.center != "auto":
            if not self.center and abs(self._mean) > _MOST_MEAN * self.y_std_:
                raise ValueError(
                    f"y has a mean of {self._mean:.6g} and a standard deviation of "
                    f"{self.y_std_:.3g}: with center=False digits are lost. Use center=True or "
                    "'auto'."
                )
            return [bool(self.center)]
        return [True, False] if abs(self._mean) <= _LARGE_MEAN * self.y_std_ else [True]

    def _first_functions(self, mode, rng):
        """Draw smooth functions that do not depend on which coordinates there are."""
        if mode.discrete:
            return rng.standard_normal((len(mode.coordinates), mode.rank))
        # Random Fourier features of a Matern 3/2 process: frequencies are Student's t.
        n_features = 64
        frequencies = rng.standard_t(3.0, (n_features, mode.rank)) / self.length_scale_init
        phases = rng.uniform(0.0, 2.0 * np.pi, (n_features, mode.rank))
        waves = np.cos(mode.coordinates[:, None, None] * frequencies + phases)
        return np.sqrt(2.0 / n_features) * waves.sum(axis=1)

    def _keep(self, best, centred, starts):
        self.rank_ = best.shape
        self.core_ = best.w.reshape(best.shape)
        self.core_covariance_ = best.S
        self._second_core = best.second_core()
        self._modes, self._messages = best.modes, best.messages
        self.coordinates_ = [
            self.x_min_[k] + self.x_scale_[k] * mode.coordinates
            for k, mode in enumerate(best.modes)
        ]
        self.factors_, self.factor_covariances_ = best.M, best.V
        self.noise_precision_ = float(best.precision()[0])
        self.noise_variance_ = self.y_std_**2 / self.noise_precision_
        self.length_scale_ = np.where(self._is_category, 0.0, best.scales)
        self.lower_bounds_ = np.array(best.bounds)
        self.lower_bound_ = best.bounds[-1]
        self.n_iter_ = len(best.bounds)
        self.y_mean_ = self._mean if centred else 0.0
        self.start_bounds_ = starts

    def _checked(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        if np.isinf(X).any():
            raise ValueError("Input X contains infinity.")
        return X

    def _scale_of(self, k):
        return 1.0 if self._is_category[k] else self.length_scale_[k]

    def _union(self, k, new):
        """Return a mode with new coordinates among the old ones, and its messages."""
        mode, (lam, eta) = self._modes[k], self._messages[k]
        union = np.union1d(mode.coordinates, new)
        place = np.searchsorted(union, mode.coordinates)
        all_lam = np.zeros((len(union), mode.rank, mode.rank))
        all_eta = np.zeros((len(union), mode.rank))
        all_lam[place], all_eta[place] = lam, eta
        share = np.zeros(len(union))
        share[place] = mode.share
        wide = Mode(union, share, mode.rank, mode.nu, mode.variance, mode.discrete)
        wide.gaps = gaps_of(union, mode.discrete)
        return wide, all_lam, all_eta

    def _at(self, k, unique):
        """Return means and covariances of a mode's functions at sorted distinct coordinates."""
        wide, lam, eta = self._union(k, unique)
        with single_blas_thread():
            M, V, _ = posterior(wide, self._scale_of(k), factored(lam, eta))
        place = np.searchsorted(wide.coordinates, unique)
        return M[place], V[place]

    def _tables(self, X):
        """Return for each column the row of each sample, and means and second moments by row."""
        rows, tables = [], []
        for k, mode in enumerate(self._modes):
            known = ~np.isnan(X[:, k])
            unique, inverse = np.unique(self._scaled(X[known, k], k), return_inverse=True)
            if mode.discrete:
                unseen = np.setdiff1d(unique, mode.coordinates)
                if len(unseen):
                    warn_user(
                        f"{len(unseen)} categories of column {k} were not seen in fit, such as "
                        f"{unseen[:3].tolist()}: they have the prior's functions.",
                    )
            row = np.full(len(X), len(unique), dtype=np.int64)
            row[known] = inverse
            rows.append(row)
            M, V = self._at(k, unique)
            first, second = with_average(mode, self.factors_[k], self.factor_covariances_[k])
            r, s = np.tril_indices(mode.rank)
            tables.append(
                (
                    np.vstack([M, first[-1:]]),
                    np.vstack([V[:, r, s] + M[:, r] * M[:, s], second[-1:]]),
                )
            )
        return rows, tables

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        # Ten additive columns are no product of few functions, and more ranks than one make a
        # core of ten modes too large.
        tags.regressor_tags.poor_score = True
        return tags
