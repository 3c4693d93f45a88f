"""What `import sklr` costs on top of scikit-learn's own import.

Each time is that of a fresh interpreter, from start to end; medians over several runs, the
statements taking turns so that a busy moment meets all of them. The ratio is to the import of
scikit-learn, which every user of sklr has anyway.
"""

import statistics
import subprocess
import sys
import time

from _common import Several, run_parts

STATEMENTS = {
    "python alone": "pass",
    "sklearn": "import sklearn.pipeline, sklearn.svm, sklearn.utils.validation",
    "sklr": "import sklr",
    "sklr.covariance": "import sklr.covariance",
    "sklr.geometry": "import sklr.geometry",
    "sklr.eeg": "import sklr.eeg",
    "pyriemann": "import pyriemann",
    "moabb": "import moabb",
}


def seconds(statement):
    """Return the seconds of one interpreter that runs `statement`, None if it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True)
    return time.perf_counter() - start if done.returncode == 0 else None


def measure(runs):
    """Return the median seconds of each statement, without those of the bare interpreter."""
    times = {name: [] for name in STATEMENTS}
    for run in range(runs + 1):
        for name, statement in STATEMENTS.items():
            took = seconds(statement)
            if took is not None and run > 0:  # the first round fills the file caches
                times[name].append(took)
    medians = {name: statistics.median(took) for name, took in times.items() if took}
    bare = medians.pop("python alone")
    return {name: took - bare for name, took in medians.items()}


def table(runs):
    """Seconds of each import, and the ratio to scikit-learn's."""
    medians = measure(runs)
    print(f"{'import':<18}{'seconds':>9}{'ratio to sklearn':>18}")
    for name, took in medians.items():
        print(f"{name:<18}{took:9.3f}{took / medians['sklearn']:18.2f}")
    return Several(runs=runs, seconds=medians)


def main(argv=None):
    """Print a table; keep it as JSON where wanted."""
    run_parts(
        __doc__,
        {"seconds": table},
        argv,
        lambda parser: parser.add_argument(
            "--runs", type=int, default=7, help="interpreters per statement"
        ),
    )


if __name__ == "__main__":
    main()
