"""What a cell does to builtins and to the standard library's names: the kernel's own threads keep what they need."""

import importlib
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DEADLINE, KernelUnderTest, start_kernel

# In the kernel. The functions look up nothing in what they break.
TOOLS = """
def _tools():
    import importlib, os, _thread
    module_of, partition, dict_of = importlib.import_module, str.rpartition, vars
    base, failure = BaseException, OSError
    say, show, read, write, start = print, display, os.read, os.write, _thread.start_new_thread
    gate, told = os.open({gate!r}, os.O_RDWR), os.open({told!r}, os.O_RDWR)
    broken = []

    def raises(*arguments, **options):
        raise failure("replaced")

    def shatter(names, manner):
        found = [(dict_of(module_of(partition(name, ".")[0])), partition(name, ".")[2]) for name in names]
        found = [(names_of, name, names_of[name]) for names_of, name in found]
        broken.extend(found)
        for names_of, name, original in found:
            if manner == "deleted":
                del names_of[name]
            else:
                names_of[name] = raises if manner == "raises" else None

    def mend():
        for names_of, name, original in broken:
            names_of[name] = original
        broken.clear()

    def meanwhile(names, manner):
        try:
            shatter(names, manner)
            say("said")
            try:
                show(1)
            except base:
                pass  # IPython has no formatter without isinstance
            read(gate, 1)
        finally:
            mend()

    def mend_when_told():
        read(gate, 1)
        mend()
        write(told, b"x")

    def leave(names, manner):
        start(mend_when_told, ())
        shatter(names, manner)

    return meanwhile, leave, mend

meanwhile, leave, mend = _tools()
"""


class Breaker:
    """A kernel with a cell's tools for breaking names, and our ends of the pipes that these wait for."""

    def __init__(self, kernel: KernelUnderTest, directory: Path):
        self.kernel = kernel
        paths = {name: str(directory / name) for name in ("gate", "told")}
        for path in paths.values():
            os.mkfifo(path)
        self._gate, self._told = (os.open(path, os.O_RDWR) for path in paths.values())
        assert kernel.execute(TOOLS.format(**paths)) == ({**kernel.execute("")[0], "execution_count": 1}, [])

    def go_on(self) -> None:
        """Let what waits in the kernel go on."""
        os.write(self._gate, b"x")

    def mend(self) -> None:
        """Have a thread of the kernel's user put everything back, and wait until it has."""
        self.go_on()
        assert select.select([self._told], [], [], DEADLINE)[0]
        os.read(self._told, 1)

    def control_answers(self) -> None:
        """Ask something of the control channel."""
        assert self.kernel.reply(self.kernel.send("kernel_info_request", channel="control"))["status"] == "ok"


@pytest.fixture(scope="module")
def breaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breaker]:
    with start_kernel() as kernel:
        yield Breaker(kernel, tmp_path_factory.mktemp("pipes"))


def names_of(module: str) -> list[str]:
    """Return the functions, classes and exceptions of a module that a cell can replace."""
    found = vars(importlib.import_module(module))
    public = [name for name, value in found.items() if callable(value) and not name.startswith("_")]
    return [f"{module}.{name}" for name in public]


OF_SITE = {f"builtins.{name}" for name in ("copyright", "credits", "exit", "help", "license", "quit")}
BUILTINS = [*(set(names_of("builtins")) - OF_SITE), "builtins.__import__", "builtins.__build_class__"]
# What the kernel itself uses: one after the other.
SINGLE = {
    "builtins": BUILTINS,
    "time": names_of("time"),
    "threading": [*names_of("threading"), *(f"threading.{n}" for n in ("_active", "_allocate_lock", "_start_new_thread") if hasattr(importlib.import_module("threading"), n))],
    "_thread": names_of("_thread"),
    "select": [*names_of("select"), *(f"select.{name}" for name in dir(select) if name.isupper())],
    "selectors": names_of("selectors"),
    "logging": [*names_of("logging"), "logging.DEBUG", "logging.WARNING", "logging.root", "logging._lock"],
    "os": [f"os.{n}" for n in ("getpid", "getpgid", "killpg", "kill", "read", "write", "close", "pipe", "environ", "path", "urandom", "_exit", "fspath", "stat", "getcwd")] + ["posixpath.exists", "posixpath.join"],
    "signal": names_of("signal"),
    "json": names_of("json"),
    "heapq": names_of("heapq"),
    "collections": ["collections.deque", "collections.OrderedDict", "collections.namedtuple", "collections.defaultdict"],
    "asyncio": [f"asyncio.{n}" for n in ("get_running_loop", "current_task", "all_tasks", "wait", "Event", "Task", "Future", "run", "new_event_loop", "wrap_future", "CancelledError")],
}  # fmt: skip
TOGETHER = {
    **SINGLE,
    "os": names_of("os"),
    "socket": [*names_of("socket"), *names_of("_socket")],
    "datetime": names_of("datetime"),
    "queue": names_of("queue"),
    "contextlib": names_of("contextlib"),
    "concurrent.futures": names_of("concurrent.futures._base"),
}
MANNERS = ("None", "raises", "deleted")


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("module", SINGLE)
def test_the_kernel_goes_on_while_a_cell_has_replaced_a_name(breaker: Breaker, module: str, manner: str) -> None:
    for name in SINGLE[module]:
        replace_meanwhile(breaker, (name,), manner)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("module", TOGETHER)
def test_the_kernel_goes_on_while_a_cell_has_replaced_all_names(breaker: Breaker, module: str, manner: str) -> None:
    replace_meanwhile(breaker, tuple(TOGETHER[module]), manner)


def replace_meanwhile(breaker: Breaker, names: tuple[str, ...], manner: str) -> None:
    kernel = breaker.kernel
    kernel.execute(f"names = {names}")
    cell = kernel.send("execute_request", code=f"meanwhile(names, {manner!r})")
    kernel.wait_for("iopub", "stream", msg_id=cell, text="said")
    breaker.control_answers()
    breaker.go_on()
    assert (names, kernel.reply(cell)["status"]) == (names, "ok")
    of_display = ("display_data:", "error:", "stderr:")  # as far as IPython gets
    said = [line for line in kernel.outputs(cell)[2:] if not line.startswith(of_display)]
    assert (names, said) == (names, ["stdout:said\n", "status:idle"])
    assert kernel.execute("40 + 2")[1] == ["execute_result:42"]


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("module", SINGLE)
def test_the_next_cell_can_put_a_name_back(breaker: Breaker, module: str, manner: str) -> None:
    for name in SINGLE[module]:
        leave_replaced(breaker, (name,), manner)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("module", TOGETHER)
def test_the_next_cell_can_put_all_names_back(breaker: Breaker, module: str, manner: str) -> None:
    leave_replaced(breaker, tuple(TOGETHER[module]), manner)


def leave_replaced(breaker: Breaker, names: tuple[str, ...], manner: str) -> None:
    """Leave names broken. Where IPython can run no cell then, it says so: `reply` and `outputs` wait for both ends."""
    kernel = breaker.kernel
    kernel.execute(f"names = {names}")
    for code in (f"leave(names, {manner!r})", "mend()"):
        cell = kernel.send("execute_request", code=code, stop_on_error=False)
        kernel.reply(cell)
        assert (names, kernel.outputs(cell)[-1]) == (names, "status:idle")
        breaker.control_answers()
    breaker.mend()
    assert (names, kernel.execute("40 + 2")[1]) == (names, ["execute_result:42"])
