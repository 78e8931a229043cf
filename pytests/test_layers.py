"""The layers: imports go down only, and each outside package has its own folders. docs/architecture.md draws the same."""

import ast
import re
import sys
from pathlib import Path

import pytest

from ipymini.execution import stacks

PACKAGE = Path(__file__).resolve().parents[1] / "ipymini"
PAGE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")

LAYERS = [
    {"protocol"},
    {"execution"},
    {"frontend", "remote"},
    {"ipython", "debug", "compat"},
    {"top", "serving", "tools"},
]
LAYER = {folder: number for number, folders in enumerate(LAYERS) for folder in folders}

# Who may import what does not come with Python: folders, or single modules.
OUTSIDE = {
    "zmq": {"execution.sockets", "execution.subscribers", "remote.registration"},
    "IPython": {"ipython", "debug", "compat", "bridge"},
    "traitlets": {"ipython", "compat", "bridge"},
    "comm": {"ipython", "compat"},
    "matplotlib_inline": {"ipython"},
    "debugpy": {"debug"},
    "pydevd": {"debug"},
    "pydevd_tracing": {"debug"},
    "_pydev_bundle": {"debug"},
    "_pydevd_bundle": {"debug"},
    "jupyter_core": {"tools", "ipython", "launcher"},
    "jupyter_client": {"tools", "ipython", "compat"},
    "tornado": {"compat"},
    "jedi": {"ipython"},
    "psutil": {"execution.processes"},
    "cryptography": {"launcher"},
    "Cryptodome": {"launcher"},
}

THREADS = {"execution.lane", "execution.workers", "execution.sockets", "debug.session", "ipython.history"}

# What runs on threads of the kernel's own while cells run must not see what a cell does to builtins.
KERNELS_OWN = (*(prefix.removeprefix("ipymini.") for prefix in stacks._OURS), "ipython.history")

MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").strip(".")
    for path in PACKAGE.rglob("*.py")
)


def path_of(module):
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def tree(module):
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def folder_of(module):
    first = module.partition(".")[0]
    return first if first in LAYER else "top"


def for_the_type_checker(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(node, typing_too):
    """Yield the full dotted name of everything that is imported, wherever it stands; with or without TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "write imports in full: from ipymini.folder.module import name"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif typing_too or not for_the_type_checker(child):
            yield from imports(child, typing_too)


def imported(module, typing_too):
    """Return the modules of ours that a module imports; "" is the package itself."""
    found = set()
    for name in imports(tree(module), typing_too):
        first, *parts = name.split(".")
        if first == "ipymini":
            while ".".join(parts) not in MODULES:
                parts.pop()
            found.add(".".join(parts))
    return found - {"", module}


def allowed(module, places):
    return bool({module, folder_of(module)} & places)


def test_every_folder_belongs_to_a_layer():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert folders | {"top"} == set(LAYER)


def test_the_architecture_page_shows_these_layers():
    shown = re.findall(r"^\| (\d) \| ([^|]+) \|", PAGE, flags=re.MULTILINE)

    expected = [(str(number), folders) for number, folders in enumerate(LAYERS)]
    assert [(number, set(re.findall(r"\w+(?=/)|top", folders))) for number, folders in shown] == expected[::-1]


def test_the_architecture_page_shows_each_module_in_its_folder():
    shown = re.findall(r"^\| (\w+) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)

    expected = [(folder_of(module), module.rpartition(".")[2]) for module in MODULES if module not in {"", *LAYER}]
    assert sorted(shown) == sorted(expected)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_the_layers(module):
    layer = LAYER[folder_of(module)]

    assert [other for other in imported(module, typing_too=True) if LAYER[folder_of(other)] > layer] == []


def test_no_module_imports_itself_through_others():
    direct = {module: imported(module, typing_too=False) for module in MODULES}

    def reached(module, seen):
        for other in direct[module] - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    assert [module for module in MODULES if module in reached(module, set())] == []


@pytest.mark.parametrize("module", MODULES)
def test_outside_packages_are_imported_in_their_folders_only(module):
    outside = {name.split(".")[0] for name in imports(tree(module), typing_too=True)}
    outside -= sys.stdlib_module_names | {"ipymini"}

    assert {name for name in outside if not allowed(module, OUTSIDE.get(name, set()))} == set()


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith(KERNELS_OWN)])
def test_the_kernels_own_threads_have_builtins_that_no_cell_can_replace(module):
    body = tree(module).body
    made = [node.lineno for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    kept = [
        node.lineno for node in body if isinstance(node, ast.ImportFrom) and node.module == "ipymini.protocol.originals"
    ]

    if module not in ("protocol.originals", "protocol.import_guard"):  # which others import first, to be such threads'
        assert "ipymini.protocol.originals.__builtins__" in set(imports(tree(module), typing_too=False))
        assert max(kept) < min(made)


@pytest.mark.parametrize("module", [module for module in MODULES if module not in THREADS])
def test_only_these_modules_start_threads(module):
    calls = [ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    starts = {"threading.Thread", "Thread", "threading.Timer", "Timer", "ThreadPoolExecutor", "start_new_thread"}

    assert [call for call in calls if call in starts or call.endswith(".start_new_thread")] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_modules_first_line_says_its_name_and_what_it_does(module):
    first_line = (ast.get_docstring(tree(module)) or "").partition("\n")[0]
    name = module.rpartition(".")[2] or "ipymini"

    assert first_line.startswith(f"{name}: ")
    assert first_line.endswith(".")


def test_the_bridge_for_tests_has_no_logic():
    path = PACKAGE.parent / "ipymini_bridge.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    docstring, *rest = body

    assert isinstance(docstring, ast.Expr)
    assert {type(node) for node in rest} <= {ast.Import, ast.ImportFrom, ast.Assign}
