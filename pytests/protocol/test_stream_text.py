"""stream_text: which pieces of printed text become one message, and when it leaves. No thread, no clock."""

import random
from collections import deque
from typing import NamedTuple

import pytest

from ipymini.protocol.messages import Request
from ipymini.protocol.stream_text import TEXT_MAX, TEXT_SOON, Captured, Texts

REQUESTS = {name: Request({"msg_id": name, "msg_type": "execute_request"}, {}) for name in "abc"}


# ---- joining ---------------------------------------------------------------------------------------


def joined(*pieces: tuple[str, str, str], captured: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    """Join pieces (request, stream, text), as the I/O thread does; those in `captured` came from a descriptor."""
    sent: list[tuple[str, str, str]] = []
    texts = Texts(lambda owner, stream, text: sent.append((owner.msg_id if owner else "", stream, text)))
    for name, stream, text in pieces:
        texts.add(REQUESTS[name], stream, Captured(text) if text in captured else text)
    texts.flush()
    return sent


def test_texts_of_cells_that_write_in_turns_are_one_message_each() -> None:  # O1
    assert joined(("a", "stdout", "1"), ("b", "stdout", "2"), ("a", "stdout", "3"), ("b", "stdout", "4")) == [
        ("a", "stdout", "13"),
        ("b", "stdout", "24"),
    ]


def test_stdout_and_stderr_of_a_cell_stay_in_order_whatever_others_write() -> None:
    assert joined(("a", "stdout", "1"), ("b", "stdout", "x"), ("a", "stderr", "2"), ("a", "stdout", "3")) == [
        ("a", "stdout", "1"),
        ("a", "stderr", "2"),
        ("a", "stdout", "3"),
        ("b", "stdout", "x"),
    ]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("[1]", "child\n", "\n"), "child\n[1]\n"),
        (("a\n", "[1", "]", "child\n", "\n"), "a\nchild\n[1]\n"),
        (("a\n[1]", "child\n", "\n"), "a\nchild\n[1]\n"),
        (("a\n", "child\n", "b\n"), "a\nchild\nb\n"),
        (("child\n", "a\n"), "child\na\n"),
        (("chi", "ld\n", "a\n"), "child\na\n"),
    ],
)
def test_lines_of_a_child_do_not_come_between_a_line_and_its_end(pieces: tuple[str, ...], text: str) -> None:  # O17
    assert joined(*(("a", "stdout", piece) for piece in pieces), captured=("child\n", "chi", "ld\n")) == [
        ("a", "stdout", text)
    ]


def test_a_message_ends_when_it_has_become_large() -> None:
    half = "x" * (TEXT_MAX // 2 + 1)

    assert joined(*[("a", "stdout", half)] * 3) == [("a", "stdout", half + half), ("a", "stdout", half)]


# ---- when they leave -------------------------------------------------------------------------------


class Written(NamedTuple):
    """A piece of text and when it is written."""

    at: int  # ms
    text: str
    request: str = "a"
    stream: str = "stdout"


class Left(NamedTuple):
    """A message and when it leaves."""

    at: int  # ms
    text: str
    request: str = "a"
    stream: str = "stdout"


def left(*pieces: Written) -> list[Left]:
    """Return what leaves when, if an I/O thread does what it is told in no time: writers wake it unless it holds."""
    sent: list[Left] = []
    now = 0.0

    def send(owner: Request | None, stream: str, text: str) -> None:
        sent.append(Left(round(now * 1000), text, owner.msg_id if owner else "", stream))

    texts = Texts(send)
    coming, outbox = deque(pieces), deque[Written]()
    while coming or outbox or texts.are_waiting:
        if coming and not (texts.is_holding and round(texts.hold_until * 1000) < coming[0].at):
            now = coming[0].at / 1000
            outbox.append(coming.popleft())
            if texts.is_holding:
                continue  # the writer wakes nobody
        else:
            assert texts.is_holding, "nobody would look into the outbox any more"
            now = texts.hold_until
            texts.end_hold(now)
        adds = bool(outbox)
        while outbox:
            piece = outbox.popleft()
            texts.add(REQUESTS[piece.request], piece.stream, piece.text)
        if adds or texts.are_waiting:
            texts.settle(now)
    return sent


def test_a_line_that_comes_after_a_pause_leaves_at_once() -> None:
    assert left(Written(0, "1\n"), Written(50, "2\n")) == [Left(0, "1\n"), Left(50, "2\n")]


def test_lines_that_come_soon_after_another_leave_together() -> None:
    assert left(Written(0, "1\n"), Written(1, "2\n"), Written(9, "3\n")) == [Left(0, "1\n"), Left(10, "2\n3\n")]


def test_a_loop_that_prints_has_a_message_each_ten_milliseconds() -> None:
    said = left(*(Written(at, f"{at}\n") for at in range(100, 135)))

    assert [message.at for message in said] == [100, 110, 120, 130, 140]
    assert "".join(message.text for message in said) == "".join(f"{at}\n" for at in range(100, 135))


def test_a_line_waits_for_its_end_that_comes_on_its_own() -> None:
    assert left(Written(0, "line"), Written(1, "\n")) == [Left(2, "line\n")]


def test_a_text_whose_line_does_not_end_leaves_after_two_milliseconds() -> None:
    assert left(Written(0, "prompt: "), Written(30, "more")) == [Left(2, "prompt: "), Left(32, "more")]


def test_a_wait_for_the_end_of_a_line_is_not_made_longer_by_what_is_added() -> None:
    assert left(Written(0, "."), Written(1, "."), Written(2, ".")) == [Left(2, "...")]


def test_a_large_text_does_not_wait_for_the_end_of_its_line() -> None:
    assert left(Written(0, "x" * TEXT_SOON)) == [Left(0, "x" * TEXT_SOON)]


def test_the_line_of_one_request_that_has_no_end_yet_keeps_nobody_elses_back() -> None:
    texts_left: list[str] = []
    texts = Texts(lambda owner, stream, text: texts_left.append(text))
    texts.add(REQUESTS["a"], "stdout", "not yet")
    texts.add(REQUESTS["b"], "stdout", "line\n")

    texts.settle(0.0)

    assert (texts_left, texts.are_waiting, texts.hold_until) == (["line\n"], True, 0.002)


def test_what_comes_behind_a_text_does_not_overtake_it() -> None:
    texts_left: list[str] = []
    texts = Texts(lambda owner, stream, text: texts_left.append(text))
    texts.add(REQUESTS["a"], "stdout", "not yet")
    texts.settle(0.0)
    assert texts_left == []

    texts.flush()  # a reply comes

    assert (texts_left, texts.are_waiting) == (["not yet"], False)


def test_one_quick_message_begins_no_hold_but_a_second_one_does() -> None:
    texts = Texts(lambda owner, stream, text: None)
    texts.settle(5.0)  # an execute_input: what the cell prints then leaves at once
    assert not texts.is_holding

    texts.settle(5.001)

    assert (texts.is_holding, texts.hold_until) == (True, 5.011)


def test_a_hold_ends_when_its_time_is_over_and_not_earlier() -> None:
    texts = Texts(lambda owner, stream, text: None)
    texts.add(None, "stdout", "line\n")
    texts.settle(5.0)
    texts.end_hold(5.009)
    assert texts.is_holding

    texts.end_hold(texts.hold_until)

    assert not texts.is_holding


def test_an_outbox_that_is_full_again_is_drained_without_a_pause_and_cuts_no_line() -> None:
    texts_left: list[str] = []
    texts = Texts(lambda owner, stream, text: texts_left.append(text))
    texts.add(None, "stdout", "half a ")
    texts.settle(5.0, is_behind=True)
    assert (texts_left, texts.is_holding) == ([], False)

    texts.add(None, "stdout", "line\n")
    texts.settle(5.001, is_behind=True)

    assert (texts_left, texts.is_holding) == (["half a line\n"], False)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_nor_late_and_each_request_keeps_its_order(seed: int) -> None:
    random_ = random.Random(seed)
    at, pieces = 0, []
    for number in range(300):
        at += random_.choice((0, 0, 0, 1, 1, 3, 20))
        text = f"{number}" + random_.choice(("", "\n", "\n"))
        pieces.append(Written(at, text, random_.choice("abc"), random_.choice(("stdout", "stdout", "stderr"))))

    said = left(*pieces)

    for name in "abc":
        written = [(piece.stream, char) for piece in pieces if piece.request == name for char in piece.text]
        assert [
            (message.stream, char) for message in said if message.request == name for char in message.text
        ] == written
        times = [piece.at for piece in pieces if piece.request == name for _ in piece.text]
        leaving = [message.at for message in said if message.request == name for _ in message.text]
        assert max(after - before for before, after in zip(times, leaving, strict=True)) <= 12
