"""Curvature of networks: products, spectra, the inverse Fisher matrix, pruning, dimensions.

Settings, sizes and seeds were fixed before the first run.

products: digits (1,797 images over 16), perceptrons 64-16-10 and 64-128-10 with tanh, float32;
milliseconds of a Hessian-vector product, of a Lanczos step (60 steps) with its orthogonalisation,
and what the leading ten of 100 steps are off; peers curvlinops and hessian-eigenthings where they
are installed. outliers: orthogonal clusters in 20 dimensions, 2,000 samples, perceptrons 20-h-k,
100 steps of momentum; the number of outliers of the exact Hessian, two seeds; and the same with
clusters three times as far apart, 400 steps. fisher: 512 gradients of 50,000 weights; the paper's
row by row recursion beside the factorisation; a solve beside conjugate gradients to 1e-6 on
curvlinops' empirical Fisher matrix. pruning: digits, 64-64-10 ... three seeds, 90 % and 95 % of all
weights, no training after. dimension: digits, 70/30, networks 1x32, 1x100, 2x100, two repeats;
and the time of a
step at 100,000 parameters, 100 of them moved.
"""

import itertools
import statistics
import time
import warnings
from functools import partial

from _common import flops_of, one_blas_thread, run_parts, share_of_limit

one_blas_thread()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from torch import nn  # noqa: E402

from sklr._torch._inverse_fisher import InverseFisher  # noqa: E402
from sklr._torch._modules import mlp  # noqa: E402
from sklr.landscape import (  # noqa: E402
    EmpiricalFisher,
    HessianOperator,
    HessianSpectrum,
    IntrinsicDimension,
    lanczos,
)
from sklr.neural_network import SubspaceClassifier  # noqa: E402
from sklr.nn.compression import MFACPruner  # noqa: E402

torch.set_num_threads(1)


def perceptron(*widths, act=nn.Tanh, seed=0):
    """Return a perceptron with torch's first weights."""
    torch.manual_seed(seed)
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def descend(network, X, y, *, steps, lr, momentum=0.9):
    """Train on all samples at a time."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X), y).backward()
        optimizer.step()
    return network


def interleaved(calls, repeats=15):
    """Return the median CPU milliseconds of each call, taken in turn."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append((time.process_time() - start) * 1e3)
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def curvlinops_operator(network, X, y):
    """Return curvlinops' Hessian as a function of a vector, or None."""
    try:
        from curvlinops import HessianLinearOperator
    except ImportError:
        return None
    parameters = {k: p for k, p in network.named_parameters() if p.requires_grad}
    try:
        made = HessianLinearOperator(
            network, nn.CrossEntropyLoss(), parameters, [(X, y)], check_deterministic=False
        )
    except (TypeError, AttributeError):
        made = HessianLinearOperator(
            network,
            nn.CrossEntropyLoss(),
            list(parameters.values()),
            [(X, y)],
            check_deterministic=False,
        )
    return made


def eigenthings_operator(network, X, y):
    """Return hessian-eigenthings' Hessian, or None."""
    try:
        from hessian_eigenthings import HessianOperator as Peer
        from hessian_eigenthings.loss_fns import supervised_loss
    except ImportError:
        return None
    return Peer(network, [(X, y)], supervised_loss(nn.functional.cross_entropy))


def bench_products():
    """Hessian-vector products and Lanczos steps beside the peers."""
    digits, labels = load_digits(return_X_y=True)
    X, y = torch.tensor(digits / 16).float(), torch.tensor(labels)
    rows = {}
    for hidden in (16, 128):
        network = descend(perceptron(64, hidden, 10), X, y, steps=200, lr=0.1)
        ours = HessianOperator(network, digits / 16, labels, dtype="float32")
        n = ours.n_parameters
        v = torch.randn(n)
        calls = {"sklr": lambda: ours @ v.numpy()}  # noqa: B023
        peers = {
            "curvlinops": curvlinops_operator(network, X, y),
            "hessian-eigenthings": eigenthings_operator(network, X, y),
        }
        apply = {k: (lambda p: lambda: p @ v if hasattr(p, "__matmul__") else p.matvec(v))(p)  # noqa: B023
                 for k, p in peers.items() if p is not None}  # fmt: skip
        wanted = ours @ v.numpy()
        for name, call in apply.items():
            error = float((call().detach() - torch.from_numpy(wanted)).abs().max())
            assert error < 1e-4 * np.abs(wanted).max(), (name, error)
        row = {"P": n, "product ms": interleaved(calls | apply)}
        row |= share_of_limit(1e-3 * row["product ms"]["sklr"], flops32=flops_of(calls["sklr"]))
        if peers["hessian-eigenthings"] is not None:
            from hessian_eigenthings.algorithms import lanczos as peer_lanczos

            peer = peers["hessian-eigenthings"]
            row["60 Lanczos steps ms"] = interleaved(
                {
                    "sklr": lambda: lanczos(ours, 10, n_steps=60, tol=1.0, random_state=0),  # noqa: B023
                    "hessian-eigenthings": lambda: peer_lanczos(  # noqa: B023
                        peer,
                        k=10,
                        max_iter=60,
                        tol=0.0,
                        seed=0,  # noqa: B023
                    ),
                },
                repeats=5,
            )
        double = HessianOperator(network.double(), digits / 16, labels, dtype="float64")
        found = lanczos(double, 10, n_steps=100, random_state=0)
        row["largest residual of ten, 100 steps, float64"] = float(found.residuals.max())
        row["ghosts"] = int((np.diff(found.eigenvalues) > -1e-8 * found.eigenvalues[0]).sum())
        rows[str(n)] = row
        print(row)
    return rows


def clusters(k, width, seed, *, spread, steps):
    """Return a network trained on clusters with orthogonal means, and the data."""
    rng = np.random.default_rng(seed)
    means = np.linalg.qr(rng.standard_normal((20, 20)))[0][:k] * spread * 20**0.5
    y = np.arange(2000) % k
    X = means[y] + rng.standard_normal((2000, 20))
    network = perceptron(20, width, k, seed=seed).double()
    return descend(network, torch.tensor(X), torch.tensor(y), steps=steps, lr=0.05), X, y


def bench_outliers():
    """Outliers of the exact Hessian by the number of classes."""
    rows = []
    for name, spread, steps in (("overlapping", 0.5, 100), ("far apart", 1.5, 400)):
        for k in (2, 3, 5, 8):
            for width in (10, 30):
                counts, gaps = [], []
                for seed in (0, 1):
                    network, X, y = clusters(k, width, seed, spread=spread, steps=steps)
                    found = HessianSpectrum("exact").fit(network, X, y)
                    counts.append(found.n_outliers_)
                    gaps.append(round(found.outlier_gap_, 2))
                rows.append({"clusters": name, "k": k, "width": width, "outliers": counts,
                             "gap": gaps})  # fmt: skip
                print(rows[-1])
    return rows


def recursion(G, damping):
    """The paper's first algorithm, row by row."""
    m = len(G)
    V, q = torch.empty_like(G), torch.empty(m, dtype=G.dtype)
    V[0] = G[0] / damping
    q[0] = m + G[0] @ V[0]
    for i in range(1, m):
        V[i] = G[i] / damping - ((V[:i] @ G[i]) / q[:i]) @ V[:i]
        q[i] = m + G[i] @ V[i]
    return V, q


def bench_fisher():
    """Factorisation, diagonal and solve beside the recursion and conjugate gradients."""
    torch.manual_seed(0)
    G, x, damping = torch.randn(512, 50_000), torch.randn(50_000), 1e-3
    row = {
        "512 x 50000 ms": interleaved(
            {
                "factor": lambda: InverseFisher(G, damping),
                "factor and diagonal": lambda: InverseFisher(G, damping).diagonal(),
                "recursion": lambda: recursion(G, damping),
            },
            repeats=1,
        )
    }
    # The products of gradients with each other, which are made in double precision.
    row |= share_of_limit(1e-3 * row["512 x 50000 ms"]["factor"], flops=2 * 512**2 * 50_000)
    inverse = InverseFisher(G, damping)
    V, q = recursion(G, damping)
    exact = InverseFisher(G.double(), damping).solve(x.double())
    for name, got in (
        ("error of ours", inverse.solve(x)),
        ("error of the recursion", x / damping - ((V @ x) / q) @ V),
    ):
        row[name] = float((got.double() - exact).abs().max() / exact.abs().max())
    print(row)
    digits, labels = load_digits(return_X_y=True)
    X, y = torch.tensor(digits[:512] / 16).float(), torch.tensor(labels[:512])
    network = descend(perceptron(64, 200, 200, 10, act=nn.ReLU), X, y, steps=20, lr=0.1)
    start = time.process_time()
    fisher = EmpiricalFisher(damping, n_gradients=512, dtype="float32").fit(network, X, y)
    row["fit ms"] = round((time.process_time() - start) * 1e3, 1)
    x = np.random.default_rng(0).standard_normal(fisher.n_parameters_).astype(np.float32)
    row["P"] = fisher.n_parameters_
    row["solve ms"] = interleaved({"sklr": lambda: fisher.solve(x)})["sklr"]
    solved = fisher.solve(x)
    try:
        from curvlinops import EFLinearOperator
        from scipy.sparse.linalg import LinearOperator, cg
    except ImportError:
        print(row)
        return row
    parameters = {k: p for k, p in network.named_parameters()}
    try:
        peer = EFLinearOperator(
            network, nn.CrossEntropyLoss(), parameters, [(X, y)], check_deterministic=False
        )
    except (TypeError, AttributeError):
        peer = EFLinearOperator(
            network, nn.CrossEntropyLoss(), list(parameters.values()), [(X, y)],
            check_deterministic=False,
        )  # fmt: skip
    count = [0]

    def product(v):
        count[0] += 1
        v = torch.from_numpy(np.ascontiguousarray(v, dtype=np.float32))
        return (peer @ v).detach().numpy() + damping * v.numpy()

    n = fisher.n_parameters_
    start = time.process_time()
    got, _ = cg(LinearOperator((n, n), matvec=product, dtype=np.float32), x, rtol=1e-6)
    row["conjugate gradients ms"] = round((time.process_time() - start) * 1e3, 1)
    row["products"] = count[0]
    row["difference"] = float(np.abs(got - solved).max() / np.abs(solved).max())
    print(row)
    return row


def by_score(network, sparsity, score):
    """Set the weights of lowest score to zero."""
    names = [k for k, p in network.named_parameters() if p.ndim > 1]
    scores = torch.cat([score[k].reshape(-1) for k in names])
    limit = scores.sort().values[round(sparsity * len(scores)) - 1]
    with torch.no_grad():
        for key, p in network.named_parameters():
            if key in names:
                p[score[key] <= limit] = 0
    return network


def bench_pruning():
    """Digits at 90 % and 95 %: magnitude, diagonal Fisher, M-FAC."""
    import copy

    digits, labels = load_digits(return_X_y=True)
    A, B, a, b = train_test_split(
        digits / 16, labels, test_size=0.3, stratify=labels, random_state=0
    )
    X, y, Xt, yt = torch.tensor(A), torch.tensor(a), torch.tensor(B), torch.tensor(b)

    def accuracy(network):
        with torch.no_grad():
            return float((network(Xt).argmax(1) == yt).double().mean())

    ways = {
        "M-FAC": {},
        "M-FAC, sums of single moves": {"joint": False},
        "M-FAC once": {"n_recomputations": 1},
        "M-FAC, 64 gradients of 16": {"n_gradients": 64, "samples_per_gradient": 16},
        "M-FAC, damping 1e-3": {"damping": 1e-3},
    }
    found = {}
    for seed in range(3):
        network = perceptron(64, 64, 64, 10, act=nn.ReLU, seed=seed).double()
        descend(network, X, y, steps=400, lr=0.1)
        found.setdefault("dense", []).append(accuracy(network))
        for sparsity in (0.9, 0.95):
            size = {k: p.detach().abs() for k, p in network.named_parameters()}
            got = by_score(copy.deepcopy(network), sparsity, size)
            found.setdefault(f"{sparsity} magnitude", []).append(accuracy(got))
            diagonal = copy.deepcopy(network)
            for step in range(1, 9):
                fisher = EmpiricalFisher(n_gradients=512, random_state=step).fit(diagonal, A, a)
                squares = (fisher.gradients_**2).mean(axis=0)
                score = {
                    k: p.detach().square() * torch.from_numpy(
                        squares[fisher.parameter_slices_[k]]).reshape(p.shape)
                    for k, p in diagonal.named_parameters()
                }  # fmt: skip
                by_score(diagonal, 1 - (1 - sparsity) ** (step / 8), score)
            found.setdefault(f"{sparsity} diagonal Fisher", []).append(accuracy(diagonal))
            for name, params in ways.items():
                pruner = MFACPruner(sparsity, targets="all", random_state=seed, **params)
                got = accuracy(pruner.fit(network, A, a).transform(network))
                found.setdefault(f"{sparsity} {name}", []).append(got)
    table = {name: [round(v, 3) for v in values] for name, values in found.items()}
    for name, values in table.items():
        print(f"{name:40s} {np.mean(values):.3f}", values)
    return table


def bench_dimension():
    """The intrinsic dimension of digits for three networks; pixels as they are, or standardised."""
    warnings.simplefilter("ignore")
    X, y = load_digits(return_X_y=True)
    rows = []
    for hidden, pixels in itertools.product(
        ((32,), (100,), (100, 100)), ("as they are", "standardised")
    ):
        start = time.process_time()
        network = SubspaceClassifier(hidden_layer_sizes=hidden)
        if pixels == "as they are":
            network.set_params(module=partial(mlp, hidden_layer_sizes=hidden, n_out=10))
        found = IntrinsicDimension(network, random_state=0).fit(X / 16, y)
        rows.append({
            "hidden": list(hidden), "pixels": pixels, "D": found.n_parameters_,
            "dimension": round(found.dimension_, 1), "std": round(found.dimension_std_, 1),
            "baseline": round(found.baseline_score_, 3),
            "curve": {int(d): round(float(m), 3) for d, m in
                      zip(found.results_["dims"], found.results_["mean"])},
            "seconds of CPU": round(time.process_time() - start, 1),
        })  # fmt: skip
        print(rows[-1])
    return rows


def bench_steps():
    """CPU milliseconds of a step at 100,000 parameters: fits of eight epochs less those of four."""
    X, y = load_digits(return_X_y=True)
    params = {"hidden_layer_sizes": (280, 280), "random_state": 0}

    def fit(kind, n_epochs):
        d = None if kind == "plain" else 100
        kind = "auto" if kind == "plain" else kind
        return SubspaceClassifier(d, projection=kind, max_iter=n_epochs, **params).fit(X / 16, y)

    kinds = ("plain", "dense", "sparse", "fastfood")
    calls = {
        (kind, n): (lambda kind, n: lambda: fit(kind, n))(kind, n) for kind in kinds for n in (4, 8)
    }
    times = interleaved(calls, repeats=5)
    row = {kind: round((times[kind, 8] - times[kind, 4]) / (4 * 15), 2) for kind in kinds}
    row["D"] = fit("sparse", 1).n_parameters_
    print(row)
    return row


PARTS = {
    "products": bench_products,
    "outliers": bench_outliers,
    "fisher": bench_fisher,
    "pruning": bench_pruning,
    "dimension": bench_dimension,
    "steps": bench_steps,
}

if __name__ == "__main__":
    run_parts(__doc__, PARTS)
