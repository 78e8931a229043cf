"""Cells that fail, without a kernel: errors, tracebacks and what an interrupt does to them."""

import asyncio

import pytest


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
