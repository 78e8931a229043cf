"""waits: blocking waits of a child lane that an interrupt can end. The main thread has signals and needs none of this.

PyThreadState_SetAsyncExc strikes a thread when it next runs bytecode; a thread in `time.sleep(60)` or waiting for
a Condition (Event, Queue, Semaphore, Future.result) does not for as long as that takes. On child lanes the sleep
becomes a wait on the lane's own event, and a Condition's wait is cut into slices. A bare `Lock.acquire()` stays
deaf: CPython retries it below the bytecode.
"""

import threading
import time
from collections.abc import Callable
from time import monotonic

SLICE = 0.05  # seconds within which a waiting child lane notices an interrupt

_wakers: dict[int, threading.Event] = {}  # by thread ident, of child lanes only; changed by the lane's own thread


def enroll(wake: threading.Event) -> Callable[[], None]:
    """Make waits of the calling thread interruptible; `wake.set()` ends a sleep. Return the undo."""
    ident = threading.get_ident()
    _wakers[ident] = wake

    def leave() -> None:
        _wakers.pop(ident, None)

    return leave


def install() -> Callable[[], None]:
    """Replace `time.sleep` and `threading.Condition.wait` for the whole process; return the undo.

    On threads that are no child lanes both do what they did, at the price of one look into a dict.
    """
    real_sleep, real_wait = time.sleep, threading.Condition.wait

    def sleep(seconds: float, /) -> None:
        wake = _wakers.get(threading.get_ident())
        if wake is None or not isinstance(seconds, int | float) or seconds < 0:
            real_sleep(seconds)
            return
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            real_wait_for(wake, left)

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if threading.get_ident() not in _wakers:
            return real_wait(self, timeout)
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = SLICE if end is None else min(SLICE, end - monotonic())
            if real_wait(self, max(left, 0)):
                return True
            if end is not None and monotonic() >= end:
                return False

    def real_wait_for(wake: threading.Event, seconds: float) -> None:
        if wake.is_set():
            wake.clear()  # of an interrupt that has struck already, or strikes as this returns
            return
        with wake._cond:  # type: ignore[attr-defined]
            real_wait(wake._cond, seconds)  # type: ignore[attr-defined]

    time.sleep = sleep  # type: ignore[assignment]
    threading.Condition.wait = wait  # type: ignore[method-assign]

    def undo() -> None:
        time.sleep = real_sleep
        threading.Condition.wait = real_wait  # type: ignore[method-assign]

    return undo
