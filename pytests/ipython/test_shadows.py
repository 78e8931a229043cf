"""A working directory full of files that are named like modules: the kernel imports its own, cells what Python finds."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import REPOSITORY, start_kernel

from ipymini.protocol import import_guard

# Python itself imports these before any code of ours when it is started with `-m` and without `-P`.
PYTHONS_OWN = {
    "importlib", "warnings", "contextlib", "collections", "keyword", "operator", "reprlib", "functools", "types",
    "_py_warnings",  # from 3.14 on
}  # fmt: skip


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Return a directory in which each module of the standard library and of ours has a file that raises."""
    directory = tmp_path / "crowded"
    directory.mkdir()
    for name in sorted((sys.stdlib_module_names | import_guard.OURS) - {"ipymini", "__main__"}):
        if importlib.util.find_spec(name) is None:
            continue  # of another system: the library tries whether it is there
        (directory / f"{name}.py").write_text(f"raise RuntimeError('the working directory's {name}.py')\n")
    (directory / "mine.py").write_text("value = 'mine'\n")
    return directory


USE = """
import mine, random, json, ctypes
print(mine.value, random.__name__)
from getpass import getpass
import jedi, psutil
get_ipython().run_line_magic("pinfo", "print")
"""


def test_the_kernel_imports_its_own_modules_and_cells_can_import_from_there(crowded: Path) -> None:
    with start_kernel(cwd=str(crowded), env={"IPYMINI_USE_JEDI": "1"}) as kernel:
        assert kernel.execute(USE)[1] == ["stdout:mine random\n"]
        assert kernel.execute("1/0")[0]["ename"] == "ZeroDivisionError"
        completed = kernel.reply(kernel.send("complete_request", code="import mine; mine.val", cursor_pos=21))
        assert completed["matches"] == ["value"]
        assert kernel.reply(kernel.send("usage_request", channel="control"))["pid"] == kernel.pid
        initialize = {"seq": 1, "type": "request", "command": "initialize", "arguments": {"clientID": "test"}}
        assert kernel.reply(kernel.send("debug_request", channel="control", **initialize))["success"] is True
        assert kernel.execute("import asyncio; await asyncio.sleep(0); breakpoint.__name__")[0]["status"] == "ok"
        assert "RuntimeError" not in kernel.log.read_text()


def test_a_kernel_by_hand_starts_there_too_where_python_does(crowded: Path, tmp_path: Path) -> None:
    for name in PYTHONS_OWN:
        (crowded / f"{name}.py").unlink(missing_ok=True)
    code = "import mine, random; open('said', 'w').write(mine.value + ' ' + random.choice('aa'))"

    command = [sys.executable, "-m", "ipymini", "-f", str(tmp_path / "kernel.json"), "-c", f"{code}; exit()"]
    env = {"PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path), "JPY_PARENT_PID": "1"}
    done = subprocess.run(command, cwd=crowded, env=env, capture_output=True, text=True, timeout=30)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (crowded / "said").read_text() == "mine a"


def test_who_says_so_imports_nothing_from_there(crowded: Path) -> None:
    with start_kernel(cwd=str(crowded), env={"PYTHONSAFEPATH": "1"}) as kernel:
        assert kernel.execute("import mine")[0]["ename"] == "ModuleNotFoundError"
    with start_kernel("--InteractiveShellApp.ignore_cwd=True", cwd=str(crowded)) as kernel:
        assert kernel.execute("import mine")[0]["ename"] == "ModuleNotFoundError"


def test_what_is_ours_and_not_installed_is_found_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "wcwidth.py").write_text("here = True\n")
    code = f"""if True:
        import sys, json
        from ipymini.protocol import import_guard as shadows
        sys.path.insert(0, "")
        undo = shadows.install()
        import wcwidth
        installed = not hasattr(wcwidth, "here")
        del sys.modules["wcwidth"]
        sys.path[:] = ["", {str(Path(json.__file__).parent.parent)!r}]
        import wcwidth
        undo()
        print([installed, wcwidth.here, len(sys.meta_path)])
    """
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.stdout.startswith("[True, True, "), done.stderr


def test_files_that_bear_a_modules_name_are_found(tmp_path: Path) -> None:
    for name in ("random.py", "mine.py", "notes.txt", "this.py", "jedi.py"):
        (tmp_path / name).touch()
    (tmp_path / "json").mkdir()
    (tmp_path / "email").mkdir()
    (tmp_path / "email" / "__init__.py").touch()

    assert import_guard.find(str(tmp_path)) == ["email", "jedi.py", "random.py"]
