"""history: inputs of cells to IPython's SQLite database, and back. No cell ever waits for the disk.

The thread `ipymini-history` alone uses the database. It starts when first needed, opens the database (WAL,
synchronous=NORMAL), and gets functions through a queue: `put` from a cell, which goes on at once; `ask` from a reader,
which waits for the answer, but not for long. What was put before is in the database when a question is answered.

If the database cannot be opened, the history stays in memory. If it cannot be written, nothing more is written, and
what is in it can still be read. Either is one line in the log. A file that is no database is moved aside.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from IPython.core.history import HistoryManager
from traitlets import TraitError, default
from traitlets.config.configurable import LoggingConfigurable

from ipymini.protocol.originals import __builtins__, logger, os, threading  # noqa: F401

log = logger("ipymini.ipython.history")

CELLS_KEPT = 1000  # cells whose outputs are kept for %notebook
GATHER = 0.2  # seconds in which work comes together before it is committed
FIRST_CELL = 0.3  # seconds in which opening the database does not compete with the first cells
OF_THE_DISK = ("OperationalError", "DatabaseError")  # errors of sqlite3, by name: a cell may replace the classes
PATIENCE = 1.0  # seconds that a reader waits for its turn
LONGEST = 60.0  # seconds that a reader waits for its answer
LOCKED = 0.5  # seconds that the thread waits for another process that holds the database
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
class _Question:
    """What a reader waits for. The thread sets `has_begun`, `answer` and `is_answered`, in this order."""

    ask: Callable[[Any], Any]
    answer: Any
    has_begun: threading.Event = field(default_factory=threading.Event)
    is_answered: threading.Event = field(default_factory=threading.Event)


class Archive:
    """One database and its thread. `put`, `ask` and `close` from any thread; the rest on its own."""

    def __init__(self, path: str, options: dict[str, Any]):
        """`options`: for sqlite3.connect."""
        self.path, self._options = path, options
        self.connection: Any = None  # None: not opened yet, or there is no sqlite3
        self._can_write = True
        self._queue: SimpleQueue[Callable[[Any], Any] | _Question | None] = SimpleQueue()
        self._at_once = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # two lanes may have their first cell at once
        self._pid = os.getpid()

    def put(self, work: Callable[[Any], Any] | _Question) -> bool:
        """Have a function write soon; it gets the connection. Return False in a forked child, which has no history."""
        if os.getpid() != self._pid:
            return False
        self._queue.put(work)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="ipymini-history", daemon=True)
                    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True  # type: ignore[attr-defined]
                    thread.start()
                    self._thread = thread
        return True

    def ask(self, question: Callable[[Any], Any], otherwise: Any = None) -> Any:
        """Return what a function of the connection returns; `otherwise` if it fails, or does not begin in PATIENCE."""
        asked = _Question(question, otherwise)
        if self.put(asked):
            self._at_once.set()
            if asked.has_begun.wait(PATIENCE):
                asked.is_answered.wait(LONGEST)
        return asked.answer

    def close(self) -> None:
        """Write what there is, and end the thread."""
        if self._thread is not None and os.getpid() == self._pid:
            self._queue.put(None)
            self._at_once.set()
            self._thread.join(PATIENCE)
            self._thread = None

    def _run(self) -> None:
        self._at_once.wait(FIRST_CELL)
        self._open()
        items: list[Any] = []
        while None not in items:
            items = [self._queue.get()]
            self._at_once.wait(GATHER)
            self._at_once.clear()
            while not self._queue.empty():
                items.append(self._queue.get())
            self._write([item for item in items if callable(item)])
            for question in [item for item in items if isinstance(item, _Question)]:
                self._answer(question)
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    # A cell may have taken sqlite3 or its errors away, and descriptors run out: the thread goes on whatever is raised.

    def _open(self) -> None:
        failure: Exception | None = None
        for path in (self.path, ":memory:"):
            try:
                self.connection = _open(path, self._options)
                break
            except Exception as error:
                failure = failure or error
        self._can_write = self.connection is not None
        if failure is not None:
            log.warning("history stays in memory: %s path=%s", failure, self.path)

    def _write(self, works: list[Callable[[Any], Any]]) -> None:
        if not self._can_write:
            return
        try:
            with self.connection:
                for work in works:
                    work(self.connection)
        except Exception as error:
            if len(works) > 1:  # nothing of them is committed: what can be stored is
                for work in works:
                    self._write([work])
            elif type(error).__name__ in OF_THE_DISK:
                self._can_write = False
                log.warning("history is not written any more: %s path=%s", error, self.path)
            else:
                log.warning("history lost an entry: %s", error)

    def _answer(self, question: _Question) -> None:
        question.has_begun.set()
        try:
            if self.connection is not None:
                question.answer = question.ask(self.connection)
        except Exception as error:
            log.warning("history not read: %s path=%s", error, self.path)
        question.is_answered.set()


def _open(path: str, options: dict[str, Any]) -> Any:
    """Return a connection to a database with IPython's tables. Raises sqlite3.Error, OSError and ImportError."""
    import sqlite3  # 4 ms: not before it is needed

    sqlite3.register_converter("timestamp", lambda raw: datetime.fromisoformat(raw.decode()))
    kinds = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    options = {"check_same_thread": False, "detect_types": kinds, "timeout": LOCKED, **options}

    def connect() -> Any:
        connection = sqlite3.connect(path, **options)
        try:
            if path != ":memory:" and not _is_on_network(path):  # WAL needs memory that all its users share
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            with connection:
                for statement in _TABLES:
                    connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    try:
        return connect()
    except sqlite3.OperationalError:
        raise  # locked, read-only, no such directory: it may be a good database
    except sqlite3.DatabaseError as error:
        aside = f"{path}.broken-{datetime.now():%Y%m%d-%H%M%S}"
        os.rename(path, aside)
        log.warning("history begins anew: %s; the old file is now %s", error, aside)
        return connect()


def _is_on_network(path: str) -> bool:
    """Whether a file is on a network file system, as far as the system tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    directory = os.path.realpath(os.path.dirname(path) or ".") + "/"
    mounted = {"": ""}  # mount points, and the file systems there: later ones hide earlier ones
    for words in map(str.split, mounts):
        mounted[words[1].replace("\\040", " ").rstrip("/") + "/"] = words[2]
    return mounted[max(filter(directory.startswith, mounted), key=len)].startswith(NETWORK)


@dataclass(slots=True, eq=False)
class Session:
    """One row of `sessions`. The thread sets `number`."""

    number: int = 0
    start: str = field(default_factory=lambda: datetime.now().isoformat(" "))

    def insert(self, connection: Any) -> None:
        """Make the row."""
        row = connection.execute("INSERT INTO sessions VALUES (NULL, ?, NULL, NULL, '')", (self.start,))
        self.number = row.lastrowid


class Recent(defaultdict[int, list[Any]]):
    """What is kept by execution count for %notebook, of the latest cells only: it holds whole images."""

    def __init__(self) -> None:
        super().__init__(list)

    def __setitem__(self, number: int, kept: list[Any]) -> None:
        while len(self) >= CELLS_KEPT:
            del self[next(iter(self))]
        super().__setitem__(number, kept)


class History(HistoryManager):
    """IPython's history manager of one run; runs of one kernel share an `Archive`. Traits as IPython documents them."""

    def __init__(self, shell: Any = None, config: Any = None, *, like: "History | None" = None, **traits: Any):
        # Past IPython's own __init__ methods: they open the database, write to it and start a thread.
        LoggingConfigurable.__init__(self, shell=shell, config=config, **traits)
        if os.environ.get("IPYMINI_HISTORY") == "0":
            self.enabled = False
        self.outputs, self.exceptions = Recent(), Recent()  # type: ignore[assignment]
        self._session: Session | None = None
        self._archive: Archive
        if like is not None:
            self.dir_hist = like.dir_hist  # the working directory is the process's
            self.hist_file, self._archive = like.hist_file, like._archive
            return
        try:
            path = self.hist_file
        except TraitError:
            path = self.hist_file = self._get_hist_file_name()
        self._archive = Archive(str(path) if self.enabled else ":memory:", dict(self.connection_options))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.shell, "history_manager")

    @default("enabled")
    def _enabled_default(self) -> bool:
        return True  # IPython imports sqlite3 to find out

    # ---- in ------------------------------------------------------------------------

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Remember an input as `In[line_num]`, `_i` and its kin, and have it written. Runs before the cell does."""
        raw = (source if source_raw is None else source_raw).rstrip("\n")
        source = source.rstrip("\n")
        source = raw if source == raw else source  # one string, where the cell has no magic
        for inputs, text in ((self.input_hist_parsed, source), (self.input_hist_raw, raw)):
            inputs.extend([""] * (line_num + 1 - len(inputs)))
            inputs[line_num] = text
        self._i00, self._i, self._ii, self._iii = raw, self._i00, self._i, self._ii
        names = {"_i": self._i, "_ii": self._ii, "_iii": self._iii, f"_i{line_num}": raw}
        self.shell.name_inputs(self, names)
        if self.enabled and not self._exit_re.match(raw.strip()):
            statement = "INSERT OR REPLACE INTO history (line, source, source_raw, session) VALUES (?, ?, ?, ?)"
            self._put(statement, line_num, _text(source), _text(raw))

    def store_output(self, line_num: int) -> None:
        """Have the text of a result written, if db_log_output is set."""
        if self.enabled and self.db_log_output and line_num in self.output_hist_reprs:
            statement = "INSERT OR REPLACE INTO output_history (line, output, session) VALUES (?, ?, ?)"
            self._put(statement, line_num, _text(self.output_hist_reprs[line_num]))

    def _put(self, statement: str, *values: Any) -> None:
        """Have a statement executed, whose last value is the number of this session."""
        session = self._begin_session()
        self._archive.put(lambda connection: connection.execute(statement, (*values, session.number)))

    def _begin_session(self) -> Session:
        if self._session is None:
            self._session = Session()
            self._archive.put(self._session.insert)
        return self._session

    @property
    def session_number(self) -> int:  # type: ignore[override]
        """The number of this session in the database; waits until it has one. 0: there is none."""
        if not self.enabled:
            return 0
        session = self._begin_session()
        return session.number or int(self._archive.ask(lambda connection: session.number, 0))

    def end_session(self) -> None:
        """Fill in the end of the session."""
        if self._session is not None:
            now, count = datetime.now(UTC).isoformat(" "), len(self.input_hist_parsed) - 1
            self._put("UPDATE sessions SET end=?, num_cmds=? WHERE session==?", now, count)
            self._session = None

    def new_session(self, conn: Any = None) -> None:
        """Begin another session with the next input."""
        self._session = None

    def reset(self, new_session: bool = True) -> None:
        """Forget this session's inputs and outputs (`%reset`); the database keeps them."""
        super().reset(new_session=False)
        self.output_hist_reprs.clear()
        if new_session:
            self.end_session()
            self.input_hist_parsed[:] = [""]
            self.input_hist_raw[:] = [""]

    def writeout_cache(self, conn: Any = None) -> None:
        """Wait until what has been stored is in the database."""
        self._archive.ask(lambda connection: None)

    def close(self) -> None:
        """Write what is left and close the database. The main run's history does it for all."""
        self._archive.close()

    # ---- out -----------------------------------------------------------------------

    @property
    def db(self) -> Any:
        """The connection, for those who speak SQL themselves. None: there is no database."""
        return self._archive.connection or self._archive.ask(lambda connection: connection)

    def get_session_info(self, session: int = 0) -> Any:
        """Return (session, start, end, number of inputs, remark). Session 0 is this one, -1 the one before."""
        number = session if session > 0 else self.session_number + session
        return self._ask(lambda db: db.execute("SELECT * FROM sessions WHERE session == ?", (number,)).fetchone(), None)

    def _run_sql(self, *args: Any, **options: Any) -> Iterable[Any]:
        rows: list[Any] = self._ask(lambda db: list(super(History, self)._run_sql(*args, **options)), [])
        return rows

    def _ask(self, question: Callable[[Any], Any], otherwise: Any) -> Any:
        return self._archive.ask(question, otherwise) if self.enabled else otherwise


def _text(text: str) -> str:
    """Return what SQLite can store: it takes no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
