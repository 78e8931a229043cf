"""debugger: answers debug_request: asks debugpy, and does itself what only a kernel can. Knows no sockets, no lanes.

Theory. One thread, `ipymini-debugger`, runs an event loop; each request is a coroutine there. Requests *leave* for
debugpy in the order they came; each answer is waited for on its own, up to a deadline, so a request that debugpy
never answers holds up nobody. What changes the session (initialize, attach, disconnect) holds `turn` all the time.
What may run user code (reprs, formatters) or block (importing debugpy) runs on a thread of its own, also up to a
deadline. Frontends need not know any of this: they see one DAP adapter that always answers.
"""

import asyncio
import concurrent.futures
import logging
import os
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ipymini.debug import (
    dap,
    inspection,  # noqa: F401  # puts its commands into the table
)
from ipymini.debug.adapter import Adapter, NoAnswer, answer_of
from ipymini.debug.commands import (
    COMMANDS,
    FORWARDED,
    LEAVE_DEADLINE,
    SLOW,
    SLOW_DEADLINE,
    START_DEADLINE,
    Arguments,
    Body,
    Refused,
    granted,
)
from ipymini.debug.pydevd_workarounds import hide
from ipymini.debug.tracer import Stop, Tracer
from ipymini.debug.variables import Explorer, said
from ipymini.execution import context
from ipymini.execution.stacks import Called
from ipymini.protocol.messages import IpyminiError, Request
from ipymini.protocol.originals import EventLoop, threading

INSIST = 0.05  # seconds that a thread may take to leave its stop when it has been interrupted
DEADLINE = 10.0  # seconds for debugpy to answer


@dataclass(slots=True)
class Session:
    """What is known from initialize to disconnect, and forgotten then."""

    adapter: Adapter | None = None
    is_attached: bool = False
    connecting: asyncio.Future[None] | None = None  # until attach: debugpy's side, which waits for configurationDone
    initialized: asyncio.Event = field(default_factory=asyncio.Event)
    stopped_threads: set[int] = field(default_factory=set)
    breakpoints: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by path; as asked, lines as verified
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)  # the latest function and exception breakpoints
    scopes: set[int] = field(default_factory=set)  # references whose variables are names of a module or a function


class Debugger:
    """One debugger for one kernel.

    For any thread: `submit`, `interrupt`, `enter_cell`, `take_strike`, `stop_here`, `stop`. Everything else belongs to
    the loop's thread. `strike` interrupts one thread, given by its ident. `emit` publishes a debug_event; its parent
    is the current request: the cell that stopped, else the debug_request served last.
    """

    def __init__(
        self,
        *,
        emit: Callable[[dict[str, Any]], None],
        namespace: Callable[[], dict[str, Any]],
        cell_file: Callable[[str], str],
        strike: Callable[[int], None] = lambda ident: None,
        log: logging.Logger | None = None,
        deadline: float = DEADLINE,
    ):
        self._emit = emit
        self.namespace = namespace
        self.cell_file = cell_file
        self._strike = strike
        self.log = log or logging.getLogger("ipymini.debug.debugger")
        self.deadline = deadline
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._parted = threading.Event()  # `stop` has taken leave of pydevd
        self._seq = 0
        self.cause: Request | None = None
        self.session = Session()
        self.turn = asyncio.Lock()  # what changes the session, or must not overtake such a change; fair
        self.undo: Callable[[], None] = lambda: None
        self.dumped: set[str] = set()
        self.explorer = Explorer()
        self.tracer = Tracer()

    @property
    def is_attached(self) -> bool:
        """Whether a breakpoint would stop a cell."""
        return self.session.is_attached

    # ---- any thread ------------------------------------------------------------

    def submit(self, content: dict[str, Any]) -> "concurrent.futures.Future[dict[str, Any]]":
        """Answer a debug_request: the future is the content of its debug_reply. It always arrives."""
        return asyncio.run_coroutine_threadsafe(self._answer(content), self._running_loop())

    async def request(self, content: dict[str, Any]) -> dict[str, Any]:
        """The same, awaited; blocks nothing."""
        return await asyncio.wrap_future(self.submit(content))

    def interrupt(self, ident: int, stack: Iterable[Called] = ()) -> bool:
        """Take over the interrupt of a thread that is stopped; it will leave its stop with KeyboardInterrupt.

        False: it is not stopped, or runs an evaluated expression just now (`stack`): interrupt it as usual.
        Takes no lock: may be called by a signal handler.
        """
        if ident not in self.tracer.stops or self._loop is None:
            return False
        taken = self.tracer.holds(ident, stack)
        self._loop.call_soon_threadsafe(self._release, ident)
        return taken

    def _release(self, ident: int) -> None:
        self.tracer.release(ident)
        if self._loop is not None and (stop := self.tracer.stops.get(ident)) is not None:
            self._loop.call_later(INSIST, self._insist, ident, stop)

    def _insist(self, ident: int, stop: Stop) -> None:
        """A thread that has not left its stop evaluates something: it had begun to when the interrupt came."""
        if self.tracer.stops.get(ident) is stop:
            self._strike(ident)

    def enter_cell(self) -> None:
        """Call this at the start of each cell, on its thread. Costs next to nothing without a session."""
        if self.session.is_attached:
            self.tracer.enter_cell()

    def take_strike(self) -> bool:
        """Whether an interrupt found this thread stopped at an exception, and has not been raised since: forget it.

        For the end of a cell that fails with this exception.
        """
        return self.session.is_attached and self.tracer.take_strike()

    def stop_here(self, frame: FrameType) -> None:
        """Stop this thread at `frame`: what `breakpoint()` does while a debugger is attached."""
        self.tracer.stop_here(frame)

    def stop(self) -> None:
        """End the session and the thread, within a second. A second call is harmless."""
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)
        if self.session.adapter is not None:
            ending = threading.Thread(target=self.tracer.disconnect(), name="ipymini-debugger-end", daemon=True)
            hide(ending)
            ending.start()
            ending.join(0.3)
        self._parted.set()
        if self._thread is not None:
            self._thread.join(0.5)
        self.undo()
        for path in self.dumped:
            with suppress(OSError):  # the frontend has deleted it, or something else lies beside it
                os.unlink(path)
        for directory in {os.path.dirname(path) for path in self.dumped}:
            with suppress(OSError):
                os.rmdir(directory)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = EventLoop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="ipymini-debugger", daemon=True
                )
                hide(self._thread)
                self._thread.start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._parted.wait(0.5)  # pydevd's threads wait for each other, half a second, if we hang up first
            if self.session.adapter is not None:
                self.session.adapter.close()
                loop.run_until_complete(asyncio.sleep(0))  # the socket is closed in the next turn
        finally:
            loop.close()

    # ---- one request -------------------------------------------------------------

    async def _answer(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return the DAP response to any content, also to nonsense."""
        self.cause = context.own() or self.cause
        try:
            body, message = await self._do(content), None
        except Refused as no:
            body, message = no.body, str(no)
        except IpyminiError as error:
            body, message = {}, str(error)
        except Exception as error:
            self.log.exception("debug_request failed command=%s", content.get("command"))
            body, message = {}, f"{type(error).__name__}: {error}"
        return dap.response(content, self.next_seq(), body, message=message)

    async def _do(self, content: dict[str, Any]) -> Body:
        name, arguments = content.get("command"), content.get("arguments") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise Refused("a debug_request needs a command (a string) and arguments (an object)")
        if (here := COMMANDS.get(name)) is not None:
            return await here(self, arguments)
        if name not in FORWARDED:
            raise Refused(
                f"unknown command {name!r}: this debugger knows {', '.join(sorted(FORWARDED | set(COMMANDS)))}"
            )
        return await self.forward(name, arguments)

    async def forward(self, name: str, arguments: Arguments) -> Body:
        """Ask debugpy. Raises Refused with debugpy's own words if it says no."""
        async with self.turn:
            adapter = self.attached(name)
            future = adapter.send(name, arguments)
        return granted(await answer_of(future, name, SLOW_DEADLINE if name in SLOW else self.deadline))

    def attached(self, name: str) -> Adapter:
        if self.session.adapter is None or not self.session.is_attached:
            raise Refused(f"no debugger is attached: {name!r} needs initialize and attach first")
        return self.session.adapter

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    async def in_thread(self, function: Callable[[], Any], deadline: float, doing: str) -> Any:
        """Run on a thread of its own what may block, or runs user code. Raises NoAnswer after `deadline` seconds."""
        return await answer_of(self.thread_for(function, doing), doing, deadline)

    def thread_for(self, function: Callable[[], Any], doing: str) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future = loop.create_future()

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
                self.log.error("debug_request failed doing=%s error=%s\n%s", doing, failure, _stack_of(error))
            try:
                loop.call_soon_threadsafe(settle, value, failure)
            except RuntimeError:
                pass  # the loop has been closed: nobody waits any more

        thread = threading.Thread(target=work, name=f"ipymini-debugger-{doing}", daemon=True)
        hide(thread)
        thread.start()
        return future

    # ---- events ------------------------------------------------------------------

    def on_event(self, event: dict[str, Any]) -> None:
        """Keep the books, and publish. On the loop."""
        name, body = event.get("event"), event.get("body") or {}
        cause = self.cause
        if name == "initialized":
            self.session.initialized.set()
        elif name == "stopped":
            self.session.stopped_threads.add(body.get("threadId", 0))
            cause = self.tracer.causes.get(body.get("threadId", 0)) or cause
        elif name == "continued":
            cause = self.tracer.causes.get(body.get("threadId", 0)) or cause
            if body.get("allThreadsContinued"):
                self.session.stopped_threads.clear()
            self.session.stopped_threads.discard(body.get("threadId", 0))
        elif name == "thread" and body.get("reason") == "exited":
            self.session.stopped_threads.discard(body.get("threadId", 0))
        elif name == "output" and "raised from within the callback set in sys.settrace" in str(body.get("output")):
            return  # an interrupt: tracing goes on at the next cell, whatever this says
        elif name == "terminated":
            return  # we say that ourselves
        self.publish({**event, "seq": self.next_seq()}, cause)

    def publish(self, event: dict[str, Any], cause: Request | None) -> None:
        with context.handling(cause):
            self._emit(event)

    def on_lost(self) -> None:
        """debugpy has hung up. On the loop."""
        self.log.warning("debugpy has gone")
        self._losing = asyncio.ensure_future(self._lose())

    async def _lose(self) -> None:
        async with self.turn:
            await self.end()
        self.publish(dap.event("terminated", self.next_seq(), {}), self.cause)

    async def end(self) -> None:
        """Leave no session behind. Holding `turn`."""
        adapter, connecting = self.session.adapter, self.session.connecting
        self.undo()
        self.undo = lambda: None
        self.session = Session()
        if adapter is not None:
            adapter.expect_the_end()
            try:
                if connecting is not None:  # initialized, and never attached
                    self.tracer.finish_connecting()
                    await answer_of(connecting, "initialize", LEAVE_DEADLINE)  # type: ignore[arg-type]
                dispose = await self.in_thread(self.tracer.disconnect, START_DEADLINE, "disconnect")
                await self.in_thread(dispose, LEAVE_DEADLINE, "dispose")
            except NoAnswer as error:  # a new session is another debugpy
                self.log.warning("%s", error)
            adapter.close()


def _stack_of(error: BaseException) -> str:
    """Return where an exception was raised, without its own text: to make that may run user code."""
    return "".join(traceback.format_tb(error.__traceback__))
