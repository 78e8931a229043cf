"""Interrupts of several shells at once, over the wire."""

from typing import Any

import pytest
from busy import BUSY, SLEEP
from harness import KernelUnderTest
from subshells import outputs, run, running, send

BY = {"sigint": lambda kernel: kernel.interrupt(), "message": lambda kernel: kernel.ask_to_interrupt()}


@pytest.fixture(params=BY, ids=str)
def strike(request: pytest.FixtureRequest) -> Any:
    return BY[request.param]


@pytest.mark.parametrize("name", BUSY)
def test_one_interrupt_ends_the_cells_of_all_shells(
    kernel: KernelUnderTest, subshells: list[str], strike: Any, name: str
) -> None:
    # I8, I17, I18, I19
    cells = [running(kernel, one, BUSY[name], allow_stdin=True) for one in (None, *subshells)]
    strike(kernel)
    for cell in cells:
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
        error = f"error:KeyboardInterrupt:{'Interrupted by user' if name == 'input' else ''}"  # as ipykernel says it
        assert [line for line in outputs(kernel, cell) if line.startswith("error")] == [error]
        assert not [line for line in outputs(kernel, cell) if line.startswith("stderr")]
        assert kernel.outputs(cell).count("status:idle") == 1
        assert len(kernel.reply_messages(cell)) == 1
    for one in (None, *subshells):
        assert run(kernel, one, "import time; time.sleep(.02); 'right'")[1] == ["execute_result:'right'"]


@pytest.mark.parametrize("await_", ["", "import asyncio; await asyncio.sleep(0)\n"], ids=["plain", "async"])
def test_an_interrupt_while_a_name_is_deleted_is_an_interrupt(
    kernel: KernelUnderTest, subshells: list[str], await_: str
) -> None:  # I17: CPython makes a NameError of whatever `del` meets
    for _ in range(15):
        cell = running(kernel, subshells[0], f"{await_}print('on')\nwhile True:\n name = 1\n del name")
        kernel.interrupt()
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert run(kernel, subshells[0], f"{await_}del nothing")[0]["ename"] == "NameError"


def test_a_mixed_crowd_is_interrupted_at_once(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I17
    codes = [BUSY[name] for name in ("sleep", "await", "loop", "input")]
    cells = [running(kernel, one, code, allow_stdin=True) for one, code in zip((None, *subshells), codes, strict=True)]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 4


def test_busy_subshells_are_interrupted_while_the_main_shell_is_idle(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:
    cells = [running(kernel, one, SLEEP) for one in subshells]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 3
    assert kernel.execute("'idle was right'")[1] == ["execute_result:'idle was right'"]


def test_a_sleeping_subshell_wakes_promptly(kernel: KernelUnderTest, subshells: list[str]) -> None:  # I19
    cell = running(
        kernel,
        subshells[0],
        "import time\nprint('on')\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print(time.monotonic())",
    )
    asked = float(run(kernel, None, "import time; time.monotonic()")[1][0].removeprefix("execute_result:"))
    kernel.ask_to_interrupt()
    kernel.reply(cell)
    struck = float("".join(outputs(kernel, cell)).removeprefix("stdout:").split("\n")[1])
    assert struck - asked < 1.0


def test_waiting_for_a_child_process_is_as_elsewhere(kernel: KernelUnderTest, subshells: list[str]) -> None:
    code = (
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\ntry: child.wait(.02)\nexcept subprocess.TimeoutExpired as error: print(error.timeout)\n"
        "child.kill(); codes = child.wait(), child.wait(5), subprocess.run(['sh', '-c', 'exit 3']).returncode, subprocess.check_output(['echo', 'x'])\ncodes"
    )
    assert [run(kernel, one, code)[1] for one in (None, subshells[0])] == [
        ["stdout:0.02\n", "execute_result:(-9, -9, 3, b'x\\n')"]
    ] * 2


def test_an_idle_subshell_is_not_disturbed(kernel: KernelUnderTest, subshells: list[str], strike: Any) -> None:  # I1
    for number in range(10):
        strike(kernel)
        kernel.execute("'the signal has been handled by now'")
        assert run(kernel, subshells[0], f"import time; time.sleep(0.001); {number}")[1] == [f"execute_result:{number}"]


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep({0})",
        "import asyncio; await asyncio.sleep({0})",
        "for _ in range(int(1e7 * {0})): pass",
    ],
)
def test_an_interrupt_hits_the_subshells_cell_it_races_or_nothing(
    kernel: KernelUnderTest, subshells: list[str], strike: Any, code: str
) -> None:
    # I2, I3, I4, I18
    for number in range(30):
        cells = [send(kernel, one, code.format(number % 6 * 0.0005), stop_on_error=False) for one in subshells]
        kernel.wait_for("iopub", "execute_input", msg_id=cells[number % 3])
        strike(kernel)
        kernel.execute("'the signal has been handled by now'")
        for one, cell in zip(subshells, cells, strict=True):
            assert kernel.reply(cell).get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
            assert kernel.outputs(cell).count("status:idle") == 1
            assert run(kernel, one, "import time; time.sleep(.003); 'right'")[1] == ["execute_result:'right'"]
            assert len(kernel.reply_messages(cell)) == 1


def test_a_subshells_cell_may_catch_it_and_go_on(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I13
    code = (
        "import asyncio, time\nprint('on')\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')\n"
        "time.sleep(.01); await asyncio.sleep(.01); print('end')"
    )
    cell = running(kernel, subshells[0], code)
    strike(kernel)
    assert kernel.reply(cell)["status"] == "ok"
    assert "".join(outputs(kernel, cell)).endswith("caught\nend\n")


def test_two_interrupts_of_a_subshell_leave_it_alive(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I12, I24
    code = """
        import time
        try:
            print('on')
            time.sleep(60)
        except KeyboardInterrupt:
            print('caught')
            time.sleep(60)
    """
    cell = running(kernel, subshells[0], code)
    strike(kernel)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="caught")
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert run(kernel, subshells[0], "'alive'")[1] == ["execute_result:'alive'"]


def test_tasks_of_a_subshells_earlier_cells_survive_an_interrupt(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I15
    start = "import asyncio\nticks = [0]\nasync def task():\n while True: ticks[0] += 1; await asyncio.sleep(.001)\njob = asyncio.create_task(task())"
    run(kernel, subshells[0], start)
    for name in ("await", "sleep"):
        cell = running(kernel, subshells[0], BUSY[name])
        strike(kernel)
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    grows = "before = ticks[0]\nwhile ticks[0] == before: await asyncio.sleep(.001)\njob.done()"
    assert run(kernel, subshells[0], grows)[1] == ["execute_result:False"]
    run(kernel, subshells[0], "job.cancel()")


def test_an_interrupt_aborts_what_waits_in_each_subshell(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I16
    cells = [running(kernel, one, SLEEP) for one in subshells]
    queued = [send(kernel, one, "'queued'") for one in subshells]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 3
    assert [kernel.reply(cell)["status"] for cell in queued] == ["aborted"] * 3
