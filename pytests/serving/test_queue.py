"""Requests that wait for others, or do not, over the wire."""

import time
from statistics import median
from typing import Any

import pytest
import zmq
from harness import KernelUnderTest
from other_clients import Socket
from raw_requests import GOOD, assert_one_answer, raw, running, statuses

SLEEP = "import time; print('on'); time.sleep({})"


# ---- the queue ------------------------------------------------------------------------------


def test_idle_comes_with_the_reply(kernel: KernelUnderTest) -> None:  # O21
    # given: the heartbeat, which no Python code answers: what a way to the kernel and back costs here and now
    beats, answers = [], []
    with Socket(kernel, zmq.REQ, kernel.client.hb_port, rcvtimeo=10_000) as heart:
        for _ in range(50):
            began = time.monotonic()
            heart.zmq.send(b"beat")
            assert heart.zmq.recv() == b"beat"
            beats.append(time.monotonic() - began)
            # when
            began = time.monotonic()
            kernel.outputs(kernel.send("execute_request", code="None"))
            answers.append(time.monotonic() - began)
    # then: a clock that something is polled by of 20 ms would be two hundred heartbeats
    assert median(answers) < 100 * median(beats), (answers, beats)


def test_two_hundred_pipelined_cells_are_answered_in_order(kernel: KernelUnderTest) -> None:  # Q2, Q12
    kernel.execute("seen = []")
    sent = [kernel.send("execute_request", code=f"seen.append({n})") for n in range(200)]
    replies = kernel.replies(*sent, timeout=60)
    counts = [replies[one]["execution_count"] for one in sent]
    assert counts == list(range(counts[0], counts[0] + 200))
    assert all(statuses(kernel, one) == ["status:busy", "status:idle"] for one in sent)
    assert kernel.execute("seen == list(range(200))")[1] == ["execute_result:True"]


def test_dependent_async_cells_run_one_after_the_other(kernel: KernelUnderTest) -> None:  # Q12
    sent = [
        kernel.send("execute_request", code="import asyncio; await asyncio.sleep(.05); a = 1"),
        kernel.send("execute_request", code="await asyncio.sleep(0); b = a + 1"),
        kernel.send("execute_request", code="a + b"),
    ]
    assert [reply["status"] for reply in kernel.replies(*sent).values()] == ["ok"] * 3
    assert "execute_result:3" in kernel.outputs(sent[2])


def test_an_error_aborts_what_is_queued_and_nothing_else(kernel: KernelUnderTest) -> None:  # Q3, Q4, Q5
    first = running(kernel, "input(print('on')); 1/0", allow_stdin=True)
    queued = [
        kernel.send("execute_request", code="print('never')", **options)
        for options in ({}, {"silent": True}, {"stop_on_error": False})
    ]
    others = [raw(kernel, "complete_request", {"code": "pri", "cursor_pos": 3}), raw(kernel, "kernel_info_request", {})]
    kernel.answer_input("")
    replies = kernel.replies(first, *queued, *others)
    after = kernel.send("execute_request", code="'after'")

    assert replies[first]["ename"] == "ZeroDivisionError"
    assert [replies[one] for one in queued] == [{"status": "aborted"}] * 3
    assert [kernel.outputs(one) for one in queued] == [["status:busy", "status:idle"]] * 3
    assert [replies[one]["status"] for one in others] == ["ok", "ok"]
    assert kernel.reply(after)["status"] == "ok"


@pytest.mark.parametrize("options", [{"stop_on_error": False}, {"silent": True}])
def test_without_stop_on_error_the_queue_goes_on(kernel: KernelUnderTest, options: dict[str, Any]) -> None:  # Q3
    sent = [kernel.send("execute_request", code="1/0", **options), kernel.send("execute_request", code="'goes on'")]
    assert [reply["status"] for reply in kernel.replies(*sent).values()] == ["error", "ok"]


def test_the_fence_takes_what_still_sits_in_the_socket_and_no_more(kernel: KernelUnderTest) -> None:  # Q4, Q2
    for _ in range(20):
        failing = kernel.send("execute_request", code="1/0")
        queued = [kernel.send("execute_request", code="'queued'") for _ in range(5)]
        replies = kernel.replies(failing)  # the moment it is there, one more is sent
        after = kernel.send("execute_request", code="'after'")
        replies = kernel.replies(failing, *queued, after)
        order = [replies[one]["status"] for one in (*queued, after)]
        assert order[-1] == "ok"
        assert order == sorted(order)  # aborted ones first: no cell runs before one that is aborted


def test_a_burst_of_failing_cells_is_answered_once_each(kernel: KernelUnderTest) -> None:  # Q1, Q3
    sent = [kernel.send("execute_request", code="1/0", stop_on_error=n % 3 == 0) for n in range(30)]
    replies = assert_one_answer(kernel, *sent)
    ends = [replies[one]["status"] for one in sent]
    failed = [n for n, end in enumerate(ends) if end == "error"]
    aborted = [n for n, end in enumerate(ends) if end == "aborted"]
    assert sorted(failed + aborted) == list(range(30))
    assert {max(n for n in failed if n < one) % 3 for one in aborted} <= {0}  # behind one that stops


# ---- while a cell runs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["print('on'); input()", "import asyncio; gate = asyncio.Event(); print('on'); await gate.wait()"]
)
def test_language_requests_are_answered_while_a_cell_runs(kernel: KernelUnderTest, code: str) -> None:  # Q10, Q11
    kernel.execute("import time; answer = 42")
    cell = running(kernel, code, allow_stdin=True)
    sent = {raw(kernel, msg_type, content): msg_type for msg_type, content in GOOD.items() if msg_type in LANGUAGE}
    replies = assert_one_answer_now(kernel, *sent)
    assert {reply["status"] for reply in replies.values()} == {"ok", "complete"}
    assert kernel.reply_messages(cell) == []
    end(kernel, cell)


LANGUAGE = ("complete_request", "inspect_request", "is_complete_request", "history_request", "comm_info_request")


def assert_one_answer_now(kernel: KernelUnderTest, *msg_ids: str) -> dict[str, dict[str, Any]]:
    replies = kernel.replies(*msg_ids)
    for one in msg_ids:
        assert statuses(kernel, one) == ["status:busy", "status:idle"]
        assert len(kernel.reply_messages(one)) == 1
    return replies


def end(kernel: KernelUnderTest, cell: str) -> None:
    kernel.interrupt()
    kernel.reply(cell)
    kernel.outputs(cell)


def test_language_requests_are_answered_while_a_cell_computes_or_sleeps(kernel: KernelUnderTest) -> None:  # Q10
    for code in ("print('on')\nwhile True: pass", SLEEP.format(60)):
        cell = running(kernel, code)
        for msg_type in LANGUAGE:
            status = "complete" if msg_type == "is_complete_request" else "ok"
            assert kernel.reply(raw(kernel, msg_type, GOOD[msg_type]))["status"] == status
        end(kernel, cell)


def test_a_new_client_is_greeted_while_a_cell_sleeps(kernel: KernelUnderTest) -> None:  # Q10
    cell = running(kernel, SLEEP.format(60))
    assert_one_answer_now(kernel, raw(kernel, "kernel_info_request", {}), raw(kernel, "connect_request", {}))
    end(kernel, cell)


def test_kernel_info_and_comms_are_answered_while_a_cell_awaits(kernel: KernelUnderTest) -> None:  # Q10
    cell = running(kernel, "import asyncio; print('on'); await asyncio.sleep(60)")
    assert_one_answer_now(kernel, raw(kernel, "kernel_info_request", {}), raw(kernel, "connect_request", {}))
    end(kernel, cell)


def test_control_is_answered_while_a_cell_runs(kernel: KernelUnderTest) -> None:  # Q11
    for code in (SLEEP.format(60), "print('on')\nwhile True: pass"):
        cell = running(kernel, code)
        wanted = ("kernel_info_request", "connect_request", "usage_request", "list_subshell_request")
        started = time.monotonic()
        assert_one_answer_now(kernel, *(raw(kernel, msg_type, {}, "control") for msg_type in wanted))
        assert time.monotonic() - started < 2  # the cell itself takes a minute
        end(kernel, cell)


def test_lists_are_read_while_others_write_them(own_kernel: KernelUnderTest) -> None:  # P3
    kernel = own_kernel
    churn = (
        "import asyncio, comm, sys, threading, time\n"
        "def churn():\n"
        " while not stop.is_set():\n"
        "  one = comm.create_comm(target_name='none'); hook = lambda text: text\n"
        "  sys.stdout.register_hook(hook); sys.stdout.unregister_hook(hook)\n"
        "  comm.get_comm_manager().register_target(one.comm_id, print); one.close()\n"
        "  comm.get_comm_manager().unregister_target(one.comm_id, print); time.sleep(0)\n"
        "stop = threading.Event(); workers = [threading.Thread(target=churn) for _ in range(4)]\n"
        "for worker in workers: worker.start()\n"
        "print('on')\nwhile not stop.is_set(): await asyncio.sleep(.001)\n"
        "for worker in workers: worker.join()"
    )
    running = kernel.send("execute_request", code=churn)
    kernel.wait_for("iopub", "stream", msg_id=running, text="on")
    for _ in range(10):
        made = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
        asked = [
            kernel.send("comm_info_request"),
            kernel.send("comm_info_request", header={"subshell_id": made}),
            kernel.send("list_subshell_request", channel="control"),
            kernel.send("usage_request", channel="control"),
        ]
        assert [kernel.reply(msg_id).get("status", "ok") for msg_id in asked] == ["ok"] * 4
        kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=made))
    other = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    kernel.send("execute_request", code="stop.set()", header={"subshell_id": other})
    assert kernel.reply(running)["status"] == "ok"
    assert kernel.reply(kernel.send("comm_info_request"))["comms"] == {}


def test_an_execute_request_on_control_is_run_in_its_turn(kernel: KernelUnderTest) -> None:  # Q1, Q12
    cell = kernel.send("execute_request", channel="control", code="print('from control'); 'result'")
    assert kernel.reply(cell)["status"] == "ok"
    assert kernel.outputs(cell)[2:] == ["stdout:from control\n", "execute_result:'result'", "status:idle"]
