"""stream_text: joins pieces of printed text to stream messages, and says when these leave. Knows no socket, no clock.

Theory of the joining. `print` writes a line and its end in two pieces, and cells that print side by side write in
turns: a message for every piece would be more than anybody can read. In a run of texts, with nothing else between
them, those of one request become one message. What different requests write may change its order; what one request
writes does not, except that lines which came from a descriptor do not cut a line that Python is about to end.

Theory of the time. The I/O thread adds what lies in the outbox, then calls `settle`. Texts leave there, so a first text
leaves at once. After texts, and after two drains in quick succession, the thread *holds*: it looks into the outbox
again after HOLD seconds by itself, and writers need not wake it. So whoever prints in a loop has a message each HOLD
seconds. A short text without the end of its line is kept back, for LINE_END seconds at most.

Waking. A writer appends to the outbox first and then reads `is_holding`; the I/O thread clears `is_holding` first
(`end_hold`) and then looks into the outbox once more. Whoever comes second sees the other.
"""

from collections.abc import Callable

from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__  # noqa: F401

HOLD = 0.010  # seconds between two looks at a busy outbox
BUSY = 0.002  # seconds between two drains from which the outbox counts as busy
LINE_END = 0.002  # seconds that a text may wait for the end of its line
TEXT_MAX = 1 << 20  # characters in one stream message
TEXT_SOON = 1 << 16  # characters that do not wait for the next look, nor for the end of their line


class Captured(str):
    """Text that was read from a descriptor: when exactly it was written, nobody knows."""

    __slots__ = ()


class Texts:
    """The texts that are on their way from the outbox to the wire. I/O thread only, but for `is_holding`.

    The texts of one request are joined; its stdout and stderr stay in the order of their writing. `send(request,
    name, text)` is called for each message.
    """

    def __init__(self, send: Callable[[Request | None, str, str], None]):
        self.is_holding = False  # read by all threads: the I/O thread looks again by itself
        self.hold_until = 0.0
        self._send = send
        self._open: dict[int, tuple[Request | None, str, list[str]]] = {}  # by the identity of the request
        self._size = 0  # characters in `_open`, about
        self._has_sent = False  # since the latest hold
        self._line_end_until: float | None = None  # until when `_open` waits for ends of lines
        self._settled_at = float("-inf")

    @property
    def are_waiting(self) -> bool:
        """Whether there are texts that have not left."""
        return bool(self._open)

    def add(self, request: Request | None, name: str, text: str) -> None:
        """Take the next text of the outbox."""
        before = self._open.get(id(request))
        if before is None or before[1] != name or self._size > TEXT_MAX:
            if self._size > TEXT_MAX:
                self.flush()
            elif before is not None:
                self._send(request, before[1], "".join(before[2]))
            self._open[id(request)] = (request, name, [text])
        elif type(text) is Captured and text[-1] == "\n" and type(before[2][-1]) is not Captured:
            _before_the_last_line(before[2], text)
        else:
            before[2].append(text)
        self._size += len(text)

    def flush(self) -> None:
        """Send all texts: the outbox has something else behind them."""
        self._line_end_until = None
        if self._open:
            self._leave(set())

    def settle(self, now: float, *, is_behind: bool = False) -> None:
        """Send the texts that do not wait for the end of their line, and begin the hold: the outbox has been drained.

        `is_behind`: there is so much in it again that it must be drained without a pause.
        """
        if unfinished := self._unfinished():
            if self._line_end_until is None:
                self._line_end_until = now + LINE_END
            if now < self._line_end_until:
                self._leave(unfinished)
                self.is_holding, self.hold_until = not is_behind, self._line_end_until
                return
        self.flush()
        if is_behind:
            self.is_holding = False
        elif self._has_sent or now - self._settled_at < BUSY:
            # Not after one quick message: a cell's first words must not wait for those of its execute_input.
            self.is_holding, self.hold_until = True, now + HOLD
        self._has_sent, self._settled_at = False, now

    def end_hold(self, now: float) -> None:
        """Clear `is_holding` if its time is over. Look into the outbox after this, not before."""
        if self.is_holding and now >= self.hold_until:
            self.is_holding = False

    def _unfinished(self) -> set[int]:
        """Return whose short texts have not come to the end of their line: `print` writes that on its own."""
        if self._size >= TEXT_SOON:
            return set()
        return {key for key, (_, _, texts) in self._open.items() if texts[-1][-1:] not in ("", "\n")}

    def _leave(self, staying: set[int]) -> None:
        """Send the texts of all requests but those that stay."""
        stays: dict[int, tuple[Request | None, str, list[str]]] = {}
        for key, (request, name, texts) in self._open.items():
            if key in staying:
                stays[key] = (request, name, texts)
            else:
                self._has_sent = True
                self._send(request, name, "".join(texts))
        self._open, self._size = stays, sum(len(text) for _, _, texts in stays.values() for text in texts)


def _before_the_last_line(texts: list[str], lines: str) -> None:
    """Insert whole lines where they cut none: `print` writes a line and its end in two pieces."""
    for at in range(len(texts) - 1, -1, -1):
        before, newline, last = texts[at].rpartition("\n")
        if newline:
            texts[at : at + 1] = [before + newline, lines, last] if last else [before + newline, lines]
            return
    texts.insert(0, lines)
