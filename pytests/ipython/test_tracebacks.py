"""Which frames a traceback shows, in memory."""

import os
import re
import sys
from types import FrameType, TracebackType

import pytest
from IPython.core.ultratb import AutoFormattedTB

from ipymini.ipython import tracebacks


def frame_of(module: str) -> FrameType:
    """Return a frame of a module of that name, which has ended."""
    names = {"__name__": module, "sys": sys}
    folder = os.path.dirname(os.__file__) if module in sys.stdlib_module_names else ""
    exec(compile("def work():\n    return sys._getframe()\nframe = work()", f"{folder}/{module}.py", "exec"), names)
    return names["frame"]  # type: ignore[return-value]


def trace_of(*modules: str, has_line: bool = True) -> TracebackType:
    """Return a traceback through frames of these modules; the last may have been struck before it had a line."""
    trace = None
    for module in reversed(modules):
        frame = frame_of(module)
        is_cut = trace is None and not has_line
        trace = TracebackType(trace, frame, len(frame.f_code.co_code) + 100 if is_cut else 0, -1 if is_cut else 2)
        assert (trace.tb_lineno is None) is is_cut
    assert trace is not None
    return trace


def shown(error: type[BaseException], trace: TracebackType) -> list[str]:
    """Return the modules whose frames are shown."""
    formatter = AutoFormattedTB(mode="Context", theme_name="nocolor")  # type: ignore[no-untyped-call]
    lines = tracebacks.render(formatter, error, error(), trace, None, False)
    assert error.__name__ in lines[-1]
    return re.findall(r"/(\w+)\.py:", "\n".join(lines))


@pytest.mark.parametrize(
    ("modules", "users"),
    [
        (("IPython", "__main__"), ["__main__"]),
        (("IPython", "__main__", "library"), ["__main__", "library"]),
        (("IPython", "__main__", "ipymini.frontend.streams"), ["__main__"]),
        (("IPython", "__main__", "codeop"), ["__main__", "codeop"]),
        (("IPython", "ipymini.ipython.compiler", "codeop"), []),
        (("IPython", "ast"), []),
        (("IPython", "ast", "transformer"), ["transformer"]),
        (("ipymini.ipython.history", "threading", "threading"), []),
        (("IPython", "ipymini.bridge"), []),
    ],
)
def test_an_interrupts_traceback_shows_the_users_frames(modules: tuple[str, ...], users: list[str]) -> None:
    assert shown(KeyboardInterrupt, trace_of(*modules)) == users


def test_a_function_that_was_interrupted_before_it_had_a_line_is_left_out() -> None:
    assert shown(KeyboardInterrupt, trace_of("IPython", "__main__", "library", has_line=False)) == ["__main__"]
    assert shown(KeyboardInterrupt, trace_of("IPython", "__main__", has_line=False)) == []
