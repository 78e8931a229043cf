"""Steps: into, over, out of, and where they never lead."""

import pytest
from debug_client import FUNCTION, Client


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
