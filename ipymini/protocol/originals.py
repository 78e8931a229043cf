"""originals: what the kernel's own threads call, in copies that no cell can replace. Replaces nothing itself.

A cell may put None in the place of `builtins.len` or `time.monotonic`, delete them, or have gevent replace half of the
standard library. That is for the code of cells. The kernel's threads go on: nobody else could tell of the error, or
interrupt the cell. They use

- `__builtins__`, a copy of builtins. Python gives a function the builtins that its module has as it is made; so the
  functions of a module that imports this name look for `len` here.
- `os`, `signal`, `threading`, `time` and others: copies of modules. They are in no `sys.modules`: who looks through all
  modules for the functions that he replaces (freezegun) does not find them.
- `private` classes: subclasses of the standard library's whose methods look up their names in copies, too.

Writing to these copies tells nobody: `os.system = ...` is for the real module. And the copies know what was there when
this module was imported: what the kernel itself replaces later (`waits`, `context`) is for cells.
"""

import asyncio
import builtins
import contextlib
import heapq
import json
import logging
import math
import os
import select
import selectors
import signal
import threading
import time
from _socket import socketpair  # without `socket.socket` around it, which may be gevent's
from asyncio import base_events, events, tasks
from concurrent.futures import _base as futures
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = [
    "EventLoop",
    "Future",
    "JSONEncoder",
    "Log",
    "asyncio",
    "contextmanager",
    "logger",
    "logging",
    "os",
    "private",
]
__all__ += ["select", "signal", "suppress", "threading", "time"]

Kind = TypeVar("Kind", bound=type)

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import contextmanager, suppress
else:
    __builtins__ = dict(vars(builtins))

_globals: dict[int, dict[str, Any]] = {}  # our copies of the globals of modules, by the identity of these


def _copied(names: dict[str, Any]) -> dict[str, Any]:
    if id(names) not in _globals:
        _globals[id(names)] = {**names, "__builtins__": __builtins__}
    return _globals[id(names)]


def _anew(function: Any) -> Any:
    """Return a function whose names are looked up in the copy of its module's; what is none, as it is."""
    if type(function) is not FunctionType:
        return function
    names, name = _copied(function.__globals__), function.__name__
    copy = FunctionType(function.__code__, names, name, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def private(kind: Kind) -> Kind:
    """Return a subclass that does the same with names which nobody else can replace."""
    members: dict[str, Any] = {}
    for one in reversed(kind.__mro__[:-1]):
        for name, value in vars(one).items():
            members.pop(name, None)
            if type(value) is FunctionType:
                members[name] = _anew(value)
            elif type(value) is property:
                members[name] = property(_anew(value.fget), _anew(value.fset), _anew(value.fdel), value.__doc__)
    members.update(__slots__=(), __module__=kind.__module__, __doc__=kind.__doc__)
    return type(kind)(kind.__name__, (kind,), members)


def _copy(module: ModuleType, *kinds: type, functions: bool = False, **names: Any) -> Any:
    """Return a copy of a module: with `private` classes in the place of `kinds`, its `functions` made anew, `names`."""
    copied = _copied(vars(module))
    copied.update(names)
    for kind in kinds:
        copied[kind.__name__] = private(kind)
    if functions:
        copied.update({name: _anew(value) for name, value in vars(module).items() if type(value) is FunctionType})
    copy = ModuleType(module.__name__, module.__doc__)
    copy.__dict__.update(copied)
    return copy


if not TYPE_CHECKING:
    os, signal, time = _copy(os), _copy(signal), _copy(time)
    # With a lock of our own for the table of threads (its steps are atomic): a cell may stop while it has the real one.
    threading = _copy(
        threading,
        *(threading.Condition, threading.Event, threading.Thread),
        functions=True,
        _active_limbo_lock=threading.Lock(),
    )
    contextlib = _copy(contextlib, contextlib._GeneratorContextManager, contextlib.suppress, functions=True)
    contextmanager, suppress = contextlib.contextmanager, contextlib.suppress
    Future = _copy(futures, futures.Future, threading=threading, time=time).Future
    select = _copy(select)
    _copy(selectors, select=select, math=_copy(math))
    tasks = _copy(tasks, functions=True)
    asyncio = _copy(asyncio, wait=tasks.wait, all_tasks=tasks.all_tasks)
    handles = [getattr(events, name, None) for name in ("Handle", "_ThreadSafeHandle", "TimerHandle")]
    events = _copy(events, *filter(None, handles), threading=threading)  # the second from 3.14 on
    _copy(base_events, events=events, heapq=_copy(heapq), threading=threading, time=time)

JSONEncoder = private(json.JSONEncoder)
_Selector = private(selectors.DefaultSelector)

if TYPE_CHECKING:
    _Loop = asyncio.SelectorEventLoop
else:
    _Loop = private(asyncio.SelectorEventLoop)


class EventLoop(_Loop):
    """asyncio's own event loop, for a lane."""

    def __init__(self) -> None:
        super().__init__(_Selector())

    def _make_self_pipe(self: Any) -> None:
        self._ssock, self._csock = socketpair()
        for end in (self._ssock, self._csock):
            end.setblocking(False)
        self._internal_fds += 1
        self._add_reader(self._ssock.fileno(), self._read_from_self)


# ---- the kernel's log --------------------------------------------------------------------

if not TYPE_CHECKING:
    # Handlers of ours are in no list of all handlers: gevent would give them a lock of its own.
    logging = _copy(
        logging,
        *(logging.Formatter, logging.LogRecord, logging.Logger, logging.StreamHandler),
        functions=True,
        os=os,
        threading=threading,
        time=time,
        _addHandlerRef=lambda handler: None,
    )
    logging.Logger.makeRecord.__globals__["_logRecordFactory"] = logging.LogRecord


class Log(logging.Logger):
    """A logger whose methods never raise, on whichever thread."""

    def _log(self, level: int, msg: object, args: Any, *more: Any, **options: Any) -> None:
        try:
            super()._log(level, msg, args, *more, **options)
        except Exception:
            pass


def logger(name: str) -> Log:
    """Return one of our loggers. `logging.getLogger` returns the same object."""
    found = logging.getLogger(name)
    found.__class__ = Log
    return found  # type: ignore[return-value]
