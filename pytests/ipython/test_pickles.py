"""Pickles and copies of what a namespace can reach of the kernel: each is a name, which the loading process looks up."""

import subprocess
import sys
from pathlib import Path

import pytest
from harness import KernelUnderTest

PREPARE = (
    "import asyncio, builtins, copy, getpass, os, pickle, sys, time\nip = get_ipython()\n"
    "def same(value): return pickle.loads(pickle.dumps(value)) is copy.copy(value) is copy.deepcopy(value) is value"
)
REACHABLE = {
    "sys.stdout": True,
    "sys.stderr": True,
    "sys.stdout.buffer": True,
    "ip": True,
    "ip.kernel": True,
    "ip.displayhook": True,
    "ip.display_pub": True,
    "ip.history_manager": True,
}
REPLACED = ["os.system", "time.sleep", "input", "asyncio.run"]  # for the whole process: by functions of ours


@pytest.fixture
def prepared(kernel: KernelUnderTest) -> KernelUnderTest:
    assert kernel.execute(PREPARE)[1] == []
    return kernel


def test_what_is_ours_comes_back_as_itself(prepared: KernelUnderTest) -> None:
    asked = ", ".join(f"{one!r}: same({one})" for one in REACHABLE)
    assert prepared.execute(f"print({{{asked}}})")[1] == [f"stdout:{REACHABLE}\n"]


def test_what_holds_something_of_ours_can_be_copied_and_pickled(prepared: KernelUnderTest) -> None:
    code = (
        "class Report:\n    def __init__(self): self.out, self.write, self.leave, self.ask = sys.stdout, sys.stderr.write, exit, get_ipython\n"
        "for make in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):\n    one = make(Report())\n"
        "    print(one.out is sys.stdout, one.write.__self__ is sys.stderr, type(one.leave) is type(exit), one.ask() is ip)"
    )
    assert prepared.execute(code)[1] == ["stdout:" + "True True True True\n" * 2]


def test_functions_that_the_kernel_replaces_are_pickled_by_the_names_that_they_have(prepared: KernelUnderTest) -> None:
    """`pool.map(time.sleep, seconds)`, `pool.map(os.system, commands)`."""
    opened = prepared.reply(prepared.send("create_subshell_request", channel="control"))  # it replaces more of them
    try:
        asked = ", ".join(f"same({one})" for one in REPLACED)
        assert prepared.execute(f"print({asked})")[1] == [f"stdout:{' '.join(['True'] * len(REPLACED))}\n"]
    finally:
        prepared.reply(prepared.send("delete_subshell_request", channel="control", subshell_id=opened["subshell_id"]))


def test_a_stream_comes_back_where_there_is_no_kernel(prepared: KernelUnderTest, tmp_path: Path) -> None:
    path = tmp_path / "pickle"
    prepared.execute(
        f"with open({str(path)!r}, 'wb') as file: pickle.dump([sys.stdout, sys.stdout.buffer, os.system], file)"
    )
    code = (
        f"import os, pickle, sys\nwith open({str(path)!r}, 'rb') as file: found = pickle.load(file)\n"
        "print(*map(lambda one, other: one is other, found, (sys.stdout, sys.stdout.buffer, os.system)), 'ipymini' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True True True False\n", "")
