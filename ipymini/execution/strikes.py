"""strikes: the two ways in which a KeyboardInterrupt gets into user code: by a signal, or as an exception set for it.

The main thread runs signal handlers between two of its bytecodes: what a handler raises appears there. Any other thread
has to be looked at from outside, and `PyThreadState_SetAsyncExc` strikes it some bytecodes later. Hence three cares:
  - the look and the strike are one step, at the same instruction: one that has moved on may have taken a lock;
  - whoever closes a request, or ends a step of it, first lets strike what has been set (`let_it_strike`);
  - asyncio's own frames, which would lose a wake-up, are never struck: a cell that has just suspended gets its
    KeyboardInterrupt thrown in.
"""

from collections.abc import Callable, Coroutine, Generator, Iterable
from types import FrameType, coroutine
from typing import TYPE_CHECKING, Any

from ipymini.execution import context, waits
from ipymini.execution.interruption import RETRY, Interruption, action
from ipymini.execution.stacks import Called, let_it_strike, own_stack, place_of, raise_at, stack_of, verdict
from ipymini.protocol.messages import Request
from ipymini.protocol.originals import __builtins__, asyncio, threading  # noqa: F401

if TYPE_CHECKING:
    from ipymini.execution.lane import Lane


class BySignal(Interruption):
    """Of the lane on the main thread, which alone writes all its fields. Takes no lock in a signal handler."""

    runs_cells = True

    def __init__(
        self,
        lane: "Lane",
        held: Callable[[int, Iterable[Called]], bool],
        ask_retry: Callable[[float], None],
    ):
        """`ask_retry(seconds)`: call `retry` in a signal handler of the main thread in so many seconds."""
        super().__init__(lane, held)
        self._ask_retry = ask_retry
        self._retry_is_asked = False

    def on_signal(self, frame: FrameType | None) -> None:
        """End what runs on the lane; `frame` is where the main thread is. In a handler of SIGINT."""
        if self._lane.queue.running_cells or self.open:
            self._look(frame)

    def retry(self, frame: FrameType | None) -> None:
        """Look again, if an interrupt is pending. In a handler of the second signal."""
        self._retry_is_asked = False
        self._look_if_pending(frame)

    def _look_if_pending(self, frame: FrameType | None) -> None:
        if self.pending is not None and (self.pending in self._lane.queue.running_cells or self.pending in self.open):
            self._look(frame)

    def strike_here(self, frame: FrameType | None) -> None:
        """Look again, here and now."""
        if verdict(own_stack(frame)) in ("user", "outside-user", "elsewhere"):
            self._look_if_pending(frame)

    def _look(self, frame: FrameType | None) -> None:
        if self.open and self._held(self._lane.ident or 0, own_stack(frame)):
            self._struck.update(self.open)
            return
        found = verdict(own_stack(frame))
        request = self._in_progress() if found == "elsewhere" else context.own()
        todo = action(found, found == "user" or request in self.open)
        if self.open and todo != "pending":
            self.pending = self._swallowed = None
            self._struck.update(self.open)
            assert self._lane.loop is not None
            spared = request if todo == "strike" and found != "outside-user" else None
            self._lane.loop.call_soon_threadsafe(self.cancel_struck, spared)
            if todo == "strike":
                raise KeyboardInterrupt
            return
        cells = self._lane.queue.running_cells
        self._set_pending(request if request in cells or request in self.open else next(iter(cells or self.open), None))
        if self.open:
            self._retry_soon()

    def _in_progress(self) -> Request | None:
        """Return the request that blocks the loop, where no context says so: each greenlet has one of its own."""
        for request, task in self.open.items():
            if task is not None and getattr(task.get_coro(), "cr_running", False):
                return request
        return None

    def _retry_swallowed(self, request: Request) -> None:
        self._set_pending(request)
        self._retry_soon()

    def _retry_soon(self) -> None:
        if not self._retry_is_asked:
            self._retry_is_asked = True
            self._ask_retry(RETRY)


class ByException(Interruption):
    """Of a lane whose thread gets no signals. All fields are shared, under `_gate`."""

    runs_cells = True

    def __init__(
        self,
        lane: "Lane",
        held: Callable[[int, Iterable[Called]], bool] = lambda ident, stack: False,
        *,
        later: Callable[[float, Callable[[], None]], None],
        end_waits: Callable[[list[Request]], None] = lambda requests: None,
    ):
        """`later(seconds, function)`: call it on some other thread.

        `end_waits(requests)`: make the kernel's own waits in these cells fail; no exception reaches them.
        """
        super().__init__(lane, held)
        self._later, self._end_waits = later, end_waits
        self._step: Request | None = None  # whose step the lane's thread runs
        self._cancellation: object = None  # the latest one that was asked for; an older one does nothing
        self._waker = waits.Waker()

    def begin(self) -> Callable[[], None]:
        """Serve the calling thread from now on; return the undo."""
        end, unenroll = super().begin(), waits.enroll(self._waker)

        def undo() -> None:
            unenroll()
            end()

        return undo

    def open_up(self, request: Request) -> "asyncio.Task[None] | None":
        """Open a request; return its task, if it has one. Raises KeyboardInterrupt if one is pending."""
        self._waker.clear()  # of an interrupt that struck an earlier cell
        return super().open_up(request)

    def interrupt(self) -> None:
        """End what runs. Any thread but the lane's own."""
        self._look()

    def _look(self, waiting: Request | None = None) -> None:
        """Strike, cancel, or look again soon. `waiting`: look only if its interrupt is still pending."""
        with self._gate:
            if waiting is not None and (self.pending is not waiting or waiting not in self.open):
                return
            if not self.open:
                self._set_pending(next(iter(self._lane.queue.running_cells), None))
                return
            self._struck.update(self.open)
            ident, step = self._lane.ident or 0, self._step
            place, stack = place_of(ident), stack_of(ident)
            if self._held(ident, stack):
                return
            found = verdict(stack)
            todo = action(found, found == "outside-user" or step in self.open)
            if todo == "strike":
                # Before it is raised: it may be swallowed before this thread goes on.
                before, self._swallowed = self._swallowed, None
                if not raise_at(ident, place, KeyboardInterrupt):
                    todo, self._swallowed = "pending", before or self._swallowed  # the thread has moved on
            # A cancellation is pending, too, until the loop makes it: the thread may leave the loop meanwhile.
            pending = None if todo == "strike" else step if step in self.open else next(iter(self.open))
            self._set_pending(pending)
            self._cancellation = cancellation = object()
            if todo == "strike":
                self._exception_is_set = True
                self._waker.wake()
        if todo != "pending" and self._lane.loop is not None:
            self._lane.loop.call_soon_threadsafe(self._cancel, step if todo == "strike" else None, cancellation)
            self._end_waits(list(self.open))
        if todo != "strike":
            self._later(RETRY, lambda: self._look(pending))

    def _cancel(self, but: Request | None, cancellation: object) -> None:
        """Cancel what was interrupted and is suspended, unless a later cancellation was asked for. On the loop."""
        with self._gate:
            if cancellation is not self._cancellation:
                return
            self._cancellation = self.pending = None
        self.cancel_struck(but)

    def strike_here(self, frame: FrameType | None) -> None:
        """Raise the pending KeyboardInterrupt if `frame`, which called the kernel, is user code."""
        found = verdict(own_stack(frame))
        if found not in ("user", "outside-user", "elsewhere") or not self._gate.acquire(blocking=False):
            return  # the lock is held by whom we may have interrupted: a destructor can print anywhere
        try:
            step = self._step
            if self.pending not in self.open or action(found, found == "outside-user" or step in self.open) != "strike":
                return
            self.pending = self._swallowed = None
            self._cancellation = cancellation = object()
        finally:
            self._gate.release()
        assert self._lane.loop is not None
        self._lane.loop.call_soon_threadsafe(self._cancel, step, cancellation)
        self._end_waits(list(self.open))
        raise KeyboardInterrupt

    def _retry_swallowed(self, request: Request) -> None:
        self._later(RETRY, lambda: self._strike_again(request))

    def _strike_again(self, request: Request) -> None:
        if self._swallowed is request and request in self.open:
            self.interrupt()

    def drive(self, request: Request, work: Coroutine[Any, Any, None]) -> Any:
        """Return an awaitable that runs the work of a request so that it can be interrupted."""
        return context.drive(request, self._in_steps(request, work))

    @coroutine
    def _in_steps(self, request: Request, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run a coroutine so that an interrupt strikes within one of its steps, and nothing else."""
        value: Any = None
        error: BaseException | None = None
        while True:
            with self._gate:
                before, self._step = self._step, request
            waiting_for: Any = None
            failure: BaseException | None = None
            struck = False
            try:
                waiting_for = work.send(value) if error is None else work.throw(error)
            except StopIteration:
                pass
            except BaseException as raised:
                failure = raised
            # An error, and yet suspended: it was struck as `send` returned (Python 3.13).
            ended = work.cr_frame is None  # type: ignore[attr-defined]
            if failure is not None and not ended:
                failure, struck = None, True
            while True:
                try:
                    with self._gate:
                        self._step = before
                        is_set, self._exception_is_set = self._exception_is_set, False
                    if is_set:
                        let_it_strike()
                    break
                except KeyboardInterrupt:
                    struck = True  # in these lines, and it is meant for the cell
            if failure is not None:
                try:
                    raise failure
                finally:
                    del failure  # its traceback knows this frame
            if ended:
                return
            value, error = None, None
            if struck and request in self.open:
                error = KeyboardInterrupt()
                if getattr(waiting_for, "_asyncio_future_blocking", False):
                    waiting_for._asyncio_future_blocking = False  # nobody waits for it after all
                continue
            try:
                value = yield waiting_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as thrown:  # a cancellation: it belongs to the coroutine, as with `await`
                error = thrown
