"""sockets: the five sockets: binds, polls, sends and receives frames. Knows no message's meaning and no outbox.

The constructor may run on any thread; all else belongs to the I/O thread, but for the heartbeat: that has a thread
of its own, which echoes in C while Python code keeps the interpreter busy.
"""

import atexit
import errno
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import zmq
from zmq.backend import Socket as _Backend  # its send and recv skip the layers of zmq.Socket's
from zmq.backend import strerror as zmq_strerror
from zmq.backend import zmq_errno

from ipymini.execution.subscribers import Subscribers, size_of
from ipymini.protocol.connection import Connection, in_random_order
from ipymini.protocol.messages import IpyminiError
from ipymini.protocol.originals import __builtins__, logger, os, private, threading  # noqa: F401
from ipymini.protocol.wire import DELIMITER

log = logger("ipymini.execution.sockets")
_Poller = private(zmq.Poller)
Socket = zmq.Socket[bytes]

LINGER = 500  # ms that closing sockets may take to get rid of their messages
HEART_TIMEOUT = 0.5  # seconds for the heartbeat thread to notice the end
ZERO_COPY = 65_536  # bytes from which a frame is not copied
NOW, NOW_AND_MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
COPIED = 64  # frames before the delimiter (identities) that are copied

KINDS = {"shell": zmq.ROUTER, "stdin": zmq.ROUTER, "control": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}


class CannotBind(IpyminiError):
    """A port of the connection file cannot be had."""


class Sockets:
    """The sockets of one connection. Raises CannotBind if one of its ports cannot be had."""

    def __init__(self, wanted: Connection):
        self._context = zmq.Context()
        self._poller = _Poller()
        self._sockets: dict[str, Socket] = {}
        ports = {}
        for channel in KINDS:
            socket = self._sockets[channel] = self._open(channel, wanted)
            ports[channel] = _bind(socket, wanted, channel)
        self.connection = wanted.with_ports(ports)  # those that were chosen
        self._polled = {socket: channel for channel, socket in self._sockets.items() if channel != "hb"}
        for one in (*self._polled, self.subscribers.monitor):
            self._poller.register(one, zmq.POLLIN)
        self._heart = hidden_thread(self._beat, "ipymini-heartbeat")
        if wanted.is_open_to_others:
            log.warning("whoever can reach these ports can read what cells print: no curve keys ip=%s", wanted.ip)

    def _open(self, channel: str, wanted: Connection) -> Socket:
        """Return a socket with its options, which count from `bind` on."""
        socket = self._context.socket(KINDS[channel])
        socket.linger = LINGER
        if channel in ("shell", "stdin", "control"):
            socket.router_handover = 1  # a client that reconnects under its old identity takes over
            socket.set_hwm(0)
        if channel == "stdin":
            socket.router_mandatory = 1  # an input_request to nobody must be retried, not dropped
        if channel == "iopub":
            self.subscribers = Subscribers(socket, _put)
        if wanted.is_encrypted:
            socket.curve_publickey = wanted.curve_publickey
            socket.curve_secretkey = wanted.curve_secretkey
            socket.curve_server = 1
        if ":" in wanted.ip:
            socket.ipv6 = 1
        return socket

    # ---- the I/O thread ----------------------------------------------------

    def watch(self, descriptor: int) -> None:
        """Poll a descriptor, too."""
        self._poller.register(descriptor, zmq.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Do not poll it any more, if it is polled."""
        if descriptor in self._poller:
            self._poller.unregister(descriptor)

    def poll(self, timeout_ms: int | None) -> set[str | int]:
        """Wait until something can be read; return the channels and descriptors. Subscribers' events are taken."""
        ready = {self._polled.get(one, one) for one, _ in self._poller.poll(timeout_ms)}
        if self.subscribers.monitor in ready:
            self.subscribers.take_events()
        return ready

    def send(self, channel: str, frames: list[Any]) -> None:
        """Send a message; one that cannot be sent is dropped with a warning."""
        try:
            if channel == "iopub":
                self.subscribers.send(frames)
            else:
                _put(self._sockets[channel], frames)
        except zmq.ZMQError as error:
            log.warning("dropped message: %s channel=%s", error, channel)

    def try_send(self, channel: str, frames: list[Any]) -> bool:
        """Send a message; return False if its peer cannot be reached now. Raise zmq.ZMQError for any other failure."""
        try:
            _put(self._sockets[channel], frames)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True

    def receive(self, channel: str) -> list[Any] | None:
        """Return the frames of one message, None if there is none: JSON parts as bytes, buffers as memoryviews."""
        try:
            return _receive(self._sockets[channel])
        except zmq.Again:
            return None

    # ---- heartbeat and end ---------------------------------------------------

    def start_heartbeat(self) -> None:
        """Answer heartbeats from now on."""
        self._heart.start()

    def _beat(self) -> None:
        heart = self._sockets["hb"]
        try:
            zmq.proxy(heart, heart)  # echoes in C, without the GIL, until the context ends
        except zmq.ZMQError:
            pass  # that end
        heart.close(linger=0)

    def close(self) -> None:
        """Close the sockets and end zmq, waiting for what lingers; not for a heartbeat that a debugger holds up."""
        for socket, channel in self._polled.items():
            self.subscribers.close() if channel == "iopub" else socket.close()
        ending = threading.Thread(target=self._context.term, name="ipymini-ending", daemon=True)
        ending.start()  # tells the heartbeat's proxy to end, and waits until its socket is closed too
        self._heart.join(HEART_TIMEOUT)
        if self._heart.is_alive():
            log.warning("the heartbeat thread did not end in time: messages may be lost")
        else:
            ending.join()


def hidden_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Return a daemon thread that the debugger neither shows nor stops."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
    return thread


def new_curve_keys() -> tuple[bytes, bytes] | None:
    """Return a new public and secret key for a connection file; None if this libzmq cannot encrypt."""
    return zmq.curve_keypair() if zmq.has("curve") else None


def keep_frames() -> None:
    """Keep pyzmq's exit function from freeing what ZeroMQ still has to send: the process would crash."""
    garbage = sys.modules.get("zmq.utils.garbage")  # imported with the first frame that is not copied
    if garbage is not None:
        atexit.unregister(garbage.gc._atexit)


# ---- binding -------------------------------------------------------------------


def _bind(socket: Socket, wanted: Connection, channel: str) -> int:
    """Bind a socket; return its port."""
    port = wanted.ports[channel]
    if wanted.transport == "ipc" and not port:
        port = next(n for n in count(1) if not os.path.exists(f"{wanted.ip}-{n}"))
    if wanted.transport == "tcp" and not port and wanted.port_range:
        return _bind_within(socket, wanted, channel, wanted.port_range)
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


def _bind_within(socket: Socket, wanted: Connection, channel: str, ports: range) -> int:
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


# ---- frames ----------------------------------------------------------------------


def _put(socket: Socket, frames: list[Any]) -> None:
    """Send the frames of one message. Raise zmq.Again if there is no room for it, else zmq.ZMQError."""
    last = len(frames) - 1
    try:
        for position, frame in enumerate(frames):
            flags = NOW if position == last else NOW_AND_MORE
            _Backend.send(socket, frame, flags, size_of(frame) < ZERO_COPY, False)
    except zmq.ZMQError:
        raise
    except Exception:
        raise _failure() from None


def _receive(socket: Socket) -> list[Any]:
    """Return the frames of one message: JSON parts as bytes, buffers as memoryviews of what zmq holds."""
    frames: list[Any] = []
    copied = COPIED
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
            if frames[-1] == DELIMITER and copied == COPIED:
                copied = len(frames) + 5  # the signature and the four JSON parts
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
