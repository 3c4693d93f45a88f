"""From one session to another: what recentring does, and what it must not do.

Accuracy on a session that was not trained on. Settings were fixed before the first run:
SSVEP (MAMEM II, needs SKLR_TEST_DATA): the five sessions of U001 and U002, train on one, test on
the other four (40 pairs), order 3, lag 2. Simulated motor imagery: two sessions of 60 trials, six
subjects, channels of the second mixed by ``I + 0.15 G`` and scaled by ``exp(0.3 g)``. Estimator
"oas", tangent space, logistic regression. "affine by hand" is ``M^-1/2 X M^-1/2`` of each session
with pyRiemann's mean; a difference is that of the same pairs, with its standard error. No row has
seconds, so that none has a share of a limit; `quick.py` times recentring.
"""

import os
import pathlib
from functools import partial

from _common import CHANNELS, one_blas_thread, run_parts

one_blas_thread()

import numpy as np  # noqa: E402


def by_hand(X):
    """Affine recentring of one session by pyRiemann."""
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.mean import mean_riemann

    root = invsqrtm(mean_riemann(X))
    return root @ X @ root


def old_recipe(X):
    """A scaler of its own for each session, with a metric of its own."""
    from sklr.covariance import BuresWassersteinScaler

    return BuresWassersteinScaler(metric="mean", scale=0.3).fit_transform(X)


def score_all(A, ya, B, yb):
    """Accuracy of each recipe: trained on A, tested on B."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import GroupRecentering, TangentSpace

    def classify(A, B):
        pipe = make_pipeline(TangentSpace(), LogisticRegression(max_iter=3000))
        return float(pipe.fit(A, ya).score(B, yb))

    out = {
        "nothing": classify(A, B),
        "affine by hand": classify(by_hand(A), by_hand(B)),
        "a scaler each": classify(old_recipe(A), old_recipe(B)),
    }
    for metric in ("riemann", "wasserstein"):
        centre = GroupRecentering(metric)
        centred = centre.fit_transform(A, groups=["a"] * len(A))
        out[f"{metric}, groups"] = classify(centred, centre.transform(B, groups=["b"] * len(B)))
        out[f"{metric}, no groups"] = classify(centred, centre.transform(B))
    # One by one, each trial centred before it is known how the session goes on.
    online = GroupRecentering().fit(A, groups=["a"] * len(A))
    stream = [
        online.partial_fit(x[None], groups=["b"]).transform(x[None], groups=["b"])[0] for x in B
    ]
    out["riemann, online"] = classify(GroupRecentering().fit_transform(A), np.array(stream))
    return out


def ssvep_pairs():
    """Sessions of the two subjects, one to another."""
    from scipy.io import loadmat

    from sklr.covariance import AugmentedCovariance

    folder = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "eeg", "mamem-ssvep2")
    if not folder.is_dir():
        return
    for subject in ("U001", "U002"):
        content = loadmat(folder / f"{subject}.mat")
        C = AugmentedCovariance(3, 2, estimator="oas").fit_transform(content["x_test"])
        C, y = C.reshape(5, 100, *C.shape[1:]), content["y_test"].reshape(5, 100)
        for a in range(5):
            for b in range(5):
                if a != b:
                    yield C[a], y[a], C[b], y[b]


def simulated_pairs():
    """Two sessions of six simulated subjects, with a drift between them."""
    from sklr.covariance import AugmentedCovariance
    from sklr.datasets import make_motor_imagery

    for subject in range(1, 7):
        X, y = make_motor_imagery(
            120, channels=CHANNELS[9], duration=2.0, band=(8, 35), subject=subject, random_state=0
        )
        rng = np.random.default_rng(subject)
        mixing = np.eye(9) + 0.15 * rng.standard_normal((9, 9))
        X[60:] = np.exp(0.3 * rng.standard_normal(9))[:, None] * (mixing @ X[60:])
        C = AugmentedCovariance(1, estimator="oas").fit_transform(X)
        yield C[:60], y[:60], C[60:], y[60:]


def table(name, pairs):
    """Accuracy of each recipe, and its gain over nothing and over recentring by hand."""
    scores = [score_all(*pair) for pair in pairs()]
    if not scores:
        print(f"{name}: skipped, set SKLR_TEST_DATA")
        return None
    print(f"{name}, {len(scores)} pairs of sessions{'':6}accuracy   - nothing     - by hand")
    rows = {}
    for recipe in scores[0]:
        values = np.array([score[recipe] for score in scores])
        rows[recipe] = {"mean": values.mean()}
        text = f"{recipe:<34}{values.mean():9.3f}"
        for other in ("nothing", "affine by hand"):
            gain = values - [score[other] for score in scores]
            error = gain.std(ddof=1) / np.sqrt(len(gain))
            rows[recipe][f"minus {other}"] = [gain.mean(), error]
            text += f"  {gain.mean():+.3f} ({error:.3f})"
        print(text)
    return rows


def main(argv=None):
    """Print a table for each kind of data."""
    data = {"SSVEP": ssvep_pairs, "simulated": simulated_pairs}
    run_parts(__doc__, {name: partial(table, name, pairs) for name, pairs in data.items()}, argv)


if __name__ == "__main__":
    main()
