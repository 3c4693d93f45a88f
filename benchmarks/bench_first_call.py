"""What the first call costs: CPU seconds beyond those of the second, on an empty cache.

Each case runs in three interpreters of its own (medians) with `NUMBA_CACHE_DIR` at a fresh folder,
in which scikit-learn and the estimator's subpackage have been imported. What is left is Numba's
import, its compiler's start and the kernels that this call needs; the unit, a loop of one line
compiled and cached, says how quick the machine is at the moment. Cases without kernels stand for
all that have none, and a step of torch for what `GrassmannLinear` takes from it. `warm_up` is one
process for all kernel files, and per file its part of it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile

from _common import one_blas_thread, run_parts

one_blas_thread()

HEAD = """
import json, logging, time, warnings
import numpy as np
import sklearn.pipeline, sklearn.svm, sklearn.decomposition, sklearn.cluster, sklearn.linear_model
import sklearn.neighbors, scipy.sparse.linalg, scipy.optimize, scipy.stats
warnings.simplefilter("ignore")
logging.disable(50)
rng = np.random.default_rng(0)
def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
"""
UNIT = """
import numba
def fresh():
    @numba.njit
    def add(x):
        total = 0.0
        for i in range(len(x)):
            total += x[i]
        return total
    add(np.ones(3))
fresh()
found["unit"] = seconds(fresh)
"""
GRAPH = """
from sklr.datasets import make_attributed_sbm
A, attributes, _ = make_attributed_sbm(400, n_clusters=3, random_state=1)
"""
MANIFOLD = (
    "from sklearn.datasets import make_swiss_roll\nX = make_swiss_roll(400, random_state=0)[0]\n"
)
TABLE = """
U, V = rng.standard_normal((2000, 5)), rng.standard_normal((400, 5))
X = U @ V.T + 0.1 * rng.standard_normal((2000, 400))
X[rng.random(X.shape) < 0.7] = np.nan
"""
CLOUDS = """
X, Y = rng.standard_normal((300, 3)), rng.standard_normal((320, 3)) + 1
a, b = np.full(300, 1 / 300), np.full(320, 1 / 320)
C = ((X[:, None] - Y) ** 2).sum(axis=2)
"""
TRIALS = """
from sklr.datasets import make_motor_imagery
X, y = make_motor_imagery(30, random_state=0)
X = X[:, :9, :400]
"""
SPD = """
A = rng.standard_normal((40, 8, 30))
X, y = A @ A.transpose(0, 2, 1), np.arange(40) % 2
"""
REGRESSION = "X = rng.uniform(size=(300, 3))\ny = np.sin(X.sum(axis=1))\n"
PLAIN = "X = rng.standard_normal((200, 8))\ny = np.arange(200) % 2\n"

# name: what comes before, and the call.
CASES = {
    "BootstrapAMGClustering": (
        GRAPH + "from sklr.cluster import BootstrapAMGClustering as E",
        "E(3, affinity='precomputed', random_state=0).fit(A, attributes=attributes)",
    ),
    "BootstrapAMGEmbedding": (
        GRAPH + "from sklr.manifold import BootstrapAMGEmbedding as E",
        "E(affinity='precomputed', random_state=0).fit(A)",
    ),
    "DiffusionSubspaceClustering": (
        PLAIN + "from sklr.cluster import DiffusionSubspaceClustering as E",
        "E(2, random_state=0).fit(X)",
    ),
    "FastRP": (
        GRAPH + "from sklr.manifold import FastRP as E",
        "E(16, affinity='precomputed', random_state=0).fit(A)",
    ),
    "FastRPCV": (
        GRAPH + "from sklr.manifold import FastRPCV as E",
        "E(16, affinity='precomputed', random_state=0).fit(A, np.arange(400) % 3)",
    ),
    "HeatGeodesicEmbedding": (
        MANIFOLD + "from sklr.manifold import HeatGeodesicEmbedding as E",
        "E(random_state=0).fit(X)",
    ),
    "heat_geodesic_distances": (
        MANIFOLD + "from sklr.manifold import heat_geodesic_distances as f",
        "f(X)",
    ),
    "DiffusionSpectralEntropy": (
        MANIFOLD + "from sklr.manifold import DiffusionSpectralEntropy as E",
        "E().fit(X)",
    ),
    "RandomSubspace": (
        "from sklr.geometry import RandomSubspace as E",
        "E(1000, 5, projection='fastfood', random_state=0).forward(np.ones(5))",
    ),
    "FunctionalTuckerRegressor": (
        REGRESSION + "from sklr.decomposition import FunctionalTuckerRegressor as E",
        "E(2, n_init=1, max_iter=20, random_state=0).fit(X, y)",
    ),
    "ChebyshevTuckerRegressor": (
        REGRESSION + "from sklr.decomposition import ChebyshevTuckerRegressor as E",
        "E().fit(X, y).predict(X)",
    ),
    "LowRankImputer": (
        TABLE + "from sklr.decomposition import LowRankImputer as E",
        "E(random_state=0).fit_transform(X)",
    ),
    "MatrixFactorizationRegressor": (
        "i, j = rng.integers(500, size=20000), rng.integers(300, size=20000)\n"
        "y = rng.standard_normal(500)[i] * rng.standard_normal(300)[j]\n"
        "from sklr.decomposition import MatrixFactorizationRegressor as E",
        "E(5, random_state=0).fit(np.stack([i, j], axis=1), y)",
    ),
    "ImplicitFactorization": (
        "from scipy import sparse\nX = sparse.random_array((500, 300), density=0.05, rng=0)\n"
        "from sklr.decomposition import ImplicitFactorization as E",
        "E(5, random_state=0).fit(X.tocsr())",
    ),
    "sinkhorn": (CLOUDS + "from sklr.transport import sinkhorn as f", "f(a, b, C, reg=0.1)"),
    "sinkhorn_newton": (
        CLOUDS + "from sklr.transport import sinkhorn_newton as f",
        "f(a, b, C, reg=0.05)",
    ),
    "sinkhorn_divergence": (
        CLOUDS + "from sklr.transport import sinkhorn_divergence as f",
        "f(X, Y)",
    ),
    "EntropicTransport": (
        CLOUDS + "from sklr.transport import EntropicTransport as E",
        "E().fit(X, X_target=Y)",
    ),
    "AugmentedCovariance": (
        TRIALS + "from sklr.covariance import AugmentedCovariance as E",
        "E(8, 3).fit_transform(X)",
    ),
    "select_embedding": (
        TRIALS + "from sklr.covariance import select_embedding as f",
        "f(X[:4])",
    ),
    "GrassmannLinear": (
        "import torch\nfrom sklr.nn import GrassmannLinear, RiemannianSGD\n"
        "x, target = torch.randn(32, 16), torch.arange(32) % 3\n"
        "def step():\n"
        "    head = GrassmannLinear(16, 3, n_components=2)\n"
        "    optimizer = RiemannianSGD(head.parameters(), lr=0.1)\n"
        "    head.cross_entropy(x, target).backward()\n"
        "    optimizer.step()",
        "step()",
    ),
    "a plain step of torch": (
        "import torch\n"
        "x, target = torch.randn(32, 16), torch.arange(32) % 3\n"
        "def step():\n"
        "    head = torch.nn.Linear(16, 3)\n"
        "    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)\n"
        "    torch.nn.functional.cross_entropy(head(x), target).backward()\n"
        "    optimizer.step()",
        "step()",
    ),
    "torch's import and a step": (
        "def step():\n"
        "    import torch\n"
        "    x, target = torch.randn(32, 16), torch.arange(32) % 3\n"
        "    head = torch.nn.Linear(16, 3)\n"
        "    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)\n"
        "    torch.nn.functional.cross_entropy(head(x), target).backward()\n"
        "    optimizer.step()",
        "step()",
    ),
    "PerturbedGenerativeModel": (
        "from sklr.neural_network import PerturbedGenerativeModel as E\n"
        "X = rng.standard_normal((60, 3))",
        "E(max_iter=2, random_state=0).fit(X)",
    ),
    "MDM": (SPD + "from sklr.covariance import MDM as E", "E().fit(X, y).predict(X)"),
    "TangentSpace": (SPD + "from sklr.covariance import TangentSpace as E", "E().fit_transform(X)"),
    "MatrixSensingRegressor": (
        "X = rng.standard_normal((300, 6, 6))\ny = X[:, 0, 0]\n"
        "from sklr.decomposition import MatrixSensingRegressor as E",
        "E(1).fit(X, y)",
    ),
    "VectorFieldGPRegressor": (
        MANIFOLD + "from sklr.gaussian_process import VectorFieldGPRegressor as E",
        "E().fit(X, np.cross(X, [0.0, 1.0, 0.0]))",
    ),
}


def run(code):
    """Run code on an empty cache; return the JSON that it prints, or its last line of error."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def calls(out, names=None):
    """First and second call of the public names that reach kernels, and of some that do not."""
    print(f"{'':<30}{'first':>8}{'second':>8}{'beyond':>8}{'unit':>7}")
    for name in names or CASES:
        before, call = CASES[name]
        code = f"{HEAD}{before}\ncall = lambda: {call}\nfound = {{}}\n"
        code += f"found['first'], found['second'] = seconds(call), seconds(call)\n{UNIT}"
        rows = [run(f"{code}\nprint(json.dumps(found))") for _ in range(3)]
        failed = [row["failed"] for row in rows if "failed" in row]
        if failed:
            print(f"{name:<30}{failed[0]}", flush=True)
            continue
        out[name] = row = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        row["beyond"] = row["first"] - row["second"]
        print(
            f"{name:<30}{row['first']:8.2f}{row['second']:8.2f}{row['beyond']:8.2f}"
            f"{row['unit']:7.3f}",
            flush=True,
        )


def warm_up():
    """All kernel files in one process, as an installation compiles them."""
    code = f"""{HEAD}
import importlib
from sklr.utils._warm_up import kernel_modules
found = {{}}
{UNIT}
found["files"] = {{}}
for name in kernel_modules():
    module = importlib.import_module(name)
    found["files"][name.removeprefix("sklr.")] = seconds(module._warm_up)
found["all"] = sum(found["files"].values())
print(json.dumps(found))
"""
    found = run(code)
    for name, took in found.get("files", {}).items():
        print(f"{name:<50}{took:7.2f}")
    print({key: value for key, value in found.items() if key != "files"})
    return found


def main(argv=None):
    """Print tables; keep them as JSON where wanted."""
    run_parts(
        __doc__,
        {"calls": calls, "warm_up": warm_up},
        argv,
        lambda parser: parser.add_argument(
            "--names", nargs="+", choices=CASES, help="cases of `calls`, default all"
        ),
    )


if __name__ == "__main__":
    main()
