"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    # In 30 dimensions the default maps each sample onto one of the target, and what else it does
    # depends on plan entries below the tolerance; checks that compare fits need a smoother map.
    "EntropicTransport": {"reg": 0.5, "tol": 1e-12},
}
