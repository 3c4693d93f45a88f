"""Compile the Numba kernels ahead of time, into Numba's cache folder."""

import importlib
import inspect
import pathlib
import time

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


def warm_up(verbose: bool = False, *, all_dtypes: bool = False) -> float:
    """Compile every Numba kernel of sklr once, so that later first calls are quick.

    Kernels are compiled at their first call (a second to some ten for an estimator) and kept on
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
    import numpy as np

    start = time.perf_counter()
    for name in kernel_modules():
        began = time.perf_counter()
        run = importlib.import_module(name)._warm_up
        run()
        if all_dtypes and "dtypes" in inspect.signature(run).parameters:
            run((np.float32, np.float64))
        if verbose:
            print(f"{name}: {time.perf_counter() - began:.2f} s")
    return time.perf_counter() - start
