"""Growth of each family: CPU seconds against samples, against dimension, and on two threads.

    python benchmarks/bench_growth.py [--parts NAME ...] [--json FILE]

Sizes double or quadruple from small ones; data are simulated, seed 0, one BLAS thread. Each size is
the least of `--repeats` runs after one that compiles. Of two threads the table has what a free
second core could bring: work in the caller's own thread is serial, the rest is shared. Where time
grows steeper than the work, the size where data leave the caches is the cause to look for first:
what the machine gathers and copies is measured in the run, and in the file.
"""

import time
import warnings
from functools import partial

from _common import one_blas_thread, run_parts

one_blas_thread()

import numpy as np  # noqa: E402


def rng(seed=0):
    return np.random.default_rng(seed)


def spd(n_matrices, n):
    A = rng().standard_normal((n_matrices, n, 2 * n))
    return A @ A.transpose(0, 2, 1) / (2 * n)


# A family takes a size and a dimension, and returns what is timed for a number of threads.


def augmented_covariance(n, d):
    """Trials of 300 samples; channels. Order 3, lag 2."""
    from sklr.covariance import AugmentedCovariance

    X = rng().standard_normal((n, d, 300))
    return lambda n_jobs: AugmentedCovariance(3, 2, n_jobs=n_jobs).fit_transform(X)


def tangent_space(n, d):
    """Matrices; their rows. Mean and map."""
    from sklr.covariance import TangentSpace

    X = spd(n, d)
    return lambda n_jobs: TangentSpace(n_jobs=n_jobs).fit_transform(X)


def mdop(n, d):
    """Samples of four trials; channels."""
    from sklr.covariance import select_embedding

    X = np.stack([[np.convolve(x, np.hanning(9), "same") for x in trial]
                  for trial in rng().standard_normal((4, d, n))])  # fmt: skip
    return lambda n_jobs: select_embedding(X, n_jobs=n_jobs)


def imputer(n, d):
    """Rows; columns. Rank 5, a fifth missing."""
    from sklr.decomposition import LowRankImputer

    X = rng().standard_normal((n, 5)) @ rng(1).standard_normal((5, d))
    X += 0.1 * rng(2).standard_normal(X.shape)
    X[rng(3).random(X.shape) < 0.2] = np.nan
    return lambda n_jobs: LowRankImputer(5, random_state=0, n_jobs=n_jobs).fit_transform(X)


def factorization(n, d):
    """Ratings of n / 20 users and n / 40 items; factors. Ten sweeps."""
    from sklr.decomposition import MatrixFactorizationRegressor

    X = np.stack([rng().integers(n // 20, size=n), rng(1).integers(n // 40, size=n)], axis=1)
    y = rng(2).standard_normal(n)
    return lambda n_jobs: MatrixFactorizationRegressor(
        d, max_iter=10, tol=0.0, alpha=1.0, random_state=0, n_jobs=n_jobs
    ).fit(X, y)


def matrix_sensing(n, d):
    """Samples; rows and columns of the matrix. Rank 2."""
    from sklr.decomposition import MatrixSensingRegressor

    A = rng().standard_normal((n, d, d))
    M = rng(1).standard_normal((d, 2)) @ rng(2).standard_normal((2, d))
    y = np.einsum("nij,ij->n", A, M)
    return lambda n_jobs: MatrixSensingRegressor(2, random_state=0).fit(A, y)


def functional_tucker(n, d):
    """Samples; columns. Two functions each, ten sweeps."""
    from sklr.decomposition import FunctionalTuckerRegressor

    X = rng().uniform(size=(n, d))
    y = np.sin(6 * X[:, 0]) * X[:, 1] + 0.1 * rng(1).standard_normal(n)
    return lambda n_jobs: FunctionalTuckerRegressor(
        2, n_init=1, max_iter=10, tol=0.0, center=True, random_state=0
    ).fit(X, y)


def chebyshev_tucker(n, d):
    """Samples; columns. Ranks and ridge given."""
    from sklr.decomposition import ChebyshevTuckerRegressor

    X = rng().uniform(-1, 1, size=(n, d))
    y = np.exp(-((X - 0.3) ** 2).sum(axis=1))
    return lambda n_jobs: ChebyshevTuckerRegressor(rank=2, alpha=1e-6, random_state=0).fit(X, y)


def subspace_mixture(n, d):
    """Samples; features. Three subspaces of dimension 5."""
    from sklr.cluster import DiffusionSubspaceClustering
    from sklr.datasets import make_molrg

    X, _ = make_molrg(n, d, 3, 5, orthogonal=False, noise=0.1, random_state=0)
    return lambda n_jobs: DiffusionSubspaceClustering(3, 5, random_state=0).fit(X)


def attributed_graph(n, d):
    """Vertices; clusters. Mean degree of the data's maker, attributes, `embedding="eigen"`."""
    from sklr.cluster import BootstrapAMGClustering
    from sklr.datasets import make_attributed_sbm

    A, attributes, _ = make_attributed_sbm(n, n_clusters=d, random_state=0)
    return lambda n_jobs: BootstrapAMGClustering(
        d, affinity="precomputed", embedding="eigen", random_state=0, n_jobs=n_jobs
    ).fit(A, attributes=attributes)


def fastrp(n, d):
    """Vertices, ten edges each; columns."""
    from scipy import sparse

    from sklr.manifold import FastRP

    i, j = rng().integers(n, size=(2, 10 * n))
    A = sparse.coo_array((np.ones(10 * n), (i, j)), shape=(n, n)).tocsr()
    A = ((A + A.T) > 0).astype(np.float64).tocsr()
    return lambda n_jobs: FastRP(
        d, affinity="precomputed", random_state=0, n_jobs=n_jobs
    ).fit_transform(A)


def heat_geodesic(n, d):
    """Points of a swiss roll; features. No search for short cuts."""
    from sklearn.datasets import make_swiss_roll

    from sklr.manifold import HeatGeodesicEmbedding

    X = make_swiss_roll(n, random_state=0)[0] @ rng().standard_normal((3, d))
    return lambda n_jobs: HeatGeodesicEmbedding(
        pruning=0.0, random_state=0, n_jobs=n_jobs
    ).fit_transform(X)


def transport(n, d):
    """Points on either side; features. Newton's steps, a tenth of the mean cost."""
    from sklr.transport import sinkhorn_newton

    X, Y = rng().random((n, d)), rng(1).random((n, d))
    C = ((X[:, None] - Y) ** 2).sum(axis=2)
    return lambda n_jobs: sinkhorn_newton(None, None, C, 0.1 * C.mean(), n_jobs=n_jobs)


def vector_field(n, d):
    """Vectors on a sphere; coordinates."""
    from sklr.gaussian_process import VectorFieldGPRegressor

    X = rng().standard_normal((n, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = np.cross(X, [0.0, 0.0, 1.0])
    Q = np.linalg.qr(rng(1).standard_normal((d, 3)))[0].T
    return lambda n_jobs: VectorFieldGPRegressor().fit(X @ Q, Y @ Q)


def diffusion_entropy(n, d):
    """Points; features."""
    from sklr.metrics import diffusion_spectral_entropy

    X = rng().standard_normal((n, d))
    return lambda n_jobs: diffusion_spectral_entropy(X)


def ranking(n, d):
    """Choices of n / 20 users and n / 40 items; factors. Ten sweeps."""
    from scipy import sparse

    from sklr.decomposition import ImplicitFactorization

    i, j = rng().integers(n // 20, size=n), rng(1).integers(n // 40, size=n)
    R = sparse.csr_array((np.ones(n), (i, j)), shape=(n // 20, n // 40))
    R.sum_duplicates()
    return lambda n_jobs: ImplicitFactorization(
        d, max_iter=10, tol=0.0, random_state=0, n_jobs=n_jobs
    ).fit(R)


def spdnet(n, d):
    """Matrices; their rows. Two epochs."""
    import torch

    from sklr.neural_network import SPDNetClassifier

    torch.set_num_threads(1)
    X, y = spd(n, d), np.arange(n) % 2
    return lambda n_jobs: SPDNetClassifier(max_iter=2, random_state=0).fit(X, y)


def network(n, d):
    """Samples; features. Five epochs of a perceptron for every width."""
    import torch

    from sklr.neural_network import MorphableClassifier

    torch.set_num_threads(1)
    X, y = rng().standard_normal((n, d)).astype(np.float32), np.arange(n) % 10
    return lambda n_jobs: MorphableClassifier(
        max_iter=5, warmup_iter=2, batch_size=200, random_state=0
    ).fit(X, y)


# name: family, sizes at the middle dimension, dimensions at the middle size, has threads
FAMILIES = {
    "augmented covariance": (augmented_covariance, (50, 200, 800), (4, 8, 16, 32), True),
    "tangent space": (tangent_space, (50, 200, 800), (8, 16, 32, 64), True),
    "mdop": (mdop, (300, 600, 1200, 2400), (4, 8, 16, 32), True),
    "imputer": (imputer, (500, 2000, 8000), (20, 40, 80), True),
    "factorization": (factorization, (20_000, 80_000, 320_000), (8, 16, 32), True),
    "ranking": (ranking, (20_000, 80_000, 320_000), (8, 16, 32), True),
    "matrix sensing": (matrix_sensing, (1000, 2000, 4000), (10, 20, 40), False),
    "functional Tucker": (functional_tucker, (500, 1000, 2000), (2, 3, 4), False),
    "Chebyshev-Tucker": (chebyshev_tucker, (500, 2000, 8000), (2, 3, 4), False),
    "subspace mixture": (subspace_mixture, (1000, 4000, 16_000), (50, 100, 200), False),
    "attributed graph": (attributed_graph, (2000, 8000, 32_000), (4, 8, 16), True),
    "FastRP": (fastrp, (4000, 16_000, 64_000), (32, 64, 128), True),
    "heat geodesic": (heat_geodesic, (500, 1000, 2000), (3, 10, 30), True),
    "transport": (transport, (500, 1000, 2000), (2, 8, 32), True),
    "vector field": (vector_field, (200, 400, 800), (3, 6, 12), False),
    "diffusion entropy": (diffusion_entropy, (250, 500, 1000), (10, 100, 1000), False),
    "SPDNet": (spdnet, (50, 100, 200), (10, 20, 40), False),
    "network": (network, (500, 1000, 2000), (32, 128, 512), False),
}


def least(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def exponent(rows, key):
    x, y = np.log([(row[key], row["ours"]) for row in rows]).T
    return float(np.polyfit(x, y, 1)[0])


def on_threads(call):
    """Seconds on one and two threads, and what a second core can bring by the serial share."""
    walls = {}
    for n_jobs in (1, 2):
        call(n_jobs)
        start, whole, own = time.perf_counter(), time.process_time(), time.thread_time()
        call(n_jobs)
        walls[n_jobs] = time.perf_counter() - start
    whole, own = time.process_time() - whole, time.thread_time() - own
    share = min(1.0, own / whole)
    return {
        "one": walls[1], "two": walls[2], "gain": walls[1] / walls[2], "serial share": share,
        "gain at most": 1 / (share + (1 - share) / 2),
    }  # fmt: skip


def growth(name, repeats):
    """CPU seconds by samples and by dimension, and seconds of the clock on two threads."""
    make, sizes, dimensions, has_threads = FAMILIES[name]
    n, d = sizes[len(sizes) // 2], dimensions[len(dimensions) // 2]
    found = {"what": make.__doc__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some stop before they have converged
        make(sizes[0], dimensions[0])(1)  # compiles
        make(n, d)(1)  # other code for larger ones
        for key, cases in (
            ("n", [(size, d) for size in sizes]),
            ("dimension", [(n, size) for size in dimensions]),
        ):
            rows = [
                {key: case[key != "n"], "ours": least(partial(make(*case), 1), repeats)}
                for case in cases
            ]
            found |= {f"by {key}": rows, f"exponent in {key}": exponent(rows, key)}
            cells = ", ".join(f"{row[key]:,} {row['ours']:.3f}" for row in rows)
            print(f"by {key}: {cells} s, exponent {exponent(rows, key):.2f}", flush=True)
        if has_threads:
            found["threads"] = [on_threads(make(sizes[-1], d))]
            cells = ", ".join(f"{k} {value:.2f}" for k, value in found["threads"][0].items())
            print(f"threads: {cells}", flush=True)
    return found


def options(parser):
    parser.add_argument("--repeats", type=int, default=2)


def main(argv=None):
    run_parts(__doc__, {name: partial(growth, name) for name in FAMILIES}, argv, options)


if __name__ == "__main__":
    main()
