"""kernel: puts the parts together: `route`, `handle`, `interrupt`, `stop`, subshells. Does little itself.

Threads: the main lane runs on the thread that calls `run`; control, language and each subshell have a lane of
their own; the I/O thread calls `route` and the deadline. `busy`, replies and `idle` are written in `handle` and
`_refuse`, and nowhere else.
"""

import atexit
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from ipymini import cells
from ipymini.debug import breakpoint
from ipymini.execution import context, loops, processes, signals, waits
from ipymini.execution.channels import Channels
from ipymini.execution.lane import Lane, is_awaited
from ipymini.execution.stacks import Called
from ipymini.execution.workers import Workers
from ipymini.frontend import streams
from ipymini.frontend.iopub import IOPub
from ipymini.frontend.stdin import INTERRUPTED, Stdin
from ipymini.handlers import HANDLERS
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
from ipymini.protocol.originals import Future, __builtins__, logger, os, signal, threading, time  # noqa: F401

if TYPE_CHECKING:
    from ipymini.bridge import Bridge
    from ipymini.debug.debugger import Debugger
    from ipymini.debug.turns import Turns
    from ipymini.remote.registration import Registration

log = logger("ipymini.kernel")

LANGUAGE = frozenset(
    {"complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request"}
)
EARLY = frozenset({"kernel_info_request", "connect_request", "interrupt_request", "shutdown_request", "usage_request"})
SHELL_ONLY = LANGUAGE | {"execute_request"}  # run on a shell's lane whichever channel they come on
RESCUED = LANGUAGE | {"kernel_info_request", "connect_request"}  # do not wait for what blocks their lane
COMM_ANSWERS = frozenset({"comm_msg", "comm_close"})  # may belong to another subshell than their header says
PATIENCE = 0.1  # seconds that a debug_request waits for the one before it
GRACE = 0.05  # seconds that a language request waits for its own lane
FAREWELL = 0.5  # seconds between the reply to a cell that says `exit` and the end
DEADLINE = 0.9  # seconds that running cells may hold up a shutdown
OWN_SIGNAL = 2.0  # seconds within which our own SIGINT is handled, unless C code holds the main thread or ignores it
SUBSHELL_DEADLINE = 0.2  # seconds that each other lane may hold it up when the main shell has ended
LAST_WORDS = 0.3  # seconds that the control lane has for its last replies
LAST_DEADLINE = 1.8  # seconds that exit functions may hold it up
INSIST = 1.0  # seconds between the interrupts of a cell whose subshell has been deleted
PRESSING = 0.1  # seconds between the interrupts of what runs while the kernel stops
IDLE_SECOND = 1.0  # seconds of quiet after which slow imports are made in the background

Value = TypeVar("Value")


class Kernel:
    """One kernel: its sockets, its lanes, and the rules that bind them.

    Shared fields: `subshells` is replaced, never changed (the I/O thread reads it bare); `_stopping` is set
    once, under `_once`.
    """

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
        self.channels = Channels(connection, self.route, ended=self._io_ended, hurried=is_awaited)
        self._wanted, self.connection = connection, self.channels.connection  # with the ports that were chosen
        self.connection_file = file
        self._owns_file = owns_file
        self._argv, self._user_ns, self._user_module = list(argv), user_ns, user_module
        self._owns_process = owns_process
        self.iopub = IOPub(self.channels)
        self.stdin = Stdin(self.channels)
        self._has_signals = threading.current_thread() is threading.main_thread()
        self.main = (
            Lane("ipymini-main", self.handle, look_again=self._look_again, held=self._held)
            if self._has_signals
            else self._lane_without_signals("ipymini-main")
        )
        self.control = Lane("ipymini-control", self._serve_control)
        self.language = Lane("ipymini-language", self.handle)
        self.beside = Workers("ipymini-beside", self.channels.later)  # runs what the language lane is asked
        self.subshells: dict[str, Lane] = {}
        self.detours: dict[str, str] = {}  # client session -> the subshell that its cells go to for now; replaced
        self.descriptors: streams.Descriptors | None = None
        self._bridge: Bridge | None = None
        self.is_ready: Future[bool] = Future()  # IPython is there
        self._debugger: Debugger | None = None
        self._turns: Turns | None = None  # of clients that debug
        self.latest_control: Request | None = None  # for `compat.facade`; written by the control lane
        self._undo: list[Any] = []
        self._once = threading.Lock()
        self._stopping = False
        self._restart = False
        self._exit_asked = False
        self._terminated = False  # by SIGTERM or SIGHUP
        self._priming = False
        self._quiet_since = 0.0  # when the last cell ended
        self._lanes_ended = False
        self._had_subshells = self._waits_are_cut = False
        self._leaving: dict[str, Lane] = {}  # deleted subshells whose lanes have not ended yet; replaced
        self._struck_until = 0.0  # until then (monotonic) a SIGINT is taken for ours: child lanes have had theirs
        self._dying = self._said_goodbye = False

    # ---- IPython and the debugger --------------------------------------------------

    @property
    def bridge(self) -> "Bridge":
        """IPython; only the lanes ask for it, and they wait until it is there."""
        assert self._bridge is not None
        return self._bridge

    @property
    def debugger(self) -> "Debugger":
        """The debugger, imported at the first debug_request."""
        if self._debugger is None:
            from ipymini.debug.debugger import Debugger
            from ipymini.ipython.compiler import cell_file

            self._debugger = Debugger(
                emit=lambda event: self.iopub.send("debug_event", event),
                namespace=lambda: self._bridge.shell.user_ns if self._bridge is not None else {},
                cell_file=cell_file,
                strike=self._strike,
            )
        return self._debugger

    def enter_cell(self) -> None:
        """Let the debugger put the calling lane's thread in order, before it runs a cell."""
        if self._debugger is not None:
            self._debugger.enter_cell()

    def take_strike(self) -> bool:
        """Whether the calling lane's thread was interrupted in the debugger, at the exception that ends its cell."""
        return self._debugger is not None and self._debugger.take_strike()

    def _held(self, ident: int, stack: Iterable[Called]) -> bool:
        return self._debugger is not None and self._debugger.interrupt(ident, stack)

    def _strike(self, ident: int) -> None:
        """Interrupt one lane, by its thread: what the debugger asks for where a stopped thread evaluates something."""
        if ident == self.main.ident and self._has_signals:
            self._struck_until = time.monotonic() + OWN_SIGNAL
            signal.pthread_kill(ident, signal.SIGINT)
        for lane in self._without_signals():
            if lane.ident == ident:
                lane.interrupt()

    # ---- life ----------------------------------------------------------------

    def start(self) -> None:
        """Bind, and answer what can be answered without IPython; then make IPython's shell on this thread."""
        if self.connection_file is not None and (self._owns_file or self._wanted != self.connection):
            connection_file.write(self.connection_file, self.connection)
        self.channels.start()
        registration = self._register() if self.connection.registration else None
        self.iopub.status("starting", parent=None)
        self.control.start()
        self._undo += [import_guard.install(), context.install()]
        self._undo.append(streams.install(self.channels, shared=not self._owns_process))
        if not self._has_signals:
            self._cut_waits()
        if self._owns_process:
            self._undo.append(signals.hurry(self.channels.watch, lambda: self.main.ident))
            self.descriptors = streams.Descriptors(self.channels)
            self._undo.append(self.descriptors.install())
        self._undo.append(signals.try_again(self._strike_again))
        self._undo.append(self.stdin.install(shared=not self._owns_process))
        self._undo.append(breakpoint.install(lambda: self._debugger))
        self._undo.append(loops.install(self._is_our_loop))
        from ipymini.bridge import Bridge
        from ipymini.compat import facade, ipykernel_names

        known, undo = facade.install(self, HANDLERS)
        self._undo += [undo, ipykernel_names.install()]
        self._bridge = Bridge(
            iopub=self.iopub,
            stdin=self.stdin,
            argv=self._argv,
            connection_file=str(self.connection_file.absolute()) if self.connection_file else None,
            user_ns=self._user_ns,
            user_module=self._user_module,
            kernel=known,
        )
        self._undo.append(self._bridge.uninstall)
        self.is_ready.set_result(True)
        cells.serve(self)
        self._undo.append(lambda: cells.serve(None))
        if registration is not None:
            registration.wait()

    def _register(self) -> "Registration":
        """Tell the launcher our ports. JEP 66."""
        from ipymini.remote.registration import Registration

        registration = Registration(self.connection)
        registration.send()
        return registration

    def _is_our_loop(self, loop: Any) -> bool:
        return any(lane.loop is loop for lane in (self.main, self.language, *self._children()))

    def run(self) -> None:
        """Serve on this thread until the kernel is asked to stop; then put everything away."""
        if self._exit_asked:
            self.stop()
        try:
            self.main.run()
        finally:
            self._close()

    def close(self) -> None:
        """Put everything away without having run: `start` has failed. On its thread."""
        self._close()

    def begin_stopping(self, *, restart: bool = False) -> bool:
        """Take no new work from now on. Return the restart flag, of the first call. Any thread."""
        with self._once:
            if not self._stopping:
                self._stopping, self._restart = True, restart
        return self._restart

    def stop(self) -> None:
        """End what runs, and `run` with it. Any thread; does not wait. A second call is harmless."""
        self.begin_stopping()
        self.channels.later(DEADLINE, lambda: None if self._lanes_ended else self._die())
        self.channels.later(LAST_DEADLINE, self._die)
        self.channels.call(self._press_on)

    def on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGHUP: stop in good order; a cell that runs now has no result, neither ok nor an error.

        Who watches the process (nbclient, papermill, servers) then says that the kernel died, and takes no half-run
        notebook for a whole one.
        """
        self._terminated = True
        self.channels.call(self.stop)

    def _press_on(self) -> None:
        """Interrupt until the main lane has ended: user code may catch one, or be between two cells. I/O thread."""
        if not self._lanes_ended:
            self._press_once()
            self.channels.later(PRESSING, self._press_on)

    def _press_once(self) -> None:
        self.stdin.abandon_all(KernelStopping("the kernel shuts down"))
        for lane in (self.main, self.language, *self._children()):
            lane.stop()
        self.interrupt(children=False)

    def _close(self) -> None:
        """The end of the ladder, on the main lane's thread; whatever fails on the way, our children end last."""
        try:
            self._put_everything_away()
        finally:
            if self._owns_process:
                processes.end_group()

    def _put_everything_away(self) -> None:
        """Waiting requests, debugger and IPython, exit functions, last words, sockets."""
        self.begin_stopping()
        children = self._children()
        self.beside.interrupt()
        self.language.stop()
        for lane in (*children, *([self.language] if self.language.thread else [])):
            lane.join(SUBSHELL_DEADLINE)  # their last replies leave before the sockets close
        self._lanes_ended = True
        for lane in (self.main, self.language, self.control, *children):
            lane.stop()
            self._answer_unfinished(lane, KernelStopping("the kernel shuts down: start it again"))
            for request in lane.withdraw():
                self._refuse(request, error_content(KernelStopping("the kernel shuts down: start it again")))
        if self._debugger is not None:
            self._debugger.stop()
        self.control.join(LAST_WORDS)  # a debug_request that waited has its answer now
        if self._bridge is not None:
            self._bridge.shutdown()
        if self._owns_process:
            self.channels.keep_frames()
            atexit._run_exitfuncs()
        self._say_goodbye()
        self.channels.close()
        for undo in reversed(self._undo):
            undo()

    def _say_goodbye(self) -> None:
        """Publish shutdown_reply and remove the connection file, once: `_die` may come when the end has begun."""
        with self._once:
            if self._said_goodbye:
                return
            self._said_goodbye = True
        content = {"status": "ok", "restart": self._restart}
        self.iopub.send("shutdown_reply", content, topic=f"kernel.{self.iopub.ident}.shutdown".encode(), parent=None)
        if self._owns_file and self.connection_file is not None:
            self.connection_file.unlink(missing_ok=True)

    def _die(self) -> None:
        """User code has held up the shutdown for too long. I/O thread."""
        log.warning("user code held up the shutdown")
        self._dying = True
        stopping = error_content(KernelStopping("the kernel shuts down: start it again"))
        for lane in (self.main, self.language, *self._children()):
            for request in lane.running:
                self.reply(request, stopping)
                self.iopub.status("idle", parent=request)
            for request in lane.withdraw():
                self._refuse(request, stopping)
        self._say_goodbye()
        self.channels.begin_closing()

    def _io_ended(self, crashed: bool) -> None:
        """The sockets are closed. On the I/O thread, as its last act."""
        if self._owns_process and (crashed or self._dying):
            processes.end_group()
            os._exit(1 if crashed else 0)
        if crashed:  # the process is a program's, which goes on
            self._end_lanes()

    def _end_lanes(self) -> None:
        """End what runs, and `run` with it, now that no timer can do it. On the I/O thread, as its last act."""
        self.begin_stopping()
        while not (self._lanes_ended or self.main.join(PRESSING)):
            self._press_once()

    # ---- messages in -----------------------------------------------------------

    def route(self, request: Request) -> None:
        """Give a request to its lane. On the I/O thread: takes no lock that user code can hold."""
        if request.channel == "stdin":
            self.stdin.answer(request)
            return
        detour = self.detours.get(request.session)  # looked up once: other threads replace the table
        if detour is not None and request.msg_type == "execute_request" and not request.subshell_id:
            request = _sent_to(detour, request)
        elif request.msg_type in COMM_ANSWERS and self._had_subshells:
            target = self.bridge.comms.addressee(request)
            if target is None or target in self.subshells:  # else it has been deleted since
                request = _sent_to(target, request)
        lane = self._lane_for(request)
        if not lane.post(request):
            self.control.post(request)  # it ended as we looked: control says that it is unknown
        elif request.msg_type in RESCUED and self._bridge is not None:
            self.channels.later(GRACE, lambda: self._rescue(lane, request))

    def _lane_for(self, request: Request) -> Lane:
        if request.channel == "control" and request.msg_type not in SHELL_ONLY:
            return self.control
        if self._stopping or (self._bridge is None and request.msg_type in EARLY):
            return self.control
        if request.subshell_id is None:
            return self.main
        return self.subshells.get(request.subshell_id, self.control)  # control says that it is unknown

    def lane_of(self, request: Request) -> Lane:
        """Return the lane that a cell's request is served on: the one of this thread, if it is one."""
        here = Lane.here()
        if here is not None and here not in (self.control, self.language):
            return here  # also of a subshell that has just been unlisted
        return self.subshells.get(request.subshell_id or "", self.main)

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
        if self._turns is None:
            from ipymini.debug.turns import Turns

            self._turns = Turns(PATIENCE)
        async with self._turns.turn(request.session):
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
            if frames is not None and not (executes and self._terminated):
                self.channels.put(request.channel, frames)
        except GeneratorExit:  # the lane has ended before the cell, and `_answer_unfinished` says so
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
            return error_content(KernelStopping("the kernel shuts down: start it again"))
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
        with self.lane_of(request).interruptible(request):
            return question()

    async def _answer(self, request: Request) -> Content | None:
        handler = HANDLERS.get((request.channel, request.msg_type))
        if handler is None:
            raise UnknownRequest(f"no {request.msg_type!r} on the {request.channel} channel: see the table in README")
        if self._stopping and request.msg_type != "shutdown_request":
            raise KernelStopping("the kernel shuts down: start it again")
        for_a_shell = request.channel == "shell" or request.msg_type in SHELL_ONLY
        if for_a_shell and request.subshell_id and self.control.is_current_thread:
            raise _unknown(request.subshell_id)
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

    def _answer_unfinished(self, lane: Lane, error: BaseException) -> None:
        """Answer the cells that would not end with their lane: they have said busy."""
        unfinished, lane.unfinished = lane.unfinished, []
        for request in unfinished:
            self.reply(request, error_content(error))
            self.iopub.status("idle", parent=request)

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
        if request.msg_type == "shutdown_request":
            self.stop()
        elif self._exit_asked:
            # jupyter console reads a reply, and asks for no more input, only from a kernel whose process lives.
            self.begin_stopping()
            self.channels.later(FAREWELL, self.stop)
        elif request.msg_type == "execute_request":
            self._quiet_since = time.monotonic()
            if not self._priming:
                self._priming = True
                self.channels.later(IDLE_SECOND, self._prime_when_idle)

    def _prime_when_idle(self) -> None:
        """Import what the first completion and the first traceback need, while nothing runs. I/O thread."""
        if self._stopping:
            return
        if self.main.is_occupied or time.monotonic() - self._quiet_since < IDLE_SECOND:
            self.channels.later(IDLE_SECOND, self._prime_when_idle)
            return
        self.beside.start(self.bridge.prime)

    def ask_exit(self) -> None:
        """`exit` was called in a cell, or at the start: stop once its reply is on its way."""
        self._exit_asked = True

    # ---- interrupts ----------------------------------------------------------------

    def on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGINT: end what runs on every lane. Takes no lock; child lanes are left to the I/O thread."""
        ours, self._struck_until = time.monotonic() < self._struck_until, 0.0
        if (self.subshells or self._leaving or self.language.thread) and not ours and not self.main.is_looking_again:
            self.channels.call_first(self._interrupt_children)
        self.main.on_sigint(signum, frame)

    def _strike_again(self) -> bool:
        """An interrupt has been swallowed on this thread: interrupt its cell once more; return whether there is one."""
        lane, request = Lane.here(), context.own()
        return lane is not None and request is not None and lane.was_interrupted(request) and lane.strike_again()

    @property
    def is_running(self) -> bool:
        """Whether an interrupt would end something."""
        return self.beside.is_running or any(lane.is_running for lane in (self.main, *self._children()))

    def interrupt(self, *, children: bool = True) -> None:
        """End what runs on every lane; nothing if nothing runs. Any thread.

        `children`: the processes of our group get the signal too, if we lead it.
        """
        busy = self._interrupt_children()
        if not self._has_signals:
            if self.main.is_running:
                self.main.interrupt()
            return
        leads = children and self._owns_process and os.getpgid(0) == os.getpid()
        if not (self.main.is_running or (busy and leads)):
            return
        self._struck_until = time.monotonic() + OWN_SIGNAL
        if leads:
            os.killpg(os.getpid(), signal.SIGINT)
        elif self.main.ident is not None:
            signal.pthread_kill(self.main.ident, signal.SIGINT)

    def _interrupt_children(self) -> bool:
        """End what runs on child lanes, and beside all lanes; return whether a child lane has something."""
        self.beside.interrupt()
        busy = [lane for lane in self._children() if lane.is_running]
        for lane in busy:
            lane.interrupt()
        return bool(busy)

    def _end_waits(self, lane: Lane, requests: list[Request]) -> None:
        """End waits of a child lane that no exception reaches: for an answer, or inside `asyncio.run`."""
        self.stdin.abandon(requests, KeyboardInterrupt(INTERRUPTED))
        loops.wake(lane.ident)

    def _children(self) -> list[Lane]:
        """Return the lanes of all subshells, those that are on their way out included."""
        return [*self.subshells.values(), *self._leaving.values()]

    def _without_signals(self) -> list[Lane]:
        return self._children() if self._has_signals else [self.main, *self._children()]

    def _lane_without_signals(self, name: str, ended: Callable[[Lane], None] = lambda lane: None) -> Lane:
        """Make a lane that runs cells on a thread that gets no signals."""
        lane = Lane(
            name,
            self.handle,
            runs_cells=True,
            held=self._held,
            later=self.channels.later,
            end_waits=lambda requests: self._end_waits(lane, requests),
            ended=lambda: ended(lane),
        )
        return lane

    def _cut_waits(self) -> None:
        """Let interrupts end the waits of lanes without signals. Once."""
        if not self._waits_are_cut:
            self._waits_are_cut = True
            self._undo.append(waits.install())

    def _look_again(self, seconds: float) -> None:
        self.channels.later(seconds, self._signal_again)

    def _signal_again(self) -> None:
        if self.main.prepare_another_look() and self.main.ident is not None:
            signal.pthread_kill(self.main.ident, signal.SIGINT)

    # ---- subshells -------------------------------------------------------------------

    def subshell_ids(self) -> list[str]:
        """Return the ids of the open subshells."""
        return list(self.subshells)

    def open_subshell(self) -> str:
        """Make a lane with a run state of its own; it serves when this returns. Any lane."""
        subshell_id = os.urandom(16).hex()
        self._had_subshells = True
        self._cut_waits()
        self.bridge.open_subshell(subshell_id)
        lane = self._lane_without_signals(
            f"ipymini-subshell-{subshell_id[:4]}", ended=lambda lane: self._subshell_ended(subshell_id, lane)
        )
        try:
            lane.start()
        except BaseException:
            self.bridge.close_subshell(subshell_id)
            raise
        with self._once:
            self.subshells = {**self.subshells, subshell_id: lane}
        return subshell_id

    def delete_subshell(self, subshell_id: str, *, gently: bool = False) -> None:
        """Unlist a subshell, interrupt it (`gently`: let it finish its cells) and let its lane end. Any lane.

        Raises UnknownSubshell. Does not wait: the lane answers what it holds, and forgets its state, as its last act.
        """
        with self._once:
            lane = self.subshells.get(subshell_id)
            if lane is None:
                raise _unknown(subshell_id)
            self._leaving = {**self._leaving, subshell_id: lane}
            self.subshells = _without(self.subshells, subshell_id)
        if gently:
            lane.stop_when_idle()
        else:
            lane.stop()  # first: the cell behind the one that is struck must not start
            self._insist(lane)

    def _insist(self, lane: Lane) -> None:
        """Interrupt a deleted subshell's cell until it has ended: nobody else would, and it may catch some."""
        if not lane.join(0):
            lane.interrupt()
            self.channels.later(INSIST, lambda: self._insist(lane))

    def detour(self, session: str) -> tuple[str, Callable[[], None]]:
        """Send what a client executes from now on to a new subshell; return its id and the undo. Any lane."""
        subshell_id = self.open_subshell()
        with self._once:
            before = self.detours.get(session)
            self.detours = {**self.detours, session: subshell_id}

        def undo() -> None:
            with self._once:
                if self.detours.get(session) == subshell_id:
                    self.detours = _without(self.detours, session)
                    if before in self.subshells:
                        self.detours = {**self.detours, session: str(before)}
                is_open = subshell_id in self.subshells
            if is_open:  # else a client has deleted it
                self.delete_subshell(subshell_id, gently=True)

        return subshell_id, undo

    def _subshell_ended(self, subshell_id: str, lane: Lane) -> None:
        """Answer what a deleted subshell still held, and forget its run state. On its thread, as its last act."""
        self._answer_unfinished(lane, KeyboardInterrupt("the subshell was deleted, and its cell would not end"))
        for request in lane.withdraw():
            self._refuse(request, error_content(_unknown(subshell_id)))
        self.bridge.close_subshell(subshell_id)
        with self._once:
            self._leaving = _without(self._leaving, subshell_id)


def _log_failure(msg_type: str) -> None:
    """Log the exception that is being handled; one of the user's may raise whatever is asked of it."""
    try:
        log.exception("handler failed msg_type=%s", msg_type)
    except BaseException:
        log.error("handler failed, and its traceback cannot be made msg_type=%s", msg_type)


def _without(table: dict[str, Value], key: str) -> dict[str, Value]:
    return {other: value for other, value in table.items() if other != key}


def _sent_to(subshell_id: str | None, request: Request) -> Request:
    """Return the request for another subshell. Only our view of its header changes: answers repeat it as it came."""
    if subshell_id == request.subshell_id:
        return request
    return replace(request, header={**request.header, "subshell_id": subshell_id})


def _unknown(subshell_id: str) -> UnknownSubshell:
    return UnknownSubshell(f"Unknown subshell_id {subshell_id!r}")
