"""What other projects' tests found in this kernel: nbclient's, papermill's, jupyter_client's and ipykernel's own."""

import json
from typing import Any

import pytest
from harness import KernelUnderTest, start_kernel


def test_an_interrupt_at_the_debuggers_prompt_is_not_followed_by_another_prompt(kernel: KernelUnderTest) -> None:  # I9
    cell = kernel.send("execute_request", code="import pdb; pdb.set_trace()", allow_stdin=True)
    kernel.wait_for("stdin", "input_request", msg_id=cell)
    kernel.interrupt()
    kernel.reply(cell)
    asked = [message for message in kernel.seen[cell] if message["msg_type"] == "input_request"]
    assert len(asked) == 1


def test_a_cell_sends_messages_of_its_own_with_the_kernels_session(kernel: KernelUnderTest) -> None:
    code = """
ip = get_ipython()
content = {"data": {"text/plain": "by hand"}, "metadata": {}, "transient": {"display_id": "one"}}
_ = ip.kernel.session.send(ip.kernel.iopub_socket, "update_display_data", content, parent=ip.parent_header)
"""
    assert kernel.execute(code)[1] == ["update_display_data:by hand"]


def test_the_kernels_session_sends_buffers(kernel: KernelUnderTest) -> None:
    code = """
kernel = get_ipython().kernel
_ = kernel.session.send(
    kernel.iopub_socket, "custom", {}, parent=kernel.get_parent(), buffers=[b"small", bytearray(1 << 20)]
)
"""
    cell = kernel.send("execute_request", code=code)
    message = next(one for one in kernel.iopub(cell) if one["msg_type"] == "custom")
    assert [len(buffer) for buffer in message["buffers"]] == [5, 1 << 20]


def test_a_client_inside_a_cell_shows_the_other_kernels_output_in_this_cell(kernel: KernelUnderTest) -> None:
    code = """
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient()
client.load_connection_file(PATH)
client.start_channels()
_ = client.execute_interactive("display(6 * 7)", timeout=20, allow_stdin=False)
client.stop_channels()
"""
    with start_kernel() as other:
        path = json.dumps(other.manager.connection_file)
        reply, outputs = kernel.execute(code.replace("PATH", path))
    assert (reply["status"], outputs) == ("ok", ["display_data:42"])


def test_get_parent_of_control_is_the_latest_control_request(kernel: KernelUnderTest) -> None:
    asked = kernel.send("kernel_info_request", channel="control")
    kernel.iopub(asked)
    code = "kernel = get_ipython().kernel; print(kernel.get_parent('control')['header']['msg_id'])"
    assert kernel.execute(code)[1] == [f"stdout:{asked}\n"]


def test_parent_ident_names_the_client_of_either_channel(kernel: KernelUnderTest) -> None:
    kernel.iopub(kernel.send("kernel_info_request", channel="control"))
    code = "idents = get_ipython().kernel._parent_ident; print(idents['shell'], idents['control'])"
    client = f"[{kernel.client.session.bsession!r}]"
    assert kernel.execute(code)[1] == [f"stdout:{client} {client}\n"]


def test_a_kernel_without_control_requests_has_no_parent_there(own_kernel: KernelUnderTest) -> None:
    code = "kernel = get_ipython().kernel; print(kernel.get_parent('control'), kernel._parent_ident['control'])"
    assert own_kernel.execute(code)[1] == ["stdout:{} []\n"]


@pytest.mark.parametrize("rest", ["", "\nimport time; time.sleep(60)"], ids=["ends at once", "goes on"])
def test_a_cell_whose_kernel_is_terminated_has_no_result(own_kernel: KernelUnderTest, rest: str) -> None:  # L7
    cell = own_kernel.send("execute_request", code=f"import os, signal; os.kill(os.getpid(), signal.SIGTERM){rest}")
    own_kernel.wait_for("iopub", "shutdown_reply")
    own_kernel.iopub(cell)
    own_kernel.drain()
    assert own_kernel.reply_messages(cell) == []


@pytest.mark.parametrize(
    ("expression", "result"), [("'a' + 'b'", "ab"), ("['a', 1]", "['a', 1]"), ("None", ""), ("conformance = 3", "")]
)
def test_evaluate_without_a_frame_answers_texts_as_they_are(
    kernel: KernelUnderTest, expression: str, result: str
) -> None:
    def ask(command: str, **arguments: str) -> dict[str, Any]:
        content = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
        return kernel.reply(kernel.send("debug_request", channel="control", **content))

    ask("initialize", clientID="test", adapterID="test")
    ask("attach")
    try:
        assert ask("evaluate", expression=expression, context="repl")["body"]["result"] == result
    finally:
        ask("disconnect")
