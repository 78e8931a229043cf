"""kernel: puts the parts together; `route` and `handle` serve a request. Ends nothing and interrupts nothing itself.

Threads: the main lane runs on the thread that calls `run`; control, language and each subshell have a lane of
their own; the I/O thread calls `route`. `busy`, replies and `idle` are written in `handle`, `_refuse` and
`answer_unserved`, and nowhere else.
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
from ipymini.execution.workers import Workers
from ipymini.frontend import streams
from ipymini.frontend.iopub import IOPub
from ipymini.frontend.stdin import Stdin
from ipymini.handlers import HANDLERS
from ipymini.interrupts import Interrupts
from ipymini.protocol import connection as connection_file
from ipymini.protocol import import_guard
from ipymini.protocol.connection import Connection
from ipymini.protocol.messages import (
    Content,
    KernelStopping,
    Message,
    Request,
    UnknownRequest,
    UnknownSubshell,
    error_content,
    reply_type,
)
from ipymini.protocol.originals import Future, __builtins__, logger, time  # noqa: F401
from ipymini.shutdown import Shutdown
from ipymini.subshells import Subshells

if TYPE_CHECKING:
    from ipymini.bridge import Bridge
    from ipymini.remote.registration import Registration

log = logger("ipymini.kernel")

LANGUAGE = frozenset(
    {"complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request"}
)
EARLY = frozenset({"kernel_info_request", "connect_request", "interrupt_request", "shutdown_request", "usage_request"})
SHELL_ONLY = LANGUAGE | {"execute_request"}  # run on a shell's lane whichever channel they come on
RESCUED = LANGUAGE | {"kernel_info_request", "connect_request"}  # do not wait for what blocks their lane
GRACE = 0.05  # seconds that a language request waits for its own lane
IDLE_SECOND = 1.0  # seconds of quiet after which slow imports are made in the background


class Kernel:
    """One kernel: its sockets, its lanes, and the rules that bind them."""

    def __init__(
        self,
        connection: Connection,
        *,
        file: Path | None = None,
        owns_file: bool = False,
        argv: Iterable[str] = (),
        user_ns: dict[str, Any] | None = None,
        user_module: Any = None,
        owns_process: bool = False,
    ):
        """Bind, on the thread that will `start` and `run`. Only the main thread has signals: on any other one the main
        lane is interrupted as a subshell's is.

        `owns_process`: descriptors are captured, and at the end exit functions run and children end. Without it there
        is a program around the kernel, to which belongs what no request has caused: its prints, its `input()`.
        """
        self.shutdown = Shutdown(self)
        self.channels = Channels(connection, self.route, ended=self.shutdown.on_io_ended, hurried=is_pending)
        self.connection = self.channels.connection  # with the ports that were chosen
        self.connection_file = file
        self.owned_file = file if owns_file else None  # removed at the end
        self._writes_file = owns_file or connection != self.connection
        self._for_shell = {"argv": list(argv), "user_ns": user_ns, "user_module": user_module}
        self.owns_process = owns_process
        self.iopub = IOPub(self.channels)
        self.stdin = Stdin(self.channels)
        self.interrupts = Interrupts(self)
        self.debug = DebugRequests(
            emit=lambda event: self.iopub.send("debug_event", event),
            namespace=lambda: self.bridge.shell.user_ns,
            interrupt=self.interrupts.send_to,
        )
        self.main = self.interrupts.main_lane()
        self.control = Lane("ipymini-control", self._serve_control)
        self.language = Lane("ipymini-language", self.handle)
        self.beside = Workers("ipymini-beside", self.channels.later)  # runs what the language lane is asked
        self.subshells = Subshells(self)
        self.descriptors: streams.Descriptors | None = None
        self._bridge: Bridge | None = None
        self.is_ready: Future[bool] = Future()  # IPython is there
        self.latest_control: Request | None = None  # for `compat.facade`; written by the control lane
        self.undo: list[Callable[[], object]] = []
        self._primes = False  # slow imports are made, or will be
        self._quiet_since = 0.0  # when the last cell ended

    @property
    def bridge(self) -> "Bridge":
        """IPython; only the lanes ask for it, and they wait until it is there."""
        assert self._bridge is not None
        return self._bridge

    # ---- life ----------------------------------------------------------------

    def start(self) -> None:
        """Bind, and answer what can be answered without IPython; then make IPython's shell on this thread."""
        if self.connection_file is not None and self._writes_file:
            connection_file.write(self.connection_file, self.connection)
        self.channels.start()
        registration = self._register() if self.connection.registration else None
        self.iopub.status("starting", parent=None)
        self.control.start()
        self.undo += [import_guard.install(), context.install()]
        self.undo.append(streams.install(self.channels, shared=not self.owns_process))
        self.interrupts.start()
        if self.owns_process:
            self.undo.append(signals.hurry(self.channels.watch, self.interrupts.send_second))
            self.descriptors = streams.Descriptors(self.channels)
            self.undo.append(self.descriptors.install())
        self.undo.append(signals.on_unraisable(on_swallowed))
        self.undo.append(self.stdin.install(shared=not self.owns_process))
        self.undo.append(breakpoint.install(lambda: self.debug.debugger))
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
            **self._for_shell,
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
        return any(lane.loop is loop for lane in (self.main, self.language, *self.subshells.every_lane()))

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
        elif request.msg_type in RESCUED and self._bridge is not None:
            self.channels.later(GRACE, lambda: self._rescue(lane, request))

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
        if here is not None and here not in (self.control, self.language):
            return here  # also of a subshell that has just been unlisted
        return self.subshells.lanes.get(request.subshell_id or "", self.main)

    def _rescue(self, lane: Lane, request: Request) -> None:
        """Something blocks the lane: completion, inspection and a new client's first words go elsewhere. I/O thread."""
        if request in lane.queue:
            self.language.start_once()  # first: it may fail where descriptors have run out, and the request waits on
        if lane.take(request):
            self.language.post(request)

    # ---- messages out ------------------------------------------------------------

    async def _serve_control(self, request: Request) -> None:
        """Serve one request of the control lane; they run side by side, but a client's debug_requests in turn."""
        if request.msg_type != "debug_request":
            await self.handle(request)
            return
        async with self.debug.turns.turn(request.session):
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
            content, frames = self._encode_reply(request, content, started)
            if executes:
                aborted = await self._fence(request, content or {})
                if self.descriptors is not None:
                    self.descriptors.catch_up()
            if frames is not None and not (executes and self.shutdown.is_terminated):
                self.channels.put(request.channel, frames)
        except GeneratorExit:  # the lane has ended before the cell, and `answer_unserved` says so
            is_closed = True
            raise
        finally:
            more_to_do = bool(executes and self.main.queue)
            if not is_closed:
                if executes and (lane := Lane.here()) is not None:
                    lane.answered(request)
                self.iopub.status("idle", parent=request, wake=not more_to_do)
        if more_to_do:  # a hand-over of the GIL for each cell would cost more than a short cell
            self.channels.soft_wake()
        for waiting in aborted:
            with context.handling(waiting):
                self._refuse(waiting, {"status": "aborted"})
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

    async def ask(self, request: Request, question: Callable[[], Content]) -> Content:
        """Return what a question is answered that may run user code: a `__dir__`, a `__repr__`.

        An interrupt ends it with KeyboardInterrupt, and beside a lane that is busy with another it holds up nobody.
        """
        if self.language.is_current_thread:
            return await self.beside.run(question)
        with self.lane_of(request).interruption.interruptible(request):
            return question()

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

    def reply(self, request: Request, content: Content | None) -> None:
        """Answer a request on its own channel, to the client that sent it. The I/O thread is woken by what follows."""
        _, frames = self._encode_reply(request, content, datetime.now(UTC))
        if frames is not None:
            self.channels.put(request.channel, frames)

    def _encode_reply(
        self, request: Request, content: Content | None, started: datetime
    ) -> tuple[Content | None, list[Any] | None]:
        """Return content and frames of the reply, which is an error if JSON cannot hold the content. None: no reply."""
        if content is None or not request.msg_type.endswith("_request"):
            return content, None
        try:
            return content, self.channels.encode(*self._reply_message(request, content, started))
        except BaseException as error:  # objects of the user's are in it, and their conversion is user code
            count = {"execution_count": content["execution_count"]} if "execution_count" in content else {}
            content = {**error_content(error), **count}
        return content, self.channels.encode(*self._reply_message(request, content, started))

    def _reply_message(
        self, request: Request, content: Content, started: datetime
    ) -> tuple[str, Message, tuple[bytes, ...]]:
        content = {"status": "ok", **content} if request.msg_type != "debug_request" else content
        metadata = None
        if request.msg_type == "execute_request":
            metadata = {
                "started": started.isoformat(),
                "dependencies_met": content.get("ename") != "UnmetDependency",
                "engine": self.iopub.ident,
                "status": content["status"],
            }
        message = Message(reply_type(request.msg_type), content, request.header_json, metadata)
        return request.channel, message, request.identities

    def answer_unserved(
        self, lane: Lane, error: BaseException, queued: BaseException | None = None, begun: Iterable[Request] = ()
    ) -> None:
        """Answer what a lane will not serve any more: what it has `begun`, or else has left unfinished, and its queue.

        `queued`: what the requests in its queue are told, if it is not `error`.
        """
        unfinished, lane.unfinished = lane.unfinished, []
        for request in begun or unfinished:  # they have said busy
            self.reply(request, error_content(error))
            self.iopub.status("idle", parent=request)
        for request in lane.withdraw():
            self._refuse(request, error_content(queued or error))

    def _refuse(self, request: Request, content: Content) -> None:
        """Answer a request that no handler will see."""
        self.iopub.status("busy", parent=request, wake=False)
        self.reply(request, content)
        self.iopub.status("idle", parent=request)

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
        return lane.withdraw("execute_request")

    def _afterwards(self, request: Request) -> None:
        if self.shutdown.stop_if_asked(request.msg_type) or request.msg_type != "execute_request":
            return
        self._quiet_since = time.monotonic()
        if not self._primes:
            self._primes = True
            self.channels.later(IDLE_SECOND, self._prime_when_idle)

    def _prime_when_idle(self) -> None:
        """Import what the first completion and the first traceback need, while nothing runs. I/O thread."""
        if self.shutdown.has_begun:
            return
        if self.main.is_occupied or time.monotonic() - self._quiet_since < IDLE_SECOND:
            self.channels.later(IDLE_SECOND, self._prime_when_idle)
            return
        self.beside.start(self.bridge.prime)


def _log_failure(msg_type: str) -> None:
    """Log the exception that is being handled; one of the user's may raise whatever is asked of it."""
    try:
        log.exception("handler failed msg_type=%s", msg_type)
    except BaseException:
        log.error("handler failed, and its traceback cannot be made msg_type=%s", msg_type)
