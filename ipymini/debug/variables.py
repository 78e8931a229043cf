"""variables: a namespace as DAP variables, with children on demand. Needs no debugger, and stops nothing.

Whoever asks gets short texts: a value's `repr` runs user code, so the caller decides on which thread, and for how long.
"""

import itertools
import reprlib
from collections.abc import Iterable, Mapping
from inspect import isclass, isfunction, ismethod, isroutine
from typing import Any

FIRST_REFERENCE = 1_000_000_000  # ours start here, so that they never meet one of debugpy's, which count from 1
PAGE = 500  # children shown at once to a client that does not page
TEXT = 1000  # characters of one value

# What IPython and the kernel keep in the user's namespace, or Python in every module's: nobody looks for these.
HIDDEN = frozenset(
    "__name__ __doc__ __package__ __loader__ __spec__ __annotations__ __builtins__ __builtin__ __display__ __session__ "
    "get_ipython debugpy exit quit open In Out _ih _oh _dh _sh _ __ ___ _i _ii _iii".split()
)

Variable = dict[str, Any]


def is_hidden(name: str) -> bool:
    """Whether a name of the user's namespace is not the user's."""
    return name in HIDDEN or (name.startswith("_i") and name[2:].isdigit()) or (name[:1] == "_" and name[1:].isdigit())


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxdeque = (
            self.maxarray
        ) = 20
        self.maxstring = self.maxlong = self.maxother = TEXT


_brief = _Brief()


def brief(value: Any) -> str:
    """Return a short text for any value, also for one whose `repr` fails, or exits."""
    try:
        return _brief.repr(value)[: 2 * TEXT]
    except BaseException as error:
        return f"<repr failed: {type(error).__name__}>"


def said(error: BaseException) -> str:
    """Return an exception as one line, also one whose own text fails."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__


class Group(dict[str, Any]):
    """Functions, classes or special names, shown as one entry that opens."""


class Explorer:
    """Remembers what it has shown, so that the next question can ask for the children by number.

    Any thread: one whose objects take too long is left behind, and may overlap with the next; all that they share is
    `_shown` (a dict; atomic gets and sets). `show` forgets what was shown before: references die with the next top
    level.
    """

    def __init__(self) -> None:
        self._shown: dict[int, tuple[Any, str]] = {}  # reference -> value, expression that gives it
        self._numbers = itertools.count(FIRST_REFERENCE)

    def show(self, namespace: Mapping[str, Any]) -> list[Variable]:
        """Return the top level: groups first, then the values, by name."""
        self._shown.clear()
        groups = {name: Group() for name in ("special variables", "function variables", "class variables")}
        values: dict[str, Any] = {}
        for name in sorted(name for name in dict(namespace) if type(name) is str and not is_hidden(name)):
            if name in namespace:  # else a cell has deleted it just now
                groups.get(_group_of(name, namespace[name]), values)[name] = namespace[name]
        return [
            *(self._variable(name, group, "") for name, group in groups.items() if group),
            *(self._variable(name, value, name) for name, value in values.items()),
        ]

    def knows(self, reference: Any) -> bool:
        """Whether a number is one of ours (and not debugpy's)."""
        return isinstance(reference, int) and reference >= FIRST_REFERENCE

    def shown(self, reference: int) -> tuple[Any, str]:
        """Return a shown value, and the expression for it. Raises KeyError for a number that is no longer shown."""
        return self._shown[reference]

    def children(self, value: Any, expression: str, start: int = 0, count: int = 0, kind: str = "") -> list[Variable]:
        """Return what is inside a value, a page of it; `kind` may be "indexed" or "named", for these only."""
        if kind in ("indexed", "named") and (kind == "indexed") != _is_indexed(value):
            return []
        page = itertools.islice(_children(value, expression), start, start + (count or PAGE))
        return [self._variable(name, child, inner) for name, child, inner in page]

    def variable(self, value: Any, expression: str) -> Variable:
        """Return one value, the way it appears as the result of an evaluation."""
        return self._variable(expression, value, expression)

    def _variable(self, name: str, value: Any, expression: str) -> Variable:
        if type(value) is Group:  # isinstance would ask the user's objects for their `__class__`
            shown: Variable = {"name": name, "value": "", "type": "", "presentationHint": {"kind": "virtual"}}
        else:
            shown = {"name": name, "value": brief(value), "type": str(type(value).__name__), "evaluateName": expression}
        shown["variablesReference"] = 0
        try:
            if next(iter(_children(value, expression)), None) is not None:
                size = {"indexedVariables": len(value)} if _is_indexed(value) else {}
                shown |= {"variablesReference": next(self._numbers), **size}
                self._shown[shown["variablesReference"]] = value, expression
        except (
            BaseException
        ):  # the user's: its own `items`, `__len__` or `__class__`; the others are shown all the same
            pass
        return shown


def _group_of(name: str, value: Any) -> str:
    """Return the group that a name of the top level is shown in; "" for none."""
    if name.startswith("__") and name.endswith("__"):
        return "special variables"
    try:
        if isclass(value):
            return "class variables"
        return "function variables" if isfunction(value) or ismethod(value) or isroutine(value) else ""
    except BaseException:
        return ""  # these ask for its `__class__`, which may be a property


def _is_indexed(value: Any) -> bool:
    return isinstance(value, list | tuple | range | set | frozenset)


def _children(value: Any, expression: str) -> Iterable[tuple[str, Any, str]]:
    """Yield name, value and expression of what a value contains. Runs no properties: they may do anything."""
    if isinstance(value, Group):
        yield from ((name, child, name) for name, child in value.items())
    elif isinstance(value, dict):
        yield from ((brief(key), child, f"{expression}[{_literal(key)}]") for key, child in list(value.items()))
    elif isinstance(value, list | tuple | range):
        yield from ((str(number), child, f"{expression}[{number}]") for number, child in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((str(number), child, f"list({expression})[{number}]") for number, child in enumerate(list(value)))
    elif not isinstance(value, str | bytes | int | float | complex | bool | type | None.__class__) and not isroutine(
        value
    ):
        for name, child in _attributes(value).items():
            if not (name.startswith("__") and name.endswith("__")):
                yield name, child, f"{expression}.{name}"


def _literal(key: Any) -> str:
    try:
        if isinstance(key, str | bytes | int | float | bool | tuple | type(None)):
            return repr(key)
    except BaseException:  # the user's, in a tuple
        pass
    return f"<{type(key).__name__}>"


def _attributes(value: Any) -> dict[str, Any]:
    try:
        found = dict(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        found = {}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                found.setdefault(name, object.__getattribute__(value, name))
            except AttributeError:
                pass  # a slot that has not been filled
    return found
