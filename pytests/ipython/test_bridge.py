"""Cells, payloads and displays without a kernel: what the bridge answers and says."""

from functools import partial

import pytest
from bridge_session import at_once

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
