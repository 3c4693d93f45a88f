"""PerturbedGenerativeModel on data on a curve, against KernelDensity and GaussianMixture.

Law, sizes, seeds, levels and peers were decided before any run. Law: the unit circle in the plane,
the angle .7 von Mises(0, 4) + .3 von Mises(pi, 4), no noise; 200 samples, seeds 0 to 4. Error:
Wasserstein-1 distance of 500 generated to 500 fresh samples, mean of five such pairs. The floor is
the distance of two fresh samples of 200 each, "data" that of the training samples, drawn with
replacement. After three seeds of a first run, in which mass along the curve was found to be learnt
slowly, latent_law="fitted" was made; both laws are measured, on the same generators.

circle      one latent, noise of 0, .02, .05, .1, .2 of the data's scale: the U;
            KernelDensity with the bandwidth of 5-fold cross-validation (20 from .01 to 3),
            GaussianMixture with 1 to 15 components by BIC
auto        noise_scale="auto": what it takes, its error, the CPU seconds of its six fits
roll        a Swiss roll with uniform angle (size / 10) in three dimensions, two latents: the same,
            noise 0, .02, .05, .1; seeds 0 to 2
high        a uniform circle in 20 dimensions, "iwae", n = 500, three latents: noise 0, .05, .1, .2,
            seeds 0 to 2
levels      noise_scale="auto" beside "rate", the default, and the fixed levels: the laws circle,
            roll and high, seeds from 0; energy distance of 2,000 drawn to 2,000 fresh samples
ordinary    the default, two latents (circle and moons one), beside GaussianMixture (1 to 15
            components by BIC) and the training samples drawn again: circle, two moons (also with
            two latents), Swiss roll, 10 principal components of digits, iris, wine; half to fit
            (300 at most), the energy distance of 2,000 drawn to the other half, in units of the
            scale; how far the log-density of the other half, with the noise that was added, is
            ahead of a mixture's of the training samples with theirs; seeds 0 and 1
apart       sets that are not one simple curve (two concentric circles, two lines, three arcs, moons
            far apart, a figure eight, two spiral arms, circles of unlike size, a line and a heap;
            two concentric spheres and two planes in space): the default with one latent (in space
            two) and two for concentric circles and the heap, beside the mixture and the training
            samples drawn again; 300 to fit, energy distance of 2,000 drawn to 2,000 fresh ones in
            units of the scale, and whether a warning came; seeds 0 and 1 (starts and smoothing
            were chosen on seeds 10 to 12)
time        CPU seconds of a fit (one noise level, the law of the circle) and of 500 samples

All but auto and time go on after the seeds that the file has.
"""

import warnings

import numpy as np
from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

from sklearn.datasets import (  # noqa: E402
    load_digits,
    load_iris,
    load_wine,
    make_moons,
    make_swiss_roll,
)
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neighbors import KernelDensity  # noqa: E402

from sklr.metrics import energy_distance, wasserstein_distance_nd  # noqa: E402
from sklr.neural_network import PerturbedGenerativeModel  # noqa: E402

LEVELS = (0.0, 0.02, 0.05, 0.1, 0.2)
N, N_DRAWN, N_PAIRS = 200, 500, 5


def circle(rng, n):
    """Angles in two heaps of unequal mass."""
    angle = np.where(rng.random(n) < 0.7, rng.vonmises(0, 4, n), rng.vonmises(np.pi, 4, n))
    return np.column_stack([np.cos(angle), np.sin(angle)])


def roll(rng, n):
    """Rolled up sheet."""
    angle, along = rng.uniform(1.5 * np.pi, 4.5 * np.pi, n), rng.uniform(0, 21, n)
    return np.column_stack([angle * np.cos(angle), along, angle * np.sin(angle)]) / 10


def high(rng, n):
    """Uniform circle in 20 dimensions, the same plane for every seed."""
    plane = np.linalg.qr(np.random.default_rng(99).standard_normal((20, 2)))[0]
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)]) @ plane.T


def scale_of(X):
    return float(np.sqrt(X.var(axis=0).mean()))


def error(law, draw, seed):
    """Mean distance of what `draw(n, seed)` generates to fresh samples."""
    fresh = [law(np.random.default_rng([seed, 1, k]), N_DRAWN) for k in range(N_PAIRS)]
    drawn = [draw(N_DRAWN, 1000 * seed + k) for k in range(N_PAIRS)]
    return float(np.mean([wasserstein_distance_nd(a, b) for a, b in zip(drawn, fresh)]))


def floor(law, n, seed):
    pairs = [[law(np.random.default_rng([seed, k, i]), n) for i in (5, 6)] for k in range(10)]
    return float(np.mean([wasserstein_distance_nd(a, b) for a, b in pairs]))


def again(X):
    return lambda n, k: X[np.random.default_rng(k).integers(len(X), size=n)]


def model(X, seed, noise, n_components, **options):
    return PerturbedGenerativeModel(
        n_components, noise_scale=noise, random_state=seed, **options
    ).fit(X)


def drawing(fit, **options):
    return lambda n, seed: fit.sample(n, random_state=seed, **options)


def peers(X, seed):
    """KernelDensity and GaussianMixture, tuned."""
    widths = {"bandwidth": np.geomspace(0.01, 3, 20)}
    density = GridSearchCV(KernelDensity(), widths, cv=5).fit(X).best_estimator_
    mixtures = [GaussianMixture(k, random_state=seed).fit(X) for k in range(1, 16)]
    mixture = min(mixtures, key=lambda m: m.bic(X))

    def of_mixture(n, k):
        return mixture.set_params(random_state=k).sample(n)[0]

    return {"KDE": drawing(density), "GMM": of_mixture}


def shown(name, values, more=""):
    print(f"{name:10s} {np.mean(values):.3f} +- {np.std(values):.3f} {more}", flush=True)


def bench_law(law, n, seeds, levels, out, n_components=1, with_peers=True, **options):
    rows, sigmas = out.get("W1", {}), out.get("sigma", {})
    for seed in seeds[len(rows.get("floor", [])) :]:
        X = law(np.random.default_rng(seed), n)
        rows.setdefault("floor", []).append(floor(law, n, seed))
        rows.setdefault("data", []).append(error(law, again(X), seed))
        for level in levels:
            fit = model(X, seed, level * scale_of(X), n_components, **options)
            rows.setdefault(str(level), []).append(error(law, drawing(fit), seed))
            sigmas.setdefault(str(level), []).append(fit.sigma_ / fit.scale_)
            if n_components <= 2:  # the same generator with the paper's uniform latents
                cells, log_weights = fit._cells, fit.module_["noise"]["log_weights"]
                log_weights.data.fill_(-np.log(cells.number))
                rows.setdefault(f"{level}, uniform", []).append(error(law, drawing(fit), seed))
        for name, draw in peers(X, seed).items() if with_peers else ():
            rows.setdefault(name, []).append(error(law, draw, seed))
        print(f"seed {seed}", {k: round(v[-1], 3) for k, v in rows.items()}, flush=True)
    for name, values in rows.items():
        more = f"sigma {np.mean(sigmas[name]):.3f}" if name in sigmas else ""
        shown(name, values, more)
    out |= {"W1": rows, "sigma": sigmas}
    return out


def bench_circle(n_seeds, out):
    """Two heaps on a circle: the U, and peers."""
    return bench_law(circle, N, range(n_seeds), LEVELS, out)


def bench_auto(n_seeds):
    """What "auto" takes on the circle."""
    rows = []
    for seed in range(n_seeds):
        X = circle(np.random.default_rng(seed), N)
        seconds, fit = cpu(lambda: model(X, seed, "auto", 1))  # noqa: B023
        path = {round(k / fit.scale_, 3): round(v, 4) for k, v in fit.noise_path_.items()}
        found = error(circle, drawing(fit), seed)
        rows.append(
            {"W1": found, "level": fit.noise_scale_ / fit.scale_, "path": path, "seconds": seconds}
        )
        print(f"seed {seed} {rows[-1]}", flush=True)
    shown("auto", [row["W1"] for row in rows])
    return rows


def bench_roll(n_seeds, out):
    """Swiss roll, two latents."""
    return bench_law(
        roll,
        N,
        range(min(3, n_seeds)),
        LEVELS[:4],
        out,
        n_components=2,
        with_peers=True,
    )


def bench_high(n_seeds, out):
    """Circle in 20 dimensions, importance weighted."""
    return bench_law(
        high,
        500,
        range(min(3, n_seeds)),
        (0.0, 0.05, 0.1, 0.2),
        out,
        n_components=3,
        with_peers=True,
    )


def bench_levels(n_seeds, out):
    """What "auto" and "rate" take, beside the fixed levels."""
    for name, law, n, n_components in (
        ("circle", circle, N, 1),
        ("high", high, 500, 3),
        ("roll", roll, N, 2),
    ):
        rows = out.setdefault(name, {})
        for seed in range(len(rows.get("auto", [])), n_seeds):
            X, fresh = (
                law(np.random.default_rng(key), k) for key, k in ((seed, n), ([seed, 1], 2000))
            )
            unit = scale_of(X)
            for level in (*LEVELS, "rate", "auto"):
                noise = level if isinstance(level, str) else level * unit
                fit = model(X, seed, noise, n_components)
                found = energy_distance(fit.sample(2000, random_state=seed) / unit, fresh / unit)
                row = {"distance": found, "level": fit.noise_scale_ / unit}
                rows.setdefault(str(level), []).append(row)
                print(name, seed, level, {k: round(v, 4) for k, v in row.items()}, flush=True)
    return out


def ordinary(name, seed):
    """Samples to fit and samples set aside."""
    rng = np.random.default_rng(seed)
    if name == "circle":
        angle = rng.uniform(0, 2 * np.pi, 600)
        X = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(600, 2))
    elif name.startswith("moons"):
        X = make_moons(600, noise=0.05, random_state=seed)[0]
    elif name == "Swiss roll":
        X = make_swiss_roll(600, noise=0.5, random_state=seed)[0]
    elif name == "digits":
        X = PCA(10, random_state=0).fit_transform(load_digits().data)
    else:
        X = (load_iris() if name == "iris" else load_wine()).data
    X = rng.permutation(X)
    n = min(300, len(X) // 2)
    return X[:n], X[n : 2 * n]


def mixture_of(X, seed, most=15):
    numbers = range(1, 1 + min(15, most))
    mixtures = [GaussianMixture(k, random_state=seed).fit(X) for k in numbers]
    return min(mixtures, key=lambda m: m.bic(X))


def add_distances(row, fit, X, others, seed):
    """Add the energy distances of samples of the model, and of a mixture, to points not seen."""
    drawn = {
        "model": fit.sample(2000, random_state=seed),
        "model with its noise": fit.sample(2000, noise=True, random_state=seed),
        "mixture": mixture_of(X, seed).sample(2000)[0],
        "samples": again(X)(2000, seed),
    }
    unit = scale_of(X)
    for who, sample in drawn.items():
        row.setdefault(who, []).append(energy_distance(sample / unit, others / unit))


def nats_ahead(fit, X, others, seed):
    """Mean log-density of points not seen, beside that of a mixture; noise is added to all."""
    rng = np.random.default_rng([seed, 2])
    X, others = (A + fit.noise_scale_ * rng.normal(size=A.shape) for A in (X, others))
    most = max(1, len(X) // (2 * (X.shape[1] + 1)))  # of more it says nothing about other points
    return float(fit.score(others) - mixture_of(X, seed, most).score(others))


def quietly(fitted):
    """A fit, and what it warned of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return fitted(), [str(w.message) for w in said]


def bench_ordinary(n_seeds, out):
    """The default beside a mixture, on ordinary data."""
    names = ("circle", "moons", "moons, 2", "Swiss roll", "digits", "iris", "wine")
    for seed in range(min(2, n_seeds)):
        for name in names:
            row = out.setdefault(name, {})
            if len(row.get("model", [])) > seed:
                continue
            X, held = ordinary(name, seed)
            d = 1 if name in ("circle", "moons") else 2
            fit, said = quietly(lambda: model(X, seed, "rate", d))  # noqa: B023
            add_distances(row, fit, X, held, seed)
            row.setdefault("nats ahead", []).append(nats_ahead(fit, X, held, seed))
            row.setdefault("warnings", []).append(said)
            print(name, seed, {who: v[-1] for who, v in row.items()}, flush=True)
    return out


def two(rng, one, other):
    """Rows of one or the other, as likely."""
    return np.where(rng.random((len(one), 1)) < 0.5, one, other)


def on_sphere(rng, n, n_features):
    X = rng.normal(size=(n, n_features))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def apart(name, rng, n):
    """Samples of a set that is not one simple curve, with a little noise."""
    noise = 0.03
    if name in ("concentric", "spheres", "unlike circles"):
        n_features = 3 if name == "spheres" else 2
        one, other = on_sphere(rng, n, n_features), on_sphere(rng, n, n_features)
        X = two(rng, one, 0.1 * other + [2, 0] if name == "unlike circles" else 0.5 * other)
        noise = 0.03 if name == "concentric" else 0.02
    elif name in ("lines", "planes"):
        X = rng.uniform(-1, 1, (n, 2 if name == "lines" else 3))
        X[:, -1] = np.where(rng.random(n) < 0.5, 1, -1) * (0.3 if name == "lines" else 0.4)
    elif name == "arcs":
        k = rng.integers(0, 3, n)
        angle = rng.uniform(0, 2.5, n) + k
        X = 3 * np.column_stack([np.cos(2.1 * k), np.sin(2.1 * k)])
        X += np.column_stack([np.cos(angle), np.sin(angle)])
    elif name == "far moons":
        X, y = make_moons(n, noise=0.05, random_state=int(rng.integers(1_000_000)))
        return X + np.outer(y, [4, 2])
    elif name == "eight":
        angle = rng.uniform(0, 2 * np.pi, n)
        X = np.column_stack([np.sin(angle), np.sin(2 * angle)])
    elif name == "arms":
        angle = rng.uniform(0.5, 2.5 * np.pi, n)
        X = angle[:, None] / 6 * np.column_stack([np.cos(angle), np.sin(angle)])
        X *= np.where(rng.random((n, 1)) < 0.5, 1, -1)
    else:
        line = np.column_stack([rng.uniform(-1, 1, n), np.zeros(n)])
        return two(
            rng, line + noise * rng.normal(size=(n, 2)), 0.4 * rng.normal(size=(n, 2)) + [3, 0]
        )
    return X + noise * rng.normal(size=X.shape)


def bench_apart(n_seeds, out):
    """The default on sets that are not one simple curve."""
    rows = [(name, 1) for name in ("concentric", "lines", "arcs", "far moons", "eight", "arms")]
    rows += [("unlike circles", 1), ("line and heap", 1), ("spheres", 2), ("planes", 2)]
    rows += [("concentric", 2), ("line and heap", 2)]
    for seed in range(min(2, n_seeds)):
        for name, d in rows:
            row = out.setdefault(f"{name}, {d}", {})
            if len(row.get("seeds", [])) > seed:
                continue
            row.setdefault("seeds", []).append(seed)
            X = apart(name, np.random.default_rng(seed), 300)
            fresh = apart(name, np.random.default_rng([seed, 1]), 2000)
            fit, said = quietly(lambda: model(X, seed, "rate", d))  # noqa: B023
            add_distances(row, fit, X, fresh, seed)
            row.setdefault("nats ahead", []).append(nats_ahead(fit, X, fresh, seed))
            row.setdefault("held out", []).append(fit.held_out_)
            row.setdefault("warnings", []).append(said)
            print(name, d, seed, {who: v[-1] for who, v in row.items()}, flush=True)
    return out


def bench_time():
    """CPU seconds of a fit and of 500 samples."""
    X = circle(np.random.default_rng(0), N)
    seconds, fit = cpu(lambda: model(X, 0, 0.05, 1))
    density = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.01, 3, 20)}, cv=5)
    found = {
        "fit": seconds,
        "sample": cpu(lambda: fit.sample(500), 5)[0],
        "score_samples": cpu(lambda: fit.score_samples(X), 5)[0],
        "KDE with search": cpu(lambda: density.fit(X))[0],
        "GMM by BIC": cpu(lambda: [GaussianMixture(k).fit(X) for k in range(1, 16)])[0],
    }
    print({name: round(value, 4) for name, value in found.items()}, flush=True)
    return found | share_of_limit(seconds, flops32=flops_of(lambda: model(X, 0, 0.05, 1)))


def add_options(parser):
    parser.add_argument("--n-seeds", type=int, default=5)


if __name__ == "__main__":
    run_parts(
        __doc__,
        {
            "circle": bench_circle,
            "auto": bench_auto,
            "roll": bench_roll,
            "high": bench_high,
            "levels": bench_levels,
            "ordinary": bench_ordinary,
            "apart": bench_apart,
            "time": bench_time,
        },
        add_options=add_options,
    )
