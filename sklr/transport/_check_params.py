"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    # In 30 dimensions the default maps each sample onto itself, and what else it does hangs on
    # plan entries below the tolerance; checks that compare two fits need a map that is fixed.
    "EntropicTransport": {"reg": 0.2, "tol": 1e-12},
}
