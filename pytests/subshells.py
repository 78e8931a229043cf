"""subshells: what tests of subshells ask and count. Every wait has a deadline."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from harness import KernelUnderTest


def create(kernel: KernelUnderTest) -> str:
    reply = kernel.reply(kernel.send("create_subshell_request", channel="control"))
    assert reply["status"] == "ok", reply
    return str(reply["subshell_id"])


def delete(kernel: KernelUnderTest, subshell_id: str) -> dict[str, Any]:
    return kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell_id))


def listed(kernel: KernelUnderTest) -> list[str]:
    found: list[str] = kernel.reply(kernel.send("list_subshell_request", channel="control"))["subshell_id"]
    return found


def gone(kernel: KernelUnderTest, name: str = "ipymini-subshell") -> None:
    """Wait until no thread of that name is left."""
    code = (
        "import threading, time\nend = time.monotonic() + 10\n"
        f"while [t for t in threading.enumerate() if t.name.startswith({name!r})] and time.monotonic() < end: time.sleep(.005)\n"
        f"[t.name for t in threading.enumerate() if t.name.startswith({name!r})]"
    )
    assert kernel.execute(code)[1] == ["execute_result:[]"]


def descriptors(kernel: KernelUnderTest) -> int:
    """Return how many are open, those of clients and of the history database aside.

    Clients connect, and their heartbeats connect anew, when they like. SQLite keeps the descriptors of closed connections while another one holds a lock, and takes them again: there are as
    many as there have been readers at a time.
    """
    paths = []
    for path in Path(f"/proc/{kernel.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            paths.append(os.readlink(path))
    clients = psutil.Process(kernel.pid).net_connections()
    return sum("history.sqlite" not in path for path in paths) - len(clients)


def settled(kernel: KernelUnderTest, most: int) -> None:
    """Wait until no more descriptors than that are open: what is counted changes while it is counted."""
    end = time.monotonic() + 20
    while descriptors(kernel) > most:
        assert time.monotonic() < end, (descriptors(kernel), most)
        time.sleep(0.05)


def send(kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any) -> str:
    return kernel.send("execute_request", header={"subshell_id": subshell_id}, code=code, **content)


def run(
    kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any
) -> tuple[dict[str, Any], list[str]]:
    return kernel.execute(code, header={"subshell_id": subshell_id}, **content)


def outputs(kernel: KernelUnderTest, msg_id: str) -> list[str]:
    return [line for line in kernel.outputs(msg_id) if not line.startswith(("status:", "execute_input:"))]


def running(kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any) -> str:
    msg_id = send(kernel, subshell_id, code, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text="on")
    return msg_id
