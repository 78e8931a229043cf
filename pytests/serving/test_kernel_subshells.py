"""Subshells over the wire (JEP 91): results, errors, comms, stdin, interrupts and output of several at once."""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from busy import BUSY, SLEEP
from harness import KernelUnderTest
from subshells import create, delete, descriptors, gone, listed, settled

BY = {"sigint": lambda kernel: kernel.interrupt(), "message": lambda kernel: kernel.ask_to_interrupt()}


def send(kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any) -> str:
    return kernel.send("execute_request", header={"subshell_id": subshell_id}, code=code, **content)


def run(
    kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any
) -> tuple[dict[str, Any], list[str]]:
    return kernel.execute(code, header={"subshell_id": subshell_id}, **content)


def outputs(kernel: KernelUnderTest, msg_id: str) -> list[str]:
    return [line for line in kernel.outputs(msg_id) if not line.startswith(("status:", "execute_input:"))]


def running(kernel: KernelUnderTest, subshell_id: str | None, code: str, **content: Any) -> str:
    msg_id = send(kernel, subshell_id, code, **content)
    kernel.wait_for("iopub", "stream", msg_id=msg_id, text="on")
    return msg_id


@pytest.fixture
def subshells(kernel: KernelUnderTest) -> Iterator[list[str]]:
    """Three subshells, deleted after the test; nothing of them must be left."""
    ids = [create(kernel) for _ in range(3)]
    yield ids
    for one in listed(kernel):
        delete(kernel, one)
    gone(kernel)


@pytest.fixture(params=BY, ids=str)
def strike(request: pytest.FixtureRequest) -> Any:
    return BY[request.param]


# ---- create, list, delete ------------------------------------------------------------------


def test_a_subshell_is_listed_when_the_reply_comes_and_gone_after_delete(kernel: KernelUnderTest) -> None:  # B1
    first, second = create(kernel), create(kernel)
    assert listed(kernel) == [first, second]
    assert delete(kernel, first) == {"status": "ok"}
    assert listed(kernel) == [second]
    delete(kernel, second)
    assert listed(kernel) == []


def test_the_kernel_says_that_it_has_subshells(kernel: KernelUnderTest) -> None:
    assert "kernel subshells" in kernel.reply(kernel.send("kernel_info_request"))["supported_features"]


def test_the_id_of_no_subshell_cannot_be_deleted(kernel: KernelUnderTest) -> None:
    reply = delete(kernel, "no-such")
    assert (reply["status"], reply["ename"]) == ("error", "UnknownSubshellError")
    reply = kernel.reply(kernel.send("delete_subshell_request", channel="control"))
    assert (reply["status"], reply["ename"]) == ("error", "BadContent")


@pytest.mark.parametrize(
    "msg_type", ["execute_request", "complete_request", "kernel_info_request", "comm_info_request"]
)
def test_an_unknown_subshell_is_an_error_and_never_runs_on_the_main_shell(
    kernel: KernelUnderTest, msg_type: str
) -> None:
    # Q1, Q8
    gone_id = create(kernel)
    delete(kernel, gone_id)
    for subshell_id in ("no-such", gone_id):
        msg_id = kernel.send(msg_type, header={"subshell_id": subshell_id}, code="ran_on_the_parent = 1", cursor_pos=0)
        reply = kernel.reply(msg_id)
        assert (reply["status"], reply["ename"]) == ("error", "UnknownSubshellError")
        assert kernel.outputs(msg_id) == ["status:busy", "status:idle"]
    assert kernel.execute("'ran_on_the_parent' in globals()")[1] == ["execute_result:False"]


def test_none_and_the_empty_string_are_the_parent(kernel: KernelUnderTest) -> None:  # Q8
    code = "import threading; threading.current_thread() is threading.main_thread()"
    assert [run(kernel, one, code)[1] for one in (None, "")] == [["execute_result:True"]] * 2


def test_a_subshell_has_a_thread_and_a_loop_of_its_own(kernel: KernelUnderTest, subshells: list[str]) -> None:
    code = "import asyncio, threading; await asyncio.sleep(0)\nthreading.get_ident(), id(asyncio.get_running_loop())"
    facts = {run(kernel, one, code)[1][0] for one in (None, *subshells)}
    assert len(facts) == 4


def test_what_answers_a_subshell_repeats_its_header(kernel: KernelUnderTest, subshells: list[str]) -> None:
    cell = send(kernel, subshells[0], "1")
    kernel.reply(cell)
    assert kernel.reply_messages(cell)[0]["parent_header"]["subshell_id"] == subshells[0]
    assert {one["parent_header"]["subshell_id"] for one in kernel.iopub(cell)} == {subshells[0]}


def test_the_subshell_magic_says_where_a_cell_runs(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B9
    for one in (None, subshells[1]):
        text = "".join(run(kernel, one, "%subshell")[1]).removeprefix("stdout:")
        facts = dict(line.split(": ", 1) for line in text.splitlines())
        assert (facts["subshell id"], facts["subshell list"]) == (str(one), str(subshells))
        assert (facts["thread id"] == facts["main thread id"]) == (one is None)


# ---- results ---------------------------------------------------------------------------------


def test_the_namespace_is_shared_both_ways(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B3
    kernel.execute("from_main = 'm'; import IPython; early = IPython.get_ipython()")
    assert run(kernel, subshells[0], "from_child = 'c'; def_ = lambda: from_main\nfrom_main")[1] == [
        "execute_result:'m'"
    ]
    assert kernel.execute("from_child, def_()")[1] == ["execute_result:('c', 'm')"]
    same = "get_ipython() is early is IPython.get_ipython()"
    assert [run(kernel, one, same)[1] for one in (None, *subshells)] == [["execute_result:True"]] * 4


def test_counts_inputs_and_outputs_are_each_subshells_own(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # B7, B8
    main = kernel.execute("'main result'")[0]["execution_count"]
    for number, one in enumerate(subshells):
        replies = [run(kernel, one, f"{number * 10 + step}") for step in range(3)]
        assert [reply["execution_count"] for reply, _ in replies] == [1, 2, 3]
        assert run(kernel, one, "_, __, ___, _1, Out[2], In[1:4], len(In)")[1] == [
            f"execute_result:{(number * 10 + 2, number * 10 + 1, number * 10, number * 10, number * 10 + 1, [str(number * 10 + step) for step in range(3)], 5)!r}"
        ]
    assert kernel.execute(f"_, Out[{main}], In[{main}]")[1] == [
        f"execute_result:{('main result', 'main result', chr(39) + 'main result' + chr(39))!r}"
    ]


def test_many_cells_at_once_get_their_own_results(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B7, B8
    code = (
        "from IPython.display import display\nimport time\nfor step in range(3): print('{0} {1}'); display('{0} {1}'); time.sleep(.001)\n"
        "{0!r}, {1!r}"
    )
    cells = {(one, n): send(kernel, one, code.format(one, n)) for n in range(10) for one in (None, *subshells)}
    for (one, n), cell in cells.items():
        count = kernel.reply(cell)["execution_count"]
        said = outputs(kernel, cell)
        shown = [f"display_data:'{one} {n}'"] * 3
        assert [line for line in said if line.startswith("display")] == shown
        assert "".join(line.removeprefix("stdout:") for line in said if line.startswith("stdout")) == f"{one} {n}\n" * 3
        assert said[-1] == f"execute_result:{(one, n)!r}"
        inputs = [
            message["content"]["execution_count"]
            for message in kernel.iopub(cell)
            if message["msg_type"] == "execute_input"
        ]
        results = [
            message["content"]["execution_count"]
            for message in kernel.iopub(cell)
            if message["msg_type"] == "execute_result"
        ]
        assert inputs == results == [count]


def test_tracebacks_at_once_reach_their_own_cells(kernel: KernelUnderTest, subshells: list[str]) -> None:
    cells = {
        (one, n): send(kernel, one, f"raise ValueError('{one} {n}')", stop_on_error=False)
        for n in range(5)
        for one in (None, *subshells)
    }
    for (one, n), cell in cells.items():
        reply = kernel.reply(cell)
        assert (reply["ename"], reply["evalue"]) == ("ValueError", f"{one} {n}")
        assert f"{one} {n}" in reply["traceback"][-1]
        assert outputs(kernel, cell) == [f"error:ValueError:{one} {n}"]


def test_payloads_and_user_expressions_are_each_subshells_own(kernel: KernelUnderTest, subshells: list[str]) -> None:
    code = "get_ipython().set_next_input('{0}'); import time; time.sleep(.05)"
    cells = {one: send(kernel, one, code.format(one), user_expressions={"mine": "len(In)"}) for one in subshells}
    for one, cell in cells.items():
        reply = kernel.reply(cell)
        assert [payload["text"] for payload in reply["payload"]] == [one]
        assert reply["user_expressions"]["mine"]["data"]["text/plain"] == "2"


def test_history_of_a_subshell_is_its_own(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B7
    for number, one in enumerate(subshells):
        run(kernel, one, f"'history {number}'")
    for number, one in enumerate(subshells):
        ask = kernel.send(
            "history_request",
            header={"subshell_id": one},
            hist_access_type="range",
            raw=True,
            output=False,
            session=0,
            start=1,
            stop=2,
        )
        assert [row[2] for row in kernel.reply(ask)["history"]] == [f"'history {number}'"]


def test_completion_in_all_subshells_at_once(kernel: KernelUnderTest, subshells: list[str]) -> None:  # B4, Q10
    kernel.execute("import os; some_long_name = 1")
    asked = [
        kernel.send("complete_request", header={"subshell_id": one}, code=code, cursor_pos=len(code))
        for _ in range(5)
        for one in (None, *subshells)
        for code in ("some_long", "os.pat")
    ]
    for msg_id, expected in zip(asked, itertools.cycle(["some_long_name", "path"])):
        reply = kernel.reply(msg_id)
        assert reply["status"] == "ok", reply
        assert expected in [match.rpartition(".")[2] for match in reply["matches"]]


def test_cells_of_one_subshell_run_while_another_blocks(kernel: KernelUnderTest, subshells: list[str]) -> None:
    kernel.execute("import threading; gate = threading.Event()")
    blocked = running(kernel, subshells[0], "print('on'); gate.wait(20)")
    assert run(kernel, subshells[1], "'free'")[1] == ["execute_result:'free'"]
    blocked_main = running(kernel, None, "print('on'); gate.wait(20)")
    assert run(kernel, subshells[1], "gate.set()")[0]["status"] == "ok"
    assert {one["status"] for one in kernel.replies(blocked, blocked_main).values()} == {"ok"}


def test_an_error_aborts_the_queue_of_its_own_subshell_only(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # Q3, Q4
    first, second, _ = subshells
    kernel.execute("import threading; gate = threading.Event()")
    failing = running(kernel, first, "print('on'); gate.wait(20); 1/0")
    waiting = running(kernel, second, "print('on'); gate.wait(20)")
    behind = [send(kernel, first, "'must not run'") for _ in range(3)]
    asked = kernel.send("complete_request", header={"subshell_id": first}, code="gat", cursor_pos=3)
    others = [send(kernel, second, f"{n}") for n in range(3)]
    kernel.execute("gate.set()")
    assert kernel.reply(failing)["ename"] == "ZeroDivisionError"
    assert [kernel.reply(one)["status"] for one in behind] == ["aborted"] * 3
    assert [kernel.outputs(one) for one in behind] == [["status:busy", "status:idle"]] * 3
    assert kernel.reply(asked)["status"] == "ok"
    assert [kernel.reply(one)["status"] for one in (waiting, *others)] == ["ok"] * 4
    assert run(kernel, first, "'later'")[1] == ["execute_result:'later'"]


# ---- what is configured once -----------------------------------------------------------------


SETTINGS = {
    "formatter": (
        "get_ipython().display_formatter.formatters['text/plain'].for_type(frozenset, lambda o, p, c: p.text('FS'))",
        "frozenset()",
        "execute_result:FS",
    ),
    "magic": (
        "get_ipython().register_magic_function(lambda line: 'magic ' + line, 'line', 'ours')",
        "%ours x",
        "execute_result:'magic x'",
    ),
    "alias": ("%alias greet echo hello", "%greet", "stdout:hello\n"),
    "extension": (
        """
        import sys, types
        ext = types.ModuleType('our_ext')
        ext.load_ipython_extension = lambda ip: ip.push({'loaded': 7})
        sys.modules['our_ext'] = ext
        %load_ext our_ext
        """,
        "loaded",
        "execute_result:7",
    ),
    "precision": ("%precision 2", "3.14159", "execute_result:3.14"),
    "matplotlib": (
        "%matplotlib inline\nimport matplotlib.pyplot as plt",
        "_ = plt.plot([1, 2])",
        "display_data:<Figure size 640x480 with 1 Axes>",
    ),
    "transform": (
        "get_ipython().input_transformers_cleanup.append(lambda lines: [line.replace('SHOUT', '\"loud\"') for line in lines])",
        "SHOUT",
        "execute_result:'loud'",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("where", ["main", "child"])
def test_what_is_configured_in_one_shell_holds_in_all(
    own_kernel: KernelUnderTest, name: str, where: str
) -> None:  # B10
    setting, code, expected = SETTINGS[name]
    before = create(own_kernel)
    reply, _ = run(own_kernel, None if where == "main" else before, setting)
    assert reply["status"] == "ok", reply
    after = create(own_kernel)
    for one in (None, before, after):
        assert "".join(run(own_kernel, one, code)[1]).replace("\r", "") == expected


def test_an_event_callback_fires_once_per_cell_in_every_subshell(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # B10
    kernel.execute(
        "fired = []\ndef fires(*info): fired.append(1)\n"
        "for name in ('pre_run_cell', 'post_run_cell', 'pre_execute', 'post_execute'): get_ipython().events.register(name, fires)"
    )
    kernel.execute("fired.clear()")  # whose own post callbacks add two
    for number, one in enumerate(subshells):
        assert run(kernel, one, "len(fired)")[1] == [f"execute_result:{4 + 4 * number}"]
    kernel.execute(
        "for name in ('pre_run_cell', 'post_run_cell', 'pre_execute', 'post_execute'): get_ipython().events.unregister(name, fires)"
    )


# ---- comms -------------------------------------------------------------------------------------


WHERE = "import threading\ndef where(message): print(threading.current_thread().name)\n"
TARGET = WHERE + (
    "import comm\ncomms = []\ndef opened(one, message): comms.append(one); one.on_msg(where); print('open', threading.current_thread().name)\n"
    "comm.get_comm_manager().register_target('t', opened)"
)


def thread_of(kernel: KernelUnderTest, comm_msg: str) -> str:
    kernel.wait_for("iopub", "stream", msg_id=comm_msg)
    said = outputs(kernel, comm_msg)
    return "".join(said).removeprefix("stdout:").removeprefix("open ").strip()


def test_comm_messages_run_on_the_subshell_of_their_header(kernel: KernelUnderTest, subshells: list[str]) -> None:
    kernel.execute(TARGET)
    for number, one in enumerate((None, *subshells)):
        opened = kernel.send("comm_open", header={"subshell_id": one}, comm_id=f"c{number}", target_name="t", data={})
        message = kernel.send("comm_msg", header={"subshell_id": one}, comm_id=f"c{number}", data={})
        name = "MainThread" if one is None else f"ipymini-subshell-{one[:4]}"
        assert (thread_of(kernel, opened), thread_of(kernel, message)) == (name, name)


def test_a_callback_on_a_subshell_ends_what_a_cell_awaits(kernel: KernelUnderTest, subshells: list[str]) -> None:
    # JupyterLab sends the click on a button to a subshell; the Event that it sets belongs to the main shell's loop.
    run(kernel, None, "import asyncio, comm; done = asyncio.Event(); heard = []")
    target = "comm.get_comm_manager().register_target('wakes', lambda c, m: c.on_msg(lambda m: done.set()))"
    run(kernel, None, target)
    header = {"subshell_id": subshells[0]}
    kernel.outputs(kernel.send("comm_open", header=header, comm_id="wakes", target_name="wakes", data={}))
    cell = running(kernel, None, "print('on'); await done.wait(); 'went on'")
    kernel.outputs(kernel.send("comm_msg", header=header, comm_id="wakes", data={}))
    assert kernel.reply(cell)["status"] == "ok"
    assert outputs(kernel, cell)[-1] == "execute_result:'went on'"


def test_comm_messages_are_handled_while_the_main_shell_blocks(kernel: KernelUnderTest, subshells: list[str]) -> None:
    kernel.execute(TARGET + "\ngate = threading.Event()")
    kernel.outputs(kernel.send("comm_open", comm_id="w", target_name="t", data={}))
    blocked = running(kernel, None, "print('on'); gate.wait(20); print('end')")
    message = kernel.send("comm_msg", header={"subshell_id": subshells[0]}, comm_id="w", data={})
    assert thread_of(kernel, message) == f"ipymini-subshell-{subshells[0][:4]}"
    run(kernel, subshells[0], "gate.set()")
    assert kernel.reply(blocked)["status"] == "ok"


def test_an_answer_goes_to_the_subshell_that_spoke_last(kernel: KernelUnderTest, subshells: list[str]) -> None:
    kernel.execute(TARGET)
    kernel.outputs(kernel.send("comm_open", comm_id="a", target_name="t", data={}))
    run(kernel, subshells[1], "comms[-1].send({'x': 1})")
    for header in ({}, {"subshell_id": subshells[0]}):
        message = kernel.send("comm_msg", header=header, comm_id="a", data={})
        assert thread_of(kernel, message) == f"ipymini-subshell-{subshells[1][:4]}"
    delete(kernel, subshells[1])
    assert thread_of(kernel, kernel.send("comm_msg", comm_id="a", data={})) == "MainThread"


def test_the_answer_to_a_question_goes_to_who_asked(kernel: KernelUnderTest, subshells: list[str]) -> None:
    kernel.execute(TARGET)
    kernel.outputs(kernel.send("comm_open", comm_id="q", target_name="t", data={}))
    for number, one in enumerate((None, *subshells)):
        run(kernel, one, f"comms[-1].send({{'content': {{'id': 'q{number}'}}}})")
    for number, one in reversed(list(enumerate((None, *subshells)))):
        message = kernel.send("comm_msg", comm_id="q", data={"content": {"id": f"q{number}"}})
        assert thread_of(kernel, message) == ("MainThread" if one is None else f"ipymini-subshell-{one[:4]}")


# ---- stdin --------------------------------------------------------------------------------------


def test_questions_of_all_subshells_are_answered_in_any_order(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # S2
    cells = {one: send(kernel, one, "input('?')", allow_stdin=True) for one in (None, *subshells)}
    asked = {one: kernel.wait_for("stdin", "input_request", msg_id=cell) for one, cell in cells.items()}
    for one in reversed(list(cells)):
        kernel.send("input_reply", channel="stdin", value=f"for {one}", parent=asked[one]["header"])
    for one, cell in cells.items():
        assert kernel.reply(cell)["status"] == "ok"
        assert outputs(kernel, cell) == [f"execute_result:'for {one}'"]
        kernel._seen[cell].remove(asked[one])


def test_cells_that_print_in_turns_do_not_cost_a_message_for_every_piece(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # O1
    run(kernel, None, "import threading; turns = threading.Barrier(4, timeout=20)")
    code = "done = [(turns.wait(), print(n)) for n in range(2000)]"  # a comprehension: the namespace is shared
    cells = [send(kernel, one, code) for one in (None, *subshells)]
    for cell in cells:
        assert kernel.reply(cell)["status"] == "ok"
        streams = [one for one in kernel.iopub(cell) if one["msg_type"] == "stream"]
        assert "".join(one["content"]["text"] for one in streams) == "".join(f"{n}\n" for n in range(2000))
        assert len(streams) < 1000


# ---- interrupts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUSY)
def test_one_interrupt_ends_the_cells_of_all_shells(
    kernel: KernelUnderTest, subshells: list[str], strike: Any, name: str
) -> None:
    # I8, I17, I18, I19
    cells = [running(kernel, one, BUSY[name], allow_stdin=True) for one in (None, *subshells)]
    strike(kernel)
    for cell in cells:
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
        error = f"error:KeyboardInterrupt:{'Interrupted by user' if name == 'input' else ''}"  # as ipykernel says it
        assert [line for line in outputs(kernel, cell) if line.startswith("error")] == [error]
        assert not [line for line in outputs(kernel, cell) if line.startswith("stderr")]
        assert kernel.outputs(cell).count("status:idle") == 1
        assert len(kernel.reply_messages(cell)) == 1
    for one in (None, *subshells):
        assert run(kernel, one, "import time; time.sleep(.02); 'right'")[1] == ["execute_result:'right'"]


@pytest.mark.parametrize("await_", ["", "import asyncio; await asyncio.sleep(0)\n"], ids=["plain", "async"])
def test_an_interrupt_while_a_name_is_deleted_is_an_interrupt(
    kernel: KernelUnderTest, subshells: list[str], await_: str
) -> None:  # I17: CPython makes a NameError of whatever `del` meets
    for _ in range(15):
        cell = running(kernel, subshells[0], f"{await_}print('on')\nwhile True:\n name = 1\n del name")
        kernel.interrupt()
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert run(kernel, subshells[0], f"{await_}del nothing")[0]["ename"] == "NameError"


def test_a_mixed_crowd_is_interrupted_at_once(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I17
    codes = [BUSY[name] for name in ("sleep", "await", "loop", "input")]
    cells = [running(kernel, one, code, allow_stdin=True) for one, code in zip((None, *subshells), codes, strict=True)]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 4


def test_busy_subshells_are_interrupted_while_the_main_shell_is_idle(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:
    cells = [running(kernel, one, SLEEP) for one in subshells]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 3
    assert kernel.execute("'idle was right'")[1] == ["execute_result:'idle was right'"]


def test_a_sleeping_subshell_wakes_promptly(kernel: KernelUnderTest, subshells: list[str]) -> None:  # I19
    cell = running(
        kernel,
        subshells[0],
        "import time\nprint('on')\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print(time.monotonic())",
    )
    asked = float(run(kernel, None, "import time; time.monotonic()")[1][0].removeprefix("execute_result:"))
    kernel.ask_to_interrupt()
    kernel.reply(cell)
    struck = float("".join(outputs(kernel, cell)).removeprefix("stdout:").split("\n")[1])
    assert struck - asked < 1.0


def test_waiting_for_a_child_process_is_as_elsewhere(kernel: KernelUnderTest, subshells: list[str]) -> None:
    code = (
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '60'])\ntry: child.wait(.02)\nexcept subprocess.TimeoutExpired as error: print(error.timeout)\n"
        "child.kill(); codes = child.wait(), child.wait(5), subprocess.run(['sh', '-c', 'exit 3']).returncode, subprocess.check_output(['echo', 'x'])\ncodes"
    )
    assert [run(kernel, one, code)[1] for one in (None, subshells[0])] == [
        ["stdout:0.02\n", "execute_result:(-9, -9, 3, b'x\\n')"]
    ] * 2


def test_an_idle_subshell_is_not_disturbed(kernel: KernelUnderTest, subshells: list[str], strike: Any) -> None:  # I1
    for number in range(10):
        strike(kernel)
        kernel.execute("'the signal has been handled by now'")
        assert run(kernel, subshells[0], f"import time; time.sleep(0.001); {number}")[1] == [f"execute_result:{number}"]


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep({0})",
        "import asyncio; await asyncio.sleep({0})",
        "for _ in range(int(1e7 * {0})): pass",
    ],
)
def test_an_interrupt_hits_the_subshells_cell_it_races_or_nothing(
    kernel: KernelUnderTest, subshells: list[str], strike: Any, code: str
) -> None:
    # I2, I3, I4, I18
    for number in range(30):
        cells = [send(kernel, one, code.format(number % 6 * 0.0005), stop_on_error=False) for one in subshells]
        kernel.wait_for("iopub", "execute_input", msg_id=cells[number % 3])
        strike(kernel)
        kernel.execute("'the signal has been handled by now'")
        for one, cell in zip(subshells, cells, strict=True):
            assert kernel.reply(cell).get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
            assert kernel.outputs(cell).count("status:idle") == 1
            assert run(kernel, one, "import time; time.sleep(.003); 'right'")[1] == ["execute_result:'right'"]
            assert len(kernel.reply_messages(cell)) == 1


def test_a_subshells_cell_may_catch_it_and_go_on(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I13
    code = (
        "import asyncio, time\nprint('on')\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('caught')\n"
        "time.sleep(.01); await asyncio.sleep(.01); print('end')"
    )
    cell = running(kernel, subshells[0], code)
    strike(kernel)
    assert kernel.reply(cell)["status"] == "ok"
    assert "".join(outputs(kernel, cell)).endswith("caught\nend\n")


def test_two_interrupts_of_a_subshell_leave_it_alive(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I12, I24
    code = """
        import time
        try:
            print('on')
            time.sleep(60)
        except KeyboardInterrupt:
            print('caught')
            time.sleep(60)
    """
    cell = running(kernel, subshells[0], code)
    strike(kernel)
    kernel.wait_for("iopub", "stream", msg_id=cell, text="caught")
    strike(kernel)
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert run(kernel, subshells[0], "'alive'")[1] == ["execute_result:'alive'"]


def test_tasks_of_a_subshells_earlier_cells_survive_an_interrupt(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I15
    start = "import asyncio\nticks = [0]\nasync def task():\n while True: ticks[0] += 1; await asyncio.sleep(.001)\njob = asyncio.create_task(task())"
    run(kernel, subshells[0], start)
    for name in ("await", "sleep"):
        cell = running(kernel, subshells[0], BUSY[name])
        strike(kernel)
        assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    grows = "before = ticks[0]\nwhile ticks[0] == before: await asyncio.sleep(.001)\njob.done()"
    assert run(kernel, subshells[0], grows)[1] == ["execute_result:False"]
    run(kernel, subshells[0], "job.cancel()")


def test_an_interrupt_aborts_what_waits_in_each_subshell(
    kernel: KernelUnderTest, subshells: list[str], strike: Any
) -> None:  # I16
    cells = [running(kernel, one, SLEEP) for one in subshells]
    queued = [send(kernel, one, "'queued'") for one in subshells]
    strike(kernel)
    assert [kernel.reply(cell)["ename"] for cell in cells] == ["KeyboardInterrupt"] * 3
    assert [kernel.reply(cell)["status"] for cell in queued] == ["aborted"] * 3


# ---- deleting what is busy ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["loop", "sleep", "event", "await", "gather", "sync in async", "input", "asyncio.run", "prints"]
)
def test_a_busy_subshell_can_be_deleted_and_its_requests_are_answered(
    kernel: KernelUnderTest, name: str
) -> None:  # B2, Q1, Q11
    one = create(kernel)
    cell = running(kernel, one, BUSY[name], allow_stdin=True)
    queued = [send(kernel, one, "'must not run'") for _ in range(3)]
    asked = kernel.send("kernel_info_request", header={"subshell_id": one})
    assert delete(kernel, one) == {"status": "ok"}
    assert listed(kernel) == []
    late = send(kernel, one, "'late'")
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert [kernel.reply(waiting)["ename"] for waiting in queued] == ["UnknownSubshellError"] * 3
    assert all(kernel.outputs(waiting) == ["status:busy", "status:idle"] for waiting in queued)
    assert kernel.reply(late)["ename"] == "UnknownSubshellError"
    kernel.reply(asked)
    for msg_id in (cell, *queued, asked, late):
        assert kernel.outputs(msg_id).count("status:idle") == 1
        assert len(kernel.reply_messages(msg_id)) == 1
    gone(kernel)


def test_a_cell_that_catches_the_first_interrupt_does_not_outlive_its_subshell(kernel: KernelUnderTest) -> None:  # B2
    one = create(kernel)
    waits = " try: time.sleep(60)\n except KeyboardInterrupt: print('caught')"
    cell = running(kernel, one, f"import time\nprint('on')\nfor _ in range(2):\n{waits}")
    assert delete(kernel, one) == {"status": "ok"}
    kernel.reply(cell)
    assert "".join(outputs(kernel, cell)).count("caught") == 2
    gone(kernel)


def test_control_answers_while_a_stubborn_subshell_is_deleted(kernel: KernelUnderTest) -> None:  # B2, Q11
    one = create(kernel)
    kernel.execute("import os; gate = os.pipe()")
    cell = running(kernel, one, "print('on'); os.read(gate[0], 1)")  # a call of C, which nothing can end
    assert delete(kernel, one) == {"status": "ok"}
    assert listed(kernel) == []
    assert not kernel.reply_messages(cell)
    kernel.execute("os.write(gate[1], b'x')")
    assert kernel.reply(cell)["ename"] == "KeyboardInterrupt"
    assert kernel.outputs(cell)[-1] == "status:idle"
    gone(kernel)


def test_a_cell_that_will_not_be_cancelled_is_answered_when_its_subshell_ends(kernel: KernelUnderTest) -> None:  # B2
    one = create(kernel)
    stubborn = (
        "import asyncio\nprint('on')\nwhile True:\n try: await asyncio.sleep(60)\n except asyncio.CancelledError: pass"
    )
    cell = running(kernel, one, stubborn)
    delete(kernel, one)
    assert kernel.reply(cell)["status"] == "error"
    assert kernel.outputs(cell)[-1] == "status:idle"
    gone(kernel)
    # What is left of it is nobody's business, and least of all the loop's that the collector happens to run on.
    assert kernel.execute("import gc; gc.collect(); await asyncio.sleep(0); 1")[1] == ["execute_result:1"]


def test_background_tasks_end_with_their_subshell(kernel: KernelUnderTest) -> None:
    one = create(kernel)
    start = """
        import asyncio
        ended = []
        async def task():
            try: await asyncio.sleep(60)
            finally: ended.append(1)
        job = asyncio.create_task(task())
        await asyncio.sleep(0)
    """
    run(kernel, one, start)
    delete(kernel, one)
    gone(kernel)
    assert kernel.execute("ended")[1] == ["execute_result:[1]"]


def test_two_hundred_subshells_in_a_race_leave_nothing_behind(kernel: KernelUnderTest) -> None:  # B9
    delete(kernel, create(kernel))  # what comes with the first one stays
    blocked = running(kernel, None, SLEEP)
    kernel.reply(kernel.send("complete_request", code="pri", cursor_pos=3))  # and the language lane
    kernel.interrupt()
    kernel.outputs(blocked)
    gone(kernel)
    before = descriptors(kernel)
    codes = itertools.cycle(
        [
            "1",
            "import time; time.sleep(5)",
            "import asyncio; await asyncio.sleep(5)",
            "1/0",
            "input()",
            "while True: pass",
        ]
    )
    for _ in range(20):
        created = [kernel.send("create_subshell_request", channel="control") for _ in range(10)]
        ids = [reply["subshell_id"] for reply in kernel.replies(*created).values()]
        cells = [send(kernel, one, next(codes)) for one in ids for _ in range(2)]
        deleted = [kernel.send("delete_subshell_request", channel="control", subshell_id=one) for one in ids]
        for msg_id in (*deleted, *cells):
            kernel.reply(msg_id)
            assert kernel.outputs(msg_id).count("status:idle") == 1
    assert listed(kernel) == []
    gone(kernel)
    settled(kernel, before)
    assert kernel.execute("get_ipython()._runs")[1] == ["execute_result:{}"]


# ---- output -----------------------------------------------------------------------------------------


ROUTES = {  # to a call of `says`, which waits for `go`
    "thread": "import threading; threading.Thread(target=says).start()",
    "timer": "import threading; threading.Timer(.001, says).start()",
    "subclass": """
        import threading
        class Mine(threading.Thread):
            def run(self): says()
        Mine().start()
    """,
    "pool": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        _ = pool.submit(says)
    """,
    "done-callback": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)
        pool.submit(go.wait, 20).add_done_callback(lambda _: says())
    """,
    "to_thread": "import asyncio; job = asyncio.create_task(asyncio.to_thread(says))",
    "executor": "import asyncio; job = asyncio.get_running_loop().run_in_executor(None, says)",
    "task": """
        import asyncio
        async def task():
            while not go.is_set(): await asyncio.sleep(.001)
            says()
        job = asyncio.create_task(task())
    """,
    "call_later": """
        import asyncio
        def later():
            if go.is_set(): says()
            else: asyncio.get_running_loop().call_later(.001, later)
        asyncio.get_running_loop().call_soon(later)
    """,
    "thread of a thread": """
        import threading
        threading.Thread(target=lambda: threading.Thread(target=says).start()).start()
    """,
    "initializer": """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1, initializer=says)
        _ = pool.submit(int)
    """,
    "thread pool": """
        from multiprocessing.pool import ThreadPool
        pool = ThreadPool(1)
        _ = pool.apply_async(says)
    """,
    "logging": """
        import logging, sys, threading
        log = logging.Logger('ours')
        log.addHandler(logging.StreamHandler(sys.stdout))
        threading.Thread(target=lambda: (go.wait(20), log.warning('said'))).start()
    """,
}
if sys.version_info >= (3, 14):  # a thread can be given the Context that it runs in
    ROUTES |= {
        "given context": """
            import contextvars, threading
            threading.Thread(target=says, context=contextvars.Context()).start()
        """,
        "copied context": """
            import contextvars, threading
            threading.Thread(target=says, context=contextvars.copy_context()).start()
        """,
    }


@pytest.mark.parametrize("name", ROUTES)
def test_text_written_later_reaches_the_cell_that_caused_it(
    kernel: KernelUnderTest, subshells: list[str], name: str
) -> None:
    # O1, O2, O3, O4, O12
    kernel.execute("import threading; go = threading.Event()\ndef says(): go.wait(20); print('said')")
    cells = {}
    for one in (None, subshells[0]):
        cells[one] = send(kernel, one, ROUTES[name])
        assert kernel.reply(cells[one])["status"] == "ok"
        kernel.outputs(cells[one])
    later = [send(kernel, one, "print('later')") for one in (None, subshells[0])]
    for cell in later:
        assert outputs(kernel, cell) == ["stdout:later\n"]
    assert run(kernel, subshells[1], "go.set()")[1] == []
    for cell in cells.values():
        kernel.wait_for("iopub", "stream", msg_id=cell, text="said")


def test_children_of_a_subshells_cell_write_to_some_cell_and_lose_nothing(
    kernel: KernelUnderTest, subshells: list[str]
) -> None:  # O15, O16
    kernel.execute("'the main shell has run last'")
    main = send(kernel, None, "gate = __import__('threading').Event(); gate.wait(20)")
    kernel.wait_for("iopub", "execute_input", msg_id=main)
    child = run(
        kernel, subshells[0], "import subprocess, sys; subprocess.run(['echo', 'piped'], stdout=subprocess.PIPE).stdout"
    )
    assert child[1] == ["execute_result:b'piped\\n'"]
    children = """
        import os, subprocess
        if (pid := os.fork()) == 0:
            print('forked', flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        subprocess.run(['echo', 'spawned'])
        gate.set()
    """
    run(kernel, subshells[0], children)
    kernel.reply(main)
    # Whose child wrote into the kernel's descriptors cannot be known: the main shell's running request has it.
    text = "".join(line.removeprefix("stdout:") for line in outputs(kernel, main) if line.startswith("stdout:"))
    assert sorted(text.splitlines()) == ["forked", "spawned"]


def test_a_thread_can_be_given_another_parent(kernel: KernelUnderTest, subshells: list[str]) -> None:
    shared = kernel.send("execute_request", code="shared = get_ipython().get_parent()")
    kernel.reply(shared)
    code = (
        "import threading\nshell = get_ipython()\ndef work():\n print('before')\n tokens = shell.set_thread_parent(shared); print('pinned')\n"
        " shell.reset_thread_parent(tokens); print('after')\nthread = threading.Thread(target=work); thread.start(); thread.join(); print('mine')"
    )
    assert "".join(run(kernel, subshells[0], code)[1]) == "stdout:before\nafter\nmine\n"
    kernel.wait_for("iopub", "stream", msg_id=shared, text="pinned")


def test_output_of_threads_can_go_to_the_latest_cell_instead() -> None:
    from harness import start_kernel

    with start_kernel(env={"IPYMINI_THREAD_OUTPUT": "latest"}) as kernel:
        first = "import threading; go = threading.Event(); end = threading.Thread(target=lambda: (go.wait(20), print('said'))); end.start()"
        kernel.execute(first)
        assert kernel.execute("go.set(); end.join()")[1] == ["stdout:said\n"]


def test_a_pool_writes_to_the_cell_of_each_item_also_where_threads_inherit_all_variables() -> None:
    from harness import start_kernel

    with start_kernel(env={"PYTHON_THREAD_INHERIT_CONTEXT": "1"}) as kernel:  # means something since 3.14
        first = "from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(1); pool.submit(print, 1).result()"
        assert kernel.execute(first)[1] == ["stdout:1\n"]
        assert kernel.execute("pool.submit(print, 2).result()")[1] == ["stdout:2\n"]


def test_a_subshell_that_cannot_start_is_an_error_and_not_listed(own_kernel: KernelUnderTest) -> None:  # B1
    # given: a client that is connected on control, and no descriptors are left
    assert listed(own_kernel) == []
    take_all = """if True:
        import os, resource
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    """
    assert own_kernel.execute(take_all)[0]["status"] == "ok"
    # when
    refused = own_kernel.reply(own_kernel.send("create_subshell_request", channel="control"))
    # then
    assert (refused["status"], refused["ename"], listed(own_kernel)) == ("error", "OSError", [])
    give_back = "resource.setrlimit(resource.RLIMIT_NOFILE, before)\nfor one in taken: os.close(one)"
    assert own_kernel.execute(give_back)[0]["status"] == "ok"
    run(own_kernel, create(own_kernel), "1")
