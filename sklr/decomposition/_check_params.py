"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    # The suite's tables have more than two columns.
    "ImplicitFactorization": {"context": "ignore"},
    "MatrixFactorizationRegressor": {"context": "bias"},
    # Thirty columns of more than one function each would make too large a core.
    "ChebyshevTuckerRegressor": {"degree": 3, "rank": 1, "max_iter": 5},
    # Thirty columns allow one function each. A core that is learnt vanishes then: the mean explains
    # the few samples of a check as well, and nothing but the mean would be checked.
    "FunctionalTuckerRegressor": {
        "rank": 1,
        "core": "cp",
        "nu": 0.5,
        "length_scale": 2.0,
        "n_init": 1,
        "center": True,
        "max_iter": 20,
        "tol": 0.03,
    },
}

#: Class name -> check name -> why it must fail.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {
    "MatrixFactorizationRegressor": {
        "check_sample_weight_equivalence_on_dense_data": (
            "this check hands over fractions in spite of the categorical tag, and they are no "
            "ids; a test of our own asks the same of integers"
        ),
    },
}
