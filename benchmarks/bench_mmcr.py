"""MMCR against SimCLR at equal cost, pixels and an untrained network; and the cost of a step.

Probe: 1000 MNIST digits of 14 x 14 without labels, then a linear classifier on ten labels a class,
1000 other digits to test. MMCR and SimCLR have the same networks, optimiser, views in a step and
steps. Step: loss and gradient for given embeddings, against InfoNCE over all pairs of views.
"""

import os
import pathlib
import statistics
import time

from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from sklr.neural_network import MMCR  # noqa: E402
from sklr.nn import mmcr_loss  # noqa: E402

TEMPERATURE = 0.2


def info_nce(z, n_views):
    """The other views of a sample are to be found among all views of a batch."""
    unit = torch.nn.functional.normalize(z, dim=1)
    n = len(unit)
    logits = (unit @ unit.T / TEMPERATURE).masked_fill(torch.eye(n, dtype=torch.bool), -1e9)
    sample = torch.arange(n // n_views).repeat_interleave(n_views)
    positive = (sample[:, None] == sample) & ~torch.eye(n, dtype=torch.bool)
    return -torch.log_softmax(logits, dim=1)[positive].mean()


class SimCLR(MMCR):
    """The same estimator with the other loss."""

    def _loss(self, module, xb, yb, step):
        views = step.memory["augment"](xb, step.generator)
        return info_nce(module["projector"](module["encoder"](views)), self.n_views)


def mnist():
    """Return images of 14 x 14 and labels, or None where the data are not given."""
    folder = os.environ.get("SKLR_TEST_DATA")
    path = pathlib.Path(folder or ".") / "images" / "mnist4k.npz"
    if not path.is_file():
        return None
    with np.load(path) as file:
        X, y = file["X"].astype(np.float32) / 255, file["y"].astype(int)
    return X.reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5)), y


def probe_accuracy(features, y, seed):
    """Accuracy of a linear classifier on ten labels a class, mean of five draws of labels."""
    scaled = StandardScaler().fit(features[:1000]).transform(features)
    found = []
    for draw in range(5):
        rng = np.random.default_rng([seed, draw])
        some = [rng.choice(np.flatnonzero(y[:1000] == c), 10, replace=False) for c in range(10)]
        labelled = np.concatenate(some)
        probe = LogisticRegression(C=0.1, max_iter=2000).fit(scaled[labelled], y[labelled])
        found.append(probe.score(scaled[3000:], y[3000:]))
    return statistics.mean(found)


def bench_probe(seeds):
    data = mnist()
    if data is None:
        print("probe: skipped, SKLR_TEST_DATA has no images/mnist4k.npz")
        return []
    X, y = data
    rows = []
    print(f"{'seed':>4} {'features':<16}{'accuracy':>9}{'s':>7}{'steps':>7}")
    for seed in seeds:
        models = {
            "pixels": None,
            "untrained": MMCR(max_iter=1, learning_rate=1e-12, random_state=seed),
            "MMCR": MMCR(max_iter=20, n_views=4, batch_size=64, random_state=seed),
            # As many views in a step, as many steps.
            "SimCLR": SimCLR(max_iter=43, n_views=2, batch_size=128, random_state=seed),
        }
        for name, model in models.items():
            began = time.perf_counter()
            features = X.reshape(len(X), -1) if model is None else model.fit(X[:1000]).transform(X)
            seconds = time.perf_counter() - began
            steps = {"MMCR": 300, "SimCLR": 301}.get(name, 0)
            found = probe_accuracy(features, y, seed)
            rows.append(
                {"seed": seed, "features": name, "accuracy": found, "seconds": seconds,
                 "steps": steps}
            )  # fmt: skip
            print(f"{seed:4d} {name:<16}{found:9.3f}{seconds:7.1f}{steps:7d}", flush=True)
    for name in models:
        mean = statistics.mean(r["accuracy"] for r in rows if r["features"] == name)
        print(f"mean {name:<16}{mean:9.3f}")
    return rows


def seconds_of(loss, z, n_views, repeats):
    leaf = z.clone().requires_grad_()

    def step():
        leaf.grad = None
        loss(leaf, n_views).backward()

    step()
    return cpu(step, repeats)[0], flops_of(step)


def bench_step(repeats=15):
    rows = []
    print(f"{'B':>5}{'K':>4}{'D':>5}{'MMCR ms':>10}{'InfoNCE ms':>12}{'ratio':>7}")
    for batch, n_views, d in ((64, 4, 128), (64, 16, 128), (64, 32, 128), (128, 2, 64)):
        z = torch.randn(batch * n_views, d, generator=torch.Generator().manual_seed(0))
        (ours, work), (theirs, _) = (
            seconds_of(f, z, n_views, repeats) for f in (mmcr_loss, info_nce)
        )
        rows.append({"B": batch, "K": n_views, "D": d, "mmcr": ours, "info_nce": theirs,
                     # Vectors are read, and their gradient written.
                     **share_of_limit(ours, flops32=work, moved=8 * batch * n_views * d,
                                      eigen=[(1, min(batch, d))])})  # fmt: skip
        print(
            f"{batch:5d}{n_views:4d}{d:5d}{1e3 * ours:10.2f}{1e3 * theirs:12.2f}"
            f"{theirs / ours:7.1f}"
        )
    return rows


def one_thread(_):
    torch.set_num_threads(1)
    return {"torch": torch.__version__, "threads": 1, "temperature": TEMPERATURE}


def main(argv=None):
    """Print both tables."""
    run_parts(
        __doc__,
        {"step": bench_step, "probe": bench_probe},
        argv,
        lambda parser: parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2]),
        one_thread,
    )


if __name__ == "__main__":
    main()
