"""What the results of ``sklr.transport`` do not depend on; ``promises.py`` has the words."""

from promises import moved, negated, same, times

from sklr.utils.estimator_checks import make_check_data


def two_domains(estimator, n, p, rng):
    X, y = make_check_data(estimator, n_samples=n + 5, n_features=p, seed=rng.integers(2**31))
    return X, y, {"X_target": rng.standard_normal((n, p)) ** 2}


DECLARED = {
    "EntropicTransport": dict(
        rows=same(1e-8),
        columns=moved(1e-8),
        scale=times(1e-8),
        sign=negated(1e-8),
        shift=moved(1e-8),
        rotation=moved(1e-8),
        weights=same(1e-8),
        why_not={"units": "costs are squared distances"},
    ),
}

DATA = {"EntropicTransport": two_domains}
