"""subscribers: the iopub socket: who reads, and how much waits for whom. Knows no message's meaning, starts no thread.

Everything here runs on the I/O thread.

Theory. ZeroMQ has a queue for each subscriber and bounds it by the number of messages (SNDHWM); XPUB_NODROP tells us
that some queue is full. We bound the bytes, too. The socket's monitor says which descriptors there are, and the system
how many bytes of each the other end has not taken. Where that is 0, the queue is empty; so no more than QUEUE bytes
leave after a moment at which it was. (A lower SNDHWM for large messages does not work: ZeroMQ reports what was read in
steps of half of it, so a reader that has read everything may not have reported enough for its writer to go on.)

While a queue is full, messages wait in `stuck`; their bytes count against the outbox's budget, so that writers wait,
too. If a subscriber has taken nothing for PATIENCE seconds, its connection is cut: ZeroMQ frees what was queued for it,
and nobody else loses anything. It may connect again. If it does not read then either, it is cut after PATIENCE_AGAIN
seconds. To take nothing means: the number of bytes has been the same, and not 0, each time we looked.

Where the system does not say how many bytes there are, only messages are counted, and all subscribers lose what does
not fit, for LOSSY seconds.
"""

import sys
from _socket import SHUT_RDWR
from _socket import socket as SystemSocket  # without `socket.socket` around it, which may be gevent's
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack
from typing import Any

import zmq

from ipymini.protocol.originals import __builtins__, logger, os, time  # noqa: F401

log = logger("ipymini.execution.subscribers")

HIGH_WATER = 1000  # messages queued for one subscriber before they wait here
QUEUE = 64 << 20  # bytes queued for one subscriber
PATIENCE = 5.0  # seconds that a subscriber may take nothing while others wait for it
PATIENCE_AGAIN = 0.5  # the same for one that has connected since another was cut
REMEMBERED = 600.0  # seconds for which a cut is remembered
LOSSY = 30.0  # seconds
MOST_UNHEARD = 200  # messages kept for the first subscriber
FIRST_SECONDS = 2.0  # for so long

Put = Callable[["zmq.Socket[bytes]", list[Any]], None]


@dataclass(slots=True)
class Connection:
    """One subscriber's connection."""

    descriptor: int
    peer: Any  # its address: descriptors are used again
    since: float
    empty_at: int  # how many bytes had been sent when its queue was empty
    untaken: int = -1  # bytes that the system held for it when we last looked
    still_since: float = 0.0  # since when that number has been the same


class Subscribers:
    """The iopub socket, an XPUB. `put(socket, frames)` sends one message or raises zmq.Again."""

    def __init__(self, socket: "zmq.Socket[bytes]", put: Put):
        """To be made before the socket is bound."""
        self._socket, self._put = socket, put
        self.stuck: deque[list[Any]] = deque()  # messages that found a queue full
        self._stuck_since = 0.0
        self._unheard: deque[tuple[float, list[Any]]] | None = deque()  # None: there has been a subscriber
        self._sent, self._look_at = 0, QUEUE  # bytes; at how many to look again whether the queues are empty
        self._connections: dict[int, Connection] = {}
        self._cut_at, self._lossy_until = -REMEMBERED, 0.0
        socket.set(zmq.XPUB_VERBOSE, 1)  # a welcome for every subscriber, not for every topic
        socket.set(zmq.XPUB_NODROP, 1)
        socket.sndhwm = HIGH_WATER
        self.monitor: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        self.monitor.linger = 0
        address = f"inproc://ipymini-subscribers-{id(self)}"
        socket.monitor(address, zmq.EVENT_ACCEPTED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED)
        self.monitor.connect(address)

    def close(self) -> None:
        """Close the socket and its monitor."""
        self._socket.disable_monitor()
        self.monitor.close()
        self._socket.close()

    # ---- sending ---------------------------------------------------------------

    def send(self, frames: list[Any]) -> None:
        """Send a message, or keep it until there is a subscriber, or room in the queues of all."""
        if self._unheard is not None:
            self._keep(self._unheard, frames)
        elif self.stuck or not self._put_if_room(frames):
            if not self.stuck:
                self._stuck_since = time.monotonic()
            self.stuck.append(frames)

    def _put_if_room(self, frames: list[Any]) -> bool:
        """Send a message to all; return False if somebody's queue is full."""
        if self._sent >= self._look_at and not self._have_room():
            return False
        try:
            self._put(self._socket, frames)
        except zmq.Again:
            return False
        self._sent += sum(map(size_of, frames))
        return True

    def _have_room(self) -> bool:
        """Whether less than QUEUE bytes have been sent since each of the queues was empty."""
        for one in self._connections.values():
            if not _untaken(one.descriptor):
                one.empty_at = self._sent
        oldest = min((one.empty_at for one in self._connections.values()), default=self._sent)
        self._look_at = oldest + QUEUE
        return self._sent < self._look_at or self._lossy_until > time.monotonic()

    def welcome(self, frames: list[Any]) -> None:
        """Send an iopub_welcome, and to the first subscriber of all what has been said before."""
        unheard, self._unheard = self._unheard or (), None
        self.send(frames)
        for said, waiting in unheard:
            if said > time.monotonic() - FIRST_SECONDS:
                self.send(waiting)

    @staticmethod
    def _keep(unheard: deque[tuple[float, list[Any]]], frames: list[Any]) -> None:
        """Keep what is said before anybody listens: a client's iopub may connect later than its shell did."""
        now = time.monotonic()
        unheard.append((now, frames))
        while unheard and (len(unheard) > MOST_UNHEARD or unheard[0][0] < now - FIRST_SECONDS):
            unheard.popleft()

    # ---- a subscriber that does not read -----------------------------------------

    def retry(self) -> None:
        """Send what is stuck; if that is still not possible, see who is to blame."""
        while self.stuck:
            if not self._put_if_room(self.stuck[0]):
                self._look_for_the_stalled()
                return
            self.stuck.popleft()
            self._stuck_since = time.monotonic()

    def give_up(self) -> None:
        """Send what is stuck to those who have room for it: this is the end."""
        if self.stuck:
            self._become_lossy()
            self.retry()

    def _become_lossy(self) -> None:
        self._lossy_until = time.monotonic() + LOSSY
        self._socket.set(zmq.XPUB_NODROP, 0)

    def _look_for_the_stalled(self) -> None:
        """Cut who has taken nothing for too long. Called again and again while messages are stuck."""
        now = time.monotonic()
        for one in list(self._connections.values()):
            untaken = _untaken(one.descriptor)
            # It is counted anew from here on: it has taken something; or there is nothing to take, so it is not the one
            # that is waited for; or we have not looked since messages are stuck, and the same number then and now
            # does not say that nothing was taken in between.
            if untaken != one.untaken or not untaken or one.still_since < self._stuck_since:
                one.untaken, one.still_since = untaken, now
            elif now - one.still_since >= self._patience_with(one, now):
                self._cut(one, now)
        if self._lossy_until < now:
            self._socket.set(zmq.XPUB_NODROP, 1)
            # Each cut sets `_stuck_since` anew, and so does each message that leaves: nobody to cut was found.
            if now - self._stuck_since >= 2 * PATIENCE:  # the system has not told us who
                log.warning("a subscriber does not read: whoever is behind loses messages waiting=%d", len(self.stuck))
                self._become_lossy()

    def _patience_with(self, one: Connection, now: float) -> float:
        is_new = one.since >= self._cut_at and now - self._cut_at < REMEMBERED
        return PATIENCE_AGAIN if is_new else PATIENCE

    def _cut(self, one: Connection, now: float) -> None:
        """End the connection of a subscriber that takes nothing; ZeroMQ frees what waits for it."""
        log.warning("a subscriber does not read: its connection is cut, and it loses what was queued for it")
        del self._connections[one.descriptor]
        self._cut_at = self._stuck_since = now  # ZeroMQ frees the queue when its linger is over
        peer = _peer(one.descriptor, lambda socket: socket.shutdown(SHUT_RDWR), only=one.peer)
        if peer is None:
            log.debug("that connection has ended by itself")

    def take_events(self) -> None:
        """Take what the monitor says: connections come and go."""
        while True:
            try:
                event, descriptor = unpack("=Hi", self.monitor.recv_multipart(zmq.NOBLOCK)[0])
            except zmq.Again:
                return
            if event == zmq.EVENT_ACCEPTED:
                if (peer := _peer(descriptor)) is not None:
                    self._connections[descriptor] = Connection(descriptor, peer, time.monotonic(), self._sent)
            else:
                self._connections.pop(descriptor, None)


def size_of(frame: Any) -> int:
    """Return how many bytes a frame has."""
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)


def _peer(descriptor: int, act: Callable[[SystemSocket], object] = lambda socket: None, only: Any = None) -> Any:
    """Return whom a descriptor is connected to, having done `act` if it is `only`; None: it is closed."""
    try:
        socket = SystemSocket(fileno=os.dup(descriptor))
        try:
            peer = socket.getpeername()
            if only is not None and peer == only:
                act(socket)
            return peer
        finally:
            socket.close()
    except OSError:
        return None


def _untaken(descriptor: int) -> int:
    """Return how many bytes the system holds for the other end of a connection; 0 where it does not say."""
    if sys.platform != "linux":
        return 0
    from fcntl import ioctl
    from termios import TIOCOUTQ

    try:
        return int(unpack("i", ioctl(descriptor, TIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0
