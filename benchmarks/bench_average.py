"""The average over embeddings beside one embedding and the ordinary covariance, on real recordings.

Imagery (MNE_DATA with PhysionetMI): four repetitions of five folds, ROC-AUC, the same folds for
all, differences to tangent space + logistic regression with the standard error over subjects.
Flickering stimuli (SKLR_TEST_DATA with eeg/mamem-ssvep2): each of five sessions left out,
accuracy, every cell of the average alone beside it, and cells (4, 4) (5, 3) in three bands between
5 and 45 Hz, as they are and recentred (each session left out as one batch). Then the time of a
fit. Folds, subjects and the ten cells were written down before any run of this script, the bands
after `bench_average_variants.py` had been seen; every setting is printed.
"""

import os
import pathlib

from _common import Several, cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402

SUBJECTS = (1, 2, 4, 7)


def pipelines():
    """What is compared on imagery, all on shrunk covariances."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    from sklr.covariance import (
        AugmentedCovariance,
        AugmentedCovarianceAverageSVC,
        AugmentedCovarianceSVC,
        TangentSpace,
    )

    def plain(last):
        return make_pipeline(AugmentedCovariance(1, estimator="oas"), TangentSpace(), last)

    return {
        "TS+LR": plain(LogisticRegression(max_iter=1000)),
        "TS+SVC": plain(SVC(kernel="linear")),
        "(3, 2)": AugmentedCovarianceSVC(3, 2, estimator="oas"),
        "average": AugmentedCovarianceAverageSVC(),
    }


def imagery():
    """Scores of each subject, and differences over subjects."""
    from _common import trials
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score

    cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=4, random_state=0)
    data = {subject: trials(9, subject) for subject in SUBJECTS}
    scores = {
        name: np.array(
            [cross_val_score(p, X, y, cv=cv, scoring="roc_auc").mean() for X, y, _ in data.values()]
        )
        for name, p in pipelines().items()
    }
    rows = []
    for name, values in scores.items():
        gain = values - scores["TS+LR"]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        rows.append(
            {"pipeline": name, "subjects": values.round(3).tolist(), "mean": values.mean(),
             "gain": gain.mean(), "standard_error": error}
        )  # fmt: skip
        print(
            f"{name:<10}{values.mean():7.3f}  {gain.mean():+.3f} +- {error:.3f}  {values.round(2)}"
        )
    return rows


def fit():
    """CPU seconds of a fit on the first subject, against one embedding."""
    from _common import trials

    X, y, what = trials(9, SUBJECTS[0])
    times = {name: cpu(lambda p=p: p.fit(X, y), 5)[0] for name, p in pipelines().items()}
    ratio = times["average"] / times["TS+SVC"]
    print(f"fit on {what}: average {1e3 * times['average']:.0f} ms = {ratio:.1f} x TS+SVC")
    eigen = [(len(X), X.shape[1] * order) for order, _ in pipelines()["average"].cells]
    limit = share_of_limit(times["average"], eigen=eigen)
    return Several(fit_seconds=times, fit_ratio=ratio, fit_limit=limit | {"data": what})


def flicker():
    """Each session left out, on the average and on each of its cells."""
    from scipy.io import loadmat
    from sklearn.base import clone
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_score

    from sklr.covariance import (
        AugmentedCovarianceAverageSVC,
        AugmentedCovarianceSVC,
        GroupRecentering,
    )

    folder = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "eeg", "mamem-ssvep2")
    if not folder.is_dir():
        print("flickering stimuli skipped: set SKLR_TEST_DATA")
        return None
    rows = []
    for subject in ("U001", "U002"):
        content = loadmat(folder / f"{subject}.mat")
        X, y = content["x_test"], content["y_test"].ravel()
        sessions = np.arange(len(X)) // 100
        average = AugmentedCovarianceAverageSVC()
        edges = np.geomspace(5, 45, 4)
        bands = AugmentedCovarianceAverageSVC(
            ((4, 4), (5, 3)), bands=list(zip(edges, edges[1:])), sfreq=125
        )
        moved = clone(bands).set_params(recentring=GroupRecentering())
        compared = {"average": average, "bands": bands, "recentred": moved} | {
            str(cell): AugmentedCovarianceSVC(*cell, estimator="oas") for cell in average.cells
        }
        for name, model in compared.items():
            scores = cross_val_score(model, X, y, groups=sessions, cv=LeaveOneGroupOut())
            error = scores.std(ddof=1) / np.sqrt(len(scores))
            rows.append({"subject": subject, "what": name, "accuracy": scores.mean(), "se": error})
            print(f"{subject} {name:<10}{scores.mean():7.3f} +- {error:.3f}")
    return rows


def main(argv=None):
    """Print the tables."""
    run_parts(__doc__, {"imagery": imagery, "fit": fit, "flicker": flicker}, argv)


if __name__ == "__main__":
    main()
