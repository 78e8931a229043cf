"""What a running cell may ask for: comm messages while it is busy, unlock, a subshell for what comes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness import KernelUnderTest

TARGET = (
    "import asyncio, comm, time\nfrom ipymini import process_events, subshell, unlock\ngot = []\n"
    "def opened(one, message):\n one.on_msg(lambda m: (got.append(m['content']['data']), print('got', m['content']['data'])))\n"
    "comm.get_comm_manager().register_target('t', opened)"
)


@pytest.fixture
def comm_id(kernel: KernelUnderTest) -> Iterator[str]:
    """An open comm whose messages are appended to `got`."""
    kernel.execute(TARGET)
    kernel.outputs(kernel.send("comm_open", comm_id="c", target_name="t", data={}))
    yield "c"
    kernel.outputs(kernel.send("comm_close", comm_id="c", data={}))


def running(kernel: KernelUnderTest, code: str, **content: Any) -> str:
    msg_id = kernel.send("execute_request", code=code, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text="on")
    return msg_id


def said(kernel: KernelUnderTest, msg_id: str) -> list[str]:
    return [line for line in kernel.outputs(msg_id) if not line.startswith(("status:", "execute_input:"))]


def tell(kernel: KernelUnderTest, comm_id: str, data: Any, **header: Any) -> str:
    return kernel.send("comm_msg", header=header, comm_id=comm_id, data=data)


# ---- comm messages while a cell is busy ------------------------------------------------------


def test_comm_messages_are_handled_while_a_cell_awaits(kernel: KernelUnderTest, comm_id: str) -> None:  # O4, O5
    cell = running(kernel, "print('on')\nwhile len(got) < 3: await asyncio.sleep(.001)\nprint('mine'); got")
    messages = [tell(kernel, comm_id, number) for number in range(3)]
    assert [kernel.outputs(one) for one in messages] == [
        ["status:busy", f"stdout:got {n}\n", "status:idle"] for n in range(3)
    ]
    assert said(kernel, cell) == ["stdout:on\nmine\n", "execute_result:[0, 1, 2]"]


def test_process_events_handles_them_inside_a_blocking_cell(kernel: KernelUnderTest, comm_id: str) -> None:  # O4, O5
    cell = running(
        kernel,
        "print('on'); count = 0\nwhile len(got) < 3: count += process_events(); time.sleep(.001)\nprint('mine'); count",
    )
    behind = kernel.send("execute_request", code="'behind'")
    messages = [tell(kernel, comm_id, number) for number in range(3)]
    assert [kernel.outputs(one) for one in messages] == [
        ["status:busy", f"stdout:got {n}\n", "status:idle"] for n in range(3)
    ]
    assert said(kernel, cell) == ["stdout:on\nmine\n", "execute_result:3"]
    assert said(kernel, behind) == ["execute_result:'behind'"]


def test_process_events_works_in_a_subshell(kernel: KernelUnderTest, comm_id: str) -> None:
    subshell_id = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    cell = running(
        kernel,
        "print('on')\nwhile not got: process_events(); time.sleep(.001)\ngot",
        header={"subshell_id": subshell_id},
    )
    assert kernel.outputs(tell(kernel, comm_id, 5, subshell_id=subshell_id))[1] == "stdout:got 5\n"
    assert said(kernel, cell)[-1] == "execute_result:[5]"
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell_id))


def test_an_error_in_a_callback_leaves_the_polling_cell_alone(kernel: KernelUnderTest, comm_id: str) -> None:
    kernel.execute(
        "def bad(one, message): one.on_msg(lambda m: 1/0)\ncomm.get_comm_manager().register_target('bad', bad)"
    )
    kernel.outputs(kernel.send("comm_open", comm_id="bad", target_name="bad", data={}))
    cell = running(kernel, "print('on')\nwhile not got: process_events(); time.sleep(.001)\n'right'")
    failing = tell(kernel, "bad", 1)
    tell(kernel, comm_id, 2)
    assert said(kernel, cell)[-1] == "execute_result:'right'"
    assert "ZeroDivisionError" in "".join(kernel.outputs(failing))


def test_a_polling_cell_can_be_interrupted(kernel: KernelUnderTest, comm_id: str) -> None:
    cell = running(kernel, "print('on')\nwhile True: process_events()")
    kernel.outputs(tell(kernel, comm_id, 1))
    kernel.ask_to_interrupt()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"


def test_process_events_outside_of_a_cells_thread_does_nothing(kernel: KernelUnderTest, comm_id: str) -> None:
    code = "import threading; box = []; thread = threading.Thread(target=lambda: box.append(process_events())); thread.start(); thread.join(); box"
    assert kernel.execute(code)[1] == ["execute_result:[0]"]


# ---- jupyter_ui_poll --------------------------------------------------------------------------------


POLLS = {
    "ui_events": "from jupyter_ui_poll import ui_events\nwith ui_events() as poll:\n while len(got) < 2: poll(1); time.sleep(.001)\ngot",
    "with_ui_events": "from jupyter_ui_poll import with_ui_events\nimport itertools\nfor _ in with_ui_events(itertools.count(), 10):\n time.sleep(.001)\n if len(got) >= 2: break\ngot",
    "run_ui_poll_loop": "from jupyter_ui_poll import run_ui_poll_loop\nrun_ui_poll_loop(lambda: got if len(got) >= 2 else None, sleep=.001)",
    "async": "from jupyter_ui_poll import ui_events\nasync with ui_events() as poll:\n while len(got) < 2: await poll(1); await asyncio.sleep(.001)\ngot",
}


@pytest.mark.parametrize("name", POLLS)
def test_jupyter_ui_poll_works(kernel: KernelUnderTest, comm_id: str, name: str) -> None:
    cell = running(kernel, "print('on')\n" + POLLS[name])
    behind = [kernel.send("execute_request", code=f"'behind {n}'") for n in range(2)]
    messages = [tell(kernel, comm_id, number) for number in range(2)]
    assert [kernel.outputs(one)[1] for one in messages] == ["stdout:got 0\n", "stdout:got 1\n"]
    assert said(kernel, cell)[-1] == "execute_result:[0, 1]"
    assert [said(kernel, one) for one in behind] == [["execute_result:'behind 0'"], ["execute_result:'behind 1'"]]
    assert kernel.execute("'after'")[1] == ["execute_result:'after'"]


def test_a_widgets_value_arrives_while_a_cell_polls(kernel: KernelUnderTest) -> None:
    setup = "import ipywidgets, time\nfrom jupyter_ui_poll import ui_events\nfrom ipymini import process_events\nslider = ipywidgets.IntSlider(); slider.comm.comm_id"
    comm_id = kernel.execute(setup)[1][-1].removeprefix("execute_result:").strip("'")
    for number, wait in enumerate(("process_events()", "poll(1)"), 1):
        cell = running(
            kernel,
            f"print('on')\nwith ui_events() as poll:\n while slider.value != {number}: {wait}; time.sleep(.001)\nslider.value",
        )
        tell(kernel, comm_id, {"method": "update", "state": {"value": number}, "buffer_paths": []})
        assert said(kernel, cell)[-1] == f"execute_result:{number}"


# ---- unlock ---------------------------------------------------------------------------------------------


def test_queued_cells_run_while_an_unlocked_cell_awaits(kernel: KernelUnderTest) -> None:
    kernel.execute("import asyncio\nfrom ipymini import unlock\ngate = asyncio.Event()")
    first = running(kernel, "with unlock():\n print('on'); await gate.wait(); print('opened')\n'first'")
    assert kernel.execute("print('second'); gate.set()")[1] == ["stdout:second\n"]
    assert said(kernel, first) == ["stdout:on\nopened\n", "execute_result:'first'"]


ENDS = {
    "exit": "await asyncio.sleep(0)",
    "error": "raise ValueError",
    "interrupt": "print('on'); await asyncio.sleep(60)",
}


@pytest.mark.parametrize("end", ENDS)
def test_after_the_block_cells_wait_for_each_other_again(kernel: KernelUnderTest, end: str) -> None:
    kernel.execute("import asyncio\nfrom ipymini import unlock; order = []")
    cell = kernel.send("execute_request", code=f"with unlock():\n {ENDS[end]}", stop_on_error=False)
    if end == "interrupt":
        kernel.wait_for("iopub", "stream", msg_id=cell)
        kernel.ask_to_interrupt()
    assert (
        kernel.reply(cell).get("ename", "")
        == {"exit": "", "error": "ValueError", "interrupt": "KeyboardInterrupt"}[end]
    )
    slow = kernel.send("execute_request", code="await asyncio.sleep(.05); order.append('slow')")
    kernel.reply(kernel.send("execute_request", code="order.append('fast')"))
    kernel.reply(slow)
    assert kernel.execute("order")[1] == ["execute_result:['slow', 'fast']"]


def test_unlocked_cells_keep_their_own_counts_and_results(kernel: KernelUnderTest) -> None:  # B8
    kernel.execute("import asyncio\nfrom ipymini import unlock\ngate = asyncio.Event()")
    first = running(kernel, "with unlock():\n print('on'); await gate.wait()\n'first'")
    second, outputs = kernel.execute("'second'")
    kernel.execute("gate.set()")
    count = kernel.reply(first)["execution_count"]
    assert (second["execution_count"], outputs) == (count + 1, ["execute_result:'second'"])
    assert kernel.execute(f"Out[{count}], Out[{count + 1}]")[1] == ["execute_result:('first', 'second')"]


def test_an_interrupt_ends_all_unlocked_cells(kernel: KernelUnderTest) -> None:  # I17
    kernel.execute("import asyncio\nfrom ipymini import unlock")
    cells = [
        running(kernel, "with unlock():\n print('on'); await asyncio.sleep(60)", stop_on_error=False) for _ in range(3)
    ]
    kernel.ask_to_interrupt()
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 3
    assert kernel.execute("'alive'")[1] == ["execute_result:'alive'"]


# ---- subshell -------------------------------------------------------------------------------------------


HERE = "import threading; threading.current_thread().name"


def subshells(kernel: KernelUnderTest) -> list[str]:
    found: list[str] = kernel.reply(kernel.send("list_subshell_request", channel="control"))["subshell_id"]
    return found


def test_later_cells_of_the_same_client_run_beside_the_one_that_asked(kernel: KernelUnderTest) -> None:
    kernel.execute("import threading\nfrom ipymini import subshell\ngate = threading.Event()")
    first = running(kernel, "with subshell() as subshell_id:\n print('on'); gate.wait(20)\n" + HERE)
    (subshell_id,) = subshells(kernel)
    cell = kernel.send("execute_request", code=HERE)
    assert said(kernel, cell) == [f"execute_result:'ipymini-subshell-{subshell_id[:4]}'"]
    kernel.reply(cell)
    assert "subshell_id" not in kernel.reply_messages(cell)[0]["parent_header"]
    kernel.execute("gate.set()")
    assert said(kernel, first)[-1] == "execute_result:'MainThread'"
    assert kernel.execute(HERE)[1] == ["execute_result:'MainThread'"]
    assert subshells(kernel) == []


def test_other_clients_cells_stay_where_they_were(kernel: KernelUnderTest) -> None:
    kernel.execute("import threading, asyncio\nfrom ipymini import subshell, unlock\ngate = threading.Event()")
    first = running(
        kernel, "with subshell(), unlock():\n print('on')\n while not gate.is_set(): await asyncio.sleep(.001)"
    )
    other = kernel.second_client()
    assert other.execute(HERE)[1] == ["execute_result:'MainThread'"]
    other.client.stop_channels()
    kernel.execute("gate.set()")
    assert kernel.reply(first)["status"] == "ok"


@pytest.mark.parametrize("end", ["error", "interrupt", "deleted"])
def test_the_detour_ends_with_the_block_however_it_ends(kernel: KernelUnderTest, end: str) -> None:
    kernel.execute("import threading\nfrom ipymini import subshell\ngate = threading.Event()")
    first = running(kernel, "with subshell():\n print('on'); gate.wait(20); 1/0")
    if end == "interrupt":
        kernel.ask_to_interrupt()
    elif end == "deleted":
        kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshells(kernel)[0]))
        kernel.ask_to_interrupt()
    else:
        kernel.execute("gate.set()")
    assert kernel.reply(first)["ename"] == ("ZeroDivisionError" if end == "error" else "KeyboardInterrupt")
    assert subshells(kernel) == []
    assert kernel.execute(HERE)[1] == ["execute_result:'MainThread'"]


def test_a_cell_on_the_temporary_subshell_is_let_finish(kernel: KernelUnderTest) -> None:
    kernel.execute("import threading\nfrom ipymini import subshell\ngate, last = threading.Event(), threading.Event()")
    first = running(kernel, "with subshell(): print('on'); gate.wait(20)")
    beside = running(kernel, "print('on'); gate.set(); last.wait(20); 'finished'")
    assert kernel.reply(first)["status"] == "ok"
    assert kernel.execute("last.set()")[0]["status"] == "ok"
    assert said(kernel, beside)[-1] == "execute_result:'finished'"


def test_what_still_runs_on_a_temporary_subshell_can_be_interrupted(kernel: KernelUnderTest) -> None:  # I17
    kernel.execute("import threading, time\nfrom ipymini import subshell\ngate = threading.Event()")
    first = running(kernel, "with subshell(): print('on'); gate.wait(20)")
    beside = running(kernel, "print('on'); gate.set(); time.sleep(60)")
    assert kernel.reply(first)["status"] == "ok"
    kernel.ask_to_interrupt()
    assert kernel.reply(beside)["ename"] == "KeyboardInterrupt"


def test_detours_nest(kernel: KernelUnderTest) -> None:
    kernel.execute("import threading\nfrom ipymini import subshell\ngates = [threading.Event() for _ in range(2)]")
    outer = running(kernel, "with subshell(): print('on'); gates[0].wait(20)")
    inner = running(kernel, "with subshell(): print('on'); gates[1].wait(20)")
    assert len({kernel.execute(HERE)[1][0] for _ in range(2)}) == 1
    kernel.execute("gates[1].set()")
    assert kernel.reply(inner)["status"] == "ok"
    kernel.execute("gates[0].set()")
    assert kernel.reply(outer)["status"] == "ok"
    assert kernel.execute(HERE)[1] == ["execute_result:'MainThread'"]


# ---- without a kernel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unlock", "subshell", "process_events"])
def test_without_a_kernel_they_say_so(name: str) -> None:
    import ipymini
    from ipymini.cells import NoKernel

    function: Callable[[], Any] = getattr(ipymini, name)
    with pytest.raises(NoKernel, match="expected to be called by a cell"):
        context = function()
        context.__enter__()
