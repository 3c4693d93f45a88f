"""LatentSpectralRegressor against FNO (neuraloperator), its own plain U-Net, PCA and kernel ridge.

Needs the peer neuraloperator. Decided before any run: all networks have the same units, loss
(relative L2), batches of 20, Adam with weight decay 1e-5 and one-cycle schedule up to 2e-3, as they
are the estimator's defaults; FNO has 16 channels, 4 layers and 12 modes an axis. The closed form is
kernel ridge regression with a Gaussian kernel on principal components of input and output (30, 100
or 300 of the input, nine widths and penalties), chosen by three folds of the training data. LSM is
the default (from a closed form where that helps, circles and symmetries of the grid seen); so are
"U-Net, too" and "FNO, too", the other networks in its place; all others are alone, from the samples
as they are.

darcy        fields 32 x 32, seed 0, 60 epochs of 300 samples; 100 others to test
more         the same with 1,000 samples and as many steps (18 epochs)
defaults     no parameter given, 200 samples, seeds of their own: Darcy on 16 x 16, Burgers on 64
periodic     Burgers on 64 points, as in grids, for networks that are told of the circle
grids        trained on one grid, asked on another: Darcy 16 to 31, Burgers 64 to 128 and 65
torus        a stirred fluid 16 x 16: a frame to the one after a unit of time; 200, 20 epochs
film         a stirred fluid 32 x 32: three frames to the next four, rolled out inside the loss
time         CPU seconds of a training step over that of the plain U-Net; of 1,000 predictions
"""

import sys
import time

from _common import cpu, flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()
sys.modules.setdefault("torchvision", None)  # neuraloperator runs without it

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.kernel_ridge import KernelRidge  # noqa: E402
from sklearn.model_selection import KFold  # noqa: E402

from sklr.datasets import make_burgers, make_darcy, make_navier_stokes  # noqa: E402
from sklr.neural_network import LatentSpectralRegressor  # noqa: E402

N_TEST = 100


class AsIs(torch.nn.Module):
    """Weights that are complex numbers, which a change of the type would break."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def to(self, *args, **kwargs):
        """Stay as it is."""
        return self

    def forward(self, x):
        """Ask the network."""
        return self.network(x)


class FourierRegressor(LatentSpectralRegressor):
    """The peer in our units, loss and schedule."""

    def _build(self, n_in, n_out):
        from neuralop.models import FNO

        grid = self.grid_shape_
        network = FNO(
            n_modes=tuple(min(12, n) for n in grid),
            hidden_channels=16,
            in_channels=self._n_channels + (0 if self._closed_form is None else self._n_made),
            out_channels=self._n_made,
            n_layers=4,
        )
        self.n_parameters_ = sum(p.numel() for p in network.parameters())
        return AsIs(network)

    def predict(self, X):
        """Ask it on the grid of `X`, where ours interpolates."""
        trained, self.grid_shape_ = self.grid_shape_, X.shape[1 : 1 + len(self.grid_shape_)]
        try:
            return super().predict(X)
        finally:
            self.grid_shape_ = trained


class ClosedForm:
    """Kernel ridge regression between principal components."""

    def fit(self, X, y):
        """Choose numbers by three folds, and fit again."""
        X, y = X.reshape(len(X), -1), y.reshape(len(y), -1)
        best = np.inf
        for n in (30, 100, 300):
            if n > 2 * len(X) // 3:
                continue
            for width in (0.3, 1.0, 3.0):
                for penalty in (1e-6, 1e-4, 1e-2):
                    error = 0.0
                    for train, test in KFold(3).split(X):
                        one = self._make(X[train], y[train], n, width, penalty)
                        error += relative(self._ask(one, X[test]), y[test])
                    if error < best:
                        best, self.chosen = error, (n, width, penalty)
        self.model = self._make(X, y, *self.chosen)
        return self

    def predict(self, X):
        """Return rows."""
        return self._ask(self.model, X.reshape(len(X), -1))

    @staticmethod
    def _make(X, y, n, width, penalty):
        n = min(n, len(X) - 1, X.shape[1])
        of_x = PCA(n, random_state=0).fit(X)
        of_y = PCA(min(200, len(y) - 1, y.shape[1]), random_state=0).fit(y)
        Z = of_x.transform(X)
        gamma = 0.5 / (width**2 * 2 * Z.var(axis=0).sum())
        ridge = KernelRidge(alpha=penalty, kernel="rbf", gamma=gamma).fit(Z, of_y.transform(y))
        return of_x, of_y, ridge

    @staticmethod
    def _ask(model, X):
        of_x, of_y, ridge = model
        return of_y.inverse_transform(ridge.predict(of_x.transform(X)))


def relative(found, wanted):
    """Mean over samples of the norm of the error over the norm of the target."""
    found, wanted = found.reshape(len(wanted), -1), wanted.reshape(len(wanted), -1)
    norms = np.linalg.norm(wanted, axis=1)
    return float((np.linalg.norm(found - wanted, axis=1) / norms).mean())


def networks(**options):
    """The networks, by name."""
    alone = {"baseline": None, "symmetries": None, "periodic": False, **options}
    return {
        "LSM": LatentSpectralRegressor(random_state=0, **options),
        "U-Net, too": LatentSpectralRegressor(random_state=0, spectral=False, **options),
        "FNO, too": FourierRegressor(random_state=0, **options),
        "LSM alone": LatentSpectralRegressor(random_state=0, **alone),
        "FNO": FourierRegressor(random_state=0, **alone),
        "U-Net": LatentSpectralRegressor(random_state=0, spectral=False, **alone),
    }


def compare(models, train, test, out, further=None):
    """Fit all on the same data; print and keep errors, CPU seconds and numbers of weights."""
    (X, y), (X_test, y_test) = train, test
    out.setdefault(
        "mean field",
        {"error": relative(np.tile(y.mean(0), (len(y_test), *[1] * (y.ndim - 1))), y_test)},
    )
    for name, model in {"PCA + kernel ridge": ClosedForm(), **models}.items():
        if name in out:
            continue
        began = time.process_time()
        model.fit(X, y)
        spent = time.process_time() - began
        found = {"error": relative(model.predict(X_test), y_test), "seconds": spent}
        if hasattr(model, "n_parameters_"):
            found["parameters"] = model.n_parameters_
            found["baseline"] = getattr(model, "baseline_error_", np.nan)
            found["symmetries"] = getattr(model, "symmetries_", [])
            found["on train"] = relative(model.predict(X[:N_TEST]), y[:N_TEST])
            for where, (X_other, y_other) in (further or {}).items():
                found[where] = relative(model.predict(X_other), y_other)
        else:
            found["chosen"] = model.chosen
        out[name] = found
        print(
            f"{name:20s}",
            {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()},
            flush=True,
        )
    return out


def split(pair, n):
    """First `n` to train, the next ones to test."""
    X, y = pair
    return (X[:n], y[:n]), (X[n : n + N_TEST], y[n : n + N_TEST])


def bench_darcy(out, epochs=None, only=None):
    """Fields 32 x 32, 300 to train."""
    models = networks(max_iter=epochs or 60)
    models = {name: models[name] for name in only or models}
    return compare(models, *split(make_darcy(400, size=32, random_state=0), 300), out)


def bench_more(out, epochs=None, only=None):
    """Fields 32 x 32, 1,000 to train, as many steps."""
    models = networks(max_iter=epochs or 18)
    models = {name: models[name] for name in only or models}
    return compare(models, *split(make_darcy(1100, size=32, random_state=1), 1000), out)


def bench_defaults(out, only=None):
    """No parameter given."""
    for name, data in (
        ("Burgers 64", make_burgers(300, size=64, random_state=2)),
        ("Darcy 16", make_darcy(300, size=16, random_state=3)),
    ):
        print(name)
        models = networks()
        models = {name: models[name] for name in only or models}
        compare(models, *split(data, 200), out.setdefault(name, {}))
    return out


def bench_periodic(out, epochs=None):
    """Waves on a circle, and networks that know it."""
    options = {"max_iter": epochs or 30, "n_dims": 1}
    further = {
        f"on {size}": split(make_burgers(300, size=size, random_state=4), 200)[1]
        for size in (128, 65)
    }
    known = networks(**options, periodic=True)
    del known["FNO"], known["FNO, too"]  # knows it anyway
    models = {f"{name}, periodic": model for name, model in known.items()}
    models["FNO"] = networks(**options)["FNO"]
    data = split(make_burgers(300, size=64, random_state=4), 200)
    return compare(models, *data, out, further)


def bench_grids(out, epochs=None, only=None):
    """Another grid when asked than when trained."""

    def chosen(**options):
        models = networks(**options)
        return {name: models[name] for name in only or models if name != "FNO, too"}

    options = {"max_iter": epochs or 30, "n_dims": 1}
    further = {
        f"on {size}": split(make_burgers(300, size=size, random_state=4), 200)[1]
        for size in (128, 65)
    }
    train, test = split(make_burgers(300, size=64, random_state=4), 200)
    print("Burgers, trained on 64")
    compare(chosen(**options), train, test, out.setdefault("Burgers 64", {}), further)
    train, test = split(make_darcy(300, size=16, random_state=5), 200)
    further = {"on 31": split(make_darcy(300, size=31, random_state=5), 200)[1]}
    print("Darcy, trained on 16 x 16")
    models = chosen(max_iter=epochs or 30)
    compare(models, train, test, out.setdefault("Darcy 16", {}), further)
    return out


def bench_torus(out, epochs=None, only=None):
    """A stirred fluid, one frame to the next."""
    frames = make_navier_stokes(300, size=16, n_frames=2, random_state=7)
    models = networks(max_iter=epochs or 20)
    models = {name: models[name] for name in only or models}
    return compare(models, *split((frames[..., 0], frames[..., 1]), 200), out)


def bench_film(out):
    """Three frames of a stirred fluid to the next four."""
    frames = make_navier_stokes(160, size=32, n_frames=9, dt=2.0, random_state=6)[..., 2:]
    data = frames[..., :3], frames[..., 3:]
    (X, y), test = split(data, 100)
    test = test[0][:60], test[1][:60]
    still = relative(np.repeat(X[..., -1:], 4, axis=-1), y)
    out.setdefault("nothing moves", {"error": still})
    print("nothing moves", round(still, 4))
    models = networks(n_rollout_steps=4, max_iter=20)
    models = {name: model for name, model in models.items() if not name.endswith("too")}
    return compare(models, (X, y), test, out)


def bench_time():
    """CPU seconds of a step, ours over the U-Net's; of predictions for 1,000 fields."""
    from sklr.nn import LatentSpectralModel

    x = torch.randn(20, 1, 32, 32)
    nets = {s: LatentSpectralModel(2, n_levels=3, spectral=s) for s in (True, False)}
    seconds = {s: [] for s in nets}
    for _ in range(12):
        for s, net in nets.items():
            seconds[s].append(cpu(lambda net=net: net(x).square().mean().backward())[0])
    ours, plain = (float(np.median(seconds[s][2:])) for s in (True, False))
    X, y = make_darcy(20, size=32, random_state=0)
    model = LatentSpectralRegressor(max_iter=1, random_state=0).fit(X, y)
    spent = cpu(lambda: model.predict(np.tile(X, (50, 1, 1))), 3)[0]
    found = {"step": ours, "step over U-Net's": ours / plain, "1,000 predictions": spent}
    print({k: round(v, 3) for k, v in found.items()})
    work = flops_of(lambda: nets[True](x).square().mean().backward())
    found |= share_of_limit(ours, flops32=work)
    return found


PARTS = {
    "darcy": bench_darcy,
    "more": bench_more,
    "defaults": bench_defaults,
    "periodic": bench_periodic,
    "grids": bench_grids,
    "torus": bench_torus,
    "film": bench_film,
    "time": bench_time,
}


def options(parser):
    """Further options."""
    parser.add_argument("--epochs", type=int, help="epochs of all parts but defaults, film")
    parser.add_argument("--only", nargs="+", help="networks of all parts but periodic, film")


def main(argv=None):
    """Run the parts that were asked for."""
    run_parts(__doc__, PARTS, argv, options)


if __name__ == "__main__":
    main()
