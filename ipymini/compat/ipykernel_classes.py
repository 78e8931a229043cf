"""ipykernel_classes: the comms and the JSON functions of ipykernel. Imported on demand.

`ipykernel_names` gives these the names that they are known by.
"""

from typing import Any

from ipymini.ipython import comms
from ipymini.protocol.messages import Content

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
