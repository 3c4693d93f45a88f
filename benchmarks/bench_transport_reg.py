"""Which default regularisation: accuracy after adaptation over sets and shifts, in their own units.

    python benchmarks/bench_transport_reg.py [--json FILE]

Sets, shifts, seeds and rules were written down before looking; the medians and the sets named HARD
were added after the first look, since outliers spoil the other scales. Scale: the largest cost, the
mean cost, the median of the rows' medians, that within the target (which does not know how far
apart the domains are), or the target's own neighbourhood (the median cost between a target sample
and its k-th nearest other one). A third of the samples is mapped onto a shifted third; a classifier
by 5 neighbours is fitted on the mapped samples and scored on the fitted and on new target samples.
Beside: no adaptation, and `ot.da.EMDTransport` where POT is installed. No row has seconds, so that
none has a share of a limit; `bench_growth.py` times the map.
"""

from _common import one_blas_thread, run_parts

one_blas_thread()

import numpy as np  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_moons,
)
from sklearn.metrics import pairwise_distances  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

TUNE = ("digits", "wine", "moons", "blobs10")
TEST = ("breast", "iris", "blobs30", "digits pca")
# Added after the first look as well: rare pixels with large standard scores, and gross errors.
HARD = ("digits standardised", "wine, 3 errors", "digits pca, 3 errors")
SHIFTS = ("offset", "stretch", "rotate")
# Digits from a scanner with a ramp of grey, which lie far from the old ones: added with HARD.
RAMPS = ("ramp", "steep ramp")
SEEDS = (0, 1)
RULES = {
    **{f"max {r:g}": ("max", r) for r in (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4)},
    **{f"mean {r:g}": ("mean", r) for r in (1e-1, 3e-2, 1e-2, 3e-3)},
    **{f"median {r:g}": ("median", r) for r in (3e-1, 1e-1, 3e-2)},
    **{f"target {r:g}": ("target", r) for r in (3e-1, 1e-1, 3e-2)},
    **{f"nn{k} {r:g}": (k, r) for k in (1, 5) for r in (1.0, 0.3, 0.1, 0.03)},
}


def data(name, seed):
    """Return at most 600 samples and their classes."""
    errors, name = "errors" in name, name.split(",")[0]
    standardised, name = "standardised" in name, name.split(" standardised")[0]
    if name in ("digits", "digits pca"):
        X, y = load_digits(return_X_y=True)
        if name == "digits pca":
            from sklearn.decomposition import PCA

            X = PCA(20, random_state=0).fit_transform(X)
    elif name == "moons":
        X, y = make_moons(500, noise=0.1, random_state=seed)
    elif name.startswith("blobs"):
        d = int(name[5:])
        X, y = make_classification(
            600, d, n_informative=d // 2, n_redundant=0, n_classes=4, class_sep=2.0,
            n_clusters_per_class=1, random_state=seed,
        )  # fmt: skip
    else:
        load = {"wine": load_wine, "breast": load_breast_cancer, "iris": load_iris}[name]
        X, y = load(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(X))[:600]
    X = X[rows].astype(float)
    X = X / 16 if name == "digits" and not standardised else StandardScaler().fit_transform(X)
    if errors:
        X[np.random.default_rng(0).choice(len(X), 3, replace=False)] *= 10
    return X, y[rows]


def shifted(X, shift, rng):
    """Return the samples as another machine would give them."""
    d = X.shape[1]
    if shift == "offset":
        return X + X.std() * rng.standard_normal(d) + 0.1 * X.std() * rng.standard_normal(X.shape)
    if shift == "stretch":
        return X * np.exp(0.4 * rng.standard_normal(d)) + 0.3 * X.std()
    if "ramp" in shift:
        contrast, slope = (0.25, 1.5) if "steep" in shift else (0.5, 1.0)
        grey = contrast * X.reshape(-1, 8, 8) + slope * np.linspace(0, 1, 8)
        return grey.reshape(len(X), 64) + 0.05 * rng.standard_normal(X.shape)
    turn = np.eye(d)
    for i in range(0, d - 1, 2):
        c, s = np.cos(0.5), np.sin(0.5)
        turn[i : i + 2, i : i + 2] = [[c, -s], [s, c]]
    return X @ turn + 0.1 * X.std() * rng.standard_normal(X.shape)


def scale_of(rule, X, Z):
    """Return the scale of the costs that a rule goes by."""
    if rule == "target":
        return float(np.median(np.median(pairwise_distances(Z, metric="sqeuclidean"), axis=1)))
    if rule == "median":
        return float(np.median(np.median(pairwise_distances(X, Z, metric="sqeuclidean"), axis=1)))
    if rule in ("max", "mean"):
        C = pairwise_distances(X, Z, metric="sqeuclidean")
        return float(getattr(C, rule)())
    C = np.sort(pairwise_distances(Z, metric="sqeuclidean"), axis=1)
    return float(np.median(C[:, rule]))


def accuracy(X, labels, Z, truth):
    return KNeighborsClassifier(5).fit(X, labels).score(Z, truth)


def cell(name, shift, seed):
    """Return accuracies (fitted target, new target) of every rule."""
    from sklr.transport import EntropicTransport

    rng = np.random.default_rng(1000 + seed)
    X, y = data(name, seed)
    part = rng.permutation(len(X)) % 3
    source, labels = X[part == 0], y[part == 0]
    moved = shifted(X, shift, np.random.default_rng(seed))
    fitted, new = (moved[part == k] for k in (1, 2))
    truths = y[part == 1], y[part == 2]

    def both(mapped):
        pairs = ((fitted, truths[0]), (new, truths[1]))
        return [accuracy(mapped, labels, Z, truth) for Z, truth in pairs]

    out = {"none": both(source)}
    for label, (rule, r) in RULES.items():
        reg = r * scale_of(rule, source, fitted)
        mapping = EntropicTransport(reg, cost_norm=None, tol=1e-6, max_iter=200)
        out[label] = both(mapping.fit(source, X_target=fitted).transform(source))
    try:
        import ot
    except ImportError:
        return out
    out["POT emd"] = both(ot.da.EMDTransport().fit(Xs=source, Xt=fitted).transform(Xs=source))
    return out


def accuracies():
    """Mean accuracy of each rule on both groups of sets."""
    found = {
        f"{name}/{shift}/{seed}": cell(name, shift, seed)
        for name in (*TUNE, *TEST, *HARD)
        for shift in SHIFTS
        for seed in SEEDS
    }
    found |= {
        f"ramps/{shift}/{seed}": cell("digits", shift, seed) for shift in RAMPS for seed in SEEDS
    }
    rules = list(next(iter(found.values())))
    heads = " ".join(f"{head:>6s}" for head in ("tune", "test", "hard", "ramps"))
    print(f"{'rule':12s} {heads}   by set: {(*TUNE, *TEST, *HARD)}")
    for rule in rules:
        by_set = [
            np.mean([v[rule] for k, v in found.items() if k.split("/")[0] == name])
            for name in (*TUNE, *TEST, *HARD, "ramps")
        ]
        parts = [np.mean(by_set[i:j]) for i, j in ((0, 4), (4, 8), (8, 11), (11, 12))]
        means, each = (" ".join(f"{v:6.3f}" for v in values) for values in (parts, by_set))
        print(f"{rule:12s} {means}   {each}")
    return found


def main(argv=None):
    run_parts(__doc__, {"accuracy": accuracies}, argv)


if __name__ == "__main__":
    main()
