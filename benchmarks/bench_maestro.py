"""One training for every size against smaller networks made after the fact.

Curves: digits, perceptrons 64-128-10 and 64-128-128-10, 1200 images to train and 597 to test, five
seeds, 50 epochs for everybody, shares 50, 30, 20, 15 and 10 % of the dense network's parameters.
Peers start from the dense network of the same seed: plain SVD with the same share in each layer
(`WeightSVD`, all layers), SVD with ranks chosen by the losses that truncating one layer costs (our
own rule), magnitude pruning over all weights (biases stay and count, indices do not count). None
of them trains again. "As in the paper" decomposes first weights and truncates one layer in each
step; its ranks are chosen by our rule. Slimmable is the perceptron of the first share of its hidden
units, whose shares were drawn in each step.

Tables: the classifiers with no parameters on five sets, five splits of half and half, beside
scikit-learn's perceptron with scaled features in its defaults, and the same network trained as it
is.

Steps: CPU time of a fit over that of the dense network, interleaved; "every step" has no warm-up.
Sizes, shares and seeds were fixed before the first run.
"""

import copy
import statistics
import time
import warnings

from _common import flops_of, one_blas_thread, run_parts, share_of_limit

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

from sklr.neural_network import MaestroClassifier  # noqa: E402
from sklr.neural_network._perceptron import PerceptronClassifier  # noqa: E402
from sklr.nn import decompose  # noqa: E402
from sklr.nn._ordered._layers import ordered_layers  # noqa: E402
from sklr.nn._ordered._sizes import Sizes, measured_losses  # noqa: E402
from sklr.nn.compression import WeightSVD, recompose  # noqa: E402

SHARES = (0.5, 0.3, 0.2, 0.15, 0.1)
WIDTHS = ((128,), (128, 128))


def n_parameters(network):
    return sum(p.numel() for p in network.parameters())


def accuracy(network, X, y):
    with torch.no_grad():
        return float((network(X).argmax(dim=1) == y).double().mean())


def pruned(network, share):
    """Return a copy in which the smallest weights are zero; biases stay."""
    network = copy.deepcopy(network)
    weights = [part.weight for part in network if isinstance(part, nn.Linear)]
    sizes = torch.cat([w.detach().abs().flatten() for w in weights]).sort(descending=True).values
    biases = n_parameters(network) - len(sizes)
    kept = max(1, int(share * n_parameters(network)) - biases)
    with torch.no_grad():
        for weight in weights:
            weight[weight.abs() < sizes[kept - 1]] = 0
    return network


def sizes_of_svd(network, X):
    """Return the decomposed network and the sizes that measured losses choose."""
    ordered = decompose(network).eval()
    layers = ordered_layers(ordered)
    with torch.no_grad():
        wanted = ordered(X[:512]).softmax(dim=1)

        def loss():
            return float(-(wanted * ordered(X[:512]).log_softmax(dim=1)).sum(dim=1).mean())

        return ordered, Sizes(layers, measured_losses(layers, loss))


def cut(ordered, sizes, network, share):
    entries = sum(part.weight.numel() for part in network if isinstance(part, nn.Linear))
    rest = n_parameters(network) - entries
    return recompose(ordered, sizes.ranks(share * n_parameters(network) - rest))


class Slimmable(nn.Module):
    """A perceptron that can be run with the first units of its hidden layers only."""

    def __init__(self, n_in, widths, n_out):
        super().__init__()
        sizes = [n_in, *widths, n_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:]))
        self.share = 1.0

    def width(self, full):
        """Return the units of a layer that run."""
        return max(1, int(self.share * full))

    def forward(self, x):
        """Return the logits."""
        for layer in self.layers[:-1]:
            w = self.width(layer.out_features)
            x = nn.functional.linear(x, layer.weight[:w, : x.shape[1]], layer.bias[:w]).relu()
        return nn.functional.linear(
            x, self.layers[-1].weight[:, : x.shape[1]], self.layers[-1].bias
        )

    def size(self):
        """Return the parameters that run."""
        sizes = [self.layers[0].in_features]
        sizes += [self.width(layer.out_features) for layer in self.layers[:-1]]
        sizes += [self.layers[-1].out_features]
        return sum(a * b + b for a, b in zip(sizes[:-1], sizes[1:]))


def slimmable(widths, X, y, seed):
    """Train for 50 epochs, each step the whole network and one share of its width."""
    torch.manual_seed(seed)
    network, rng = Slimmable(X.shape[1], widths, 10), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for _ in range(50):
        for rows in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            network.share = 1.0
            whole = network(X[rows])
            loss = nn.functional.cross_entropy(whole, y[rows])
            network.share = float(np.exp(rng.uniform(np.log(0.03), 0)))
            target = whole.detach().softmax(dim=1)
            (loss + nn.functional.cross_entropy(network(X[rows]), target)).backward()
            optimizer.step()
        schedule.step()
    return network


def curves(seeds):
    """Mean accuracy on digits by share of the parameters; nothing is trained again."""
    data, labels = load_digits(return_X_y=True)
    result = {}
    for widths in WIDTHS:
        found = {}

        def add(method, share, value):
            found.setdefault((method, share), []).append(value)

        for seed in range(seeds):
            parts = train_test_split(
                data, labels, train_size=1200, stratify=labels, random_state=seed
            )
            scaler = StandardScaler().fit(parts[0])
            X, Xt = (scaler.transform(part).astype(np.float32) for part in parts[:2])
            y, yt = parts[2:]
            options = {"hidden_layer_sizes": widths, "random_state": seed, "max_iter": 50}
            # The features are standardised already.
            dense = PerceptronClassifier(**options).fit(X, y).module_.network.float()
            x, xt, t, tt = (torch.tensor(a) for a in (X, Xt, y, yt))
            add("dense", 1.0, accuracy(dense, xt, tt))
            ordered, sizes = sizes_of_svd(dense, x)
            ours = {
                "ours": MaestroClassifier(**options).fit(X, y),
                "as in the paper": MaestroClassifier(
                    **options, sampling="pairs", warmup_iter=0
                ).fit(X, y),
            }
            slim = slimmable(widths, x, t, seed)
            for share in (1.0, *SHARES):
                for name, fit in ours.items():
                    add(name, share, fit.set_params(ratio=share).score(Xt, yt))
                for slim.share in np.linspace(1, 0.01, 100):
                    if slim.size() <= share * n_parameters(dense):
                        break
                with torch.no_grad():
                    add("slimmable", share, accuracy(slim, xt, tt))
                if share == 1:
                    continue
                small = WeightSVD(share, targets="all").fit(dense).transform(dense)
                add("SVD, same share", share, accuracy(small, xt, tt))
                add("SVD, our ranks", share, accuracy(cut(ordered, sizes, dense, share), xt, tt))
                add("magnitude", share, accuracy(pruned(dense, share), xt, tt))
        for (name, share), values in found.items():
            row = {"mean": round(statistics.mean(values), 4), "all": [round(v, 4) for v in values]}
            result[f"{widths}, {name}, {share:.0%}"] = row
            print(f"{widths!s:10} {name:16} {share:4.0%}  {row['mean']:.3f}")
    return result


def tables(seeds):
    """Mean test accuracy with no parameters on five sets."""
    sets = {
        "digits": load_digits(return_X_y=True),
        "wine": load_wine(return_X_y=True),
        "breast cancer": load_breast_cancer(return_X_y=True),
        "iris": load_iris(return_X_y=True),
        "like covertype": make_classification(
            3000, 54, n_informative=12, n_redundant=10, n_classes=7, random_state=0
        ),
    }
    result = {}
    for name, (X, y) in sets.items():
        found = {}
        for seed in range(seeds):
            X_fit, X_test, y_fit, y_test = train_test_split(
                X, y, test_size=0.5, stratify=y, random_state=seed
            )
            ours = MaestroClassifier(random_state=seed).fit(X_fit, y_fit)
            found.setdefault("ours, 100 %", []).append(ours.score(X_test, y_test))
            found.setdefault("ours, 30 %", []).append(
                ours.set_params(ratio=0.3).score(X_test, y_test)
            )
            for peer, estimator in {
                "MLPClassifier": MLPClassifier(random_state=seed),
                "same network": PerceptronClassifier(
                    hidden_layer_sizes=(128, 128), max_iter=50, random_state=seed
                ),
            }.items():
                fit = make_pipeline(StandardScaler(), estimator).fit(X_fit, y_fit)
                found.setdefault(peer, []).append(fit.score(X_test, y_test))
        result[name] = {
            key: [round(statistics.mean(v), 4), round(statistics.stdev(v), 4)]
            for key, v in found.items()
        }
        print(name, result[name])
    return result


def convolutions(shape):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10),
    )  # fmt: skip


def steps(repeats):
    """CPU time of a fit, over the dense network's; medians of interleaved fits."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    cases = {
        "perceptron 64-128-128": (X, {"hidden_layer_sizes": (128, 128)}, 10),
        "perceptron 64-512-512": (X, {"hidden_layer_sizes": (512, 512)}, 5),
        "convolutions 32-64": (X.reshape(-1, 1, 8, 8)[:600], {"module": convolutions}, 3),
    }
    result = {}
    for name, (data, options, epochs) in cases.items():
        options = {**options, "max_iter": epochs, "random_state": 0}
        fits = {
            "dense": PerceptronClassifier(**options),
            "every step": MaestroClassifier(**options, warmup_iter=0),
            "with warm-up": MaestroClassifier(**options),
        }
        times = {key: [] for key in fits}
        for turn in range(repeats + 1):
            for key, fit in fits.items():
                start = time.process_time()
                fit.fit(data, y[: len(data)])
                if turn:
                    times[key].append(time.process_time() - start)
        base = statistics.median(times["dense"])
        result[name] = {key: round(statistics.median(v) / base, 2) for key, v in times.items()}
        result[name]["seconds, dense"] = round(base, 3)
        work = flops_of(lambda: fits["every step"].fit(data, y[: len(data)]))  # noqa: B023
        result[name] |= share_of_limit(statistics.median(times["every step"]), flops32=work)
        print(name, result[name])
    return result


def main(argv=None):
    """Run the parts."""

    def options(parser):
        parser.add_argument("--seeds", type=int, default=5)
        parser.add_argument("--repeats", type=int, default=5)

    run_parts(
        __doc__,
        {"curves": curves, "tables": tables, "steps": steps},
        argv,
        options,
        lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    main()
