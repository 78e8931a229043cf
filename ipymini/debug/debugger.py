"""debugger: the answer to each debug_request, by the name of its DAP command. Knows no sockets, no lanes.

A command gets the debugger and the arguments, returns the body of the response, and raises Refused to say no. What is
in `FORWARDED` goes to debugpy as it is. Commands run on the event loop of the control lane, side by side; what changes
the session (initialize, attach, disconnect, breakpoints) holds `turn` all the time. `session` says how none of them
blocks. To a frontend it is one DAP adapter that always answers.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from ipymini.debug import inspection
from ipymini.debug.adapter import DEADLINE, Message, Refused, body_of, response
from ipymini.debug.inspection import SLOW_DEADLINE
from ipymini.debug.pydevd_workarounds import forget_dead_threads, hide_service_threads
from ipymini.debug.session import Arguments, Body, Session, in_thread, said
from ipymini.debug.tracer import Stop, Tracer
from ipymini.execution import context
from ipymini.execution.stacks import Called
from ipymini.protocol.messages import IpyminiError, Request

log = logging.getLogger("ipymini.debug.debugger")

STRIKE_AFTER = 0.05  # seconds that a thread may take to leave its stop when it has been interrupted
HASH_SEED = 0xC70F6907  # of the murmur2 that names the files of cells: frontends compute the same names
SLOW = frozenset({"evaluate", "setVariable", "setExpression", "variables", "completions"})  # may run user code

# Passed on as they are. Everything else is in `COMMANDS`, or refused by name.
FORWARDED = frozenset(
    "exceptionInfo goto gotoTargets next pause setDebuggerProperty setExpression setVariable "
    "stackTrace stepIn stepInTargets stepOut completions".split()
)


class Debugger:
    """One debugger for one kernel; made on the loop of the control lane.

    For any thread: `interrupt` and `stop`. Everything else belongs to the loop.
    """

    def __init__(
        self,
        *,
        emit: Callable[[Message], None],
        namespace: Callable[[], dict[str, Any]],
        cell_file: Callable[[str], str],
        strike: Callable[[int], None],
    ):
        """`emit` publishes a debug_event: its parent is the cell that stopped, else the latest debug_request.

        `namespace`: the user's; `cell_file`: the path of a cell with this code; `strike` interrupts the thread of an
        ident.
        """
        self._emit, self.namespace, self.cell_file, self._strike = emit, namespace, cell_file, strike
        self._loop = asyncio.get_running_loop()
        self._serving: set[asyncio.Task[Any]] = set()
        self._is_stopped = False
        self._seq = itertools.count(1)
        self._cause: Request | None = None  # the latest debug_request
        self.turn = asyncio.Lock()  # what changes the session, or must not overtake such a change; fair
        self.tracer = Tracer()
        self.explorer = inspection.Explorer()
        self.dumped: set[str] = set()  # paths of cells that a frontend has dumped
        self.session = self._new_session()

    def _new_session(self) -> Session:
        return Session(self.tracer, self._on_event, self._on_lost)

    # ---- any thread ------------------------------------------------------------------

    def interrupt(self, ident: int, stack: Iterable[Called] = ()) -> bool:
        """Take over the interrupt of a thread that is stopped; it will leave its stop with KeyboardInterrupt.

        False: it is not stopped, or runs an evaluated expression just now (`stack`): interrupt it as usual.
        Takes no lock: may be called by a signal handler.
        """
        if ident not in self.tracer.stops or self._is_stopped:
            return False
        taken = self.tracer.holds(ident, stack)
        self._soon(lambda: self._release(ident))
        return taken

    def stop(self) -> None:
        """End the session, and the requests that wait for an answer. Not on the loop, which has to run still."""
        self._is_stopped = True
        self._soon(lambda: [task.cancel() for task in self._serving])
        self.session.stop(self._soon)
        for path in self.dumped:
            with suppress(OSError):  # the frontend has deleted it, or something else lies beside it
                os.unlink(path)
        for directory in {os.path.dirname(path) for path in self.dumped}:
            with suppress(OSError):
                os.rmdir(directory)

    def _soon(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has been closed: the kernel ends
            self._loop.call_soon_threadsafe(function)

    # ---- the loop: one request -------------------------------------------------------

    async def answer(self, content: Message) -> Message:
        """Return the DAP response to the content of a debug_request, also to nonsense."""
        self._cause = context.own() or self._cause
        task = context.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            body, refusal = await self._body(content), None
        except IpyminiError as no:
            body, refusal = no.body if isinstance(no, Refused) else {}, str(no)
        except Exception as error:
            log.exception("debug_request failed command=%s", content.get("command"))
            body, refusal = {}, said(error)
        finally:
            self._serving.discard(task)
        return response(content, next(self._seq), body, refusal=refusal)

    async def _body(self, content: Message) -> Body:
        name, arguments = content.get("command"), content.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise Refused("a debug_request needs a command (a string) and arguments (an object)")
        if (command := COMMANDS.get(name)) is not None:
            return await command(self, arguments)
        if name in FORWARDED:
            return await self.forward(name, arguments)
        raise Refused(f"unknown command {name!r}: this debugger knows {', '.join(sorted(FORWARDED | set(COMMANDS)))}")

    async def forward(self, name: str, arguments: Arguments) -> Body:
        """Ask debugpy. Raises Refused with debugpy's own words if it says no, and NoAnswer."""
        async with self.turn:
            answer = self.session.attached(name).send(name, arguments)
        return await body_of(answer, name, SLOW_DEADLINE if name in SLOW else DEADLINE)

    # ---- the loop: what happens ------------------------------------------------------

    def _on_event(self, event: Message) -> None:
        name, body = event.get("event", ""), event.get("body") or {}
        self.session.take(name, body)
        if name == "output" and "raised from within the callback set in sys.settrace" in str(body.get("output")):
            return  # an interrupt: tracing goes on at the next cell, whatever this says
        if name == "terminated":
            return  # `say_terminated` says so
        stopped = self.tracer.causes.get(body.get("threadId", 0)) if name in ("stopped", "continued") else None
        self._publish(event, stopped or self._cause)

    def _publish(self, event: Message, cause: Request | None) -> None:
        with context.handling(cause):
            self._emit({**event, "seq": next(self._seq)})

    def say_terminated(self) -> None:
        """Tell every frontend that the session has ended."""
        self._publish({"type": "event", "event": "terminated", "body": {}}, self._cause)

    def _on_lost(self) -> None:
        log.warning("debugpy has gone")
        self._losing = asyncio.ensure_future(self._lose())

    async def _lose(self) -> None:
        async with self.turn:
            await self.end_session()
        self.say_terminated()

    async def end_session(self) -> None:
        """Leave no session behind. Holding `turn`."""
        ended, self.session = self.session, self._new_session()
        await ended.end()

    def _release(self, ident: int) -> None:
        self.tracer.release(ident)
        if (stop := self.tracer.stops.get(ident)) is not None:
            self._loop.call_later(STRIKE_AFTER, self._strike_evaluation, ident, stop)

    def _strike_evaluation(self, ident: int, stop: Stop) -> None:
        """A thread that has not left its stop evaluates something: it had begun to when the interrupt came."""
        if self.tracer.stops.get(ident) is stop:
            self._strike(ident)


# ---- the session -----------------------------------------------------------------------


async def initialize(debugger: Debugger, arguments: Arguments) -> Body:
    """Start debugpy if it does not run yet. Body: the capabilities, debugpy's and ours."""
    about_client = {"adapterID": "ipymini", "pathFormat": "path", "linesStartAt1": True, "columnsStartAt1": True}
    async with debugger.turn:
        adapter = await debugger.session.connect()
        body = await adapter.ask("initialize", {**about_client, **arguments})
        if debugger.session.is_attached:
            # A frontend that was reloaded starts from the beginning; what runs must not wait for it.
            await adapter.ask("configurationDone", {})
    # The debuggee is the kernel: to end it is for shutdown_request, not for a debugger.
    return {**body, "supportTerminateDebuggee": False}


async def attach(debugger: Debugger, arguments: Arguments) -> Body:
    """Begin to trace, with all breakpoints that came before. Answered when a breakpoint would stop a cell."""
    async with debugger.turn:
        await debugger.session.attach(arguments)
    return {}


async def configuration_done(debugger: Debugger, arguments: Arguments) -> Body:
    """Nothing: attach has done it, since frontends do not agree on when to send this."""
    return {}


async def disconnect(debugger: Debugger, arguments: Arguments) -> Body:
    """End the session, not the kernel: everything runs on, nothing is traced any more, breakpoints are forgotten.

    The event `terminated` says so to every frontend: JupyterLab's buttons would still offer what has ended.
    """
    async with debugger.turn:
        was_there = debugger.session.adapter is not None
        await debugger.session.ask_to_end()
        await debugger.end_session()
        if was_there:
            debugger.say_terminated()
    return {}


async def debug_info(debugger: Debugger, arguments: Arguments) -> Body:
    """What a frontend needs to find its way back in. Always available."""
    async with debugger.turn:  # so that it tells of what was asked before
        session = debugger.session
    return {
        "isStarted": session.adapter is not None,
        "hashMethod": "Murmur2",
        "hashSeed": HASH_SEED,
        "tmpFilePrefix": os.path.dirname(debugger.cell_file("")) + os.sep,
        "tmpFileSuffix": ".py",
        "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in session.breakpoints.items()],
        "stoppedThreads": sorted(session.stopped_threads),
        "richRendering": True,
        "exceptionPaths": ["Python Exceptions"],
        "copyToGlobals": True,
    }


# ---- cells and breakpoints -------------------------------------------------------------


async def dump_cell(debugger: Debugger, arguments: Arguments) -> Body:
    """Write a cell's code where its compiled code says it comes from. Body: {sourcePath}."""
    code = arguments.get("code")
    if not isinstance(code, str):
        raise Refused("dumpCell needs the code of a cell (a string)")

    def write() -> Body:
        path = debugger.cell_file(code)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # whatever the umask is
        with open(handle, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(code)
        debugger.dumped.add(path)
        return {"sourcePath": path}

    return await in_thread(write, "dumpCell")


async def set_breakpoints(debugger: Debugger, arguments: Arguments) -> Body:
    """Set the breakpoints of one file, instead of those it had. Before attach they are kept until then."""
    place, wanted = arguments.get("source"), arguments.get("breakpoints") or []
    if not isinstance(place, dict) or not isinstance(place.get("path"), str) or not isinstance(wanted, list):
        raise Refused("setBreakpoints needs source.path (a string) and breakpoints (a list)")
    async with debugger.turn:
        return await debugger.session.set_breakpoints(arguments)


async def set_function_breakpoints(debugger: Debugger, arguments: Arguments) -> Body:
    """Stop where functions of these names begin."""
    async with debugger.turn:
        return await debugger.session.set_other_breakpoints("setFunctionBreakpoints", {"breakpoints": [], **arguments})


async def set_exception_breakpoints(debugger: Debugger, arguments: Arguments) -> Body:
    """Stop at exceptions. To debugpy none that a cell raises is uncaught, for IPython catches them all: to us it is."""
    filters = list(arguments.get("filters") or [])
    debugger.tracer.stop_where_a_cell_fails = "uncaught" in filters and "userUnhandled" not in filters
    if debugger.tracer.stop_where_a_cell_fails:
        filters.append("userUnhandled")
    async with debugger.turn:
        return await debugger.session.set_other_breakpoints(
            "setExceptionBreakpoints", {**arguments, "filters": filters}
        )


# ---- running ---------------------------------------------------------------------------


async def continue_(debugger: Debugger, arguments: Arguments) -> Body:
    """Let everything run that is stopped (or one thread, with singleThread)."""
    nudging = asyncio.ensure_future(_nudge(debugger.tracer))
    try:
        return await debugger.forward("continue", arguments)
    finally:
        nudging.cancel()
        debugger.tracer.nudge()


async def _nudge(tracer: Tracer) -> None:
    """Wake the stopped threads: debugpy changes their state, and they look for themselves every 200 ms only."""
    for pause in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        await asyncio.sleep(pause)
        tracer.nudge()


async def threads(debugger: Debugger, arguments: Arguments) -> Body:
    """The user's threads."""
    forget_dead_threads()
    hide_service_threads()
    return await debugger.forward("threads", arguments)


Command = Callable[[Debugger, Arguments], Awaitable[Body]]
COMMANDS: dict[str, Command] = {
    "initialize": initialize,
    "attach": attach,
    "configurationDone": configuration_done,
    "disconnect": disconnect,
    "terminate": disconnect,
    "debugInfo": debug_info,
    "dumpCell": dump_cell,
    "setBreakpoints": set_breakpoints,
    "setFunctionBreakpoints": set_function_breakpoints,
    "setExceptionBreakpoints": set_exception_breakpoints,
    "continue": continue_,
    "threads": threads,
    "source": inspection.source,
    "modules": inspection.modules,
    "scopes": inspection.scopes,
    "variables": inspection.variables,
    "inspectVariables": inspection.inspect_variables,
    "evaluate": inspection.evaluate,
    "richInspectVariables": inspection.rich_inspect_variables,
    "copyToGlobals": inspection.copy_to_globals,
}
