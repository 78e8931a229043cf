"""A program that embeds a kernel, for tests of `embed` and of clients that connect to it."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import DEADLINE, REPOSITORY, KernelUnderTest
from jupyter_client import BlockingKernelClient


class Program:
    """A Python program that embeds a kernel, and a client of that kernel."""

    def __init__(self, tmp_path: Path, code: str):
        self.file = tmp_path / "kernel.json"
        script = tmp_path / "program.py"
        script.write_text(
            f"import ipymini, json, os, sys, threading\nFILE = {str(self.file)!r}\n{textwrap.dedent(code)}"
        )
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=tmp_path, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path / "ipython")},
        )  # fmt: skip
        self.clients: list[BlockingKernelClient] = []
        self._lines: dict[str, queue.Queue[str]] = {"stdout": queue.Queue(), "stderr": queue.Queue()}
        for name in self._lines:
            threading.Thread(target=self._read, args=(name,), daemon=True).start()

    def _read(self, name: str) -> None:
        for line in getattr(self.process, name):
            self._lines[name].put(line)
        self._lines[name].put("")

    def line(self, name: str = "stdout") -> str:
        """Return the next line that the program says, or "" at its end."""
        return self._lines[name].get(timeout=DEADLINE)

    def type(self, line: str) -> None:
        """Type a line at the program's terminal."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def connect(self) -> KernelUnderTest:
        """Wait until a kernel says how to connect, and connect."""
        said = self.line("stderr")
        assert said.endswith(f": to connect a client: jupyter console --existing {self.file}\n"), said
        client = BlockingKernelClient()
        client.load_connection_info(json.loads(self.file.read_text()))
        client.start_channels()
        self.clients.append(client)
        kernel = KernelUnderTest(self, client, Path(os.devnull))  # type: ignore[arg-type]
        kernel.wait_for("iopub", "iopub_welcome")
        return kernel

    def is_alive(self) -> bool:
        """Whether the program runs: what the harness asks a manager."""
        return self.process.poll() is None

    @property
    def provisioner(self) -> Any:
        """Who has a `pid`: what the harness asks a manager."""
        return self.process

    def end(self) -> tuple[str, str]:
        """Wait for the program's end; return what it said on stdout and on stderr."""
        self.process.wait(DEADLINE)
        out, err = ("".join(iter(lambda name=name: self.line(name), "")) for name in self._lines)
        return out, err

    def close(self) -> None:
        """End it, and the clients."""
        for client in self.clients:
            client.stop_channels()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:
            pass
