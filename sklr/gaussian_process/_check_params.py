"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "VectorFieldGPRegressor": {"n_neighbors": 6, "n_eigenpairs": 20},
}
