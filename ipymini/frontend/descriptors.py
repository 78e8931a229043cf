"""descriptors: capture of the file descriptors 1 and 2. Does not decide how texts are joined, knows no `sys.stdout`.

They become pipes that the I/O thread reads. What arrives there (C code, subprocesses, forked children) belongs to the
main lane's running or last request. The reader is never joined: a child that outlives the kernel may hold the pipe for
ever.
"""

import codecs
import os
import subprocess
from collections.abc import Callable
from functools import wraps
from typing import Any

from ipymini.execution import context
from ipymini.execution.channels import Channels
from ipymini.execution.stacks import safe_point
from ipymini.protocol import originals
from ipymini.protocol.originals import __builtins__, threading  # noqa: F401
from ipymini.protocol.stream_text import Captured

PIPE_SIZES = (16 << 20, 1 << 20)  # bytes to ask for; a normal user gets 1 MiB: C code may hold the GIL while it writes
READS = 16  # of 64 KiB each, before others have their turn


class Descriptors:
    """Descriptors 1 and 2 as pipes into the outbox.

    Order among Python's text: reading a pipe and putting its text into the outbox is one step, under a lock. The
    I/O thread does it when a pipe becomes readable; `os.system` and `Popen.wait` do it as they return, and the
    kernel before a cell's reply, so that nothing said later can overtake what a child wrote before. The lock is
    held for that step alone, in which nobody waits, and re-entrant: a signal handler may start a child.
    """

    def __init__(self, channels: Channels):
        self._channels, self._outbox = channels, channels.outbox
        self.saved: dict[str, int] = {}  # where the descriptors led before: the kernel's own log goes there
        self._readers: dict[int, tuple[str, Any]] = {}
        self._lock = threading.RLock()

    def install(self) -> Callable[[], None]:
        """Put pipes in the place of descriptors 1 and 2; return the undo."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            self.saved[name] = _duplicate(descriptor)
            read_end, write_end = os.pipe()
            os.set_blocking(read_end, False)
            _enlarge(write_end)
            os.dup2(write_end, descriptor, inheritable=True)
            os.close(write_end)
            self._readers[read_end] = (name, codecs.getincrementaldecoder("utf-8")("replace"))
            self._channels.watch(read_end, lambda end=read_end: self._read(end), fills_outbox=True)  # type: ignore[misc]
        before = (os.system, subprocess.Popen.wait)
        os.system = self._catching_up(os.system)
        os.system.__module__ = "os"  # in `posix` there is another of its name, and it would not pickle
        subprocess.Popen.wait = self._catching_up(subprocess.Popen.wait)  # type: ignore[method-assign]
        os.register_at_fork(after_in_child=self._enter_child)

        def undo() -> None:
            os.system, subprocess.Popen.wait = before  # type: ignore[method-assign]
            for name, descriptor in (("stdout", 1), ("stderr", 2)):
                os.dup2(self.saved[name], descriptor, inheritable=True)

        return undo

    def catch_up(self) -> None:
        """Put into the outbox what has been written so far. Any thread."""
        for end in list(self._readers):
            self._read(end)

    def _catching_up(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @safe_point  # it only waits; user code does above it
        @wraps(function)
        def waits_for_a_child(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self._outbox.wait_for_room()  # here, and not where the lock is held
            self.catch_up()
            return result

        return waits_for_a_child

    def _enter_child(self) -> None:
        self._readers, self._lock = {}, threading.RLock()

    def _read(self, end: int) -> None:
        with self._lock:
            if end not in self._readers:
                return
            name, decoder = self._readers[end]
            chunks = []
            # A child that floods must not keep the I/O thread from its sockets, nor fill the memory: what does not
            # fit into the outbox stays in the pipe, and the child waits. Nobody waits for room under this lock.
            for _ in range(READS if self._outbox.has_room else 0):
                try:
                    data = originals.os.read(end, 65_536)
                except BlockingIOError:
                    break
                if not data:  # nobody can write any more: the undo has been done
                    del self._readers[end]
                    self._outbox.call(lambda: self._forget(end))
                    break
                chunks.append(data)
            if text := decoder.decode(b"".join(chunks)):
                self._outbox.write(context.latest(), name, Captured(text), patient=False)

    def _forget(self, end: int) -> None:
        self._channels.unwatch(end)
        originals.os.close(end)


def _duplicate(descriptor: int) -> int:
    try:
        return os.dup(descriptor)
    except OSError:  # started with a closed descriptor
        return os.open(os.devnull, os.O_WRONLY)


def _enlarge(pipe: int) -> None:
    """Make the pipe as large as the system allows: C code that holds the GIL while it writes must not fill it."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:
        return  # not Linux: the size is the system's to choose
    for size in PIPE_SIZES:
        try:
            fcntl(pipe, F_SETPIPE_SZ, size)
            return
        except OSError:
            continue  # more than this user may have
