"""Threads: limits hold inside the block and are put back after it, also on errors and at once."""

import linecache
import queue
import sys
import threading
import time

import pytest
from threadpoolctl import (
    OpenBLASController,
    ThreadpoolController,
    threadpool_info,
    threadpool_limits,
)

from sklr.utils import _threads
from sklr.utils._threads import single_blas_thread, thread_map


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
