"""What is near the average over embeddings: other cells, estimators, weights, bands, classifiers.

Every variant is scored on the same folds of five kinds of data, as a difference from the plain
average (ten cells, "oas", C = 1), with the standard error over units:

- imagery: PhysionetMI S001, S002, S004, S007 (MNE_DATA), 9 channels, 8-35 Hz, two repetitions of
  five folds, ROC-AUC, a unit a subject;
- flicker: MAMEM-II U001 and U002 (SKLR_TEST_DATA), each session left out, accuracy, a unit a
  session;
- flicker, few: the same sessions one by one, 60 trials to train on and 40 to test, two draws;
- simulated flicker: `make_ssvep`, 60 trials, subjects 0-5, two repetitions of five folds;
- simulated imagery: `make_motor_imagery`, 45 trials, subjects 0-5, the same folds.

Variants, cells, bands and folds were written down, and this file committed, before its first run:

- C = 3, 10, 30, 100 in the place of 1, and three ways to choose it: "2 se", better than C = 1 by
  two standard errors in five folds and only from 60 trials on; "1 se", by one, whatever the
  number; "best", the most correct ones;
- "natural": kernels divided by nothing but the number of cells, C = 1, as in TangentSpace + SVC;
- "ridge": kernel ridge classifier, penalty by its leave-one-out error (1e-4 ... 10, eleven values);
- "aligned": kernels weighed by their alignment with the classes; "aligned^4": by its fourth power;
- "cosine": each trial's row divided by its length, in each cell;
- "decisions": mean of the cells' own decision functions (C = 1, and C = 30);
- cells: "long" (4, 2) (6, 2) (4, 4) (5, 3) (6, 3) (8, 2); "sixteen", those and the ten; "six"
  (1, 1) (2, 2) (3, 2) (4, 2) (3, 5) (2, 9);
- estimators "lwf" and "cov";
- "bands": three bands, equal in octaves over the band of the data, (1, 1) (2, 2) (3, 2) in each,
  beside the ten cells; "bands only".

Fixed cells beside them, as TangentSpace + SVC (C = 1); the best is picked after seeing.

A second round (``--parts second``) was written down and committed after imagery, few flickers and
simulated flickers of the first had been seen: longer cells and bands won where the class is a
frequency, and sharp weights by alignment lost nothing elsewhere. It crosses sets of kernels (ten,
long, sixteen, ten + bands, bands, ten + octaves, octaves, sixteen + bands; "octaves" are three
bands in units of the sampling rate, 1/32 to 1/16, 1/8 and 1/4, so that no rate has to be known)
with weights (equal, alignment^4, alignment^8) and C (1, "1 se"). It was stopped after imagery
(nothing above the average by more than .001) and few flickers (sharp weights helped the ten cells
together with bands, .491 to .547, but not bands alone, .569 to .542, which stayed best).

Between sessions (``--parts sessions``), written down and committed before its run: one session of
MAMEM-II to train on and another of the same subject to test on, 40 pairs, C by "1 se"; the ten
cells and the three bands, as they are and with the tangent space of the tested session at its own
mean (arithmetic or affine-invariant), which is recentring without labels. The standard error over
pairs, which share sessions, is too small for other subjects.

A third round (``--parts third``), written down and committed before its run: which cells go into
the three bands where the class is a frequency, (1, 1) (2, 2) (3, 2), or (4, 4) (5, 3), or all
five, or (3, 2) (5, 3) (8, 2); C = 1. On three simulated subjects (filtered to 5-45 Hz, 48 trials)
the second had been seen to win.
"""

import os
import pathlib
import warnings

from _common import one_blas_thread, run_parts, trials

one_blas_thread()

import numpy as np  # noqa: E402

LONG = ((4, 2), (6, 2), (4, 4), (5, 3), (6, 3), (8, 2))
SIX = ((1, 1), (2, 2), (3, 2), (4, 2), (3, 5), (2, 9))
IN_BANDS = ((1, 1), (2, 2), (3, 2))


class Kernels:
    """Linear kernels of tangent vectors, one a cell, for one split of the trials."""

    def __init__(self, stacks, train, test):
        from sklr.covariance._tangent import tangent_vectors

        self.train, self.test, self.scale = {}, {}, {}
        for name, matrices in stacks.items():
            Z = tangent_vectors(matrices, matrices[train].mean(axis=0), "riemann", None)
            Z = Z - Z[train].mean(axis=0)
            self.train[name] = Z[train] @ Z[train].T
            self.test[name] = Z[test] @ Z[train].T
            self.scale[name] = np.diag(self.train[name]).mean()
            lengths = np.linalg.norm(Z, axis=1)
            self.train[name, "cosine"] = self.train[name] / np.outer(lengths[train], lengths[train])
            self.test[name, "cosine"] = self.test[name] / np.outer(lengths[test], lengths[train])
            self.scale[name, "cosine"] = 1.0

    def mean(self, names, weights=None):
        """Weighted mean of scaled kernels."""
        weights = np.ones(len(names)) if weights is None else np.asarray(weights)
        weights = weights / weights.sum()
        return tuple(
            sum(w * K[name] / self.scale[name] for w, name in zip(weights, names))
            for K in (self.train, self.test)
        )


def svc(C):
    from sklearn.svm import SVC

    return SVC(C=C, kernel="precomputed", cache_size=100)


def scores_of(K, K_test, y, C=1.0):
    return svc(C).fit(K, y).decision_function(K_test)


def chosen(K, y, rule):
    """C by the number of correct trials in five folds of the training trials."""
    from sklearn.model_selection import StratifiedKFold

    grid = (1.0, 3.0, 10.0, 30.0, 100.0)
    if rule == "2 se" and len(y) < 60:
        return 1.0
    right = np.zeros((len(grid), len(y)))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(K, y):
        for row, C in enumerate(grid):
            model = svc(C).fit(K[np.ix_(train, train)], y[train])
            right[row, test] = model.predict(K[np.ix_(test, train)]) == y[test]
    best = int(np.argmax(right.mean(axis=1)))
    difference = right[best] - right[0]
    error = difference.std() / np.sqrt(len(y))
    times = {"best": 0, "1 se": 1, "2 se": 2}[rule]
    return grid[best] if difference.mean() > times * error else 1.0


def ridge(K, K_test, y):
    """Kernel ridge on classes against the rest, penalty by leave-one-out squared error."""
    classes = np.unique(y)
    Y = np.where(y[:, None] == classes, 1.0, -1.0)
    values, V = np.linalg.eigh(K + 1.0)  # with an intercept
    best = None
    for penalty in np.logspace(-4, 1, 11):
        inverse = (V / (np.maximum(values, 0) + penalty * len(y))) @ V.T
        dual = inverse @ Y
        error = np.square(dual / np.diag(inverse)[:, None]).sum()
        if best is None or error < best[0]:
            best = error, dual
    out = (K_test + 1.0) @ best[1]
    return out[:, 1] if len(classes) == 2 else out


def alignments(kernels, names, y):
    same = (y[:, None] == y).astype(float)
    n = len(y)
    H = np.eye(n) - 1.0 / n
    T = H @ same @ H
    return np.array(
        [np.vdot(kernels.train[c], T) / np.linalg.norm(kernels.train[c]) for c in names]
    ).clip(0)


def variants(kernels, y, sets):
    """Scores of the test trials by each variant."""
    ten = sets["ten"]
    K, K_test = kernels.mean(ten)
    yield "average", scores_of(K, K_test, y)
    for C in (3, 10, 30, 100):
        yield f"C = {C}", scores_of(K, K_test, y, C)
    for rule in ("2 se", "1 se", "best"):
        yield f"C by {rule}", scores_of(K, K_test, y, chosen(K, y, rule))
    natural = np.mean([kernels.scale[c] for c in ten])
    raw = kernels.mean(ten, [kernels.scale[c] for c in ten])
    yield "natural", scores_of(*(natural * k for k in raw), y)
    yield "ridge", ridge(K, K_test, y)
    weights = alignments(kernels, ten, y) + 1e-12
    for power in (1, 4):
        A = kernels.mean(ten, weights**power)
        yield f"aligned^{power}", scores_of(*A, y)
        yield f"aligned^{power}, C by 1 se", scores_of(*A, y, chosen(A[0], y, "1 se"))
    cosine = kernels.mean([(c, "cosine") for c in ten])
    yield "cosine", scores_of(*cosine, y)
    yield "cosine, C by 1 se", scores_of(*cosine, y, chosen(cosine[0], y, "1 se"))
    for C in (1, 30):
        parts = [scores_of(*kernels.mean([c]), y, C) for c in ten]
        yield f"decisions, C = {C}", np.mean(parts, axis=0)
    for name in FIRST:
        if name != "ten":
            A = kernels.mean(sets[name])
            yield name, scores_of(*A, y)
            yield f"{name}, C by 1 se", scores_of(*A, y, chosen(A[0], y, "1 se"))


FIRST = ("ten", "long", "six", "sixteen", "lwf", "cov", "bands only", "bands")
SECOND = (
    "ten", "long", "sixteen", "bands", "bands only", "octaves", "octaves only", "sixteen + bands",
)  # fmt: skip


def second_round(kernels, y, sets):
    """Sets of kernels by weights by C."""
    yield "average", scores_of(*kernels.mean(sets["ten"]), y)
    for name in SECOND:
        weights = alignments(kernels, sets[name], y) + 1e-12
        for power in (0, 4, 8):
            A = kernels.mean(sets[name], weights**power)
            yield f"{name}, ^{power}", scores_of(*A, y)
            yield f"{name}, ^{power}, C", scores_of(*A, y, chosen(A[0], y, "1 se"))


LONGER = {
    "short": IN_BANDS,
    "longer": ((4, 4), (5, 3)),
    "all five": (*IN_BANDS, (4, 4), (5, 3)),
    "to eight": ((3, 2), (5, 3), (8, 2)),
}


def third_round(kernels, y, sets):
    """The three bands with several sets of cells."""
    yield "average", scores_of(*kernels.mean(sets["ten"]), y)
    for called, cells in LONGER.items():
        names = [name for name in sets["bands only"] if name[2:] in cells]
        yield called, scores_of(*kernels.mean(names), y)


def fixed(kernels, y, cells):
    """Single cells in natural units, C = 1."""
    for cell in cells:
        yield f"{cell} SVC", scores_of(kernels.train[cell], kernels.test[cell], y)


def stacks_of(X, band, sfreq, in_bands=IN_BANDS):
    """Covariances of all cells, and the sets of their names."""
    from scipy.signal import butter, sosfiltfilt

    from sklr.covariance import augmented_covariance
    from sklr.covariance._average import CELLS

    def possible(cells):
        return [c for c in cells if c[0] * c[1] < X.shape[2] // 2]

    ten = possible(CELLS)
    stacks = {c: augmented_covariance(X, *c, estimator="oas") for c in dict.fromkeys((*ten, *LONG))}
    sets = {
        "ten": ten, "long": list(LONG), "six": possible(SIX),
        "sixteen": list(dict.fromkeys((*ten, *LONG))),
    }  # fmt: skip
    for estimator in ("lwf", "cov"):
        sets[estimator] = [(estimator, *c) for c in ten]
        for c in ten:
            stacks[(estimator, *c)] = augmented_covariance(X, *c, estimator=estimator)
    edges = {"bands": np.geomspace(*band, 4), "octaves": sfreq / np.array([32, 16, 8, 4])}
    for called, edge in edges.items():
        names = []
        for low, high in zip(edge, edge[1:]):
            sos = butter(4, (low, min(high, 0.49 * sfreq)), "bandpass", fs=sfreq, output="sos")
            Y = sosfiltfilt(sos, X, axis=2)
            for c in in_bands:
                names.append((called, f"{low:.1f}", *c))
                stacks[names[-1]] = augmented_covariance(Y, *c, estimator="oas")
        sets[f"{called} only"], sets[called] = names, [*ten, *names]
    sets["sixteen + bands"] = [*sets["sixteen"], *sets["bands only"]]
    return stacks, sets


def accuracy(scores, y, classes):
    best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
    return np.mean(classes[best] == y)


def compare(units, band, sfreq, what=variants):
    """Print and return the mean difference of each variant from the average.

    `units` yields (X, y, groups of units and their splits).
    """
    from sklearn.metrics import roc_auc_score

    table = {}
    for X, y, splits in units:
        cells = set(sum(LONGER.values(), ())) if what is third_round else IN_BANDS
        stacks, sets = stacks_of(X, band, sfreq, sorted(cells))
        if what is third_round:
            stacks = {k: stacks[k] for k in (*sets["ten"], *sets["bands only"])}
        classes = np.unique(y)
        for folds in splits:  # a unit each
            unit = {}
            for train, test in folds:
                kernels = Kernels(stacks, train, test)
                found = list(what(kernels, y[train], sets))
                if what is variants:
                    found += fixed(kernels, y[train], sets["sixteen"])
                for name, scores in found:
                    value = (
                        roc_auc_score(y[test], scores)
                        if len(classes) == 2
                        else accuracy(scores, y[test], classes)
                    )
                    unit.setdefault(name, []).append(value)
            for name, values in unit.items():
                table.setdefault(name, []).append(np.mean(values))
    rows = []
    base = np.array(table["average"])
    for name, values in table.items():
        gain = np.array(values) - base
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        rows.append({"variant": name, "mean": np.mean(values), "gain": gain.mean(), "se": error})
        print(f"  {name:<26}{np.mean(values):6.3f}  {gain.mean():+.3f} +- {error:.3f}", flush=True)
    return rows


def repeated(X, y, n_repeats=2):
    from sklearn.model_selection import RepeatedStratifiedKFold

    cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=n_repeats, random_state=0)
    return list(cv.split(X, y))


def imagery(what=variants):
    """Real imagery."""
    if not os.environ.get("MNE_DATA"):
        return None
    data = [trials(9, subject)[:2] for subject in (1, 2, 4, 7)]
    return compare(((X, y, [repeated(X, y)]) for X, y in data), (8, 35), 160, what)


def flickering():
    from scipy.io import loadmat

    folder = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "eeg", "mamem-ssvep2")
    for subject in ("U001", "U002") if folder.is_dir() else ():
        content = loadmat(folder / f"{subject}.mat")
        yield content["x_test"], content["y_test"].ravel()


def flicker(what=variants):
    """Each session left out."""
    sessions = np.arange(500) // 100
    splits = [[(np.flatnonzero(sessions != s), np.flatnonzero(sessions == s))] for s in range(5)]
    return compare(((X, y, splits) for X, y in flickering()), (5, 45), 125, what)


def flicker_few(what=variants):
    """Within sessions, 60 trials to train on."""
    from sklearn.model_selection import StratifiedShuffleSplit

    def units():
        cv = StratifiedShuffleSplit(2, train_size=60, test_size=40, random_state=0)
        for X, y in flickering():
            for s in range(5):
                part = slice(100 * s, 100 * s + 100)
                yield X[part], y[part], [list(cv.split(X[part], y[part]))]

    return compare(units(), (5, 45), 125, what)


def simulated_flicker(what=variants):
    """`make_ssvep`."""
    from sklr.datasets import make_ssvep

    data = [make_ssvep(60, subject=s, random_state=0) for s in range(6)]
    return compare(((X, y, [repeated(X, y)]) for X, y in data), (5, 45), 128, what)


def simulated_imagery(what=variants):
    """`make_motor_imagery`."""
    from sklr.datasets import make_motor_imagery

    data = [make_motor_imagery(45, subject=s, band=(8, 35), random_state=0) for s in range(6)]
    return compare(((X, y, [repeated(X, y)]) for X, y in data), (8, 35), 160, what)


PARTS = (imagery, flicker_few, simulated_flicker, simulated_imagery, flicker)


def second():
    """The second round, on all data."""
    out = {}
    for part in PARTS:
        print(f" {part.__name__}")
        out[part.__name__] = part(second_round)
    return out


def third():
    """The third round, on flicker."""
    return {part.__name__: part(third_round) for part in (simulated_flicker, flicker_few, flicker)}


def sessions():
    """One session to train on, another to test on."""
    from sklr.covariance._tangent import tangent_vectors
    from sklr.geometry import mean_riemann

    table = {}
    for X, y in flickering():
        stacks, sets = stacks_of(X, (5, 45), 125)
        parts = [slice(100 * s, 100 * s + 100) for s in range(5)]
        vectors = {}
        for name in (*sets["ten"], *sets["bands only"]):
            matrices = [stacks[name][part] for part in parts]
            for mean in (lambda S: S.mean(axis=0), mean_riemann):
                points = [mean(S) for S in matrices]
                for i in range(5):
                    for j in range(5):
                        Z = tangent_vectors(matrices[j], points[i], "riemann", None)
                        vectors[name, mean is mean_riemann, i, j] = Z
        for i in range(5):
            for j in range(5):
                if i == j:
                    continue
                for called, names in (("ten", sets["ten"]), ("bands", sets["bands only"])):
                    for affine in (False, True):
                        for own in (False, True):
                            K = K_test = 0
                            for name in names:
                                Z = vectors[name, affine, i, i]
                                centre = Z.mean(axis=0)
                                Z = Z - centre
                                scale = np.einsum("ij,ij->i", Z, Z).mean()
                                T = vectors[name, affine, j if own else i, j]
                                T = T - (T.mean(axis=0) if own else centre)
                                K, K_test = K + Z @ Z.T / scale, K_test + T @ Z.T / scale
                            K, K_test = K / len(names), K_test / len(names)
                            C = chosen(K, y[parts[i]], "1 se")
                            found = scores_of(K, K_test, y[parts[i]], C)
                            key = f"{called}, {'affine' if affine else 'arithmetic'} mean"
                            key += ", recentred" if own else ""
                            value = accuracy(found, y[parts[j]], np.unique(y))
                            table.setdefault(key, []).append(value)
    base = np.array(table["ten, arithmetic mean"])
    rows = []
    for name, values in table.items():
        gain = np.array(values) - base
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        rows.append({"variant": name, "mean": np.mean(values), "gain": gain.mean(), "se": error})
        print(f"  {name:<34}{np.mean(values):6.3f}  {gain.mean():+.3f} +- {error:.3f}")
    return rows


def main(argv=None):
    """Print the tables."""
    warnings.simplefilter("ignore")
    parts = {part.__name__: part for part in PARTS}
    run_parts(__doc__, {**parts, "second": second, "third": third, "sessions": sessions}, argv)


if __name__ == "__main__":
    main()
