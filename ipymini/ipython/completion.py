"""completion: complete_reply out of IPython's completer. Runs user code where IPython's evaluation policy lets it.

Names that exist are found by IPython's own matchers, and names in the code itself by a tokenizer, within a
millisecond. Jedi, which reads code without running it (`completer` sees to that), takes a hundred times as long and is
asked only if those find nothing. IPYMINI_USE_JEDI=1 asks it first, 0 never, and so does `Completer.use_jedi = False`.
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
from types import GetSetDescriptorType, ModuleType
from typing import Any

from ipymini.protocol.messages import Content

PATIENCE = 1.0  # seconds that a completion waits for another one's jedi; then it does without
LONGEST = 50_000  # characters of code that are looked through for names
UNKNOWN = "<unknown>"
_NOTHING = object()

_name_before = re.compile(r"(?<![\w.])[^\W\d]\w*$").search
_path_before = re.compile(r"(?<![\w.)\]])((?:[^\W\d]\w*\.)+)$").search
_FUNCTIONS = ("function", "builtin_function_or_method", "method", "method_descriptor", "wrapper_descriptor")
_METHODS = ("method-wrapper", "classmethod", "staticmethod", "classmethod_descriptor", "cython_function_or_method")


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

    def _find(self, code: str, cursor_pos: int) -> list[Content]:
        completer = self._shell.Completer
        allowed = self._jedi != "0" and (completer.use_jedi or self._jedi == "1")  # also as `%config` has just set it
        first = allowed and self._jedi == "1"
        found = self._ask_jedi(completer, code, cursor_pos) if first else []
        if not found:
            found = self._ask(completer, code, cursor_pos, jedi=False)
            if not (found and found[0]["type"] == "path"):
                found = self._with_words(found, code, cursor_pos)
        if found or first or not allowed:
            return found
        return self._ask_jedi(completer, code, cursor_pos)

    def _ask_jedi(self, completer: Any, code: str, cursor_pos: int) -> list[Content]:
        if not self._lock.acquire(timeout=PATIENCE):
            return []
        try:
            return self._ask(completer, code, cursor_pos, jedi=True)
        finally:
            self._lock.release()

    @staticmethod
    def _ask(completer: Any, code: str, cursor_pos: int, *, jedi: bool) -> list[Content]:
        """Return what IPython finds; raise KeyboardInterrupt if an interrupt has struck a matcher."""
        from IPython.core.completer import rectify_completions

        from ipymini.ipython.completer import careful

        completer = careful(completer)
        completer.use_jedi = jedi
        found = list(rectify_completions(code, completer.completions(code, cursor_pos)))
        if completer.is_over:
            raise KeyboardInterrupt
        # Without jedi IPython repeats the dot before an attribute.
        skip = 1 if found and all(one.text[:1] == "." == code[one.start : one.start + 1] for one in found) else 0
        return [
            {
                "start": one.start + skip,
                "end": one.end,
                "text": one.text[skip:],
                "type": one.type or UNKNOWN,
                "signature": one.signature or "",
            }
            for one in found
        ]

    @staticmethod
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

    def _name_types(self, code: str, found: list[Content]) -> None:
        """Say what the names stand for, as far as the objects tell without any code being run."""
        if not any(one["type"] in (UNKNOWN, "variable", "attribute", "instance") for one in found):
            return
        path = _path_before(code[: found[0]["start"]])
        objects: Content | None = None  # None: names of the namespace
        for part in path[1].rstrip(".").split(".") if path else ():
            stored = self._stored(part, objects)
            if stored is _NOTHING:
                return
            objects = _attributes(stored)
        for one in found:
            stored = self._stored(one["text"], objects)
            if stored is not _NOTHING:
                one["type"] = _kind(stored)
            elif keyword.iskeyword(one["text"]) and not path:
                one["type"] = "keyword"
            elif one["text"].endswith("="):
                one["type"] = "param"

    def _stored(self, name: str, objects: Content | None) -> Any:
        if objects is not None:
            return objects.get(name, _NOTHING)
        return self._shell.user_ns.get(name, vars(builtins).get(name, _NOTHING))

    def uninstall(self) -> None:
        """Leave nothing behind in Python's own modules."""
        self._quiet.uninstall()

    def prime(self) -> None:
        """Make the completer and import jedi: its first completion takes a second. Not under the lock."""
        self.complete("pri", 3)
        if self._jedi != "0" and (self._shell.Completer.use_jedi or self._jedi == "1"):
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


def _attributes(obj: Any) -> Content:
    """Return an object's attributes as they are stored, not as `getattr` would compute them."""
    from ipymini.ipython.completer import bases_of, names_of, names_of_module

    kind = type(obj)
    names: Content = {}
    if ModuleType in bases_of(kind):
        return dict(names_of_module(obj))
    is_class = type in bases_of(kind)
    for one in reversed(bases_of(obj if is_class else kind)):
        names.update(names_of(one))
    if not is_class and type(own := names.get("__dict__")) is GetSetDescriptorType:
        names.update(own.__get__(obj))
    return names


def _kind(obj: Any) -> str:
    from ipymini.ipython.completer import bases_of, name_of

    kind = type(obj)
    if type in bases_of(kind):
        return "class"
    if ModuleType in bases_of(kind):
        return "module"
    if name_of(kind) in _FUNCTIONS or name_of(kind) in _METHODS:
        return "function"
    return "property" if kind is property else "instance"
