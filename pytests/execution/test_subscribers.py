"""The iopub socket, in memory and in a kernel: queues are bounded by bytes; who stops reading is cut, and nobody else loses anything."""

import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import psutil
import pytest
import zmq
from harness import start_kernel

from ipymini.execution import channels, subscribers
from ipymini.protocol.connection import Connection
from ipymini.protocol.messages import Message

SOON = 20.0  # seconds: a slow machine's patience


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[channels.Channels]:
    monkeypatch.setattr(subscribers, "PATIENCE", 0.5)
    monkeypatch.setattr(subscribers, "PATIENCE_AGAIN", 0.2)
    one = channels.Channels(Connection(key="k"), lambda request: None)
    one.start()
    yield one
    one.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    one = zmq.Context()
    yield one
    one.destroy(linger=0)


def subscriber(context: Any, served: channels.Channels) -> Any:
    socket = context.socket(zmq.SUB)
    socket.rcvhwm = 1
    socket.rcvtimeo = int(SOON * 1000)
    socket.connect(served.connection.endpoint("iopub"))
    socket.subscribe(b"")
    assert b"iopub_welcome" in b"".join(socket.recv_multipart())
    return socket


def display(number: int, size: int) -> Message:
    return Message("display_data", {"data": {"text/plain": f"{number} " + "y" * size}}, b"{}")


def test_a_subscriber_that_never_reads_costs_the_others_nothing(served: channels.Channels, context: Any) -> None:
    # given: one that reads, one that does not, and far more than all queues hold
    reader, _stalled = subscriber(context, served), subscriber(context, served)
    total, size = 400, 1_000_000
    writer = threading.Thread(
        target=lambda: [served.outbox.send("iopub", display(n, size)) for n in range(total)], daemon=True
    )
    writer.start()
    # then: the reader gets all of it, in order, and the writer comes to its end
    numbers: Iterator[int] = count()
    expected = next(numbers)
    while expected < total:
        content = reader.recv_multipart()[-1]
        if b'"text/plain"' in content:
            assert f'"{expected} y'.encode() in content[:60]
            expected = next(numbers)
    writer.join(SOON)
    assert not writer.is_alive()


def test_what_waits_for_a_subscriber_counts_as_backlog(
    served: channels.Channels, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribers, "PATIENCE", 60.0)
    _stalled = subscriber(context, served)
    sent = 0
    while served.outbox.has_room and sent < 1000:
        served.outbox.send("iopub", display(sent, 1_000_000), patient=False)
        sent += 1
    assert not served.outbox.has_room
    assert sent < 300  # two budgets of 64 MiB, and what the system's buffers and the other side hold


FLOODS = {
    "prints": "for n in range(600): print(n, 'x' * 1_000_000)",
    "a child": "import subprocess\nchild = subprocess.Popen(['sh', '-c', 'yes | head -c 600000000'])\nchild.wait()",
}


@pytest.mark.slow
@pytest.mark.parametrize("code", FLOODS.values(), ids=FLOODS)
def test_a_flood_that_one_client_does_not_read_takes_no_memory_and_reaches_the_other(code: str, context: Any) -> None:
    with start_kernel() as kernel:
        stalled = context.socket(zmq.SUB)
        stalled.rcvhwm = 1
        stalled.connect(f"tcp://127.0.0.1:{kernel.client.iopub_port}")
        stalled.subscribe(b"")
        assert stalled.poll(SOON * 1000)
        process = psutil.Process(kernel.pid)
        before = process.memory_info().rss
        cell, length, most = kernel.send("execute_request", code=code), 0, 0
        done = False
        while not done:
            assert kernel.poller.poll(SOON * 1000), kernel.report()
            kernel.drain(most=50)
            for message in kernel.seen[cell]:
                length += len(message["content"].get("text", ""))
                done = done or message["content"].get("execution_state") == "idle"
            kernel.seen[cell].clear()
            most = max(most, process.memory_info().rss - before)
        expected = 600_000_000 if "child" in code else sum(len(f"{n} ") + 1_000_001 for n in range(600))
        assert length == expected
        assert most < 320 << 20  # three bounds of 64 MiB, and what is being encoded
