"""nesting: lets `asyncio.run` and its kin work in a plain cell although the lane's own loop is running.

Cells run inside a step of the lane's loop, so that `asyncio.create_task(...)` works in any cell and top-level
await needs nothing. asyncio refuses to run a second loop there. It need not: a plain cell blocks the lane's
loop anyway, and a second one on the same thread is no worse than any other blocking call. So the functions
that run *another* loop step outside the running one for as long as they take. Running the same loop again
(`loop.run_until_complete` of the lane's own) stays an error: its tasks would run inside one another.
"""

import asyncio
from asyncio import base_events, events, runners, tasks
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


@contextmanager
def outside_task() -> Iterator[None]:
    """Run a plain cell's code as if no task ran it: `anyio.run` and sniffio look for a current task.

    The loop still counts as running, so `asyncio.create_task` and `get_running_loop` work.
    """
    loop = events._get_running_loop()
    task = tasks.current_task(loop) if loop is not None else None
    if loop is None or task is None:
        yield
        return
    tasks._leave_task(loop, task)
    try:
        yield
    finally:
        tasks._enter_task(loop, task)


@contextmanager
def outside_loop() -> Iterator[None]:
    """Run another loop on this thread as if none were running."""
    loop = events._get_running_loop()
    with outside_task():
        events._set_running_loop(None)
        try:
            yield
        finally:
            events._set_running_loop(loop)


def install(is_ours: Callable[[asyncio.AbstractEventLoop], bool]) -> Callable[[], None]:
    """Let other loops run while one of ours (`is_ours`) does on the same thread; return the undo."""
    places: list[tuple[Any, str]] = [
        (asyncio, "run"),
        (runners, "run"),
        (runners.Runner, "run"),
        (base_events.BaseEventLoop, "run_forever"),
        (base_events.BaseEventLoop, "run_until_complete"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in places]

    def stepping_outside(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            running = events._get_running_loop()
            if running is None or not is_ours(running) or (args and args[0] is running):
                return function(*args, **kwargs)
            with outside_loop():
                return function(*args, **kwargs)

        return wrapper

    for owner, name, function in before:
        setattr(owner, name, stepping_outside(function))

    def undo() -> None:
        for owner, name, function in before:
            setattr(owner, name, function)

    return undo
