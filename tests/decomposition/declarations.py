"""What the results of ``sklr.decomposition`` do not depend on; ``promises.py`` has the words."""

import numpy as np
from promises import BASIS, a_rotation, divided, moved, negated, plus, same, times

from sklr.utils.estimator_checks import make_check_data


def measured_matrix(estimator, n, p, rng):
    """Measurements of a matrix whose two singular values are of one size."""
    X = rng.standard_normal((n + 5, p, 2))
    matrix = a_rotation(p, rng)[:, :2] * [3.0, 2.0] @ a_rotation(2, rng)
    return X, np.einsum("nij,ij->n", X, matrix), {}


def table_with_holes(estimator, n, p, rng):
    X, y = make_check_data(estimator, n_samples=n + 5, n_features=p, seed=rng.integers(2**31))
    return np.where(rng.random(X.shape) < 0.2, np.nan, X), y, {}


DECLARED = {
    "ChebyshevTuckerRegressor": dict(
        rows=same(1e-9),
        scale=same(1e-9),
        units=same(1e-9),
        sign=same(1e-9),
        shift=same(1e-9),
        target_times=times(1e-9),
        target_plus=plus(1e-9),
        target_sign=negated(1e-9),
        weights=same(1e-9),
        why_not={
            "columns": "columns are fitted in turn, and the few sweeps of the checks do not settle",
            "rotation": BASIS,
        },
    ),
    "DCTColumnSelection": dict(
        rows=same(1e-9),
        scale={"transform": times(1e-9)},
        sign={"transform": negated(1e-9)},
        why_not={
            "columns": "rows are signals, whose frequencies are in the order of the columns",
            "units": "columns are values of one signal, in one unit",
            "shift": "what is added to a signal has frequencies of its own",
            "rotation": BASIS,
        },
    ),
    "FunctionalTuckerRegressor": dict(
        rows=same(1e-6),
        scale=same(1e-6),
        units=same(1e-6),
        shift=same(1e-6),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        weights=same(1e-6),
        why_not={
            "columns": "starts are drawn for the columns in their order, and lead elsewhere",
            "sign": "starts are drawn along each axis, and lead elsewhere from its other end",
            "rotation": BASIS,
        },
    ),
    "ImplicitFactorization": dict(
        rows=same(1e-9),
        ids=same(1e-3),  # other numbers draw other factors at the start
        why_not={"columns": "rows and columns are told apart by their place"},
    ),
    "LowRankImputer": dict(
        rows=same(1e-6),
        **dict.fromkeys(("columns", "sign", "scale", "units", "shift"), moved(1e-6)),
        why_not={"rotation": "holes are in single columns"},
    ),
    "MatrixFactorizationRegressor": dict(
        rows=same(1e-6),
        ids=same(1e-3),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        weights=same(1e-6),
        why_not={"columns": "rows, columns and circumstances are told apart by their place"},
    ),
    "MatrixSensingRegressor": dict(
        rows=same(1e-5),
        columns={"predict": same(1e-5)},
        scale={"predict": same(1e-5), "coef_": divided(1e-5)},
        sign={"predict": same(1e-5), "coef_": negated(1e-5)},
        rotation={"predict": same(1e-5)},
        target_times=times(1e-5),
        target_sign=negated(1e-5),
        weights=same(1e-5),
        why_not={
            "mixing": "steps and the stop depend on the condition of the samples",
            "shift": "there is no intercept by default",
            "target_plus": "there is no intercept by default",
        },
    ),
}

# Where a promise would be empty with the parameters of the checks.
PARAMS = {
    "DCTColumnSelection": {"n_components": 2},  # all would be a rotation, whatever the data
    "ImplicitFactorization": {"tol": 1e-10, "max_iter": 500},
    # "auto" also tries the target as it is, since a constant counts to the rank.
    "ChebyshevTuckerRegressor": {"center": True, "rank": 3},
    "FunctionalTuckerRegressor": {"core": "tucker", "rank": 2, "nu": 1.5, "tol": 1e-2},
}

DATA = {"LowRankImputer": table_with_holes, "MatrixSensingRegressor": measured_matrix}
# Matrices of two columns, whose rows are turned.
KINDS = {"MatrixSensingRegressor": "trials"}
