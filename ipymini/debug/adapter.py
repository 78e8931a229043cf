"""adapter: one conversation with the pydevd of this process, over loopback, in the Debug Adapter Protocol (DAP).

Knows what a message looks like on the wire, and no command's meaning. debugpy ships an adapter process that stands
between client and pydevd; it costs half a second to start, and 40 ms for each request, since neither side turns
Nagle's algorithm off. Here the kernel itself is what pydevd talks to.
"""

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from ipymini.protocol.messages import IpyminiError

log = logging.getLogger("ipymini.debug.adapter")

Message = dict[str, Any]  # a request, a response or an event
Value = TypeVar("Value")

DEADLINE = 10.0  # seconds for debugpy to answer
HEADER_END = b"\r\n\r\n"


class BadFrame(IpyminiError):
    """What came is not DAP; what follows it cannot be understood either."""


def frame(message: Message) -> bytes:
    """Return the bytes of one message: Content-Length counts the bytes of the JSON, not its characters."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return b"Content-Length: %d%s%s" % (len(body), HEADER_END, body)


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, however its bytes come; None at the end of the stream. Raises BadFrame."""
    try:
        header = await reader.readuntil(HEADER_END)
        body = await reader.readexactly(_content_length(header))
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadFrame(f"expected a header, more than {error.consumed} bytes without its end came") from None
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


def response(request: Message, seq: int, body: Message, *, refusal: str | None = None) -> Message:
    """Return the response to a request. `refusal`: why the answer is no."""
    answer = {
        "seq": seq,
        "type": "response",
        "request_seq": request.get("seq", 0),
        "success": refusal is None,
        "command": request.get("command", ""),
        "body": body,
    }
    return answer if refusal is None else {**answer, "message": refusal}


class NoAnswer(IpyminiError):
    """debugpy has not answered in time, or has gone."""


class Refused(IpyminiError):
    """The answer to a request is no; the text is what the user reads."""

    def __init__(self, message: str, body: Message | None = None):
        super().__init__(message)
        self.body = body or {}


class Adapter:
    """Sends requests to pydevd and hands its events on. Everything runs on the loop that made it."""

    def __init__(self, on_event: Callable[[Message], None], on_lost: Callable[[], None]):
        self._on_event = on_event
        self._on_lost = on_lost  # called once, if pydevd hangs up before we do
        self._numbers = itertools.count(1)  # our own: a client's seq may repeat, and must not meet ours
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.setblocking(False)
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def port(self) -> int:
        """Return the TCP port that pydevd has to connect to."""
        return int(self._listener.getsockname()[1])

    async def accept(self) -> tuple[str, int]:
        """Wait for a connection; return its peer: the caller checks that it is our own pydevd."""
        connection, peer = await asyncio.get_running_loop().sock_accept(self._listener)
        self._listener.close()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, self._writer = await asyncio.open_connection(sock=connection)
        self._reading = asyncio.create_task(self._read(reader))
        return peer[0], peer[1]

    def send(self, command: str, arguments: dict[str, Any]) -> asyncio.Future[Message]:
        """Send a request; return the future of its response. Requests leave in the order of the calls."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self._writer is None or self._closing:
            future.set_exception(NoAnswer(f"{command!r} needs debugpy, which has gone: initialize the debugger again"))
            return future
        seq = next(self._numbers)
        self._waiting[seq] = future
        self._writer.write(frame({"seq": seq, "type": "request", "command": command, "arguments": arguments}))
        future.add_done_callback(lambda _: self._waiting.pop(seq, None))
        return future

    async def ask(self, command: str, arguments: dict[str, Any], deadline: float = DEADLINE) -> Message:
        """Send a request and wait for its response; return the body. Raises Refused, and NoAnswer."""
        return await body_of(self.send(command, arguments), command, deadline)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (message := await read_message(reader)) is not None:
                self._take(message)
        except (OSError, BadFrame) as error:
            log.warning("lost debugpy: %s", error)
        lost = not self._closing
        self.close()
        if lost:
            self._on_lost()

    def _take(self, message: Message) -> None:
        if message.get("type") == "event":
            try:
                self._on_event(message)
            except Exception:  # the messages after it have to be read
                log.exception("could not hand on event=%s", message.get("event"))
        elif message.get("type") == "response":
            future = self._waiting.get(message.get("request_seq", 0))
            if future is not None and not future.done():
                future.set_result(message)

    def expect_the_end(self) -> None:
        """Take note that we end the conversation: it is no loss then when pydevd hangs up."""
        self._closing = True

    def close(self) -> None:
        """Close the connection. Requests that still wait get NoAnswer."""
        self._closing = True
        self._listener.close()
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(NoAnswer("debugpy has gone: initialize the debugger again"))


async def answer_of(answer: Awaitable[Value], command: str, deadline: float) -> Value:
    """Wait for an answer, up to `deadline` seconds. Raises NoAnswer."""
    try:
        return await asyncio.wait_for(answer, deadline)
    except TimeoutError:
        raise NoAnswer(f"debugpy has not answered {command!r} within {deadline:g} s") from None


async def body_of(response: Awaitable[Message], command: str, deadline: float) -> Message:
    """Wait for a response; return its body. Raises Refused with debugpy's reason, and NoAnswer."""
    answer = await answer_of(response, command, deadline)
    body = answer.get("body") or {}
    if not answer.get("success"):
        raise Refused(str(answer.get("message") or "debugpy refused, and gave no reason"), body)
    return dict(body)
