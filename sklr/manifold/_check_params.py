"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "HeatGeodesicEmbedding": {"n_neighbors": 5, "t": 1.0, "order": 15},
    "FastRP": {"n_components": 8},
    "FastRPCV": {"n_components": 8, "n_powers": (2, 4), "growths": (1.0,)},
}
