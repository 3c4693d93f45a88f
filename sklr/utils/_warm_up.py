"""Compile the Numba kernels ahead of time, into Numba's cache folder."""

import importlib
import inspect
import pathlib
import time

from joblib import Parallel, delayed, effective_n_jobs

import sklr


def kernel_modules() -> list[str]:
    """Return the names of all kernel files.

    Each has a function ``_warm_up()`` that calls every kernel on a tiny input, with the layouts
    that the estimators use. Where they work in the precision of their input or in another by a
    parameter, it takes `dtypes`, which are by default what estimators take by default.
    """
    root = pathlib.Path(sklr.__file__).parent
    return sorted(
        ".".join(("sklr", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*_kernels.py")
    )


def warm_up(verbose: bool = False, *, all_dtypes: bool = False, n_jobs: int | None = None) -> float:
    """Compile every Numba kernel of sklr once, so that later first calls are quick.

    Kernels are compiled at their first call (one to three seconds for an estimator) and kept on
    disk: beside the source files, or in the folder that the environment variable
    ``NUMBA_CACHE_DIR`` names when it is set before Python starts. Set it where the
    installation is read-only (a container, a shared cluster), call this function once when
    the image is built, and no process compiles again.

    Parameters
    ----------
    verbose : bool, default=False
        Print each kernel file and its seconds.
    all_dtypes : bool, default=False
        Also compile for the other precision: by default kernels are compiled for float64, and
        where single precision is the default (FastRP, the layers of torch) for float32 only.
        About half as long again; otherwise tables of float32 compile at their first call.
    n_jobs : int or None, default=None
        Processes that compile kernel files at the same time; -1 takes all cores. Their work
        reaches this process, and later ones, through the cache folder: without one that can be
        written to, more than one process gains nothing.

    Returns
    -------
    seconds : float
        Time taken; a few hundredths of a second per file once the cache is filled.

    Examples
    --------
    >>> from sklr.utils import warm_up
    >>> warm_up() >= 0
    True
    """
    start = time.perf_counter()
    names = kernel_modules()
    if effective_n_jobs(n_jobs) > 1:
        jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        long_ones_first = sorted(names, key=_length, reverse=True)
        for name, seconds in jobs(delayed(_compile)(name, all_dtypes) for name in long_ones_first):
            if verbose:
                print(f"{name}: {seconds:.2f} s")
        verbose = False
    for name in names:
        _, seconds = _compile(name, all_dtypes)
        if verbose:
            print(f"{name}: {seconds:.2f} s")
    return time.perf_counter() - start


def _length(name: str) -> int:
    return (
        pathlib.Path(sklr.__file__)
        .parent.parent.joinpath(*name.split("."))
        .with_suffix(".py")
        .stat()
        .st_size
    )


def _compile(name: str, all_dtypes: bool) -> tuple[str, float]:
    """Compile the kernels of a file, or load them; return its name and the seconds."""
    import numpy as np

    start = time.perf_counter()
    run = importlib.import_module(name)._warm_up
    run()
    if all_dtypes and "dtypes" in inspect.signature(run).parameters:
        run((np.float32, np.float64))
    return name, time.perf_counter() - start
