"""stacks: whose code a stack is running: the kernel's, which no interrupt may strike, or the user's.

Theory. Looked at from the top: a frame of ours first means that the kernel is at work, and half of what it does must
not be lost. User code runs above a *door*: a function marked with `@door`; whatever lies between the two (IPython,
asyncio) says nothing. Four marks make exceptions: `safe_point`, `transparent`, `shielded` and `serving`. They are read
by any thread and in signal handlers.
"""

import functools
import gc
import importlib
import os
import sys
from _thread import get_ident
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, islice, repeat, starmap
from operator import attrgetter, call, itemgetter
from types import CodeType, FrameType
from typing import Any, TypeVar

from ipymini.protocol.originals import __builtins__  # noqa: F401

# By path: whatever has a part in carrying a message from a cell to a socket and back. No interrupt breaks that in half.
_OURS = (
    *("ipymini.protocol.", "ipymini.execution.", "ipymini.frontend.", "ipymini.serving."),
    *("ipymini.kernel", "ipymini.handlers"),
)
_NEUTRAL = (
    "ipymini",
    "IPython",
    "traitlets",
    "asyncio",
    "contextlib",
    "selectors",
    "nest_asyncio",
)  # says nothing about whose code runs
_TRACING = ("pydevd", "_pydev")  # in the user's thread, but raise there and the thread is traced no more
_NOT_HERE = frozenset(
    {
        # Called when an object goes, at any moment (asyncio has many): what is raised there, Python prints and forgets.
        ("_weakrefset", "_remove"),
        ("weakref", "remove"),
        # Struck as they return, they have taken a lock that their caller does not give back.
        ("logging", "acquire"),
        ("logging", "_acquireLock"),
    }
)
_STANDARD = (os.path.dirname(os.__file__) + os.sep, "<frozen ")  # where the standard library comes from
_doors: set[CodeType] = set()
_safe: set[CodeType] = set()
_transparent: set[CodeType] = set()
_shielded: set[CodeType] = set()
_serving: set[CodeType] = set()

# Python's import system. Its functions take locks of modules, and that of all imports, and give them back in another
# function: struck in between, other threads could not import any more.
_importing: Any = importlib._bootstrap

Called = tuple[CodeType, dict[str, Any]]  # one frame of a stack: its code and its globals
_called = attrgetter("f_code", "f_globals")
_place = attrgetter("f_code", "f_lasti")

Function = TypeVar("Function", bound=Callable[..., Any])


def door(function: Function) -> Function:
    """Mark the function above whose frame user code runs, for the frame rule."""
    _doors.add(function.__code__)
    return function


def safe_point(function: Function) -> Function:
    """Mark a function of ours that waits and holds nothing: it may be interrupted although it is ours."""
    _safe.add(function.__code__)
    return function


def transparent(function: Function) -> Function:
    """Mark a function of ours that stands between user code and user code, or between it and a library's: a wrapper."""
    _transparent.add(function.__code__)
    return function


def shielded(function: Function) -> Function:
    """Mark a function that must run to its end although it is not in those folders: tracebacks being made."""
    _shielded.add(function.__code__)
    return function


def serving(function: Function) -> Function:
    """Mark a lane's loop: below it there is nobody's code."""
    _serving.add(function.__code__)
    return function


def own_stack(frame: FrameType | None) -> Iterator[Called]:
    """Yield the stack below a frame of the calling thread, innermost first; without a wait for another's import."""
    if frame is not None and frame.f_code is _importing._ModuleLock.acquire.__code__:
        waits = frame.f_locals["self"].owner != get_ident()
        while waits and frame is not None and frame.f_globals is vars(_importing):
            frame = frame.f_back
    while frame is not None:
        yield _called(frame)
        frame = frame.f_back


def stack_of(ident: int) -> list[Called]:
    """Return another thread's stack as it is at one moment, innermost first; empty if that thread runs no Python."""
    frames: Iterator[Any] = accumulate(chain(_top_of(ident), repeat("f_back")), getattr)
    return _at_once(map(_called, frames))


def place_of(ident: int) -> list[tuple[CodeType, int]]:
    """Return the instruction at which another thread is, for `at_place`; empty if that thread runs no Python."""
    return _at_once(map(_place, _top_of(ident)))


def at_place(ident: int, place: list[tuple[CodeType, int]], function: Callable[..., Any], *arguments: Any) -> bool:
    """Call a function written in C if a thread is still at that place; return whether it was.

    It cannot move on between the two. Of one that has moved on nothing is known: it may just have taken a lock.
    """
    chosen = map({True: (function, *arguments)}.get, map(place.__contains__, map(_place, _top_of(ident))))
    return bool(_at_once(starmap(call, filter(None, chosen))))


def _top_of(ident: int) -> Iterator[Any]:
    return islice(map(itemgetter(ident), iter(sys._current_frames, None)), 1)


def _at_once(steps: Iterator[Any]) -> list[Any]:
    """Return what an iterator written in C yields, in one moment for all other threads.

    Up to Python 3.11 to ask for a frame may collect garbage, and a finalizer may let the other thread run: that leaves
    the frame which was about to be returned, and the process crashes. So the whole loop is in C, where the interpreter
    changes threads nowhere, and it switches the collector off itself.
    """
    found: list[Any] = []
    try:
        found.extend(chain(map(call, (gc.isenabled, gc.disable)), steps))
    except (KeyError, AttributeError):
        pass  # no such thread; or, as always, the end: None has no f_back
    finally:
        if found[0]:
            gc.enable()
    return found[2:]


def is_standard(path: str) -> bool:
    """Return whether a file is of the standard library."""
    return path.startswith(_STANDARD) and "-packages" + os.sep not in path


def verdict(stack: Iterable[Called]) -> str:
    """Say what a stack is doing: "ours", "user" (a door below, user code above), "neutral", or "outside".

    "outside-user" is code of a task that blocks the lane's loop, "elsewhere" code that no lane stands below: a
    greenlet of a cell's, or the loop of gevent's that runs them, has a stack of its own.
    """
    foreign = strange = False  # strange: and not of the standard library, which the debugger's own code uses, too
    for depth, (code, names) in enumerate(stack):
        if depth == 0 and names is vars(_importing):
            return "ours"
        if code in _safe:
            return "user"
        if code in _transparent:
            continue
        module = names.get("__name__") or ""
        if code in _doors:
            return "user" if foreign else "neutral"
        if code in _serving:
            return "outside-user" if foreign else "outside"  # no door: the loop waits, or a task that a cell started
        if module.startswith(_OURS) or code in _shielded or (module, code.co_name) in _NOT_HERE:
            return "ours"
        if module.startswith(_TRACING):
            return "user" if strange else "ours"  # strange: an expression that the debugger evaluates, or a repr
        if not module.startswith(_NEUTRAL):
            foreign = True
            strange = strange or not is_standard(code.co_filename)
    return "elsewhere" if foreign else "outside"


def raise_at(ident: int, place: list[Any], kind: type[BaseException]) -> bool:
    """Raise an exception in another thread, if it is still at a place (`place_of`); return whether it was.

    It is raised there, or some bytecodes later; in a thread that waits in C, when that has ended.
    """
    function, integer, reference = _set_async_exc()
    return at_place(ident, place, function, integer(ident), reference(kind))


@functools.cache
def _set_async_exc() -> tuple[Any, Any, Any]:
    # Not with `ctypes`: it imports what a cell may have replaced. And only child lanes need it: 0.3 ms.
    import _ctypes

    integer = type("c_ulong", (_ctypes._SimpleCData,), {"_type_": "L"})
    reference = type("py_object", (_ctypes._SimpleCData,), {"_type_": "O"})
    flags = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    kind: Any = type("Function", (_ctypes.CFuncPtr,), {"_flags_": flags})
    return kind(_ctypes.dlsym(_ctypes.dlopen(None, 0), "PyThreadState_SetAsyncExc")), integer, reference  # type: ignore[arg-type]


def let_it_strike() -> None:
    """Run the bytecode at which an exception that is set for this thread, and has not struck yet, strikes.

    To withdraw it, with NULL, has a price up to Python 3.12: the interpreter goes on looking for it, in every thread,
    at every call and loop; and a thread that is being debugged on 3.11 never gets beyond its next call.
    """
    for _ in range(10):
        pass
