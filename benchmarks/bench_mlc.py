"""Manifold linearizing and clustering against k-means and spectral clustering.

Digits: scikit-learn's 1797 images of 8 x 8; accuracy by the best matching of clusters to digits,
three seeds, and labels of a half that was not trained on. Toys: two moons, a double spiral, three
circles in 50 dimensions. Growth: CPU seconds and peak memory with the number of digits of MNIST,
beside the products of all epochs.
"""

import os
import pathlib
import resource
import statistics
import time

from _common import flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from scipy.optimize import linear_sum_assignment  # noqa: E402
from sklearn.cluster import KMeans, SpectralClustering  # noqa: E402
from sklearn.datasets import load_digits, make_moons  # noqa: E402
from sklearn.metrics import normalized_mutual_info_score  # noqa: E402

from sklr.neural_network import ManifoldLinearizingClustering  # noqa: E402
from sklr.nn import GaussianNoise, RandomAffine2d  # noqa: E402


def accuracy(y, labels):
    """Share of samples that agree under the best matching of clusters to classes."""
    table = np.zeros((labels.max() + 1, y.max() + 1))
    np.add.at(table, (labels, y), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(y))


def jitter(side):
    """Return small affine maps and noise for flat images."""
    affine = RandomAffine2d(15, (0.75, 1.25), 0.25, 0.1, (1, 1), image_shape=(1, side, side))
    noise = GaussianNoise(0.05)
    return lambda batch, generator: noise(affine(batch, generator), generator)


def row(name, seed, y, labels, began, **more):
    found = {
        "method": name, "seed": seed, "accuracy": accuracy(y, labels),
        "nmi": float(normalized_mutual_info_score(y, labels)),
        "seconds": time.perf_counter() - began, **more,
    }  # fmt: skip
    print(
        f"{seed:4d} {name:<34}{found['accuracy']:9.3f}{found['nmi']:7.3f}{found['seconds']:8.1f}"
        + "".join(f"  {key} {value}" for key, value in more.items()),
        flush=True,
    )
    return found


def print_means(rows):
    for name in dict.fromkeys(r["method"] for r in rows):
        some = [r for r in rows if r["method"] == name]
        print(
            f"mean {name:<34}{statistics.mean(r['accuracy'] for r in some):9.3f}"
            f"{statistics.mean(r['nmi'] for r in some):7.3f}"
        )


def bench_digits(seeds):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    rows = []
    print(f"seed {'method':<34}{'accuracy':>9}{'nmi':>7}{'s':>8}")
    for seed in seeds:
        began = time.perf_counter()
        rows.append(
            row("k-means", seed, y, KMeans(10, n_init=10, random_state=seed).fit_predict(X), began)
        )
        for affinity in ("rbf", "nearest_neighbors"):
            began = time.perf_counter()
            spectral = SpectralClustering(10, affinity=affinity, random_state=seed)
            rows.append(row(f"spectral, {affinity}", seed, y, spectral.fit_predict(X), began))
        began = time.perf_counter()
        model = ManifoldLinearizingClustering(10, augment=jitter(8), random_state=seed).fit(X)
        rows.append(row("ours, 10 clusters", seed, y, model.labels_, began))
        began = time.perf_counter()
        on_features = KMeans(10, n_init=10, random_state=seed).fit_predict(model.embedding_)
        rows.append(row("k-means on our features", seed, y, on_features, began))
        began = time.perf_counter()
        spectral = SpectralClustering(10, affinity="nearest_neighbors", random_state=seed)
        rows.append(
            row("spectral on our features", seed, y, spectral.fit_predict(model.embedding_), began)
        )
        model.set_params(n_clusters=None)._label(X)
        rows.append(
            row("ours, number chosen", seed, y, model.labels_, began, clusters=model.n_clusters_)
        )
        began = time.perf_counter()
        half = ManifoldLinearizingClustering(10, augment=jitter(8), random_state=seed)
        labels = half.fit(X[::2]).predict(X[1::2])
        rows.append(row("ours, predict the other half", seed, y[1::2], labels, began))
    print_means(rows)
    return rows


def toys():
    rng = np.random.default_rng(0)
    X, y = make_moons(600, noise=0.06, random_state=0)
    yield "two moons", X, y
    t = np.sqrt(rng.random(300)) * 2.5 * np.pi
    arm = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 5
    X = np.concatenate([arm, -arm]) + 0.03 * rng.standard_normal((600, 2))
    yield "double spiral", X, np.repeat([0, 1], 300)
    angle = rng.random(600) * 2 * np.pi
    y = np.repeat([0, 1, 2], 200)
    X = 0.05 * rng.standard_normal((600, 50))
    for k in range(3):  # circles in planes that share an axis with the next
        X[y == k, k] += np.cos(angle[y == k])
        X[y == k, k + 1] += np.sin(angle[y == k])
    yield "three circles, 50-D", X, y


def bench_toys(seeds):
    rows = []
    for name, X, y in toys():
        number = y.max() + 1
        print(name)
        for seed in seeds:
            began = time.perf_counter()
            labels = KMeans(number, n_init=10, random_state=seed).fit_predict(X)
            rows.append(row("k-means", seed, y, labels, began) | {"data": name})
            began = time.perf_counter()
            spectral = SpectralClustering(number, affinity="nearest_neighbors", random_state=seed)
            rows.append(row("spectral, nearest_neighbors", seed, y, spectral.fit_predict(X), began))
            rows[-1]["data"] = name
            began = time.perf_counter()
            model = ManifoldLinearizingClustering(
                number, 32, hidden_dim=256, augment="gaussian", random_state=seed
            )
            rows.append(row("ours", seed, y, model.fit_predict(X), began) | {"data": name})
    return rows


def bench_growth(sizes):
    folder = os.environ.get("SKLR_TEST_DATA")
    path = pathlib.Path(folder or ".") / "images" / "mnist4k.npz"
    if not path.is_file():
        print("growth: skipped, SKLR_TEST_DATA has no images/mnist4k.npz")
        return []
    with np.load(path) as file:
        X, y = file["X"].astype(np.float32) / 255, file["y"].astype(int)
    X = X.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)

    def products(n, **epochs):
        model = ManifoldLinearizingClustering(10, augment=jitter(14), random_state=0, **epochs)
        return flops_of(lambda: model.fit(X[:n]))

    rows = []
    for n in sizes:
        began, cpu = time.perf_counter(), time.process_time()
        model = ManifoldLinearizingClustering(10, augment=jitter(14), random_state=0)
        labels = model.fit_predict(X[:n])
        cpu = time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
        rows.append(
            row("ours, MNIST 14 x 14", 0, y[:n], labels, began, n=n, peak_MiB=peak, cpu=cpu)
        )
        # An epoch of each kind is as long as any other of its kind.
        least = products(n, warmup_iter=1, max_iter=1)
        warm = products(n, warmup_iter=2, max_iter=1) - least
        later = products(n, warmup_iter=1, max_iter=2) - least
        work = least + (model.warmup_iter - 1) * warm + (model.max_iter - 1) * later
        rows[-1] |= share_of_limit(cpu, flops32=work)
        began = time.perf_counter()
        labels = KMeans(10, n_init=10, random_state=0).fit_predict(X[:n])
        rows.append(row("k-means, MNIST 14 x 14", 0, y[:n], labels, began, n=n))
    return rows


def options(parser):
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])


def one_thread(_):
    torch.set_num_threads(1)
    return {"torch": torch.__version__, "threads": 1}


def main(argv=None):
    """Print a table for each part."""
    parts = {"digits": bench_digits, "toys": bench_toys, "growth": bench_growth}
    run_parts(__doc__, parts, argv, options, one_thread)


if __name__ == "__main__":
    main()
