"""Ahead-of-time compilation fills the cache folder that is named, and finds every kernel file."""

import importlib
import os
import pathlib
import subprocess
import sys

import sklr
from sklr.utils import warm_up
from sklr.utils._warm_up import kernel_modules

PACKAGE = pathlib.Path(sklr.__file__).parent


WARM = "from sklr.utils import warm_up; warm_up(verbose=True, all_dtypes=True)"
# One kernel file, since compiling all of them takes minutes.
ONE = "import sklr.covariance._augmented_kernels as kernels; kernels._warm_up()"


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


def files_in(folder):
    """Return compiled functions by file, with their times; an index is written for each new one."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


def test_every_kernel_file_has_its_warm_up():
    names = kernel_modules()
    assert "sklr.covariance._augmented_kernels" in names
    assert all(callable(importlib.import_module(name)._warm_up) for name in names)


def test_compiles_every_kernel_file_and_nothing_twice():
    """With the cache that the tests have, which ``make test`` fills first."""
    first = run(WARM)
    assert first.returncode == 0, first.stderr
    assert {line.partition(":")[0] for line in first.stdout.splitlines()} == set(kernel_modules())
    folder = pathlib.Path(os.environ.get("NUMBA_CACHE_DIR", PACKAGE))
    filled = files_in(folder)
    for name in kernel_modules():
        stem = name.rpartition(".")[2]
        assert [path for path in filled if path.name.startswith(f"{stem}.")], name
    second = run(WARM)
    assert second.returncode == 0, second.stderr
    # Other tests fill it at the same time: nothing that was there is written again.
    assert files_in(folder).items() >= filled.items()


def test_fills_the_folder_that_the_variable_names(tmp_path):
    done = run(ONE, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [path for path in files_in(tmp_path) if path.name.startswith("_augmented_kernels.")]


def test_several_processes_fill_one_folder(tmp_path):
    names = ["sklr.covariance._augmented_kernels", "sklr.transport._cost_kernels"]
    some = f"import sklr.utils._warm_up as w; w.kernel_modules = lambda: {names}; "
    done = run(some + "w.warm_up(True, n_jobs=2)", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()) == names
    compiled = {path.name.partition(".")[0] for path in files_in(tmp_path)}
    assert compiled == {"_augmented_kernels", "_cost_kernels"}


def test_returns_seconds_and_is_quiet(capsys):
    seconds = warm_up()
    assert isinstance(seconds, float) and 0 <= seconds
    assert capsys.readouterr().out == ""
