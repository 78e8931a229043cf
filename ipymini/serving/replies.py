"""replies: the messages that answer requests, also those that no handler will see. Runs no handler."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ipymini.execution.lane import Lane
from ipymini.execution.outbox import Outbox
from ipymini.frontend.iopub import IOPub
from ipymini.protocol.messages import Content, Message, Request, error_content, reply_type
from ipymini.protocol.originals import __builtins__  # noqa: F401


class Replies:
    """Makes and sends replies. From any lane's thread."""

    def __init__(self, outbox: Outbox, iopub: IOPub):
        self._outbox, self._iopub = outbox, iopub

    def encode(
        self, request: Request, content: Content | None, started: datetime
    ) -> tuple[Content | None, list[Any] | None]:
        """Return content and frames of the reply, which is an error if JSON cannot hold the content. None: no reply."""
        if content is None or not request.msg_type.endswith("_request"):
            return content, None
        try:
            return content, self._frames(request, content, started)
        except BaseException as error:  # objects of the user's are in it, and their conversion is user code
            count = {"execution_count": content["execution_count"]} if "execution_count" in content else {}
            content = {**error_content(error), **count}
        return content, self._frames(request, content, started)

    def send(self, request: Request, content: Content | None) -> None:
        """Answer a request on its own channel, to the client that sent it. The I/O thread is woken by what follows."""
        _, frames = self.encode(request, content, datetime.now(UTC))
        if frames is not None:
            self._outbox.put(request.channel, frames)

    def refuse(self, request: Request, content: Content) -> None:
        """Answer a request that no handler will see: busy, the reply, idle."""
        self._iopub.status("busy", parent=request, wake=False)
        self.send(request, content)
        self._iopub.status("idle", parent=request)

    def answer_unserved(
        self, lane: Lane, error: BaseException, queued: BaseException | None = None, begun: Iterable[Request] = ()
    ) -> None:
        """Answer what a lane will not serve any more: what it has `begun`, or else has left unfinished, and its queue.

        `queued`: what the requests in its queue are told, if it is not `error`.
        """
        unfinished, lane.unfinished = lane.unfinished, []
        for request in begun or unfinished:  # they have said busy
            self.send(request, error_content(error))
            self._iopub.status("idle", parent=request)
        for request in lane.queue.withdraw():
            self.refuse(request, error_content(queued or error))

    def _frames(self, request: Request, content: Content, started: datetime) -> list[Any]:
        content = {"status": "ok", **content} if request.msg_type != "debug_request" else content
        metadata = None
        if request.msg_type == "execute_request":
            metadata = {
                "started": started.isoformat(),
                "dependencies_met": content.get("ename") != "UnmetDependency",
                "engine": self._iopub.ident,
                "status": content["status"],
            }
        message = Message(reply_type(request.msg_type), content, request.header_json, metadata)
        return self._outbox.encode(request.channel, message, request.identities)
