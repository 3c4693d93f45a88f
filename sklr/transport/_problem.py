"""From what a user gives to what the solver takes: checks, scales, atoms without mass."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import (
    PAIRWISE_BOOLEAN_FUNCTIONS,
    PAIRWISE_DISTANCE_FUNCTIONS,
)

from sklr.transport import _scaling, _solver
from sklr.transport._cost import Cost, DenseCost, PointCost, SparseCost
from sklr.transport._result import TransportResult
from sklr.transport._tiles import TileCost
from sklr.utils._validation import check_array
from sklr.utils._warnings import warn_user

#: Entries above which costs between points are computed anew in each pass: 256 MiB.
MAX_DENSE = 2**25
# Metrics of scikit-learn that are distances between rows; "seuclidean" and "mahalanobis" would take
# their variances from each block of rows anew.
METRICS = (
    {"sqeuclidean", "minkowski", "chebyshev", "correlation", "braycurtis", "canberra", "hamming"}
    | set(PAIRWISE_BOOLEAN_FUNCTIONS)
    | set(PAIRWISE_DISTANCE_FUNCTIONS)
) - {"precomputed", "nan_euclidean", "sokalmichener"}


@dataclass
class Problem:
    """A checked problem: atoms with mass only, in the cost's order, weights of sum one."""

    cost: Cost
    a: np.ndarray
    b: np.ndarray
    mass: float
    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]
    reg: float
    extent: tuple[float, float]


def check_metric(metric: Any) -> None:
    """Refuse what is not a metric."""
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"metric must be a callable or one of {sorted(METRICS)}, got {metric!r}.")


def check_points(X: Any, name: str) -> np.ndarray:
    """Return points as a writeable float64 table in C order."""
    X = check_array(X, dtype=np.float64, order="C", input_name=name)
    return X if X.flags.writeable else X.copy()


def make_cost(C: Any, metric: Any, max_dense: int, run: Any) -> Cost:
    """Return the cost that a matrix, a sparse array or a pair of point sets stands for."""
    if isinstance(C, tuple):
        check_metric(metric)
        if len(C) != 2:
            raise ValueError(f"C must be a matrix or two sets of points, got {len(C)} arrays.")
        X, Y = check_points(C[0], "X"), check_points(C[1], "Y")
        if X.shape[1] != Y.shape[1]:
            raise ValueError(
                f"The points have {X.shape[1]} and {Y.shape[1]} coordinates: they must be equal."
            )
        cost = PointCost(X, Y, metric, run, dense_plan=len(X) * len(Y) <= max_dense)
        return cost.stored() if cost.dense_plan and not cost.sorts() else cost
    if issparse(C):
        C = csr_array(check_array(C, accept_sparse="csr", dtype=np.float64, input_name="C"))
        C.sum_duplicates()
        return SparseCost(C, run)
    C = check_array(C, dtype=np.float64, order="C", input_name="C")
    return DenseCost(C, run)


def check_weights(weights: Any, n: int, name: str) -> np.ndarray:
    """Return weights as a new array; None is uniform."""
    if weights is None:
        return np.full(n, 1.0 / n)
    weights = np.array(
        check_array(weights, ensure_2d=False, dtype=np.float64, input_name=name), dtype=np.float64
    )
    if weights.shape != (n,):
        raise ValueError(
            f"{name} must have shape ({n},), as the cost has it, got shape {weights.shape}."
        )
    if (weights < 0).any():
        raise ValueError(f"{name} must not be negative; its smallest entry is {weights.min():.6g}.")
    if not weights.sum() > 0:
        raise ValueError(f"{name} must have a positive sum, got {weights.sum():.6g}.")
    return weights


def check_spread(extent) -> float:
    """Return the range of the costs; annealing would never end where it overflows."""
    low, high = map(float, extent)
    if not np.isfinite(high - low):
        raise ValueError(
            f"The costs range from {low:.6g} to {high:.6g}, further than a float64 can say: "
            "divide them and reg by a number."
        )
    return high - low


def make_problem(a, b, cost: Any, reg: float, relative: bool) -> Problem:
    """Check weights against the cost and leave out atoms without mass."""
    n, m = cost.shape
    a_given, b_given = a is not None, b is not None
    a, b = check_weights(a, n, "a"), check_weights(b, m, "b")
    if not a_given and b_given:
        a *= b.sum()
    if not b_given and a_given:
        b *= a.sum()
    mass, other = a.sum(), b.sum()
    if abs(mass - other) > 1e-6 * max(mass, other):
        raise ValueError(
            f"a and b must have the same mass, got sums {mass:.9g} and {other:.9g}: only balanced "
            "transport is solved here. Divide each by its sum if only the shapes matter."
        )
    # One over smaller weights would overflow.
    rows, columns = np.flatnonzero(a > 1e-300 * mass), np.flatnonzero(b > 1e-300 * other)
    if len(rows) < n or len(columns) < m:
        cost = cost.subset(rows, columns)
    if cost.is_sparse:
        for what, sizes in (
            ("row", np.diff(cost.indptr)),
            ("column", np.bincount(cost.indices, minlength=cost.shape[1])),
        ):
            if (sizes == 0).any():
                raise ValueError(
                    f"C has no entry in {(sizes == 0).sum()} {what}s that have mass: the support "
                    "leaves them no partner."
                )
    if isinstance(cost, PointCost) and cost.sorts():
        cost = TileCost.sort(cost)
        rows, columns = rows[cost.rows], columns[cost.columns]
    extent = cost.extent()
    if not np.isfinite(extent).all():
        raise ValueError("The costs between the points contain NaN or infinity.")
    spread = check_spread(extent)
    # With equal costs every relative regularisation gives the product of the weights.
    reg = reg * (spread if spread > 0 else 1.0) if relative else reg
    a, b = a[rows] / mass, b[columns] / other
    return Problem(cost, a, b, float(mass), rows, columns, (n, m), reg, extent)


def check_init(init, problem: Problem):
    """Return the given potentials at atoms with mass, minus the mass's share."""
    if init is None:
        return None
    x, y = init
    found = []
    for values, n, kept, name in (
        (x, problem.shape[0], problem.rows, "init[0]"),
        (y, problem.shape[1], problem.columns, "init[1]"),
    ):
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (n,):
            raise ValueError(f"{name} must have shape ({n},), got {values.shape}.")
        values = values[kept]
        found.append(np.where(np.isfinite(values), values, 0.0))
    found[0] -= problem.reg * np.log(problem.mass)
    return found


def solve(problem: Problem, options, init=None, *, solver="sinkhorn-newton", verbose=0):
    """Run a solver."""
    init = check_init(init, problem)
    arguments = (problem.cost, problem.a, problem.b, problem.reg, options)
    before = None
    if solver == "auto":  # from here on a few dozen sweeps do, mostly
        large = problem.reg >= 0.05 * (problem.extent[1] - problem.extent[0])
        solver = "sinkhorn-newton"
        if large:
            before = _scaling.solve(*arguments, init, verbose=verbose)
            init = before.u * before.reg, before.v * before.reg
    if before is not None and before.error < options.tol:
        state = before
    elif solver == "sinkhorn":
        state = _scaling.solve(*arguments, init, verbose=verbose)
    else:
        state = _solver.solve(*arguments, init, extent=problem.extent, verbose=verbose)
        if before is not None:
            state.n_sweeps += before.n_sweeps
            for name in ("errors", "values", "regs"):
                setattr(state, name, getattr(before, name) + getattr(state, name))
    return state


def warn(problem: Problem, state, error: float, tol: float) -> None:
    """Warn when a solver did not get where it should."""
    if not error < tol:
        low, high = problem.extent
        floor = 1e-16 * max(abs(low), abs(high)) / problem.reg
        if floor > 0.1 * tol:
            hint = (
                f" Costs of up to {max(abs(low), abs(high)):.3g} at reg={problem.reg:.3g} leave "
                f"an error of about {floor:.0e} to rounding alone."
            )
            if low > 0.5 * high:
                hint += (
                    f" No cost is below {low:.3g}, as between domains that are far apart: centre "
                    "or standardise each of them (squared distances have the same plan then), or "
                    "subtract a constant from the costs."
                )
            else:
                hint += " Raise reg or tol."
        elif problem.cost.is_sparse:
            hint = " The support may leave some atoms without a partner for all their mass."
        else:
            hint = (
                " Raise max_iter or reg; a plan that is sharper than this is quicker had without "
                "entropy (ot.emd)."
            )
        warn_user(
            f"The marginal error is {error:.3g} after {state.n_sweeps} sweeps and "
            f"{state.n_newton} Newton steps, above tol={tol:.3g}.{hint}",
            ConvergenceWarning,
        )


def potentials(problem: Problem, state):
    """Return the potentials of all atoms in units of the cost, with ``a @ x == b @ y``."""
    x = state.u * state.reg + state.reg * np.log(problem.mass)
    y = state.v * state.reg
    shift = 0.5 * float(problem.b @ y - problem.a @ x)
    full = np.full(problem.shape[0], -np.inf), np.full(problem.shape[1], -np.inf)
    full[0][problem.rows] = x + shift
    full[1][problem.columns] = y - shift
    return full


def value(problem: Problem, state) -> float:
    """Return the objective from the potentials."""
    dual = float(problem.a @ state.u + problem.b @ state.v)
    return problem.mass * state.reg * (dual + np.log(problem.mass) - 1.0)


def transport_cost(problem: Problem, state) -> float:
    """Return the transport cost of the plan."""
    return problem.mass * problem.cost.transport_cost(1.0 / state.reg, state.u, state.v, problem.a)


def make_result(problem: Problem, state, tol: float, sparse: bool) -> TransportResult:
    """Return the result with its plan, dense or sparse, and warn if that is not where it should be.

    The error is that of the plan as it is returned.
    """
    inv_reg, cost = 1.0 / state.reg, problem.cost
    dropped = 0.0
    if (sparse or not cost.dense_plan) and not cost.is_sparse:
        smallest = 1e-12 / (float(cost.shape[0]) * cost.shape[1])
        plan = cost.sparse_plan(inv_reg, state.u, state.v, problem.a, smallest)
        dropped = max(0.0, 1.0 - float(plan.sum()))
    else:
        plan = cost.first_plan(inv_reg, state.u, state.v, problem.a)
    found = problem.mass * cost.cost_of(plan, inv_reg, state.u, state.v, problem.a)
    if problem.mass != 1.0:
        plan *= problem.mass
    if cost.shape != problem.shape:
        plan = _widen(plan, problem)
    error = 0.0
    for weights, atoms, axis in ((problem.a, problem.rows, 1), (problem.b, problem.columns, 0)):
        sums = plan.sum(axis=axis)
        sums[atoms] -= problem.mass * weights
        error += float(np.abs(sums).sum()) / problem.mass
    warn(problem, state, error, tol)
    return TransportResult(
        plan=plan,
        potentials=potentials(problem, state),
        cost=found,
        objective=value(problem, state),
        reg=state.reg,
        n_warmup=state.n_sweeps,
        n_newton=state.n_newton,
        n_cg=state.n_cg,
        marginal_error=error,
        converged=bool(error < tol),
        dropped_mass=dropped,
        history=np.column_stack([state.regs, state.errors, state.values]),
    )


def _widen(plan, problem: Problem):
    """Put rows and columns of zeros back."""
    if isinstance(plan, np.ndarray):
        full = np.zeros(problem.shape)
        full[np.ix_(np.sort(problem.rows), np.sort(problem.columns))] = plan
        return full
    plan = plan.tocoo()
    places = np.sort(problem.rows)[plan.row], np.sort(problem.columns)[plan.col]
    return csr_array((plan.data, places), shape=problem.shape)


def with_reg(problem: Problem, reg: float) -> Problem:
    """Return the problem at another regularisation."""
    return replace(problem, reg=reg)
