"""What the results of ``sklr.covariance`` do not depend on; ``promises.py`` has the words."""

from promises import OF_COVARIANCES, distances, moved, negated, same, times_squared

DECLARED = {
    "AugmentedCovariance": dict(
        rows=same(0),
        columns=distances(1e-12),
        scale=times_squared(1e-12),
        sign=same(0),
        shift=same(1e-10),
        rotation=distances(1e-10),
        why_not={"mixing": "covariances of mixed channels are other matrices"},
    ),
    "AugmentedCovarianceAverageSVC": dict(
        # Libsvm stops at a tolerance of 1e-3 of its own, and goes through samples in their order.
        rows={"decision_function": same(5e-3)},
        columns=same(5e-3),
        scale=same(5e-3),
        sign=same(5e-3),
        shift=same(5e-3),
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
        weights={"decision_function": same(5e-3)},
        why_not=dict.fromkeys(
            ("rotation", "mixing"), "the default estimator shrinks towards the identity"
        ),
    ),
    "AugmentedCovarianceSVC": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        # Libsvm stops at a tolerance of 1e-3 of its own, and goes through samples in their order.
        rows={"decision_function": same(5e-3)},
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
        weights={"decision_function": same(5e-3)},
    ),
    "AugmentedCovarianceSVCCV": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
        why_not={
            "rows": "folds are cut in the order of the samples",
            "weights": "a repeated sample may be in training and test fold at once",
        },
    ),
    "BuresWassersteinScaler": dict(
        rows=same(1e-9),
        columns=moved(1e-9),
        scale=same(1e-9),
        rotation=moved(1e-9),
        weights=same(1e-9),
        why_not={"mixing": "the plain metric weighs directions by their variance"},
    ),
    "GroupRecentering": dict(
        rows=same(1e-6),
        columns=moved(1e-6),
        scale=same(1e-6),
        rotation=moved(1e-6),
        why_not={"mixing": "what is mixed comes out rotated, and rows of a table are no matrices"},
    ),
    "MDM": dict(
        rows=same(1e-6),
        columns=same(1e-6),
        scale=same(1e-6),
        rotation=same(1e-6),
        mixing=same(1e-6),
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(1e-6)},
        weights=same(1e-6),
    ),
    "TangentSpace": dict(
        rows=same(1e-6),
        columns=distances(1e-6),
        scale=same(1e-9),
        rotation=distances(1e-6),
        mixing=distances(1e-6),
        weights=same(1e-6),
    ),
}
