"""Matrix sensing: the tables of the two papers' settings, and peers in the same run.

Sizes, seeds and settings were fixed before the figures were looked at. One BLAS thread. The
peers: tensorly's CPRegressor, the nuclear norm by accelerated proximal gradients (below) and by
cvxpy, Ridge and HuberRegressor. One that is not installed is skipped with that reason.
"""

import pathlib
import time
import warnings

from _common import one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402

N, RANK, M_SAMPLES = 50, 3, 1500


def errors_of_descent(A, y, M, k, *, tied=False, alpha=0.5, accelerate=False, steps=1000, eta=0.1):
    """Distances to M by iteration, and the iteration of the changed step."""
    from sklr.decomposition._sensing_operator import SensingOperator
    from sklr.decomposition._sensing_solvers import gradient_descent, random_factors

    operator = SensingOperator(A, M.shape, symmetric=tied)
    target = y / operator.scale
    if tied:
        operator.make_gram(target)
    found = []

    class Recorder:
        factors = None

        def stop(self, t, F, G):
            found.append(float(np.linalg.norm(F @ G.T - M)))
            return False

    F, G = random_factors(np.random.default_rng(1), M.shape, k, alpha, 1 / 3)
    out = gradient_descent(
        operator, target, F, G, eta=eta, max_iter=steps, tol=0, tied=tied,
        accelerate=accelerate, validation=Recorder(),
    )  # fmt: skip
    found += [found[-1]] * (steps - len(found))  # stopped: no digit is left to gain
    return found, out.switch_iter


def table_of_descent():
    rng = np.random.default_rng(0)
    M = np.zeros((N, N))
    M[range(RANK), range(RANK)] = 1
    A = rng.standard_normal((M_SAMPLES, N * N))
    y = A @ M.ravel()
    symmetric = {"tied": True}
    rows = [
        ("symmetric k=3", 3, symmetric, (100, 250, 500, 999), (3.7e-2, 1.1e-5, 4.7e-11, 1e-15)),
        ("symmetric k=5", 5, symmetric, (100, 250, 500, 999), (1.0e-1, 4.0e-2, 2.0e-2, 1.05e-2)),
        ("symmetric k=10", 10, symmetric, (100, 250, 500, 999), (1.6e-1, 7.9e-2, 4.5e-2, 2.5e-2)),
        ("asymmetric k=3", 3, {}, (50, 100, 200, 400), (1.3, 2.0e-1, 3.5e-3, 4.0e-6)),
        ("asymmetric k=5 alpha=1", 5, {"alpha": 1.0}, (100, 250, 500, 999),
         (2.3e-1, 5.3e-3, 1.9e-5, 5.5e-10)),
        ("asymmetric k=5 alpha=.5", 5, {"alpha": 0.5}, (100, 250, 500, 999),
         (1.4e-1, 2.4e-2, 2.4e-3, 3.3e-5)),
        ("asymmetric k=5 alpha=.2", 5, {"alpha": 0.2}, (100, 250, 500, 999),
         (1.1e-1, 4.3e-2, 2.0e-2, 6.7e-3)),
        ("asymmetric k=5 alpha=.05", 5, {"alpha": 0.05}, (100, 250, 500, 999),
         (1.0e-1, 2.3e-2, 1.6e-2, 9.6e-3)),
        *(
            (f"accelerated k=5 alpha={alpha:g}", 5, {"alpha": alpha, "accelerate": True}, (999,),
             (sheet,))
            for alpha, sheet in ((1, 5.0e-12), (0.5, 1.6e-12), (0.2, 1.2e-12), (0.05, 5.2e-12))
        ),
    ]  # fmt: skip
    out = []
    for name, k, options, steps, sheet in rows:
        errors, switch = errors_of_descent(A, y, M, k, **options)
        slope = np.log(errors[999] / errors[500]) / np.log(999 / 500)
        got = [errors[t] for t in steps]
        out.append({"run": name, "steps": steps, "errors": got, "sheet": sheet, "switch": switch,
                    "slope": slope})  # fmt: skip
        ours, theirs = (" ".join(f"{value:8.1e}" for value in v) for v in (got, sheet))
        print(f"{name:26s}{ours:36s} sheet {theirs:36s} slope {slope:7.2f} changed at {switch}")
    return out


def robust_problem(m, share, *, noise=0.0, size=10.0, seed=0):
    from sklr.datasets import make_matrix_sensing

    return make_matrix_sensing(m, shape=(20, 20), rank=3, symmetric=True, noise=noise,
                               outliers=share, outlier_scale=size, random_state=seed)  # fmt: skip


def table_of_subgradients():
    from sklr.decomposition import MatrixSensingRegressor

    out = []

    def row(name, sheet, data, k, repeat=True, **options):
        X, y, M = data
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MatrixSensingRegressor(k, loss="absolute", symmetric=True, **options).fit(X, y)
        seconds = time.process_time() - start
        error = float(np.linalg.norm(model.matrix_ - M))
        out.append({"run": name, "k": k or 20, "error": error, "sheet": sheet,
                    "iterations": model.n_iter_, "seconds": seconds})  # fmt: skip
        print(f"{name:44s} r'={k or 20:2d} error {error:8.1e} (sheet {sheet})  "
              f"{model.n_iter_:5d} iterations {seconds:6.2f} s")  # fmt: skip
        return model

    clean = robust_problem(500, 0.0)
    for alpha, sheet in ((0.1, "1e-2"), (1e-3, "5e-4"), (1e-6, "1e-6")):
        for k, wanted in ((3, "< 1e-13"), (None, sheet)):
            row(f"1 clean, loss step, alpha={alpha:g}", wanted, clean, k, step="loss",
                step_size=0.25 * 3**0.5, init_scale=alpha, max_iter=400, tol=0)  # fmt: skip
    paper = {"step": "geometric", "decay": 0.995, "max_iter": 3000}
    for share, m, sheets in (
        (0.1, 1000, ("<= 2e-7", "<= 2e-7")),
        (0.3, 2500, ("<= 2e-7", "<= 2e-7")),
        (0.5, 5000, ("<= 2e-7", "<= 2e-7")),
        (0.1, 500, ("5e-8", "3e-6")),
        (0.3, 1000, ("-", "7e-5")),
    ):
        data = robust_problem(m, share)
        for k, sheet in zip((3, None), sheets, strict=True):
            row(f"2 outliers {share:g}, m={m}, geometric", sheet, data, k, **paper)
            row(f"2 outliers {share:g}, m={m}, adaptive", sheet, data, k)
    for m, sheet in ((2000, "0.205"), (8000, "0.10")):
        data = robust_problem(m, 0.0, noise=1.0)
        for k in (3, None):
            model = row(f"4 noise 1, m={m}, geometric .99", sheet, data, k, step="geometric",
                        decay=0.99, max_iter=2000)  # fmt: skip
        X, y, M = data
        losses = [float(np.abs(y - np.einsum("ijk,jk", X, A)).mean()) for A in (model.matrix_, M)]
        print(f"  mean absolute residual {losses[0]:.3f}, of the truth {losses[1]:.3f}")
        out.append({"run": f"loss at m={m}", "fit": losses[0], "truth": losses[1]})
    X, y, M = robust_problem(1000, 0.1)
    right = np.einsum("ijk,jk", X, M)
    for factor in (1, 1e6):
        data = X, right + factor * (y - right), M
        row(f"5 outliers x {factor:g}", "same within 10 %", data, 3, **paper)
        row(f"5 outliers x {factor:g}, adaptive", "same within 10 %", data, 3)
    squared = MatrixSensingRegressor(3, max_iter=2000).fit(X, y)
    error = float(np.linalg.norm(squared.matrix_ - M))
    print(f"{'2 squared loss on outliers 0.1, m=1000':44s} error {error:8.1e} (sheet >= 0.7)")
    out.append({"run": "squared loss", "error": error})
    return out


def nuclear_norm(X, y, lam, tol=1e-8, max_iter=3000, start=None):
    """Accelerated proximal gradients on |A(M) - y|^2 / 2m + lam |M|_*, with restarts."""
    m, n1, n2 = X.shape
    A = X.reshape(m, -1)
    v = np.random.default_rng(0).standard_normal(n1 * n2)
    for _ in range(30):
        v = A.T @ (A @ v)
        L = np.linalg.norm(v)
        v /= L
    L /= m
    M = Z = np.zeros((n1, n2)) if start is None else start
    t, done = 1.0, 0
    while done < max_iter:
        done += 1
        grad = (A.T @ (A @ Z.ravel() - y)).reshape(n1, n2) / m
        U, S, Vt = np.linalg.svd(Z - grad / L, full_matrices=False)
        new = (U * np.maximum(S - lam / L, 0)) @ Vt
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        if ((Z - new) * (new - M)).sum() > 0:
            t_new, Z = 1.0, new
        else:
            Z = new + (t - 1) / t_new * (new - M)
        change = np.linalg.norm(new - M)
        M, t = new, t_new
        if change <= tol * max(np.linalg.norm(M), 1e-300):
            break
    return M, done


def to_an_error_of(limit, make, X, y, M):
    """Iterations and seconds of a fit that ends as soon as the relative error is below `limit`."""
    from sklr.decomposition import _sensing_solvers as solvers

    class Until:
        factors, count = None, 0

        def stop(self, t, F, G):
            # A symmetric result is symmetrised at the end.
            P = F @ G.T
            P = (P + P.T) / 2 if symmetrise else P
            done = np.linalg.norm(P - target) < limit * np.linalg.norm(target)
            if done:
                self.factors = (F, G)
            return done

    model = make()
    symmetrise = bool(model.symmetric is True)
    from sklr.decomposition._sensing_operator import SensingOperator

    target = M * SensingOperator(X.reshape(len(X), -1), M.shape, symmetric=symmetrise).scale
    original = solvers.gradient_descent

    def with_stop(*args, **options):
        options["validation"] = Until()
        return original(*args, **options)

    import sklr.decomposition._sensing_fit as module

    module.gradient_descent = with_stop
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            iterations = model.fit(X, y).n_iter_
    finally:
        module.gradient_descent = original
    error = np.linalg.norm(model.matrix_ - M) / np.linalg.norm(M)
    timed = make().set_params(max_iter=iterations)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timed.fit(X, y)
        seconds.append(time.process_time() - start)
    return iterations, float(np.median(seconds)), float(error)


def speed():
    from sklr.datasets import make_matrix_sensing
    from sklr.decomposition import MatrixSensingRegressor

    X, y, M = make_matrix_sensing(M_SAMPLES, shape=(N, N), rank=RANK, symmetric=True,
                                  random_state=0)  # fmt: skip
    k = 2 * RANK
    out = []
    print(f"\nto a relative error of 1e-6: {N} x {N}, rank {RANK}, k = {k}, m = {M_SAMPLES}")
    for name, options in (
        ("accelerated, symmetric=True", {"symmetric": True}),
        ("accelerated", {"symmetric": False}),
        ("gd, F G'", {"symmetric": False, "solver": "gd", "max_iter": 6000}),
        ("gd, F F'", {"symmetric": True, "solver": "gd", "max_iter": 20000}),
    ):
        iterations, seconds, error = to_an_error_of(
            1e-6,
            lambda: MatrixSensingRegressor(k, random_state=0, tol=0.0).set_params(**options),
            X, y, M,
        )  # fmt: skip
        share = iterations * one_pass(X) / seconds
        out.append({"run": name, "iterations": iterations, "seconds": seconds, "error": error,
                    "share": share, "limit": "two passes over the samples an iteration"}
                   )  # fmt: skip
        print(f"{name:34s}{iterations:7d} iterations {seconds:8.2f} s, error {error:.1e}, "
              f"{share:.0%} of it two passes over the samples an iteration")  # fmt: skip
    start = time.process_time()
    P, iterations = None, 0
    for lam in np.geomspace(0.1, 1e-7, 15):  # a path of warm starts, down to no penalty
        P, done = nuclear_norm(X, y, lam, tol=1e-6, max_iter=100, start=P)
        iterations += done
        if np.linalg.norm(P - M) < 1e-6 * np.linalg.norm(M):
            break
    seconds = time.process_time() - start
    error = float(np.linalg.norm(P - M) / np.linalg.norm(M))
    out.append({"run": "nuclear norm, proximal", "iterations": iterations, "seconds": seconds,
                "error": error})  # fmt: skip
    print(f"{'nuclear norm, proximal':34s}{iterations:7d} iterations {seconds:8.2f} s, "
          f"error {error:.1e}")  # fmt: skip
    out.append(tensorly_row(X, y, M, k))
    return out


def tensorly_row(X, y, M, k):
    try:
        from tensorly.regression.cp_regression import CPRegressor
    except ModuleNotFoundError as exc:
        print(f"tensorly's CPRegressor skipped: {exc}")
        return {"run": "tensorly", "skipped": str(exc)}
    for sweeps in (3, 10, 30, 100, 300):  # the first number of them that gets there
        start = time.process_time()
        model = CPRegressor(weight_rank=k, tol=1e-16, reg_W=1e-10, n_iter_max=sweeps,
                            verbose=False, random_state=0).fit(X, y)  # fmt: skip
        if np.linalg.norm(model.weight_tensor_ - M) < 1e-6 * np.linalg.norm(M):
            break
    seconds = time.process_time() - start
    error = float(np.linalg.norm(model.weight_tensor_ - M) / np.linalg.norm(M))
    print(f"{'tensorly CPRegressor':34s}{sweeps:7d} sweeps     {seconds:8.2f} s, error {error:.1e}")
    return {"run": "tensorly", "sweeps": sweeps, "seconds": seconds, "error": error}


def accuracy():
    """Test R^2 below as many samples as entries, by noise."""
    from sklearn.linear_model import RidgeCV

    from sklr.datasets import make_matrix_sensing
    from sklr.decomposition import MatrixSensingRegressor

    out = []
    print("\ntest R^2, 20 x 20, rank 3, 300 samples of 400 unknowns (2000 test samples)")
    for noise in (0.0, 0.3, 1.0):
        X, y, M = make_matrix_sensing(2300, noise=noise, random_state=1)
        train, test = slice(0, 300), slice(300, None)
        flat = X.reshape(len(X), -1)
        ridge = RidgeCV(np.logspace(-3, 4, 15), fit_intercept=False).fit(flat[train], y[train])
        row = {"noise": noise, "ridge": ridge.score(flat[test], y[test])}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, options in (
                ("k=3", {"n_components": 3}),
                ("k=6", {"n_components": 6}),
                ("k=6 early stopping", {"n_components": 6, "early_stopping": True}),
            ):
                model = MatrixSensingRegressor(random_state=0, **options).fit(X[train], y[train])
                row[name] = model.score(X[test], y[test])
        lams = np.logspace(-4, 0, 9)
        scores = []
        for lam in lams:  # the best on the test samples: a bound that no user reaches
            P, _ = nuclear_norm(X[train], y[train], lam, tol=1e-6, max_iter=1000)
            residual = y[test] - flat[test] @ P.ravel()
            scores.append(1 - residual @ residual / ((y[test] - y[test].mean()) ** 2).sum())
        row["nuclear norm, best lambda"] = float(max(scores))
        out.append(row)
        print("  ".join(f"{name} {value:.3f}" for name, value in row.items()))
    return out


def one_pass(X, repeats=9):
    """Least seconds of a product with all samples and of one with their transpose."""
    flat, w, times = X.reshape(len(X), -1), np.ones(X[0].size), []
    for _ in range(repeats):
        start = time.process_time()
        flat.T @ (flat @ w)
        times.append(time.process_time() - start)
    return min(times)


def robust_peers():
    from sklearn.linear_model import HuberRegressor

    from sklr.decomposition import MatrixSensingRegressor

    out = []
    for m in (500, 1000):
        X, y, M = robust_problem(m, 0.1)
        print(f"\n20 x 20, rank 3, m = {m}, 10 % outliers")

        def row(name, fit):
            start = time.process_time()
            P = fit()
            seconds = time.process_time() - start
            error = float(np.linalg.norm(P - M) / np.linalg.norm(M))
            out.append({"m": m, "run": name, "seconds": seconds, "error": error})
            print(f"{name:34s}{seconds:8.3f} s, relative error {error:.1e}")

        def limit(name, model):
            """Print the passes over the samples alone, two for each step that was made."""
            steps = model.n_iter_
            bound = steps * one_pass(X)
            share = bound / out[-1]["seconds"]
            words = "two passes over the samples a step"
            out[-1] |= {"steps": steps, "passes_alone": bound, "share": share, "limit": words}
            print(f"{'  limit of ' + name:34s}{bound:8.3f} s, {steps} steps that read the samples "
                  f"and no more: {share:.0%}")  # fmt: skip

        ours = MatrixSensingRegressor(loss="absolute", symmetric=True)
        row("sub-gradients, symmetric=True", lambda: ours.fit(X, y).matrix_)
        limit("the passes", ours)
        general = MatrixSensingRegressor(loss="absolute")
        row("sub-gradients", lambda: general.fit(X, y).matrix_)
        limit("the passes", general)
        row("squared loss", lambda: MatrixSensingRegressor(3, random_state=0).fit(X, y).matrix_)
        huber = HuberRegressor(fit_intercept=False, alpha=0, max_iter=2000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row("HuberRegressor",
                lambda: huber.fit(X.reshape(m, -1), y).coef_.reshape(20, 20))  # fmt: skip
        try:
            import cvxpy
        except ModuleNotFoundError as exc:
            print(f"cvxpy skipped: {exc}")
            out.append({"run": "cvxpy", "skipped": str(exc)})
            continue
        if m > 500:
            continue

        def by_cvxpy():
            P = cvxpy.Variable((20, 20), symmetric=True)
            fit = cvxpy.norm1(X.reshape(m, -1) @ cvxpy.vec(P, order="C") - y) / m
            cvxpy.Problem(cvxpy.Minimize(fit + 1e-2 * cvxpy.normNuc(P))).solve(solver="CLARABEL")
            return P.value

        row("cvxpy, |.|_1 + nuclear norm", by_cvxpy)
    return out


def in_kib(name):
    """Memory of this process (Linux): "VmRSS" now, "VmHWM" at its peak."""
    status = pathlib.Path("/proc/self/status").read_text()
    return float(status.partition(f"{name}:")[2].split()[0])


def growth():
    """Time of an iteration and memory above the samples, by size and kind of the samples."""
    from scipy import sparse

    from sklr.decomposition import MatrixSensingRegressor

    out = []
    rng = np.random.default_rng(0)
    print("\ncost of an iteration (first 50 less first 10), and peak memory above the samples")
    for n, m, kind, precompute in (
        (20, 1000, "float64", False), (20, 1000, "float64", True), (40, 1000, "float64", False),
        (40, 4000, "float64", False), (40, 4000, "float64", True), (40, 4000, "float32", False),
        (80, 4000, "float64", False), (80, 4000, "float32", False), (80, 4000, "1 % sparse", False),
    ):  # fmt: skip
        if kind == "1 % sparse":
            X = sparse.random_array((m, n * n), density=0.01, format="csr", rng=rng)
            y = rng.standard_normal(m)
        else:
            X = rng.standard_normal((m, n * n)).astype(kind)
            y = X[:, 0].astype(float)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far (Linux)
        before = in_kib("VmRSS")
        seconds = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for steps in (10, 50):
                model = MatrixSensingRegressor(6, max_iter=steps, tol=0, precompute=precompute,
                                               random_state=0, shape=(n, n))  # fmt: skip
                times = []
                for _ in range(3):
                    start = time.process_time()
                    model.fit(X, y)
                    times.append(time.process_time() - start)
                seconds.append(np.median(times))
        step = float(seconds[1] - seconds[0]) / 40
        memory = (in_kib("VmHWM") - before) / 1024
        size = X.nbytes if kind != "1 % sparse" else X.data.nbytes * 1.5
        out.append({"n": n, "m": m, "kind": kind, "gram": precompute, "step_ms": 1e3 * step,
                    "memory_mib": memory, "samples_mib": size / 2**20,
                    **share_of_limit(step, moved=8 * n**4 if precompute else 2 * size)}
                   )  # fmt: skip
        print(f"n={n:3d} m={m:5d} {kind:11s} gram={precompute!s:6s}{1e3 * step:8.3f} ms a step, "
              f"{size / step / 1e9:6.1f} GB/s of samples, +{memory:6.1f} MiB "
              f"(samples {size / 2**20:.1f})")  # fmt: skip
    return out


PARTS = {
    "descent": table_of_descent,
    "subgradients": table_of_subgradients,
    "speed": speed,
    "accuracy": accuracy,
    "robust": robust_peers,
    "growth": growth,
}


def main(argv=None):
    """Run the parts."""
    run_parts(__doc__, PARTS, argv)


if __name__ == "__main__":
    main()
