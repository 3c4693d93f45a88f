"""Filling in tables: LowRankImputer without parameters beside tuned peers, one thread each.

    python benchmarks/bench_imputer.py [--parts accuracy speed large] [--json FILE]

`accuracy`: seven tables, four patterns of holes (a fifth of the values), two seeds. Error is the
root mean square at the holes over the standard deviations of the columns. KNNImputer and
IterativeImputer stand behind a StandardScaler, as their users have them, and are tuned on a tenth
of the known entries, set aside; LowRankImputer gets the raw table and no parameters. Beside it the
accuracy (diabetes: R2) of a linear model, five folds on the filled table, where there is a target.
`speed`: a fit of each, CPU seconds. `large`: 1,000,000 x 50, ours alone.
Tables, patterns, seeds, sizes and grids were fixed before anything was run. star98 and anes96 are
read from the files of statsmodels and skipped without it. Parts that are not run are kept.
"""

import importlib.util
import pathlib
import time
import warnings

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
from sklearn import datasets  # noqa: E402
from sklearn.experimental import enable_iterative_imputer  # noqa: E402, F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, RidgeCV  # noqa: E402
from sklearn.model_selection import cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from sklr.decomposition import LowRankImputer  # noqa: E402

SEEDS, SHARE = (0, 1), 0.2
PATTERNS = ("MCAR", "MAR", "MNAR", "blocks")
KNN = [{"n_neighbors": k, "weights": w} for k in (5, 10, 20) for w in ("uniform", "distance")]
ITERATIVE = [{}, {"n_nearest_features": 8}]
SIZES = ((150, 4), (178, 13), (442, 10), (569, 30), (400, 60), (2000, 30), (500, 100))


def _of_statsmodels(name, separator):
    spec = importlib.util.find_spec("statsmodels")
    if spec is None:
        return None
    path = pathlib.Path(spec.submodule_search_locations[0]) / "datasets" / name / f"{name}.csv"
    return np.genfromtxt(path, delimiter=separator, skip_header=1)


def tables():
    """Name -> (X, y); y is None where nobody predicts anything."""
    found = {}
    for name in ("wine", "breast_cancer", "diabetes", "iris"):
        data = getattr(datasets, f"load_{name}")()
        found[name] = data.data, data.target
    data = datasets.load_digits()
    some = np.random.default_rng(0).permutation(len(data.data))[:400]
    found["digits"] = data.data[some], data.target[some]
    for name, separator in (("star98", ","), ("anes96", None)):
        X = _of_statsmodels(name, separator)
        if X is not None:
            found[name] = X[~np.isnan(X).any(axis=1)], None
    return {name: (X[:, X.std(axis=0) > 0], y) for name, (X, y) in found.items()}


def holes(X, pattern, rng):
    """Which values are hidden; each row and each column keeps some."""
    n, p = X.shape
    ranks = X.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable") / n
    if pattern == "MCAR":
        hidden = rng.random((n, p)) < SHARE
    elif pattern == "MAR":  # more often where another column, itself complete, is large
        hidden = np.zeros((n, p), dtype=bool)
        order = rng.permutation(p)
        causes, others = order[: max(1, p // 4)], order[max(1, p // 4) :]
        for j in others:
            chance = 2 * SHARE * p / len(others) * ranks[:, rng.choice(causes)]
            hidden[:, j] = rng.random(n) < chance
    elif pattern == "MNAR":  # more often where the value itself is large
        hidden = rng.random((n, p)) < 2 * SHARE * ranks
    else:  # a tenth of the rows lack a third of the columns, and again
        hidden = np.zeros((n, p), dtype=bool)
        while hidden.mean() < SHARE:
            rows = rng.choice(n, n // 10, replace=False)
            hidden[np.ix_(rows, rng.permutation(p)[: max(1, p // 3)])] = True
    hidden[hidden.all(axis=1), rng.integers(p)] = False
    for j in range(p):  # nothing to learn from a column that is constant
        seen = X[~hidden[:, j], j]
        if len(seen) == 0 or seen.min() == seen.max():
            hidden[:, j] = False
    return hidden


def error(filled, X, hidden):
    return float(np.sqrt(np.mean(((filled - X) / X.std(axis=0))[hidden] ** 2)))


def tuned(cls, grid, given, seed):
    """Filled table of the setting that is best on known entries set aside, in original units."""
    rng = np.random.default_rng(1000 + seed)
    aside = ~np.isnan(given) & (rng.random(given.shape) < 0.1)
    rest = np.where(aside, np.nan, given)
    scale = np.nanstd(given, axis=0)
    extra = {"random_state": 0, "max_iter": 10} if cls is IterativeImputer else {}

    def fill(options, X):
        scaler = StandardScaler().fit(X)
        imputer = cls(keep_empty_features=True, **extra, **options)
        return scaler.inverse_transform(imputer.fit_transform(scaler.transform(X)))

    errors = [np.mean(((fill(o, rest) - given) / scale)[aside] ** 2) for o in grid]
    return fill(grid[int(np.argmin(errors))], given)


def downstream(filled, y, name):
    model = RidgeCV() if name == "diabetes" else LogisticRegression(max_iter=2000)
    return float(cross_val_score(make_pipeline(StandardScaler(), model), filled, y, cv=5).mean())


def accuracy():
    rows = {}
    for name, (X, y) in tables().items():
        for pattern in PATTERNS:
            cell = {}
            for seed in SEEDS:
                rng = np.random.default_rng([seed, PATTERNS.index(pattern)])
                hidden = holes(X, pattern, rng)
                given = np.where(hidden, np.nan, X)
                filled = {
                    "mean": SimpleImputer().fit_transform(given),
                    "knn": tuned(KNNImputer, KNN, given, seed),
                    "iterative": tuned(IterativeImputer, ITERATIVE, given, seed),
                    "ours": LowRankImputer().fit_transform(given),
                }
                for who, Z in filled.items():
                    found = cell.setdefault(who, {"error": [], "downstream": []})
                    found["error"].append(error(Z, X, hidden))
                    if y is not None:
                        found["downstream"].append(downstream(Z, y, name))
            rows[f"{name} {pattern}"] = cell
            mean = {who: float(np.mean(v["error"])) for who, v in cell.items()}
            after = {who: float(np.mean(v["downstream"] or [np.nan])) for who, v in cell.items()}
            best = min(mean["knn"], mean["iterative"])
            words = "  ".join(f"{who} {mean[who]:.3f}/{after[who]:.3f}" for who in cell)
            print(f"{name:14}{pattern:7} {words}  ours/best {mean['ours'] / best:.3f}", flush=True)
    return rows


def low_rank(n, p, rng):
    k = max(1, min(8, p // 3))
    X = rng.standard_normal((n, k)) @ rng.standard_normal((k, p))
    X += 0.7 * X.std() * rng.standard_normal(X.shape)
    return np.where(rng.random(X.shape) < SHARE, np.nan, X)


def limit_of(X, seconds, model):
    """The sweeps of the last fit alone: see bench_completion; the search comes before it."""
    entries, k = np.count_nonzero(~np.isnan(X)), model.components_.shape[0]
    return share_of_limit(seconds, flops=2 * model.n_iter_ * entries * 16 * k)


def speed():
    rows = []
    for n, p in SIZES:
        X = low_rank(n, p, np.random.default_rng(0))
        LowRankImputer().fit(X)  # what is loaded once
        ours, model = cpu(lambda X=X: LowRankImputer().fit(X), 3 if n * p < 20_000 else 1)
        iterative = IterativeImputer(max_iter=10, tol=0, random_state=0)
        peer = cpu(lambda X=X, i=iterative: i.fit(X), 3 if n * p < 5000 else 1)[0]
        rows.append({"shape": [n, p], "ours": ours, "iterative": peer, "ratio": peer / ours,
                     **limit_of(X, ours, model)})  # fmt: skip
        print(f"{n} x {p}: ours {ours:.2f} s, IterativeImputer {peer:.2f} s, {peer / ours:.2f} x")
    X = low_rank(2000, 200, np.random.default_rng(0))
    ours, model = cpu(lambda: LowRankImputer().fit(X))
    # One round instead of ten, times ten.
    peer = 10 * cpu(lambda: IterativeImputer(max_iter=1, random_state=0).fit(X))[0]
    rows.append({"shape": [2000, 200], "ours": ours, "iterative": peer, "ratio": peer / ours,
                 **limit_of(X, ours, model)})  # fmt: skip
    print(f"2000 x 200: ours {ours:.1f} s, IterativeImputer {peer:.0f} s (10 x one round)")
    return rows


def large():
    rows = []
    for n in (100_000, 1_000_000):
        X = low_rank(n, 50, np.random.default_rng(0))
        fit, imputer = cpu(lambda X=X: LowRankImputer().fit(X))
        start = time.process_time()
        imputer.transform(X)
        rows.append({"rows": n, "fit": fit, "transform": time.process_time() - start,
                     **limit_of(X, fit, imputer)})  # fmt: skip
        print(f"{n} x 50: {rows[-1]}", flush=True)
    return rows


def main(argv=None):
    run_parts(
        __doc__,
        {"accuracy": accuracy, "speed": speed, "large": large},
        argv,
        before=lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    main()
