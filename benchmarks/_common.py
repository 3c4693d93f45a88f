"""What the benchmark scripts share: real or simulated trials, CPU time, the machine, JSON."""

import json
import os
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


def cpu(function, repeats=1):
    """Median CPU seconds (all threads) of a call, and its last result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def machine():
    """What ran where."""
    packages = ("numpy", "scipy", "scikit-learn", "numba", "pyriemann")
    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        **{name: version(name) for name in packages},
    }


def save(path, result):
    """Write results with the machine beside them."""
    if path:
        path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
