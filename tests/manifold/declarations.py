"""What the results of ``sklr.manifold`` do not depend on; ``promises.py`` has the words."""

from promises import DRAWN, NEIGHBOURS, distances, of_distances, same

DECLARED = {
    "BootstrapAMGEmbedding": dict(
        rows=distances(1e-9),
        **of_distances(same(1e-9)),
        why_not={"units": NEIGHBOURS},
    ),
    "DiffusionSpectralEntropy": dict(
        rows=same(1e-9),
        **of_distances(same(1e-9)),
        why_not={"units": "distances are Euclidean ones"},
    ),
    "FastRP": dict(
        **of_distances(same(0)),
        why_not={"rows": DRAWN, "units": NEIGHBOURS},
    ),
    "FastRPCV": dict(
        **of_distances(same(0)),
        why_not={"rows": DRAWN, "units": NEIGHBOURS},
    ),
    "HeatGeodesicEmbedding": dict(
        **of_distances(distances(1e-6)),
        why_not={
            "units": NEIGHBOURS,
            "rows": "the descent goes through pairs in an order that is drawn for positions",
        },
    ),
}
