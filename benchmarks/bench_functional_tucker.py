"""Functional Tucker regression: error, intervals and time beside Gaussian processes and forests.

Settings were decided before looking: defaults of ours but for the rank; scikit-learn's
GaussianProcessRegressor with one Matern 3/2 length scale a column and fitted noise; forests of
100 trees. One thread for everybody, compile time apart.
"""

import pathlib
import statistics
import warnings

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import os  # noqa: E402

import numpy as np  # noqa: E402

warnings.simplefilter("ignore")  # what does not converge in the limit is seen in the table


def rmse(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2)))


def synthetic(seed, n=1500, noise=0.05):
    """Three columns on a grid of 101 values, a sum of two products, as in the sheet."""
    rng = np.random.default_rng(seed)

    def f(X):
        a, b, c = X.T
        first = np.sin(2 * np.pi * a) * np.cos(2 * np.pi * b) * (1 + c)
        return first + np.cos(3 * a) * np.sin(4 * b) * np.cos(np.pi * c)

    X, fresh = rng.integers(0, 101, (n, 3)) / 100, rng.integers(0, 101, (3000, 3)) / 100
    return X, f(X) + noise * rng.standard_normal(n), fresh, f(fresh)


def pm25():
    folder = os.environ.get("SKLR_TEST_DATA")
    path = pathlib.Path(folder or "", "functional", "beijing_pm25_fold0.npz")
    if not folder or not path.is_file():
        print("PM2.5 is skipped: SKLR_TEST_DATA does not name the folder of the test data")
        return None
    data = np.load(path)
    n = int(data["n_train"])
    X, y = data["indices"] / (data["shape"] - 1.0), data["values"].astype(float)
    return X[:n], y[:n], X[n:], y[n:]


def forests():
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.neighbors import KNeighborsRegressor

    return {
        "random forest": RandomForestRegressor(100, random_state=0),
        "boosting": HistGradientBoostingRegressor(max_iter=500, random_state=0),
        "5 neighbours": KNeighborsRegressor(5),
    }


def ours(X, y, seed, **params):
    from sklr.decomposition import FunctionalTuckerRegressor

    model = FunctionalTuckerRegressor(random_state=seed, **params)
    seconds, _ = cpu(lambda: model.fit(X, y))
    return seconds, model


def bench_synthetic():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rows = []
    for rank in (2, 3):
        for seed in range(3):
            X, y, fresh, truth = synthetic(seed)
            seconds, model = ours(X, y, seed, rank=rank)
            error = rmse(model.predict(fresh), truth)
            noise = float(np.sqrt(model.noise_variance_))
            rows.append((f"ours, rank {rank}", seed, seconds, error))
            print(f"ours, rank {rank}, seed {seed}: {seconds:.2f} s, RMSE {error:.4f}, "
                  f"noise {noise:.4f}, {model.n_iter_} sweeps")  # fmt: skip
    peers = forests()
    kernel = ConstantKernel() * Matern([0.3] * 3, nu=1.5) + WhiteKernel(0.01)
    peers["Gaussian process"] = GaussianProcessRegressor(kernel, normalize_y=True)
    for seed in range(3):
        X, y, fresh, truth = synthetic(seed)
        for name, peer in peers.items():
            if name == "Gaussian process" and seed == 2:
                continue  # half a minute each
            seconds, _ = cpu(lambda: peer.fit(X, y))
            rows.append((name, seed, seconds, rmse(peer.predict(fresh), truth)))
            print(f"{name}, seed {seed}: {seconds:.2f} s, RMSE {rows[-1][3]:.4f}")
    middle = {
        name: [statistics.median(r[c] for r in rows if r[0] == name) for c in (2, 3)]
        for name in dict.fromkeys(r[0] for r in rows)
    }
    for name, (seconds, error) in middle.items():
        print(f"median {name:<18}{seconds:8.2f} s  RMSE {error:.4f}")
    ratio = middle["Gaussian process"][0] / middle["ours, rank 2"][0]
    print(f"Gaussian process / ours, rank 2: {ratio:.1f} x the time")
    return {"rows": rows, "median": middle, "gp_over_ours": ratio}


def bench_pm25():
    data = pm25()
    if data is None:
        return None
    X, y, X_test, y_test = data
    rows = []
    for nu in (1.5, 0.5):
        for seed in range(3):
            seconds, model = ours(X, y, seed, nu=nu)
            mean, std = model.predict(X_test, return_std=True)
            error = rmse(mean, y_test)
            cover = float(np.mean(np.abs(mean - y_test) < 1.6449 * std))
            fell = float(np.diff(model.lower_bounds_).min())
            rows.append((f"ours, nu {nu}", seed, seconds, error, cover, model.lower_bound_, fell))
            print(f"ours, nu {nu}, seed {seed}: {seconds:.1f} s, {model.n_iter_} sweeps, RMSE "
                  f"{error:.4f}, 90 % intervals cover {100 * cover:.1f} %, bound "
                  f"{model.lower_bound_:.0f}, its smallest step {fell:.2g}, scales "
                  f"{np.round(model.length_scale_, 4).tolist()}", flush=True)  # fmt: skip
    for nu in (1.5, 0.5):
        errors = [r[3] for r in rows if r[0] == f"ours, nu {nu}"]
        print(f"ours, nu {nu}: median RMSE {statistics.median(errors):.4f}")
    for name, peer in forests().items():
        seconds, _ = cpu(lambda: peer.fit(X, y))
        rows.append((name, 0, seconds, rmse(peer.predict(X_test), y_test)))
        print(f"{name}: {seconds:.1f} s, RMSE {rows[-1][3]:.4f}")
    print(f"constant: RMSE {rmse(y_test, y.mean()):.4f}")
    return rows


def ascent(X, y, rank, nu, learn=False):
    """Return one run of the ascent as `fit` sets it up, before its first sweep."""
    from sklr.decomposition import FunctionalTuckerRegressor
    from sklr.decomposition._functional_tucker_fit import CoordinateAscent

    model = FunctionalTuckerRegressor(rank, nu=nu)
    model._set_scales(X, y, np.ones(len(y)))
    modes, rows = model._make_modes(X)
    rng = np.random.default_rng(0)
    run = CoordinateAscent(
        modes, rows, (y - y.mean()) / y.std(), np.ones(len(y)), [np.arange(len(y))],
        core="tucker", noise_prior=(1.0, 1.0), scales=[0.25] * len(modes), learn=learn,
    )  # fmt: skip
    run.start([model._first_functions(m, rng) for m in modes], rng.standard_normal([rank] * 3))
    return run


def bench_sweep(repeats=15):
    """Median seconds of a sweep: PM2.5, and growth with the number of samples."""
    result = {}
    data = pm25()
    if data is not None:
        for nu in (0.5, 1.5):
            for rank in (2, 3):
                run = ascent(data[0], data[1], rank, nu)
                run.sweep()
                seconds = cpu(run.sweep, repeats)[0]
                result[f"pm25 rank {rank} nu {nu}"] = seconds
                print(f"PM2.5, rank {rank}, nu {nu}: {1e3 * seconds:.1f} ms a sweep")
        run = ascent(data[0], data[1], 3, 1.5, learn=True)
        times = [cpu(run.sweep)[0] for _ in range(30)]
        result["pm25 rank 3 nu 1.5 with scales"] = statistics.mean(times)
        print(f"PM2.5, rank 3, nu 1.5, length scales learned: {1e3 * np.mean(times):.1f} ms a "
              f"sweep on average of the first 30, {1e3 * max(times):.1f} the longest")  # fmt: skip
    sizes = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    for n in sizes:
        rng = np.random.default_rng(0)
        X = rng.integers(0, 1000, (n, 3)) / 999.0
        y = np.sin(6 * X[:, 0]) * X[:, 1] + X[:, 2] + 0.1 * rng.standard_normal(n)
        run = ascent(X, y, 3, 1.5)
        run.sweep()
        seconds = cpu(run.sweep, 5 if n < 500_000 else 3)[0]
        result[f"n {n}"] = seconds
        print(f"{n:8d} samples, 3 x 1000 coordinates, rank 3: {seconds:.3f} s a sweep", flush=True)
    # Each of three columns: two others' functions of each sample through the core, and the
    # products of what comes out in pairs; the samples are read for each.
    result["limit"] = {
        str(n): share_of_limit(
            result[f"n {n}"], flops=3 * n * 2 * (27 + 9 + 9), moved=3 * n * (3 * 8 + 8)
        )
        for n in sizes
    }
    slope = np.polyfit(np.log(sizes[1:]), np.log([result[f"n {n}"] for n in sizes[1:]]), 1)[0]
    print(f"time grows as samples ** {slope:.2f} from 3e4 on")
    result["exponent"] = float(slope)
    return result


def bench_starts(n_seeds=6):
    """Spread between seeds on PM2.5: one start with white-noise functions, one smooth, the race."""
    data = pm25()
    if data is None:
        return None
    X, y, X_test, y_test = data
    settings = {
        "one start, rough functions": {"n_init": 1, "length_scale_init": 0.02},
        "one start, smooth functions": {"n_init": 1, "length_scale_init": 0.25},
        "race of 3 (default)": {"n_init": 3},
    }
    result = {}
    for name, params in settings.items():
        errors, bounds = [], []
        for seed in range(n_seeds):
            _, model = ours(X, y, 100 + seed, center=True, max_iter=60, **params)
            errors.append(rmse(model.predict(X_test), y_test))
            bounds.append(model.lower_bound_)
        result[name] = {"rmse": errors, "bounds": bounds}
        print(f"{name:<30} RMSE median {np.median(errors):.4f}, from {min(errors):.4f} to "
              f"{max(errors):.4f}, sd {np.std(errors, ddof=1):.4f}; bound sd "
              f"{np.std(bounds, ddof=1):.0f}", flush=True)  # fmt: skip
    return result


def compile_kernels(_):
    from sklr.decomposition._functional_tucker_kernels import _warm_up

    seconds, _ = cpu(_warm_up)
    print(f"first calls of the kernels: {seconds:.2f} s")
    return {"first_calls_seconds": seconds}


def main(argv=None):
    """Run the parts and print their tables."""
    parts = {"synthetic": bench_synthetic, "pm25": bench_pm25, "sweep": bench_sweep,
             "starts": bench_starts}  # fmt: skip
    run_parts(__doc__, parts, argv, before=compile_kernels)


if __name__ == "__main__":
    main()
