"""ipymini: a Jupyter kernel for Python, in Python. Names the version and, on demand, what cells may call."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "process_events", "subshell", "unlock"]


def __getattr__(name: str) -> Any:
    if name in ("unlock", "subshell", "process_events"):
        from ipymini import cells

        return getattr(cells, name)
    raise AttributeError(f"module 'ipymini' has no attribute {name!r}")
