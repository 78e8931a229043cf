"""workers: functions on threads of their own, so that none waits for another; interrupts end them. Knows no requests.

Theory. What is asked beside a busy lane may be user code that never comes back, on a thread that gets no signals, in
a wait that no exception ends. So nobody depends on that thread: an interrupt ends the wait *for* it in any case, once
what is merely at work has had the time to end (it was a cell that was meant). Then it strikes the thread, too, by the
same rules as a lane's, as soon as user code runs there: a loop does not go on for ever. What waits for a lock, or
sleeps, is struck when that ends.
"""

import contextvars
from asyncio import wrap_future
from collections.abc import Callable
from typing import Any, TypeVar

from ipymini.execution.stacks import let_it_strike, place_of, raise_at, stack_of, verdict
from ipymini.protocol.originals import Future, __builtins__, threading  # noqa: F401

MOST = 30  # threads at a time: what is asked beyond them is as if it had been interrupted
PATIENCE = 0.1  # seconds between an interrupt and the end of what it meets
RETRY = 0.05  # seconds until a thread that an interrupt has met outside of user code is looked at again
RETRIES = 100  # then it is left alone, until the next interrupt

Value = TypeVar("Value")


class Workers:
    """Shared fields: `_running` (adding is atomic; the rest under `_gate`)."""

    def __init__(self, name: str, later: Callable[[float, Callable[[], None]], None]):
        """`name`: of the threads. `later(seconds, function)`: call it on some other thread."""
        self._name, self._later = name, later
        self._gate = threading.Lock()
        self._running: dict[threading.Thread, Future[Any]] = {}  # what an interrupt ends

    @property
    def is_running(self) -> bool:
        """Whether something runs that an interrupt would end."""
        return any(not outcome.done() for outcome in list(self._running.values()))

    def start(self, function: Callable[[], object]) -> None:
        """Call a function on a new thread; no interrupt ends it."""
        self._thread(function).start()

    def _thread(self, function: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=function, name=self._name, daemon=True)
        # As a lane that runs no cells: the debugger neither shows nor stops it.
        thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        return thread

    async def run(self, function: Callable[[], Value]) -> Value:
        """Return what a function returns on a new thread, in a copy of this context.

        Raises what it raises, or KeyboardInterrupt once interrupted: then nobody knows when it ends.
        """
        if len(self._running) >= MOST:
            raise KeyboardInterrupt
        outcome: Future[tuple[Any, BaseException | None]] = Future()
        of_caller = contextvars.copy_context()
        thread = self._thread(lambda: self._work(thread, outcome, lambda: of_caller.run(function)))
        self._running[thread] = outcome
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            del self._running[thread]
            raise
        value, error = await wrap_future(outcome)
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    def _work(self, thread: threading.Thread, outcome: "Future[Any]", function: Callable[[], object]) -> None:
        value, error = None, None
        try:
            value = function()
        except BaseException as raised:
            error = raised
        # Nothing is called before the `try`: an exception that has been set strikes at calls, and behind them.
        while thread in self._running:
            try:
                with self._gate:
                    del self._running[thread]
                let_it_strike()
            except KeyboardInterrupt:
                pass  # it came too late
        if not outcome.done():  # else: interrupted
            outcome.set_result((value, error))

    def interrupt(self) -> None:
        """End all that runs, soon. Any thread, but in no signal handler."""
        if running := list(self._running.items()):
            self._later(PATIENCE, lambda: self._end(running))

    def _end(self, running: list[tuple[threading.Thread, "Future[Any]"]]) -> None:
        with self._gate:
            running = [(thread, outcome) for thread, outcome in running if thread in self._running]
            for _, outcome in running:
                if not outcome.done():
                    outcome.set_result((None, KeyboardInterrupt()))
        for thread, _ in running:
            self._strike(thread)

    def _strike(self, thread: threading.Thread, retries: int = RETRIES) -> None:
        with self._gate:
            if thread not in self._running:
                return
            place = place_of(thread.ident or 0)
            if verdict(stack_of(thread.ident or 0)) == "user" and raise_at(thread.ident or 0, place, KeyboardInterrupt):
                return
        if retries:
            self._later(RETRY, lambda: self._strike(thread, retries - 1))
