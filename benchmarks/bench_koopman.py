"""InformationKoopman against affine DMD (PyDMD) and EDMD (deeptime), and against its own ablation.

Decided before any run. Systems: Lorenz raw and lifted to 60 observations, a pendulum,
Lotka-Volterra, a field like the wake of a cylinder (an amplitude that grows to a limit cycle, in
288 points), a slow manifold. 20 trajectories to train, 10 to test, of 100 steps (Lorenz 200),
seeds 0 to 2. Error: root mean squared, in standard deviations of the training states (all
features together), exactly 5, 20 and 50 steps after every tenth state of the test trajectories.

forecasts   the default of the class; affine DMD; EDMD with cubic monomials, of six principal
            components where there are more features than six; both linear and going through the
            state at each step (the better of the two at each step counts for the peer)
ablation    the network on lifted Lorenz: information terms against alpha = gamma = 0, 40 epochs,
            40 trajectories, 30 others to test, linear forecasts; CPU time of the fits, interleaved
encoders    each encoder of the class on each system, seed 0
noise       states of training and starts with noise of .02, .1 and .3 standard deviations, errors
            to the states without it: instruments against the regression, seed 11
spectrum    eigenvalues of the slow manifold against the known ones
time        CPU seconds of a fit, peer / ours
"""

import warnings

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402

from sklr.neural_network import InformationKoopman  # noqa: E402

STEPS = (5, 20, 50)
SEEDS = (0, 1, 2)


def runge_kutta(f, x, dt, n_steps, substeps=10):
    """States of all trajectories, (n, n_steps, p); the first is `x`."""
    out, h = [x], dt / substeps
    for _ in range(n_steps - 1):
        for _ in range(substeps):
            a = f(x)
            b = f(x + h / 2 * a)
            c = f(x + h / 2 * b)
            d = f(x + h * c)
            x = x + h / 6 * (a + 2 * b + 2 * c + d)
        out.append(x)
    return np.stack(out, axis=1)


def lorenz(rng, n, n_steps=200):
    def f(x):
        a, b, c = x.T
        return np.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], axis=1)

    x = rng.normal(size=(n, 3)) * 8 + [0, 0, 25]
    return runge_kutta(f, x, 0.02, 500 + n_steps)[:, 500:]


def lifted(states):
    """The 60 observations; the same functions for every seed."""
    rng = np.random.default_rng(99)
    W, b = rng.normal(size=(3, 60)) / 15, rng.uniform(0, 6, 60)
    return np.tanh(states @ W + b / 3 - 1) + 0.3 * np.sin(2 * states @ W + b)


def pendulum(rng, n):
    def f(x):
        return np.stack([x[:, 1], -np.sin(x[:, 0])], axis=1)

    return runge_kutta(f, rng.uniform([-2.5, -0.5], [2.5, 0.5], (n, 2)), 0.1, 100)


def lotka_volterra(rng, n):
    def f(x):
        a, b = x.T
        return np.stack([a * (1 - b), b * (a - 1)], axis=1)

    return runge_kutta(f, rng.uniform(0.5, 2, (n, 2)), 0.1, 100)


def wake(rng, n):
    def f(x):
        a = x[:, 0] + 1j * x[:, 1]
        a = (0.2 + 1j) * a - (0.2 + 0.1j) * np.abs(a) ** 2 * a
        return np.stack([a.real, a.imag], axis=1)

    size, phase = rng.uniform(0.05, 1.2, n), rng.uniform(0, 2 * np.pi, n)
    x = size[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=1)
    states = runge_kutta(f, x, 0.2, 100)
    a = (states[..., 0] + 1j * states[..., 1])[..., None]
    across, along = np.meshgrid(np.linspace(-2, 2, 12), np.linspace(0, 8, 24))
    h, s = across.ravel(), along.ravel()
    grows = s / 4 * np.exp(-s / 4)
    first = grows * np.exp(-(h**2)) * np.exp(1.5j * s)
    second = 0.4 * grows * h * np.exp(-(h**2)) * np.exp(3j * s)
    shift = -np.exp(-(h**2) / 2) * np.exp(-s / 3)
    return 2 * (a * first + a**2 * second).real + np.abs(a) ** 2 * shift


def slow_manifold(rng, n):
    def f(x):
        return np.stack([-0.05 * x[:, 0], -(x[:, 1] - x[:, 0] ** 2)], axis=1)

    return runge_kutta(f, rng.uniform(-1, 1, (n, 2)), 0.1, 100)


SYSTEMS = {
    "Lorenz": lorenz,
    "lifted Lorenz": lambda rng, n: lifted(lorenz(rng, n)),
    "pendulum": pendulum,
    "Lotka-Volterra": lotka_volterra,
    "wake": wake,
    "slow manifold": slow_manifold,
}


def data(system, seed, n_train=20, n_test=10):
    states = SYSTEMS[system](np.random.default_rng(seed), n_train + n_test)
    return list(states[:n_train]), states[n_train:]


def initial_states(test):
    rows = np.arange(0, test.shape[1] - max(STEPS), 10)
    return test[:, rows].reshape(-1, test.shape[2]), rows


def errors(forecast, train, test):
    """Errors after STEPS; `forecast(x, n_steps)` returns (n, n_steps, p)."""
    x, rows = initial_states(test)
    found = forecast(x, max(STEPS))
    scale = np.sqrt(np.concatenate(train).var(axis=0).sum())
    out = []
    for step in STEPS:
        truth = test[:, rows + step].reshape(-1, test.shape[2])
        error = np.nan_to_num(found[:, step - 1] - truth, nan=1e3, posinf=1e3, neginf=-1e3)
        out.append(min(float(np.sqrt(np.square(error).sum(axis=1).mean()) / scale), 999.0))
    return out


def stepped(lift, K, decode, relift):
    def forecast(x, n_steps):
        out, z = [], lift(x)
        for _ in range(n_steps):
            z = z @ K
            out.append(np.clip(np.nan_to_num(decode(z)), -1e6, 1e6))
            if relift:
                z = lift(out[-1])
        return np.stack(out, axis=1)

    return forecast


def affine_dmd(train):
    """PyDMD on states and a constant, of pairs that cross no trajectory."""
    from pydmd import DMD

    X, Y = (np.concatenate([t[part] for t in train]) for part in (slice(-1), slice(1, None)))
    mean = X.mean(axis=0)
    one = np.ones((len(X), 1))
    out = []
    for rank in (-1, 0, 1 - 1e-8):  # all, the library's own threshold, a share of the energy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dmd = DMD(svd_rank=rank).fit(np.hstack([X - mean, one]).T, np.hstack([Y - mean, one]).T)
        K = (dmd.modes * dmd.eigs @ np.linalg.pinv(dmd.modes)).real.T
        out.append(
            stepped(
                lambda x: np.hstack([x - mean, np.ones((len(x), 1))]),
                K,
                lambda z: z[:, :-1] + mean,
                False,
            )
        )
    return out


def cubic_edmd(train):
    """The library's EDMD with all monomials up to degree three, linear and through the state."""
    from deeptime.basis import Monomials
    from deeptime.decomposition import EDMD
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    whole = np.concatenate(train)
    width = whole.shape[1]
    reduce = StandardScaler() if width <= 6 else make_pipeline(PCA(6), StandardScaler())
    reduce.fit(whole)
    parts = [reduce.transform(t) for t in train]
    width = min(width, 6)
    basis = Monomials(p=3, d=width)
    X, Y = (np.concatenate([t[part] for t in parts]) for part in (slice(-1), slice(1, None)))
    K = EDMD(basis, n_eigs=None).fit((X, Y)).fetch_model().operator
    names = basis.get_feature_names()
    linear = [list(names).index(f"x{i}") for i in range(width)]
    return [
        stepped(
            lambda x: basis(reduce.transform(x)),
            K,
            lambda z: reduce.inverse_transform(z[:, linear]),
            relift,
        )
        for relift in (False, True)
    ]


def ours(train, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return InformationKoopman(random_state=seed, **options).fit(train)


def shown(values):
    return " ".join(f"{v:9.2g}" for v in values)


def bench_forecasts(systems, out):
    """Default of the class, affine DMD, cubic EDMD."""
    for system in systems:
        rows = {"ours": [], "DMD": [], "EDMD": []}
        chosen = []
        for seed in SEEDS:
            train, test = data(system, seed)
            fit = ours(train, seed)
            chosen.append(f"{fit.encoder_}{', relift' if fit.relift_ else ''}")
            rows["ours"].append(errors(fit.forecast, train, test))
            for name, peer in (("DMD", affine_dmd), ("EDMD", cubic_edmd)):
                found = [errors(forecast, train, test) for forecast in peer(train)]
                rows[name].append(np.min(found, axis=0).tolist())
        medians = {name: np.median(values, axis=0).tolist() for name, values in rows.items()}
        print(system, chosen, flush=True)
        for name, values in medians.items():
            print(f"   {name:6s} {shown(values)}", flush=True)
        out[system] = {"chosen": chosen, "median": medians, "seeds": rows}
    return out


def bench_encoders():
    """Each encoder of the class, seed 0."""
    out = {}
    for system in SYSTEMS:
        train, test = data(system, 0)
        for encoder in ("linear", "polynomial", "rbf", "network"):
            seconds, fit = cpu(lambda: ours(train, 0, encoder=encoder, max_iter=20))  # noqa: B023
            found = errors(fit.forecast, train, test)
            print(f"{system:15s} {encoder:10s} {shown(found)}  {seconds:.1f} s", flush=True)
            out[f"{system}, {encoder}"] = {"errors": found, "seconds": seconds}
    return out


def bench_ablation(epochs, n_seeds, n_train, out):
    """The network with information terms, and with alpha = gamma = 0."""
    ours(data("lifted Lorenz", 0)[0], 0, encoder="network", max_iter=1)  # loads torch
    for seed in range(n_seeds):
        train, test = data("lifted Lorenz", seed, n_train=n_train, n_test=30)
        for name, weights in (("information", {}), ("plain", {"alpha": 0.0, "gamma": 0.0})):
            options = {"encoder": "network", "relift": False, "max_iter": epochs, **weights}
            seconds, fit = cpu(lambda: ours(train, seed, **options))  # noqa: B023
            found = errors(fit.forecast, train, test)
            print(
                f"seed {seed} {name:12s} {shown(found)}  dimension "
                f"{fit.effective_dimension_:.2f}  {seconds:.1f} s",
                flush=True,
            )
            out.setdefault(name, []).append(
                {"errors": found, "dimension": fit.effective_dimension_, "seconds": seconds}
            )
    return out


def bench_noise(out):
    """Measured with noise: the default, and without instruments."""
    for system in ("pendulum", "Lotka-Volterra", "wake", "lifted Lorenz"):
        train, test = data(system, 11)
        size = np.concatenate(train).std()
        for noise in (0.02, 0.1, 0.3):
            rng = np.random.default_rng(0)
            noisy = [x + noise * size * rng.standard_normal(x.shape) for x in train]
            test_noisy = test + noise * size * rng.standard_normal(test.shape)
            starts = initial_states(test_noisy)[0]
            for instruments in (False, "auto"):
                fit = ours(noisy, 0, instruments=instruments)
                found = errors(lambda x, n: fit.forecast(starts, n), train, test)  # noqa: B023
                name = "default" if instruments else "regression"
                print(f"{system:15s} {noise:.2f} {name:10s} {shown(found)}", flush=True)
                out[f"{system}, {noise}, {name}"] = {
                    "errors": found,
                    "chosen": [fit.encoder_, bool(fit.relift_), bool(fit.instruments_)],
                }
    return out


def bench_spectrum():
    """Eigenvalues of the slow manifold: .9048, .9900, .9950."""
    true = np.exp([-0.1, -0.01, -0.005])
    out = {}
    for name, options in {
        "default": {},
        "polynomial 2": {"encoder": "polynomial", "degree": 2},
        "network": {"encoder": "network", "n_components": 4, "max_iter": 40},
    }.items():
        fit = ours(data("slow manifold", 0)[0], 0, **options)
        values = fit.koopman_eigenvalues_
        off = [float(np.abs(values - t).min()) for t in true]
        print(f"{name:14s} {fit.encoder_:10s} off by {shown(off)}", flush=True)
        out[name] = off
    return out


def bench_time():
    """CPU seconds of a fit of Lotka-Volterra and lifted Lorenz, peers beside."""
    out = {}
    for system in ("Lotka-Volterra", "lifted Lorenz"):
        train, _ = data(system, 0)
        found = {
            "default": cpu(lambda: ours(train, 0), 3)[0],  # noqa: B023
            "polynomial": cpu(
                lambda: ours(train, 0, encoder="polynomial", ridge=1e-9, relift=True),  # noqa: B023
                3,
            )[0],
            "DMD": cpu(lambda: affine_dmd(train), 3)[0],  # noqa: B023
            "EDMD": cpu(lambda: cubic_edmd(train), 3)[0],  # noqa: B023
        }
        print(system, {name: round(value, 3) for name, value in found.items()}, flush=True)
        # Of the candidate that is taken, the products of lifted states before and after.
        size, steps = ours(train, 0).n_components_, sum(len(x) - 1 for x in train)
        out[system] = found | share_of_limit(found["default"], flops=2 * 2 * steps * size**2)
    return out


def add_options(parser):
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--n-seeds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--n-train", type=int, default=40)


if __name__ == "__main__":
    run_parts(
        __doc__,
        {
            "forecasts": bench_forecasts,
            "noise": bench_noise,
            "spectrum": bench_spectrum,
            "encoders": bench_encoders,
            "ablation": bench_ablation,
            "time": bench_time,
        },
        add_options=add_options,
    )
