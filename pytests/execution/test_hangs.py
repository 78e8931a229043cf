"""Completion, inspection and comm callbacks that do not come back: who else is answered, and what an interrupt does."""

from pathlib import Path
from typing import Any

import pytest
from harness import KernelUnderTest

HANGS = {"sleep": "time.sleep(60)", "loop": "while True: pass", "lock": "lock.acquire()"}
SETUP = """
import threading, time
lock = threading.Lock(); lock.acquire()
def hang():
    print('on')
    {hang}
class Hangs:
    def __dir__(self): hang()
    def __repr__(self): hang()
hangs = Hangs()
"""
QUESTIONS = {
    "complete_request": {"code": "hangs.", "cursor_pos": 6},
    "inspect_request": {"code": "hangs", "cursor_pos": 5},
}
NOTHING = {
    "complete_request": {"status": "ok", "matches": [], "cursor_start": 6, "cursor_end": 6, "metadata": {}},
    "inspect_request": {"status": "ok", "found": False, "data": {}, "metadata": {}},
}
BY = {"sigint": lambda kernel: kernel.interrupt(), "message": lambda kernel: kernel.ask_to_interrupt()}
SAID = ["status:busy", "stdout:on\n", "status:idle"]  # once, and no traceback


@pytest.fixture(params=BY, ids=str)
def strike(request: pytest.FixtureRequest) -> Any:
    return BY[request.param]


@pytest.fixture(params=HANGS, ids=str)
def hanging(kernel: KernelUnderTest, request: pytest.FixtureRequest) -> KernelUnderTest:
    """A kernel with an object `hangs`, whose `__dir__` and `__repr__` do not come back."""
    assert kernel.execute(SETUP.format(hang=HANGS[request.param]))[0]["status"] == "ok"
    return kernel


def begun(kernel: KernelUnderTest, msg_type: str, **content: Any) -> str:
    """Send a request; return its msg_id once its user code runs."""
    msg_id = kernel.send(msg_type, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text="on")
    return msg_id


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_interrupt_ends_a_question_that_hangs_and_the_cell_behind_it_runs(
    hanging: KernelUnderTest, strike: Any, question: str
) -> None:
    asked = begun(hanging, question, **QUESTIONS[question])
    cell = hanging.send("execute_request", code="'right'")

    strike(hanging)

    assert hanging.reply(asked) == NOTHING[question]
    assert hanging.outputs(asked) == SAID
    assert hanging.outputs(cell)[2:] == ["execute_result:'right'", "status:idle"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_interrupt_ends_the_cell_and_the_question_that_hangs_beside_it(
    hanging: KernelUnderTest, strike: Any, question: str
) -> None:
    cell = begun(hanging, "execute_request", code="print('on'); time.sleep(60)")
    asked = begun(hanging, question, **QUESTIONS[question])

    strike(hanging)

    assert hanging.reply(asked) == NOTHING[question]
    assert hanging.outputs(asked) == SAID
    assert hanging.reply(cell)["ename"] == "KeyboardInterrupt"
    assert hanging.execute("'right'")[1] == ["execute_result:'right'"]


def test_an_interrupt_ends_a_question_that_has_outlived_the_cell_it_was_asked_beside(
    hanging: KernelUnderTest, strike: Any, tmp_path: Path
) -> None:
    code = f"print('on')\nimport pathlib\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(.01)"
    cell = begun(hanging, "execute_request", code=code)
    asked = begun(hanging, "complete_request", **QUESTIONS["complete_request"])
    (tmp_path / "go").touch()
    assert hanging.reply(cell)["status"] == "ok"
    assert hanging.execute("'right'")[1] == ["execute_result:'right'"]
    assert hanging.reply_messages(asked) == []

    strike(hanging)

    assert hanging.reply(asked) == NOTHING["complete_request"]
    assert hanging.outputs(asked) == SAID


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("hang", ["sleep", "loop"])  # a bare lock is deaf where there are no signals
def test_an_interrupt_ends_a_question_that_hangs_in_a_subshell(
    kernel: KernelUnderTest, strike: Any, hang: str, question: str
) -> None:
    kernel.execute(SETUP.format(hang=HANGS[hang]))
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    asked = begun(kernel, question, header={"subshell_id": subshell}, **QUESTIONS[question])
    cell = kernel.send("execute_request", header={"subshell_id": subshell}, code="'right'")

    strike(kernel)

    assert kernel.reply(asked) == NOTHING[question]
    assert kernel.outputs(asked) == SAID
    assert kernel.outputs(cell)[2:] == ["execute_result:'right'", "status:idle"]
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_a_shutdown_answers_a_question_that_hangs_beside_a_cell(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute(SETUP.format(hang=HANGS["lock"]))
    begun(own_kernel, "execute_request", code="print('on'); time.sleep(60)")
    asked = begun(own_kernel, "complete_request", **QUESTIONS["complete_request"])

    own_kernel.reply(own_kernel.send("shutdown_request", channel="control", restart=False))

    assert own_kernel.reply(asked) == NOTHING["complete_request"]
    assert own_kernel.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]


def test_questions_do_not_wait_for_one_that_hangs(hanging: KernelUnderTest) -> None:
    hanging.execute("target_name = 1")
    on_the_main_lane = begun(hanging, "complete_request", **QUESTIONS["complete_request"])
    beside_it = begun(hanging, "inspect_request", **QUESTIONS["inspect_request"])

    found = hanging.send("complete_request", code="target_na", cursor_pos=9)
    others = [
        hanging.send("inspect_request", code="target_name", cursor_pos=4),
        hanging.send("is_complete_request", code="1"),
        hanging.send("history_request", hist_access_type="tail", n=1, raw=True, output=False),
        hanging.send("comm_info_request"),
        hanging.send("kernel_info_request"),
    ]

    assert hanging.reply(found)["matches"] == ["target_name"]
    statuses = [reply["status"] for reply in hanging.replies(*others).values()]
    assert statuses == ["ok", "complete", "ok", "ok", "ok"]
    assert hanging.reply_messages(on_the_main_lane) == hanging.reply_messages(beside_it) == []
    hanging.interrupt()
    assert hanging.reply(on_the_main_lane) == NOTHING["complete_request"]
    assert hanging.reply(beside_it) == NOTHING["inspect_request"]


def test_an_interrupt_ends_an_input_transformer_that_hangs(kernel: KernelUnderTest, strike: Any) -> None:
    kernel.execute(
        "import time\ndef hang(lines):\n if 'hang\\n' in lines: print('on'); time.sleep(60)\n return lines\n"
        "get_ipython().input_transformers_cleanup.append(hang)"
    )
    asked = begun(kernel, "is_complete_request", code="hang\n")

    strike(kernel)

    assert kernel.reply(asked) == {"status": "unknown"}
    assert kernel.outputs(asked) == SAID
    kernel.execute("get_ipython().input_transformers_cleanup.remove(hang)")


# ---- comm callbacks that take long -----------------------------------------------------------

SLOW_COMM = """
import comm, time
def slow(message):
    print('on')
    time.sleep(60)  # longer than any deadline here
comm.get_comm_manager().register_target('slow', lambda opened, message: opened.on_msg(slow))
target_name = 1
"""


@pytest.fixture
def slow_comm(kernel: KernelUnderTest) -> KernelUnderTest:
    """A kernel with a comm "c" whose callback sleeps."""
    kernel.execute(SLOW_COMM)
    kernel.outputs(kernel.send("comm_open", comm_id="c", target_name="slow", data={}))
    return kernel


@pytest.mark.parametrize("how", ["at once", "later"])
def test_questions_do_not_wait_for_a_comm_callback(slow_comm: KernelUnderTest, how: str) -> None:
    kernel = slow_comm
    called = kernel.send("comm_msg", comm_id="c", data={})
    if how == "later":
        kernel.wait_for("iopub", "stream", msg_id=called, text="on")
    found = kernel.send("complete_request", code="target_na", cursor_pos=9)
    others = [kernel.send("inspect_request", code="target_name", cursor_pos=4), kernel.send("kernel_info_request")]

    assert kernel.reply(found)["matches"] == ["target_name"]
    assert {reply["status"] for reply in kernel.replies(*others).values()} == {"ok"}
    kernel.interrupt()
    assert kernel.outputs(called)[-1] == "status:idle"


def test_cells_stay_in_order_behind_a_comm_callback(slow_comm: KernelUnderTest) -> None:
    kernel = slow_comm
    called = begun(kernel, "comm_msg", comm_id="c", data={})
    cells = [
        kernel.send("execute_request", code=f"order = [*globals().get('order', []), {n}]; order") for n in range(4)
    ]
    kernel.reply(kernel.send("complete_request", code="target_na", cursor_pos=9))

    kernel.interrupt()

    assert kernel.outputs(cells[-1])[2:] == ["execute_result:[0, 1, 2, 3]", "status:idle"]
    assert kernel.outputs(called)[-1] == "status:idle"
