"""Ahead-of-time compilation fills the cache folder that is named, and finds every kernel file."""

import os
import pathlib
import subprocess
import sys

import sklr
from sklr.utils import _warm_up, warm_up

PACKAGE = pathlib.Path(sklr.__file__).parent


def kernel_modules():
    return {
        "sklr." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*_kernels.py")
    }


def warm_up_in(folder):
    return subprocess.run(
        [sys.executable, "-c", "from sklr.utils import warm_up; warm_up(verbose=True)"],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=900,
    )


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb[ic]")}


def test_every_kernel_file_is_warmed_up():
    assert set(_warm_up._KERNEL_MODULES) == kernel_modules()


def test_fills_the_cache_folder_and_compiles_nothing_twice(tmp_path):
    first = warm_up_in(tmp_path)
    assert first.returncode == 0, first.stderr
    assert {line.partition(":")[0] for line in first.stdout.splitlines()} == kernel_modules()
    filled = files_in(tmp_path)
    for name in kernel_modules():
        stem = name.rpartition(".")[2]
        assert [path for path in filled if path.name.startswith(f"{stem}.")], name
    second = warm_up_in(tmp_path)
    assert second.returncode == 0, second.stderr
    assert files_in(tmp_path) == filled


def test_returns_seconds_and_is_quiet(capsys):
    seconds = warm_up()
    assert isinstance(seconds, float) and 0 <= seconds
    assert capsys.readouterr().out == ""
