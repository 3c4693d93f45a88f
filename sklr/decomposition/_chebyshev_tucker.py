"""Functions on a box as a small Tucker core times Chebyshev series of each coordinate."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from scipy.interpolate import CubicSpline
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from sklr.decomposition._chebyshev import (
    cheb_points,
    cheb_values_to_coefficients,
    differentiate,
    integrals,
    series,
    tail,
)
from sklr.decomposition._chebyshev_tucker_algebra import (
    direct_sum,
    product_format,
    smallest_value,
)
from sklr.decomposition._chebyshev_tucker_build import (
    FIRST_DEGREE,
    MAX_NODES,
    N_CHECKS,
    Built,
    Sampler,
    build_cross,
    build_full,
    evaluate_unit,
    next_degree,
    random_points,
    to_unit,
    trim,
)
from sklr.decomposition._chebyshev_tucker_inputs import (
    are_chebyshev,
    call_terms,
    check_grid_axes,
    degrees_up_to,
    line,
    resolve,
    trim_factors,
)
from sklr.decomposition._tucker import (
    MAX_CORE,
    check_products,
    check_ranks,
    check_tol,
    hosvd,
    mode_product,
    multiply,
    orthonormalize,
    rhosvd,
)
from sklr.utils._progress import progress
from sklr.utils._warnings import warn_user

EXTRAPOLATE = ("error", "clip", "nan", "polynomial")
# Dimensions up to which the whole grid is tried first.
_FULL_DIMENSIONS = 3
# Points may be outside by this share of the box: rounding of whoever made them.
_SLACK = 1e-12


def check_box(bounds):
    """Return bounds (d, 2), or raise an error that names the bad side of the box."""
    try:
        box = np.asarray(bounds, dtype=np.float64)
    except (TypeError, ValueError):
        box = np.empty(0)
    if box.ndim != 2 or box.shape[1] != 2 or len(box) == 0:
        raise ValueError(
            f"bounds must be one pair (a, b) for each coordinate, shape (d, 2), got {bounds!r}."
        )
    for k, (low, high) in enumerate(box.tolist()):
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"bounds[{k}] must be finite numbers a < b, got ({low}, {high}).")
    return box


def outside(X, box, mode):
    """Return points with what `mode` wants done about those outside, and which ones those are.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Points.
    box : ndarray of shape (d, 2)
        The box.
    mode : {"error", "clip", "nan", "polynomial"}
        What is done.

    Returns
    -------
    X : ndarray of shape (n, d)
        Points, clipped where that is asked for.
    rows : ndarray of shape (n,)
        Which points were outside.
    """
    low, high = box.T
    slack = _SLACK * (high - low)
    wrong = (X < low - slack) | (X > high + slack)
    rows = wrong.any(axis=1)
    if mode == "error" and rows.any():
        i, k = np.argwhere(wrong)[0]
        raise ValueError(
            f"{rows.sum()} of {len(X)} points are outside the box: X[{i}, {k}] = {X[i, k]:.6g} is "
            f"not in [{low[k]:.6g}, {high[k]:.6g}]. extrapolate may be 'clip' (value at the "
            "nearest point), 'nan' or 'polynomial' (grows fast)."
        )
    return (X if mode == "polynomial" else np.clip(X, low, high)), rows


class ChebyshevTucker:
    r"""A function on a box, compressed: Chebyshev series of each coordinate times a small core.

    .. math:: f(x) \approx \sum_{i_1 \dots i_d} G_{i_1 \dots i_d} \prod_k v^k_{i_k}(x_k), \qquad
        v^k_i(x) = \sum_{j < m_k} V^k_{ji} T_j(x)

    from a callable, a sum of products or values on a grid, with degrees and ranks found for a
    tolerance. The result is evaluated anywhere, differentiated and integrated exactly, added and
    cut. It is no scikit-learn estimator, as there are no samples to fit; for those there is
    :class:`ChebyshevTuckerRegressor`.

    Parameters
    ----------
    degree : int, sequence of int or "auto", default="auto"
        Number of Chebyshev coefficients m (polynomials of degree below m), for all coordinates or
        each. "auto" doubles 17 until the last coefficients are below the tolerance, and drops
        those that are small.
    rank : int, sequence of int or None, default=None
        Largest ranks; by default the tolerance decides alone.
    tol : float, default=1e-8
        Tolerance, as a share of the function's size: Frobenius norm of the coefficients for ranks,
        largest coefficient for degrees.
    method : {"auto", "full", "cross"}, default="auto"
        Values on the whole grid, or on lines through it (functional cross approximation); "auto"
        takes the grid up to three coordinates as long as it has at most 2e7 points.
    hooi_iter : int, default=0
        Sweeps of alternating least squares after the decomposition of the grid.
    max_degree : int, default=257
        Largest number of coefficients that "auto" tries.
    extrapolate : {"error", "clip", "nan", "polynomial"}, default="error"
        What is done at points outside the box: refuse them, take the nearest point of the box, NaN,
        or the polynomial, which grows fast.
    dtype : dtype, default=numpy.float64
        In what core and factors are kept: float64 or float32. Values are computed in float64.
    verbose : int, default=0
        Whether progress of the cross approximation is shown.

    Attributes
    ----------
    core_ : ndarray of shape (rank_1, .., rank_d)
        The core G.
    factors_ : list of ndarray of shape (degree_k, rank_k)
        Coefficients V of the functions of each coordinate, orthonormal columns.
    rank_ : tuple of int
        Ranks.
    degree_ : tuple of int
        Numbers of coefficients.
    bounds_ : ndarray of shape (d, 2)
        The box.
    offset_ : float
        Constant that is added to core and factors: the mean that a regressor took off, else zero.
    n_evaluations_ : int
        How many values of the function were asked for, with those to check it.
    error_estimate_ : float
        Largest error at a thousand random points, half of them denser near the sides (for
        a grid, at up to a thousand of its points), as a share of the largest value seen; NaN for
        functions made from others.

    See Also
    --------
    ChebyshevTuckerRegressor : The same format from scattered samples.
    scipy.interpolate.RegularGridInterpolator : Splines on a grid.
    numpy.polynomial.chebyshev.Chebyshev : One coordinate.

    Notes
    -----
    The grid costs m^d values, and 4 m^(d + 1) operations for its decomposition; the cross
    approximation some multiples of d m r values and r^d for the core. The core's r^d are the limit:
    r = 6 in six dimensions, or 10 in five, is what is comfortable. Functions of many coordinates
    with higher ranks are not for this format.

    A kink is resolved slowly (error 1/m to 1/m^2), a singularity not at all: split the box there,
    or compress the smooth part (:func:`newton_kernel_cp`).

    References
    ----------
    .. [1] P. Benner, B. N. Khoromskij, V. Khoromskaia, B. Sun, "A mesh-free hybrid Chebyshev-Tucker
       tensor format with applications to multi-particle modelling", 2025.
       https://arxiv.org/abs/2503.01696
    .. [2] S. Dolgov, D. Kressner, C. Stroessner, "Functional Tucker approximation using Chebyshev
       interpolation", SIAM J. Sci. Comput. 43(3), 2021. https://arxiv.org/abs/2007.16126

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.decomposition import ChebyshevTucker
    >>> f = ChebyshevTucker(tol=1e-10).fit_function(
    ...     lambda x, y, z: np.cos(x + y + z), bounds=[(0, 1), (0, 1), (0, 2)]
    ... )
    >>> f.rank_
    (2, 2, 2)
    >>> bool(abs(f([0.5, 0.5, 1.0]) - np.cos(2)) < 1e-9)
    True
    >>> bool(abs(f.derivative(0)([0.5, 0.5, 1.0]) + np.sin(2)) < 1e-8)
    True
    """

    _parameter_constraints: dict = {
        "degree": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), "array-like"],
        "rank": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "method": [StrOptions({"auto", "full", "cross"})],
        "hooi_iter": [Interval(Integral, 0, None, closed="left")],
        "max_degree": [Interval(Integral, 3, None, closed="left")],
        "extrapolate": [StrOptions(set(EXTRAPOLATE))],
        "dtype": "no_validation",
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        degree="auto",
        rank=None,
        *,
        tol=1e-8,
        method="auto",
        hooi_iter=0,
        max_degree=257,
        extrapolate="error",
        dtype=np.float64,
        verbose=0,
    ):
        if callable(degree):
            raise TypeError(
                "degree must be 'auto' or integers, got a callable: write "
                "ChebyshevTucker().fit_function(func, bounds)."
            )
        self.degree = degree
        self.rank = rank
        self.tol = tol
        self.method = method
        self.hooi_iter = hooi_iter
        self.max_degree = max_degree
        self.extrapolate = extrapolate
        self.dtype = dtype
        self.verbose = verbose

    # NumPy's numbers leave arithmetic with functions to the functions.
    __array_ufunc__ = None

    def __repr__(self):
        fitted = ""
        if hasattr(self, "core_"):
            box = " x ".join(f"[{a:g}, {b:g}]" for a, b in self.bounds_)
            fitted = f", on {box}: degree {self.degree_}, rank {self.rank_}"
        return f"{type(self).__name__}(tol={self.tol:g}{fitted})"

    def fit_function(self, func, bounds, vectorized=True):
        """Compress a callable.

        Parameters
        ----------
        func : callable
            ``func(x_1, .., x_d)`` takes d arrays of shape (n,) and returns as many values, or one
            number.
        bounds : array-like of shape (d, 2)
            The box: a pair (a, b) for each coordinate.
        vectorized : bool, default=True
            Whether `func` takes arrays; otherwise it gets d floats at a time.

        Returns
        -------
        self : ChebyshevTucker
            The compressed function.

        Raises
        ------
        ValueError
            A side of the box that is empty or not finite, a function that is not finite on the box
            (the point is named) or returns another shape, a grid of more than 2e7 points.

        Warns
        -----
        ConvergenceWarning
            When `max_degree` does not resolve the function to the tolerance, with the error that
            was reached.
        """
        box = check_box(bounds)
        tol, degrees, adaptive, ranks = self._settings(len(box))
        if not callable(func):
            raise TypeError(f"func must be callable, got {type(func).__name__}.")
        sampler = Sampler(func, box, vectorized)
        d = len(box)
        built = None
        if self.method == "full" or (self.method == "auto" and self._grid_fits(degrees, d)):
            self._check_grid(degrees)
            built = build_full(
                sampler, degrees, adaptive, tol, self.max_degree, ranks, self.hooi_iter
            )
            if built is None and self.method == "full":
                raise ValueError(
                    f"tol={tol:g} asks for a grid of more than {MAX_NODES} points. Give degree, "
                    "a larger tol, or method='cross'."
                )
        if built is None:
            shown = partial(progress, total=8, description="rounds", verbose=self.verbose)
            built = build_cross(sampler, degrees, adaptive, tol, self.max_degree, ranks, shown)
            if adaptive:
                built.core, built.factors = trim_factors(built.core, built.factors, tol)
        points = sampler.random(N_CHECKS, np.random.default_rng(1))
        truth = sampler(list(points.T))
        self._finish(built, box, points, truth, sampler.largest, adaptive, tol)
        self.n_evaluations_ = sampler.n_evaluations
        return self

    def fit_cp(self, weights, factors, bounds):
        """Compress a sum of products of functions of one coordinate, of any dimension.

        Parameters
        ----------
        weights : array-like of shape (R,)
            Weights of the terms.
        factors : list of array-like of shape (m_k, R), or of callables
            For each coordinate the functions of all terms: Chebyshev coefficients as columns, or a
            callable that takes points (n,) and returns values (n, R), or R callables that return
            (n,). A ``scipy.interpolate.CubicSpline`` of columns is such a callable.
        bounds : array-like of shape (d, 2)
            The box.

        Returns
        -------
        self : ChebyshevTucker
            The compressed function.
        """
        box = check_box(bounds)
        tol, degrees, adaptive, ranks = self._settings(len(box))
        if len(factors) != len(box):
            raise ValueError(
                f"bounds has {len(box)} rows and factors {len(factors)} entries: one for each "
                "coordinate is wanted."
            )
        weights = np.asarray(weights, dtype=np.float64)
        columns, calls, tails, n_evaluations = [], {}, {}, 0
        for k, (given, side) in enumerate(zip(factors, box, strict=True)):
            if callable(given) or (len(given) and all(callable(g) for g in given)):
                calls[k] = partial(call_terms, given, len(weights), k)
                cap = self.max_degree if adaptive else degrees[k]
                C, tails[k], n = resolve(calls[k], weights, side, degrees[k], cap, tol)
                columns.append(C)
                n_evaluations += n * len(weights)
            else:
                columns.append(given)
        weights, columns = check_products(weights, columns)
        sizes = [np.abs(C).max(axis=0) for C in columns]
        sizes = [size / max(size.max(), 1e-300) for size in sizes]
        for k in calls if adaptive else ():
            # How large a term is, its functions of the other coordinates say as well.
            whole = weights * np.prod(sizes[:k] + sizes[k + 1 :], axis=0)
            columns[k], tails[k], n = resolve(
                calls[k], whole, box[k], len(columns[k]), self.max_degree, tol, columns[k]
            )
            n_evaluations += n * len(weights)
        tails = list(tails.values())
        core, V = rhosvd(
            weights, columns, tol, ranks and [min(r, len(C)) for r, C in zip(ranks, columns)]
        )
        if adaptive:
            core, V = trim_factors(core, V, tol)
        n_checks = max(50, min(N_CHECKS, MAX_CORE // len(weights)))
        points = random_points(box, n_checks, np.random.default_rng(1))
        truth = np.zeros(len(points))
        for part in np.array_split(
            np.arange(len(points)), max(1, len(weights) * len(points) // 2_000_000)
        ):
            values = np.broadcast_to(weights, (len(part), len(weights)))
            for k, (given, C) in enumerate(zip(factors, columns, strict=True)):
                x = points[part, k]
                if C is given or not (callable(given) or callable(given[0])):
                    values = values * series(x, C, box[k])
                else:
                    values = values * call_terms(given, len(weights), k, x)
            truth[part] = values.sum(axis=1)
        self._finish(Built(core, V, tails), box, points, truth, np.abs(truth).max(), adaptive, tol)
        self.n_evaluations_ = n_evaluations
        return self

    def fit_grid(self, values, grid, bounds=None):
        """Compress values on a rectangular grid, through cubic splines along its axes.

        Values at Chebyshev points (:func:`cheb_points`) are taken as they are. On other grids the
        splines' error, fourth power of the spacing, is the limit of what can be reached.

        Parameters
        ----------
        values : array-like of shape (n_1, .., n_d)
            The values.
        grid : list of array-like of shape (n_k,)
            Coordinates of the axes, ascending or descending.
        bounds : array-like of shape (d, 2), default=None
            The box, by default that of the grid. Splines are continued, which is meant for half a
            cell.

        Returns
        -------
        self : ChebyshevTucker
            The compressed function.
        """
        values = np.asarray(values, dtype=np.float64)
        values, grid = check_grid_axes(values, grid)
        box = check_box([(x[0], x[-1]) for x in grid] if bounds is None else bounds)
        if len(box) != values.ndim:
            raise ValueError(f"bounds has {len(box)} rows, values {values.ndim} axes.")
        tol, degrees, adaptive, ranks = self._settings(len(box))
        C, tails = values, []
        for k, x in enumerate(grid):
            moved = np.moveaxis(C, k, 0)
            if len(x) == 1:
                coefficients = moved
            elif are_chebyshev(x, box[k]):
                coefficients = cheb_values_to_coefficients(moved)
                if not adaptive and degrees[k] > len(x):
                    more = np.zeros((degrees[k] - len(x), *moved.shape[1:]))
                    coefficients = np.concatenate([coefficients, more])
                elif not adaptive:
                    coefficients = coefficients[: degrees[k]]
            else:
                spline = CubicSpline(x, moved) if len(x) > 3 else line(x, moved)
                m, cap = degrees[k], degrees[k]
                if adaptive:  # more points than the grid has add nothing but the splines' kinks
                    cap = next(
                        c
                        for c in degrees_up_to(self.max_degree)
                        if c >= min(len(x), self.max_degree)
                    )
                while True:
                    coefficients = cheb_values_to_coefficients(spline(cheb_points(m, box[k])))
                    if m >= cap or tail(coefficients) < tol * np.abs(coefficients).max():
                        break
                    m = next_degree(m, cap)
            tails.append(tail(coefficients) / max(np.abs(coefficients).max(), 1e-300))
            C = np.moveaxis(coefficients, 0, k)
        C = trim(C, tol) if adaptive else np.ascontiguousarray(C)
        if ranks is not None:
            ranks = [min(r, m) for r, m in zip(ranks, C.shape, strict=True)]
        built = Built(*hosvd(C, tol, ranks, n_iter=self.hooi_iter), tails)
        rng = np.random.default_rng(1)
        chosen = rng.choice(values.size, min(N_CHECKS, values.size), replace=False)
        where = np.unravel_index(np.sort(chosen), values.shape)
        points = np.column_stack([x[i] for x, i in zip(grid, where, strict=True)])
        truth = values[where]
        inside = ((points >= box[:, 0]) & (points <= box[:, 1])).all(axis=1)
        largest = np.abs(values).max()
        self._finish(built, box, points[inside], truth[inside], largest, adaptive, tol)
        self.n_evaluations_ = values.size
        return self

    def __call__(self, X):
        """Evaluate at points.

        Parameters
        ----------
        X : array-like of shape (..., d) or tuple of d array-like
            Points; or their coordinates, arrays that broadcast against each other.

        Returns
        -------
        values : ndarray of shape (...)
            Values; a float for one point.
        """
        self._check_fitted()
        d = len(self.bounds_)
        if isinstance(X, tuple) and any(np.ndim(x) > 0 and hasattr(x, "dtype") for x in X):
            X = np.stack(np.broadcast_arrays(*X), axis=-1)
        X = np.asarray(X, dtype=np.float64)
        if X.ndim == 0 or X.shape[-1] != d:
            raise ValueError(
                f"X must be points of {d} coordinates, shape (..., {d}), got shape {X.shape}."
            )
        out = self.predict(X.reshape(-1, d)).reshape(X.shape[:-1])
        return out if X.ndim > 1 else float(out)

    def predict(self, X):
        """Evaluate at the rows of a table.

        Parameters
        ----------
        X : array-like of shape (n_points, d)
            Points.

        Returns
        -------
        values : ndarray of shape (n_points,)
            Values.
        """
        self._check_fitted()
        X = np.asarray(X, dtype=np.float64)
        d = len(self.bounds_)
        if X.ndim != 2 or X.shape[1] != d:
            raise ValueError(f"X must be of shape (n_points, {d}), got shape {X.shape}.")
        if not np.isfinite(X).all():
            i, k = np.argwhere(~np.isfinite(X))[0]
            raise ValueError(f"X must be finite, X[{i}, {k}] is {X[i, k]}.")
        X, rows = outside(X, self.bounds_, self.extrapolate)
        values = evaluate_unit(*self._format(offset=False), to_unit(X, self.bounds_))
        values += self.offset_
        if self.extrapolate == "nan":
            values[rows] = np.nan
        return values

    def to_grid(self, *axes):
        """Evaluate on a grid.

        Parameters
        ----------
        *axes : array-like of shape (n_k,)
            Coordinates, one array for each axis.

        Returns
        -------
        values : ndarray of shape (n_1, .., n_d)
            Values at all combinations.
        """
        core, factors = self._on_axes(axes, *self._format(offset=False))
        return multiply(core, factors) + self.offset_

    def to_tucker(self, *axes, orthogonal=True):
        """Return the array of values on a grid as a Tucker decomposition, without forming it.

        Parameters
        ----------
        *axes : array-like of shape (n_k,)
            Coordinates, one array for each axis.
        orthogonal : bool, default=True
            Whether the factors have orthonormal columns. The functions on the grid do not have
            them by themselves, although their coefficients do.

        Returns
        -------
        core : ndarray of shape (r_1, .., r_d)
            The core.
        factors : list of ndarray of shape (n_k, r_k)
            The factors.
        """
        core, factors = self._on_axes(axes, *self._format())
        if orthogonal:
            if any(np.isnan(F).any() for F in factors):
                raise ValueError(
                    "points outside the box are NaN (extrapolate='nan'), which no orthogonal "
                    "factors have: pass orthogonal=False, or axes inside the box."
                )
            core, factors = orthonormalize(core, factors)
        return core, factors

    def _on_axes(self, axes, core, V):
        """Return the core and the functions' values on axes."""
        if len(axes) != core.ndim:
            raise ValueError(f"give one array for each of {core.ndim} axes, got {len(axes)}.")
        factors = []
        for k, (x, coefficients) in enumerate(zip(axes, V, strict=True)):
            x = np.asarray(x, dtype=np.float64)
            if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
                raise ValueError(f"axis {k} must be finite numbers of shape (n,), got {x.shape}.")
            clipped, rows = outside(x[:, None], self.bounds_[k : k + 1], self.extrapolate)
            F = series(clipped[:, 0], coefficients, self.bounds_[k])
            if self.extrapolate == "nan":
                F[rows] = np.nan
            factors.append(F)
        return core, factors

    def derivative(self, axis):
        """Return the partial derivative, exactly that of the series.

        Parameters
        ----------
        axis : int
            The coordinate.

        Returns
        -------
        derivative : ChebyshevTucker
            Another function on the same box.
        """
        core, V = self._format(offset=False)
        k = self._check_axis(axis)
        V = [*V]
        V[k] = differentiate(V[k], self.bounds_[k])
        return self._like(*orthonormalize(core, V), self.bounds_)

    def integrate(self, axis=None):
        """Integrate over the box, exactly for the series.

        Parameters
        ----------
        axis : int, sequence of int or None, default=None
            The coordinates to integrate over, by default all.

        Returns
        -------
        integral : float or ChebyshevTucker
            A number, or the function of the other coordinates.
        """
        self._check_fitted()
        core, V = self._format()
        if axis is None:
            axis = range(core.ndim)
        gone = sorted({self._check_axis(a) for a in np.atleast_1d(axis)})
        for k in gone:
            core = mode_product(core, integrals(V[k], self.bounds_[k])[None], k)
        left = [k for k in range(len(V)) if k not in gone]
        if not left:
            return float(core.reshape(()))
        core = core.reshape([core.shape[k] for k in left])
        return self._like(*orthonormalize(core, [V[k] for k in left]), self.bounds_[left])

    def minimum(self, n_starts=20):
        """Return the smallest value that is found in the box, and where.

        The best points of a sample (half of them denser near the sides) and of the box's corners
        are starts of a bounded quasi-Newton method with the exact gradient. Of the maximum,
        ``-(-function).minimum()[0]``.

        Parameters
        ----------
        n_starts : int, default=20
            How many starts. A minimum in a basin that no start is in is missed.

        Returns
        -------
        value : float
            The smallest value.
        x : ndarray of shape (d,)
            Where it is.
        """
        self._check_fitted()
        if isinstance(n_starts, bool) or not isinstance(n_starts, Integral) or n_starts < 1:
            raise ValueError(f"n_starts must be an integer >= 1, got {n_starts!r}.")
        slopes = [self.derivative(k) for k in range(len(self.bounds_))]
        return smallest_value(self.predict, slopes, self.bounds_, n_starts)

    def round(self, tol=None):
        """Lower degrees and ranks as far as a tolerance allows.

        Parameters
        ----------
        tol : float, default=None
            Largest error, as a share of the Frobenius norm of the coefficients; by default that
            of the object.

        Returns
        -------
        function : ChebyshevTucker
            Another function on the same box.
        """
        self._check_fitted()
        tol = check_tol(self.tol if tol is None else tol)
        core, V = self._format()
        core, turns = hosvd(core, tol)
        V = [C @ W for C, W in zip(V, turns, strict=True)]
        return self._like(*trim_factors(core, V, tol), self.bounds_)

    def __add__(self, other):
        if isinstance(other, Real):
            if not np.isfinite(other):
                raise ValueError(f"a finite number can be added to a function, got {other}.")
            other = self._constant(float(other))
        if not isinstance(other, ChebyshevTucker):
            return NotImplemented
        self._check_box(other)
        both = direct_sum(self._format(), other._format())
        return self._like(*orthonormalize(*both), self.bounds_)

    __radd__ = __add__

    def __mul__(self, other):
        if isinstance(other, ChebyshevTucker):
            return self._product(other)
        if not isinstance(other, Real):
            return NotImplemented
        if not np.isfinite(other):
            raise ValueError(f"a function can be multiplied with a finite number, got {other}.")
        self._check_fitted()
        core, V = self._format(offset=False)
        return self._like(core * float(other), V, self.bounds_, self.offset_ * float(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self * (1.0 / other) if isinstance(other, Real) else NotImplemented

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return -self + other

    def _product(self, other):
        """Return the product of two functions: degrees add, ranks multiply and are then cut."""
        self._check_box(other)
        both = product_format(self._format(), other._format())
        return self._like(*orthonormalize(*both), self.bounds_).round()

    def _check_box(self, other):
        self._check_fitted()
        other._check_fitted()
        if not np.array_equal(self.bounds_, other.bounds_):
            raise ValueError(
                "functions are combined on one box: bounds_ are "
                f"{self.bounds_.tolist()} and {other.bounds_.tolist()}."
            )

    def _constant(self, value):
        self._check_fitted()
        d = len(self.bounds_)
        return self._like(np.full((1,) * d, value), [np.ones((1, 1))] * d, self.bounds_)

    def _like(self, core, factors, bounds, offset=0.0):
        """Return a function with the settings of this one."""
        new = type(self)(**{name: getattr(self, name) for name in self._parameter_constraints})
        new._keep(core, factors, bounds, offset=offset)
        return new

    def _keep(self, core, factors, bounds, error=np.nan, n_evaluations=0, offset=0.0):
        dtype = np.dtype(self.dtype)
        self.core_ = np.ascontiguousarray(core, dtype=dtype)
        self.factors_ = [np.ascontiguousarray(V, dtype=dtype) for V in factors]
        self.rank_ = tuple(int(r) for r in core.shape)
        self.degree_ = tuple(len(V) for V in factors)
        self.bounds_ = np.array(bounds)
        self.offset_ = float(offset)
        self.n_evaluations_ = n_evaluations
        self.error_estimate_ = float(error)

    def _format(self, offset=True):
        """Return core and factors in double precision, with the offset as one more term or not."""
        self._check_fitted()
        core = self.core_.astype(np.float64, copy=False)
        V = [C.astype(np.float64, copy=False) for C in self.factors_]
        if not offset or self.offset_ == 0.0:
            return core, V
        constant = np.full((1,) * core.ndim, self.offset_), [np.ones((1, 1))] * core.ndim
        return orthonormalize(*direct_sum((core, V), constant))

    def _check_fitted(self):
        if not hasattr(self, "core_"):
            raise NotFittedError(
                "This ChebyshevTucker is empty: call fit_function, fit_cp or fit_grid first."
            )

    def _check_axis(self, axis):
        d = len(self.bounds_)
        if isinstance(axis, bool) or not isinstance(axis, Integral) or not -d <= axis < d:
            raise ValueError(f"axis must be an integer from {-d} to {d - 1}, got {axis!r}.")
        return int(axis) % d

    def _settings(self, d):
        """Check the parameters; return tolerance, first degrees, whether they may grow, ranks."""
        params = {name: getattr(self, name) for name in self._parameter_constraints}
        validate_parameter_constraints(self._parameter_constraints, params, type(self).__name__)
        try:
            known = np.dtype(self.dtype) in (np.dtype(np.float64), np.dtype(np.float32))
        except TypeError:
            known = False
        if not known:
            raise ValueError(f"dtype must be float64 or float32, got {self.dtype!r}.")
        adaptive = isinstance(self.degree, str)
        if adaptive:
            degrees = [min(FIRST_DEGREE, self.max_degree)] * d
        else:
            given = np.asarray(self.degree)
            if given.dtype.kind not in "iu" or given.shape not in ((), (d,)) or given.min() < 1:
                raise ValueError(
                    f"degree must be 'auto', an integer >= 1 or one for each of {d} coordinates, "
                    f"got {self.degree!r}."
                )
            degrees = [int(m) for m in np.broadcast_to(given, d)]
        ranks = None
        if self.rank is not None:
            ranks = check_ranks(self.rank, [self.max_degree] * d if adaptive else degrees, "rank")
        return check_tol(self.tol), degrees, adaptive, ranks

    def _grid_fits(self, degrees, d):
        return d <= _FULL_DIMENSIONS and np.prod(degrees, dtype=float) <= MAX_NODES

    def _check_grid(self, degrees):
        if np.prod(degrees, dtype=float) > MAX_NODES:
            fits = int(MAX_NODES ** (1 / len(degrees)))
            raise ValueError(
                f"method='full' with degree {tuple(degrees)} needs "
                f"{np.prod(degrees, dtype=float):.3g} values, more than {MAX_NODES}: degree={fits} "
                "would fit, or use method='cross'."
            )

    def _finish(self, built, box, points, truth, largest, adaptive, tol):
        """Measure the error, warn of one that was not asked for, and keep the result."""
        found = evaluate_unit(built.core, built.factors, to_unit(points, box))
        error = np.abs(found - truth).max(initial=0.0) / max(largest, 1e-300)
        unresolved = [k for k, t in enumerate(built.tails) if adaptive and t >= tol]
        self._keep(built.core, built.factors, box, error)
        if (self.rank is None and error > 10 * tol) or (unresolved and error > tol):
            worst = max(built.tails, default=0.0)
            warn_user(
                f"tol={tol:g} was not reached: the largest error at {len(points)} points is "
                f"{error:.2g} of the largest value, the last coefficients are {worst:.2g} of the "
                f"largest, with degree {self.degree_} and rank {self.rank_}. "
                + ("Raise max_degree" if adaptive else "Raise degree")
                + ", accept a larger tol, or split the box at kinks and singularities.",
                ConvergenceWarning,
            )
