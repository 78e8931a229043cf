"""registration: tells the launcher which ports the kernel has chosen, and waits for its receipt. JEP 66. Binds nothing.

The proposal leaves the frames open. Two forms are in use, and the connection file shows which one its launcher means:

with `registration_ip` (xeus)   a DEALER sends `<IDS|MSG>`, a signature of the content alone, and the content, whose
                                values are all texts; the receipt is any signed text in the same frames
without (Positron)              a REQ sends a whole message, `handshake_request`, whose ports are numbers; the receipt
                                is a `handshake_reply` that says ok, and is not signed by all who send one
"""

import json
from time import monotonic
from typing import Any

import zmq

from ipymini.protocol.connection import CHANNELS, Connection
from ipymini.protocol.messages import IpyminiError, Message
from ipymini.protocol.wire import DELIMITER, Signer, Wire

RECEIPT_TIMEOUT = 10.0  # seconds: a launcher that is not there any more leaves no kernel behind


class NotRegistered(IpyminiError):
    """The launcher did not take our ports; the kernel ends, as JEP 66 asks."""


class Registration:
    """One conversation with a launcher. `send` and `wait` on one thread; the kernel may do other things between."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._signer = Signer(connection.key.encode(), connection.signature_scheme)
        self._is_xeus = bool(connection.extra.get("registration_ip"))
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER if self._is_xeus else zmq.REQ)
        self._socket.linger = 0
        self._socket.connect(str(connection.registration))
        self._until = monotonic() + RECEIPT_TIMEOUT

    def send(self) -> None:
        """Send the ports. Returns at once."""
        ports: dict[str, Any] = {f"{channel}_port": self._connection.ports[channel] for channel in CHANNELS}
        if not self._is_xeus:
            wire = Wire(self._connection.key.encode(), self._connection.signature_scheme)
            self._socket.send_multipart(wire.encode(Message("handshake_request", ports)))
            return
        content = {"kernel_id": str(self._connection.extra.get("kernel_id", ""))}
        raw = json.dumps({**content, **{name: str(port) for name, port in ports.items()}}).encode()
        self._socket.send_multipart([DELIMITER, self._signer.sign([raw]), raw])

    def wait(self) -> None:
        """Wait for the receipt; close the socket. Raise NotRegistered if none comes in time, or one that refuses us."""
        try:
            if not self._socket.poll(max(0, int((self._until - monotonic()) * 1000))):
                raise NotRegistered(
                    f"nobody at {self._connection.registration} has acknowledged the kernel's ports "
                    f"within {RECEIPT_TIMEOUT:g} s: is the launcher still there?"
                )
            self._check(self._socket.recv_multipart())
        finally:
            self._socket.close()
            self._context.term()

    def _check(self, frames: list[bytes]) -> None:
        parts = frames[frames.index(DELIMITER) + 2 :] if DELIMITER in frames else []
        if len(parts) < (1 if self._is_xeus else 4):
            raise NotRegistered(f"the launcher at {self._connection.registration} sent no receipt that can be read")
        signature = frames[frames.index(DELIMITER) + 1]
        if self._is_xeus:
            if signature != self._signer.sign(parts[:1]):
                raise NotRegistered("the launcher's receipt is signed with another key")
            return
        # It carries nothing that we rely on, so that an unsigned one is good enough.
        if signature and signature != self._signer.sign(parts[:4]):
            raise NotRegistered("the launcher's receipt is signed with another key")
        try:
            said = json.loads(parts[3])
            refused = said["status"] != "ok"
        except (ValueError, TypeError, KeyError):
            raise NotRegistered("the launcher's receipt says no status") from None
        if refused:
            raise NotRegistered(f"the launcher refused the kernel: {said.get('error', 'it does not say why')}")
