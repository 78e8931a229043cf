"""shell_parts: IPython's shell with our own parts, and a quick start. Knows no runs, no requests and no messages.

What costs time and can wait is made when it is asked for. What IPython puts in place for one cell and takes back (names
in builtins, `sys.displayhook`, the `write` of the streams) stays in place, or is left alone: all lanes share it.
"""

import asyncio
import os
from collections.abc import Coroutine
from contextlib import nullcontext
from copy import copy
from functools import cached_property
from typing import Any

from IPython.core import page
from IPython.core.autocall import ZMQExitAutocall
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.display_trap import DisplayTrap
from IPython.core.events import EventManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.oinspect import Inspector
from traitlets import Instance, Type, default

from ipymini.ipython.compiler import CellCompiler
from ipymini.ipython.display import ZMQDisplayPublisher, ZMQShellDisplayHook
from ipymini.ipython.formatter import Formatter
from ipymini.ipython.history import History

ENVIRONMENT = {
    "TERM": "xterm-color",
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
}
INLINE = "module://matplotlib_inline.backend_inline"
LAZY_MAGICS = ("edit", "clear", "less", "more", "man", "connect_info", "qtconsole", "subshell", "gui")


class _Lasting:
    """What a `with` block puts in place stays there: all threads share builtins and `sys.displayhook`."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> Any:
        return False


class LastingBuiltins(_Lasting, BuiltinTrap):
    """IPython's names in builtins, from `activate` on."""


class LastingDisplayHook(_Lasting, DisplayTrap):
    """`sys.displayhook` is the shell's before the first cell, see `ZMQInteractiveShell.install`."""


class Events(EventManager):
    """IPython's event hooks. A hook that calls `sys.exit()` has failed like any other; its cell has not."""

    def trigger(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks of an event; show what they raise."""
        for hook in self.callbacks[event][:]:
            try:
                hook(*args, **kwargs)
            except BaseException:
                if self.print_on_error:
                    print(f"Error in callback (for {event}):")  # without the hook's repr, which is user code, too
                self.shell.showtraceback()


class SharedInspector(Inspector):
    """Colours each text with a new parser: IPython's one keeps state, and several lanes may inspect at once."""

    def format(self, *args: Any, **kwargs: Any) -> Any:
        """Return source code with colours."""
        return copy(self.parser).format(*args, **kwargs)


class AsyncioRunner:
    """Runs what a nested `run_cell` or a start-up line awaits on a new event loop: the lane's may be running."""

    def __call__(self, work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner() as runner:
            return runner.run(work)

    def __str__(self) -> str:
        return "asyncio"  # as %autoawait shows it


class QuickShell(InteractiveShell):
    """IPython's shell, made of parts that several lanes can use at once."""

    displayhook_class: Any = Type(ZMQShellDisplayHook)
    inspector_class: Any = Type(SharedInspector)
    display_pub_class = Type(ZMQDisplayPublisher)
    compiler_class = Type(CellCompiler)
    profile_dir = Instance("IPython.core.profiledir.ProfileDir", allow_none=True)  # not application's: 5 ms
    exiter = Instance(ZMQExitAutocall)
    loop_runner_map = {**InteractiveShell.loop_runner_map, "asyncio": (AsyncioRunner(), True)}
    has_store = False  # whether %store is declared, without its extension
    _is_ready = False

    @default("exiter")
    def _exiter_default(self) -> Any:
        return ZMQExitAutocall(self)

    @default("loop_runner")
    def _default_loop_runner(self) -> Any:
        return self.loop_runner_map["asyncio"][0]

    def _tee(self, channel: str) -> Any:
        """Tee nothing: IPython would keep a copy of all that is printed, and make print three times slower."""
        return nullcontext()

    def init_environment(self) -> None:
        """Tell child processes to write colours, and not to start a pager."""
        os.environ.update(ENVIRONMENT)
        os.environ.setdefault("MPLBACKEND", INLINE)

    def init_history(self) -> None:
        """Make the history, which opens no database yet."""
        self.history_manager = History(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_events(self) -> None:
        """Make the manager of event hooks, with those that IPython has registered."""
        super().init_events()
        self.events.__class__ = Events

    def init_builtins(self) -> None:
        """Make the object that puts names into builtins."""
        super().init_builtins()
        self.builtin_trap = LastingBuiltins(shell=self)

    def init_display_formatter(self) -> None:
        """Make our display formatter."""
        self.display_formatter = Formatter(parent=self)
        self.configurables.append(self.display_formatter)

    def init_displayhook(self) -> None:
        """Make the display hook, one for all lanes."""
        super().init_displayhook()
        self.display_trap = LastingDisplayHook(hook=self.displayhook)

    def init_hooks(self) -> None:
        """Send what is paged as a payload."""
        super().init_hooks()
        from IPython.core.payloadpage import page as payload_page

        self.set_hook("show_in_pager", page.as_hook(payload_page), 99)

    def init_magics(self) -> None:
        """Declare our magics; they are imported when one is called."""
        super().init_magics()
        manager = self.magics_manager
        if not hasattr(manager, "load_lazy"):  # IPython before 9.15, which imports all magics at the start
            from ipymini.ipython.execution_magics import ExecutionMagics
            from ipymini.ipython.magics import KernelMagics

            manager.register(KernelMagics, ExecutionMagics)
            return
        load = manager.load_lazy

        def load_lazy(name: str, kind: Any = None) -> None:
            loaded = set(manager._loaded_lazy)
            try:
                load(name, kind)
            except BaseException:  # IPython forgets the attempt after an Exception only: not after an interrupt
                manager._loaded_lazy &= loaded
                raise

        manager.load_lazy = load_lazy
        theirs = [
            (name, kind)
            for kind, declared in manager.magics.items()
            for name, magic in declared.items()
            if getattr(magic, "spec", "").endswith(":ExecutionMagics")
        ]
        for name, kind in theirs:
            manager.register_lazy(name, "ipymini.ipython.execution_magics:ExecutionMagics", kind)
        for name in LAZY_MAGICS:
            manager.register_lazy(name, "ipymini.ipython.magics:KernelMagics", "line")
        self.has_store = "StoreMagics" not in self.config  # else it may have variables to restore now; see `startup`
        if self.has_store:
            manager.register_lazy("store", "IPython.extensions.storemagic:StoreMagics", "line")

    def init_completer(self) -> None:
        """Make no completer yet: it takes 8 ms."""

    @cached_property
    def Completer(self) -> Any:  # type: ignore[override]
        """IPython's completer, made when somebody asks for it."""
        super().init_completer()  # stores it under this name
        return self.__dict__["Completer"]

    @property
    def configurables(self) -> list[Any]:
        """The objects that %config knows."""
        if self._is_ready:
            _ = self.Completer
        return self._configurables

    @configurables.setter
    def configurables(self, configurables: list[Any]) -> None:
        self._configurables = configurables
