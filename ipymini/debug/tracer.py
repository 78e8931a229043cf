"""tracer: connects pydevd in this process and disconnects it; stops threads, and lets them run. Speaks no DAP.

pydevd traces with `sys.settrace`, so it runs inside the user's threads: a thread stopped at a
breakpoint waits in `PyDB.do_wait_suspend`, below a trace function. An exception that leaves a trace function ends
the tracing of its thread (that is Python's rule), and one that leaves pydevd's wait loop leaves pydevd's state
inconsistent. So an interrupt only marks the stop and lets the thread run. When the thread has left the wait loop,
our wrapper around `do_wait_suspend` raises the KeyboardInterrupt, at the line where it stood. The next cell on that
thread switches its tracing on again (`enter_cell`).

Shared fields of Tracer: `stops` (a thread adds and removes its own entry; others read), `_struck` (a set; atomic
adds and discards).
"""

import atexit
import dis
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from ipymini.debug.breakpoint import settle_pydevd
from ipymini.debug.pydevd_workarounds import (
    CMD_SET_BREAK,
    CMD_THREAD_SUSPEND,
    STATE_RUN,
    TimeWithoutSleep,
    dap_id,
    forget_all_threads,
    go_on,
    hide_service_threads,
    is_kernels,
    log_instead_of_printing,
    run_freely,
    untrace_all_frames,
    untrace_all_threads,
)
from ipymini.execution import context
from ipymini.execution.stacks import Called
from ipymini.protocol.messages import IpyminiError, Request

log = logging.getLogger("ipymini.debug.tracer")

PYDEVD = ("ipymini.debug.tracer", "pydevd", "_pydev")  # modules whose frames run nothing of the user's
LEAVING = 0.2  # seconds that one of pydevd's threads may take to end
WAITS = ("threading", "ipymini.execution.waits")  # modules that both sides wait in


_importing = threading.Lock()


def import_debugpy() -> None:
    """Import debugpy and pydevd, once. On a thread that Python made: on others pydevd's import spins."""
    with _importing:
        settle_pydevd()
        hook = sys.breakpointhook
        import debugpy.server  # noqa: F401  # brings pydevd along

        log_instead_of_printing()
        sys.breakpointhook = hook  # debugpy puts its own there, which does nothing without a client


class DebuggerBusy(IpyminiError):
    """The process is being debugged already, by somebody else."""


class Stop:
    """One thread that stands still, and the request that brought it there."""

    __slots__ = ("cause", "interrupted", "thread")

    def __init__(self, thread: threading.Thread, cause: Request | None):
        self.thread = thread
        self.cause = cause
        self.interrupted = False


class Tracer:
    """pydevd, while it is connected. See the module for the theory."""

    def __init__(self) -> None:
        self.stops: dict[int, Stop] = {}  # thread ident -> where it stands
        self.causes: dict[int, Request | None] = {}  # DAP thread id -> the request that brought it to its last stop
        self.stop_where_a_cell_fails = False  # of all exceptions that leave user code: stop only for these
        self._struck: set[int] = set()  # threads that get their KeyboardInterrupt at their next line
        self._db: Any = None  # pydevd's PyDB
        self._listen_was_called = False
        self._forks_watched = False

    # ---- connecting ----------------------------------------------------------

    def connect(self, port: int) -> None:
        """Import debugpy and connect it to `port`. Blocks until configurationDone: give it a thread of its own.

        Raises DebuggerBusy, and whatever debugpy raises.
        """
        hide_service_threads()
        import_debugpy()
        import debugpy
        import pydevd
        from debugpy.server import api

        self._make_room()
        children, clock = api._config["subProcess"], pydevd.time
        debugpy.configure(subProcess=False)  # a child would look for an adapter that takes more connections
        pydevd.time = TimeWithoutSleep()
        try:
            debugpy.connect(("127.0.0.1", port))
        finally:
            pydevd.time = clock
            debugpy.configure(subProcess=children)
        if sys.version_info >= (3, 12) and self._db is not None:
            # pydevd's helper for threads that run already has no version for 3.12 and later.
            threading.settrace_all_threads(self._db.trace_dispatch)

    def _make_room(self) -> None:
        from _pydevd_bundle.pydevd_constants import get_global_debugger, set_global_debugger

        if (other := get_global_debugger()) is None:
            return
        if other.reader is not None or other._waiting_for_connection_thread is not None:
            raise DebuggerBusy(
                "this process is debugged already (debugpy.listen or connect in a cell?): end that first"
            )
        # debug_this_thread() without a session (VS Code does that first) leaves one that never got a connection.
        set_global_debugger(None)

    def adopt(self, peer: tuple[str, int]) -> None:
        """Take over the PyDB that has connected from `peer`: our wrapper, TCP_NODELAY. Raises DebuggerBusy."""
        from _pydevd_bundle.pydevd_constants import get_global_debugger
        from debugpy.server import api
        from pydevd_tracing import restore_sys_set_trace_func

        db = get_global_debugger()
        if db is None or db.writer is None or db.writer.sock.getsockname() != peer:
            raise DebuggerBusy(f"expected our own debugpy to connect, {peer} came")
        restore_sys_set_trace_func()  # pydevd's own warns pdb's users; they lose tracing until the next cell, no more
        db.writer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        original = db.do_wait_suspend
        db.do_wait_suspend = lambda *args, **kwargs: self._wait(original, *args, **kwargs)
        self._listen_was_called, api.listen.called = api.listen.called, True  # it would wait for us; so it says no
        if not self._forks_watched:
            self._forks_watched = True
            os.register_at_fork(after_in_child=self._forget_after_fork)
        self._db = db

    def finish_connecting(self) -> None:
        """End `connect`, as configurationDone would: its thread polls until then."""
        if self._db is not None:
            self._db.ready_to_run = True

    @property
    def is_connected(self) -> bool:
        """Whether there is a pydevd that is ours."""
        return self._db is not None and not self._db.pydb_disposed

    def disconnect(self) -> Callable[[], None]:
        """Take pydevd out of every thread: afterwards no code runs slower than before.

        Return what ends pydevd's own threads; it waits for them if they hang: give it a thread of its own.
        """
        if (db := self._db) is None:
            return lambda: None
        import pydevd
        from _pydev_bundle.pydev_monkey import undo_patch_thread_modules
        from _pydevd_bundle.pydevd_constants import get_global_debugger, set_global_debugger
        from debugpy.server import api

        api.listen.called = self._listen_was_called
        for stop in list(self.stops.values()):
            run_freely(stop.thread)
        self.nudge()
        self._db = None
        untrace_all_frames(db)
        undo_patch_thread_modules()
        untrace_all_threads()
        if get_global_debugger() is db:
            set_global_debugger(None)
        pydevd.SetupHolder.setup = None
        self.causes.clear()
        self._struck.clear()

        def dispose() -> None:
            # Apart from its half second of waiting, all this is what pydevd.stoptrace() does.
            atexit.unregister(pydevd.stoptrace)  # each session registers it anew
            threads = list(db.created_pydb_daemon_threads)
            db.dispose_and_kill_all_pydevd_threads(wait=False)
            db.created_pydb_daemon_threads = {}  # reader and writer would wait for each other, for half a second
            for thread in threads:
                thread.join(LEAVING)
            forget_all_threads()

        return dispose

    def _forget_after_fork(self) -> None:
        """In a forked child nobody listens: a breakpoint there would wait for ever."""
        if self._db is not None:
            from _pydevd_bundle.pydevd_constants import set_global_debugger

            self._db = None
            set_global_debugger(None)
            untrace_all_threads()

    def variable_of(self, reference: Any) -> Any:
        """Return pydevd's variable for what debugpy has shown of a stopped thread; None for a scope."""
        if (db := self._db) is None:
            return None
        from _pydevd_bundle._debug_adapter.pydevd_base_schema import BaseSchema

        try:
            return db.suspended_frames_manager.get_variable(BaseSchema._translate_id_from_dap(reference))
        except KeyError:
            return None  # the thread runs on, or it is a scope

    # ---- stopping and letting go ---------------------------------------------

    def _wait(
        self,
        original: Callable[..., None],
        thread: Any,  # a Thread with pydevd's own attributes
        frame: FrameType,
        event: str,
        arg: Any,
        exception_type: Any = None,
    ) -> None:
        """Stand in for PyDB.do_wait_suspend. On the thread that stops."""
        if event == "call" and frame.f_lineno == 0:
            return  # a cell begins: stop at its first line
        if is_kernels(frame):
            if thread.stop_reason != CMD_THREAD_SUSPEND:  # a pause waits for the user's next line
                go_on(thread)
            return
        ident = threading.get_ident()
        if exception_type == "USER_UNHANDLED" and not self._is_worth_a_stop(frame):
            go_on(thread)
            return
        outer = self.stops.get(ident)  # after "set next statement" it calls itself
        stop = outer or Stop(thread, context.own())
        self.causes[dap_id(thread)] = stop.cause
        self.stops[ident] = stop
        try:
            if ident in self._struck:
                run_freely(thread)
                stop.interrupted = True
            else:
                original(thread, frame, event, arg, exception_type)
        finally:
            if outer is None:
                del self.stops[ident]
        if stop.interrupted and outer is None:
            if event == "exception":
                # pydevd swallows what is raised here, so raise it at the next line of this thread.
                self._struck.add(ident)
                from _pydevd_bundle.pydevd_thread_lifecycle import mark_thread_suspended

                mark_thread_suspended(thread, CMD_THREAD_SUSPEND, main_suspend=False)
            else:
                self._struck.discard(ident)
                raise KeyboardInterrupt

    def _is_worth_a_stop(self, frame: FrameType) -> bool:
        """Whether an exception leaves user code, as debugpy says; and the cell, if only those should stop."""
        # debugpy also reports an exception that a `with` block swallows.
        returns = dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(("RETURN", "YIELD"))
        return not returns and (not self.stop_where_a_cell_fails or _leaves_a_cell(frame))

    def holds(self, ident: int, stack: Iterable[Called] = ()) -> bool:
        """Mark the stop of a thread as interrupted; return False if it is not stopped, or runs an evaluation.

        The caller then calls `release` from another thread. Takes no lock: safe in a signal handler.
        """
        stop = self.stops.get(ident)
        if stop is None:
            return False
        stop.interrupted = True
        for _, names in stack:
            module = str(names.get("__name__"))
            if not module.startswith(WAITS):
                return module.startswith(PYDEVD)
        return True

    def release(self, ident: int) -> None:
        """Let a stopped thread run. Not in a signal handler."""
        if (stop := self.stops.get(ident)) is not None and self._db is not None:
            run_freely(stop.thread)
            self.nudge()

    def nudge(self) -> None:
        """Wake every stopped thread, so that it sees what changed; by itself it looks every 200 ms. Takes no lock."""
        if (db := self._db) is None:
            return
        from _pydevd_bundle.pydevd_constants import get_thread_id

        for stop in list(self.stops.values()):
            db.get_internal_queue_and_event(get_thread_id(stop.thread))[1].set()

    def take_strike(self) -> bool:
        """Take back the KeyboardInterrupt that this thread would get at its next line; return whether there is one."""
        if threading.get_ident() not in self._struck:
            return False
        self._struck.discard(threading.get_ident())
        run_freely(threading.current_thread())
        return True

    def enter_cell(self) -> None:
        """Put this thread in order before it runs a cell: tracing on, and no step left over from the cell before."""
        if not self.is_connected:
            return
        thread = threading.current_thread()
        info = getattr(thread, "additional_info", None)
        if info is not None:
            struck = self.take_strike()
            if not struck and info.pydev_step_cmd != -1 and info.pydev_state == STATE_RUN:  # a step, and no pause
                run_freely(thread)
        if sys.gettrace() is None:
            self._db.enable_tracing()

    def stop_here(self, frame: FrameType) -> None:
        """Stop this thread at `frame`, as a breakpoint on its current line would."""
        if not self.is_connected:
            return
        from _pydevd_bundle.pydevd_additional_thread_info import set_additional_thread_info

        thread = threading.current_thread()
        set_additional_thread_info(thread)
        self._db.set_suspend(thread, CMD_SET_BREAK)
        self._db.do_wait_suspend(thread, frame, "line", None)
        if sys.gettrace() is None:
            self._db.enable_tracing()


def _leaves_a_cell(frame: FrameType) -> bool:
    """Whether the caller of a frame is what runs cells."""
    back = frame.f_back
    return back is not None and back.f_code.co_name == "run_code"
