"""Ends at a breakpoint: of the session, of the kernel, of debugpy, which may also hang."""

import subprocess
import time

import pytest
from debug_client import LOOP, promptly


@pytest.mark.parametrize("restart", [False, True])
def test_shutdown_at_a_breakpoint(own_client, restart):
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    own_client.run(LOOP)
    own_client.stopped()

    with promptly():
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=restart))

    end = time.monotonic() + 2
    while kernel.manager.is_alive() and time.monotonic() < end:
        kernel.drain()
    assert not kernel.manager.is_alive()


def test_a_restarted_kernel_takes_the_breakpoints_again(own_client):
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    own_client.works_still()

    kernel.manager.restart_kernel(now=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kernel.reply(kernel.send("kernel_info_request"), timeout=30)

    assert own_client.ask("debugInfo")["isStarted"] is False
    own_client.start()
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()
    own_client.break_at(LOOP)
    own_client.go_on()
    assert own_client.outcome(cell) == "ok"


def test_disconnect_at_a_breakpoint_lets_the_cell_run(own_client):
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()

    own_client.ask("disconnect")

    assert own_client.outcome(cell) == "ok"


def test_a_dead_debugpy_fails_who_waits_and_can_be_started_again(own_client):  # D2
    # given: a request that debugpy has begun to answer
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()
    asked = own_client.send("evaluate", expression="__import__('time').sleep(2)", frameId=own_client.frames()[0]["id"])
    # when
    cut = "__import__('pydevd').get_global_debugger().writer.sock.shutdown(2)"
    own_client.answer("evaluate", expression=cut)
    # then
    assert "gone" in kernel.reply(asked)["message"]
    own_client.event("terminated")
    assert own_client.outcome(cell) == "ok"
    assert own_client.ask("debugInfo")["isStarted"] is False
    own_client.start()
    own_client.works_still()


@pytest.mark.slow
def test_a_debugpy_that_hangs_holds_up_nobody(own_client):
    # given: its main lock is held, so that it answers nothing
    kernel = own_client.kernel
    own_client.ask(
        "evaluate", expression="hung = __import__('pydevd').get_global_debugger()._main_lock", context="repl"
    )
    own_client.ask("evaluate", expression="hung.acquire()")
    # when
    asked = own_client.send("threads")
    # then
    with promptly():
        kernel.reply(kernel.send("kernel_info_request", channel="control"))
        kernel.ask_to_interrupt()
        own_client.ask("debugInfo")
        own_client.ask("inspectVariables")
    assert "not answered" in kernel.reply(asked, timeout=30)["message"]
    own_client.ask("disconnect")
    own_client.start()
    own_client.works_still()


def test_a_request_that_waits_is_answered_when_the_kernel_ends(own_client):
    kernel = own_client.kernel
    asked = own_client.send("evaluate", expression="print('asleep'); __import__('time').sleep(30)")
    kernel.wait_for("iopub", "stream", text="asleep")

    ended = kernel.send("shutdown_request", channel="control", restart=False)

    assert kernel.reply(ended)["status"] == "ok"
    answer = kernel.reply(asked)
    assert (answer["status"], answer["ename"]) == ("error", "KernelStopping")
