"""commands: what each DAP command does, one function each; the table `COMMANDS` says which. Sends no reply itself.

A command gets the debugger and the arguments, returns the body of the response, and raises to say no. What is in
`FORWARDED` goes to debugpy as it is. A command that changes the session holds `debugger.turn` all the time.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipymini.debug import dap
from ipymini.debug.adapter import Adapter, NoAnswer, answer_of
from ipymini.debug.pydevd_workarounds import forget_dead_threads, hide_service_threads
from ipymini.protocol.messages import IpyminiError

if TYPE_CHECKING:
    from ipymini.debug.debugger import Debugger

Arguments = dict[str, Any]
Body = dict[str, Any]
Command = Callable[["Debugger", Arguments], Awaitable[Body]]

HASH_SEED = 0xC70F6907  # of the murmur2 that names the files of cells: frontends compute the same names
SLOW_DEADLINE = 60.0  # seconds for debugpy to answer where user code may have to run first
SLOW = frozenset({"evaluate", "setVariable", "setExpression", "variables", "completions"})
START_DEADLINE = 20.0  # seconds to import debugpy and to connect
LEAVE_DEADLINE = 2.0  # seconds for debugpy to say goodbye
EXCLUDED = ("ipymini", "IPython", "traitlets", "comm", "zmq", "tornado", "debugpy")  # never stepped into, never shown

# Passed on as they are. Everything else is done here, or refused by name.
FORWARDED = frozenset(
    "exceptionInfo goto gotoTargets next pause setDebuggerProperty setExpression setVariable "
    "stackTrace stepIn stepInTargets stepOut completions".split()
)

COMMANDS: dict[str, Command] = {}


class Refused(IpyminiError):
    """A request cannot be granted; the text is what the user reads."""

    def __init__(self, message: str, body: Body | None = None):
        super().__init__(message)
        self.body = body or {}


def command(name: str) -> Callable[[Command], Command]:
    """Register who does a command here."""

    def register(function: Command) -> Command:
        COMMANDS[name] = function
        return function

    return register


def granted(response: dict[str, Any]) -> Body:
    """Return the body of debugpy's answer. Raises Refused if it says no."""
    body = response.get("body") or {}
    if not response.get("success"):
        raise Refused(str(response.get("message") or "debugpy refused, and did not say why"), body)
    return dict(body)


# ---- the session -------------------------------------------------------------------


@command("initialize")
async def initialize(debugger: "Debugger", arguments: Arguments) -> Body:
    """Start debugpy if it does not run yet. Body: the capabilities, debugpy's and ours."""
    async with debugger.turn:
        if debugger.session.adapter is None:
            await _connect(debugger)
        assert debugger.session.adapter is not None
        complete = {
            "adapterID": "ipymini",
            "pathFormat": "path",
            "linesStartAt1": True,
            "columnsStartAt1": True,
            **arguments,
        }
        body = granted(await debugger.session.adapter.ask("initialize", complete, debugger.deadline))
        if debugger.session.is_attached:
            # A frontend that was reloaded starts from the beginning; what runs must not wait for it.
            granted(await debugger.session.adapter.ask("configurationDone", {}, debugger.deadline))
        # The debuggee is the kernel: to end it is for shutdown_request, not for a debugger.
        return {**body, "supportTerminateDebuggee": False}


async def _connect(debugger: "Debugger") -> None:
    adapter = Adapter(debugger.on_event, debugger.on_lost)
    connecting = debugger.thread_for(lambda: debugger.tracer.connect(adapter.port), "connect")
    accepting = asyncio.ensure_future(adapter.accept())
    try:
        await asyncio.wait({connecting, accepting}, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        if not accepting.done():
            if connecting.done():
                connecting.result()
            raise NoAnswer(f"debugpy has not connected within {START_DEADLINE:g} s")
        peer = accepting.result()
        granted(await adapter.ask("pydevdAuthorize", {"debugServerAccessToken": None}, debugger.deadline))
        debugger.tracer.adopt(peer)
    except BaseException:
        accepting.cancel()
        adapter.close()
        raise
    debugger.undo = _keep_leading_lines()
    debugger.session.adapter, debugger.session.connecting = adapter, connecting


@command("attach")
async def attach(debugger: "Debugger", arguments: Arguments) -> Body:
    """Begin to trace, with all breakpoints that came before. Answered when a breakpoint would stop a cell."""
    async with debugger.turn:
        adapter = debugger.session.adapter
        if adapter is None:
            raise Refused("nothing to attach to: send initialize first")
        debugger.session.initialized.clear()
        granted(await adapter.ask("attach", _attach_arguments(arguments), debugger.deadline))
        await answer_of(asyncio.ensure_future(debugger.session.initialized.wait()), "attach", debugger.deadline)  # type: ignore[arg-type]
        if not debugger.session.is_attached:
            for path, breakpoints in list(debugger.session.breakpoints.items()):
                await _send_breakpoints(debugger, adapter, {"source": {"path": path}, "breakpoints": breakpoints})
            for name, kept_arguments in debugger.session.kept.items():
                granted(await adapter.ask(name, kept_arguments, debugger.deadline))
        granted(await adapter.ask("configurationDone", {}, debugger.deadline))
        if debugger.session.connecting is not None:
            await answer_of(debugger.session.connecting, "attach", START_DEADLINE)  # type: ignore[arg-type]
            debugger.session.connecting = None
        debugger.session.is_attached = True
        return {}


def _attach_arguments(asked: Arguments) -> Arguments:
    rules = [{"path": str(Path(path).parent), "include": False} for path in map(file_of, EXCLUDED) if path]
    return {
        "justMyCode": True,
        "stopAllThreadsOnSuspend": False,  # completion, comms and the other subshells go on
        "steppingResumesAllThreads": False,
        "redirectOutput": False,
        **asked,
        "rules": [*rules, *(asked.get("rules") or [])],
    }


def file_of(module: str) -> str | None:
    """Return the file that a module was loaded from, if it was loaded, and from one."""
    return getattr(sys.modules.get(module), "__file__", None)


@command("configurationDone")
async def configuration_done(debugger: "Debugger", arguments: Arguments) -> Body:
    """Nothing: attach has done it, since frontends do not agree on when to send this."""
    return {}


@command("disconnect")
async def disconnect(debugger: "Debugger", arguments: Arguments) -> Body:
    """End the session: everything runs on, nothing is traced any more, breakpoints are forgotten.

    The event `terminated` says so to every frontend: JupyterLab's buttons would still offer what has ended.
    """
    async with debugger.turn:
        was_there = debugger.session.adapter is not None
        if debugger.session.adapter is not None:
            try:
                leaving = debugger.session.adapter.send("disconnect", {"restart": False, "terminateDebuggee": False})
                await answer_of(leaving, "disconnect", LEAVE_DEADLINE)
            except NoAnswer as error:
                debugger.log.warning("%s", error)
        await debugger.end()
        if was_there:
            debugger.publish(dap.event("terminated", debugger.next_seq(), {}), debugger.cause)
        return {}


@command("terminate")
async def terminate(debugger: "Debugger", arguments: Arguments) -> Body:
    """End the session, not the kernel: for that there is shutdown_request."""
    return await disconnect(debugger, arguments)


@command("debugInfo")
async def debug_info(debugger: "Debugger", arguments: Arguments) -> Body:
    """What a frontend needs to find its way back in. Always available."""
    async with debugger.turn:  # so that it tells of what was asked before
        directory = os.path.dirname(debugger.cell_file(""))
    return {
        "isStarted": debugger.session.adapter is not None,
        "hashMethod": "Murmur2",
        "hashSeed": HASH_SEED,
        "tmpFilePrefix": directory + os.sep,
        "tmpFileSuffix": ".py",
        "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in debugger.session.breakpoints.items()],
        "stoppedThreads": sorted(debugger.session.stopped_threads),
        "richRendering": True,
        "exceptionPaths": ["Python Exceptions"],
        "copyToGlobals": True,
    }


# ---- sources and breakpoints ---------------------------------------------------------


@command("dumpCell")
async def dump_cell(debugger: "Debugger", arguments: Arguments) -> Body:
    """Write a cell's code where its compiled code says it comes from. Body: {sourcePath}."""
    code = arguments.get("code")
    if not isinstance(code, str):
        raise Refused("dumpCell needs the code of a cell (a string)")
    path = debugger.cell_file(code)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # whatever the umask is
    with open(handle, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(code)
    debugger.dumped.add(path)
    return {"sourcePath": path}


@command("setBreakpoints")
async def set_breakpoints(debugger: "Debugger", arguments: Arguments) -> Body:
    """Set the breakpoints of one file, instead of those it had. Before attach they are kept until then."""
    place, wanted = arguments.get("source"), arguments.get("breakpoints") or []
    if not isinstance(place, dict) or not isinstance(place.get("path"), str) or not isinstance(wanted, list):
        raise Refused("setBreakpoints needs source.path (a string) and breakpoints (a list)")
    async with debugger.turn:
        if debugger.session.adapter is None or not debugger.session.is_attached:
            debugger.session.breakpoints[place["path"]] = wanted
            return {"breakpoints": [{"verified": False, "line": line.get("line")} for line in wanted]}
        return await _send_breakpoints(debugger, debugger.session.adapter, arguments)


async def _send_breakpoints(debugger: "Debugger", adapter: Adapter, arguments: Arguments) -> Body:
    wanted = arguments.get("breakpoints") or []
    body = granted(await adapter.ask("setBreakpoints", arguments, debugger.deadline))
    verified = [found.get("line") for found in body.get("breakpoints", [])]
    lines = [{**asked, "line": line or asked.get("line")} for asked, line in zip(wanted, verified, strict=False)]
    if lines:
        debugger.session.breakpoints[arguments["source"]["path"]] = lines
    else:
        debugger.session.breakpoints.pop(arguments["source"]["path"], None)
    return body


@command("setFunctionBreakpoints")
async def set_function_breakpoints(debugger: "Debugger", arguments: Arguments) -> Body:
    """Stop where functions of these names begin."""
    return await _set_and_keep(debugger, "setFunctionBreakpoints", {"breakpoints": [], **arguments})


@command("setExceptionBreakpoints")
async def set_exception_breakpoints(debugger: "Debugger", arguments: Arguments) -> Body:
    """Stop at exceptions. To debugpy none that a cell raises is uncaught, for IPython catches them all: to us it is."""
    filters = list(arguments.get("filters") or [])
    debugger.tracer.stop_where_a_cell_fails = "uncaught" in filters and "userUnhandled" not in filters
    if debugger.tracer.stop_where_a_cell_fails:
        filters.append("userUnhandled")
    return await _set_and_keep(debugger, "setExceptionBreakpoints", {**arguments, "filters": filters})


async def _set_and_keep(debugger: "Debugger", name: str, arguments: Arguments) -> Body:
    async with debugger.turn:
        debugger.session.kept[name] = arguments
        if debugger.session.adapter is None or not debugger.session.is_attached:
            return {"breakpoints": [{"verified": False} for _ in arguments.get("breakpoints", [])]}
        return granted(await debugger.session.adapter.ask(name, arguments, debugger.deadline))


# ---- running ---------------------------------------------------------------------------


@command("continue")
async def continue_(debugger: "Debugger", arguments: Arguments) -> Body:
    """Let everything run that is stopped (or one thread, with singleThread)."""
    async with debugger.turn:
        future = debugger.attached("continue").send("continue", arguments)
    nudging = asyncio.ensure_future(_nudge(debugger))
    try:
        return granted(await answer_of(future, "continue", debugger.deadline))
    finally:
        nudging.cancel()
        debugger.tracer.nudge()


async def _nudge(debugger: "Debugger") -> None:
    """debugpy changes the state of stopped threads without waking them; they look for themselves every 200 ms."""
    for pause in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        await asyncio.sleep(pause)
        debugger.tracer.nudge()


@command("threads")
async def threads(debugger: "Debugger", arguments: Arguments) -> Body:
    """The user's threads."""
    forget_dead_threads()
    hide_service_threads()
    return await debugger.forward("threads", arguments)


def _keep_leading_lines() -> Callable[[], None]:
    """Let IPython keep the empty lines at the top of a cell, so that line numbers are the editor's; return the undo."""
    from IPython.core.getipython import get_ipython
    from IPython.core.inputtransformer2 import leading_empty_lines

    shell = get_ipython()
    transforms = shell.input_transformer_manager.cleanup_transforms if shell else []

    def places() -> list[int]:  # `in` and `index` would ask the user's transforms whether they are equal
        return [place for place, transform in enumerate(transforms) if transform is leading_empty_lines]

    before = places()
    for place in reversed(before):
        del transforms[place]

    def undo() -> None:
        if before and not places():
            transforms.insert(before[0], leading_empty_lines)

    return undo
