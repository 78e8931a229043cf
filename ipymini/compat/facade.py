"""facade: what third parties look for on `get_ipython().kernel`. Has no behaviour of its own.

The names are ipykernel's; each entry says who needs it. `Kernel` is what others subclass: an object of such a class
publishes with the `session` and the `iopub_socket` that it is given. `IPythonKernel` is ours.
"""

import asyncio
import builtins
import logging
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import comm
from traitlets.config import Application, Config, SingletonConfigurable

from ipymini.execution import context
from ipymini.frontend.streams import OutStream
from ipymini.protocol import kernel_info
from ipymini.protocol.messages import SESSION, Content, error_content


class IOPubSocket:
    """What a `jupyter_client` Session sends to instead of a socket. Any thread.

    It also stands for the thread that serves this socket: `kernel.iopub_thread`, `sys.stdout.pub_thread`.
    """

    closed = False

    def __init__(self, outbox: Any):
        self._outbox = outbox
        self.io_thread = self.socket = self

    def send_multipart(self, frames: Sequence[Any], *ignored: Any, **options: Any) -> None:
        """Publish a message that has been encoded and signed already."""
        self._outbox.send_frames("iopub", list(frames))

    def schedule(self, function: Callable[[], Any]) -> None:
        """Call a function on the I/O thread, after what has been published so far: ipyparallel."""
        self._outbox.call(function)

    def flush(self, timeout: float = 1.0) -> None:
        """Wait until what has been published is sent, but not longer than `timeout` seconds."""
        self._outbox.flush(timeout)


class Kernel(SingletonConfigurable):
    """`ipykernel.kernelbase.Kernel`: panel, solara and wrapper kernels subclass it. `instance()` returns ours."""

    implementation, implementation_version, banner = "ipython", "", ""
    language_info: Content = {}
    help_links: Any = ()
    profile_dir: Any = None
    shell: Any = None
    user_ns: Any = None
    user_module: Any = None
    eventloop: Any = None  # matplotlib and GUI toolkits set it
    session: Any = None
    iopub_socket: Any = None
    iopub_thread: Any = None
    shell_stream = control_stream = stdin_socket = debug_shell_socket = shell_channel_thread = None  # ipyparallel
    shell_streams: Any = ()
    ident, int_id = "", -1  # ipyparallel: which engine
    execution_count = 0
    processes: dict[int, Any] = {}
    shell_handlers: dict[str, Any] = {}  # this and the next lines: for mocks that take the class for a spec
    control_handlers: dict[str, Any] = {}
    msg_types: Sequence[str] = ()
    control_msg_types: Sequence[str] = ()
    control_thread: Any = None
    _aborting = False

    def __init__(self, **traits: Any):
        super().__init__(**traits)
        self.shell_handlers, self.control_handlers = {}, {}
        self._parents: dict[str, tuple[Any, Content]] = {}

    @cached_property
    def comm_manager(self) -> Any:
        """The comms of this process: pyviz_comms, ipyparallel, jupyter_bokeh, users. solara sets one of its own."""
        return comm.get_comm_manager()

    @property
    def kernel_info(self) -> Content:
        """The content of a kernel_info_reply, of a wrapper kernel."""
        names = ("implementation", "implementation_version", "language_info", "banner", "help_links")
        return {**kernel_info.kernel_info(), **{name: getattr(self, name) for name in names}}

    def get_parent(self, channel: str | None = None) -> Content:
        """Return the message that was set for a channel."""
        return self._parents.get(channel or "shell", (None, {}))[1]

    def set_parent(self, ident: Any, parent: Content, channel: str = "shell") -> None:
        """Remember the message that is being handled."""
        self._parents[channel] = (ident, parent)

    @property
    def _parent_header(self) -> Content:  # ipyvuetify, jupyter_ui_poll; a whole message, whatever its name says
        return self.get_parent()

    @property
    def _parent_ident(self) -> dict[str, Any]:  # jupyter_ui_poll
        return {channel: self._parents.get(channel, (b"", {}))[0] for channel in ("shell", "control")}

    def send_response(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Content | None = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Content | None = None,
        metadata: Content | None = None,
        channel: str | None = None,
    ) -> Any:
        """Send a message that what runs now has caused: ipywidgets' Output, wrapper kernels, users."""
        parent = self.get_parent(channel)
        return self.session.send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)

    def _topic(self, topic: str) -> bytes:
        return f"kernel.{self.ident}.{topic}".encode()

    def raw_input(self, prompt: str = "") -> str:
        """Ask the frontend for a line: wrapper kernels."""
        return input(str(prompt))

    def getpass(self, prompt: str = "", stream: Any = None) -> str:
        """Ask the frontend for a password."""
        from getpass import getpass

        return getpass(prompt)

    def pre_handler_hook(self) -> None:
        """Do nothing: spyder and others override it."""

    post_handler_hook = start = pre_handler_hook

    def do_execute(self, *arguments: Any, **options: Any) -> Any:
        """Raise NotImplementedError: this and its kin are what a wrapper kernel writes."""
        raise NotImplementedError

    do_complete = do_inspect = do_history = do_is_complete = do_shutdown = do_execute


class IPythonKernel(Kernel):
    """`get_ipython().kernel`. What is not named here is the kernel's own."""

    _kernel: Any = None

    def __init__(self, kernel: Any = None, handlers: Any = (), **traits: Any):
        """`handlers`: pairs of channel and msg_type. Without a kernel it is somebody's subclass."""
        super().__init__(**traits)
        self._kernel = kernel
        # jupyter_ui_poll puts its own execute_request here, to keep back the cells that its polling meets. Polling
        # meets none: executes stay in the queue, in order. So nobody looks at what is in here.
        for channel, name in handlers:
            table = self.shell_handlers if channel == "shell" else self.control_handlers
            table[name] = handlers[channel, name]
        self.msg_types, self.control_msg_types = list(self.shell_handlers), list(self.control_handlers)

    def __getattr__(self, name: str) -> Any:
        if self._kernel is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._kernel, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (getattr, (self.shell, "kernel")) if self.shell is not None else super().__reduce_ex__(protocol)

    # ---- who we are: IPython's %notebook, wandb, users -----------------------------------

    language_info = kernel_info.LANGUAGE_INFO
    implementation_version = property(lambda self: kernel_info.ipython_version())
    banner = property(lambda self: kernel_info.banner())
    help_links = property(lambda self: kernel_info.kernel_info()["help_links"])
    ident = property(lambda self: self._kernel.iopub.ident)
    execution_count = property(lambda self: self.shell.execution_count)
    log = logging.getLogger("ipymini.kernel")
    control_thread = property(lambda self: self._kernel.control.thread)
    profile_dir = property(lambda self: self.shell.profile_dir)

    # ---- the shell: wandb, VS Code, solara, param, users -----------------------------------

    @property
    def shell(self) -> Any:
        """IPython's shell; None until it is there."""
        bridge = getattr(self._kernel, "_bridge", None)
        return bridge.shell if bridge is not None else None

    @property
    def config(self) -> Any:  # type: ignore[override]
        """What `get_ipython().config` is: solara and users look for `IPKernelApp.connection_file` in it."""
        shell = self.shell
        return shell.config if shell is not None else Config()

    @property
    def parent(self) -> Any:  # type: ignore[override]
        """The IPKernelApp, or what takes its place: spyder, users."""
        return Application.instance() if self.shell is not None and Application.initialized() else None

    user_ns = property(lambda self: self.shell.user_ns, lambda self, names: setattr(self.shell, "user_ns", names))
    user_module = property(lambda self: self.shell.user_module)

    # ---- jupyter_client's execute_interactive (so nbclient and papermill in a notebook), and who copied it ----

    @cached_property
    def iopub_socket(self) -> IOPubSocket:
        """Where `session.send` publishes."""
        return IOPubSocket(self._kernel.outbox)

    iopub_thread = property(lambda self: self.iopub_socket)

    @cached_property
    def session(self) -> Any:
        """A Session of jupyter_client with this kernel's id and key; imported when asked for: it costs 115 ms."""
        from jupyter_client.session import Session

        wire = self._kernel.connection
        return Session(
            session=SESSION, username="kernel", key=wire.key.encode(), signature_scheme=wire.signature_scheme
        )

    # ---- whose request this is: jupyter_ui_poll, ipywidgets' Output, ipyvuetify, ipyparallel -------------

    @property
    def _parent_ident(self) -> dict[str, list[bytes]]:
        causes = {"shell": context.current(), "control": self._kernel.latest_control}
        return {channel: list(cause.identities) if cause is not None else [] for channel, cause in causes.items()}

    def get_parent(self, channel: str | None = None) -> Content:
        """Return the message that caused what runs now; of "control": the latest. Also ipywidgets' users."""
        cause = self._kernel.latest_control if channel == "control" else context.current()
        return context.Parent(cause) if cause is not None else {}

    def set_parent(self, ident: Any, parent: Content, channel: str = "shell") -> None:
        """Make `parent` the cause of what the calling thread or task does from now on. Also ipyvuetify."""
        if channel == "shell":
            context.pin_parent(parent)

    @property
    def _allow_stdin(self) -> bool:
        return self.get_parent().get("content", {}).get("allow_stdin") is True

    def _input_request(self, prompt: str, ident: Any = None, parent: Any = None, password: bool = False) -> str:
        return self.getpass(prompt) if password else builtins.input(prompt)  # users who ask from callbacks

    # ---- loops: jupyter_ui_poll, users of tornado --------------------------------------------

    async def do_one_iteration(self) -> None:
        """Handle one waiting message that is no execute_request. jupyter_ui_poll awaits it on a thread of its own.

        The cell waits for that thread, so the handler has the shell to itself, as if it ran on the cell's lane.
        """
        request = context.current()
        if request is not None:
            self._kernel.lane_of(request).serve_waiting(1)
        await asyncio.sleep(0)

    @property
    def io_loop(self) -> Any:
        """The main lane's loop, as tornado knows loops: for `add_callback` and the like, from any thread."""
        from tornado.ioloop import IOLoop
        from tornado.platform.asyncio import BaseAsyncIOLoop

        lane = self._kernel.main
        if threading.get_ident() == lane.ident:
            return IOLoop.current()
        return IOLoop._ioloop_for_asyncio.get(lane.loop) or BaseAsyncIOLoop(asyncio_loop=lane.loop)

    # ---- what handlers do, without a message: tests, kernels in kernels, users ------------------------

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        **about_cell: Any,
    ) -> Content:
        """Run code as a part of what runs now; return what an execute_reply would say of it."""
        shell = self.shell
        result = await shell.run_cell_async(
            code, store_history=store_history and not silent, silent=silent, transformed_cell=shell.transform_cell(code)
        )
        error = result.error_before_exec or result.error_in_exec
        content: Content = {"status": "ok", "execution_count": shell.execution_count - 1, "payload": []}
        if error is not None:
            content |= error_content(error)
        return {**content, "user_expressions": shell.user_expressions(user_expressions or {})}

    def do_complete(self, code: str, cursor_pos: int | None) -> Content:
        """Return the content of complete_reply."""
        return self._kernel.bridge.complete(code, len(code) if cursor_pos is None else cursor_pos)

    def do_inspect(self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()) -> Content:
        """Return the content of inspect_reply."""
        return self._kernel.bridge.inspect(code, cursor_pos, detail_level, omit_sections)

    def do_history(self, hist_access_type: str, output: bool, raw: bool, *where: Any, **options: Any) -> Content:
        """Return the content of history_reply."""
        return self._kernel.bridge.history(hist_access_type, output, raw, *where, **options)

    def do_is_complete(self, code: str) -> Content:
        """Return the content of is_complete_reply."""
        return self._kernel.bridge.is_complete(code)

    def do_clear(self) -> Content:
        """Empty the namespace."""
        self.shell.reset(False)
        return {"status": "ok"}

    def ask_exit(self) -> None:
        """Stop once the reply to this cell is on its way: the shell's `exit`."""
        self._kernel.shutdown.ask_exit()

    def do_shutdown(self, restart: bool) -> Content:
        """End this kernel after the cell; servers restart one that ends unasked: users who restart from a cell."""
        self._kernel.shutdown.begin(restart=restart)
        if context.own() is not None:
            self.ask_exit()
        else:
            self._kernel.stop()
        return {"status": "ok", "restart": restart}


def install(kernel: Any, handlers: dict[tuple[str, str], Any]) -> tuple[IPythonKernel, Callable[[], None]]:
    """Make what third parties take for the kernel; return it and the undo."""
    ours = IPythonKernel.instance(kernel, handlers)
    OutStream.kernel = ours

    def undo() -> None:
        OutStream.kernel = None
        IPythonKernel.clear_instance()

    return ours, undo
