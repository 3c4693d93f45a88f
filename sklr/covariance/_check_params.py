"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "AugmentedCovarianceSVC": {"order": 2, "lag": 1},
    "AugmentedCovarianceSVCCV": {"orders": (1, 2), "lags": (1, 2), "Cs": (1.0,)},
    # Few channels: at 1 some matrices are pushed over the manifold's edge.
    "BuresWassersteinScaler": {"scale": 0.3},
}

#: Class name -> check name -> why it must fail.
EXPECTED_FAILED_CHECKS: dict[str, dict[str, str]] = {
    "AugmentedCovarianceSVCCV": {
        "check_parameters_default_constructible": (
            "orders and lags default to a range, which is as immutable as a tuple and shorter to "
            "read; the check's list of types has tuples only"
        ),
    },
}
