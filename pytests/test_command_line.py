"""`python -m ipymini` in a terminal: what it prints, what it leaves, and that a start that fails says why."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest
from harness import free_ports, start_kernel

from ipymini import __version__

DEADLINE = 30


@pytest.fixture
def run(tmp_path):
    """Return run(*argv, env=): the process of `python -m ipymini`, which is ended with the test."""
    started = []

    def run(*argv, env=()):
        process = subprocess.Popen(
            [sys.executable, "-m", "ipymini", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env={**os.environ, "IPYTHONDIR": str(tmp_path / "ipython"), **dict(env)},
        )  # fmt: skip
        alarm = threading.Timer(DEADLINE, process.kill)
        alarm.start()
        started.append((process, alarm))
        return process

    yield run
    for process, alarm in started:
        alarm.cancel()
        process.kill()
        process.communicate()


def test_the_version_and_the_usage(run):
    version, usage = run("--version"), run("--help")

    assert version.communicate() == (f"{__version__}\n", "")
    out, err = usage.communicate()
    assert out.startswith("usage: python -m ipymini [-f FILE]")
    assert (version.returncode, usage.returncode, err) == (0, 0, "")


def test_a_kernel_by_hand_makes_its_connection_file_and_removes_it(run, tmp_path):
    # given
    file = tmp_path / "kernel.json"
    kernel = run("-f", str(file))

    # when: it says that it is there
    said = kernel.stderr.readline()

    # then
    assert said == f"ipymini {__version__}: to connect a client: jupyter console --existing {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connection = json.loads(file.read_text())
    assert all(connection[f"{channel}_port"] > 0 for channel in ("shell", "iopub", "stdin", "control", "hb"))
    assert connection["kernel_name"] == "ipymini"

    # and: SIGTERM ends it in good order
    kernel.send_signal(signal.SIGTERM)
    assert kernel.communicate() == ("", "")
    assert kernel.returncode == 0
    assert not file.exists()


def test_a_connection_file_that_cannot_be_used_is_one_line_and_no_traceback(run, tmp_path):
    file = tmp_path / "kernel.json"
    file.write_text("{")

    kernel = run("-f", str(file))

    out, err = kernel.communicate()
    assert (out, kernel.returncode) == ("", 1)
    assert err.startswith("ipymini: ") and len(err.splitlines()) == 1 and str(file) in err


def test_a_start_that_fails_says_why_on_the_terminal(run, tmp_path):
    # given: an IPython that cannot be imported
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "IPython.py").write_text("raise ImportError('this IPython is broken')")

    kernel = run("-f", str(tmp_path / "kernel.json"), env={"PYTHONPATH": str(tmp_path / "broken")})

    out, err = kernel.communicate()
    assert (out, kernel.returncode) == ("", 1)
    assert "the kernel could not start" in err
    assert err.splitlines()[-1] == "ImportError: this IPython is broken"
    assert not (tmp_path / "kernel.json").exists()


def test_the_debug_log_names_each_message_once_and_never_what_it_says():
    with start_kernel(env={"IPYMINI_LOG_LEVEL": "DEBUG"}) as kernel:
        request = kernel.send("execute_request", code="'a ' + 'secret'")
        assert kernel.outputs(request)[2] == "execute_result:'a secret'"
        kernel.reply(request)
        log = kernel.log.read_text()

    short = request[-8:]
    lines = [line.partition("ipymini.channels ")[2] for line in log.splitlines() if line.endswith(short)]
    assert lines[0] == f"in channel=shell msg_type=execute_request msg_id={short}"
    assert sorted(lines[1:]) == [
        f"out channel=iopub msg_type=execute_input parent={short}",
        f"out channel=iopub msg_type=execute_result parent={short}",
        f"out channel=iopub msg_type=status parent={short}",
        f"out channel=iopub msg_type=status parent={short}",
        f"out channel=shell msg_type=execute_reply parent={short}",
    ]
    assert "secret" not in log


def test_ports_come_from_the_range_and_an_exhausted_one_is_one_line(run, tmp_path):
    # given: a kernel, which needs five
    low = free_ports(10)[0]
    file, ports = tmp_path / "first.json", f"{low}..{low + 9}"
    first = run("-f", str(file), "--ip=127.0.0.1", "--port-range", ports)
    assert "to connect a client" in first.stderr.readline()

    # when: another one takes the rest, and a third comes
    second = run("-f", str(tmp_path / "second.json"), "--port-range", f"{low}:{low + 9}")
    assert "to connect a client" in second.stderr.readline()
    third = run("-f", str(tmp_path / "third.json"), "--port-range", ports)
    out, err = third.communicate()

    # then
    taken = [
        said[f"{channel}_port"]
        for said in (json.loads(file.read_text()), json.loads((tmp_path / "second.json").read_text()))
        for channel in ("shell", "iopub", "stdin", "control", "hb")
    ]
    assert sorted(taken) == list(range(low, low + 10))
    assert (out, third.returncode, len(err.splitlines())) == ("", 1, 1)
    assert err.startswith(f"ipymini: no port is free for shell in {low}..{low + 9} on 127.0.0.1: all 10 are taken")


def test_a_kernel_that_others_can_reach_warns_that_nothing_is_encrypted(run, tmp_path):
    kernel = run("-f", str(tmp_path / "kernel.json"), "--ip=0.0.0.0")

    assert "whoever can reach these ports can read what cells print" in kernel.stderr.readline()
