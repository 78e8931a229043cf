"""Every request gets its reply and its idle, whatever user code does in a handler; and what a full outbox holds up."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from harness import KernelUnderTest, brief, start_kernel

BAD_TEXT = """
class Bad(Exception):
    def {method}: raise SystemExit(3)
raise Bad
"""
UNCONVERTIBLE = (
    "class Odd:\n def _repr_json_(self): return {'it': object()}\n def __repr__(self): return 'odd'\nodd = Odd()"
)


def running(kernel: KernelUnderTest, code: str, text: str = "on") -> str:
    msg_id = kernel.send("execute_request", code=code)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text=text)
    return msg_id


def test_a_payload_that_json_cannot_hold_is_an_error_reply(kernel: KernelUnderTest) -> None:  # Q1, O18
    cell = kernel.send("execute_request", code="get_ipython().set_next_input(object())")
    queued = kernel.send("execute_request", code="print('must not run')")
    replies = kernel.replies(cell, queued)
    assert (replies[cell]["status"], replies[cell]["ename"]) == ("error", "TypeError")
    assert isinstance(replies[cell]["execution_count"], int)
    assert replies[queued]["status"] == "aborted"
    assert kernel.outputs(cell)[-1] == "status:idle"


def test_an_expression_that_json_cannot_hold_is_its_own_error(kernel: KernelUnderTest) -> None:  # Q1, O18
    kernel.execute(UNCONVERTIBLE)
    reply, said = kernel.execute("None", user_expressions={"it": "odd"})
    assert (reply["status"], said) == ("ok", [])
    assert reply["user_expressions"]["it"]["ename"] == "TypeError"


@pytest.mark.parametrize("method", ["__str__(self)", "__repr__(self)", "__getattribute__(self, name)"])
def test_an_exception_that_calls_exit_when_it_is_shown_is_the_cells_error(
    kernel: KernelUnderTest, method: str
) -> None:  # Q1, Q20
    cell = kernel.send("execute_request", code=BAD_TEXT.format(method=method))
    assert kernel.reply(cell)["status"] == "error"
    assert kernel.outputs(cell)[-1] == "status:idle"


@pytest.mark.parametrize("event", ["pre_run_cell", "post_run_cell", "pre_execute", "post_execute"])
def test_exit_in_an_event_hook_ends_nothing(kernel: KernelUnderTest, event: str) -> None:  # Q1, Q20
    events = "get_ipython().events"
    kernel.execute(f"import sys\ndef leave(*info): {events}.unregister({event!r}, leave); sys.exit(3)")
    kernel.execute(f"{events}.register({event!r}, leave)")
    cell = kernel.send("execute_request", code="None")
    assert kernel.reply(cell)["status"] == "ok"
    before_its_reply = event.startswith("pre")
    said = [f"stdout:Error in callback (for {event}):\n", "error:SystemExit:3"] if before_its_reply else []
    assert kernel.outputs(cell)[1:] == ["execute_input:None", *said, "status:idle"]


def test_exit_in_a_comm_callback_ends_nothing(kernel: KernelUnderTest) -> None:  # Q1, Q20, O5
    kernel.execute("import comm, sys\none = comm.create_comm('x')\none.on_msg(lambda message: sys.exit(3))")
    comm_id = kernel.client.session.msg_id
    kernel.execute(f"one.comm_id = {comm_id!r}; comm.get_comm_manager().register_comm(one)")
    message = kernel.send("comm_msg", comm_id=comm_id, data={})
    assert kernel.outputs(message)[-1] == "status:idle"


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ["execute_request", "complete_request", "history_request"])
def test_an_unknown_subshell_is_refused_on_every_channel(
    kernel: KernelUnderTest, channel: str, msg_type: str
) -> None:  # Q8
    content: dict[str, Any] = {"code": "print('must not run')", "hist_access_type": "tail"}
    request = kernel.send(msg_type, channel=channel, header={"subshell_id": "nobody"}, **content)
    assert kernel.reply(request)["ename"] == "UnknownSubshellError"
    assert kernel.outputs(request) == ["status:busy", "status:idle"]


def test_an_error_aborts_all_cells_that_have_arrived(kernel: KernelUnderTest) -> None:  # Q3, Q4
    # given: a cell that fails once 3,000 others wait in the socket, while the I/O thread has no turn
    hold = "import ctypes\nprint('on', flush=True)\nctypes.PyDLL(None).usleep(3_000_000)\n1/0"  # it keeps the GIL
    failing = running(kernel, hold)
    queued = [kernel.send("execute_request", code="print('must not run')") for _ in range(3000)]
    replies = kernel.replies(failing, *queued)
    assert replies[failing]["ename"] == "ZeroDivisionError"
    assert {replies[one]["status"] for one in queued} == {"aborted"}


def test_a_debug_request_that_waits_is_answered_at_the_end(own_kernel: KernelUnderTest) -> None:  # Q1, L4
    own_kernel.execute("import time\nclass Slow:\n def __repr__(self): print('on'); time.sleep(60)")
    initialize = {"type": "request", "seq": 1, "command": "initialize", "arguments": {}}
    own_kernel.reply(own_kernel.send("debug_request", channel="control", **initialize))
    code = {"expression": "Slow()"}
    waiting = own_kernel.send(
        "debug_request", channel="control", type="request", seq=2, command="evaluate", arguments=code
    )
    own_kernel.wait_for("iopub", "stream", text="on")
    stop = own_kernel.send("shutdown_request", channel="control", restart=False)
    assert own_kernel.reply(stop)["status"] == "ok"
    reply = own_kernel.reply(waiting)
    assert (reply.get("success"), reply.get("ename")) in [(False, None), (None, "KernelStopping")]


def test_a_thread_that_prints_for_ever_does_not_hold_up_the_end(own_kernel: KernelUnderTest) -> None:  # L2, L8
    own_kernel.execute(
        "import threading\ndef flood():\n while True: print('x' * 100)\nthreading.Thread(target=flood, daemon=True).start()"
    )
    stop = own_kernel.send("shutdown_request", channel="control", restart=False)
    assert own_kernel.reply(stop)["status"] == "ok"
    own_kernel.wait_for("iopub", "shutdown_reply")
    end = own_kernel.manager.provisioner.process.wait(timeout=5)
    own_kernel.drain()
    said = [brief(one) for pool in own_kernel.seen.values() for one in pool if one["channel"] == "iopub"]
    assert (end, said.count("shutdown_reply")) == (0, 1)


FLOODS = {
    "a child": "import subprocess\nchild = subprocess.Popen(['yes', 'x' * 1000])",
    "os.system": "import os\nwhile True: os.system(\"head -c 3000000 /dev/zero | tr '\\\\0' x\")",
    "a thread": "import os, threading\ndef flood():\n while True: os.write(1, b'x' * 65536)\nthreading.Thread(target=flood, daemon=True).start()",
}


@pytest.mark.parametrize("code", FLOODS.values(), ids=FLOODS)
def test_a_flood_that_nobody_reads_leaves_control_and_signals_alive(
    own_kernel: KernelUnderTest, code: str
) -> None:  # O11, Q11, L7
    # given: more than all queues hold, and this client does not read iopub
    iopub = own_kernel.client.iopub_channel.socket
    own_kernel.poller.unregister(iopub)
    own_kernel.send("execute_request", code=code)
    # then: control answers throughout, and SIGTERM ends the kernel
    for _ in range(20):
        own_kernel.reply(own_kernel.send("usage_request", channel="control"))
    own_kernel.reply(own_kernel.send("interrupt_request", channel="control"))
    os.kill(own_kernel.pid, signal.SIGTERM)
    assert own_kernel.manager.provisioner.process.wait(timeout=10) == 0


def test_an_ipc_socket_is_its_owners_alone(tmp_path: Any) -> None:
    before = os.umask(0)
    try:
        with start_kernel(transport="ipc", ip=str(tmp_path / "k")) as kernel:
            modes = {oct(one.stat().st_mode & 0o777) for one in tmp_path.iterdir()}
            own = kernel.execute("import os; os.umask(0)")[1]
    finally:
        os.umask(before)
    assert (modes, own) == ({"0o600"}, ["execute_result:0"])


def test_a_dumped_cell_is_its_owners_alone(own_kernel: KernelUnderTest) -> None:
    own_kernel.execute("import os; os.umask(0)")
    dump = {"type": "request", "seq": 1, "command": "dumpCell", "arguments": {"code": "secret = 1"}}
    path = own_kernel.reply(own_kernel.send("debug_request", channel="control", **dump))["body"]["sourcePath"]
    modes = [oct(os.stat(one).st_mode & 0o777) for one in (path, os.path.dirname(path))]
    assert modes == ["0o600", "0o700"]


GREENLETS = {
    "sleep": "import greenlet, time\ndef sleeps(): time.sleep(60)\nprint('on')\ngreenlet.greenlet(sleeps).switch()",
    "loop": "import greenlet\ndef loops():\n while True: pass\nprint('on')\ngreenlet.greenlet(loops).switch()",
}


@pytest.mark.parametrize("code", GREENLETS.values(), ids=GREENLETS)
@pytest.mark.parametrize("where", ["main", "subshell"])
def test_an_interrupt_ends_a_greenlet(kernel: KernelUnderTest, code: str, where: str) -> None:  # I8, I16
    header = {}
    if where == "subshell":
        made = kernel.reply(kernel.send("create_subshell_request", channel="control"))
        header = {"subshell_id": made["subshell_id"]}
    cell = kernel.send("execute_request", code=code, header=header)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="on")
    queued = kernel.send("execute_request", code="print('must not run')", header=header)
    kernel.ask_to_interrupt()
    replies = kernel.replies(cell, queued)
    assert (replies[cell].get("ename"), replies[queued]["status"]) == ("KeyboardInterrupt", "aborted")
    if header:
        kernel.reply(kernel.send("delete_subshell_request", channel="control", **header))


def test_what_zmq_still_sends_when_exit_functions_have_run_is_not_freed() -> None:  # L7
    code = """if True:
        import atexit
        atexit.register(lambda: print(gc.is_alive(), len(gc.refs)))  # registered first, it runs last
        import zmq
        from zmq.utils.garbage import gc
        from ipymini.execution.sockets import keep_frames
        push = zmq.Context.instance().socket(zmq.PUSH)
        push.bind("inproc://nobody-reads")
        pull = zmq.Context.instance().socket(zmq.PULL)
        pull.connect("inproc://nobody-reads")
        push.send(b"x" * 100_000, copy=False)
        keep_frames()
        atexit._run_exitfuncs()
        import os, sys
        sys.stdout.flush()
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("True 1\n", 0), done
