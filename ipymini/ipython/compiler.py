"""compiler: gives each cell a file name, and its source to tracebacks, debuggers and `inspect`. Runs no code.

The same code has the same name in the whole session, whichever cell it stands in: debuggers compute the name
from the code (`debugInfo` tells them hash, seed and prefix) to set breakpoints in a cell before it has run.

Functions know the file of their cell, classes only their module: `install_getfile` finds theirs. The file of the module
is what `inspect` asks for, and a kernel's `__main__` has none (with one, multiprocessing would run it).
"""

import ast
import codeop
import inspect
import linecache
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from types import FunctionType
from typing import Any

from IPython.core.compilerop import CachingCompiler

HASH_SEED = 0xC70F6907
_MASK = 0xFFFFFFFF
_FACTOR = 0x5BD1E995


@lru_cache(maxsize=256)
def murmur2(data: bytes, seed: int = HASH_SEED) -> int:
    """Return the 32-bit MurmurHash2 (Austin Appleby's, little endian), which frontends compute as well."""
    state = (seed ^ len(data)) & _MASK
    whole = len(data) & ~3
    for word in struct.unpack(f"<{whole // 4}I", data[:whole]):
        word = word * _FACTOR & _MASK
        state = (state * _FACTOR ^ (word ^ word >> 24) * _FACTOR) & _MASK
    if whole < len(data):
        state = (state ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    state = (state ^ state >> 13) * _FACTOR & _MASK
    return state ^ state >> 15


@cache
def cell_directory(pid: int) -> str:
    """Return the directory that the cells of this process seem to come from. Nothing is written there."""
    # Where `tempfile` would look, whose import takes 4 ms.
    places = [*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp", "/usr/tmp"]
    directory = next((place for place in places if place and os.path.isdir(place)), ".")
    return os.path.join(os.path.abspath(directory), f"ipykernel_{pid}")


def cell_file(code: str) -> str:
    """Return the file name of a cell with this code, as typed. IPYKERNEL_CELL_NAME overrides it."""
    name = os.environ.get("IPYKERNEL_CELL_NAME")
    if name is not None:
        return name
    return os.path.join(cell_directory(os.getpid()), f"{murmur2(code.encode('utf-8', 'surrogatepass'))}.py")


class _OfThread(threading.local):
    """What the calling thread compiles now."""

    flags = 0  # besides the session's
    parsed = ""  # the latest source
    number = 0  # the execution count of the latest cell


class CellCompiler(CachingCompiler):
    """IPython's compiler with our file names, safe to use from several lanes at once.

    `_shared` holds the `__future__` features that the session has switched on. What `extra_flags` adds for one
    compilation (top-level await) is the calling thread's own: on a shared value, one lane would switch it off
    under another's hands.
    """

    def __init__(self) -> None:
        self._thread = _OfThread()
        self._parsing = threading.RLock()
        super().__init__()
        # IPython's default is for asking whether more lines will come: an error would only say "incomplete input".
        self.flags &= ~codeop.PyCF_ALLOW_INCOMPLETE_INPUT  # type: ignore[attr-defined]

    @property
    def flags(self) -> int:
        """The compiler flags in force for the calling thread."""
        return self._shared | self._thread.flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._shared = value & ~self._thread.flags

    @contextmanager
    def extra_flags(self, flags: int) -> Iterator[None]:
        """Add flags for what this thread compiles in the block."""
        before = self._thread.flags
        self._thread.flags = before | flags
        try:
            yield
        finally:
            self._thread.flags = before

    def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> ast.AST:
        """Parse code, one lane at a time.

        CPython 3.11 counts the depth of a tree in one place for all threads: where the collector lets another thread
        in, both fail with "SystemError: AST constructor recursion depth mismatch". The fuzz test shows if it is gone.
        """
        self._thread.parsed = source
        with self._parsing:
            return super().ast_parse(source, filename, symbol)

    def __call__(self, source: Any, filename: str, symbol: str, **options: Any) -> Any:
        """Compile. Trees that a magic has parsed and calls `<timed exec>` get a file name that has their lines."""
        if str(filename).startswith("<") and isinstance(source, ast.AST):  # a Path, if a file runs
            filename = self.cache(self._thread.parsed, self._thread.number)
        return super().__call__(source, filename, symbol, **options)

    def cache(self, transformed_code: str, number: int = 0, raw_code: str | None = None) -> str:
        """Keep code for tracebacks and debuggers; return the file name it has there."""
        self._thread.number = number
        return super().cache(transformed_code, number, raw_code)

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """Return the name under which tracebacks and breakpoints know this cell."""
        return cell_file(raw_code)


# ---- classes ------------------------------------------------------------------------


def install_getfile(numbers: dict[str, int]) -> Callable[[], None]:
    """Make `inspect.getfile` know the cells' classes; return the undo. `numbers`: the cells' files."""
    before = inspect.getfile

    @wraps(before)
    def getfile(object: Any) -> str:
        try:
            return before(object)
        except OSError:  # a class in `__main__`
            found = _file_of(object, numbers) if isinstance(object, type) else None
            if found is None:
                raise
            return found

    inspect.getfile = getfile

    def undo() -> None:
        if inspect.getfile is getfile:
            inspect.getfile = before
        numbers.clear()  # who has taken our function along finds nothing

    return undo


def _file_of(kind: type, numbers: dict[str, int]) -> str | None:
    """Return the file of the cell that defines a class: that of its functions, or the latest with its name."""
    if kind.__module__ != "__main__" or hasattr(sys.modules["__main__"], "__file__"):
        return None
    for one in vars(kind).values():
        one = inspect.unwrap(getattr(one, "__func__", one)) if callable(one) else getattr(one, "fget", None)
        if isinstance(one, FunctionType) and one.__qualname__.startswith(f"{kind.__qualname__}."):
            if one.__code__.co_filename in numbers:
                return one.__code__.co_filename
    is_there = re.compile(rf"^\s*class\s+{re.escape(kind.__name__)}\b", re.MULTILINE).search
    for name in sorted(numbers, key=numbers.__getitem__, reverse=True):
        if is_there("".join(linecache.getlines(name))):
            return name
    return None
