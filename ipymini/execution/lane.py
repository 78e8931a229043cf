"""lane: one thread, one event loop, one execute at a time, in order; can be interrupted. Knows no messages' meaning.

Theory. `post` puts a request into the queue and wakes the loop; `_pump`, on the loop, starts what may start. A
request of a *serial* type (execute_request) waits for the one before it. Others start in their turn, and while a
serial one is suspended in an `await` they overtake those serial ones that still wait: that is how comm messages
are handled while a cell awaits. `_pump` runs again right after the first step of what it has started, so it knows
whether that has finished or is suspended; and until then all else stays in the queue, from which others may take it.

Interrupts. User code runs above a *door*: a function marked with `@door`, inside `with lane.interruptible()`.
On the main thread the SIGINT handler looks at the interrupted stack, from the top:
  - a frame of ours first (floors 0 to 2 and 4): the kernel is at work; latch, and look again in RETRY seconds;
  - a door, with a frame of somebody else above it: raise KeyboardInterrupt here and now;
  - no door: the cell is suspended; cancel its task and wake the loop (a task of the cell that blocks the loop in
    synchronous code gets the KeyboardInterrupt as well; one of an earlier cell survives);
  - neither a door nor the loop: a cell has switched to a greenlet, which has a stack of its own. As above a door:
    gevent hands a KeyboardInterrupt on to the cell;
  - nothing is being served: nothing happens.
A latch belongs to one request. It is honoured when that request opens its door, or at the next look, and forgotten
when the request has been served. On other threads there is no signal: PyThreadState_SetAsyncExc takes its place,
under `_gate`, only while a door is open and a step of its request runs. It strikes some bytecodes later, and a
thread that has moved on since it was looked at is looked at again: it may have taken a lock of the imports. Both
the door and the step (`_in_steps`), before they end, let strike what has been set. A cell that has just suspended
gets its KeyboardInterrupt thrown in, and asyncio's own frames, which would lose a wake-up, are never struck.

A cell that prints in a loop is in frames of ours nearly all the time, or waits in one for room in the outbox: no look
may ever find it elsewhere. So what such cells call looks itself as it ends: `give_way`.

A strike that was swallowed where nothing can be raised (a destructor, a GUI toolkit's callback) is *owed*:
`strike_again` has it strike once more, at the end of the cell at the latest.

We are not happy that a look again is a signal: if a cell ends within these milliseconds and the user interrupts the
next one in the same instant, the two signals become one, and are taken for the look again.
"""

import contextvars
import functools
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from types import FrameType, TracebackType, coroutine
from typing import Any

from ipymini.execution import context, stacks, waits
from ipymini.execution.stacks import Called, at_place, own_stack, place_of, stack_of, verdict
from ipymini.protocol.messages import Request
from ipymini.protocol.originals import EventLoop, __builtins__, asyncio, logger, suppress, threading  # noqa: F401

log = logger("ipymini.execution.lane")

SERIAL = frozenset({"execute_request"})
LAST_MOMENT = 0.25  # seconds that what still awaits has for cleaning up when the lane ends
LAST_MOMENTS = 2  # how often it is asked: a cell may swallow its cancellation
RETRY = 0.002  # seconds until an interrupt that met a frame of ours is tried again

_lanes: dict[int, "Lane"] = {}  # by thread ident; each lane's thread adds and removes its own
deferred = False  # there may be a latch: `give_way` has something to do. Any thread; a look again mends a lost race


def is_awaited() -> bool:
    """Whether an interrupt waits for the kernel to be done with what it does on the calling thread."""
    lane = _lanes.get(threading.get_ident()) if deferred else None
    return lane is not None and lane._latched in lane._doors


def give_way() -> None:
    """Raise the KeyboardInterrupt that met the kernel at work for the caller's cell: the work is done.

    To be called as the last thing, if `deferred`, by what a cell may call all the time.
    """
    global deferred
    lane = _lanes.get(threading.get_ident())
    if lane is not None and lane._latched is not None:
        frame: FrameType | None = sys._getframe(1)
        names = frame.f_globals if frame is not None else None
        while frame is not None and frame.f_globals is names:
            frame = frame.f_back
        lane._give_way(frame)
    elif not any(one._latched is not None for one in list(_lanes.values())):
        deferred = False


class Lane:
    """Serves requests one at a time on its own thread (`start`) or on the caller's (`run`).

    Shared fields: `queue` (deque, atomic; the loop pops, anybody appends, `take` and `withdraw` remove),
    `_doors` and `_latched` (under `_gate` on child lanes; on the main lane its thread alone writes them).
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Request], Coroutine[Any, Any, None]],
        *,
        look_again: Callable[[float], None] | None = None,
        runs_cells: bool = False,
        ended: Callable[[], None] = lambda: None,
        later: Callable[[float, Callable[[], None]], None] | None = None,
        end_waits: Callable[[list[Request]], None] = lambda requests: None,
        held: Callable[[int, Iterable[Called]], bool] = lambda ident, stack: False,
    ):
        """`look_again`: this is the main thread's lane, struck by signals. `runs_cells`: a child lane's waits can end.

        `later(seconds, function)`: call it on some other thread; a child lane's second look at an interrupt needs it.
        `end_waits(requests)`: make the kernel's own waits in the cells of a child lane fail; no exception reaches them.
        `held(ident, stack)`: whether a thread stands at a breakpoint: its cell ends with KeyboardInterrupt without us.
        `ended` is called on the lane's thread when it serves no more.
        """
        self.name = name
        self.queue: deque[Request] = deque()
        self.context = contextvars.copy_context()  # what must outlive a cell lives here
        self.loop: asyncio.AbstractEventLoop | None = None
        self._new: asyncio.AbstractEventLoop | None = None  # made by `start` for `run`
        self.ident: int | None = None
        self.thread: threading.Thread | None = None
        self._handle, self._ended, self._held = handle, ended, held
        self._later, self._end_waits = later, end_waits
        self._look_again = look_again  # ask for `on_sigint` in so many seconds; None: no signals on this lane
        self._looking_again_for: Request | None = None
        self._serial: dict[Request, asyncio.Task[None] | None] = {}  # what runs: one, or more while unlocked
        self._answered: set[Request] = set()  # of these: what is idle for its client, and about to end
        self._starting = False  # what has been started last has not made its first step yet
        self._extra = 0  # how many serial requests beyond the first may run now
        self._doors: dict[Request, asyncio.Task[None] | None] = {}
        self._latched: Request | None = None
        self._owed: Request | None = None  # its KeyboardInterrupt was swallowed; it gets another one, come what may
        self._interrupted: set[Request] = set()
        self._gate = threading.Lock()
        self._shot = False  # an exception has been set for the lane's thread; it may have struck or not; under _gate
        self._step: Request | None = None  # whose step runs on a child lane; under _gate
        self._order: object = None  # the latest cancellation that has been asked for; under _gate
        self._waker = waits.Waker() if runs_cells else None
        self._stopping = False
        self._winding_down = False
        self.unfinished: list[Request] = []  # cells that would not end with the lane: the kernel answers them
        self._first: deque[Callable[[], object]] = deque()  # what `soon` was given
        self._ending = False  # stop as soon as nothing is left to do
        self._started = threading.Event()
        self._stopped = threading.Event()

    # ---- any thread --------------------------------------------------------

    @staticmethod
    def here() -> "Lane | None":
        """Return the lane that runs on this thread."""
        return _lanes.get(threading.get_ident())

    def post(self, request: Request) -> bool:
        """Put a request into the queue; return False if the lane has ended. One that is yet to run serves it then."""
        self.queue.append(request)
        self._wake()
        return not (self._stopped.is_set() and self.take(request))

    def take(self, request: Request) -> bool:
        """Take one request back; return whether it was still queued."""
        try:
            self.queue.remove(request)
        except ValueError:
            return False
        return True

    def withdraw(self, msg_type: str | None = None) -> list[Request]:
        """Take back all queued requests (of one type), oldest first."""
        taken = [request for request in list(self.queue) if msg_type in (None, request.msg_type)]
        return [request for request in taken if self.take(request)]

    @property
    def is_occupied(self) -> bool:
        """Whether a request sent now would have to wait."""
        return bool(self._serial or self.queue)

    @property
    def is_stopping(self) -> bool:
        """Whether the lane has been asked to stop."""
        return self._stopping

    @property
    def is_running(self) -> bool:
        """Whether something runs that an interrupt would end."""
        return bool(self._serial.keys() - self._answered or self._doors)

    @property
    def running(self) -> list[Request]:
        """The requests whose user code runs or awaits."""
        return list(self._doors)

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller runs on this lane."""
        return threading.get_ident() == self.ident

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the lane's loop, between requests. The lane must have been started."""
        self._started.wait()
        if self.loop is not None:
            self.loop.call_soon_threadsafe(function)

    def soon(self, function: Callable[[], object]) -> None:
        """Run a function on the loop, between requests; of a lane that is yet to start: first. Lost if it has ended."""
        self._first.append(function)
        if (loop := self.loop) is not None:
            with suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(self._run_first, context=self.context.copy())

    def start_once(self) -> None:
        """Start, unless that has been done. For one thread to call: the I/O thread."""
        if self.thread is None:
            self.start()

    def start(self) -> None:
        """Serve on a new thread. Raises OSError or RuntimeError if the system has no descriptors or threads left."""
        # The loop first, and here: where descriptors or threads have run out, that is an error of the caller's.
        self._new = EventLoop()
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        if self._waker is None:  # runs no cells: the debugger neither shows nor stops it
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

    def answered(self, request: Request) -> None:
        """Take note that a request is about to be idle for its client: no interrupt from then on is meant for it."""
        self._answered.add(request)

    def was_interrupted(self, request: Request) -> bool:
        """Whether an interrupt has struck this request since its door opened."""
        return request in self._interrupted

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
        unenroll = waits.enroll(self._waker) if self._waker is not None else None
        self._started.set()
        try:
            while not self._stopping:
                self._run_loop()
            self._wind_down()
        finally:
            if unenroll is not None:
                unenroll()
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
            # asyncio hands it on after it has ended a task of the cell; the cell itself has to end as well.
            with self._gate:
                self._shot = False
            self._cancel_suspended(None)
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
            self._interrupted.update(self._doors)
            for task in tasks:
                # A request with its door closed is between its code and its reply; cancelled, it would get none.
                if task in self._doors.values() or getattr(task.get_coro(), "cr_code", None) is not Lane._one.__code__:
                    task.cancel()
            waiting = self.loop.create_task(asyncio.wait(tasks, timeout=LAST_MOMENT))
            waiting.add_done_callback(lambda _: self._stop_loop())
            while not waiting.done():
                self._run_loop()
        self.unfinished = list(self._serial)
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
        if self._starting:
            return  # `_go_on` will call this
        request = self._next()
        if request is None:
            if self._ending and not self.is_occupied:
                self._stopping = True
                loop.stop()
            return
        serial = request.msg_type in SERIAL
        if serial:
            self._serial[request] = None
        self._starting = True
        loop.create_task(self._one(request, serial), context=self.context)
        loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._starting = False
        self._pump()

    def _next(self) -> Request | None:
        queue = self.queue
        try:
            if len(self._serial) <= self._extra:
                return queue.popleft()
            for request in list(queue):
                if request.msg_type not in SERIAL and self.take(request):
                    return request
        except IndexError:
            pass  # empty
        return None

    async def _one(self, request: Request, serial: bool) -> None:
        self._starting = False
        if serial:
            self._serial[request] = context.current_task()
        try:
            work = self._handle(request)
            await context.drive(request, work if self._waker is None else self._in_steps(request, work))
        finally:
            self._interrupted.discard(request)
            self._answered.discard(request)
            if self._latched is request:
                self._latched = None
            if serial:
                del self._serial[request]
                if self.loop is not None:
                    self.loop.call_soon(self._pump)

    @coroutine
    def _in_steps(self, request: Request, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run a coroutine so that an interrupt of a child lane strikes within one of its steps, and nothing else."""
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
            # Suspended and not waiting: it struck between the two, as `send` returned (Python 3.13).
            ended = work.cr_frame is None  # type: ignore[attr-defined]
            if failure is not None and not ended:
                failure, struck = None, True
            while True:
                try:
                    with self._gate:
                        self._step = before
                        shot, self._shot = self._shot, False
                    if shot:
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
            if struck and request in self._doors:
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

    # ---- interrupts --------------------------------------------------------

    def interruptible(self, request: Request) -> "Interruptible":
        """Return the context manager in which a KeyboardInterrupt may appear; it may itself raise one (the latch)."""
        return Interruptible(self, request)

    def on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """Decide what an interrupt means where the main thread is now. Takes no lock: see the theory."""
        again, self._looking_again_for = self._looking_again_for, None
        if again is not None and again is not self._latched:
            return  # the request it was meant for has gone
        if not self._serial and not self._doors:
            return
        if self._doors and self._held(self.ident or 0, own_stack(frame)):
            self._interrupted.update(self._doors)
            return
        request = context.own()
        found = verdict(own_stack(frame))
        if found == "elsewhere":
            request = self._in_progress()
        struck = found == "user" or (found == "elsewhere" and request in self._doors)
        if self._doors and found in ("user", "elsewhere", "outside", "outside-user"):
            self._latched = self._owed = None
            self._interrupted.update(self._doors)
            assert self.loop is not None
            self.loop.call_soon_threadsafe(self._cancel_suspended, request if struck else None)
            if struck or (found == "outside-user" and request in self._doors):
                raise KeyboardInterrupt
            return
        waiting = next(iter(self._serial or self._doors), None)
        self._latch(request if request in self._serial or request in self._doors else waiting)
        if self._doors and self._look_again is not None:
            self._look_again(RETRY)

    def _in_progress(self) -> Request | None:
        """Return the request that blocks the loop, where no context says so: each greenlet has one of its own."""
        for request, task in self._doors.items():
            if task is not None and getattr(task.get_coro(), "cr_running", False):
                return request
        return None

    @property
    def is_looking_again(self) -> bool:
        """Whether the signal that comes is a look again, and no new interrupt."""
        return self._looking_again_for is not None

    def prepare_another_look(self) -> bool:
        """Say that the next signal is a look again; return False if there is nothing left to look for."""
        self._looking_again_for = self._latched
        return self._latched is not None

    def strike_again(self) -> bool:
        """Interrupt the caller's cell once more, soon, or at its end: it did not get the KeyboardInterrupt.

        On the lane's thread, whatever it is doing: takes no lock. Return whether there is a cell to interrupt.
        """
        request = context.own()
        if request is None or request not in self._doors:
            return False
        self._owed = request
        if self._look_again is not None:
            self._latch(request)
            self._look_again(RETRY)
        elif self._later is not None:
            self._later(RETRY, self._pay)
        return True

    def _pay(self) -> None:
        if self._owed is not None and self._owed in self._doors:
            self.interrupt()

    def interrupt(self, *, again: bool = False) -> None:
        """End what runs on a lane without signals. From any thread but its own. `again`: only what is latched."""
        with self._gate:
            if again and self._latched not in self._doors:
                return
            if not self._doors:
                self._latch(next(iter(self._serial), None))
                return
            self._interrupted.update(self._doors)
            ident = self.ident or 0
            place, stack = place_of(ident), stack_of(ident)
            if self._held(ident, stack):
                return
            found, step = verdict(stack), self._step
            hits = found == "outside-user" or (found in ("user", "elsewhere") and step in self._doors)
            owed, self._owed = self._owed, None if hits else self._owed  # first: it may be swallowed before we go on
            if hits and not raise_at(ident, place, KeyboardInterrupt):
                found, hits, self._owed = "ours", False, owed  # it has moved on meanwhile
            self._order = order = object()
            # Latched until it has struck: the thread moves on while we decide, into the kernel or out of its loop.
            self._latch(None if hits else step if step in self._doors else next(iter(self._doors)))
            if hits:
                self._shot = True
                if self._waker is not None:
                    self._waker.wake()
        if self.loop is not None and found not in ("ours", "neutral"):  # else: not yet; it will be looked at again
            self.loop.call_soon_threadsafe(self._cancel_suspended, step if hits else None, order)
            self._end_waits(self.running)
        if not hits and self._later is not None:
            self._later(RETRY, lambda: self.interrupt(again=True))

    def _latch(self, request: Request | None) -> None:
        global deferred
        self._latched = request
        if request is not None:
            deferred = True

    def _give_way(self, frame: FrameType | None) -> None:
        """Look again, here and now; `frame` is the one that called the kernel. On the lane's thread."""
        found = verdict(own_stack(frame))
        if found not in ("user", "outside-user", "elsewhere"):
            return
        if self._look_again is not None:
            self._looking_again_for = self._latched
            self.on_sigint(0, frame)
            return
        if not self._gate.acquire(blocking=False):
            return  # held by whom we may have interrupted: a destructor can print anywhere
        try:
            step = self._step
            if self._latched not in self._doors or not (found == "outside-user" or step in self._doors):
                return
            self._latched = self._owed = None
            self._order = order = object()
        finally:
            self._gate.release()
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._cancel_suspended, step, order)
        self._end_waits(self.running)
        raise KeyboardInterrupt

    def _cancel_suspended(self, but: Request | None, order: object = None) -> None:
        """Cancel what was struck and is suspended, `but` the one that got its KeyboardInterrupt. On the loop only.

        An `order` that is not the latest one has been overtaken: nothing is done.
        """
        if order is not None:
            with self._gate:
                if order is not self._order:
                    return
                self._order = self._latched = None
        for request, task in list(self._doors.items()):
            if request is not but and request in self._interrupted and task is not None:
                task.cancel()

    def serve_waiting(self, most: int | None = None) -> int:
        """Serve, here and now, the queued requests that are not executes, at `most` so many; return how many.

        For synchronous code that runs on this lane and wants widgets to move. Handlers that would have to
        wait are closed at their first `await`: none of those types has one.
        """
        served = 0
        if self._starting:
            return 0  # it came before all that waits
        for request in list(self.queue):
            if served == most:
                break
            if request.msg_type not in SERIAL and self.take(request):
                served += 1
                work = context.drive(request, self._handle(request))
                try:
                    work.send(None)
                except StopIteration:
                    continue
                finally:
                    self._interrupted.discard(request)
                log.warning("a handler wanted to wait inside a running cell msg_type=%s", request.msg_type)
                work.close()
        return served

    def unlock(self) -> Callable[[], None]:
        """Let one more execute_request run beside the one that runs now, while that one awaits; return the undo."""
        self._extra += 1
        undone = False

        def undo() -> None:
            nonlocal undone
            if not undone:
                undone = True
                self._extra -= 1

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


class Interruptible:
    """The open door of one request. Class and not generator: nothing may run between its two ends but user code."""

    def __init__(self, lane: Lane, request: Request):
        self._lane, self._request = lane, request

    def __enter__(self) -> None:
        lane, request = self._lane, self._request
        self._standing = context.standing()
        task = context.current_task() if lane.loop is not None and lane.is_current_thread else None
        with lane._gate:
            lane._doors[request] = task
            if lane._waker is not None:
                lane._waker.clear()  # of an interrupt that struck an earlier cell
            struck = lane._latched is request or lane._stopping
            if struck:
                lane._latched = None
                lane._interrupted.add(request)
                del lane._doors[request]
        if struck:
            raise KeyboardInterrupt

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lane, task = self._lane, None
        while True:
            try:
                with lane._gate:
                    task = lane._doors.pop(self._request, task)
                    shot, lane._shot = lane._shot, False
                    if lane._latched is self._request:
                        lane._latched = None
                if shot:
                    let_it_strike()
                break
            except KeyboardInterrupt:
                continue  # set by another thread just before the door closed: it has struck, in time
        context.put_right(*self._standing)  # here already: what follows in this step awaits
        if task is not None:
            while task.cancelling():  # the cancellation was the interrupt, and it is over
                task.uncancel()
        if lane._owed is self._request:
            lane._owed = None
            if kind is None:
                raise KeyboardInterrupt


def raise_at(ident: int, place: list[Any], kind: type[BaseException]) -> bool:
    """Raise an exception in another thread, if it is still at a place (`place_of`); return whether it was.

    It is raised there, or some bytecodes later; in a thread that waits in C, when that has ended.
    """
    function, integer, reference = _set_async_exc()
    return at_place(ident, place, function, integer(ident), reference(kind))


@functools.cache
def _set_async_exc() -> tuple[Any, Any, Any]:
    # Not with `ctypes`: it imports what a cell may have replaced. And only child lanes need it: 0.3 ms.
    import _ctypes

    integer = type("c_ulong", (_ctypes._SimpleCData,), {"_type_": "L"})
    reference = type("py_object", (_ctypes._SimpleCData,), {"_type_": "O"})
    flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    kind: Any = type("Function", (_ctypes.CFuncPtr,), {"_flags_": flags})
    return kind(_ctypes.dlsym(_ctypes.dlopen(None, 0), "PyThreadState_SetAsyncExc")), integer, reference  # type: ignore[arg-type]


def let_it_strike() -> None:
    """Run the bytecode at which an exception that is set for this thread, and has not struck yet, strikes.

    To withdraw it, with NULL, has a price up to Python 3.12: the interpreter goes on looking for it, in every thread,
    at every call and loop; and a thread that is being debugged on 3.11 never gets beyond its next call.
    """
    for _ in range(10):
        pass
