"""Clients that are not jupyter_client's: sockets of their own, with a session each."""

from typing import Any

import zmq
from harness import KernelUnderTest
from jupyter_client.session import Session


class Socket:
    """A socket of a client that is not jupyter_client's, with a session of its own."""

    def __init__(self, kernel: KernelUnderTest, kind: int, port: int, **options: Any):
        self.session = Session(key=kernel.client.session.key)
        self.zmq: Any = zmq.Context.instance().socket(kind)
        for name, value in {"linger": 0, **options}.items():
            setattr(self.zmq, name, value)
        self.zmq.connect(f"tcp://127.0.0.1:{port}")

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *error: object) -> None:
        self.zmq.close()

    def next(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the next message and the identities or the topic before it."""
        assert self.zmq.poll(10_000), "nothing came"
        identities, parts = self.session.feed_identities(self.zmq.recv_multipart())
        return self.session.deserialize(parts), identities

    def ask(self, msg_type: str, **content: Any) -> None:
        self.session.send(self.zmq, self.session.msg(msg_type, content))


def subscribed(kernel: KernelUnderTest, topic: bytes) -> Socket:
    listener = Socket(kernel, zmq.SUB, kernel.client.iopub_port)
    listener.zmq.subscribe(topic)
    return listener
