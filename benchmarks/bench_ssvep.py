"""Accuracy on SSVEP (MAMEM II, five frequencies): what the delays add to the covariance.

Needs SKLR_TEST_DATA, the folder that holds ``eeg/mamem-ssvep2``. Two protocols: the usual split
(train on trials 0-299, test on 400-499, another session), and leave one of the five sessions out,
whose standard error over sessions is given. All settings are reported; none is chosen.
"""

import os
import pathlib

from _common import one_blas_thread, run_parts

one_blas_thread()

import numpy as np  # noqa: E402


def table():
    """Accuracy by subject, order and lag."""
    from scipy.io import loadmat
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import AugmentedCovariance, TangentSpace

    folder = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "eeg", "mamem-ssvep2")
    if not folder.is_dir():
        print("skipped: set SKLR_TEST_DATA to the folder that holds eeg/mamem-ssvep2")
        return None
    rows = []
    print(f"{'subject':<9}{'order':>6}{'lag':>5}{'split':>8}{'sessions':>10}{'se':>7}")
    for subject in ("U001", "U002"):
        content = loadmat(folder / f"{subject}.mat")
        X, y = content["x_test"], content["y_test"].ravel()
        sessions = np.arange(len(X)) // 100
        for order, lag in ((1, 1), (2, 2), (3, 2), (4, 4), (5, 3)):
            pipe = make_pipeline(
                AugmentedCovariance(order, lag, estimator="oas"),
                TangentSpace(),
                LogisticRegression(max_iter=1000),
            )
            split = pipe.fit(X[:300], y[:300]).score(X[400:], y[400:])
            scores = cross_val_score(pipe, X, y, groups=sessions, cv=LeaveOneGroupOut())
            error = scores.std(ddof=1) / np.sqrt(len(scores))
            rows.append(
                {"subject": subject, "order": order, "lag": lag, "split": split,
                 "sessions": scores.mean(), "standard_error": error}
            )  # fmt: skip
            print(f"{subject:<9}{order:6d}{lag:5d}{split:8.2f}{scores.mean():10.3f}{error:7.3f}")
    return rows


def main(argv=None):
    run_parts(__doc__, {"rows": table}, argv)


if __name__ == "__main__":
    main()
