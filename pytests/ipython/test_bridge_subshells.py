"""Two shells of one bridge, without a kernel: what they share, and what each has of its own."""

import threading

from bridge_session import subshell


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
