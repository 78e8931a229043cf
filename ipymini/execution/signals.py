"""signals: SIGINT, SIGTERM and SIGHUP: handled soon, and by the kernel's process alone. What they mean others know."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from ipymini.protocol.originals import __builtins__, os, signal, threading  # noqa: F401

ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal or the connection that started us has gone
Handler = Callable[[int, FrameType | None], None]


def handle(on_sigint: Handler, on_sigterm: Handler | None) -> Callable[[], None]:
    """Take SIGINT, and SIGTERM and SIGHUP unless None, for the kernel; return the undo. On the main thread.

    SIGHUP stays ignored where it is: `nohup` was asked to keep the kernel.
    Forked children get Python's own handlers back.
    """
    process = os.getpid()
    kernels: dict[int, Any] = {signal.SIGINT: on_sigint}
    pythons: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if on_sigterm is not None:
        for number in ENDINGS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                kernels[number], pythons[number] = on_sigterm, signal.SIG_DFL

    def ours(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            # Not `frame`: matplotlib hands on a signal that it has kept back, with the frame of then, which has ended.
            kernels[number](number, sys._getframe(1))
        else:  # a child so young that `in_child` has not run: the signal is for it all the same
            signal.signal(number, pythons[number])
            os.kill(os.getpid(), number)

    # Or `Pool.terminate` would wait for ever for children that take SIGTERM for the kernel's. It is blocked meanwhile:
    # Python has a new child forget what came before its hooks, and anybody what came before SIG_DFL was set.
    masks = threading.local()

    def before() -> None:
        if endings := kernels.keys() - {signal.SIGINT}:
            masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, endings)

    def in_parent() -> None:
        if (kept := masks.__dict__.pop("kept", None)) is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, kept)

    def in_child() -> None:
        for number, handler in pythons.items():
            if signal.getsignal(number) is ours:
                signal.signal(number, handler)
        in_parent()

    before_us = {number: signal.signal(number, ours) for number in kernels}
    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)

    def undo() -> None:
        for number, handler in before_us.items():
            if signal.getsignal(number) is ours and handler is not None:  # None: it was no handler of Python's
                signal.signal(number, handler)
        kernels.clear()  # Python never forgets the hooks of a fork, and they know us

    return undo


def on_unraisable(on_swallowed: Callable[[], bool]) -> Callable[[], None]:
    """Call `on_swallowed()` for each KeyboardInterrupt that nobody could catch; return the undo.

    Destructors, callbacks of weak references and of C libraries have nobody to raise it to: Python reports it to
    `sys.unraisablehook` and goes on. `on_swallowed` is called on that thread; False: report it as ever.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not (issubclass(unraisable.exc_type, KeyboardInterrupt) and on_swallowed()):
            before(unraisable)

    def undo() -> None:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before

    sys.unraisablehook = hook
    return undo


RESEND = 0.01  # seconds until a signal that is not handled is sent again; doubled each time
SLOWEST = 1.0  # seconds


class Second:
    """A second signal of the main thread's, beside SIGINT: `handler(frame)` is called. SIGURG, unless it is taken.

    Python handles signals in the order of their numbers: once this one is handled, SIGINT is, too.
    """

    def __init__(self, handler: Callable[[FrameType | None], None], later: Callable[[float, Callable[[], None]], None]):
        """On the main thread. `later(seconds, function)`: call it on some other thread."""
        self._handler, self._later, self._is_handled = handler, later, True
        others = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
        free = (number for number in (signal.SIGURG, *others) if signal.getsignal(number) is signal.SIG_DFL)
        self.number = next(free, signal.SIGURG)
        self._ident = threading.get_ident()  # not the ident of `threading.main_thread()`: gevent has a greenlet's there
        self._before = signal.signal(self.number, self._handle)
        os.register_at_fork(after_in_child=self.undo)

    def send(self, patience: float = RESEND) -> None:
        """Send it, until it is handled: the main thread ends its system call, and handles it before its next bytecode.

        Any thread. Again in `patience` seconds: one that comes just before the system call begins does not end it.
        """
        self._is_handled = False
        signal.pthread_kill(self._ident, self.number)
        self._later(patience, lambda: None if self._is_handled else self.send(min(2 * patience, SLOWEST)))

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._is_handled = True
        self._handler(sys._getframe(1))

    def undo(self) -> None:
        """Give the signal back. On the main thread, when nobody sends it any more."""
        self._is_handled = True
        signal.signal(self.number, self._before)
        self._handler, self._later = lambda frame: None, lambda seconds, function: None  # the hook of a fork knows us


def handle_soon(
    watch: Callable[[int, Callable[[], None]], None], send_second: Callable[[], None]
) -> Callable[[], None]:
    """See to it that the main thread handles each SIGINT soon; return the undo. On the main thread.

    `watch` calls a function when a descriptor is readable, on another thread.

    The system gives a SIGINT to another thread while the main one has signals blocked, as it has for a moment when
    it starts a process. Python's handler then waits for the main thread, and that for the process: a signal of the
    main thread's own ends its wait.
    """
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)

    def came() -> None:
        if signal.SIGINT in os.read(ends[0], 4096):
            send_second()

    def undo() -> None:
        signal.set_wakeup_fd(-1)

    watch(ends[0], came)
    os.register_at_fork(after_in_child=undo)
    return undo
