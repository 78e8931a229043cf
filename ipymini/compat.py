"""compat: what third parties reach for on `get_ipython().kernel`. Has no behaviour of its own.

The names are ipykernel's; each entry says who needs it, and hands on.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from typing import Any

from ipymini import context
from ipymini.messages import SESSION, Content, Request


class IOPubSocket:
    """What a `jupyter_client` Session sends to, in the place of a socket: from any thread."""

    def __init__(self, channels: Any):
        self._channels = channels

    def send_multipart(self, frames: Sequence[Any], *ignored: Any, **options: Any) -> None:
        """Publish a message that has been encoded and signed already."""
        self._channels.send_frames("iopub", list(frames))


class IPythonKernel:
    """`get_ipython().kernel`. What is not named here is the kernel's own."""

    def __init__(self, kernel: Any, handlers: dict[tuple[str, str], Any]):
        """`handlers`: by (channel, msg_type)."""
        self._kernel = kernel
        # jupyter_ui_poll puts its own execute_request here, to keep back the cells that its polling meets. Polling
        # meets none: executes stay in the queue, in order. So nobody looks at what is in here.
        self.shell_handlers: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            msg_type: handler for (channel, msg_type), handler in handlers.items() if channel == "shell"
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    # ---- jupyter_client's execute_interactive (so nbclient and papermill in a notebook), and who copied it ----

    @cached_property
    def iopub_socket(self) -> IOPubSocket:
        """Where `session.send` publishes."""
        return IOPubSocket(self._kernel.channels)

    @cached_property
    def session(self) -> Any:
        """A Session of jupyter_client with this kernel's id and key; imported when asked for: it costs 115 ms."""
        from jupyter_client.session import Session

        about = self._kernel.connection
        return Session(
            session=SESSION, username="kernel", key=about.key.encode(), signature_scheme=about.signature_scheme
        )

    # ---- jupyter_ui_poll ---------------------------------------------------------------

    @property
    def _parent_ident(self) -> dict[str, list[bytes]]:
        causes = {channel: self._cause(channel) for channel in ("shell", "control")}
        return {channel: list(cause.identities) if cause is not None else [] for channel, cause in causes.items()}

    def get_parent(self, channel: str | None = None) -> Content:
        """Return the message that caused what runs now; of "control": the latest. Also ipywidgets' users."""
        if channel == "control":
            cause = self._cause(channel)
            return cause.as_dict() if cause is not None else {}
        parent: Content = self._kernel.bridge.shell.get_parent()
        return parent

    def _cause(self, channel: str) -> Request | None:
        latest: Request | None = self._kernel.latest_control
        return latest if channel == "control" else context.current()

    def set_parent(self, ident: Any, parent: Content, channel: str = "shell") -> None:
        """Make `parent` the cause of what the calling thread or task does from now on. Also ipyvuetify."""
        self._kernel.bridge.shell.set_parent(parent)

    async def do_one_iteration(self) -> None:
        """Handle one waiting message that is no execute_request. jupyter_ui_poll awaits it on a thread of its own.

        The cell waits for that thread, so the handler has the shell to itself, as if it ran on the cell's lane.
        """
        request = context.current()
        if request is not None:
            self._kernel.lane_of(request).serve_waiting(1)
        await asyncio.sleep(0)
