"""The kernel's life: how it ends when it is asked to, told to, or left alone; what it leaves behind, and what not."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, KernelUnderTest
from jupyter_client import BlockingKernelClient

PATIENCE = 5  # seconds: jupyter_client kills a kernel that takes longer
STUBBORN = "import time\nwhile True:\n try: print('on'); time.sleep(60)\n except BaseException: pass"
FORGIVING = (
    "import time\nend = time.monotonic() + .6\nwhile time.monotonic() < end:\n"
    " try: print('on'); time.sleep(.6)\n except BaseException: pass"
)
CELLS = {
    "sleeps": "import time; print('on'); time.sleep(60)",
    "computes": "print('on')\nwhile True: pass",
    "asks": "print('on'); input('? ')",
    "awaits": "import asyncio; print('on'); await asyncio.sleep(60)",
    "waits for a child": "import subprocess; print('on'); subprocess.run(['sleep', '60'])",
    "waits for a thread": (
        "import threading; t = threading.Thread(target=threading.Event().wait); t.start(); print('on'); t.join()"
    ),
}


def running(kernel: KernelUnderTest, code: str, **content: Any) -> str:
    msg_id = kernel.send("execute_request", code=code, allow_stdin=True, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text="on")
    return msg_id


def exit_code(kernel: KernelUnderTest, seconds: float = PATIENCE) -> int:
    process: subprocess.Popen[bytes] = kernel.manager.provisioner.process  # type: ignore[union-attr]
    return process.wait(seconds)


def shut_down(kernel: KernelUnderTest, channel: str = "control", **content: Any) -> str:
    return kernel.send("shutdown_request", channel=channel, **{"restart": False, **content})


@contextmanager
def watched(pid: int) -> Iterator[Callable[[float], bool]]:
    """Yield ended(seconds): whether the process ends within that time. It need not be our child."""
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda seconds: bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def texts(kernel: KernelUnderTest) -> str:
    """Return all that came on the streams, of whatever request."""
    kernel.drain()
    everything = [message for pool in kernel.seen.values() for message in pool if message["msg_type"] == "stream"]
    return "".join(message["content"]["text"] for message in everything)


# ---- asked to ------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["control", "shell"])
def test_a_shutdown_is_answered_told_to_all_and_ends_with_code_0(
    own_kernel: KernelUnderTest, channel: str
) -> None:  # L1, L11
    asked = shut_down(own_kernel, channel)
    assert own_kernel.reply(asked) == {"status": "ok", "restart": False}
    assert own_kernel.outputs(asked) == ["status:busy", "status:idle"]
    said = own_kernel.wait_for("iopub", "shutdown_reply")
    assert (said["content"], said["parent_header"]) == ({"status": "ok", "restart": False}, {})
    assert exit_code(own_kernel) == 0
    own_kernel.drain()
    assert len(own_kernel.reply_messages(asked)) == 1


@pytest.mark.parametrize("name", CELLS)
def test_a_busy_kernel_ends_too_and_its_cell_is_answered(own_kernel: KernelUnderTest, name: str) -> None:  # L2, Q1
    cell = running(own_kernel, CELLS[name])
    queued = own_kernel.send("execute_request", code="print('never')")
    asked = shut_down(own_kernel)
    assert own_kernel.reply(asked)["status"] == "ok"
    assert exit_code(own_kernel) == 0
    replies = own_kernel.replies(cell, queued)
    assert own_kernel.outputs(cell)[-1] == "status:idle"
    assert own_kernel.outputs(queued) == ["status:busy", "status:idle"]
    assert replies[cell]["status"] == "error"
    assert replies[queued]["ename"] == "KernelStopping"
    own_kernel.wait_for("iopub", "shutdown_reply")


SLOW = """
import threading
from ipymini.execution.channels import Channels
from ipymini.frontend.stdin import Stdin
abandon_all, caught_up, asked = Stdin.abandon_all, Channels.caught_up, threading.Event()
def slow(self, error):
    abandon_all(self, error)
    asked.wait(.5)  # until the cell has failed, and looks what waits behind it
def asking(self):
    asked.set()
    return caught_up(self)
Stdin.abandon_all, Channels.caught_up = slow, asking
"""


def test_a_cell_behind_a_question_is_told_that_the_kernel_stops(own_kernel: KernelUnderTest) -> None:  # L2, Q1
    own_kernel.execute(SLOW)
    running(own_kernel, CELLS["asks"])
    queued = own_kernel.send("execute_request", code="print('never')")
    own_kernel.reply(own_kernel.send("kernel_info_request"))  # on the same socket: it has arrived
    shut_down(own_kernel)
    assert own_kernel.reply(queued)["ename"] == "KernelStopping"
    assert exit_code(own_kernel) == 0


def test_a_cell_that_will_not_end_does_not_hold_up_the_kernel(own_kernel: KernelUnderTest) -> None:  # L2, L5, Q1
    cell = running(
        own_kernel, "import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid, flush=True)\n" + STUBBORN
    )
    child = int(texts(own_kernel).split()[0])
    queued = own_kernel.send("execute_request", code="print('never')")
    with watched(child) as child_ended:
        asked = shut_down(own_kernel)
        assert own_kernel.reply(asked)["status"] == "ok"
        assert exit_code(own_kernel) == 0
        assert child_ended(PATIENCE)
    own_kernel.wait_for("iopub", "shutdown_reply")
    for one in (cell, queued):
        assert own_kernel.reply(one)["ename"] == "KernelStopping"
        assert own_kernel.outputs(one)[-1] == "status:idle"


def test_a_busy_subshell_does_not_hold_up_the_kernel(own_kernel: KernelUnderTest) -> None:  # L2
    subshell_id = own_kernel.reply(own_kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    running(own_kernel, CELLS["computes"], header={"subshell_id": subshell_id})
    assert own_kernel.reply(shut_down(own_kernel))["status"] == "ok"
    assert exit_code(own_kernel) == 0


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True).pid",
        "import subprocess; subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 60']).pid",
        "import threading, time, os; threading.Thread(target=time.sleep, args=(60,)).start(); os.getpid()",
        "import asyncio, os\nasync def forever():\n while True:\n"
        "  try: await asyncio.sleep(60)\n  except BaseException: pass\n"
        "job = asyncio.create_task(forever()); os.getpid()",
        "import atexit, os\natexit.register(lambda: 1/0); os.getpid()",
        "import atexit, os, time\natexit.register(time.sleep, 60); os.getpid()",
        "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.getpid()",
    ],
    ids=[
        "a child holds fd 1",
        "a child ignores SIGTERM",
        "non-daemon thread",
        "stubborn task",
        "exit function fails",
        "exit function hangs",
        "SIGTERM ignored",
    ],
)
def test_what_cells_left_running_does_not_hold_up_the_kernel(
    own_kernel: KernelUnderTest, code: str
) -> None:  # L3, L5, L7
    pid = int(own_kernel.execute(code)[1][0].removeprefix("execute_result:"))
    try:
        shut_down(own_kernel)
        assert exit_code(own_kernel) == 0
    finally:
        if pid != own_kernel.pid and "start_new_session" in code:
            os.kill(pid, signal.SIGKILL)


def test_children_of_our_group_die_with_us_and_others_live(own_kernel: KernelUnderTest) -> None:  # L5
    code = (
        "import subprocess\nstubborn = ['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done']\n"
        "mine = [subprocess.Popen(['sleep', '60']), subprocess.Popen(stubborn)]\n"
        "other = subprocess.Popen(['sleep', '60'], start_new_session=True)\n[*(one.pid for one in mine), other.pid]"
    )
    *mine, other = json.loads(own_kernel.execute(code)[1][0].removeprefix("execute_result:"))
    try:
        with watched(mine[0]) as first, watched(mine[1]) as second, watched(other) as foreign:
            shut_down(own_kernel)
            assert exit_code(own_kernel) == 0
            assert first(PATIENCE) and second(PATIENCE)
            assert not foreign(0)
    finally:
        os.kill(other, signal.SIGKILL)


def test_exit_functions_and_finally_blocks_run_and_their_output_arrives(
    own_kernel: KernelUnderTest, tmp_path: Path
) -> None:  # L1, L11
    note = tmp_path / "note"
    leave = f"lambda: (print('at exit'), pathlib.Path({str(note)!r}).write_text('written'))"
    own_kernel.execute(f"import atexit, pathlib\natexit.register({leave})")
    cell = running(own_kernel, "import time\ntry: print('on'); time.sleep(60)\nfinally: print('finally')")
    shut_down(own_kernel)
    assert exit_code(own_kernel) == 0
    assert "finally\n" in "".join(own_kernel.outputs(cell))
    own_kernel.wait_for("iopub", "shutdown_reply")
    assert "at exit\n" in texts(own_kernel)
    assert note.read_text() == "written"


def test_async_cleanup_of_background_tasks_runs(own_kernel: KernelUnderTest, tmp_path: Path) -> None:  # L2
    note = tmp_path / "note"
    code = (
        f"import asyncio, pathlib\nasync def job():\n try: await asyncio.sleep(60)\n"
        f" finally: pathlib.Path({str(note)!r}).write_text('cleaned')\n"
        "task = asyncio.create_task(job()); await asyncio.sleep(0)"
    )
    own_kernel.execute(code)
    shut_down(own_kernel)
    assert exit_code(own_kernel) == 0
    assert note.read_text() == "cleaned"


def test_a_second_shutdown_changes_nothing_and_other_requests_are_refused(
    own_kernel: KernelUnderTest,
) -> None:  # L4, Q1
    cell = running(own_kernel, FORGIVING)
    first, second = shut_down(own_kernel, restart=True), shut_down(own_kernel, restart=False)
    info = own_kernel.send("kernel_info_request", channel="control")
    late = own_kernel.send("execute_request", code="print('never')")
    replies = own_kernel.replies(first, second, info, late)
    assert [replies[one]["restart"] for one in (first, second)] == [True, True]
    assert [replies[one]["ename"] for one in (info, late)] == ["KernelStopping", "KernelStopping"]
    assert own_kernel.wait_for("iopub", "shutdown_reply")["content"]["restart"] is True
    assert exit_code(own_kernel) == 0
    for one in (first, second, info, late, cell):
        assert [line for line in own_kernel.outputs(one) if line.startswith("status")] == ["status:busy", "status:idle"]
        assert len(own_kernel.reply_messages(one)) == 1


@pytest.mark.parametrize("code", ["exit()", "quit", "get_ipython().ask_exit()", "exit(keep_kernel=True)"])
def test_exit_in_a_cell_ends_the_process_in_good_order(own_kernel: KernelUnderTest, code: str) -> None:  # Q20
    cell = own_kernel.send("execute_request", code=code)
    reply = own_kernel.reply(cell)
    assert (reply["status"], own_kernel.outputs(cell)[-1]) == ("ok", "status:idle")
    keeps = "keep_kernel" in code
    assert reply["payload"] == [{"source": "ask_exit", "keepkernel": keeps}]
    if keeps:
        assert own_kernel.execute("'alive'")[1] == ["execute_result:'alive'"]
    else:
        assert own_kernel.manager.is_alive()  # jupyter console looks for that before it reads the reply
        assert exit_code(own_kernel) == 0


def test_the_manager_can_restart_it(own_kernel: KernelUnderTest) -> None:  # L1
    own_kernel.execute("a = 1")
    before = own_kernel.pid
    own_kernel.seen.clear()
    own_kernel.manager.restart_kernel(now=False)
    own_kernel.wait_for("iopub", "iopub_welcome")  # of the new one
    own_kernel.reply(own_kernel.send("kernel_info_request"))
    assert own_kernel.pid != before
    assert own_kernel.execute("a")[0]["ename"] == "NameError"


# ---- told to, or left alone -----------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("code", ["print('on')", CELLS["sleeps"], CELLS["awaits"], STUBBORN])
def test_sigterm_and_sighup_end_it_in_the_same_order(own_kernel: KernelUnderTest, code: str, number: int) -> None:  # L7
    own_kernel.execute("import atexit; _ = atexit.register(print, 'at exit')")
    running(own_kernel, code)
    os.kill(own_kernel.pid, number)
    own_kernel.wait_for("iopub", "shutdown_reply")
    assert exit_code(own_kernel) == 0
    said = texts(own_kernel).replace("on\n", "")
    assert said == ("" if code == STUBBORN else "at exit\n")  # its main thread never gets there


START = """
import os, subprocess, sys
kernel = subprocess.Popen([sys.executable, "-m", "ipymini", "-f", sys.argv[1]], start_new_session=True,
                          env={**os.environ, "JPY_PARENT_PID": str(os.getpid())})
print(kernel.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def kernel_of_a_parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, BlockingKernelClient]]:
    """Yield a process, the kernel that it has started, and a client of that."""
    file = tmp_path / "kernel.json"
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", START, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, env=env)  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    client = BlockingKernelClient(connection_file=str(file))
    try:
        end = time.monotonic() + 20
        while not file.exists():
            assert time.monotonic() < end, "no connection file"
            select.select([], [], [], 0.02)
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=20)
        yield parent, pid, client
    finally:
        client.stop_channels()
        parent.kill()
        parent.communicate()
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # as it should be


@pytest.mark.parametrize("code", ["1", "import time; time.sleep(60)"])
def test_a_kernel_whose_parent_dies_ends(tmp_path: Path, code: str) -> None:  # L6
    with kernel_of_a_parent(tmp_path) as (parent, pid, client), watched(pid) as ended:
        client.execute(code)
        client.get_iopub_msg(timeout=20)
        parent.kill()
        assert ended(PATIENCE)


def test_a_kernel_started_through_another_process_outlives_that(tmp_path: Path) -> None:  # L6
    # given: the launcher is not the parent that the kernel was told of, as with `sh -c` or `conda run`
    file = tmp_path / "kernel.json"
    script = (
        "import subprocess, sys; nothing = subprocess.DEVNULL\n"
        "print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=nothing, stderr=nothing).pid)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", "ipymini", "-f", str(file)]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path), "JPY_PARENT_PID": str(os.getpid())}
    pid = int(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=20).stdout)
    # when: the launcher has ended, the parent (this process) lives
    client = BlockingKernelClient(connection_file=str(file))
    try:
        with watched(pid) as ended:
            end = time.monotonic() + 20
            while not file.exists():
                assert time.monotonic() < end
                select.select([], [], [], 0.02)
            client.load_connection_file()
            client.start_channels()
            client.wait_for_ready(timeout=20)
            assert not ended(0)
            # then: it still ends when asked to
            client.shutdown()
            assert ended(PATIENCE)
    finally:
        client.stop_channels()


@pytest.mark.slow
def test_an_idle_kernel_sleeps(own_kernel: KernelUnderTest) -> None:
    own_kernel.client.hb_channel.pause()
    own_kernel.execute("1")
    end = time.monotonic() + 30
    before = switches(own_kernel.pid)
    while time.monotonic() < end:  # some seconds of background imports come first
        select.select([], [], [], 1.0)  # the span that is measured
        now = switches(own_kernel.pid)
        if now == before:
            return
        before = now
    raise AssertionError(f"never quiet for a second: {before}")


def switches(pid: int) -> dict[str, int]:
    """Return how often each thread of a process has slept, by its id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found[task.name] = next(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
    return found


# ---- failing ----------------------------------------------------------------------------------


def test_a_port_in_use_is_one_line_and_an_exit_code(tmp_path: Path) -> None:  # L8
    file = tmp_path / "kernel.json"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file.write_text(json.dumps({"shell_port": port, "ip": "127.0.0.1", "transport": "tcp", "key": "k"}))
        run = subprocess.run(
            [sys.executable, "-m", "ipymini", "-f", str(file)], capture_output=True, text=True, timeout=20,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path)},
        )  # fmt: skip
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1)
    assert f"tcp://127.0.0.1:{port}" in run.stderr


def test_ports_that_are_0_are_chosen_and_written_to_the_file(tmp_path: Path) -> None:
    with kernel_of_a_parent(tmp_path) as (_, _, client):
        said = json.loads((tmp_path / "kernel.json").read_text())
        ports = [said[f"{name}_port"] for name in ("shell", "iopub", "stdin", "control", "hb")]
        assert len({*ports}) == 5 and 0 not in ports
        assert (tmp_path / "kernel.json").stat().st_mode & 0o777 == 0o600
        client.hb_channel.unpause()


def test_a_crash_of_the_io_thread_ends_the_kernel(own_kernel: KernelUnderTest) -> None:  # L8
    code = "import sys, time; get_ipython().kernel.outbox.call(sys.exit); time.sleep(60)"
    own_kernel.send("execute_request", code=code)
    assert exit_code(own_kernel) == 1
    assert "the I/O thread crashed" in own_kernel.log.read_text()


# ---- again and again in one process --------------------------------------------------------------

SOCKETS_WATCHED = """
import collections, threading
from ipymini.execution import sockets
touched = collections.Counter()
class Watched(sockets._Backend):
    pass
def watch(name, function):
    def watching(*args):
        touched[threading.current_thread().name] += 1
        return function(*args)
    setattr(Watched, name, staticmethod(watching))
for _name in ("send", "recv", "get"):
    watch(_name, getattr(sockets._Backend, _name))
sockets._Backend = Watched
"""


def test_one_thread_touches_the_sockets(own_kernel: KernelUnderTest) -> None:  # L10
    kernel = own_kernel
    assert kernel.execute(SOCKETS_WATCHED)[0]["status"] == "ok"
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]

    noisy = (
        "import threading, sys, asyncio, comm\n"
        "workers = [threading.Thread(target=lambda: [print('.', flush=True) for _ in range(20)]) for _ in range(4)]\n"
        "[worker.start() for worker in workers]\n"
        "comm.create_comm(target_name='none').send({'a': 1}, buffers=[b'1'])\n"
        "display('shown'); print('error', file=sys.stderr); await asyncio.sleep(0)\n"
        "[worker.join() for worker in workers]"
    )
    cells = [
        kernel.send("execute_request", code=noisy.replace("workers", name), header={"subshell_id": where})
        for name, where in (("here", None), ("there", subshell))  # shells share their variables
    ]
    for msg_id in cells:
        assert kernel.reply(msg_id)["status"] == "ok"
    asking = kernel.send("execute_request", code="input('? ')", allow_stdin=True)
    kernel.answer_input("answer")
    assert "execute_result:'answer'" in kernel.outputs(asking)
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))

    assert kernel.execute("sorted(touched), touched.total() > 100")[1] == ["execute_result:(['ipymini-io'], True)"]


EMBEDDED = """
import asyncio, builtins, gc, json, os, sys, threading, weakref
from jupyter_client import BlockingKernelClient
from ipymini.protocol import connection
from ipymini.kernel import Kernel

def client_of(kernel):
    client = BlockingKernelClient()
    client.load_connection_info(kernel.connection.as_dict())
    client.start_channels()
    return client

def use(kernel, said):
    client = client_of(kernel)
    client.wait_for_ready(timeout=20)
    reply = client.execute("import asyncio; print('hi'); await asyncio.sleep(0); 1", reply=True, timeout=20)
    said.append(reply["content"]["status"])
    client.complete("pri", reply=True, timeout=20)
    subshell = client.session.msg("create_subshell_request")
    client.control_channel.send(subshell)
    client.control_channel.get_msg(timeout=20)
    client.shutdown(reply=True, timeout=20)
    client.stop_channels()
    client.context.term()

def facts():
    gc.collect()
    return dict(threads=sorted(t.name for t in threading.enumerate()), fds=len(os.listdir("/proc/self/fd")),
                out=[sys.stdout is before[0], sys.stderr is before[1], builtins.input is before[2],
                     sys.displayhook is before[3], threading.Thread.start is before[4]])

before = sys.stdout, sys.stderr, builtins.input, sys.displayhook, threading.Thread.start
seen, said, ghosts, loopless = [], [], [], []
for turn in range(3):
    def life():
        kernel = Kernel(connection.new())
        ghosts.append(weakref.ref(kernel))
        kernel.start()
        user = threading.Thread(target=use, args=(kernel, said))
        user.start()
        kernel.run()
        user.join()
        try:
            asyncio.get_event_loop_policy().get_event_loop()
        except RuntimeError:
            loopless.append(True)
    if sys.argv[1] == "thread":
        thread = threading.Thread(target=life)
        thread.start(); thread.join()
    else:
        life()
    seen.append(facts())
alive = sum(ghost() is not None for ghost in ghosts)
print(json.dumps(dict(seen=seen, said=said, loopless=loopless, alive=alive)))
"""


@pytest.mark.parametrize("where", ["main", "thread"])
def test_kernels_can_follow_each_other_in_one_process(tmp_path: Path, where: str) -> None:  # L12, L9
    run = subprocess.run(
        [sys.executable, "-c", EMBEDDED, where], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "IPYTHONDIR": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["said"] == ["ok"] * 3
    assert found["seen"][0] == found["seen"][1] == found["seen"][2]
    assert found["seen"][2]["threads"] == ["MainThread"]
    assert (found["seen"][2]["out"], found["loopless"]) == ([True] * 5, [True] * 3)
    assert found["alive"] <= 1  # the last one may still be held by what it left in caches of IPython


YOUNG = """
import os, signal
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))  # runs before the kernel's own
from ipymini.execution import signals
told = []
signals.handle(lambda number, frame: told.append(number), lambda number, frame: told.append(number))
if (child := os.fork()) == 0:
    os._exit(0)  # not ended by the signal
ended = os.waitpid(child, 0)[1]
os.kill(os.getpid(), signal.SIGTERM)
print(os.WIFSIGNALED(ended) and os.WTERMSIG(ended), [int(number) for number in told])
"""


def test_a_sigterm_ends_a_forked_child_however_young() -> None:  # O17
    # Pool.terminate does this to workers that have not come to work yet, and then waits for them without end.
    done = subprocess.run([sys.executable, "-c", YOUNG], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("15 [15]\n", "")
