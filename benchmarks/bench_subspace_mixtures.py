"""Mixtures of low-rank Gaussians: recovery, time and digits beside scikit-learn's clusterings.

Settings were decided before looking: defaults everywhere, dimensions and numbers of clusters as
given; one thread for everybody; every method gets the same seeds.
"""

import os
import pathlib
import statistics
import warnings

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from sklearn.cluster import KMeans, SpectralClustering  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

warnings.simplefilter("ignore")  # mixtures that do not converge are seen in the table


def ours(n_clusters, dim, seed=0, **params):
    from sklr.cluster import DiffusionSubspaceClustering

    return DiffusionSubspaceClustering(n_clusters, dim, random_state=seed, **params)


def accuracy(y, labels):
    table = np.zeros((y.max() + 1, labels.max() + 1))
    np.add.at(table, (y, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(y))


def bench_transition(n_seeds=8):
    """Seeds of 8 in which labels (and for ours the subspaces) are found, around N_k = d."""
    from sklr.datasets import make_molrg

    rows = []
    for n_clusters, dim in ((2, 7), (3, 6)):
        for orthogonal in (True, False):
            for n_each in (dim - 1, dim, dim + 1, dim + 3):
                found = dict.fromkeys(
                    ("ours bases", "ours labels", "mixture", "k-means", "spectral"), 0
                )
                for seed in range(n_seeds):
                    X, y, bases = make_molrg(
                        [n_each] * n_clusters, 48, n_clusters, dim, orthogonal=orthogonal,
                        random_state=seed, return_bases=True,
                    )  # fmt: skip
                    model = ours(n_clusters, dim, seed).fit(X)
                    P = [b.T @ b for b in model.components_]
                    error = max(min(np.linalg.norm(p - b.T @ b) for p in P) for b in bases)
                    found["ours bases"] += int(error < 1e-6)
                    peers = {
                        "ours labels": model.labels_,
                        "mixture": GaussianMixture(n_clusters, random_state=seed).fit_predict(X),
                        "k-means": KMeans(n_clusters, random_state=seed).fit_predict(X),
                        "spectral": SpectralClustering(n_clusters, random_state=seed).fit_predict(
                            X
                        ),
                    }
                    for name, labels in peers.items():
                        found[name] += int(adjusted_rand_score(y, labels) == 1.0)
                rows.append((n_clusters, dim, orthogonal, n_each, found))
                kind = "orthogonal" if orthogonal else "independent"
                print(f"K={n_clusters} d={dim} {kind:<12} N_k={n_each:2d}: {found}")
    return rows


def bench_noise():
    """Error of projectors and accuracy with noise: N_k = 60, d = 6, K = 3, 48 features."""
    from sklr.datasets import make_molrg

    rows = []
    for noise in (0.1, 0.3):
        errors, scores = [], []
        for seed in range(8):
            X, y, bases = make_molrg(
                [60] * 3, 48, 3, 6, noise=noise, random_state=seed, return_bases=True
            )
            model = ours(3, 6, seed).fit(X)
            P = [b.T @ b for b in model.components_]
            errors.append(np.mean([min(np.sum((p - b.T @ b) ** 2) / 12 for p in P) for b in bases]))
            scores.append(accuracy(y, model.labels_))
        rows.append((noise, float(np.mean(errors)), float(np.mean(scores))))
        print(f"noise {noise}: |P - P_true|^2 / 2d {np.mean(errors):.3f}, accuracy "
              f"{np.mean(scores):.3f}")  # fmt: skip
    return rows


def bench_speed(repeats=5):
    """Seconds of a fit at 5000 samples of 500 features, noise 0.1; growth with both."""
    from sklr.datasets import make_molrg

    rows = []
    for n_clusters, dim in ((2, 7), (5, 8), (10, 10)):
        X, y = make_molrg(5000, 500, n_clusters, dim, orthogonal=False, noise=0.1, random_state=0)
        ours(n_clusters, dim).fit(X[:300])
        a, model = cpu(lambda: ours(n_clusters, dim).fit(X), repeats)
        b, peer = cpu(lambda: GaussianMixture(n_clusters, random_state=0).fit(X), 1)
        scores = [adjusted_rand_score(y, labels) for labels in (model.labels_, peer.predict(X))]
        # What no fit does without: all inner products, and passes over the rows with all bases.
        B = np.ones((500, n_clusters * dim))
        limit, _ = cpu(lambda: (X.T @ X, [X @ B for _ in range(4)]), repeats)  # noqa: B023
        rows.append((n_clusters, dim, a, b, *scores, limit, limit / a))
        print(f"K={n_clusters} d={dim}: ours {a:.3f} s (Rand index {scores[0]:.3f}), mixture "
              f"{b:.2f} s, {peer.n_iter_} steps (Rand index {scores[1]:.3f}): {b / a:.1f} x; "
              f"X'X and four passes alone {limit:.3f} s ({limit / a:.0%})",
              flush=True)  # fmt: skip
    growth = []
    for n, p in ((1000, 100), (2000, 100), (4000, 100), (8000, 100), (16000, 100), (32000, 100),
                 (4000, 200), (4000, 400), (4000, 800)):  # fmt: skip
        X, y = make_molrg(n, p, 5, 8, orthogonal=False, noise=0.1, random_state=0)
        a, model = cpu(lambda: ours(5, 8).fit(X), 3)
        limit = share_of_limit(a, flops=2 * n * p * p + 4 * 2 * n * p * 40)
        growth.append((n, p, a, adjusted_rand_score(y, model.labels_), *limit.values()))
        print(f"N={n:6d} p={p:4d}: {a:.3f} s, Rand index {growth[-1][3]:.3f}")
    return {"peer": rows, "growth": growth}


def bench_digits():
    """Accuracy on scikit-learn's digits, 10 clusters, pixels divided by 16."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    rows = []
    for name, make in {
        **{f"ours, d={d}": lambda s, d=d: ours(10, d, s) for d in (4, 6, 8, 10)},
        "ours, d=8, centred": lambda s: ours(10, 8, s, center=True),
        "ours, d=8, soft": lambda s: ours(10, 8, s, soft=True),
        "k-means": lambda s: KMeans(10, n_init=10, random_state=s),
        "spectral, RBF": lambda s: SpectralClustering(10, random_state=s),
        "spectral, 10 neighbours": lambda s: SpectralClustering(
            10, affinity="nearest_neighbors", random_state=s
        ),
        "mixture (full)": lambda s: GaussianMixture(10, random_state=s),
        "mixture, 30 components": lambda s: make_pipeline(
            PCA(30, random_state=0), GaussianMixture(10, random_state=s)
        ),
    }.items():
        scores, times = [], []
        for seed in range(3):
            seconds, labels = cpu(lambda: make(seed).fit_predict(X), 1)
            scores.append(accuracy(y, labels))
            times.append(seconds)
        rows.append((name, scores, statistics.median(times)))
        print(f"{name:<32} accuracy {np.mean(scores):.3f} (from {min(scores):.3f} to "
              f"{max(scores):.3f}), {rows[-1][2]:.2f} s", flush=True)  # fmt: skip
    return rows


def bench_images(n=2000):
    """CPU seconds on MNIST images, 10 clusters of dimension 10, against spectral clustering."""
    path = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "images", "mnist4k.npz")
    if not path.is_file():
        print("skipped: SKLR_TEST_DATA has no images/mnist4k.npz")
        return None
    with np.load(path) as file:
        X, y = file["X"][:n].reshape(n, -1) / 255.0, file["y"][:n].astype(int)
    # All inner products of samples, as both sides need them, and four passes with all bases.
    work = 2 * n * n * X.shape[1] + 4 * 2 * n * X.shape[1] * 100
    rows = []
    for name, make in {
        "ours": lambda: ours(10, 10),
        "spectral, 10 neighbours": lambda: SpectralClustering(
            10, affinity="nearest_neighbors", random_state=0
        ),
        "spectral, RBF": lambda: SpectralClustering(10, random_state=0),
    }.items():
        seconds, labels = cpu(lambda: make().fit_predict(X), 3)  # noqa: B023
        rows.append({"method": name, "n": n, "seconds": seconds, "accuracy": accuracy(y, labels)})
        if name == "ours":
            rows[-1] |= share_of_limit(seconds, flops=work)
        print(rows[-1], flush=True)
    return rows


def main(argv=None):
    """Run the parts and print their tables."""
    parts = {"transition": bench_transition, "noise": bench_noise, "speed": bench_speed,
             "digits": bench_digits, "images": bench_images}  # fmt: skip
    run_parts(__doc__, parts, argv)


if __name__ == "__main__":
    main()
