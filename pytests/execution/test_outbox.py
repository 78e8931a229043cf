"""outbox: what is put in, who wakes the I/O thread, and who waits. In memory, without an I/O thread."""

import os
import select
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from ipymini.execution.outbox import BUDGET, Frames, Outbox
from ipymini.protocol.messages import Message
from ipymini.protocol.stream_text import TEXT_SOON, Texts
from ipymini.protocol.wire import Wire

SOON = 10.0  # seconds: a deadline, no measure
STATUS = Message("status", {"execution_state": "idle"}, b"{}")


class Put:
    """An outbox that nobody empties."""

    def __init__(self) -> None:
        self.texts = Texts(lambda request, name, text: None)
        self.is_interrupted = False
        self.outbox = Outbox(self.texts, Wire(b"k"), threading.Thread(), lambda: self.is_interrupted)

    def wakes(self) -> int:
        """Return how many bytes have been written to wake the I/O thread since the last look."""
        try:
            return len(os.read(self.outbox.wake_in, 100))
        except BlockingIOError:
            return 0


@pytest.fixture
def put() -> Put:
    return Put()


def test_what_is_put_in_lies_there_in_this_order(put: Put) -> None:
    def function() -> None: ...

    put.outbox.write(None, "stdout", "text")
    put.outbox.send("iopub", STATUS)
    put.outbox.put("shell", [b"frame"])
    put.outbox.call(function)

    text, message, frames, called = put.outbox.items
    assert text == (None, "stdout", "text")
    assert isinstance(message, Frames) and message.channel == "iopub"
    assert isinstance(frames, Frames) and (frames.channel, frames.frames) == ("shell", [b"frame"])
    assert called is function


def test_a_text_wakes_the_io_thread_unless_it_looks_again_by_itself(put: Put) -> None:
    put.outbox.write(None, "stdout", "first")
    assert put.wakes() == 1

    put.texts.is_holding = True
    put.outbox.write(None, "stdout", "second")
    put.outbox.soft_wake()
    assert put.wakes() == 0

    put.outbox.write(None, "stdout", "x" * TEXT_SOON)
    assert put.wakes() == 1


def test_what_need_not_wait_is_put_into_a_full_outbox(put: Put) -> None:
    put.outbox.backlog = BUDGET + 1
    done = threading.Event()

    def puts() -> None:
        put.outbox.send("iopub", STATUS, patient=False)
        put.outbox.put("shell", [b"frame"])
        put.outbox.write(None, "stdout", "captured", patient=False)
        done.set()

    threading.Thread(target=puts, daemon=True).start()
    assert done.wait(SOON)
    assert len(put.outbox.items) == 3


@pytest.mark.parametrize("what", ["room", "an interrupt", "the end"])
def test_a_writer_waits_for(what: str, put: Put) -> None:
    put.outbox.backlog = BUDGET + 1
    done = threading.Event()
    threading.Thread(target=lambda: (put.outbox.write(None, "stdout", "text"), done.set()), daemon=True).start()
    readable, _, _ = select.select([put.outbox.wake_in], [], [], SOON)
    assert readable and not put.outbox.items  # the writer has looked, and waits

    if what == "room":
        put.outbox.backlog = 0
    elif what == "an interrupt":
        put.is_interrupted = True
    else:
        put.outbox.is_closed = True

    assert done.wait(SOON)
    assert list(put.outbox.items) == [(None, "stdout", "text")]


def test_a_forked_child_wakes_nobody(put: Put) -> None:
    put.outbox.write(None, "stdout", "the parent's")
    put.wakes()

    put.outbox.abandon()
    put.outbox.wake()

    assert (list(put.outbox.items), put.wakes()) == ([], 0)


def test_no_interrupt_can_strike_between_the_steps_of_putting(put: Put) -> None:
    # An interrupt spares what is the kernel's by the name of its module: a NamedTuple's `__new__` is not.
    called: set[str] = set()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            called.add(frame.f_globals["__name__"])

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        put.outbox.write(None, "stdout", "text")
        put.outbox.put("shell", [b"frame"])
        put.outbox.call(int)
        put.outbox.wake()
    finally:
        sys.setprofile(before)
    assert called == {"ipymini.execution.outbox", "ipymini.execution.subscribers"}
