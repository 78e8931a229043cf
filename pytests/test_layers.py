"""The stairs: imports go down only, and each outside package has its own rooms. docs/architecture.md draws the same."""

import ast
import re
import sys
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ipymini"

FLOORS = [
    ["__init__", "messages", "wire", "connection", "texts", "dap", "about", "shadows", "originals"],
    [
        "context",
        "channels",
        "subscribers",
        "registration",
        "lane",
        "frames",
        "waits",
        "nesting",
        "processes",
        "signals",
        "turns",
        "workers",
        "guard",
    ],
    ["iopub", "stdin", "streams"],
    [
        "bridge",
        "startup",
        "completion",
        "completer",
        "shell",
        "lean",
        "runs",
        "display",
        "errors",
        "compiler",
        "sources",
        "execution_magics",
    ]  # IPython's half
    + ["history", "archive", "magics", "shellcommands", "comms", "compat", "roles", "standins", "gui"]
    + [
        "debugger",
        "commands",
        "inspections",
        "adapter",
        "tracer",
        "quirks",
        "variables",
        "breakpoint",
        "cellpdb",
    ],  # and debugpy's
    ["kernel", "handlers", "cells", "kernelspec", "launcher", "embed", "connect", "doctor", "__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# On one floor a room may import these neighbours, and no others.
ARROWS = {
    "wire": {"messages"},
    "connection": {"messages"},
    "dap": {"messages"},
    "texts": {"messages"},
    "about": {"messages"},
    "context": {"frames"},
    "lane": {"context", "frames", "waits"},
    "nesting": {"context", "frames"},
    "channels": {"subscribers"},
    "workers": {"frames", "lane"},
    "bridge": {"shell", "completion", "comms", "compiler", "errors", "runs", "startup"},
    "completion": {"completer"},
    "history": {"archive"},
    "lean": {"compiler", "display", "execution_magics", "history", "magics"},
    "shell": {"errors", "execution_magics", "gui", "history", "lean", "runs", "shellcommands", "sources"},
    "debugger": {"commands", "inspections", "adapter", "tracer", "quirks", "variables"},
    "commands": {"adapter", "quirks"},
    "inspections": {"commands", "variables"},
    "tracer": {"breakpoint", "quirks"},
    "breakpoint": {"cellpdb"},
    "cellpdb": {"quirks"},
    "roles": {"comms", "compat"},
    "standins": {"roles"},
    "kernel": {"handlers", "cells"},
    "embed": {"kernel", "cells", "connect"},
    "connect": {"cells"},
    "doctor": {"kernelspec"},
    "__main__": {"kernel", "kernelspec", "connect", "doctor"},
    "launcher": {"__main__"},
}

UP: dict = {}  # nothing: the package's front door imports on demand, by name

# Who may import what does not come with Python. Floor 0 and all that is not named: nothing.
OUTSIDE = {
    "zmq": {"channels", "subscribers", "registration"},
    "IPython": set(FLOORS[3]),
    "traitlets": set(FLOORS[3]),
    "comm": set(FLOORS[3]),
    "matplotlib_inline": set(FLOORS[3]),
    "debugpy": {"tracer", "quirks"},
    "pydevd": {"tracer", "quirks"},
    "pydevd_tracing": {"tracer", "quirks"},
    "_pydev_bundle": {"tracer", "quirks"},
    "_pydevd_bundle": {"tracer", "quirks"},
    "_pydevd_sys_monitoring": {"tracer", "quirks"},
    "jupyter_core": {"kernelspec", "shell", "magics", "launcher", "connect", "doctor"},
    "jupyter_client": {"magics", "compat", "connect", "doctor"},
    "tornado": {"compat"},
    "jedi": {"completion", "completer"},
    "psutil": {"processes"},
    "cryptography": {"launcher"},
    "Cryptodome": {"launcher"},
}

THREADS = {"lane", "workers", "channels", "debugger", "archive"}  # who may start one

# Rooms with nothing that runs on a thread of the kernel's own while cells run: they see what a cell does to builtins.
NOT_WHILE_CELLS_RUN = {"__init__", "dap", "guard", "originals", "registration", "shadows"}

ROOMS = sorted(path.stem for path in PACKAGE.glob("*.py"))


def tree(room):
    return ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))


def for_the_type_checker(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(node, typing_too):
    """Yield the full dotted name of everything that is imported, wherever it stands; with or without TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "write imports in full: from ipymini.room import name"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif typing_too or not for_the_type_checker(child):
            yield from imports(child, typing_too)


def neighbours(room, typing_too):
    """Return the rooms of ours that a room imports."""
    ours = [name.split(".") for name in imports(tree(room), typing_too) if name.split(".")[0] == "ipymini"]
    return {parts[1] if len(parts) > 1 and parts[1] in ROOMS else "__init__" for parts in ours}


def test_every_room_stands_on_a_floor():
    assert [room for room in ROOMS if room not in FLOOR] == []


def test_the_architecture_page_shows_each_room_on_its_floor():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d) \| `(\w+)` \|", page, flags=re.MULTILINE)

    assert sorted(shown) == sorted((str(FLOOR[room]), room) for room in ROOMS if room != "__init__")


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_the_stairs(room):
    up = {other for other in neighbours(room, typing_too=True) if FLOOR[other] > FLOOR[room]}
    beside = {other for other in neighbours(room, typing_too=False) if FLOOR[other] == FLOOR[room]}

    assert up - UP.get(room, set()) == set()
    assert beside - ARROWS.get(room, set()) - {"__init__", "originals", room} == set()


def test_no_two_rooms_of_one_floor_import_each_other():
    def reached(room):
        return ARROWS.get(room, set()).union(*(reached(other) for other in ARROWS.get(room, ())))

    assert [room for room in ARROWS if room in reached(room)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_outside_packages_are_imported_in_their_rooms_only(room):
    outside = {name.split(".")[0] for name in imports(tree(room), typing_too=True)}
    outside -= sys.stdlib_module_names | {"ipymini"}

    assert {name for name in outside if room not in OUTSIDE.get(name, ())} == set()


@pytest.mark.parametrize("room", sorted({*chain(*FLOORS[:3]), "kernel", "handlers", "archive"} - NOT_WHILE_CELLS_RUN))
def test_the_kernels_own_threads_have_builtins_that_no_cell_can_replace(room):
    body = tree(room).body
    made = [node.lineno for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    kept = [node.lineno for node in body if isinstance(node, ast.ImportFrom) and node.module == "ipymini.originals"]

    assert "ipymini.originals.__builtins__" in set(imports(tree(room), typing_too=False))
    assert max(kept) < min(made)


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in THREADS])
def test_only_these_rooms_start_threads(room):
    calls = [ast.unparse(node.func) for node in ast.walk(tree(room)) if isinstance(node, ast.Call)]
    starts = {"threading.Thread", "Thread", "threading.Timer", "Timer", "ThreadPoolExecutor", "start_new_thread"}

    assert [call for call in calls if call in starts or call.endswith(".start_new_thread")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_rooms_first_line_says_its_name_and_what_it_does(room):
    first_line = (ast.get_docstring(tree(room)) or "").partition("\n")[0]
    name = "ipymini" if room == "__init__" else room

    assert first_line.startswith(f"{name}: ")
    assert first_line.endswith(".")


def test_the_bridge_for_tests_has_no_logic():
    path = PACKAGE.parent / "ipymini_bridge.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    docstring, *rest = body

    assert isinstance(docstring, ast.Expr)
    assert {type(node) for node in rest} <= {ast.Import, ast.ImportFrom, ast.Assign}
