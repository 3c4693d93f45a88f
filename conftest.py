"""Threads for all tests, and the files that need torch or MOABB to be collected.

Threads are pinned before NumPy loads: a busy machine is many times slower.
"""

import importlib.util
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# torch takes OMP_NUM_THREADS for its own number of threads.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MNE_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MOABB_DOWNLOAD_PROVIDER", "upstream")

from sklr.utils._imports import TORCH_PACKAGES  # noqa: E402

collect_ignore_glob = []
if importlib.util.find_spec("torch") is None:
    # A star matches subfolders too; the packages themselves are imported without torch.
    collect_ignore_glob += [f"sklr/{name}/*_[!_]*.py" for name in TORCH_PACKAGES]
    collect_ignore_glob += ["tests/torch_cases.py"]
if any(importlib.util.find_spec(name) is None for name in ("mne", "moabb")):
    # Its classes derive from MOABB's as soon as they are asked for.
    collect_ignore_glob += ["sklr/eeg/_simulated.py"]
