"""channels: the I/O thread: receives, and sends what is in the outbox. Binds nothing, runs no user code.

Theory. Every socket belongs to the I/O thread from `start()` on (the heartbeat to a thread in C); all others put into
the outbox. One turn of the thread: wait until something can be read, is due, or lies in the outbox; make urgent calls
and those whose time has come; send; then read requests and watched descriptors. When a printed text leaves is decided
in `stream_text`.

A subscriber that stops reading is a matter for `subscribers`: messages wait there, and their bytes count as backlog of
the outbox, so that writers wait, too (status and replies never do).
"""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count

from ipymini.execution.outbox import Frames, Outbox
from ipymini.execution.sockets import Sockets, hidden_thread
from ipymini.protocol.connection import Connection
from ipymini.protocol.messages import Message, Request
from ipymini.protocol.originals import __builtins__, asyncio, logger, threading, time  # noqa: F401
from ipymini.protocol.stream_text import Texts
from ipymini.protocol.wire import BadFrames, Wire

log = logger("ipymini.execution.channels")

SLICE = 20_000  # items of the outbox sent between two looks at the sockets: some 10 ms
RECEIVED = 1000  # messages routed before the outbox has its turn
TRY_AGAIN = 0.020  # seconds until a peer that cannot be reached is tried again
TRY_SUBSCRIBERS = 0.005  # seconds until subscribers whose queues are full are tried again


class Channels:
    """The thread that serves the sockets and the outbox.

    Shared fields: `_urgent` (atomic deque); those of the outbox. All others belong to the I/O thread.
    """

    def __init__(
        self,
        connection: Connection,
        route: Callable[[Request], None],
        ended: Callable[[bool], None] = lambda crashed: None,
        is_interrupted: Callable[[], bool] = lambda: False,
    ):
        """Bind. `route(request)` and `ended(crashed)` are called on the I/O thread. Raises CannotBind.

        `is_interrupted()`: the calling thread must not wait for room now, there is an interrupt for it.
        """
        self._sockets = Sockets(connection)
        self.connection = self._sockets.connection  # with the ports that were chosen
        self._wire = Wire(connection.key.encode(), connection.signature_scheme)
        self._texts = Texts(self._send_text)
        self._thread = hidden_thread(self._run, "ipymini-io")
        self.outbox = Outbox(self._texts, self._wire, self._thread, is_interrupted)
        self._route, self._ended = route, ended
        self._urgent: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._ticket = count()
        self._watched: dict[int, Callable[[], None]] = {}
        self._fillers: set[int] = set()  # those of `_watched` that are not polled while the outbox is full
        self._are_fillers_polled = True
        self._sockets.watch(self.outbox.wake_in)

    # ---- any thread --------------------------------------------------------

    def start(self) -> None:
        """Start the I/O thread and the heartbeat."""
        self._thread.start()
        self._sockets.start_heartbeat()

    def call_first(self, function: Callable[[], object]) -> None:
        """Run a function on the I/O thread before what is in the outbox. It must not block."""
        self._urgent.append(function)
        self.outbox.wake()

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Run a function on the I/O thread in so many seconds, whatever is in the outbox. It must not block."""
        when = time.monotonic() + seconds
        self.call_first(lambda: heappush(self._timers, (when, next(self._ticket), function)))

    def watch(self, descriptor: int, readable: Callable[[], None], *, fills_outbox: bool = False) -> None:
        """Call `readable` on the I/O thread whenever there is something to read; `fills_outbox`: and room for it."""

        def begin() -> None:
            self._watched[descriptor] = readable
            if fills_outbox:
                self._fillers.add(descriptor)
            self._sockets.watch(descriptor)

        self.outbox.call(begin)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching. I/O thread only (`outbox.call` it, or from within `readable`)."""
        self._fillers.discard(descriptor)
        if self._watched.pop(descriptor, None):
            self._sockets.unwatch(descriptor)

    def send_while(self, wanted: Callable[[], bool], channel: str, message: Message, prefix: Sequence[bytes]) -> None:
        """Send as soon as the peer can be reached, trying for as long as `wanted()` says so."""
        frames = self.outbox.encode(channel, message, prefix)

        def attempt() -> None:
            if wanted() and not self._sockets.try_send(channel, frames):
                self.later(TRY_AGAIN, attempt)

        self.outbox.call(attempt)

    async def caught_up(self) -> None:
        """Return when every request that has arrived by now has been routed. Spec of "arrived": the socket has it."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def drained() -> None:
            if not done.done():  # else it has been cancelled
                done.set_result(None)

        def drain() -> None:
            self._receive_all("shell", most=None)
            loop.call_soon_threadsafe(drained)

        self.outbox.call(drain)
        await done

    def close(self, timeout: float = 2.0) -> None:
        """Send what is in the outbox by now, close the sockets on their own thread, and wait for that."""
        if self._thread.is_alive():
            self.outbox.call(self.begin_closing)
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("I/O thread did not end in time seconds=%s", timeout)

    # ---- the I/O thread ----------------------------------------------------

    def begin_closing(self) -> None:
        """Send what is in the outbox by now, and end the thread. I/O thread only (`close` is for the others)."""
        self.outbox.is_closed = True

    def _run(self) -> None:
        crashed = True
        try:
            while not self.outbox.is_closed:
                self._turn()
            self._drain_for_good()
            crashed = False
        except BaseException:
            log.critical("the I/O thread crashed: the kernel cannot go on", exc_info=True)
            self.outbox.is_closed = True  # nobody waits for room any more
        finally:
            self._sockets.close()
            self._ended(crashed)

    def _turn(self) -> None:
        """One round: wait, make the calls that are due, send, then read what has come."""
        outbox, subscribers = self.outbox, self._sockets.subscribers
        if self._are_fillers_polled is not outbox.has_room:
            self._poll_fillers(outbox.has_room)
        ready = self._sockets.poll(self._patience_ms())
        if outbox.wake_in in ready:
            outbox.clear_wakes()
        # Before the outbox: an interrupt, and the end, must not wait behind all that a cell has printed.
        while self._urgent:
            _guarded(self._urgent.popleft())
        while self._timers and self._timers[0][0] <= time.monotonic():
            _guarded(heappop(self._timers)[2])
        self._drain()
        if subscribers.stuck:
            subscribers.retry()
        # What is stuck was counted when it was put into the outbox, and counts until it has left. Writers add while
        # this is set to 0, and such an increment is lost: `backlog` is an estimate, and right again the next time.
        if not outbox.items and not subscribers.stuck:
            outbox.backlog = 0
        # Control first, for it has interrupts. Each stops after RECEIVED messages: replies have to leave as well.
        for channel in ("control", "shell", "stdin", "iopub"):
            if channel in ready:
                self._receive_all(channel)
        for descriptor in [found for found in self._watched if found in ready]:
            _guarded(self._watched[descriptor])

    def _poll_fillers(self, wanted: bool) -> None:
        """Look for what fills the outbox, or do not: a poll would return at once, for ever, while nobody may read."""
        self._are_fillers_polled = wanted
        for descriptor in self._fillers:
            self._sockets.watch(descriptor) if wanted else self._sockets.unwatch(descriptor)

    def _patience_ms(self) -> int | None:
        """Return for how long to wait (ms; None: until something happens), and end the hold when it is over."""
        now = time.monotonic()
        texts = self._texts
        texts.end_hold(now)  # first this, then the look into the outbox: see `stream_text`
        if not texts.is_holding and (self.outbox.items or texts.are_waiting):
            return 0
        until = [texts.hold_until] if texts.is_holding else []
        if self._timers:
            until.append(self._timers[0][0])
        if self._sockets.subscribers.stuck:
            until.append(now + TRY_SUBSCRIBERS)
        # Rounded up: zmq cuts to whole milliseconds, and a wait of 0 would spin until the time has come.
        return max(0, int((min(until) - now) * 1000) + 1) if until else None

    # ---- sending -----------------------------------------------------------

    def _drain(self) -> int:
        """Send what is in the outbox now, SLICE items at most; return how many. What is added meanwhile waits."""
        # Counted before the loop: a thread that prints for ever must not keep this one from its sockets. Nobody else
        # takes from the left, so that many items are there; `abandon` replaces the deque, but in another process.
        items, texts = self.outbox.items, self._texts
        taken = min(len(items), SLICE)
        if not taken and not texts.are_waiting:
            return 0
        for _ in range(taken):
            item = items.popleft()
            if type(item) is tuple:
                texts.add(*item)
                continue
            # Whatever is no text ends the run of texts: these leave before it, or a reply would overtake the output.
            texts.flush()
            if type(item) is Frames:
                self._sockets.send(item.channel, item.frames)
            else:
                _guarded(item)  # type: ignore[arg-type]
        # The clock is read behind the loop: the hold counts from when the sending has ended. Whoever put something in
        # before the hold began has written a byte that ends the next poll; what comes later is found after the hold.
        texts.settle(time.monotonic(), is_behind=len(items) >= SLICE)
        return taken

    def _drain_for_good(self) -> None:
        """Send what is in the outbox now, and no more: a thread that prints for ever must not hold up the end."""
        left = len(self.outbox.items)
        while left > 0:
            left -= self._drain()
        self._texts.flush()
        self._sockets.subscribers.give_up()

    def _send_text(self, request: Request | None, name: str, text: str) -> None:
        if text:
            message = Message("stream", {"name": name, "text": text}, request.header_json if request else b"{}")
            self._sockets.send("iopub", self.outbox.encode("iopub", message, (f"stream.{name}".encode(),)))

    # ---- receiving ---------------------------------------------------------

    def _receive_all(self, channel: str, most: int | None = RECEIVED) -> None:
        """Route what has come, `most` messages; the next poll finds what is left."""
        for _ in count() if most is None else range(most):
            frames = self._sockets.receive(channel)
            if frames is None:
                return
            if channel == "iopub":
                self._welcome(frames[0])
                continue
            try:
                request = self._wire.decode(frames, channel)
                # The end of the id: jupyter_client's ids of one session differ nowhere else.
                log.debug("in channel=%s msg_type=%s msg_id=%s", channel, request.msg_type, request.msg_id[-8:])
                self._route(request)
            except BadFrames as error:
                log.warning("dropped message: %s channel=%s frames=%d", error, channel, len(frames))
            except Exception:
                log.exception("dropped message: routing failed channel=%s", channel)

    def _welcome(self, frame: bytes) -> None:
        """Answer a subscription with iopub_welcome. JEP 65."""
        if frame[:1] != b"\1":
            return
        try:
            topic = frame[1:].decode()
        except UnicodeDecodeError:
            return  # a topic that cannot be said in the welcome's content
        welcome = Message("iopub_welcome", {"subscription": topic})
        self._sockets.subscribers.welcome(self.outbox.encode("iopub", welcome, (frame[1:],) if topic else ()))


def _guarded(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        log.exception("a call on the I/O thread failed")
