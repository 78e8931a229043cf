"""lane: one thread, one event loop, one execute at a time, in order. Knows no messages' meaning.

How what it runs can be interrupted is the matter of its `Interruption`.

`post` puts a request into the queue and wakes the loop; `_pump`, on the loop, starts what may start (`request_queue`),
and runs again right after the first step of what it has started: by then that has finished or is suspended.
"""

import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ipymini.execution import context, stacks
from ipymini.execution.interruption import Interruption
from ipymini.execution.request_queue import SERIAL, RequestQueue
from ipymini.protocol.messages import Request
from ipymini.protocol.originals import EventLoop, __builtins__, asyncio, logger, suppress, threading  # noqa: F401

log = logger("ipymini.execution.lane")

LAST_MOMENT = 0.25  # seconds that what still awaits has for cleaning up when the lane ends
LAST_MOMENTS = 2  # how often it is asked: a cell may swallow its cancellation

_lanes: dict[int, "Lane"] = {}  # by thread ident; each lane's thread adds and removes its own


class Lane:
    """Serves requests one at a time on its own thread (`start`) or on the caller's (`run`).

    Shared fields: `queue`, whose waiting requests anybody may add and take.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Request], Coroutine[Any, Any, None]],
        *,
        interruption: Callable[["Lane"], Interruption] = Interruption,
        ended: Callable[[], None] = lambda: None,
    ):
        """`interruption(lane)` makes what can interrupt it. `ended` is called on its thread when it serves no more."""
        self.name = name
        self.queue = RequestQueue()
        self.context = contextvars.copy_context()  # what must outlive a cell lives here
        self.loop: asyncio.AbstractEventLoop | None = None
        self._new: asyncio.AbstractEventLoop | None = None  # made by `start` for `run`
        self.ident: int | None = None
        self.thread: threading.Thread | None = None
        self._handle, self._ended = handle, ended
        self.interruption = interruption(self)
        self._stopping = False
        self._winding_down = False
        self.unfinished: list[Request] = []  # cells that would not end with the lane: the kernel answers them
        self._first: deque[Callable[[], object]] = deque()  # what `soon` was given
        self._ending = False  # stop as soon as nothing is left to do
        self._stopped = threading.Event()

    # ---- any thread --------------------------------------------------------

    @staticmethod
    def here() -> "Lane | None":
        """Return the lane that runs on this thread."""
        return _lanes.get(threading.get_ident())

    def post(self, request: Request) -> bool:
        """Put a request into the queue; return False if the lane has ended. One that is yet to run serves it then."""
        self.queue.put(request)
        self._wake()
        return not (self._stopped.is_set() and self.queue.take(request))

    @property
    def is_stopping(self) -> bool:
        """Whether the lane has been asked to stop."""
        return self._stopping

    @property
    def is_running(self) -> bool:
        """Whether something runs that an interrupt would end."""
        return self.queue.has_unanswered_cell or bool(self.interruption.open)

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs on this lane."""
        return threading.get_ident() == self.ident

    def soon(self, function: Callable[[], object]) -> None:
        """Run a function on the loop, between requests; of a lane that is yet to start: first. Lost if it has ended."""
        self._first.append(function)
        if (loop := self.loop) is not None:
            with suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(self._run_first, context=self.context.copy())

    def start(self) -> None:
        """Serve on a new thread, unless that is done already. One thread calls it.

        Raises OSError or RuntimeError if the system has no descriptors or threads left.
        """
        if self.thread is not None:
            return
        # The loop first, and here: where descriptors or threads have run out, that is an error of the caller's.
        self._new = EventLoop()
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        if not self.interruption.runs_cells:  # the debugger neither shows nor stops it
            self.thread.pydev_do_not_trace = self.thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
        try:
            self.thread.start()
        except BaseException:
            self.thread = None
            self._new.close()
            raise

    def stop(self) -> None:
        """End `run` as soon as the loop gets to it; what is queued is not started any more."""
        self._stopping = True
        self._wake()

    def stop_when_idle(self) -> None:
        """End `run` once all that is queued and running has been served."""
        self._ending = True
        self._wake()

    def join(self, timeout: float) -> bool:
        """Wait until `run` has ended; return whether it has."""
        return self._stopped.wait(timeout)

    def _wake(self) -> None:
        if (loop := self.loop) is not None:
            try:
                loop.call_soon_threadsafe(self._pump)
            except RuntimeError:
                pass  # the loop has been closed: nobody will serve it, `withdraw` returns it

    # ---- the lane's own thread ---------------------------------------------

    def run(self) -> None:
        """Serve until `stop()`. Leaves no current event loop behind."""
        self.ident = threading.get_ident()
        _lanes[self.ident] = self
        self.loop = _adapted(self._new or EventLoop(), self.ident)
        self._new = None
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._run_first, context=self.context.copy())
        self.loop.call_soon(self._pump)
        end_interruption = self.interruption.begin()
        try:
            while not self._stopping:
                self._run_loop()
            self._wind_down()
        finally:
            end_interruption()
            asyncio.set_event_loop(None)
            loop, self.loop = self.loop, None
            loop.close()
            self._stopped.set()
            self._ended()
            del _lanes[self.ident]

    def _run_first(self) -> None:
        while self._first:
            self._first.popleft()()

    @stacks.serving
    def _run_loop(self) -> None:
        assert self.loop is not None
        try:
            self.loop.run_forever()
        except KeyboardInterrupt:
            self.interruption.on_loop_struck()
        except SystemExit:
            pass  # a background task called sys.exit(): its own end, not the kernel's

    def _wind_down(self) -> None:
        """Give what is being served the time to answer, and what still awaits the time to clean up."""
        assert self.loop is not None
        self._winding_down = True
        for _ in range(LAST_MOMENTS):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                break
            self.interruption.strike_all()
            for task in tasks:
                # A request that is not open is between its code and its reply; cancelled, it would get none.
                serves = getattr(task.get_coro(), "cr_code", None) is Lane._serve.__code__
                if task in self.interruption.open.values() or not serves:
                    task.cancel()
            waiting = self.loop.create_task(asyncio.wait(tasks, timeout=LAST_MOMENT))
            waiting.add_done_callback(lambda _: self._stop_loop())
            while not waiting.done():
                self._run_loop()
        self.unfinished = list(self.queue.running_cells)
        for task in asyncio.all_tasks(self.loop):
            # Python would complain of it, and end it, in whatever cell runs when it is collected.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(BaseException):
                task.get_coro().close()

    def _stop_loop(self) -> None:
        assert self.loop is not None
        self.loop.stop()

    def _pump(self) -> None:
        """Start what may start now. On the loop only."""
        loop = self.loop
        if loop is None or self._winding_down:
            return
        if self._stopping:
            loop.stop()
            return
        if self.queue.is_starting:
            return  # `_go_on` will call this
        request = self.queue.start_next()
        if request is None:
            if self._ending and not self.queue.is_occupied:
                self._stopping = True
                loop.stop()
            return
        loop.create_task(self._serve(request), context=self.context)
        loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self.queue.is_starting = False
        self._pump()

    async def _serve(self, request: Request) -> None:
        self.queue.is_starting = False
        try:
            await self.interruption.drive(request, self._handle(request))
        finally:
            self.interruption.served(request)
            if self.queue.served(request) and self.loop is not None:
                self.loop.call_soon(self._pump)

    def serve_waiting(self, most: int | None = None) -> int:
        """Serve, here and now, the queued requests that are not executes, at `most` so many; return how many.

        For synchronous code that runs on this lane and wants widgets to move. Handlers that would have to
        wait are closed at their first `await`: none of those types has one.
        """
        served = 0
        if self.queue.is_starting:
            return 0  # it came before all that waits
        for request in self.queue:
            if served == most:
                break
            if request.msg_type not in SERIAL and self.queue.take(request):
                served += 1
                work = context.drive(request, self._handle(request))
                try:
                    work.send(None)
                except StopIteration:
                    continue
                finally:
                    self.interruption.served(request)
                log.warning("a handler wanted to wait inside a running cell msg_type=%s", request.msg_type)
                work.close()
        return served

    def unlock(self) -> Callable[[], None]:
        """Let one more execute_request run beside the one that runs now, while that one awaits; return the undo."""
        undo = self.queue.allow_one_more()
        self._wake()
        return undo


def _adapted(loop: asyncio.AbstractEventLoop, ident: int) -> asyncio.AbstractEventLoop:
    """Let the loop of a thread wake up whichever thread gives it something to do; return it.

    asyncio asks for `call_soon_threadsafe`. But frontends send comm messages to subshells, and the Event that a
    button's callback sets there is one that a cell of the main shell awaits: it would wait until something else comes.
    """
    of_this_thread, of_another = loop.call_soon, loop.call_soon_threadsafe

    def call_soon(callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        if threading.get_ident() == ident:
            return of_this_thread(callback, *args, context=context)
        return of_another(callback, *args, context=context)

    loop.call_soon = call_soon  # type: ignore[assignment,method-assign]
    return loop
