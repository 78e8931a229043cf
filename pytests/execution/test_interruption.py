"""interruption, strikes, signals: what an interrupt does in each situation. Lanes are real, kernels only where needed."""

import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from harness import KernelUnderTest

from ipymini.execution import context, interruption, signals
from ipymini.execution.interruption import action
from ipymini.execution.lane import Lane
from ipymini.execution.stacks import door
from ipymini.execution.strikes import BySignal
from ipymini.protocol.messages import Request

STRIKE = {"sigint": lambda kernel: kernel.interrupt(), "message": lambda kernel: kernel.ask_to_interrupt()}

# The rows of the table in `interruption` that a cell can show on any lane. Each prints "on" when it is there.
SITUATIONS = {
    "code runs": "print('on')\nwhile True: pass",
    "code runs in a greenlet": "import greenlet; print('on')\ndef loop():\n while True: pass\ngreenlet.greenlet(loop).switch()",
    "a blocking wait": "import time; print('on'); time.sleep(60)",
    "the cell awaits": "import asyncio; print('on'); await asyncio.sleep(60)",
    "a task of a cell blocks": "import asyncio, time\nasync def blocks(): print('on'); time.sleep(60)\nawait asyncio.gather(blocks())",
    "the kernel's own code": "print('on')\nwhile True: display({'text/plain': 'x' * 1000}, raw=True, display_id='same')",
    "a print in a loop": "while True: print('on')",
    "`input()`": "print('on'); input('?')",
    "a destructor, a C callback": "class Slow:\n def __del__(self):\n  print('on')\n  while True: pass\nslow = Slow()\ndel slow",
}


def rows() -> list[str]:
    table = re.findall(r"^  (\S[^|\n]*?) +\| ", interruption.__doc__ or "", flags=re.MULTILINE)
    assert table[0] == "situation"
    return table[1:]


def named(situation: str) -> str:
    return "test_" + re.sub(r"\W+", "_", situation).strip("_")


def test_each_situation_of_the_table_has_its_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert set(SITUATIONS) < set(rows())
    assert [row for row in rows() if row not in SITUATIONS and f"def {named(row)}" not in tests] == []


@pytest.fixture(params=STRIKE, ids=str)
def strike(request: pytest.FixtureRequest) -> Callable[[KernelUnderTest], Any]:
    return STRIKE[request.param]


@pytest.fixture(params=["main lane", "other lanes"])
def subshell_id(request: pytest.FixtureRequest, kernel: KernelUnderTest) -> Iterator[str | None]:
    if request.param == "main lane":
        yield None
        return
    made = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    yield made
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=made))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_interrupt_ends_the_cell_in_each_situation(
    kernel: KernelUnderTest, strike: Any, subshell_id: str | None, situation: str
) -> None:  # I8, I17
    cell = kernel.send(
        "execute_request", code=SITUATIONS[situation], header={"subshell_id": subshell_id}, allow_stdin=True
    )
    kernel.wait_for("iopub", "stream", msg_id=cell, text="on")
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert len(kernel.reply_messages(cell)) == 1


def test_between_cells(kernel: KernelUnderTest, strike: Any, subshell_id: str | None) -> None:  # I1
    for number in range(10):
        strike(kernel)
        reply, outputs = kernel.execute(f"{number}", header={"subshell_id": subshell_id})
        assert (reply["status"], outputs) == ("ok", [f"execute_result:{number}"])


# ---- in memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "is_open", "expected"),
    [
        ("user", True, "strike"),
        ("elsewhere", True, "strike"),
        ("outside-user", True, "strike"),
        ("user", False, "cancel"),
        ("elsewhere", False, "cancel"),
        ("outside-user", False, "cancel"),
        ("outside", True, "cancel"),
        ("outside", False, "cancel"),
        ("ours", True, "pending"),
        ("ours", False, "pending"),
        ("neutral", True, "pending"),
        ("neutral", False, "pending"),
    ],
)
def test_what_to_do_follows_from_the_stack(verdict: str, is_open: bool, expected: str) -> None:
    assert action(verdict, is_open) == expected


class Loop:
    """What a lane's loop is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def call_soon_threadsafe(self, *what: Any) -> None:
        self.told.append(what)


class OnMainThread:
    """A lane that a signal interrupts, and a cell on it: a function behind a door."""

    def __init__(self) -> None:
        self.retries: list[float] = []
        self.lane = Lane("test", self.never, interruption=self.made)
        self.lane.loop = Loop()  # type: ignore[assignment]

    def made(self, lane: Lane) -> BySignal:
        self.by_signal = BySignal(lane, lambda ident, stack: False, self.retries.append)
        return self.by_signal

    async def never(self, request: Request) -> None:
        raise AssertionError

    @door
    def run(self, request: Request, code: str, **names: Any) -> str | None:
        """Run code as a cell of this request; return the name of its error."""
        self.lane.queue.running_cells[request] = None
        try:
            with context.handling(request), self.by_signal.interruptible(request):
                exec(code, {"__name__": "__main__", **names})
        except KeyboardInterrupt as error:
            return type(error).__name__
        finally:
            del self.lane.queue.running_cells[request]
            self.by_signal.served(request)
        return None


def request(name: str) -> Request:
    return Request({"msg_id": name, "msg_type": "execute_request"}, {})


def test_a_request_not_open_yet() -> None:  # I6
    main, cell = OnMainThread(), request("a")
    main.lane.queue.running_cells[cell] = None
    main.by_signal.on_signal(sys._getframe())
    assert (main.by_signal.pending, main.retries) == (cell, [])
    assert main.run(cell, "ran()", ran=pytest.fail) == "KeyboardInterrupt"
    assert main.run(request("b"), "1") is None


def at_work(by_signal: BySignal) -> Callable[[], None]:
    """Return a function of the kernel's during which an interrupt comes."""
    names = {"__name__": "ipymini.protocol.at_work", "come": by_signal.on_signal, "sys": sys}
    exec("def work(): come(sys._getframe())", names)
    work: Callable[[], None] = names["work"]  # type: ignore[assignment]
    return work


def test_an_interrupt_of_the_kernels_own_work_is_tried_again_and_strikes_then() -> None:
    main = OnMainThread()

    def comes_back() -> FrameType:
        assert main.retries == [interruption.RETRY]
        return sys._getframe(1)

    code = "work()\nretry(comes_back())\nfail()"
    names = {"work": at_work(main.by_signal), "retry": main.by_signal.retry, "comes_back": comes_back}
    assert main.run(request("a"), code, fail=pytest.fail, **names) == "KeyboardInterrupt"


def test_a_retry_asks_once_however_many_interrupts_come() -> None:
    main = OnMainThread()
    main.run(request("a"), "work()\nwork()\nwork()", work=at_work(main.by_signal))
    assert main.retries == [interruption.RETRY]


@pytest.mark.parametrize("order", ["retry first", "interrupt first"])
def test_the_retry_for_one_cell_and_an_interrupt_of_the_next_are_two_things(order: str) -> None:  # I2
    main, here = OnMainThread(), "sys._getframe()"
    assert main.run(request("a"), "work()", work=at_work(main.by_signal)) is None  # it ended first
    signals_come = [f"retry({here})", f"interrupt({here})"]
    code = "\n".join(signals_come if order == "retry first" else reversed(signals_come))
    names = {"sys": sys, "retry": main.by_signal.retry, "interrupt": main.by_signal.on_signal}
    assert main.run(request("b"), code, **names) == "KeyboardInterrupt"
    assert main.run(request("c"), f"retry({here})", **names) is None


def test_what_was_swallowed_is_raised_at_the_end_of_the_cell_at_the_latest() -> None:
    main = OnMainThread()
    assert main.run(request("a"), "swallowed()", swallowed=main.by_signal.on_swallowed) == "KeyboardInterrupt"
    assert main.run(request("b"), "1") is None


def test_no_request_stays_open_that_was_struck_as_it_was_opened() -> None:
    main, cell = OnMainThread(), request("a")
    with pytest.raises(ZeroDivisionError), main.by_signal.interruptible(cell):
        1 / 0  # noqa: B018
    main.by_signal.open_up(cell)  # and nobody closes it
    main.by_signal.served(cell)
    assert not main.by_signal.open


@pytest.mark.parametrize("taken", [(), (signal.SIGURG,), (signal.SIGURG, signal.SIGRTMIN)])
def test_the_second_signal_is_one_that_nobody_uses(taken: tuple[int, ...]) -> None:
    before = {number: signal.signal(number, lambda signum, frame: pytest.fail()) for number in taken}
    seen: list[FrameType | None] = []
    try:
        second = signals.Second(seen.append, lambda seconds, function: None)
        assert second.number not in taken
        second.send()
        assert seen[0] is not None and seen[0].f_code.co_name in ("send", sys._getframe().f_code.co_name)
        second.undo()
        assert signal.getsignal(second.number) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_second_signal_is_sent_until_the_main_thread_has_handled_it(monkeypatch: pytest.MonkeyPatch) -> None:  # I8
    # given: a main thread that is about to wait in a system call: it has seen no signal, and the call does not end
    seen: list[FrameType | None] = []
    later: list[tuple[float, Callable[[], None]]] = []
    really, lost = signals.signal.pthread_kill, [1, 2]
    monkeypatch.setattr(signals.signal, "pthread_kill", lambda *to: lost.pop() if lost else really(*to))
    second = signals.Second(seen.append, lambda *when: later.append(when))
    try:
        # when
        second.send()
        while later:
            later.pop()[1]()
        # then
        assert (len(seen), lost) == (1, [])
    finally:
        second.undo()
