"""comms: the `comm` package bound to our iopub. Knows no widgets and no requests but the three comm messages."""

import logging
from collections.abc import Sequence
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager
from IPython.core.getipython import get_ipython

from ipymini.iopub import IOPub
from ipymini.lane import door
from ipymini.messages import Content, Request

log = logging.getLogger("ipymini.comms")

_iopub: IOPub | None = None


class Comm(BaseComm):
    """One comm of this kernel. Binary buffers go both ways."""

    @property
    def kernel(self) -> Any:
        """What `get_ipython().kernel` is; widgets look whether there is one."""
        shell = get_ipython()
        return shell.kernel if shell is not None else None

    def publish_msg(self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Sequence[Any] | None = None, **keys: Any) -> None:
        """Send comm_open, comm_msg or comm_close, caused by whatever runs now."""
        if _iopub is None:
            return  # the kernel has stopped; objects may outlive it
        content = {"data": {} if data is None else data, "comm_id": self.comm_id, **keys}
        raw = [_contiguous(buffer) for buffer in buffers or ()]
        _iopub.send(msg_type, content, metadata=metadata, buffers=raw, topic=f"comm-{self.comm_id}".encode())


def _contiguous(buffer: Any) -> Any:
    view = memoryview(buffer)
    # A view of the sender's own memory may change before it is on the wire.
    return bytes(view) if view.readonly is False or not view.contiguous else view


class Comms:
    """The manager of this kernel's comms, and what the three comm messages do."""

    def __init__(self, iopub: IOPub):
        global _iopub
        _iopub = iopub
        self.manager = CommManager()
        self._before = (comm.create_comm, comm.get_comm_manager)
        self.bind()

    def bind(self) -> None:
        """Make the `comm` package use our manager and our comms."""
        manager = self.manager
        comm.create_comm = Comm
        comm.get_comm_manager = lambda: manager

    def unbind(self) -> None:
        """Give the `comm` package back."""
        global _iopub
        comm.create_comm, comm.get_comm_manager = self._before
        _iopub = None

    @door
    def handle(self, request: Request) -> None:
        """Give comm_open, comm_msg or comm_close to its comm. Runs user callbacks, on the lane that the message addresses."""
        message = request.as_dict()
        getattr(self.manager, request.msg_type)(None, None, message)

    def info(self, target_name: str | None = None) -> Content:
        """Return the content of comm_info_reply: the open comms, of one target or all."""
        comms = {
            key: {"target_name": one.target_name}
            for key, one in list(self.manager.comms.items())
            if target_name in (None, "", one.target_name)
        }
        return {"status": "ok", "comms": comms}
