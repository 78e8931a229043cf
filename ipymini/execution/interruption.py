"""interruption: how an interrupt ends what runs on one lane. Which lanes it reaches, `interrupts` says.

Six words:
  door       a function marked `@door`: user code runs above its frame, and nowhere else (`stacks`).
  open       a request is open while its user code runs or awaits: inside `with interruptible(request)`.
  strike     raise KeyboardInterrupt in user code, at the instruction that it has come to.
  pending    an interrupt that met the kernel's own work. It strikes when that work ends.
  retry      look again, RETRY seconds later, whether the pending interrupt can strike.
  swallowed  a KeyboardInterrupt that nobody could catch: raised in a destructor or in a callback from C.

What an interrupt does. The main lane (`strikes.BySignal`) runs on the main thread, where a signal handler can raise;
into the threads of the others (`strikes.ByException`) another thread sets an exception.

  situation                    | main lane                            | other lanes
  code runs                    | strike                               | strike, at the place that was looked at
  code runs in a greenlet      | strike                               | strike
  a blocking wait              | the system ends it; strike           | strike, and `waits` ends it
  the cell awaits              | cancel its task                      | cancel its task
  a task of a cell blocks      | strike, and cancel the open requests | strike, and cancel the open requests
  the kernel's own code        | pending; retry                       | pending; retry
  a print in a loop            | pending; strike as `write` returns   | the same
  `input()`                    | strike                               | `stdin` raises in the cell
  at a breakpoint              | the debugger ends the cell           | the debugger ends the cell
  a GUI's loop, in a cell      | strike                               | no GUI there
  a GUI's loop, between cells  | strike its callback                  | no GUI there
  a destructor, a C callback   | swallowed; strike again              | swallowed; strike again
  a request not open yet       | pending; strike as it opens          | the same
  between cells                | nothing                              | nothing

A pending interrupt belongs to one request and is forgotten with it. One that was swallowed is not: if its cell ends
before it could strike again, the end of the cell raises it.
"""

import sys
from collections.abc import Callable, Coroutine, Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ipymini.execution import context
from ipymini.execution.stacks import Called, let_it_strike
from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__, asyncio, threading  # noqa: F401

if TYPE_CHECKING:
    from ipymini.execution.lane import Lane

RETRY = 0.002  # seconds

any_pending = False  # on some lane; a hint, set by any thread: who finds it true calls `strike_if_pending`

_by_thread: dict[int, "Interruption"] = {}  # of every lane that runs, by thread ident


def is_pending() -> bool:
    """Return whether an interrupt waits until the kernel's work on the calling thread ends."""
    here = _by_thread.get(threading.get_ident()) if any_pending else None
    return here is not None and here.pending in here.open


def strike_if_pending() -> None:
    """Raise the pending KeyboardInterrupt of the caller's cell. A cell that prints in a loop is hardly ever elsewhere.

    To be called, if `any_pending`, as the last thing by a function of ours that cells call all the time.
    """
    global any_pending
    here = _by_thread.get(threading.get_ident())
    if here is not None and here.pending is not None:
        frame: FrameType | None = sys._getframe(1)
        names = frame.f_globals if frame is not None else None
        while frame is not None and frame.f_globals is names:
            frame = frame.f_back
        here.strike_here(frame)
    elif not any(one.pending is not None for one in list(_by_thread.values())):
        any_pending = False  # an interrupt that comes just now is retried all the same


def on_swallowed() -> bool:
    """Take note that a KeyboardInterrupt was swallowed on this thread; return whether it was an interrupt of a cell."""
    here, request = _by_thread.get(threading.get_ident()), context.own()
    return here is not None and request is not None and here.struck(request) and here.on_swallowed()


def action(verdict: str, is_open: bool) -> str:
    """Return what to do where a stack gave this verdict: "strike", "cancel" what awaits, or leave it "pending".

    `is_open`: the request that the stack works for is open.
    """
    if verdict in ("ours", "neutral"):
        return "pending"
    return "strike" if is_open and verdict != "outside" else "cancel"


class Interruption:
    """The interrupts of one lane. By itself that of a lane that runs no user code: nothing is ever struck."""

    runs_cells = False

    def __init__(self, lane: "Lane", held: Callable[[int, Iterable[Called]], bool] = lambda ident, stack: False):
        """`held(ident, stack)`: whether the thread stands at a breakpoint, and the debugger will end its cell."""
        self._lane, self._held = lane, held
        self.open: dict[Request, asyncio.Task[None] | None] = {}  # the lane's thread writes it, under `_gate`
        self.pending: Request | None = None
        self._swallowed: Request | None = None
        self._struck: set[Request] = set()  # those requests that have been interrupted
        self._gate = threading.Lock()  # no signal handler takes it
        self._exception_is_set = False  # by another thread, for the lane's; it may have struck or not; under `_gate`

    # ---- any thread ------------------------------------------------------------------

    def interrupt(self) -> None:
        """End what runs. Any thread but the lane's own."""

    def struck(self, request: Request) -> bool:
        """Return whether an interrupt has met this request while it was open."""
        return request in self._struck

    # ---- the lane's thread -----------------------------------------------------------

    def interruptible(self, request: Request) -> "Interruptible":
        """Return the context manager that opens a request. Its `with` raises KeyboardInterrupt if one is pending."""
        return Interruptible(self, request)

    def drive(self, request: Request, work: Coroutine[Any, Any, None]) -> Any:
        """Return an awaitable that runs the work of a request so that it can be interrupted."""
        return context.drive(request, work)

    def begin(self) -> Callable[[], None]:
        """Serve the calling thread from now on; return the undo."""
        ident = threading.get_ident()
        _by_thread[ident] = self

        def end() -> None:
            del _by_thread[ident]

        return end

    def served(self, request: Request) -> None:
        """Forget a request."""
        with self._gate:
            self.open.pop(request, None)  # it is still there if the interrupt struck as it was opened or closed
        self._struck.discard(request)
        if self.pending is request:
            self.pending = None

    def on_loop_struck(self) -> None:
        """Let the open requests end: a KeyboardInterrupt struck a task of theirs, and asyncio handed it on."""
        with self._gate:
            self._exception_is_set = False
        self.cancel_struck()

    def strike_all(self) -> None:
        """Take note that the lane ends, and cancels all open requests."""
        self._struck.update(self.open)

    def strike_here(self, frame: FrameType | None) -> None:
        """Raise the pending KeyboardInterrupt if `frame`, which called the kernel, is user code."""

    def on_swallowed(self) -> bool:
        """Take note that a KeyboardInterrupt of this thread's cell was swallowed; return whether there is a cell.

        Whatever the thread is doing: takes no lock.
        """
        request = context.own()
        if request is None or request not in self.open:
            return False
        self._swallowed = request
        self._retry_swallowed(request)
        return True

    def cancel_struck(self, but: Request | None = None) -> None:
        """Cancel the tasks of open requests that have been interrupted, `but` the one that was struck. On the loop."""
        for request, task in list(self.open.items()):
            if request is not but and request in self._struck and task is not None:
                task.cancel()

    # ---- for the two ways --------------------------------------------------------------

    def _set_pending(self, request: Request | None) -> None:
        global any_pending
        self.pending = request
        if request is not None:
            any_pending = True

    def _retry_swallowed(self, request: Request) -> None:
        """Strike again, soon."""

    def open_up(self, request: Request) -> "asyncio.Task[None] | None":
        """Open a request; return its task, if it has one. Raises KeyboardInterrupt if one is pending."""
        task = context.current_task() if self._lane.loop is not None and self._lane.is_current_thread else None
        with self._gate:
            strikes = self.pending is request or self._lane.is_stopping
            if strikes:
                self.pending = None
                self._struck.add(request)
            else:
                self.open[request] = task
        if strikes:
            raise KeyboardInterrupt
        return task

    def close(self, request: Request) -> None:
        """Close a request. Raises KeyboardInterrupt if another thread has set one meanwhile: then close once more."""
        with self._gate:
            self.open.pop(request, None)
            is_set, self._exception_is_set = self._exception_is_set, False
            if self.pending is request:
                self.pending = None
        if is_set:
            let_it_strike()

    def was_swallowed(self, request: Request) -> bool:
        """Return whether a swallowed interrupt of a closed request has not struck again; it is forgotten."""
        if self._swallowed is not request:
            return False
        self._swallowed = None
        return True


class Interruptible:
    """What opens one request. No generator: nothing may run between its two ends but user code."""

    def __init__(self, interruption: Interruption, request: Request):
        self._interruption, self._request = interruption, request

    def __enter__(self) -> None:
        self._standing = context.standing()
        self._task = self._interruption.open_up(self._request)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while True:
            try:
                self._interruption.close(self._request)
                break
            except KeyboardInterrupt:
                pass  # it struck in time: the cell has ended, and nothing else was struck
        context.put_right(*self._standing)  # here already: what follows in this step awaits
        if self._task is not None:
            while self._task.cancelling():  # the cancellation was the interrupt, and it is over
                self._task.uncancel()
        if self._interruption.was_swallowed(self._request) and kind is None:
            raise KeyboardInterrupt
