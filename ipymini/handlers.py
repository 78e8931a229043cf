"""handlers: one function per request type; the table `HANDLERS` says which. Sends nothing itself.

A handler gets the kernel and the request, returns the reply's content (None: this type has no reply), and
raises to say no. `Kernel.handle` writes busy, the reply and idle.
"""

from asyncio import wrap_future
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ipymini.execution import processes
from ipymini.protocol.kernel_info import kernel_info
from ipymini.protocol.messages import Content, Request
from ipymini.protocol.originals import __builtins__  # noqa: F401

if TYPE_CHECKING:
    from ipymini.kernel import Kernel

Handler = Callable[["Kernel", Request], Awaitable[Content | None]]
HANDLERS: dict[tuple[str, str], Handler] = {}

BOTH = ("shell", "control")


def handles(msg_type: str, *, on: str | tuple[str, ...]) -> Callable[[Handler], Handler]:
    """Register the handler of a request type on one or more channels."""

    def register(handler: Handler) -> Handler:
        for channel in (on,) if isinstance(on, str) else on:
            HANDLERS[channel, msg_type] = handler
        return handler

    return register


# ---- about the kernel --------------------------------------------------------


@handles("kernel_info_request", on=BOTH)
async def kernel_info_request(kernel: "Kernel", request: Request) -> Content:
    """What this kernel is. Spec: "Kernel info". Answered before IPython has been imported."""
    return kernel_info()


@handles("connect_request", on=BOTH)
async def connect_request(kernel: "Kernel", request: Request) -> Content:
    """The ports of this kernel. Spec: "Connect"."""
    return {f"{channel}_port": port for channel, port in kernel.connection.ports.items()}


@handles("usage_request", on="control")
async def usage_request(kernel: "Kernel", request: Request) -> Content:
    """CPU and memory of the kernel and its children, as the kernel-usage panel of JupyterLab asks for."""
    return processes.report()


# ---- code --------------------------------------------------------------------


@handles("execute_request", on=BOTH)
async def execute_request(kernel: "Kernel", request: Request) -> Content:
    """Run a cell. Spec: "Execute". Reply: {status, execution_count, payload, user_expressions} or an error."""
    silent = request.flag("silent", default=False)
    lane = kernel.lane_of(request)
    if request.flag("allow_stdin", default=False):
        kernel.stdin.allow(request)
    kernel.debug.enter_cell()
    try:
        return await kernel.bridge.execute(
            request.text("code"),
            silent=silent,
            store_history=request.flag("store_history", default=not silent) and not silent,
            user_expressions=request.mapping("user_expressions", default={}),
            cell_id=request.metadata.get("cellId"),
            cell_meta=request.metadata,
            interruptible=lambda: lane.interruption.interruptible(request),
            interrupted=lambda: lane.interruption.struck(request),
            take_strike=kernel.debug.take_strike,
        )
    finally:
        kernel.stdin.disallow(request)


@handles("complete_request", on=BOTH)
async def complete_request(kernel: "Kernel", request: Request) -> Content:
    """What could stand at the cursor. Spec: "Completion". `cursor_pos` counts code points; without: the end.

    Interrupted, it is nothing, and no error: frontends ask while the user types, and would show it.
    """
    code = request.text("code")
    cursor = max(0, min(request.integer("cursor_pos", default=len(code)), len(code)))
    try:
        return await kernel.questions.ask(request, lambda: kernel.bridge.complete(code, cursor))
    except KeyboardInterrupt:
        return {"matches": [], "cursor_start": cursor, "cursor_end": cursor, "metadata": {}}


@handles("inspect_request", on=BOTH)
async def inspect_request(kernel: "Kernel", request: Request) -> Content:
    """Documentation for the object under the cursor. Spec: "Introspection".

    Reply: {status, found: bool, data: mime bundle, metadata}. An unknown name is `found: False`, not an error; so is
    one whose inspection is interrupted.
    """
    code = request.text("code")
    cursor, detail_level = request.integer("cursor_pos", default=len(code)), request.integer("detail_level", default=0)
    omit_sections = request.content.get("omit_sections") or ()
    try:
        return await kernel.questions.ask(
            request, lambda: kernel.bridge.inspect(code, cursor, detail_level=detail_level, omit_sections=omit_sections)
        )
    except KeyboardInterrupt:
        return {"found": False, "data": {}, "metadata": {}}


@handles("is_complete_request", on=BOTH)
async def is_complete_request(kernel: "Kernel", request: Request) -> Content:
    """Whether the code can run as it is. Spec: "Code completeness". An input transformer may be the user's."""
    code = request.text("code")
    try:
        return await kernel.questions.ask(request, lambda: kernel.bridge.is_complete(code))
    except KeyboardInterrupt:
        return {"status": "unknown"}


@handles("history_request", on=BOTH)
async def history_request(kernel: "Kernel", request: Request) -> Content:
    """Earlier inputs. Spec: "History". Reply: {status, history: [[session, line, input or [input, output]]]}."""
    request.text("hist_access_type")
    return kernel.bridge.history(**request.content)


# ---- comms -------------------------------------------------------------------


@handles("comm_info_request", on=BOTH)
async def comm_info_request(kernel: "Kernel", request: Request) -> Content:
    """The open comms, of one target_name or all. Spec: "Comm info"."""
    return kernel.bridge.comm_info(request.content.get("target_name"))


async def _comm(kernel: "Kernel", request: Request) -> None:
    """Give a message to its comm, or open or close one. Spec: "Custom Messages"; it has no reply."""
    request.text("comm_id")
    with kernel.lane_of(request).interruption.interruptible(request):
        kernel.bridge.comms.handle(request)


for _msg_type in ("comm_open", "comm_msg", "comm_close"):
    handles(_msg_type, on="shell")(_comm)


# ---- life --------------------------------------------------------------------


@handles("interrupt_request", on=BOTH)
async def interrupt_request(kernel: "Kernel", request: Request) -> Content:
    """End what runs, in all subshells. Spec: "Kernel interrupt"."""
    kernel.interrupts.send()
    return {}


@handles("shutdown_request", on=BOTH)
async def shutdown_request(kernel: "Kernel", request: Request) -> Content:
    """Shut down, once the reply is on its way. Spec: "Kernel shutdown". The first `restart` flag wins."""
    return {"restart": kernel.shutdown.begin(restart=request.flag("restart", default=False))}


# ---- subshells (JEP 91) ------------------------------------------------------


@handles("create_subshell_request", on="control")
async def create_subshell_request(kernel: "Kernel", request: Request) -> Content:
    """Make a subshell; it is ready when the reply comes."""
    await wrap_future(kernel.is_ready)
    return {"subshell_id": kernel.subshells.open()}


@handles("delete_subshell_request", on="control")
async def delete_subshell_request(kernel: "Kernel", request: Request) -> Content:
    """End a subshell, also a busy one; requests that it still holds are answered."""
    kernel.subshells.delete(request.text("subshell_id"))
    return {}


@handles("list_subshell_request", on="control")
async def list_subshell_request(kernel: "Kernel", request: Request) -> Content:
    """The ids of the open subshells; the key is singular in the JEP."""
    return {"subshell_id": list(kernel.subshells.lanes)}


# ---- the debugger ------------------------------------------------------------


@handles("debug_request", on="control")
async def debug_request(kernel: "Kernel", request: Request) -> Content:
    """One request of the Debug Adapter Protocol; the reply's content is its response. Spec: "Debug request"."""
    await wrap_future(kernel.is_ready)
    return await kernel.debug.answer(request.content)
