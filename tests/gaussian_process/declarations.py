"""What the results of ``sklr.gaussian_process`` do not depend on; ``promises.py`` has the words."""

from promises import NEIGHBOURS, negated, of_distances, plus, same, times

DECLARED = {
    "VectorFieldGPRegressor": dict(
        rows=same(1e-6),
        **of_distances(same(1e-6)),
        target_times=times(1e-6),
        target_plus=plus(1e-6),
        target_sign=negated(1e-6),
        why_not={"units": NEIGHBOURS},
    ),
}
