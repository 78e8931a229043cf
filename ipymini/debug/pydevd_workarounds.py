"""pydevd_workarounds: what pydevd does to a process, and how we undo or hide it. Keeps no state, knows no requests."""

import ctypes
import gc
import logging
import os
import sys
import sysconfig
import threading
import time
from functools import cache
from types import FrameType
from typing import Any

from ipymini.execution.stacks import stack_of

log = logging.getLogger("ipymini.pydevd")

# pydevd's numbers, as in pydevd_constants and pydevd_comm_constants.
STATE_RUN = 1
CMD_THREAD_SUSPEND = 105  # a pause
CMD_SET_BREAK = 111


def forget_dead_threads() -> None:
    """Remove from `threading`'s table what pydevd has put there for threads that were ending when it connected.

    Does nothing while somebody holds the table's lock: it may be a thread that is stopped.
    """
    lock, active = threading._active_limbo_lock, threading._active  # type: ignore[attr-defined]
    if lock.acquire(blocking=False):
        try:
            for ident, thread in list(active.items()):
                if type(thread) is threading._DummyThread and not stack_of(ident):
                    del active[ident]
        finally:
            lock.release()


def forget_all_threads() -> None:
    """Have pydevd forget all threads after a session: it would keep them alive, and what they refer to."""
    from _pydevd_bundle import pydevd_constants

    pydevd_constants._thread_id_to_thread_found.clear()


def is_kernels(frame: FrameType | None) -> bool:
    """Whether a line belongs to the kernel's own work, or to a library at work for it: no user code called it."""
    while frame is not None:
        if module_of(frame).partition(".")[0] in ("ipymini", "IPython", "traitlets"):
            return True
        if not frame.f_code.co_filename.startswith(("<frozen", *_libraries())):
            return False
        frame = frame.f_back
    return False


@cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def hide_service_threads() -> None:
    """Hide what still shows of the kernel's own threads; the others are hidden where they are made.

    pyzmq starts one of its own when it first sends something large: it frees what has been sent without copying.
    Runs on the control lane: calls no user code (a class of threads may have a `name` of its own), and takes no lock.
    """
    for thread in list(threading._active.values()):  # type: ignore[attr-defined]
        name, module = threading.Thread.name.fget(thread), type(thread).__module__  # type: ignore[attr-defined]
        ours = name.startswith("ipymini-") and "-subshell-" not in name
        if ours or name == "IPythonHistorySavingThread" or module == "zmq.utils.garbage":
            hide(thread)


def hide(thread: threading.Thread) -> threading.Thread:
    """Hide a thread from pydevd, which then neither lists nor traces nor stops it; return the thread."""
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
    return thread


class TimeWithoutSleep:
    """The time module for one thread that connects pydevd: it would sleep 0.1 s, for two threads to start."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() != self._thread:
            time.sleep(seconds)


class _LogStream:
    """Where pydevd's own messages go: it would write them to sys.stderr, into the output of some cell."""

    def write(self, text: str) -> None:
        if text.strip():
            log.info("pydevd: %s", text.strip())

    def flush(self) -> None:
        pass  # the log does that


def log_instead_of_printing() -> None:
    from _pydev_bundle import pydev_log

    if not os.environ.get("PYDEVD_DEBUG_FILE"):
        pydev_log._LoggingGlobals._debug_stream = _LogStream()
        pydev_log._LoggingGlobals._debug_stream_initialized = True


def run_freely(thread: threading.Thread) -> None:
    """Let a thread run: it neither stops nor steps any more."""
    from _pydevd_bundle.pydevd_additional_thread_info import set_additional_thread_info
    from _pydevd_bundle.pydevd_thread_lifecycle import internal_run_thread

    internal_run_thread(thread, set_additional_thread_info)


def go_on(thread: Any) -> None:
    """Let a thread run that should have stopped here; a step that it was making goes on."""
    info = thread.additional_info
    if info.pydev_original_step_cmd == -1:
        run_freely(thread)
    else:
        info.pydev_state = STATE_RUN
        info.update_stepping_info()


def dap_id(thread: threading.Thread) -> int:
    from _pydevd_bundle._debug_adapter.pydevd_base_schema import BaseSchema
    from _pydevd_bundle.pydevd_constants import get_thread_id

    return int(BaseSchema._translate_id_to_dap(get_thread_id(thread)))


def untrace_all_frames(db: Any) -> None:
    """Take the tracing off what runs now, in all threads. No garbage is collected meanwhile: see `stacks.stack_of`."""
    collects = gc.isenabled()
    gc.disable()
    try:
        for ident, frame in list(sys._current_frames().items()):
            db.set_trace_for_frame_and_parents(ident, frame, disable=True)
    finally:
        if collects:
            gc.enable()


def untrace_all_threads() -> None:
    threading.settrace(None)
    if sys.version_info >= (3, 12):
        threading.settrace_all_threads(None)
        return
    # pydevd sets its trace function into other threads with a C library that has no way back.
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = api.PyInterpreterState_ThreadHead.restype = api.PyThreadState_Next.restype = (
        ctypes.c_void_p
    )
    state = api.PyInterpreterState_ThreadHead(ctypes.c_void_p(api.PyInterpreterState_Get()))
    while state:
        api._PyEval_SetTrace(ctypes.c_void_p(state), None, None)
        state = api.PyThreadState_Next(ctypes.c_void_p(state))
