"""The history's database and its thread, in memory: a thread that always goes on, and one line in the log if it must."""

import logging
import os
import sqlite3
import sys
import threading
from contextlib import closing

import pytest

from ipymini.ipython import history
from ipymini.ipython.history import Archive


@pytest.fixture
def said():
    """What the history has logged."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    history.log.addHandler(handler)
    yield lines
    history.log.removeHandler(handler)


@pytest.fixture
def archive(tmp_path):
    """An archive whose file is not there yet."""
    one = Archive(str(tmp_path / "history.sqlite"), {})
    yield one
    one.close()


def remember(archive, *texts):
    for text in texts:
        archive.put(lambda db, text=text: db.execute("INSERT INTO history VALUES (1, NULL, ?, '')", (text,)))


def remembered(archive):
    return archive.ask(lambda db: [text for (text,) in db.execute("SELECT source FROM history")], "no answer")


def test_who_reads_finds_what_was_written_before(archive, said):
    remember(archive, "a", "b")

    assert remembered(archive) == ["a", "b"]
    assert archive.ask(lambda db: threading.current_thread().name) == "ipymini-history"
    assert said == []


def test_what_was_written_is_in_the_file_once_it_is_closed(archive, said):
    remember(archive, "a")
    archive.close()

    with closing(sqlite3.connect(archive.path)) as other:
        assert other.execute("SELECT source FROM history").fetchall() == [("a",)]
    assert said == []


def test_a_closed_history_opens_again_when_it_is_used(archive):  # exit functions of the user's
    remember(archive, "a")
    archive.close()
    remember(archive, "b")

    assert remembered(archive) == ["a", "b"]


def test_without_sqlite3_the_thread_goes_on_and_says_so_once(archive, said, monkeypatch):
    """Where no descriptor is left, the import fails."""
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    remember(archive, "a")

    assert remembered(archive) == "no answer"
    assert archive._thread.is_alive()
    assert said == [
        f"history stays in memory: import of sqlite3 halted; None in sys.modules path={archive.path}",
    ]


def test_a_database_that_cannot_be_opened_gives_way_to_memory(archive, said):
    os.mkdir(archive.path)
    remember(archive, "a")

    assert remembered(archive) == ["a"]
    assert said == [f"history stays in memory: unable to open database file path={archive.path}"]


def test_a_file_that_is_no_database_is_moved_aside(archive, said, tmp_path):
    (tmp_path / "history.sqlite").write_bytes(b"this is no database" * 1000)
    remember(archive, "a")

    assert remembered(archive) == ["a"]
    aside = next(tmp_path.glob("history.sqlite.broken-*"))
    assert said == [f"history begins anew: file is not a database; the old file is now {aside}"]


def test_after_one_failure_nothing_more_is_written_and_all_can_be_read(archive, said):
    remember(archive, "before")
    assert remembered(archive) == ["before"]
    # given: another process holds the database for a while
    with closing(sqlite3.connect(archive.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        remember(archive, "lost")
        assert remembered(archive) == ["before"]
    # when
    remember(archive, "later")
    # then
    assert remembered(archive) == ["before"]
    assert said == [f"history is not written any more: database is locked path={archive.path}"]


def test_what_cannot_be_stored_is_lost_alone(archive, said):
    remember(archive, "a", "\ud800", object(), "b")

    assert remembered(archive) == ["a", "b"]
    assert [text.partition(":")[0] for text in said] == ["history lost an entry"] * 2
    remember(archive, "c")
    assert remembered(archive) == ["a", "b", "c"]


def test_a_cell_that_takes_the_errors_of_sqlite3_away_does_not_end_the_thread(archive, said, monkeypatch):
    remember(archive, "before")
    assert remembered(archive) == ["before"]
    for name in ("Error", "DatabaseError", "OperationalError"):
        monkeypatch.setattr(sqlite3, name, None)
    archive.put(lambda db: db.execute("no SQL"))

    assert remembered(archive) == ["before"]
    assert said == [f'history is not written any more: near "no": syntax error path={archive.path}']


def test_a_question_that_fails_has_the_other_answer(archive, said):
    assert archive.ask(lambda db: db.execute("no SQL"), []) == []
    assert archive.ask(lambda db: 1 + 1) == 2
    assert said == [f'history not read: near "no": syntax error path={archive.path}']


def test_a_forked_child_writes_and_reads_nothing(archive):
    remember(archive, "a")
    pid = os.fork()
    if not pid:
        remember(archive, "of the child")
        os._exit(remembered(archive) != "no answer")

    assert os.waitpid(pid, 0)[1] == 0
    assert remembered(archive) == ["a"]
