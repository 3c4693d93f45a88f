"""What the results of ``sklr.cluster`` do not depend on; ``promises.py`` has the words."""

import numpy as np
from promises import NEIGHBOURS, OF_SUBSPACES, a_rotation, of_distances, partition, same


def points_on_lines(estimator, n, p, rng):
    """Samples near two lines through the origin, at a right angle to each other."""
    n += 5
    lines = a_rotation(p, rng)[:2]
    which = np.arange(n) % 2
    length = rng.uniform(1, 3, n) * rng.choice([-1, 1], n)
    return length[:, None] * lines[which] + 0.05 * rng.standard_normal((n, p)), None, {}


DECLARED = {
    "BootstrapAMGClustering": dict(
        # Two blobs in three clusters: which is split depends on the starts of k-means.
        rows={"embedding_": same(1e-9)},
        **of_distances(same(1e-9)),
        why_not={"units": NEIGHBOURS},
    ),
    "DiffusionSubspaceClustering": dict(
        rows=OF_SUBSPACES,
        columns=OF_SUBSPACES,
        rotation=OF_SUBSPACES,
        sign=OF_SUBSPACES,
        weights={k: v for k, v in OF_SUBSPACES.items() if k != "labels_"},
        scale={"labels_": partition(), "predict": partition()},
        why_not={
            "units": "subspaces and their bases are Euclidean",
            "shift": "subspaces go through the origin by default",
        },
    ),
}

DATA = {"DiffusionSubspaceClustering": points_on_lines}
