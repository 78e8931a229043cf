"""processes: what the system says of this process, its children and its group; and the end of the group.

Reads /proc where there is one, psutil where there is none and it is installed. Starts nothing.
"""

import socket
from pathlib import Path

from ipymini.protocol.messages import Content
from ipymini.protocol.originals import __builtins__, os, signal, suppress, time  # noqa: F401

PROC = Path("/proc")
TERM_GRACE = 0.2  # seconds between SIGTERM and SIGKILL for the members of our group
_MEMORY_NAMES = {
    "MemTotal": "total",
    "MemAvailable": "available",
    "MemFree": "free",
    "Active": "active",
    "Inactive": "inactive",
    "Buffers": "buffers",
    "Cached": "cached",
    "Shmem": "shared",
    "Slab": "slab",
}
# Times at the last report, whose percentages are of what has passed since. The control lane alone asks.
_kernel_before: tuple[float, float] | None = None  # (when, cpu seconds)
_host_before: tuple[int, int] | None = None  # (all ticks, idle ticks)


def report() -> Content:
    """Return what usage_reply says: percent of one core, bytes, and the host's memory.

    The first report's `kernel_cpu` is an average since the kernel started; later ones are since the last report.
    """
    content: Content = {"hostname": socket.gethostname(), "pid": os.getpid(), "cpu_count": os.cpu_count()}
    if PROC.joinpath("self/stat").exists():
        pids = family(os.getpid())
        content["kernel_cpu"] = _cpu_percent(pids)
        content["kernel_memory"] = sum(map(_memory, pids))
        content["host_virtual_memory"] = _host_memory()
        if (host := _host_cpu_percent()) is not None:
            content["host_cpu_percent"] = host
        return content
    with suppress(ImportError):
        import psutil

        me = psutil.Process()
        content["kernel_memory"] = me.memory_info().rss
        content["kernel_cpu"] = me.cpu_percent()
        content["host_cpu_percent"] = psutil.cpu_percent()
        content["host_virtual_memory"] = dict(psutil.virtual_memory()._asdict())
    return content


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents = {child: fields[1] for child, fields in _all_stats()}
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def group_members() -> list[int]:
    """Return the other processes of our group, if we lead it; else nothing: they are not ours to end."""
    me = os.getpid()
    if os.getpgid(0) != me:
        return []
    return [pid for pid, fields in _all_stats() if fields[2] == me and pid != me and fields[0] != "Z"]


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


def _all_stats() -> list[tuple[int, tuple[str, int, int]]]:
    """Return (pid, (state, parent, group)) of every process; those that end meanwhile are left out."""
    found = []
    for directory in os.listdir(PROC) if PROC.exists() else ():
        if directory.isdigit():
            with suppress(OSError, ValueError):
                fields = _stat(int(directory))
                found.append((int(directory), (fields[0], int(fields[1]), int(fields[2]))))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (a program's name may hold spaces and brackets)."""
    return PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()


def _cpu_percent(pids: list[int]) -> float:
    global _kernel_before
    tick = os.sysconf("SC_CLK_TCK")
    seconds, now = 0.0, time.monotonic()
    for pid in pids:
        with suppress(OSError, ValueError):
            fields = _stat(pid)
            seconds += (int(fields[11]) + int(fields[12])) / tick
    uptime = float(PROC.joinpath("uptime").read_text().split()[0])
    age = max(uptime - int(_stat(os.getpid())[19]) / tick, 0.01)
    then, before = _kernel_before or (now - age, 0.0)
    _kernel_before = (now, seconds)
    return round(max(seconds - before, 0.0) / max(now - then, 0.001) * 100, 1)


def _host_cpu_percent() -> float | None:
    global _host_before
    ticks = list(map(int, PROC.joinpath("stat").read_text().split("\n", 1)[0].split()[1:9]))
    total, idle = sum(ticks), ticks[3] + ticks[4]
    before, _host_before = _host_before, (total, idle)
    if before is None or total <= before[0]:
        return None
    return round((1 - (idle - before[1]) / (total - before[0])) * 100, 1)


def _memory(pid: int) -> int:
    """Return a process's share of memory in bytes: pages shared by n processes count 1/n."""
    with suppress(OSError):
        for line in PROC.joinpath(str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):
        return int(PROC.joinpath(str(pid), "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _host_memory() -> Content:
    found: Content = {}
    for line in PROC.joinpath("meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in _MEMORY_NAMES:
            found[_MEMORY_NAMES[name]] = int(rest.split()[0]) * 1024
    found["used"] = found["total"] - found["available"]
    found["percent"] = round(found["used"] / found["total"] * 100, 1)
    return found
