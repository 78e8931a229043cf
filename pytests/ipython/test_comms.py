"""Comms in both directions: buffers, unknown targets, callbacks and whose output theirs is."""

from typing import Any

import pytest
from harness import KernelUnderTest, brief

TARGET = """
import comm
seen, comms = [], []
def opened(one, message):
    comms.append(one); seen.append(('open', message['content']['data']))
    one.on_msg(lambda message: on_msg(one, message))
    one.on_close(lambda message: seen.append(('close', message['content'].get('data'))))
def on_msg(one, message):
    seen.append(('msg', message['content']['data'], [bytes(b) for b in message['buffers']]))
    print('callback', message['content']['data'])
    backwards = [bytes(b)[::-1] for b in message['buffers']]
    one.send({'echo': message['content']['data']}, metadata={'m': 1}, buffers=backwards)
comm.get_comm_manager().register_target('here', opened)
"""


@pytest.fixture
def target(kernel: KernelUnderTest) -> KernelUnderTest:
    assert kernel.execute(TARGET)[1] == []
    return kernel


def comm(kernel: KernelUnderTest, kind: str, comm_id: str = "c", **content: Any) -> str:
    buffers = content.pop("buffers", None)
    return kernel.send(f"comm_{kind}", comm_id=comm_id, buffers=buffers, **content)


def said(kernel: KernelUnderTest, msg_id: str) -> list[str]:
    return kernel.outputs(msg_id)[1:-1]


def test_a_frontend_opens_speaks_and_closes(target: KernelUnderTest) -> None:  # O4, O5
    opened = comm(target, "open", target_name="here", data={"a": 1})
    spoke = comm(target, "msg", data={"b": "ä"}, buffers=[b"123", b"\0\xff", bytearray(3)])
    closed = comm(target, "close", data={})
    for one in (opened, spoke, closed):
        lines = target.outputs(one)
        assert (lines[0], lines[-1], lines.count("status:busy")) == ("status:busy", "status:idle", 1)
        assert target.reply_messages(one) == []
    assert said(target, spoke) == ["stdout:callback {'b': 'ä'}\n", "comm_msg"]
    (echo,) = [message for message in target.iopub(spoke) if message["msg_type"] == "comm_msg"]
    assert echo["content"] == {"comm_id": "c", "data": {"echo": {"b": "ä"}}}
    assert [bytes(buffer) for buffer in echo["buffers"]] == [b"321", b"\xff\0", b"\0\0\0"]
    assert echo["metadata"] == {"m": 1}
    wanted: list[Any] = [("open", {"a": 1}), ("msg", {"b": "ä"}, [b"123", b"\0\xff", b"\0\0\0"]), ("close", {})]
    assert target.execute("print(seen)")[1] == [f"stdout:{wanted}\n"]


def test_the_kernel_opens_speaks_and_closes(target: KernelUnderTest) -> None:  # O4
    code = (
        "import array\nmine = comm.create_comm("
        "target_name='there', data={'x': 1}, metadata={'v': 2}, comm_id='k', buffers=[b'raw'])\n"
        "numbers = array.array('i', [1, 2])\nmine.send({'y': 2}, buffers=[numbers, memoryview(b'view')])\nnumbers[0] = 9\n"
        "mine.close({'z': 3})"
    )
    cell = target.send("execute_request", code=code)
    target.reply(cell)
    found = [message for message in target.iopub(cell) if message["msg_type"].startswith("comm_")]
    assert [message["msg_type"] for message in found] == ["comm_open", "comm_msg", "comm_close"]
    assert [message["content"]["data"] for message in found] == [{"x": 1}, {"y": 2}, {"z": 3}]
    first = found[0]
    assert (first["content"]["target_name"], first["content"]["target_module"]) == ("there", None)
    assert (first["metadata"], bytes(first["buffers"][0])) == ({"v": 2}, b"raw")
    # the array's memory as it was when it was sent
    assert bytes(found[1]["buffers"][0]) == b"\1\0\0\0\2\0\0\0" and bytes(found[1]["buffers"][1]) == b"view"


def test_a_comm_that_the_kernel_opened_hears_the_frontend(target: KernelUnderTest) -> None:
    target.execute("back = comm.create_comm(target_name='there', comm_id='both'); heard = []")
    target.execute("back.on_msg(lambda message: heard.append(message['content']['data']))")
    target.outputs(comm(target, "msg", "both", data={"n": 5}))
    assert target.execute("heard")[1] == ["execute_result:[{'n': 5}]"]
    target.execute("back.close()")


def test_large_buffers_arrive_whole(target: KernelUnderTest) -> None:
    target.outputs(comm(target, "open", "large", target_name="here", data={}))
    data = bytes(range(256)) * 8192
    spoke = comm(target, "msg", "large", data={}, buffers=[data, b""])
    (echo,) = [message for message in target.iopub(spoke) if message["msg_type"] == "comm_msg"]
    assert [bytes(buffer) for buffer in echo["buffers"]] == [data[::-1], b""]


def test_an_unknown_target_is_closed_and_said(target: KernelUnderTest) -> None:
    opened = comm(target, "open", "lost", target_name="nowhere", data={})
    lines = said(target, opened)
    assert "comm_close" in lines and any(line.startswith("stderr:") and "nowhere" in line for line in lines)
    assert "lost" not in target.reply(target.send("comm_info_request"))["comms"]


@pytest.mark.parametrize("kind", ["msg", "close"])
def test_an_unknown_comm_is_said(target: KernelUnderTest, kind: str) -> None:
    lines = said(target, comm(target, kind, "unknown", data={}))
    assert len(lines) == 1 and lines[0].startswith("stderr:") and "unknown" in lines[0]


@pytest.mark.parametrize("content", [{}, {"comm_id": 5}, {"comm_id": None, "data": []}])
def test_a_malformed_comm_message_breaks_nothing(target: KernelUnderTest, content: dict[str, Any]) -> None:  # Q1, Q9
    for kind in ("comm_open", "comm_msg", "comm_close"):
        lines = target.outputs(target.send(kind, **content))
        assert (lines[0], lines[-1]) == ("status:busy", "status:idle")


def test_an_error_in_a_callback_is_said_and_the_comm_lives(target: KernelUnderTest) -> None:
    target.execute("failing = comm.create_comm(target_name='t', comm_id='failing')")
    target.execute("failing.on_msg(lambda message: 1 / message['content']['data']['n'])")
    lines = said(target, comm(target, "msg", "failing", data={"n": 0}))
    assert any("ZeroDivisionError" in line for line in lines)
    assert said(target, comm(target, "msg", "failing", data={"n": 1})) == []


def test_comm_info_lists_the_open_ones_by_target(target: KernelUnderTest) -> None:
    target.execute("a = comm.create_comm(target_name='one', comm_id='1')")
    target.execute("b = comm.create_comm(target_name='two', comm_id='2')")
    everything = target.reply(target.send("comm_info_request"))["comms"]
    assert everything["1"] == {"target_name": "one"} and everything["2"] == {"target_name": "two"}
    assert target.reply(target.send("comm_info_request", target_name="two"))["comms"] == {"2": {"target_name": "two"}}
    target.execute("a.close(); b.close()")
    assert not {"1", "2"} & set(target.reply(target.send("comm_info_request"))["comms"])


def test_callbacks_run_while_a_cell_awaits_and_speak_for_their_message(target: KernelUnderTest) -> None:  # O4
    target.outputs(comm(target, "open", "async", target_name="here", data={}))
    code = "import asyncio\nseen.clear(); print('on')\nwhile not seen: await asyncio.sleep(.005)\n'after'"
    cell = target.send("execute_request", code=code)
    target.wait_for("iopub", "stream", msg_id=cell, text="on")
    spoke = comm(target, "msg", "async", data={"n": 1})
    assert said(target, spoke) == ["stdout:callback {'n': 1}\n", "comm_msg"]
    assert target.reply(cell)["status"] == "ok"
    assert target.outputs(cell)[2:] == ["stdout:on\n", "execute_result:'after'", "status:idle"]


def test_messages_that_wait_for_a_blocking_cell_come_in_order_after_it(target: KernelUnderTest) -> None:
    target.outputs(comm(target, "open", "order", target_name="here", data={}))
    cell = target.send("execute_request", code="import time; seen.clear(); time.sleep(.2)")
    sent = [comm(target, "msg", "order", data={"n": n}) for n in range(20)]
    for one in sent:
        target.outputs(one)
    target.reply(cell)
    assert target.execute("[m[1]['n'] for m in seen]")[1] == [f"execute_result:{list(range(20))}"]


def test_a_callback_can_be_interrupted(target: KernelUnderTest) -> None:  # I8
    target.execute("import time; slow = comm.create_comm(target_name='t', comm_id='slow')")
    target.execute("slow.on_msg(lambda message: (print('on'), time.sleep(60)))")
    spoke = comm(target, "msg", "slow", data={})
    target.wait_for("iopub", "stream", msg_id=spoke, text="on")
    target.interrupt()
    assert brief(target.iopub(spoke)[-1]) == "status:idle"


def test_the_bridge_module_gives_the_kernels_own_manager(target: KernelUnderTest) -> None:
    code = (
        "import ipymini_bridge\none = ipymini_bridge.create_comm(target_name='b', comm_id='b')\n"
        "manager = ipymini_bridge.get_comm_manager()\n"
        "(manager is comm.get_comm_manager(), manager.get_comm('b') is one,"
        " isinstance(one, ipymini_bridge.Comm), sorted(ipymini_bridge.__all__))"
    )
    wanted = (True, True, True, ["Comm", "create_comm", "get_comm_manager"])
    assert target.execute(code)[1] == ["comm_open", f"execute_result:{wanted}"]


def test_widgets_find_their_comms(target: KernelUnderTest) -> None:
    lines = target.execute("import ipywidgets\nslider = ipywidgets.IntSlider(value=3)\nslider.comm is not None")[1]
    assert lines[-1] == "execute_result:True" and lines.count("comm_open") >= 1
    comm_id = target.execute("print(slider.comm.comm_id, end='')")[1][0].removeprefix("stdout:")
    target.outputs(comm(target, "msg", comm_id, data={"method": "update", "state": {"value": 7}, "buffer_paths": []}))
    assert target.execute("slider.value")[1] == ["execute_result:7"]
