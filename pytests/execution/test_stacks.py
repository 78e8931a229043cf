"""Whose code a stack is running, on stacks that are made for it: no kernel, no signals."""

import contextlib
import importlib
import logging
import os
import subprocess
import sys
import threading
import time
import weakref

import pytest

from ipymini.execution import stacks

STANDARD = os.path.join(os.path.dirname(os.__file__), "posixpath.py")
INSTALLED = os.path.join(os.path.dirname(os.__file__), "site-packages", "library", "core.py")
CELL, OURS = "/tmp/ipykernel_1/1.py", stacks.__file__
USER, LIBRARY, STDLIB = ("__main__", CELL), ("library.core", INSTALLED), ("posixpath", STANDARD)
DEBUGGER, KERNEL, SHELL = ("_pydevd_bundle.pydevd_frame", CELL), ("ipymini.kernel", OURS), ("IPython.core", INSTALLED)


@stacks.door
def below_a_door(function):
    return function()


def calling(module, path, function):
    """Return a function of this module and file that calls `function`."""
    names = {"__name__": module, "function": function}
    exec(compile("def call(): return function()", path, "exec"), names)
    return names["call"]


def test_who_takes_a_lock_for_its_caller_is_not_the_users():
    # given: the way of logging's handlers, which release in a `finally` what this function has acquired
    handler, seen = logging.Handler(), []

    class Lock:
        def acquire(self):
            seen.append(stacks.verdict(stacks.own_stack(sys._getframe(1))))

    handler.lock = Lock()

    # when
    below_a_door(handler.acquire)

    # then: the KeyboardInterrupt would be raised as it returns, and the lock stay taken
    assert seen == ["ours"]


def test_who_has_a_lock_of_the_import_system_is_not_the_users():
    # given: an import, and a look wherever an interrupt could strike in it: as functions begin, and as C code returns
    seen = set()

    def profile(frame, event, arg):
        name = frame.f_code.co_name
        if event == "c_return" and arg.__name__ in ("acquire_lock", "release_lock"):
            seen.add(("all", name, stacks.verdict(stacks.own_stack(frame))))
        lock = importlib._bootstrap._module_locks.get("this", lambda: None)()
        if lock is not None and lock.owner == threading.get_ident() and name in ("acquire", "release", "__exit__"):
            seen.add(("one", name, stacks.verdict(stacks.own_stack(frame))))

    def importing():
        sys.modules.pop("this", None)
        sys.setprofile(profile)
        try:
            with contextlib.redirect_stdout(None):
                import this  # noqa: F401
        finally:
            sys.setprofile(None)

    # when
    below_a_door(importing)

    # then
    assert {("all", "_get_module_lock", "ours"), ("one", "acquire", "ours"), ("one", "release", "ours")} <= seen
    assert {found for _, name, found in seen} == {"ours"}


def test_who_waits_for_an_import_of_another_thread_can_be_interrupted():
    lock, seen = importlib._bootstrap._ModuleLock("of another"), []

    class Wakeup:
        def acquire(self, blocking=True):  # what a waiting thread stands in
            seen.append(stacks.verdict(stacks.own_stack(sys._getframe(1))))
            lock.owner, lock.count = None, type(lock.count)()
            return False

        release = acquire

    lock.owner, lock.count, lock.wakeup = -1, lock.count + type(lock.count)([1] if lock.count == [] else 1), Wakeup()

    below_a_door(calling(*USER, lock.acquire))

    assert set(seen) == {"user"}


@pytest.mark.parametrize("kind", [weakref.WeakSet, weakref.WeakKeyDictionary, weakref.WeakValueDictionary])
def test_a_callback_that_cannot_raise_is_not_the_users(kind):
    # given: a collection that forgets an object; what an exception is raised into there, Python ignores
    class Thing:
        pass

    seen = []
    thing, kept = Thing(), Thing()
    collection = (
        kind([thing]) if kind is weakref.WeakSet else kind({kept: thing} if "Value" in kind.__name__ else {thing: 1})
    )

    def profile(frame, event, arg):
        if event == "call" and frame.f_globals.get("__name__") in ("weakref", "_weakrefset"):
            seen.append(stacks.verdict(stacks.own_stack(frame)))

    def forget():
        nonlocal thing
        sys.setprofile(profile)
        try:
            thing = None
        finally:
            sys.setprofile(None)

    # when
    below_a_door(forget)

    # then
    assert len(collection) == 0 and seen == ["ours"]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ([USER], "user"),
        ([USER, STDLIB], "user"),
        ([SHELL, USER, LIBRARY, STDLIB], "user"),
        ([SHELL], "neutral"),
        ([USER, KERNEL], "ours"),
        ([USER, DEBUGGER], "ours"),
        ([USER, DEBUGGER, STDLIB], "ours"),  # the debugger looks for the file of a new frame
        ([USER, DEBUGGER, STDLIB, STDLIB], "ours"),
        ([USER, DEBUGGER, USER], "user"),  # it evaluates an expression
        ([USER, DEBUGGER, LIBRARY], "user"),  # a repr
        ([USER, DEBUGGER, STDLIB, USER, STDLIB], "user"),
        ([USER, DEBUGGER, USER, KERNEL], "ours"),
    ],
    ids=lambda value: value if isinstance(value, str) else ">".join(module for module, _ in value),
)
def test_the_frame_decides_whose_code_runs(stack, expected):
    def look():
        return stacks.verdict(stacks.own_stack(sys._getframe(1)))

    for module, path in reversed(stack):
        look = calling(module, path, look)

    assert below_a_door(look) == expected


def test_another_threads_stack_is_seen_from_the_top_and_whole():
    there, go_on = threading.Event(), threading.Event()

    def inner():
        there.set()
        go_on.wait(20)

    def outer():
        inner()

    thread = threading.Thread(target=outer)
    thread.start()
    assert there.wait(20)
    try:
        names = [code.co_name for code, _ in stacks.stack_of(thread.ident)]
    finally:
        go_on.set()
        thread.join(20)

    assert names.index("inner") + 1 == names.index("outer") and names[-1] == "_bootstrap"
    assert stacks.stack_of(thread.ident) == []


STORM = """
import gc, itertools, sys, threading
from ipymini.execution import stacks as frames

class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        climb(3)  # long enough that the interpreter lets the other thread run

def climb(height):
    return [climb(height - 1) for _ in range(2)] if height else 0

def wide(height, a=0, b=0, c=0):  # its frames have another size
    return wide(height - 1) if height else climb(3)

def run():
    for height in itertools.cycle(range(5)):
        wide(height)

gc.set_threshold(20)  # so that it is collected now here, now there
sys.setswitchinterval(1e-6)
thread = threading.Thread(target=run, daemon=True)
thread.start()
for _ in range(20_000):
    garbage = [Garbage() for _ in range(3)]
    assert frames.stack_of(thread.ident)[-1][0].co_name == "_bootstrap"
assert gc.isenabled()
gc.disable()
frames.stack_of(thread.ident)
assert not gc.isenabled()
"""


def test_a_function_is_called_while_another_thread_is_still_at_its_place():
    first, second, called = threading.Event(), threading.Event(), []

    def run():
        first.wait()
        time.sleep(0)
        second.wait()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        before = stacks.place_of(thread.ident)

        assert stacks.at_place(thread.ident, before, called.append, 1) is True
        first.set()
        while stacks.place_of(thread.ident) == before:
            pass
        assert stacks.at_place(thread.ident, before, called.append, 2) is False
    finally:
        first.set()
        second.set()
        thread.join()
    assert called == [1]
    assert stacks.at_place(-1, before, called.append, 3) is False


def test_another_threads_stack_can_be_looked_at_while_garbage_is_collected():
    # given: up to Python 3.11, the process crashes if a collection lets that thread run between two of its frames
    ended = subprocess.run([sys.executable, "-X", "faulthandler", "-c", STORM], timeout=60, capture_output=True)

    assert (ended.returncode, ended.stderr) == (0, b"")
