"""The base of torch estimators: a small loop of our own against skorch's NeuralNet held inside.

Conformance (scikit-learn's suite), lines of code, and overhead on digits over a bare loop, all in
one run on one thread. skorch is skipped, with the reason, where it is not installed.
"""

import ast
import io
import os
import pathlib
import statistics
import time
import tokenize
import warnings

from _common import flops_of, run_parts, share_of_limit

ROOT = pathlib.Path(__file__).parents[1]
EPOCHS, BATCH, RATE, HIDDEN = 20, 64, 0.05, 128


def own_perceptron():
    """What a subclass of our base writes for the same perceptron."""
    import torch

    from sklr._torch._modules import mlp
    from sklr.neural_network._base import TorchEstimator, training_constraints
    from sklr.neural_network._classifier import TorchClassifierMixin

    class OwnPerceptron(TorchClassifierMixin, TorchEstimator):
        _parameter_constraints = training_constraints("max_iter", "batch_size", "device")

        def __init__(
            self, hidden_layer_sizes=(HIDDEN,), learning_rate=RATE, max_iter=EPOCHS,
            batch_size=BATCH, dtype="float32", device="auto", random_state=None,
        ):  # fmt: skip
            self.hidden_layer_sizes = hidden_layer_sizes
            self.learning_rate = learning_rate
            self.max_iter = max_iter
            self.batch_size = batch_size
            self.dtype = dtype
            self.device = device
            self.random_state = random_state

        def _build(self, n_in, n_out):
            return mlp(n_in, self.hidden_layer_sizes, n_out)

        def _optimizers(self, module):
            return torch.optim.SGD(module.parameters(), self.learning_rate, momentum=0.9)

        def _dtypes(self):
            return self.dtype, "float64"

    # The suite pickles it.
    OwnPerceptron.__qualname__ = "OwnPerceptron"
    globals()["OwnPerceptron"] = OwnPerceptron
    return OwnPerceptron


def bare_skorch(**options):
    """Skorch's own classifier, as its users write it."""
    from _skorch_composition import Cast
    from skorch import NeuralNetClassifier
    from torch import nn

    # Lazy: the suite has tables of several widths.
    module = nn.Sequential(Cast(), nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 3))
    return NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, verbose=0, **options)


def conformance(estimator):
    """How many checks of scikit-learn's suite pass, fail, are skipped; the names that fail."""
    from sklearn.utils._testing import SkipTest
    from sklearn.utils.estimator_checks import estimator_checks_generator

    passed, failed, skipped = 0, [], 0
    for instance, check in estimator_checks_generator(estimator):
        try:
            check(instance)
            passed += 1
        except SkipTest:
            skipped += 1
        except Exception:
            failed.append(getattr(check, "func", check).__name__)
    return {"passed": passed, "failed": len(failed), "skipped": skipped, "names": failed}


def lines(*paths):
    """Lines with code on them: without blanks, comments and docstrings."""
    found = 0
    for path in paths:
        text = path.read_text()
        code = set()
        skip = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in (*skip, tokenize.ENDMARKER):
                code |= set(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                if isinstance(node.value.value, str):
                    code -= set(range(node.lineno, node.end_lineno + 1))
        found += len(code)
    return found


def bare_loop(X, y, seed=0):
    """The shortest loop that trains the same network; validates nothing, returns a module."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=0.9)
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    for _ in range(EPOCHS):
        order = torch.randperm(len(X))
        for first in range(0, len(X), BATCH):
            rows = order[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()
    return module


def accelerated_loop(X, y, seed=0):
    """The same under accelerate: the loop stays ours, what it brings is devices and precision."""
    import torch
    from accelerate import Accelerator
    from torch import nn

    torch.manual_seed(seed)
    engine = Accelerator(cpu=True)
    module = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=0.9)
    module, optimizer = engine.prepare(module, optimizer)
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    for _ in range(EPOCHS):
        order = torch.randperm(len(X))
        for first in range(0, len(X), BATCH):
            rows = order[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            engine.backward(nn.functional.cross_entropy(module(X[rows]), y[rows]))
            optimizer.step()
    return module


def bench_overhead(repeats):
    """Seconds of a fit on digits, interleaved; and as a multiple of the bare loop."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = X / 16
    own = own_perceptron()
    mlp = MLPClassifier(
        (HIDDEN,), solver="sgd", learning_rate_init=RATE, nesterovs_momentum=False, alpha=0,
        batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=0,
    )  # fmt: skip
    candidates = {
        "bare loop": lambda: bare_loop(X, y),
        "own base": lambda: own(random_state=0).fit(X, y),
        "MLPClassifier": lambda: mlp.fit(X, y),
    }
    skipped = {}
    try:
        from _skorch_composition import SkorchPerceptron

        for iterator in ("whole", "loader"):
            candidates[f"skorch inside, {iterator}"] = lambda iterator=iterator: SkorchPerceptron(
                (HIDDEN,), RATE, EPOCHS, BATCH, iterator=iterator, random_state=0
            ).fit(X, y)
    except ImportError as exc:
        skipped["skorch inside"] = f"not installed: {exc}"
    try:
        import accelerate  # noqa: F401

        candidates["bare loop under accelerate"] = lambda: accelerated_loop(X, y)
    except ImportError as exc:
        skipped["bare loop under accelerate"] = f"not installed: {exc}"
    times = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, fit in candidates.items():
            start = time.process_time()
            fit()
            if turn:  # the first turn warms up
                times[name].append(time.process_time() - start)
    bare = statistics.median(times["bare loop"])
    rows = {
        name: {"seconds": statistics.median(t), "ratio": statistics.median(t) / bare}
        for name, t in times.items()
    }
    work = flops_of(candidates["bare loop"])
    for row in rows.values():
        row |= share_of_limit(row["seconds"], flops32=work)
    for name, row in rows.items():
        print(f"{name:28s} {row['seconds']:.3f} s, {row['ratio']:.2f} x the bare loop")
    for name, reason in skipped.items():
        print(f"{name:28s} skipped: {reason}")
    return rows | {name: {"skipped": reason} for name, reason in skipped.items()}


def bench_conformance():
    """Scikit-learn's suite on each."""
    rows = {}
    candidates = {
        "own base, float64": lambda: own_perceptron()(max_iter=15, dtype="float64"),
        "own base, float32": lambda: own_perceptron()(max_iter=15),
    }
    try:
        from _skorch_composition import SkorchPerceptron

        candidates["skorch inside, float64"] = lambda: SkorchPerceptron(
            max_iter=15, dtype="float64"
        )
        candidates["skorch inside, float32"] = lambda: SkorchPerceptron(max_iter=15)
        candidates["NeuralNetClassifier"] = bare_skorch
    except ImportError as exc:
        print(f"skorch skipped: {exc}")
        rows["skorch"] = {"skipped": str(exc)}
    for name, make in candidates.items():
        rows[name] = row = conformance(make())
        print(
            f"{name:24s} passed {row['passed']}, failed {row['failed']}, "
            f"skipped {row['skipped']} {sorted(set(row['names']))}"
        )
    return rows


def bench_lines():
    """Lines of ours in each design."""
    home = ROOT / "sklr" / "neural_network"
    files = {
        "base": "base input", "loop": "loop", "mixins": "classifier regressor cluster transformer",
        "callbacks": "callbacks",
    }  # fmt: skip
    found = {
        name: lines(*(home / f"_{file}.py" for file in some.split()))
        for name, some in files.items()
    }
    found["skorch composition"] = lines(ROOT / "benchmarks" / "_skorch_composition.py")
    print(found)
    return found


def main(argv=None):
    """Run the parts."""
    run_parts(
        __doc__,
        {"lines": bench_lines, "overhead": bench_overhead, "conformance": bench_conformance},
        argv,
        lambda parser: parser.add_argument("--repeats", type=int, default=9),
        lambda _: warnings.simplefilter("ignore"),
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
