"""The debugger over the wire: every command, stops, interrupts, ends; with a real kernel and a real debugpy."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import KernelUnderTest, brief, start_kernel

PROMPT = 0.2  # seconds within which control must answer, whatever the debugger does
DEADLINE = 20.0


class Client:
    """A frontend that debugs: sends debug_requests, runs cells, and remembers which events it has looked at."""

    def __init__(self, kernel: KernelUnderTest):
        self.kernel = kernel
        self.seq = 0
        self.looked_at: set[str] = set()
        kernel.drain()
        self.looked_at = {event["msg_id"] for event in self.events()}  # of the tests before

    def send(self, command: str, **arguments: Any) -> str:
        self.seq += 1
        content = {"type": "request", "seq": self.seq, "command": command, "arguments": arguments}
        return self.kernel.send("debug_request", channel="control", **content)

    def answer(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the whole DAP response, checked to be one."""
        answer = self.kernel.reply(self.send(command, **arguments))
        expected = {"type": "response", "request_seq": self.seq, "command": command}
        assert {key: answer.get(key) for key in expected} == expected, answer
        assert isinstance(answer["seq"], int) and isinstance(answer["success"], bool), answer
        return answer

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the body of a response that has to be a yes."""
        answer = self.answer(command, **arguments)
        assert answer["success"], f"{command}: {answer.get('message')}\n{self.kernel.log.read_text()[-3000:]}"
        return answer["body"]

    def refused(self, command: str, **arguments: Any) -> str:
        """Return the message of a response that has to be a no."""
        answer = self.answer(command, **arguments)
        assert not answer["success"], answer
        return answer["message"]

    def event(self, name: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """Return the next debug_event of this name that has not been looked at: the whole message."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [event for event in self.events() if event["content"]["event"] == name]
            return bool(found)

        self.kernel._until(there, timeout, f"debug_event {name}")
        self.looked_at.add(found[0]["msg_id"])
        return found[0]

    def events(self) -> list[dict[str, Any]]:
        """Return the debug_events that have come and have not been looked at, oldest first."""
        messages = [message for pool in self.kernel._seen.values() for message in pool]
        events = [one for one in messages if one["msg_type"] == "debug_event" and one["msg_id"] not in self.looked_at]
        return sorted(events, key=lambda one: one["content"]["seq"])

    def stopped(self, timeout: float = DEADLINE) -> dict[str, Any]:
        return self.event("stopped", timeout)["content"]["body"]

    def start(self, **arguments: Any) -> None:
        self.ask("initialize", clientID="test", adapterID="ipymini")
        self.ask("attach", **arguments)
        self.ask("configurationDone")

    def path(self, code: str) -> str:
        return self.ask("dumpCell", code=code)["sourcePath"]

    def break_at(self, code: str, *lines: int | dict[str, Any]) -> list[dict[str, Any]]:
        """Set the breakpoints of a cell; return debugpy's view of them."""
        wanted = [{"line": line} if isinstance(line, int) else line for line in lines]
        return self.ask("setBreakpoints", source={"path": self.path(code)}, breakpoints=wanted)["breakpoints"]

    def run(self, code: str, **kwargs: Any) -> str:
        return self.kernel.send("execute_request", code=code, **kwargs)

    def frames(self, thread: int = 1) -> list[dict[str, Any]]:
        return self.ask("stackTrace", threadId=thread)["stackFrames"]

    def lines(self, thread: int = 1) -> list[tuple[str, int]]:
        return [(frame["name"], frame["line"]) for frame in self.frames(thread)]

    def value(self, expression: str, thread: int = 1) -> str:
        return self.ask("evaluate", expression=expression, frameId=self.frames(thread)[0]["id"])["result"]

    def go_on(self, thread: int = 1) -> None:
        self.ask("continue", threadId=thread)

    def outcome(self, cell: str) -> str:
        """Return how a cell ended: ok, or the exception's name."""
        reply = self.kernel.reply(cell)
        return reply.get("ename") or reply["status"]

    def works_still(self) -> None:
        """Stop in a fresh cell and go on: the debugger is in order."""
        code = f"fresh = {self.seq}\nfresh += 1\n"
        self.break_at(code, 2)
        cell = self.run(code)
        assert self.stopped()["reason"] == "breakpoint"
        self.break_at(code)
        self.go_on()
        assert self.outcome(cell) == "ok"


@pytest.fixture
def client(kernel: KernelUnderTest) -> Iterator[Client]:
    """An attached client of the module's kernel; detached afterwards."""
    client = Client(kernel)
    client.start()
    yield client
    client.ask("disconnect")
    client.ask("setExceptionBreakpoints", filters=[])


@pytest.fixture
def own_client(own_kernel: KernelUnderTest) -> Client:
    """An attached client of a kernel that the test may wound."""
    client = Client(own_kernel)
    client.start()
    return client


@contextmanager
def promptly(seconds: float = PROMPT) -> Iterator[None]:
    """Fail if the block takes ten times as long: a deadline, no measure, on a machine that has other work."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert took < seconds * 10, f"took {took:.3f} s"


LOOP = "total = 0\nfor i in range(4):\n    total += i\n    done = i\n"
FUNCTION = "def add(a, b):\n    c = a + b\n    return c\n\nr = add(1, 2)\nr = add(r, 3)\n"


# ---- before and after a session ------------------------------------------------------


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
    client.ask("inspectVariables")
    assert own_kernel.execute("import sys; [m for m in sys.modules if m.startswith(('pydev', '_pydev', 'debugpy'))]")[
        1
    ] == ["execute_result:[]"]


def test_the_client_can_compute_where_a_cell_lives(kernel):
    client = Client(kernel)
    code = "import inspect\ndef here(): return inspect.currentframe().f_code.co_filename\nhere()\n"

    path = client.path(code)

    assert Path(path).read_text() == code
    assert kernel.execute(code)[1] == [f"execute_result:{path!r}"]


def test_the_namespace_can_be_looked_at_without_a_session(kernel):
    client = Client(kernel)
    kernel.execute("looked = {'a': [1, 2], 'b': None}\ndef a_function(): pass\nclass AClass: pass\n")

    shown = {variable["name"]: variable for variable in client.ask("inspectVariables")["variables"]}

    assert shown["looked"]["value"] == "{'a': [1, 2], 'b': None}"
    assert shown["looked"]["type"] == "dict"
    assert not {"In", "Out", "get_ipython", "exit", "quit", "_", "_i", "_ih"} & set(shown)
    inside = client.ask("variables", variablesReference=shown["looked"]["variablesReference"])["variables"]
    assert [(one["name"], one["value"], one["evaluateName"]) for one in inside] == [
        ("'a'", "[1, 2]", "looked['a']"),
        ("'b'", "None", "looked['b']"),
    ]
    functions = client.ask("variables", variablesReference=shown["function variables"]["variablesReference"])
    assert "a_function" in [one["name"] for one in functions["variables"]]
    paged = client.ask("variables", variablesReference=inside[0]["variablesReference"], start=1, count=1)
    assert [one["value"] for one in paged["variables"]] == ["2"]


@pytest.mark.parametrize(
    "error, text", [("ValueError", "<Bad instance at "), ("SystemExit", "<repr failed: SystemExit>")]
)
def test_a_repr_that_fails_is_no_trouble(kernel, error, text):
    client = Client(kernel)
    kernel.execute(f"class Bad:\n    def __repr__(self): raise {error}\nbad = Bad()\n")

    shown = {variable["name"]: variable["value"] for variable in client.ask("inspectVariables")["variables"]}

    assert shown["bad"].startswith(text)
    kernel.execute("del bad")


def test_a_variable_has_its_rich_form_without_a_session(kernel):
    client = Client(kernel)
    kernel.execute("class Rich:\n    def _repr_html_(self): return '<b>rich</b>'\nrich = Rich()\n")

    body = client.ask("richInspectVariables", variableName="rich")

    assert body["data"]["text/html"] == "<b>rich</b>"
    assert body["metadata"] == {}
    assert "identifier" in client.refused("richInspectVariables", variableName="rich()")
    assert client.answer("richInspectVariables", variableName="nobody")["body"] == {"data": {}, "metadata": {}}


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


def test_leading_empty_lines_count_while_debugging_and_never_after(client):
    code = "\n\n\nlead = 1\nlead = 2\n"
    client.break_at(code, 5)

    cell = client.run(code)

    client.stopped()
    assert client.lines() == [("<module>", 5)]
    client.go_on()
    assert client.outcome(cell) == "ok"


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


# ---- stopping ----------------------------------------------------------------------------


def test_a_stop_says_where_and_shows_the_users_frames_only(client):
    # given
    assert [one["verified"] for one in client.break_at(FUNCTION, 2)] == [True]
    # when
    cell = client.run(FUNCTION)
    stopped = client.event("stopped")
    # then
    assert stopped["content"]["body"]["reason"] == "breakpoint"
    assert stopped["content"]["body"]["allThreadsStopped"] is False
    assert stopped["parent_header"]["msg_id"] == cell
    assert client.lines() == [("add", 2), ("<module>", 5)]
    assert {frame["source"]["path"] for frame in client.frames()} == {client.path(FUNCTION)}
    assert client.ask("debugInfo")["stoppedThreads"] == [1]
    assert [one["name"] for one in client.ask("threads")["threads"]] == ["MainThread"]
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"
    assert client.event("continued")["parent_header"]["msg_id"] == cell
    assert client.ask("debugInfo")["stoppedThreads"] == []


def test_variables_of_a_frame(client):
    client.break_at(FUNCTION, 3)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]

    names = {}
    for scope in client.ask("scopes", frameId=frame)["scopes"]:
        found = client.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        names[scope["name"]] = {one["name"]: one["value"] for one in found}

    assert names["Locals"] == {"a": "1", "b": "2", "c": "3"}
    assert not {"In", "Out", "get_ipython", "exit", "quit", "_", "_i", "_oh", "_ih"} & set(names["Globals"])
    assert {"function variables", "special variables"} <= set(names["Globals"])  # ipykernel's test asks for both
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_values_can_be_changed_and_expressions_evaluated(client):
    client.break_at(FUNCTION, 3)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]
    scope = client.ask("scopes", frameId=frame)["scopes"][0]["variablesReference"]

    client.ask("setVariable", variablesReference=scope, name="c", value="40")
    client.ask("setExpression", expression="a", value="'text'", frameId=frame)

    assert client.value("(a, c)") == "('text', 40)"
    assert client.ask("evaluate", expression="b * 2", frameId=frame, context="hover")["result"] == "4"
    assert client.ask("evaluate", expression="extra = 7", frameId=frame, context="repl")["result"] == ""
    assert "NameError" in client.refused("evaluate", expression="nobody", frameId=frame, context="watch")
    labels = [one["label"] for one in client.ask("completions", frameId=frame, text="a.upp", column=6)["targets"]]
    assert labels == ["upper"]
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_long_lists_come_in_pages(client):
    code = "def long():\n    big = list(range(5000))\n    return 0\nlong()\n"
    client.break_at(code, 3)
    cell = client.run(code)
    client.stopped()
    scope = client.ask("scopes", frameId=client.frames()[0]["id"])["scopes"][0]["variablesReference"]
    [big] = client.ask("variables", variablesReference=scope)["variables"]

    page = client.ask("variables", variablesReference=big["variablesReference"], filter="indexed", start=4000, count=3)[
        "variables"
    ]

    assert [(one["name"], one["value"], one["evaluateName"]) for one in page] == [
        (str(number), str(number), f"big[{number}]") for number in (4000, 4001, 4002)
    ]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_an_expression_without_a_frame_is_the_users(client):
    client.kernel.execute("outside = [1, 2]")

    assert client.ask("evaluate", expression="outside", context="repl")["result"] == "[1, 2]"
    assert "ZeroDivisionError" in client.refused("evaluate", expression="1/0", context="repl")
    client.ask("evaluate", expression="outside = 5", context="repl")
    assert client.kernel.execute("outside")[1] == ["execute_result:5"]


def test_rich_view_and_copy_to_globals_while_stopped(client):
    code = "def show(inner):\n    return inner\nshow([1, 2])\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()
    frame = client.frames()[0]["id"]

    rich = client.ask("richInspectVariables", variableName="inner", frameId=frame)
    client.ask("copyToGlobals", srcVariableName="inner", dstVariableName="copied", srcFrameId=frame)

    assert rich == {"data": {"text/plain": "[1, 2]"}, "metadata": {}}
    assert client.answer("richInspectVariables", variableName="nobody", frameId=frame)["success"] is False
    assert client.refused("copyToGlobals", srcVariableName="nobody", dstVariableName="x", srcFrameId=frame)
    client.go_on()
    assert client.outcome(cell) == "ok"
    assert client.kernel.execute("copied")[1] == ["execute_result:[1, 2]"]


def test_steps(client):
    client.break_at(FUNCTION, 5)
    cell = client.run(FUNCTION)
    client.stopped()

    seen = [client.lines()]
    for step in ("stepIn", "next", "stepOut", "next"):
        client.ask(step, threadId=1)
        assert client.stopped()["reason"] == "step"
        seen.append(client.lines())

    assert seen == [
        [("<module>", 5)],
        [("add", 2), ("<module>", 5)],
        [("add", 3), ("<module>", 5)],
        [("<module>", 5)],
        [("<module>", 6)],
    ]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_step_off_the_end_does_not_stop_the_next_cell(client):
    code = "last = 1\nlast = 2\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()

    client.ask("next", threadId=1)

    assert client.outcome(cell) == "ok"
    assert client.kernel.execute("after = 1\nafter")[1] == ["execute_result:1"]


def test_step_in_stays_out_of_libraries_and_of_the_kernel(client):
    code = "import json\nj = json.dumps([1])\nprint(j)\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()

    seen = []
    for _ in range(2):
        client.ask("stepIn", threadId=1)
        if client.kernel.reply_messages(cell):
            break
        seen.append((client.stopped(), client.lines())[1])
        if seen[-1] == [("<module>", 3)]:
            break

    assert seen == [[("<module>", 3)]]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_library_can_be_stepped_into_if_asked_but_never_the_kernel(own_kernel):
    client = Client(own_kernel)
    client.start(justMyCode=False)
    code = "import json\nj = json.dumps([1])\nprint(j)\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()

    client.ask("stepIn", threadId=1)
    client.stopped()

    frames = client.frames()
    assert frames[0]["name"] == "dumps"
    assert not [
        frame for frame in frames if "/ipymini/" in frame["source"]["path"] or "/IPython/" in frame["source"]["path"]
    ]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_step_in_targets(client):
    code = "def inner(x):\n    return x\ndef outer(x):\n    return x\nouter(inner(1))\n"
    client.break_at(code, 5)
    cell = client.run(code)
    client.stopped()
    targets = client.ask("stepInTargets", frameId=client.frames()[0]["id"])["targets"]

    outer = next(target["id"] for target in targets if target["label"].startswith("outer"))
    client.ask("stepIn", threadId=1, targetId=outer)
    client.stopped()

    assert client.lines()[0] == ("outer", 4)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_goto(client):
    client.break_at(FUNCTION, 3)
    cell = client.run(FUNCTION)
    client.stopped()
    [target] = client.ask("gotoTargets", source={"path": client.path(FUNCTION)}, line=2)["targets"]

    client.ask("goto", threadId=1, targetId=target["id"])

    assert client.stopped()["reason"] == "goto"
    assert client.lines()[0] == ("add", 2)
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_condition_a_hit_count_and_a_log_point(client):
    for wanted, value in (({"condition": "i == 2"}, "2"), ({"hitCondition": "2"}, "1")):
        client.break_at(LOOP, {"line": 3, **wanted})
        cell = client.run(LOOP)
        client.stopped()
        assert client.value("i") == value
        client.go_on()
        assert client.outcome(cell) == "ok"

    client.break_at(LOOP, {"line": 3, "logMessage": "at {i}"})
    cell = client.run(LOOP)

    assert client.outcome(cell) == "ok"
    assert [client.event("output")["content"]["body"]["output"] for _ in range(4)] == [f"at {i}\n" for i in range(4)]


def test_function_breakpoints(client):
    client.ask("setFunctionBreakpoints", breakpoints=[{"name": "add"}])

    cell = client.run(FUNCTION)

    assert client.stopped()["reason"] == "function breakpoint"
    assert client.lines()[0] == ("add", 1)
    client.ask("setFunctionBreakpoints", breakpoints=[])
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_raised_exception_stops(client):
    client.ask("setExceptionBreakpoints", filters=["raised"])

    cell = client.run("try:\n    1/0\nexcept ZeroDivisionError:\n    pass\n")

    assert client.stopped()["reason"] == "exception"
    assert "ZeroDivisionError" in client.ask("exceptionInfo", threadId=1)["exceptionId"]
    client.go_on()
    assert client.outcome(cell) == "ok"


@pytest.mark.parametrize("which", ["uncaught", "userUnhandled"])
def test_an_exception_that_fails_the_cell_stops(client, which):
    client.ask("setExceptionBreakpoints", filters=[which])

    cell = client.run("def fail():\n    return [][3]\nfail()\n")

    assert client.stopped()["reason"] == "exception"
    assert client.lines()[0] == ("fail", 2)
    client.go_on()
    assert client.outcome(cell) == "IndexError"


@pytest.mark.parametrize("which", ["uncaught", "userUnhandled"])
def test_an_exception_that_is_caught_does_not(client, which):
    client.ask("setExceptionBreakpoints", filters=[which])

    code = (
        "import contextlib\nwith contextlib.suppress(KeyError):\n    {}[1]\n"
        "try:\n    1/0\nexcept ArithmeticError: pass\n"
    )
    cell = client.run(code)

    assert client.outcome(cell) == "ok"


def test_files_and_imported_modules(client, tmp_path):
    (tmp_path / "debugged_module.py").write_text("def hello(n):\n    m = n + 1\n    return m\n")
    path = str(tmp_path / "debugged_module.py")
    client.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])

    cell = client.run(
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport debugged_module\ndebugged_module.hello(1)\n"
    )

    client.stopped()
    assert client.lines() == [("hello", 2), ("<module>", 4)]
    assert client.ask("source", source={"path": path})["content"].startswith("def hello")
    frame = client.frames()[0]["id"]
    client.ask("copyToGlobals", srcVariableName="n", dstVariableName="from_module", srcFrameId=frame)
    client.go_on()
    assert client.outcome(cell) == "ok"
    assert client.kernel.execute("from_module")[1] == ["execute_result:1"]
    modules = client.ask("modules", startModule=0, moduleCount=5)
    assert len(modules["modules"]) == 5
    assert modules["totalModules"] > 100


def test_async_cells(client):
    code = (
        "import asyncio\nasync def co(n):\n    await asyncio.sleep(0.01)\n    m = n + 1\n    return m\n"
        "r = await co(1)\nr\n"
    )
    client.break_at(code, 4)
    cell = client.run(code)

    client.stopped()
    seen = [client.lines()]
    for _ in range(2):
        client.ask("next", threadId=1)
        client.stopped()
        seen.append(client.lines())

    assert seen[:2] == [[("co", 4), ("<module>", 6)], [("co", 5), ("<module>", 6)]]
    client.break_at(code)
    client.go_on()
    assert client.outcome(cell) == "ok"


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_thread_that_the_kernel_needs_for_large_output_is_not_shown(own_kernel, when):
    client = Client(own_kernel)
    for moment in ("before", "during"):
        if moment == when:
            own_kernel.execute("print('x' * 3_000_000)")
        if moment == "before":
            client.start()

    assert [thread["name"] for thread in client.ask("threads")["threads"]] == ["MainThread"]
    there = "from zmq.utils.garbage import gc; gc.thread.is_alive()"
    assert own_kernel.execute(there)[1] == ["execute_result:True"]


def test_threads_of_a_cell(client):
    code = (
        "import threading\ndef work(k):\n    v = k * 2\n    return v\n"
        "ts = [threading.Thread(target=work, args=(k,), name=f'user-{k}') for k in range(2)]\n"
        "for t in ts: t.start()\nfor t in ts: t.join()\n"
    )
    client.break_at(code, 3)
    cell = client.run(code)

    stops = [client.event("stopped"), client.event("stopped")]

    threads = [stop["content"]["body"]["threadId"] for stop in stops]
    assert {stop["parent_header"]["msg_id"] for stop in stops} == {cell}
    names = [one["name"] for one in client.ask("threads")["threads"]]
    assert sorted(names) == ["MainThread", "user-0", "user-1"]
    assert client.ask("debugInfo")["stoppedThreads"] == sorted(threads)
    client.ask("continue", threadId=threads[0], singleThread=True)
    client.event("continued")
    assert client.ask("debugInfo")["stoppedThreads"] == [threads[1]]
    client.go_on(threads[1])
    assert client.outcome(cell) == "ok"


def test_a_changed_cell_keeps_no_breakpoints_of_its_former_self(client):
    client.break_at(LOOP, 3)
    changed = LOOP.replace("done", "finished")

    assert client.outcome(client.run(changed)) == "ok"

    client.break_at(changed, 4)
    cell = client.run(changed)
    client.stopped()
    assert client.lines() == [("<module>", 4)]
    client.break_at(changed)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_user_code_that_the_kernel_calls_can_be_stopped(client):
    code = "class Shown:\n    def _repr_html_(self):\n        html = '<i>'\n        return html\nShown()\n"
    client.break_at(code, 4)

    cell = client.run(code)

    client.stopped()
    assert client.lines() == [("_repr_html_", 4), ("<module>", 5)]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_magics_do_not_shift_lines(client):
    code = "%time timed = 1\n!true\nshifted = 2\nshifted = 3\n"
    client.break_at(code, 3)

    cell = client.run(code)

    client.stopped()
    assert client.lines() == [("<module>", 3)]
    client.go_on()
    assert client.outcome(cell) == "ok"


# ---- while a cell runs -------------------------------------------------------------------


def test_attach_pause_and_breakpoints_reach_a_cell_that_runs(own_kernel):
    # given: a cell that runs, and nobody debugging
    client = Client(own_kernel)
    code = "import time\nstart = time.time()\nn = 0\nwhile time.time() - start < 30:\n    n += 1\n"
    cell = client.run(code)
    own_kernel.wait_for("iopub", "execute_input", msg_id=cell)
    # when
    client.start()
    client.ask("pause", threadId=1)
    # then
    assert client.stopped()["reason"] == "pause"
    client.go_on()
    client.break_at(code, 5)
    assert client.stopped()["reason"] == "breakpoint"
    assert client.lines() == [("<module>", 5)]
    own_kernel.interrupt()
    assert client.outcome(cell) == "KeyboardInterrupt"


@pytest.mark.parametrize("just_my_code", [True, False])
def test_a_pause_while_nothing_runs_stops_the_next_cell_and_not_the_kernel(own_kernel, just_my_code):
    client = Client(own_kernel)
    client.start(justMyCode=just_my_code)
    own_kernel.execute("1")

    client.ask("pause", threadId=1)

    own_kernel.reply(own_kernel.send("is_complete_request", code="1"))
    cell = client.run("paused = 1\npaused = 2\n")
    assert client.stopped()["reason"] == "pause"
    assert client.lines()[0] == ("<module>", 1)
    client.go_on()
    assert client.outcome(cell) == "ok"


@pytest.mark.parametrize("just_my_code", [True, False])
def test_a_step_into_the_display_of_a_result_stays_out_of_the_kernel(own_kernel, just_my_code):
    client = Client(own_kernel)
    client.start(justMyCode=just_my_code)
    code = "shown = 5\nshown\n"
    client.break_at(code, 2)
    cell = client.run(code)
    client.stopped()

    client.ask("stepIn", threadId=1)

    assert client.outcome(cell) == "ok"


def test_control_answers_at_any_moment_of_an_exchange(own_kernel):
    client = Client(own_kernel)
    cell = client.run("import time\nfor i in range(3000): time.sleep(0.01)\n")
    own_kernel.wait_for("iopub", "execute_input", msg_id=cell)

    asked = client.send("initialize")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
    assert own_kernel.reply(asked)["success"]
    asked = client.send("attach")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
    assert own_kernel.reply(asked)["success"]
    asked = client.send("evaluate", expression="__import__('time').sleep(5)")
    with promptly():
        own_kernel.reply(own_kernel.send("kernel_info_request", channel="control"))
        client.ask("threads")
        own_kernel.ask_to_interrupt()
    assert client.outcome(cell) == "KeyboardInterrupt"


def test_requests_that_cross_the_stop_and_the_start_are_all_answered(own_kernel):
    client = Client(own_kernel)

    sent = [
        client.send(command)
        for command in "initialize attach threads debugInfo disconnect threads initialize attach".split()
    ]

    successes = [own_kernel.replies(*sent)[one]["success"] for one in sent]
    assert successes == [True, True, True, True, True, False, True, True]
    assert own_kernel.reply(sent[3])["body"]["isStarted"] is True
    client.works_still()


def test_requests_sent_together_are_served_one_after_another(client):
    kernel = client.kernel
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION)
    client.stopped()
    frame = client.frames()[0]["id"]

    sent = [client.send(command, frameId=frame, threadId=1) for command in ["scopes", "stackTrace", "debugInfo"] * 3]

    kernel.replies(*sent)
    said = [message for one in sent for message in [*kernel.iopub(one), *kernel.reply_messages(one)]]
    said.sort(key=lambda message: message["header"]["date"])
    order = [(message["parent_header"]["msg_id"], brief(message)) for message in said]
    assert order == [(one, line) for one in sent for line in ("status:busy", "debug_reply", "status:idle")]
    client.break_at(FUNCTION)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_a_pause_does_not_wait_for_an_evaluation_that_hangs(own_client):
    kernel = own_client.kernel
    cell = own_client.run("import time\nfor i in range(3000): time.sleep(0.01)\n")
    kernel.wait_for("iopub", "execute_input", msg_id=cell)
    hung = own_client.send("evaluate", expression="__import__('time').sleep(20)")

    with promptly():
        own_client.ask("pause", threadId=1)
        assert own_client.stopped()["reason"] == "pause"
        own_client.ask("stackTrace", threadId=1)
    assert not kernel.reply_messages(hung)
    own_client.ask("disconnect")
    with promptly():
        kernel.ask_to_interrupt()
        assert own_client.outcome(cell) == "KeyboardInterrupt"


def test_the_kernel_goes_on_while_a_cell_is_stopped(client):
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()

    with promptly(1.0):
        completed = kernel.reply(kernel.send("complete_request", code="prin", cursor_pos=4))
        inspected = kernel.reply(kernel.send("inspect_request", code="print", cursor_pos=5))
        kernel.reply(kernel.send("comm_info_request"))

    assert "print" in completed["matches"]
    assert inspected["found"]
    client.break_at(LOOP)
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_the_status_of_a_cell_is_not_disturbed(client):  # users-pain 17
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()
    client.lines()
    client.break_at(LOOP)
    client.go_on()

    said = [line for line in kernel.outputs(cell) if not line.startswith("debug_event:")]

    assert said == ["status:busy", f"execute_input:{LOOP}", "status:idle"]


# ---- subshells -----------------------------------------------------------------------------


def test_a_stop_in_a_subshell_stops_nobody_else(client):  # D8
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION, header={"subshell_id": subshell})
    stopped = client.event("stopped")

    thread = stopped["content"]["body"]["threadId"]
    main = kernel.execute("'main goes on'")[1]

    assert stopped["parent_header"]["msg_id"] == cell
    assert thread != 1
    assert main == ["execute_result:'main goes on'"]
    assert client.lines(thread) == [("add", 2), ("<module>", 5)]
    assert client.value("a + b", thread) == "3"
    client.break_at(FUNCTION)
    client.go_on(thread)
    assert client.outcome(cell) == "ok"
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_an_interrupt_ends_a_stop_in_a_subshell(client):
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    header = {"subshell_id": subshell}
    client.break_at(LOOP, 3)
    for _ in range(2):
        cell = client.run(LOOP, header=header)
        client.stopped()
        kernel.ask_to_interrupt()
        assert client.outcome(cell) == "KeyboardInterrupt"

    client.break_at(LOOP)
    assert client.outcome(client.run(LOOP, header=header)) == "ok"
    kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))


def test_a_subshell_that_is_deleted_while_stopped_is_gone(client):
    kernel = client.kernel
    subshell = kernel.reply(kernel.send("create_subshell_request", channel="control"))["subshell_id"]
    client.break_at(LOOP, 3)
    cell = client.run(LOOP, header={"subshell_id": subshell})
    client.stopped()

    with promptly(1.0):
        kernel.reply(kernel.send("delete_subshell_request", channel="control", subshell_id=subshell))
        assert client.outcome(cell) == "KeyboardInterrupt"

    client.break_at(LOOP)
    client.works_still()


# ---- interrupts and ends ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["signal", "message"])
def test_at_a_breakpoint_an_interrupt_ends_the_cell_and_nothing_else(client, how):  # I22, D5
    kernel = client.kernel
    client.break_at(LOOP, 3)
    for _ in range(3):
        cell = client.run(LOOP)
        client.stopped()
        with promptly(0.5):
            kernel.interrupt() if how == "signal" else kernel.ask_to_interrupt()
            assert client.outcome(cell) == "KeyboardInterrupt"
        client.event("continued")

    client.break_at(LOOP)
    client.works_still()


LISTS = "class Lists:\n    def __dir__(self):\n        return ['one_name']\nlists = Lists()"


@pytest.mark.parametrize("how", ["signal", "message"])
def test_an_interrupt_at_a_breakpoint_in_a_completion_ends_the_completion_and_nothing_else(client, how):
    kernel = client.kernel
    client.outcome(client.run(LISTS))
    client.break_at(LISTS, 3)
    asked = kernel.send("complete_request", code="lists.", cursor_pos=6)
    client.stopped()
    with promptly(0.5):
        kernel.interrupt() if how == "signal" else kernel.ask_to_interrupt()
        assert kernel.reply(asked)["matches"] == []

    client.break_at(LISTS)
    assert kernel.reply(kernel.send("complete_request", code="lists.", cursor_pos=6))["matches"] == ["one_name"]
    assert client.outcome(client.run("1/0")) == "ZeroDivisionError"
    client.works_still()


def test_the_traceback_of_an_interrupted_stop_shows_the_users_frames_only(client):
    client.break_at(FUNCTION, 2)
    cell = client.run(FUNCTION)
    client.stopped()
    client.kernel.interrupt()

    text = "\n".join(client.kernel.reply(cell)["traceback"])

    assert "KeyboardInterrupt" in text
    assert not [word for word in ("pydevd", "tracer.py") if word in text]
    client.break_at(FUNCTION)


def test_an_interrupt_ends_an_evaluation_at_a_breakpoint(client):
    kernel = client.kernel
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    client.stopped()
    asked = client.send("evaluate", expression="__import__('time').sleep(30)", frameId=client.frames()[0]["id"])
    client.ask("debugInfo")

    with promptly(1.0):
        kernel.interrupt()
        assert client.outcome(cell) == "KeyboardInterrupt"

    kernel.reply(asked)
    client.break_at(LOOP)
    client.works_still()


def test_an_interrupt_at_an_exception_ends_the_cell(client):
    client.ask("setExceptionBreakpoints", filters=["raised"])
    cell = client.run("try:\n    1/0\nexcept ZeroDivisionError:\n    pass\nimport time\ntime.sleep(20)\n")
    client.stopped()

    client.kernel.interrupt()

    assert client.outcome(cell) == "KeyboardInterrupt"
    client.ask("setExceptionBreakpoints", filters=[])
    client.works_still()


@pytest.mark.parametrize("which", ["raised", "uncaught"])
def test_an_interrupt_at_an_exception_that_fails_the_cell_is_how_it_ends(client, which):  # I22
    client.ask("setExceptionBreakpoints", filters=[which])
    for code in ("1/0", "def f():\n    return 1/0\nf()\n", "import asyncio\nawait asyncio.sleep(0)\n1/0\n"):
        cell = client.run(code)
        client.stopped()

        client.kernel.interrupt()

        assert client.outcome(cell) == "KeyboardInterrupt"
    client.ask("setExceptionBreakpoints", filters=[])
    client.works_still()


def test_code_that_catches_the_interrupt_goes_on(client):
    code = "try:\n    total = 0\n    total += 1\nexcept KeyboardInterrupt:\n    total = 'caught'\ntotal\n"
    client.break_at(code, 3)
    cell = client.run(code)
    client.stopped()

    client.kernel.interrupt()

    assert client.outcome(cell) == "ok"
    assert "execute_result:'caught'" in client.kernel.outputs(cell)


def test_interrupts_while_traced_code_runs(client):
    """No stop: KeyboardInterrupt must come through pydevd's own code, and leave it whole."""
    client.break_at(LOOP, 3)  # so that there is something to trace
    for _ in range(5):
        cell = client.run("def f(n): return n\nwhile True: f(1)\n")
        client.kernel.wait_for("iopub", "execute_input", msg_id=cell)
        with promptly(2.0):
            client.kernel.interrupt()
            assert client.outcome(cell) == "KeyboardInterrupt"

    client.works_still()


@pytest.mark.parametrize("restart", [False, True])
def test_shutdown_at_a_breakpoint(own_client, restart):
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    own_client.run(LOOP)
    own_client.stopped()

    with promptly():
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=restart))

    end = time.monotonic() + 2
    while kernel.manager.is_alive() and time.monotonic() < end:
        kernel.drain()
    assert not kernel.manager.is_alive()


def test_a_restarted_kernel_takes_the_breakpoints_again(own_client):
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    own_client.works_still()

    kernel.manager.restart_kernel(now=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kernel.reply(kernel.send("kernel_info_request"), timeout=30)

    assert own_client.ask("debugInfo")["isStarted"] is False
    own_client.start()
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()
    own_client.break_at(LOOP)
    own_client.go_on()
    assert own_client.outcome(cell) == "ok"


def test_disconnect_at_a_breakpoint_lets_the_cell_run(own_client):
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()

    own_client.ask("disconnect")

    assert own_client.outcome(cell) == "ok"


# ---- when debugpy fails -------------------------------------------------------------------------


def test_a_dead_debugpy_fails_who_waits_and_can_be_started_again(own_client):  # D2
    # given: a request that debugpy has begun to answer
    kernel = own_client.kernel
    own_client.break_at(LOOP, 3)
    cell = own_client.run(LOOP)
    own_client.stopped()
    asked = own_client.send("evaluate", expression="__import__('time').sleep(2)", frameId=own_client.frames()[0]["id"])
    # when
    cut = "__import__('pydevd').get_global_debugger().writer.sock.shutdown(2)"
    own_client.answer("evaluate", expression=cut)
    # then
    assert "gone" in kernel.reply(asked)["message"]
    own_client.event("terminated")
    assert own_client.outcome(cell) == "ok"
    assert own_client.ask("debugInfo")["isStarted"] is False
    own_client.start()
    own_client.works_still()


@pytest.mark.slow
def test_a_debugpy_that_hangs_holds_up_nobody(own_client):
    # given: its main lock is held, so that it answers nothing
    kernel = own_client.kernel
    own_client.ask(
        "evaluate", expression="hung = __import__('pydevd').get_global_debugger()._main_lock", context="repl"
    )
    own_client.ask("evaluate", expression="hung.acquire()")
    # when
    asked = own_client.send("threads")
    # then
    with promptly():
        kernel.reply(kernel.send("kernel_info_request", channel="control"))
        kernel.ask_to_interrupt()
        own_client.ask("debugInfo")
        own_client.ask("inspectVariables")
    assert "not answered" in kernel.reply(asked, timeout=30)["message"]
    own_client.ask("disconnect")
    own_client.start()
    own_client.works_still()


# ---- what users do themselves -------------------------------------------------------------------


def test_breakpoint_stops_in_an_attached_debugger(client):
    code = "before = 1\nbreakpoint()\nafter = 2\n"
    cell = client.run(code)

    client.stopped()
    seen = [client.lines()]
    client.ask("next", threadId=1)
    client.stopped()
    seen.append(client.lines())

    assert seen == [[("<module>", 2)], [("<module>", 3)]]
    client.go_on()
    assert client.outcome(cell) == "ok"


def test_breakpoint_opens_ipdb_when_nobody_is_attached(kernel):
    cell = kernel.send("execute_request", code="inspected = 41\nbreakpoint()\ninspected += 1\n", allow_stdin=True)

    assert kernel.answer_input("p inspected * 2")["prompt"] == "ipdb> "
    kernel.answer_input("c")

    assert kernel.reply(cell)["status"] == "ok"
    assert "82" in "".join(kernel.outputs(cell))


def test_debug_this_thread_before_a_session_is_harmless(own_kernel):  # VS Code does this first
    reply, _ = own_kernel.execute("import debugpy; debugpy.debug_this_thread()", timeout=10)
    assert reply["status"] in ("ok", "error")

    client = Client(own_kernel)
    client.start()
    client.works_still()


def test_the_users_own_listen_works_and_is_not_disturbed(own_kernel):
    said = own_kernel.execute("import debugpy; debugpy.listen(0)[0]", timeout=30)[1]
    assert said == ["execute_result:'127.0.0.1'"]

    assert "debugged already" in Client(own_kernel).refused("initialize")


def test_the_users_listen_in_a_session_says_no_at_once(client):
    assert "already been called" in str(client.kernel.execute("import debugpy; debugpy.listen(0)")[1])


def test_a_forked_child_stops_at_no_breakpoint(client):
    code = (
        "import os\npid = os.fork()\nif pid == 0:\n    os._exit(7)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
    )
    client.break_at(code, 4)

    cell = client.run(code)

    assert client.outcome(cell) == "ok"
    assert "execute_result:7" in client.kernel.outputs(cell)


def test_a_child_process_of_python_runs_untouched(client):
    code = "import subprocess, sys\nsubprocess.check_output([sys.executable, '-c', 'print(6 * 7)'], text=True)"

    assert client.kernel.execute(code)[1] == ["execute_result:'42\\n'"]


def test_pdb_works_while_a_debugger_is_attached_and_afterwards_breakpoints_do(client):
    kernel = client.kernel
    cell = kernel.send("execute_request", code="import pdb\npdb.set_trace()\nx = 1\n", allow_stdin=True)
    kernel.answer_input("c")
    assert kernel.reply(cell)["status"] == "ok"

    client.works_still()


# ---- speed ------------------------------------------------------------------------------------------


def test_a_round_trip_takes_milliseconds(client):  # 44 ms with two TCP ends that wait for each other
    took = []
    for _ in range(20):
        begin = time.monotonic()
        client.ask("threads")
        took.append(time.monotonic() - begin)

    assert sorted(took)[10] < 0.2, json.dumps(took)


def test_continue_wakes_the_thread_at_once(client):  # debugpy looks five times a second
    client.break_at(LOOP, 3)
    cell = client.run(LOOP)
    took = []
    for _ in range(4):
        client.stopped()
        begin = time.monotonic()
        client.go_on()
        took.append(time.monotonic() - begin)

    assert client.outcome(cell) == "ok"
    assert sorted(took)[2] < 0.5, json.dumps(took)


@pytest.mark.parametrize("code", ["1 + 1", "import sys; sys.gettrace() is None"])
def test_nobody_pays_before_the_first_debug_request(code):
    with start_kernel() as kernel:
        assert kernel.execute(code)[0]["status"] == "ok"
        assert kernel.execute("import sys; 'ipymini.debug.debugger' in sys.modules")[1] == ["execute_result:False"]
