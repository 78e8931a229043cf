"""processes: what the system says of this process, its children and its group; and the end of the group.

Usage is measured by psutil, if that is installed; the group is found in /proc, where there is one. Starts nothing.
"""

import socket
from pathlib import Path
from typing import Any

from ipymini.protocol.messages import Content
from ipymini.protocol.originals import __builtins__, os, signal, suppress, time  # noqa: F401

PROC = Path("/proc")
TERM_GRACE = 0.2  # seconds between SIGTERM and SIGKILL for the members of our group
# psutil's Process objects of the last report, whose percentages are since then. The control lane alone asks.
_measured: set[Any] = set()


def report() -> Content:
    """Return what usage_reply says: percent of one core and bytes, of the kernel and its children; the host's memory.

    The first report's percentages are 0; later ones are since the last report. Without psutil there are none.
    """
    global _measured
    content: Content = {"hostname": socket.gethostname(), "pid": os.getpid(), "cpu_count": os.cpu_count()}
    try:
        import psutil
    except ImportError:
        return content
    me = psutil.Process()
    family = {me, *me.children(recursive=True)}
    _measured = {process for process in _measured if process in family} | family  # an object knows its last time
    cpu, memory = 0.0, 0
    for process in _measured:
        with suppress(psutil.Error):  # it has ended
            cpu += process.cpu_percent()
            memory += _memory(process)
    content["kernel_cpu"], content["kernel_memory"] = round(cpu, 1), memory
    content["host_cpu_percent"] = psutil.cpu_percent()
    content["host_virtual_memory"] = dict(psutil.virtual_memory()._asdict())
    return content


def _memory(process: Any) -> int:
    """Return a process's share of memory in bytes: where the system tells, pages shared by n processes count 1/n."""
    full = process.memory_full_info()
    return int(getattr(full, "pss", full.rss))


def group_members() -> list[int]:
    """Return the other processes of our group, if we lead it; else nothing: they are not ours to end."""
    me = os.getpid()
    if os.getpgid(0) != me or not PROC.exists():
        return []
    members = []
    for pid in map(int, filter(str.isdigit, os.listdir(PROC))):
        with suppress(OSError, ValueError):  # it ends meanwhile
            text = PROC.joinpath(str(pid), "stat").read_text()
            state, _, group = text.rpartition(")")[2].split()[:3]  # a program's name may hold spaces and brackets
            if int(group) == me and pid != me and state != "Z":
                members.append(pid)
    return members


def end_group() -> None:
    """Ask the other processes of our group to end, and after TERM_GRACE seconds make them. Blocks for that long."""
    deadline = time.monotonic() + TERM_GRACE
    _signal(group_members(), signal.SIGTERM)
    while (left := group_members()) and time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.005)  # nothing tells of the end of a process that is not our child
    _signal(left, signal.SIGKILL)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
