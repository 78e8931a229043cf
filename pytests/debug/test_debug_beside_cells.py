"""Requests while cells run or are stopped, in the main shell and in subshells: who waits for whom."""

import pytest
from debug_client import FUNCTION, LOOP, Client, promptly
from harness import brief


def test_attach_pause_and_breakpoints_reach_a_cell_that_runs(own_kernel):
    # given: a cell that runs, and nobody debugging
    client = Client(own_kernel)
    code = "import time\nstart = time.time()\nn = 0\nwhile time.time() - start < 30:\n    n += 1\n"
    cell = client.run(code)
    own_kernel.wait_for("iopub", "execute_input", msg_id=cell)
    # when
    client.start()
    client.ask("pause", threadId=1)
    # then
    assert client.stopped()["reason"] == "pause"
    client.go_on()
    client.break_at(code, 5)
    assert client.stopped()["reason"] == "breakpoint"
    assert client.lines() == [("<module>", 5)]
    own_kernel.interrupt()
    assert client.outcome(cell) == "KeyboardInterrupt"


@pytest.mark.parametrize("just_my_code", [True, False])
def test_a_pause_while_nothing_runs_stops_the_next_cell_and_not_the_kernel(own_kernel, just_my_code):
    client = Client(own_kernel)
    client.start(justMyCode=just_my_code)
    own_kernel.execute("1")

    client.ask("pause", threadId=1)

    own_kernel.reply(own_kernel.send("is_complete_request", code="1"))
    cell = client.run("paused = 1\npaused = 2\n")
    assert client.stopped()["reason"] == "pause"
    assert client.lines()[0] == ("<module>", 1)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_control_answers_at_any_moment_of_an_exchange(own_kernel):
    client = Client(own_kernel)
    cell = client.run("import time\nfor i in range(3000): time.sleep(0.01)\n")
    own_kernel.wait_for("iopub", "execute_input", msg_id=cell)

    asked = client.send("initialize")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
    assert own_kernel.reply(asked)["success"]
    asked = client.send("attach")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
    assert own_kernel.reply(asked)["success"]
    asked = client.send("evaluate", expression="__import__('time').sleep(5)")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
        client.ask("threads")
        own_kernel.ask_to_interrupt()
    assert client.outcome(cell) == "KeyboardInterrupt"


def test_requests_that_cross_the_stop_and_the_start_are_all_answered(own_kernel):
    client = Client(own_kernel)

    sent = [
        client.send(command)
        for command in "initialize attach threads debugInfo disconnect threads initialize attach".split()
    ]

    successes = [own_kernel.replies(*sent)[one]["success"] for one in sent]
    assert successes == [True, True, True, True, True, False, True, True]
    assert own_kernel.reply(sent[3])["body"]["isStarted"] is True
    client.works_still()


def test_requests_sent_together_are_served_one_after_another(client):
    kernel = client.kernel
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]

    sent = [client.send(command, frameId=frame, threadId=1) for command in ["scopes", "stackTrace", "debugInfo"] * 3]

    kernel.replies(*sent)
    said = [message for one in sent for message in [*kernel.iopub(one), *kernel.reply_messages(one)]]
    said.sort(key=lambda message: message["header"]["date"])
    order = [(message["parent_header"]["msg_id"], brief(message)) for message in said]
    assert order == [(one, line) for one in sent for line in ("status:busy", "debug_reply", "status:idle")]
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_pause_does_not_wait_for_an_evaluation_that_hangs(own_client):
    kernel = own_client.kernel
    cell = own_client.run("import time\nfor i in range(3000): time.sleep(0.01)\n")
    kernel.wait_for("iopub", "execute_input", msg_id=cell)
    hung = own_client.send("evaluate", expression="__import__('time').sleep(20)")

    with promptly():
        own_client.ask("pause", threadId=1)
        assert own_client.stopped()["reason"] == "pause"
        own_client.ask("stackTrace", threadId=1)
    assert not kernel.reply_messages(hung)
    own_client.ask("disconnect")
    with promptly():
        kernel.ask_to_interrupt()
        assert own_client.outcome(cell) == "KeyboardInterrupt"


def test_the_kernel_goes_on_while_a_cell_is_stopped(client):
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()

    with promptly(1.0):
        completed = kernel.reply(kernel.send("complete_request", code="prin", cursor_pos=4))
        inspected = kernel.reply(kernel.send("inspect_request", code="print", cursor_pos=5))
        kernel.reply(kernel.send("comm_info_request"))

    assert "print" in completed["matches"]
    assert inspected["found"]
    client.break_at(LOOP)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_the_status_of_a_cell_is_not_disturbed(client):  # users-pain 17
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()
    client.lines()
    client.break_at(LOOP)
    client.go_on()

    said = [line for line in kernel.outputs(cell) if not line.startswith("debug_event:")]

    assert said == ["status:busy", f"execute_input:{LOOP}", "status:idle"]


def test_a_stop_in_a_subshell_stops_nobody_else(client):  # D8
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION, header={"subshell_id": subshell})
    stopped = client.event("stopped")

    thread = stopped["content"]["body"]["threadId"]
    main = kernel.execute("'main goes on'")[1]

    assert stopped["parent_header"]["msg_id"] == cell
    assert thread != 1
    assert main == ["execute_result:'main goes on'"]
    assert client.lines(thread) == [("add", 2), ("<module>", 5)]
    assert client.value("a + b", thread) == "3"
    client.break_at(FUNCTION)
    client.go_on(thread)
    assert client.outcome(cell) == "ok"
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_a_cell_stopped_in_the_lock_of_all_threads_holds_up_neither_control_nor_the_interrupt(own_client):
    kernel = own_client.kernel
    code = "import threading\nwith threading._active_limbo_lock:\n    held = 1\n    held = 2\n"
    own_client.break_at(code, 4)
    cell = own_client.run(code)
    own_client.stopped()

    assert own_client.ask("inspectVariables")["variables"]  # on a thread of its own
    with promptly():
        kernel.reply(kernel.send("kernel_info_request", channel="control"))
        kernel.ask_to_interrupt()
        assert own_client.outcome(cell) == "KeyboardInterrupt"
