"""breakpoint: what `breakpoint()` does: it stops in the debugger if one is attached, and opens ipdb if none is.

`pdb` is IPython's as well, as in other kernels.

Imports neither debugpy nor IPython before somebody calls it: it is installed when the kernel starts.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import Any, Protocol


class Stops(Protocol):
    """What we need of a debugger."""

    def stop_here(self, frame: FrameType) -> None: ...


def install(attached: Callable[[], Stops | None]) -> Callable[[], None]:
    """Make `breakpoint()` ours, and settle how pydevd will work if anybody imports it; return the undo."""
    before = sys.breakpointhook

    def hook(*args: Any, **kwargs: Any) -> Any:
        if os.environ.get("PYTHONBREAKPOINT") is not None:
            return sys.__breakpointhook__(*args, **kwargs)
        frame = sys._getframe(1)
        if (debugger := attached()) is not None:
            return debugger.stop_here(frame)
        return _open_ipdb(frame)

    sys.breakpointhook = hook
    settle_pydevd()
    finder = _PdbFinder()
    sys.meta_path.insert(0, finder)
    if all(name in sys.modules for name in finder.modules):  # imported by the program around an embedded kernel
        finder.adapt()

    def undo() -> None:
        if sys.breakpointhook is hook:
            sys.breakpointhook = before
        sys.meta_path.remove(finder)
        finder.undo()

    return undo


def settle_pydevd() -> None:
    """Set what pydevd reads once, when it is imported; the user's cell may be the one to import it.

    On 3.12 and later pydevd would use sys.monitoring: docs/debugger.md says what is wrong with it. File validation
    only means a warning that nobody can act upon.
    """
    os.environ["PYDEVD_USE_SYS_MONITORING"] = "0"
    os.environ.setdefault("PYDEVD_USE_FRAME_EVAL", "NO")  # debugpy would say so, but after an embedded kernel for good
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    os.environ.setdefault("PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING", "1")


class _PdbFinder:
    """Makes `pdb` IPython's, which knows about cells and colours, when it is imported: at start it would cost 15 ms."""

    modules = ("pdb", "IPython.core.debugger")  # the second imports the first; whichever is done last does it

    def __init__(self) -> None:
        self._before: list[tuple[ModuleType, str, Any]] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the module's own spec, with a loader that looks at the two modules afterwards."""
        if name not in self.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del spec.loader.exec_module  # type: ignore[union-attr]  # the module keeps its loader, which would keep us
                execute(module)
                self.adapt()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def adapt(self) -> None:
        """Change the two modules, if both are there."""
        pdb = sys.modules.get("pdb")
        if "IPython.core.debugger" not in sys.modules:
            import_module("IPython.core.debugger")  # comes back here
        debugger = sys.modules["IPython.core.debugger"]
        if pdb is not None and hasattr(debugger, "set_trace"):  # else it is still being imported
            from ipymini.debug.cellpdb import CellPdb

            changes = {(pdb, "Pdb"): CellPdb, (debugger, "Pdb"): CellPdb, (debugger, "InterruptiblePdb"): CellPdb}
            for (module, name), value in {**changes, (pdb, "set_trace"): debugger.set_trace}.items():
                self._before.append((module, name, getattr(module, name)))
                setattr(module, name, value)

    def undo(self) -> None:
        """Give back what the modules had."""
        for module, name, value in reversed(self._before):
            setattr(module, name, value)


def _open_ipdb(frame: FrameType) -> None:
    """Debug from `frame` on with IPython's pdb, over input()."""
    from IPython.core.getipython import get_ipython

    if (shell := get_ipython()) is None:
        import pdb

        pdb.Pdb().set_trace(frame)
    else:
        shell.debugger_cls().set_trace(frame)
