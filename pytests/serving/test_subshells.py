"""Subshells over the wire (JEP 91): results, errors, comms, stdin and output of several at once."""

import itertools
import sys

import pytest
from harness import KernelUnderTest
from subshells import create, delete, listed, outputs, run, running, send

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
        kernel.seen[cell].remove(asked[one])


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
