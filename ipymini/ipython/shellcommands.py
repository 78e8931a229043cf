"""shellcommands: runs `!command`, `names = !command` and the like; an interrupt ends them. Knows no other magics.

With IPython's own functions an interrupt ends the command, and the cell goes on. Here it ends both. A command
writes to a terminal (so that `ls` has columns and pip a bar) or to a pipe, in a session of its own, and its standard
input is empty: nobody could answer it.
"""

import codecs
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from IPython.utils.text import LSString, SList

from ipymini.execution.stacks import shielded

GRACE = 0.2  # seconds between SIGINT, SIGTERM and SIGKILL
SLICE_MS = 50  # ms within which a lane without signals notices an interrupt


class RunsCommands:
    """The part of the shell that runs commands. Variables are those of the frame that calls these methods."""

    def system_piped(self: Any, cmd: str) -> None:
        """Run a command and show what it writes: `!cmd`. The exit code becomes `_exit_code`."""
        if cmd.rstrip().endswith("&"):
            raise OSError("Background processes not supported.")
        self._run_command(self.var_expand(cmd, depth=1), terminal=True)

    def system_raw(self: Any, cmd: str) -> None:
        """The same without a terminal, and commands may stay in the background."""
        self._run_command(self.var_expand(cmd, depth=1), terminal=False)

    system = system_piped

    def getoutput(self: Any, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """Run a command and return what it writes: `names = !cmd`, `!!cmd`, `%sx`."""
        if cmd.rstrip().endswith("&"):
            raise OSError("Background processes not supported.")
        written: list[str] = []
        self._run_command(self.var_expand(cmd, depth=depth + 1), terminal=False, show=written.append)
        text = "".join(written)
        return SList(text.splitlines()) if split else LSString(text)

    def _run_command(self: Any, command: str, *, terminal: bool, show: Callable[[str], object] | None = None) -> None:
        code = run(command, show or sys.stdout.write, terminal=terminal)
        if show is None or self.system_raise_on_error:
            self.user_ns["_exit_code"] = code
        if self.system_raise_on_error and code:
            raise subprocess.CalledProcessError(code, command)


def run(command: str, show: Callable[[str], object], *, terminal: bool = False) -> int:
    """Run a command in the user's shell and show what it writes, as it comes; return its exit code.

    The code is negative for a signal, as IPython's `_exit_code`. What runs in the background is left alone. Raises
    KeyboardInterrupt when the command has ended, and its children with it, and OSError if there is no such shell.
    """
    ours, theirs = os.openpty() if terminal else os.pipe()
    try:
        if terminal:
            _write_plain_line_ends(theirs)
        process = _start(command, theirs)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        _show_until_it_ends(process, ours, show)
    except BaseException:
        _end(process)
        raise
    finally:
        os.close(ours)
    return process.returncode if process.returncode <= 128 else 128 - process.returncode


@shielded  # an interrupt in between would leave a child that nobody knows
def _start(command: str, output: int) -> "subprocess.Popen[bytes]":
    words = [os.environ.get("SHELL") or "sh", "-c", command]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _write_plain_line_ends(terminal: int) -> None:
    import termios

    modes = termios.tcgetattr(terminal)
    modes[1] &= ~termios.ONLCR  # a line ends with "\n", and not with "\r\n"
    termios.tcsetattr(terminal, termios.TCSANOW, modes)


def _show_until_it_ends(process: "subprocess.Popen[bytes]", source: int, show: Callable[[str], object]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    readable = select.poll()
    readable.register(source, select.POLLIN)
    while True:
        has_ended = process.poll() is not None  # asked first: what it wrote before its end can be read now
        if readable.poll(0 if has_ended else SLICE_MS):
            try:
                data = os.read(source, 65_536)
            except OSError:  # EIO: no process has the terminal open any more
                data = b""
            if data:
                show(decoder.decode(data))
                continue
            process.wait()
            has_ended = True
        if has_ended:
            show(decoder.decode(b"", final=True))
            return


@shielded
def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a command and its children, also if they ignore signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue
