"""input(), getpass and the debuggers of the terminal, over the stdin channel."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness import KernelUnderTest
from jupyter_client.session import Session


def asking(kernel: KernelUnderTest, code: str, **content: Any) -> str:
    """Run a cell up to its first question."""
    msg_id = kernel.send("execute_request", code=code, allow_stdin=True, **content)
    kernel.wait_for("stdin", "input_request", msg_id=msg_id)
    return msg_id


def questions(kernel: KernelUnderTest, msg_id: str) -> list[dict[str, Any]]:
    kernel.drain()
    return [message for message in kernel.messages("stdin", msg_id) if message["msg_type"] == "input_request"]


def wait_for_questions(kernel: KernelUnderTest, msg_id: str, count: int) -> None:
    kernel.wait_until(lambda: len(questions(kernel, msg_id)) >= count, 20, f"{count} questions")


def texts(kernel: KernelUnderTest, msg_id: str) -> str:
    said = [line.partition(":")[2] for line in kernel.outputs(msg_id) if line.startswith(("stdout:", "stderr:"))]
    return re.sub(r"\x1b\[[\d;]*m", "", "".join(said))


@pytest.fixture
def other(kernel: KernelUnderTest) -> Iterator[KernelUnderTest]:
    client = kernel.second_client()
    yield client
    client.client.stop_channels()


def test_input_asks_and_returns_the_answer(kernel: KernelUnderTest) -> None:
    cell = asking(kernel, "input('name ')")
    assert kernel.answer_input("Ada") == {"prompt": "name ", "password": False}
    assert kernel.reply(cell)["status"] == "ok"
    assert kernel.outputs(cell)[2:] == ["execute_result:'Ada'", "status:idle"]


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("input()", {"prompt": "", "password": False}),
        ("input(5)", {"prompt": "5", "password": False}),
        ("import getpass; getpass.getpass()", {"prompt": "Password: ", "password": True}),
        ("from getpass import getpass; getpass('key ')", {"prompt": "key ", "password": True}),
        ("await __import__('asyncio').sleep(.01); input('later ')", {"prompt": "later ", "password": False}),
        ("f = lambda: input('inner ')\nf()", {"prompt": "inner ", "password": False}),
    ],
)
def test_the_question_says_what_is_wanted(kernel: KernelUnderTest, code: str, content: dict[str, Any]) -> None:  # S6
    cell = asking(kernel, code)
    assert kernel.answer_input("x") == content
    assert "execute_result:'x'" in kernel.outputs(cell)


def test_only_the_client_that_runs_the_cell_is_asked(kernel: KernelUnderTest, other: KernelUnderTest) -> None:  # S1
    cell = asking(other, "input('mine ')")
    kernel.reply(kernel.send("kernel_info_request", channel="control"))
    kernel.drain()
    assert kernel.messages("stdin", cell) == []
    assert other.answer_input("x")["prompt"] == "mine "
    assert "execute_result:'x'" in other.outputs(cell)


def test_text_before_the_question_is_seen_before_it(kernel: KernelUnderTest) -> None:  # S4
    cell = kernel.send("execute_request", code="print('before', end=''); input()", allow_stdin=True)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="before")
    kernel.wait_for("stdin", "input_request", msg_id=cell)
    assert not kernel.reply_messages(cell)
    kernel.answer_input("")
    assert kernel.outputs(cell)[-1] == "status:idle"


def test_a_thread_of_the_cell_may_ask_too(kernel: KernelUnderTest) -> None:  # S5
    code = (
        "import threading\nfound = {}\ndef ask(name): found[name] = input(name)\n"
        "thread = threading.Thread(target=ask, args=('thread',)); thread.start()\n"
        "ask('main'); thread.join()\nsorted(found.items())"
    )
    cell = asking(kernel, code)
    wait_for_questions(kernel, cell, 2)
    # answered in the reverse order, each by its own parent
    for question in reversed(questions(kernel, cell)):
        prompt = question["content"]["prompt"]
        kernel.send("input_reply", channel="stdin", value=f"to {prompt}", parent=question["header"])
    assert f"execute_result:{[('main', 'to main'), ('thread', 'to thread')]}" in kernel.outputs(cell)


def test_late_foreign_and_repeated_answers_are_ignored(kernel: KernelUnderTest, other: KernelUnderTest) -> None:  # S3
    first = asking(kernel, "input('first ')")
    question = kernel.wait_for("stdin", "input_request", msg_id=first)
    other.send("input_reply", channel="stdin", value="foreign", parent=question["header"])
    kernel.send("input_reply", channel="stdin", value="stray", parent={"msg_id": "unknown"})
    kernel.reply(kernel.send("kernel_info_request", channel="control"))
    assert not kernel.reply_messages(first)
    for value in ("right", "repeated", "again"):
        kernel.send("input_reply", channel="stdin", value=value, parent=question["header"])
    assert "execute_result:'right'" in kernel.outputs(first)

    second = asking(kernel, "input('second ')")
    kernel.send("input_reply", channel="stdin", value="late", parent=question["header"])
    kernel.send("input_reply", channel="stdin", value="new", parent=questions(kernel, second)[0]["header"])
    assert "execute_result:'new'" in kernel.outputs(second)


def test_an_answer_without_a_parent_is_for_the_oldest_question(kernel: KernelUnderTest) -> None:  # S3
    cell = asking(kernel, "input('a'), input('b')")
    kernel.send("input_reply", channel="stdin", value="1")
    wait_for_questions(kernel, cell, 2)
    kernel.send("input_reply", channel="stdin", value="2")
    assert "execute_result:('1', '2')" in kernel.outputs(cell)


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ({"value": "\x04"}, "error:EOFError:"),
        ({"value": 5}, "execute_result:''"),
        ({}, "execute_result:''"),
        ({"value": None}, "execute_result:''"),
    ],
)
def test_odd_answers(kernel: KernelUnderTest, content: dict[str, Any], output: str) -> None:
    cell = asking(kernel, "input()")
    kernel.send("input_reply", channel="stdin", parent=questions(kernel, cell)[0]["header"], **content)
    assert kernel.outputs(cell)[2:] == [output, "status:idle"]


@pytest.mark.parametrize("code", ["input('a')", "import getpass; getpass.getpass()", "import pdb; pdb.set_trace()"])
def test_without_allow_stdin_asking_fails_at_once(kernel: KernelUnderTest, code: str) -> None:  # S7
    reply = kernel.reply(kernel.send("execute_request", code=code, allow_stdin=False))
    assert reply["ename"] == "StdinNotImplementedError"
    assert "was called, but this frontend does not support input requests." in reply["evalue"]


def test_asking_after_the_cell_has_ended_fails_and_never_hangs(kernel: KernelUnderTest) -> None:  # S7
    code = (
        "import threading\ngo, done = threading.Event(), threading.Event()\nerrors = []\ndef ask():\n go.wait(10)\n"
        " try: input('late')\n except Exception as error: errors.append(type(error).__name__)\n done.set()\n"
        "threading.Thread(target=ask).start()"
    )
    kernel.send("execute_request", code=code, allow_stdin=True)
    cell = kernel.send("execute_request", code="go.set(); done.wait(10); errors", allow_stdin=True)
    assert "execute_result:['StdinNotImplementedError']" in kernel.outputs(cell)


@pytest.mark.parametrize("ends", ["asked.wait(10)", "input('mine ')"], ids=["as it asks", "while it waits"])
def test_a_thread_that_still_asks_when_its_cell_ends_is_told(kernel: KernelUnderTest, ends: str) -> None:  # S7, P7
    code = (
        "import threading\nerrors = []; asked = threading.Event()\ndef ask():\n"
        " try: asked.set(); input('never answered')\n except Exception as error: errors.append(type(error).__name__)\n"
        f"thread = threading.Thread(target=ask); thread.start(); {ends}; None"
    )
    for _ in range(20 if "wait" in ends else 1):
        cell = kernel.send("execute_request", code=code, allow_stdin=True)
        if "mine" in ends:
            wait_for_questions(kernel, cell, 2)
            question = next(one for one in questions(kernel, cell) if one["content"]["prompt"] == "mine ")
            kernel.send("input_reply", channel="stdin", value="", parent=question["header"])
        assert kernel.reply(cell)["status"] == "ok"
        assert kernel.execute("thread.join(10); errors")[1] == ["execute_result:['StdinNotImplementedError']"]


def test_a_stdin_that_connects_late_still_gets_its_question(kernel: KernelUnderTest) -> None:  # S1
    client = kernel.manager.client(session=Session(key=kernel.client.session.key))
    client.start_channels(stdin=False, iopub=False, control=False, hb=False)
    try:
        request = client.session.msg("execute_request", {"code": "input('late ')", "allow_stdin": True})
        client.shell_channel.send(request)
        kernel.wait_for("iopub", "execute_input", msg_id=request["header"]["msg_id"])
        kernel.reply(kernel.send("kernel_info_request", channel="control"))  # it asks by now, and nobody is there
        assert client.get_stdin_msg(timeout=10)["content"]["prompt"] == "late "  # connects first
        client.input("there")
        assert client.get_shell_msg(timeout=10)["content"]["status"] == "ok"
    finally:
        client.stop_channels()


def test_sys_stdin_is_empty_and_does_not_block(kernel: KernelUnderTest) -> None:
    assert kernel.execute("import sys; sys.stdin.readline()")[1] == ["execute_result:''"]


# ---- debuggers of the terminal --------------------------------------------------------------


def session(kernel: KernelUnderTest, code: str, *commands: str) -> tuple[dict[str, Any], str, list[str]]:
    """Debug a cell with these commands; return the reply, what was printed, and the prompts."""
    cell = kernel.send("execute_request", code=code, allow_stdin=True)
    prompts = [kernel.answer_input(command)["prompt"] for command in commands]
    reply = kernel.reply(cell)
    assert kernel.outputs(cell)[-1] == "status:idle"
    return reply, texts(kernel, cell), prompts


@pytest.mark.parametrize(
    "stop",
    ["import pdb; pdb.set_trace()", "breakpoint()", "from IPython.core.debugger import set_trace; set_trace()"],
)
def test_pdb_talks_through_stdin(kernel: KernelUnderTest, stop: str) -> None:
    code = f"def f(a):\n    {stop}\n    return a + 1\nprint('answer', f(41))"
    reply, text, prompts = session(kernel, code, "p a * 2", "!a = 1", "c")
    assert (reply["status"], set(prompts)) == ("ok", {"ipdb> "})
    assert "82\n" in text and "answer 2\n" in text


def test_pdb_steps_and_lists_lines_of_the_cell(kernel: KernelUnderTest) -> None:
    code = "def f():\n    here = 'first'\n    return here\nimport pdb; pdb.run('f()', globals())"
    reply, text, _ = session(kernel, code, "s", "s", "n", "l", "p here", "c")
    assert reply["status"] == "ok"
    assert "here = 'first'" in text and "return here" in text


def walk(kernel: KernelUnderTest, code: str, command: str) -> tuple[dict[str, Any], str]:
    """Debug a cell and give the same command again and again, until it ends; return the reply and what was printed."""
    cell = kernel.send("execute_request", code=code, allow_stdin=True)
    for _ in range(30):
        kernel.wait_until(
            lambda: bool(kernel.reply_messages(cell) or questions(kernel, cell)), 20, "a prompt, or the end"
        )
        if kernel.reply_messages(cell):
            return kernel.reply(cell), texts(kernel, cell)
        kernel.answer_input(command)
    raise AssertionError(f"no end after 30 times {command!r}:\n{texts(kernel, cell)[-3000:]}")


STOPS = {
    "pdb": "import pdb; pdb.set_trace()",
    "breakpoint": "breakpoint()",
    "ipython": "from IPython.core.debugger import set_trace; set_trace()",
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_on_the_last_line_of_a_cell_is_in_the_cell(kernel: KernelUnderTest, stop: str) -> None:
    reply, text, _ = session(kernel, f"x = 5\n{STOPS[stop]}", "p x * 11", "c")
    assert reply["status"] == "ok"
    assert "55\n" in text and f"----> 2 {STOPS[stop]}" in text
    assert "ipymini/" not in text


@pytest.mark.parametrize("command", ["n", "s", "r", "unt"])
def test_pdb_walks_through_a_cell_and_never_into_the_kernel(kernel: KernelUnderTest, command: str) -> None:
    calls = "def f():\n    breakpoint()\n    return 6\nx = f()\ny = x * 7\ny"
    waits = "import asyncio\nbreakpoint()\nawait asyncio.sleep(0)\ny = 42\ny"
    for code in (calls, waits):
        reply, text = walk(kernel, code, command)
        assert reply["status"] == "ok"
        where = [line for line in text.splitlines() if line.startswith("> ")]
        strangers = [line for line in where if "ipykernel_" not in line and "/asyncio/" not in line]
        assert where and not strangers, text
        if command in "ns":
            assert "y = " in "".join(line for line in text.splitlines() if line.startswith("---")), text
        assert kernel.execute("import sys; print(y, sys.gettrace())")[1] == ["stdout:42 None\n"]


def test_a_breakpoint_of_pdb_holds_in_later_cells_and_a_step_ends_with_its_cell(kernel: KernelUnderTest) -> None:
    kernel.execute("def far():\n    one = 1\n    return one")
    session(kernel, "breakpoint()\nx = 1", "b far", "c")
    reply, text = walk(kernel, "far()\n_ = 0", "s")
    assert reply["status"] == "ok" and "> 2     one = 1" in text, text
    assert kernel.execute("print('free')\nprint('ly')")[1] == ["stdout:free\nly\n"]
    session(kernel, "breakpoint()\nx = 1", "clear 1", "c")
    assert kernel.execute("import sys; print(sys.gettrace())")[1] == ["stdout:None\n"]


def test_pdb_steps_into_what_the_kernel_calls_of_the_users(kernel: KernelUnderTest) -> None:
    code = "class Own:\n    def __repr__(self):\n        return 'own'\nown = Own()\nbreakpoint()\nown"
    reply, text = walk(kernel, code, "s")
    assert reply["status"] == "ok"
    assert "__repr__()" in text and "ipymini/" not in text


def test_debug_is_post_mortem_of_the_last_error(kernel: KernelUnderTest) -> None:
    kernel.execute("def broken(depth):\n    inside = 42\n    return 1 / depth\nbroken(0)")
    reply, text, prompts = session(kernel, "%debug", "p inside", "up", "q")
    assert (reply["status"], set(prompts)) == ("ok", {"ipdb> "})
    assert "42\n" in text and "broken" in text


def test_pdb_on_debugs_each_error(kernel: KernelUnderTest) -> None:
    kernel.execute("%pdb on")
    reply, text, _ = session(kernel, "value = 7\n1/0", "p value", "q")
    assert reply["ename"] == "ZeroDivisionError"
    assert "\n7\n" in text
    kernel.execute("%pdb off")


def test_quitting_the_debugger_ends_the_cell_quietly(kernel: KernelUnderTest) -> None:
    reply, text, _ = session(kernel, "import pdb; pdb.set_trace()\nprint('af' + 'ter')", "q")
    assert (reply["ename"], reply["traceback"]) == ("BdbQuit", [])
    assert "after" not in text
    assert kernel.execute("1 + 1")[1] == ["execute_result:2"]
