"""shell: `ZMQInteractiveShell`, IPython's shell as a kernel needs it. Knows no requests' content and no replies.

One object serves the main shell and all subshells; `subshell_state` has what each of them has of its own. How errors
are shown is in `tracebacks`, `!command` in `shellcommands`, what is replaced or put off in `shell_parts`. What Python
itself asks for (`sys.displayhook`, `sys.excepthook`, names in builtins) is set once, by `install`: swapped around
every cell, as IPython does it, two lanes would take it from each other.
"""

import asyncio
import atexit
import builtins
import sys
from _thread import allocate_lock
from collections.abc import Callable, Coroutine
from functools import wraps
from operator import call
from typing import Any
from warnings import warn

from IPython.core.getipython import get_ipython
from IPython.core.payload import PayloadManager
from traitlets import Any as AnyTrait
from traitlets import Bool

from ipymini.execution import context
from ipymini.execution.loops import outside_task
from ipymini.ipython import compiler, tracebacks
from ipymini.ipython.history import History
from ipymini.ipython.shell_parts import QuickShell
from ipymini.ipython.shellcommands import RunsCommands
from ipymini.ipython.subshell_state import Cell, Layered, Overlay, Run
from ipymini.ipython.tracebacks import ShowsTracebacks
from ipymini.protocol import wire
from ipymini.protocol.messages import Content
from ipymini.protocol.originals import os


def _of_run(name: str) -> Any:
    """Make a property of the shell that is a field of the current run."""
    return property(lambda shell: getattr(shell.run, name), lambda shell, value: setattr(shell.run, name, value))


def _passing_interrupts_on(method: Any) -> Any:
    """Let a method that shows the errors of what it runs (`%run`, `%%capture`) end its cell after an interrupt."""

    @wraps(method)
    def run_and_pass_on(shell: Any, *args: Any, **options: Any) -> Any:
        before = shell.cell.shown[0]
        result = method(shell, *args, **options)
        shown = shell.cell.shown[0]
        if shown is not before and isinstance(shown, KeyboardInterrupt) and shell.cell.was_interrupted():
            raise shown
        return result

    return run_and_pass_on


class ZMQInteractiveShell(ShowsTracebacks, RunsCommands, QuickShell):
    """IPython's shell in a kernel. Third parties know it by this name."""

    keep_last_error = Bool(
        True,
        help="Keep the frames of the last error, with all their variables, for %debug and %tb. False: until the next "
        "cell begins, so that its memory can be freed.",
    ).tag(config=True)
    kernel = AnyTrait()
    iopub = AnyTrait()
    keepkernel_on_exit = None
    _pump: Any = None  # what serves the windows of the GUI toolkit that is enabled

    execution_count = _of_run("execution_count")
    history_manager = _of_run("history")
    payload_manager = _of_run("payload_manager")
    display_pub = _of_run("display_pub")
    last_execution_succeeded = _of_run("last_execution_succeeded")
    last_execution_result = _of_run("last_execution_result")

    def __init__(self, **traits: Any):
        self._main_run = Run()
        self._runs: dict[str, Run] = {}  # replaced under the lock, never changed: lanes read it without
        self._runs_lock = allocate_lock()
        self._process = os.getpid()
        super().__init__(**traits)
        self._main_run.name_history()
        self._is_ready = True

    def __reduce__(self) -> tuple[Any, ...]:
        return get_ipython, ()  # unpickled or copied, it is the shell of that process

    # ---- runs ------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The run of the request that has caused what runs now."""
        request = context.current()
        subshell_id = request.header.get("subshell_id") if request is not None else None
        return self._runs.get(subshell_id, self._main_run) if subshell_id else self._main_run

    @property
    def cell(self) -> Cell:
        """The cell that has caused what runs now; a new Cell if that one has ended."""
        run = self.run
        return run.cells.get(context.current()) or Cell(run.execution_count - 1, is_recorded=False)

    def open_run(self, subshell_id: str) -> None:
        """Make the run of a subshell."""
        main, run = self._main_run, Run(subshell_id)
        run.history = History(shell=self, parent=self, like=main.history)
        run.payload_manager = PayloadManager(parent=self)
        run.display_pub = main.display_pub
        run.locals = Overlay(run.names, lambda: self.user_ns)
        run.name_history()
        with self._runs_lock:
            self._runs = {**self._runs, subshell_id: run}

    def close_run(self, subshell_id: str) -> None:
        """Forget the run of a subshell."""
        with self._runs_lock:
            run = self._runs.get(subshell_id)
            self._runs = {key: other for key, other in self._runs.items() if key != subshell_id}
        if run is not None:
            run.history.end_session()

    def close_history(self) -> None:
        """End the sessions of all runs, and write what is left."""
        for run in (self._main_run, *self._runs.values()):
            run.history.end_session()
        self._main_run.history.close()

    def name_inputs(self, history: History, names: Content) -> None:
        """Store `_i`, `_ii` and so on among the names of the run that has this history."""
        for run in (self._main_run, *self._runs.values()):
            if run.history is history:
                run.names.update(names)

    def init_user_ns(self) -> None:
        """Fill the namespace. `In` and `Out` are always those of the main run, also if a subshell resets it."""
        super().init_user_ns()
        main = self._main_run
        main.name_history()
        self.user_ns_hidden.update({name: main.names[name] for name in ("In", "_ih", "Out", "_oh")})
        session = os.environ.get("JPY_SESSION_NAME")
        if session is not None:
            self.user_ns["__session__"] = self.user_ns_hidden["__session__"] = session
        for run in self._runs.values():
            run.name_history()

    def _set_user_ns(self, names: dict[str, Any]) -> None:
        assert isinstance(names, dict)
        self._user_ns = names
        self._main_run.names = self._main_run.locals = names

    user_ns = property(lambda self: self._user_ns, _set_user_ns)

    # ---- who asked ---------------------------------------------------------------------

    def get_parent(self) -> Content:
        """Return the message that caused what runs now."""
        request = context.current()
        return context.Parent(request) if request is not None else {}

    parent_header = property(get_parent)

    set_parent = set_thread_parent = staticmethod(context.pin_parent)
    reset_thread_parent: Any = staticmethod(call)  # calls the undo

    @property
    def _globals(self) -> dict[str, Any]:
        return self.user_ns if isinstance(self.user_ns, Layered) else self.user_global_ns

    # ---- running code ------------------------------------------------------------------

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """Run a code object; return whether it failed. Whatever it raises is shown, and kept in `result`."""
        __tracebackhide__ = "__ipython_bottom__"  # tracebacks leave out what is above
        names = self._globals, self.run.locals
        try:
            if async_:
                await eval(code_obj, *names)
            else:
                with outside_task():
                    exec(code_obj, *names)
            return False
        except SystemExit as error:
            self._failed(result, error)
            self.showtraceback(exception_only=True)
            warn("To exit: use 'exit', 'quit', or Ctrl-D.", stacklevel=1)
        except self.custom_exceptions as error:
            self._failed(result, error)
            self.CustomTB(type(error), error, tracebacks.trace_of(error))
        except BaseException as caught:
            meant = self.as_interrupt(caught)
            self._failed(result, meant)
            # Shown already: an interrupt of a cell within this one. Quit: the user has left the debugger.
            if meant is not self.cell.shown[0] and not tracebacks.is_quit(meant):
                self.showtraceback((type(meant), meant, tracebacks.trace_of(meant)), running_compiled_code=True)
        return True

    runcode = run_code

    @staticmethod
    def _failed(result: Any, error: BaseException) -> None:
        if result is not None:
            result.error_in_exec = error

    def as_interrupt(self, error: BaseException) -> BaseException:
        """Return the KeyboardInterrupt that an error stands for: a cancellation whose cause was an interrupt, one that
        the debugger had stopped at when an interrupt came, or what `del` made of one that struck an `Overlay`."""
        kind, trace = type(error), tracebacks.trace_of(error)
        if not issubclass(kind, KeyboardInterrupt) and self.cell.take_strike():
            meant = KeyboardInterrupt().with_traceback(trace)
            meant.__context__ = error
            return meant
        cancelled = issubclass(kind, asyncio.CancelledError) or tracebacks.is_of_del(error)
        if cancelled and self.cell.was_interrupted():
            return KeyboardInterrupt().with_traceback(trace)
        return error

    def ev(self, expr: str) -> Any:
        """Evaluate an expression as a cell of the current run would."""
        return eval(expr, self._globals, self.run.locals)

    def user_expressions(self, expressions: dict[str, str]) -> Content:
        """Evaluate expressions; return a mime bundle or an error for each."""
        out: Content = {}
        for key, expression in (expressions or {}).items():
            try:
                bundle = self._format_user_obj(self.ev(expression))
                wire.dumps(bundle)  # fails here, not when the whole reply is encoded
                out[key] = bundle
            except BaseException:
                out[key] = self._user_obj_error()
        return out

    # ---- what Python asks for by itself ------------------------------------------------

    def install(self) -> Callable[[], None]:
        """Set what Python asks for by itself: display hook, except hook, names in builtins; return the undo."""
        before = sys.displayhook, sys.excepthook
        show: Callable[..., Any] = self.excepthook

        def excepthook(*error: Any) -> None:
            show(*error)

        sys.displayhook, sys.excepthook = self.displayhook, excepthook
        self.builtin_trap.activate()
        forget_sources = compiler.install_getfile(self.compile._filename_map)  # of cells, with their execution counts

        def undo() -> None:
            nonlocal show
            forget_sources()
            sys.displayhook, sys.excepthook = before
            show = before[1]  # threads keep the hook that was there when they were made
            self.builtin_trap.deactivate()
            for name in ("display", "__IPYTHON__"):
                builtins.__dict__.pop(name, None)
            self.restore_sys_module_state()
            type(self).clear_instance()
            # At exit it would empty the namespace, which is the embedding program's, and keep the shell till then.
            atexit.unregister(self.atexit_operations)
            self._atexit_once_called = True
            if hasattr(self, "tempfiles"):  # else the exit functions have run
                self.atexit_operations()  # now it only removes the temporary files

        return undo

    # ---- what cells ask of the frontend --------------------------------------------------

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Propose the code of the next cell; the last proposal counts."""
        if not isinstance(text, str):  # else the reply could not be encoded
            raise TypeError(
                f"expected the code of a cell as a str, a {tracebacks.name_of(type(text))} came: convert it first"
            )
        self.payload_manager.write_payload({"source": "set_next_input", "text": text, "replace": replace})

    def ask_exit(self) -> None:
        """Let the kernel stop after this cell (`exit`, `quit`), unless it was `exit(keep_kernel=True)`."""
        keep = bool(self.keepkernel_on_exit)
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": keep})
        self.keepkernel_on_exit = None
        if not keep:
            self.exit_now = True
            leave = getattr(self.kernel, "ask_exit", None)
            if leave is not None:
                leave()

    # ---- what runs in a cell, and shows its errors itself ----------------------------------

    def transform_cell(self, raw_cell: str) -> str:
        """Translate a cell to Python."""
        code: str = super().transform_cell(raw_cell)
        if "_magic('time" not in code or ("await" not in code and "async" not in code):
            return code
        from ipymini.ipython import execution_magics

        return execution_magics.awaited(self, code)

    def await_magic(self, name: str, line: str, cell: str | None = None) -> Coroutine[Any, Any, Any]:
        """Run `%time` or `%timeit` of code that awaits, with the names of the frame that calls this."""
        caller = sys._getframe(1)
        run = getattr(self.find_line_magic(name).__self__, f"await_{name}")
        return run((caller.f_globals, caller.f_locals), line, cell)

    run_cell = _passing_interrupts_on(QuickShell.run_cell)
    safe_execfile = _passing_interrupts_on(QuickShell.safe_execfile)
    safe_execfile_ipy = _passing_interrupts_on(QuickShell.safe_execfile_ipy)
    safe_run_module = _passing_interrupts_on(QuickShell.safe_run_module)

    # ---- windows -------------------------------------------------------------------------

    def enable_gui(self, gui: str | None = None) -> None:
        """Serve the windows of this toolkit between cells, while a cell awaits, and in `input()`. None: of no toolkit.

        Raises UsageError, and changes nothing, if there is no such toolkit or if it does not work; also in a subshell.
        """
        name = gui if gui and gui != "none" else None
        if (name or self._pump) and (name != self.active_eventloop or self._pump is None):
            from ipymini.compat.gui import change

            self._pump = change(self._pump, name, getattr(self.kernel, "main", None))
        self.active_eventloop = name

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        """Let matplotlib draw in this GUI or backend. The toolkit comes first: if it fails, nothing has changed."""
        from IPython.core.pylabtools import find_gui_and_backend

        chosen, active = self.pylab_gui_select, self.active_eventloop
        name = find_gui_and_backend(gui, chosen)[0]
        try:
            if name is not None:
                self.enable_gui(chosen or name)  # IPython keeps the first toolkit, and says so
            return super().enable_matplotlib(gui)
        except BaseException:
            self.pylab_gui_select = chosen
            self.enable_gui(active)
            raise

    def meanwhile(self) -> float | None:
        """Serve windows once while a cell waits; return the seconds until the next time, or None if there are none."""
        return self._pump.meanwhile() if self._pump is not None else None
