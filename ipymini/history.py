"""history: inputs of cells to IPython's SQLite database, and back. No cell ever waits for the disk.

A cell appends to a queue. One daemon thread, `ipymini-history`, started by the first cell, opens the database
(WAL, synchronous=NORMAL), makes the session's row and commits what has come together within a moment. Readers
have a connection of their own, and first wait, not for long, until the queue they find has been written. If the
database cannot be written (locked, read-only, broken), the rest of the session is kept in memory, and one line
in the log says so.
"""

import logging
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from IPython.core.history import HistoryManager
from traitlets import TraitError, default
from traitlets.config.configurable import LoggingConfigurable

log = logging.getLogger("ipymini.history")

GATHER = 0.2  # seconds in which inputs come together before they are committed
FIRST_CELL = 0.3  # seconds in which opening the database does not compete with the first cells
PATIENCE = 1.0  # seconds that a reader waits for the writer
LOCKED = 0.5  # seconds that the writer waits for another process that holds the database
CELLS_KEPT = 1000  # cells whose outputs are kept for %notebook
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "lustre", "gpfs", "ceph", "glusterfs", "afs")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS sessions"
    " (session integer primary key autoincrement, start timestamp, end timestamp, num_cmds integer, remark text)",
    "CREATE TABLE IF NOT EXISTS history"
    " (session integer, line integer, source text, source_raw text, PRIMARY KEY (session, line))",
    "CREATE TABLE IF NOT EXISTS output_history"
    " (session integer, line integer, output text, PRIMARY KEY (session, line))",
)


@dataclass(slots=True, eq=False)
class Session:
    """One row of `sessions`. The writer sets `number`, then `is_known`."""

    number: int = 0
    is_known: threading.Event = field(default_factory=threading.Event)
    start: str = field(default_factory=lambda: datetime.now().isoformat(" "))


Work = Callable[[Any], None]  # gets the writer's connection


class Writer:
    """The only one who writes to one database. `put` and `settle` from any thread; the rest on its own."""

    def __init__(self, path: str, options: dict[str, Any]):
        self.path, self._options = path, options
        self.memory: Any = None  # the connection, once the history is in memory only
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # two lanes may have their first cell at once
        self._pid = os.getpid()
        self._kept: list[Work] = []  # of this process: repeated in memory if the disk fails

    def put(self, work: Work) -> None:
        """Have something written soon. Never waits."""
        if os.getpid() != self._pid:
            return  # a forked child: its inputs are not the user's
        self._queue.put(work)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="ipymini-history", daemon=True)
                    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
                    thread.start()
                    self._thread = thread

    def settle(self, timeout: float = PATIENCE) -> bool:
        """Wait until all that was put before has been written; return whether it has."""
        if self._thread is None or os.getpid() != self._pid:
            return False
        done = threading.Event()
        self._queue.put(lambda connection: done.set())
        self._hurry.set()
        return done.wait(timeout)

    def close(self) -> None:
        """Write what there is, and end the thread."""
        if self._thread is not None and os.getpid() == self._pid:
            self._queue.put(None)
            self._hurry.set()
            self._thread.join(PATIENCE)
            self._thread = None

    def connect(self) -> Any:
        """Open a connection of the caller's own; what it gets in memory is shared."""
        if self.memory is not None:
            return self.memory
        return _connect(self.path, timeout=LOCKED, **self._options)

    def _run(self) -> None:
        self._hurry.wait(FIRST_CELL)
        connection = self._open()
        ending = False
        while not ending:
            works = [self._queue.get()]
            self._hurry.wait(GATHER)
            self._hurry.clear()
            while True:
                try:
                    works.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            ending = None in works
            connection = self._write(connection, [work for work in works if work is not None])
        if connection is not self.memory:
            connection.close()

    def _open(self) -> Any:
        import sqlite3

        if self.path == ":memory:":
            return self._in_memory()
        try:
            try:
                return self._on_disk()
            except sqlite3.OperationalError:
                raise  # locked, read-only, no such directory: it may be a good database
            except sqlite3.DatabaseError as error:
                aside = f"{self.path}.broken-{datetime.now():%Y%m%d-%H%M%S}"
                os.rename(self.path, aside)
                log.warning("history begins anew: %s; the old file is now %s", error, aside)
                return self._on_disk()
        except (sqlite3.Error, OSError) as error:
            log.warning("history stays in memory: %s path=%s", error, self.path)
            return self._in_memory()

    def _on_disk(self) -> Any:
        connection = self.connect()
        if not _is_on_network(self.path):  # WAL needs memory that all its users share
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            for statement in _TABLES:
                connection.execute(statement)
        return connection

    def _in_memory(self) -> Any:
        # One connection for all: a second one would open another, empty, database.
        self.memory = _connect(":memory:")
        for statement in _TABLES:
            self.memory.execute(statement)
        return self.memory

    def _write(self, connection: Any, works: list[Work]) -> Any:
        import sqlite3

        try:
            with connection:
                for work in works:
                    work(connection)
        except sqlite3.Error as error:
            if connection is self.memory:
                log.warning("history lost %d entries: %s", len(works), error)
                return connection
            log.warning("history stays in memory from here on: %s path=%s", error, self.path)
            connection.close()
            return self._write(self._in_memory(), [*self._kept, *works])
        if connection is not self.memory:
            self._kept = (self._kept + works)[-CELLS_KEPT:]
        return connection


class Recent(defaultdict[int, list[Any]]):
    """What is kept by execution count for %notebook, of the latest cells only: it holds whole images."""

    def __init__(self) -> None:
        super().__init__(list)

    def __setitem__(self, number: int, kept: list[Any]) -> None:
        while len(self) >= CELLS_KEPT:
            del self[next(iter(self))]
        super().__setitem__(number, kept)


class History(HistoryManager):
    """IPython's history manager of one run; runs of one kernel share a `Writer`. Traits as IPython documents them."""

    def __init__(self, shell: Any = None, config: Any = None, *, like: "History | None" = None, **traits: Any):
        # Past IPython's own __init__ methods: they open the database, write to it and start a thread.
        LoggingConfigurable.__init__(self, shell=shell, config=config, **traits)
        if os.environ.get("IPYMINI_HISTORY") == "0":
            self.enabled = False
        self.outputs, self.exceptions = Recent(), Recent()  # type: ignore[assignment]
        self._reader: tuple[int, Any] | None = None  # (process id, connection)
        self._reading = threading.RLock()  # readers only; the writer does not take it
        self._session: Session | None = None
        self._writer: Writer
        if like is not None:
            self.dir_hist = like.dir_hist  # the working directory is the process's
            self.hist_file, self._writer = like.hist_file, like._writer
            return
        try:
            path = self.hist_file
        except TraitError:
            path = self.hist_file = self._get_hist_file_name()
        self._writer = Writer(str(path) if self.enabled else ":memory:", dict(self.connection_options))

    @default("enabled")
    def _enabled_default(self) -> bool:
        return True  # IPython imports sqlite3 to find out

    @default("connection_options")
    def _default_connection_options(self) -> dict[str, bool]:
        return {}

    # ---- in ------------------------------------------------------------------------

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Remember an input as `In[line_num]`, `_i` and its kin, and have it written. Runs before the cell does."""
        raw = (source if source_raw is None else source_raw).rstrip("\n")
        source = source.rstrip("\n")
        for inputs, text in ((self.input_hist_parsed, source), (self.input_hist_raw, raw)):
            inputs.extend([""] * (line_num + 1 - len(inputs)))
            inputs[line_num] = text
        self._i00, self._i, self._ii, self._iii = raw, self._i00, self._i, self._ii
        names = {"_i": self._i, "_ii": self._ii, "_iii": self._iii, f"_i{line_num}": raw}
        self.shell.name_inputs(self, names)
        if self.enabled and not self._exit_re.match(raw.strip()):
            self._put("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", line_num, _text(source), _text(raw))

    def store_output(self, line_num: int) -> None:
        """Have the text of a result written, if db_log_output is set."""
        if self.enabled and self.db_log_output and line_num in self.output_hist_reprs:
            text = _text(self.output_hist_reprs[line_num])
            self._put("INSERT OR REPLACE INTO output_history VALUES (?, ?, ?)", line_num, text)

    def _put(self, statement: str, *values: Any) -> None:
        session = self._begin_session()
        self._writer.put(lambda connection: connection.execute(statement, (session.number, *values)) and None)

    def _begin_session(self) -> Session:
        if self._session is None:
            session = self._session = Session()

            def insert(connection: Any) -> None:
                row = (session.number or None, session.start)  # the same number again if it is repeated in memory
                cursor = connection.execute("INSERT INTO sessions VALUES (?, ?, NULL, NULL, '')", row)
                session.number = cursor.lastrowid
                session.is_known.set()

            self._writer.put(insert)
        return self._session

    @property
    def session_number(self) -> int:  # type: ignore[override]
        """The number of this session in the database; waits for the writer to find it."""
        if not self.enabled:
            return 0
        session = self._begin_session()
        if not session.is_known.is_set():
            self._writer.settle()
        return session.number

    def end_session(self) -> None:
        """Fill in the end of the session."""
        if self._session is not None:
            now, count = datetime.now(UTC).isoformat(" "), len(self.input_hist_parsed) - 1
            self._change("end=?, num_cmds=?", now, count)
            self._session = None

    def name_session(self, name: str) -> None:
        """Give the session a name."""
        self._change("remark=?", name)

    def _change(self, fields: str, *values: Any) -> None:
        session, statement = self._begin_session(), f"UPDATE sessions SET {fields} WHERE session==?"
        self._writer.put(lambda connection: connection.execute(statement, (*values, session.number)) and None)

    def new_session(self, conn: Any = None) -> None:
        """Begin another session with the next input."""
        self._session = None

    def reset(self, new_session: bool = True) -> None:
        """Forget this session's inputs and outputs (`%reset`); the database keeps them."""
        self.output_hist.clear()
        self.output_hist_reprs.clear()
        self.outputs.clear()
        self.exceptions.clear()
        self.dir_hist[:] = [Path.cwd()]
        if new_session:
            self.end_session()
            self.input_hist_parsed[:] = [""]
            self.input_hist_raw[:] = [""]

    def writeout_cache(self, conn: Any = None) -> None:
        """Wait until what has been stored is in the database."""
        self._writer.settle()

    def close(self) -> None:
        """Write what is left and close the database. The main run's history does it for all."""
        self._writer.close()
        with self._reading:
            if self._reader is not None and self._reader[1] is not self._writer.memory:
                self._reader[1].close()
            self._reader = None

    def __del__(self) -> None:
        pass  # IPython's stops a thread that we do not have

    # ---- out -----------------------------------------------------------------------

    @property
    def db(self) -> Any:
        """A connection for readers."""
        with self._reading:
            if self._reader is not None:
                pid, connection = self._reader
                if pid == os.getpid() and self._writer.memory in (None, connection):
                    return connection
            self._begin_session()  # the writer makes the tables and, if need be, turns to memory
            self._writer.settle()
            connection = self._writer.connect()
            self._reader = (os.getpid(), connection)
            return connection

    def init_db(self) -> None:
        """Nothing: the writer and the readers open their own."""

    def get_session_info(self, session: int = 0) -> Any:
        """Return (session, start, end, number of inputs, remark). Session 0 is this one, -1 the one before."""
        number = session if session > 0 else self.session_number + session
        self._writer.settle()
        rows = self._read(lambda: self.db.execute("SELECT * from sessions where session == ?", (number,)))
        return rows[0] if rows else None

    def _run_sql(self, *args: Any, **options: Any) -> Iterable[Any]:
        return self._read(lambda: super(History, self)._run_sql(*args, **options))

    def _read(self, query: Callable[[], Iterable[Any]]) -> list[Any]:
        """Return the rows of a query; none if the database cannot be read.

        IPython takes any error for a broken database and renames the file: also when it is only locked.
        """
        if not self.enabled:
            return []
        import sqlite3

        with self._reading:
            try:
                return list(query())
            except sqlite3.Error as error:
                log.warning("history not read: %s path=%s", error, self._writer.path)
                return []


def _connect(path: str, **options: Any) -> Any:
    import sqlite3  # 4 ms: not before it is needed

    sqlite3.register_converter("timestamp", lambda raw: datetime.fromisoformat(raw.decode()))
    kinds = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    return sqlite3.connect(path, **{"check_same_thread": False, "detect_types": kinds, **options})


def _text(text: str) -> str:
    """Return what SQLite can store: it takes no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_on_network(path: str) -> bool:
    """Whether a file is on a network file system, as far as the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    directory = os.path.realpath(os.path.dirname(path) or ".") + "/"
    found = ("", "")
    for words in (line.split() for line in mounts):
        point = words[1].replace("\\040", " ").rstrip("/") + "/"
        if directory.startswith(point) and len(point) >= len(found[0]):
            found = (point, words[2])
    return found[1].startswith(NETWORK)
