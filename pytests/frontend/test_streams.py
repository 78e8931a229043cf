"""The streams in memory: what writing to them puts into the outbox, and what it does in a forked child."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest

from ipymini.execution import context
from ipymini.frontend import streams
from ipymini.frontend.streams import OutStream, SharedStream
from ipymini.protocol.messages import Request


class Outbox:
    """What the streams need of `Channels`."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, str]] = []  # msg_id, stream, text
        self.flushes = 0
        self.abandoned = False

    def write(self, request: Request | None, name: str, text: str, *, patient: bool = True) -> None:
        self.written.append((request.msg_id if request else "", name, text))

    def flush(self, timeout: float) -> None:
        self.flushes += 1

    def abandon(self) -> None:
        self.abandoned = True


def request(msg_id: str) -> Request:
    return Request({"msg_id": msg_id, "msg_type": "execute_request"}, {})


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def out(outbox: Outbox) -> OutStream:
    return OutStream("stdout", 1, outbox)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_latest_cell() -> Iterator[None]:
    before = context.latest()
    context.set_latest(None)
    yield
    context.set_latest(before)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def test_a_text_belongs_to_the_request_that_writes_it(out: OutStream, outbox: Outbox) -> None:  # O12
    with context.handling(request("a")):
        assert out.write("one") == 3
    with context.handling(request("b")):
        print("two", "three", file=out)
    assert outbox.written == [
        ("a", "stdout", "one"),
        *(("b", "stdout", text) for text in ("two", " ", "three", "\n")),
    ]


def test_a_text_of_no_request_belongs_to_the_main_lanes_latest(out: OutStream, outbox: Outbox) -> None:
    out.write("nobody's")
    context.set_latest(request("latest"))
    out.write("its")
    assert outbox.written == [("", "stdout", "nobody's"), ("latest", "stdout", "its")]


def test_several_lines_are_one_text_and_no_text_is_none(out: OutStream, outbox: Outbox) -> None:
    out.writelines(["1\n", "2\n"])
    out.writelines([])
    assert out.write("") == 0
    assert outbox.written == [("", "stdout", "1\n2\n")]


@pytest.mark.parametrize("wrong", [b"bytes", 5, None])
def test_what_is_no_text_is_refused(out: OutStream, outbox: Outbox, wrong: Any) -> None:
    with pytest.raises(TypeError, match="must be str"):
        out.write(wrong)
    assert outbox.written == []


def test_a_closed_stream_takes_no_text(out: OutStream, outbox: Outbox) -> None:
    out.close()
    with pytest.raises(ValueError, match="closed"):
        out.write("late")
    assert (out.closed, outbox.written) == (True, [])


def test_flush_waits_until_the_text_is_on_its_way(out: OutStream, outbox: Outbox) -> None:
    print("text", file=out, flush=True)
    assert outbox.flushes == 1


# ---- hooks ----------------------------------------------------------------------------------------


def test_hooks_change_a_text_one_after_the_other_and_may_keep_it_back(out: OutStream, outbox: Outbox) -> None:
    seen: list[str] = []

    def upper(text: str) -> str | None:
        return text.upper() if text != "secret" else None

    def note(text: str) -> str:
        seen.append(text)
        return text + "!"

    out.register_hook(upper)
    out.register_hook(note)
    out.write("said")
    assert out.write("secret") == 6
    assert (seen, outbox.written) == (["SAID"], [("", "stdout", "SAID!")])


def test_a_hook_that_is_unregistered_is_not_asked(out: OutStream, outbox: Outbox) -> None:
    def nothing(text: str) -> None:
        return None

    out.register_hook(nothing)
    assert (out.unregister_hook(nothing), out.unregister_hook(nothing)) == (True, False)
    out.write("said")
    assert outbox.written == [("", "stdout", "said")]


def test_a_hook_that_fails_is_the_writers_error(out: OutStream, outbox: Outbox) -> None:
    out.register_hook(lambda text: str(1 / 0))
    with pytest.raises(ZeroDivisionError):
        out.write("text")
    assert outbox.written == []


# ---- bytes ----------------------------------------------------------------------------------------


def test_bytes_are_text_and_half_a_character_waits_for_its_other_half(out: OutStream, outbox: Outbox) -> None:
    first, second = "ä".encode()[:1], "ä".encode()[1:]
    assert [out.buffer.write(part) for part in (b"a" + first, memoryview(second + b"\xff"), b"")] == [2, 2, 0]
    assert outbox.written == [("", "stdout", "a"), ("", "stdout", "ä\ufffd")]


# ---- forked children ------------------------------------------------------------------------------


def test_a_forked_child_writes_whole_lines_to_the_descriptor(outbox: Outbox, pipe: tuple[int, int]) -> None:  # O16
    out = OutStream("stdout", pipe[1], outbox)  # type: ignore[arg-type]
    out.enter_child()
    steps = []
    for text in ("a", "b\nc", "d\ne\n", "\udcff"):
        out.write(text)
        steps.append(read(pipe[0]))
    out.flush()
    assert (steps, read(pipe[0])) == ([b"", b"ab\n", b"cd\ne\n", b""], b"?")
    assert (outbox.written, outbox.flushes) == ([], 0)


def test_a_closed_stream_of_a_forked_child_keeps_nothing_back(outbox: Outbox, pipe: tuple[int, int]) -> None:
    out = OutStream("stdout", pipe[1], outbox)  # type: ignore[arg-type]
    out.enter_child()
    out.write("half a line")
    out.close()
    out.flush()
    assert read(pipe[0]) == b"half a line"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_turns_the_installed_streams_into_a_childs(outbox: Outbox, pipe: tuple[int, int]) -> None:  # O16
    with program(outbox):
        if (child := os.fork()) == 0:
            try:
                os.dup2(pipe[1], 1)
                os.dup2(pipe[1], 2)
                sys.stdout.write("out\n")
                sys.stderr.write("err\n")
                os.write(pipe[1], f"{outbox.written} {outbox.abandoned}".encode())
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        sys.stdout.write("parent")
    assert status == 0
    assert read(pipe[0]) == b"out\nerr\n[] True"
    assert (outbox.written, outbox.abandoned) == ([("", "stdout", "parent")], False)


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1000)
    except BlockingIOError:
        return b""


# ---- install, and its undo ------------------------------------------------------------------------


@contextmanager
def program(outbox: Outbox, *, shared: bool = False) -> Iterator[tuple[list[StringIO], Callable[[], None]]]:
    """Install the streams in a program that has some; yield those, and the undo."""
    pytests, before = (sys.stdout, sys.stderr), [StringIO(), StringIO()]
    sys.stdout, sys.stderr = before
    undo = streams.install(outbox, shared=shared)  # type: ignore[arg-type]
    try:
        yield before, undo
    finally:
        undo()
        sys.stdout, sys.stderr = pytests


@pytest.mark.parametrize(("shared", "kind"), [(False, OutStream), (True, SharedStream)])
def test_undo_gives_the_program_its_streams_back(outbox: Outbox, shared: bool, kind: type) -> None:
    with program(outbox, shared=shared) as (before, undo):
        installed = [type(sys.stdout), type(sys.stderr)]
        undo()
        after = [sys.stdout, sys.stderr]
    assert (installed, after) == ([kind, kind], before)


def test_who_holds_a_stream_of_a_kernel_that_has_ended_writes_to_the_one_before(outbox: Outbox) -> None:
    with program(outbox) as (before, undo):
        held: Any = sys.stdout
        held.register_hook(lambda text: None)
        undo()
        print("late", file=held, flush=True)
    assert (before[0].getvalue(), outbox.written, outbox.flushes) == ("late\n", [], 0)


def test_a_shared_stream_is_the_programs_but_for_what_a_request_causes(outbox: Outbox) -> None:
    with program(outbox, shared=True) as (before, _):
        sys.stdout.write("program")
        with context.handling(request("a")):
            sys.stdout.write("cell")
    assert (before[0].getvalue(), outbox.written) == ("program", [("a", "stdout", "cell")])


def test_a_tee_sees_each_text_until_its_undo(outbox: Outbox) -> None:
    kept: list[tuple[str, str]] = []
    with program(outbox):
        undo_tee = streams.tee(lambda request, name, text: kept.append((name, text)))
        sys.stdout.write("1")
        outbox.write(None, "stderr", "2")  # as what is read from a descriptor
        undo_tee()
        sys.stdout.write("3")
    assert kept == [("stdout", "1"), ("stderr", "2")]
    assert [text for _, _, text in outbox.written] == ["1", "2", "3"]


def test_the_undo_of_a_tee_does_not_wake_a_stream_of_a_kernel_that_has_ended(outbox: Outbox) -> None:
    with program(outbox) as (before, undo):
        held, undo_tee = sys.stdout, streams.tee(lambda *text: None)
        undo()
        undo_tee()
        held.write("late")
    assert (before[0].getvalue(), outbox.written) == ("late", [])
