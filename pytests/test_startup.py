"""What options, configuration files and start-up files make of a kernel; and the history that it leaves behind."""

import logging
import os
import sqlite3
import time
from pathlib import Path

import pytest
from harness import start_kernel

from ipymini.archive import Archive


@pytest.fixture
def home(tmp_path):
    """An IPython directory with a default profile."""
    (tmp_path / "profile_default" / "startup").mkdir(parents=True)
    return tmp_path


def values(kernel, *expressions):
    """Return the texts of expressions."""
    reply, _ = kernel.execute("pass", user_expressions={text: text for text in expressions})
    return [
        one["data"]["text/plain"] if one["status"] == "ok" else one["ename"]
        for one in reply["user_expressions"].values()
    ]


# ---- options -------------------------------------------------------------------------------


def test_options_become_configuration(caplog):
    from ipymini.startup import parse

    with caplog.at_level(logging.WARNING):
        config = parse(
            ["--matplotlib", "--colors=nocolor", "--profile", "mine", "--InteractiveShell.xmode=Plain", "--pdb"]
            + ["--IPKernelApp.exec_lines=a=1", "--IPKernelApp.exec_lines=b=2", "--quick", "--what=ever", "file.py"]
        )

    assert {section: dict(traits) for section, traits in config.items()} == {
        "InteractiveShellApp": {"matplotlib": "auto"},
        "InteractiveShell": {"colors": "nocolor", "xmode": "Plain", "pdb": True},
        "BaseIPythonApplication": {"profile": "mine"},
        "IPKernelApp": {"exec_lines": ["a=1", "b=2"]},
    }
    assert [record.getMessage() for record in caplog.records] == [
        "ignored option: --what=ever",
        "ignored argument: file.py",
    ]


def test_files_options_and_start_up_code_all_count_in_ipythons_order(home):
    profile = home / "profile_default"
    (profile / "ipython_config.py").write_text(
        "c = get_config()\nc.InteractiveShellApp.exec_lines = ['order.append(3)']\n"
        "c.InteractiveShell.ast_node_interactivity = 'all'\nc.ZMQInteractiveShell.cache_size = 7\n"
    )
    (profile / "ipython_kernel_config.py").write_text("c.InteractiveShell.ast_node_interactivity = 'last'\n")
    (profile / "startup" / "00.py").write_text("order = [1]; here = __file__")
    (profile / "startup" / "50.ipy").write_text("%precision 2\norder.append(2)")
    (home / "last.py").write_text("order.append(4)")
    options = (
        "--InteractiveShell.xmode=Plain",
        f"--IPKernelApp.exec_files=['{home / 'last.py'}']",
        "--Nothing.at_all=1",
    )

    with start_kernel(*options, env={"IPYTHONDIR": str(home)}) as kernel:
        found = values(
            kernel,
            "order",
            "here.endswith('00.py')",
            "'__file__' in globals()",
            "get_ipython().ast_node_interactivity, get_ipython().cache_size, get_ipython().xmode",
            "1.23456",
            "get_ipython().run_line_magic('who_ls', '')",
            "get_ipython().config['IPKernelApp']['connection_file'].endswith('.json')",
        )

    assert found == ["[1, 2, 3, 4]", "True", "False", "('last', 7, 'Plain')", "1.23", "[]", "True"]


def test_a_broken_configuration_start_up_file_and_extension_do_not_keep_the_kernel_from_starting(home):
    (home / "profile_default" / "ipython_config.py").write_text("1/0")
    (home / "profile_default" / "startup" / "a.py").write_text("before = 1\n1/0")
    (home / "profile_default" / "startup" / "b.py").write_text("after = 2")

    with start_kernel("--ext", "no_such_extension", env={"IPYTHONDIR": str(home)}) as kernel:
        assert values(kernel, "before", "after") == ["1", "2"]
        assert "configuration not loaded" in kernel.log.read_text()


def test_another_profile_and_python_startup(home, tmp_path):
    first = tmp_path / "first.py"
    first.write_text("first = 'ran'")

    with start_kernel("--profile=other", env={"IPYTHONDIR": str(home), "PYTHONSTARTUP": str(first)}) as kernel:
        assert values(kernel, "get_ipython().profile", "first") == ["'other'", "'ran'"]


def test_the_environment_of_cells(home):
    with start_kernel(env={"JPY_SESSION_NAME": "book.ipynb"}) as kernel:
        found = values(
            kernel,
            "__name__, __import__('sys').modules['__main__'].__dict__ is globals()",
            "__session__",
            "'' in __import__('sys').path",
            "[__import__('os').environ.get(name) for name in ('TERM', 'CLICOLOR', 'FORCE_COLOR', 'PAGER')]",
            "__import__('os').environ['MPLBACKEND']",
        )

    assert found == [
        "('__main__', True)",
        "'book.ipynb'",
        "True",
        "['xterm-color', '1', '1', 'cat']",
        "'module://matplotlib_inline.backend_inline'",
    ]


def test_matplotlib_inline_by_option(home):
    pytest.importorskip("matplotlib")
    with start_kernel("--matplotlib=inline") as kernel:
        _, said = kernel.execute("import matplotlib.pyplot as plt; plt.plot([1]);")

    assert said == ["display_data:<Figure size 640x480 with 1 Axes>"]


def test_what_start_up_imports_is_what_it_needs(home):
    wanted_later = "jedi debugpy prompt_toolkit jupyter_client tornado psutil matplotlib sqlite3 tempfile".split()
    wanted_later += ["IPython.core.application", "IPython.core.completer", "IPython.terminal", "ipymini.magics"]

    with start_kernel() as kernel:
        found = values(
            kernel, f"sorted(set({wanted_later!r}) & set(__import__('sys').modules) - {{'sqlite3', 'tempfile'}})"
        )

    assert found == ["[]"]


# ---- history -------------------------------------------------------------------------------


def rows(home):
    connection = sqlite3.connect(home / "profile_default" / "history.sqlite")
    try:
        sessions = [
            (number, end is not None, count)
            for number, _, end, count, _ in connection.execute("SELECT * FROM sessions")
        ]
        return sessions, connection.execute("SELECT session, line, source_raw FROM history").fetchall()
    finally:
        connection.close()


def test_inputs_are_in_ipythons_database_after_the_kernel_has_ended(home):
    with start_kernel(env={"IPYTHONDIR": str(home)}) as kernel:
        kernel.execute("a = 1")
        kernel.execute("%%time\nb = 2")
        kernel.reply(kernel.send("shutdown_request", channel="control", restart=False))
        deadline = time.monotonic() + 10
        while kernel.manager.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)

    sessions, inputs = rows(home)
    assert sessions == [(1, 1, 2)]
    assert inputs == [(1, 1, "a = 1"), (1, 2, "%%time\nb = 2")]


def test_a_kernel_finds_what_an_earlier_one_has_left(home):
    for code in ("first = 1", "second = 2"):
        with start_kernel(env={"IPYTHONDIR": str(home)}) as kernel:
            kernel.execute(code)
            reply = kernel.reply(kernel.send("history_request", hist_access_type="tail", n=5, raw=True, output=False))

    assert reply["history"] == [[1, 1, "first = 1"], [2, 1, "second = 2"]]


def test_history_can_be_switched_off(home):
    with start_kernel(env={"IPYTHONDIR": str(home), "IPYMINI_HISTORY": "0"}) as kernel:
        kernel.execute("a = 1")
        tail = kernel.reply(kernel.send("history_request", hist_access_type="tail", n=5, raw=True, output=False))
        here = kernel.reply(
            kernel.send("history_request", hist_access_type="range", session=0, start=1, raw=True, output=False)
        )

    assert tail["history"] == []
    assert here["history"] == [[0, 1, "a = 1"]]
    assert not (home / "profile_default" / "history.sqlite").exists()


@pytest.fixture
def archive(tmp_path):
    archive = Archive(str(tmp_path / "history.sqlite"), {})
    yield archive
    archive.close()


def insert(session):
    return lambda connection: connection.execute("INSERT INTO sessions (start, remark) VALUES ('', ?)", (session,))


def remarks(archive):
    return [remark for (remark,) in archive.connect().execute("SELECT remark FROM sessions")]


def test_an_archive_writes_what_was_put_before_settle_returns(archive):
    for name in "abc":
        archive.put(insert(name))

    assert archive.settle()
    assert remarks(archive) == ["a", "b", "c"]


def test_a_locked_database_never_keeps_the_caller_waiting(archive, caplog):
    other = sqlite3.connect(archive.path)
    other.execute("CREATE TABLE theirs (x)")
    other.execute("BEGIN EXCLUSIVE")

    before = time.monotonic()
    archive.put(insert("a"))
    archive.put(insert("b"))
    waited = time.monotonic() - before
    archive.settle(10)
    other.close()

    assert waited < 0.1
    assert remarks(archive) == ["a", "b"]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["history stays in memory"]


def test_a_database_that_fails_later_leaves_this_sessions_work_in_memory(archive, caplog):
    archive.put(insert("a"))
    archive.settle()
    other = sqlite3.connect(archive.path)
    other.execute("BEGIN IMMEDIATE")

    archive.put(insert("b"))
    archive.settle(10)
    archive.put(insert("c"))
    archive.settle()
    other.close()

    assert remarks(archive) == ["a", "b", "c"]
    assert len(caplog.records) == 1


def test_a_file_that_is_no_database_is_moved_aside(archive, caplog):
    Path(archive.path).write_bytes(os.urandom(5000))

    archive.put(insert("a"))
    archive.settle()

    assert remarks(archive) == ["a"]
    assert len(list(Path(archive.path).parent.glob("history.sqlite.broken-*"))) == 1
    assert "history begins anew" in caplog.text
