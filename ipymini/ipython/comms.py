"""comms: the `comm` package bound to our iopub, and which subshell a comm belongs to. Knows no targets and no widgets.

`handle` is for comm_open, comm_msg and comm_close from a frontend. What goes wrong in a callback is text on the
stderr of the request that caused it; the kernel goes on. Spec: "Custom Messages".
"""

import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import comm
from comm.base_comm import BaseComm, CommManager

from ipymini.execution import context
from ipymini.execution.stacks import door
from ipymini.protocol.messages import Content, Request

_log = logging.getLogger("Comm")  # what the `comm` package says of callbacks; `install` shows it
ASKED_MAX = 1000  # questions that are remembered until their answer comes; frontends may answer none


class Comm(BaseComm):
    """A comm whose messages leave on iopub, caused by the current request."""

    kernel: Any = None
    # Each comm has its own; these are for mocks that take the class for a spec.
    comm_id, target_name, target_module, topic, primary = "", "comm", None, b"", True
    _send: Callable[..., None] | None = None  # IOPub.send; set by `install`, for the whole process

    _subshell_id: str | None = None  # the subshell that spoke on it last; None: the main shell, or nobody yet

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        """Publish a comm message."""
        if Comm._send is None:
            return  # the kernel has ended, and a comm is collected afterwards
        content = {"data": {} if data is None else data, "comm_id": self.comm_id, **keys}
        request = context.current()
        self._subshell_id = request.subshell_id if request is not None else None
        if (question := _question(data)) is not None:
            Comms.asked[question] = self._subshell_id
            while len(Comms.asked) > ASKED_MAX:
                Comms.asked.popitem(last=False)
        frozen = tuple(_frozen(buffer) for buffer in buffers or ())
        Comm._send(msg_type, content, metadata=metadata or {}, buffers=frozen, topic=self.topic)


class Comms(CommManager):
    """The comms and targets of this process; `comm.get_comm_manager()` returns it."""

    kernel: Any = None
    comms: Any = None  # these two: also for mocks
    targets: Any = None
    asked: OrderedDict[str, str | None] = OrderedDict()  # questions without an answer yet, and which subshell asked

    def __init__(self, *, kernel: Any = None, **ignored: Any):
        """`kernel`: of somebody who has kernels of his own, as panel and solara have."""
        super().__init__()
        if kernel is not None:
            self.kernel = kernel

    def addressee(self, request: Request) -> str | None:
        """Return the subshell that a comm message is for. I/O thread; each look-up is atomic.

        The answer to a question (`content.id` in the data, as ipywidgets' custom messages have it) goes to who asked,
        which may wait for it; else the message goes to the subshell that spoke on this comm last, if one did; else to
        the one that its header names.
        """
        question = _question(request.content.get("data"))
        if question is not None and question in self.asked:
            return self.asked.pop(question, None)
        one = self.comms.get(str(request.content.get("comm_id")))
        return getattr(one, "_subshell_id", None) or request.subshell_id

    @door
    def handle(self, request: Request) -> None:
        """Give a comm_open, comm_msg or comm_close to the comm. Runs on the lane that the request addresses."""
        message = request.as_dict()
        message["content"].setdefault("data", {})
        try:
            getattr(self, request.msg_type)(None, None, message)
        except (Exception, KeyboardInterrupt):
            raise  # not of a callback, whose errors the `comm` package shows; or an interrupt
        except BaseException:  # `sys.exit()`, say
            _log.error("Exception in %s", request.msg_type, exc_info=True)
            if request.msg_type == "comm_open" and (opened := self.comms.get(message["content"]["comm_id"])):
                opened.close()

    def info(self, target_name: str | None = None) -> Content:
        """Return the content of comm_info_reply: all comms, or those of one target."""
        comms = {
            comm_id: {"target_name": one.target_name}
            for comm_id, one in list(self.comms.items())
            if target_name is None or one.target_name == target_name
        }
        return {"status": "ok", "comms": comms}


def _question(data: Any) -> str | None:
    """Return the id of a question, or of the answer to one."""
    content = data.get("content") if isinstance(data, dict) else None
    found = content.get("id") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def _frozen(buffer: Any) -> Any:
    """Return a buffer that nobody changes until it has been sent: a copy, if need be."""
    view = memoryview(buffer)
    return view if view.readonly and view.contiguous else view.tobytes()


class Guarded(ModuleType):
    """The `comm` package, which does not let ipykernel take its entry points over.

    ipykernel does that when `ipykernel.ipkernel` is imported, and sends the comms of its own kernel, which does not
    run: no widget would work from then on. Others may replace them.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("create_comm", "get_comm_manager"):
            if str(getattr(value, "__module__", "")).startswith("ipykernel."):
                return
        super().__setattr__(name, value)


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
    kind, comm.__class__ = comm.__class__, Guarded
    handler = _ToStderr(logging.WARNING)
    _log.addHandler(handler)
    propagate, _log.propagate = _log.propagate, False

    def undo() -> None:
        comm.__class__ = kind
        comm.create_comm, comm.get_comm_manager = before
        _log.removeHandler(handler)
        _log.propagate = propagate
        Comms.kernel = Comm.kernel = None
        Comm._send = None

    return manager, undo
