"""signal_relay: a process beside the kernel that passes a gateway's signals on to it. Knows no messages of Jupyter's.

A gateway cannot send signals to another machine: it connects to a port, writes one JSON object and hangs up.
{"signum": n} is a signal (0: is the port still there?), {"shutdown": 1} the end. This is a process of its own because a
kernel whose C code holds the interpreter can be ended by nobody inside of it; it ends when the kernel has.

Nothing in this protocol says who is speaking. So that whoever can reach the port can do little else than what the
protocol is for, signals are few, a message is short and has little time, and one that dawdles holds up no other.
"""

import errno
import json
import logging
import os
import selectors
import signal
import socket
from time import monotonic
from typing import Any

log = logging.getLogger("ipymini.remote.signal_relay")

SIGNALS = frozenset({0, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1})  # USR1: a dump of all stacks
LONGEST = 1024  # bytes of a message
PATIENCE = 5.0  # seconds that a message may take to arrive
CROWD = 32  # connections at a time; one more, and the oldest has to go
COMPLAINTS = 20  # warnings, after which there are no more: strangers must not fill the log
GRACE = 1.0  # seconds that a shutdown_request has to arrive by itself, before SIGTERM stands in for it
LOOK = 1.0  # seconds between two looks at the kernel where the system cannot tell of its end


def start(listener: socket.socket) -> int:
    """Fork the guard of this process, which has no threads yet; return its id. It takes `listener` over."""
    kernel = os.getpid()
    child = os.fork()
    if child:
        listener.close()
        return child
    try:
        os.setsid()  # what is meant for the kernel's group is not for the guard: it goes when the kernel has gone
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Guard(listener, kernel).run()
    except BaseException:
        log.exception("the guard crashed: the kernel gets no more signals from its gateway")
    os._exit(0)


class Guard:
    """Reads what comes on a listening socket, and signals the process `kernel`, which is its parent."""

    def __init__(self, listener: socket.socket, kernel: int):
        self._listener, self._kernel = listener, kernel
        self._selector = selectors.DefaultSelector()
        self._open: dict[socket.socket, tuple[bytes, float]] = {}  # what has come, and until when the rest must
        self._end_at: float | None = None
        self._complaints = 0

    def run(self) -> None:
        """Serve until the kernel has ended."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        ended = self._watch_kernel()
        while os.getppid() == self._kernel:
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is ended:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj in self._open:  # else it had to go meanwhile
                    self._read(key.fileobj)
            self._look_at_the_clock()

    def _watch_kernel(self) -> int | None:
        try:
            ended = os.pidfd_open(self._kernel)
        except (AttributeError, OSError):
            return None
        self._selector.register(ended, selectors.EVENT_READ)
        return ended

    def _patience(self) -> float:
        ends = [until for _, until in self._open.values()] + ([self._end_at] if self._end_at else [])
        return max(0.0, min([LOOK, *(end - monotonic() for end in ends)]))

    def _look_at_the_clock(self) -> None:
        now = monotonic()
        for connection in [one for one, (_, until) in self._open.items() if until <= now]:
            self._complain("it did not come to its end")
            self._hang_up(connection)
        if self._end_at and self._end_at <= now:
            self._end_at = None
            self._signal(signal.SIGTERM)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return  # they hung up meanwhile
        if len(self._open) == CROWD:
            self._complain("too many do not come to their end")
            self._hang_up(next(iter(self._open)))
        connection.setblocking(False)
        self._open[connection] = (b"", monotonic() + PATIENCE)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        """Take what has come; the message is complete when they have hung up."""
        said, until = self._open[connection]
        try:
            more = connection.recv(LONGEST + 1)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        said += more
        if more and len(said) <= LONGEST:
            self._open[connection] = (said, until)
            return
        self._hang_up(connection)
        if more:
            self._complain(f"it has more than {LONGEST} bytes")
        elif said:  # else somebody only wanted to know whether the port is there
            self._obey(said)

    def _hang_up(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._selector.unregister(connection)
        connection.close()

    def _obey(self, said: bytes) -> None:
        try:
            wanted: Any = json.loads(said)
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, dict):
            self._complain("it is no JSON object")
            return
        if wanted.get("shutdown"):
            log.info("the gateway ends the kernel")
            self._end_at = self._end_at or monotonic() + GRACE
        number = wanted.get("signum")
        if number is None:
            if "shutdown" not in wanted:
                self._complain("it has neither signum nor shutdown")
        elif not isinstance(number, int) or number not in SIGNALS:
            self._complain("its signum is none that a gateway needs")
        elif number:
            self._signal(number)

    def _signal(self, number: int) -> None:
        """Signal the kernel; with its group, if it leads one, when that is an interrupt: `!sleep` must end too."""
        if os.getppid() != self._kernel:
            return
        log.info("the gateway sends signal %d", number)
        if number == signal.SIGINT and os.getpgid(self._kernel) == self._kernel:
            os.killpg(self._kernel, number)
        else:
            os.kill(self._kernel, number)

    def _complain(self, why: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            more = "; no more of these are reported" if self._complaints == COMPLAINTS else ""
            log.warning("dropped a message to the gateway's port: %s%s", why, more)
