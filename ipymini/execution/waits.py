"""waits: blocking waits of a child lane that an interrupt can end. The main thread has signals and needs none of this.

PyThreadState_SetAsyncExc strikes a thread when it next runs bytecode; a thread in `time.sleep(60)` or waiting for
a Condition (Event, Queue, Semaphore, Future.result) does not for as long as that takes. On child lanes the sleep
becomes a wait for the lane's own lock, and a wait for a Condition or a child process is cut into slices. A bare
`Lock.acquire()` stays deaf: CPython retries it below the bytecode.

What a waiting Condition is notified by is a lock that it makes for that wait, with `threading._allocate_lock`; that
lock's wait is cut. To wait for the Condition itself again and again would lose what it is told between two slices.
"""

import signal
import subprocess
import threading
import time
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from functools import wraps
from typing import Any

from ipymini.execution.stacks import transparent
from ipymini.protocol.originals import __builtins__, os, select  # noqa: F401
from ipymini.protocol.originals import time as clock

ENDED_BY_SIGINT = (-signal.SIGINT, 128 + signal.SIGINT)  # the latter is what a shell says of its child
SAME_SIGNAL = 0.25  # seconds within which the SIGINT that ended a child reaches the lane that waited for it
SLICE = 0.05  # seconds within which a waiting child lane notices an interrupt


class Waker:
    """Ends a sleep from another thread. A bare lock, held except from a wake to the end of the sleep it meets."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def wake(self) -> None:
        """End the sleep that goes on, or else the next one. For one thread at a time."""
        if self._lock.locked():
            self._lock.release()

    def clear(self) -> None:
        """Forget a wake that met no sleep. On the sleeper's thread."""
        self._lock.acquire(blocking=False)

    @transparent
    def sleep(self, seconds: float) -> None:
        """Sleep until woken, or for so many seconds."""
        self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


class SlicedLock:
    """A lock that is waited for in slices: what one wait of a child lane for a Condition ends by.

    A whole lock, because a child that a lane forks makes itself another one in the same way.
    """

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self.release, self.locked = self._lock.release, self._lock.locked

    @transparent
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; False: not in time."""
        if not blocking:
            return self._lock.acquire(False)
        end = None if timeout < 0 else clock.monotonic() + timeout
        while True:
            left = SLICE if end is None else min(SLICE, max(end - clock.monotonic(), 0))
            if self._lock.acquire(True, left):
                return True
            if end is not None and clock.monotonic() >= end:
                return False

    @transparent
    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *raised: object) -> None:
        self.release()


_wakers: dict[int, Waker] = {}  # by thread ident, of child lanes only; changed by the lane's own thread


def enroll(waker: Waker) -> Callable[[], None]:
    """Make waits of the calling thread interruptible; return the undo."""
    ident = get_ident()
    _wakers[ident] = waker

    def leave() -> None:
        _wakers.pop(ident, None)

    return leave


@transparent
def _wait_in_slices(pid: int, timeout: float | None) -> None:
    """Wait until a child process has ended or the time is up. Where there is no pidfd, return at once."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return  # not Linux, or it has ended
    try:
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        end = None if timeout is None else clock.monotonic() + timeout
        while not ended.poll((SLICE if end is None else min(SLICE, max(end - clock.monotonic(), 0))) * 1000):
            if end is not None and clock.monotonic() >= end:
                return
    finally:
        os.close(descriptor)


def install() -> Callable[[], None]:
    """Replace `time.sleep`, `Popen.wait` and a Condition's locks for the whole process; return the undo.

    On threads that are no child lanes they do what they did, at the price of one look into a dict.
    """
    real_sleep, real_wait_for_child, real_lock = time.sleep, subprocess.Popen.wait, threading._allocate_lock  # type: ignore[attr-defined]

    @transparent
    @wraps(real_sleep)  # it pickles by this name: `pool.map(time.sleep, seconds)`
    def sleep(seconds: float, /) -> None:
        waker = _wakers.get(get_ident())
        if waker is None or not isinstance(seconds, int | float) or not seconds > 0:
            real_sleep(seconds)
            return
        end = clock.monotonic() + seconds
        while (left := end - clock.monotonic()) > 0:
            waker.sleep(left)  # woken: the KeyboardInterrupt strikes right here; if it has struck before, sleep on

    def lock() -> Any:
        return SlicedLock() if get_ident() in _wakers else real_lock()

    @transparent
    def wait_for_child(self: "subprocess.Popen[Any]", timeout: float | None = None) -> int:
        waker = _wakers.get(get_ident())
        if waker is None or self.returncode is not None:
            return real_wait_for_child(self, timeout)
        began = clock.monotonic()
        _wait_in_slices(self.pid, timeout)
        left = None if timeout is None else max(timeout - (clock.monotonic() - began), 0)
        try:
            code = real_wait_for_child(self, left)
        except subprocess.TimeoutExpired as error:
            error.timeout = timeout or 0.0  # the caller's, not what was left of it
            raise
        if code in ENDED_BY_SIGINT:
            waker.sleep(SAME_SIGNAL)  # the cell would go on, and perhaps end, as if nobody had interrupted it
        return code

    time.sleep = sleep  # type: ignore[assignment]
    subprocess.Popen.wait = wait_for_child  # type: ignore[method-assign]
    threading._allocate_lock = lock  # type: ignore[attr-defined]

    def undo() -> None:
        time.sleep = real_sleep
        subprocess.Popen.wait = real_wait_for_child  # type: ignore[method-assign]
        threading._allocate_lock = real_lock  # type: ignore[attr-defined]

    return undo
