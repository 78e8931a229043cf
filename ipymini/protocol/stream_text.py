"""stream_text: joins the pieces of stream text that lie in the outbox to messages. Pure; knows no socket.

Theory. `print` writes a line and its end in two pieces, and cells that print side by side write in turns: a message
for every piece would be more than anybody can read. In a run of texts, with nothing else between them, those of one
request become one message. What different requests write may change its order; what one request writes does not,
except that lines which came from a descriptor do not cut a line that Python is about to end.
"""

from collections.abc import Callable, Sequence

from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__  # noqa: F401

TEXT_MAX = 1 << 20  # characters in one stream message
TEXT_SOON = 1 << 16  # characters that do not wait for the next look


class Captured(str):
    """Text that was read from a descriptor: when exactly it was written, nobody knows."""

    __slots__ = ()


class Texts:
    """A run of texts: those of one request are joined; its stdout and stderr stay in the order of their writing."""

    def __init__(self, send: Callable[[Request | None, str, str], None]):
        self._send = send
        self._open: dict[int, tuple[Request | None, str, list[str]]] = {}  # by the identity of the request
        self._size = 0

    def add(self, request: Request | None, name: str, text: str) -> None:
        now = self._open.get(id(request))
        if now is None or now[1] != name or self._size > TEXT_MAX:
            if self._size > TEXT_MAX:
                self.send()
            elif now is not None:
                self._send(request, now[1], "".join(now[2]))
            self._open[id(request)] = (request, name, [text])
        elif type(text) is Captured and text[-1] == "\n" and type(now[2][-1]) is not Captured:
            _before_the_last_line(now[2], text)
        else:
            now[2].append(text)
        self._size += len(text)

    def unfinished(self) -> list[tuple[Request | None, str, str]]:
        """Return the short texts that have not come to the end of their line."""
        return [
            (request, name, type(texts[-1])("".join(texts)))  # Captured stays Captured: nobody comes before its end
            for request, name, texts in self._open.values()
            if texts[-1][-1:] not in ("", "\n") and self._size < TEXT_SOON
        ]

    def send(self, but: Sequence[tuple[Request | None, str, str]] = ()) -> None:
        kept = {id(request) for request, _, _ in but}
        for key, (request, name, texts) in self._open.items():
            if key not in kept:
                self._send(request, name, "".join(texts))
        self._open, self._size = {}, 0


def _before_the_last_line(texts: list[str], lines: str) -> None:
    """Insert whole lines where they cut none: `print` writes a line and its end in two pieces."""
    for at in range(len(texts) - 1, -1, -1):
        before, newline, last = texts[at].rpartition("\n")
        if newline:
            texts[at : at + 1] = [before + newline, lines, last] if last else [before + newline, lines]
            return
    texts.insert(0, lines)
