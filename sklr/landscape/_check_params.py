"""Quick parameters and known failures for the checks of every estimator."""

from typing import Any

from sklr.neural_network import SubspaceClassifier

#: Class name -> parameters with which a fit of a few samples takes a second at most.
CHECK_PARAMS: dict[str, dict[str, Any]] = {
    "IntrinsicDimension": {
        "estimator": SubspaceClassifier(
            hidden_layer_sizes=(16,), max_iter=60, dtype="float64", batch_size=512
        ),
        "dims": [10, 40],
        "n_repeats": 1,
        "ratio": 0.95,
        # All parameters need another learning rate than 40 directions of them.
        "baseline": 1.0,
    },
}
