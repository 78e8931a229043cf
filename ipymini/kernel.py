"""kernel: puts the parts together; `route` and `handle` serve a request. Ends nothing and interrupts nothing itself.

Threads: the main lane runs on the thread that calls `run`; control, language and each subshell have a lane of
their own; the I/O thread calls `route`. `busy`, replies and `idle` are written in `handle` and in `replies`,
and nowhere else.
"""

from asyncio import CancelledError
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipymini import cells
from ipymini.debug import breakpoint
from ipymini.debug.requests import DebugRequests
from ipymini.execution import context, loops, signals
from ipymini.execution.channels import Channels
from ipymini.execution.interruption import is_pending, on_swallowed
from ipymini.execution.lane import Lane
from ipymini.frontend import streams
from ipymini.frontend.descriptors import Descriptors
from ipymini.frontend.iopub import IOPub
from ipymini.frontend.stdin import Stdin
from ipymini.handlers import HANDLERS
from ipymini.protocol import connection as connection_file
from ipymini.protocol import import_guard
from ipymini.protocol.connection import Connection
from ipymini.protocol.messages import (
    Content,
    KernelStopping,
    Request,
    UnknownRequest,
    UnknownSubshell,
    error_content,
)
from ipymini.protocol.originals import Future, __builtins__, logger  # noqa: F401
from ipymini.serving.interrupts import Interrupts
from ipymini.serving.preload import Preload
from ipymini.serving.questions import LANGUAGE, Questions
from ipymini.serving.replies import Replies
from ipymini.serving.shutdown import Shutdown
from ipymini.serving.subshells import Subshells

if TYPE_CHECKING:
    from ipymini.bridge import Bridge
    from ipymini.remote.registration import Registration

log = logger("ipymini.kernel")

EARLY = frozenset({"kernel_info_request", "connect_request", "interrupt_request", "shutdown_request", "usage_request"})
SHELL_ONLY = LANGUAGE | {"execute_request"}  # run on a shell's lane whichever channel they come on


class Kernel:
    """One kernel: its sockets, its lanes, and the rules that bind them."""

    def __init__(
        self,
        connection: Connection,
        *,
        file: Path | None = None,
        owns_file: bool = False,
        owns_process: bool = False,
    ):
        """Bind, on the thread that will `start` and `run`. Only the main thread has signals: on any other one the main
        lane is interrupted as a subshell's is.

        `owns_process`: descriptors are captured, and at the end exit functions run and children end. Without it a
        program surrounds the kernel and owns what no request has caused: its prints, its `input()`.
        """
        self.shutdown = Shutdown(self)
        self.channels = Channels(connection, self.route, ended=self.shutdown.on_io_ended, is_interrupted=is_pending)
        self.outbox = self.channels.outbox
        self.connection = self.channels.connection  # with the ports that were chosen
        self.connection_file = file
        self.owned_file = file if owns_file else None  # removed at the end
        self._writes_file = owns_file or connection != self.connection
        self.owns_process = owns_process
        self.iopub = IOPub(self.outbox)
        self.stdin = Stdin(self.channels)
        self.replies = Replies(self.outbox, self.iopub)
        self.interrupts = Interrupts(self)
        self.debug = DebugRequests(
            emit=lambda event: self.iopub.send("debug_event", event),
            namespace=lambda: self.bridge.shell.user_ns,
            interrupt=self.interrupts.send_to,
        )
        self.main = self.interrupts.main_lane()
        self.control = Lane("ipymini-control", self._serve_control)
        self.questions = Questions(self)
        self.subshells = Subshells(self)
        self.descriptors: Descriptors | None = None
        self._bridge: Bridge | None = None
        self.is_ready: Future[bool] = Future()  # IPython is there
        self.latest_control: Request | None = None  # for `compat.facade`; written by the control lane
        self.undo: list[Callable[[], object]] = []
        self.preload = Preload(self)

    @property
    def bridge(self) -> "Bridge":
        """IPython; only the lanes ask for it, and they wait until it is there."""
        assert self._bridge is not None
        return self._bridge

    # ---- life ----------------------------------------------------------------

    def start(
        self, *, argv: Iterable[str] = (), user_ns: dict[str, Any] | None = None, user_module: Any = None
    ) -> None:
        """Answer what can be answered without IPython; then make IPython's shell on this thread.

        `argv`: options for IPython. `user_ns`, `user_module`: the namespace of cells, and the module it is of.
        """
        if self.connection_file is not None and self._writes_file:
            connection_file.write(self.connection_file, self.connection)
        self.channels.start()
        registration = self._register() if self.connection.registration else None
        self.iopub.status("starting", parent=None)
        self.control.start()
        self.undo += [import_guard.install(), context.install()]
        self.undo.append(streams.install(self.outbox, shared=not self.owns_process))
        self.interrupts.start()
        if self.owns_process:
            self.undo.append(signals.handle_soon(self.channels.watch, self.interrupts.send_second))
            self.descriptors = Descriptors(self.channels)
            self.undo.append(self.descriptors.install())
        self.undo.append(signals.on_unraisable(on_swallowed))
        self.undo.append(self.stdin.install(shared=not self.owns_process))
        self.undo.append(breakpoint.install(lambda: self.debug.tracer))
        self.undo.append(loops.install(self._is_our_loop))
        from ipymini.bridge import Bridge
        from ipymini.compat import facade, ipykernel_names

        known, undo = facade.install(self, HANDLERS)
        self.undo += [undo, ipykernel_names.install()]
        self._bridge = Bridge(
            iopub=self.iopub,
            stdin=self.stdin,
            connection_file=str(self.connection_file.absolute()) if self.connection_file else None,
            kernel=known,
            argv=list(argv),
            user_ns=user_ns,
            user_module=user_module,
        )
        self.undo.append(self._bridge.uninstall)
        self.is_ready.set_result(True)
        cells.serve(self)
        self.undo.append(lambda: cells.serve(None))
        if registration is not None:
            registration.wait()

    def _register(self) -> "Registration":
        """Tell the launcher our ports. JEP 66."""
        from ipymini.remote.registration import Registration

        registration = Registration(self.connection)
        registration.send()
        return registration

    def _is_our_loop(self, loop: Any) -> bool:
        return any(lane.loop is loop for lane in (self.main, self.questions.lane, *self.subshells.every_lane()))

    def run(self) -> None:
        """Serve on this thread until the kernel is asked to stop; then put everything away."""
        if self.shutdown.exit_asked:
            self.stop()
        try:
            self.main.run()
        finally:
            self.close()

    def stop(self) -> None:
        """End what runs, and `run` with it. Any thread; does not wait. A second call is harmless."""
        self.shutdown.stop()

    def close(self) -> None:
        """Put everything away. On the kernel's thread, when the main lane has ended, or `start` has failed."""
        self.shutdown.close(self._bridge.shutdown if self._bridge is not None else None)

    # ---- messages in -----------------------------------------------------------

    def route(self, request: Request) -> None:
        """Give a request to its lane. On the I/O thread: takes no lock that user code can hold."""
        if request.channel == "stdin":
            self.stdin.answer(request)
            return
        request = self.subshells.addressed(request)
        lane = self._lane_for(request)
        if not lane.post(request):
            self.control.post(request)  # it ended as we looked: control says that it is unknown
        elif self._bridge is not None:
            self.questions.wait_for(lane, request)

    def _lane_for(self, request: Request) -> Lane:
        if request.channel == "control" and request.msg_type not in SHELL_ONLY:
            return self.control
        if self.shutdown.has_begun or (self._bridge is None and request.msg_type in EARLY):
            return self.control
        if request.subshell_id is None:
            return self.main
        return self.subshells.lanes.get(request.subshell_id, self.control)  # control says that it is unknown

    def lane_of(self, request: Request) -> Lane:
        """Return the lane that a cell's request is served on: the one of this thread, if it is one."""
        here = Lane.here()
        if here is not None and here not in (self.control, self.questions.lane):
            return here  # also of a subshell that has just been unlisted
        return self.subshells.lanes.get(request.subshell_id or "", self.main)

    # ---- messages out ------------------------------------------------------------

    async def _serve_control(self, request: Request) -> None:
        """Serve one request of the control lane; they run side by side, but a client's debug_requests in turn."""
        if request.msg_type == "debug_request":
            await self.debug.turn(request.session)
        await self.handle(request)

    async def handle(self, request: Request) -> None:
        """Serve one request on its lane: busy, the handler, the reply, idle. Never raises."""
        executes = request.msg_type == "execute_request"
        if executes and self.main.is_current_thread:
            context.set_latest(request)
        elif request.channel == "control":
            self.latest_control = request
        # execute_input, which follows at once, wakes the I/O thread; or, if the content is bad, idle does.
        self.iopub.status("busy", parent=request, wake=not executes)
        started = datetime.now(UTC)
        aborted: list[Request] = []
        is_closed = False
        try:
            content = await self._content_of(request)
            content, frames = self.replies.encode(request, content, started)
            if executes:
                aborted = await self._fence(request, content or {})
                if self.descriptors is not None:
                    self.descriptors.catch_up()
            if frames is not None and not (executes and self.shutdown.is_terminated):
                self.outbox.put(request.channel, frames)
        except GeneratorExit:  # the lane has ended before the cell, and `answer_unserved` says so
            is_closed = True
            raise
        finally:
            more_to_do = bool(executes and self.main.queue)
            if not is_closed:
                if executes and (lane := Lane.here()) is not None:
                    lane.queue.answered(request)
                self.iopub.status("idle", parent=request, wake=not more_to_do)
        if more_to_do:  # a hand-over of the GIL for each cell would cost more than a short cell
            self.outbox.soft_wake()
        for waiting in aborted:
            with context.handling(waiting):
                self.replies.refuse(waiting, {"status": "aborted"})
        self._afterwards(request)

    async def _content_of(self, request: Request) -> Content | None:
        """Return the content of the reply: the handler's, or what its error says. Raises nothing."""
        try:
            return await self._answer(request)
        except KeyboardInterrupt:
            return error_content(KeyboardInterrupt())
        except GeneratorExit:
            raise
        except CancelledError:  # the debugger ends before it has an answer
            return error_content(KernelStopping())
        except BaseException as error:  # also SystemExit: user code in a handler ends its request, not the kernel
            if not issubclass(type(error), UnknownRequest | UnknownSubshell | KernelStopping):
                _log_failure(request.msg_type)
            return error_content(error)

    async def _answer(self, request: Request) -> Content | None:
        handler = HANDLERS.get((request.channel, request.msg_type))
        if handler is None:
            raise UnknownRequest(f"no {request.msg_type!r} on the {request.channel} channel: see the table in README")
        if self.shutdown.has_begun and request.msg_type != "shutdown_request":
            raise KernelStopping
        for_a_shell = request.channel == "shell" or request.msg_type in SHELL_ONLY
        if for_a_shell and request.subshell_id and self.control.is_current_thread:
            raise self.subshells.unknown(request.subshell_id)
        return await handler(self, request)

    async def _fence(self, request: Request, content: Content) -> list[Request]:
        """After an error: take back the execute_requests that had arrived by now, those in the socket included."""
        if content.get("status") != "error" or request.content.get("silent") is True:
            return []
        if request.content.get("stop_on_error") is False:
            return []
        lane = self.lane_of(request)
        if lane.is_stopping:
            return []  # they are answered, all of them, when it has ended
        await self.channels.caught_up()
        return lane.queue.withdraw("execute_request")

    def _afterwards(self, request: Request) -> None:
        if self.shutdown.stop_if_asked(request.msg_type) or request.msg_type != "execute_request":
            return
        self.preload.cell_ended()


def _log_failure(msg_type: str) -> None:
    """Log the exception that is being handled; one of the user's may raise whatever is asked of it."""
    try:
        log.exception("handler failed msg_type=%s", msg_type)
    except BaseException:
        log.error("handler failed, and its traceback cannot be made msg_type=%s", msg_type)
