"""What long-lived programs do to every estimator: interrupt, fork, fan out, unpickle, repeat.

The soak is ``slow``: it is run by hand (``make test-slow``) and prints what it saw.
"""

import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import sklr
from sklr.utils import all_estimators
from sklr.utils._base import BaseEstimator, PickledByAnotherVersionWarning
from sklr.utils._imports import TORCH_PACKAGES
from sklr.utils._own_checks import _fitted, _outputs
from sklr.utils.estimator_checks import instance_for_checks, make_check_data, missing_extra

NATIVE = [instance_for_checks(cls) for _, cls in all_estimators()]
HERE = [estimator for estimator in NATIVE if missing_extra(estimator) is None]
of_every_class = pytest.mark.parametrize(
    "estimator", HERE, ids=lambda estimator: type(estimator).__name__
)


def same(got, wanted, tol=1e-9):
    for name, value in wanted.items():
        if value.dtype.kind in "fc":
            # A pool of processes has fewer threads, and sums of BLAS may differ in the last bits.
            scale = max(1.0, float(np.abs(value).max(initial=0.0)))
            assert_allclose(got[name], value, rtol=tol, atol=tol * scale, err_msg=name)
        else:
            assert_array_equal(got[name], value, err_msg=name)


@of_every_class
def test_pickle_of_another_version_says_so(estimator, monkeypatch):
    assert isinstance(estimator, BaseEstimator)
    X, y = make_check_data(estimator)
    fitted = _fitted(estimator, X, y)
    with monkeypatch.context() as patched:
        patched.setattr(sklr, "__version__", "0.0.7")
        written = pickle.dumps(fitted)
    with pytest.warns(PickledByAnotherVersionWarning, match="0.0.7"):
        pickle.loads(written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = pickle.loads(pickle.dumps(fitted))
    assert vars(loaded).keys() == vars(fitted).keys()


class InterruptAt:
    """Raise KeyboardInterrupt before the n-th line of sklr that this thread runs, and count lines.

    Where a signal arrives depends on the load of the machine, a count of lines does not. Compiled
    code is never interrupted in its middle by either of them.
    """

    def __init__(self, line=None):
        self.line, self.seen = line, 0

    def __enter__(self):
        self.previous = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(self.previous)

    def _call(self, frame, event, arg):
        return self._line if SKLR in frame.f_code.co_filename else None

    def _line(self, frame, event, arg):
        if event == "line":
            self.seen += 1
            # An error between a lock's line and its release, where no signal is looked at, would
            # keep the lock: not in the files that have one. They have tests of their own.
            inside = frame.f_code.co_filename in WITH_LOCKS
            if self.line is not None and self.seen >= self.line and not inside:
                raise KeyboardInterrupt
        return self._line


SKLR = os.path.dirname(sklr.__file__)
WITH_LOCKS = {
    str(path) for path in Path(SKLR).rglob("*.py") if "Lock()" in path.read_text(encoding="utf-8")
}


def _held_locks():
    """Names of sklr's locks that another thread waits for in vain: the next one would hang."""
    locks = {
        f"{name}.{variable}": value
        for name, module in list(sys.modules.items())
        if name.startswith("sklr.")
        for variable, value in list(vars(module).items())
        if hasattr(value, "acquire") and hasattr(value, "release")
    }
    held = []

    def look():  # a thread of its own: the one that holds a reentrant lock would get it again
        for name, lock in locks.items():
            if lock.acquire(timeout=5):
                lock.release()
            else:
                held.append(name)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert locks
    return held


MOMENTS = int(os.environ.get("SKLR_EXAMPLES", "8"))


def _lines_of_a_fit(estimator, args):
    counted = clone(estimator)
    with InterruptAt() as whole:
        counted.fit(*args)
    return whole.seen


def _same_state(estimator, wanted):
    state = vars(estimator)
    assert state.keys() == wanted.keys(), state.keys() ^ wanted.keys()
    for name, value in wanted.items():
        assert state[name] is value, name


@of_every_class
def test_interrupted_fit_leaves_the_former_fit_or_none(estimator):
    """Ctrl-C at several moments of a first and a second fit; then a fit as if nothing was."""
    X, y = make_check_data(estimator, n_samples=40)
    args = (X,) if y is None else (X, y)
    wanted = _outputs(clone(estimator).fit(*args), X)
    fresh, fitted = clone(estimator), clone(estimator).fit(*make_check_data(estimator, seed=1))
    lines = min(_lines_of_a_fit(estimator, args) for _ in range(3))  # the first find less prepared
    assert lines > 0
    threads = threading.active_count()
    for interrupted in (fresh, fitted):
        before = dict(vars(interrupted))
        for line in np.unique(np.linspace(1, lines, MOMENTS).astype(int)):
            with pytest.raises(KeyboardInterrupt), InterruptAt(line):
                interrupted.fit(*args)
            _same_state(interrupted, before)
        interrupted.fit(*args)
        same(_outputs(interrupted, X), wanted)
    assert not _held_locks()
    assert threading.active_count() <= threads + 2  # the pool that joblib keeps


def _fit_and_say(estimator, X, y):
    return _outputs(_fitted(estimator, X, y), X)


@pytest.mark.parametrize("backend", ["loky", "threading", "dask"])
def test_fits_in_workers_agree_with_fits_at_home(backend):
    tasks = [(estimator, *make_check_data(estimator)) for estimator in HERE]
    wanted = [_fit_and_say(*task) for task in tasks]
    jobs = [delayed(_fit_and_say)(*task) for task in tasks]
    if backend == "dask":
        distributed = pytest.importorskip("dask.distributed", reason="needs the extra dask")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
            parallel_config("dask"),
        ):
            results = Parallel()(jobs)
    else:
        with parallel_config(backend, n_jobs=2):
            results = Parallel()(jobs)
    for estimator, got, expected in zip(HERE, results, wanted, strict=True):
        # Workers have another number of threads. Networks trained in single precision carry the
        # last bits of the first step through all the others; with equal threads they are equal.
        network = type(estimator).__module__.split(".")[1] in TORCH_PACKAGES
        same(got, expected, tol=1e-2 if network else 1e-9)


FORK = """
import multiprocessing
import os
import warnings

from sklr.utils import all_estimators
from sklr.utils._imports import TORCH_PACKAGES
from sklr.utils._own_checks import _fitted
from sklr.utils.estimator_checks import instance_for_checks, make_check_data, missing_extra

warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads: that is the point

def fit_all():
    for name, cls in all_estimators():
        estimator = instance_for_checks(cls)
        if missing_extra(estimator):
            continue
        if "SKLR_FORK_CLASSICAL" in os.environ and cls.__module__.split(".")[1] in TORCH_PACKAGES:
            continue
        # Its processes are joblib's, which no forked child can use: GridSearchCV hangs there too.
        processes = name == "IntrinsicDimension"
        if "n_jobs" in estimator.get_params(deep=False) and not processes:
            estimator.set_params(n_jobs=2)
        _fitted(estimator, *make_check_data(estimator))

fit_all()
child = multiprocessing.get_context("fork").Process(target=fit_all)
child.start()
child.join(600)
assert child.exitcode == 0, child.exitcode
fit_all()
print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.parametrize("openmp", ["1", None], ids=["one thread", "default threads"])
def test_fork_after_parallel_kernels(openmp):
    """A forked child of a process that ran parallel kernels fits too, and so does the parent.

    With OpenMP's default number of threads too, but for networks: torch itself hangs there.
    """
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue"}
    if openmp is None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.pop(name, None)
        environment["SKLR_FORK_CLASSICAL"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "ok"


@pytest.mark.slow
@of_every_class
def test_a_thousand_fits_leave_nothing_behind(estimator):
    psutil = pytest.importorskip("psutil", reason="needs the extra bench")
    process = psutil.Process()
    X, y = make_check_data(estimator)

    def state():
        gc.collect()
        return process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(50):  # caches and pools fill
            _fit_and_say(estimator, X, y)
        before, end, fits = state(), time.monotonic() + 60, 0
        while fits < 1000 and (fits < 100 or time.monotonic() < end):
            _fit_and_say(estimator, X, y)
            fits += 1
    after = state()
    name = type(estimator).__name__
    print(f"{name}: {fits} fits, RSS {before[0]:.1f} -> {after[0]:.1f} MiB, {after[1:]}")
    assert after[0] - before[0] < 8
    # Fewer is right: the idle workers of an earlier test's pool leave after five minutes.
    assert after[1] <= before[1] and after[2] <= before[2]


ARRAY_API = """
import warnings

import numpy as np
import sklearn
import torch
from sklearn.base import clone

from sklr.utils import all_estimators
from sklr.utils._own_checks import _fitted
from sklr.utils.estimator_checks import instance_for_checks, make_check_data

warnings.simplefilter("ignore")
for name, cls in all_estimators():
    estimator = instance_for_checks(cls)
    X, y = make_check_data(estimator)
    tensors = torch.tensor(X), y if y is None or y.dtype.kind == "U" else torch.tensor(y)
    for dispatch in (False, True):
        with sklearn.config_context(array_api_dispatch=dispatch):
            fitted = _fitted(estimator, *tensors)
            for method in ("transform", "predict"):
                if hasattr(fitted, method):
                    out = getattr(fitted, method)(tensors[0])
                    assert isinstance(out, np.ndarray), (name, method, dispatch, type(out))
    print("ok", name)
"""


def test_tensors_are_taken_with_and_without_array_api_dispatch():
    """Arrays of another library on the CPU go in, NumPy's come out, whatever the configuration."""
    pytest.importorskip("torch", reason="needs the extra torch")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ARRAY_API)],
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == len(NATIVE)
