"""Kernels are compiled where nothing can be cached, and a long first call is announced."""

import gc
import logging
import threading
import time
import types

import pytest

from sklr.utils import _compile

numba = pytest.importorskip("numba")


def double(x):
    return 2 * x


def test_without_a_place_for_the_cache_functions_are_compiled_and_one_warning_is_given(monkeypatch):
    from numba.core.caching import CacheImpl

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(double)
    _compile._warn_of_no_cache.cache_clear()
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR") as given:
        first, second = _compile.njit(double), _compile.njit(error_model="numpy")(double)
    assert len(given) == 1
    assert first(3) == second(3) == 6


def test_other_errors_of_the_compiler_are_not_hidden():
    with pytest.raises(KeyError, match="Unrecognized options"):
        _compile.njit(nosuch=1)(double)(1)


def event(kind, module, name="f"):
    function = types.SimpleNamespace(__module__=module, __name__=name)
    dispatcher = types.SimpleNamespace(py_func=function)
    return types.SimpleNamespace(
        data={"dispatcher": dispatcher}, is_start=kind == "start", is_end=kind == "end"
    )


@pytest.fixture
def impatient(monkeypatch, caplog):
    monkeypatch.setattr(_compile, "_PATIENCE", 0.0)
    caplog.set_level(logging.WARNING, "sklr")

    def said(wanted):
        stop = time.monotonic() + 10
        while len(caplog.messages) < wanted and time.monotonic() < stop:
            time.sleep(0.01)
        return caplog.messages

    return said


def test_a_long_compilation_is_announced_once(impatient):
    watch = _compile._Watch()
    outer = event("start", "sklr.manifold._fastrp_kernels")
    watch.notify(outer)
    (message,) = impatient(1)
    assert "sklr.manifold " in message and "warm_up()" in message
    watch.notify(types.SimpleNamespace(data=outer.data, is_start=False, is_end=True))
    watch.notify(event("start", "sklr.transport._linear_kernels"))
    assert len(impatient(1)) == 1


def test_kernels_of_others_and_quick_ones_are_not_announced(impatient, monkeypatch):
    watch = _compile._Watch()
    watch.notify(event("start", "somebody._kernels"))
    assert watch._timer is None
    monkeypatch.setattr(_compile, "_PATIENCE", 3600.0)
    outer, inner = event("start", "sklr.a.b"), event("start", "sklr.a.b", "g")
    watch.notify(outer)
    timer = watch._timer
    watch.notify(inner)
    watch.notify(types.SimpleNamespace(data=inner.data, is_start=False, is_end=True))
    assert watch._timer is timer
    watch.notify(types.SimpleNamespace(data=outer.data, is_start=False, is_end=True))
    timer.join(10)
    assert watch._timer is None and not timer.is_alive() and not watch._said


def test_no_garbage_is_looked_for_while_kernels_compile():
    pause = _compile._Pause()
    outer, inner = event("start", "sklr.a.b"), event("start", "sklr.a.b", "g")
    ends = [
        types.SimpleNamespace(data=start.data, is_start=False, is_end=True)
        for start in (inner, outer)
    ]
    pause.notify(event("start", "somebody._kernels"))
    assert gc.isenabled()
    pause.notify(outer)
    pause.notify(inner)
    pause.notify(ends[0])
    assert not gc.isenabled()
    pause.notify(ends[1])
    assert gc.isenabled()
    gc.disable()  # somebody's wish is kept
    try:
        pause.notify(outer)
        pause.notify(ends[1])
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["block", "compilation"])
def test_a_pause_that_another_thread_ends_meanwhile_is_not_begun_again(how, monkeypatch):
    """The other one stops the search before it is looked at, and lets it go on just after."""

    class Seen:
        calls: list[str] = []

        def __getattr__(self, name):
            return lambda: self.calls.append(name)  # isenabled() is false

    seen = Seen()
    monkeypatch.setattr(_compile, "gc", seen)
    if how == "block":
        with _compile._no_collection():
            pass
    else:
        pause, start = _compile._Pause(), event("start", "sklr.a.b")
        pause.notify(start)
        pause.notify(types.SimpleNamespace(data=start.data, is_start=False, is_end=True))
    assert seen.calls == ["isenabled"]


def test_the_compiler_is_started_by_one_thread_at_a_time(monkeypatch):
    from numba.core import event as numba_event
    from numba.core.registry import cpu_target

    inside, most, heard = [], [], []

    def refresh():
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    monkeypatch.setattr(cpu_target.typing_context, "refresh", refresh)
    monkeypatch.setattr(numba_event, "register", lambda *args: heard.append(args))
    for function in (_compile._start, _compile._start_alone):
        function.cache_clear()
    threads = [threading.Thread(target=_compile._start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == len(heard) == 1
