"""waits: blocking waits of a child lane that an interrupt can end. The main thread has signals and needs none of this.

PyThreadState_SetAsyncExc strikes a thread when it next runs bytecode; a thread in `time.sleep(60)` or waiting for
a Condition (Event, Queue, Semaphore, Future.result) does not for as long as that takes. On child lanes the sleep
becomes a wait for the lane's own lock, and a Condition's wait is cut into slices. A bare `Lock.acquire()` stays
deaf: CPython retries it below the bytecode.
"""

import threading
import time
from collections.abc import Callable
from time import monotonic

SLICE = 0.05  # seconds within which a waiting child lane notices an interrupt


class Waker:
    """Ends a sleep from another thread. A bare lock, held except from a wake to the end of the sleep it meets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """End the sleep that goes on, or else the next one. For one thread at a time."""
        if self._lock.locked():
            self._lock.release()

    def clear(self) -> None:
        """Forget a wake that met no sleep. On the sleeper's thread."""
        self._lock.acquire(blocking=False)

    def sleep(self, seconds: float) -> None:
        """Sleep until woken, or for so many seconds."""
        self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


_wakers: dict[int, Waker] = {}  # by thread ident, of child lanes only; changed by the lane's own thread


def enroll(waker: Waker) -> Callable[[], None]:
    """Make waits of the calling thread interruptible; return the undo."""
    ident = threading.get_ident()
    _wakers[ident] = waker

    def leave() -> None:
        _wakers.pop(ident, None)

    return leave


def install() -> Callable[[], None]:
    """Replace `time.sleep` and `threading.Condition.wait` for the whole process; return the undo.

    On threads that are no child lanes both do what they did, at the price of one look into a dict.
    """
    real_sleep, real_wait = time.sleep, threading.Condition.wait

    def sleep(seconds: float, /) -> None:
        waker = _wakers.get(threading.get_ident())
        if waker is None or not isinstance(seconds, int | float) or not seconds > 0:
            real_sleep(seconds)
            return
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            waker.sleep(left)  # woken: the KeyboardInterrupt strikes right here; if it has struck before, sleep on

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

    time.sleep = sleep  # type: ignore[assignment]
    threading.Condition.wait = wait  # type: ignore[method-assign]

    def undo() -> None:
        time.sleep = real_sleep
        threading.Condition.wait = real_wait  # type: ignore[method-assign]

    return undo
