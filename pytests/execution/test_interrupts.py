"""Interrupts of the main shell, by SIGINT and by interrupt_request, over the wire."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

import pytest
from busy import BUSY, SLEEP
from harness import KernelUnderTest

BY = {"sigint": lambda kernel: kernel.interrupt(), "message": lambda kernel: kernel.ask_to_interrupt()}


# A subshell's thread gets no signals, and nothing else ends a wait for a bare lock.
CELLS = {**BUSY, "lock": "import threading; lock = threading.Lock(); lock.acquire(); print('on'); lock.acquire()"}


@pytest.fixture(params=BY, ids=str)
def strike(request: pytest.FixtureRequest) -> Any:
    return BY[request.param]


def running(kernel: KernelUnderTest, code: str, text: str = "on", **content: Any) -> str:
    msg_id = kernel.send("execute_request", code=code, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text=text)
    return msg_id


@pytest.mark.parametrize("name", CELLS)
def test_an_interrupt_ends_the_cell_with_a_keyboardinterrupt(kernel: KernelUnderTest, strike: Any, name: str) -> None:
    # I5, I6, I7, I8, I24, I25
    cell = running(kernel, CELLS[name], allow_stdin=True)
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    error = f"error:KeyboardInterrupt:{'Interrupted by user' if name == 'input' else ''}"  # as ipykernel says it
    assert [line for line in kernel.outputs(cell) if line.startswith("error")] == [error]
    assert not [line for line in kernel.outputs(cell) if line.startswith("stderr")]
    assert len(kernel.reply_messages(cell)) == 1


def test_a_keyboardinterrupt_that_is_lost_without_an_interrupt_is_pythons(kernel: KernelUnderTest) -> None:
    reply, outputs = kernel.execute("class Raises:\n def __del__(self): raise KeyboardInterrupt\nRaises()\n'on'")
    assert reply["status"] == "ok"
    assert "Exception ignored" in "".join(outputs) and outputs[-1] == "execute_result:'on'"


def test_an_idle_kernel_is_not_disturbed(kernel: KernelUnderTest, strike: Any) -> None:  # I1
    for number in range(20):
        strike(kernel)
        assert kernel.execute(f"{number}")[1] == [f"execute_result:{number}"]


@pytest.mark.parametrize("delay", [0, 0.0005, 0.001, 0.002, 0.004])
def test_an_interrupt_hits_the_cell_it_races_or_nothing(
    kernel: KernelUnderTest, delay: float
) -> None:  # I2, I3, I4, I11
    for _ in range(10):
        first = kernel.send("execute_request", code=f"import time; time.sleep({delay})", stop_on_error=False)
        if delay:
            kernel.wait_for("iopub", "execute_input", msg_id=first)
        kernel.interrupt()
        kernel.reply(first)
        kernel.outputs(first)
        reply, outputs = kernel.execute("'right'")
        assert (reply["status"], outputs) == ("ok", ["execute_result:'right'"])
        assert len(kernel.reply_messages(first)) == 1
        assert kernel.outputs(first).count("status:idle") == 1


def test_the_second_interrupt_ends_what_catches_the_first_and_nothing_else(
    kernel: KernelUnderTest, strike: Any
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
    cell = running(kernel, code)
    strike(kernel)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="caught")  # two signals at once would be one
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert kernel.execute("'alive'")[1] == ["execute_result:'alive'"]


def test_a_cell_may_catch_it_and_go_on(kernel: KernelUnderTest, strike: Any) -> None:  # I13
    code = "import time\ntry: print('on'); time.sleep(60)\nexcept KeyboardInterrupt: print('caught')\nprint('end')"
    cell = running(kernel, code)
    strike(kernel)
    assert kernel.reply(cell)["status"] == "ok"
    assert "".join(line for line in kernel.outputs(cell) if line.startswith("stdout")).endswith("caught\nend\n")


def test_cleanup_code_runs_and_its_output_belongs_to_the_cell(kernel: KernelUnderTest, strike: Any) -> None:  # I14
    sync = "import time\ntry: print('on'); time.sleep(60)\nfinally: print('clean')"
    waits = (
        "import asyncio, contextlib\n@contextlib.asynccontextmanager\nasync def room():\n"
        " try: yield\n finally:\n  await asyncio.sleep(0); print('clean')\n"
        "async with room():\n print('on'); await asyncio.sleep(60)"
    )
    for code in (sync, waits):
        cell = running(kernel, code)
        strike(kernel)
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
        assert "clean\n" in "".join(kernel.outputs(cell))


def test_tasks_and_threads_of_earlier_cells_survive(kernel: KernelUnderTest, strike: Any) -> None:  # I15
    kernel.execute(
        "import asyncio, threading, time\nticks, stop = [0, 0], threading.Event()\n"
        "async def task():\n while True: ticks[0] += 1; await asyncio.sleep(.001)\n"
        "def thread():\n while not stop.wait(.001): ticks[1] += 1\n"
        "job = asyncio.create_task(task()); threading.Thread(target=thread).start()"
    )
    for code in (BUSY["await"], SLEEP):
        cell = running(kernel, code)
        strike(kernel)
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    grows = "before = list(ticks)\nwhile not all(a > b for a, b in zip(ticks, before)): await asyncio.sleep(.001)\njob.done()"
    assert kernel.execute(grows)[1] == ["execute_result:False"]
    kernel.execute("stop.set(); job.cancel()")


def test_a_task_of_an_earlier_cell_that_blocks_the_loop_does_not_save_the_cell(kernel: KernelUnderTest) -> None:
    kernel.execute(
        "import asyncio, time\nasync def nap():\n await asyncio.sleep(.05); time.sleep(.3)\nnapping = asyncio.create_task(nap())"
    )
    cell = running(kernel, BUSY["await"])
    kernel.interrupt()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"


def test_what_was_sent_before_is_aborted_and_what_is_sent_after_runs(
    kernel: KernelUnderTest, strike: Any
) -> None:  # I16
    cell = running(kernel, SLEEP)
    queued = [kernel.send("execute_request", code="'queued'") for _ in range(3)]
    kernel.reply(kernel.send("kernel_info_request"))  # on the same socket: the others have arrived
    strike(kernel)
    replies = kernel.replies(cell, *queued)
    assert [replies[one]["status"] for one in (cell, *queued)] == ["error", "aborted", "aborted", "aborted"]


def test_children_of_the_group_are_interrupted(kernel: KernelUnderTest, strike: Any) -> None:  # I20
    cell = running(kernel, "import subprocess; print('on'); subprocess.run(['sh', '-c', 'sleep 60; echo no'])")
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"


ENDED_BY = "child.terminate(); child.wait()"  # a SIGINT before would be it: -2

LATE = """
import threading
from ipymini.serving.interrupts import Interrupts
from ipymini.kernel import Kernel
afterwards, interrupt, interrupted = Kernel._afterwards, Interrupts.send, threading.Event()
def late(self, request):
    interrupted.wait(10)
    afterwards(self, request)
def interrupting(self, **options):
    interrupt(self, **options)
    interrupted.set()
Kernel._afterwards, Interrupts.send = late, interrupting
"""


def test_an_interrupt_between_idle_and_the_end_of_the_cell_spares_background_children(
    own_kernel: KernelUnderTest,
) -> None:
    own_kernel.execute(f"import subprocess; child = subprocess.Popen(['sleep', '60'])\n{LATE}")
    own_kernel.ask_to_interrupt()
    assert own_kernel.execute(ENDED_BY)[1] == ["execute_result:-15"]


def test_an_idle_interrupt_request_spares_background_children(kernel: KernelUnderTest) -> None:
    kernel.execute("import subprocess; child = subprocess.Popen(['sleep', '60'])")
    kernel.ask_to_interrupt()
    assert kernel.execute(ENDED_BY)[1] == ["execute_result:-15"]


def test_the_reply_to_interrupt_request_does_not_wait_for_the_main_thread(
    kernel: KernelUnderTest, tmp_path: Path
) -> None:  # I21, Q11
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # given: a main thread that is in a call of C, with signals blocked
    stubborn = f"""
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        print('on')
        try:
            open({str(gate)!r}).close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
    """
    cell = running(kernel, stubborn)
    assert kernel.ask_to_interrupt()["status"] == "ok"
    assert not kernel.reply_messages(cell)
    gate.open("w").close()
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"


def test_a_storm_of_interrupts_cuts_no_message(kernel: KernelUnderTest) -> None:  # I23
    code = "import os\nn = 0\nwhile n < 300:\n try:\n  while n < 300: print('line', n); n += 1\n except KeyboardInterrupt: pass"
    cell = kernel.send("execute_request", code=code)
    kernel.wait_for("iopub", "stream", msg_id=cell)
    for _ in range(20):
        kernel.interrupt()
    kernel.reply(cell)
    text = "".join(line.removeprefix("stdout:") for line in kernel.outputs(cell) if line.startswith("stdout:"))
    # A print may end between two of its writes, the newline's among them; what has been written is whole.
    assert [line for line in text.split("\n") if not re.fullmatch(r"(line( \d*)?)*", line)] == []


def test_an_interrupt_ends_input_and_the_prompt_is_withdrawn(kernel: KernelUnderTest, strike: Any) -> None:  # I9, I10
    for name, ask in itertools.product(("input", "getpass"), range(2)):
        code = "from getpass import getpass\n" + f"print('on'); {name}('first {ask}')"
        cell = running(kernel, code, allow_stdin=True)
        asked = kernel.wait_for("stdin", "input_request", msg_id=cell)
        strike(kernel)
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
        late = kernel.send("execute_request", code="input('second')", allow_stdin=True)
        kernel.wait_for("stdin", "input_request", msg_id=late)
        kernel.send("input_reply", channel="stdin", value="late", parent=asked["header"])
        kernel.answer_input("right")
        assert "execute_result:'right'" in kernel.outputs(late)
