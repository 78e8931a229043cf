"""session: one debug session: its breakpoints, which threads stand still, its beginning and end. Shows no variables.

Theory. All of it runs on the event loop of the control lane, and never blocks that. Requests leave for debugpy in the
order in which they came; each answer is awaited on its own, up to a deadline, so a request that debugpy never answers
holds up no other. What blocks (importing debugpy), and what may run user code (a repr, a property, the end of an
object), runs on a thread of its own, up to a deadline, too: `in_thread`.
"""

import asyncio
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ipymini.debug.adapter import DEADLINE, Adapter, Message, NoAnswer, Refused, answer_of
from ipymini.debug.pydevd_workarounds import hide
from ipymini.debug.tracer import Tracer
from ipymini.protocol.messages import IpyminiError
from ipymini.protocol.originals import threading

log = logging.getLogger("ipymini.debug.session")

Arguments = dict[str, Any]
Body = dict[str, Any]
Value = TypeVar("Value")

START_DEADLINE = 20.0  # seconds to import debugpy and to connect
LEAVE_DEADLINE = 2.0  # seconds for debugpy to answer `disconnect`, and for its threads to end
END = 0.3  # seconds that the end of the kernel waits for debugpy
EXCLUDED = ("ipymini", "IPython", "traitlets", "comm", "zmq", "tornado", "debugpy")  # never stepped into, never shown


class Session:
    """What is known from one `disconnect` to the next. On the loop, but `stop`."""

    def __init__(self, tracer: Tracer, on_event: Callable[[Message], None], on_lost: Callable[[], None]):
        """`on_event` gets debugpy's events; `on_lost` is called if debugpy has gone."""
        self._tracer, self._on_event, self._on_lost = tracer, on_event, on_lost
        self.adapter: Adapter | None = None
        self.is_attached = False
        self.stopped_threads: set[int] = set()
        self.breakpoints: dict[str, list[Body]] = {}  # by path; as asked, with the lines that debugpy has verified
        self.scopes: set[int] = set()  # references whose variables are names of a module or a function
        self._other_breakpoints: dict[str, Arguments] = {}  # the latest of functions and of exceptions, by command
        self._connecting: asyncio.Future[None] | None = None  # debugpy's side, which waits for configurationDone
        self._initialized = asyncio.Event()
        self._undo: Callable[[], None] = lambda: None

    # ---- beginning and end -----------------------------------------------------------

    async def connect(self) -> Adapter:
        """Return the conversation with debugpy; the first call starts it. Raises NoAnswer, DebuggerBusy."""
        if self.adapter is not None:
            return self.adapter
        adapter = Adapter(self._on_event, self._on_lost)
        connecting = start_thread(lambda: self._tracer.connect(adapter.port), "connect")
        accepting = asyncio.ensure_future(adapter.accept())
        both: list[asyncio.Future[Any]] = [connecting, accepting]
        try:
            await asyncio.wait(both, timeout=START_DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            if not accepting.done():
                if connecting.done():
                    connecting.result()
                raise NoAnswer(f"debugpy has not connected within {START_DEADLINE:g} s")
            peer = accepting.result()
            await adapter.ask("pydevdAuthorize", {"debugServerAccessToken": None})
            self._tracer.adopt(peer)
        except BaseException:
            accepting.cancel()
            adapter.close()
            raise
        self._undo = _keep_leading_lines()
        self.adapter, self._connecting = adapter, connecting
        return adapter

    async def attach(self, arguments: Arguments) -> None:
        """Begin to trace, with all breakpoints that were set before. Returns when a breakpoint would stop a cell."""
        adapter = self.adapter
        if adapter is None:
            raise Refused("there is no debugpy to attach to: send initialize first")
        self._initialized.clear()
        complete = await in_thread(lambda: _attach_arguments(arguments), "attach")
        await adapter.ask("attach", complete)
        await answer_of(self._initialized.wait(), "attach", DEADLINE)
        if not self.is_attached:
            for path, breakpoints in list(self.breakpoints.items()):
                await self._send_breakpoints(adapter, {"source": {"path": path}, "breakpoints": breakpoints})
            for command, kept in self._other_breakpoints.items():
                await adapter.ask(command, kept)
        await adapter.ask("configurationDone", {})
        if self._connecting is not None:
            await answer_of(self._connecting, "attach", START_DEADLINE)
            self._connecting = None
        self.is_attached = True

    async def ask_to_end(self) -> None:
        """Tell debugpy that its client leaves."""
        if self.adapter is not None:
            try:
                await self.adapter.ask("disconnect", {"restart": False, "terminateDebuggee": False}, LEAVE_DEADLINE)
            except (NoAnswer, Refused) as error:
                log.warning("%s", error)

    async def end(self) -> None:
        """Take debugpy out of the process; every thread runs on. The session cannot be used any more."""
        self._undo()
        if self.adapter is None:
            return
        self.adapter.expect_the_end()
        try:
            if self._connecting is not None:  # initialized, and never attached
                self._tracer.finish_connecting()
                await answer_of(self._connecting, "initialize", LEAVE_DEADLINE)
            dispose = await in_thread(self._tracer.disconnect, "disconnect", START_DEADLINE)
            await in_thread(dispose, "dispose", LEAVE_DEADLINE)
        except NoAnswer as error:  # a new session is another debugpy
            log.warning("%s", error)
        self.adapter.close()

    def stop(self, soon: Callable[[Callable[[], None]], None]) -> None:
        """End with the kernel, soon. On its main thread; `soon` calls a function on the loop."""
        if (adapter := self.adapter) is not None:
            adapter.expect_the_end()
            dispose = self._tracer.disconnect()
            disposing = hide(threading.Thread(target=dispose, name="ipymini-debugger-dispose", daemon=True))
            disposing.start()
            disposing.join(END)
            soon(adapter.close)  # afterwards: if we hang up first, pydevd's threads wait for each other
        self._undo()

    # ---- breakpoints -----------------------------------------------------------------

    async def set_breakpoints(self, arguments: Arguments) -> Body:
        """Set the breakpoints of one file in the place of those it had. Before `attach` they are kept until then."""
        wanted = arguments.get("breakpoints") or []
        if self.adapter is not None and self.is_attached:
            return await self._send_breakpoints(self.adapter, arguments)
        self.breakpoints[arguments["source"]["path"]] = wanted
        return {"breakpoints": [{"verified": False, "line": line.get("line")} for line in wanted]}

    async def _send_breakpoints(self, adapter: Adapter, arguments: Arguments) -> Body:
        path, wanted = arguments["source"]["path"], arguments.get("breakpoints") or []
        body = await adapter.ask("setBreakpoints", arguments)
        verified = [found.get("line") for found in body.get("breakpoints", [])]
        lines = [{**asked, "line": line or asked.get("line")} for asked, line in zip(wanted, verified, strict=False)]
        self.breakpoints[path] = lines
        if not lines:
            del self.breakpoints[path]
        return body

    async def set_other_breakpoints(self, command: str, arguments: Arguments) -> Body:
        """Set the breakpoints of functions, or of exceptions. Before `attach` they are kept until then."""
        self._other_breakpoints[command] = arguments
        if self.adapter is not None and self.is_attached:
            return await self.adapter.ask(command, arguments)
        return {"breakpoints": [{"verified": False} for _ in arguments.get("breakpoints", [])]}

    # ---- what debugpy says -----------------------------------------------------------

    def attached(self, command: str) -> Adapter:
        """Return the conversation with debugpy. Raises Refused if no breakpoint would stop a cell now."""
        if self.adapter is None or not self.is_attached:
            raise Refused(f"no debugger is attached: {command!r} needs initialize and attach first")
        return self.adapter

    def take(self, event: str, body: Body) -> None:
        """Take note of an event: which threads stand still, and whether debugpy is ready for breakpoints."""
        thread = body.get("threadId", 0)
        if event == "initialized":
            self._initialized.set()
        elif event == "stopped":
            self.stopped_threads.add(thread)
        elif event == "continued" and body.get("allThreadsContinued"):
            self.stopped_threads.clear()
        elif event == "continued" or (event == "thread" and body.get("reason") == "exited"):
            self.stopped_threads.discard(thread)


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
    """Return the file that a module was loaded from, if it was. A lazy module may run code: not on the loop."""
    return getattr(sys.modules.get(module), "__file__", None)


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


# ---- threads --------------------------------------------------------------------------


async def in_thread(function: Callable[[], Value], doing: str, deadline: float = DEADLINE) -> Value:
    """Return what a function returns on a thread of its own. Raises NoAnswer after `deadline` seconds, and Refused.

    The value has to be plain data: the loop may be the last to hold it, and must not run the `__del__` of an object.
    """
    return await answer_of(start_thread(function, doing), doing, deadline)


def start_thread(function: Callable[[], Value], doing: str) -> "asyncio.Future[Value]":
    """Call a function on a new thread; return the future of its value. Its own failures become Refused."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(value)

    def work() -> None:
        value: Any = None
        failure: IpyminiError | None = None
        try:
            value = function()
        except IpyminiError as error:
            # Its context and its traceback hold the user's objects, and these must not end on the loop.
            error.__context__ = error.__traceback__ = None
            failure = error
        except BaseException as error:  # whatever it is, sys.exit() too, it is the answer to one request
            failure = Refused(said(error))
            stack = "".join(traceback.format_tb(error.__traceback__))  # without its text, which may run user code
            log.error("debug_request failed doing=%s error=%s\n%s", doing, failure, stack)
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:
            pass  # the loop has been closed: nobody waits any more

    hide(threading.Thread(target=work, name=f"ipymini-debugger-{doing}", daemon=True)).start()
    return future


def said(error: BaseException) -> str:
    """Return an exception as one line, also one whose own text fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__
