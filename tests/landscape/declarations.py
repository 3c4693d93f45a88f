"""What the results of ``sklr.landscape`` do not depend on; ``promises.py`` has the words."""

from promises import NETWORK, of_distances

SPLIT = "samples are set aside by chance"

DECLARED = {
    "IntrinsicDimension": dict(
        why_not={
            **of_distances(NETWORK),
            "units": NETWORK,
            "rows": SPLIT,
            "names_of_classes": SPLIT,
            "order_of_classes": "first weights are drawn for each class",
        },
    ),
}
