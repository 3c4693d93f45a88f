"""The quick mode: each family at one small size, ours beside its peer and beside what limits it.

    python benchmarks/run.py --quick [NAME ...] [--keep]

A row is the median over repeats of peer / ours, both in the same repeat of the same process, in CPU
seconds on one thread; `share` is limit / ours, and the limit is measured there too: what the
method cannot do without (decompositions, products, exponentials, passes through memory). Ratios
are compared with those of `results/quick.json`, which ``--keep`` writes: a row whose ratio has
fallen by more than a quarter, all of its repeats but a quarter below what was committed, is
reported as a fall, and the exit status is 1. Full sizes are in the other scripts.
"""

import argparse
import pathlib
import statistics
import time
import warnings

from _common import one_blas_thread, save, saved

one_blas_thread()

import numpy as np  # noqa: E402
from _quick_networks import ROWS as NETWORKS  # noqa: E402

COMMITTED = pathlib.Path(__file__).parent / "results" / "quick.json"
# A ratio below this share of the committed one is a fall.
FALL = 0.75


def rng(seed=0):
    return np.random.default_rng(seed)


def spd(n_matrices, n, seed=0):
    A = rng(seed).standard_normal((n_matrices, n, 3 * n))
    return A @ A.transpose(0, 2, 1) / (3 * n)


# A row returns ours, the peer (None: none), the limit (None: none), and the limit in words.


def covariance():
    """Augmented covariances of order 4, lag 3, against stacking and np.cov."""
    from sklr.covariance import AugmentedCovariance, delay_embed

    X = rng().standard_normal((45, 9, 481))
    model = AugmentedCovariance(4, 3)
    stacked = delay_embed(X, 4, 3)
    return (
        lambda: model.fit_transform(X),
        lambda: np.stack([np.cov(x) for x in delay_embed(X, 4, 3)]),
        lambda: np.matmul(X, X.transpose(0, 2, 1)),
        f"products of the signals, not stacked to {stacked.shape[1]} rows",
    )


def mean_of_matrices():
    """Riemannian mean of 30 matrices of 18 rows, against pyRiemann."""
    from pyriemann.geometry.mean import mean_riemann as peer

    from sklr.geometry import mean_riemann

    X = spd(30, 18)
    return (
        lambda: mean_riemann(X),
        lambda: peer(X),
        lambda: [np.linalg.eigh(X) for _ in range(4)],
        "four eigendecompositions a matrix",
    )


def tangent_map():
    """Tangent map of 80 matrices of 20 rows, against pyRiemann."""
    from pyriemann.tangentspace import TangentSpace as Peer

    from sklr.covariance import TangentSpace

    X = spd(80, 20)
    ours, peer = TangentSpace().fit(X), Peer().fit(X)
    return (
        lambda: ours.transform(X),
        lambda: peer.transform(X),
        lambda: np.linalg.eigh(X),
        "one eigendecomposition a matrix",
    )


def distances_to_means():
    """MDM, fit and predict of 80 matrices of 20 rows, against pyRiemann."""
    from pyriemann.classification import MDM as Peer

    from sklr.covariance import MDM

    X, y = spd(80, 20), np.arange(80) % 2
    return (
        lambda: MDM().fit(X, y).predict(X),
        lambda: Peer().fit(X, y).predict(X),
        lambda: [np.linalg.eigvalsh(X) for _ in range(2)],
        "eigenvalues of each matrix at each of two means",
    )


def imputer():
    """A table of 400 x 100, 20 % missing, against KNNImputer."""
    from sklearn.impute import KNNImputer

    from sklr.decomposition import LowRankImputer

    X = rng().standard_normal((400, 5)) @ rng(1).standard_normal((5, 100))
    X += 0.1 * rng(2).standard_normal(X.shape)
    X[rng(3).random(X.shape) < 0.2] = np.nan
    filled, V = np.nan_to_num(X), rng(4).standard_normal((100, 5))
    return (
        lambda: LowRankImputer(5, random_state=0).fit_transform(X),
        lambda: KNNImputer().fit_transform(X),
        lambda: [filled.T @ (filled @ V) for _ in range(10)],
        "ten products with the dense table and its transpose",
    )


def subspace_mixture():
    """2,000 samples of 200 features, K = 2, d = 7, against GaussianMixture."""
    from sklearn.mixture import GaussianMixture

    from sklr.cluster import DiffusionSubspaceClustering
    from sklr.datasets import make_molrg

    X, _ = make_molrg(2000, 200, 2, 7, orthogonal=False, noise=0.1, random_state=0)
    B = rng().standard_normal((200, 14))
    return (
        lambda: DiffusionSubspaceClustering(2, 7, random_state=0).fit(X),
        lambda: GaussianMixture(2, random_state=0).fit(X),
        lambda: [X.T @ (X @ B) for _ in range(10)],
        "ten products with the table and its transpose for all bases",
    )


def factorization():
    """20,000 ratings of 500 x 300, rank 10, against alternating ridge regressions in NumPy."""
    from sklr.decomposition import MatrixFactorizationRegressor

    i, j = rng().integers(500, size=20_000), rng(1).integers(300, size=20_000)
    y = (rng(2).standard_normal((500, 10))[i] * rng(3).standard_normal((300, 10))[j]).sum(axis=1)
    X = np.stack([i, j], axis=1)

    def half(rows, columns, F, n):
        out = np.zeros((n, 10))
        order = np.argsort(rows, kind="stable")
        for row, part in enumerate(np.split(order, np.searchsorted(rows[order], range(1, n)))):
            A = F[columns[part]]
            out[row] = np.linalg.solve(A.T @ A + 0.1 * np.eye(10), A.T @ y[part])
        return out

    def peer():
        V = rng(4).standard_normal((300, 10))
        for _ in range(10):
            U = half(i, j, V, 500)
            V = half(j, i, U, 300)

    V = rng(5).standard_normal((300, 10))
    return (
        lambda: MatrixFactorizationRegressor(10, random_state=0).fit(X, y),
        peer,
        lambda: [V[j] for _ in range(20)],
        "twenty half-sweeps that read the other side's factors",
    )


def _clouds(n):
    X, Y = rng().standard_normal((n, 3)), rng(1).standard_normal((n, 3)) + 1.0
    C = ((X[:, None] - Y) ** 2).sum(axis=2)
    return np.full(n, 1 / n), C / C.max()


def sinkhorn():
    """Entropic plan of 500 points, reg .02, against POT's sinkhorn_log."""
    import ot

    from sklr.transport import sinkhorn

    a, C = _clouds(500)
    work = np.empty_like(C)
    return (
        lambda: sinkhorn(a, a, C, reg=0.02),
        lambda: ot.sinkhorn(a, a, C, 0.02, method="sinkhorn_log", numItermax=2000),
        lambda: [np.exp(C, out=work) for _ in range(2)],
        "two passes of exponentials",
    )


def sinkhorn_newton():
    """The same plan by Newton's steps."""
    import ot

    from sklr.transport import sinkhorn_newton

    a, C = _clouds(500)
    work = np.empty_like(C)
    return (
        lambda: sinkhorn_newton(a, a, C, reg=0.02),
        lambda: ot.sinkhorn(a, a, C, 0.02, method="sinkhorn_log", numItermax=2000),
        lambda: [np.exp(C, out=work) for _ in range(10)],
        "ten passes of exponentials",
    )


def _graph(n, n_edges, seed=0):
    from scipy import sparse

    i, j = rng(seed).integers(n, size=(2, n_edges))
    A = sparse.coo_array((np.ones(n_edges), (i, j)), shape=(n, n)).tocsr()
    return ((A + A.T) > 0).astype(np.float64).tocsr()


def fastrp():
    """20,000 nodes, 200,000 edges, 64 columns, against its powers by SciPy's products."""
    from sklr.manifold import FastRP

    A = _graph(20_000, 200_000)
    degrees = np.maximum(A.sum(axis=1), 1.0)
    P = A.multiply(1.0 / degrees[:, None]).tocsr().astype(np.float32)
    R = rng(1).standard_normal((20_000, 64)).astype(np.float32)

    def peer():
        total, power = 0.0, R
        for _ in range(3):
            power = P @ power
            total = total + power / np.linalg.norm(power, axis=1, keepdims=True).clip(1e-30)

    block = np.empty((4096, 64), np.float32)
    parts = [A.indices[k : k + 4096] for k in range(0, A.nnz - 4096, 4096)]

    def gather():
        for _ in range(3):
            for part in parts:
                np.take(R, part, axis=0, out=block, mode="clip")

    return (
        lambda: FastRP(64, affinity="precomputed", random_state=0).fit_transform(A),
        peer,
        gather,
        "three gathers of a row for each edge, by NumPy into a block in the cache",
    )


def attributed_graph():
    """600 vertices with attributes, against SpectralClustering of the graph alone."""
    from sklearn.cluster import SpectralClustering

    from sklr.cluster import BootstrapAMGClustering
    from sklr.datasets import make_attributed_sbm

    A, attributes, _ = make_attributed_sbm(600, n_clusters=4, random_state=0)
    dense = A.toarray()
    x = rng().standard_normal(600)
    return (
        lambda: BootstrapAMGClustering(4, affinity="precomputed", random_state=0).fit(
            A, attributes=attributes
        ),
        lambda: SpectralClustering(4, affinity="precomputed", random_state=0).fit(dense),
        lambda: [A @ x for _ in range(500)],
        "five hundred products with the graph",
    )


def heat_geodesic():
    """A swiss roll of 1,000 points, against Isomap."""
    from sklearn.datasets import make_swiss_roll
    from sklearn.manifold import Isomap

    from sklr.manifold import HeatGeodesicEmbedding

    X = make_swiss_roll(1000, random_state=0)[0]
    D = rng().standard_normal((1000, 1000))
    return (
        lambda: HeatGeodesicEmbedding(random_state=0).fit_transform(X),
        lambda: Isomap(n_neighbors=10).fit_transform(X),
        lambda: np.matmul(D, D),
        "one dense product of that size",
    )


def functional_tucker():
    """300 samples of three columns, against a Gaussian process."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    from sklr.decomposition import FunctionalTuckerRegressor

    X = rng().uniform(size=(300, 3))
    y = np.sin(6 * X[:, 0]) * X[:, 1] + X[:, 2] + 0.1 * rng(1).standard_normal(300)
    kernel = RBF(np.ones(3)) + WhiteKernel()
    U, G = rng(2).standard_normal((300, 2)), np.ones((2, 2, 2))
    return (
        lambda: FunctionalTuckerRegressor(2, n_init=1, max_iter=20, random_state=0).fit(X, y),
        lambda: GaussianProcessRegressor(kernel, normalize_y=True).fit(X, y),
        lambda: [np.einsum("na,nb,abc->nc", U, U, G) for _ in range(60)],
        "the other columns' factors through the core, for each of three columns in twenty sweeps",
    )


def chebyshev_tucker():
    """20,000 values of a smooth function of three variables, against SciPy's cubic interpolator."""
    from scipy.interpolate import RegularGridInterpolator

    from sklr.decomposition import ChebyshevTucker

    def f(*x):
        return np.exp(-sum((column - 0.3) ** 2 for column in x))

    grid = np.linspace(-1, 1, 20)
    values = f(*np.meshgrid(grid, grid, grid, indexing="ij"))
    peer = RegularGridInterpolator((grid,) * 3, values, method="cubic")
    X = rng().uniform(-1, 1, (20_000, 3))
    ours = ChebyshevTucker().fit_function(f, [(-1, 1)] * 3)
    P, B = rng(1).standard_normal((20_000, 20)), rng(2).standard_normal((20, 2))
    return (
        lambda: ours(X),
        lambda: peer(X),
        lambda: [P @ B for _ in range(3)],
        "products of twenty polynomials with two functions, for three columns",
    )


def matrix_sensing():
    """Rank 2 of 20 x 20 from 1,000 measurements, against ridge regression."""
    from sklearn.linear_model import RidgeCV

    from sklr.decomposition import MatrixSensingRegressor

    A = rng().standard_normal((1000, 20, 20))
    M = rng(1).standard_normal((20, 2)) @ rng(2).standard_normal((2, 20))
    y, flat, w = (A * M).sum(axis=(1, 2)), A.reshape(1000, 400), np.empty(400)
    return (
        lambda: MatrixSensingRegressor(2).fit(A, y),
        lambda: RidgeCV().fit(flat, y),
        lambda: [flat.T @ (flat @ w) for _ in range(2)],
        "two products with the measurements and their transpose",
    )


def vector_field():
    """300 vectors on a sphere, against a Gaussian process of the coordinates."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    from sklr.gaussian_process import VectorFieldGPRegressor

    X = rng().standard_normal((300, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = np.cross(X, [0.0, 0.0, 1.0])
    L = np.eye(600)
    return (
        lambda: VectorFieldGPRegressor().fit(X, Y).predict(X),
        lambda: GaussianProcessRegressor(RBF() + WhiteKernel()).fit(X, Y).predict(X),
        lambda: np.linalg.eigh(L),
        "one dense eigendecomposition of the connection Laplacian",
    )


def selection():
    """MDOP of two trials of 9 channels and 300 samples, against the plain version in NumPy."""
    from bench_select_embedding import plain_mdop

    from sklr.covariance import select_embedding
    from sklr.datasets import make_motor_imagery

    X = make_motor_imagery(4, random_state=0)[0][:2, :9, :300]
    gaps = np.empty((300, 300))
    S = X - X.mean(axis=2, keepdims=True)
    S /= S.std(axis=2, ddof=1, keepdims=True)
    windows = select_embedding(X, return_details=True)[2].theiler
    return (
        lambda: select_embedding(X),
        lambda: [plain_mdop(s, w) for s, w in zip(S, windows, strict=True)],
        lambda: [np.subtract.outer(x, x, out=gaps) for trial in X for x in trial for _ in (0, 1)],
        "differences of all pairs of times, twice a channel",
    )


def recentering():
    """Sessions of 40 matrices of 20 rows moved to the identity, against pyRiemann by hand."""
    from pyriemann.geometry.base import invsqrtm
    from pyriemann.geometry.mean import mean_riemann

    from sklr.covariance import GroupRecentering

    X, sessions = spd(80, 20), np.repeat([0, 1], 40)

    def peer():
        for session in (0, 1):
            own = X[sessions == session]
            root = invsqrtm(mean_riemann(own))
            root @ own @ root

    return (
        lambda: GroupRecentering().fit_transform(X, groups=sessions),
        peer,
        lambda: [np.linalg.eigh(X) for _ in range(3)],
        "three eigendecompositions a matrix",
    )


def average_of_embeddings():
    """The average over three embeddings of 30 trials, against one pyRiemann pipeline for each."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace as Peer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    from sklr.covariance import AugmentedCovarianceAverageSVC, delay_embed

    X, y, cells = rng().standard_normal((30, 6, 300)), np.arange(30) % 2, ((1, 1), (2, 2), (3, 2))

    def peer():
        for order, lag in cells:
            pipe = make_pipeline(Covariances("oas"), Peer("euclid"), SVC(kernel="linear"))
            pipe.fit(delay_embed(X, order, lag), y)

    matrices = [spd(30, 6 * order) for order, _ in cells]
    return (
        lambda: AugmentedCovarianceAverageSVC(cells, C=1.0).fit(X, y),
        peer,
        lambda: [np.linalg.eigh(part) for part in matrices],
        "one eigendecomposition a matrix of each embedding",
    )


def ranking():
    """12,000 choices of 400 x 300, 10 factors, against dense ALS in NumPy."""
    from scipy import sparse

    from sklr.decomposition import ImplicitFactorization

    i, j = rng().integers(400, size=12_000), rng(1).integers(300, size=12_000)
    R = sparse.csr_array((np.ones(12_000), (i, j)), shape=(400, 300))
    R.sum_duplicates()
    dense, V0 = R.toarray(), rng(2).standard_normal((300, 10))

    def half(C, F):
        A = F.T @ F + np.einsum("rc,ca,cb->rab", 3 * C, F, F, optimize=True) + 0.4 * np.eye(10)
        b = ((C > 0) + 3 * C) @ F
        return np.linalg.solve(A, b[:, :, None])[:, :, 0]

    def peer():
        V = V0
        for _ in range(10):
            U = half(dense, V)
            V = half(dense.T, U)

    return (
        lambda: ImplicitFactorization(10, max_iter=10, tol=0, random_state=0).fit(R),
        peer,
        lambda: [V0[j] for _ in range(20)],
        "twenty half-sweeps that read the other side's factors",
    )


def diffusion_entropy():
    """Entropy of the diffusion spectrum of 500 points, against the recipe in NumPy."""
    from bench_diffusion_entropy import reference

    from sklr.metrics import diffusion_spectral_entropy

    X = rng().standard_normal((500, 10))
    A = X @ X.T
    return (
        lambda: diffusion_spectral_entropy(X, bandwidth=2.0),
        lambda: reference(X, 2.0, 1),
        lambda: np.linalg.eigvalsh(A),
        "the eigenvalues of one dense matrix of that size",
    )


def fastrp_search():
    """Weights of FastRP chosen on 1,000 nodes, against an embedding for each choice in SciPy."""
    from sklr.manifold import FastRPCV

    A = _graph(1000, 10_000)
    P = A.multiply(1.0 / np.maximum(A.sum(axis=1), 1.0)[:, None]).tocsr().astype(np.float32)
    R = rng(1).standard_normal((1000, 32)).astype(np.float32)

    def peer():
        for powers in (4, 8):
            for _ in range(12):
                power = R
                for _ in range(powers):
                    power = P @ power

    return (
        lambda: FastRPCV(32, n_powers=(4, 8), affinity="precomputed", random_state=0).fit(A),
        peer,
        lambda: [P @ R for _ in range(8)],
        "the eight powers that all choices share",
    )


def entropic_map():
    """200 points moved by a plan to 200 others, against POT's SinkhornTransport."""
    import ot

    from sklr.transport import EntropicTransport

    X, Y = rng().standard_normal((200, 5)), rng(1).standard_normal((200, 5)) + 1.0
    C = ((X[:, None] - Y) ** 2).sum(axis=2)
    work = np.empty_like(C)
    return (
        lambda: EntropicTransport().fit(X, X_target=Y).transform(X),
        lambda: ot.da.SinkhornTransport(reg_e=0.1, norm="max").fit(Xs=X, Xt=Y).transform(Xs=X),
        lambda: [np.exp(C, out=work) for _ in range(10)],
        "ten passes of exponentials",
    )


def bures_wasserstein():
    """A training step of the layer on 30 matrices of 30 rows, against the formulas' steps."""
    import torch
    from _bw_stepwise import StepwiseBW

    from sklr.nn import SPDBatchNormBW

    torch.set_num_threads(1)
    X = torch.tensor(spd(30, 30)).requires_grad_()
    G = torch.tensor(rng(1).standard_normal((30, 30, 30)))

    def step(module):
        module.zero_grad()
        X.grad = None
        (module(X) * G).sum().backward()

    ours, peer = SPDBatchNormBW(30), StepwiseBW(30)
    return (
        lambda: step(ours),
        lambda: step(peer),
        lambda: [torch.linalg.eigh(X.detach()) for _ in range(2)],
        "two eigendecompositions a matrix",
    )


def grassmann():
    """Fifty steps of a head for ten classes, against a linear head with SGD."""
    import torch

    from sklr.nn import GrassmannLinear, RiemannianSGD

    torch.set_num_threads(1)
    x, target = torch.randn(256, 128), torch.arange(256) % 10
    ours, peer = GrassmannLinear(128, 10, n_components=4), torch.nn.Linear(128, 10)
    move = RiemannianSGD(ours.parameters(), lr=0.1)
    descend = torch.optim.SGD(peer.parameters(), lr=0.1)
    W = torch.randn(128, 40)

    def steps(optimizer, loss):
        for _ in range(50):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

    return (
        lambda: steps(move, lambda: ours.cross_entropy(x, target)),
        lambda: steps(descend, lambda: torch.nn.functional.cross_entropy(peer(x), target)),
        lambda: [x.T @ (x @ W) for _ in range(50)],
        "the products of the features with the bases, and back",
    )


ROWS = {
    row.__name__: row
    for row in (
        covariance, mean_of_matrices, tangent_map, distances_to_means, selection, imputer,
        factorization, matrix_sensing, functional_tucker, chebyshev_tucker, subspace_mixture,
        attributed_graph, fastrp, heat_geodesic, sinkhorn, sinkhorn_newton, vector_field,
        recentering, average_of_embeddings, ranking, diffusion_entropy, fastrp_search,
        entropic_map, bures_wasserstein, grassmann, *NETWORKS,
    )
}  # fmt: skip


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(row, patience=6.0):
    """Alternate ours, the peer and the limit: three times or for a second, within `patience`."""
    *calls, words = row()
    calls = dict(zip(("ours", "peer", "limit"), calls, strict=True))
    calls = {name: call for name, call in calls.items() if call is not None}
    for call in calls.values():
        call()  # compiles, imports, fills caches
    times = {name: [] for name in calls}
    began = time.process_time()
    while len(times["ours"]) < 3 or time.process_time() - began < min(1.0, patience):
        for name, call in calls.items():
            times[name].append(seconds(call))
        if time.process_time() - began > patience or len(times["ours"]) >= 50:
            break
    found = {"ours": statistics.median(times["ours"])}
    if "peer" in times:
        ratios = [p / o for p, o in zip(times["peer"], times["ours"], strict=True)]
        found["ratio"] = statistics.median(ratios)
        found["ratios"] = sorted(ratios)[len(ratios) // 4], sorted(ratios)[-1 - len(ratios) // 4]
    if "limit" in times:
        shares = [p / o for p, o in zip(times["limit"], times["ours"], strict=True)]
        found |= {"share": statistics.median(shares), "limit": words}
    return found


def has_fallen(found, committed):
    """Whether a ratio is below the committed one by more than repeats differ."""
    if "ratio" not in found or "ratio" not in committed:
        return False
    return found["ratio"] < FALL * committed["ratio"] and found["ratios"][1] < committed["ratio"]


def compare(names, out, committed, patience=6.0, after=lambda: None):
    """Measure rows, print them beside the committed ones, fill `out`; return those that fell."""
    fell = []
    print(f"{'':<20}{'ours, ms':>10}{'peer/ours':>11}{'before':>9}{'share of limit':>16}  limit")
    for name in names:
        try:
            out[name] = found = measure(ROWS[name], patience)
        except ImportError as exc:
            print(f"{name:<20}skipped: {exc}", flush=True)
            continue
        except Exception as exc:
            print(f"{name:<20}FAILED: {exc!r}", flush=True)
            fell.append(name)
            continue
        after()
        before = committed.get(name, {})
        text = [
            f"{found[key]:.2f}" if found.get(key) is not None else "-" for key in ("ratio", "share")
        ]
        old = f"{before['ratio']:.2f}" if before.get("ratio") else "-"
        print(
            f"{name:<20}{1e3 * found['ours']:10.2f}{text[0]:>11}{old:>9}{text[1]:>16}"
            f"  {found.get('limit', '')}",
            flush=True,
        )
        if has_fallen(found, before):
            fell.append(name)
            print(f"{'':<20}FALL: {before['ratio']:.2f} -> {found['ratio']:.2f}", flush=True)
    return fell


def main(argv=None):
    """Measure, compare, and say what fell; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--keep", action="store_true", help="write them as the committed ones")
    parser.add_argument("--patience", type=float, default=6.0, help="CPU seconds for a row")
    parser.add_argument("--committed", type=pathlib.Path, default=COMMITTED)
    args = parser.parse_args(argv)
    unknown = set(args.names) - set(ROWS)
    if unknown:
        parser.error(f"unknown rows {sorted(unknown)}, known are {list(ROWS)}")
    warnings.simplefilter("ignore")  # some stop before they have converged, on both sides
    committed, out = saved(args.committed).get("rows", {}), {}
    began = time.process_time()

    def keep():
        if args.keep:
            save(args.committed, {"rows": committed | out})

    fell = compare(args.names or list(ROWS), out, committed, args.patience, keep)
    print(f"{time.process_time() - began:.0f} CPU seconds")
    if fell:
        print(f"failed, or fell by more than {1 - FALL:.0%}: {', '.join(fell)}")
    return int(bool(fell))


if __name__ == "__main__":
    raise SystemExit(main())
