"""Matrix completion: ours beside cmfrec, KNNImputer and IterativeImputer, one thread each.

    python benchmarks/bench_completion.py [--parts recovery scaling ...] [--json FILE]

CPU seconds of whole fits on one thread, medians of three; `large` has those of the clock.
`recovery` asks each solver how many sweeps it needs to a relative test RMSE of 1e-3 and then times
a fit of so many. Results of parts that are not run are kept from the file.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import warnings

from _common import Several, cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()
os.environ["NUMBA_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

TARGET = 1e-3


def problem(m, n, k, n_entries, seed=0, scales=None):
    """Gaussian factors, entries drawn without replacement, 10^5 test positions."""
    rng = np.random.default_rng(seed)
    U, V = rng.standard_normal((m, k)), rng.standard_normal((n, k))
    if scales is not None:
        V *= scales
    place = np.sort(rng.permutation(m * n)[:n_entries])
    rows, cols = np.divmod(place, n)
    R = sp.csr_array((np.einsum("ij,ij->i", U[rows], V[cols]), (rows, cols)), shape=(m, n))
    test = rng.integers(0, m * n, 100_000)
    test = test[~np.isin(test, place)]
    i, j = np.divmod(test, n)
    return R, (i, j, np.einsum("ij,ij->i", U[i], V[j]))


def error(U, V, test):
    i, j, value = test
    return float(np.sqrt(np.mean((np.einsum("ij,ij->i", U[i], V[j]) - value) ** 2) / value.var()))


def ours(R, k, sweeps, solver, **more):
    from sklr.decomposition import alternating_minimization

    options = {"alpha": 1e-6, "solver": solver, "max_iter": sweeps, "tol": 0, "random_state": 0}
    return alternating_minimization(R, k, **options | more)


def errors_by_sweep(R, k, sweeps, solver, test, **more):
    found = []

    def note(_, model):
        found.append(error(model.U, model.V, test))

    ours(R, k, sweeps, solver, callback=note, **more)
    return found


def cmfrec(R, k, sweeps, use_cg):
    from cmfrec import CMF

    model = CMF(
        k=k, lambda_=1e-6, method="als", use_cg=use_cg, niter=sweeps, user_bias=False,
        item_bias=False, center=False, verbose=False, nthreads=1, finalize_chol=False,
        precompute_for_predictions=False,
    )  # fmt: skip
    return model.fit(sp.coo_matrix(R))


def recovery(sizes=(20, 50, 100)):
    """Time to a relative test RMSE of 1e-3, 2000 x 1000, 5 (m + n) k entries."""
    m, n, result = 2000, 1000, {}
    for k in sizes:
        R, test = problem(m, n, k, 5 * (m + n) * k)
        rows = {}
        for solver in ("cg", "cholesky", "auto"):
            ours(R, k, 1, solver)  # compiles
            sweeps = next(
                s for s, e in enumerate(errors_by_sweep(R, k, 15, solver, test), 1) if e < TARGET
            )
            seconds, (U, V, _) = cpu(lambda: ours(R, k, sweeps, solver), 3)
            # Both sides in each sweep: a gradient and three steps of conjugate gradients, two
            # products with the factors each; or all products of a row's factors in pairs.
            work = k * k if solver == "cholesky" else 16 * k
            limit = share_of_limit(seconds, flops=2 * sweeps * R.nnz * work)
            rows[f"ours {solver}"] = (sweeps, seconds, error(U, V, test), *limit.values())
        try:
            for name, use_cg in (("cmfrec cg", True), ("cmfrec cholesky", False)):
                for sweeps in range(4, 13):
                    if not use_cg and k == 100:
                        break  # 31 s for two sweeps when first tried: not the best solver
                    model = cmfrec(R, k, sweeps, use_cg)
                    if error(model.A_, model.B_, test) < TARGET:
                        repeats = 3 if use_cg or k == 20 else 1
                        seconds, model = cpu(lambda: cmfrec(R, k, sweeps, use_cg), repeats)
                        rows[name] = (sweeps, seconds, error(model.A_, model.B_, test))
                        break
        except ImportError as exc:
            print(f"cmfrec: skipped ({exc})")
        print(f"k={k}, {R.nnz} entries")
        for name, (sweeps, seconds, reached, *limit) in rows.items():
            share = f"  {limit[0]:.0%} of the limit" if limit else ""
            print(f"  {name:17}{sweeps:3d} sweeps {seconds:8.3f} s   error {reached:.1e}{share}")
        peers = [row[1] for name, row in rows.items() if name.startswith("cmfrec")]
        best = rows["ours auto"][1]
        if peers:
            print(f"  best cmfrec / ours (auto): {min(peers) / best:.2f}")
        result[str(k)] = {"entries": R.nnz, "rows": rows, "ratio": min(peers, default=0) / best}
    return result


SLOW_PEER = """
import sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from sklearn.experimental import enable_iterative_imputer
from sklearn.impute import IterativeImputer, KNNImputer
X = np.load(sys.argv[2])
near = {"n_nearest_features": 50, "imputation_order": "roman", "random_state": 0}
imputer = {
    "knn": KNNImputer(),
    "iterative": IterativeImputer(max_iter=1),
    "iterative, near": IterativeImputer(max_iter=3, **near),
}[sys.argv[1]]
start = time.process_time()
Z = imputer.fit_transform(X)
print(time.process_time() - start)
np.save(sys.argv[3], Z)
"""


def imputers(ranks=(20, 50, 100), limit=30):
    """CPU seconds beside cmfrec, KNNImputer and IterativeImputer, each ended after `limit` s.

    IterativeImputer makes one round with all columns, and three with the 50 that are drawn by
    correlation, as its users set it on wide tables. Otherwise settings that they come with, but
    for the ridge.
    """
    return Several({f"imputers k={k}": one_size_of_imputers(k, limit) for k in ranks})


def one_size_of_imputers(k, limit, peers=("knn", "iterative", "iterative, near")):
    from sklr.decomposition import LowRankImputer

    m, n = 2000, 1000
    R, (i, j, value) = problem(m, n, k, 5 * (m + n) * k)
    X = np.full((m, n), np.nan)
    rows = np.repeat(np.arange(m), np.diff(R.indptr))
    X[rows, R.indices] = R.data
    imputer = LowRankImputer(k, alpha=1e-6, fit_bias=False, random_state=0)
    imputer.fit_transform(X)  # compiles
    seconds, Z = cpu(lambda: imputer.fit_transform(X), 3)

    def of(Z):
        return float(np.sqrt(np.mean((Z[i, j] - value) ** 2) / value.var()))

    result = {"ours": (seconds, of(Z))}
    # Each sweep reads the factors of every entry, for both sides, once for the gradient and once
    # in each of three steps, and makes two products with them: what that takes where they are read
    # in order (BLAS's F p), and where all are in registers (BLAS's product of large matrices).
    passes = 2 * 4 * imputer.n_iter_ * R.nnz
    F, p, A = np.ones((m, k)), np.ones(k), np.ones((1500, 1500))
    reading = min(cpu(lambda: F @ p)[0] for _ in range(2000)) / m
    product = min(cpu(lambda: A @ A)[0] for _ in range(3)) / (2 * 1500**3)
    result["ours, if factors were read in order"] = (passes * reading, None)
    result["ours, at the speed of matrix products"] = (passes * 4 * k * product, None)
    try:
        took, model = cpu(lambda: cmfrec(R, k, 10, True), 1)
        result["cmfrec cg, 10 sweeps"] = (took, error(model.A_, model.B_, (i, j, value)))
    except ImportError as exc:
        print(f"cmfrec: skipped ({exc})")
    with tempfile.TemporaryDirectory() as folder:
        source, target = (str(pathlib.Path(folder) / name) for name in ("X.npy", "Z.npy"))
        np.save(source, X)
        for name in peers:
            try:
                done = subprocess.run(
                    [sys.executable, "-c", SLOW_PEER, name, source, target],
                    capture_output=True, text=True, timeout=limit, check=True,
                )  # fmt: skip
                result[name] = (float(done.stdout), of(np.load(target)))
            except subprocess.TimeoutExpired:
                result[name] = (float(limit), None)
    for name, (took, reached) in result.items():
        what = f"error {reached:.1e}" if reached is not None else ""
        if reached is None and not name.startswith("ours"):
            what = f"> limit {limit} s"
        print(f"k={k} {name:38}{took:8.2f} s  {what}  ratio {took / seconds:.0f}", flush=True)
    return result


def scaling():
    """Seconds a sweep against entries (k = 50) and against k (same entries), 3000 x 2000."""
    m, n, result = 3000, 2000, {}

    def a_sweep(R, k, solver):
        few, _ = cpu(lambda: ours(R, k, 1, solver), 3)
        more, _ = cpu(lambda: ours(R, k, 4, solver), 3)
        return (more - few) / 3

    R, _ = problem(m, n, 10, 1_600_000)
    for solver in ("cg", "cholesky"):
        ours(R, 5, 1, solver)
        entries = [200_000, 400_000, 800_000, 1_600_000]
        parts = [problem(m, n, 10, count)[0] for count in entries]
        by_entries = [a_sweep(part, 50, solver) for part in parts]
        ranks = [12, 25, 50, 100] if solver == "cholesky" else [12, 25, 50, 100, 150]
        by_rank = [a_sweep(parts[2], k, solver) for k in ranks]
        slopes = [
            float(np.polyfit(np.log(x), np.log(t), 1)[0])
            for x, t in ((entries, by_entries), (ranks, by_rank))
        ]
        result[solver] = {
            "entries": entries, "seconds_by_entries": by_entries, "ranks": ranks,
            "seconds_by_rank": by_rank, "slopes": slopes,
        }  # fmt: skip
        print(f"{solver}: entries {entries} s {np.round(by_entries, 4)}, power {slopes[0]:.2f}")
        print(f"{solver}: ranks {ranks} s {np.round(by_rank, 4)}, power {slopes[1]:.2f}")
    ratio = result["cg"]["seconds_by_rank"][3] / result["cg"]["seconds_by_rank"][2]
    gain = result["cholesky"]["seconds_by_rank"][3] / result["cg"]["seconds_by_rank"][3]
    print(f"cg, k=100 over k=50: {ratio:.2f} ; cholesky over cg at 100: {gain:.1f}")
    return result | {"ratio_100_50": ratio, "cholesky_over_cg_100": gain}


LARGE = """
import resource, sys, time
import numpy as np, scipy.sparse as sp
from sklr.decomposition import alternating_minimization
from sklr.utils import warm_up
warm_up()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
small = sp.random_array((300, 200), density=0.3, format="csr", dtype=sys.argv[2], rng=0)
alternating_minimization(small, 5, solver="cg", max_iter=1, tol=0, random_state=0)
before = peak()
data, indices, indptr = (np.load(f"{sys.argv[1]}/{name}.npy") for name in ("d", "i", "p"))
R = sp.csr_array((data, indices, indptr), shape=(100_000, 20_000))
storage = (data.nbytes + indices.nbytes + indptr.nbytes) / 2**20
factors = 120_000 * 50 * data.itemsize / 2**20
stamps = [time.perf_counter()]
U, V, info = alternating_minimization(
    R, 50, alpha=0.01, solver="cg", max_iter=4, tol=0, random_state=0, n_jobs=1,
    callback=lambda *_: stamps.append(time.perf_counter()),
)
steps = np.diff(stamps)
print(*steps, storage, factors, before, peak(), info.training_rmse)
"""


def large():
    """10^5 x 2 10^4, 2 10^7 entries, k = 50: seconds a sweep, peak memory in a fresh process."""
    rng = np.random.default_rng(0)
    m, n, degree, rank, result = 100_000, 20_000, 200, 50, {}
    with tempfile.TemporaryDirectory() as folder:
        indices = rng.integers(0, n, (m, degree), dtype=np.int32)
        # Distinct columns in a row: equally spaced strata, one draw in each.
        width = n // degree
        indices = (np.arange(degree, dtype=np.int32) * width + indices % width).astype(np.int32)
        U = rng.standard_normal((m, rank), dtype=np.float32)
        V = rng.standard_normal((n, rank), dtype=np.float32) / np.float32(rank**0.5)
        data = np.concatenate(
            [np.einsum("ik,ijk->ij", U[a : a + 500], V[indices[a : a + 500]]).ravel()
             for a in range(0, m, 500)]
        )  # fmt: skip
        data += 0.1 * rng.standard_normal(len(data), dtype=np.float32)
        np.save(f"{folder}/i.npy", indices.ravel())
        np.save(f"{folder}/p.npy", np.arange(m + 1, dtype=np.int32) * degree)
        for dtype in ("float64", "float32"):
            np.save(f"{folder}/d.npy", data.astype(dtype))
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", LARGE, folder, dtype],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            *steps, storage, factors, before, peak, rmse = map(float, done.stdout.split())
            bar = 3 * storage + factors
            result[dtype] = {
                "start_and_first_sweep": steps[0], "sweep": statistics.median(steps[1:]),
                "storage_mib": storage, "factors_mib": factors, "interpreter_mib": before,
                "peak_mib": peak, "bar_mib": bar, "rmse": rmse,
            }  # fmt: skip
            print(
                f"{dtype}: a sweep {statistics.median(steps[1:]):.2f} s (start and first "
                f"{steps[0]:.1f} s), peak {peak:.0f} MiB with the input and {before:.0f} MiB of "
                f"Python; entries {storage:.0f}, factors {factors:.0f}, limit {bar:.0f}; "
                f"RMSE {rmse:.3f} (noise 0.1)"
            )
    return result


def conditioning():
    """Column scales from 1 to 30, k = 30: sweeps to 1e-3 with and without the shared Gram."""
    from sklr.decomposition import _completion

    R, test = problem(3000, 2000, 30, 571_065, scales=np.geomspace(1, 30, 30))
    result = {}

    def sweeps(limit, solver, n_inner=3):
        found = errors_by_sweep(R, 30, limit, solver, test, n_inner=n_inner)
        reached = [s for s, e in enumerate(found, 1) if e < TARGET]
        return (reached[0] if reached else None), found[-1]

    result["cholesky"] = sweeps(12, "cholesky")
    for n_inner in (1, 2, 3, 4, 6):
        result[f"cg({n_inner})"] = sweeps(20, "cg", n_inner)
    rotate, balance = _completion.rotate_to_diagonal, _completion.balanced
    try:
        _completion.rotate_to_diagonal = lambda F, X, mass: (
            F, X, np.eye(F.shape[1]), (np.ones(F.shape[1]), np.zeros(F.shape[1])),
        )  # fmt: skip
        result["plain cg(3)"] = sweeps(60, "cg")
        # Balancing the factors, which comes with a ridge, helps plain steps too.
        for name, ridge in (("plain cg(3), not balanced", 1e-6), ("the same, no ridge", 0.0)):
            _completion.balanced = lambda U, V: (U, V)
            found = errors_by_sweep(R, 30, 60, "cg", test, alpha=ridge)
            reached = [s for s, e in enumerate(found, 1) if e < TARGET]
            result[name] = (reached[0] if reached else None), found[-1]
    finally:
        _completion.rotate_to_diagonal, _completion.balanced = rotate, balance
    try:
        _completion.balanced = lambda U, V: (U, V)
        result["cg(3), not balanced"] = sweeps(20, "cg")
    finally:
        _completion.balanced = balance
    for name, (reached, last) in result.items():
        print(f"{name:32} sweeps to 1e-3: {reached}, last error {last:.1e}")
    return result


def outliers():
    """300 x 200, rank 4: relative test error by share of gross outliers (ten deviations)."""
    from sklr.decomposition import alternating_minimization

    result = {}
    for noise in (0.0, 0.1):
        for share in (0.0, 0.05, 0.1, 0.2, 0.3):
            errors = {"squared": [], "huber": [], "absolute": []}
            for seed in range(5):
                rng = np.random.default_rng(seed)
                M = rng.standard_normal((300, 4)) @ rng.standard_normal((4, 200))
                known = rng.random(M.shape) < 0.2
                hit = known & (rng.random(M.shape) < share)
                R = np.where(known, M + noise * M.std() * rng.standard_normal(M.shape), np.nan)
                R[hit] += 10 * M.std() * rng.standard_normal(hit.sum())
                for loss, found in errors.items():
                    U, V, _ = alternating_minimization(
                        R, 4, alpha=1e-6, loss=loss, random_state=0, max_iter=150, tol=1e-7
                    )
                    gap = (U @ V.T - M)[~known]
                    found.append(float(gap.std() / M[~known].std()))
            result[f"noise {noise}, share {share}"] = errors
            text = ", ".join(
                f"{loss} {statistics.median(e):.1e} (worst {max(e):.1e})"
                for loss, e in errors.items()
            )
            print(f"noise {noise:.1f} outliers {share:4.0%}: {text}")
    return result


def ratings(seeds=(*range(5), *range(100, 105))):
    """MovieLens: test RMSE, clipped, over five 10 % splits and five that nothing was chosen on."""
    folder = os.environ.get("SKLR_TEST_DATA")
    if not folder:
        print("ratings: skipped, SKLR_TEST_DATA is not set")
        return None
    from sklearn.model_selection import GridSearchCV, KFold

    from sklr.decomposition import MatrixFactorizationRegressor

    table = np.loadtxt(
        pathlib.Path(folder) / "recommend" / "ratings.csv.gz", delimiter=",", skiprows=1
    )
    X, y = table[:, :2].astype(np.int64), table[:, 2]
    rows = []
    for seed in seeds:
        test = np.random.RandomState(seed).rand(len(y)) < 0.1
        train = ~test

        def rmse(predicted):
            return float(np.sqrt(np.mean((np.clip(predicted, 0.5, 5) - y[test]) ** 2)))

        row = {"mean": rmse(np.full(test.sum(), y[train].mean()))}
        base = {"shape": (610, 9724), "clip": (0.5, 5), "random_state": 0}
        plain = {"alpha_scaling": "none", "tol": 1e-5}
        bias = MatrixFactorizationRegressor(1, alpha=1e6, max_iter=2, **base | plain)
        row["biases"] = rmse(bias.fit(X[train], y[train]).predict(X[test]))
        model = MatrixFactorizationRegressor(10, alpha=18.0, **base | plain)
        row["k=10, ridge 18 alone"] = rmse(model.fit(X[train], y[train]).predict(X[test]))
        for k in (10, 20, 50):
            model = MatrixFactorizationRegressor(k, **base)
            row[f"k={k}, defaults"] = rmse(model.fit(X[train], y[train]).predict(X[test]))
        search = GridSearchCV(
            MatrixFactorizationRegressor(10, **base), {"alpha": [5.0, 7.0, 10.0]},
            scoring="neg_root_mean_squared_error", cv=KFold(3, shuffle=True, random_state=0),
        )  # fmt: skip
        row["k=10, searched"] = rmse(search.fit(X[train], y[train]).predict(X[test]))
        row["alpha"] = search.best_params_["alpha"]
        try:
            import pandas as pd
            from cmfrec import CMF

            # As its users give it: triplets. A matrix of full shape has items without a rating,
            # which it then keeps at a bias of 1.
            R = pd.DataFrame({"UserId": X[train, 0], "ItemId": X[train, 1], "Rating": y[train]})
            for k in (10, 50):
                for lam in (5.0, 10.0, 15.0, 20.0):
                    peer = CMF(k=k, lambda_=lam, verbose=False, nthreads=1).fit(R)
                    row[f"cmfrec k={k} {lam:g}"] = rmse(peer.predict(*X[test].T))
        except ImportError as exc:
            print(f"cmfrec: skipped ({exc})")
        rows.append(row)
        print(seed, {name: round(value, 4) for name, value in row.items()}, flush=True)
    result = {"splits": rows}
    for name, part in (("means", rows[:5]), ("means_of_the_second_five", rows[5:])):
        result[name] = {key: statistics.mean(row[key] for row in part) for key in rows[0]}
        print(name, {key: round(value, 4) for key, value in result[name].items()})
    return result


def small_tables():
    """Huber on small tables, noise .1, 10 % and 20 % outliers: against knowing the outliers."""
    from sklr.decomposition import alternating_minimization

    result = {}
    for shape, k, density in (((300, 200), 4, 0.2), ((57, 23), 3, 0.7), ((40, 30), 2, 0.7)):
        for share in (0.1, 0.2):
            ratios = []
            for seed in range(20):
                rng = np.random.default_rng(seed)
                M = rng.standard_normal((shape[0], k)) @ rng.standard_normal((k, shape[1]))
                known = rng.random(shape) < density
                hit = known & (rng.random(shape) < share)
                clean = np.where(known, M + 0.1 * M.std() * rng.standard_normal(shape), np.nan)
                spoilt = clean + np.where(hit, 10 * M.std() * rng.standard_normal(shape), 0)
                errors = []
                for R, loss in ((spoilt, "huber"), (np.where(hit, np.nan, clean), "squared")):
                    U, V, _ = alternating_minimization(R, k, alpha=0.1, loss=loss, random_state=0)
                    errors.append(float((U @ V.T - M)[~known].std()))
                ratios.append(errors[0] / errors[1])
            lost = sum(ratio > 2 for ratio in ratios)
            result[f"{shape}, share {share}"] = ratios
            print(f"{shape} {share:.0%}: median {statistics.median(ratios):.3f}, lost {lost} of 20")
    return result


PARTS = {
    f.__name__: f
    for f in (
        recovery, imputers, scaling, large, conditioning, outliers, small_tables, ratings
    )
}  # fmt: skip


def main(argv=None):
    """Run parts, merge their results into the file."""
    run_parts(
        __doc__, PARTS, argv,
        lambda parser: parser.add_argument(
            "--ranks", nargs="+", type=int, help="of imputers; default 20, 50, 100"
        ),
        lambda _: warnings.simplefilter("ignore", ConvergenceWarning),
    )  # fmt: skip


if __name__ == "__main__":
    main()
