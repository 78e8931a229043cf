"""ipymini: a Jupyter kernel for Python, in Python. Names the version and, on demand, what cells and others call."""

TYPE_CHECKING = False  # importing `typing` could meet a typing.py of the user's: see `import_guard`
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_MODULES = {"embed": "tools.embed", "gui": "compat.gui"}
_PLACES = {
    **dict.fromkeys(("unlock", "subshell", "process_events"), "cells"),
    **dict.fromkeys(("get_connection_file", "get_connection_info", "connect_qtconsole"), "tools.connection_files"),
    "embed_kernel": "tools.embed",
    "run": "__main__",
}
__all__ = ["__version__", "embed", *_PLACES]


def __getattr__(name: str) -> "Any":
    place = _MODULES.get(name) or _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'ipymini' has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"ipymini.{place}")
    return module if name in _MODULES else getattr(module, name)
