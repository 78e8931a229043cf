"""`jupyter console --existing`, in a terminal of its own, with a kernel and with a kernel inside of a program."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest
from harness import DEADLINE, start_kernel
from program import Program

pytestmark = pytest.mark.peers


@contextmanager
def console(file: Path | str, tmp_path: Path) -> Iterator[Any]:
    """Open a console for a kernel, by its connection file; yields it when it shows its first prompt."""
    terminal = pexpect.spawn(
        sys.executable, ["-m", "jupyter_console", "--existing", str(file), "--simple-prompt"],
        env={**os.environ, "TERM": "dumb", "IPYTHONDIR": str(tmp_path), "NO_COLOR": "1", "JUPYTER_CONFIG_DIR": str(tmp_path)},
        encoding="utf-8", timeout=DEADLINE, dimensions=(40, 120), echo=False,
    )  # fmt: skip
    try:
        terminal.expect(r"In \[\d+\]: ")
        yield terminal
    finally:
        terminal.close(force=True)


def test_a_console_runs_cells_asks_and_leaves_the_kernel_alive(tmp_path: Path) -> None:
    with start_kernel() as kernel:
        with console(kernel.manager.connection_file, tmp_path) as terminal:
            terminal.sendline("6 * 7")
            terminal.expect(r"Out\[1\]: 42\s.*In \[2\]: ")
            terminal.sendline("print('hello', input('name? '))")
            terminal.expect("name\\? ")
            terminal.sendline("world")
            terminal.expect("hello world\\s.*In \\[3\\]: ")
            terminal.sendline("1/0")
            terminal.expect("ZeroDivisionError\\S*: division by zero\\s.*In \\[4\\]: ")
            terminal.sendline("%connect_info")
            terminal.expect(f"jupyter <app> --existing {Path(kernel.manager.connection_file).name}")
            terminal.expect("In \\[5\\]: ")
            terminal.sendline("exit(keep_kernel=True)")
            terminal.expect(pexpect.EOF)
        assert kernel.execute("7 * 6")[1] == ["execute_result:42"]


def test_a_console_ends_an_embedded_kernel_with_exit_and_the_program_goes_on(tmp_path: Path) -> None:
    embedding = Program(tmp_path, "local = 1\nipymini.embed(connection_file=FILE)\nprint('after', local)")
    try:
        embedding.connect()
        with console(embedding.file, tmp_path) as terminal:
            terminal.sendline("local += 1; local")
            terminal.expect(r"Out\[1\]: 2\s.*In \[2\]: ")
            embedding.clients.pop().stop_channels()
            terminal.sendline("get_ipython().ask_exit()")
            assert embedding.end() == ("after 2\n", "")
    finally:
        embedding.close()
