"""Growth of each family: CPU seconds against samples, against dimension, and on two threads.

    python benchmarks/bench_growth.py [--parts NAME ...] [--json FILE]

Sizes double or quadruple from small ones; data are simulated, seed 0, one thread. Each size is
the least of `--repeats` runs after one that compiles, with its share of what it cannot do without.
Two threads are those of `n_jobs`, or of torch or BLAS where an estimator has no such parameter.
Beside them is what a free second core would bring: the CPU time on one thread over that of the
thread that works longest, where what is not in the caller's own thread is shared (torch and BLAS
work in the caller's thread too, and are told not to spin while they wait). Where time grows steeper
than the work, the size where data leave the caches is the cause to look for first: what the machine
gathers and copies is measured in the run, and in the file.
"""

import os
import time
import warnings
from contextlib import contextmanager
from functools import partial

from _common import (
    flops_of,
    gather_seconds,
    one_blas_thread,
    run_parts,
    share_of_limit,
)

one_blas_thread()
# Threads that wait do nothing: with other jobs on the cores they would take their time.
os.environ |= {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}

import numpy as np  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402


def rng(seed=0):
    return np.random.default_rng(seed)


def spd(n_matrices, n):
    A = rng().standard_normal((n_matrices, n, 2 * n))
    return A @ A.transpose(0, 2, 1) / (2 * n)


# A family takes a size and a dimension, and returns what is timed for a number of threads, and a
# function of its result: the work it cannot do without, as `share_of_limit` takes it.


def augmented_covariance(n, d):
    """Trials of 300 samples; channels. Order 3, lag 2."""
    from sklr.covariance import AugmentedCovariance

    X = rng().standard_normal((n, d, 300))
    work = {"flops": 3 * 2 * 300 * n * d**2, "moved": 8 * n * (300 * d + 9 * d**2)}
    return (
        lambda n_jobs: AugmentedCovariance(3, 2, n_jobs=n_jobs).fit_transform(X),
        lambda _: work,
    )


def tangent_space(n, d):
    """Matrices; their rows. Mean and map."""
    from sklr.covariance import TangentSpace

    X = spd(n, d)
    return (
        lambda n_jobs: TangentSpace(n_jobs=n_jobs).fit_transform(X),
        lambda _: {"eigen": [(4 * n, d)]},
    )


def minimum_distance(n, d):
    """Matrices of two classes; their rows. Means and predictions."""
    from sklr.covariance import MDM

    X, y = spd(n, d), np.arange(n) % 2
    return (
        lambda n_jobs: MDM(n_jobs=n_jobs).fit(X, y).predict(X),
        lambda _: {"eigen": [(4 * n, d)]},
    )


def bures_wasserstein(n, d):
    """Matrices; their rows. Mean and maps to it."""
    from sklr.covariance import BuresWassersteinScaler

    X = spd(n, d)
    return (
        lambda n_jobs: BuresWassersteinScaler(n_jobs=n_jobs).fit_transform(X),
        lambda _: {"eigen": [(5 * n, d)]},
    )


def average_of_embeddings(n, d):
    """Trials of 300 samples; channels. Three embeddings."""
    from sklr.covariance import AugmentedCovarianceAverageSVC

    X, y, cells = rng().standard_normal((n, d, 300)), np.arange(n) % 2, ((1, 1), (2, 2), (3, 2))
    return (
        lambda n_jobs: AugmentedCovarianceAverageSVC(cells, C=1.0, n_jobs=n_jobs).fit(X, y),
        lambda _: {"eigen": [(n, d * order) for order, _ in cells]},
    )


def mdop(n, d):
    """Samples of four trials; channels."""
    from sklr.covariance import select_embedding

    X = np.stack([[np.convolve(x, np.hanning(9), "same") for x in trial]
                  for trial in rng().standard_normal((4, d, n))])  # fmt: skip
    row, out = X[0, 0], np.empty((min(n, 1000), n))

    def work(_):
        seconds = least(lambda: np.subtract.outer(row[: len(out)], row, out=out), 3)[0]
        seconds *= 2 * 4 * d * n / len(out)
        return {"more": (seconds, "differences of all pairs of times by NumPy, twice a channel")}

    return lambda n_jobs: select_embedding(X, n_jobs=n_jobs), work


def imputer(n, d):
    """Rows; columns. Rank 5, a fifth missing."""
    from sklr.decomposition import LowRankImputer

    X = rng().standard_normal((n, 5)) @ rng(1).standard_normal((5, d))
    X += 0.1 * rng(2).standard_normal(X.shape)
    X[rng(3).random(X.shape) < 0.2] = np.nan

    def run(n_jobs):
        model = LowRankImputer(5, random_state=0, n_jobs=n_jobs).fit(X)
        model.transform(X)
        return model

    return run, lambda model: {"flops": 2 * getattr(model, "n_iter_", 1) * 0.8 * n * d * 16 * 5}


def _half_sweeps(n, d):
    """Operations of twenty half-sweeps: products of pairs of factors, or conjugate gradients."""
    return 20 * n * min(d**2 + 3 * d, 16 * d)


def factorization(n, d):
    """Ratings of n / 20 users and n / 40 items; factors. Ten sweeps."""
    from sklr.decomposition import MatrixFactorizationRegressor

    X = np.stack([rng().integers(n // 20, size=n), rng(1).integers(n // 40, size=n)], axis=1)
    y = rng(2).standard_normal(n)
    return (
        lambda n_jobs: MatrixFactorizationRegressor(
            d, max_iter=10, tol=0.0, alpha=1.0, random_state=0, n_jobs=n_jobs
        ).fit(X, y),
        lambda _: {"flops": _half_sweeps(n, d)},
    )


def ranking(n, d):
    """Choices of n / 20 users and n / 40 items; factors. Ten sweeps."""
    from scipy import sparse

    from sklr.decomposition import ImplicitFactorization

    i, j = rng().integers(n // 20, size=n), rng(1).integers(n // 40, size=n)
    R = sparse.csr_array((np.ones(n), (i, j)), shape=(n // 20, n // 40))
    R.sum_duplicates()
    return (
        lambda n_jobs: ImplicitFactorization(
            d, max_iter=10, tol=0.0, random_state=0, n_jobs=n_jobs
        ).fit(R),
        lambda _: {"flops": _half_sweeps(R.nnz, d)},
    )


def matrix_sensing(n, d):
    """Samples; rows and columns of the matrix. Rank 2."""
    from sklr.decomposition import MatrixSensingRegressor

    A = rng().standard_normal((n, d, d))
    M = rng(1).standard_normal((d, 2)) @ rng(2).standard_normal((2, d))
    y = np.einsum("nij,ij->n", A, M)
    return (
        lambda n_jobs: MatrixSensingRegressor(2, random_state=0).fit(A, y),
        lambda model: {"moved": 2 * 8 * n * d * d * model.n_iter_},
    )


def functional_tucker(n, d):
    """Samples; columns. Two functions each, ten sweeps."""
    from sklr.decomposition import FunctionalTuckerRegressor

    X = rng().uniform(size=(n, d))
    y = np.sin(6 * X[:, 0]) * X[:, 1] + 0.1 * rng(1).standard_normal(n)
    work = {"flops": 10 * d * n * 2 * (8 + 4 + 2**d), "moved": 10 * d * n * 24}
    return (
        lambda n_jobs: FunctionalTuckerRegressor(
            2, n_init=1, max_iter=10, tol=0.0, center=True, random_state=0
        ).fit(X, y),
        lambda _: work,
    )


def chebyshev_tucker(n, d):
    """Samples; columns. Ranks and ridge given."""
    from sklr.decomposition import ChebyshevTuckerRegressor

    X = rng().uniform(-1, 1, size=(n, d))
    y = np.exp(-((X - 0.3) ** 2).sum(axis=1))

    def work(model):  # normal equations of each column's functions, and of the core
        unknown = sum((2 * degree) ** 2 for degree in model.degree_) + 4**d
        return {"flops": model.n_iter_ * n * unknown}

    return (
        lambda n_jobs: ChebyshevTuckerRegressor(rank=2, alpha=1e-6, random_state=0).fit(X, y),
        work,
    )


def subspace_mixture(n, d):
    """Samples; features. Three subspaces of dimension 5."""
    from sklr.cluster import DiffusionSubspaceClustering
    from sklr.datasets import make_molrg

    X, _ = make_molrg(n, d, 3, 5, orthogonal=False, noise=0.1, random_state=0)
    return (
        lambda n_jobs: DiffusionSubspaceClustering(3, 5, random_state=0).fit(X),
        lambda model: {"flops": 2 * n * d * d + 2 * (1 + model.n_iter_) * n * d * 15},
    )


def attributed_graph(n, d):
    """Vertices; clusters. Mean degree of the data's maker, attributes, `embedding="eigen"`."""
    from sklr.cluster import BootstrapAMGClustering, augment_graph
    from sklr.datasets import make_attributed_sbm

    A, attributes, _ = make_attributed_sbm(n, n_clusters=d, random_state=0)

    def work(model):  # two products an iteration, and two readings of all levels in a cycle
        count = (2 + 2 * model.operator_complexity_) * model.n_eigen_iter_
        gather = gather_seconds(augment_graph(A, attributes)[0].tocsr(), d + 2)
        return {"more": (count * gather, f"{count:.0f} gathers of rows at the ends of edges")}

    return (
        lambda n_jobs: BootstrapAMGClustering(
            d, affinity="precomputed", embedding="eigen", random_state=0, n_jobs=n_jobs
        ).fit(A, attributes=attributes),
        work,
    )


def random_graph(n):
    from scipy import sparse

    i, j = rng().integers(n, size=(2, 10 * n))
    A = sparse.coo_array((np.ones(10 * n), (i, j)), shape=(n, n)).tocsr()
    return ((A + A.T) > 0).astype(np.float64).tocsr()


def fastrp(n, d):
    """Vertices, ten edges each; columns."""
    from sklr.manifold import FastRP

    A, words = random_graph(n), "three gathers of the row of each edge's other end"
    return (
        lambda n_jobs: FastRP(
            d, affinity="precomputed", random_state=0, n_jobs=n_jobs
        ).fit_transform(A),
        lambda _: {"more": (3 * gather_seconds(A, d, repeats=3), words)},
    )


def fastrp_search(n, d):
    """Vertices, ten edges each; columns. Eight powers at most."""
    from sklr.manifold import FastRPCV

    A, words = random_graph(n), "eight gathers of the row of each edge's other end"
    return (
        lambda n_jobs: FastRPCV(
            d, n_powers=(4, 8), affinity="precomputed", random_state=0, n_jobs=n_jobs
        ).fit(A),
        lambda _: {"more": (8 * gather_seconds(A, d, repeats=3), words)},
    )


def heat_geodesic(n, d):
    """Points of a swiss roll; features. No search for short cuts."""
    from sklearn.datasets import make_swiss_roll

    from sklr.manifold import HeatGeodesicEmbedding

    X = make_swiss_roll(n, random_state=0)[0] @ rng().standard_normal((3, d))

    def run(n_jobs):
        model = HeatGeodesicEmbedding(pruning=0.0, random_state=0, n_jobs=n_jobs)
        model.fit_transform(X)
        return model

    return run, lambda model: {"flops": heat_products(model)}


def heat_products(model):
    """Operations of the products that make the heat of a fit, and the entropy of its times."""
    from sklr.geometry import graph_laplacian
    from sklr.geometry._diffusion import _largest_eigenvalue_bound, chebyshev_order, hop_diameter

    L = graph_laplacian(model.affinity_matrix_)
    half, hops = 0.5 * _largest_eigenvalue_bound(L), hop_diameter(L)
    terms = [
        columns * chebyshev_order(t * half, hops)
        for t, columns in ((model.t_, len(model.landmark_indices_)), (model.t_grid_[-1], 32))
    ]
    return 2 * L.nnz * sum(terms)


def transport(n, d):
    """Points on either side; features. Newton's steps, a tenth of the mean cost."""
    from sklr.transport import sinkhorn_newton

    X, Y = rng().random((n, d)), rng(1).random((n, d))
    C = ((X[:, None] - Y) ** 2).sum(axis=2)
    return (
        lambda n_jobs: sinkhorn_newton(None, None, C, 0.1 * C.mean(), n_jobs=n_jobs),
        lambda result: {"exponentials": len(result.history) * n * n},
    )


def entropic_map(n, d):
    """Points on either side; features. Plan and map."""
    from sklr.transport import EntropicTransport

    X, Y = rng().standard_normal((n, d)), rng(1).standard_normal((n, d)) + 1.0
    return (
        lambda n_jobs: EntropicTransport(n_jobs=n_jobs).fit(X, X_target=Y).transform(X),
        lambda _: {"exponentials": 10 * n * n, "flops": 2 * n * n * d},
    )


def vector_field(n, d):
    """Vectors on a sphere; coordinates."""
    from sklr.gaussian_process import VectorFieldGPRegressor

    X = rng().standard_normal((n, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = np.cross(X, [0.0, 0.0, 1.0])
    Q = np.linalg.qr(rng(1).standard_normal((d, 3)))[0].T
    return (
        lambda n_jobs: VectorFieldGPRegressor().fit(X @ Q, Y @ Q),
        # A product with the connection for each eigenvector, and all of them orthonormal.
        lambda model: {
            "flops": 2 * model.connection_laplacian_.nnz * model.eigenvectors_.shape[1]
            + 4 * model.eigenvectors_.size * model.eigenvectors_.shape[1]
        },
    )


def diffusion_entropy(n, d):
    """Points; features."""
    from sklr.metrics import diffusion_spectral_entropy

    X = rng().standard_normal((n, d))
    return (
        lambda n_jobs: diffusion_spectral_entropy(X),
        lambda _: {"flops": n * n * d + 4 * n**3 / 3, "exponentials": n * n / 2},
    )


# Networks, one batch size for all: torch counts their products in a fit of its own.


def counted(call):
    return call, lambda _: {"flops32": flops_of(lambda: call(1))}


def features(n, d, n_classes=10):
    return rng().standard_normal((n, d)).astype(np.float32), np.arange(n) % n_classes


def classifier(name, what, **params):
    """Return a family of networks that classify `features`."""

    def make(n, d):
        from sklr import neural_network

        X, y = features(n, d)
        model = getattr(neural_network, name)
        return counted(lambda n_jobs: model(random_state=0, **params).fit(X, y))

    make.__doc__ = "Samples; features. " + what
    return make


def spdnet(n, d):
    """Matrices; their rows. Two epochs."""
    from sklr.neural_network import SPDNetClassifier

    X, y = spd(n, d), np.arange(n) % 2

    def run(n_jobs):
        return SPDNetClassifier(max_iter=2, random_state=0).fit(X, y)

    return run, lambda _: {"flops": flops_of(lambda: run(1)), "eigen": [(2 * n, 4 * d // 5)]}


def group_convolutions(n, d):
    """Images; their side. One epoch."""
    from sklr.neural_network import LieGroupConvClassifier

    X, y = features(n, d * d)
    return counted(
        lambda n_jobs: LieGroupConvClassifier(
            image_shape=(1, d, d), max_iter=1, random_state=0
        ).fit(X, y)
    )


def fields(n, d):
    """Fields; their side. One epoch without a start."""
    from sklr.neural_network import LatentSpectralRegressor

    X = rng().standard_normal((n, d, d)).astype(np.float32)
    return counted(
        lambda n_jobs: LatentSpectralRegressor(
            baseline=None, n_levels=3, max_iter=1, random_state=0
        ).fit(X, X)
    )


def dynamics(n, d):
    """Trajectories of 100 steps; observations. Cubic lifting, a ridge given."""
    from sklr.neural_network import InformationKoopman

    t = 0.05 * np.arange(100)
    phases = rng().uniform(0, 6, (n, 1, d))
    X = list(np.sin(t[:, None] * (1 + np.arange(d)) + phases))

    def work(model):
        size = 1 + d + d * (d + 1) // 2 + d * (d + 1) * (d + 2) // 6
        return {"flops": 2 * 2 * 99 * n * size**2}

    return (
        lambda n_jobs: InformationKoopman("polynomial", ridge=1e-6, random_state=0).fit(X),
        work,
    )


def generative(n, d):
    """Points on a circle; features. One latent, twenty steps."""
    from sklr.neural_network import PerturbedGenerativeModel

    angle = 2 * np.pi * rng().random(n)
    X = np.stack([np.cos(angle), np.sin(angle)], axis=1) @ rng(1).standard_normal((2, d))
    return counted(
        lambda n_jobs: PerturbedGenerativeModel(
            1, max_iter=20, noise_scale=0.05, likelihood="quadrature", random_state=0
        ).fit(X)
    )


def unlabelled(name, what, **params):
    """Return a family of networks that learn without labels."""

    def make(n, d):
        from sklr import neural_network

        X = rng().random((n, d)).astype(np.float32)
        model = getattr(neural_network, name)
        return counted(lambda n_jobs: model(random_state=0, **params).fit(X))

    make.__doc__ = "Samples; features. " + what
    return make


def quantization(n, d):
    """Images; their pixels. Three epochs."""
    from sklr.neural_network import LatentQuantizationFilter

    X = rng().random((n, d)).astype(np.float32)
    weights = 2 * (256 * d + 128 * 256)  # of encoder and decoder, each used thrice
    return (
        lambda n_jobs: LatentQuantizationFilter(max_iter=3, random_state=0).fit(X),
        lambda _: {"flops32": 3 * 3 * 2 * n * weights},
    )


def perceptron(d, width):
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(d, width), torch.nn.ReLU(),
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10),
    )  # fmt: skip


def compression(n, d):
    """Samples to calibrate with; width of a perceptron's layers. Atomic feature mimicking."""
    import torch

    from sklr.nn.compression import AtomicFeatureMimicking

    X, network = torch.from_numpy(features(n, 64)[0]), perceptron(64, d)
    return counted(lambda n_jobs: AtomicFeatureMimicking(0.5).fit(network, X))


def curvature(n, d):
    """Samples; width of a perceptron's layers. Ten products with the Hessian."""
    from sklr.landscape import HessianOperator

    H = HessianOperator(perceptron(64, d), *features(n, 64), dtype="float32")
    v = rng().standard_normal(H.n_parameters).astype(np.float32)
    return counted(lambda n_jobs: [H @ v for _ in range(10)])


def optimizer(n, d):
    """Rows of a matrix; its columns. Ten steps of low rank (32)."""
    import torch

    from sklr.nn.optim import DCTAdamW

    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(n, d))
    p.grad = torch.randn(n, d)
    move = DCTAdamW([p], rank=32)
    return counted(lambda n_jobs: [move.step() for _ in range(10)])


# name: family, sizes at the middle dimension, dimensions at the middle size, whose threads
FAMILIES = {
    "augmented covariance": (augmented_covariance, (50, 200, 800), (4, 8, 16, 32), "n_jobs"),
    "tangent space": (tangent_space, (50, 200, 800), (8, 16, 32, 64), "n_jobs"),
    "MDM": (minimum_distance, (50, 200, 800), (8, 16, 32, 64), "n_jobs"),
    "Bures-Wasserstein": (bures_wasserstein, (50, 200, 800), (8, 16, 32, 64), "n_jobs"),
    "average of embeddings": (average_of_embeddings, (25, 50, 100, 200), (4, 8, 16), "n_jobs"),
    "mdop": (mdop, (300, 600, 1200, 2400), (4, 8, 16, 32), "n_jobs"),
    "imputer": (imputer, (500, 2000, 8000), (20, 40, 80), "n_jobs"),
    "factorization": (factorization, (20_000, 80_000, 320_000), (8, 16, 32), "n_jobs"),
    "ranking": (ranking, (20_000, 80_000, 320_000), (8, 16, 32), "n_jobs"),
    "matrix sensing": (matrix_sensing, (1000, 2000, 4000), (10, 20, 40), "blas"),
    "functional Tucker": (functional_tucker, (500, 1000, 2000), (2, 3, 4), "blas"),
    "Chebyshev-Tucker": (chebyshev_tucker, (500, 2000, 8000), (2, 3, 4), "blas"),
    "subspace mixture": (subspace_mixture, (1000, 4000, 16_000), (50, 100, 200), "blas"),
    "attributed graph": (attributed_graph, (2000, 8000, 32_000), (4, 8, 16), "n_jobs"),
    "FastRP": (fastrp, (4000, 16_000, 64_000), (32, 64, 128), "n_jobs"),
    "FastRPCV": (fastrp_search, (1000, 4000, 16_000), (16, 32, 64), "n_jobs"),
    "heat geodesic": (heat_geodesic, (500, 1000, 2000, 4000), (3, 10, 30), "n_jobs"),
    "transport": (transport, (500, 1000, 2000), (2, 8, 32), "n_jobs"),
    "entropic map": (entropic_map, (250, 500, 1000), (2, 8, 32), "n_jobs"),
    "vector field": (vector_field, (200, 400, 800), (3, 6, 12), "blas"),
    "diffusion entropy": (diffusion_entropy, (250, 500, 1000), (10, 100, 1000), "blas"),
    "SPDNet": (spdnet, (50, 100, 200), (10, 20, 40), "torch"),
    "morphable network": (
        classifier("MorphableClassifier", "Five epochs for every width.",
                   max_iter=5, warmup_iter=2, batch_size=200),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "maestro": (
        classifier("MaestroClassifier", "Five epochs for every size.",
                   max_iter=5, warmup_iter=2, batch_size=200),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "training in a subspace": (
        classifier("SubspaceClassifier", "Five epochs along 100 directions.", max_iter=5),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "class subspaces": (
        classifier("GrassmannClassifier", "Five epochs.", max_iter=5, batch_size=200),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "metric learning": (
        classifier("DynamicSubspaceEmbedding", "Three epochs.", max_iter=3),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "adapters": (
        classifier("AdapterClassifier", "Five epochs.", max_iter=5, batch_size=200),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "MMCR": (
        unlabelled("MMCR", "Three epochs, four views.", max_iter=3),
        (500, 1000, 2000), (36, 144, 576), "torch"),
    "manifold linearizing": (
        unlabelled("ManifoldLinearizingClustering", "Five epochs and two, five clusters.",
                   n_clusters=5, augment="gaussian", warmup_iter=5, max_iter=2),
        (500, 1000, 2000), (32, 128, 512), "torch"),
    "quantization": (quantization, (500, 1000, 2000), (64, 196, 784), "torch"),
    "group convolutions": (group_convolutions, (50, 100, 200), (8, 14, 28), "torch"),
    "fields": (fields, (20, 40, 80), (16, 32, 64), "torch"),
    "dynamics": (dynamics, (20, 80, 320), (2, 4, 8), "torch"),
    "singular laws": (generative, (100, 200, 400, 800), (2, 10, 50), "torch"),
    "compression": (compression, (500, 2000, 8000), (64, 128, 256, 512), "torch"),
    "Hessian": (curvature, (500, 2000, 8000), (32, 128, 512), "torch"),
    "low-rank optimizer": (optimizer, (128, 256, 512, 1024), (128, 256, 512, 1024), "torch"),
}  # fmt: skip


def least(call, repeats):
    """Least CPU seconds, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return min(times), result


def exponent(rows, key):
    x, y = np.log([(row[key], row["ours"]) for row in rows]).T
    return float(np.polyfit(x, y, 1)[0])


@contextmanager
def threads_of(whose, number):
    """Give torch or BLAS that many threads."""
    if whose == "torch":
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(number)
        yield
        torch.set_num_threads(before)
    elif whose == "blas":
        with threadpool_limits(number, user_api="blas"):
            yield
    else:
        yield


def on_threads(call, whose, repeats):
    """Seconds on one and two threads; what a second core can bring, by clocks of the threads.

    The clock on the wall is that of a machine with other jobs on it. The CPU time of the thread
    that takes longest, of two, is what would pass on free cores.
    """
    walls, busy = {1: [], 2: []}, {1: [], 2: []}
    for n_jobs in walls:
        with threads_of(whose, n_jobs):
            call(n_jobs)
    for _ in range(repeats):
        for n_jobs in walls:
            with threads_of(whose, n_jobs):
                start, whole, own = time.perf_counter(), time.process_time(), time.thread_time()
                call(n_jobs)
                walls[n_jobs].append(time.perf_counter() - start)
                whole, own = time.process_time() - whole, time.thread_time() - own
                busy[n_jobs].append((whole, min(own, whole)))
    one, two = min(walls[1]), min(walls[2])
    alone, (whole, own) = min(busy[1])[0], min(busy[2])
    # Threads of Numba leave the caller waiting; of BLAS and torch it is one of the two.
    longest = own + (whole - own) / 2 if whose == "n_jobs" else max(own, whole - own)
    serial = own / whole if whose == "n_jobs" else max(0.0, 2 * own / whole - 1)
    return {
        "whose": whose, "one": one, "two": two, "gain": one / two, "serial share": serial,
        "gain by clocks": alone / longest,
    }  # fmt: skip


def growth(name, repeats):
    """CPU seconds by samples and by dimension, and seconds of the clock on two threads."""
    make, sizes, dimensions, whose = FAMILIES[name]
    n, d = sizes[len(sizes) // 2], dimensions[len(dimensions) // 2]
    found = {"what": make.__doc__}
    if whose == "torch":
        import torch

        torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some stop before they have converged
        make(sizes[0], dimensions[0])[0](1)  # compiles
        make(n, d)[0](1)  # other code for larger ones
        for key, cases in (
            ("n", [(size, d) for size in sizes]),
            ("dimension", [(n, size) for size in dimensions]),
        ):
            rows = []
            for case in cases:
                call, work = make(*case)
                seconds, result = least(partial(call, 1), repeats)
                limit = share_of_limit(seconds, **work(result))
                rows.append({key: case[key != "n"], "ours": seconds, **limit})
            found |= {f"by {key}": rows, f"exponent in {key}": exponent(rows, key)}
            cells = ", ".join(f"{r[key]:,} {r['ours']:.3f} ({r['share']:.0%})" for r in rows)
            print(f"by {key}: {cells} s, exponent {exponent(rows, key):.2f}", flush=True)
        found["threads"] = [on_threads(make(sizes[-1], d)[0], whose, repeats)]
        cells = ", ".join(
            f"{k} {value:.2f}" for k, value in found["threads"][0].items() if k != "whose"
        )
        print(f"threads of {whose}: {cells}", flush=True)
    return found


def options(parser):
    parser.add_argument("--repeats", type=int, default=3)


def main(argv=None):
    run_parts(__doc__, {name: partial(growth, name) for name in FAMILIES}, argv, options)


if __name__ == "__main__":
    main()
