"""Interrupts of shell commands, of code that magics run, and of debuggers: one ends the cell, and what is queued is aborted."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import KernelUnderTest

BY: dict[str, Callable[[KernelUnderTest], object]] = {
    "sigint": lambda kernel: kernel.interrupt(),
    "message": lambda kernel: kernel.ask_to_interrupt(),
}
COMMANDS = {
    "!": "!echo on; sleep 60\nprint('must not run')",
    "! with children": "!echo on; sh -c 'sleep 60; echo no' | cat\nprint('must not run')",
    "! in a loop": "for _ in range(60):\n    !echo on; sleep 1\nprint('must not run')",
    "! that ignores": "!trap '' INT TERM; echo on; while true; do sleep 1; done\nprint('must not run')",
    "x = !": "print('on')\nx = !sleep 60\nprint('must not run')",
    "!!": "print('on')\nget_ipython().getoutput('sleep 60')\nprint('must not run')",
    "%sx": "print('on')\n%sx sleep 60\nprint('must not run')",
    "%system": "print('on')\n%system sleep 60\nprint('must not run')",
    "system_raw": "print('on')\nget_ipython().system_raw('sleep 60')\nprint('must not run')",
    "%run": "%run SCRIPT\nprint('must not run')",
    "%run ipy": "%run SCRIPT.ipy\nprint('must not run')",
    "%run -m": "import sys; sys.path.insert(0, 'FOLDER')\n%run -m script\nprint('must not run')",
    "%%capture": "%%capture\nimport sys, time\nprint('on', file=sys.__stderr__); display_on()\ntime.sleep(60)",
    "run_cell": "get_ipython().run_cell(\"import time; print('on'); time.sleep(60)\")\nprint('must not run')",
    "%%time": "%%time\nimport time\nprint('on')\ntime.sleep(60)\nprint('must not run')",
    "%%bash": "%%bash\necho on\nsleep 60\necho must not run",
}
SCRIPT = "import time\nprint('on')\ntime.sleep(60)\nprint('must not run')\n"


@pytest.fixture(params=["main", "subshell"])
def header(kernel: KernelUnderTest, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where a cell runs: in the main shell, or in a subshell, where no signals are."""
    if request.param == "main":
        yield {}
        return
    made = kernel.reply(kernel.send("create_subshell_request", channel="control"))
    yield {"subshell_id": made["subshell_id"]}
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=made["subshell_id"]))


def ends(
    kernel: KernelUnderTest, cell: str, strike: Callable[[KernelUnderTest], object], header: Any
) -> dict[str, Any]:
    """Interrupt a cell that has another one behind it; return its reply."""
    queued = kernel.send("execute_request", code="print('must not run')", header=header)
    kernel.reply(kernel.send("kernel_info_request"))  # on the same socket: the queued one has arrived
    strike(kernel)
    replies = kernel.replies(cell, queued)
    assert replies[queued]["status"] == "aborted"
    assert "must not run" not in "".join(line for line in kernel.outputs(cell) if line.startswith("stdout:"))
    return replies[cell]


@pytest.mark.parametrize("strike", BY.values(), ids=BY)
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_ends_a_command_and_its_cell(
    kernel: KernelUnderTest, name: str, strike: Any, header: Any, tmp_path: Path
) -> None:  # I8, I16, I20
    for file in ("script.py", "script.ipy"):
        (tmp_path / file).write_text(SCRIPT)
    code = COMMANDS[name].replace("SCRIPT", str(tmp_path / "script")).replace("FOLDER", str(tmp_path))
    kernel.execute("import comm\ndef display_on(): comm.create_comm(target_name='on')")
    before = {child.pid for child in psutil.Process(kernel.pid).children(recursive=True)}
    cell = kernel.send("execute_request", code=code, header=header)
    if name == "%%capture":
        kernel.wait_for("iopub", "comm_open", msg_id=cell)
    else:
        kernel.wait_for("iopub", "stream", msg_id=cell, text="on")
    reply = ends(kernel, cell, strike, header)
    assert reply["ename"] == ("CalledProcessError" if name == "%%bash" else "KeyboardInterrupt")
    assert len([line for line in kernel.outputs(cell) if line.startswith("error:")]) == 1
    if name != "%%bash":
        children = psutil.Process(kernel.pid).children(recursive=True)
        psutil.wait_procs(left := [child for child in children if child.pid not in before], timeout=5)
        assert [child for child in left if child.is_running()] == []


def test_a_command_has_no_input_to_wait_for(kernel: KernelUnderTest) -> None:
    assert kernel.execute("!cat; echo done", allow_stdin=True)[1] == ["stdout:done\n"]
    assert kernel.execute("x = !cat; echo done\nx")[1] == ["execute_result:['done']"]


def test_a_command_writes_to_a_terminal_as_it_goes(kernel: KernelUnderTest) -> None:
    cell = kernel.send("execute_request", code="!test -t 1 && echo on; read x < PIPE".replace("PIPE", "/dev/null"))
    assert kernel.outputs(cell)[2:] == ["stdout:on\n", "status:idle"]
    assert kernel.execute("!exit 3\n_exit_code")[1] == ["execute_result:3"]
    assert kernel.execute("!kill -TERM $$\n_exit_code")[1] == ["execute_result:-15"]
    assert kernel.execute("!(sleep 60 > /dev/null 2>&1 &) ; echo ready")[1] == ["stdout:ready\n"]
    assert kernel.execute("word = 'an'\n!echo {word} $word")[1] == ["stdout:an an\n"]
    assert kernel.execute("%%capture got\n!echo kept")[1] == []
    assert kernel.execute("got.stdout")[1] == ["execute_result:'kept\\n'"]


DEBUGGERS = {
    "pdb": "import pdb; pdb.set_trace()\nprint('must' + ' not run')",
    "in a loop": "import pdb\nfor n in range(3):\n    pdb.set_trace()\n    print('must' + ' not run')",
    "in a function": "import pdb\ndef f():\n    pdb.set_trace()\n    print('must' + ' not run')\nf()",
    "breakpoint": "breakpoint()\nprint('must' + ' not run')",
    "%debug": "%debug\nprint('must not run')",
    "post_mortem": "import pdb, sys\ntry: 1 / 0\nexcept ZeroDivisionError: pdb.post_mortem()\nprint('must' + ' not run')",
}


@pytest.mark.parametrize("strike", BY.values(), ids=BY)
@pytest.mark.parametrize("code", DEBUGGERS.values(), ids=DEBUGGERS)
def test_an_interrupt_at_a_debuggers_prompt_ends_it_and_the_cell(
    kernel: KernelUnderTest, code: str, strike: Any, header: Any
) -> None:  # I9, I22
    failed = kernel.send("execute_request", code="1 / 0", header=header)
    kernel.reply(failed)
    cell = kernel.send("execute_request", code=code, allow_stdin=True, header=header)
    kernel.wait_for("stdin", "input_request", msg_id=cell)
    assert ends(kernel, cell, strike, header)["ename"] == "KeyboardInterrupt"
    # then: nothing is traced any more
    after = kernel.send("execute_request", code="import sys; sys.gettrace()", header=header)
    kernel.reply(after)
    assert [line for line in kernel.outputs(after) if not line.startswith(("status:", "execute_input:"))] == []


def test_a_magic_whose_import_was_interrupted_works_the_next_time(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute(
        "import importlib\nreally = importlib.import_module\n"
        "def struck(*name):\n importlib.import_module = really\n raise KeyboardInterrupt\n"
        "importlib.import_module = struck"
    )
    assert own_kernel.execute("%sx echo 1")[0]["ename"] == "KeyboardInterrupt"
    assert own_kernel.execute("%sx echo 1")[1] == ["execute_result:['1']"]
