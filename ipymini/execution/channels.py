"""channels: the one I/O thread: binds, polls, receives, and sends what is in the outbox. Runs no user code.

Theory. Every socket belongs to the I/O thread from `start()` on (the heartbeat to a thread in C). All others
put into the outbox, a deque: appending is atomic, re-entrant, and safe in `__del__` and in signal handlers.
One FIFO for all channels keeps "busy < execute_input < stream < reply < idle" true without further care.

Three kinds of things lie in the outbox: texts (request, name, text), which the I/O thread joins to one stream
message per request and stream where nothing but texts lies between them (cells that print side by side write in
turns: a message for every piece would be more than anybody can read); frames (channel, frames); and callables,
run in their turn.

Waking. A byte in a pipe wakes the thread. After it has sent texts it *holds*: it looks again after HOLD seconds
by itself, so that writers need not wake it. A writer appends first and then reads `_holding`; the thread clears
`_holding` first and then looks into the outbox once more. Whoever comes second sees the other.

A subscriber that stops reading is a matter for `subscribers`: messages wait there, and their bytes count against
BUDGET, so that writers wait, too (status and replies never do).
"""

import atexit
import errno
import json
import sys
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

import zmq
from zmq.backend import Socket as _Backend  # its send and recv skip the layers of zmq.Socket's
from zmq.backend import strerror as zmq_strerror
from zmq.backend import zmq_errno

from ipymini.execution.subscribers import Subscribers, size_of
from ipymini.protocol.connection import Connection, in_random_order
from ipymini.protocol.messages import IpyminiError, Message, Request
from ipymini.protocol.originals import __builtins__, asyncio, logger, logging, os, private, threading, time  # noqa: F401
from ipymini.protocol.stream_text import TEXT_SOON, Texts
from ipymini.protocol.wire import BadFrames, Wire

log = logger("ipymini.execution.channels")
_Poller = private(zmq.Poller)

HOLD = 0.010  # seconds between two looks at a busy outbox
LINE_END = 0.002  # seconds that a text may wait for the end of its line
HURRY = 0.002  # seconds between two drains from which the outbox counts as busy
BUDGET = 64 << 20  # bytes in the outbox from which writers wait
ITEM = 100  # bytes that a text takes in the outbox besides its characters
ENVELOPE = 1000  # bytes that a message takes there besides its content
SLICE = 20_000  # items of the outbox sent between two looks at the sockets: some 10 ms
LINGER = 500  # ms that closing sockets may take to get rid of their messages
HEART_TIMEOUT = 0.5  # seconds for the heartbeat thread to notice the end
ZERO_COPY = 65_536  # bytes from which a frame is not copied
NOW, NOW_AND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)

KINDS = {"shell": zmq.ROUTER, "stdin": zmq.ROUTER, "control": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}


class CannotBind(IpyminiError):
    """A port of the connection file cannot be had."""


class Channels:
    """The five sockets and the thread that serves them.

    Shared fields: `_outbox` (atomic deque), `backlog` (an estimate: increments may get lost in a race,
    and it is set to 0 whenever the outbox is empty), `_holding` (written by the I/O thread only).
    """

    def __init__(
        self,
        connection: Connection,
        route: Callable[[Request], None],
        ended: Callable[[bool], None] = lambda crashed: None,
        hurried: Callable[[], bool] = lambda: False,
    ):
        """`route(request)` and `ended(crashed)` are called on the I/O thread.

        `hurried()`: the calling thread must not wait for room now, there is an interrupt for it.
        """
        self.wire = Wire(connection.key.encode(), connection.signature_scheme)
        self.backlog = 0
        self._route, self._ended, self._hurried = route, ended, hurried
        self._outbox: deque[Any] = deque()
        self._urgent: deque[Callable[[], object]] = deque()
        self._holding, self._hold_until, self._drained_at = False, 0.0, 0.0
        self._line_end_until = 0.0  # until when the text in front waits for the end of its line; 0: it does not
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = count()
        self._watched: dict[int, Callable[[], None]] = {}
        self._fillers: set[int] = set()  # those of `_watched` that are not polled while the outbox is full
        self._are_polled = True
        self._closing = False
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        for end in (self._wake_in, self._wake_out):
            # Not earlier: a late `wake` must not write to a descriptor that is somebody else's by then.
            weakref.finalize(self, os.close, end).atexit = False
        self._context = zmq.Context()
        self._poller = _Poller()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self.connection = self._bind(connection)
        self._thread = threading.Thread(target=self._run, name="ipymini-io", daemon=True)
        self._heart = threading.Thread(target=self._beat, name="ipymini-heartbeat", daemon=True)

    # ---- any thread --------------------------------------------------------

    def start(self) -> None:
        """Start the I/O thread and the heartbeat."""
        for thread in (self._thread, self._heart):
            # The debugger neither shows nor stops it.
            thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
            thread.start()

    def send(
        self, channel: str, message: Message, prefix: Sequence[bytes] = (), *, patient: bool = True, wake: bool = True
    ) -> None:
        """Encode here and now, and put the frames into the outbox.

        Raises TypeError or ValueError if the content cannot become JSON. `patient`: wait while the outbox
        is over its budget. `wake=False`: something that wakes the I/O thread follows at once.
        """
        frames = self.encode(channel, message, prefix)
        if patient and self.backlog > BUDGET:
            self.wait_for_room()
        self.backlog += ENVELOPE + (len(frames[-1]) if not message.buffers else sum(map(size_of, message.buffers)))
        self._outbox.append((channel, frames))
        if wake:
            self.wake()

    def put(self, channel: str, frames: list[Any]) -> None:
        """Put an encoded message into the outbox, without waiting for room. The I/O thread is woken by what follows."""
        self.backlog += sum(map(size_of, frames))
        self._outbox.append((channel, frames))

    def send_frames(self, channel: str, frames: list[Any]) -> None:
        """Put a message that somebody else has encoded and signed into the outbox."""
        if self.backlog > BUDGET:
            self.wait_for_room()
        self.backlog += sum(map(size_of, frames))
        self._outbox.append((channel, frames))
        self.wake()

    def encode(self, channel: str, message: Message, prefix: Sequence[bytes]) -> list[Any]:
        """Return the frames of a message; all messages that leave pass here."""
        if log.isEnabledFor(logging.DEBUG):
            cause = _short(str(json.loads(message.parent).get("msg_id", "none")))
            log.debug("out channel=%s msg_type=%s parent=%s", channel, message.msg_type, cause)
        return self.wire.encode(message, prefix)

    @property
    def has_room(self) -> bool:
        """Whether the outbox is below its budget."""
        return self.backlog <= BUDGET

    def write(self, request: Request | None, name: str, text: str, *, patient: bool = True) -> None:
        """Put a piece of stream text into the outbox; neighbours of one request and name become one message."""
        if self.backlog > BUDGET and patient:
            self.wait_for_room()
        self._outbox.append((request, name, text))
        self.backlog += len(text) + ITEM
        if not self._holding or len(text) >= TEXT_SOON:
            self.wake()

    def soft_wake(self) -> None:
        """Wake the I/O thread unless it looks again by itself within HOLD seconds."""
        if not self._holding:
            self.wake()

    def wake(self) -> None:
        """Make the I/O thread look into the outbox now."""
        # On every put, even if the thread is awake: a KeyboardInterrupt between "mark as awake" and the
        # write would leave the mark set and the thread asleep for good.
        try:
            os.write(self._wake_out, b"\0")
        except (BlockingIOError, OSError):
            pass  # the pipe is full, so the thread is awake; or it is closed, and nobody is left to wake

    def call(self, function: Callable[[], object], *, wake: bool = True) -> None:
        """Run a function on the I/O thread, after all that is in the outbox now. It must not block."""
        self._outbox.append(function)
        if wake:
            self.wake()

    def call_first(self, function: Callable[[], object]) -> None:
        """Run a function on the I/O thread before what is in the outbox. It must not block."""
        self._urgent.append(function)
        self.wake()

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Run a function on the I/O thread in so many seconds, whatever is in the outbox. It must not block."""
        when = time.monotonic() + seconds
        self.call_first(lambda: heappush(self._timers, (when, next(self._ticket), function)))

    def watch(self, descriptor: int, readable: Callable[[], None], *, fills_outbox: bool = False) -> None:
        """Call `readable` on the I/O thread whenever there is something to read; `fills_outbox`: and room for it."""

        def begin() -> None:
            self._watched[descriptor] = readable
            if fills_outbox:
                self._fillers.add(descriptor)
            self._poller.register(descriptor, zmq.POLLIN)

        self.call(begin)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching. I/O thread only (`call` it, or from within `readable`)."""
        self._fillers.discard(descriptor)
        if self._watched.pop(descriptor, None) and descriptor in self._poller:
            self._poller.unregister(descriptor)

    def send_while(self, wanted: Callable[[], bool], channel: str, message: Message, prefix: Sequence[bytes]) -> None:
        """Send as soon as the peer can be reached, trying for as long as `wanted()` says so."""
        frames = self.encode(channel, message, prefix)

        def attempt() -> None:
            if not wanted():
                return
            try:
                self._put(self._sockets[channel], frames)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                self.later(0.02, attempt)

        self.call(attempt)

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

        self.call(drain)
        await done

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the outbox now has been handed to zmq; return whether it was in time."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return False
        done = allocate_lock()  # and not an Event: it costs a tenth, and nothing in it can be interrupted halfway
        done.acquire()
        self.backlog += ENVELOPE  # the text before it becomes a message of its own
        self.call(done.release)
        return done.acquire(timeout=timeout)

    def wait_for_room(self) -> None:
        """Wait until the outbox is below its budget, or an interrupt waits for the caller to be done."""
        while self.backlog > BUDGET and not self._closing and threading.current_thread() is not self._thread:
            if self._hurried():
                return
            self.wake()
            threading.Event().wait(0.005)

    def abandon(self) -> None:
        """Forget everything, in a forked child: the sockets and the thread stayed with the parent."""
        self._outbox, self._urgent = deque(), deque()
        self._closing = True
        self._wake_out = -1

    @staticmethod
    def keep_frames() -> None:
        """Keep pyzmq's exit function from freeing what ZeroMQ still has to send: the process would crash."""
        garbage = sys.modules.get("zmq.utils.garbage")  # imported with the first frame that is not copied
        if garbage is not None:
            atexit.unregister(garbage.gc._atexit)

    def close(self, timeout: float = 2.0) -> None:
        """Send what is in the outbox by now, close the sockets on their own thread, and wait for that."""
        if self._thread.is_alive():
            self.call(self.begin_closing)
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("I/O thread did not end in time seconds=%s", timeout)

    def begin_closing(self) -> None:
        """Send what is in the outbox by now, and end the thread. I/O thread only (`close` is for the others)."""
        self._closing = True

    # ---- binding -----------------------------------------------------------

    def _bind(self, wanted: Connection) -> Connection:
        ports = {}
        for channel, kind in KINDS.items():
            socket = self._sockets[channel] = self._context.socket(kind)
            socket.linger = LINGER
            if channel in ("shell", "stdin", "control"):
                socket.router_handover = 1  # a client that reconnects under its old identity takes over
                socket.set_hwm(0)
            if channel == "stdin":
                socket.router_mandatory = 1  # an input_request to nobody must be retried, not dropped
            if channel == "iopub":
                self._subscribers = Subscribers(socket, self._put)
                self._poller.register(self._subscribers.monitor, zmq.POLLIN)
            if wanted.is_encrypted:
                socket.curve_publickey = wanted.curve_publickey
                socket.curve_secretkey = wanted.curve_secretkey
                socket.curve_server = 1
            if ":" in wanted.ip:
                socket.ipv6 = 1
            ports[channel] = self._bind_one(socket, wanted, channel)
            if channel != "hb":
                self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._wake_in, zmq.POLLIN)
        if wanted.is_open_to_others:
            log.warning("whoever can reach these ports can read what cells print: no curve keys ip=%s", wanted.ip)
        return wanted.with_ports(ports)

    def _bind_one(self, socket: "zmq.Socket[bytes]", wanted: Connection, channel: str) -> int:
        port = wanted.ports[channel]
        if wanted.transport == "ipc" and not port:
            port = next(n for n in count(1) if not os.path.exists(f"{wanted.ip}-{n}"))
        if wanted.transport == "tcp" and not port and wanted.port_range:
            return self._bind_within(socket, wanted, channel, wanted.port_range)
        endpoint = wanted.endpoint(channel, port)
        umask = os.umask(0o177) if wanted.transport == "ipc" else None  # the socket's file is for its owner alone
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise CannotBind(f"cannot bind {channel} to {endpoint}: {error}; choose another port, or 0") from None
        finally:
            if umask is not None:
                os.umask(umask)
        if wanted.transport == "ipc":
            return port
        return int(bytes(socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").rpartition(b":")[2])

    def _bind_within(self, socket: "zmq.Socket[bytes]", wanted: Connection, channel: str, ports: range) -> int:
        """Bind to a free port of a range; all are tried."""
        for port in in_random_order(ports):
            if port in wanted.ports.values():
                continue  # of a channel that has to have it
            try:
                socket.bind(wanted.endpoint(channel, port))
                return port
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EADDRINUSE, errno.EACCES):
                    raise CannotBind(f"cannot bind {channel} to {wanted.endpoint(channel, port)}: {error}") from None
        raise CannotBind(
            f"no port is free for {channel} in {ports[0]}..{ports[-1]} on {wanted.ip}: all {len(ports)} are taken; "
            "choose a wider range"
        )

    def _beat(self) -> None:
        heart = self._sockets["hb"]
        try:
            zmq.proxy(heart, heart)  # echoes in C, without the GIL, until the context ends
        except zmq.ZMQError:
            pass  # that end
        heart.close(linger=0)

    # ---- the I/O thread ----------------------------------------------------

    def _run(self) -> None:
        crashed = True
        try:
            while not self._closing:
                self._turn()
            self._drain_for_good()
            self._subscribers.give_up()
            crashed = False
        except BaseException:
            log.critical("the I/O thread crashed: the kernel cannot go on", exc_info=True)
            self._closing = True  # nobody waits for room any more
        finally:
            for channel, socket in self._sockets.items():
                if channel != "hb":
                    self._poller.unregister(socket)
                    self._subscribers.close() if channel == "iopub" else socket.close()
            self._end_context()
            self._ended(crashed)

    def _end_context(self) -> None:
        """End zmq, waiting for what lingers; but not for a heartbeat thread that somebody holds up (a debugger)."""
        ending = threading.Thread(target=self._context.term, name="ipymini-ending", daemon=True)
        ending.start()  # tells the heartbeat's proxy to end, and waits until its socket is closed too
        self._heart.join(HEART_TIMEOUT)
        if self._heart.is_alive():
            log.warning("the heartbeat thread did not end in time: messages may be lost")
        else:
            ending.join()

    def _turn(self) -> None:
        """One round: wait, send what is due, then read what has come."""
        if self._are_polled is not self.has_room:
            self._poll_fillers(self.has_room)
        ready = dict(self._poller.poll(self._patience_ms()))
        if self._wake_in in ready:
            try:
                os.read(self._wake_in, 65_536)
            except BlockingIOError:
                pass  # the byte was read already, a forked child cannot have taken it but a spurious wake can come
        while self._urgent:
            self._guard(self._urgent.popleft())
        if self._timers:
            self._run_timers()
        self._drain()
        if self._subscribers.stuck:
            self._subscribers.retry()
        if not self._outbox and not self._subscribers.stuck:
            self.backlog = 0
        if self._subscribers.monitor in ready:
            self._subscribers.take_events()
        for channel in ("control", "shell", "stdin", "iopub"):
            if self._sockets[channel] in ready:
                self._receive_all(channel)
        for descriptor in [found for found in self._watched if found in ready]:
            self._guard(self._watched[descriptor])

    def _poll_fillers(self, wanted: bool) -> None:
        """Look for what fills the outbox, or do not: a poll would return at once, for ever, while nobody may read."""
        self._are_polled = wanted
        for descriptor in self._fillers:
            if wanted:
                self._poller.register(descriptor, zmq.POLLIN)
            elif descriptor in self._poller:
                self._poller.unregister(descriptor)

    def _patience_ms(self) -> int | None:
        """Return for how long to wait (ms; None: until something happens), and end the hold when it is over."""
        now = time.monotonic()
        if self._holding and now >= self._hold_until:
            self._holding = False  # first this, then the look into the outbox: see the theory
        if self._outbox and not self._holding:
            return 0
        until = [self._hold_until] if self._holding else []
        if self._timers:
            until.append(self._timers[0][0])
        if self._subscribers.stuck:
            until.append(now + 0.005)
        # Rounded up: zmq cuts to whole milliseconds, and a wait of 0 would spin until the time has come.
        return max(0, int((min(until) - now) * 1000) + 1) if until else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._guard(heappop(self._timers)[2])

    def _guard(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception:
            log.exception("a call on the I/O thread failed")

    def _drain(self) -> None:
        """Send what is in the outbox now, SLICE items at most. What is added meanwhile waits, or readers starve."""
        outbox, waiting = self._outbox, min(len(self._outbox), SLICE)
        if not waiting:
            return
        texts = Texts(self._send_text)
        said_texts = False
        for _ in range(waiting):
            item = outbox.popleft()
            if type(item) is tuple and len(item) == 3:
                texts.add(*item)
                said_texts = True
                continue
            texts.send()
            if type(item) is tuple:
                self._send(*item)
            else:
                self._guard(item)
        unfinished = texts.unfinished()
        if unfinished and self._may_wait_for_the_end():
            texts.send(but=unfinished)
            outbox.extendleft(reversed(unfinished))
            return
        self._line_end_until = 0.0
        texts.send()
        now = time.monotonic()
        if len(outbox) >= SLICE:
            self._holding = False  # far behind: no rest
        elif said_texts or now - self._drained_at < HURRY:
            # After texts, and when much is said: a cell's first words must not wait for those of its execute_input.
            self._holding, self._hold_until = True, now + HOLD
        self._drained_at = now

    def _drain_for_good(self) -> None:
        """Send what is in the outbox now, and no more: a thread that prints for ever must not hold up the end."""
        left = len(self._outbox)
        while left > 0:
            self._line_end_until = -1.0  # long over: no text waits for the end of its line any more
            before = len(self._outbox)
            self._drain()
            left -= min(before, SLICE)

    def _may_wait_for_the_end(self) -> bool:
        """Whether texts without the end of their line stay in the outbox: `print` writes that on its own."""
        now = time.monotonic()
        if not self._line_end_until:
            self._line_end_until = now + LINE_END
        elif now >= self._line_end_until:
            return False
        self._holding, self._hold_until = True, self._line_end_until
        return True

    def _send_text(self, request: Request | None, name: str, text: str) -> None:
        if text:
            message = Message("stream", {"name": name, "text": text}, request.header_json if request else b"{}")
            self._send("iopub", self.encode("iopub", message, (f"stream.{name}".encode(),)))

    def _send(self, channel: str, frames: list[Any]) -> None:
        try:
            if channel == "iopub":
                self._subscribers.send(frames)
            else:
                self._put(self._sockets[channel], frames)
        except zmq.ZMQError as error:
            log.warning("dropped message: %s channel=%s", error, channel)

    def _put(self, socket: "zmq.Socket[bytes]", frames: list[Any]) -> None:
        last = len(frames) - 1
        try:
            for position, frame in enumerate(frames):
                flags = NOW if position == last else NOW_AND_MORE
                _Backend.send(socket, frame, flags, size_of(frame) < ZERO_COPY, False)
        except zmq.ZMQError:
            raise
        except Exception:
            raise _failure() from None

    # ---- receiving ---------------------------------------------------------

    def _receive_all(self, channel: str, most: int | None = 1000) -> None:
        """Route what has come. After `most` messages the outbox has its turn; the next poll finds what is left."""
        socket = self._sockets[channel]
        for _ in count() if most is None else range(most):
            try:
                frames = _receive(socket)
            except zmq.Again:
                return
            if channel == "iopub":
                self._subscription(frames[0])
                continue
            try:
                request = self.wire.decode(frames, channel)
                log.debug("in channel=%s msg_type=%s msg_id=%s", channel, request.msg_type, _short(request.msg_id))
                self._route(request)
            except BadFrames as error:
                log.warning("dropped message: %s channel=%s frames=%d", error, channel, len(frames))
            except Exception:
                log.exception("dropped message: routing failed channel=%s", channel)

    def _subscription(self, frame: bytes) -> None:
        """Answer a subscription with iopub_welcome. JEP 65."""
        if frame[:1] != b"\1":
            return
        try:
            topic = frame[1:].decode()
        except UnicodeDecodeError:
            return  # a topic that cannot be said in the welcome's content
        welcome = Message("iopub_welcome", {"subscription": topic})
        self._subscribers.welcome(self.encode("iopub", welcome, (frame[1:],) if topic else ()))


def new_curve_keys() -> tuple[bytes, bytes] | None:
    """Return a new public and secret key for a connection file; None if this libzmq cannot encrypt."""
    return zmq.curve_keypair() if zmq.has("curve") else None


def _receive(socket: "zmq.Socket[bytes]") -> list[Any]:
    """Return the frames of one message: JSON parts as bytes, buffers as memoryviews of what zmq holds."""
    frames: list[Any] = []
    copied = 64  # frames before the delimiter are identities
    more = True
    while more:
        try:
            frame = _Backend.recv(socket, NOW, False, False)
        except zmq.ZMQError:
            raise
        except Exception:
            raise _failure() from None
        more = frame.more  # and not RCVMORE: zmq looks that up in an enum, in Python
        if len(frames) < copied:
            frames.append(frame.bytes)
            if frames[-1] == b"<IDS|MSG>" and copied == 64:
                copied = len(frames) + 5
        else:
            frames.append(frame.buffer)
    return frames


def _failure() -> zmq.ZMQError:
    """Return the error of zmq's latest call. Its own cannot be made while a cell has taken `isinstance` away.

    Whatever pyzmq has called meanwhile may have set the system's errno to 0; then it was EAGAIN, the usual one.
    """
    number = zmq_errno() or zmq.EAGAIN
    kind = zmq.Again if number == zmq.EAGAIN else zmq.ZMQError
    failure: zmq.ZMQError = kind.__new__(kind)
    failure.errno, failure.strerror = number, zmq_strerror(number)
    return failure


def _short(msg_id: str) -> str:
    """Return an id for the log. Its end: jupyter_client's ids of one session differ nowhere else."""
    return msg_id[-8:]
