"""Augmented covariances against MOABB's stack, pyRiemann and GridSearchCV.

CPU seconds, one BLAS thread for everybody, all in one run; ratios are peer / ours. Compile time
of the Numba kernel is reported apart. The nested search has the paper's grid (orders 1..10, lags
1..10, six SVC settings, three inner folds) at 9 channels and, because the peer takes over ten
minutes there, the stated part of it at 21 channels.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

from _common import cpu, one_blas_thread, run_parts, share_of_limit, timed, trials

one_blas_thread()

import numpy as np  # noqa: E402

PAPER = range(1, 11)
GRIDS = {9: (PAPER, PAPER), 21: ((1, 2, 4, 7, 10), (2, 5))}
PART = {9: ((1, 2, 4, 7, 10), (1, 4, 10)), 21: ((1, 2, 4), (2, 5))}


def stack(X, order, lag):
    """MOABB's AugmentedDataset.transform."""
    from moabb.pipelines.features import AugmentedDataset

    return AugmentedDataset(order, lag).transform(X)


def stack_and_cov(X, order, lag):
    """The reference of the sheet: stack, then np.cov of each trial."""
    return np.stack([np.cov(z) for z in stack(X, order, lag)])


def bench_search(n_channels, grid):
    """Scores and CPU of the nested search: ours, GridSearchCV, the same with a memory."""
    from moabb.pipelines.features import AugmentedDataset
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.svm import SVC

    from sklr.covariance import AugmentedCovarianceSVCCV

    X, y, source = trials(n_channels)
    orders, lags = (list(values) for values in grid)
    cv = StratifiedKFold(3, shuffle=True, random_state=42)
    steps = [
        ("augment", AugmentedDataset()),
        ("cov", Covariances("cov")),
        ("ts", TangentSpace()),
        ("svc", SVC()),
    ]
    param_grid = {
        "augment__order": orders,
        "augment__lag": lags,
        "svc__C": [0.5, 1, 1.5],
        "svc__kernel": ["linear", "rbf"],
    }

    def peer(memory=None):
        search = GridSearchCV(
            Pipeline(steps, memory=memory), param_grid, cv=cv, scoring="roc_auc", refit=False
        )
        return search.fit(X, y).cv_results_

    def ours():
        search = AugmentedCovarianceSVCCV(orders, lags, scoring="roc_auc", cv=cv)
        return search.fit(X, y).cv_results_

    AugmentedCovarianceSVCCV([2], [1], cv=cv).fit(X, y)  # compiles
    seconds, results = cpu(ours, repeats=3)
    plain_seconds, plain = cpu(peer)
    with tempfile.TemporaryDirectory() as folder:
        memory_seconds, cached = cpu(lambda: peer(folder))
    difference = np.abs(results["mean_test_score"] - plain["mean_test_score"])
    folds = [f"split{i}_test_score" for i in range(3)]
    row = {
        "channels": n_channels,
        "data": source,
        "orders": orders,
        "lags": lags,
        "settings": len(plain["params"]),
        "ours": seconds,
        "grid_search": plain_seconds,
        "grid_search_memory": memory_seconds,
        "ratio": plain_seconds / seconds,
        "ratio_memory": memory_seconds / seconds,
        "largest_difference": float(difference.max()),
        "identical_fold_scores": int(sum((results[fold] == plain[fold]).sum() for fold in folds)),
        "fold_scores": 3 * len(plain["params"]),
        "memory_equals_plain": bool(
            np.array_equal(plain["mean_test_score"], cached["mean_test_score"])
        ),
        "same_best": bool(results["rank_test_score"].argmin() == plain["rank_test_score"].argmin()),
    }
    print(
        f"nested search, {n_channels} channels ({source}), orders {orders}, lags {lags}: "
        f"ours {seconds:.1f} s, GridSearchCV {plain_seconds:.1f} s ({row['ratio']:.1f} x), "
        f"with memory {memory_seconds:.1f} s ({row['ratio_memory']:.1f} x); "
        f"{row['identical_fold_scores']} of {row['fold_scores']} fold scores identical, largest "
        f"difference of a mean score {row['largest_difference']:.1e}, same best: "
        f"{row['same_best']}"
    )
    return row


def bench_single(n_channels, repeats):
    """One transform at several (order, lag)."""
    from pyriemann.estimation import Covariances

    from sklr.covariance import augmented_covariance

    X, _, source = trials(n_channels)
    rows = []
    print(f"single transform, {X.shape} ({source}), milliseconds")
    print(f"{'order':>6}{'lag':>5}{'ours':>9}{'np.cov':>9}{'pyRiemann':>11}{'ratios':>14}")
    for order in (1, 2, 3, 4, 6, 8, 10):
        for lag in (1, 3, 10):
            a, _ = cpu(lambda: augmented_covariance(X, order, lag), repeats)
            b, _ = cpu(lambda: stack_and_cov(X, order, lag), repeats)
            c, _ = cpu(lambda: Covariances("cov").transform(stack(X, order, lag)), repeats)
            # One product of the signals with themselves for each difference of times.
            work = 2 * len(X) * n_channels**2 * X.shape[2] * order
            rows.append({"order": order, "lag": lag, "ours": a, "np_cov": b, "pyriemann": c,
                         **share_of_limit(a, flops=work)})  # fmt: skip
            print(
                f"{order:6d}{lag:5d}{1e3 * a:9.2f}{1e3 * b:9.2f}{1e3 * c:11.2f}"
                f"{b / a:7.2f}{c / a:7.2f}"
            )
    return {"channels": n_channels, "data": source, "rows": rows}


def bench_grid(n_channels, repeats):
    """All cells of the paper's grid: shared products, cell by cell, stack and np.cov."""
    from sklr.covariance import augmented_covariance, augmented_covariance_grid

    X, _, source = trials(n_channels)
    cells = [(1, 1)] + [(order, lag) for lag in PAPER for order in PAPER if order > 1]

    def shared():
        for _ in augmented_covariance_grid(X, PAPER, PAPER):
            pass

    a, _ = cpu(shared, repeats)
    b, _ = cpu(lambda: [augmented_covariance(X, *cell) for cell in cells] and None, repeats)
    c, _ = cpu(lambda: [stack_and_cov(X, *cell) for cell in cells] and None, repeats)
    print(
        f"grid of {len(cells)} cells, {n_channels} channels: {a:.2f} s; our cells one by one "
        f"{b:.2f} s ({b / a:.1f} x), stack + np.cov {c:.2f} s ({c / a:.1f} x)"
    )
    differences = {j * lag for order, lag in cells for j in range(order)}
    work = 2 * len(X) * n_channels**2 * X.shape[2] * len(differences)
    # And each cell writes its matrices, block by block of their halves.
    size = sum(8 * len(X) * (n_channels * order) ** 2 for order, _ in cells)
    return {"channels": n_channels, "data": source, "ours": a, "single": b, "np_cov": c,
            **share_of_limit(a, flops=work, moved=2 * size)}  # fmt: skip


def memory_kib(name):
    """A line of the kernel's account of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])


def peak_of_grid(n_channels):
    """In a process of its own: peak memory of the grid over that of its input."""
    from sklr.covariance import augmented_covariance_grid
    from sklr.utils import warm_up

    X = np.random.default_rng(0).standard_normal((200, n_channels, 481))
    warm_up()
    for _ in augmented_covariance_grid(X[:2], PAPER, PAPER):
        pass
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
    before = memory_kib("VmRSS")
    for cell in augmented_covariance_grid(X, PAPER, PAPER):
        del cell  # or the loop would hold it while the next one is made
    grown = (memory_kib("VmHWM") - before) / 1024
    cell = 200 * (10 * n_channels) ** 2 * 8 / 2**20
    print(grown, cell)


def bench_memory(n_channels):
    """Peak resident memory of the grid against one cell and the whole grid."""
    done = subprocess.run(
        [sys.executable, __file__, "--peak", str(n_channels)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, cell = (float(value) for value in done.stdout.split())
    whole = cell * (1 + 10 * sum(p * p for p in range(2, 11))) / 100
    print(
        f"memory of the grid, 200 trials, {n_channels} channels: {grown:.0f} MiB = "
        f"{grown / cell:.2f} of its largest cell; all cells together are {whole:.0f} MiB"
    )
    return {"channels": n_channels, "peak_mib": grown, "cell_mib": cell, "all_mib": whole}


def bench_mean(repeats, largest=None):
    """The affine-invariant mean and tangent vectors against pyRiemann's.

    The map is one eigendecomposition a matrix on both sides; `map limit` is the peer's time over
    that of these alone. Calls are taken in turn: a machine under load slows all alike.
    """
    from pyriemann.geometry.mean import mean_riemann as peer_mean
    from pyriemann.geometry.tangentspace import tangent_space as peer_tangent_space

    from sklr.covariance import augmented_covariance
    from sklr.geometry import mean_riemann, tangent_space

    rows = []
    print(
        f"{'mean of 30':<22}{'n':>5}{'ours ms':>9}{'pyR ms':>9}{'ratio':>7}{'map ratio':>11}"
        f"{'map limit':>11}"
    )
    for n_channels, order, lag in (
        (9, 1, 1), (9, 2, 3), (9, 5, 3), (9, 10, 1), (9, 10, 5),
        (21, 2, 3), (21, 4, 5), (21, 7, 3), (21, 10, 3),
    ):  # fmt: skip
        if largest and n_channels * order > largest:
            continue
        X, _, source = trials(n_channels)
        G = augmented_covariance(X[:30], order, lag)
        M, P, n = mean_riemann(G), peer_mean(G), G.shape[1]
        root = np.linalg.inv(np.linalg.cholesky(M))
        white = root @ G @ root.T
        calls = (
            lambda G=G: mean_riemann(G),
            lambda G=G: peer_mean(G),
            lambda G=G, M=M: tangent_space(G, M),
            lambda G=G, M=M: peer_tangent_space(G, M),
            lambda W=white: np.linalg.eigh(W),
        )
        times = [[cpu(call)[0] for call in calls] for _ in range(repeats)]
        a, b, c, d, eigh = np.median(times, axis=0)
        rows.append(
            {"n": n, "order": order, "lag": lag, "ours": a, "pyriemann": b, "map": c,
             "pyriemann_map": d, "eigh": eigh,
             "difference": float(np.abs(M - P).max() / np.abs(P).max()),
             **share_of_limit(a, more=(4 * eigh, "four eigendecompositions a matrix")),
             "share of the map": eigh / c}
        )  # fmt: skip
        print(
            f"order {order:2d}, lag {lag}, C={n_channels:<4d}{n:5d}{1e3 * a:9.1f}{1e3 * b:9.1f}"
            f"{b / a:7.2f}{d / c:11.2f}{d / eigh:11.2f}"
        )
    return rows


def options(parser):
    parser.add_argument("--quick", action="store_true", help="a part of the grids, a minute")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--largest", type=int, help="of the means, leave larger matrices out")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)


def compile_kernels(args):
    """Time the first calls; or measure memory where this process was started for that, and end."""
    if args.peak:
        peak_of_grid(args.peak)
        sys.exit()
    from sklr.utils import warm_up

    seconds, _ = timed(warm_up)
    print(f"first calls of the kernels: {seconds:.2f} s")
    return {"first_calls_seconds": seconds}


def main(argv=None):
    """Run the parts and print one line or table each."""
    parts = {
        "mean": lambda largest=None: bench_mean(3 if largest is None else 15, largest),
        "single": lambda repeats: [bench_single(c, repeats) for c in (9, 21)],
        "grid": lambda: [bench_grid(c, 3) for c in (9, 21)],
        "memory": lambda: [bench_memory(c) for c in (9, 21)],
        "search": lambda quick: [bench_search(c, (PART if quick else GRIDS)[c]) for c in (9, 21)],
    }
    run_parts(__doc__, parts, argv, options, compile_kernels)


if __name__ == "__main__":
    main()
