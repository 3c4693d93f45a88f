"""Distances that transport gives: between samples, and between many histograms at once."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sklr.transport import _problem, _solver
from sklr.transport._cost import DenseCost
from sklr.transport._options import check_count, check_options, check_positive
from sklr.utils._progress import progress
from sklr.utils._threads import ChunkThreads, single_blas_thread
from sklr.utils._validation import check_array
from sklr.utils._warnings import warn_user

# Pairs whose scalings are iterated as one matrix; fixed, so that results do not depend on threads.
_BATCH = 64
# Above this range of cost / reg the kernel's smallest entries come near the smallest number.
_LARGEST_RANGE = 300.0
# Sweeps of a batch between two looks at its errors, and in all before Newton steps take over.
_LOOK, _MOST_SWEEPS = 10, 300


def _terms(a, b, X, Y, reg, options, metric, relative, max_dense, run, solver, self_terms):
    """Solve for the pair, and for each set with itself at the same regularisation."""
    pairs = [(a, b, X, Y)]
    if self_terms:
        pairs += [(a, a, X, X), (b, b, Y, Y)]
    found = []
    for k, (left, right, P, Q) in enumerate(pairs):
        cost = _problem.make_cost((P, Q), metric, max_dense, run)
        problem = _problem.make_problem(left, right, cost, reg, relative and k == 0)
        reg = problem.reg
        state = _problem.solve(problem, options, solver=solver)
        _problem.warn(problem, state, state.error, options.tol)
        found.append((problem, state))
    return found


def transport_distance(
    X,
    Y,
    *,
    a=None,
    b=None,
    metric="sqeuclidean",
    reg=1e-2,
    relative=True,
    solver="auto",
    tol=1e-9,
    max_iter=100,
    max_dense=_problem.MAX_DENSE,
    n_jobs=None,
):
    """Cost of the entropic transport plan between two samples.

    Parameters
    ----------
    X : array-like of shape (n, n_features)
        First sample.
    Y : array-like of shape (m, n_features)
        Second sample.
    a : array-like of shape (n,), default=None
        Weights of `X`. None is uniform.
    b : array-like of shape (m,), default=None
        Weights of `Y`, with the sum of `a`.
    metric : str or callable, default="sqeuclidean"
        Distance between points.
    reg : float, default=1e-2
        Regularisation.
    relative : bool, default=True
        Whether `reg` is a fraction of the range of the costs between `X` and `Y`.
    solver : {"auto", "sinkhorn-newton", "sinkhorn"}, default="auto"
        Newton steps or plain sweeps. "auto" begins with `max_iter` sweeps where `reg` is at least
        5 % of the range, which mostly do.
    tol : float, default=1e-9
        Marginal error, as a part of the total mass.
    max_iter : int, default=100
        Most Newton steps; a hundred times as many sweeps with ``solver="sinkhorn"``.
    max_dense : int, default=2**25
        Entries up to which costs are stored.
    n_jobs : int, default=None
        Threads. Results do not depend on it.

    Returns
    -------
    distance : float
        ``<C, P>``: for squared distances an upper estimate of the squared Wasserstein distance,
        for ``metric="euclidean"`` of the Wasserstein-1 distance. It is positive also between equal
        samples; :func:`sinkhorn_divergence` is not.

    Raises
    ------
    ValueError, TypeError
        As :func:`sinkhorn_newton`.

    Warns
    -----
    ConvergenceWarning
        The marginal error that was reached, if it is not below `tol`.

    See Also
    --------
    sinkhorn_divergence : Zero for equal samples.
    ot.emd2 : POT's exact value.

    References
    ----------
    .. [1] M. Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS
       2013. https://arxiv.org/abs/1306.0895

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import transport_distance
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> round(transport_distance(X, X + [3.0, 0.0], reg=1e-4), 2)
    9.0
    """
    reg, options, max_dense = _check(reg, tol, max_iter, solver, max_dense)
    with ChunkThreads(n_jobs) as threads, single_blas_thread():
        ((problem, state),) = _terms(
            a, b, X, Y, reg, options, metric, relative, max_dense, threads.map, solver, False
        )
        return _problem.transport_cost(problem, state)


def sinkhorn_divergence(
    X,
    Y,
    *,
    a=None,
    b=None,
    metric="sqeuclidean",
    reg=1e-2,
    relative=True,
    solver="auto",
    tol=1e-9,
    max_iter=100,
    max_dense=_problem.MAX_DENSE,
    n_jobs=None,
):
    """Sinkhorn divergence between two samples: entropic transport without its bias.

    The regularised value between `X` and `Y`, minus half of the values of `X` and of `Y` with
    themselves: zero for equal samples, and not negative for the metrics "sqeuclidean",
    "euclidean" and "cityblock".

    Parameters
    ----------
    X : array-like of shape (n, n_features)
        First sample.
    Y : array-like of shape (m, n_features)
        Second sample.
    a : array-like of shape (n,), default=None
        Weights of `X`. None is uniform.
    b : array-like of shape (m,), default=None
        Weights of `Y`, with the sum of `a`.
    metric : str or callable, default="sqeuclidean"
        Distance between points.
    reg : float, default=1e-2
        Regularisation.
    relative : bool, default=True
        Whether `reg` is a fraction of the range of the costs between `X` and `Y`.
    solver : {"auto", "sinkhorn-newton", "sinkhorn"}, default="auto"
        Newton steps or plain sweeps. "auto" begins with `max_iter` sweeps where `reg` is at least
        5 % of the range, which mostly do.
    tol : float, default=1e-9
        Marginal error, as a part of the total mass.
    max_iter : int, default=100
        Most Newton steps; a hundred times as many sweeps with ``solver="sinkhorn"``.
    max_dense : int, default=2**25
        Entries up to which costs are stored.
    n_jobs : int, default=None
        Threads. Results do not depend on it.

    Returns
    -------
    divergence : float
        The divergence; rounding below zero is cut.

    Raises
    ------
    ValueError, TypeError
        As :func:`sinkhorn_newton`.

    Warns
    -----
    ConvergenceWarning
        The marginal error that was reached, if it is not below `tol`.

    See Also
    --------
    transport_distance : The cost of the plan.
    ot.bregman.empirical_sinkhorn_divergence : POT's.

    References
    ----------
    .. [1] J. Feydy, T. Sejourne, F.-X. Vialard, S. Amari, A. Trouve, G. Peyre, "Interpolating
       between optimal transport and MMD using Sinkhorn divergences", AISTATS 2019.
       https://arxiv.org/abs/1810.08278

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import sinkhorn_divergence
    >>> X = np.random.default_rng(0).standard_normal((60, 2))
    >>> sinkhorn_divergence(X, X)
    0.0
    >>> round(sinkhorn_divergence(X, X + [3.0, 0.0]), 2)
    9.0
    """
    reg, options, max_dense = _check(reg, tol, max_iter, solver, max_dense)
    with ChunkThreads(n_jobs) as threads, single_blas_thread():
        terms = _terms(
            a, b, X, Y, reg, options, metric, relative, max_dense, threads.map, solver, True
        )
    both, first, second = (_problem.value(problem, state) for problem, state in terms)
    return float(max(0.0, both - 0.5 * (first + second)))


def _check(reg, tol, max_iter, solver, max_dense):
    if solver not in ("auto", "sinkhorn-newton", "sinkhorn"):
        raise ValueError(f"solver must be 'auto', 'sinkhorn-newton' or 'sinkhorn', got {solver!r}.")
    reg = check_positive(reg, "reg")
    options = check_options("auto", "auto", max_iter, tol, "adaptive", None, 0)
    if solver == "sinkhorn":
        options.max_iter *= 100
    return reg, options, check_count(max_dense, "max_dense", 0)


def pairwise_transport_distances(
    H1,
    H2=None,
    *,
    C,
    reg,
    relative=False,
    divergence=False,
    tol=1e-9,
    max_iter=100,
    n_jobs=None,
    verbose=0,
):
    """Transport distances between histograms in rows, over one common cost.

    Pairs are solved in batches: all of a batch share each product with the kernel, and those for
    which sweeps are slow are finished by Newton steps.

    Parameters
    ----------
    H1 : array-like of shape (n1, n_bins)
        Histograms, not negative, all of the same sum.
    H2 : array-like of shape (n2, n_bins), default=None
        Further histograms of that sum. None is `H1`.
    C : array-like of shape (n_bins, n_bins)
        Costs between bins; symmetric, if `H2` is None or `divergence` is asked for.
    reg : float
        Regularisation, in units of the cost.
    relative : bool, default=False
        Whether `reg` is a fraction of the range of the costs.
    divergence : bool, default=False
        Whether Sinkhorn divergences are returned, which are zero between equal histograms, or what
        the plans cost.
    tol : float, default=1e-9
        Sum of the absolute errors of both marginals, as a part of the total mass.
    max_iter : int, default=100
        Most Newton steps a pair.
    n_jobs : int, default=None
        Threads. Results do not depend on it.
    verbose : int, default=0
        Whether to show progress.

    Returns
    -------
    distances : ndarray of shape (n1, n2)
        Distances, for ``metric="precomputed"``; exactly symmetric when `H2` is None.

    Raises
    ------
    ValueError, TypeError
        Histograms that are negative or of unequal sums, costs that do not fit, parameters out of
        range.

    Warns
    -----
    ConvergenceWarning
        How many pairs did not get below `tol`, and the largest error.

    See Also
    --------
    sinkhorn_newton : One pair, with its plan.

    Examples
    --------
    >>> import numpy as np
    >>> from sklr.transport import pairwise_transport_distances
    >>> bins = np.arange(4.0)
    >>> C = (bins[:, None] - bins) ** 2
    >>> pairwise_transport_distances(np.eye(4), C=C, reg=0.1, divergence=True).round(6)
    array([[0., 1., 4., 9.],
           [1., 0., 1., 4.],
           [4., 1., 0., 1.],
           [9., 4., 1., 0.]])
    """
    reg = check_positive(reg, "reg")
    options = check_options("auto", "auto", max_iter, tol, "adaptive", None, 0)
    H1 = check_array(H1, dtype=np.float64, input_name="H1")
    C = check_array(C, dtype=np.float64, order="C", input_name="C")
    same = H2 is None
    H2 = H1 if same else check_array(H2, dtype=np.float64, input_name="H2")
    if C.shape != (H1.shape[1], H2.shape[1]):
        raise ValueError(
            f"C must have shape ({H1.shape[1]}, {H2.shape[1]}), one row and column a bin, got "
            f"{C.shape}."
        )
    if (same or divergence) and (C.shape[0] != C.shape[1] or not np.allclose(C, C.T)):
        raise ValueError("C must be symmetric where histograms are compared with each other.")
    sums = np.concatenate([H1.sum(axis=1), H2.sum(axis=1)])
    lowest = min(H1.min(), H2.min())
    if lowest < 0:
        raise ValueError(f"Histograms must not be negative; the smallest entry is {lowest:.6g}.")
    if not (sums.min() > 0 and sums.max() - sums.min() <= 1e-6 * sums.max()):
        raise ValueError(
            f"Histograms must have the same positive sum, got sums from {sums.min():.9g} to "
            f"{sums.max():.9g}. Divide each by its sum if only the shapes matter."
        )
    mass = float(sums[0])
    H1 = H1 / H1.sum(axis=1, keepdims=True)
    H2 = H1 if same else H2 / H2.sum(axis=1, keepdims=True)
    spread = _problem.check_spread((C.min(), C.max()))
    reg = reg * (spread if spread > 0 else 1.0) if relative else reg

    rows, columns = (
        np.triu_indices(len(H1)) if same else np.indices((len(H1), len(H2))).reshape(2, -1)
    )
    pairs = [(H1, rows, H2, columns)]
    if divergence and not same:
        pairs += [(H, np.arange(len(H)), H, np.arange(len(H))) for H in (H1, H2)]
    solver = _Batches(C, reg, options, divergence)
    with ChunkThreads(n_jobs) as threads, single_blas_thread():
        found = [solver.all(*group, threads.map, verbose) for group in pairs]
    solver.warn()
    D = np.empty((len(H1), len(H2)))
    D[rows, columns] = found[0]
    if same:
        D[columns, rows] = found[0]
    if divergence:
        own = (np.diag(D).copy(),) * 2 if same else found[1:]
        D = np.maximum(D - 0.5 * (own[0][:, None] + own[1]), 0.0)
        if same:
            np.fill_diagonal(D, 0.0)
    return D * mass


class _Batches:
    """Solve many pairs over one cost."""

    def __init__(self, C, reg, options, divergence):
        self.C, self.reg, self.options, self.divergence = C, reg, options, divergence
        self.low = C.min()
        self.ranged = (C.max() - self.low) / reg
        self.kernel = np.exp((self.low - C) / reg) if self.ranged <= _LARGEST_RANGE else None
        self.paying = None if self.kernel is None or divergence else self.kernel * C
        self.failed = []

    def all(self, H1, rows, H2, columns, run, verbose):
        """Return the value of each pair."""
        starts = range(0, len(rows), _BATCH)

        def work(start):
            part = slice(start, start + _BATCH)
            return self.batch(H1[rows[part]], H2[columns[part]])

        parts = run(work, starts)
        shown = progress(parts, total=len(starts), description="pairs", verbose=verbose)
        values, errors = zip(*shown, strict=True)
        errors = np.concatenate(errors)
        self.failed.extend(errors[~(errors < self.options.tol)])
        return np.concatenate(values)

    def batch(self, A, B):
        """Return values and marginal errors of pairs of rows."""
        values, errors = np.empty(len(A)), np.full(len(A), np.inf)
        starts = [None] * len(A)
        if self.kernel is not None:
            self._scale(A, B, values, errors, starts)
        for k in np.flatnonzero(~(errors < self.options.tol)):
            values[k], errors[k] = self._newton(A[k], B[k], starts[k])
        return values, errors

    def _scale(self, A, B, values, errors, starts):
        """Sweep all pairs of a batch at once; those that are done leave it."""
        left = np.arange(len(A))
        T = np.ones_like(B)
        before = np.full(len(A), np.inf)
        for _ in range(_MOST_SWEEPS // _LOOK):
            for _ in range(_LOOK):
                S = A[left] / (T @ self.kernel.T)
                reached = S @ self.kernel
                T_next = B[left] / reached
                error = np.abs(T * reached - B[left]).sum(axis=1)
                S_kept, T_kept, T = S, T, T_next
            errors[left] = error
            done = error < self.options.tol
            # Too slow: at this rate the sweeps left would not do, or there is no rate.
            with np.errstate(divide="ignore", invalid="ignore"):
                wanted = np.log(error / self.options.tol) / np.log(before[left] / error) * _LOOK
            slow = ~done & np.isfinite(before[left]) & ~((wanted > 0) & (wanted < _MOST_SWEEPS))
            for k in np.flatnonzero(done | slow):
                values[left[k]] = self._value(A[left[k]], B[left[k]], S_kept[k], T_kept[k])
                starts[left[k]] = (S_kept[k], T_kept[k])
            before[left] = error
            stay = ~(done | slow)
            left, T = left[stay], T[stay]
            S_kept, T_kept = S_kept[stay], T_kept[stay]
            if len(left) == 0:
                return
        for k, pair in enumerate(left):
            starts[pair] = (S_kept[k], T_kept[k])

    def _value(self, a, b, s, t):
        if not self.divergence:
            return float(s @ (self.paying @ t))
        with np.errstate(divide="ignore", invalid="ignore"):
            dual = np.where(a > 0, a * np.log(s), 0.0).sum()
            dual += np.where(b > 0, b * np.log(t), 0.0).sum()
        return self.reg * (dual - 1.0) + self.low

    def _newton(self, a, b, start):
        rows, columns = np.flatnonzero(a), np.flatnonzero(b)
        a, b = a[rows], b[columns]
        cost = DenseCost(np.ascontiguousarray(self.C[np.ix_(rows, columns)]))
        init = None
        if start is not None:
            init = [
                self.reg * np.log(start[0][rows]) + self.low,
                self.reg * np.log(start[1][columns]),
            ]
        extent = self.low, self.low + self.ranged * self.reg
        state = _solver.solve(cost, a, b, self.reg, self.options, init, extent)
        if self.divergence:
            value = self.reg * (float(a @ state.u + b @ state.v) - 1.0)
        else:
            value = cost.transport_cost(1.0 / self.reg, state.u, state.v, a)
        return value, state.error

    def warn(self):
        """Warn of the pairs that did not converge."""
        if self.failed:
            warn_user(
                f"{len(self.failed)} pairs have a marginal error above tol={self.options.tol:.3g}, "
                f"up to {max(self.failed):.3g}.",
                ConvergenceWarning,
            )
