"""The history's database and its writer, without a kernel: what is written when, and what happens when it cannot be."""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipymini.ipython import archive
from ipymini.ipython.archive import Archive

SOON = 10.0  # seconds: a deadline, no measure
WRITER = "ipymini-history"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LOCKED", 0.01)
    monkeypatch.setattr(archive, "GATHER", SOON)  # `settle` and `close` end it: so each test says when
    monkeypatch.setattr(archive, "FIRST_CELL", SOON)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite"


@pytest.fixture
def opened(file: Path) -> Iterator[Callable[..., Archive]]:
    """Return opened(path), which makes an archive."""
    made: list[Archive] = []

    def open_one(path: Path | str = file) -> Archive:
        made.append(Archive(str(path), {}))
        return made[-1]

    yield open_one
    for one in made:
        one.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == WRITER] == []


def line(number: int, text: Any = "") -> archive.Work:
    """Return the work that writes one line of history."""
    values = (1, number, text or f"line {number}", "")
    return lambda connection: connection.execute("INSERT INTO history VALUES (?, ?, ?, ?)", values) and None


def lines(connection: Any) -> list[str]:
    return [text for (text,) in connection.execute("SELECT source FROM history ORDER BY line")]


def settled(one: Archive) -> list[str]:
    assert one.settle(SOON)
    return lines(one.connect())


def test_what_is_put_is_in_the_file_when_it_has_settled(opened: Any, file: Path) -> None:
    one = opened()
    for number in (1, 2):
        one.put(line(number))
    assert settled(one) == ["line 1", "line 2"]
    with sqlite3.connect(file) as reader:
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        tables = reader.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        assert sorted(name for (name,) in tables) == ["history", "output_history", "sessions"]
    reader.close()


def test_work_is_done_in_order_on_one_thread_that_the_first_starts(opened: Any) -> None:
    one = opened()
    assert one.settle() is False  # nobody has written anything
    threads: list[str] = []
    order: list[int] = []
    for number in range(100):
        one.put(lambda connection, number=number: order.append(number))
        one.put(lambda connection: threads.append(threading.current_thread().name))
    assert one.settle(SOON)
    assert (order, set(threads)) == (list(range(100)), {WRITER})


def test_nothing_is_read_before_its_commit(opened: Any, file: Path) -> None:
    one = opened()
    one.put(line(1))
    assert settled(one) == ["line 1"]
    begun, go = threading.Event(), threading.Event()
    one.put(line(2))
    one.put(lambda connection: (begun.set(), go.wait(SOON)) and None)
    assert one.settle(0) is False  # it hurries the writer, and does not wait
    assert begun.wait(SOON)
    between = lines(one.connect())
    go.set()
    assert (between, settled(one)) == (["line 1"], ["line 1", "line 2"])


def test_close_writes_what_there_is(opened: Any, file: Path) -> None:
    one = opened()
    one.put(line(1))
    one.close()
    with sqlite3.connect(file) as reader:
        assert lines(reader) == ["line 1"]
    reader.close()


def test_an_archive_in_memory_has_one_connection_for_all(opened: Any) -> None:
    one = opened(":memory:")
    one.put(line(1))
    assert settled(one) == ["line 1"]
    assert one.connect() is one.memory


# ---- a database that cannot be used ---------------------------------------------------------------


def test_a_file_that_is_no_database_is_moved_aside(opened: Any, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_bytes(b"this is no database" * 1000)
    one = opened()
    one.put(line(1))
    assert settled(one) == ["line 1"]
    (aside,) = file.parent.glob("history.sqlite.broken-*")
    assert aside.read_bytes() == b"this is no database" * 1000
    assert said(caplog) == [f"history begins anew: file is not a database; the old file is now {aside}"]


def test_a_locked_database_gives_way_to_memory_and_stays_as_it_is(
    opened: Any, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("CREATE TABLE other (a)")
    other.execute("BEGIN EXCLUSIVE")
    one = opened()
    one.put(line(1))
    assert settled(one) == ["line 1"]
    assert said(caplog) == [f"history stays in memory: database is locked path={file}"]
    tables = [name for (name,) in other.execute("SELECT name FROM sqlite_master")]
    other.close()
    assert tables == ["other"]


@pytest.mark.parametrize("kind", ["a directory", "nowhere"])
def test_a_place_that_cannot_be_written_gives_way_to_memory(
    opened: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path if kind == "a directory" else tmp_path / "nowhere" / "history.sqlite"
    one = opened(path)
    one.put(line(1))
    assert settled(one) == ["line 1"]
    assert said(caplog) == [f"history stays in memory: unable to open database file path={path}"]


def test_a_disk_that_fails_later_takes_nothing_along(opened: Any, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = opened()
    one.put(line(1))
    assert settled(one) == ["line 1"]
    with sqlite3.connect(file) as other:
        other.execute("DROP TABLE history")
    other.close()
    one.put(line(2))
    assert settled(one) == ["line 1", "line 2"]
    assert said(caplog) == [f"history stays in memory from here on: no such table: history path={file}"]
    one.put(line(3))
    assert settled(one) == ["line 1", "line 2", "line 3"]


# ---- forked children ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_writes_nothing_and_waits_for_nothing(opened: Any) -> None:
    one = opened()
    one.put(line(1))
    assert settled(one) == ["line 1"]
    if (child := os.fork()) == 0:
        try:
            one.put(line(2))
            failed = one.settle(SOON)
            one.close()
        finally:
            os._exit(2 if failed else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    one.put(line(3))
    assert settled(one) == ["line 1", "line 3"]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
