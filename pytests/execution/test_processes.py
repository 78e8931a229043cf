"""What a usage_reply says of this process and its children."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from ipymini.execution import processes


@pytest.fixture
def child() -> Iterator[psutil.Process]:
    """Return a child that waits."""
    process = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    assert process.stdout is not None and process.stdout.read(1)
    yield psutil.Process(process.pid)
    process.communicate()


def test_the_memory_is_that_of_the_kernel_and_its_children(child: psutil.Process) -> None:
    alone = psutil.Process().memory_full_info()

    said = processes.report()["kernel_memory"]

    assert said > max(alone.uss, child.memory_full_info().uss) + 1_000_000


def test_a_child_is_measured_from_one_report_to_the_next(child: psutil.Process) -> None:
    processes.report()
    before = {id(process) for process in processes._measured}

    processes.report()

    assert child in processes._measured
    assert {id(process) for process in processes._measured} == before


def test_without_psutil_only_what_python_knows_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert processes.report() == {"hostname": socket.gethostname(), "pid": os.getpid(), "cpu_count": os.cpu_count()}
