"""Other people's frontends run notebooks and cells on this kernel: the real programs, as their users start them."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pexpect
import pytest
from harness import free_ports
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell, new_notebook
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import websocket_connect

from ipymini.tools import kernelspec

pytestmark = pytest.mark.peers

DEADLINE = 60.0
WHO = "__import__('ipymini').get_connection_file() and 'ipymini'"  # fails in any other kernel
KERNELSPEC = {"name": "ipymini", "display_name": kernelspec.DISPLAY_NAME, "language": "python"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a home, in which Jupyter finds our kernelspec first."""
    kernelspec.install(tmp_path / "data" / "kernels", "ipymini", kernelspec.make_spec(python=sys.executable))
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def notebook_of(*codes: str) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell(code) for code in codes], metadata={"kernelspec": KERNELSPEC})


def write(path: Path, *codes: str) -> Path:
    nbformat.write(notebook_of(*codes), path)
    return path


def program(*command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a module as a program; it must end with this exit code."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=2 * DEADLINE
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def texts(cell: nbformat.NotebookNode) -> list[str]:
    """Return what a cell shows: text of streams and results, names of errors."""
    return [
        output.get("text") or output.get("ename") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]


# ---- nbclient, nbconvert, papermill, nbval, nbmake ---------------------------------------------


def test_nbclient_runs_all_and_stores_widgets_and_updates() -> None:
    calls: list[tuple[str, int]] = []
    notebook = notebook_of(
        WHO,
        "import ipywidgets; slider = ipywidgets.IntSlider(value=3); slider",
        "out = ipywidgets.Output()\nwith out: print('inside')\nout",
        "shown = display('before', display_id='one')",
        "shown.update('after')",
        "1/0",
        "'goes on'",
    )
    client = nbclient.NotebookClient(
        notebook,
        timeout=int(DEADLINE),
        allow_errors=True,
        on_cell_start=lambda cell, cell_index: calls.append(("start", cell_index)),
        on_cell_error=lambda cell, cell_index, execute_reply: calls.append(("error", cell_index)),
    )
    client.execute()

    cells = notebook.cells
    assert texts(cells[0]) == ["'ipymini'"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    by_name = {state["model_name"]: state["state"] for state in states}
    assert by_name["IntSliderModel"]["value"] == 3
    assert [output["text"] for output in by_name["OutputModel"]["outputs"]] == ["inside\n"]
    assert texts(cells[3]) == ["'after'"]
    assert texts(cells[5]) == ["ZeroDivisionError"] and texts(cells[6]) == ["'goes on'"]
    assert calls == [("start", index) for index in range(6)] + [("error", 5), ("start", 6)]
    assert notebook.metadata.language_info.name == "python"


def test_nbclient_stops_at_an_error_and_interrupts_what_takes_too_long() -> None:
    failing = notebook_of("print('said'); 1/0", "'never'")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        nbclient.NotebookClient(failing, timeout=int(DEADLINE)).execute()
    assert texts(failing.cells[0]) == ["said\n", "ZeroDivisionError"] and not failing.cells[1].outputs

    slow = notebook_of("import time\ntime.sleep(600)", "'goes on'")
    nbclient.NotebookClient(slow, timeout=2, interrupt_on_timeout=True, allow_errors=True).execute()
    assert texts(slow.cells[0]) == ["KeyboardInterrupt"] and texts(slow.cells[1]) == ["'goes on'"]
    with pytest.raises(CellTimeoutError):
        nbclient.NotebookClient(notebook_of("while True: pass"), timeout=1).execute()


def test_nbconvert_executes_to_a_notebook_and_to_a_page(place: Path) -> None:
    good = write(place / "good.ipynb", WHO, "from IPython.display import HTML; HTML('<b id=here>bold</b>')")
    program("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "done.ipynb", good)
    assert texts(nbformat.read(place / "done.ipynb", 4).cells[0]) == ["'ipymini'"]
    program("jupyter", "nbconvert", "--to", "html", "--execute", good)
    assert "bold</b>" in (place / "good.html").read_text()

    bad = write(place / "bad.ipynb", "1/0", "'goes on'")
    assert "ZeroDivisionError" in program("jupyter", "nbconvert", "--to", "notebook", "--execute", bad, code=1).stderr
    program(
        "jupyter", "nbconvert", "--to", "notebook", "--execute", "--allow-errors", "--output", "forgiven.ipynb", bad
    )
    cells = nbformat.read(place / "forgiven.ipynb", 4).cells
    assert (texts(cells[0]), texts(cells[1])) == (["ZeroDivisionError"], ["'goes on'"])


def test_papermill_names_our_kernel_and_keeps_what_a_failing_cell_said(place: Path) -> None:
    path = write(place / "in.ipynb", "a = 1", f"{WHO}\nprint('a is', a)\nassert a == 1", "'last'")
    notebook = nbformat.read(path, 4)
    notebook.cells[0].metadata.tags = ["parameters"]
    notebook.metadata.kernelspec.name = "python3"
    nbformat.write(notebook, path)

    program("papermill", "-k", "ipymini", path, place / "good.ipynb")
    done = nbformat.read(place / "good.ipynb", 4)
    assert texts(done.cells[-2]) == ["a is 1\n"] and done.metadata.papermill.exception is None

    failed = program("papermill", "-k", "ipymini", "-p", "a", "2", path, place / "bad.ipynb", code=1)
    assert "AssertionError" in failed.stderr
    cells = nbformat.read(place / "bad.ipynb", 4).cells
    assert [texts(cell) for cell in cells if "a is" in cell.source] == [["a is 2\n", "AssertionError"]]


def test_nbval_and_nbmake_tell_right_from_wrong(place: Path) -> None:
    path = write(place / "compared.ipynb", WHO, "print('text'); 6 * 7", "import sys; print('warned', file=sys.stderr)")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(notebook, timeout=int(DEADLINE)).execute()
    nbformat.write(notebook, path)
    alone = ("-q", "-p", "no:cacheprovider", "--rootdir", place)
    assert "3 passed" in program("pytest", *alone, "--nbval", path).stdout
    assert "1 passed" in program("pytest", *alone, "--nbmake", path).stdout

    notebook.cells[1].source = "print('text'); 6 * 8"
    nbformat.write(notebook, path)
    assert "1 failed, 2 passed" in program("pytest", *alone, "--nbval", path, code=1).stdout
    failing = write(place / "failing.ipynb", "'fine'", "1/0")
    assert "ZeroDivisionError" in program("pytest", *alone, "--nbmake", failing, code=1).stdout


def test_jupyter_execute_and_run_know_the_kernel(place: Path) -> None:
    path = write(place / "executed.ipynb", WHO)
    program("jupyter", "execute", "--inplace", "--kernel_name=ipymini", path)
    assert texts(nbformat.read(path, 4).cells[0]) == ["'ipymini'"]
    script = place / "script.py"
    script.write_text(f"print({WHO})\n")
    assert program("jupyter", "run", "--kernel=ipymini", script).stdout == "ipymini\n"


# ---- a terminal and a window ---------------------------------------------------------------------


def test_a_console_of_its_own_interrupts_completes_history_and_ends_its_kernel(place: Path) -> None:
    terminal = pexpect.spawn(
        sys.executable, ["-m", "jupyter_console", "--kernel", "ipymini", "--simple-prompt"],
        env={**os.environ, "TERM": "dumb", "NO_COLOR": "1"},
        encoding="utf-8", timeout=DEADLINE, dimensions=(40, 120), echo=False,
    )  # fmt: skip
    try:
        terminal.expect(r"In \[1\]: ")
        terminal.sendline(f"kind = {WHO}; kind")
        terminal.expect(r"Out\[1\]: 'ipymini'\s.*In \[2\]: ")
        terminal.sendline("import time; print('sle' + 'eps'); time.sleep(600)")
        terminal.expect("sleeps")
        terminal.sendintr()
        terminal.expect("KeyboardInterrupt")
        terminal.expect(r"In \[3\]: ")
        terminal.sendline("%history")
        terminal.expect("; kind")
        terminal.expect(r"In \[4\]: ")
        terminal.sendline("exit")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)


QTCONSOLE = """
import json, sys, time
from qtpy import QtCore, QtGui, QtTest, QtWidgets
from qtconsole.manager import QtKernelManager
from qtconsole.rich_jupyter_widget import RichJupyterWidget

app = QtWidgets.QApplication([])
manager = QtKernelManager(kernel_name="ipymini")
manager.start_kernel()
client = manager.client()
client.start_channels()
widget = RichJupyterWidget()
widget.kernel_manager, widget.kernel_client = manager, client
widget.confirm_restart = False
widget.show()
control = widget._control

def text():
    return control.toPlainText()

def until(what, condition):
    end = time.monotonic() + 60
    while not condition():
        app.processEvents(QtCore.QEventLoop.AllEvents, 20)
        if time.monotonic() > end:
            raise SystemExit(f"no {what}:\\n{text()}")

def keys(typed, *special):
    QtTest.QTest.keyClicks(control, typed)
    for key in special:
        QtTest.QTest.keyClick(control, key)

def run(code, what):
    widget.execute(code)
    until(what, lambda: what in text())
    until("prompt", lambda: not widget._executing)

Key = QtCore.Qt
until("prompt", lambda: "In [1]:" in text())
run("__import__('ipymini').get_connection_file() and 'ipymini'", "Out[1]: 'ipymini'")
run("1/0", "ZeroDivisionError")
run("%matplotlib inline\\nimport matplotlib.pyplot as plt; plt.plot([1, 2]); None", "\\ufffc")
widget.execute("print('hello', input('name? '))")
until("question", lambda: widget._reading)
keys("world", Key.Key_Return)
until("answer", lambda: "hello world" in text())
until("prompt", lambda: not widget._executing)

keys("long_name = 1", Key.Key_Return)
until("prompt", lambda: text().rstrip().endswith("In [6]:"))
keys("long_na", Key.Key_Tab)
until("completion", lambda: widget.input_buffer == "long_name")
widget.input_buffer = ""
keys("print(")
until("call tip", lambda: widget._call_tip_widget.isVisible())
assert "sep" in widget._call_tip_widget.text(), widget._call_tip_widget.text()
widget.input_buffer = ""
keys("", Key.Key_Up)
until("history", lambda: widget.input_buffer == "long_name = 1")
widget.input_buffer = ""
run("print?", "Docstring")
QtTest.QTest.keyClick(widget._page_control, Key.Key_Q)

widget.execute("import time; print('sle' + 'eps'); time.sleep(600)")
until("sleep", lambda: "sleeps" in text())
widget.interrupt_kernel()
until("interrupt", lambda: "KeyboardInterrupt" in text())
until("prompt", lambda: not widget._executing)
widget.restart_kernel(None, now=True)
until("restart", lambda: "Restarting kernel" in text())
run("print('named' if 'long_name' in globals() else 'forgotten')", "forgotten\\n")
client.stop_channels()
manager.shutdown_kernel(now=True)
print("all seen")
"""


def test_qtconsole_shows_asks_completes_interrupts_and_restarts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    (place / "console.py").write_text(QTCONSOLE)
    done = subprocess.run(
        [sys.executable, str(place / "console.py")], capture_output=True, text=True, timeout=3 * DEADLINE
    )
    assert done.stdout.endswith("all seen\n"), done.stdout + done.stderr


# ---- Jupyter Kernel Gateway ------------------------------------------------------------------------


@contextmanager
def gateway(*options: str) -> Iterator[str]:
    """Serve kernels over HTTP; yields the address."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "kernel_gateway", f"--KernelGatewayApp.port={port}", *options]
    with Path("gateway.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


async def fetch(url: str, method: str = "GET", body: Any = None) -> Any:
    answer = await AsyncHTTPClient().fetch(
        url, method=method, body=None if body is None else json.dumps(body), request_timeout=DEADLINE
    )
    return json.loads(answer.body) if answer.body else None


async def served(url: str) -> None:
    """Wait until somebody answers there."""
    while True:
        try:
            return await fetch(url)
        except (OSError, HTTPClientError):
            await asyncio.sleep(0.1)


class Websocket:
    """A kernel's channels, as a web page has them."""

    def __init__(self, socket: Any):
        self.socket, self.count = socket, 0

    async def send(self, msg_type: str, channel: str = "shell", **content: Any) -> str:
        self.count += 1
        header = {
            "msg_id": f"page-{self.count}",
            "msg_type": msg_type,
            "session": "page",
            "username": "",
            "version": "5.4",
        }
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
        await self.socket.write_message(json.dumps(message))
        return str(header["msg_id"])

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.read_message(), DEADLINE))
            if wanted(message):
                return message

    async def reply(self, msg_id: str) -> dict[str, Any]:
        found = await self.until(
            lambda message: message["msg_type"].endswith("_reply") and message["parent_header"]["msg_id"] == msg_id
        )
        return dict(found["content"])

    async def evaluate(self, expression: str) -> str:
        msg_id = await self.send("execute_request", code="", user_expressions={"it": expression}, silent=True)
        return str((await self.reply(msg_id))["user_expressions"]["it"]["data"]["text/plain"])


def test_kernel_gateway_serves_kernels_over_websockets() -> None:
    async def work(address: str) -> None:
        await served(f"{address}/api")
        kernel = await fetch(f"{address}/api/kernels", "POST", {"name": "ipymini"})
        url = f"{address}/api/kernels/{kernel['id']}"
        page = Websocket(await websocket_connect(url.replace("http", "ws", 1) + "/channels"))
        assert await page.evaluate(WHO) == "'ipymini'"

        msg_id = await page.send("execute_request", code="print('on')\nimport time; time.sleep(600)")
        await page.until(lambda message: message["msg_type"] == "stream")
        await fetch(f"{url}/interrupt", "POST", {})
        assert (await page.reply(msg_id))["ename"] == "KeyboardInterrupt"

        pid = await page.evaluate("__import__('os').getpid()")
        await fetch(f"{url}/restart", "POST", {})
        page = Websocket(await websocket_connect(url.replace("http", "ws", 1) + "/channels"))
        assert await page.evaluate("__import__('os').getpid()") != pid
        await fetch(url, "DELETE")
        assert await fetch(f"{address}/api/kernels") == []

    with gateway(
        "--KernelGatewayApp.default_kernel_name=ipymini", "--JupyterWebsocketPersonality.list_kernels=True"
    ) as at:
        asyncio.run(asyncio.wait_for(work(at), 2 * DEADLINE))


def test_kernel_gateway_serves_an_annotated_notebook(place: Path) -> None:
    path = write(
        place / "api.ipynb",
        "import json",
        f"# GET /who\nprint(json.dumps({{'kernel': {WHO}}}))",
        "# POST /double/:number\nrequest = json.loads(REQUEST)\nprint(json.dumps(2 * int(request['path']['number'])))",
    )

    async def work(address: str) -> None:
        # A request before this gateway has seen our iopub_welcome makes it fail for good: it expects a parent there.
        while "Could not find callback" not in Path("gateway.log").read_text():
            await asyncio.sleep(0.1)
        assert await fetch(f"{address}/who") == {"kernel": "ipymini"}
        assert await asyncio.gather(*(fetch(f"{address}/double/{n}", "POST", {}) for n in range(5))) == [0, 2, 4, 6, 8]

    options = ("--KernelGatewayApp.api=kernel_gateway.notebook_http", f"--KernelGatewayApp.seed_uri={path}")
    with gateway(*options) as address:
        asyncio.run(asyncio.wait_for(work(address), 2 * DEADLINE))
