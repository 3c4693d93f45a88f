"""What the results of ``sklr.neural_network`` do not depend on; ``promises.py`` has the words."""

from promises import BATCHES, NETWORK, of_distances, plus, same, times

SIZES = "sizes that are trained follow measured losses, where rounding may decide"
FIRST = "first weights do not follow the features"
ORDER = "units are put in an order by their weights, where rounding may decide"

DECLARED = {
    "AdapterClassifier": dict(
        **dict.fromkeys(("scale", "shift", "units"), same(1e-6)),
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation"), FIRST),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "CompressedClassifier": dict(
        **dict.fromkeys(("scale", "shift", "units"), same(1e-6)),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation"), FIRST),
            "rows": BATCHES,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "DynamicSubspaceEmbedding": dict(
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "rows": BATCHES,
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
        **dict.fromkeys(("scale", "shift", "units"), same(1e-6)),
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation"), FIRST),
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
    "LatentSpectralRegressor": dict(
        scale=same(1e-5),
        target_times=times(1e-5),
        target_plus=plus(1e-5),
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation", "units", "target_sign"), NETWORK),
            "shift": "columns are cells of a field, which a shift of each of them changes",
            "rows": BATCHES,
        },
    ),
    "LieGroupConvClassifier": dict(
        rows=same(1e-6),
        scale=same(1e-6),
        names_of_classes=same(0),
        why_not={
            **dict.fromkeys(("columns", "rotation", "sign", "shift", "mixing"), NETWORK),
            "order_of_classes": "first weights are drawn for each class",
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
    "MorphableClassifier": dict(
        names_of_classes=same(0),
        why_not={
            **of_distances(NETWORK),
            **dict.fromkeys(("scale", "shift", "units", "rows", "weights"), ORDER),
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
    "MMCR": dict(why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}),
    "ManifoldLinearizingClustering": dict(
        why_not={**of_distances(NETWORK), "units": NETWORK, "rows": BATCHES}
    ),
    "PerturbedGenerativeModel": dict(
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation", "units"), NETWORK),
            **dict.fromkeys(("scale", "shift"), NETWORK),
            "rows": "noise is drawn for each row",
        },
    ),
    "SubspaceClassifier": dict(
        **dict.fromkeys(("scale", "shift", "units"), same(1e-6)),
        rows=same(1e-6),
        names_of_classes=same(0),
        weights=same(1e-6),
        why_not={
            **dict.fromkeys(("columns", "sign", "rotation"), FIRST),
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
    "CompressedClassifier": {"estimator__dtype": "float64"},
    "GrassmannClassifier": {"batch_size": 512},  # one batch, also of repeated samples
}
