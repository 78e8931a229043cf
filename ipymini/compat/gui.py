"""gui: serves the windows of GUI toolkits while the kernel waits. Draws nothing, and never runs their own loops.

Theory. A toolkit handles its events when somebody asks it to, usually its own main loop. The main lane's thread runs
asyncio's loop already, which must go on for tasks and requests. So a timer of that loop asks: `Pump` calls
`Toolkit.pump` every INTERVAL seconds, for SLICE seconds at most, between cells and while a cell awaits. `input()` asks,
too (see `stdin`). While no toolkit is enabled there is no timer, and this module is not imported.

Interrupts. A callback that the pump runs can be interrupted: `turn` is a door. A cell may also run the toolkit's loop
itself (`plt.show(block=True)`, `root.mainloop()`, `app.exec()`). That is C code: Python handles signals only when a
callback runs. So each toolkit has a timer with a callback every TICK seconds. A KeyboardInterrupt
that strikes inside a callback is swallowed there by the toolkit, which shows it; `pass_on` leaves the toolkit's loop
and has it raised once more, in the cell.

Toolkits belong to the main thread: the cells of subshells, and threads, cannot enable one.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from time import monotonic
from typing import Any

from IPython.core.error import UsageError

from ipymini.execution.lane import Lane
from ipymini.execution.stacks import door
from ipymini.protocol.messages import Request

INTERVAL = 0.015  # seconds between two turns of the pump: windows follow the mouse, and it costs 1 % of a core
SLICE = 0.01  # seconds after which a turn ends although more events wait: requests come first
TICK = 0.05  # seconds after which a loop that a cell runs looks for interrupts
PROBE = 60.0  # seconds that a new process has for importing Qt and reaching the display
TOO_MANY = 5  # failed turns in a row that end the pump: the display may be gone

NO_LOOP = frozenset("none inline nbagg webagg notebook ipympl widget agg asyncio".split())  # need no pump
QT_BINDINGS = {"qt5": ("PyQt5", "PySide2"), "qt6": ("PyQt6", "PySide6"), "qt": ("PyQt6", "PySide6", "PyQt5", "PySide2")}


class Toolkit:
    """One GUI toolkit, ready. It is made and used on the main lane's thread; making it raises if it cannot work."""

    def pump(self, seconds: float) -> None:
        """Handle the events that wait; stop after about so many seconds."""

    def leave(self) -> None:
        """End the toolkit's own loop, if user code runs one."""

    def close(self) -> None:
        """Take back what making it has put in place. Windows stay."""


class Tk(Toolkit):
    """tkinter. Its events wait in the thread, not in a window: an interpreter without Tk handles all of them."""

    _interpreter: Any = None  # kept for good: one that is freed on another thread aborts the process

    def __init__(self, name: str):
        self._tkinter: Any = import_module("tkinter")
        if Tk._interpreter is None:
            Tk._interpreter = self._tkinter.Tcl().tk
        self._once = self._tkinter._tkinter.DONT_WAIT
        # In Tcl alone: `mainloop` looks for signals after each event, and raises in its caller.
        self._tick = f"ipymini_tick_{id(self)}"
        Tk._interpreter.eval(f"proc {self._tick} {{}} {{after {int(TICK * 1000)} {self._tick}}}; {self._tick}")
        self._before = self._tkinter.Tk.report_callback_exception
        self._reporting = self._tkinter.Tk.report_callback_exception = _reporting(self._before)

    def pump(self, seconds: float) -> None:
        """See Toolkit."""
        end = monotonic() + seconds
        while Tk._interpreter.dooneevent(self._once) and monotonic() < end:
            pass

    def leave(self) -> None:
        """See Toolkit."""
        Tk._interpreter.quit()

    def close(self) -> None:
        """See Toolkit."""
        Tk._interpreter.eval(f"after cancel {self._tick}")
        if self._tkinter.Tk.report_callback_exception is self._reporting:
            self._tkinter.Tk.report_callback_exception = self._before


def _reporting(report: Callable[..., None]) -> Callable[..., None]:
    """Wrap tkinter's report of a callback's exception: a KeyboardInterrupt goes to `sys.excepthook`."""

    def report_callback_exception(root: Any, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.excepthook(kind, error, trace)
        else:
            report(root, kind, error, trace)

    return report_callback_exception


class Qt(Toolkit):
    """PyQt or PySide, 5 or 6. There can be one application in a process: one that is there is used, or one is made."""

    _app: Any = None  # ours is kept for good: windows do not survive their application
    DEFERRED_DELETE = 52  # QEvent's number; `deleteLater` waits for a loop otherwise
    DELETE_EVERY = 1.0  # seconds

    def __init__(self, name: str):
        package = _qt_binding(name)
        self._core: Any = import_module(f"{package}.QtCore")
        widgets = import_module(f"{package}.QtWidgets")
        self._app = self._core.QCoreApplication.instance()
        if self._app is None:
            _probe(f"from {package} import QtWidgets; QtWidgets.QApplication([])", package)
            self._app = Qt._app = widgets.QApplication(["ipymini"])
            # Else Qt posts a Quit as its last window closes in `exec`; a turn of ours may meet that, when `exec` has
            # ended, and from then on every QEventLoop (`plt.pause`, dialogs) returns at once. The tests show it.
            self._app.setQuitOnLastWindowClosed(False)
            self._app.lastWindowClosed.connect(self._quit_if_running)
        loop: Any = self._core.QEventLoop
        self._all = loop.ProcessEventsFlag.AllEvents if hasattr(loop, "ProcessEventsFlag") else loop.AllEvents
        self._loop = loop()
        self._next_delete = 0.0  # monotonic
        self._timer = self._core.QTimer()
        self._timer.timeout.connect(_come_by)
        self._timer.start(int(TICK * 1000))

    def pump(self, seconds: float) -> None:
        """See Toolkit."""
        # Calls that return nothing are rare here: each loses a reference to None in PySide6 6.12.0 on Python 3.11.
        end = monotonic() + seconds
        while self._loop.processEvents(self._all) and monotonic() < end:
            pass
        if monotonic() > self._next_delete:
            self._next_delete = monotonic() + self.DELETE_EVERY
            self._app.sendPostedEvents(None, self.DEFERRED_DELETE)

    def leave(self) -> None:
        """See Toolkit. Of a dialog: close it."""
        dialog = self._app.activeModalWidget() if hasattr(self._app, "activeModalWidget") else None
        if dialog is not None:
            dialog.close()
        else:
            self._quit_if_running()

    def _quit_if_running(self) -> None:
        if self._core.QThread.currentThread().loopLevel() > 0:
            self._app.quit()

    def close(self) -> None:
        """See Toolkit."""
        self._timer.stop()


def _come_by() -> None:
    """Run a little Python, so that signals are handled."""


def _qt_binding(name: str) -> str:
    """Import a binding of Qt and return its package: the one that is in use, or that QT_API names, or that is there."""
    wanted = list(QT_BINDINGS[name])
    for package in QT_BINDINGS["qt"]:
        if f"{package}.QtCore" in sys.modules:
            if package not in wanted:
                raise UsageError(f"expected {' or '.join(wanted)} for {name!r}, but this kernel uses {package} already")
            wanted = [package]
    wanted.sort(key=lambda package: package.lower() != os.environ.get("QT_API", "").lower())
    reasons = []
    for package in wanted:
        try:
            import_module(f"{package}.QtWidgets")
        except ImportError as error:
            reasons.append(str(error))
        else:
            os.environ["QT_API"] = package.lower()  # matplotlib, qtpy and others take the same one
            return package
    raise UsageError(f"{name!r} needs {' or '.join(wanted)}: {'; '.join(reasons)}. Try: pip install PySide6")


def _probe(code: str, what: str) -> None:
    """Run code in another process: Qt aborts its process if it finds no display, or lacks a library for it."""
    if not sys.executable:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PROBE
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{what} did not reach a display within {PROBE:.0f} s") from None
    if done.returncode != 0:
        raise UsageError(f"{what} finds no display, or lacks a library for it: {done.stderr.strip()[-800:]}")


_toolkits: dict[str, Callable[[str], Toolkit]] = {"tk": Tk, "qt": Qt, "qt5": Qt, "qt6": Qt}


def register(name: str, make: Callable[[str], Toolkit]) -> None:
    """Let `%gui NAME` enable the toolkit that `make(name)` returns. It is called on the main thread."""
    _toolkits[name] = make


def change(pump: "Pump | None", name: str | None, lane: Lane | None) -> "Pump | None":
    """Enable the toolkit of this name in the place of the one that `pump` serves; None: none. Return the new pump.

    Raises UsageError, and changes nothing, if there is no such toolkit, if it does not work, or if the caller is not on
    the main thread. Any thread can disable one.
    """
    toolkit = _ready(name, lane) if name is not None and name not in NO_LOOP else None
    if pump is not None:
        pump.stop()
    return Pump(toolkit, lane) if toolkit is not None and lane is not None else None


def _ready(name: str, lane: Lane | None) -> Toolkit:
    if name not in _toolkits:
        names = sorted({*_toolkits, *NO_LOOP})
        raise UsageError(f"Invalid GUI request {name!r}, valid ones are:{names}; add others with ipymini.gui.register")
    if lane is None or (lane.ident or threading.main_thread().ident) != threading.get_ident():
        raise UsageError(f"GUI toolkits belong to the main thread: enable {name!r} in a cell of the main shell")
    try:
        return _toolkits[name](name)
    except UsageError:
        raise
    except Exception as error:  # an import, a display, a version: each toolkit has its own
        raise UsageError(f"GUI {name!r} cannot be enabled: {type(error).__name__}: {error}") from error


class Pump:
    """Asks a toolkit every INTERVAL seconds to handle its events, until `stop`. On the main lane's thread."""

    def __init__(self, toolkit: Toolkit, lane: Lane):
        self.toolkit = toolkit
        self._lane = lane
        self._stands_for = Request({}, {})  # what an interrupt ends when it meets a turn between two cells
        self._failures = 0
        self._stopped = False
        lane.soon(self._on_loop)

    def stop(self) -> None:
        """Stop asking. Any thread."""
        if self.is_mine:
            self.toolkit.close()
        elif not self._stopped:
            self._lane.soon(self.toolkit.close)
        self._stopped = True

    @property
    def is_mine(self) -> bool:
        """Whether the caller is on the thread that windows belong to."""
        return not self._stopped and self._lane.ident == threading.get_ident()

    def _on_loop(self) -> None:
        lane = self._lane
        if self._stopped or lane.is_stopping or lane.loop is None:
            return
        try:
            with lane.interruption.interruptible(self._stands_for):
                self.turn()
        except KeyboardInterrupt as error:
            if not lane.is_stopping:
                sys.excepthook(type(error), error, error.__traceback__)
        # A copy: callbacks see what cells have set, but belong to no cell, so that they print to the latest.
        lane.loop.call_later(INTERVAL, self._on_loop, context=lane.context.copy())

    def meanwhile(self) -> float | None:
        """Make a turn while a cell waits for something; return the seconds until the next. None: not on this thread."""
        if not self.is_mine:
            return None
        self.turn()
        return INTERVAL

    @door
    def turn(self) -> None:
        """Let the toolkit handle what waits, and show its errors. Passes a KeyboardInterrupt on."""
        try:
            self.toolkit.pump(SLICE)
        except (Exception, SystemExit) as error:  # a "Quit" button does not end the kernel
            sys.excepthook(type(error), error, error.__traceback__)
            self._failures += 1
            if self._failures >= TOO_MANY:
                print(
                    f"The GUI failed {TOO_MANY} times in a row. It is not served any more: %gui enables it again.",
                    file=sys.stderr,
                )
                self.stop()
        else:
            self._failures = 0

    def pass_on(self) -> bool:
        """A toolkit has swallowed a KeyboardInterrupt: end its loop; return whether the cell that ran it gets one."""
        if not self.is_mine:
            return False
        self.toolkit.leave()
        return self._lane.interruption.on_swallowed()
