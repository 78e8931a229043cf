"""shell: IPython's shell with our displays, tracebacks, history and pager. Runs no requests (bridge does).

One `ZMQInteractiveShell` serves the main shell and every subshell. Configuration (formatters, magics, extensions,
events, aliases) is the object's own, so it holds everywhere. What is the state of a run (execution count, history,
payloads, last traceback, the hook's `_`) lives in a `RunState`, one for each subshell, found by the request that
runs. In the shared namespace `In`, `Out`, `_` and their kin are the main shell's; a subshell's cells see their own.
"""

import asyncio
import builtins
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.payload import PayloadManager
from traitlets import Any as AnyTrait
from traitlets import Type

from ipymini import context, display
from ipymini.cellfile import CellCompiler
from ipymini.iopub import IOPub
from ipymini.lane import shielded
from ipymini.nesting import outside_task

_OWN_NAME = re.compile(r"_i{0,3}|__|___|_ih|_oh|_dh|In|Out|_i?\d+")


class Overlay(MutableMapping[str, Any]):
    """The namespace as a subshell's cell sees it: the shared one, but its own `In`, `Out`, `_`, `_3`, `_i3`."""

    def __init__(self, shared: dict[str, Any], **own: Any):
        self.shared, self.own = shared, own

    def __getitem__(self, name: str) -> Any:
        return self.own[name] if _OWN_NAME.fullmatch(name) and name in self.own else self.shared[name]

    def __setitem__(self, name: str, value: Any) -> None:
        (self.own if _OWN_NAME.fullmatch(name) else self.shared)[name] = value

    def __delitem__(self, name: str) -> None:
        del (self.own if _OWN_NAME.fullmatch(name) and name in self.own else self.shared)[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.shared, **self.own})

    def __len__(self) -> int:
        return len({**self.shared, **self.own})


class RunState:
    """What one shell's runs change. Touched by the thread that runs its cells, and by threads those cells start."""

    def __init__(self) -> None:
        self.execution_count = 1
        self.cell_number = 0  # the execution count that the running cell's execute_input said
        self.code = ""
        self.depth = 0  # run_cell within run_cell
        self.history_manager: Any = None
        self.payload_manager: Any = None
        self.overlay: Overlay | None = None  # None: the main shell
        self.exec_result: Any = None
        self.last: Any = ""
        self.last_but_one: Any = ""
        self.last_but_two: Any = ""
        self.hook_active = False
        self.traceback: list[str] = []
        self.display_error: tuple[str, str] | None = None  # of a formatter, while the hook was at work
        self.was_interrupted: Callable[[], bool] = lambda: False
        self.last_execution_succeeded = True
        self.last_execution_result: Any = None


def _of_run(name: str) -> Any:
    return property(lambda self: getattr(self.run_state, name), lambda self, value: setattr(self.run_state, name, value))


class RoutedBuiltinTrap(BuiltinTrap):
    """IPython's names in `builtins`, put there once: taking them back would take them from another shell's cell."""

    def __enter__(self) -> "RoutedBuiltinTrap":
        if not self._nested_level:
            self._nested_level = 1
            self.activate()
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        return False


class ZMQInteractiveShell(InteractiveShell):
    """IPython's shell in a kernel. The name is what rich, pandas, plotly and many others look for."""

    displayhook_class = Type(display.ZMQShellDisplayHook)
    display_pub_class = Type(display.ZMQDisplayPublisher)
    compiler_class = Type(CellCompiler)
    kernel = AnyTrait(None)
    exit_now = False
    keepkernel_on_exit: bool | None = None

    execution_count = _of_run("execution_count")
    history_manager = _of_run("history_manager")
    payload_manager = _of_run("payload_manager")
    last_execution_succeeded = _of_run("last_execution_succeeded")
    last_execution_result = _of_run("last_execution_result")
    _last_traceback = _of_run("traceback")

    def __init__(self, *, iopub: IOPub, **kwargs: Any):
        self.iopub = iopub
        self.main_state = RunState()
        self._states: dict[str, RunState] = {}  # replaced, never changed: other lanes read it bare
        self.on_exit: Callable[[], None] = lambda: None
        super().__init__(**kwargs)

    # ---- run states ------------------------------------------------------------

    @property
    def run_state(self) -> RunState:
        """The state of the shell whose request runs now; the main shell's where none does."""
        states = self._states
        if not states:
            return self.main_state
        request = context.own()
        return states.get((request and request.subshell_id) or "", self.main_state)

    def open_subshell(self, subshell_id: str) -> None:
        """Make a run state: its own count, history and payloads over the shared namespace."""
        from ipymini.history import LaneHistory

        state = RunState()
        state.payload_manager = PayloadManager(parent=self)
        state.history_manager = LaneHistory(shell=self, parent=self, overlay=True)
        outputs: dict[int, Any] = state.history_manager.output_hist
        inputs = state.history_manager.input_hist_parsed
        names = {"In": inputs, "_ih": inputs, "Out": outputs, "_oh": outputs, "_dh": state.history_manager.dir_hist}
        state.overlay = Overlay(self.user_ns, **names, **dict.fromkeys(("_", "__", "___", "_i", "_ii", "_iii"), ""))
        state.history_manager.namespace = state.overlay.own
        self._states = {**self._states, subshell_id: state}

    def close_subshell(self, subshell_id: str) -> None:
        """Forget a run state."""
        state = self._states.get(subshell_id)
        self._states = {key: value for key, value in self._states.items() if key != subshell_id}
        if state is not None:
            state.history_manager.close()

    # ---- what IPython's __init__ calls ----------------------------------------------

    def init_environment(self) -> None:
        """Tell programs that cells start that colours are welcome and pagers are not."""
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        os.environ.update(TERM="xterm-color", CLICOLOR="1", FORCE_COLOR="1", CLICOLOR_FORCE="1", PAGER="cat", GIT_PAGER="cat")

    def init_history(self) -> None:
        """Keep history, on a thread of its own and off the start-up path."""
        from ipymini.history import LaneHistory

        self.history_manager = LaneHistory(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_builtins(self) -> None:
        """Put IPython's names into `builtins`, for good."""
        builtins.__dict__["__IPYTHON__"] = True
        builtins.__dict__["display"] = _display
        self.builtin_trap = RoutedBuiltinTrap(shell=self)
        self.builtin_trap.__enter__()

    def init_display_formatter(self) -> None:
        """Make the formatter that remembers what has nothing to say."""
        self.display_formatter = display.FastDisplayFormatter(parent=self)
        self.configurables.append(self.display_formatter)

    def init_displayhook(self) -> None:
        """Make the one display hook, and set it."""
        super().init_displayhook()
        self.display_trap = display.RoutedDisplayTrap(hook=self.displayhook)
        sys.displayhook = self.displayhook

    def init_completer(self) -> None:
        """Leave the completer for its first use: it costs a third of the shell."""

    @property
    def Completer(self) -> Any:
        """IPython's completer, made when it is first asked for."""
        if "_completer" not in self.__dict__:
            super().init_completer()
            completer = self.__dict__["_completer"]
            # Jedi is asked last, by `completion`: it costs a second at first and may cost 100 ms every time.
            completer.jedi_wanted, completer.use_jedi = completer.use_jedi, False
        return self.__dict__["_completer"]

    @Completer.setter
    def Completer(self, value: Any) -> None:
        self.__dict__["_completer"] = value

    def init_magics(self) -> None:
        """Register IPython's magics and those of kernels."""
        super().init_magics()
        from ipymini.magics import KernelMagics

        self.register_magics(KernelMagics)
        self.magics_manager.register_alias("ed", "edit")

    def init_hooks(self) -> None:
        """Send what IPython would page to the frontend."""
        super().init_hooks()

        def as_payload(shell: Any, text: Any, start: int = 0, screen_lines: int = 0, pager_cmd: str | None = None) -> None:
            data = text if isinstance(text, dict) else {"text/plain": text}
            self.payload_manager.write_payload({"source": "page", "data": data, "start": start})

        self.set_hook("show_in_pager", lambda shell, *args, **kwargs: as_payload(shell, *args, **kwargs), 99)

    # ---- running ------------------------------------------------------------------

    async def run_code(self, code_obj: Any, result: Any = None, *, async_: bool = False) -> bool:
        """Run one code object of a cell; return whether it raised. The exception is shown and kept in `result`."""
        __tracebackhide__ = "__ipython_bottom__"
        names = self.run_state.overlay or self.user_ns
        self.sys_excepthook = sys.excepthook
        try:
            if async_:
                await eval(code_obj, self.user_global_ns, names)
            else:
                with outside_task():
                    exec(code_obj, self.user_global_ns, names)
            return False
        except SystemExit as error:
            _keep(result, error)
            self.showtraceback(exception_only=True)
            _warn_how_to_exit()
        except self.custom_exceptions as error:
            _keep(result, error)
            self.CustomTB(*sys.exc_info())
        except BaseException as error:
            if type(error).__name__ != "BdbQuit":  # the debugger's own way out needs no traceback
                self.showtraceback(running_compiled_code=True)
            _keep(result, self._meant(error))
        return True

    runcode = run_code

    def _meant(self, error: BaseException) -> BaseException:
        """Return KeyboardInterrupt for the cancellation that an interrupt made, and any other error itself."""
        if isinstance(error, asyncio.CancelledError) and self.run_state.was_interrupted():
            return KeyboardInterrupt().with_traceback(error.__traceback__)
        return error

    def ev(self, expr: str) -> Any:
        """Evaluate an expression in the namespace as the running shell sees it."""
        return eval(expr, self.user_global_ns, self.run_state.overlay or self.user_ns)

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        # IPython copies all that is printed into history_manager.outputs, for ever: 80 MB in a million lines,
        # and print takes three times as long.
        yield

    # ---- errors -----------------------------------------------------------------------

    @shielded
    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        """Show an exception: as IPython does, and exception groups with their whole tree."""
        kind, error, trace = exc_tuple if isinstance(exc_tuple, tuple) else sys.exc_info()
        if error is not None:
            meant = self._meant(error)
            if meant is not error:
                exc_tuple = (KeyboardInterrupt, meant, trace)
            elif _holds_a_group(error) and not kwargs.get("exception_only"):
                lines = "".join(traceback.format_exception(kind, error, trace.tb_next if trace else None))
                self._showtraceback(type(error), error, lines.splitlines())
                return
        super().showtraceback(exc_tuple, *args, **kwargs)

    @shielded
    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        state, text = self.run_state, safe_text(evalue)
        state.traceback = list(stb)
        if state.hook_active:
            state.display_error = (etype.__name__, text)
        self.iopub.error(etype.__name__, text, state.traceback)

    # ---- what frontends and third parties ask for ------------------------------------------

    def get_parent(self) -> dict[str, Any]:
        """Return the message that caused what runs now, as a dict."""
        request = context.current()
        return request.as_dict() if request else {}

    @property
    def parent_header(self) -> dict[str, Any]:
        """The message that caused what runs now."""
        return self.get_parent()

    def set_parent(self, parent: dict[str, Any]) -> None:
        """Make what this thread says from now on belong to another message (as `get_parent` returned it)."""
        context.adopt(parent)

    def set_thread_parent(self, parent: dict[str, Any]) -> Any:
        """Like `set_parent`; return what `reset_thread_parent` takes."""
        return context.adopt(parent)

    def reset_thread_parent(self, tokens: Any) -> None:
        """Undo `set_thread_parent`, on the same thread."""
        tokens()

    def set_next_input(self, text: str, replace: bool = False) -> None:
        """Ask the frontend to fill the next cell (`replace`: this one). Only the last one counts."""
        manager = self.payload_manager
        others = [payload for payload in manager.read_payload() if payload["source"] != "set_next_input"]
        manager.clear_payload()
        for payload in (*others, {"source": "set_next_input", "text": text, "replace": replace}):
            manager.write_payload(payload, single=False)

    def ask_exit(self) -> None:
        """`exit` and `quit`: the frontend is asked, and the kernel stops unless it is to be kept."""
        keep = bool(self.keepkernel_on_exit)
        self.payload_manager.write_payload({"source": "ask_exit", "keepkernel": keep})
        if not keep:
            self.on_exit()
        self.keepkernel_on_exit = None

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Run a cell from within a cell; the running cell goes on with its own number and code."""
        state = self.run_state
        before = (state.cell_number, state.code, state.exec_result, state.hook_active)
        state.cell_number, state.code = state.execution_count, str(args[0] if args else kwargs.get("raw_cell", ""))
        try:
            return super().run_cell(*args, **kwargs)
        finally:
            state.cell_number, state.code, state.exec_result, state.hook_active = before


def _display(*args: Any, **kwargs: Any) -> Any:
    from IPython.display import display as ipython_display

    return ipython_display(*args, **kwargs)


def _keep(result: Any, error: BaseException) -> None:
    if result is not None:
        result.error_in_exec = error


def _warn_how_to_exit() -> None:
    import warnings

    warnings.warn("To exit: use 'exit', 'quit', or Ctrl-D.", UserWarning, stacklevel=2)


def _holds_a_group(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return True
        error = error.__cause__ or error.__context__
    return False


def safe_text(value: Any) -> str:
    """Return `str(value)`, also of an exception whose `__str__` raises."""
    try:
        return str(value)
    except Exception as error:
        return f"<str() of {type(value).__name__} raised {type(error).__name__}>"
