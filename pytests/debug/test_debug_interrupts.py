"""Interrupts at a breakpoint and at an exception, in the main shell and in subshells."""

import pytest
from debug_client import FUNCTION, LOOP, promptly


@pytest.mark.parametrize("how", ["signal", "message"])
def test_at_a_breakpoint_an_interrupt_ends_the_cell_and_nothing_else(client, how):  # I22, D5
    kernel = client.kernel
    client.break_at(LOOP, 3)
    for _ in range(3):
        cell = client.run(LOOP)
        client.stopped()
        with promptly(0.5):
            kernel.interrupt() if how == "signal" else kernel.ask_to_interrupt()
            assert client.outcome(cell) == "KeyboardInterrupt"
        client.event("continued")

    client.break_at(LOOP)
    client.works_still()


LISTS = "class Lists:\n    def __dir__(self):\n        return ['one_name']\nlists = Lists()"


@pytest.mark.parametrize("how", ["signal", "message"])
def test_an_interrupt_at_a_breakpoint_in_a_completion_ends_the_completion_and_nothing_else(client, how):
    kernel = client.kernel
    client.outcome(client.run(LISTS))
    client.break_at(LISTS, 3)
    asked = kernel.send("complete_request", code="lists.", cursor_pos=6)
    client.stopped()
    with promptly(0.5):
        kernel.interrupt() if how == "signal" else kernel.ask_to_interrupt()
        assert kernel.reply(asked)["matches"] == []

    client.break_at(LISTS)
    assert kernel.reply(kernel.send("complete_request", code="lists.", cursor_pos=6))["matches"] == ["one_name"]
    assert client.outcome(client.run("1/0")) == "ZeroDivisionError"
    client.works_still()


def test_the_traceback_of_an_interrupted_stop_shows_the_users_frames_only(client):
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION)
    client.stopped()
    client.kernel.interrupt()

    text = "\n".join(client.kernel.reply(cell)["traceback"])

    assert "KeyboardInterrupt" in text
    assert not [word for word in ("pydevd", "tracer.py") if word in text]
    client.break_at(FUNCTION)


def test_an_interrupt_ends_an_evaluation_at_a_breakpoint(client):
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()
    asked = client.send("evaluate", expression="__import__('time').sleep(30)", frameId=client.frames()[0]["id"])
    client.ask("debugInfo")

    with promptly(1.0):
        kernel.interrupt()
        assert client.outcome(cell) == "KeyboardInterrupt"

    kernel.reply(asked)
    client.break_at(LOOP)
    client.works_still()


def test_an_interrupt_at_an_exception_ends_the_cell(client):
    client.ask("setExceptionBreakpoints", filters=["raised"])
    cell = client.run("try:\n    1/0\nexcept ZeroDivisionError:\n    pass\nimport time\ntime.sleep(20)\n")
    client.stopped()

    client.kernel.interrupt()

    assert client.outcome(cell) == "KeyboardInterrupt"
    client.ask("setExceptionBreakpoints", filters=[])
    client.works_still()


@pytest.mark.parametrize("which", ["raised", "uncaught"])
def test_an_interrupt_at_an_exception_that_fails_the_cell_is_how_it_ends(client, which):  # I22
    client.ask("setExceptionBreakpoints", filters=[which])
    for code in ("1/0", "def f():\n    return 1/0\nf()\n", "import asyncio\nawait asyncio.sleep(0)\n1/0\n"):
        cell = client.run(code)
        client.stopped()

        client.kernel.interrupt()

        assert client.outcome(cell) == "KeyboardInterrupt"
    client.ask("setExceptionBreakpoints", filters=[])
    client.works_still()


def test_code_that_catches_the_interrupt_goes_on(client):
    code = "try:\n    total = 0\n    total += 1\nexcept KeyboardInterrupt:\n    total = 'caught'\ntotal\n"
    client.break_at(code, 3)
    cell = client.run(code)
    client.stopped()

    client.kernel.interrupt()

    assert client.outcome(cell) == "ok"
    assert "execute_result:'caught'" in client.kernel.outputs(cell)


def test_interrupts_while_traced_code_runs(client):
    """No stop: KeyboardInterrupt must come through pydevd's own code, and leave it whole."""
    client.break_at(LOOP, 3)  # so that there is something to trace
    for _ in range(5):
        cell = client.run("def f(n): return n\nwhile True: f(1)\n")
        client.kernel.wait_for("iopub", "execute_input", msg_id=cell)
        with promptly(2.0):
            client.kernel.interrupt()
            assert client.outcome(cell) == "KeyboardInterrupt"

    client.works_still()


def test_an_interrupt_ends_a_stop_in_a_subshell(client):
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    header = {"subshell_id": subshell}
    client.break_at(LOOP, 3)
    for _ in range(2):
        cell = client.run(LOOP, header=header)
        client.stopped()
        kernel.ask_to_interrupt()
        assert client.outcome(cell) == "KeyboardInterrupt"

    client.break_at(LOOP)
    assert client.outcome(client.run(LOOP, header=header)) == "ok"
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_a_subshell_that_is_deleted_while_stopped_is_gone(client):
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    client.break_at(LOOP, 3)
    cell = client.run(LOOP, header={"subshell_id": subshell})
    client.stopped()

    with promptly(1.0):
        kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))
        assert client.outcome(cell) == "KeyboardInterrupt"

    client.break_at(LOOP)
    client.works_still()
