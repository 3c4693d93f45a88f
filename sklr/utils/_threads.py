"""Threads: the one place that sets how many are used, and puts the number back."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs

from sklr.utils._compile import load_numba

# The BLAS limit is a number of the whole process.
_BLAS_LOCK = threading.RLock()
_blas_users: set[object] = set()
_blas_limiter: Any = None
_forked: list[bool] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forked.append(True))


@lru_cache(maxsize=1)
def _controller() -> Any:
    # Finding the loaded BLAS libraries takes about a millisecond, setting the number does not.
    import scipy.linalg  # noqa: F401  (loads SciPy's own BLAS, so that it is found too)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _limit_blas(user: object) -> None:
    """Set BLAS to one thread if `user` is the first; keep what puts the number back.

    Since threadpoolctl 3.8 one Python thread at a time may set OpenBLAS's number; what others
    ask for is ignored. Nothing that was ignored may be put back: it would undo theirs.
    """
    global _blas_limiter
    with _BLAS_LOCK:
        libraries = [lib for lib in _controller().lib_controllers if lib.user_api == "blas"]
        if not _blas_users and any(library.num_threads != 1 for library in libraries):
            if _blas_limiter is None:
                # Known before anything is set: Ctrl-C may come at any place.
                _blas_limiter = _controller().limit(limits=None)
            for library in libraries:
                library.set_num_threads(1)
            if any(library.num_threads != 1 for library in libraries):
                _blas_limiter = None
        _blas_users.add(user)


def _leave_blas(user: object) -> None:
    """Put the number back if `user` was the last; a second call does no harm."""
    global _blas_limiter
    with _BLAS_LOCK:
        _blas_users.discard(user)
        if not _blas_users and _blas_limiter is not None:
            _restore_blas(_blas_limiter)
            _blas_limiter = None


def _restore_blas(limiter: Any) -> None:
    from threadpoolctl import OpenBLASController

    clear = getattr(OpenBLASController, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)  # the thread that set the limit may be another one, and still alive
    limiter.restore_original_limits()
    if clear is not None:
        clear()  # or this thread would be the only one to set a limit until it ends


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Keep BLAS and LAPACK on one thread: small matrices lose by more, batches go over trials.

    Nested and concurrent uses count: the first one in sets the limit, the last one out takes
    it back, so that two Python threads fitting at once do not restore each other's number.
    Inside another thread's own ``threadpool_limits`` the limit is theirs.
    """
    user = object()
    try:
        try:
            _limit_blas(user)
            yield
        finally:
            _leave_blas(user)
    except BaseException:
        _leave_blas(user)  # again: the first may have been interrupted
        raise


@lru_cache(maxsize=1)
def _openmp_controller() -> Any:
    import sklearn.utils._openmp_helpers  # noqa: F401  (loads OpenMP, so that it is found)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def single_openmp_thread() -> Iterator[None]:
    """Keep scikit-learn's OpenMP loops on one thread.

    After a fork GNU's OpenMP waits for threads that the child does not have.
    """
    with _openmp_controller().limit(limits=1, user_api="openmp"):
        yield


def openmp_after_fork() -> AbstractContextManager[None]:
    """Keep OpenMP on one thread in a forked child, where more would wait for ever."""
    return single_openmp_thread() if _forked else nullcontext()


def thread_map(function: Callable[..., Any], items: Sequence[Any], n_jobs: int | None) -> list:
    """Apply `function` to each item, on `n_jobs` threads, results in order.

    For work that releases the GIL (BLAS, LAPACK, Numba with nogil); one job calls directly.
    """
    if effective_n_jobs(n_jobs) == 1 or len(items) < 2:
        return [function(item) for item in items]
    return Parallel(n_jobs=n_jobs, prefer="threads")(delayed(function)(item) for item in items)


class ChunkThreads:
    """Call kernels that release the GIL on chunks of rows, on a number of threads.

    For kernels with chunks of their own that write apart from each other. Unlike a kernel with
    ``parallel=True`` it is compiled once and not twice, several Python threads may launch it at
    once, and a chunk goes to whichever thread is free.

    Parameters
    ----------
    n_jobs : int or None
        As in scikit-learn: None is 1 unless a joblib context says otherwise, -1 is all cores.
        Never more than Numba's own limit, which joblib lowers inside its workers.

    Attributes
    ----------
    n_threads : int
        How many threads are used.
    """

    def __init__(self, n_jobs: int | None) -> None:
        limit = load_numba().config.NUMBA_NUM_THREADS
        self.n_threads = max(1, min(effective_n_jobs(n_jobs), limit))
        self._pool: Any = None

    def __enter__(self) -> "ChunkThreads":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def run(self, kernel: Callable[..., Any], bounds: Sequence[int], *args: Any) -> None:
        """Call ``kernel(first, last, *args)`` for each pair of successive `bounds`."""
        chunks = list(zip(bounds[:-1], bounds[1:]))
        for _ in self.map(lambda chunk: kernel(*chunk, *args), chunks):
            pass

    def map(self, function: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]:
        """Iterate over ``function(item)``, in the order of `items`."""
        if self.n_threads == 1 or len(items) < 2:
            return map(function, items)
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self.n_threads)
        return self._pool.map(function, items)
