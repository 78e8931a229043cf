"""`python -m ipymini doctor`: what it finds, and that it finds what is wrong."""

import json
import os
import subprocess
import sys
import tomllib

import pytest
from harness import REPOSITORY

from ipymini.tools import doctor, kernelspec


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Make a Jupyter of its own, with nothing in it; return where its kernelspecs are."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "path"))
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "1")
    monkeypatch.setattr(kernelspec, "roots", lambda: [tmp_path / "path" / "kernels"])
    return tmp_path / "path" / "kernels"


def test_it_wants_what_the_project_depends_on():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    assert [f"{name}>={least}" for name, (least, _) in doctor.NEEDED.items()] == project["dependencies"]


def test_where_all_is_well_it_runs_a_kernel_and_says_so(tmp_path):
    (tmp_path / "random.py").write_text("raise RuntimeError('not the real one')\n")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JUPYTER_TOKEN": "confidential", "IPYTHONDIR": str(tmp_path)}

    done = subprocess.run(
        [sys.executable, "-m", "ipymini", "doctor"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )

    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[-1]) == (0, "", "A kernel can work here.")
    assert lines[-2].startswith("ok    kernel        one has started in ")
    assert [line for line in lines if "random.py" in line] == [
        "note  files         named like modules, so that cells import the module and not the file: random.py"
    ]
    assert "confidential" not in done.stdout and "JUPYTER_TOKEN=..." in done.stdout


def test_a_kernel_that_cannot_start_is_bad_and_its_last_words_are_shown(tmp_path):
    (tmp_path / "IPython.py").write_text("raise ImportError('this IPython is broken')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}

    done = subprocess.run(
        [sys.executable, "-m", "ipymini", "doctor"], env=env, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert "BAD   packages      ipython cannot be imported: ImportError: this IPython is broken\n" in done.stdout
    assert "BAD   kernel " in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        " " * 20 + "ImportError: this IPython is broken", "No kernel can work so: see BAD above.",
    ]  # fmt: skip


def test_a_package_that_is_missing_or_too_old_is_bad(monkeypatch):
    monkeypatch.setitem(doctor.NEEDED, "comm", ("99.1", "comm"))
    monkeypatch.setitem(doctor.NEEDED, "no-such-package", ("1.0", "nothing"))

    bad = [found for verdict, _, found in doctor.packages() if verdict == "BAD"]

    assert len(bad) == 2
    assert bad[0].startswith("comm ") and bad[0].endswith(f"is too old: {sys.executable} -m pip install 'comm>=99.1'")
    assert bad[1] == f"no-such-package is not installed: {sys.executable} -m pip install 'no-such-package>=1.0'"


def test_kernelspecs_that_start_something_else_are_named(place):
    kernelspec.install(place, "good", kernelspec.make_spec(python=sys.executable))
    kernelspec.install(place, "lost", kernelspec.make_spec(python="/nowhere/bin/python"))
    kernelspec.install(place, "other", kernelspec.make_spec(python="/bin/sh"))
    old = kernelspec.make_spec(python=sys.executable)
    old["argv"].remove("-P")
    kernelspec.install(place, "old", old)
    (place / "python3").mkdir()
    (place / "python3" / "kernel.json").write_text(json.dumps({"argv": ["python", "-m", "another"]}))

    assert list(doctor.kernelspecs()) == [
        ("ok", "kernelspec", f"good in {place / 'good'}: {sys.executable} -P -m ipymini -f {{connection_file}}"),
        (
            "BAD",
            "kernelspec",
            f"lost in {place / 'lost'}: there is no /nowhere/bin/python: install it again, or uninstall it",
        ),
        ("note", "kernelspec", f"old in {place / 'old'}: is of an old version, without -P: install it again"),
        ("note", "kernelspec", f"other in {place / 'other'}: starts another interpreter, /bin/sh"),
        ("note", "kernelspec", f"python3 in {place / 'python3'} is not ours: python -m another"),
    ]


def test_no_kernelspec_at_all_is_worth_a_note(place):
    assert list(doctor.kernelspecs()) == [
        ("note", "kernelspec", f"Jupyter finds none of ours: {sys.executable} -m ipymini install --sys-prefix")
    ]


def test_a_runtime_directory_that_cannot_be_written_is_bad(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "file" / "runtime"))

    verdict, what, found = doctor.runtime_directory()

    assert (verdict, what) == ("BAD", "runtime")
    assert found == f"{tmp_path / 'file' / 'runtime'} cannot be written: Not a directory: set JUPYTER_RUNTIME_DIR"


def test_ports_are_tried():
    assert doctor.ports() == ("ok", "ports", "five on 127.0.0.1, and they can be reached")
