"""What needs no session; how one begins, is set up and ends."""

from pathlib import Path

import pytest
from debug_client import LOOP, Client
from harness import start_kernel


def test_debug_info_needs_no_session_and_imports_nothing(own_kernel):
    # given: a kernel that nobody has debugged
    client = Client(own_kernel)
    # when
    info = client.ask("debugInfo")
    # then
    pid = own_kernel.pid
    assert info == {
        "isStarted": False,
        "hashMethod": "Murmur2",
        "hashSeed": 0xC70F6907,
        "tmpFilePrefix": info["tmpFilePrefix"],
        "tmpFileSuffix": ".py",
        "breakpoints": [],
        "stoppedThreads": [],
        "richRendering": True,
        "exceptionPaths": ["Python Exceptions"],
        "copyToGlobals": True,
    }
    assert info["tmpFilePrefix"].endswith(f"ipykernel_{pid}/")
    assert own_kernel.execute("import sys; [m for m in sys.modules if m.startswith(('pydev', '_pydev', 'debugpy'))]")[
        1
    ] == ["execute_result:[]"]


def test_the_client_can_compute_where_a_cell_lives(kernel):
    client = Client(kernel)
    code = "import inspect\ndef here(): return inspect.currentframe().f_code.co_filename\nhere()\n"

    path = client.path(code)

    assert Path(path).read_text() == code
    assert kernel.execute(code)[1] == [f"execute_result:{path!r}"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("attach", {}),
        ("threads", {}),
        ("stackTrace", {"threadId": 1}),
        ("next", {"threadId": 1}),
        ("evaluate", {"expression": "1", "frameId": 3}),
        ("nonsense", {}),
        ("dumpCell", {}),
        ("source", {"source": {"path": "/not/there.py"}}),
        ("setBreakpoints", {}),
        ("copyToGlobals", {}),
        ("launch", {}),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(kernel, command, arguments):
    assert Client(kernel).refused(command, **arguments)


@pytest.mark.parametrize(
    "content",
    [{}, {"command": None}, {"command": 7}, {"command": "threads", "arguments": [1]}, {"seq": "x", "type": 3}],
)
def test_a_garbled_debug_request_gets_a_dap_response(kernel, content):
    answer = kernel.reply(kernel.send("debug_request", channel="control", **content))

    assert (answer["type"], answer["success"]) == ("response", False)
    assert answer["message"]


def test_initialize_says_what_the_debugger_can(client):
    body = client.ask("initialize")  # a second time, as after a reload of the page

    assert [one["filter"] for one in body["exceptionBreakpointFilters"]] == ["raised", "uncaught", "userUnhandled"]
    for capability in (
        "supportsConfigurationDoneRequest supportsConditionalBreakpoints supportsHitConditionalBreakpoints "
        "supportsLogPoints supportsFunctionBreakpoints supportsSetVariable supportsSetExpression "
        "supportsExceptionInfoRequest supportsCompletionsRequest supportsModulesRequest supportsGotoTargetsRequest "
        "supportsStepInTargetsRequest supportsEvaluateForHovers"
    ).split():
        assert body[capability] is True, capability


def test_initialize_with_empty_arguments_and_then_attach(own_kernel):  # D4; ipykernel never answers this attach
    client = Client(own_kernel)

    client.ask("initialize")
    client.ask("attach")

    client.works_still()


def test_clients_may_number_their_requests_as_they_like(client):  # D6: as our own do, too
    def ask(command: str) -> str:
        content = {"type": "request", "seq": 1, "command": command, "arguments": {}}
        return client.kernel.send("debug_request", channel="control", **content)

    sent = [(command, ask(command)) for command in ("threads", "debugInfo", "threads", "modules", "inspectVariables")]

    for command, msg_id in sent:
        answer = client.kernel.reply(msg_id)
        assert (answer["command"], answer["request_seq"], answer["success"]) == (command, 1, True)


def test_events_of_attaching_have_the_attach_request_as_parent(own_kernel):  # D3
    client = Client(own_kernel)
    client.ask("initialize")

    attach = client.send("attach")

    assert own_kernel.reply(attach)["success"]
    assert client.event("initialized")["parent_header"]["msg_id"] == attach


def test_breakpoints_set_before_attach_stop_the_cell(own_kernel):  # D3
    # given: breakpoints from a frontend that is early
    client = Client(own_kernel)
    client.ask("initialize")
    assert client.break_at(LOOP, 3) == [{"verified": False, "line": 3}]
    client.ask("attach")
    # when
    cell = client.run(LOOP)
    # then
    assert client.stopped()["reason"] == "breakpoint"
    assert client.lines() == [("<module>", 3)]
    client.break_at(LOOP)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_debug_info_lists_the_breakpoints_as_verified(client):
    client.break_at(LOOP, {"line": 3, "condition": "i > 9"})

    [found] = client.ask("debugInfo")["breakpoints"]

    assert found == {"source": client.path(LOOP), "breakpoints": [{"line": 3, "condition": "i > 9"}]}
    client.break_at(LOOP)
    assert client.ask("debugInfo")["breakpoints"] == []


def test_sessions_can_follow_each_other(own_kernel):  # D7
    client = Client(own_kernel)
    for _ in range(3):
        client.start()
        client.works_still()
        client.break_at(LOOP, 3)
        client.ask("disconnect")
        assert client.ask("debugInfo")["breakpoints"] == []
        assert own_kernel.execute(LOOP + "i")[1] == ["execute_result:3"]


def test_nothing_is_traced_after_disconnect(own_client):  # no tracing cost is left
    kernel = own_client.kernel
    own_client.works_still()
    own_client.ask("disconnect")

    code = "import sys, threading\nseen = [sys.gettrace(), threading.gettrace()]\nseen"

    assert kernel.execute(code)[1] == ["execute_result:[None, None]"]
    names = "sorted({t.name for t in threading.enumerate()} - {'MainThread'})"
    assert "pydevd" not in kernel.execute(f"import time; time.sleep(0.5); {names}")[1][0]


def test_a_session_that_was_never_attached_leaves_nothing_behind(own_kernel):
    client = Client(own_kernel)
    client.ask("initialize")

    client.ask("disconnect")

    assert own_kernel.execute("import sys; str(sys.gettrace())")[1] == ["execute_result:'None'"]
    code = "import threading, time; time.sleep(0.5); ' '.join(t.name for t in threading._active.values())"
    [names] = own_kernel.execute(code)[1]
    assert not [word for word in ("pydevd", "connect") if word in names], names
    client.start()
    client.works_still()


def test_terminate_ends_the_session_and_not_the_kernel(own_client):
    own_client.ask("terminate")

    own_client.event("terminated")
    assert own_client.ask("debugInfo")["isStarted"] is False
    assert own_client.kernel.execute("1 + 1")[1] == ["execute_result:2"]


def test_the_end_of_a_session_is_an_event_whoever_ends_it(own_client):  # JupyterLab's buttons go by it
    asked = own_client.send("disconnect")

    assert own_client.kernel.reply(asked)["success"]
    event = own_client.event("terminated")
    assert (event["content"]["body"], event["parent_header"]["msg_id"]) == ({}, asked)

    again = own_client.send("disconnect")  # there is no session any more
    assert own_client.kernel.outputs(again) == ["status:busy", "status:idle"]


def test_leading_empty_lines_count_while_debugging_and_never_after(client):
    code = "\n\n\nlead = 1\nlead = 2\n"
    client.break_at(code, 5)

    cell = client.run(code)

    client.stopped()
    assert client.lines() == [("<module>", 5)]
    client.go_on()
    assert client.outcome(cell) == "ok"


@pytest.mark.parametrize("code", ["1 + 1", "import sys; sys.gettrace() is None"])
def test_nobody_pays_before_the_first_debug_request(code):
    with start_kernel() as kernel:
        assert kernel.execute(code)[0]["status"] == "ok"
        assert kernel.execute("import sys; 'ipymini.debug.debugger' in sys.modules")[1] == ["execute_result:False"]


def test_no_thread_of_the_kernel_waits_for_debugpy(client):  # the control lane's event loop does
    client.ask("threads")

    code = """if True:
        import threading
        found = [thread for thread in threading.enumerate() if thread.name.startswith('ipymini-debugger')]
        for thread in found: thread.join(10)
        alive = [thread.name for thread in found if thread.is_alive()]\n"""

    assert client.kernel.execute(code + "alive")[1] == ["execute_result:[]"]
