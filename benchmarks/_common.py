"""What the benchmark scripts share: a main, a timer, trials (real or simulated), the machine."""

import argparse
import functools
import inspect
import json
import os
import pathlib
import platform
import statistics
import time
import warnings
from importlib.metadata import version

CHANNELS = {
    9: "FC3 FCz FC4 C3 Cz C4 CP3 CPz CP4".split(),
    21: ("FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 CP6").split(),
}


def one_blas_thread():
    """Must run before NumPy loads: the same single thread for the peer and for us."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def trials(n_channels, subject=1):
    """45 band-passed trials: a PhysionetMI subject where MNE_DATA has it, else simulated.

    Returns X, y and what they are.
    """
    if os.environ.get("MNE_DATA"):
        os.environ.setdefault("MOABB_DOWNLOAD_PROVIDER", "upstream")
        warnings.simplefilter("ignore")
        import mne
        from moabb.datasets import PhysionetMI
        from moabb.paradigms import LeftRightImagery

        mne.set_log_level("ERROR")
        dataset = PhysionetMI(subjects=[subject])
        dataset.feet_runs = []  # the hand runs only
        paradigm = LeftRightImagery(fmin=8, fmax=35, channels=CHANNELS[n_channels])
        X, y, _ = paradigm.get_data(dataset, subjects=[subject])
        return X, (y == "right_hand").astype(int), f"PhysionetMI S{subject:03d}"
    from sklr.datasets import make_motor_imagery

    X, y = make_motor_imagery(
        45,
        channels=CHANNELS[n_channels],
        duration=481 / 160,
        band=(8, 35),
        subject=subject,
        random_state=0,
    )
    return X, y, "simulated"


def timed(function, repeats=1, clock=time.perf_counter):
    """Median seconds of a call by the clock on the wall, or another, and its last result."""
    times = []
    for _ in range(repeats):
        start = clock()
        result = function()
        times.append(clock() - start)
    return statistics.median(times), result


def cpu(function, repeats=1):
    """Median CPU seconds (all threads) of a call, and its last result."""
    return timed(function, repeats, time.process_time)


def gather_seconds(matrix, n_columns=1, repeats=9):
    """Least CPU seconds to read the row of each edge's other end from a table and do no more.

    This is what sweeps over a graph, or its products with vectors, cannot be quicker than; the
    rows go to a block that stays in the nearest cache.
    """
    import numpy as np

    n, step = matrix.shape[1], max(1, 65_536 // n_columns)
    table = np.ones((n, n_columns), np.float64 if n_columns == 1 else np.float32)
    block = np.empty((step, n_columns), table.dtype)
    ends = [matrix.indices[k : k + step] for k in range(0, matrix.nnz, step)]
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for part in ends:
            np.take(table, part, axis=0, out=block[: len(part)], mode="clip")
        times.append(time.process_time() - start)
    return min(times)


@functools.cache
def machine_limits():
    """What the machine does in this run, one thread: the units that rows can be measured in."""
    import numpy as np

    big, small = np.ones(8_000_000), np.random.default_rng(0).random((300, 300))
    out, single = np.empty_like(big), small.astype(np.float32)
    places = np.random.default_rng(0).integers(len(big), size=500_000)
    uniform, some = np.random.default_rng(0).random(500_000), np.empty(500_000)
    spd = np.eye(30) + np.ones((200, 30, 30))

    def least(function):
        times = []
        for _ in range(5):
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
        return max(min(times), 1e-9)

    return {
        "copy, GB/s": 16e-9 * len(big) / least(lambda: np.copyto(out, big)),
        "gather from 64 MB, ns": 2e3 * least(lambda: np.take(big, places, out=some, mode="clip")),
        "exponential, ns": 2e3 * least(lambda: np.exp(uniform, out=some)),
        "product, Gflop/s": 0.054 / least(lambda: small @ small),
        "product in float32, Gflop/s": 0.054 / least(lambda: single @ single),
        "eigendecomposition of 30 rows, us": 5e3 * least(lambda: np.linalg.eigh(spd)),
    }


@functools.cache
def eigen_seconds(n_rows):
    """Least CPU seconds of the eigendecomposition of one of a stack of matrices, in this run."""
    import numpy as np

    count = max(1, 3000 // n_rows)
    A = np.random.default_rng(0).standard_normal((count, n_rows, n_rows))
    A = A + A.transpose(0, 2, 1)
    return min(cpu(lambda: np.linalg.eigh(A))[0] for _ in range(5)) / count


def flops_of(call):
    """Floating point operations of the products and convolutions of torch in a call, backward too.

    What torch does in other ways (sums, functions, decompositions) is not among them.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def share_of_limit(
    seconds, *, flops=0, flops32=0, moved=0, gathers=0, exponentials=0, eigen=(), more=(0.0, "")
):
    """Compare a row with what this machine needs for the work that the row cannot do without.

    Parameters
    ----------
    seconds : float
        Of the row, CPU time or that of a clock.
    flops, flops32 : float
        Operations of products, in double and in single precision.
    moved : float
        Bytes read and written in order; a copy moves each twice.
    gathers, exponentials : float
        Numbers read from all over 64 MB, and exponentials.
    eigen : iterable of (int, int)
        Eigendecompositions: how many, and of how many rows.
    more : (float, str)
        Seconds of work that the script has measured itself, and what it is.

    Returns
    -------
    row : dict
        ``"share"``, the seconds of that work by itself over those of the row, and ``"limit"``, the
        work in words. Keys are those of the quick mode.
    """
    rates = machine_limits()
    eigen = [(count, rows) for count, rows in eigen if count]
    parts = [
        (1e-9 * flops / rates["product, Gflop/s"], f"{flops:.2g} flops of products"),
        (
            1e-9 * flops32 / rates["product in float32, Gflop/s"],
            f"{flops32:.2g} flops of products in float32",
        ),
        (1e-9 * moved / rates["copy, GB/s"], f"{moved:.2g} bytes moved"),
        (1e-9 * gathers * rates["gather from 64 MB, ns"], f"{gathers:.2g} numbers gathered"),
        (1e-9 * exponentials * rates["exponential, ns"], f"{exponentials:.2g} exponentials"),
        *(
            (count * eigen_seconds(rows), f"{count} eigendecompositions of {rows} rows")
            for count, rows in eigen
        ),
        more,
    ]
    parts = [(least, words) for least, words in parts if least > 0]
    return {
        "share": sum(least for least, _ in parts) / seconds,
        "limit": ", ".join(words for _, words in parts),
    }


def machine():
    """What ran where."""
    packages = ("numpy", "scipy", "scikit-learn", "numba", "pyriemann")
    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "limits": machine_limits(),
        **{name: version(name) for name in packages},
    }


def save(path, result):
    """Write results with the machine beside them."""
    if path:
        path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")


def saved(path):
    """Return the results that other runs left in a file, without the machine."""
    if not (path and path.is_file()):
        return {}
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "machine"}


class Several(dict):
    """Results of one part that stand in the file under names of their own."""


def run_parts(doc, parts, argv=None, add_options=None, before=None):
    """Run the parts that the command line names (default all), in its order: a script's `main`.

    Parameters
    ----------
    doc : str
        The script's docstring, for ``--help``.
    parts : dict of str to callable
        A part is given the options that have the names of its parameters, unless they are None:
        ``bench_step(repeats)`` gets ``--repeats``. A parameter `out` is a dictionary to fill, at
        first what the file has of this part. What a part returns goes into the file under its
        name, a `Several` under its own, and None (skipped) nowhere.
    argv : list of str, default=None
        Arguments, default those of the process.
    add_options : callable, default=None
        Is called with the parser, for options beside ``--json`` and ``--parts``.
    before : callable, default=None
        Is called with the parsed options before any part; it may return more results.

    The file is written after each part, and keeps the other parts of earlier runs. What the
    machine can do is measured in each run, printed, and in the file.
    """
    head, _, rest = doc.partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="file for the results")
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    if add_options:
        add_options(parser)
    options = parser.parse_args(argv)
    result = saved(options.json)
    result |= (before(options) if before else None) or {}
    for name, value in machine().get("limits", {}).items():
        print(f"limit of the machine: {name} {value:.3g}")
    known = {name: value for name, value in vars(options).items() if value is not None}
    for name in options.parts:
        part, out = parts[name], result.get(name, {})
        about = (inspect.getdoc(getattr(part, "func", part)) or "").partition("\n")[0]
        print(f"-- {name}: {about}" if about else f"-- {name}", flush=True)
        taken = inspect.signature(part).parameters
        found = part(**{key: v for key, v in {**known, "out": out}.items() if key in taken})
        if found is None:
            if "out" not in taken:
                continue
            found = out
        result |= found if isinstance(found, Several) else {name: found}
        save(options.json, result)
