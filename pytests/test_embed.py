"""A kernel inside of a program: `ipymini.embed()`, on the main thread and on others, and all as before afterwards."""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Return program(code), which starts one."""
    started: list[Program] = []

    def start(code: str) -> Program:
        started.append(Program(tmp_path, code))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_cells_see_the_callers_variables_until_exit_and_the_program_goes_on(program: Any) -> None:
    embedding = program("""
        def count():
            local = [1]
            ipymini.embed(connection_file=FILE)
            return local
        elsewhere = "module"
        print("after", count(), os.path.exists(FILE), "In" in globals())
        print("through a stream of the kernel's", file=held, flush=True)
    """)
    kernel = embedding.connect()

    assert kernel.execute("local.append(2); print(elsewhere, local)")[1] == ["stdout:module [1, 2]\n"]
    assert kernel.execute("%who list")[1] == ["stdout:local\t \n"]
    kernel.execute("mine = 3\ndef function(): return mine, elsewhere, __name__\nclass Kind: pass")
    assert kernel.execute("[(*function(), local, Kind.__module__) for _n in range(1)]")[1] == [
        "execute_result:[(3, 'module', '__main__', [1, 2], '__main__')]"
    ]
    kernel.execute("import builtins, sys; builtins.held = sys.stdout")
    kernel.execute("import __main__; __main__.elsewhere = 'changed'")  # by whomever
    assert kernel.execute("elsewhere, (lambda: elsewhere)()")[1] == ["execute_result:('changed', 'changed')"]
    assert kernel.execute("import asyncio; await asyncio.sleep(0); [mine for _n in '1']")[1] == ["execute_result:[3]"]
    assert kernel.execute("exit")[0]["status"] == "ok"

    assert embedding.end() == ("after [1, 2] False False\nthrough a stream of the kernel's\n", "")
    assert embedding.process.returncode == 0


def test_what_cells_assign_at_the_top_level_is_there_afterwards_and_ipythons_names_are_not(program: Any) -> None:
    embedding = program("""
        _ = "mine"
        before = set(globals())
        ipymini.embed_kernel(connection_file=FILE, argv=["--InteractiveShellApp.exec_lines=first = 1"])
        print(_, function(), sorted(set(globals()) - before))
    """)
    kernel = embedding.connect()

    kernel.execute("second = 2\ndef function(): return first + second")
    assert kernel.execute("[function() for _n in range(2)]")[1] == ["execute_result:[3, 3]"]
    kernel.send("shutdown_request", channel="control", restart=False)

    assert embedding.end()[0] == "mine 3 ['before', 'first', 'function', 'second']\n"


def test_the_programs_arguments_stay_the_programs(program: Any) -> None:
    embedding = program("""
        sys.argv += ["--own", "argument"]
        ipymini.embed(connection_file=FILE, argv=["--debug"])
        print(sys.argv[1:])
    """)
    kernel = embedding.connect()

    assert kernel.execute("sys.argv[1:]")[1] == ["execute_result:['--own', 'argument']"]
    kernel.execute("exit")

    assert embedding.end()[0] == "['--own', 'argument']\n"


def test_what_cells_assign_is_put_into_the_namespace_that_was_given(program: Any) -> None:
    embedding = program("""
        names = {"given": 1}
        ipymini.embed_kernel(local_ns=names, connection_file=FILE)
        print(names)
    """)
    kernel = embedding.connect()

    kernel.execute("given += 1; new = 3; gone = 4\n'result'")
    kernel.execute("del gone\nnames['new'], FILE")
    kernel.execute("exit")

    assert embedding.end() == ("{'given': 2, 'new': 3}\n", "")


FACTS = """
import asyncio, builtins, gc, getpass, signal, time

def facts():
    gc.collect()
    return [
        sorted(thread.name for thread in threading.enumerate()), len(os.listdir("/proc/self/fd")),
        [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGURG)], signal.set_wakeup_fd(-1),
        list(map(id, (sys.stdout, sys.stderr, sys.displayhook, sys.excepthook, sys.breakpointhook, builtins.input,
                      getpass.getpass, threading.Thread.start, time.sleep, sys.modules["__main__"]))),
        sorted(os.environ.items()), sys.path, [os.readlink(f"/proc/self/fd/{n}") for n in (1, 2)],
        hasattr(builtins, "get_ipython"), sys.meta_path[:1] == first_finder,
    ]
first_finder = sys.meta_path[:1]
"""

THRICE = (
    FACTS
    + """
def once():
    ipymini.embed_kernel(connection_file=FILE, local_ns={})
before = facts()
for turn in range(3):
    if OFF_MAIN:
        thread = threading.Thread(target=once)
        thread.start(); thread.join()
    else:
        once()
    if turn == 0:
        settled = facts()  # imports keep descriptors of their own
after = facts()
same = [a == b for a, b in zip(before, after)]
print(same, settled[1] == after[1], [a for a, b in zip(after, before) if a != b])
"""
)


@pytest.mark.parametrize("where", ["main", "thread"])
def test_afterwards_everything_is_as_before_each_time(program: Any, where: str) -> None:  # L12, L9
    embedding = program(f"OFF_MAIN = {where == 'thread'}\n{THRICE}")

    for _ in range(3):
        kernel = embedding.connect()
        assert kernel.execute("import asyncio; await asyncio.sleep(0); 1 + 1")[1] == ["execute_result:2"]
        subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
        in_subshell = kernel.send("execute_request", code="3", header={"subshell_id": subshell})
        assert kernel.outputs(in_subshell)[-2:] == ["execute_result:3", "status:idle"]
        kernel.reply(kernel.send("complete_request", code="pri", cursor_pos=3))
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))

    out, err = embedding.end()
    same, settled, differing = out.partition("] ")[0] + "]", out.split("] ")[1].split(" ")[0], out
    facts = json.loads(same.lower())
    assert facts[:1] + facts[2:] == [True] * 9, (differing, err)
    assert settled == "True", (out, err)


@pytest.mark.parametrize(
    "cell",
    ["while True: pass", "import time; time.sleep(60)", "import asyncio; await asyncio.sleep(60)", "input()"],
)
def test_off_the_main_thread_a_message_interrupts_the_cell_and_nothing_else(program: Any, cell: str) -> None:
    embedding = program("""
        serving = threading.Thread(target=ipymini.embed_kernel, kwargs=dict(connection_file=FILE, local_ns=globals()))
        serving.start()
        try:
            answer = sys.stdin.readline().strip()  # what the program does itself
        except KeyboardInterrupt:
            answer = "interrupted"
        print("the program's", answer, flush=True)
        serving.join()
    """)
    kernel = embedding.connect()

    request = kernel.send("execute_request", code=f"print('runs')\n{cell}", allow_stdin=True)
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)
    if cell == "input()":
        kernel.wait_for("stdin", "input_request")
    kernel.ask_to_interrupt()

    assert kernel.reply(request)["ename"] == "KeyboardInterrupt"
    assert kernel.execute("7 * 6")[1] == ["execute_result:42"]
    embedding.type("line")
    assert embedding.line() == "the program's line\n"
    kernel.execute("exit")
    assert embedding.end() == ("", "")


def test_the_program_keeps_its_own_prints_and_questions(program: Any) -> None:
    embedding = program("""
        serving = threading.Thread(target=ipymini.embed_kernel, kwargs=dict(connection_file=FILE, local_ns=globals()))
        serving.start()
        print("asked:", input())
        serving.join()  # from Python 3.12 on, a program that has come to its end starts no threads any more
    """)
    kernel = embedding.connect()

    assert kernel.execute("print('from a cell')")[1] == ["stdout:from a cell\n"]
    embedding.type("by the program")
    assert embedding.line() == "asked: by the program\n"
    threads = "import threading; t = threading.Thread(target=print, args=('its thread',)); t.start(); t.join()"
    assert kernel.execute(threads)[1] == ["stdout:its thread\n"]
    kernel.execute("exit")
    assert embedding.end() == ("", "")


def test_control_c_interrupts_what_runs_and_twice_ends_an_idle_kernel(program: Any) -> None:  # I24
    embedding = program("""
        import ipymini.embed
        ipymini.embed.TWICE = 100  # seconds: machines may be slow
        ipymini.embed(connection_file=FILE)
        print('after')
    """)
    kernel = embedding.connect()

    request = kernel.send("execute_request", code="print('runs')\nwhile True: pass")
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)
    embedding.process.send_signal(signal.SIGINT)
    assert kernel.reply(request)["ename"] == "KeyboardInterrupt"
    kernel.reply(kernel.send("comm_info_request"))  # nothing of the cell's runs any more

    embedding.process.send_signal(signal.SIGINT)
    assert embedding.line("stderr") == "ipymini: nothing runs; Ctrl-C again ends the kernel\n"
    assert kernel.execute("1")[1] == ["execute_result:1"]
    kernel.reply(kernel.send("comm_info_request"))
    embedding.process.send_signal(signal.SIGINT)
    assert embedding.end() == ("after\n", "")


def test_stop_ends_a_running_cell_and_waits(program: Any) -> None:  # L2
    embedding = program("""
        import ipymini.embed
        serving = threading.Thread(target=ipymini.embed, kwargs=dict(connection_file=FILE))
        serving.start()
        sys.stdin.readline()
        try:
            ipymini.embed_kernel()
        except ipymini.embed.KernelRunning as error:
            print(error)
        print(ipymini.embed.stop(), os.path.exists(FILE), ipymini.embed.stop())
        serving.join()
    """)
    kernel = embedding.connect()
    request = kernel.send("execute_request", code="print('runs')\nimport time; time.sleep(60)")
    kernel.wait_for("iopub", "stream", text="runs", msg_id=request)

    embedding.type("")

    assert kernel.reply(request)["status"] == "error"
    assert embedding.end() == (
        "expected no kernel in this process, there is one: end it first, or connect to it\nTrue False True\n", "",
    )  # fmt: skip


def test_it_serves_inside_of_a_running_loop_and_of_another_ipython(program: Any) -> None:
    embedding = program("""
        import asyncio, IPython
        from IPython.terminal.interactiveshell import TerminalInteractiveShell
        outer = TerminalInteractiveShell.instance(simple_prompt=True)
        async def main():
            ipymini.embed(connection_file=FILE)
            return asyncio.current_task().get_name(), asyncio.get_running_loop().is_running()
        print(*asyncio.run(main()), IPython.get_ipython() is outer, TerminalInteractiveShell.instance() is outer)
    """)
    kernel = embedding.connect()

    assert kernel.execute("import asyncio; await asyncio.sleep(0); asyncio.run(asyncio.sleep(0, 'nested'))")[1] == [
        "execute_result:'nested'"
    ]
    assert kernel.execute("type(get_ipython()).__name__")[1] == ["execute_result:'ZMQInteractiveShell'"]
    kernel.execute("exit")

    assert embedding.end() == ("Task-1 True True True\n", "")


def test_a_start_that_fails_raises_and_leaves_all_as_before(program: Any) -> None:  # L8
    embedding = program(f"""
        {textwrap.indent(FACTS, " " * 8).strip()}
        import socket
        from ipymini.messages import IpyminiError
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        def attempt():
            try:
                ipymini.embed(connection_file=FILE, shell_port=port)
            except IpyminiError as error:
                return str(error)
        said = attempt()
        before = facts()
        attempt()
        print(said.replace(str(port), "PORT"), facts() == before, os.path.exists(FILE))
    """)

    out, err = embedding.end()
    assert out.endswith(" True False\n"), (out, err)
    assert "PORT" in out


def test_a_kernel_says_where_its_connection_file_is(kernel: KernelUnderTest) -> None:
    file = kernel.manager.connection_file

    code = """if True:
        import json, ipymini
        from pathlib import Path
        file = ipymini.get_connection_file()
        text, info = ipymini.get_connection_info(), ipymini.connect.get_connection_info(file, unpack=True)
        print(file, json.loads(text)['shell_port'] == info['shell_port'], type(info['key']).__name__)"""
    assert kernel.execute(code)[1] == [f"stdout:{file} True bytes\n"]


def test_outside_of_a_kernel_there_is_no_connection_file() -> None:
    import ipymini
    from ipymini.cells import NoKernel

    with pytest.raises(NoKernel, match="there is none in this process"):
        ipymini.get_connection_file()
