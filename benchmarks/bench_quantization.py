"""The latent quantisation filter against simpler filters under attack; and its speed.

Two sets of 2000 images to train everything and 500 others to test, images of 28 x 28 in [0, 1]:
MNIST, and the same digits with contrasts of 0.2 to 0.5 on grey backgrounds of 0 to 0.5. The
classifier is a perceptron 784-128-10. "Given" (the first five columns): the classifier was trained
on images without a filter and is attacked alone; the filter is put before it. "Behind": a pipeline
of the filter and a classifier trained behind it; that classifier is attacked alone, and then the
whole ("knows it": BPDA, for the latent filter with 10 draws of its noise a step, rounding straight
through, the others exactly). PGD has 10 steps of eps / 4 from a random start.

Fixed before running: rows 0 to 2000 and 3500 to 4000, seed 1; bits, threshold and softness were
chosen on rows 3000 to 3500 of MNIST with seed 0; 16 components (32 held less there under attack).
Rounding is to one bit at 0.5, "own middle" at the middle between the least and the largest pixel of
each image. "One range" is the latent filter with ``feature_range="auto"``, by default it scales
each image by its own range; which of them is the default was chosen on rows 3000 to 3500 of both
sets with seeds 10 and 11. The autoencoder is MLPRegressor, 256-64-256, with as many epochs.
"""

import os
import pathlib
import time
import warnings

from _common import flops_of, one_blas_thread, run_parts, share_of_limit, timed

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from _attacks import fgsm, pgd, straight_through, through_filter  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.neural_network import MLPRegressor  # noqa: E402

from sklr.neural_network import LatentQuantizationFilter  # noqa: E402

TRAIN, TEST = slice(0, 2000), slice(3500, 4000)
EPS = {"mnist": (0.2, 0.3), "grey": (0.05, 0.1)}


def images(kind):
    """Return images as rows and labels, or None where the data are not given."""
    folder = os.environ.get("SKLR_TEST_DATA")
    path = pathlib.Path(folder or ".") / "images" / "mnist4k.npz"
    if not path.is_file():
        return None
    with np.load(path) as file:
        X, y = file["X"].reshape(-1, 784).astype(np.float32) / 255, file["y"].astype(int)
    if kind == "grey":
        rng = np.random.default_rng(0)
        background, contrast = rng.uniform(0, 0.5, (len(X), 1)), rng.uniform(0.2, 0.5, (len(X), 1))
        X = np.clip(background + contrast * X, 0, 1).astype(np.float32)
    return X, y


def classifier(X, y, seed):
    """Return a perceptron after 30 epochs of Adam."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    X, y = tensor(X), torch.tensor(y)
    for _ in range(30):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
            optimizer.step()
    return net.requires_grad_(False)


def tensor(X):
    return torch.tensor(np.asarray(X, dtype=np.float32))


def above_middle(x):
    """Round each pixel to one bit, at the middle of its image's own range."""
    low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
    return (x > (low + high) / 2).float()


def accuracy(net, X, y):
    with torch.no_grad():
        return float((net(tensor(X)).argmax(dim=1) == y).float().mean())


def filters(X, seed):
    """Yield names, filters of arrays, ways to attack through them, and seconds of fitting."""
    yield "none", lambda Z: Z, lambda net: net, 0.0
    yield "rounding", lambda Z: (Z > 0.5) * 1.0, lambda net: straight_through(
        lambda x: (x > 0.5).float(), net
    ), 0.0  # fmt: skip
    yield "own middle", lambda Z: above_middle(tensor(Z)).numpy(), lambda net: straight_through(
        above_middle, net
    ), 0.0  # fmt: skip
    began = time.process_time()
    pca = PCA(16, random_state=0).fit(X)
    W, mean = tensor(pca.components_), tensor(pca.mean_)
    yield (
        "PCA 16",
        lambda Z: pca.inverse_transform(pca.transform(Z)),
        lambda net: lambda x: net(mean + (x - mean) @ W.T @ W),
        time.process_time() - began,
    )
    began = time.process_time()
    coder = MLPRegressor(
        hidden_layer_sizes=(256, 64, 256),
        batch_size=64,
        max_iter=50,
        n_iter_no_change=50,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        coder.fit(X, X)
    layers = [(tensor(w), tensor(b)) for w, b in zip(coder.coefs_, coder.intercepts_, strict=True)]

    def through(net):
        def whole(x):
            for W, b in layers[:-1]:
                x = torch.relu(x @ W + b)
            return net(x @ layers[-1][0] + layers[-1][1])

        return whole

    yield "autoencoder", coder.predict, through, time.process_time() - began
    for name, feature_range in (("latent filter", "sample"), ("one range", "auto")):
        began = time.process_time()
        ours = LatentQuantizationFilter(feature_range=feature_range, random_state=seed).fit(X)
        ours.module_.requires_grad_(False)
        seconds = time.process_time() - began
        yield name, ours.transform, lambda net, ours=ours: through_filter(ours, net), seconds


def bench_attacks(kind, seeds):
    data = images(kind)
    if data is None:
        print("skipped, SKLR_TEST_DATA has no images/mnist4k.npz")
        return None
    X, y = data
    x, target = tensor(X[TEST]), torch.tensor(y[TEST])
    low, high = EPS[kind]
    heads = ["clean", f"noise {high}", f"FGSM {low}", f"PGD {low}", f"PGD {high}"]
    heads += ["clean", f"PGD {low}", f"PGD {high}", f"knows it {low}", f"knows it {high}"]
    print(f"{'seed filter':<18}" + "".join(f"{head:>13}" for head in heads) + "      fit s")
    rows = []
    for seed in seeds:
        given = classifier(X[TRAIN], y[TRAIN], seed)
        signs = torch.tensor(np.random.default_rng(seed).choice([-1.0, 1.0], x.shape)).float()
        shown = [x, (x + high * signs).clamp(0, 1), fgsm(given, x, target, low)]
        shown += [pgd(given, x, target, eps) for eps in (low, high)]
        for name, function, through, seconds in filters(X[TRAIN], seed):
            found = [accuracy(given, function(some.numpy()), target) for some in shown]
            net = classifier(function(X[TRAIN]), y[TRAIN], seed)
            alone = [x, *(pgd(net, x, target, eps) for eps in (low, high))]
            draws = 10 if name in ("latent filter", "one range") else 1
            whole = through(net)
            alone += [pgd(whole, x, target, eps, n_draws=draws) for eps in (low, high)]
            found += [accuracy(net, function(some.numpy()), target) for some in alone]
            rows.append({"seed": seed, "filter": name, "accuracy": found, "seconds": seconds})
            print(
                f"{seed:<5}{name:<13}" + "".join(f"{v:13.3f}" for v in found) + f"{seconds:11.1f}",
                flush=True,
            )
    means = {}
    for name in dict.fromkeys(row["filter"] for row in rows):
        mean = np.mean([row["accuracy"] for row in rows if row["filter"] == name], axis=0)
        means[name] = mean.round(4).tolist()
        print(f"mean {name:<13}" + "".join(f"{value:13.3f}" for value in mean))
    return {"columns": heads, "rows": rows, "means": means}


def bench_speed(repeats=5):
    """Images of 28 x 28 filtered in a second, one thread, CPU time."""
    X = np.random.default_rng(0).uniform(size=(2000, 784)).astype(np.float32)
    ours = LatentQuantizationFilter(max_iter=1, random_state=0).fit(X)
    seconds, _ = timed(lambda: ours.transform(X), repeats, time.process_time)
    pca = PCA(16, random_state=0).fit(X)
    theirs, _ = timed(lambda: pca.inverse_transform(pca.transform(X)), repeats, time.process_time)
    print(f"{len(X) / seconds:.0f} images/s (PCA 16: {len(X) / theirs:.0f})")
    limit = share_of_limit(seconds, flops32=flops_of(lambda: ours.transform(X)))
    return {"images_per_s": len(X) / seconds, "pca_images_per_s": len(X) / theirs, **limit}


def one_thread(_):
    torch.set_num_threads(1)
    return {"torch": torch.__version__, "threads": 1}


def main(argv=None):
    """Print all tables."""
    run_parts(
        __doc__,
        {
            "speed": bench_speed,
            "mnist": lambda seeds: bench_attacks("mnist", seeds),
            "grey": lambda seeds: bench_attacks("grey", seeds),
        },
        argv,
        lambda parser: parser.add_argument("--seeds", type=int, nargs="+", default=[1]),
        one_thread,
    )


if __name__ == "__main__":
    main()
