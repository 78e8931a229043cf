"""Functions on threads of their own, and what an interrupt does to them: in this process, without a kernel."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ipymini.execution import workers
from ipymini.execution.stacks import door
from ipymini.execution.workers import Workers

SOON = 10.0  # seconds: a deadline, no measure


def later(seconds: float, function: Callable[[], None]) -> None:
    threading.Timer(seconds, function).start()


def run(*functions: Callable[[], Any], among: Workers) -> list[Any]:
    """Return what the functions return or raise, on one loop at once."""

    async def outcome(function: Callable[[], Any]) -> Any:
        try:
            return await among.run(function)
        except BaseException as error:
            return type(error).__name__

    async def all_outcomes() -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*map(outcome, functions)), SOON)

    return asyncio.run(all_outcomes())


def test_what_a_function_returns_or_raises_comes_back_from_another_thread() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("the caller's")

    def fails() -> None:
        raise LookupError

    def stops() -> None:
        raise StopIteration

    here = threading.get_ident()
    outcomes = run(lambda: threading.get_ident() != here, variable.get, fails, stops, among=Workers("test", later))
    assert outcomes == [True, "the caller's", "LookupError", "RuntimeError"]


def test_none_waits_for_another() -> None:
    go = threading.Event()
    assert run(lambda: go.wait(SOON), lambda: go.set(), among=Workers("test", later)) == [True, None]


def test_an_interrupt_ends_the_wait_for_a_lock_and_strikes_a_loop() -> None:
    among, lock, begun, struck = Workers("test", later), threading.Lock(), threading.Semaphore(0), threading.Event()
    names: dict[str, Any] = {"begun": begun, "struck": struck, "lock": lock}
    exec(
        "def loops():\n begun.release()\n try:\n  turns = 0\n  while True: turns += 1\n finally: struck.set()\n"
        "def waits():\n begun.release(); lock.acquire()",
        names,
    )
    lock.acquire()

    @door
    def loops() -> None:
        names["loops"]()

    def interrupts() -> None:
        for _ in range(2):
            assert begun.acquire(timeout=SOON)
        among.interrupt()

    assert run(loops, names["waits"], interrupts, among=among) == ["KeyboardInterrupt", "KeyboardInterrupt", None]
    assert struck.wait(SOON)
    assert not among.is_running
    lock.release()


def test_an_interrupt_spares_what_is_about_to_answer() -> None:
    among = Workers("test", later)

    def answers() -> str:
        among.interrupt()
        return "answer"

    assert run(answers, among=among) == ["answer"]


def test_there_is_an_end_to_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST", 2)
    go = threading.Event()

    def wait() -> bool:
        return go.wait(SOON)

    among = Workers("test", later)

    async def three() -> Any:
        tasks = [asyncio.create_task(among.run(wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(KeyboardInterrupt):
            await among.run(wait)
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(three()) == [True, True]
