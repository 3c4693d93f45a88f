"""FastRP: accuracy on BlogCatalog, time against peers, the limit of memory, size and growth.

    python benchmarks/bench_fastrp.py [--parts accuracy time gather large growth] [--threads 2]

Peers: the Rust wheel ``fastrp`` (same weights, undirected=False: the graphs are symmetric), and
the reference recipe written with SciPy and scikit-learn. BlogCatalog is read from the folder that
SKLR_TEST_DATA names; without it a graph of the same size is generated, and nothing is said about
accuracy. Times are the best of seven interleaved runs on the same number of threads. The large
graphs are embedded in processes of their own, whose peak resident memory is that of the whole
process. Settings were decided before any run: those of the reference notebook.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from _common import gather_seconds, one_blas_thread, save, saved, share_of_limit

one_blas_thread()

WEIGHTS = (0.0, 0.0, 1.0, 6.67)
EXPONENT = -0.64
PARTS = ("accuracy", "time", "gather", "large", "growth")
LARGE = (1_000_000, 10_000_000, 128)


def blogcatalog():
    """Adjacency and 0/1 labels of BlogCatalog, or a graph of its size without labels."""
    import numpy as np
    from scipy import sparse

    folder = os.environ.get("SKLR_TEST_DATA")
    if not folder:
        return power_law(10_312, 333_983), None, "generated, of BlogCatalog's size"
    file = np.load(pathlib.Path(folder) / "graphs" / "blogcatalog.npz")
    n = int(file["n_nodes"])
    parts = []
    for name, width in (("adj", n), ("label", int(file["n_labels"]))):
        indices, indptr = file[f"{name}_indices"], file[f"{name}_indptr"]
        parts.append(sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(n, width)))
    return parts[0], parts[1].toarray().astype(int), "BlogCatalog"


def power_law(n_nodes, n_edges, seed=0):
    """A random graph with hubs: ends are drawn with Pareto weights; no weights, symmetric."""
    import numpy as np
    from scipy import sparse

    rng = np.random.default_rng(seed)
    share = np.cumsum(rng.pareto(2.0, n_nodes) + 1)
    order = rng.permutation(n_nodes)  # hubs everywhere
    ends = [order[np.searchsorted(share, rng.random(n_edges) * share[-1])] for _ in range(2)]
    A = sparse.coo_array((np.ones(n_edges, np.float32), ends), shape=(n_nodes, n_nodes)).tocsr()
    A = (A + A.T).tocsr()
    A.data = np.ones(A.nnz)
    return A


def reference(A, d, seed):
    """The reference recipe: sparse products, powers normalised, summed, standardised."""
    import numpy as np
    from scipy import sparse
    from sklearn.preprocessing import normalize, scale
    from sklearn.random_projection import SparseRandomProjection

    A = sparse.csr_matrix(A)
    degrees = np.asarray(A.sum(axis=1)).ravel()
    T = sparse.diags(1.0 / degrees) @ A
    R = SparseRandomProjection(d, random_state=seed).fit(A).components_.T
    U = T @ (sparse.diags(degrees**EXPONENT) @ R)
    powers = [U]
    for _ in WEIGHTS[1:]:
        powers.append(T @ powers[-1])
    total = sum(w * normalize(U, norm="l2") for w, U in zip(WEIGHTS, powers))
    return scale(total.toarray())


def ours(A, d, seed, n_jobs):
    """Our function with the settings of the reference notebook."""
    from sklr.manifold import fast_random_projection

    return fast_random_projection(
        A, d, weights=WEIGHTS, degree_exponent=EXPONENT, random_state=seed, n_jobs=n_jobs
    )


def rust(A, d, seed):
    """The Rust wheel with the same weights; it has no degree exponent."""
    import fastrp

    return fastrp.FastRP(d, weights=list(WEIGHTS), seed=seed, undirected=False).fit_transform(A)


def has_rust():
    """Whether the wheel is installed; says so if not."""
    try:
        import fastrp  # noqa: F401
    except ImportError:
        print("fastrp (Rust): skipped, not installed: pip install 'sklr[peers]'")
        return False
    return True


def f1_scores(E, labels, train_share, shuffles, C=0.1):
    """DeepWalk's protocol: one-vs-rest, the number of labels of each test node is given."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import scale

    E = scale(np.asarray(E, dtype=np.float64))
    rows = []
    for seed in range(shuffles):
        order = np.random.RandomState(seed).permutation(len(E))
        cut = int(train_share * len(E))
        train, test = order[:cut], order[cut:]
        probability = np.zeros((len(test), labels.shape[1]))
        for k in range(labels.shape[1]):
            y = labels[train, k]
            if y.min() == y.max():
                probability[:, k] = y[0]
                continue
            model = LogisticRegression(C=C, solver="liblinear").fit(E[train], y)
            probability[:, k] = model.predict_proba(E[test])[:, 1]
        place = np.argsort(np.argsort(-probability, axis=1), axis=1)
        predicted = (place < labels[test].sum(axis=1, keepdims=True)).astype(int)
        rows.append([
            f1_score(labels[test], predicted, average=average, zero_division=0)
            for average in ("micro", "macro")
        ])  # fmt: skip
    return np.array(rows)


def accuracy(args):
    """F1 at 10 % training; the embedding's seed changes with the shuffle."""
    A, labels, source = blogcatalog()
    if labels is None:
        print("accuracy: skipped, SKLR_TEST_DATA does not name the test data")
        return None
    found = {}
    peers = {
        "ours": lambda d, s: ours(A, d, s, args.threads),
        "reference": lambda d, s: reference(A, d, s),
    }
    if has_rust():
        from scipy import sparse

        peers["fastrp (Rust)"] = lambda d, s: rust(sparse.csr_matrix(A), d, s)
    for d in (128, 512):
        for name, embed in peers.items():
            scores = f1_scores(embed(d, 0), labels, 0.1, args.shuffles)
            mean, spread = scores.mean(axis=0), scores.std(axis=0)
            found[f"{name}, {d}"] = {"micro": mean[0], "macro": mean[1], "sd": spread.tolist()}
            print(f"{source} d={d:4d} {name:14s} micro {mean[0]:.4f} macro {mean[1]:.4f} "
                  f"(sd {spread[0]:.4f}, {spread[1]:.4f}; {args.shuffles} shuffles)",
                  flush=True)  # fmt: skip
    return found


def timing(args):
    """Best and median of seven interleaved runs."""
    from scipy import sparse

    from sklr.manifold import FastRP

    A, _, source = blogcatalog()
    M = sparse.csr_matrix(A)
    found = {}

    def class_of_ours(d, seed):
        return FastRP(
            d, weights=WEIGHTS, degree_exponent=EXPONENT, affinity="precomputed",
            random_state=seed, n_jobs=args.threads,
        ).fit_transform(A)  # fmt: skip

    for d in (128, 512):
        calls = {
            "function": lambda d, s: ours(A, d, s, args.threads),
            "class": class_of_ours,
            "reference": lambda d, s: reference(A, d, s),
        }
        if has_rust():
            calls["fastrp (Rust)"] = lambda d, s: rust(M, d, s)
        times = {name: [] for name in calls}
        ours(A, d, 0, args.threads)  # compiled
        for repeat in range(7):
            for name, call in calls.items():
                if name == "reference" and repeat > 2:
                    continue
                start = time.perf_counter()
                call(d, repeat)
                times[name].append(time.perf_counter() - start)
        best = {name: min(seconds) for name, seconds in times.items()}
        median = {name: sorted(seconds)[len(seconds) // 2] for name, seconds in times.items()}
        found[str(d)] = {"best": best, "median": median}
        for name in calls:
            print(
                f"{source} d={d:4d} {args.threads} threads {name:14s} best {best[name]:.4f} s, "
                f"median {median[name]:.4f} s, function / this {best['function'] / best[name]:.2f} "
                f"(medians {median['function'] / median[name]:.2f})",
                flush=True,
            )
    return found


def gather(args):
    """One dense product, beside reading the same rows in the same order and doing nothing else."""
    import numba as nb
    import numpy as np
    from scipy import sparse

    from sklr.manifold import _fastrp_core as core
    from sklr.manifold import _fastrp_kernels as kernels
    from sklr.utils._threads import ChunkThreads

    @nb.njit(nogil=True)
    def read(first, last, indices, source, ahead, sinks):
        # Four rows a step into one row that never leaves the nearest cache: reading alone.
        d = source.shape[1]
        sink = sinks[first % sinks.shape[0]]
        for k in range(first, last - 4, 4):
            if ahead > 0 and k + ahead + 4 <= last:
                for t in range(k + ahead, k + ahead + 4):
                    for c in range(0, d, 16):
                        kernels._prefetch(source, np.int64(indices[t]), c)
            a, b = np.uint64(indices[k]), np.uint64(indices[k + 1])
            e, f = np.uint64(indices[k + 2]), np.uint64(indices[k + 3])
            for c in range(d):
                sink[c] += (source[a, c] + source[b, c]) + (source[e, c] + source[f, c])

    found = {}
    cases = [(blogcatalog()[0], 128), (blogcatalog()[0], 512), (power_law(100_000, 1_000_000), 128)]
    for A, d in cases:
        A = sparse.csr_array(A)
        n = A.shape[0]
        op = core.make_operator(A.indptr, A.indices, A.data, n, transition=True, dtype=np.float32)
        U = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
        out, sinks = np.empty_like(U), np.zeros((64, d), np.float32)
        T = sparse.csr_array(
            (np.repeat(op.scale, np.diff(op.indptr)), A.indices, A.indptr), A.shape
        )
        for n_threads in sorted({1, args.threads}):
            with ChunkThreads(n_threads) as threads:
                steps = core.Steps(op, threads)
                parts = np.linspace(0, A.nnz, 16 * n_threads + 1).astype(int).tolist()

                def product(steps=steps, U=U, out=out):
                    steps.product(U, out, core.Merge())

                def limit(ahead, threads=threads, parts=parts, A=A, U=U, sinks=sinks):
                    threads.run(read, parts, A.indices, U, ahead, sinks)

                calls = {"product": product, "plain": lambda: limit(0), "ahead": lambda: limit(8)}
                if n_threads == 1:
                    calls["scipy"] = lambda T=T, U=U: T @ U
                for call in calls.values():
                    call()
                times = dict.fromkeys(calls, np.inf)
                for _ in range(9):
                    for name, call in calls.items():
                        start = time.perf_counter()
                        call()
                        times[name] = min(times[name], time.perf_counter() - start)
            bound = min(times["plain"], times["ahead"])
            size = A.nnz * d * 4 / 1e9
            found[f"{n}, {d}, {n_threads}"] = {
                "product": times["product"], "limit": bound, "scipy": times.get("scipy")
            }  # fmt: skip
            print(
                f"n={n} nnz={A.nnz} d={d} {n_threads} threads: product {times['product']:.4f} s "
                f"({size / times['product']:.1f} GB/s), reading alone {bound:.4f} s "
                f"({size / bound:.1f} GB/s), share {bound / times['product']:.2f}"
                + (f", SciPy {times['scipy']:.4f} s" if "scipy" in times else ""),
                flush=True,
            )
    return found


CHILD = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from bench_fastrp import child
print(json.dumps(child(*sys.argv[2:])))
"""


def status(key):
    """A number of megabytes from this process's own account (it begins anew with the process)."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return float("nan")


def child(kind, folder, d, threads):
    """Embed the graph of a folder once, in a process of its own."""
    d, threads = int(d), int(threads)
    from sklr.manifold import fast_random_projection, fastrp_blocks
    from sklr.utils import load_graph

    small = power_law(2000, 10_000)
    fast_random_projection(small, 8, n_jobs=threads)  # compiled, imported
    result = {}
    if kind == "blocks":
        out = pathlib.Path(folder).parent / f"out{os.getpid()}.npy"
        result["before"] = status("VmRSS")
        start, cpu = time.perf_counter(), time.process_time()
        fastrp_blocks(folder, out, d, random_state=0, n_jobs=threads)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        out.unlink()
        size = sum(path.stat().st_size for path in pathlib.Path(folder).iterdir())
    else:
        from scipy import sparse

        A = load_graph(folder)
        size = A.data.nbytes + A.indices.nbytes + A.indptr.nbytes
        if kind == "rust":
            A = sparse.csr_matrix(A)
        result["before"] = status("VmRSS")
        start, cpu = time.perf_counter(), time.process_time()
        if kind == "rust":
            import fastrp

            fastrp.FastRP(d, weights=[0.0, 0.0, 1.0, 6.0], seed=0, undirected=False).fit_transform(
                A
            )
        elif kind == "class":
            from sklr.manifold import FastRP

            FastRP(d, affinity="precomputed", random_state=0, n_jobs=threads).fit(A)
        else:
            fast_random_projection(A, d, random_state=0, n_jobs=threads)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return result | {
        "seconds": seconds, "cpu": cpu, "peak": status("VmHWM"), "graph": size / 2**20
    }  # fmt: skip


def in_child(kind, folder, d, threads):
    """Run `child` in a new process."""
    here = pathlib.Path(__file__).parent
    environment = os.environ | {
        "RAYON_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")]),
    }
    arguments = [str(here), kind, str(folder), str(d), str(threads)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def graph_folder(args, n_nodes, n_edges):
    """The folder of a generated graph, made once."""
    from sklr.utils import save_graph

    path = args.graphs / f"power_law_{n_nodes}_{n_edges}"
    if not path.is_dir():
        save_graph(path, power_law(n_nodes, n_edges))
    return path


def large(args):
    """A million nodes, ten million edges."""
    n, m, d = LARGE
    folder = graph_folder(args, n, m)
    table = n * d * 4 / 2**20
    found = {}
    kinds = ["function", "blocks", "class"] if args.kinds is None else args.kinds
    if args.kinds is None and has_rust():
        kinds.insert(1, "rust")
    for kind in kinds:
        runs = [in_child(kind, folder, d, args.threads) for _ in range(args.repeats)]
        row = min(runs, key=lambda run: run["seconds"]) | {"peak": max(r["peak"] for r in runs)}
        if kind == "blocks":
            # One task at a time: the bound is for one block of 16 columns.
            one = in_child(kind, folder, d, 1)
            row |= {"peak_one_task": one["peak"], "seconds_one_task": one["seconds"]}
            bound = row["graph"] + 4 * n * 16 * 4 / 2**20 + 300
            print(f"  blocks, one task: {one['seconds']:.1f} s, peak {one['peak']:.0f} MiB, "
                  f"bound {bound:.0f}")  # fmt: skip
        found[kind] = row
        print(
            f"n={n} edges={m} d={d} {args.threads} threads {kind:9s} {row['seconds']:6.1f} s wall, "
            f"{row['cpu']:6.1f} s CPU, peak {row['peak']:.0f} MiB = graph {row['graph']:.0f} + "
            f"{(row['peak'] - row['graph']) / table:.2f} x n d 4",
            flush=True,
        )
    return found


def growth(args):
    """Time and peak memory from 1e5 to 1e7 edges, ten edges a node, d = 128.

    Beside each: one gather of the row of each edge's other end, and how many of it a run takes.
    """
    import numpy as np

    rows = []
    size = "edges={:9d} n={:8d} {:.3f} s, {:.0f} ns an edge, {:.0f} MiB above the input, {:.1f} {}"
    for m in (100_000, 1_000_000, 10_000_000):
        folder = graph_folder(args, m // 10, m)
        runs = [in_child("function", folder, 128, args.threads) for _ in range(args.repeats)]
        row = {"edges": m, "seconds": min(run["seconds"] for run in runs), "peak": runs[0]["peak"],
               "own": runs[0]["peak"] - runs[0]["before"],
               "cpu": min(run["cpu"] for run in runs),
               "gather": gather_seconds(power_law(m // 10, m), 128, repeats=3)}  # fmt: skip
        words = "three gathers of the row of each edge's other end"
        row |= share_of_limit(row["cpu"], more=(3 * row["gather"], words))
        rows.append(row)
        gathers = f"gathers of {1e9 * row['gather'] / m:.0f} ns an edge (CPU)"
        print(size.format(m, m // 10, row["seconds"], 1e9 * row["seconds"] / m, row["own"],
                          row["cpu"] / row["gather"], gathers), flush=True)  # fmt: skip
    edges, *columns = (
        np.log([row[key] for row in rows]) for key in ("edges", "seconds", "own", "cpu", "gather")
    )
    exponents = [float(np.polyfit(edges, y, 1)[0]) for y in columns]
    print(
        "time grows as edges ** {:.2f}, memory {:.2f}, CPU {:.2f}, a gather {:.2f}".format(
            *exponents
        )
    )
    return {"rows": rows, "exponents": exponents}


def main(argv=None):
    """Run the parts that are asked for; their results join those of earlier runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="file for the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--shuffles", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", help="of the large graph: function rust blocks class")
    parser.add_argument("--graphs", type=pathlib.Path, help="folder for the generated graphs")
    args = parser.parse_args(argv)
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    result = saved(args.json)
    with tempfile.TemporaryDirectory() as temporary:
        args.graphs = args.graphs or pathlib.Path(temporary)
        args.graphs.mkdir(parents=True, exist_ok=True)
        functions = dict(zip(PARTS, (accuracy, timing, gather, large, growth)))
        for part in args.parts:
            found = functions[part](args)
            name = f"{part}, {args.threads} threads"
            if part == "large" and args.kinds:
                found = result.get(name, {}) | found
            if found is not None:
                result[name] = found
            save(args.json, result)


if __name__ == "__main__":
    main()
