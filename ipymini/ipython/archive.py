"""archive: one SQLite database and the only thread that writes to it. Knows no IPython and no history.

Work (functions that get a connection) is put into a queue, from any thread, without waiting. The thread,
`ipymini-history`, starts with the first work, opens the database (WAL, synchronous=NORMAL) and commits what has
come together within a moment. A file that is no database is moved aside. One that cannot be written (locked,
read-only) gives way to a database in memory, with one line in the log, and with what this process had written.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ipymini.protocol.originals import __builtins__, logger, os, threading  # noqa: F401

log = logger("ipymini.ipython.history")

GATHER = 0.2  # seconds in which work comes together before it is committed
FIRST_CELL = 0.3  # seconds in which opening the database does not compete with the first cells
PATIENCE = 1.0  # seconds that a reader waits for the writer
LOCKED = 0.5  # seconds that the writer waits for another process that holds the database
REPEATED = 1000  # the latest works that are done again if the disk fails
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "lustre", "gpfs", "ceph", "glusterfs", "afs")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS sessions"
    " (session integer primary key autoincrement, start timestamp, end timestamp, num_cmds integer, remark text)",
    "CREATE TABLE IF NOT EXISTS history"
    " (session integer, line integer, source text, source_raw text, PRIMARY KEY (session, line))",
    "CREATE TABLE IF NOT EXISTS output_history"
    " (session integer, line integer, output text, PRIMARY KEY (session, line))",
)


Work = Callable[[Any], None]  # gets the writer's connection


class Archive:
    """The only one who writes to one database. `put` and `settle` from any thread; the rest on its own."""

    def __init__(self, path: str, options: dict[str, Any]):
        self.path, self._options = path, options
        self.memory: Any = None  # the connection, once the history is in memory only
        self._queue: SimpleQueue[Work | threading.Event | None] = SimpleQueue()
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
        self._queue.put(done)
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
            items = [self._queue.get()]
            self._hurry.wait(GATHER)
            self._hurry.clear()
            while True:
                try:
                    items.append(self._queue.get_nowait())
                except Empty:
                    break
            ending = None in items
            connection = self._write(connection, [item for item in items if callable(item)])
            for item in items:
                if isinstance(item, threading.Event):
                    item.set()  # not before the commit: who waits wants to read
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
            self._kept = (self._kept + works)[-REPEATED:]
        return connection


def _connect(path: str, **options: Any) -> Any:
    import sqlite3  # 4 ms: not before it is needed

    sqlite3.register_converter("timestamp", lambda raw: datetime.fromisoformat(raw.decode()))
    kinds = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    return sqlite3.connect(path, **{"check_same_thread": False, "detect_types": kinds, **options})


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
