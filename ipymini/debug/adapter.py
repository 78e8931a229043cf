"""adapter: one DAP conversation with the pydevd of this process, over loopback. Knows no command's meaning.

debugpy ships an adapter process that stands between client and pydevd; it costs half a second to start, and 40 ms
for each request, since neither side turns Nagle's algorithm off. Here the kernel itself is what pydevd talks to.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ipymini.debug import dap
from ipymini.protocol.messages import IpyminiError

log = logging.getLogger("ipymini.debug.adapter")

Event = dict[str, Any]
Response = dict[str, Any]


class NoAnswer(IpyminiError):
    """debugpy has not answered in time, or will never answer any more."""


class Adapter:
    """Asks pydevd, and hands its events on. Everything runs on the loop that opened it."""

    def __init__(self, on_event: Callable[[Event], None], on_lost: Callable[[], None]):
        self._on_event = on_event
        self._on_lost = on_lost  # called once, if pydevd hangs up before we do
        self._numbers = itertools.count(1)  # our own: a client's seq may repeat, and must not meet ours
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        self._listener.setblocking(False)
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def port(self) -> int:
        """Where pydevd should connect to."""
        return int(self._listener.getsockname()[1])

    async def accept(self) -> tuple[str, int]:
        """Wait until somebody connects; return who: the caller checks that it is our own pydevd."""
        connection, peer = await asyncio.get_running_loop().sock_accept(self._listener)
        self._listener.close()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, self._writer = await asyncio.open_connection(sock=connection)
        self._reading = asyncio.create_task(self._read(reader))
        return peer[0], peer[1]

    def send(self, command: str, arguments: dict[str, Any]) -> asyncio.Future[Response]:
        """Ask; return the future answer. Requests leave in the order of the calls."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        if self._writer is None or self._closing:
            future.set_exception(NoAnswer(f"no debugpy to ask for {command!r}: initialize the debugger again"))
            return future
        seq = next(self._numbers)
        self._waiting[seq] = future
        self._writer.write(dap.frame({"seq": seq, "type": "request", "command": command, "arguments": arguments}))
        future.add_done_callback(lambda _: self._waiting.pop(seq, None))
        return future

    async def ask(self, command: str, arguments: dict[str, Any], deadline: float) -> Response:
        """Ask and wait. Raises NoAnswer."""
        return await answer_of(self.send(command, arguments), command, deadline)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = dap.Decoder()
        try:
            while data := await reader.read(65536):
                for message in decoder.feed(data):
                    self._take(message)
        except (OSError, dap.BadFrame) as error:
            log.warning("lost debugpy: %s", error)
        lost = not self._closing
        self.close()
        if lost:
            self._on_lost()

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("type") == "event":
            try:
                self._on_event(message)
            except Exception:  # the rest of the conversation must go on
                log.exception("could not hand on event=%s", message.get("event"))
        elif message.get("type") == "response":
            future = self._waiting.get(message.get("request_seq", 0))
            if future is not None and not future.done():
                future.set_result(message)

    def expect_the_end(self) -> None:
        """Say that it is us who end the conversation: that pydevd hangs up is no loss then."""
        self._closing = True

    def close(self) -> None:
        """Hang up. Whoever still waits gets NoAnswer."""
        self._closing = True
        self._listener.close()
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(NoAnswer("debugpy has gone: initialize the debugger again"))


async def answer_of(future: asyncio.Future[Response], command: str, deadline: float) -> Response:
    """Wait for an answer, up to `deadline` seconds. Raises NoAnswer."""
    try:
        return await asyncio.wait_for(future, deadline)
    except TimeoutError:
        raise NoAnswer(f"debugpy has not answered {command!r} within {deadline:g} s") from None
