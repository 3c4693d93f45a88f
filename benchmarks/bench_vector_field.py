"""Vector-field Gaussian process against scikit-learn's, one output for each component.

Positions and vectors of a sheet rolled up to a spiral with a gap of .75, height 2, a tangent
field that turns by one radian per unit of arc length. Seconds of the clock, the same threads.
"""

import os
import resource
import time
import warnings

from _common import run_parts


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


def noisy_spiral(n):
    """Positions and vectors with noise of sd .1."""
    import numpy as np

    X, Y = spiral(n, 0)
    return X, Y + 0.1 * np.random.default_rng(1).standard_normal(Y.shape)


def bench_speed(parts):
    """Fits by size. `parts` has sizes and the peer's likelihoods: None as many as it takes."""
    from sklr.gaussian_process import VectorFieldGPRegressor

    rows = []
    X, Y = spiral(300, 1)  # libraries load outside the clock
    VectorFieldGPRegressor(n_eigenpairs=20).fit(X, Y).predict(X + 1e-3)
    plain(X[:50], Y[:50])
    # Ours at all sizes before the peer, whose memory would hide ours.
    for n, _ in parts:
        X, noisy = noisy_spiral(n)
        start = time.perf_counter()
        gp = VectorFieldGPRegressor(n_eigenpairs=100, n_jobs=2).fit(X, noisy)
        row = {"n": n, "rows": 3 * n, "fit": time.perf_counter() - start}
        start = time.perf_counter()
        gp.predict(X[:1000] + 1e-3, return_std=True)
        row["predict_1000"] = time.perf_counter() - start
        row["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        rows.append(row)
        print(row, flush=True)
    for row, (n, likelihoods) in zip(rows, parts):
        if likelihoods == 0:
            continue
        X, noisy = noisy_spiral(n)
        start = time.perf_counter()
        plain(X, noisy, likelihoods)
        row["peer_likelihoods"] = likelihoods or "all"
        row["peer"] = time.perf_counter() - start
        row["ratio"] = row["peer"] / row["fit"]
        print(row, flush=True)
    return rows


def scores(f, truth):
    """Relative error and mean cosine (alignment) of predicted vectors."""
    import numpy as np

    error = np.linalg.norm(f - truth) / np.linalg.norm(truth)
    norms = np.linalg.norm(f, axis=1) * np.linalg.norm(truth, axis=1)
    return float(error), float(((f * truth).sum(axis=1) / norms).mean())


def bench_accuracy(surface, noises, shares, n=1500, n_eigenpairs=(100, 300), seeds=(0, 1, 2)):
    """Relative error and alignment on unlabelled points, for every seed."""
    import numpy as np

    from sklr.gaussian_process import VectorFieldGPRegressor

    rows = []
    for noise in noises:
        for share in shares:
            found = {f"ours r={r}": [] for r in n_eigenpairs}
            found["plain"] = []
            for seed in seeds:
                X, Y = surface(n, seed)
                rng = np.random.default_rng(100 + seed)
                labelled = rng.permutation(n)[: int(round(n * share))]
                rest = np.setdiff1d(np.arange(n), labelled)
                known = np.full_like(Y, np.nan)
                known[labelled] = Y[labelled] + noise * rng.standard_normal((len(labelled), 3))
                for r in n_eigenpairs:
                    gp = VectorFieldGPRegressor(n_eigenpairs=r).fit(X, known)
                    found[f"ours r={r}"].append(scores(gp.predict(X[rest]), Y[rest]))
                peer = plain(X[labelled], known[labelled])
                found["plain"].append(scores(peer.predict(X[rest]), Y[rest]))
            rows.append({"surface": surface.__name__, "noise": noise, "share": share, **found})
            text = "  ".join(
                "{} {:.4f} ({:.3f})".format(name, *np.median(pairs, axis=0))
                for name, pairs in found.items()
            )
            print(
                f"{surface.__name__:<7} noise {noise:4.2f} labels {share:4.0%}  {text}", flush=True
            )
    return rows


def use_threads(args):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    warnings.simplefilter("ignore")
    return {"threads": args.threads}


def all_sizes():
    """Seconds by size.

    2000 points are 6000 numbers to learn, 6000 points are 6000 rows of the peer's matrix (three
    outputs share it). There its optimiser is stopped after four likelihoods.
    """
    return bench_speed([(1000, None), (2000, None), (5000, 0), (6000, 4), (20000, 0)])


def both_surfaces():
    """Alignment by noise and share of labels."""
    shares = (0.05, 0.1, 0.2, 0.4)
    rows = bench_accuracy(spiral, (0.1, 0.4), shares)
    return rows + bench_accuracy(sphere, (0.0, 0.1, 0.3), shares)


def main(argv=None):
    """Print speed by size, and accuracy (alignment) by noise and share of labels."""
    run_parts(
        __doc__,
        {"speed": all_sizes, "accuracy": both_surfaces},
        argv,
        lambda parser: parser.add_argument("--threads", type=int, default=2),
        use_threads,
    )


if __name__ == "__main__":
    main()
