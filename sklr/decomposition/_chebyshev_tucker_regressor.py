"""Regression of scattered samples in the Chebyshev-Tucker format."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from sklr.decomposition._chebyshev_tucker import EXTRAPOLATE, ChebyshevTucker, check_box, outside
from sklr.decomposition._chebyshev_tucker_als import descend
from sklr.decomposition._chebyshev_tucker_build import to_unit
from sklr.decomposition._chebyshev_tucker_choice import (
    LARGEST_RIDGE,
    Candidate,
    HeldOut,
    bound_ranks,
    choose,
    is_plenty,
)
from sklr.decomposition._chebyshev_tucker_prior import DEGREE_PENALTIES, choose_ridge
from sklr.decomposition._gross_values import range_of_most
from sklr.utils._base import BaseEstimator, fit_context
from sklr.utils._progress import progress
from sklr.utils._threads import single_blas_thread
from sklr.utils._validation import check_sample_weight, validate_data
from sklr.utils._warnings import warn_user

# Share of a column's range that the box reaches beyond the samples.
_MARGIN = 0.01
# Entries of the largest core: the time of a sweep grows with its square. And of one that "auto"
# takes where ranks above two are to be had.
_MAX_CORE, _AUTO_CORE = 5000, 729
# A mean above so many standard deviations is always taken off: digits would be lost.
_LARGE_MEAN = 1e3
# Under a larger ridge nothing is exact, and a constant more in the format makes no difference.
_SMALL_RIDGE = 1e-4
# Most columns of rank two.
_MOST_COLUMNS = 12
# Fewest rows that some are held out of.
_FEWEST_ROWS = 4
# A fit that leaves so many times what the same choice left on held-out rows has stalled, and starts
# again so many times. Smaller residuals than the last are as good as none.
_STALLED, _RESTARTS, _SMALL_RESIDUAL = 2.0, 3, 1e-6


def _standardised(target, weights):
    """Return a target of mean zero and size one, its mean and its size."""
    # Squares of the largest and smallest numbers would overflow, or be zero.
    largest = np.abs(target).max()
    largest = largest if largest > 0 else 1.0
    target = target / largest
    mean = float(np.average(target, weights=weights))
    rest = target - mean
    size = float(np.sqrt(np.average(rest**2, weights=weights)))
    if size <= 1e-14 * abs(mean) or size == 0.0:
        return np.zeros(len(target)), mean * largest, largest
    return rest / size, mean * largest, size * largest


class ChebyshevTuckerRegressor(RegressorMixin, BaseEstimator):
    r"""Regression with a few Chebyshev series of each column and a small core.

    The model of :class:`ChebyshevTucker`, fitted to scattered samples by alternating least squares
    with a ridge on high degrees. For smooth functions of a few columns whose effects multiply, it
    reaches errors that trees and polynomials of a total degree do not come near. The strength of
    the ridge follows from the evidence of the data: noisy tables are smoothed, exact ones are not.

    Parameters
    ----------
    degree : int or sequence of int, default=9
        Number of Chebyshev coefficients (polynomials of degree below it), for all columns or each.
    rank : int, sequence of int or "auto", default="auto"
        Functions of each column; at most `degree`. The core has as many entries as their product.
        "auto" takes as many as make a core of 729 entries (9, 9, 5, 3, 3 for two to six columns),
        two for seven to twelve columns, or fewer, where these have smaller errors on rows that were
        held out (see Notes). With more columns it takes two for the twelve that explain
        most of y by themselves, leaves out the others, and gives a warning.
    alpha : float or "auto", default="auto"
        Ridge: `alpha` times the squared coefficients of the whole function is added to the sum of
        squared residuals, for targets of standard deviation one. "auto" takes the value under
        which the data are most likely: the ridge is a Gaussian prior, and functions of any rank
        have their evidence in closed form (up to 800 samples are looked at). With ``rank="auto"``
        held-out rows may choose another value.
    degree_penalty : float or "auto", default="auto"
        How many times as much a degree weighs in the ridge as the degree below it. "auto" chooses
        1.6, 3, 6, 16 or 64 together with `alpha`, and is 1.6 where `alpha` is given.
    center : bool or "auto", default="auto"
        Whether the mean of y is taken off. This adds a term of rank one: cos(2 sum x) in four
        columns is of rank 2, and minus a constant is not. "auto" also tries without where the
        ridge is small, the rank is limited and the mean is at most a thousand standard deviations,
        and keeps the better fit.
    bounds : array-like of shape (n_features, 2), default=None
        The box; by default the range of the samples and one percent on each side. Values farther
        away than twenty times the range of the middle 90 % of a column do not stretch it: they are
        taken for values at its sides, with a warning.
    max_iter : int, default=50
        Largest number of sweeps at the final degrees; at most ten are made at those on the way.
    tol : float, default=1e-9
        Sweeps end when the residual (relative to y) changes by less than `tol`, or by less than
        1e-4 of itself.
    n_init : int, default=1
        Random starts; the best fit is kept.
    extrapolate : {"error", "clip", "nan", "polynomial"}, default="clip"
        What is done with rows outside the box: "clip" takes the nearest point of the box, and says
        how many there are.
    random_state : int, RandomState instance or None, default=None
        Seed of the starts.
    verbose : int, default=0
        Whether progress over starts and targets is shown.

    Attributes
    ----------
    function_ : ChebyshevTucker or list of ChebyshevTucker
        The fitted function; one for each target when y has columns.
    core_ : ndarray of shape (rank_1, .., rank_d), or list of them
        Core of the function without its intercept.
    factors_ : list of ndarray of shape (degree_k, rank_k), or list of such lists
        Chebyshev coefficients of the functions of each column, orthonormal.
    rank_ : tuple of int
        Ranks: 1 for constant columns, and never above what the other columns' ranks allow. With
        several targets the largest of them.
    degree_ : tuple of int
        Numbers of coefficients; 1 for constant columns.
    intercept_ : float or ndarray of shape (n_targets,)
        Mean that was taken off, or zero; `function_` has it as its ``offset_``.
    alpha_ : float or ndarray of shape (n_targets,)
        The ridge.
    degree_penalty_ : float or ndarray of shape (n_targets,)
        Weight of a degree over that of the degree below.
    bounds_ : ndarray of shape (n_features_in_, 2)
        The box.
    n_iter_ : int
        Sweeps, over all degrees; the largest number when y has columns.
    loss_curve_ : ndarray of shape (n_sweeps,), or list of them
        Residual relative to y, weighted norms, after each sweep and each change of degree.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when all are strings.

    See Also
    --------
    ChebyshevTucker : The same format for functions that can be called.
    FunctionalTuckerRegressor : Gaussian-process functions in the same place, with error bars: for
        noisy data and functions that are not analytic.
    sklearn.preprocessing.PolynomialFeatures : All products up to a total degree.

    Notes
    -----
    A sweep takes :math:`O(n d (m r)^2 + n r^{2 d})`. Fits start with three coefficients, then 5, 9
    and so on: a random start at the full degree is less reliable.

    Where the rank of each column equals its degree, the fit is one linear system.

    ``rank="auto"`` compares the largest ranks and the evidence's ridge with smaller ranks and other
    ridges by five folds (one of five from a thousand rows). It leaves them only for errors smaller
    by more than a standard error, and takes the smallest ranks within a standard error of the
    least. Under small ridges, cores of more than 729 entries and half the rows are taken only where
    the target is close to linear. Where no choice is better than the mean on held-out rows, the fit
    is all but the mean, with a warning. With five rows for each unknown of a noisy target nothing
    is compared.

    References
    ----------
    .. [1] P. Benner, B. N. Khoromskij, V. Khoromskaia, B. Sun, "A mesh-free hybrid Chebyshev-Tucker
       tensor format with applications to multi-particle modelling", 2025.
       https://arxiv.org/abs/2503.01696

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import ChebyshevTuckerRegressor
    >>> X = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    >>> y = np.cos(X.sum(axis=1))
    >>> model = ChebyshevTuckerRegressor(degree=9, rank=2, random_state=0).fit(X, y)
    >>> bool(1 - model.score(X, y) < 1e-10)
    True
    """

    _parameter_constraints: dict = {
        "degree": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "rank": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), "array-like"],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "degree_penalty": [StrOptions({"auto"}), Interval(Real, 1, None, closed="left")],
        "center": [StrOptions({"auto"}), "boolean"],
        "bounds": ["array-like", None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "extrapolate": [StrOptions(set(EXTRAPOLATE))],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        degree=9,
        rank="auto",
        *,
        alpha="auto",
        degree_penalty="auto",
        center="auto",
        bounds=None,
        max_iter=50,
        tol=1e-9,
        n_init=1,
        extrapolate="clip",
        random_state=None,
        verbose=0,
    ):
        self.degree = degree
        self.rank = rank
        self.alpha = alpha
        self.degree_penalty = degree_penalty
        self.center = center
        self.bounds = bounds
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.extrapolate = extrapolate
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit core and functions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; each column is fitted by itself.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the squared residuals. Only their ratios matter for ``alpha="auto"``.

        Returns
        -------
        self : ChebyshevTuckerRegressor
            The fitted model.

        Raises
        ------
        ValueError
            Degrees, ranks or bounds that do not fit the columns, samples outside given bounds, or a
            core of more than 5000 entries.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        y = y.astype(np.float64)
        if sample_weight is not None:
            weights = check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        else:
            weights = np.ones(len(X))
        box, constant = self._box(X, weights)
        if self.bounds is None:  # gross errors are brought to the side of the box
            X = np.clip(X, *box.T)
        points = to_unit(X, box)
        targets = y[:, None] if y.ndim == 1 else y
        scaled = [_standardised(target, weights) for target in targets.T]
        self._n_targets = targets.shape[1]
        degrees, ranks = self._sizes(constant, points, scaled, weights)
        roots = None if sample_weight is None else np.sqrt(weights)
        rng = check_random_state(self.random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=self.n_init)
        jobs = [(t, seed) for t in range(targets.shape[1]) for seed in seeds]
        best = [None] * targets.shape[1]
        shown = progress(jobs, total=len(jobs), description="fits", verbose=self.verbose)
        with single_blas_thread():
            ridges = [self._ridge(points, target, weights, degrees) for target, _, _ in scaled]
            chosen = [
                self._choice(t, points, scaled[t], weights, degrees, ranks, ridges[t])
                for t in range(targets.shape[1])
            ]
            for t, seed in shown:
                target, mean, scale = scaled[t]
                candidates, expected = chosen[t]
                for candidate in candidates:
                    for more in range(1 + _RESTARTS):
                        run, settled = descend(
                            points, target + candidate.shift, roots, degrees, candidate.ranks,
                            candidate.alpha, ridges[t][1], self.max_iter, self.tol,
                            np.random.default_rng(seed + more),
                        )  # fmt: skip
                        if best[t] is None or run.objective() < best[t][0].objective():
                            best[t] = run, settled, scale, 0.0 if candidate.shift else mean
                        left = best[t][0].losses[-1]
                        if left <= max(_STALLED * expected, _SMALL_RESIDUAL):
                            break
            ridges = [
                (candidates[0].alpha, penalty)
                for (candidates, _), (_, penalty) in zip(chosen, ridges, strict=True)
            ]
        self._keep(best, ridges, box, y.ndim)
        unsettled = [run for run, settled, *_ in best if not settled]
        if unsettled:
            run = max(unsettled, key=lambda run: run.last_change())
            warn_user(
                f"the fit has not settled in max_iter={self.max_iter} sweeps: the last one changed "
                f"the relative residual {run.losses[-1]:.3g} by {run.last_change():.2g}. Raise "
                "max_iter, alpha or tol, or lower rank.",
                ConvergenceWarning,
            )
        return self

    def predict(self, X):
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Values of the function.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        _, rows = outside(X, self.bounds_, self.extrapolate)
        if self.extrapolate == "clip" and rows.any():
            i = int(np.flatnonzero(rows)[0])
            warn_user(
                f"{rows.sum()} of {len(X)} rows are outside the box of the fit and get the value "
                f"at its nearest point, the first is row {i}. Give bounds, or another extrapolate."
            )
        if isinstance(self.function_, list):
            return np.column_stack([function.predict(X) for function in self.function_])
        return self.function_.predict(X)

    def to_tucker(self, *axes, orthogonal=True):
        """Return predictions on a grid as a Tucker decomposition.

        Parameters
        ----------
        *axes : array-like of shape (n_k,)
            Coordinates, one array for each column.
        orthogonal : bool, default=True
            Whether the factors have orthonormal columns.

        Returns
        -------
        core : ndarray of shape (r_1, .., r_d)
            The core; a list of pairs of core and factors is returned when y has columns.
        factors : list of ndarray of shape (n_k, r_k)
            The factors.
        """
        check_is_fitted(self)
        return self._each(lambda f: f.to_tucker(*axes, orthogonal=orthogonal))

    def derivative(self, axis):
        """Return the partial derivative of the fitted function.

        Parameters
        ----------
        axis : int
            The column.

        Returns
        -------
        derivative : ChebyshevTucker
            A function on the same box; a list of them when y has columns.
        """
        check_is_fitted(self)
        return self._each(lambda f: f.derivative(axis))

    def _each(self, call):
        if isinstance(self.function_, list):
            return [call(function) for function in self.function_]
        return call(self.function_)

    def _box(self, X, weights):
        """Return the box, and which columns are constant."""
        if self.bounds is not None:
            box = check_box(self.bounds)
            if len(box) != X.shape[1]:
                raise ValueError(f"bounds has {len(box)} rows, X has {X.shape[1]} features.")
            outside(X, box, "error")
            return box, np.zeros(X.shape[1], dtype=bool)
        names = getattr(self, "feature_names_in_", list(range(X.shape[1])))
        low, high = range_of_most(
            X,
            weights,
            names,
            "the box, which would be all but empty, ends where the others do, and these are taken "
            "for values at its sides. Give bounds if that is wrong.",
        )
        span = high - low
        # A range that rounding could have made counts as zero.
        constant = span <= 1e-13 * np.maximum(np.abs(low), np.abs(high))
        margin = np.where(constant, np.maximum(1.0, np.abs(low)), _MARGIN * span)
        return np.column_stack([low - margin, high + margin]), constant

    def _ridge(self, points, target, weights, degrees):
        """Return the ridge and the penalty of degrees for a target of mean zero."""
        penalties = DEGREE_PENALTIES
        if not isinstance(self.degree_penalty, str):
            penalties = (float(self.degree_penalty),)
        if not isinstance(self.alpha, str):
            return float(self.alpha), penalties[0]
        if not target.any():
            return 1e-8, penalties[0]
        return choose_ridge(points, target, weights, degrees, penalties)

    def _choice(self, t, points, scaled, weights, degrees, ranks, ridge):
        """Return what is fitted to a target, and the relative residual to be expected.

        With ``rank="auto"`` the choice is that of held-out rows, unless there are plenty for a
        noisy target.
        """
        target, mean, scale = scaled
        alpha, degree_penalty = ridge

        def shifts(alpha, ranks):
            return self._shifts(mean, scale, alpha, degrees, ranks)

        given = [Candidate(tuple(ranks), alpha, shift) for shift in shifts(alpha, ranks)]
        if not isinstance(self.rank, str) or not target.any():
            return given, np.inf
        plenty = is_plenty(len(target), degrees, ranks)
        if plenty and alpha > _SMALL_RIDGE:
            return given, np.inf
        held = HeldOut(points, target, weights, degrees, degree_penalty, self.tol)
        if len(held.y) < _FEWEST_ROWS or not held.folds:
            return given, np.inf
        search_ridge = isinstance(self.alpha, str) and not plenty
        best, error, worse = choose(held, ranks, alpha, shifts, search_ridge)
        if worse:
            of_mean = float(np.sqrt(held.mean(held.of_mean())))
            which = f" of target {t}" if self._n_targets > 1 else ""
            warn_user(
                f"no choice of ranks and ridge explains y{which} better than its mean on rows that "
                f"were held out: errors of {error * scale:.3g} beside {of_mean * scale:.3g}, with "
                f"{len(target)} rows for {len(degrees)} columns. The ridge is set to "
                f"{LARGEST_RIDGE:g}, which gives all but the mean. Take more rows or fewer "
                "columns, or give rank and alpha."
            )
            best = Candidate(best.ranks, LARGEST_RIDGE * max(1.0, float(weights.mean())))
        return [best], error

    def _shifts(self, mean, scale, alpha, degrees, ranks):
        """Return what to add to the centred target: nothing, and its mean where that is tried."""
        shift = mean / scale
        if not isinstance(self.center, str):
            return [0.0] if self.center or shift == 0.0 else [shift]
        exact = alpha <= _SMALL_RIDGE and tuple(ranks) != tuple(degrees)
        return [0.0, shift] if exact and 0.0 < abs(shift) <= _LARGE_MEAN else [0.0]

    def _sizes(self, constant, points, scaled, weights):
        """Return degrees and ranks of the columns."""
        d = len(constant)
        sizes = []
        for name in ("degree", "rank"):
            given = np.asarray(getattr(self, name))
            if name == "rank" and isinstance(self.rank, str):
                sizes.append(self._auto_ranks(sizes[0], constant))
                continue
            if given.dtype.kind not in "iu" or given.shape not in ((), (d,)) or given.min() < 1:
                raise ValueError(
                    f"{name} must be an integer >= 1 or one for each of n_features={d} columns, "
                    f"got {getattr(self, name)!r}."
                )
            sizes.append([int(s) for s in np.broadcast_to(given, d)])
        degrees, ranks = sizes
        for k, (m, r) in enumerate(zip(degrees, ranks, strict=True)):
            if r > m:
                raise ValueError(
                    f"rank must be at most degree: column {k} has rank {r}, degree {m}."
                )
        if isinstance(self.rank, str) and (~constant).sum() > _MOST_COLUMNS:
            constant = constant | self._left_out(constant, points, scaled, weights)
        degrees = [1 if c else m for c, m in zip(constant, degrees, strict=True)]
        ranks = [1 if c else r for c, r in zip(constant, ranks, strict=True)]
        # More functions than products of the other columns' functions are never independent.
        ranks = list(bound_ranks(ranks))
        if np.prod(ranks, dtype=float) > _MAX_CORE:
            raise ValueError(
                f"rank={self.rank!r} makes a core of {np.prod(ranks, dtype=float):.0f} entries for "
                f"n_features={d}, more than {_MAX_CORE}: lower rank, or give 1 to columns that do "
                "not interact."
            )
        return degrees, ranks

    def _auto_ranks(self, degrees, constant):
        """Return the largest equal ranks, up to the degrees, of a core that is not large."""
        d = max(1, min(int((~constant).sum()), _MOST_COLUMNS))
        rank = max(2, int(_AUTO_CORE ** (1.0 / d) + 1e-9))
        return [min(rank, m) for m in degrees]

    def _left_out(self, constant, points, scaled, weights):
        """Return columns beyond those that explain most of y by a cubic of their own."""
        gains = np.zeros(len(constant))
        roots = np.sqrt(weights)[:, None]
        for k in np.flatnonzero(~constant):
            Q, _ = np.linalg.qr(roots * np.vander(points[:, k], 4))
            gains[k] = sum(
                float(((Q.T @ (roots[:, 0] * target)) ** 2).sum()) for target, *_ in scaled
            )
        out = np.zeros(len(constant), dtype=bool)
        out[np.argsort(-gains, kind="stable")[_MOST_COLUMNS:]] = True
        out &= ~constant
        names = getattr(self, "feature_names_in_", np.arange(len(constant)))[out].tolist()
        warn_user(
            f"a core for all {(~constant).sum()} columns would be too large: {out.sum()} of them "
            f"are left out, which explain least of y by themselves: {names}. Choose columns, or "
            "give rank."
        )
        return out

    def _keep(self, best, ridges, box, n_dim):
        functions = []
        for run, _, scale, mean in best:
            function = ChebyshevTucker(extrapolate=self.extrapolate)
            function._keep(run.core * scale, run.V, box, offset=mean)
            functions.append(function)
        curves = [np.array(run.losses) for run, *_ in best]
        single = n_dim == 1
        self.function_ = functions[0] if single else functions
        self.core_ = functions[0].core_ if single else [f.core_ for f in functions]
        self.factors_ = functions[0].factors_ if single else [f.factors_ for f in functions]
        self.rank_ = tuple(max(sizes) for sizes in zip(*(f.rank_ for f in functions), strict=True))
        self.degree_ = functions[0].degree_
        means = np.array([mean for *_, mean in best])
        alphas, penalties = np.array(ridges).T
        self.intercept_ = float(means[0]) if single else means
        self.alpha_ = float(alphas[0]) if single else alphas
        self.degree_penalty_ = float(penalties[0]) if single else penalties
        self.bounds_ = box
        self.loss_curve_ = curves[0] if single else curves
        self.n_iter_ = max(len(curve) for curve in curves)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # Ten additive columns are no product of few functions.
        tags.regressor_tags.poor_score = True
        return tags
