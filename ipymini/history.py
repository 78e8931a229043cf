"""history: IPython's history, written by a thread of its own. Answers no requests (bridge does).

The executing thread appends to a deque and goes on: it takes no lock, opens no database, waits for no disk. The
writer opens SQLite (WAL, synchronous=NORMAL), makes the session row and commits what has gathered. A database that
is locked, read-only or broken costs the history on disk, never a cell; the log says so once. Reading goes through a
connection of the reader's own, after the queue has been written.
"""

import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from IPython.core.history import HistoryManager
from traitlets import Any as AnyTrait

log = logging.getLogger("ipymini.history")

BUSY = 2.0  # seconds that the writer waits for a database that somebody else has locked
FLUSH = 1.0  # seconds that a reader waits for the writer

_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (session integer primary key autoincrement, start timestamp, end timestamp, num_cmds integer, remark text);
CREATE TABLE IF NOT EXISTS history (session integer, line integer, source text, source_raw text, PRIMARY KEY (session, line));
CREATE TABLE IF NOT EXISTS output_history (session integer, line integer, output text, PRIMARY KEY (session, line));
"""


class Writer:
    """One database file and the thread that writes it. `put` may be called from any thread."""

    def __init__(self, file: str):
        self.file = file
        self.broken = ""
        self._queue: deque[Any] = deque()
        self._bell = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="ipymini-history", daemon=True)
        self._thread.pydev_do_not_trace = True  # type: ignore[attr-defined]
        self._started = False

    def put(self, item: Any) -> None:
        """Queue a callable that gets the connection."""
        self._queue.append(item)
        if not self._started:
            self._started = True
            self._thread.start()
        self._bell.release()

    def flush(self, timeout: float = FLUSH) -> bool:
        """Wait until all that is queued now has been committed."""
        if not self._started:
            return True
        done = threading.Event()
        self.put(done)
        return done.wait(timeout)

    def stop(self) -> None:
        """Write what is queued, and end."""
        if self._started and self._thread.is_alive():
            self.put(None)
            self._thread.join(FLUSH)

    def _run(self) -> None:
        connection = self._open()
        while True:
            self._bell.acquire()
            batch = []
            while self._queue:
                batch.append(self._queue.popleft())
            try:
                self._write(connection, [item for item in batch if callable(item)])
            except sqlite3.Error as error:
                self._say(error)
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
            if None in batch:
                if connection is not None:
                    connection.close()
                return

    def _open(self) -> sqlite3.Connection | None:
        try:
            Path(self.file).parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.file, timeout=BUSY)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLES)
            return connection
        except (sqlite3.Error, OSError) as error:
            self._say(error)
            return None

    @staticmethod
    def _write(connection: sqlite3.Connection | None, items: list[Any]) -> None:
        if connection is not None and items:
            with connection:
                for item in items:
                    item(connection)

    def _say(self, error: Exception) -> None:
        if not self.broken:
            self.broken = str(error)
            log.warning("history is kept in memory only: %s file=%s", error, self.file)


_writers: dict[str, Writer] = {}


class LaneHistory(HistoryManager):
    """The history of one shell: the main one, or (`overlay`) a subshell with its own session."""

    namespace = AnyTrait(None)  # where `_i` and its kin go; None: the shell's user_ns
    connection_options: Any

    def __init__(self, shell: Any, overlay: bool = False, **kwargs: Any):
        self._writer: Writer | None = None
        self._session_known = threading.Event()
        self.is_overlay = overlay
        super().__init__(shell=shell, **kwargs)

    # ---- what HistoryManager's __init__ calls ----------------------------------------

    def init_db(self) -> None:
        """Open nothing: the writer and the readers open their own."""
        if os.environ.get("IPYMINI_HISTORY") == "0":
            self.enabled = False
        self.save_thread = None
        if not self.enabled:
            return
        if str(self.hist_file) != ":memory:":
            file = str(Path(self.hist_file).expanduser().absolute())
            self._writer = _writers.setdefault(file, Writer(file)) if not self._is_stale(file) else None

    @staticmethod
    def _is_stale(file: str) -> bool:
        found = _writers.get(file)
        if found is not None and not found._thread.is_alive() and found._started:
            del _writers[file]  # of a kernel that ran in this process before
        return False

    def new_session(self, conn: Any = None) -> None:
        """Begin a session; its number is known when the writer has made the row."""
        self.session_number = 0
        self._begun = False

    def _begin(self) -> None:
        """Have the session row made, with the first input: a kernel that runs nothing leaves no trace."""
        self._begun = True
        started = datetime.now()

        def make(connection: sqlite3.Connection) -> None:
            values = (str(started), None, None, "")
            row = connection.execute("INSERT INTO sessions (start, end, num_cmds, remark) VALUES (?, ?, ?, ?)", values)
            self.session_number = int(row.lastrowid or 0)
            self._session_known.set()

        if self._writer is not None:
            self._writer.put(make)

    # ---- writing -------------------------------------------------------------------

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Keep an input as number `line_num`, in memory at once and on disk soon."""
        source_raw = source if source_raw is None else source_raw
        source, source_raw = source.rstrip("\n"), source_raw.rstrip("\n")
        if self._exit_re.match(source_raw.strip()):
            return
        self.input_hist_parsed.append(source)
        self.input_hist_raw.append(source_raw)
        self._iii, self._ii, self._i, self._i00 = self._ii, self._i, self._i00, source_raw
        names = {"_i": self._i, "_ii": self._ii, "_iii": self._iii, f"_i{line_num}": self._i00}
        if self.namespace is None:
            self.shell.push(names, interactive=False)
        else:
            self.namespace.update(names)
        if self._writer is not None:
            if not self._begun:
                self._begin()
            self._writer.put(lambda db: self._insert(db, line_num, source, source_raw))

    def _insert(self, connection: sqlite3.Connection, line_num: int, source: str, source_raw: str) -> None:
        row = (self.session_number, line_num, source, source_raw)
        connection.execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", row)

    def store_output(self, line_num: int) -> None:
        """Keep an output's text on disk, if the configuration wants that."""
        if self.db_log_output and self._writer is not None and line_num in self.output_hist_reprs:
            text = self.output_hist_reprs[line_num]
            statement = "INSERT OR REPLACE INTO output_history VALUES (?, ?, ?)"
            self._writer.put(lambda db: db.execute(statement, (self.session_number, line_num, text)))

    def writeout_cache(self, conn: Any = None) -> None:
        """Have everything written, and wait for it (for a bounded time)."""
        if self._writer is not None:
            self._writer.flush()

    def end_session(self) -> None:
        """Note the session's end."""
        if self._writer is not None and self._begun:
            row = (str(datetime.now()), len(self.input_hist_parsed) - 1)
            statement = "UPDATE sessions SET end=?, num_cmds=? WHERE session==?"
            self._writer.put(lambda db: db.execute(statement, (*row, self.session_number)))
        self._begun = False

    def name_session(self, name: str) -> None:
        """Give the session a name."""
        if self._writer is not None:
            statement = "UPDATE sessions SET remark=? WHERE session==?"
            self._writer.put(lambda db: db.execute(statement, (name, self.session_number)))

    def reset(self, new_session: bool = True) -> None:
        """Clear the history of this session in memory, and begin another."""
        self.output_hist.clear()
        self.dir_hist[:] = [Path.cwd()]
        if new_session:
            self.end_session()
            self.input_hist_parsed[:] = [""]
            self.input_hist_raw[:] = [""]
            self.new_session()

    def close(self) -> None:
        """End the session; the writer goes on for the other shells."""
        self.end_session()

    def stop(self) -> None:
        """End the session and the writer: the kernel stops."""
        self.end_session()
        if self._writer is not None:
            self._writer.stop()

    # ---- reading ---------------------------------------------------------------------

    def _run_sql(self, sql: str, params: tuple[Any, ...], raw: bool = True, output: bool = False, latest: bool = False) -> Iterable[Any]:
        """Yield (session, line, input or (input, output)) of the database; nothing if it cannot be read."""
        column = "source_raw" if raw else "source"
        source = "history"
        if output:
            source = "history LEFT JOIN output_history USING (session, line)"
            column = f"history.{column}, output_history.output"
        if latest:
            column += ", MAX(session * 128 * 1024 + line)"
        rows = self._query(f"SELECT session, line, {column} FROM {source} " + sql, params)
        if latest:
            rows = [row[:-1] for row in rows]
        return ((row[0], row[1], (row[2], row[3])) for row in rows) if output else iter(rows)

    def _query(self, sql: str, params: tuple[Any, ...] = ()) -> list[Any]:
        if self._writer is None:
            return []
        self._writer.flush()
        if not Path(self._writer.file).exists():
            return []
        try:
            connection = sqlite3.connect(f"file:{self._writer.file}?mode=ro", uri=True, timeout=FLUSH)
            try:
                return list(connection.execute(sql, params))
            finally:
                connection.close()
        except sqlite3.Error as error:
            log.debug("history could not be read: %s", error)
            return []

    def get_tail(self, n: int = 10, raw: bool = True, output: bool = False, include_latest: bool = False) -> Iterable[Any]:
        """Return the last n inputs, oldest first: of this session from memory, of earlier ones from the database."""
        self.writeout_cache()
        here = list(self._get_range_session(1 if not include_latest else 1, None, raw, output))
        here = here if include_latest else here[:-1]
        mine = [(self.session_number, *row[1:]) for row in here][-n:] if n else []
        missing = n - len(mine)
        if missing <= 0:
            return mine
        older = self._run_sql("WHERE session != ? ORDER BY session DESC, line DESC LIMIT ?", (self.session_number or -1, missing), raw, output)
        return [*reversed(list(older)), *mine]

    def get_last_session_id(self) -> int | None:
        """Return the number of the session before this one."""
        rows = self._query("SELECT MAX(session) FROM sessions WHERE session != ?", (self.session_number or -1,))
        return rows[0][0] if rows else None

    def get_session_info(self, session: int = 0) -> Any:
        """Return (session, start, end, number of inputs, remark). Session 0 is this one, -1 the one before."""
        self.writeout_cache()
        number = session if session > 0 else self.session_number + session
        rows = self._query("SELECT * FROM sessions WHERE session == ?", (number,))
        return rows[0] if rows else (number, None, None, None, "")

    def get_range(self, session: int = 0, start: int = 1, stop: int | None = None, raw: bool = True, output: bool = False) -> Iterator[Any]:
        """Yield inputs of a session (0: this one; negative: before this one), from `start` up to but not `stop`."""
        if session <= 0:
            self.writeout_cache()
            if session == 0 or self.session_number + session == self.session_number:
                yield from self._get_range_session(start, stop, raw, output)
                return
            session += self.session_number or (self.get_last_session_id() or 0) + 1
        if stop is None:
            where, limits = "line >= ?", (session, start)
        else:
            where, limits = "line >= ? AND line < ?", (session, start, stop)  # type: ignore[assignment]
        yield from self._run_sql(f"WHERE session==? AND {where}", limits, raw=raw, output=output)

    @property
    def db(self) -> Any:
        """A connection for code that wants one; opened on demand."""
        if self._writer is None:
            return sqlite3.connect(":memory:")
        return sqlite3.connect(self._writer.file, timeout=FLUSH)

    def __del__(self) -> None:
        """Leave the writer to others."""

    def search(self, pattern: str = "*", raw: bool = True, search_raw: bool = True, output: bool = False, n: int | None = None, unique: bool = False) -> Iterator[Any]:  # fmt: skip
        """Yield inputs that match a glob pattern, oldest first."""
        self.writeout_cache()
        column = "history.source_raw" if search_raw else "history.source"
        sql = f"WHERE {column} GLOB ?"
        if unique:
            sql += f" GROUP BY {column}"
        params: tuple[Any, ...] = (pattern,)
        if n is not None:
            sql += " ORDER BY session DESC, line DESC LIMIT ?"
            params += (n,)
        elif unique:
            sql += " ORDER BY session, line"
        found = list(self._run_sql(sql, params, raw=raw, output=output, latest=unique))
        return reversed(found) if n is not None else iter(found)
