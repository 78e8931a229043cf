"""inspection: the DAP commands that look: sources, modules, variables, values. They stop nothing and start nothing.

They are in the table of `commands`; what may run user code (a repr, a formatter, a module's `__getattr__`, the end of
an object) runs on a thread of its own, or on the one that is stopped, and so do all that turns it into plain JSON.
"""

import json
import sys
import tokenize
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ipymini.debug.commands import SLOW_DEADLINE, Arguments, Body, Refused, command, file_of
from ipymini.debug.variables import is_hidden, said
from ipymini.protocol.wire import dumps

if TYPE_CHECKING:
    from ipymini.debug.debugger import Debugger


@command("source")
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

    return dict(await debugger.in_thread(read, debugger.deadline, "source"))


@command("modules")
async def modules(debugger: "Debugger", arguments: Arguments) -> Body:
    """The files that have been imported. Always available."""
    start, count = int(arguments.get("startModule") or 0), int(arguments.get("moduleCount") or 0)

    def look() -> list[tuple[str, str]]:
        return [(name, path) for name in sorted(sys.modules) if isinstance(path := file_of(name), str)]

    loaded = await debugger.in_thread(look, debugger.deadline, "modules")
    page = loaded[start : start + count if count else None]
    return {
        "modules": [{"id": start + number, "name": name, "path": path} for number, (name, path) in enumerate(page)],
        "totalModules": len(loaded),
    }


@command("scopes")
async def scopes(debugger: "Debugger", arguments: Arguments) -> Body:
    """The scopes of a stopped frame."""
    body = await debugger.forward("scopes", arguments)
    debugger.session.scopes.update(scope.get("variablesReference", 0) for scope in body.get("scopes", []))
    return body


@command("variables")
async def variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """What is inside a scope or a value; of a scope without what IPython and Python keep there."""
    reference = arguments.get("variablesReference")
    if debugger.explorer.knows(reference):
        try:
            value, expression = debugger.explorer.shown(int(reference or 0))
        except KeyError:
            raise Refused("these variables are not shown any more: ask for the top level again") from None
        return {"variables": await _page(debugger, arguments, value, expression)}
    if not debugger.session.is_attached:
        return await inspect_variables(debugger, arguments)
    if any(arguments.get(key) for key in ("start", "count", "filter")):
        # debugpy does not page: of a long list it shows the beginning, and then "more".
        found = debugger.tracer.value_of(reference)
        if found is not None:
            return {"variables": await _page(debugger, arguments, *found)}
    body = await debugger.forward("variables", arguments)
    if reference not in debugger.session.scopes:
        return body
    shown = [variable for variable in body.get("variables", []) if not is_hidden(str(variable.get("name")))]
    # A group stays also if all that it held is hidden: clients look for it by name.
    groups = ("special variables", "function variables", "class variables", "protected variables")
    debugger.session.scopes.update(
        variable.get("variablesReference", 0) for variable in shown if variable.get("name") in groups
    )
    return {**body, "variables": shown}


async def _page(debugger: "Debugger", arguments: Arguments, value: Any, expression: str) -> list[Body]:
    start, count = int(arguments.get("start") or 0), int(arguments.get("count") or 0)
    kind = str(arguments.get("filter") or "")

    def show() -> list[Body]:
        return debugger.explorer.children(value, expression, start, count, kind)

    return list(await debugger.in_thread(show, debugger.deadline, "variables"))


@command("evaluate")
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
        shown = debugger.explorer.variable(value, expression)
        # As debugpy answers without a frame: a text is itself, not its repr, and None is nothing.
        text = "" if value is None else value if issubclass(type(value), str) else shown["value"]
        return {"result": text, "type": shown["type"], "variablesReference": shown["variablesReference"]}

    return dict(await debugger.in_thread(work, SLOW_DEADLINE, "evaluate"))


def _evaluated(source: str, namespace: dict[str, Any]) -> Any:
    try:
        code = compile(source, "<evaluate>", "eval")
    except SyntaxError:
        return exec(compile(source, "<evaluate>", "exec"), namespace)
    return eval(code, namespace)


@command("inspectVariables")
async def inspect_variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """The user's namespace, stopped or not. Always available."""

    def show() -> list[Body]:
        return debugger.explorer.show(debugger.namespace())

    return {"variables": await debugger.in_thread(show, debugger.deadline, "inspectVariables")}


@command("richInspectVariables")
async def rich_inspect_variables(debugger: "Debugger", arguments: Arguments) -> Body:
    """A variable as its mime bundle, in a stopped frame or in the namespace. Body: {data, metadata}."""
    name, frame = arguments.get("variableName"), arguments.get("frameId")
    empty: Body = {"data": {}, "metadata": {}}
    if not isinstance(name, str) or not name.isidentifier():
        raise Refused(f"richInspectVariables needs a variableName that is an identifier, not {name!r}", empty)
    if frame is not None and debugger.session.stopped_threads:
        found: list[Body] = await _in_frame(debugger, name, frame, _rich, empty)
        return found[0]
    namespace = debugger.namespace()
    if name not in namespace:
        raise Refused(f"no variable {name!r}", empty)
    return dict(await debugger.in_thread(lambda: _rich(namespace[name]), debugger.deadline, "richInspectVariables"))


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


@command("copyToGlobals")
async def copy_to_globals(debugger: "Debugger", arguments: Arguments) -> Body:
    """Keep a variable of a stopped frame in the user's namespace."""
    names = arguments.get("srcVariableName"), arguments.get("dstVariableName")
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise Refused(f"copyToGlobals needs identifiers as srcVariableName and dstVariableName, not {names}")
    found = await _in_frame(debugger, str(names[0]), arguments.get("srcFrameId"), lambda value: value, {})

    def keep() -> Body:
        value = found.pop()
        debugger.namespace()[str(names[1])] = value  # what was there before may end, and have a `__del__`
        shown = debugger.explorer.variable(value, str(names[1]))
        return {key: shown[key] for key in ("value", "type", "variablesReference")}

    return dict(await debugger.in_thread(keep, debugger.deadline, "copyToGlobals"))


# Who takes what debugpy evaluates in a stopped frame: the expression names its taker by number.
takers: dict[int, Callable[[Any], None]] = {}


async def _in_frame(debugger: "Debugger", name: str, frame: Any, make: Callable[[Any], Any], empty: Body) -> list[Any]:
    """Return [make(value)] of a variable in a stopped frame; made by the thread that stopped there.

    `make` raises Refused at most: debugpy would not answer after a SystemExit.
    """
    box: list[Any] = []
    reasons: list[str] = []

    def take(value: Any) -> None:
        try:
            box.append(make(value))
        except Refused as no:
            reasons.append(str(no))

    takers[id(box)] = take
    expression = f"__import__('sys').modules[{__name__!r}].takers[{id(box)}]({name})"
    try:
        await debugger.forward("evaluate", {"expression": expression, "frameId": frame, "context": "clipboard"})
    except Refused as no:
        raise Refused(str(no), empty) from None
    finally:
        del takers[id(box)]
    if not box:
        raise Refused(reasons[0] if reasons else f"no variable {name!r} in this frame", empty)
    return box
