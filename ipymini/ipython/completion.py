"""completion: complete_reply: which names, in which order, of which types. Runs no code; `completer` asks IPython.

Names that exist are found by IPython's own matchers, and names in the code itself by a tokenizer, within a
millisecond. Jedi, which reads code without running it, takes a hundred times as long and is asked only if those find
nothing. IPYMINI_USE_JEDI=1 asks it first, 0 never, and so does `Completer.use_jedi = False`.
"""

import builtins
import io
import keyword
import os
import re
import threading
import tokenize
import warnings
from _thread import get_ident
from collections.abc import Iterator
from inspect import getattr_static
from types import ModuleType
from typing import Any

from ipymini.ipython.tracebacks import name_of
from ipymini.protocol.messages import Content

PATIENCE = 1.0  # seconds that a completion waits for another one's jedi; then it does without
LONGEST = 50_000  # characters of code that are looked through for names
UNKNOWN = "<unknown>"
_VAGUE = (UNKNOWN, "variable", "attribute", "instance")
_NOTHING, _NAMESPACE = object(), object()
_FUNCTIONS = frozenset(
    "function builtin_function_or_method method method_descriptor wrapper_descriptor method-wrapper classmethod "
    "staticmethod classmethod_descriptor cython_function_or_method".split()
)

_name_before = re.compile(r"(?<![\w.])[^\W\d]\w*$").search
_path_before = re.compile(r"(?<![\w.)\]])((?:[^\W\d]\w*\.)+)$").search


class Completion:
    """All completions of a kernel. They may go on side by side, but for jedi: its caches are the lock's."""

    def __init__(self, shell: Any):
        self._shell = shell
        self._lock = threading.Lock()
        self._quiet = _Quiet()
        self._jedi = os.environ.get("IPYMINI_USE_JEDI", "")
        wanted = shell.config.get("IPythonKernel", {}).get("use_experimental_completions", True)
        self._types = os.environ.get("IPYMINI_EXPERIMENTAL_COMPLETIONS", "1") != "0" and str(wanted) != "False"

    def complete(self, code: str, cursor_pos: int) -> Content:
        """Return the content of complete_reply. Any thread."""
        cursor_pos = max(0, min(cursor_pos, len(code)))
        import ipymini.ipython.completer  # noqa: F401  # whose import puts a filter of IPython's first

        with self._quiet:
            found = self._find(code, cursor_pos)
        content: Content = {
            "status": "ok",
            "matches": [one["text"] for one in found],
            "cursor_start": found[0]["start"] if found else cursor_pos,
            "cursor_end": found[0]["end"] if found else cursor_pos,
            "metadata": {},
        }
        if self._types:
            self._name_types(code, found)
            content["metadata"]["_jupyter_types_experimental"] = found
        return content

    @property
    def _uses_jedi(self) -> bool:
        return self._jedi != "0" and (self._shell.Completer.use_jedi or self._jedi == "1")  # also as %config says now

    def _find(self, code: str, cursor_pos: int) -> list[Content]:
        from ipymini.ipython import completer

        first = self._jedi == "1"
        found = self._ask_jedi(code, cursor_pos) if first else []
        if not found:
            found = completer.complete(self._shell.Completer, code, cursor_pos)
            if not (found and found[0]["type"] == "path"):
                found = _with_words(found, code, cursor_pos)
        return found or ([] if first or not self._uses_jedi else self._ask_jedi(code, cursor_pos))

    def _ask_jedi(self, code: str, cursor_pos: int) -> list[Content]:
        from ipymini.ipython import completer

        if not self._lock.acquire(timeout=PATIENCE):
            return []
        try:
            return completer.complete(self._shell.Completer, code, cursor_pos, jedi=True)
        finally:
            self._lock.release()

    def _name_types(self, code: str, found: list[Content]) -> None:
        """Name the types of what namespaces hold; none is computed."""
        if not any(one["type"] in _VAGUE for one in found):
            return
        path = _path_before(code[: found[0]["start"]])
        owner = _NAMESPACE
        for part in path[1].rstrip(".").split(".") if path else ():
            owner = self._stored(part, owner)
        for one in found:
            stored = self._stored(one["text"], owner)
            if stored is not _NOTHING:
                one["type"] = _kind(stored)
            elif not path and keyword.iskeyword(one["text"]):
                one["type"] = "keyword"
            elif one["text"].endswith("="):
                one["type"] = "param"

    def _stored(self, name: str, owner: Any) -> Any:
        """Return what a name stands for in a cell, or what an object has stored under it."""
        if owner is _NAMESPACE:
            return self._shell.user_ns.get(name, vars(builtins).get(name, _NOTHING))
        return getattr_static(owner, name, _NOTHING)  # runs no code

    def uninstall(self) -> None:
        """Leave nothing behind in Python's own modules."""
        self._quiet.uninstall()

    def prime(self) -> None:
        """Make the completer and import jedi: its first completion takes a second. Not under the lock."""
        self.complete("pri", 3)
        if self._uses_jedi:
            import jedi

            jedi.Interpreter("import os\nos.pa", [{}]).complete(2, 5)


class _Quiet:
    """Ignores what threads warn of as they complete: the provisional API, and what is deprecated all the same.

    A filter, because `catch_warnings` takes those of the whole process and gives back the earlier ones: a cell that
    changes them meanwhile loses that. It stays, because `warn` goes through the list by position: when one goes,
    another thread misses the next one.
    """

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self._filter = ("ignore", self, Warning, None, 0)

    def __enter__(self) -> None:
        filters: Any = warnings.filters
        if not filters or filters[0] is not self._filter:  # a cell has put one of its own before it
            filters.insert(0, self._filter)
        self._threads.add(get_ident())

    def match(self, text: str) -> bool:
        """Whether a warning is to be ignored; stands where a regular expression for its text would."""
        return get_ident() in self._threads

    def __exit__(self, *raised: object) -> None:
        self._threads.discard(get_ident())

    def uninstall(self) -> None:
        """Take the filter away, however often it is there."""
        filters: Any = warnings.filters
        filters[:] = [one for one in filters if one is not self._filter]


def _with_words(found: list[Content], code: str, cursor_pos: int) -> list[Content]:
    """Add the names that stand in the code itself, which has not run yet."""
    before = _name_before(code[:cursor_pos])
    if before is None or len(code) > LONGEST:
        return found
    start, end = before.start(), cursor_pos
    if found and (found[0]["start"], found[0]["end"]) != (start, end):
        return found
    known = {one["text"] for one in found}
    words = {word for word in _names(code, cursor_pos) if word.startswith(before[0])} - known
    return found + [
        {"start": start, "end": end, "text": word, "type": UNKNOWN, "signature": ""} for word in sorted(words)
    ]


def _names(code: str, cursor_pos: int) -> Iterator[str]:
    """Yield the names in code, but for the one at the cursor."""
    rows = code[:cursor_pos].split("\n")
    cursor = (len(rows), len(rows[-1]))
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.NAME and not token.start < cursor <= token.end:
                if not keyword.iskeyword(token.string):
                    yield token.string
    except (tokenize.TokenError, SyntaxError):
        return  # unfinished code: what came before it has been seen


def _kind(obj: Any) -> str:
    kind = type(obj)
    if issubclass(kind, type):
        return "class"
    if issubclass(kind, ModuleType):
        return "module"
    if name_of(kind) in _FUNCTIONS:
        return "function"
    return "property" if kind is property else "instance"
