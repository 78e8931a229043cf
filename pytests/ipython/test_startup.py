"""The start: what is imported, what is said, and what is answered before IPython is there."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from harness import REPOSITORY, KernelUnderTest, brief, start_kernel

LATER = (
    "jupyter_client", "tornado", "jedi", "parso", "debugpy", "pydevd", "_pydevd_bundle", "prompt_toolkit", "psutil",
    "matplotlib", "numpy", "pandas", "sqlite3", "_sqlite3", "pexpect", "unittest", "pydoc", "pdb", "bdb", "doctest",
    "concurrent.futures.process", "multiprocessing", "xml", "http", "urllib.request", "email", "ipykernel.kernelbase", "nbformat",
    "dateutil", "IPython.terminal", "IPython.core.application", "IPython.core.completer", "IPython.core.debugger",
    "IPython.extensions.storemagic", "matplotlib_inline.backend_inline", "ipymini.debug.debugger", "ipymini.tools.kernelspec",
    "ipymini.ipython.magics", "ipymini.ipython.application", "ipymini.compat.ipykernel_classes", "ipymini.compat.gui", "tkinter",
)  # fmt: skip


def test_only_what_a_first_cell_needs_is_imported(own_kernel: KernelUnderTest) -> None:
    code = f"import sys; print(*(name for name in {LATER} if name in sys.modules))"
    assert own_kernel.execute(code)[1] == ["stdout:\n"]


# What the start takes from Python's library; everything else comes with one of these, or with IPython's shell.
TAKEN = "asyncio, concurrent.futures.thread, faulthandler, gc, getpass, glob, hashlib, hmac, runpy, shutil, termios, unicodedata"
OURS = re.compile(r"(ipymini|ipykernel)(\..*)?|IPython\.core\.magics(\._table)?").fullmatch
SHELLS = {"IPython.core.logger", "IPython.core.oinspect", "IPython.core.payloadpage", "IPython.utils.wildcard"}


def test_what_is_imported_at_the_start_does_not_grow_unnoticed(own_kernel: KernelUnderTest) -> None:
    code = f"import sys, comm, zmq, IPython.core.interactiveshell, {TAKEN}\nprint(*sys.modules)"
    known = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    imported = own_kernel.execute("import sys; print(*sys.modules)")[1][0].removeprefix("stdout:").split()

    new = {name for name in imported if not OURS(name)} - SHELLS - {*known}
    assert new == set(), "something new is imported at the start: see `python -X importtime -m ipymini`"


def test_a_normal_start_says_nothing(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute("1")
    assert own_kernel.log.read_text() == ""
    said = [brief(message) for message in own_kernel.messages("iopub", "")]
    assert sorted(said) == ["iopub_welcome", "status:starting"]


GATE = """
import os, sys
with open({gate!r}) as gate:  # waits for one who writes
    pass
sys.path.remove({here!r})
del sys.modules["IPython"]
import IPython
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return a named pipe: an IPython before the real one, in the same directory, waits until somebody writes to it."""
    pipe = tmp_path / "gate"
    os.mkfifo(pipe)
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "__init__.py").write_text(GATE.format(gate=str(pipe), here=str(tmp_path)))
    return pipe


def slow_start(gate: Path) -> AbstractContextManager[KernelUnderTest]:
    started: AbstractContextManager[KernelUnderTest] = start_kernel(
        env={"PYTHONPATH": f"{gate.parent}{os.pathsep}{REPOSITORY}"}
    )
    return started


def test_kernel_info_is_answered_before_ipython_is_there(gate: Path) -> None:
    with slow_start(gate) as kernel:  # which asks for kernel_info itself
        cell = kernel.send("execute_request", code="'first cell'")
        info = kernel.reply(kernel.send("kernel_info_request"))
        assert (info["status"], info["implementation"]) == ("ok", "ipython")
        for channel in ("shell", "control"):
            assert kernel.reply(kernel.send("connect_request", channel=channel))["status"] == "ok"
        assert not kernel.reply_messages(cell)
        # when IPython can go on, the cell runs
        gate.write_text("")
        assert kernel.reply(cell)["status"] == "ok"
        assert "execute_result:'first cell'" in kernel.outputs(cell)


def test_a_kernel_that_waits_for_ipython_can_be_shut_down(gate: Path) -> None:  # L2
    with slow_start(gate) as kernel:
        cell = kernel.send("execute_request", code="'never'")
        assert kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))["status"] == "ok"
        assert kernel.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]
        assert kernel.outputs(cell) == ["status:busy", "status:idle"]


# ---- where IPython's directory cannot be, and start-up code that ends -------------------------------------------


def test_an_ipython_directory_that_cannot_be_made_is_replaced_and_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wanted in (tmp_path / "file", tmp_path / "file" / "below"):
        with start_kernel("-c", "early = 1", env={"IPYTHONDIR": str(wanted), "TMPDIR": str(tmp_path)}) as kernel:
            said = kernel.execute("early")[1]
            assert said[0].startswith(f"stderr:ipymini: no IPython directory {str(wanted)!r}: ")
            assert said[1:] == ["execute_result:1"]
            assert kernel.execute("'said once'")[1] == ["execute_result:'said once'"]
            assert kernel.log.read_text().count(" WARNING ipymini.ipython.startup no IPython directory ") == 1
            place = kernel.execute("print(get_ipython().ipython_dir)")[1][0].removeprefix("stdout:").strip()
            assert kernel.execute("get_ipython().history_manager.session_number")[1] == ["execute_result:1"]
            assert said[0].endswith(f"; a temporary one takes its place: {place}\n")
            assert (Path(place) / "profile_default" / "history.sqlite").is_file()


def test_a_read_only_ipython_directory_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipymini.ipython import startup

    wanted = tmp_path / "wanted"
    monkeypatch.setenv("IPYTHONDIR", str(wanted))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(wanted) and access(path, mode))

    made = startup.Directories(startup.ipython_directory()).make()

    assert made.ipython_dir != str(wanted) and os.listdir(wanted) == []
    assert made.profile_dir.location == os.path.join(made.ipython_dir, "profile_default")
    assert made.warnings == [
        f"no IPython directory {str(wanted)!r}: it is read-only; a temporary one takes its place: {made.ipython_dir}"
    ]


def test_start_up_code_that_ends_is_reported_and_the_next_goes_on(tmp_path: Path) -> None:
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "1.py").write_text("import sys; sys.exit('file')")
    (startup / "2.ipy").write_text("import sys; sys.exit('ipy')")
    (startup / "3.py").write_text("after = 1")
    (startup.parent / "ipython_config.py").write_text("import sys; sys.exit('config')")
    (tmp_path / "first.py").write_text("import sys; sys.exit('first')")
    (tmp_path / "executed.py").write_text("import sys; sys.exit('executed')")
    (tmp_path / "leaving.py").write_text("import sys\ndef load_ipython_extension(shell): sys.exit('loaded')")
    (tmp_path / "gone.py").write_text("raise SystemExit('imported')")
    env = {
        "IPYTHONDIR": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "first.py"),
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}",
    }
    options = [
        "--ext=leaving",
        "--ext=gone",
        "--InteractiveShellApp.exec_lines=import sys; sys.exit('line')",
        f"--InteractiveShellApp.exec_files={tmp_path / 'executed.py'}",
    ]
    with start_kernel(*options, env=env) as kernel:
        assert kernel.execute("after")[1] == ["execute_result:1"]
        ended = [
            line.partition(": ")[2] for line in kernel.log.read_text().splitlines() if line.startswith("SystemExit")
        ]
        assert ended == ["config", "loaded", "imported", "first", "file", "ipy", "line", "executed"]
    for last in (["-c", "import sys; sys.exit('code')"], [str(tmp_path / "executed.py")], ["-m", "gone"]):
        with start_kernel(*last, env={**env, "PYTHONSTARTUP": ""}) as kernel:
            assert kernel.execute("after")[1] == ["execute_result:1"]
