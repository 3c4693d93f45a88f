"""Class subspaces against a linear head: accuracy, seconds of an epoch, seconds of a step.

Everything on one thread. Accuracy: a union of subspaces on raw features, and digits under a
perceptron; sizes and seeds are those of the issue. Time: the same network with either head under
the same loop, and one step on the manifold against the paper's by a batched SVD.
"""

import os
import statistics
import time
import warnings

from _common import flops_of, run_parts, share_of_limit


def union_of_subspaces(n, seed, C=6, D=24, k=3, noise=0.1):
    """Samples of random subspaces, one for each class."""
    import numpy as np

    rng = np.random.default_rng(seed)
    bases = np.linalg.qr(rng.standard_normal((C, D, k)))[0]
    y = rng.integers(C, size=n)
    X = np.einsum("ndk,nk->nd", bases[y], rng.standard_normal((n, k)))
    return X + noise * rng.standard_normal((n, D)), y


def linear_head(times=1):
    """Return the classifier with the same network, loop and schedule, and a linear last layer.

    Each logit is the sum of so many outputs as `times` says.
    """
    import torch
    from torch import nn

    from sklr.neural_network import GrassmannClassifier
    from sklr.neural_network._classifier import TorchClassifierMixin

    class Sums(nn.Module):
        def forward(self, outputs):
            return outputs.unflatten(1, (-1, times)).sum(dim=2)

    class LinearHead(GrassmannClassifier):
        _loss = TorchClassifierMixin._loss

        def _build(self, n_in, n_out):
            network = super()._build(n_in, n_out)
            wide = nn.Linear(network.head.in_features, times * n_out)
            network.head = wide if times == 1 else nn.Sequential(wide, Sums())
            return network

        def _optimizers(self, module):
            return torch.optim.SGD(
                module.parameters(), self.learning_rate, self.momentum, 0, self.weight_decay
            )

    return LinearHead


def heads(components, **options):
    """Name -> classifier."""
    from sklr.neural_network import GrassmannClassifier

    found = {"linear head": linear_head()(2, **options)}
    for k in components:
        found[f"k={k}"] = GrassmannClassifier(k, **options)
    return found


def summary(scores):
    return {"mean": statistics.mean(scores), "sd": statistics.pstdev(scores), "scores": scores}


def show(title, rows):
    print(title)
    for name, row in rows.items():
        print(f"  {name:24s} {row['mean']:.4f} +- {row['sd']:.4f}")


def bench_subspaces(seeds=3):
    """Test accuracy on raw features: 600 samples to train on, 2000 to test."""
    from sklearn.base import clone
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression

    from sklr.neural_network import GrassmannClassifier

    candidates = heads((1, 2, 3, 6), hidden_layer_sizes=(), max_iter=30)
    candidates["k=3, scale 25"] = GrassmannClassifier(
        3, hidden_layer_sizes=(), max_iter=30, scale=25.0
    )
    candidates["LogisticRegression"] = LogisticRegression(max_iter=500)
    candidates["QDA, reg_param=.1"] = QuadraticDiscriminantAnalysis(reg_param=0.1)
    scores = {name: [] for name in candidates}
    for seed in range(seeds):
        X, y = union_of_subspaces(2600, seed)
        for name, estimator in candidates.items():
            fit = clone(estimator)
            if "random_state" in fit.get_params():
                fit.set_params(random_state=seed)
            scores[name].append(fit.fit(X[:600], y[:600]).score(X[600:], y[600:]))
    rows = {name: summary(values) for name, values in scores.items()}
    show("union of subspaces, test accuracy", rows)
    return rows


def bench_digits(seeds=5):
    """Test accuracy on half of the digits, perceptron 64-128-128, 25 epochs."""
    from sklearn.base import clone
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from sklr.neural_network import GrassmannClassifier

    X, y = load_digits(return_X_y=True)
    options = {"hidden_layer_sizes": (128, 128), "max_iter": 25}
    candidates = heads((1, 4, 8, 16), **options)
    candidates["k=8, scale 25"] = GrassmannClassifier(8, scale=25.0, **options)
    scores = {name: [] for name in candidates}
    for seed in range(seeds):
        parts = train_test_split(X / 16, y, test_size=0.5, stratify=y, random_state=seed)
        for name, estimator in candidates.items():
            fit = clone(estimator).set_params(random_state=seed).fit(parts[0], parts[2])
            scores[name].append(fit.score(parts[1], parts[3]))
    rows = {name: summary(values) for name, values in scores.items()}
    show("digits, test accuracy", rows)
    return rows


def bench_epochs(repeats):
    """CPU milliseconds of an epoch with k=8 and with a linear head, interleaved.

    Beside them a linear head with as many numbers as the subspaces: what the larger products cost
    by themselves, without orthonormal bases.
    """
    import torch
    from sklearn.datasets import load_digits

    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32")
    images = X.reshape(-1, 1, 8, 8)

    def convolutions(shape):
        nn = torch.nn
        first = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        second = nn.Conv2d(32, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU()
        return nn.Sequential(
            *first, nn.MaxPool2d(2), *second, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )

    networks = {
        "perceptron 64-128-128": (X, {"hidden_layer_sizes": (128, 128)}, 10),
        "perceptron 64-512-512": (X, {"hidden_layer_sizes": (512, 512)}, 4),
        "convolutions 32-128": (images, {"module": convolutions}, 2),
    }
    rows = {}
    for name, (data, options, epochs) in networks.items():
        options |= {"max_iter": epochs, "random_state": 0}
        pair = heads((8,), **options)
        pair["linear, 80 outputs"] = linear_head(8)(2, **options)
        times = {head: [] for head in pair}
        for turn in range(repeats + 1):
            for head, estimator in pair.items():
                start = time.process_time()
                estimator.fit(data, y)
                if turn:
                    times[head].append((time.process_time() - start) / epochs)
        found = {head: statistics.median(values) for head, values in times.items()}
        best = {head: min(values) for head, values in times.items()}
        work = flops_of(lambda: pair["k=8"].fit(data, y)) / epochs  # noqa: B023
        rows[name] = {
            "seconds": found,
            **share_of_limit(found["k=8"], flops32=work),
            "ratio": found["k=8"] / found["linear head"],
            "ratio_of_minima": best["k=8"] / best["linear head"],
            "ratio_of_80_outputs": found["linear, 80 outputs"] / found["linear head"],
        }
        print(
            f"{name}: epoch {1e3 * found['linear head']:.1f} ms linear, "
            f"{1e3 * found['k=8']:.1f} ms k=8, ratio {rows[name]['ratio']:.2f} "
            f"(of minima {rows[name]['ratio_of_minima']:.2f}; linear with 80 outputs "
            f"{rows[name]['ratio_of_80_outputs']:.2f})"
        )
    return rows


def svd_optimizer():
    """Return our optimiser with the step as the paper and its code make it: a batched SVD."""
    import torch

    from sklr.nn import RiemannianSGD

    class BySVD(RiemannianSGD):
        def _manifold_step(self, S, group):
            M, lr = self._momentum(S, S.grad, group["momentum"]), group["lr"]
            U, s, Vh = torch.linalg.svd(M - S @ (S.mT @ M), full_matrices=False)
            cos, sin = torch.cos(lr * s).unsqueeze(-2), torch.sin(lr * s).unsqueeze(-2)
            S.copy_((S @ Vh.mT * cos - U * sin) @ Vh)
            state = self.state[S]
            state["step"] = state.get("step", 0) + 1
            if state["step"] % group["reorth_every"] == 0:
                S.copy_(torch.linalg.qr(S).Q)

    return BySVD


def bench_step(repeats):
    """Microseconds of one step of an optimiser without momentum, interleaved."""
    import torch

    from sklr.nn import RiemannianSGD
    from sklr.nn._grassmann import _riemannian

    torch.set_num_threads(1)
    rows = {}
    for C, D, k in ((10, 128, 4), (10, 128, 8), (100, 128, 8), (100, 512, 4), (100, 512, 8)):
        generator = torch.Generator().manual_seed(0)
        S = torch.linalg.qr(torch.randn(C, D, k, generator=generator)).Q.contiguous()
        M = 0.1 * torch.randn(C, D, k, generator=generator)

        def step_of(kind, **options):
            # Basis vectors along the memory for ours, as its layer has them.
            own = (lambda A: A.mT.contiguous().mT) if kind is RiemannianSGD else torch.clone
            parameter = torch.nn.Parameter(own(S))
            parameter.manifold = "grassmann"
            parameter.grad = own(M)
            return kind([parameter], lr=1e-3, momentum=0, **options).step

        ours, by_gram, has_kernel = (*[step_of(RiemannianSGD)] * 2, _riemannian.has_kernel)

        def without_kernel():
            _riemannian.has_kernel = lambda parameter: False
            by_gram()
            _riemannian.has_kernel = has_kernel

        candidates = {
            "svd": step_of(svd_optimizer()),
            "gram, torch": without_kernel,
            "qr retraction": step_of(RiemannianSGD, retraction="qr"),
            "ours": ours,
        }
        try:
            import geoopt

            flat = geoopt.ManifoldParameter(S.clone(), manifold=geoopt.Stiefel())
            flat.grad = M.clone()
            candidates["geoopt, Stiefel"] = geoopt.optim.RiemannianSGD([flat], lr=1e-3).step
        except ImportError as exc:
            rows["geoopt"] = {"skipped": f"not installed: {exc}"}
        times = {name: [] for name in candidates}
        for turn in range(repeats):
            for name, call in candidates.items():
                if name.startswith("geoopt") and turn > 8:
                    continue  # tens of milliseconds each
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        found = {name: statistics.median(values[3:]) for name, values in times.items()}
        rows[f"{C} x {D} x {k}"] = {"seconds": found, "ratio": found["svd"] / found["ours"]}
        shown = ", ".join(f"{name} {1e6 * value:.0f}" for name, value in found.items())
        print(f"step {C} x {D} x {k}: {shown} us; {found['svd'] / found['ours']:.1f} x")
    return rows


def main(argv=None):
    """Run the parts."""
    run_parts(
        __doc__,
        {"subspaces": bench_subspaces, "digits": bench_digits, "epochs": bench_epochs,
         "step": lambda repeats: bench_step(10 * repeats)},
        argv,
        lambda parser: parser.add_argument("--repeats", type=int, default=7),
        lambda _: warnings.simplefilter("ignore"),
    )  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
