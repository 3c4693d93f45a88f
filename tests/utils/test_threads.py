"""Threads: limits hold inside the block and are put back after it, also on errors and at once."""

import linecache
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from joblib import parallel_config
from threadpoolctl import (
    OpenBLASController,
    ThreadpoolController,
    threadpool_info,
    threadpool_limits,
)

from sklr.utils import _threads
from sklr.utils._threads import numba_threads, single_blas_thread, thread_map


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def set_blas_threads(numbers):
    for library in ThreadpoolController().lib_controllers:
        library.set_num_threads(numbers[library.filepath])
    # Since threadpoolctl 3.8 the thread that set a limit is the only one that may set another.
    getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)(force=True)


@pytest.fixture
def two_blas_threads():
    import scipy.linalg  # noqa: F401  (its BLAS must be loaded before it can be limited)

    before = {lib["filepath"]: lib["num_threads"] for lib in threadpool_info()}
    set_blas_threads(dict.fromkeys(before, 2))
    if set(blas_threads()) != {2}:
        pytest.skip("this BLAS was built without threads")
    yield
    set_blas_threads(before)


@pytest.mark.parametrize("n_jobs, wanted", [(None, 1), (1, 1), (2, 2), (-1, None)])
def test_numba_threads_sets_and_restores(n_jobs, wanted):
    import numba

    wanted = wanted or min(os.cpu_count(), numba.config.NUMBA_NUM_THREADS)
    wanted = min(wanted, numba.config.NUMBA_NUM_THREADS)
    previous = numba.get_num_threads()
    with numba_threads(n_jobs) as n_threads:
        assert n_threads == numba.get_num_threads() == wanted
    assert numba.get_num_threads() == previous


def test_numba_threads_restores_after_an_error_and_nests():
    import numba

    previous = numba.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        with numba_threads(2), numba_threads(1):
            assert numba.get_num_threads() == 1
            raise ZeroDivisionError
    assert numba.get_num_threads() == previous


@pytest.mark.parametrize("first", ["torch", "numba"])
@pytest.mark.parametrize("number", ["1", "1,2"])
def test_numba_leaves_the_number_of_threads_of_torch(first, number):
    """Single precision networks differ in their last digits between numbers of threads."""
    pytest.importorskip("torch", reason="needs the extra torch")
    pytest.importorskip("numba.np.ufunc.omppool", reason="this Numba has no OpenMP layer")
    code = f"""
        import {first}
        from sklr.utils._threads import numba_threads
        with numba_threads(2):
            pass
        import torch
        print(torch.get_num_threads())
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": number,
        "NUMBA_NUM_THREADS": "2",
        "NUMBA_THREADING_LAYER": "omp",
    }
    environment.pop("MKL_NUM_THREADS", None)  # with it torch keeps its number anyway
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=environment,
    )
    assert done.stdout.split() == ["1"]


def test_numba_threads_asks_for_no_more_than_there_are():
    import numba

    with numba_threads(10_000) as n_threads:
        assert n_threads == numba.config.NUMBA_NUM_THREADS


def test_numba_threads_follows_a_joblib_context():
    with parallel_config(backend="threading", n_jobs=2), numba_threads(None) as n_threads:
        assert n_threads == 2


def test_numba_threads_lets_one_python_thread_in_at_a_time():
    inside, most = [], []

    def work():
        with numba_threads(1):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


def test_single_blas_thread_limits_and_restores(two_blas_threads):
    with single_blas_thread():
        assert set(blas_threads()) == {1}
        with single_blas_thread():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}
    with pytest.raises(ZeroDivisionError):
        with single_blas_thread():
            raise ZeroDivisionError
    assert set(blas_threads()) == {2}


def test_single_blas_thread_restores_wherever_it_is_interrupted(two_blas_threads):
    """Ctrl-C before each line of ours in turn, until no line of that number is left.

    But for where a lock is taken and given back: no signal is looked at between that line and the
    release, while an error of a trace function there would keep the lock.
    """

    def on_line(frame, event, arg):
        nonlocal lines
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and "with _BLAS_LOCK" not in line:
            lines += 1
            if lines == wanted:
                raise KeyboardInterrupt
        return on_line

    def on_call(frame, event, arg):
        return on_line if frame.f_code.co_filename == _threads.__file__ else None

    previous = sys.gettrace()
    for wanted in range(1, 1000):
        lines = 0
        sys.settrace(on_call)
        try:
            with single_blas_thread():
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(previous)
        assert set(blas_threads()) == {2}, wanted
        assert not _threads._blas_users, wanted
        if lines < wanted:
            break
    assert 10 < wanted < 999


class Inside:
    """A Python thread that enters the block, and leaves it when told to; it lives on after."""

    def __init__(self):
        self._steps = queue.Queue()
        self._done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            self._steps.get()
            with single_blas_thread():
                self._done.set()
                self._steps.get()
            self._done.set()

    def step(self):
        """Enter, or leave."""
        self._done.clear()
        self._steps.put(None)
        assert self._done.wait(10)


@pytest.mark.parametrize("leaves_first", [0, 1])
def test_single_blas_thread_from_two_threads_at_once(two_blas_threads, leaves_first):
    """The last one out puts the number back, also where it is not the one that set it."""
    threads = [Inside(), Inside()]
    for thread in threads:
        thread.step()
        assert set(blas_threads()) == {1}
    threads[leaves_first].step()
    assert set(blas_threads()) == {1}
    threads[1 - leaves_first].step()
    assert set(blas_threads()) == {2}
    assert not _threads._blas_users
    # Afterwards any thread can set a limit: none of ours holds on to it.
    with threadpool_limits(1, user_api="blas"):
        assert set(blas_threads()) == {1}


def test_single_blas_thread_leaves_the_limit_of_another_thread_alone(two_blas_threads):
    inside = Inside()
    with threadpool_limits(3, user_api="blas"):
        limited = set(blas_threads())
        inside.step()
    inside.step()
    assert limited == {3}
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_thread_map_keeps_the_order(n_jobs):
    def slow_first(i):
        time.sleep(0.01 if i == 0 else 0)
        return i * i

    assert thread_map(slow_first, range(5), n_jobs) == [0, 1, 4, 9, 16]
    assert thread_map(slow_first, [], n_jobs) == []


def test_thread_map_calls_directly_for_one_job_and_on_threads_for_two():
    own = threading.get_ident()
    assert set(thread_map(lambda _: threading.get_ident(), range(3), None)) == {own}
    assert own not in thread_map(lambda _: (time.sleep(0.01), threading.get_ident())[1], [1, 2], 2)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_thread_map_passes_errors_on(n_jobs):
    with pytest.raises(ZeroDivisionError):
        thread_map(lambda i: 1 / i, [1, 0], n_jobs)


CONCURRENT_LAUNCHES = """
import threading
import numba
import numpy as np
{lock}

@numba.njit(parallel=True, nogil=True)
def busy(x):
    out = np.empty_like(x)
    for i in numba.prange(len(x)):
        total = 0.0
        for j in range(3000):
            total += x[i] * j
        out[i] = total
    return out

x = np.ones(2000)
busy(x)

def work():
    for _ in range(20):
        with numba_threads(2):
            busy(x)

threads = [threading.Thread(target=work) for _ in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
print("finished", numba.threading_layer())
"""
WITH_LOCK = "from sklr.utils._threads import numba_threads"
WITHOUT_LOCK = "from contextlib import nullcontext as numba_threads"


def launch(lock):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CONCURRENT_LAUNCHES.format(lock=lock))],
        env=os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_kernels_from_two_python_threads_on_the_workqueue_layer():
    done = launch(WITH_LOCK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["finished", "workqueue"]


def test_the_workqueue_layer_still_needs_the_lock():
    """Why the lock is there: without it Numba ends the process. If not, drop the lock."""
    done = launch(WITHOUT_LOCK)
    assert done.returncode != 0
    assert "Concurrent access has been detected" in done.stderr
