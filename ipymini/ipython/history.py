"""history: inputs of cells to IPython's SQLite database, and back. No cell ever waits for the disk.

A cell appends to the queue of an `Archive`, whose thread does the writing; also the session's row is made there.
Readers have a connection of their own, and first wait, not for long, until what they find queued has been written.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from IPython.core.history import HistoryManager
from traitlets import TraitError, default
from traitlets.config.configurable import LoggingConfigurable

from ipymini.ipython.archive import Archive
from ipymini.protocol.originals import __builtins__, logger, os, threading  # noqa: F401

log = logger("ipymini.ipython.history")

CELLS_KEPT = 1000  # cells whose outputs are kept for %notebook


@dataclass(slots=True, eq=False)
class Session:
    """One row of `sessions`. The writer sets `number`, then `is_known`."""

    number: int = 0
    is_known: threading.Event = field(default_factory=threading.Event)
    start: str = field(default_factory=lambda: datetime.now().isoformat(" "))


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
        self._reader: tuple[int, Any] | None = None  # (process id, connection)
        self._reading = threading.RLock()  # readers only; the writer does not take it
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

    @default("connection_options")
    def _default_connection_options(self) -> dict[str, bool]:
        return {}

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
            self._put("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", line_num, _text(source), _text(raw))

    def store_output(self, line_num: int) -> None:
        """Have the text of a result written, if db_log_output is set."""
        if self.enabled and self.db_log_output and line_num in self.output_hist_reprs:
            text = _text(self.output_hist_reprs[line_num])
            self._put("INSERT OR REPLACE INTO output_history VALUES (?, ?, ?)", line_num, text)

    def _put(self, statement: str, *values: Any) -> None:
        session = self._begin_session()
        self._archive.put(lambda connection: connection.execute(statement, (session.number, *values)) and None)

    def _begin_session(self) -> Session:
        if self._session is None:
            session = self._session = Session()

            def insert(connection: Any) -> None:
                row = (session.number or None, session.start)  # the same number again if it is repeated in memory
                cursor = connection.execute("INSERT INTO sessions VALUES (?, ?, NULL, NULL, '')", row)
                session.number = cursor.lastrowid
                session.is_known.set()

            self._archive.put(insert)
        return self._session

    @property
    def session_number(self) -> int:  # type: ignore[override]
        """The number of this session in the database; waits for the writer to find it."""
        if not self.enabled:
            return 0
        session = self._begin_session()
        if not session.is_known.is_set():
            self._archive.settle()
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
        self._archive.put(lambda connection: connection.execute(statement, (*values, session.number)) and None)

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
        self._archive.settle()

    def close(self) -> None:
        """Write what is left and close the database. The main run's history does it for all."""
        self._archive.close()
        self.close_reader()

    def close_reader(self) -> None:
        """Close the readers' connection; the next reader opens another."""
        with self._reading:
            if self._reader is not None and self._reader[1] is not self._archive.memory:
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
                if pid == os.getpid() and self._archive.memory in (None, connection):
                    return connection
            self._begin_session()  # the writer makes the tables and, if need be, turns to memory
            self._archive.settle()
            connection = self._archive.connect()
            self._reader = (os.getpid(), connection)
            return connection

    def init_db(self) -> None:
        """Nothing: the writer and the readers open their own."""

    def get_session_info(self, session: int = 0) -> Any:
        """Return (session, start, end, number of inputs, remark). Session 0 is this one, -1 the one before."""
        number = session if session > 0 else self.session_number + session
        self._archive.settle()
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
                log.warning("history not read: %s path=%s", error, self._archive.path)
                return []


def _text(text: str) -> str:
    """Return what SQLite can store: it takes no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
