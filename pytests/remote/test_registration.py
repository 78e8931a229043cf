"""JEP 66: a launcher that leaves the ports to the kernel is told them, in either of the two forms that are in use."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import zmq
from jupyter_client import BlockingKernelClient
from jupyter_client.session import Session

from ipymini.protocol import connection
from ipymini.remote import registration

DEADLINE = 20_000  # ms
KEY = "a key"
PORTS = [f"{channel}_port" for channel in connection.CHANNELS]


@contextmanager
def launcher(kind):
    """A registration socket and the connection file's content that leads to it."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        told = {"transport": "tcp", "ip": "127.0.0.1", "key": KEY, "signature_scheme": "hmac-sha256"}
        if kind == zmq.REP:
            yield socket, {**told, "registration_port": port}
        else:
            more = {"kernel_id": "k-1", "registration_ip": "127.0.0.1", "registration_port": str(port)}
            yield socket, {**told, **more}


@contextmanager
def started(file, told):
    """A kernel process that has been given such a file."""
    file.write_text(json.dumps(told))
    process = subprocess.Popen(
        [sys.executable, "-m", "ipymini", "-f", str(file)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "IPYTHONDIR": str(file.parent)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def received(socket):
    assert socket.poll(DEADLINE), "the kernel did not register"
    return socket.recv_multipart()


def signed(*parts):
    return hmac.new(KEY.encode(), b"".join(parts), hashlib.sha256).hexdigest().encode()


def run_a_cell(told, ports):
    """Return the status of a cell run by a client that knows what the launcher was told."""
    client = BlockingKernelClient()
    client.load_connection_info({**told, **{name: int(ports[name]) for name in PORTS}})
    client.start_channels()
    try:
        client.wait_for_ready(timeout=DEADLINE / 1000)
        return client.execute_interactive("40 + 2", timeout=DEADLINE / 1000)["content"]["status"]
    finally:
        client.stop_channels()


def test_a_launcher_that_reads_messages_is_told_the_ports(tmp_path):
    file = tmp_path / "kernel.json"
    with launcher(zmq.REP) as (socket, told), started(file, told):
        # when
        identities, frames = Session().feed_identities(received(socket))
        request = Session(key=KEY.encode()).deserialize(frames)

        # then
        assert request["header"]["msg_type"] == "handshake_request"
        assert sorted(request["content"]) == sorted(PORTS)

        # and: the receipt comes unsigned, as Positron sends it
        receipt = Session(key=b"").msg("handshake_reply", {"status": "ok"}, parent=request["header"])
        socket.send_multipart(Session(key=b"").serialize(receipt))
        assert run_a_cell(told, request["content"]) == "ok"

        # and: other clients find the ports in the file
        assert {name: json.loads(file.read_text())[name] for name in PORTS} == request["content"]


def test_a_launcher_of_xeus_is_told_the_ports(tmp_path):
    with launcher(zmq.ROUTER) as (socket, told), started(tmp_path / "kernel.json", told):
        identity, delimiter, signature, content = received(socket)

        assert (delimiter, signature) == (b"<IDS|MSG>", signed(content))
        said = json.loads(content)
        assert sorted(said) == sorted(["kernel_id", *PORTS]) and said["kernel_id"] == "k-1"
        assert all(isinstance(said[name], str) for name in PORTS)

        socket.send_multipart([identity, delimiter, signed(b"ACK"), b"ACK"])
        assert run_a_cell(told, said) == "ok"


def test_a_kernel_that_is_refused_ends_and_says_why(tmp_path):
    with launcher(zmq.REP) as (socket, told), started(tmp_path / "kernel.json", told) as process:
        received(socket)
        session = Session(key=KEY.encode())
        socket.send_multipart(
            session.serialize(session.msg("handshake_reply", {"status": "error", "error": "too many"}))
        )

        err = process.communicate(timeout=DEADLINE / 1000)[1]
        assert process.returncode == 1
        assert err.endswith("the kernel could not start: the launcher refused the kernel: too many\n")


def conversation(told, monkeypatch):
    """Return a registration that has sent its ports."""
    monkeypatch.setattr(registration, "RECEIPT_TIMEOUT", 20.0)
    talk = registration.Registration(connection.parse(told).with_ports(dict.fromkeys(connection.CHANNELS, 1)))
    talk.send()
    return talk


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([b"<IDS|MSG>", b"0" * 64, b"ACK"], "another key"),
        ([b"<IDS|MSG>", b""], "no receipt that can be read"),
        ([b"ACK"], "no receipt that can be read"),
    ],
)
def test_a_receipt_that_is_none_is_no_receipt(monkeypatch, frames, complaint):
    with launcher(zmq.ROUTER) as (socket, told):
        talk = conversation(told, monkeypatch)
        socket.send_multipart([received(socket)[0], *frames])

        with pytest.raises(registration.NotRegistered, match=complaint):
            talk.wait()


def test_a_kernel_does_not_wait_for_ever_for_its_receipt(monkeypatch):
    with launcher(zmq.ROUTER) as (socket, told):
        monkeypatch.setattr(registration, "RECEIPT_TIMEOUT", 0.1)
        talk = registration.Registration(connection.parse(told))
        talk.send()

        with pytest.raises(registration.NotRegistered, match=r"has acknowledged .* within 0\.1 s"):
            talk.wait()
