"""Subshells over the wire (JEP 91): made, listed and deleted, also busy ones."""

import itertools

import pytest
from busy import BUSY, SLEEP
from harness import KernelUnderTest
from subshells import create, delete, descriptors, gone, listed, outputs, run, running, send, settled

# ---- create, list, delete ------------------------------------------------------------------


def test_a_subshell_is_listed_when_the_reply_comes_and_gone_after_delete(kernel: KernelUnderTest) -> None:  # B1
    first, second = create(kernel), create(kernel)
    assert listed(kernel) == [first, second]
    assert delete(kernel, first) == {"status": "ok"}
    assert listed(kernel) == [second]
    delete(kernel, second)
    assert listed(kernel) == []


def test_the_kernel_says_that_it_has_subshells(kernel: KernelUnderTest) -> None:
    assert "kernel subshells" in kernel.reply(kernel.send("kernel_info_request"))["supported_features"]


def test_the_id_of_no_subshell_cannot_be_deleted(kernel: KernelUnderTest) -> None:
    reply = delete(kernel, "no-such")
    assert (reply["status"], reply["ename"]) == ("error", "UnknownSubshellError")
    reply = kernel.reply(kernel.send("delete_subshell_request", channel="control"))
    assert (reply["status"], reply["ename"]) == ("error", "BadContent")


@pytest.mark.parametrize(
    "msg_type", ["execute_request", "complete_request", "kernel_info_request", "comm_info_request"]
)
def test_an_unknown_subshell_is_an_error_and_never_runs_on_the_main_shell(
    kernel: KernelUnderTest, msg_type: str
) -> None:
    # Q1, Q8
    gone_id = create(kernel)
    delete(kernel, gone_id)
    for subshell_id in ("no-such", gone_id):
        msg_id = kernel.send(msg_type, header={"subshell_id": subshell_id}, code="ran_on_the_parent = 1", cursor_pos=0)
        reply = kernel.reply(msg_id)
        assert (reply["status"], reply["ename"]) == ("error", "UnknownSubshellError")
        assert kernel.outputs(msg_id) == ["status:busy", "status:idle"]
    assert kernel.execute("'ran_on_the_parent' in globals()")[1] == ["execute_result:False"]


def test_none_and_the_empty_string_are_the_parent(kernel: KernelUnderTest) -> None:  # Q8
    code = "import threading; threading.current_thread() is threading.main_thread()"
    assert [run(kernel, one, code)[1] for one in (None, "")] == [["execute_result:True"]] * 2


def test_a_subshell_has_a_thread_and_a_loop_of_its_own(kernel: KernelUnderTest, subshells: list[str]) -> None:
    code = "import asyncio, threading; await asyncio.sleep(0)\nthreading.get_ident(), id(asyncio.get_running_loop())"
    facts = {run(kernel, one, code)[1][0] for one in (None, *subshells)}
    assert len(facts) == 4


def test_what_answers_a_subshell_repeats_its_header(kernel: KernelUnderTest, subshells: list[str]) -> None:
    cell = send(kernel, subshells[0], "1")
    kernel.reply(cell)
    assert kernel.reply_messages(cell)[0]["parent_header"]["subshell_id"] == subshells[0]
    assert {one["parent_header"]["subshell_id"] for one in kernel.iopub(cell)} == {subshells[0]}


def test_the_subshell_magic_says_where_a_cell_runs(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B9
    for one in (None, subshells[1]):
        text = "".join(run(kernel, one, "%subshell")[1]).removeprefix("stdout:")
        facts = dict(line.split(": ", 1) for line in text.splitlines())
        assert (facts["subshell id"], facts["subshell list"]) == (str(one), str(subshells))
        assert (facts["thread id"] == facts["main thread id"]) == (one is None)


# ---- deleting what is busy ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["loop", "sleep", "event", "await", "gather", "sync in async", "input", "asyncio.run", "prints"]
)
def test_a_busy_subshell_can_be_deleted_and_its_requests_are_answered(
    kernel: KernelUnderTest, name: str
) -> None:  # B2, Q1, Q11
    one = create(kernel)
    cell = running(kernel, one, BUSY[name], allow_stdin=True)
    queued = [send(kernel, one, "'must not run'") for _ in range(3)]
    asked = kernel.send("kernel_info_request", header={"subshell_id": one})
    assert delete(kernel, one) == {"status": "ok"}
    assert listed(kernel) == []
    late = send(kernel, one, "'late'")
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert [kernel.reply(waiting)["ename"] for waiting in queued] == ["UnknownSubshellError"] * 3
    assert all(kernel.outputs(waiting) == ["status:busy", "status:idle"] for waiting in queued)
    assert kernel.reply(late)["ename"] == "UnknownSubshellError"
    kernel.reply(asked)
    for msg_id in (cell, *queued, asked, late):
        assert kernel.outputs(msg_id).count("status:idle") == 1
        assert len(kernel.reply_messages(msg_id)) == 1
    gone(kernel)


def test_a_cell_that_catches_the_first_interrupt_does_not_outlive_its_subshell(kernel: KernelUnderTest) -> None:  # B2
    one = create(kernel)
    waits = " try: time.sleep(60)\n except KeyboardInterrupt: print('caught')"
    cell = running(kernel, one, f"import time\nprint('on')\nfor _ in range(2):\n{waits}")
    assert delete(kernel, one) == {"status": "ok"}
    kernel.reply(cell)
    assert "".join(outputs(kernel, cell)).count("caught") == 2
    gone(kernel)


def test_control_answers_while_a_stubborn_subshell_is_deleted(kernel: KernelUnderTest) -> None:  # B2, Q11
    one = create(kernel)
    kernel.execute("import os; gate = os.pipe()")
    cell = running(kernel, one, "print('on'); os.read(gate[0], 1)")  # a call of C, which nothing can end
    assert delete(kernel, one) == {"status": "ok"}
    assert listed(kernel) == []
    assert not kernel.reply_messages(cell)
    kernel.execute("os.write(gate[1], b'x')")
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert kernel.outputs(cell)[-1] == "status:idle"
    gone(kernel)


def test_a_cell_that_will_not_be_cancelled_is_answered_when_its_subshell_ends(kernel: KernelUnderTest) -> None:  # B2
    one = create(kernel)
    stubborn = (
        "import asyncio\nprint('on')\nwhile True:\n try: await asyncio.sleep(60)\n except asyncio.CancelledError: pass"
    )
    cell = running(kernel, one, stubborn)
    delete(kernel, one)
    assert kernel.reply(cell)["status"] == "error"
    assert kernel.outputs(cell)[-1] == "status:idle"
    gone(kernel)
    # What is left of it is nobody's business, and least of all the loop's that the collector happens to run on.
    assert kernel.execute("import gc; gc.collect(); await asyncio.sleep(0); 1")[1] == ["execute_result:1"]


def test_background_tasks_end_with_their_subshell(kernel: KernelUnderTest) -> None:
    one = create(kernel)
    start = """
        import asyncio
        ended = []
        async def task():
            try: await asyncio.sleep(60)
            finally: ended.append(1)
        job = asyncio.create_task(task())
        await asyncio.sleep(0)
    """
    run(kernel, one, start)
    delete(kernel, one)
    gone(kernel)
    assert kernel.execute("ended")[1] == ["execute_result:[1]"]


def test_two_hundred_subshells_in_a_race_leave_nothing_behind(kernel: KernelUnderTest) -> None:  # B9
    delete(kernel, create(kernel))  # what comes with the first one stays
    blocked = running(kernel, None, SLEEP)
    kernel.reply(kernel.send("complete_request", code="pri", cursor_pos=3))  # and the language lane
    kernel.interrupt()
    kernel.outputs(blocked)
    gone(kernel)
    before = descriptors(kernel)
    codes = itertools.cycle(
        [
            "1",
            "import time; time.sleep(5)",
            "import asyncio; await asyncio.sleep(5)",
            "1/0",
            "input()",
            "while True: pass",
        ]
    )
    for _ in range(20):
        created = [kernel.send("create_subshell_request", channel="control") for _ in range(10)]
        ids = [reply["subshell_id"] for reply in kernel.replies(*created).values()]
        cells = [send(kernel, one, next(codes)) for one in ids for _ in range(2)]
        deleted = [kernel.send("delete_subshell_request", channel="control", subshell_id=one) for one in ids]
        for msg_id in (*deleted, *cells):
            kernel.reply(msg_id)
            assert kernel.outputs(msg_id).count("status:idle") == 1
    assert listed(kernel) == []
    gone(kernel)
    settled(kernel, before)
    assert kernel.execute("get_ipython()._runs")[1] == ["execute_result:{}"]
