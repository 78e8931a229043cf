"""import_guard: keeps the user's files out of the kernel's own imports, and names those that bear a module's name.

A notebook's directory may hold a `random.py`, a `types.py` or a `jedi.py`. Python puts the working directory first for
`python -m`, before any code of ours; kernelspecs therefore say `-P`. Cells can import from it all the same, after the
standard library and before what is installed, as IPython wants it (`startup`). What the kernel imports only when it
needs it must not be the user's file, either: `install` sees to that.

The kernel's process imports this module first, so it imports nothing that Python itself has not imported by then.
"""

import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder

# Installed packages that the kernel, IPython and debugpy import when they need them. ipykernel imports most of them at
# its start, so that a file of such a name never comes first there.
OURS = frozenset(
    "IPython asttokens comm dateutil debugpy decorator executing ipymini jedi jupyter_client jupyter_core "
    "matplotlib_inline parso pexpect platformdirs prompt_toolkit psutil ptyprocess pure_eval pydevd pygments six "
    "stack_data tornado traitlets typing_extensions wcwidth zmq".split()
)
HARMLESS = frozenset(("__main__", "__phello__", "antigravity", "idlelib", "this"))  # nobody needs the library's


def leave_out() -> None:
    """Take the working directory, which `python -m` has put first, off the path."""
    if sys.path and sys.path[0] in ("", os.getcwd()) and not sys.flags.safe_path:
        del sys.path[0]


def wants_none() -> bool:
    """Whether the user has told Python to import nothing from the working directory: PYTHONSAFEPATH, or `-I`."""
    return bool(sys.flags.isolated or os.environ.get("PYTHONSAFEPATH"))


class _Finder:
    """Finds what is ours where it is installed, and not in the working directory."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return a module's spec if it is one of ours, and installed."""
        if path is None and name in OURS and "" in sys.path:
            return PathFinder.find_spec(name, [place for place in sys.path if place])
        return None


def install() -> Callable[[], None]:
    """Let imports of what is ours look past the working directory; return the undo."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return lambda: sys.meta_path.remove(finder)


def find(directory: str) -> list[str]:
    """Return the files and packages in a directory that have the name of a standard module or of one of ours."""
    found = []
    for entry in sorted(os.listdir(directory)):
        name, extension = os.path.splitext(entry)
        is_module = extension == ".py" or os.path.exists(os.path.join(directory, entry, "__init__.py"))
        if is_module and name in (sys.stdlib_module_names | OURS) - HARMLESS:
            found.append(entry)
    return found
