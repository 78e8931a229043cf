"""Requests over the wire: each gets one reply, one busy and one idle; queues, fences, envelopes and bad frames."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import zmq
from harness import DEADLINE, KernelUnderTest, brief, start_kernel
from jupyter_client.session import Session

SLEEP = "import time; print('on'); time.sleep({})"
GOOD: dict[str, dict[str, Any]] = {
    "kernel_info_request": {},
    "connect_request": {},
    "execute_request": {"code": "None"},
    "complete_request": {"code": "pri", "cursor_pos": 3},
    "inspect_request": {"code": "print", "cursor_pos": 3, "detail_level": 0},
    "is_complete_request": {"code": "1"},
    "history_request": {"hist_access_type": "tail", "n": 2, "raw": True, "output": False},
    "comm_info_request": {},
    "interrupt_request": {},
}
CONTROL_ONLY: dict[str, dict[str, Any]] = {"usage_request": {}, "list_subshell_request": {}}
WRONG = [
    ("execute_request", {}),
    ("execute_request", {"code": 5}),
    ("execute_request", {"code": None}),
    ("execute_request", {"code": "1", "silent": "yes"}),
    ("execute_request", {"code": "1", "user_expressions": [1]}),
    ("complete_request", {}),
    ("complete_request", {"code": "a", "cursor_pos": "b"}),
    ("complete_request", {"code": ["a"], "cursor_pos": 1}),
    ("inspect_request", {}),
    ("inspect_request", {"code": "a", "cursor_pos": 1.5}),
    ("is_complete_request", {}),
    ("is_complete_request", {"code": {}}),
    ("history_request", {}),
    ("history_request", {"hist_access_type": 3}),
    ("history_request", {"hist_access_type": "tail", "n": "many"}),
    ("nonsense_request", {}),
    ("nonsense_request", {"code": "1"}),
]


def running(kernel: KernelUnderTest, code: str, text: str = "on", **content: Any) -> str:
    msg_id = kernel.send("execute_request", code=code, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text=text)
    return msg_id


def raw(kernel: KernelUnderTest, msg_type: str, content: Any, channel: str = "shell") -> str:
    """Send a request as it is, without the usual defaults."""
    session = kernel.client.session
    message = session.msg(msg_type, content)
    session.send(getattr(kernel.client, f"{channel}_channel").socket, message)
    return str(message["header"]["msg_id"])


def settle(kernel: KernelUnderTest) -> None:
    """Return when all that was sent before has been answered."""
    for channel in ("shell", "control"):
        last = kernel.send("kernel_info_request", channel=channel)
        kernel.reply(last)
        kernel.outputs(last)


def statuses(kernel: KernelUnderTest, msg_id: str) -> list[str]:
    return [line for line in kernel.outputs(msg_id) if line.startswith("status:")]


def assert_one_answer(kernel: KernelUnderTest, *msg_ids: str) -> dict[str, dict[str, Any]]:
    """Each request has one reply, of its type, one busy and one idle; return the replies' contents."""
    replies = kernel.replies(*msg_ids)
    for one in msg_ids:
        kernel.outputs(one)
    settle(kernel)
    for one in msg_ids:
        assert len(kernel.reply_messages(one)) == 1
        message = kernel.reply_messages(one)[0]
        assert message["msg_type"] == message["parent_header"]["msg_type"].replace("_request", "_reply")
        assert statuses(kernel, one) == ["status:busy", "status:idle"]
    return replies


# ---- one reply, one busy, one idle -----------------------------------------------------


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_every_request_gets_one_reply_and_one_busy_and_idle(kernel: KernelUnderTest, channel: str) -> None:  # Q1
    wanted = GOOD if channel == "shell" else {**GOOD, **CONTROL_ONLY}
    others = {msg_type: content for msg_type, content in wanted.items() if msg_type != "interrupt_request"}
    said = {}
    for together in (others, {"interrupt_request": {}}):  # which would be right to end the execute_request
        sent = {raw(kernel, msg_type, content, channel): msg_type for msg_type, content in together.items()}
        replies = assert_one_answer(kernel, *sent)
        said |= {sent[one]: reply["status"] for one, reply in replies.items()}
    assert said == {**dict.fromkeys(wanted, "ok"), "is_complete_request": "complete"}


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_a_wrong_request_gets_one_error_reply(kernel: KernelUnderTest, channel: str) -> None:  # Q1, Q9
    sent = {
        raw(kernel, msg_type, {**content, "stop_on_error": False}, channel): (msg_type, content)
        for msg_type, content in WRONG
    }
    replies = assert_one_answer(kernel, *sent)
    assert {str(sent[one]): reply["status"] for one, reply in replies.items()} == {str(one): "error" for one in WRONG}
    assert all(reply["ename"] and reply["evalue"] and reply["traceback"] == [] for reply in replies.values())


def test_a_wrong_execute_request_does_not_touch_the_count(kernel: KernelUnderTest) -> None:  # Q1
    before = kernel.execute("1")[0]["execution_count"]
    bad = raw(kernel, "execute_request", {"code": 5})
    assert kernel.reply(bad)["ename"] == "BadContent"
    assert kernel.outputs(bad) == ["status:busy", "status:idle"]
    assert kernel.execute("1")[0]["execution_count"] == before + 1


def test_control_requests_on_shell_are_unknown_there(kernel: KernelUnderTest) -> None:  # Q1, Q9
    replies = assert_one_answer(kernel, *(raw(kernel, msg_type, {}) for msg_type in ("usage_request", "debug_request")))
    assert {reply["ename"] for reply in replies.values()} == {"UnknownRequest"}


def test_a_message_that_is_no_request_gets_no_reply(kernel: KernelUnderTest) -> None:  # Q9
    odd = [raw(kernel, msg_type, {}) for msg_type in ("nonsense", "execute_reply", "status", "comm_msg", "x")]
    settle(kernel)
    for one in odd:
        assert statuses(kernel, one) == ["status:busy", "status:idle"]
        assert kernel.reply_messages(one) == []


@pytest.mark.parametrize("subshell_id", ["unknown", 5, {"a": 1}])
def test_an_unknown_subshell_is_an_error_and_nothing_runs(kernel: KernelUnderTest, subshell_id: Any) -> None:  # Q8
    sent = [
        kernel.send("execute_request", header={"subshell_id": subshell_id}, code="print('wrong')"),
        kernel.send("complete_request", header={"subshell_id": subshell_id}, code="a", cursor_pos=1),
        kernel.send("kernel_info_request", header={"subshell_id": subshell_id}),
    ]
    replies = assert_one_answer(kernel, *sent)
    assert [reply["ename"] for reply in replies.values()] == ["UnknownSubshellError"] * 3
    assert kernel.outputs(sent[0]) == ["status:busy", "status:idle"]


@pytest.mark.parametrize("subshell_id", ["", None])
def test_an_empty_subshell_id_means_the_main_shell(kernel: KernelUnderTest, subshell_id: Any) -> None:  # Q8
    sent = kernel.send("execute_request", header={"subshell_id": subshell_id}, code="'main'")
    assert kernel.reply(sent)["status"] == "ok"
    assert "execute_result:'main'" in kernel.outputs(sent)


def test_unknown_keys_of_a_header_come_back_in_every_answer(kernel: KernelUnderTest) -> None:
    sent = kernel.send("execute_request", header={"mine": [1, {"a": "ä"}]}, code="print(1)")
    kernel.reply(sent)
    answers = [*kernel.iopub(sent), *kernel.reply_messages(sent)]
    assert {str(message["parent_header"]["mine"]) for message in answers} == {"[1, {'a': 'ä'}]"}


# ---- envelopes ---------------------------------------------------------------------------


def test_the_protocol_version_is_the_same_in_all_headers_and_kernel_info(kernel: KernelUnderTest) -> None:
    sent = [
        kernel.send("execute_request", code="print(1); 1", allow_stdin=True),
        kernel.send("execute_request", code="1/0"),
        kernel.send("nonsense_request"),
        kernel.send("usage_request", channel="control"),
    ]
    kernel.replies(*sent)
    answers = [message for one in sent for message in (*kernel.iopub(one), *kernel.reply_messages(one))]
    assert {message["header"]["version"] for message in answers} == {"5.5"}
    assert kernel.reply(kernel.send("kernel_info_request"))["protocol_version"] == "5.5"
    spec = kernel.manager.kernel_spec
    assert spec is not None and spec.to_dict()["kernel_protocol_version"] == "5.5"
    assert len({message["header"]["msg_id"] for message in answers}) == len(answers)
    assert len({message["header"]["session"] for message in answers}) == 1


def test_topics_are_those_that_subscribers_know(kernel: KernelUnderTest) -> None:
    code = (
        "import sys\nfrom IPython.display import *\nfrom comm import create_comm\n"
        "print(1); print(2, file=sys.stderr); display(3, display_id='x'); update_display(4, display_id='x')\n"
        "clear_output(); create_comm(target_name='t', comm_id='c1').close()\n5"
    )
    with subscribed(kernel, b"") as listener:
        listener.next()  # the welcome
        sent = [kernel.send("execute_request", code=code), kernel.send("execute_request", code="1/0")]
        topics: dict[str, set[str]] = {}
        idles = 0
        while idles < 2:
            message, identities = listener.next()
            if message["parent_header"].get("msg_id") in sent:
                kind, topic = message["msg_type"], identities[0].decode()
                topics.setdefault(kind, set()).add(topic.rpartition(".")[2] if topic.startswith("kernel.") else topic)
                idles += brief(message) == "status:idle"
    kernel.replies(*sent)
    assert topics == {
        "status": {"status"}, "execute_input": {"execute_input"}, "execute_result": {"execute_result"},
        "error": {"error"}, "stream": {"stream.stdout", "stream.stderr"}, "display_data": {"display_data"},
        "update_display_data": {"display_data"}, "clear_output": {"display_data"},
        "comm_open": {"comm-c1"}, "comm_close": {"comm-c1"},
    }  # fmt: skip


class Socket:
    """A socket of a client that is not jupyter_client's, with a session of its own."""

    def __init__(self, kernel: KernelUnderTest, kind: int, port: int, **options: Any):
        self.session = Session(key=kernel.client.session.key)
        self.zmq: Any = zmq.Context.instance().socket(kind)
        for name, value in {"linger": 0, **options}.items():
            setattr(self.zmq, name, value)
        self.zmq.connect(f"tcp://127.0.0.1:{port}")

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *error: object) -> None:
        self.zmq.close()

    def next(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the next message and the identities or the topic before it."""
        assert self.zmq.poll(10_000), "nothing came"
        identities, parts = self.session.feed_identities(self.zmq.recv_multipart())
        return self.session.deserialize(parts), identities

    def ask(self, msg_type: str, **content: Any) -> None:
        self.session.send(self.zmq, self.session.msg(msg_type, content))


def subscribed(kernel: KernelUnderTest, topic: bytes) -> Socket:
    listener = Socket(kernel, zmq.SUB, kernel.client.iopub_port)
    listener.zmq.subscribe(topic)
    return listener


def test_kernel_info_says_who_we_are(kernel: KernelUnderTest) -> None:
    info = kernel.reply(kernel.send("kernel_info_request", channel="control"))
    assert set(info) == {
        "status", "protocol_version", "implementation", "implementation_version", "language_info", "banner",
        "help_links", "supported_features",
    }  # fmt: skip
    assert info["supported_features"] == ["kernel subshells", "debugger"]
    language = info["language_info"]
    assert (language["name"], language["file_extension"], language["pygments_lexer"]) == ("python", ".py", "ipython3")


def test_connect_request_names_the_ports(kernel: KernelUnderTest) -> None:
    reply = kernel.reply(kernel.send("connect_request"))
    wanted = {
        f"{name}_port": getattr(kernel.client, f"{name}_port") for name in ("shell", "iopub", "stdin", "control", "hb")
    }
    assert reply == {"status": "ok", **wanted}


def test_usage_request_says_what_the_kernel_takes(kernel: KernelUnderTest) -> None:
    for _ in range(2):
        usage = kernel.reply(kernel.send("usage_request", channel="control"))
    assert usage["pid"] == kernel.pid and usage["hostname"] and usage["cpu_count"] >= 1
    assert usage["kernel_memory"] > 10_000_000 and usage["kernel_cpu"] >= 0
    assert usage["host_virtual_memory"]["total"] > usage["host_virtual_memory"]["available"] > 0


def test_an_execute_reply_carries_its_metadata(kernel: KernelUnderTest) -> None:
    codes = ("1", "input(); 1/0", "2")
    sent = [kernel.send("execute_request", code=code, allow_stdin=True) for code in codes]
    kernel.reply(kernel.send("kernel_info_request"))  # on the same socket: all of them have arrived
    kernel.answer_input("")
    kernel.replies(*sent)
    found = [kernel.reply_messages(one)[0]["metadata"] for one in sent]
    assert [set(one) for one in found] == [{"started", "dependencies_met", "engine", "status"}] * 3
    assert [one["status"] for one in found] == ["ok", "error", "aborted"]


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


# ---- bad frames, replays ------------------------------------------------------------------------


def frames_of(kernel: KernelUnderTest, code: str) -> list[bytes]:
    session = kernel.client.session
    return list(session.serialize(session.msg("execute_request", {"code": code})))


def test_garbage_is_ignored(kernel: KernelUnderTest) -> None:  # Q6
    good = frames_of(kernel, "print('wrong')")
    forged = [good[0], b"0" * 64, *good[2:]]
    garbage = [
        [b""],
        [b"garbage"],
        [b"\x00" * 100, b"\xff\xfe"],
        [b"<IDS|MSG>"],
        [b"<IDS|MSG>", b"", b"{}"],
        good[1:],
        good[:4],
        forged,
        [b"<IDS|MSG>", b"", b"{}", b"{}", b"{}", b"{}"],
        [b"<IDS|MSG>"] * 8,
        [b"x" * 1_000_000],
    ]
    for header in (
        b"nonsense",
        b"[]",
        b"\xff",
        b"{}",
        b'{"msg_id":1}',
        b"null",
        b'{"msg_id":"a","msg_type":null}',
        b"[" * 100_000,
    ):
        parts = [header, b"{}", b"{}", b"{}"]
        garbage.append([b"<IDS|MSG>", kernel.client.session.sign(parts), *parts])
    for frames in garbage:
        for channel in ("shell", "control", "stdin"):
            getattr(kernel.client, f"{channel}_channel").socket.send_multipart(frames)
    settle(kernel)
    assert kernel.execute("'alive'")[1] == ["execute_result:'alive'"]
    assert "dropped message" in kernel.log.read_text()


def test_garbage_on_iopub_is_no_subscription_and_harms_nobody(kernel: KernelUnderTest) -> None:  # Q6
    with Socket(kernel, zmq.XSUB, kernel.client.iopub_port) as wild:
        for frame in (b"\1\xff\xfe", b"\0", b"\2x", b"", b"\1"):
            wild.zmq.send(frame)
        assert wild.next()[0]["msg_type"] == "iopub_welcome"  # of the last one
    assert kernel.execute("'alive'")[1] == ["execute_result:'alive'"]


def test_a_replay_runs_once(kernel: KernelUnderTest) -> None:  # Q7
    kernel.execute("runs = 0")
    frames = frames_of(kernel, "runs += 1")
    for _ in range(3):
        kernel.client.shell_channel.socket.send_multipart(frames)
    assert kernel.execute("runs")[1] == ["execute_result:1"]


def test_many_requests_whose_replies_nobody_reads_wedge_nothing(kernel: KernelUnderTest) -> None:  # Q15
    with Socket(kernel, zmq.DEALER, kernel.client.shell_port, rcvhwm=1) as deaf:
        for _ in range(3000):
            deaf.ask("kernel_info_request")
        assert kernel.execute("'not wedged'", timeout=60)[1] == ["execute_result:'not wedged'"]


# ---- several clients ------------------------------------------------------------------------------


@pytest.fixture
def other(kernel: KernelUnderTest) -> Iterator[KernelUnderTest]:
    client = kernel.second_client()
    yield client
    client.client.stop_channels()


def test_two_clients_get_their_own_replies_and_see_all_of_iopub(
    kernel: KernelUnderTest, other: KernelUnderTest
) -> None:  # Q16
    mine = kernel.send("execute_request", code="print('mine')")
    theirs = other.send("execute_request", code="print('theirs')")
    assert kernel.reply(mine)["status"] == other.reply(theirs)["status"] == "ok"
    for client in (kernel, other):
        assert "stdout:mine\n" in client.outputs(mine)
        assert "stdout:theirs\n" in client.outputs(theirs)
    assert (kernel.reply_messages(theirs), other.reply_messages(mine)) == ([], [])


def test_the_same_message_id_from_two_clients_is_two_requests(kernel: KernelUnderTest, other: KernelUnderTest) -> None:
    for client in (kernel, other):
        client.send("execute_request", code="'same'", header={"msg_id": "same"})
    assert kernel.reply("same")["status"] == other.reply("same")["status"] == "ok"


def test_a_client_that_reconnects_under_its_identity_gets_the_replies(kernel: KernelUnderTest) -> None:  # Q16
    port = kernel.client.shell_port
    with Socket(kernel, zmq.DEALER, port, identity=b"the-same") as first:
        first.ask("kernel_info_request")
        assert first.next()[0]["msg_type"] == "kernel_info_reply"
        with Socket(kernel, zmq.DEALER, port, identity=b"the-same") as second:  # while the first one is still there
            second.ask("kernel_info_request")
            assert second.next()[0]["msg_type"] == "kernel_info_reply"


def test_every_subscription_is_welcomed(kernel: KernelUnderTest) -> None:  # Q17
    for topic in (b"", b"", b"stream", b"stream", b"iopub_welcome"):
        with subscribed(kernel, topic) as listener:
            welcome, identities = listener.next()
            assert (welcome["msg_type"], welcome["content"]) == ("iopub_welcome", {"subscription": topic.decode()})
            assert (welcome["parent_header"], welcome["metadata"]) == ({}, {})
            assert identities == ([topic] if topic else [])


def test_a_first_client_that_hears_late_misses_nothing() -> None:  # Q17
    with start_kernel() as kernel:
        kernel.client.stop_channels()
        # The same kernel, as it is at first: nobody has ever listened. Sockets connect in any order.
        kernel.manager.restart_kernel(now=True)
        client = kernel.manager.client()
        off = {"iopub": False, "stdin": False, "hb": False, "control": False}
        client.start_channels(shell=True, **off)
        try:
            reply = client.execute("print('early')", reply=True, timeout=DEADLINE)
            client.start_channels(shell=False, **{**off, "iopub": True})
            seen: list[str] = []
            while not seen or seen[-1] != "status:idle":
                seen.append(brief(client.get_iopub_msg(timeout=DEADLINE)))
        finally:
            client.stop_channels()
    assert reply["content"]["status"] == "ok"
    assert seen == [
        "iopub_welcome", "status:starting", "status:busy", "execute_input:print('early')", "stdout:early\n", "status:idle",
    ]  # fmt: skip


def test_the_heartbeat_echoes_all_frames_also_while_a_cell_holds_the_gil(kernel: KernelUnderTest) -> None:  # Q17
    cell = running(kernel, "import ctypes; print('on', flush=True); _ = ctypes.PyDLL(None).usleep(700_000)")
    with Socket(kernel, zmq.DEALER, kernel.client.hb_port) as heart:
        for beat in ([b"ping"], [b"", b"\0\xff", b"third"]):
            heart.zmq.send_multipart(beat)
            assert heart.zmq.poll(10_000)
            assert heart.zmq.recv_multipart() == beat
    assert kernel.reply(cell)["status"] == "ok"


# ---- transports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"transport": "ipc"}, {"transport_encryption": "required"}], ids=["ipc", "curve"])
def test_other_transports_carry_all_five_channels(options: dict[str, Any], tmp_path: Any) -> None:
    if "transport" in options:
        options = {**options, "ip": str(tmp_path / "k")}
    with start_kernel(**options) as kernel:
        kernel.client.hb_channel.unpause()
        cell = kernel.send("execute_request", code="print(input('name '))", allow_stdin=True)
        kernel.answer_input("Ada")
        assert kernel.reply(cell)["status"] == "ok"
        assert "stdout:Ada\n" in kernel.outputs(cell)
        assert kernel.reply(kernel.send("usage_request", channel="control"))["pid"] == kernel.pid
        if "transport_encryption" in options:
            assert kernel.manager.get_connection_info()["curve_publickey"]
            assert a_client_without_keys_hears_nothing(kernel)


def a_client_without_keys_hears_nothing(kernel: KernelUnderTest) -> bool:
    with Socket(kernel, zmq.DEALER, kernel.client.shell_port) as plain:
        plain.ask("kernel_info_request")
        return not plain.zmq.poll(300)


def test_messages_before_the_first_cell_have_no_parent(kernel: KernelUnderTest) -> None:
    assert [brief(message) for message in kernel._on("iopub", "")][:1] == ["iopub_welcome"]
