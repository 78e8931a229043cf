"""streams: `sys.stdout` and `sys.stderr`: their text becomes stream messages. Joins no texts, captures no descriptors.

`stream_text` joins the texts, `context` says which request one belongs to, `descriptors` captures 1 and 2. Text of
Python goes straight into the outbox. In a forked child it goes to the captured descriptor, in whole lines: a child
never touches a socket.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ipymini.execution import context, interruption
from ipymini.execution.outbox import Outbox
from ipymini.protocol import originals
from ipymini.protocol.originals import __builtins__  # noqa: F401

FLUSH_TIMEOUT = 1.0  # seconds
Sink = Callable[[Any, str, str], None]  # takes a request, "stdout" or "stderr", and a text

_installed: "tuple[Outbox, OutStream, OutStream] | None" = None
_own = context.own
_latest = context.latest


class OutStream(io.TextIOBase):
    """A text stream whose text becomes `stream` messages of the request that caused it.

    `fileno()` is the captured descriptor, so `subprocess.run(..., stdout=sys.stdout)` reaches the cell too.
    Writing is safe from any thread, in `__del__` and in signal handlers.
    """

    encoding = "UTF-8"
    errors = "replace"
    newlines = None
    line_buffering = True
    kernel: Any = None  # `compat.facade`'s, while there is one: third parties ask a stream for what is the kernel's
    echo = None
    topic = b""
    flush_interval = 0.2  # seconds; nobody looks at it
    flush_timeout = FLUSH_TIMEOUT

    def __init__(self, name: str, descriptor: int, outbox: Outbox):
        super().__init__()
        self.name = name
        self.mode = "w"
        self._descriptor = descriptor
        self._outbox: Any = outbox
        self._write: Callable[..., Any] = outbox.write
        self._child: list[str] | None = None  # in a forked child: the unfinished line
        self._hooks: list[Callable[[str], str | None]] = []
        self.topic = f"stream.{name}".encode()
        self.buffer = ByteStream(self)

    def write(self, text: str, /) -> int:
        """Write a text. Raises TypeError for what is no str, ValueError after `close()`."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text)}")
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._child is not None:
            self._write_in_child(text)
            return len(text)
        if self._hooks:
            self._write_hooked(text)
        elif text:
            self._write(_own() or _latest(), self.name, text)
        if interruption.any_pending:
            interruption.strike_if_pending()
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        """Write several texts as one."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Send what has been written, and wait until it is on its way: it must survive a crash in the next line."""
        if self._child is not None:
            if not self.closed:
                self._write_in_child("", all_of_it=True)
            return
        self._outbox.flush(FLUSH_TIMEOUT)
        if interruption.any_pending:
            interruption.strike_if_pending()

    def fileno(self) -> int:
        """Return the captured descriptor; what is written there appears in the cell."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return False: no terminal, although frontends show ANSI colours."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    def reconfigure(self, **options: Any) -> None:
        """Accept what programs say to a text stream; text leaves as UTF-8 whatever they say."""

    # ---- what third parties know of ipykernel's streams: ipyparallel, print redirectors, its own tests ----

    session = property(lambda self: self.kernel.session if self.kernel is not None else None)
    pub_thread = property(lambda self: self.kernel.iopub_thread if self.kernel is not None else None)

    @property
    def parent_header(self) -> dict[str, Any]:
        """The header of the request that a text written now belongs to."""
        request = _own() or _latest()
        return request.header if request is not None else {}

    def set_parent(self, parent: dict[str, Any]) -> Callable[[], None]:
        """Make `parent` the cause of all that the calling thread or task does from now on; return the undo."""
        return context.pin_parent(parent)

    set_thread_parent = set_parent

    @staticmethod
    def reset_thread_parent(undo: Callable[[], None]) -> None:
        """Undo a `set_thread_parent`."""
        undo()

    def register_hook(self, hook: Callable[[str], str | None]) -> None:
        """Show each text to a function before it leaves, on the thread that writes: it returns a text, or None."""
        self._hooks = [*self._hooks, hook]

    def unregister_hook(self, hook: Callable[[str], str | None]) -> bool:
        """Undo `register_hook`; return whether it had been registered."""
        before, self._hooks = self._hooks, [one for one in self._hooks if one is not hook]
        return before != self._hooks

    def _write_hooked(self, text: str) -> None:
        left: str | None = text
        for hook in self._hooks:
            left = hook(left) if left else None
        if left:
            self._write(_own() or _latest(), self.name, left)

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name(f"sys:{self.name}")

    def retire(self, before: Any) -> None:
        """The kernel has ended: who still holds this stream, as IPython does, writes to the one before it."""
        self.kernel, self._hooks = None, []
        self._outbox = None
        self._write = lambda _request, _name, text: before and before.write(text)
        self.flush = before.flush if before is not None else lambda: None  # type: ignore[method-assign]

    def _flush(self) -> None:
        self.flush()

    def _is_master_process(self) -> bool:
        return self._child is None

    def enter_child(self) -> None:
        """From now on this is a forked child: it writes to the descriptor, and not into its copy of the outbox."""
        self._child = []

    def _write_in_child(self, text: str, *, all_of_it: bool = False) -> None:
        assert self._child is not None
        self._child.append(text)
        if not all_of_it and "\n" not in text:
            return
        held = "".join(self._child)
        lines, newline, rest = (held, "", "") if all_of_it else held.rpartition("\n")
        self._child[:] = [rest] if rest else []
        _write_all(self._descriptor, (lines + newline).encode("utf-8", "replace"))


class SharedStream(OutStream):
    """A stream in a program that is more than its kernel: what no request has caused goes where it went before."""

    def __init__(self, name: str, descriptor: int, outbox: Outbox, before: Any):
        super().__init__(name, descriptor, outbox)
        self._before = before

    def write(self, text: str, /) -> int:
        """Write a text of a cell's; any other is the program's own."""
        if isinstance(text, str) and _own() is None and self._child is None and self._before is not None:
            return int(self._before.write(text) or 0)
        return super().write(text)

    def flush(self) -> None:
        """Flush both."""
        super().flush()
        if _own() is None and self._before is not None:
            self._before.flush()

    def fileno(self) -> int:
        """Return the descriptor of the program's stream: nothing is captured."""
        return int(self._before.fileno()) if self._before is not None else self._descriptor


class ByteStream(io.RawIOBase):
    """`sys.stdout.buffer`: bytes are decoded as UTF-8 and written to the text stream."""

    def __init__(self, stream: OutStream):
        super().__init__()
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: Any, /) -> int:
        """Write bytes; a character cut in half waits for its other half."""
        raw = bytes(data)
        self._stream.write(self._decoder.decode(raw))
        return len(raw)

    def flush(self) -> None:
        """Flush the text stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the captured descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name(f"sys:{self._stream.name}.buffer")


def _by_name(name: str) -> tuple[Any, ...]:
    """Return a pickle of a name: a copy, or a namespace that is saved and loaded, has the stream of its new place."""
    from pkgutil import resolve_name

    return resolve_name, (name,)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[originals.os.write(descriptor, view) :]


def tee(keep: Sink) -> Callable[[], None]:
    """Give each text to `keep`, too, on the thread that writes or reads it; return the undo. Else nobody is asked."""
    if _installed is None:
        return lambda: None
    outbox, *both = _installed
    write = outbox.write

    def write_and_keep(request: Any, name: str, text: str, *, patient: bool = True) -> None:
        keep(request, name, text)
        write(request, name, text, patient=patient)

    outbox.write = write_and_keep  # type: ignore[method-assign]
    for stream in both:
        stream._write = write_and_keep

    def undo() -> None:
        outbox.write = write  # type: ignore[method-assign]
        for stream in both:
            if stream._write is write_and_keep:  # else it has retired
                stream._write = write

    return undo


def install(outbox: Outbox, *, shared: bool = False) -> Callable[[], None]:
    """Replace `sys.stdout` and `sys.stderr`; in forked children they write to the descriptors. Return the undo.

    `shared`: the program around the kernel keeps them for what it writes itself.
    """
    global _installed
    before = (sys.stdout, sys.stderr)
    out, err = OutStream("stdout", 1, outbox), OutStream("stderr", 2, outbox)
    if shared:
        out, err = SharedStream("stdout", 1, outbox, before[0]), SharedStream("stderr", 2, outbox, before[1])
    sys.stdout, sys.stderr = out, err
    _installed = outbox, out, err
    in_child: list[Callable[[], None]] = [outbox.abandon, out.enter_child, err.enter_child]
    os.register_at_fork(after_in_child=lambda: [enter() for enter in in_child])  # Python never forgets this one

    def undo() -> None:
        global _installed
        _installed = None
        sys.stdout, sys.stderr = before
        out.retire(before[0])
        err.retire(before[1])
        in_child.clear()

    return undo
