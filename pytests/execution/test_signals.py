"""SIGINT, SIGTERM and SIGHUP in this process: who handles them, what the undo gives back, and what a forked child has."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import Any

import pytest

from ipymini.execution import signals

TAKEN = (signal.SIGINT, *signals.ENDINGS)
MS = 10_000  # of a deadline


def handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in TAKEN}


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Give the test the handlers of a usual process."""
    before = handlers()
    usual = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    for number, handler in zip(TAKEN, usual, strict=True):
        signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Told:
    """A handler that notes the signals, and the functions that they have met."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.frames: list[str] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        assert frame is not None
        self.numbers.append(number)
        self.frames.append(frame.f_code.co_name)


@contextmanager
def handled(*told: Any) -> Iterator[Callable[[], None]]:
    undo = signals.handle(*told)
    try:
        yield undo
    finally:
        undo()


def test_each_signal_reaches_its_handler_with_the_stack_that_it_has_met() -> None:
    sigint, sigterm = Told(), Told()
    with handled(sigint, sigterm):
        for number in TAKEN:
            signal.raise_signal(number)
    assert (sigint.numbers, sigterm.numbers) == ([signal.SIGINT], list(signals.ENDINGS))
    assert {*sigint.frames, *sigterm.frames} == {sys._getframe().f_code.co_name}


def test_undo_gives_back_what_was_there() -> None:
    mine = Told()
    signal.signal(signal.SIGTERM, mine)
    before = handlers()
    with handled(Told(), Told()) as undo:
        assert set(before.values()).isdisjoint(handlers().values())
        undo()
        assert handlers() == before
        signal.raise_signal(signal.SIGTERM)
    assert mine.numbers == [signal.SIGTERM]


def test_a_handler_that_somebody_has_set_meanwhile_stays() -> None:
    mine = Told()
    with handled(Told(), Told()) as undo:
        signal.signal(signal.SIGINT, mine)
        undo()
    assert handlers() == {signal.SIGINT: mine, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}


def test_a_kernel_in_a_program_takes_sigint_only() -> None:
    with handled(Told(), None):
        taken = [number for number in TAKEN if handlers()[number] not in (signal.SIG_DFL, signal.default_int_handler)]
    assert taken == [signal.SIGINT]


def test_a_sighup_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sigterm = Told()
    with handled(Told(), sigterm) as undo:
        signal.raise_signal(signal.SIGHUP)
        during = signal.getsignal(signal.SIGHUP)
        undo()
    assert (sigterm.numbers, during, signal.getsignal(signal.SIGHUP)) == ([], signal.SIG_IGN, signal.SIG_IGN)


# ---- forked children ------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> str | int:
    """Return what a function says in a forked child, or minus the signal that ends the child."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with closing(open(read)) as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return text if status == 0 else status


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def test_a_forked_child_has_pythons_own_handlers() -> None:
    usual = str(handlers())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with handled(Told(), Told()):
        assert in_child(handlers) == usual
        assert in_child(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())) == str(blocked)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


def test_a_forked_child_keeps_a_handler_of_the_users() -> None:
    mine = Told()
    with handled(Told(), Told()):
        signal.signal(signal.SIGTERM, mine)
        assert in_child(lambda: signal.getsignal(signal.SIGTERM)) == str(mine)


@pytest.mark.parametrize("number", signals.ENDINGS)
def test_a_signal_ends_a_forked_child_and_is_not_the_kernels(number: int) -> None:
    sigterm = Told()
    with handled(Told(), sigterm):
        assert in_child(lambda: signal.raise_signal(number)) == -number
    assert sigterm.numbers == []


def test_a_child_of_a_kernel_that_has_ended_is_left_alone() -> None:
    mine = Told()
    signals.handle(Told(), Told())()
    signal.signal(signal.SIGTERM, mine)
    assert in_child(lambda: signal.getsignal(signal.SIGTERM)) == str(mine)


# ---- a KeyboardInterrupt that nobody can catch -----------------------------------------------------


class Raises:
    def __init__(self, error: BaseException):
        self.error = error

    def __del__(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "is_retried", "asked", "reported"),
    [
        (KeyboardInterrupt(), True, 1, []),
        (KeyboardInterrupt(), False, 1, [KeyboardInterrupt]),
        (ValueError(), True, 0, [ValueError]),
    ],
)
def test_a_keyboardinterrupt_of_a_destructor_is_told_and_others_are_reported(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, is_retried: bool, asked: int, reported: list[type]
) -> None:
    seen: list[type] = []
    questions: list[None] = []

    def before(unraisable: Any) -> None:
        seen.append(unraisable.exc_type)

    def swallowed() -> bool:
        questions.append(None)
        return is_retried

    monkeypatch.setattr(sys, "unraisablehook", before)
    undo = signals.on_unraisable(swallowed)
    Raises(error)
    undo()
    assert (len(questions), seen, sys.unraisablehook) == (asked, reported, before)


def test_a_hook_that_the_user_has_set_meanwhile_survives_the_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(unraisable: Any) -> None: ...

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    undo = signals.on_unraisable(lambda: True)
    sys.unraisablehook = theirs
    undo()
    assert sys.unraisablehook is theirs


# ---- soon ------------------------------------------------------------------------------------------


def test_a_sigint_sends_the_second_signal_and_others_do_not() -> None:
    watched: list[tuple[int, Callable[[], None]]] = []
    sent: list[None] = []
    with handled(Told(), Told()):
        undo = signals.handle_soon(lambda end, came: watched.append((end, came)), lambda: sent.append(None))
        try:
            ((end, came),) = watched
            for number, count in ((signal.SIGTERM, 0), (signal.SIGINT, 1)):
                signal.raise_signal(number)
                poll = select.poll()
                poll.register(end, select.POLLIN)
                assert poll.poll(MS)
                came()
                assert len(sent) == count
        finally:
            undo()
    assert signal.set_wakeup_fd(-1) == -1
