"""ipymini: a Jupyter kernel for Python, in Python. Names the version and, on demand, what cells and others call."""

TYPE_CHECKING = False  # importing `typing` could meet a typing.py of the user's: see `shadows`
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    **dict.fromkeys(("unlock", "subshell", "process_events"), "cells"),
    **dict.fromkeys(("get_connection_file", "get_connection_info", "connect_qtconsole"), "connect"),
    "embed_kernel": "embed",
    "run": "__main__",
}
__all__ = ["__version__", "embed", *_ROOMS]


def __getattr__(name: str) -> "Any":
    if name not in _ROOMS and name not in ("embed", "connect"):
        raise AttributeError(f"module 'ipymini' has no attribute {name!r}")
    from importlib import import_module

    room = import_module(f"ipymini.{_ROOMS.get(name, name)}")
    return getattr(room, name) if name in _ROOMS else room
