"""Bures-Wasserstein normalisation: the layer, the scaler, and what the networks learn.

Parts, each of which is added to the JSON file on its own:

- ``layer``: forward and backward of the fused layer against the formulas step by step
  (`_bw_stepwise`), and against spd-learn's affine-invariant layers where spd-learn is installed.
- ``scaler``: fit and transform against the cost of one eigendecomposition a matrix.
- ``ssvep``: EEGSPDNetClassifier with its defaults on MAMEM II (needs SKLR_TEST_DATA), trained on
  trials 0-299, tested on 300-399 and on 400-499; classical peers beside it.
- ``conditioned``: classes of covariances of condition 1e6 under every normalisation, 5 seeds,
  and classical peers under three metrics.

One thread for everybody. Settings are the defaults of the classes unless a row says otherwise.

    python benchmarks/bench_bures_wasserstein.py --parts layer scaler --json FILE
"""

import os
import pathlib
import time
import warnings

from _common import cpu, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402

SEEDS = (0, 1, 2, 3, 4)


def spd(N, n, seed=0):
    A = np.random.default_rng(seed).standard_normal((N, n, 3 * n))
    return A @ A.transpose(0, 2, 1) / (3 * n)


def layer():
    """CPU milliseconds of a training step of one layer, batches of 30, steps taken in turn.

    `floor` is what the fused layer's two decompositions of the batch and its matrix products (as
    many as torch counts, in units of one of the batch) take by themselves, measured in turn with
    the rest; `limit` is the step by step's time over that.
    """
    import torch
    from _bw_stepwise import StepwiseBW
    from torch.utils.flop_counter import FlopCounterMode

    from sklr.nn import BiMap, LogEig, SPDBatchNormAI, SPDBatchNormBW

    torch.set_num_threads(1)
    peers = {}
    try:
        from spd_learn import modules

        peers["spd-learn, airm"] = lambda n: modules.SPDBatchNormMeanVar(n, dtype=torch.float64)
        peers["spd-learn, BiMap, ReEig, LogEig"] = lambda n: torch.nn.Sequential(
            modules.BiMap(n, 4 * n // 5, dtype=torch.float64),
            modules.ReEig(threshold=1e-5),
            modules.LogEig(upper=True),
        )
    except ImportError as exc:
        print("spd-learn: skipped,", exc)
    makes = {
        "step by step": StepwiseBW,
        "fused, gbw": SPDBatchNormBW,
        "fused, bw": lambda n: SPDBatchNormBW(n, learn_metric=False),
        "fused, gbw, power .5": lambda n: SPDBatchNormBW(n, power=0.5),
        "airm": SPDBatchNormAI,
        "BiMap, LogEig with a floor": lambda n: torch.nn.Sequential(
            BiMap(n, 4 * n // 5, dtype=torch.float64), LogEig(1e-5, vectorize=True)
        ),
        **peers,
    }
    rows = []
    for n in (12, 30, 60):
        X = torch.tensor(spd(30, n)).requires_grad_()
        G = torch.tensor(np.random.default_rng(1).standard_normal((30, n, n)))
        white = X.detach()
        calls = {"eigh": lambda X=white: torch.linalg.eigh(X), "product": lambda X=white: X @ X}
        for name, make in makes.items():
            module = make(n)

            def step(module=module, X=X, G=G):
                module.zero_grad()
                X.grad = None
                out = module(X)
                weights = G.reshape(30, -1)[:, : out[0].numel()].reshape(out.shape)
                (out * weights).sum().backward()

            step()
            calls[name] = step
        with FlopCounterMode(display=False) as counter:
            calls["fused, gbw"]()
        products = counter.get_total_flops() / (2 * 30 * n**3)
        times = [[cpu(call)[0] for call in calls.values()] for _ in range(15)]
        row = {"n": n, **dict(zip(calls, 1e3 * np.median(times, axis=0)))}
        row["products"] = products
        row["floor"] = 2 * row["eigh"] + products * row["product"]
        row["ratio"] = row["step by step"] / row["fused, gbw"]
        row["ratio at the floor"] = row["step by step"] / row["floor"]
        words = f"two eigendecompositions a matrix and {products:.0f} products"
        row |= share_of_limit(row["fused, gbw"], more=(row["floor"], words))
        rows.append(row)
        print({k: round(v, 2) for k, v in row.items() if k != "limit"})
    return rows


def scaler():
    """CPU milliseconds on 1000 matrices, in units of their eigendecompositions."""
    from sklr.covariance import BuresWassersteinScaler

    rows = []
    for n in (8, 16, 30, 60):
        X = spd(1000, n)
        one = cpu(lambda: np.linalg.eigh(X), 5)[0]
        model = BuresWassersteinScaler(scale=0.3)
        row = {"n": n, "eigh_ms": 1e3 * one, "fit": cpu(lambda: model.fit(X), 3)[0] / one}
        row["n_iter"] = model.n_iter_
        row["transform"] = cpu(lambda: model.transform(X), 5)[0] / one
        row |= share_of_limit(row["transform"], more=(1.0, "an eigendecomposition a matrix"))
        rows.append(row)
        print({k: round(v, 2) for k, v in row.items() if k != "limit"})
    return rows


def ssvep(seeds=(0, 1, 2)):
    """Accuracy on both blocks, and CPU seconds of an epoch of 300 trials."""
    folder = pathlib.Path(os.environ.get("SKLR_TEST_DATA", ""), "eeg", "mamem-ssvep2")
    if not folder.is_dir():
        print("ssvep: skipped, set SKLR_TEST_DATA to the folder that holds eeg/mamem-ssvep2")
        return None
    import torch
    from scipy.io import loadmat
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import AugmentedCovariance, TangentSpace
    from sklr.neural_network import EEGSPDNetClassifier

    torch.set_num_threads(1)
    rows = []
    for subject in ("U001", "U002"):
        content = loadmat(folder / f"{subject}.mat")
        X, y = content["x_test"], content["y_test"].ravel()
        models = {
            f"EEGSPDNetClassifier, seed {seed}": EEGSPDNetClassifier(max_iter=60, random_state=seed)
            for seed in (seeds if subject == "U001" else seeds[:1])
        }
        for order, lag in ((1, 1), (5, 3)):
            models[f"augmented covariance, order {order}"] = make_pipeline(
                AugmentedCovariance(order, lag, estimator="oas"),
                TangentSpace(),
                LogisticRegression(max_iter=1000),
            )
        for name, model in models.items():
            seconds, _ = cpu(lambda: model.fit(X[:300], y[:300]))
            blocks = [model.score(X[a : a + 100], y[a : a + 100]) for a in (300, 400)]
            row = {"subject": subject, "model": name, "blocks": blocks, "seconds": seconds}
            if hasattr(model, "n_iter_"):
                row["seconds_an_epoch"] = seconds / model.n_iter_
            rows.append(row)
            print(subject, f"{name:<40}", blocks, round(float(np.mean(blocks)), 3),
                  f"{seconds:.1f} s", flush=True)  # fmt: skip
    ours = [r for r in rows if r["subject"] == "U001" and "seconds_an_epoch" in r]
    print("U001, mean of seeds", np.mean([r["blocks"] for r in ours]).round(3),
          "an epoch", np.mean([r["seconds_an_epoch"] for r in ours]).round(2), "s")  # fmt: skip
    return rows


def conditioned_classes(kind, seed, n_classes=3, n=12, per_class=80, condition=1e6):
    """Wishart matrices (24 degrees of freedom) around A_k diag(lambda) A_k^T.

    "axes": the classes differ by rotations of .001 in all directions, which show where variances
    are small. "large axes": by rotations of .02 among the six largest, while each of the six
    small variances has a random factor of its own. The angles were chosen on seed 100, so that no
    method is perfect on it.
    """
    rng = np.random.default_rng(seed)
    lengths = np.sqrt(np.logspace(0, -np.log10(condition), n))
    skew = rng.standard_normal((n_classes, n, n)) * (0.001 if kind == "axes" else 0.02)
    half = n // 2
    if kind != "axes":
        skew[:, half:] = skew[:, :, half:] = 0.0
    turns = np.linalg.qr(np.eye(n) + skew - skew.transpose(0, 2, 1))[0]
    y = np.repeat(np.arange(n_classes), per_class)
    Z = (turns * lengths)[y] @ rng.standard_normal((len(y), n, 2 * n))
    if kind != "axes":
        Z[:, half:] *= np.exp(rng.standard_normal((len(y), n - half, 1)))
    order = rng.permutation(len(y))
    return (Z @ Z.transpose(0, 2, 1) / (2 * n))[order], y[order]


def conditioned():
    """Accuracy on half the matrices; the learning rate is the default for all."""
    import torch
    from pyriemann.classification import MDM
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from sklr.covariance import BuresWassersteinScaler, TangentSpace
    from sklr.neural_network import SPDNetClassifier

    torch.set_num_threads(1)
    settings = {
        "None": {"norm": None},
        "airm": {"norm": "airm"},
        "bw": {"norm": "bw"},
        "gbw": {"norm": "gbw"},
        "gbw, power .5": {"norm": "gbw", "power": 0.5},
    }
    found = {}
    for kind, seed in ((kind, seed) for kind in ("axes", "large axes") for seed in SEEDS):
        X, y = conditioned_classes(kind, seed)
        half = len(X) // 2
        models = {
            f"SPDNet, {name}": SPDNetClassifier(max_iter=40, random_state=seed, **kw)
            for name, kw in settings.items()
        }
        log = LogisticRegression(max_iter=2000)
        models["tangent space, airm"] = make_pipeline(TangentSpace(), log)
        models["tangent space, wasserstein"] = make_pipeline(TangentSpace("wasserstein"), log)
        for name, metric in (("plain", None), ("metric of the mean", "mean")):
            models[f"scaler ({name}), tangent space, airm"] = make_pipeline(
                BuresWassersteinScaler(metric=metric, scale=0.3), TangentSpace(), log
            )
        for metric in ("riemann", "logeuclid", "wasserstein"):
            models[f"MDM, {metric}"] = MDM(metric=metric)
        for name, model in models.items():
            begin = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    score = model.fit(X[:half], y[:half]).score(X[half:], y[half:])
                except Exception as exc:
                    print(name, "failed:", str(exc)[:100])
                    continue
            found.setdefault((kind, name), []).append((score, time.process_time() - begin))
    rows = []
    for (kind, name), pairs in found.items():
        scores, seconds = np.array(pairs).T
        row = {"classes": kind, "model": name, "mean": scores.mean(), "sd": scores.std(ddof=1)}
        row |= {"seconds": float(np.median(seconds)), "scores": scores.tolist()}
        rows.append(row)
        print(
            f"{kind:<12}{name:<42}{scores.mean():.3f} +- {scores.std(ddof=1):.3f}"
            f"{np.median(seconds):8.2f} s"
        )
    return rows


PARTS = {"layer": layer, "scaler": scaler, "ssvep": ssvep, "conditioned": conditioned}


def main(argv=None):
    """Run the parts and add them to the file."""
    run_parts(__doc__, PARTS, argv)


if __name__ == "__main__":
    main()
