"""Bad frames, several clients, and the transports."""

from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from harness import DEADLINE, KernelUnderTest, brief, start_kernel
from other_clients import Socket, subscribed
from raw_requests import running, settle

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
    assert [brief(message) for message in kernel.messages("iopub", "")][:1] == ["iopub_welcome"]
