"""Vector-field Gaussian process against scikit-learn's, one output for each component.

Positions and vectors of a sheet rolled up to a spiral with a gap of .75, height 2, a tangent
field that turns by one radian per unit of arc length. Seconds of the clock, the same threads.
"""

import argparse
import os
import pathlib
import resource
import time
import warnings

from _common import save


def spiral(n, seed):
    """Positions and unit vectors; the sheet of the accuracy table."""
    import numpy as np

    rng = np.random.default_rng(seed)
    theta = np.linspace(2 * np.pi, 8 * np.pi, 20000)
    steps = np.hypot(np.diff(0.12 * theta * np.cos(theta)), np.diff(0.12 * theta * np.sin(theta)))
    length = np.append(0, np.cumsum(steps))
    u = rng.uniform(0, length[-1], n)
    angle = np.interp(u, length, theta)
    c, s = np.cos(angle), np.sin(angle)
    X = np.column_stack([0.12 * angle * c, 0.12 * angle * s, rng.uniform(0, 2, n)])
    along = np.column_stack([c - angle * s, s + angle * c, 0 * angle])
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    return X, np.cos(u)[:, None] * along + np.sin(u)[:, None] * np.array([0.0, 0.0, 1.0])


def sphere(n, seed):
    """Positions and a smooth tangent field of a sphere: the plain process's own ground."""
    import numpy as np

    X = np.random.default_rng(seed).standard_normal((n, 3))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, np.cross([0, 0, 1], X) + 0.5 * np.cross(X, np.cross([1, 0, 0], X))


def plain(X, Y, max_likelihoods=None):
    """scikit-learn's regressor, its hyperparameters found by the same criterion.

    With `max_likelihoods` the optimiser is stopped there: what is measured is a lower bound.
    """
    from scipy.optimize import minimize
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    def stopped(objective, theta, bounds):
        options = {"maxfun": max_likelihoods}
        found = minimize(
            objective, theta, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return found.x, found.fun

    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    optimizer = "fmin_l_bfgs_b" if max_likelihoods is None else stopped
    return GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0).fit(X, Y)


def bench_speed(parts):
    """Fits by size; the peer where it is asked for, on as many rows as fit."""
    import numpy as np

    from sklr.gaussian_process import VectorFieldGPRegressor

    rows = []
    for n, with_peer in parts:
        X, Y = spiral(n, 0)
        noisy = Y + 0.1 * np.random.default_rng(1).standard_normal(Y.shape)
        start = time.perf_counter()
        gp = VectorFieldGPRegressor(n_eigenpairs=100, n_jobs=2).fit(X, noisy)
        row = {"n": n, "rows": 3 * n, "fit": time.perf_counter() - start}
        start = time.perf_counter()
        gp.predict(X[:1000] + 1e-3, return_std=True)
        row["predict_1000"] = time.perf_counter() - start
        row["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        if with_peer:
            start = time.perf_counter()
            row["peer_likelihoods"] = with_peer if with_peer is not True else "all"
            plain(X, noisy, None if with_peer is True else with_peer)
            row["peer"] = time.perf_counter() - start
            row["ratio"] = row["peer"] / row["fit"]
        rows.append(row)
        print(row, flush=True)
    return rows


def bench_accuracy(surface, noises, shares, n=1500, n_eigenpairs=100, seeds=(0, 1, 2)):
    """Relative error of both on unlabelled points, medians over seeds."""
    import numpy as np

    from sklr.gaussian_process import VectorFieldGPRegressor

    rows = []
    for noise in noises:
        for share in shares:
            errors = []
            for seed in seeds:
                X, Y = surface(n, seed)
                rng = np.random.default_rng(100 + seed)
                labelled = rng.permutation(n)[: int(round(n * share))]
                rest = np.setdiff1d(np.arange(n), labelled)
                known = np.full_like(Y, np.nan)
                known[labelled] = Y[labelled] + noise * rng.standard_normal((len(labelled), 3))
                models = (
                    VectorFieldGPRegressor(n_eigenpairs=n_eigenpairs).fit(X, known),
                    plain(X[labelled], known[labelled]),
                )
                errors.append(
                    [
                        np.linalg.norm(m.predict(X[rest]) - Y[rest]) / np.linalg.norm(Y[rest])
                        for m in models
                    ]
                )
            ours, theirs = np.median(errors, axis=0)
            rows.append({"surface": surface.__name__, "noise": noise, "share": share,
                         "ours": float(ours), "plain": float(theirs)})  # fmt: skip
            print(
                f"{surface.__name__:<7} noise {noise:4.2f} labels {share:5.0%}"
                f"  ours {ours:.3f}  plain {theirs:.3f}",
                flush=True,
            )
    return rows


def main(argv=None):
    """Print speed by size and accuracy by noise and share of labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=pathlib.Path, help="file for the results")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("all", "speed", "accuracy"), default="all")
    args = parser.parse_args(argv)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    warnings.simplefilter("ignore")
    result = {"threads": args.threads}
    if args.part in ("all", "speed"):
        # 6000 labelled points are 6000 rows of the peer's matrix, three outputs at once. There
        # its optimiser is stopped after four likelihoods.
        parts = [(1000, True), (2000, True), (5000, False), (20000, False), (6000, 4)]
        result["speed"] = bench_speed(parts)
    if args.part in ("all", "accuracy"):
        shares = (0.05, 0.1, 0.2, 0.4)
        result["accuracy"] = bench_accuracy(spiral, (0.1, 0.4), shares)
        result["accuracy"] += bench_accuracy(sphere, (0.01, 0.3), (0.1, 0.4))
    save(args.json, result)


if __name__ == "__main__":
    main()
