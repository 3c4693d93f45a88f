"""Numba's compiler for the kernel files: cached where that can be, and not in silence."""

import functools
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sklr.utils._warnings import warn_user

_logger = logging.getLogger("sklr")
# A first call that takes longer than this says so, once in a process.
_PATIENCE = 1.0
# What makes less to compile.
_LEAN: dict[str, Any] = {"no_cfunc_wrapper": True, "error_model": "numpy", "_nrt": False}


@contextmanager
def _no_collection() -> Iterator[None]:
    """Stop Python's search for cyclic garbage: what is made here lives to the process's end."""
    # Who finds it stopped lets it be: of several threads, who stops it last would leave it so.
    wanted = gc.isenabled()
    if wanted:
        gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()


def load_numba() -> Any:
    """Import Numba, in two thirds of the time that it takes where garbage is looked for."""
    with _no_collection():
        import numba
    return numba


def njit(function: Callable | None = None, **options: Any) -> Any:
    """Decorate with ``numba.njit``, without the GIL, and cached on disk where that can be.

    Where no folder can be written (a read-only installation without a home), functions are
    compiled in each process, and one warning says how to avoid it; Numba alone would fail.

    Parameters
    ----------
    function : callable or None
        The function; None where there are options: then a decorator is returned.
    **options : dict
        Further options of ``numba.njit``: ``fastmath``, ``error_model``. The latter is "numpy": a
        division by zero gives infinity or NaN, and the test that each division would have else
        is a good part of what there is to compile. So is the counting of references, which is
        left out: a kernel that makes arrays, or calls what does, needs ``_nrt=True``.

    Returns
    -------
    dispatcher : numba's dispatcher, or a decorator
        What compiles the function when it is called.
    """
    if function is None:
        return functools.partial(njit, **options)
    numba = load_numba()
    _start()
    options = {"nogil": True, "pipeline_class": _compiler()} | _LEAN | options
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as exc:
        if "cannot cache" not in str(exc):
            raise
        _warn_of_no_cache()
        return numba.njit(**options)(function)


def inner(**options: Any) -> Any:
    """Decorate what only kernels of the same file call: less is compiled than with `njit`.

    Python cannot call it, and it has no cache of its own: it is in its callers'.

    Parameters
    ----------
    **options : dict
        Options of ``numba.njit``.

    Returns
    -------
    decorator : callable
        Makes a dispatcher of a function.
    """
    numba = load_numba()
    lean = {"no_cpython_wrapper": True, "pipeline_class": _compiler()} | _LEAN
    return numba.njit(**(lean | options))


@functools.cache
def _compiler() -> Any:
    """Return Numba's compiler without two passes: a tenth to a fifth of the time.

    They look for closures and array expressions; kernels that have neither need no such search.
    """
    from numba.core.compiler import CompilerBase, DefaultPassBuilder
    from numba.core.compiler_machinery import PassManager
    from numba.core.typed_passes import NopythonRewrites
    from numba.core.untyped_passes import InlineClosureLikes

    class Compiler(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            lean = PassManager("sklr")
            for step, description in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
                if step not in (InlineClosureLikes, NopythonRewrites):
                    lean.add_pass(step, description)
            lean.finalize()
            return [lean]

    return Compiler


@functools.cache
def _warn_of_no_cache() -> None:
    warn_user(
        "Numba finds no folder that it may write to, so that each process compiles sklr's kernels "
        "again. Name a folder in the environment variable NUMBA_CACHE_DIR before Python starts.",
        RuntimeWarning,
    )


class _Watch:
    """Logs one line when kernels of sklr have been compiling for longer than `_PATIENCE`."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._outermost: Any = None
        self._said = False

    def notify(self, event: Any) -> None:
        """Take an event of Numba's compiler; they lie one inside another."""
        if self._said or not _is_ours(event):
            return
        module = event.data["dispatcher"].py_func.__module__
        if event.is_start and self._timer is None:
            self._outermost = event.data["dispatcher"]
            self._timer = threading.Timer(_PATIENCE, self._say, [module])
            self._timer.daemon = True
            self._timer.start()
        elif event.is_end and self._timer and event.data["dispatcher"] is self._outermost:
            self._timer.cancel()
            self._timer = None

    def _say(self, module: str) -> None:
        self._said = True
        _logger.warning(
            "Compiling kernels of %s for their first call: some seconds, and once if Numba's cache "
            "can be written to. sklr.utils.warm_up() compiles all of them ahead of time.",
            module.rpartition(".")[0],
        )


class _Pause:
    """Stops Python's search for cyclic garbage while kernels of sklr compile.

    The compiler makes millions of objects that live to its end; looking through them again and
    again takes a seventh of its time.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._wanted = False

    def notify(self, event: Any) -> None:
        """Take an event of Numba's compiler; only one thread compiles at a time."""
        if not _is_ours(event):
            return
        if event.is_start:
            if self._depth == 0:
                self._wanted = gc.isenabled()
                if self._wanted:
                    gc.disable()
            self._depth += 1
        elif event.is_end:
            self._depth -= 1
            if self._depth == 0 and self._wanted:
                gc.enable()


def _is_ours(event: Any) -> bool:
    function = getattr(event.data.get("dispatcher"), "py_func", None)
    return (getattr(function, "__module__", None) or "").startswith("sklr.")


@functools.cache
def _start() -> None:
    """Start Numba's compiler and listen to it, once in a process, by one thread at a time."""
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        _start_alone()


@functools.cache
def _start_alone() -> None:
    """Do what `_start` does; the first kernel would start it, with garbage looked for."""
    from numba.core import event
    from numba.core.registry import cpu_target

    with _no_collection():
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()

    class Listener(event.Listener):
        def __init__(self) -> None:
            self.listeners = _Watch(), _Pause()

        def on_start(self, happened: Any) -> None:
            for listener in self.listeners:
                listener.notify(happened)

        def on_end(self, happened: Any) -> None:
            for listener in self.listeners:
                listener.notify(happened)

    event.register("numba:compile", Listener())
