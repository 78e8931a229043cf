"""loops: lets `asyncio.run` and its kin work in a plain cell although the lane's own loop is running.

Cells run inside a step of the lane's loop, so that `asyncio.create_task(...)` works in any cell and top-level
await needs nothing. asyncio refuses to run a second loop there. It need not: a plain cell blocks the lane's
loop anyway, and a second one on the same thread is no worse than any other blocking call. So the functions
that run *another* loop step outside the running one for as long as they take. Running the same loop again
(`loop.run_until_complete` of the lane's own) stays an error: its tasks would run inside one another.
"""

import asyncio
import importlib.util
import sys
from _thread import get_ident
from asyncio import base_events, events, runners, tasks
from collections.abc import Callable
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from weakref import ref

from ipymini.execution.context import put_right, standing
from ipymini.execution.stacks import shielded, transparent
from ipymini.protocol.originals import __builtins__  # noqa: F401

# Classes, and no generators: an interrupt may strike between the two halves of a `with`, and what is left of a
# generator ends whenever it is collected: another task could not be entered then, and would wait for ever.


class outside_task:
    """Run a plain cell's code as if no task ran it: `anyio.run` and sniffio look for a current task.

    The loop still counts as running, so `asyncio.create_task` and `get_running_loop` work.
    What the code leaves behind is put right: since 3.14 only a task of the running loop can be entered again.
    """

    @shielded
    def __enter__(self) -> None:
        self._standing = self._loop, self._task = standing()
        if self._loop is not None and self._task is not None:
            tasks._leave_task(self._loop, self._task)

    @shielded
    def __exit__(self, *ignored: object) -> None:
        put_right(*self._standing)


class outside_loop(outside_task):
    """Run another loop on this thread as if none were running."""

    @shielded
    def __enter__(self) -> None:
        super().__enter__()
        events._set_running_loop(None)


# By thread: the innermost loop; each thread writes its own entry. Weak: an interrupt may leave one.
_running: dict[int, "ref[asyncio.AbstractEventLoop]"] = {}


def wake(ident: int | None) -> None:
    """Make the innermost loop of a thread turn round once: an interrupt that waits for the next bytecode strikes."""
    innermost = _running.get(ident or 0)
    loop = innermost() if innermost is not None else None
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None)


def install(is_ours: Callable[[asyncio.AbstractEventLoop], bool]) -> Callable[[], None]:
    """Let other loops run while one of ours (`is_ours`) does on the same thread; return the undo."""
    places: list[tuple[Any, str]] = [
        (asyncio, "run"),
        (runners, "run"),
        (runners.Runner, "run"),
        (runners.Runner, "close"),  # its `gather` takes the running loop for its own, since 3.14
        (base_events.BaseEventLoop, "run_forever"),
        (base_events.BaseEventLoop, "run_until_complete"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in places]

    def stepping_outside(function: Callable[..., Any]) -> Callable[..., Any]:
        @transparent
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            running = events._get_running_loop()
            if running is None or not is_ours(running) or (args and args[0] is running):
                return function(*args, **kwargs)
            with outside_loop():
                return function(*args, **kwargs)

        return wrapper

    def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
        @transparent
        @wraps(function)
        def run_forever(self: asyncio.AbstractEventLoop) -> Any:
            ident = get_ident()
            around = _running.get(ident)
            _running[ident] = ref(self)
            try:
                return function(self)
            finally:
                if around is None:
                    _running.pop(ident, None)
                else:
                    _running[ident] = around

        return run_forever

    made: dict[Any, Any] = {}
    for owner, name, function in before:
        stepping = made.setdefault(function, stepping_outside(function))  # one `run`, in both places: it pickles
        setattr(owner, name, remembering(stepping) if name == "run_forever" else stepping)

    nothing = ModuleType("nothing")

    def change(module: ModuleType) -> None:
        before.append((module, "run", module.run))
        module.run = stepping_outside(module.run)  # type: ignore[attr-defined]

    after_import = AfterImport("anyio._core._eventloop", change)
    sys.meta_path.insert(0, after_import)
    for name in ("anyio", "anyio._core._eventloop"):  # imported by the program around an embedded kernel
        if "run" in vars(sys.modules.get(name, nothing)):
            change(sys.modules[name])

    def undo() -> None:
        nonlocal is_ours
        is_ours = lambda loop: False  # noqa: E731  # who has taken one of our functions along must not keep a kernel
        sys.meta_path.remove(after_import)
        anyio = sys.modules.get("anyio", nothing)
        for owner, name, function in before:
            if vars(anyio).get(name) is getattr(owner, name):  # it takes its functions over when they are asked for
                anyio.run = function  # type: ignore[attr-defined]
            setattr(owner, name, function)

    return undo


class AfterImport:
    """A finder that changes one module right after its first import: anyio asks for a running loop by itself."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]):
        self._name, self._change = name, change

    @transparent
    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the one module by asking the others, and wrap its loader. Import system."""
        if name != self._name:
            return None
        self._name = ""  # the search below must not find us again
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            @transparent
            def execute_and_change(module: ModuleType) -> None:
                del spec.loader.exec_module  # type: ignore[union-attr]  # the module keeps its loader, which would keep us
                execute(module)
                self._change(module)

            spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec
