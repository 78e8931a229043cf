"""What VS Code's Jupyter extension sends to a kernel, in its order; it cannot run here, so this replays it."""

import json
from typing import Any

from harness import KernelUnderTest

WIDGETS = "try:\n    import ipywidgets\n    print(ipywidgets.__version__)\nexcept ImportError:\n    print('none')"
HOOK = """
import os as _VSCODE_os
def __VSCODE_wrap(run_cell):
    def run(*args, **options):
        _VSCODE_os.environ["IPYKERNEL_CELL_NAME"] = "/tmp/vscode-cell.py"
        try:
            return run_cell(*args, **options)
        finally:
            _VSCODE_os.environ.pop("IPYKERNEL_CELL_NAME", None)
    return run
get_ipython().run_cell = __VSCODE_wrap(get_ipython().run_cell)
"""
VARIABLES = """
def __VSCODE_variables():
    import json as _VSCODE_json
    import builtins as _VSCODE_builtins
    names = [name for name in get_ipython().user_ns if not name.startswith("_")]
    found = [{"name": name, "type": type(get_ipython().user_ns[name]).__name__} for name in get_ipython().run_line_magic("who_ls", "")]
    _VSCODE_builtins.print(_VSCODE_json.dumps(found))
__VSCODE_variables()
del __VSCODE_variables
"""


def hidden(kernel: KernelUnderTest, code: str) -> str:
    """Run code as the extension does behind the user's back; return its standard output."""
    msg_id = kernel.send(
        "execute_request", code=code, silent=False, store_history=False, allow_stdin=True, stop_on_error=True
    )
    assert kernel.reply(msg_id)["status"] == "ok", kernel.outputs(msg_id)
    return "".join(line.removeprefix("stdout:") for line in kernel.outputs(msg_id) if line.startswith("stdout:"))


def debug(kernel: KernelUnderTest, seq: int, command: str, **arguments: Any) -> dict[str, Any]:
    msg_id = kernel.send(
        "debug_request", channel="control", type="request", seq=seq, command=command, arguments=arguments
    )
    return kernel.reply(msg_id)


def test_its_hidden_cells_leave_no_trace(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    assert kernel.reply(kernel.send("kernel_info_request"))["status"] == "ok"
    assert hidden(kernel, WIDGETS).strip()
    hidden(kernel, "%config Completer.use_jedi = False")
    hidden(kernel, "if '__vsc_ipynb_file__' not in globals():\n  __vsc_ipynb_file__ = '/tmp/some.ipynb'")
    hidden(kernel, "import matplotlib\n%matplotlib inline\n%config InlineBackend.figure_formats = {'svg', 'png'}")
    kernel.send("comm_open", comm_id="widgets", target_name="jupyter.widget", data={}, metadata={"version": "2.0.0"})

    reply, outputs = kernel.execute("frame = [1, 2]; frame", store_history=True)

    assert (reply["execution_count"], outputs) == (1, ["execute_result:[1, 2]"])
    assert kernel.execute("len(In), list(Out)")[1] == ["execute_result:(3, [1])"]
    tail = kernel.reply(kernel.send("history_request", hist_access_type="tail", n=10, raw=True, output=False))
    assert [row[2] for row in tail["history"] if row[2].startswith(("frame", "len"))] == [
        "frame = [1, 2]; frame", "len(In), list(Out)",
    ]  # fmt: skip
    assert not [row for row in tail["history"] if "__vsc" in row[2] or "use_jedi" in row[2]]
    assert kernel.execute("__vsc_ipynb_file__")[1] == ["execute_result:'/tmp/some.ipynb'"]


def test_its_variables_view_reads_json_from_stdout(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute("import threading, time; number = 5; go = threading.Event()")
    noise = (
        "def noise():\n while not go.is_set(): print('noise'); time.sleep(.001)\nthreading.Thread(target=noise).start()"
    )
    noisy = own_kernel.send("execute_request", code=noise)
    own_kernel.wait_for("iopub", "stream", msg_id=noisy, text="noise")

    found = json.loads(hidden(own_kernel, VARIABLES))  # a thread of another cell does not write between

    own_kernel.execute("go.set()")
    assert {"name": "number", "type": "int"} in found
    assert not [one for one in found if "VSCODE" in one["name"]]


def test_its_interactive_window_wraps_run_cell(own_kernel: KernelUnderTest) -> None:
    hidden(own_kernel, HOOK)
    assert own_kernel.execute("1 + 1")[1] == ["execute_result:2"]
    assert own_kernel.execute("await __import__('asyncio').sleep(0, 'awaited')")[1] == ["execute_result:'awaited'"]
    assert own_kernel.execute("1/0")[0]["ename"] == "ZeroDivisionError"


def test_it_finds_a_debugger_and_steps_through_a_cell(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    version = hidden(kernel, "import builtins\nimport ipykernel\nbuiltins.print(ipykernel.__version__)").strip()
    assert version.count(".") == 2 and all(part.isdigit() for part in version.split(".")) and int(version[0]) >= 6
    # It tries this first; without a session it must raise at once.
    trial = kernel.send("execute_request", code="import debugpy\ndebugpy.debug_this_thread()", store_history=False)
    assert kernel.reply(trial)["ename"] == "ConnectionRefusedError"

    info = debug(kernel, 1, "debugInfo")["body"]
    assert info["isStarted"] is False
    initialized = debug(
        kernel, 2, "initialize", adapterID="ipymini", clientID="vscode", columnsStartAt1=True, linesStartAt1=True,
        locale="en", pathFormat="path", supportsRunInTerminalRequest=True, supportsVariablePaging=True,
        supportsVariableType=True,
    )  # fmt: skip
    assert initialized["success"]
    assert debug(kernel, 3, "attach", justMyCode=True)["success"]
    cells = ["def double(x):\n    y = 2 * x\n    return y", "double(21)"]
    files = [debug(kernel, 4 + n, "dumpCell", code=code)["body"]["sourcePath"] for n, code in enumerate(cells)]
    done = debug(
        kernel, 6, "setBreakpoints", source={"path": files[0]}, breakpoints=[{"line": 2}], sourceModified=False
    )
    assert done["success"]
    assert debug(kernel, 7, "configurationDone")["success"]

    assert kernel.execute(cells[0])[0]["status"] == "ok"
    running = kernel.send("execute_request", code=cells[1])
    stopped = kernel.wait_for("iopub", "debug_event", text="stopped")["content"]["body"]
    frames = debug(kernel, 8, "stackTrace", threadId=stopped["threadId"])["body"]["stackFrames"]
    assert [(frame["name"], frame["line"]) for frame in frames] == [("double", 2), ("<module>", 1)]
    assert [frame["source"]["path"] for frame in frames] == files
    kernel.send("debug_request", channel="control", type="request", seq=9, command="continue",
                arguments={"threadId": stopped["threadId"]})  # fmt: skip
    assert "execute_result:42" in kernel.outputs(running)
    assert debug(kernel, 10, "disconnect", restart=False, terminateDebuggee=False)["success"]
    assert debug(kernel, 11, "debugInfo")["body"]["isStarted"] is False
    assert kernel.execute("double(4)")[1] == ["execute_result:8"]


def test_it_takes_an_interrupt_by_signal_and_a_restart(own_kernel: KernelUnderTest) -> None:
    kernel = own_kernel
    waiting = kernel.send("execute_request", code="import time; print('on'); time.sleep(60)")
    kernel.wait_for("iopub", "stream", msg_id=waiting, text="on")
    kernel.interrupt()
    assert kernel.reply(waiting)["ename"] == "KeyboardInterrupt"
    ended = kernel.send("shutdown_request", channel="control", restart=True)
    assert kernel.reply(ended)["restart"] is True
    assert kernel.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]
