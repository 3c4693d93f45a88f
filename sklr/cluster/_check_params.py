"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "BootstrapAMGClustering": {"n_clusters": 3, "n_init": 3},
    "DiffusionSubspaceClustering": {"n_components": 1, "n_init": 2},
}
