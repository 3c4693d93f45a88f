"""One training for every width against pruning, slimmable training, and a training a width.

Curves: digits, a perceptron 64-64-64-10, 1200 images to train and 597 to test, three seeds, 50
epochs for everybody, widths 1, .75, .5 and .25 and the mean over 20 widths from .25 to 1. "L1
pruning" keeps units of the dense network with the largest weights, nothing trains again. "Drawn,
not trained" puts the dense network's units in a smooth order and averages neighbours. "Slimmable"
trains first units from the first weights; "after a warm-up" is our own variant, with units in an
order of importance. "A training a width" is the upper reference, one fit for each width. "Four
widths" is trained at 1, .75, .5, .25 alone.

Left out: networks trained at those four widths alone, scored at nine others: the largest fall below
the line between the two neighbours that were trained, and the mean over the nine. Beside it the
default, which is trained at all widths: what remains there is no cost of leaving widths out.

Tables: defaults on five sets, three splits of half and half.

Draw: milliseconds for a network of 100,000 weights. Steps: CPU time of a fit over the dense one's.

Coordinates: the paper's recipe, one network of coordinates for each tensor (8 frequencies, 128
units, four layers, residual). First as published, 450 steps; then with outputs in the scale of the
dense network's weights and 800 steps of reconstruction alone; then 450 steps at drawn widths, with
and without noise on the coordinates. One seed: it takes minutes.
"""

import copy
import math
import statistics
import warnings

from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.functional import cross_entropy, linear  # noqa: E402

from sklr.neural_network import MorphableClassifier  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn import WeightField, smooth_permutation  # noqa: E402

WIDTHS = (1.0, 0.75, 0.5, 0.25)
MANY = np.linspace(0.25, 1, 20)
HIDDEN = (64, 64)


def split(seed):
    data, labels = load_digits(return_X_y=True)
    X, Xt, y, yt = train_test_split(
        data, labels, train_size=1200, stratify=labels, random_state=seed
    )
    scaler = StandardScaler().fit(X)
    return scaler.transform(X).astype(np.float32), scaler.transform(Xt).astype(np.float32), y, yt


def accuracy(network, X, y):
    with torch.no_grad():
        return float((network(torch.tensor(X)).argmax(dim=1).numpy() == y).mean())


def pruned(network, width):
    """Return the network of the units with the largest L1 norms."""
    small = copy.deepcopy(network)
    layers = [part for part in small if isinstance(part, nn.Linear)]
    for layer, following in zip(layers[:-1], layers[1:]):
        n = max(1, math.floor(width * len(layer.weight) + 0.5))
        kept = layer.weight.abs().sum(dim=1).argsort(descending=True)[:n]
        layer.weight, layer.bias = (nn.Parameter(p[kept]) for p in (layer.weight, layer.bias))
        following.weight = nn.Parameter(following.weight[:, kept])
    return small


def curves(seeds):
    """Mean accuracy on digits by width."""
    found = {}
    options = {"hidden_layer_sizes": HIDDEN, "max_iter": 50}
    variants = {
        "MorphableClassifier": {},
        "the same, no order": {"smooth": False},
        "slimmable": {"method": "slimmable", "warmup_iter": 0, "smooth": False},
        "slimmable after a warm-up": {"method": "slimmable"},
        "four widths": {"widths": WIDTHS},
    }

    def add(name, score):
        row = [score(width) for width in (*WIDTHS, *MANY)]
        found.setdefault(name, []).append([*row[:4], float(np.mean(row[4:]))])

    seconds = {}
    for seed in range(seeds):
        X, Xt, y, yt = split(seed)
        dense, fit = cpu(lambda: PerceptronClassifier(**options, random_state=seed).fit(X, y))  # noqa: B023
        network = fit.module_.network.float()  # the features are standardised already
        seconds.setdefault("dense", []).append(dense)
        add("L1 pruning", lambda w: accuracy(pruned(network, w), Xt, yt))  # noqa: B023
        smooth = WeightField(smooth_permutation(network))
        add("drawn, not trained", lambda w: accuracy(smooth.sample(w), Xt, yt))  # noqa: B023
        for name, more in variants.items():
            took, fit = cpu(
                lambda: MorphableClassifier(**options, **more, random_state=seed).fit(X, y)  # noqa: B023
            )
            seconds.setdefault(name, []).append(took)
            add(name, lambda w: fit.set_params(width=w).score(Xt, yt))  # noqa: B023
        row = []
        for width in WIDTHS:
            sizes = [math.floor(width * n + 0.5) for n in HIDDEN]
            own = PerceptronClassifier(hidden_layer_sizes=sizes, max_iter=50, random_state=seed)
            row.append(own.fit(X, y).score(Xt, yt))
        found.setdefault("a training a width", []).append([*row, float("nan")])
    result = {name: np.mean(rows, axis=0).round(4).tolist() for name, rows in found.items()}
    for name, row in result.items():
        print(f"{name:26}", *(f"{value:.3f}" for value in row))
    result["all seeds"] = {name: np.round(rows, 4).tolist() for name, rows in found.items()}
    result["CPU seconds"] = {k: round(statistics.mean(v), 2) for k, v in seconds.items()}
    print(result["CPU seconds"])
    return result


def left_out(seeds):
    """Points of accuracy at widths between four, below the line between their neighbours."""
    result = {}
    between = np.arange(13) % 4 > 0
    for name, widths in (("four widths", WIDTHS), ("all widths", None)):
        rows = []
        for seed in range(seeds):
            X, Xt, y, yt = split(seed)
            fit = MorphableClassifier(
                hidden_layer_sizes=HIDDEN, max_iter=50, widths=widths, random_state=seed
            ).fit(X, y)
            scores = fit.size_curve(Xt, yt, np.linspace(0.25, 1, 13))["score"]
            below = scores - np.interp(np.arange(13), [0, 4, 8, 12], scores[::4])
            rows.append([round(float(v), 4) for v in (below.min(), below[between].mean())])
        result[name] = {"worst": [row[0] for row in rows], "mean": [row[1] for row in rows]}
        print(f"{name:12}", result[name])
    return result


def tables(seeds):
    """Mean test accuracy with no parameters on five sets."""
    sets = {
        "digits": load_digits(return_X_y=True),
        "wine": load_wine(return_X_y=True),
        "breast cancer": load_breast_cancer(return_X_y=True),
        "iris": load_iris(return_X_y=True),
        "like covertype": make_classification(
            1500, 54, n_informative=12, n_redundant=10, n_classes=7, random_state=0
        ),
    }
    result = {}
    for name, (X, y) in sets.items():
        found = {}
        for seed in range(seeds):
            X_fit, X_test, y_fit, y_test = train_test_split(
                X, y, test_size=0.5, stratify=y, random_state=seed
            )
            for method in ("field", "slimmable"):
                fit = MorphableClassifier(method=method, random_state=seed).fit(X_fit, y_fit)
                for width, score in zip(
                    (1, 0.25), fit.size_curve(X_test, y_test, [1, 0.25])["score"]
                ):
                    found.setdefault(f"{method}, {width}", []).append(score)
            peer = make_pipeline(StandardScaler(), MLPClassifier(random_state=seed))
            found.setdefault("MLPClassifier", []).append(
                peer.fit(X_fit, y_fit).score(X_test, y_test)
            )
        result[name] = {key: round(statistics.mean(v), 4) for key, v in found.items()}
        print(name, result[name])
    return result


def draw(repeats):
    """Milliseconds to draw a network of 100,000 weights."""
    torch.set_num_threads(1)
    network = nn.Sequential(
        nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 10)
    )
    result = {}
    for method in ("field", "slimmable"):
        field = WeightField(network, method=method)
        width = 0.9
        took, small = cpu(lambda: field.sample(width), repeats)  # noqa: B023
        n = sum(p.numel() for p in small.parameters())
        work = flops_of(lambda: field.sample(width))  # noqa: B023
        limit = share_of_limit(took, flops32=work, moved=8 * n)
        result[method] = {"weights": n, "milliseconds": round(1e3 * took, 2), **limit}
    took, _ = cpu(lambda: smooth_permutation(network), 3)
    result["order of 2 x 300 units, seconds"] = round(took, 3)
    print(result)
    return result


class Coordinates(nn.Module):
    """A network of coordinates for each tensor of a perceptron, as in the paper."""

    def __init__(self, dense, *, scaled, n_freqs=8, units=128, n_layers=4):
        super().__init__()
        self.shapes = [tuple(value.shape) for value in dense]
        self.scales = [
            float(value.std()) * (value.shape[1] if value.ndim == 2 else 1) if scaled else 1.0
            for value in dense
        ]
        self.frequencies = math.pi * 2.0 ** torch.arange(n_freqs)
        self.parts = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Linear(6 + 12 * n_freqs, units),
                    *(nn.Linear(units, units) for _ in range(n_layers - 1)),
                    nn.Linear(units, 1),
                ]
            )
            for _ in dense
        )
        self.residual = nn.Parameter(torch.full((len(dense), n_layers - 1), 0.1))

    def weights(self, width, noise=0.0):
        """Return the tensors of a width."""
        n, N, found = len(self.shapes), max(HIDDEN), []
        for t, shape in enumerate(self.shapes):
            last, first = t >= n - 2, t < 2
            rows = shape[0] if last else round(width * shape[0])
            columns = 1 if len(shape) == 1 else shape[1] if first else round(width * shape[1])
            o, i = torch.meshgrid(
                torch.arange(rows) * 1.0, torch.arange(columns) * 1.0, indexing="ij"
            )
            o, i = (c + noise * (torch.rand_like(c) - 0.5) for c in (o, i))
            same = torch.ones_like(o)
            v = torch.stack(
                [t / n * same, o / rows, i / columns]
                + [share * same for share in (n / N, rows / N, columns / N)],
                dim=-1,
            )
            angles = (v[..., None] * self.frequencies).flatten(-2)
            x = torch.cat([v, angles.sin(), angles.cos()], dim=-1)
            into, *middle, out = self.parts[t]
            x = into(x).relu()
            for scale, layer in zip(self.residual[t], middle):
                x = x + scale * layer(x).relu()
            value = self.scales[t] * out(x)[..., 0] / columns
            found.append(value if len(shape) == 2 else value[:, 0])
        return found


def run(weights, x):
    for k in range(0, len(weights), 2):
        x = linear(x, weights[k], weights[k + 1])
        x = x.relu() if k < len(weights) - 2 else x
    return x


def coordinates():
    """Accuracy at 1, .75, .5, .25 of networks of coordinates."""
    X, Xt, y, yt = split(0)
    options = {"hidden_layer_sizes": HIDDEN, "max_iter": 50, "random_state": 0}
    fit = PerceptronClassifier(**options).fit(X, y)
    network = smooth_permutation(fit.module_.network.float())  # X is standardised already
    dense = [value.detach() for value in network.parameters()]
    result = {"dense": accuracy(network, Xt, yt)}
    x, labels = torch.tensor(X), torch.tensor(y)

    def scores(field):
        with torch.no_grad():
            rows = [accuracy(lambda z, w=w: run(field.weights(w), z), Xt, yt) for w in WIDTHS]
        return [round(row, 3) for row in rows]

    def train(field, n_steps, loss):
        optimizer = torch.optim.Adam(field.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        for k in range(n_steps):
            optimizer.zero_grad()
            loss(k).backward()
            optimizer.step()
            schedule.step()

    def distance(weights):
        return sum(((a - b) ** 2).mean() / b.var() for a, b in zip(weights, dense)) / len(dense)

    def at_drawn_widths(field, noise, rng):
        def loss(k):
            width = (1.0, rng.uniform(0.25, 1), 0.25)[k % 3]
            rows = torch.from_numpy(rng.integers(len(x), size=128))
            weights = field.weights(width, noise)
            value = cross_entropy(run(weights, x[rows]), labels[rows])
            return value + 0.1 * distance(weights) if width == 1 else value

        return loss

    def note(name, took, field):
        result[name] = [*scores(field), round(took, 1)]
        print(f"{name:46}", *result[name])

    torch.manual_seed(0)
    field = Coordinates(dense, scaled=False)
    took, _ = cpu(lambda: train(field, 450, at_drawn_widths(field, 1.0, np.random.default_rng(0))))
    note("as published, 450 steps", took, field)
    torch.manual_seed(0)
    field = Coordinates(dense, scaled=True)
    took, _ = cpu(lambda: train(field, 800, lambda _: distance(field.weights(1.0))))
    note("scaled, 800 steps of reconstruction", took, field)
    for noise in (1.0, 0.0):
        twin, rng = copy.deepcopy(field), np.random.default_rng(0)
        more, _ = cpu(lambda: train(twin, 450, at_drawn_widths(twin, noise, rng)))  # noqa: B023
        note(f"then 450 at drawn widths, noise {noise:g}", took + more, twin)
    return result


def steps(repeats):
    """CPU time of a fit over the dense network's; medians of interleaved fits."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    result = {}
    for sizes, epochs in (((128, 128), 10), ((512, 512), 4)):
        options = {"hidden_layer_sizes": sizes, "max_iter": epochs, "random_state": 0}
        fits = {
            "dense": PerceptronClassifier(**options),
            "every step": MorphableClassifier(**options, warmup_iter=0),
            "with warm-up": MorphableClassifier(**options),
            "slimmable, every step": MorphableClassifier(
                **options, warmup_iter=0, method="slimmable"
            ),
        }
        times = {key: [] for key in fits}
        for turn in range(repeats + 1):
            for key, fit in fits.items():
                took, _ = cpu(lambda: fit.fit(X / 16, y))  # noqa: B023
                if turn:
                    times[key].append(took)
        base = statistics.median(times["dense"])
        row = {key: round(statistics.median(v) / base, 2) for key, v in times.items()}
        work = flops_of(lambda: fits["every step"].fit(X / 16, y))  # noqa: B023
        limit = share_of_limit(statistics.median(times["every step"]), flops32=work)
        result[str(sizes)] = row | {"seconds, dense": round(base, 3)} | limit
        print(sizes, result[str(sizes)])
    return result


def main(argv=None):
    """Run the parts."""

    def options(parser):
        parser.add_argument("--seeds", type=int, default=3)
        parser.add_argument("--repeats", type=int, default=3)

    parts = {
        "curves": curves,
        "left_out": left_out,
        "draw": draw,
        "steps": steps,
        "tables": tables,
        "coordinates": coordinates,
    }
    run_parts(__doc__, parts, argv, options, lambda _: warnings.simplefilter("ignore"))


if __name__ == "__main__":
    main()
