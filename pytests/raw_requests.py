"""Requests as they are, without a client's defaults, and what each must be answered with."""

from typing import Any

from harness import KernelUnderTest

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
