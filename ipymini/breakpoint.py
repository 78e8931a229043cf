"""breakpoint: what `breakpoint()` does: it stops in the debugger if one is attached, and opens ipdb if none is.

Imports neither debugpy nor IPython before somebody calls it: it is installed when the kernel starts.
"""

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol


class Stops(Protocol):
    """What we need of a debugger."""

    @property
    def is_attached(self) -> bool: ...

    def stop_here(self, frame: FrameType) -> None: ...


def install(debugger: Callable[[], Stops | None]) -> Callable[[], None]:
    """Make `breakpoint()` ours, and settle how pydevd will work if anybody imports it; return the undo."""
    before = sys.breakpointhook

    def hook(*args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT") is not None:
            return sys.__breakpointhook__(*args, **kwargs)
        frame = sys._getframe(1)
        if (stops := debugger()) is not None and stops.is_attached:
            return stops.stop_here(frame)
        return _open_ipdb(frame)

    sys.breakpointhook = hook
    settle_pydevd()

    def undo() -> None:
        if sys.breakpointhook is hook:
            sys.breakpointhook = before

    return undo


def settle_pydevd() -> None:
    """Set what pydevd reads once, when it is imported; the user's cell may be the one to import it.

    On 3.12 and later pydevd would use sys.monitoring: docs/debugger.md says what is wrong with it, and
    IPYMINI_SYS_MONITORING=1 tries it. File validation only means a warning that nobody can act upon.
    """
    use_monitoring = os.environ.get("IPYMINI_SYS_MONITORING", "0")
    os.environ["PYDEVD_USE_SYS_MONITORING"] = "1" if use_monitoring.lower() in ("1", "true", "yes") else "0"
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    os.environ.setdefault("PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING", "1")


def _open_ipdb(frame: FrameType) -> None:
    """Debug from `frame` on with IPython's pdb, over input()."""
    from IPython.core.getipython import get_ipython

    if (shell := get_ipython()) is None:
        import pdb

        pdb.Pdb().set_trace(frame)
    else:
        shell.debugger_cls().set_trace(frame)
