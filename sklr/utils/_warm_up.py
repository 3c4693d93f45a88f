"""Compile the Numba kernels ahead of time, into Numba's cache folder."""

import importlib
import pathlib
import time

import sklr


def kernel_modules() -> list[str]:
    """Return the names of all kernel files.

    Each has a function ``_warm_up()`` that calls every kernel on a tiny input, with the dtypes and
    layouts that the estimators use.
    """
    root = pathlib.Path(sklr.__file__).parent
    return sorted(
        ".".join(("sklr", *path.relative_to(root).with_suffix("").parts))
        for path in root.rglob("*_kernels.py")
    )


def warm_up(verbose: bool = False) -> float:
    """Compile every Numba kernel of sklr once, so that later first calls are quick.

    Kernels are compiled at their first call (some tenths of a second each) and kept on disk:
    beside the source files, or in the folder that the environment variable
    ``NUMBA_CACHE_DIR`` names when it is set before Python starts. Set it where the
    installation is read-only (a container, a shared cluster), call this function once when
    the image is built, and no process compiles again.

    Parameters
    ----------
    verbose : bool, default=False
        Print each kernel file and its seconds.

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
    for name in kernel_modules():
        began = time.perf_counter()
        importlib.import_module(name)._warm_up()
        if verbose:
            print(f"{name}: {time.perf_counter() - began:.2f} s")
    return time.perf_counter() - start
