"""`asyncio.run` beside a running loop, and what the undo gives back. No kernel."""

import asyncio
import importlib
import sys
from asyncio import base_events, events, runners
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ipymini.execution import loops

PLACES = [
    (asyncio, "run"),
    (runners, "run"),
    (runners.Runner, "run"),
    (runners.Runner, "close"),
    (base_events.BaseEventLoop, "run_forever"),
    (base_events.BaseEventLoop, "run_until_complete"),
]


def found() -> list[Any]:
    return [vars(owner)[name] for owner, name in PLACES]


@pytest.fixture
def lane() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def undo(lane: asyncio.AbstractEventLoop) -> Iterator[Callable[[], None]]:
    """Let other loops run inside of one, and return the undo."""
    undoes = [loops.install(lambda loop: loop is lane)]
    yield lambda: undoes.pop()()
    while undoes:
        undoes.pop()()


async def three() -> int:
    return 3


def on(lane: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
    """Return what a plain function returns in a task of the lane's loop, or its error."""

    async def cell() -> Any:
        return function()

    try:
        return lane.run_until_complete(cell())
    except RuntimeError as error:
        return str(error)


def test_undo_gives_back_every_function_and_finder() -> None:
    before, finders = found(), list(sys.meta_path)
    undo = loops.install(lambda loop: True)
    assert [old is new for old, new in zip(before, found(), strict=True)] == [False] * len(PLACES)
    assert asyncio.run is runners.run  # one function, in both places
    undo()
    assert (found(), sys.meta_path) == (before, finders)


def test_another_loop_runs_inside_of_the_lanes_until_the_undo(
    lane: asyncio.AbstractEventLoop, undo: Callable[[], None]
) -> None:
    def runs() -> tuple[int, int]:
        with asyncio.Runner() as runner:
            return asyncio.run(three()), runner.run(three())

    held = asyncio.run
    assert on(lane, runs) == (3, 3)
    undo()
    for run in (asyncio.run, held):  # who has taken ours along has asyncio's behaviour again
        work = three()
        assert on(lane, lambda run=run, work=work: run(work)) == (
            "asyncio.run() cannot be called from a running event loop"
        )
        work.close()


def test_the_lanes_loop_is_the_running_one_again_afterwards(
    lane: asyncio.AbstractEventLoop, undo: Callable[[], None]
) -> None:
    def fails() -> Any:
        async def inner() -> None:
            assert events._get_running_loop() is not lane
            raise ValueError

        with pytest.raises(ValueError):
            asyncio.run(inner())
        return events._get_running_loop(), asyncio.current_task(lane) is not None

    assert on(lane, fails) == (lane, True)


def test_the_lanes_own_loop_does_not_run_inside_of_itself(
    lane: asyncio.AbstractEventLoop, undo: Callable[[], None]
) -> None:
    work = three()
    assert on(lane, lambda: lane.run_until_complete(work)) == "This event loop is already running"
    work.close()


def test_a_loop_of_somebody_elses_is_asyncios_business(undo: Callable[[], None]) -> None:
    other, work = asyncio.new_event_loop(), three()
    try:
        assert on(other, lambda: asyncio.run(work)) == "asyncio.run() cannot be called from a running event loop"
    finally:
        work.close()
        other.close()


# ---- anyio, which asks for a running loop by itself -----------------------------------------------


@pytest.fixture
def anyio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Return what imports an anyio of the test's own, in the place of the real one."""
    (tmp_path / "anyio" / "_core").mkdir(parents=True)
    (tmp_path / "anyio" / "__init__.py").write_text("from ._core._eventloop import run\n")
    (tmp_path / "anyio" / "_core" / "__init__.py").write_text("")
    (tmp_path / "anyio" / "_core" / "_eventloop.py").write_text("def run(work): return work()\n")
    before = imported()
    for name in before:
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda: importlib.import_module("anyio")
    for name in imported():
        del sys.modules[name]
    sys.modules.update(before)


def imported() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "anyio"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_anyio_steps_outside_too_and_gets_its_function_back(
    lane: asyncio.AbstractEventLoop, anyio: Callable[[], Any], when: str
) -> None:
    if when == "before":
        anyio()
    undo = loops.install(lambda loop: loop is lane)
    try:
        module = anyio()
        inside = on(lane, lambda: module.run(events._get_running_loop))
    finally:
        undo()
    assert (inside, on(lane, lambda: module.run(events._get_running_loop))) == (None, lane)
    assert module.run is module._core._eventloop.run
    assert module.run.__code__.co_filename == module._core._eventloop.__file__
