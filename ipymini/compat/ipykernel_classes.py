"""ipykernel_classes: what users of ipykernel call and subclass beside kernel and shell. Imported on demand.

`ipykernel_names` gives these the names that they are known by.
"""

import os
from typing import Any

from IPython.core.application import BaseIPythonApplication
from traitlets import default
from traitlets.config import Config

from ipymini.compat.facade import IPythonKernel
from ipymini.ipython import comms
from ipymini.protocol.messages import Content

# ---- ipykernel.kernelapp ----------------------------------------------------------------


def _port(channel: str) -> property:
    return property(lambda self: self.ports[channel])


class IPKernelApp(BaseIPythonApplication):
    """The application that runs this kernel, for who asks for its kernel or its connection file; begins nothing."""

    name = "ipython-kernel"
    kernel = property(lambda self: IPythonKernel._instance)
    shell = property(lambda self: self.kernel.shell)
    session = property(lambda self: self.kernel.session)
    iopub_socket = property(lambda self: self.kernel.iopub_socket)
    profile_dir = property(lambda self: self.shell.profile_dir)
    ipython_dir = property(lambda self: self.shell.ipython_dir)
    ip = property(lambda self: self.kernel.connection.ip)
    transport = property(lambda self: self.kernel.connection.transport)
    ports = property(lambda self: dict(self.kernel.connection.ports))
    shell_port, iopub_port, stdin_port, control_port, hb_port = map(_port, ("shell", "iopub", "stdin", "control", "hb"))
    user_ns = property(lambda self: self.kernel.user_ns)
    iopub_thread = property(lambda self: self.kernel.iopub_thread)
    control_thread = property(lambda self: self.kernel.control_thread)

    @property
    def config(self) -> Any:  # type: ignore[override]
        """What `get_ipython().config` is."""
        is_ours = self is IPKernelApp._instance  # else, or before that, it would configure itself by all of it
        return self.kernel.config if is_ours and self.kernel is not None else Config()

    @default("log")
    def _log_default(self) -> Any:
        return IPythonKernel.log

    @property
    def abs_connection_file(self) -> str:
        """The path of the connection file; "" if there is none."""
        return str(self.config["IPKernelApp"]["connection_file"])

    connection_file = abs_connection_file
    connection_dir = property(lambda self: os.path.dirname(self.connection_file))

    def initialize(self, argv: Any = None) -> None:
        """Do nothing: the kernel runs already."""

    def start(self) -> None:
        """Do nothing: the kernel runs already."""


launch_new_instance = IPKernelApp.launch_instance

# ---- ipykernel.comm ---------------------------------------------------------------------


class BaseComm(comms.Comm):
    """A comm that may have been given a kernel of its own: panel does that, and solara."""

    def __init__(self, *arguments: Any, kernel: Any = None, **options: Any):
        if kernel is not None:
            self.kernel = kernel
        super().__init__(*arguments, **options)

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        """Publish a comm message on the wire of this comm's kernel."""
        other = self.kernel
        if other is None or other is comms.Comm.kernel:
            super().publish_msg(msg_type, data, metadata, buffers, **keys)
            return
        content = {"data": {} if data is None else data, "comm_id": self.comm_id, **keys}
        parent = other.get_parent()
        other.session.send(other.iopub_socket, msg_type, content, parent, self.topic, buffers, metadata=metadata or {})


class Comm(BaseComm):
    """`ipykernel.comm.Comm`: bokeh, pyviz_comms (panel, holoviews), matplotlib's nbagg and ipyparallel make them."""

    def __init__(
        self,
        target_name: str = "",
        data: Any = None,
        metadata: Any = None,
        buffers: Any = None,
        show_warning: Any = None,
        **options: Any,
    ):
        super().__init__(target_name=target_name or "comm", data=data, metadata=metadata, buffers=buffers, **options)


# ---- ipykernel.jsonutil -----------------------------------------------------------------


def json_clean(obj: Any) -> Any:
    """Return the object: what becomes JSON is the encoder's matter since jupyter_client 7."""
    return obj


def encode_images(format_dict: Content) -> Content:
    """Return the mime bundle: images in it are text already."""
    return format_dict
