"""errors: what a traceback shows of an exception, and what it leaves out."""

import pytest

from ipymini.ipython import tracebacks


def call(*modules):
    """Return the exception of a chain of calls through functions of these modules; the innermost one raises it."""
    code = "raise KeyboardInterrupt"
    namespace = {}
    for module in reversed(modules):
        namespace = {"__name__": module, "inner": namespace.get("function")}
        exec(f"def function():\n    {code}", namespace)
        code = "inner()"
    with pytest.raises(KeyboardInterrupt) as caught:
        namespace["function"]()
    return caught.value


def modules_of(trace):
    found = []
    while trace is not None:
        found.append(trace.tb_frame.f_globals["__name__"])
        trace = trace.tb_next
    return found


@pytest.mark.parametrize(
    "raised_through, shown",
    [
        (["__main__", "ipymini.kernel", "ipymini.execution.lane"], ["__main__"]),
        (["__main__", "asyncio.tasks", "ipymini.execution.context"], ["__main__", "asyncio.tasks"]),
        (
            ["__main__", "ipymini.execution.waits", "their_library", "ipymini.execution.lane"],
            ["__main__", "ipymini.execution.waits", "their_library"],
        ),
        (["__main__", "_pydevd_bundle.pydevd_frame", "pydevd", "ipymini.debug.tracer"], ["__main__"]),
        (["__main__", "their_library"], ["__main__", "their_library"]),
    ],
)
def test_the_traceback_of_an_interrupt_ends_with_the_users_last_frame(raised_through, shown):
    error = call(*raised_through)
    trace = error.__traceback__.tb_next  # past this file's own frame

    tracebacks.cut_ours(trace)

    assert modules_of(trace) == shown


def test_a_traceback_that_is_all_ours_has_no_frame_of_the_users():
    trace = call("ipymini.kernel", "ipymini.execution.lane").__traceback__.tb_next

    assert not tracebacks.cut_ours(trace)


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "import asyncio; await asyncio.sleep(60)",
        "import threading; threading.Event().wait()",
        "while True: pass",
    ],
)
def test_an_interrupted_cell_shows_no_frame_of_the_kernel(kernel, code):
    # given
    request = kernel.send("execute_request", code=code)
    kernel.wait_for("iopub", "execute_input", msg_id=request)

    # when
    kernel.interrupt()

    # then
    reply = kernel.reply(request)
    assert reply["ename"] == "KeyboardInterrupt"
    assert [line for line in reply["traceback"] if "ipymini" in line] == []
