"""Requests of all types: replies, states and envelopes."""

from typing import Any

import pytest
from harness import KernelUnderTest, brief
from other_clients import subscribed
from raw_requests import GOOD, assert_one_answer, raw, settle, statuses

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
