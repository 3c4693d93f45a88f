"""Diffusion spectral entropy against the dense recipe of the paper's code.

Kernel, two products with a diagonal matrix written as dense ones, all eigenvalues. CPU seconds
of a call (all threads), the same threads for everybody. The cloud is a mixture of ten Gaussians
on random 8-dimensional planes in 64 dimensions with noise .1, the bandwidth the median.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

from _common import save, saved, share_of_limit


def cloud(n):
    import numpy as np

    rng = np.random.default_rng(0)
    centres = 2 * rng.standard_normal((10, 64))
    planes = rng.standard_normal((10, 8, 64)) / 8
    group = rng.integers(10, size=n)
    inside = np.einsum("nk,nkp->np", rng.standard_normal((n, 8)), planes[group])
    return centres[group] + 2 * inside + 0.1 * rng.standard_normal((n, 64))


def reference(X, bandwidth, t):
    """The recipe, written down again."""
    import numpy as np
    from sklearn.metrics import pairwise_distances

    D = pairwise_distances(X)
    G = np.exp(-(D**2) / (2 * bandwidth**2)) / (bandwidth * np.sqrt(2 * np.pi))
    degree = np.diag(1 / np.sqrt(G.sum(axis=1)))
    K = degree @ G @ degree
    # It is symmetric to rounding, which that code tests before it takes the symmetric solver.
    solver = np.linalg.eigvalsh if np.allclose(K, K.T) else np.linalg.eigvals
    values = np.abs(solver(K)) ** t
    p = values / values.sum()
    return float(-(p * np.log2(p + np.finfo(float).eps)).sum())


def one(name, n, t, bandwidth):
    """Run one method; return the entropy, seconds and peak memory of this process."""
    from sklr.metrics import diffusion_spectral_entropy

    X = cloud(n)
    if name == "reference":
        call = lambda: reference(X, bandwidth, t)  # noqa: E731
    else:
        call = lambda: diffusion_spectral_entropy(  # noqa: E731
            X, bandwidth=bandwidth, t=t, solver=name, max_samples=None, random_state=0
        )
    small = cloud(100)  # libraries load outside the clock
    reference(small, bandwidth, t)
    diffusion_spectral_entropy(small, bandwidth=bandwidth, solver="lanczos", random_state=0)
    seconds = []
    for _ in range(5 if n <= 2000 else 1):
        start = time.process_time()
        value = call()
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    # All inner products and exponentials, and for all eigenvalues what makes it tridiagonal.
    work = 2 * n * n * X.shape[1] / 2 + (4 * n**3 / 3 if name in ("exact", "reference") else 0)
    limit = {}
    if name != "landmark":
        limit = share_of_limit(statistics.median(seconds), flops=work, exponentials=n * n / 2)
    return {"name": name, "n": n, "t": t, "entropy": value, "seconds": statistics.median(seconds),
            "peak_MiB": peak, **limit}  # fmt: skip


def main(argv=None):
    """Print one row a method, size and t; each runs in a process of its own.

    Rows that the file has already are kept, so that a long run can be made in parts: the
    reference of a size first.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="file for the results")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 5000, 10000])
    parser.add_argument("--times", type=float, nargs="+", default=[1, 2])
    methods = ["reference", "exact", "lanczos", "landmark"]
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    if args.one:
        name, n, t, bandwidth = args.one
        print(json.dumps(one(name, int(n), float(t), float(bandwidth))))
        return
    from sklr.metrics._kernel_spectrum import median_bandwidth

    rows = {_key(row): row for row in saved(args.json).get("rows", [])}
    print(f"{'n':>6}{'t':>4}  {'method':<10}{'bits':>9}{'off':>9}{'s':>8}{'ratio':>7}{'MiB':>7}")
    for n in args.sizes:
        bandwidth = median_bandwidth(cloud(n))
        for t in args.times:
            for name in args.methods:
                command = [sys.executable, __file__, "--threads", str(args.threads), "--one", name]
                done = subprocess.run(
                    [*command, str(n), str(t), repr(bandwidth)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                row = json.loads(done.stdout)
                rows[_key(row)] = row
                base = rows.get(("reference", row["n"], row["t"]), row)
                row["off"] = row["entropy"] - base["entropy"]
                row["ratio"] = base["seconds"] / row["seconds"]
                print(
                    f"{n:6d}{t:4g}  {name:<10}{row['entropy']:9.4f}{row['off']:9.4f}"
                    f"{row['seconds']:8.2f}{row['ratio']:7.1f}{row['peak_MiB']:7.0f}",
                    flush=True,
                )
    save(args.json, {"threads": args.threads, "rows": list(rows.values())})


def _key(row):
    return row["name"], row["n"], row["t"]


if __name__ == "__main__":
    main()
