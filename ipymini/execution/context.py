"""context: which request caused what runs now. Knows nothing of what a request asks for.

One ContextVar says it. Tasks copy their creator's context by themselves; threads and executor items do
not, so `install()` makes them inherit this one variable, and only this one:
a thread that inherited numpy's or decimal's context would compute other numbers than it does elsewhere.
With IPYMINI_THREAD_OUTPUT=latest they do not inherit: then their output goes to the latest cell.
"""

import asyncio
import os
import sys
import threading
from asyncio import events, tasks
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from types import coroutine
from typing import Any

from ipymini.execution.stacks import transparent
from ipymini.protocol.messages import Content, Request
from ipymini.protocol.originals import __builtins__, contextmanager, suppress  # noqa: F401

_request: ContextVar[Request | None] = ContextVar("ipymini_request", default=None)
_latest: Request | None = None  # the main lane's running or last request; written by its thread only

own = _request.get  # () -> Request | None: the cause, if one is known


def current() -> Request | None:
    """Return the request that caused what runs now; where none is known, the main lane's latest."""
    return _request.get() or _latest


def latest() -> Request | None:
    """Return the main lane's running or last request: what file descriptors and C threads belong to."""
    return _latest


def set_latest(request: Request | None) -> None:
    """Say what the main lane works on. Called by `Kernel.handle` only."""
    global _latest
    _latest = request


@contextmanager
def handling(request: Request | None) -> Iterator[None]:
    """Make `request` the cause of all that the block does, and of the tasks and threads it starts."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def pin(request: Request | None) -> Callable[[], None]:
    """Make `request` the cause of what the calling thread or task does from now on; return the undo, for the same."""
    token = _request.set(request)
    return lambda: _request.reset(token)


class Parent(dict[str, Any]):
    """A request as third parties know it, a dict, which remembers the request itself."""

    def __init__(self, request: Request):
        super().__init__(request.as_dict())
        self.request = request


def pin_parent(parent: Content) -> Callable[[], None]:
    """Make a message that third parties have kept (or made, or its header alone) the cause, as `pin` does."""
    request = getattr(parent, "request", None)
    if request is None and parent:
        import json

        header = parent.get("header", parent)
        as_json = json.dumps(header, default=lambda date: date.isoformat())  # jupyter_client reads dates as such
        request = Request(header, parent.get("content", {}), header_json=as_json.encode())
    return pin(request)


@coroutine
def drive(request: Request, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Run a coroutine so that `request` is the cause during each of its steps, and of nothing in between.

    All requests of a lane share one Context (what a cell sets, the next one sees), so a cell that waits
    must not leave its request behind for the comm message that is handled meanwhile.
    """
    value: Any = None
    error: BaseException | None = None
    loop, task = standing()  # no task: inside a plain cell, for `process_events`
    while True:
        token = _request.set(request)
        try:
            waiting_for = work.send(value) if error is None else work.throw(error)
        except StopIteration:
            return
        finally:
            _request.reset(token)
            put_right(loop, task)
        value, error = None, None
        try:
            value = yield waiting_for
        except GeneratorExit:  # nobody will go on with it; on whichever thread, so there is nothing to put right
            work.close()
            raise
        except BaseException as thrown:  # a cancellation: it belongs to the coroutine, as with `await`
            error = thrown


def current_task() -> "asyncio.Task[Any] | None":
    """Return the running task of this thread's running loop, also one written in Python, as nest_asyncio makes them.

    Since 3.14 asyncio keeps those apart, and `asyncio.current_task` knows only its own, in C.
    """
    return tasks.current_task() or getattr(tasks, "_py_current_task", tasks.current_task)()


def standing() -> tuple[asyncio.AbstractEventLoop | None, "asyncio.Task[Any] | None"]:
    """Return the loop and the task that asyncio holds to be running on this thread."""
    loop = events._get_running_loop()
    return loop, None if loop is None else tasks.current_task(loop)


def put_right(loop: asyncio.AbstractEventLoop | None, task: "asyncio.Task[Any] | None") -> None:
    """Tell asyncio again what runs on this thread: an interrupt can strike `asyncio.run` as it cleans up."""
    if events._get_running_loop() is not loop:
        events._set_running_loop(loop)
    if loop is None or (stranger := tasks.current_task(loop)) is task:
        return
    if stranger is not None:
        tasks._leave_task(loop, stranger)
    if task is not None:
        tasks._enter_task(loop, task)


def install() -> Callable[[], None]:
    """Let threads and executor items inherit the cause from whoever started them; return the undo."""
    if os.environ.get("IPYMINI_THREAD_OUTPUT") == "latest":
        return lambda: None
    start, bootstrap = threading.Thread.start, threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
    submit, add_done_callback = ThreadPoolExecutor.submit, Future.add_done_callback

    # Not transparent: an interrupt waits until the thread has started. One that strikes in between can leave it
    # without the lock of `_started`, and then it never does.
    def inheriting_start(self: threading.Thread) -> None:
        self.__dict__["_ipymini_request"] = _request.get()
        start(self)

    def inheriting_bootstrap(self: threading.Thread) -> None:
        request, its_own = self.__dict__.pop("_ipymini_request", None), getattr(self, "_context", None)
        if its_own is None:
            _request.set(request)
        elif _request not in its_own:  # since 3.14 `run` is called in a Context: an empty, a given or an inherited one
            with suppress(RuntimeError):  # given, and in use: the thread cannot run, as it will say itself
                its_own.run(_request.set, request)
        bootstrap(self)

    @transparent
    def inheriting_submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        interpreters = sys.modules.get("concurrent.futures.interpreter")
        if interpreters is not None and isinstance(self, interpreters.InterpreterPoolExecutor):
            return submit(self, fn, *args, **kwargs)  # other interpreters know no cells, and take no closures
        request = _request.get()

        @transparent
        def item() -> Any:
            # Set for the item alone: a pooled thread outlives the cell that happened to start it.
            with handling(request):
                return fn(*args, **kwargs)

        return submit(self, item)

    @transparent
    def inheriting_add_done_callback(self: "Future[Any]", fn: Callable[["Future[Any]"], object]) -> None:
        request = _request.get()

        @transparent
        def callback(future: "Future[Any]") -> object:
            with handling(request):  # it runs on the worker, right after an item of whatever cell
                return fn(future)

        add_done_callback(self, callback if request is not None else fn)

    threading.Thread.start = inheriting_start  # type: ignore[method-assign]
    threading.Thread._bootstrap_inner = inheriting_bootstrap  # type: ignore[attr-defined]
    ThreadPoolExecutor.submit = inheriting_submit  # type: ignore[method-assign,assignment]
    Future.add_done_callback = inheriting_add_done_callback  # type: ignore[method-assign]

    def undo() -> None:
        threading.Thread.start = start  # type: ignore[method-assign]
        threading.Thread._bootstrap_inner = bootstrap  # type: ignore[attr-defined]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]
        Future.add_done_callback = add_done_callback  # type: ignore[method-assign]

    return undo
