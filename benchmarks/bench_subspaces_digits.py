"""Digits by mixtures of subspaces or Gaussians, k-means, spectral clustering: accuracy, time.

    python benchmarks/bench_subspaces_digits.py [--json FILE]

No method is tuned; seeds 0 to 4 (three for the slow ones). The Gaussian mixture has full
covariances on 30 principal components.
"""

from _common import cpu, one_blas_thread, run_parts

one_blas_thread()

import numpy as np  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from sklearn.cluster import KMeans, SpectralClustering  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.metrics import confusion_matrix  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402

SEEDS = range(5)


def accuracy(y, labels):
    """Share of samples in the right cluster, under the best numbering."""
    table = confusion_matrix(y, labels)
    return float(table[linear_sum_assignment(-table)].sum() / len(y))


def digits():
    """Accuracy and CPU seconds, a row a method."""
    from sklr.cluster import DiffusionSubspaceClustering

    X, y = load_digits(return_X_y=True)
    small = PCA(30, random_state=0).fit_transform(X)
    methods = {
        "subspaces, 10 x 10": lambda s: DiffusionSubspaceClustering(10, 10, random_state=s).fit(X),
        "Gaussian mixture, 30 components": lambda s: GaussianMixture(10, random_state=s).fit(small),
        "k-means": lambda s: KMeans(10, n_init=10, random_state=s).fit(X),
        "spectral, 10 neighbours": lambda s: SpectralClustering(
            10, affinity="nearest_neighbors", n_neighbors=10, random_state=s
        ).fit(X),
    }
    found = {}
    for name, fit in methods.items():
        scores, times = [], []
        for seed in SEEDS if "mixture" in name else list(SEEDS)[:3]:
            seconds, model = cpu(lambda fit=fit, seed=seed: fit(seed))
            labels = model.labels_ if hasattr(model, "labels_") else model.predict(small)
            scores.append(accuracy(y, labels))
            times.append(seconds)
        found[name] = {"accuracy": scores, "seconds": times}
        each = " ".join(f"{s:.3f}" for s in scores)
        print(f"{name:32s} {np.mean(scores):.3f} ({each}) {np.median(times):.2f} s", flush=True)
    return found


def tables():
    """Adjusted Rand index on ordinary tables, no parameter but the number of clusters."""
    from sklearn.datasets import load_breast_cancer, load_iris, load_wine
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler

    from sklr.cluster import DiffusionSubspaceClustering

    methods = {
        "subspaces": DiffusionSubspaceClustering,
        "through the origin": lambda k, **o: DiffusionSubspaceClustering(k, center=False, **o),
        "k-means": lambda k, **o: KMeans(k, n_init=10, **o),
        "Gaussian mixture": GaussianMixture,
    }
    found = {}
    for load in (load_iris, load_wine, load_breast_cancer, load_digits):
        for scaled in (False, True):
            X, y = load(return_X_y=True)
            if scaled:
                X = StandardScaler().fit_transform(X)
            row = {
                name: float(
                    np.mean(
                        [
                            adjusted_rand_score(y, make(len(set(y)), random_state=s).fit_predict(X))
                            for s in range(3)
                        ]
                    )
                )
                for name, make in methods.items()
            }
            found[f"{load.__name__[5:]}{', standardised' * scaled}"] = row
            print(load.__name__[5:], "standardised" * scaled, row, flush=True)
    return found


def main(argv=None):
    run_parts(__doc__, {"digits": digits, "tables": tables}, argv)


if __name__ == "__main__":
    main()
