"""comms: the `comm` package bound to our iopub. Knows no targets and no widgets.

`handle` is for comm_open, comm_msg and comm_close from a frontend. What goes wrong in a callback is text on the
stderr of the request that caused it; the kernel goes on. Spec: "Custom Messages".
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager

from ipymini.lane import door
from ipymini.messages import Content, Request


class Comm(BaseComm):
    """A comm whose messages leave on iopub, caused by the current request."""

    kernel: Any = None
    _send: Callable[..., None] | None = None  # IOPub.send; set by `install`, for the whole process

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        """Publish a comm message."""
        if Comm._send is None:
            return  # the kernel has ended; a comm that is collected afterwards says goodbye to nobody
        content = {"data": {} if data is None else data, "comm_id": self.comm_id, **keys}
        frozen = tuple(_frozen(buffer) for buffer in buffers or ())
        Comm._send(msg_type, content, metadata=metadata or {}, buffers=frozen, topic=self.topic)


class Comms(CommManager):
    """The comms and targets of this process; `comm.get_comm_manager()` returns it."""

    kernel: Any = None

    @door
    def handle(self, request: Request) -> None:
        """Give a comm_open, comm_msg or comm_close to the comm. Runs on the lane that the request addresses."""
        message = request.as_dict()
        message["content"].setdefault("data", {})
        getattr(self, request.msg_type)(None, None, message)

    def info(self, target_name: str | None = None) -> Content:
        """Return the content of comm_info_reply: all comms, or those of one target."""
        comms = {
            comm_id: {"target_name": one.target_name}
            for comm_id, one in list(self.comms.items())
            if target_name is None or one.target_name == target_name
        }
        return {"status": "ok", "comms": comms}


def _frozen(buffer: Any) -> Any:
    """Return what stays as it is until it has been sent: an array's memory may change before that."""
    view = memoryview(buffer)
    return view if view.readonly and view.contiguous else view.tobytes()


class _ToStderr(logging.Handler):
    """Shows what the `comm` package logs to whoever caused it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def install(send: Callable[..., None], kernel: Any = None) -> tuple[Comms, Callable[[], None]]:
    """Replace the manager and the factory of the `comm` package; return our manager and the undo."""
    manager = Comms()
    Comms.kernel = Comm.kernel = kernel
    Comm._send = staticmethod(send)
    before = comm.create_comm, comm.get_comm_manager
    comm.create_comm, comm.get_comm_manager = Comm, lambda: manager
    logger, handler = logging.getLogger("Comm"), _ToStderr(logging.WARNING)
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False

    def undo() -> None:
        comm.create_comm, comm.get_comm_manager = before
        logger.removeHandler(handler)
        logger.propagate = propagate
        Comms.kernel = Comm.kernel = None
        Comm._send = None

    return manager, undo
