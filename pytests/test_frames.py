"""Whose code a stack is running, on stacks that are made for it: no kernel, no signals."""

import os
import sys
import weakref

import pytest

from ipymini import frames

STANDARD = os.path.join(os.path.dirname(os.__file__), "posixpath.py")
INSTALLED = os.path.join(os.path.dirname(os.__file__), "site-packages", "library", "core.py")
CELL, OURS = "/tmp/ipykernel_1/1.py", frames.__file__
USER, LIBRARY, STDLIB = ("__main__", CELL), ("library.core", INSTALLED), ("posixpath", STANDARD)
DEBUGGER, KERNEL, SHELL = ("_pydevd_bundle.pydevd_frame", CELL), ("ipymini.kernel", OURS), ("IPython.core", INSTALLED)


@frames.door
def below_a_door(function):
    return function()


def calling(module, path, function):
    """Return a function of this module and file that calls `function`."""
    names = {"__name__": module, "function": function}
    exec(compile("def call(): return function()", path, "exec"), names)
    return names["call"]


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
            seen.append(frames.verdict(frame))

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
        return frames.verdict(sys._getframe(1))

    for module, path in reversed(stack):
        look = calling(module, path, look)

    assert below_a_door(look) == expected
