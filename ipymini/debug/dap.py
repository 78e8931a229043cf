"""dap: the Debug Adapter Protocol on the wire: bytes in, dicts out, and back. Knows no commands, no sockets."""

import json
from typing import Any

from ipymini.protocol.messages import IpyminiError

HEADER_END = b"\r\n\r\n"
HEADER_LIMIT = 4096  # bytes; a header is one line of about 25, so more than this is no DAP


class BadFrame(IpyminiError):
    """What came is not DAP; nothing after it can be understood either."""


def frame(message: dict[str, Any]) -> bytes:
    """Return one message as it travels: Content-Length counts the bytes of the JSON, not its characters."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return b"Content-Length: %d%s%s" % (len(body), HEADER_END, body)


class Decoder:
    """Cuts a stream of bytes into messages, wherever the packets were split or joined."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._length: int | None = None  # of the body that is being awaited; None: a header comes next

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take what arrived; return the messages that are complete now. Raises BadFrame."""
        self._held += data
        complete = []
        while (message := self._next()) is not None:
            complete.append(message)
        return complete

    def _next(self) -> dict[str, Any] | None:
        if self._length is None:
            end = self._held.find(HEADER_END)
            if end < 0:
                if len(self._held) > HEADER_LIMIT:
                    raise BadFrame(f"expected a header that ends within {HEADER_LIMIT} bytes, {len(self._held)} came")
                return None
            self._length = _content_length(bytes(self._held[:end]))
            del self._held[: end + len(HEADER_END)]
        if len(self._held) < self._length:
            return None
        body = bytes(self._held[: self._length])
        del self._held[: self._length]
        self._length = None
        try:
            message = json.loads(body)
        except ValueError as error:
            raise BadFrame(f"expected JSON in a body of {len(body)} bytes: {error}") from None
        if not isinstance(message, dict):
            raise BadFrame(f"expected a JSON object, a {type(message).__name__} came")
        return message


def _content_length(header: bytes) -> int:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    raise BadFrame(f"expected a header with Content-Length, {header[:80]!r} came")


def response(
    request: dict[str, Any], seq: int, body: dict[str, Any] | None = None, *, message: str | None = None
) -> dict[str, Any]:
    """Return the answer to a request. With a `message` it says no, and why."""
    answer = {
        "seq": seq,
        "type": "response",
        "request_seq": request.get("seq", 0),
        "success": message is None,
        "command": request.get("command", ""),
        "body": body or {},
    }
    return answer if message is None else {**answer, "message": message}


def event(name: str, seq: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return an event of our own, shaped as the protocol shapes them."""
    return {"seq": seq, "type": "event", "event": name, "body": body}
