"""The questions that wait, in memory: who is answered, and what ends a question that nobody answers."""

import builtins
import getpass
import threading
import warnings
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from ipymini.execution import context
from ipymini.frontend.stdin import INTERRUPTED, Stdin, StdinNotSupported
from ipymini.protocol.messages import Message, Request

SOON = 10.0  # seconds: a deadline, no measure


class Channel:
    """What stdin needs of `Channels`: it keeps what is asked."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[tuple[Message, Any]] = SimpleQueue()
        self.wanted: list[Callable[[], bool]] = []

    def send_while(self, wanted: Callable[[], bool], channel: str, message: Message, identities: Any) -> None:
        assert channel == "stdin"
        self.wanted.append(wanted)
        self.asked.put((message, identities))


class Cell:
    """A cell of a client that asks, on a thread of its own."""

    def __init__(self, stdin: Stdin, msg_id: str, client: str = "client"):
        self.stdin = stdin
        self.request = Request({"msg_id": msg_id, "msg_type": "execute_request"}, {}, identities=(client.encode(),))
        self.results: SimpleQueue[Any] = SimpleQueue()
        stdin.allow(self.request)

    def ask(self, prompt: str = "", **options: Any) -> str:
        """Ask, and return the msg_id of the question once it has been sent."""
        threading.Thread(target=self._run, args=(prompt,), kwargs=options, daemon=True).start()
        message, identities = self.stdin._channels.asked.get(timeout=SOON)  # type: ignore[attr-defined]
        assert (message.msg_type, identities) == ("input_request", self.request.identities)
        assert message.content == {"prompt": prompt, "password": options.get("password", False)}
        return str(message.msg_id)

    def _run(self, prompt: str, **options: Any) -> None:
        with context.handling(self.request):
            try:
                self.results.put(self.stdin.ask(prompt, **options))
            except BaseException as error:
                self.results.put((type(error), str(error)))

    def result(self) -> Any:
        """Return the answer, or the error as (class, text)."""
        return self.results.get(timeout=SOON)

    @property
    def waits(self) -> bool:
        return self.request in [waiter.request for waiter in self.stdin._waiters]


def reply(asked: str | None, client: str = "client", **content: Any) -> Request:
    parent = {"msg_id": asked} if asked else {}
    header = {"msg_id": "reply", "msg_type": "input_reply"}
    return Request(header, content, parent_header=parent, identities=(client.encode(),))


@pytest.fixture
def stdin() -> Stdin:
    return Stdin(Channel())  # type: ignore[arg-type]


# ---- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [False, True])
def test_a_question_is_answered_by_its_parent(stdin: Stdin, password: bool) -> None:
    cell = Cell(stdin, "a")
    asked = cell.ask("name ", password=password)
    stdin.answer(reply(asked, value="Ada"))
    assert cell.result() == "Ada"


def test_an_answer_may_name_the_cell_instead_of_the_question(stdin: Stdin) -> None:
    cell = Cell(stdin, "a")
    cell.ask()
    stdin.answer(reply("a", value="yes"))
    assert cell.result() == "yes"


def test_questions_are_answered_in_any_order(stdin: Stdin) -> None:  # S2
    first, second = Cell(stdin, "a"), Cell(stdin, "b")
    asked_first, asked_second = first.ask("1"), second.ask("2")
    stdin.answer(reply(asked_second, value="two"))
    stdin.answer(reply(asked_first, value="one"))
    assert (first.result(), second.result()) == ("one", "two")


def test_an_answer_without_a_parent_is_for_the_oldest_question_of_its_client(stdin: Stdin) -> None:  # S3
    other, first, second = Cell(stdin, "o", "other"), Cell(stdin, "a"), Cell(stdin, "b")
    for cell in (other, first, second):
        cell.ask()
    stdin.answer(reply(None, value="for the first"))
    assert first.result() == "for the first"
    assert (other.waits, second.waits) == (True, True)
    stdin.abandon_all(EOFError())


@pytest.mark.parametrize(("client", "parent"), [("other", "asked"), ("other", None), ("client", "unknown")])
def test_a_foreign_answer_is_for_nobody(stdin: Stdin, client: str, parent: str | None) -> None:  # S3
    cell = Cell(stdin, "a")
    asked = cell.ask()
    stdin.answer(reply(asked if parent == "asked" else parent, client, value="foreign"))
    stdin.answer(reply(asked, value="right"))
    assert cell.result() == "right"


def test_a_repeated_answer_is_not_for_the_next_question(stdin: Stdin) -> None:  # S3, I10
    cell = Cell(stdin, "a")
    first = cell.ask()
    stdin.answer(reply(first, value="1"))
    assert cell.result() == "1"
    second = cell.ask()
    stdin.answer(reply(first, value="late"))
    stdin.answer(reply(second, value="2"))
    assert cell.result() == "2"


@pytest.mark.parametrize(
    ("content", "result"),
    [({"value": ""}, ""), ({}, ""), ({"value": None}, ""), ({"value": 5}, ""), ({"value": "\x04"}, (EOFError, ""))],
)
def test_what_an_answer_may_hold(stdin: Stdin, content: dict[str, Any], result: Any) -> None:
    cell = Cell(stdin, "a")
    stdin.answer(reply(cell.ask(), **content))
    assert cell.result() == result


# ---- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("password", "name"), [(False, "raw_input"), (True, "getpass")])
def test_nobody_may_ask_without_a_cell_that_allows_it(stdin: Stdin, password: bool, name: str) -> None:  # S7
    closed = Request({"msg_id": "closed"}, {})
    for request in (closed, None):
        with context.handling(request), pytest.raises(StdinNotSupported, match=f"^{name} was called, but"):
            stdin.ask("", password=password)
    assert stdin._waiters == ()


def test_a_cell_that_ends_ends_the_questions_of_its_threads(stdin: Stdin) -> None:  # S7, P7
    cell, other = Cell(stdin, "a"), Cell(stdin, "b")
    cell.ask()
    asked = other.ask()
    stdin.disallow(cell.request)
    assert cell.result() == (StdinNotSupported, "input was requested by a cell that has ended")
    with context.handling(cell.request), pytest.raises(StdinNotSupported):
        stdin.ask("too late")
    stdin.answer(reply(asked, value="the other's"))
    assert other.result() == "the other's"


# ---- what ends a question -------------------------------------------------------------------------


def test_abandoned_questions_end_with_the_error_and_no_others(stdin: Stdin) -> None:  # P7
    cells = [Cell(stdin, name) for name in "abc"]
    asked = [cell.ask() for cell in cells]
    stdin.abandon([cells[0].request, cells[2].request], RuntimeError("interrupted"))
    assert [cells[n].result() for n in (0, 2)] == [(RuntimeError, "interrupted")] * 2
    stdin.answer(reply(asked[1], value="still there"))
    assert cells[1].result() == "still there"


def test_all_questions_end_when_the_kernel_stops(stdin: Stdin) -> None:  # P7
    cells = [Cell(stdin, name) for name in "ab"]
    for cell in cells:
        cell.ask()
    stdin.abandon_all(RuntimeError("the kernel stops"))
    assert [cell.result() for cell in cells] == [(RuntimeError, "the kernel stops")] * 2
    assert stdin._waiters == ()


def test_a_question_that_cannot_be_sent_does_not_wait(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:  # P7
    def fail(*args: Any) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(stdin._channels, "send_while", fail)
    cell = Cell(stdin, "a")
    cell._run("?")
    assert cell.result() == (OSError, "no way out")
    assert stdin._waiters == ()


def test_an_interrupt_withdraws_the_question(stdin: Stdin) -> None:  # I9
    def interrupted() -> None:
        raise KeyboardInterrupt

    stdin.meanwhile = interrupted
    cell = Cell(stdin, "a")
    cell.ask()
    assert cell.result() == (KeyboardInterrupt, INTERRUPTED)
    wanted = stdin._channels.wanted  # type: ignore[attr-defined]
    assert [still() for still in wanted] == [False]  # nor is it sent when its client connects late


def test_who_waits_does_meanwhile_what_is_due(stdin: Stdin) -> None:
    due: SimpleQueue[float | None] = SimpleQueue()
    for seconds in (0.0, 0.001, None):
        due.put(seconds)
    stdin.meanwhile = due.get_nowait
    cell = Cell(stdin, "a")
    asked = cell.ask()
    stdin.answer(reply(asked, value="done"))
    assert cell.result() == "done"


# ---- input and getpass ----------------------------------------------------------------------------


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Return the `input` and the `getpass` that a program has."""
    both = (lambda prompt="": f"typed at {prompt}", lambda prompt="", stream=None: f"typed secretly at {prompt}")
    monkeypatch.setattr(builtins, "input", both[0])
    monkeypatch.setattr(getpass, "getpass", both[1])
    yield both
    assert (builtins.input, getpass.getpass) == both


def asked_by(stdin: Stdin, function: Callable[[], str]) -> tuple[Any, dict[str, Any]]:
    """Return what a function returns when a cell calls it and its question is answered, and the question."""
    cell = Cell(stdin, "a")
    results: SimpleQueue[str] = SimpleQueue()

    def run() -> None:
        with context.handling(cell.request):
            results.put(function())

    threading.Thread(target=run, daemon=True).start()
    message, _ = stdin._channels.asked.get(timeout=SOON)  # type: ignore[attr-defined]
    stdin.answer(reply(message.msg_id, value="answer"))
    return results.get(timeout=SOON), message.content


@pytest.mark.parametrize("shared", [False, True])
def test_input_and_getpass_ask_the_frontend_until_the_undo(stdin: Stdin, programs: Any, shared: bool) -> None:
    undo = stdin.install(shared=shared)
    try:
        assert asked_by(stdin, lambda: input(5)) == ("answer", {"prompt": "5", "password": False})
        assert asked_by(stdin, getpass.getpass) == ("answer", {"prompt": "Password: ", "password": True})
    finally:
        undo()


def test_a_program_around_the_kernel_keeps_its_own_questions(stdin: Stdin, programs: Any) -> None:
    undo = stdin.install(shared=True)
    try:
        assert (input("a"), getpass.getpass("b")) == ("typed at a", "typed secretly at b")
    finally:
        undo()
    with pytest.raises(Empty):
        stdin._channels.asked.get_nowait()  # type: ignore[attr-defined]


def test_options_of_getpass_that_mean_a_terminal_are_warned_of(stdin: Stdin, programs: Any) -> None:
    undo = stdin.install()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            asked_by(stdin, lambda: getpass.getpass("key ", stream=object()))  # type: ignore[arg-type]
    finally:
        undo()
    assert [str(one.message) for one in said] == ["stream and echo_char have no effect: the frontend shows the prompt"]
