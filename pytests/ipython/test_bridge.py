"""IPython's floor without a kernel process: a Bridge in this one, and a voice that only remembers what it said."""

import asyncio
import os
import sys
import threading
from contextlib import contextmanager
from functools import partial

import pytest

from ipymini.execution import context
from ipymini.protocol.messages import Request


class RecordingIOPub:
    """Remembers what is said as (msg_type, content), by the request that caused it."""

    ident = "engine"

    def __init__(self):
        self.said = []

    def send(self, msg_type, content, **envelope):
        self.said.append((context.current(), msg_type, content, envelope))

    def execute_input(self, code, execution_count):
        self.send("execute_input", {"code": code, "execution_count": execution_count})

    def execute_result(self, data, metadata, execution_count):
        self.send("execute_result", {"data": data, "metadata": metadata, "execution_count": execution_count})

    def error(self, ename, evalue, traceback):
        self.send("error", {"ename": ename, "evalue": evalue, "traceback": traceback})

    def display_data(self, data, metadata=None, transient=None, *, update=False, buffers=()):
        content = {"data": data, "metadata": metadata or {}, "transient": transient or {}}
        self.send("update_display_data" if update else "display_data", content, buffers=buffers)

    def clear_output(self, wait=False):
        self.send("clear_output", {"wait": wait})


class Session:
    """A bridge, and one shell (main or sub) of it, as a client would see them."""

    def __init__(self, bridge, iopub, subshell_id=None):
        self.bridge, self.iopub, self.subshell_id = bridge, iopub, subshell_id
        self.shell = bridge.shell

    def request(self, msg_type="execute_request", **content):
        header = {"msg_id": os.urandom(4).hex(), "msg_type": msg_type, "session": "client"}
        if self.subshell_id:
            header["subshell_id"] = self.subshell_id
        return Request(header, content)

    async def execute_async(self, code, **options):
        with context.handling(request := self.request()):
            reply = await self.bridge.execute(code, **options)
        return reply, [(kind, content) for cause, kind, content, _ in list(self.iopub.said) if cause is request]

    def execute(self, code, **options):
        """Run a cell; return its reply and what was said meanwhile, as (msg_type, content)."""
        return asyncio.run(self.execute_async(code, **options))

    def value(self, code, **options):
        """Return the text of a cell's result, or None."""
        reply, said = self.execute(code, **options)
        assert reply["status"] == "ok", reply
        texts = [content["data"]["text/plain"] for kind, content in said if kind == "execute_result"]
        return texts[0] if texts else None


@pytest.fixture(scope="module")
def module_bridge(tmp_path_factory):
    from ipymini.bridge import Bridge

    before, modules = dict(os.environ), sys.modules["__main__"]
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    iopub = RecordingIOPub()
    bridge = Bridge(iopub=iopub)
    yield bridge, iopub
    bridge.shutdown()
    bridge.uninstall()
    os.environ.clear()
    os.environ.update(before)
    sys.modules["__main__"] = modules


@pytest.fixture
def main(module_bridge):
    """The main shell, with an empty namespace."""
    bridge, iopub = module_bridge
    bridge.shell.reset()
    iopub.said.clear()
    return Session(bridge, iopub)


@contextmanager
def subshell(main):
    subshell_id = f"sub-{os.urandom(4).hex()}"
    main.bridge.open_subshell(subshell_id)
    try:
        yield Session(main.bridge, main.iopub, subshell_id)
    finally:
        main.bridge.close_subshell(subshell_id)


# ---- one cell ----------------------------------------------------------------------------


def test_a_cell_says_its_input_and_result_and_replies_with_the_same_count(main):  # B8, O23
    reply, said = main.execute("x = 20\nx + 1")

    assert said == [
        ("execute_input", {"code": "x = 20\nx + 1", "execution_count": 1}),
        ("execute_result", {"data": {"text/plain": "21"}, "metadata": {}, "execution_count": 1}),
    ]
    assert reply == {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}
    assert main.value("Out, _1, _") == "({1: 21}, 21, 21)"


def test_a_silent_cell_says_nothing_and_counts_nothing(main):  # Q18
    reply, said = main.execute("1 + 1", silent=True)

    assert said == []
    assert reply["execution_count"] == 0  # the last cell's: there has been none
    assert main.value("len(In), len(Out)") == "(2, 0)"


def test_without_store_history_nothing_is_remembered_and_the_count_stays(main):  # Q18
    main.execute("'kept'")

    reply, said = main.execute("'passing'", store_history=False)

    assert [content["execution_count"] for _, content in said] == [2, 2]
    assert reply["execution_count"] == 2
    assert main.value("_, Out, In[-1]") == "('kept', {1: 'kept'}, '_, Out, In[-1]')"


def test_an_empty_cell_is_answered_with_the_count_of_its_execute_input(main):
    reply, said = main.execute("  ")

    assert said == [("execute_input", {"code": "  ", "execution_count": 1})]
    assert reply["execution_count"] == 1
    assert main.shell.execution_count == 1


@pytest.mark.parametrize("code", ["5;", "5; # why", "x = 5", "None", "%time None;"])
def test_what_needs_no_result_has_none(main, code):
    assert main.value(code) is None


def test_a_nested_cell_leaves_the_outer_ones_number_and_semicolon_alone(main):
    _, said = main.execute("get_ipython().run_cell('1')\n'outer'")

    assert [(kind, content["execution_count"]) for kind, content in said] == [
        ("execute_input", 1),
        ("execute_result", 1),
        ("execute_result", 1),
    ]
    assert main.value("Out[1]") == "'outer'"


def test_an_awaiting_cell_needs_no_loop_of_its_own(main):
    _, said = main.execute("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 7\nawait f()")

    assert said[-1][1]["data"] == {"text/plain": "7"}


def test_user_expressions_are_evaluated_after_a_good_cell_only(main):
    good, _ = main.execute("a = 1", user_expressions={"a": "a + 1", "b": "nothing"})
    bad, _ = main.execute("1/0", user_expressions={"a": "a"})

    assert good["user_expressions"]["a"] == {"status": "ok", "data": {"text/plain": "2"}, "metadata": {}}
    assert good["user_expressions"]["b"]["ename"] == "NameError"
    assert bad["user_expressions"] == {}


def test_cell_id_and_metadata_reach_pre_run_cell_and_events_fire_once(main):
    seen = []
    events = main.shell.events
    callbacks = {
        "pre_execute": lambda: seen.append("pre_execute"),
        "pre_run_cell": lambda info: seen.append((info.cell_id, getattr(info, "cell_meta", {"cellId": "c1"}))),
        "post_execute": lambda: seen.append("post_execute"),
        "post_run_cell": lambda result: seen.append(result.result),
    }
    for name, callback in callbacks.items():
        events.register(name, callback)
    try:
        main.execute("42", cell_id="c1", cell_meta={"cellId": "c1"})
        main.execute("42", silent=True)
        main.execute(" ")
    finally:
        for name, callback in callbacks.items():
            events.unregister(name, callback)

    assert seen == ["pre_execute", ("c1", {"cellId": "c1"}), "post_execute", 42, "pre_execute", "post_execute"]


# ---- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["ValueError", "KeyboardInterrupt", "GeneratorExit", "BaseException"])
def test_whatever_a_cell_raises_is_an_error_message_and_the_same_in_the_reply(main, error):
    reply, said = main.execute(f"raise {error}('no')")

    kind, content = said[-1]
    assert kind == "error"
    assert content == {key: reply[key] for key in ("ename", "evalue", "traceback")}
    assert (reply["status"], reply["ename"], reply["evalue"]) == ("error", error, "no")
    assert reply["engine_info"] == {"engine_uuid": "engine", "engine_id": -1, "method": "execute"}
    assert not any("ipymini" in line or "hidden" in line for line in reply["traceback"])


def test_an_exception_group_shows_its_whole_tree(main):
    reply, said = main.execute(
        "inner = ExceptionGroup('inner', [KeyError('b')])\nraise ExceptionGroup('outer', [ValueError('a'), inner])"
    )

    text = "\n".join(reply["traceback"])
    assert said[-1][0] == "error"
    assert [part for part in ("outer", "ValueError: a", "inner", "KeyError: 'b'") if part not in text] == []
    assert "run_code" not in text


@pytest.mark.parametrize(
    ("code", "ename"), [("def f(:", "SyntaxError"), ("  x = 1\n y", "IndentationError"), ("return", "SyntaxError")]
)
def test_code_that_does_not_compile_is_an_error(main, code, ename):
    reply, said = main.execute(code)

    assert [kind for kind, _ in said] == ["execute_input", "error"]
    assert reply["ename"] == ename


def test_sys_exit_is_an_error_and_the_shell_lives(main):  # Q20
    with pytest.warns(UserWarning, match="To exit"):
        reply, said = main.execute("import sys; sys.exit(3)")

    assert (reply["ename"], reply["evalue"], said[-1][0]) == ("SystemExit", "3", "error")
    assert main.value("1") == "1"


def test_a_traceback_that_is_shown_again_does_not_fail_the_cell(main):  # O22
    main.execute("1/0")

    reply, said = main.execute("%tb")

    assert [kind for kind, _ in said] == ["execute_input", "error"]
    assert reply["status"] == "ok"


def test_an_error_of_a_formatter_fails_the_cell_whose_result_it_is(main):
    code = "class A:\n    def _repr_html_(self): 1/0\n    def __repr__(self): return 'A'\n"

    result, said = main.execute(code + "A()")
    shown, said_then = main.execute("display(A())")

    assert [kind for kind, _ in said] == ["execute_input", "error", "execute_result"]
    assert (result["status"], result["ename"]) == ("error", "ZeroDivisionError")
    assert [kind for kind, _ in said_then] == ["execute_input", "error", "display_data"]
    assert shown["status"] == "ok"


def test_set_custom_exc_takes_over(main):
    seen = []
    main.shell.set_custom_exc((KeyError,), lambda shell, kind, value, tb, tb_offset=None: seen.append(value))
    try:
        reply, said = main.execute("{}[1]")
    finally:
        main.shell.set_custom_exc((), None)

    assert [str(error) for error in seen] == ["1"]
    assert (reply["status"], reply["traceback"], [kind for kind, _ in said]) == ("error", [], ["execute_input"])


def test_an_error_that_cannot_say_its_text_is_still_an_error(main):
    reply, _ = main.execute("class E(Exception):\n    def __str__(self): 1/0\nraise E()")

    assert (reply["status"], reply["ename"]) == ("error", "E")


def test_a_cancelled_cell_reports_keyboard_interrupt_if_an_interrupt_was_the_cause(main):  # I25
    code = "import asyncio\nawait asyncio.sleep(20)"

    async def cancel(struck):
        task = asyncio.create_task(main.execute_async(code, interrupted=lambda: struck))
        await asyncio.sleep(0.05)
        task.cancel()
        return await task

    interrupted, said = asyncio.run(cancel(True))
    cancelled, _ = asyncio.run(cancel(False))

    assert (interrupted["ename"], said[-1][1]["ename"]) == ("KeyboardInterrupt", "KeyboardInterrupt")
    assert cancelled["ename"] == "CancelledError"


def test_an_interrupt_before_the_first_line_is_an_error_and_uses_up_the_number(main):
    class StruckDoor:
        def __enter__(self):
            raise KeyboardInterrupt

        def __exit__(self, *error):
            pass

    reply, said = main.execute("never = 1", interruptible=StruckDoor)

    assert (reply["status"], reply["ename"], reply["execution_count"]) == ("error", "KeyboardInterrupt", 1)
    assert [kind for kind, _ in said] == ["execute_input", "error"]
    assert main.value("'never' in globals(), len(In)") == "(False, 3)"


@pytest.mark.parametrize("await_", ["", "import asyncio; await asyncio.sleep(0)\n"], ids=["plain", "async"])
def test_an_interrupt_of_a_cell_that_has_failed_is_no_second_error(main, await_):
    class DoorThatIsStruckAsItCloses:
        def __enter__(self):
            pass

        def __exit__(self, *error):
            raise KeyboardInterrupt

    reply, said = main.execute(f"{await_}get_ipython().run_cell('0/0')\n1/0", interruptible=DoorThatIsStruckAsItCloses)
    assert reply["ename"] == "ZeroDivisionError" and reply["traceback"] == said[-1][1]["traceback"]
    assert [kind for kind, _ in said] == ["execute_input", "error", "error"]

    reply, said = main.execute(f"{await_}get_ipython().run_cell('0/0')\n1", interruptible=DoorThatIsStruckAsItCloses)
    assert reply["ename"] == "KeyboardInterrupt"
    assert [kind for kind, _ in said if kind == "error"] == ["error", "error"]


def test_a_forked_child_that_returns_from_the_cell_ends(main):
    reply, _ = main.execute(
        "import os, sys\npid = os.fork()\nif not pid: sys.exit(5)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )

    assert reply["status"] == "ok"
    assert main.value("_") == "5"


@pytest.mark.parametrize("keep", [True, False])
def test_the_variables_of_a_failed_call_can_be_let_go(main, keep):
    main.shell.keep_last_error = keep
    try:
        main.execute(
            "class Big: pass\ndef f():\n    big = Big(); global ref; ref = weakref.ref(big)\n    1/0\nimport weakref"
        )
        main.execute("f()")
        assert main.value("import gc; gc.collect(); ref() is not None") == str(keep)
    finally:
        main.shell.keep_last_error = True


# ---- payloads and magics -------------------------------------------------------------------


def test_payloads_come_with_the_reply_and_the_latest_next_input_counts(main):  # O26
    reply, _ = main.execute("ip = get_ipython()\nip.set_next_input('a')\nip.set_next_input('b')\nprint?")

    (page,) = [payload for payload in reply["payload"] if payload["source"] == "page"]
    assert {"source": "set_next_input", "text": "b", "replace": False} in reply["payload"]
    assert "Prints the values" in page["data"]["text/plain"]
    assert main.execute("1")[0]["payload"] == []


@pytest.mark.parametrize(("code", "keepkernel"), [("exit", False), ("quit()", False), ("exit(keep_kernel=True)", True)])
def test_exit_asks_the_kernel(main, code, keepkernel):
    class Kernel:
        asked = 0

        def ask_exit(self):
            self.asked += 1

    main.shell.kernel = Kernel()
    try:
        reply, _ = main.execute(code)
    finally:
        kernel, main.shell.kernel = main.shell.kernel, None

    assert reply["payload"] == [{"source": "ask_exit", "keepkernel": keepkernel}]
    assert kernel.asked == (0 if keepkernel else 1)


def test_edit_asks_the_frontend(main, tmp_path):
    file = tmp_path / "some.py"
    file.write_text("x = 1")

    reply, _ = main.execute(f"%edit {file}")

    assert reply["payload"] == [{"source": "edit_magic", "filename": str(file), "line_number": None}]


def at_once(functions):
    """Call functions, each on a thread of its own; the interpreter changes between them as often as it can."""
    threads = [threading.Thread(target=function) for function in functions]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    finally:
        sys.setswitchinterval(before)


def test_lanes_inspect_side_by_side(main):  # B4
    wrong = []

    def inspects():
        for _ in range(300):
            try:
                text = main.bridge.shell.inspector.format("def f(x): return x + 1")
            except Exception as error:
                text = repr(error)
            wrong.extend([] if "return" in text and "\n" in text else [text])

    at_once([inspects] * 4)
    assert wrong == []


def test_subshells_that_come_and_go_at_once_lose_nothing(main):  # B9
    shell, lost = main.bridge.shell, []
    others = {f"other {n}": shell._main_run for n in range(300)}  # a long table, so that others come in between

    def comes_and_goes(name):
        for _ in range(100):
            shell.open_run(name)
            lost.extend([name] if name not in shell._runs else [])
            shell.close_run(name)

    shell._runs = others
    try:
        at_once([partial(comes_and_goes, f"subshell {n}") for n in range(8)])
    finally:
        left, shell._runs = shell._runs, {}
    assert (lost, left) == ([], others)


def test_edit_stays_ours_after_ipythons_code_magics_are_loaded(main, tmp_path):
    main.execute("%load_ext nothing\n%pfile print")
    main.execute("%loadpy?")

    assert main.shell.find_line_magic("edit").__module__ == "ipymini.ipython.magics"
    assert main.shell.find_line_magic("load") is not None
    assert main.shell.find_line_magic("edit").__module__ == "ipymini.ipython.magics"


@pytest.mark.parametrize(
    "magic", ["clear", "less", "more", "man", "connect_info", "qtconsole", "subshell", "ed", "store"]
)
def test_the_magics_of_kernels_exist(main, magic):
    assert main.shell.find_line_magic(magic) is not None


def test_capture_takes_streams_displays_and_results(main, capsys):
    _, said = main.execute("%%capture kept\nprint('out')\ndisplay('shown')\n'result'")

    assert [kind for kind, _ in said] == ["execute_input"]
    assert main.value("kept.stdout, [output.data for output in kept.outputs]") == (
        "('out\\n', [{'text/plain': \"'shown'\"}, {'text/plain': \"'result'\"}])"
    )


def test_a_display_hook_of_the_users_lasts_one_cell(main):
    assert main.value("import sys; seen = []; sys.displayhook = seen.append\n5") is None
    assert main.value("seen") == "[5]"


# ---- display -------------------------------------------------------------------------------


def test_display_update_and_clear_are_messages(main):
    _, said = main.execute(
        "from IPython.display import display, clear_output\n"
        "handle = display(1, display_id='d')\nhandle.update(2)\nclear_output(wait=True)"
    )

    assert [(kind, content.get("transient")) for kind, content in said[1:]] == [
        ("display_data", {"display_id": "d"}),
        ("update_display_data", {"display_id": "d"}),
        ("clear_output", None),
    ]


def test_hooks_see_what_their_own_thread_displays(main):
    _, said = main.execute(
        "import threading\nseen = []\n"
        "def hook(message):\n    seen.append(message['msg_type'])\n"
        "pub = get_ipython().display_pub\npub.register_hook(hook)\n"
        "thread = threading.Thread(target=display, args=('other thread',))\n"
        "display('kept back')\nthread.start(); thread.join()\n"
        "pub.unregister_hook(hook), pub.unregister_hook(hook), seen"
    )

    assert [kind for kind, _ in said] == ["execute_input", "execute_result"]  # the thread has no request here
    assert said[-1][1]["data"] == {"text/plain": "(True, False, ['display_data'])"}


# ---- subshells -----------------------------------------------------------------------------


def test_subshells_share_names_but_not_counts_inputs_and_results(main):  # B7
    main.execute("a = 'shared'\n'main result'")
    with subshell(main) as sub:
        assert sub.value("a") == "'shared'"
        sub.execute("b = 'from sub'\n'sub result'")
        assert sub.value("_, _2, Out, In[1:3], _i2") == (
            "('sub result',\n 'sub result',\n {1: 'shared', 2: 'sub result'},\n"
            " ['a', \"b = 'from sub'\\n'sub result'\"],\n \"b = 'from sub'\\n'sub result'\")"
        )
        sub.execute("_ = 'taken'")
        assert (
            main.value("_, _1, Out, b, len(In)") == "('main result', 'main result', {1: 'main result'}, 'from sub', 3)"
        )
        missing, _ = sub.execute("_99")
        assert missing["ename"] == "NameError"
        assert sub.execute("", user_expressions={"x": "_"})[0]["user_expressions"]["x"]["data"] == {
            "text/plain": "'taken'"
        }


def test_a_subshells_cell_defines_functions_and_awaits_in_the_shared_namespace(main):
    with subshell(main) as sub:
        sub.execute(
            "import asyncio\ndef f(): return later\nlater = await asyncio.sleep(0, 'done')\nclass C: attribute = later"
        )

        assert main.value("f(), C.attribute") == "('done', 'done')"
        assert sub.execute("del later")[0]["status"] == "ok"
        assert main.value("'later' in globals()") == "False"


def test_in_and_out_stay_the_main_shells_whoever_resets(main):  # Q19
    with subshell(main) as sub:
        sub.execute("'s'")
        sub.execute("get_ipython().reset(new_session=True)")
        main.execute("'m'")

        assert main.value("Out") == "{1: 'm'}"
        assert main.shell.user_ns["In"] is main.shell.history_manager.input_hist_parsed


def test_two_busy_subshells_never_mix_their_results(main):  # B7, B8
    outcomes = {}

    def work(sub):
        outcome = outcomes[sub.subshell_id] = []
        for i in range(30):
            reply, said = sub.execute(f"import time; time.sleep(.001); 1 + {i}")
            (_, given), (_, result) = said
            outcome.append(
                (given["execution_count"], result["execution_count"], reply["execution_count"], result["data"])
            )

    with subshell(main) as one, subshell(main) as two:
        threads = [threading.Thread(target=work, args=(sub,)) for sub in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        expected = [(i + 1, i + 1, i + 1, {"text/plain": str(1 + i)}) for i in range(30)]
        assert outcomes == {one.subshell_id: expected, two.subshell_id: expected}
        for sub in (one, two):
            assert sub.value("Out == {i + 1: i + 1 for i in range(30)}") == "True"
    assert main.value("Out") == "{}"


def test_await_in_one_thread_is_not_switched_off_by_another(main):
    def work(sub, replies):
        for _ in range(20):
            replies.append(sub.execute("import asyncio\nawait asyncio.sleep(0)\n5")[0]["status"])

    replies = []
    with subshell(main) as one, subshell(main) as two:
        threads = [threading.Thread(target=work, args=(sub, replies)) for sub in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert replies == ["ok"] * 40


def test_a_formatter_or_magic_of_one_shell_holds_in_all(main):  # B10
    with subshell(main) as sub:
        main.execute(
            "get_ipython().display_formatter.formatters['text/html'].for_type(complex, lambda c: 'c')\n"
            "from IPython.core.magic import register_line_magic\n"
            "@register_line_magic\ndef shout(line): return line.upper()"
        )
        _, said = sub.execute("1j")
        assert said[-1][1]["data"] == {"text/plain": "1j", "text/html": "c"}
        assert sub.value("%shout hey") == "'HEY'"
        main.shell.display_formatter.formatters["text/html"].pop(complex)


def test_get_ipython_is_the_same_everywhere(main):  # B3
    main.execute("ip = get_ipython()")
    with subshell(main) as sub:
        assert sub.value("from IPython import get_ipython as g; ip is get_ipython() is g()") == "True"


# ---- language ------------------------------------------------------------------------------


def test_names_that_exist_are_completed_without_jedi(main):
    main.execute("import os")

    found = main.bridge.complete("os.pa", 5)

    assert "path" in found["matches"]
    assert (found["cursor_start"], found["cursor_end"], found["status"]) == (3, 5, "ok")
    assert [one["text"] for one in found["metadata"]["_jupyter_types_experimental"]] == found["matches"]


def test_names_of_code_that_has_not_run_are_completed(main):
    found = main.bridge.complete("import os; os.pa", 16)

    assert "path" in found["matches"]
    assert (found["cursor_start"], found["cursor_end"]) == (14, 16)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("prin", "print", "function"),
        ("imp", "import", "keyword"),
        ("result = 1\nre", "result", "<unknown>"),
        ("resu.real = 1\nresu", "resu", "<unknown>"),
        ("ValueE", "ValueError", "class"),
        ("obj.on", "one", "instance"),
        ("obj.tw", "two", "function"),
        ("obj.thr", "three", "property"),
        ("obj.inner.no", "nothing", "instance"),
        ("%%tim", "%%time", "magic"),
        ("print('', en", "end=", "param"),
    ],
)
def test_completions_have_types_and_know_names_of_the_cell(main, code, text, kind):
    main.execute(
        "class C:\n    def two(self): pass\n    @property\n    def three(self): 1/0\n"
        "obj = C(); obj.one = 1; obj.inner = C(); obj.inner.nothing = None"
    )

    found = main.bridge.complete(code, len(code))["metadata"]["_jupyter_types_experimental"]

    assert [one["type"] for one in found if one["text"] == text] == [kind]


def test_completion_of_nothing_is_empty(main):
    assert main.bridge.complete("zzzqqq.x", 8) == {
        "status": "ok",
        "matches": [],
        "cursor_start": 8,
        "cursor_end": 8,
        "metadata": {"_jupyter_types_experimental": []},
    }


def test_threads_complete_at_once_and_leave_a_cells_warning_filters_alone(main):  # B4
    import warnings

    class Warns:
        def __dir__(self):
            for _ in range(200):
                warnings.warn("completed all the same", BytesWarning, stacklevel=1)
            return ["legacy"]

    main.bridge.shell.user_ns["warns"] = Warns()
    main.bridge.complete("pri", 3)  # the first one imports IPython's completer, which has filters of its own
    failures = []

    def complete():
        try:
            for _ in range(10):
                assert "print" in main.bridge.complete("pri", 3)["matches"]
                assert "legacy" in main.bridge.complete("warns.leg", 9)["matches"]
        except BaseException as failure:
            failures.append(failure)

    with warnings.catch_warnings():
        warnings.simplefilter("error", BytesWarning)
        before = [one for one in warnings.filters if one[0] != "ignore"]
        at_once([complete] * 4)
        assert not failures
        assert [one for one in warnings.filters if one[0] != "ignore"] == before
        with pytest.raises(BytesWarning):
            warnings.warn("as the cell wants it", BytesWarning, stacklevel=1)


def test_inspect_finds_the_callee_and_says_if_it_finds_nothing(main):
    found = main.bridge.inspect("print(1", 7)
    source = main.bridge.inspect("print", 5, detail_level=1)
    nothing = main.bridge.inspect("zzzqqq", 3)

    assert found["found"] and set(found["data"]) == {"text/plain"}
    assert source["found"]
    assert nothing == {"status": "ok", "found": False, "data": {}, "metadata": {}}


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("x = 1", {"status": "complete"}),
        ("for x in y:", {"status": "incomplete", "indent": "    "}),
        ("x = )", {"status": "invalid"}),
        ("%%time\n1", {"status": "incomplete", "indent": ""}),
    ],
)
def test_is_complete(main, code, reply):
    assert main.bridge.is_complete(code) == reply


# ---- history -------------------------------------------------------------------------------


def test_history_finds_the_latest_cell_ranges_and_patterns(main):  # Q19
    for code in ("first = 1", "second = 2", "first + second"):
        main.execute(code)
    session = main.shell.history_manager.session_number

    tail = main.bridge.history(hist_access_type="tail", n=2)
    in_range = main.bridge.history(hist_access_type="range", session=0, start=1, stop=3)
    with_output = main.bridge.history(hist_access_type="range", session=0, start=3, output=True)
    search = main.bridge.history(hist_access_type="search", pattern="*second*", n=10, unique=True)

    assert tail == {"status": "ok", "history": [[session, 2, "second = 2"], [session, 3, "first + second"]]}
    assert in_range["history"] == [[0, 1, "first = 1"], [0, 2, "second = 2"]]
    assert with_output["history"] == [[0, 3, ("first + second", "3")]]
    assert [row[2] for row in search["history"]] == ["second = 2", "first + second"]
    assert main.bridge.history(hist_access_type="other") == {"status": "ok", "history": []}


def test_the_history_magics_work(main, capsys):
    main.execute("alpha = 1")
    main.execute("%history -n 1")
    assert capsys.readouterr().out == "   1: alpha = 1\n"
    assert main.execute("%recall 1")[0]["payload"][0]["text"].strip() == "alpha = 1"
    main.execute("del alpha\n%rerun 1")
    assert main.value("alpha") == "1"


def test_each_subshell_has_a_session_of_its_own(main):
    main.execute("'m'")
    with subshell(main) as sub:
        sub.execute("'s'")
        with context.handling(sub.request()):
            rows = main.bridge.history(hist_access_type="range", session=0)["history"]
            number = main.shell.history_manager.session_number
        assert rows[1:] == [[0, 1, "'s'"]]
        assert number != main.shell.history_manager.session_number


# ---- comms ---------------------------------------------------------------------------------


def test_comms_are_opened_heard_and_closed(main):
    import comm

    heard = []
    bridge = main.bridge

    def opened(one, message):
        one.on_msg(lambda message: heard.append((message["content"]["data"], bytes(message["buffers"][0]))))
        one.on_close(lambda message: heard.append("closed"))

    comm.get_comm_manager().register_target("test", opened)
    header = {"comm_id": "c1", "target_name": "test"}
    bridge.comms.handle(main.request("comm_open", **header, data={}))
    bridge.comms.handle(Request({"msg_type": "comm_msg"}, {"comm_id": "c1", "data": {"a": 1}}, buffers=(b"raw",)))
    assert bridge.comm_info("test") == {"status": "ok", "comms": {"c1": {"target_name": "test"}}}
    assert bridge.comm_info("other") == {"status": "ok", "comms": {}}
    bridge.comms.handle(main.request("comm_close", comm_id="c1", data={}))

    assert heard == [({"a": 1}, b"raw"), "closed"]
    assert bridge.comm_info() == {"status": "ok", "comms": {}}


def test_an_unknown_target_is_told_and_closed(main, capsys):
    main.bridge.comms.handle(main.request("comm_open", comm_id="c2", target_name="nobody", data={}))

    assert [(kind, content["comm_id"]) for _, kind, content, _ in main.iopub.said] == [("comm_close", "c2")]
    assert "No such comm target registered: nobody" in capsys.readouterr().err


def test_a_comm_of_ours_sends_with_buffers_that_stay_as_they_were(main):
    import comm

    memory = bytearray(b"abc")
    one = comm.create_comm(target_name="t", data={"x": 1})
    one.send({"y": 2}, buffers=[memory])
    memory[0:3] = b"xyz"
    one.close()

    assert [(kind, content["data"]) for _, kind, content, _ in main.iopub.said] == [
        ("comm_open", {"x": 1}),
        ("comm_msg", {"y": 2}),
        ("comm_close", {}),
    ]
    assert bytes(main.iopub.said[1][3]["buffers"][0]) == b"abc"
    assert main.iopub.said[1][3]["topic"] == f"comm-{one.comm_id}".encode()


def test_a_failing_comm_callback_is_told_on_stderr(main, capsys):
    import comm

    one = comm.create_comm(target_name="t")
    one.on_msg(lambda message: 1 / 0)

    main.bridge.comms.handle(main.request("comm_msg", comm_id=one.comm_id, data={}))

    assert "ZeroDivisionError" in capsys.readouterr().err
    one.close()


# ---- the names of cells --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hashed"), [("", 3990065800), ("a", 2167009006), ("print(1)", 3773950048), ("ä = 'ünïcödé'", 3776250979)]
)
def test_murmur2_is_what_frontends_compute(text, hashed):
    from ipymini.ipython.compiler import murmur2

    assert murmur2(text.encode()) == hashed


def test_a_cells_file_name_comes_from_its_code(main, monkeypatch):
    from ipymini.ipython.compiler import cell_file

    assert main.value("(lambda: 1).__code__.co_filename") == repr(cell_file("(lambda: 1).__code__.co_filename"))
    main.execute("def f():\n    return 'source'")
    assert main.value("import inspect; inspect.getsource(f)") == repr("def f():\n    return 'source'\n")
    monkeypatch.setenv("IPYKERNEL_CELL_NAME", "<fixed>")
    assert cell_file("anything") == "<fixed>"


# ---- printing is not teed, unless %notebook is to have it: see test_saved_notebook.py --------------


def test_what_is_printed_is_kept_for_nobody_who_has_not_asked(main, capsys):
    main.execute("get_ipython().run_cell('print(1)')\nfor i in range(1000): print(i)")

    assert main.shell.history_manager.outputs == {}
