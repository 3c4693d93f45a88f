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
    "AugmentedCovarianceSVC": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        # Libsvm stops at a tolerance of 1e-3 of its own, and goes through samples in their order.
        rows={"decision_function": same(5e-3)},
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
    ),
    "AugmentedCovarianceSVCCV": dict(
        **OF_COVARIANCES,
        rotation=same(1e-7),
        mixing=same(1e-7),
        names_of_classes=same(0),
        order_of_classes={"predict": same(0), "decision_function": negated(5e-3)},
        why_not={"rows": "folds are cut in the order of the samples"},
    ),
    "BuresWassersteinScaler": dict(
        rows=same(1e-9),
        columns=moved(1e-9),
        scale=same(1e-9),
        rotation=moved(1e-9),
        weights=same(1e-9),
        why_not={"mixing": "the plain metric weighs directions by their variance"},
    ),
    "TangentSpace": dict(
        rows=same(1e-6),
        columns=distances(1e-6),
        scale=same(1e-9),
        rotation=distances(1e-6),
        mixing=distances(1e-6),
    ),
}
