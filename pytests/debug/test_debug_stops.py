"""Where a cell stops: lines, conditions, functions, exceptions, files, threads."""

import pytest
from debug_client import FUNCTION, LOOP, Client


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
