"""What the results of ``sklr.neural_network`` do not depend on; ``promises.py`` has the words."""

from promises import BATCHES, NETWORK, of_distances, same, times

SIZES = "sizes that are trained follow measured losses, where rounding may decide"

DECLARED = {
    "AdapterClassifier": dict(
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "CompressedClassifier": dict(
        names_of_classes=same(0),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "rows": BATCHES,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "DynamicSubspaceEmbedding": dict(
        names_of_classes=same(0),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "rows": BATCHES,
            "order_of_classes": "batches are drawn class by class",
        },
    ),
    "EEGSPDNetClassifier": dict(
        rows=same(1e-2),
        scale=same(1e-2),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "sign", "shift", "rotation", "mixing"), NETWORK),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "GrassmannClassifier": dict(
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "InformationKoopman": dict(
        why_not={**of_distances(NETWORK), "units": NETWORK, "rows": "rows are states in time"}
    ),
    "LatentQuantizationFilter": dict(
        scale=times(1e-6),
        why_not={
            **dict.fromkeys(("columns", "sign", "shift", "rotation", "units"), NETWORK),
            "rows": BATCHES,
        },
    ),
    "MaestroClassifier": dict(
        names_of_classes=same(0),
        why_not={
            **of_distances(NETWORK),
            **dict.fromkeys(("scale", "shift", "units", "rows", "weights"), SIZES),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "MMCR": dict(why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}),
    "ManifoldLinearizingClustering": dict(
        why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}
    ),
    "SubspaceClassifier": dict(
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "SPDNetClassifier": dict(
        rows=same(1e-6),
        scale=same(1e-6),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "rotation", "mixing"), NETWORK),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
}

# Where a promise would be empty with the parameters of the checks.
PARAMS = {
    "AdapterClassifier": {"batch_size": 512},
    "GrassmannClassifier": {"batch_size": 512},  # one batch, also of repeated samples
}
