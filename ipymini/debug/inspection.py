"""inspection: the DAP commands that look at sources, modules, variables and values. They let no thread run.

The variables of a stopped frame are pydevd's answer. Those of the namespace, stopped or not, are the same tree of
pydevd's, over a frame of our own. What may run user code (a repr, a formatter, a property, a module's `__getattr__`,
the end of an object) runs on a thread of its own, or on the one that is stopped, and so does all that turns it into
plain JSON.
"""

import inspect
import itertools
import json
import sys
import tokenize
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ipymini.debug.adapter import Refused
from ipymini.debug.session import Arguments, Body, file_of, in_thread, said
from ipymini.debug.tracer import import_debugpy
from ipymini.protocol.wire import dumps

if TYPE_CHECKING:
    from ipymini.debug.debugger import Debugger

SLOW_DEADLINE = 60.0  # seconds where user code may have to run first
FIRST_REFERENCE = 1_000_000_000  # of ours, so that they never meet debugpy's, which count from 1
PAGE = 500  # children of a list that are shown at once
TEXT = 1000  # characters of one value
SETS = (set, frozenset)
INDEXED = (list, tuple, range, *SETS)  # these only, and no subclass: a subclass runs user code
GROUPS = ("special variables", "function variables", "class variables", "protected variables")

# What IPython and the kernel keep in the user's namespace, or Python in every module's.
HIDDEN = frozenset(
    "__name__ __doc__ __package__ __loader__ __spec__ __annotations__ __builtins__ __builtin__ __display__ __session__ "
    "get_ipython debugpy exit quit open In Out _ih _oh _dh _sh _ __ ___ _i _ii _iii".split()
)


def is_hidden(name: str) -> bool:
    """Whether a name of the user's namespace is not the user's."""
    return name in HIDDEN or (name.startswith("_i") and name[2:].isdigit()) or (name[:1] == "_" and name[1:].isdigit())


class Explorer:
    """pydevd's variable tree, where no thread is stopped. It keeps the variable of each reference that was shown.

    All methods but `knows` run user code: never on the loop. A thread whose objects take too long is left behind, and
    may overlap with the next; all that they share is `_shown` (a dict; atomic gets and sets).
    """

    def __init__(self) -> None:
        self._shown: dict[int, Any] = {}  # reference -> pydevd's variable
        self._references = itertools.count(FIRST_REFERENCE)

    def knows(self, reference: Any) -> bool:
        """Whether a reference is one of ours (and not debugpy's)."""
        return isinstance(reference, int) and reference >= FIRST_REFERENCE

    def show(self, namespace: Mapping[str, Any]) -> list[Body]:
        """Return the top level: groups first, then the values, by name. Earlier references become invalid."""
        self._shown.clear()
        frames = _pydevd_frames()
        names = {name: value for name, value in dict(namespace).items() if type(name) is str and not is_hidden(name)}
        frame = SimpleNamespace(f_code=SimpleNamespace(co_name="<module>"), f_locals=names)
        return self._children(frames._FrameVariable(_GROUPED, frame, _register))

    def children(self, reference: int, start: int, count: int, kind: str) -> list[Body]:
        """Return a page of what is inside of a value that was shown. Raises Refused."""
        variable = self._shown.get(reference)
        if variable is None:
            raise Refused("these variables are not shown any more: ask for the top level again")
        return self.page(variable, start, count, kind)

    def page(self, variable: Any, start: int, count: int, kind: str) -> list[Body]:
        """Return a page of what is inside; `kind`: only what is "indexed" or "named", or all. Raises Refused."""
        value, expression = variable.value, variable.evaluate_name
        is_indexed = type(value) in INDEXED
        if kind and (kind == "indexed") != is_indexed:
            return []
        if is_indexed and (start or count or kind):  # pydevd does not page: it shows the beginning, and then "more"
            if type(value) in SETS:
                value, expression = list(value), f"list({expression})"
            from _pydevd_bundle.pydevd_resolver import MoreItemsRange

            items = MoreItemsRange(value, start, start + (count or PAGE))
            return self._children(_variable(variable.name, items, expression))
        return self._children(variable)[start : start + count if count else None]

    def result(self, value: Any, expression: str) -> Body:
        """Return one value, as the result of an evaluation."""
        return self._described(_variable(expression, value, expression))

    def _children(self, variable: Any) -> list[Body]:
        try:
            # Without pydevd's decorator: it swaps the process's warning filters, and a cell may be running.
            children = inspect.unwrap(type(variable).get_children_variables)(variable)
            return [self._described(child) for child in children]
        except BaseException as error:  # the user's: a `__len__`, a `__class__`
            raise Refused(said(error)) from None

    def _described(self, variable: Any) -> Body:
        shown: Body = variable.get_var_data(maxstring_outer=TEXT)
        if shown["variablesReference"]:
            shown["variablesReference"] = reference = next(self._references)
            self._shown[reference] = variable
            if type(variable.value) in INDEXED:
                shown["indexedVariables"] = len(variable.value)
        return shown


# What pydevd's variables ask of a PyDB: how functions, classes and the like are shown. And where they are registered.
_GROUPED = SimpleNamespace(variable_presentation=SimpleNamespace(get_presentation=lambda scope: "group"))


def _register(variable: Any) -> None:
    pass  # `Explorer._described` does


def _pydevd_frames() -> Any:
    import_debugpy()
    from _pydevd_bundle import pydevd_suspended_frames

    return pydevd_suspended_frames


def _variable(name: str, value: Any, expression: str) -> Any:
    return _pydevd_frames()._ObjectVariable(_GROUPED, name, value, _register, evaluate_name=expression)


# ---- sources and modules ----------------------------------------------------------------


async def source(debugger: "Debugger", arguments: Arguments) -> Body:
    """The text of a file, or of what debugpy numbered. Body: {content}."""
    place = arguments.get("source")
    place = place if isinstance(place, dict) else {}
    reference = place.get("sourceReference") or arguments.get("sourceReference")
    if reference:
        return await debugger.forward("source", {**arguments, "sourceReference": reference})

    def read() -> Body:
        try:
            with tokenize.open(str(place.get("path", ""))) as file:
                return {"content": file.read()}
        except (OSError, SyntaxError, UnicodeDecodeError, ValueError) as error:
            raise Refused(f"source unavailable: {error}") from None

    return await in_thread(read, "source")


async def modules(debugger: "Debugger", arguments: Arguments) -> Body:
    """The files that have been imported. Always available."""
    start, count = int(arguments.get("startModule") or 0), int(arguments.get("moduleCount") or 0)

    def look() -> list[tuple[str, str]]:
        return [(name, path) for name in sorted(sys.modules) if isinstance(path := file_of(name), str)]

    loaded = await in_thread(look, "modules")
    page = loaded[start : start + count if count else None]
    return {
        "modules": [{"id": start + number, "name": name, "path": path} for number, (name, path) in enumerate(page)],
        "totalModules": len(loaded),
    }


# ---- variables --------------------------------------------------------------------------


async def scopes(debugger: "Debugger", arguments: Arguments) -> Body:
    """The scopes of a stopped frame."""
    body = await debugger.forward("scopes", arguments)
    debugger.session.scopes.update(scope.get("variablesReference", 0) for scope in body.get("scopes", []))
    return body


async def variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """What is inside of a scope or a value; of a scope without what IPython and Python keep there."""
    reference, scopes = arguments.get("variablesReference"), debugger.session.scopes
    start, count = int(arguments.get("start") or 0), int(arguments.get("count") or 0)
    page = start, count, str(arguments.get("filter") or "")
    explorer = debugger.explorer
    if explorer.knows(reference):
        return {"variables": await in_thread(lambda: explorer.children(int(reference or 0), *page), "variables")}
    if not debugger.session.is_attached:
        return await inspect_variables(debugger, arguments)
    if any(page):

        def show() -> list[Body] | None:
            variable = debugger.tracer.variable_of(reference)
            return None if variable is None else explorer.page(variable, *page)

        if (shown := await in_thread(show, "variables")) is not None:
            return {"variables": shown}
    body = await debugger.forward("variables", arguments)
    if reference not in scopes:
        return body
    shown = [variable for variable in body.get("variables", []) if not is_hidden(str(variable.get("name")))]
    # A group stays also if all that it held is hidden: clients look for it by name.
    scopes.update(variable.get("variablesReference", 0) for variable in shown if variable.get("name") in GROUPS)
    return {**body, "variables": shown}


async def inspect_variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """The user's namespace, stopped or not. Always available."""
    return {"variables": await in_thread(lambda: debugger.explorer.show(debugger.namespace()), "inspectVariables")}


async def evaluate(debugger: "Debugger", arguments: Arguments) -> Body:
    """Evaluate in a stopped frame; without a frame in the user's namespace, where debugpy would use its own."""
    if arguments.get("frameId") is not None:
        return await debugger.forward("evaluate", arguments)
    expression = arguments.get("expression")
    if not isinstance(expression, str):
        raise Refused("evaluate needs an expression (a string)")

    def work() -> Body:
        try:
            value = _evaluated(expression, debugger.namespace())
        except BaseException as error:  # the user's: it is the answer
            raise Refused(said(error)) from None
        shown = debugger.explorer.result(value, expression)
        # As debugpy answers without a frame: a text is itself, not its repr, and None is nothing.
        text = "" if value is None else value if issubclass(type(value), str) else shown["value"]
        return {"result": text, "type": shown["type"], "variablesReference": shown["variablesReference"]}

    return await in_thread(work, "evaluate", SLOW_DEADLINE)


def _evaluated(source: str, namespace: dict[str, Any]) -> Any:
    try:
        code = compile(source, "<evaluate>", "eval")
    except SyntaxError:
        return exec(compile(source, "<evaluate>", "exec"), namespace)
    return eval(code, namespace)


async def rich_inspect_variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """A variable as its mime bundle, in a stopped frame or in the namespace. Body: {data, metadata}."""
    name, frame = arguments.get("variableName"), arguments.get("frameId")
    empty: Body = {"data": {}, "metadata": {}}
    if not isinstance(name, str) or not name.isidentifier():
        raise Refused(f"richInspectVariables needs a variableName that is an identifier, not {name!r}", empty)
    if frame is not None and debugger.session.stopped_threads:
        found: list[Body] = await _in_frame(debugger, name, frame, _rich, empty)
        return found[0]

    def show() -> Body:
        namespace = debugger.namespace()
        if name not in namespace:
            raise Refused(f"no variable {name!r}", empty)
        return _rich(namespace[name])

    return await in_thread(show, "richInspectVariables")


def _rich(value: Any) -> Body:
    """Return the mime bundle as plain JSON: a formatter may put anything into it. Raises Refused."""
    try:
        return dict(json.loads(dumps(_bundle(value))))
    except BaseException as error:  # the user's
        raise Refused(said(error), {"data": {}, "metadata": {}}) from None


def _bundle(value: Any) -> Body:
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or shell.display_formatter is None:
        return {"data": {"text/plain": repr(value)}, "metadata": {}}
    data, metadata = shell.display_formatter.format(value)
    return {"data": data, "metadata": metadata}


async def copy_to_globals(debugger: "Debugger", arguments: Arguments) -> Body:
    """Keep a variable of a stopped frame in the user's namespace."""
    names = arguments.get("srcVariableName"), arguments.get("dstVariableName")
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise Refused(f"copyToGlobals needs identifiers as srcVariableName and dstVariableName, not {names}")
    found = await _in_frame(debugger, str(names[0]), arguments.get("srcFrameId"), lambda value: value, {})

    def keep() -> Body:
        value = found.pop()
        debugger.namespace()[str(names[1])] = value  # what was there before may end, and have a `__del__`
        shown = debugger.explorer.result(value, str(names[1]))
        return {key: shown[key] for key in ("value", "type", "variablesReference")}

    return await in_thread(keep, "copyToGlobals")


# Who takes what debugpy evaluates in a stopped frame: the expression names its taker by number.
takers: dict[int, Callable[[Any], None]] = {}


async def _in_frame(debugger: "Debugger", name: str, frame: Any, make: Callable[[Any], Any], empty: Body) -> list[Any]:
    """Return [make(value)] of a variable in a stopped frame; made by the thread that stopped there.

    `make` raises Refused at most: debugpy would not answer after a SystemExit.
    """
    box: list[Any] = []

    def take(value: Any) -> None:
        try:
            box.append(make(value))
        except Refused as no:
            box.append(Refused(str(no), empty))  # without the user's objects, which its context holds

    takers[id(box)] = take
    expression = f"__import__('sys').modules[{__name__!r}].takers[{id(box)}]({name})"
    try:
        await debugger.forward("evaluate", {"expression": expression, "frameId": frame, "context": "clipboard"})
    except Refused as no:
        raise Refused(str(no), empty) from None
    finally:
        del takers[id(box)]
    if not box:
        raise Refused(f"no variable {name!r} in this frame", empty)
    if type(box[0]) is Refused:
        raise box[0]
    return box
