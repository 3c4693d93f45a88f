"""Entropic transport against POT, regot and OTT-JAX, cell by cell.

Random assignments (uniform costs) and clouds of points in the unit square (squared distances over
the largest), uniform weights, seeds 0. One core for everybody (the process is pinned), wall
seconds of the solver alone after a first call on a small problem (OTT-JAX: after its compilation,
which has a figure of its own); ours also on two threads, and from the points themselves. All
solvers are judged by the same number: the L1 error of both marginals of the plan they return. Peers
stop by other norms; they are asked for 1e-9 / sqrt(n) in theirs, an L2 norm. What takes longer
than its cap is ended, and its row says so.

    python benchmarks/bench_sinkhorn.py --cells 500 --json FILE    # some cells, added to FILE
    python benchmarks/bench_sinkhorn.py --json FILE                # all of them
"""

import argparse
import importlib
import json
import math
import os
import pathlib
import pickle
import resource
import select
import signal
import sys
import time
import warnings

from _common import one_blas_thread, save, saved, share_of_limit

one_blas_thread()
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402

TOL = 1e-9
KERNELS = [f"sklr.transport._{name}_kernels" for name in ("cost", "linear", "transport")]
REGS = {"1/1200": 1 / 1200, "1e-3": 1e-3, "1e-4": 1e-4}
KINDS = ("lap", "pts")
# Times our own that a peer may take before it is ended, and the least and the most seconds.
CAPS = {500: (25, 2, 15), 2000: (25, 12, 15), 5000: (25, 12, 12)}


def random_assignment(n):
    return np.random.default_rng(0).random((n, n))


def point_clouds(n):
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, 2)), rng.random((n, 2))
    C = ((X[:, None] - Y) ** 2).sum(axis=2)
    scale = np.sqrt(C.max())
    return C / C.max(), (X / scale, Y / scale)


def problem(kind, n):
    return random_assignment(n) if kind == "lap" else point_clouds(n)[0]


def ours(C, reg, n_jobs=1):
    from sklr.transport import sinkhorn_newton

    result = sinkhorn_newton(None, None, C, reg, tol=TOL, n_jobs=n_jobs)
    counts = f"{result.n_warmup}+{result.n_newton} ({result.n_cg})"
    return result.plan, counts


def pot(method):
    def solve(C, reg):
        import ot

        a = np.full(len(C), 1 / len(C))
        plan, log = ot.sinkhorn(
            a, a, C, reg, method=method, numItermax=10**6, stopThr=TOL / math.sqrt(len(C)),
            log=True, warn=False,
        )  # fmt: skip
        return plan, str(log.get("niter", log.get("n_iter", "")))

    return solve


def regot(name):
    def solve(C, reg):
        import regot

        a = np.full(len(C), 1 / len(C))
        result = getattr(regot, name)(
            C, a, a, reg, tol=TOL / math.sqrt(len(C)), max_iter=10**5, verbose=0
        )
        return np.array(result.plan), str(result.niter)

    return solve


def compiled_ott(C, reg):
    """Return OTT-JAX's solver, compiled for the size of `C`."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    def run(C):
        geom = geometry.Geometry(cost_matrix=C, epsilon=reg)
        solver = sinkhorn.Sinkhorn(threshold=TOL, max_iterations=20_000, norm_error=1)
        out = solver(linear_problem.LinearProblem(geom))
        return out.matrix, out.n_iters

    run = jax.jit(run).lower(jax.ShapeDtypeStruct(C.shape, jax.numpy.float64)).compile()

    def solve(C, reg):
        plan, n_iter = run(jax.numpy.asarray(C))
        return np.asarray(plan), str(int(n_iter))

    return solve


def emd(C, reg):
    import ot

    a = np.full(len(C), 1 / len(C))
    return ot.emd(a, a, C, numItermax=10**7), ""


SOLVERS = {
    "sklr": ours,
    "sklr, points": ours,
    "sklr, 2 threads": lambda C, reg: ours(C, reg, 2),
    "ot.sinkhorn": pot("sinkhorn"),
    "ot stabilized": pot("sinkhorn_stabilized"),
    "ot.sinkhorn_log": pot("sinkhorn_log"),
    "regot ssns": regot("sinkhorn_ssns"),
    "regot splr": regot("sinkhorn_splr"),
    "regot newton": regot("sinkhorn_newton"),
    "regot sparse_newton": regot("sinkhorn_sparse_newton"),
    "OTT-JAX": None,  # compiled for each size: see `compiled_ott`
    "ot.emd (exact)": emd,
}


def one(name, C, points, reg, cap, warm_size=40):
    """Run a solver in a process of its own, and end it when it takes longer than `cap`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            two = name.endswith("2 threads")
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: 2 if two else 1])
            warnings.simplefilter("ignore")
            with np.errstate(all="ignore"):
                if name.startswith("sklr"):
                    for kernels in KERNELS:
                        importlib.import_module(kernels)._warm_up()
                compiling = time.perf_counter()
                solve = compiled_ott(C, reg) if name == "OTT-JAX" else SOLVERS[name]
                compiling = time.perf_counter() - compiling
                if name not in ("OTT-JAX", "sklr, points"):
                    solve(C[:warm_size, :warm_size].copy() + 1.0, 0.5)
                os.write(writer, b"ready\n")
                cpu, start = time.process_time(), time.perf_counter()
                plan, counts = solve(points if name == "sklr, points" else C, reg)
                seconds = time.perf_counter() - start
                cpu = time.process_time() - cpu
            n = len(C)
            error = float(np.abs(plan.sum(1) - 1 / n).sum() + np.abs(plan.sum(0) - 1 / n).sum())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            row = {"seconds": seconds, "cpu": cpu, "error": error, "steps": counts, "mib": peak}
            if name == "OTT-JAX":
                row["compile"] = compiling
        except ImportError as exc:
            row = {"skipped": f"{exc.name} is not installed"}
        except Exception as exc:
            row = {"failed": f"{type(exc).__name__}: {str(exc)[:100]}"}
        os.write(writer, pickle.dumps(row))
        os._exit(0)
    os.close(writer)
    data, limit = b"", time.monotonic() + 60
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            row = {"killed": cap}
            break
        part = os.read(reader, 65536)
        if part == b"ready\n":
            limit = time.monotonic() + cap + 0.5  # half a second to look at the plan
            continue
        if not part:
            row = pickle.loads(data.removeprefix(b"ready\n")) if data else {"failed": "ended"}
            break
        data += part
    os.close(reader)
    os.waitpid(child, 0)
    return row


def describe(row, mine):
    if "killed" in row:
        return (
            f"> limit, {row['killed']:.1f} s (> {row['killed'] / mine:.1f} x)"
            if mine
            else "> limit"
        )
    if "seconds" not in row:
        return ", ".join(f"{key} {value}" for key, value in row.items())
    text = f"{row['seconds']:8.3f} s  error {row['error']:.1e}  {row['steps']}"
    return f"{text}  ({row['seconds'] / mine:.1f} x)" if mine else text


def cell(kind, n, reg_name, only):
    """All solvers on one problem."""
    C, points = point_clouds(n) if kind == "pts" else (random_assignment(n), None)
    reg = REGS[reg_name]
    factor, least, most = CAPS.get(n, (10, 5, 30))
    rows, mine = {}, None
    for name in SOLVERS:
        if only and name not in only and not name.startswith("sklr"):
            continue
        if name == "sklr, points" and points is None:
            continue
        if n > 1000 and name in ("regot newton", "regot sparse_newton"):
            rows[name] = {"skipped": "dense systems of size 2 n, or not converged at n = 500"}
            continue
        cap = 60.0 if mine is None else min(max(factor * mine, least), max(most, 2 * mine))
        rows[name] = one(name, C, points, reg, 60.0 if name.startswith("sklr") else cap)
        if name == "sklr":
            mine = rows[name].get("seconds")
        if name.startswith("sklr") and "cpu" in rows[name]:
            # A table of exponentials for each sweep and step.
            steps = sum(int(count) for count in rows[name]["steps"].partition(" ")[0].split("+"))
            rows[name] |= share_of_limit(rows[name]["cpu"], exponentials=steps * n * n)
        print(f"{kind} n={n} reg={reg_name:7s} {name:20s} {describe(rows[name], mine)}", flush=True)
    return {"kind": kind, "n": n, "reg": reg_name, "rows": rows}


def large(n=20_000):
    """Clouds of points whose costs are never stored: seconds and peak memory, in a process."""
    rng = np.random.default_rng(0)
    X, Y = rng.random((n, 2)), rng.random((n, 2))
    rows = []
    for reg, n_jobs in ((1e-3, 1), (1e-3, 2), (1e-4, 1), (1e-4, 2)):
        from sklr.transport import sinkhorn_newton

        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for kernels in KERNELS:
                importlib.import_module(kernels)._warm_up()
            start = time.perf_counter()
            result = sinkhorn_newton(None, None, (X, Y), reg, relative=True, tol=TOL, n_jobs=n_jobs)
            seconds = time.perf_counter() - start
            error = float(
                np.abs(result.plan.sum(1) - 1 / n).sum() + np.abs(result.plan.sum(0) - 1 / n).sum()
            )
            row = {
                "n": n, "reg": reg, "n_jobs": n_jobs, "seconds": seconds, "error": error,
                "steps": f"{result.n_warmup}+{result.n_newton} ({result.n_cg})",
                "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "plan_entries": int(result.plan.nnz),
            }  # fmt: skip
            os.write(writer, json.dumps(row).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            rows.append(json.loads(pipe.read()))
        os.waitpid(child, 0)
        print(f"points n={n} blocks: {rows[-1]}", flush=True)
    return rows


def images():
    """Pairs of MNIST digits, eta = 1200: iteration counts beside the paper's."""
    folder = os.environ.get("SKLR_TEST_DATA")
    if not folder:
        print("images skipped: SKLR_TEST_DATA is not set")
        return []
    from sklr.transport import sinkhorn_newton

    with np.load(pathlib.Path(folder) / "images" / "mnist4k.npz") as data:
        X = data["X"].reshape(-1, 784) / 255.0 + 0.01
    X /= X.sum(axis=1, keepdims=True)
    side = np.arange(28) / 27
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    difference = np.abs(grid[:, None] - grid)
    costs = {"squared L2": (difference**2).sum(axis=2), "L1": difference.sum(axis=2)}
    rows = []
    for metric, C in costs.items():
        C = C / C.max()
        for setting, options in (
            ("20 sweeps", {"n_warmup": 20, "annealing": None, "max_iter": 300}),
            ("ladder", {}),
        ):
            for pair in range(3):
                a, b = X[2 * pair], X[2 * pair + 1]
                start = time.process_time()
                result = sinkhorn_newton(a, b, C, 1 / 1200, tol=1e-11, **options)
                seconds = time.process_time() - start
                rows.append(
                    {"metric": metric, "setting": setting, "pair": pair, "seconds": seconds,
                     "sweeps": result.n_warmup, "newton": result.n_newton,
                     "error": result.marginal_error,
                     # One table of exponentials a sweep or step.
                     **share_of_limit(
                         seconds, exponentials=C.size * (result.n_warmup + result.n_newton)
                     )}
                )  # fmt: skip
                print(
                    f"MNIST {metric}, {setting}, pair {pair}: {result.n_warmup}+"
                    f"{result.n_newton}, {seconds:.2f} s, error {result.marginal_error:.1e}",
                    flush=True,
                )
    return rows


def memory():
    """Peak memory of the dense path above that of its costs, in n m doubles."""
    n, rows = 4000, []
    from sklr.transport import sinkhorn_newton

    for kind in KINDS:
        for reg in (0.05, 1e-3):
            child = os.fork()
            if child == 0:
                C = problem(kind, n) if kind == "lap" else np.random.default_rng(1).random((n, n))
                sinkhorn_newton(None, None, C[:50, :50].copy(), 0.01)
                pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak (Linux)
                read = pathlib.Path("/proc/self/status").read_text
                before = float(read().partition("VmRSS:")[2].split()[0])
                sinkhorn_newton(None, None, C, reg)
                after = float(read().partition("VmHWM:")[2].split()[0])
                pathlib.Path(f"memory.{os.getpid()}").write_text(str((after - before) * 1024))
                os._exit(0)
            os.waitpid(child, 0)
            file = pathlib.Path(f"memory.{child}")
            doubles = float(file.read_text()) / (8 * n * n)
            file.unlink()
            rows.append({"n": n, "reg": reg, "doubles": doubles})
            print(f"memory n={n} reg={reg:g}: {doubles:.2f} n m doubles beyond C", flush=True)
        break
    return rows


def two_cores():
    """What a second thread brings on this machine now: exponentials, each half on a thread."""
    from concurrent.futures import ThreadPoolExecutor

    x = np.random.default_rng(0).random(4_000_000)
    out = np.empty_like(x)
    halves = [slice(0, 2_000_000), slice(2_000_000, None)]

    def half(part):
        for _ in range(5):
            np.exp(x[part], out=out[part])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(half, halves))
        start = time.perf_counter()
        list(map(half, halves))
        middle = time.perf_counter()
        list(pool.map(half, halves))
    return (middle - start) / (time.perf_counter() - middle)


def threads(n=5000, reg=1e-3):
    """One and two threads beside what the second one can bring: the serial share, by CPU clocks.

    Passes are shared by the workers' threads, all else runs in the caller's: its CPU time is the
    serial part, whatever else the machine does. `gain_by_clocks` is the CPU time on one thread over
    that of the caller and half of the rest on two: what would pass on free cores.
    """
    from sklr.transport import sinkhorn_newton

    rows = []
    for kind in KINDS:
        C = problem(kind, n)
        ours(C[:40, :40].copy() + 1.0, 0.5)
        seconds, clocks, cores = {1: [], 2: []}, {1: [], 2: []}, []
        for _ in range(2):
            for n_jobs, times in seconds.items():
                start, whole, own = time.perf_counter(), time.process_time(), time.thread_time()
                result = sinkhorn_newton(None, None, C, reg, tol=TOL, n_jobs=n_jobs)
                times.append(time.perf_counter() - start)
                clocks[n_jobs].append((time.process_time() - whole, time.thread_time() - own))
            cores.append(two_cores())
        whole, own = min(clocks[2])
        share = own / whole
        row = {
            "kind": kind, "n": n, "reg": reg, "one": min(seconds[1]), "two": min(seconds[2]),
            "gain": min(seconds[1]) / min(seconds[2]), "serial_share": share,
            "gain_at_most": 1 / (share + (1 - share) / 2),
            "gain_by_clocks": min(clocks[1])[0] / (own + (whole - own) / 2),
            "gain_of_exponentials": max(cores),
            "error": result.marginal_error,
        }  # fmt: skip
        rows.append(row)
        print(
            f"{kind} n={n} reg={reg:g}: one thread {row['one']:.2f} s, two {row['two']:.2f} = "
            f"{row['gain']:.2f} x; serial share {share:.2f}, so {row['gain_at_most']:.2f} x at "
            f"most, {row['gain_by_clocks']:.2f} x by the threads' clocks; exponentials alone gain "
            f"{row['gain_of_exponentials']:.2f} x now",
            flush=True,
        )
    return rows


def main(argv=None):
    """Run the parts that are asked for, and add them to what the file has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="file for the results; parts are added")
    parser.add_argument("--cells", nargs="*", type=int, help="sizes; default all")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    parser.add_argument("--regs", nargs="*", choices=list(REGS), default=list(REGS))
    parser.add_argument("--solvers", nargs="*", choices=list(SOLVERS), help="peers; default all")
    parser.add_argument("--parts", nargs="*", choices=["images", "large", "memory", "threads"])
    args = parser.parse_args(argv)
    result = saved(args.json)
    everything = args.cells is None and args.parts is None
    cells = {(c["kind"], c["n"], c["reg"]): c for c in result.get("cells", [])}
    for n in [500, 2000, 5000] if everything else args.cells or []:
        for kind in args.kinds:
            for reg in args.regs:
                found = cell(kind, n, reg, args.solvers)
                old = cells.get((kind, n, reg), found)
                cells[kind, n, reg] = {**found, "rows": {**old["rows"], **found["rows"]}}
                result["cells"] = list(cells.values())
                save(args.json, result)
    for part in ["images", "memory", "large", "threads"] if everything else args.parts or []:
        functions = {"images": images, "large": large, "memory": memory, "threads": threads}
        result[part] = functions[part]()
        save(args.json, result)


if __name__ == "__main__":
    sys.exit(main())
