"""iopub: everything the kernel says aloud, one method per message type. Does not decide when to say it.

The parent of a message is the request that caused it, taken from `context` unless given. Any thread may
call any method; content that cannot become JSON raises TypeError or ValueError in the caller.
Spec: "Messages on the IOPub (PUB/SUB) channel".
"""

from collections.abc import Sequence
from typing import Any

from ipymini.execution import context
from ipymini.execution.outbox import Outbox
from ipymini.protocol.messages import Content, Message, Request
from ipymini.protocol.originals import __builtins__, os  # noqa: F401

_CURRENT: Any = object()
DISPLAY_TOPIC = b"display_data"


class IOPub:
    """The kernel's voice. Holds no state but its topic prefix, so threads need no lock."""

    def __init__(self, outbox: Outbox):
        self._outbox = outbox
        self.ident = os.urandom(16).hex()
        self._topic = f"kernel.{self.ident}.".encode()

    def status(self, state: str, *, parent: Request | None = _CURRENT, wake: bool = True) -> None:
        """Publish `busy`, `idle` or `starting`. Never waits for room: frontends count on it."""
        self._send(Message("status", {"execution_state": state}, _json(parent)), self._topic + b"status", wake=wake)

    def execute_input(self, code: str, execution_count: int) -> None:
        """Repeat the code to all frontends, within milliseconds: it has to leave before a cell blocks."""
        content = {"code": code, "execution_count": execution_count}
        self._voice(Message("execute_input", content, _json(_CURRENT)), self._topic + b"execute_input")

    def execute_result(self, data: Content, metadata: Content, execution_count: int) -> None:
        """Publish the value of a cell's last expression."""
        content = {"data": data, "metadata": metadata, "execution_count": execution_count}
        self._voice(Message("execute_result", content, _json(_CURRENT)), self._topic + b"execute_result")

    def error(self, ename: str, evalue: str, traceback: Sequence[str]) -> None:
        """Publish an exception of user code; `traceback` are lines with ANSI colours. Never waits for room: it ends."""
        content = {"ename": ename, "evalue": evalue, "traceback": list(traceback)}
        self._send(Message("error", content, _json(_CURRENT)), self._topic + b"error")

    def display_data(
        self,
        data: Content,
        metadata: Content | None = None,
        transient: Content | None = None,
        *,
        update: bool = False,
        buffers: Sequence[Any] = (),
    ) -> None:
        """Publish a mime bundle, or (`update`) a new one for the display_id in `transient`."""
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        kind = "update_display_data" if update else "display_data"
        self._voice(Message(kind, content, _json(_CURRENT), buffers=tuple(buffers)), DISPLAY_TOPIC)

    def clear_output(self, wait: bool = False) -> None:
        """Clear the cell's output, now or when the next output comes."""
        self._voice(Message("clear_output", {"wait": wait}, _json(_CURRENT)), DISPLAY_TOPIC)

    def send(
        self,
        msg_type: str,
        content: Content,
        *,
        metadata: Content | None = None,
        buffers: Sequence[Any] = (),
        topic: bytes | None = None,
        parent: Request | None = _CURRENT,
    ) -> None:
        """Publish a message of any type: comms, debug events, the shutdown broadcast, third parties' own."""
        message = Message(msg_type, content, _json(parent), metadata, tuple(buffers))
        self._voice(message, self._topic + msg_type.encode() if topic is None else topic)

    def _voice(self, message: Message, topic: bytes) -> None:
        self._outbox.send("iopub", message, (topic,), wake=False)
        self._outbox.soft_wake()

    def _send(self, message: Message, topic: bytes, *, wake: bool = True) -> None:
        self._outbox.send("iopub", message, (topic,), patient=False, wake=wake)


def _json(parent: Request | None) -> bytes:
    request = context.current() if parent is _CURRENT else parent
    return b"{}" if request is None else request.header_json
