"""outbox: what waits to be sent. Anybody puts into it, from any thread; sends nothing itself, `channels` does.

Theory. The outbox is a deque: appending is atomic, re-entrant, and safe in `__del__` and in signal handlers. One FIFO
for all channels keeps "busy < execute_input < stream < reply < idle" true without further care. Three kinds of items
lie in it: texts, which the I/O thread joins to stream messages (`stream_text`); encoded messages; functions, called in
their turn. A byte in a pipe wakes the I/O thread.

The outbox is bounded in bytes: who puts something into it waits while there are more than BUDGET (status messages,
errors and replies do not). No lock is held while waiting, and an interrupt ends the wait.
"""

import json
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ipymini.execution.subscribers import size_of
from ipymini.protocol.messages import Message, Request
from ipymini.protocol.originals import __builtins__, logger, logging, os, threading  # noqa: F401
from ipymini.protocol.stream_text import TEXT_SOON, Texts
from ipymini.protocol.wire import Wire

log = logger("ipymini.execution.outbox")

BUDGET = 64 << 20  # bytes from which writers wait
LOOK_FOR_ROOM = 0.005  # seconds between two looks of a writer that waits
TEXT_BYTES = 100  # that a text takes besides its characters
MESSAGE_BYTES = 1000  # that a message takes besides its content


class Frames:
    """An encoded message in the outbox."""

    # No NamedTuple: its `__new__` is in no module of ours, so an interrupt could strike in it.
    __slots__ = ("channel", "frames")

    def __init__(self, channel: str, frames: list[Any]):
        self.channel, self.frames = channel, frames


Text = tuple[Request | None, str, str]  # who caused it, "stdout" or "stderr", the text: a plain tuple costs least
Item = Text | Frames | Callable[[], object]


class Outbox:
    """The queue of all that is to be sent.

    Shared fields: `items` (atomic deque), `backlog` (an estimate: increments may get lost in a race, and it is set
    to 0 whenever nothing waits), `is_closed` and `texts.is_holding` (written by the I/O thread only).
    """

    def __init__(self, texts: Texts, wire: Wire, thread: threading.Thread, is_interrupted: Callable[[], bool]):
        """`thread` takes the items. `is_interrupted()`: the calling thread must not wait, an interrupt is for it."""
        self.items: deque[Item] = deque()
        self.backlog = 0  # bytes
        self.is_closed = False  # nobody waits for room any more
        self._texts, self._wire, self._thread, self._is_interrupted = texts, wire, thread, is_interrupted
        self.wake_in, self._wake_out = os.pipe()
        for end in (self.wake_in, self._wake_out):
            os.set_blocking(end, False)
            # Not earlier: a late `wake` must not write to a descriptor that is somebody else's by then.
            weakref.finalize(self, os.close, end).atexit = False

    # ---- putting in ----------------------------------------------------------

    def write(self, request: Request | None, name: str, text: str, *, patient: bool = True) -> None:
        """Put a piece of stream text in; neighbours of one request and name become one message."""
        if self.backlog > BUDGET and patient:
            self.wait_for_room()
        self.items.append((request, name, text))
        size = len(text)
        self.backlog += size + TEXT_BYTES
        if not self._texts.is_holding or size >= TEXT_SOON:  # append first, then read: see `stream_text`
            self.wake()

    def send(
        self, channel: str, message: Message, prefix: Sequence[bytes] = (), *, patient: bool = True, wake: bool = True
    ) -> None:
        """Encode here and now, and put the frames in.

        Raises TypeError or ValueError if the content cannot become JSON. `patient`: wait while the outbox
        is over its budget. `wake=False`: something that wakes the I/O thread follows at once.
        """
        frames = self.encode(channel, message, prefix)
        if patient and self.backlog > BUDGET:
            self.wait_for_room()
        size = len(frames[-1]) if not message.buffers else sum(map(size_of, message.buffers))
        self.backlog += MESSAGE_BYTES + size
        self.items.append(Frames(channel, frames))
        if wake:
            self.wake()

    def send_frames(self, channel: str, frames: list[Any]) -> None:
        """Put a message in that somebody else has encoded and signed."""
        if self.backlog > BUDGET:
            self.wait_for_room()
        self.put(channel, frames)
        self.wake()

    def put(self, channel: str, frames: list[Any]) -> None:
        """Put an encoded message in, without waiting for room. The I/O thread is woken by what follows."""
        self.backlog += sum(map(size_of, frames))
        self.items.append(Frames(channel, frames))

    def encode(self, channel: str, message: Message, prefix: Sequence[bytes]) -> list[Any]:
        """Return the frames of a message; all messages that leave pass here."""
        if log.isEnabledFor(logging.DEBUG):
            cause = str(json.loads(message.parent).get("msg_id", "none"))[-8:]
            log.debug("out channel=%s msg_type=%s parent=%s", channel, message.msg_type, cause)
        return self._wire.encode(message, prefix)

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the I/O thread, after all that is in the outbox now. It must not block."""
        self.items.append(function)
        self.wake()

    # ---- waiting ---------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the outbox now has been handed to zmq; return whether it was in time."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return False
        done = allocate_lock()  # and not an Event: it costs a tenth, and nothing in it can be interrupted halfway
        done.acquire()
        self.backlog += MESSAGE_BYTES  # the text before it becomes a message of its own
        self.call(done.release)
        return done.acquire(timeout=timeout)

    @property
    def has_room(self) -> bool:
        """Whether the outbox is below its budget."""
        return self.backlog <= BUDGET

    def wait_for_room(self) -> None:
        """Wait until the outbox is below its budget, or an interrupt waits for the caller to be done."""
        while self.backlog > BUDGET and not self.is_closed and threading.current_thread() is not self._thread:
            if self._is_interrupted():
                return
            self.wake()
            threading.Event().wait(LOOK_FOR_ROOM)

    # ---- waking ----------------------------------------------------------------

    def soft_wake(self) -> None:
        """Wake the I/O thread unless it looks again by itself within some milliseconds."""
        if not self._texts.is_holding:
            self.wake()

    def wake(self) -> None:
        """Make the I/O thread look into the outbox now."""
        # On every put, even if the thread is awake: a KeyboardInterrupt between "mark as awake" and the
        # write would leave the mark set and the thread asleep for good.
        try:
            os.write(self._wake_out, b"\0")
        except (BlockingIOError, OSError):
            pass  # the pipe is full, so the thread is awake; or it is closed, and nobody is left to wake

    def clear_wakes(self) -> None:
        """Take the bytes that have woken the I/O thread. I/O thread only."""
        try:
            os.read(self.wake_in, 65_536)
        except BlockingIOError:
            pass  # a poll may say that there is one when there is none

    def abandon(self) -> None:
        """Forget everything, in a forked child: the sockets and the thread stayed with the parent."""
        self.items = deque()
        self.is_closed = True
        self._wake_out = -1
