"""Cells: results, displays, errors, payloads, magics, configuration, and what a cell finds around itself."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, KernelUnderTest, start_kernel

DISPLAY = "from IPython.display import display, update_display, clear_output\n"


def ran(kernel: KernelUnderTest, code: str, **content: Any) -> list[str]:
    """Run a cell that must succeed; return its outputs."""
    reply, outputs = kernel.execute(code, **content)
    assert reply["status"] == "ok", reply
    return outputs


def text(outputs: list[str], name: str = "stdout") -> str:
    return "".join(line.removeprefix(f"{name}:") for line in outputs if line.startswith(f"{name}:"))


def messages(kernel: KernelUnderTest, code: str, *kinds: str) -> list[dict[str, Any]]:
    """Run a cell; return the contents of its iopub messages of these types."""
    msg_id = kernel.send("execute_request", code=code)
    kernel.reply(msg_id)
    return [message["content"] for message in kernel.iopub(msg_id) if message["msg_type"] in kinds]


# ---- silent, counts, results -----------------------------------------------------------------


def test_a_cell_is_said_to_start_before_it_says_anything(kernel: KernelUnderTest) -> None:  # O27, O20
    cell = kernel.send("execute_request", code="print(1); 2")
    kernel.reply(cell)
    assert kernel.outputs(cell) == [
        "status:busy", "execute_input:print(1); 2", "stdout:1\n", "execute_result:2", "status:idle",
    ]  # fmt: skip


def test_a_silent_cell_shows_no_input_and_no_result_and_counts_not(kernel: KernelUnderTest) -> None:  # Q18
    before = kernel.execute("1")[0]["execution_count"]
    cell = kernel.send("execute_request", code="print('said'); 5", silent=True)
    reply = kernel.reply(cell)
    assert (reply["status"], reply["execution_count"]) == ("ok", before)  # frontends number their prompts by it
    assert kernel.outputs(cell) == ["status:busy", "stdout:said\n", "status:idle"]
    assert kernel.execute("1")[0]["execution_count"] == before + 1


def test_a_cell_that_is_not_stored_counts_not_and_is_not_in_the_history(kernel: KernelUnderTest) -> None:  # Q18, Q19
    before = kernel.execute("'stored'")[0]["execution_count"]
    reply, outputs = kernel.execute("'not stored'", store_history=False)
    assert outputs == ["execute_result:'not stored'"]
    assert kernel.execute("_")[1] == ["execute_result:'stored'"]
    assert kernel.execute("1")[0]["execution_count"] == before + 2
    tail = kernel.reply(kernel.send("history_request", hist_access_type="tail", n=3, raw=True, output=False))
    assert [row[2] for row in tail["history"]] == ["'stored'", "_", "1"]


@pytest.mark.parametrize("store", [True, False])
def test_the_count_is_the_same_in_input_result_and_reply(kernel: KernelUnderTest, store: bool) -> None:  # O23, B8
    cell = kernel.send("execute_request", code="5", store_history=store)
    reply = kernel.reply(cell)
    counts = [one["content"]["execution_count"] for one in kernel.iopub(cell) if "execution_count" in one["content"]]
    assert counts == [reply["execution_count"]] * 2


@pytest.mark.parametrize("code", ["", "  \n\t", "# only a comment"])
def test_an_empty_cell_is_fine(kernel: KernelUnderTest, code: str) -> None:
    assert ran(kernel, code) == []


@pytest.mark.parametrize("code", ["5;", "None", "a = 5", "5 ; # quiet", "5;\n"])
def test_no_result_is_shown(kernel: KernelUnderTest, code: str) -> None:
    assert ran(kernel, code) == []


def test_user_expressions_are_evaluated_after_the_cell(kernel: KernelUnderTest) -> None:
    wanted = {"good": "a + 1", "bad": "1/0", "rich": "__import__('IPython').display.HTML('<b>')"}
    reply, _ = kernel.execute("a = 41", user_expressions=wanted)
    found = reply["user_expressions"]
    assert found["good"] == {"status": "ok", "data": {"text/plain": "42"}, "metadata": {}}
    assert (found["bad"]["status"], found["bad"]["ename"]) == ("error", "ZeroDivisionError") and found["bad"][
        "traceback"
    ]
    assert found["rich"]["data"]["text/html"] == "<b>"
    assert kernel.execute("1/0", user_expressions=wanted)[0]["user_expressions"] == {}


def test_results_are_kept_under_their_names(kernel: KernelUnderTest) -> None:
    number = kernel.execute("'kept'")[0]["execution_count"]
    assert ran(kernel, f"(_, _{number}, Out[{number}], In[{number}], _i)")[0] == (
        "execute_result:('kept', 'kept', 'kept', \"'kept'\", \"'kept'\")"
    )
    assert ran(kernel, "del Out\nimport gc; gc.collect() >= 0") == ["execute_result:True"]


def test_assigning_to_underscore_is_respected(kernel: KernelUnderTest) -> None:
    ran(kernel, "_ = 'mine'")
    ran(kernel, "'result'")
    assert ran(kernel, "_") == ["execute_result:'mine'"]
    ran(kernel, "del _")


# ---- displays ---------------------------------------------------------------------------------


def test_displays_and_updates_carry_their_ids(kernel: KernelUnderTest) -> None:  # O24
    code = DISPLAY + "h = display(1, display_id='x'); h.update(2); update_display(3, display_id='x'); display(4)"
    found = messages(kernel, code, "display_data", "update_display_data")
    assert [one["transient"] for one in found] == [{"display_id": "x"}] * 3 + [{}]
    assert [one["data"]["text/plain"] for one in found] == ["1", "2", "3", "4"]


def test_bytes_are_base64_and_metadata_is_passed_on(kernel: KernelUnderTest) -> None:
    bundle = "{'image/png': b'\\x89PNG' * 2000, 'text/plain': 'p'}, metadata={'image/png': {'width': 5}}"
    code = DISPLAY + f"display({bundle}, raw=True)"
    (found,) = messages(kernel, code, "display_data")
    assert base64.b64decode(found["data"]["image/png"]) == b"\x89PNG" * 2000
    assert found["metadata"] == {"image/png": {"width": 5}}


def test_rich_reprs_are_used(kernel: KernelUnderTest) -> None:
    code = "class Rich:\n def _repr_html_(self): return '<b>'\n def _repr_mimebundle_(self, **k): return {'a/b': 1}\nRich()"
    (found,) = messages(kernel, code, "execute_result")
    assert {**found["data"], "text/plain": "?"} == {"text/plain": "?", "text/html": "<b>", "a/b": 1}


def test_a_formatter_error_is_shown_and_the_rest_still_displayed(kernel: KernelUnderTest) -> None:
    broken = "class Broken:\n def _repr_html_(self): 1/0\n def __repr__(self): return 'plain'\n"
    reply, outputs = kernel.execute(broken + "Broken()")
    assert reply["ename"] == "ZeroDivisionError"
    assert outputs == ["error:ZeroDivisionError:division by zero", "execute_result:plain"]
    reply, outputs = kernel.execute(DISPLAY + "display(Broken())\n'on'")
    assert reply["status"] == "ok"
    assert outputs == ["error:ZeroDivisionError:division by zero", "display_data:plain", "execute_result:'on'"]


def test_output_can_be_captured(kernel: KernelUnderTest) -> None:
    assert ran(kernel, "%%capture out\nprint('caught')\n" + DISPLAY + "display(5)") == []
    assert ran(kernel, "out.stdout, len(out.outputs)") == ["execute_result:('caught\\n', 1)"]


def test_display_hooks_may_change_or_keep_back_messages(kernel: KernelUnderTest) -> None:
    code = (
        "pub = get_ipython().display_pub\nkept = []\ndef hook(message): kept.append(message['content']['data'])\n"
        "pub.register_hook(hook); display(1); pub.unregister_hook(hook); display(2); len(kept)"
    )
    assert ran(kernel, code) == ["display_data:2", "execute_result:1"]


# ---- errors -----------------------------------------------------------------------------------


def test_an_error_is_the_same_on_iopub_and_in_the_reply(kernel: KernelUnderTest) -> None:
    cell = kernel.send("execute_request", code="def f(): 1/0\nf()")
    reply = kernel.reply(cell)
    (said,) = [message["content"] for message in kernel.iopub(cell) if message["msg_type"] == "error"]
    assert {key: reply[key] for key in ("ename", "evalue", "traceback")} == said
    assert (said["ename"], said["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert any("f()" in line for line in said["traceback"])
    assert reply["engine_info"]["method"] == "execute" and reply["user_expressions"] == {}
    assert reply["payload"] == []


def test_an_exception_group_is_an_error_like_others_with_its_whole_tree(kernel: KernelUnderTest) -> None:
    code = "raise ExceptionGroup('many', [ValueError('first'), ExceptionGroup('inner', [KeyError('second')])])"
    reply, outputs = kernel.execute(code)
    assert [line.split(":")[:2] for line in outputs] == [["error", "ExceptionGroup"]]
    whole = "\n".join(reply["traceback"])
    assert all(part in whole for part in ("many", "ValueError", "first", "inner", "KeyError", "second"))


def test_a_task_group_that_fails_says_why(kernel: KernelUnderTest) -> None:
    code = (
        "import asyncio\nasync def bad(): raise ValueError('inside')\n"
        "async with asyncio.TaskGroup() as group: group.create_task(bad())"
    )
    reply, _ = kernel.execute(code)
    assert reply["ename"] == "ExceptionGroup" and "inside" in "\n".join(reply["traceback"])


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("import sys; sys.exit()", "SystemExit"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("await __import__('asyncio').sleep(0); raise SystemExit", "SystemExit"),
        ("raise BaseException('base')", "BaseException"),
    ],
)
def test_every_exception_is_an_error_and_the_kernel_lives(
    kernel: KernelUnderTest, code: str, ename: str
) -> None:  # Q20
    reply, outputs = kernel.execute(code)
    assert (reply["status"], reply["ename"]) == ("error", ename)
    assert sum(line.startswith("error:") for line in outputs) == 1


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("(", "SyntaxError"),
        ("def f(:\n pass", "SyntaxError"),
        ("1 +", "SyntaxError"),
        ("if True:\nx", "IndentationError"),
        ("return 5", "SyntaxError"),
    ],
)
def test_a_syntax_error_names_the_file(kernel: KernelUnderTest, code: str, ename: str) -> None:
    reply, outputs = kernel.execute(code)
    assert reply["ename"] == ename
    assert ".py, line " in reply["evalue"]
    assert sum(line.startswith("error:") for line in outputs) == 1


@pytest.mark.parametrize(
    ("code", "ename", "said"),
    [
        ("x = [1,\n2", "SyntaxError", "'[' was never closed"),
        ("for i in x:", "IndentationError", "expected an indented block"),
    ],
)
def test_a_cell_that_is_not_complete_says_what_is_missing(
    kernel: KernelUnderTest, code: str, ename: str, said: str
) -> None:
    reply, _ = kernel.execute(code)
    assert reply["ename"] == ename
    assert said in reply["evalue"]


def test_the_traceback_mode_can_be_chosen(kernel: KernelUnderTest) -> None:
    lengths = {}
    for mode in ("Minimal", "Plain", "Context"):
        ran(kernel, f"%xmode {mode}")
        lengths[mode] = len("".join(kernel.execute("1/0")[0]["traceback"]))
    assert lengths["Minimal"] < lengths["Plain"] < lengths["Context"]


def test_tb_shows_the_last_traceback_again(kernel: KernelUnderTest) -> None:  # O22
    kernel.execute("[][5]")
    outputs = ran(kernel, "%tb")
    assert "IndexError" in "".join(outputs)


def test_a_custom_exception_handler_shows_what_it_likes(kernel: KernelUnderTest) -> None:
    ran(
        kernel,
        "class Mine(Exception): pass\ndef handler(shell, kind, value, tb, tb_offset=None): print('handled', value)\n"
        "get_ipython().set_custom_exc((Mine,), handler)",
    )
    reply, outputs = kernel.execute("raise Mine('it')")
    assert (reply["status"], reply["ename"], outputs) == ("error", "Mine", ["stdout:handled it\n"])
    ran(kernel, "get_ipython().set_custom_exc((), None)")


def test_an_error_whose_text_cannot_be_made_is_still_an_error(kernel: KernelUnderTest) -> None:
    reply, _ = kernel.execute("class Bad(Exception):\n def __str__(self): raise RuntimeError('no text')\nraise Bad()")
    assert reply["ename"] == "Bad"


# ---- payloads -----------------------------------------------------------------------------------


def test_the_pager_is_a_payload(kernel: KernelUnderTest) -> None:  # O26
    for code in ("print?", "len??", "%pinfo len"):
        (payload,) = kernel.execute(code)[0]["payload"]
        assert (payload["source"], payload["start"]) == ("page", 0)
        assert "text/plain" in payload["data"]


def test_only_the_newest_set_next_input_counts(kernel: KernelUnderTest) -> None:  # O26
    code = "get_ipython().set_next_input('first'); get_ipython().set_next_input('second', replace=True)"
    payload = kernel.execute(code)[0]["payload"]
    assert payload == [{"source": "set_next_input", "text": "second", "replace": True}]
    assert kernel.execute("1")[0]["payload"] == []


def test_load_replaces_the_cell(kernel: KernelUnderTest, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("loaded = 1\n")
    (payload,) = kernel.execute(f"%load {tmp_path}/code.py")[0]["payload"]
    assert (payload["source"], payload["replace"]) == ("set_next_input", True) and "loaded = 1" in payload["text"]


def test_edit_and_files_are_payloads(kernel: KernelUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("a = 1\n")
    (payload,) = kernel.execute(f"%edit {file}")[0]["payload"]
    assert (payload["source"], payload["filename"]) == ("edit_magic", str(file))
    for magic in ("less", "more"):
        (payload,) = kernel.execute(f"%{magic} {file}")[0]["payload"]
        assert payload["source"] == "page" and "a = " in payload["data"]["text/plain"]


# ---- await ------------------------------------------------------------------------------------------


def test_top_level_await_and_tasks_that_live_on(kernel: KernelUnderTest) -> None:
    code = (
        "import asyncio\nasync def ticks():\n n = 0\n while True: seen.append(n); n += 1; await asyncio.sleep(.001)\n"
        "seen = []; task = asyncio.create_task(ticks()); await asyncio.sleep(.01); len(seen) > 0"
    )
    assert ran(kernel, code) == ["execute_result:True"]
    grows = "before = len(seen)\nwhile len(seen) == before: await asyncio.sleep(.001)\ntask.done()"
    assert ran(kernel, grows) == ["execute_result:False"]
    ran(kernel, "task.cancel()")


@pytest.mark.parametrize("first", ["var.set('set')", "await asyncio.sleep(0); var.set('set')"])
@pytest.mark.parametrize("second", ["var.get()", "await asyncio.sleep(0)\nvar.get()"])
def test_context_variables_last_from_cell_to_cell(kernel: KernelUnderTest, first: str, second: str) -> None:
    ran(kernel, "import asyncio, contextvars\nvar = contextvars.ContextVar('var', default='unset')")
    ran(kernel, first + "; None")
    assert ran(kernel, second) == ["execute_result:'set'"]


def test_async_for_with_and_comprehensions_at_top_level(kernel: KernelUnderTest) -> None:
    ran(kernel, "async def numbers():\n for n in range(3): yield n")
    assert ran(kernel, "[n async for n in numbers()]") == ["execute_result:[0, 1, 2]"]
    assert ran(kernel, "async for n in numbers(): print(n)") == ["stdout:0\n1\n2\n"]


def test_a_task_whose_error_nobody_takes_is_said_somewhere(kernel: KernelUnderTest) -> None:
    code = (
        "import asyncio, gc\nasync def bad(): raise ValueError('unseen')\n"
        "t = asyncio.create_task(bad()); await asyncio.sleep(.01)\ndel t; gc.collect(); None"
    )
    assert "unseen" in text(ran(kernel, code), "stderr")


# ---- magics and commands -------------------------------------------------------------------------------


def test_shell_commands(kernel: KernelUnderTest) -> None:
    assert text(ran(kernel, "!echo hello")).split() == ["hello"]
    assert ran(kernel, "found = !echo one; echo two\nlist(found)") == ["execute_result:['one', 'two']"]
    assert ran(kernel, "!exit 3\n_exit_code") == ["execute_result:3"]
    outputs = ran(kernel, "%%bash\necho out\necho err >&2")
    assert (text(outputs), text(outputs, "stderr")) == ("out\n", "err\n")
    assert kernel.execute("%%bash\nexit 3")[0]["ename"] == "CalledProcessError"
    assert kernel.execute("!sleep 5 &")[0]["ename"] == "OSError"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("%connect_info", "shell_port"),
        ("%subshell", "subshell"),
        ("%lsmagic", "%connect_info"),
        ("%who_ls", "execute_result"),
        ("%ls /", "tmp"),
        ("%pwd", "/"),
        ("%timeit -n1 -r1 pass", "loop"),
        ("%time 1", "1"),
    ],
)
def test_magics_work(kernel: KernelUnderTest, code: str, said: str) -> None:
    assert said in "".join(ran(kernel, code))


def test_clear_sends_what_clears_a_terminal(kernel: KernelUnderTest) -> None:
    assert "\x1b[" in text(ran(kernel, "%clear"))


def test_man_pages_are_paged(kernel: KernelUnderTest, tmp_path: Path) -> None:
    for name, program in {"man": "echo page of $1", "col": "cat"}.items():  # not every machine has them
        (tmp_path / name).write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / name).chmod(0o755)
    kernel.execute(f"import os; path = os.environ['PATH']; os.environ['PATH'] = '{tmp_path}:' + path")
    reply, outputs = kernel.execute("%man ls")
    page = {"source": "page", "data": {"text/plain": "page of ls\n"}, "start": 0}
    assert (reply["payload"], outputs) == ([page], [])
    kernel.execute("os.environ['PATH'] = path")


def test_an_unknown_magic_is_one_line_of_error(kernel: KernelUnderTest) -> None:
    reply, outputs = kernel.execute("%nonsense")
    assert reply["status"] == "error" and "%nonsense" in "".join(outputs)


def test_store_keeps_variables(kernel: KernelUnderTest) -> None:
    ran(kernel, "stored = [1, 2]")
    assert "Stored 'stored'" in text(ran(kernel, "%store stored"))
    assert ran(kernel, "del stored\n%store -r stored\nstored") == ["execute_result:[1, 2]"]


def test_qtconsole_is_started_in_a_process_of_its_own(kernel: KernelUnderTest, tmp_path: Path) -> None:
    package = tmp_path / "qtconsole"
    package.mkdir()
    (package / "__init__.py").write_text("")
    note = tmp_path / "note"
    (package / "qtconsoleapp.py").write_text(
        f"import sys, pathlib, os\ndef main(): pathlib.Path({str(note)!r}).write_text(str(sys.argv[1:]))\n"
        "if __name__ == '__main__': main()\n"
    )
    (package / "__main__.py").write_text("from qtconsole.qtconsoleapp import main; main()")
    first = f"import os; os.environ['PYTHONPATH'] = {str(tmp_path)!r} + ':' + os.environ['PYTHONPATH']"
    ran(kernel, first + "\n%qtconsole --flag")
    ran(kernel, f"import pathlib, asyncio\nwhile not pathlib.Path({str(note)!r}).exists(): await asyncio.sleep(.02)")
    ran(kernel, f"os.environ['PYTHONPATH'] = os.environ['PYTHONPATH'].removeprefix({str(tmp_path)!r} + ':')")


# ---- what a cell finds around itself ---------------------------------------------------------------------


def test_a_cell_has_a_file_that_inspect_can_read(kernel: KernelUnderTest) -> None:
    code = "import inspect\ndef f():\n    return 'source'\n"
    code += "file = f.__code__.co_filename\nprint(inspect.getsource(f), end='')"
    assert text(ran(kernel, code)) == "def f():\n    return 'source'\n"
    prefix = f"/ipykernel_{kernel.pid}/"
    same = "import re, tempfile; bool(re.fullmatch(re.escape(tempfile.gettempdir()) + r'" + prefix + r"\d+\.py', file))"
    assert ran(kernel, same) == ["execute_result:True"]


def test_the_name_of_a_cells_file_is_its_murmur_hash(kernel: KernelUnderTest) -> None:
    asked = kernel.send("debug_request", channel="control", type="request", seq=1, command="debugInfo")
    info = kernel.reply(asked)["body"]
    code = "(lambda: 0).__code__.co_filename"
    dumped = {"type": "request", "seq": 2, "command": "dumpCell", "arguments": {"code": code}}
    path = kernel.reply(kernel.send("debug_request", channel="control", **dumped))["body"]["sourcePath"]
    assert (info["hashMethod"], path.startswith(info["tmpFilePrefix"])) == ("Murmur2", True)
    assert ran(kernel, code) == [f"execute_result:{path!r}"]


def test_events_know_the_cells_id(kernel: KernelUnderTest) -> None:
    ran(kernel, "cells = []; hook = lambda info: cells.append(info.cell_id)")
    ran(kernel, "get_ipython().events.register('pre_run_cell', hook)")
    kernel.reply(kernel.send("execute_request", code="1", metadata={"cellId": "the-cell"}))
    ran(kernel, "get_ipython().events.unregister('pre_run_cell', hook)")
    assert ran(kernel, "cells[-2]") == ["execute_result:'the-cell'"]


def test_events_fire_in_order_and_once(kernel: KernelUnderTest) -> None:  # B10
    ran(
        kernel,
        "events = []; hooks = {}\nfor name in ('pre_execute', 'pre_run_cell', 'post_execute', 'post_run_cell'):\n"
        " hooks[name] = lambda *info, name=name: events.append(name)\n"
        " get_ipython().events.register(name, hooks[name])\nevents.clear()",
    )
    ran(kernel, "events.append('cell')")
    ran(kernel, "await __import__('asyncio').sleep(0); events.append('async cell')")
    unregister = "for name in hooks: get_ipython().events.unregister(name, hooks[name])"
    found = ran(kernel, unregister + "\nprint(*events)")
    around = ["post_execute", "post_run_cell", "pre_execute", "pre_run_cell"]
    assert text(found).split("\n")[0] == " ".join([*around, "cell", *around, "async cell", *around])


def test_the_environment_tells_children_that_this_is_a_notebook(kernel: KernelUnderTest) -> None:
    names = ["TERM", "CLICOLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "PAGER", "GIT_PAGER"]
    expected = ["xterm-color", "1", "1", "1", "cat", "cat"]
    assert ran(kernel, f"import os; [os.environ[name] for name in {names}]") == [f"execute_result:{expected}"]


def test_the_namespace_is_main(kernel: KernelUnderTest) -> None:
    assert ran(kernel, "import __main__; x_y = 5; (__name__, __main__.x_y)") == ["execute_result:('__main__', 5)"]
    pickled = "class C: pass\nimport pickle; type(pickle.loads(pickle.dumps(C()))) is C"
    assert ran(kernel, pickled) == ["execute_result:True"]
    assert ran(kernel, "import os; '' in sys.path or os.getcwd() in sys.path") == ["execute_result:True"]
    assert ran(kernel, "get_ipython().__class__.__name__, 'IPKernelApp' in get_ipython().config") == [
        "execute_result:('ZMQInteractiveShell', True)"
    ]


def test_the_kernels_own_options_are_not_the_cells(kernel: KernelUnderTest, tmp_path: Path) -> None:
    parsed = "import argparse, sys\nparser = argparse.ArgumentParser(); parser.add_argument('--n', default=7)\n"
    assert ran(kernel, f"{parsed}parser.parse_args()") == ["execute_result:Namespace(n=7)"]
    program = f"[{str(REPOSITORY / 'ipymini' / '__main__.py')!r}]"
    assert ran(kernel, "sys.argv") == [f"execute_result:{program}"]
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv)")
    assert ran(kernel, f"%run {script} --n 8") == [f"stdout:{[str(script), '--n', '8']}\n"]
    assert ran(kernel, "sys.argv, '-f' in sys.orig_argv") == [f"execute_result:({program}, True)"]


def test_a_script_and_start_up_files_see_their_own_name(tmp_path: Path) -> None:
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text("import sys; first = sys.argv")
    script = tmp_path / "script.py"
    script.write_text("import sys; second = sys.argv")
    with start_kernel(str(script), env={"IPYTHONDIR": str(tmp_path)}) as kernel:
        shown = (str(startup / "first.py"), str(script), 1)
        assert ran(kernel, "print((*first, *second, len(sys.argv)))") == [f"stdout:{shown}\n"]


def test_reset_empties_the_namespace(kernel: KernelUnderTest) -> None:
    ran(kernel, "gone = 1")
    ran(kernel, "%reset -f")
    assert kernel.execute("gone")[0]["ename"] == "NameError"


# ---- configuration -------------------------------------------------------------------------------------------


def test_files_profiles_and_options_are_heeded(tmp_path: Path) -> None:  # B5
    profile = tmp_path / "profile_mine"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "10-first.py").write_text("order = ['first']\nprint('from start-up')")
    (profile / "startup" / "20-second.ipy").write_text("order.append('second')\n%time order.append('magic')")
    (profile / "startup" / "30-broken.py").write_text("1/0")
    (profile / "startup" / "40-last.py").write_text("order.append('last')")
    (profile / "ipython_config.py").write_text("c.InteractiveShell.ast_node_interactivity = 'all'\nc.A.b = 1\n")
    (profile / "ipython_kernel_config.py").write_text("c.InteractiveShell.cache_size = 77")
    options = [
        "--profile=mine",
        "--IPKernelApp.exec_lines=order.append('line')",
        "--HistoryManager.hist_file=:memory:",
        "--InteractiveShell.xmode=Plain",
        "--Unknown.option=5",
        "--no-such-flag",
    ]
    env = {"IPYTHONDIR": str(tmp_path), "JPY_SESSION_NAME": "/home/note.ipynb"}
    with start_kernel(*options, env=env) as kernel:
        assert ran(kernel, "1\n2") == ["execute_result:1", "execute_result:2"]
        order = ran(kernel, "order")[0]
        assert order.startswith("execute_result:['first', 'second', 'magic', 'last'") and "'line'" in order
        assert ran(kernel, "get_ipython().history_manager.hist_file") == ["execute_result:':memory:'"]
        assert ran(kernel, "__session__") == ["execute_result:'/home/note.ipynb'"]
        assert ran(kernel, "get_ipython().cache_size") == ["execute_result:77"]
        assert ran(kernel, "get_ipython().InteractiveTB.mode") == ["execute_result:'Plain'"]
        said = kernel.log.read_text()
        assert "no-such-flag" in said
        assert "ZeroDivisionError" in said  # it is said on iopub, too, but before a client can listen


def test_a_broken_configuration_file_does_not_keep_the_kernel_from_starting(tmp_path: Path) -> None:
    profile = tmp_path / "profile_default"
    profile.mkdir()
    (profile / "ipython_config.py").write_text("this is no python")
    with start_kernel(env={"IPYTHONDIR": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "absent.py")}) as kernel:
        assert ran(kernel, "5") == ["execute_result:5"]


def test_the_interpreter_is_the_one_that_was_asked_for(kernel: KernelUnderTest) -> None:
    assert ran(kernel, "import sys; sys.executable") == [f"execute_result:{sys.executable!r}"]
    own_group = "import os; os.getpid(), os.getpgid(0) == os.getpid()"
    assert ran(kernel, own_group) == [f"execute_result:({kernel.pid}, True)"]
    assert os.getpid() != kernel.pid
