"""gevent and its like replace half of the standard library in a cell: cells have theirs, and the kernel its own."""

from collections.abc import Iterator

import pytest
from harness import KernelUnderTest, start_kernel

# As eventlet or gevent would, with the worst that could come in the place of what they replace.
ANOTHER_WORLD = """
import _thread, queue, select, selectors, socket, threading, time
from time import sleep

def of_another_world(*arguments, **options):
    raise RuntimeError("called from a thread that is no green one")

for module, names in {
    _thread: "start_new_thread start_new start_joinable_thread",  # its locks are what every import takes
    queue: "Queue SimpleQueue",
    select: "select poll epoll",
    selectors: "DefaultSelector EpollSelector PollSelector SelectSelector",
    socket: "socket socketpair fromfd create_connection getaddrinfo",
    threading: "Thread Event Condition Lock RLock Semaphore local get_ident current_thread main_thread enumerate"
    " _start_new_thread _start_joinable_thread _allocate_lock _CRLock _active_limbo_lock _shutdown",
    time: "sleep",
}.items():
    for name in names.split():
        if hasattr(module, name):
            setattr(module, name, of_another_world)
"""
GEVENT = "from gevent import monkey, sleep; monkey.patch_all(); import gevent"

with_gevent = pytest.param(GEVENT, id="gevent", marks=pytest.mark.peers)


@pytest.fixture(scope="module", params=[pytest.param(ANOTHER_WORLD, id="another world"), with_gevent])
def patched_kernel(request: pytest.FixtureRequest) -> Iterator[KernelUnderTest]:
    """A kernel that has done nothing yet when a cell patches it: its other threads start after that."""
    with start_kernel() as kernel:
        assert kernel.execute(request.param, store_history=False)[0]["status"] == "ok"
        yield kernel


@pytest.fixture
def kernel(patched_kernel: KernelUnderTest) -> Iterator[KernelUnderTest]:
    yield patched_kernel
    assert patched_kernel.execute("40 + 2")[1] == ["execute_result:42"]


def begin(kernel: KernelUnderTest, code: str, **header: str) -> str:
    """Start a cell that lasts; return its id once it runs."""
    cell = kernel.send("execute_request", code=f"print('begun')\n{code}", header=header)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="begun")
    return cell


def is_interrupted(kernel: KernelUnderTest, cell: str) -> bool:
    assert kernel.ask_to_interrupt() == {"status": "ok"}
    return kernel.reply(cell).get("ename") == "KeyboardInterrupt"


def test_cells_print_and_show(kernel: KernelUnderTest) -> None:
    assert kernel.execute("sleep(.01); print('hello'); display(1); 2")[1] == [
        "stdout:hello\n", "display_data:1", "execute_result:2",
    ]  # fmt: skip


def test_cells_await(kernel: KernelUnderTest) -> None:
    code = "import asyncio\nasync def main():\n  await asyncio.sleep(.01)\n  return 'awaited'\nawait main()"
    assert kernel.execute(code)[1] == ["execute_result:'awaited'"]


def test_the_history_is_written(kernel: KernelUnderTest) -> None:
    kernel.execute("'remembered'")
    reply = kernel.reply(kernel.send("history_request", hist_access_type="tail", n=1, output=False, raw=True))
    assert reply["history"][-1][2] == "'remembered'"


def test_an_error_aborts_the_cells_behind_it(kernel: KernelUnderTest) -> None:
    first, second = (kernel.send("execute_request", code=code) for code in ("sleep(.2); 1/0", "'never'"))
    replies = kernel.replies(first, second)
    assert [replies[one]["status"] for one in (first, second)] == ["error", "aborted"]


@pytest.mark.parametrize("code", ["sleep(60)", "while True: pass", "while True: print('x')", "await asyncio.sleep(60)"])
def test_a_busy_cell_holds_up_nobody_and_can_be_interrupted(kernel: KernelUnderTest, code: str) -> None:
    kernel.execute("import asyncio")
    cell = begin(kernel, code)
    completion = kernel.send("complete_request", code="prin", cursor_pos=4)
    info = kernel.send("kernel_info_request", channel="control")

    assert kernel.reply(completion)["matches"] == ["print"]
    assert kernel.reply(info)["status"] == "ok"
    assert is_interrupted(kernel, cell)


def test_subshells_run_cells(kernel: KernelUnderTest) -> None:
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    beside = begin(kernel, "sleep(60)")
    cell = kernel.send("execute_request", code="print('beside'); 6 * 7", header={"subshell_id": subshell})
    assert kernel.reply(cell)["status"] == "ok"
    assert kernel.outputs(cell)[2:] == ["stdout:beside\n", "execute_result:42", "status:idle"]
    assert is_interrupted(kernel, beside)

    assert is_interrupted(kernel, begin(kernel, "while True: pass", subshell_id=subshell))
    deleted = kernel.send("delete_subshell_request", channel="control", subshell_id=subshell)
    assert kernel.reply(deleted) == {"status": "ok"}


def test_cells_ask_for_input(kernel: KernelUnderTest) -> None:
    cell = kernel.send("execute_request", code="input('name? ')", allow_stdin=True)
    assert kernel.answer_input("Ada") == {"prompt": "name? ", "password": False}
    assert kernel.outputs(cell)[2:] == ["execute_result:'Ada'", "status:idle"]

    cell = kernel.send("execute_request", code="input()", allow_stdin=True)
    kernel.wait_for("stdin", "input_request", msg_id=cell)
    assert is_interrupted(kernel, cell)


@pytest.mark.parametrize("patch", [pytest.param(ANOTHER_WORLD, id="another world"), with_gevent])
@pytest.mark.parametrize("code", ["1", "sleep(60)"])
def test_the_kernel_ends_in_good_order(own_kernel: KernelUnderTest, patch: str, code: str) -> None:
    own_kernel.execute(patch)
    begin(own_kernel, code)
    assert own_kernel.reply(own_kernel.send("shutdown_request", channel="control", restart=False))["status"] == "ok"
    assert own_kernel.manager.provisioner.process.wait(5) == 0  # type: ignore[union-attr]
    assert own_kernel.log.read_text() == ""


# ---- greenlets -----------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize("code", ["while True: pass", "while True: gevent.sleep(.001)", "while True: print('x')"])
def test_a_cell_that_waits_for_a_greenlet_can_be_interrupted(own_kernel: KernelUnderTest, code: str) -> None:
    own_kernel.execute(GEVENT)
    cell = begin(own_kernel, f"def spin():\n  {code}\ngreenlet = gevent.spawn(spin)\ngreenlet.join()")
    assert is_interrupted(own_kernel, cell)
    assert own_kernel.execute("greenlet.kill(); 40 + 2")[1] == ["execute_result:42"]


@pytest.mark.peers
def test_threads_that_are_greenlets_by_now_print_to_their_cell(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute(GEVENT)
    code = "import threading\nthread = threading.Thread(target=print, args=('from a thread',))\nthread.start(); thread.join()"
    assert own_kernel.execute(code)[1] == ["stdout:from a thread\n"]
