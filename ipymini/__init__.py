"""ipymini: a Jupyter kernel for Python, in Python. Names the version and, on demand, what cells and others call."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    **dict.fromkeys(("unlock", "subshell", "process_events"), "cells"),
    **dict.fromkeys(("get_connection_file", "get_connection_info", "connect_qtconsole"), "connect"),
    **dict.fromkeys(("embed_kernel",), "embed"),
    "run": "__main__",
}
__all__ = ["__version__", "embed", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in ("embed", "connect"):
        return import_module(f"ipymini.{name}")
    if name in _ROOMS:
        return getattr(import_module(f"ipymini.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'ipymini' has no attribute {name!r}")
